//! REST at its edges: what it answers, and what it refuses without harm.

use crate::support::client::{Client, Response, finish, raw_field};
use crate::support::{Atalaya, raw};
use awc::http::Method;
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

#[actix_web::test]
async fn an_account_is_opened_once_and_read_back() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let body = json!({"cedula": "0012", "nombres": "  Juan ", "apellidos": "Pérez García"});
    let opened = client.post("/api/v1/cuentas", None, &body).await.unwrap();
    assert_eq!(opened.status, 201);
    assert_eq!(
        opened.text(),
        r#"{"cedula":"0012","nombres":"Juan","apellidos":"Pérez García","saldo":0.00,"version":0}"#
    );
    let read = client.get("/api/v1/cuentas/0012").await.unwrap();
    assert_eq!((read.status, read.text()), (200, opened.text()));
    let again = client.post("/api/v1/cuentas", None, &body).await.unwrap();
    assert_eq!(
        (again.status, again.code().as_str()),
        (409, "cuenta_existe")
    );
    // Leading zeros are part of the name.
    let other = client.get("/api/v1/cuentas/12").await.unwrap();
    assert_eq!(
        (other.status, other.code().as_str()),
        (404, "cuenta_no_existe")
    );
}

#[actix_web::test]
async fn a_refusal_says_why() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "85.50").await;
    client.open("2").await;
    for (what, answer, status, code) in [
        (
            "overdraft",
            client.withdraw("1", "85.51", "a").await,
            409,
            "saldo_insuficiente",
        ),
        (
            "overdraft by transfer",
            client.transfer("1", "2", "100", "b").await,
            409,
            "saldo_insuficiente",
        ),
        (
            "deposit to nobody",
            client.deposit("9", "1", "c").await,
            404,
            "cuenta_no_existe",
        ),
        (
            "withdrawal from nobody",
            client.withdraw("9", "1", "d").await,
            404,
            "cuenta_no_existe",
        ),
        (
            "transfer from nobody",
            client.transfer("9", "1", "1", "e").await,
            404,
            "cuenta_no_existe",
        ),
        (
            "transfer to nobody",
            client.transfer("1", "9", "1", "f").await,
            404,
            "cuenta_destino_no_existe",
        ),
        (
            "movements of nobody",
            client.get("/api/v1/cuentas/9/movimientos").await.unwrap(),
            404,
            "cuenta_no_existe",
        ),
    ] {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{what}"
        );
        if code == "saldo_insuficiente" {
            assert_eq!(raw_field(&answer.text(), "saldo"), "85.50", "{what}");
        } else {
            assert!(answer.json().get("saldo").is_none(), "{what}");
        }
    }
    assert_eq!(client.version("1").await, 1);
}

#[actix_web::test]
async fn where_cedulas_are_checked_a_wrong_one_opens_no_account() {
    let atalaya = Atalaya::without_mqtt()
        .set("CEDULA_CHECK", "ec")
        .start()
        .await;
    let client = atalaya.client();
    client.open("1350509525").await;
    for wrong in ["1350509526", "135050952", "13505095250", "9950509525"] {
        let body = json!({"cedula": wrong, "nombres": "Ana", "apellidos": "Vera"});
        let answer = client.post("/api/v1/cuentas", None, &body).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "cedula_invalida"),
            "{wrong}"
        );
    }
}

#[actix_web::test]
async fn pages_of_movements_hold_every_posting_once_newest_first() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    client.open("2").await;
    for n in 1..=23 {
        // Other accounts' postings and refusals lie in between.
        client
            .deposit("1", &format!("{n}.00"), &format!("a{n}"))
            .await;
        client.deposit("2", "0.50", &format!("b{n}")).await;
        client.withdraw("2", "1000000", &format!("c{n}")).await;
    }
    for limit in [1, 5, 22, 23, 24, 200] {
        let seen = walk(&client, "1", limit).await;
        let versions: Vec<_> = seen
            .iter()
            .map(|m| m["version"].as_i64().unwrap())
            .collect();
        assert_eq!(versions, (1..=23).rev().collect::<Vec<i64>>(), "{limit}");
        let amounts: Vec<_> = seen.iter().map(|m| m["monto"].as_f64().unwrap()).collect();
        assert_eq!(
            amounts,
            (1..=23).rev().map(f64::from).collect::<Vec<_>>(),
            "{limit}"
        );
    }
    // A page stands still while new postings arrive.
    let first = page(&client, "1", "?limite=5").await;
    client.deposit("1", "24.00", "a24").await;
    let cursor = first["siguiente"].as_str().unwrap();
    let second = page(&client, "1", &format!("?limite=5&cursor={cursor}")).await;
    assert_eq!(second["datos"][0]["version"], 18);
    // Fifty, where nothing is asked.
    let rest = page(&client, "1", "").await;
    assert_eq!(rest["datos"].as_array().unwrap().len(), 24);
    assert_eq!(rest["siguiente"], Value::Null);
    client.open("3").await;
    assert_eq!(
        page(&client, "3", "").await,
        json!({"datos": [], "siguiente": null})
    );
}

