//! `/ws`: from a request to a session.

use super::answer::language_of;
use crate::actors::session::websocket::{self, Lobby};
use actix_web::{Error, HttpRequest, HttpResponse, web};

pub(super) async fn websocket(
    lobby: web::Data<Lobby>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Error> {
    let language = language_of(&request);
    websocket::upgrade(Lobby::clone(&lobby), &request, body, language)
}
