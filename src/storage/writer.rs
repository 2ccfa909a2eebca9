//! Group commit: one thread, one connection, one transaction for all who wait.
//!
//! A disk flush costs the same for one order as for two hundred. While a group is being committed
//! the next one gathers in a bounded queue; when the thread comes back it takes what is there, at
//! most [`GROUP`], without waiting for more. Replies leave after `COMMIT` has returned, never
//! before. A rejected order rejects alone; a failed commit is answered as failed to all its group,
//! and clients repeat under the same key.

use super::access::{self, Access, AccessAnswer, AccessOrder, AccessRefusal, AccessSettings};
use super::connection::{Location, begin, commit, reopen_writer};
use super::hub::{self, Hub, HubAnswer, HubOrder, HubRefusal, HubSettings};
use super::ledger::{Lane, Undecided};
use super::schema::{outbox, outbox_quarantine};
use super::setback::{self, Setback, TRIES};
use super::{Connection, Feed, StorageError};
use crate::clock::Clock;
use crate::domain::{Decision, Order};
use crate::instruments::Instruments;
use diesel::prelude::*;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};

/// The most operations in one group: enough to make the flush negligible, few enough that the
/// first of them does not wait long for the last.
pub const GROUP: usize = 256;

/// The most operations that wait. At a commit of a few milliseconds they wait well under a second;
/// more would only be answered later than their clients care to wait.
pub const QUEUE: usize = 2_048;

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
}

/// The publisher's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxUpdate {
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

/// The way to the writer's thread; clones share it.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::Sender<Operation>,
    failed: watch::Receiver<Option<String>>,
}

/// What the thread needs.
#[derive(Debug)]
pub struct WriterParts {
    /// Where the database is.
    pub location: Location,
    /// The company's row.
    pub company: i64,
    /// Where commits are told.
    pub feed: Feed,
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
    /// Starts the thread.
    ///
    /// # Errors
    /// [`StorageError`] where the lane cannot be loaded or the thread not be started.
    pub fn start(parts: WriterParts) -> Result<Self, StorageError> {
        let session = Session::open(&parts)?;
        let (queue, operations) = mpsc::channel(QUEUE);
        let (failure, failed) = watch::channel(None);
        let thread = WriterThread {
            parts,
            session: Some(session),
            operations,
            failure,
        };
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || thread.run())
            .map_err(|e| StorageError::Inconsistent {
                what: format!("no thread for the writer: {e}"),
            })?;
        Ok(Self { queue, failed })
    }

    /// Hands in an order. The ticket resolves after its group's commit.
    ///
    /// # Errors
    /// [`WriteError::Overloaded`] or [`WriteError::ShuttingDown`], at once.
    pub fn submit(&self, order: Order) -> Result<Ticket<Decision>, WriteError> {
        let (reply, ticket) = oneshot::channel();
        self.push(Operation::Order(Box::new(order), reply))?;
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
        self.push(Operation::Hub(Box::new(order), reply))?;
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
        self.push(Operation::Access(Box::new(order), reply))?;
        Ok(ticket)
    }

    /// Hands in the publisher's progress.
    ///
    /// # Errors
    /// [`WriteError::Overloaded`] or [`WriteError::ShuttingDown`], at once.
    pub fn move_outbox(&self, update: OutboxUpdate) -> Result<Ticket<()>, WriteError> {
        let (reply, ticket) = oneshot::channel();
        self.push(Operation::Outbox(update, reply))?;
        Ok(ticket)
    }

    /// Operations that wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Resolves if the writer stops because going on could do harm; says why.
    pub async fn failure(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The thread is gone without a word: it was closed. There is no failure to tell.
            Err(_) => std::future::pending().await,
        }
    }

    /// Commits what waits and ends the thread; what comes later is refused.
    pub async fn close(&self) {
        if self.queue.send(Operation::Close).await.is_ok() {
            // The thread holds the sender of failures until it ends.
            let mut ended = self.failed.clone();
            while ended.changed().await.is_ok() {}
        }
    }

    fn push(&self, operation: Operation) -> Result<(), WriteError> {
        self.queue.try_send(operation).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
            mpsc::error::TrySendError::Closed(_) if self.failed.borrow().is_some() => {
                WriteError::Unavailable
            }
            mpsc::error::TrySendError::Closed(_) => WriteError::ShuttingDown,
        })
    }
}

