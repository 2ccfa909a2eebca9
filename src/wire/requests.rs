//! What clients may ask: JSON bodies, strict, parsed into domain types.
//!
//! Amounts stay text until [`Amount::parse`] has seen them, so no float ever holds one. Unknown
//! fields are refused where they would hide a typo (`mnto`).

use super::numbers::parse_date;
use super::problem::{Problem, ProblemKind, Reason};
use crate::domain::{AccountId, Amount, PersonName, Slug};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};

/// `POST /cuentas`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "AbrirCuenta")]
pub struct OpenAccountBody {
    /// 1 to 20 digits.
    #[schema(example = "1350509525", pattern = "^[0-9]{1,20}$")]
    pub cedula: String,
    /// Given names.
    #[schema(example = "Stefano", min_length = 1, max_length = 100)]
    pub nombres: String,
    /// Surnames.
    #[schema(example = "Aguilar", min_length = 1, max_length = 100)]
    pub apellidos: String,
}

/// `POST /cuentas/{cedula}/depositos` and `/retiros`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "Movimiento")]
pub struct MovementBody {
    /// A positive number with at most two decimals and 15 digits before the point; as JSON number
    /// or as text.
    #[schema(schema_with = amount_schema)]
    pub monto: Box<RawValue>,
    /// The site where it happened.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub sede: Option<String>,
    /// The value date, if it is not the day of the commit.
    #[schema(format = Date)]
    pub fecha_valor: Option<String>,
}

/// `POST /transferencias`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "Transferencia")]
pub struct TransferBody {
    /// Who sends.
    #[schema(example = "1350509525", pattern = "^[0-9]{1,20}$")]
    pub cedula_origen: String,
    /// Who receives.
    #[schema(example = "1315151515", pattern = "^[0-9]{1,20}$")]
    pub cedula_destino: String,
    /// As in a deposit.
    #[schema(schema_with = amount_schema)]
    pub monto: Box<RawValue>,
    /// The site where it happened.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub sede: Option<String>,
    /// The value date, if it is not the day of the commit.
    #[schema(format = Date)]
    pub fecha_valor: Option<String>,
}

/// An amount in a request: a JSON number or the same as text.
fn amount_schema() -> Schema {
    let number = ObjectBuilder::new()
        .schema_type(Type::Number)
        .exclusive_minimum(Some(0))
        .description(Some("At most two decimals and 15 digits before the point."));
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,2})?$"));
    OneOfBuilder::new().item(number).item(text).into()
}

/// Parses a JSON object. An array of its values in order would do for the parser; it is no form
/// that anybody was promised.
///
/// # Errors
/// What is wrong, and where.
pub fn object<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let first = json.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return Err("expected a JSON object".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// Parses a cédula.
///
/// # Errors
/// 422 `cedula_invalida`.
pub fn account_id(text: &str) -> Result<AccountId, Problem> {
    AccountId::parse(text).map_err(|e| Problem::of(ProblemKind::InvalidAccountId).because(e))
}

/// Parses an amount from the raw text of a JSON number or string.
///
/// # Errors
/// 422 `monto_invalido` with the reason.
pub fn amount(raw: &RawValue) -> Result<Amount, Problem> {
    let text = raw.get();
    let unquoted: String;
    let text = if text.starts_with('"') {
        unquoted = serde_json::from_str(text).unwrap_or_default();
        unquoted.as_str()
    } else {
        text
    };
    Amount::parse(text).map_err(|e| Problem::of(ProblemKind::InvalidAmount).because(e))
}

/// Parses given names or surnames; `field` is told in the problem.
///
/// # Errors
/// 422 `nombre_invalido`.
pub fn person_name(field: &str, text: &str) -> Result<PersonName, Problem> {
    PersonName::parse(text)
        .map_err(|e| Problem::of(ProblemKind::InvalidName).because(Reason::from(e).about(field)))
}

/// Parses the site of a movement, if one is named.
///
/// # Errors
/// 422 `sede_invalida`.
pub fn site(text: Option<&str>) -> Result<Option<Slug>, Problem> {
    text.map(Slug::parse)
        .transpose()
        .map_err(|e| Problem::of(ProblemKind::InvalidSite).because(e))
}

/// Parses the value date of a movement, if one is given, as days since 1970-01-01.
///
/// # Errors
/// 422 `fecha_invalida`.
pub fn value_date(text: Option<&str>) -> Result<Option<i32>, Problem> {
    text.map(|text| parse_date(text).ok_or_else(|| Problem::of(ProblemKind::InvalidDate)))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monto(json: &str) -> Result<i64, String> {
        let body: MovementBody =
            serde_json::from_str(&format!("{{\"monto\":{json}}}")).map_err(|e| e.to_string())?;
        amount(&body.monto)
            .map(Amount::cents)
            .map_err(|p| p.kind.code().to_owned())
    }

    #[test]
    fn amounts_are_numbers_or_text() {
        for json in [
            "150",
            "150.0",
            "150.00",
            "\"150\"",
            "\"150.00\"",
            "\"\\u003150\"",
        ] {
            assert_eq!(monto(json), Ok(15_000), "{json}");
        }
    }

    #[test]
    fn nothing_else_is_an_amount() {
        for json in [
            "0",
            "-1",
            "0.001",
            "1e2",
            "\"12,50\"",
            "null",
            "true",
            "[1]",
            "{}",
            "\"\"",
        ] {
            assert_eq!(monto(json), Err("monto_invalido".to_owned()), "{json}");
        }
        assert!(monto("NaN").is_err());
    }

    #[test]
    fn only_objects_are_bodies() {
        assert!(object::<MovementBody>(b" {\"monto\":1}").is_ok());
        for json in ["[1,null,null]", "1", "", "  ", "null"] {
            assert!(object::<MovementBody>(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn typos_and_doubles_are_refused() {
        for json in [
            r#"{"mnto":1}"#,
            r#"{"monto":1,"mnto":1}"#,
            r#"{"monto":1,"monto":2}"#,
            "{}",
        ] {
            assert!(
                serde_json::from_str::<MovementBody>(json).is_err(),
                "{json}"
            );
        }
    }
}
