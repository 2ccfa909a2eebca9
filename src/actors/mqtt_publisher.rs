//! The outbox on its way to the broker.
//!
//! The journal is the queue: this actor keeps a position in it, loads a bounded window behind that
//! position, and moves it over what the broker has acknowledged. Whatever ends a connection, the
//! next one starts again behind the position, so nothing is lost and repeats carry the same
//! `tx_id`. The ledger never waits for any of this.

mod retained;

use self::retained::{MarkerState, Repair};
use crate::clock::Clock;
use crate::domain::Fact;
use crate::instruments::Instruments;
use crate::mqtt::connection::{self, BrokerAddress, CHANNEL, DownCause, Link, Outbound};
use crate::mqtt::delivery::{Delivery, MessageId, Poison};
use crate::storage::{Feed, Head, Notice, OutboxUpdate, Quarantined, Writer};
use crate::wire::events::{Event, Presence, Qos};
use crate::wire::numbers::Moment;
use actix::prelude::*;
use futures_util::stream;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Messages that wait for this actor: connection, news and timers each keep to one at a time, so
/// these are answers to devices. What finds no room is dropped, and the device asks again.
const MAILBOX: usize = 512;

/// Entries loaded and not acknowledged. Enough to keep a broker busy over a network; a broker that
/// stalls costs no more memory than this.
const WINDOW: usize = 1_024;

/// Messages sent and not acknowledged: what the channel to the connection holds.
const IN_FLIGHT: usize = CHANNEL - 64;

/// How often the position is written and the rest of the house-keeping is done.
const TICK: Duration = Duration::from_millis(100);

/// Time between connections: it doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Time until the next try where a person has to mend rights.
const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(15);

/// How long the database is left alone after it has failed.
const DATABASE_REST: Duration = Duration::from_secs(1);

/// How long a connection may have messages out and hear no acknowledgement before it is given up:
/// the watchdog for whatever we have not thought of.
const STALLED: Duration = Duration::from_secs(30);

/// Publishes an event that is not in the journal, if there is a connection.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Publish(pub Arc<Event>);

/// Publishes an answer to a device that no entry of the journal makes: to a repeat, a rejection or
/// a heartbeat. Best effort, since a device sends again until it is answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Answer(pub Arc<Event>);

/// Publishes what is left, says goodbye and stops. Answers how many entries stay behind, to be
/// published after the next start.
#[derive(Debug, Message)]
#[rtype(result = "i64")]
pub struct Drain {
    /// How long it may take.
    pub within: Duration,
}

/// How the actor knows the messages that are out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Entry(MessageId),
    Repair,
    Marker(i64),
    Farewell,
    Presence,
    Statistics,
    Answer,
}

/// What a connection says. A connection that was given up may still have words under way, and its
/// tokens mean nothing to the next one.
struct Said {
    generation: u64,
    link: Link,
}

/// A connection and what is known of it.
struct Connected {
    generation: u64,
    outbound: mpsc::Sender<Outbound>,
    is_up: bool,
    errands: HashMap<u64, Errand>,
    next_token: u64,
    up_since: Instant,
    last_answer: Instant,
    /// The position behind which it started: what comes after it is published on this very
    /// connection and needs no repair.
    started_at: i64,
    marker: MarkerState,
}

/// What the publisher needs.
pub struct PublisherParts {
    /// The broker.
    pub broker: BrokerAddress,
    /// The journal of one lane. The first lane's publisher speaks for the whole: it says who is
    /// here, and carries what is in no journal.
    pub feed: Feed,
    /// Where the position is kept.
    pub writer: Writer,
    /// Where it starts.
    pub position: i64,
    /// Names the database in the marker.
    pub database_id: Uuid,
    /// Names the node in the presence.
    pub node: String,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub instruments: Instruments,
    /// How long the broker may take to make durable what it has acknowledged. The stored position
    /// stays that far behind, so that a crash that takes the broker too loses nothing.
    pub settles_in: Duration,
    /// Where the position can be seen from outside.
    pub gauge: Arc<AtomicI64>,
}

/// Publishes the journal.
///
/// * Full: news is coalesced by the feed; the connection's channels are bounded and never block.
/// * Panic: ends the process; after the start it goes on behind the stored position.
/// * Restart: as after any lost connection.
pub struct MqttPublisher {
    parts: PublisherParts,
    delivery: Delivery,
    stored: i64,
    /// Acknowledged positions and when they were seen, until the broker has settled.
    settling: VecDeque<(Instant, i64)>,
    settled: i64,
    storing: bool,
    /// After a failure of the database nothing is asked of it before this moment.
    database_rests_until: Option<Instant>,
    /// The latest statistics, for a broker that comes back.
    statistics: Option<Arc<Event>>,
    loading: bool,
    /// When the alerts arrived whose answers are in the window: no more than it has entries.
    owed: HashMap<i64, i64>,
    quarantined: Vec<Quarantined>,
    connected: Option<Connected>,
    connections: u64,
    retry: Duration,
    repair: Option<Repair>,
    repairing: bool,
    marked_at: Instant,
    draining: Option<(Instant, oneshot::Sender<i64>)>,
    farewell: Farewell,
}

