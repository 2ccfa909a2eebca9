//! The contract with clients: bytes that must not change, and a document that must be true.
//!
//! `tests/golden/` holds each payload as it left the socket, with its moment, its transaction and
//! our version replaced by fixed ones. `UPDATE_GOLDEN=1` writes the files anew; a change in them
//! is a change for every client that is out there.

use crate::support::client::{Client, Response, finish};
use crate::support::{Atalaya, Message, Mosquitto, Subscriber, eventually, schema};
use atalaya::http::ROUTES;
use atalaya::wire::ProblemKind;
use awc::http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

const ORIGIN: &str = "1350509525";
const DESTINATION: &str = "0912345678";

#[actix_web::test]
async fn what_is_published_is_what_subscribers_read() {
    let broker = Mosquitto::start();
    let subscriber = Subscriber::to(broker.port, &["#"]).await;
    let mut atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    client.open_with(ORIGIN, "1000.00").await;
    client.open_with(DESTINATION, "100.00").await;
    let deposit = client.deposit(ORIGIN, "150.00", "deposit").await.text();
    let transfer = client
        .transfer(ORIGIN, DESTINATION, "10.00", "transfer")
        .await;
    let transfer = transfer.text();
    let withdrawal = client
        .withdraw(ORIGIN, "1054.50", "withdrawal")
        .await
        .text();
    subscriber
        .wait_for("the alert", |message| message.topic == "banco/alertas")
        .await;
    let saldo = |account: &str| format!("banco/saldo/{account}");
    let (origin, destination) = (saldo(ORIGIN), saldo(DESTINATION));
    eventually("the last balance of the origin", || async {
        (distinct(&subscriber, &origin).len() == 4).then_some(())
    })
    .await;

    // The answer to a command is the message that is published, to the byte.
    for (topic, answer) in [
        ("banco/transacciones", &deposit),
        ("banco/depositos", &deposit),
        ("banco/transacciones", &withdrawal),
        ("banco/retiros", &withdrawal),
        ("banco/transferencias", &transfer),
    ] {
        let same = |text: &str| text == answer;
        let found = subscriber
            .on(topic)
            .iter()
            .filter(|m| same(&m.text()))
            .count();
        assert_eq!(found, 1, "{topic}: {answer}");
    }
    golden("deposito", &deposit);
    golden("retiro", &withdrawal);
    golden("transferencia", &transfer);

    let statistics = eventually("statistics on both ways", || async {
        let answer = client.get("/api/v1/estadisticas").await.ok()?.text();
        let published = subscriber.on("banco/estadisticas");
        published
            .iter()
            .any(|m| m.text() == answer)
            .then_some(answer)
    })
    .await;
    golden("estadisticas", &statistics);

    for (topic, which, count, qos, name) in [
        (origin.as_str(), 1, 4, 1, "saldo-tras-deposito"),
        (origin.as_str(), 2, 4, 1, "saldo-tras-transferencia-enviada"),
        (origin.as_str(), 3, 4, 1, "saldo-tras-retiro"),
        (
            destination.as_str(),
            1,
            2,
            1,
            "saldo-tras-transferencia-recibida",
        ),
        ("banco/alertas", 0, 1, 2, "alerta-saldo-bajo"),
    ] {
        let messages = distinct(&subscriber, topic);
        assert_eq!(messages.len(), count, "{topic}");
        assert!(messages.iter().all(|m| m.qos == qos), "{topic}");
        golden(name, &messages[which].text());
    }
    for (topic, count, qos) in [
        ("banco/transacciones", 4, 1),
        ("banco/depositos", 3, 1),
        ("banco/retiros", 1, 1),
        ("banco/transferencias", 1, 1),
    ] {
        let messages = distinct(&subscriber, topic);
        assert_eq!(messages.len(), count, "{topic}");
        assert!(messages.iter().all(|m| m.qos == qos), "{topic}");
    }
    assert!(
        subscriber
            .on("banco/estadisticas")
            .iter()
            .all(|m| m.qos == 0)
    );

    golden("en-linea", &subscriber.on("atalaya/estado")[0].text());
    let kept: BTreeSet<String> = [
        origin.as_str(),
        destination.as_str(),
        "banco/estadisticas",
        "atalaya/estado",
        "atalaya/retenidos",
    ]
    .map(str::to_owned)
    .into();
    eventually("exactly these are retained", || async {
        let late = Subscriber::to(broker.port, &["#"]).await;
        late.wait_for("the marker", |m| m.topic == "atalaya/retenidos")
            .await;
        let messages = late.all();
        let retained = messages.iter().filter(|message| message.retain);
        let topics: BTreeSet<String> = retained.map(|m| m.topic.clone()).collect();
        assert!(topics.is_subset(&kept), "{topics:?}");
        (topics == kept).then_some(())
    })
    .await;
    // Two openings, two first deposits, a deposit, a transfer with its two halves, a withdrawal.
    let marker = subscriber
        .wait_for("the marker at the end", |message| {
            message.topic == "atalaya/retenidos" && message.json()["posicion"] == 8
        })
        .await;
    golden("retenidos", &marker.text());

    atalaya.kill();
    let gone = subscriber
        .wait_for("the last will", |message| {
            message.text().contains("fuera_de_linea")
        })
        .await;
    assert_eq!((gone.topic.as_str(), gone.qos), ("atalaya/estado", 1));
    golden("fuera-de-linea", &gone.text());
}

