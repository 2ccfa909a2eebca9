//! The OpenAPI document, generated from the handlers and the wire's types.

use super::{
    accounts, alerts, audit, companies, devices, kinds, operations, people, quarantine, rules,
    sessions, sites, tokens, transfers,
};
use crate::wire::numbers::{Decimal, Moment};
use crate::wire::problem::ProblemDocument;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
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

/// The ways in which every route of the registry and of alerts can fail.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code, reason = "describes answers for the document; never built")]
pub(super) enum Problems {
    /// The request cannot be right, or is refused.
    #[response(status = "4XX", content_type = "application/problem+json")]
    Refused(ProblemDocument),
    /// Try again.
    #[response(status = 503, content_type = "application/problem+json")]
    Later(ProblemDocument),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Atalaya",
        description = "Accounts and alarms of organisations with many sites. Money is exact, with \
                       two decimals; every money command takes an `Idempotency-Key`, under which \
                       it may be repeated without repeating its effect. Alerts are taken from \
                       hardware that proves who it is (JWS), and followed until somebody resolves \
                       them. `/ws` (WebSocket) and the MQTT topics `banco/#` and `empresas/#` \
                       carry the events.",
    ),
    paths(
        accounts::open,
        accounts::search,
        accounts::counters,
        accounts::show,
        accounts::deposit,
        accounts::withdraw,
        accounts::movements,
        transfers::transfer,
        alerts::take,
        alerts::validate,
        alerts::list,
        alerts::show,
        alerts::acknowledge,
        alerts::resolve,
        alerts::discard,
        companies::create,
        companies::list,
        companies::show,
        companies::patch,
        sites::create,
        sites::list,
        sites::show,
        sites::patch,
        devices::create,
        devices::list,
        devices::show,
        devices::patch,
        devices::add_key,
        devices::list_keys,
        devices::revoke_key,
        devices::set_mqtt_password,
        devices::remove_mqtt_password,
        devices::set_legacy_secret,
        devices::remove_legacy_secret,
        devices::list_types,
        devices::put_type,
        kinds::list,
        kinds::put,
        rules::create,
        rules::list,
        rules::show,
        rules::patch,
        rules::versions,
        rules::try_out,
        quarantine::list,
        quarantine::show,
        quarantine::resubmit,
        quarantine::release,
        sessions::sign_in,
        sessions::list,
        sessions::who_am_i,
        sessions::sign_out,
        sessions::end,
        sessions::choose_password,
        sessions::begin_second_factor,
        sessions::prove_second_factor,
        sessions::remove_second_factor,
        sessions::ticket,
        people::create,
        people::list,
        people::show,
        people::patch,
        tokens::create,
        tokens::list,
        tokens::revoke,
        audit::list,
        operations::statistics,
        operations::live,
        operations::ready,
        operations::health,
        operations::metrics,
        operations::figures,
        super::logs::read,
    ),
    modifiers(&Tokens),
    security(("token" = []))
)]
struct ApiDoc;

/// How requests say who sends them.
struct Tokens;

impl utoipa::Modify for Tokens {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document.
#[must_use]
pub fn document() -> Document {
    ApiDoc::openapi()
}
