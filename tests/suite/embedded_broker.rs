//! The embedded broker: who may do what, and what it remembers.

use crate::support::device::Device;
use crate::support::guest::Guest;
use crate::support::{Atalaya, DEADLINE, Subscriber, WebSocket, eventually, logins};
use futures_util::{SinkExt, StreamExt};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const REFUSED: u8 = 0x87;

/// Where Atalaya alone may speak.
const RESERVED: [&str; 9] = [
    "banco",
    "banco/depositos",
    "banco/saldo/1",
    "banco/a/b/c",
    "atalaya/estado",
    "atalaya/retenidos",
    "empresas/e/alertas",
    "empresas/e/s/h/respuesta",
    "empresas/e/s/h/comando",
];

/// Where nobody has anything to say.
const NOBODYS: [&str; 5] = [
    "casa/luz",
    "bancos/depositos",
    "Banco/depositos",
    "respuesta",
    "empresas/e/s/h/alerta",
];

#[actix_web::test]
async fn devices_speak_where_it_is_theirs_to_and_nowhere_else() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let device = Device::enrol(&atalaya.client(), "boton-1").await;
    let listener = Subscriber::to(atalaya.mqtt_port, &["#"]).await;
    let mut guest = Guest::connect(Guest::options(atalaya.mqtt_port, "boton-1"))
        .await
        .unwrap();
    for topic in RESERVED.iter().chain(&NOBODYS) {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let reason = guest.publish(topic, qos, false, "forged").await;
            assert_eq!(reason, REFUSED, "{topic} at {qos:?}");
            let reason = guest.publish(topic, qos, true, "forged").await;
            assert_eq!(reason, REFUSED, "{topic} at {qos:?}, retained");
        }
        // An alias is no way around: neither when it is given nor when it is used.
        assert_eq!(guest.publish_as(1, topic, "forged").await, REFUSED);
        assert_eq!(guest.publish_as(1, "", "forged").await, REFUSED);
    }
    let own = [device.topic("alerta"), device.topic("estado")];
    for topic in &own {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(guest.publish(topic, qos, false, "fine").await, 0, "{topic}");
        }
        assert_eq!(guest.publish_as(1, topic, "fine").await, 0);
        assert_eq!(guest.publish_as(1, "", "last").await, 0);
    }
    listener
        .wait_for("the last message", |m| {
            m.topic == own[1] && m.text() == "last"
        })
        .await;
    let all = listener.all();
    assert!(all.iter().all(|message| message.text() != "forged"));
    for topic in &own {
        assert_eq!(listener.on(topic).len(), 4, "{topic}");
    }
    // What is retained was not planted either.
    let later = Subscriber::to(atalaya.mqtt_port, &["#"]).await;
    later
        .wait_for("atalaya's own presence", |m| m.topic == "atalaya/estado")
        .await;
    assert!(later.all().iter().all(|m| m.text() != "forged"));
}

#[actix_web::test]
async fn nobody_else_changes_or_clears_a_retained_balance() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    atalaya.client().open_with("1", "10.00").await;
    let mut guest = Guest::connect(Guest::options(atalaya.mqtt_port, "guest"))
        .await
        .unwrap();
    guest.subscribe("banco/saldo/1").await;
    let balance = guest.message().await.payload;
    for payload in ["", "forged"] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let reason = guest.publish("banco/saldo/1", qos, true, payload).await;
            assert_eq!(reason, REFUSED);
        }
    }
    let mut later = Guest::connect(Guest::options(atalaya.mqtt_port, "later"))
        .await
        .unwrap();
    later.subscribe("banco/saldo/1").await;
    let found = later.message().await;
    assert!(found.retain);
    assert_eq!(found.payload, balance);
}

