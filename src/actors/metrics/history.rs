//! How it has been: samples in three grains, each a bounded ring.
//!
//! What is asked for is answered from the grain that fits. A coarser grain is made of the finer one,
//! so that a day is as true as a minute. Where no sample was taken there is none: a gap is a gap.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// How samples of a series become one of a coarser grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    /// Their mean: rates and ratios.
    Mean,
    /// The largest: what hurts should be seen.
    Max,
    /// The smallest: whether something was there all the time.
    Min,
}

/// Every series: its name on the wire, and how it is folded.
const SERIES: [(&str, Fold); 16] = [
    ("transacciones_por_segundo", Fold::Mean),
    ("rechazos_por_segundo", Fold::Mean),
    ("latencia_p50_ms", Fold::Mean),
    ("latencia_p95_ms", Fold::Max),
    ("latencia_p99_ms", Fold::Max),
    ("grupos_por_segundo", Fold::Mean),
    ("operaciones_por_grupo", Fold::Mean),
    ("commit_p95_ms", Fold::Max),
    ("cola_escritura", Fold::Max),
    ("outbox_pendientes", Fold::Max),
    ("outbox_retraso_s", Fold::Max),
    ("sesiones", Fold::Max),
    ("alertas_abiertas", Fold::Max),
    ("dispositivos_en_linea", Fold::Max),
    ("broker_conectado", Fold::Min),
    ("base_de_datos", Fold::Min),
];

/// Seconds between samples: the finest grain.
pub(super) const FINEST: i64 = 5;

/// The grains: seconds of a sample, and how many are kept. A quarter of an hour, six hours, a week.
const GRAINS: [(i64, usize); 3] = [(FINEST, 180), (30, 720), (300, 2_016)];

/// Kinds of alert that are told apart; the rest are `OTROS`.
const KINDS: usize = 12;

/// What the rest is called.
const OTHERS: &str = "OTROS";

/// A span of time that may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// `15m`.
    Quarter,
    /// `1h`.
    Hour,
    /// `6h`.
    SixHours,
    /// `1d`.
    Day,
    /// `7d`.
    Week,
}

impl Window {
    /// The window called so.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "15m" => Self::Quarter,
            "1h" => Self::Hour,
            "6h" => Self::SixHours,
            "1d" => Self::Day,
            "7d" => Self::Week,
            _ => return None,
        })
    }

    /// Its name on the wire, which grain shows it, and how many samples that are.
    const fn shape(self) -> (&'static str, usize, usize) {
        match self {
            Self::Quarter => ("15m", 0, 180),
            Self::Hour => ("1h", 1, 120),
            Self::SixHours => ("6h", 1, 720),
            Self::Day => ("1d", 2, 288),
            Self::Week => ("7d", 2, 2_016),
        }
    }
}

/// What was seen at one moment, or over the grain that begins with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sample {
    /// When, in seconds since 1970 UTC, a multiple of the grain.
    #[serde(rename = "t")]
    pub(super) at: i64,
    /// The series in their order; `None` for what is not known.
    #[serde(rename = "v")]
    pub(super) values: [Option<f64>; SERIES.len()],
    /// Alerts a second by kind.
    #[serde(rename = "k", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) kinds: BTreeMap<String, f64>,
}

impl Sample {
    /// Sets a series by its name. A name that is none is a defect, which shows as a series that
    /// stays empty.
    pub(super) fn set(&mut self, name: &str, value: Option<f64>) {
        if let Some(index) = SERIES.iter().position(|(known, _)| *known == name) {
            self.values[index] = value.filter(|value| value.is_finite()).map(rounded);
        }
    }
}

/// Four digits are more than a chart shows, and keep the file small.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

/// Several samples on their way to one of a coarser grain.
#[derive(Debug, Clone, Default)]
struct Heap {
    at: i64,
    samples: Vec<Sample>,
}

