//! What one message says, as one line for people or for programs. Pure.
//!
//! Every payload is a stranger's text. What can reach a terminal is either a [`Shown`], escaped
//! when it is made, or a [`Sum`], which is a number; so no field can be forgotten.

use super::hub::Hub;
use crate::cli::text::{Shown, is_hidden};
use crate::domain::{AccountId, Money};
use crate::wire::topics;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt::{self, Write as _};

/// Characters of a number that can be an amount: ours have at most 19.
const MAX_NUMBER: usize = 40;
const RESET: &str = "\u{1b}[0m";

/// The colour of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// As the terminal has it, for programs.
    Plain,
    /// What nobody has a better word for.
    Dim,
    /// Money in, and good news.
    Green,
    /// Money out.
    Yellow,
    /// Money that moves.
    Cyan,
    /// Figures.
    Blue,
    /// What somebody should look at.
    Red,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\u{1b}[2m",
            Self::Green => "\u{1b}[32m",
            Self::Yellow => "\u{1b}[33m",
            Self::Cyan => "\u{1b}[36m",
            Self::Blue => "\u{1b}[34m",
            Self::Red => "\u{1b}[1;31m",
        }
    }
}

/// One line: its text holds no control character.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// How it stands out.
    pub(super) colour: Colour,
    /// What it says.
    pub(super) text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.colour.code() {
            "" => f.write_str(&self.text),
            code => write!(f, "{code}{}{RESET}", self.text),
        }
    }
}

/// Money as the message has it: two decimals where it is money of ours, else the number's own
/// text. It never passes through a float.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sum(String);

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.0)
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        // Valid JSON that begins so is a number, so its text is harmless.
        let number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        if !number || text.len() > MAX_NUMBER {
            return Err(D::Error::custom("not an amount"));
        }
        Ok(Self(Money::parse(text).map_or_else(
            |_| text.to_owned(),
            |money| money.to_string(),
        )))
    }
}

/// What a message says.
#[derive(Debug, PartialEq)]
pub(super) enum Notice {
    /// A deposit.
    Deposit(Movement),
    /// A withdrawal.
    Withdrawal(Movement),
    /// A transfer.
    Transfer(Transfer),
    /// Somebody should look at an account.
    Alert(Alert),
    /// The balance of the account that the topic names.
    Balance(AccountId, Balance),
    /// Figures of the service.
    Statistics(Statistics),
    /// Whether Atalaya is there.
    Presence(Presence),
    /// Alerts of the hub, and what devices hear and say.
    Hub(Hub),
    /// Anything else, and anything that is not what its topic promises.
    Other,
}

/// `banco/transacciones`, `banco/depositos`, `banco/retiros`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Movement {
    /// The account.
    pub(super) cedula: Shown,
    tipo: Option<String>,
    monto: Sum,
    saldo_nuevo: Sum,
    /// Tells a repeat.
    pub(super) tx_id: Option<Shown>,
}

/// `banco/transferencias`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Transfer {
    /// Who gave.
    pub(super) cedula_origen: Shown,
    /// Who got.
    pub(super) cedula_destino: Shown,
    monto: Sum,
    saldo_origen: Sum,
    saldo_destino: Sum,
    /// Tells a repeat.
    pub(super) tx_id: Option<Shown>,
}

/// `banco/alertas`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Alert {
    #[serde(rename = "type")]
    kind: Shown,
    message: Shown,
    /// The account.
    pub(super) cedula: Shown,
    /// Tells a repeat.
    pub(super) tx_id: Option<Shown>,
}

/// `banco/saldo/{cedula}`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Balance {
    saldo_nuevo: Sum,
    /// The movement that made it.
    pub(super) tx_id: Option<Shown>,
}

/// `banco/estadisticas`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Statistics {
    clientes_conectados: u64,
    total_transacciones: u64,
    ips_activas: u64,
}

/// `atalaya/estado`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Presence {
    estado: String,
    nodo: Shown,
}

impl Notice {
    /// Reads a message; never fails, since whatever it is can be shown as [`Notice::Other`].
    pub(super) fn read(topic: &str, payload: &[u8]) -> Self {
        let notice = match topic {
            topics::TRANSACTIONS | topics::DEPOSITS | topics::WITHDRAWALS => {
                parse(payload).and_then(|body| movement(topic, body))
            }
            topics::TRANSFERS => parse(payload).map(Self::Transfer),
            topics::ALERTS => parse(payload).map(Self::Alert),
            topics::STATISTICS => parse(payload).map(Self::Statistics),
            topics::PRESENCE => parse(payload)
                .filter(|p: &Presence| matches!(&*p.estado, "en_linea" | "fuera_de_linea"))
                .map(Self::Presence),
            _ if topic.starts_with("empresas/") => Hub::read(topic, payload).map(Self::Hub),
            _ => topics::account_of(topic)
                .and_then(|account| Some(Self::Balance(account, parse(payload)?))),
        };
        notice.unwrap_or(Self::Other)
    }

