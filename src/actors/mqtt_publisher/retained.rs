//! Retained balances: what the broker holds for those who come later, made right after an outage.
//!
//! A retained marker at the broker says up to which position of which database its balances are
//! known to be right. On a new connection the accounts that changed since then are published
//! again, or all of them where the marker is missing, at a bounded rate between the ordinary
//! messages: each balance as it is at what has been sent so far, so that none overtakes another.

use super::{Errand, MqttPublisher, WINDOW};
use crate::domain::{Entry, Fact, Position};
use crate::storage::{self, queries};
use crate::wire::events::{self, RetainedMarker};
use actix::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the marker of retained balances is renewed while it moves.
const MARKER_PERIOD: Duration = Duration::from_secs(1);

/// Accounts whose retained balance is repaired in one tick: a thousand a second.
const REPAIRS: usize = 100;

/// Accounts to repair that are remembered one by one; beyond that all are repaired.
const REPAIRS_REMEMBERED: usize = 100_000;

/// How long the broker has to show the retained marker before it is taken for missing.
const MARKER_WAIT: Duration = Duration::from_secs(2);

/// What is known of the retained balances at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkerState {
    /// The broker has not said yet.
    Unknown,
    /// Repairs are under way: the marker must not move.
    Repairing,
    /// Retained balances are right up to this position.
    At(i64),
}

/// What is left to repair.
pub(super) enum Repair {
    /// First the accounts that changed after `from` and up to `until` are collected.
    Collecting {
        from: i64,
        until: i64,
        rows: BTreeSet<i64>,
    },
    /// These accounts, by row.
    These(BTreeSet<i64>),
    /// All accounts after this row.
    AllAfter(i64),
}

impl MqttPublisher {
    /// A broker that has no marker says nothing; after a while that is an answer too.
    pub(super) fn look_for_marker(&mut self) {
        let waited = self.connected.as_ref().is_some_and(|connected| {
            connected.is_up
                && connected.marker == MarkerState::Unknown
                && connected.up_since.elapsed() > MARKER_WAIT
        });
        if waited {
            self.marker(None);
        }
    }

    /// The broker has said how far its retained balances are right.
    pub(super) fn marker(&mut self, marker: Option<RetainedMarker>) {
        let Some(connected) = &mut self.connected else {
            return;
        };
        if connected.marker != MarkerState::Unknown {
            return;
        }
        let position = connected.started_at;
        let known = marker
            .filter(|marker| marker.base == self.parts.database_id)
            .map(|marker| marker.posicion)
            .filter(|at| (0..=position).contains(at));
        match known {
            Some(at) if at == position => connected.marker = MarkerState::At(at),
            Some(at) => {
                connected.marker = MarkerState::Repairing;
                log::info!("retained balances are repaired from position {at} on");
                let rows = BTreeSet::new();
                self.repair = Some(Repair::Collecting {
                    from: at,
                    until: position,
                    rows,
                });
            }
            None if position == 0 => connected.marker = MarkerState::At(0),
            None => {
                connected.marker = MarkerState::Repairing;
                self.repair = Some(Repair::AllAfter(0));
                log::info!("the broker has no retained marker: all balances are published again");
            }
        }
    }

    /// Takes the next step of a repair, unless the last one is still under way.
    pub(super) fn repair_some(&mut self, ctx: &mut Context<Self>) {
        let quiet = self.connected.as_ref().is_some_and(|connected| {
            !connected
                .errands
                .values()
                .any(|errand| *errand == Errand::Repair)
        });
        if self.repairing || !quiet || !self.has_room() || self.database_rests() {
            return;
        }
        match &mut self.repair {
            None => {}
            Some(Repair::Collecting { from, .. }) => {
                let from = *from;
                self.collect_changed(from, ctx);
            }
            Some(Repair::These(rows)) => {
                let some: Vec<i64> = rows.iter().take(REPAIRS).copied().collect();
                for row in &some {
                    rows.remove(row);
                }
                self.look_up(Next::Rows(some), ctx);
            }
            Some(Repair::AllAfter(row)) => {
                let next = Next::After(*row);
                self.look_up(next, ctx);
            }
        }
    }

    /// Collects the accounts of the next entries; where they are too many, all are repaired.
    fn collect_changed(&mut self, from: i64, ctx: &mut Context<Self>) {
        self.repairing = true;
        let generation = self.connections;
        let feed = self.parts.feed.clone();
        let read = async move { feed.read_after(from, WINDOW).await };
        ctx.spawn(read.into_actor(self).map(move |notices, publisher, ctx| {
            if publisher.connections != generation {
                // The next connection repairs for itself.
                return;
            }
            publisher.repairing = false;
            match (notices, &mut publisher.repair) {
                (Ok(notices), Some(Repair::Collecting { from, until, rows })) => {
                    rows.extend(notices.iter().filter_map(|n| posted_account(&n.entry)));
                    *from = notices.last().map_or(*until, |n| n.entry.position.seq);
                    if rows.len() > REPAIRS_REMEMBERED {
                        publisher.repair = Some(Repair::AllAfter(0));
                    } else if *from >= *until {
                        let rows = std::mem::take(rows);
                        publisher.repair = Some(Repair::These(rows));
                    }
                }
                (Err(error), _) => {
                    log::warn!("retained balances wait, the journal is unreadable: {error}");
                    publisher.rest_database();
                }
                // The connection went away meanwhile, and the repair with it.
                (Ok(_), _) => {}
            }
            publisher.pump(ctx);
        }));
    }

