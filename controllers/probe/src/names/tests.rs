use super::*;
use crate::resolve::Family;

const SECOND: Duration = Duration::from_secs(1);

/// One wanted name, which is looked up whenever a test says how that ends.
struct One {
    start: Instant,
    names: Names,
}

impl One {
    fn new() -> Self {
        let start = Instant::now();
        let mut names = Names::new(start);
        names.want(["shop.example.com".to_owned()]);
        Self { start, names }
    }

    /// Whether the addresses changed when a lookup ended `after` seconds like this.
    fn ends(&mut self, after: u64, result: Result<Answer, ResolveError>) -> bool {
        self.names.began("shop.example.com");
        self.names.answered("shop.example.com", result, self.start + SECOND * after as u32)
    }

    fn addresses(&self) -> Vec<String> {
        self.names.get("shop.example.com").addresses.iter().map(ToString::to_string).collect()
    }

    /// In how many seconds from the start the name is due.
    fn due(&self) -> u64 {
        (self.names.next().expect("the name waits") - self.start).as_secs()
    }
}

fn answer(addresses: &[&str], seconds: u64) -> Result<Answer, ResolveError> {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Ok(Answer { addresses, valid_for: SECOND * seconds as u32, unanswered: None })
}

fn partial(addresses: &[&str], unanswered: Family) -> Result<Answer, ResolveError> {
    Ok(Answer { unanswered: Some(unanswered), ..answer(addresses, 5)? })
}

fn failed() -> Result<Answer, ResolveError> {
    Err(ResolveError::Server("the server answered Server Failure".to_owned()))
}

#[test]
fn a_new_name_is_due_at_once_and_not_while_its_look_up_runs() {
    let One { start, mut names } = One::new();
    names.want(["b".to_owned(), "a".to_owned(), "b".to_owned()]);
    assert_eq!(names.due(start), ["a", "b"]);
    let unknown = &[Family::V4, Family::V6][..];
    assert_eq!(
        names.get("a"),
        Known { unknown, ..Known::default() },
        "it has not no addresses: nobody has said"
    );
    names.began("a");
    assert_eq!(names.due(start), ["b"]);
    names.began("b");
    assert_eq!(names.due(start + SECOND), Vec::<String>::new());
    assert_eq!(names.next(), None);
}

