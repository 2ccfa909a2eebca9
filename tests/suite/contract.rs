//! The contract with clients: bytes that must not change, and a document that must be true.
//!
//! `tests/golden/` holds each payload as it left the socket, with its moment, its transaction and
//! our version replaced by fixed ones. `UPDATE_GOLDEN=1` writes the files anew; a change in them
//! is a change for every client that is out there.

use crate::support::client::{Client, Response, finish};
use crate::support::device::{Device, Signing, register};
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
    // The admin, the tests' token, two openings, two first deposits, a deposit, a transfer with its two halves, a withdrawal.
    let marker = subscriber
        .wait_for("the marker at the end", |message| {
            message.topic == "atalaya/retenidos" && message.json()["posicion"] == 10
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
    let accounts = client.get("/api/v1/cuentas?limite=1").await.unwrap();
    golden("cuentas", &accounts.text());
    golden("cajas", &client.get("/api/v1/cajas").await.unwrap().text());
}

#[actix_web::test]
async fn what_the_hub_publishes_is_what_devices_and_people_read() {
    let broker = Mosquitto::start();
    let subscriber = Subscriber::to(broker.port, &["empresas/#"]).await;
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    for (name, kind) in [
        ("luz-1", "SEMAFORO"),
        ("pantalla-1", "PANTALLA"),
        ("sirena-1", "SIRENA"),
    ] {
        register(&client, "banco", "principal", name, kind).await;
    }
    let (replies, news) = (button.topic("respuesta"), "empresas/banco/alertas");
    let nth = async |topic: &str, n: usize| {
        eventually(&format!("message {n} on {topic}"), || async {
            distinct(&subscriber, topic).into_iter().nth(n)
        })
        .await
    };

    let mut claims = button.claims(1, "ROJO");
    claims["descripcion"] = json!("Robo en caja 2");
    claims["ubicacion"] = json!({"piso": 1, "zona": "cajas"});
    claims["datos"] = json!({"pulsaciones": 2});
    button.seq = 1;
    let message = button.sign(&claims);
    let answer = client.submit(&message).await.text();
    golden("respuesta-aceptada", &answer);
    // The answer over HTTP is the one that is published, to the byte.
    assert_eq!(nth(&replies, 0).await.text(), answer);
    let again = client.submit(&message).await.text();
    golden("respuesta-duplicada", &again);
    assert_eq!(nth(&replies, 1).await.text(), again);
    let beat = client.submit(&button.alert("LATIDO")).await.text();
    golden("respuesta-latido", &beat);
    assert_eq!(nth(&replies, 2).await.text(), beat);
    let mut elsewhere = button.claims(9, "ROJO");
    elsewhere["aud"] = json!("otra");
    let elsewhere = button.sign(&elsewhere);
    subscriber
        .publish(&button.topic("alerta"), false, &elsewhere)
        .await;
    golden("respuesta-rechazada", &nth(&replies, 3).await.text());
    golden("alerta-rechazada", &client.submit(&elsewhere).await.text());

    let order = |device: &str| format!("empresas/banco/principal/{device}/comando");
    golden("comando-semaforo", &nth(&order("luz-1"), 0).await.text());
    golden(
        "comando-pantalla",
        &nth(&order("pantalla-1"), 0).await.text(),
    );
    golden("comando-sirena", &nth(&order("sirena-1"), 0).await.text());
    let mut repeated = button.claims(button.seq + 1, "ROJO");
    button.seq += 1;
    repeated["descripcion"] = json!("otra vez");
    let alert = client.accepts(&button.sign(&repeated)).await;
    client.step(&alert, "reconocer", &json!({})).await;
    client
        .step(&alert, "resolver", &json!({"motivo": "llegó la policía"}))
        .await;
    golden("comando-normal", &nth(&order("luz-1"), 1).await.text());
    let manual = client.raise("luz-1", "VERDE").await.json();
    let manual = manual["alerta_id"].as_str().unwrap();
    client
        .step(manual, "descartar", &json!({"motivo": "ensayo"}))
        .await;
    for (n, name) in [
        "alerta-creada",
        "alerta-repetida",
        "alerta-reconocida",
        "alerta-resuelta",
        "alerta-de-operador",
        "alerta-descartada",
    ]
    .into_iter()
    .enumerate()
    {
        golden(name, &nth(news, n).await.text());
    }
    golden(
        "alerta-con-historia",
        &client
            .get(&format!("/api/v1/alertas/{alert}"))
            .await
            .unwrap()
            .text(),
    );
    let late = Subscriber::to(broker.port, &["empresas/#", "atalaya/estado"]).await;
    late.wait_for("what is retained", |m| m.topic == "atalaya/estado")
        .await;
    let of_ours = |m: &&Message| {
        ["respuesta", "comando", "alertas"]
            .iter()
            .any(|last| m.topic.ends_with(last))
    };
    assert!(
        subscriber
            .all()
            .iter()
            .filter(of_ours)
            .all(|m| m.qos == 1 && !m.retain)
    );
    assert_eq!(
        late.all().iter().filter(of_ours).count(),
        0,
        "nothing of it is retained"
    );
}

#[actix_web::test]
async fn what_the_registry_answers_is_what_clients_read() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let send = async |method: &str, path: &str, body: Value| {
        let answer = client.send(method.parse().unwrap(), path, &body).await;
        assert!(answer.status < 500, "{}", answer.text());
        answer.text()
    };
    let get = async |path: &str| client.get(path).await.unwrap().text();
    let acme = json!({"empresa": "acme", "nombre": "Acme"});
    golden(
        "empresa",
        &send("POST", "/api/v1/empresas", acme.clone()).await,
    );
    golden(
        "empresa-existe",
        &send("POST", "/api/v1/empresas", acme).await,
    );
    let site = json!({"empresa": "acme", "sede": "norte", "nombre": "Norte", "zona_horaria": "America/Guayaquil"});
    golden("sede", &send("POST", "/api/v1/sedes", site).await);
    let device = json!({"hardware": "sensor-1", "empresa": "acme", "sede": "norte", "tipo": "SENSOR", "nombre": "Humo"});
    golden(
        "hardware-nuevo",
        &send("POST", "/api/v1/hardware", device).await,
    );
    let keys = "/api/v1/hardware/sensor-1/claves";
    golden(
        "clave-con-secreto",
        &send("POST", keys, json!({"alg": "HS256"})).await,
    );
    let signing = Signing::ed25519(7);
    let key = send(
        "POST",
        keys,
        json!({"alg": "EdDSA", "clave_publica": signing.public()}),
    )
    .await;
    golden("clave", &key);
    let password = format!("{}/contrasena_mqtt", keys.trim_end_matches("/claves"));
    golden("contrasena-mqtt", &send("POST", &password, json!({})).await);
    let secret = format!("{}/secreto_heredado", keys.trim_end_matches("/claves"));
    golden("no-es-heredado", &send("POST", &secret, json!({})).await);
    let heir = json!({"hardware": "sensor-2", "empresa": "acme", "sede": "norte", "tipo": "SENSOR",
        "confianza": "heredada"});
    golden(
        "hardware-heredado",
        &send("POST", "/api/v1/hardware", heir).await,
    );
    let secret = secret.replace("sensor-1", "sensor-2");
    golden("secreto-heredado", &send("POST", &secret, json!({})).await);
    golden(
        "demasiadas-claves",
        &send("POST", keys, json!({"alg": "HS256"})).await,
    );
    golden("claves", &get(keys).await);
    let kid = serde_json::from_str::<Value>(&key).unwrap()["kid"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut sensor = Device {
        company: "acme".to_owned(),
        site: "norte".to_owned(),
        name: "sensor-1".to_owned(),
        kid: kid.clone(),
        signing,
        seq: 0,
    };
    let taken = sensor.alert("AMARILLO");
    let alert = client.accepts(&taken).await;
    golden("hardware", &get("/api/v1/hardware/sensor-1").await);
    golden(
        "clave-revocada",
        &client
            .bare(Method::DELETE, &format!("{keys}/{kid}"))
            .await
            .text(),
    );
    let refused = sensor.alert("ROJO");
    golden(
        "validacion",
        &client
            .jose("/api/v1/alertas/validacion", &refused)
            .await
            .text(),
    );
    assert_eq!(client.submit(&refused).await.status, 422);
    let kept = eventually("it is in quarantine", || async {
        let kept = client.get("/api/v1/cuarentena").await.ok()?;
        (kept.json()["datos"] != json!([])).then(|| kept.text())
    })
    .await;
    golden("cuarentena", &kept);
    golden("alertas", &get("/api/v1/alertas").await);
    let path = format!("/api/v1/alertas/{alert}/resolver");
    golden("alerta", &send("POST", &path, json!({})).await);
    let path = format!("/api/v1/alertas/{alert}/reconocer");
    golden("paso-no-permitido", &send("POST", &path, json!({})).await);
    let kind = json!({"nombre": "Humo", "prioridad": "alta", "color": "#808080", "elementos": ["extintor"],
        "escalar_segundos": 30});
    golden(
        "tipo-de-alarma",
        &send("PUT", "/api/v1/tipos_alarma/acme/HUMO", kind).await,
    );
    golden(
        "tipos-de-alarma",
        &get("/api/v1/tipos_alarma?empresa=banco").await,
    );
    golden("tipos-de-hardware", &get("/api/v1/tipos_hardware").await);
    golden("reglas", &get("/api/v1/reglas?empresa=acme").await);
    let rule = json!({"empresa": "acme", "nombre": "Aviso", "condicion": "alerta.prioridad == 'media'",
        "acciones": [{"accion": "notificar", "grupo": "guardia"}]});
    golden("regla", &send("POST", "/api/v1/reglas", rule.clone()).await);
    let trial = json!({"regla": rule, "alerta_id": alert});
    golden(
        "prueba-de-reglas",
        &send("POST", "/api/v1/reglas/prueba", trial).await,
    );
    let wrong = json!({"empresa": "acme", "nombre": "Mal", "condicion": "hora > 20\n&& colr == 1", "acciones": []});
    golden(
        "regla-invalida",
        &send("POST", "/api/v1/reglas", wrong).await,
    );
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
        .filter(|(path, _)| !matches!(*path, "/" | "/ws" | "/app/{archivo}"))
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
        (accounts, "", 200),
        ("/api/v1/cajas", "", 200),
        ("/api/v1/metricas", "", 200),
        ("/api/v1/logs/{registro}", "sistema", 200),
        ("/api/v1/logs/{registro}", "otro", 404),
        ("/livez", "", 200),
        ("/readyz", "", 200),
        ("/health", "", 200),
        ("/metrics", "", 200),
    ];
    for (template, id, status) in gets {
        let path = template.replace("{cedula}", id).replace("{registro}", id);
        let answer = client.get(&path).await.unwrap();
        assert_eq!(answer.status, status, "{template} {id}");
        is_documented(&document, template, "get", &answer);
    }
    // Whatever the route, a foreign page is turned away as documented.
    for (template, methods) in ROUTES
        .iter()
        .filter(|(path, _)| !matches!(*path, "/" | "/ws" | "/app/{archivo}"))
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

/// A call, and the status that it must have: method, address, its template where it differs, body.
struct Call(
    &'static str,
    &'static str,
    String,
    Option<Value>,
    &'static [u16],
);

#[actix_web::test]
async fn every_answer_of_the_hub_is_as_the_document_says() {
    let atalaya = Atalaya::without_mqtt()
        .set("DEVICE_RATE", 1)
        .set("DEVICE_BURST", 9)
        .start()
        .await;
    let client = atalaya.client();
    let document = document(&client).await;
    let mut button = Device::enrol(&client, "boton-1").await;
    register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let mut content = button.claims(1, "ROJO");
    content["ubicacion"] = json!({"piso": 1});
    content["datos"] = json!({"a": [1]});
    button.seq = 1;
    let first = button.sign(&content);
    let alert = client.accepts(&first).await;
    let mut elsewhere = button.claims(9, "ROJO");
    elsewhere["aud"] = json!("otra");
    let elsewhere = button.sign(&elsewhere);
    assert_eq!(client.submit(&elsewhere).await.status, 422);
    let suspect = eventually("it is in quarantine", || async {
        let kept = client.walk("/api/v1/cuarentena", "", 1).await;
        Some(kept.first()?["id"].to_string())
    })
    .await;
    let second = client.accepts(&button.alert("AZUL")).await;
    let kid = client.json("/api/v1/hardware/boton-1").await["claves"][0]["kid"].clone();
    let kid = kid.as_str().unwrap();

    let alerts = "/api/v1/alertas";
    let validation = "/api/v1/alertas/validacion";
    let (companies, sites, devices) = ("/api/v1/empresas", "/api/v1/sedes", "/api/v1/hardware");
    let company = "/api/v1/empresas/{empresa}";
    let site = "/api/v1/sedes/{empresa}/{sede}";
    let device = "/api/v1/hardware/{hardware}";
    let keys = "/api/v1/hardware/{hardware}/claves";
    let password = "/api/v1/hardware/{hardware}/contrasena_mqtt";
    let secret = "/api/v1/hardware/{hardware}/secreto_heredado";
    let kind = "/api/v1/tipos_alarma/{empresa}/{tipo_alarma}";
    let (rules, rule) = ("/api/v1/reglas", "/api/v1/reglas/{id}");
    let quarantine = "/api/v1/cuarentena/{id}";
    let at = |template: &str, values: &[&str]| {
        let mut path = template.to_owned();
        for value in values {
            let (start, end) = (path.find('{').unwrap(), path.find('}').unwrap());
            path.replace_range(start..=end, value);
        }
        path
    };
    let acme = json!({"empresa": "acme"});
    let norte = json!({"empresa": "acme", "sede": "norte"});
    let sensor = json!({"hardware": "s", "empresa": "acme", "sede": "norte", "tipo": "SENSOR"});
    let smoke = json!({"nombre": "Humo", "prioridad": "baja", "color": "gris"});
    let manual = json!({"hardware": "luz-1", "tipo_alarma": "VERDE"});
    let regla = json!({"empresa": "banco", "nombre": "r", "condicion": "true",
        "acciones": [{"accion": "notificar", "grupo": "guardia"}]});
    let wrong = json!({"empresa": "banco", "nombre": "r", "condicion": "1 +", "acciones": []});
    let signed = |message: &str| Some(json!(message));
    let acknowledge = "/api/v1/alertas/{id}/reconocer";
    let resolve = "/api/v1/alertas/{id}/resolver";
    let discard = "/api/v1/alertas/{id}/descartar";
    let mut calls = vec![
        Call(
            "POST",
            alerts,
            alerts.to_owned(),
            signed(&button.alert("ROJO")),
            &[201],
        ),
        Call("POST", alerts, alerts.to_owned(), signed(&first), &[200]),
        Call("POST", alerts, alerts.to_owned(), signed("x"), &[422]),
        Call(
            "POST",
            alerts,
            alerts.to_owned(),
            Some(manual.clone()),
            &[201],
        ),
        Call(
            "POST",
            alerts,
            alerts.to_owned(),
            Some(manual.clone()),
            &[200],
        ),
        Call("POST", alerts, alerts.to_owned(), Some(json!({})), &[400]),
        Call(
            "POST",
            validation,
            validation.to_owned(),
            signed(&button.alert("ROJO")),
            &[200],
        ),
        Call(
            "POST",
            validation,
            validation.to_owned(),
            signed(&elsewhere),
            &[200],
        ),
        Call(
            "POST",
            validation,
            validation.to_owned(),
            signed("x"),
            &[200],
        ),
        Call(
            "POST",
            validation,
            validation.to_owned(),
            Some(manual),
            &[200],
        ),
        Call("GET", alerts, alerts.to_owned(), None, &[200]),
        Call("GET", alerts, format!("{alerts}?limite=1"), None, &[200]),
        Call("GET", alerts, format!("{alerts}?limite=0"), None, &[400]),
        Call(
            "POST",
            acknowledge,
            at(acknowledge, &[&alert]),
            Some(json!({})),
            &[200],
        ),
        Call(
            "POST",
            resolve,
            at(resolve, &[&alert]),
            Some(json!({"motivo": "ya"})),
            &[200],
        ),
        Call(
            "POST",
            resolve,
            at(resolve, &["x"]),
            Some(json!({})),
            &[404],
        ),
        Call(
            "POST",
            discard,
            at(discard, &[&alert]),
            Some(json!({"motivo": "ya"})),
            &[409],
        ),
        Call(
            "POST",
            discard,
            at(discard, &[&second]),
            Some(json!({"motivo": "ya"})),
            &[200],
        ),
        Call(
            "GET",
            "/api/v1/alertas/{id}",
            format!("{alerts}/{alert}"),
            None,
            &[200],
        ),
        Call(
            "GET",
            "/api/v1/alertas/{id}",
            format!("{alerts}/{alert}?limite=1"),
            None,
            &[200],
        ),
        Call(
            "GET",
            "/api/v1/alertas/{id}",
            format!("{alerts}/x"),
            None,
            &[404],
        ),
        Call(
            "POST",
            companies,
            companies.to_owned(),
            Some(acme.clone()),
            &[201],
        ),
        Call("POST", companies, companies.to_owned(), Some(acme), &[409]),
        Call("GET", companies, companies.to_owned(), None, &[200]),
        Call(
            "GET",
            companies,
            format!("{companies}?limite=1"),
            None,
            &[200],
        ),
        Call("GET", company, at(company, &["acme"]), None, &[200]),
        Call("GET", company, at(company, &["nadie"]), None, &[404]),
        Call(
            "PATCH",
            company,
            at(company, &["acme"]),
            Some(json!({"activa": true})),
            &[200],
        ),
        Call("POST", sites, sites.to_owned(), Some(norte.clone()), &[201]),
        Call("POST", sites, sites.to_owned(), Some(norte), &[409]),
        Call("GET", sites, sites.to_owned(), None, &[200]),
        Call("GET", site, at(site, &["acme", "norte"]), None, &[200]),
        Call("GET", site, at(site, &["acme", "sur"]), None, &[404]),
        Call(
            "PATCH",
            site,
            at(site, &["acme", "norte"]),
            Some(json!({"nombre": "N"})),
            &[200],
        ),
        Call(
            "POST",
            devices,
            devices.to_owned(),
            Some(sensor.clone()),
            &[201],
        ),
        Call("POST", devices, devices.to_owned(), Some(sensor), &[409]),
        Call("GET", devices, devices.to_owned(), None, &[200]),
        Call("GET", device, at(device, &["boton-1"]), None, &[200]),
        Call("GET", device, at(device, &["nadie"]), None, &[404]),
        Call(
            "PATCH",
            device,
            at(device, &["s"]),
            Some(json!({"activo": true})),
            &[200],
        ),
        Call(
            "POST",
            keys,
            at(keys, &["s"]),
            Some(json!({"alg": "HS256"})),
            &[201],
        ),
        Call(
            "POST",
            keys,
            at(keys, &["s"]),
            Some(json!({"alg": "none"})),
            &[422],
        ),
        Call("GET", keys, at(keys, &["boton-1"]), None, &[200]),
        Call("POST", password, at(password, &["s"]), None, &[201]),
        Call("POST", password, at(password, &["nadie"]), None, &[404]),
        Call("DELETE", password, at(password, &["s"]), None, &[204]),
        Call("POST", secret, at(secret, &["s"]), None, &[409]),
        Call(
            "PATCH",
            device,
            at(device, &["s"]),
            Some(json!({"confianza": "heredada"})),
            &[200],
        ),
        Call("POST", secret, at(secret, &["s"]), None, &[201]),
        Call("POST", secret, at(secret, &["nadie"]), None, &[404]),
        Call("DELETE", secret, at(secret, &["s"]), None, &[204]),
        Call(
            "GET",
            "/api/v1/tipos_hardware",
            "/api/v1/tipos_hardware".to_owned(),
            None,
            &[200],
        ),
        Call(
            "PUT",
            "/api/v1/tipos_hardware/{tipo}",
            "/api/v1/tipos_hardware/T".to_owned(),
            Some(json!({})),
            &[200],
        ),
        Call(
            "GET",
            "/api/v1/tipos_alarma",
            "/api/v1/tipos_alarma".to_owned(),
            None,
            &[200],
        ),
        Call(
            "PUT",
            kind,
            at(kind, &["acme", "HUMO"]),
            Some(smoke.clone()),
            &[200],
        ),
        Call(
            "PUT",
            kind,
            at(kind, &["nadie", "HUMO"]),
            Some(smoke),
            &[404],
        ),
        Call("POST", rules, rules.to_owned(), Some(regla.clone()), &[201]),
        Call("POST", rules, rules.to_owned(), Some(wrong), &[422]),
        Call("GET", rules, rules.to_owned(), None, &[200]),
        Call("GET", rule, at(rule, &["1"]), None, &[200]),
        Call("GET", rule, at(rule, &["999999"]), None, &[404]),
        Call(
            "PATCH",
            rule,
            at(rule, &["1"]),
            Some(json!({"orden": 7})),
            &[200],
        ),
        Call(
            "PATCH",
            rule,
            at(rule, &["1"]),
            Some(json!({"orden": 7, "version": 1})),
            &[409],
        ),
        Call(
            "GET",
            "/api/v1/reglas/{id}/versiones",
            format!("{rules}/1/versiones"),
            None,
            &[200],
        ),
        Call(
            "POST",
            "/api/v1/reglas/prueba",
            format!("{rules}/prueba"),
            Some(json!({"dias": 1})),
            &[200],
        ),
        Call(
            "POST",
            "/api/v1/reglas/prueba",
            format!("{rules}/prueba"),
            Some(json!({"regla": regla, "alerta_id": alert})),
            &[200],
        ),
        Call(
            "POST",
            "/api/v1/reglas/prueba",
            format!("{rules}/prueba"),
            Some(json!({})),
            &[422],
        ),
        Call(
            "GET",
            "/api/v1/cuarentena",
            "/api/v1/cuarentena".to_owned(),
            None,
            &[200],
        ),
        Call("GET", quarantine, at(quarantine, &[&suspect]), None, &[200]),
        Call("GET", quarantine, at(quarantine, &["0"]), None, &[404]),
        Call(
            "POST",
            "/api/v1/cuarentena/{id}/reenviar",
            format!("/api/v1/cuarentena/{suspect}/reenviar"),
            None,
            &[422],
        ),
        Call(
            "DELETE",
            quarantine,
            at(quarantine, &[&suspect]),
            None,
            &[204],
        ),
        Call(
            "DELETE",
            quarantine,
            at(quarantine, &[&suspect]),
            None,
            &[404],
        ),
        Call(
            "DELETE",
            "/api/v1/hardware/{hardware}/claves/{kid}",
            format!("{devices}/boton-1/claves/{kid}"),
            None,
            &[200],
        ),
        Call(
            "DELETE",
            "/api/v1/hardware/{hardware}/claves/{kid}",
            format!("{devices}/boton-1/claves/{kid}"),
            None,
            &[404],
        ),
    ];
    // What the device sends beyond its limit comes last.
    let flood = button.alert("ROJO");
    for _ in 0..12 {
        calls.push(Call(
            "POST",
            alerts,
            alerts.to_owned(),
            signed(&flood),
            &[422, 429],
        ));
    }
    let mut checked = BTreeSet::new();
    let mut statuses = BTreeSet::new();
    for Call(method, template, path, body, expected) in calls {
        let method_name = method.parse().unwrap();
        let answer = match &body {
            Some(body) => client.send(method_name, &path, body).await,
            None => client.bare(method_name, &path).await,
        };
        assert!(
            expected.contains(&answer.status),
            "{method} {path} {body:?}: {}",
            answer.text()
        );
        is_documented(&document, template, &method.to_lowercase(), &answer);
        statuses.insert(answer.status);
        if answer.status < 400 {
            checked.insert((template, method));
        }
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    // A route of the hub whose answer nobody looks at is one that nobody has compared.
    let all: BTreeSet<(&str, &str)> = ROUTES
        .iter()
        .filter(|(path, _)| path.starts_with("/api/v1/"))
        .filter(|(path, _)| {
            // Accounts and operations stand above, access in a test of its own below.
            ![
                "cuentas",
                "cajas",
                "metricas",
                "logs",
                "transferencias",
                "estadisticas",
                "sesiones",
                "usuarios",
                "tokens",
                "auditoria",
            ]
            .iter()
            .any(|old| path.contains(old))
        })
        .flat_map(|(path, methods)| methods.iter().map(move |method| (*path, *method)))
        // It is answered as an alert is; what it takes to succeed stands in `hub_life`.
        .filter(|(path, _)| !path.ends_with("/reenviar"))
        .collect();
    assert_eq!(checked, all);
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
    if answer.status == 204 {
        assert!(responses.get(&status).is_some(), "{method} {path}: no 204");
        assert!(answer.body.is_empty(), "{method} {path}: a body in 204");
        return;
    }
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
    let digest =
        |text: &str| assert!(text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()));
    let of_32_bytes = |text: &str| assert_eq!(text.len(), 43);
    let made = |text: &str| assert!(text.len() == 33 && text.starts_with('k'), "{text}");
    let some = |text: &str| assert!(text.len() > 100, "{text}");
    let mut payload = payload.to_owned();
    for field in [
        "timestamp",
        "creada",
        "creado",
        "actualizada",
        "reconocida",
        "cerrada",
        "revocada",
        "recibida",
        "estado_desde",
        "ultima_senal",
        "modificada",
        "contrasena_mqtt",
        "secreto_heredado",
    ] {
        payload = replace(&payload, field, "2026-01-15T14:30:00.123Z", &moment);
    }
    for field in ["tx_id", "alerta_id"] {
        payload = replace(
            &payload,
            field,
            "01990000-0000-7000-8000-000000000000",
            &version_7,
        );
    }
    let payload = replace(&payload, "huella", &"0".repeat(64), &digest);
    let payload = replace(&payload, "secreto", "(32 bytes)", &of_32_bytes);
    let payload = replace(&payload, "contrasena", "(32 bytes)", &of_32_bytes);
    let payload = replace(&payload, "kid", "k00000000000000000000000000000000", &made);
    let payload = replace(&payload, "mensaje", "(JWS)", &some);
    let payload = replace(&payload, "mensaje_base64", "(base64)", &some);
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
