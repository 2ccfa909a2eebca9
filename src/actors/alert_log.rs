//! Low balances and the life of alerts, written to `alerts.log` and counted as they are committed.

use crate::domain::{AlertChange, AlertStep, Entry, Fact, Money};
use crate::instruments::Instruments;
use crate::logging::ALERTS;
use crate::storage::{Feed, Head};
use actix::prelude::*;
use log::Level;

/// Messages that wait for this actor: news alone, which is coalesced.
const MAILBOX: usize = 4;

/// Entries looked at between two looks at the clock.
const BATCH: usize = 256;

/// Writes a line for each low balance and each step of an alert, and counts the latter.
///
/// * Full: it follows the feed and skips what has left the ring: a log of what happens now, while
///   the journal keeps what has happened.
/// * Panic: ends the process. Restart: starts at the head.
#[derive(Debug)]
pub struct AlertLog {
    feed: Feed,
    threshold: Money,
    instruments: Instruments,
    position: i64,
}

impl AlertLog {
    /// A log that follows `feed` from its head.
    #[must_use]
    pub fn new(feed: Feed, threshold: Money, instruments: Instruments) -> Self {
        let position = feed.head().seq;
        Self {
            feed,
            threshold,
            instruments,
            position,
        }
    }
}

fn tell(entry: &Entry, step: &AlertStep) {
    let level = match step.change {
        AlertChange::Raised | AlertChange::Escalated => Level::Warn,
        _ => Level::Info,
    };
    log::log!(
        target: ALERTS,
        level,
        "{} {} {} {} {} x{} {}{} by {}",
        step.change.name(),
        step.kind,
        step.priority.name(),
        step.address,
        step.state.name(),
        step.count,
        step.alert_id,
        if step.late { " late" } else { "" },
        entry.principal.in_logs(),
    );
}

impl Actor for AlertLog {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.add_stream(super::news(self.feed.news()));
    }
}

impl StreamHandler<Head> for AlertLog {
    fn handle(&mut self, head: Head, _: &mut Self::Context) {
        while let Some(notices) = self.feed.recent_after(self.position, BATCH) {
            let Some(last) = notices.last() else { return };
            self.position = last.entry.position.seq;
            for notice in &notices {
                let movement = match &notice.entry.fact {
                    Fact::Posted(movement) => movement,
                    Fact::Alert(step) => {
                        self.instruments.devices.alert_step(step, notice.entry.at);
                        tell(&notice.entry, step);
                        continue;
                    }
                    _ => continue,
                };
                if movement.posting.leaves_less_than(self.threshold) {
                    let (account, balance) =
                        (movement.account.id.masked(), movement.posting.balance);
                    log::warn!(target: ALERTS, "LOW_BALANCE account {account} has {balance}");
                }
            }
        }
        self.position = self.position.max(head.seq);
    }

    fn finished(&mut self, _: &mut Self::Context) {}
}
