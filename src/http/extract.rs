//! What handlers take from a request: who asks, and a JSON body that is what it should be.

use super::RouteTemplate;
use super::answer::{ApiError, language_of};
use super::identify::Visit;
use crate::desk::{AlertRequest, Caller};
use crate::wire::{Language, Problem, ProblemKind, Reason, requests};
use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::{LocalBoxFuture, Ready, ready};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::time::Duration;

/// The largest body.
const BODY_LIMIT: usize = 64 * 1024;

/// How long a body may take: 64 KiB in ten seconds is slower than any line in use.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Whoever asks.
pub(super) struct Visitor {
    pub(super) caller: Caller,
    pub(super) language: Language,
    /// The token of a page's cookie.
    pub(super) csrf: Option<String>,
    key: Option<String>,
    pub(super) account: String,
    request: HttpRequest,
}

impl Visitor {
    /// The idempotency key, if one was sent.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// What stands in the address for `name`; empty where it is no text.
    pub(super) fn param(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }
}

/// The query of a list: each name once, and none that the route does not know.
pub(super) struct Query(pub(super) HashMap<String, String>);

impl Query {
    /// The value of `name`; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl FromRequest for Query {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse_query(request).map_err(|problem| ApiError::new(request, problem)))
    }
}

fn parse_query(request: &HttpRequest) -> Result<Query, Problem> {
    let wrong = |reason: Reason| Problem::of(ProblemKind::InvalidParameter).because(reason);
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|error| wrong(Reason::technical(error.to_string())))?;
    let known = request
        .app_data::<RouteTemplate>()
        .map_or("", |route| route.0);
    let known = super::parameters_of(known);
    let mut query = HashMap::new();
    for (name, value) in pairs.into_inner() {
        if !known.contains(&name.as_str()) {
            let reason = (
                "no es un parámetro de esta dirección",
                "no parameter of this address",
            );
            return Err(wrong(Reason::from(reason).about(&name)));
        }
        if query.insert(name.clone(), value).is_some() {
            let reason = ("se repite", "it stands twice");
            return Err(wrong(Reason::from(reason).about(&name)));
        }
    }
    Ok(Query(query))
}

/// The body of `POST /alertas`: a signed message, which says what it is by its type
/// (`application/jose`, RFC 7515 §9.2.1), or JSON: an operator's alert, or a message as a text.
pub(super) struct AlertPayload(pub(super) AlertRequest);

impl FromRequest for AlertPayload {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            let types = ["application/jose", "application/json"];
            let body = read(&request, payload, &types).await;
            body.and_then(|body| alert_request(&body))
                .map(Self)
                .map_err(|problem| ApiError::new(&request, problem))
        })
    }
}

fn alert_request(body: &[u8]) -> Result<AlertRequest, Problem> {
    let malformed =
        |error: String| Problem::of(ProblemKind::MalformedBody).because(Reason::technical(error));
    let trimmed = body.trim_ascii();
    match trimmed.first() {
        Some(b'{') => {
            let alert = requests::object(trimmed).map_err(malformed)?;
            Ok(AlertRequest::ForDevice(alert))
        }
        Some(b'"') => {
            let text: String =
                serde_json::from_slice(trimmed).map_err(|error| malformed(error.to_string()))?;
            Ok(AlertRequest::Signed(text.into()))
        }
        _ => Ok(AlertRequest::Signed(Bytes::copy_from_slice(trimmed))),
    }
}

impl FromRequest for Visitor {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // A key that is not text is a key that is not valid, which the desk says. So are two keys,
        // which read as one with a blank in it (RFC 9110 §5.3).
        let keys = request.headers().get_all("Idempotency-Key");
        let key = keys
            .map(|value| value.to_str().unwrap_or("\u{fffd}").to_owned())
            .reduce(|first, second| format!("{first}, {second}"));
        // The middleware has seen every request before its handler.
        let visit = request.extensions().get::<Visit>().cloned();
        let Some(Visit { caller, csrf }) = visit else {
            return ready(Err(ApiError::new(request, ProblemKind::Internal)));
        };
        ready(Ok(Self {
            caller,
            csrf,
            language: language_of(request),
            key,
            account: request
                .match_info()
                .get("cedula")
                .unwrap_or_default()
                .to_owned(),
            request: request.clone(),
        }))
    }
}

/// A JSON body: declared as such, not too large, not too slow, and of the right form.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            let body = read(&request, payload, &["application/json"])
                .await
                .map_err(|p| ApiError::new(&request, p))?;
            requests::object(&body).map(Self).map_err(|error| {
                let reason = Reason::technical(error);
                let problem = Problem::of(ProblemKind::MalformedBody).because(reason);
                ApiError::new(&request, problem)
            })
        })
    }
}

/// A JSON body as it came, declared as such, not too large and not too slow.
pub(super) struct ObjectBody(pub(super) Bytes);

impl FromRequest for ObjectBody {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            let body = read(&request, payload, &["application/json"]).await;
            body.map(|body| Self(body.freeze()))
                .map_err(|problem| ApiError::new(&request, problem))
        })
    }
}

async fn read(
    request: &HttpRequest,
    mut payload: Payload,
    types: &[&str],
) -> Result<BytesMut, Problem> {
    let declared = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !declared.is_some_and(|declared| is_one_of(declared, types)) {
        return Err(ProblemKind::NotJson.into());
    }
    let reading = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::of(ProblemKind::MalformedBody)
                    .because(Reason::technical(error.to_string()))
            })?;
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(ProblemKind::TooLarge.into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    tokio::time::timeout(BODY_DEADLINE, reading)
        .await
        .unwrap_or_else(|_| Err(ProblemKind::Timeout.into()))
}

/// One of `types`, with any parameters. None of them can be declared by a form of a foreign page.
fn is_one_of(declared: &str, types: &[&str]) -> bool {
    let essence = declared.split(';').next().unwrap_or_default().trim();
    types.iter().any(|one| essence.eq_ignore_ascii_case(one))
}
