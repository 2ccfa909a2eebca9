//! The page in a real browser, against the real server and a real broker.
//!
//! What the browser does and must see stands in `tests/browser/scenarios`; here is what happens
//! around it.

use crate::support::device::register;
use crate::support::field::{At, Field};
use crate::support::stage::{Stage, newest, press};
use crate::support::{Atalaya, Client};
use awc::http::Method;
use serde_json::{Value, json};

/// A demo with an external broker, where nothing holds up the test.
async fn demo() -> Field {
    Field::start_with(At::Mosquitto, |settings| {
        settings.set("DEMO", "true").without_haste()
    })
    .await
}

/// Plays a scenario, which asks for nothing but what [`hand`] knows.
async fn plays(scenario: &str) {
    plays_with(scenario, &[]).await;
}

/// The same, with more to be told to its script.
async fn plays_with(scenario: &str, told: &[(&str, &str)]) {
    let mut field = demo().await;
    let mut stage = Stage::open(scenario, &field.atalaya, told).await;
    while let Some(question) = stage.question().await {
        let answer = hand(&mut field, &stage, &question).await;
        stage.answer(&answer);
    }
}

fn text<'a>(question: &'a Value, name: &str) -> &'a str {
    question[name].as_str().unwrap_or_default()
}

/// Does what a script asks for.
async fn hand(field: &mut Field, stage: &Stage, question: &Value) -> Value {
    let client = field.client();
    let device = text(question, "device");
    match text(question, "what") {
        "press" => {
            if device.starts_with("boton") && newest(&client, "luz-1").await == json!({}) {
                light(&client).await;
            }
            let (port, kind) = (field.port(), text(question, "kind"));
            press(&field.atalaya, port, device, kind, text(question, "text"));
        }
        "alert" => return newest(&client, device).await,
        "resolve" => resolve(&client, device).await,
        "deposit" => {
            let key = format!("stage-{}", uuid::Uuid::new_v4());
            let made = client.deposit("1350509525", "1.00", &key).await;
            assert_eq!(made.status, 201, "{}", made.text());
        }
        "freeze" => {
            let rule = json!({"empresa": "banco", "nombre": "Congelar", "orden": 1,
                "condicion": "alerta.prioridad == 'critica'",
                "acciones": [{"accion": "congelar_retiros"}]});
            client
                .changes(Method::POST, "/api/v1/reglas", &rule, 201)
                .await;
            press(&field.atalaya, field.port(), "boton-1", "ROJO", "Asalto");
        }
        "thaw" => resolve(&client, "boton-1").await,
        "kill" => field.atalaya.kill(),
        "start" => field.atalaya.start().await,
        "cut" => stage.wire.cut(),
        "mend" => stage.wire.mend(),
        "poison" => return poison(field, question).await,
        "furnish" => return furnish(field).await,
        other => panic!("the script asks for {other:?}"),
    }
    json!({})
}

/// A light of the site, for rules to drive.
async fn light(client: &Client) {
    let known = client.get("/api/v1/hardware/luz-1").await.unwrap();
    if known.status == 404 {
        register(client, "banco", "principal", "luz-1", "SEMAFORO").await;
    }
}

async fn resolve(client: &Client, device: &str) {
    let alert = newest(client, device).await;
    let id = alert["alerta_id"].as_str().unwrap();
    let done = client.step(id, "resolver", &json!({})).await;
    assert_eq!(done.status, 200, "{}", done.text());
}

