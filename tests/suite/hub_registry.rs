//! The registry over REST: companies, sites, devices and their keys, types and kinds.

use crate::support::client::{Response, finish};
use crate::support::device::{Device, Signing, create_place, encode, hex, register};
use crate::support::hub::{assert_refused, assert_rejected, texts};
use crate::support::mariadb::on_files;
use crate::support::{Atalaya, Client, Records, audit, raw, run};
use awc::http::Method;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::path::Path;

const COMPANIES: &str = "/api/v1/empresas";
const SITES: &str = "/api/v1/sedes";
const DEVICES: &str = "/api/v1/hardware";

/// What is no name in a topic.
fn no_slugs() -> Vec<String> {
    let texts = [
        "",
        " ",
        "a b",
        "a+b",
        "+",
        "#",
        "a#",
        "a/b",
        "/",
        "a\0b",
        "\0",
        "ñandú",
        "a.b",
        "..",
        "a\n",
        "a%",
        "$SYS",
        "١",
        "a\u{202e}b",
    ];
    let too_long = "x".repeat(65);
    texts
        .map(str::to_owned)
        .into_iter()
        .chain([too_long])
        .collect()
}

async fn post(client: &Client, path: &str, body: Value) -> Response {
    client.post(path, None, &body).await.unwrap()
}

async fn patch(client: &Client, path: &str, body: Value) -> Response {
    client.send(Method::PATCH, path, &body).await
}

async fn put(client: &Client, path: &str, body: Value) -> Response {
    client.send(Method::PUT, path, &body).await
}

#[actix_web::test]
async fn a_company_is_made_once_changed_and_read_back() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let made = post(
        &client,
        COMPANIES,
        json!({"empresa": "acme", "nombre": " Acme S.A. "}),
    )
    .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let company = made.json();
    assert_eq!(company["empresa"], "acme");
    assert_eq!(company["nombre"], "Acme S.A.");
    assert_eq!(company["activa"], true);
    let path = format!("{COMPANIES}/acme");
    assert_eq!(client.json(&path).await, company);
    let again = post(
        &client,
        COMPANIES,
        json!({"empresa": "acme", "nombre": "Otra"}),
    )
    .await;
    assert_refused(&again, 409, "empresa_existe", "the same name");
    assert_eq!(client.json(&path).await, company);

    let changed = patch(&client, &path, json!({"nombre": "Acme Holding"})).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["nombre"], "Acme Holding");
    assert_eq!(changed.json()["activa"], true);
    let silenced = patch(&client, &path, json!({"activa": false})).await.json();
    assert_eq!(silenced["activa"], false);
    assert_eq!(silenced["nombre"], "Acme Holding");
    assert_eq!(silenced["creada"], company["creada"]);
    assert_eq!(client.json(&path).await, silenced);

    // Names tell capitals apart, and a name for people is the other where there is none.
    let other = post(&client, COMPANIES, json!({"empresa": "ACME"})).await;
    assert_eq!(
        (other.status, &other.json()["nombre"]),
        (201, &json!("ACME"))
    );
    let longest = "x".repeat(64);
    assert_eq!(
        post(&client, COMPANIES, json!({"empresa": longest}))
            .await
            .status,
        201
    );
}

#[actix_web::test]
async fn a_company_starts_with_kinds_that_are_its_own() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client
        .changes(Method::POST, COMPANIES, &json!({"empresa": "acme"}), 201)
        .await;
    let expected = [
        ("ROJO", "critica"),
        ("NARANJA", "alta"),
        ("AMARILLO", "media"),
        ("VERDE", "baja"),
        ("AZUL", "alta"),
        ("DISPOSITIVO_SILENCIOSO", "media"),
    ];
    for company in ["banco", "acme"] {
        let kinds = client
            .walk("/api/v1/tipos_alarma", &format!("&empresa={company}"), 4)
            .await;
        let found: Vec<_> = texts(&kinds, "tipo_alarma")
            .into_iter()
            .zip(texts(&kinds, "prioridad"))
            .collect();
        assert_eq!(found, expected, "{company}");
        assert!(
            kinds
                .iter()
                .all(|kind| kind["empresa"] == company && kind["activo"] == true)
        );
    }
    assert_eq!(client.walk("/api/v1/tipos_alarma", "", 5).await.len(), 12);

    let path = "/api/v1/tipos_alarma/acme/ROJO";
    let body = json!({"nombre": "Atraco", "prioridad": "alta", "color": "#ff0000",
        "descripcion": "Robo", "instrucciones": "Calma.\nLlame.", "elementos": ["radio", "chaleco"],
        "escalar_segundos": 30, "activo": false});
    let changed = put(&client, path, body.clone()).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let mut expected = body;
    expected["empresa"] = json!("acme");
    expected["tipo_alarma"] = json!("ROJO");
    assert_eq!(changed.json(), expected);
    let of = async |company: &str| {
        let kinds = client
            .walk("/api/v1/tipos_alarma", &format!("&empresa={company}"), 200)
            .await;
        kinds
            .into_iter()
            .find(|kind| kind["tipo_alarma"] == "ROJO")
            .unwrap()
    };
    assert_eq!(of("acme").await, expected);
    assert_eq!(of("banco").await["nombre"], "Robo o asalto");
    // A kind of one's own; what is not given is empty, and it is never escalated.
    let own = put(
        &client,
        "/api/v1/tipos_alarma/acme/HUMO",
        json!({"nombre": "Humo", "prioridad": "baja", "color": "gris"}),
    )
    .await;
    assert_eq!(own.status, 200, "{}", own.text());
    assert_eq!(
        own.json(),
        json!({"empresa": "acme", "tipo_alarma": "HUMO", "nombre": "Humo",
        "prioridad": "baja", "color": "gris", "descripcion": "", "instrucciones": "",
        "elementos": [], "escalar_segundos": null, "activo": true})
    );
    assert_eq!(
        client
            .walk("/api/v1/tipos_alarma", "&empresa=acme", 3)
            .await
            .len(),
        7
    );
    let unknown = put(
        &client,
        "/api/v1/tipos_alarma/nadie/HUMO",
        json!({"nombre": "Humo", "prioridad": "baja", "color": "gris"}),
    )
    .await;
    assert_refused(&unknown, 404, "empresa_no_existe", "a kind of nobody");
}

