//! Looks after what is due: alerts that nobody acknowledges, and devices that have fallen silent.

use super::alert_validator::internal;
use crate::clock::Clock;
use crate::storage::{HubCommand, HubView, Writer};
use actix::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How often it is looked. Escalations are told in seconds.
const TICK: Duration = Duration::from_millis(500);

/// Messages that wait for this actor: none are sent.
const MAILBOX: usize = 1;

/// Since when devices can be heard, shared between who hears and who asks.
#[derive(Debug)]
pub struct Hearing(AtomicI64);

impl Hearing {
    /// Nobody is heard yet.
    #[must_use]
    pub const fn deaf() -> Self {
        Self(AtomicI64::new(i64::MAX))
    }

    /// Devices are heard from `now` on, in microseconds since 1970 UTC.
    pub fn begins(&self, now: i64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// Devices are not heard any more, so their silence means nothing.
    pub fn ends(&self) {
        self.0.store(i64::MAX, Ordering::Relaxed);
    }

    fn since(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|since| *since != i64::MAX)
    }
}

/// Wakes the hub when something is due.
///
/// * Full: cannot be; a sweep that the writer has no room for comes with the next tick.
/// * Panic: ends the process. Restart: what is due is in the database.
pub struct AlertWatch {
    view: Arc<HubView>,
    writer: Writer,
    clock: Clock,
    hearing: Arc<Hearing>,
    sweeping: bool,
}

impl AlertWatch {
    /// A watch over what `view` says is due.
    #[must_use]
    pub const fn new(
        view: Arc<HubView>,
        writer: Writer,
        clock: Clock,
        hearing: Arc<Hearing>,
    ) -> Self {
        Self {
            view,
            writer,
            clock,
            hearing,
            sweeping: false,
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if self.sweeping || self.view.next_due() > self.clock.now() {
            return;
        }
        let order = internal(HubCommand::Sweep {
            hearing_since: self.hearing.since(),
        });
        let Ok(ticket) = self.writer.submit_to_hub(order) else {
            return;
        };
        self.sweeping = true;
        ctx.spawn(
            ticket
                .into_actor(self)
                .map(|_, watch, _| watch.sweeping = false),
        );
    }
}

impl Actor for AlertWatch {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(TICK, Self::tick);
    }
}