/// Writes what a script has brought wherever people may write, and says where it was taken.
async fn poison(field: &Field, question: &Value) -> Value {
    let client = field.client();
    let corpus: Vec<&str> = question["corpus"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut planted = Vec::new();
    register(&client, "banco", "principal", "boton-x", "BOTONERA").await;
    for (index, bad) in corpus.iter().enumerate() {
        let kind = format!("K{index}");
        let admin = client.with_token(crate::support::access::ADMIN_TOKEN);
        let attempts = [
            (
                &admin,
                Method::PATCH,
                "/api/v1/empresas/banco".to_owned(),
                json!({"nombre": bad}),
            ),
            (
                &admin,
                Method::POST,
                "/api/v1/empresas".to_owned(),
                json!({"empresa": format!("e{index}"), "nombre": bad}),
            ),
            (
                &admin,
                Method::PATCH,
                "/api/v1/sedes/banco/principal".to_owned(),
                json!({"nombre": bad}),
            ),
            (
                &admin,
                Method::POST,
                "/api/v1/usuarios".to_owned(),
                json!({"usuario": format!("u{index}"), "nombre": bad}),
            ),
            (
                &client,
                Method::PATCH,
                "/api/v1/hardware/boton-x".to_owned(),
                json!({"nombre": bad}),
            ),
            (
                &client,
                Method::PUT,
                format!("/api/v1/tipos_alarma/banco/{kind}"),
                json!({"nombre": bad, "prioridad": "critica", "color": "ROJO", "descripcion": bad, "instrucciones": bad}),
            ),
            (
                &client,
                Method::POST,
                "/api/v1/reglas".to_owned(),
                json!({"empresa": "banco", "nombre": bad, "orden": 9,
                "condicion": format!("alerta.descripcion == {}", json!(bad)),
                "acciones": [{"accion": "comando", "tipos": ["SEMAFORO"], "datos": {"texto": bad}}]}),
            ),
            (
                &client,
                Method::POST,
                "/api/v1/cuentas".to_owned(),
                json!({"cedula": format!("77{index}"), "nombres": bad, "apellidos": bad}),
            ),
            (
                &client,
                Method::POST,
                "/api/v1/alertas".to_owned(),
                json!({"hardware": "boton-x", "tipo_alarma": kind,
                "descripcion": bad, "ubicacion": {"en": bad}, "datos": {"nota": bad, (*bad): bad}}),
            ),
        ];
        for (who, method, path, body) in attempts {
            let answer = who.send(method, &path, &body).await;
            // Refused is fine; a mistake of ours is not.
            assert!(answer.status < 500, "{path}: {}", answer.text());
            if answer.status < 300 {
                planted.push(path);
            }
        }
    }
    let list = client
        .json("/api/v1/alertas?hardware=boton-x&limite=200")
        .await;
    let alerts = list["datos"].as_array().unwrap();
    let shown = alerts
        .iter()
        .find(|alert| alert["descripcion"] == corpus[1]);
    let id = shown.unwrap()["alerta_id"].as_str().unwrap().to_owned();
    client
        .step(&id, "reconocer", &json!({"motivo": corpus[1]}))
        .await;
    json!({"planted": planted, "alert": id})
}

/// A bank with something on every page.
async fn furnish(field: &Field) -> Value {
    let client = field.client();
    for (site, name, devices) in [
        ("norte", "Agencia Norte", ["boton-n1", "boton-n2"]),
        ("sur", "Agencia Sur", ["boton-s1", "boton-s2"]),
        ("puerto", "Agencia Puerto", ["boton-p1", "boton-p2"]),
    ] {
        let body = json!({"empresa": "banco", "sede": site, "nombre": name, "zona_horaria": "America/Guayaquil"});
        client
            .changes(Method::POST, "/api/v1/sedes", &body, 201)
            .await;
        for device in devices {
            register(&client, "banco", site, device, "BOTONERA").await;
        }
        register(&client, "banco", site, &format!("luz-{site}"), "SEMAFORO").await;
        register(&client, "banco", site, &format!("sirena-{site}"), "SIRENA").await;
    }
    let name = json!({"nombre": "Matriz"});
    client
        .changes(Method::PATCH, "/api/v1/sedes/banco/principal", &name, 200)
        .await;
    light(&client).await;
    press(
        &field.atalaya,
        field.port(),
        "boton-1",
        "ROJO",
        "Robo en caja 2",
    );
    for (device, kind, text) in [
        ("boton-n1", "NARANJA", "Humo en la bóveda"),
        ("boton-n2", "AMARILLO", "Puerta trasera abierta"),
        ("boton-s1", "ROJO", "Asalto en el estacionamiento"),
        ("boton-p1", "VERDE", "Prueba semanal"),
    ] {
        let body = json!({"hardware": device, "tipo_alarma": kind, "descripcion": text});
        client
            .changes(Method::POST, "/api/v1/alertas", &body, 201)
            .await;
    }
    for (index, amount) in ["150.25", "42.00", "1200.00", "18.90"].iter().enumerate() {
        let key = format!("furnish-{index}");
        client.deposit("1350509525", amount, &key).await;
        client
            .withdraw("1350509525", "20.00", &format!("{key}-w"))
            .await;
    }
    client
        .transfer("1350509525", "1315151515", "310.40", "furnish-t")
        .await;
    let alert = newest(&client, "boton-1").await;
    let id = alert["alerta_id"].as_str().unwrap();
    client
        .step(id, "reconocer", &json!({"motivo": "Patrulla en camino"}))
        .await;
    json!({"alert": id})
}

#[actix_web::test]
async fn each_role_signs_in_to_its_own_page() {
    plays("sign-in").await;
}

#[actix_web::test]
async fn money_moves_once_and_is_seen_at_once() {
    plays("counter").await;
}

#[actix_web::test]
async fn alerts_are_seen_acknowledged_and_resolved() {
    plays("watch").await;
}

#[actix_web::test]
async fn charts_draw_and_logs_are_followed() {
    plays("system").await;
}

#[actix_web::test]
async fn after_a_restart_nothing_is_missed() {
    plays("reconnect").await;
}

/// Fault 43.
#[actix_web::test]
async fn what_people_write_stays_text() {
    plays("injection").await;
}

#[actix_web::test]
async fn admins_and_operators_edit_what_is_theirs() {
    plays("editors").await;
}

#[actix_web::test]
async fn every_page_is_for_everybody_at_a_desk() {
    looks_at_every_page("desktop").await;
}

#[actix_web::test]
async fn every_page_is_for_everybody_with_a_phone() {
    looks_at_every_page("phone").await;
}

/// `SCREENSHOTS` says where the pictures go; `target/screenshots` where nothing is said.
async fn looks_at_every_page(screen: &str) {
    let folder = std::env::var("SCREENSHOTS").unwrap_or_else(|_| {
        let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        target.display().to_string()
    });
    let told = [("SCREENSHOTS", folder.as_str()), ("SCREEN", screen)];
    plays_with("pages", &told).await;
}

/// All that a browser loads, compressed.
#[actix_web::test]
async fn the_page_is_small_and_kept_by_browsers() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("static");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| {
            let ends = [".js", ".css", ".svg"];
            ends.iter().any(|end| name.ends_with(end))
        })
        .map(|name| format!("/app/{name}"))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    names.extend(["/", "/app/uplot.js", "/app/uplot.css"].map(str::to_owned));
    let mut total = 0;
    for name in &names {
        let asked = client
            .request(Method::GET, name)
            .no_decompress()
            .insert_header(("accept-encoding", "gzip"));
        let answer = crate::support::client::finish(asked.send()).await.unwrap();
        assert_eq!(answer.status, 200, "{name}");
        total += answer.body.len();
        let tag = answer.header("etag").unwrap().to_owned();
        let again = client
            .request(Method::GET, name)
            .insert_header(("if-none-match", tag));
        let again = crate::support::client::finish(again.send()).await.unwrap();
        assert_eq!((again.status, again.body.len()), (304, 0), "{name}");
    }
    assert!(total < 300 * 1_024, "{total} bytes");
    let wanted = [
        "../Cargo.toml",
        "%2e%2e%2fCargo.toml",
        "package.json",
        "nothing.js",
    ];
    for name in wanted {
        let answer = client.get(&format!("/app/{name}")).await.unwrap();
        assert_eq!(answer.status, 404, "{name}");
    }
}
