//! Brings a request through: at the agreed rate, and again until it is decided.

use super::progress::Progress;
use super::verdict::Verdict;
use crate::cli::api::{Again, Answer, Api, Call, Failure};
use std::cell::Cell;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until};

/// The first wait before asking again.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Waits double up to this, so that a server that comes back is noticed soon.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A server may ask for more with `Retry-After`, but for no more than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why an import ended before its file did; for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Stopped(pub(super) String);

/// Hands out one slot after the other, evenly: no burst after a pause.
#[derive(Debug)]
pub(super) struct Pacer {
    interval: Duration,
    next: Cell<Instant>,
}

impl Pacer {
    /// A pacer of `rate` slots per second; 0 does not pace.
    pub(super) fn new(rate: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(rate).unwrap_or_default();
        Self {
            interval,
            next: Cell::new(Instant::now()),
        }
    }

    /// Takes the next slot at or after `now`.
    fn take(&self, now: Instant) -> Instant {
        let slot = self.next.get().max(now);
        self.next.set(slot + self.interval);
        slot
    }

    async fn wait(&self) {
        if !self.interval.is_zero() {
            sleep_until(self.take(Instant::now()).into()).await;
        }
    }
}

/// What a request came to.
#[derive(Debug)]
pub(super) struct Delivered<T> {
    /// The decision.
    pub(super) value: T,
    /// An earlier try of ours may have been what decided it.
    pub(super) perhaps_ours: bool,
}

/// Sends requests to one server on behalf of all accounts.
pub(super) struct Courier<'a> {
    api: Api,
    pacer: Pacer,
    patience: Duration,
    progress: &'a Progress,
    /// When anything was last decided, for any account: one that waits while others get through
    /// has no reason to give up.
    last_decision: Cell<Instant>,
}

impl<'a> Courier<'a> {
    /// A courier that gives up after `patience` without any progress.
    pub(super) fn new(api: Api, pacer: Pacer, patience: Duration, progress: &'a Progress) -> Self {
        Self {
            api,
            pacer,
            patience,
            progress,
            last_decision: Cell::new(Instant::now()),
        }
    }

    /// Sends `call` in its turn until `judge` finds it decided.
    ///
    /// # Errors
    /// [`Stopped`] where asking again is of no use, or patience has run out.
    pub(super) async fn paced<T>(
        &self,
        call: &Call,
        judge: fn(&Answer) -> Verdict<T>,
    ) -> Result<Delivered<T>, Stopped> {
        self.deliver(call, judge, Some(&self.pacer)).await
    }

    /// Like [`Courier::paced`], but at once: for the few requests that are no movements.
    ///
    /// # Errors
    /// The same.
    pub(super) async fn direct<T>(
        &self,
        call: &Call,
        judge: fn(&Answer) -> Verdict<T>,
    ) -> Result<Delivered<T>, Stopped> {
        self.deliver(call, judge, None).await
    }

    async fn deliver<T>(
        &self,
        call: &Call,
        judge: fn(&Answer) -> Verdict<T>,
        pacer: Option<&Pacer>,
    ) -> Result<Delivered<T>, Stopped> {
        let (mut tries, mut perhaps_ours) = (0, false);
        let mut trouble_since = None;
        loop {
            // Every try takes a slot: after an outage all accounts ask again at once.
            if let Some(pacer) = pacer {
                pacer.wait().await;
            }
            let again = match self.attempt(call, judge).await {
                Verdict::Done(value) => {
                    self.last_decision.set(Instant::now());
                    self.progress.flowing();
                    return Ok(Delivered {
                        value,
                        perhaps_ours,
                    });
                }
                Verdict::Stop(reason) => return Err(Stopped(reason)),
                Verdict::Again(again) => again,
            };
            perhaps_ours |= again.perhaps_done;
            let since = *trouble_since.get_or_insert_with(Instant::now);
            self.lose_patience(since, &again)?;
            self.progress.waiting(&again.reason);
            sleep(wait(tries, again.after)).await;
            tries += 1;
        }
    }

    async fn attempt<T>(&self, call: &Call, judge: fn(&Answer) -> Verdict<T>) -> Verdict<T> {
        match self.api.send(call).await {
            Ok(reply) => judge(&reply),
            Err(Failure::Passing(again)) => Verdict::Again(again),
            Err(Failure::Lasting(reason)) => Verdict::Stop(reason),
        }
    }

    fn lose_patience(&self, trouble_since: Instant, again: &Again) -> Result<(), Stopped> {
        let idle = trouble_since.max(self.last_decision.get()).elapsed();
        if idle < self.patience {
            return Ok(());
        }
        Err(Stopped(format!(
            "el servidor lleva {} s sin responder ({}); vuelva a ejecutar la misma orden para \
             continuar donde quedó",
            idle.as_secs(),
            again.reason
        )))
    }
}

/// How long to wait after `tries` tries: doubling, bounded, and not less than the server asks for.
fn wait(tries: u32, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1_u32.checked_shl(tries).unwrap_or(u32::MAX));
    doubled
        .min(LONGEST_WAIT)
        .max(asked.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_bounded() {
        let millis: Vec<_> = (0..7).map(|tries| wait(tries, None).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(wait(1_000, None), LONGEST_WAIT);
    }

    #[test]
    fn the_server_may_ask_for_more_but_not_for_hours() {
        let asked = |tries, seconds| wait(tries, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(0, 1), Duration::from_secs(1));
        assert_eq!(asked(0, 3_600), LONGEST_RETRY_AFTER);
        assert_eq!(asked(0, 0), FIRST_WAIT);
        assert_eq!(asked(9, 1), LONGEST_WAIT);
    }

    #[test]
    fn slots_are_even_and_a_pause_saves_nothing_up() {
        let pacer = Pacer::new(10);
        let start = Instant::now() + Duration::from_secs(1);
        let at = |slot: Instant| slot.duration_since(start).as_millis();
        assert_eq!([at(pacer.take(start)), at(pacer.take(start))], [0, 100]);
        let later = start + Duration::from_secs(60);
        assert_eq!(
            [at(pacer.take(later)), at(pacer.take(later))],
            [60_000, 60_100]
        );
    }
}
