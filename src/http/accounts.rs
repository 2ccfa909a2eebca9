//! `/api/v1/cuentas`: open, read, deposit, withdraw, movements.

use super::answer::{ApiError, respond};
use super::extract::{JsonBody, Query, Visitor};
use super::openapi::Problems;
use crate::desk::{Desk, Direction, Failure};
use crate::wire::problem::ProblemDocument;
use crate::wire::requests::{MovementBody, OpenAccountBody};
use crate::wire::resources::{AccountResource, CounterResource, MovementResource, Page};
use crate::wire::{Problem, ProblemKind, Reason};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

/// Abre una cuenta sin saldo.
#[utoipa::path(
    post, path = "/api/v1/cuentas", tag = "cuentas", operation_id = "abrirCuenta",
    request_body = OpenAccountBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 visible ASCII characters; optional here", min_length = 1, max_length = 128, pattern = "^[!-~]{1,128}$")),
    responses(
        (status = 201, description = "Opened", body = AccountResource),
        (status = 409, description = "`cuenta_existe`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "4XX", description = "The request cannot be right", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Try again with the same key", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn open(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<OpenAccountBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .open_account(&visitor.caller, &body, visitor.key())
        .await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Busca cuentas por el comienzo de la cédula o por partes del nombre.
#[utoipa::path(
    get, path = "/api/v1/cuentas", tag = "cuentas", operation_id = "buscarCuentas",
    params(
        ("buscar" = Option<String>, Query, description = "The beginning of a cédula, or words that the names contain; all accounts where there is none", max_length = 60),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<AccountResource>), Problems)
)]
pub(super) async fn search(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let (text, limit, cursor) = (
        query.text("buscar"),
        query.text("limite"),
        query.text("cursor"),
    );
    let answer = desk
        .find_accounts(&visitor.caller, text, limit, cursor)
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lista las cajas donde se puede mover dinero, y si una alerta abierta congela los retiros allí.
#[utoipa::path(
    get, path = "/api/v1/cajas", tag = "cuentas", operation_id = "listarCajas",
    responses((status = 200, description = "All of them", body = Page<CounterResource>), Problems)
)]
pub(super) async fn counters(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.list_counters(&visitor.caller).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lee una cuenta.
#[utoipa::path(
    get, path = "/api/v1/cuentas/{cedula}", tag = "cuentas", operation_id = "leerCuenta",
    params(("cedula" = String, Path, description = "1 to 20 digits", pattern = "^[0-9]{1,20}$")),
    responses(
        (status = 200, description = "The account", body = AccountResource),
        (status = 404, description = "`cuenta_no_existe`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "4XX", description = "The request cannot be right", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.account(&visitor.caller, &visitor.account).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Deposita en una cuenta. La respuesta es el mensaje publicado en `banco/transacciones`.
#[utoipa::path(
    post, path = "/api/v1/cuentas/{cedula}/depositos", tag = "cuentas", operation_id = "depositar",
    request_body = MovementBody,
    params(
        ("cedula" = String, Path, description = "1 to 20 digits", pattern = "^[0-9]{1,20}$"),
        ("Idempotency-Key" = String, Header, description = "1 to 128 visible ASCII characters; a repeat gets the same answer", min_length = 1, max_length = 128, pattern = "^[!-~]{1,128}$"),
    ),
    responses(
        (status = 201, description = "Committed, or the same answer as before with `Idempotent-Replayed: true`", body = super::openapi::TransactionSchema),
        (status = 404, description = "`cuenta_no_existe`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "4XX", description = "The request cannot be right, or is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Try again with the same key", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn deposit(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<MovementBody>,
) -> Result<HttpResponse, ApiError> {
    move_money(&desk, &visitor, Direction::In, &body).await
}

/// Retira de una cuenta. La respuesta es el mensaje publicado en `banco/transacciones`.
#[utoipa::path(
    post, path = "/api/v1/cuentas/{cedula}/retiros", tag = "cuentas", operation_id = "retirar",
    request_body = MovementBody,
    params(
        ("cedula" = String, Path, description = "1 to 20 digits", pattern = "^[0-9]{1,20}$"),
        ("Idempotency-Key" = String, Header, description = "1 to 128 visible ASCII characters; a repeat gets the same answer", min_length = 1, max_length = 128, pattern = "^[!-~]{1,128}$"),
    ),
    responses(
        (status = 201, description = "Committed, or the same answer as before with `Idempotent-Replayed: true`", body = super::openapi::TransactionSchema),
        (status = 404, description = "`cuenta_no_existe`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`saldo_insuficiente`, with `saldo`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "4XX", description = "The request cannot be right, or is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Try again with the same key", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn withdraw(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<MovementBody>,
) -> Result<HttpResponse, ApiError> {
    move_money(&desk, &visitor, Direction::Out, &body).await
}

async fn move_money(
    desk: &Desk,
    visitor: &Visitor,
    direction: Direction,
    body: &MovementBody,
) -> Result<HttpResponse, ApiError> {
    let account = &visitor.account;
    let answer = desk
        .move_money(&visitor.caller, direction, account, body, visitor.key())
        .await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// The query of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    #[serde(default)]
    limite: String,
    #[serde(default)]
    cursor: String,
}

/// Lista los movimientos de una cuenta, del más nuevo al más antiguo.
#[utoipa::path(
    get, path = "/api/v1/cuentas/{cedula}/movimientos", tag = "cuentas", operation_id = "listarMovimientos",
    params(
        ("cedula" = String, Path, description = "1 to 20 digits", pattern = "^[0-9]{1,20}$"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = Page<MovementResource>),
        (status = 404, description = "`cuenta_no_existe`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "4XX", description = "The request cannot be right", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn movements(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let wrong = |reason: Reason| -> Failure {
        Problem::of(ProblemKind::InvalidParameter)
            .because(reason)
            .into()
    };
    let query = web::Query::<PageQuery>::from_query(request.query_string())
        .map_err(|error| ApiError::new(&request, wrong(Reason::technical(error.to_string()))))?;
    let limit = match query.limite.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            ApiError::new(
                &request,
                wrong(("limite: se espera de 1 a 200", "limite: expected 1 to 200").into()),
            )
        })?),
    };
    let cursor = Some(query.cursor.as_str()).filter(|text| !text.is_empty());
    let answer = desk
        .movements(&visitor.caller, &visitor.account, limit, cursor)
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}
