//! Rows of the old tables and what they mean, or why they mean nothing. No database here.

use super::figure::{Figure, Precision, figure};
use crate::cli::text::Shown;
use crate::domain::moving::OldMovement;
use crate::domain::{
    AccountId, Amount, AmountError, CedulaCheck, IdempotencyKey, Money, PersonName, PostingKind,
    TextError,
};
use crate::wire::events::kind_name;
use crate::wire::numbers::parse_date;
use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A row of `clientes` as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, QueryableByName)]
pub(super) struct RawClient {
    #[diesel(sql_type = Text)]
    pub(super) cedula: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) nombres: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) apellidos: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) saldo: Option<String>,
}

/// A row of `transacciones` as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, QueryableByName)]
pub(super) struct RawMovement {
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) cedula: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) tipo: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) monto: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) saldo_final: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) fecha: Option<String>,
}

/// A client that may be moved in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) given_names: PersonName,
    pub(super) surnames: PersonName,
    pub(super) balance: Money,
}

/// How the old tables are to be read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// How `clientes.saldo` is kept.
    pub(super) saldo: Precision,
    /// How `transacciones.monto` is kept.
    pub(super) monto: Precision,
    /// How `transacciones.saldo_final` is kept.
    pub(super) saldo_final: Precision,
    /// The zone in which a moment of `fecha` has its day, where it is kept in UTC (`TIMESTAMP`). A
    /// `DATETIME` is in that zone already.
    pub(super) moments_in: Option<TimeZone>,
    /// What keys begin with: `mudanza:` and the name of the database.
    pub(super) prefix: String,
    /// Which check cédulas must pass.
    pub(super) check: CedulaCheck,
}

/// What was read, and how many figures had noise taken from them.
#[derive(Debug)]
pub(super) struct Rounding(pub(super) u64);

impl Rounding {
    fn take(&mut self, figure: Figure) -> Money {
        self.0 += u64::from(figure.rounded);
        figure.money
    }
}

impl Reading {
    /// The key of what `account` has under `name`.
    ///
    /// # Errors
    /// For people, where the name is too long or not of visible ASCII characters.
    pub(super) fn key(&self, account: &str, name: &str) -> Result<IdempotencyKey, String> {
        let key = format!("{}:{account}:{name}", self.prefix);
        IdempotencyKey::parse(&key).map_err(|error| {
            let name = Shown::from(name);
            format!(
                "id {:?}: no sirve para una clave: {}",
                name.as_str(),
                text_error(error)
            )
        })
    }

    /// The cédula of a client.
    ///
    /// # Errors
    /// For people.
    pub(super) fn cedula(&self, text: &str) -> Result<AccountId, String> {
        let id = AccountId::parse(text)
            .map_err(|_| "clientes: la cédula no es de 1 a 20 dígitos".to_owned())?;
        id.check(self.check).map_err(|_| {
            "clientes: el dígito verificador de la cédula no es correcto".to_owned()
        })?;
        Ok(id)
    }

    /// What else a client's row says.
    ///
    /// # Errors
    /// For people.
    pub(super) fn client(
        &self,
        raw: &RawClient,
        rounding: &mut Rounding,
    ) -> Result<Client, String> {
        let name = |column: &str, text: &Option<String>| {
            PersonName::parse(text.as_deref().unwrap_or_default())
                .map_err(|error| format!("clientes: {column}: {}", text_error(error)))
        };
        let text = raw.saldo.as_deref().unwrap_or_default();
        let saldo =
            figure(text, self.saldo).map_err(|error| wrong("clientes: saldo", text, error))?;
        let balance = rounding.take(saldo);
        if balance < Money::ZERO {
            return Err(format!("clientes: saldo {balance}: es negativo"));
        }
        Ok(Client {
            given_names: name("nombres", &raw.nombres)?,
            surnames: name("apellidos", &raw.apellidos)?,
            balance,
        })
    }

    /// A movement.
    ///
    /// # Errors
    /// For people; it names the row.
    pub(super) fn movement(
        &self,
        raw: &RawMovement,
        rounding: &mut Rounding,
    ) -> Result<OldMovement, String> {
        self.try_movement(raw, rounding).map_err(|reason| {
            let id = Shown::from(raw.id.as_deref().unwrap_or("NULL"));
            format!("transacciones {}: {reason}", id.as_str())
        })
    }

    fn try_movement(
        &self,
        raw: &RawMovement,
        rounding: &mut Rounding,
    ) -> Result<OldMovement, String> {
        let id = raw.id.clone().ok_or("sin id")?;
        // An id may be unique in the history of one account alone.
        let account = raw.cedula.as_deref().unwrap_or_default().trim_end();
        let key = self.key(account, &format!("id:{id}"))?;
        let tipo = raw.tipo.as_deref().unwrap_or_default();
        let kind = kind(tipo).ok_or_else(|| {
            let tipo = Shown::from(tipo);
            format!(
                "tipo {:?}: se espera DEPOSITO, RETIRO, TRANSFERENCIA_ENVIADA o \
                 TRANSFERENCIA_RECIBIDA",
                tipo.as_str()
            )
        })?;
        let text = raw.monto.as_deref().unwrap_or_default();
        let monto = figure(text, self.monto).map_err(|error| wrong("monto", text, error))?;
        let amount = Amount::from_cents(rounding.take(monto).cents())
            .map_err(|error| wrong("monto", text, error))?;
        let stated = match raw.saldo_final.as_deref() {
            None => None,
            Some(text) => {
                let stated = figure(text, self.saldo_final)
                    .map_err(|error| wrong("saldo_final", text, error))?;
                Some(rounding.take(stated))
            }
        };
        let fecha = raw.fecha.as_deref().unwrap_or("NULL");
        let day = self.day(fecha).ok_or_else(|| {
            let fecha = Shown::from(fecha);
            format!(
                "fecha {:?}: se espera una entre 1900 y 2200",
                fecha.as_str()
            )
        })?;
        Ok(OldMovement {
            id,
            key,
            kind,
            amount,
            day,
            stated,
        })
    }

