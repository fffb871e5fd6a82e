use super::*;
use crate::resolve::Family;

const SECOND: Duration = Duration::from_secs(1);

const NAME: &str = "shop.example.com";

/// One wanted name, which is looked up whenever a test says how that ends.
struct One(Names);

impl One {
    fn new() -> Self {
        let mut one = Self(Names::default());
        one.want(&[NAME]);
        one
    }

    fn want(&mut self, names: &[&str]) {
        for name in [NAME, "other"] {
            if names.contains(&name) { self.0.know(name) } else { self.0.forget(name) }
        }
    }

    /// Whether the addresses changed when a look-up ended like this.
    fn ends(&mut self, result: Result<Answer, ResolveError>) -> bool {
        self.0.answered(NAME, result).expect("the name is wanted").changed
    }

    /// In how many seconds the name is asked again after a look-up that ended like this.
    fn again(&mut self, result: Result<Answer, ResolveError>) -> u64 {
        self.0.answered(NAME, result).expect("the name is wanted").again.as_secs()
    }

    fn known(&self) -> Known<'_> {
        self.0.get(NAME)
    }

    fn addresses(&self) -> Vec<String> {
        self.known().addresses.iter().map(ToString::to_string).collect()
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
fn a_new_name_has_not_no_addresses_but_unknown_ones() {
    let unknown = &[Family::V4, Family::V6][..];
    assert_eq!(One::new().known(), Known { unknown, ..Known::default() });
}

#[test]
fn an_answer_holds_as_long_as_it_says() {
    let mut one = One::new();
    assert!(one.ends(answer(&["10.0.0.1", "10.0.0.2"], 30)));
    assert_eq!(one.addresses(), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(one.again(answer(&["10.0.0.1", "10.0.0.2"], 25)), 25);
    assert!(!one.ends(answer(&["10.0.0.1", "10.0.0.2"], 30)), "the same addresses again");
    assert!(one.ends(answer(&["10.0.0.2"], 30)));
    assert_eq!(one.addresses(), ["10.0.0.2"]);
}

#[test]
fn what_is_wanted_no_longer_is_forgotten_and_the_rest_kept() {
    let mut one = One::new();
    one.ends(answer(&["10.0.0.1"], 30));
    one.want(&["other", NAME]);
    assert_eq!(one.addresses(), ["10.0.0.1"]);
    one.want(&["other"]);
    assert_eq!(one.known(), Known::default());
    assert_eq!(one.0.answered(NAME, answer(&["10.0.0.1"], 30)), None, "a late answer");
    assert_eq!(one.known(), Known::default());
}

#[test]
fn retries_slow_down_to_half_a_minute_and_an_answer_resets_them() {
    let mut one = One::new();
    let delays: Vec<_> = (0..7).map(|_| one.again(failed())).collect();
    assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    one.ends(answer(&["10.0.0.1"], 60));
    assert_eq!(one.again(failed()), 1);
}

#[test]
fn a_failure_is_told_until_a_look_up_succeeds() {
    let mut one = One::new();
    one.ends(answer(&["10.0.0.1"], 5));
    one.ends(Err(ResolveError::TimedOut));
    one.ends(failed());
    let known = one.known();
    assert_eq!((known.failure, known.failures), (failed().as_ref().err(), 2));
    one.ends(answer(&["10.0.0.1"], 5));
    let known = one.known();
    assert_eq!((known.failure, known.failures), (None, 0));
}

#[test]
fn no_number_of_failed_look_ups_takes_addresses_away() {
    for error in [ResolveError::TimedOut, failed().unwrap_err(), ResolveError::BadName] {
        let mut one = One::new();
        one.ends(answer(&["10.0.0.1"], 5));
        for _ in 5..50 {
            assert!(!one.ends(Err(error.clone())));
        }
        assert_eq!(one.addresses(), ["10.0.0.1"], "{error}");
    }
}

#[test]
fn a_negative_answer_is_believed_when_it_came_three_times_anew() {
    use ResolveError::{NoAddresses, NoSuchName, TimedOut};
    // Asked again after 1, 2, 4, 8, 16 and 30 s: the sixth and the seventh come half a minute after one that counts.
    let table = [
        (vec![NoSuchName; 6], false),
        (vec![NoSuchName; 7], true),
        (vec![NoAddresses; 7], true),
        ([vec![NoSuchName; 3], vec![NoAddresses; 4]].concat(), true),
        ([vec![NoSuchName; 6], vec![TimedOut], vec![NoSuchName; 2]].concat(), false),
        ([vec![TimedOut; 9], vec![NoSuchName; 2]].concat(), false),
        ([vec![TimedOut; 9], vec![NoSuchName; 3]].concat(), true),
    ];
    for (errors, empties) in table {
        let mut one = One::new();
        one.ends(answer(&["10.0.0.1"], 5));
        let (last, before) = errors.split_last().unwrap();
        for error in before {
            assert!(!one.ends(Err(error.clone())), "{errors:?}");
        }
        assert_eq!(one.ends(Err(last.clone())), empties, "{errors:?}");
        assert_eq!(one.addresses().is_empty(), empties, "{errors:?}");
        assert_eq!(one.known().failure, Some(last));
    }
}

#[test]
fn an_answer_between_begins_the_row_of_negatives_anew() {
    let mut one = One::new();
    for _ in 0..2 {
        one.ends(answer(&["10.0.0.1"], 5));
        (0..6).for_each(|_| _ = one.ends(Err(ResolveError::NoSuchName)));
    }
    assert_eq!(one.addresses(), ["10.0.0.1"]);
}

#[test]
fn addresses_of_a_family_that_was_not_answered_for_stay() {
    let mut one = One::new();
    assert!(one.ends(partial(&["10.0.0.1"], Family::V6)));
    assert_eq!(one.addresses(), ["10.0.0.1"]);
    assert!(one.ends(answer(&["10.0.0.1", "fd00::1"], 5)));
    assert!(!one.ends(partial(&["10.0.0.1"], Family::V6)));
    assert!(one.ends(partial(&["fd00::2"], Family::V4)));
    assert_eq!(one.addresses(), ["10.0.0.1", "fd00::2"]);
    assert!(one.ends(answer(&["10.0.0.1"], 5)), "now it is known that the name has no IPv6 address");
    assert_eq!(one.addresses(), ["10.0.0.1"]);
}

#[test]
fn a_name_is_unknown_until_each_family_has_been_answered_for() {
    let mut one = One::new();
    let unknown = |one: &One| one.known().unknown.to_vec();
    assert!(!one.ends(failed()));
    assert_eq!(unknown(&one), [Family::V4, Family::V6], "a failure says nothing");
    assert!(one.ends(partial(&["10.0.0.1"], Family::V6)));
    assert_eq!(unknown(&one), [Family::V6]);
    assert!(one.ends(answer(&["10.0.0.1"], 5)), "the same addresses, and none of IPv6 by now");
    assert_eq!(unknown(&one), []);
    assert!(!one.ends(partial(&["10.0.0.1"], Family::V6)));
    assert_eq!(unknown(&one), [], "what was known once is not forgotten");
}

#[test]
fn a_negative_answer_that_is_believed_is_news_of_a_name_that_was_never_answered() {
    let mut one = One::new();
    let ends: Vec<_> = (0..8).map(|_| one.ends(Err(ResolveError::NoSuchName))).collect();
    assert_eq!(ends, [false, false, false, false, false, false, true, false]);
    assert_eq!(one.known().unknown, []);
}
