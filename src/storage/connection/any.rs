//! The enum of connections. In a file of its own: what diesel derives looks for its trait
//! `Connection` where the enum stands, and finds whatever else is called so there.

use diesel::prelude::*;
use std::fmt;

/// A connection to one of the databases that are known.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// An SQLite file.
    Sqlite(SqliteConnection),
    /// A server of MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    Mysql(MysqlConnection),
}

impl fmt::Debug for AnyConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "Sqlite",
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => "Mysql",
        })
    }
}
