//! Reading: synchronous functions over a connection.

use super::rows::{JournalRow, Names};
use super::schema::{
    account_holders, accounts, companies, devices, journal, journal_texts, outbox, principals,
    sites,
};
use super::{Backend, Connection, StorageError};
use crate::domain::access::FIRST_SUBJECT;
use crate::domain::{AccountId, DeviceAddress, Entry, Fact, Money, Position, Reach, Slug};
use diesel::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

/// An account with its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Its row.
    pub row: i64,
    /// Its cédula.
    pub id: AccountId,
    /// Given names of its holder.
    pub given_names: String,
    /// Surnames of its holder.
    pub surnames: String,
    /// Its balance.
    pub balance: Money,
    /// Its count of postings.
    pub version: i64,
    /// Its last posting, in its own lane; the sequence is 0 where it has none.
    pub last: Position,
}

/// The account called `id`, if there is one.
///
/// # Errors
/// [`StorageError::Query`].
pub fn find_account(
    connection: &mut Connection,
    within: &Reach,
    id: &AccountId,
) -> Result<Option<AccountView>, StorageError> {
    let found = of_account(within, id)
        .inner_join(account_holders::table)
        .select(account_columns())
        .first::<AccountRow>(connection)
        .optional()?;
    Ok(found.and_then(account_view))
}

type AccountQuery<'a> = accounts::BoxedQuery<'a, Backend>;

/// The accounts within reach.
fn accounts_within<'a>(within: &Reach) -> AccountQuery<'a> {
    let query = accounts::table.into_boxed();
    match within {
        Reach::All => query,
        Reach::Companies(_) => {
            query.filter(accounts::company_id.eq_any(within.company_rows().unwrap_or_default()))
        }
        Reach::Accounts(own) => {
            let own: Vec<String> = own.iter().map(AccountId::to_string).collect();
            query.filter(accounts::account_id.eq_any(own))
        }
    }
}

/// The account called `id`, if it is within reach.
fn of_account<'a>(within: &Reach, id: &'a AccountId) -> AccountQuery<'a> {
    accounts_within(within).filter(accounts::account_id.eq(id.as_str()))
}

/// What [`account_view`] is made of.
type AccountRow = (i64, String, i64, i64, i32, i64, String, String);

const fn account_columns() -> (
    accounts::id,
    accounts::account_id,
    accounts::balance,
    accounts::version,
    accounts::lane,
    accounts::last_seq,
    account_holders::given_names,
    account_holders::surnames,
) {
    (
        accounts::id,
        accounts::account_id,
        accounts::balance,
        accounts::version,
        accounts::lane,
        accounts::last_seq,
        account_holders::given_names,
        account_holders::surnames,
    )
}

fn account_view(
    (row, id, balance, version, lane, seq, given_names, surnames): AccountRow,
) -> Option<AccountView> {
    Some(AccountView {
        row,
        id: AccountId::parse(&id).ok()?,
        given_names,
        surnames,
        balance: Money::from_cents(balance),
        version,
        last: Position { lane, seq },
    })
}

/// At most `limit` accounts within reach whose cédula begins with `text`, or whose holder's names
/// contain each of its words, after the account `after` in the order of cédulas. Names are compared
/// without regard to case, as far as ASCII goes.
///
/// # Errors
/// [`StorageError::Query`].
pub fn search_accounts(
    connection: &mut Connection,
    within: &Reach,
    text: &str,
    after: Option<&AccountId>,
    limit: i64,
) -> Result<Vec<AccountView>, StorageError> {
    let mut query = accounts_within(within)
        .inner_join(account_holders::table)
        .order(accounts::account_id.asc())
        .limit(limit)
        .select(account_columns());
    if let Some(after) = after {
        query = query.filter(accounts::account_id.gt(after.as_str()));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A range, which the index serves; ':' comes after '9'.
        let until = format!("{text}:");
        query = query.filter(accounts::account_id.ge(text));
        query = query.filter(accounts::account_id.lt(until));
    } else {
        for word in text.split_whitespace() {
            let names = account_holders::given_names
                .concat(" ")
                .concat(account_holders::surnames);
            query = query.filter(names.like(contains(word)).escape('\\'));
        }
    }
    let found: Vec<AccountRow> = query.load(connection)?;
    Ok(found.into_iter().filter_map(account_view).collect())
}

/// The pattern for whatever contains `word`, whose own wildcards stand for themselves.
fn contains(word: &str) -> String {
    let mut pattern = String::with_capacity(word.len() + 2);
    pattern.push('%');
    for character in word.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// A page of an account's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The movements, newest first, each with the slug of its site.
    pub entries: Vec<(Entry, Option<String>)>,
    /// Where the next page starts.
    pub next: Option<i64>,
}

