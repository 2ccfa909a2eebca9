//! What those who run it see: metrics, health, logs.

use crate::support::checks::passes_promtool;
use crate::support::{Atalaya, Mosquitto, eventually, free_port};
use awc::http::Method;
use serde_json::{Value, json};

/// The metrics as they stand.
async fn metrics(atalaya: &Atalaya) -> String {
    atalaya.client().get("/metrics").await.unwrap().text()
}

/// The value of one line of `text`, 0 where there is none.
fn value(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or(0.0)
}

#[actix_web::test]
async fn the_metrics_pass_promtool() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    client.withdraw("1", "99.00", "w").await;
    let text = metrics(&atalaya).await;
    for name in [
        "atalaya_transactions_total",
        "atalaya_transactions_cents_total",
        "atalaya_commit_group_operations",
        "atalaya_commit_group_duration_seconds",
        "atalaya_http_request_duration_seconds",
        "atalaya_problems_total",
        "atalaya_writer_queue_operations",
        "atalaya_sessions",
        "atalaya_outbox_backlog_entries",
        "atalaya_outbox_lag_seconds",
        "atalaya_mqtt_connected",
        "atalaya_build_info",
        "process_resident_memory_bytes",
    ] {
        assert!(
            text.contains(&format!("# TYPE {name} ")),
            "{name} is missing"
        );
    }
    passes_promtool(&text);
}

#[actix_web::test]
async fn counters_move_with_what_was_done() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    client.open("2").await;
    client.deposit("1", "100.00", "a").await;
    client.deposit("1", "0.50", "b").await;
    client.deposit("1", "0.50", "b").await;
    client.withdraw("1", "10.25", "c").await;
    client.withdraw("1", "1000.00", "d").await;
    client.withdraw("1", "1000.00", "d").await;
    client.transfer("1", "2", "20.00", "e").await;
    let reused = client.deposit("1", "0.51", "b").await;
    assert_eq!(reused.status, 422);
    let malformed = client.deposit("1", "1e2", "f").await;
    assert_eq!(malformed.status, 422);

    let text = metrics(&atalaya).await;
    let transactions = |kind: &str, result: &str| {
        let name = format!("atalaya_transactions_total{{kind=\"{kind}\",result=\"{result}\"}}");
        value(&text, &name)
    };
    assert_eq!(transactions("APERTURA", "committed"), 2.0);
    assert_eq!(transactions("DEPOSITO", "committed"), 2.0);
    assert_eq!(transactions("DEPOSITO", "replayed"), 1.0);
    assert_eq!(transactions("RETIRO", "committed"), 1.0);
    assert_eq!(transactions("TRANSFERENCIA", "committed"), 1.0);
    assert_eq!(transactions("RETIRO", "refused"), 1.0);
    assert_eq!(transactions("RETIRO", "replayed"), 1.0);
    assert_eq!(transactions("DEPOSITO", "invalid"), 1.0);
    for (kind, cents) in [
        ("DEPOSITO", 10_050.0),
        ("RETIRO", 1_025.0),
        ("TRANSFERENCIA", 2_000.0),
    ] {
        let name = format!("atalaya_transactions_cents_total{{kind=\"{kind}\"}}");
        assert_eq!(value(&text, &name), cents, "{kind}");
    }
    assert_eq!(
        value(&text, "atalaya_problems_total{code=\"saldo_insuficiente\"}"),
        2.0
    );
    assert_eq!(value(&text, "atalaya_postings"), 5.0);
    // Eleven requests moved money or were refused; each was timed under its route.
    let timed = |route: &str, method: &str, status: u16| {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        value(
            &text,
            &format!("atalaya_http_request_duration_seconds_count{{{labels}}}"),
        )
    };
    assert_eq!(timed("/api/v1/cuentas", "POST", 201), 2.0);
    assert_eq!(
        timed("/api/v1/cuentas/{cedula}/depositos", "POST", 201),
        3.0
    );
    assert_eq!(
        timed("/api/v1/cuentas/{cedula}/depositos", "POST", 422),
        2.0
    );
    assert_eq!(timed("/api/v1/cuentas/{cedula}/retiros", "POST", 409), 2.0);
    assert_eq!(timed("/api/v1/transferencias", "POST", 201), 1.0);
    assert!(value(&text, "atalaya_commit_group_operations_count") >= 7.0);
}

