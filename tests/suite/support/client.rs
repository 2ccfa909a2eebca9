//! A client of the REST API.

use super::access;
use atalaya::wire::ProblemKind;
use awc::error::SendRequestError;
use serde_json::{Value, json};
use std::time::Duration;

/// Talks to one Atalaya. Each request has a connection of its own unless the pool has one.
#[derive(Clone)]
pub struct Client {
    http: awc::Client,
    base: String,
    who: Who,
}

/// Whose token a client shows.
#[derive(Clone)]
enum Who {
    /// That of the tests, which may do everything.
    Tests,
    /// None.
    Nobody,
    /// This one.
    Token(String),
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: awc::http::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The `codigo` of a problem document, which must be one of those that we promise.
    pub fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let document = self.json();
        let code = document["codigo"].as_str().expect("codigo").to_owned();
        let known = |kind: &&ProblemKind| kind.code() == code && kind.status() == self.status;
        assert!(ProblemKind::ALL.iter().any(|kind| known(&kind)), "{self:?}");
        assert_eq!(document["status"], self.status, "{self:?}");
        code
    }

    pub fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }
}

impl Client {
    pub fn new(base: String) -> Self {
        let http = awc::Client::builder()
            .timeout(Duration::from_secs(20))
            .connector(awc::Connector::new().limit(2_000))
            .finish();
        Self {
            http,
            base,
            who: Who::Tests,
        }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same client without a token.
    pub fn anonymous(&self) -> Self {
        Self {
            who: Who::Nobody,
            ..self.clone()
        }
    }

    /// The same client with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            who: Who::Token(token.to_owned()),
            ..self.clone()
        }
    }

    /// A request to be shaped by the test.
    pub fn request(&self, method: awc::http::Method, path: &str) -> awc::ClientRequest {
        let token = match &self.who {
            Who::Tests => access::token_for(self.port(), method.as_str(), path),
            Who::Nobody => None,
            Who::Token(token) => Some(token.clone()),
        };
        let request = self.http.request(method, format!("{}{path}", self.base));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// The token that was given to it.
    pub fn token(&self) -> String {
        match &self.who {
            Who::Token(token) => token.clone(),
            Who::Tests | Who::Nobody => panic!("it has no token of its own"),
        }
    }

    fn port(&self) -> u16 {
        let port = self.base.rsplit(':').next();
        port.and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    pub async fn get(&self, path: &str) -> Result<Response, SendRequestError> {
        finish(self.request(awc::http::Method::GET, path).send()).await
    }

    /// Posts raw bytes as JSON.
    pub async fn post_raw(
        &self,
        path: &str,
        key: Option<&str>,
        body: impl Into<Vec<u8>>,
    ) -> Result<Response, SendRequestError> {
        let mut request = self
            .request(awc::http::Method::POST, path)
            .insert_header(("content-type", "application/json"));
        if let Some(key) = key {
            request = request.insert_header(("Idempotency-Key", key));
        }
        finish(request.send_body(body.into())).await
    }

    pub async fn post(
        &self,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Response, SendRequestError> {
        self.post_raw(path, key, body.to_string()).await
    }

    /// Opens an account; it must succeed.
    pub async fn open(&self, account: &str) {
        let body = json!({"cedula": account, "nombres": "Ana", "apellidos": "Vera"});
        let response = self.post("/api/v1/cuentas", None, &body).await.unwrap();
        assert_eq!(response.status, 201, "{}", response.text());
    }

    /// Opens an account with money in it.
    pub async fn open_with(&self, account: &str, amount: &str) {
        self.open(account).await;
        let response = self
            .deposit(account, amount, &format!("start-{account}"))
            .await;
        assert_eq!(response.status, 201, "{}", response.text());
    }

    pub async fn deposit(&self, account: &str, amount: &str, key: &str) -> Response {
        let path = format!("/api/v1/cuentas/{account}/depositos");
        self.post(&path, Some(key), &json!({ "monto": amount }))
            .await
            .unwrap()
    }

    pub async fn withdraw(&self, account: &str, amount: &str, key: &str) -> Response {
        let path = format!("/api/v1/cuentas/{account}/retiros");
        self.post(&path, Some(key), &json!({ "monto": amount }))
            .await
            .unwrap()
    }

    pub async fn transfer(&self, from: &str, to: &str, amount: &str, key: &str) -> Response {
        let body = json!({"cedula_origen": from, "cedula_destino": to, "monto": amount});
        self.post("/api/v1/transferencias", Some(key), &body)
            .await
            .unwrap()
    }

    /// The balance as the wire writes it, such as `150.00`.
    pub async fn balance(&self, account: &str) -> String {
        let response = self
            .get(&format!("/api/v1/cuentas/{account}"))
            .await
            .unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        raw_field(&response.text(), "saldo")
    }

    pub async fn version(&self, account: &str) -> i64 {
        let response = self
            .get(&format!("/api/v1/cuentas/{account}"))
            .await
            .unwrap();
        response.json()["version"].as_i64().expect("version")
    }
}

/// The text of a field as it stands in the JSON, so that `150.00` is not `150.0`.
pub fn raw_field(json: &str, field: &str) -> String {
    let start = json.find(&format!("\"{field}\":")).expect(field) + field.len() + 3;
    json[start..]
        .split([',', '}'])
        .next()
        .expect("a value")
        .to_owned()
}

/// The response to a request that the test has shaped.
pub async fn finish(sent: awc::SendClientRequest) -> Result<Response, SendRequestError> {
    let mut response = sent.await?;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = response
        .body()
        .limit(64 << 20)
        .await
        .map(|body| body.to_vec())
        .unwrap_or_default();
    Ok(Response {
        status,
        headers,
        body,
    })
}