#[actix_web::test]
async fn a_site_belongs_to_its_company() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client
        .changes(Method::POST, COMPANIES, &json!({"empresa": "acme"}), 201)
        .await;
    let body = json!({"empresa": "acme", "sede": "principal", "nombre": "Matriz",
        "zona_horaria": "America/Guayaquil"});
    let site = client.changes(Method::POST, SITES, &body, 201).await;
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&site[field], value, "{field}");
    }
    assert_eq!(site["activa"], true);
    assert_refused(
        &post(&client, SITES, body).await,
        409,
        "sede_existe",
        "again",
    );
    // The bank has a site of that name too, which is another.
    let bank = client.json(&format!("{SITES}/banco/principal")).await;
    assert_eq!(bank["zona_horaria"], "UTC");
    let path = format!("{SITES}/acme/principal");
    assert_eq!(client.json(&path).await, site);

    let change = json!({"nombre": "Casa matriz", "zona_horaria": "Pacific/Galapagos"});
    let changed = client.changes(Method::PATCH, &path, &change, 200).await;
    assert_eq!(changed["nombre"], "Casa matriz");
    assert_eq!(changed["zona_horaria"], "Pacific/Galapagos");
    assert_eq!(client.json(&format!("{SITES}/banco/principal")).await, bank);
    let body = json!({"empresa": "nadie", "sede": "x"});
    assert_refused(
        &post(&client, SITES, body).await,
        404,
        "empresa_no_existe",
        "of nobody",
    );
    for path in ["nadie/principal", "acme/norte", "ACME/principal"] {
        let path = format!("{SITES}/{path}");
        let read = client.get(&path).await.unwrap();
        assert_refused(&read, 404, "sede_no_encontrada", &path);
    }
    let patched = patch(
        &client,
        &format!("{SITES}/nadie/x"),
        json!({"activa": true}),
    )
    .await;
    assert_refused(&patched, 404, "empresa_no_existe", "a site of nobody");
    let patched = patch(&client, &format!("{SITES}/acme/x"), json!({"activa": true})).await;
    assert_refused(&patched, 404, "sede_no_encontrada", "no site");

    for zone in [
        "",
        " ",
        "Mars/Phobos",
        "UTC+5",
        "../../etc/passwd",
        "America/",
        "Etc/Unknown",
        "\0",
    ] {
        let body = json!({"empresa": "acme", "sede": "z", "zona_horaria": zone});
        assert_refused(
            &post(&client, SITES, body).await,
            422,
            "valor_invalido",
            zone,
        );
        let change = patch(&client, &path, json!({"zona_horaria": zone})).await;
        assert_refused(&change, 422, "valor_invalido", zone);
    }
    assert_eq!(client.json(&path).await, changed);
    assert_eq!(client.walk(SITES, "&empresa=acme", 50).await.len(), 1);
}

