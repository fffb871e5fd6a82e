//! Names that are chosen before an object is created, so that a create whose answer is lost is recognised.

use rand::seq::IndexedRandom;

/// The letters of generated names: no vowels and no look-alikes, so that they spell and confuse nothing
/// (k8s.io/apimachinery/pkg/util/rand).
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters of a suffix, as many as upstream's.
pub const SUFFIX: usize = 5;

/// `prefix`, a hyphen and letters by which it is very likely unlike every other; at most `limit` characters. It is a name if
/// `prefix` is one.
pub fn generated(prefix: &str, limit: usize) -> String {
    let mut name = cut(prefix, limit.saturating_sub(SUFFIX + 1)).to_owned();
    name.push('-');
    name.push_str(&suffix());
    name
}

/// As much of `name` as fits into `limit` characters and may stand before a hyphen: no part of a name ends with a dot.
pub fn cut(name: &str, limit: usize) -> &str {
    let end = name.char_indices().nth(limit).map_or(name.len(), |(end, _)| end);
    name[..end].trim_end_matches('.')
}

/// Letters that distinguish one of many from the others.
pub fn suffix() -> String {
    let mut random = rand::rng();
    (0..SUFFIX).filter_map(|_| LETTERS.choose(&mut random)).map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_keeps_its_limit_and_is_unlike_the_last() {
        for prefix in ["web", &"x".repeat(63)] {
            let (one, other) = (generated(prefix, 63), generated(prefix, 63));
            assert!(one.len() <= 63 && one.as_bytes()[one.len() - SUFFIX - 1] == b'-', "{one}");
            assert_ne!(one, other);
        }
    }

    #[test]
    fn no_dot_stands_before_the_hyphen() {
        let dotted = format!("{}.example.com", "x".repeat(56));
        assert_eq!(&generated(&dotted, 63)[..57], format!("{}-", "x".repeat(56)));
        assert_eq!((cut("a.b", 9), cut("a.b", 2), cut("a-b", 2)), ("a.b", "a", "a-"));
    }
}
