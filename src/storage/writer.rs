//! Group commit: a thread and a connection a lane, one transaction for all who wait there.
//!
//! A disk flush costs the same for one order as for two hundred. While a group is being committed
//! the next one gathers in a bounded queue; when the thread comes back it takes what is there, at
//! most [`GROUP`], without waiting for more. Replies leave after `COMMIT` has returned, never
//! before. A rejected order rejects alone; a failed commit is answered as failed to all its group,
//! and clients repeat under the same key.
//!
//! Each account belongs to one lane, by its cédula; what belongs to no account goes to the first.
//! Whoever writes to a lane holds its room; a transfer between accounts of two lanes holds both, in
//! the order of lanes, and is one transaction.

use super::access::{self, Access, AccessAnswer, AccessOrder, AccessRefusal, AccessSettings};
use super::chain::Link;
use super::connection::{Location, begin, commit, keep, reopen_writer};
use super::hub::{self, Hub, HubAnswer, HubOrder, HubRefusal, HubSettings};
use super::ledger::{Lane, LaneSetup, Undecided};
use super::schema::{outbox, outbox_quarantine};
use super::setback::{self, Setback, TRIES};
use super::{Connection, Feeds, StorageError};
use crate::clock::Clock;
use crate::domain::{Decision, Order};
use crate::instruments::Instruments;
use diesel::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// The most operations in one group: enough to make the flush negligible, few enough that the
/// first of them does not wait long for the last.
pub const GROUP: usize = 256;

/// The most operations that wait. At a commit of a few milliseconds they wait well under a second;
/// more would only be answered later than their clients care to wait.
pub const QUEUE: usize = 2_048;

/// How often a lane looks after its connection, whatever it has to do: a transfer to another lane
/// goes over the connection of one of them alone.
const TEND: Duration = Duration::from_secs(1);

/// Why something was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue is full; nothing was changed.
    #[error("too many operations at once")]
    Overloaded,
    /// The database does not take writes; a retry under the same key tells what became of it.
    #[error("the database is unavailable")]
    Unavailable,
    /// The writer is closing; nothing was changed.
    #[error("shutting down")]
    ShuttingDown,
    /// The key was used for another command; nothing was changed.
    #[error("the key was used with another command")]
    KeyReused,
    /// The site does not exist; nothing was changed.
    #[error("the site does not exist")]
    UnknownSite,
    /// Origin and destination are one account; nothing was changed.
    #[error("origin and destination are the same account")]
    SameAccount,
    /// The account is not where the order has to find it; nothing was changed.
    #[error("the account is not where this has to find it")]
    OutOfPlace,
}

/// The progress of a lane's publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxUpdate {
    /// The lane.
    pub lane: i32,
    /// All entries up to here are acknowledged by the broker.
    pub position: i64,
    /// Messages given up on the way, in the same commit.
    pub quarantined: Vec<Quarantined>,
}

/// A message that the broker refused alone, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The entry it belongs to.
    pub seq: i64,
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// What the broker said.
    pub reason: String,
}

/// Resolves when an operation is durable, or not.
pub type Ticket<T> = oneshot::Receiver<Result<T, WriteError>>;

/// What an order's ticket resolves to.
type Verdict = Result<Decision, WriteError>;

/// What a hub order's ticket resolves to.
type HubVerdict = Result<HubAnswer, HubRefusal>;

/// What an access order's ticket resolves to.
type AccessVerdict = Result<AccessAnswer, AccessRefusal>;

enum Operation {
    Order(Box<Order>, oneshot::Sender<Verdict>),
    Hub(Box<HubOrder>, oneshot::Sender<HubVerdict>),
    Access(Box<AccessOrder>, oneshot::Sender<AccessVerdict>),
    Outbox(OutboxUpdate, oneshot::Sender<Result<(), WriteError>>),
    Close,
}

/// The way to the writer's threads; clones share it.
#[derive(Debug, Clone)]
pub struct Writer {
    queues: Arc<[mpsc::Sender<Operation>]>,
    failed: watch::Receiver<Option<String>>,
}