/// How far the goodbye has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    NotYet,
    Said,
    Heard,
}

impl MqttPublisher {
    /// A publisher behind `parts.position`.
    #[must_use]
    pub fn new(parts: PublisherParts) -> Self {
        let position = parts.position;
        Self {
            parts,
            delivery: Delivery::new(position),
            stored: position,
            settling: VecDeque::new(),
            settled: position,
            storing: false,
            database_rests_until: None,
            statistics: None,
            loading: false,
            owed: HashMap::new(),
            quarantined: Vec::new(),
            connected: None,
            connections: 0,
            retry: RETRY.0,
            repair: None,
            repairing: false,
            marked_at: Instant::now(),
            draining: None,
            farewell: Farewell::NotYet,
        }
    }

    /// What `node` says of itself at the moment `at`.
    #[must_use]
    pub fn presence_of<'a>(node: &'a str, state: &'static str, at: i64) -> Presence<'a> {
        Presence {
            estado: state,
            nodo: node,
            version: env!("CARGO_PKG_VERSION"),
            timestamp: Moment(at),
        }
    }

    fn presence(&self, state: &'static str) -> Presence<'_> {
        Self::presence_of(&self.parts.node, state, self.parts.clock.now())
    }

    fn connect(&mut self, ctx: &mut Context<Self>) {
        let will = self.presence("fuera_de_linea");
        let lane = self.parts.feed.lane();
        let (outbound, links) =
            connection::open(&self.parts.broker, lane, Some(&will).filter(|_| lane == 0));
        let now = Instant::now();
        self.connections += 1;
        let generation = self.connections;
        self.connected = Some(Connected {
            generation,
            outbound,
            is_up: false,
            errands: HashMap::new(),
            next_token: 0,
            up_since: now,
            last_answer: now,
            started_at: self.delivery.acknowledged_to(),
            marker: MarkerState::Unknown,
        });
        let links = stream::unfold(links, move |mut links| async move {
            let link = links.recv().await?;
            Some((Said { generation, link }, links))
        });
        ctx.add_stream(links);
    }

    /// Drops the connection; its stream ends and the next one is made after `pause`.
    fn reconnect_after(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        self.connected = None;
        self.show_connected(false);
        self.delivery.rewind();
        self.repair = None;
        self.repairing = false;
        ctx.run_later(pause, |publisher, ctx| {
            if publisher.connected.is_none() && publisher.farewell == Farewell::NotYet {
                publisher.connect(ctx);
            }
        });
    }

    fn show_connected(&self, is_connected: bool) {
        let lane = self.parts.feed.lane();
        self.parts
            .instruments
            .mqtt_connected
            .show(lane, is_connected);
    }

    fn back_off(&mut self) -> Duration {
        let pause = self.retry;
        self.retry = (self.retry * 2).min(RETRY.1);
        pause
    }

    /// Sends one message; false where there is no connection or no room.
    fn send(&mut self, errand: Errand, event: Arc<Event>) -> bool {
        let Some(connected) = self.connected.as_mut().filter(|connected| connected.is_up) else {
            return false;
        };
        let token = connected.next_token;
        if connected
            .outbound
            .try_send(Outbound { token, event })
            .is_err()
        {
            return false;
        }
        connected.next_token += 1;
        if connected.errands.is_empty() {
            // The broker was owed nothing until now, so it was not late.
            connected.last_answer = Instant::now();
        }
        connected.errands.insert(token, errand);
        true
    }

    fn has_room(&self) -> bool {
        self.connected
            .as_ref()
            .is_some_and(|connected| connected.is_up && connected.errands.len() < IN_FLIGHT)
    }

    /// Loads and sends as much as there is room for.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        // While a repair looks up balances nothing newer may overtake it.
        while !self.repairing && self.has_room() {
            match self.delivery.send_next() {
                Some((id, event)) => {
                    if !self.send(Errand::Entry(id), event) {
                        // Cannot be: there was room. The connection is gone and says so next.
                        self.delivery.rewind();
                        return;
                    }
                }
                None if self.delivery.is_alone() && self.delivery.in_flight() > 0 => return,
                None => {
                    if !self.load(ctx) {
                        return;
                    }
                }
            }
        }
    }

