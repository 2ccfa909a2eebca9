//! What is kept of failures and refusals: each the first time it happens, then counted by the
//! minute, so that a flood of them fills neither the journal nor the writer's queue.

use crate::desk::Caller;
use crate::domain::{AccessEvent, Action};
use crate::storage::access::AccessNote;
use std::collections::HashMap;
use std::net::IpAddr;
use tokio::sync::mpsc;

/// Notes that wait; more are dropped, which only a flood does, and a flood is counted anyway.
const QUEUE: usize = 1_024;

/// Different notes kept in a minute; the rest are one number.
const DIFFERENT: usize = 200;

/// The longest text of a note, in characters.
const TEXT: usize = 100;

/// The way to where failures and refusals are kept; clones share it.
#[derive(Debug, Clone)]
pub struct Trail(mpsc::Sender<AccessNote>);

impl Trail {
    pub(super) fn new() -> (Self, mpsc::Receiver<AccessNote>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// A way that leads nowhere, for tests.
    #[cfg(test)]
    pub(in crate::actors) fn nowhere() -> Self {
        Self(mpsc::channel(1).0)
    }

    /// Keeps that `action` was refused to a caller who has said who they are.
    pub fn refused(&self, caller: &Caller, action: Action) {
        let principal = &caller.identity.principal;
        self.note(AccessNote {
            event: AccessEvent::Refused,
            subject: Some(principal.row()),
            who: Some(principal.name().to_owned()),
            address: caller.address,
            detail: Some(action.name().to_owned()),
            count: 1,
        });
    }

    /// Keeps that somebody did not get in.
    pub(in crate::actors) fn failed(
        &self,
        event: AccessEvent,
        subject: Option<i64>,
        who: &str,
        address: Option<IpAddr>,
    ) {
        self.note(AccessNote {
            event,
            subject,
            who: Some(shown(who)),
            address,
            detail: None,
            count: 1,
        });
    }

    fn note(&self, note: AccessNote) {
        // Full: a flood, of which the tally has its share already.
        let _ = self.0.try_send(note);
    }
}

/// What somebody typed, as it is kept: short, and without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(TEXT)
        .collect()
}

/// Failures and refusals of the present minute.
#[derive(Default)]
pub(super) struct Tally {
    /// What has been written once, with how often it has happened since.
    repeats: HashMap<AccessNote, i64>,
    fresh: Vec<AccessNote>,
    others: i64,
}

impl Tally {
    pub(super) fn add(&mut self, note: AccessNote) {
        if let Some(count) = self.repeats.get_mut(&note) {
            *count += note.count;
        } else if self.repeats.len() < DIFFERENT {
            self.repeats.insert(note.clone(), 0);
            self.fresh.push(note);
        } else {
            self.others += note.count;
        }
    }

    /// What happened for the first time.
    pub(super) fn take_fresh(&mut self) -> Vec<AccessNote> {
        std::mem::take(&mut self.fresh)
    }

    /// What happened again, and the end of the minute.
    pub(super) fn take_minute(&mut self) -> Vec<AccessNote> {
        let mut notes = self.take_fresh();
        let repeats = self.repeats.drain().filter(|(_, count)| *count > 0);
        notes.extend(repeats.map(|(note, count)| AccessNote { count, ..note }));
        if self.others > 0 {
            notes.push(AccessNote {
                event: AccessEvent::Refused,
                subject: None,
                who: None,
                address: None,
                detail: Some("otros".to_owned()),
                count: std::mem::take(&mut self.others),
            });
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(who: &str) -> AccessNote {
        AccessNote {
            event: AccessEvent::SignInFailed,
            subject: None,
            who: Some(shown(who)),
            address: None,
            detail: None,
            count: 1,
        }
    }

    #[test]
    fn the_first_is_kept_at_once_and_the_rest_are_counted() {
        let mut tally = Tally::default();
        for _ in 0..50 {
            tally.add(failure("ana"));
        }
        assert_eq!(tally.take_fresh(), [failure("ana")]);
        let minute = tally.take_minute();
        assert_eq!(minute.iter().map(|n| n.count).collect::<Vec<_>>(), [49]);
        assert!(tally.take_minute().is_empty());
    }

    #[test]
    fn a_flood_of_different_ones_is_a_bounded_number_of_rows() {
        let mut tally = Tally::default();
        for n in 0..10_000 {
            tally.add(failure(&format!("p{n}")));
        }
        let notes = tally.take_minute();
        assert_eq!(notes.len(), DIFFERENT + 1);
        assert_eq!(notes.iter().map(|note| note.count).sum::<i64>(), 10_000);
    }

    #[test]
    fn what_is_kept_is_one_short_line() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(shown(&"x".repeat(500)).len(), TEXT);
    }
}
