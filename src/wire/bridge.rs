//! What the web front end from before Atalaya asks and is answered: bodies, and one envelope.
//!
//! Its texts are those of the line protocol, which it was a bridge to.

use super::events::{Statistics, json};
use super::legacy::date_of;
use super::line::{Fault, Verb, answer};
use super::numbers::Decimal;
use super::resources::{AccountResource, MovementResource};
use super::{Problem, ProblemKind};
use crate::domain::Money;
use bytes::Bytes;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `POST /api/consulta`. Fields of which nothing is known are let be: the front end is not ours.
#[derive(Debug, Deserialize)]
pub struct AccountBody {
    /// The account.
    pub cedula: String,
}

/// `POST /api/deposito` and `/api/retiro`.
#[derive(Debug, Deserialize)]
pub struct MovementBody {
    /// The account.
    pub cedula: String,
    /// How much, as JSON number or as text.
    pub monto: Box<RawValue>,
}

/// `POST /api/crear`.
#[derive(Debug, Deserialize)]
pub struct OpenBody {
    /// The account.
    pub cedula: String,
    /// The whole name of its holder.
    pub nombre: String,
}

/// `POST /api/transferir`.
#[derive(Debug, Deserialize)]
pub struct TransferBody {
    /// Who sends.
    pub cedula_origen: String,
    /// Who receives.
    pub cedula_destino: String,
    /// How much.
    pub monto: Box<RawValue>,
}

/// What has been done, and what came of it.
#[derive(Debug, Serialize)]
pub struct Done<'a, T> {
    success: bool,
    action: &'a str,
    data: T,
}

impl<'a, T: Serialize> Done<'a, T> {
    /// The answer to `action`.
    #[must_use]
    pub fn bytes(action: &'a str, data: T) -> Bytes {
        let done = Self {
            success: true,
            action,
            data,
        };
        json(&done)
    }
}

/// An account.
#[derive(Debug, Serialize)]
pub struct Account<'a> {
    nombres: &'a str,
    apellidos: &'a str,
    saldo: Decimal,
}

impl<'a> From<&'a AccountResource> for Account<'a> {
    fn from(account: &'a AccountResource) -> Self {
        Self {
            nombres: &account.nombres,
            apellidos: &account.apellidos,
            saldo: account.saldo,
        }
    }
}

/// An account that has just been opened.
#[derive(Debug, Serialize)]
pub struct Opened<'a> {
    mensaje: &'static str,
    #[serde(flatten)]
    account: Account<'a>,
}

impl<'a> From<&'a AccountResource> for Opened<'a> {
    fn from(account: &'a AccountResource) -> Self {
        Self {
            mensaje: "Cliente creado exitosamente",
            account: account.into(),
        }
    }
}

/// A deposit or withdrawal that is done.
#[derive(Debug, Serialize)]
pub struct Moved {
    /// What was done, for people.
    pub mensaje: &'static str,
    /// The balance after it.
    pub nuevo_saldo: Decimal,
}

/// A transfer that is done.
#[derive(Debug, Serialize)]
pub struct Transferred {
    mensaje: &'static str,
    saldo_origen: Decimal,
    saldo_destino: Decimal,
}

impl Transferred {
    /// A transfer that left these balances.
    #[must_use]
    pub const fn new(origin: Money, destination: Money) -> Self {
        Self {
            mensaje: "Transferencia exitosa",
            saldo_origen: Decimal(origin),
            saldo_destino: Decimal(destination),
        }
    }
}

/// A movement.
#[derive(Debug, Serialize)]
pub struct Movement {
    tipo: &'static str,
    monto: Decimal,
    saldo_final: Decimal,
    fecha: String,
}

/// Movements with their dates in `zone`.
#[must_use]
pub fn movements(found: &[MovementResource], zone: &TimeZone) -> Vec<Movement> {
    let movement = |movement: &MovementResource| Movement {
        tipo: movement.tipo,
        monto: movement.monto,
        saldo_final: movement.saldo_nuevo,
        fecha: date_of(movement, zone),
    };
    found.iter().map(movement).collect()
}

/// The history of an account.
#[derive(Debug, Serialize)]
pub struct History {
    /// Newest first.
    pub transacciones: Vec<Movement>,
}

/// The figures that everybody may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Figures {
    clientes_activos: u64,
    operaciones_simultaneas: u64,
    conexiones_activas: u64,
}

impl Figures {
    /// Sessions, operations that are under way, and addresses of sessions.
    #[must_use]
    pub const fn new(statistics: &Statistics, under_way: u64) -> Self {
        Self {
            clientes_activos: statistics.clientes_conectados,
            operaciones_simultaneas: under_way,
            conexiones_activas: statistics.ips_activas,
        }
    }

    /// The answer to `stats`, which has a name of its own for them.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        #[derive(Serialize)]
        struct Stats {
            success: bool,
            action: &'static str,
            estadisticas: Figures,
        }
        json(&Stats {
            success: true,
            action: "stats",
            estadisticas: self,
        })
    }
}

/// What was not done, and why.
#[derive(Debug, Serialize)]
struct Failed<'a> {
    success: bool,
    error: &'a str,
    detalles: Option<&'a str>,
}

/// The answer where `verb` was not done, in the words of the line protocol.
#[must_use]
pub fn failed(verb: Option<Verb>, problem: &Problem) -> Bytes {
    let text = match problem.kind {
        ProblemKind::Unauthenticated => "ERROR|No autorizado".to_owned(),
        ProblemKind::MalformedBody | ProblemKind::NotJson => "ERROR|Datos inválidos".to_owned(),
        ProblemKind::NotFound => "ERROR|No encontrado".to_owned(),
        ProblemKind::ForeignOrigin => {
            "ERROR|Origen no permitido|ALLOWED_ORIGINS no lo nombra".to_owned()
        }
        _ => answer::problem(verb, problem),
    };
    say(&text)
}

/// The answer where what was asked for `verb` cannot be.
#[must_use]
pub fn faulty(fault: Fault) -> Bytes {
    say(fault.text())
}

/// `ERROR|text|detail` in the envelope.
fn say(line: &str) -> Bytes {
    let mut fields = line.split('|').skip(1);
    json(&Failed {
        success: false,
        error: fields.next().unwrap_or_default(),
        detalles: fields.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_done_is_said_in_one_envelope() {
        let said = |problem: &Problem, verb| {
            String::from_utf8(failed(Some(verb), problem).to_vec()).unwrap()
        };
        let unknown = Problem::of(ProblemKind::UnknownAccount);
        assert_eq!(
            said(&unknown, Verb::Deposit),
            r#"{"success":false,"error":"Cliente no encontrado","detalles":null}"#
        );
        assert_eq!(
            said(&unknown, Verb::Transfer),
            r#"{"success":false,"error":"Cuenta origen no existe","detalles":null}"#
        );
        let short = Problem::of(ProblemKind::InsufficientBalance);
        let short = short.with_balance(Money::from_cents(8_550));
        assert_eq!(
            said(&short, Verb::Withdraw),
            r#"{"success":false,"error":"Saldo insuficiente","detalles":"85.50"}"#
        );
        assert_eq!(
            &faulty(Fault::NotPositive)[..],
            "{\"success\":false,\"error\":\"El monto debe ser positivo\",\"detalles\":null}"
                .as_bytes()
        );
    }
}