impl Heap {
    fn folded(&self) -> Sample {
        let mut folded = Sample {
            at: self.at,
            ..Sample::default()
        };
        for (index, (_, fold)) in SERIES.iter().enumerate() {
            let known = self
                .samples
                .iter()
                .filter_map(|sample| sample.values[index]);
            folded.values[index] = fold_all(*fold, known);
        }
        let count = crate::instruments::as_float(self.samples.len().max(1));
        for sample in &self.samples {
            for (kind, rate) in &sample.kinds {
                *folded.kinds.entry(kind.clone()).or_default() += rate / count;
            }
        }
        folded
    }
}

fn fold_all(fold: Fold, known: impl Iterator<Item = f64>) -> Option<f64> {
    let known: Vec<f64> = known.collect();
    let count = crate::instruments::as_float(known.len());
    match fold {
        _ if known.is_empty() => None,
        Fold::Mean => Some(rounded(known.iter().sum::<f64>() / count)),
        Fold::Max => known.into_iter().reduce(f64::max),
        Fold::Min => known.into_iter().reduce(f64::min),
    }
}

/// The samples of all grains.
#[derive(Debug, Clone, Default)]
pub(super) struct History([Grain; GRAINS.len()]);

/// The samples of one grain: those that are over, and those of the one under way.
#[derive(Debug, Clone, Default)]
struct Grain {
    over: VecDeque<Sample>,
    under_way: Heap,
}

impl Grain {
    /// Takes one of the finest samples; `step` and `most` are the grain's.
    fn take(&mut self, sample: &Sample, step: i64, most: usize) {
        let begin = sample.at - sample.at.rem_euclid(step);
        if self.under_way.at != begin {
            let over = self.newest();
            self.under_way = Heap {
                at: begin,
                samples: Vec::new(),
            };
            if let Some(over) = over {
                self.keep(over, most);
            }
        }
        self.under_way.samples.push(sample.clone());
    }

    fn keep(&mut self, sample: Sample, most: usize) {
        // What was kept before a restart may have begun the same grain.
        if self.over.back().is_some_and(|last| last.at >= sample.at) {
            return;
        }
        self.over.push_back(sample);
        while self.over.len() > most {
            self.over.pop_front();
        }
    }

    /// What is under way, as far as it has come.
    fn newest(&self) -> Option<Sample> {
        let has_some = !self.under_way.samples.is_empty();
        has_some.then(|| self.under_way.folded())
    }

    /// All of them, the newest last. One that goes on after a restart is what was kept of it.
    fn all(&self) -> impl Iterator<Item = Sample> {
        let newest = self.newest();
        let kept_to = self.over.back().map_or(i64::MIN, |last| last.at);
        let fresh = newest.filter(|newest| newest.at > kept_to);
        self.over.iter().cloned().chain(fresh)
    }
}

/// How it has been over a window, as the API answers it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(title = "HistoriaDeMetricas")]
pub struct Figures {
    /// The window: `15m`, `1h`, `6h`, `1d` or `7d`.
    pub ventana: &'static str,
    /// Seconds from one sample to the next.
    pub paso_segundos: i64,
    /// The moments, in seconds since 1970 UTC; all series have as many values.
    pub tiempos: Vec<i64>,
    /// The series by name; `null` where nothing is known.
    pub series: BTreeMap<&'static str, Vec<Option<f64>>>,
    /// Alerts a second by kind; at most twelve kinds and `OTROS`.
    pub alertas_por_segundo: BTreeMap<String, Vec<Option<f64>>>,
    /// The newest value of each series.
    pub actual: BTreeMap<&'static str, Option<f64>>,
}

impl History {
    /// Adds a sample of the finest grain. One that is not newer than the last is dropped: the clock
    /// was set back.
    pub(super) fn push(&mut self, sample: &Sample) {
        let begin = sample.at - sample.at.rem_euclid(FINEST);
        if self.0[0].all().last().is_some_and(|last| last.at >= begin) {
            return;
        }
        for (grain, (step, most)) in self.0.iter_mut().zip(GRAINS) {
            grain.take(sample, step, most);
        }
    }

