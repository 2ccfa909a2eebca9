//! Reading and writing people, tokens, sessions and what they may do.

use super::view::{Change, Pass, Subject};
use super::{GrantSpec, NotGranted};
use crate::domain::token::TokenDigest;
use crate::domain::{AccountId, CompanyRef, Grant, Identity, Principal, Role, Scope, Slug};
use crate::storage::rows::codes;
use crate::storage::schema::{api_tokens, companies, grants, people, principals, sessions, sites};
use crate::storage::{Connection, StorageError};
use diesel::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

codes!(
    role_code,
    role_of,
    Role,
    i32,
    Role::Admin = 1,
    Role::Operator = 2,
    Role::Teller = 3,
    Role::Customer = 4,
    Role::Auditor = 5,
);

/// What `principals.kind` says.
pub(super) const PERSON: &str = "person";
pub(super) const TOKEN: &str = "token";

type GrantRow = (
    i64,
    i32,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// The grants of the subjects in `rows`, or of all.
pub(super) fn grants_of(
    connection: &mut Connection,
    rows: Option<&[i64]>,
) -> Result<HashMap<i64, Vec<Grant>>, StorageError> {
    let mut query = grants::table
        .left_join(companies::table)
        .left_join(sites::table)
        .order(grants::id)
        .select((
            grants::principal_id,
            grants::role,
            grants::company_id,
            companies::slug.nullable(),
            sites::slug.nullable(),
            grants::account,
        ))
        .into_boxed();
    if let Some(rows) = rows {
        query = query.filter(grants::principal_id.eq_any(rows));
    }
    let found: Vec<GrantRow> = query.load(connection)?;
    let mut all: HashMap<i64, Vec<Grant>> = HashMap::new();
    for row in found {
        let subject = row.0;
        let grant = grant(row).ok_or_else(|| StorageError::Inconsistent {
            what: format!("a grant of principal {subject} cannot be read"),
        })?;
        all.entry(subject).or_default().push(grant);
    }
    Ok(all)
}

fn grant((_, role, company, company_slug, site, account): GrantRow) -> Option<Grant> {
    let company = match (company, company_slug) {
        (Some(row), Some(slug)) => Some(CompanyRef {
            row,
            slug: Slug::parse(&slug).ok()?,
        }),
        _ => None,
    };
    let scope = match (company, site, account) {
        (None, None, None) => Scope::Everything,
        (None, None, Some(account)) => Scope::Account(AccountId::parse(&account).ok()?),
        (Some(company), None, None) => Scope::Company(company),
        (Some(company), Some(site), None) => Scope::Site(company, Slug::parse(&site).ok()?),
        _ => return None,
    };
    Grant::new(role_of(role)?, scope).ok()
}

/// Replaces what a subject may do.
pub(super) fn put_grants(
    connection: &mut Connection,
    subject: i64,
    specs: &[ResolvedGrant],
) -> Result<(), StorageError> {
    diesel::delete(grants::table.filter(grants::principal_id.eq(subject))).execute(connection)?;
    for spec in specs {
        diesel::insert_into(grants::table)
            .values((
                grants::principal_id.eq(subject),
                grants::role.eq(role_code(spec.role)),
                grants::company_id.eq(spec.company),
                grants::site_id.eq(spec.site),
                grants::account.eq(spec.account.as_ref().map(AccountId::as_str)),
            ))
            .execute(connection)?;
    }
    Ok(())
}

/// A grant by rows.
pub(super) struct ResolvedGrant {
    role: Role,
    pub(super) company: Option<i64>,
    site: Option<i64>,
    account: Option<AccountId>,
}

/// Looks up what grants name.
pub(super) fn resolve(
    connection: &mut Connection,
    specs: &[GrantSpec],
) -> Result<Result<Vec<ResolvedGrant>, NotGranted>, StorageError> {
    let mut resolved = Vec::with_capacity(specs.len());
    for spec in specs {
        let company = match &spec.company {
            None => None,
            Some(slug) => match company_row(connection, slug)? {
                None => return Ok(Err(NotGranted::UnknownCompany)),
                found => found,
            },
        };
        let site = match (&spec.site, company) {
            (None, _) => None,
            (Some(_), None) => return Ok(Err(NotGranted::Mismatch)),
            (Some(slug), Some(company)) => {
                let found = sites::table
                    .filter(sites::company_id.eq(company))
                    .filter(sites::slug.eq(slug.as_str()))
                    .select(sites::id)
                    .first(connection)
                    .optional()?;
                match found {
                    None => return Ok(Err(NotGranted::UnknownSite)),
                    found => found,
                }
            }
        };
        resolved.push(ResolvedGrant {
            role: spec.role,
            company,
            site,
            account: spec.account.clone(),
        });
    }
    Ok(Ok(resolved))
}

fn company_row(connection: &mut Connection, slug: &Slug) -> Result<Option<i64>, StorageError> {
    Ok(companies::table
        .filter(companies::slug.eq(slug.as_str()))
        .select(companies::id)
        .first(connection)
        .optional()?)
}

/// A new row of `principals`, at or above `first`.
pub(super) fn new_principal(
    connection: &mut Connection,
    kind: &str,
    name: &str,
    now: i64,
) -> Result<i64, StorageError> {
    let highest: Option<i64> = principals::table
        .select(diesel::dsl::max(principals::id))
        .first(connection)?;
    let first = crate::domain::access::FIRST_SUBJECT;
    let row = highest.unwrap_or(0).max(first - 1) + 1;
    diesel::insert_into(principals::table)
        .values((
            principals::id.eq(row),
            principals::kind.eq(kind),
            principals::name.eq(name),
            principals::created_at.eq(now),
        ))
        .execute(connection)?;
    Ok(row)
}

/// Whether a principal of this kind has or had that name.
pub(super) fn is_taken(
    connection: &mut Connection,
    kind: &str,
    name: &str,
) -> Result<bool, StorageError> {
    let found: Option<i64> = principals::table
        .filter(principals::kind.eq(kind))
        .filter(principals::name.eq(name))
        .select(principals::id)
        .first(connection)
        .optional()?;
    Ok(found.is_some())
}

/// The person with this row, as the view shows them.
pub(super) fn person(
    connection: &mut Connection,
    row: i64,
) -> Result<Option<Subject>, StorageError> {
    let mut own = grants_of(connection, Some(&[row]))?;
    let found: Option<PersonRow> = person_columns()
        .filter(people::id.eq(row))
        .first(connection)
        .optional()?;
    found
        .map(|found| subject_of(found, own.remove(&row).unwrap_or_default()))
        .transpose()
}

type PersonRow = (i64, String, bool, bool, Option<Vec<u8>>);

#[diesel::dsl::auto_type(no_type_alias)]
fn person_columns() -> _ {
    people::table.select((
        people::id,
        people::username,
        people::active,
        people::must_change,
        people::totp,
    ))
}

fn subject_of(
    (row, username, active, must_change, totp): PersonRow,
    grants: Vec<Grant>,
) -> Result<Subject, StorageError> {
    named(row, &username, |username| Subject {
        row,
        is_person: true,
        active,
        has_second_factor: totp.is_some(),
        identity: Arc::new(Identity {
            principal: Principal::Subject {
                row,
                name: username.as_str().into(),
            },
            grants,
            must_change,
        }),
        username,
    })
}

/// A program as the view shows it.
pub(super) fn program(row: i64, name: &str, grants: Vec<Grant>) -> Result<Subject, StorageError> {
    named(row, name, |username| Subject {
        row,
        is_person: false,
        active: true,
        has_second_factor: false,
        identity: Arc::new(Identity {
            principal: Principal::Subject {
                row,
                name: username.as_str().into(),
            },
            grants,
            must_change: false,
        }),
        username,
    })
}

fn named<T>(row: i64, name: &str, make: impl FnOnce(Slug) -> T) -> Result<T, StorageError> {
    let parsed = Slug::parse(name).map_err(|_| StorageError::Inconsistent {
        what: format!("principal {row} has no proper name"),
    })?;
    Ok(make(parsed))
}

/// The program with this row.
pub(super) fn program_at(
    connection: &mut Connection,
    row: i64,
    name: &str,
) -> Result<Subject, StorageError> {
    let mut own = grants_of(connection, Some(&[row]))?;
    program(row, name, own.remove(&row).unwrap_or_default())
}

/// Everybody who may be let in at `now`, and with what.
pub(super) fn everybody(
    connection: &mut Connection,
    now: i64,
) -> Result<Vec<Change>, StorageError> {
    let mut all = grants_of(connection, None)?;
    let mut changes = Vec::new();
    let found: Vec<PersonRow> = person_columns().load(connection)?;
    for person in found {
        let own = all.remove(&person.0).unwrap_or_default();
        changes.push(Change::Subject(subject_of(person, own)?));
    }
    let tokens: Vec<(i64, String, Vec<u8>, i64)> = api_tokens::table
        .filter(api_tokens::revoked_at.is_null())
        .filter(api_tokens::expires_at.gt(now))
        .select((
            api_tokens::id,
            api_tokens::name,
            api_tokens::digest,
            api_tokens::expires_at,
        ))
        .load(connection)?;
    for (row, name, digest, expires_at) in tokens {
        let own = all.remove(&row).unwrap_or_default();
        changes.push(Change::Subject(program(row, &name, own)?));
        let digest = digest_of(&digest)?;
        changes.push(Change::Opened(Pass::new(
            digest, None, row, expires_at, now,
        )));
    }
    let open: Vec<(i64, Vec<u8>, i64, i64, i64)> = sessions::table
        .filter(sessions::expires_at.gt(now))
        .select((
            sessions::id,
            sessions::digest,
            sessions::person_id,
            sessions::expires_at,
            sessions::seen_at,
        ))
        .load(connection)?;
    for (id, digest, person, expires_at, seen_at) in open {
        let digest = digest_of(&digest)?;
        let pass = Pass::new(digest, Some(id), person, expires_at, seen_at);
        changes.push(Change::Opened(pass));
    }
    Ok(changes)
}

pub(super) fn digest_of(bytes: &[u8]) -> Result<TokenDigest, StorageError> {
    bytes.try_into().map_err(|_| StorageError::Inconsistent {
        what: "a token's digest has not 32 bytes".to_owned(),
    })
}

/// The digests of a person's sessions, with their rows, the oldest first.
pub(super) fn sessions_of(
    connection: &mut Connection,
    person: i64,
) -> Result<Vec<(i64, TokenDigest)>, StorageError> {
    let found: Vec<(i64, Vec<u8>)> = sessions::table
        .filter(sessions::person_id.eq(person))
        .order(sessions::id)
        .select((sessions::id, sessions::digest))
        .load(connection)?;
    found
        .into_iter()
        .map(|(id, digest)| Ok((id, digest_of(&digest)?)))
        .collect()
}

/// How many people who are let in have the role `admin`.
pub(super) fn active_admins(connection: &mut Connection) -> Result<i64, StorageError> {
    Ok(people::table
        .filter(people::active.eq(true))
        .filter(
            people::id.eq_any(
                grants::table
                    .filter(grants::role.eq(role_code(Role::Admin)))
                    .select(grants::principal_id),
            ),
        )
        .count()
        .get_result(connection)?)
}
