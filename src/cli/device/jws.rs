//! Signing: an alert as a compact JWS (RFC 7515), as firmware makes it. Pure.

use crate::domain::device::Secret;
use crate::domain::{Algorithm, DeviceAddress};
use crate::wire::jws::TYPE;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Write as _};

/// What signs. It shows itself to nobody: `Debug` names the algorithm alone.
#[derive(Clone)]
pub(super) enum Key {
    /// A private key.
    Ed25519(Box<SigningKey>),
    /// A secret that is shared with the server.
    Hs256(Secret),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, …)", self.algorithm().name())
    }
}

impl Key {
    /// The key of these thirty-two bytes.
    pub(super) fn new(algorithm: Algorithm, bytes: [u8; 32]) -> Self {
        match algorithm {
            Algorithm::EdDsa => Self::Ed25519(Box::new(SigningKey::from_bytes(&bytes))),
            Algorithm::Hs256 => Self::Hs256(Secret(bytes)),
        }
    }

    /// A key nobody else has.
    ///
    /// # Errors
    /// Where the system has no random bytes to give.
    pub(super) fn random(algorithm: Algorithm) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::new(algorithm, bytes))
    }

    /// What it signs with.
    pub(super) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::EdDsa,
            Self::Hs256(_) => Algorithm::Hs256,
        }
    }

    /// Its secret bytes in base64url, for the credentials file and nothing else.
    pub(super) fn reveal(&self) -> String {
        match self {
            Self::Ed25519(key) => base64url(key.as_bytes()),
            Self::Hs256(secret) => base64url(&secret.0),
        }
    }

    /// The public half in base64url; a shared secret has none.
    pub(super) fn public(&self) -> Option<String> {
        match self {
            Self::Ed25519(key) => Some(base64url(key.verifying_key().as_bytes())),
            Self::Hs256(_) => None,
        }
    }

    fn sign(&self, input: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.sign(input).to_bytes().to_vec(),
            Self::Hs256(secret) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0)
                    .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
                mac.update(input);
                mac.finalize().into_bytes().to_vec()
            }
        }
    }
}

/// What a device has to say, before it has a number.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Alert {
    /// Its kind (`tipo_alarma`).
    pub(super) kind: String,
    /// What happened, in words.
    pub(super) description: Option<String>,
    /// Where.
    pub(super) location: Option<Map<String, Value>>,
    /// Anything else.
    pub(super) data: Option<Map<String, Value>>,
}

impl Alert {
    /// An alert of this kind with nothing more to it.
    pub(super) fn of_kind(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            ..Self::default()
        }
    }
}

/// Who signs, and with which key.
#[derive(Debug, Clone)]
pub(super) struct Signature<'a> {
    /// `aud`: the installation.
    pub(super) audience: &'a str,
    /// `sub`: the device.
    pub(super) subject: &'a DeviceAddress,
    /// `kid`: the name of the key.
    pub(super) kid: &'a str,
    /// The key.
    pub(super) key: &'a Key,
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    sub: String,
    seq: u64,
    iat: i64,
    tipo_alarma: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    descripcion: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ubicacion: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datos: Option<&'a Map<String, Value>>,
}

/// The SHA-256 of a message (`huella`): what its reply is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these bytes.
    pub(super) fn of(message: &[u8]) -> Self {
        Self(Sha256::digest(message).into())
    }

    /// Reads sixty-four hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A signed message. It is sent as it is as often as it takes: signing again would make another.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Its number.
    pub(super) seq: u64,
    /// Its kind.
    pub(super) kind: String,
    /// The name of the key it is signed with.
    pub(super) kid: String,
    /// Its fingerprint.
    pub(super) fingerprint: Fingerprint,
    /// What goes over the wire.
    pub(super) bytes: Bytes,
}

impl Signature<'_> {
    /// Signs `alert` as number `seq`, issued at `iat` (Unix seconds).
    pub(super) fn sign(&self, alert: &Alert, seq: u64, iat: i64) -> Message {
        let header = Header {
            typ: TYPE,
            alg: self.key.algorithm().name(),
            kid: self.kid,
        };
        let claims = Claims {
            aud: self.audience,
            sub: self.subject.to_string(),
            seq,
            iat,
            tipo_alarma: &alert.kind,
            descripcion: alert.description.as_deref(),
            ubicacion: alert.location.as_ref(),
            datos: alert.data.as_ref(),
        };
        let mut text = format!("{}.{}", encoded(&header), encoded(&claims));
        let signature = base64url(&self.key.sign(text.as_bytes()));
        // Writing to a String cannot fail.
        let _ = write!(text, ".{signature}");
        Message {
            seq,
            kind: alert.kind.clone(),
            kid: self.kid.to_owned(),
            fingerprint: Fingerprint::of(text.as_bytes()),
            bytes: text.into(),
        }
    }
}