/// What the threads need.
#[derive(Debug)]
pub struct WriterParts {
    /// Where the database is.
    pub location: Location,
    /// The company's row.
    pub company: i64,
    /// Where commits are told: as many feeds as there are lanes.
    pub feeds: Feeds,
    /// The time.
    pub clock: Clock,
    /// Where commits are counted.
    pub instruments: Instruments,
    /// How the alert hub behaves.
    pub hub: HubSettings,
    /// Who is let in.
    pub access: AccessSettings,
}

impl Writer {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`StorageError`] where a lane cannot be loaded or a thread not be started.
    pub fn start(parts: WriterParts) -> Result<Self, StorageError> {
        let house = Arc::new(House::open(parts)?);
        let (failure, failed) = watch::channel(None);
        let failure = Arc::new(failure);
        let mut queues = Vec::new();
        for lane in 0..house.rooms.len() {
            let (queue, operations) = mpsc::channel(QUEUE);
            let thread = LaneThread {
                house: Arc::clone(&house),
                lane,
                operations,
                failure: Arc::clone(&failure),
            };
            let unstarted = |e: std::io::Error| StorageError::Inconsistent {
                what: format!("no thread for the writer: {e}"),
            };
            let waiting = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(unstarted)?;
            std::thread::Builder::new()
                .name(format!("writer {lane}"))
                .spawn(move || thread.run(&waiting))
                .map_err(unstarted)?;
            queues.push(queue);
        }
        Ok(Self {
            queues: queues.into(),
            failed,
        })
    }

    /// Hands in an order. The ticket resolves after its group's commit.
    ///
    /// # Errors
    /// [`WriteError::Overloaded`] or [`WriteError::ShuttingDown`], at once.
    pub fn submit(&self, order: Order) -> Result<Ticket<Decision>, WriteError> {
        let (reply, ticket) = oneshot::channel();
        let lane = Lane::of(order.command.account(), self.queues.len());
        self.push(lane, Operation::Order(Box::new(order), reply))?;
        Ok(ticket)
    }

    /// Hands in an order to the alert hub. The ticket resolves after its group's commit.
    ///
    /// # Errors
    /// [`WriteError::Overloaded`] or [`WriteError::ShuttingDown`], at once.
    pub fn submit_to_hub(
        &self,
        order: HubOrder,
    ) -> Result<oneshot::Receiver<HubVerdict>, WriteError> {
        let (reply, ticket) = oneshot::channel();
        self.push(0, Operation::Hub(Box::new(order), reply))?;
        Ok(ticket)
    }

    /// Hands in a change of access. The ticket resolves after its group's commit.
    ///
    /// # Errors
    /// [`WriteError::Overloaded`] or [`WriteError::ShuttingDown`], at once.
    pub fn submit_access(
        &self,
        order: AccessOrder,
    ) -> Result<oneshot::Receiver<AccessVerdict>, WriteError> {
        let (reply, ticket) = oneshot::channel();
        self.push(0, Operation::Access(Box::new(order), reply))?;
        Ok(ticket)
    }

    /// Hands in a publisher's progress.
    ///
    /// # Errors
    /// [`WriteError::Overloaded`] or [`WriteError::ShuttingDown`], at once.
    pub fn move_outbox(&self, update: OutboxUpdate) -> Result<Ticket<()>, WriteError> {
        let (reply, ticket) = oneshot::channel();
        let lane = usize::try_from(update.lane).unwrap_or(0);
        self.push(lane, Operation::Outbox(update, reply))?;
        Ok(ticket)
    }

    /// Operations that wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        let waiting = |queue: &mpsc::Sender<Operation>| queue.max_capacity() - queue.capacity();
        self.queues.iter().map(waiting).sum()
    }

    /// Resolves if the writer stops because going on could do harm; says why.
    pub async fn failure(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The threads are gone without a word: they were closed. There is no failure to tell.
            Err(_) => std::future::pending().await,
        }
    }

    /// Commits what waits and ends the threads; what comes later is refused.
    pub async fn close(&self) {
        let mut told = false;
        for queue in self.queues.iter() {
            told |= queue.send(Operation::Close).await.is_ok();
        }
        if told {
            // The threads hold the sender of failures until they end.
            let mut ended = self.failed.clone();
            while ended.changed().await.is_ok() {}
        }
    }

    fn push(&self, lane: usize, operation: Operation) -> Result<(), WriteError> {
        let queue = self.queues.get(lane).ok_or(WriteError::Unavailable)?;
        queue.try_send(operation).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
            mpsc::error::TrySendError::Closed(_) if self.failed.borrow().is_some() => {
                WriteError::Unavailable
            }
            mpsc::error::TrySendError::Closed(_) => WriteError::ShuttingDown,
        })
    }
}

