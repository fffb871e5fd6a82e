//! Which faults a scenario is explored with.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    fault::{Fault, TO_READS, TO_WATCHES, TO_WRITES},
    run::Run,
    scenario::Scenario,
    sent::Sent,
};

/// Of reads with the same words, as a poll makes them, so many are disturbed.
const ALIKE: usize = 2;
/// How many versions lists are behind.
const BEHIND: [u64; 2] = [1, 20];

/// The requests that are worth a fault: all writes, and of reads that are alike the first.
pub(super) fn places(requests: &[Sent]) -> Vec<usize> {
    let mut seen = BTreeMap::new();
    let mut is_worth = |sent: &Sent| {
        let times = seen.entry(sent.words.clone()).or_insert(0);
        *times += 1;
        *times <= ALIKE || sent.sort.is_some()
    };
    let numbered = requests.iter().enumerate();
    numbered.filter(|(_, sent)| is_worth(sent)).map(|(number, _)| number).collect()
}

/// All faults that are worth a run, in a scenario whose undisturbed run is this one.
pub(super) fn of(scenario: &Scenario, clean: &Run) -> Vec<Fault> {
    let places = places(&clean.requests);
    let mut faults: Vec<Fault> = BEHIND.into_iter().map(Fault::Behind).collect();
    for &place in &places {
        let blows = if clean.requests[place].sort.is_some() { &TO_WRITES[..] } else { &TO_READS[..] };
        faults.extend(blows.iter().map(|blow| Fault::At(place, *blow)));
    }
    if scenario.subject.is_some() {
        faults.extend(places.iter().map(|place| Fault::Deleted(*place)));
    }
    let mut sorts = BTreeSet::new();
    let is_new =
        |place: &&usize| clean.requests[**place].sort.as_ref().is_some_and(|sort| sorts.insert(sort));
    faults.extend(places.iter().filter(is_new).map(|place| Fault::Refused(*place)));
    for place in lagging(&places) {
        for plural in &clean.watched {
            let lag = |(slow, seconds)| Fault::Watch(place, (*plural).to_owned(), slow, seconds);
            faults.extend(TO_WATCHES.map(lag));
        }
    }
    faults
}

/// Where watches begin to lag: at the first request, and in the middle.
fn lagging(places: &[usize]) -> BTreeSet<usize> {
    [0, places.len() / 2].into_iter().filter_map(|index| places.get(index).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_writes_and_the_first_of_reads_that_are_alike_are_disturbed() {
        let read = || Sent { words: "GET pods".to_owned(), sort: None };
        let write = || Sent { words: "POST pods".to_owned(), sort: Some("POST pods".to_owned()) };
        let requests = [read(), write(), read(), write(), read(), write()];
        assert_eq!(places(&requests), [0, 1, 2, 3, 5]);
    }
}
