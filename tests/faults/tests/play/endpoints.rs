//! Soon.

use mainstay_faults::play::scenario::Scenario;

pub fn scenarios() -> Vec<Scenario> {
    Vec::new()
}