#[actix_web::test]
async fn a_list_refuses_limits_cursors_and_parameters_that_are_not_its_own() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    client.withdraw("1", "11.00", "refused").await;
    client.open_with("2", "10.00").await;
    client.deposit("2", "1.00", "more").await;
    let theirs = page(&client, "2", "?limite=1").await;
    let theirs = theirs["siguiente"].as_str().unwrap();
    for query in [
        "limite=0",
        "limite=201",
        "limite=-1",
        "limite=1.5",
        "limite=x",
        "limite=99999999999999999999",
        "limite=1&limite=2",
        "cursor=0",
        "cursor=-1",
        "cursor=x",
        "cursor=999999",
        "cursor=9223372036854775807",
        "cursor=9223372036854775808",
        // An entry of this account, and no posting: its opening, and a refusal.
        "cursor=1",
        "cursor=3",
        &format!("cursor={theirs}"),
        "limit=5",
        "limite=%FF",
        "%00=%00",
    ] {
        let path = format!("/api/v1/cuentas/1/movimientos?{query}");
        let answer = client.get(&path).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "parametro_invalido"),
            "{query}"
        );
    }
    for query in ["", "?", "?limite=", "?limite=1", "?limite=200", "?cursor="] {
        let path = format!("/api/v1/cuentas/1/movimientos{query}");
        assert_eq!(client.get(&path).await.unwrap().status, 200, "{query}");
    }
}

#[actix_web::test]
async fn the_halves_of_a_transfer_name_each_other() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    client.open_with("2", "5.00").await;
    let transfer = client.transfer("1", "2", "10.00", "t").await.json();
    let sent = page(&client, "1", "?limite=1").await["datos"][0].clone();
    let received = page(&client, "2", "?limite=1").await["datos"][0].clone();
    assert_eq!(sent["tipo"], "TRANSFERENCIA_ENVIADA");
    assert_eq!(received["tipo"], "TRANSFERENCIA_RECIBIDA");
    assert_eq!(sent["contraparte"], "2");
    assert_eq!(received["contraparte"], "1");
    assert_eq!(sent["saldo_nuevo"], transfer["saldo_origen"]);
    assert_eq!(received["saldo_nuevo"], transfer["saldo_destino"]);
    for half in [&sent, &received] {
        assert_eq!(half["tx_id"], transfer["tx_id"]);
        assert_eq!(half["timestamp"], transfer["timestamp"]);
        assert_eq!(half["monto"], transfer["monto"]);
    }
}

#[actix_web::test]
async fn site_and_value_date_stand_in_the_history() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let path = "/api/v1/cuentas/1/depositos";
    let body = json!({"monto": 5, "sede": "principal", "fecha_valor": "1995-04-19"});
    let done = client.post(path, Some("k"), &body).await.unwrap();
    assert_eq!(done.status, 201, "{}", done.text());
    client.deposit("1", "1.00", "plain").await;
    let movements = page(&client, "1", "").await;
    let (plain, named) = (&movements["datos"][0], &movements["datos"][1]);
    assert_eq!(named["sede"], "principal");
    assert_eq!(named["fecha_valor"], "1995-04-19");
    assert!(plain.get("sede").is_none() && plain.get("fecha_valor").is_none());

    for (field, value, code) in [
        ("sede", "norte", "sede_no_existe"),
        ("sede", "PRINCIPAL", "sede_no_existe"),
        ("sede", "", "sede_invalida"),
        ("sede", "a/b", "sede_invalida"),
        ("sede", "#", "sede_invalida"),
        ("sede", &"x".repeat(65), "sede_invalida"),
        ("fecha_valor", "", "fecha_invalida"),
        ("fecha_valor", "2026-02-30", "fecha_invalida"),
        ("fecha_valor", "15/01/2026", "fecha_invalida"),
        ("fecha_valor", "0026-01-15", "fecha_invalida"),
        ("fecha_valor", "2026-01-15T00:00:00Z", "fecha_invalida"),
    ] {
        let body = json!({"monto": 5, field: value});
        let answer = client.post(path, Some("wrong"), &body).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, code),
            "{field} {value}"
        );
    }
    assert_eq!(client.version("1").await, 2);
}