/// A lane's connection and what is remembered of the database behind it. A group that fails takes
/// its session with it: what the database then holds is read anew, never guessed.
struct Session {
    connection: Connection,
    lane: Lane,
    /// What belongs to no account stands in the first lane.
    common: Option<Common>,
}

struct Common {
    hub: Hub,
    access: Access,
}

impl Session {
    fn open(house: &House, lane: usize, before: &mut Option<i64>) -> Result<Self, StorageError> {
        let parts = &house.parts;
        let setup = house.setup(lane);
        let mut connection = reopen_writer(&parts.location, setup.lane, before)?;
        let common = if lane == 0 {
            let now = parts.clock.now();
            Some(Common {
                hub: Hub::load(&mut connection, parts.hub.clone(), now)?,
                access: Access::load(&mut connection, &parts.access, now)?,
            })
        } else {
            None
        };
        let lane_state = Lane::load(&mut connection, setup)?;
        if let Some(feed) = parts.feeds.lane(lane) {
            feed.restart(lane_state.head());
        }
        Ok(Self {
            connection,
            lane: lane_state,
            common,
        })
    }
}

/// The lanes: in each room the session of one, for whoever writes there.
struct House {
    parts: WriterParts,
    next_account: Arc<AtomicI64>,
    rooms: Box<[Mutex<Room>]>,
}

/// Where one lane is written.
#[derive(Default)]
struct Room {
    /// None after a failure, until somebody comes to write.
    session: Option<Session>,
    /// What a server knows the connection by, the last one where there is none.
    connection: Option<i64>,
    /// Whether it was said that there is no session and none to be had.
    is_told: bool,
}

/// Rooms that somebody holds, in the order of lanes.
type Held<'a> = Vec<(usize, MutexGuard<'a, Room>)>;

impl House {
    fn open(parts: WriterParts) -> Result<Self, StorageError> {
        let lanes = parts.feeds.count();
        let house = Self {
            parts,
            next_account: Arc::new(AtomicI64::new(1)),
            rooms: (0..lanes).map(|_| Mutex::default()).collect(),
        };
        house.open_missing(&mut house.hold(&(0..lanes).collect::<Vec<_>>()))?;
        Ok(house)
    }

    fn setup(&self, lane: usize) -> LaneSetup {
        LaneSetup {
            lane: i32::try_from(lane).unwrap_or(i32::MAX),
            lanes: self.rooms.len(),
            company: self.parts.company,
            next_account: Arc::clone(&self.next_account),
        }
    }

