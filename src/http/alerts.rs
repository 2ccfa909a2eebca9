//! `/api/v1/alertas`: devices' messages, operators' alerts, and the steps of their lives.

use super::answer::{ApiError, respond, respond_taken};
use super::extract::{AlertPayload, JsonBody, Query, Visitor};
use super::openapi::Problems;
use crate::desk::{AlertQuery, Desk};
use crate::domain::AlertChange;
use crate::wire::alerts::{AlertDetail, AlertResource, ReplyBody, ValidationResource};
use crate::wire::registry::{AlertBody, StepBody};
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Recibe una alerta: el mensaje firmado de un hardware (`application/jose`), o la de un operador
/// que actúa por él (`application/json`).
#[utoipa::path(
    post, path = "/api/v1/alertas", tag = "alertas", operation_id = "enviarAlerta",
    request_body(content((AlertBody = "application/json"), (String = "application/jose"))),
    responses(
        (status = 201, description = "Taken: of a device `ACEPTADA`, of an operator the alert", body = TakenAlert),
        (status = 200, description = "Taken before: of a device `DUPLICADA`, of an operator the open alert that it repeats", body = TakenAlert),
        Problems
    )
)]
pub(super) async fn take(
    desk: web::Data<Desk>,
    visitor: Visitor,
    AlertPayload(request): AlertPayload,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.take_alert(&visitor.caller, request).await;
    respond_taken(visitor.language, answer)
}

/// Lo que se responde a una alerta.
#[derive(utoipa::ToSchema)]
#[schema(title = "AlertaRecibida")]
#[allow(dead_code, reason = "describes JSON for the document; never built")]
#[serde(untagged)]
pub(super) enum TakenAlert {
    /// To a device.
    Reply(ReplyBody),
    /// To an operator.
    Alert(AlertResource),
}

/// Dice qué pasaría con una alerta, sin efecto.
#[utoipa::path(
    post, path = "/api/v1/alertas/validacion", tag = "alertas", operation_id = "validarAlerta",
    request_body(content((AlertBody = "application/json"), (String = "application/jose"))),
    responses((status = 200, description = "The verdict", body = ValidationResource), Problems)
)]
pub(super) async fn validate(
    desk: web::Data<Desk>,
    visitor: Visitor,
    AlertPayload(request): AlertPayload,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.validate_alert(&visitor.caller, request).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lista las alertas, de la más nueva a la más antigua.
#[utoipa::path(
    get, path = "/api/v1/alertas", tag = "alertas", operation_id = "listarAlertas",
    params(
        ("empresa" = Option<String>, Query, description = "Of this company"),
        ("sede" = Option<String>, Query, description = "At this site"),
        ("hardware" = Option<String>, Query, description = "Of this device"),
        ("estado" = Option<String>, Query, description = "In these states, comma-separated"),
        ("tipo_alarma" = Option<String>, Query, description = "Of this kind"),
        ("prioridad" = Option<String>, Query, description = "`critica`, `alta`, `media` or `baja`"),
        ("desde" = Option<String>, Query, description = "Raised at this moment (RFC 3339) or later"),
        ("hasta" = Option<String>, Query, description = "Raised before this moment"),
        ("abiertas" = Option<bool>, Query, description = "Only those that are not over"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<AlertResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.list_alerts(&visitor.caller, wanted(&query)).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lee una alerta con su historia, del paso más nuevo al más antiguo.
#[utoipa::path(
    get, path = "/api/v1/alertas/{id}", tag = "alertas", operation_id = "leerAlerta",
    params(
        ("id" = String, Path, description = "Names it"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "The alert and a page of its history", body = AlertDetail), Problems)
)]
pub(super) async fn show(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .show_alert(
            &visitor.caller,
            visitor.param("id"),
            query.text("limite"),
            query.text("cursor"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Reconoce una alerta: alguien se ocupa.
#[utoipa::path(
    post, path = "/api/v1/alertas/{id}/reconocer", tag = "alertas", operation_id = "reconocerAlerta",
    request_body = StepBody,
    params(
        ("id" = String, Path, description = "Names it"),
    ),
    responses((status = 200, description = "The alert", body = AlertResource), Problems)
)]
pub(super) async fn acknowledge(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<StepBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .step_alert(
            &visitor.caller,
            visitor.param("id"),
            AlertChange::Acknowledged,
            &body,
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Resuelve una alerta: pasó.
#[utoipa::path(
    post, path = "/api/v1/alertas/{id}/resolver", tag = "alertas", operation_id = "resolverAlerta",
    request_body = StepBody,
    params(
        ("id" = String, Path, description = "Names it"),
    ),
    responses((status = 200, description = "The alert", body = AlertResource), Problems)
)]
pub(super) async fn resolve(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<StepBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .step_alert(
            &visitor.caller,
            visitor.param("id"),
            AlertChange::Resolved,
            &body,
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Descarta una alerta: era falsa alarma, con un motivo.
#[utoipa::path(
    post, path = "/api/v1/alertas/{id}/descartar", tag = "alertas", operation_id = "descartarAlerta",
    request_body = StepBody,
    params(
        ("id" = String, Path, description = "Names it"),
    ),
    responses((status = 200, description = "The alert", body = AlertResource), Problems)
)]
pub(super) async fn discard(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<StepBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .step_alert(
            &visitor.caller,
            visitor.param("id"),
            AlertChange::Discarded,
            &body,
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

fn wanted(query: &Query) -> AlertQuery {
    let text = |name| query.text(name).to_owned();
    AlertQuery {
        empresa: text("empresa"),
        sede: text("sede"),
        hardware: text("hardware"),
        estado: text("estado"),
        tipo_alarma: text("tipo_alarma"),
        prioridad: text("prioridad"),
        desde: text("desde"),
        hasta: text("hasta"),
        abiertas: text("abiertas"),
        limite: text("limite"),
        cursor: text("cursor"),
    }
}