#[actix_web::test]
async fn a_device_is_one_in_the_whole_installation() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    let body = json!({"hardware": "boton-1", "empresa": "acme", "sede": "norte",
        "tipo": "BOTONERA", "nombre": "Botón de caja"});
    let device = client.changes(Method::POST, DEVICES, &body, 201).await;
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&device[field], value, "{field}");
    }
    assert_eq!(device["activo"], true);
    assert_eq!(device["claves"], json!([]));
    assert_eq!(device["silencioso"], false);
    for unknown_yet in ["estado", "estado_desde", "ultima_senal"] {
        assert_eq!(device[unknown_yet], Value::Null, "{unknown_yet}");
    }
    let path = format!("{DEVICES}/boton-1");
    assert_eq!(client.json(&path).await, device);
    let elsewhere =
        json!({"hardware": "boton-1", "empresa": "banco", "sede": "principal", "tipo": "SIRENA"});
    assert_refused(
        &post(&client, DEVICES, elsewhere).await,
        409,
        "hardware_existe",
        "elsewhere",
    );

    let with = |field: &str, value: &str| {
        let mut body =
            json!({"hardware": "b2", "empresa": "acme", "sede": "norte", "tipo": "SENSOR"});
        body[field] = json!(value);
        body
    };
    for (field, value, status, code) in [
        ("empresa", "nadie", 404, "empresa_no_existe"),
        ("sede", "sur", 404, "sede_no_encontrada"),
        ("sede", "principal", 404, "sede_no_encontrada"),
        ("tipo", "TOSTADORA", 422, "tipo_hardware_no_existe"),
        ("tipo", "botonera", 422, "tipo_hardware_no_existe"),
    ] {
        let answer = post(&client, DEVICES, with(field, value)).await;
        assert_refused(&answer, status, code, format!("{field} {value}"));
    }
    let changed = client
        .changes(
            Method::PATCH,
            &path,
            &json!({"nombre": "Otra caja", "tipo": "SIRENA"}),
            200,
        )
        .await;
    assert_eq!(
        (&changed["nombre"], &changed["tipo"]),
        (&json!("Otra caja"), &json!("SIRENA"))
    );
    let answer = patch(&client, &path, json!({"tipo": "TOSTADORA"})).await;
    assert_refused(&answer, 422, "tipo_hardware_no_existe", "no such type");
    // A device never moves.
    for field in ["sede", "empresa", "hardware"] {
        let answer = patch(&client, &path, json!({field: "norte"})).await;
        assert_refused(&answer, 400, "cuerpo_invalido", field);
    }
    assert_eq!(client.json(&path).await, changed);
    for method in [Method::GET, Method::PATCH] {
        let answer = client
            .send(method, &format!("{DEVICES}/nadie"), &json!({}))
            .await;
        assert_refused(&answer, 404, "hardware_no_existe", "unknown");
    }

    // A type of one's own, and how long one of it may be silent.
    let kind = client
        .changes(
            Method::PUT,
            "/api/v1/tipos_hardware/TOSTADORA",
            &json!({"descripcion": "Tostadoras", "silencio_segundos": 60}),
            200,
        )
        .await;
    assert_eq!(
        kind,
        json!({"tipo": "TOSTADORA", "descripcion": "Tostadoras", "silencio_segundos": 60})
    );
    let kind = client
        .changes(
            Method::PUT,
            "/api/v1/tipos_hardware/TOSTADORA",
            &json!({"silencio_segundos": null}),
            200,
        )
        .await;
    assert_eq!(
        kind,
        json!({"tipo": "TOSTADORA", "descripcion": "Tostadoras", "silencio_segundos": null})
    );
    let types = client.json("/api/v1/tipos_hardware").await;
    let types = types["datos"].as_array().unwrap();
    let mut names = texts(types, "tipo");
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "BOTONERA",
            "PANTALLA",
            "SEMAFORO",
            "SENSOR",
            "SIRENA",
            "TERMINAL",
            "TOSTADORA"
        ]
    );
    client
        .changes(Method::PATCH, &path, &json!({"tipo": "TOSTADORA"}), 200)
        .await;
}

#[actix_web::test]
async fn what_could_not_stand_in_a_topic_is_no_name() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    for text in no_slugs() {
        let device = |field: &str| {
            let mut body =
                json!({"hardware": "b", "empresa": "banco", "sede": "principal", "tipo": "SENSOR"});
            body[field] = json!(text);
            body
        };
        for (path, body) in [
            (COMPANIES, json!({"empresa": text})),
            (SITES, json!({"empresa": text, "sede": "x"})),
            (SITES, json!({"empresa": "banco", "sede": text})),
            (DEVICES, device("hardware")),
            (DEVICES, device("empresa")),
            (DEVICES, device("sede")),
            (DEVICES, device("tipo")),
            (
                "/api/v1/alertas",
                json!({"hardware": text, "tipo_alarma": "ROJO"}),
            ),
            (
                "/api/v1/alertas",
                json!({"hardware": "boton-1", "tipo_alarma": text}),
            ),
            (
                "/api/v1/alertas/validacion",
                json!({"hardware": text, "tipo_alarma": "ROJO"}),
            ),
        ] {
            let answer = post(&client, path, body).await;
            assert_refused(&answer, 422, "valor_invalido", format!("{path} {text:?}"));
        }
        // In an address, where it gets there at all.
        let escaped = text.bytes().fold(String::new(), |escaped, byte| {
            escaped + &format!("%{byte:02X}")
        });
        for (method, path, body) in [
            ("GET", format!("{COMPANIES}/{escaped}"), ""),
            (
                "PATCH",
                format!("{COMPANIES}/{escaped}"),
                r#"{"activa":false}"#,
            ),
            ("GET", format!("{SITES}/banco/{escaped}"), ""),
            (
                "PATCH",
                format!("{SITES}/{escaped}/principal"),
                r#"{"activa":false}"#,
            ),
            ("GET", format!("{DEVICES}/{escaped}"), ""),
            (
                "PATCH",
                format!("{DEVICES}/{escaped}"),
                r#"{"activo":false}"#,
            ),
            (
                "POST",
                format!("{DEVICES}/{escaped}/claves"),
                r#"{"alg":"HS256"}"#,
            ),
            ("DELETE", format!("{DEVICES}/boton-1/claves/{escaped}"), ""),
            ("PUT", format!("/api/v1/tipos_hardware/{escaped}"), "{}"),
            (
                "PUT",
                format!("/api/v1/tipos_alarma/banco/{escaped}"),
                r#"{"nombre":"x","prioridad":"baja","color":"x"}"#,
            ),
            (
                "PUT",
                format!("/api/v1/tipos_alarma/{escaped}/ROJO"),
                r#"{"nombre":"x","prioridad":"baja","color":"x"}"#,
            ),
        ] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = raw::exchange(atalaya.http_port, request).await;
            assert!(
                matches!(answer.status, 404 | 405 | 422),
                "{method} {path}: {answer:?}"
            );
            answer.code();
        }
    }
    for (path, count) in [
        (COMPANIES, 1),
        (SITES, 1),
        (DEVICES, 1),
        ("/api/v1/tipos_alarma", 6),
    ] {
        let all = client.walk(path, "", 200).await;
        assert_eq!(all.len(), count, "{path}");
        let is_active = |item: &Value| item["activa"] == true || item["activo"] == true;
        assert!(all.iter().all(is_active), "{path}: {all:?}");
    }
}

