//! From the desk's answers to HTTP, in one place.

use super::bridge;
use crate::desk::{Answer, Failure, Reply};
use crate::wire::{Language, Problem, ProblemKind};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ACCEPT_LANGUAGE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use std::fmt;

/// Seconds after which a client may try again: a group commit takes milliseconds.
const RETRY_AFTER: u32 = 1;

/// Marks the repeat of an earlier decision.
const REPLAYED: &str = "Idempotent-Replayed";

/// A failure in the language of whoever asked.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) failure: Failure,
    pub(super) language: Language,
    /// Whether the front end from before Atalaya asked, which reads another form.
    is_bridged: bool,
}

impl ApiError {
    pub(super) fn new(request: &HttpRequest, failure: impl Into<Failure>) -> Self {
        Self {
            failure: failure.into(),
            language: language_of(request),
            is_bridged: bridge::asked(request).is_some() && !bridge::alerts::is_for(request.path()),
        }
    }

    pub(super) fn in_language(failure: Failure, language: Language) -> Self {
        Self {
            failure,
            language,
            is_bridged: false,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.failure.problem.kind.code())
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.failure.problem.kind.status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let problem = &self.failure.problem;
        let mut response = HttpResponse::build(self.status_code());
        response.content_type(if self.is_bridged {
            "application/json"
        } else {
            "application/problem+json"
        });
        if problem.kind.is_transient() {
            let seconds = problem.retry_after.unwrap_or(RETRY_AFTER);
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if self.status_code() == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"atalaya\""));
        }
        if self.failure.replayed {
            response.insert_header((REPLAYED, "true"));
        }
        let body = if self.is_bridged {
            bridge::turned_away(problem)
        } else {
            crate::wire::events::json(&problem.document(self.language))
        };
        let mut response = response.body(body);
        // For the middleware that counts problems by code.
        response.extensions_mut().insert(problem.kind);
        response
    }
}

/// The response to a good answer, or the error to a bad one.
pub(super) fn respond(
    status: StatusCode,
    language: Language,
    answer: Answer,
) -> Result<HttpResponse, ApiError> {
    let reply = answer.map_err(|failure| ApiError::in_language(failure, language))?;
    let mut response = HttpResponse::build(status);
    response.content_type("application/json");
    if reply.replayed {
        response.insert_header((REPLAYED, "true"));
    }
    Ok(response.body(reply.body))
}

/// The response to what is done and has nothing to show.
pub(super) fn respond_done(
    language: Language,
    done: Result<(), Failure>,
) -> Result<HttpResponse, ApiError> {
    done.map_err(|failure| ApiError::in_language(failure, language))?;
    Ok(HttpResponse::NoContent().finish())
}

/// The response to an alert: 201 where it is new, 200 where it is one that was taken before.
pub(super) fn respond_taken(
    language: Language,
    answer: Result<(Reply, bool), Failure>,
) -> Result<HttpResponse, ApiError> {
    let (answer, is_new) = match answer {
        Ok((reply, is_new)) => (Ok(reply), is_new),
        Err(failure) => (Err(failure), false),
    };
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    respond(status, language, answer)
}

/// The language in which whoever asks reads.
pub(super) fn language_of(request: &HttpRequest) -> Language {
    let header = request
        .headers()
        .get(ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok());
    Language::from_header(header.unwrap_or_default())
}

pub(super) async fn not_found(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(&request, Problem::of(ProblemKind::NotFound)))
}

/// 405, which must name the methods that the address does take (RFC 9110 §15.5.6).
pub(super) async fn method_not_allowed(
    request: HttpRequest,
    allowed: &'static [&'static str],
) -> HttpResponse {
    let error = ApiError::new(&request, ProblemKind::MethodNotAllowed);
    let mut response = error.error_response();
    if let Ok(methods) = HeaderValue::from_str(&allowed.join(", ")) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}
