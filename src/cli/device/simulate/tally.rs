//! What a simulation came to, for people and for programs.

use super::super::jws::Message;
use super::super::reply::{Reply, Verdict};
use super::clockwork::Dice;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Times that are kept for the percentiles; of more than that, a fair sample (Vitter's algorithm R).
const SAMPLES: usize = 1_000_000;

/// Motives and devices that are counted by name; they are a stranger's text.
const MAX_NAMES: usize = 100;

/// What sort of message one is, since each is expected to fare differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    /// An alert that is sent until it is answered.
    Alerta,
    /// A heartbeat, likewise.
    Latido,
    /// One of a flood: sent once.
    Inundacion,
    /// An old message, sent once more.
    Repeticion,
    /// An impostor's, sent once.
    Forjada,
}

impl Class {
    /// All of them.
    const ALL: [Self; 5] = [
        Self::Alerta,
        Self::Latido,
        Self::Inundacion,
        Self::Repeticion,
        Self::Forjada,
    ];

    /// Whether a message of this class is sent until it is answered.
    pub(super) const fn insists(self) -> bool {
        matches!(self, Self::Alerta | Self::Latido)
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Alerta => "Alertas",
            Self::Latido => "Latidos",
            Self::Inundacion => "Inundación",
            Self::Repeticion => "Repeticiones",
            Self::Forjada => "Forjadas",
        }
    }
}

/// How the messages of one class fared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    distintas: u64,
    aceptadas: u64,
    duplicadas: u64,
    rechazadas: BTreeMap<String, u64>,
    sin_respuesta: u64,
}

impl Counts {
    fn rejected(&self) -> u64 {
        self.rechazadas.values().sum()
    }
}

/// Counts what happens, over all devices.
#[derive(Debug)]
pub(super) struct Tally {
    counts: BTreeMap<Class, Counts>,
    sent: u64,
    throttled: u64,
    dropped: u64,
    strangers: u64,
    contradictions: u64,
    orders: u64,
    connections: u64,
    failures: u64,
    lit: BTreeSet<String>,
    times: Vec<Duration>,
    measured: u64,
    dice: Dice,
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            counts: BTreeMap::new(),
            sent: 0,
            throttled: 0,
            dropped: 0,
            strangers: 0,
            contradictions: 0,
            orders: 0,
            connections: 0,
            failures: 0,
            lit: BTreeSet::new(),
            times: Vec::new(),
            measured: 0,
            dice: Dice::new(seed, u64::MAX),
        }
    }

    fn of(&mut self, class: Class) -> &mut Counts {
        self.counts.entry(class).or_default()
    }

    /// A message that was not there before.
    pub(super) fn signed(&mut self, class: Class) {
        self.of(class).distintas += 1;
    }

    /// A message went out, the first time or again.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// A message was answered for good, so long after it was first sent.
    pub(super) fn answered(&mut self, class: Class, reply: &Reply, time: Option<Duration>) {
        let counts = self.of(class);
        match reply.estado {
            Verdict::Accepted => counts.aceptadas += 1,
            Verdict::Duplicate => counts.duplicadas += 1,
            Verdict::Rejected => {
                let motive = reply.motivo.as_deref().unwrap_or("?");
                let known = counts.rechazadas.len() < MAX_NAMES;
                let motive = if known { motive } else { "otros" };
                *counts.rechazadas.entry(motive.to_owned()).or_default() += 1;
            }
        }
        if let Some(time) = time {
            self.measure(time);
        }
    }

    fn measure(&mut self, time: Duration) {
        self.measured += 1;
        if self.times.len() < SAMPLES {
            self.times.push(time);
            return;
        }
        let place = usize::try_from(self.dice.below(self.measured)).unwrap_or(usize::MAX);
        if let Some(sample) = self.times.get_mut(place) {
            *sample = time;
        }
    }

    /// A message was never answered.
    pub(super) fn unanswered(&mut self, class: Class) {
        self.of(class).sin_respuesta += 1;
    }

    /// Too many at once; the message comes again.
    pub(super) fn throttled(&mut self) {
        self.throttled += 1;
    }

    /// A device had no room, or no connection, for what it would have said.
    pub(super) fn dropped(&mut self) {
        self.dropped += 1;
    }

    /// An answer to nothing that waits for one: most are second answers to what was sent twice.
    pub(super) fn stranger(&mut self) {
        self.strangers += 1;
    }

    /// An old message was answered otherwise than the first time.
    pub(super) fn contradiction(&mut self) {
        self.contradictions += 1;
    }

    /// An order.
    pub(super) fn order(&mut self) {
        self.orders += 1;
    }

    /// A device has connected.
    pub(super) fn connected(&mut self) {
        self.connections += 1;
    }

    /// A device cannot go on.
    pub(super) fn failed(&mut self) {
        self.failures += 1;
    }

    /// A device was left switched on.
    pub(super) fn left_on(&mut self, device: &str) {
        self.lit.insert(device.to_owned());
    }

    /// The summary.
    pub(super) fn summary(mut self, name: &str, devices: usize, took: Duration) -> Summary {
        self.times.sort_unstable();
        let at = |percent| percentile(&self.times, percent).map(millis);
        Summary {
            escenario: name.to_owned(),
            dispositivos: devices,
            segundos: took.as_secs_f64(),
            envios: self.sent,
            tipos: Class::ALL
                .into_iter()
                .filter_map(|class| Some((class, self.counts.remove(&class)?)))
                .collect(),
            limitadas: self.throttled,
            omitidas: self.dropped,
            respuestas_de_mas: self.strangers,
            contradicciones: self.contradictions,
            comandos: self.orders,
            encendidos: self.lit,
            conexiones: self.connections,
            fallos: self.failures,
            ms: Times {
                p50: at(50),
                p95: at(95),
                p99: at(99),
                max: at(100),
            },
        }
    }
}

