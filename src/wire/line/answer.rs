//! What is said to a terminal: fields after `OK` or `ERROR`, separated by `|`.

use super::{Fault, Verb};
use crate::domain::Money;
use crate::wire::events::Statistics;
use crate::wire::legacy::date_of;
use crate::wire::resources::{AccountResource, MovementResource};
use crate::wire::{Problem, ProblemKind};
use jiff::tz::TimeZone;

/// Said to whoever connects.
pub const WELCOME: &str = "BIENVENIDO|Sistema Bancario Distribuido v1.0";

/// Said where there is no room for another connection.
pub const FULL: &str = "ERROR|Servidor ocupado";

/// Said to whoever asks without having said who they are.
pub const NOBODY: &str = "ERROR|Debe autenticarse primero (AUTENTICAR <token>)";

/// Said when a token is none of ours, or is no longer.
pub const BAD_TOKEN: &str = "ERROR|Token inválido";

/// Said to whoever has shown a good token.
pub const AUTHENTICATED: &str = "OK|Autenticado";

/// Said to whoever leaves.
pub const GOODBYE: &str = "OK|Hasta pronto";

/// Said before the end of a connection on which nothing has come for too long.
pub const IDLE: &str = "ERROR|Tiempo de espera agotado";

/// Said before the end of a connection whose command is too long.
pub const TOO_LONG: &str = "ERROR|Comando demasiado largo";

/// Said when the service closes: what has not been answered has not been done.
pub const CLOSING: &str = "ERROR|El servidor se está cerrando";

/// Said where a change may have been made or not, since there is no key by which to ask again.
const UNCERTAIN: &str = "ERROR|Servicio no disponible, verifique el saldo antes de repetir";

impl Fault {
    /// What is said of it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unrecognised => "ERROR|Comando no reconocido o parámetros incorrectos",
            Self::MalformedAmount => "ERROR|Formato de monto inválido",
            Self::NotPositive => "ERROR|El monto debe ser positivo",
            Self::TooFewNames => "ERROR|Debe proporcionar al menos nombre y apellido",
            Self::NotAToken => BAD_TOKEN,
        }
    }

    /// What it is counted as.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unrecognised => "comando_invalido",
            Self::MalformedAmount | Self::NotPositive => ProblemKind::InvalidAmount.code(),
            Self::TooFewNames => ProblemKind::InvalidName.code(),
            Self::NotAToken => ProblemKind::InvalidToken.code(),
        }
    }
}

/// An account: `CONSULTA`.
#[must_use]
pub fn account(account: &AccountResource) -> String {
    let (names, surnames, balance) = (&account.nombres, &account.apellidos, account.saldo.0);
    format!("OK|{names}|{surnames}|{balance}")
}

/// An account that has just been opened: `CREAR`.
#[must_use]
pub fn opened(account: &AccountResource) -> String {
    let (names, surnames, balance) = (&account.nombres, &account.apellidos, account.saldo.0);
    format!("OK|Cliente creado exitosamente|{names}|{surnames}|{balance}")
}

/// A deposit that is done, and the balance after it: `AUMENTAR`.
#[must_use]
pub fn deposited(balance: Money) -> String {
    format!("OK|Depósito exitoso|{balance}")
}

/// A withdrawal that is done, and the balance after it: `DISMINUIR`.
#[must_use]
pub fn withdrawn(balance: Money) -> String {
    format!("OK|Retiro exitoso|{balance}")
}

/// A transfer that is done, and both balances after it: `TRANSFERIR`.
#[must_use]
pub fn transferred(origin: Money, destination: Money) -> String {
    format!("OK|Transferencia exitosa|{origin}|{destination}")
}

/// Movements, four fields each, with their dates in `zone`: `HISTORIAL`.
#[must_use]
pub fn movements(movements: &[MovementResource], zone: &TimeZone) -> String {
    if movements.is_empty() {
        return "OK|Sin transacciones".to_owned();
    }
    let fields = movements.iter().map(|movement| {
        let (kind, amount) = (movement.tipo, movement.monto.0);
        let (balance, date) = (movement.saldo_nuevo.0, date_of(movement, zone));
        format!("|{kind}|{amount}|{balance}|{date}")
    });
    std::iter::once("OK".to_owned()).chain(fields).collect()
}

/// The figures that everybody may see: `STATS`.
#[must_use]
pub fn statistics(figures: &Statistics) -> String {
    format!(
        "OK|Clientes conectados: {}|Transacciones: {}|IPs activas: {}",
        figures.clientes_conectados, figures.total_transacciones, figures.ips_activas
    )
}

