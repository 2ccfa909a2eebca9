//! Opening databases: by the URL's scheme, with the settings that durability needs.

mod any;
#[cfg(feature = "mysql")]
mod mysql;
mod sqlite;

pub use any::AnyConnection;

use super::StorageError;
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The one connection type.
pub type Connection = AnyConnection;

/// What diesel writes statements for.
pub type Backend = <Connection as diesel::Connection>::Backend;

/// Runs the same statement, written once, on whichever connection there is: for what diesel can
/// write for each database and not for all of them at once, such as an insert of many rows.
macro_rules! on_each {
    ($connection:expr, |$inner:ident| $body:expr) => {
        match $connection {
            $crate::storage::Connection::Sqlite($inner) => $body,
            #[cfg(feature = "mysql")]
            $crate::storage::Connection::Mysql($inner) => $body,
        }
    };
}

pub(super) use on_each;

/// Rows of one insert at most: few enough for a statement to be prepared once for each number of
/// them, and for all their values together.
pub(super) const ROWS: usize = 64;

/// Connections for reading. The writer has its own, so a reader can never hold up a commit.
pub type ReadPool = r2d2::Pool<Readers>;

/// Readers at once; two cores keep no more busy, and a few more cover those that wait for disk.
const READERS: u32 = 4;

/// How long a connection waits for a lock that some other process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A database on a server of MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    Mysql(MysqlUrl),
}

#[cfg(feature = "mysql")]
pub use mysql::MysqlUrl;

/// `DATABASE_URL` as it is typed. There may be a password in it, so it is shown as a [`Location`].
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Where that is.
    ///
    /// # Errors
    /// [`StorageError::Url`].
    pub fn location(&self) -> Result<Location, StorageError> {
        Location::parse(&self.0)
    }
}

impl From<String> for DatabaseUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location() {
            Ok(location) => location.fmt(f),
            Err(_) => f.write_str("DatabaseUrl(..)"),
        }
    }
}

impl Location {
    /// Parses `sqlite://path` or `mysql://user:password@host/database`.
    ///
    /// # Errors
    /// [`StorageError::Url`] for what is neither.
    pub fn parse(url: &str) -> Result<Self, StorageError> {
        match url.split_once("://") {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            #[cfg(feature = "mysql")]
            Some(("mysql", _)) => Ok(Self::Mysql(MysqlUrl::parse(url)?)),
            #[cfg(not(feature = "mysql"))]
            Some(("mysql", _)) => Err(StorageError::Url {
                reason: "this build has no MySQL/MariaDB support; build with --features mysql, \
                         which needs libmariadb-dev, or use sqlite://path",
            }),
            _ => Err(StorageError::Url {
                reason: "expected sqlite://path or mysql://user:password@host/database",
            }),
        }
    }

    /// The file, where it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => None,
        }
    }

    fn unopened(&self, reason: impl fmt::Display) -> StorageError {
        StorageError::Open {
            database: self.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// As errors name it, without a password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            #[cfg(feature = "mysql")]
            Self::Mysql(url) => url.fmt(f),
        }
    }
}

/// Opens the writer's connection, creating what is missing: folder, file and tables.
///
/// # Errors
/// [`StorageError`] where the folder cannot be made, the database cannot be opened or is damaged,
/// or another process writes to it.
pub fn open_writer(location: &Location) -> Result<Connection, StorageError> {
    match location {
        Location::Sqlite(path) => sqlite::create(location, path).map(Connection::Sqlite),
        #[cfg(feature = "mysql")]
        Location::Mysql(url) => mysql::create(location, url).map(Connection::Mysql),
    }
}

/// Opens a writer lane's connection to a database that was checked when the process started. `before`
/// is what a server knows the lane's last one by; it is exchanged.
///
/// # Errors
/// [`StorageError::Open`].
pub fn reopen_writer(
    location: &Location,
    lane: i32,
    before: &mut Option<i64>,
) -> Result<Connection, StorageError> {
    match location {
        // A file has the first lane alone, and its locks end with whoever holds them.
        Location::Sqlite(path) => {
            let _ = (lane, before);
            sqlite::reopen(location, path).map(Connection::Sqlite)
        }
        #[cfg(feature = "mysql")]
        Location::Mysql(url) => {
            mysql::open_writer(location, url, lane, before).map(Connection::Mysql)
        }
    }
}

