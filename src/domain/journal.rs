//! The journal: what has been committed, one entry a fact, in the order of commit.
//!
//! The outbox, the audit chain, idempotency and replays are views of these entries; a balance is
//! a cache that can be checked against them.

use super::access::Principal;
use super::account::{AccountId, Posting, PostingKind};
use super::alert::{
    AlertChange, AlertContent, AlertState, DeviceCommand, MessageRef, Priority, RuleRef,
};
use super::amount::{Amount, Money};
use super::device::DeviceAddress;
use super::name::Slug;
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
    /// A place in the first lane, which is the only one on SQLite.
    #[must_use]
    pub const fn new(seq: i64) -> Self {
        Self { lane: 0, seq }
    }
}

/// As people see it: `0-42`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.lane, self.seq)
    }
}

/// Where somebody stands in the journal: a sequence for each lane. As clients see it: `0-42`, and
/// with several lanes `0-42,1-7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(Vec<i64>);

/// The most lanes that a cursor has.
const LANES: usize = 64;

impl Cursor {
    /// A cursor at these sequences, in the order of lanes.
    #[must_use]
    pub const fn new(sequences: Vec<i64>) -> Self {
        Self(sequences)
    }

    /// The same but for `position`, which says where it stands in its own lane.
    #[must_use]
    pub fn with(&self, position: Position) -> Self {
        let mut sequences = self.0.clone();
        let own = usize::try_from(position.lane).ok();
        if let Some(seq) = own.and_then(|lane| sequences.get_mut(lane)) {
            *seq = position.seq;
        }
        Self(sequences)
    }

    /// Its sequences, in the order of lanes.
    #[must_use]
    pub fn sequences(&self) -> &[i64] {
        &self.0
    }

    /// The sequence in `lane`; 0, before all, where it says nothing of it.
    #[must_use]
    pub fn at(&self, lane: usize) -> i64 {
        self.0.get(lane).copied().unwrap_or(0)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (lane, seq) in self.0.iter().enumerate() {
            let comma = if lane == 0 { "" } else { "," };
            write!(f, "{comma}{lane}-{seq}")?;
        }
        Ok(())
    }
}

/// The text is not a cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let mut sequences = Vec::new();
        for (expected, part) in text.split(',').enumerate() {
            let (lane, seq) = part.split_once('-').ok_or(NotACursor)?;
            let seq: i64 = seq.parse().map_err(|_| NotACursor)?;
            if lane != expected.to_string() || seq < 0 || expected >= LANES {
                return Err(NotACursor);
            }
            sequences.push(seq);
        }
        Ok(Self(sequences))
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
    /// MQTT.
    Mqtt,
    /// The line protocol of tellers' terminals.
    Tcp,
    /// The interfaces that clients from before Atalaya speak over HTTP.
    Bridge,
    /// Moving in from the system before Atalaya: what comes here is history, of which nobody is
    /// notified.
    MovingIn,
}

impl Channel {
    /// Its name on the wire (`canal`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Internal => "interno",
            Self::Http => "http",
            Self::WebSocket => "websocket",
            Self::Mqtt => "mqtt",
            Self::Tcp => "tcp",
            Self::Bridge => "puente",
            Self::MovingIn => "mudanza",
        }
    }

    /// Whether commands that move money must carry an idempotency key. Clients from before Atalaya
    /// know none: what they ask twice is done twice.
    #[must_use]
    pub const fn demands_key(self) -> bool {
        !matches!(self, Self::Tcp | Self::Bridge)
    }
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

