//! Messages that are almost right: whatever is done to a signed message, it is not taken.
//!
//! `MUTATIONS` says how many are tried; `tests/campaigns/mutations` tries a hundred thousand.

use crate::support::client::finish;
use crate::support::device::{Device, Signing, create_place, encode, now};
use crate::support::{Atalaya, audit};
use atalaya::domain::alert::Priority;
use atalaya::domain::device::Secret;
use atalaya::domain::registry::{AlertKind, Company, DeviceKey, Registry, Site};
use atalaya::domain::validation::{Rejected, identify, key_of, verify};
use atalaya::domain::{KeyMaterial, Label, Prose, Slug, registry};
use atalaya::wire::jws;
use awc::http::Method;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many of them go over REST.
const OVER_REST: usize = 1_000;

/// The order of the Ed25519 group, little-endian (RFC 8032 §5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn wanted() -> usize {
    std::env::var("MUTATIONS").map_or(10_000, |text| text.parse().expect("MUTATIONS: a number"))
}

/// Two devices that are heard, one for each algorithm, and one of another company.
struct Cast {
    button: Device,
    sensor: Device,
    stranger: Device,
}

/// What was done to a message, and what it became.
type Mutant = (&'static str, Vec<u8>);

impl Cast {
    /// Mutants without end, of messages of both devices. Each round is of other messages, and flips
    /// with other masks.
    fn mutants(&self) -> impl Iterator<Item = Mutant> {
        (1_u64..).flat_map(move |round| {
            [&self.button, &self.sensor]
                .into_iter()
                .flat_map(move |device| {
                    let message = original(device, round);
                    let mut mutants = self.forged(device, &message, round);
                    mutants.extend(misshapen(&message));
                    mutants.extend(flipped(&message, round));
                    mutants.retain(|(_, mutant)| mutant != message.as_bytes());
                    mutants
                })
        })
    }

    /// Other headers, other keys, other names.
    fn forged(&self, device: &Device, message: &str, round: u64) -> Vec<Mutant> {
        let parts: Vec<&str> = message.split('.').collect();
        let claims = claims(device, round);
        let header = |alg: &str, kid: &str| json!({"typ": "alerta+jws", "alg": alg, "kid": kid});
        let (alg, kid) = (device.signing.alg(), device.kid.as_str());
        let mut all = Vec::new();
        let algs = [
            "none", "None", "NONE", "", "EdDSA", "HS256", "HS512", "RS256", "ES256", "eddsa",
            "hs256",
        ];
        for other in algs.into_iter().filter(|&other| other != alg) {
            let text = header(other, kid).to_string();
            let start = format!("{}.{}", encode(text.as_bytes()), parts[1]);
            for signature in ["", parts[2]] {
                all.push(("alg swapped", format!("{start}.{signature}")));
            }
            all.push((
                "alg swapped, signed",
                device.sign_with(&text, &claims.to_string()),
            ));
        }
        // The public key, which is no secret, taken for one.
        if let Signing::Ed25519(key) = &device.signing {
            let confused = Device {
                signing: Signing::Hs256(key.verifying_key().to_bytes()),
                ..device.clone()
            };
            all.push(("public key as secret", confused.sign(&claims)));
        }
        for other in [&self.button, &self.sensor, &self.stranger] {
            if other.kid == kid {
                continue;
            }
            let posing = Device {
                kid: other.kid.clone(),
                ..device.clone()
            };
            all.push(("kid of another", posing.sign(&claims)));
            let start = encode(header(alg, &other.kid).to_string().as_bytes());
            all.push((
                "kid of another",
                format!("{start}.{}.{}", parts[1], parts[2]),
            ));
            all.push(("signed by another", other.sign(&claims)));
            let thief = Device {
                kid: kid.to_owned(),
                ..other.clone()
            };
            all.push(("signed with another's key", thief.sign(&claims)));
            let mut elsewhere = claims.clone();
            elsewhere["sub"] = json!(other.address());
            all.push(("another's name", device.sign(&elsewhere)));
        }
        let unknown = Device {
            kid: "AAAAAAAAAAAAAAAA".to_owned(),
            ..device.clone()
        };
        all.push(("kid of nobody", unknown.sign(&claims)));
        for typ in ["JWT", "alerta+JWS", ""] {
            let text = json!({"typ": typ, "alg": alg, "kid": kid}).to_string();
            all.push(("typ", device.sign_with(&text, &claims.to_string())));
        }
        for (name, value) in [
            ("crit", json!(["b64"])),
            ("jwk", json!({})),
            ("b64", json!(false)),
        ] {
            let mut more = header(alg, kid);
            more[name] = value;
            all.push((
                "more in the header",
                device.sign_with(&more.to_string(), &claims.to_string()),
            ));
        }
        for (name, value) in [
            ("aud", json!("otra")),
            ("seq", json!(-1)),
            ("iat", json!(now() + 9_999)),
        ] {
            let mut wrong = claims.clone();
            wrong[name] = value;
            all.push(("claims that cannot be, signed", device.sign(&wrong)));
        }
        all.into_iter()
            .map(|(what, text)| (what, text.into_bytes()))
            .collect()
    }
}

fn claims(device: &Device, round: u64) -> Value {
    let mut claims = device.claims(round, "ROJO");
    // Of another length in each round, so that the parts end on other bits.
    let length = usize::try_from(round % 7).unwrap();
    claims["descripcion"] = json!(format!("Robo{}", "o".repeat(length)));
    claims
}

fn original(device: &Device, round: u64) -> String {
    device.sign(&claims(device, round))
}

/// Cut, doubled, put together otherwise, and encoded in another way.
fn misshapen(message: &str) -> Vec<Mutant> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let parts: Vec<&str> = message.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("three parts")
    };
    let mut all: Vec<Mutant> = Vec::new();
    for length in 0..message.len() {
        all.push(("cut off", message[..length].into()));
        all.push(("begun late", message[message.len() - length..].into()));
        let mut without = message.as_bytes().to_vec();
        without.remove(length);
        all.push(("a byte less", without));
        let mut twice = message.as_bytes().to_vec();
        twice.insert(length, twice[length]);
        all.push(("a byte twice", twice));
    }
    let text = |text: String| text.into_bytes();
    for doubled in [
        format!("{message}{message}"),
        format!("{message}.{message}"),
        format!("{message}\n{message}"),
        format!("{header}{header}.{payload}.{signature}"),
        format!("{header}.{payload}{payload}.{signature}"),
        format!("{header}.{payload}.{signature}{signature}"),
        format!("{header}.{header}.{payload}.{signature}"),
        format!("{header}.{payload}.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{signature}."),
        format!(".{header}.{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}.{payload}."),
        format!("{payload}.{header}.{signature}"),
        format!("{header}.{signature}.{payload}"),
    ] {
        all.push(("doubled or moved", text(doubled)));
    }
    for (place, part) in parts.iter().enumerate() {
        let with = |other: String| {
            let mut others = parts.clone();
            others[place] = &other;
            others.join(".").into_bytes()
        };
        for padding in ["=", "==", "A", "AA", "AAA", "AAAA", " ", "%3D"] {
            all.push(("padded", with(format!("{part}{padding}"))));
        }
        // Bits that belong to no byte.
        let stray = [0_usize, 0, 4, 2][part.len() % 4];
        let (last, start) = part.as_bytes().split_last().unwrap();
        let value = ALPHABET.iter().position(|letter| letter == last).unwrap();
        for bits in 1..1 << stray {
            let other = char::from(ALPHABET[value ^ bits]);
            let start = std::str::from_utf8(start).unwrap();
            all.push(("stray bits", with(format!("{start}{other}"))));
        }
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut others = vec![
        vec![0; bytes.len()],
        vec![0xff; bytes.len()],
        [1, 0].repeat(bytes.len() / 2),
    ];
    if let Ok(mut moved) = <[u8; 64]>::try_from(bytes.as_slice()) {
        // The same number modulo the order: a second signature, where that is not looked at.
        let mut carry = 0_u16;
        for (digit, more) in moved[32..].iter_mut().zip(ORDER) {
            carry += u16::from(*digit) + u16::from(more);
            *digit = carry.to_le_bytes()[0];
            carry >>= 8;
        }
        others.push(moved.to_vec());
    }
    for other in others {
        all.push((
            "another signature",
            text(format!("{header}.{payload}.{}", encode(&other))),
        ));
    }
    all
}

