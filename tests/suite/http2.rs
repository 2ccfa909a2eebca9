//! HTTP/2, which browsers speak as soon as there is TLS.

use crate::support::access::ADMIN_TOKEN;
use crate::support::certificates::Authority;
use crate::support::client::finish;
use crate::support::{Atalaya, DEADLINE};
use crate::tls::{Secured, connect_with, serve};
use atalaya::tls;
use awc::http::{Method, Version};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use std::io::{Error, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client that offers HTTP/2 and nothing else. As browsers do, it sends no `Host`.
fn browser(authority: &Authority) -> awc::Client {
    let ca = authority.certificate();
    let mut config = (*tls::client(Some(("CA", &ca)), None).unwrap().0).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    awc::Client::builder()
        .timeout(DEADLINE)
        .connector(awc::Connector::new().rustls_0_23(Arc::new(config)))
        .finish()
}

#[actix_web::test]
async fn browsers_are_served_and_foreign_names_are_not() {
    let authority = Authority::new();
    let atalaya = Atalaya::without_mqtt().prepare();
    let port = atalaya.http_port;
    let own = format!("https://banco.prueba.example:{port}");
    let settings = [("ALLOWED_ORIGINS", own.clone())];
    let _server = serve(&atalaya, &authority, "*.prueba.example", &settings).await;
    let browser = browser(&authority);
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    let local = format!("https://localhost:{port}");
    let by_number = format!("https://127.0.0.1:{port}");
    // A name of somebody else's that points here, as in DNS rebinding.
    let foreign = format!("https://evil.prueba.example:{port}");
    for (base, origin, fine) in [
        (&local, None, true),
        (&by_number, None, true),
        (&own, None, true),
        (&local, Some(&local), true),
        (&own, Some(&own), true),
        (&foreign, None, false),
        (&foreign, Some(&foreign), false),
        (&local, Some(&foreign), false),
    ] {
        for path in ["/", "/app/main.js", "/livez"] {
            let mut request = browser.get(format!("{base}{path}")).address(here);
            if let Some(origin) = origin {
                request = request.insert_header(("origin", origin.as_str()));
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.version(), Version::HTTP_2);
            let status = if fine { 200 } else { 403 };
            assert_eq!(answer.status(), status, "{base}{path} from {origin:?}");
        }
    }
    // Not the page alone: what is sent is read, and whoever sends it is known.
    let people = browser.get(format!("{local}/api/v1/usuarios"));
    let people = finish(people.bearer_auth(ADMIN_TOKEN).send()).await;
    assert_eq!(people.unwrap().status, 200);
    let wrong = json!({"usuario": "admin", "contrasena": "not the one of them"});
    let sign_in = browser.request(Method::POST, format!("{local}/api/v1/sesiones"));
    assert_eq!(sign_in.send_json(&wrong).await.unwrap().status(), 401);
}

/// A target that names somebody (RFC 9112 §3.2.2) is not overruled by a `Host` that is fine.
#[actix_web::test]
async fn a_target_and_a_host_that_do_not_agree_are_refused() {
    let authority = Authority::new();
    let atalaya = Atalaya::without_mqtt().prepare();
    let _server = serve(&atalaya, &authority, "atalaya", &[]).await;
    for (target, status) in [
        ("https://localhost/livez", "200"),
        ("/livez", "200"),
        ("https://evil.example/livez", "403"),
    ] {
        let mut stream = connect_with(atalaya.http_port, &authority, b"http/1.1");
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // The other side may close without the alert that TLS has for it.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{target}: {answer}");
    }
}

/// Fault 33: as over HTTP/1.1, a body has its deadline.
#[actix_web::test]
async fn a_body_that_drips_is_ended_at_its_deadline() {
    let authority = Authority::new();
    let atalaya = Atalaya::without_mqtt().prepare();
    let _server = serve(&atalaya, &authority, "atalaya", &[]).await;
    let url = format!("https://localhost:{}/api/v1/sesiones", atalaya.http_port);
    let request = browser(&authority)
        .request(Method::POST, url)
        .insert_header(("content-type", "application/json"));
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Some((Ok::<_, Error>(Bytes::from_static(b" ")), ()))
    });
    let started = Instant::now();
    let answer = finish(request.send_stream(Box::pin(drops))).await.unwrap();
    // The stream is reset behind the head of the answer, so its body may be lost.
    assert_eq!(answer.status, 408);
    let took = started.elapsed();
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
}

/// What a client of HTTP/2 sends first: the preface, and settings without any.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame with the head of a request (RFC 9113 §6.2), three bytes of a hundred of it.
const HALF_A_HEAD: &[u8] = b"\0\0\x64\x01\x05\0\0\0\x01\x82\x87\x84";

/// Fault 33: silence has an end, at whatever point of the protocol it falls, also with somebody who
/// answers every ping and asks for nothing. Keeping alive and the sweep take 40 s together.
#[actix_web::test]
async fn who_asks_for_nothing_loses_the_connection() {
    let authority = Authority::new();
    let atalaya = Atalaya::without_mqtt().prepare();
    let _server = serve(&atalaya, &authority, "atalaya", &[]).await;
    let silent: Vec<_> = [
        ("not even the preface", &b""[..], 15),
        ("no request", HELLO, 55),
        ("half a request", &[HELLO, HALF_A_HEAD].concat(), 55),
    ]
    .into_iter()
    .map(|(what, said, seconds)| {
        let mut stream = connect_with(atalaya.http_port, &authority, b"h2");
        stream.write_all(said).unwrap();
        stream.flush().unwrap();
        let at_most = Duration::from_secs(seconds);
        let waiting = actix_web::rt::task::spawn_blocking(move || until_the_end(stream, at_most));
        (what, at_most, waiting)
    })
    .collect();
    for (what, at_most, waiting) in silent {
        let took = waiting.await.unwrap();
        assert!(took < at_most, "{what}: still open after {took:?}");
    }
}

/// Answers settings and pings until the other side closes or `at_most` is over; how long that took.
fn until_the_end(mut stream: Secured, at_most: Duration) -> Duration {
    let started = Instant::now();
    stream.sock.set_read_timeout(Some(at_most)).unwrap();
    let mut head = [0; 9];
    while started.elapsed() < at_most && stream.read_exact(&mut head).is_ok() {
        let [_, high, low, kind, flags, ..] = head;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        // RFC 9113 §6.5 and §6.7: both are acknowledged by a flag, pings with what they hold.
        let answer = match (kind, flags) {
            (4, 0) => vec![],
            (6, 0) => payload,
            _ => continue,
        };
        let length = u8::try_from(answer.len()).unwrap();
        let frame = [&[0, 0, length, kind, 1, 0, 0, 0, 0], &answer[..]].concat();
        if stream.write_all(&frame).is_err() {
            break;
        }
    }
    started.elapsed()
}

/// More handshakes that are begun and not finished than actix-tls has under way by default (256 on
/// each of two processors) hold up nobody.
#[actix_web::test]
async fn a_crowd_that_does_not_finish_the_handshake_holds_up_nobody() {
    let authority = Authority::new();
    let atalaya = Atalaya::without_mqtt().prepare();
    let port = atalaya.http_port;
    let _server = serve(&atalaya, &authority, "atalaya", &[]).await;
    let crowd: Vec<_> = (0..700)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    let browser = browser(&authority);
    let url = format!("https://localhost:{port}/livez");
    let started = Instant::now();
    let answer = browser.get(url).send().await.unwrap();
    let took = started.elapsed();
    assert_eq!(answer.status(), 200);
    // They keep their places for five seconds.
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(crowd);
}
