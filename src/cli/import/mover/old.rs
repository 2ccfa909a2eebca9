//! The old system's database: read in pages, in one snapshot, and never written to.

use super::figure::Precision;
use super::rows::{RawClient, RawMovement, Reading};
use crate::domain::{AccountId, CedulaCheck};
use crate::storage::connection::{self, Connection, MysqlUrl};
use crate::storage::{Location, StorageError};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use jiff::tz::TimeZone;
use std::collections::HashMap;

/// Movements that one page is meant to have. The page's clients are as many as have so many on
/// average, so that a table without an index on `cedula` is not walked once for each of them.
const MOVEMENTS: u64 = 20_000;

/// Clients of one page at most: a page of some 200 KiB.
const CLIENTS: u64 = 1_000;

/// Movements of one page at most; a page of more is read in halves. Some 40 MiB.
const MOST_MOVEMENTS: usize = 200_000;

/// Movements of one account at most: some 200 MiB.
pub(super) const MOST_OF_ONE: usize = 1_000_000;

/// Cédulas named of those that no client has.
pub(super) const EXAMPLES: usize = 20;

/// Why the old system cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OldError {
    /// It cannot be reached.
    #[error("origen {0}: {1}")]
    Unreachable(String, String),
    /// Its tables are not those that are meant.
    #[error("origen: {0}")]
    Form(String),
    /// A statement failed.
    #[error("origen: {0}")]
    Query(#[from] diesel::result::Error),
}

/// How much there is.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub(super) struct Counts {
    /// Rows of `clientes`.
    #[diesel(sql_type = BigInt)]
    pub(super) clients: i64,
    /// Rows of `transacciones`.
    #[diesel(sql_type = BigInt)]
    pub(super) movements: i64,
}

/// Rows that belong to no account, or to more than one.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(super) struct Stray {
    /// The cédula, where there is one.
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) cedula: Option<String>,
    /// How many rows.
    #[diesel(sql_type = BigInt)]
    pub(super) count: i64,
    /// The first of them, where they have an id.
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) first: Option<String>,
}

/// A connection in a snapshot.
pub(super) struct OldSystem {
    connection: MysqlConnection,
    quotes_ids: bool,
    columns: HashMap<(String, String), Column>,
    unprotected: Option<String>,
    name: String,
}

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    place: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    charset: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    collation: Option<String>,
}

#[derive(QueryableByName)]
struct Table {
    #[diesel(sql_type = Text)]
    name: String,
}

const CLIENT_COLUMNS: [&str; 4] = ["cedula", "nombres", "apellidos", "saldo"];
const MOVEMENT_COLUMNS: [&str; 6] = ["id", "cedula", "tipo", "monto", "saldo_final", "fecha"];