    /// Loads more entries; false where there are none, or they have to be read first.
    fn load(&mut self, ctx: &mut Context<Self>) -> bool {
        let room = WINDOW.saturating_sub(self.delivery.pending());
        if self.loading || room == 0 {
            return false;
        }
        let after = self.delivery.loaded_to();
        if let Some(notices) = self.parts.feed.recent_after(after, room) {
            let any = !notices.is_empty();
            self.take(&notices);
            return any;
        }
        self.loading = true;
        let feed = self.parts.feed.clone();
        let read = async move { feed.read_after(after, room).await };
        ctx.spawn(read.into_actor(self).map(|notices, publisher, ctx| {
            publisher.loading = false;
            match notices {
                Ok(notices) => {
                    publisher.take(&notices);
                    publisher.pump(ctx);
                }
                // The next tick tries again.
                Err(error) => log::warn!("the outbox waits, the journal is unreadable: {error}"),
            }
        }));
        false
    }

    fn take(&mut self, notices: &[Arc<Notice>]) {
        for notice in notices {
            if let Fact::Alert(step) = &notice.entry.fact
                && let Some(message) = &step.message
            {
                self.owed
                    .insert(notice.entry.position.seq, message.received_at);
            }
            self.delivery
                .load(notice.entry.position.seq, notice.events().to_vec());
        }
        // What has nothing to tell, such as somebody's signing in, is passed at once.
        let position = self.delivery.acknowledged_to();
        self.parts.gauge.store(position, Ordering::Relaxed);
    }

    fn up(&mut self, ctx: &mut Context<Self>) {
        let Some(connected) = &mut self.connected else {
            return;
        };
        connected.is_up = true;
        connected.up_since = Instant::now();
        connected.last_answer = Instant::now();
        self.parts.instruments.mqtt_connections.inc();
        self.show_connected(true);
        log::info!(
            "connected to the broker at {}:{}",
            self.parts.broker.host,
            self.parts.broker.port
        );
        if self.parts.feed.lane() == 0 {
            let event = Arc::new(self.presence("en_linea").event());
            self.send(Errand::Presence, event);
        }
        if let Some(statistics) = self.statistics.clone() {
            self.send(Errand::Statistics, statistics);
        }
        self.pump(ctx);
    }

    fn acknowledged(&mut self, token: u64, ctx: &mut Context<Self>) {
        let Some(connected) = &mut self.connected else {
            return;
        };
        let Some(errand) = connected.errands.remove(&token) else {
            return;
        };
        if errand != Errand::Statistics {
            // At quality of service 0 the broker has said nothing.
            connected.last_answer = Instant::now();
        }
        let purpose = match errand {
            Errand::Entry(id) => {
                // The answer to a device is the first message of its entry.
                if id.index == 0
                    && let Some(received_at) = self.owed.remove(&id.seq)
                {
                    let micros = self.parts.clock.now().saturating_sub(received_at);
                    let took = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
                    self.parts.instruments.devices.replied(took);
                }
                if self.delivery.acknowledge(id) {
                    self.retry = RETRY.0;
                    let position = self.delivery.acknowledged_to();
                    self.parts.gauge.store(position, Ordering::Relaxed);
                }
                "entry"
            }
            Errand::Marker(position) => {
                if let MarkerState::At(at) = &mut connected.marker {
                    *at = position.max(*at);
                }
                "marker"
            }
            Errand::Repair => "repair",
            Errand::Farewell => {
                self.farewell = Farewell::Heard;
                "presence"
            }
            Errand::Presence => "presence",
            Errand::Statistics => "statistics",
            Errand::Answer => "answer",
        };
        self.parts
            .instruments
            .mqtt_acknowledged
            .with_label_values(&[purpose])
            .inc();
        self.pump(ctx);
    }

    fn refused(&mut self, token: u64, unauthorized: bool, reason: &str, ctx: &mut Context<Self>) {
        self.parts
            .instruments
            .mqtt_refused
            .with_label_values(&[reason])
            .inc();
        let errand = self
            .connected
            .as_mut()
            .and_then(|c| c.errands.remove(&token));
        if unauthorized && errand == Some(Errand::Answer) {
            log::warn!("the broker does not let us answer a device ({reason})");
            return self.pump(ctx);
        }
        if unauthorized {
            log::error!(
                "the broker does not let us publish ({reason}): grant the user the topics \
                 banco/#, atalaya/# and empresas/#; nothing is lost, next try in {UNAUTHORIZED_PAUSE:?}"
            );
            return self.reconnect_after(UNAUTHORIZED_PAUSE, ctx);
        }
        log::warn!("the broker has refused a message: {reason}");
        match errand {
            Some(Errand::Entry(id)) => {
                let poison = self.delivery.fail(Some(id), reason);
                self.quarantine(poison);
            }
            // To repeat it on the next connection would be to repeat its refusal: the rest of the
            // repair goes on, and the next posting of that account tries again. A device whose
            // answer is refused asks again.
            Some(Errand::Repair | Errand::Answer) => return self.pump(ctx),
            _ => {}
        }
        let pause = self.back_off();
        self.reconnect_after(pause, ctx);
    }

