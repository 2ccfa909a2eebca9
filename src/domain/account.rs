//! An account and the only ways in which its balance can change.

use super::amount::{Amount, Money};
use std::fmt;

/// The national id that names an account (`cedula` on the wire): 1 to 20 ASCII digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(String);

/// Which check a new account's id must pass beyond its form (`CEDULA_CHECK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum CedulaCheck {
    /// The form alone: 1 to 20 digits.
    #[default]
    None,
    /// The check digit of an Ecuadorian cédula of ten digits.
    Ec,
}

/// Why a text does not name an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountIdError {
    /// Not 1 to 20 ASCII digits.
    #[error("not 1 to 20 digits")]
    Form,
    /// The check digit is wrong.
    #[error("its check digit is wrong")]
    CheckDigit,
}

impl AccountId {
    /// Parses 1 to 20 ASCII digits, which can never inject into a topic.
    ///
    /// # Errors
    /// [`AccountIdError::Form`].
    pub fn parse(text: &str) -> Result<Self, AccountIdError> {
        let form = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if form {
            Ok(Self(text.to_owned()))
        } else {
            Err(AccountIdError::Form)
        }
    }

    /// Whether a new account may carry this id under `check`.
    ///
    /// # Errors
    /// [`AccountIdError::CheckDigit`].
    pub fn check(&self, check: CedulaCheck) -> Result<(), AccountIdError> {
        match check {
            CedulaCheck::Ec if !ecuadorian(&self.0) => Err(AccountIdError::CheckDigit),
            CedulaCheck::Ec | CedulaCheck::None => Ok(()),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What logs may say of it.
    #[must_use]
    pub fn masked(&self) -> Masked<'_> {
        Masked(&self.0)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Personal data.
impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({})", self.masked())
    }
}

/// What logs may say of an account: the first and last two digits (`13…25`), enough to tell two
/// apart and not to look one up; nothing of a short one, where that would be most of it.
#[derive(Clone, Copy)]
pub struct Masked<'a>(&'a str);

/// Digits from which on four of them may be shown.
const SHOWN_FROM: usize = 8;

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0;
        if digits.len() < SHOWN_FROM {
            return f.write_str("…");
        }
        write!(f, "{}…{}", &digits[..2], &digits[digits.len() - 2..])
    }
}

/// `text` for logs: each run of digits that may be a cédula is masked, whatever else stands around
/// it. For names that people choose, which may be their cédulas, and for topics.
#[must_use]
pub fn masked_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        masked.push_str(&rest[..start]);
        let from = &rest[start..];
        let end = from.find(|c: char| !c.is_ascii_digit());
        let (digits, after) = from.split_at(end.unwrap_or(from.len()));
        if digits.len() < SHOWN_FROM {
            masked.push_str(digits);
        } else {
            masked.push_str(&Masked(digits).to_string());
        }
        rest = after;
    }
    masked.push_str(rest);
    masked
}

/// The check of Ecuador's civil registry: ten digits, a province of 01 to 24 or 30, a third digit
/// below 6, and the last digit completing the weighted sum (2,1,2,…, nines cast out) to a ten.
fn ecuadorian(text: &str) -> bool {
    let digits: Vec<u32> = text.bytes().map(|b| u32::from(b - b'0')).collect();
    let [head @ .., last] = digits.as_slice() else {
        return false;
    };
    if head.len() != 9 {
        return false;
    }
    let province = head[0] * 10 + head[1];
    if !((1..=24).contains(&province) || province == 30) || head[2] > 5 {
        return false;
    }
    let sum: u32 = head
        .iter()
        .zip([2, 1].into_iter().cycle())
        .map(|(digit, weight)| digit * weight)
        .map(|product| if product > 9 { product - 9 } else { product })
        .sum();
    (10 - sum % 10) % 10 == *last
}

/// The kinds of change of one balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PostingKind {
    /// Money paid in.
    Deposit,
    /// Money paid out.
    Withdrawal,
    /// The origin's half of a transfer.
    TransferSent,
    /// The destination's half of a transfer.
    TransferReceived,
    /// An adjustment that raises the balance. Only moving in makes adjustments.
    AdjustedUp,
    /// An adjustment that lowers the balance.
    AdjustedDown,
}

