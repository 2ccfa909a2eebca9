//! What devices send, what becomes of it, and how long that takes.

use super::LATENCY_BUCKETS;
use crate::domain::{AlertChange, AlertStep};
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds for what people take, in seconds: from a second to a day.
const HUMAN_BUCKETS: &[f64] = &[
    1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
];

/// Kinds of alert that have a label of their own; the rest are `otro`.
const KIND_LABELS: usize = 50;

/// The instruments of the alert hub; clones count into the same.
#[derive(Debug, Clone)]
pub struct DeviceInstruments {
    messages: IntCounterVec,
    alerts: IntCounterVec,
    kinds: Arc<Mutex<HashSet<String>>>,
    commit: Histogram,
    reply: Histogram,
    acknowledgement: Histogram,
    /// Rules that failed on an alert.
    pub rules_failed: IntCounter,
    /// Refused messages that quarantine had no room for.
    pub suspects_dropped: IntCounter,
    /// Answers to devices that could not be sent; they ask again.
    pub answers_dropped: IntCounter,
    /// Whether devices are heard on MQTT.
    pub intake_connected: IntGauge,
}

impl DeviceInstruments {
    /// Instruments registered in `registry`.
    ///
    /// # Errors
    /// Where a name stands twice; a defect that the first start shows.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            registered(registry, Histogram::with_opts(options)?)
        };
        let counter = |name: &str, help: &str| registered(registry, IntCounter::new(name, help)?);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            messages: counters(
                "atalaya_device_messages_total",
                "Messages of devices by what became of them and, if they were refused, why.",
                &["result", "reason"],
            )?,
            alerts: counters(
                "atalaya_alert_changes_total",
                "Changes in the life of alerts by kind, priority, change and state.",
                &["kind", "priority", "change", "state"],
            )?,
            kinds: Arc::default(),
            commit: histogram(
                "atalaya_alert_commit_duration_seconds",
                "Time from the arrival of a device's message to its commit.",
                LATENCY_BUCKETS,
            )?,
            reply: histogram(
                "atalaya_alert_reply_duration_seconds",
                "Time from the arrival of an alert to the broker's acknowledgement of its answer.",
                LATENCY_BUCKETS,
            )?,
            acknowledgement: histogram(
                "atalaya_alert_acknowledgement_duration_seconds",
                "Time from an alert to somebody's acknowledgement of it.",
                HUMAN_BUCKETS,
            )?,
            rules_failed: counter(
                "atalaya_rules_failed_total",
                "Rules that failed on an alert, so that they did not apply.",
            )?,
            suspects_dropped: counter(
                "atalaya_quarantine_dropped_total",
                "Refused messages that quarantine had no room for at the time.",
            )?,
            answers_dropped: counter(
                "atalaya_device_answers_dropped_total",
                "Answers to devices that could not be sent at the time; devices ask again.",
            )?,
            intake_connected: registered(
                registry,
                IntGauge::new(
                    "atalaya_mqtt_intake_connected",
                    "Whether devices are heard on MQTT.",
                )?,
            )?,
        })
    }

    /// A device's message was decided. `reason` is empty unless it was refused or ignored.
    pub fn message(&self, result: &str, reason: &str) {
        self.messages.with_label_values(&[result, reason]).inc();
    }

    /// A device's message is durable, so long after it has arrived.
    pub fn committed(&self, after: Duration) {
        self.commit.observe(after.as_secs_f64());
    }

    /// The broker has an alert's answer, so long after the alert has arrived.
    pub fn replied(&self, after: Duration) {
        self.reply.observe(after.as_secs_f64());
    }

    /// An alert has taken a step. Kinds are the companies' own words, so only so many are told
    /// apart.
    pub fn alert_step(&self, step: &AlertStep, at: i64) {
        let kind = self.kind_label(step.kind.as_str());
        let (priority, state) = (step.priority.name(), step.state.name());
        self.alerts
            .with_label_values(&[kind, priority, step.change.name(), state])
            .inc();
        // The id of an alert begins with the moment at which it was raised (RFC 9562 §5.7).
        if step.change == AlertChange::Acknowledged
            && let Some(raised) = step.alert_id.get_timestamp()
        {
            let (seconds, nanos) = raised.to_unix();
            let raised = Duration::new(seconds, nanos);
            let now = Duration::from_micros(u64::try_from(at).unwrap_or(0));
            self.acknowledgement
                .observe(now.saturating_sub(raised).as_secs_f64());
        }
    }

    fn kind_label<'a>(&self, kind: &'a str) -> &'a str {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.contains(kind) {
            return kind;
        }
        if kinds.len() >= KIND_LABELS {
            return "otro";
        }
        kinds.insert(kind.to_owned());
        kind
    }
}

fn registered<C>(registry: &Registry, collector: C) -> Result<C, prometheus::Error>
where
    C: Collector + Clone + 'static,
{
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
