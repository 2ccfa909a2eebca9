//! `/api/v1/reglas`.

use super::answer::{ApiError, respond};
use super::extract::{JsonBody, Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::wire::alerts::TrialsResource;
use crate::wire::registry::{RuleBody, RulePatch, RuleResource, TrialBody};
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Crea una regla. Una expresión que no compila se rechaza con su posición.
#[utoipa::path(
    post, path = "/api/v1/reglas", tag = "reglas", operation_id = "crearRegla",
    request_body = RuleBody,
    responses((status = 201, description = "Made", body = RuleResource), Problems)
)]
pub(super) async fn create(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<RuleBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.create_rule(&visitor.caller, &body).await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Lista las reglas.
#[utoipa::path(
    get, path = "/api/v1/reglas", tag = "reglas", operation_id = "listarReglas",
    params(
        ("empresa" = Option<String>, Query, description = "Of this company"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<RuleResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_rules(
            &visitor.caller,
            query.text("empresa"),
            query.text("limite"),
            query.text("cursor"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lee una regla.
#[utoipa::path(
    get, path = "/api/v1/reglas/{id}", tag = "reglas", operation_id = "leerRegla",
    params(
        ("id" = String, Path, description = "Names it"),
    ),
    responses((status = 200, description = "The rule", body = RuleResource), Problems)
)]
pub(super) async fn show(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.show_rule(&visitor.caller, visitor.param("id")).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Cambia una regla: es una versión nueva, que vale para la próxima alerta.
#[utoipa::path(
    patch, path = "/api/v1/reglas/{id}", tag = "reglas", operation_id = "cambiarRegla",
    request_body = RulePatch,
    params(
        ("id" = String, Path, description = "Names it"),
    ),
    responses((status = 200, description = "The rule", body = RuleResource), Problems)
)]
pub(super) async fn patch(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<RulePatch>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .revise_rule(&visitor.caller, visitor.param("id"), &body)
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lista las versiones de una regla, de la más nueva a la más antigua.
#[utoipa::path(
    get, path = "/api/v1/reglas/{id}/versiones", tag = "reglas", operation_id = "listarVersiones",
    params(
        ("id" = String, Path, description = "Names it"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<RuleResource>), Problems)
)]
pub(super) async fn versions(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_versions(
            &visitor.caller,
            visitor.param("id"),
            query.text("limite"),
            query.text("cursor"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Prueba reglas sobre alertas guardadas, sin efecto.
#[utoipa::path(
    post, path = "/api/v1/reglas/prueba", tag = "reglas", operation_id = "probarReglas",
    request_body = TrialBody,
    responses((status = 200, description = "What they would do", body = TrialsResource), Problems)
)]
pub(super) async fn try_out(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<TrialBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.try_rules(&visitor.caller, &body).await;
    respond(StatusCode::OK, visitor.language, answer)
}