/// A step in the life of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertStep {
    /// The alert's row.
    pub alert: i64,
    /// The alert (`alerta_id`).
    pub alert_id: Uuid,
    /// The device's row.
    pub device: i64,
    /// Where the device is.
    pub address: DeviceAddress,
    /// What kind of alert.
    pub kind: Slug,
    /// How urgent it is after this step.
    pub priority: Priority,
    /// Whether it came too late to drive hardware.
    pub late: bool,
    /// What happened.
    pub change: AlertChange,
    /// Where it stands after this step.
    pub state: AlertState,
    /// How often it was raised so far.
    pub count: i64,
    /// Whether it freezes withdrawals at its site while it is open.
    pub freezes: bool,
    /// Groups of people to be told of this step.
    pub notify: Vec<Slug>,
    /// The rules behind this step.
    pub rules: Vec<RuleRef>,
    /// The message behind this step, where a device sent one.
    pub message: Option<MessageRef>,
    /// What is held by digest alone.
    pub texts: StepTexts,
    /// Sequence of the alert's previous step, 0 before its first: an alert's history is a linked
    /// list through the journal. A repetition points back but is not pointed to.
    pub previous: i64,
}

/// What a step holds by salted digest alone, so that it can be erased.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepTexts {
    /// Makes the digest of short texts hard to guess.
    pub salt: [u8; 16],
    /// What was said of the alert.
    pub content: AlertContent,
    /// Why somebody took this step.
    pub reason: Option<String>,
    /// Orders to devices of the site.
    pub commands: Vec<DeviceCommand>,
}

impl StepTexts {
    /// Whether there is nothing to hold.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.reason.is_none() && self.commands.is_empty()
    }
}

/// What a changed setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A company.
    Company,
    /// A site.
    Site,
    /// A type of device.
    DeviceType,
    /// A device.
    Device,
    /// A device's key.
    DeviceKey,
    /// A kind of alert.
    AlertKind,
    /// A rule.
    Rule,
    /// A message in quarantine.
    Quarantine,
    /// Refused messages, counted by the minute.
    Refusals,
}

/// What happened to somebody's access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessEvent {
    /// Somebody signed in.
    SignedIn,
    /// Somebody tried to sign in and failed.
    SignInFailed,
    /// Somebody tried to sign in too often to be heard.
    Throttled,
    /// Somebody signed out.
    SignedOut,
    /// A session was ended by somebody.
    SessionEnded,
    /// A password was chosen or set.
    PasswordChanged,
    /// A second factor was set up or taken away.
    SecondFactorChanged,
    /// A person was made.
    PersonCreated,
    /// A person was changed: roles, name, whether they are let in.
    PersonChanged,
    /// A token was made.
    TokenCreated,
    /// A token was revoked.
    TokenRevoked,
    /// Something was refused to somebody who had signed in.
    Refused,
}

impl AccessEvent {
    /// Its name on the wire (`suceso`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignedIn => "inicio_de_sesion",
            Self::SignInFailed => "inicio_fallido",
            Self::Throttled => "inicio_frenado",
            Self::SignedOut => "cierre_de_sesion",
            Self::SessionEnded => "sesion_terminada",
            Self::PasswordChanged => "contrasena_cambiada",
            Self::SecondFactorChanged => "segundo_factor_cambiado",
            Self::PersonCreated => "usuario_creado",
            Self::PersonChanged => "usuario_cambiado",
            Self::TokenCreated => "token_creado",
            Self::TokenRevoked => "token_revocado",
            Self::Refused => "acceso_denegado",
        }
    }
}

/// Something that happened to somebody's access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessFact {
    /// What.
    pub event: AccessEvent,
    /// The row in `principals` of whom it happened to, where it is known.
    pub subject: Option<i64>,
    /// How often: failures are counted by the minute.
    pub count: i64,
    /// What is held by digest alone.
    pub texts: AccessTexts,
}

/// What a fact of access holds by salted digest alone, so that it can be erased.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessTexts {
    /// Makes the digest of short texts hard to guess.
    pub salt: [u8; 16],
    /// Whom it happened to, as they called themselves.
    pub who: Option<String>,
    /// From where: an address.
    pub address: Option<String>,
    /// What exactly; no secret.
    pub detail: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Somebody's access was used, refused or changed.
    Access(Box<AccessFact>),
    /// An alert was raised, or taken a step further.
    Alert(Box<AlertStep>),
    /// A setting was changed; no secret is in it.
    Setting {
        /// What kind of setting.
        subject: Subject,
        /// What it is now: a JSON object.
        change: String,
    },
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
