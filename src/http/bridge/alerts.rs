//! The alert interface from before Atalaya: devices that show a secret, and the people who looked
//! after their alerts there.

use super::done;
use crate::desk::legacy::TOKEN_SECONDS;
use crate::desk::{Answer, Desk, Failure, alert_resource};
use crate::domain::AlertChange;
use crate::http::answer::ApiError;
use crate::http::extract::{JsonBody, RawJson, Visitor};
use crate::wire::alerts::Outcome;
use crate::wire::bridge_alerts::{
    Address, Authenticated, AuthenticationBody, Message, Taken, good, page,
};
use crate::wire::registry::StepBody;
use crate::wire::{Problem, ProblemKind, Reason};
use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Alerts on a page where nothing is said.
const PAGE: i64 = 20;

type Handled = Result<HttpResponse, ApiError>;

pub(in crate::http) async fn authenticate(
    desk: web::Data<Desk>,
    request: HttpRequest,
    JsonBody(body): JsonBody<AuthenticationBody>,
) -> Handled {
    let let_in = desk.let_device_in(&body);
    let let_in = let_in.map_err(|failure| ApiError::new(&request, failure))?;
    Ok(done(good(&Authenticated {
        token: let_in.token.reveal(),
        expires_in: TOKEN_SECONDS,
        hardware: Address {
            nombre: let_in.address.device.as_str(),
            empresa: let_in.address.company.as_str(),
            sede: let_in.address.site.as_str(),
        },
    })))
}

pub(in crate::http) async fn take(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
    RawJson(body): RawJson,
) -> Handled {
    let failed = |failure: Failure| ApiError::new(&request, failure);
    let message = Message::parse(&body).map_err(|error| {
        let reason = Reason::technical(error.to_string());
        failed(
            Problem::of(ProblemKind::MalformedBody)
                .because(reason)
                .into(),
        )
    })?;
    let header = request.headers().get(AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let shown = header.and_then(|text| text.strip_prefix("Bearer ").map(str::trim));
    let secret = shown.or(message.token.as_deref());
    let secret = secret.ok_or_else(|| failed(ProblemKind::Unauthenticated.into()))?;
    let digest = Sha256::digest(&body).into();
    let taken = desk.take_legacy_alert(&visitor.caller, secret, &message, digest);
    let taken = taken.await.map_err(failed)?;
    let (alert, outcome, status) = if taken.is_repeat {
        (taken.alert, Outcome::Duplicate, StatusCode::OK)
    } else {
        (taken.alert, Outcome::Accepted, StatusCode::CREATED)
    };
    let data = Taken {
        id: alert.id,
        estado: outcome.name(),
        tipo_alarma: &alert.kind,
        prioridad: alert.priority.name(),
    };
    let mut response = HttpResponse::build(status);
    Ok(response.content_type("application/json").body(good(&data)))
}

/// The query as it comes: what the old clients send besides is let be.
fn query(request: &HttpRequest) -> HashMap<String, String> {
    let pairs = web::Query::<HashMap<String, String>>::from_query(request.query_string());
    pairs.map(web::Query::into_inner).unwrap_or_default()
}

fn asked<'a>(query: &'a HashMap<String, String>, name: &str) -> Result<&'a str, Failure> {
    let value = query.get(name).map(String::as_str);
    value.filter(|value| !value.is_empty()).ok_or_else(|| {
        let reason = Reason::from(("falta", "it is missing")).about(name);
        Problem::of(ProblemKind::InvalidParameter)
            .because(reason)
            .into()
    })
}

pub(in crate::http) async fn verify_device(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Handled {
    let query = query(&request);
    let verified =
        asked(&query, "hardware_nombre").and_then(|name| desk.verify_device(&visitor.caller, name));
    let verified = verified.map_err(|failure| ApiError::new(&request, failure))?;
    Ok(done(good(&verified)))
}

pub(in crate::http) async fn verify_site(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Handled {
    let query = query(&request);
    let verified = asked(&query, "empresa_nombre").and_then(|company| {
        let site = asked(&query, "sede")?;
        desk.verify_site(&visitor.caller, company, site)
    });
    let verified = verified.map_err(|failure| ApiError::new(&request, failure))?;
    Ok(done(good(&verified)))
}

pub(in crate::http) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Handled {
    let query = query(&request);
    let number = |name: &str, otherwise: i64| match query.get(name) {
        // What is no number is no page, which the desk says.
        Some(text) => text.parse().unwrap_or(0),
        None => otherwise,
    };
    let (number, limit) = (number("page", 1), number("limit", PAGE));
    let found = desk.page_of_alerts(&visitor.caller, number, limit).await;
    let (found, pagination) = found.map_err(|failure| ApiError::new(&request, failure))?;
    let shown: Vec<_> = found.into_iter().map(alert_resource).collect();
    Ok(done(page(&shown, pagination)))
}

/// An alert that is authorised is one that somebody has seen.
pub(in crate::http) async fn acknowledge(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Handled {
    let (caller, id, seen) = (
        &visitor.caller,
        visitor.param("id"),
        AlertChange::Acknowledged,
    );
    let answer = desk
        .step_alert(caller, id, seen, &StepBody::default())
        .await;
    stepped(&request, answer)
}

/// The status of an alert goes one way: from open to resolved.
pub(in crate::http) async fn resolve(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Handled {
    let answer = desk
        .resolve_open(&visitor.caller, visitor.param("id"))
        .await;
    stepped(&request, answer)
}

fn stepped(request: &HttpRequest, answer: Answer) -> Handled {
    let reply = answer.map_err(|failure| ApiError::new(request, failure))?;
    let alert: Box<RawValue> = serde_json::from_slice(&reply.body)
        .map_err(|_| ApiError::new(request, ProblemKind::Internal))?;
    Ok(done(good(&alert)))
}
