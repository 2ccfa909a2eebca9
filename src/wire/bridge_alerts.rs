//! What alert clients from before Atalaya send and read: `/api/hardware-auth` and `/api/mqtt-alerts`.
//!
//! A message is `{"<empresa>":{"<tipo>":{"sede","alerta","nombre","ubicacion","hardware_id",
//! "coordenadas":{"lat","lng"}}}}`. Those clients are not ours to change, and what calls for help must not
//! fail for a detail: who speaks and of what kind of alert must be what it should be; of the rest what
//! cannot be read is left out, and fields that we do not know are passed over.

use super::alerts::AlertResource;
use super::numbers::Moment;
use crate::domain::AlertContent;
use crate::domain::legacy::kinds_called;
use crate::domain::name::{Prose, Slug};
use crate::domain::registry::{Company, Device, Site};
use crate::domain::token::Token;
use crate::domain::validation::{Located, Reason, Rejected};
use bytes::Bytes;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use std::fmt;
use std::marker::PhantomData;

/// `POST /api/hardware-auth/authenticate`.
#[derive(Deserialize)]
pub struct AuthenticateBody {
    /// The device.
    #[serde(alias = "nombre", alias = "hardware")]
    pub hardware_nombre: String,
    /// Its company, by either of its names.
    #[serde(alias = "empresa")]
    pub empresa_nombre: String,
    /// Its site, by either of its names.
    #[serde(alias = "sede_nombre")]
    pub sede: String,
    /// What it shows.
    #[serde(alias = "secret")]
    pub secreto: String,
}

/// A secret is in it.
impl fmt::Debug for AuthenticateBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateBody")
            .field("hardware_nombre", &self.hardware_nombre)
            .finish_non_exhaustive()
    }
}

/// A device from before Atalaya is let in.
#[derive(Serialize)]
pub struct AuthenticatedResource {
    /// What it shows with its alerts.
    pub token: String,
    /// How long that is good, in seconds.
    pub expires_in: i64,
    /// The device.
    pub hardware: DeviceSummary,
}

/// A token is in it.
impl fmt::Debug for AuthenticatedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticatedResource")
            .field("hardware", &self.hardware)
            .finish_non_exhaustive()
    }
}

/// A device as those clients know it.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceSummary {
    /// What it names itself by in its messages.
    pub hardware_id: String,
    /// The same, as it names itself to be let in.
    pub nombre: String,
    /// Its name for people.
    pub descripcion: String,
    /// What it is.
    pub tipo: String,
    /// Its company.
    pub empresa: String,
    /// Its site.
    pub sede: String,
    /// Whether it and all above it are active.
    pub activo: bool,
}

impl DeviceSummary {
    /// The summary of a device of `company` at `site`.
    #[must_use]
    pub fn new(device: &Device, company: &Company, site: &Site) -> Self {
        Self {
            hardware_id: device.slug.to_string(),
            nombre: device.slug.to_string(),
            descripcion: device.name.to_string(),
            tipo: device.kind.to_string(),
            empresa: company.slug.to_string(),
            sede: site.slug.to_string(),
            activo: device.active && company.active && site.active,
        }
    }
}

/// Whether a device is there.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceCheck {
    /// Whether it is.
    pub existe: bool,
    /// Whether it and all above it are active.
    pub activo: bool,
    /// The device, where it is.
    pub hardware: Option<DeviceSummary>,
}

/// Whether a company and its site are there.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PlaceCheck {
    /// Whether both are.
    pub existe: bool,
    /// Whether both are active.
    pub activo: bool,
    /// The company, where it is.
    pub empresa: Option<String>,
    /// The site, where it is.
    pub sede: Option<String>,
}

/// An alert that was taken.
#[derive(Debug, Clone, Serialize)]
pub struct TakenResource {
    /// The alert that the message made or repeated; none for a sign of life.
    pub id: Option<uuid::Uuid>,
    /// `ACEPTADA`, or `DUPLICADA` where the message was taken before.
    pub estado: &'static str,
    /// What kind.
    pub tipo_alarma: Option<String>,
    /// How urgent.
    pub prioridad: Option<&'static str>,
    /// Its company.
    pub empresa: String,
    /// Its site.
    pub sede: String,
    /// Its device.
    pub hardware: String,
    /// When it was decided.
    pub timestamp: Moment,
}

/// An alert as those clients list it.
#[derive(Debug, Clone, Serialize)]
pub struct BridgeAlert {
    /// The alert.
    pub id: uuid::Uuid,
    /// Whether somebody has acknowledged it.
    pub autorizado: bool,
    /// Whether it is open.
    pub activo: bool,
    /// The alert as it is elsewhere.
    #[serde(flatten)]
    pub alerta: AlertResource,
}

