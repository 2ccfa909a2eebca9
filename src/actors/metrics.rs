//! Metrics: the registry, what has to be sampled, the Prometheus text, and how it has been.

mod history;
mod keeper;
mod snapshot;

pub use history::{Figures, Window};

use super::session_hub::{CountSessions, SessionCount, SessionHub};
use crate::clock::Clock;
use crate::domain::AlertState;
use crate::mqtt::status::StatusBoard;
use crate::storage::{self, Feeds, HubView, ReadPool, Writer};
use actix::prelude::*;
use history::{FINEST, History};
use prometheus::{Encoder, Gauge, IntGauge, IntGaugeVec, Registry, TextEncoder};
use snapshot::Snapshot;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Messages that wait for this actor: scrapes are rare.
const MAILBOX: usize = 16;

/// How often a sample is taken for the history.
const SAMPLE: Duration = Duration::from_secs(FINEST.unsigned_abs());

/// How often the history is written to its file.
const KEEP: Duration = Duration::from_secs(60);

/// How long a sample waits for what has to be asked for.
const ASK_DEADLINE: Duration = Duration::from_secs(2);

/// Asks for all metrics as Prometheus text.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<u8>, prometheus::Error>")]
pub struct Scrape;

/// Asks how it has been.
#[derive(Debug, Message)]
#[rtype(result = "Box<Figures>")]
pub struct AskFigures(pub Window);

/// Has the history written now: the process is about to end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct KeepHistory;

/// What metrics are sampled from.
pub struct MetricsParts {
    /// Where the instruments are registered.
    pub registry: Registry,
    /// How far the journal goes.
    pub feeds: Feeds,
    /// How many operations wait.
    pub writer: Writer,
    /// How many sessions there are.
    pub hub: Addr<SessionHub>,
    /// How many alerts are open.
    pub view: Arc<HubView>,
    /// How many devices say that they are there.
    pub statuses: Arc<StatusBoard>,
    /// How far the outbox of each lane has come; `None` without MQTT.
    pub outbox: Option<Vec<Arc<AtomicI64>>>,
    /// Where it is seen whether the database answers.
    pub readers: ReadPool,
    /// The folder where the history is kept.
    pub folder: PathBuf,
    /// The time.
    pub clock: Clock,
}

/// Samples and renders metrics, and keeps their history.
///
/// * Full: a scrape waits or is given up by its own deadline; counting goes on in the instruments.
/// * Panic: ends the process. Restart: counters start at zero, as Prometheus expects; the history
///   goes on after a gap.
pub struct MetricsActor {
    parts: MetricsParts,
    gauges: Gauges,
    history: History,
    /// The counters at the last sample, and when that was.
    last: Option<(Snapshot, Instant)>,
    /// Whether a sample is being taken: a slow database is no reason for two at once.
    sampling: bool,
    /// Whether it was told that the history cannot be written.
    unkept: bool,
}

/// When the oldest entry was committed that comes after these positions, at the end of time if there
/// is none; `None` where a journal cannot be read.
async fn oldest_after(feeds: &Feeds, positions: &[i64]) -> Option<i64> {
    let mut oldest = i64::MAX;
    for (feed, position) in feeds.iter().zip(positions) {
        let next = feed.read_after(*position, 1).await.ok()?;
        oldest = next
            .first()
            .map_or(oldest, |first| first.entry.at.min(oldest));
    }
    Some(oldest)
}

