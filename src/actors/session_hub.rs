//! Who subscribes to what, and how committed events reach them.
//!
//! A session is either *live*, and each event is pushed to it as it is committed, or *catching
//! up*, and a task of its own reads the journal for it, waiting for room before each frame. Every
//! subscription starts with catching up (from the cursor it names, or from now); a live session
//! whose queue is full falls back to it. So one mechanism serves replay, retained balances and
//! slow readers, and order holds in all of them. Who takes no frame for [`PATIENCE`] is evicted.

use super::session::sight::Sight;
use crate::clock::Clock;
use crate::domain::{Cursor, Entry, Fact, Identity, Position};
use crate::instruments::Instruments;
use crate::storage::access::Standing;
use crate::storage::{AccessView, Feed, Feeds, Head, Notice, queries};
use crate::wire::events::{self, Event};
use crate::wire::{frames, topics};
use actix::prelude::*;
use bytes::Bytes;
use rumqttc::mqttbytes::{has_wildcards, matches};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a session may take no frame while frames wait for it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long an evicted session has to hear why.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a session whose token is no longer good has to hear it.
const REVOKED: Duration = Duration::from_millis(200);

/// How long it then has to answer what is under way and to leave by itself.
const LEAVING: Duration = Duration::from_secs(2);

/// How long a session that no longer shows life is left alone; its own heartbeat comes first.
const LIFELESS: Duration = Duration::from_secs(60);

/// How often lifeless sessions are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// How often it is looked whether tokens are still good: a revoked one ends its sessions within a
/// second.
const CHECK: Duration = Duration::from_millis(400);

/// Messages that wait for the hub.
const MAILBOX: usize = 1_024;

/// Entries taken from the journal at once.
const BATCH: usize = 256;

/// Names a session.
pub type SessionId = u64;

/// Something for a session's client. It waits in the session's own bounded mailbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Deliver {
    /// A frame.
    Frame(Bytes),
    /// The end, and why.
    Close(&'static str),
    /// The end at once: the token is no longer good.
    Revoked,
}

/// Ends a session from outside, even one whose client has stopped reading.
#[derive(Debug, Clone)]
pub struct KillSwitch {
    /// The connection, to be shut down under the session's feet. `None` where it is not known.
    pub socket: Option<Arc<socket2::Socket>>,
    /// When the session last showed life, in milliseconds of `epoch`.
    pub alive: Arc<AtomicU64>,
    /// What `alive` counts from.
    pub epoch: Instant,
}

impl KillSwitch {
    /// The session shows life.
    pub fn touch(&self) {
        let millis = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.alive.store(millis, Ordering::Relaxed);
    }

    fn silent_for(&self) -> Duration {
        let alive = Duration::from_millis(self.alive.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(alive)
    }

    fn pull(&self) {
        if let Some(socket) = &self.socket {
            // It may be closed already; then there is nothing left to end.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// What a session may see, and whether it still may.
#[derive(Debug, Clone)]
pub struct Pass {
    sight: Arc<Sight>,
    shown: Option<Shown>,
}

/// A token that was shown, and where it is seen whether it is still good.
#[derive(Debug, Clone)]
struct Shown {
    standing: Standing,
    access: Arc<AccessView>,
    clock: Clock,
}

impl Pass {
    /// The pass of somebody who has shown a token.
    #[must_use]
    pub fn new(standing: Standing, access: Arc<AccessView>, clock: Clock) -> Self {
        Self {
            sight: Arc::new(Sight::of(&standing.subject.identity)),
            shown: Some(Shown {
                standing,
                access,
                clock,
            }),
        }
    }

    /// The pass of somebody who has shown no token: nobody, or whoever is trusted for their address.
    /// Whether that still is so, their session looks at itself.
    #[must_use]
    pub fn trusted(identity: &Identity) -> Self {
        Self {
            sight: Arc::new(Sight::of(identity)),
            shown: None,
        }
    }

    /// Whether the token is still good, and for the same. An open session is a session in use.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.shown.as_ref().is_none_or(|shown| {
            let now = shown.clock.now();
            shown.access.stands(&shown.standing, now, true)
        })
    }
}

/// A session has begun.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Connect {
    /// Its name.
    pub id: SessionId,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// What it may see, for how long.
    pub pass: Pass,
    /// Where its frames go.
    pub frames: Recipient<Deliver>,
    /// How to end it.
    pub kill: KillSwitch,
}

