//! `/api/hardware-auth` and `/api/mqtt-alerts`: alert clients from before Atalaya. What goes wrong is
//! told in their words too.

use super::Bridge;
use crate::desk::Desk;
use crate::domain::AlertChange;
use crate::domain::token::Token;
use crate::http::answer::{ApiError, respond, respond_taken};
use crate::http::extract::{JsonBody, ObjectBody, Visitor};
use crate::http::identify::bearer;
use crate::wire::bridge_alerts::{AuthenticateBody, Bad, split_token};
use crate::wire::events::json;
use crate::wire::{Problem, ProblemKind, Reason};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, Route, web};
use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;

/// What all addresses of these clients start with.
const STARTS: [&str; 2] = ["/api/hardware-auth/", "/api/mqtt-alerts"];

/// Where devices show their own token, or their secret: nobody else's token is looked at.
const OF_DEVICES: [&str; 3] = [
    "/api/hardware-auth/authenticate",
    "/api/mqtt-alerts",
    "/api/mqtt-alerts/process",
];

/// Whether a path is one of these addresses.
pub(in crate::http) fn is_for(path: &str) -> bool {
    STARTS.iter().any(|start| path.starts_with(start))
}

/// Whether a device shows its own token here.
pub(in crate::http) fn is_of_devices(method: &str, path: &str) -> bool {
    method == "POST" && OF_DEVICES.contains(&path)
}

/// The handlers of these addresses.
pub(in crate::http) fn route(method: &str, path: &str) -> Option<Route> {
    Some(match (method, path) {
        ("POST", "/api/hardware-auth/authenticate") => web::post().to(authenticate),
        ("POST", "/api/mqtt-alerts" | "/api/mqtt-alerts/process") => web::post().to(take),
        ("GET", "/api/mqtt-alerts") => web::get().to(list),
        ("GET", "/api/mqtt-alerts/verify-hardware") => web::get().to(verify_device),
        ("GET", "/api/mqtt-alerts/verify-empresa-sede") => web::get().to(verify_place),
        ("PATCH", "/api/mqtt-alerts/{id}/authorize") => web::patch().to(authorize),
        ("PATCH", "/api/mqtt-alerts/{id}/toggle-status") => web::patch().to(toggle),
        _ => return None,
    })
}

/// Gives a device a token for its secret.
async fn authenticate(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<AuthenticateBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.let_device_in(body, visitor.caller.address).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Takes an alert of the device whose token stands in `Authorization`, or in the body.
async fn take(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
    ObjectBody(body): ObjectBody,
) -> Result<HttpResponse, ApiError> {
    let refuse = |problem: Problem| ApiError::new(&request, problem);
    let (in_body, message) = split_token(&body).map_err(|error| {
        let reason = Reason::technical(error);
        refuse(Problem::of(ProblemKind::MalformedBody).because(reason))
    })?;
    let shown = bearer(request.headers()).and_then(|text| Token::parse(text).ok());
    let token = shown.or(in_body);
    let token = token.ok_or_else(|| refuse(ProblemKind::Unauthenticated.into()))?;
    let answer = desk
        .take_legacy_alert(&visitor.caller, token, message)
        .await;
    respond_taken(visitor.language, answer)
}

/// The query as it comes: what these clients send besides is passed over.
fn query(request: &HttpRequest) -> HashMap<String, String> {
    let pairs = web::Query::<HashMap<String, String>>::from_query(request.query_string());
    pairs.map(web::Query::into_inner).unwrap_or_default()
}

/// The parameter called `name`, which must be there.
fn needed(request: &HttpRequest, name: &str) -> Result<String, ApiError> {
    let found = query(request).remove(name).filter(|text| !text.is_empty());
    found.ok_or_else(|| {
        let reason = Reason::from(("falta", "it is missing")).about(name);
        let problem = Problem::of(ProblemKind::InvalidParameter).because(reason);
        ApiError::new(request, problem)
    })
}

/// Lists alerts by the page.
async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let query = query(&request);
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    let answer = desk.page_alerts(&visitor.caller, text("page"), text("limit"));
    respond(StatusCode::OK, visitor.language, answer.await)
}

/// Says whether a device is there.
async fn verify_device(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let device = needed(&request, "hardware_nombre")?;
    let answer = desk.check_device(&visitor.caller, &device);
    respond(StatusCode::OK, visitor.language, answer)
}

/// Says whether a company and its site are there.
async fn verify_place(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let company = needed(&request, "empresa_nombre")?;
    let site = needed(&request, "sede")?;
    let answer = desk.check_place(&visitor.caller, &company, &site);
    respond(StatusCode::OK, visitor.language, answer)
}

/// Acknowledges an alert.
async fn authorize(desk: web::Data<Desk>, visitor: Visitor) -> Result<HttpResponse, ApiError> {
    step(&desk, &visitor, AlertChange::Acknowledged).await
}

/// Resolves an alert that is open. One that is over stays so.
async fn toggle(desk: web::Data<Desk>, visitor: Visitor) -> Result<HttpResponse, ApiError> {
    step(&desk, &visitor, AlertChange::Resolved).await
}

async fn step(
    desk: &Desk,
    visitor: &Visitor,
    change: AlertChange,
) -> Result<HttpResponse, ApiError> {
    let id = visitor.param("id");
    let answer = desk.step_legacy_alert(&visitor.caller, id, change).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Tells what went wrong in the words that clients from before read.
pub(in crate::http) async fn in_their_words(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let is_theirs = request.app_data::<web::Data<Bridge>>().is_some() && is_for(request.path());
    let response = next.call(request).await?.map_into_boxed_body();
    if !is_theirs || response.status().as_u16() < 400 {
        return Ok(response);
    }
    Ok(response.map_body(|head, body| {
        let told = body.try_into_bytes().unwrap_or_default();
        let json_type = HeaderValue::from_static("application/json");
        head.headers_mut().insert(CONTENT_TYPE, json_type);
        BoxBody::new(in_short(head.status, &told))
    }))
}

/// A problem document, shortened.
fn in_short(status: StatusCode, document: &[u8]) -> Bytes {
    // Whatever of a device is wrong is told alike.
    if status == StatusCode::UNAUTHORIZED {
        return json(&Bad::new("No autorizado", None));
    }
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    let text = |field: &str| document.get(field).and_then(Value::as_str);
    let title = text("title").unwrap_or("Error");
    let detail = text("detail").filter(|detail| *detail != title);
    let reason = detail.map(|detail| detail.strip_prefix(title).unwrap_or(detail));
    let reason = reason.map(|reason| reason.trim_start_matches(": "));
    json(&Bad::new(title, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_told_in_short() {
        let told = |status: u16, document: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            String::from_utf8(in_short(status, document.as_bytes()).to_vec()).unwrap()
        };
        assert_eq!(
            told(422, r#"{"title":"Rechazada","detail":"Rechazada: TIPO"}"#),
            r#"{"success":false,"error":"Rechazada","detalles":"TIPO"}"#
        );
        assert_eq!(
            told(404, r#"{"title":"No existe","detail":"No existe"}"#),
            r#"{"success":false,"error":"No existe","detalles":null}"#
        );
        let unauthorised = r#"{"success":false,"error":"No autorizado","detalles":null}"#;
        assert_eq!(told(401, r#"{"title":"a","detail":"a: b"}"#), unauthorised);
        assert_eq!(told(401, ""), unauthorised);
        assert!(told(500, "not JSON").contains("\"Error\""));
    }
}
