//! Who comes in at the broker, and what they may do there: devices by their passwords.

use crate::embedded_broker::{Socket, binary, connect_as, mqtt_over_websocket};
use crate::support::device::{Device, create_place, register};
use crate::support::guest::Guest;
use crate::support::hub::assert_refused;
use crate::support::logins::{self, new_password};
use crate::support::{Atalaya, Client, DEADLINE, audit, eventually, run};
use atalaya::domain::device::{PasswordDigest, Secret};
use atalaya::storage::registry_queries::{BrokerLogin, broker_logins};
use atalaya::storage::vault::Vault;
use awc::http::Method;
use futures_util::{SinkExt, StreamExt};
use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, LastWill};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

const REFUSED: u8 = 0x87;

/// How soon what has ended is to have ended everywhere.
const SOON: Duration = Duration::from_secs(1);

/// How devices sign in, as another program reads it.
fn logins(atalaya: &Atalaya) -> Vec<BrokerLogin> {
    let vault = Vault::open(&atalaya.folder().join("data/device-kek"), true).unwrap();
    broker_logins(&mut audit::open(&atalaya.database()), &vault).unwrap()
}

/// Ends a device's password.
async fn remove_password(client: &Client, device: &str) {
    let path = format!("/api/v1/hardware/{device}/contrasena_mqtt");
    assert_eq!(client.bare(Method::DELETE, &path).await.status, 204);
}

#[actix_web::test]
async fn a_password_is_shown_once_and_kept_sealed() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    Device::enrol(&client, "boton-1").await;
    register(&client, "banco", "principal", "boton-2", "BOTONERA").await;
    let state = async || client.json("/api/v1/hardware/boton-1").await["contrasena_mqtt"].clone();
    assert!(state().await.is_null());
    let first = new_password(&client, "boton-1").await;
    let second = new_password(&client, "boton-1").await;
    assert_ne!(first, second);
    assert!(state().await.is_string());
    let nobody = client
        .bare(Method::POST, "/api/v1/hardware/nadie/contrasena_mqtt")
        .await;
    assert_refused(&nobody, 404, "hardware_no_existe", "no such device");
    let inactive = json!({"activo": false});
    let path = "/api/v1/hardware/boton-2";
    client.changes(Method::PATCH, path, &inactive, 200).await;

    let found: Vec<_> = logins(&atalaya)
        .iter()
        .map(|login| {
            let password = login.password.as_ref().map(Secret::reveal);
            (login.address.to_string(), login.active, password)
        })
        .collect();
    let expected = [
        (
            "banco/principal/boton-1".to_owned(),
            true,
            Some(second.clone()),
        ),
        ("banco/principal/boton-2".to_owned(), false, None),
    ];
    assert_eq!(found, expected);
    let secret = logins(&atalaya).remove(0).password.unwrap();
    assert!(PasswordDigest::of(&secret).admits(second.as_bytes()));

    // In no file but the one that seals it, which holds another secret.
    atalaya.terminate().await;
    for entry in walkdir(atalaya.folder()) {
        let content = std::fs::read(&entry).unwrap();
        for secret in [first.as_bytes(), second.as_bytes(), &secret.0] {
            let found = content.windows(secret.len()).any(|bytes| bytes == secret);
            assert!(!found, "a password is in {}", entry.display());
        }
    }
    audit(&atalaya.database()).unwrap();

    atalaya.start().await;
    assert!(state().await.is_string(), "it outlives a restart");
    remove_password(&client, "boton-1").await;
    remove_password(&client, "boton-1").await;
    assert!(state().await.is_null());
    assert!(logins(&atalaya)[0].password.is_none());
}

#[actix_web::test]
async fn passwords_do_not_open_without_their_key_file() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    new_password(&client, "boton-1").await;
    atalaya.terminate().await;
    std::fs::remove_file(atalaya.folder().join("data/device-kek")).unwrap();
    let ended = atalaya.command().output().unwrap();
    assert!(!ended.status.success());
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(error.contains("DEVICE_KEK_FILE"), "{error}");
}