/// A session has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Disconnect {
    /// Which session.
    pub id: SessionId,
    /// How it ended.
    pub reason: &'static str,
}

/// A session wants events. Answered with where it stands: what it has not seen comes after that.
#[derive(Debug, Message)]
#[rtype(result = "Option<Cursor>")]
pub struct Subscribe {
    /// Which session.
    pub id: SessionId,
    /// Valid MQTT filters that its principal may see.
    pub filters: Vec<String>,
    /// From where events are replayed; from now where there is none.
    pub from: Option<Cursor>,
}

/// A session has had enough of some filters.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Unsubscribe {
    /// Which session.
    pub id: SessionId,
    /// Filters as they were subscribed.
    pub filters: Vec<String>,
}

/// An event that is not in the journal, for those who are live. May be dropped.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Announce(pub Arc<Event>);

/// The house closes: every session is told to leave.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CloseAll;

/// Asks how many sessions there are.
#[derive(Debug, Message)]
#[rtype(result = "SessionCount")]
pub struct CountSessions;

/// How many sessions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, MessageResponse)]
pub struct SessionCount {
    /// Open sessions.
    pub clients: u64,
    /// Their distinct addresses.
    pub addresses: u64,
}

/// How far events have come: a sequence for each lane.
type Marks = Vec<i64>;

/// The mark of a lane.
fn mark(marks: &[i64], lane: i32) -> i64 {
    let lane = usize::try_from(lane).ok();
    lane.and_then(|lane| marks.get(lane)).copied().unwrap_or(0)
}

/// Moves the mark of a lane on, never back.
fn advance(marks: &mut [i64], Position { lane, seq }: Position) {
    let lane = usize::try_from(lane).ok();
    if let Some(mark) = lane.and_then(|lane| marks.get_mut(lane)) {
        *mark = seq.max(*mark);
    }
}

#[derive(Clone)]
struct Filter {
    pattern: String,
    /// Events up to here are not wanted.
    from: Marks,
    /// Events after `from` and up to here have been delivered under this filter.
    delivered_to: Marks,
    /// Steps of this number or later know this filter.
    known_from: u64,
}

/// What a session wants, and how far it has had it.
#[derive(Clone, Default)]
struct Filters(Vec<Filter>);

impl Filters {
    /// Whether the event at `position` is wanted and has not been delivered.
    fn want(&self, topic: &str, Position { lane, seq }: Position) -> bool {
        let mut wanted = false;
        for filter in self
            .0
            .iter()
            .filter(|filter| matches(topic, &filter.pattern))
        {
            let delivered_to = mark(&filter.delivered_to, lane);
            if mark(&filter.from, lane) < seq && seq <= delivered_to {
                return false;
            }
            wanted |= delivered_to < seq;
        }
        wanted
    }

    fn delivered(&mut self, position: Position) {
        self.delivered_by(u64::MAX, position);
    }

    /// Events up to `position` have been delivered by a step, under the filters that it knew.
    fn delivered_by(&mut self, step: u64, position: Position) {
        for filter in self.0.iter_mut().filter(|f| f.known_from <= step) {
            advance(&mut filter.delivered_to, position);
        }
    }

    fn add(&mut self, pattern: &str, from: Marks, known_from: u64) {
        self.remove(pattern);
        self.0.push(Filter {
            pattern: pattern.to_owned(),
            delivered_to: from.clone(),
            from,
            known_from,
        });
    }

    fn remove(&mut self, pattern: &str) {
        self.0.retain(|filter| filter.pattern != pattern);
    }

    /// In each lane, where the filter that is furthest behind there stands.
    fn behind(&self) -> Option<Marks> {
        let marks = self.0.iter().map(|filter| filter.delivered_to.clone());
        marks.reduce(|mut least, marks| {
            for (least, mark) in least.iter_mut().zip(marks) {
                *least = mark.min(*least);
            }
            least
        })
    }

    fn have_wildcards(&self) -> bool {
        self.0.iter().any(|filter| has_wildcards(&filter.pattern))
    }
}

struct Session {
    address: Option<IpAddr>,
    pass: Pass,
    frames: Recipient<Deliver>,
    kill: KillSwitch,
    filters: Filters,
    /// Topics whose retained message is still to be sent, and as of which marks. Each is one of the
    /// filters, which the session bounds.
    owed: Vec<(String, Marks)>,
    /// Whether it has had all there is. If not, one step is under way, and one only: two would
    /// repeat and reorder what the other delivers.
    live: bool,
}

