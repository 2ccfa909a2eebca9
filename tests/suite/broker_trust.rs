//! Devices that cannot sign: believed where their company lets the broker vouch for them.

use crate::support::device::{Device, fingerprint, now, register};
use crate::support::field::At;
use crate::support::guest::Guest;
use crate::support::hub::{assert_refused, assert_rejected, texts};
use crate::support::logins::{self, new_password};
use crate::support::{Atalaya, Client, DEADLINE, Mosquitto, audit, eventually};
use awc::http::Method;
use rumqttc::v5::mqttbytes::QoS;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const REFUSED: u8 = 0x87;

/// Each client its own topics, and Atalaya all of them: what a broker must enforce to vouch.
const RIGHTS: &str = "user atalaya\ntopic readwrite #\n\
                      pattern write empresas/+/+/%u/alerta\n\
                      pattern write empresas/+/+/%u/estado\n\
                      pattern read empresas/+/+/%u/respuesta\n\
                      pattern read empresas/+/+/%u/comando\n";

/// Atalaya and a broker that lets nobody in without a password: its own, or a Mosquitto.
struct Guarded {
    atalaya: Atalaya,
    broker: Option<(Mosquitto, String)>,
}

impl Guarded {
    async fn start(at: At, settings: &[(&str, u32)]) -> Self {
        let broker = (at == At::Mosquitto).then(guarded_mosquitto);
        let mut prepared = match &broker {
            None => Atalaya::with_embedded_broker(),
            Some((broker, _)) => Atalaya::with_broker(broker)
                .set("MQTT_USERNAME", "atalaya")
                .set("MQTT_PASSWORD", "secreta"),
        };
        for (name, value) in settings {
            prepared = prepared.set(name, value);
        }
        let atalaya = prepared.start().await;
        atalaya.listens().await;
        Self { atalaya, broker }
    }

    fn client(&self) -> Client {
        self.atalaya.client()
    }

    fn port(&self) -> u16 {
        let own = self.atalaya.mqtt_port;
        self.broker.as_ref().map_or(own, |(broker, _)| broker.port)
    }

    /// Lets a registered device in, with the password that Atalaya has made for it.
    async fn let_in(&self, device: &str) {
        let password = new_password(&self.client(), device).await;
        if let Some((broker, file)) = &self.broker {
            write_password(file, device, &password, false);
            broker.reload();
            logins::set_device(broker.port, device, &password);
        }
    }

    /// The connection of a device, which hears its answers.
    async fn line(&self, device: &Device) -> Guest {
        let came = || async {
            let options = Guest::options(self.port(), &device.name);
            Guest::connect(options).await.ok()
        };
        // Mosquitto reads its files a moment after it is asked to.
        let mut line = eventually("the broker lets a device in", came).await;
        assert_eq!(line.asks_for(&device.topic("respuesta")).await, 1);
        line
    }
}

fn guarded_mosquitto() -> (Mosquitto, String) {
    let mut broker = Mosquitto::start();
    broker.stop();
    let passwords = broker.write_file("passwords", "");
    write_password(&passwords, "atalaya", "secreta", true);
    let rights = broker.write_file("rights", RIGHTS);
    broker.configure(&format!(
        // Without a limit 2.0.11 hangs up on whoever it refuses something.
        "allow_anonymous false\npassword_file {passwords}\nacl_file {rights}\n\
         max_queued_messages 1000\n"
    ));
    broker.restart();
    (broker, passwords)
}

fn write_password(file: &str, user: &str, password: &str, fresh: bool) {
    let mut command = std::process::Command::new("mosquitto_passwd");
    command.arg("-b");
    if fresh {
        command.arg("-c");
    }
    let made = command.args([file, user, password]).status();
    assert!(
        made.expect("mosquitto_passwd (tests/run installs it)")
            .success()
    );
}

/// A `SENSOR` of `banco` for which the broker vouches.
async fn sensor(field: &Guarded, name: &str) -> Device {
    let client = field.client();
    allow(&client, true).await;
    let device = Device::enrol(&client, name).await;
    trust(&client, name, "broker").await;
    field.let_in(name).await;
    device
}

/// Whether the company lets its broker vouch for devices.
async fn allow(client: &Client, allowed: bool) {
    let body = json!({ "confianza_broker": allowed });
    let company = client
        .changes(Method::PATCH, "/api/v1/empresas/banco", &body, 200)
        .await;
    assert_eq!(company["confianza_broker"], allowed);
}