impl PostingKind {
    /// Whether the balance rises.
    #[must_use]
    pub const fn is_credit(self) -> bool {
        matches!(
            self,
            Self::Deposit | Self::TransferReceived | Self::AdjustedUp
        )
    }

    /// Whether it corrects what a history does not explain.
    #[must_use]
    pub const fn is_adjustment(self) -> bool {
        matches!(self, Self::AdjustedUp | Self::AdjustedDown)
    }
}

/// The state of one account that decides what may happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// What it holds, never below zero.
    pub balance: Money,
    /// How many postings it has had.
    pub version: i64,
}

/// One change of one balance, decided but not yet durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// What happened.
    pub kind: PostingKind,
    /// How much moved.
    pub amount: Amount,
    /// The balance after it.
    pub balance: Money,
    /// The account's version after it: its first posting has 1.
    pub version: i64,
}

impl Posting {
    /// The balance before it.
    #[must_use]
    pub fn previous_balance(&self) -> Money {
        let (now, amount) = (self.balance.cents(), self.amount.cents());
        Money::from_cents(if self.kind.is_credit() {
            now - amount
        } else {
            now + amount
        })
    }

    /// Whether a withdrawal left less than `threshold`. Low balance is about withdrawals only.
    #[must_use]
    pub fn leaves_less_than(&self, threshold: Money) -> bool {
        self.kind == PostingKind::Withdrawal && self.balance < threshold
    }
}

/// Why a balance may not change so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The balance is smaller than the amount.
    #[error("the balance of {balance} does not cover it")]
    Overdraft {
        /// What the account holds.
        balance: Money,
    },
    /// The balance would no longer fit.
    #[error("the balance would exceed what can be represented")]
    TooRich,
    /// Origin and destination are one account.
    #[error("origin and destination are the same account")]
    SameAccount,
}

impl Account {
    /// An account as it is opened.
    pub const NEW: Self = Self {
        balance: Money::ZERO,
        version: 0,
    };

    /// The posting that `kind` of `amount` would make.
    ///
    /// # Errors
    /// [`Rejection`]; the account is unchanged either way.
    pub fn apply(&self, kind: PostingKind, amount: Amount) -> Result<Posting, Rejection> {
        let balance = if kind.is_credit() {
            self.balance
                .plus(amount.money())
                .ok_or(Rejection::TooRich)?
        } else {
            self.balance
                .minus(amount.money())
                .filter(|left| *left >= Money::ZERO)
                .ok_or(Rejection::Overdraft {
                    balance: self.balance,
                })?
        };
        Ok(Posting {
            kind,
            amount,
            balance,
            version: self.version + 1,
        })
    }

    /// The account after `posting`.
    #[must_use]
    pub const fn after(posting: &Posting) -> Self {
        Self {
            balance: posting.balance,
            version: posting.version,
        }
    }
}

