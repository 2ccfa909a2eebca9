//! Quarantine: refused messages, kept for an operator, and the count of all that were refused.
//!
//! Bounded three ways, since whoever fills it is whoever we do not trust: rows in all, rows that
//! claim one device, and bytes of one message. A message that comes again raises its count.

use super::registry::Setting;
use super::{Group, Hub, HubAnswer, HubRefusal, Suspect, Undecided, rows};
use crate::domain::validation::Reason;
use crate::domain::{Slug, Subject};
use crate::storage::Connection;
use crate::storage::rows::channel_code;
use crate::storage::schema::quarantine;
use diesel::prelude::*;
use serde_json::{Map, Value, json};

/// Rows in all.
pub const ROWS: i64 = 5_000;

/// Rows that claim to be from one device.
pub const ROWS_OF_DEVICE: i64 = 50;

/// Bytes that are kept of a message: a whole one of the largest size.
pub const BYTES: usize = crate::wire::jws::MESSAGE_LIMIT;

/// Keeps a message, and lets the oldest go where there are too many.
pub(super) fn keep(connection: &mut Connection, suspect: &Suspect) -> QueryResult<usize> {
    let again =
        diesel::update(quarantine::table.filter(quarantine::digest.eq(suspect.digest.as_slice())))
            .set((
                quarantine::count.eq(quarantine::count + 1),
                quarantine::received_at.eq(suspect.received_at),
                quarantine::reason.eq(suspect.rejected.reason.name()),
                quarantine::detail.eq(suspect.rejected.detail),
            ))
            .execute(connection)?;
    if again > 0 {
        return Ok(again);
    }
    let device = suspect.device.as_ref().map(Slug::as_str);
    diesel::insert_into(quarantine::table)
        .values((
            quarantine::digest.eq(suspect.digest.as_slice()),
            quarantine::received_at.eq(suspect.received_at),
            quarantine::channel.eq(channel_code(suspect.channel)),
            quarantine::topic.eq(suspect.topic.as_deref()),
            quarantine::device.eq(device),
            quarantine::reason.eq(suspect.rejected.reason.name()),
            quarantine::detail.eq(suspect.rejected.detail),
            quarantine::count.eq(1),
            quarantine::message.eq(&suspect.message),
            quarantine::truncated.eq(suspect.truncated),
        ))
        .execute(connection)?;
    if let Some(device) = device {
        forget_of_device(connection, device)?;
    }
    forget_oldest(connection)
}

fn forget_of_device(connection: &mut Connection, device: &str) -> QueryResult<usize> {
    let last: Option<i64> = quarantine::table
        .filter(quarantine::device.eq(device))
        .order(quarantine::id.desc())
        .offset(ROWS_OF_DEVICE)
        .select(quarantine::id)
        .first(connection)
        .optional()?;
    let Some(last) = last else { return Ok(0) };
    let too_many = quarantine::table
        .filter(quarantine::device.eq(device))
        .filter(quarantine::id.le(last));
    diesel::delete(too_many).execute(connection)
}

fn forget_oldest(connection: &mut Connection) -> QueryResult<usize> {
    // One in, one out: the rows are in the order of their ids.
    let rows: i64 = quarantine::table.count().get_result(connection)?;
    if rows <= ROWS {
        return Ok(0);
    }
    let oldest: i64 = quarantine::table
        .order(quarantine::id.asc())
        .select(quarantine::id)
        .first(connection)?;
    diesel::delete(quarantine::table.find(oldest)).execute(connection)
}

pub(super) fn delete(connection: &mut Connection, id: i64) -> QueryResult<usize> {
    diesel::delete(quarantine::table.find(id)).execute(connection)
}

/// Lets a message go.
pub(super) fn release(
    hub: &mut Hub,
    group: &mut Group<'_>,
    id: i64,
) -> Result<HubAnswer, Undecided> {
    let found: i64 = quarantine::table
        .filter(quarantine::id.eq(id))
        .count()
        .get_result(group.connection)?;
    if found == 0 {
        return Err(HubRefusal::UnknownSuspect.into());
    }
    hub.pending.push(rows::Row::Release(id));
    let setting = Setting {
        subject: Subject::Quarantine,
        change: json!({"id": id, "eliminado": true}),
    };
    group.set(None, None, setting);
    Ok(HubAnswer::Done)
}

/// What the journal says of the refusals of a while.
pub(super) fn refusals(counts: &[(Reason, u64)]) -> Setting {
    let counted: Map<String, Value> = counts
        .iter()
        .map(|(reason, count)| (reason.name().to_owned(), json!(count)))
        .collect();
    Setting {
        subject: Subject::Refusals,
        change: json!({"rechazos": counted}),
    }
}
