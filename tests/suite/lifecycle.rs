//! How it starts, how it ends, and what it says when it cannot.

use crate::support::client::raw_field;
use crate::support::mariadb::on_files;
use crate::support::{
    Atalaya, Client, Mosquitto, Watched, WebSocket, eventually, free_port, has_tool, run,
};
use atalaya::first_run::DEMO_PASSWORD;
use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

// ---- the end -----------------------------------------------------------------------------------

/// What clients saw of the deposits they sent: under each key the status and body, or nothing.
type Seen = Rc<RefCell<HashMap<String, Option<(u16, String)>>>>;

/// Sixteen clients that deposit 1.00 until they are refused, each request on its own connection.
struct Load {
    seen: Seen,
    stop: Rc<Cell<bool>>,
    clients: Vec<actix_web::rt::task::JoinHandle<()>>,
}

impl Load {
    fn start(client: &Client, account: &str) -> Self {
        let seen = Seen::default();
        let stop = Rc::new(Cell::new(false));
        let clients = (0..16)
            .map(|n| {
                let (client, seen, stop) = (client.clone(), Rc::clone(&seen), Rc::clone(&stop));
                let path = format!("/api/v1/cuentas/{account}/depositos");
                actix_web::rt::spawn(async move {
                    for round in 0.. {
                        if stop.get() {
                            return;
                        }
                        let key = format!("load-{n}-{round}");
                        seen.borrow_mut().insert(key.clone(), None);
                        let request = client
                            .request(Method::POST, &path)
                            .insert_header(("Idempotency-Key", key.as_str()))
                            .insert_header(("connection", "close"))
                            .send_json(&json!({"monto": "1.00"}));
                        let Ok(mut response) = request.await else {
                            return;
                        };
                        let status = response.status().as_u16();
                        let body = response.body().await.unwrap_or_default();
                        let body = String::from_utf8_lossy(&body).into_owned();
                        seen.borrow_mut().insert(key, Some((status, body)));
                        if status != 201 {
                            return;
                        }
                    }
                })
            })
            .collect();
        Self {
            seen,
            stop,
            clients,
        }
    }

    fn succeeded(&self) -> usize {
        let seen = self.seen.borrow();
        seen.values()
            .filter(|answer| matches!(answer, Some((201, _))))
            .count()
    }

    async fn end(self) -> HashMap<String, Option<(u16, String)>> {
        self.stop.set(true);
        for client in self.clients {
            client.await.unwrap();
        }
        self.seen.take()
    }
}

/// Repeats every key: what was acknowledged comes back word for word, the rest happens now, and in
/// the end each has happened once.
async fn settle(
    client: &Client,
    account: &str,
    seen: &HashMap<String, Option<(u16, String)>>,
) -> usize {
    for (key, first) in seen {
        let again = client.deposit(account, "1.00", key).await;
        assert_eq!(again.status, 201, "{key}: {}", again.text());
        if let Some((201, body)) = first {
            assert!(again.is_replayed(), "{key} was acknowledged and is gone");
            assert_eq!(&again.text(), body);
        }
    }
    assert_eq!(
        client.balance(account).await,
        format!("{}.00", seen.len()),
        "each key counts once"
    );
    seen.len()
}

async fn drains_under_load_on(signal: Signal) {
    // The hardest end: a broker that is away, an idle connection, and a session that stays.
    let mut atalaya = Atalaya::without_mqtt()
        .set("MQTT", "on")
        .set("MQTT_BROKER_HOST", "127.0.0.1")
        .set("MQTT_BROKER_PORT", free_port())
        .set("SHUTDOWN_TIMEOUT", 1)
        .start()
        .await;
    let client = atalaya.client();
    client.open("1").await;
    let _idle = keep_alive(atalaya.http_port);
    let _session = WebSocket::open(&atalaya).await;

    let load = Load::start(&client, "1");
    eventually("some deposits are acknowledged", || async {
        (load.succeeded() >= 100).then_some(())
    })
    .await;
    let asked = Instant::now();
    atalaya.signal(signal);
    let status = atalaya.wait().await;
    let took = asked.elapsed();
    let seen = load.end().await;

    assert_eq!(status.code(), Some(0), "{status}");
    // Five seconds for requests under way, one for the outbox, the rest for a slow machine.
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    for (key, answer) in &seen {
        if let Some((status, body)) = answer {
            assert!(
                matches!(status, 201 | 503),
                "{key} was answered {status}: {body}"
            );
        }
    }
    atalaya.start().await;
    settle(&client, "1", &seen).await;
}