/// At most `limit` movements of the account called `id`, newest first, from the posting at `from`
/// or else from the last. `None` where the account does not exist or `from` is not one of its
/// postings. Follows the list that [`crate::domain::Movement::previous`] makes.
///
/// # Errors
/// [`StorageError`].
pub fn history(
    connection: &mut Connection,
    within: &Reach,
    id: &AccountId,
    from: Option<i64>,
    limit: usize,
) -> Result<Option<History>, StorageError> {
    let account: Option<(i64, i32, i64)> = of_account(within, id)
        .select((accounts::id, accounts::lane, accounts::last_seq))
        .first(connection)
        .optional()?;
    let Some((row, lane, last_seq)) = account else {
        return Ok(None);
    };
    let mut rows = Vec::with_capacity(limit.min(64));
    let mut next = from.unwrap_or(last_seq);
    while next != 0 && rows.len() < limit {
        let position = Position { lane, seq: next };
        let found = row_at(connection, position)?.filter(|found| found.account == Some(row));
        // Only a posting has a predecessor; an opening or a refusal is no place to start from.
        let Some((found, previous)) = found.and_then(|found| {
            let previous = found.previous_seq?;
            Some((found, previous))
        }) else {
            return Ok(None);
        };
        next = previous;
        rows.push(found);
    }
    let slugs = site_slugs(connection)?;
    let entries = to_entries(connection, &rows)?
        .into_iter()
        .map(|entry| {
            let site = entry.site.and_then(|site| slugs.get(&site).cloned());
            (entry, site)
        })
        .collect();
    Ok(Some(History {
        entries,
        next: (next != 0).then_some(next),
    }))
}

/// At most `limit` entries of a lane after the position `after`, in order.
///
/// # Errors
/// [`StorageError`].
pub fn entries_after(
    connection: &mut Connection,
    Position { lane, seq }: Position,
    limit: usize,
) -> Result<Vec<Entry>, StorageError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<JournalRow> = journal::table
        .filter(journal::lane.eq(lane))
        .filter(journal::seq.gt(seq))
        .order(journal::seq.asc())
        .limit(limit)
        .select(JournalRow::as_select())
        .load(connection)?;
    to_entries(connection, &rows)
}

/// The entry at `position`, if there is one.
///
/// # Errors
/// [`StorageError`].
pub fn entry_at(
    connection: &mut Connection,
    position: Position,
) -> Result<Option<Entry>, StorageError> {
    match row_at(connection, position)? {
        Some(row) => Ok(to_entries(connection, &[row])?.pop()),
        None => Ok(None),
    }
}

/// The last posting of an account at or before `until`, in the account's lane: the balance that is
/// published there. `last` is the account's last posting as far as is known.
///
/// # Errors
/// [`StorageError`].
pub fn posting_until(
    connection: &mut Connection,
    last: Position,
    until: i64,
) -> Result<Option<Entry>, StorageError> {
    let Position { lane, mut seq } = last;
    while seq > until {
        match entry_at(connection, Position { lane, seq })?.map(|entry| entry.fact) {
            Some(Fact::Posted(movement)) => seq = movement.previous,
            _ => return Ok(None),
        }
    }
    if seq == 0 {
        Ok(None)
    } else {
        entry_at(connection, Position { lane, seq })
    }
}

/// At most `limit` accounts of a lane with postings after the row `after`, in order of rows: row
/// and last posting.
///
/// # Errors
/// [`StorageError::Query`].
pub fn posted_accounts_after(
    connection: &mut Connection,
    lane: i32,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, i64)>, StorageError> {
    Ok(accounts::table
        .filter(accounts::id.gt(after))
        .filter(accounts::lane.eq(lane))
        .filter(accounts::last_seq.gt(0))
        .order(accounts::id.asc())
        .limit(limit)
        .select((accounts::id, accounts::last_seq))
        .load(connection)?)
}

/// The accounts in `rows` that have postings: row and last posting.
///
/// # Errors
/// [`StorageError::Query`].
pub fn posted_accounts(
    connection: &mut Connection,
    rows: &[i64],
) -> Result<Vec<(i64, i64)>, StorageError> {
    Ok(accounts::table
        .filter(accounts::id.eq_any(rows))
        .filter(accounts::last_seq.gt(0))
        .select((accounts::id, accounts::last_seq))
        .load(connection)?)
}

