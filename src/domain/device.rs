//! Hardware in the field: how it is named, how it proves who it is, and which of its messages are
//! new.

use super::name::Slug;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Where a device is: `empresa/sede/hardware`, as in `sub` and in its topics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceAddress {
    /// The company (`empresa`).
    pub company: Slug,
    /// The site (`sede`).
    pub site: Slug,
    /// The device (`hardware`), unique in the installation.
    pub device: Slug,
}

/// The text does not name a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not empresa/sede/hardware")]
pub struct NotAnAddress;

impl FromStr for DeviceAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let mut levels = text.split('/').map(Slug::parse);
        match (levels.next(), levels.next(), levels.next(), levels.next()) {
            (Some(Ok(company)), Some(Ok(site)), Some(Ok(device)), None) => Ok(Self {
                company,
                site,
                device,
            }),
            _ => Err(NotAnAddress),
        }
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.company, self.site, self.device)
    }
}

/// How a device signs. It comes from the key's record, never from a message's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037): Atalaya holds the public key alone.
    EdDsa,
    /// HMAC with SHA-256 (RFC 7518 §3.2), for controllers too small for the other.
    Hs256,
}

impl Algorithm {
    /// Its name in a JWS header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    /// The algorithm called `name`; there are no others, and `none` is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::EdDsa, Self::Hs256]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

/// Thirty-two secret bytes. `Debug` keeps them to itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The secret as a text that people and programs pass on: base64url without padding.
    #[must_use]
    pub fn reveal(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// What tells the right password of a device from a wrong one: SHA-256 of its text. No salt and no
/// slow hash, since the passwords are 32 random bytes and nobody guesses those.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordDigest([u8; 32]);

impl PasswordDigest {
    /// The digest of the password that `secret` is.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        Self::of_text(secret.reveal().as_bytes())
    }

    /// The digest of a password as it is written.
    #[must_use]
    pub fn of_text(password: &[u8]) -> Self {
        Self(Sha256::digest(password).into())
    }

    /// A digest as it is kept.
    #[must_use]
    pub const fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest itself.
    #[must_use]
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// Whether `password` is the right one, in the same time for all that are not.
    #[must_use]
    pub fn admits(&self, password: &[u8]) -> bool {
        let given = CtOutput::<Sha256>::new(Sha256::digest(password));
        given == CtOutput::new(self.0.into())
    }
}

impl fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordDigest(…)")
    }
}

/// What checks a device's signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// A public key.
    Ed25519(VerifyingKey),
    /// A shared secret.
    Hs256(Secret),
}

/// The bytes are no key that could prove anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable Ed25519 public key")]
pub struct WeakKey;

impl KeyMaterial {
    /// An Ed25519 public key of 32 bytes. Keys of small order, under which anybody could sign, are
    /// refused, and so are encodings that RFC 8032 (§5.1.3) does not decode: nobody has the other
    /// half of those.
    ///
    /// # Errors
    /// [`WeakKey`].
    pub fn ed25519(bytes: &[u8; 32]) -> Result<Self, WeakKey> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| WeakKey)?;
        let is_canonical = key.to_edwards().compress().to_bytes() == *bytes;
        if key.is_weak() || !is_canonical {
            return Err(WeakKey);
        }
        Ok(Self::Ed25519(key))
    }

    /// What it is used with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::EdDsa,
            Self::Hs256(_) => Algorithm::Hs256,
        }
    }

    /// Whether `signature` is this key's over `input`. Takes some 50 µs for Ed25519, in which
    /// malleable signatures fail too (`verify_strict`); HMAC is compared in constant time.
    #[must_use]
    pub fn verifies(&self, input: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(input, &signature).is_ok()),
            Self::Hs256(Secret(secret)) => {
                let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
                    return false;
                };
                mac.update(input);
                mac.verify_slice(signature).is_ok()
            }
        }
    }
}

