//! SQLite files.

use super::{BUSY_TIMEOUT, Location};
use crate::storage::StorageError;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::path::Path;

/// Migrations for SQLite, embedded.
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Opens the writer's connection, creating folder, file and tables where they are missing.
pub(super) fn create(location: &Location, path: &Path) -> Result<SqliteConnection, StorageError> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|source| StorageError::Folder {
            path: folder.to_owned(),
            source,
        })?;
    }
    let mut connection = writer(location, path)?;
    check_pages(&mut connection, path)?;
    connection
        .run_pending_migrations(MIGRATIONS)
        .map_err(|e| location.unopened(e))?;
    Ok(connection)
}

/// Opens the writer's connection to a file that must be there.
pub(super) fn reopen(location: &Location, path: &Path) -> Result<SqliteConnection, StorageError> {
    must_be_there(location, path)?;
    writer(location, path)
}

/// Opens a connection to a file that must be there.
pub(super) fn open(location: &Location, path: &Path) -> Result<SqliteConnection, StorageError> {
    must_be_there(location, path)?;
    establish(path).map_err(|e| location.unopened(e))
}

/// To open what is not there would make an empty one, and hide that the disk is gone.
fn must_be_there(location: &Location, path: &Path) -> Result<(), StorageError> {
    if path.exists() {
        return Ok(());
    }
    Err(location.unopened("the file is not there any more"))
}

fn writer(location: &Location, path: &Path) -> Result<SqliteConnection, StorageError> {
    let mut connection = establish(path).map_err(|e| location.unopened(e))?;
    // FULL syncs the log at every commit; the checkpoint keeps it from growing without end.
    connection
        .batch_execute(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; \
             PRAGMA foreign_keys = ON; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;",
        )
        .map_err(|e| location.unopened(e))?;
    Ok(connection)
}

/// Opens a connection that cannot write.
pub(super) fn reader(location: &Location, path: &Path) -> Result<SqliteConnection, StorageError> {
    let mut connection = establish(path).map_err(|e| location.unopened(e))?;
    connection.batch_execute("PRAGMA query_only = ON; PRAGMA cache_size = -16384;")?;
    Ok(connection)
}

fn establish(path: &Path) -> Result<SqliteConnection, Box<dyn std::error::Error>> {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
    connection.batch_execute(&format!(
        "PRAGMA busy_timeout = {};",
        BUSY_TIMEOUT.as_millis()
    ))?;
    Ok(connection)
}

/// Walks every page of the file, so that damage is found before the first teller is.
fn check_pages(connection: &mut SqliteConnection, path: &Path) -> Result<(), StorageError> {
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
