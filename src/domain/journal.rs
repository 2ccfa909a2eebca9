//! The journal: what has been committed, one entry a fact, in the order of commit.
//!
//! The outbox, the audit chain, idempotency and replays are views of these entries; a balance is
//! a cache that can be checked against them.

use super::access::Principal;
use super::account::{AccountId, Posting, PostingKind};
use super::amount::{Amount, Money};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// A place in the journal. Sequences are gapless within a lane and start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The writer lane; SQLite has lane 0 alone.
    pub lane: i32,
    /// The sequence within the lane; 0 stands before the first entry.
    pub seq: i64,
}

impl Position {
    /// A place in the one lane of SQLite.
    #[must_use]
    pub const fn new(seq: i64) -> Self {
        Self { lane: 0, seq }
    }
}

/// As clients see it in a cursor: `0-42`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.lane, self.seq)
    }
}

/// The text is not a cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct NotACursor;

impl FromStr for Position {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (lane, seq) = text.split_once('-').ok_or(NotACursor)?;
        let seq: i64 = seq.parse().map_err(|_| NotACursor)?;
        if lane != "0" || seq < 0 {
            return Err(NotACursor);
        }
        Ok(Self::new(seq))
    }
}

/// The edge through which a command came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Atalaya itself.
    Internal,
    /// REST.
    Http,
    /// WebSocket.
    WebSocket,
}

/// Half of SHA-256 over an idempotency key and its scope.
pub type KeyDigest = [u8; 16];

/// What the journal keeps of an idempotency key: never the key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRecord {
    /// Digest of principal and key: finds the decision.
    pub digest: KeyDigest,
    /// Digest of the parsed command: tells a repeat from a reuse.
    pub fingerprint: KeyDigest,
}

/// An account as the journal names it: by a number, so that the cédula can be erased one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRef {
    /// Its row in the table `accounts`.
    pub row: i64,
    /// Its cédula.
    pub id: AccountId,
}

/// The other side of a transfer, as it was after the same commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterparty {
    /// The other account.
    pub account: AccountRef,
    /// Its balance after the transfer.
    pub balance: Money,
    /// Its version after the transfer.
    pub version: i64,
}

/// A posting in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// Whose balance changed.
    pub account: AccountRef,
    /// The change.
    pub posting: Posting,
    /// The other side, if it is half of a transfer.
    pub counterparty: Option<Counterparty>,
    /// Sequence of the account's previous posting: an account's history is a linked list through
    /// the journal, so that it needs no index of its own. 0 where there is none.
    pub previous: i64,
}

/// A business decision against a command: permanent under its key, touches no balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The balance did not cover the amount.
    InsufficientBalance {
        /// The balance at that moment.
        balance: Money,
    },
    /// The balance would no longer fit.
    BalanceLimit,
    /// The account (the origin, in a transfer) does not exist.
    UnknownAccount,
    /// The destination of a transfer does not exist.
    UnknownDestination,
    /// The account to open exists already.
    AccountExists,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// An account was opened; its holder's data enters by digest.
    AccountOpened {
        /// The new account.
        account: AccountRef,
        /// Salted SHA-256 of the holder's data.
        holder: [u8; 32],
    },
    /// A balance changed.
    Posted(Movement),
    /// A command was refused under an idempotency key.
    Refused {
        /// The account concerned, where it exists.
        account: Option<AccountRef>,
        /// What was asked; `None` where an account was to be opened.
        kind: Option<PostingKind>,
        /// How much was asked.
        amount: Option<Amount>,
        /// Why not.
        refusal: Refusal,
    },
}

/// One committed fact and its circumstances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// When, in microseconds since 1970 UTC. The order is the position's, never the clock's.
    pub at: i64,
    /// UUIDv7; the halves of a transfer share it.
    pub tx_id: Uuid,
    /// On whose behalf.
    pub principal: Principal,
    /// Through which edge.
    pub channel: Channel,
    /// The company's row.
    pub company: i64,
    /// The site's row, where one was named.
    pub site: Option<i64>,
    /// The value date in days since 1970-01-01, where one was given.
    pub value_date: Option<i32>,
    /// The idempotency key, where there was one; a transfer's stands on the origin's entry.
    pub key: Option<KeyRecord>,
    /// The fact.
    pub fact: Fact,
}