    /// How it has been over `window` until `now`, in seconds since 1970 UTC.
    #[must_use]
    pub(super) fn figures(&self, window: Window, now: i64) -> Figures {
        let (ventana, grain, count) = window.shape();
        let step = GRAINS[grain].0;
        let last = now - now.rem_euclid(step);
        let span = step * i64::try_from(count - 1).unwrap_or(0);
        let tiempos: Vec<i64> = (0..count)
            .filter_map(|index| Some(last - span + step * i64::try_from(index).ok()?))
            .collect();
        let samples: BTreeMap<i64, Sample> = self.0[grain]
            .all()
            .map(|sample| (sample.at, sample))
            .collect();
        let series = SERIES.iter().enumerate().map(|(index, (name, _))| {
            let at = |at: &i64| samples.get(at).and_then(|sample| sample.values[index]);
            (*name, tiempos.iter().map(at).collect())
        });
        let newest = self.0[0].all().last();
        let actual = SERIES.iter().enumerate().map(|(index, (name, _))| {
            let newest = newest.as_ref();
            (*name, newest.and_then(|sample| sample.values[index]))
        });
        Figures {
            ventana,
            paso_segundos: step,
            series: series.collect(),
            alertas_por_segundo: by_kind(&samples, &tiempos),
            actual: actual.collect(),
            tiempos,
        }
    }

    /// All of it, to be kept over a restart.
    #[must_use]
    pub(super) fn kept(&self) -> Kept {
        Kept {
            version: VERSION,
            grains: self.0.iter().map(|grain| grain.all().collect()).collect(),
        }
    }

    /// What was kept; `None` where it is of another version or makes no sense.
    #[must_use]
    pub(super) fn from_kept(kept: Kept) -> Option<Self> {
        if kept.version != VERSION || kept.grains.len() != GRAINS.len() {
            return None;
        }
        let mut history = Self::default();
        for ((grain, (_, most)), samples) in history.0.iter_mut().zip(GRAINS).zip(kept.grains) {
            for sample in samples {
                grain.keep(sample, most);
            }
        }
        Some(history)
    }
}

/// The rates of the kinds that were most frequent, and of all others together.
fn by_kind(samples: &BTreeMap<i64, Sample>, times: &[i64]) -> BTreeMap<String, Vec<Option<f64>>> {
    let seen: Vec<Option<&Sample>> = times.iter().map(|at| samples.get(at)).collect();
    let mut totals: BTreeMap<&str, f64> = BTreeMap::new();
    for sample in seen.iter().flatten() {
        for (kind, rate) in &sample.kinds {
            *totals.entry(kind).or_default() += rate;
        }
    }
    let mut order: Vec<(&str, f64)> = totals.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named: Vec<&str> = order.iter().take(KINDS).map(|(kind, _)| *kind).collect();
    let has_others = order.len() > KINDS;
    let rate = |sample: &Sample, kind: &str| sample.kinds.get(kind).copied().unwrap_or(0.0);
    let of = |rate: &dyn Fn(&Sample) -> f64| -> Vec<Option<f64>> {
        let each = seen.iter();
        each.map(|sample| sample.map(|sample| rounded(rate(sample))))
            .collect()
    };
    let mut lines: BTreeMap<String, Vec<Option<f64>>> = named
        .iter()
        .map(|kind| ((*kind).to_owned(), of(&|sample| rate(sample, kind))))
        .collect();
    if has_others {
        let rest = |sample: &Sample| {
            let others = sample.kinds.iter();
            let others = others.filter(|(kind, _)| !named.contains(&kind.as_str()));
            others.map(|(_, rate)| rate).sum()
        };
        lines.insert(OTHERS.to_owned(), of(&rest));
    }
    lines
}

/// Of the form in which it is kept. Another set of series is another version.
const VERSION: u32 = 1;

