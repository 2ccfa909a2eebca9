//! What tests of the alert hub say again and again.

use super::Client;
use super::client::Response;
use super::device::{Device, Signing, register};
use awc::http::Method;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::fmt::Display;

/// The answer is a problem with this status and this `codigo`.
#[track_caller]
pub fn assert_refused(answer: &Response, status: u16, code: &str, what: impl Display) {
    assert!(answer.status >= 400, "{what}: {}", answer.text());
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{what}: {}",
        answer.text()
    );
}

/// A message was rejected for this reason, and the answer says nothing else about why.
#[track_caller]
pub fn assert_rejected(answer: &Response, reason: &str, what: impl Display) {
    assert_refused(answer, 422, "alerta_rechazada", &what);
    let problem = answer.json();
    assert_eq!(problem["motivo"], reason, "{what}");
    assert_eq!(
        problem["detail"],
        format!("La alerta fue rechazada: {reason}"),
        "{what}"
    );
}

impl Client {
    /// Changes something with JSON; it must succeed with `status`.
    pub async fn changes(&self, method: Method, path: &str, body: &Value, status: u16) -> Value {
        let answer = self.send(method, path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        answer.json()
    }

    /// All items of a list, `limit` a page. `filter` is further parameters, as in `&empresa=banco`.
    pub async fn walk(&self, path: &str, filter: &str, limit: usize) -> Vec<Value> {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        for _ in 0..1_000 {
            let query = format!("{path}?limite={limit}&cursor={cursor}{filter}");
            let page = self.json(&query).await;
            let items = page["datos"].as_array().unwrap();
            assert!(items.len() <= limit, "{query}");
            assert!(
                !items.is_empty() || cursor.is_empty(),
                "{query}: an empty page"
            );
            seen.extend(items.iter().cloned());
            match page["siguiente"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return seen,
            }
            assert_eq!(items.len(), limit, "a page that is not full is the last");
        }
        panic!("the pages of {path} do not end");
    }

    /// The alert called `id`, with its history.
    pub async fn alert(&self, id: &str) -> Value {
        self.json(&format!("/api/v1/alertas/{id}")).await
    }

    /// Takes an alert a step further.
    pub async fn step(&self, id: &str, step: &str, body: &Value) -> Response {
        let path = format!("/api/v1/alertas/{id}/{step}");
        self.post(&path, None, body).await.unwrap()
    }

    /// Raises an alert for a device, as an operator does.
    pub async fn raise(&self, device: &str, kind: &str) -> Response {
        let body = json!({"hardware": device, "tipo_alarma": kind});
        self.post("/api/v1/alertas", None, &body).await.unwrap()
    }

    /// Hands in a message that must be taken as new; the alert that it made or repeated.
    pub async fn accepts(&self, message: &str) -> String {
        let answer = self.submit(message).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let reply = answer.json();
        assert_eq!(reply["estado"], "ACEPTADA");
        reply["alerta_id"].as_str().expect("an alert").to_owned()
    }

    /// How many alerts there are.
    pub async fn count_alerts(&self) -> usize {
        self.walk("/api/v1/alertas", "", 200).await.len()
    }

    /// Puts a kind of alert of the company `banco`; `more` goes over what is usual.
    pub async fn put_kind(&self, code: &str, more: Value) {
        let mut body = json!({"nombre": code, "prioridad": "media", "color": "GRIS"});
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        let path = format!("/api/v1/tipos_alarma/banco/{code}");
        self.changes(Method::PUT, &path, &body, 200).await;
    }
}

impl Device {
    /// Registers a `SENSOR` of the place that is there from the start, with a shared secret that
    /// Atalaya makes.
    pub async fn enrol_with_secret(client: &Client, name: &str) -> Self {
        register(client, "banco", "principal", name, "SENSOR").await;
        let path = format!("/api/v1/hardware/{name}/claves");
        let key = client
            .changes(Method::POST, &path, &json!({"alg": "HS256"}), 201)
            .await;
        let secret = BASE64_URL_SAFE_NO_PAD
            .decode(key["secreto"].as_str().expect("shown once"))
            .unwrap();
        Self {
            company: "banco".to_owned(),
            site: "principal".to_owned(),
            name: name.to_owned(),
            kid: key["kid"].as_str().unwrap().to_owned(),
            signing: Signing::Hs256(secret.try_into().expect("32 bytes")),
            seq: 0,
        }
    }
}

/// A field of each of some items, as text.
pub fn texts<'a>(items: &'a [Value], field: &str) -> Vec<&'a str> {
    items
        .iter()
        .map(|item| item[field].as_str().unwrap_or_else(|| panic!("{item}")))
        .collect()
}

/// The changes in an alert's history, oldest first.
pub fn changes(alert: &Value) -> Vec<&str> {
    let mut changes = texts(alert["historia"].as_array().unwrap(), "cambio");
    changes.reverse();
    changes
}