/// A connection that has asked once and stays open.
fn keep_alive(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert!(ask_on(&mut stream, port, "/livez").starts_with("HTTP/1.1 200"));
    stream
}

/// Asks on an open connection; what came back, which is nothing if it was closed.
fn ask_on(stream: &mut TcpStream, port: u16, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    let mut answer = vec![0; 4_096];
    let length = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read(&mut answer))
        .unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[actix_web::test]
async fn sigterm_under_load_answers_what_it_took_and_half_does_nothing() {
    drains_under_load_on(Signal::SIGTERM).await;
}

#[actix_web::test]
async fn sigint_under_load_answers_what_it_took_and_half_does_nothing() {
    drains_under_load_on(Signal::SIGINT).await;
}

#[actix_web::test]
async fn a_process_that_drains_is_not_ready() {
    let mut atalaya = Atalaya::without_mqtt()
        .set("MQTT", "on")
        .set("MQTT_BROKER_HOST", "127.0.0.1")
        .set("MQTT_BROKER_PORT", free_port())
        .set("SHUTDOWN_TIMEOUT", 2)
        .start()
        .await;
    let client = atalaya.client();
    // An entry that the absent broker has not taken keeps the drain going for its two seconds.
    client.open_with("1", "1.00").await;
    let mut open = keep_alive(atalaya.http_port);
    atalaya.signal(Signal::SIGTERM);
    eventually("it drains", || async {
        atalaya.log().contains("draining").then_some(())
    })
    .await;
    let on_open = ask_on(&mut open, atalaya.http_port, "/readyz");
    assert!(
        on_open.is_empty() || on_open.starts_with("HTTP/1.1 503"),
        "{on_open}"
    );
    match client.get("/readyz").await {
        Ok(response) => assert_eq!(response.status, 503, "{}", response.text()),
        Err(_refused) => {}
    }
    drop(open);
    assert_eq!(atalaya.wait().await.code(), Some(0));
    assert!(
        atalaya.log().contains("after the next start"),
        "the backlog is told"
    );
}

#[actix_web::test]
async fn a_restart_keeps_everything() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    client.open("2").await;
    client.transfer("1", "2", "40.00", "t").await;
    let refused = client.withdraw("1", "60.01", "w").await;
    assert_eq!(refused.code(), "saldo_insuficiente");
    let paths = [
        "/api/v1/cuentas/1",
        "/api/v1/cuentas/2",
        "/api/v1/cuentas/1/movimientos",
        "/api/v1/cuentas/2/movimientos",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push(client.get(path).await.unwrap().text());
    }
    let figures = client.get("/api/v1/estadisticas").await.unwrap().json();

    assert_eq!(atalaya.terminate().await.code(), Some(0));
    atalaya.start().await;

    for (path, before) in paths.into_iter().zip(before) {
        assert_eq!(client.get(path).await.unwrap().text(), before);
    }
    let now = client.get("/api/v1/estadisticas").await.unwrap().json();
    assert_eq!(now["total_transacciones"], figures["total_transacciones"]);
    assert_eq!(now["total_transacciones"], 3, "a transfer makes two");
    let again = client.withdraw("1", "60.01", "w").await;
    assert!(again.is_replayed(), "a refusal is for ever too");
    assert_eq!(again.text(), refused.text());
}

// ---- the demo ----------------------------------------------------------------------------------

