//! The alert hub on a broker: what devices, people and strangers can bring about there.

#[cfg(feature = "failpoints")]
use crate::support::atalaya::Settings;
use crate::support::checks::passes_promtool;
use crate::support::device::{Device, create_place, encode, fingerprint, now, register};
use crate::support::field::{At, Field};
use crate::support::guest::Guest;
use crate::support::hub::{changes, texts};
use crate::support::logins;
use crate::support::patient::messages_of;
use crate::support::{
    Atalaya, DEADLINE, Mosquitto, PatientDevice, Records, Subscriber, audit, eventually,
};
use awc::http::Method;
use futures_util::future::{join, join_all};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::{Duration, Instant};

const REFUSED: u8 = 0x87;

// --- what is said, to whom, in which order ------------------------------------------------------

#[actix_web::test]
async fn the_device_is_told_first_then_the_site_and_then_the_people() {
    for at in At::BOTH {
        let field = Field::start(at).await;
        let client = field.client();
        let button = Device::enrol(&client, "boton-1").await;
        register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
        let line = Subscriber::to(field.port(), &["empresas/#"]).await;
        let mut claims = button.claims(1, "ROJO");
        claims["descripcion"] = json!("Asalto en la caja 3");
        claims["ubicacion"] = json!({"piso": 2});
        claims["datos"] = json!({"boton": 3});
        let message = button.sign(&claims);
        line.alert(&button, &message).await;
        line.news_reach("banco", 1).await;

        let mut told = line.all();
        told.retain(|m| !m.topic.ends_with("/alerta"));
        let topics: Vec<&str> = told.iter().map(|m| m.topic.as_str()).collect();
        assert_eq!(
            topics,
            [
                "empresas/banco/principal/boton-1/respuesta",
                "empresas/banco/principal/luz-1/comando",
                "empresas/banco/alertas"
            ],
            "{at:?}"
        );
        assert!(told.iter().all(|m| (m.qos, m.retain) == (1, false)));
        let [reply, order, news] = [0, 1, 2].map(|n: usize| told[n].json());
        let id = reply["alerta_id"].as_str().unwrap();
        let alert = client.alert(id).await;
        assert_eq!(
            reply,
            json!({
                "alerta_id": id, "estado": "ACEPTADA", "motivo": null, "seq": 1,
                "huella": fingerprint(message.as_bytes()), "timestamp": alert["creada"],
                "reglas": alert["historia"][0]["reglas"],
            })
        );
        assert_eq!(
            (&order["alerta_id"], &order["tipo_alarma"], &order["color"]),
            (&json!(id), &json!("ROJO"), &json!("ROJO"))
        );
        for (field, value) in [
            ("alerta_id", json!(id)),
            ("cambio", json!("CREADA")),
            ("estado", json!("NUEVA")),
            ("empresa", json!("banco")),
            ("sede", json!("principal")),
            ("hardware", json!("boton-1")),
            ("tipo_alarma", json!("ROJO")),
            ("prioridad", json!("critica")),
            ("repeticiones", json!(1)),
            ("tardia", json!(false)),
            ("descripcion", json!("Asalto en la caja 3")),
            ("ubicacion", json!({"piso": 2})),
            ("datos", json!({"boton": 3})),
            ("por", json!("hardware")),
            ("timestamp", alert["creada"].clone()),
        ] {
            assert_eq!(news[field], value, "{field}");
        }

        // Nothing of it waits at the broker for who comes later.
        let late = Subscriber::to(field.port(), &["empresas/#"]).await;
        let next = button.sign(&button.claims(2, "ROJO"));
        assert_eq!(line.asks(&button, &next).await["alerta_id"], id);
        late.answer(&button, &next).await;
        assert!(late.all().iter().all(|m| !m.text().contains("\"seq\":1,")));
        assert!(late.all().iter().all(|m| !m.retain));
        // A repetition is news, but no order: the light is on.
        let news = line.news_reach("banco", 2).await;
        assert_eq!(news[1]["cambio"], "REPETIDA");
        assert_eq!(line.orders("luz-1").len(), 1);
        audit(&field.atalaya.database()).unwrap();
    }
}

#[actix_web::test]
async fn a_repeat_is_answered_alike_for_ever_and_is_no_news() {
    for at in At::BOTH {
        let mut field = Field::start(at).await;
        let mut button = Device::enrol(&field.client(), "boton-1").await;
        let line = Subscriber::to(field.port(), &["empresas/#"]).await;
        let (alert, beat) = (button.alert("ROJO"), button.alert("LATIDO"));
        let first = line.asks(&button, &alert).await;
        let beaten = line.asks(&button, &beat).await;
        assert_eq!(
            (&beaten["estado"], &beaten["alerta_id"]),
            (&json!("ACEPTADA"), &json!(null))
        );
        for life in 0..2 {
            let seen = 1 + 2 * life;
            for (message, of) in [(&alert, &first), (&alert, &first), (&beat, &beaten)] {
                line.alert(&button, message).await;
                assert_eq!(of["huella"], fingerprint(message.as_bytes()));
            }
            let again = line.answers_to(&button, &alert, seen + 2).await;
            for repeat in &again[1..] {
                assert_eq!(repeat["estado"], "DUPLICADA", "{at:?}");
                assert_eq!(repeat["alerta_id"], first["alerta_id"]);
                assert_eq!(repeat["seq"], first["seq"]);
            }
            let beats = line.answers_to(&button, &beat, 2 + life).await;
            assert_eq!(beats[1 + life]["estado"], "DUPLICADA");
            assert_eq!(beats[1 + life]["alerta_id"], Value::Null);
            if life == 0 {
                // In good order, so that the broker has all acknowledgements.
                assert!(field.atalaya.terminate().await.success());
                field.atalaya.start().await;
                field.atalaya.listens().await;
            }
        }
        // What comes behind shows that nothing more was said of it.
        line.asks(&button, &button.sign(&button.claims(9, "AZUL")))
            .await;
        let news = line.news_reach("banco", 2).await;
        assert_eq!(texts(&news, "cambio"), ["CREADA", "CREADA"]);
        assert_eq!(texts(&news, "tipo_alarma"), ["ROJO", "AZUL"]);
        audit(&field.atalaya.database()).unwrap();
    }
}

