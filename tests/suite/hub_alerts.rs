//! Messages of devices over REST: who is heard, what they are answered, and what is taken once.

use crate::support::client::finish;
use crate::support::device::{Device, Signing, create_place, encode, fingerprint, now};
use crate::support::hub::{assert_refused, assert_rejected, changes, texts};
use crate::support::{Atalaya, Mosquitto, Records, Subscriber, audit, eventually};
use atalaya::domain::validation::Reason;
use awc::http::Method;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeSet;

const ALERTS: &str = "/api/v1/alertas";
const VALIDATION: &str = "/api/v1/alertas/validacion";

/// Where a device may send as fast as the test can.
async fn unhurried() -> Atalaya {
    let settings = Atalaya::without_mqtt();
    let settings = settings
        .set("DEVICE_RATE", 1_000_000)
        .set("DEVICE_BURST", 1_000_000);
    settings.start().await
}

#[actix_web::test]
async fn a_signed_message_is_taken_in_each_of_its_forms() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut sensor = Device::enrol_with_secret(&client, "sensor-1").await;
    for device in [&mut button, &mut sensor] {
        let post = async |declared: &str, body: String| {
            let request = client
                .request(Method::POST, ALERTS)
                .insert_header(("content-type", declared));
            finish(request.send_body(body)).await.unwrap()
        };
        for (declared, form) in [
            ("application/jose", "raw"),
            ("APPLICATION/JOSE; charset=utf-8", "raw"),
            ("application/json", "raw"),
            ("application/json", "a JSON string"),
            ("application/jose", "with a line end"),
        ] {
            let message = device.alert("ROJO");
            let body = match form {
                "a JSON string" => json!(message).to_string(),
                "with a line end" => format!("{message}\n"),
                _ => message.clone(),
            };
            let answer = post(declared, body).await;
            assert_eq!(answer.status, 201, "{declared} {form}: {}", answer.text());
            let reply = answer.json();
            assert_eq!(reply["estado"], "ACEPTADA");
            assert_eq!(reply["motivo"], Value::Null);
            assert_eq!(reply["seq"], device.seq);
            assert_eq!(reply["huella"], fingerprint(message.as_bytes()));
            let again = client.submit(&message).await;
            assert_eq!(again.status, 200, "{form}: {}", again.text());
            let again = again.json();
            assert_eq!(again["estado"], "DUPLICADA");
            assert_eq!(again["alerta_id"], reply["alerta_id"]);
            assert_eq!(again["huella"], reply["huella"]);
        }
        for declared in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jose+json",
            "",
        ] {
            let answer = post(declared, device.alert("ROJO")).await;
            assert_refused(&answer, 415, "tipo_no_admitido", declared);
        }
    }
    assert_eq!(client.count_alerts().await, 2);
    let seen = client.json("/api/v1/hardware/boton-1").await;
    assert!(seen["ultima_senal"].is_string() && seen["estado"].is_null());

    // Whatever it made, it is made once, across restarts and beyond what the window remembers.
    let first = button.alert("AZUL");
    let alert = client.accepts(&first).await;
    button.seq += 100;
    client.accepts(&button.alert("VERDE")).await;
    for _ in 0..2 {
        let again = client.submit(&first).await;
        assert_eq!(
            (again.status, &again.json()["alerta_id"]),
            (200, &json!(alert))
        );
        atalaya.kill();
        atalaya.start().await;
    }
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn what_is_said_of_an_alert_is_kept_as_it_was_said() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    button.seq = 1;
    let mut claims = button.claims(1, "ROJO");
    claims["descripcion"] = json!("Robo en caja 2 \"<b>\" 🚨\nsegunda línea");
    claims["ubicacion"] = json!({"latitud": -0.18, "longitud": -78.47, "piso": null});
    claims["datos"] = json!({"pulsaciones": 3, "nivel": {"bateria": [0.5, 100]}});
    // What we do not know is none of our business (RFC 7519 §4).
    claims["nbf"] = json!(0);
    let id = client.accepts(&button.sign(&claims)).await;
    for round in 0..2 {
        let alert = client.alert(&id).await;
        for field in ["descripcion", "ubicacion", "datos"] {
            assert_eq!(alert[field], claims[field], "{field}, round {round}");
        }
        assert_eq!(alert["prioridad"], "critica");
        assert_eq!(alert["estado"], "NUEVA");
        assert_eq!(
            (&alert["tardia"], &alert["repeticiones"]),
            (&json!(false), &json!(1))
        );
        assert_eq!(
            (&alert["reconocida"], &alert["cerrada"]),
            (&Value::Null, &Value::Null)
        );
        let step = &alert["historia"][0];
        assert_eq!(
            (&step["cambio"], &step["por"], &step["canal"]),
            (&json!("CREADA"), &json!("hardware"), &json!("http"))
        );
        atalaya.kill();
        atalaya.start().await;
    }
    // As large as a message may be, to the byte; a body that is larger is no message.
    for (length, status) in [(12 * 1024, 201), (65_536, 201), (65_537, 413)] {
        button.seq += 1;
        let message = of_length(&button, length);
        let answer = client.submit(&message).await;
        assert_eq!(answer.status, status, "{length}: {}", answer.text());
    }
    for (field, wrong) in [
        ("descripcion", json!("x".repeat(2_001))),
        ("descripcion", json!("a\u{0}b")),
        ("descripcion", json!("\u{1b}[2J")),
        ("descripcion", json!(5)),
        ("ubicacion", json!("Quito")),
        ("ubicacion", json!([1, 2])),
        ("datos", json!(7)),
        ("datos", json!("{}")),
    ] {
        let mut claims = button.claims(50, "ROJO");
        claims[field] = wrong.clone();
        assert_rejected(
            &client.submit(&button.sign(&claims)).await,
            "FORMA",
            format!("{field} {wrong}"),
        );
    }
}