#[actix_web::test]
async fn the_demo_opens_three_accounts_once() {
    let mut atalaya = Atalaya::without_mqtt().set("DEMO", "true").start().await;
    let client = atalaya.client();
    let accounts = [
        ("1350509525", "Stefano", "Aguilar", "5000.00"),
        ("1315151515", "Juan", "Pérez García", "1500.00"),
        ("0912345678", "Luis Alberto", "Fernández Ruiz", "450.25"),
    ];
    for start in 1..=2 {
        for (account, given_names, surnames, balance) in accounts {
            let response = client
                .get(&format!("/api/v1/cuentas/{account}"))
                .await
                .unwrap();
            let body = response.json();
            assert_eq!(body["nombres"], given_names, "start {start}");
            assert_eq!(body["apellidos"], surnames);
            assert_eq!(raw_field(&response.text(), "saldo"), balance);
            assert_eq!(body["version"], 1);
        }
        if start == 1 {
            atalaya.terminate().await;
            atalaya.start().await;
        }
    }
}

#[actix_web::test]
async fn the_demo_leaves_an_account_that_was_there_alone() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1315151515", "7.00").await;
    atalaya.terminate().await;
    atalaya.set("DEMO", "true");
    for _ in 0..2 {
        atalaya.start().await;
        assert_eq!(client.balance("1315151515").await, "7.00");
        assert_eq!(client.balance("1350509525").await, "5000.00");
        atalaya.terminate().await;
    }
}

// ---- what it says when it cannot start ---------------------------------------------------------

/// Runs `command`, which must fail, and expects one clear line that holds all of `words`.
fn fails_naming(command: Command, words: &[&str]) {
    let told = format!("{command:?}");
    let ended = run(command);
    assert!(
        matches!(ended.code, Some(code) if code != 0),
        "{told}: {ended:?}"
    );
    let error = ended
        .stderr
        .lines()
        .find(|line| line.starts_with("atalaya: ") || line.starts_with("error: "))
        .unwrap_or_else(|| panic!("{told}: no clear line: {ended:?}"));
    let after = ended
        .stderr
        .split_once(error)
        .map_or("", |(_, after)| after);
    assert!(
        after.trim().is_empty() || after.contains("--help"),
        "{told}: more than a line: {ended:?}"
    );
    for word in words {
        assert!(error.contains(word), "{told}: {word:?} is not in {error:?}");
    }
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    assert!(ended.stdout.is_empty(), "a banner: {ended:?}");
}

#[actix_web::test]
async fn a_port_in_use_is_told_with_its_setting() {
    for setting in [
        "HTTP_PORT",
        "SERVER_PORT",
        "MQTT_BROKER_PORT",
        "MQTT_WS_PORT",
    ] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let atalaya = Atalaya::with_embedded_broker().set(setting, port).prepare();
        fails_naming(atalaya.command(), &[setting, &port.to_string()]);
    }
}

#[actix_web::test]
async fn a_folder_that_cannot_be_written_is_told_with_its_setting() {
    for (setting, value) in [
        ("DATA_DIR", "a-file/data"),
        ("LOG_DIR", "a-file/logs"),
        ("DATABASE_URL", "sqlite://a-file/atalaya.db"),
    ] {
        let atalaya = Atalaya::without_mqtt().set(setting, value).prepare();
        // Even root cannot make a folder below a file.
        std::fs::write(atalaya.folder().join("a-file"), "").unwrap();
        fails_naming(atalaya.command(), &[setting, "a-file"]);
    }
}

