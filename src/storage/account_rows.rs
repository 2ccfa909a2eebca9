//! Writing accounts: the new ones, and the balances that a group has changed.

use super::schema::{account_holders, accounts};
use super::{Connection, StorageError};
use crate::domain::{Account, AccountId, PersonName};
use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::BigInt;

/// An account as the writer holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) row: i64,
    pub(super) company: i64,
    pub(super) state: Account,
    pub(super) last_seq: i64,
}

/// A holder to be written with a new account.
#[derive(Debug)]
pub(super) struct NewHolder {
    pub(super) account: i64,
    pub(super) lane: i32,
    pub(super) company: i64,
    pub(super) id: AccountId,
    pub(super) given_names: PersonName,
    pub(super) surnames: PersonName,
    pub(super) salt: [u8; 16],
    pub(super) opened_at: i64,
}

/// Writes a new account and its holder.
pub(super) fn insert_account(
    connection: &mut Connection,
    holder: &NewHolder,
) -> Result<(), StorageError> {
    diesel::insert_into(accounts::table)
        .values((
            accounts::id.eq(holder.account),
            accounts::account_id.eq(holder.id.as_str()),
            accounts::company_id.eq(holder.company),
            accounts::balance.eq(0),
            accounts::version.eq(0),
            accounts::last_seq.eq(0),
            accounts::lane.eq(holder.lane),
        ))
        .execute(connection)?;
    diesel::insert_into(account_holders::table)
        .values((
            account_holders::account.eq(holder.account),
            account_holders::given_names.eq(holder.given_names.as_str()),
            account_holders::surnames.eq(holder.surnames.as_str()),
            account_holders::salt.eq(holder.salt.as_slice()),
            account_holders::opened_at.eq(holder.opened_at),
        ))
        .execute(connection)?;
    Ok(())
}

/// Writes the balances of accounts, guarded by their versions: each row must be older than what is
/// written, or somebody else has been writing here.
pub(super) fn update_accounts(
    connection: &mut Connection,
    held: &[Held],
) -> Result<(), StorageError> {
    match connection {
        Connection::Sqlite(file) => {
            for one in held {
                let updated = UpdateAccount {
                    row: one.row,
                    balance: one.state.balance.cents(),
                    version: one.state.version,
                    last_seq: one.last_seq,
                }
                .execute(file)?;
                check_updated(updated, 1, one.row)?;
            }
        }
        #[cfg(feature = "mysql")]
        Connection::Mysql(server) => {
            for slice in held.chunks(super::connection::ROWS) {
                let updated = diesel::sql_query(update_of(slice)).execute(server)?;
                let first = slice.first().map_or(0, |one| one.row);
                check_updated(updated, slice.len(), first)?;
            }
        }
    }
    Ok(())
}

fn check_updated(updated: usize, expected: usize, row: i64) -> Result<(), StorageError> {
    if updated == expected {
        return Ok(());
    }
    Err(StorageError::Inconsistent {
        what: format!("account {row}, or one written with it, was changed by somebody else"),
    })
}

/// One statement for many accounts: a server is asked once, and each question costs its way there.
/// Integers alone are written into it.
#[cfg(feature = "mysql")]
fn update_of(held: &[Held]) -> String {
    let rows = held.iter().map(|one| {
        let (row, balance) = (one.row, one.state.balance.cents());
        let (version, last_seq) = (one.state.version, one.last_seq);
        format!(
            "SELECT {row} AS id, {balance} AS balance, {version} AS version, {last_seq} AS last_seq"
        )
    });
    let rows = rows.collect::<Vec<_>>().join(" UNION ALL ");
    format!(
        "UPDATE accounts a JOIN ({rows}) n ON a.id = n.id SET a.balance = n.balance, \
         a.version = n.version, a.last_seq = n.last_seq WHERE a.version < n.version"
    )
}

/// The update of an account as a statement of our own: diesel prepares its own `UPDATE`s anew each
/// time, and this one runs once for every account of every group.
#[derive(QueryId)]
struct UpdateAccount {
    row: i64,
    balance: i64,
    version: i64,
    last_seq: i64,
}

impl<DB> QueryFragment<DB> for UpdateAccount
where
    DB: Backend,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("UPDATE accounts SET balance = ");
        out.push_bind_param::<BigInt, _>(&self.balance)?;
        out.push_sql(", version = ");
        out.push_bind_param::<BigInt, _>(&self.version)?;
        out.push_sql(", last_seq = ");
        out.push_bind_param::<BigInt, _>(&self.last_seq)?;
        out.push_sql(" WHERE id = ");
        out.push_bind_param::<BigInt, _>(&self.row)?;
        out.push_sql(" AND version < ");
        out.push_bind_param::<BigInt, _>(&self.version)
    }
}

impl RunQueryDsl<SqliteConnection> for UpdateAccount {}
