//! What an expression can see: the alert, its device, its site, its kind and the time there.

use super::super::alert::Priority;
use super::super::registry::AlertKind;
use super::Situation;
use super::meter::{Meter, size};
use cel::common::traits::Indexer;
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull};
use cel::common::types::{CelString, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday, date};
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::fmt::Display;

type Boxed = Box<dyn Val>;

/// The names of the variables.
pub(super) const NAMES: [&str; 10] = [
    "alerta",
    "hardware",
    "sede",
    "empresa",
    "tipo",
    "hora",
    "minuto",
    "dia",
    "dia_semana",
    "fecha",
];

/// The fields of the variables that have any; what stands in `alerta.datos` and `alerta.ubicacion`
/// is the device's to say.
pub(super) const FIELDS: [(&str, &[&str]); 5] = [
    (
        "alerta",
        &[
            "tipo_alarma",
            "prioridad",
            "descripcion",
            "ubicacion",
            "datos",
            "tardia",
        ],
    ),
    ("hardware", &["hardware", "tipo", "nombre"]),
    ("sede", &["sede", "nombre", "zona_horaria"]),
    ("empresa", &["empresa", "nombre"]),
    (
        "tipo",
        &[
            "tipo_alarma",
            "nombre",
            "prioridad",
            "color",
            "descripcion",
            "instrucciones",
            "elementos",
        ],
    ),
];

/// The variables of one situation.
#[derive(Debug)]
pub(super) struct Variables {
    values: HashMap<&'static str, Boxed>,
    alert: Alert,
}

/// What `alerta` is made of, but for the priority, which rules change.
#[derive(Debug)]
struct Alert {
    kind: String,
    description: String,
    location: Boxed,
    data: Boxed,
    late: bool,
}

impl Variables {
    /// What there is to see of `situation`, at the priority of its kind.
    pub(super) fn of(situation: &Situation<'_>) -> Self {
        let Situation {
            company,
            site,
            device,
            kind,
            content,
            ..
        } = situation;
        let zone = site.time_zone.iana_name().unwrap_or_default();
        let mut values = clock(local(situation.at, &site.time_zone));
        values.extend([
            (
                "hardware",
                device_map(&device.slug, &device.name, &device.kind),
            ),
            (
                "sede",
                thing(
                    "sede",
                    &site.slug,
                    &site.name,
                    [("zona_horaria", text(zone))],
                ),
            ),
            (
                "empresa",
                thing("empresa", &company.slug, &company.name, []),
            ),
            ("tipo", kind_map(kind)),
        ]);
        let alert = Alert {
            kind: kind.code.to_string(),
            description: content.description.clone().unwrap_or_default(),
            location: object(content.location.as_deref()),
            data: object(content.data.as_deref()),
            late: situation.late,
        };
        Self::new(values, alert, kind.priority)
    }

    /// A situation to try an expression on before it meets a real one: every variable has its
    /// type, and the maps that devices fill are empty.
    pub(super) fn sample() -> Self {
        let mut values = clock(date(2026, 11, 25).at(10, 30, 0, 0));
        let kind = [
            ("prioridad", text(Priority::Critical.name())),
            ("color", text("rojo")),
            ("descripcion", text("")),
            ("instrucciones", text("")),
            ("elementos", list(vec![text("botiquín")])),
        ];
        values.extend([
            ("hardware", device_map("boton-1", "Botón", "BOTONERA")),
            (
                "sede",
                thing("sede", "norte", "Norte", [("zona_horaria", text("UTC"))]),
            ),
            ("empresa", thing("empresa", "banco", "Banco", [])),
            ("tipo", thing("tipo_alarma", "ROJO", "Asalto", kind)),
        ]);
        let alert = Alert {
            kind: "ROJO".to_owned(),
            description: String::new(),
            location: object(None),
            data: object(None),
            late: false,
        };
        Self::new(values, alert, Priority::Critical)
    }

    fn new(values: HashMap<&'static str, Boxed>, alert: Alert, priority: Priority) -> Self {
        let mut variables = Self { values, alert };
        variables.set_priority(priority);
        variables
    }

    /// What the rules so far have made of the priority.
    pub(super) fn set_priority(&mut self, priority: Priority) {
        let alert = map([
            ("tipo_alarma", text(&self.alert.kind)),
            ("prioridad", text(priority.name())),
            ("descripcion", text(&self.alert.description)),
            ("ubicacion", self.alert.location.clone()),
            ("datos", self.alert.data.clone()),
            ("tardia", Box::new(CelBool::from(self.alert.late))),
        ]);
        self.values.insert("alerta", alert);
    }

