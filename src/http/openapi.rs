//! The OpenAPI document, generated from the handlers and the wire's types.

use super::{accounts, operations, transfers};
use crate::wire::numbers::{Decimal, Moment};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use uuid::Uuid;

/// What a deposit or a withdrawal answers: `wire::events::Transaction` without its borrowing.
#[derive(utoipa::ToSchema)]
#[schema(title = "Transaccion")]
#[allow(dead_code, reason = "describes JSON for the document; never built")]
pub(super) struct TransactionSchema {
    cedula: String,
    /// `DEPOSITO` or `RETIRO`.
    tipo: String,
    monto: Decimal,
    saldo_nuevo: Decimal,
    timestamp: Moment,
    /// The same in a repeat.
    tx_id: Uuid,
    /// The account's count of postings.
    version: i64,
}

/// What a transfer answers: `wire::events::Transfer` without its borrowing.
#[derive(utoipa::ToSchema)]
#[schema(title = "TransferenciaHecha")]
#[allow(dead_code, reason = "describes JSON for the document; never built")]
pub(super) struct TransferSchema {
    cedula_origen: String,
    cedula_destino: String,
    monto: Decimal,
    saldo_origen: Decimal,
    saldo_destino: Decimal,
    timestamp: Moment,
    /// The same in a repeat.
    tx_id: Uuid,
    version_origen: i64,
    version_destino: i64,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Atalaya",
        description = "Accounts of organisations with many sites. Money is exact, with two \
                       decimals; every money command takes an `Idempotency-Key`, under which it \
                       may be repeated without repeating its effect. `/ws` (WebSocket) and the \
                       MQTT topics `banco/#` carry the events.",
    ),
    paths(
        accounts::open,
        accounts::show,
        accounts::deposit,
        accounts::withdraw,
        accounts::movements,
        transfers::transfer,
        operations::statistics,
        operations::live,
        operations::ready,
        operations::health,
        operations::metrics,
    )
)]
struct ApiDoc;

/// The document.
#[must_use]
pub fn document() -> Document {
    ApiDoc::openapi()
}