impl From<AlertResource> for BridgeAlert {
    fn from(alert: AlertResource) -> Self {
        Self {
            id: alert.alerta_id,
            autorizado: alert.reconocida.is_some(),
            activo: alert.cerrada.is_none(),
            alerta: alert,
        }
    }
}

/// Which page of how many.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pagination {
    /// Which, from 1.
    pub page: i64,
    /// Items on a page.
    pub limit: i64,
    /// Items in all.
    pub total: i64,
    /// Pages in all.
    pub pages: i64,
}

/// A good answer.
#[derive(Debug, Serialize)]
pub struct Good<T> {
    success: bool,
    data: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pagination: Option<Pagination>,
}

impl<T> Good<T> {
    /// The answer that is `data`.
    pub const fn new(data: T) -> Self {
        Self {
            success: true,
            data,
            pagination: None,
        }
    }

    /// The answer that is a page.
    pub const fn page(data: T, pagination: Pagination) -> Self {
        Self {
            success: true,
            data,
            pagination: Some(pagination),
        }
    }
}

/// A bad answer.
#[derive(Debug, Serialize)]
pub struct Bad<'a> {
    success: bool,
    error: &'a str,
    detalles: Option<&'a str>,
}

impl<'a> Bad<'a> {
    /// What is wrong, and why exactly.
    #[must_use]
    pub const fn new(error: &'a str, detalles: Option<&'a str>) -> Self {
        Self {
            success: false,
            error,
            detalles,
        }
    }
}

/// The body without the token that it may hold, which must get no further.
///
/// # Errors
/// What is wrong with it.
pub fn split_token(body: &[u8]) -> Result<(Option<Token>, Bytes), String> {
    let mut fields: Map<String, Value> = super::requests::object(body)?;
    let shown = match fields.get("token") {
        Some(Value::String(text)) => Token::parse(text).ok(),
        // A company may be called so.
        _ => return Ok((None, Bytes::copy_from_slice(body))),
    };
    fields.remove("token");
    Ok((shown, Value::Object(fields).to_string().into()))
}

/// An alert in the words of before.
#[derive(Debug, Clone, PartialEq)]
pub struct LegacyAlert {
    company: String,
    label: String,
    detail: Detail,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Detail {
    sede: Option<String>,
    alerta: Option<String>,
    #[serde(default, deserialize_with = "scalar")]
    hardware_id: Option<String>,
    #[serde(default)]
    nombre: Value,
    #[serde(default)]
    ubicacion: Value,
    #[serde(default)]
    coordenadas: Value,
    #[serde(default)]
    descripcion: Value,
}

/// A text, or a number as one.
fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        _ => Err(D::Error::custom("expected a text")),
    }
}

/// An angle on the globe: a number, or a text of one.
fn degrees(value: &Value) -> Option<f64> {
    let angle = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    angle.filter(|angle: &f64| angle.abs() <= 180.0)
}

/// A text for people, without what no such text has.
fn prose(text: &str) -> Option<String> {
    let kept = text.chars().filter(|c| !c.is_control() || *c == '\n');
    let kept: String = kept.take(Prose::MAX).collect();
    let prose = Prose::parse(&kept).ok()?;
    Some(prose.as_str().to_owned()).filter(|text| !text.is_empty())
}

/// An object of one field, by whatever name.
struct Only<T>(String, T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Only<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for One<T> {
            type Value = Only<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of one field")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Only<T>, A::Error> {
                let only = map.next_entry::<String, T>()?;
                let (name, value) = only.ok_or_else(|| A::Error::custom("there is no field"))?;
                match map.next_key::<String>()? {
                    None => Ok(Only(name, value)),
                    Some(_) => Err(A::Error::custom("there is more than one field")),
                }
            }
        }

        deserializer.deserialize_map(One(PhantomData))
    }
}

/// Takes a message to pieces.
///
/// # Errors
/// [`Reason::Form`], [`Reason::Size`].
pub fn parse(message: &[u8]) -> Result<LegacyAlert, Rejected> {
    if message.len() > super::jws::MESSAGE_LIMIT {
        return Err(Rejected::new(Reason::Size, "mide más de 64 KiB"));
    }
    let parsed: Result<Only<Only<Detail>>, _> = serde_json::from_slice(message);
    let Ok(Only(company, Only(label, detail))) = parsed else {
        let form = "no es una alerta de la forma de antes, {empresa:{tipo:{…}}}";
        return Err(Rejected::new(Reason::Form, form));
    };
    Ok(LegacyAlert {
        company,
        label,
        detail,
    })
}

