//! Sessions over WebSocket: requests, subscriptions, and what ends them.

use crate::support::client::raw_field;
use crate::support::web_socket::SessionEvent;
use crate::support::{Atalaya, Client, DEADLINE, Subscriber, WebSocket, eventually, raw};
use futures_util::future::join_all;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// The versions in a row of events.
fn versions(events: &[SessionEvent]) -> Vec<i64> {
    events.iter().map(SessionEvent::version).collect()
}

/// A statement about versions that names the first gap or repeat.
fn assert_consecutive(versions: &[i64], first: i64) {
    for (expected, version) in (first..).zip(versions) {
        assert_eq!(*version, expected, "a gap or a repeat in {versions:?}");
    }
}

/// Puts cents into an account `count` times, as fast as sixteen clients can.
async fn flood(client: &Client, account: &str, count: usize, name: &str) {
    join_all((0..16).map(|lane| {
        let client = client.clone();
        async move {
            for n in (lane..count).step_by(16) {
                let answer = client
                    .deposit(account, "0.01", &format!("{name}-{n}"))
                    .await;
                assert_eq!(answer.status, 201, "{}", answer.text());
            }
        }
    }))
    .await;
}

#[actix_web::test]
async fn each_action_answers_what_rest_answers() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut session = WebSocket::open(&atalaya).await;

    let opened = session
        .asks(
            json!({"accion": "abrir_cuenta", "cedula": "1", "nombres": "Ana", "apellidos": "Vera"}),
        )
        .await;
    assert_eq!(
        opened.data,
        r#"{"cedula":"1","nombres":"Ana","apellidos":"Vera","saldo":0.00,"version":0}"#
    );
    client.open("2").await;

    let deposited = session
        .asks(
            json!({"accion": "depositar", "cedula": "1", "monto": "150.5", "clave": "d",
            "fecha_valor": "2026-01-15"}),
        )
        .await;
    assert_eq!(raw_field(&deposited.data, "tipo"), "\"DEPOSITO\"");
    assert_eq!(raw_field(&deposited.data, "monto"), "150.50");
    assert_eq!(raw_field(&deposited.data, "saldo_nuevo"), "150.50");
    let withdrawn = session
        .asks(json!({"accion": "retirar", "cedula": "1", "monto": 20, "clave": "w"}))
        .await;
    assert_eq!(raw_field(&withdrawn.data, "tipo"), "\"RETIRO\"");
    assert_eq!(raw_field(&withdrawn.data, "saldo_nuevo"), "130.50");
    let transferred = session
        .asks(
            json!({"accion": "transferir", "cedula_origen": "1", "cedula_destino": "2",
            "monto": 30.25, "clave": "t"}),
        )
        .await;
    assert_eq!(raw_field(&transferred.data, "saldo_origen"), "100.25");
    assert_eq!(raw_field(&transferred.data, "saldo_destino"), "30.25");

    for (request, path) in [
        (json!({"accion": "saldo", "cedula": "1"}), "/cuentas/1"),
        (
            json!({"accion": "movimientos", "cedula": "1"}),
            "/cuentas/1/movimientos",
        ),
        (
            json!({"accion": "movimientos", "cedula": "1", "limite": 2}),
            "/cuentas/1/movimientos?limite=2",
        ),
    ] {
        let answer = session.asks(request).await;
        let rest = client.get(&format!("/api/v1{path}")).await.unwrap();
        assert_eq!(answer.data, rest.text(), "{path}");
    }
    let first = session
        .asks(json!({"accion": "movimientos", "cedula": "1", "limite": 2}))
        .await;
    let second = session
        .asks(json!({"accion": "movimientos", "cedula": "1", "limite": 2,
            "cursor": first.json["datos"]["siguiente"]}))
        .await;
    let kinds: Vec<_> = [&first, &second]
        .iter()
        .flat_map(|page| page.json["datos"]["datos"].as_array().unwrap())
        .map(|movement| movement["tipo"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["TRANSFERENCIA_ENVIADA", "RETIRO", "DEPOSITO"]);

    let statistics = session.asks(json!({"accion": "estadisticas"})).await;
    assert_eq!(statistics.json["datos"]["total_transacciones"], 4);
    assert_eq!(statistics.json["datos"]["clientes_conectados"], 1);
    assert_eq!(statistics.json["datos"]["ips_activas"], 1);
    // Where it begins: whoever is cut off before the first event resumes from there.
    let begun = session
        .asks(json!({"accion": "suscribir", "temas": ["banco/depositos"]}))
        .await;
    let cursor = begun.json["datos"]["cursor"].as_str().unwrap();
    let (lane, seq) = cursor.split_once('-').unwrap();
    assert!(lane == "0" && seq.parse::<i64>().unwrap() > 0, "{cursor}");
    for request in [
        json!({"accion": "desuscribir", "temas": ["banco/depositos"]}),
        json!({"accion": "ping"}),
    ] {
        assert_eq!(session.asks(request).await.data, "{}");
    }
}