/// How far the outbox of each lane has been acknowledged, in the order of lanes.
///
/// # Errors
/// [`StorageError::Query`].
pub fn outbox_positions(connection: &mut Connection) -> Result<Vec<i64>, StorageError> {
    Ok(outbox::table
        .order(outbox::lane)
        .select(outbox::position)
        .load(connection)?)
}

/// The site called `slug` in a company, if it is there and active.
///
/// # Errors
/// [`StorageError::Query`].
pub fn find_site(
    connection: &mut Connection,
    company: i64,
    slug: &str,
) -> Result<Option<i64>, StorageError> {
    Ok(sites::table
        .filter(sites::company_id.eq(company))
        .filter(sites::slug.eq(slug))
        .filter(sites::active.eq(true))
        .select(sites::id)
        .first(connection)
        .optional()?)
}

/// Whether the database answers at all.
///
/// # Errors
/// [`StorageError::Query`].
pub fn ping(connection: &mut Connection) -> Result<(), StorageError> {
    let _: i64 = companies::table.count().get_result(connection)?;
    Ok(())
}

pub(super) fn row_at(
    connection: &mut Connection,
    Position { lane, seq }: Position,
) -> Result<Option<JournalRow>, StorageError> {
    Ok(journal::table
        .find((lane, seq))
        .select(JournalRow::as_select())
        .first(connection)
        .optional()?)
}

fn site_slugs(connection: &mut Connection) -> Result<HashMap<i64, String>, StorageError> {
    let all: Vec<(i64, String)> = sites::table
        .select((sites::id, sites::slug))
        .load(connection)?;
    Ok(all.into_iter().collect())
}

/// The entries of `rows`, with what they name looked up.
pub(super) fn to_entries(
    connection: &mut Connection,
    rows: &[JournalRow],
) -> Result<Vec<Entry>, StorageError> {
    let names = Names {
        accounts: account_names(connection, rows)?,
        devices: device_addresses(connection, rows)?,
        principals: principal_names(connection, rows)?,
        texts: texts_of(connection, rows)?,
    };
    rows.iter().map(|row| row.entry(&names)).collect()
}

fn account_names(
    connection: &mut Connection,
    rows: &[JournalRow],
) -> Result<HashMap<i64, AccountId>, StorageError> {
    let accounts = rows.iter().flat_map(|row| [row.account, row.counterparty]);
    let wanted = distinct(accounts.flatten());
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(i64, String)> = accounts::table
        .filter(accounts::id.eq_any(&wanted))
        .select((accounts::id, accounts::account_id))
        .load(connection)?;
    Ok(found
        .into_iter()
        .filter_map(|(row, id)| Some((row, AccountId::parse(&id).ok()?)))
        .collect())
}

fn device_addresses(
    connection: &mut Connection,
    rows: &[JournalRow],
) -> Result<HashMap<i64, DeviceAddress>, StorageError> {
    let wanted = distinct(rows.iter().filter_map(JournalRow::device));
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(i64, String, String, String)> = devices::table
        .inner_join(sites::table)
        .inner_join(companies::table)
        .filter(devices::id.eq_any(&wanted))
        .select((devices::id, companies::slug, sites::slug, devices::slug))
        .load(connection)?;
    Ok(found
        .into_iter()
        .filter_map(|(row, company, site, device)| {
            let address = DeviceAddress {
                company: Slug::parse(&company).ok()?,
                site: Slug::parse(&site).ok()?,
                device: Slug::parse(&device).ok()?,
            };
            Some((row, address))
        })
        .collect())
}

fn principal_names(
    connection: &mut Connection,
    rows: &[JournalRow],
) -> Result<HashMap<i64, Arc<str>>, StorageError> {
    let subjects = rows.iter().map(|row| row.principal);
    let wanted = distinct(subjects.filter(|row| *row >= FIRST_SUBJECT));
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(i64, String)> = principals::table
        .filter(principals::id.eq_any(&wanted))
        .select((principals::id, principals::name))
        .load(connection)?;
    Ok(found
        .into_iter()
        .map(|(row, name)| (row, Arc::from(name)))
        .collect())
}

fn texts_of(
    connection: &mut Connection,
    rows: &[JournalRow],
) -> Result<HashMap<i64, Vec<u8>>, StorageError> {
    let with_texts = rows.iter().filter(|row| row.has_texts());
    let wanted = distinct(with_texts.map(|row| row.seq));
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(i64, Vec<u8>)> = journal_texts::table
        .filter(journal_texts::seq.eq_any(&wanted))
        .load(connection)?;
    Ok(found.into_iter().collect())
}

fn distinct(rows: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut rows: Vec<i64> = rows.collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}
