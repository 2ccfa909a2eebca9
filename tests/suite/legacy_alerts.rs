//! Alert clients from before Atalaya: what lets their devices in, what becomes of their alerts, and
//! for whom the rest of their addresses is.

use crate::support::access::{ADMIN_TOKEN, make_token_for};
use crate::support::client::{Client, Response, finish};
use crate::support::device::{Device, create_place, register};
use crate::support::guest::Guest;
use crate::support::hub::{assert_refused, changes};
use crate::support::mariadb::on_files;
use crate::support::{Atalaya, Records, audit, eventually};
use atalaya::application::Application;
use atalaya::clock::Clock;
use atalaya::config::{Config, ServeArgs};
use atalaya::storage::Location;
use awc::http::Method;
use clap::Parser;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use rumqttc::v5::mqttbytes::QoS;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const AUTHENTICATE: &str = "/api/hardware-auth/authenticate";
const ALERTS: &str = "/api/mqtt-alerts";
const PROCESS: &str = "/api/mqtt-alerts/process";

const UNAUTHORISED: &str = r#"{"success":false,"error":"No autorizado","detalles":null}"#;

async fn serving() -> Atalaya {
    Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .start()
        .await
}

/// A device of `banco` at `principal` that shows a secret, and the secret.
async fn heir(client: &Client, name: &str) -> String {
    register(client, "banco", "principal", name, "BOTONERA").await;
    trust(client, name, "heredada").await;
    secret(client, name).await
}

async fn trust(client: &Client, name: &str, trust: &str) {
    let path = format!("/api/v1/hardware/{name}");
    let body = json!({ "confianza": trust });
    let changed = client.changes(Method::PATCH, &path, &body, 200).await;
    assert_eq!(changed["confianza"], trust);
}

async fn secret(client: &Client, name: &str) -> String {
    let path = format!("/api/v1/hardware/{name}/secreto_heredado");
    let made = client.changes(Method::POST, &path, &json!({}), 201).await;
    assert_eq!(made["hardware"], name);
    made["secreto"].as_str().expect("shown once").to_owned()
}

fn login(name: &str, secret: &str) -> Value {
    json!({"hardware_nombre": name, "empresa_nombre": "banco", "sede": "principal",
        "secreto": secret})
}

async fn authenticate(client: &Client, body: &Value) -> Response {
    let client = client.anonymous();
    client.post(AUTHENTICATE, None, body).await.unwrap()
}