/// The names and labels of all series, without their values.
fn series(text: &str) -> Vec<String> {
    let named = text.lines().filter(|line| !line.starts_with('#'));
    named
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
        .collect()
}

#[actix_web::test]
async fn no_label_carries_what_a_client_chose() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut lengths = Vec::new();
    for round in 0..2u32 {
        // Twenty at a time: more reads at once than that may rightly be refused.
        for start in (0..100u32).step_by(20) {
            let requests = (start..start + 20).map(|n| {
                let client = client.clone();
                let account = (7_700_000 + round * 1_000 + n).to_string();
                let method = format!("BREW{round}X{n}");
                async move {
                    client.open_with(&account, "5.00").await;
                    client.balance(&account).await;
                    client
                        .get(&format!("/nowhere/canary{account}"))
                        .await
                        .unwrap();
                    client
                        .get(&format!("/api/docs/canary{account}"))
                        .await
                        .unwrap();
                    let method = Method::from_bytes(method.as_bytes()).unwrap();
                    let _ = client.request(method, "/livez").send().await.unwrap();
                    let sent =
                        client.request(Method::DELETE, &format!("/api/v1/cuentas/{account}"));
                    let _ = sent.send().await.unwrap();
                }
            });
            futures_util::future::join_all(requests).await;
        }
        let text = metrics(&atalaya).await;
        for line in series(&text) {
            for foreign in ["7700", "7701", "canary", "BREW"] {
                assert!(!line.contains(foreign), "{line}");
            }
        }
        lengths.push(series(&metrics(&atalaya).await));
    }
    assert_eq!(lengths[0], lengths[1], "twice the clients, the same series");
    let other = lengths[0]
        .iter()
        .any(|line| line.contains("route=\"other\""));
    assert!(other, "unknown paths are counted together");
}

#[actix_web::test]
async fn health_says_how_it_is_to_machines_and_people() {
    let mut broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    for path in ["/livez", "/readyz"] {
        let response = client.get(path).await.unwrap();
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "ok\n"),
            "{path}"
        );
        assert_eq!(
            response.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
    let health = |broker: &'static str| {
        let client = client.clone();
        async move {
            eventually(&format!("the broker is {broker}"), || async {
                let response = client.get("/health").await.ok()?;
                (response.json()["broker"] == broker).then_some(response)
            })
            .await
        }
    };
    let response = health("conectado").await;
    assert_eq!(response.status, 200);
    let body = response.json();
    assert_eq!(body["status"], "ok");
    assert_eq!(body["service"], "atalaya");
    assert_eq!(body["base_de_datos"], "ok");
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(atalaya.metric("atalaya_mqtt_connected").await, Some(1.0));

    broker.kill();
    let response = health("desconectado").await;
    assert_eq!(
        (response.status, &response.json()["status"]),
        (200, &Value::from("ok"))
    );
    assert_eq!(
        client.get("/readyz").await.unwrap().status,
        200,
        "money goes on without a broker"
    );
    let off = Atalaya::without_mqtt().start().await;
    let body = off.client().get("/health").await.unwrap().json();
    assert_eq!(body["broker"], "apagado");
}