/// Why `verb` was not done, or what was no command was not even looked at.
#[must_use]
pub fn problem(verb: Option<Verb>, problem: &Problem) -> String {
    let is_transfer = verb == Some(Verb::Transfer);
    let is_change = verb.is_some_and(Verb::is_change);
    let text = match problem.kind {
        ProblemKind::UnknownAccount if is_transfer => "Cuenta origen no existe",
        ProblemKind::UnknownAccount => "Cliente no encontrado",
        ProblemKind::UnknownDestination => "Cuenta destino no existe",
        ProblemKind::InsufficientBalance if is_transfer => "Saldo insuficiente en cuenta origen",
        ProblemKind::InsufficientBalance => {
            let balance = problem.balance.unwrap_or_default();
            return format!("ERROR|Saldo insuficiente|{balance}");
        }
        ProblemKind::AccountExists => "Cliente ya existe",
        ProblemKind::SameAccount => "La cuenta origen y la cuenta destino son la misma",
        ProblemKind::BalanceLimit => "El saldo excedería el máximo permitido",
        ProblemKind::InvalidAccountId => "Cédula inválida",
        ProblemKind::InvalidName => "Nombre o apellido inválido",
        ProblemKind::InvalidAmount => return Fault::MalformedAmount.text().to_owned(),
        ProblemKind::Unauthenticated => return NOBODY.to_owned(),
        ProblemKind::InvalidToken => return BAD_TOKEN.to_owned(),
        ProblemKind::Forbidden | ProblemKind::UnknownSite => "Operación no permitida",
        ProblemKind::PasswordMustChange => "Debe cambiar su contraseña primero",
        ProblemKind::TooManyRequests => "Demasiadas solicitudes, espere un momento",
        ProblemKind::Overloaded => "Servidor ocupado, intente de nuevo",
        ProblemKind::StorageUnavailable | ProblemKind::ShuttingDown if is_change => {
            return UNCERTAIN.to_owned();
        }
        ProblemKind::StorageUnavailable | ProblemKind::ShuttingDown => "Servicio no disponible",
        _ => "No se pudo completar la operación",
    };
    format!("ERROR|{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::numbers::Decimal;
    use crate::wire::numbers::Moment;
    use uuid::Uuid;

    fn movement(kind: &'static str, cents: i64, at: i64) -> MovementResource {
        MovementResource {
            cedula: "1".to_owned(),
            tipo: kind,
            monto: Decimal(Money::from_cents(cents)),
            saldo_nuevo: Decimal(Money::from_cents(cents + 5)),
            saldo_anterior: None,
            timestamp: Moment(at),
            tx_id: Uuid::nil(),
            version: 1,
            contraparte: None,
            sede: None,
            fecha_valor: None,
        }
    }

    #[test]
    fn dates_are_those_of_the_zone() {
        let at = 1_768_505_400_999_999;
        let history = [movement("DEPOSITO", 1_000, at), movement("RETIRO", 5, at)];
        let told = |zone: &str| movements(&history, &TimeZone::get(zone).unwrap());
        assert_eq!(
            told("America/Guayaquil"),
            "OK|DEPOSITO|10.00|10.05|2026-01-15 14:30:00|RETIRO|0.05|0.10|2026-01-15 14:30:00"
        );
        assert!(told("UTC").contains("2026-01-15 19:30:00"));
        let old = MovementResource {
            fecha_valor: Some("1995-04-19".to_owned()),
            ..movement("RETIRO", 5, at)
        };
        let told = movements(&[old], &TimeZone::UTC);
        assert_eq!(told, "OK|RETIRO|0.05|0.10|1995-04-19 00:00:00");
        assert_eq!(movements(&[], &TimeZone::UTC), "OK|Sin transacciones");
    }

    #[test]
    fn every_problem_is_one_line_of_an_error() {
        for verb in Verb::ALL {
            for kind in ProblemKind::ALL {
                let text = problem(Some(verb), &Problem::of(*kind));
                assert!(text.starts_with("ERROR|"), "{text}");
                assert!(!text.contains(char::is_control), "{text}");
            }
        }
    }

    #[test]
    fn whoever_cannot_know_is_told_to_look_first() {
        let lost = Problem::of(ProblemKind::StorageUnavailable);
        assert_eq!(problem(Some(Verb::Deposit), &lost), UNCERTAIN);
        assert_eq!(
            problem(Some(Verb::Balance), &lost),
            "ERROR|Servicio no disponible"
        );
    }
}