/// Distributes committed events to sessions.
///
/// * Full: it follows the feed at its own pace, so news cannot overflow it; sessions that join
///   wait their turn.
/// * Panic: ends the process. Restart: sessions are gone with the process and resubscribe.
pub struct SessionHub {
    feeds: Feeds,
    instruments: Instruments,
    /// All entries up to here have been distributed to live sessions.
    marks: Marks,
    sessions: HashMap<SessionId, Session>,
    exact: HashMap<String, HashSet<SessionId>>,
    wild: HashSet<SessionId>,
    /// The latest retained events that are not in the journal.
    retained: HashMap<String, Arc<Event>>,
    /// Steps taken, by all sessions.
    steps: u64,
}

impl SessionHub {
    /// A hub that follows `feeds` from their heads.
    #[must_use]
    pub fn new(feeds: Feeds, instruments: Instruments) -> Self {
        let marks = heads(&feeds);
        Self {
            feeds,
            instruments,
            marks,
            sessions: HashMap::new(),
            exact: HashMap::new(),
            wild: HashSet::new(),
            retained: HashMap::new(),
            steps: 0,
        }
    }

    /// Keeps a retained event for those who subscribe later.
    pub fn retain(&mut self, event: Event) {
        self.retained.insert(event.topic.clone(), Arc::new(event));
    }

    /// Distributes what is new, from the ring where possible.
    fn follow(&mut self, ctx: &mut Context<Self>) {
        if self
            .sessions
            .values()
            .all(|session| session.filters.0.is_empty())
        {
            self.marks = heads(&self.feeds);
            return;
        }
        for feed in &self.feeds.clone() {
            loop {
                match feed.recent_after(mark(&self.marks, feed.lane()), BATCH) {
                    Some(notices) if notices.is_empty() => break,
                    Some(notices) => self.distribute(&notices, ctx),
                    None => return self.follow_journal(feed.clone(), ctx),
                }
            }
        }
    }

    /// The ring does not reach back: reads the journal, then follows on.
    fn follow_journal(&mut self, feed: Feed, ctx: &mut Context<Self>) {
        let seq = mark(&self.marks, feed.lane());
        let read = async move { feed.read_after(seq, BATCH).await };
        ctx.wait(
            read.into_actor(self)
                .map(|notices, hub, ctx| match notices {
                    Ok(notices) => {
                        hub.distribute(&notices, ctx);
                        hub.follow(ctx);
                    }
                    // The next news tries again; nothing is skipped meanwhile.
                    Err(error) => log::warn!("sessions wait, the journal cannot be read: {error}"),
                }),
        );
    }

    /// Distributes entries of one lane.
    fn distribute(&mut self, notices: &[Arc<Notice>], ctx: &mut Context<Self>) {
        let Some(last) = notices.last() else { return };
        for notice in notices {
            for (event, passed) in with_cursors(notice) {
                let cursor = Cursor::new(self.marks.clone()).with(passed);
                self.push(event, &notice.entry, &cursor, ctx);
            }
            advance(&mut self.marks, notice.entry.position);
        }
        let reached = last.entry.position;
        for session in self.sessions.values_mut().filter(|session| session.live) {
            session.filters.delivered(reached);
        }
    }

    /// Pushes one event to the live sessions that want it.
    fn push(&mut self, event: &Event, entry: &Entry, cursor: &Cursor, ctx: &mut Context<Self>) {
        let position = entry.position;
        let mut frame = None;
        let mut full = Vec::new();
        for id in self.candidates(&event.topic) {
            let Some(session) = self.sessions.get(&id) else {
                continue;
            };
            let wanted = session.live && session.filters.want(&event.topic, position);
            if !wanted || !session.pass.sight.sees(&event.topic, Some(entry)) {
                continue;
            }
            let frame = frame.get_or_insert_with(|| frames::event(event, Some(cursor), false));
            if session
                .frames
                .try_send(Deliver::Frame(frame.clone()))
                .is_err()
            {
                full.push(id);
            }
        }
        for id in full {
            // An earlier event of this very entry may be delivered twice; nothing is lost.
            if let Some(session) = self.sessions.get_mut(&id) {
                let Position { lane, seq } = position;
                session.filters.delivered(Position { lane, seq: seq - 1 });
            }
            self.step(id, ctx);
        }
    }