#[actix_web::test]
async fn refusals_name_their_code() {
    let atalaya = Atalaya::without_mqtt().start().await;
    atalaya.client().open_with("1", "50.00").await;
    let mut session = WebSocket::open(&atalaya).await;
    for (request, code) in [
        (
            json!({"accion": "abrir_cuenta", "cedula": "1", "nombres": "A", "apellidos": "V"}),
            "cuenta_existe",
        ),
        (
            json!({"accion": "saldo", "cedula": "2"}),
            "cuenta_no_existe",
        ),
        (
            json!({"accion": "movimientos", "cedula": "2"}),
            "cuenta_no_existe",
        ),
        (
            json!({"accion": "movimientos", "cedula": "1", "limite": 201}),
            "parametro_invalido",
        ),
        (
            json!({"accion": "saldo", "cedula": "banco/#"}),
            "cedula_invalida",
        ),
        (
            json!({"accion": "depositar", "cedula": "1", "monto": 1}),
            "falta_clave",
        ),
        (
            json!({"accion": "depositar", "cedula": "1", "monto": -1, "clave": "a"}),
            "monto_invalido",
        ),
        (
            json!({"accion": "depositar", "cedula": "1", "monto": 0.001, "clave": "a"}),
            "monto_invalido",
        ),
        (
            json!({"accion": "depositar", "cedula": "1", "monto": {"n": 1}, "clave": "a"}),
            "monto_invalido",
        ),
        (
            json!({"accion": "transferir", "cedula_origen": "1", "cedula_destino": "1",
                "monto": 1, "clave": "a"}),
            "misma_cuenta",
        ),
    ] {
        let answer = session.ask(request.clone()).await;
        assert_eq!(answer.code(), code, "{request}");
    }
    let overdraft = json!({"accion": "retirar", "cedula": "1", "monto": 60, "clave": "o"});
    let refused = session.ask(overdraft.clone()).await;
    assert_eq!(refused.code(), "saldo_insuficiente");
    assert_eq!(refused.json["error"]["saldo"], json!(50.00));
    // The refusal is the key's answer for good, whatever the balance is later.
    atalaya.client().deposit("1", "100.00", "more").await;
    let again = session.ask(overdraft).await;
    assert_eq!(again.code(), "saldo_insuficiente");
    assert_eq!(again.json["repetida"], json!(true));
    assert_eq!(atalaya.client().balance("1").await, "150.00");
}

