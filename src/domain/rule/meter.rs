//! How much work one evaluation may do.
//!
//! The interpreter cannot be interrupted, and neither a clock nor a thread is at hand in the
//! domain, so work is counted before it is done: a variable costs its size each time it is looked
//! up, a loop costs its elements times what its body does, a pattern costs the text that it reads.
//! The same expression on the same alert costs the same everywhere, so a trial tells the truth.

use cel::common::types::{CelBytes, CelList, CelMap, CelString};
use cel::common::value::Val;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an evaluation may cost. A loop over all 30,000 numbers that fit in a message costs some
/// 300,000. What has spent it all has taken from 20 to 85 ms on a slow core.
pub(super) const BUDGET: u64 = 1_000_000;

/// What all rules together may cost on one alert: however many there are, planning ends within a
/// second.
pub(super) const PLAN_BUDGET: u64 = 20 * BUDGET;

/// Bytes of text that count as much as one value.
const TEXT_UNIT: usize = 32;

/// Counts down. Shared with the functions that the interpreter calls, hence atomic.
#[derive(Debug)]
pub(super) struct Meter {
    left: AtomicU64,
}

impl Meter {
    /// All of [`BUDGET`].
    pub(super) const fn full() -> Self {
        Self::of(BUDGET)
    }

    /// So much.
    pub(super) const fn of(units: u64) -> Self {
        Self {
            left: AtomicU64::new(units),
        }
    }

    /// What is left.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes `units`, or everything where there are fewer, and says whether there were enough.
    pub(super) fn charge(&self, units: u64) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        // Nothing is left to whoever asked for too much, so that no later part of the same
        // expression can succeed and hide that this one did not.
        let rest = left.checked_sub(units);
        self.left.store(rest.unwrap_or(0), Ordering::Relaxed);
        rest.is_some_and(|rest| rest > 0)
    }

    /// Whether too much was asked for.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

/// What a value costs to copy, compare or walk through.
pub(super) fn size(value: &dyn Val) -> u64 {
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        return list
            .inner()
            .iter()
            .map(|item| size(item.as_ref()))
            .sum::<u64>()
            + 1;
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let entries = map.inner().iter();
        return entries
            .map(|(key, value)| size(key.inner()) + size(value.as_ref()))
            .sum::<u64>()
            + 1;
    }
    let bytes = value
        .downcast_ref::<CelString<'_>>()
        .map(|text| text.inner().len())
        .or_else(|| {
            value
                .downcast_ref::<CelBytes<'_>>()
                .map(|b| b.inner().len())
        });
    1 + text_size(bytes.unwrap_or(0))
}

/// What so many bytes of text cost.
pub(super) fn text_size(bytes: usize) -> u64 {
    u64::try_from(bytes / TEXT_UNIT).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_that_was_asked_for_too_much_stays_empty() {
        let meter = Meter::full();
        assert!(meter.charge(BUDGET - 2));
        assert!(!meter.is_exhausted());
        assert!(!meter.charge(3));
        assert!(meter.is_exhausted());
        assert!(!meter.charge(1));
    }
}
