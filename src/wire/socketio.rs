//! The frames of Socket.IO 4 over the WebSocket transport of Engine.IO 4, as far as they are text.
//!
//! A frame is a packet of Engine.IO: a digit, and what belongs to it. Messages (`4`) hold a packet
//! of Socket.IO: a digit, a namespace unless it is the main one, the number of an acknowledgement
//! that is wished for, and JSON. What is asked of us has no attachments.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

/// How often we ask for life, in milliseconds.
pub const PING_INTERVAL: u64 = 25_000;

/// How long the client may take to show it, in milliseconds.
pub const PING_TIMEOUT: u64 = 20_000;

/// What a client says.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It lives.
    Pong,
    /// It asks whether we do; the answer has the same words.
    Ping(String),
    /// It wants to be let in to the main namespace, and shows this.
    Connect(Value),
    /// It wants to be let in to another one.
    ConnectElsewhere(String),
    /// It leaves.
    Disconnect,
    /// Something has happened.
    Event {
        /// What.
        name: String,
        /// What belongs to it.
        data: Option<Value>,
        /// Under which number it wants to hear that we have heard.
        acknowledge: Option<u64>,
    },
    /// Nothing that asks for anything.
    Nothing,
}

/// The text is no frame of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a packet of Socket.IO 4")]
pub struct NotAPacket;

/// What a frame says.
///
/// # Errors
/// [`NotAPacket`].
pub fn hear(text: &str) -> Result<Heard, NotAPacket> {
    let (kind, rest) = split_digit(text)?;
    match kind {
        '1' => Ok(Heard::Disconnect),
        '2' => Ok(Heard::Ping(rest.to_owned())),
        '3' => Ok(Heard::Pong),
        '4' => message(rest),
        // An upgrade that is over, and nothing at all.
        '5' | '6' => Ok(Heard::Nothing),
        _ => Err(NotAPacket),
    }
}

fn split_digit(text: &str) -> Result<(char, &str), NotAPacket> {
    let digit = text.chars().next().filter(char::is_ascii_digit);
    let digit = digit.ok_or(NotAPacket)?;
    Ok((digit, &text[1..]))
}

fn message(text: &str) -> Result<Heard, NotAPacket> {
    let (kind, rest) = split_digit(text)?;
    let (namespace, rest) = match rest.strip_prefix('/') {
        // The name of a namespace ends at a comma.
        Some(named) => named.split_once(',').unwrap_or((named, "")),
        None => ("", rest),
    };
    match kind {
        '0' if !namespace.is_empty() => Ok(Heard::ConnectElsewhere(namespace.to_owned())),
        '0' if rest.is_empty() => Ok(Heard::Connect(Value::Null)),
        '0' => parse(rest).map(Heard::Connect),
        '1' => Ok(Heard::Disconnect),
        '2' => event(rest),
        // Acknowledgements of what we have said, which we ask for none of.
        '3' => Ok(Heard::Nothing),
        _ => Err(NotAPacket),
    }
}

fn event(text: &str) -> Result<Heard, NotAPacket> {
    let start = text.find('[').ok_or(NotAPacket)?;
    let acknowledge = match &text[..start] {
        "" => None,
        number => Some(number.parse().map_err(|_| NotAPacket)?),
    };
    let Value::Array(parts) = parse(&text[start..])? else {
        return Err(NotAPacket);
    };
    let mut parts = parts.into_iter();
    let Some(Value::String(name)) = parts.next() else {
        return Err(NotAPacket);
    };
    Ok(Heard::Event {
        name,
        data: parts.next(),
        acknowledge,
    })
}

fn parse(text: &str) -> Result<Value, NotAPacket> {
    serde_json::from_str(text).map_err(|_| NotAPacket)
}

/// The first frame: the connection is open.
#[must_use]
pub fn open(id: &str, largest: usize) -> String {
    format!(
        "0{{\"sid\":\"{id}\",\"upgrades\":[],\"pingInterval\":{PING_INTERVAL},\
         \"pingTimeout\":{PING_TIMEOUT},\"maxPayload\":{largest}}}"
    )
}

/// Asks for life.
pub const PING: &str = "2";

/// The answer to a client that asks for it.
#[must_use]
pub fn pong(words: &str) -> String {
    format!("3{words}")
}

/// The client is let in.
#[must_use]
pub fn connected(id: &str) -> String {
    format!("40{{\"sid\":\"{id}\"}}")
}

/// The client is not let in to `namespace`, for this reason.
#[must_use]
pub fn refused(namespace: &str, reason: &str) -> String {
    let reason = Value::String(reason.to_owned());
    let namespace = match namespace {
        "" => String::new(),
        named => format!("/{named},"),
    };
    format!("44{namespace}{{\"message\":{reason}}}")
}

/// We leave.
pub const DISCONNECT: &str = "41";

/// The client hears that we have heard.
#[must_use]
pub fn acknowledged(number: u64, with: &impl Serialize) -> String {
    format!("43{number}[{}]", text(with))
}

/// Something has happened.
#[must_use]
pub fn event_of(name: &str, data: &impl Serialize) -> String {
    format!("42[\"{name}\",{}]", text(data))
}

fn text(body: &impl Serialize) -> String {
    let bytes: Bytes = super::events::json(body);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn each_packet_is_read() {
        let event = |name: &str, data, acknowledge| Heard::Event {
            name: name.to_owned(),
            data,
            acknowledge,
        };
        for (text, expected) in [
            ("3", Heard::Pong),
            ("2probe", Heard::Ping("probe".to_owned())),
            ("40", Heard::Connect(Value::Null)),
            ("40{\"token\":\"x\"}", Heard::Connect(json!({"token": "x"}))),
            ("40/otro,", Heard::ConnectElsewhere("otro".to_owned())),
            ("40/otro", Heard::ConnectElsewhere("otro".to_owned())),
            ("41", Heard::Disconnect),
            ("1", Heard::Disconnect),
            ("42[\"a\"]", event("a", None, None)),
            (
                "42[\"a\",{\"b\":1}]",
                event("a", Some(json!({"b": 1})), None),
            ),
            ("4217[\"a\",2]", event("a", Some(json!(2)), Some(17))),
        ] {
            assert_eq!(hear(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "x",
            "4",
            "4x",
            "42",
            "42{}",
            "42[]",
            "42[1]",
            "42x[\"a\"]",
            "40{",
            "9",
            "٣",
        ] {
            assert_eq!(hear(text), Err(NotAPacket), "{text}");
        }
    }

    #[test]
    fn what_we_say_has_the_form_of_the_protocol() {
        assert_eq!(refused("", "No"), r#"44{"message":"No"}"#);
        assert_eq!(refused("a", "No"), r#"44/a,{"message":"No"}"#);
        assert_eq!(event_of("e", &json!({"a": 1})), r#"42["e",{"a":1}]"#);
        assert_eq!(acknowledged(3, &true), "433[true]");
    }

    proptest! {
        #[test]
        fn no_frame_is_too_much(text in ".*") {
            let _ = hear(&text);
            let _ = hear(&format!("4{text}"));
            let _ = hear(&format!("42{text}"));
        }
    }
}