#[actix_web::test]
async fn a_body_of_the_wrong_form_is_a_problem_and_nothing_else() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let deep = |open: &str, close: &str| {
        format!(
            "{{\"monto\":5,\"x\":{}{}}}",
            open.repeat(10_000),
            close.repeat(10_000)
        )
    };
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b" ".to_vec(),
        b"null".to_vec(),
        b"5".to_vec(),
        b"{}".to_vec(),
        b"[{\"monto\":5}]".to_vec(),
        b"{\"mnto\":5}".to_vec(),
        b"{\"monto\":5,\"mnto\":6}".to_vec(),
        b"{\"monto\":5,\"monto\":5}".to_vec(),
        b"{\"monto\":5,\"sede\":\"principal\",\"sede\":null}".to_vec(),
        b"{\"monto\":5,\"\\u006donto\":6}".to_vec(),
        b"{\"monto\":5,\"sede\":7}".to_vec(),
        b"{\"monto\":5,\"fecha_valor\":20260115}".to_vec(),
        b"{\"monto\":5}{\"monto\":5}".to_vec(),
        b"{\"monto\":5}x".to_vec(),
        b"{\"monto\":5,}".to_vec(),
        b"{'monto':5}".to_vec(),
        b"monto=5".to_vec(),
        b"\xef\xbb\xbf{\"monto\":5}".to_vec(),
        b"{\"monto\":5,\"sede\":\"\xff\xfe\"}".to_vec(),
        b"{\"monto\":\"\xc3\x28\"}".to_vec(),
        b"{\"monto\":5,\"sede\":\"\\ud800\"}".to_vec(),
        b"\0\0\0\0".to_vec(),
        "{\"monto\":5}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect(),
        deep("[", "]").into_bytes(),
        deep("{\"x\":", "}").into_bytes(),
        "[".repeat(60_000).into_bytes(),
    ];
    for body in bodies {
        let path = "/api/v1/cuentas/1/depositos";
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = client.post_raw(path, Some("k"), body).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "cuerpo_invalido"),
            "{shown}"
        );
    }
    for body in [
        r#"{"cedula":"2","nombres":"Ana"}"#,
        r#"{"cedula":2,"nombres":"Ana","apellidos":"Vera"}"#,
        r#"{"cedula":"2","nombres":"Ana","apellidos":"Vera","saldo":1000}"#,
    ] {
        let answer = client.post_raw("/api/v1/cuentas", None, body).await;
        assert_eq!(answer.unwrap().code(), "cuerpo_invalido", "{body}");
    }
    for (given, surname) in [
        ("", "Vera"),
        ("   ", "Vera"),
        ("Ana", "Ve|ra"),
        ("Ana\n", "Vera\u{0}x"),
        ("Ana\u{1b}[31m", "Vera"),
        (&"x".repeat(101), "Vera"),
    ] {
        let body = json!({"cedula": "2", "nombres": given, "apellidos": surname});
        let answer = client.post("/api/v1/cuentas", None, &body).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "nombre_invalido"),
            "{given:?} {surname:?}"
        );
    }
    assert_eq!(client.version("1").await, 1);
    assert_eq!(client.get("/api/v1/cuentas/2").await.unwrap().status, 404);
}

