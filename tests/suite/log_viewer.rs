//! The logs over HTTP: filtered, in pages, and followed.

use crate::support::hub::assert_refused;
use crate::support::{Atalaya, eventually};
use serde_json::Value;

fn messages(page: &Value) -> Vec<String> {
    let lines = page["datos"].as_array().unwrap().iter();
    lines
        .map(|line| line["mensaje"].as_str().unwrap().to_owned())
        .collect()
}

async fn with_alerts(count: usize) -> Atalaya {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for index in 0..count {
        let device = format!("boton-{index}");
        crate::support::device::register(&client, "banco", "principal", &device, "BOTONERA").await;
        client.raise(&device, "ROJO").await;
    }
    eventually("the alerts are logged", || async {
        let page = client.json("/api/v1/logs/alertas?limite=200").await;
        (messages(&page).len() == count).then_some(())
    })
    .await;
    atalaya
}

#[actix_web::test]
async fn pages_are_every_line_once() {
    let atalaya = with_alerts(7).await;
    let client = atalaya.client();
    let (mut seen, mut path) = (Vec::new(), "/api/v1/logs/alertas?limite=2".to_owned());
    loop {
        let page = client.json(&path).await;
        seen.extend(messages(&page));
        let Some(cursor) = page["siguiente"].as_str() else {
            break;
        };
        path = format!("/api/v1/logs/alertas?limite=2&cursor={cursor}");
    }
    let file = std::fs::read_to_string(atalaya.folder().join("logs/alerts.log")).unwrap();
    let mut written: Vec<&str> = file
        .lines()
        .filter_map(|line| line.split_once("alerts "))
        .map(|(_, rest)| rest)
        .collect();
    written.reverse();
    assert_eq!(seen, written);
}

#[actix_web::test]
async fn lines_are_filtered_by_level_text_and_time() {
    let atalaya = with_alerts(3).await;
    let client = atalaya.client();
    let all = client.json("/api/v1/logs/alertas").await;
    let line = &all["datos"][0];
    assert_eq!(line["nivel"], "warn");
    assert_eq!(line["modulo"], "alerts");
    let at = line["timestamp"].as_str().unwrap().to_owned();
    for (query, count) in [
        ("nivel=warn", 3),
        ("nivel=error", 0),
        ("texto=BOTON-1", 1),
        ("texto=nowhere", 0),
        ("desde=2000-01-01T00:00:00Z", 3),
        ("hasta=2000-01-01T00:00:00Z", 0),
        ("desde=2100-01-01T00:00:00Z", 0),
        (&format!("hasta={at}&texto=boton-2"), 0),
    ] {
        let page = client.json(&format!("/api/v1/logs/alertas?{query}")).await;
        assert_eq!(messages(&page).len(), count, "{query}: {page}");
    }
    // All that is graver than a warning, and no more.
    let system = client
        .json("/api/v1/logs/sistema?nivel=warn&limite=200")
        .await;
    let levels = system["datos"].as_array().unwrap().iter();
    assert!(levels.clone().count() >= 3);
    assert!(
        levels
            .into_iter()
            .all(|line| ["warn", "error"].contains(&line["nivel"].as_str().unwrap()))
    );
}

#[actix_web::test]
async fn what_is_written_later_is_followed() {
    let atalaya = with_alerts(1).await;
    let client = atalaya.client();
    let page = client.json("/api/v1/logs/alertas").await;
    let position = page["posicion"].as_str().unwrap();
    let path = format!("/api/v1/logs/alertas?despues={position}");
    assert!(messages(&client.json(&path).await).is_empty());
    for kind in ["NARANJA", "VERDE"] {
        client.raise("boton-0", kind).await;
    }
    let lines = eventually("both lines", || async {
        let lines = messages(&client.json(&path).await);
        (lines.len() == 2).then_some(lines)
    })
    .await;
    assert!(
        lines[0].contains("NARANJA") && lines[1].contains("VERDE"),
        "{lines:?}"
    );
}

#[actix_web::test]
async fn what_cannot_be_asked_is_refused() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for (path, status, code) in [
        ("otro", 404, "no_encontrado"),
        ("..%2Fsystem.log", 404, "no_encontrado"),
        ("sistema?nivel=loud", 400, "parametro_invalido"),
        ("sistema?limite=201", 400, "parametro_invalido"),
        ("sistema?limite=0", 400, "parametro_invalido"),
        ("sistema?desde=ayer", 400, "parametro_invalido"),
        ("sistema?cursor=x", 400, "parametro_invalido"),
        ("sistema?despues=-1", 400, "parametro_invalido"),
        ("sistema?mas=1", 400, "parametro_invalido"),
    ] {
        let answer = client.get(&format!("/api/v1/logs/{path}")).await.unwrap();
        assert_refused(&answer, status, code, path);
    }
    // Places that are gone, or never were, are no mistake of whoever asks.
    let gone = client
        .json("/api/v1/logs/sistema?cursor=0000000000000007-99")
        .await;
    assert!(messages(&gone).is_empty() && gone["siguiente"].is_null());
    client
        .json("/api/v1/logs/sistema?despues=0000000000000007-99")
        .await;
}
