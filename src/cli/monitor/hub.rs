//! What is said about alerts and to devices, as one line for people. Pure.

use super::format::Colour;
use crate::cli::text::Shown;
use crate::domain::{DeviceAddress, Slug};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// A message under `empresas/` that is understood.
#[derive(Debug, PartialEq)]
pub(super) enum Hub {
    /// A change in the life of an alert.
    Alert(Box<AlertNews>),
    /// The answer to a device.
    Reply(DeviceAddress, Box<Reply>),
    /// An order to a device.
    Order(DeviceAddress, Map<String, Value>),
    /// Whether a device is there, as it says itself or its last will does.
    Presence(DeviceAddress, bool),
}

/// `empresas/{empresa}/alertas`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct AlertNews {
    /// The alert.
    pub(super) alerta_id: Shown,
    /// What happened to it.
    pub(super) cambio: Shown,
    /// When.
    pub(super) timestamp: Shown,
    estado: Shown,
    empresa: Shown,
    sede: Shown,
    hardware: Shown,
    tipo_alarma: Shown,
    prioridad: Shown,
    #[serde(default)]
    repeticiones: u64,
    #[serde(default)]
    tardia: bool,
    #[serde(default)]
    congela_retiros: bool,
    descripcion: Option<Shown>,
    motivo: Option<Shown>,
}

/// `empresas/{empresa}/{sede}/{hardware}/respuesta`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Reply {
    alerta_id: Option<Shown>,
    estado: Shown,
    motivo: Option<Shown>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct Presence<'a> {
    estado: &'a str,
}

