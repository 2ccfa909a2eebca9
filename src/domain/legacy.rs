//! Devices from before Atalaya, which neither sign nor speak MQTT: what lets them in, which of their
//! messages are the same, and what the words of their alerts mean here.

use super::device::PasswordDigest;
use super::name::Slug;
use super::registry::{Device, Registry, Trust};
use super::token::TokenDigest;
use sha2::{Digest, Sha256};

/// Numbers of messages stay below what JSON holds exactly.
const NUMBER_BITS: u32 = 53;

/// What a device is let in with: the token that it got for its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyPass {
    /// The device's row.
    pub device: i64,
    /// The secret that the token was given for: a new one ends it.
    pub secret: PasswordDigest,
    /// The token.
    pub token: TokenDigest,
}

impl LegacyPass {
    /// Whether the device still may: it is one from before, and its secret is the one of then.
    #[must_use]
    pub fn holds(&self, registry: &Registry, device: &Device) -> bool {
        device.row == self.device
            && device.trust == Trust::Legacy
            && registry.secret_of(device.row) == Some(self.secret)
    }

    /// The number of a message, which such a device does not count: the same for the same message
    /// under the same token, and for no other.
    #[must_use]
    pub fn number_of(&self, message: &[u8; 32]) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(b"atalaya/heredada/numero/v1\0");
        hasher.update(self.token);
        hasher.update(message);
        let digest: [u8; 32] = hasher.finalize().into();
        let first = digest.first_chunk::<8>();
        first.map_or(0, |bytes| u64::from_be_bytes(*bytes)) >> (u64::BITS - NUMBER_BITS)
    }
}

/// A letter without its accent, since those who write one mean the same word.
const fn plain(letter: char) -> char {
    match letter {
        'á' | 'Á' => 'a',
        'é' | 'É' => 'e',
        'í' | 'Í' => 'i',
        'ó' | 'Ó' => 'o',
        'ú' | 'Ú' | 'ü' | 'Ü' => 'u',
        'ñ' | 'Ñ' => 'n',
        other => other,
    }
}

/// The kinds of alert that a word may stand for, the likeliest first: one that is called so, and that
/// of a colour or an urgency.
#[must_use]
pub fn kinds_called(word: &str) -> Vec<Slug> {
    let plain: String = word.trim().chars().map(plain).collect();
    let Ok(own) = Slug::parse(&plain) else {
        return Vec::new();
    };
    let colour = match own.as_str().to_ascii_lowercase().as_str() {
        "roja" | "critica" => Some("ROJO"),
        "naranja" => Some("NARANJA"),
        "amarilla" | "precaucion" => Some("AMARILLO"),
        "verde" | "normal" => Some("VERDE"),
        "azul" => Some("AZUL"),
        _ => None,
    };
    let upper = Slug::parse(&own.as_str().to_ascii_uppercase()).ok();
    let mut kinds = vec![own];
    for kind in upper.into_iter().chain(colour.map(Slug::constant)) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::device::Secret;

    fn pass(token: u8) -> LegacyPass {
        LegacyPass {
            device: 1,
            secret: PasswordDigest::of(&Secret([1; 32])),
            token: [token; 32],
        }
    }

    #[test]
    fn a_message_has_one_number_under_one_token() {
        let number = pass(1).number_of(&[7; 32]);
        assert_eq!(number, pass(1).number_of(&[7; 32]));
        assert_ne!(number, pass(2).number_of(&[7; 32]));
        assert_ne!(number, pass(1).number_of(&[8; 32]));
        assert!(number < 1 << NUMBER_BITS);
    }

    #[test]
    fn words_of_before_stand_for_kinds_of_today() {
        let last = |word: &str| kinds_called(word).last().map(ToString::to_string);
        for (words, kind) in [
            (
                ["roja", "critica", "crítica", "CRÍTICA", "ROJO", " Roja "].as_slice(),
                "ROJO",
            ),
            (&["naranja", "NARANJA"], "NARANJA"),
            (&["amarilla", "precaucion", "Precaución"], "AMARILLO"),
            (&["verde", "normal", "NORMAL"], "VERDE"),
            (&["azul"], "AZUL"),
            (&["Humo", "HUMO"], "HUMO"),
        ] {
            for word in words {
                assert_eq!(last(word).as_deref(), Some(kind), "{word}");
            }
        }
        assert_eq!(kinds_called("Humo")[0].as_str(), "Humo", "as it is, first");
        assert!(kinds_called("robo en caja").is_empty());
        assert!(kinds_called("").is_empty());
    }
}