    fn candidates(&self, topic: &str) -> Vec<SessionId> {
        let exact = self.exact.get(topic).into_iter().flatten();
        let wild = self.wild.iter().filter(|id| {
            !self
                .exact
                .get(topic)
                .is_some_and(|exact| exact.contains(id))
        });
        exact.chain(wild).copied().collect()
    }

    /// Starts a step that brings a session nearer to now: the retained messages that it is owed,
    /// or a batch of what it has missed. Whoever calls knows that none is under way.
    fn step(&mut self, id: SessionId, ctx: &mut Context<Self>) {
        self.steps += 1;
        let number = self.steps;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.live = false;
        let from = session
            .filters
            .behind()
            .unwrap_or_else(|| self.marks.clone());
        let owed = std::mem::take(&mut session.owed);
        let announced: Vec<_> = owed
            .iter()
            .filter(|(topic, _)| session.pass.sight.sees(topic, None))
            .filter_map(|(topic, _)| self.retained.get(topic).cloned())
            .collect();
        // The lane in which it is furthest behind, so that none waits for a busy one for ever.
        let behind = |feed: &&Feed| mark(&self.marks, feed.lane()) - mark(&from, feed.lane());
        let Some(feed) = self.feeds.iter().max_by_key(behind).cloned() else {
            return;
        };
        let frames = session.frames.clone();
        let sight = Arc::clone(&session.pass.sight);
        let filters = session.filters.clone();
        let step = async move {
            if owed.is_empty() {
                return replay(feed, frames, (filters, sight), from).await;
            }
            for event in announced {
                hand_over(&frames, frames::event(&event, None, true)).await?;
            }
            for (topic, at) in owed {
                if let Some(frame) = retained_balance(&feed, &sight, &topic, at).await? {
                    hand_over(&frames, frame).await?;
                }
            }
            let lane = feed.lane();
            let seq = mark(&from, lane);
            Ok(Position { lane, seq })
        };
        let step = step.into_actor(self);
        ctx.spawn(step.map(move |reached, hub, ctx| hub.stepped(id, number, reached, ctx)));
    }

    /// A step has brought a session to `reached`: it goes live, or goes on.
    fn stepped(
        &mut self,
        id: SessionId,
        step: u64,
        reached: Result<Position, Eviction>,
        ctx: &mut Context<Self>,
    ) {
        let reached = match reached {
            Ok(reached) => reached,
            Err(eviction) => return self.evict(id, eviction.reason()),
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.filters.delivered_by(step, reached);
        let behind = session.filters.behind();
        let has_all = behind.is_none_or(|behind| {
            let mut marks = behind.iter().zip(&self.marks);
            marks.all(|(had, there_is)| had >= there_is)
        });
        if session.owed.is_empty() && has_all {
            session.live = true;
        } else {
            self.step(id, ctx);
        }
    }

    fn evict(&mut self, id: SessionId, reason: &'static str) {
        if let Some(session) = self.forget(id) {
            log::warn!("session {id} is evicted: {reason}");
            self.instruments
                .sessions_ended
                .with_label_values(&[reason])
                .inc();
            actix::spawn(end(session, reason));
        }
    }

    fn forget(&mut self, id: SessionId) -> Option<Session> {
        let session = self.sessions.remove(&id)?;
        for filter in &session.filters.0 {
            self.unindex(id, &filter.pattern);
        }
        self.wild.remove(&id);
        Some(session)
    }

    fn unindex(&mut self, id: SessionId, pattern: &str) {
        if let Some(ids) = self.exact.get_mut(pattern) {
            ids.remove(&id);
            if ids.is_empty() {
                self.exact.remove(pattern);
            }
        }
    }

    fn sweep(&mut self) {
        let lifeless: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.kill.silent_for() > LIFELESS)
            .map(|(id, _)| *id)
            .collect();
        for id in lifeless {
            self.evict(id, "lifeless");
        }
    }

    /// Ends the sessions whose tokens are no longer good.
    fn check_passes(&mut self) {
        let over: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.pass.is_good())
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.turn_out(id);
        }
    }

    /// Ends a session whose token is no longer good: at once, with a word if there is time for it.
    fn turn_out(&mut self, id: SessionId) {
        if let Some(session) = self.forget(id) {
            log::info!("session {id} ends with its token");
            self.instruments
                .sessions_ended
                .with_label_values(&["revoked"])
                .inc();
            // A client that reads hears why; one that does not loses its connection all the same.
            let _ = session.frames.try_send(Deliver::Revoked);
            actix::spawn(async move {
                tokio::time::sleep(REVOKED).await;
                session.kill.pull();
            });
        }
    }
}

