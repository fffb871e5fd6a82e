//! What was measured, and how it is told to people.

use super::{settings::SIDES, turn::Row};
use crate::{
    side::Side,
    statistics::{Spread, number, percentile},
    table::answer,
};
use serde::Serialize;
use std::fmt::Write;

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Measured {
    pub namespaces: usize,
    pub settled_seconds: u64,
    pub rows: Vec<Row>,
}

/// The most memory that Mainstay is to need.
const MOST_BYTES: f64 = 40.0 * 1024.0 * 1024.0;

/// A number of a turn.
type Number = fn(&Row) -> f64;

pub(super) fn section(measured: &Measured) -> String {
    let rows = |side: Side| measured.rows.iter().filter(move |row| row.side == side);
    let spread = |side: Side, number: Number| Spread::of(rows(side).map(number));
    let mut text = "\n| to be reached | measured | reached |\n|---|---|---|\n".to_owned();
    let p99: Number = |row| percentile(&row.all, 0.99);
    if let Some(ours) = spread(Side::Mainstay, p99) {
        let theirs: Vec<f64> = [Side::AloneLifted, Side::Shipped]
            .iter()
            .filter_map(|side| Some(spread(*side, p99)?.median))
            .collect();
        let fastest = theirs.iter().copied().fold(f64::NAN, f64::min);
        let _ = writeln!(
            text,
            "| {} namespaces appear at once: everything is there, p99, beside upstream's account alone | {:.2} s beside \
             {fastest:.2} s | {} |",
            number(measured.namespaces as f64, 0),
            ours.median,
            answer(ours.median <= fastest)
        );
    }
    if let Some(peak) = spread(Side::Mainstay, |row| row.peak as f64) {
        let _ = writeln!(
            text,
            "| RSS ≤ 40 MiB | {:.1} MiB at most | {} |",
            peak.max / f64::from(1 << 20),
            answer(peak.max <= MOST_BYTES)
        );
    }
    if let Some(writes) = rows(Side::Mainstay).filter_map(|row| row.settled_writes).max() {
        let _ = writeln!(
            text,
            "| nothing is written in {} s when all is as it should be | {writes} | {} |",
            measured.settled_seconds,
            answer(writes == 0)
        );
    }
    text + &table(measured)
}

fn table(measured: &Measured) -> String {
    let lines: [(&str, usize, Number); 9] = [
        ("account, p50, s", 2, |row| percentile(&row.account, 0.5)),
        ("account, p99, s", 2, |row| percentile(&row.account, 0.99)),
        ("everything, p50, s", 2, |row| percentile(&row.all, 0.5)),
        ("everything, p99, s", 2, |row| percentile(&row.all, 0.99)),
        ("everything, the last, s", 2, |row| percentile(&row.all, 1.0)),
        ("creation of the namespaces, s", 1, |row| row.creation),
        ("from the first creation to the end, s", 1, |row| row.total),
        ("CPU of the controller, s", 2, |row| row.cpu),
        ("peak RSS, MiB", 1, |row| row.peak as f64 / f64::from(1 << 20)),
    ];
    let rows = |side: Side| measured.rows.iter().filter(move |row| row.side == side);
    let sides: Vec<Side> = SIDES.into_iter().filter(|side| rows(*side).next().is_some()).collect();
    let mut text = "\n| median (range) |".to_owned();
    for side in &sides {
        let _ = write!(text, " {} |", side.title());
    }
    let _ = write!(text, "\n|---|{}\n| rounds |", "--:|".repeat(sides.len()));
    for side in &sides {
        let _ = write!(text, " {} |", rows(*side).count());
    }
    for (name, decimals, number) in lines {
        let _ = write!(text, "\n| {name} |");
        for side in &sides {
            let spread = Spread::of(rows(*side).map(number));
            let _ = write!(text, " {} |", spread.map_or("–".into(), |spread| spread.show(decimals)));
        }
    }
    text.push('\n');
    text
}
