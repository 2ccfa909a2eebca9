//! The requests of an import.

use super::plan::Movement;
use crate::cli::api::Call;
use crate::domain::{AccountId, PostingKind};
use crate::wire::events::json;
use crate::wire::numbers::Decimal;
use serde::Serialize;

/// Given names of accounts that an import opens. The file has no names, the API wants some: with
/// the cédula as surnames, people can tell these accounts apart until somebody names them.
const GIVEN_NAMES: &str = "Titular";

#[derive(Serialize)]
struct OpeningBody<'a> {
    cedula: &'a str,
    nombres: &'a str,
    apellidos: &'a str,
}

#[derive(Serialize)]
struct MovementBody<'a> {
    monto: Decimal,
    // The day it happened marks it as history, so that nobody is notified of it.
    fecha_valor: &'a str,
}

/// Opens `account`.
pub(super) fn open(account: &AccountId) -> Call {
    let cedula = account.as_str();
    let body = json(&OpeningBody {
        cedula,
        nombres: GIVEN_NAMES,
        apellidos: cedula,
    });
    Call::post("/cuentas", body)
}

/// Posts `movement` to `account`.
pub(super) fn post(account: &AccountId, movement: &Movement) -> Call {
    let resource = match movement.kind {
        PostingKind::Withdrawal => "retiros",
        _ => "depositos",
    };
    let (monto, date) = (Decimal(movement.amount.money()), movement.date());
    let body = json(&MovementBody {
        monto,
        fecha_valor: &date,
    });
    Call::post(format!("/cuentas/{account}/{resource}"), body).under(movement.key(account))
}

/// Asks for `account`.
pub(super) fn read(account: &AccountId) -> Call {
    Call::get(format!("/cuentas/{account}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_movement_is_a_number_and_a_day() {
        let plan = super::super::plan::read(
            "cedula,fecha,tipo,monto\n07,1995-04-19,RETIRO,200.5\n".as_bytes(),
        );
        let account = &plan.unwrap().accounts[0];
        let call = post(&account.id, &account.movements[0]);
        assert_eq!(call.path, "/cuentas/07/retiros");
        assert_eq!(
            call.body.unwrap(),
            r#"{"monto":200.50,"fecha_valor":"1995-04-19"}"#
        );
        let opening = open(&account.id).body.unwrap();
        assert_eq!(
            opening,
            r#"{"cedula":"07","nombres":"Titular","apellidos":"07"}"#
        );
    }
}