/// A device called `id` that signs in with this user and password.
fn options(port: u16, id: &str, user: &str, password: &str) -> MqttOptions {
    let mut options = Guest::options(port, id);
    options.set_credentials(user, password);
    options
}

async fn connect(atalaya: &Atalaya, device: &str) -> Guest {
    let options = Guest::options(atalaya.mqtt_port, device);
    Guest::connect(options).await.expect("let in")
}

async fn is_turned_away(options: MqttOptions, what: &str) {
    for clean in [true, false] {
        let mut options = options.clone();
        options.set_clean_start(clean);
        let refused = Guest::connect(options).await.err();
        assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized), "{what}");
    }
}

#[actix_web::test]
async fn devices_cannot_publish_or_read_each_others_topics() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    let mut victim = Device::enrol(&client, "boton-1").await;
    let mut spy = Device::enrol(&client, "boton-2").await;
    Device::enrol_at(&client, "acme", "norte", "boton-3", "BOTONERA").await;
    atalaya.listens().await;
    client.open_with("1", "1.00").await;
    let mut line = connect(&atalaya, "boton-1").await;
    for leaf in ["respuesta", "comando"] {
        assert_eq!(line.asks_for(&victim.topic(leaf)).await, 1);
    }

    for name in ["boton-2", "boton-3"] {
        let mut guest = connect(&atalaya, name).await;
        let foreign = ["alerta", "estado", "respuesta", "comando"].map(|leaf| victim.topic(leaf));
        let others = [
            "empresas/acme/norte/boton-2/alerta".to_owned(),
            spy.topic("respuesta"),
            spy.topic("alerta/x"),
            "empresas/banco/alertas".to_owned(),
            "banco/saldo/1".to_owned(),
            "atalaya/estado".to_owned(),
            "casa/luz".to_owned(),
        ];
        for topic in foreign.iter().chain(&others) {
            for (qos, retain) in [
                (QoS::AtLeastOnce, false),
                (QoS::AtLeastOnce, true),
                (QoS::ExactlyOnce, false),
            ] {
                let reason = guest.publish(topic, qos, retain, "forged").await;
                assert_eq!(reason, REFUSED, "{name} on {topic}");
            }
            assert_eq!(guest.publish_as(1, topic, "forged").await, REFUSED);
            assert_eq!(guest.publish_as(1, "", "forged").await, REFUSED);
        }
        let own = ["alerta", "estado"].map(|leaf| spy.topic(leaf));
        let wildcards = [
            "#",
            "+/#",
            "banco/#",
            "banco/saldo/+",
            "banco/depositos",
            "atalaya/estado",
            "empresas/#",
            "empresas/banco/alertas",
            "empresas/banco/principal/+/respuesta",
            "empresas/banco/principal/boton-2/+",
            "empresas/banco/principal/boton-2/#",
            "empresas/banco/principal/boton-2/respuesta/#",
        ];
        let filters = foreign.iter().chain(&own).map(String::as_str);
        for filter in filters.chain(wildcards) {
            assert_eq!(guest.asks_for(filter).await, REFUSED, "{name}: {filter}");
            let shared = format!("$share/g/{filter}");
            assert_eq!(guest.asks_for(&shared).await, REFUSED, "{name}: {shared}");
        }
    }

    // The victim has seen nothing of it, and is heard and answered as ever.
    let message = victim.alert("ROJO");
    let alert = victim.topic("alerta");
    assert_eq!(
        line.publish(&alert, QoS::AtLeastOnce, false, &message)
            .await,
        0
    );
    let answer = line.message().await;
    assert_eq!(answer.topic, victim.topic("respuesta"));
    assert_eq!(answer.json()["estado"], "ACEPTADA");
    let mut own = connect(&atalaya, "boton-2").await;
    let shared = format!("$share/g/{}", spy.topic("respuesta"));
    assert_eq!(own.asks_for(&shared).await, 1);
    let message = spy.alert("AZUL");
    let alert = spy.topic("alerta");
    assert_eq!(
        own.publish(&alert, QoS::AtLeastOnce, false, &message).await,
        0
    );
    assert_eq!(own.message().await.json()["estado"], "ACEPTADA");
    assert_eq!(line.message_within(Duration::from_millis(200)).await, None);
    assert_eq!(
        atalaya.decided().await,
        2.0,
        "nothing else has come to be decided"
    );
    assert_eq!(client.count_alerts().await, 2);
    let state = client.json("/api/v1/hardware/boton-1").await["estado"].clone();
    assert!(state.is_null(), "{state}");
}