    /// Holds the rooms of `lanes`, which are in order: whoever else wants some of them comes after
    /// or before, and nobody waits for somebody who waits for them.
    fn hold(&self, lanes: &[usize]) -> Held<'_> {
        let rooms = lanes.iter().filter_map(|lane| {
            let room = self.rooms.get(*lane)?;
            Some((*lane, room.lock().unwrap_or_else(PoisonError::into_inner)))
        });
        rooms.collect()
    }

    /// Brings a unit of work into the database and tells of it: again from the start where that is
    /// what the database asks for, or where the connection was lost and the work is not there.
    fn persist(
        &self,
        lanes: &[usize],
        work: &mut dyn FnMut(&mut [&mut Session]) -> Result<(), Failed>,
    ) -> Result<(), StorageError> {
        let mut held = self.hold(lanes);
        let mut tries = 1;
        loop {
            self.open_missing(&mut held)?;
            let before = marks(&held);
            let failed = match work(&mut sessions(&mut held)) {
                Ok(()) => {
                    self.tell(&mut held);
                    return Ok(());
                }
                Err(failed) => failed,
            };
            let reached = marks(&held);
            for (_, room) in &mut held {
                room.session = None;
            }
            let setback = setback::of(&failed.error);
            if setback == Setback::Fatal || tries == TRIES {
                return Err(failed.error);
            }
            log::warn!(
                "a group is tried again ({tries} of {TRIES}): {}",
                failed.error
            );
            setback::pause(tries);
            tries += 1;
            if failed.at_commit && setback == Setback::Lost {
                // Whoever holds a lane's lock knows that the commit is over, whatever came of it,
                // and the head of its journal tells.
                self.open_missing(&mut held)?;
                let found = marks(&held);
                if found == reached && found != before {
                    log::warn!("the reply to a commit was lost, but not the commit");
                    self.tell(&mut held);
                    return Ok(());
                }
            }
        }
    }

    fn open_missing(&self, held: &mut Held<'_>) -> Result<(), StorageError> {
        for (lane, room) in held {
            if room.session.is_none() {
                let session = Session::open(self, *lane, &mut room.connection)?;
                room.session = Some(session);
            }
        }
        Ok(())
    }

    /// Keeps a lane's session alive, and opens one where there is none: what was committed and could
    /// not be looked up then must not wait for somebody who comes to write.
    fn tend(&self, lane: usize) -> Result<(), StorageError> {
        let mut held = self.hold(&[lane]);
        for (_, room) in &mut held {
            let kept = room
                .session
                .as_mut()
                .map(|session| keep(&mut session.connection));
            match kept {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => log::warn!("lane {lane} lost its connection: {error}"),
                None => {}
            }
            room.session = None;
        }
        let opened = self.open_missing(&mut held);
        for (_, room) in &mut held {
            match &opened {
                Ok(()) => {
                    log::info!("lane {lane} is open again");
                    room.is_told = false;
                }
                Err(error) if !std::mem::replace(&mut room.is_told, true) => {
                    log::warn!("lane {lane} cannot be opened, and is tried until it can: {error}");
                }
                Err(_) => {}
            }
        }
        opened.or_else(|error| if error.is_fatal() { Err(error) } else { Ok(()) })
    }

    /// What is committed becomes visible: before anybody is answered, so that who changes a rule
    /// and hears that it is done finds it done.
    fn tell(&self, rooms: &mut Held<'_>) {
        for (lane, room) in rooms {
            let Some(session) = room.session.as_mut() else {
                continue;
            };
            let head = session.lane.head();
            let entries = session.lane.committed();
            if let Some(common) = &mut session.common {
                common.hub.committed();
                common.access.committed();
            }
            if let Some(feed) = self.parts.feeds.lane(*lane).filter(|_| !entries.is_empty()) {
                feed.publish(entries, head);
            }
        }
    }
}

fn sessions<'a>(held: &'a mut Held<'_>) -> Vec<&'a mut Session> {
    let rooms = held.iter_mut();
    rooms
        .filter_map(|(_, room)| room.session.as_mut())
        .collect()
}

/// Where the journals of the rooms end.
fn marks(held: &Held<'_>) -> Vec<Option<(i64, Link)>> {
    let rooms = held.iter();
    rooms
        .map(|(_, room)| room.session.as_ref().map(|session| session.lane.mark()))
        .collect()
}

struct LaneThread {
    house: Arc<House>,
    lane: usize,
    operations: mpsc::Receiver<Operation>,
    failure: Arc<watch::Sender<Option<String>>>,
}

/// Orders of a group, with the replies and what they will say if the commit succeeds.
#[derive(Default)]
struct Orders {
    orders: Vec<Order>,
    decided: Vec<(oneshot::Sender<Verdict>, Verdict)>,
}

