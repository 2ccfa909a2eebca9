//! `/api/v1/empresas`.

use super::answer::{ApiError, respond};
use super::extract::{JsonBody, Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::wire::registry::{CompanyBody, CompanyPatch, CompanyResource};
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Crea una empresa, con los tipos de alarma y las reglas de fábrica.
#[utoipa::path(
    post, path = "/api/v1/empresas", tag = "empresas", operation_id = "crearEmpresa",
    request_body = CompanyBody,
    responses((status = 201, description = "Made", body = CompanyResource), Problems)
)]
pub(super) async fn create(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<CompanyBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.create_company(&visitor.caller, &body).await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Lista las empresas.
#[utoipa::path(
    get, path = "/api/v1/empresas", tag = "empresas", operation_id = "listarEmpresas",
    params(
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<CompanyResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_companies(&visitor.caller, query.text("limite"), query.text("cursor"))
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lee una empresa.
#[utoipa::path(
    get, path = "/api/v1/empresas/{empresa}", tag = "empresas", operation_id = "leerEmpresa",
    params(
        ("empresa" = String, Path, description = "The company"),
    ),
    responses((status = 200, description = "The company", body = CompanyResource), Problems)
)]
pub(super) async fn show(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .show_company(&visitor.caller, visitor.param("empresa"))
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Cambia una empresa. Desactivarla silencia todo lo que hay debajo.
#[utoipa::path(
    patch, path = "/api/v1/empresas/{empresa}", tag = "empresas", operation_id = "cambiarEmpresa",
    request_body = CompanyPatch,
    params(
        ("empresa" = String, Path, description = "The company"),
    ),
    responses((status = 200, description = "The company", body = CompanyResource), Problems)
)]
pub(super) async fn patch(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<CompanyPatch>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .patch_company(&visitor.caller, visitor.param("empresa"), &body)
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}
