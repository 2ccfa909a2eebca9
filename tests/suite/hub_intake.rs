//! Messages of devices over MQTT: who is answered and where, and what outlives an absence.

use crate::support::checks::backlog_drains;
use crate::support::device::{Device, create_place, fingerprint};
use crate::support::guest::Guest;
use crate::support::patient::messages_of;
use crate::support::{
    Atalaya, Client, Mosquitto, PatientDevice, Records, Subscriber, audit, eventually,
};
use awc::http::Method;
use futures_util::future::join;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::LastWill;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How many messages had this result for this reason.
async fn counted(atalaya: &Atalaya, result: &str, reason: &str) -> f64 {
    let name = format!("atalaya_device_messages_total{{reason=\"{reason}\",result=\"{result}\"}}");
    atalaya.metric(&name).await.unwrap_or(0.0)
}

#[actix_web::test]
async fn known_devices_are_answered_on_their_topic_and_nobody_else_anywhere() {
    // A broker that lets strangers in; our own does not.
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    create_place(&client, "banco", "norte").await;
    let mut button = Device::enrol(&client, "boton-1").await;
    let line = Subscriber::to(broker.port, &["empresas/#"]).await;
    atalaya.listens().await;
    let answers = button.topic("respuesta");
    let ask = async |topic: &str, message: &str| {
        let before = line.on(&answers).len();
        line.publish(topic, false, message).await;
        eventually("an answer", || async {
            line.on(&answers).get(before).cloned()
        })
        .await
    };

    let message = button.alert("ROJO");
    let accepted = ask(&button.topic("alerta"), &message).await;
    assert_eq!((accepted.qos, accepted.retain), (1, false));
    let accepted = accepted.json();
    assert_eq!(accepted["estado"], "ACEPTADA");
    assert_eq!(accepted["motivo"], Value::Null);
    assert_eq!(accepted["seq"], 1);
    assert_eq!(accepted["huella"], fingerprint(message.as_bytes()));
    let news = line
        .wait_for("news", |m| m.topic == "empresas/banco/alertas")
        .await;
    assert_eq!((news.qos, news.retain), (1, false));
    assert_eq!(news.json()["alerta_id"], accepted["alerta_id"]);
    assert_eq!(news.json()["cambio"], "CREADA");

    let again = ask(&button.topic("alerta"), &message).await;
    assert_eq!((again.qos, again.retain), (1, false));
    let again = again.json();
    assert_eq!(again["estado"], "DUPLICADA");
    assert_eq!(again["alerta_id"], accepted["alerta_id"]);
    assert_eq!(again["huella"], accepted["huella"]);

    let unknown_kind = button.sign(&button.claims(2, "NADA"));
    let rejected = ask(&button.topic("alerta"), &unknown_kind).await;
    assert_eq!((rejected.qos, rejected.retain), (1, false));
    let rejected = rejected.json();
    assert_eq!(rejected["estado"], "RECHAZADA");
    assert_eq!(rejected["motivo"], "TIPO");
    assert_eq!(rejected["alerta_id"], Value::Null);
    assert_eq!(rejected["huella"], fingerprint(unknown_kind.as_bytes()));

    let before = line
        .all()
        .iter()
        .filter(|m| m.topic.ends_with("/respuesta"))
        .count();
    assert_eq!(before, 3);
    let mut stranger = button.clone();
    stranger.name = "boton-9".to_owned();
    let stolen = button.alert("ROJO");
    let mut nowhere = vec![(stranger.topic("alerta"), stranger.alert("ROJO"))];
    for place in ["acme/norte", "banco/norte", "nadie/norte"] {
        nowhere.push((format!("empresas/{place}/boton-1/alerta"), stolen.clone()));
        nowhere.push((format!("empresas/{place}/boton-1/alerta"), "x".to_owned()));
    }
    for (topic, message) in &nowhere {
        line.publish(topic, false, message).await;
    }
    let last = ask(&button.topic("alerta"), &stolen).await.json();
    assert_eq!(last["estado"], "ACEPTADA", "it was not spent elsewhere");
    let replies: Vec<String> = line
        .all()
        .into_iter()
        .map(|m| m.topic)
        .filter(|topic| topic.ends_with("/respuesta"))
        .collect();
    assert_eq!(replies, vec![answers.clone(); 4]);
    assert_eq!(counted(&atalaya, "rejected", "IDENTIDAD").await, 4.0);
    assert_eq!(counted(&atalaya, "rejected", "FORMA").await, 3.0);
    assert_eq!(messages_of(&Records::of(&atalaya)).len(), 2);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn alerts_wait_for_atalaya_and_are_heard_after_the_broker_forgot_it() {
    let mut broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker).start().await;
    let button = Device::enrol(&atalaya.client(), "boton-1").await;
    let mut button = PatientDevice::connect(broker.port, button).await;
    atalaya.listens().await;
    let accepted = async |button: &PatientDevice, message: &str| {
        assert_eq!(button.answered(message).await["estado"], "ACEPTADA");
    };
    atalaya.kill();
    let missed: Vec<String> = (0..8).map(|_| button.device.alert("ROJO")).collect();
    for message in &missed {
        button.send(message).await;
    }
    atalaya.start().await;
    for message in &missed {
        accepted(&button, message).await;
    }
    broker.stop();
    broker.forget();
    eventually("it notices", || async {
        (atalaya.metric("atalaya_mqtt_intake_connected").await? == 0.0).then_some(())
    })
    .await;
    broker.restart();
    atalaya.listens().await;
    let later = button.device.alert("ROJO");
    button
        .insist(std::slice::from_ref(&later), &Cell::new(0))
        .await;
    let records = Records::of(&atalaya);
    assert_eq!(messages_of(&records).len(), 9);
    button.answers_are_in(&records);
    // An answer may be published twice; nothing is taken twice.
    let taken = button.answers().into_iter();
    let taken = taken.filter(|answer| answer["estado"] == "ACEPTADA");
    let taken: BTreeSet<String> = taken.map(|a| a["huella"].to_string()).collect();
    assert_eq!(taken.len(), 9);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn planted_alerts_are_ignored_at_the_start_and_at_each_connection() {
    let mut broker = Mosquitto::start();
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let button = Device::enrol(&atalaya.client(), "boton-1").await;
    atalaya.kill();
    let mut button = PatientDevice::connect(broker.port, button).await;
    let planter = Subscriber::to(broker.port, &["empresas/+/+/+/alerta"]).await;
    let topic = button.device.topic("alerta");
    let planted = button.device.alert("ROJO");
    planter.publish(&topic, true, &planted).await;
    planter
        .wait_for("it is planted", |m| m.topic == topic)
        .await;
    atalaya.set("MQTT", "on");
    atalaya.set("MQTT_BROKER_HOST", "127.0.0.1");
    atalaya.set("MQTT_BROKER_PORT", broker.port);
    atalaya.start().await;
    atalaya.listens().await;
    for life in 1..=2 {
        let message = button.device.alert("AZUL");
        button.send(&message).await;
        assert_eq!(button.answered(&message).await["estado"], "ACEPTADA");
        assert!(button.answer_to(&planted).is_none(), "it was heard");
        let kept = messages_of(&Records::of(&atalaya));
        assert_eq!(kept.len(), life);
        assert!(!kept.contains_key(&fingerprint(planted.as_bytes())));
        if life == 1 {
            broker.stop();
            eventually("it notices", || async {
                (atalaya.metric("atalaya_mqtt_intake_connected").await? == 0.0).then_some(())
            })
            .await;
            broker.restart();
            atalaya.listens().await;
        }
    }
    let late = Subscriber::to(broker.port, &[&topic]).await;
    late.wait_for("it is still planted", |m| m.retain).await;
}

/// The next message of `device` with so much in it.
fn filled(device: &mut Device, bytes: usize) -> String {
    device.seq += 1;
    let mut claims = device.claims(device.seq, "ROJO");
    claims["datos"] = json!({"relleno": "x".repeat(bytes * 3 / 4)});
    device.sign(&claims)
}

async fn sizes(atalaya: &Atalaya, port: u16) {
    let button = Device::enrol(&atalaya.client(), "boton-1").await;
    let mut button = PatientDevice::connect(port, button).await;
    atalaya.listens().await;
    let connections = atalaya.metric("atalaya_mqtt_connections_total").await;
    assert!(connections.is_some());
    let large = filled(&mut button.device, 12 * 1_024);
    assert!(large.len() > 12 * 1_024);
    button.send(&large).await;
    assert_eq!(button.answered(&large).await["estado"], "ACEPTADA");
    let huge = filled(&mut button.device, 70 * 1_024);
    assert!(huge.len() > 70 * 1_024);
    button.send(&huge).await;
    let answer = button.answered(&huge).await;
    assert_eq!(answer["estado"], "RECHAZADA");
    assert_eq!(answer["motivo"], "TAMANO");
    let next = button.device.alert("ROJO");
    button.send(&next).await;
    assert_eq!(button.answered(&next).await["estado"], "ACEPTADA");
    assert_eq!(
        atalaya.metric("atalaya_mqtt_intake_connected").await,
        Some(1.0)
    );
    assert_eq!(
        atalaya.metric("atalaya_mqtt_connections_total").await,
        connections
    );
    let lost = atalaya.log().matches("devices are not heard").count();
    assert_eq!(lost, 0, "it had to connect again");
    assert_eq!(button.answers().len(), 3);
}

#[actix_web::test]
async fn large_messages_are_taken_and_too_large_ones_answered_without_a_reconnection() {
    let broker = Mosquitto::start();
    sizes(&Atalaya::with_broker(&broker).start().await, broker.port).await;
    let atalaya = Atalaya::with_embedded_broker().start().await;
    sizes(&atalaya, atalaya.mqtt_port).await;
}

#[actix_web::test]
async fn a_device_that_floods_is_throttled_and_the_others_are_not() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker)
        .set("DEVICE_RATE", 5)
        .set("DEVICE_BURST", 5)
        .start()
        .await;
    let client = atalaya.client();
    let flooder = Device::enrol_with_secret(&client, "sensor-1").await;
    let mut flooder = PatientDevice::connect(broker.port, flooder).await;
    let button = Device::enrol(&client, "boton-1").await;
    let mut button = PatientDevice::connect(broker.port, button).await;
    atalaya.listens().await;
    let flood: Vec<String> = (0..3_000).map(|_| flooder.device.alert("ROJO")).collect();
    let calm: Vec<String> = (0..20).map(|_| button.device.alert("AZUL")).collect();
    let floods = async {
        for message in &flood {
            flooder.send(message).await;
        }
    };
    join(floods, button.insist(&calm, &Cell::new(0))).await;
    eventually("the flood is over", || async {
        let limited = counted(&atalaya, "rejected", "LIMITE").await;
        let taken = counted(&atalaya, "accepted", "").await;
        (limited + taken >= 3_020.0).then_some(())
    })
    .await;
    let records = Records::of(&atalaya);
    let kept = messages_of(&records);
    for message in &calm {
        assert!(kept.contains_key(&fingerprint(message.as_bytes())));
    }
    assert!(counted(&atalaya, "rejected", "LIMITE").await > 2_000.0);
    assert!(kept.len() < 1_000, "{} were taken", kept.len());
    // One within the window that was throttled: it is as good as new.
    let throttled = flood[2_950..]
        .iter()
        .rfind(|m| !kept.contains_key(&fingerprint(m.as_bytes())))
        .expect("some of the last were throttled")
        .clone();
    flooder
        .insist(std::slice::from_ref(&throttled), &Cell::new(0))
        .await;
    let digest = fingerprint(throttled.as_bytes());
    let taken = flooder.answers().into_iter();
    let taken = taken.filter(|a| a["huella"] == digest.as_str() && a["estado"] == "ACEPTADA");
    assert_eq!(taken.count(), 1);
    assert!(messages_of(&records).contains_key(&digest));
    // What is throttled is nobody's attack.
    assert_eq!(records.number("SELECT count(*) FROM quarantine"), 0);
}