#[actix_web::test]
async fn each_reason_for_a_rejection_has_its_message() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker)
        .set("DEVICE_RATE", 1)
        .set("DEVICE_BURST", 40)
        .start()
        .await;
    let client = atalaya.client();
    let subscriber = Subscriber::to(broker.port, &["empresas/#"]).await;
    let mut button = Device::enrol(&client, "boton-1").await;
    client.put_kind("HUMO", json!({"activo": false})).await;
    client.accepts(&button.alert("ROJO")).await;
    let seq = button.seq + 1;
    let claims = |field: &str, value: Value| {
        let mut claims = button.claims(seq, "ROJO");
        claims[field] = value;
        claims
    };
    let mut first = claims("seq", json!(1));
    first["descripcion"] = json!("otra cosa");
    for (reason, claims) in [
        ("FORMA", claims("seq", json!(-1))),
        ("FORMA", claims("seq", json!(1_u64 << 53))),
        ("FORMA", claims("seq", json!("2"))),
        ("FORMA", claims("seq", json!(2.5))),
        ("FORMA", claims("iat", json!("hoy"))),
        ("FORMA", claims("sub", json!("banco/principal"))),
        ("FORMA", claims("sub", json!("banco/+/boton-1"))),
        ("FORMA", claims("tipo_alarma", json!("RO JO"))),
        ("FORMA", claims("aud", json!(["atalaya"]))),
        ("FORMA", json!({})),
        ("IDENTIDAD", claims("sub", json!("banco/principal/boton-9"))),
        ("AUDIENCIA", claims("aud", json!("otra"))),
        ("AUDIENCIA", claims("aud", json!("ATALAYA"))),
        ("AUDIENCIA", claims("aud", json!(""))),
        ("FECHA", claims("iat", json!(now() + 330))),
        ("FECHA", claims("iat", json!(i64::MAX))),
        ("TIPO", claims("tipo_alarma", json!("MORADO"))),
        ("TIPO", claims("tipo_alarma", json!("rojo"))),
        ("TIPO", claims("tipo_alarma", json!("HUMO"))),
        (
            "TIPO",
            claims("tipo_alarma", json!("DISPOSITIVO_SILENCIOSO")),
        ),
        ("SECUENCIA", first),
    ] {
        let message = button.sign(&claims);
        let answer = client.submit(&message).await;
        assert_rejected(&answer, reason, &claims);
        let problem = answer.json();
        assert_eq!(problem["huella"], fingerprint(message.as_bytes()));
        let read = if reason == "FORMA" {
            Value::Null
        } else {
            claims["seq"].clone()
        };
        assert_eq!(problem["seq"], read, "{claims}");
        let counted = rejected(&atalaya, reason).await;
        assert!(counted.is_some(), "{reason} is counted");
    }
    // TAMANO: HTTP takes no such body; a broker does.
    let message = of_length(&button, 70_000);
    subscriber
        .publish(&button.topic("alerta"), false, &message)
        .await;
    let reply = subscriber
        .wait_for("the answer to a message that is too large", |m| {
            m.topic.ends_with("respuesta") && m.text().contains(&fingerprint(message.as_bytes()))
        })
        .await
        .json();
    assert_eq!(
        (&reply["estado"], &reply["motivo"]),
        (&json!("RECHAZADA"), &json!("TAMANO"))
    );

    let kept = eventually("it is in quarantine", || async {
        let kept = client.walk("/api/v1/cuarentena", "&motivo=TAMANO", 9).await;
        kept.into_iter().next()
    })
    .await;
    assert_eq!(kept["truncado"], true);
    assert_eq!(kept["mensaje"], message[..65_536]);
    assert_eq!(kept["tema"], button.topic("alerta"));
    assert_eq!(
        (&kept["canal"], &kept["hardware"]),
        (&json!("mqtt"), &json!("boton-1"))
    );
    let path = format!("/api/v1/cuarentena/{}/reenviar", kept["id"]);
    let again = client.bare(Method::POST, &path).await;
    assert_refused(&again, 409, "mensaje_truncado", "the rest is gone");

    // None of them used the number; and then LIMITE, which is told and used none either.
    client
        .accepts(&button.sign(&claims("seq", json!(seq))))
        .await;
    button.seq = seq;
    let mut flood = std::iter::repeat_with(|| button.alert("VERDE")).take(200);
    let (throttled, limited) = loop {
        let message = flood.next().expect("two hundred at once are too many");
        let answer = client.submit(&message).await;
        if answer.status == 429 {
            break (message, answer);
        }
        assert_eq!(answer.status, 201, "{}", answer.text());
    };
    drop(flood);
    assert_refused(&limited, 429, "limite_excedido", "too fast");
    assert_eq!(limited.json()["motivo"], "LIMITE");
    assert_eq!(limited.json()["seq"], button.seq);
    assert!(
        limited
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            >= 1
    );
    // Others are not held up, and the same message is as good later.
    let mut other = Device::enrol(&client, "boton-2").await;
    client.accepts(&other.alert("ROJO")).await;
    let later = eventually("the limit lets it in", || async {
        let answer = client.submit(&throttled).await;
        (answer.status != 429).then_some(answer)
    })
    .await;
    assert_eq!(later.status, 201, "{}", later.text());
    for reason in Reason::ALL {
        let count = rejected(&atalaya, reason.name()).await;
        assert!(count.is_some_and(|count| count > 0.0), "{}", reason.name());
    }
    let quarantined = client
        .walk("/api/v1/cuarentena", "&motivo=LIMITE", 200)
        .await;
    assert!(
        quarantined.is_empty(),
        "an honest device may well be fast: {quarantined:?}"
    );
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn what_forges_a_signature_makes_no_alert() {
    let atalaya = unhurried().await;
    let client = atalaya.client();
    let button = Device::enrol(&client, "boton-1").await;
    let other = Device::enrol(&client, "boton-2").await;
    let sensor = Device::enrol_with_secret(&client, "sensor-1").await;
    let claims = button.claims(1, "ROJO").to_string();
    let header = |alg: &str, kid: &str| json!({"typ": "alerta+jws", "alg": alg, "kid": kid});
    let mine = header("EdDSA", &button.kid);
    let with = |field: &str, value: Value| {
        let mut header = mine.clone();
        header[field] = value;
        header.to_string()
    };
    let Signing::Ed25519(key) = &button.signing else {
        panic!("Ed25519")
    };
    let public = key.verifying_key().to_bytes();
    let hs256 = |secret: [u8; 32], kid: &str| {
        Device {
            signing: Signing::Hs256(secret),
            ..button.clone()
        }
        .sign_with(&header("HS256", kid).to_string(), &claims)
    };
    let good = button.sign_with(&mine.to_string(), &claims);
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("{good}")
    };
    let raw = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let signed_as = |header: &Value, claims: &str, signature: &[u8]| {
        format!(
            "{}.{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.as_bytes()),
            encode(signature)
        )
    };
    let altered = claims.replace("ROJO", "AZUL");
    let sensors = sensor.claims(1, "ROJO").to_string();
    let truncated = {
        let whole = sensor.sign(&sensor.claims(1, "ROJO"));
        let (input, signature) = whole.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        format!("{input}.{}", encode(&signature[..16]))
    };
    let transplanted = button.sign(&button.claims(2, "ROJO"));
    let transplanted = transplanted.rsplit_once('.').unwrap().1;
    let twice = format!(
        "{},{}",
        &mine.to_string()[..mine.to_string().len() - 1],
        r#""alg":"EdDSA"}"#
    );
    for (what, message, reason) in [
        (
            "alg none",
            signed_as(&header("none", &button.kid), &claims, b""),
            "IDENTIDAD",
        ),
        (
            "alg nOnE",
            signed_as(&header("nOnE", &button.kid), &claims, b""),
            "IDENTIDAD",
        ),
        (
            "alg none, signed",
            signed_as(&header("none", &button.kid), &claims, &raw),
            "IDENTIDAD",
        ),
        (
            "alg empty",
            signed_as(&header("", &button.kid), &claims, &raw),
            "IDENTIDAD",
        ),
        (
            "alg RS256",
            signed_as(&header("RS256", &button.kid), &claims, &raw),
            "IDENTIDAD",
        ),
        (
            "another algorithm's name",
            button.sign_with(&with("alg", json!("HS256")), &claims),
            "IDENTIDAD",
        ),
        (
            "alg Ed25519",
            button.sign_with(&with("alg", json!("Ed25519")), &claims),
            "IDENTIDAD",
        ),
        (
            "HS256 under the public key",
            hs256(public, &button.kid),
            "IDENTIDAD",
        ),
        (
            "HS256 under nothing",
            hs256([0; 32], &button.kid),
            "IDENTIDAD",
        ),
        (
            "EdDSA for a shared secret's key",
            button.sign_with(&header("EdDSA", &sensor.kid).to_string(), &sensors),
            "IDENTIDAD",
        ),
        ("half a MAC", truncated, "IDENTIDAD"),
        (
            "another's key",
            other.sign_with(&header("EdDSA", &other.kid).to_string(), &claims),
            "IDENTIDAD",
        ),
        (
            "another's signature",
            other.sign_with(&mine.to_string(), &claims),
            "IDENTIDAD",
        ),
        (
            "a kid that is none",
            button.sign_with(&with("kid", json!("k1")), &claims),
            "IDENTIDAD",
        ),
        (
            "a kid in capitals",
            button.sign_with(&with("kid", json!(button.kid.to_uppercase())), &claims),
            "IDENTIDAD",
        ),
        (
            "a kid that climbs",
            button.sign_with(&with("kid", json!("../../etc/passwd")), &claims),
            "FORMA",
        ),
        (
            "a kid that asks",
            button.sign_with(&with("kid", json!("x' OR '1'='1")), &claims),
            "FORMA",
        ),
        (
            "no kid",
            signed_as(&json!({"typ": "alerta+jws", "alg": "EdDSA"}), &claims, &raw),
            "FORMA",
        ),
        (
            "crit",
            button.sign_with(&with("crit", json!(["exp"])), &claims),
            "FORMA",
        ),
        (
            "jwk",
            button.sign_with(
                &with(
                    "jwk",
                    json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&public)}),
                ),
                &claims,
            ),
            "FORMA",
        ),
        (
            "jku",
            button.sign_with(&with("jku", json!("http://127.0.0.1/k")), &claims),
            "FORMA",
        ),
        (
            "x5u",
            button.sign_with(&with("x5u", json!("file:///etc/passwd")), &claims),
            "FORMA",
        ),
        (
            "b64",
            button.sign_with(&with("b64", json!(false)), &claims),
            "FORMA",
        ),
        (
            "typ JWT",
            button.sign_with(&with("typ", json!("JWT")), &claims),
            "FORMA",
        ),
        ("alg twice", button.sign_with(&twice, &claims), "FORMA"),
        (
            "claims twice",
            button.sign_with(&mine.to_string(), &claims.replacen('{', "{\"seq\":9,", 1)),
            "FORMA",
        ),
        (
            "claims in an array",
            button.sign_with(&mine.to_string(), &format!("[{claims}]")),
            "FORMA",
        ),
        (
            "altered claims",
            signed_as(&mine, &altered, &raw),
            "IDENTIDAD",
        ),
        (
            "the same claims, set otherwise",
            signed_as(&mine, &claims.replacen(':', ": ", 1), &raw),
            "IDENTIDAD",
        ),
        (
            "another message's signature",
            format!("{head}.{body}.{transplanted}"),
            "IDENTIDAD",
        ),
        (
            "the signature twice",
            format!("{good}.{signature}"),
            "FORMA",
        ),
        (
            "the signature doubled",
            signed_as(&mine, &claims, &[raw.clone(), raw.clone()].concat()),
            "IDENTIDAD",
        ),
        ("no signature", format!("{head}.{body}."), "IDENTIDAD"),
        ("no third part", format!("{head}.{body}"), "FORMA"),
        (
            "a signature of nothing",
            signed_as(&mine, &claims, &[0; 64]),
            "IDENTIDAD",
        ),
        (
            "a short signature",
            signed_as(&mine, &claims, &raw[..63]),
            "IDENTIDAD",
        ),
        (
            "a malleable signature",
            signed_as(&mine, &claims, &malleable(&raw)),
            "IDENTIDAD",
        ),
        ("padding", format!("{good}=="), "FORMA"),
        (
            "another alphabet",
            format!(
                "{head}.{body}.{}",
                BASE64_STANDARD_NO_PAD.encode([0xff; 64])
            ),
            "FORMA",
        ),
        (
            "stray bits",
            format!(
                "{}{}",
                &good[..good.len() - 1],
                stray(good.as_bytes()[good.len() - 1])
            ),
            "FORMA",
        ),
        (
            "a blank within",
            format!("{head}. {body}.{signature}"),
            "FORMA",
        ),
        ("five parts (JWE)", format!("{good}.x.y"), "FORMA"),
        ("nothing", ".".to_owned(), "FORMA"),
        ("only dots", "..".to_owned(), "FORMA"),
    ] {
        assert_rejected(&client.submit(&message).await, reason, what);
    }
    // JWS in JSON (RFC 7515 §7.2) is no form of ours.
    let flattened = json!({"protected": head, "payload": body, "signature": signature});
    let answer = client.jose(ALERTS, &flattened.to_string()).await;
    assert_refused(&answer, 400, "cuerpo_invalido", "flattened JSON");
    assert_eq!(client.count_alerts().await, 0);
    assert_eq!(
        Records::of(&atalaya).number("SELECT count(*) FROM device_windows"),
        0
    );
    assert_eq!(
        client.json("/api/v1/hardware/boton-1").await["ultima_senal"],
        Value::Null
    );
    // What all of them were made from is right.
    client.accepts(&good).await;
}