#[actix_web::test]
async fn each_rejection_is_told_to_its_device_and_kept_for_a_look() {
    for at in At::BOTH {
        let field = Field::start(at).await;
        let client = field.client();
        let button = Device::enrol(&client, "boton-1").await;
        let mut other = Device::enrol(&client, "boton-2").await;
        let line = Subscriber::to(field.port(), &["empresas/#"]).await;
        let first = button.sign(&button.claims(10, "ROJO"));
        line.asks(&button, &first).await;
        let mut future = button.claims(11, "ROJO");
        future["iat"] = json!(now() + 3_600);
        let mut elsewhere = button.claims(11, "ROJO");
        elsewhere["aud"] = json!("otra");
        let mut forged = button.clone();
        forged.signing = other.signing.clone();
        let mut reused = button.claims(10, "ROJO");
        reused["descripcion"] = json!("otra cosa");
        let refused = [
            ("FORMA", json!(null), b"no es un JWS".to_vec()),
            ("FORMA", json!(null), b"\xff\xfe\x00.\xc3\x28.x".to_vec()),
            ("FORMA", json!(null), b"".to_vec()),
            (
                "IDENTIDAD",
                json!(11),
                forged.sign(&button.claims(11, "ROJO")).into_bytes(),
            ),
            ("IDENTIDAD", json!(1), other.alert("ROJO").into_bytes()),
            ("SECUENCIA", json!(10), button.sign(&reused).into_bytes()),
            (
                "SECUENCIA",
                json!(2_000_000),
                button.sign(&button.claims(2_000_000, "ROJO")).into_bytes(),
            ),
            ("FECHA", json!(11), button.sign(&future).into_bytes()),
            (
                "TIPO",
                json!(11),
                button.sign(&button.claims(11, "NADA")).into_bytes(),
            ),
            (
                "TIPO",
                json!(11),
                button
                    .sign(&button.claims(11, "DISPOSITIVO_SILENCIOSO"))
                    .into_bytes(),
            ),
            ("AUDIENCIA", json!(11), button.sign(&elsewhere).into_bytes()),
        ];
        for (reason, seq, message) in &refused {
            line.publish(&button.topic("alerta"), false, message).await;
            let print = fingerprint(message);
            let answer = eventually(reason, || async {
                let answers = line.answers(&button).into_iter();
                answers
                    .into_iter()
                    .find(|answer| answer["huella"] == *print)
            })
            .await;
            assert_eq!(
                (&answer["estado"], &answer["motivo"]),
                (&json!("RECHAZADA"), &json!(reason)),
                "{at:?}"
            );
            assert_eq!(
                (&answer["seq"], &answer["alerta_id"]),
                (seq, &json!(null)),
                "{reason}"
            );
            assert_eq!(answer["reglas"], json!([]));
        }
        // The device whose message came on another's topic was not told: it did not send it there.
        assert!(line.answers(&other).is_empty());
        assert_eq!(line.news("banco").len(), 1);
        let kept = eventually("all are in quarantine", || async {
            let kept = client.walk("/api/v1/cuarentena", "", 200).await;
            (kept.len() == refused.len()).then_some(kept)
        })
        .await;
        for (suspect, (reason, _, message)) in kept.iter().rev().zip(&refused) {
            assert_eq!(suspect["huella"], fingerprint(message), "{reason}");
            assert_eq!(suspect["motivo"], *reason);
            assert_eq!(
                (&suspect["canal"], &suspect["tema"], &suspect["hardware"]),
                (
                    &json!("mqtt"),
                    &json!(button.topic("alerta")),
                    &json!("boton-1")
                )
            );
        }
        // The number that none of them was worth is still free.
        let good = button.sign(&button.claims(11, "ROJO"));
        assert_eq!(line.asks(&button, &good).await["estado"], "ACEPTADA");
        assert_eq!(messages_of(&Records::of(&field.atalaya)).len(), 2);
        audit(&field.atalaya.database()).unwrap();
    }
}

