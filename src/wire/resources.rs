//! What REST and sessions answer beyond the published events: accounts and lists.

use super::events::kind_name;
use super::numbers::{Decimal, Moment, format_date};
use crate::domain::{Entry, Movement};
use serde::Serialize;
use uuid::Uuid;

/// An account (`cuenta`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(title = "Cuenta")]
pub struct AccountResource {
    /// Its cédula.
    pub cedula: String,
    /// Given names of its holder.
    pub nombres: String,
    /// Surnames of its holder.
    pub apellidos: String,
    /// Its balance.
    pub saldo: Decimal,
    /// Its count of postings.
    pub version: i64,
}

/// One movement in an account's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(title = "MovimientoHistorico")]
pub struct MovementResource {
    /// The account.
    pub cedula: String,
    /// `DEPOSITO`, `RETIRO`, `TRANSFERENCIA_ENVIADA` or `TRANSFERENCIA_RECIBIDA`; `AJUSTE` where
    /// the history brought in from another system did not explain the balance there.
    pub tipo: &'static str,
    /// The amount.
    pub monto: Decimal,
    /// The balance after it.
    pub saldo_nuevo: Decimal,
    /// The balance before an `AJUSTE`, which may raise it or lower it; other kinds tell which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saldo_anterior: Option<Decimal>,
    /// When it was committed.
    pub timestamp: Moment,
    /// Names the transaction; the halves of a transfer share it.
    pub tx_id: Uuid,
    /// The account's count of postings after it.
    pub version: i64,
    /// The other account of a transfer; history from another system does not name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contraparte: Option<String>,
    /// The site where it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sede: Option<String>,
    /// The value date, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Date)]
    pub fecha_valor: Option<String>,
}

impl MovementResource {
    /// The movement of `entry`, at the site called `site`.
    #[must_use]
    pub fn new(entry: &Entry, movement: &Movement, site: Option<String>) -> Self {
        let posting = &movement.posting;
        Self {
            cedula: movement.account.id.to_string(),
            tipo: kind_name(posting.kind),
            monto: Decimal(posting.amount.money()),
            saldo_nuevo: Decimal(posting.balance),
            saldo_anterior: (posting.kind.is_adjustment())
                .then(|| Decimal(posting.previous_balance())),
            timestamp: Moment(entry.at),
            tx_id: entry.tx_id,
            version: posting.version,
            contraparte: movement
                .counterparty
                .as_ref()
                .map(|c| c.account.id.to_string()),
            sede: site,
            fecha_valor: entry.value_date.map(format_date),
        }
    }
}

/// A counter (`caja`): a site where whoever asks may move money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(title = "Caja")]
pub struct CounterResource {
    /// Its company.
    pub empresa: String,
    /// The site.
    pub sede: String,
    /// The site's name for people.
    pub nombre: String,
    /// Whether an open alert freezes withdrawals there.
    pub retiros_congelados: bool,
    /// Since when: the oldest of such alerts.
    #[schema(required = true)]
    pub congelados_desde: Option<Moment>,
}

/// The form of every list: a page, and the cursor of the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(title = "Pagina")]
pub struct Page<T> {
    /// The items.
    pub datos: Vec<T>,
    /// The cursor of the next page, `null` on the last.
    #[schema(required = true)]
    pub siguiente: Option<String>,
}
