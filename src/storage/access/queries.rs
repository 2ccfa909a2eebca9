//! Reading who there is, what they may do, and what became of it.

use super::rows::{TOKEN, digest_of, grants_of};
use crate::domain::token::TokenDigest;
use crate::domain::{Entry, Fact, Grant, Reach, Scope, Slug};
use crate::storage::queries::to_entries;
use crate::storage::rows::{ACCESS, JournalRow, SETTING};
use crate::storage::schema::{api_tokens, grants, journal, people, principals, sessions};
use crate::storage::{Connection, StorageError};
use diesel::prelude::*;
use std::collections::HashMap;

/// What is needed to let a person in.
#[derive(Clone)]
pub struct Credentials {
    /// Their row.
    pub row: i64,
    /// Whether they are let in at all.
    pub active: bool,
    /// The hash of their password.
    pub password: String,
    /// The sealed secret of their second factor.
    pub second_factor: Option<Vec<u8>>,
    /// The last step of it that was used.
    pub used_step: i64,
}

/// What is needed to let the person called `username` in.
///
/// # Errors
/// [`StorageError`], as for all functions here.
pub fn credentials(
    connection: &mut Connection,
    username: &Slug,
) -> Result<Option<Credentials>, StorageError> {
    type Row = (i64, bool, String, Option<Vec<u8>>, i64);
    let found: Option<Row> = people::table
        .filter(people::username.eq(username.as_str()))
        .select((
            people::id,
            people::active,
            people::password,
            people::totp,
            people::totp_step,
        ))
        .first(connection)
        .optional()?;
    Ok(found.map(
        |(row, active, password, second_factor, used_step)| Credentials {
            row,
            active,
            password,
            second_factor,
            used_step,
        },
    ))
}

/// Whether there is anybody at all.
///
/// # Errors
/// [`StorageError`].
pub fn has_people(connection: &mut Connection) -> Result<bool, StorageError> {
    let count: i64 = people::table.count().get_result(connection)?;
    Ok(count > 0)
}