#[actix_web::test]
async fn nobody_comes_in_without_a_password_of_its_own() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    let mut victim = Device::enrol(&client, "boton-1").await;
    Device::enrol(&client, "boton-2").await;
    let right = new_password(&client, "boton-1").await;
    let other = new_password(&client, "boton-2").await;
    atalaya.listens().await;
    let port = atalaya.mqtt_port;
    let mut line = connect(&atalaya, "boton-1").await;
    line.subscribe(&victim.topic("respuesta")).await;

    for id in ["anybody", "boton-1", "boton-9"] {
        is_turned_away(Guest::anonymous(port, id), id).await;
    }
    let longer = format!("{right}x");
    for (id, user, password) in [
        ("boton-1", "boton-1", ""),
        ("boton-1", "boton-1", "guess"),
        ("boton-1", "boton-1", &right[..42]),
        ("boton-1", "boton-1", &longer),
        ("boton-1", "boton-1", &right.to_uppercase()),
        // The client id of another, in its own name and in the other's.
        ("boton-1", "boton-2", &other),
        ("boton-1", "boton-1", &other),
        ("boton-2", "boton-1", &right),
        ("another", "boton-1", &right),
        ("BOTON-1", "boton-1", &right),
        ("boton-9", "boton-9", &right),
        ("atalaya-atalaya-1", "boton-1", &right),
        ("atalaya-atalaya-1", "atalaya", &right),
    ] {
        is_turned_away(options(port, id, user, password), id).await;
        let mut socket = mqtt_over_websocket(atalaya.mqtt_ws_port).await;
        let answer = sign_in(&mut socket, id, user, password).await;
        assert_eq!(answer, [0x20, 2, 0, 5], "{id} {user} over WebSocket");
    }

    // Whose client id it is was not pushed out by any of them.
    let alert = victim.topic("alerta");
    let message = victim.alert("ROJO");
    assert_eq!(
        line.publish(&alert, QoS::AtLeastOnce, false, &message)
            .await,
        0
    );
    assert_eq!(line.message().await.json()["estado"], "ACEPTADA");
    // Atalaya neither.
    let connections = atalaya.metric("atalaya_mqtt_connections_total").await;
    assert_eq!(connections, Some(1.0));

    // Over WebSocket it is the same door, and the same topics behind it.
    let mut socket = mqtt_over_websocket(atalaya.mqtt_ws_port).await;
    let answer = sign_in(&mut socket, "boton-2", "boton-2", &other).await;
    assert_eq!(answer, [0x20, 2, 0, 0]);
    for (filter, code) in [
        ("banco/#", 0x80),
        ("empresas/banco/principal/boton-1/respuesta", 0x80),
        ("empresas/banco/principal/boton-2/respuesta", 0),
    ] {
        let mut packet = vec![0x82, u8::try_from(filter.len() + 5).unwrap(), 0, 1, 0];
        packet.push(u8::try_from(filter.len()).unwrap());
        packet.extend_from_slice(filter.as_bytes());
        packet.push(0);
        socket.send(Message::binary(packet)).await.unwrap();
        assert_eq!(binary(&mut socket).await, [0x90, 3, 0, 1, code], "{filter}");
    }
}

