//! Rows of the hub's tables.

use super::alerts::Alert;
use super::{Connection, StorageError, Suspect, quarantine};
use crate::domain::device::KeyMaterial;
use crate::domain::registry::{SILENT_DEVICE, Trust};
use crate::domain::{AlertState, SequenceWindow, Slug};
use crate::storage::connection::on_each;
use crate::storage::schema::{
    alert_kinds, alert_messages, alerts, broker_windows, companies, device_keys, device_passwords,
    device_secrets, device_types, device_windows, devices, rules, sites,
};
use crate::storage::steps::{priority_code, state_code, state_of};
use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Bool, HasSqlType, Integer, Nullable};
use uuid::Uuid;

/// A row of `alerts`, column by column.
#[derive(Debug, Clone, PartialEq, Eq, Insertable, Queryable, Selectable)]
#[diesel(table_name = alerts)]
#[diesel(treat_none_as_default_value = false)]
#[allow(missing_docs, reason = "the migrations document the columns")]
pub struct AlertRow {
    pub id: i64,
    pub alert_id: Vec<u8>,
    pub company_id: i64,
    pub site_id: i64,
    pub device_id: i64,
    pub kind: String,
    pub priority: i32,
    pub state: i32,
    pub late: bool,
    pub count: i64,
    pub escalations: i64,
    pub freezes: bool,
    pub raised_at: i64,
    pub updated_at: i64,
    pub acknowledged_at: Option<i64>,
    pub closed_at: Option<i64>,
    pub escalate_at: Option<i64>,
    pub first_seq: i64,
    pub last_seq: i64,
}

impl AlertRow {
    pub(super) fn new(alert: &Alert) -> Self {
        Self {
            id: alert.row,
            alert_id: alert.id.as_bytes().to_vec(),
            company_id: alert.company,
            site_id: alert.site,
            device_id: alert.device,
            kind: alert.kind.to_string(),
            priority: priority_code(alert.priority),
            state: state_code(alert.state),
            late: alert.late,
            count: alert.count,
            escalations: alert.escalations,
            freezes: alert.freezes,
            raised_at: alert.raised_at,
            updated_at: alert.updated_at,
            acknowledged_at: alert.acknowledged_at,
            closed_at: alert.closed_at,
            escalate_at: alert.escalate_at,
            first_seq: alert.first_seq,
            last_seq: alert.last_seq,
        }
    }

    /// Where the alert stands, if it is the one called `id`.
    pub(super) fn state_of(&self, id: Uuid) -> Option<AlertState> {
        (self.alert_id == id.as_bytes())
            .then(|| state_of(self.state))
            .flatten()
    }

    /// Writes the row of an alert that is new.
    pub(super) fn insert(&self, connection: &mut Connection) -> Result<(), StorageError> {
        diesel::insert_into(alerts::table)
            .values(self)
            .execute(connection)?;
        Ok(())
    }

    /// Writes the row in the place of its older state.
    pub(super) fn update(&self, connection: &mut Connection) -> Result<(), StorageError> {
        if UpdateAlert(self).execute(connection)? == 1 {
            return Ok(());
        }
        Err(StorageError::Inconsistent {
            what: format!("alert {} is not there any more", self.id),
        })
    }
}

/// The update of an alert: what can change, which is in no index but that of open ones, so that a
/// repeat touches the table alone. A statement of our own, since diesel prepares its `UPDATE`s anew
/// each time.
struct UpdateAlert<'a>(&'a AlertRow);

impl QueryId for UpdateAlert<'_> {
    type QueryId = UpdateAlert<'static>;

    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<DB> QueryFragment<DB> for UpdateAlert<'_>
where
    DB: Backend + HasSqlType<Bool>,
    bool: ToSql<Bool, DB>,
    i32: ToSql<Integer, DB>,
    i64: ToSql<BigInt, DB>,
    Option<i64>: ToSql<Nullable<BigInt>, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let Self(row) = self;
        out.push_sql("UPDATE alerts SET priority = ");
        out.push_bind_param::<Integer, _>(&row.priority)?;
        out.push_sql(", state = ");
        out.push_bind_param::<Integer, _>(&row.state)?;
        out.push_sql(", count = ");
        out.push_bind_param::<BigInt, _>(&row.count)?;
        out.push_sql(", escalations = ");
        out.push_bind_param::<BigInt, _>(&row.escalations)?;
        out.push_sql(", freezes = ");
        out.push_bind_param::<Bool, _>(&row.freezes)?;
        out.push_sql(", updated_at = ");
        out.push_bind_param::<BigInt, _>(&row.updated_at)?;
        out.push_sql(", acknowledged_at = ");
        out.push_bind_param::<Nullable<BigInt>, _>(&row.acknowledged_at)?;
        out.push_sql(", closed_at = ");
        out.push_bind_param::<Nullable<BigInt>, _>(&row.closed_at)?;
        out.push_sql(", escalate_at = ");
        out.push_bind_param::<Nullable<BigInt>, _>(&row.escalate_at)?;
        out.push_sql(", last_seq = ");
        out.push_bind_param::<BigInt, _>(&row.last_seq)?;
        out.push_sql(" WHERE id = ");
        out.push_bind_param::<BigInt, _>(&row.id)
    }
}

