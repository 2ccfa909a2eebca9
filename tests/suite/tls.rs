//! TLS: what is served over it, and to whom Atalaya speaks it.

use crate::support::access::ADMIN_TOKEN;
use crate::support::certificates::Authority;
use crate::support::run::Ended;
use crate::support::{
    Atalaya, DEADLINE, Mosquitto, Subscriber, Watched, eventually, free_port, run,
};
use atalaya::tls;
use rustls::StreamOwned;
use rustls::pki_types::ServerName;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

/// Atalaya over TLS as `name`, once it is up.
pub async fn serve(
    atalaya: &Atalaya,
    authority: &Authority,
    name: &str,
    more: &[(&str, String)],
) -> Watched {
    let pair = authority.vouch_for(name);
    let mut command = atalaya.command();
    command
        .env("TLS_CERT_FILE", pair.certificate)
        .env("TLS_KEY_FILE", pair.key)
        .envs(more.iter().map(|(name, value)| (*name, value)));
    let server = Watched::start(command);
    server.wait_for_line("Ctrl-C").await;
    server
}

/// `atalaya …` as an admin who believes `authority`.
fn as_admin(atalaya: &Atalaya, authority: &Authority, words: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
    let url = format!("https://127.0.0.1:{}", atalaya.http_port);
    command
        .current_dir(atalaya.folder())
        .env_clear()
        .env("ATALAYA_URL", url)
        .env("ATALAYA_CA_FILE", authority.certificate())
        .env("ATALAYA_TOKEN", ADMIN_TOKEN)
        .args(words);
    run(command)
}

pub type Secured = StreamOwned<rustls::ClientConnection, TcpStream>;

fn connect(port: u16, authority: &Authority) -> Secured {
    connect_with(port, authority, b"http/1.1")
}

/// A connection on which `protocol` (a name of ALPN) is spoken.
pub fn connect_with(port: u16, authority: &Authority, protocol: &[u8]) -> Secured {
    let ca = authority.certificate();
    let mut config = (*tls::client(Some(("CA", &ca)), None).unwrap().0).clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    StreamOwned::new(client, stream)
}

#[actix_web::test]
async fn the_api_and_its_sessions_are_served_over_tls_and_nothing_else() {
    let (authority, other) = (Authority::new(), Authority::new());
    let atalaya = Atalaya::without_mqtt().prepare();
    let server = serve(&atalaya, &authority, "atalaya", &[]).await;
    assert!(
        server
            .stdout()
            .iter()
            .any(|line| line.contains("https://127.0.0.1"))
    );

    let add = ["token", "add", "lector", "--rol", "auditor"];
    let made = as_admin(&atalaya, &authority, &add);
    assert_eq!(made.code, Some(0), "{made:?}");
    let token = made.stdout.trim();
    let stranger = as_admin(&atalaya, &other, &["token", "list"]);
    assert_eq!(stranger.code, Some(1), "{stranger:?}");

    // Whoever speaks plain HTTP gets no answer of HTTP.
    let mut plain = TcpStream::connect(("127.0.0.1", atalaya.http_port)).unwrap();
    plain
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");

    // A session over TLS ends with its token, within a second.
    let url = format!("wss://127.0.0.1:{}/ws", atalaya.http_port);
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let stream = connect(atalaya.http_port, &authority);
    let (mut session, answer) =
        tokio_tungstenite::tungstenite::client(request, stream).expect("a session");
    assert!(!answer.headers().contains_key("set-cookie"));
    let ping = r#"{"id":1,"accion":"ping"}"#;
    session.send(Message::text(ping)).unwrap();
    assert!(
        session
            .read()
            .unwrap()
            .to_text()
            .unwrap()
            .contains("\"ok\":true")
    );
    let list = as_admin(&atalaya, &authority, &["token", "list"]);
    let line = list
        .stdout
        .lines()
        .find(|line| line.contains("lector"))
        .unwrap();
    let id = line.split_whitespace().next().unwrap();
    let revoked = as_admin(&atalaya, &authority, &["token", "revoke", id]);
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    let asked = Instant::now();
    wait_for_the_end(&mut session);
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
}

fn wait_for_the_end(session: &mut WebSocket<Secured>) {
    while session.read().is_ok_and(|message| !message.is_close()) {}
}

/// Over TLS alone: elsewhere a browser would believe whoever is on the way.
#[actix_web::test]
async fn browsers_are_told_to_come_over_tls_alone() {
    let authority = Authority::new();
    let atalaya = Atalaya::without_mqtt().prepare();
    let _server = serve(&atalaya, &authority, "atalaya", &[]).await;
    for path in ["/", "/livez", "/api/v1/cuentas/1", "/nowhere"] {
        let mut stream = connect(atalaya.http_port, &authority);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // The other side may close without the alert that TLS has for it.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(
            answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"),
            "{answer}"
        );
    }
}