/// A group, taken apart: the work, and the replies with what they will say if the commit succeeds.
#[derive(Default)]
struct Group {
    own: Orders,
    /// Transfers to accounts of other lanes.
    across: BTreeMap<usize, Orders>,
    hub_orders: Vec<HubOrder>,
    access_orders: Vec<AccessOrder>,
    updates: Vec<OutboxUpdate>,
    access_decided: Vec<(oneshot::Sender<AccessVerdict>, AccessVerdict)>,
    hub_decided: Vec<(oneshot::Sender<HubVerdict>, HubVerdict)>,
    moved: Vec<oneshot::Sender<Result<(), WriteError>>>,
    closing: bool,
}

impl LaneThread {
    /// Commits one group after the other until it is closed; `waiting` is what it waits in.
    fn run(mut self, waiting: &Runtime) {
        let mut tended = Instant::now();
        while let Some(group) = self.gather(waiting) {
            if group.closing {
                // What is behind the close in the queue is still answered: it was let in.
                self.operations.close();
            }
            let mut done = self.commit(group);
            if done.is_ok() && tended.elapsed() >= TEND {
                tended = Instant::now();
                done = self.house.tend(self.lane);
            }
            if let Err(error) = done {
                log::error!("the writer stops, since to go on could do harm: {error}");
                self.failure.send_replace(Some(error.to_string()));
                return;
            }
        }
    }

    /// Waits for an operation, for as long as the connection may be left alone, and takes what else
    /// is there; `None` when closed and empty.
    fn gather(&mut self, waiting: &Runtime) -> Option<Group> {
        let mut group = Group::default();
        let first = match self.operations.try_recv() {
            Ok(first) => Some(first),
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
            Err(mpsc::error::TryRecvError::Empty) => {
                let next = async { timeout(TEND, self.operations.recv()).await };
                match waiting.block_on(next) {
                    Ok(next) => Some(next?),
                    Err(_) => None,
                }
            }
        };
        let Some(first) = first else {
            return Some(group);
        };
        self.put(&mut group, first);
        while group.len() < GROUP
            && let Ok(next) = self.operations.try_recv()
        {
            self.put(&mut group, next);
        }
        Some(group)
    }

    fn put(&self, group: &mut Group, operation: Operation) {
        let (own, lanes) = (self.lane, self.house.rooms.len());
        let other = match &operation {
            Operation::Order(order, _) => order.command.counterparty(),
            _ => None,
        };
        let other = other.map(|account| Lane::of(account, lanes));
        group.push(operation, other.filter(|other| *other != own));
    }

    /// Commits one group and answers it: what is this lane's alone, then what it has with each of
    /// the others. An error is fatal; others are answered and survived.
    fn commit(&self, mut group: Group) -> Result<(), StorageError> {
        let instruments = &self.house.parts.instruments;
        let across = std::mem::take(&mut group.across);
        let (operations, started) = (group.own_len(), Instant::now());
        if operations > 0 {
            let committed = self.commit_own(&mut group);
            let outcome = self.outcome(operations, started, committed);
            group.answer(matches!(outcome, Ok(true)), instruments);
            outcome?;
        }
        for (other, mut orders) in across {
            let (operations, started) = (orders.orders.len(), Instant::now());
            let committed = self.commit_across(other, &mut orders);
            let outcome = self.outcome(operations, started, committed);
            orders.answer(matches!(outcome, Ok(true)), instruments);
            outcome?;
        }
        Ok(())
    }

    fn commit_own(&self, group: &mut Group) -> Result<(), StorageError> {
        let clock = &self.house.parts.clock;
        let mut work = |sessions: &mut [&mut Session]| match sessions {
            [session] => transact(session, group, clock),
            _ => Err(unheld()),
        };
        self.house.persist(&[self.lane], &mut work)
    }

    fn commit_across(&self, other: usize, orders: &mut Orders) -> Result<(), StorageError> {
        let (clock, is_first) = (&self.house.parts.clock, self.lane < other);
        let mut work = |sessions: &mut [&mut Session]| match sessions {
            [first, second] => transact_across(first, second, is_first, orders, clock),
            _ => Err(unheld()),
        };
        let lanes = [self.lane.min(other), self.lane.max(other)];
        self.house.persist(&lanes, &mut work)
    }

