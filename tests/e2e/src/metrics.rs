//! Reads the text form of Prometheus' metrics.

/// The series of one scrape.
#[derive(Debug)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    name: String,
    /// As written: `{a="b",c="d"}`, or empty.
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads a scrape; lines that are no sample are left out.
    pub fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
            let (name, labels) = series.split_at(series.find('{').unwrap_or(series.len()));
            Some(Sample { name: name.into(), labels: labels.into(), value: value.parse().ok()? })
        };
        Self(text.lines().filter_map(sample).collect())
    }

    /// The sum of the series of this name that carry all of these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |sample: &&Sample| {
            labels.iter().all(|(key, value)| sample.labels.contains(&format!("{key}=\"{value}\"")))
        };
        self.0.iter().filter(|sample| sample.name == name).filter(carries).map(|sample| sample.value).sum()
    }

    /// Whether there is a series of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_their_labels() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 4\nb 0.5\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a", &[]), 9.0);
        assert_eq!(metrics.sum("a", &[("x", "1")]), 5.0);
        assert_eq!(metrics.sum("a", &[("x", "1"), ("y", "2")]), 3.0);
        assert_eq!(metrics.sum("b", &[]), 0.5);
        assert!(metrics.has("b") && !metrics.has("c"));
    }
}
