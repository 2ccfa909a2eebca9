//! What is durable: one journal, the state it implies, and the group commit that writes both.
//!
//! Everything that must survive goes through the [`Writer`]; everything else reads through the
//! pool or follows the [`Feed`]. Synchronous functions over a connection, no actor in sight.

pub mod access;
mod account_rows;
pub mod alert_queries;
pub mod bootstrap;
pub mod chain;
pub mod connection;
mod digests;
pub mod feed;
pub mod hub;
mod keys;
mod ledger;
pub mod moving;
pub mod queries;
pub mod registry_queries;
pub mod rows;
pub mod schema;
mod setback;
mod steps;
pub mod vault;
pub mod writer;

pub use access::{AccessCommand, AccessOrder, AccessRefusal, AccessSettings, AccessView};
pub use bootstrap::Installation;
pub use connection::{Backend, Connection, DatabaseUrl, Location, ReadPool};
pub use feed::{Feed, Feeds, Head, Notice};
pub use hub::{HubAnswer, HubCommand, HubOrder, HubRefusal, HubSettings, HubView};
pub use writer::{OutboxUpdate, Quarantined, Ticket, WriteError, Writer};

use std::path::PathBuf;
use std::time::Duration;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// `DATABASE_URL` is not one.
    #[error("DATABASE_URL: {reason}")]
    Url {
        /// What is wrong.
        reason: &'static str,
    },
    /// The folder cannot be made.
    #[error("cannot create the folder {path:?}: {source} (DATABASE_URL chooses another place)")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be opened or written.
    #[error("cannot open the database {database}: {reason} (DATABASE_URL chooses another place)")]
    Open {
        /// Which database.
        database: String,
        /// Why.
        reason: String,
    },
    /// Another process writes to the database.
    #[error(
        "another process uses the database {database}; stop it, or set DATABASE_URL to another"
    )]
    Taken {
        /// Which database.
        database: String,
    },
    /// The file is damaged.
    #[error(
        "the database {path:?} is damaged and will not be touched: {reason}; restore a backup or \
         point DATABASE_URL elsewhere"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the check found.
        reason: String,
    },
    /// What is in the file contradicts itself or the configuration.
    #[error("the database contradicts itself: {what}")]
    Inconsistent {
        /// What does.
        what: String,
    },
    /// The configuration names something else than what the database was created with.
    #[error(
        "{setting} is {wanted} but the database was created with {found}, and it \
         is fixed then; set {found}, or use another database (DATABASE_URL)"
    )]
    Fixed {
        /// Which setting.
        setting: &'static str,
        /// What is configured.
        wanted: String,
        /// What the database has.
        found: String,
    },
    /// A statement failed.
    #[error("the database failed: {0}")]
    Query(#[from] diesel::result::Error),
    /// No connection could be had.
    #[error("no connection to the database: {0}")]
    Pool(#[from] r2d2::Error),
    /// The shared secrets of devices cannot be sealed or opened.
    #[error(transparent)]
    Vault(vault::VaultError),
    /// The thread that did the work is gone.
    #[error("the reading thread stopped")]
    Cancelled,
}

impl StorageError {
    /// Whether to go on could make things worse: the disk failed, so what is synced is unknown, or
    /// the data contradicts itself. The process stops and the next start looks again.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Inconsistent { .. } | Self::Damaged { .. } => true,
            Self::Query(error) => {
                let text = error.to_string();
                text.contains("disk I/O error") || text.contains("malformed")
            }
            _ => false,
        }
    }
}

/// How long the database has to answer before it counts as away.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// Whether the database answers, and soon.
pub async fn answers(readers: &ReadPool) -> bool {
    let ping = read(readers, queries::ping);
    matches!(tokio::time::timeout(PING_DEADLINE, ping).await, Ok(Ok(())))
}

/// Runs `work` with a reader's connection on a thread that may block.
///
/// # Errors
/// Whatever `work` or the pool answers.
pub async fn read<T, F>(readers: &ReadPool, work: F) -> Result<T, StorageError>
where
    T: Send + 'static,
    F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
{
    let readers = readers.clone();
    tokio::task::spawn_blocking(move || work(&mut *readers.get()?))
        .await
        .map_err(|_| StorageError::Cancelled)?
}
