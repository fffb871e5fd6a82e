//! What was measured, and how it is told to people.

use super::{changes, secrets};
use crate::{
    statistics::{number, percentile},
    table::answer,
};
use serde::Serialize;
use std::fmt::Write;

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Measured {
    pub deployments: usize,
    pub secrets: usize,
    pub changes: Vec<changes::Row>,
    /// Requests that change something, of a change that no target uses.
    pub unused_writes: Option<u64>,
    pub sizes: Vec<secrets::Row>,
}

pub(super) fn section(measured: &Measured) -> String {
    let mut text = "\n| to be reached | measured | reached |\n|---|---|---|\n".to_owned();
    let mut all: Vec<f64> = measured.changes.iter().flat_map(|row| row.seconds.iter().copied()).collect();
    all.sort_by(f64::total_cmp);
    let p99 = percentile(&all, 0.99);
    let _ = writeln!(
        text,
        "| a change is in {} templates, p99 < 1 s | {:.0} ms | {} |",
        measured.deployments,
        p99 * 1000.0,
        answer(p99 < 1.0)
    );
    if let Some(writes) = measured.unused_writes {
        let _ = writeln!(
            text,
            "| nothing is written when nothing used has changed | {writes} | {} |",
            answer(writes == 0)
        );
    }
    if let (Some(first), Some(last)) = (measured.sizes.first(), measured.sizes.last()) {
        let growth = last.rss as f64 / first.rss as f64;
        let _ = writeln!(
            text,
            "| RSS flat within 10 %, {} Secrets of {} to {} KiB | {growth:.2} × | {} |",
            measured.secrets,
            first.kib,
            last.kib,
            answer(growth <= 1.1)
        );
    }
    let mut lasts: Vec<f64> = measured.changes.iter().filter_map(|row| row.seconds.last().copied()).collect();
    lasts.sort_by(f64::total_cmp);
    let requests: u64 = measured.changes.iter().map(|row| row.requests).sum();
    let _ = writeln!(
        text,
        "\nOf {} changes: half of all templates after {:.0} ms; the last template of a change after {:.0} ms (p50), \
         {:.0} ms (the slowest); {:.1} requests a change.",
        measured.changes.len(),
        percentile(&all, 0.5) * 1000.0,
        percentile(&lasts, 0.5) * 1000.0,
        lasts.last().copied().unwrap_or(f64::NAN) * 1000.0,
        requests as f64 / measured.changes.len().max(1) as f64
    );
    if !measured.sizes.is_empty() {
        let _ = writeln!(
            text,
            "\n| {} Secrets, all changed | in all templates after, s | RSS, MB | peak so far, MB |\n|---|--:|--:|--:|",
            number(measured.secrets as f64, 0)
        );
    }
    for row in &measured.sizes {
        let _ = writeln!(
            text,
            "| {} KiB each | {:.1} | {:.1} | {:.1} |",
            row.kib,
            row.seconds,
            row.rss as f64 / 1e6,
            row.peak as f64 / 1e6
        );
    }
    text
}
