//! What stands in the database, read by a connection of the test's own.

use super::Atalaya;
use super::audit::open;
use atalaya::storage::{Backend, Connection, Location};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use std::collections::BTreeMap;

/// The database of one Atalaya; it may run or not.
pub struct Records(Location);

/// An account as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct AccountRecord {
    #[diesel(sql_type = Text)]
    pub id: String,
    #[diesel(sql_type = BigInt)]
    pub balance: i64,
    #[diesel(sql_type = BigInt)]
    pub version: i64,
}

/// A posting as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct PostingRecord {
    #[diesel(sql_type = Text)]
    pub id: String,
    #[diesel(sql_type = BigInt)]
    pub version: i64,
    #[diesel(sql_type = BigInt)]
    pub balance: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    value: String,
}

impl Records {
    pub fn of(atalaya: &Atalaya) -> Self {
        Self(atalaya.database())
    }

    /// What stands at `location`.
    #[cfg(feature = "mysql")]
    pub const fn at(location: Location) -> Self {
        Self(location)
    }

    fn load<T>(&self, sql: &str) -> Vec<T>
    where
        T: QueryableByName<Backend> + 'static,
    {
        let connection = &mut open(&self.0);
        // The one thing that tests ask for which the databases call differently.
        let sql = match connection {
            Connection::Sqlite(_) => sql.to_owned(),
            #[cfg(feature = "mysql")]
            Connection::Mysql(_) => sql.replace("AS TEXT)", "AS CHAR)"),
        };
        diesel::sql_query(sql).load(connection).unwrap()
    }

    /// The one number that `expression` stands for.
    pub fn number(&self, expression: &str) -> i64 {
        self.load::<Number>(&format!("SELECT ({expression}) AS value"))[0].value
    }

    /// The texts in the column `value` of `query`.
    pub fn texts(&self, query: &str) -> Vec<String> {
        let words: Vec<Word> = self.load(query);
        words.into_iter().map(|word| word.value).collect()
    }

    /// All accounts, by cédula.
    pub fn accounts(&self) -> BTreeMap<String, AccountRecord> {
        let all: Vec<AccountRecord> =
            self.load("SELECT account_id AS id, balance, version FROM accounts");
        all.into_iter().map(|a| (a.id.clone(), a)).collect()
    }

    /// All postings, in the order of the journal.
    pub fn postings(&self) -> Vec<PostingRecord> {
        self.load(
            "SELECT a.account_id AS id, j.version AS version, j.balance AS balance \
             FROM journal j JOIN accounts a ON a.id = j.account \
             WHERE j.version IS NOT NULL ORDER BY j.seq",
        )
    }

    /// Whether a writer is in the middle of a transaction.
    pub fn is_being_written(&self) -> bool {
        match &mut open(&self.0) {
            Connection::Sqlite(file) => {
                let held = file.batch_execute("PRAGMA busy_timeout = 0; BEGIN IMMEDIATE; ROLLBACK");
                held.is_err()
            }
            #[cfg(feature = "mysql")]
            Connection::Mysql(server) => {
                // Every commit moves the head of the journal.
                let held = server.batch_execute(
                    "START TRANSACTION; SELECT * FROM lanes FOR UPDATE NOWAIT; ROLLBACK",
                );
                held.is_err()
            }
        }
    }

    /// The topics of the messages that were given up.
    pub fn quarantined(&self) -> Vec<String> {
        self.texts("SELECT topic AS value FROM outbox_quarantine ORDER BY id")
    }
}
