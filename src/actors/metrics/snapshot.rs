//! The counters at one moment; two of them make a sample.

use super::history::Sample;
use crate::instruments::as_float;
use prometheus::proto::{Metric, MetricFamily};
use std::collections::BTreeMap;

/// A histogram's cumulative counts by upper bound, over all of its labels.
#[derive(Debug, Clone, Default, PartialEq)]
struct Buckets {
    bounds: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
}

/// Counters as they stood.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Snapshot {
    committed: f64,
    refused: f64,
    requests: Buckets,
    groups: Buckets,
    commits: Buckets,
    kinds: BTreeMap<String, f64>,
    gauges: BTreeMap<&'static str, f64>,
}

/// Gauges that are taken as they are: the metric's name and the series.
const GAUGES: [(&str, &str); 7] = [
    ("atalaya_mqtt_connected", "broker_conectado"),
    ("atalaya_writer_queue_operations", "cola_escritura"),
    ("atalaya_outbox_backlog_entries", "outbox_pendientes"),
    ("atalaya_outbox_lag_seconds", "outbox_retraso_s"),
    ("atalaya_sessions", "sesiones"),
    ("atalaya_alerts_open", "alertas_abiertas"),
    ("atalaya_devices_online", "dispositivos_en_linea"),
];

impl Snapshot {
    /// The counters of what was gathered.
    pub(super) fn of(families: &[MetricFamily]) -> Self {
        let mut snapshot = Self::default();
        for family in families {
            let metrics = family.get_metric();
            match family.name() {
                "atalaya_transactions_total" => {
                    snapshot.committed = moved(metrics, "committed");
                    snapshot.refused = moved(metrics, "refused");
                }
                "atalaya_http_request_duration_seconds" => snapshot.requests = merged(metrics),
                "atalaya_commit_group_operations" => snapshot.groups = merged(metrics),
                "atalaya_commit_group_duration_seconds" => snapshot.commits = merged(metrics),
                "atalaya_alert_changes_total" => snapshot.kinds = raised(metrics),
                name => snapshot.gauge(name, metrics),
            }
        }
        snapshot
    }

    fn gauge(&mut self, name: &str, metrics: &[Metric]) {
        if let Some((_, series)) = GAUGES.iter().find(|(known, _)| *known == name) {
            let value = metrics
                .iter()
                .map(|metric| metric.get_gauge().get_value())
                .sum();
            self.gauges.insert(series, value);
        }
    }

    /// What happened from `before` to this, `seconds` later, which is over at `at`.
    pub(super) fn since(&self, before: &Self, seconds: f64, at: i64) -> Sample {
        // Counters begin at zero with the process, as do snapshots.
        let rate = |now: f64, then: f64| Some((now - then).max(0.0) / seconds);
        let mut sample = Sample {
            at,
            ..Sample::default()
        };
        sample.set(
            "transacciones_por_segundo",
            rate(self.committed, before.committed),
        );
        sample.set("rechazos_por_segundo", rate(self.refused, before.refused));
        let requests = self.requests.since(&before.requests);
        for (series, quantile) in [
            ("latencia_p50_ms", 0.5),
            ("latencia_p95_ms", 0.95),
            ("latencia_p99_ms", 0.99),
        ] {
            sample.set(series, requests.quantile(quantile).map(|s| s * 1_000.0));
        }
        let groups = self.groups.since(&before.groups);
        sample.set("grupos_por_segundo", rate(count(groups.count), 0.0));
        let mean = (groups.count > 0).then(|| groups.sum / count(groups.count));
        sample.set("operaciones_por_grupo", mean);
        let commits = self.commits.since(&before.commits);
        sample.set("commit_p95_ms", commits.quantile(0.95).map(|s| s * 1_000.0));
        for (series, value) in &self.gauges {
            sample.set(series, Some(*value));
        }
        for (kind, total) in &self.kinds {
            let then = before.kinds.get(kind).copied().unwrap_or(0.0);
            if *total > then {
                sample.kinds.insert(kind.clone(), (total - then) / seconds);
            }
        }
        sample
    }
}

impl Buckets {
    fn since(&self, before: &Self) -> Self {
        let then = |index: usize| before.bounds.get(index).map_or(0, |(_, count)| *count);
        let bounds = self.bounds.iter().enumerate();
        Self {
            bounds: bounds
                .map(|(index, (bound, count))| (*bound, count.saturating_sub(then(index))))
                .collect(),
            count: self.count.saturating_sub(before.count),
            sum: (self.sum - before.sum).max(0.0),
        }
    }

    /// The value below which `quantile` of the observations lie, as far as buckets tell: between two
    /// bounds it is assumed that they are spread evenly. What lies above the last bound counts as it.
    fn quantile(&self, quantile: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let wanted = quantile * count(self.count);
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, cumulated) in &self.bounds {
            let cumulated = count(*cumulated);
            if cumulated >= wanted && cumulated > below {
                let share = (wanted - below).max(0.0) / (cumulated - below);
                return Some(low + share * (bound - low));
            }
            (low, below) = (*bound, cumulated);
        }
        Some(low)
    }
}

