//! What every edge asks of the ledger, and what the ledger decides.

use super::access::Principal;
use super::account::{AccountId, PostingKind};
use super::amount::Amount;
use super::journal::{Channel, Entry, Refusal};
use super::name::{IdempotencyKey, PersonName, Slug};
use std::sync::Arc;

/// A change that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Open an account with nothing in it.
    Open {
        /// Its cédula.
        account: AccountId,
        /// Given names of its holder.
        given_names: PersonName,
        /// Surnames of its holder.
        surnames: PersonName,
    },
    /// Pay in.
    Deposit {
        /// The account.
        account: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Pay out.
    Withdraw {
        /// The account.
        account: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Move between two accounts in one commit.
    Transfer {
        /// Who sends.
        origin: AccountId,
        /// Who receives.
        destination: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Bring in one change of a balance from the system before Atalaya, or an adjustment to it.
    /// Only moving in does ([`Order::moving_in`]); half a transfer stands alone here, since the
    /// old system does not say whose the other half is.
    BringIn {
        /// The account.
        account: AccountId,
        /// What kind of change.
        kind: PostingKind,
        /// How much.
        amount: Amount,
        /// The version of the account that it makes. On any other it changes nothing and spends
        /// no key: what had to come before it has not.
        version: i64,
    },
}

impl Command {
    /// The account that it belongs to: of a transfer, the one that sends.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        match self {
            Self::Open { account, .. }
            | Self::Deposit { account, .. }
            | Self::Withdraw { account, .. }
            | Self::BringIn { account, .. }
            | Self::Transfer {
                origin: account, ..
            } => account,
        }
    }

    /// The account that receives a transfer.
    #[must_use]
    pub const fn counterparty(&self) -> Option<&AccountId> {
        match self {
            Self::Transfer { destination, .. } => Some(destination),
            _ => None,
        }
    }
}

/// A command with its circumstances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What is wanted.
    pub command: Command,
    /// By whom.
    pub principal: Principal,
    /// Through which edge.
    pub channel: Channel,
    /// The row of the company whose accounts it may touch; the installation's own (`EMPRESA`) where
    /// there is none. An account of another company is to it as if it were not.
    pub company: Option<i64>,
    /// At which site of the company.
    pub site: Option<Slug>,
    /// The value date, in days since 1970-01-01.
    pub value_date: Option<i32>,
    /// Under which key. Edges demand one for every money command.
    pub key: Option<IdempotencyKey>,
}

impl Order {
    /// An order of moving in: Atalaya itself brings in what happened on the day `value_date`.
    #[must_use]
    pub const fn moving_in(command: Command, value_date: Option<i32>, key: IdempotencyKey) -> Self {
        Self {
            command,
            principal: Principal::System,
            channel: Channel::MovingIn,
            company: None,
            site: None,
            value_date,
            key: Some(key),
        }
    }
}

/// What came of an order; durable when it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub outcome: Outcome,
    /// Whether it was decided earlier, under the same key.
    pub replayed: bool,
}

/// The two things that can be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done: this entry is in the journal.
    Done(Arc<Entry>),
    /// Refused, for good if there was a key.
    Refused(Refusal),
}
