//! `/api/v1/sedes`.

use super::answer::{ApiError, respond};
use super::extract::{JsonBody, Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::wire::registry::{SiteBody, SitePatch, SiteResource};
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Crea una sede.
#[utoipa::path(
    post, path = "/api/v1/sedes", tag = "sedes", operation_id = "crearSede",
    request_body = SiteBody,
    responses((status = 201, description = "Made", body = SiteResource), Problems)
)]
pub(super) async fn create(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<SiteBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.create_site(&visitor.caller, &body).await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Lista las sedes.
#[utoipa::path(
    get, path = "/api/v1/sedes", tag = "sedes", operation_id = "listarSedes",
    params(
        ("empresa" = Option<String>, Query, description = "Of this company"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<SiteResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_sites(
            &visitor.caller,
            query.text("empresa"),
            query.text("limite"),
            query.text("cursor"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lee una sede.
#[utoipa::path(
    get, path = "/api/v1/sedes/{empresa}/{sede}", tag = "sedes", operation_id = "leerSede",
    params(
        ("empresa" = String, Path, description = "The company"),
        ("sede" = String, Path, description = "The site"),
    ),
    responses((status = 200, description = "The site", body = SiteResource), Problems)
)]
pub(super) async fn show(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .show_site(
            &visitor.caller,
            visitor.param("empresa"),
            visitor.param("sede"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Cambia una sede. Desactivarla silencia todo lo que hay debajo.
#[utoipa::path(
    patch, path = "/api/v1/sedes/{empresa}/{sede}", tag = "sedes", operation_id = "cambiarSede",
    request_body = SitePatch,
    params(
        ("empresa" = String, Path, description = "The company"),
        ("sede" = String, Path, description = "The site"),
    ),
    responses((status = 200, description = "The site", body = SiteResource), Problems)
)]
pub(super) async fn patch(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<SitePatch>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .patch_site(
            &visitor.caller,
            visitor.param("empresa"),
            visitor.param("sede"),
            &body,
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}