#[actix_web::test]
async fn not_one_letter_of_a_message_can_be_changed() {
    let atalaya = unhurried().await;
    let client = atalaya.client();
    let button = Device::enrol(&client, "boton-1").await;
    let sensor = Device::enrol_with_secret(&client, "sensor-1").await;
    for device in [&button, &sensor] {
        let good = device.sign(&device.claims(7, "ROJO"));
        for place in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[place] = match bytes[place] {
                b'A' => b'B',
                b'.' => b'_',
                _ => b'A',
            };
            let answer = client.submit(std::str::from_utf8(&bytes).unwrap()).await;
            assert_refused(
                &answer,
                422,
                "alerta_rechazada",
                format!("at {place} of {good}"),
            );
        }
        for length in 0..good.len() {
            let answer = client.submit(&good[..length]).await;
            assert_refused(
                &answer,
                422,
                "alerta_rechazada",
                format!("{length} of {good}"),
            );
        }
        assert_eq!(client.count_alerts().await, 0);
    }
    for device in [&button, &sensor] {
        client
            .accepts(&device.sign(&device.claims(7, "ROJO")))
            .await;
    }
}

#[actix_web::test]
async fn a_device_speaks_for_itself_alone() {
    let atalaya = unhurried().await;
    let client = atalaya.client();
    create_place(&client, "acme", "norte").await;
    create_place(&client, "acme", "sur").await;
    create_place(&client, "beta", "norte").await;
    let mut devices = Vec::new();
    for (company, site) in [
        ("acme", "norte"),
        ("acme", "sur"),
        ("beta", "norte"),
        ("banco", "principal"),
    ] {
        for n in 1..=2 {
            let name = format!("{company}-{site}-{n}");
            devices.push(Device::enrol_at(&client, company, site, &name, "BOTONERA").await);
        }
    }
    // Every place that there is, and every device, under every key.
    let mut right = 0;
    for signer in &devices {
        for company in ["acme", "beta", "banco"] {
            for site in ["norte", "sur", "principal"] {
                for device in devices
                    .iter()
                    .map(|device| device.name.as_str())
                    .chain(["nadie"])
                {
                    let subject = format!("{company}/{site}/{device}");
                    let mut claims = signer.claims(1, "ROJO");
                    claims["sub"] = json!(subject);
                    let answer = client.submit(&signer.sign(&claims)).await;
                    if subject == signer.address() {
                        assert_eq!(answer.status, 201, "{subject}: {}", answer.text());
                        right += 1;
                    } else {
                        assert_rejected(
                            &answer,
                            "IDENTIDAD",
                            format!("{} as {subject}", signer.name),
                        );
                    }
                }
            }
        }
    }
    assert_eq!(right, devices.len());
    for company in ["acme", "beta", "banco"] {
        let alerts = client
            .walk(ALERTS, &format!("&empresa={company}"), 200)
            .await;
        assert!(alerts.iter().all(|alert| {
            let name = alert["hardware"].as_str().unwrap();
            name.starts_with(company) && alert["empresa"] == company
        }));
    }
    assert_eq!(client.count_alerts().await, devices.len());
}