/// Every byte of the text with several masks, and every byte beneath the base64.
fn flipped(message: &str, round: u64) -> Vec<Mutant> {
    let masks: Vec<u8> = if round == 1 {
        (0..8).map(|bit| 1 << bit).collect()
    } else {
        (0..8)
            .map(|step| (round * 8 + step) % 255 + 1)
            .map(|mask| u8::try_from(mask).unwrap())
            .collect()
    };
    let mut all = Vec::new();
    for &mask in &masks {
        for place in 0..message.len() {
            let mut bytes = message.as_bytes().to_vec();
            bytes[place] ^= mask;
            all.push(("a byte flipped", bytes));
        }
        let parts: Vec<Vec<u8>> = message
            .split('.')
            .map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap())
            .collect();
        for (which, part) in parts.iter().enumerate() {
            for place in 0..part.len() {
                let mut parts = parts.clone();
                parts[which][place] ^= mask;
                let text: Vec<String> = parts.iter().map(|part| encode(part)).collect();
                all.push(("a byte beneath flipped", text.join(".").into_bytes()));
            }
        }
    }
    all
}

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn material(signing: &Signing) -> KeyMaterial {
    match signing {
        Signing::Ed25519(key) => KeyMaterial::ed25519(key.verifying_key().as_bytes()).unwrap(),
        Signing::Hs256(secret) => KeyMaterial::Hs256(Secret(*secret)),
    }
}