    /// Counts what became of so many operations: whether they are committed. An error is fatal.
    fn outcome(
        &self,
        operations: usize,
        started: Instant,
        committed: Result<(), StorageError>,
    ) -> Result<bool, StorageError> {
        let instruments = &self.house.parts.instruments;
        match committed {
            Ok(()) => {
                instruments.group_committed(operations, started.elapsed());
                Ok(true)
            }
            Err(error) => {
                log::error!("a group of {operations} was not committed: {error}");
                instruments.group_failed();
                if error.is_fatal() {
                    Err(error)
                } else {
                    Ok(false)
                }
            }
        }
    }
}

/// Cannot be: a room was opened before it is worked in.
fn unheld() -> Failed {
    Failed::from(StorageError::Cancelled)
}

/// Why a group was not committed.
struct Failed {
    error: StorageError,
    /// Whether it was the commit that failed, so that what became of it is not known.
    at_commit: bool,
}

impl<E: Into<StorageError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            at_commit: false,
        }
    }
}

fn transact(session: &mut Session, group: &mut Group, clock: &Clock) -> Result<(), Failed> {
    let Session {
        connection,
        lane,
        common,
    } = session;
    begin(connection)?;
    let now = clock.now();
    group
        .own
        .decide(|order| lane.decide(connection, order, now))?;
    if let Some(common) = common {
        group.decide_common(connection, lane, common, now)?;
        common.hub.write(connection)?;
    }
    lane.write(connection, group.own.orders.len())?;
    for update in &group.updates {
        write_outbox(connection, update, now)?;
    }
    finish(connection)
}

/// Transfers between the accounts of two lanes, in one transaction over the first one's connection.
/// `is_first`: whether the first lane is the one that sends.
fn transact_across(
    first: &mut Session,
    second: &mut Session,
    is_first: bool,
    orders: &mut Orders,
    clock: &Clock,
) -> Result<(), Failed> {
    let connection = &mut first.connection;
    begin(connection)?;
    let now = clock.now();
    let (origin, other) = if is_first {
        (&mut first.lane, &mut second.lane)
    } else {
        (&mut second.lane, &mut first.lane)
    };
    orders.decide(|order| origin.decide_across(other, connection, order, now))?;
    let operations = orders.orders.len();
    first.lane.write(connection, operations)?;
    second.lane.write(connection, operations)?;
    finish(connection)
}

fn finish(connection: &mut Connection) -> Result<(), Failed> {
    fail::fail_point!("writer::before_commit");
    fail::fail_point!("writer::refuse_commit", |_| Err(unheld()));
    commit(connection).map_err(|error| Failed {
        error,
        at_commit: true,
    })?;
    fail::fail_point!("writer::after_commit");
    Ok(())
}

impl Orders {
    fn push(&mut self, order: Order, reply: oneshot::Sender<Verdict>) {
        self.orders.push(order);
        self.decided.push((reply, Err(WriteError::Unavailable)));
    }

    fn decide(
        &mut self,
        mut decide: impl FnMut(&Order) -> Result<Decision, Undecided>,
    ) -> Result<(), StorageError> {
        for (order, (_, result)) in self.orders.iter().zip(&mut self.decided) {
            *result = match decide(order) {
                Ok(decision) => Ok(decision),
                Err(Undecided::Order(error)) => Err(error),
                Err(Undecided::Storage(error)) => return Err(error),
            };
        }
        Ok(())
    }

    /// Tells everybody; whoever stopped waiting can learn the outcome under the same key.
    fn answer(self, committed: bool, instruments: &Instruments) {
        for (order, (reply, result)) in self.orders.iter().zip(self.decided) {
            let result = if committed {
                result
            } else {
                Err(WriteError::Unavailable)
            };
            instruments.decided(&order.command, &result);
            let _ = reply.send(result);
        }
    }
}