#[actix_web::test]
async fn a_value_that_cannot_be_is_told_with_its_setting() {
    for (setting, value, words) in [
        ("HTTP_PORT", "x", &["HTTP_PORT", "'x'"] as &[&str]),
        ("MONEDA", "dollars", &["MONEDA", "dollars"]),
        ("RUST_LOG", "loud", &["RUST_LOG", "loud"]),
        (
            "BIND_ADDRESS",
            "0.0.0.0",
            &["BIND_ADDRESS", "ALLOW_REMOTE=sin-tls"],
        ),
        ("DATABASE_URL", "mysql://u:canary@h/db", &["DATABASE_URL"]),
        ("SHUTDOWN_TIMEOUT", "soon", &["SHUTDOWN_TIMEOUT", "soon"]),
        ("LOG_FORMAT", "xml", &["LOG_FORMAT", "xml"]),
    ] {
        let atalaya = Atalaya::without_mqtt().set(setting, value).prepare();
        fails_naming(atalaya.command(), words);
        let ended = run(atalaya.command());
        assert!(!ended.stderr.contains("canary"), "{ended:?}");
    }
}

#[actix_web::test]
async fn a_second_process_on_the_same_data_is_refused() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let mut second = atalaya.command();
    second
        .env("HTTP_PORT", free_port().to_string())
        .env("SERVER_PORT", free_port().to_string());
    fails_naming(second, &["another process", "DATA_DIR"]);

    let mut same_database = atalaya.command();
    same_database
        .env("HTTP_PORT", free_port().to_string())
        .env("SERVER_PORT", free_port().to_string())
        .env("DATA_DIR", "elsewhere");
    fails_naming(same_database, &["another process", "DATABASE_URL"]);
    atalaya.client().open("1").await;
}

#[actix_web::test]
async fn the_currency_is_fixed_when_the_database_is_created() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    atalaya.client().open_with("1", "1.00").await;
    atalaya.terminate().await;
    let mut changed = atalaya.command();
    changed.env("MONEDA", "EUR");
    fails_naming(changed, &["MONEDA", "EUR", "USD"]);
    atalaya.start().await;
    assert_eq!(atalaya.client().balance("1").await, "1.00");
}

// ---- the banner --------------------------------------------------------------------------------

#[actix_web::test]
async fn the_banner_tells_where_all_is_and_its_lines_work() {
    for demo in [false, true] {
        let atalaya = Atalaya::with_embedded_broker().prepare();
        let mut command = atalaya.command();
        command.env_remove("ADMIN_PASSWORD");
        if demo {
            command.arg("--demo");
        }
        let running = Watched::start(command);
        running.wait_for_line("Ctrl-C").await;
        let banner = running.stdout();
        let http = format!("http://127.0.0.1:{}/", atalaya.http_port);
        let tcp = format!("TCP         127.0.0.1:{}", atalaya.tcp_port);
        let broker = format!("127.0.0.1:{}", atalaya.mqtt_port);
        let websocket = format!("127.0.0.1:{}", atalaya.mqtt_ws_port);
        for word in [
            &http,
            &tcp,
            &broker,
            &websocket,
            &if on_files() {
                "data/atalaya.db".to_owned()
            } else {
                atalaya.database().to_string()
            },
            "logs",
            "/ws",
            "/api/docs/",
        ] {
            assert!(
                banner.iter().any(|line| line.contains(word)),
                "{word}: {banner:#?}"
            );
        }
        for word in ["1315151515", "*** DEMO", DEMO_PASSWORD] {
            let is_there = banner.iter().any(|line| line.contains(word));
            assert_eq!(is_there, demo, "{word}: {banner:#?}");
        }
        if !demo || !has_tool("curl") {
            continue;
        }
        let lines = |start: &str| {
            let found = banner.iter().map(|line| line.trim());
            found
                .filter(|line| line.starts_with(start))
                .collect::<Vec<_>>()
        };
        let (export, curl) = (lines("export ")[0], lines("curl ")[0]);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{export}\n{curl}"));
        let ended = run(shell);
        assert_eq!(ended.code, Some(0), "{curl}: {ended:?}");
        let token = export.split_once('=').unwrap().1;
        let client = atalaya.client().with_token(token);
        assert_eq!(client.balance("1350509525").await, "5150.00");
    }
}