/// The registry that knows the cast.
fn registry_of(cast: &Cast) -> Registry {
    let mut known = Registry::default();
    for (row, device) in (1..).zip([&cast.button, &cast.sensor, &cast.stranger]) {
        // Two are at the same place.
        let place = if device.company == "banco" { 1 } else { 2 };
        known.put_company(Company {
            row: place,
            slug: slug(&device.company),
            name: label(&device.company),
            active: true,
            broker_trust: false,
        });
        known.put_site(Site {
            row: place,
            company: place,
            slug: slug(&device.site),
            name: label(&device.site),
            time_zone: TimeZone::UTC,
            active: true,
        });
        known.put_kind(AlertKind {
            row: place,
            company: place,
            code: slug("ROJO"),
            name: label("Rojo"),
            priority: Priority::Critical,
            colour: label("ROJO"),
            description: Prose::parse("").unwrap(),
            instructions: Prose::parse("").unwrap(),
            items: Vec::new(),
            escalation: None,
            active: true,
        });
        known.put_device(registry::Device {
            row,
            slug: slug(&device.name),
            company: place,
            site: place,
            kind: slug("BOTONERA"),
            name: label(&device.name),
            active: true,
            trust: registry::Trust::Signature,
        });
        known.put_key(DeviceKey {
            row,
            kid: slug(&device.kid),
            device: row,
            material: material(&device.signing),
        });
    }
    known
}

/// How far a message gets; `Ok` is all the way.
fn judge(registry: &Registry, message: &[u8]) -> Result<(), (&'static str, Rejected)> {
    let parsed = jws::parse(message).map_err(|error| ("form", error.rejected()))?;
    let located = identify(registry, &parsed, None).map_err(|error| ("identity", error))?;
    let key = key_of(registry, &parsed, &located.device).map_err(|error| ("key", error))?;
    let (company, installation) = (&located.company, slug("atalaya"));
    verify(registry, &parsed, &key, company, &installation, now())
        .map(|_| ())
        .map_err(|error| ("signature", error))
}