#[actix_web::test]
async fn a_value_that_cannot_be_right_changes_nothing() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    let before = everything(&client).await;
    let head = Records::of(&atalaya).number("SELECT head_seq FROM lanes");
    let long = "x".repeat(101);
    let lines = "x".repeat(2_001);
    for name in ["", "  ", "a\nb", "a|b", "a\u{0}", "\u{1b}[31m", &long] {
        for (method, path, body) in [
            (
                Method::POST,
                COMPANIES,
                json!({"empresa": "a", "nombre": name}),
            ),
            (
                Method::PATCH,
                "/api/v1/empresas/banco",
                json!({"nombre": name}),
            ),
            (
                Method::POST,
                SITES,
                json!({"empresa": "banco", "sede": "a", "nombre": name}),
            ),
            (
                Method::PATCH,
                "/api/v1/sedes/banco/principal",
                json!({"nombre": name}),
            ),
            (
                Method::POST,
                DEVICES,
                json!({"hardware": "a", "empresa": "banco", "sede": "principal",
                "tipo": "SENSOR", "nombre": name}),
            ),
            (
                Method::PATCH,
                "/api/v1/hardware/boton-1",
                json!({"nombre": name}),
            ),
            (
                Method::PUT,
                "/api/v1/tipos_alarma/banco/ROJO",
                json!({"nombre": name, "prioridad": "baja", "color": "x"}),
            ),
            (
                Method::PUT,
                "/api/v1/tipos_alarma/banco/ROJO",
                json!({"nombre": "x", "prioridad": "baja", "color": name}),
            ),
            (
                Method::PUT,
                "/api/v1/tipos_alarma/banco/ROJO",
                json!({"nombre": "x", "prioridad": "baja", "color": "x", "elementos": [name]}),
            ),
        ] {
            let answer = client.send(method, path, &body).await;
            assert_refused(&answer, 422, "valor_invalido", format!("{path} {body}"));
        }
    }
    let kind = |field: &str, value: Value| {
        let mut body = json!({"nombre": "x", "prioridad": "baja", "color": "x"});
        body[field] = value;
        body
    };
    let many: Vec<String> = (0..51).map(|n| n.to_string()).collect();
    for body in [
        kind("prioridad", json!("urgente")),
        kind("prioridad", json!("Critica")),
        kind("prioridad", json!("")),
        kind("descripcion", json!(lines)),
        kind("instrucciones", json!("a\u{0}b")),
        kind("elementos", json!(many)),
        kind("escalar_segundos", json!(0)),
        kind("escalar_segundos", json!(-1)),
        kind("escalar_segundos", json!(31_536_001)),
        kind("escalar_segundos", json!(i64::MAX)),
    ] {
        let answer = put(&client, "/api/v1/tipos_alarma/banco/ROJO", body.clone()).await;
        assert_refused(&answer, 422, "valor_invalido", body);
    }
    let latido = put(
        &client,
        "/api/v1/tipos_alarma/banco/LATIDO",
        kind("color", json!("x")),
    )
    .await;
    assert_refused(&latido, 422, "valor_invalido", "a heartbeat is no kind");
    for silence in [0, -1, 31_536_001, i64::MIN] {
        let body = json!({"silencio_segundos": silence});
        let answer = put(&client, "/api/v1/tipos_hardware/SENSOR", body).await;
        assert_refused(&answer, 422, "valor_invalido", silence);
    }
    for (method, path, body) in [
        (
            Method::POST,
            COMPANIES,
            json!({"empresa": "a", "activa": true}),
        ),
        (Method::POST, COMPANIES, json!({"nombre": "a"})),
        (Method::POST, COMPANIES, json!({"empresa": 5})),
        (Method::POST, COMPANIES, json!([{"empresa": "a"}])),
        (
            Method::POST,
            SITES,
            json!({"empresa": "banco", "sede": "a", "zona": "UTC"}),
        ),
        (
            Method::POST,
            DEVICES,
            json!({"hardware": "a", "empresa": "banco", "sede": "principal"}),
        ),
        (
            Method::PATCH,
            "/api/v1/hardware/boton-1",
            json!({"activo": "no"}),
        ),
        (
            Method::PATCH,
            "/api/v1/hardware/boton-1",
            json!({"activo": 0}),
        ),
        (
            Method::PATCH,
            "/api/v1/empresas/banco",
            json!({"empresa": "otra"}),
        ),
        (
            Method::PUT,
            "/api/v1/tipos_alarma/banco/ROJO",
            json!({"nombre": "x", "prioridad": "baja"}),
        ),
        (
            Method::PUT,
            "/api/v1/tipos_alarma/banco/ROJO",
            kind("escalar_segundos", json!(1.5)),
        ),
        (
            Method::PUT,
            "/api/v1/tipos_alarma/banco/ROJO",
            kind("escalar_segundos", json!(1e30)),
        ),
        (
            Method::PUT,
            "/api/v1/tipos_hardware/SENSOR",
            json!({"silencio_segundos": "60"}),
        ),
        (
            Method::PUT,
            "/api/v1/tipos_hardware/SENSOR",
            json!({"silencio": 60}),
        ),
    ] {
        let answer = client.send(method, path, &body).await;
        assert_refused(&answer, 400, "cuerpo_invalido", format!("{path} {body}"));
    }
    assert_eq!(everything(&client).await, before);
    assert_eq!(
        Records::of(&atalaya).number("SELECT head_seq FROM lanes"),
        head
    );
}

