//! What a device hears: the answer to a message, and orders. Pure.

use super::jws::Fingerprint;
use crate::cli::text::Shown;
use crate::domain::DeviceAddress;
use crate::domain::registry::SILENT_DEVICE;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// What Atalaya says of a message (`estado`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Verdict {
    /// It is in the database.
    #[serde(rename = "ACEPTADA")]
    Accepted,
    /// It was there already.
    #[serde(rename = "DUPLICADA")]
    Duplicate,
    /// It never will be.
    #[serde(rename = "RECHAZADA")]
    Rejected,
}

impl Verdict {
    /// Its name on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "ACEPTADA",
            Self::Duplicate => "DUPLICADA",
            Self::Rejected => "RECHAZADA",
        }
    }
}

/// The reason of a rejection that passes by itself: too many messages in too short a time. Such a
/// message used up no number, so the same bytes may come again.
const THROTTLED: &str = "LIMITE";

/// An answer (`respuesta`), over MQTT or HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reply {
    /// The alert that the message became, if it became one.
    pub(super) alerta_id: Option<String>,
    /// What Atalaya says.
    pub(super) estado: Verdict,
    /// Why not.
    #[serde(default)]
    pub(super) motivo: Option<String>,
    /// The message's number, where it could be read.
    #[serde(default)]
    pub(super) seq: Option<u64>,
    /// Which message it answers.
    pub(super) huella: String,
    /// When it was decided.
    #[serde(default)]
    pub(super) timestamp: Option<String>,
}

impl Reply {
    /// The answer in `json`, if it is one.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The message that it answers, if that can be any.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        Fingerprint::parse(&self.huella)
    }

    /// Whether the same message may be taken later.
    pub(super) fn is_throttled(&self) -> bool {
        self.estado == Verdict::Rejected && self.motivo.as_deref() == Some(THROTTLED)
    }

    /// What to do about a rejection, where there is something to do.
    /// The message was `device`'s, of this `kind`.
    pub(super) fn advice(&self, device: &DeviceAddress, kind: &str) -> Option<String> {
        let advice = match self.motivo.as_deref()? {
            // Atalaya tells no more, so neither does this: a new key mends the first alone.
            "IDENTIDAD" => {
                return Some(format!(
                    "la clave está revocada o es de otro, o están desactivados el dispositivo, su \
                     sede o su empresa: mire GET /api/v1/hardware/{}; con todo activo, enrole una \
                     clave nueva con --rotar",
                    device.device
                ));
            }
            "TIPO" if kind == SILENT_DEVICE => {
                return Some(format!(
                    "{SILENT_DEVICE} la crea Atalaya misma cuando un dispositivo calla; ninguno la \
                     envía"
                ));
            }
            "TIPO" => {
                return Some(format!(
                    "{kind} no existe o no está activo en la empresa; las mayúsculas cuentan: mire \
                     GET /api/v1/tipos_alarma?empresa={}",
                    device.company
                ));
            }
            "SECUENCIA" => {
                "el contador del archivo quedó atrás (¿una copia antigua?): enrole una clave \
                 nueva con --rotar"
            }
            "FECHA" => "el reloj de este equipo está adelantado",
            "AUDIENCIA" => "la instalación se llama de otro modo: enrole con --aud",
            _ => return None,
        };
        Some(advice.to_owned())
    }
}

/// For people, in one line.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.estado {
            Verdict::Accepted => "✅",
            Verdict::Duplicate => "♻️ ",
            Verdict::Rejected => "⛔",
        };
        write!(f, "{mark} {}", self.estado.name())?;
        if let Some(reason) = &self.motivo {
            write!(f, " ({})", Shown::from(reason.as_str()))?;
        }
        if let Some(seq) = self.seq {
            write!(f, " seq {seq}")?;
        }
        if let Some(id) = &self.alerta_id {
            write!(f, " alerta {}", Shown::from(id.as_str()))?;
        }
        Ok(())
    }
}

/// An order (`comando`).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order(pub(super) Map<String, Value>);

impl Order {
    /// The order in `json`, if it is one.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().map(Self)
    }

    /// The text under `name`.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

/// For people, in one line: what is to be done first.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name| Shown::from(self.text(name).unwrap_or("-"));
        write!(f, "📟 COMANDO {}", shown("tipo_alarma"))?;
        let known = [
            "tipo_alarma",
            "alerta_id",
            "timestamp",
            "regla",
            "prioridad",
        ];
        for (name, value) in &self.0 {
            if !known.contains(&name.as_str()) {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                write!(
                    f,
                    " {}={}",
                    Shown::from(name.as_str()),
                    Shown::from(&*value)
                )?;
            }
        }
        write!(f, " alerta {}", shown("alerta_id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_and_told() {
        let json = br#"{"alerta_id":"0199","estado":"ACEPTADA","motivo":null,"seq":17,
            "huella":"ab","timestamp":"2026-01-15T14:30:00.123Z","reglas":[{"id":1,"version":1}]}"#;
        let reply = Reply::parse(json).unwrap();
        assert_eq!(reply.to_string(), "✅ ACEPTADA seq 17 alerta 0199");
        assert_eq!(reply.fingerprint(), None);
        let throttled = br#"{"alerta_id":null,"estado":"RECHAZADA","motivo":"LIMITE","seq":null,"huella":"ab"}"#;
        let throttled = Reply::parse(throttled).unwrap();
        assert!(throttled.is_throttled() && !reply.is_throttled());
        assert_eq!(throttled.to_string(), "⛔ RECHAZADA (LIMITE)");
        assert_eq!(Reply::parse(br#"{"estado":"QUIZAS","huella":"ab"}"#), None);
    }

    #[test]
    fn advice_says_where_to_look() {
        let device = "banco/principal/boton-1".parse().unwrap();
        let advice = |motivo: &str, kind| {
            let json = format!(r#"{{"estado":"RECHAZADA","motivo":"{motivo}","huella":"ab"}}"#);
            let reply = Reply::parse(json.as_bytes()).unwrap();
            reply.advice(&device, kind)
        };
        for (motivo, kind, said) in [
            ("IDENTIDAD", "ROJO", "GET /api/v1/hardware/boton-1"),
            ("TIPO", "rojo", "GET /api/v1/tipos_alarma?empresa=banco"),
            ("TIPO", SILENT_DEVICE, "Atalaya misma"),
        ] {
            let advice = advice(motivo, kind).unwrap();
            assert!(advice.contains(said), "{advice}");
        }
        assert_eq!(advice("OTRO", "ROJO"), None);
    }

    #[test]
    fn orders_are_told_without_control_characters() {
        let order = Order::parse(
            br#"{"alerta_id":"0199","tipo_alarma":"ROJO","prioridad":"critica","accion":"ENCENDER","color":"\u001b[31m","n":2,"regla":{"id":1,"version":1}}"#,
        )
        .unwrap();
        assert_eq!(order.text("accion"), Some("ENCENDER"));
        assert_eq!(
            order.to_string(),
            "📟 COMANDO ROJO accion=ENCENDER color=\\u{1b}[31m n=2 alerta 0199"
        );
        assert_eq!(Order::parse(b"[1]"), None);
    }
}