#[actix_web::test]
async fn what_rest_answers_is_what_clients_read() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let post = async |path: &str, key: &str, body: Value| {
        client.post(path, Some(key), &body).await.unwrap().text()
    };
    let person = json!({"cedula": ORIGIN, "nombres": "Stefano", "apellidos": "Aguilar"});
    golden(
        "cuenta-nueva",
        &post("/api/v1/cuentas", "open", person.clone()).await,
    );
    client.open_with(DESTINATION, "100.00").await;
    let body = json!({"monto": 1000, "sede": "principal", "fecha_valor": "2026-01-14"});
    let deposits = format!("/api/v1/cuentas/{ORIGIN}/depositos");
    let withdrawals = format!("/api/v1/cuentas/{ORIGIN}/retiros");
    post(&deposits, "deposit", body).await;
    client.transfer(ORIGIN, DESTINATION, "10.00", "there").await;
    client.transfer(DESTINATION, ORIGIN, "0.05", "back").await;
    client.withdraw(ORIGIN, "904.55", "withdrawal").await;
    let account = format!("/api/v1/cuentas/{ORIGIN}");
    golden("cuenta", &client.get(&account).await.unwrap().text());
    let movements = format!("{account}/movimientos");
    golden("movimientos", &client.get(&movements).await.unwrap().text());
    let page = client.get(&format!("{movements}?limite=1")).await.unwrap();
    golden("movimientos-pagina", &page.text());

    let overdraft = post(&withdrawals, "overdraft", json!({"monto": "85.51"})).await;
    golden("saldo-insuficiente", &overdraft);
    golden(
        "cuenta-existe",
        &post("/api/v1/cuentas", "again", person).await,
    );
    let no_key = client
        .post(&deposits, None, &json!({"monto": 1}))
        .await
        .unwrap();
    golden("falta-clave", &no_key.text());
    let unknown = client
        .request(Method::GET, "/api/v1/cuentas/1")
        .insert_header(("accept-language", "en"));
    golden(
        "account-unknown",
        &finish(unknown.send()).await.unwrap().text(),
    );
    let amount = post(&deposits, "amount", json!({"monto": "12,50"})).await;
    golden("monto-invalido", &amount);
    golden("salud", &client.get("/health").await.unwrap().text());
}

#[actix_web::test]
async fn the_document_has_exactly_the_routes_of_the_api() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let document = document(&atalaya.client()).await;
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let served: BTreeSet<(String, String)> = ROUTES
        .iter()
        .filter(|(path, _)| !matches!(*path, "/" | "/ws"))
        .flat_map(|(path, methods)| {
            methods
                .iter()
                .map(|method| ((*path).to_owned(), (*method).to_owned()))
        })
        .collect();
    assert_eq!(documented, served);
}

#[actix_web::test]
async fn every_answer_is_as_the_document_says() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let document = document(&client).await;
    let account = "/api/v1/cuentas/{cedula}";
    let deposits = "/api/v1/cuentas/{cedula}/depositos";
    let withdrawals = "/api/v1/cuentas/{cedula}/retiros";
    let movements = "/api/v1/cuentas/{cedula}/movimientos";
    let accounts = "/api/v1/cuentas";
    let transfers = "/api/v1/transferencias";
    let person = |id: &str| json!({"cedula": id, "nombres": "Ana", "apellidos": "Vera"});
    let sent = |amount: &str| json!({"cedula_origen": "1", "cedula_destino": "2", "monto": amount});
    let sited = json!({"monto": 5, "sede": "principal", "fecha_valor": "2026-01-15"});
    let posts = [
        (accounts, "", person("1"), 201),
        (accounts, "", person("2"), 201),
        (accounts, "", person("1"), 409),
        (accounts, "", person("x"), 422),
        (deposits, "1", json!({"monto": "100"}), 201),
        (deposits, "1", sited.clone(), 201),
        (deposits, "1", json!({"mnto": 1}), 400),
        (deposits, "1", json!({"monto": 0}), 422),
        (deposits, "9", json!({"monto": 1}), 404),
        (withdrawals, "1", sited, 201),
        (withdrawals, "1", json!({"monto": 1_000}), 409),
        (withdrawals, "9", json!({"monto": 1}), 404),
        (transfers, "", sent("10.00"), 201),
        (transfers, "", sent("1000.00"), 409),
        (transfers, "", sent("x"), 422),
    ];
    for (n, (template, id, body, status)) in posts.into_iter().enumerate() {
        let path = template.replace("{cedula}", id);
        let key = format!("k{n}");
        let answer = client.post(&path, Some(&key), &body).await.unwrap();
        assert_eq!(answer.status, status, "{path} {body}");
        is_documented(&document, template, "post", &answer);
    }
    let gets = [
        (account, "1", 200),
        (account, "9", 404),
        (account, "x", 422),
        (movements, "1", 200),
        (movements, "2", 200),
        (movements, "9", 404),
        ("/api/v1/estadisticas", "", 200),
        ("/livez", "", 200),
        ("/readyz", "", 200),
        ("/health", "", 200),
        ("/metrics", "", 200),
    ];
    for (template, id, status) in gets {
        let answer = client.get(&template.replace("{cedula}", id)).await.unwrap();
        assert_eq!(answer.status, status, "{template} {id}");
        is_documented(&document, template, "get", &answer);
    }
    // Whatever the route, a foreign page is turned away as documented.
    for (template, methods) in ROUTES
        .iter()
        .filter(|(path, _)| !matches!(*path, "/" | "/ws"))
    {
        for method in *methods {
            let sent = client
                .request(method.parse().unwrap(), &template.replace("{cedula}", "1"))
                .insert_header(("origin", "http://evil.example"));
            let answer = finish(sent.send()).await.unwrap();
            assert_eq!(answer.status, 403, "{template}");
            is_documented(&document, template, &method.to_lowercase(), &answer);
        }
    }
}

