//! What a soak has shown, as tables.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use mainstay_e2e::Component;
use tokio::time::Instant;

use crate::{
    kills::{Kills, Victim},
    pulse::Pulse,
};

/// Memory may grow by this share.
const GROWTH: f64 = 0.10;
const MIB: f64 = (1 << 20) as f64;

/// What was checked, and what is wrong with it.
pub(crate) type Checks = Vec<(String, Result<(), String>)>;

/// Memory of a controller near the beginning and at the end, in bytes.
pub(crate) type Memory = (Component, Option<f64>, Option<f64>);

/// Kills by kind, and how long it took at most until all controllers worked again.
pub(crate) fn kills(kills: &Kills, pulses: &[(Component, Pulse)]) -> String {
    let mut rows: BTreeMap<Victim, Vec<Option<(Duration, Component)>>> = BTreeMap::new();
    for (victim, at) in &kills.done {
        rows.entry(*victim).or_default().push(recovery(*at, pulses));
    }
    let mut text =
        "| killed | times | longest time until all controllers worked | the last one |\n|---|--:|--:|---|\n"
            .to_owned();
    for (victim, recoveries) in rows {
        let longest = recoveries.iter().flatten().max_by_key(|(time, _)| *time);
        let (time, last) = longest.map_or(("–".into(), ""), |(time, last)| (seconds(*time), last.name()));
        let _ = writeln!(text, "| {} | {} | {time} | {last} |", victim.name(), recoveries.len());
    }
    text
}

/// How long after a kill the last controller worked again. One that has answered no change begun since then is not known:
/// the load ended before.
fn recovery(at: Instant, pulses: &[(Component, Pulse)]) -> Option<(Duration, Component)> {
    let each = pulses.iter().filter_map(|(component, pulse)| Some((pulse.recovery(at)?, *component)));
    each.max_by_key(|(time, _)| *time)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The checks and what they said.
pub(crate) fn checks(checks: &Checks) -> String {
    let mut text = "| at the end | |\n|---|---|\n".to_owned();
    for (what, result) in checks {
        let said = result.as_ref().map_or_else(|wrong| format!("**no**: {wrong}"), |()| "yes".into());
        let _ = writeln!(text, "| {what} | {said} |");
    }
    text
}

/// Whether each controller has answered each change of its own object.
pub(crate) fn answered(pulses: &[(Component, Pulse)]) -> Result<(), String> {
    let missing = pulses.iter().filter(|(_, pulse)| pulse.unanswered() > 0);
    let missing: Vec<_> =
        missing.map(|(component, pulse)| format!("{} of {}", pulse.unanswered(), component.name())).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{} were not", missing.join(", "))) }
}

/// Memory near the beginning and at the end.
pub(crate) fn memory(rows: &[Memory], minute: f64) -> String {
    let mut text = format!(
        "| highest memory of a process, MiB | minute {minute:.1} | at the end | growth |\n|---|--:|--:|--:|\n"
    );
    for (component, before, after) in rows {
        let mib = |bytes: &Option<f64>| bytes.map_or("–".into(), |bytes| format!("{:.1}", bytes / MIB));
        let growth =
            growth(*before, *after).map_or("–".into(), |growth| format!("{:+.1} %", growth * 100.0));
        let _ = writeln!(text, "| {} | {} | {} | {growth} |", component.name(), mib(before), mib(after));
    }
    text
}

fn growth(before: Option<f64>, after: Option<f64>) -> Option<f64> {
    Some(after? / before? - 1.0)
}

/// Whether no controller's memory has grown by more than a tenth.
pub(crate) fn has_not_grown(rows: &[Memory]) -> Result<(), String> {
    let grown =
        rows.iter().filter(|(_, before, after)| growth(*before, *after).is_none_or(|growth| growth > GROWTH));
    let grown: Vec<_> = grown.map(|(component, ..)| component.name()).collect();
    if grown.is_empty() { Ok(()) } else { Err(grown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_of_a_tenth_is_allowed_and_more_is_not() {
        let row = |before, after| (Component::Accounts, before, after);
        assert_eq!(has_not_grown(&[row(Some(100.0), Some(109.0))]), Ok(()));
        assert_eq!(has_not_grown(&[row(Some(100.0), Some(111.0))]), Err("accounts".into()));
        assert!(has_not_grown(&[row(Some(100.0), None)]).is_err(), "what was not seen is not known");
    }
}
