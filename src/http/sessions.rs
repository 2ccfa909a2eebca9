//! `/api/v1/sesiones` and `/ws`: signing in and out, and from a request to a session.

use super::answer::{ApiError, respond, respond_done};
use super::bridge::Bridge;
use super::extract::{JsonBody, Query, Visitor};
use super::identify::{COOKIE_NAME, Door, caller, count_principal};
use super::openapi::Problems;
use crate::actors::session::socketio::{self, Gate};
use crate::actors::session::websocket::{self, Lobby};
use crate::desk::{Desk, Failure};
use crate::domain::Channel;
use crate::wire::access::{
    CodeBody, IdentityResource, OwnPasswordBody, PasswordBody, SecondFactorResource,
    SessionResource, SignInBody, TicketResource,
};
use crate::wire::resources::Page;
use crate::wire::{Problem, ProblemKind, Reason};
use actix_web::http::StatusCode;
use actix_web::http::header::{SET_COOKIE, USER_AGENT};
use actix_web::{HttpRequest, HttpResponse, web};
use std::sync::Arc;

/// Inicia una sesión. Con `cookie`, el token va en una cookie que los scripts no leen y se
/// responde `csrf`, que la página envía como `X-CSRF-Token`.
#[utoipa::path(
    post, path = "/api/v1/sesiones", tag = "sesiones", operation_id = "iniciarSesion",
    request_body = SignInBody, security(()),
    responses((status = 201, description = "In", body = IdentityResource), Problems)
)]
pub(super) async fn sign_in(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
    JsonBody(body): JsonBody<SignInBody>,
) -> Result<HttpResponse, ApiError> {
    let client = request.headers().get(USER_AGENT);
    let client = client.and_then(|value| value.to_str().ok());
    let (resource, token) = desk
        .sign_in(&visitor.caller, &body, client)
        .await
        .map_err(|failure| ApiError::new(&request, failure))?;
    let mut response = HttpResponse::Created();
    if body.cookie {
        response.insert_header((SET_COOKIE, set_cookie(token.reveal())));
    }
    Ok(response.json(resource))
}

/// Muestra quién pide.
#[utoipa::path(
    get, path = "/api/v1/sesiones/actual", tag = "sesiones", operation_id = "leerSesionActual",
    responses((status = 200, description = "Who asks", body = IdentityResource), Problems)
)]
pub(super) async fn who_am_i(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.who_am_i(&visitor.caller, visitor.csrf.clone()).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Cierra la sesión que pide.
#[utoipa::path(
    delete, path = "/api/v1/sesiones/actual", tag = "sesiones", operation_id = "cerrarSesion",
    responses((status = 204, description = "Out"), Problems)
)]
pub(super) async fn sign_out(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let done = desk.sign_out(&visitor.caller).await;
    let mut response = respond_done(visitor.language, done)?;
    if let Ok(value) = format!("{}; Max-Age=0", set_cookie("")).parse() {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    Ok(response)
}

/// Lista las sesiones propias, o las de un usuario.
#[utoipa::path(
    get, path = "/api/v1/sesiones", tag = "sesiones", operation_id = "listarSesiones",
    params(
        ("usuario" = Option<String>, Query, description = "Of this user; one's own where none is given"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<SessionResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_sessions(
            &visitor.caller,
            query.text("usuario"),
            query.text("limite"),
            query.text("cursor"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Termina una sesión; lo que esté abierto con ella se cierra al instante.
#[utoipa::path(
    delete, path = "/api/v1/sesiones/{id}", tag = "sesiones", operation_id = "terminarSesion",
    params(("id" = String, Path, description = "Names it")),
    responses((status = 204, description = "Ended"), Problems)
)]
pub(super) async fn end(desk: web::Data<Desk>, visitor: Visitor) -> Result<HttpResponse, ApiError> {
    let done = desk.end_session(&visitor.caller, visitor.param("id")).await;
    respond_done(visitor.language, done)
}

/// Elige otra contraseña. Las demás sesiones del usuario terminan.
#[utoipa::path(
    put, path = "/api/v1/sesiones/actual/contrasena", tag = "sesiones", operation_id = "cambiarContrasena",
    request_body = PasswordBody,
    responses((status = 204, description = "Changed"), Problems)
)]
pub(super) async fn choose_password(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<PasswordBody>,
) -> Result<HttpResponse, ApiError> {
    let done = desk.choose_password(&visitor.caller, &body).await;
    respond_done(visitor.language, done)
}

/// Empieza a poner un segundo factor (TOTP): muestra el secreto para la aplicación.
#[utoipa::path(
    post, path = "/api/v1/sesiones/actual/segundo_factor", tag = "sesiones", operation_id = "empezarSegundoFactor",
    request_body = OwnPasswordBody,
    responses((status = 201, description = "The secret, to be proved within ten minutes", body = SecondFactorResource), Problems)
)]
pub(super) async fn begin_second_factor(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<OwnPasswordBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.begin_second_factor(&visitor.caller, &body).await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Prueba el segundo factor con un código; desde entonces hace falta al iniciar sesión.
#[utoipa::path(
    put, path = "/api/v1/sesiones/actual/segundo_factor", tag = "sesiones", operation_id = "probarSegundoFactor",
    request_body = CodeBody,
    responses((status = 204, description = "In force"), Problems)
)]
pub(super) async fn prove_second_factor(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<CodeBody>,
) -> Result<HttpResponse, ApiError> {
    let done = desk.prove_second_factor(&visitor.caller, &body).await;
    respond_done(visitor.language, done)
}