#[actix_web::test]
async fn a_body_may_have_64_kib_and_no_more() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let path = "/api/v1/cuentas/1/depositos";
    let padded = |length: usize| {
        let body = r#"{"monto":5}"#;
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    let fits = client
        .post_raw(path, Some("a"), padded(65_536))
        .await
        .unwrap();
    assert_eq!(fits.status, 201);
    for length in [65_537, 65 * 1024] {
        let large = client
            .post_raw(path, Some("b"), padded(length))
            .await
            .unwrap();
        assert_eq!(
            (large.status, large.code().as_str()),
            (413, "cuerpo_demasiado_grande"),
            "{length}"
        );
    }
    // In chunks, where no length is declared.
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(65_536));
    let chunked = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: c\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}1\r\n \r\n0\r\n\r\n"
    );
    let chunked = raw::exchange(atalaya.http_port, chunked).await;
    assert_eq!(
        (chunked.status, chunked.code().as_str()),
        (413, "cuerpo_demasiado_grande")
    );
    assert_eq!(client.balance("1").await, "5.00");
}

#[actix_web::test]
async fn a_body_must_be_declared_as_json() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let post = |declared: Option<&'static str>, key: String| {
        let mut request = client
            .request(Method::POST, "/api/v1/cuentas/1/depositos")
            .insert_header(("Idempotency-Key", key));
        if let Some(declared) = declared {
            request = request.insert_header(("content-type", declared));
        }
        finish(request.send_body(r#"{"monto":5}"#))
    };
    let wrong = [
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data"),
        Some("application/jsonx"),
        Some("application/problem+json"),
        Some("text/plain; application/json"),
        Some(""),
    ];
    for declared in wrong {
        let answer = post(declared, "wrong".to_owned()).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (415, "tipo_no_admitido"),
            "{declared:?}"
        );
    }
    let bare = "POST /api/v1/cuentas/1/depositos HTTP/1.1\r\nHost: localhost\r\n\
                Connection: close\r\nIdempotency-Key: w\r\nContent-Length: 11\r\n\r\n{\"monto\":5}";
    assert_eq!(
        raw::exchange(atalaya.http_port, bare).await.code(),
        "tipo_no_admitido"
    );
    for (n, declared) in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
    ]
    .into_iter()
    .enumerate()
    {
        let answer = post(Some(declared), format!("right-{n}")).await.unwrap();
        assert_eq!(answer.status, 201, "{declared}");
    }
    assert_eq!(client.balance("1").await, "15.00");
}

#[actix_web::test]
async fn what_is_no_address_of_ours_is_a_problem() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "5.00").await;
    let twenty_one = "1".repeat(21);
    for id in [
        "12a",
        "%00",
        "1%00",
        "%2F",
        "1%2F1",
        "..%2F1",
        "%2e%2e",
        "+",
        "%23",
        "-1",
        "1.0",
        "%31%0A",
        "%20",
        "%D9%A1",
        "%FF",
        "%",
        "%zz",
        "*",
        &twenty_one,
    ] {
        for path in [
            format!("/api/v1/cuentas/{id}"),
            format!("/api/v1/cuentas/{id}/movimientos"),
        ] {
            let answer = get_raw(&atalaya, &path).await;
            assert!(
                matches!(
                    (answer.status, answer.code().as_str()),
                    (422, "cedula_invalida") | (404, "no_encontrado")
                ),
                "{path}: {answer:?}"
            );
        }
        let path = format!("/api/v1/cuentas/{id}/depositos");
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: k\r\n\
             Content-Type: application/json\r\nContent-Length: 11\r\n\r\n{{\"monto\":5}}"
        );
        let answer = raw::exchange(atalaya.http_port, request).await;
        assert!(matches!(answer.status, 404 | 422), "{path}: {answer:?}");
        answer.code();
    }
    for path in [
        "/nothing",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v2/cuentas",
        "/api/v1/cuentas/",
        "/api/v1/cuentas/1/",
        "/api/v1/cuentas/1/nada",
        "/api/v1/cuentas//movimientos",
        "//livez",
        "/livez/",
        "/LIVEZ",
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%00",
        "/%FF",
    ] {
        let answer = get_raw(&atalaya, path).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "no_encontrado"),
            "{path}"
        );
    }
    // An escaped digit is that digit.
    assert_eq!(get_raw(&atalaya, "/api/v1/cuentas/%31").await.status, 200);
}

