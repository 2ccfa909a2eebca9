//! Opening databases: by the URL's scheme, with the settings that durability needs.

use super::StorageError;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The one connection type. A second backend turns this alias into an enum (`MultiConnection`).
pub type Connection = SqliteConnection;

/// Connections for reading. The writer has its own, so a reader can never hold up a commit.
pub type ReadPool = Pool<ConnectionManager<Connection>>;

/// Migrations for SQLite, embedded.
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Readers at once; two cores keep no more busy, and a few more cover those that wait for disk.
const READERS: u32 = 4;

/// How long a connection waits for a lock that some other process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An SQLite file.
    Sqlite(PathBuf),
}

impl Location {
    /// Parses `sqlite://path`.
    ///
    /// # Errors
    /// [`StorageError::Url`] for other schemes.
    pub fn parse(url: &str) -> Result<Self, StorageError> {
        match url.split_once("://") {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            Some(("mysql", _)) => Err(StorageError::Url {
                reason: "this build has no MySQL/MariaDB support yet; use sqlite://path",
            }),
            _ => Err(StorageError::Url {
                reason: "expected sqlite://path",
            }),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        let Self::Sqlite(path) = self;
        path
    }
}

/// Opens the writer's connection, creating folder, file and tables where they are missing.
///
/// # Errors
/// [`StorageError`] where the folder cannot be made, the file cannot be opened or is damaged.
pub fn open_writer(location: &Location) -> Result<Connection, StorageError> {
    let path = location.path();
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|source| StorageError::Folder {
            path: folder.to_owned(),
            source,
        })?;
    }
    let mut connection = reopen_writer(location)?;
    check_pages(&mut connection, path)?;
    connection
        .run_pending_migrations(MIGRATIONS)
        .map_err(|e| StorageError::Open {
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
    Ok(connection)
}

/// Opens the writer's connection to a database that was checked when the process started.
///
/// # Errors
/// [`StorageError::Open`].
pub fn reopen_writer(location: &Location) -> Result<Connection, StorageError> {
    let path = location.path();
    let opening = |reason: String| StorageError::Open {
        path: path.to_owned(),
        reason,
    };
    let mut connection = establish(path).map_err(|e| opening(e.to_string()))?;
    // FULL syncs the log at every commit; the checkpoint keeps it from growing without end.
    connection
        .batch_execute(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; \
             PRAGMA foreign_keys = ON; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;",
        )
        .map_err(|e| opening(e.to_string()))?;
    Ok(connection)
}

/// A pool of connections for reading.
///
/// # Errors
/// [`StorageError::Open`].
pub fn open_readers(location: &Location) -> Result<ReadPool, StorageError> {
    let url = location.path().to_string_lossy();
    Pool::builder()
        .max_size(READERS)
        .connection_timeout(BUSY_TIMEOUT)
        .connection_customizer(Box::new(ReaderSettings))
        .build(ConnectionManager::new(url))
        .map_err(|e| StorageError::Open {
            path: location.path().to_owned(),
            reason: e.to_string(),
        })
}

#[derive(Debug)]
struct ReaderSettings;

impl diesel::r2d2::CustomizeConnection<Connection, diesel::r2d2::Error> for ReaderSettings {
    fn on_acquire(&self, connection: &mut Connection) -> Result<(), diesel::r2d2::Error> {
        connection
            .batch_execute(&format!(
                "PRAGMA busy_timeout = {}; PRAGMA query_only = ON; PRAGMA cache_size = -16384;",
                BUSY_TIMEOUT.as_millis()
            ))
            .map_err(diesel::r2d2::Error::QueryError)
    }
}

fn establish(path: &Path) -> Result<Connection, Box<dyn std::error::Error>> {
    let mut connection = <Connection as diesel::Connection>::establish(&path.to_string_lossy())?;
    connection.batch_execute(&format!(
        "PRAGMA busy_timeout = {};",
        BUSY_TIMEOUT.as_millis()
    ))?;
    Ok(connection)
}

/// Walks every page of the file, so that damage is found before the first teller is.
fn check_pages(connection: &mut Connection, path: &Path) -> Result<(), StorageError> {
    #[derive(QueryableByName)]
    struct Verdict {
        #[diesel(sql_type = diesel::sql_types::Text)]
        quick_check: String,
    }
    let damaged = |reason: String| StorageError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let verdicts: Vec<Verdict> = diesel::sql_query("PRAGMA quick_check(1)")
        .load(connection)
        .map_err(|e| damaged(e.to_string()))?;
    match verdicts.first() {
        Some(verdict) if verdict.quick_check == "ok" => Ok(()),
        // The verdict comes in lines; an error is one.
        Some(verdict) => Err(damaged(verdict.quick_check.replace('\n', " "))),
        None => Err(damaged("the check gave no verdict".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_decides() {
        assert_eq!(
            Location::parse("sqlite://data/a.db").unwrap(),
            Location::Sqlite(PathBuf::from("data/a.db"))
        );
        for url in ["data/a.db", "sqlite://", "mysql://u@h/db", "postgres://x"] {
            assert!(
                matches!(Location::parse(url), Err(StorageError::Url { .. })),
                "{url}"
            );
        }
    }
}