#[actix_web::test]
async fn nobody_else_is_atalaya() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let port = atalaya.mqtt_port;
    let own_id = "atalaya-atalaya-1";
    for (id, login) in [
        ("x", Some(("atalaya", "guess"))),
        ("x", Some(("atalaya", ""))),
        (own_id, Some(("atalaya", "guess"))),
        (own_id, Some(("guest", ""))),
        (own_id, None),
    ] {
        for clean in [true, false] {
            let mut options = Guest::options(port, id);
            options.set_clean_start(clean);
            if let Some((user, password)) = login {
                options.set_credentials(user, password);
            }
            let refused = Guest::connect(options).await.err();
            assert_eq!(
                refused,
                Some(ConnectReturnCode::NotAuthorized),
                "{id} {login:?}"
            );
        }
    }
    // Over WebSocket it is the same door: 5 is "not authorized" in MQTT 3.1.1.
    let mut socket = mqtt_over_websocket(atalaya.mqtt_ws_port).await;
    let came = connect(port, own_id);
    socket.send(Message::binary(came)).await.unwrap();
    assert_eq!(binary(&mut socket).await, [0x20, 2, 0, 5]);

    // Atalaya's connection was not pushed out by any of them.
    let client = atalaya.client();
    let mut guest = Guest::connect(Guest::options(port, "guest")).await.unwrap();
    guest.subscribe("banco/depositos").await;
    client.open_with("1", "1.00").await;
    guest.message().await;
    assert_eq!(
        atalaya.metric("atalaya_mqtt_connections_total").await,
        Some(1.0)
    );
}

#[actix_web::test]
async fn idle_connections_keep_no_websocket_client_out() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    // One that says nothing, and one that stops in the middle of its handshake.
    let mut idle = TcpStream::connect(("127.0.0.1", atalaya.mqtt_ws_port)).unwrap();
    let mut halfway = TcpStream::connect(("127.0.0.1", atalaya.mqtt_ws_port)).unwrap();
    halfway.write_all(b"GET /mqtt HTTP/1.1\r\nHost: ").unwrap();
    let connected = Instant::now();
    let mut socket = mqtt_over_websocket(atalaya.mqtt_ws_port).await;
    assert!(connected.elapsed() < Duration::from_secs(5));

    let came = connect(atalaya.mqtt_port, "page");
    socket.send(Message::binary(came)).await.unwrap();
    assert_eq!(binary(&mut socket).await, [0x20, 2, 0, 0]);
    let filter = b"banco/depositos";
    let mut subscribe = vec![0x82, 5 + 15, 0, 1, 0, 15];
    subscribe.extend_from_slice(filter);
    subscribe.push(0);
    socket.send(Message::binary(subscribe)).await.unwrap();
    assert_eq!(binary(&mut socket).await, [0x90, 3, 0, 1, 0]);
    atalaya.client().open_with("1", "1.00").await;
    let message = binary(&mut socket).await;
    assert_eq!(message[0], 0x30);
    let text = String::from_utf8_lossy(&message);
    assert!(text.contains("banco/depositos{\"cedula\":\"1\""), "{text}");

    // Who never shakes hands is shown out after ten seconds.
    actix_web::web::block(move || {
        for stream in [&mut idle, &mut halfway] {
            assert_ends(stream);
        }
    })
    .await
    .unwrap();
    assert!(connected.elapsed() < Duration::from_secs(20));
}

#[actix_web::test]
async fn pages_from_elsewhere_do_not_reach_the_broker() {
    let atalaya = Atalaya::with_embedded_broker()
        .set("ALLOWED_ORIGINS", "https://bank.example")
        .start()
        .await;
    let port = atalaya.mqtt_ws_port;
    let page = format!("http://127.0.0.1:{}", atalaya.http_port);
    let page_by_name = format!("http://localhost:{}", atalaya.http_port);
    let protocol = ("sec-websocket-protocol", "mqtt");
    for (headers, status) in [
        (vec![protocol], Ok(())),
        (vec![protocol, ("origin", page.as_str())], Ok(())),
        (vec![protocol, ("origin", page_by_name.as_str())], Ok(())),
        (vec![protocol, ("origin", "https://bank.example")], Ok(())),
        (vec![protocol, ("origin", "https://evil.example")], Err(403)),
        (vec![protocol, ("origin", "http://127.0.0.1:1")], Err(403)),
        (vec![protocol, ("origin", "null")], Err(403)),
        (vec![protocol, ("host", "evil.example")], Err(403)),
    ] {
        let knocked = WebSocket::knock(port, "/mqtt", &headers).await;
        assert_eq!(knocked, status, "{headers:?}");
    }
}

