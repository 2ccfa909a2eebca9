//! Alert clients from before Atalaya: a secret for a token, a token for alerts, and the lists that
//! people had there.

use crate::support::access::{ADMIN_TOKEN, make_token_for};
use crate::support::client::{Client, Response, finish};
use crate::support::device::{create_place, register};
use crate::support::{Atalaya, Records, audit, eventually};
use atalaya::application::Application;
use atalaya::clock::Clock;
use atalaya::config::{Config, ServeArgs};
use awc::http::Method;
use clap::Parser;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const AUTHENTICATE: &str = "/api/hardware-auth/authenticate";
const ALERTS: &str = "/api/mqtt-alerts";
const DEVICE: &str = "/api/v1/hardware/boton-1";
const SECRET: &str = "/api/v1/hardware/boton-1/secreto_heredado";
const UNAUTHORISED: &str = r#"{"success":false,"error":"No autorizado","detalles":null}"#;

async fn old_clients() -> Atalaya {
    Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .start()
        .await
}

/// A button that shows a secret, and the secret.
async fn button(client: &Client) -> String {
    register(client, "banco", "principal", "boton-1", "BOTONERA").await;
    let legacy = json!({"confianza": "heredada"});
    client.changes(Method::PATCH, DEVICE, &legacy, 200).await;
    new_secret(client).await
}

async fn new_secret(client: &Client) -> String {
    let made = client.bare(Method::POST, SECRET).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["secreto"].as_str().unwrap().to_owned()
}

fn credentials(secret: &str) -> Value {
    json!({
        "hardware_nombre": "boton-1", "empresa_nombre": "banco", "sede": "principal",
        "secreto": secret,
    })
}

async fn authenticate(client: &Client, body: &Value) -> Response {
    client
        .anonymous()
        .post(AUTHENTICATE, None, body)
        .await
        .unwrap()
}