/// What is to prove a device's messages.
async fn trust(client: &Client, device: &str, trust: &str) {
    let path = format!("/api/v1/hardware/{device}");
    let body = json!({ "confianza": trust });
    let changed = client.changes(Method::PATCH, &path, &body, 200).await;
    assert_eq!(changed["confianza"], trust);
}

/// Publishes a message on a device's topic and waits for its answer.
async fn ask(line: &mut Guest, device: &Device, message: &str) -> Value {
    let topic = device.topic("alerta");
    let code = line.publish(&topic, QoS::AtLeastOnce, false, message).await;
    assert_eq!(code, 0);
    let print = fingerprint(message.as_bytes());
    loop {
        let answer = line.message().await.json();
        if answer["huella"] == print.as_str() {
            return answer;
        }
    }
}

/// A message that says no more than it must.
fn plain(seq: u64, kind: &str) -> String {
    json!({"seq": seq, "tipo_alarma": kind}).to_string()
}

#[track_caller]
fn assert_told(answer: &Value, state: &str, reason: &Value) {
    assert_eq!(
        (&answer["estado"], &answer["motivo"]),
        (&json!(state), reason),
        "{answer}"
    );
}

#[actix_web::test]
async fn who_cannot_sign_is_believed_where_the_broker_vouches() {
    for at in At::BOTH {
        let mut field = Guarded::start(at, &[]).await;
        let client = field.client();
        let mut device = sensor(&field, "sensor-1").await;
        Device::enrol(&client, "boton-1").await;
        field.let_in("boton-1").await;
        let mut line = field.line(&device).await;

        let told = json!({"seq": 7, "iat": now(), "tipo_alarma": "ROJO", "descripcion": "Humo",
            "ubicacion": {"piso": 2}, "datos": {"ppm": 40}});
        let message = told.to_string();
        let first = ask(&mut line, &device, &message).await;
        assert_told(&first, "ACEPTADA", &Value::Null);
        assert_eq!(first["seq"], 7);
        let id = first["alerta_id"].as_str().unwrap().to_owned();
        let alert = client.alert(&id).await;
        for field in ["descripcion", "ubicacion", "datos", "tipo_alarma"] {
            assert_eq!(alert[field], told[field], "{field}");
        }
        assert_eq!(alert["tardia"], false);
        let made = &alert["historia"][0];
        assert_eq!(
            (&made["por"], &made["canal"], &made["confianza"]),
            (&json!("hardware"), &json!("mqtt"), &json!("broker"))
        );
        let heard = client.json("/api/v1/hardware/sensor-1").await["ultima_senal"].clone();
        assert!(heard.is_string());

        // The window is the one of signed messages.
        let again = ask(&mut line, &device, &message).await;
        assert_told(&again, "DUPLICADA", &Value::Null);
        assert_eq!(again["alerta_id"], id.as_str());
        for (seq, kind) in [(7, "AZUL"), (7, "LATIDO"), (1_000_008, "ROJO")] {
            let answer = ask(&mut line, &device, &plain(seq, kind)).await;
            assert_told(&answer, "RECHAZADA", &json!("SECUENCIA"));
        }
        let beat = ask(&mut line, &device, &plain(6, "LATIDO")).await;
        assert_told(&beat, "ACEPTADA", &Value::Null);
        assert!(beat["alerta_id"].is_null());

        // So are the checks of what is said, where it is said.
        let say = |seq: u64, more: Value| {
            let mut message = json!({"seq": seq, "tipo_alarma": "AZUL"});
            for (name, value) in more.as_object().unwrap() {
                message[name] = value.clone();
            }
            message.to_string()
        };
        for (more, reason) in [
            (json!({"sub": "banco/principal/boton-1"}), "IDENTIDAD"),
            (json!({"aud": "otra"}), "AUDIENCIA"),
            (json!({"iat": now() + 400}), "FECHA"),
            (json!({"tipo_alarma": "LILA"}), "TIPO"),
            (json!({"tipo_alarma": "LI LA"}), "FORMA"),
            (json!({"datos": [1]}), "FORMA"),
            (json!({"seq": "8"}), "FORMA"),
        ] {
            let answer = ask(&mut line, &device, &say(8, more)).await;
            assert_told(&answer, "RECHAZADA", &json!(reason));
        }
        let late = ask(&mut line, &device, &say(8, json!({"iat": now() - 400}))).await;
        assert_told(&late, "ACEPTADA", &Value::Null);
        let late = client.alert(late["alerta_id"].as_str().unwrap()).await;
        assert_eq!(late["tardia"], true);
        let own = json!({"aud": "atalaya", "sub": device.address(), "iat": now()});
        let whole = ask(&mut line, &device, &say(9, own)).await;
        assert_told(&whole, "ACEPTADA", &Value::Null);

        // What it signs is taken too, under the numbers of its key.
        device.seq = 6;
        let signed = ask(&mut line, &device, &device.clone().alert("VERDE")).await;
        assert_told(&signed, "ACEPTADA", &Value::Null);
        let signed = client.alert(signed["alerta_id"].as_str().unwrap()).await;
        assert_eq!(signed["historia"][0]["confianza"], "firma");

        // Nobody else speaks for it: the broker sees to that.
        let mut other = Guest::connect(Guest::options(field.port(), "boton-1"))
            .await
            .unwrap();
        let topic = device.topic("alerta");
        let forged = plain(10, "NARANJA");
        let code = other
            .publish(&topic, QoS::AtLeastOnce, false, &forged)
            .await;
        assert_eq!(code, REFUSED);

        // Its numbers outlive a crash.
        drop(line);
        field.atalaya.kill();
        field.atalaya.start().await;
        field.atalaya.listens().await;
        let mut line = field.line(&device).await;
        let again = ask(&mut line, &device, &message).await;
        assert_told(&again, "DUPLICADA", &Value::Null);
        assert_eq!(again["alerta_id"], id.as_str());
        let answer = ask(&mut line, &device, &plain(7, "VERDE")).await;
        assert_told(&answer, "RECHAZADA", &json!("SECUENCIA"));
        let after = client.json("/api/v1/hardware/sensor-1").await["ultima_senal"].clone();
        assert!(after.is_string(), "{after}");
        assert_eq!(client.count_alerts().await, 4);
        audit(&field.atalaya.database()).unwrap();
    }
}