/// Sequence numbers are below this, so that every language can hold them.
pub const SEQUENCE_LIMIT: u64 = 1 << 53;

/// How far a sequence number may run ahead of the highest one seen.
pub const SEQUENCE_JUMP: u64 = 1_000_000;

/// How many numbers up to the highest are remembered.
pub const SEQUENCE_WINDOW: usize = 64;

/// What a sequence number says about its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// It was not seen before.
    New,
    /// This very message was seen.
    Repeat,
    /// Another message had this number.
    Conflict,
    /// It is older than what is remembered.
    TooOld,
    /// It runs too far ahead.
    TooFar,
}

/// The sequence numbers seen under one key: the highest, and which of the 64 up to it, each with
/// eight bytes of its message's digest, so that a repeat is told from another message that reuses
/// its number (a device whose counter went back must hear of it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceWindow {
    /// The highest number seen; `None` before the first.
    highest: Option<u64>,
    /// Bit *n* stands for `highest - n`.
    seen: u64,
    /// The digests, at `number % 64`.
    digests: [u64; SEQUENCE_WINDOW],
}

impl Default for SequenceWindow {
    fn default() -> Self {
        Self {
            highest: None,
            seen: 0,
            digests: [0; SEQUENCE_WINDOW],
        }
    }
}

impl SequenceWindow {
    /// The highest number seen.
    #[must_use]
    pub const fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// What `number` says about a message with this digest. The first number under a key may be
    /// any: there is nothing yet that it could run ahead of.
    #[must_use]
    pub fn look_at(&self, number: u64, digest: u64) -> Novelty {
        let Some(highest) = self.highest else {
            return Novelty::New;
        };
        if number > highest {
            return if number - highest > SEQUENCE_JUMP {
                Novelty::TooFar
            } else {
                Novelty::New
            };
        }
        let behind = highest - number;
        if behind >= SEQUENCE_WINDOW as u64 {
            return Novelty::TooOld;
        }
        if self.seen >> behind & 1 == 0 {
            return Novelty::New;
        }
        if self.digests[slot(number)] == digest {
            Novelty::Repeat
        } else {
            Novelty::Conflict
        }
    }

    /// Remembers a number that [`Self::look_at`] has called new.
    pub fn accept(&mut self, number: u64, digest: u64) {
        match self.highest {
            Some(highest) if number <= highest => self.seen |= 1 << (highest - number),
            Some(highest) => {
                let ahead = number - highest;
                let kept = u32::try_from(ahead)
                    .ok()
                    .and_then(|ahead| self.seen.checked_shl(ahead));
                self.seen = kept.unwrap_or(0) | 1;
                self.highest = Some(number);
            }
            None => {
                self.seen = 1;
                self.highest = Some(number);
            }
        }
        self.digests[slot(number)] = digest;
    }

    /// The window as bytes: highest, bits, digests, each as eight big-endian bytes. Empty for a
    /// window that has seen nothing.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Some(highest) = self.highest else {
            return Vec::new();
        };
        let numbers = [highest, self.seen].into_iter().chain(self.digests);
        numbers.flat_map(u64::to_be_bytes).collect()
    }

    /// The window that [`Self::to_bytes`] wrote; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        if bytes.len() != (SEQUENCE_WINDOW + 2) * 8 {
            return None;
        }
        let mut numbers = bytes
            .chunks_exact(8)
            .filter_map(|chunk| chunk.try_into().ok().map(u64::from_be_bytes));
        let (highest, seen) = (numbers.next()?, numbers.next()?);
        let mut digests = [0; SEQUENCE_WINDOW];
        for (slot, digest) in digests.iter_mut().zip(numbers) {
            *slot = digest;
        }
        Some(Self {
            highest: Some(highest),
            seen,
            digests,
        })
    }
}

