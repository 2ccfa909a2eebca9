//! `/api/hardware-auth` and `/api/mqtt-alerts`: alert clients from before Atalaya.

use crate::desk::Desk;
use crate::domain::AlertChange;
use crate::domain::token::Token;
use crate::http::answer::{ApiError, respond, respond_taken};
use crate::http::extract::{JsonBody, ObjectBody, Query, Visitor};
use crate::http::identify::bearer;
use crate::wire::bridge_alerts::{AuthenticateBody, split_token};
use crate::wire::{Problem, ProblemKind, Reason};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

/// Gives a device a token for its secret.
pub(in crate::http) async fn authenticate(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<AuthenticateBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.let_device_in(body, visitor.caller.address).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Takes an alert of the device whose token stands in `Authorization`, or in the body.
pub(in crate::http) async fn take(
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

/// Lists alerts by the page.
pub(in crate::http) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let (page, limit) = (query.text("page"), query.text("limit"));
    let answer = desk.page_alerts(&visitor.caller, page, limit).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Says whether a device is there.
pub(in crate::http) async fn verify_device(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.check_device(&visitor.caller, query.text("hardware_nombre"));
    respond(StatusCode::OK, visitor.language, answer)
}

/// Says whether a company and its site are there.
pub(in crate::http) async fn verify_place(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let (company, site) = (query.text("empresa_nombre"), query.text("sede"));
    let answer = desk.check_place(&visitor.caller, company, site);
    respond(StatusCode::OK, visitor.language, answer)
}

/// Acknowledges an alert.
pub(in crate::http) async fn authorize(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    step(&desk, &visitor, AlertChange::Acknowledged).await
}

/// Resolves an alert that is open. One that is over stays so.
pub(in crate::http) async fn toggle(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
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