impl Hub {
    /// Reads a message; `None` for any other topic, and for what is not what its topic promises.
    pub(super) fn read(topic: &str, payload: &[u8]) -> Option<Self> {
        let (place, leaf) = topic.strip_prefix("empresas/")?.rsplit_once('/')?;
        if leaf == "alertas" {
            Slug::parse(place).ok()?;
            return parse(payload).map(Self::Alert);
        }
        let device = place.parse().ok()?;
        match leaf {
            "respuesta" => Some(Self::Reply(device, parse(payload)?)),
            "comando" => Some(Self::Order(device, parse(payload)?)),
            "estado" => match serde_json::from_slice::<Presence<'_>>(payload).ok()?.estado {
                "en_linea" => Some(Self::Presence(device, true)),
                "fuera_de_linea" => Some(Self::Presence(device, false)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The line for people.
    pub(super) fn line(&self) -> (Colour, String) {
        match self {
            Self::Alert(news) => news.line(),
            Self::Reply(device, reply) => reply.line(device),
            Self::Order(device, order) => (Colour::Cyan, order_line(device, order)),
            Self::Presence(device, true) => (Colour::Dim, format!("🟢 HARDWARE {device} en línea")),
            Self::Presence(device, false) => (
                Colour::Yellow,
                format!("🔴 HARDWARE {device} fuera de línea"),
            ),
        }
    }
}

impl AlertNews {
    fn line(&self) -> (Colour, String) {
        let Self {
            estado,
            empresa,
            sede,
            hardware,
            tipo_alarma,
            prioridad,
            repeticiones,
            ..
        } = self;
        let what = format!("{tipo_alarma} ({prioridad})");
        let (colour, mut text) = match self.cambio.as_str() {
            "CREADA" => (Colour::Red, format!("🚨 ALERTA {what} {estado}")),
            "REPETIDA" => (Colour::Yellow, format!("🔁 ALERTA {what} ×{repeticiones}")),
            "ESCALADA" => (Colour::Red, format!("📣 ESCALADA {what}")),
            "RECONOCIDA" => (Colour::Cyan, format!("👀 RECONOCIDA {what}")),
            "RESUELTA" => (Colour::Green, format!("✅ RESUELTA {what}")),
            "DESCARTADA" => (Colour::Dim, format!("🚫 DESCARTADA {what}")),
            other => (Colour::Yellow, format!("🔔 {other} {what} {estado}")),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, " - {empresa}/{sede}/{hardware}");
        for said in [&self.descripcion, &self.motivo].into_iter().flatten() {
            let _ = write!(text, " - {said}");
        }
        if self.tardia {
            text.push_str(" [tardía]");
        }
        if self.congela_retiros {
            text.push_str(" [retiros congelados]");
        }
        (colour, text)
    }
}

impl Reply {
    fn line(&self, device: &DeviceAddress) -> (Colour, String) {
        let colour = match self.estado.as_str() {
            "RECHAZADA" => Colour::Red,
            _ => Colour::Dim,
        };
        let mut text = format!("📩 RESPUESTA {device}: {}", self.estado);
        if let Some(reason) = &self.motivo {
            let _ = write!(text, " ({reason})");
        }
        if let Some(seq) = self.seq {
            let _ = write!(text, " seq {seq}");
        }
        if let Some(alert) = &self.alerta_id {
            let _ = write!(text, " alerta {alert}");
        }
        (colour, text)
    }
}

/// An order has the fields that its rule gave it; what every order has is left out, but the kind.
fn order_line(device: &DeviceAddress, order: &Map<String, Value>) -> String {
    let shown = |value: &Value| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        Shown::from(text.as_str())
    };
    let kind = order.get("tipo_alarma").map(shown);
    let kind = kind.unwrap_or_else(|| Shown::from("-"));
    let mut text = format!("📟 COMANDO {device}: {kind}");
    let common = [
        "alerta_id",
        "tipo_alarma",
        "prioridad",
        "regla",
        "timestamp",
    ];
    for (name, value) in order {
        if !common.contains(&name.as_str()) {
            let _ = write!(text, " {}={}", Shown::from(name.as_str()), shown(value));
        }
    }
    text
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(topic: &str, payload: &str) -> Option<String> {
        Hub::read(topic, payload.as_bytes()).map(|hub| hub.line().1)
    }

    fn news(change: &str, state: &str, more: &str) -> String {
        format!(
            r#"{{"alerta_id":"0199","cambio":"{change}","estado":"{state}","empresa":"banco","sede":"principal","hardware":"boton-1","tipo_alarma":"ROJO","prioridad":"critica","repeticiones":3,"tardia":false,"por":"dispositivo","congela_retiros":false,"reglas":[],"timestamp":"t"{more}}}"#
        )
    }

    #[test]
    fn the_life_of_an_alert() {
        for (change, state, more, expected) in [
            (
                "CREADA",
                "NUEVA",
                r#","descripcion":"Robo en caja""#,
                "🚨 ALERTA ROJO (critica) NUEVA - banco/principal/boton-1 - Robo en caja",
            ),
            (
                "REPETIDA",
                "NUEVA",
                "",
                "🔁 ALERTA ROJO (critica) ×3 - banco/principal/boton-1",
            ),
            (
                "ESCALADA",
                "NUEVA",
                "",
                "📣 ESCALADA ROJO (critica) - banco/principal/boton-1",
            ),
            (
                "RECONOCIDA",
                "RECONOCIDA",
                "",
                "👀 RECONOCIDA ROJO (critica) - banco/principal/boton-1",
            ),
            (
                "RESUELTA",
                "RESUELTA",
                r#","motivo":"Simulacro""#,
                "✅ RESUELTA ROJO (critica) - banco/principal/boton-1 - Simulacro",
            ),
            (
                "DESCARTADA",
                "DESCARTADA",
                "",
                "🚫 DESCARTADA ROJO (critica) - banco/principal/boton-1",
            ),
        ] {
            let payload = news(change, state, more);
            assert_eq!(line("empresas/banco/alertas", &payload).unwrap(), expected);
        }
        let late = news("CREADA", "NUEVA", "").replace("false", "true");
        let late = line("empresas/banco/alertas", &late).unwrap();
        assert!(late.ends_with("[tardía] [retiros congelados]"), "{late}");
    }

    #[test]
    fn what_devices_are_told() {
        for (leaf, payload, expected) in [
            (
                "respuesta",
                r#"{"alerta_id":"0199","estado":"ACEPTADA","motivo":null,"seq":17,"huella":"ab"}"#,
                "📩 RESPUESTA b/p/x: ACEPTADA seq 17 alerta 0199",
            ),
            (
                "respuesta",
                r#"{"alerta_id":null,"estado":"RECHAZADA","motivo":"TIPO","seq":null}"#,
                "📩 RESPUESTA b/p/x: RECHAZADA (TIPO)",
            ),
            (
                "comando",
                r#"{"alerta_id":"0199","tipo_alarma":"ROJO","prioridad":"critica","accion":"ENCENDER","brillo":5}"#,
                "📟 COMANDO b/p/x: ROJO accion=ENCENDER brillo=5",
            ),
            (
                "comando",
                r#"{"alerta_id":"0199","tipo_alarma":"NORMAL","timestamp":"t"}"#,
                "📟 COMANDO b/p/x: NORMAL",
            ),
            (
                "estado",
                r#"{"estado":"en_linea"}"#,
                "🟢 HARDWARE b/p/x en línea",
            ),
            (
                "estado",
                r#"{"estado":"fuera_de_linea"}"#,
                "🔴 HARDWARE b/p/x fuera de línea",
            ),
        ] {
            let topic = format!("empresas/b/p/x/{leaf}");
            assert_eq!(line(&topic, payload).unwrap(), expected);
        }
    }

    #[test]
    fn the_rest_is_not_understood() {
        for (topic, payload) in [
            ("empresas/b/p/x/alerta", "eyJ0.eyJ.x"),
            ("empresas/b/p/x/estado", r#"{"estado":"dormido"}"#),
            ("empresas/b/p/respuesta", r#"{"estado":"ACEPTADA"}"#),
            ("empresas/b/alertas", "{}"),
            ("empresas/b/c/alertas", "{}"),
            ("banco/alertas", "{}"),
        ] {
            assert_eq!(line(topic, payload), None, "{topic} {payload}");
        }
    }

    #[test]
    fn no_control_character_gets_through() {
        let evil = serde_json::Value::from("a\u{1b}[31m\u{202e}b").to_string();
        let alert = news("CREADA", "NUEVA", &format!(r#","descripcion":{evil}"#));
        let order = format!(r#"{{"tipo_alarma":{evil},{evil}:{evil},"n":[{evil}]}}"#);
        for (topic, payload) in [
            ("empresas/banco/alertas", alert),
            ("empresas/b/p/x/comando", order),
        ] {
            let line = line(topic, &payload).unwrap();
            assert!(!line.contains(crate::cli::text::is_hidden), "{line:?}");
        }
    }
}
