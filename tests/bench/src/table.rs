//! Measured rows as tables for people.

use crate::{
    side::Side,
    statistics::{Spread, number},
};
use std::fmt::Write;

/// What one turn has shown.
pub(crate) trait Row {
    /// Whose turn it was.
    fn side(&self) -> Side;
    /// How many pods its owner had.
    fn pods(&self) -> usize;
}

/// A number of a row, where it has one.
pub(crate) type Number<R> = fn(&R) -> Option<f64>;
/// A line of a table: its name, its decimals, and its number.
pub(crate) type Line<R> = (&'static str, usize, Number<R>);

/// Bytes.
pub(crate) const MIB: f64 = (1 << 20) as f64;
/// The head of what was to be reached.
pub(crate) const TARGETS: &str = "\n| to be reached | pods | measured | reached |\n|---|--:|---|---|\n";

/// The sizes that were measured, in their order.
pub(crate) fn sizes<R: Row>(rows: &[R]) -> Vec<usize> {
    let mut sizes: Vec<usize> = rows.iter().map(Row::pods).collect();
    sizes.dedup();
    sizes
}

/// The rows of one side and size.
pub(crate) fn of<R: Row>(rows: &[R], side: Side, pods: usize) -> impl Iterator<Item = &R> {
    rows.iter().filter(move |row| row.pods() == pods && row.side() == side)
}

/// The median of a number over the rounds of one side and size.
pub(crate) fn median<R: Row>(rows: &[R], side: Side, pods: usize, number: Number<R>) -> Option<f64> {
    Spread::of(of(rows, side, pods).filter_map(number)).map(|spread| spread.median)
}

/// What was measured with so many pods: a column a side, a line a number.
pub(crate) fn table<R: Row>(rows: &[R], pods: usize, lines: &[Line<R>]) -> String {
    let is_there = |side: &Side| of(rows, *side, pods).next().is_some();
    let sides: Vec<Side> = Side::ALL.into_iter().filter(is_there).collect();
    let mut text = format!("\n### {} pods\n\n| median (range) |", number(pods as f64, 0));
    for side in &sides {
        let _ = write!(text, " {} |", side.title());
    }
    let _ = write!(text, "\n|---|{}\n| rounds |", "--:|".repeat(sides.len()));
    for side in &sides {
        let _ = write!(text, " {} |", of(rows, *side, pods).count());
    }
    for (name, decimals, number) in lines {
        let _ = write!(text, "\n| {name} |");
        for side in &sides {
            let spread = Spread::of(of(rows, *side, pods).filter_map(number));
            let _ = write!(text, " {} |", spread.map_or("–".into(), |spread| spread.show(*decimals)));
        }
    }
    text.push('\n');
    text
}

/// Whether something was reached, for people.
pub(crate) fn answer(is_reached: bool) -> &'static str {
    if is_reached { "yes" } else { "**no**" }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Turn(Side, usize, Option<f64>);

    impl Row for Turn {
        fn side(&self) -> Side {
            self.0
        }

        fn pods(&self) -> usize {
            self.1
        }
    }

    #[test]
    fn a_table_has_the_sides_that_took_part_in_their_order() {
        let rows = [
            Turn(Side::Shipped, 1000, None),
            Turn(Side::Mainstay, 1000, Some(1.0)),
            Turn(Side::Mainstay, 1000, Some(2.0)),
            Turn(Side::Bare, 5000, Some(9.0)),
        ];
        assert_eq!(sizes(&rows), [1000, 5000]);
        assert_eq!(median(&rows, Side::Mainstay, 1000, |row| row.2), Some(1.5));
        assert_eq!(median(&rows, Side::Shipped, 1000, |row| row.2), None);
        assert_eq!(
            table(&rows, 1000, &[("time, s", 1, |row| row.2)]),
            "\n### 1,000 pods\n\n\
             | median (range) | Mainstay | upstream, as shipped |\n\
             |---|--:|--:|\n\
             | rounds | 2 | 1 |\n\
             | time, s | 1.5 (1.0–2.0) | – |\n"
        );
    }
}