    /// Looks up balances as they are at what has been sent, and publishes them behind it.
    fn look_up(&mut self, next: Next, ctx: &mut Context<Self>) {
        self.repairing = true;
        let until = self.delivery.sent_to();
        let generation = self.connections;
        let feed = self.parts.feed.clone();
        let until = Position {
            lane: feed.lane(),
            seq: until,
        };
        let look = async move { feed.read(move |c| look_up(c, &next, until)).await };
        ctx.spawn(look.into_actor(self).map(move |found, publisher, ctx| {
            if publisher.connections != generation {
                // The next connection repairs for itself.
                return;
            }
            publisher.repairing = false;
            match found {
                Ok((entries, last)) => publisher.publish_repairs(&entries, last),
                Err(error) => {
                    log::warn!("retained balances wait, the database is unreadable: {error}");
                    publisher.repair = Some(Repair::AllAfter(0));
                    publisher.rest_database();
                }
            }
            publisher.pump(ctx);
        }));
    }

    fn publish_repairs(&mut self, entries: &[Entry], last: Option<i64>) {
        for entry in entries {
            if let Fact::Posted(movement) = &entry.fact {
                let event = Arc::new(events::balance_event(entry, movement));
                self.send(Errand::Repair, event);
            }
        }
        let done = match (&mut self.repair, last) {
            (Some(Repair::AllAfter(row)), Some(last)) => {
                *row = last;
                false
            }
            (Some(Repair::These(rows)), _) => rows.is_empty(),
            _ => true,
        };
        if done {
            self.repair = None;
        }
    }

    /// Says how far retained balances are right, once they are and when that has moved.
    pub(super) fn renew_marker(&mut self) {
        // Never ahead of what is stored: after a crash the marker would be taken for foreign.
        let position = self.stored;
        let Some(connected) = &mut self.connected else {
            return;
        };
        let repaired = self.repair.is_none()
            && !self.repairing
            && !connected
                .errands
                .values()
                .any(|errand| *errand == Errand::Repair);
        if connected.marker == MarkerState::Repairing && repaired {
            log::info!("retained balances are right");
            connected.marker = MarkerState::At(0);
        }
        let MarkerState::At(at) = connected.marker else {
            return;
        };
        let finishing = self.draining.is_some();
        if at >= position || (self.marked_at.elapsed() < MARKER_PERIOD && !finishing) {
            return;
        }
        let waiting = |errand: &Errand| matches!(errand, Errand::Marker(_));
        if connected.errands.values().any(waiting) {
            return;
        }
        self.marked_at = Instant::now();
        let marker = RetainedMarker {
            base: self.parts.database_id,
            posicion: position,
        };
        let lane = self.parts.feed.lane();
        self.send(Errand::Marker(position), Arc::new(marker.event(lane)));
    }
}

/// Which accounts a repair looks up.
enum Next {
    Rows(Vec<i64>),
    After(i64),
}

/// The entries whose balances the accounts of `next` have at the position `until`, and the last
/// row looked at where rows are counted off.
fn look_up(
    connection: &mut storage::Connection,
    next: &Next,
    until: Position,
) -> Result<(Vec<Entry>, Option<i64>), storage::StorageError> {
    let accounts = match next {
        Next::Rows(rows) => queries::posted_accounts(connection, rows)?,
        Next::After(row) => {
            let limit = i64::try_from(REPAIRS).unwrap_or(i64::MAX);
            queries::posted_accounts_after(connection, until.lane, *row, limit)?
        }
    };
    let last = match next {
        Next::Rows(_) => None,
        Next::After(_) => accounts.last().map(|(row, _)| *row),
    };
    let mut entries = Vec::with_capacity(accounts.len());
    // An account that has changed since is published anyway, behind this, on the same connection.
    for (_, last_seq) in accounts
        .into_iter()
        .filter(|(_, last_seq)| *last_seq <= until.seq)
    {
        let position = Position {
            lane: until.lane,
            seq: last_seq,
        };
        entries.extend(queries::entry_at(connection, position)?);
    }
    Ok((entries, last))
}

fn posted_account(entry: &Entry) -> Option<i64> {
    match &entry.fact {
        Fact::Posted(movement) => Some(movement.account.row),
        _ => None,
    }
}