#[actix_web::test]
async fn after_the_answer_to_a_revocation_nothing_is_taken_from_the_broker() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).without_haste().start().await;
    let client = atalaya.client();
    let button = Device::enrol(&client, "boton-1").await;
    let mut button = PatientDevice::connect(broker.port, button).await;
    atalaya.listens().await;
    let messages: Vec<String> = (0..200).map(|_| button.device.alert("ROJO")).collect();
    let records = Records::of(&atalaya);
    let is_over = Cell::new(false);
    let revoke = async {
        eventually("some are answered", || async {
            (button.answers().len() > 10).then_some(())
        })
        .await;
        let path = format!("/api/v1/hardware/boton-1/claves/{}", button.device.kid);
        client.changes(Method::DELETE, &path, &json!({}), 200).await;
        is_over.set(true);
        messages_of(&records)
    };
    let flow = async {
        let mut sent_after = 0;
        for message in &messages {
            button.send(message).await;
            // At the pace of a busy device, so that the revocation comes in between.
            tokio::time::sleep(Duration::from_millis(2)).await;
            sent_after += usize::from(is_over.get());
        }
        sent_after
    };
    let (at_revocation, sent_after) = join(revoke, flow).await;
    assert!(sent_after > 0, "it came too late to show anything");
    for message in &messages {
        button.answered(message).await;
    }
    let kept = messages_of(&records);
    assert_eq!(kept, at_revocation, "taken after it was over");
    for answer in button.answers() {
        let digest = answer["huella"].as_str().unwrap();
        match answer["estado"].as_str().unwrap() {
            "ACEPTADA" => assert!(kept.contains_key(digest), "{answer}"),
            _ => assert_eq!(answer["motivo"], "IDENTIDAD", "{answer}"),
        }
    }
    backlog_drains(&atalaya).await;
    audit(&atalaya.database()).unwrap();
}

