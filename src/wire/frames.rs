//! The frames of `/ws`: requests in, answers and events out. JSON text, one value a frame.

use super::events::{Event, json};
use super::problem::{Language, Problem};
use crate::domain::Cursor;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A request, `id` echoed in its answer. Which of the optional fields an action takes is checked
/// by the session, so that a field that does not belong is refused and not ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Any JSON value of the client's choice.
    #[serde(default)]
    pub id: Option<Box<RawValue>>,
    /// What to do.
    pub accion: String,
    /// The account.
    pub cedula: Option<String>,
    /// Given names, to open an account.
    pub nombres: Option<String>,
    /// Surnames, to open an account.
    pub apellidos: Option<String>,
    /// The origin of a transfer.
    pub cedula_origen: Option<String>,
    /// The destination of a transfer.
    pub cedula_destino: Option<String>,
    /// The amount.
    pub monto: Option<Box<RawValue>>,
    /// The site.
    pub sede: Option<String>,
    /// The value date.
    pub fecha_valor: Option<String>,
    /// The idempotency key.
    pub clave: Option<String>,
    /// How many movements.
    pub limite: Option<u32>,
    /// The cursor of a page of movements.
    pub cursor: Option<String>,
    /// MQTT filters.
    pub temas: Option<Vec<String>>,
    /// From which cursor events are replayed.
    pub desde: Option<String>,
}

impl Request {
    /// The fields that are present, beyond `id` and `accion`.
    #[must_use]
    pub fn present(&self) -> Vec<&'static str> {
        [
            ("cedula", self.cedula.is_some()),
            ("nombres", self.nombres.is_some()),
            ("apellidos", self.apellidos.is_some()),
            ("cedula_origen", self.cedula_origen.is_some()),
            ("cedula_destino", self.cedula_destino.is_some()),
            ("monto", self.monto.is_some()),
            ("sede", self.sede.is_some()),
            ("fecha_valor", self.fecha_valor.is_some()),
            ("clave", self.clave.is_some()),
            ("limite", self.limite.is_some()),
            ("cursor", self.cursor.is_some()),
            ("temas", self.temas.is_some()),
            ("desde", self.desde.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, present)| present.then_some(name))
        .collect()
    }
}

/// The `id` of a frame that is no request, where it has one, so that its sender learns which it
/// was.
#[must_use]
pub fn id_of(frame: &[u8]) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: Box<RawValue>,
    }
    serde_json::from_slice(frame).ok().map(|OnlyId { id }| id)
}

/// A good answer.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    id: Option<&'a RawValue>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetida: Option<bool>,
    datos: &'a RawValue,
}

/// A bad answer.
#[derive(Debug, Serialize)]
struct Failure<'a> {
    id: Option<&'a RawValue>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetida: Option<bool>,
    error: FailureBody,
}

#[derive(Debug, Serialize)]
struct FailureBody {
    codigo: &'static str,
    detalle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    saldo: Option<super::numbers::Decimal>,
}

/// The frame of a good answer. `replayed` marks the repeat of an earlier decision under its key,
/// as `Idempotent-Replayed` does in REST.
#[must_use]
pub fn answer(id: Option<&RawValue>, body: &Bytes, replayed: bool) -> Bytes {
    let repetida = replayed.then_some(true);
    match std::str::from_utf8(body)
        .ok()
        .and_then(|text| serde_json::from_str(text).ok())
    {
        Some(datos) => json(&Answer {
            id,
            ok: true,
            repetida,
            datos,
        }),
        None => Bytes::new(),
    }
}

/// The frame of a bad answer.
#[must_use]
pub fn failure(
    id: Option<&RawValue>,
    problem: &Problem,
    language: Language,
    replayed: bool,
) -> Bytes {
    json(&Failure {
        id,
        ok: false,
        repetida: replayed.then_some(true),
        error: FailureBody {
            codigo: problem.kind.code(),
            detalle: problem.detail(language),
            saldo: problem.balance.map(super::numbers::Decimal),
        },
    })
}

#[derive(Serialize)]
struct EventFrame<'a> {
    tema: &'a str,
    datos: &'a RawValue,
    cursor: Option<String>,
    retenido: bool,
}

/// The frame of an event: the topic and the payload of MQTT, the cursor after it where it comes
/// from the journal, and whether it is what a broker would have retained rather than news.
#[must_use]
pub fn event(event: &Event, cursor: Option<&Cursor>, retained: bool) -> Bytes {
    let payload = std::str::from_utf8(&event.payload).ok();
    let Some(datos) = payload.and_then(|text| serde_json::from_str(text).ok()) else {
        return Bytes::new();
    };
    let cursor = cursor.map(Cursor::to_string);
    json(&EventFrame {
        tema: &event.topic,
        datos,
        cursor,
        retenido: retained,
    })
}
