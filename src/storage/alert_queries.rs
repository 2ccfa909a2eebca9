//! Reading alerts, their history, what keys were used for, and quarantine.

use super::hub::{AlertRow, find_message};
use super::queries::{row_at, to_entries};
use super::schema::{alerts, companies, device_windows, devices, journal_texts, quarantine, sites};
use super::steps::{priority_code, priority_of, state_code, state_of, texts_of};
use super::{Connection, StorageError};
use crate::domain::{
    AlertContent, AlertState, Entry, Novelty, Position, Priority, Reach, SequenceWindow,
};
use diesel::prelude::*;
use uuid::Uuid;

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertView {
    /// Its row, which orders lists.
    pub row: i64,
    /// Names it for ever.
    pub id: Uuid,
    /// Its company.
    pub company: String,
    /// Its site.
    pub site: String,
    /// Its device.
    pub device: String,
    /// The device's row.
    pub device_row: i64,
    /// What kind.
    pub kind: String,
    /// How urgent.
    pub priority: Priority,
    /// Where it stands.
    pub state: AlertState,
    /// Whether it came too late to drive hardware.
    pub late: bool,
    /// How often it was raised.
    pub count: i64,
    /// How often it was escalated.
    pub escalations: i64,
    /// Whether it freezes withdrawals.
    pub freezes: bool,
    /// When it was raised.
    pub raised_at: i64,
    /// When it changed last.
    pub updated_at: i64,
    /// When it was acknowledged.
    pub acknowledged_at: Option<i64>,
    /// When it was resolved or discarded.
    pub closed_at: Option<i64>,
    /// Its last step in the journal.
    pub last_seq: i64,
    /// What was said of it; nothing where that was erased.
    pub content: AlertContent,
}

/// Which alerts are wanted.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Of which company.
    pub company: Option<String>,
    /// At which site.
    pub site: Option<String>,
    /// Of which device.
    pub device: Option<String>,
    /// In which states; in any where this is not said.
    pub states: Option<Vec<AlertState>>,
    /// Of which kind.
    pub kind: Option<String>,
    /// How urgent.
    pub priority: Option<Priority>,
    /// Raised at this moment or later.
    pub from: Option<i64>,
    /// Raised before this moment.
    pub until: Option<i64>,
    /// This one alone.
    pub id: Option<Uuid>,
}

type Found = (AlertRow, String, String, String, Option<Vec<u8>>);

/// At most `limit` alerts whose rows are below `before`, newest first.
///
/// # Errors
/// [`StorageError`].
pub fn alerts(
    connection: &mut Connection,
    within: &Reach,
    wanted: &AlertFilter,
    before: i64,
    limit: i64,
) -> Result<Vec<AlertView>, StorageError> {
    let mut query = alerts::table
        .inner_join(companies::table)
        .inner_join(sites::table)
        .inner_join(devices::table)
        .left_join(journal_texts::table.on(journal_texts::seq.eq(alerts::first_seq)))
        .filter(alerts::id.lt(before))
        .order(alerts::id.desc())
        .limit(limit)
        .select((
            AlertRow::as_select(),
            companies::slug,
            sites::slug,
            devices::slug,
            journal_texts::body.nullable(),
        ))
        .into_boxed();
    if let Some(rows) = within.company_rows() {
        query = query.filter(companies::id.eq_any(rows));
    }
    if let Some(company) = &wanted.company {
        query = query.filter(companies::slug.eq(company.clone()));
    }
    if let Some(site) = &wanted.site {
        query = query.filter(sites::slug.eq(site.clone()));
    }
    if let Some(device) = &wanted.device {
        query = query.filter(devices::slug.eq(device.clone()));
    }
    if let Some(states) = &wanted.states {
        let codes = states.iter().copied().map(state_code);
        query = query.filter(alerts::state.eq_any(codes.collect::<Vec<_>>()));
        if states.iter().all(|state| state.is_open()) {
            // In the words of the partial index, which the list of states would not be found by.
            query = query.filter(alerts::state.le(2));
        }
    }
    if let Some(kind) = &wanted.kind {
        query = query.filter(alerts::kind.eq(kind.clone()));
    }
    if let Some(priority) = wanted.priority {
        query = query.filter(alerts::priority.eq(priority_code(priority)));
    }
    if let Some(from) = wanted.from {
        query = query.filter(alerts::raised_at.ge(from));
    }
    if let Some(until) = wanted.until {
        query = query.filter(alerts::raised_at.lt(until));
    }
    if let Some(id) = wanted.id {
        query = query.filter(alerts::alert_id.eq(id.as_bytes().to_vec()));
    }
    let found: Vec<Found> = query.load(connection)?;
    found.into_iter().map(view).collect()
}

