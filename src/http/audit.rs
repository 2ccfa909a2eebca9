//! `/api/v1/auditoria`: who did what to access and settings.

use super::answer::{ApiError, respond};
use super::extract::{Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::wire::access::AuditResource;
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Lista inicios de sesión, fallos, rechazos y cambios de acceso y de configuración, del más nuevo
/// al más antiguo.
#[utoipa::path(
    get, path = "/api/v1/auditoria", tag = "auditoria", operation_id = "listarAuditoria",
    params(
        ("usuario" = Option<String>, Query, description = "By or about this user"),
        ("desde" = Option<String>, Query, description = "Not before this moment (RFC 3339)"),
        ("hasta" = Option<String>, Query, description = "Before this moment (RFC 3339)"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<AuditResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let asked = (
        query.text("usuario"),
        query.text("desde"),
        query.text("hasta"),
    );
    let answer = desk
        .audit(
            &visitor.caller,
            asked,
            query.text("limite"),
            query.text("cursor"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}