    fn down(&mut self, cause: DownCause, reason: &str, ctx: &mut Context<Self>) {
        let was_up = self
            .connected
            .as_ref()
            .is_some_and(|connected| connected.is_up);
        let pause = match cause {
            DownCause::Unauthorized => {
                log::error!(
                    "the broker does not let us in: {reason}; check MQTT_USERNAME and \
                     MQTT_PASSWORD; nothing is lost, next try in {UNAUTHORIZED_PAUSE:?}"
                );
                UNAUTHORIZED_PAUSE
            }
            DownCause::TakenOver => {
                log::error!(
                    "another client has taken our client id: give each installation on this \
                     broker a NODO of its own; nothing is lost, next try in {UNAUTHORIZED_PAUSE:?}"
                );
                UNAUTHORIZED_PAUSE
            }
            DownCause::Network | DownCause::Broker => {
                let pause = self.back_off();
                log::warn!("no connection to the broker: {reason}; next try in {pause:?}");
                pause
            }
        };
        // Only an end without a reason can be a message's doing.
        if was_up && cause == DownCause::Network {
            let poison = self.delivery.fail(None, reason);
            self.quarantine(poison);
        }
        self.reconnect_after(pause, ctx);
    }

    fn quarantine(&mut self, poison: Option<Poison>) {
        let Some(poison) = poison else { return };
        self.parts.instruments.mqtt_quarantined.inc();
        log::error!(
            "a message of entry {} is quarantined, since the broker refuses it alone: {}",
            poison.id.seq,
            poison.reason
        );
        self.quarantined.push(Quarantined {
            seq: poison.id.seq,
            topic: poison.event.topic.clone(),
            payload: poison.event.payload.to_vec(),
            reason: poison.reason,
        });
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.store(ctx);
        let stalled = self.connected.as_ref().is_some_and(|connected| {
            connected.is_up
                && !connected.errands.is_empty()
                && connected.last_answer.elapsed() > STALLED
        });
        if stalled {
            log::warn!("the broker has acknowledged nothing for {STALLED:?}: connecting anew");
            let poison = self.delivery.fail(None, "no acknowledgement");
            self.quarantine(poison);
            return self.reconnect_after(RETRY.0, ctx);
        }
        self.look_for_marker();
        self.repair_some(ctx);
        self.renew_marker();
        self.pump(ctx);
        self.drain_on();
    }

    /// The last position that the broker has acknowledged long enough ago. When all is drained it
    /// is stopped in good order, so the last acknowledgement counts at once.
    fn settle(&mut self) -> i64 {
        let acknowledged = self.delivery.acknowledged_to();
        let settles_in = self.parts.settles_in;
        if settles_in.is_zero() || self.draining.is_some() {
            self.settled = acknowledged;
            return acknowledged;
        }
        let newest = self
            .settling
            .back()
            .map_or(self.settled, |(_, position)| *position);
        if acknowledged > newest {
            self.settling.push_back((Instant::now(), acknowledged));
        }
        while let Some((seen, position)) = self.settling.front()
            && seen.elapsed() >= settles_in
        {
            self.settled = *position;
            self.settling.pop_front();
        }
        self.settled
    }

    /// Writes the position, with what was quarantined on the way, in one commit.
    fn store(&mut self, ctx: &mut Context<Self>) {
        fail::fail_point!("publisher::before_store", |_| ());
        let position = self.settle();
        if self.storing || self.database_rests() || position == self.stored {
            return;
        }
        // What was given up behind the position waits for the commit that passes it.
        let passed = |message: &Quarantined| message.seq <= position;
        let (quarantined, later) = std::mem::take(&mut self.quarantined)
            .into_iter()
            .partition(passed);
        self.quarantined = later;
        let quarantined: Vec<Quarantined> = quarantined;
        let update = OutboxUpdate {
            lane: self.parts.feed.lane(),
            position,
            quarantined: quarantined.clone(),
        };
        let Ok(ticket) = self.parts.writer.move_outbox(update) else {
            // The writer is busy with money; the next tick asks again.
            self.quarantined.splice(0..0, quarantined).for_each(drop);
            return;
        };
        self.storing = true;
        ctx.spawn(ticket.into_actor(self).map(move |stored, publisher, _| {
            publisher.storing = false;
            if let Ok(Ok(())) = stored {
                publisher.stored = position;
            } else {
                publisher.rest_database();
                publisher
                    .quarantined
                    .splice(0..0, quarantined)
                    .for_each(drop);
            }
        }));
    }

