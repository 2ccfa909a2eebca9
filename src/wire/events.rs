//! What is published: the payloads of each topic, and which events an entry of the journal makes.

use super::numbers::{Decimal, Moment};
use super::{alerts, topics};
use crate::domain::{Channel, Entry, Fact, Money, Movement, PostingKind};
use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

/// MQTT's promise about delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// 0: perhaps.
    AtMostOnce,
    /// 1: acknowledged.
    AtLeastOnce,
    /// 2: acknowledged twice.
    ExactlyOnce,
}

/// One message for MQTT and sessions alike: the bytes are computed once and shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it is published.
    pub topic: String,
    /// JSON.
    pub payload: Bytes,
    /// How it is delivered.
    pub qos: Qos,
    /// Whether the broker keeps it for those who come later.
    pub retain: bool,
}

impl Event {
    /// An event with `body` as its payload.
    #[must_use]
    pub fn new(topic: impl Into<String>, body: &impl Serialize, qos: Qos, retain: bool) -> Self {
        Self {
            topic: topic.into(),
            payload: json(body),
            qos,
            retain,
        }
    }
}

/// The bytes of `body` as JSON. The bodies are ours and always serialise; if one ever did not, an
/// empty payload would show it without taking the process down.
pub(crate) fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .unwrap_or_default()
}

/// `banco/transacciones`, `banco/depositos`, `banco/retiros`, and the answer to a deposit or a
/// withdrawal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transaction<'a> {
    /// The account.
    pub cedula: &'a str,
    /// `DEPOSITO` or `RETIRO`.
    pub tipo: &'static str,
    /// The amount.
    pub monto: Decimal,
    /// The balance after it.
    pub saldo_nuevo: Decimal,
    /// When it was committed.
    pub timestamp: Moment,
    /// Tells a repeat.
    pub tx_id: Uuid,
    /// The account's count of postings.
    pub version: i64,
}

/// `banco/saldo/{cedula}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Balance<'a> {
    /// The account.
    pub cedula: &'a str,
    /// The balance after the posting.
    pub saldo_nuevo: Decimal,
    /// The balance before it.
    pub saldo_anterior: Decimal,
    /// When it was committed.
    pub timestamp: Moment,
    /// Tells a repeat.
    pub tx_id: Uuid,
    /// Tells an old balance from a new one.
    pub version: i64,
}

/// `banco/transferencias`, and the answer to a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transfer<'a> {
    /// Who sent.
    pub cedula_origen: &'a str,
    /// Who received.
    pub cedula_destino: &'a str,
    /// The amount.
    pub monto: Decimal,
    /// The origin's balance after it.
    pub saldo_origen: Decimal,
    /// The destination's balance after it.
    pub saldo_destino: Decimal,
    /// When it was committed.
    pub timestamp: Moment,
    /// Tells a repeat.
    pub tx_id: Uuid,
    /// The origin's count of postings.
    pub version_origen: i64,
    /// The destination's count of postings.
    pub version_destino: i64,
}

/// `banco/alertas`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LowBalance<'a> {
    /// `LOW_BALANCE`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// For people.
    pub message: String,
    /// The account.
    pub cedula: &'a str,
    /// For programs.
    pub data: LowBalanceData,
    /// When it was committed.
    pub timestamp: Moment,
    /// Tells a repeat.
    pub tx_id: Uuid,
}

/// The data of [`LowBalance`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LowBalanceData {
    /// What is left.
    pub saldo: Decimal,
}

/// `banco/estadisticas`, and the answer when statistics are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(title = "Estadisticas")]
pub struct Statistics {
    /// Open WebSocket and TCP sessions.
    pub clientes_conectados: u64,
    /// Postings since the database was created; a transfer makes two.
    pub total_transacciones: u64,
    /// Distinct addresses of the open sessions.
    pub ips_activas: u64,
    /// When they were taken.
    pub timestamp: Moment,
}

/// `atalaya/estado`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presence<'a> {
    /// `en_linea` or `fuera_de_linea`.
    pub estado: &'static str,
    /// Which node speaks.
    pub nodo: &'a str,
    /// Its version.
    pub version: &'static str,
    /// When it said so; in a last will, when it connected.
    pub timestamp: Moment,
}

impl Presence<'_> {
    /// The event that says so, retained.
    #[must_use]
    pub fn event(&self) -> Event {
        Event::new(topics::PRESENCE, self, Qos::AtLeastOnce, true)
    }
}

/// `atalaya/retenidos`: retained balances are right up to `posicion` of the database `base`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct RetainedMarker {
    /// Which database the position is of.
    pub base: Uuid,
    /// The last position of the journal whose retained balances the broker has acknowledged.
    pub posicion: i64,
}

impl RetainedMarker {
    /// The event that says so of the accounts of a lane, retained.
    #[must_use]
    pub fn event(&self, lane: i32) -> Event {
        Event::new(topics::retained_marker(lane), self, Qos::AtLeastOnce, true)
    }
}