#[actix_web::test]
async fn an_id_is_echoed_whatever_json_it_is() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let mut session = WebSocket::open(&atalaya).await;
    for id in [
        "7",
        "\"siete\"",
        "null",
        "true",
        "[1,{\"a\":2}]",
        "{\"n\":1.50}",
        "12345678901234567890123",
        "1.00",
        "\"\\u0041\\\"ñ\"",
    ] {
        session
            .send_text(&format!(r#"{{"id":{id},"accion":"ping"}}"#))
            .await;
        let answer = session.raw().await;
        assert_eq!(answer, format!(r#"{{"id":{id},"ok":true,"datos":{{}}}}"#));
        session
            .send_text(&format!(r#"{{"id":{id},"accion":"depositar","mnto":1}}"#))
            .await;
        let refused = session.raw().await;
        assert!(
            refused.starts_with(&format!(r#"{{"id":{id},"ok":false,"#)),
            "{refused}"
        );
    }
    let nameless = session.ask_raw(r#"{"accion":"ping"}"#).await;
    assert!(nameless.is_ok());
    assert!(nameless.json["id"].is_null());
}

#[actix_web::test]
async fn a_key_is_one_decision_over_rest_and_websocket() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let mut session = WebSocket::open(&atalaya).await;

    let over_rest = client.deposit("1", "5.00", "first-rest").await;
    let again = session
        .asks(json!({"accion": "depositar", "cedula": "1", "monto": "5.00", "clave": "first-rest"}))
        .await;
    assert_eq!(again.data, over_rest.text());
    assert_eq!(again.json["repetida"], json!(true));

    let over_socket = session
        .asks(json!({"accion": "depositar", "cedula": "1", "monto": 7, "clave": "first-ws"}))
        .await;
    assert!(over_socket.json.get("repetida").is_none());
    let again = client.deposit("1", "7.00", "first-ws").await;
    assert_eq!(again.text(), over_socket.data);
    assert!(again.is_replayed());

    let other = session
        .ask(json!({"accion": "retirar", "cedula": "1", "monto": "5.00", "clave": "first-rest"}))
        .await;
    assert_eq!(other.code(), "clave_reutilizada");
    assert_eq!(client.balance("1").await, "12.00");
}

#[actix_web::test]
async fn a_session_sees_the_very_messages_of_mqtt() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open("1").await;
    client.open("2").await;
    let broker = Subscriber::to(atalaya.mqtt_port, &["banco/#"]).await;
    let mut all = WebSocket::open(&atalaya).await;
    all.subscribe(&["banco/#"]).await;
    let mut balances = WebSocket::open(&atalaya).await;
    balances.subscribe(&["banco/saldo/+"]).await;
    let mut one = WebSocket::open(&atalaya).await;
    one.subscribe(&["banco/saldo/2", "banco/alertas"]).await;

    client.deposit("1", "1000", "d").await;
    client.withdraw("1", "920.50", "w").await;
    client.transfer("1", "2", "10", "t").await;
    // The end, as all of them see it.
    client.deposit("2", "1", "end").await;
    let is_end = |topic: &str, text: &str| {
        topic == "banco/saldo/2" && raw_field(text, "saldo_nuevo") == "11.00"
    };
    broker
        .wait_for("the last balance over MQTT", |m| {
            is_end(&m.topic, &m.text())
        })
        .await;
    let over_mqtt: Vec<(String, String)> = broker
        .all()
        .into_iter()
        .filter(|message| message.topic != "banco/estadisticas")
        .map(|message| {
            let text = message.text();
            (message.topic, text)
        })
        .collect();
    assert_eq!(over_mqtt.len(), 3 + 4 + 3 + 3, "{over_mqtt:#?}");

    let by_topic = |mut messages: Vec<(String, String)>| {
        messages.sort_by(|a, b| a.0.cmp(&b.0));
        messages
    };
    for (session, filter) in [
        (&mut all, &["banco/"][..]),
        (&mut balances, &["banco/saldo/"][..]),
        (&mut one, &["banco/saldo/2", "banco/alertas"][..]),
    ] {
        let events: Vec<_> = session
            .events_until(|event| is_end(&event.topic, &event.payload))
            .await
            .into_iter()
            .filter(|event| event.topic != "banco/estadisticas")
            .collect();
        assert!(events.iter().all(|e| !e.retained && e.cursor.is_some()));
        let seen = events.into_iter().map(|e| (e.topic, e.payload)).collect();
        let wanted: Vec<_> = over_mqtt
            .iter()
            .filter(|(topic, _)| filter.iter().any(|start| topic.starts_with(start)))
            .cloned()
            .collect();
        assert_eq!(by_topic(seen), by_topic(wanted), "{filter:?}");
    }
}

#[actix_web::test]
async fn statistics_are_the_same_on_mqtt_and_in_a_session() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let broker = Subscriber::to(atalaya.mqtt_port, &["banco/estadisticas"]).await;
    let mut session = WebSocket::open(&atalaya).await;
    session.subscribe(&["banco/estadisticas"]).await;
    let event = session
        .events_until(|event| event.json()["clientes_conectados"] == 1)
        .await
        .pop()
        .unwrap();
    assert_eq!(event.cursor, None);
    broker
        .wait_for("the same statistics", |m| m.text() == event.payload)
        .await;
    // Who comes later has them at once, as from a broker that retains them.
    let mut later = WebSocket::open(&atalaya).await;
    later.subscribe(&["banco/estadisticas"]).await;
    let first = later.event().await;
    assert!(first.retained && first.cursor.is_none());
}

#[actix_web::test]
async fn an_exact_balance_comes_once_first_and_then_its_changes() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    client.open("2").await;
    client.deposit("1", "10", "a").await;
    client.deposit("1", "5", "b").await;

    let mut exact = WebSocket::open(&atalaya).await;
    exact.subscribe(&["banco/saldo/1"]).await;
    let first = exact.event().await;
    assert_eq!(first.topic, "banco/saldo/1");
    assert!(first.retained);
    assert_eq!(raw_field(&first.payload, "saldo_nuevo"), "15.00");
    assert_eq!(raw_field(&first.payload, "saldo_anterior"), "10.00");

    let mut wild = WebSocket::open(&atalaya).await;
    wild.subscribe(&["banco/saldo/+"]).await;
    let mut untouched = WebSocket::open(&atalaya).await;
    untouched.subscribe(&["banco/saldo/2"]).await;

    client.deposit("1", "1", "c").await;
    client.deposit("2", "2", "d").await;
    // Nothing retained came before these: a wildcard has none, nor has an account without postings.
    for (event, topic, balance) in [
        (exact.event().await, "banco/saldo/1", "16.00"),
        (wild.event().await, "banco/saldo/1", "16.00"),
        (wild.event().await, "banco/saldo/2", "2.00"),
        (untouched.event().await, "banco/saldo/2", "2.00"),
    ] {
        assert_eq!(event.topic, topic);
        assert_eq!(raw_field(&event.payload, "saldo_nuevo"), balance);
        assert!(!event.retained);
    }
    // With a cursor there is nothing retained either: what was missed, and no more.
    let mut resumed = WebSocket::open(&atalaya).await;
    let cursor = first.cursor.clone().unwrap();
    resumed.resume(&["banco/saldo/1"], &cursor).await;
    let missed = resumed.event().await;
    assert_eq!(
        (missed.version(), missed.retained),
        (first.version() + 1, false)
    );
}

#[actix_web::test]
async fn who_was_away_gets_what_was_missed_and_then_goes_on_live() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let goes_on = Rc::new(Cell::new(true));
    // Deposits keep coming, under a key that is repeated while the server is away.
    let depositor = {
        let (client, goes_on) = (client.clone(), Rc::clone(&goes_on));
        actix_web::rt::spawn(async move {
            let mut n = 0_i64;
            while goes_on.get() {
                n += 1;
                eventually("a deposit", || async {
                    let answer = client
                        .post(
                            "/api/v1/cuentas/1/depositos",
                            Some(&format!("n{n}")),
                            &json!({"monto": 1}),
                        )
                        .await
                        .ok()?;
                    (answer.status == 201).then_some(())
                })
                .await;
            }
            n
        })
    };
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut cursor: Option<String> = None;
    for round in 0..6 {
        if round == 2 {
            atalaya.kill();
            atalaya.start().await;
        }
        if round == 4 {
            assert!(atalaya.terminate().await.success());
            atalaya.start().await;
        }
        let mut session = WebSocket::open(&atalaya).await;
        let filters = ["banco/saldo/1"];
        match &cursor {
            Some(cursor) => session.resume(&filters, cursor).await,
            None => session.subscribe(&filters).await,
        }
        // Far enough to be live again, since deposits go on while this is read.
        let behind = client.version("1").await;
        let events = session
            .events_until(|event| event.version() >= behind + 20)
            .await;
        cursor.clone_from(&events.last().unwrap().cursor);
        seen.borrow_mut().extend(versions(&events));
        drop(session);
        // Meanwhile, something is missed.
        eventually("more deposits", || async {
            (client.version("1").await >= behind + 40).then_some(())
        })
        .await;
    }
    goes_on.set(false);
    let made = depositor.await.unwrap();
    let seen = seen.take();
    assert_consecutive(&seen, seen[0]);
    assert!(seen.len() >= 200, "{}", seen.len());
    assert_eq!(client.version("1").await, made);
}

#[actix_web::test]
async fn subscriptions_made_while_catching_up_repeat_nothing() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for account in ["1", "2", "3"] {
        client.open(account).await;
    }
    let mut session = WebSocket::open(&atalaya).await;
    session.subscribe(&["banco/saldo/1"]).await;
    client.deposit("1", "1", "first").await;
    let cursor = session.event().await.cursor.unwrap();
    drop(session);
    tokio::join!(
        flood(&client, "1", 600, "a"),
        flood(&client, "2", 600, "b"),
        flood(&client, "3", 5, "c")
    );

    let mut session = WebSocket::open(&atalaya).await;
    for temas in [
        json!(["banco/saldo/1"]),
        json!(["banco/saldo/2"]),
        json!(["banco/+/1", "banco/saldo/+"]),
    ] {
        let request = json!({"accion": "suscribir", "temas": temas, "desde": cursor});
        session.send_text(&request.to_string()).await;
    }
    let request = json!({"accion": "suscribir", "temas": ["banco/saldo/3"]});
    session.send_text(&request.to_string()).await;
    for _ in 0..4 {
        assert!(session.answer().await.is_ok());
    }
    client.deposit("3", "1", "end").await;
    let events = session
        .events_until(|event| event.topic == "banco/saldo/3" && event.version() == 6)
        .await;
    let of = |topic: &str| -> Vec<SessionEvent> {
        let all = events.iter().filter(|event| event.topic == topic);
        all.cloned().collect()
    };
    for (topic, first, count) in [("banco/saldo/1", 2, 600), ("banco/saldo/2", 1, 600)] {
        let versions = versions(&of(topic));
        assert_consecutive(&versions, first);
        assert_eq!(versions.len(), count, "{topic}");
    }
    // What is retained as of its subscription may come before what led there.
    let (retained, told): (Vec<_>, Vec<_>) =
        of("banco/saldo/3").into_iter().partition(|e| e.retained);
    assert_eq!(versions(&retained), [5]);
    assert_eq!(versions(&told), [1, 2, 3, 4, 5, 6]);
}

#[actix_web::test]
async fn overlapping_filters_deliver_once_and_unsubscribing_stops() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    client.open("2").await;
    let mut session = WebSocket::open(&atalaya).await;
    session.subscribe(&["banco/saldo/+", "banco/#"]).await;
    session
        .subscribe(&["banco/saldo/1", "#", "banco/saldo/2"])
        .await;
    client.deposit("1", "1", "a").await;
    client.deposit("2", "1", "b").await;
    let events = session
        .events_until(|event| event.topic == "banco/saldo/2")
        .await;
    let topics: Vec<_> = events
        .iter()
        .map(|event| event.topic.as_str())
        .filter(|topic| *topic != "banco/estadisticas")
        .collect();
    assert_eq!(
        topics,
        [
            "banco/transacciones",
            "banco/depositos",
            "banco/saldo/1",
            "banco/transacciones",
            "banco/depositos",
            "banco/saldo/2",
        ]
    );

    session
        .asks(json!({"accion": "desuscribir",
            "temas": ["banco/saldo/+", "banco/#", "#", "banco/saldo/1", "never/subscribed"]}))
        .await;
    client.deposit("1", "1", "c").await;
    client.transfer("1", "2", "1", "d").await;
    // The only filter left.
    let event = session.event().await;
    assert_eq!(
        (event.topic.as_str(), event.version()),
        ("banco/saldo/2", 2)
    );
}

/// The broken promise this guards: what is committed after the answer must be seen, even where
/// the hub has yet to hear of the subscription when the answer is there to be sent.
#[actix_web::test]
async fn what_happens_after_a_subscription_is_answered_is_seen() {
    let atalaya = Atalaya::without_mqtt()
        .set("FAILPOINTS", "session_hub::subscribe=sleep(700)")
        .start()
        .await;
    let client = atalaya.client();
    client.open("1").await;
    let mut session = WebSocket::open(&atalaya).await;
    session.subscribe(&["banco/saldo/+"]).await;
    client.deposit("1", "1", "a").await;
    assert_eq!(session.event().await.version(), 1);
}

#[actix_web::test]
async fn a_client_that_stops_reading_is_dropped_and_the_others_miss_nothing() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    client.open("2").await;
    let mut reader = WebSocket::open(&atalaya).await;
    reader.subscribe(&["banco/saldo/+"]).await;
    let mut sleeper = stop_reading(&atalaya, r##"{"accion":"suscribir","temas":["#"]}"##);
    eventually("two sessions", || async {
        (atalaya.metric("atalaya_sessions").await? == 2.0).then_some(())
    })
    .await;

    let dropped = Rc::new(Cell::new(None));
    let flooding = {
        let (client, dropped) = (client.clone(), Rc::clone(&dropped));
        actix_web::rt::spawn(async move {
            let mut total = 0;
            // Twenty times what the session's queue holds, and on until it is dropped.
            while total < 10_000 || dropped.get().is_none() {
                flood(&client, "1", 500, &format!("f{total}")).await;
                total += 500;
                assert!(total < 100_000, "it is never dropped");
            }
            total
        })
    };
    let reading = actix_web::rt::spawn(async move {
        reader
            .events_until(|event| event.topic == "banco/saldo/2")
            .await
    });
    let started = Instant::now();
    eventually("the sleeper is dropped", || async {
        let slow = r#"atalaya_sessions_ended_total{reason="slow_reader"}"#;
        (atalaya.metric(slow).await? == 1.0).then_some(())
    })
    .await;
    dropped.set(Some(()));
    eventually("one session is left", || async {
        (atalaya.metric("atalaya_sessions").await? == 1.0).then_some(())
    })
    .await;
    let after = started.elapsed();
    let total = flooding.await.unwrap();
    client.deposit("2", "1", "end").await;
    let mut seen = versions(&reading.await.unwrap());
    assert_eq!(seen.pop(), Some(1), "the end");
    assert_eq!(seen.len(), total);
    assert_consecutive(&seen, 1);
    assert!(after < Duration::from_secs(20), "{after:?}");
    // Its connection is over too, not only its session.
    sleeper.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut rest = Vec::new();
    let ended = sleeper.read_to_end(&mut rest);
    assert!(
        ended
            .as_ref()
            .err()
            .is_none_or(|error| error.kind() != std::io::ErrorKind::WouldBlock),
        "still open: {ended:?}"
    );
}

/// Shakes hands by hand on a socket with hardly any room, asks, and reads no more.
fn stop_reading(atalaya: &Atalaya, request: &str) -> std::net::TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], atalaya.http_port));
    socket.connect(&address.into()).unwrap();
    let mut stream = std::net::TcpStream::from(socket);
    let port = atalaya.http_port;
    let handshake = format!(
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let handshake = raw::signed(port, handshake.into_bytes());
    stream.write_all(&handshake).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    // A short text frame under a mask of zeros, which leaves it as it is.
    let length = u8::try_from(request.len()).unwrap();
    assert!(length < 126);
    stream
        .write_all(&[0x81, 0x80 | length, 0, 0, 0, 0])
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[actix_web::test]
async fn what_is_too_large_or_no_text_ends_the_session_with_a_reason() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let padded = |length: usize| {
        let frame = r#"{"accion":"ping"}"#;
        format!("{frame}{}", " ".repeat(length - frame.len()))
    };
    let piece = |code, last, text: String| {
        let mut header = FrameHeader::default();
        (header.opcode, header.is_final) = (OpCode::Data(code), last);
        Message::Frame(Frame::from_payload(header, text.into()))
    };

    let mut session = WebSocket::open(&atalaya).await;
    assert!(session.ask_raw(&padded(16 * 1024)).await.is_ok());
    session.send_text(&padded(16 * 1024 + 1)).await;
    assert_eq!(session.closed().await.unwrap().0, 1009);

    let mut session = WebSocket::open(&atalaya).await;
    session.send(Message::binary(&b"{}"[..])).await;
    assert_eq!(session.closed().await.unwrap().0, 1003);

    // A message in pieces is one message: fine together, and limited together.
    let mut session = WebSocket::open(&atalaya).await;
    for (code, last, text) in [
        (Data::Text, false, r#"{"acc"#),
        (Data::Continue, false, r#"ion":"pi"#),
        (Data::Continue, true, r#"ng"}"#),
    ] {
        session.send(piece(code, last, text.to_owned())).await;
    }
    assert!(session.answer().await.is_ok());
    session.send(piece(Data::Text, false, padded(10_000))).await;
    session
        .send(piece(Data::Continue, true, " ".repeat(10_000)))
        .await;
    assert_eq!(session.closed().await.unwrap().0, 1009);
    eventually("no session is left", || async {
        (atalaya.metric("atalaya_sessions").await? == 0.0).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_bad_frame_is_answered_and_the_session_lives() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let mut session = WebSocket::open(&atalaya).await;
    let nested = format!(
        r#"{{"accion":{}1{}}}"#,
        "[".repeat(4_000),
        "]".repeat(4_000)
    );
    for frame in [
        "",
        "hola",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        r#"{"id":1}"#,
        r#"{"id":1,"accion":null}"#,
        r#"{"id":1,"accion":7}"#,
        r#"{"accion":"ping","accion":"ping"}"#,
        r#"{"accion":"ping"}{"accion":"ping"}"#,
        // A typo must not be taken for an absence.
        r#"{"accion":"depositar","cedula":"1","mnto":5,"monto":5,"clave":"k"}"#,
        // What is missing.
        r#"{"accion":"depositar","cedula":"1","clave":"k"}"#,
        r#"{"accion":"depositar","monto":5,"clave":"k"}"#,
        r#"{"accion":"transferir","cedula_origen":"1","monto":5,"clave":"k"}"#,
        r#"{"accion":"abrir_cuenta","cedula":"9","nombres":"A"}"#,
        r#"{"accion":"saldo"}"#,
        r#"{"accion":"suscribir"}"#,
        r#"{"accion":"desuscribir"}"#,
        // What does not belong.
        r#"{"accion":"depositar","cedula":"1","monto":5,"clave":"k","cedula_destino":"2"}"#,
        r#"{"accion":"saldo","cedula":"1","monto":5}"#,
        r#"{"accion":"ping","cedula":"1"}"#,
        r#"{"accion":"desuscribir","temas":["a"],"desde":"0:1"}"#,
        // What has another type.
        r#"{"accion":"saldo","cedula":1}"#,
        r#"{"accion":"movimientos","cedula":"1","limite":-1}"#,
        r#"{"accion":"movimientos","cedula":"1","limite":1.5}"#,
        r#"{"accion":"suscribir","temas":"banco/#"}"#,
        &nested,
    ] {
        assert_eq!(
            session.ask_raw(frame).await.code(),
            "mensaje_invalido",
            "{frame}"
        );
    }
    let long = format!("banco/{}", "x".repeat(300));
    for (request, code) in [
        (json!({"accion": "robar"}), "accion_desconocida"),
        (json!({"accion": "PING"}), "accion_desconocida"),
        (
            json!({"accion": "suscribir", "temas": ["a/#/b"]}),
            "tema_invalido",
        ),
        (
            json!({"accion": "suscribir", "temas": [""]}),
            "tema_invalido",
        ),
        (
            json!({"accion": "suscribir", "temas": ["a\u{0}b"]}),
            "tema_invalido",
        ),
        (
            json!({"accion": "suscribir", "temas": ["banco/saldo+"]}),
            "tema_invalido",
        ),
        (
            json!({"accion": "suscribir", "temas": ["banco#"]}),
            "tema_invalido",
        ),
        (
            json!({"accion": "suscribir", "temas": [long]}),
            "tema_invalido",
        ),
        // One bad filter spoils the request: nothing is half subscribed.
        (
            json!({"accion": "suscribir", "temas": ["banco/#", "#/"]}),
            "tema_invalido",
        ),
        (
            json!({"accion": "desuscribir", "temas": ["#/"]}),
            "tema_invalido",
        ),
        (
            json!({"accion": "suscribir", "temas": ["#"], "desde": "ayer"}),
            "parametro_invalido",
        ),
    ] {
        let answer = session.ask(request.clone()).await;
        assert_eq!(answer.code(), code, "{request}");
    }
    let many =
        |from: usize, to: usize| -> Vec<String> { (from..to).map(|n| format!("x/{n}")).collect() };
    let asks = |temas: Vec<String>| json!({"accion": "suscribir", "temas": temas});
    assert!(session.ask(asks(many(0, 256))).await.is_ok());
    assert!(session.ask(asks(many(0, 256))).await.is_ok());
    assert_eq!(
        session.ask(asks(many(256, 257))).await.code(),
        "parametro_invalido"
    );

    // Nothing of all this has moved money, subscribed to anything or ended the session.
    assert_eq!(client.balance("1").await, "0.00");
    client.deposit("1", "1", "a").await;
    let answer = session
        .asks(json!({"accion": "saldo", "cedula": "1"}))
        .await;
    assert_eq!(raw_field(&answer.data, "saldo"), "1.00");
    session
        .asks(json!({"accion": "desuscribir", "temas": ["x/0"]}))
        .await;
    session.subscribe(&["banco/saldo/1"]).await;
    assert!(session.event().await.retained);
}

#[actix_web::test]
async fn bytes_that_are_no_utf8_end_only_their_session() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let mut other = WebSocket::open(&atalaya).await;
    let mut session = WebSocket::open(&atalaya).await;
    let header = FrameHeader {
        opcode: OpCode::Data(Data::Text),
        ..FrameHeader::default()
    };
    let bytes = b"{\"accion\":\"\xff\xfe\"}".to_vec();
    session
        .send(Message::Frame(Frame::from_payload(header, bytes.into())))
        .await;
    let closed = session.closed().await;
    assert!(closed.is_none_or(|(code, _)| [1002, 1007].contains(&code)));
    other.asks(json!({"accion": "ping"})).await;
}

#[actix_web::test]
async fn requests_beyond_sixty_four_under_way_are_refused() {
    let atalaya = Atalaya::without_mqtt()
        .set("FAILPOINTS", "writer::before_commit=4*off->sleep(1500)")
        .start()
        .await;
    atalaya.client().open("1").await;
    let mut session = WebSocket::open(&atalaya).await;
    session
        .asks(json!({"accion": "depositar", "cedula": "1", "monto": 1, "clave": "warm"}))
        .await;
    for n in 0..70 {
        let request = json!({"id": n, "accion": "depositar", "cedula": "1", "monto": 1,
            "clave": format!("k{n}")});
        session.send_text(&request.to_string()).await;
    }
    let mut answers = Vec::new();
    for _ in 0..70 {
        answers.push(session.answer().await);
    }
    let refused = answers.iter().filter(|answer| !answer.is_ok());
    assert_eq!(
        refused
            .map(super::support::web_socket::Answer::code)
            .collect::<Vec<_>>(),
        ["sobrecarga"; 6]
    );
    assert_eq!(atalaya.client().balance("1").await, "65.00");
    // They were refused, and not decided: the same key is good later.
    session
        .asks(json!({"accion": "depositar", "cedula": "1", "monto": 1, "clave": "k69"}))
        .await;
    assert_eq!(atalaya.client().balance("1").await, "66.00");
}

#[actix_web::test]
async fn pages_from_elsewhere_get_no_session() {
    let atalaya = Atalaya::without_mqtt()
        .set("ALLOWED_ORIGINS", "https://bank.example")
        .start()
        .await;
    let port = atalaya.http_port;
    let own = format!("http://127.0.0.1:{port}");
    for (headers, status) in [
        (vec![], Ok(())),
        (vec![("origin", own.as_str())], Ok(())),
        (vec![("origin", "https://bank.example")], Ok(())),
        (vec![("origin", "https://evil.example")], Err(403)),
        (vec![("origin", "http://127.0.0.1:1")], Err(403)),
        (vec![("origin", "null")], Err(403)),
        (vec![("host", "evil.example")], Err(403)),
        (
            vec![("host", "evil.example"), ("origin", "http://evil.example")],
            Err(403),
        ),
    ] {
        let knocked = WebSocket::knock(port, "/ws", &headers).await;
        assert_eq!(knocked, status, "{headers:?}");
    }
}

/// Takes ten seconds: that is how often a session is asked.
#[actix_web::test]
async fn a_quiet_client_is_asked_whether_it_is_there() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let mut session = WebSocket::open(&atalaya).await;
    let started = Instant::now();
    session.pinged().await;
    assert!(started.elapsed() < Duration::from_secs(14));
    // And it answers when it is asked.
    session.send(Message::Ping(b"7".to_vec().into())).await;
    session.asks(json!({"accion": "ping"})).await;
    assert_eq!(session.pongs, [b"7"]);
}

#[actix_web::test]
async fn sigterm_says_goodbye_to_every_session() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    atalaya.client().open("1").await;
    let mut idle = WebSocket::open(&atalaya).await;
    let mut busy = WebSocket::open(&atalaya).await;
    busy.subscribe(&["banco/#"]).await;
    let deposited = busy
        .asks(json!({"accion": "depositar", "cedula": "1", "monto": 1, "clave": "a"}))
        .await;
    let started = Instant::now();
    let (status, idle_end, busy_end) = tokio::join!(atalaya.terminate(), idle.closed(), async {
        // What was committed is still told, and then the goodbye.
        let event = busy
            .events_until(|event| event.topic == "banco/saldo/1")
            .await;
        assert_eq!(
            event.last().unwrap().json()["tx_id"],
            deposited.json["datos"]["tx_id"]
        );
        busy.closed().await
    });
    assert!(status.success());
    for end in [idle_end, busy_end] {
        assert_eq!(end, Some((1013, "closing".to_owned())));
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[actix_web::test]
async fn statistics_count_sessions_up_and_down() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let become_count = async |expected: u64| {
        eventually(&format!("{expected} sessions"), || async {
            let statistics = client.get("/api/v1/estadisticas").await.ok()?.json();
            let addresses = u64::from(expected > 0);
            (statistics["clientes_conectados"] == expected
                && statistics["ips_activas"] == addresses)
                .then_some(())
        })
        .await;
    };
    become_count(0).await;
    let polite = WebSocket::open(&atalaya).await;
    let rude = WebSocket::open(&atalaya).await;
    let gone = stop_reading(&atalaya, r#"{"accion":"ping"}"#);
    become_count(3).await;
    polite.leave().await;
    become_count(2).await;
    drop(rude);
    become_count(1).await;
    // A reset, as from a machine that has been switched off and on.
    socket2::SockRef::from(&gone)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(gone);
    become_count(0).await;
}

#[actix_web::test]
async fn sessions_leave_room_for_requests() {
    // Room for four connections a worker is room for few sessions, and some requests beside them.
    let atalaya = Atalaya::without_mqtt()
        .set("MAX_CONNECTIONS", 8)
        .start()
        .await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(WebSocket::open(&atalaya).await);
    }
    let refused = WebSocket::knock(atalaya.http_port, "/ws", &[]).await;
    assert_eq!(refused, Err(503));
    drop(sessions.pop());
    eventually("there is room again", || async {
        WebSocket::knock(atalaya.http_port, "/ws", &[]).await.ok()
    })
    .await;
}