#[actix_web::test]
async fn numbers_are_admitted_once_each_within_their_window() {
    let mut atalaya = unhurried().await;
    let client = atalaya.client();
    let button = Device::enrol(&client, "boton-1").await;
    let message = |seq: u64| button.sign(&button.claims(seq, "ROJO"));
    // The first number may be any; here it lies in the middle of what follows.
    let numbers: Vec<u64> = (0..64).map(|n| 5_000 + n * 37 % 64).collect();
    let messages: Vec<String> = numbers.iter().map(|seq| message(*seq)).collect();
    let mut alert = None;
    for (seq, message) in numbers.iter().zip(&messages) {
        let id = client.accepts(message).await;
        assert_eq!(alert.get_or_insert(id.clone()), &id, "{seq}");
    }
    let alert = alert.unwrap();
    assert_eq!(client.alert(&alert).await["repeticiones"], 64);
    let refused = async |seq: u64, why: &str| {
        assert_rejected(
            &client.submit(&message(seq)).await,
            "SECUENCIA",
            format!("{seq}: {why}"),
        );
    };
    for round in 0..2 {
        for (seq, message) in numbers.iter().zip(&messages) {
            let again = client.submit(message).await;
            assert_eq!(
                (again.status, &again.json()["alerta_id"]),
                (200, &json!(alert)),
                "{seq}"
            );
        }
        let mut other = button.claims(5_010, "ROJO");
        other["descripcion"] = json!("otra cosa");
        assert_rejected(
            &client.submit(&button.sign(&other)).await,
            "SECUENCIA",
            "a number used again",
        );
        refused(4_999, "older than the window").await;
        refused(0, "much older").await;
        refused(5_063 + 1_000_001, "too far ahead").await;
        refused((1 << 53) - 1, "much too far").await;
        assert_eq!(
            client.alert(&alert).await["repeticiones"],
            64,
            "round {round}"
        );
        atalaya.kill();
        atalaya.start().await;
    }
    client.accepts(&message(5_063 + 1_000_000)).await;
    refused(5_064, "left behind by the jump").await;
    client.accepts(&message(5_063 + 1_000_000 - 63)).await;
    refused(5_063 + 1_000_000 - 64, "one too old").await;
    // What the window has forgotten is still answered with what it made.
    let again = client.submit(&messages[5]).await;
    assert_eq!(
        (again.status, &again.json()["alerta_id"]),
        (200, &json!(alert))
    );

    // Each key counts for itself, and any number below 2^53 may be its first.
    let mut last = Device::enrol(&client, "boton-2").await;
    last.seq = (1 << 53) - 2;
    client.accepts(&last.alert("ROJO")).await;
    let mut first = Device::enrol(&client, "boton-3").await;
    client.accepts(&first.sign(&first.claims(0, "ROJO"))).await;
    client.accepts(&first.alert("ROJO")).await;
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn what_comes_late_is_seen_and_drives_nothing() {
    let atalaya = unhurried().await;
    let client = atalaya.client();
    let button = Device::enrol(&client, "boton-1").await;
    crate::support::device::register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let seq = Cell::new(0);
    let made = |ago: i64, kind: &str| {
        seq.set(seq.get() + 1);
        let mut claims = button.claims(seq.get(), kind);
        claims["iat"] = json!(now() - ago);
        button.sign(&claims)
    };
    let late = client.accepts(&made(3_600, "ROJO")).await;
    let alert = client.alert(&late).await;
    assert_eq!(
        (&alert["tardia"], &alert["estado"]),
        (&json!(true), &json!("NUEVA"))
    );
    assert_eq!(alert["historia"][0]["comandos"], json!([]));
    let device = client.json("/api/v1/hardware/boton-1").await;
    assert_eq!(
        device["ultima_senal"],
        Value::Null,
        "it is no sign of life today"
    );

    // Late and live are told apart at five minutes, and do not merge: the real one must drive.
    let live = client.accepts(&made(0, "ROJO")).await;
    assert_ne!(late, live);
    assert_eq!(client.alert(&live).await["tardia"], false);
    assert_eq!(client.accepts(&made(7_200, "ROJO")).await, late);
    assert_eq!(client.accepts(&made(280, "ROJO")).await, live);
    assert_eq!(client.accepts(&made(320, "ROJO")).await, late);
    assert_eq!(client.accepts(&made(-280, "ROJO")).await, live);
    assert_rejected(
        &client.submit(&made(-320, "ROJO")).await,
        "FECHA",
        "in the future",
    );
    assert_eq!(client.alert(&late).await["repeticiones"], 3);
    assert_eq!(client.alert(&live).await["repeticiones"], 3);
    let ancient = client.accepts(&made(now(), "AZUL")).await;
    assert_eq!(client.alert(&ancient).await["tardia"], true);
    let before_all = {
        let mut claims = button.claims(90, "VERDE");
        claims["iat"] = json!(i64::MIN);
        client.accepts(&button.sign(&claims)).await
    };
    assert_eq!(client.alert(&before_all).await["tardia"], true);
}

#[actix_web::test]
async fn a_heartbeat_shows_life_and_makes_no_alert() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let mut hoarded = button.claims(1, "LATIDO");
    hoarded["iat"] = json!(now() - 3_600);
    button.seq = 1;
    assert_eq!(client.submit(&button.sign(&hoarded)).await.status, 201);
    let device = client.json("/api/v1/hardware/boton-1").await;
    assert_eq!(
        device["ultima_senal"],
        Value::Null,
        "it was made an hour ago"
    );

    let head = Records::of(&atalaya).number("SELECT head_seq FROM lanes");
    let beat = button.alert("LATIDO");
    let answer = client.submit(&beat).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let reply = answer.json();
    assert_eq!(
        (&reply["estado"], &reply["alerta_id"]),
        (&json!("ACEPTADA"), &Value::Null)
    );
    assert_eq!(reply["huella"], fingerprint(beat.as_bytes()));
    let device = client.json("/api/v1/hardware/boton-1").await;
    assert!(device["ultima_senal"].is_string());
    assert_eq!(client.count_alerts().await, 0);
    assert_eq!(
        Records::of(&atalaya).number("SELECT head_seq FROM lanes"),
        head
    );
    for _ in 0..2 {
        let again = client.submit(&beat).await;
        assert_eq!(
            (again.status, &again.json()["alerta_id"]),
            (200, &Value::Null)
        );
        assert_eq!(again.json()["estado"], "DUPLICADA");
        assert_eq!(client.json("/api/v1/hardware/boton-1").await, device);
        atalaya.kill();
        atalaya.start().await;
    }
    // It has used its number.
    let reused = button.sign(&button.claims(button.seq, "ROJO"));
    assert_rejected(
        &client.submit(&reused).await,
        "SECUENCIA",
        "used by the heartbeat",
    );
    let wrong = client.raise("boton-1", "LATIDO").await;
    assert_refused(
        &wrong,
        422,
        "alerta_rechazada",
        "an operator has no heart of silicon",
    );
    assert_eq!(wrong.json()["motivo"], "TIPO");
}