#[actix_web::test]
async fn two_keys_may_be_active_and_a_revoked_one_fails_at_once() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut old = Device::enrol(&client, "boton-1").await;
    let path = format!("{DEVICES}/boton-1/claves");
    let mut new = old.clone();
    new.signing = Signing::ed25519(99);
    let body = json!({"alg": "EdDSA", "clave_publica": new.signing.public()});
    let key = client.changes(Method::POST, &path, &body, 201).await;
    new.kid = key["kid"].as_str().unwrap().to_owned();
    assert_eq!(
        (&key["alg"], &key["revocada"]),
        (&json!("EdDSA"), &Value::Null)
    );
    assert!(key.get("secreto").is_none());
    assert_refused(
        &post(&client, &path, body.clone()).await,
        409,
        "demasiadas_claves",
        "a third",
    );

    // Each key counts for itself, so that a rotation has no gap.
    assert_eq!(client.submit(&old.alert("ROJO")).await.status, 201);
    assert_eq!(client.submit(&new.alert("ROJO")).await.status, 201);

    let under = |kid: &str| format!("{path}/{kid}");
    let revoked = client.bare(Method::DELETE, &under(&old.kid)).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    assert!(revoked.json()["revocada"].is_string());
    assert_eq!(revoked.json()["kid"], old.kid.as_str());
    assert_rejected(
        &client.submit(&old.alert("ROJO")).await,
        "IDENTIDAD",
        "revoked",
    );
    assert_eq!(client.submit(&new.alert("ROJO")).await.status, 201);
    for kid in [old.kid.as_str(), "k1", "../boton-2"] {
        let answer = client.bare(Method::DELETE, &under(kid)).await;
        assert!(answer.status == 404, "{kid}: {}", answer.text());
    }
    let keys = client.json(&path).await;
    let keys = keys["datos"].as_array().unwrap().clone();
    assert_eq!(texts(&keys, "kid"), [old.kid.as_str(), new.kid.as_str()]);
    assert!(keys[0]["revocada"].is_string() && keys[1]["revocada"].is_null());
    assert_eq!(
        client.json(&format!("{DEVICES}/boton-1")).await["claves"],
        json!(keys)
    );
    // There is room for one again, and another device cannot revoke it.
    client
        .changes(Method::POST, &path, &json!({"alg": "HS256"}), 201)
        .await;
    register(&client, "banco", "principal", "boton-2", "BOTONERA").await;
    let theirs = client
        .bare(
            Method::DELETE,
            &format!("{DEVICES}/boton-2/claves/{}", new.kid),
        )
        .await;
    assert_refused(&theirs, 404, "clave_no_existe", "a key of another device");
    assert_eq!(client.submit(&new.alert("ROJO")).await.status, 201);
}