impl Group {
    /// Operations, those with other lanes included.
    fn len(&self) -> usize {
        let across = self.across.values().map(|orders| orders.orders.len());
        self.own_len() + across.sum::<usize>()
    }

    fn own_len(&self) -> usize {
        let orders = self.own.orders.len() + self.hub_orders.len() + self.access_orders.len();
        orders + self.moved.len()
    }

    /// Takes an operation; `other` is the lane that an order moves money to, if it is another.
    fn push(&mut self, operation: Operation, other: Option<usize>) {
        match operation {
            Operation::Order(order, reply) => match other {
                Some(other) => self.across.entry(other).or_default().push(*order, reply),
                None => self.own.push(*order, reply),
            },
            Operation::Hub(order, reply) => {
                self.hub_orders.push(*order);
                let unavailable = WriteError::Unavailable.into();
                self.hub_decided.push((reply, Err(unavailable)));
            }
            Operation::Access(order, reply) => {
                self.access_orders.push(*order);
                let unavailable = WriteError::Unavailable.into();
                self.access_decided.push((reply, Err(unavailable)));
            }
            Operation::Outbox(update, reply) => {
                self.updates.push(update);
                self.moved.push(reply);
            }
            Operation::Close => self.closing = true,
        }
    }

    /// Decides what belongs to no account.
    fn decide_common(
        &mut self,
        connection: &mut Connection,
        lane: &mut Lane,
        common: &mut Common,
        now: i64,
    ) -> Result<(), StorageError> {
        for (order, (_, result)) in self.hub_orders.iter().zip(&mut self.hub_decided) {
            *result = match common.hub.decide(connection, lane, order, now) {
                Ok(answer) => Ok(answer),
                Err(hub::Undecided::Refused(refusal)) => Err(refusal),
                Err(hub::Undecided::Storage(error)) => return Err(error),
            };
        }
        for (order, (_, result)) in self.access_orders.iter().zip(&mut self.access_decided) {
            *result = match common.access.decide(connection, lane, order, now) {
                Ok(answer) => Ok(answer),
                Err(access::Undecided::Refused(refusal)) => Err(refusal),
                Err(access::Undecided::Storage(error)) => return Err(error),
            };
        }
        Ok(())
    }

    /// Tells everybody; whoever stopped waiting can learn the outcome under the same key.
    fn answer(self, committed: bool, instruments: &Instruments) {
        self.own.answer(committed, instruments);
        for (reply, result) in self.hub_decided {
            let unavailable = Err(WriteError::Unavailable.into());
            let _ = reply.send(if committed { result } else { unavailable });
        }
        for (reply, result) in self.access_decided {
            let unavailable = Err(WriteError::Unavailable.into());
            let _ = reply.send(if committed { result } else { unavailable });
        }
        for reply in self.moved {
            let _ = reply.send(if committed {
                Ok(())
            } else {
                Err(WriteError::Unavailable)
            });
        }
    }
}

fn write_outbox(
    connection: &mut Connection,
    update: &OutboxUpdate,
    now: i64,
) -> Result<(), StorageError> {
    for message in &update.quarantined {
        // A commit whose reply was lost is run again where it left no mark in the journal.
        let same = outbox_quarantine::table
            .filter(outbox_quarantine::lane.eq(update.lane))
            .filter(outbox_quarantine::seq.eq(message.seq))
            .filter(outbox_quarantine::topic.eq(&message.topic));
        let is_there: i64 = same.count().get_result(connection)?;
        if is_there > 0 {
            continue;
        }
        diesel::insert_into(outbox_quarantine::table)
            .values((
                outbox_quarantine::lane.eq(update.lane),
                outbox_quarantine::seq.eq(message.seq),
                outbox_quarantine::topic.eq(&message.topic),
                outbox_quarantine::payload.eq(&message.payload),
                outbox_quarantine::reason.eq(&message.reason),
                outbox_quarantine::quarantined_at.eq(now),
            ))
            .execute(connection)?;
    }
    diesel::update(outbox::table.find(update.lane))
        .set(outbox::position.eq(update.position))
        .execute(connection)?;
    Ok(())
}