#[actix_web::test]
async fn an_address_takes_its_methods_and_names_them() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for (path, methods) in atalaya::http::ROUTES {
        let path = path.replace("{cedula}", "1");
        for method in [
            "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW",
        ] {
            if methods.contains(&method) {
                continue;
            }
            let sent = client.request(Method::from_bytes(method.as_bytes()).unwrap(), &path);
            let answer = finish(sent.send()).await.unwrap();
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (405, "metodo_no_permitido"),
                "{method} {path}"
            );
            assert_eq!(
                answer.header("allow"),
                Some(methods.join(", ").as_str()),
                "{method} {path}"
            );
        }
    }
}

#[actix_web::test]
async fn people_are_told_in_their_language() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for (language, title) in [
        (None, "La cuenta no existe"),
        (Some("es-EC,es;q=0.9,en;q=0.8"), "La cuenta no existe"),
        (Some("fr"), "La cuenta no existe"),
        (Some("en"), "The account does not exist"),
        (
            Some("en-US,en;q=0.9,es;q=0.8"),
            "The account does not exist",
        ),
        (Some("fr, en;q=0.5"), "The account does not exist"),
        (Some(";;;,,q=q=,\u{7f}"), "La cuenta no existe"),
    ] {
        let mut request = client.request(Method::GET, "/api/v1/cuentas/1");
        if let Some(language) = language {
            let Ok(language) = awc::http::header::HeaderValue::from_str(language) else {
                continue;
            };
            request = request.insert_header(("accept-language", language));
        }
        let answer = finish(request.send()).await.unwrap();
        assert_eq!(answer.code(), "cuenta_no_existe");
        assert_eq!(answer.json()["title"], title, "{language:?}");
    }
}

#[actix_web::test]
async fn foreign_pages_are_turned_away_everywhere() {
    let atalaya = Atalaya::without_mqtt()
        .set("ALLOWED_ORIGINS", "https://bank.example:8443")
        .start()
        .await;
    let client = atalaya.client();
    client.open("1").await;
    let port = atalaya.http_port;
    let own = format!("localhost:{port}");
    let own_page = format!("http://localhost:{port}");
    let rebound = format!("evil.example:{port}");
    let rebound_page = format!("http://{rebound}");
    let cases: &[(&str, Option<&str>, bool)] = &[
        (&own, None, true),
        (&own, Some(&own_page), true),
        (&own, Some("https://bank.example:8443"), true),
        ("bank.example:8443", None, true),
        (&own, Some("http://evil.example"), false),
        (&own, Some("http://localhost:1"), false),
        (&own, Some("null"), false),
        (&own, Some(""), false),
        (&rebound, None, false),
        (&rebound, Some(&rebound_page), false),
        ("", None, false),
    ];
    let mut deposits = 0;
    for (host, origin, fine) in cases {
        let origin_line = origin.map_or(String::new(), |o| format!("Origin: {o}\r\n"));
        let head = format!("Host: {host}\r\n{origin_line}Connection: close\r\n");
        for path in [
            "/api/v1/cuentas/1",
            "/metrics",
            "/livez",
            "/readyz",
            "/health",
            "/",
            "/ws",
            "/api/openapi.json",
            "/api/docs/",
            "/nothing",
        ] {
            let answer = raw::exchange(port, format!("GET {path} HTTP/1.1\r\n{head}\r\n")).await;
            let turned_away = answer.status == 403;
            assert_eq!(turned_away, !fine, "{path} {host} {origin:?}: {answer:?}");
            if turned_away {
                assert_eq!(answer.code(), "origen_no_permitido");
            }
        }
        let deposit = format!(
            "POST /api/v1/cuentas/1/depositos HTTP/1.1\r\n{head}Idempotency-Key: {host}{}\r\n\
             Content-Type: application/json\r\nContent-Length: 11\r\n\r\n{{\"monto\":1}}",
            origin.unwrap_or_default()
        );
        let answer = raw::exchange(port, deposit).await;
        assert_eq!(
            answer.status,
            if *fine { 201 } else { 403 },
            "{host} {origin:?}"
        );
        deposits += i64::from(*fine);
    }
    assert_eq!(client.version("1").await, deposits);
}