impl OldSystem {
    /// Connects to the database at `url`, looks at its tables and takes a snapshot.
    ///
    /// # Errors
    /// [`OldError`].
    pub(super) fn open(url: &MysqlUrl) -> Result<Self, OldError> {
        let mut connection = match connection::open(&Location::Mysql(url.clone())) {
            Ok(Connection::Mysql(connection)) => connection,
            // That is what it was asked for.
            Ok(Connection::Sqlite(_)) => return Err(OldError::Form("no es MySQL".to_owned())),
            // The advice about DATABASE_URL is of no use here.
            Err(StorageError::Open { database, reason }) => {
                return Err(OldError::Unreachable(database, reason));
            }
            Err(error) => return Err(OldError::Unreachable(url.to_string(), error.to_string())),
        };
        // What goes on there meanwhile is not seen half; and whatever happens, nothing is written.
        connection.batch_execute(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
             START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        )?;
        let columns: Vec<Column> = diesel::sql_query(
            "SELECT table_name AS place, LOWER(column_name) AS name, LOWER(data_type) AS kind, \
             character_set_name AS charset, collation_name AS collation FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name IN ('clientes', 'transacciones')",
        )
        .load(&mut connection)?;
        let columns: HashMap<_, _> = columns
            .into_iter()
            .map(|column| ((column.place.clone(), column.name.clone()), column))
            .collect();
        let wanted = [
            ("clientes", CLIENT_COLUMNS.as_slice()),
            ("transacciones", MOVEMENT_COLUMNS.as_slice()),
        ];
        for (table, names) in wanted {
            for name in names {
                if !columns.contains_key(&(table.to_owned(), (*name).to_owned())) {
                    return Err(OldError::Form(format!("falta la columna {table}.{name}")));
                }
            }
        }
        let unprotected: Option<Table> = diesel::sql_query(
            "SELECT table_name AS name FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name IN ('clientes', 'transacciones') \
             AND engine <> 'InnoDB' ORDER BY table_name LIMIT 1",
        )
        .get_result(&mut connection)
        .optional()?;
        let mut old = Self {
            connection,
            quotes_ids: true,
            columns,
            unprotected: unprotected.map(|table| table.name),
            name: url.database().to_owned(),
        };
        let [clients, movements] =
            ["clientes", "transacciones"].map(|table| is_integer(old.kind(table, "cedula")));
        if clients != movements {
            return Err(OldError::Form(
                "clientes.cedula y transacciones.cedula son una de texto y la otra de números, que \
                 no guardan los ceros de delante: dé a las dos el mismo tipo"
                    .to_owned(),
            ));
        }
        old.quotes_ids = !movements;
        Ok(old)
    }

    /// A table of which there is no snapshot, since its engine knows no transactions.
    pub(super) fn unprotected(&self) -> Option<&str> {
        self.unprotected.as_deref()
    }

    fn kind(&self, table: &str, column: &str) -> &str {
        self.column(table, column)
            .map_or("", |column| column.kind.as_str())
    }

    fn column(&self, table: &str, column: &str) -> Option<&Column> {
        self.columns.get(&(table.to_owned(), column.to_owned()))
    }

    /// The cédula of a movement, to be compared with that of clients as these are compared with
    /// one another, so that their index serves.
    fn comparable_cedula(&self) -> String {
        let clients = self.column("clientes", "cedula");
        let told = clients.and_then(|c| Some((c.charset.as_deref()?, c.collation.as_deref()?)));
        match told {
            Some((charset, collation)) => {
                format!("CONVERT(t.cedula USING {charset}) COLLATE {collation}")
            }
            None => "t.cedula".to_owned(),
        }
    }

    /// How its rows are to be read.
    ///
    /// # Errors
    /// [`OldError::Form`] where money is kept in a way that has lost cents already.
    pub(super) fn reading(&self, zone: TimeZone, check: CedulaCheck) -> Result<Reading, OldError> {
        let precision = |table, column| match self.kind(table, column) {
            "double" => Ok(Precision::Binary),
            "float" => Err(OldError::Form(format!(
                "{table}.{column} es FLOAT, que no guarda los centavos de más de seis cifras: \
                 conviértala a DECIMAL(15,2) y revise sus saldos"
            ))),
            _ => Ok(Precision::Exact),
        };
        Ok(Reading {
            saldo: precision("clientes", "saldo")?,
            monto: precision("transacciones", "monto")?,
            saldo_final: precision("transacciones", "saldo_final")?,
            moments_in: (self.kind("transacciones", "fecha") == "timestamp").then_some(zone),
            prefix: format!("mudanza:{}", self.name),
            check,
        })
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`OldError::Query`].
    pub(super) fn counts(&mut self) -> Result<Counts, OldError> {
        Ok(diesel::sql_query(
            "SELECT (SELECT COUNT(*) FROM clientes) AS clients, \
             (SELECT COUNT(*) FROM transacciones) AS movements",
        )
        .get_result(&mut self.connection)?)
    }