/// A history as it is kept in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    grains: Vec<VecDeque<Sample>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: i64, rate: f64) -> Sample {
        let mut sample = Sample {
            at,
            ..Sample::default()
        };
        sample.set("transacciones_por_segundo", Some(rate));
        sample.set("latencia_p99_ms", Some(rate));
        sample.set("broker_conectado", Some(if rate > 1.0 { 1.0 } else { 0.0 }));
        sample.kinds.insert("ROJO".to_owned(), rate);
        sample
    }

    #[test]
    fn a_coarser_grain_is_made_of_the_finer_one() {
        let mut history = History::default();
        // Six samples of five seconds are one of thirty.
        for index in 0..6 {
            history.push(&sample(
                3_000 + 5 * index,
                [1.0, 2.0, 3.0, 4.0, 5.0, 9.0][usize::try_from(index).unwrap()],
            ));
        }
        history.push(&sample(3_030, 7.0));
        let figures = history.figures(Window::Hour, 3_031);
        assert_eq!(figures.tiempos.len(), 120);
        assert_eq!(figures.paso_segundos, 30);
        assert_eq!(figures.tiempos[118..], [3_000, 3_030]);
        let of = |name: &str| figures.series[name][118..].to_vec();
        assert_eq!(of("transacciones_por_segundo"), [Some(4.0), Some(7.0)]);
        assert_eq!(of("latencia_p99_ms"), [Some(9.0), Some(7.0)]);
        assert_eq!(of("broker_conectado"), [Some(0.0), Some(1.0)]);
        assert_eq!(of("sesiones"), [None, None]);
        assert_eq!(
            figures.alertas_por_segundo["ROJO"][118..],
            [Some(4.0), Some(7.0)]
        );
        assert_eq!(figures.actual["transacciones_por_segundo"], Some(7.0));
    }

    #[test]
    fn what_was_not_sampled_is_a_gap() {
        let mut history = History::default();
        history.push(&sample(1_000, 1.0));
        history.push(&sample(1_015, 2.0));
        let figures = history.figures(Window::Quarter, 1_017);
        let rates = &figures.series["transacciones_por_segundo"];
        assert_eq!(rates[176..], [Some(1.0), None, None, Some(2.0)]);
        let all = figures
            .series
            .values()
            .all(|one| one.len() == figures.tiempos.len());
        assert!(all && figures.alertas_por_segundo["ROJO"].len() == 180);
    }

    #[test]
    fn rings_are_bounded_and_a_clock_set_back_adds_nothing() {
        let mut history = History::default();
        for index in 0..1_000 {
            history.push(&sample(5 * index, 1.0));
        }
        history.push(&sample(50, 1.0));
        assert_eq!(history.0[0].over.len(), 180);
        assert_eq!(history.0[0].all().last().unwrap().at, 4_995);
        assert!(history.0[1].over.len() <= 720);
    }

    #[test]
    fn it_comes_back_as_it_was_kept() {
        let mut history = History::default();
        for index in 0..100 {
            history.push(&sample(5 * index, 1.0));
        }
        let json = serde_json::to_string(&history.kept()).unwrap();
        let mut again = History::from_kept(serde_json::from_str(&json).unwrap()).unwrap();
        let at = 5 * 99;
        for window in [Window::Quarter, Window::Hour, Window::Week] {
            let (was, is) = (history.figures(window, at), again.figures(window, at));
            assert_eq!(was.series, is.series);
        }
        again.push(&sample(at + 60, 3.0));
        let figures = again.figures(Window::Quarter, at + 60);
        let rates = &figures.series["transacciones_por_segundo"];
        assert_eq!(
            (rates[167], rates[168], rates[179]),
            (Some(1.0), None, Some(3.0))
        );
        let other = Kept {
            version: 0,
            grains: Vec::new(),
        };
        assert!(History::from_kept(other).is_none());
    }

    #[test]
    fn kinds_beyond_a_dozen_are_one() {
        let mut history = History::default();
        let mut one = sample(1_000, 1.0);
        for index in 0..20 {
            one.kinds.insert(format!("K{index:02}"), f64::from(index));
        }
        history.push(&one);
        let figures = history.figures(Window::Quarter, 1_000);
        assert_eq!(figures.alertas_por_segundo.len(), 13);
        // K00 to K07 and ROJO.
        let others = figures.alertas_por_segundo["OTROS"][179];
        assert_eq!(others, Some(29.0));
    }
}
