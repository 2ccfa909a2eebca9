//! The right to change balances: nothing else has it.

use crate::domain::{AccountId, Decision, Order, Reach};
use crate::storage::queries::{self, AccountView, History};
use crate::storage::{self, ReadPool, StorageError, Ticket, WriteError, Writer};
use actix::prelude::*;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Messages that wait for this actor. Each is handled in microseconds (an order is handed to the
/// writer's queue, a read to a thread), so this is only the slack between two threads.
const MAILBOX: usize = 256;

/// Reads at once: the pool has four connections, and a read takes well under a millisecond.
const READS: usize = 64;

/// Places an order. The ticket resolves when the order is durable.
#[derive(Debug, Message)]
#[rtype(result = "Result<Ticket<Decision>, WriteError>")]
pub struct PlaceOrder(pub Order);

/// Asks for an account.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<AccountView>, ReadError>")]
pub struct FindAccount {
    /// Within what it may be.
    pub within: Reach,
    /// Which.
    pub account: AccountId,
}

/// Asks for a page of an account's history.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<History>, ReadError>")]
pub struct ListMovements {
    /// Within what the account may be.
    pub within: Reach,
    /// Whose.
    pub account: AccountId,
    /// The posting to start at; the last one where there is none.
    pub from: Option<i64>,
    /// How many at most.
    pub limit: usize,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Too many reads at once.
    #[error("too many reads at once")]
    Overloaded,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Takes orders to the writer and reads for those who ask.
///
/// * Full: the writer's queue refuses at once (`Overloaded`), as do reads beyond their number; the
///   edges answer 503.
/// * Panic: ends the process, like everywhere.
/// * Restart: holds no state, so there is none to lose.
#[derive(Debug)]
pub struct AccountActor {
    writer: Writer,
    readers: ReadPool,
    reads: Arc<Semaphore>,
}

impl AccountActor {
    /// An actor over `writer` and `readers`.
    #[must_use]
    pub fn new(writer: Writer, readers: ReadPool) -> Self {
        Self {
            writer,
            readers,
            reads: Arc::new(Semaphore::new(READS)),
        }
    }

    fn read<T, F>(&self, work: F) -> ResponseFuture<Result<T, ReadError>>
    where
        T: Send + 'static,
        F: FnOnce(&mut storage::Connection) -> Result<T, StorageError> + Send + 'static,
    {
        let permit = Arc::clone(&self.reads).try_acquire_owned();
        let readers = self.readers.clone();
        Box::pin(async move {
            let _permit = permit.map_err(|_| ReadError::Overloaded)?;
            Ok(storage::read(&readers, work).await?)
        })
    }
}

impl Actor for AccountActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<PlaceOrder> for AccountActor {
    type Result = Result<Ticket<Decision>, WriteError>;

    fn handle(&mut self, PlaceOrder(order): PlaceOrder, _: &mut Self::Context) -> Self::Result {
        fail::fail_point!("account::place_order");
        self.writer.submit(order)
    }
}

impl Handler<FindAccount> for AccountActor {
    type Result = ResponseFuture<Result<Option<AccountView>, ReadError>>;

    fn handle(&mut self, asked: FindAccount, _: &mut Self::Context) -> Self::Result {
        self.read(move |connection| {
            queries::find_account(connection, &asked.within, &asked.account)
        })
    }
}

impl Handler<ListMovements> for AccountActor {
    type Result = ResponseFuture<Result<Option<History>, ReadError>>;

    fn handle(&mut self, asked: ListMovements, _: &mut Self::Context) -> Self::Result {
        self.read(move |connection| {
            let ListMovements {
                within,
                account,
                from,
                limit,
            } = &asked;
            queries::history(connection, within, account, *from, *limit)
        })
    }
}
