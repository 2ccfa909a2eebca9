//! Names that people and programs give to things, parsed once at the edge.

use std::fmt;

/// Why a text is not the name it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Empty, or nothing but blanks.
    #[error("empty")]
    Empty,
    /// Longer than this many characters.
    #[error("longer than {0} characters")]
    TooLong(usize),
    /// Holds a character that has no place in it.
    #[error("has a character that is not allowed")]
    BadCharacter,
}

/// A name for a company, a site or a device: one level of an MQTT topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slug(String);

impl Slug {
    /// The longest slug, in characters.
    pub const MAX: usize = 64;

    /// Parses `[A-Za-z0-9_-]{1,64}`.
    ///
    /// # Errors
    /// [`TextError`] for anything else, so that a slug can never inject into a topic.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.len() > Self::MAX {
            return Err(TextError::TooLong(Self::MAX));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if !text.bytes().all(allowed) {
            return Err(TextError::BadCharacter);
        }
        Ok(Self(text.to_owned()))
    }

    /// A slug that stands in the source. Whoever writes one that is none sees it in the first test.
    pub(crate) fn constant(text: &'static str) -> Self {
        debug_assert!(Self::parse(text).is_ok(), "{text:?} is no slug");
        Self(text.to_owned())
    }

    /// The slug of a short text that stands in the source, and a number.
    pub(crate) fn numbered(text: &'static str, number: i64) -> Self {
        debug_assert!(Self::parse(text).is_ok_and(|slug| slug.0.len() < 32));
        Self(format!("{text}{number}"))
    }

    /// The slug as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Given names or surnames of a person.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonName(String);

impl PersonName {
    /// The longest name, in characters.
    pub const MAX: usize = 100;

    /// Parses a name: trimmed, not empty, no control characters and no `|`, which separates
    /// fields in the line protocol of tellers' terminals.
    ///
    /// # Errors
    /// [`TextError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.chars().count() > Self::MAX {
            return Err(TextError::TooLong(Self::MAX));
        }
        if text.chars().any(|c| c.is_control() || c == '|') {
            return Err(TextError::BadCharacter);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Personal data stays out of logs, so `Debug` shows that a name is there and not which.
impl fmt::Debug for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonName(…)")
    }
}

/// What people call a company, a site, a device, a kind of alert or a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    /// The longest, in characters.
    pub const MAX: usize = 100;

    /// Parses a label: trimmed, not empty, no control characters and no `|`.
    ///
    /// # Errors
    /// [`TextError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        PersonName::parse(text).map(|name| Self(name.0))
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A few lines for people: a description, an instruction, a reason. May be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prose(String);

impl Prose {
    /// The longest, in characters.
    pub const MAX: usize = 2_000;

    /// Parses prose: trimmed, no control characters but line breaks and tabs.
    ///
    /// # Errors
    /// [`TextError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let text = text.trim();
        if text.chars().count() > Self::MAX {
            return Err(TextError::TooLong(Self::MAX));
        }
        if text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
        {
            return Err(TextError::BadCharacter);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key under which a client may repeat a money command without repeating its effect.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The longest key, in characters: room for a UUID and a prefix.
    pub const MAX: usize = 128;

    /// Parses 1 to 128 visible ASCII characters.
    ///
    /// # Errors
    /// [`TextError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.len() > Self::MAX {
            return Err(TextError::TooLong(Self::MAX));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TextError::BadCharacter);
        }
        Ok(Self(text.to_owned()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whoever knows a key can learn the answer given under it, so it stays out of logs.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_cannot_leave_their_topic_level() {
        assert!(Slug::parse("sede_Norte-1").is_ok());
        for text in ["", "a/b", "a+b", "#", "a\0b", "ñ", "a b", &"x".repeat(65)] {
            assert!(Slug::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_are_trimmed_and_clean() {
        assert_eq!(
            PersonName::parse("  Juan Pérez ").map(|n| n.as_str().to_owned()),
            Ok("Juan Pérez".to_owned())
        );
        for text in ["", "   ", "a|b", "a\nb", "a\u{7}b", &"x".repeat(101)] {
            assert!(PersonName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!(IdempotencyKey::parse("0199-abc:/").is_ok());
        for text in ["", "a b", "ñ", "a\n", &"x".repeat(129)] {
            assert!(IdempotencyKey::parse(text).is_err(), "{text:?}");
        }
    }
}
