//! The life of an alert: repeated, acknowledged, resolved, escalated, listed; devices that fall
//! silent; and what is in quarantine.

use crate::support::audit::open;
use crate::support::client::finish;
use crate::support::device::{Device, create_place, fingerprint, now, register};
use crate::support::hub::{assert_refused, assert_rejected, changes, texts};
use crate::support::mariadb::on_files;
use crate::support::web_socket::SessionEvent;
use crate::support::{Atalaya, Client, Records, WebSocket, audit, eventually};
use atalaya::storage::Location;
use awc::http::Method;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use diesel::RunQueryDsl;
use futures_util::future::join_all;
use serde_json::{Value, json};

const ALERTS: &str = "/api/v1/alertas";
const QUARANTINE: &str = "/api/v1/cuarentena";
const NEWS: &str = "empresas/banco/alertas";

/// An hour: longer than any test.
const LONG: u32 = 3_600_000;

#[actix_web::test]
async fn presses_of_one_button_are_one_alert() {
    let atalaya = Atalaya::without_mqtt()
        .set("ALERT_BOUNCE_MS", LONG)
        .start()
        .await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut other = Device::enrol(&client, "boton-2").await;
    let mut news = WebSocket::open(&atalaya).await;
    news.subscribe(&[NEWS]).await;

    let alert = client.accepts(&button.alert("ROJO")).await;
    let mut again = button.claims(button.seq + 1, "ROJO");
    again["descripcion"] = json!("otra vez");
    button.seq += 1;
    assert_eq!(client.accepts(&button.sign(&again)).await, alert);
    let stands = client.alert(&alert).await;
    assert_eq!(
        (&stands["repeticiones"], &stands["estado"]),
        (&json!(2), &json!("NUEVA"))
    );
    assert_eq!(
        stands["descripcion"],
        Value::Null,
        "it says what it said first"
    );
    // Another kind, another device: another alert.
    assert_ne!(client.accepts(&button.alert("AZUL")).await, alert);
    assert_ne!(client.accepts(&other.alert("ROJO")).await, alert);
    // An operator's joins the device's.
    let manual = client.raise("boton-1", "ROJO").await;
    assert_eq!(
        (manual.status, &manual.json()["alerta_id"]),
        (200, &json!(alert))
    );

    // It goes on after it was acknowledged, and even resolved, for as long as a button bounces.
    client.step(&alert, "reconocer", &json!({})).await;
    assert_eq!(client.accepts(&button.alert("ROJO")).await, alert);
    assert_eq!(client.alert(&alert).await["estado"], "RECONOCIDA");
    client.step(&alert, "resolver", &json!({})).await;
    let resolved = client.alert(&alert).await;
    assert_eq!(client.accepts(&button.alert("ROJO")).await, alert);
    let stands = client.alert(&alert).await;
    assert_eq!(
        (&stands["estado"], &stands["repeticiones"]),
        (&json!("RESUELTA"), &json!(5))
    );
    assert_eq!(stands["cerrada"], resolved["cerrada"]);
    assert_eq!(changes(&stands), ["CREADA", "RECONOCIDA", "RESUELTA"]);
    assert_eq!(client.count_alerts().await, 3);

    let events = news
        .events_until(|event| {
            event.json()["alerta_id"] == alert.as_str() && event.json()["repeticiones"] == 5
        })
        .await;
    let mine: Vec<Value> = events
        .iter()
        .map(SessionEvent::json)
        .filter(|event| event["alerta_id"] == alert.as_str())
        .collect();
    assert_eq!(
        texts(&mine, "cambio"),
        [
            "CREADA",
            "REPETIDA",
            "REPETIDA",
            "RECONOCIDA",
            "REPETIDA",
            "RESUELTA",
            "REPETIDA"
        ]
    );
    assert_eq!(mine[1]["descripcion"], "otra vez");
    assert_eq!(
        texts(&mine, "por"),
        [
            "hardware", "hardware", "pruebas", "pruebas", "hardware", "pruebas", "hardware"
        ]
    );
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn after_the_bounce_a_press_is_a_new_alert() {
    let mut atalaya = Atalaya::without_mqtt()
        .set("ALERT_BOUNCE_MS", 0)
        .start()
        .await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut alerts = Vec::new();
    for step in ["resolver", "descartar", "resolver"] {
        let alert = client.accepts(&button.alert("ROJO")).await;
        assert_eq!(
            client.accepts(&button.alert("ROJO")).await,
            alert,
            "while it is open"
        );
        let closed = client
            .step(&alert, step, &json!({"motivo": "prueba"}))
            .await;
        assert_eq!(closed.status, 200, "{}", closed.text());
        assert!(!alerts.contains(&alert));
        alerts.push(alert);
    }
    // An open one is open after a restart too.
    let open = client.accepts(&button.alert("ROJO")).await;
    atalaya.kill();
    atalaya.start().await;
    assert_eq!(client.accepts(&button.alert("ROJO")).await, open);
    assert_eq!(client.alert(&open).await["repeticiones"], 2);
    assert_eq!(client.count_alerts().await, 4);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn an_alert_goes_forward_and_says_so() {
    let mut atalaya = Atalaya::without_mqtt()
        .set("ALERT_BOUNCE_MS", 0)
        .start()
        .await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let reason = json!({"motivo": "  fue un ensayo \n"});
    for (path, forbidden) in [
        (
            vec!["reconocer", "resolver"],
            vec!["reconocer", "descartar"],
        ),
        (
            vec!["reconocer", "descartar"],
            vec!["reconocer", "resolver"],
        ),
        (vec!["resolver"], vec!["reconocer", "descartar"]),
        (vec!["descartar"], vec!["reconocer", "resolver"]),
    ] {
        let alert = client.accepts(&button.alert("ROJO")).await;
        for step in &path {
            let first = client.step(&alert, step, &reason).await;
            assert_eq!(first.status, 200, "{}", first.text());
            let state = match *step {
                "reconocer" => "RECONOCIDA",
                "resolver" => "RESUELTA",
                _ => "DESCARTADA",
            };
            let body = first.json();
            assert_eq!(body["estado"], state);
            assert_eq!(body["reconocida"].is_string(), path[0] == "reconocer");
            assert_eq!(body["cerrada"].is_string(), *step != "reconocer");
            // Who comes second wanted the same, and changes nothing.
            let second = client.step(&alert, step, &json!({"motivo": "otro"})).await;
            assert_eq!((second.status, second.json()), (200, body));
            let told = &client.alert(&alert).await["historia"][0];
            assert_eq!(told["motivo"], "fue un ensayo");
            assert_eq!(
                (&told["estado"], &told["por"]),
                (&json!(state), &json!("pruebas"))
            );
        }
        let closed = client.alert(&alert).await;
        for step in forbidden {
            let wrong = client.step(&alert, step, &reason).await;
            assert_refused(&wrong, 409, "paso_no_permitido", format!("{path:?} {step}"));
        }
        atalaya.kill();
        atalaya.start().await;
        for step in ["reconocer", "descartar", "resolver"] {
            let status = if path.last() == Some(&step) { 200 } else { 409 };
            assert_eq!(
                client.step(&alert, step, &reason).await.status,
                status,
                "{path:?} {step}"
            );
        }
        assert_eq!(client.alert(&alert).await, closed);
    }
    // A false alarm needs a reason; other steps may have one.
    let alert = client.accepts(&button.alert("AZUL")).await;
    for body in [
        json!({}),
        json!({"motivo": null}),
        json!({"motivo": ""}),
        json!({"motivo": " \n "}),
    ] {
        let answer = client.step(&alert, "descartar", &body).await;
        assert_refused(&answer, 422, "valor_invalido", &body);
    }
    for step in ["reconocer", "resolver", "descartar"] {
        for motive in ["a\u{0}b", &"x".repeat(2_001)] {
            let answer = client.step(&alert, step, &json!({"motivo": motive})).await;
            assert_refused(&answer, 422, "valor_invalido", step);
        }
        let answer = client.step(&alert, step, &json!({"por": "nadie"})).await;
        assert_refused(&answer, 400, "cuerpo_invalido", step);
        for id in ["01990000-0000-7000-8000-000000000000", "x", "1", "%00"] {
            let answer = client.step(id, step, &reason).await;
            assert_refused(&answer, 404, "alerta_no_existe", id);
        }
    }
    for id in ["01990000-0000-7000-8000-000000000000", "x", "1", "%00"] {
        let answer = client.get(&format!("{ALERTS}/{id}")).await.unwrap();
        assert_refused(&answer, 404, "alerta_no_existe", id);
    }
    assert_eq!(client.alert(&alert).await["estado"], "NUEVA");
    assert_eq!(
        client.step(&alert, "reconocer", &json!({})).await.json()["estado"],
        "RECONOCIDA"
    );
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn of_those_who_close_an_alert_at_once_one_does() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let alert = client.accepts(&button.alert("ROJO")).await;
    let both = (0..40).map(|n| if n % 2 == 0 { "resolver" } else { "descartar" });
    let body = json!({"motivo": "ya"});
    let answers = join_all(both.map(|step| client.step(&alert, step, &body))).await;
    let done = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(
        done, 20,
        "all who wanted what happened, and none of the others"
    );
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_refused(answer, 409, "paso_no_permitido", "too late");
    }
    let stands = client.alert(&alert).await;
    assert_eq!(changes(&stands).len(), 2, "{stands}");
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn a_history_comes_in_pages_of_its_own_steps() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut other = Device::enrol(&client, "boton-2").await;
    let alert = client.accepts(&button.alert("ROJO")).await;
    let theirs = client.accepts(&other.alert("ROJO")).await;
    client.accepts(&button.alert("ROJO")).await;
    client.step(&alert, "reconocer", &json!({})).await;
    client.accepts(&other.alert("ROJO")).await;
    client.accepts(&button.alert("ROJO")).await;
    client.step(&alert, "resolver", &json!({})).await;
    client.step(&theirs, "reconocer", &json!({})).await;
    for limit in [1, 2, 3, 4] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = client
                .json(&format!("{ALERTS}/{alert}?limite={limit}&cursor={cursor}"))
                .await;
            assert_eq!(page["estado"], "RESUELTA");
            let steps = page["historia"].as_array().unwrap();
            assert!(steps.len() <= limit);
            seen.extend(texts(steps, "cambio").into_iter().map(str::to_owned));
            match page["siguiente"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        assert_eq!(seen, ["RESUELTA", "RECONOCIDA", "CREADA"], "{limit}");
    }
    let theirs = client.json(&format!("{ALERTS}/{theirs}?limite=1")).await;
    let theirs = theirs["siguiente"].as_str().unwrap();
    for query in [
        &format!("cursor={theirs}"),
        "cursor=0",
        "cursor=-1",
        "cursor=x",
        "cursor=1",
        "cursor=9223372036854775807",
        "limite=0",
        "limite=201",
        "nada=1",
        "limite=1&limite=1",
    ] {
        let answer = client
            .get(&format!("{ALERTS}/{alert}?{query}"))
            .await
            .unwrap();
        assert_refused(&answer, 400, "parametro_invalido", query);
    }
}

#[actix_web::test]
async fn alerts_are_listed_newest_first_by_what_is_asked() {
    let atalaya = Atalaya::without_mqtt()
        .set("ALERT_BOUNCE_MS", 0)
        .start()
        .await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    let mut at = Vec::new();
    for (company, site, name) in [
        ("banco", "principal", "b1"),
        ("banco", "principal", "b2"),
        ("acme", "norte", "a1"),
    ] {
        at.push(Device::enrol_at(&client, company, site, name, "BOTONERA").await);
    }
    let mut made = Vec::new();
    // 0..4 of b1, 5..9 of b2, 10..14 of a1; of each: NUEVA, RECONOCIDA, RESUELTA, DESCARTADA, late.
    for device in &mut at {
        for (kind, steps) in [
            ("ROJO", vec![]),
            ("NARANJA", vec!["reconocer"]),
            ("AZUL", vec!["resolver"]),
            ("VERDE", vec!["reconocer", "descartar"]),
        ] {
            let alert = client.accepts(&device.alert(kind)).await;
            for step in steps {
                client.step(&alert, step, &json!({"motivo": "x"})).await;
            }
            made.push(alert);
        }
        device.seq += 1;
        let mut late = device.claims(device.seq, "ROJO");
        late["iat"] = json!(now() - 3_600);
        made.push(client.accepts(&device.sign(&late)).await);
    }
    let newest: Vec<&str> = made.iter().rev().map(String::as_str).collect();
    for limit in [1, 4, 14, 15, 16, 200] {
        let all = client.walk(ALERTS, "", limit).await;
        assert_eq!(texts(&all, "alerta_id"), newest, "{limit}");
    }
    let moment = |index: usize| {
        let (client, id) = (client.clone(), made[index].clone());
        async move {
            client.alert(&id).await["creada"]
                .as_str()
                .unwrap()
                .to_owned()
        }
    };
    let (fifth, tenth) = (moment(5).await, moment(10).await);
    let elsewhere: jiff::Timestamp = fifth.parse().unwrap();
    let elsewhere = elsewhere.to_zoned(jiff::tz::TimeZone::get("Asia/Kathmandu").unwrap());
    let elsewhere = elsewhere
        .strftime("%Y-%m-%dT%H:%M:%S%.3f%:z")
        .to_string()
        .replace('+', "%2B");
    for (filter, expected) in [
        ("&empresa=acme".to_owned(), vec![14, 13, 12, 11, 10]),
        ("&sede=norte".to_owned(), vec![14, 13, 12, 11, 10]),
        ("&empresa=banco&sede=norte".to_owned(), vec![]),
        ("&hardware=b2".to_owned(), vec![9, 8, 7, 6, 5]),
        ("&empresa=acme&hardware=b2".to_owned(), vec![]),
        ("&tipo_alarma=AZUL".to_owned(), vec![12, 7, 2]),
        ("&prioridad=critica".to_owned(), vec![14, 10, 9, 5, 4, 0]),
        ("&prioridad=alta".to_owned(), vec![12, 11, 7, 6, 2, 1]),
        (
            "&prioridad=alta&tipo_alarma=AZUL&hardware=a1".to_owned(),
            vec![12],
        ),
        ("&estado=NUEVA".to_owned(), vec![14, 10, 9, 5, 4, 0]),
        ("&estado=RECONOCIDA".to_owned(), vec![11, 6, 1]),
        ("&estado=RESUELTA".to_owned(), vec![12, 7, 2]),
        ("&estado=DESCARTADA".to_owned(), vec![13, 8, 3]),
        (
            "&estado=RESUELTA,DESCARTADA".to_owned(),
            vec![13, 12, 8, 7, 3, 2],
        ),
        (
            "&estado=RECONOCIDA,DESCARTADA&hardware=b1".to_owned(),
            vec![3, 1],
        ),
        (
            "&abiertas=true".to_owned(),
            vec![14, 11, 10, 9, 6, 5, 4, 1, 0],
        ),
        (
            "&abiertas=true&estado=RECONOCIDA,RESUELTA".to_owned(),
            vec![11, 6, 1],
        ),
        ("&abiertas=true&estado=RESUELTA".to_owned(), vec![]),
        (
            "&abiertas=false&hardware=b1".to_owned(),
            vec![4, 3, 2, 1, 0],
        ),
        (format!("&desde={tenth}"), vec![14, 13, 12, 11, 10]),
        (format!("&hasta={fifth}"), vec![4, 3, 2, 1, 0]),
        (format!("&desde={fifth}&hasta={tenth}"), vec![9, 8, 7, 6, 5]),
        (format!("&hasta={elsewhere}"), vec![4, 3, 2, 1, 0]),
        (format!("&desde={tenth}&hasta={fifth}"), vec![]),
        ("&empresa=nadie".to_owned(), vec![]),
        ("&tipo_alarma=MORADO".to_owned(), vec![]),
        (
            "&empresa=&estado=&abiertas=&prioridad=&desde=&hasta=&hardware=b2".to_owned(),
            vec![9, 8, 7, 6, 5],
        ),
    ] {
        let expected: Vec<&str> = expected
            .into_iter()
            .map(|n: usize| made[n].as_str())
            .collect();
        for limit in [2, 200] {
            let found = client.walk(ALERTS, &filter, limit).await;
            assert_eq!(texts(&found, "alerta_id"), expected, "{filter}");
        }
    }
    // A page stands still while new alerts arrive.
    let first = client.json(&format!("{ALERTS}?limite=3")).await;
    client.accepts(&at[0].alert("AMARILLO")).await;
    let cursor = first["siguiente"].as_str().unwrap();
    let second = client
        .json(&format!("{ALERTS}?limite=3&cursor={cursor}"))
        .await;
    assert_eq!(
        texts(second["datos"].as_array().unwrap(), "alerta_id"),
        newest[3..6]
    );
    for query in [
        "estado=nueva",
        "estado=NUEVA,",
        "estado=ABIERTA",
        "estado=NUEVA,X",
        "prioridad=urgente",
        "prioridad=1",
        "desde=ayer",
        "desde=2026-01-15",
        "hasta=2026-13-01T00:00:00Z",
        "hasta=0",
        "abiertas=si",
        "abiertas=1",
        "abierta=true",
        "estado=NUEVA&estado=RESUELTA",
    ] {
        let answer = client.get(&format!("{ALERTS}?{query}")).await.unwrap();
        assert_refused(&answer, 400, "parametro_invalido", query);
    }
}

#[actix_web::test]
async fn what_nobody_acknowledges_is_told_again_and_again() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client
        .put_kind("HUMO", json!({"escalar_segundos": 1, "prioridad": "alta"}))
        .await;
    client
        .put_kind("POLVO", json!({"escalar_segundos": null}))
        .await;
    let mut one = Device::enrol(&client, "boton-1").await;
    let mut two = Device::enrol(&client, "boton-2").await;
    let mut news = WebSocket::open(&atalaya).await;
    news.subscribe(&[NEWS]).await;
    let quiet = client.accepts(&one.alert("POLVO")).await;
    let alert = client.accepts(&one.alert("HUMO")).await;
    let is = |event: &Value, id: &str, change: &str| {
        event["alerta_id"] == id && event["cambio"] == change
    };
    for _ in 0..2 {
        let events = news
            .events_until(|event| is(&event.json(), &alert, "ESCALADA"))
            .await;
        let told = events.last().unwrap().json();
        assert_eq!(
            (&told["estado"], &told["por"]),
            (&json!("NUEVA"), &json!("atalaya"))
        );
        assert_eq!(
            (&told["prioridad"], &told["repeticiones"]),
            (&json!("alta"), &json!(1))
        );
    }
    let acknowledged = client.step(&alert, "reconocer", &json!({})).await.json();
    let times = acknowledged["escaladas"].as_i64().unwrap();
    assert!(times >= 2, "{acknowledged}");
    // The time of another one shows that it is left alone now; it lives through a restart too.
    let other = client.accepts(&two.alert("HUMO")).await;
    news.events_until(|event| is(&event.json(), &other, "ESCALADA"))
        .await;
    atalaya.kill();
    atalaya.start().await;
    let before = client.alert(&other).await["escaladas"].as_i64().unwrap();
    eventually("it is escalated after the restart", || async {
        let now = client.alert(&other).await["escaladas"].as_i64().unwrap();
        (now >= before + 2).then_some(())
    })
    .await;
    let left_alone = client.alert(&alert).await;
    assert_eq!(left_alone["escaladas"], times);
    let mut expected = vec!["CREADA"];
    expected.extend(std::iter::repeat_n(
        "ESCALADA",
        usize::try_from(times).unwrap(),
    ));
    expected.push("RECONOCIDA");
    assert_eq!(changes(&left_alone), expected);
    assert_eq!(client.alert(&quiet).await["escaladas"], 0);
    // Closing ends it as well.
    let closed = client
        .step(&other, "descartar", &json!({"motivo": "x"}))
        .await
        .json();
    let third = client.accepts(&one.alert("HUMO")).await;
    assert_eq!(third, alert, "still open");
    let clock = client.raise("boton-2", "ROJO").await;
    assert_eq!(clock.status, 201);
    client.put_kind("TIC", json!({"escalar_segundos": 1})).await;
    let tick = client.accepts(&two.alert("TIC")).await;
    eventually("a second has passed twice", || async {
        (client.alert(&tick).await["escaladas"].as_i64().unwrap() >= 2).then_some(())
    })
    .await;
    assert_eq!(client.alert(&other).await["escaladas"], closed["escaladas"]);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn a_device_that_falls_silent_is_missed_until_it_speaks() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let watch_over = async |kind: &str, silence: Value| {
        let path = format!("/api/v1/tipos_hardware/{kind}");
        client
            .changes(
                Method::PUT,
                &path,
                &json!({"silencio_segundos": silence}),
                200,
            )
            .await;
    };
    watch_over("SENSOR", json!(1)).await;
    watch_over("PANTALLA", Value::Null).await;
    let enrol = async |name: &str, kind: &str| {
        Device::enrol_at(&client, "banco", "principal", name, kind).await
    };
    let mut sensor = enrol("sensor-1", "SENSOR").await;
    let mut screen = enrol("pantalla-1", "PANTALLA").await;
    let mut off = enrol("sensor-2", "SENSOR").await;
    register(&client, "banco", "principal", "sensor-3", "SENSOR").await;
    for device in [&mut sensor, &mut screen, &mut off] {
        assert_eq!(client.submit(&device.alert("LATIDO")).await.status, 201);
    }
    client
        .changes(
            Method::PATCH,
            "/api/v1/hardware/sensor-2",
            &json!({"activo": false}),
            200,
        )
        .await;
    let alert = missed(&client, "sensor-1").await;
    assert_eq!(
        (&alert["estado"], &alert["prioridad"]),
        (&json!("NUEVA"), &json!("media"))
    );
    assert_eq!(alert["tardia"], false);
    let id = alert["alerta_id"].as_str().unwrap().to_owned();
    assert_eq!(client.alert(&id).await["historia"][0]["por"], "atalaya");
    let silent = async |name: &str| {
        client.json(&format!("/api/v1/hardware/{name}")).await["silencioso"].clone()
    };
    assert_eq!(silent("sensor-1").await, true);

    // Neither what others do for it nor what it said long ago shows that it lives.
    client.raise("sensor-1", "ROJO").await;
    sensor.seq += 1;
    let mut hoarded = sensor.claims(sensor.seq, "LATIDO");
    hoarded["iat"] = json!(now() - 3_600);
    assert_eq!(client.submit(&sensor.sign(&hoarded)).await.status, 201);
    atalaya.kill();
    atalaya.start().await;
    // Another silence, later than any second one of the first would be.
    let mut clock = enrol("sensor-4", "SENSOR").await;
    assert_eq!(client.submit(&clock.alert("LATIDO")).await.status, 201);
    missed(&client, "sensor-4").await;
    let silences = client
        .walk(ALERTS, "&tipo_alarma=DISPOSITIVO_SILENCIOSO", 200)
        .await;
    assert_eq!(
        texts(&silences, "hardware"),
        ["sensor-4", "sensor-1"],
        "one each, and of no other"
    );
    assert!(
        silences
            .iter()
            .all(|alert| alert["repeticiones"] == 1 && alert["estado"] == "NUEVA")
    );
    for (name, is_silent) in [
        ("sensor-1", true),
        ("sensor-2", false),
        ("sensor-3", false),
        ("pantalla-1", false),
    ] {
        assert_eq!(silent(name).await, is_silent, "{name}");
    }

    // It speaks: all is well again, by itself.
    assert_eq!(client.submit(&sensor.alert("LATIDO")).await.status, 201);
    let over = client.alert(&id).await;
    assert_eq!(over["estado"], "RESUELTA");
    let step = &over["historia"][0];
    assert_eq!(
        (&step["por"], &step["motivo"]),
        (&json!("atalaya"), &json!("volvió a dar señal"))
    );
    assert_eq!(silent("sensor-1").await, false);
    // And it may fall silent once more, which is another alert.
    let again = missed(&client, "sensor-1").await;
    assert_ne!(again["alerta_id"], id.as_str());
    // An alert of its own is a sign of life as good as any.
    client.accepts(&sensor.alert("AZUL")).await;
    let again = client.alert(again["alerta_id"].as_str().unwrap()).await;
    assert_eq!(again["estado"], "RESUELTA");
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn what_is_switched_on_again_is_missed_again() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client
        .changes(
            Method::PUT,
            "/api/v1/tipos_hardware/SENSOR",
            &json!({"silencio_segundos": 1}),
            200,
        )
        .await;
    let mut clock = Device::enrol_at(&client, "banco", "principal", "reloj", "SENSOR").await;
    for (n, (path, field)) in [
        ("/api/v1/hardware/acme-1", "activo"),
        ("/api/v1/sedes/acme-2/norte", "activa"),
        ("/api/v1/empresas/acme-3", "activa"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("acme-{}", n + 1);
        create_place(&client, &name, "norte").await;
        let mut sensor = Device::enrol_at(&client, &name, "norte", &name, "SENSOR").await;
        assert_eq!(client.submit(&sensor.alert("LATIDO")).await.status, 201);
        client
            .changes(Method::PATCH, path, &json!({field: false}), 200)
            .await;
        assert_eq!(client.submit(&clock.alert("LATIDO")).await.status, 201);
        missed(&client, "reloj").await;
        let filter = format!("&hardware={name}");
        assert!(
            client.walk(ALERTS, &filter, 200).await.is_empty(),
            "{path}: it is switched off"
        );
        client
            .changes(Method::PATCH, path, &json!({field: true}), 200)
            .await;
        missed(&client, &name).await;
    }
}

#[actix_web::test]
async fn sessions_see_alerts_live_and_see_what_they_missed() {
    let mut atalaya = Atalaya::without_mqtt()
        .set("ALERT_BOUNCE_MS", 0)
        .start()
        .await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut theirs = Device::enrol_at(&client, "acme", "norte", "boton-2", "BOTONERA").await;
    let mut live = WebSocket::open(&atalaya).await;
    live.subscribe(&[
        "empresas/+/alertas",
        "empresas/banco/principal/boton-1/respuesta",
    ])
    .await;
    let mut ours = WebSocket::open(&atalaya).await;
    ours.subscribe(&[NEWS]).await;

    let message = button.alert("ROJO");
    let alert = client.accepts(&message).await;
    let (reply, told) = (live.event().await, live.event().await);
    assert_eq!(reply.topic, button.topic("respuesta"));
    assert_eq!(reply.json()["huella"], fingerprint(message.as_bytes()));
    assert_eq!((told.topic.as_str(), told.retained), (NEWS, false));
    assert_eq!(told.json()["alerta_id"], alert.as_str());
    let cursor = told.cursor.clone().expect("it stands in the journal");
    let step = &client.alert(&alert).await["historia"][0];
    assert_eq!(step["posicion"], cursor.as_str());
    assert_eq!(ours.event().await, told);

    // Meanwhile nobody listens.
    live.leave().await;
    client.accepts(&theirs.alert("AZUL")).await;
    client.step(&alert, "reconocer", &json!({})).await;
    client.accepts(&button.alert("ROJO")).await;
    client
        .step(&alert, "descartar", &json!({"motivo": "ensayo"}))
        .await;
    atalaya.kill();
    atalaya.start().await;
    let last = client.accepts(&button.alert("VERDE")).await;
    for filter in [NEWS, "empresas/banco/+", "empresas/#"] {
        let mut back = WebSocket::open(&atalaya).await;
        back.resume(&[filter], &cursor).await;
        let events = back
            .events_until(|event| event.topic == NEWS && event.json()["alerta_id"] == last.as_str())
            .await;
        let bank: Vec<Value> = events
            .iter()
            .filter(|event| event.topic == NEWS)
            .map(SessionEvent::json)
            .collect();
        assert_eq!(
            texts(&bank, "cambio"),
            ["RECONOCIDA", "REPETIDA", "DESCARTADA", "CREADA"],
            "{filter}"
        );
        assert_eq!(bank[2]["motivo"], "ensayo");
        let foreign = events
            .iter()
            .any(|event| event.topic.starts_with("empresas/acme"));
        assert_eq!(foreign, filter == "empresas/#", "{filter}");
        let cursors: Vec<i64> = events
            .iter()
            .map(|event| event.cursor.as_ref().unwrap()[2..].parse().unwrap())
            .collect();
        assert!(cursors.is_sorted(), "{cursors:?}");
    }
}

#[actix_web::test]
async fn what_was_refused_is_kept_for_a_look() {
    let atalaya = unhurried().await;
    let client = atalaya.client();
    let button = Device::enrol(&client, "boton-1").await;
    let mut stranger = button.clone();
    stranger.name = "boton-9".to_owned();
    let message = stranger.sign(&stranger.claims(1, "ROJO"));
    assert_rejected(&client.submit(&message).await, "IDENTIDAD", "a stranger");
    let kept = suspects(&client, 1).await.remove(0);
    let id = kept["id"].as_i64().unwrap();
    assert_eq!(kept["hardware"], "boton-9");
    assert_eq!(
        (&kept["motivo"], &kept["detalle"]),
        (
            &json!("IDENTIDAD"),
            &json!("el dispositivo no está registrado")
        )
    );
    assert_eq!(
        (&kept["canal"], &kept["tema"]),
        (&json!("http"), &Value::Null)
    );
    assert_eq!(
        (&kept["veces"], &kept["truncado"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(kept["mensaje"], message);
    assert_eq!(kept["mensaje_base64"], BASE64_STANDARD.encode(&message));
    assert_eq!(kept["huella"], fingerprint(message.as_bytes()));
    let path = format!("{QUARANTINE}/{id}");
    assert_eq!(client.json(&path).await, kept);
    for _ in 0..2 {
        client.submit(&message).await;
    }
    let again = eventually("it is counted", || async {
        let now = client.json(&path).await;
        (now["veces"] == 3).then_some(now)
    })
    .await;
    assert!(again["recibida"].as_str().unwrap() > kept["recibida"].as_str().unwrap());

    // Bytes that are no text are kept as they are.
    let odd = b"\xff\xfe\0.\x80.\n\r\x1b[2J".to_vec();
    let request = client
        .request(Method::POST, ALERTS)
        .insert_header(("content-type", "application/jose"));
    let answer = finish(request.send_body(odd.clone())).await.unwrap();
    assert_rejected(&answer, "FORMA", "no text");
    let odd_one = suspects(&client, 2).await.remove(0);
    assert_eq!(
        (&odd_one["mensaje"], &odd_one["hardware"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(odd_one["mensaje_base64"], BASE64_STANDARD.encode(&odd));
    assert_eq!(odd_one["huella"], fingerprint(&odd));

    // One device's name fills fifty places and no more; the oldest go.
    for seq in 2..=70 {
        let answer = client
            .submit(&stranger.sign(&stranger.claims(seq, "ROJO")))
            .await;
        assert_eq!(answer.status, 422);
    }
    eventually("the last is kept", || async {
        let page = client.walk(QUARANTINE, "&hardware=boton-9", 20).await;
        (page.len() == 50 && seq_of(&page[0]) == 70).then_some(())
    })
    .await;
    let page = client.walk(QUARANTINE, "&hardware=boton-9", 7).await;
    let numbers: Vec<u64> = page.iter().map(seq_of).collect();
    assert_eq!(numbers, (21..=70).rev().collect::<Vec<u64>>());
    let gone = client.get(&path).await.unwrap();
    assert_refused(&gone, 404, "mensaje_no_existe", "the oldest went");
    for (filter, count) in [
        ("&motivo=FORMA", 1),
        ("&motivo=IDENTIDAD", 50),
        ("&motivo=IDENTIDAD&hardware=boton-1", 0),
        ("&motivo=NADA", 0),
        ("", 51),
    ] {
        assert_eq!(
            client.walk(QUARANTINE, filter, 13).await.len(),
            count,
            "{filter}"
        );
    }
    // Whoever is known by another name is not pushed out, nor heard less.
    client
        .accepts(&button.sign(&button.claims(1, "ROJO")))
        .await;
}

#[actix_web::test]
async fn what_is_in_quarantine_can_be_handed_in_again_or_let_go() {
    let mut atalaya = unhurried().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let switch = async |on: bool| {
        client
            .changes(
                Method::PATCH,
                "/api/v1/hardware/boton-1",
                &json!({"activo": on}),
                200,
            )
            .await;
    };
    switch(false).await;
    let message = button.alert("HUMO");
    assert_rejected(&client.submit(&message).await, "IDENTIDAD", "switched off");
    let id = suspects(&client, 1).await[0]["id"].as_i64().unwrap();
    let path = format!("{QUARANTINE}/{id}");
    let resubmit = async || {
        let path = format!("{path}/reenviar");
        client.bare(Method::POST, &path).await
    };
    // It is looked at anew each time: still off, then no such kind, then all is well.
    assert_rejected(&resubmit().await, "IDENTIDAD", "still off");
    switch(true).await;
    assert_rejected(&resubmit().await, "TIPO", "no such kind");
    eventually("it says why it was refused last", || async {
        let now = client.json(&path).await;
        (now["veces"] == 3 && now["motivo"] == "TIPO").then_some(())
    })
    .await;
    client.put_kind("HUMO", json!({})).await;
    atalaya.kill();
    atalaya.start().await;
    let taken = resubmit().await;
    assert_eq!(taken.status, 201, "{}", taken.text());
    let reply = taken.json();
    assert_eq!(
        (&reply["estado"], &reply["seq"]),
        (&json!("ACEPTADA"), &json!(button.seq))
    );
    assert_eq!(reply["huella"], fingerprint(message.as_bytes()));
    let again = resubmit().await;
    assert_eq!(
        (again.status, &again.json()["alerta_id"]),
        (200, &reply["alerta_id"])
    );
    assert_eq!(client.submit(&message).await.status, 200);

    let gone = client.bare(Method::DELETE, &path).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    for answer in [
        client.bare(Method::DELETE, &path).await,
        client.get(&path).await.unwrap(),
        resubmit().await,
    ] {
        assert_refused(&answer, 404, "mensaje_no_existe", "it is gone");
    }
    for id in ["0", "-1", "x", "9223372036854775808", "%00", "1.0"] {
        let path = format!("{QUARANTINE}/{id}");
        for answer in [
            client.bare(Method::DELETE, &path).await,
            client.get(&path).await.unwrap(),
            client.bare(Method::POST, &format!("{path}/reenviar")).await,
        ] {
            assert_refused(&answer, 404, "mensaje_no_existe", id);
        }
    }
    assert!(client.walk(QUARANTINE, "", 10).await.is_empty());
    // Its number is never given to another.
    client.submit("basura").await;
    assert!(suspects(&client, 1).await[0]["id"].as_i64().unwrap() > id);
    let noted = Records::of(&atalaya).number(
        "SELECT count(*) FROM journal WHERE fact = 5 AND CAST(details AS TEXT) LIKE '%eliminado%'",
    );
    assert_eq!(noted, 1);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn what_is_changed_behind_our_back_does_not_hold() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut claims = button.claims(1, "ROJO");
    claims["descripcion"] = json!("Robo");
    button.seq = 1;
    let alert = client.accepts(&button.sign(&claims)).await;
    client.accepts(&button.alert("ROJO")).await;
    let body = json!({"motivo": "falsa alarma"});
    client.step(&alert, "descartar", &body).await;
    client.accepts(&button.alert("AZUL")).await;
    assert!(atalaya.terminate().await.success());
    audit(&atalaya.database()).unwrap();
    if !on_files() {
        return;
    }
    let database = atalaya.file();
    let copies = tempfile::tempdir().unwrap();
    for (n, (change, named)) in [
        ("UPDATE journal SET details = CAST(replace(CAST(details AS TEXT), 'ROJO', 'AZUL') AS BLOB) WHERE fact = 4", "breaks the chain"),
        ("UPDATE journal SET previous_seq = 0 WHERE fact = 4", "breaks the chain"),
        ("UPDATE journal_texts SET body = CAST(replace(CAST(body AS TEXT), 'Robo', 'Nada') AS BLOB)", "its text is another"),
        ("DELETE FROM journal_texts WHERE seq > 2", "its text is another"),
        ("INSERT INTO journal_texts (seq, body) VALUES (99999, x'00')", "texts of no step"),
        ("UPDATE alerts SET state = 1", "alerts are"),
        ("UPDATE alerts SET count = 1", "alerts are"),
        ("UPDATE alerts SET priority = 4", "alerts are"),
        ("UPDATE alerts SET late = 1", "alerts are"),
        ("UPDATE alerts SET last_seq = last_seq - 1", "alerts are"),
        ("DELETE FROM alerts WHERE kind = 'AZUL'", "alerts are"),
        ("DELETE FROM alert_messages WHERE seq = 2", "the messages taken"),
        ("UPDATE alert_messages SET seq = 77 WHERE seq = 2", "the messages taken"),
        ("UPDATE alert_messages SET digest = zeroblob(32)", "the messages taken"),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = copies.path().join(n.to_string());
        std::fs::copy(&database, &copy).unwrap();
        let copy = Location::Sqlite(copy);
        diesel::sql_query(change).execute(&mut open(&copy)).unwrap();
        let found = audit(&copy).unwrap_err();
        assert!(found.contains(named), "{change}: {found}");
    }
}

/// Where a device may send as fast as the test can.
async fn unhurried() -> Atalaya {
    let settings = Atalaya::without_mqtt();
    let settings = settings
        .set("DEVICE_RATE", 1_000_000)
        .set("DEVICE_BURST", 1_000_000);
    settings.start().await
}

/// The open alert about the silence of a device, when there is one.
async fn missed(client: &Client, device: &str) -> Value {
    let filter = format!("&tipo_alarma=DISPOSITIVO_SILENCIOSO&abiertas=true&hardware={device}");
    eventually("its silence is noticed", || async {
        client.walk(ALERTS, &filter, 200).await.pop()
    })
    .await
}

/// What is in quarantine, newest first, when it is so many.
async fn suspects(client: &Client, count: usize) -> Vec<Value> {
    eventually("it is in quarantine", || async {
        let all = client.walk(QUARANTINE, "", 200).await;
        (all.len() == count).then_some(all)
    })
    .await
}

/// The number in a message in quarantine.
fn seq_of(suspect: &Value) -> u64 {
    let message = suspect["mensaje"].as_str().unwrap();
    let claims = message.split('.').nth(1).unwrap();
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD
        .decode(claims)
        .unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["seq"]
        .as_u64()
        .unwrap()
}