#[test]
fn no_mutant_is_believed() {
    let device = |company: &str, name: &str, signing| Device {
        company: company.to_owned(),
        site: "principal".to_owned(),
        name: name.to_owned(),
        kid: format!("kid-of-{name}"),
        signing,
        seq: 0,
    };
    let cast = Cast {
        button: device("banco", "boton-1", Signing::ed25519(1)),
        sensor: device("banco", "sensor-1", Signing::Hs256([7; 32])),
        stranger: device("vecina", "boton-2", Signing::ed25519(2)),
    };
    let registry = registry_of(&cast);
    for device in [&cast.button, &cast.sensor, &cast.stranger] {
        judge(&registry, original(device, 1).as_bytes()).unwrap();
    }

    let (mut made, mut stages) = (BTreeMap::new(), BTreeMap::new());
    let (mut believed, mut panics) = (Vec::new(), Vec::new());
    for (what, mutant) in cast.mutants().take(wanted()) {
        *made.entry(what).or_insert(0) += 1;
        match catch_unwind(AssertUnwindSafe(|| judge(&registry, &mutant))) {
            Ok(Err((stage, _))) => *stages.entry(stage).or_insert(0) += 1,
            Ok(Ok(())) => believed.push((what, String::from_utf8_lossy(&mutant).into_owned())),
            Err(_) => panics.push((what, String::from_utf8_lossy(&mutant).into_owned())),
        }
    }
    println!("{} mutants: {made:?}", wanted());
    println!(
        "refused for: {stages:?}; accepted {}, panics {}",
        believed.len(),
        panics.len()
    );
    assert!(
        panics.is_empty(),
        "{} panics, first {:?}",
        panics.len(),
        panics[0]
    );
    assert!(
        believed.is_empty(),
        "{} accepted, first {:?}",
        believed.len(),
        believed[0]
    );
    // Were they all refused for their form, it would prove little.
    assert!(stages["signature"] >= wanted() / 20, "{stages:?}");
}

#[actix_web::test]
async fn no_mutant_is_taken_over_rest() {
    let atalaya = Atalaya::without_mqtt()
        .set("DEVICE_RATE", 1_000_000)
        .set("DEVICE_BURST", 1_000_000)
        .start()
        .await;
    let client = atalaya.client();
    create_place(&client, "vecina", "central").await;
    let cast = Cast {
        button: Device::enrol(&client, "boton-1").await,
        sensor: Device::enrol_with_secret(&client, "sensor-1").await,
        stranger: Device::enrol_at(&client, "vecina", "central", "boton-2", "BOTONERA").await,
    };
    let process = atalaya.id();
    let mut answers = BTreeMap::new();
    // A sample of each sort: whole rounds are some twelve thousand.
    let sample = cast.mutants().step_by(23).take(OVER_REST.min(wanted()));
    for (what, mutant) in sample {
        let shown = String::from_utf8_lossy(&mutant).into_owned();
        let request = client
            .request(Method::POST, "/api/v1/alertas")
            .insert_header(("content-type", "application/jose"));
        let answer = finish(request.send_body(mutant)).await.unwrap();
        assert!(
            (400..500).contains(&answer.status),
            "{what}: {} {shown}",
            answer.status
        );
        *answers.entry((answer.status, answer.code())).or_insert(0) += 1;
    }
    println!("over REST: {answers:?}");
    assert_eq!(client.count_alerts().await, 0);
    // It serves as before, and no mutant has used a number of the devices.
    for device in [&cast.button, &cast.sensor, &cast.stranger] {
        client.accepts(&original(device, 1)).await;
    }
    assert_eq!(client.count_alerts().await, 3);
    assert_eq!(atalaya.id(), process);
    assert!(!atalaya.log().contains("panicked"), "{}", atalaya.log());
    audit(&atalaya.database()).unwrap();
}
