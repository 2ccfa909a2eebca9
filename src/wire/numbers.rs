//! How money, time and dates are written.

use crate::domain::Money;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// Money as a JSON number with exactly two decimals, written from integer cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal(pub Money);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string())
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}

/// A moment, kept as microseconds since 1970 UTC and written as RFC 3339 with milliseconds and
/// `Z`. The same microseconds always give the same text, so a replayed answer is the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub i64);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0.div_euclid(1_000);
        let moment = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
        write!(f, "{moment:.3}")
    }
}

impl PartialSchema for Decimal {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Number)
            .description(Some("Exactly two decimals."))
            .into()
    }
}

impl ToSchema for Decimal {}

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for Moment {}

/// The first and last value date that is taken: a typo in a year should not pass.
const VALUE_YEARS: std::ops::RangeInclusive<i16> = 1900..=2200;

/// Parses a value date (`fecha_valor`), `YYYY-MM-DD` of the years 1900 to 2200, as days since
/// 1970-01-01.
#[must_use]
pub fn parse_date(text: &str) -> Option<i32> {
    // Only this spelling: the parser also knows others.
    let date: Date = (text.len() == 10).then(|| text.parse().ok()).flatten()?;
    if !VALUE_YEARS.contains(&date.year()) {
        return None;
    }
    Some((date - EPOCH).get_days())
}

/// Writes days since 1970-01-01 as `YYYY-MM-DD`.
#[must_use]
pub fn format_date(days: i32) -> String {
    let date = EPOCH
        .checked_add(jiff::Span::new().days(days))
        .unwrap_or(EPOCH);
    date.to_string()
}

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_a_number_with_two_decimals() {
        let json = serde_json::to_string(&Decimal(Money::from_cents(15_000))).unwrap();
        assert_eq!(json, "150.00");
    }

    #[test]
    fn moments_have_milliseconds_and_z() {
        assert_eq!(
            Moment(1_768_487_400_123_456).to_string(),
            "2026-01-15T14:30:00.123Z"
        );
        assert_eq!(
            Moment(1_768_487_400_000_000).to_string(),
            "2026-01-15T14:30:00.000Z"
        );
    }

    #[test]
    fn dates_go_there_and_back() {
        for (text, days) in [("1970-01-01", 0), ("1995-04-19", 9_239), ("1969-12-31", -1)] {
            assert_eq!(parse_date(text), Some(days));
            assert_eq!(format_date(days), text);
        }
        for text in [
            "",
            "1995-4-19",
            "1995-02-30",
            "0200-01-01",
            "19950419",
            "1995-04-19T00:00",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