/// Whether `said` is one of the names that something has.
#[must_use]
pub fn is_called(slug: &Slug, name: &str, said: &str) -> bool {
    let said = said.trim();
    said == slug.as_str() || said == name
}

impl LegacyAlert {
    /// Whether it says nothing but what its device is and where it is. What is not said is taken from
    /// the device's token.
    #[must_use]
    pub fn is_of(&self, located: &Located) -> bool {
        let Located {
            device,
            site,
            company,
        } = located;
        let said = |said: Option<&str>, slug: &Slug, name: &str| {
            said.is_none_or(|said| is_called(slug, name, said))
        };
        let detail = &self.detail;
        let named = detail.hardware_id.as_deref().or(detail.nombre.as_str());
        is_called(&company.slug, company.name.as_str(), &self.company)
            && said(detail.sede.as_deref(), &site.slug, site.name.as_str())
            && said(named, &device.slug, device.name.as_str())
    }

    /// The kinds that it may name, the likeliest first.
    #[must_use]
    pub fn kinds(&self) -> Vec<Slug> {
        let alert = self.detail.alerta.as_deref().unwrap_or_default();
        let mut kinds = kinds_called(alert);
        kinds.extend(kinds_called(&self.label));
        kinds
    }

    /// What is said of the alert.
    #[must_use]
    pub fn content(&self) -> AlertContent {
        let Detail {
            alerta,
            nombre,
            descripcion,
            ..
        } = &self.detail;
        // A word names a kind; what is more than a word is told to people.
        let told = alerta.as_deref();
        let told = told.filter(|text| Slug::parse(text.trim()).is_err());
        let description = descripcion.as_str().and_then(prose);
        let data = json!({"tipo": self.label, "alerta": alerta, "nombre": nombre.as_str()});
        AlertContent {
            description: description.or_else(|| told.and_then(prose)),
            location: self.location(),
            data: Some(data.to_string()),
        }
    }

