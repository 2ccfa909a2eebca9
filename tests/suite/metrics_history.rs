//! How it has been: figures over time, which outlive a restart.

use crate::support::hub::assert_refused;
use crate::support::{Atalaya, eventually};
use serde_json::Value;

/// The moments at which a series has a value, with the value.
fn known(figures: &Value, series: &str) -> Vec<(i64, f64)> {
    let times = figures["tiempos"].as_array().unwrap();
    let values = figures["series"][series].as_array().unwrap();
    assert_eq!(times.len(), values.len(), "{series}");
    let each = times.iter().zip(values);
    each.filter_map(|(at, value)| Some((at.as_i64()?, value.as_f64()?)))
        .collect()
}

async fn figures(atalaya: &Atalaya, window: &str) -> Value {
    let path = format!("/api/v1/metricas?ventana={window}");
    atalaya.client().json(&path).await
}

/// Deposits until the figures tell of it.
async fn busy(atalaya: &Atalaya) -> Value {
    let client = atalaya.client();
    eventually("figures of deposits", || async {
        let key = uuid::Uuid::new_v4().to_string();
        client.deposit("1", "1.00", &key).await;
        let figures = figures(atalaya, "15m").await;
        let rates = known(&figures, "transacciones_por_segundo");
        rates.iter().any(|(_, rate)| *rate > 0.0).then_some(figures)
    })
    .await
}

#[actix_web::test]
async fn figures_tell_of_what_happens_and_outlive_a_restart() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    client.withdraw("1", "5.00", "too-much").await;
    let seen = busy(&atalaya).await;
    assert_eq!(seen["ventana"], "15m");
    assert_eq!(seen["paso_segundos"], 5);
    assert_eq!(seen["tiempos"].as_array().unwrap().len(), 180);
    let of = |series: &str| known(&seen, series).last().copied().unwrap().1;
    assert_eq!(of("base_de_datos"), 1.0);
    assert_eq!(known(&seen, "broker_conectado"), [], "there is no broker");
    let (p50, p99) = (of("latencia_p50_ms"), of("latencia_p99_ms"));
    assert!(0.0 < p50 && p50 <= p99 && p99 < 10_000.0, "{p50} {p99}");
    assert!(of("operaciones_por_grupo") >= 1.0);
    assert!(of("grupos_por_segundo") > 0.0);
    let before = known(&seen, "transacciones_por_segundo");

    assert!(atalaya.terminate().await.success());
    atalaya.start().await;
    let after = figures(&atalaya, "15m").await;
    let rates = known(&after, "transacciones_por_segundo");
    for past in &before {
        assert!(rates.contains(past), "{past:?} is forgotten: {rates:?}");
    }
    // Counters begin at zero again: no rate is below.
    let again = busy(&atalaya).await;
    for (name, values) in again["series"].as_object().unwrap() {
        let below = values.as_array().unwrap().iter().filter_map(Value::as_f64);
        assert!(below.into_iter().all(|value| value >= 0.0), "{name}");
    }
    let week = figures(&atalaya, "7d").await;
    assert_eq!(week["paso_segundos"], 300);
    assert!(known(&week, "transacciones_por_segundo").last().unwrap().1 > 0.0);
}

#[actix_web::test]
async fn alerts_are_counted_by_kind() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    crate::support::device::register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    // The first sample is what the second is compared with.
    eventually("a first sample", || async {
        let figures = figures(&atalaya, "15m").await;
        (!known(&figures, "sesiones").is_empty()).then_some(())
    })
    .await;
    client.raise("boton-1", "NARANJA").await;
    eventually("an alert among the figures", || async {
        let figures = figures(&atalaya, "15m").await;
        let rates = figures["alertas_por_segundo"]["NARANJA"].as_array()?;
        let open = known(&figures, "alertas_abiertas").last()?.1;
        let rose = rates
            .iter()
            .filter_map(Value::as_f64)
            .any(|rate| rate > 0.0);
        (rose && open == 1.0).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_history_that_cannot_be_read_is_begun_anew() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    assert!(atalaya.terminate().await.success());
    let file = atalaya.folder().join("data/metrics.json");
    assert!(file.exists());
    std::fs::write(&file, "{\"version\":1,\"grains\":[[").unwrap();
    atalaya.start().await;
    assert!(atalaya.log().contains("the history of metrics begins anew"));
    let figures = figures(&atalaya, "1h").await;
    assert_eq!(figures["paso_segundos"], 30);
    assert!(atalaya.terminate().await.success());
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept["version"], 1);
}

#[actix_web::test]
async fn a_window_that_is_none_is_refused() {
    let atalaya = Atalaya::without_mqtt().start().await;
    for wrong in ["1", "2h", "-1h", "%00"] {
        let answer = atalaya
            .client()
            .get(&format!("/api/v1/metricas?ventana={wrong}"))
            .await;
        assert_refused(&answer.unwrap(), 400, "parametro_invalido", wrong);
    }
}
