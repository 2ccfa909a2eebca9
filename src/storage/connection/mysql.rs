//! Servers of MySQL and MariaDB.

use super::{BUSY_TIMEOUT, Location};
use crate::storage::StorageError;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Nullable, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::fmt;
use std::net::IpAddr;
use url::{Host, Url};

/// Migrations for MySQL and MariaDB, embedded.
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/mysql");

/// How long the writer waits for another that was here and whose connection the server has yet to
/// find dead, in seconds.
const TAKEOVER: u32 = 10;

/// `mysql://user:password@host:port/database`, with what may stand behind: `unix_socket`, `ssl_ca`,
/// `ssl_cert`, `ssl_key`, `ssl_mode`.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlUrl(Url);

impl MysqlUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`StorageError::Url`] where it is none or names no database.
    pub fn parse(text: &str) -> Result<Self, StorageError> {
        let wrong = |reason| StorageError::Url { reason };
        let url = Url::parse(text).map_err(|_| wrong("not a URL"))?;
        let named = url.path_segments().is_some_and(|mut segments| {
            segments.next().is_some_and(|name| !name.is_empty()) && segments.next().is_none()
        });
        if url.scheme() != "mysql" || url.username().is_empty() || !named {
            return Err(wrong("expected mysql://user:password@host/database"));
        }
        Ok(Self(url))
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        self.0.path().trim_start_matches('/')
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.0.query_pairs();
        pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    }

    /// Whether what is said on the way must be hidden: wherever others may listen, unless the URL
    /// says `ssl_mode=disabled`; and wherever the URL asks for it.
    fn demands_tls(&self) -> bool {
        match self.parameter("ssl_mode").as_deref() {
            Some("disabled" | "preferred") => false,
            Some(_) => true,
            None => self.parameter("ssl_ca").is_some() || !self.is_own(),
        }
    }

    /// Whether the server is on this machine.
    fn is_own(&self) -> bool {
        self.parameter("unix_socket").is_some()
            || match self.0.host() {
                None => true,
                Some(Host::Domain(name)) => {
                    name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
                }
                Some(Host::Ipv4(address)) => address.is_loopback(),
                Some(Host::Ipv6(address)) => address.is_loopback(),
            }
    }

    /// The URL as the client library is to have it: it takes `ssl_mode` and does nothing with it,
    /// so what it stands for is looked at here.
    fn for_library(&self) -> String {
        let mut url = self.0.clone();
        let kept: Vec<(String, String)> = self
            .0
            .query_pairs()
            .filter(|(key, _)| key != "ssl_mode")
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
        url.into()
    }
}

/// Without the password.
impl fmt::Display for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, host) = (self.0.username(), self.0.host_str().unwrap_or("localhost"));
        write!(f, "mysql://{user}@{host}")?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.database())
    }
}

impl fmt::Debug for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Opens the writer's connection, creating tables where they are missing.
pub(super) fn create(location: &Location, url: &MysqlUrl) -> Result<MysqlConnection, StorageError> {
    let mut connection = open_writer(location, url, 0)?;
    connection
        .run_pending_migrations(MIGRATIONS)
        .map_err(|e| location.unopened(e))?;
    Ok(connection)
}

/// Opens a writer lane's connection. It holds a lock of the server, which lasts as long as it does:
/// two writers would each believe their own memory of the database. And whoever gets the lock knows that
/// what the one before was committing has been committed or never will be.
pub(super) fn open_writer(
    location: &Location,
    url: &MysqlUrl,
    lane: i32,
) -> Result<MysqlConnection, StorageError> {
    #[derive(QueryableByName)]
    struct Locked {
        #[diesel(sql_type = Nullable<Integer>)]
        locked: Option<i32>,
    }
    let mut connection = open(location, url)?;
    let found: Locked =
        diesel::sql_query("SELECT GET_LOCK(CONCAT('atalaya:', ?, ':', DATABASE()), ?) AS locked")
            .bind::<Integer, _>(lane)
            .bind::<Integer, _>(i32::try_from(TAKEOVER).unwrap_or(i32::MAX))
            .get_result(&mut connection)?;
    if found.locked == Some(1) {
        return Ok(connection);
    }
    Err(StorageError::Taken {
        database: location.to_string(),
    })
}

/// Opens a connection.
pub(super) fn open(location: &Location, url: &MysqlUrl) -> Result<MysqlConnection, StorageError> {
    let mut connection =
        MysqlConnection::establish(&url.for_library()).map_err(|e| location.unopened(e))?;
    if url.demands_tls() && !is_hidden(&mut connection)? {
        return Err(location.unopened(
            "the connection is not encrypted; name the authority of the server's certificate with \
             ?ssl_ca=FILE and let the server require TLS, or say ?ssl_mode=disabled if something \
             else protects the way",
        ));
    }
    // What is written must be what was said, and not what fits; `||` joins texts, as in standard
    // SQL; a wait for a lock ends before whoever asked has gone.
    connection.batch_execute(&format!(
        "SET NAMES utf8mb4; \
         SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT,ERROR_FOR_DIVISION_BY_ZERO'; \
         SET SESSION time_zone = '+00:00'; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION innodb_lock_wait_timeout = {};",
        BUSY_TIMEOUT.as_secs()
    ))?;
    Ok(connection)
}

/// Whether the connection is encrypted: the library would go on in the clear if the server does not
/// offer TLS.
fn is_hidden(connection: &mut MysqlConnection) -> Result<bool, StorageError> {
    #[derive(QueryableByName)]
    struct Status {
        #[diesel(sql_type = Text, column_name = "Value")]
        value: String,
    }
    let found: Vec<Status> =
        diesel::sql_query("SHOW SESSION STATUS LIKE 'Ssl_cipher'").load(connection)?;
    Ok(found.iter().any(|status| !status.value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_hear_must_be_hidden() {
        let demands = |text: &str| MysqlUrl::parse(text).unwrap().demands_tls();
        for open in [
            "mysql://a@localhost/b",
            "mysql://a@127.0.0.1/b",
            "mysql://a@[::1]/b",
            "mysql://a@db.example/b?unix_socket=/run/x.sock",
            "mysql://a@db.example/b?ssl_mode=disabled",
        ] {
            assert!(!demands(open), "{open}");
        }
        for hidden in [
            "mysql://a@db.example/b",
            "mysql://a@10.0.0.1:3307/b",
            "mysql://a@localhost/b?ssl_mode=required",
            "mysql://a@localhost/b?ssl_ca=/etc/ca.pem",
        ] {
            assert!(demands(hidden), "{hidden}");
        }
    }

    #[test]
    fn the_library_is_spared_what_it_ignores() {
        let url = MysqlUrl::parse("mysql://a:p@h/b?ssl_mode=required&ssl_ca=/c").unwrap();
        assert_eq!(url.for_library(), "mysql://a:p@h/b?ssl_ca=%2Fc");
    }
}
