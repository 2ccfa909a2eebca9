//! Servers of MySQL and MariaDB.

use super::{BUSY_TIMEOUT, Location};
use crate::storage::StorageError;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::fmt;
use std::net::IpAddr;
use url::{Host, Url};

/// Migrations for MySQL and MariaDB, embedded.
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/mysql");

/// How long the writer waits for another that was here and whose connection the server has yet to
/// find dead, in seconds: that of a process that was killed.
const TAKEOVER: i32 = 10;

/// For how long a lane's connection may say nothing, in seconds. Then the server ends it: its
/// machine or the way to it is gone, without a farewell that would have told. Whoever lives says
/// something each second ([`keep`]).
const SILENCE: i32 = 15;

/// What a connection that is alive does not reach, in seconds.
const HUSH: i64 = 4;

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
            return Err(wrong(
                "expected mysql://user:password@host/database, with what is special in the password \
                 percent-encoded",
            ));
        }
        let url = Self(url);
        match url.parameter("ssl_mode").as_deref() {
            None | Some("disabled" | "preferred" | "required") => Ok(url),
            // The library checks the authority wherever one is named.
            Some("verify_ca") if url.parameter("ssl_ca").is_some() => Ok(url),
            Some("verify_ca") => Err(wrong("ssl_mode=verify_ca needs ssl_ca=FILE")),
            // What would not be done must not be believed to be done.
            Some("verify_identity") => Err(wrong(
                "ssl_mode=verify_identity: the client library does not check the server's name; \
                 say verify_ca, and let the authority sign for that server alone",
            )),
            Some(_) => Err(wrong(
                "ssl_mode is disabled, preferred, required or verify_ca",
            )),
        }
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        self.0.path().trim_start_matches('/')
    }

    /// Whether it is the database of another URL, whoever signs in there.
    #[must_use]
    pub fn is_same_database(&self, other: &Self) -> bool {
        let place = |url: &Self| {
            let socket = url.parameter("unix_socket");
            let host = url.0.host_str().map(str::to_owned);
            let by_port = socket
                .is_none()
                .then(|| (host, url.0.port().unwrap_or(3306)));
            (url.database().to_owned(), socket, by_port)
        };
        place(self) == place(other)
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
    let mut connection = open_writer(location, url, 0, &mut None)?;
    connection
        .run_pending_migrations(MIGRATIONS)
        .map_err(|e| location.unopened(e))?;
    Ok(connection)
}

/// Opens a writer lane's connection. It holds a lock of the server, which lasts as long as it does:
/// two writers would each believe their own memory of the database. And whoever gets the lock knows
/// that what the one before was committing has been committed or never will be.
///
/// `before`: the lane's last connection, of which a server behind a network that has failed may not
/// know yet that nobody is there any more. Where that one holds the lock it is ended.
pub(super) fn open_writer(
    location: &Location,
    url: &MysqlUrl,
    lane: i32,
    before: &mut Option<i64>,
) -> Result<MysqlConnection, StorageError> {
    let mut connection = open(location, url)?;
    let mut taken = lock(&mut connection, lane, 0)?;
    if !taken.is_own {
        if taken.holder.is_some() && taken.holder == *before {
            log::warn!(
                "the last connection of lane {lane} still stands at the server, and is ended"
            );
            // It may have ended by itself meanwhile.
            let kill = format!("KILL CONNECTION {}", taken.holder.unwrap_or_default());
            let _ = connection.batch_execute(&kill);
        }
        taken = lock(&mut connection, lane, TAKEOVER)?;
    }
    if let (false, Some(holder)) = (taken.is_own, taken.holder)
        && is_silent(&mut connection, holder)
    {
        log::warn!(
            "connection {holder} of the server holds lane {lane} and says nothing; if it goes on so \
             for {SILENCE} s the server ends it"
        );
        taken = lock(&mut connection, lane, SILENCE)?;
    }
    if taken.is_own {
        *before = taken.holder;
        connection.batch_execute(&format!("SET SESSION wait_timeout = {SILENCE}"))?;
        return Ok(connection);
    }
    Err(StorageError::Taken {
        database: location.to_string(),
    })
}

/// Says something on a lane's connection.
pub(super) fn keep(connection: &mut MysqlConnection) -> Result<(), StorageError> {
    Ok(connection.batch_execute("DO 1")?)
}

/// Whether a connection of the server has said nothing for a while, or cannot be looked at.
fn is_silent(connection: &mut MysqlConnection, id: i64) -> bool {
    #[derive(QueryableByName)]
    struct Since {
        #[diesel(sql_type = BigInt)]
        seconds: i64,
    }
    let found: Result<Since, _> = diesel::sql_query(
        "SELECT CAST(time AS SIGNED) AS seconds FROM information_schema.processlist WHERE id = ?",
    )
    .bind::<BigInt, _>(id)
    .get_result(connection);
    found.map_or(true, |since| since.seconds > HUSH)
}

/// Whose a lane's lock is.
struct Taken {
    is_own: bool,
    /// The connection that holds it.
    holder: Option<i64>,
}

/// Asks for a lane's lock and waits for it so many seconds.
fn lock(connection: &mut MysqlConnection, lane: i32, seconds: i32) -> Result<Taken, StorageError> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = Nullable<BigInt>)]
        locked: Option<i64>,
        #[diesel(sql_type = Nullable<BigInt>)]
        holder: Option<i64>,
    }
    // Names of locks are the server's, and have 64 characters at most.
    let name = format!("CONCAT('atalaya:{lane}:', LEFT(SHA2(DATABASE(), 256), 32))");
    let found: Found = diesel::sql_query(format!(
        "SELECT CAST(GET_LOCK({name}, {seconds}) AS SIGNED) AS locked, \
         CAST(IS_USED_LOCK({name}) AS SIGNED) AS holder"
    ))
    .get_result(connection)?;
    Ok(Taken {
        is_own: found.locked == Some(1),
        holder: found.holder,
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
    // SQL; failures are told apart by what the server says of them in English; a wait for a lock
    // ends before whoever asked has gone.
    connection.batch_execute(&format!(
        "SET NAMES utf8mb4; SET SESSION lc_messages = 'en_US'; \
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
    fn what_the_library_does_not_check_is_refused() {
        for wrong in ["verify_identity", "verify_ca", "REQUIRED", "on"] {
            let url = format!("mysql://a@db.example/b?ssl_mode={wrong}");
            assert!(MysqlUrl::parse(&url).is_err(), "{url}");
        }
        assert!(MysqlUrl::parse("mysql://a@h/b?ssl_mode=verify_ca&ssl_ca=/c").is_ok());
    }

    #[test]
    fn one_database_is_known_by_whatever_user() {
        let is_same = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| MysqlUrl::parse(text).unwrap());
            a.is_same_database(&b)
        };
        assert!(is_same("mysql://a:x@h/b", "mysql://root@h:3306/b"));
        assert!(is_same(
            "mysql://a@localhost/b?unix_socket=/s",
            "mysql://r@h/b?unix_socket=/s"
        ));
        assert!(!is_same("mysql://a@h/b", "mysql://a@h/c"));
        assert!(!is_same("mysql://a@h/b", "mysql://a@h:3307/b"));
    }

    #[test]
    fn the_library_is_spared_what_it_ignores() {
        let url = MysqlUrl::parse("mysql://a:p@h/b?ssl_mode=required&ssl_ca=/c").unwrap();
        assert_eq!(url.for_library(), "mysql://a:p@h/b?ssl_ca=%2Fc");
    }
}