#[actix_web::test]
async fn a_later_subscriber_has_the_balance_at_once_even_after_a_crash() {
    let mut atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    client.open_with("2", "7.00").await;
    let witness = Subscriber::to(atalaya.mqtt_port, &["banco/saldo/+"]).await;
    client.withdraw("1", "3.00", "w").await;
    witness
        .wait_for("the last balance", |m| m.text().contains("\"version\":2"))
        .await;
    drop(witness);
    for crash in [false, true] {
        if crash {
            atalaya.kill();
            atalaya.start().await;
        }
        for (account, balance) in [("1", "7.00"), ("2", "7.00")] {
            let topic = format!("banco/saldo/{account}");
            // Mosquitto's client, which waits three seconds for one message.
            let port = atalaya.mqtt_port.to_string();
            let (user, password) = logins::of(atalaya.mqtt_port, "").unwrap_or_default();
            let output = actix_web::web::block(move || {
                std::process::Command::new("mosquitto_sub")
                    .args([
                        "-p", &port, "-V", "mqttv5", "-q", "1", "-C", "1", "-W", "10",
                    ])
                    .args(["-u", &user, "-P", &password])
                    .args(["-t", &topic, "-F", "%r %q %p"])
                    .output()
                    .expect("mosquitto_sub (tests/run installs it)")
            })
            .await
            .unwrap();
            let line = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(line.starts_with("1 1 {"), "{line:?} {output:?}");
            assert!(
                line.contains(&format!("\"saldo_nuevo\":{balance},")),
                "{line}"
            );
        }
    }
}

