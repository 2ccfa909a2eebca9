//! Rules over REST: made, revised, refused, tried without effect, and what they do to alerts.

use crate::support::client::Response;
use crate::support::device::{Device, create_place, now, register};
use crate::support::hub::{assert_refused, texts};
use crate::support::{Atalaya, Client, Records, WebSocket, audit, eventually};
use awc::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const RULES: &str = "/api/v1/reglas";
const TRIAL: &str = "/api/v1/reglas/prueba";

/// A rule of the bank that lights the site's lights.
fn light(condition: &str) -> Value {
    json!({
        "empresa": "banco",
        "nombre": "Luces",
        "condicion": condition,
        "acciones": [{
            "accion": "comando",
            "tipos": ["SEMAFORO"],
            "datos": {"accion": "ENCENDER", "color": "=tipo.color"},
        }],
    })
}

/// A rule of the bank that does one thing.
fn rule(condition: &str, action: Value) -> Value {
    json!({"empresa": "banco", "nombre": "Regla", "condicion": condition, "acciones": [action]})
}

impl Client {
    async fn make_rule(&self, body: &Value) -> i64 {
        let made = self.changes(Method::POST, RULES, body, 201).await;
        made["id"].as_i64().unwrap()
    }

    async fn revise(&self, id: i64, change: Value) -> Response {
        self.send(Method::PATCH, &format!("{RULES}/{id}"), &change)
            .await
    }

    /// Rules of the bank that are there from the start are switched off.
    async fn without_defaults(&self) {
        for rule in self.walk(RULES, "&empresa=banco", 200).await {
            let id = rule["id"].as_i64().unwrap();
            assert_eq!(self.revise(id, json!({"activa": false})).await.status, 200);
        }
    }