    /// Where it is, as a JSON object.
    fn location(&self) -> Option<String> {
        let mut location = match &self.detail.ubicacion {
            Value::Object(fields) => fields.clone(),
            words @ (Value::String(_) | Value::Number(_)) => {
                Map::from_iter([("texto".to_owned(), words.clone())])
            }
            _ => Map::new(),
        };
        for name in ["lat", "lng"] {
            let angle = self.detail.coordenadas.get(name);
            if let Some(angle) = angle.and_then(degrees) {
                location.insert(name.to_owned(), json!(angle));
            }
        }
        (!location.is_empty()).then(|| Value::Object(location).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = r#"{"banco":{"BOTONERA":{"sede":"principal","alerta":"roja",
        "nombre":"Caja 1","ubicacion":"Planta baja","hardware_id":"boton-1",
        "coordenadas":{"lat":-0.95,"lng":"-80.7"},"de_mas":1}}}"#;

    #[test]
    fn a_message_says_who_where_and_what() {
        let alert = parse(WHOLE.as_bytes()).unwrap();
        let kinds: Vec<String> = alert.kinds().iter().map(ToString::to_string).collect();
        assert_eq!(kinds, ["roja", "ROJA", "ROJO", "BOTONERA"]);
        let content = alert.content();
        assert_eq!(content.description, None);
        assert_eq!(
            content.location.as_deref(),
            Some(r#"{"lat":-0.95,"lng":-80.7,"texto":"Planta baja"}"#)
        );
        assert_eq!(
            content.data.as_deref(),
            Some(r#"{"alerta":"roja","nombre":"Caja 1","tipo":"BOTONERA"}"#)
        );
        let told = parse(br#"{"banco":{"roja":{"alerta":"Robo en caja"}}}"#).unwrap();
        assert_eq!(told.kinds().last().unwrap().as_str(), "ROJO");
        assert_eq!(told.content().description.as_deref(), Some("Robo en caja"));
    }

    #[test]
    fn a_call_for_help_does_not_fail_for_a_detail() {
        let content = |detail: &str| {
            let text = format!(r#"{{"banco":{{"roja":{detail}}}}}"#);
            parse(text.as_bytes()).unwrap().content()
        };
        let location = |detail: &str| content(detail).location;
        for detail in [
            r#"{"coordenadas":{"lat":null,"lng":""}}"#,
            r#"{"coordenadas":{"lat":181,"lng":"NaN"}}"#,
            r#"{"coordenadas":"","ubicacion":null}"#,
            r#"{"coordenadas":[1,2],"ubicacion":[],"nombre":7,"descripcion":{}}"#,
            "{}",
        ] {
            assert_eq!(location(detail), None, "{detail}");
        }
        let told = r#"{"ubicacion":{"piso":2},"coordenadas":{"lat":1.5}}"#;
        assert_eq!(location(told).as_deref(), Some(r#"{"lat":1.5,"piso":2}"#));
        let odd = content(r#"{"alerta":"Ro\u0000bo en\u0007 caja"}"#);
        assert_eq!(odd.description.as_deref(), Some("Robo en caja"));
        let long = format!(r#"{{"descripcion":"{}"}}"#, "x".repeat(5_000));
        assert_eq!(
            content(&long).description.map(|text| text.len()),
            Some(2_000)
        );
    }

    #[test]
    fn what_is_no_such_message_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"banco":{}}"#,
            r#"{"banco":[]}"#,
            r#"{"banco":{"roja":[]}}"#,
            r#"{"banco":{"roja":{},"verde":{}}}"#,
            r#"{"banco":{"roja":{}},"otra":{"roja":{}}}"#,
            r#"{"banco":{"roja":{}},"banco":{"roja":{}}}"#,
            r#"{"banco":{"roja":{"sede":1}}}"#,
            r#"{"banco":{"roja":{"sede":"a","sede":"b"}}}"#,
            r#"{"banco":{"roja":{"hardware_id":[]}}}"#,
            r#"{"banco":{"roja":{"alerta":{}}}}"#,
            r#"{"banco":{"roja":{}}} x"#,
        ] {
            let refused = parse(text.as_bytes()).unwrap_err();
            assert_eq!(refused.reason, Reason::Form, "{text}");
        }
        let large = format!(
            r#"{{"banco":{{"roja":{{"nombre":"{}"}}}}}}"#,
            "x".repeat(70_000)
        );
        assert_eq!(parse(large.as_bytes()).unwrap_err().reason, Reason::Size);
    }

    #[test]
    fn a_token_in_the_body_gets_no_further() {
        let token = "x".repeat(50);
        let body = format!(r#"{{"token":"{token}","banco":{{"roja":{{}}}}}}"#);
        let (shown, rest) = split_token(body.as_bytes()).unwrap();
        assert_eq!(shown.unwrap().reveal(), token);
        assert_eq!(&rest[..], br#"{"banco":{"roja":{}}}"#);
        let (none, rest) = split_token(br#"{"token":"short","a":{}}"#).unwrap();
        assert!(none.is_none() && &rest[..] == br#"{"a":{}}"#);
        let (none, same) = split_token(br#"{"token": {"roja":{}}}"#).unwrap();
        assert!(none.is_none() && &same[..] == br#"{"token": {"roja":{}}}"#);
        assert!(split_token(b"[1]").is_err() && split_token(b"x").is_err());
    }

    #[test]
    fn the_names_of_before_are_taken() {
        for body in [
            r#"{"hardware_nombre":"b","empresa_nombre":"e","sede":"s","secreto":"x"}"#,
            r#"{"nombre":"b","empresa":"e","sede_nombre":"s","secret":"x","mac":"…"}"#,
            r#"{"hardware":"b","empresa":"e","sede":"s","secreto":"x"}"#,
        ] {
            let body: AuthenticateBody = serde_json::from_str(body).unwrap();
            assert_eq!(
                (body.hardware_nombre.as_str(), body.sede.as_str()),
                ("b", "s")
            );
            assert!(!format!("{body:?}").contains("secret"));
        }
        let twice = r#"{"nombre":"b","hardware":"c","empresa":"e","sede":"s","secreto":"x"}"#;
        assert!(serde_json::from_str::<AuthenticateBody>(twice).is_err());
    }

    proptest! {
        #[test]
        fn no_body_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (parse(&bytes), split_token(&bytes));
        }

        #[test]
        fn no_text_is_too_odd(company in ".*", label in ".*", text in ".*", place in ".*") {
            let detail = json!({"alerta": text, "sede": place, "ubicacion": text, "hardware_id": place});
            let mut fields = Map::new();
            fields.insert(company, json!({label: detail}));
            let body = Value::Object(fields).to_string();
            let (_, rest) = split_token(body.as_bytes()).unwrap();
            if let Ok(alert) = parse(&rest) {
                let _ = (alert.kinds(), alert.content());
            }
        }
    }
}