impl RunQueryDsl<Connection> for UpdateAlert<'_> {}

/// A row of `alert_kinds`.
#[derive(Debug, Clone, PartialEq, Eq, Insertable, Queryable, Selectable)]
#[diesel(table_name = alert_kinds)]
#[diesel(treat_none_as_default_value = false)]
pub(in crate::storage) struct AlertKindRow {
    pub(in crate::storage) id: i64,
    pub(in crate::storage) company_id: i64,
    pub(in crate::storage) code: String,
    pub(in crate::storage) name: String,
    pub(in crate::storage) priority: i32,
    pub(in crate::storage) colour: String,
    pub(in crate::storage) description: String,
    pub(in crate::storage) instructions: String,
    pub(in crate::storage) items: String,
    pub(in crate::storage) escalation: Option<i64>,
    pub(in crate::storage) active: bool,
}

/// A row of `rules`.
#[derive(Debug, Clone, PartialEq, Eq, Insertable, Queryable, Selectable)]
#[diesel(table_name = rules)]
pub(in crate::storage) struct RuleRow {
    pub(in crate::storage) id: i64,
    pub(in crate::storage) version: i64,
    pub(in crate::storage) company_id: i64,
    pub(in crate::storage) name: String,
    pub(in crate::storage) position: i32,
    pub(in crate::storage) condition: String,
    pub(in crate::storage) actions: String,
    pub(in crate::storage) active: bool,
    pub(in crate::storage) principal: i64,
    pub(in crate::storage) changed_at: i64,
}

/// What the open group writes besides alerts and windows, in order.
#[derive(Debug)]
pub(super) enum Row {
    NewCompany {
        id: i64,
        slug: String,
        name: String,
        created_at: i64,
    },
    Company {
        id: i64,
        name: String,
        active: bool,
        broker_trust: bool,
    },
    NewSite {
        id: i64,
        company: i64,
        slug: String,
        name: String,
        time_zone: String,
        created_at: i64,
    },
    Site {
        id: i64,
        name: String,
        time_zone: String,
        active: bool,
    },
    NewDevice {
        id: i64,
        slug: String,
        company: i64,
        site: i64,
        kind: String,
        name: String,
        created_at: i64,
        trust: i32,
    },
    Device {
        id: i64,
        kind: String,
        name: String,
        active: bool,
        trust: i32,
    },
    NewKey {
        id: i64,
        kid: String,
        device: i64,
        algorithm: i32,
        material: Vec<u8>,
        created_at: i64,
    },
    RevokedKey {
        id: i64,
        at: i64,
    },
    Password {
        device: i64,
        sealed: Option<Vec<u8>>,
        changed_at: i64,
    },
    Secret {
        device: i64,
        digest: Option<[u8; 32]>,
        changed_at: i64,
    },
    DeviceType {
        code: String,
        description: String,
        silence: Option<i64>,
    },
    Kind(AlertKindRow),
    Rule(RuleRow),
    Suspect(Suspect),
    Release(i64),
}