    /// What an alert's first step says.
    async fn first_step(&self, alert: &str) -> Value {
        let alert = self.alert(alert).await;
        alert["historia"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone()
    }
}

/// Where an alert that is closed is followed by a new one.
async fn at_once() -> Atalaya {
    Atalaya::without_mqtt()
        .set("ALERT_BOUNCE_MS", 0)
        .start()
        .await
}

#[actix_web::test]
async fn a_company_starts_with_rules_that_are_its_own() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client
        .changes(
            Method::POST,
            "/api/v1/empresas",
            &json!({"empresa": "acme"}),
            201,
        )
        .await;
    let of = async |company: &str| client.walk(RULES, &format!("&empresa={company}"), 2).await;
    let (bank, acme) = (of("banco").await, of("acme").await);
    let names = [
        "Botonera: semáforos",
        "Botonera: pantallas",
        "Botonera: sirenas si es crítica",
    ];
    assert_eq!(
        (texts(&bank, "nombre"), texts(&acme, "nombre")),
        (names.to_vec(), names.to_vec())
    );
    assert!(
        bank.iter()
            .chain(&acme)
            .all(|rule| rule["activa"] == true && rule["version"] == 1)
    );
    let ids: BTreeSet<i64> = bank
        .iter()
        .chain(&acme)
        .map(|rule| rule["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids.len(), 6);
    let theirs = acme[0]["id"].as_i64().unwrap();
    assert_eq!(
        client
            .revise(theirs, json!({"nombre": "Otra"}))
            .await
            .status,
        200
    );
    assert_eq!(of("banco").await, bank);
    assert_eq!(client.walk(RULES, "", 200).await.len(), 6);
}

#[actix_web::test]
async fn each_change_of_a_rule_is_a_version() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let body = light("alerta.prioridad == 'critica' && hora >= 20");
    let made = client.changes(Method::POST, RULES, &body, 201).await;
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&made[field], value, "{field}");
    }
    assert_eq!(
        (&made["orden"], &made["activa"], &made["version"]),
        (&json!(50), &json!(true), &json!(1))
    );
    let id = made["id"].as_i64().unwrap();
    let path = format!("{RULES}/{id}");
    assert_eq!(client.json(&path).await, made);

    let mut expected = made.clone();
    let mut versions = vec![made];
    for (n, change) in [
        json!({"nombre": "De noche"}),
        json!({"condicion": "hora >= 22"}),
        json!({"acciones": [{"accion": "notificar", "grupo": "guardia"}]}),
        json!({"orden": -5}),
        json!({"activa": false}),
        json!({"activa": true, "orden": 7}),
        json!({}),
    ]
    .into_iter()
    .enumerate()
    {
        let changed = client.changes(Method::PATCH, &path, &change, 200).await;
        for (field, value) in change.as_object().unwrap() {
            expected[field] = value.clone();
        }
        expected["version"] = json!(n + 2);
        expected["modificada"] = changed["modificada"].clone();
        assert_eq!(changed, expected);
        versions.push(changed);
    }
    versions.reverse();
    for round in 0..2 {
        assert_eq!(client.json(&path).await, versions[0], "round {round}");
        for limit in [1, 3, 8, 200] {
            assert_eq!(
                client.walk(&format!("{path}/versiones"), "", limit).await,
                versions,
                "{limit}"
            );
        }
        atalaya.kill();
        atalaya.start().await;
    }
    // Whoever read an older version has not seen what it would undo.
    let stale = client
        .revise(id, json!({"nombre": "Tarde", "version": 7}))
        .await;
    assert_refused(&stale, 409, "regla_cambiada", "an older version");
    let early = client
        .revise(id, json!({"nombre": "Antes", "version": 9}))
        .await;
    assert_refused(&early, 409, "regla_cambiada", "no version yet");
    let all = join_all((0..16).map(|n| client.revise(id, json!({"orden": n, "version": 8})))).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 200).count(), 1);
    for late in all.iter().filter(|answer| answer.status != 200) {
        assert_refused(late, 409, "regla_cambiada", "at the same time");
    }
    assert_eq!(client.json(&path).await["version"], 9);

    for id in ["0", "-1", "999999", "x", "9223372036854775808", "%00"] {
        let path = format!("{RULES}/{id}");
        for answer in [
            client.get(&path).await.unwrap(),
            client.get(&format!("{path}/versiones")).await.unwrap(),
            client
                .send(Method::PATCH, &path, &json!({"orden": 1}))
                .await,
        ] {
            assert_refused(&answer, 404, "regla_no_existe", id);
        }
    }
    let mut nobodys = light("true");
    nobodys["empresa"] = json!("nadie");
    let answer = client.post(RULES, None, &nobodys).await.unwrap();
    assert_refused(&answer, 404, "empresa_no_existe", "of nobody");
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn a_rule_that_does_not_compile_is_refused_with_the_place() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let id = client.make_rule(&light("true")).await;
    let before = client.walk(RULES, "", 200).await;
    let long = format!("true{}", " || true".repeat(300));
    let deep = format!("{}true{}", "(".repeat(900), ")".repeat(900));
    for (condition, line, column) in [
        ("colr == 'rojo'", 1, 1),
        ("hora >= 20 && colr == 'rojo'", 1, 15),
        ("hora >= 20\n  && colr == 'rojo'", 2, 6),
        ("true &&\n\n   ñandú > 1", 3, 4),
        ("saltar(hora)", 1, 1),
        (
            "alerta.datos.lista.exists(x, alerta.datos.lista.exists(y, y == x))",
            1,
            49,
        ),
    ] {
        for answer in [
            client.post(RULES, None, &light(condition)).await.unwrap(),
            client.revise(id, json!({"condicion": condition})).await,
            client
                .post(TRIAL, None, &json!({"regla": light(condition), "dias": 1}))
                .await
                .unwrap(),
        ] {
            assert_refused(&answer, 422, "regla_invalida", condition);
            let problem = answer.json();
            assert_eq!(
                (&problem["linea"], &problem["columna"]),
                (&json!(line), &json!(column)),
                "{problem}"
            );
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(&format!(": {line}:{column}: ")), "{detail}");
        }
    }
    for condition in [
        "",
        " ",
        "1 +",
        "hora >= ",
        "(",
        "'",
        "alerta.",
        "true false",
        "1",
        "'texto'",
        "hora",
        "a\u{0}b",
        &long,
        &deep,
    ] {
        let answer = client.post(RULES, None, &light(condition)).await.unwrap();
        assert_refused(&answer, 422, "regla_invalida", condition);
    }
    let command = |data: Value| json!({"accion": "comando", "tipos": ["SEMAFORO"], "datos": data});
    for actions in [
        json!([]),
        json!([{"accion": "saltar"}]),
        json!([{"accion": "notificar"}]),
        json!([{"accion": "notificar", "grupo": "a/b"}]),
        json!([{"accion": "prioridad", "prioridad": "urgente"}]),
        json!([{"accion": "congelar_retiros", "sede": "x"}]),
        json!([{"accion": "comando", "tipos": [], "datos": {}}]),
        json!([{"accion": "comando", "tipos": ["a b"], "datos": {}}]),
        json!([command(json!([]))]),
        json!([command(json!({"color": "=colr"}))]),
        json!([command(json!({"alerta_id": "x"}))]),
        json!({"accion": "congelar_retiros"}),
        json!("congelar_retiros"),
        Value::Null,
    ] {
        let mut body = light("true");
        body["acciones"] = actions.clone();
        let answer = client.post(RULES, None, &body).await.unwrap();
        assert!(
            [400, 422].contains(&answer.status),
            "{actions}: {}",
            answer.text()
        );
        assert_eq!(
            answer.code(),
            "regla_invalida",
            "{actions}: {}",
            answer.text()
        );
    }
    let mut placed = light("true");
    placed["acciones"] = json!([command(json!({"a": [{"color": "= 1 + colr"}]}))]);
    let answer = client.post(RULES, None, &placed).await.unwrap();
    assert_refused(&answer, 422, "regla_invalida", "in an action");
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("acciones[0]"),
        "{}",
        answer.text()
    );
    for (field, value) in [
        ("orden", json!("x")),
        ("orden", json!(3_000_000_000_u64)),
        ("activa", json!("si")),
        ("condicion", json!(5)),
        ("prioridad", json!(1)),
    ] {
        let mut body = light("true");
        body[field] = value.clone();
        let answer = client.post(RULES, None, &body).await.unwrap();
        assert_refused(&answer, 400, "cuerpo_invalido", format!("{field} {value}"));
    }
    let mut named = light("true");
    named["nombre"] = json!("a\nb");
    assert_refused(
        &client.post(RULES, None, &named).await.unwrap(),
        422,
        "valor_invalido",
        "its name",
    );
    assert_eq!(client.walk(RULES, "", 200).await, before);
}

