//! Money as another database writes it, read to the cent without a float.

use crate::domain::{AmountError, Money};

/// How a column keeps its figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// As they were written.
    Exact,
    /// As binary fractions (`DOUBLE`), which leave noise behind when they are summed up.
    Binary,
}

/// A figure, and whether noise was taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figure {
    /// How much.
    pub(super) money: Money,
    /// Whether it was not written to the cent.
    pub(super) rounded: bool,
}

/// The most digits of a figure that are looked at; a `DOUBLE` has seventeen.
const DIGITS: usize = 30;

/// The part of a cent that passes for noise: one in a hundred. What people write into a third and
/// fourth decimal is more, what sums of binary fractions leave behind is far less.
const NOISE: i128 = 100;

/// Reads a figure.
///
/// # Errors
/// [`AmountError`]; more than two decimals are an error unless the rest is zeros, or noise where
/// there may be some.
pub(super) fn figure(text: &str, precision: Precision) -> Result<Figure, AmountError> {
    match precision {
        Precision::Exact => exact(text),
        Precision::Binary => binary(text),
    }
}

fn exact(text: &str) -> Result<Figure, AmountError> {
    let kept = match text.split_once('.') {
        Some((whole, decimals)) if decimals.len() > 2 && decimals.is_ascii() => {
            let (cents, rest) = decimals.split_at(2);
            if rest.bytes().any(|digit| digit != b'0') {
                return Err(AmountError::TooPrecise);
            }
            &text[..whole.len() + 1 + cents.len()]
        }
        _ => text,
    };
    Ok(Figure {
        money: Money::parse(kept)?,
        rounded: false,
    })
}

/// `123.45`, `123.44999999999999`, `5.551115123125783e-17`, `1e15`.
fn binary(text: &str) -> Result<Figure, AmountError> {
    let malformed = AmountError::Malformed;
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| malformed)?;
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{decimals}");
    if whole.is_empty() || digits.len() > DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed);
    }
    let value: i128 = digits.parse().map_err(|_| malformed)?;
    let places = i32::try_from(decimals.len()).map_err(|_| malformed)?;
    // The value stands for value * 10^shift cents.
    let shift = exponent.saturating_sub(places).saturating_add(2);
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    let (cents, rounded) = match (shift < 0, power) {
        (false, Some(power)) => (value.checked_mul(power), false),
        (false, None) => (None, false),
        (true, Some(power)) => {
            let (cents, rest) = (value / power, value % power);
            if rest <= power / NOISE {
                (Some(cents), rest != 0)
            } else if power - rest <= power / NOISE {
                (Some(cents + 1), true)
            } else {
                return Err(AmountError::TooPrecise);
            }
        }
        // So small that the power does not fit.
        (true, None) => (Some(0), value != 0),
    };
    let cents = cents.and_then(|cents| i64::try_from(sign * cents).ok());
    let money = cents.map(Money::from_cents).ok_or(AmountError::TooLarge)?;
    // The same limits as for every other way in.
    Ok(Figure {
        money: Money::parse(&money.to_string())?,
        rounded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cents(text: &str, precision: Precision) -> Result<(i64, bool), AmountError> {
        figure(text, precision).map(|figure| (figure.money.cents(), figure.rounded))
    }

    #[test]
    fn decimals_are_read_as_they_stand() {
        for (text, expected) in [
            ("150", 15_000),
            ("150.5", 15_050),
            ("150.5000", 15_050),
            ("-0.05", -5),
            ("0.00", 0),
            ("999999999999999.99", 99_999_999_999_999_999),
        ] {
            assert_eq!(
                cents(text, Precision::Exact),
                Ok((expected, false)),
                "{text}"
            );
        }
        for (text, expected) in [
            ("150.505", AmountError::TooPrecise),
            ("150.5ñ0", AmountError::Malformed),
            ("1e2", AmountError::Malformed),
            ("", AmountError::Malformed),
            ("1000000000000000.00", AmountError::TooLarge),
        ] {
            assert_eq!(cents(text, Precision::Exact), Err(expected), "{text}");
        }
    }

    #[test]
    fn noise_is_taken_from_binary_fractions_and_nothing_else_is() {
        for (text, expected, rounded) in [
            ("150.1", 15_010, false),
            ("0.30000000000000004", 30, true),
            ("85.49999999999999", 8_550, true),
            ("-85.49999999999999", -8_550, true),
            ("5.551115123125783e-17", 0, true),
            ("-1e-200", 0, true),
            ("0", 0, false),
            ("1e14", 10_000_000_000_000_000, false),
            ("1.2345e+3", 123_450, false),
            ("12345678901.230001", 1_234_567_890_123, true),
        ] {
            let read = cents(text, Precision::Binary);
            assert_eq!(read, Ok((expected, rounded)), "{text}");
        }
        for (text, expected) in [
            ("0.005", AmountError::TooPrecise),
            ("1.001", AmountError::TooPrecise),
            ("1e15", AmountError::TooLarge),
            ("1e300", AmountError::TooLarge),
            ("nan", AmountError::Malformed),
            ("1e", AmountError::Malformed),
            (".5", AmountError::Malformed),
            ("--1", AmountError::Malformed),
        ] {
            assert_eq!(cents(text, Precision::Binary), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_cent_is_a_cent_however_it_is_kept(value in -10_000_000_000_000i64..10_000_000_000_000) {
            let text = Money::from_cents(value).to_string();
            prop_assert_eq!(cents(&text, Precision::Exact), Ok((value, false)));
            prop_assert_eq!(cents(&text, Precision::Binary), Ok((value, false)));
        }
    }
}