#[actix_web::test]
async fn a_subscriber_that_was_away_gets_what_it_missed_across_a_crash() {
    let mut atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let always = Subscriber::to(atalaya.mqtt_port, &["banco/depositos"]).await;
    let options = Guest::remembered(atalaya.mqtt_port, "away");
    let mut guest = Guest::connect(options.clone()).await.unwrap();
    assert!(!guest.was_known);
    guest.subscribe("banco/depositos").await;
    client.deposit("1", "1.00", "d0").await;
    guest.message().await;
    drop(guest);
    for n in 1..20 {
        client.deposit("1", "1.00", &format!("d{n}")).await;
    }
    // The broker writes what it queues a quarter of a second after it has acknowledged it, so some
    // of it is lost now; our own position stays far enough behind to publish it again.
    atalaya.kill();
    atalaya.start().await;
    for n in 20..40 {
        client.deposit("1", "1.00", &format!("d{n}")).await;
    }

    let mut guest = Guest::connect(options).await.unwrap();
    assert!(guest.was_known, "the broker forgot the session");
    let mut ids = BTreeSet::new();
    let mut versions = BTreeSet::new();
    let all: BTreeSet<i64> = (2..=40).collect();
    while !versions.is_superset(&all) {
        let Some(message) = guest.message_within(DEADLINE / 2).await else {
            let missing: Vec<_> = all.difference(&versions).collect();
            panic!("missing: {missing:?}");
        };
        let message = message.json();
        versions.insert(message["version"].as_i64().unwrap());
        ids.insert(message["tx_id"].as_str().unwrap().to_owned());
    }
    // A repeat carries the same tx_id, so what is left without repeats is one a deposit.
    assert_eq!(ids.len(), versions.len());
    // Who was there all along, as far as a crash allows, has them all too.
    eventually("all forty deposits", || async {
        let seen: BTreeSet<_> = always
            .on("banco/depositos")
            .iter()
            .map(|message| message.json()["version"].as_i64().unwrap())
            .collect();
        (1..=40).all(|n| seen.contains(&n)).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_large_message_passes_and_one_too_large_ends_its_sender_alone() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let port = atalaya.mqtt_port;
    let device = Device::enrol(&client, "boton-1").await;
    Device::enrol(&client, "loud").await;
    let topic = device.topic("alerta");
    let listener = Subscriber::to(port, &["empresas/#", "banco/depositos"]).await;
    let mut guest = Guest::connect(Guest::options(port, "boton-1"))
        .await
        .unwrap();
    for size in [12 * 1024, 120 * 1024] {
        let payload = "x".repeat(size);
        let reason = guest
            .publish(&topic, QoS::AtLeastOnce, false, &payload)
            .await;
        assert_eq!(reason, 0);
        listener
            .wait_for("the large message", |m| m.payload.len() == size)
            .await;
    }

    let too_large = publish("empresas/banco/principal/loud/alerta", 200 * 1024);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&connect(port, "loud")).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    // The broker may hang up before it has read it all.
    let _ = stream.write_all(&too_large);
    actix_web::web::block(move || assert_ends(&mut stream))
        .await
        .unwrap();

    let mut socket = mqtt_over_websocket(atalaya.mqtt_ws_port).await;
    let came = connect(port, "loud");
    socket.send(Message::binary(came)).await.unwrap();
    assert_eq!(binary(&mut socket).await, [0x20, 2, 0, 0]);
    let _ = socket.send(Message::binary(too_large)).await;
    loop {
        let next = tokio::time::timeout(DEADLINE, socket.next()).await;
        match next.expect("the end in time") {
            Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            Some(Ok(_)) => {}
        }
    }

    // Everybody else goes on, Atalaya's own connection too.
    let reason = guest.publish(&topic, QoS::AtLeastOnce, false, "fin").await;
    assert_eq!(reason, 0);
    listener
        .wait_for("the last message", |m| m.text() == "fin")
        .await;
    client.deposit("1", "1.00", "d").await;
    listener
        .wait_for("a deposit", |m| m.topic == "banco/depositos")
        .await;
    assert!(listener.all().iter().all(|m| m.payload.len() < 130_000));
    assert_eq!(
        atalaya.metric("atalaya_mqtt_connections_total").await,
        Some(1.0)
    );
}

/// A CONNECT of MQTT 3.1.1 with a clean session, of a client that signs in as the book says.
fn connect(port: u16, id: &str) -> Vec<u8> {
    match logins::of(port, id) {
        Some((user, password)) => connect_as(&[id, &user, &password]),
        None => connect_as(&[id]),
    }
}

/// The same with a client id, and with a user and password where they are given.
pub fn connect_as(texts: &[&str]) -> Vec<u8> {
    let flags = if texts.len() == 3 { 0xc2 } else { 0x02 };
    let mut packet = b"\0\x04MQTT\x04".to_vec();
    packet.extend_from_slice(&[flags, 0, 0x3c]);
    for text in texts {
        packet.extend_from_slice(&[0, u8::try_from(text.len()).unwrap()]);
        packet.extend_from_slice(text.as_bytes());
    }
    let length = u8::try_from(packet.len()).unwrap();
    assert!(length < 128, "the length is one byte");
    [&[0x10, length], packet.as_slice()].concat()
}

/// A PUBLISH at quality of service 1 with `size` bytes of payload.
fn publish(topic: &str, size: usize) -> Vec<u8> {
    let mut packet = vec![0x32];
    let mut rest = 2 + topic.len() + 2 + size;
    while rest > 0 {
        let digit = u8::try_from(rest % 128).unwrap();
        rest /= 128;
        packet.push(if rest > 0 { digit | 0x80 } else { digit });
    }
    packet.extend_from_slice(&[0, u8::try_from(topic.len()).unwrap()]);
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet.resize(packet.len() + size, b'x');
    packet
}

/// Waits until the other side hangs up, whatever it says before.
fn assert_ends(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

pub type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

pub async fn mqtt_over_websocket(port: u16) -> Socket {
    let mut request = format!("ws://127.0.0.1:{port}/mqtt")
        .into_client_request()
        .unwrap();
    let mqtt = HeaderValue::from_static("mqtt");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", mqtt.clone());
    let connecting = tokio::time::timeout(DEADLINE, connect_async(request));
    let (socket, response) = connecting.await.expect("in time").expect("a connection");
    assert_eq!(response.headers()["sec-websocket-protocol"], mqtt);
    socket
}

/// The next binary frame.
pub async fn binary(socket: &mut Socket) -> Vec<u8> {
    let next = tokio::time::timeout(DEADLINE, socket.next()).await;
    match next.expect("a frame in time") {
        Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
        other => panic!("unexpected: {other:?}"),
    }
}
