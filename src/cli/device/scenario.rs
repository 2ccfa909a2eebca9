//! The scenario file: which devices there are and what they do. Pure.
//!
//! It is TOML: people write it by hand, want comments in it, and want to be told the line that is
//! wrong. `examples/escenario-demo.toml` shows every part.

use super::reply::Verdict;
use crate::cli::api::BaseUrl;
use crate::domain::{Algorithm, DeviceAddress, Slug};
use jiff::SignedDuration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::time::Duration;

/// Devices in one process: each has a connection and a lock, and one thread serves them all.
const MAX_DEVICES: u32 = 1_000;

/// Stands for the number of a device within its group.
const NUMBER: &str = "{n}";

/// What is wrong with a scenario, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ScenarioError(String);

/// A span of time, written as `"500ms"`, `"30s"` or `"1h 30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: SignedDuration = text
            .parse()
            .map_err(|_| D::Error::custom(format!("{text:?} no es un tiempo como \"30s\"")))?;
        Duration::try_from(span)
            .map(Self)
            .map_err(|_| D::Error::custom(format!("{text:?} es un tiempo negativo")))
    }
}

/// A scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// What people call it.
    #[serde(default)]
    pub(super) nombre: String,
    /// How long it is played; without it, until every device has done what it does.
    pub(super) duracion: Option<Span>,
    /// How long the last replies are waited for.
    #[serde(default = "half_a_minute")]
    pub(super) espera: Span,
    /// The installation that new devices will talk to.
    #[serde(default = "installation")]
    pub(super) aud: String,
    /// Enrol the devices that have no credentials yet.
    pub(super) enrolar: Option<Enrolment>,
    /// The devices.
    pub(super) dispositivos: Vec<Group>,
}

/// Whether and where devices are enrolled.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Enrolment {
    /// The server, unless the command line says another.
    #[serde(default, deserialize_with = "url")]
    pub(super) url: Option<BaseUrl>,
    /// Whether companies and sites may be created too.
    #[serde(default)]
    pub(super) crear: bool,
}

/// What is wrong with an impostor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Forgery {
    /// It signs with a key that nobody has registered.
    ClaveDesconocida,
    /// It signs with a key that is revoked.
    ClaveRevocada,
    /// It has an identity, and speaks as a device of another company.
    EmpresaAjena,
}

/// Some devices that are alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Their names, `{n}` standing for 1, 2, …
    hardware: String,
    /// How many there are.
    #[serde(default = "one")]
    cantidad: u32,
    /// Their company.
    #[serde(deserialize_with = "slug")]
    empresa: Slug,
    /// Their site.
    #[serde(deserialize_with = "slug")]
    sede: Slug,
    /// What they are.
    #[serde(default = "push_button", deserialize_with = "slug")]
    pub(super) tipo: Slug,
    /// What people call them.
    pub(super) nombre: Option<String>,
    /// How they sign.
    #[serde(default = "ed25519", deserialize_with = "algorithm")]
    pub(super) alg: Algorithm,
    /// Whether they keep their `estado` at the broker.
    #[serde(default = "yes")]
    pub(super) estado: bool,
    /// How long the broker keeps what is said to them while they are away.
    #[serde(default)]
    pub(super) sesion: Span,
    /// How many successive numbers may be on their way (1 to 64). A person presses once and waits;
    /// many devices that each have many on their way only make each other wait.
    #[serde(default = "small_window")]
    pub(super) ventana: u64,
    /// How often they send a signed heartbeat.
    pub(super) latido: Option<Span>,
    /// Impostors: what is wrong with them.
    pub(super) forjado: Option<Forgery>,
    /// Impostors of another company: who they speak as.
    #[serde(default, deserialize_with = "address")]
    pub(super) finge: Option<DeviceAddress>,
    /// They press a button.
    #[serde(default)]
    pub(super) pulsar: Vec<Press>,
    /// They press a button that bounces.
    #[serde(default)]
    pub(super) rebotar: Vec<Bounce>,
    /// They send as fast as told, whatever is answered.
    #[serde(default)]
    pub(super) inundar: Vec<Flood>,
    /// They send again what was answered long ago.
    #[serde(default)]
    pub(super) repetir: Vec<Replay>,
    /// They fall silent.
    #[serde(default)]
    pub(super) callar: Vec<Silence>,
    /// What they do when they are given an order.
    #[serde(default)]
    pub(super) al_comando: Vec<OnOrder>,
    /// What they do when they are answered.
    #[serde(default)]
    pub(super) al_responder: Vec<OnReply>,
}