/// What the broker answers to a CONNECT of MQTT 3.1.1.
async fn sign_in(socket: &mut Socket, id: &str, user: &str, password: &str) -> Vec<u8> {
    let packet = connect_as(&[id, user, password]);
    socket.send(Message::binary(packet)).await.unwrap();
    binary(socket).await
}

/// Waits until the broker hangs up, and says how long that took.
async fn is_shown_out(socket: &mut Socket) -> Duration {
    let began = Instant::now();
    loop {
        let next = tokio::time::timeout(DEADLINE, socket.next()).await;
        match next.expect("the end in time") {
            Some(Ok(Message::Close(_)) | Err(_)) | None => return began.elapsed(),
            Some(Ok(_)) => {}
        }
    }
}

#[actix_web::test]
async fn a_last_will_is_on_a_topic_of_its_own() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    Device::enrol(&client, "boton-1").await;
    Device::enrol(&client, "boton-2").await;
    atalaya.listens().await;
    let state = async |device: &str| {
        let path = format!("/api/v1/hardware/{device}");
        client.json(&path).await["estado"].clone()
    };
    let dying = |topic: &str| {
        let mut options = Guest::options(atalaya.mqtt_port, "boton-1");
        let said = r#"{"estado":"fuera_de_linea"}"#;
        options.set_last_will(LastWill::new(topic, said, QoS::AtLeastOnce, true, None));
        options
    };
    for topic in [
        "empresas/banco/principal/boton-2/estado",
        "empresas/banco/principal/boton-2/comando",
        "empresas/banco/principal/boton-1/comando",
        "empresas/banco/alertas",
        "banco/saldo/1",
        "atalaya/estado",
    ] {
        is_turned_away(dying(topic), topic).await;
    }
    let own = "empresas/banco/principal/boton-1/estado";
    let mut guest = Guest::connect(dying(own)).await.unwrap();
    let online = r#"{"estado":"en_linea"}"#;
    assert_eq!(guest.publish(own, QoS::AtLeastOnce, true, online).await, 0);
    let is = async |wanted: &str| {
        eventually(wanted, || async {
            (state("boton-1").await == wanted).then_some(())
        })
        .await;
    };
    is("en_linea").await;
    drop(guest);
    is("fuera_de_linea").await;

    // A device that is shown out is told of by its will, too.
    let mut guest = Guest::connect(dying(own)).await.unwrap();
    assert_eq!(guest.publish(own, QoS::AtLeastOnce, true, online).await, 0);
    is("en_linea").await;
    remove_password(&client, "boton-1").await;
    guest.is_shown_out().await;
    is("fuera_de_linea").await;
    assert!(state("boton-2").await.is_null());
}

/// What ends the access of a device, and what brings it back where something does.
async fn end_access(client: &Client, how: &str, active: bool) {
    let (path, field) = match how {
        "hardware" => ("/api/v1/hardware/boton-1", "activo"),
        "sede" => ("/api/v1/sedes/acme/norte", "activa"),
        "empresa" => ("/api/v1/empresas/acme", "activa"),
        "retirar" => return remove_password(client, "boton-1").await,
        _ => {
            let path = "/api/v1/hardware/boton-1/contrasena_mqtt";
            client.changes(Method::POST, path, &json!({}), 201).await;
            return;
        }
    };
    client
        .changes(Method::PATCH, path, &json!({ field: active }), 200)
        .await;
}

