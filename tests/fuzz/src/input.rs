//! Values that inputs are made of: usual ones, those at the ends, and all between.

use std::{sync::Arc, time::Duration};

use arbitrary::{Result, Unstructured};
use jiff::Timestamp;

/// The moment at which plans are made, unless a check chooses another.
pub(crate) const NOW: i64 = 1_800_000_000;

/// One of these.
pub(crate) fn one_of<T: Copy>(u: &mut Unstructured<'_>, values: &[T]) -> Result<T> {
    u.choose(values).copied()
}

/// A name: few, so that they meet.
pub(crate) fn name(u: &mut Unstructured<'_>, names: &[&str]) -> Result<Arc<str>> {
    Ok(one_of(u, names)?.into())
}

/// As many values as the input has, but no more than `most`.
pub(crate) fn some<T>(
    u: &mut Unstructured<'_>,
    most: usize,
    mut make: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = u.int_in_range(0..=most)?;
    (0..count).map(|_| make(u)).collect()
}

/// A value, or none.
pub(crate) fn maybe<T>(
    u: &mut Unstructured<'_>,
    make: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if u.arbitrary()? { make(u).map(Some) } else { Ok(None) }
}

/// Around now, and sometimes anywhere.
pub(crate) fn time(u: &mut Unstructured<'_>) -> Result<Timestamp> {
    let second = match u.int_in_range(0..=9)? {
        0 => return one_of(u, &[Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH]),
        1 => u.int_in_range(-377_705_023_201..=253_402_207_200)?,
        2 | 3 => NOW + u.int_in_range(-200_000..=200_000)?,
        _ => NOW + u.int_in_range(-700..=100)?,
    };
    Ok(Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A duration that a spec may have.
pub(crate) fn duration(u: &mut Unstructured<'_>) -> Result<Duration> {
    Ok(match u.int_in_range(0..=9)? {
        0 => Duration::ZERO,
        // The longest text is 999999h999999h99999h, and the most of a number of seconds is that of 32 bits.
        1 => Duration::from_secs(one_of(u, &[2_099_997 * 3600, i32::MAX.unsigned_abs().into()])?),
        2 => Duration::from_millis(u.int_in_range(0..=10_000)?),
        _ => Duration::from_secs(u.int_in_range(0..=700)?),
    })
}

/// A moment of the process's own clock: not long after its start, or long.
pub(crate) fn moment(u: &mut Unstructured<'_>) -> Result<Duration> {
    Ok(match u.int_in_range(0..=9)? {
        0 => Duration::ZERO,
        1 => Duration::from_secs(u.int_in_range(0..=1 << 34)?),
        _ => Duration::from_millis(u.int_in_range(0..=2_000_000)?),
    })
}

/// A small number, and sometimes any.
pub(crate) fn number(u: &mut Unstructured<'_>) -> Result<i32> {
    match u.int_in_range(0..=7)? {
        0 => u.arbitrary(),
        1 => one_of(u, &[i32::MIN, -1, i32::MAX]),
        _ => u.int_in_range(0..=6),
    }
}