#[actix_web::test]
async fn a_request_that_drips_is_ended_at_its_deadline() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let port = atalaya.http_port;
    let head = "POST /api/v1/cuentas/1/depositos HTTP/1.1\r\nHost: localhost\r\n\
                Idempotency-Key: slow\r\nContent-Type: application/json\r\n";
    let full = format!("{head}Content-Length: 60000\r\n\r\n");
    let (slow_body, slow_head) = futures_util::future::join(
        drip(
            port,
            raw::signed(port, full.into_bytes()),
            b' ',
            Duration::from_secs(20),
        ),
        drip(
            port,
            head.as_bytes().to_vec(),
            b'x',
            Duration::from_secs(15),
        ),
    )
    .await;
    let (bytes, took) = slow_body;
    let answer = raw::parse(&bytes);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (408, "tiempo_agotado")
    );
    assert!(took > Duration::from_secs(9), "the body had {took:?}");
    let (bytes, took) = slow_head;
    assert!(took > Duration::from_secs(4), "the head had {took:?}");
    assert!(bytes.is_empty() || raw::parse(&bytes).status == 408);

    assert_eq!(client.version("1").await, 0);
    let right = client.deposit("1", "5.00", "slow").await;
    assert_eq!((right.status, right.is_replayed()), (201, false));
}

#[actix_web::test]
async fn no_identity_and_no_invention_of_a_client_becomes_a_label() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1350509525", "500.00").await;
    client.withdraw("1350509525", "1000", "k").await;
    client.get("/api/v1/cuentas/777777").await.unwrap();
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    client.get("/nothing/0").await.unwrap();
    let odd = client.request(Method::from_bytes(b"BREW0").unwrap(), "/livez");
    finish(odd.send()).await.unwrap();
    client.get("/metrics").await.unwrap();
    let before = client.get("/metrics").await.unwrap().text();
    for n in 0..50 {
        client.get(&format!("/nothing/{n}?x={n}")).await.unwrap();
        client.get(&format!("/api/v1/cuentas/{n}")).await.unwrap();
        let method = Method::from_bytes(format!("BREW{n}").as_bytes()).unwrap();
        finish(client.request(method, "/livez").send())
            .await
            .unwrap();
    }
    let after = client.get("/metrics").await.unwrap().text();
    assert_eq!(series(&before), series(&after));
    for id in ["1350509525", "777777", "BREW", "nothing"] {
        assert!(!after.contains(id), "{id} is in the metrics");
    }
}

/// Sends `first`, then a byte every half second, until the other side closes; how long that took
/// and what it said. It must close within `at_most`.
async fn drip(port: u16, first: Vec<u8>, byte: u8, at_most: Duration) -> (Vec<u8>, Duration) {
    let dripping = actix_web::rt::task::spawn_blocking(move || {
        let started = Instant::now();
        let mut stream = raw::connect(port);
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        stream.write_all(&first).unwrap();
        let mut said = Vec::new();
        loop {
            let (bytes, closed) = raw::read_some(&mut stream);
            said.extend(bytes);
            if closed || stream.write_all(&[byte]).is_err() {
                return (said, started.elapsed());
            }
            assert!(started.elapsed() < at_most, "still open after {at_most:?}");
        }
    });
    dripping.await.unwrap()
}

/// GET with a path that a client's library might mend first.
async fn get_raw(atalaya: &Atalaya, path: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    raw::exchange(atalaya.http_port, request).await
}

async fn page(client: &Client, account: &str, query: &str) -> Value {
    let path = format!("/api/v1/cuentas/{account}/movimientos{query}");
    let answer = client.get(&path).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// All movements of an account, page by page.
async fn walk(client: &Client, account: &str, limit: usize) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for _ in 0..1_000 {
        let query = format!("?limite={limit}&cursor={cursor}");
        let page = page(client, account, &query).await;
        let items = page["datos"].as_array().unwrap();
        assert!(items.len() <= limit);
        seen.extend(items.iter().cloned());
        match page["siguiente"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return seen,
        }
    }
    panic!("the pages do not end");
}

#[actix_web::test]
async fn half_a_second_request_does_not_hold_its_connection_for_ever() {
    // The server's deadline for heads covers a connection's first request alone; 30 s of keeping
    // alive and the sweep end this one, so it takes that long.
    let atalaya = Atalaya::without_mqtt().start().await;
    let mut stream = raw::connect(atalaya.http_port);
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let (answer, _) = raw::read_some(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    stream.write_all(b"G").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let (rest, ended) = actix_web::web::block(move || raw::read_some(&mut stream))
        .await
        .unwrap();
    assert!(rest.is_empty() && ended, "it should have been ended");
}