#[actix_web::test]
async fn it_is_off_until_company_and_device_say_otherwise_and_ends_at_once() {
    let field = Guarded::start(At::Embedded, &[]).await;
    let client = field.client();
    let path = "/api/v1/hardware/sensor-1";
    let device = Device::enrol(&client, "sensor-1").await;
    assert_eq!(client.json(path).await["confianza"], "firma");
    assert_eq!(
        client.json("/api/v1/empresas/banco").await["confianza_broker"],
        false
    );
    let on = json!({"confianza": "broker"});
    let refused = client.send(Method::PATCH, path, &on).await;
    assert_refused(&refused, 409, "confianza_no_permitida", "not allowed");
    let new = json!({"hardware": "sensor-2", "empresa": "banco", "sede": "principal",
        "tipo": "SENSOR", "confianza": "broker"});
    let refused = client.post("/api/v1/hardware", None, &new).await.unwrap();
    assert_refused(&refused, 409, "confianza_no_permitida", "not allowed");
    let refused = client
        .send(Method::PATCH, path, &json!({"confianza": "nadie"}))
        .await;
    assert_refused(&refused, 422, "valor_invalido", "no such trust");
    assert_eq!(client.json(path).await["confianza"], "firma");

    let mut line = field.line(&device).await;
    let answer = ask(&mut line, &device, &plain(1, "ROJO")).await;
    assert_told(&answer, "RECHAZADA", &json!("FORMA"));
    allow(&client, true).await;
    let answer = ask(&mut line, &device, &plain(2, "ROJO")).await;
    assert_told(&answer, "RECHAZADA", &json!("FORMA"));
    trust(&client, "sensor-1", "broker").await;
    let taken = plain(3, "ROJO");
    assert_told(
        &ask(&mut line, &device, &taken).await,
        "ACEPTADA",
        &Value::Null,
    );
    let made = client.post("/api/v1/hardware", None, &new).await.unwrap();
    assert_eq!(
        (made.status, &made.json()["confianza"]),
        (201, &json!("broker"))
    );

    // Either of the two ends it with the next message, and what was used stays used.
    for company in [false, true] {
        let turn = async |on: bool| {
            if company {
                allow(&client, on).await;
            } else {
                trust(&client, "sensor-1", if on { "broker" } else { "firma" }).await;
            }
        };
        turn(false).await;
        let answer = ask(&mut line, &device, &plain(4, "ROJO")).await;
        assert_told(&answer, "RECHAZADA", &json!("FORMA"));
        turn(true).await;
        assert_told(
            &ask(&mut line, &device, &taken).await,
            "DUPLICADA",
            &Value::Null,
        );
    }
    let off = json!({"activo": false});
    client.changes(Method::PATCH, path, &off, 200).await;
    line.is_shown_out().await;
    assert_eq!(client.count_alerts().await, 1);
}

