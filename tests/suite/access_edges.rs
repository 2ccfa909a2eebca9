//! Ways around access that somebody might try: other people's client ids, escapes in addresses,
//! names that are taken, and what companies would learn of each other.

use crate::support::access::{ADMIN_TOKEN, make_token_for};
use crate::support::client::finish;
use crate::support::device::create_place;
use crate::support::guest::Guest;
use crate::support::hub::assert_refused;
use crate::support::{Atalaya, Client};
use awc::http::Method;
use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;
use serde_json::{Value, json};

const PEOPLE: &str = "/api/v1/usuarios";

fn admin(client: &Client) -> Client {
    client.with_token(ADMIN_TOKEN)
}

/// A client at the embedded broker that shows `token` under the client id `id`.
fn with_id(atalaya: &Atalaya, id: &str, token: &str) -> MqttOptions {
    let mut options = Guest::anonymous(atalaya.mqtt_port, id);
    options.set_credentials("token", token);
    options
}

/// Fault 30, for people: nobody throws another out, or ends what the broker keeps for them.
#[actix_web::test]
async fn a_client_id_that_somebody_has_is_not_to_be_taken() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    let auditor = json!([{"rol": "auditor"}]);
    let bridge = make_token_for(&client, "puente", &auditor).await;
    let other = make_token_for(&client, "otro", &json!([{"rol": "cliente", "cedula": "1"}])).await;
    client.open("1").await;
    let remembered = || {
        let mut options = with_id(&atalaya, "kafka-bridge", &bridge);
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(3_600));
        options
    };
    let mut there = Guest::connect(remembered()).await.unwrap();
    there.subscribe("banco/transacciones").await;
    let taken = Guest::connect(with_id(&atalaya, "kafka-bridge", &other)).await;
    assert_eq!(taken.err(), Some(ConnectReturnCode::NotAuthorized));
    client.deposit("1", "1.00", "while-there").await;
    there.message().await;
    drop(there);
    client.deposit("1", "2.00", "while-away").await;
    let taken = Guest::connect(with_id(&atalaya, "kafka-bridge", &other)).await;
    assert_eq!(taken.err(), Some(ConnectReturnCode::NotAuthorized));
    let mut again = Guest::connect(remembered()).await.unwrap();
    assert!(again.was_known, "its session is gone");
    let missed = again.message().await;
    assert_eq!(missed.json()["monto"], 2.0);
}

/// The router reads `%63` as `c`, and so does whoever decides who may come in.
#[actix_web::test]
async fn escapes_in_an_address_open_nothing() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    assert_eq!(client.get("/api/v1/%63uentas/1").await.unwrap().status, 200);
    for path in [
        "/api/v1/%63uentas/1",
        "/api/v1/cuentas/%31",
        "/%6detrics",
        "/api/v1/%6Cogs/sistema",
    ] {
        let answer = client.anonymous().get(path).await.unwrap();
        assert_refused(&answer, 401, "no_autenticado", path);
    }
    // A garbled body of an anonymous request is not even read.
    let garbled = client
        .anonymous()
        .request(Method::POST, "/api/v1/%63uentas")
        .insert_header(("content-type", "application/json"));
    let answer = finish(garbled.send_body("{")).await.unwrap();
    assert_refused(&answer, 401, "no_autenticado", "a garbled body");
    // A cookie opens no session, however the address is written.
    let entered = client
        .anonymous()
        .send(
            Method::POST,
            "/api/v1/sesiones",
            &json!({"usuario": "admin",
            "contrasena": crate::support::atalaya::ADMIN_PASSWORD, "cookie": true}),
        )
        .await;
    let cookie = entered.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    for path in ["/ws", "/%77s", "/w%73"] {
        let knock = client
            .anonymous()
            .request(Method::GET, path)
            .insert_header(("cookie", cookie.clone()))
            .insert_header(("upgrade", "websocket"))
            .insert_header(("connection", "upgrade"))
            .insert_header(("sec-websocket-version", "13"))
            .insert_header(("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="));
        let answer = finish(knock.send()).await.unwrap();
        assert_refused(&answer, 401, "no_autenticado", path);
    }
}

#[actix_web::test]
async fn a_program_takes_nobodys_name() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let ana = json!({"usuario": "ana", "nombre": "Ana"});
    client.changes(Method::POST, PEOPLE, &ana, 201).await;
    for name in ["ana", "demo", "demo-cajero"] {
        make_token_for(&client, name, &json!([{"rol": "auditor"}])).await;
    }
    let sessions = admin(&client).json("/api/v1/sesiones?usuario=ana").await;
    assert_eq!(sessions["datos"], json!([]));
    for name in ["atalaya", "local", "automatizacion", "hardware"] {
        let body = json!({"nombre": name, "dias": 1, "roles": []});
        let refused = admin(&client)
            .send(Method::POST, "/api/v1/tokens", &body)
            .await;
        assert_refused(&refused, 422, "valor_invalido", name);
    }
    // A start without a demo shuts out the demo's people; nobody real is to be one.
    let refused = client
        .send(Method::POST, PEOPLE, &json!({"usuario": "demo"}))
        .await;
    assert_refused(&refused, 422, "valor_invalido", "demo");
    assert!(atalaya.terminate().await.success());
    atalaya.start().await;
}

#[actix_web::test]
async fn companies_learn_nothing_of_each_others_people() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    create_place(&client, "otra", "principal").await;
    let both = json!({"usuario": "ana", "roles": [{"rol": "cajero", "empresa": "banco"},
        {"rol": "cajero", "empresa": "otra"}, {"rol": "cliente", "cedula": "77"}]});
    client.changes(Method::POST, PEOPLE, &both, 201).await;
    client
        .changes(Method::POST, PEOPLE, &json!({"usuario": "eva"}), 201)
        .await;
    let roles = json!([{"rol": "auditor", "empresa": "banco"}]);
    let auditor = client.with_token(&make_token_for(&client, "inspector", &roles).await);
    let own = json!([{"rol": "cajero", "empresa": "banco"}]);
    assert_eq!(auditor.json(&format!("{PEOPLE}/ana")).await["roles"], own);
    let list = auditor.json(PEOPLE).await;
    let shown = list["datos"].as_array().unwrap();
    assert!(shown.iter().all(|one| one["roles"] == own), "{list}");
    // Who there is elsewhere, and who there is not, look the same.
    for name in ["eva", "nobody"] {
        let lines = auditor
            .json(&format!("/api/v1/auditoria?usuario={name}"))
            .await;
        assert_eq!(lines["datos"], json!([]), "{name}");
    }
    for path in ["/metrics", "/api/v1/metricas", "/api/v1/logs/sistema"] {
        let answer = auditor.get(path).await.unwrap();
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[actix_web::test]
async fn an_admin_who_is_shut_out_is_not_the_last() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let root = json!({"usuario": "jefa", "roles": [{"rol": "admin"}]});
    client.changes(Method::POST, PEOPLE, &root, 201).await;
    let path = format!("{PEOPLE}/jefa");
    let change = async |body: Value| client.send(Method::PATCH, &path, &body).await;
    assert_eq!(change(json!({"activo": false})).await.status, 200);
    assert_eq!(change(json!({"activo": false})).await.status, 200, "again");
    assert_eq!(change(json!({"roles": []})).await.status, 200);
    let last = client
        .send(
            Method::PATCH,
            &format!("{PEOPLE}/admin"),
            &json!({"roles": []}),
        )
        .await;
    assert_refused(&last, 409, "ultimo_admin", "the last");
}