/// Quita el segundo factor propio.
#[utoipa::path(
    delete, path = "/api/v1/sesiones/actual/segundo_factor", tag = "sesiones", operation_id = "quitarSegundoFactor",
    request_body = OwnPasswordBody,
    responses((status = 204, description = "Gone"), Problems)
)]
pub(super) async fn remove_second_factor(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<OwnPasswordBody>,
) -> Result<HttpResponse, ApiError> {
    let done = desk.remove_second_factor(&visitor.caller, &body).await;
    respond_done(visitor.language, done)
}

/// Da un boleto de un solo uso para abrir `/ws?boleto=…`.
#[utoipa::path(
    post, path = "/api/v1/sesiones/actual/boleto", tag = "sesiones", operation_id = "pedirBoleto",
    responses((status = 201, description = "The ticket", body = TicketResource), Problems)
)]
pub(super) async fn ticket(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.ticket(&visitor.caller).await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// `/ws`: programs show their token in the header; pages, which cannot, a ticket.
pub(super) async fn websocket(
    lobby: web::Data<Lobby>,
    door: web::Data<Door>,
    visitor: Visitor,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let failed = |failure: Failure| ApiError::new(&request, failure);
    let standing = match ticket_of(&request).map_err(|problem| failed(problem.into()))? {
        Some(ticket) => {
            let standing = lobby.desk.redeem(&ticket).await.map_err(failed)?;
            // A token in a header has been counted at the door.
            let counted = count_principal(&door, &standing);
            counted.map_err(|problem| failed(problem.into()))?;
            Some(standing)
        }
        None => visitor.caller.standing.clone(),
    };
    if standing.is_none() {
        return Err(failed(ProblemKind::Unauthenticated.into()));
    }
    let caller = caller(&door, standing, &request, Channel::WebSocket);
    if caller.identity.must_change {
        return Err(failed(ProblemKind::PasswordMustChange.into()));
    }
    websocket::upgrade(
        Lobby::clone(&lobby),
        caller,
        &request,
        body,
        visitor.language,
    )
    .map_err(|problem| ApiError::new(&request, problem))
}

/// `/socket.io/`: a WebSocket at once. Who comes says in it who they are.
pub(super) async fn socketio(
    lobby: web::Data<Lobby>,
    door: web::Data<Door>,
    bridge: web::Data<Bridge>,
    visitor: Visitor,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    if let Some(refused) = refused_transport(request.query_string()) {
        return Ok(refused);
    }
    let gate = Gate {
        lobby: Lobby::clone(&lobby),
        access: Arc::clone(&door.access),
        clock: door.clock.clone(),
        trusted: Arc::clone(&bridge.trusted),
        view: Arc::clone(&bridge.view),
        zone: bridge.zone.clone(),
    };
    socketio::upgrade(gate, visitor.caller, &request, body)
        .map_err(|problem| ApiError::new(&request, problem))
}

/// What Engine.IO answers to what is not spoken here.
fn refused_transport(query: &str) -> Option<HttpResponse> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query);
    let pairs = pairs.map(web::Query::into_inner).unwrap_or_default();
    let value = |name: &str| {
        let mut pairs = pairs.iter();
        pairs.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    };
    let (code, message) = match (value("EIO"), value("transport")) {
        (Some("4"), Some("websocket")) => return None,
        (Some("4"), _) => (0, "Transport unknown"),
        _ => (5, "Unsupported protocol version"),
    };
    let body = format!("{{\"code\":{code},\"message\":\"{message}\"}}");
    let mut response = HttpResponse::BadRequest();
    Some(response.content_type("application/json").body(body))
}

fn ticket_of(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let pairs = pairs.map_err(|error| {
        Problem::of(ProblemKind::InvalidParameter).because(Reason::technical(error.to_string()))
    })?;
    let found = pairs.into_inner().into_iter();
    Ok(found
        .filter(|(name, _)| name == "boleto")
        .map(|(_, ticket)| ticket)
        .next())
}

fn set_cookie(token: &str) -> String {
    format!("{COOKIE_NAME}={token}; Path=/; Secure; HttpOnly; SameSite=Strict")
}