    /// The database has failed: a second's rest, so that neither it nor the log is flooded.
    fn rest_database(&mut self) {
        self.database_rests_until = Some(Instant::now() + DATABASE_REST);
    }

    fn database_rests(&self) -> bool {
        self.database_rests_until
            .is_some_and(|until| Instant::now() < until)
    }

    /// Ends when all is published, marked and stored and goodbye is said, or when time is up.
    fn drain_on(&mut self) {
        let Some((deadline, _)) = &self.draining else {
            return;
        };
        let acknowledged = self.delivery.acknowledged_to();
        let behind = self.parts.feed.head().seq - acknowledged;
        let stored = self.stored == acknowledged;
        let up = self.connected.as_ref().filter(|connected| connected.is_up);
        // Without a broker there is nothing to wait for but the disk.
        let marked = up.is_none_or(|connected| match connected.marker {
            MarkerState::At(at) => at >= self.stored,
            MarkerState::Unknown | MarkerState::Repairing => true,
        });
        let published = up.is_none() || (behind == 0 && stored && marked);
        let late = Instant::now() >= *deadline;
        if (published || late) && self.farewell == Farewell::NotYet {
            let event = Arc::new(self.presence("fuera_de_linea").event());
            let said = self.parts.feed.lane() == 0 && self.send(Errand::Farewell, event);
            self.farewell = if said {
                Farewell::Said
            } else {
                Farewell::Heard
            };
        }
        let done = self.farewell == Farewell::Heard && stored;
        if (done || late)
            && let Some((_, answer)) = self.draining.take()
        {
            // The connection says DISCONNECT when it is let go, so the will is not published.
            self.connected = None;
            let _ = answer.send(behind);
        }
    }
}

impl Actor for MqttPublisher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.show_connected(false);
        self.parts
            .gauge
            .store(self.parts.position, Ordering::Relaxed);
        ctx.add_stream(super::news(self.parts.feed.news()));
        ctx.run_interval(TICK, Self::tick);
        self.connect(ctx);
    }
}

impl StreamHandler<Head> for MqttPublisher {
    fn handle(&mut self, _: Head, ctx: &mut Self::Context) {
        self.pump(ctx);
    }

    fn finished(&mut self, _: &mut Self::Context) {}
}

impl StreamHandler<Said> for MqttPublisher {
    fn handle(&mut self, said: Said, ctx: &mut Self::Context) {
        if self
            .connected
            .as_ref()
            .is_none_or(|now| now.generation != said.generation)
        {
            return;
        }
        match said.link {
            Link::Up => self.up(ctx),
            Link::Acknowledged(token) => self.acknowledged(token, ctx),
            Link::Refused {
                token,
                unauthorized,
                reason,
            } => {
                self.refused(token, unauthorized, &reason, ctx);
            }
            Link::Marker(marker) => self.marker(marker),
            Link::Down { cause, reason } => self.down(cause, &reason, ctx),
        }
    }

    /// One connection is over; the next is under way.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<Publish> for MqttPublisher {
    type Result = ();

    fn handle(&mut self, Publish(event): Publish, _: &mut Self::Context) {
        debug_assert_eq!(
            event.qos,
            Qos::AtMostOnce,
            "what must arrive is in the journal"
        );
        self.statistics = Some(Arc::clone(&event));
        self.send(Errand::Statistics, event);
    }
}

impl Handler<Answer> for MqttPublisher {
    type Result = ();

    fn handle(&mut self, Answer(event): Answer, _: &mut Self::Context) {
        // Beside the window of entries, so that a backlog does not keep a device waiting.
        if !self.send(Errand::Answer, event) {
            self.parts.instruments.devices.answers_dropped.inc();
        }
    }
}

impl Handler<Drain> for MqttPublisher {
    type Result = ResponseFuture<i64>;

    fn handle(&mut self, Drain { within }: Drain, _: &mut Self::Context) -> Self::Result {
        let (answer, drained) = oneshot::channel();
        self.draining = Some((Instant::now() + within, answer));
        Box::pin(async move { drained.await.unwrap_or(0) })
    }
}