#[actix_web::test]
async fn who_does_not_finish_the_handshake_is_dropped() {
    let authority = Authority::new();
    let atalaya = Atalaya::without_mqtt().prepare();
    let _server = serve(&atalaya, &authority, "atalaya", &[]).await;
    let mut idle = TcpStream::connect(("127.0.0.1", atalaya.http_port)).unwrap();
    // The beginning of a handshake, and no more of it.
    idle.write_all(&[0x16, 0x03, 0x01]).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut rest = Vec::new();
    let asked = Instant::now();
    let ended = idle.read_to_end(&mut rest);
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(15), "{ended:?} after {took:?}");
}

#[actix_web::test]
async fn our_own_broker_speaks_tls_with_the_same_certificate() {
    let authority = Authority::new();
    let atalaya = Atalaya::with_embedded_broker().prepare();
    let port = free_port();
    let _server = serve(
        &atalaya,
        &authority,
        "atalaya",
        &[("MQTT_TLS_PORT", port.to_string())],
    )
    .await;
    let add = ["token", "add", "lector", "--rol", "auditor"];
    let token = as_admin(&atalaya, &authority, &add)
        .stdout
        .trim()
        .to_owned();
    let listen = |authority: &Authority| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
        command
            .current_dir(atalaya.folder())
            .env_clear()
            .env("ATALAYA_TOKEN", &token)
            .args([
                "monitor",
                "atalaya/estado",
                "--count",
                "1",
                "--mqtt-tls",
                "on",
            ])
            .arg("--mqtt-ca-file")
            .arg(authority.certificate())
            .args(["--port", &port.to_string()]);
        command
    };
    let heard = run(listen(&authority));
    assert_eq!(heard.code, Some(0), "{heard:?}");
    assert!(heard.stdout.contains("en l"), "{heard:?}");
    let other = Authority::new();
    let stranger = Watched::start(listen(&other));
    eventually("it says that it does not believe", || async {
        let said = stranger.stderr().join("\n");
        (said.contains("certificate") || said.contains("TLS")).then_some(())
    })
    .await;
    assert!(stranger.stdout().is_empty());
}

/// MQTTS to a broker elsewhere that asks for a certificate.
#[actix_web::test]
async fn a_broker_that_asks_for_a_certificate_gets_ours() {
    let authority = Authority::new();
    let (shown, own) = (
        authority.vouch_for("broker"),
        authority.vouch_for("atalaya"),
    );
    let secured = free_port();
    let lines = format!(
        "allow_anonymous true\nlistener {secured} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n\
         require_certificate true\n",
        authority.certificate().display(),
        shown.certificate.display(),
        shown.key.display()
    );
    let broker = Mosquitto::start_with(&lines);
    let over_tls = || {
        Atalaya::with_broker(&broker)
            .set("MQTT_BROKER_PORT", secured)
            .set("MQTT_TLS", "on")
            .set("MQTT_CA_FILE", authority.certificate().display())
    };
    let listener = Subscriber::to(broker.port, &["banco/#"]).await;
    let refused = over_tls().start().await;
    let atalaya = over_tls()
        .set("NODO", "con-certificado")
        .set("MQTT_CLIENT_CERT_FILE", own.certificate.display())
        .set("MQTT_CLIENT_KEY_FILE", own.key.display())
        .start()
        .await;
    let client = atalaya.client();
    client.open_with("1", "5.00").await;
    listener
        .wait_for("the deposit", |message| message.topic == "banco/depositos")
        .await;
    assert_eq!(atalaya.metric("atalaya_mqtt_connected").await, Some(1.0));
    assert_eq!(refused.metric("atalaya_mqtt_connected").await, Some(0.0));
    let log = refused.log().to_lowercase();
    assert!(
        log.contains("certificate") || log.contains("tls") || log.contains("alert"),
        "{log}"
    );
}

#[test]
fn a_file_that_is_none_is_told_with_its_setting() {
    let authority = Authority::new();
    let pair = authority.vouch_for("atalaya");
    let wrong = authority.vouch_for("other");
    for (certificate, key, words) in [
        (
            "missing.pem".into(),
            pair.key.clone(),
            "TLS_CERT_FILE=missing.pem",
        ),
        (
            pair.certificate.clone(),
            "missing.key".into(),
            "TLS_KEY_FILE=missing.key",
        ),
        (pair.key.clone(), pair.key.clone(), "no certificate in it"),
        (
            pair.certificate.clone(),
            wrong.key.clone(),
            "do not go together",
        ),
    ] {
        let atalaya = Atalaya::without_mqtt().prepare();
        let mut command = atalaya.command();
        command
            .env("TLS_CERT_FILE", certificate)
            .env("TLS_KEY_FILE", key);
        let ended = run(command);
        assert_ne!(ended.code, Some(0));
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
    }
}
