//! `/api/v1/tokens`: what programs show.

use super::answer::{ApiError, respond, respond_done};
use super::extract::{JsonBody, Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::wire::access::{TokenBody, TokenResource};
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Crea un token para un programa, que se responde esta única vez.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "tokens", operation_id = "crearToken",
    request_body = TokenBody,
    responses((status = 201, description = "Made", body = TokenResource), Problems)
)]
pub(super) async fn create(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<TokenBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.create_token(&visitor.caller, &body).await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Lista los tokens, sin mostrarlos.
#[utoipa::path(
    get, path = "/api/v1/tokens", tag = "tokens", operation_id = "listarTokens",
    params(
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<TokenResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_tokens(&visitor.caller, query.text("limite"), query.text("cursor"))
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Revoca un token; lo que esté abierto con él se cierra al instante.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{id}", tag = "tokens", operation_id = "revocarToken",
    params(("id" = String, Path, description = "Names it")),
    responses((status = 204, description = "Revoked"), Problems)
)]
pub(super) async fn revoke(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let done = desk
        .revoke_token(&visitor.caller, visitor.param("id"))
        .await;
    respond_done(visitor.language, done)
}