#[actix_web::test]
async fn what_ends_access_ends_the_connection_within_a_second() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    Device::enrol_at(&client, "acme", "norte", "boton-1", "BOTONERA").await;
    let other = Device::enrol(&client, "boton-2").await;
    atalaya.listens().await;
    let mut witness = connect(&atalaya, "boton-2").await;
    for how in ["hardware", "sede", "empresa", "rotar", "retirar"] {
        for over_websocket in [false, true] {
            let password = new_password(&client, "boton-1").await;
            let port = atalaya.mqtt_port;
            let came = || options(port, "boton-1", "boton-1", &password);
            let mut guest = None;
            let mut socket = None;
            if over_websocket {
                let mut opened = mqtt_over_websocket(atalaya.mqtt_ws_port).await;
                let answer = sign_in(&mut opened, "boton-1", "boton-1", &password).await;
                assert_eq!(answer, [0x20, 2, 0, 0]);
                socket = Some(opened);
            } else {
                guest = Some(Guest::connect(came()).await.unwrap());
            }
            end_access(&client, how, false).await;
            let took = match (&mut guest, &mut socket) {
                (Some(guest), _) => guest.is_shown_out().await,
                (_, Some(socket)) => is_shown_out(socket).await,
                _ => unreachable!(),
            };
            assert!(took < SOON, "{how}: {took:?}");
            is_turned_away(came(), how).await;
            if ["hardware", "sede", "empresa"].contains(&how) {
                end_access(&client, how, true).await;
                Guest::connect(came()).await.expect("welcome again");
            }
        }
    }
    // Nobody else was shown out, and who has the new password comes in.
    let own = other.topic("estado");
    let said = witness.publish(&own, QoS::AtLeastOnce, false, "{}").await;
    assert_eq!(said, 0);
    new_password(&client, "boton-1").await;
    connect(&atalaya, "boton-1").await;
}

#[actix_web::test]
async fn a_session_outlives_a_new_password_and_a_restart() {
    let mut atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    let button = Device::enrol(&client, "boton-1").await;
    let port = atalaya.mqtt_port;
    let remembered = || Guest::remembered(port, "boton-1");
    let mut guest = Guest::connect(remembered()).await.unwrap();
    assert!(!guest.was_known);
    guest.subscribe(&button.topic("respuesta")).await;
    new_password(&client, "boton-1").await;
    guest.is_shown_out().await;
    let mut guest = Guest::connect(remembered()).await.unwrap();
    assert!(guest.was_known);
    // What it had subscribed to it hears again, without asking for it.
    atalaya.listens().await;
    let message = button.sign(&button.claims(1, "ROJO"));
    let alert = button.topic("alerta");
    assert_eq!(
        guest
            .publish(&alert, QoS::AtLeastOnce, false, &message)
            .await,
        0
    );
    assert_eq!(guest.message().await.json()["estado"], "ACEPTADA");
    drop(guest);

    atalaya.terminate().await;
    atalaya.start().await;
    let guest = Guest::connect(remembered()).await.unwrap();
    assert!(guest.was_known, "over a restart, too");
}

#[actix_web::test]
async fn the_device_commands_sign_in_as_the_device() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    atalaya.listens().await;
    let file = atalaya.folder().join("boton-1.json");
    let device = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_atalaya"));
        command
            .current_dir(atalaya.folder())
            .env_clear()
            .env("ATALAYA_URL", atalaya.client().base())
            .env("ATALAYA_TOKEN", atalaya.token())
            .env("MQTT_BROKER_PORT", atalaya.mqtt_port.to_string())
            .arg("device")
            .args(words);
        run(command)
    };
    let path = file.display().to_string();
    let enrolled = device(&["enrol", "boton-1", "--out", &path]);
    assert_eq!(enrolled.code, Some(0), "{enrolled:?}");
    let stored: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let password = stored["contrasena_mqtt"].as_str().unwrap();
    assert!(!format!("{enrolled:?}").contains(password));
    let sent = device(&["send", &path, "ROJO"]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(sent.stdout.contains("ACEPTADA"), "{sent:?}");

    let rotated = device(&["enrol", "boton-1", "--rotar", "--out", &path]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let sent = device(&["send", &path, "AZUL"]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    remove_password(&atalaya.client(), "boton-1").await;
    let denied = device(&["send", &path, "VERDE", "--timeout", "5"]);
    assert_ne!(denied.code, Some(0), "{denied:?}");
    assert!(
        format!("{denied:?}").contains("no deja entrar"),
        "{denied:?}"
    );
    assert!(!logins::is_device(atalaya.mqtt_port, "boton-1"));
}

/// All files below `folder`.
fn walkdir(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walkdir(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