/// When something happens, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule {
    /// The first time, from the start.
    pub(super) start: Duration,
    /// The time between; zero is as fast as replies come.
    pub(super) every: Duration,
    /// How much earlier or later, at most.
    pub(super) jitter: Duration,
    /// How many times; `None` is for ever.
    pub(super) times: Option<u64>,
}

impl Schedule {
    /// Without a pace it is once, or as many times as said, as fast as replies come.
    fn new(start: Span, every: Option<Span>, jitter: Span, times: Option<u64>) -> Self {
        Self {
            start: start.0,
            every: every.unwrap_or_default().0,
            jitter: jitter.0,
            times: times.or(every.is_none().then_some(1)),
        }
    }
}

/// A button that is pressed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Press {
    /// The kind of alert.
    #[serde(deserialize_with = "slug")]
    pub(super) tipo_alarma: Slug,
    #[serde(default)]
    desde: Span,
    cada: Option<Span>,
    #[serde(default)]
    variacion: Span,
    veces: Option<u64>,
    /// What happened.
    pub(super) descripcion: Option<String>,
    /// Where.
    pub(super) ubicacion: Option<Map<String, Value>>,
    /// Anything else.
    pub(super) datos: Option<Map<String, Value>>,
}

impl Press {
    /// When.
    pub(super) fn schedule(&self) -> Schedule {
        Schedule::new(self.desde, self.cada, self.variacion, self.veces)
    }
}

/// A button whose contact bounces: one press, several messages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounce {
    /// The kind of alert.
    #[serde(deserialize_with = "slug")]
    pub(super) tipo_alarma: Slug,
    /// Messages a press.
    pub(super) pulsos: u32,
    /// Within this time.
    pub(super) en: Span,
    #[serde(default)]
    desde: Span,
    cada: Option<Span>,
    #[serde(default)]
    variacion: Span,
    veces: Option<u64>,
}

impl Bounce {
    /// When.
    pub(super) fn schedule(&self) -> Schedule {
        Schedule::new(self.desde, self.cada, self.variacion, self.veces)
    }
}

/// A device that has run wild: it sends at a rate, waits for nothing and repeats nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flood {
    /// The kind of alert.
    #[serde(deserialize_with = "slug")]
    pub(super) tipo_alarma: Slug,
    /// Messages a second.
    por_segundo: u32,
    durante: Span,
    #[serde(default)]
    desde: Span,
}

impl Flood {
    /// When.
    pub(super) fn schedule(&self) -> Schedule {
        let every = Duration::from_secs(1) / self.por_segundo.max(1);
        let times = self.durante.0.as_nanos() / every.as_nanos().max(1);
        Schedule {
            start: self.desde.0,
            every,
            jitter: Duration::ZERO,
            times: Some(u64::try_from(times).unwrap_or(u64::MAX)),
        }
    }
}

/// Old messages, sent again as they were.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// How many at a time.
    pub(super) mensajes: u32,
    #[serde(default)]
    desde: Span,
    cada: Option<Span>,
    #[serde(default)]
    variacion: Span,
    veces: Option<u64>,
}

impl Replay {
    /// When.
    pub(super) fn schedule(&self) -> Schedule {
        Schedule::new(self.desde, self.cada, self.variacion, self.veces)
    }
}

/// A time in which nothing is heard of a device.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Silence {
    /// From when.
    pub(super) desde: Span,
    /// How long.
    pub(super) durante: Span,
    /// Whether its connection breaks too, so that its last will is published.
    #[serde(default = "yes")]
    pub(super) desconectar: bool,
}

/// What a device does because of something it hears.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reaction {
    /// Switch on for the alert.
    Encender,
    /// Switch off for the alert; it is off once it is off for all.
    Apagar,
    /// Say so on the terminal and no more.
    Avisar,
    /// Do nothing of its own any more.
    Detener,
    /// Send an alert of this kind.
    #[serde(deserialize_with = "slug")]
    Pulsar(Slug),
}

/// A reaction to an order (`comando`). What is not said may be anything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnOrder {
    /// Its `accion`.
    pub(super) accion: Option<String>,
    /// Its kind of alert; `NORMAL` where one is over.
    pub(super) tipo_alarma: Option<String>,
    /// The how manieth order of the device it is.
    pub(super) numero: Option<u64>,
    /// What to do.
    pub(super) hacer: Reaction,
}

