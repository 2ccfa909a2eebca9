//! Messages of devices: JWS in compact form (RFC 7515 §7.1), parsed strictly, or, of devices for
//! which the broker vouches, the claims alone in plain JSON.
//!
//! Nothing is believed here: the parts are taken to pieces, and whether they prove anything is for
//! [`crate::domain::validation`]. Strict means: three parts of unpadded base64url with no stray
//! bits, a header of exactly `typ`, `alg` and `kid`, and claims in which no known name stands twice.

use crate::domain::device::SEQUENCE_LIMIT;
use crate::domain::validation::{Claims, PlainMessage, Reason, Rejected, SignedMessage};
use crate::domain::{AlertContent, Algorithm, DeviceAddress, Prose, Slug};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The largest message, in bytes.
pub const MESSAGE_LIMIT: usize = 64 * 1024;

/// `typ` of an alert.
pub const TYPE: &str = "alerta+jws";

/// Why a message is no signed alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Larger than [`MESSAGE_LIMIT`].
    TooLarge,
    /// Not three parts between dots.
    NotCompact,
    /// A part is not base64url without padding.
    NotBase64,
    /// The header is not exactly `typ`, `alg` and `kid`.
    Header,
    /// The algorithm is none that we know.
    Algorithm,
    /// The claims are not what they should be.
    Claims,
    /// A message without signature is not the claims alone.
    Plain,
}

impl Malformed {
    /// What the device and the operator are told.
    #[must_use]
    pub const fn rejected(self) -> Rejected {
        let (reason, detail) = match self {
            Self::TooLarge => (Reason::Size, "supera 64 KiB"),
            Self::NotCompact => (Reason::Form, "no es un JWS compacto"),
            Self::NotBase64 => (Reason::Form, "no es base64url estricto"),
            Self::Header => (Reason::Form, "la cabecera no es typ, alg y kid"),
            Self::Algorithm => (Reason::Identity, "el algoritmo no se admite"),
            Self::Claims => (Reason::Form, "lo firmado no tiene la forma esperada"),
            Self::Plain => (Reason::Form, "el JSON no tiene la forma esperada"),
        };
        Rejected::new(reason, detail)
    }
}

/// SHA-256 of a message as it arrived (`huella`).
#[must_use]
pub fn digest(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct ClaimsBody<'a> {
    aud: String,
    sub: String,
    seq: u64,
    iat: i64,
    tipo_alarma: String,
    descripcion: Option<String>,
    #[serde(borrow)]
    ubicacion: Option<&'a RawValue>,
    #[serde(borrow)]
    datos: Option<&'a RawValue>,
}

/// Takes a message to pieces.
///
/// # Errors
/// [`Malformed`].
pub fn parse(message: &[u8]) -> Result<SignedMessage, Malformed> {
    if message.len() > MESSAGE_LIMIT {
        return Err(Malformed::TooLarge);
    }
    let text = std::str::from_utf8(message).map_err(|_| Malformed::NotCompact)?;
    let (input, signature) = text.rsplit_once('.').ok_or(Malformed::NotCompact)?;
    let (header, payload) = input.split_once('.').ok_or(Malformed::NotCompact)?;
    if payload.contains('.') {
        return Err(Malformed::NotCompact);
    }
    let decode = |part: &str| {
        BASE64_URL_SAFE_NO_PAD
            .decode(part)
            .map_err(|_| Malformed::NotBase64)
    };
    let (header, claims) = (decode(header)?, decode(payload)?);
    let header: Header = object(&header).ok_or(Malformed::Header)?;
    if header.typ != TYPE {
        return Err(Malformed::Header);
    }
    Ok(SignedMessage {
        algorithm: Algorithm::parse(&header.alg).ok_or(Malformed::Algorithm)?,
        key: Slug::parse(&header.kid).map_err(|_| Malformed::Header)?,
        claims: claims_of(&claims).ok_or(Malformed::Claims)?,
        input: input.as_bytes().to_vec(),
        signature: decode(signature)?,
        digest: digest(message),
    })
}

fn claims_of(json: &[u8]) -> Option<Claims> {
    let body: ClaimsBody<'_> = object(json)?;
    if body.seq >= SEQUENCE_LIMIT {
        return None;
    }
    Some(Claims {
        audience: body.aud,
        subject: body.sub.parse::<DeviceAddress>().ok()?,
        seq: body.seq,
        issued_at: body.iat,
        kind: Slug::parse(&body.tipo_alarma).ok()?,
        content: content(body.descripcion.as_deref(), body.ubicacion, body.datos)?,
    })
}

/// What a message that nobody signs does not have to say.
pub struct Unsaid<'a> {
    /// Whom it is for.
    pub audience: &'a Slug,
    /// On whose topic it has arrived.
    pub subject: &'a DeviceAddress,
    /// When it has arrived, in seconds since 1970 UTC.
    pub at: i64,
}