/// The connection and what is remembered of the database behind it. A group that fails takes its
/// session with it: what the database then holds is read anew, never guessed.
struct Session {
    connection: Connection,
    lane: Lane,
    hub: Hub,
    access: Access,
}

impl Session {
    fn open(parts: &WriterParts) -> Result<Self, StorageError> {
        let mut connection = reopen_writer(&parts.location)?;
        let lane = Lane::load(&mut connection, parts.company)?;
        let hub = Hub::load(&mut connection, parts.hub.clone(), parts.clock.now())?;
        let access = Access::load(&mut connection, &parts.access, parts.clock.now())?;
        parts.feed.restart(lane.head());
        Ok(Self {
            connection,
            lane,
            hub,
            access,
        })
    }
}

struct WriterThread {
    parts: WriterParts,
    session: Option<Session>,
    operations: mpsc::Receiver<Operation>,
    failure: watch::Sender<Option<String>>,
}

/// A group, taken apart: the work, and the replies with what they will say if the commit succeeds.
#[derive(Default)]
struct Group {
    orders: Vec<Order>,
    hub_orders: Vec<HubOrder>,
    access_orders: Vec<AccessOrder>,
    updates: Vec<OutboxUpdate>,
    access_decided: Vec<(oneshot::Sender<AccessVerdict>, AccessVerdict)>,
    hub_decided: Vec<(oneshot::Sender<HubVerdict>, HubVerdict)>,
    decided: Vec<(oneshot::Sender<Verdict>, Verdict)>,
    moved: Vec<oneshot::Sender<Result<(), WriteError>>>,
    closing: bool,
}

impl WriterThread {
    fn run(mut self) {
        while let Some(group) = self.gather() {
            if group.closing {
                // What is behind the close in the queue is still answered: it was let in.
                self.operations.close();
            }
            if let Err(error) = self.commit(group) {
                log::error!("the writer stops, since to go on could do harm: {error}");
                self.failure.send_replace(Some(error.to_string()));
                return;
            }
        }
    }

    /// Waits for an operation and takes what else is there; `None` when closed and empty.
    fn gather(&mut self) -> Option<Group> {
        let mut group = Group::default();
        group.push(self.operations.blocking_recv()?);
        while group.len() < GROUP
            && let Ok(next) = self.operations.try_recv()
        {
            group.push(next);
        }
        Some(group)
    }