/// What has to be asked for.
struct Asked {
    sessions: Option<SessionCount>,
    /// When the oldest entry was committed that the broker has not, at the end of time if there is
    /// none; `None` where there is no broker, or no answer.
    oldest: Option<i64>,
    /// How far the outboxes have come, taken together.
    outbox: Option<i64>,
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
        Ok(Self {
            history: keeper::load(&parts.folder.join(keeper::FILE)),
            parts,
            gauges,
            last: None,
            sampling: false,
            unkept: false,
        })
    }

    fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.parts.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Asks for what is not counted.
    fn ask(&self) -> impl Future<Output = Asked> + 'static {
        let counted = self.parts.hub.send(CountSessions);
        let feeds = self.parts.feeds.clone();
        let positions = self.parts.outbox.as_ref().map(|gauges| {
            let seen = gauges.iter().map(|gauge| gauge.load(Ordering::Relaxed));
            seen.collect::<Vec<_>>()
        });
        async move {
            let sessions = counted.await.ok();
            let oldest = match &positions {
                Some(positions) => oldest_after(&feeds, positions).await,
                None => None,
            };
            Asked {
                sessions,
                oldest,
                outbox: positions.map(|positions| positions.iter().sum()),
            }
        }
    }

    /// Sets the gauges to what was asked for and what can be seen from here.
    fn set_gauges(&self, asked: &Asked) {
        let head = self.parts.feeds.head();
        let gauges = &self.gauges;
        gauges.journal_head.set(head.seq);
        gauges.postings.set(head.postings);
        gauges
            .writer_queue
            .set(i64::try_from(self.parts.writer.depth()).unwrap_or(i64::MAX));
        gauges.hub(&self.parts);
        if let Some(count) = asked.sessions {
            gauges
                .sessions
                .set(i64::try_from(count.clients).unwrap_or(i64::MAX));
            gauges
                .session_addresses
                .set(i64::try_from(count.addresses).unwrap_or(i64::MAX));
        }
        if let Some(position) = asked.outbox {
            gauges.outbox_backlog.set((head.seq - position).max(0));
        }
        // Where the journal cannot be read, the last known lag stands.
        if let Some(oldest) = asked.oldest {
            let age = self.parts.clock.now().saturating_sub(oldest).max(0);
            let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
            gauges.outbox_lag.set(age.as_secs_f64());
        }
    }

    /// Now, in seconds since 1970 UTC.
    fn seconds(&self) -> i64 {
        self.parts.clock.now().div_euclid(1_000_000)
    }

    /// Begins to take a sample.
    fn sample(&mut self, ctx: &mut Context<Self>) {
        if self.sampling {
            return;
        }
        self.sampling = true;
        let (asked, readers) = (self.ask(), self.parts.readers.clone());
        let seen = async move {
            let answers = storage::answers(&readers).await;
            let asked = tokio::time::timeout(ASK_DEADLINE, asked).await.ok();
            (asked, answers)
        };
        ctx.spawn(seen.into_actor(self).map(|(asked, answers), actor, _| {
            actor.sampling = false;
            if let Some(asked) = asked {
                actor.set_gauges(&asked);
            }
            actor.record(answers);
        }));
    }

    fn record(&mut self, database: bool) {
        let (snapshot, now) = (Snapshot::of(&self.parts.registry.gather()), Instant::now());
        if let Some((before, then)) = &self.last {
            let seconds = now.duration_since(*then).as_secs_f64();
            let mut sample = snapshot.since(before, seconds.max(0.001), self.seconds());
            if self.parts.outbox.is_none() {
                // Where there is no broker, none is away.
                sample.set("broker_conectado", None);
            }
            sample.set("base_de_datos", Some(if database { 1.0 } else { 0.0 }));
            self.history.push(&sample);
        }
        self.last = Some((snapshot, now));
    }

    /// Writes the history to its file.
    fn keep(&self) -> impl Future<Output = Result<(), String>> + 'static {
        keeper::save(self.parts.folder.join(keeper::FILE), self.history.kept())
    }

    /// Tells of a history that cannot be written, once.
    fn kept(&mut self, written: Result<(), String>) {
        if let Err(reason) = written {
            if !self.unkept {
                log::warn!("the history of metrics cannot be kept: {reason}");
            }
            self.unkept = true;
        } else {
            self.unkept = false;
        }
    }
}

impl Actor for MetricsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.sample(ctx);
        ctx.run_interval(SAMPLE, Self::sample);
        ctx.run_interval(KEEP, |actor, ctx| {
            let written = actor.keep().into_actor(actor);
            ctx.spawn(written.map(|written, actor, _| actor.kept(written)));
        });
    }
}

impl Handler<Scrape> for MetricsActor {
    type Result = ResponseActFuture<Self, Result<Vec<u8>, prometheus::Error>>;

    fn handle(&mut self, _: Scrape, _: &mut Self::Context) -> Self::Result {
        let asked = self.ask().into_actor(self);
        Box::pin(asked.map(|asked, actor, _| {
            actor.set_gauges(&asked);
            actor.render()
        }))
    }
}

impl Handler<AskFigures> for MetricsActor {
    type Result = MessageResult<AskFigures>;

    fn handle(&mut self, AskFigures(window): AskFigures, _: &mut Self::Context) -> Self::Result {
        MessageResult(Box::new(self.history.figures(window, self.seconds())))
    }
}

impl Handler<KeepHistory> for MetricsActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: KeepHistory, _: &mut Self::Context) -> Self::Result {
        let written = self.keep().into_actor(self);
        Box::pin(written.map(|written, actor, _| actor.kept(written)))
    }
}
