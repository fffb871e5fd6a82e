//! Which runs of an exploration are made.

use std::env;

/// Names the part, as `2/4`: of every four runs the second. Without it every run is made.
pub const VARIABLE: &str = "MAINSTAY_FAULTS_PART";

/// One of several parts of all runs; together they are all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    index: usize,
    of: usize,
}

impl Part {
    /// Every run.
    pub const ALL: Self = Self { index: 0, of: 1 };

    /// The part that the environment names.
    ///
    /// # Panics
    /// When it names none: exploring too little in silence would prove nothing.
    pub fn from_environment() -> Self {
        let Ok(text) = env::var(VARIABLE) else { return Self::ALL };
        Self::parse(&text)
            .unwrap_or_else(|| panic!("{VARIABLE} is {text:?}; it must be like 2/4, the second of four"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        let (number, of): (usize, usize) = (number.parse().ok()?, of.parse().ok()?);
        (1..=of).contains(&number).then(|| Self { index: number - 1, of })
    }

    /// Whether the run of this number, counted from 0, belongs to it.
    pub fn has(self, run: usize) -> bool {
        run % self.of == self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_together_are_all_runs_and_no_run_is_in_two() {
        let parts = ["1/3", "2/3", "3/3"].map(|text| Part::parse(text).expect("a part"));
        for run in 0..10 {
            assert_eq!(parts.iter().filter(|part| part.has(run)).count(), 1, "{run}");
        }
        assert!((0..10).all(|run| Part::ALL.has(run)));
    }

    #[test]
    fn what_names_no_part_is_refused() {
        for text in ["", "0/4", "5/4", "1", "1/0", "a/b", "1/-2"] {
            assert_eq!(Part::parse(text), None, "{text}");
        }
    }
}