    /// The day of a moment, in days since 1970-01-01.
    fn day(&self, text: &str) -> Option<i32> {
        let Some(zone) = &self.moments_in else {
            return parse_date(text.get(..10)?);
        };
        let moment: DateTime = text.parse().ok()?;
        let moment = moment.to_zoned(TimeZone::UTC).ok()?;
        let local = moment.with_time_zone(zone.clone());
        parse_date(&local.date().to_string())
    }
}

fn kind(text: &str) -> Option<PostingKind> {
    use PostingKind::{Deposit, TransferReceived, TransferSent, Withdrawal};
    let text = text.trim();
    [Deposit, Withdrawal, TransferSent, TransferReceived]
        .into_iter()
        .find(|kind| kind_name(*kind).eq_ignore_ascii_case(text))
}

fn wrong(column: &str, text: &str, error: AmountError) -> String {
    let text = Shown::from(text);
    format!("{column} {:?}: {}", text.as_str(), amount_error(error))
}

const fn amount_error(error: AmountError) -> &'static str {
    super::super::plan::explain(error)
}

fn text_error(error: TextError) -> String {
    match error {
        TextError::Empty => "está vacío".to_owned(),
        TextError::TooLong(most) => format!("tiene más de {most} caracteres"),
        TextError::BadCharacter => "tiene caracteres que no se admiten".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        Reading {
            saldo: Precision::Exact,
            monto: Precision::Exact,
            saldo_final: Precision::Binary,
            moments_in: None,
            prefix: "mudanza:viejo".to_owned(),
            check: CedulaCheck::None,
        }
    }

    fn client(nombres: &str, saldo: &str) -> Result<Client, String> {
        let raw = RawClient {
            cedula: "1".to_owned(),
            nombres: Some(nombres.to_owned()),
            apellidos: Some("Mora".to_owned()),
            saldo: Some(saldo.to_owned()),
        };
        reading().client(&raw, &mut Rounding(0))
    }

    fn raw(tipo: &str, monto: &str, fecha: &str) -> RawMovement {
        RawMovement {
            id: Some("7".to_owned()),
            cedula: Some("1".to_owned()),
            tipo: Some(tipo.to_owned()),
            monto: Some(monto.to_owned()),
            saldo_final: None,
            fecha: Some(fecha.to_owned()),
        }
    }

    #[test]
    fn clients_have_names_and_no_debts() {
        let ana = client(" Ana ", "10.50").unwrap();
        assert_eq!(
            (ana.given_names.as_str(), ana.balance.cents()),
            ("Ana", 1_050)
        );
        for (nombres, saldo, reason) in [
            ("", "1", "nombres: está vacío"),
            ("a|b", "1", "nombres: tiene caracteres"),
            ("a\u{1b}[2J", "1", "nombres: tiene caracteres"),
            ("Ana", "-0.01", "saldo -0.01: es negativo"),
            (
                "Ana",
                "1.001",
                "saldo \"1.001\": tiene más de dos decimales",
            ),
            ("Ana", "", "saldo"),
        ] {
            let error = client(nombres, saldo).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn movements_say_which_row_is_wrong() {
        let read = |raw: &RawMovement| reading().movement(raw, &mut Rounding(0));
        let sent = read(&raw("transferencia_Enviada", "5.00", "2020-02-29 23:59:59")).unwrap();
        assert_eq!(sent.kind, PostingKind::TransferSent);
        assert_eq!((sent.day, sent.stated), (18_321, None));
        assert_eq!(sent.key.as_str(), "mudanza:viejo:1:id:7");
        for (row, reason) in [
            (
                raw("INTERES", "5.00", "2020-01-01 00:00:00"),
                "tipo \"INTERES\"",
            ),
            (
                raw("RETIRO", "0.00", "2020-01-01 00:00:00"),
                "no es mayor que cero",
            ),
            (
                raw("RETIRO", "-1.00", "2020-01-01 00:00:00"),
                "no es mayor que cero",
            ),
            (raw("RETIRO", "1.00", "0000-00-00 00:00:00"), "fecha"),
            (
                raw("AJUSTE", "1.00", "2020-01-01 00:00:00"),
                "tipo \"AJUSTE\"",
            ),
        ] {
            let error = read(&row).unwrap_err();
            assert!(
                error.contains("transacciones 7") && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn a_moment_in_utc_has_its_day_in_the_zone_of_the_bank() {
        let zone = TimeZone::get("America/Guayaquil").unwrap();
        let reading = Reading {
            moments_in: Some(zone),
            ..reading()
        };
        // Five hours behind: it was still the day before there.
        assert_eq!(reading.day("2020-03-01 04:59:59.999999"), Some(18_321));
        assert_eq!(reading.day("2020-03-01 05:00:00"), Some(18_322));
    }

    #[test]
    fn noise_is_counted() {
        let mut rounding = Rounding(0);
        let row = RawMovement {
            saldo_final: Some("0.30000000000000004".to_owned()),
            ..raw("DEPOSITO", "0.30", "2020-01-01")
        };
        let movement = reading().movement(&row, &mut rounding).unwrap();
        assert_eq!(movement.stated, Some(Money::from_cents(30)));
        assert_eq!(rounding.0, 1);
    }
}