#[actix_web::test]
async fn validation_says_all_and_does_nothing() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let taken = button.alert("ROJO");
    let alert = client.accepts(&taken).await;
    let next = button.alert("AZUL");
    let mut late = button.claims(9, "VERDE");
    late["iat"] = json!(now() - 3_600);
    let mut elsewhere = button.claims(9, "VERDE");
    elsewhere["aud"] = json!("otra");
    let beat = button.sign(&button.claims(9, "LATIDO"));
    let records = Records::of(&atalaya);
    let state = || {
        ["journal", "alerts", "quarantine", "alert_messages"]
            .map(|table| records.number(&format!("SELECT count(*) FROM {table}")))
    };
    let before = (state(), client.json("/api/v1/hardware/boton-1").await);
    for (what, message, valid, outcome, reason, is_late) in [
        (
            "taken before",
            taken.clone(),
            true,
            "DUPLICADA",
            Value::Null,
            false,
        ),
        (
            "the next",
            next.clone(),
            true,
            "ACEPTADA",
            Value::Null,
            false,
        ),
        (
            "late",
            button.sign(&late),
            true,
            "ACEPTADA",
            Value::Null,
            true,
        ),
        ("a heartbeat", beat, true, "ACEPTADA", Value::Null, false),
        (
            "elsewhere",
            button.sign(&elsewhere),
            false,
            "RECHAZADA",
            json!("AUDIENCIA"),
            false,
        ),
        (
            "a number used",
            button.sign(&button.claims(1, "VERDE")),
            false,
            "RECHAZADA",
            json!("SECUENCIA"),
            false,
        ),
        (
            "too far",
            button.sign(&button.claims(1_000_002, "VERDE")),
            false,
            "RECHAZADA",
            json!("SECUENCIA"),
            false,
        ),
        (
            "a letter more",
            format!("{next}A"),
            false,
            "RECHAZADA",
            json!("IDENTIDAD"),
            false,
        ),
        (
            "no JWS",
            "hola".to_owned(),
            false,
            "RECHAZADA",
            json!("FORMA"),
            false,
        ),
    ] {
        for round in 0..2 {
            let answer = if round == 0 {
                client.jose(VALIDATION, &message).await
            } else {
                client
                    .post(VALIDATION, None, &json!(message))
                    .await
                    .unwrap()
            };
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            let verdict = answer.json();
            assert_eq!(verdict["valida"], valid, "{what}: {verdict}");
            assert_eq!(verdict["estado"], outcome, "{what}");
            assert_eq!(verdict["motivo"], reason, "{what}");
            assert_eq!(verdict["tardia"], is_late, "{what}");
            let is_repeat = outcome == "DUPLICADA";
            assert_eq!(verdict["alerta_id"] == alert.as_str(), is_repeat, "{what}");
            assert_eq!(
                verdict["prueba"].is_object(),
                valid && !what.contains("heart"),
                "{what}"
            );
            // Whoever asks here is the one who mends it.
            assert_eq!(verdict["detalle"].is_string(), !valid, "{what}: {verdict}");
        }
    }
    let manual = |device: &str, kind: &str| json!({"hardware": device, "tipo_alarma": kind});
    let fine = client
        .post(VALIDATION, None, &manual("boton-1", "ROJO"))
        .await
        .unwrap()
        .json();
    assert_eq!(
        (&fine["valida"], &fine["estado"]),
        (&json!(true), &json!("ACEPTADA"))
    );
    let wrong = client
        .post(VALIDATION, None, &manual("boton-1", "MORADO"))
        .await
        .unwrap()
        .json();
    assert_eq!(
        (&wrong["valida"], &wrong["motivo"]),
        (&json!(false), &json!("TIPO"))
    );
    let nobody = client
        .post(VALIDATION, None, &manual("nadie", "ROJO"))
        .await
        .unwrap();
    assert_refused(&nobody, 404, "hardware_no_existe", "of nobody");

    assert_eq!(
        (state(), client.json("/api/v1/hardware/boton-1").await),
        before
    );
    client.accepts(&next).await;
}