impl Row {
    #[allow(clippy::too_many_lines, reason = "one arm a table, and nothing else")]
    pub(super) fn write(self, connection: &mut Connection) -> Result<(), StorageError> {
        match self {
            Self::NewCompany {
                id,
                slug,
                name,
                created_at,
            } => diesel::insert_into(companies::table)
                .values((
                    companies::id.eq(id),
                    companies::slug.eq(slug),
                    companies::name.eq(name),
                    companies::active.eq(true),
                    companies::created_at.eq(created_at),
                ))
                .execute(connection)?,
            Self::Company {
                id,
                name,
                active,
                broker_trust,
            } => diesel::update(companies::table.find(id))
                .set((
                    companies::name.eq(name),
                    companies::active.eq(active),
                    companies::broker_trust.eq(broker_trust),
                ))
                .execute(connection)?,
            Self::NewSite {
                id,
                company,
                slug,
                name,
                time_zone,
                created_at,
            } => diesel::insert_into(sites::table)
                .values((
                    sites::id.eq(id),
                    sites::company_id.eq(company),
                    sites::slug.eq(slug),
                    sites::name.eq(name),
                    sites::time_zone.eq(time_zone),
                    sites::active.eq(true),
                    sites::created_at.eq(created_at),
                ))
                .execute(connection)?,
            Self::Site {
                id,
                name,
                time_zone,
                active,
            } => diesel::update(sites::table.find(id))
                .set((
                    sites::name.eq(name),
                    sites::time_zone.eq(time_zone),
                    sites::active.eq(active),
                ))
                .execute(connection)?,
            Self::NewDevice {
                id,
                slug,
                company,
                site,
                kind,
                name,
                created_at,
                trust,
            } => diesel::insert_into(devices::table)
                .values((
                    devices::id.eq(id),
                    devices::slug.eq(slug),
                    devices::company_id.eq(company),
                    devices::site_id.eq(site),
                    devices::kind.eq(kind),
                    devices::name.eq(name),
                    devices::active.eq(true),
                    devices::created_at.eq(created_at),
                    devices::trust.eq(trust),
                ))
                .execute(connection)?,
            Self::Device {
                id,
                kind,
                name,
                active,
                trust,
            } => diesel::update(devices::table.find(id))
                .set((
                    devices::kind.eq(kind),
                    devices::name.eq(name),
                    devices::active.eq(active),
                    devices::trust.eq(trust),
                ))
                .execute(connection)?,
            Self::NewKey {
                id,
                kid,
                device,
                algorithm,
                material,
                created_at,
            } => diesel::insert_into(device_keys::table)
                .values((
                    device_keys::id.eq(id),
                    device_keys::kid.eq(kid),
                    device_keys::device_id.eq(device),
                    device_keys::algorithm.eq(algorithm),
                    device_keys::material.eq(material),
                    device_keys::created_at.eq(created_at),
                ))
                .execute(connection)?,
            Self::RevokedKey { id, at } => diesel::update(device_keys::table.find(id))
                .set(device_keys::revoked_at.eq(at))
                .execute(connection)?,
            Self::Password {
                device,
                sealed: Some(sealed),
                changed_at,
            } => put_password(connection, device, &sealed, changed_at)?,
            Self::Password { device, .. } => {
                diesel::delete(device_passwords::table.find(device)).execute(connection)?
            }
            Self::Secret {
                device,
                digest: Some(digest),
                changed_at,
            } => put_secret(connection, device, digest, changed_at)?,
            Self::Secret { device, .. } => {
                diesel::delete(device_secrets::table.find(device)).execute(connection)?
            }
            Self::DeviceType {
                code,
                description,
                silence,
            } => put_device_type(connection, &code, &description, silence)?,
            Self::Kind(row) => put_kind(connection, &row)?,
            Self::Rule(row) => diesel::insert_into(rules::table)
                .values(&row)
                .execute(connection)?,
            Self::Suspect(suspect) => quarantine::keep(connection, &suspect)?,
            Self::Release(id) => quarantine::delete(connection, id)?,
        };
        Ok(())
    }
}

/// An update, and an insert where there was nothing to update: `REPLACE` would delete a row that
/// others point to.
fn put_device_type(
    connection: &mut Connection,
    code: &str,
    description: &str,
    silence: Option<i64>,
) -> QueryResult<usize> {
    let values = (
        device_types::description.eq(description),
        device_types::silence.eq(silence),
    );
    let updated = diesel::update(device_types::table.find(code))
        .set(values)
        .execute(connection)?;
    if updated > 0 {
        return Ok(updated);
    }
    diesel::insert_into(device_types::table)
        .values((device_types::code.eq(code), values))
        .execute(connection)
}

/// Writes what a device signs in with at the broker.
fn put_password(
    connection: &mut Connection,
    device: i64,
    sealed: &[u8],
    changed_at: i64,
) -> QueryResult<usize> {
    let row = (
        device_passwords::device_id.eq(device),
        device_passwords::sealed.eq(sealed),
        device_passwords::changed_at.eq(changed_at),
    );
    on_each!(connection, |inner| diesel::replace_into(
        device_passwords::table
    )
    .values(row)
    .execute(inner))
}

/// Writes what a device from before Atalaya shows for a token.
fn put_secret(
    connection: &mut Connection,
    device: i64,
    digest: [u8; 32],
    changed_at: i64,
) -> QueryResult<usize> {
    let row = (
        device_secrets::device_id.eq(device),
        device_secrets::digest.eq(digest.as_slice()),
        device_secrets::changed_at.eq(changed_at),
    );
    on_each!(connection, |inner| diesel::replace_into(
        device_secrets::table
    )
    .values(row)
    .execute(inner))
}