fn encoded(part: &impl Serialize) -> String {
    base64url(&crate::wire::events::json(part))
}

/// Base64url without padding (RFC 7515 §2).
pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The thirty-two bytes that `text` is in base64url without padding.
pub(super) fn thirty_two(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::KeyMaterial;

    fn address() -> DeviceAddress {
        "banco/principal/boton-1".parse().unwrap()
    }

    fn sign(key: &Key, alert: &Alert) -> Message {
        Signature {
            audience: "atalaya",
            subject: &address(),
            kid: "k1",
            key,
        }
        .sign(alert, 17, 1_768_487_400)
    }

    /// The key pair and the signature of RFC 8037, appendix A.4: the same primitives, so that our
    /// signing is the one firmware libraries know.
    #[test]
    fn the_answer_of_rfc_8037() {
        let bytes = thirty_two("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = Key::new(Algorithm::EdDsa, bytes);
        assert_eq!(
            key.public().unwrap(),
            "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        );
        let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        assert_eq!(
            base64url(&key.sign(input.as_bytes())),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn a_message_has_the_form_of_the_contract() {
        let key = Key::new(Algorithm::EdDsa, [7; 32]);
        let alert = Alert {
            description: Some("Robo en caja".to_owned()),
            location: serde_json::from_str(r#"{"piso":2}"#).unwrap(),
            ..Alert::of_kind("ROJO")
        };
        let message = sign(&key, &alert);
        let text = std::str::from_utf8(&message.bytes).unwrap();
        let parts: Vec<&str> = text.split('.').collect();
        let decoded =
            |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(
            decoded(parts[0]),
            r#"{"typ":"alerta+jws","alg":"EdDSA","kid":"k1"}"#
        );
        assert_eq!(
            decoded(parts[1]),
            r#"{"aud":"atalaya","sub":"banco/principal/boton-1","seq":17,"iat":1768487400,"tipo_alarma":"ROJO","descripcion":"Robo en caja","ubicacion":{"piso":2}}"#
        );
        assert_eq!(parts.len(), 3);
        // Ed25519 is deterministic: the same message gives the same bytes.
        assert_eq!(sign(&key, &alert).bytes, message.bytes);
        assert_eq!(Fingerprint::of(&message.bytes), message.fingerprint);
    }

    #[test]
    fn what_is_signed_verifies_as_the_server_does() {
        for algorithm in [Algorithm::EdDsa, Algorithm::Hs256] {
            let key = Key::new(algorithm, [7; 32]);
            let material = match &key {
                Key::Ed25519(key) => KeyMaterial::ed25519(key.verifying_key().as_bytes()).unwrap(),
                Key::Hs256(secret) => KeyMaterial::Hs256(secret.clone()),
            };
            let message = sign(&key, &Alert::of_kind("LATIDO"));
            let text = std::str::from_utf8(&message.bytes).unwrap();
            let (input, signature) = text.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(material.verifies(input.as_bytes(), &signature));
            assert!(!material.verifies(b"another", &signature));
        }
    }

    #[test]
    fn the_servers_own_reader_takes_it() {
        let key = Key::new(Algorithm::EdDsa, [7; 32]);
        let alert = Alert {
            data: serde_json::from_str(r#"{"bateria":80}"#).unwrap(),
            ..Alert::of_kind("ROJO")
        };
        let read = crate::wire::jws::parse(&sign(&key, &alert).bytes).unwrap();
        assert_eq!(read.key.as_str(), "k1");
        assert_eq!(read.claims.subject, address());
        assert_eq!(read.claims.seq, 17);
        assert_eq!(
            read.claims.content.data.as_deref(),
            Some(r#"{"bateria":80}"#)
        );
    }

    #[test]
    fn fingerprints_are_read_back() {
        let fingerprint = Fingerprint::of(b"abc");
        assert!(fingerprint.to_string().starts_with("ba7816bf8f01cfea"));
        assert_eq!(
            Fingerprint::parse(&fingerprint.to_string()),
            Some(fingerprint)
        );
        for text in ["", "00", &"g".repeat(64), &"+0".repeat(32), &"ñ".repeat(32)] {
            assert_eq!(Fingerprint::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn keys_keep_to_themselves() {
        for algorithm in [Algorithm::EdDsa, Algorithm::Hs256] {
            let key = Key::new(algorithm, [7; 32]);
            let shown = format!("{key:?}");
            assert!(
                !shown.contains(&key.reveal()) && !shown.contains("7, 7"),
                "{shown}"
            );
            assert_eq!(thirty_two(&key.reveal()), Some([7; 32]));
        }
    }
}