    /// Commits one group and answers it. An error is fatal; others are answered and survived.
    fn commit(&mut self, mut group: Group) -> Result<(), StorageError> {
        let started = Instant::now();
        let instruments = self.parts.instruments.clone();
        match self.persist(&mut group) {
            Ok(mut session) => {
                let head = session.lane.head();
                let entries = session.lane.committed();
                // Before anybody is answered: who changes a rule and hears that it is done finds
                // it done.
                session.hub.committed();
                session.access.committed();
                if !entries.is_empty() {
                    self.parts.feed.publish(entries, head);
                }
                self.session = Some(session);
                instruments.group_committed(group.len(), started.elapsed());
                group.succeed(&instruments);
                Ok(())
            }
            Err(error) => {
                log::error!("a group of {} was not committed: {error}", group.len());
                instruments.group_failed();
                group.fail(&instruments);
                if error.is_fatal() { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Brings a group into the database, again from the start where that is what the database asks
    /// for, or where the connection was lost and the group is not there.
    fn persist(&mut self, group: &mut Group) -> Result<Session, StorageError> {
        let mut tries = 1;
        loop {
            let session = self.session.take();
            let mut session = session.map_or_else(|| Session::open(&self.parts), Ok)?;
            let before = session.lane.mark();
            let failed = match transact(&mut session, group, &self.parts.clock) {
                Ok(()) => return Ok(session),
                Err(failed) => failed,
            };
            let setback = setback::of(&failed.error);
            if setback == Setback::Fatal || tries == TRIES {
                return Err(failed.error);
            }
            log::warn!(
                "a group is tried again ({tries} of {TRIES}): {}",
                failed.error
            );
            let mark = session.lane.mark();
            drop(session);
            setback::pause(tries);
            tries += 1;
            if failed.at_commit && setback == Setback::Lost {
                // Whoever holds the writer's lock knows that the commit is over, whatever came of
                // it, and the head of the journal tells.
                let session = Session::open(&self.parts)?;
                let found = session.lane.mark();
                if found == mark && found != before {
                    log::warn!("the reply to a commit was lost, but not the commit");
                    return Ok(session);
                }
                self.session = Some(session);
            }
        }
    }
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
        hub,
        access,
    } = session;
    begin(connection)?;
    let now = clock.now();
    for (order, (_, result)) in group.orders.iter().zip(&mut group.decided) {
        *result = match lane.decide(connection, order, now) {
            Ok(decision) => Ok(decision),
            Err(Undecided::Order(error)) => Err(error),
            Err(Undecided::Storage(error)) => return Err(error.into()),
        };
    }
    for (order, (_, result)) in group.hub_orders.iter().zip(&mut group.hub_decided) {
        *result = match hub.decide(connection, lane, order, now) {
            Ok(answer) => Ok(answer),
            Err(hub::Undecided::Refused(refusal)) => Err(refusal),
            Err(hub::Undecided::Storage(error)) => return Err(error.into()),
        };
    }
    for (order, (_, result)) in group.access_orders.iter().zip(&mut group.access_decided) {
        *result = match access.decide(connection, lane, order, now) {
            Ok(answer) => Ok(answer),
            Err(access::Undecided::Refused(refusal)) => Err(refusal),
            Err(access::Undecided::Storage(error)) => return Err(error.into()),
        };
    }
    hub.write(connection)?;
    lane.write(connection, group.orders.len())?;
    for update in &group.updates {
        write_outbox(connection, update, now)?;
    }
    fail::fail_point!("writer::before_commit");
    commit(connection).map_err(|error| Failed {
        error,
        at_commit: true,
    })?;
    fail::fail_point!("writer::after_commit");
    Ok(())
}

impl Group {
    fn len(&self) -> usize {
        let orders = self.decided.len() + self.hub_decided.len() + self.access_decided.len();
        orders + self.moved.len()
    }

    fn push(&mut self, operation: Operation) {
        match operation {
            Operation::Order(order, reply) => {
                self.orders.push(*order);
                self.decided.push((reply, Err(WriteError::Unavailable)));
            }
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

    /// Tells everybody; whoever stopped waiting can learn the outcome under the same key.
    fn succeed(self, instruments: &Instruments) {
        for (order, (reply, result)) in self.orders.iter().zip(self.decided) {
            instruments.decided(&order.command, &result);
            let _ = reply.send(result);
        }
        for (reply, result) in self.hub_decided {
            let _ = reply.send(result);
        }
        for (reply, result) in self.access_decided {
            let _ = reply.send(result);
        }
        for reply in self.moved {
            let _ = reply.send(Ok(()));
        }
    }

    fn fail(self, instruments: &Instruments) {
        for (order, (reply, _)) in self.orders.iter().zip(self.decided) {
            let failed = Err(WriteError::Unavailable);
            instruments.decided(&order.command, &failed);
            let _ = reply.send(failed);
        }
        for (reply, _) in self.hub_decided {
            let _ = reply.send(Err(WriteError::Unavailable.into()));
        }
        for (reply, _) in self.access_decided {
            let _ = reply.send(Err(WriteError::Unavailable.into()));
        }
        for reply in self.moved {
            let _ = reply.send(Err(WriteError::Unavailable));
        }
    }
}

fn write_outbox(
    connection: &mut Connection,
    update: &OutboxUpdate,
    now: i64,
) -> Result<(), StorageError> {
    for message in &update.quarantined {
        diesel::insert_into(outbox_quarantine::table)
            .values((
                outbox_quarantine::lane.eq(0),
                outbox_quarantine::seq.eq(message.seq),
                outbox_quarantine::topic.eq(&message.topic),
                outbox_quarantine::payload.eq(&message.payload),
                outbox_quarantine::reason.eq(&message.reason),
                outbox_quarantine::quarantined_at.eq(now),
            ))
            .execute(connection)?;
    }
    diesel::update(outbox::table.find(0))
        .set(outbox::position.eq(update.position))
        .execute(connection)?;
    Ok(())
}