#[derive(Deserialize)]
struct PlainBody<'a> {
    aud: Option<String>,
    sub: Option<String>,
    seq: u64,
    iat: Option<i64>,
    tipo_alarma: String,
    descripcion: Option<String>,
    #[serde(borrow)]
    ubicacion: Option<&'a RawValue>,
    #[serde(borrow)]
    datos: Option<&'a RawValue>,
}

/// Whether a message is meant to be a JSON object, which no signed message is.
#[must_use]
pub fn is_plain(message: &[u8]) -> bool {
    message.trim_ascii_start().first() == Some(&b'{')
}

/// Takes a message to pieces that is the claims themselves, in plain JSON.
///
/// # Errors
/// [`Malformed`].
pub fn parse_plain(message: &[u8], unsaid: &Unsaid<'_>) -> Result<PlainMessage, Malformed> {
    if message.len() > MESSAGE_LIMIT {
        return Err(Malformed::TooLarge);
    }
    let claims = plain_claims(message, unsaid).ok_or(Malformed::Plain)?;
    Ok(PlainMessage {
        claims,
        digest: digest(message),
    })
}

fn plain_claims(json: &[u8], unsaid: &Unsaid<'_>) -> Option<Claims> {
    let body: PlainBody<'_> = object(json)?;
    if body.seq >= SEQUENCE_LIMIT {
        return None;
    }
    let subject = match body.sub {
        Some(subject) => subject.parse().ok()?,
        None => unsaid.subject.clone(),
    };
    Some(Claims {
        audience: body.aud.unwrap_or_else(|| unsaid.audience.to_string()),
        subject,
        seq: body.seq,
        issued_at: body.iat.unwrap_or(unsaid.at),
        kind: Slug::parse(&body.tipo_alarma).ok()?,
        content: content(body.descripcion.as_deref(), body.ubicacion, body.datos)?,
    })
}

/// What is said of an alert, if each part is what it should be: prose, and JSON objects.
#[must_use]
pub fn content(
    description: Option<&str>,
    location: Option<&RawValue>,
    data: Option<&RawValue>,
) -> Option<AlertContent> {
    let description = match description {
        Some(text) => Some(Prose::parse(text).ok()?.as_str().to_owned()),
        None => None,
    };
    let json = |raw: Option<&RawValue>| match raw {
        // An object that serde accepts in full, depth and all; `null` is the same as nothing.
        Some(raw) if raw.get() == "null" => Some(None),
        Some(raw) => {
            let value: serde_json::Value = serde_json::from_str(raw.get()).ok()?;
            value.is_object().then(|| Some(value.to_string()))
        }
        None => Some(None),
    };
    Some(AlertContent {
        description: description.filter(|text| !text.is_empty()),
        location: json(location)?,
        data: json(data)?,
    })
}