/// Whether secrets of second factors are sealed under the key file.
///
/// # Errors
/// [`StorageError`].
pub fn has_sealed_secrets(connection: &mut Connection) -> Result<bool, StorageError> {
    let count: i64 = people::table
        .filter(people::totp.is_not_null())
        .count()
        .get_result(connection)?;
    Ok(count > 0)
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonView {
    /// Their row.
    pub row: i64,
    /// The name to sign in with.
    pub username: String,
    /// The name for people.
    pub name: String,
    /// Whether they are let in.
    pub active: bool,
    /// Whether they must choose a password.
    pub must_change: bool,
    /// Whether they have a second factor.
    pub has_second_factor: bool,
    /// When they were made.
    pub created_at: i64,
    /// What they may do.
    pub grants: Vec<Grant>,
}

/// At most `limit` people after the row `after`, or the one called `username`, of those who have a
/// role within reach.
///
/// # Errors
/// [`StorageError`].
pub fn people(
    connection: &mut Connection,
    within: &Reach,
    username: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Vec<PersonView>, StorageError> {
    type Row = (i64, String, String, bool, bool, Option<Vec<u8>>, i64);
    let mut query = people::table
        .filter(people::id.gt(after))
        .order(people::id)
        .limit(limit)
        .select((
            people::id,
            people::username,
            people::name,
            people::active,
            people::must_change,
            people::totp,
            people::created_at,
        ))
        .into_boxed();
    if let Some(username) = username {
        query = query.filter(people::username.eq(username));
    }
    if let Some(companies) = within.company_rows() {
        let of_companies = grants::table
            .filter(grants::company_id.eq_any(companies))
            .select(grants::principal_id);
        query = query.filter(people::id.eq_any(of_companies));
    }
    let found: Vec<Row> = query.load(connection)?;
    let rows: Vec<i64> = found.iter().map(|row| row.0).collect();
    let mut all = grants_of(connection, Some(&rows))?;
    // What they may do elsewhere is another company's business.
    for grants in all.values_mut() {
        grants.retain(|grant| match &grant.scope {
            Scope::Company(company) | Scope::Site(company, _) => within.has_company(company.row),
            Scope::Everything | Scope::Account(_) => *within == Reach::All,
        });
    }
    Ok(found
        .into_iter()
        .map(
            |(row, username, name, active, must_change, totp, created_at)| PersonView {
                row,
                username,
                name,
                active,
                must_change,
                has_second_factor: totp.is_some(),
                created_at,
                grants: all.remove(&row).unwrap_or_default(),
            },
        )
        .collect())
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its row.
    pub id: i64,
    /// What is kept of its token.
    pub digest: TokenDigest,
    /// Whose it is.
    pub username: String,
    /// When it began.
    pub created_at: i64,
    /// When it ends whatever happens.
    pub expires_at: i64,
    /// When it was last used, as far as is written.
    pub seen_at: i64,
    /// From where it was opened.
    pub address: Option<String>,
    /// What the client calls itself.
    pub client: Option<String>,
}

/// At most `limit` sessions after the row `after`: of one person, or of everybody.
///
/// # Errors
/// [`StorageError`].
pub fn sessions(
    connection: &mut Connection,
    person: Option<i64>,
    after: i64,
    limit: i64,
) -> Result<Vec<SessionView>, StorageError> {
    type Row = (
        i64,
        Vec<u8>,
        i64,
        i64,
        i64,
        i64,
        Option<String>,
        Option<String>,
    );
    let mut query = sessions::table
        .filter(sessions::id.gt(after))
        .order(sessions::id)
        .limit(limit)
        .into_boxed();
    if let Some(person) = person {
        query = query.filter(sessions::person_id.eq(person));
    }
    let found: Vec<Row> = query.load(connection)?;
    let owners: Vec<i64> = found.iter().map(|row| row.2).collect();
    let names: Vec<(i64, String)> = people::table
        .filter(people::id.eq_any(&owners))
        .select((people::id, people::username))
        .load(connection)?;
    let names: HashMap<i64, String> = names.into_iter().collect();
    found
        .into_iter()
        .map(
            |(id, digest, person, created_at, expires_at, seen_at, address, client)| {
                Ok(SessionView {
                    id,
                    digest: digest_of(&digest)?,
                    username: names.get(&person).cloned().unwrap_or_default(),
                    created_at,
                    expires_at,
                    seen_at,
                    address,
                    client,
                })
            },
        )
        .collect()
}

/// A token of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenView {
    /// Its row.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires_at: i64,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// At most `limit` tokens after the row `after`, or the one at `id`.
///
/// # Errors
/// [`StorageError`].
pub fn tokens(
    connection: &mut Connection,
    id: Option<i64>,
    after: i64,
    limit: i64,
) -> Result<Vec<TokenView>, StorageError> {
    type Row = (i64, String, i64, i64, i64, Option<i64>);
    let mut query = api_tokens::table
        .filter(api_tokens::id.gt(after))
        .order(api_tokens::id)
        .limit(limit)
        .select((
            api_tokens::id,
            api_tokens::name,
            api_tokens::created_by,
            api_tokens::created_at,
            api_tokens::expires_at,
            api_tokens::revoked_at,
        ))
        .into_boxed();
    if let Some(id) = id {
        query = query.filter(api_tokens::id.eq(id));
    }
    let found: Vec<Row> = query.load(connection)?;
    let rows: Vec<i64> = found.iter().map(|row| row.0).collect();
    let makers: Vec<i64> = found.iter().map(|row| row.2).collect();
    let mut all = grants_of(connection, Some(&rows))?;
    let makers = names_of(connection, &makers)?;
    Ok(found
        .into_iter()
        .map(
            |(id, name, created_by, created_at, expires_at, revoked_at)| TokenView {
                id,
                name,
                created_at,
                created_by: makers.get(&created_by).cloned().unwrap_or_default(),
                expires_at,
                revoked_at,
                grants: all.remove(&id).unwrap_or_default(),
            },
        )
        .collect())
}

/// The names of principals by row; a program's begins with `token:`.
fn names_of(
    connection: &mut Connection,
    rows: &[i64],
) -> Result<HashMap<i64, String>, StorageError> {
    let found: Vec<(i64, String, String)> = principals::table
        .filter(principals::id.eq_any(rows))
        .select((principals::id, principals::kind, principals::name))
        .load(connection)?;
    let named = found.into_iter().map(|(row, kind, name)| {
        let name = if kind == TOKEN {
            format!("token:{name}")
        } else {
            name
        };
        (row, name)
    });
    Ok(named.collect())
}

/// What is asked of the audit.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Entries of these companies; all, and those of the installation, where there are none.
    pub companies: Option<Vec<i64>>,
    /// By or about the person or program of this row.
    pub subject: Option<i64>,
    /// Not before this, in microseconds since 1970 UTC.
    pub from: Option<i64>,
    /// Before this.
    pub until: Option<i64>,
}

/// An entry of the audit, with the name of whom it happened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditView {
    /// The entry of the journal.
    pub entry: Entry,
    /// Whom it happened to.
    pub about: Option<String>,
}

