//! What alert clients from before Atalaya send and read.

use super::events::json;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// `POST /api/hardware-auth/authenticate`.
#[derive(Deserialize)]
pub struct AuthenticationBody {
    /// The device's name.
    #[serde(alias = "hardware", alias = "nombre")]
    pub hardware_nombre: String,
    /// Its company's name.
    #[serde(alias = "empresa")]
    pub empresa_nombre: String,
    /// Its site's name.
    pub sede: String,
    /// Its secret.
    #[serde(alias = "secret")]
    pub secreto: String,
}

/// A secret is in it.
impl std::fmt::Debug for AuthenticationBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthenticationBody(…)")
    }
}

/// A device that is let in.
#[derive(Serialize)]
pub struct Authenticated<'a> {
    /// Its token.
    pub token: &'a str,
    /// For how many seconds that is good.
    pub expires_in: i64,
    /// Who it is.
    pub hardware: Address<'a>,
}

/// Where a device is.
#[derive(Debug, Serialize)]
pub struct Address<'a> {
    /// The device.
    pub nombre: &'a str,
    /// Its company.
    pub empresa: &'a str,
    /// Its site.
    pub sede: &'a str,
}

/// An alert that was taken.
#[derive(Debug, Serialize)]
pub struct Taken<'a> {
    /// Names the alert.
    pub id: Uuid,
    /// `ACEPTADA`, or `DUPLICADA` where this very message was taken before.
    pub estado: &'static str,
    /// Its kind.
    pub tipo_alarma: &'a str,
    /// How urgent it is.
    pub prioridad: &'static str,
}

/// Whether something is there and heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Whether it is registered.
    pub existe: bool,
    /// Whether it is active, and all above it.
    pub activo: bool,
}

/// Something good, in the envelope of the old clients.
#[must_use]
pub fn good(data: &impl Serialize) -> Bytes {
    #[derive(Serialize)]
    struct Good<'a, T> {
        success: bool,
        data: &'a T,
    }
    json(&Good {
        success: true,
        data,
    })
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pagination {
    /// Which, from 1 on.
    pub page: i64,
    /// Of how many at most.
    pub limit: i64,
    /// How many there are.
    pub total: i64,
    /// On how many pages.
    pub pages: i64,
}

impl Pagination {
    /// A page of `total` things.
    #[must_use]
    pub const fn new(page: i64, limit: i64, total: i64) -> Self {
        Self {
            page,
            limit,
            total,
            pages: (total + limit - 1) / limit,
        }
    }
}

/// A page of `data`, in the envelope of the old clients.
#[must_use]
pub fn page(data: &impl Serialize, pagination: Pagination) -> Bytes {
    #[derive(Serialize)]
    struct Paged<'a, T> {
        success: bool,
        data: &'a T,
        pagination: Pagination,
    }
    json(&Paged {
        success: true,
        data,
        pagination,
    })
}

/// A message: `{"<empresa>":{"<tipo>":{"sede","alerta","nombre",…}}}`, and the token where it is not
/// in a header.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The company that it names.
    pub company: String,
    /// What it is about: the type of device, or the kind of alert.
    pub subject: String,
    /// Its details.
    pub details: Details,
    /// The token, if it stands in the body.
    pub token: Option<String>,
}

/// The details of a message. What is not known here is let be.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Details {
    /// The site.
    pub sede: Option<String>,
    /// The kind of alert.
    pub alerta: Option<String>,
    /// The device's name.
    pub nombre: Option<String>,
    /// The device's name in topics.
    pub hardware_id: Option<String>,
    /// Where it is, in words or otherwise.
    pub ubicacion: Option<Value>,
    /// Where it is: `lat` and `lng`.
    pub coordenadas: Option<Map<String, Value>>,
    /// What is said of it.
    pub descripcion: Option<String>,
}

/// It has not the form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {{\"<empresa>\":{{\"<tipo>\":{{…}}}}}}")]
pub struct NotAMessage;