/// All that stands in the log files and on the terminal.
fn logs(atalaya: &Atalaya) -> Vec<(String, String)> {
    let mut all = vec![("terminal".to_owned(), atalaya.log())];
    for entry in std::fs::read_dir(atalaya.folder().join("logs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        all.push((name, std::fs::read_to_string(path).unwrap()));
    }
    all
}

fn log_file(atalaya: &Atalaya, name: &str) -> String {
    std::fs::read_to_string(atalaya.folder().join("logs").join(name)).unwrap_or_default()
}

/// Drives what is worth a line: an alert, a broker that is away, and input that would forge lines.
async fn be_hostile(atalaya: &Atalaya, account: &str) {
    let client = atalaya.client();
    let names = json!({
        "cedula": account,
        "nombres": "Ana\n2026-01-01 ERROR forged",
        "apellidos": "\u{1b}[2JVera\u{2028}",
    });
    client.post("/api/v1/cuentas", None, &names).await.unwrap();
    client
        .get("/%0a2026-01-01%20ERROR%20forged%1b%5b2J")
        .await
        .unwrap();
    client
        .get(&format!("/api/v1/cuentas/{account}%0aERROR%20forged"))
        .await
        .unwrap();
    client
        .post_raw(
            DEPOSIT_PATH,
            Some("x"),
            "{\"monto\":\"\u{1b}[2J\\nERROR forged\"}",
        )
        .await
        .unwrap();
    client.open_with(account, "150.00").await;
    client.withdraw(account, "64.50", "w").await;
    let withdrawn = client.withdraw(account, "1000.00", "too-much").await;
    assert_eq!(withdrawn.status, 409);
}

const DEPOSIT_PATH: &str = "/api/v1/cuentas/1/depositos";
const ACCOUNT: &str = "1350509525";
const CANARY: &str = "canary-in-a-coal-mine";

async fn with_everything_logged(format: &str) -> Atalaya {
    let mut atalaya = Atalaya::without_mqtt()
        .set("MQTT", "on")
        .set("MQTT_BROKER_HOST", "127.0.0.1")
        .set("MQTT_BROKER_PORT", free_port())
        .set("MQTT_USERNAME", "atalaya")
        .set("MQTT_PASSWORD", CANARY)
        .set("SHUTDOWN_TIMEOUT", 1)
        .set("RUST_LOG", "info,atalaya=trace,rumqttc=debug")
        .set("LOG_FORMAT", format)
        .start()
        .await;
    be_hostile(&atalaya, ACCOUNT).await;
    eventually("the alert is logged", || async {
        log_file(&atalaya, "alerts.log")
            .contains("LOW_BALANCE")
            .then_some(())
    })
    .await;
    // The broker that is away is told by now or at the end.
    atalaya.terminate().await;
    atalaya
}

fn holds_no_secret(atalaya: &Atalaya) {
    for (name, text) in logs(atalaya) {
        assert!(!text.contains(CANARY), "the password is in {name}");
        for line in text.lines() {
            assert!(
                !line.contains(ACCOUNT),
                "a full cédula is in {name}: {line}"
            );
        }
    }
}

#[actix_web::test]
async fn log_files_are_made_and_tell_no_secret() {
    let atalaya = with_everything_logged("text").await;
    let alerts = log_file(&atalaya, "alerts.log");
    assert_eq!(alerts.lines().count(), 1, "{alerts}");
    assert!(
        alerts.contains("LOW_BALANCE") && alerts.contains("85.50"),
        "{alerts}"
    );
    assert!(
        alerts.contains("account 13…25"),
        "masked, yet of use: {alerts}"
    );
    assert!(log_file(&atalaya, "system.log").contains("LOW_BALANCE"));
    holds_no_secret(&atalaya);
    for (name, text) in logs(&atalaya) {
        assert!(!text.contains('\u{1b}'), "a control character is in {name}");
        for line in text.lines() {
            assert!(
                !line.starts_with("2026-01-01"),
                "a forged line is in {name}: {line}"
            );
        }
    }
    // An error is what ends it: a second process on the same data.
    let folder = atalaya.folder().join("data");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "").unwrap();
    let ended = crate::support::run(atalaya.command());
    assert_ne!(ended.code, Some(0));
    assert!(log_file(&atalaya, "errors.log").contains("DATA_DIR"));
    assert!(!log_file(&atalaya, "errors.log").contains("INFO"));
}

#[actix_web::test]
async fn json_logs_are_one_object_a_line() {
    let atalaya = with_everything_logged("json").await;
    holds_no_secret(&atalaya);
    let mut lines = 0;
    for (name, text) in logs(&atalaya) {
        for line in text.lines() {
            let record: Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line:?}"));
            for field in ["timestamp", "level", "target", "message"] {
                assert!(record[field].is_string(), "{name}: {field}: {line}");
            }
            assert!(!line.contains('\u{1b}'), "{name}: {line:?}");
            lines += 1;
        }
    }
    assert!(lines > 10, "{lines}");
}