async fn token_for(client: &Client, secret: &str) -> String {
    let answer = authenticate(client, &credentials(secret)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let data = &answer.json()["data"];
    assert_eq!(data["expires_in"], 300);
    let address = json!({"nombre": "boton-1", "empresa": "banco", "sede": "principal"});
    assert_eq!(data["hardware"], address);
    data["token"].as_str().unwrap().to_owned()
}

fn message(kind: &str) -> Value {
    json!({"banco": {"BOTONERA": {
        "sede": "principal", "alerta": kind, "nombre": "boton-1", "ubicacion": "Caja 3",
        "hardware_id": "boton-1", "coordenadas": {"lat": -0.95, "lng": -80.73},
    }}})
}

async fn send(client: &Client, path: &str, token: &str, message: &Value) -> Response {
    client
        .with_token(token)
        .post(path, None, message)
        .await
        .unwrap()
}

#[actix_web::test]
async fn an_alert_of_an_old_client_is_an_alert_like_any_other() {
    let atalaya = old_clients().await;
    let client = atalaya.client();
    let secret = button(&client).await;
    let token = token_for(&client, &secret).await;
    for (n, (name, kind, priority)) in [
        ("roja", "ROJO", "critica"),
        ("naranja", "NARANJA", "alta"),
        ("amarilla", "AMARILLO", "media"),
        ("verde", "VERDE", "baja"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = [ALERTS, "/api/mqtt-alerts/process"][n % 2];
        let taken = send(&client, path, &token, &message(name)).await;
        assert_eq!(taken.status, 201, "{}", taken.text());
        let data = taken.json()["data"].clone();
        assert_eq!(
            (&data["estado"], &data["tipo_alarma"], &data["prioridad"]),
            (&json!("ACEPTADA"), &json!(kind), &json!(priority))
        );
        let alert = client.alert(data["id"].as_str().unwrap()).await;
        assert_eq!(alert["estado"], "NUEVA");
        assert_eq!(
            alert["ubicacion"],
            json!({"texto": "Caja 3", "lat": -0.95, "lng": -80.73})
        );
        assert_eq!(alert["historia"][0]["canal"], "puente");
        // The same message again is no second one.
        let again = send(&client, path, &token, &message(name)).await;
        assert_eq!(
            (again.status, &again.json()["data"]["estado"]),
            (200, &json!("DUPLICADA"))
        );
        assert_eq!(
            client.alert(data["id"].as_str().unwrap()).await["veces"],
            alert["veces"]
        );
    }
    assert_eq!(client.count_alerts().await, 4);
    // The token may stand in the body, where clients have it.
    let mut inside = message("azul");
    inside["token"] = json!(token);
    let taken = client
        .anonymous()
        .post(ALERTS, None, &inside)
        .await
        .unwrap();
    assert_eq!(taken.status, 201, "{}", taken.text());
    // A kind that the company does not have is none.
    let unknown = send(&client, ALERTS, &token, &message("HUMO")).await;
    assert_eq!(unknown.status, 422, "{}", unknown.text());
    for body in [json!({}), json!({"banco": 1}), json!({"a": {}, "b": {}})] {
        let malformed = send(&client, ALERTS, &token, &body).await;
        assert_eq!(malformed.status, 400, "{body}");
        assert_eq!(malformed.json()["success"], false);
    }
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn who_proves_nothing_is_not_let_in() {
    let atalaya = old_clients().await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    // Nobody shows a secret without having been allowed to.
    assert_eq!(
        client.bare(Method::POST, SECRET).await.code(),
        "no_es_heredado"
    );
    let legacy = json!({"confianza": "heredada"});
    client.changes(Method::PATCH, DEVICE, &legacy, 200).await;
    let none = authenticate(&client, &credentials("")).await;
    assert_eq!((none.status, none.text().as_str()), (401, UNAUTHORISED));
    let secret = new_secret(&client).await;
    let with = |name: &str, value: &str| {
        let mut body = credentials(&secret);
        body[name] = json!(value);
        body
    };
    for body in [
        with("secreto", "x"),
        with("hardware_nombre", "boton-2"),
        with("hardware_nombre", "a/b"),
        with("empresa_nombre", "acme"),
        with("sede", "norte"),
    ] {
        let refused = authenticate(&client, &body).await;
        assert_eq!(
            (refused.status, refused.text().as_str()),
            (401, UNAUTHORISED),
            "{body}"
        );
    }
    let nobody = client.anonymous();
    let refused = nobody.post(ALERTS, None, &message("roja")).await.unwrap();
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (401, UNAUTHORISED)
    );
    // Nor does a token of a person make alerts here.
    let person = make_token_for(&client, "vigia", &json!([{"rol": "operador"}])).await;
    assert_eq!(
        send(&client, ALERTS, &person, &message("roja"))
            .await
            .status,
        401
    );
    assert_eq!(client.count_alerts().await, 0);

    // What is no device's own is not said by it.
    let token = token_for(&client, &secret).await;
    create_place(&client, "acme", "norte").await;
    register(&client, "acme", "norte", "boton-9", "BOTONERA").await;
    let changed = |path: &[&str], value: &str| {
        let mut body = message("roja");
        *path.iter().fold(&mut body, |at, name| &mut at[*name]) = json!(value);
        body
    };
    let mut acme = message("roja");
    acme["acme"] = acme["banco"].take();
    acme.as_object_mut().unwrap().remove("banco");
    for body in [
        acme,
        changed(&["banco", "BOTONERA", "sede"], "norte"),
        changed(&["banco", "BOTONERA", "hardware_id"], "boton-9"),
    ] {
        let refused = send(&client, ALERTS, &token, &body).await;
        assert_eq!(refused.status, 403, "{body}: {}", refused.text());
    }
    assert_eq!(client.count_alerts().await, 0);

    // A new secret, another trust or a device that is switched off ends it at once.
    new_secret(&client).await;
    assert_eq!(
        send(&client, ALERTS, &token, &message("roja")).await.status,
        401
    );
    let secret = new_secret(&client).await;
    for change in [json!({"confianza": "firma"}), json!({"activo": false})] {
        let token = token_for(&client, &secret).await;
        client.changes(Method::PATCH, DEVICE, &change, 200).await;
        assert_eq!(
            send(&client, ALERTS, &token, &message("roja")).await.status,
            401,
            "{change}"
        );
        let again = authenticate(&client, &credentials(&secret)).await;
        assert_eq!(again.status, 401, "{change}");
        let back = json!({"confianza": "heredada", "activo": true});
        client.changes(Method::PATCH, DEVICE, &back, 200).await;
    }
    let token = token_for(&client, &secret).await;
    assert_eq!(client.bare(Method::DELETE, SECRET).await.status, 204);
    assert_eq!(
        send(&client, ALERTS, &token, &message("roja")).await.status,
        401
    );
    assert_eq!(client.count_alerts().await, 0);
    // Nothing that would let anybody in stands in the journal.
    let facts = Records::of(&atalaya)
        .texts("SELECT CAST(details AS TEXT) AS value FROM journal WHERE fact = 5");
    assert!(facts.iter().any(|fact| fact.contains("secreto_heredado")));
    assert!(!facts.iter().any(|fact| fact.contains(&secret)));
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn whoever_tries_names_is_held_up() {
    let atalaya = old_clients().await;
    let client = atalaya.client();
    button(&client).await;
    let wrong = credentials("wrong");
    let held_up = eventually("it is held up", || async {
        let refused = authenticate(&client, &wrong).await;
        (refused.status == 429).then_some(refused)
    })
    .await;
    assert!(held_up.header("retry-after").is_some());
}

#[actix_web::test]
async fn people_find_and_close_them_as_before() {
    let atalaya = old_clients().await;
    let client = atalaya.client();
    let secret = button(&client).await;
    let token = token_for(&client, &secret).await;
    let mut ids = Vec::new();
    for kind in ["roja", "naranja", "amarilla"] {
        let taken = send(&client, ALERTS, &token, &message(kind)).await;
        ids.push(taken.json()["data"]["id"].as_str().unwrap().to_owned());
    }
    let get = async |path: &str| client.get(path).await.unwrap().json();
    let first = get("/api/mqtt-alerts?page=1&limit=2").await;
    assert_eq!(
        first["pagination"],
        json!({"page": 1, "limit": 2, "total": 3, "pages": 2})
    );
    let second = get("/api/mqtt-alerts?page=2&limit=2").await;
    let listed: Vec<&str> = [&first, &second]
        .into_iter()
        .flat_map(|page| page["data"].as_array().unwrap())
        .map(|alert| alert["alerta_id"].as_str().unwrap())
        .collect();
    let newest: Vec<&str> = ids.iter().rev().map(String::as_str).collect();
    assert_eq!(listed, newest);
    assert_eq!(get("/api/mqtt-alerts?page=9").await["data"], json!([]));
    for wrong in ["page=0", "limit=0", "limit=101", "page=x", "page=99999999"] {
        let refused = client.get(&format!("{ALERTS}?{wrong}")).await.unwrap();
        assert_eq!(refused.status, 400, "{wrong}");
    }
    let patch = async |client: &Client, id: &str, step: &str| {
        let path = format!("{ALERTS}/{id}/{step}");
        finish(client.request(Method::PATCH, &path).send())
            .await
            .unwrap()
    };
    let reader = make_token_for(&client, "lector", &json!([{"rol": "auditor"}])).await;
    let reader = client.with_token(&reader);
    assert_eq!(reader.get(ALERTS).await.unwrap().status, 200);
    assert_eq!(patch(&reader, &ids[0], "authorize").await.status, 403);
    let seen = patch(&client, &ids[0], "authorize").await;
    assert_eq!(
        (seen.status, &seen.json()["data"]["estado"]),
        (200, &json!("RECONOCIDA"))
    );
    let closed = patch(&client, &ids[0], "toggle-status").await;
    assert_eq!(closed.json()["data"]["estado"], "RESUELTA");
    // What is over does not begin again.
    let again = patch(&client, &ids[0], "toggle-status").await;
    assert_eq!(
        (again.status, &again.json()["success"]),
        (409, &json!(false))
    );
    let nobody = client.anonymous();
    assert_eq!(nobody.get(ALERTS).await.unwrap().text(), UNAUTHORISED);

    for (query, there, active) in [
        ("verify-hardware?hardware_nombre=boton-1", true, true),
        ("verify-hardware?hardware_nombre=nada", false, false),
        (
            "verify-empresa-sede?empresa_nombre=banco&sede=principal",
            true,
            true,
        ),
        (
            "verify-empresa-sede?empresa_nombre=banco&sede=luna",
            false,
            false,
        ),
    ] {
        let verified = get(&format!("{ALERTS}/{query}")).await;
        assert_eq!(
            verified["data"],
            json!({"existe": there, "activo": active}),
            "{query}"
        );
    }
    client
        .changes(Method::PATCH, DEVICE, &json!({"activo": false}), 200)
        .await;
    let verified = get("/api/mqtt-alerts/verify-hardware?hardware_nombre=boton-1").await;
    assert_eq!(verified["data"], json!({"existe": true, "activo": false}));
    assert_eq!(
        client
            .get("/api/mqtt-alerts/verify-hardware")
            .await
            .unwrap()
            .status,
        400
    );
}

#[actix_web::test]
async fn it_is_off_unless_it_is_switched_on() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let secret = button(&client).await;
    for (path, body) in [
        (AUTHENTICATE, credentials(&secret)),
        (ALERTS, message("roja")),
    ] {
        let missing = client.post(path, None, &body).await.unwrap();
        assert_eq!(missing.code(), "no_encontrado", "{path}");
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

#[actix_web::test]
async fn a_token_is_good_for_five_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let flags = Flags::parse_from([
        "atalaya".to_owned(),
        "--mqtt=off".to_owned(),
        "--legacy-api=on".to_owned(),
        "--http-port=0".to_owned(),
        "--server-port=0".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--database-url=sqlite://{}/atalaya.db", data.display()),
        format!("--admin-token={ADMIN_TOKEN}"),
        "--admin-password=correct horse battery".to_owned(),
    ]);
    let now = Arc::new(AtomicI64::new(1_768_487_400_000_000));
    let shown = Arc::clone(&now);
    let clock = Clock::from_fn(move || shown.load(Ordering::Relaxed));
    let config = Config::try_from(flags.serve).unwrap();
    let application = Application::build(config, clock).await.unwrap();
    let client = Client::new(format!("http://{}", application.http())).with_token(ADMIN_TOKEN);
    actix_web::rt::spawn(application.run_until(std::future::pending()));
    let body = json!({
        "hardware": "boton-1", "empresa": "banco", "sede": "principal", "tipo": "BOTONERA",
        "confianza": "heredada",
    });
    client
        .changes(Method::POST, "/api/v1/hardware", &body, 201)
        .await;
    let secret = new_secret(&client).await;
    let token = token_for(&client, &secret).await;
    let later = |seconds: i64| now.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    later(299);
    assert_eq!(
        send(&client, ALERTS, &token, &message("roja")).await.status,
        201
    );
    later(1);
    assert_eq!(
        send(&client, ALERTS, &token, &message("verde"))
            .await
            .status,
        401
    );
    let token = token_for(&client, &secret).await;
    assert_eq!(
        send(&client, ALERTS, &token, &message("verde"))
            .await
            .status,
        201
    );
}
