//! Money: integer cents, parsed from text and written as text, never a float.

use std::fmt;

/// The most integer digits an amount may have: 999,999,999,999,999.99 fits an `i64` of cents
/// ninety times over, so sums of many amounts can be checked instead of feared.
pub const MAX_INTEGER_DIGITS: usize = 15;

/// A sum of money in cents, of either sign: a balance, a total, a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing at all.
    pub const ZERO: Self = Self(0);

    /// Money from a count of cents.
    #[must_use]
    pub const fn from_cents(cents: i64) -> Self {
        Self(cents)
    }

    /// The count of cents.
    #[must_use]
    pub const fn cents(self) -> i64 {
        self.0
    }

    /// The sum, or `None` where it would not fit.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` where it would not fit.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Parses a balance as the wire writes it: digits, a point, one or two decimals; `-` allowed.
    ///
    /// # Errors
    /// The same as [`Amount::parse`], but zero and negative values are fine.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let cents = parse_unsigned(digits)?;
        Ok(Self(if negative { -cents } else { cents }))
    }
}

/// Always two decimals: `150.00`, `-0.05`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", cents / 100, cents % 100)
    }
}

/// An amount to move: strictly positive cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(Money);

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not digits with an optional point and decimals: `1e2`, `NaN`, `12,50`, ` 5`.
    #[error("not a decimal number like 150 or 150.50")]
    Malformed,
    /// Finer than a cent.
    #[error("more than two decimals")]
    TooPrecise,
    /// Zero or below.
    #[error("not above zero")]
    NotPositive,
    /// More than [`MAX_INTEGER_DIGITS`] digits before the point.
    #[error("more than 15 digits before the point")]
    TooLarge,
}

impl Amount {
    /// Parses `150`, `150.5` or `150.50`.
    ///
    /// # Errors
    /// [`AmountError`] says what is wrong; one spelling per value, so no sign, exponent, blank,
    /// comma or leading zero passes.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        if let Some(rest) = text.strip_prefix('-') {
            parse_unsigned(rest)?;
            return Err(AmountError::NotPositive);
        }
        Self::from_cents(parse_unsigned(text)?)
    }

    /// An amount from a count of cents.
    ///
    /// # Errors
    /// [`AmountError::NotPositive`] for zero and below.
    pub fn from_cents(cents: i64) -> Result<Self, AmountError> {
        if cents <= 0 {
            return Err(AmountError::NotPositive);
        }
        Ok(Self(Money(cents)))
    }

    /// The amount as money.
    #[must_use]
    pub const fn money(self) -> Money {
        self.0
    }

    /// The count of cents, above zero.
    #[must_use]
    pub const fn cents(self) -> i64 {
        self.0.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn parse_unsigned(text: &str) -> Result<i64, AmountError> {
    let (integer, decimals) = match text.split_once('.') {
        Some((_, "")) => return Err(AmountError::Malformed),
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits_only = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = integer.len() > 1 && integer.starts_with('0');
    if integer.is_empty() || leading_zero || !digits_only(integer) || !digits_only(decimals) {
        return Err(AmountError::Malformed);
    }
    if decimals.len() > 2 {
        return Err(AmountError::TooPrecise);
    }
    if integer.len() > MAX_INTEGER_DIGITS {
        return Err(AmountError::TooLarge);
    }
    // At most 17 digits, so neither the parse nor the sum can overflow.
    let units: i64 = integer.parse().map_err(|_| AmountError::TooLarge)?;
    let fraction: i64 = match decimals.len() {
        0 => 0,
        1 => {
            decimals
                .parse::<i64>()
                .map_err(|_| AmountError::Malformed)?
                * 10
        }
        _ => decimals.parse().map_err(|_| AmountError::Malformed)?,
    };
    Ok(units * 100 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn right_spellings() {
        for (text, cents) in [
            ("150", 15_000),
            ("150.5", 15_050),
            ("150.50", 15_050),
            ("0.01", 1),
            ("999999999999999.99", 99_999_999_999_999_999),
        ] {
            assert_eq!(Amount::parse(text).map(Amount::cents), Ok(cents), "{text}");
        }
    }

    #[test]
    fn wrong_spellings() {
        use AmountError::{Malformed, NotPositive, TooLarge, TooPrecise};
        for (text, error) in [
            ("0", NotPositive),
            ("0.00", NotPositive),
            ("-1", NotPositive),
            ("-0", NotPositive),
            ("0.001", TooPrecise),
            ("1.500", TooPrecise),
            ("1e2", Malformed),
            ("NaN", Malformed),
            ("12,50", Malformed),
            ("", Malformed),
            (".5", Malformed),
            ("5.", Malformed),
            ("+5", Malformed),
            (" 5", Malformed),
            ("05", Malformed),
            ("--5", Malformed),
            ("1.2.3", Malformed),
            ("٣", Malformed),
            ("1000000000000000", TooLarge),
        ] {
            assert_eq!(Amount::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(cents in -99_999_999_999_999_999i64..=99_999_999_999_999_999) {
            let money = Money::from_cents(cents);
            prop_assert_eq!(Money::parse(&money.to_string()), Ok(money));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Amount::parse(&text);
        }
    }
}