/// The nearest-rank percentile of times in rising order.
fn percentile(times: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied()
}

/// Milliseconds to three places.
pub(super) fn millis(time: Duration) -> f64 {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1_000.0
}

/// The summary: `Display` is for people, `Serialize` for programs.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    escenario: String,
    dispositivos: usize,
    segundos: f64,
    /// Messages that went out, repeats included.
    envios: u64,
    #[serde(flatten)]
    tipos: BTreeMap<Class, Counts>,
    limitadas: u64,
    omitidas: u64,
    respuestas_de_mas: u64,
    contradicciones: u64,
    comandos: u64,
    encendidos: BTreeSet<String>,
    conexiones: u64,
    fallos: u64,
    /// From the first sending of a message to its reply.
    ms: Times,
}

#[derive(Debug, Serialize)]
struct Times {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

impl Summary {
    /// Whether something got in that must not, or a device could not go on.
    pub(super) fn is_alarming(&self) -> bool {
        let forged = self.tipos.get(&Class::Forjada);
        let got_in = forged.is_some_and(|counts| counts.aceptadas + counts.duplicadas > 0);
        got_in || self.contradicciones > 0 || self.fallos > 0
    }

    /// Whether a message that was sent until it is answered was not.
    pub(super) fn is_incomplete(&self) -> bool {
        let mut insisted = self.tipos.iter().filter(|(class, _)| class.insists());
        insisted.any(|(_, counts)| counts.sin_respuesta > 0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Dispositivos: {}; envíos: {} en {:.1} s; conexiones: {}",
            self.dispositivos, self.envios, self.segundos, self.conexiones
        )?;
        for (class, counts) in &self.tipos {
            write!(
                f,
                "{}: {} distintas; aceptadas {}, duplicadas {}, rechazadas {}",
                class.title(),
                counts.distintas,
                counts.aceptadas,
                counts.duplicadas,
                counts.rejected()
            )?;
            for (motive, count) in &counts.rechazadas {
                let motive = crate::cli::text::Shown::from(motive.as_str());
                write!(f, " [{motive}: {count}]")?;
            }
            writeln!(f, ", sin respuesta {}", counts.sin_respuesta)?;
        }
        for (title, count) in [
            ("Frenadas por límite (se reenvían)", self.limitadas),
            ("Omitidas por falta de sitio o de conexión", self.omitidas),
            (
                "Repeticiones contestadas de otro modo",
                self.contradicciones,
            ),
            ("Dispositivos que no pudieron seguir", self.fallos),
            ("Comandos", self.comandos),
        ] {
            if count > 0 {
                writeln!(f, "{title}: {count}")?;
            }
        }
        if !self.encendidos.is_empty() {
            let lit: Vec<&str> = self.encendidos.iter().map(String::as_str).collect();
            writeln!(f, "Siguen encendidos: {}", lit.join(", "))?;
        }
        let shown = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        write!(
            f,
            "Respuesta en ms: p50 {}, p95 {}, p99 {}, máx {}",
            shown(self.ms.p50),
            shown(self.ms.p95),
            shown(self.ms.p99),
            shown(self.ms.max)
        )
    }
}

/// One line of the journal: a message and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    hardware: &'a str,
    clase: Class,
    kid: &'a str,
    seq: u64,
    huella: String,
    tipo_alarma: &'a str,
    enviada: Option<String>,
    envios: u32,
    ms: Option<f64>,
    respuesta: Option<&'a Reply>,
}

