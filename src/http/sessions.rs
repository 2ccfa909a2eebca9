//! `/ws`: from a request to a session.

use super::answer::{ApiError, language_of};
use crate::actors::session::websocket::{self, Lobby};
use actix_web::{HttpRequest, HttpResponse, web};

pub(super) async fn websocket(
    lobby: web::Data<Lobby>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let language = language_of(&request);
    websocket::upgrade(Lobby::clone(&lobby), &request, body, language)
        .map_err(|problem| ApiError::new(&request, problem))
}
