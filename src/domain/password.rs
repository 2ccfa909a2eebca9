//! Passwords as people choose them.

use super::name::Slug;
use std::fmt;

/// The shortest password, in characters; length is what makes one hard to guess (NIST SP 800-63B).
pub const MIN: usize = 12;

/// The longest, so that hashing one is not a way to keep us busy.
pub const MAX: usize = 256;

/// A password that somebody has typed. `Debug` keeps it to itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too short.
    #[error("shorter than {MIN} characters")]
    TooShort,
    /// Too long.
    #[error("longer than {MAX} characters")]
    TooLong,
    /// It holds the name that it is for.
    #[error("it holds the name of whom it is for")]
    HoldsName,
    /// One character again and again, or digits or letters in a row.
    #[error("too simple")]
    TooSimple,
}

impl Password {
    /// Whatever somebody has typed to sign in.
    #[must_use]
    pub fn typed(text: &str) -> Self {
        Self(text.chars().take(MAX + 1).collect())
    }

    /// A password that `username` chooses.
    ///
    /// # Errors
    /// [`WeakPassword`].
    pub fn choose(text: &str, username: &Slug) -> Result<Self, WeakPassword> {
        let length = text.chars().count();
        if length < MIN {
            return Err(WeakPassword::TooShort);
        }
        if length > MAX {
            return Err(WeakPassword::TooLong);
        }
        let name = username.as_str().to_lowercase();
        if name.len() > 3 && text.to_lowercase().contains(&name) {
            return Err(WeakPassword::HoldsName);
        }
        let mut distinct: Vec<char> = text.chars().collect();
        distinct.sort_unstable();
        distinct.dedup();
        let steps = text.chars().zip(text.chars().skip(1));
        let in_a_row = steps
            .filter(|(a, b)| (*a as u32).abs_diff(*b as u32) <= 1)
            .count();
        if distinct.len() < 5 || in_a_row * 4 > length * 3 {
            return Err(WeakPassword::TooSimple);
        }
        Ok(Self(text.to_owned()))
    }

    /// The password, to be hashed and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ones_are_taken_and_simple_ones_are_not() {
        let ana = Slug::parse("cajera-ana").unwrap();
        let choose = |text: &str| Password::choose(text, &ana).map(drop);
        assert_eq!(choose("correct horse battery"), Ok(()));
        assert_eq!(choose("short"), Err(WeakPassword::TooShort));
        assert_eq!(choose(&"x1y2".repeat(100)), Err(WeakPassword::TooLong));
        assert_eq!(choose("soy Cajera-Ana 2026"), Err(WeakPassword::HoldsName));
        assert_eq!(choose("aaaaaaaaaaaaaa"), Err(WeakPassword::TooSimple));
        assert_eq!(choose("1234567890123"), Err(WeakPassword::TooSimple));
        assert!(!format!("{:?}", Password::typed("canary")).contains("canary"));
    }
}
