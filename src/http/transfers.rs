//! `/api/v1/transferencias`.

use super::answer::{ApiError, respond};
use super::extract::{JsonBody, Visitor};
use crate::desk::Desk;
use crate::wire::problem::ProblemDocument;
use crate::wire::requests::TransferBody;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Transfiere entre dos cuentas. La respuesta es el mensaje publicado en `banco/transferencias`.
#[utoipa::path(
    post, path = "/api/v1/transferencias", tag = "transferencias", operation_id = "transferir",
    request_body = TransferBody,
    params(("Idempotency-Key" = String, Header, description = "1 to 128 visible ASCII characters; a repeat gets the same answer", min_length = 1, max_length = 128, pattern = "^[!-~]{1,128}$")),
    responses(
        (status = 201, description = "Committed, or the same answer as before with `Idempotent-Replayed: true`", body = super::openapi::TransferSchema),
        (status = 404, description = "`cuenta_no_existe`, `cuenta_destino_no_existe`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`saldo_insuficiente`, with `saldo`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "4XX", description = "The request cannot be right, or is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Try again with the same key", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn transfer(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<TransferBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.transfer(&visitor.caller, &body, visitor.key()).await;
    respond(StatusCode::CREATED, visitor.language, answer)
}
