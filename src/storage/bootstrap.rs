//! The rows that every database has: what it is, its first company, site, principals and lane.

use super::schema::{companies, installation, lanes, outbox, principals, sites};
use super::{Connection, StorageError, chain, connection as db, hub};
use crate::domain::{Principal, Slug};
use diesel::prelude::*;
use uuid::Uuid;

/// The site that a company has from the start.
pub const FIRST_SITE: &str = "principal";

/// What this database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Names the database for ever, whatever folder it is copied to.
    pub database_id: Uuid,
    /// The row of the company that `EMPRESA` names.
    pub company: i64,
    /// How many writer lanes it has.
    pub lanes: usize,
}

/// What the configuration wants of the database.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// `INSTALACION`.
    pub name: &'a str,
    /// `MONEDA`.
    pub currency: &'a str,
    /// `EMPRESA`.
    pub company: &'a Slug,
    /// `WRITER_LANES`, where it is said: fixed when the database is created.
    pub lanes: Option<usize>,
}

/// Creates what is missing, all or nothing, and checks that the rest is as configured.
///
/// # Errors
/// [`StorageError::Fixed`] where the currency is another, [`StorageError::Query`].
pub fn bootstrap(
    connection: &mut Connection,
    wanted: &Wanted<'_>,
    now: i64,
) -> Result<Installation, StorageError> {
    db::begin(connection)?;
    match fill(connection, wanted, now) {
        Ok(installation) => {
            db::commit(connection)?;
            Ok(installation)
        }
        Err(error) => {
            db::roll_back(connection)?;
            Err(error)
        }
    }
}

fn fill(
    connection: &mut Connection,
    wanted: &Wanted<'_>,
    now: i64,
) -> Result<Installation, StorageError> {
    let found: Option<(Vec<u8>, String)> = installation::table
        .select((installation::database_id, installation::currency))
        .first(connection)
        .optional()?;
    let database_id = match found {
        Some((id, currency)) if currency == wanted.currency => {
            Uuid::from_slice(&id).map_err(|_| StorageError::Inconsistent {
                what: "the id of the database is not a UUID".to_owned(),
            })?
        }
        Some((_, currency)) => {
            return Err(StorageError::Fixed {
                setting: "MONEDA",
                wanted: wanted.currency.to_owned(),
                found: currency,
            });
        }
        None => create(connection, wanted, now)?,
    };
    let company = company_row(connection, wanted.company, now)?;
    hub::preload(connection, company, Principal::System.row(), now)?;
    Ok(Installation {
        database_id,
        company,
        lanes: check_lanes(connection, wanted.lanes)?,
    })
}

fn create(
    connection: &mut Connection,
    wanted: &Wanted<'_>,
    now: i64,
) -> Result<Uuid, StorageError> {
    let id = Uuid::new_v4();
    diesel::insert_into(installation::table)
        .values((
            installation::id.eq(1),
            installation::database_id.eq(id.as_bytes().as_slice()),
            installation::name.eq(wanted.name),
            installation::currency.eq(wanted.currency),
            installation::created_at.eq(now),
        ))
        .execute(connection)?;
    for (principal, kind) in [(Principal::Local, "local"), (Principal::System, "system")] {
        diesel::insert_into(principals::table)
            .values((
                principals::id.eq(principal.row()),
                principals::kind.eq(kind),
                principals::name.eq(kind),
                principals::created_at.eq(now),
            ))
            .execute(connection)?;
    }
    let lanes = i32::try_from(wanted.lanes.unwrap_or(1)).unwrap_or(1);
    for lane in 0..lanes {
        create_lane(connection, &id, lane)?;
    }
    Ok(id)
}

fn create_lane(connection: &mut Connection, id: &Uuid, lane: i32) -> Result<(), StorageError> {
    diesel::insert_into(lanes::table)
        .values((
            lanes::lane.eq(lane),
            lanes::head_seq.eq(0),
            lanes::head_hash.eq(chain::genesis(id.as_bytes(), lane).as_slice()),
            lanes::postings.eq(0),
            lanes::keys_indexed_to.eq(0),
        ))
        .execute(connection)?;
    diesel::insert_into(outbox::table)
        .values((outbox::lane.eq(lane), outbox::position.eq(0)))
        .execute(connection)?;
    Ok(())
}

/// How many lanes there are. Accounts are dealt out among them for ever, so there can be no more
/// and no fewer later.
fn check_lanes(connection: &mut Connection, wanted: Option<usize>) -> Result<usize, StorageError> {
    let found: i64 = lanes::table.count().get_result(connection)?;
    let found = usize::try_from(found).unwrap_or(1);
    match wanted {
        Some(wanted) if wanted != found => Err(StorageError::Fixed {
            setting: "WRITER_LANES",
            wanted: wanted.to_string(),
            found: found.to_string(),
        }),
        _ => Ok(found),
    }
}

fn company_row(connection: &mut Connection, slug: &Slug, now: i64) -> Result<i64, StorageError> {
    // Accounts are found by their cédula alone, so they all belong to the first company.
    let first: Option<(i64, String)> = companies::table
        .order(companies::id)
        .select((companies::id, companies::slug))
        .first(connection)
        .optional()?;
    match first {
        Some((row, found)) if found == slug.as_str() => return Ok(row),
        Some((_, found)) => {
            return Err(StorageError::Fixed {
                setting: "EMPRESA",
                wanted: slug.to_string(),
                found,
            });
        }
        None => {}
    }
    let row = 1;
    diesel::insert_into(companies::table)
        .values((
            companies::id.eq(row),
            companies::slug.eq(slug.as_str()),
            companies::name.eq(slug.as_str()),
            companies::active.eq(true),
            companies::created_at.eq(now),
        ))
        .execute(connection)?;
    diesel::insert_into(sites::table)
        .values((
            sites::company_id.eq(row),
            sites::slug.eq(FIRST_SITE),
            sites::name.eq(FIRST_SITE),
            sites::time_zone.eq("UTC"),
            sites::active.eq(true),
            sites::created_at.eq(now),
        ))
        .execute(connection)?;
    Ok(row)
}