/// Where the journals of all lanes end.
fn heads(feeds: &Feeds) -> Marks {
    feeds.iter().map(|feed| feed.head().seq).collect()
}

/// Why a task gave up on a session.
enum Eviction {
    SlowReader,
    Gone,
    Journal,
}

impl Eviction {
    const fn reason(&self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::Gone => "gone",
            Self::Journal => "journal_unreadable",
        }
    }
}

/// Ends a session: with a reason if it still listens, by its socket if not.
async fn end(session: Session, reason: &'static str) {
    let _ = tokio::time::timeout(FAREWELL, session.frames.send(Deliver::Close(reason))).await;
    tokio::time::sleep(LEAVING).await;
    session.kill.pull();
}

/// Waits for room and hands a frame over.
async fn hand_over(frames: &Recipient<Deliver>, frame: Bytes) -> Result<(), Eviction> {
    match tokio::time::timeout(PATIENCE, frames.send(Deliver::Frame(frame))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Eviction::Gone),
        Err(_) => Err(Eviction::SlowReader),
    }
}

/// Delivers what `filters` want of one batch after `from`; returns how far it came.
async fn replay(
    feed: Feed,
    frames: Recipient<Deliver>,
    (filters, sight): (Filters, Arc<Sight>),
    from: Marks,
) -> Result<Position, Eviction> {
    let (lane, seq) = (feed.lane(), mark(&from, feed.lane()));
    let from = Cursor::new(from);
    let notices = feed.read_after(seq, BATCH).await.map_err(|error| {
        log::warn!("a session cannot catch up: {error}");
        Eviction::Journal
    })?;
    let mut reached = Position { lane, seq };
    for notice in notices {
        let position = notice.entry.position;
        for (event, passed) in with_cursors(&notice) {
            let wanted = filters.want(&event.topic, position);
            if wanted && sight.sees(&event.topic, Some(&notice.entry)) {
                let cursor = from.with(passed);
                hand_over(&frames, frames::event(event, Some(&cursor), false)).await?;
            }
        }
        reached = position;
    }
    Ok(reached)
}

/// The events of an entry, each with the cursor from which to go on after it. Only the last has
/// passed the entry: whoever is cut off in between gets the entry's events again rather than lose
/// the rest, and tells repeats by `tx_id`.
fn with_cursors(notice: &Notice) -> impl Iterator<Item = (&Arc<Event>, Position)> {
    let Position { lane, seq } = notice.entry.position;
    let last = notice.events().len().saturating_sub(1);
    notice
        .events()
        .iter()
        .enumerate()
        .map(move |(index, event)| {
            let passed = if index == last { seq } else { seq - 1 };
            (event, Position { lane, seq: passed })
        })
}

/// The frame of what a broker would have retained on `topic` as of the marks `at`.
async fn retained_balance(
    feed: &Feed,
    sight: &Sight,
    topic: &str,
    at: Marks,
) -> Result<Option<Bytes>, Eviction> {
    let Some((account, within)) = topics::account_of(topic).zip(sight.accounts().cloned()) else {
        return Ok(None);
    };
    let cursor = Cursor::new(at.clone());
    let entry = feed
        .read(move |connection| {
            let found = queries::find_account(connection, &within, &account)?;
            let Some(last) = found.map(|account| account.last) else {
                return Ok(None);
            };
            queries::posting_until(connection, last, mark(&at, last.lane))
        })
        .await
        .map_err(|_| Eviction::Journal)?;
    Ok(entry.and_then(|entry| match &entry.fact {
        Fact::Posted(movement) => {
            let event = events::balance_event(&entry, movement);
            let cursor = cursor.with(entry.position);
            Some(frames::event(&event, Some(&cursor), true))
        }
        _ => None,
    }))
}

impl Actor for SessionHub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        for feed in &self.feeds {
            ctx.add_stream(super::news(feed.news()));
        }
        ctx.run_interval(SWEEP, |hub, _| hub.sweep());
        ctx.run_interval(CHECK, |hub, _| hub.check_passes());
    }
}