fn slot(number: u64) -> usize {
    usize::try_from(number % SEQUENCE_WINDOW as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn addresses_have_three_levels() {
        let address: DeviceAddress = "banco/norte/boton-1".parse().unwrap();
        assert_eq!(address.to_string(), "banco/norte/boton-1");
        for text in ["", "a/b", "a/b/c/d", "a/+/c", "a//c", "a/b/#", "a/b/c/"] {
            assert!(text.parse::<DeviceAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn keys_of_small_order_prove_nothing() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(KeyMaterial::ed25519(&identity), Err(WeakKey));
        assert_eq!(KeyMaterial::ed25519(&[0; 32]), Err(WeakKey));
        // 18 + p, which is no way to write 18.
        assert_eq!(KeyMaterial::ed25519(&[0xff; 32]), Err(WeakKey));
    }

    #[test]
    fn a_signature_is_one_of_its_own_key_and_input() {
        use ed25519_dalek::{Signer, SigningKey};
        let signing = SigningKey::from_bytes(&[7; 32]);
        let key = KeyMaterial::ed25519(signing.verifying_key().as_bytes()).unwrap();
        let signature = signing.sign(b"input").to_bytes();
        assert!(key.verifies(b"input", &signature));
        assert!(!key.verifies(b"inputs", &signature));
        assert!(!key.verifies(b"input", &signature[..63]));
        assert!(!key.verifies(b"input", b""));
        // A public key must never do as an HMAC secret (the classic confusion of algorithms).
        let confused = KeyMaterial::Hs256(Secret(*signing.verifying_key().as_bytes()));
        assert!(!confused.verifies(b"input", &signature));
    }

    #[test]
    fn a_password_is_the_text_of_its_secret() {
        let secret = Secret([7; 32]);
        let digest = PasswordDigest::of(&secret);
        assert!(digest.admits(b"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"));
        for wrong in [
            &b""[..],
            &[7; 32],
            b"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwd",
        ] {
            assert!(!digest.admits(wrong));
        }
        assert!(!format!("{digest:?} {secret:?}").contains('7'));
    }

    #[test]
    fn the_window_admits_reordering_once_each() {
        let mut window = SequenceWindow::default();
        for number in [100, 98, 99, 163, 101, 162] {
            assert_eq!(window.look_at(number, number), Novelty::New, "{number}");
            window.accept(number, number);
        }
        for number in [100, 101, 162, 163] {
            assert_eq!(window.look_at(number, number), Novelty::Repeat, "{number}");
            assert_eq!(window.look_at(number, 7), Novelty::Conflict, "{number}");
        }
        assert_eq!(window.look_at(99, 99), Novelty::TooOld);
        assert_eq!(window.look_at(102, 1), Novelty::New);
        assert_eq!(window.look_at(163 + SEQUENCE_JUMP, 1), Novelty::New);
        assert_eq!(window.look_at(164 + SEQUENCE_JUMP, 1), Novelty::TooFar);
    }

    proptest! {
        /// Against a model that remembers everything: nothing is accepted twice, and what is
        /// within the window and unseen is always accepted.
        #[test]
        fn the_window_agrees_with_a_memory_of_everything(
            numbers in proptest::collection::vec(0u64..300, 1..400)
        ) {
            let mut window = SequenceWindow::default();
            let mut seen = HashSet::new();
            let mut highest = None;
            for number in numbers {
                let novelty = window.look_at(number, number ^ 5);
                let within = highest.is_none_or(|highest: u64| number + 64 > highest);
                let expected = match (within, seen.contains(&number)) {
                    (false, _) => Novelty::TooOld,
                    (true, true) => Novelty::Repeat,
                    (true, false) => Novelty::New,
                };
                prop_assert_eq!(novelty, expected);
                if novelty == Novelty::New {
                    window.accept(number, number ^ 5);
                    seen.insert(number);
                    highest = highest.max(Some(number));
                }
                prop_assert_eq!(SequenceWindow::from_bytes(&window.to_bytes()), Some(window.clone()));
            }
        }
    }
}
