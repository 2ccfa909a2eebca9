//! The actors, one a file with its messages above its handlers.
//!
//! Requests travel down (session → account → writer) and are answered with the result of `send`;
//! what has been committed travels on through the feed. Nothing downstream holds the address of
//! anything upstream, so there is no request cycle to deadlock on. `do_send` is forbidden: a bound
//! that can be ignored is none.
//!
//! A panic anywhere is a defect and ends the process at once (`cli::serve` installs the hook):
//! what was acknowledged is on disk, so a restart is the cheapest way back to a known state. No
//! actor is ever restarted in place.

pub mod account;
pub mod alert_log;
pub mod alert_validator;
pub mod alert_watch;
pub mod doorkeeper;
pub mod legacy_gate;
pub mod metrics;
pub mod mqtt_intake;
pub mod mqtt_publisher;
pub mod session;
pub mod session_hub;
pub mod statistics;

use futures_util::stream::{self, Stream};
use tokio::sync::watch;

/// A stream of the latest value whenever there is news; coalesced, so it never lags.
pub(crate) fn news<T: Clone + 'static>(receiver: watch::Receiver<T>) -> impl Stream<Item = T> {
    stream::unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        let latest = receiver.borrow_and_update().clone();
        Some((latest, receiver))
    })
}