impl<'a> Entry<'a> {
    /// The line of a message of `device`, sent `sends` times, first at `first` (RFC 3339).
    pub(super) fn new(device: &'a str, class: Class, message: &'a Message) -> Self {
        Self {
            hardware: device,
            clase: class,
            kid: &message.kid,
            seq: message.seq,
            huella: message.fingerprint.to_string(),
            tipo_alarma: &message.kind,
            enviada: None,
            envios: 0,
            ms: None,
            respuesta: None,
        }
    }

    /// How often it was sent, and when first.
    pub(super) fn sent(self, sends: u32, first: Option<String>) -> Self {
        Self {
            envios: sends,
            enviada: first,
            ..self
        }
    }

    /// What was answered, and how long after the first sending.
    pub(super) fn answered(self, reply: &'a Reply, time: Option<Duration>) -> Self {
        Self {
            respuesta: Some(reply),
            ms: time.map(millis),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().map(|&ms| Duration::from_millis(ms)).collect()
    }

    fn reply(estado: Verdict, motivo: Option<&str>) -> Reply {
        Reply {
            alerta_id: None,
            estado,
            motivo: motivo.map(str::to_owned),
            seq: None,
            huella: String::new(),
            timestamp: None,
        }
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred = ms(&(1..=100).collect::<Vec<_>>());
        for percent in [1, 50, 95, 99, 100] {
            let expected = Duration::from_millis(percent as u64);
            assert_eq!(percentile(&hundred, percent), Some(expected));
        }
        let few = ms(&[15, 20, 35, 40, 50]);
        let at = |percent| percentile(&few, percent).map(|time| time.as_millis());
        assert_eq!(
            [at(5), at(30), at(40), at(50), at(100)].map(Option::unwrap),
            [15, 20, 20, 35, 50]
        );
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&ms(&[7]), 99), Some(Duration::from_millis(7)));
    }

    #[test]
    fn samples_are_bounded() {
        let mut tally = Tally::new(1);
        tally.times = vec![Duration::ZERO; SAMPLES];
        tally.measured = SAMPLES as u64;
        (0..10_000).for_each(|_| tally.measure(Duration::from_secs(1)));
        assert_eq!(tally.times.len(), SAMPLES);
        let kept = tally.times.iter().filter(|time| !time.is_zero()).count();
        assert!((9_000..=10_000).contains(&kept), "{kept}");
    }

    #[test]
    fn every_message_has_one_end() {
        let mut tally = Tally::new(1);
        for _ in 0..4 {
            tally.signed(Class::Alerta);
        }
        let accepted = reply(Verdict::Accepted, None);
        tally.answered(Class::Alerta, &accepted, Some(Duration::from_micros(1_500)));
        tally.answered(Class::Alerta, &reply(Verdict::Duplicate, None), None);
        tally.answered(
            Class::Alerta,
            &reply(Verdict::Rejected, Some("FECHA")),
            None,
        );
        tally.unanswered(Class::Alerta);
        let summary = tally.summary("s", 1, Duration::from_secs(1));
        assert!(summary.is_incomplete() && !summary.is_alarming());
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(
            json["alerta"],
            serde_json::json!({"distintas":4,"aceptadas":1,"duplicadas":1,"rechazadas":{"FECHA":1},"sin_respuesta":1})
        );
        assert_eq!(json["ms"]["p50"], 1.5);
        assert!(
            summary
                .to_string()
                .contains("rechazadas 1 [FECHA: 1], sin respuesta 1")
        );
    }

    #[test]
    fn an_impostor_that_gets_in_is_alarming() {
        let mut tally = Tally::new(1);
        tally.unanswered(Class::Forjada);
        tally.answered(
            Class::Forjada,
            &reply(Verdict::Rejected, Some("IDENTIDAD")),
            None,
        );
        let ends = |tally: Tally| tally.summary("s", 1, Duration::ZERO).is_alarming();
        assert!(!ends(tally));
        let mut tally = Tally::new(1);
        tally.answered(Class::Forjada, &reply(Verdict::Accepted, None), None);
        assert!(ends(tally));
    }
}