#[actix_web::test]
async fn what_is_not_signed_comes_over_the_broker_alone() {
    let field = Guarded::start(At::Embedded, &[]).await;
    let client = field.client();
    let device = sensor(&field, "sensor-1").await;
    let mut line = field.line(&device).await;
    let claims = json!({"seq": 1, "tipo_alarma": "ROJO", "sub": device.address()});
    let message = claims.to_string();
    // As JSON it is an order of an operator that says too much, as a text no signed message.
    let answer = client.post("/api/v1/alertas", None, &claims).await.unwrap();
    assert_refused(&answer, 400, "cuerpo_invalido", "claims over REST");
    let answer = client
        .post("/api/v1/alertas", None, &json!(message))
        .await
        .unwrap();
    assert_rejected(&answer, "FORMA", "a text over REST");
    let answer = client.jose("/api/v1/alertas", &message).await;
    assert_refused(
        &answer,
        400,
        "cuerpo_invalido",
        "claims as application/jose",
    );

    // What was kept in quarantine while it was not believed is not believed from there either.
    trust(&client, "sensor-1", "firma").await;
    let message = plain(2, "ROJO");
    let answer = ask(&mut line, &device, &message).await;
    assert_told(&answer, "RECHAZADA", &json!("FORMA"));
    trust(&client, "sensor-1", "broker").await;
    let kept = eventually("it is in quarantine", || async {
        let kept = client
            .walk("/api/v1/cuarentena", "&hardware=sensor-1", 50)
            .await;
        kept.into_iter().find(|kept| kept["canal"] == "mqtt")
    })
    .await;
    let path = format!("/api/v1/cuarentena/{}/reenviar", kept["id"]);
    let answer = client.bare(Method::POST, &path).await;
    assert_rejected(&answer, "FORMA", "from quarantine");
    assert_eq!(client.count_alerts().await, 0);
    // From its device it is.
    assert_told(
        &ask(&mut line, &device, &plain(3, "ROJO")).await,
        "ACEPTADA",
        &Value::Null,
    );
}

#[actix_web::test]
async fn a_flood_is_throttled_before_it_is_read() {
    let settings = [("DEVICE_RATE", 1), ("DEVICE_BURST", 5)];
    let field = Guarded::start(At::Embedded, &settings).await;
    let client = field.client();
    let device = sensor(&field, "sensor-1").await;
    register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let mut line = field.line(&device).await;
    let topic = device.topic("alerta");
    for n in 0..40 {
        let no_json = format!("{{{n}");
        let code = line
            .publish(&topic, QoS::AtLeastOnce, false, &no_json)
            .await;
        assert_eq!(code, 0);
    }
    eventually("all are decided", || async {
        (field.atalaya.decided().await >= 40.0).then_some(())
    })
    .await;
    let read = field.atalaya.messages("rejected", "FORMA").await;
    assert!((1.0..=10.0).contains(&read), "{read} were read");
    let spared = field.atalaya.messages("rejected", "LIMITE").await;
    assert_eq!(read + spared, 40.0);
    // A message that was throttled has used no number.
    let message = plain(1, "ROJO");
    let print = fingerprint(message.as_bytes());
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < DEADLINE, "it is taken in the end");
        line.publish(&topic, QoS::AtLeastOnce, false, &message)
            .await;
        let told = line.message_within(Duration::from_secs(1)).await;
        let answer = told.map_or(Value::Null, |told| told.json());
        if answer["huella"] == print.as_str() && answer["estado"] == "ACEPTADA" {
            break;
        }
    }
    let alerts = client.walk("/api/v1/alertas", "", 50).await;
    assert_eq!(texts(&alerts, "hardware"), ["sensor-1"]);
}
