//! The API over HTTP: one request, one answer or a reason why there is none.

use crate::config::ConfigError;
use crate::domain::token::Token;
use crate::tls;
use awc::error::{ConnectError, SendRequestError};
use awc::http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use awc::http::{Method, Uri};
use awc::{Client, Connector};
use bytes::Bytes;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The longest wait for one answer; a group commit takes milliseconds, a busy machine seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest wait for a connection: a server that is there accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read; an account or a problem document has a few hundred bytes.
const MAX_BODY: usize = 64 * 1024;

/// The variable that names the authority of an https server, where it is not one of the system's.
const CA_FILE: &str = "ATALAYA_CA_FILE";

/// Where the API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct BaseUrl(String);

impl BaseUrl {
    /// Parses `http://host[:port][/prefix]`, or `https://…`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|e| format!("{e}"))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => return Err("expected http://host:port or https://host:port".to_owned()),
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
pub(in crate::cli) struct Call {
    method: Method,
    /// Below `/api/v1`.
    pub(in crate::cli) path: String,
    key: Option<String>,
    content_type: &'static str,
    /// What is sent, if anything is.
    pub(in crate::cli) body: Option<Bytes>,
}

impl Call {
    /// A request without a body.
    fn bare(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            key: None,
            content_type: "application/json",
            body: None,
        }
    }

    /// Asks for `path`.
    pub(in crate::cli) fn get(path: impl Into<String>) -> Self {
        Self::bare(Method::GET, path.into())
    }

    /// Takes `path` away.
    pub(in crate::cli) fn delete(path: impl Into<String>) -> Self {
        Self::bare(Method::DELETE, path.into())
    }

    /// Changes `path` with a JSON `body`.
    pub(in crate::cli) fn change(method: Method, path: impl Into<String>, body: Bytes) -> Self {
        Self {
            body: Some(body),
            ..Self::bare(method, path.into())
        }
    }

    /// Sends a JSON `body` to `path`.
    pub(in crate::cli) fn post(path: impl Into<String>, body: Bytes) -> Self {
        Self {
            body: Some(body),
            ..Self::bare(Method::POST, path.into())
        }
    }

    /// The same request with another form of body.
    pub(in crate::cli) fn of_type(self, content_type: &'static str) -> Self {
        Self {
            content_type,
            ..self
        }
    }

    /// The same request under an idempotency key.
    pub(in crate::cli) fn under(self, key: String) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Answer {
    /// The HTTP status.
    pub(in crate::cli) status: u16,
    /// Whether the server says that it had decided this earlier.
    pub(in crate::cli) replayed: bool,
    /// When to come back, if the server says so.
    pub(in crate::cli) retry_after: Option<Duration>,
    /// The body.
    pub(in crate::cli) body: Bytes,
}

/// Why and when to ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Again {
    /// Not before this, if the server says so.
    pub(in crate::cli) after: Option<Duration>,
    /// Why, for people.
    pub(in crate::cli) reason: String,
    /// Whether the server may have done it all the same, its answer lost.
    pub(in crate::cli) perhaps_done: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::cli) enum Failure {
    /// The network or the server; it may pass.
    Passing(Again),
    /// The request cannot be made at all.
    Lasting(String),
}

/// A client of one server, with its connections.
pub(in crate::cli) struct Api {
    client: Client,
    base: BaseUrl,
    token: Option<Token>,
}

impl Api {
    /// A client of the server at `base` with at most `connections` connections, which shows `token`.
    ///
    /// # Errors
    /// Where the authority of an https server cannot be read: the file that `ATALAYA_CA_FILE`
    /// names, or the system's.
    pub(in crate::cli) fn new(
        base: BaseUrl,
        connections: usize,
        token: Option<Token>,
    ) -> Result<Self, ConfigError> {
        let connector = Connector::new().limit(connections).timeout(CONNECT_TIMEOUT);
        let connector = if base.0.starts_with("https:") {
            let ca = std::env::var_os(CA_FILE).filter(|path| !path.is_empty());
            let ca = ca.map(PathBuf::from);
            let tls = tls::client(ca.as_deref().map(|path| (CA_FILE, path)), None)?;
            connector.rustls_0_23(tls.0)
        } else {
            connector
        };
        let client = Client::builder()
            .connector(connector)
            .timeout(REQUEST_TIMEOUT)
            // A redirected POST is repeated elsewhere, perhaps as a GET: better to stop and say so.
            .disable_redirects()
            .finish();
        Ok(Self {
            client,
            base,
            token,
        })
    }

    /// Sends `call` once.
    ///
    /// # Errors
    /// [`Failure`] where no whole answer came back.
    pub(in crate::cli) async fn send(&self, call: &Call) -> Result<Answer, Failure> {
        let address = format!("{}/api/v1{}", self.base, call.path);
        let mut request = self.client.request(call.method.clone(), address);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        if let Some(key) = &call.key {
            request = request.insert_header(("Idempotency-Key", key.as_str()));
        }
        let sending = match &call.body {
            Some(body) => request
                .insert_header((CONTENT_TYPE, call.content_type))
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
        Ok(Answer {
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
    fn addresses_are_those_of_http() {
        let base = BaseUrl::parse("http://127.0.0.1:5001/").unwrap();
        assert_eq!(base.to_string(), "http://127.0.0.1:5001");
        assert!(BaseUrl::parse("https://example.com").is_ok());
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
}