/// How a posting's kind is written.
#[must_use]
pub const fn kind_name(kind: PostingKind) -> &'static str {
    match kind {
        PostingKind::Deposit => "DEPOSITO",
        PostingKind::Withdrawal => "RETIRO",
        PostingKind::TransferSent => "TRANSFERENCIA_ENVIADA",
        PostingKind::TransferReceived => "TRANSFERENCIA_RECIBIDA",
        PostingKind::AdjustedUp | PostingKind::AdjustedDown => "AJUSTE",
    }
}

/// The body for a deposit or a withdrawal.
#[must_use]
pub fn transaction<'a>(entry: &Entry, movement: &'a Movement) -> Transaction<'a> {
    let posting = &movement.posting;
    Transaction {
        cedula: movement.account.id.as_str(),
        tipo: kind_name(posting.kind),
        monto: Decimal(posting.amount.money()),
        saldo_nuevo: Decimal(posting.balance),
        timestamp: Moment(entry.at),
        tx_id: entry.tx_id,
        version: posting.version,
    }
}

/// The body for a transfer, from the origin's half; `None` for anything else.
#[must_use]
pub fn transfer<'a>(entry: &Entry, movement: &'a Movement) -> Option<Transfer<'a>> {
    let other = movement.counterparty.as_ref()?;
    let posting = &movement.posting;
    (posting.kind == PostingKind::TransferSent).then(|| Transfer {
        cedula_origen: movement.account.id.as_str(),
        cedula_destino: other.account.id.as_str(),
        monto: Decimal(posting.amount.money()),
        saldo_origen: Decimal(posting.balance),
        saldo_destino: Decimal(other.balance),
        timestamp: Moment(entry.at),
        tx_id: entry.tx_id,
        version_origen: posting.version,
        version_destino: other.version,
    })
}

/// The retained balance after a movement.
#[must_use]
pub fn balance_event(entry: &Entry, movement: &Movement) -> Event {
    let posting = &movement.posting;
    let body = Balance {
        cedula: movement.account.id.as_str(),
        saldo_nuevo: Decimal(posting.balance),
        saldo_anterior: Decimal(posting.previous_balance()),
        timestamp: Moment(entry.at),
        tx_id: entry.tx_id,
        version: posting.version,
    };
    Event::new(
        topics::balance(&movement.account.id),
        &body,
        Qos::AtLeastOnce,
        true,
    )
}

/// The events of one entry, in the order in which they are published.
#[must_use]
pub fn events_of(entry: &Entry, low_balance_threshold: Money) -> Vec<Event> {
    let movement = match &entry.fact {
        Fact::Posted(movement) => movement,
        Fact::Alert(step) => return alerts::events_of(entry, step),
        Fact::AccountOpened { .. }
        | Fact::Refused { .. }
        | Fact::Setting { .. }
        | Fact::Access(_) => {
            return Vec::new();
        }
    };
    if entry.channel == Channel::MovingIn {
        // Nobody is notified of history; what an account holds is said wherever it is asked.
        return vec![balance_event(entry, movement)];
    }
    let mut events = Vec::with_capacity(4);
    match movement.posting.kind {
        PostingKind::Deposit => announce(&mut events, entry, movement, topics::DEPOSITS),
        PostingKind::Withdrawal => announce(&mut events, entry, movement, topics::WITHDRAWALS),
        PostingKind::TransferSent => {
            if let Some(body) = transfer(entry, movement) {
                events.push(Event::new(
                    topics::TRANSFERS,
                    &body,
                    Qos::AtLeastOnce,
                    false,
                ));
            }
        }
        // The origin's half announces the transfer; this half has its balance alone. Adjustments
        // are made by moving in, and announced by nobody.
        PostingKind::TransferReceived | PostingKind::AdjustedUp | PostingKind::AdjustedDown => {}
    }
    events.push(balance_event(entry, movement));
    if movement.posting.leaves_less_than(low_balance_threshold) {
        events.push(low_balance(entry, movement));
    }
    events
}

fn announce(events: &mut Vec<Event>, entry: &Entry, movement: &Movement, topic: &str) {
    let payload = json(&transaction(entry, movement));
    for topic in [topics::TRANSACTIONS, topic] {
        events.push(Event {
            topic: topic.to_owned(),
            payload: payload.clone(),
            qos: Qos::AtLeastOnce,
            retain: false,
        });
    }
}

fn low_balance(entry: &Entry, movement: &Movement) -> Event {
    let balance = movement.posting.balance;
    let body = LowBalance {
        kind: "LOW_BALANCE",
        message: format!("Saldo bajo: ${balance}"),
        cedula: movement.account.id.as_str(),
        data: LowBalanceData {
            saldo: Decimal(balance),
        },
        timestamp: Moment(entry.at),
        tx_id: entry.tx_id,
    };
    Event::new(topics::ALERTS, &body, Qos::ExactlyOnce, false)
}
