//! The whole import against a small bank of our own, over real HTTP.

use super::*;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use clap::Parser;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Mutex;

const FILE: &str = "cedula,fecha,tipo,monto,saldo_banco\n\
    1,1995-04-19,DEPOSITO,200.00,200.00\n\
    2,1995-05-04,DEPOSITO,800.10,800.10\n\
    1,1995-05-06,RETIRO,250.00,-50.00\n\
    1,1995-05-06,DEPOSITO,100.05,50.05\n\
    2,1995-05-07,RETIRO,0.10,800.00\n\
    1,1995-05-06,DEPOSITO,100.05,150.10\n\
    1,1995-05-08,RETIRO,450.00,-49.90\n";

/// Balances in cents, decisions by key, and every third answer is trouble.
#[derive(Default)]
struct Bank {
    balances: HashMap<String, i64>,
    decisions: HashMap<String, (u16, String)>,
    requests: u32,
    decided: u32,
    flaky: bool,
}

type Shared = web::Data<Mutex<Bank>>;

impl Bank {
    fn trouble(&mut self) -> Option<HttpResponse> {
        self.requests += 1;
        let trouble = self.flaky && self.requests.is_multiple_of(3);
        trouble.then(|| {
            HttpResponse::ServiceUnavailable()
                .insert_header(("Retry-After", "0"))
                .finish()
        })
    }

    fn decide(&mut self, cedula: &str, deposit: bool, body: &Value) -> (u16, String) {
        let text = body["monto"].to_string();
        let amount = crate::domain::Amount::parse(&text).unwrap().cents();
        assert!(body["fecha_valor"].as_str().unwrap().starts_with("1995-"));
        let balance = self.balances.get_mut(cedula).expect("opened before");
        if !deposit && *balance < amount {
            return (
                409,
                json!({"codigo": "saldo_insuficiente", "detail": "no alcanza"}).to_string(),
            );
        }
        *balance += if deposit { amount } else { -amount };
        self.decided += 1;
        (201, "{}".to_owned())
    }
}

async fn open(bank: Shared, body: web::Json<Value>) -> HttpResponse {
    let mut bank = bank.lock().unwrap();
    if let Some(trouble) = bank.trouble() {
        return trouble;
    }
    match bank
        .balances
        .insert(body["cedula"].as_str().unwrap().to_owned(), 0)
    {
        None => HttpResponse::Created().json(json!({})),
        Some(balance) => {
            bank.balances
                .insert(body["cedula"].as_str().unwrap().to_owned(), balance);
            HttpResponse::Conflict().json(json!({"codigo": "cuenta_existe"}))
        }
    }
}

async fn post(
    bank: Shared,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    body: web::Json<Value>,
) -> HttpResponse {
    let mut bank = bank.lock().unwrap();
    let key = request
        .headers()
        .get("Idempotency-Key")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let replayed = bank.decisions.contains_key(&key);
    if !replayed {
        let decision = bank.decide(&path.0, path.1 == "depositos", &body);
        bank.decisions.insert(key.clone(), decision);
    }
    // After the decision: the client cannot know that it was done.
    if let Some(trouble) = bank.trouble() {
        return trouble;
    }
    let (status, body) = bank.decisions[&key].clone();
    let mut answer = HttpResponse::build(status.try_into().unwrap());
    if replayed {
        answer.insert_header(("Idempotent-Replayed", "true"));
    }
    answer.content_type("application/json").body(body)
}

async fn read(bank: Shared, path: web::Path<String>) -> HttpResponse {
    let mut bank = bank.lock().unwrap();
    if let Some(trouble) = bank.trouble() {
        return trouble;
    }
    let balance = Money::from_cents(bank.balances[path.as_str()]);
    HttpResponse::Ok().body(format!("{{\"saldo\":{balance}}}"))
}

/// Opens a bank on a free port.
fn open_bank(flaky: bool) -> (Shared, String) {
    let bank: Shared = web::Data::new(Mutex::new(Bank {
        flaky,
        ..Bank::default()
    }));
    let data = bank.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/api/v1/cuentas", web::post().to(open))
            .route("/api/v1/cuentas/{cedula}", web::get().to(read))
            .route("/api/v1/cuentas/{cedula}/{resource}", web::post().to(post))
    })
    .workers(1)
    .disable_signals()
    .bind(("127.0.0.1", 0))
    .unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    (bank, url)
}

#[derive(Parser)]
struct Wrapper {
    #[command(flatten)]
    import: ImportArgs,
}

async fn import_from(url: &str, more: &[&str]) -> Summary {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(FILE.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let words = ["import", path, "--url", url]
        .into_iter()
        .chain(more.iter().copied());
    let args = Wrapper::try_parse_from(words).unwrap().import;
    import(&args, &super::read(Path::new(path)).unwrap(), None)
        .await
        .unwrap()
}

#[actix_web::test]
async fn importing_twice_is_importing_once() {
    let (bank, url) = open_bank(false);
    let first = import_from(&url, &[]).await.to_string();
    for part in [
        "Movimientos: 7",
        "Aceptados: 5 (de ellos ya estaban: 0)",
        "Rechazados: 2",
        "saldo_insuficiente: 2",
        "línea 4: 1 1995-05-06 RETIRO 250.00 (no alcanza)",
        "Cuentas abiertas: 2 (ya existían: 0)",
        "Total de saldos: 1200.10",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(
        !first.contains("Pendientes") && !first.contains("Este archivo suma"),
        "{first}"
    );
    let second = import_from(&url, &[]).await.to_string();
    for part in [
        "Aceptados: 5 (de ellos ya estaban: 5)",
        "Rechazados: 2",
        "Cuentas abiertas: 0 (ya existían: 2)",
        "Total de saldos: 1200.10",
    ] {
        assert!(second.contains(part), "{part}: {second}");
    }
    assert_eq!(bank.lock().unwrap().decided, 5);
}

#[actix_web::test]
async fn trouble_changes_nothing() {
    let (bank, url) = open_bank(true);
    // As text: a parsed number would no longer show that it has two decimals.
    let json = serde_json::to_string(&import_from(&url, &["--rate", "500"]).await).unwrap();
    for part in [
        r#""completo":true"#,
        r#""aceptados":5"#,
        r#""rechazados":2"#,
        r#""total_saldos":1200.10"#,
    ] {
        assert!(json.contains(part), "{part}: {json}");
    }
    assert_eq!(bank.lock().unwrap().decided, 5);
}

#[actix_web::test]
async fn other_movements_are_noticed() {
    let (bank, url) = open_bank(false);
    bank.lock().unwrap().balances.insert("2".to_owned(), 7);
    let summary = import_from(&url, &[]).await.to_string();
    assert!(summary.contains("Total de saldos: 1200.17"), "{summary}");
    assert!(summary.contains("Este archivo suma 1200.10"), "{summary}");
}

#[actix_web::test]
async fn patience_ends() {
    // A port that was free a moment ago, and where nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    let summary = import_from(&url, &["--patience", "1"]).await;
    assert!(!summary.is_complete());
    let text = summary.to_string();
    assert!(
        text.contains("Pendientes: 7") && text.contains("incompleta"),
        "{text}"
    );
}

#[actix_web::test]
async fn a_server_that_is_not_ours_stops_the_import_at_once() {
    let (_bank, url) = open_bank(false);
    let summary = import_from(&format!("{url}/otra"), &[]).await;
    assert!(!summary.is_complete());
    let value = serde_json::to_value(summary).unwrap();
    assert!(value["error"].as_str().unwrap().contains("404"), "{value}");
}