/// Keeps a lane's connection from being taken for a dead one.
///
/// # Errors
/// [`StorageError::Query`] where it is one.
pub fn keep(connection: &mut Connection) -> Result<(), StorageError> {
    match connection {
        Connection::Sqlite(_) => Ok(()),
        #[cfg(feature = "mysql")]
        Connection::Mysql(inner) => mysql::keep(inner),
    }
}

/// Opens a connection beside whoever uses the database, which must be there.
///
/// # Errors
/// [`StorageError::Open`].
pub fn open(location: &Location) -> Result<Connection, StorageError> {
    match location {
        Location::Sqlite(path) => sqlite::open(location, path).map(Connection::Sqlite),
        #[cfg(feature = "mysql")]
        Location::Mysql(url) => mysql::open(location, url).map(Connection::Mysql),
    }
}

/// A pool of connections for reading.
///
/// # Errors
/// [`StorageError::Open`].
pub fn open_readers(location: &Location) -> Result<ReadPool, StorageError> {
    r2d2::Pool::builder()
        .max_size(READERS)
        .connection_timeout(BUSY_TIMEOUT)
        // A file does not go away; a server does, and each check costs it an answer.
        .test_on_check_out(location.path().is_none())
        .error_handler(Box::new(Muted))
        .build(Readers(location.clone()))
        .map_err(|e| location.unopened(e))
}

/// Opens connections for reading.
#[derive(Debug)]
pub struct Readers(Location);

impl r2d2::ManageConnection for Readers {
    type Connection = Connection;
    type Error = StorageError;

    fn connect(&self) -> Result<Connection, StorageError> {
        match &self.0 {
            Location::Sqlite(path) => sqlite::reader(&self.0, path).map(Connection::Sqlite),
            #[cfg(feature = "mysql")]
            Location::Mysql(url) => mysql::open(&self.0, url).map(Connection::Mysql),
        }
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), StorageError> {
        Ok(connection.batch_execute("SELECT 1")?)
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        std::thread::panicking() || is_broken(connection)
    }
}

/// Whoever asks is told; the pool's own complaints, one a try, would fill the log.
#[derive(Debug)]
struct Muted;

impl r2d2::HandleError<StorageError> for Muted {
    fn handle_error(&self, error: StorageError) {
        log::debug!("no connection for reading: {error}");
    }
}

fn is_broken(connection: &mut Connection) -> bool {
    on_each!(connection, |inner| {
        AnsiTransactionManager::is_broken_transaction_manager(inner)
    })
}

/// Begins a transaction that will write.
///
/// # Errors
/// [`StorageError::Query`].
pub fn begin(connection: &mut Connection) -> Result<(), StorageError> {
    type Manager = AnsiTransactionManager;
    match connection {
        // One that reads before it writes would find the file locked by others.
        Connection::Sqlite(inner) => Manager::begin_transaction_sql(inner, "BEGIN IMMEDIATE")?,
        #[cfg(feature = "mysql")]
        Connection::Mysql(inner) => Manager::begin_transaction(inner)?,
    }
    Ok(())
}

/// Commits it.
///
/// # Errors
/// [`StorageError::Query`]; what became of it is then not known.
pub fn commit(connection: &mut Connection) -> Result<(), StorageError> {
    on_each!(connection, |inner| {
        AnsiTransactionManager::commit_transaction(inner)
    })?;
    Ok(())
}

/// Takes it back.
///
/// # Errors
/// [`StorageError::Query`].
pub fn roll_back(connection: &mut Connection) -> Result<(), StorageError> {
    on_each!(connection, |inner| {
        AnsiTransactionManager::rollback_transaction(inner)
    })?;
    Ok(())
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
        for url in ["data/a.db", "sqlite://", "mysql://u@h", "postgres://x"] {
            assert!(
                matches!(Location::parse(url), Err(StorageError::Url { .. })),
                "{url}"
            );
        }
    }

    #[cfg(feature = "mysql")]
    #[test]
    fn a_password_is_shown_to_nobody() {
        let location = Location::parse("mysql://ana:canary@db.example/atalaya").unwrap();
        assert_eq!(location.to_string(), "mysql://ana@db.example/atalaya");
        assert!(!format!("{location:?}").contains("canary"));
    }
}