#[test]
fn codes_are_as_clients_know_them() {
    let codes: Vec<String> = ProblemKind::ALL
        .iter()
        .map(|kind| format!("{} {}\n", kind.status(), kind.code()))
        .collect();
    golden_file("codigos.txt", &codes.concat());
}

/// What arrived on `topic`, without repeats: retained balances are repaired after a connection, and
/// a repeat is the same to the byte.
fn distinct(subscriber: &Subscriber, topic: &str) -> Vec<Message> {
    let mut distinct: Vec<Message> = Vec::new();
    for message in subscriber.on(topic) {
        if !distinct.contains(&message) {
            distinct.push(message);
        }
    }
    distinct
}

async fn document(client: &Client) -> Value {
    let answer = client.get("/api/openapi.json").await.unwrap();
    assert_eq!(answer.status, 200);
    answer.json()
}

/// Fails unless the document foresees `answer` there: its status, its type and its form.
fn is_documented(document: &Value, path: &str, method: &str, answer: &Response) {
    let responses = &document["paths"][path][method]["responses"];
    let status = answer.status.to_string();
    let class = format!("{}XX", &status[..1]);
    let response = responses.get(&status).or_else(|| responses.get(&class));
    let response = response.unwrap_or_else(|| panic!("{method} {path}: no {status}"));
    let declared = answer.header("content-type").unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default();
    let schema = &response["content"][essence]["schema"];
    assert!(schema.is_object(), "{method} {path} {status}: no {essence}");
    let value = if essence.ends_with("json") {
        answer.json()
    } else {
        Value::String(answer.text())
    };
    if let Err(reason) = schema::check(document, schema, &value) {
        panic!("{method} {path} {status}: {reason}");
    }
    if answer.status >= 400 {
        answer.code();
    }
}

/// Compares a payload with `tests/golden/{name}.json`, byte for byte but for what differs from run
/// to run.
fn golden(name: &str, payload: &str) {
    golden_file(&format!("{name}.json"), &format!("{}\n", timeless(payload)));
}

fn golden_file(name: &str, content: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let path = folder.join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, content).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(content, expected, "{name} has changed for clients");
}

/// `payload` with its moments, transactions and our version replaced, each checked for its form.
fn timeless(payload: &str) -> String {
    let moment = |text: &str| {
        assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
        text.parse::<jiff::Timestamp>().unwrap();
    };
    let version_7 = |text: &str| {
        let id: uuid::Uuid = text.parse().unwrap();
        assert_eq!((id.get_version_num(), id.to_string()), (7, text.to_owned()));
    };
    let any = |text: &str| {
        text.parse::<uuid::Uuid>().unwrap();
    };
    let ours = |text: &str| assert_eq!(text, env!("CARGO_PKG_VERSION"));
    let payload = replace(payload, "timestamp", "2026-01-15T14:30:00.123Z", &moment);
    let payload = replace(
        &payload,
        "tx_id",
        "01990000-0000-7000-8000-000000000000",
        &version_7,
    );
    let payload = replace(
        &payload,
        "base",
        "00000000-0000-4000-8000-000000000000",
        &any,
    );
    replace(&payload, "version", "0.0.0", &ours)
}

/// Replaces the text of every string field called `field` by `fixed`, after a look at it.
fn replace(json: &str, field: &str, fixed: &str, look: &dyn Fn(&str)) -> String {
    let start = format!("\"{field}\":\"");
    let mut parts = json.split(&start);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (value, rest) = part.split_once('"').unwrap();
        look(value);
        result.extend([start.as_str(), fixed, "\"", rest]);
    }
    result
}