#[actix_web::test]
async fn a_key_that_proves_nothing_is_no_key() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    let path = format!("{DEVICES}/boton-1/claves");
    let good = Signing::ed25519(5).public();
    // Points of small order (RFC 8032 leaves them to the verifier), in their encodings.
    let mut order_1 = [0; 32];
    order_1[0] = 1;
    let mut order_2 = [0xff; 32];
    (order_2[0], order_2[31]) = (0xec, 0x7f);
    let order_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
    let order_8: Vec<u8> = (0..32)
        .map(|n| u8::from_str_radix(&order_8[n * 2..n * 2 + 2], 16).unwrap())
        .collect();
    let standard = BASE64_STANDARD.encode([0xfb; 32]);
    for body in [
        json!({"alg": "EdDSA", "clave_publica": encode(&order_1)}),
        json!({"alg": "EdDSA", "clave_publica": encode(&order_2)}),
        json!({"alg": "EdDSA", "clave_publica": encode(&order_8)}),
        json!({"alg": "EdDSA", "clave_publica": encode(&[0; 32])}),
        json!({"alg": "EdDSA", "clave_publica": encode(&[0xff; 32])}),
        json!({"alg": "EdDSA", "clave_publica": encode(&[7; 31])}),
        json!({"alg": "EdDSA", "clave_publica": encode(&[7; 33])}),
        json!({"alg": "EdDSA", "clave_publica": ""}),
        json!({"alg": "EdDSA", "clave_publica": format!("{good}=")}),
        json!({"alg": "EdDSA", "clave_publica": standard}),
        json!({"alg": "EdDSA", "clave_publica": "no es base64url"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": "EdDSA", "secreto": encode(&[7; 32])}),
        json!({"alg": "EdDSA", "clave_publica": good, "secreto": encode(&[7; 32])}),
        json!({"alg": "HS256", "secreto": encode(&[7; 16])}),
        json!({"alg": "HS256", "secreto": encode(&[7; 31])}),
        json!({"alg": "HS256", "secreto": encode(&[7; 64])}),
        json!({"alg": "HS256", "secreto": ""}),
        json!({"alg": "HS256", "clave_publica": good}),
        json!({"alg": "HS256", "clave_publica": good, "secreto": encode(&[7; 32])}),
        json!({"alg": "none"}),
        json!({"alg": "RS256", "clave_publica": good}),
        json!({"alg": "eddsa", "clave_publica": good}),
        json!({"alg": ""}),
    ] {
        let answer = post(&client, &path, body.clone()).await;
        assert_refused(&answer, 422, "clave_de_hardware_invalida", &body);
        let secret = body["secreto"].as_str().unwrap_or("(none)");
        assert!(
            secret.is_empty() || !answer.text().contains(secret),
            "{body} is told again"
        );
    }
    for body in [
        json!({}),
        json!({"alg": "HS256", "kid": "k1"}),
        json!({"alg": "HS256", "secreto": 7}),
    ] {
        assert_refused(
            &post(&client, &path, body.clone()).await,
            400,
            "cuerpo_invalido",
            &body,
        );
    }
    let nobody = post(
        &client,
        &format!("{DEVICES}/nadie/claves"),
        json!({"alg": "HS256"}),
    )
    .await;
    assert_refused(&nobody, 404, "hardware_no_existe", "a key of nobody");
    assert_eq!(client.json(&path).await["datos"], json!([]));
    client
        .changes(
            Method::POST,
            &path,
            &json!({"alg": "EdDSA", "clave_publica": good}),
            201,
        )
        .await;
}

#[actix_web::test]
async fn a_shared_secret_is_shown_once_and_stands_nowhere() {
    let mut atalaya = Atalaya::without_mqtt()
        .set("RUST_LOG", "trace")
        .start()
        .await;
    let client = atalaya.client();
    let mut made = Device::enrol_with_secret(&client, "sensor-1").await;
    let path = format!("{DEVICES}/sensor-1/claves");
    let given: [u8; 32] = std::array::from_fn(|n| u8::try_from(n * 7 % 251).unwrap());
    let body = json!({"alg": "HS256", "secreto": encode(&given)});
    let key = client.changes(Method::POST, &path, &body, 201).await;
    assert!(
        key.get("secreto").is_none(),
        "whoever gave it has it: {key}"
    );
    // What is refused is told nobody either, nor what is declared as something else.
    let third = post(&client, &path, body.clone()).await;
    assert_refused(&third, 409, "demasiadas_claves", "a third");
    let mut odd = body.clone();
    odd["otro"] = json!(1);
    assert_refused(
        &post(&client, &path, odd).await,
        400,
        "cuerpo_invalido",
        "an odd field",
    );
    let plain = client
        .request(Method::POST, &path)
        .insert_header(("content-type", "text/plain"));
    let plain = finish(plain.send_body(body.to_string())).await.unwrap();
    assert_refused(&plain, 415, "tipo_no_admitido", "not declared");

    let mut with_given = made.clone();
    with_given.kid = key["kid"].as_str().unwrap().to_owned();
    with_given.signing = Signing::Hs256(given);
    for device in [&mut made, &mut with_given] {
        assert_eq!(client.submit(&device.alert("ROJO")).await.status, 201);
        assert_rejected(
            &client.submit(&device.alert("MORADO")).await,
            "TIPO",
            "for the log",
        );
    }
    let Signing::Hs256(shown) = made.signing else {
        panic!("made by Atalaya")
    };
    let mut answers = String::new();
    for path in [
        &path,
        DEVICES,
        &format!("{DEVICES}/sensor-1"),
        "/api/v1/cuarentena",
        "/api/v1/alertas",
        "/metrics",
    ] {
        answers += &client.get(path).await.unwrap().text();
    }
    assert!(!answers.contains("\"secreto\":"), "{answers}");
    atalaya.kill();
    for secret in [shown, given] {
        let hex = hex(&secret);
        let list = format!("{secret:?}");
        for form in [
            &secret[..],
            encode(&secret).as_bytes(),
            BASE64_STANDARD.encode(secret).as_bytes(),
            hex.as_bytes(),
            hex.to_uppercase().as_bytes(),
            list.trim_matches(['[', ']']).as_bytes(),
        ] {
            assert!(
                !answers
                    .as_bytes()
                    .windows(form.len())
                    .any(|part| part == form)
            );
            let found = files_with(atalaya.folder(), form);
            assert!(
                found.is_empty(),
                "{} stands in {found:?}",
                String::from_utf8_lossy(form)
            );
        }
    }
    // The search finds what is there: the log, the journal and the table are in its reach.
    let name = with_given.kid.as_bytes();
    if on_files() {
        assert!(!files_with(&atalaya.folder().join("data"), name).is_empty());
    }
    assert!(atalaya.log().contains("TRACE"));
}

#[actix_web::test]
async fn shared_secrets_open_again_under_their_key_file_and_no_other() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut sensor = Device::enrol_with_secret(&client, "sensor-1").await;
    let first = sensor.alert("ROJO");
    let alert = client.accepts(&first).await;
    atalaya.kill();
    atalaya.start().await;
    let again = client.submit(&first).await;
    assert_eq!(
        (again.status, &again.json()["alerta_id"]),
        (200, &json!(alert))
    );
    assert_eq!(client.submit(&sensor.alert("ROJO")).await.status, 201);
    atalaya.kill();

    let file = atalaya.folder().join("data/device-kek");
    let key = std::fs::read_to_string(&file).unwrap();
    let refusal = async |what: &str| {
        let command = atalaya.command();
        let ended = actix_web::web::block(move || run(command)).await.unwrap();
        assert_ne!(ended.code, Some(0), "{what}");
        assert!(
            ended.stderr.contains("DEVICE_KEK_FILE"),
            "{what}: {}",
            ended.stderr
        );
        ended.stderr
    };
    std::fs::remove_file(&file).unwrap();
    let told = refusal("missing").await;
    assert!(
        told.contains("restore it") && told.contains("device-kek"),
        "{told}"
    );
    assert!(
        !file.exists(),
        "a new key would hide that the old one is missing"
    );
    std::fs::write(&file, format!("{}\n", BASE64_STANDARD.encode([7; 32]))).unwrap();
    let told = refusal("another").await;
    assert!(
        told.contains("another") && told.contains(&sensor.kid),
        "{told}"
    );
    for wrong in ["", "short", &BASE64_STANDARD.encode([7; 31])] {
        std::fs::write(&file, wrong).unwrap();
        assert!(refusal(wrong).await.contains("32 bytes in base64"));
    }
    std::fs::write(&file, key).unwrap();
    atalaya.start().await;
    assert_eq!(client.submit(&sensor.alert("ROJO")).await.status, 201);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn what_is_deactivated_silences_all_below_it_and_comes_back_as_it_was() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    create_place(&client, "acme", "sur").await;
    let mut below = Device::enrol_at(&client, "acme", "norte", "b-norte", "BOTONERA").await;
    let mut beside = Device::enrol_at(&client, "acme", "sur", "b-sur", "BOTONERA").await;
    let mut apart = Device::enrol(&client, "b-banco").await;
    for (path, field, hits_beside) in [
        ("/api/v1/empresas/acme", "activa", true),
        ("/api/v1/sedes/acme/norte", "activa", false),
        ("/api/v1/hardware/b-norte", "activo", false),
    ] {
        client
            .changes(Method::PATCH, path, &json!({field: false}), 200)
            .await;
        let silenced = below.alert("ROJO");
        assert_rejected(&client.submit(&silenced).await, "IDENTIDAD", path);
        assert_rejected(
            &client.submit(&below.alert("LATIDO")).await,
            "IDENTIDAD",
            path,
        );
        let manual = client.raise("b-norte", "ROJO").await;
        assert_refused(&manual, 422, "alerta_rechazada", path);
        assert_eq!(manual.json()["motivo"], "IDENTIDAD");
        let others = client.submit(&beside.alert("ROJO")).await;
        assert_eq!(others.status, if hits_beside { 422 } else { 201 }, "{path}");
        assert_eq!(
            client.submit(&apart.alert("ROJO")).await.status,
            201,
            "{path}"
        );
        client
            .changes(Method::PATCH, path, &json!({field: true}), 200)
            .await;
        // It used no number, so the same message is as good as new.
        assert_eq!(client.submit(&silenced).await.status, 201, "{path}");
        assert_eq!(
            client.submit(&beside.alert("ROJO")).await.status,
            201,
            "{path}"
        );
    }
    // All three at once: each must be lifted.
    let all = [
        ("/api/v1/empresas/acme", "activa"),
        ("/api/v1/sedes/acme/norte", "activa"),
        ("/api/v1/hardware/b-norte", "activo"),
    ];
    for (path, field) in all {
        client
            .changes(Method::PATCH, path, &json!({field: false}), 200)
            .await;
    }
    for (path, field) in all {
        assert_rejected(
            &client.submit(&below.alert("ROJO")).await,
            "IDENTIDAD",
            path,
        );
        client
            .changes(Method::PATCH, path, &json!({field: true}), 200)
            .await;
    }
    assert_eq!(client.submit(&below.alert("ROJO")).await.status, 201);
}