/// Page `page` (from 0) of `limit` alerts, newest first, and how many there are in all.
///
/// # Errors
/// [`StorageError`].
pub fn alert_page(
    connection: &mut Connection,
    within: &Reach,
    page: i64,
    limit: i64,
) -> Result<(Vec<AlertView>, i64), StorageError> {
    let mut count = alerts::table.count().into_boxed();
    let mut first = alerts::table
        .order(alerts::id.desc())
        .offset(page.saturating_mul(limit))
        .select(alerts::id)
        .into_boxed();
    if let Some(rows) = within.company_rows() {
        count = count.filter(alerts::company_id.eq_any(rows.clone()));
        first = first.filter(alerts::company_id.eq_any(rows));
    }
    let total: i64 = count.get_result(connection)?;
    // An offset alone is no SQL.
    let first: Option<i64> = first.limit(1).first(connection).optional()?;
    let Some(first) = first else {
        return Ok((Vec::new(), total));
    };
    let wanted = AlertFilter::default();
    let found = self::alerts(connection, within, &wanted, first.saturating_add(1), limit)?;
    Ok((found, total))
}

/// The alert called `id`.
///
/// # Errors
/// [`StorageError`].
pub fn alert(
    connection: &mut Connection,
    within: &Reach,
    id: Uuid,
) -> Result<Option<AlertView>, StorageError> {
    let wanted = AlertFilter {
        id: Some(id),
        ..AlertFilter::default()
    };
    Ok(alerts(connection, within, &wanted, i64::MAX, 1)?.pop())
}

fn view((row, company, site, device, texts): Found) -> Result<AlertView, StorageError> {
    let wrong = || StorageError::Inconsistent {
        what: format!("alert {} cannot be read", row.id),
    };
    let content = match texts {
        Some(body) => texts_of(&body).ok_or_else(wrong)?.content,
        None => AlertContent::default(),
    };
    Ok(AlertView {
        row: row.id,
        id: Uuid::from_slice(&row.alert_id).map_err(|_| wrong())?,
        company,
        site,
        device,
        device_row: row.device_id,
        kind: row.kind.clone(),
        priority: priority_of(row.priority).ok_or_else(wrong)?,
        state: state_of(row.state).ok_or_else(wrong)?,
        late: row.late,
        count: row.count,
        escalations: row.escalations,
        freezes: row.freezes,
        raised_at: row.raised_at,
        updated_at: row.updated_at,
        acknowledged_at: row.acknowledged_at,
        closed_at: row.closed_at,
        last_seq: row.last_seq,
        content,
    })
}

/// A page of an alert's history: entries newest first, and where the next page starts.
pub type Steps = (Vec<Entry>, Option<i64>);

/// At most `limit` steps of the alert at `row`, newest first, from the step at `from`. `None` where
/// `from` is not one of its steps.
///
/// # Errors
/// [`StorageError`].
pub fn steps(
    connection: &mut Connection,
    row: i64,
    from: i64,
    limit: usize,
) -> Result<Option<Steps>, StorageError> {
    let mut rows = Vec::new();
    let mut next = from;
    while next != 0 && rows.len() < limit {
        let Some(found) =
            row_at(connection, Position::new(next))?.filter(|found| found.alert() == Some(row))
        else {
            return Ok(None);
        };
        next = found.previous_seq.unwrap_or(0);
        rows.push(found);
    }
    let entries = to_entries(connection, &rows)?;
    Ok(Some((entries, (next != 0).then_some(next))))
}