/// A reaction to an answer (`respuesta`). What is not said may be anything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnReply {
    /// What it says.
    pub(super) estado: Option<Verdict>,
    /// Why not.
    pub(super) motivo: Option<String>,
    /// The kind of the message answered.
    pub(super) tipo_alarma: Option<String>,
    /// The how manieth answer to the device it is.
    pub(super) numero: Option<u64>,
    /// What to do.
    pub(super) hacer: Reaction,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`] names the line or the field that is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|e| ScenarioError(e.to_string()))?;
        let mut names = HashSet::new();
        for group in &scenario.dispositivos {
            let wrong =
                |what: &str| ScenarioError(format!("hardware {:?}: {what}", group.hardware));
            group.check().map_err(|what| wrong(&what))?;
            for address in group.addresses().map_err(|what| wrong(&what))? {
                if !names.insert(address.device.clone()) {
                    return Err(wrong(&format!("{} está dos veces", address.device)));
                }
            }
        }
        if names.is_empty() || names.len() > MAX_DEVICES as usize {
            return Err(ScenarioError(format!(
                "dispositivos: se esperan de 1 a {MAX_DEVICES}, hay {}",
                names.len()
            )));
        }
        Ok(scenario)
    }
}

impl Group {
    /// The devices, in order.
    ///
    /// # Errors
    /// What is wrong with their names.
    pub(super) fn addresses(&self) -> Result<Vec<DeviceAddress>, String> {
        (1..=self.cantidad)
            .map(|number| {
                let name = self.hardware.replace(NUMBER, &number.to_string());
                let device = Slug::parse(&name).map_err(|e| format!("{name:?}: {e}"))?;
                Ok(DeviceAddress {
                    company: self.empresa.clone(),
                    site: self.sede.clone(),
                    device,
                })
            })
            .collect()
    }

    /// What no single field can tell.
    fn check(&self) -> Result<(), String> {
        if !(1..=MAX_DEVICES).contains(&self.cantidad) {
            return Err(format!("cantidad: de 1 a {MAX_DEVICES}"));
        }
        if self.cantidad > 1 && !self.hardware.contains(NUMBER) {
            return Err(format!("con cantidad el nombre lleva {NUMBER}"));
        }
        if !(1..=64).contains(&self.ventana) {
            return Err("ventana: de 1 a 64".to_owned());
        }
        if self.latido.is_some_and(|span| span.0.is_zero()) {
            return Err("latido: más de 0s".to_owned());
        }
        if self.finge.is_some() != (self.forjado == Some(Forgery::EmpresaAjena)) {
            return Err("finge y forjado = \"empresa_ajena\" van juntos".to_owned());
        }
        if self
            .inundar
            .iter()
            .any(|flood| !(1..=100_000).contains(&flood.por_segundo))
        {
            return Err("inundar.por_segundo: de 1 a 100000".to_owned());
        }
        if self
            .rebotar
            .iter()
            .any(|bounce| !(1..=1_000).contains(&bounce.pulsos))
        {
            return Err("rebotar.pulsos: de 1 a 1000".to_owned());
        }
        let schedules = (self.pulsar.iter().map(Press::schedule))
            .chain(self.rebotar.iter().map(Bounce::schedule))
            .chain(self.repetir.iter().map(Replay::schedule));
        for schedule in schedules {
            if schedule.jitter > schedule.every {
                return Err("variacion: no más que cada".to_owned());
            }
            if schedule.every.is_zero() && schedule.times.is_none() {
                return Err("cada = \"0s\" pide veces".to_owned());
            }
        }
        Ok(())
    }
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

const fn small_window() -> u64 {
    16
}

const fn ed25519() -> Algorithm {
    Algorithm::EdDsa
}

const fn half_a_minute() -> Span {
    Span(Duration::from_secs(30))
}

fn installation() -> String {
    "atalaya".to_owned()
}

fn push_button() -> Slug {
    Slug::parse("BOTONERA").unwrap_or_else(|_| unreachable!("it is a slug"))
}

fn slug<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Slug, D::Error> {
    let text = String::deserialize(deserializer)?;
    Slug::parse(&text).map_err(|e| D::Error::custom(format!("{text:?} no es un nombre: {e}")))
}

fn algorithm<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Algorithm, D::Error> {
    let text = String::deserialize(deserializer)?;
    Algorithm::parse(&text).ok_or_else(|| D::Error::custom("se espera EdDSA o HS256"))
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BaseUrl>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BaseUrl::parse(&text).map(Some).map_err(D::Error::custom)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DeviceAddress>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map(Some)
        .map_err(|_| D::Error::custom("se espera empresa/sede/hardware"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Scenario::parse(text).unwrap_err().to_string()
    }

    fn with(line: &str) -> String {
        format!(
            "[[dispositivos]]\nhardware = \"boton-{{n}}\"\ncantidad = 2\nempresa = \"banco\"\n\
             sede = \"principal\"\n{line}\n"
        )
    }

    #[test]
    fn the_example_is_a_scenario() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/escenario-demo.toml");
        let scenario = Scenario::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(scenario.enrolar.is_some());
    }

    #[test]
    fn groups_become_devices() {
        let scenario = Scenario::parse(&with("pulsar = [{ tipo_alarma = \"ROJO\" }]")).unwrap();
        let group = &scenario.dispositivos[0];
        let names: Vec<_> = group
            .addresses()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            names,
            ["banco/principal/boton-1", "banco/principal/boton-2"]
        );
        assert_eq!(group.pulsar[0].schedule().times, Some(1), "once");
    }

    #[test]
    fn schedules_say_how_often() {
        let text = with(
            "pulsar = [{ tipo_alarma = \"ROJO\", cada = \"1s\", variacion = \"200ms\" }, \
             { tipo_alarma = \"ROJO\", veces = 5 }]\n\
             inundar = [{ tipo_alarma = \"ROJO\", por_segundo = 200, durante = \"1m 30s\" }]",
        );
        let scenario = Scenario::parse(&text).unwrap();
        let group = &scenario.dispositivos[0];
        let schedule = group.pulsar[0].schedule();
        assert_eq!((schedule.every.as_millis(), schedule.times), (1_000, None));
        let schedule = group.pulsar[1].schedule();
        assert_eq!((schedule.every.as_millis(), schedule.times), (0, Some(5)));
        let schedule = group.inundar[0].schedule();
        assert_eq!(
            (schedule.every.as_millis(), schedule.times),
            (5, Some(18_000))
        );
    }

    #[test]
    fn reactions_have_conditions() {
        let text = with(
            "al_comando = [{ accion = \"ENCENDER\", hacer = \"encender\" }, \
             { tipo_alarma = \"NORMAL\", hacer = \"apagar\" }]\n\
             al_responder = [{ estado = \"RECHAZADA\", hacer = \"detener\" }, \
             { numero = 3, hacer = { pulsar = \"VERDE\" } }]",
        );
        let scenario = Scenario::parse(&text).unwrap();
        let group = &scenario.dispositivos[0];
        assert_eq!(group.al_comando[1].hacer, Reaction::Apagar);
        assert_eq!(group.al_responder[0].estado, Some(Verdict::Rejected));
        let green = Slug::parse("VERDE").unwrap();
        assert_eq!(group.al_responder[1].hacer, Reaction::Pulsar(green));
    }

    #[test]
    fn errors_say_where() {
        for (line, said) in [
            ("pulsa = []", ["line 6", "pulsa"]),
            ("latido = \"30 lunas\"", ["line 6", "30 lunas"]),
            ("pulsar = [{ tipo_alarma = \"a/b\" }]", ["line 6", "a/b"]),
            ("pulsar = [{ tipo = \"ROJO\" }]", ["line 6", "tipo"]),
            ("alg = \"none\"", ["line 6", "EdDSA"]),
            ("forjado = \"nada\"", ["line 6", "clave_desconocida"]),
            ("forjado = \"empresa_ajena\"", ["boton-{n}", "finge"]),
            ("ventana = 65", ["boton-{n}", "ventana"]),
            ("= 5", ["line 6", "key"]),
            ("al_comando = [{ hacer = \"volar\" }]", ["line 6", "volar"]),
            (
                "pulsar = [{ tipo_alarma = \"R\", cada = \"1s\", variacion = \"2s\" }]",
                ["boton-{n}", "variacion"],
            ),
        ] {
            let error = error(&with(line));
            for said in said {
                assert!(error.contains(said), "{line}: {error}");
            }
        }
        let twice = format!("{}{}", with(""), with(""));
        assert!(error(&twice).contains("boton-1 está dos veces"));
        assert!(error("dispositivos = []").contains("de 1 a 1000"));
        let one_name = with("").replace("boton-{n}", "boton");
        assert!(error(&one_name).contains("{n}"));
    }
}
