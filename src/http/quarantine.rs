//! `/api/v1/cuarentena`.

use super::answer::{ApiError, respond, respond_taken};
use super::extract::{Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::wire::alerts::ReplyBody;
use crate::wire::registry::SuspectResource;
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Lista los mensajes rechazados, del más nuevo al más antiguo.
#[utoipa::path(
    get, path = "/api/v1/cuarentena", tag = "cuarentena", operation_id = "listarCuarentena",
    params(
        ("hardware" = Option<String>, Query, description = "That claim to be from this device"),
        ("motivo" = Option<String>, Query, description = "Refused for this reason"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<SuspectResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_suspects(
            &visitor.caller,
            query.text("hardware"),
            query.text("motivo"),
            query.text("limite"),
            query.text("cursor"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lee un mensaje rechazado.
#[utoipa::path(
    get, path = "/api/v1/cuarentena/{id}", tag = "cuarentena", operation_id = "leerMensaje",
    params(
        ("id" = String, Path, description = "Names it"),
    ),
    responses((status = 200, description = "The message", body = SuspectResource), Problems)
)]
pub(super) async fn show(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .show_suspect(&visitor.caller, visitor.param("id"))
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Entrega otra vez un mensaje rechazado, después de haber registrado a quien lo envió.
#[utoipa::path(
    post, path = "/api/v1/cuarentena/{id}/reenviar", tag = "cuarentena", operation_id = "reenviarMensaje",
    params(("id" = String, Path, description = "Names it")),
    responses(
        (status = 201, description = "`ACEPTADA`", body = ReplyBody),
        (status = 200, description = "`DUPLICADA`", body = ReplyBody),
        Problems
    )
)]
pub(super) async fn resubmit(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.resubmit(&visitor.caller, visitor.param("id")).await;
    respond_taken(visitor.language, answer)
}

/// Elimina un mensaje rechazado.
#[utoipa::path(
    delete, path = "/api/v1/cuarentena/{id}", tag = "cuarentena", operation_id = "eliminarMensaje",
    params(("id" = String, Path, description = "Names it")),
    responses((status = 204, description = "Gone"), Problems)
)]
pub(super) async fn release(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let released = desk
        .release_suspect(&visitor.caller, visitor.param("id"))
        .await;
    released.map_err(|failure| ApiError::in_language(failure, visitor.language))?;
    Ok(HttpResponse::NoContent().finish())
}