/// The token that a device gets for its secret.
async fn token(client: &Client, name: &str, secret: &str) -> String {
    let answer = authenticate(client, &login(name, secret)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(
        (&answer["success"], &answer["data"]["expires_in"]),
        (&json!(true), &json!(300))
    );
    assert_eq!(answer["data"]["hardware"]["hardware_id"], name);
    answer["data"]["token"].as_str().unwrap().to_owned()
}

/// A message as clients of before write them.
fn told(name: &str, word: &str) -> Value {
    json!({"banco": {"BOTONERA": {"sede": "principal", "alerta": word, "nombre": name,
        "ubicacion": "Planta baja", "hardware_id": name,
        "coordenadas": {"lat": -0.95, "lng": -80.7}}}})
}

async fn hand_in(client: &Client, token: &str, message: &Value) -> Response {
    let client = client.with_token(token);
    client.post(PROCESS, None, message).await.unwrap()
}

/// The alert that a message made.
async fn taken(client: &Client, token: &str, message: &Value) -> Value {
    let answer = hand_in(client, token, message).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(
        (&answer["success"], &answer["data"]["estado"]),
        (&json!(true), &json!("ACEPTADA"))
    );
    answer["data"].clone()
}

#[track_caller]
fn assert_unauthorised(answer: &Response, what: &str) {
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (401, UNAUTHORISED),
        "{what}"
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// It was not done, and why is told as clients of before read it.
#[track_caller]
fn assert_failed(answer: &Response, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{what}"
    );
    let body = answer.json();
    assert_eq!(body["success"], false, "{what}");
    assert!(
        body["error"].is_string() && body.get("detalles").is_some(),
        "{what}: {body}"
    );
}

#[actix_web::test]
async fn a_device_is_let_in_once_somebody_wants_it_so() {
    let atalaya = serving().await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    let path = "/api/v1/hardware/boton-1/secreto_heredado";
    let refused = client.bare(Method::POST, path).await;
    assert_refused(&refused, 409, "no_es_heredado", "it has to sign");
    trust(&client, "boton-1", "heredada").await;
    let none = authenticate(&client, &login("boton-1", "")).await;
    assert_unauthorised(&none, "it has no secret yet");
    let secret = secret(&client, "boton-1").await;
    assert_eq!(secret.len(), 43);
    assert!(client.json("/api/v1/hardware/boton-1").await["secreto_heredado"].is_string());

    // By the names of before, and by the names for people.
    let named = json!({"nombre": "Banco Central"});
    client
        .changes(Method::PATCH, "/api/v1/empresas/banco", &named, 200)
        .await;
    let short = json!({"nombre": "boton-1", "empresa": "Banco Central", "sede": "principal",
        "secret": secret, "mac": "aa:bb"});
    assert_eq!(authenticate(&client, &short).await.status, 200);

    // Whatever is wrong is told alike.
    Device::enrol(&client, "boton-2").await;
    create_place(&client, "banco", "sur").await;
    let with = |field: &str, value: &str| {
        let mut body = login("boton-1", &secret);
        body[field] = json!(value);
        body
    };
    for (body, what) in [
        (with("secreto", "no"), "another secret"),
        (
            with("secreto", &"x".repeat(43)),
            "another secret of that length",
        ),
        (with("hardware_nombre", "nadie"), "no such device"),
        (with("hardware_nombre", "no/es"), "no name of a device"),
        (with("hardware_nombre", "Botón"), "nobody's name for people"),
        (with("hardware_nombre", "boton-2"), "a device that signs"),
        (with("empresa_nombre", "otra"), "another company"),
        (with("sede", "sur"), "another site"),
    ] {
        assert_unauthorised(&authenticate(&client, &body).await, what);
    }
    // It may go by its name for people, where that is one device's alone.
    let called = json!({"nombre": "Botón del mostrador"});
    let path = "/api/v1/hardware/boton-1";
    client.changes(Method::PATCH, path, &called, 200).await;
    let by_name = with("hardware_nombre", "Botón del mostrador");
    assert_eq!(authenticate(&client, &by_name).await.status, 200);
    let path = "/api/v1/hardware/boton-2";
    client.changes(Method::PATCH, path, &called, 200).await;
    assert_unauthorised(&authenticate(&client, &by_name).await, "the name of two");
    assert_failed(
        &authenticate(&client, &json!({"nombre": "boton-1"})).await,
        400,
        "half a body",
    );
    let text = client.anonymous().request(Method::POST, AUTHENTICATE);
    assert_failed(&finish(text.send_body("x")).await.unwrap(), 415, "no JSON");

    // Whoever is off is out, and so is everything below.
    for (path, field) in [
        ("/api/v1/hardware/boton-1", "activo"),
        ("/api/v1/sedes/banco/principal", "activa"),
        ("/api/v1/empresas/banco", "activa"),
    ] {
        let held = token(&client, "boton-1", &secret).await;
        client
            .changes(Method::PATCH, path, &json!({field: false}), 200)
            .await;
        assert_unauthorised(
            &authenticate(&client, &login("boton-1", &secret)).await,
            path,
        );
        let answer = hand_in(&client, &held, &told("boton-1", "roja")).await;
        assert_unauthorised(&answer, "a token of before");
        client
            .changes(Method::PATCH, path, &json!({field: true}), 200)
            .await;
        assert_eq!(
            authenticate(&client, &login("boton-1", &secret))
                .await
                .status,
            200
        );
    }
    assert_eq!(client.count_alerts().await, 0);
    // Who was turned away stands in the record, and what they showed does not.
    eventually("it stands in the record", || async {
        let page = client
            .json("/api/v1/auditoria?limite=200")
            .await
            .to_string();
        assert!(!page.contains(&secret));
        page.contains("boton-2").then_some(())
    })
    .await;
}

#[actix_web::test]
async fn wrong_attempts_are_counted_and_keep_nobody_out() {
    let atalaya = serving().await;
    let client = atalaya.client();
    let secret = heir(&client, "boton-1").await;
    let mut last = authenticate(&client, &login("boton-1", "no")).await;
    for _ in 0..80 {
        if last.status != 401 {
            break;
        }
        last = authenticate(&client, &login("boton-1", "no")).await;
    }
    assert_failed(&last, 429, "too many");
    assert!(last.header("retry-after").is_some());
    let right = authenticate(&client, &login("boton-1", &secret)).await;
    assert_eq!(right.status, 200, "somebody's guesses keep a device out");
}

#[actix_web::test]
async fn words_of_before_are_alerts_of_today() {
    let atalaya = serving().await;
    let client = atalaya.client();
    let words = [
        ("roja", "ROJO", "critica"),
        ("critica", "ROJO", "critica"),
        ("ROJO", "ROJO", "critica"),
        ("naranja", "NARANJA", "alta"),
        ("amarilla", "AMARILLO", "media"),
        ("precaucion", "AMARILLO", "media"),
        ("verde", "VERDE", "baja"),
        ("normal", "VERDE", "baja"),
        ("azul", "AZUL", "alta"),
        ("Humo", "Humo", "media"),
    ];
    client.put_kind("Humo", json!({})).await;
    for (number, (word, kind, priority)) in words.into_iter().enumerate() {
        let name = format!("boton-{number}");
        let secret = heir(&client, &name).await;
        let token = token(&client, &name, &secret).await;
        let made = taken(&client, &token, &told(&name, word)).await;
        assert_eq!(
            (&made["tipo_alarma"], &made["prioridad"]),
            (&json!(kind), &json!(priority)),
            "{word}"
        );
        assert_eq!(made["hardware"], name.as_str());
    }
    let secret = heir(&client, "boton-x").await;
    let token = token(&client, "boton-x", &secret).await;
    // The kind may be named by the level above, and the rest told to people.
    let other = json!({"banco": {"azul": {"alerta": "Robo en caja", "hardware_id": "boton-x"}}});
    let made = taken(&client, &token, &other).await;
    let alert = client.alert(made["id"].as_str().unwrap()).await;
    assert_eq!(
        (&alert["tipo_alarma"], &alert["descripcion"]),
        (&json!("AZUL"), &json!("Robo en caja"))
    );
    // The token in the body is as good, and goes no further.
    let mut whole = told("boton-x", "verde");
    whole["token"] = json!(token);
    let answer = client.anonymous().post(ALERTS, None, &whole).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    let alert = client
        .alert(answer.json()["data"]["id"].as_str().unwrap())
        .await;
    assert_eq!(
        alert["ubicacion"],
        json!({"texto": "Planta baja", "lat": -0.95, "lng": -80.7})
    );
    assert_eq!(alert["datos"]["nombre"], "boton-x");
    let made = &alert["historia"][0];
    assert_eq!(
        (&made["por"], &made["canal"], &made["confianza"]),
        (&json!("hardware"), &json!("puente"), &json!("heredada"))
    );
    assert!(client.json("/api/v1/hardware/boton-x").await["ultima_senal"].is_string());
    // A sign of life makes no alert.
    let beat = hand_in(&client, &token, &told("boton-x", "LATIDO")).await;
    assert_eq!(
        (beat.status, &beat.json()["data"]["id"]),
        (201, &Value::Null)
    );

    for (message, status, what) in [
        (told("boton-x", "lila"), 422, "no such kind"),
        (
            told("boton-x", "DISPOSITIVO_SILENCIOSO"),
            422,
            "a kind of our own",
        ),
        (json!({"banco": {}}), 400, "no message"),
        (json!({"banco": {"BOTONERA": []}}), 400, "an array"),
    ] {
        assert_failed(&hand_in(&client, &token, &message).await, status, what);
    }
    let off = json!({"activo": false});
    client.put_kind("VERDE", off).await;
    let answer = hand_in(&client, &token, &told("boton-x", "normal")).await;
    assert_failed(&answer, 422, "a kind that is off");
    assert_eq!(client.count_alerts().await, words.len() + 2);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn one_message_is_one_alert_while_it_lasts_and_a_new_press_is_heard() {
    let atalaya = Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .set("ALERT_BOUNCE_MS", 0)
        .start()
        .await;
    let client = atalaya.client();
    let secret = heir(&client, "boton-1").await;
    let first = token(&client, "boton-1", &secret).await;
    let message = told("boton-1", "roja");
    let made = taken(&client, &first, &message).await;
    let id = made["id"].as_str().unwrap();
    for _ in 0..3 {
        let again = hand_in(&client, &first, &message).await;
        assert_eq!(again.status, 200, "{}", again.text());
        let again = again.json();
        assert_eq!(
            (&again["data"]["estado"], &again["data"]["id"]),
            (&json!("DUPLICADA"), &made["id"])
        );
    }
    let alert = client.alert(id).await;
    assert_eq!(
        (changes(&alert).as_slice(), &alert["repeticiones"]),
        (&["CREADA"][..], &json!(1))
    );
    // Under another token it is another press, of the same alert while that is open.
    let second = token(&client, "boton-1", &secret).await;
    assert_eq!(taken(&client, &second, &message).await["id"], made["id"]);
    let alert = client.alert(id).await;
    assert_eq!(alert["repeticiones"], 2);

    // After that is over, a button that says the same calls for help again.
    for _ in 0..2 {
        let open = client.json("/api/v1/alertas?abiertas=true").await["datos"][0].clone();
        let open = open["alerta_id"].as_str().unwrap().to_owned();
        assert_eq!(client.step(&open, "resolver", &json!({})).await.status, 200);
        let again = taken(&client, &first, &message).await;
        assert_ne!(again["id"], open.as_str());
        let repeat = hand_in(&client, &first, &message).await.json();
        assert_eq!(
            (&repeat["data"]["estado"], &repeat["data"]["id"]),
            (&json!("DUPLICADA"), &again["id"])
        );
    }
    assert_eq!(client.count_alerts().await, 3);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn the_same_message_many_times_at_once_is_one_alert() {
    let atalaya = serving().await;
    let client = atalaya.client();
    let secret = heir(&client, "boton-1").await;
    let held = token(&client, "boton-1", &secret).await;
    let message = told("boton-1", "roja");
    let asked = (0..40).map(|_| hand_in(&client, &held, &message));
    let answers = futures_util::future::join_all(asked).await;
    let count = |status: u16| answers.iter().filter(|a| a.status == status).count();
    assert_eq!((count(201), count(200)), (1, 39));
    let id = answers[0].json()["data"]["id"].clone();
    assert!(answers.iter().all(|a| a.json()["data"]["id"] == id));
    let alert = client.alert(id.as_str().unwrap()).await;
    assert_eq!(alert["repeticiones"], 1);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn a_page_that_is_allowed_may_follow_alerts_and_no_other() {
    let atalaya = Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .set("TCP_TRUSTED", "127.0.0.1=operador:banco")
        .set("ALLOWED_ORIGINS", "https://alertas.example")
        .start()
        .await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    let id = client.raise("boton-1", "ROJO").await.json()["alerta_id"].clone();
    let path = format!("{ALERTS}/{}/authorize", id.as_str().unwrap());
    let from = async |method: Method, origin: &str| {
        let request = client.anonymous().request(method, &path);
        let request = request.insert_header(("origin", origin));
        finish(request.send()).await.unwrap()
    };
    let asked = from(Method::OPTIONS, "https://alertas.example").await;
    assert_eq!(asked.status, 204);
    assert_eq!(asked.header("access-control-allow-methods"), Some("PATCH"));
    assert_eq!(
        from(Method::PATCH, "https://alertas.example").await.status,
        200
    );
    // What is trusted for its address must not do what a foreign page tells it.
    let foreign = from(Method::PATCH, "https://mala.example").await;
    assert_failed(&foreign, 403, "a foreign page");
    assert_eq!(
        client.alert(id.as_str().unwrap()).await["estado"],
        "RECONOCIDA"
    );
}

#[actix_web::test]
async fn a_token_speaks_for_its_own_device_alone() {
    let atalaya = serving().await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    create_place(&client, "banco", "sur").await;
    let secret = heir(&client, "boton-1").await;
    heir(&client, "boton-2").await;
    let held = token(&client, "boton-1", &secret).await;
    let of = |company: &str, site: &str, device: &str| json!({company: {"BOTONERA": {"sede": site, "alerta": "roja", "hardware_id": device}}});
    for (message, what) in [
        (of("acme", "principal", "boton-1"), "another company"),
        (of("banco", "sur", "boton-1"), "another site"),
        (of("banco", "principal", "boton-2"), "another device"),
        (of("banco", "principal", "7"), "no device"),
    ] {
        assert_failed(&hand_in(&client, &held, &message).await, 403, what);
    }
    let kept = eventually("all are in quarantine", || async {
        let kept = client
            .walk("/api/v1/cuarentena", "&hardware=boton-1", 50)
            .await;
        (kept.len() == 4).then_some(kept)
    })
    .await;
    assert!(
        kept.iter().all(|kept| kept["motivo"] == "IDENTIDAD"),
        "{kept:?}"
    );
    // What was refused is not believed from there either.
    let path = format!("/api/v1/cuarentena/{}/reenviar", kept[0]["id"]);
    assert_eq!(client.bare(Method::POST, &path).await.status, 422);
    assert_eq!(atalaya.messages("rejected", "IDENTIDAD").await, 4.0);

    // Neither is a token of anything else, or none.
    let person = make_token_for(&client, "vigia", &json!([{"rol": "operador"}])).await;
    let message = told("boton-1", "roja");
    for (other, what) in [
        (person.as_str(), "a program's"),
        (ADMIN_TOKEN, "an admin's"),
        (&"x".repeat(47), "nobody's"),
        ("short", "no token"),
    ] {
        assert_unauthorised(&hand_in(&client, other, &message).await, what);
    }
    let none = client
        .anonymous()
        .post(PROCESS, None, &message)
        .await
        .unwrap();
    assert_unauthorised(&none, "none");
    // And a device's opens nothing else.
    for path in [
        ALERTS,
        "/api/v1/alertas",
        "/api/mqtt-alerts/verify-hardware?hardware_nombre=boton-1",
    ] {
        assert_eq!(
            client.with_token(&held).get(path).await.unwrap().status,
            401,
            "{path}"
        );
    }
    assert_eq!(client.count_alerts().await, 0);
}

#[actix_web::test]
async fn a_secret_that_is_over_ends_with_the_next_message() {
    let mut atalaya = Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .set("RUST_LOG", "trace,actix_http=off")
        .start()
        .await;
    let client = atalaya.client();
    let path = "/api/v1/hardware/boton-1/secreto_heredado";
    let first = heir(&client, "boton-1").await;
    let mut tokens = Vec::new();
    let message = told("boton-1", "roja");
    // A new one.
    tokens.push(token(&client, "boton-1", &first).await);
    taken(&client, &tokens[0], &message).await;
    let second = secret(&client, "boton-1").await;
    assert_ne!(first, second);
    assert_unauthorised(
        &hand_in(&client, &tokens[0], &message).await,
        "a new secret",
    );
    assert_unauthorised(
        &authenticate(&client, &login("boton-1", &first)).await,
        "the old one",
    );
    // None.
    tokens.push(token(&client, "boton-1", &second).await);
    assert_eq!(client.bare(Method::DELETE, path).await.status, 204);
    assert_eq!(client.bare(Method::DELETE, path).await.status, 204);
    assert_unauthorised(&hand_in(&client, &tokens[1], &message).await, "no secret");
    assert!(client.json("/api/v1/hardware/boton-1").await["secreto_heredado"].is_null());
    // Another trust, which ends it for good.
    let third = secret(&client, "boton-1").await;
    tokens.push(token(&client, "boton-1", &third).await);
    trust(&client, "boton-1", "firma").await;
    assert_unauthorised(
        &hand_in(&client, &tokens[2], &message).await,
        "another trust",
    );
    trust(&client, "boton-1", "heredada").await;
    assert_unauthorised(
        &authenticate(&client, &login("boton-1", &third)).await,
        "back again",
    );
    // Tokens are in memory alone; secrets outlive a restart.
    let fourth = secret(&client, "boton-1").await;
    tokens.push(token(&client, "boton-1", &fourth).await);
    // A device holds few.
    for _ in 0..4 {
        tokens.push(token(&client, "boton-1", &fourth).await);
    }
    assert_unauthorised(
        &hand_in(&client, &tokens[3], &message).await,
        "the oldest of five",
    );
    assert_eq!(hand_in(&client, &tokens[4], &message).await.status, 201);
    atalaya.kill();
    atalaya.start().await;
    assert_unauthorised(
        &hand_in(&client, &tokens[7], &message).await,
        "of before the crash",
    );
    tokens.push(token(&client, "boton-1", &fourth).await);
    assert_eq!(hand_in(&client, &tokens[8], &message).await.status, 201);
    // A refused message that holds its token in the body is kept without it.
    let mut foreign = json!({"acme": {"roja": {}}});
    foreign["token"] = json!(tokens[8]);
    let refused = client
        .anonymous()
        .post(PROCESS, None, &foreign)
        .await
        .unwrap();
    assert_failed(&refused, 403, "another company");
    eventually("it is in quarantine", || async {
        let kept = client.walk("/api/v1/cuarentena", "", 50).await;
        (kept.len() == 1).then_some(())
    })
    .await;

    let facts = client
        .json("/api/v1/auditoria?limite=200")
        .await
        .to_string();
    assert!(facts.contains("secreto_heredado"), "{facts}");
    atalaya.terminate().await;
    audit(&atalaya.database()).unwrap();
    let shown = [&[first, second, third, fourth][..], &tokens].concat();
    let mut files = vec![atalaya.log()];
    for folder in ["logs", "data"] {
        for file in std::fs::read_dir(atalaya.folder().join(folder))
            .unwrap()
            .flatten()
        {
            if let Ok(bytes) = std::fs::read(file.path()) {
                files.push(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    for secret in &shown {
        assert!(files.iter().all(|file| !file.contains(secret.as_str())));
    }
}

#[actix_web::test]
async fn it_drives_hardware_and_speaks_no_plain_json_over_mqtt() {
    let atalaya = Atalaya::with_embedded_broker()
        .set("LEGACY_API", "on")
        .start()
        .await;
    atalaya.listens().await;
    let client = atalaya.client();
    let secret = heir(&client, "boton-1").await;
    register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let mut light = Guest::connect(Guest::options(atalaya.mqtt_port, "luz-1"))
        .await
        .unwrap();
    assert_eq!(
        light
            .asks_for("empresas/banco/principal/luz-1/comando")
            .await,
        1
    );
    let held = token(&client, "boton-1", &secret).await;
    let made = taken(&client, &held, &told("boton-1", "roja")).await;
    let command = light.message().await.json();
    assert_eq!(
        (&command["alerta_id"], &command["tipo_alarma"]),
        (&made["id"], &json!("ROJO"))
    );

    let mut line = Guest::connect(Guest::options(atalaya.mqtt_port, "boton-1"))
        .await
        .unwrap();
    assert_eq!(
        line.asks_for("empresas/banco/principal/boton-1/respuesta")
            .await,
        1
    );
    for message in [
        json!({"seq": 1, "tipo_alarma": "AZUL"}),
        told("boton-1", "azul"),
    ] {
        let topic = "empresas/banco/principal/boton-1/alerta";
        let code = line
            .publish(topic, QoS::AtLeastOnce, false, &message.to_string())
            .await;
        assert_eq!(code, 0);
        let answer = line.message().await.json();
        assert_eq!(
            (&answer["estado"], &answer["motivo"]),
            (&json!("RECHAZADA"), &json!("FORMA"))
        );
    }
    // What it signs is taken as that of any other.
    let mut signer = Device::enrol(&client, "boton-2").await;
    trust(&client, "boton-2", "heredada").await;
    client.accepts(&signer.alert("VERDE")).await;
    assert_eq!(client.count_alerts().await, 2);
}

#[actix_web::test]
async fn one_device_that_floods_is_throttled() {
    let atalaya = Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .set("DEVICE_RATE", 1)
        .set("DEVICE_BURST", 5)
        .start()
        .await;
    let client = atalaya.client();
    let secrets = [
        heir(&client, "boton-1").await,
        heir(&client, "boton-2").await,
    ];
    let loud = token(&client, "boton-1", &secrets[0]).await;
    let quiet = token(&client, "boton-2", &secrets[1]).await;
    let mut refused = 0;
    for _ in 0..20 {
        let answer = hand_in(&client, &loud, &told("boton-1", "roja")).await;
        if answer.status == 429 {
            assert_failed(&answer, 429, "too many");
            assert!(answer.header("retry-after").is_some());
            refused += 1;
        }
    }
    assert!(refused >= 5, "{refused}");
    taken(&client, &quiet, &told("boton-2", "roja")).await;
}

#[actix_web::test]
async fn people_check_list_and_follow() {
    let atalaya = Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .set("TCP_TRUSTED", "127.0.0.1=operador:banco")
        .start()
        .await;
    let admin = atalaya.client();
    create_place(&admin, "acme", "norte").await;
    let secret = heir(&admin, "boton-1").await;
    register(&admin, "acme", "norte", "ajeno-1", "BOTONERA").await;
    let foreign = admin.raise("ajeno-1", "ROJO").await.json()["alerta_id"].clone();
    let foreign = foreign.as_str().unwrap().to_owned();
    let mut ids = Vec::new();
    for word in ["roja", "naranja", "amarilla", "verde", "azul"] {
        let held = token(&admin, "boton-1", &secret).await;
        let made = taken(&admin, &held, &told("boton-1", word)).await;
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    let roles = |role: &str| json!([{"rol": role, "empresa": "banco"}]);
    let by = async |name: &str, role: &str| {
        let token = make_token_for(&admin, name, &roles(role)).await;
        admin.with_token(&token)
    };
    let (operator, auditor) = (by("op", "operador").await, by("au", "auditor").await);
    let teller = by("ca", "cajero").await;
    // An address that is trusted is as good as a token.
    let trusted = admin.anonymous();

    for client in [&operator, &auditor, &trusted] {
        let check = |path: &str| format!("{ALERTS}/{path}");
        let there = client
            .json(&check("verify-hardware?hardware_nombre=boton-1"))
            .await;
        assert_eq!(
            (
                &there["success"],
                &there["data"]["existe"],
                &there["data"]["activo"]
            ),
            (&json!(true), &json!(true), &json!(true))
        );
        for name in ["nadie", "ajeno-1", "a%2Fb"] {
            let path = check(&format!("verify-hardware?hardware_nombre={name}"));
            assert_eq!(client.json(&path).await["data"]["existe"], false, "{name}");
        }
        for (company, site, there) in [
            ("banco", "principal", true),
            ("banco", "nada", false),
            ("acme", "norte", false),
            ("nada", "principal", false),
        ] {
            let path = check(&format!(
                "verify-empresa-sede?empresa_nombre={company}&sede={site}"
            ));
            let data = client.json(&path).await["data"].clone();
            assert_eq!(
                (&data["existe"], &data["activo"]),
                (&json!(there), &json!(there)),
                "{path}"
            );
        }
        let page = client.json(&format!("{ALERTS}?page=1&limit=2")).await;
        assert_eq!(
            page["pagination"],
            json!({"page": 1, "limit": 2, "total": 5, "pages": 3})
        );
        let mut seen = Vec::new();
        for number in 1..=4 {
            let page = client
                .json(&format!("{ALERTS}?page={number}&limit=2"))
                .await;
            for alert in page["data"].as_array().unwrap() {
                assert_eq!(
                    (&alert["activo"], &alert["id"]),
                    (&json!(true), &alert["alerta_id"])
                );
                seen.push(alert["id"].as_str().unwrap().to_owned());
            }
        }
        seen.reverse();
        assert_eq!(seen, ids);
        assert_eq!(
            client.json(ALERTS).await["data"].as_array().unwrap().len(),
            5
        );
        let most = client.json(&format!("{ALERTS}?limit=100000")).await;
        assert_eq!(most["pagination"]["limit"], 200);
        for query in ["page=0", "page=x", "limit=-1", "page=501&limit=200"] {
            let path = format!("{ALERTS}?{query}");
            assert_failed(&client.get(&path).await.unwrap(), 400, query);
        }
    }
    let step = async |client: &Client, id: &str, step: &str| {
        client
            .bare(Method::PATCH, &format!("{ALERTS}/{id}/{step}"))
            .await
    };
    for (client, who) in [(&auditor, "an auditor"), (&teller, "a teller")] {
        for word in ["authorize", "toggle-status"] {
            assert_failed(&step(client, &ids[0], word).await, 403, who);
        }
    }
    assert_failed(&teller.get(ALERTS).await.unwrap(), 403, "a teller");
    for (client, id) in [(&operator, &ids[0]), (&trusted, &ids[1])] {
        for _ in 0..2 {
            let done = step(client, id, "authorize").await;
            assert_eq!(done.status, 200, "{}", done.text());
            let data = done.json()["data"].clone();
            assert_eq!(
                (&data["estado"], &data["autorizado"]),
                (&json!("RECONOCIDA"), &json!(true))
            );
        }
        let done = step(client, id, "toggle-status").await.json();
        assert_eq!(
            (&done["data"]["estado"], &done["data"]["activo"]),
            (&json!("RESUELTA"), &json!(false))
        );
        for word in ["authorize", "toggle-status"] {
            assert_failed(&step(client, id, word).await, 409, "it is over");
        }
        for id in [
            foreign.as_str(),
            "x",
            "01990000-0000-7000-8000-000000000000",
        ] {
            assert_failed(&step(client, id, "authorize").await, 404, id);
        }
    }
    let alert = admin.alert(&ids[1]).await;
    assert_eq!(changes(&alert), ["CREADA", "RECONOCIDA", "RESUELTA"]);
    assert_eq!(alert["historia"][0]["por"], "terminal");
    // Trust is for these addresses alone.
    assert_eq!(trusted.get("/api/v1/alertas").await.unwrap().status, 401);
    for (method, path) in [
        (Method::DELETE, ALERTS),
        (Method::GET, PROCESS),
        (Method::GET, AUTHENTICATE),
    ] {
        assert_failed(&operator.bare(method, path).await, 405, path);
    }
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn nobody_is_served_where_it_is_off_and_strangers_not_at_all() {
    for on in ["off", "on"] {
        let atalaya = Atalaya::without_mqtt().set("LEGACY_API", on).start().await;
        let client = atalaya.client();
        for (path, method) in [
            (AUTHENTICATE, Method::POST),
            (ALERTS, Method::POST),
            (ALERTS, Method::GET),
            (PROCESS, Method::POST),
            ("/api/mqtt-alerts/verify-hardware", Method::GET),
            ("/api/mqtt-alerts/verify-empresa-sede", Method::GET),
            ("/api/mqtt-alerts/x/authorize", Method::PATCH),
            ("/api/mqtt-alerts/x/toggle-status", Method::PATCH),
        ] {
            for client in [&client, &client.anonymous()] {
                let body = login("boton-1", "x");
                let answer = match method {
                    Method::POST => client.send(method.clone(), path, &body).await,
                    _ => client.bare(method.clone(), path).await,
                };
                if on == "off" {
                    assert_refused(&answer, 404, "no_encontrado", path);
                }
            }
            if on == "on" && method != Method::POST {
                let answer = client.anonymous().bare(method, path).await;
                assert_unauthorised(&answer, path);
            }
        }
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// 2026-01-15T14:30:00Z, in microseconds.
const START: i64 = 1_768_487_400_000_000;

#[actix_web::test]
async fn a_token_is_good_for_five_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let database = data.join("atalaya.db");
    let flags = Flags::parse_from([
        "atalaya".to_owned(),
        "--mqtt=off".to_owned(),
        "--http-port=0".to_owned(),
        "--server-port=0".to_owned(),
        "--legacy-api=on".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--database-url=sqlite://{}", database.display()),
        format!("--admin-token={ADMIN_TOKEN}"),
        "--admin-password=correct horse battery".to_owned(),
    ]);
    let now = Arc::new(AtomicI64::new(START));
    let told_now = Arc::clone(&now);
    let clock = Clock::from_fn(move || told_now.load(Ordering::Relaxed));
    let config = Config::try_from(flags.serve).unwrap();
    let application = Application::build(config, clock).await.unwrap();
    let client = Client::new(format!("http://{}", application.http())).with_token(ADMIN_TOKEN);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = actix_web::rt::spawn(application.run_until(async move {
        let _ = stopped.await;
    }));
    let secret = heir(&client, "boton-1").await;
    let held = token(&client, "boton-1", &secret).await;
    let second = 1_000_000;
    now.store(START + 300 * second - 1, Ordering::Relaxed);
    taken(&client, &held, &told("boton-1", "roja")).await;
    now.store(START + 300 * second, Ordering::Relaxed);
    let answer = hand_in(&client, &held, &told("boton-1", "naranja")).await;
    assert_unauthorised(&answer, "after five minutes");
    // Whatever the clock does next.
    for jump in [i64::MAX, 0, START + 301 * second] {
        now.store(jump, Ordering::Relaxed);
        let _ = hand_in(&client, &held, &told("boton-1", "azul")).await;
    }
    let next = token(&client, "boton-1", &secret).await;
    taken(&client, &next, &told("boton-1", "verde")).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    audit(&Location::Sqlite(database)).unwrap();
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = diesel::sql_types::Text)]
    line: String,
}

fn lines(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let found: Vec<Found> = diesel::sql_query(sql).load(connection).unwrap();
    found.into_iter().map(|found| found.line).collect()
}

/// The migrations of `folder` whose numbers are at most `last`, in a folder of their own.
fn migrations_until(last: &str) -> (tempfile::TempDir, FileBasedMigrations) {
    let folder = tempfile::tempdir().unwrap();
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    for migration in std::fs::read_dir(all).unwrap().flatten() {
        let name = migration.file_name();
        if name.to_str().unwrap() <= last {
            let copy = folder.path().join(&name);
            std::fs::create_dir(&copy).unwrap();
            for file in ["up.sql", "down.sql"] {
                std::fs::copy(migration.path().join(file), copy.join(file)).unwrap();
            }
        }
    }
    let migrations = FileBasedMigrations::from_path(folder.path()).unwrap();
    (folder, migrations)
}

#[actix_web::test]
async fn a_database_of_before_is_taken_over_with_its_devices() {
    if !on_files() {
        return;
    }
    let mut atalaya = Atalaya::without_mqtt().prepare();
    std::fs::create_dir_all(atalaya.file().parent().unwrap()).unwrap();
    let open = |atalaya: &Atalaya| {
        let mut connection = SqliteConnection::establish(atalaya.file().to_str().unwrap()).unwrap();
        connection
            .batch_execute("PRAGMA foreign_keys = ON")
            .unwrap();
        connection
    };
    let (_kept, before) = migrations_until("0005_z");
    let devices = "SELECT d.id || ' ' || d.slug || ' ' || d.trust || ' ' || d.active || ' ' || \
                   coalesce(k.kid, '-') AS line FROM devices d LEFT JOIN device_keys k \
                   ON k.device_id = d.id ORDER BY d.id";
    let known = ["1 boton-1 1 1 k1", "2 sensor-1 2 0 -", "3 luz-1 1 1 -"];
    {
        let mut connection = open(&atalaya);
        connection.run_pending_migrations(before).unwrap();
        connection
            .batch_execute(
                "INSERT INTO companies (id, slug, name, created_at, broker_trust) \
                     VALUES (1, 'banco', 'Banco', 1, 1); \
                 INSERT INTO sites (id, company_id, slug, name, created_at) \
                     VALUES (1, 1, 'principal', 'Principal', 1); \
                 INSERT INTO devices (id, slug, company_id, site_id, kind, name, active, created_at, trust) \
                     VALUES (1, 'boton-1', 1, 1, 'BOTONERA', 'Uno', 1, 1, 1), \
                            (2, 'sensor-1', 1, 1, 'SENSOR', 'Dos', 0, 1, 2), \
                            (3, 'luz-1', 1, 1, 'SEMAFORO', 'Tres', 1, 1, 1); \
                 INSERT INTO device_keys (id, kid, device_id, algorithm, material, created_at) \
                     VALUES (1, 'k1', 1, 1, zeroblob(32), 1); \
                 INSERT INTO broker_windows VALUES (2, zeroblob(16), 7);",
            )
            .unwrap();
        assert_eq!(lines(&mut connection, devices), known);
    }
    // Made again as it was, and once more as it is.
    for _ in 0..2 {
        let location = Location::Sqlite(atalaya.file());
        drop(atalaya::storage::connection::open_writer(&location).unwrap());
        let mut connection = open(&atalaya);
        assert_eq!(lines(&mut connection, devices), known);
        let broken = "SELECT \"table\" AS line FROM pragma_foreign_key_check";
        assert!(lines(&mut connection, broken).is_empty());
        let mut allows = |sql: &str| connection.batch_execute(sql).is_ok();
        assert!(
            !allows("DELETE FROM devices WHERE id = 1"),
            "a key points to it"
        );
        assert!(!allows("UPDATE devices SET trust = 4 WHERE id = 3"));
        assert!(!allows("UPDATE devices SET trust = 0 WHERE id = 3"));
        assert!(!allows("UPDATE devices SET trust = NULL WHERE id = 3"));
        assert!(allows("UPDATE devices SET trust = 3 WHERE id = 3"));
        assert!(allows(
            "INSERT INTO device_secrets VALUES (3, zeroblob(32), 1)"
        ));
        assert!(!allows(
            "INSERT INTO device_secrets VALUES (1, zeroblob(31), 1)"
        ));
        assert!(!allows(
            "INSERT INTO device_secrets VALUES (9, zeroblob(32), 1)"
        ));
        let (_kept, all) = migrations_until("9");
        let applied = connection.applied_migrations().unwrap().len();
        for _ in 5..applied {
            connection.revert_last_migration(all.clone()).unwrap();
        }
        assert_eq!(
            lines(&mut connection, devices),
            known,
            "who showed a secret signs again"
        );
        assert!(
            connection
                .batch_execute("UPDATE devices SET trust = 3 WHERE id = 3")
                .is_err()
        );
    }
    // What a running one has made goes the same way.
    atalaya = Atalaya::without_mqtt().set("LEGACY_API", "on").prepare();
    atalaya.start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    client.accepts(&button.alert("ROJO")).await;
    atalaya.terminate().await;
    let mut connection = open(&atalaya);
    let (_kept, all) = migrations_until("9");
    let applied = connection.applied_migrations().unwrap().len();
    for _ in 5..applied {
        connection.revert_last_migration(all.clone()).unwrap();
    }
    drop(connection);
    atalaya.start().await;
    client.accepts(&button.alert("AZUL")).await;
    let secret = heir(&client, "boton-2").await;
    let held = token(&client, "boton-2", &secret).await;
    taken(&client, &held, &told("boton-2", "verde")).await;
    assert_eq!(client.count_alerts().await, 3);
    assert_eq!(
        Records::of(&atalaya).number("SELECT count(*) FROM device_secrets"),
        1
    );
    atalaya.terminate().await;
    audit(&atalaya.database()).unwrap();
}