fn count(count: u64) -> f64 {
    as_float(usize::try_from(count).unwrap_or(usize::MAX))
}

fn label<'a>(metric: &'a Metric, name: &str) -> Option<&'a str> {
    let labels = metric.get_label().iter();
    let mut named = labels.filter(|label| label.name() == name);
    named.next().map(prometheus::proto::LabelPair::value)
}

/// Money commands that had this result. To open an account moves none.
fn moved(metrics: &[Metric], result: &str) -> f64 {
    let own = metrics.iter().filter(|metric| {
        label(metric, "result") == Some(result) && label(metric, "kind") != Some("APERTURA")
    });
    own.map(|metric| metric.get_counter().get_value()).sum()
}

fn raised(metrics: &[Metric]) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    for metric in metrics {
        if label(metric, "change") == Some("CREADA")
            && let Some(kind) = label(metric, "kind")
        {
            *kinds.entry(kind.to_owned()).or_default() += metric.get_counter().get_value();
        }
    }
    kinds
}

/// The histograms of all labels as one.
fn merged(metrics: &[Metric]) -> Buckets {
    let mut all = Buckets::default();
    for metric in metrics {
        let histogram = metric.get_histogram();
        all.count += histogram.get_sample_count();
        all.sum += histogram.get_sample_sum();
        for (index, bucket) in histogram.get_bucket().iter().enumerate() {
            match all.bounds.get_mut(index) {
                Some((_, count)) => *count += bucket.cumulative_count(),
                None => all
                    .bounds
                    .push((bucket.upper_bound(), bucket.cumulative_count())),
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

    #[test]
    fn quantiles_lie_between_their_bounds() {
        let buckets = Buckets {
            bounds: vec![(0.001, 50), (0.01, 90), (0.1, 100)],
            count: 100,
            sum: 1.0,
        };
        assert_eq!(buckets.quantile(0.5), Some(0.001));
        let p90 = buckets.quantile(0.9).unwrap();
        assert!((p90 - 0.01).abs() < 1e-9, "{p90}");
        let p95 = buckets.quantile(0.95).unwrap();
        assert!((p95 - 0.055).abs() < 1e-9, "{p95}");
        assert_eq!(Buckets::default().quantile(0.5), None);
        let beyond = Buckets {
            bounds: vec![(0.001, 1)],
            count: 10,
            sum: 1.0,
        };
        assert_eq!(beyond.quantile(0.99), Some(0.001));
    }

    #[test]
    fn two_snapshots_are_a_sample() {
        let registry = Registry::new();
        let done = IntCounterVec::new(
            Opts::new("atalaya_transactions_total", "x"),
            &["kind", "result"],
        )
        .unwrap();
        let took = HistogramVec::new(
            HistogramOpts::new("atalaya_http_request_duration_seconds", "x")
                .buckets(vec![0.001, 0.01]),
            &["route"],
        )
        .unwrap();
        let changes = IntCounterVec::new(
            Opts::new("atalaya_alert_changes_total", "x"),
            &["kind", "change"],
        )
        .unwrap();
        registry.register(Box::new(done.clone())).unwrap();
        registry.register(Box::new(took.clone())).unwrap();
        registry.register(Box::new(changes.clone())).unwrap();
        done.with_label_values(&["DEPOSITO", "committed"]).inc_by(7);
        let before = Snapshot::of(&registry.gather());
        done.with_label_values(&["DEPOSITO", "committed"]).inc_by(6);
        done.with_label_values(&["RETIRO", "committed"]).inc_by(4);
        done.with_label_values(&["RETIRO", "refused"]).inc_by(5);
        done.with_label_values(&["APERTURA", "committed"]).inc_by(5);
        changes.with_label_values(&["ROJO", "CREADA"]).inc_by(10);
        changes.with_label_values(&["ROJO", "RESUELTA"]).inc_by(10);
        for route in ["/a", "/b"] {
            took.with_label_values(&[route]).observe(0.005);
        }
        let sample = Snapshot::of(&registry.gather()).since(&before, 5.0, 100);
        let mut expected = Sample {
            at: 100,
            ..Sample::default()
        };
        expected.set("transacciones_por_segundo", Some(2.0));
        expected.set("rechazos_por_segundo", Some(1.0));
        expected.set("latencia_p50_ms", Some(5.5));
        expected.set("latencia_p95_ms", Some(9.55));
        expected.set("latencia_p99_ms", Some(9.91));
        expected.set("grupos_por_segundo", Some(0.0));
        expected.kinds.insert("ROJO".to_owned(), 2.0);
        assert_eq!(sample, expected);
    }
}