async fn shows(client: &Client, device: &str, status: &str) {
    eventually(status, || async {
        let device = client.json(&format!("/api/v1/hardware/{device}")).await;
        (device["estado"] == status).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn what_a_device_says_of_itself_is_shown_also_after_a_restart() {
    let broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    create_place(&client, "banco", "norte").await;
    let mut topics = Vec::new();
    for name in ["boton-1", "boton-2"] {
        topics.push(Device::enrol(&client, name).await.topic("estado"));
    }
    let (online, offline) = (r#"{"estado":"en_linea"}"#, r#"{"estado":"fuera_de_linea"}"#);
    let connect = async |name: &str, topic: &str| {
        let mut options = Guest::options(broker.port, name);
        let will = LastWill::new(topic, offline, QoS::AtLeastOnce, true, None);
        options.set_last_will(will);
        let mut guest = Guest::connect(options).await.unwrap();
        guest.publish(topic, QoS::AtLeastOnce, true, online).await;
        guest
    };
    let first = connect("boton-1", &topics[0]).await;
    let mut second = connect("boton-2", &topics[1]).await;
    shows(&client, "boton-1", "en_linea").await;
    shows(&client, "boton-2", "en_linea").await;
    drop(first);
    shows(&client, "boton-1", "fuera_de_linea").await;

    // Neither from another address nor in other words. The last one is heard after them.
    for place in ["acme/norte", "banco/norte", "nadie/x"] {
        let forged = format!("empresas/{place}/boton-1/estado");
        second
            .publish(&forged, QoS::AtLeastOnce, true, online)
            .await;
    }
    for junk in ["", "x", r#"{"estado":"quizas"}"#, "[]"] {
        second
            .publish(&topics[0], QoS::AtLeastOnce, false, junk)
            .await;
    }
    second
        .publish(&topics[1], QoS::AtLeastOnce, true, offline)
        .await;
    shows(&client, "boton-2", "fuera_de_linea").await;
    second
        .publish(&topics[1], QoS::AtLeastOnce, true, online)
        .await;
    shows(&client, "boton-2", "en_linea").await;
    shows(&client, "boton-1", "fuera_de_linea").await;

    atalaya.kill();
    atalaya.start().await;
    shows(&client, "boton-2", "en_linea").await;
    shows(&client, "boton-1", "fuera_de_linea").await;
}

#[actix_web::test]
async fn nobody_is_silent_while_nobody_can_be_heard() {
    let mut broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    let kind = "/api/v1/tipos_hardware/SENSOR";
    let silence = json!({"silencio_segundos": 2});
    let sensor = Device::enrol_at(&client, "banco", "principal", "sensor-1", "SENSOR").await;
    let mut sensor = PatientDevice::connect(broker.port, sensor).await;
    client.changes(Method::PUT, kind, &silence, 200).await;
    atalaya.listens().await;
    let beat = sensor.device.alert("LATIDO");
    sensor.send(&beat).await;
    assert_eq!(sensor.answered(&beat).await["estado"], "ACEPTADA");
    broker.stop();
    // More than twice the interval: time itself is what is awaited.
    let away = Instant::now();
    eventually("the broker is away for long", || async {
        let deaf = atalaya.metric("atalaya_mqtt_intake_connected").await? == 0.0;
        (deaf && away.elapsed() > Duration::from_secs(5)).then_some(())
    })
    .await;
    assert_eq!(client.count_alerts().await, 0);
    let back = Instant::now();
    broker.restart();
    atalaya.listens().await;
    eventually("its silence is noticed now", || async {
        (client.count_alerts().await == 1).then_some(())
    })
    .await;
    assert!(
        back.elapsed() >= Duration::from_secs(2),
        "it had no time to speak"
    );
    audit(&atalaya.database()).unwrap();
}
