//! `atalaya monitor`: the live view, run as its users run it.

use crate::support::{Atalaya, Mosquitto, Subscriber, Watched, logins};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Command;

/// A monitor of the broker on `port`, once it says that it is subscribed.
async fn monitor(port: u16, arguments: &[&str]) -> Watched {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
    command
        .env_clear()
        .current_dir(std::env::temp_dir())
        .args(["monitor", "--port", &port.to_string()])
        .args(arguments);
    if let Some((_, token)) = logins::of(port, "") {
        command.env("ATALAYA_TOKEN", token);
    }
    let monitor = Watched::start(command);
    monitor.wait_for_error("conectado a").await;
    monitor
}

#[actix_web::test]
async fn a_port_that_is_no_broker_is_told() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let port = atalaya.http_port.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
    command.env_clear().current_dir(std::env::temp_dir());
    command.args(["monitor", "--port", &port]);
    let monitor = Watched::start(command);
    monitor
        .wait_for_error("no contesta como un broker MQTT")
        .await;
}

/// The lines that hold `text`.
fn count(monitor: &Watched, text: &str) -> usize {
    let lines = monitor.stdout();
    lines.iter().filter(|line| line.contains(text)).count()
}

#[actix_web::test]
async fn money_is_shown_a_line_an_event() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open_with("123", "1000.00").await;
    client.open("456").await;
    let monitor = monitor(atalaya.mqtt_port, &[]).await;

    client.deposit("123", "150", "d").await;
    client.transfer("123", "456", "10", "t").await;
    client.withdraw("456", "1.50", "w").await;
    // The repeat of a decision is no event.
    client.deposit("123", "150", "d").await;
    client.deposit("456", "7.77", "last").await;

    for line in [
        "💰 DEPÓSITO: $150.00 - Cédula: 123 - Nuevo saldo: $1150.00",
        "🔄 TRANSFERENCIA: $10.00 - De: 123 → A: 456 - Saldo origen: $1140.00 | Saldo destino: $10.00",
        "💸 RETIRO: $1.50 - Cédula: 456 - Nuevo saldo: $8.50",
        "🚨 ALERTA [LOW_BALANCE]: Saldo bajo: $8.50 (Cédula: 456)",
    ] {
        monitor.wait_for_line(line).await;
    }
    // Statistics follow the postings, and what is on the other topics came with the postings.
    monitor.wait_for_line("Nuevo saldo: $16.27").await;
    monitor
        .wait_for_line("📊 STATS: Clientes: 0 | Transacciones: 6")
        .await;
    assert_eq!(
        count(&monitor, "💰 DEPÓSITO: $150.00"),
        1,
        "{:#?}",
        monitor.stdout()
    );
    assert_eq!(count(&monitor, "🔄 TRANSFERENCIA"), 1);
    assert_eq!(count(&monitor, "💸 RETIRO"), 1);
    assert_eq!(count(&monitor, "🚨 ALERTA"), 1);
    assert!(
        monitor.stdout().iter().all(|line| !line.contains('\u{1b}')),
        "no colours into a pipe"
    );
}

#[actix_web::test]
async fn json_lines_parse_and_count_ends_it() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let topics = [
        "--json",
        "--count",
        "3",
        "banco/transacciones",
        "banco/saldo/1",
    ];
    let mut monitor = monitor(atalaya.mqtt_port, &topics).await;
    let answer = client.deposit("1", "150.00", "a").await;
    client.deposit("1", "1.00", "b").await;
    assert_eq!(monitor.wait().await.code(), Some(0));

    let lines = monitor.stdout();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let parsed: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let first = parsed
        .iter()
        .find(|line| line["tema"] == "banco/transacciones")
        .unwrap();
    assert_eq!(first["datos"], answer.json());
    assert_eq!(first["retenido"], false);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\"saldo_nuevo\":150.00")),
        "two decimals: {lines:#?}"
    );
}

#[actix_web::test]
async fn a_strangers_payload_cannot_steer_the_terminal() {
    let broker = Mosquitto::start();
    let stranger = Subscriber::to(broker.port, &["nobody/knows"]).await;
    for json in [false, true] {
        let mut arguments = vec!["-t", "casa/x", "-t", "banco/#"];
        if json {
            arguments.push("--json");
        }
        let monitor = monitor(broker.port, &arguments).await;
        stranger.publish("casa/x", false, "not { json").await;
        stranger
            .publish("casa/x", false, "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nforged")
            .await;
        let forged = "{\"cedula\":\"1\\u001b[2J\",\"tipo\":\"DEPOSITO\",\"monto\":1.00,\"saldo_nuevo\":1.00}";
        stranger.publish("banco/transacciones", false, forged).await;
        stranger
            .publish("banco/transacciones", false, "{\"tipo\":7}")
            .await;
        stranger.publish("casa/x", false, "the end").await;
        monitor.wait_for_line("the end").await;

        let lines = monitor.stdout();
        assert_eq!(lines.len(), 5, "one line a message: {lines:#?}");
        assert!(lines[0].contains("not { json"), "{lines:#?}");
        for line in &lines {
            assert!(
                !line.contains(char::is_control),
                "a control character reached the terminal: {line:?}"
            );
            if json {
                serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            }
        }
        assert!(
            lines[1].contains("owned") && lines[1].contains("forged"),
            "{lines:#?}"
        );
    }
}

#[actix_web::test]
async fn a_broker_that_comes_back_is_shown_again() {
    let mut atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let monitor = monitor(atalaya.mqtt_port, &[]).await;
    client.deposit("1", "1.11", "a").await;
    monitor.wait_for_line("DEPÓSITO: $1.11").await;

    atalaya.kill();
    monitor.wait_for_error("sin conexión").await;
    atalaya.start().await;
    // Only what comes after it has subscribed anew is sure to be shown.
    crate::support::eventually("it is subscribed again", || async {
        let subscribed = |line: &&String| line.contains("conectado a");
        (monitor.stderr().iter().filter(subscribed).count() == 2).then_some(())
    })
    .await;
    monitor
        .wait_for_error("puede faltar lo que se publicó")
        .await;
    client.deposit("1", "2.22", "b").await;
    monitor.wait_for_line("DEPÓSITO: $2.22").await;
    assert_eq!(
        count(&monitor, "DEPÓSITO: $1.11"),
        1,
        "shown once, even after the restart"
    );

    // Shut down in order, the broker says goodbye, and the monitor still waits for it.
    assert_eq!(atalaya.terminate().await.code(), Some(0));
    atalaya.start().await;
    client.deposit("1", "3.33", "c").await;
    crate::support::eventually("it is subscribed a third time", || async {
        let subscribed = |line: &&String| line.contains("conectado a");
        (monitor.stderr().iter().filter(subscribed).count() == 3).then_some(())
    })
    .await;
    client.deposit("1", "4.44", "d").await;
    monitor.wait_for_line("DEPÓSITO: $4.44").await;
}

#[actix_web::test]
async fn an_interrupt_ends_it_and_one_account_can_be_watched() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open("1").await;
    client.open("2").await;
    let mut monitor = monitor(atalaya.mqtt_port, &["--cedula", "2"]).await;
    client.deposit("1", "1.00", "a").await;
    client.deposit("2", "2.00", "b").await;
    monitor.wait_for_line("Cédula: 2").await;
    assert_eq!(count(&monitor, "Cédula: 1"), 0, "{:#?}", monitor.stdout());
    monitor.signal(Signal::SIGINT);
    assert_eq!(monitor.wait().await.code(), Some(0));
}