#[actix_web::test]
async fn an_operator_acts_for_a_device() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    crate::support::device::register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let body = json!({"hardware": "luz-1", "tipo_alarma": "AZUL", "descripcion": "Desmayo en caja",
        "ubicacion": {"piso": 2}, "datos": {"quien": "cliente"}});
    let made = client.post(ALERTS, None, &body).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let alert = made.json();
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&alert[field], value, "{field}");
    }
    let id = alert["alerta_id"].as_str().unwrap();
    let again = client.post(ALERTS, None, &body).await.unwrap();
    assert_eq!(
        (again.status, &again.json()["alerta_id"]),
        (200, &json!(id))
    );
    assert_eq!(again.json()["repeticiones"], 2);
    let step = &client.alert(id).await["historia"][0];
    assert_eq!(
        (&step["por"], &step["canal"]),
        (&json!("pruebas"), &json!("http"))
    );
    let device = client.json("/api/v1/hardware/luz-1").await;
    assert_eq!(
        device["ultima_senal"],
        Value::Null,
        "the device itself has said nothing"
    );

    for (body, status, code) in [
        (
            json!({"hardware": "nadie", "tipo_alarma": "ROJO"}),
            404,
            "hardware_no_existe",
        ),
        (
            json!({"hardware": "luz-1", "tipo_alarma": "MORADO"}),
            422,
            "alerta_rechazada",
        ),
        (
            json!({"hardware": "luz-1", "tipo_alarma": "DISPOSITIVO_SILENCIOSO"}),
            422,
            "alerta_rechazada",
        ),
        (json!({"hardware": "luz-1"}), 400, "cuerpo_invalido"),
        (
            json!({"hardware": "luz-1", "tipo_alarma": "ROJO", "prioridad": "baja"}),
            400,
            "cuerpo_invalido",
        ),
        (
            json!({"hardware": "luz-1", "tipo_alarma": "ROJO", "datos": [1]}),
            422,
            "valor_invalido",
        ),
        (
            json!({"hardware": "luz-1", "tipo_alarma": "ROJO", "ubicacion": "aquí"}),
            422,
            "valor_invalido",
        ),
        (
            json!({"hardware": "luz-1", "tipo_alarma": "ROJO", "descripcion": "x".repeat(2_001)}),
            422,
            "valor_invalido",
        ),
        (
            json!({"hardware": "luz-1", "tipo_alarma": "ROJO", "descripcion": "a\u{0}"}),
            422,
            "valor_invalido",
        ),
    ] {
        let answer = client.post(ALERTS, None, &body).await.unwrap();
        assert_refused(&answer, status, code, &body);
    }
    assert_eq!(client.count_alerts().await, 1);
}