#[test]
fn an_answer_holds_as_long_as_it_says() {
    let mut one = One::new();
    assert!(one.ends(2, answer(&["10.0.0.1", "10.0.0.2"], 30)));
    assert_eq!(one.addresses(), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(one.due(), 32);
    assert_eq!(one.names.due(one.start + SECOND * 31), Vec::<String>::new());
    assert_eq!(one.names.due(one.start + SECOND * 32), ["shop.example.com"]);
    assert!(!one.ends(32, answer(&["10.0.0.1", "10.0.0.2"], 30)), "the same addresses again");
    assert!(one.ends(62, answer(&["10.0.0.2"], 30)));
    assert_eq!(one.addresses(), ["10.0.0.2"]);
}

#[test]
fn what_is_wanted_no_longer_is_forgotten_and_the_rest_kept() {
    let mut one = One::new();
    one.ends(0, answer(&["10.0.0.1"], 30));
    one.names.want(["other".to_owned(), "shop.example.com".to_owned()]);
    assert_eq!(one.addresses(), ["10.0.0.1"]);
    assert_eq!(one.names.due(one.start), ["other"], "what is known is not asked again");
    one.names.want(["other".to_owned()]);
    assert_eq!(one.names.get("shop.example.com"), Known::default());
    assert!(!one.ends(1, answer(&["10.0.0.1"], 30)), "a late answer");
    assert_eq!(one.names.get("shop.example.com"), Known::default());
}

#[test]
fn retries_slow_down_to_half_a_minute_and_an_answer_resets_them() {
    let mut one = One::new();
    let mut delays = Vec::new();
    for _ in 0..7 {
        assert!(!one.ends(0, failed()));
        delays.push(one.due());
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    one.ends(0, answer(&["10.0.0.1"], 60));
    one.ends(60, failed());
    assert_eq!(one.due(), 61);
}

#[test]
fn a_failure_is_told_with_the_time_of_the_first_in_a_row() {
    let mut one = One::new();
    one.ends(0, answer(&["10.0.0.1"], 5));
    one.ends(5, Err(ResolveError::TimedOut));
    one.ends(6, failed());
    let known = one.names.get("shop.example.com");
    assert_eq!(known.failure, failed().as_ref().err());
    assert_eq!(known.failing_since, Some(one.start + SECOND * 5));
    one.ends(8, answer(&["10.0.0.1"], 5));
    let known = one.names.get("shop.example.com");
    assert_eq!((known.failure, known.failing_since), (None, None));
}

#[test]
fn no_number_of_failed_look_ups_takes_addresses_away() {
    for error in [ResolveError::TimedOut, failed().unwrap_err(), ResolveError::BadName] {
        let mut one = One::new();
        one.ends(0, answer(&["10.0.0.1"], 5));
        for time in 5..50 {
            assert!(!one.ends(time, Err(error.clone())));
        }
        assert_eq!(one.addresses(), ["10.0.0.1"], "{error}");
    }
}

#[test]
fn a_negative_answer_is_believed_the_third_time_in_a_row() {
    use ResolveError::{NoAddresses, NoSuchName, TimedOut};
    let table = [
        (vec![NoSuchName, NoSuchName], false),
        (vec![NoSuchName, NoSuchName, NoSuchName], true),
        (vec![NoSuchName, NoAddresses, NoSuchName], true),
        (vec![NoAddresses, NoAddresses, NoAddresses], true),
        (vec![NoSuchName, NoSuchName, TimedOut, NoSuchName, NoSuchName], false),
        (vec![TimedOut, TimedOut, NoSuchName], false),
        (vec![TimedOut, NoSuchName, NoSuchName, NoSuchName], true),
    ];
    for (errors, empties) in table {
        let mut one = One::new();
        one.ends(0, answer(&["10.0.0.1"], 5));
        let (last, before) = errors.split_last().unwrap();
        for error in before {
            assert!(!one.ends(5, Err(error.clone())), "{errors:?}");
        }
        assert_eq!(one.ends(5, Err(last.clone())), empties, "{errors:?}");
        assert_eq!(one.addresses().is_empty(), empties, "{errors:?}");
        assert_eq!(one.names.get("shop.example.com").failure, Some(last));
    }
}

#[test]
fn an_answer_between_begins_the_row_of_negatives_anew() {
    let mut one = One::new();
    for _ in 0..2 {
        one.ends(0, answer(&["10.0.0.1"], 5));
        one.ends(5, Err(ResolveError::NoSuchName));
        one.ends(6, Err(ResolveError::NoSuchName));
    }
    assert_eq!(one.addresses(), ["10.0.0.1"]);
}

#[test]
fn addresses_of_a_family_that_was_not_answered_for_stay() {
    let mut one = One::new();
    assert!(one.ends(0, partial(&["10.0.0.1"], Family::V6)));
    assert_eq!(one.addresses(), ["10.0.0.1"]);
    assert!(one.ends(0, answer(&["10.0.0.1", "fd00::1"], 5)));
    assert!(!one.ends(5, partial(&["10.0.0.1"], Family::V6)));
    assert!(one.ends(10, partial(&["fd00::2"], Family::V4)));
    assert_eq!(one.addresses(), ["10.0.0.1", "fd00::2"]);
    assert!(one.ends(15, answer(&["10.0.0.1"], 5)), "now it is known that the name has no IPv6 address");
    assert_eq!(one.addresses(), ["10.0.0.1"]);
}

#[test]
fn a_name_is_unknown_until_each_family_has_been_answered_for() {
    let mut one = One::new();
    let unknown = |one: &One| one.names.get("shop.example.com").unknown.to_vec();
    assert!(!one.ends(0, failed()));
    assert_eq!(unknown(&one), [Family::V4, Family::V6], "a failure says nothing");
    assert!(one.ends(1, partial(&["10.0.0.1"], Family::V6)));
    assert_eq!(unknown(&one), [Family::V6]);
    assert!(one.ends(6, answer(&["10.0.0.1"], 5)), "the same addresses, and none of IPv6 by now");
    assert_eq!(unknown(&one), []);
    assert!(!one.ends(11, partial(&["10.0.0.1"], Family::V6)));
    assert_eq!(unknown(&one), [], "what was known once is not forgotten");
}

#[test]
fn a_negative_answer_that_is_believed_is_news_of_a_name_that_was_never_answered() {
    let mut one = One::new();
    let ends: Vec<_> = (0..4).map(|time| one.ends(time, Err(ResolveError::NoSuchName))).collect();
    assert_eq!(ends, [false, false, true, false]);
    assert_eq!(one.names.get("shop.example.com").unknown, []);
}