impl Message {
    /// Parses a body.
    ///
    /// # Errors
    /// [`NotAMessage`].
    pub fn parse(body: &[u8]) -> Result<Self, NotAMessage> {
        let mut whole: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| NotAMessage)?;
        let token = match whole.remove("token") {
            None => None,
            Some(Value::String(token)) => Some(token),
            Some(_) => return Err(NotAMessage),
        };
        let (company, inner) = only(whole)?;
        let Value::Object(inner) = inner else {
            return Err(NotAMessage);
        };
        let (subject, details) = only(inner)?;
        Ok(Self {
            company,
            subject,
            details: serde_json::from_value(details).map_err(|_| NotAMessage)?,
            token,
        })
    }

    /// The kind of alert that it asks for: colours as the old clients name them, and anything else
    /// by itself.
    #[must_use]
    pub fn kind(&self) -> &str {
        let named = self.details.alerta.as_deref().unwrap_or(&self.subject);
        known_kind(named).unwrap_or(named)
    }

    /// Where it happened, as a JSON object.
    #[must_use]
    pub fn location(&self) -> Option<Value> {
        let mut location = match self.details.ubicacion.clone() {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(location)) => location,
            Some(words) => Map::from_iter([("texto".to_owned(), words)]),
        };
        for (name, value) in self.details.coordenadas.iter().flatten() {
            location.insert(name.clone(), value.clone());
        }
        (!location.is_empty()).then_some(Value::Object(location))
    }
}

fn only(map: Map<String, Value>) -> Result<(String, Value), NotAMessage> {
    let mut all = map.into_iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(NotAMessage),
    }
}

/// The preloaded kind that an old name stands for.
fn known_kind(name: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &[&str]); 5] = [
        ("ROJO", &["roja", "rojo", "critica"]),
        ("NARANJA", &["naranja"]),
        ("AMARILLO", &["amarilla", "amarillo", "precaucion"]),
        ("VERDE", &["verde", "normal"]),
        ("AZUL", &["azul"]),
    ];
    let is = |old: &&str| old.eq_ignore_ascii_case(name);
    let mut all = KNOWN.iter();
    all.find(|(_, old)| old.iter().any(|old| is(old)))
        .map(|(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn message(body: &Value) -> Result<Message, NotAMessage> {
        Message::parse(body.to_string().as_bytes())
    }

    #[test]
    fn a_message_is_read() {
        let body = json!({"Banco": {"BOTONERA": {
            "sede": "Centro", "alerta": "roja", "nombre": "boton-1", "ubicacion": "Caja 3",
            "hardware_id": "boton-1", "coordenadas": {"lat": -0.95, "lng": -80.73}, "otro": 1,
        }}, "token": "t"});
        let read = message(&body).unwrap();
        assert_eq!((read.company.as_str(), read.kind()), ("Banco", "ROJO"));
        assert_eq!(read.token.as_deref(), Some("t"));
        let location = read.location().unwrap();
        assert_eq!(
            location,
            json!({"texto": "Caja 3", "lat": -0.95, "lng": -80.73})
        );
        let bare = message(&json!({"banco": {"ROJO": {}}})).unwrap();
        assert_eq!((bare.kind(), bare.location()), ("ROJO", None));
    }

    #[test]
    fn colours_are_the_preloaded_kinds() {
        for (name, kind) in [
            ("roja", "ROJO"),
            ("critica", "ROJO"),
            ("naranja", "NARANJA"),
            ("amarilla", "AMARILLO"),
            ("Precaucion", "AMARILLO"),
            ("verde", "VERDE"),
            ("NORMAL", "VERDE"),
            ("HUMO", "HUMO"),
        ] {
            let read = message(&json!({"banco": {"SENSOR": {"alerta": name}}})).unwrap();
            assert_eq!(read.kind(), kind, "{name}");
        }
    }

    #[test]
    fn nothing_else_is_a_message() {
        for body in [
            json!([]),
            json!({}),
            json!({"token": "t"}),
            json!({"banco": 1}),
            json!({"banco": {}}),
            json!({"banco": {"ROJO": 1}}),
            json!({"banco": {"ROJO": {}, "AZUL": {}}}),
            json!({"banco": {"ROJO": {}}, "otro": {"ROJO": {}}}),
            json!({"banco": {"ROJO": {"sede": 1}}}),
        ] {
            assert_eq!(message(&body), Err(NotAMessage), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_is_too_much(body in any::<Vec<u8>>(), text in ".*") {
            let _ = Message::parse(&body);
            let _ = message(&json!({text.clone(): {text.clone(): {"alerta": text}}})).map(|m| (m.kind().to_owned(), m.location()));
        }
    }
}
