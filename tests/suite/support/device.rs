//! A device that proves who it is, or tries to.

use super::{Client, client::finish, logins};
use awc::http::Method;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a device signs with.
#[derive(Clone)]
pub enum Signing {
    Ed25519(SigningKey),
    Hs256([u8; 32]),
}

impl Signing {
    /// A key pair that is another for each `seed`.
    pub fn ed25519(seed: u8) -> Self {
        Self::Ed25519(SigningKey::from_bytes(&[seed; 32]))
    }

    pub fn alg(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::Hs256(_) => "HS256",
        }
    }

    pub fn sign(&self, input: &str) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.sign(input.as_bytes()).to_bytes().to_vec(),
            Self::Hs256(secret) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
                mac.update(input.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
        }
    }

    /// The public half, as the registry takes it.
    pub fn public(&self) -> String {
        match self {
            Self::Ed25519(key) => encode(key.verifying_key().as_bytes()),
            Self::Hs256(_) => panic!("a shared secret has no public half"),
        }
    }
}

pub fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A registered device with an active key.
#[derive(Clone)]
pub struct Device {
    pub company: String,
    pub site: String,
    pub name: String,
    pub kid: String,
    pub signing: Signing,
    pub seq: u64,
}

impl Device {
    /// Registers a `BOTONERA` of the company and site that are there from the start.
    pub async fn enrol(client: &Client, name: &str) -> Self {
        Self::enrol_at(client, "banco", "principal", name, "BOTONERA").await
    }

    /// Registers a device at a place that is there, with an Ed25519 key.
    pub async fn enrol_at(
        client: &Client,
        company: &str,
        site: &str,
        name: &str,
        kind: &str,
    ) -> Self {
        register(client, company, site, name, kind).await;
        let seed = name
            .bytes()
            .fold(7u8, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte));
        let signing = Signing::ed25519(seed);
        let body = json!({"alg": "EdDSA", "clave_publica": signing.public()});
        let path = format!("/api/v1/hardware/{name}/claves");
        let key = client.post(&path, None, &body).await.unwrap();
        assert_eq!(key.status, 201, "{}", key.text());
        Self {
            company: company.to_owned(),
            site: site.to_owned(),
            name: name.to_owned(),
            kid: key.json()["kid"].as_str().unwrap().to_owned(),
            signing,
            seq: 0,
        }
    }

    /// `empresa/sede/hardware`.
    pub fn address(&self) -> String {
        format!("{}/{}/{}", self.company, self.site, self.name)
    }

    /// `empresas/{empresa}/{sede}/{hardware}/{last}`.
    pub fn topic(&self, last: &str) -> String {
        format!("empresas/{}/{last}", self.address())
    }

    /// The claims of the message `seq`, made now.
    pub fn claims(&self, seq: u64, kind: &str) -> Value {
        json!({
            "aud": "atalaya",
            "sub": self.address(),
            "seq": seq,
            "iat": now(),
            "tipo_alarma": kind,
        })
    }

    /// Signs claims as they are.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"typ": "alerta+jws", "alg": self.signing.alg(), "kid": self.kid});
        self.sign_with(&header.to_string(), &claims.to_string())
    }

    /// Signs any header and any claims.
    pub fn sign_with(&self, header: &str, claims: &str) -> String {
        let input = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(claims.as_bytes())
        );
        let signature = encode(&self.signing.sign(&input));
        format!("{input}.{signature}")
    }

    /// The next message.
    pub fn alert(&mut self, kind: &str) -> String {
        self.seq += 1;
        self.sign(&self.claims(self.seq, kind))
    }
}

/// Registers a device without a key.
pub async fn register(client: &Client, company: &str, site: &str, name: &str, kind: &str) {
    let body = json!({"hardware": name, "empresa": company, "sede": site, "tipo": kind});
    let response = client.post("/api/v1/hardware", None, &body).await.unwrap();
    assert_eq!(response.status, 201, "{}", response.text());
    logins::enrol(client, name).await;
}

/// Makes a company and a site.
pub async fn create_place(client: &Client, company: &str, site: &str) {
    let body = json!({ "empresa": company });
    let made = client.post("/api/v1/empresas", None, &body).await.unwrap();
    assert!([201, 409].contains(&made.status), "{}", made.text());
    let body = json!({"empresa": company, "sede": site});
    let made = client.post("/api/v1/sedes", None, &body).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
}

/// SHA-256 in hexadecimal, as in `huella`.
pub fn fingerprint(message: &[u8]) -> String {
    hex(&Sha256::digest(message))
}

pub fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles
        .map(|nibble| char::from_digit(nibble.into(), 16).unwrap())
        .collect()
}

/// Seconds since 1970 UTC.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

impl Client {
    /// Hands in a signed message over HTTP.
    pub async fn submit(&self, message: &str) -> super::client::Response {
        self.jose("/api/v1/alertas", message).await
    }

    /// Posts a message as `application/jose`.
    pub async fn jose(&self, path: &str, message: &str) -> super::client::Response {
        let request = self
            .request(Method::POST, path)
            .insert_header(("content-type", "application/jose"));
        finish(request.send_body(message.to_owned())).await.unwrap()
    }

    /// A request with a JSON body and any method.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> super::client::Response {
        let request = self
            .request(method, path)
            .insert_header(("content-type", "application/json"));
        finish(request.send_body(body.to_string())).await.unwrap()
    }

    /// A request without a body and any method.
    pub async fn bare(&self, method: Method, path: &str) -> super::client::Response {
        finish(self.request(method, path).send()).await.unwrap()
    }

    /// Gets JSON; it must be there.
    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await.unwrap();
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }
}