    /// Clients without a cédula, or whose cédula others have too.
    ///
    /// # Errors
    /// [`OldError::Query`].
    pub(super) fn ambiguous(&mut self) -> Result<Vec<Stray>, OldError> {
        Ok(diesel::sql_query(format!(
            "SELECT CAST(cedula AS CHAR) AS cedula, COUNT(*) AS count, NULL AS first \
             FROM clientes GROUP BY clientes.cedula \
             HAVING COUNT(*) > 1 OR clientes.cedula IS NULL LIMIT {MOST_MOVEMENTS}"
        ))
        .load(&mut self.connection)?)
    }

    /// Movements whose cédula no client has, by cédula: [`EXAMPLES`], and one more if there are more.
    ///
    /// # Errors
    /// [`OldError::Query`].
    pub(super) fn orphans(&mut self) -> Result<Vec<Stray>, OldError> {
        let cedula = self.comparable_cedula();
        Ok(diesel::sql_query(format!(
            "SELECT CAST(t.cedula AS CHAR) AS cedula, COUNT(*) AS count, \
             CAST(MIN(t.id) AS CHAR) AS first FROM transacciones t \
             LEFT JOIN clientes c ON c.cedula = {cedula} WHERE c.cedula IS NULL \
             GROUP BY t.cedula ORDER BY t.cedula LIMIT {}",
            EXAMPLES + 1
        ))
        .load(&mut self.connection)?)
    }

    /// How many clients make a page where there are `counts`.
    pub(super) fn page(counts: Counts) -> u64 {
        let clients = u64::try_from(counts.clients).unwrap_or(0);
        let movements = u64::try_from(counts.movements).unwrap_or(0).max(1);
        let wanted = MOVEMENTS.saturating_mul(clients) / movements;
        wanted.clamp(1, CLIENTS)
    }

    /// The next `limit` clients in the order of cédulas, after the cédula `after`.
    ///
    /// # Errors
    /// [`OldError::Query`].
    pub(super) fn clients(
        &mut self,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<RawClient>, OldError> {
        let select = "SELECT CAST(cedula AS CHAR) AS cedula, CAST(nombres AS CHAR) AS nombres, \
                      CAST(apellidos AS CHAR) AS apellidos, CAST(saldo AS CHAR) AS saldo \
                      FROM clientes";
        let end = format!("ORDER BY clientes.cedula LIMIT {limit}");
        let clients = match after {
            None => diesel::sql_query(format!("{select} WHERE cedula IS NOT NULL {end}"))
                .load(&mut self.connection)?,
            Some(after) => diesel::sql_query(format!("{select} WHERE cedula > ? {end}"))
                .bind::<Text, _>(after)
                .load(&mut self.connection)?,
        };
        Ok(clients)
    }

    /// The movements of `accounts`, those of each in the order in which they happened. `None` where
    /// they are more than may be read at once: fewer accounts may do, unless it is one already.
    ///
    /// # Errors
    /// [`OldError::Query`].
    pub(super) fn movements(
        &mut self,
        accounts: &[AccountId],
    ) -> Result<Option<Vec<RawMovement>>, OldError> {
        let most = if accounts.len() == 1 {
            MOST_OF_ONE
        } else {
            MOST_MOVEMENTS
        };
        // Digits, as an account's id is, need no escape.
        let ids: Vec<String> = accounts
            .iter()
            .map(|id| {
                if self.quotes_ids {
                    format!("'{id}'")
                } else {
                    id.to_string()
                }
            })
            .collect();
        let rows: Vec<RawMovement> = diesel::sql_query(format!(
            "SELECT CAST(id AS CHAR) AS id, CAST(cedula AS CHAR) AS cedula, \
             CAST(tipo AS CHAR) AS tipo, CAST(monto AS CHAR) AS monto, \
             CAST(saldo_final AS CHAR) AS saldo_final, CAST(fecha AS CHAR) AS fecha \
             FROM transacciones WHERE cedula IN ({}) \
             ORDER BY transacciones.fecha, transacciones.id LIMIT {}",
            ids.join(","),
            most + 1
        ))
        .load(&mut self.connection)?;
        Ok((rows.len() <= most).then_some(rows))
    }
}

fn is_integer(kind: &str) -> bool {
    kind.ends_with("int") || kind == "decimal"
}
