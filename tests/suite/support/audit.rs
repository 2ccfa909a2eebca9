//! Checks a database against what is promised of it, from its rows alone.

use atalaya::storage::rows::JournalRow;
use atalaya::storage::schema::{accounts, installation, journal, lanes};
use atalaya::storage::{Connection, chain};
use diesel::prelude::*;
use std::collections::HashMap;
use std::path::Path;

/// Opens an SQLite file beside whoever uses it.
pub fn open(database: &Path) -> Connection {
    let mut connection =
        <Connection as diesel::Connection>::establish(database.to_str().unwrap()).unwrap();
    diesel::sql_query("PRAGMA busy_timeout = 10000")
        .execute(&mut connection)
        .unwrap();
    connection
}

const POSTED: i32 = 2;
const DEPOSIT: i32 = 1;
const WITHDRAWAL: i32 = 2;
const SENT: i32 = 3;
const RECEIVED: i32 = 4;

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    balance: i64,
    version: i64,
    last_seq: i64,
}

/// Walks the journal: no gap, each link right, each balance the sum of its postings, each version
/// one more, each posting naming the one before it, and the tables saying the same as the journal.
/// The error says what is wrong first.
pub fn audit(database: &Path) -> Result<usize, String> {
    let connection = &mut open(database);
    let rows: Vec<JournalRow> = journal::table
        .order(journal::seq.asc())
        .select(JournalRow::as_select())
        .load(connection)
        .unwrap();
    let id: Vec<u8> = installation::table
        .select(installation::database_id)
        .first(connection)
        .unwrap();
    let (head_seq, head_hash, postings): (i64, Vec<u8>, i64) = lanes::table
        .select((lanes::head_seq, lanes::head_hash, lanes::postings))
        .first(connection)
        .unwrap();

    let mut link = chain::genesis(&id, 0);
    let mut states: HashMap<i64, State> = HashMap::new();
    let (mut posted, mut paid_in) = (0, 0);
    for (row, expected) in rows.iter().zip(1..) {
        if row.seq != expected {
            return Err(format!("row {expected} is missing"));
        }
        link = chain::link(&link, row);
        if row.hash != link {
            return Err(format!("row {expected} breaks the chain"));
        }
        if row.fact != POSTED {
            continue;
        }
        posted += 1;
        let amount = row.amount.unwrap();
        let state = states.entry(row.account.unwrap()).or_default();
        let change = match row.posting_kind.unwrap() {
            DEPOSIT | RECEIVED => amount,
            WITHDRAWAL | SENT => -amount,
            other => return Err(format!("row {expected}: kind {other}")),
        };
        if matches!(row.posting_kind.unwrap(), DEPOSIT | WITHDRAWAL) {
            paid_in += change;
        }
        if row.previous_seq != Some(state.last_seq) {
            return Err(format!("row {expected}: the posting before it is another"));
        }
        *state = State {
            balance: state.balance + change,
            version: state.version + 1,
            last_seq: row.seq,
        };
        if state.balance < 0
            || row.balance != Some(state.balance)
            || row.version != Some(state.version)
        {
            return Err(format!("row {expected}: not the sum of the postings"));
        }
    }
    let length = i64::try_from(rows.len()).unwrap();
    if (head_seq, head_hash.as_slice(), postings) != (length, link.as_slice(), posted) {
        return Err("the head is not that of the journal".to_owned());
    }
    let stored: Vec<(i64, i64, i64, i64)> = accounts::table
        .select((
            accounts::id,
            accounts::balance,
            accounts::version,
            accounts::last_seq,
        ))
        .load(connection)
        .unwrap();
    for (account, balance, version, last_seq) in &stored {
        let state = states.remove(account).unwrap_or_default();
        if (*balance, *version, *last_seq) != (state.balance, state.version, state.last_seq) {
            return Err(format!("account {account}: not the sum of its postings"));
        }
    }
    if !states.is_empty() {
        return Err("postings of accounts that do not exist".to_owned());
    }
    let total: i64 = stored.iter().map(|account| account.1).sum();
    if total != paid_in {
        return Err(format!("{paid_in} cents came in and {total} are there"));
    }
    Ok(rows.len())
}
