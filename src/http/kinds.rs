//! `/api/v1/tipos_alarma`.

use super::answer::{ApiError, respond};
use super::extract::{JsonBody, Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::wire::registry::{KindBody, KindResource};
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Lista los tipos de alarma.
#[utoipa::path(
    get, path = "/api/v1/tipos_alarma", tag = "tipos_alarma", operation_id = "listarTiposDeAlarma",
    params(
        ("empresa" = Option<String>, Query, description = "Of this company"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<KindResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_kinds(
            &visitor.caller,
            query.text("empresa"),
            query.text("limite"),
            query.text("cursor"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Crea o cambia un tipo de alarma.
#[utoipa::path(
    put, path = "/api/v1/tipos_alarma/{empresa}/{tipo_alarma}", tag = "tipos_alarma", operation_id = "definirTipoDeAlarma",
    request_body = KindBody,
    params(
        ("empresa" = String, Path, description = "The company"),
        ("tipo_alarma" = String, Path, description = "The kind of alert"),
    ),
    responses((status = 200, description = "The kind", body = KindResource), Problems)
)]
pub(super) async fn put(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<KindBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .put_kind(
            &visitor.caller,
            visitor.param("empresa"),
            visitor.param("tipo_alarma"),
            &body,
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}
