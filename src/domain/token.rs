//! Tokens: what somebody shows to say who they are.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;

/// SHA-256 of a token: what is kept of it. Tokens have 256 random bits, so there is nothing to
/// guess and a slow hash would only slow every request.
pub type TokenDigest = [u8; 32];

/// What a token is for; it shows in its first letters, so that a leaked one is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// A session of a person.
    Session,
    /// A program.
    Program,
    /// One WebSocket connection.
    Ticket,
    /// A device from before Atalaya, for a few minutes.
    Device,
}

impl TokenUse {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "ats_",
            Self::Program => "atp_",
            Self::Ticket => "atb_",
            Self::Device => "ath_",
        }
    }
}

/// The text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token")]
pub struct NotAToken;

/// An opaque token of 256 bits. `Debug` keeps it to itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The longest text that is looked at.
    const MAX: usize = 256;

    /// The shortest: 32 bytes in base64. A setting may name a token of its own form.
    const MIN: usize = 43;

    /// A token made of 32 random bytes.
    #[must_use]
    pub fn new(r#use: TokenUse, random: [u8; 32]) -> Self {
        let text = BASE64_URL_SAFE_NO_PAD.encode(random);
        Self(format!("{}{text}", r#use.prefix()))
    }

    /// Takes a text that may be a token: 43 to 256 visible ASCII characters.
    ///
    /// # Errors
    /// [`NotAToken`].
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        let fits = (Self::MIN..=Self::MAX).contains(&text.len());
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        (fits && visible)
            .then(|| Self(text.to_owned()))
            .ok_or(NotAToken)
    }

    /// What is kept of it.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// What a page must send along with the cookie that holds this token: other sites can make a
    /// browser send the cookie, but they cannot read this.
    #[must_use]
    pub fn csrf(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"atalaya/csrf/v1\0");
        hasher.update(self.0.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(hasher.finalize())
    }

    /// The token itself, to be handed to whom it belongs and to nobody else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_says_nothing_in_debug() {
        let token = Token::new(TokenUse::Session, [7; 32]);
        assert_eq!(Token::parse(token.reveal()), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("Bwc"));
        assert!(Token::parse("short").is_err());
        assert!(Token::parse(&" ".repeat(50)).is_err());
        assert!(Token::parse(&"x".repeat(257)).is_err());
        assert_ne!(token.csrf(), Token::new(TokenUse::Session, [8; 32]).csrf());
    }
}