/// The two postings of a transfer, origin's first.
///
/// # Errors
/// [`Rejection`]; neither account is changed.
pub fn transfer(
    origin: (&AccountId, &Account),
    destination: (&AccountId, &Account),
    amount: Amount,
) -> Result<(Posting, Posting), Rejection> {
    if origin.0 == destination.0 {
        return Err(Rejection::SameAccount);
    }
    let sent = origin.1.apply(PostingKind::TransferSent, amount)?;
    let received = destination.1.apply(PostingKind::TransferReceived, amount)?;
    Ok((sent, received))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amount(cents: i64) -> Amount {
        Amount::from_cents(cents).unwrap()
    }

    fn account(cents: i64) -> Account {
        Account {
            balance: Money::from_cents(cents),
            version: 7,
        }
    }

    #[test]
    fn ids_are_digits() {
        assert!(AccountId::parse("1350509525").is_ok());
        for text in ["", "12a", "1/2", "+", "#", "1\0", "١", &"1".repeat(21)] {
            assert!(AccountId::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_ecuadorian_check_digit() {
        let ec = |text| AccountId::parse(text).unwrap().check(CedulaCheck::Ec);
        assert_eq!(ec("1350509525"), Ok(()));
        for text in [
            "1350509526",
            "9950509525",
            "1370509525",
            "135050952",
            "13505095250",
        ] {
            assert_eq!(ec(text), Err(AccountIdError::CheckDigit), "{text}");
        }
        assert_eq!(
            AccountId::parse("42").unwrap().check(CedulaCheck::None),
            Ok(())
        );
    }

    #[test]
    fn logs_see_no_whole_id_wherever_it_stands() {
        let masked = |text: &str| AccountId::parse(text).unwrap().masked().to_string();
        assert_eq!(masked("1350509525"), "13…25");
        assert_eq!(masked("12345678901234567890"), "12…90");
        for short in ["1", "12", "1234567"] {
            assert_eq!(masked(short), "…", "{short}");
        }
        for (text, shown) in [
            ("1350509525", "13…25"),
            ("banco/saldo/1350509525", "banco/saldo/13…25"),
            ("c1315151515x0912345678", "c13…15x09…78"),
            ("boton-1 ñ 2026", "boton-1 ñ 2026"),
            ("", ""),
        ] {
            assert_eq!(masked_text(text), shown);
        }
    }

    #[test]
    fn debug_masks_the_id() {
        assert_eq!(
            format!("{:?}", AccountId::parse("1350509525").unwrap()),
            "AccountId(13…25)"
        );
        assert_eq!(
            format!("{:?}", AccountId::parse("5").unwrap()),
            "AccountId(…)"
        );
    }

    #[test]
    fn a_withdrawal_may_empty_but_not_overdraw() {
        let posting = account(100)
            .apply(PostingKind::Withdrawal, amount(100))
            .unwrap();
        assert_eq!((posting.balance, posting.version), (Money::ZERO, 8));
        assert_eq!(posting.previous_balance(), Money::from_cents(100));
        assert_eq!(
            account(100).apply(PostingKind::Withdrawal, amount(101)),
            Err(Rejection::Overdraft {
                balance: Money::from_cents(100)
            })
        );
    }

    #[test]
    fn a_balance_cannot_overflow() {
        assert_eq!(
            account(i64::MAX).apply(PostingKind::Deposit, amount(1)),
            Err(Rejection::TooRich)
        );
    }

    #[test]
    fn low_balance_is_below_the_threshold_and_only_for_withdrawals() {
        let threshold = Money::from_cents(10_000);
        let left = |cents, kind| Posting {
            kind,
            amount: amount(1),
            balance: Money::from_cents(cents),
            version: 1,
        };
        for (cents, low) in [(10_001, false), (10_000, false), (9_999, true)] {
            assert_eq!(
                left(cents, PostingKind::Withdrawal).leaves_less_than(threshold),
                low
            );
        }
        assert!(!left(1, PostingKind::Deposit).leaves_less_than(threshold));
        assert!(!left(1, PostingKind::TransferSent).leaves_less_than(threshold));
    }

    #[test]
    fn a_transfer_to_oneself_is_refused() {
        let id = AccountId::parse("1").unwrap();
        assert_eq!(
            transfer((&id, &account(100)), (&id, &account(100)), amount(1)),
            Err(Rejection::SameAccount)
        );
    }

    proptest! {
        #[test]
        fn a_transfer_makes_and_loses_nothing(
            from in 0i64..1_000_000, to in 0i64..1_000_000, cents in 1i64..2_000_000
        ) {
            let (a, b) = (AccountId::parse("1").unwrap(), AccountId::parse("2").unwrap());
            match transfer((&a, &account(from)), (&b, &account(to)), amount(cents)) {
                Ok((sent, received)) => {
                    prop_assert!(cents <= from);
                    prop_assert_eq!(sent.balance.cents() + received.balance.cents(), from + to);
                    prop_assert_eq!(sent.previous_balance().cents(), from);
                    prop_assert_eq!(received.previous_balance().cents(), to);
                }
                Err(rejection) => {
                    prop_assert!(cents > from);
                    prop_assert_eq!(rejection, Rejection::Overdraft { balance: Money::from_cents(from) });
                }
            }
        }
    }
}