#[actix_web::test]
async fn a_topic_that_names_no_device_is_nobodys() {
    // Our own broker lets nobody speak there.
    let field = Field::start(At::Mosquitto).await;
    let mut button = Device::enrol(&field.client(), "boton-1").await;
    let line = Subscriber::to(field.port(), &["empresas/#"]).await;
    let message = button.alert("ROJO");
    let long = "x".repeat(65);
    let bad = [
        "empresas/ban co/principal/boton-1/alerta",
        "empresas//principal/boton-1/alerta",
        "empresas/banco/principal//alerta",
        "empresas/banco/principal/botón-1/alerta",
        "empresas/banco/../boton-1/alerta",
        "empresas/banco/princi$pal/boton-1/alerta",
        &format!("empresas/banco/principal/{long}/alerta"),
        "empresas/banco/principal/boton 1/estado",
    ];
    for topic in bad {
        line.publish(topic, false, &message).await;
    }
    let count = f64::from(u32::try_from(bad.len()).unwrap());
    field.atalaya.decides("ignored", "TEMA", count).await;
    // Others are not even heard: they are not where devices speak.
    for topic in [
        "empresas/banco/principal/boton-1/alerta/x",
        "empresas/banco/boton-1/alerta",
        "empresas/banco/principal/boton-1/ALERTA",
        "Empresas/banco/principal/boton-1/alerta",
    ] {
        line.publish(topic, false, &message).await;
    }
    let answer = line.asks(&button, &message).await;
    assert_eq!(answer["estado"], "ACEPTADA", "it was not spent on the way");
    assert_eq!(line.answers(&button).len(), 1);
    assert_eq!(field.atalaya.messages("ignored", "TEMA").await, count);
    assert_eq!(field.atalaya.listened(), 1);
    let records = Records::of(&field.atalaya);
    assert_eq!(records.number("SELECT count(*) FROM quarantine"), 0);
}

// --- what is planted, and what is too large -----------------------------------------------------

#[actix_web::test]
async fn a_retained_alert_is_planted_whenever_it_comes() {
    for at in At::BOTH {
        let mut field = Field::start(at).await;
        let button = Device::enrol(&field.client(), "boton-1").await;
        let line = Subscriber::to(field.port(), &["empresas/#"]).await;
        let topic = button.topic("alerta");
        let alert = |seq: u64| button.sign(&button.claims(seq, "ROJO"));
        // While it listens: the broker passes it on at once, and keeps it.
        line.publish(&topic, true, alert(1)).await;
        assert_eq!(line.asks(&button, &alert(2)).await["estado"], "ACEPTADA");
        assert_eq!(
            field.atalaya.messages("ignored", "RETENIDA").await,
            1.0,
            "{at:?}"
        );
        // At each connection, with another while nobody listens where the broker goes on.
        for life in 1..=2 {
            if let Some(broker) = field.broker.as_mut().filter(|_| life == 2) {
                broker.stop();
                field.atalaya.is_deaf().await;
                broker.restart();
            } else {
                field.atalaya.kill();
                if at == At::Mosquitto {
                    // Signed once: a moment later it would be another message.
                    let planted = alert(10 + life);
                    line.publish(&topic, true, planted.clone()).await;
                    line.wait_for("it is planted", |m| m.text() == planted)
                        .await;
                }
                field.atalaya.start().await;
            }
            field.atalaya.listens().await;
            assert_eq!(
                line.asks(&button, &alert(20 + life)).await["estado"],
                "ACEPTADA"
            );
        }
        let kept = messages_of(&Records::of(&field.atalaya));
        assert_eq!(kept.len(), 3, "{at:?}");
        for planted in [1, 11, 12] {
            assert!(!kept.contains_key(&fingerprint(alert(planted).as_bytes())));
        }
        let answered = line.answers(&button);
        let numbers: Vec<u64> = answered
            .iter()
            .map(|a| a["seq"].as_u64().unwrap())
            .collect();
        assert!(
            numbers.iter().all(|seq| [2, 21, 22].contains(seq)),
            "{numbers:?}"
        );
        audit(&field.atalaya.database()).unwrap();
    }
}

#[actix_web::test]
async fn what_the_broker_refuses_for_its_size_harms_its_sender_alone() {
    // Without a limit of its own Mosquitto keeps to the one that we name when we connect.
    for limit in [None, Some(131_072)] {
        let lines = limit.map_or(String::new(), |bytes| format!("max_packet_size {bytes}\n"));
        let broker = Mosquitto::start_with(&format!("allow_anonymous true\n{lines}"));
        let atalaya = Atalaya::with_broker(&broker).start().await;
        atalaya.listens().await;
        harmless(&atalaya, broker.port, limit.is_some()).await;
    }
    let atalaya = Atalaya::with_embedded_broker().start().await;
    atalaya.listens().await;
    harmless(&atalaya, atalaya.mqtt_port, true).await;
}

async fn harmless(atalaya: &Atalaya, port: u16, refuses_200: bool) {
    let mut button = Device::enrol(&atalaya.client(), "boton-1").await;
    let line = Subscriber::to(port, &["empresas/#"]).await;
    for size in [200 * 1_024, 300 * 1_024] {
        let huge = "x".repeat(size);
        let got_through = shout(port, &button.topic("alerta"), &huge).await;
        let passes = size == 200 * 1_024 && !refuses_200;
        if passes {
            assert!(got_through);
            let print = fingerprint(huge.as_bytes());
            let answer = line
                .wait_for("it is answered", |m| {
                    m.topic.ends_with("/respuesta") && m.json()["huella"] == *print
                })
                .await;
            assert_eq!(answer.json()["motivo"], "TAMANO");
        }
        let good = button.alert("ROJO");
        assert_eq!(line.asks(&button, &good).await["estado"], "ACEPTADA");
    }
    let too_large = atalaya.messages("rejected", "TAMANO").await;
    assert_eq!(too_large, if refuses_200 { 0.0 } else { 1.0 });
    assert_eq!(atalaya.listened(), 1, "it had to connect again");
    assert_eq!(
        atalaya.metric("atalaya_mqtt_connections_total").await,
        Some(1.0)
    );
}