    /// The value at a path: `alerta`, `alerta.datos.puerta`.
    fn find(&self, path: &str) -> Option<&dyn Val> {
        let mut names = path.split('.');
        let root = self.values.get(names.next()?)?.as_ref();
        names.try_fold(root, |value, name| {
            let map = value.downcast_ref::<CelMap<'_>>()?;
            match map.get(&CelString::from(name)) {
                Ok(CowVal::Borrowed(value)) => Some(value),
                _ => None,
            }
        })
    }
}

/// The variables for one evaluation, which pays for each look at one of them. The interpreter asks
/// for the longest path first, so that `alerta.prioridad` does not cost what `alerta.datos` would.
pub(super) struct Seen<'a> {
    pub variables: &'a Variables,
    pub meter: &'a Meter,
    /// How often what is looked up may be copied.
    pub copies: u64,
}

impl VariableResolver for Seen<'_> {
    fn resolve<'b>(&'b self, path: &str) -> Option<CowVal<'b, 'b>> {
        // A loop may go on over its errors; it must not measure what it cannot pay.
        if self.meter.is_exhausted() {
            return None;
        }
        let value = self.variables.find(path)?;
        let units = size(value).saturating_mul(self.copies);
        self.meter.charge(units).then_some(CowVal::Borrowed(value))
    }
}

fn local(at: i64, time_zone: &TimeZone) -> DateTime {
    let moment = Timestamp::from_microsecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
    time_zone.to_datetime(moment)
}

fn clock(local: DateTime) -> HashMap<&'static str, Boxed> {
    let weekday = local.weekday();
    HashMap::from([
        ("hora", number(local.hour().into())),
        ("minuto", number(local.minute().into())),
        ("dia", text(day_name(weekday))),
        ("dia_semana", number(weekday.to_monday_one_offset().into())),
        ("fecha", text(local.date())),
    ])
}

const fn day_name(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Monday => "lunes",
        Weekday::Tuesday => "martes",
        Weekday::Wednesday => "miercoles",
        Weekday::Thursday => "jueves",
        Weekday::Friday => "viernes",
        Weekday::Saturday => "sabado",
        Weekday::Sunday => "domingo",
    }
}

fn text(text: impl Display) -> Boxed {
    Box::new(CelString::from(text.to_string()))
}

fn number(number: i64) -> Boxed {
    Box::new(CelInt::from(number))
}

fn list(items: Vec<Boxed>) -> Boxed {
    Box::new(CelList::from(items))
}

fn map<const N: usize>(entries: [(&str, Boxed); N]) -> Boxed {
    keyed(
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value)),
    )
}

fn keyed(entries: impl Iterator<Item = (String, Boxed)>) -> Boxed {
    let entries = entries.map(|(key, value)| (CelMapKey::String(key.into()), value));
    Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
}

/// What has a code, under the name of its own field, and a name for people.
fn thing<const N: usize>(
    field: &str,
    code: impl Display,
    name: impl Display,
    rest: [(&str, Boxed); N],
) -> Boxed {
    let own = [(field, text(code)), ("nombre", text(name))];
    let entries = own.into_iter().chain(rest);
    keyed(entries.map(|(key, value)| (key.to_owned(), value)))
}

fn device_map(code: impl Display, name: impl Display, kind: impl Display) -> Boxed {
    thing("hardware", code, name, [("tipo", text(kind))])
}

fn kind_map(kind: &AlertKind) -> Boxed {
    let rest = [
        ("prioridad", text(kind.priority.name())),
        ("color", text(&kind.colour)),
        ("descripcion", text(kind.description.as_str())),
        ("instrucciones", text(kind.instructions.as_str())),
        ("elementos", list(kind.items.iter().map(text).collect())),
    ];
    thing("tipo_alarma", &kind.code, &kind.name, rest)
}

/// What a device has sent as a JSON object; nothing where it sent none. It was checked when it was
/// accepted.
fn object(json: Option<&str>) -> Boxed {
    let parsed = json.and_then(|json| serde_json::from_str(json).ok());
    match parsed {
        Some(serde_json::Value::Object(members)) => from_json(serde_json::Value::Object(members)),
        _ => map([]),
    }
}

fn from_json(value: serde_json::Value) -> Boxed {
    use serde_json::Value;
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(value)),
        Value::Number(value) => from_number(&value),
        Value::String(value) => Box::new(CelString::from(value)),
        Value::Array(items) => list(items.into_iter().map(from_json).collect()),
        Value::Object(members) => keyed(
            members
                .into_iter()
                .map(|(key, value)| (key, from_json(value))),
        ),
    }
}

fn from_number(value: &serde_json::Number) -> Boxed {
    match (value.as_i64(), value.as_u64()) {
        (Some(value), _) => number(value),
        (None, Some(value)) => Box::new(CelUInt::from(value)),
        (None, None) => Box::new(CelDouble::from(value.as_f64().unwrap_or(f64::NAN))),
    }
}