/// A JSON object; an array of its values in order, which the parser would take, is none.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let first = json.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    const HEADER: &str = r#"{"typ":"alerta+jws","alg":"EdDSA","kid":"k1"}"#;
    const CLAIMS: &str = r#"{"aud":"atalaya","sub":"banco/norte/boton-1","seq":17,"iat":1764000000,"tipo_alarma":"ROJO","descripcion":"Robo","datos":{"a":[1]}}"#;

    fn message(header: &str, claims: &str) -> String {
        format!("{}.{}.{}", encode(header), encode(claims), encode("sig"))
    }

    #[test]
    fn a_message_is_taken_to_pieces() {
        let text = message(HEADER, CLAIMS);
        let parsed = parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.algorithm, Algorithm::EdDsa);
        assert_eq!(parsed.key.as_str(), "k1");
        assert_eq!(parsed.claims.seq, 17);
        assert_eq!(parsed.claims.subject.to_string(), "banco/norte/boton-1");
        assert_eq!(parsed.claims.content.data.as_deref(), Some(r#"{"a":[1]}"#));
        assert_eq!(parsed.signature, b"sig");
        assert_eq!(parsed.digest, digest(text.as_bytes()));
        assert!(text.as_bytes().starts_with(&parsed.input));
    }

    #[test]
    fn headers_are_exactly_three_names() {
        for (header, error) in [
            (
                r#"{"typ":"alerta+jws","alg":"none","kid":"k1"}"#,
                Malformed::Algorithm,
            ),
            (
                r#"{"typ":"alerta+jws","alg":"RS256","kid":"k1"}"#,
                Malformed::Algorithm,
            ),
            (
                r#"{"typ":"alerta+jws","alg":"eddsa","kid":"k1"}"#,
                Malformed::Algorithm,
            ),
            (
                r#"{"typ":"JWT","alg":"EdDSA","kid":"k1"}"#,
                Malformed::Header,
            ),
            (r#"{"alg":"EdDSA","kid":"k1"}"#, Malformed::Header),
            (r#"{"typ":"alerta+jws","alg":"EdDSA"}"#, Malformed::Header),
            (
                r#"{"typ":"alerta+jws","alg":"EdDSA","kid":"../x"}"#,
                Malformed::Header,
            ),
            (
                r#"{"typ":"alerta+jws","alg":"EdDSA","kid":"k1","crit":["b64"]}"#,
                Malformed::Header,
            ),
            (
                r#"{"typ":"alerta+jws","alg":"EdDSA","kid":"k1","jwk":{}}"#,
                Malformed::Header,
            ),
            (
                r#"{"typ":"alerta+jws","alg":"EdDSA","alg":"none","kid":"k1"}"#,
                Malformed::Header,
            ),
            (r#"["alerta+jws","EdDSA","k1"]"#, Malformed::Header),
        ] {
            assert_eq!(
                parse(message(header, CLAIMS).as_bytes()).unwrap_err(),
                error,
                "{header}"
            );
        }
    }

    #[test]
    fn claims_that_cannot_be_right() {
        let seq = |text: &str| CLAIMS.replace("\"seq\":17", &format!("\"seq\":{text}"));
        let wrong = [
            seq("9007199254740992"),
            seq("-1"),
            seq("1.5"),
            seq("\"17\""),
            CLAIMS.replace("\"seq\":17", "\"seq\":17,\"seq\":18"),
            CLAIMS.replace("banco/norte/boton-1", "banco/norte"),
            CLAIMS.replace("banco/norte/boton-1", "banco/+/boton-1"),
            CLAIMS.replace("ROJO", "RO JO"),
            CLAIMS.replace("{\"a\":[1]}", "[1]"),
            CLAIMS.replace("Robo", "Ro\\u0000bo"),
            CLAIMS.replace("\"iat\":1764000000,", ""),
            "null".to_owned(),
        ];
        for claims in wrong {
            let parsed = parse(message(HEADER, &claims).as_bytes());
            assert_eq!(parsed.unwrap_err(), Malformed::Claims, "{claims}");
        }
        assert!(parse(message(HEADER, &seq("9007199254740991")).as_bytes()).is_ok());
        // Claims that we do not know are ignored (RFC 7519 §4).
        assert!(
            parse(message(HEADER, &CLAIMS.replace("\"seq\"", "\"x\":1,\"seq\"")).as_bytes())
                .is_ok()
        );
    }

    #[test]
    fn the_form_is_strict() {
        let fine = message(HEADER, CLAIMS);
        for (text, error) in [
            (String::new(), Malformed::NotCompact),
            ("a.b".to_owned(), Malformed::NotCompact),
            (format!("{fine}.x"), Malformed::NotCompact),
            (format!("{fine}="), Malformed::NotBase64),
            (format!("{fine}\n"), Malformed::NotBase64),
            (format!(" {fine}"), Malformed::NotBase64),
            (fine.replace('-', "+") + "+", Malformed::NotBase64),
            ("x".repeat(MESSAGE_LIMIT + 1), Malformed::TooLarge),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), error, "{text:.60}");
        }
        assert_eq!(parse(b"\xff.a.b").unwrap_err(), Malformed::NotCompact);
    }

    #[test]
    fn what_is_not_signed_may_say_less() {
        let (audience, subject) = (Slug::parse("casa").unwrap(), "a/b/c".parse().unwrap());
        let unsaid = Unsaid {
            audience: &audience,
            subject: &subject,
            at: 77,
        };
        let parse = |text: &str| parse_plain(text.as_bytes(), &unsaid);
        let said = parse(CLAIMS).unwrap();
        assert_eq!(
            said.claims,
            super::parse(message(HEADER, CLAIMS).as_bytes())
                .unwrap()
                .claims
        );
        assert_eq!(said.digest, digest(CLAIMS.as_bytes()));
        let short = parse(" {\"seq\":1,\"tipo_alarma\":\"ROJO\"}\n")
            .unwrap()
            .claims;
        assert_eq!(
            (short.audience.as_str(), &short.subject),
            ("casa", &subject)
        );
        assert_eq!((short.seq, short.issued_at), (1, 77));
        for wrong in [
            "",
            "null",
            "[1,\"ROJO\"]",
            "{\"tipo_alarma\":\"ROJO\"}",
            "{\"seq\":1}",
            "{\"seq\":-1,\"tipo_alarma\":\"ROJO\"}",
            "{\"seq\":9007199254740992,\"tipo_alarma\":\"ROJO\"}",
            "{\"seq\":1,\"seq\":2,\"tipo_alarma\":\"ROJO\"}",
            "{\"seq\":1,\"sub\":\"a/b\",\"tipo_alarma\":\"ROJO\"}",
            "{\"seq\":1,\"iat\":\"hoy\",\"tipo_alarma\":\"ROJO\"}",
            "{\"seq\":1,\"datos\":[1],\"tipo_alarma\":\"ROJO\"}",
            "{\"seq\":1,\"tipo_alarma\":\"ROJO\"} x",
        ] {
            assert_eq!(parse(wrong).unwrap_err(), Malformed::Plain, "{wrong}");
        }
        let large = format!("{{\"x\":\"{}\"}}", "x".repeat(MESSAGE_LIMIT));
        assert_eq!(parse(&large).unwrap_err(), Malformed::TooLarge);
        assert!(
            is_plain(b" \n{") && !is_plain(b"") && !is_plain(message(HEADER, CLAIMS).as_bytes())
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = is_plain(&bytes);
        }
    }
}