#[actix_web::test]
async fn lists_come_in_pages_and_take_filters() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for company in ["acme", "beta"] {
        for site in ["norte", "sur"] {
            create_place(&client, company, site).await;
            for n in 1..=3 {
                let kind = if n == 1 { "SIRENA" } else { "BOTONERA" };
                register(
                    &client,
                    company,
                    site,
                    &format!("{company}-{site}-{n}"),
                    kind,
                )
                .await;
            }
        }
    }
    for limit in [1, 2, 5, 11, 12, 13, 200] {
        let devices = client.walk(DEVICES, "", limit).await;
        let names = texts(&devices, "hardware");
        assert_eq!(names.len(), 12, "{limit}");
        assert_eq!(
            (names[0], names[11]),
            ("acme-norte-1", "beta-sur-3"),
            "{limit}"
        );
        let names: std::collections::BTreeSet<_> = names.into_iter().collect();
        assert_eq!(names.len(), 12, "each once, {limit} a page");
    }
    for (filter, count) in [
        ("&empresa=acme", 6),
        ("&sede=norte", 6),
        ("&tipo=SIRENA", 4),
        ("&empresa=beta&sede=sur", 3),
        ("&empresa=beta&sede=sur&tipo=SIRENA", 1),
        ("&empresa=banco", 0),
        ("&empresa=nadie", 0),
        ("&tipo=NADA", 0),
    ] {
        assert_eq!(
            client.walk(DEVICES, filter, 2).await.len(),
            count,
            "{filter}"
        );
    }
    assert_eq!(
        texts(&client.walk(COMPANIES, "", 2).await, "empresa"),
        ["banco", "acme", "beta"]
    );
    assert_eq!(client.walk(SITES, "", 3).await.len(), 5);
    let sites = client.walk(SITES, "&empresa=beta", 1).await;
    assert_eq!(texts(&sites, "sede"), ["norte", "sur"]);

    for list in [
        COMPANIES,
        SITES,
        DEVICES,
        "/api/v1/tipos_alarma",
        "/api/v1/cuarentena",
        "/api/v1/alertas",
    ] {
        for query in [
            "limite=0",
            "limite=201",
            "limite=-1",
            "limite=x",
            "limite=1.5",
            "limite=1&limite=2",
            "cursor=0",
            "cursor=-1",
            "cursor=x",
            "cursor=9223372036854775808",
            "nada=1",
            "limite=%FF",
        ] {
            let answer = client.get(&format!("{list}?{query}")).await.unwrap();
            assert_refused(
                &answer,
                400,
                "parametro_invalido",
                format!("{list}?{query}"),
            );
        }
        for query in [
            "limite=200",
            "limite=1",
            "limite=",
            "cursor=",
            "cursor=9223372036854775807",
        ] {
            let answer = client.get(&format!("{list}?{query}")).await.unwrap();
            assert_eq!(answer.status, 200, "{list}?{query}: {}", answer.text());
        }
    }
}