#[actix_web::test]
async fn of_two_hundred_at_once_one_makes_the_alert() {
    let atalaya = unhurried().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let message = button.alert("ROJO");
    let answers = join_all((0..200).map(|_| client.submit(&message))).await;
    let count = |status: u16| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!((count(201), count(200)), (1, 199));
    let ids: BTreeSet<String> = answers
        .iter()
        .map(|answer| answer.json()["alerta_id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    let alerts = client.walk(ALERTS, "", 200).await;
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["repeticiones"], 1);

    // Sixty different ones at once, in whatever order: all are taken, each once.
    let messages: Vec<String> = (0..60).map(|_| button.alert("AZUL")).collect();
    let answers = join_all(messages.iter().chain(&messages).map(|m| client.submit(m))).await;
    let count = |status: u16| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!((count(201), count(200)), (60, 60));
    let blue = client.walk(ALERTS, "&tipo_alarma=AZUL", 200).await;
    assert_eq!((blue.len(), &blue[0]["repeticiones"]), (1, &json!(60)));
    let id = blue[0]["alerta_id"].as_str().unwrap();
    assert_eq!(
        changes(&client.alert(id).await),
        ["CREADA"],
        "a history is one of steps"
    );
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn after_the_answer_to_a_revocation_nothing_is_taken() {
    let atalaya = unhurried().await;
    let client = atalaya.client();
    for (name, method, what, field) in [
        ("boton-1", Method::DELETE, "key", ""),
        (
            "boton-2",
            Method::PATCH,
            "/api/v1/hardware/boton-2",
            "activo",
        ),
        (
            "boton-3",
            Method::PATCH,
            "/api/v1/sedes/banco/principal",
            "activa",
        ),
        ("boton-4", Method::PATCH, "/api/v1/empresas/banco", "activa"),
    ] {
        let mut button = Device::enrol(&client, name).await;
        let messages: Vec<String> = (0..400).map(|_| button.alert("ROJO")).collect();
        let path = match what {
            "key" => format!("/api/v1/hardware/{name}/claves/{}", button.kid),
            path => path.to_owned(),
        };
        let is_over = Cell::new(false);
        let taken = Cell::new(0);
        let revoke = async {
            eventually("some are taken", || async {
                (taken.get() > 20).then_some(())
            })
            .await;
            let body = if field.is_empty() {
                json!({})
            } else {
                json!({field: false})
            };
            let answer = client.send(method.clone(), &path, &body).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            is_over.set(true);
        };
        let flood = join_all((0..8).map(|lane| {
            let (messages, is_over, taken, client) = (&messages, &is_over, &taken, &client);
            async move {
                let mut refused_after = 0;
                for message in messages.iter().skip(lane).step_by(8) {
                    let began_after = is_over.get();
                    let answer = client.submit(message).await;
                    match answer.status {
                        201 => {
                            assert!(!began_after, "{what}: taken after it was over");
                            taken.set(taken.get() + 1);
                        }
                        _ => assert_rejected(&answer, "IDENTIDAD", what),
                    }
                    refused_after += usize::from(began_after);
                }
                refused_after
            }
        }));
        let ((), refused) = futures_util::future::join(revoke, flood).await;
        assert!(
            refused.iter().sum::<usize>() > 0,
            "{what}: it came too late to show anything"
        );
        if !field.is_empty() {
            client
                .changes(Method::PATCH, &path, &json!({field: true}), 200)
                .await;
        }
    }
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn what_changes_while_a_message_waits_counts() {
    // A commit takes half a second, so that a message is checked against the registry as it was
    // before and is decided after.
    let mut atalaya = unhurried().await;
    let client = atalaya.client();
    let mut buttons = Vec::new();
    for n in 1..=5 {
        buttons.push(Device::enrol(&client, &format!("boton-{n}")).await);
    }
    client.put_kind("HUMO", json!({})).await;
    atalaya.kill();
    atalaya.set("FAILPOINTS", "writer::before_commit=sleep(500)");
    atalaya.start().await;
    let records = Records::of(&atalaya);
    let off = json!({"nombre": "x", "prioridad": "baja", "color": "x", "activo": false});
    let key = format!("/api/v1/hardware/boton-1/claves/{}", buttons[0].kid);
    let kind = "/api/v1/tipos_alarma/banco/HUMO";
    for (n, (button, (method, path, body, reason))) in (1..).zip(buttons.iter_mut().zip([
        (Method::DELETE, key.as_str(), json!({}), "IDENTIDAD"),
        (Method::PUT, kind, off, "TIPO"),
        (
            Method::PATCH,
            "/api/v1/hardware/boton-3",
            json!({"activo": false}),
            "IDENTIDAD",
        ),
        (
            Method::PATCH,
            "/api/v1/sedes/banco/principal",
            json!({"activa": false}),
            "IDENTIDAD",
        ),
        (
            Method::PATCH,
            "/api/v1/empresas/banco",
            json!({"activa": false}),
            "IDENTIDAD",
        ),
    ])) {
        let change = client.send(method, path, &body);
        let message = button.alert(if path == kind { "HUMO" } else { "ROJO" });
        let submit = async {
            eventually("the change is being committed", || async {
                records.is_being_written().then_some(())
            })
            .await;
            client.submit(&message).await
        };
        let (changed, answer) = futures_util::future::join(change, submit).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        assert_rejected(&answer, reason, path);
        eventually("the writer is at rest", || async {
            let kept = records.number("SELECT count(*) FROM quarantine");
            (kept == n && !records.is_being_written()).then_some(())
        })
        .await;
        if path.starts_with("/api/v1/sedes") {
            client
                .changes(Method::PATCH, path, &json!({"activa": true}), 200)
                .await;
        }
    }
    assert_eq!(client.count_alerts().await, 0);
    assert_eq!(records.number("SELECT count(*) FROM device_windows"), 0);
}

#[actix_web::test]
async fn overload_is_told_at_the_door() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let message = button.alert("ROJO");
    atalaya.kill();
    atalaya.set("FAILPOINTS", "validator::submit=return");
    atalaya.start().await;
    let answer = client.submit(&message).await;
    assert_refused(&answer, 503, "sobrecarga", "no room");
    assert!(answer.header("retry-after").is_some());
    atalaya.kill();
    atalaya.set("FAILPOINTS", "");
    atalaya.start().await;
    client.accepts(&message).await;
}

#[actix_web::test]
async fn malformed_bodies_and_addresses_are_problems_and_never_defects() {
    let atalaya = unhurried().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let alert = client.accepts(&button.alert("ROJO")).await;
    client.submit("junk").await;
    let deep = format!("{{\"datos\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_object = format!(
        "{{\"datos\":{}1{}}}",
        "{\"x\":".repeat(10_000),
        "}".repeat(10_000)
    );
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b" ".to_vec(),
        b"null".to_vec(),
        b"true".to_vec(),
        b"5".to_vec(),
        b"1e999".to_vec(),
        b"\"\"".to_vec(),
        b"\"a.b.c\"".to_vec(),
        b"\"\\ud800\"".to_vec(),
        b"[]".to_vec(),
        b"{".to_vec(),
        b"{}x".to_vec(),
        b"{}{}".to_vec(),
        b"{\"x\":1}".to_vec(),
        b"{\"motivo\":5}".to_vec(),
        b"{\"motivo\":\"a\",\"motivo\":\"b\"}".to_vec(),
        b"{\"motivo\":\"\\u0000\"}".to_vec(),
        b"{\"motivo\":\"\xff\xfe\"}".to_vec(),
        b"{\"empresa\":\"a\",\"empresa\":\"b\"}".to_vec(),
        b"{\"empresa\":{\"a\":1}}".to_vec(),
        b"{\"hardware\":\"boton-1\",\"tipo_alarma\":\"ROJO\",\"datos\":{\"a\":1e999}}".to_vec(),
        b"{\"hardware\":\"boton-1\",\"tipo_alarma\":\"ROJO\",\"datos\":{\"a\":\"\\ud800\"}}"
            .to_vec(),
        b"{\"regla\":null,\"regla_id\":9223372036854775808,\"dias\":1}".to_vec(),
        b"{\"regla_id\":-1,\"dias\":1}".to_vec(),
        b"{\"dias\":9223372036854775807}".to_vec(),
        b"{\"alerta_id\":\"x\"}".to_vec(),
        b"{\"empresa\":\"banco\",\"nombre\":\"r\",\"condicion\":\"((((\",\"acciones\":{}}".to_vec(),
        format!(
            "{{\"empresa\":\"banco\",\"nombre\":\"r\",\"condicion\":\"{}true\",\"acciones\":[]}}",
            "!(".repeat(5_000)
        )
        .into_bytes(),
        format!(
            "{{\"empresa\":\"banco\",\"nombre\":\"r\",\"condicion\":\"{}1\",\"acciones\":[]}}",
            "1+".repeat(20_000)
        )
        .into_bytes(),
        format!(
            "{{\"empresa\":\"banco\",\"nombre\":\"r\",\"condicion\":\"true\",\"acciones\":{}{}}}",
            "[".repeat(10_000),
            "]".repeat(10_000)
        )
        .into_bytes(),
        b"\0\0\0\0".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        "{\"empresa\":\"x\"}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect(),
        "[".repeat(60_000).into_bytes(),
        deep.clone().into_bytes(),
        deep_object.into_bytes(),
        format!(
            "{{\"hardware\":\"boton-1\",\"tipo_alarma\":\"ROJO\",{}",
            &deep[1..]
        )
        .into_bytes(),
        " ".repeat(65_537).into_bytes(),
    ];
    let routes = atalaya::http::ROUTES.iter().filter(|(path, _)| {
        path.starts_with("/api/v1/")
            && !path.contains("cuentas")
            && !path.contains("transferencias")
    });
    let mut tried = 0;
    for (template, methods) in routes {
        for id in [
            "1",
            alert.as_str(),
            "-1",
            "9223372036854775808",
            "%00",
            "%FF",
            "x",
        ] {
            let path = template
                .replace("{id}", id)
                .replace("{empresa}", "banco")
                .replace("{sede}", "principal")
                .replace("{hardware}", "boton-1")
                .replace("{kid}", id)
                .replace("{tipo_alarma}", "ROJO")
                .replace("{tipo}", "SENSOR");
            if path == *template && id != "1" {
                continue;
            }
            for method in methods.iter().filter(|method| **method != "DELETE") {
                for body in &bodies {
                    let jose = path.starts_with(ALERTS).then_some("application/jose");
                    for declared in ["application/json"].into_iter().chain(jose) {
                        let request = client
                            .request(method.parse().unwrap(), &path)
                            .insert_header(("content-type", declared));
                        let answer = finish(request.send_body(body.clone())).await;
                        let shown =
                            String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
                        let answer =
                            answer.unwrap_or_else(|e| panic!("{method} {path} {shown}: {e}"));
                        assert!(
                            answer.status < 500,
                            "{method} {path} {shown}: {}",
                            answer.text()
                        );
                        if answer.status >= 400 {
                            answer.code();
                        }
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(tried > 2_000, "{tried}");
    let seen = texts(&client.walk("/api/v1/empresas", "", 200).await, "empresa").len();
    assert_eq!(seen, 1);
    audit(&atalaya.database()).unwrap();
    client.accepts(&button.alert("ROJO")).await;
}

/// How many messages were rejected for `reason`.
async fn rejected(atalaya: &Atalaya, reason: &str) -> Option<f64> {
    let name = format!("atalaya_device_messages_total{{reason=\"{reason}\",result=\"rejected\"}}");
    atalaya.metric(&name).await
}

/// The next message of `device`, so many bytes long.
fn of_length(device: &Device, length: usize) -> String {
    let mut claims = device.claims(device.seq, "VERDE");
    claims["datos"] = json!({"relleno": ""});
    let bare = device.sign(&claims).len();
    let mut fill = (length - bare) / 4 * 3;
    loop {
        claims["datos"] = json!({"relleno": "x".repeat(fill)});
        let message = device.sign(&claims);
        match message.len().cmp(&length) {
            std::cmp::Ordering::Equal => return message,
            std::cmp::Ordering::Less => fill += 1,
            // Base64 has no text of one letter over; a blank in the header shifts it.
            std::cmp::Ordering::Greater => break,
        }
    }
    for blanks in 1..4 {
        let header = json!({"typ": "alerta+jws", "alg": device.signing.alg(), "kid": device.kid});
        let header = format!("{header}{}", " ".repeat(blanks));
        for fill in fill - 8..=fill {
            claims["datos"] = json!({"relleno": "x".repeat(fill)});
            let message = device.sign_with(&header, &claims.to_string());
            if message.len() == length {
                return message;
            }
        }
    }
    panic!("no message of {length} bytes");
}

/// The same signature with the group's order added to its scalar, which lax verifiers take.
fn malleable(signature: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut changed = signature.to_vec();
    let mut carry = 0;
    for (byte, order) in changed[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
    changed
}

/// Another last letter for the same bytes: four of its bits stand for nothing.
fn stray(last: u8) -> char {
    char::from(match last {
        b'A'..=b'Y' | b'a'..=b'y' | b'0'..=b'8' => last + 1,
        other => panic!("{} has its bits at zero", char::from(other)),
    })
}
