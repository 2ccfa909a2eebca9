//! `/api/v1/usuarios`: who there is and what they may do.

use super::answer::{ApiError, respond};
use super::extract::{JsonBody, Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::wire::access::{PersonBody, PersonPatchBody, PersonResource};
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Crea un usuario. Sin `contrasena` se inventa una, que se responde esta única vez.
#[utoipa::path(
    post, path = "/api/v1/usuarios", tag = "usuarios", operation_id = "crearUsuario",
    request_body = PersonBody,
    responses((status = 201, description = "Made", body = PersonResource), Problems)
)]
pub(super) async fn create(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<PersonBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.create_person(&visitor.caller, &body).await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Lista los usuarios.
#[utoipa::path(
    get, path = "/api/v1/usuarios", tag = "usuarios", operation_id = "listarUsuarios",
    params(
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<PersonResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_people(&visitor.caller, query.text("limite"), query.text("cursor"))
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lee un usuario.
#[utoipa::path(
    get, path = "/api/v1/usuarios/{usuario}", tag = "usuarios", operation_id = "leerUsuario",
    params(("usuario" = String, Path, description = "The name to sign in with")),
    responses((status = 200, description = "The user", body = PersonResource), Problems)
)]
pub(super) async fn show(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .show_person(&visitor.caller, visitor.param("usuario"))
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Cambia un usuario. `nueva_contrasena` inventa otra, que se responde esta única vez.
#[utoipa::path(
    patch, path = "/api/v1/usuarios/{usuario}", tag = "usuarios", operation_id = "cambiarUsuario",
    params(("usuario" = String, Path, description = "The name to sign in with")),
    request_body = PersonPatchBody,
    responses((status = 200, description = "The user", body = PersonResource), Problems)
)]
pub(super) async fn patch(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<PersonPatchBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .patch_person(&visitor.caller, visitor.param("usuario"), &body)
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}