#[actix_web::test]
async fn the_banner_names_an_external_broker() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).prepare();
    let running = Watched::start(atalaya.command());
    let line = running.wait_for_line("  MQTT").await;
    assert!(
        line.contains(&format!("127.0.0.1:{}", broker.port)),
        "{line}"
    );
}

// ---- panics ------------------------------------------------------------------------------------

#[cfg(feature = "failpoints")]
mod panics {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    /// Starts with 100.00 on account 1 and `failpoint` set for what comes then.
    async fn about_to_panic(failpoint: &str) -> Atalaya {
        let mut atalaya = Atalaya::without_mqtt().start().await;
        atalaya.client().open_with("1", "100.00").await;
        atalaya.terminate().await;
        atalaya.set("FAILPOINTS", failpoint);
        atalaya.start().await;
        atalaya
    }

    /// Sends deposits that run into the panic, and waits for the end: callers do not hang, none is
    /// told of success, and the process aborts with a word about it.
    async fn runs_into_it(atalaya: &mut Atalaya) {
        let client = atalaya.client();
        let _idle = keep_alive(atalaya.http_port);
        let sent = Instant::now();
        let path = "/api/v1/cuentas/1/depositos";
        let keys: Vec<String> = (0..8).map(|n| format!("unlucky-{n}")).collect();
        let body = json!({"monto": "1.00"});
        let tries = keys.iter().map(|key| client.post(path, Some(key), &body));
        let answers = futures_util::future::join_all(tries).await;
        for answer in answers.into_iter().flatten() {
            assert_eq!(answer.status, 503, "{}", answer.text());
        }
        assert!(
            sent.elapsed() < Duration::from_secs(8),
            "callers hung for {:?}",
            sent.elapsed()
        );
        let status = atalaya.wait().await;
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
        assert!(atalaya.log().contains("a defect ends the process"));
        let errors = atalaya.folder().join("logs/errors.log");
        let errors = std::fs::read_to_string(errors).unwrap();
        assert!(errors.contains("a defect ends the process"), "{errors}");
        atalaya.set("FAILPOINTS", "");
        atalaya.start().await;
    }

    #[actix_web::test]
    async fn a_panic_of_an_actor_ends_the_process_and_loses_nothing() {
        let mut atalaya = about_to_panic("account::place_order=1*off->panic").await;
        let client = atalaya.client();
        let acknowledged = client.deposit("1", "5.00", "lucky").await;
        assert_eq!(acknowledged.status, 201);
        runs_into_it(&mut atalaya).await;
        assert_eq!(client.balance("1").await, "105.00");
        let again = client.deposit("1", "5.00", "lucky").await;
        assert!(again.is_replayed());
        assert_eq!(again.text(), acknowledged.text());
    }

    #[actix_web::test]
    async fn a_panic_before_the_commit_leaves_nothing_behind() {
        let mut atalaya = about_to_panic("writer::before_commit=panic").await;
        runs_into_it(&mut atalaya).await;
        let client = atalaya.client();
        assert_eq!(client.balance("1").await, "100.00");
        let again = client.deposit("1", "1.00", "unlucky-0").await;
        assert_eq!((again.status, again.is_replayed()), (201, false));
    }

    #[actix_web::test]
    async fn a_panic_after_the_commit_is_known_under_the_key() {
        let mut atalaya = about_to_panic("writer::after_commit=panic").await;
        runs_into_it(&mut atalaya).await;
        let client = atalaya.client();
        // One group at least was committed; which of the eight it had, their keys tell.
        let committed = client.version("1").await - 1;
        assert!((1..=8).contains(&committed), "{committed}");
        let mut replayed = 0;
        for n in 0..8 {
            let again = client.deposit("1", "1.00", &format!("unlucky-{n}")).await;
            assert_eq!(again.status, 201);
            replayed += i64::from(again.is_replayed());
        }
        assert_eq!(replayed, committed);
        assert_eq!(client.balance("1").await, "108.00");
    }
}