#[actix_web::test]
async fn the_registry_outlives_the_process() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    client
        .changes(
            Method::PATCH,
            "/api/v1/sedes/acme/norte",
            &json!({"nombre": "Norte", "zona_horaria": "America/Guayaquil"}),
            200,
        )
        .await;
    client
        .changes(Method::POST, COMPANIES, &json!({"empresa": "beta"}), 201)
        .await;
    client
        .changes(
            Method::PATCH,
            "/api/v1/empresas/beta",
            &json!({"activa": false}),
            200,
        )
        .await;
    let mut button = Device::enrol_at(&client, "acme", "norte", "boton-1", "BOTONERA").await;
    let sensor = Device::enrol_with_secret(&client, "sensor-1").await;
    let revoked = format!("{DEVICES}/sensor-1/claves/{}", sensor.kid);
    client.bare(Method::DELETE, &revoked).await;
    client
        .changes(
            Method::PATCH,
            &format!("{DEVICES}/sensor-1"),
            &json!({"activo": false}),
            200,
        )
        .await;
    client
        .changes(
            Method::PUT,
            "/api/v1/tipos_hardware/TOSTADORA",
            &json!({"silencio_segundos": 9}),
            200,
        )
        .await;
    client
        .put_kind(
            "HUMO",
            json!({"elementos": ["agua", "manta"], "escalar_segundos": 7}),
        )
        .await;
    client.accepts(&button.alert("ROJO")).await;
    let before = everything(&client).await;
    atalaya.kill();
    atalaya.start().await;
    assert_eq!(everything(&client).await, before);
    assert!(atalaya.terminate().await.success());
    atalaya.start().await;
    assert_eq!(everything(&client).await, before);
    // And what comes after it is new, in numbers of its own.
    create_place(&client, "gama", "este").await;
    let mut other = Device::enrol_at(&client, "gama", "este", "boton-2", "BOTONERA").await;
    assert_ne!(
        client.accepts(&other.alert("ROJO")).await,
        client.accepts(&button.alert("AZUL")).await
    );
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn of_many_who_register_the_same_one_does() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for (path, body, code) in [
        (COMPANIES, json!({"empresa": "acme"}), "empresa_existe"),
        (
            SITES,
            json!({"empresa": "acme", "sede": "norte"}),
            "sede_existe",
        ),
        (
            DEVICES,
            json!({"hardware": "b", "empresa": "acme", "sede": "norte", "tipo": "SENSOR"}),
            "hardware_existe",
        ),
    ] {
        let answers = join_all((0..24).map(|_| post(&client, path, body.clone()))).await;
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(made, 1, "{path}");
        for other in answers.iter().filter(|answer| answer.status != 201) {
            assert_refused(other, 409, code, path);
        }
    }
    let path = format!("{DEVICES}/b/claves");
    let answers = join_all((0..24).map(|_| post(&client, &path, json!({"alg": "HS256"})))).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 201).count(),
        2
    );
    assert_eq!(
        client.json(&path).await["datos"].as_array().unwrap().len(),
        2
    );
    audit(&atalaya.database()).unwrap();
}

/// All that the registry says of itself.
async fn everything(client: &Client) -> Value {
    let mut all = json!({});
    for list in [
        COMPANIES,
        SITES,
        DEVICES,
        "/api/v1/tipos_alarma",
        "/api/v1/reglas",
    ] {
        all[list] = json!(client.walk(list, "", 200).await);
    }
    all["types"] = client.json("/api/v1/tipos_hardware").await;
    all
}

/// The files below `folder` in which `bytes` stand, but for the key file.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if !path.ends_with("device-kek") {
            let content = std::fs::read(&path).unwrap();
            if content.windows(bytes.len()).any(|part| part == bytes) {
                found.push(path);
            }
        }
    }
    found
}