/// Publishes on a connection of its own, in MQTT 3.1.1, where the broker cannot say how much it
/// takes. Whether the broker has acknowledged it; it may also hang up, or say nothing.
async fn shout(port: u16, topic: &str, payload: &str) -> bool {
    use rumqttc::{AsyncClient, Event, MqttOptions, Packet};
    let device = topic.split('/').nth(3).unwrap();
    let id = if logins::is_device(port, device) {
        device
    } else {
        "ruidoso"
    };
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    if let Some((user, password)) = logins::of(port, id) {
        options.set_credentials(user, password);
    }
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut event_loop) = AsyncClient::new(options, 8);
    client
        .try_publish(topic, rumqttc::QoS::AtLeastOnce, false, payload)
        .unwrap();
    let deciding = async {
        loop {
            match event_loop.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    let decided = tokio::time::timeout(DEADLINE, deciding).await;
    decided.expect("the broker decides")
}

// --- pressure -----------------------------------------------------------------------------------

/// Commits of a second, and more messages at once than may be under way.
#[cfg(feature = "failpoints")]
#[actix_web::test]
async fn when_there_is_no_room_rest_is_told_and_the_broker_waits() {
    const AT_ONCE: usize = 700;
    let mut field = Field::start_with(At::Mosquitto, Settings::without_haste).await;
    let client = field.client();
    let mut buttons = Vec::new();
    for n in 0..14 {
        buttons.push(Device::enrol(&client, &format!("boton-{n}")).await);
    }
    let mut quiet = Device::enrol(&client, "sensor-1").await;
    assert!(field.atalaya.terminate().await.success());
    field
        .atalaya
        .set("FAILPOINTS", "writer::before_commit=sleep(1000)");
    field.atalaya.start().await;
    field.atalaya.listens().await;
    let line = Subscriber::to(field.port(), &["empresas/#"]).await;

    let messages: Vec<String> = (0..AT_ONCE)
        .map(|n| buttons[n % 14].alert("ROJO"))
        .collect();
    let whispers: Vec<String> = (0..40).map(|_| quiet.alert("AZUL")).collect();
    let crowd = join_all(messages.iter().map(|message| client.submit(message)));
    let devices = async {
        for message in &whispers {
            line.alert(&quiet, message).await;
        }
        for message in &whispers {
            assert_eq!(line.answer(&quiet, message).await["estado"], "ACEPTADA");
        }
    };
    let (answers, ()) = join(crowd, devices).await;
    let mut turned_away = Vec::new();
    for (message, answer) in messages.iter().zip(&answers) {
        match answer.status {
            201 => {}
            503 => {
                assert!(answer.header("retry-after").is_some());
                turned_away.push(message.clone());
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert!(!turned_away.is_empty(), "there was room for all");
    let records = Records::of(&field.atalaya);
    assert_eq!(
        messages_of(&records).len(),
        AT_ONCE - turned_away.len() + 40
    );
    // Each device was answered once for each message: held is not refused.
    assert_eq!(line.answers(&quiet).len(), 40);
    assert!(field.atalaya.terminate().await.success());
    field.atalaya.set("FAILPOINTS", "");
    field.atalaya.start().await;
    // Connections to the life before are of no use.
    let client = field.client();
    for message in &turned_away {
        client.accepts(message).await;
    }
    assert_eq!(messages_of(&records).len(), AT_ONCE + 40);
    audit(&field.atalaya.database()).unwrap();
}

#[actix_web::test]
async fn a_flood_costs_the_others_no_time() {
    for at in At::BOTH {
        let field = Field::start_with(at, |settings| {
            settings.set("DEVICE_RATE", 10).set("DEVICE_BURST", 10)
        })
        .await;
        let client = field.client();
        let mut mad = Device::enrol(&client, "loco-1").await;
        let flood: Vec<String> = (0..5_000).map(|_| mad.alert("ROJO")).collect();
        let mad = PatientDevice::connect(field.port(), mad).await;
        let mut others = Vec::new();
        for n in 0..5 {
            let mut device = Device::enrol(&client, &format!("boton-{n}")).await;
            let messages: Vec<String> = (0..5).map(|_| device.alert("AZUL")).collect();
            others.push((PatientDevice::connect(field.port(), device).await, messages));
        }
        let storm = async {
            for message in &flood {
                mad.send(message).await;
            }
        };
        let count = Cell::new(0);
        let calm = async {
            eventually("the flood has begun", || async {
                (field.atalaya.messages("rejected", "LIMITE").await > 100.0).then_some(())
            })
            .await;
            let mut worst = Duration::ZERO;
            for n in 0..5 {
                let started = Instant::now();
                join_all(others.iter().map(|(device, messages)| {
                    device.insist(std::slice::from_ref(&messages[n]), &count)
                }))
                .await;
                worst = worst.max(started.elapsed());
            }
            worst
        };
        let ((), worst) = join(storm, calm).await;
        assert_eq!(count.get(), 25);
        // Generous, for machines that are slow and shared; five thousand signatures and commits
        // one after the other would take longer.
        assert!(worst < Duration::from_secs(5), "{at:?}: {worst:?}");
        eventually("the flood is over", || async {
            // Of those that were let through some may be too old when their turn comes.
            (field.atalaya.decided().await >= 5_025.0).then_some(())
        })
        .await;
        assert!(field.atalaya.messages("rejected", "LIMITE").await > 4_000.0);
        // It is told that it sends too much, but not five thousand times.
        let complaints = mad.answers().into_iter();
        let complaints = complaints.filter(|a| a["motivo"] == "LIMITE").count();
        assert!((1..500).contains(&complaints), "{complaints}");
        audit(&field.atalaya.database()).unwrap();
    }
}

// --- absences -----------------------------------------------------------------------------------

#[actix_web::test]
async fn what_waits_for_us_outlives_the_brokers_own_restart() {
    let mut field = Field::start(At::Mosquitto).await;
    let mut button = Device::enrol(&field.client(), "boton-1").await;
    let waiting: Vec<String> = (0..30).map(|_| button.alert("ROJO")).collect();
    let line = Subscriber::to(field.port(), &["empresas/#"]).await;
    for (n, kind) in ["kill", "stop"].into_iter().enumerate() {
        if kind == "kill" {
            field.atalaya.kill();
        } else {
            assert!(field.atalaya.terminate().await.success());
        }
        let some = &waiting[15 * n..15 * (n + 1)];
        for message in some {
            line.alert(&button, message).await;
        }
        let last = some.last().unwrap();
        line.wait_for("the broker has them", |m| m.text() == *last)
            .await;
        let broker = field.broker.as_mut().unwrap();
        broker.stop();
        broker.restart();
        field.atalaya.start().await;
        // Nobody sends them again but the broker.
        for message in some {
            assert_eq!(line.answer(&button, message).await["estado"], "ACEPTADA");
        }
    }
    assert_eq!(line.says(&mut button, "AZUL").await["estado"], "ACEPTADA");
    assert_eq!(line.answers(&button).len(), 31, "each was answered once");
    let news = line.news_reach("banco", 31).await;
    assert_eq!(news[29]["repeticiones"], 30);
    assert_eq!(messages_of(&Records::of(&field.atalaya)).len(), 31);
    audit(&field.atalaya.database()).unwrap();
}

/// Takes some ten seconds: six lives under load. Our own broker dies with us.
#[actix_web::test]
async fn each_alert_is_taken_once_though_our_own_broker_dies_with_us() {
    const DEVICES: usize = 4;
    const EACH: usize = 60;
    let mut field = Field::unhurried(At::Embedded).await;
    let client = field.client();
    let mut fleet = Vec::new();
    for n in 0..DEVICES {
        let mut device = Device::enrol(&client, &format!("boton-{n}")).await;
        let kinds = ["ROJO", "AZUL", "VERDE"].into_iter().cycle().take(EACH);
        let messages: Vec<String> = kinds.map(|kind| device.alert(kind)).collect();
        fleet.push((PatientDevice::connect(field.port(), device).await, messages));
    }
    let count = Cell::new(0);
    let one_by_one = join_all(fleet.iter().map(|(device, messages)| {
        let count = &count;
        async move {
            for message in messages {
                device.insist(std::slice::from_ref(message), count).await;
            }
        }
    }));
    let kills = async {
        for life in 1..=5 {
            eventually("alerts are answered", || async {
                (count.get() >= life * DEVICES * EACH / 8).then_some(())
            })
            .await;
            // Any moment will do, so any is taken.
            let moment = uuid::Uuid::new_v4().as_u64_pair().0 % 100;
            tokio::time::sleep(Duration::from_millis(moment)).await;
            if life % 2 == 0 {
                assert!(field.atalaya.terminate().await.success());
            } else {
                field.atalaya.kill();
            }
            let records = Records::of(&field.atalaya);
            for (device, _) in &fleet {
                device.answers_are_in(&records);
            }
            field.atalaya.start().await;
        }
    };
    join(one_by_one, kills).await;
    let records = Records::of(&field.atalaya);
    let kept = messages_of(&records);
    for (device, messages) in &fleet {
        device.answers_are_in(&records);
        for message in messages {
            assert!(kept.contains_key(&fingerprint(message.as_bytes())));
        }
    }
    assert_eq!(kept.len(), DEVICES * EACH);
    assert_eq!(
        records.number("SELECT sum(count) FROM alerts"),
        i64::try_from(DEVICES * EACH).unwrap()
    );
    // One device and one kind have one open alert, however often it was pressed.
    let alerts = i64::try_from(DEVICES * 3).unwrap();
    assert_eq!(records.number("SELECT count(*) FROM alerts"), alerts);
    audit(&field.atalaya.database()).unwrap();
}

// --- who may speak ------------------------------------------------------------------------------

#[actix_web::test]
async fn whatever_is_switched_off_is_not_heard_from_then_on() {
    for (what, path, off) in [
        ("device", "/api/v1/hardware/boton-1", "activo"),
        ("site", "/api/v1/sedes/banco/principal", "activa"),
        ("company", "/api/v1/empresas/banco", "activa"),
    ] {
        let field = Field::unhurried(At::Mosquitto).await;
        let client = field.client();
        let mut button = Device::enrol(&client, "boton-1").await;
        let messages: Vec<String> = (0..200).map(|_| button.alert("ROJO")).collect();
        let line = Subscriber::to(field.port(), &[&button.topic("respuesta")]).await;
        let is_over = Cell::new(false);
        let flow = async {
            let mut sent_after = 0;
            for message in &messages {
                line.alert(&button, message).await;
                // At the pace of a busy device, so that the change comes in between.
                tokio::time::sleep(Duration::from_millis(2)).await;
                sent_after += usize::from(is_over.get());
            }
            sent_after
        };
        let switch = async {
            eventually("some are answered", || async {
                (line.answers(&button).len() > 10).then_some(())
            })
            .await;
            client
                .changes(Method::PATCH, path, &json!({off: false}), 200)
                .await;
            is_over.set(true);
        };
        let (sent_after, ()) = join(flow, switch).await;
        assert!(sent_after > 0, "{what}: it came too late to show anything");
        // What is switched off is answered only so often a second, so decisions are what is counted.
        eventually("all are decided", || async {
            (field.atalaya.decided().await >= 200.0).then_some(())
        })
        .await;
        let records = Records::of(&field.atalaya);
        let kept = messages_of(&records);
        let accepted = |answer: &Value| answer["estado"] == "ACEPTADA";
        eventually("what was taken is answered", || async {
            let answers = line.answers(&button);
            (answers.iter().filter(|a| accepted(a)).count() >= kept.len()).then_some(())
        })
        .await;
        let answers = line.answers(&button);
        for answer in &answers {
            let print = answer["huella"].as_str().unwrap();
            if accepted(answer) {
                assert!(kept.contains_key(print), "{what}: {answer}");
            } else {
                assert_eq!(answer["motivo"], "IDENTIDAD", "{what}: {answer}");
            }
        }
        assert_eq!(answers.iter().filter(|a| accepted(a)).count(), kept.len());
        let refused = field.atalaya.messages("rejected", "IDENTIDAD").await;
        let taken = field.atalaya.messages("accepted", "").await;
        assert!(
            refused > 0.0 && taken + refused == 200.0,
            "{what}: {refused}"
        );
        assert_eq!(
            messages_of(&records),
            kept,
            "{what}: taken after it was over"
        );
        // The journal has it in this order too: alerts (4), the change (5), and no alert behind.
        let last =
            |fact: u8| records.number(&format!("SELECT max(seq) FROM journal WHERE fact = {fact}"));
        assert!(last(4) < last(5), "{what}");
        // And it is heard again when it is switched on, with the very message that was refused.
        client
            .changes(Method::PATCH, path, &json!({off: true}), 200)
            .await;
        let refused = messages.last().unwrap();
        line.alert(&button, refused).await;
        line.wait_for("it is heard again", |m| {
            let print = fingerprint(refused.as_bytes());
            m.json()["huella"] == print.as_str() && m.json()["estado"] == "ACEPTADA"
        })
        .await;
        audit(&field.atalaya.database()).unwrap();
    }
}

#[actix_web::test]
async fn at_our_own_broker_only_we_answer_devices() {
    let field = Field::start(At::Embedded).await;
    let client = field.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let line = Subscriber::to(field.port(), &["empresas/#"]).await;
    // Another device, under its own name.
    let mut rogue = Guest::connect(Guest::options(field.port(), "luz-1"))
        .await
        .unwrap();
    let forged = r#"{"estado":"ACEPTADA","tipo_alarma":"NORMAL","alerta_id":null}"#;
    for topic in [
        "empresas/banco/principal/boton-1/respuesta",
        "empresas/banco/principal/luz-1/respuesta",
        "empresas/banco/principal/luz-1/comando",
        "empresas/banco/principal/boton-1/comando",
        "empresas/banco/alertas",
        "empresas/acme/alertas",
        "empresas/x/y/z/w/comando",
    ] {
        for (qos, retain) in [(QoS::AtLeastOnce, false), (QoS::ExactlyOnce, true)] {
            let reason = rogue.publish(topic, qos, retain, forged).await;
            assert_eq!(reason, REFUSED, "{topic}");
        }
    }
    // Neither as whoever listens for us.
    let own_id = "atalaya-atalaya-1-intake";
    for login in [None, Some(("atalaya", "guess")), Some(("guest", ""))] {
        for clean in [true, false] {
            let mut options = Guest::options(field.port(), own_id);
            options.set_clean_start(clean);
            if let Some((user, password)) = login {
                options.set_credentials(user, password);
            }
            let refused = Guest::connect(options).await.err();
            assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized), "{login:?}");
        }
    }
    let answer = line.says(&mut button, "ROJO").await;
    assert_eq!(answer["estado"], "ACEPTADA");
    line.news_reach("banco", 1).await;
    assert!(line.all().iter().all(|m| m.text() != forged));
    assert_eq!(field.atalaya.listened(), 1, "it was pushed out");
}

#[actix_web::test]
async fn what_a_device_says_of_itself_decides_nothing() {
    let field = Field::start(At::Mosquitto).await;
    let client = field.client();
    let path = "/api/v1/tipos_hardware/SENSOR";
    let mut sensor = Device::enrol_at(&client, "banco", "principal", "sensor-1", "SENSOR").await;
    client
        .changes(Method::PUT, path, &json!({"silencio_segundos": 2}), 200)
        .await;
    let line = Subscriber::to(field.port(), &["empresas/#"]).await;
    line.says(&mut sensor, "LATIDO").await;
    let says = async |status: &str| {
        let body = format!(r#"{{"estado":"{status}"}}"#);
        line.publish(&sensor.topic("estado"), true, body).await;
        eventually("it is shown", || async {
            let shown = client.json("/api/v1/hardware/sensor-1").await;
            (shown["estado"] == status).then_some(())
        })
        .await;
    };
    // It says all the time that it is there, and is missed all the same.
    let silence = eventually("its silence is noticed", || async {
        says("en_linea").await;
        line.news("banco").into_iter().next()
    })
    .await;
    assert_eq!(silence["tipo_alarma"], "DISPOSITIVO_SILENCIOSO");
    let id = silence["alerta_id"].as_str().unwrap();
    says("fuera_de_linea").await;
    says("en_linea").await;
    let alert = client.alert(id).await;
    assert_eq!(
        (&alert["estado"], changes(&alert)),
        (&json!("NUEVA"), vec!["CREADA"])
    );
    let shown = client.json("/api/v1/hardware/sensor-1").await;
    assert_eq!(
        (&shown["silencioso"], &shown["estado"]),
        (&json!(true), &json!("en_linea"))
    );
    // To say goodbye is no alert either, and a sign of life that is signed ends the silence.
    says("fuera_de_linea").await;
    line.says(&mut sensor, "LATIDO").await;
    let alert = client.alert(id).await;
    assert_eq!(changes(&alert), ["CREADA", "RESUELTA"]);
    assert_eq!(line.news_reach("banco", 2).await[1]["cambio"], "RESUELTA");
    assert_eq!(client.count_alerts().await, 1);
    let heard = client.json("/api/v1/hardware/sensor-1").await;
    assert_eq!(heard["estado"], "fuera_de_linea", "shown as it was said");
}

// --- orders -------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_light_shows_what_is_open_until_all_is_normal() {
    for at in At::BOTH {
        let field = Field::start(at).await;
        let client = field.client();
        create_place(&client, "banco", "norte").await;
        create_place(&client, "acme", "principal").await;
        for (company, site, name, kind) in [
            ("banco", "principal", "luz-1", "SEMAFORO"),
            ("banco", "principal", "luz-2", "SEMAFORO"),
            ("banco", "principal", "sirena-1", "SIRENA"),
            ("banco", "norte", "luz-3", "SEMAFORO"),
            ("acme", "principal", "luz-4", "SEMAFORO"),
        ] {
            register(&client, company, site, name, kind).await;
        }
        let off = json!({"activo": false});
        client
            .changes(Method::PATCH, "/api/v1/hardware/luz-2", &off, 200)
            .await;
        let mut button = Device::enrol(&client, "boton-1").await;
        let mut second = Device::enrol(&client, "boton-2").await;
        let line = Subscriber::to(field.port(), &["empresas/#"]).await;
        let raise = async |device: &Device, message: String| {
            let answer = line.asks(device, &message).await;
            assert_eq!(answer["estado"], "ACEPTADA");
            answer["alerta_id"].as_str().unwrap().to_owned()
        };
        let over = async |alert: &str| {
            let step = client.step(alert, "resolver", &json!({})).await;
            assert_eq!(step.status, 200, "{}", step.text());
        };
        let told = async |device: &str, count: usize| {
            eventually(&format!("order {count} to {device}"), || async {
                line.orders(device).get(count - 1).cloned()
            })
            .await
        };
        // What comes late is seen and drives nothing.
        button.seq += 1;
        let mut late = button.claims(button.seq, "ROJO");
        late["iat"] = json!(now() - 3_600);
        let late = raise(&button, button.sign(&late)).await;
        let news = line.news_reach("banco", 1).await;
        assert_eq!(news[0]["tardia"], true);
        over(&late).await;
        line.news_reach("banco", 2).await;

        let message = second.alert("AZUL");
        let blue = raise(&second, message).await;
        let light = told("luz-1", 1).await;
        assert_eq!(
            (&light["alerta_id"], &light["color"]),
            (&json!(blue), &json!("AZUL"))
        );
        assert_eq!(
            (&light["prioridad"], &light["accion"]),
            (&json!("alta"), &json!("ENCENDER"))
        );
        assert!(light["regla"]["id"].is_i64() && light["timestamp"].is_string());
        let message = button.alert("ROJO");
        let red = raise(&button, message).await;
        assert_eq!(told("luz-1", 2).await["color"], "ROJO");
        assert_eq!(told("sirena-1", 1).await["accion"], "SONAR");

        // The more urgent one ends: the light is told of the other again, the siren has nothing
        // left.
        over(&red).await;
        let light = told("luz-1", 3).await;
        assert_eq!(
            (&light["alerta_id"], &light["color"]),
            (&json!(blue), &json!("AZUL"))
        );
        let siren = told("sirena-1", 2).await;
        assert_eq!(
            (&siren["tipo_alarma"], &siren["alerta_id"]),
            (&json!("NORMAL"), &json!(red))
        );
        // One that is less urgent has to wait for the light.
        let message = button.alert("VERDE");
        let green = raise(&button, message).await;
        line.news_reach("banco", 6).await;
        over(&blue).await;
        let light = told("luz-1", 4).await;
        assert_eq!(
            (&light["alerta_id"], &light["color"]),
            (&json!(green), &json!("VERDE"))
        );
        over(&green).await;
        let light = told("luz-1", 5).await;
        assert_eq!(
            (&light["tipo_alarma"], &light["alerta_id"]),
            (&json!("NORMAL"), &json!(green))
        );
        line.news_reach("banco", 8).await;

        // Nobody else was told anything: not what is switched off, at another site or elsewhere.
        for (device, orders) in [
            ("luz-1", 5),
            ("sirena-1", 2),
            ("luz-2", 0),
            ("luz-3", 0),
            ("luz-4", 0),
            ("boton-1", 0),
        ] {
            assert_eq!(line.orders(device).len(), orders, "{at:?} {device}");
        }
        assert!(line.news("acme").is_empty());
        audit(&field.atalaya.database()).unwrap();
    }
}

// --- what those who run it see ------------------------------------------------------------------

#[actix_web::test]
async fn devices_are_counted_by_what_became_of_their_messages() {
    let field = Field::start_with(At::Mosquitto, |settings| {
        settings.set("DEVICE_RATE", 1).set("DEVICE_BURST", 8)
    })
    .await;
    let client = field.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let line = Subscriber::to(field.port(), &["empresas/#"]).await;
    let first = button.alert("ROJO");
    let id = line.asks(&button, &first).await["alerta_id"]
        .as_str()
        .unwrap()
        .to_owned();
    line.says(&mut button, "LATIDO").await;
    line.alert(&button, &first).await;
    line.answers_to(&button, &first, 2).await;
    line.asks(&button, "junk").await;
    let unknown = button.sign(&button.claims(3, "NADA"));
    line.asks(&button, &unknown).await;
    line.publish(&button.topic("alerta"), true, &button.alert("ROJO"))
        .await;
    client.step(&id, "reconocer", &json!({})).await;
    client.step(&id, "resolver", &json!({})).await;
    line.news_reach("banco", 3).await;
    let atalaya = &field.atalaya;
    atalaya.decides("accepted", "", 2.0).await;
    atalaya.decides("duplicate", "", 1.0).await;
    atalaya.decides("rejected", "FORMA", 1.0).await;
    atalaya.decides("rejected", "TIPO", 1.0).await;
    atalaya.decides("ignored", "RETENIDA", 1.0).await;
    for n in 0..30 {
        line.alert(&button, &button.sign(&button.claims(10 + n, "ROJO")))
            .await;
    }
    eventually("some are throttled", || async {
        (atalaya.messages("rejected", "LIMITE").await >= 20.0).then_some(())
    })
    .await;
    let text = client.get("/metrics").await.unwrap().text();
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing"))
            .parse()
            .unwrap()
    };
    for (change, state) in [
        ("CREADA", "NUEVA"),
        ("RECONOCIDA", "RECONOCIDA"),
        ("RESUELTA", "RESUELTA"),
    ] {
        let name = format!(
            "atalaya_alert_changes_total{{change=\"{change}\",kind=\"ROJO\",priority=\"critica\",state=\"{state}\"}}"
        );
        assert!(value(&name) >= 1.0, "{change}");
    }
    for histogram in ["commit", "reply", "acknowledgement"] {
        assert!(value(&format!("atalaya_alert_{histogram}_duration_seconds_count")) >= 1.0);
    }
    assert_eq!(value("atalaya_mqtt_intake_connected"), 1.0);
    for none in [
        "atalaya_rules_failed_total",
        "atalaya_quarantine_dropped_total",
        "atalaya_device_answers_dropped_total",
    ] {
        assert_eq!(value(none), 0.0, "{none}");
    }
    // No label says who it was.
    for line in text.lines().filter(|line| line.starts_with("atalaya_")) {
        assert!(
            !line.contains("boton-1") && !line.contains(&button.kid),
            "{line}"
        );
    }
    passes_promtool(&text);
}

#[actix_web::test]
async fn the_log_of_alerts_has_a_line_a_step_and_no_line_of_anybody_elses() {
    for format in ["text", "json"] {
        let field =
            Field::start_with(At::Mosquitto, |settings| settings.set("LOG_FORMAT", format)).await;
        let client = field.client();
        let button = Device::enrol(&client, "boton-1").await;
        let line = Subscriber::to(field.port(), &["empresas/#"]).await;
        let nasty = "fin\n2026-01-01T00:00:00Z WARN RESUELTA forged\r\t\u{1b}[31m\u{2028}\"}{";
        let mut claims = button.claims(1, "ROJO");
        claims["datos"] = json!({"x": nasty, nasty: 1});
        claims["ubicacion"] = json!({nasty: nasty});
        claims["descripcion"] = json!("fin\n2026-01-01T00:00:00Z WARN RESUELTA forged");
        let id = line.asks(&button, &button.sign(&claims)).await["alerta_id"]
            .as_str()
            .unwrap()
            .to_owned();
        line.asks(&button, &button.sign(&button.claims(2, "ROJO")))
            .await;
        client.step(&id, "reconocer", &json!({})).await;
        client
            .step(
                &id,
                "resolver",
                &json!({"motivo": "fin\n2026-01-01 forged"}),
            )
            .await;
        // Refused, with the same in every place that a refusal could be logged with.
        let header = json!({"typ": nasty, "alg": nasty, "kid": nasty}).to_string();
        let mut claims = button.claims(3, "ROJO");
        claims["tipo_alarma"] = json!(nasty);
        let bad = [
            nasty.to_owned(),
            button.sign_with(&header, &claims.to_string()),
            button.sign(&claims),
            format!("{}.{}.", encode(nasty.as_bytes()), encode(nasty.as_bytes())),
        ];
        for message in &bad {
            line.asks(&button, message).await;
        }
        line.news_reach("banco", 4).await;
        let log = || {
            std::fs::read_to_string(field.atalaya.folder().join("logs/alerts.log"))
                .unwrap_or_default()
        };
        let lines = eventually("a line a step", || async {
            let log = log();
            let lines: Vec<String> = log.lines().map(str::to_owned).collect();
            (lines.len() >= 4 + bad.len()).then_some(lines)
        })
        .await;
        assert_eq!(lines.len(), 4 + bad.len(), "{lines:#?}");
        for (step, count) in [
            ("CREADA", "x1"),
            ("REPETIDA", "x2"),
            ("RECONOCIDA", "x2"),
            ("RESUELTA", "x2"),
        ] {
            let of_step = lines.iter().filter(|line| {
                line.contains(&format!("{step} ROJO critica banco/principal/boton-1"))
                    && line.contains(count)
                    && line.contains(&id)
            });
            assert_eq!(of_step.count(), 1, "{step}: {lines:#?}");
        }
        let refused = lines
            .iter()
            .filter(|line| line.contains("RECHAZADA banco/principal/boton-1: "));
        assert_eq!(refused.count(), bad.len());
        for line in &lines {
            assert!(
                !line.contains("forged") && !line.contains('\u{1b}'),
                "{line}"
            );
            if format == "json" {
                let record: Value = serde_json::from_str(line).unwrap();
                assert!(record["message"].is_string(), "{line}");
            }
        }
        assert!(!field.atalaya.log().contains("forged"));
    }
}