#[actix_web::test]
async fn a_changed_rule_acts_on_the_next_alert() {
    let mut atalaya = at_once().await;
    let client = atalaya.client();
    client.without_defaults().await;
    create_place(&client, "banco", "sur").await;
    for (site, name) in [
        ("principal", "luz-1"),
        ("principal", "luz-2"),
        ("sur", "luz-sur"),
    ] {
        register(&client, "banco", site, name, "SEMAFORO").await;
    }
    register(&client, "banco", "principal", "luz-off", "SEMAFORO").await;
    client
        .changes(
            Method::PATCH,
            "/api/v1/hardware/luz-off",
            &json!({"activo": false}),
            200,
        )
        .await;
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut orders = WebSocket::open(&atalaya).await;
    orders
        .subscribe(&["empresas/+/+/+/comando", "empresas/+/alertas"])
        .await;
    let mut next = async |kind: &str| {
        let answer = client.submit(&button.alert(kind)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let reply = answer.json();
        let alert = reply["alerta_id"].as_str().unwrap().to_owned();
        let step = client.first_step(&alert).await;
        assert_eq!(step["reglas"], reply["reglas"]);
        client
            .step(&alert, "descartar", &json!({"motivo": "prueba"}))
            .await;
        step
    };
    assert_eq!(next("ROJO").await["comandos"], json!([]));

    let id = client
        .make_rule(&light("alerta.tipo_alarma == 'ROJO'"))
        .await;
    let step = next("ROJO").await;
    assert_eq!(step["reglas"], json!([{"id": id, "version": 1}]));
    let commands = step["comandos"].as_array().unwrap();
    assert_eq!(
        texts(commands, "hardware"),
        ["luz-1", "luz-2"],
        "of the site, and switched on"
    );
    for command in commands {
        let order = &command["comando"];
        assert_eq!(
            (&order["accion"], &order["color"]),
            (&json!("ENCENDER"), &json!("ROJO"))
        );
        assert_eq!(
            (&order["tipo_alarma"], &order["prioridad"]),
            (&json!("ROJO"), &json!("critica"))
        );
        assert_eq!(order["regla"], json!({"id": id, "version": 1}));
    }
    assert_eq!(next("AZUL").await["reglas"], json!([]));

    assert_eq!(
        client
            .revise(id, json!({"condicion": "alerta.tipo_alarma == 'AZUL'"}))
            .await
            .status,
        200
    );
    assert_eq!(next("ROJO").await["comandos"], json!([]));
    assert_eq!(
        next("AZUL").await["reglas"],
        json!([{"id": id, "version": 2}])
    );
    assert_eq!(
        client.revise(id, json!({"activa": false})).await.status,
        200
    );
    assert_eq!(next("AZUL").await["reglas"], json!([]));
    assert_eq!(client.revise(id, json!({"activa": true})).await.status, 200);
    assert_eq!(
        next("AZUL").await["reglas"],
        json!([{"id": id, "version": 4}])
    );

    // All of it went to whoever listens: the orders of a step before the news of it.
    let events = orders
        .events_until(|event| {
            event.json()["reglas"] == json!([{"id": id, "version": 4}])
                && event.json()["cambio"] == "CREADA"
        })
        .await;
    let told: Vec<&str> = events
        .iter()
        .filter(|event| event.topic.ends_with("/comando"))
        .map(|event| event.topic.split('/').nth(3).unwrap())
        .collect();
    assert_eq!(told.len() % 2, 0);
    assert!(
        told.iter().all(|name| ["luz-1", "luz-2"].contains(name)),
        "{told:?}"
    );
    let last: Vec<&str> = events
        .iter()
        .rev()
        .take(3)
        .map(|event| event.topic.as_str())
        .collect();
    assert_eq!(
        last,
        [
            "empresas/banco/alertas",
            "empresas/banco/principal/luz-2/comando",
            "empresas/banco/principal/luz-1/comando"
        ]
    );
    atalaya.kill();
    atalaya.start().await;
    let mut other = Device::enrol(&client, "boton-2").await;
    let alert = client.accepts(&other.alert("AZUL")).await;
    assert_eq!(
        client.first_step(&alert).await["reglas"],
        json!([{"id": id, "version": 4}])
    );
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn a_rule_that_changes_while_a_message_waits_counts() {
    // A commit takes half a second, so that a message is planned with the rule as it was before
    // and is decided after.
    let mut atalaya = at_once().await;
    let client = atalaya.client();
    client.without_defaults().await;
    let id = client
        .make_rule(&rule("false", json!({"accion": "congelar_retiros"})))
        .await;
    let mut button = Device::enrol(&client, "boton-1").await;
    atalaya.kill();
    atalaya.set("FAILPOINTS", "writer::before_commit=sleep(500)");
    atalaya.start().await;
    let records = Records::of(&atalaya);
    let message = button.alert("ROJO");
    let submit = async {
        eventually("the change is being committed", || async {
            records.is_being_written().then_some(())
        })
        .await;
        client.accepts(&message).await
    };
    let change = client.revise(id, json!({"condicion": "true"}));
    let (changed, alert) = futures_util::future::join(change, submit).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let step = client.first_step(&alert).await;
    assert_eq!(step["reglas"], json!([{"id": id, "version": 2}]));
    assert_eq!(client.alert(&alert).await["congela_retiros"], true);
}

#[actix_web::test]
async fn rules_apply_in_their_order_each_to_its_company() {
    let atalaya = at_once().await;
    let client = atalaya.client();
    client.without_defaults().await;
    create_place(&client, "acme", "norte").await;
    let notify = |group: &str| json!({"accion": "notificar", "grupo": group});
    let ordered = async |order: i64, condition: &str, action: Value| {
        let mut body = rule(condition, action);
        body["orden"] = json!(order);
        client.make_rule(&body).await
    };
    // Made in another order than the one in which they are tried.
    let third = ordered(30, "alerta.prioridad == 'critica'", notify("gerencia")).await;
    let first = ordered(10, "alerta.prioridad == 'critica'", notify("nunca")).await;
    let second = ordered(
        20,
        "alerta.datos.grave == true",
        json!({"accion": "prioridad", "prioridad": "critica"}),
    )
    .await;
    let fourth = ordered(
        40,
        "alerta.tipo_alarma == 'VERDE'",
        json!({"accion": "congelar_retiros"}),
    )
    .await;
    let mut theirs = rule("true", notify("ajenos"));
    theirs["empresa"] = json!("acme");
    client.make_rule(&theirs).await;
    let _ = first;

    let mut button = Device::enrol(&client, "boton-1").await;
    let mut claims = button.claims(1, "VERDE");
    claims["datos"] = json!({"grave": true});
    button.seq = 1;
    let alert = client.accepts(&button.sign(&claims)).await;
    let stands = client.alert(&alert).await;
    assert_eq!(stands["prioridad"], "critica");
    assert_eq!(stands["congela_retiros"], true);
    let step = client.first_step(&alert).await;
    assert_eq!(step["notificar"], json!(["gerencia"]));
    let version_1 = |id: i64| json!({"id": id, "version": 1});
    assert_eq!(
        step["reglas"],
        json!([version_1(second), version_1(third), version_1(fourth)])
    );
    let listed = client
        .walk("/api/v1/alertas", "&prioridad=critica", 200)
        .await;
    assert_eq!(texts(&listed, "alerta_id"), [alert.as_str()]);
    client.step(&alert, "resolver", &json!({})).await;

    // Data that is not there makes a rule fail, and no other.
    let failed = atalaya.metric("atalaya_rules_failed_total").await.unwrap();
    let alert = client.accepts(&button.alert("VERDE")).await;
    let stands = client.alert(&alert).await;
    assert_eq!(
        (&stands["prioridad"], &stands["congela_retiros"]),
        (&json!("baja"), &json!(true))
    );
    assert_eq!(
        client.first_step(&alert).await["reglas"],
        json!([version_1(fourth)])
    );
    assert_eq!(
        atalaya.metric("atalaya_rules_failed_total").await,
        Some(failed + 1.0)
    );
}

#[actix_web::test]
async fn devices_are_told_what_still_counts_when_an_alert_is_over() {
    let mut atalaya = at_once().await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    register(&client, "banco", "principal", "sirena-1", "SIRENA").await;
    let mut button = Device::enrol(&client, "boton-1").await;
    let red = client.accepts(&button.alert("ROJO")).await;
    let step = client.first_step(&red).await;
    assert_eq!(
        texts(step["comandos"].as_array().unwrap(), "hardware"),
        ["luz-1", "sirena-1"]
    );
    // A repetition orders nothing anew.
    let head = Records::of(&atalaya).number("SELECT count(*) FROM journal_texts");
    client.accepts(&button.alert("ROJO")).await;
    assert_eq!(
        Records::of(&atalaya).number("SELECT count(*) FROM journal_texts"),
        head
    );
    let blue = client.accepts(&button.alert("AZUL")).await;
    let green = client.accepts(&button.alert("VERDE")).await;
    // What comes late drives nothing, and so wants nothing back.
    button.seq += 1;
    let mut late = button.claims(button.seq, "ROJO");
    late["iat"] = json!(now() - 3_600);
    let late = client.accepts(&button.sign(&late)).await;
    assert_eq!(client.first_step(&late).await["comandos"], json!([]));
    atalaya.kill();
    atalaya.start().await;

    let over = async |alert: &str| {
        let closed = client.step(alert, "resolver", &json!({})).await;
        assert_eq!(closed.status, 200, "{}", closed.text());
        let steps = client.alert(alert).await["historia"].clone();
        steps[0]["comandos"].as_array().unwrap().clone()
    };
    let told = over(&red).await;
    assert_eq!(texts(&told, "hardware"), ["luz-1", "sirena-1"]);
    let (light, siren) = (&told[0]["comando"], &told[1]["comando"]);
    assert_eq!(
        (&light["alerta_id"], &light["color"]),
        (&json!(blue), &json!("AZUL")),
        "{light}"
    );
    assert_eq!(light["prioridad"], "alta");
    assert_eq!(
        (&siren["alerta_id"], &siren["tipo_alarma"]),
        (&json!(red), &json!("NORMAL"))
    );
    // The less urgent one ends: the light goes on showing the other.
    let told = over(&green).await;
    assert_eq!(told[0]["comando"]["alerta_id"], blue.as_str());
    let told = over(&blue).await;
    assert_eq!(
        (told.len(), &told[0]["comando"]["tipo_alarma"]),
        (1, &json!("NORMAL"))
    );
    assert!(over(&late).await.is_empty());
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn a_trial_says_what_would_be_and_changes_nothing() {
    let atalaya = at_once().await;
    let client = atalaya.client();
    client.without_defaults().await;
    create_place(&client, "acme", "norte").await;
    register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut theirs = Device::enrol_at(&client, "acme", "norte", "boton-2", "BOTONERA").await;
    let mut made = Vec::new();
    for kind in ["ROJO", "AZUL", "ROJO", "VERDE"] {
        let alert = client.accepts(&button.alert(kind)).await;
        client
            .step(&alert, "descartar", &json!({"motivo": "x"}))
            .await;
        made.push(alert);
    }
    client.accepts(&theirs.alert("ROJO")).await;
    let stored = client
        .make_rule(&light("alerta.tipo_alarma == 'VERDE'"))
        .await;
    client.revise(stored, json!({"activa": false})).await;
    let records = Records::of(&atalaya);
    let state = || {
        ["journal", "alerts", "rules", "journal_texts"]
            .map(|table| records.number(&format!("SELECT count(*) FROM {table}")))
    };
    let before = (
        state(),
        client.walk(RULES, "", 200).await,
        client.walk("/api/v1/alertas", "", 200).await,
    );
    let try_out = async |body: Value| client.changes(Method::POST, TRIAL, &body, 200).await;

    // One alert that matches, and one that does not.
    let red = light("alerta.tipo_alarma == 'ROJO' && tipo.color == 'ROJO'");
    let trial = try_out(json!({"regla": red, "alerta_id": made[0]})).await;
    assert_eq!(
        (&trial["probadas"], &trial["coinciden"]),
        (&json!(1), &json!(1))
    );
    let result = &trial["resultados"][0];
    assert_eq!(
        (&result["alerta_id"], &result["coincide"]),
        (&json!(made[0]), &json!(true))
    );
    assert_eq!(result["comandos"][0]["hardware"], "luz-1");
    assert_eq!(result["comandos"][0]["comando"]["color"], "ROJO");
    let trial = try_out(json!({"regla": red, "alerta_id": made[1]})).await;
    assert_eq!(
        (&trial["probadas"], &trial["coinciden"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(trial["resultados"][0]["coincide"], false);
    assert_eq!(trial["resultados"][0]["comandos"], json!([]));

    // All alerts of some days, of the rule's company.
    let trial = try_out(json!({"regla": red, "dias": 7})).await;
    assert_eq!(
        (&trial["probadas"], &trial["coinciden"]),
        (&json!(4), &json!(2))
    );
    let found = trial["resultados"].as_array().unwrap();
    assert_eq!(
        texts(found, "alerta_id"),
        [made[2].as_str(), made[0].as_str()]
    );
    // A stored one, switched off or not.
    let trial = try_out(json!({"regla_id": stored, "dias": 1})).await;
    assert_eq!(
        (&trial["probadas"], &trial["coinciden"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(trial["resultados"][0]["alerta_id"], made[3].as_str());
    // All of the company's, as they stand.
    let trial = try_out(json!({"alerta_id": made[0]})).await;
    assert_eq!(
        (&trial["probadas"], &trial["coinciden"]),
        (&json!(1), &json!(0))
    );
    let actions = json!([{"accion": "prioridad", "prioridad": "critica"},
        {"accion": "notificar", "grupo": "guardia"}, {"accion": "congelar_retiros"}]);
    let mut several = rule("true", json!({}));
    several["acciones"] = actions;
    let trial = try_out(json!({"regla": several, "alerta_id": made[3]})).await;
    let result = &trial["resultados"][0];
    assert_eq!(result["prioridad"], "critica");
    assert_eq!(
        (&result["notificar"], &result["congela_retiros"]),
        (&json!(["guardia"]), &json!(true))
    );
    // One that fails on what is there says how.
    let failing = light("alerta.datos.no_esta == 1");
    let trial = try_out(json!({"regla": failing, "alerta_id": made[0]})).await;
    let result = &trial["resultados"][0];
    assert_eq!(result["coincide"], false);
    assert_eq!(result["errores"].as_array().unwrap().len(), 1, "{result}");

    for (body, status, code) in [
        (json!({"regla": red}), 422, "valor_invalido"),
        (json!({}), 422, "valor_invalido"),
        (
            json!({"regla": red, "regla_id": stored, "dias": 1}),
            422,
            "valor_invalido",
        ),
        (
            json!({"regla": red, "alerta_id": made[0], "dias": 1}),
            422,
            "valor_invalido",
        ),
        (json!({"regla": red, "dias": 0}), 422, "valor_invalido"),
        (json!({"regla": red, "dias": -1}), 422, "valor_invalido"),
        (json!({"regla": red, "dias": 91}), 422, "valor_invalido"),
        (
            json!({"regla": red, "dias": i64::MAX}),
            422,
            "valor_invalido",
        ),
        (
            json!({"regla_id": 999_999, "dias": 1}),
            404,
            "regla_no_existe",
        ),
        (
            json!({"regla": red, "alerta_id": "01990000-0000-7000-8000-000000000000"}),
            404,
            "alerta_no_existe",
        ),
        (
            json!({"regla": red, "alerta_id": "x"}),
            400,
            "cuerpo_invalido",
        ),
        (
            json!({"regla": red, "dias": 1, "x": 1}),
            400,
            "cuerpo_invalido",
        ),
    ] {
        let answer = client.post(TRIAL, None, &body).await.unwrap();
        assert_refused(&answer, status, code, &body);
    }
    // The check of a message says what the rules would do as well.
    client.revise(stored, json!({"activa": true})).await;
    let message = button.alert("VERDE");
    let verdict = client
        .jose("/api/v1/alertas/validacion", &message)
        .await
        .json();
    assert_eq!(verdict["prueba"]["coincide"], true, "{verdict}");
    assert_eq!(
        verdict["prueba"]["comandos"][0]["comando"]["color"],
        "VERDE"
    );
    client.revise(stored, json!({"activa": false})).await;

    let mut after = (
        state(),
        client.walk(RULES, "", 200).await,
        client.walk("/api/v1/alertas", "", 200).await,
    );
    // The two changes of the stored rule are all that has happened.
    after.0[0] -= 2;
    after.0[2] -= 2;
    assert_eq!((after.0, after.2), (before.0, before.2));
    assert_eq!(after.1.len(), before.1.len());
}

#[actix_web::test]
async fn a_company_has_two_hundred_rules_and_no_more() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client
        .changes(
            Method::POST,
            "/api/v1/empresas",
            &json!({"empresa": "acme"}),
            201,
        )
        .await;
    let dear = "alerta.datos.lista.exists(x, x == 'nada') || hora < 0";
    let mut body = light(dear);
    for n in 3..200 {
        body["nombre"] = json!(format!("Regla {n}"));
        client.make_rule(&body).await;
    }
    let answer = client.post(RULES, None, &body).await.unwrap();
    assert_refused(&answer, 422, "valor_invalido", "one too many");
    body["empresa"] = json!("acme");
    client.make_rule(&body).await;
    assert_eq!(client.walk(RULES, "&empresa=banco", 64).await.len(), 200);
    // All of them on a message as large as one may be: it is taken all the same.
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut claims = button.claims(1, "ROJO");
    claims["datos"] = json!({"lista": (0..9_000).collect::<Vec<_>>()});
    button.seq = 1;
    let message = button.sign(&claims);
    assert!(message.len() > 55_000, "{}", message.len());
    client.accepts(&message).await;
}