    /// The line for people.
    pub(super) fn line(&self, topic: &str, payload: &[u8]) -> Line {
        let (colour, text) = match self {
            Self::Deposit(body) => (Colour::Green, format!("💰 DEPÓSITO: {body}")),
            Self::Withdrawal(body) => (Colour::Yellow, format!("💸 RETIRO: {body}")),
            Self::Transfer(body) => (Colour::Cyan, format!("🔄 TRANSFERENCIA: {body}")),
            Self::Alert(Alert {
                kind,
                message,
                cedula,
                ..
            }) => (
                Colour::Red,
                format!("🚨 ALERTA [{kind}]: {message} (Cédula: {cedula})"),
            ),
            Self::Balance(account, Balance { saldo_nuevo, .. }) => (
                Colour::Dim,
                format!("💼 SALDO: Cédula: {account} - Saldo: {saldo_nuevo}"),
            ),
            Self::Statistics(body) => (Colour::Blue, format!("📊 STATS: {body}")),
            Self::Presence(Presence { estado, nodo }) if estado == "en_linea" => {
                (Colour::Green, format!("🟢 ATALAYA en línea ({nodo})"))
            }
            Self::Presence(_) => (Colour::Red, "🔴 ATALAYA fuera de línea".to_owned()),
            Self::Hub(hub) => hub.line(),
            Self::Other => (Colour::Dim, other(topic, payload)),
        };
        Line { colour, text }
    }
}

impl fmt::Display for Movement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cedula,
            monto,
            saldo_nuevo,
            ..
        } = self;
        write!(f, "{monto} - Cédula: {cedula} - Nuevo saldo: {saldo_nuevo}")
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cedula_origen,
            cedula_destino,
            monto,
            saldo_origen,
            saldo_destino,
            ..
        } = self;
        write!(f, "{monto} - De: {cedula_origen} → A: {cedula_destino} - ")?;
        write!(
            f,
            "Saldo origen: {saldo_origen} | Saldo destino: {saldo_destino}"
        )
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            clientes_conectados,
            total_transacciones,
            ips_activas,
        } = self;
        write!(
            f,
            "Clientes: {clientes_conectados} | Transacciones: {total_transacciones} | "
        )?;
        write!(f, "IPs activas: {ips_activas}")
    }
}

/// The line for programs: the payload's JSON as it is, or a string where it is none.
pub(super) fn json_line(topic: &str, payload: &[u8], retained: bool) -> Line {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let data = match serde_json::from_slice::<&RawValue>(payload) {
        Ok(raw) => raw.get().to_owned(),
        Err(_) => text(&String::from_utf8_lossy(payload)),
    };
    let json = format!(
        r#"{{"tema":{},"retenido":{retained},"datos":{data}}}"#,
        text(topic)
    );
    Line {
        colour: Colour::Plain,
        text: one_line(&json),
    }
}

/// The same JSON without blanks between its tokens, and with what would reach a terminal inside
/// its strings written as `\u` escapes. Numbers and spellings stay as they are.
fn one_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        match c {
            _ if !in_string && c.is_ascii_whitespace() => continue,
            _ if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
            _ => line.push(c),
        }
        in_string ^= c == '"' && !escaped;
        escaped = in_string && c == '\\' && !escaped;
    }
    line
}