/// What a message's number says, with the alert that it made: as the writer would find it, without
/// using the number.
///
/// # Errors
/// [`StorageError`].
pub fn novelty(
    connection: &mut Connection,
    key: i64,
    seq: u64,
    digest: &[u8; 32],
) -> Result<(Novelty, Option<Uuid>), StorageError> {
    let window: Option<Vec<u8>> = device_windows::table
        .find(key)
        .select(device_windows::sequence)
        .first(connection)
        .optional()?;
    let window = window
        .map(|bytes| SequenceWindow::from_bytes(&bytes))
        .unwrap_or_default()
        .unwrap_or_default();
    let novelty = window.look_at(seq, super::hub::short_digest(digest));
    let number = i64::try_from(seq).unwrap_or(i64::MAX);
    let made = find_message(connection, key, number)?;
    Ok(match (novelty, made) {
        (Novelty::TooOld, Some((id, found))) if found == *digest => (Novelty::Repeat, Some(id)),
        (Novelty::Repeat, made) => (Novelty::Repeat, made.map(|(id, _)| id)),
        (novelty, _) => (novelty, None),
    })
}

/// A message in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct SuspectView {
    /// Names it.
    pub id: i64,
    /// SHA-256 of it.
    pub digest: Vec<u8>,
    /// When it last came.
    pub received_at: i64,
    /// The code of the edge through which it came.
    pub channel: i32,
    /// On which topic.
    pub topic: Option<String>,
    /// Which device it claims to be from.
    pub device: Option<String>,
    /// Why it was refused, as the device was told.
    pub reason: String,
    /// Why it was refused, for the operator.
    pub detail: String,
    /// How often it came.
    pub count: i64,
    /// The message, or its beginning.
    pub message: Vec<u8>,
    /// Whether it is only its beginning.
    pub truncated: bool,
}

impl SuspectView {
    /// The edge through which it came.
    #[must_use]
    pub fn channel(&self) -> Option<crate::domain::Channel> {
        super::rows::channel_of(self.channel)
    }
}

/// At most `limit` messages in quarantine whose ids are below `before`, newest first.
///
/// # Errors
/// [`StorageError::Query`].
pub fn suspects(
    connection: &mut Connection,
    within: &Reach,
    device: Option<&str>,
    reason: Option<&str>,
    before: i64,
    limit: i64,
) -> Result<Vec<SuspectView>, StorageError> {
    let mut query = quarantine::table
        .filter(quarantine::id.lt(before))
        .order(quarantine::id.desc())
        .limit(limit)
        .into_boxed();
    if let Some(rows) = within.company_rows() {
        query = query.filter(quarantine::device.eq_any(devices_of(rows)));
    }
    if let Some(device) = device {
        query = query.filter(quarantine::device.eq(device));
    }
    if let Some(reason) = reason {
        query = query.filter(quarantine::reason.eq(reason));
    }
    Ok(query.load(connection)?)
}

/// The message in quarantine called `id`.
///
/// # Errors
/// [`StorageError::Query`].
pub fn suspect(
    connection: &mut Connection,
    within: &Reach,
    id: i64,
) -> Result<Option<SuspectView>, StorageError> {
    let mut query = quarantine::table.filter(quarantine::id.eq(id)).into_boxed();
    if let Some(rows) = within.company_rows() {
        query = query.filter(quarantine::device.eq_any(devices_of(rows)));
    }
    Ok(query.first(connection).optional()?)
}

/// The devices of companies. A message in quarantine belongs to the company of the device that it
/// claims to be from; what claims none of ours is for those who see all.
#[diesel::dsl::auto_type(no_type_alias)]
fn devices_of(companies: Vec<i64>) -> _ {
    devices::table
        .filter(devices::company_id.eq_any(companies))
        .select(devices::slug.nullable())
}

/// The sites where an open alert freezes withdrawals, by row, each with the moment at which the
/// oldest of them was raised.
///
/// # Errors
/// [`StorageError::Query`].
pub fn frozen_sites(connection: &mut Connection) -> Result<Vec<(i64, i64)>, StorageError> {
    let found: Vec<(i64, Option<i64>)> = alerts::table
        .filter(alerts::state.le(2).and(alerts::freezes.eq(true)))
        .group_by(alerts::site_id)
        .select((alerts::site_id, diesel::dsl::min(alerts::raised_at)))
        .load(connection)?;
    let since = found.into_iter();
    Ok(since.filter_map(|(site, at)| Some((site, at?))).collect())
}
