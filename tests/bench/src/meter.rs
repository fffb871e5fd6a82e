//! What a process costs: CPU time and memory from /proc, requests from its metrics.

use crate::error::{Context, Error, Result};
use http::Request;
use kube::{Client, Config};
use mainstay_cluster::{Process, Usage};
use std::{collections::BTreeMap, time::Duration};

/// Requests by HTTP method.
pub(crate) type Requests = BTreeMap<String, u64>;

/// A process to watch, by its name among people.
#[derive(Clone)]
pub(crate) struct Meter {
    /// The process's name.
    pub name: String,
    process: Process,
    metrics: Client,
}

impl Meter {
    /// Reads `process`, whose metrics are at `url` + `/metrics`. `config` has the authority that has signed
    /// the process's certificate.
    pub(crate) fn new(name: &str, process: Process, url: &str, config: &Config) -> Result<Self> {
        let refused = |error: http::uri::InvalidUri| Error::Refused(format!("{url}: {error}"));
        let mut config = config.clone();
        config.cluster_url = url.parse().map_err(refused)?;
        // The certificate that proves who the bench is belongs to the API server.
        config.auth_info = kube::config::AuthInfo::default();
        config.default_retry = false;
        config.read_timeout = Some(Duration::from_secs(10));
        let metrics = Client::try_from(config).when(&format!("read the metrics of {name}"))?;
        Ok(Self { name: name.into(), process, metrics })
    }

    /// CPU time and memory so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        self.process.usage().ok_or_else(|| Error::Refused(format!("{} has died; see its log", self.name)))
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        Ok(self.usage()?.cpu.as_secs_f64())
    }

    /// Requests to the API server so far.
    pub(crate) async fn requests(&self) -> Result<Requests> {
        Ok(count_requests(&self.scrape().await?))
    }

    /// The process's metrics as text.
    pub(crate) async fn scrape(&self) -> Result<String> {
        let request = Request::get("/metrics").body(Vec::new()).expect("a valid request");
        self.metrics.request_text(request).await.when(&format!("read the metrics of {}", self.name))
    }
}

/// client-go's counter, which Mainstay's controllers serve as well.
fn count_requests(metrics: &str) -> Requests {
    let mut requests = Requests::new();
    for line in metrics.lines().filter(|line| line.starts_with("rest_client_requests_total{")) {
        let Some((labels, value)) = line.rsplit_once(' ') else { continue };
        let (Some(method), Ok(value)) = (label(labels, "method"), value.parse::<f64>()) else { continue };
        *requests.entry(method.to_owned()).or_default() += value as u64;
    }
    requests
}

/// The value of a label of a series, which must have no `"` in it.
pub(crate) fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let (_, pairs) = series.split_once('{')?;
    pairs.split("\",").find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix("=\"")?;
        Some(value.trim_end_matches('}').trim_end_matches('"'))
    })
}

/// What was added between two counts.
pub(crate) fn added(before: &Requests, after: &Requests) -> Requests {
    let earlier = |method| before.get(method).copied().unwrap_or_default();
    let added = after.iter().map(|(method, count)| (method.clone(), count.saturating_sub(earlier(method))));
    added.filter(|(_, count)| *count > 0).collect()
}

/// Requests that change something, by the names that methods have in client-go's counter.
pub(crate) fn writes(requests: &Requests) -> u64 {
    let of = |method: &str| requests.get(method).copied().unwrap_or_default();
    ["POST", "PUT", "PATCH", "DELETE"].into_iter().map(of).sum()
}

/// All requests of a count.
pub(crate) fn total(requests: &Requests) -> u64 {
    requests.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_method_whatever_their_code_and_host() {
        let before = count_requests(
            "# TYPE rest_client_requests_total counter\n\
             rest_client_requests_total{code=\"200\",host=\"10.88.0.1:6443\",method=\"GET\"} 157\n\
             rest_client_requests_total{code=\"404\",host=\"10.88.0.1:6443\",method=\"GET\"} 3\n",
        );
        assert_eq!(before, Requests::from([("GET".into(), 160)]));
        let after = count_requests(
            "rest_client_requests_total{code=\"200\",method=\"GET\"} 160\n\
             rest_client_requests_total{code=\"201\",method=\"POST\"} 1e+03\n\
             rest_client_request_duration_seconds_count{verb=\"GET\"} 9\n",
        );
        assert_eq!(added(&before, &after), Requests::from([("POST".into(), 1000)]));
        assert_eq!(total(&after), 1160);
        assert_eq!(writes(&after), 1000);
    }

    #[test]
    fn labels_are_told_apart_by_their_whole_names() {
        let series = "a_total{code=\"200\",subresource=\"status\",resource=\"pods\",verb=\"\"}";
        assert_eq!(label(series, "resource"), Some("pods"));
        assert_eq!(label(series, "subresource"), Some("status"));
        assert_eq!(label(series, "code"), Some("200"));
        assert_eq!(label(series, "verb"), Some(""));
        assert_eq!(label(series, "source"), None);
    }
}