impl StreamHandler<Head> for SessionHub {
    fn handle(&mut self, _: Head, ctx: &mut Self::Context) {
        self.follow(ctx);
    }

    /// The writer is closed: sessions are about to be closed too, by the application.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<Connect> for SessionHub {
    type Result = ();

    fn handle(&mut self, joined: Connect, _: &mut Self::Context) {
        joined.kill.touch();
        let session = Session {
            address: joined.address,
            pass: joined.pass,
            frames: joined.frames,
            kill: joined.kill,
            filters: Filters::default(),
            owed: Vec::new(),
            live: true,
        };
        self.sessions.insert(joined.id, session);
    }
}

impl Handler<Disconnect> for SessionHub {
    type Result = ();

    fn handle(&mut self, Disconnect { id, reason }: Disconnect, _: &mut Self::Context) {
        if self.forget(id).is_some() {
            self.instruments
                .sessions_ended
                .with_label_values(&[reason])
                .inc();
        }
    }
}

impl Handler<Subscribe> for SessionHub {
    type Result = Option<Cursor>;

    fn handle(&mut self, asked: Subscribe, ctx: &mut Self::Context) -> Self::Result {
        fail::fail_point!("session_hub::subscribe");
        self.follow(ctx);
        let now = self.marks.clone();
        let from: Marks = match &asked.from {
            None => now.clone(),
            Some(cursor) => {
                let lanes = now.iter().enumerate();
                lanes.map(|(lane, now)| cursor.at(lane).min(*now)).collect()
            }
        };
        let known_from = self.steps + 1;
        let session = self.sessions.get_mut(&asked.id)?;
        if session.live {
            for (lane, seq) in (0..).zip(&now) {
                session.filters.delivered(Position { lane, seq: *seq });
            }
        }
        for pattern in asked.filters {
            session.filters.add(&pattern, from.clone(), known_from);
            session.owed.retain(|(topic, _)| *topic != pattern);
            if has_wildcards(&pattern) {
                self.wild.insert(asked.id);
                continue;
            }
            if asked.from.is_none() {
                session.owed.push((pattern.clone(), now.clone()));
            }
            self.exact.entry(pattern).or_default().insert(asked.id);
        }
        // A step that is under way is followed by one that knows the new filters.
        if session.live {
            self.step(asked.id, ctx);
        }
        Some(Cursor::new(from))
    }
}

impl Handler<Unsubscribe> for SessionHub {
    type Result = ();

    fn handle(&mut self, asked: Unsubscribe, _: &mut Self::Context) {
        let Some(session) = self.sessions.get_mut(&asked.id) else {
            return;
        };
        for pattern in &asked.filters {
            session.filters.remove(pattern);
            session.owed.retain(|(topic, _)| topic != pattern);
        }
        if !session.filters.have_wildcards() {
            self.wild.remove(&asked.id);
        }
        for pattern in &asked.filters {
            self.unindex(asked.id, pattern);
        }
    }
}

impl Handler<Announce> for SessionHub {
    type Result = ();

    fn handle(&mut self, Announce(event): Announce, _: &mut Self::Context) {
        if event.retain {
            self.retained
                .insert(event.topic.clone(), Arc::clone(&event));
        }
        let mut frame = None;
        for id in self.candidates(&event.topic) {
            let Some(session) = self.sessions.get(&id) else {
                continue;
            };
            if session.live
                && session.pass.sight.sees(&event.topic, None)
                && session
                    .filters
                    .0
                    .iter()
                    .any(|f| matches(&event.topic, &f.pattern))
            {
                let frame = frame.get_or_insert_with(|| frames::event(&event, None, false));
                let _ = session.frames.try_send(Deliver::Frame(frame.clone()));
            }
        }
    }
}

impl Handler<CloseAll> for SessionHub {
    type Result = ();

    fn handle(&mut self, _: CloseAll, ctx: &mut Self::Context) {
        // What was committed before is told before the goodbye.
        self.follow(ctx);
        let all: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in all {
            self.evict(id, "closing");
        }
    }
}

impl Handler<CountSessions> for SessionHub {
    type Result = SessionCount;

    fn handle(&mut self, _: CountSessions, _: &mut Self::Context) -> SessionCount {
        let addresses: HashSet<_> = self
            .sessions
            .values()
            .filter_map(|session| session.address)
            .collect();
        SessionCount {
            clients: self.sessions.len() as u64,
            addresses: addresses.len() as u64,
        }
    }
}