/// Writes a kind, new or in the place of its older state.
pub(super) fn put_kind(connection: &mut Connection, row: &AlertKindRow) -> QueryResult<usize> {
    on_each!(connection, |inner| diesel::replace_into(alert_kinds::table)
        .values(row)
        .execute(inner))
}

/// The algorithm's code in `device_keys`.
pub(super) const fn algorithm_code(material: &KeyMaterial) -> i32 {
    match material {
        KeyMaterial::Ed25519(_) => 1,
        KeyMaterial::Hs256(_) => 2,
    }
}

/// The code of `trust` in `devices`.
pub(super) const fn trust_code(trust: Trust) -> i32 {
    match trust {
        Trust::Signature => 1,
        Trust::Broker => 2,
        Trust::Legacy => 3,
    }
}

/// What a code in `devices` stands for.
pub(in crate::storage) const fn trust_of(code: i32) -> Option<Trust> {
    match code {
        1 => Some(Trust::Signature),
        2 => Some(Trust::Broker),
        3 => Some(Trust::Legacy),
        _ => None,
    }
}

/// The first eight bytes of a message's digest: what a window remembers of it.
pub(in crate::storage) fn short_digest(digest: &[u8; 32]) -> u64 {
    digest
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The kind of alert that Atalaya raises for a silent device.
pub(super) fn silent_kind() -> Slug {
    // A constant that is a slug; the tests of the registry would show if it were not.
    Slug::constant(SILENT_DEVICE)
}

/// Writes what the key at `key` has been used for, or, where that is the row of `device` with a
/// minus, what was taken without its signature.
pub(super) fn write_window(
    connection: &mut Connection,
    key: i64,
    device: i64,
    window: &SequenceWindow,
    heard_at: i64,
) -> Result<(), StorageError> {
    if key < 0 {
        let row = (
            broker_windows::device_id.eq(device),
            broker_windows::sequence.eq(window.to_bytes()),
            broker_windows::heard_at.eq(heard_at),
        );
        on_each!(connection, |inner| diesel::replace_into(
            broker_windows::table
        )
        .values(row)
        .execute(inner))?;
        return Ok(());
    }
    let row = (
        device_windows::key_id.eq(key),
        device_windows::device_id.eq(device),
        device_windows::sequence.eq(window.to_bytes()),
        device_windows::heard_at.eq(heard_at),
    );
    on_each!(connection, |inner| diesel::replace_into(
        device_windows::table
    )
    .values(row)
    .execute(inner))?;
    Ok(())
}

pub(super) fn write_message(
    connection: &mut Connection,
    key: i64,
    seq: i64,
    alert: i64,
    digest: &[u8; 32],
) -> Result<(), StorageError> {
    diesel::insert_into(alert_messages::table)
        .values((
            alert_messages::key_id.eq(key),
            alert_messages::seq.eq(seq),
            alert_messages::alert.eq(alert),
            alert_messages::digest.eq(digest.as_slice()),
        ))
        .execute(connection)?;
    Ok(())
}

/// The alert that a message made, with the message's digest.
pub(in crate::storage) fn find_message(
    connection: &mut Connection,
    key: i64,
    seq: i64,
) -> Result<Option<(Uuid, [u8; 32])>, StorageError> {
    let found: Option<(i64, Vec<u8>)> = alert_messages::table
        .find((key, seq))
        .select((alert_messages::alert, alert_messages::digest))
        .first(connection)
        .optional()?;
    let Some((alert, digest)) = found else {
        return Ok(None);
    };
    let id: Vec<u8> = alerts::table
        .find(alert)
        .select(alerts::alert_id)
        .first(connection)?;
    let inconsistent = || StorageError::Inconsistent {
        what: format!("message {seq} of key {key} cannot be read"),
    };
    Ok(Some((
        Uuid::from_slice(&id).map_err(|_| inconsistent())?,
        digest.try_into().map_err(|_| inconsistent())?,
    )))
}

/// Where an alert stands, if there is such an alert.
pub(super) fn find_state(
    connection: &mut Connection,
    id: Uuid,
) -> Result<Option<AlertState>, StorageError> {
    let state: Option<i32> = alerts::table
        .filter(alerts::alert_id.eq(id.as_bytes().as_slice()))
        .select(alerts::state)
        .first(connection)
        .optional()?;
    Ok(state.and_then(state_of))
}
