//! Metrics: the registry, what has to be sampled, and the Prometheus text.

use super::session_hub::{CountSessions, SessionHub};
use crate::clock::Clock;
use crate::domain::AlertState;
use crate::mqtt::status::StatusBoard;
use crate::storage::{Feed, HubView, Writer};
use actix::prelude::*;
use prometheus::{Encoder, Gauge, IntGauge, IntGaugeVec, Registry, TextEncoder};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Messages that wait for this actor: scrapes are rare.
const MAILBOX: usize = 16;

/// Asks for all metrics as Prometheus text.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<u8>, prometheus::Error>")]
pub struct Scrape;

/// What metrics are sampled from.
pub struct MetricsParts {
    /// Where the instruments are registered.
    pub registry: Registry,
    /// How far the journal goes.
    pub feed: Feed,
    /// How many operations wait.
    pub writer: Writer,
    /// How many sessions there are.
    pub hub: Addr<SessionHub>,
    /// How many alerts are open.
    pub view: Arc<HubView>,
    /// How many devices say that they are there.
    pub statuses: Arc<StatusBoard>,
    /// How far the outbox has come; `None` without MQTT.
    pub outbox: Option<Arc<AtomicI64>>,
    /// The time.
    pub clock: Clock,
}

/// Samples and renders metrics.
///
/// * Full: a scrape waits or is given up by its own deadline; counting goes on in the instruments.
/// * Panic: ends the process. Restart: counters start at zero, as Prometheus expects.
pub struct MetricsActor {
    parts: MetricsParts,
    gauges: Gauges,
}

struct Gauges {
    journal_head: IntGauge,
    postings: IntGauge,
    writer_queue: IntGauge,
    sessions: IntGauge,
    session_addresses: IntGauge,
    outbox_backlog: IntGauge,
    outbox_lag: Gauge,
    alerts_open: IntGaugeVec,
    devices_online: IntGauge,
}

impl Gauges {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let whole = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let outbox_lag = Gauge::new(
            "atalaya_outbox_lag_seconds",
            "Age of the oldest entry that the broker has not acknowledged.",
        )?;
        registry.register(Box::new(outbox_lag.clone()))?;
        let alerts_open = IntGaugeVec::new(
            prometheus::Opts::new("atalaya_alerts_open", "Alerts that are not over, by state."),
            &["state"],
        )?;
        registry.register(Box::new(alerts_open.clone()))?;
        Ok(Self {
            journal_head: whole("atalaya_journal_head", "Last sequence of the journal.")?,
            postings: whole(
                "atalaya_postings",
                "Postings since the database was created.",
            )?,
            writer_queue: whole(
                "atalaya_writer_queue_operations",
                "Operations that wait for the next group.",
            )?,
            sessions: whole("atalaya_sessions", "Open sessions.")?,
            session_addresses: whole(
                "atalaya_session_addresses",
                "Distinct addresses of open sessions.",
            )?,
            outbox_backlog: whole(
                "atalaya_outbox_backlog_entries",
                "Entries of the journal that the broker has not acknowledged.",
            )?,
            outbox_lag,
            alerts_open,
            devices_online: whole(
                "atalaya_devices_online",
                "Devices that say that they are there, as their brokers tell it.",
            )?,
        })
    }
}

impl Gauges {
    fn hub(&self, parts: &MetricsParts) {
        let (new, acknowledged) = parts.view.open_alerts();
        for (state, count) in [
            (AlertState::New, new),
            (AlertState::Acknowledged, acknowledged),
        ] {
            self.alerts_open
                .with_label_values(&[state.name()])
                .set(count);
        }
        let online = parts.statuses.online();
        self.devices_online
            .set(i64::try_from(online).unwrap_or(i64::MAX));
    }
}

impl MetricsActor {
    /// An actor over `parts`; registers its gauges, the process's and the build's.
    ///
    /// # Errors
    /// Where a name stands twice; a defect that the first start shows.
    pub fn new(parts: MetricsParts) -> Result<Self, prometheus::Error> {
        let registry = &parts.registry;
        let gauges = Gauges::new(registry)?;
        let labels = [("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
        let build = IntGauge::with_opts(
            prometheus::Opts::new("atalaya_build_info", "The build that runs; always 1.")
                .const_labels(labels.into()),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process))?;
        Ok(Self { parts, gauges })
    }

    fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.parts.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl Actor for MetricsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Scrape> for MetricsActor {
    type Result = ResponseActFuture<Self, Result<Vec<u8>, prometheus::Error>>;

    fn handle(&mut self, _: Scrape, _: &mut Self::Context) -> Self::Result {
        let counted = self.parts.hub.send(CountSessions);
        let feed = self.parts.feed.clone();
        let outbox = self
            .parts
            .outbox
            .as_ref()
            .map(|gauge| gauge.load(Ordering::Relaxed));
        let sampled = async move {
            let sessions = counted.await.ok();
            let oldest = match outbox {
                Some(position) => feed.read_after(position, 1).await.ok(),
                None => None,
            };
            (sessions, oldest)
        };
        Box::pin(
            sampled
                .into_actor(self)
                .map(move |(sessions, oldest), actor, _| {
                    let head = actor.parts.feed.head();
                    let gauges = &actor.gauges;
                    gauges.journal_head.set(head.seq);
                    gauges.postings.set(head.postings);
                    gauges
                        .writer_queue
                        .set(i64::try_from(actor.parts.writer.depth()).unwrap_or(i64::MAX));
                    gauges.hub(&actor.parts);
                    if let Some(count) = sessions {
                        gauges
                            .sessions
                            .set(i64::try_from(count.clients).unwrap_or(i64::MAX));
                        gauges
                            .session_addresses
                            .set(i64::try_from(count.addresses).unwrap_or(i64::MAX));
                    }
                    if let Some(position) = outbox {
                        gauges.outbox_backlog.set((head.seq - position).max(0));
                    }
                    // Where the journal cannot be read, the last known lag stands.
                    if let Some(notices) = oldest {
                        let now = actor.parts.clock.now();
                        let age = notices
                            .first()
                            .map_or(0, |n| now.saturating_sub(n.entry.at).max(0));
                        let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
                        gauges.outbox_lag.set(age.as_secs_f64());
                    }
                    actor.render()
                }),
        )
    }
}
