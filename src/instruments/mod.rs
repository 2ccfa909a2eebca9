//! What is counted: Prometheus instruments that every part may touch, a leaf like `wire`.
//!
//! Counting is an atomic addition, so it never blocks and nothing is lost. The metrics actor owns
//! the registry, samples what has to be asked for, and renders the text.

mod devices;

pub use devices::DeviceInstruments;

use crate::domain::{Command, Decision, Money, Outcome, PostingKind};
use crate::storage::WriteError;
use crate::wire::events::kind_name;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Upper bounds for latencies in seconds: from a tenth of a millisecond to ten seconds.
const LATENCY_BUCKETS: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Upper bounds for the size of a group.
const GROUP_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The instruments; clones count into the same.
#[derive(Debug, Clone)]
pub struct Instruments {
    transactions: IntCounterVec,
    amounts: IntCounterVec,
    group_size: Histogram,
    group_duration: Histogram,
    groups_failed: IntCounter,
    /// Request latency by route template, method and status.
    pub http_requests: HistogramVec,
    /// Requests refused before they reached the ledger, by code.
    pub problems: IntCounterVec,
    /// Frames from WebSocket sessions, by action and result.
    pub frames: IntCounterVec,
    /// Commands of terminals over TCP, by command and result.
    pub tcp_commands: IntCounterVec,
    /// Sessions that ended, by reason.
    pub sessions_ended: IntCounterVec,
    /// Messages acknowledged by the broker, by purpose.
    pub mqtt_acknowledged: IntCounterVec,
    /// Messages that the broker refused, by reason.
    pub mqtt_refused: IntCounterVec,
    /// Messages given up.
    pub mqtt_quarantined: IntCounter,
    /// Connections to the broker that were made.
    pub mqtt_connections: IntCounter,
    /// Whether the broker is connected.
    pub mqtt_connected: Connected,
    /// What devices send and what becomes of it.
    pub devices: DeviceInstruments,
}

impl Instruments {
    /// Instruments registered in `registry`.
    ///
    /// # Errors
    /// Where a name stands twice; a defect that the first start shows.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let histogram =
                Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let http_requests = HistogramVec::new(
            HistogramOpts::new(
                "atalaya_http_request_duration_seconds",
                "Time from the head of a request to its answer.",
            )
            .buckets(LATENCY_BUCKETS.to_vec()),
            &["route", "method", "status"],
        )?;
        registry.register(Box::new(http_requests.clone()))?;
        let mqtt_connected =
            IntGauge::new("atalaya_mqtt_connected", "Whether the broker is connected.")?;
        registry.register(Box::new(mqtt_connected.clone()))?;
        let mqtt_connected = Connected {
            gauge: mqtt_connected,
            lost: Arc::default(),
        };
        Ok(Self {
            transactions: counters(
                "atalaya_transactions_total",
                "Money commands by kind and by what became of them.",
                &["kind", "result"],
            )?,
            amounts: counters(
                "atalaya_transactions_cents_total",
                "Sum of the amounts of committed money commands, in cents.",
                &["kind"],
            )?,
            group_size: histogram(
                "atalaya_commit_group_operations",
                "Operations committed together.",
                GROUP_BUCKETS,
            )?,
            group_duration: histogram(
                "atalaya_commit_group_duration_seconds",
                "Time to decide, write and sync a group.",
                LATENCY_BUCKETS,
            )?,
            groups_failed: counter(
                "atalaya_commit_groups_failed_total",
                "Groups that were not committed.",
            )?,
            http_requests,
            problems: counters(
                "atalaya_problems_total",
                "Requests answered with a problem, by its code.",
                &["code"],
            )?,
            frames: counters(
                "atalaya_session_requests_total",
                "Requests of sessions by action and result.",
                &["action", "result"],
            )?,
            tcp_commands: counters(
                "atalaya_tcp_commands_total",
                "Commands of terminals over TCP, by command and result.",
                &["command", "result"],
            )?,
            sessions_ended: counters(
                "atalaya_sessions_ended_total",
                "Sessions that ended, by reason.",
                &["reason"],
            )?,
            mqtt_acknowledged: counters(
                "atalaya_mqtt_messages_acknowledged_total",
                "Messages that the broker has acknowledged, by purpose.",
                &["purpose"],
            )?,
            mqtt_refused: counters(
                "atalaya_mqtt_messages_refused_total",
                "Messages that the broker has refused, by its reason.",
                &["reason"],
            )?,
            mqtt_quarantined: counter(
                "atalaya_mqtt_messages_quarantined_total",
                "Messages given up since the broker refused them alone again and again.",
            )?,
            mqtt_connections: counter(
                "atalaya_mqtt_connections_total",
                "Connections made to the broker.",
            )?,
            mqtt_connected,
            devices: DeviceInstruments::new(registry)?,
        })
    }

    /// A group is durable.
    pub fn group_committed(&self, size: usize, duration: Duration) {
        self.group_size.observe(as_float(size));
        self.group_duration.observe(duration.as_secs_f64());
    }

    /// A group was not committed.
    pub fn group_failed(&self) {
        self.groups_failed.inc();
    }

    /// What was ordered was decided, or not.
    pub fn decided(&self, ordered: &Command, result: &Result<Decision, WriteError>) {
        let (kind, amount) = kind_and_amount(ordered);
        let outcome = match result {
            Ok(Decision { replayed: true, .. }) => "replayed",
            Ok(Decision {
                outcome: Outcome::Refused(_),
                ..
            }) => "refused",
            Ok(Decision {
                outcome: Outcome::Done(_),
                ..
            }) => "committed",
            Err(WriteError::Unavailable) => "failed",
            Err(_) => "invalid",
        };
        self.transactions.with_label_values(&[kind, outcome]).inc();
        if outcome == "committed" {
            let cents = u64::try_from(amount.cents()).unwrap_or(0);
            self.amounts.with_label_values(&[kind]).inc_by(cents);
        }
    }
}

