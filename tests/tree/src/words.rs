//! The words that prose must not use.

use std::fmt;

/// A phrase to avoid.
#[derive(Debug, PartialEq, Eq)]
pub struct Avoided {
    words: Vec<String>,
    /// What to write instead.
    pub instead: String,
}

impl Avoided {
    /// The words around the phrase, if the text uses it, in any case and with any punctuation between its words.
    pub fn found_in(&self, text: &str) -> Option<String> {
        const AROUND: usize = 6;
        let lower = words(&text.to_lowercase());
        let at = lower.windows(self.words.len()).position(|at| at == self.words)?;
        let around = words(text).into_iter().skip(at.saturating_sub(AROUND));
        Some(around.take(2 * AROUND + self.words.len()).collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Avoided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\", write: {}", self.words.join(" "), self.instead)
    }
}

/// Reads a list: lines `phrase -> instead`, and comments with `#`.
///
/// # Panics
/// When a line is none of these.
pub fn avoided(list: &str) -> Vec<Avoided> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = lines.map(|line| {
        let (phrase, instead) =
            line.split_once(" -> ").unwrap_or_else(|| panic!("a line without what to write instead: {line}"));
        Avoided { words: words(phrase), instead: instead.to_owned() }
    });
    read.collect()
}

/// A name in code with `_` is one word.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
