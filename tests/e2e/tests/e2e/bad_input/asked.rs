//! What the API server says to changes of a good object.

use std::{env, time::SystemTime};

use futures::{StreamExt, stream};
use mainstay_cases::{Case, cases};

use super::subject::{Subject, all};

/// So many changes are asked about where not all are.
const PART: usize = 250;
/// So many pairs of changes are asked about.
const PAIRS: usize = 100;
/// So many requests at the same time.
const AT_ONCE: usize = 8;

/// What came of asking.
pub(crate) struct Asked {
    /// The changes that are admitted.
    pub(crate) admitted: Vec<Case>,
    /// Where a promise is broken.
    pub(crate) faults: Vec<String>,
}

/// A simple random number, the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeded by `MAINSTAY_E2E_SEED`, or by the time; says by what, so that a failure can be repeated.
    fn new() -> Self {
        let given = env::var("MAINSTAY_E2E_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |now| now.as_secs());
        let seed = given.unwrap_or_else(now);
        eprintln!("MAINSTAY_E2E_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, most: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % most.max(1) as u64).unwrap_or_default()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Whether it lies in the spec of another kind, which has more fields than all kinds of this project.
fn is_of_others(case: &Case) -> bool {
    ["/spec/template/spec", "/spec/volumeClaimTemplates/0/spec", "/spec/serviceRef/create/spec"]
        .iter()
        .any(|other| case.is_below(other))
}

/// Asks about the changes of one field of the spec, in a random order, and then about pairs of those that are admitted.
pub(crate) async fn ask(subject: &Subject) -> Asked {
    let mut dice = Dice::new();
    let mut cases = cases(&subject.schema(), "/spec");
    let count = cases.len();
    dice.shuffle(&mut cases);
    if !all() {
        let (others, own): (Vec<_>, Vec<_>) = cases.into_iter().partition(is_of_others);
        cases = others.into_iter().take(PART / 5).chain(own).take(PART).collect();
    }
    let asked = cases.len();
    let mut said = Asked { admitted: Vec::new(), faults: Vec::new() };
    say(subject, cases, &mut said).await;
    let pairs: Vec<_> = (0..PAIRS).filter_map(|_| pair(subject, &said.admitted, &mut dice)).collect();
    let pairs_asked = pairs.len();
    say(subject, pairs, &mut said).await;
    dice.shuffle(&mut said.admitted);
    let admitted = said.admitted.len();
    eprintln!(
        "{}: asked about {asked} of {count} changes and {pairs_asked} pairs, {admitted} are admitted",
        subject.kind
    );
    said
}

/// Two of the changes, made in the same object.
fn pair(subject: &Subject, cases: &[Case], dice: &mut Dice) -> Option<Case> {
    let one = cases.get(dice.below(cases.len()))?;
    let other = cases.get(dice.below(cases.len()))?;
    let is_fit = one.path() != other.path() && subject.base_for(one) == subject.base_for(other);
    is_fit.then(|| one.and(other))
}

/// Asks the API server, and sorts what it says.
async fn say(subject: &Subject, cases: Vec<Case>, said: &mut Asked) {
    let answers = stream::iter(cases).map(async |case| {
        let answer = subject.would_be(&case.of(subject.base_for(&case))).await;
        (case, answer)
    });
    let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
    for (case, answer) in answers {
        match answer {
            Ok(_) if case.refused => said.faults.push(format!("{} is admitted", case.what)),
            Ok(_) => said.admitted.push(case),
            Err(message) if case.is_named_by(&message) => {}
            Err(message) => {
                said.faults.push(format!("{}: the refusal does not name it: {message}", case.what))
            }
        }
    }
}
