//! The API over HTTP: one request, one answer or a reason why there is none.

use super::plan::Movement;
use super::verdict::{Again, Reply};
use crate::domain::{AccountId, PostingKind};
use crate::wire::events::json;
use crate::wire::numbers::Decimal;
use awc::error::{ConnectError, SendRequestError};
use awc::http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use awc::http::{Method, Uri, Version};
use awc::{Client, Connector};
use bytes::Bytes;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The longest wait for one answer; a group commit takes milliseconds, a busy machine seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest wait for a connection: a server that is there accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read; an account or a problem document has a few hundred bytes.
const MAX_BODY: usize = 64 * 1024;

/// Given names of accounts that an import opens. The file has no names, the API wants some: with
/// the cédula as surnames, people can tell these accounts apart until somebody names them.
const GIVEN_NAMES: &str = "Titular";

/// Where the API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseUrl(String);

impl BaseUrl {
    /// Parses `http://host[:port][/prefix]`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|e| format!("{e}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err("https is not supported yet; use http on a trusted network".to_owned());
            }
            _ => return Err("expected http://host:port".to_owned()),
        }
        if uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err("expected http://host:port".to_owned());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One request, which may be sent as often as it takes.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    path: String,
    key: Option<String>,
    body: Option<Bytes>,
}

#[derive(Serialize)]
struct OpeningBody<'a> {
    cedula: &'a str,
    nombres: &'a str,
    apellidos: &'a str,
}

#[derive(Serialize)]
struct MovementBody<'a> {
    monto: Decimal,
    // The day it happened marks it as history, so that nobody is notified of it.
    fecha_valor: &'a str,
}

impl Call {
    /// Opens `account`.
    pub(super) fn open(account: &AccountId) -> Self {
        let cedula = account.as_str();
        let body = json(&OpeningBody {
            cedula,
            nombres: GIVEN_NAMES,
            apellidos: cedula,
        });
        Self {
            method: Method::POST,
            path: "/cuentas".to_owned(),
            key: None,
            body: Some(body),
        }
    }

    /// Posts `movement` to `account`.
    pub(super) fn post(account: &AccountId, movement: &Movement) -> Self {
        let resource = match movement.kind {
            PostingKind::Withdrawal => "retiros",
            _ => "depositos",
        };
        let (monto, date) = (Decimal(movement.amount.money()), movement.date());
        Self {
            method: Method::POST,
            path: format!("/cuentas/{account}/{resource}"),
            key: Some(movement.key(account)),
            body: Some(json(&MovementBody {
                monto,
                fecha_valor: &date,
            })),
        }
    }

    /// Asks for `account`.
    pub(super) fn read(account: &AccountId) -> Self {
        let path = format!("/cuentas/{account}");
        Self {
            method: Method::GET,
            path,
            key: None,
            body: None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The network or the server; it may pass.
    Passing(Again),
    /// The request cannot be made at all.
    Lasting(String),
}

/// A client of one server, with its connections.
pub(super) struct Api {
    client: Client,
    base: BaseUrl,
}

impl Api {
    /// A client of the server at `base` with at most `connections` connections.
    pub(super) fn new(base: BaseUrl, connections: usize) -> Self {
        let connector = Connector::new().limit(connections).timeout(CONNECT_TIMEOUT);
        let client = Client::builder()
            .connector(connector)
            .max_http_version(Version::HTTP_11)
            .timeout(REQUEST_TIMEOUT)
            // A redirected POST is repeated elsewhere, perhaps as a GET: better to stop and say so.
            .disable_redirects()
            .finish();
        Self { client, base }
    }

    /// Sends `call` once.
    ///
    /// # Errors
    /// [`Failure`] where no whole answer came back.
    pub(super) async fn send(&self, call: &Call) -> Result<Reply, Failure> {
        let address = format!("{}/api/v1{}", self.base, call.path);
        let mut request = self.client.request(call.method.clone(), address);
        if let Some(key) = &call.key {
            request = request.insert_header(("Idempotency-Key", key.as_str()));
        }
        let sending = match &call.body {
            Some(body) => request
                .insert_header((CONTENT_TYPE, "application/json"))
                .send_body(body.clone()),
            None => request.send(),
        };
        let mut response = sending.await.map_err(|e| failure(&e))?;
        let body = response
            .body()
            .limit(MAX_BODY)
            .await
            .map_err(|e| perhaps_done(&e))?;
        let headers = response.headers();
        Ok(Reply {
            status: response.status().as_u16(),
            replayed: header(headers, "idempotent-replayed") == Some("true"),
            retry_after: header(headers, RETRY_AFTER.as_str())
                .and_then(|seconds| seconds.parse().ok())
                .map(Duration::from_secs),
            body,
        })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn failure(error: &SendRequestError) -> Failure {
    match error {
        SendRequestError::Url(_)
        | SendRequestError::Http(_)
        | SendRequestError::TunnelNotSupported
        | SendRequestError::Connect(ConnectError::SslIsNotSupported) => {
            Failure::Lasting(error.to_string())
        }
        // Said of a connection that was reused and closed before the answer came.
        SendRequestError::Connect(ConnectError::Disconnected) => perhaps_done(error),
        SendRequestError::Connect(_) => Failure::Passing(Again {
            after: None,
            reason: error.to_string(),
            perhaps_done: false,
        }),
        _ => perhaps_done(error),
    }
}

/// The request may have arrived, and its answer was lost.
fn perhaps_done(error: &impl fmt::Display) -> Failure {
    Failure::Passing(Again {
        after: None,
        reason: error.to_string(),
        perhaps_done: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain_http() {
        let base = BaseUrl::parse("http://127.0.0.1:5001/").unwrap();
        assert_eq!(base.to_string(), "http://127.0.0.1:5001");
        assert!(
            BaseUrl::parse("https://example.com")
                .unwrap_err()
                .contains("https")
        );
        for text in [
            "",
            "127.0.0.1:5001",
            "ftp://x",
            "http://",
            "http://x?y=1",
            "/api",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_movement_is_a_number_and_a_day() {
        let plan = super::super::plan::read(
            "cedula,fecha,tipo,monto\n07,1995-04-19,RETIRO,200.5\n".as_bytes(),
        );
        let account = &plan.unwrap().accounts[0];
        let call = Call::post(&account.id, &account.movements[0]);
        assert_eq!(call.path, "/cuentas/07/retiros");
        assert_eq!(
            call.body.unwrap(),
            r#"{"monto":200.50,"fecha_valor":"1995-04-19"}"#
        );
        let opening = Call::open(&account.id).body.unwrap();
        assert_eq!(
            opening,
            r#"{"cedula":"07","nombres":"Titular","apellidos":"07"}"#
        );
    }
}
