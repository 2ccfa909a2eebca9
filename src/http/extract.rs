//! What handlers take from a request: who asks, and a JSON body that is what it should be.

use super::answer::{ApiError, language_of};
use crate::desk::Caller;
use crate::domain::{Channel, Principal};
use crate::wire::{Language, Problem, ProblemKind, Reason, requests};
use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest};
use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::future::{LocalBoxFuture, Ready, ready};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The largest body.
const BODY_LIMIT: usize = 64 * 1024;

/// How long a body may take: 64 KiB in ten seconds is slower than any line in use.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Whoever asks.
pub(super) struct Visitor {
    pub(super) caller: Caller,
    pub(super) language: Language,
    key: Option<String>,
    pub(super) account: String,
}

impl Visitor {
    /// The idempotency key, if one was sent.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
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
        ready(Ok(Self {
            caller: Caller {
                principal: Principal::Local,
                channel: Channel::Http,
            },
            language: language_of(request),
            key,
            account: request
                .match_info()
                .get("cedula")
                .unwrap_or_default()
                .to_owned(),
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
            let body = read(&request, payload)
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

async fn read(request: &HttpRequest, mut payload: Payload) -> Result<BytesMut, Problem> {
    let declared = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !declared.is_some_and(is_json) {
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

/// `application/json`, with any parameters: a form of a foreign page cannot declare that.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