/// The kind of a command, in the wire's words, and how much it moves.
fn kind_and_amount(command: &Command) -> (&'static str, Money) {
    match command {
        Command::Open { .. } => ("APERTURA", Money::ZERO),
        Command::Deposit { amount, .. } => (kind_name(PostingKind::Deposit), amount.money()),
        Command::Withdraw { amount, .. } => (kind_name(PostingKind::Withdrawal), amount.money()),
        Command::Transfer { amount, .. } => ("TRANSFERENCIA", amount.money()),
        Command::BringIn { kind, amount, .. } => (kind_name(*kind), amount.money()),
    }
}

/// Whether the publishers of all lanes are connected: where one is not, something is not published.
#[derive(Debug, Clone)]
pub struct Connected {
    gauge: IntGauge,
    /// A bit for each lane that is not.
    lost: Arc<AtomicU32>,
}

impl Connected {
    /// Notes whether the publisher of `lane` is connected.
    pub fn show(&self, lane: i32, is_connected: bool) {
        let bit = 1 << lane.rem_euclid(32);
        let others = if is_connected {
            self.lost.fetch_and(!bit, Ordering::Relaxed) & !bit
        } else {
            self.lost.fetch_or(bit, Ordering::Relaxed) | bit
        };
        self.gauge.set(i64::from(others == 0));
    }

    /// Whether all are.
    #[must_use]
    pub fn get(&self) -> bool {
        self.gauge.get() == 1
    }
}

/// A count as Prometheus takes it. Counts here are far below 2^52, so nothing is lost.
pub(crate) fn as_float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lane_without_a_broker_is_enough_to_say_so() {
        let connected = Connected {
            gauge: IntGauge::new("a", "b").unwrap(),
            lost: Arc::default(),
        };
        for (lane, is_connected, expected) in [
            (0, false, false),
            (1, false, false),
            (0, true, false),
            (1, true, true),
            (1, false, false),
            (0, true, false),
            (1, true, true),
        ] {
            connected.show(lane, is_connected);
            assert_eq!(connected.get(), expected, "{lane} {is_connected}");
        }
    }
}