fn other(topic: &str, payload: &[u8]) -> String {
    let payload = String::from_utf8_lossy(payload);
    let shown = if payload.is_empty() {
        "(vacío)"
    } else {
        &payload
    };
    format!("📨 {}: {}", Shown::from(topic), Shown::from(shown))
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

/// The topic tells the kind where the message does not.
fn movement(topic: &str, body: Movement) -> Option<Notice> {
    match (body.tipo.as_deref(), topic) {
        (Some("DEPOSITO"), _) | (None, topics::DEPOSITS) => Some(Notice::Deposit(body)),
        (Some("RETIRO"), _) | (None, topics::WITHDRAWALS) => Some(Notice::Withdrawal(body)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(topic: &str, payload: &str) -> String {
        Notice::read(topic, payload.as_bytes())
            .line(topic, payload.as_bytes())
            .text
    }

    #[test]
    fn lines_as_users_know_them() {
        let deposit = r#"{"cedula":"123","tipo":"DEPOSITO","monto":150.00,"saldo_nuevo":1150.00,"tx_id":"a","version":1}"#;
        let withdrawal = r#"{"cedula":"123","tipo":"RETIRO","monto":64.50,"saldo_nuevo":85.50}"#;
        let transfer = r#"{"cedula_origen":"1","cedula_destino":"2","monto":10.00,"saldo_origen":990.00,"saldo_destino":110.00}"#;
        let alert = r#"{"type":"LOW_BALANCE","message":"Saldo bajo: $85.50","cedula":"123","data":{"saldo":85.50}}"#;
        let balance = r#"{"cedula":"123","saldo_nuevo":1150.00,"saldo_anterior":1000.00}"#;
        let figures = r#"{"clientes_conectados":5,"total_transacciones":127,"ips_activas":3}"#;
        for (topic, payload, expected) in [
            (
                "banco/transacciones",
                deposit,
                "💰 DEPÓSITO: $150.00 - Cédula: 123 - Nuevo saldo: $1150.00",
            ),
            (
                "banco/depositos",
                deposit,
                "💰 DEPÓSITO: $150.00 - Cédula: 123 - Nuevo saldo: $1150.00",
            ),
            (
                "banco/retiros",
                withdrawal,
                "💸 RETIRO: $64.50 - Cédula: 123 - Nuevo saldo: $85.50",
            ),
            (
                "banco/transferencias",
                transfer,
                "🔄 TRANSFERENCIA: $10.00 - De: 1 → A: 2 - Saldo origen: $990.00 | Saldo destino: $110.00",
            ),
            (
                "banco/alertas",
                alert,
                "🚨 ALERTA [LOW_BALANCE]: Saldo bajo: $85.50 (Cédula: 123)",
            ),
            (
                "banco/saldo/123",
                balance,
                "💼 SALDO: Cédula: 123 - Saldo: $1150.00",
            ),
            (
                "banco/estadisticas",
                figures,
                "📊 STATS: Clientes: 5 | Transacciones: 127 | IPs activas: 3",
            ),
            (
                "atalaya/estado",
                r#"{"estado":"en_linea","nodo":"n1"}"#,
                "🟢 ATALAYA en línea (n1)",
            ),
            (
                "atalaya/estado",
                r#"{"estado":"fuera_de_linea","nodo":"n1"}"#,
                "🔴 ATALAYA fuera de línea",
            ),
        ] {
            assert_eq!(line(topic, payload), expected);
        }
    }

    #[test]
    fn the_events_that_serve_publishes_are_understood() {
        let presence = crate::wire::events::Presence {
            estado: "en_linea",
            nodo: "n1",
            version: "1",
            timestamp: crate::wire::numbers::Moment(0),
        };
        let event = presence.event();
        let notice = Notice::read(&event.topic, &event.payload);
        assert!(matches!(notice, Notice::Presence(_)), "{notice:?}");
    }

    #[test]
    fn money_is_exact() {
        for (written, shown) in [
            ("90071992547409.93", "$90071992547409.93"),
            ("150.5", "$150.50"),
            ("-0.05", "$-0.05"),
            ("0.1234567890123456789", "$0.1234567890123456789"),
            ("1e2", "$1e2"),
        ] {
            let payload = format!(r#"{{"saldo_nuevo":{written}}}"#);
            let expected = format!("💼 SALDO: Cédula: 1 - Saldo: {shown}");
            assert_eq!(line("banco/saldo/1", &payload), expected);
        }
    }

    #[test]
    fn what_is_not_what_its_topic_promises_is_shown_as_it_is() {
        for payload in [
            "hola",
            "{}",
            "[1,2",
            "5",
            r#"{"cedula":"1","monto":"5","saldo_nuevo":1}"#,
        ] {
            assert_eq!(
                line("banco/depositos", payload),
                format!("📨 banco/depositos: {payload}")
            );
        }
        assert_eq!(line("banco/saldo/1", ""), "📨 banco/saldo/1: (vacío)");
        let lossy = Notice::Other.line("a", b"\xff\x1b[2J").text;
        assert_eq!(lossy, "📨 a: \u{fffd}\\u{1b}[2J");
    }

    #[test]
    fn no_control_character_gets_through() {
        let evil = "a\u{1b}[31m\u{7}\r\n\u{9b}2J\u{7f}\u{202e}\u{2028}b";
        let json = serde_json::Value::from(evil);
        let alert = format!(r#"{{"type":{json},"message":{json},"cedula":{json}}}"#);
        let movement = format!(r#"{{"cedula":{json},"tipo":"RETIRO","monto":1,"saldo_nuevo":1}}"#);
        let presence = format!(r#"{{"estado":"en_linea","nodo":{json}}}"#);
        let lines = [
            line("banco/alertas", &alert),
            line("banco/retiros", &movement),
            line("atalaya/estado", &presence),
            line(evil, evil),
            json_line(evil, evil.as_bytes(), false).text,
            json_line(evil, alert.as_bytes(), false).text,
        ];
        for line in lines {
            assert!(!line.contains(is_hidden), "{line:?}");
        }
    }

    #[test]
    fn json_is_one_line_and_unchanged() {
        let pretty = b"{\n  \"monto\": 150.00,\n  \"n\": 1E400, \"t\": \"a \\\\\\\" b\" }\n";
        assert_eq!(
            json_line("t", pretty, true).text,
            r#"{"tema":"t","retenido":true,"datos":{"monto":150.00,"n":1E400,"t":"a \\\" b"}}"#
        );
        assert_eq!(
            json_line("t", b"no \"json\"", false).text,
            r#"{"tema":"t","retenido":false,"datos":"no \"json\""}"#
        );
        let hidden = "\"\u{9b}\u{e0001}\"";
        let text = json_line("t", hidden.as_bytes(), false).text;
        assert!(text.contains(r#""\u009b\udb40\udc01""#), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn colour_wraps_the_line() {
        let line = Line {
            colour: Colour::Green,
            text: "x".to_owned(),
        };
        assert_eq!(line.to_string(), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(
            Line {
                colour: Colour::Plain,
                ..line
            }
            .to_string(),
            "x"
        );
    }
}