/// Entries read at once while those that are wanted are looked for.
const CHUNK: i64 = 256;

/// Entries looked at for one page at most; the next page goes on from there.
const LOOKED_AT: i64 = 20_000;

/// At most `limit` entries about access and settings before `before`, newest first, and where the
/// next page begins if there may be more.
///
/// # Errors
/// [`StorageError`].
pub fn audit(
    connection: &mut Connection,
    filter: &AuditFilter,
    before: i64,
    limit: usize,
) -> Result<(Vec<AuditView>, Option<i64>), StorageError> {
    let mut found = Vec::new();
    let mut before = before;
    let mut looked_at = 0;
    loop {
        let rows = audit_rows(connection, filter, before)?;
        let is_last = i64::try_from(rows.len()).unwrap_or(CHUNK) < CHUNK;
        for entry in to_entries(connection, &rows)? {
            before = entry.position.seq;
            if !is_about(&entry, filter.subject) {
                continue;
            }
            if found.len() == limit {
                // This one begins the next page.
                return Ok((with_names(connection, found)?, Some(before + 1)));
            }
            found.push(entry);
        }
        looked_at += CHUNK;
        if is_last {
            return Ok((with_names(connection, found)?, None));
        }
        if looked_at >= LOOKED_AT {
            return Ok((with_names(connection, found)?, Some(before)));
        }
    }
}

fn audit_rows(
    connection: &mut Connection,
    filter: &AuditFilter,
    before: i64,
) -> Result<Vec<JournalRow>, StorageError> {
    let mut query = journal::table
        // As the index says it, or it would not be used.
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>(
            "fact IN (5, 6)",
        ))
        .filter(journal::seq.lt(before))
        .order(journal::seq.desc())
        .limit(CHUNK)
        .select(JournalRow::as_select())
        .into_boxed();
    debug_assert!((SETTING, ACCESS) == (5, 6));
    if let Some(companies) = &filter.companies {
        query = query.filter(journal::company.eq_any(companies.clone()));
    }
    if let Some(from) = filter.from {
        query = query.filter(journal::at.ge(from));
    }
    if let Some(until) = filter.until {
        query = query.filter(journal::at.lt(until));
    }
    Ok(query.load(connection)?)
}

fn is_about(entry: &Entry, subject: Option<i64>) -> bool {
    subject.is_none_or(|row| {
        let about = match &entry.fact {
            Fact::Access(access) => access.subject,
            _ => None,
        };
        entry.principal.row() == row || about == Some(row)
    })
}

fn with_names(
    connection: &mut Connection,
    entries: Vec<Entry>,
) -> Result<Vec<AuditView>, StorageError> {
    let subject = |entry: &Entry| match &entry.fact {
        Fact::Access(access) => access.subject,
        _ => None,
    };
    let rows: Vec<i64> = entries.iter().filter_map(subject).collect();
    let names = names_of(connection, &rows)?;
    Ok(entries
        .into_iter()
        .map(|entry| AuditView {
            about: subject(&entry).and_then(|row| names.get(&row).cloned()),
            entry,
        })
        .collect())
}
