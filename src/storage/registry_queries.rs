//! Reading the registry for people: pages in the order of rows, each with the row of the last.

use super::hub::{AlertKindRow, RuleRow, kind_of, password_name, rule_of, trust_of};
use super::schema::{
    alert_kinds, alerts, broker_windows, companies, device_keys, device_passwords, device_secrets,
    device_types, device_windows, devices, rules, sites,
};
use super::vault::Vault;
use super::{Connection, StorageError};
use crate::domain::device::Secret;
use crate::domain::registry::{AlertKind, SILENT_DEVICE, Trust};
use crate::domain::rule::Rule;
use crate::domain::{DeviceAddress, Reach, Slug};
use diesel::prelude::*;
use std::collections::HashMap;

/// A page: items with their rows, at most as many as were asked for and one more, so that whoever
/// asked sees whether there is another page.
pub type Rows<T> = Vec<(i64, T)>;

/// A company.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct CompanyView {
    /// Its name in topics.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Whether anything below it is heard.
    pub active: bool,
    /// When it was made.
    pub created_at: i64,
    /// Whether the broker may vouch for its devices.
    pub broker_trust: bool,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct SiteView {
    /// Its company.
    pub company: String,
    /// Its name in topics.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Its time zone.
    pub time_zone: String,
    /// Whether anything below it is heard.
    pub active: bool,
    /// When it was made.
    pub created_at: i64,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceView {
    /// Its row.
    pub row: i64,
    /// Its name in topics.
    pub slug: String,
    /// Its company.
    pub company: String,
    /// Its site.
    pub site: String,
    /// Its type.
    pub kind: String,
    /// Its name for people.
    pub name: String,
    /// Whether it is heard.
    pub active: bool,
    /// What proves its messages.
    pub trust: Trust,
    /// When it was registered.
    pub created_at: i64,
    /// When its last message was committed that was proved to be its own.
    pub heard_at: Option<i64>,
    /// Whether it has been silent for too long.
    pub silent: bool,
    /// When its password at the broker was set, if it has one.
    pub password_changed_at: Option<i64>,
    /// When the secret was set that it shows for a token, if it has one.
    pub secret_changed_at: Option<i64>,
    /// Its keys, revoked ones too.
    pub keys: Vec<KeyView>,
}

/// How a device signs in at a broker.
#[derive(Debug, Clone)]
pub struct BrokerLogin {
    /// Where it is; its name is its user and its client id.
    pub address: DeviceAddress,
    /// Whether it and all above it are active: others are not to be let in.
    pub active: bool,
    /// Its password, whose text is [`Secret::reveal`]; without one it is not to be let in either.
    pub password: Option<Secret>,
}

/// A key; what it is made of is nobody's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// Its name.
    pub kid: String,
    /// `EdDSA` or `HS256`.
    pub algorithm: &'static str,
    /// When it was made.
    pub created_at: i64,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
}

/// A rule in one of its versions.
#[derive(Debug, Clone)]
pub struct RuleView {
    /// The rule.
    pub rule: Rule,
    /// Its company.
    pub company: String,
    /// Its actions as they were written.
    pub actions: String,
    /// When this version was made.
    pub changed_at: i64,
}

/// Which devices are wanted.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    /// Of which company.
    pub company: Option<String>,
    /// At which site.
    pub site: Option<String>,
    /// Of which type.
    pub kind: Option<String>,
    /// This one alone.
    pub slug: Option<String>,
}

/// Companies after the row `after`.
///
/// # Errors
/// [`StorageError::Query`], as for all functions here.
pub fn companies(
    connection: &mut Connection,
    within: &Reach,
    after: i64,
    limit: i64,
) -> Result<Rows<CompanyView>, StorageError> {
    let mut query = companies::table
        .filter(companies::id.gt(after))
        .order(companies::id)
        .limit(limit)
        .select((
            companies::id,
            (
                companies::slug,
                companies::name,
                companies::active,
                companies::created_at,
                companies::broker_trust,
            ),
        ))
        .into_boxed();
    if let Some(rows) = within.company_rows() {
        query = query.filter(companies::id.eq_any(rows));
    }
    Ok(query.load(connection)?)
}

/// The company called `slug`.
///
/// # Errors
/// [`StorageError::Query`].
pub fn company(
    connection: &mut Connection,
    within: &Reach,
    slug: &str,
) -> Result<Option<CompanyView>, StorageError> {
    let mut query = companies::table
        .filter(companies::slug.eq(slug))
        .select((
            companies::slug,
            companies::name,
            companies::active,
            companies::created_at,
            companies::broker_trust,
        ))
        .into_boxed();
    if let Some(rows) = within.company_rows() {
        query = query.filter(companies::id.eq_any(rows));
    }
    Ok(query.first(connection).optional()?)
}

/// Sites after the row `after`, of one company or of all; `slug` names one.
///
/// # Errors
/// [`StorageError::Query`].
pub fn sites(
    connection: &mut Connection,
    within: &Reach,
    company: Option<&str>,
    slug: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Rows<SiteView>, StorageError> {
    let mut query = sites::table
        .inner_join(companies::table)
        .filter(sites::id.gt(after))
        .order(sites::id)
        .limit(limit)
        .select((
            sites::id,
            (
                companies::slug,
                sites::slug,
                sites::name,
                sites::time_zone,
                sites::active,
                sites::created_at,
            ),
        ))
        .into_boxed();
    if let Some(rows) = within.company_rows() {
        query = query.filter(companies::id.eq_any(rows));
    }
    if let Some(company) = company {
        query = query.filter(companies::slug.eq(company));
    }
    if let Some(slug) = slug {
        query = query.filter(sites::slug.eq(slug));
    }
    Ok(query.load(connection)?)
}

type DeviceColumns = (i64, String, String, String, String, String, bool, i64, i32);

/// Devices after the row `after`, with their keys.
///
/// # Errors
/// [`StorageError::Query`].
pub fn devices(
    connection: &mut Connection,
    within: &Reach,
    wanted: &DeviceFilter,
    after: i64,
    limit: i64,
) -> Result<Rows<DeviceView>, StorageError> {
    let mut query = devices::table
        .inner_join(sites::table)
        .inner_join(companies::table)
        .filter(devices::id.gt(after))
        .order(devices::id)
        .limit(limit)
        .select((
            devices::id,
            devices::slug,
            companies::slug,
            sites::slug,
            devices::kind,
            devices::name,
            devices::active,
            devices::created_at,
            devices::trust,
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
    if let Some(kind) = &wanted.kind {
        query = query.filter(devices::kind.eq(kind.clone()));
    }
    if let Some(slug) = &wanted.slug {
        query = query.filter(devices::slug.eq(slug.clone()));
    }
    let found: Vec<DeviceColumns> = query.load(connection)?;
    let rows: Vec<i64> = found.iter().map(|columns| columns.0).collect();
    let mut keys = keys_of(connection, &rows)?;
    let heard = heard(connection, &rows)?;
    let silent = silent(connection, &rows)?;
    let passwords = passwords(connection, &rows)?;
    let secrets = secrets(connection, &rows)?;
    found
        .into_iter()
        .map(
            |(row, slug, company, site, kind, name, active, created_at, trust)| {
                let wrong = || StorageError::Inconsistent {
                    what: format!("device {row} cannot be read"),
                };
                let device = DeviceView {
                    row,
                    slug,
                    company,
                    site,
                    kind,
                    name,
                    active,
                    trust: trust_of(trust).ok_or_else(wrong)?,
                    created_at,
                    heard_at: heard.get(&row).copied(),
                    silent: silent.contains(&row),
                    password_changed_at: passwords.get(&row).copied(),
                    secret_changed_at: secrets.get(&row).copied(),
                    keys: keys.remove(&row).unwrap_or_default(),
                };
                Ok((row, device))
            },
        )
        .collect()
}

fn keys_of(
    connection: &mut Connection,
    devices: &[i64],
) -> Result<HashMap<i64, Vec<KeyView>>, StorageError> {
    let found: Vec<(i64, String, i32, i64, Option<i64>)> = device_keys::table
        .filter(device_keys::device_id.eq_any(devices))
        .order(device_keys::id)
        .select((
            device_keys::device_id,
            device_keys::kid,
            device_keys::algorithm,
            device_keys::created_at,
            device_keys::revoked_at,
        ))
        .load(connection)?;
    let mut keys: HashMap<i64, Vec<KeyView>> = HashMap::new();
    for (device, kid, algorithm, created_at, revoked_at) in found {
        keys.entry(device).or_default().push(KeyView {
            kid,
            algorithm: if algorithm == 1 { "EdDSA" } else { "HS256" },
            created_at,
            revoked_at,
        });
    }
    Ok(keys)
}

fn heard(connection: &mut Connection, devices: &[i64]) -> Result<HashMap<i64, i64>, StorageError> {
    let mut found: Vec<(i64, i64)> = device_windows::table
        .filter(device_windows::device_id.eq_any(devices))
        .filter(device_windows::heard_at.gt(0))
        .select((device_windows::device_id, device_windows::heard_at))
        .load(connection)?;
    let vouched: Vec<(i64, i64)> = broker_windows::table
        .filter(broker_windows::device_id.eq_any(devices))
        .filter(broker_windows::heard_at.gt(0))
        .select((broker_windows::device_id, broker_windows::heard_at))
        .load(connection)?;
    found.extend(vouched);
    let mut heard: HashMap<i64, i64> = HashMap::new();
    for (device, at) in found {
        let last = heard.entry(device).or_default();
        *last = at.max(*last);
    }
    Ok(heard)
}

fn passwords(
    connection: &mut Connection,
    devices: &[i64],
) -> Result<HashMap<i64, i64>, StorageError> {
    let found: Vec<(i64, i64)> = device_passwords::table
        .filter(device_passwords::device_id.eq_any(devices))
        .select((device_passwords::device_id, device_passwords::changed_at))
        .load(connection)?;
    Ok(found.into_iter().collect())
}

fn secrets(
    connection: &mut Connection,
    devices: &[i64],
) -> Result<HashMap<i64, i64>, StorageError> {
    let found: Vec<(i64, i64)> = device_secrets::table
        .filter(device_secrets::device_id.eq_any(devices))
        .select((device_secrets::device_id, device_secrets::changed_at))
        .load(connection)?;
    Ok(found.into_iter().collect())
}

fn silent(connection: &mut Connection, devices: &[i64]) -> Result<Vec<i64>, StorageError> {
    Ok(alerts::table
        .filter(alerts::state.le(2))
        .filter(alerts::kind.eq(SILENT_DEVICE))
        .filter(alerts::device_id.eq_any(devices))
        .select(alerts::device_id)
        .load(connection)?)
}

/// All types of device: code, description, and how long one may say nothing in seconds.
///
/// # Errors
/// [`StorageError::Query`].
pub fn device_types(
    connection: &mut Connection,
) -> Result<Vec<(String, String, Option<i64>)>, StorageError> {
    Ok(device_types::table
        .order(device_types::code)
        .load(connection)?)
}

/// Kinds of alert after the row `after`, of one company or of all, each with its company.
///
/// # Errors
/// [`StorageError`].
pub fn kinds(
    connection: &mut Connection,
    within: &Reach,
    company: Option<&str>,
    code: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Rows<(String, AlertKind)>, StorageError> {
    let mut query = alert_kinds::table
        .inner_join(companies::table)
        .filter(alert_kinds::id.gt(after))
        .order(alert_kinds::id)
        .limit(limit)
        .select((companies::slug, AlertKindRow::as_select()))
        .into_boxed();
    if let Some(rows) = within.company_rows() {
        query = query.filter(companies::id.eq_any(rows));
    }
    if let Some(company) = company {
        query = query.filter(companies::slug.eq(company));
    }
    if let Some(code) = code {
        query = query.filter(alert_kinds::code.eq(code));
    }
    let found: Vec<(String, AlertKindRow)> = query.load(connection)?;
    found
        .into_iter()
        .map(|(company, row)| Ok((row.id, (company, kind_of(&row)?))))
        .collect()
}

/// Rules after the id `after`, each in its newest version, of one company or of all.
///
/// # Errors
/// [`StorageError`].
pub fn rules(
    connection: &mut Connection,
    within: &Reach,
    company: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Rows<RuleView>, StorageError> {
    let mut query = rules::table
        .inner_join(companies::table)
        .filter(rules::id.gt(after))
        .group_by(rules::id)
        .order(rules::id)
        .limit(limit)
        .select((rules::id, diesel::dsl::max(rules::version)))
        .into_boxed();
    if let Some(rows) = within.company_rows() {
        query = query.filter(companies::id.eq_any(rows));
    }
    if let Some(company) = company {
        query = query.filter(companies::slug.eq(company));
    }
    let newest: Vec<(i64, Option<i64>)> = query.load(connection)?;
    newest
        .into_iter()
        .filter_map(|(id, version)| rule(connection, within, id, version).transpose())
        .map(|view| view.map(|view| (view.rule.id, view)))
        .collect()
}

/// A rule in the version asked for, or in its newest.
///
/// # Errors
/// [`StorageError`].
pub fn rule(
    connection: &mut Connection,
    within: &Reach,
    id: i64,
    version: Option<i64>,
) -> Result<Option<RuleView>, StorageError> {
    let mut query = rules::table
        .inner_join(companies::table)
        .filter(rules::id.eq(id))
        .order(rules::version.desc())
        .select((companies::slug, RuleRow::as_select()))
        .into_boxed();
    if let Some(rows) = within.company_rows() {
        query = query.filter(companies::id.eq_any(rows));
    }
    if let Some(version) = version {
        query = query.filter(rules::version.eq(version));
    }
    let found: Option<(String, RuleRow)> = query.first(connection).optional()?;
    found.map(|(company, row)| view(company, row)).transpose()
}

/// The versions of a rule before the version `before`, newest first.
///
/// # Errors
/// [`StorageError`].
pub fn rule_versions(
    connection: &mut Connection,
    id: i64,
    before: i64,
    limit: i64,
) -> Result<Rows<RuleView>, StorageError> {
    let found: Vec<(String, RuleRow)> = rules::table
        .inner_join(companies::table)
        .filter(rules::id.eq(id))
        .filter(rules::version.lt(before))
        .order(rules::version.desc())
        .limit(limit)
        .select((companies::slug, RuleRow::as_select()))
        .load(connection)?;
    found
        .into_iter()
        .map(|(company, row)| Ok((row.version, view(company, row)?)))
        .collect()
}

fn view(company: String, row: RuleRow) -> Result<RuleView, StorageError> {
    Ok(RuleView {
        rule: rule_of(&row)?,
        company,
        actions: row.actions,
        changed_at: row.changed_at,
    })
}

/// Whether any shared secret is sealed, so that the vault must be the one that it was sealed in.
///
/// # Errors
/// [`StorageError::Query`].
pub fn has_sealed_secrets(connection: &mut Connection) -> Result<bool, StorageError> {
    let keys: i64 = device_keys::table
        .filter(device_keys::algorithm.eq(2))
        .filter(device_keys::revoked_at.is_null())
        .count()
        .get_result(connection)?;
    let passwords: i64 = device_passwords::table.count().get_result(connection)?;
    Ok(keys > 0 || passwords > 0)
}

/// How each device signs in at a broker, in the order of their rows.
///
/// # Errors
/// [`StorageError::Vault`] where the key file is not the one that the passwords were sealed under.
pub fn broker_logins(
    connection: &mut Connection,
    vault: &Vault,
) -> Result<Vec<BrokerLogin>, StorageError> {
    type Columns = (String, String, String, (bool, bool, bool), Option<Vec<u8>>);
    let found: Vec<Columns> = devices::table
        .inner_join(sites::table)
        .inner_join(companies::table)
        .left_join(device_passwords::table)
        .order(devices::id)
        .select((
            companies::slug,
            sites::slug,
            devices::slug,
            (companies::active, sites::active, devices::active),
            device_passwords::sealed.nullable(),
        ))
        .load(connection)?;
    found
        .into_iter()
        .map(|(company, site, device, (a, b, c), sealed)| {
            let name = |text: &str| {
                Slug::parse(text).map_err(|_| StorageError::Inconsistent {
                    what: format!("the name {text:?} cannot be read"),
                })
            };
            let device = name(&device)?;
            let open = |sealed: Vec<u8>| vault.unseal(&password_name(&device), &sealed);
            Ok(BrokerLogin {
                active: a && b && c,
                password: sealed.map(open).transpose()?,
                address: DeviceAddress {
                    company: name(&company)?,
                    site: name(&site)?,
                    device,
                },
            })
        })
        .collect()
}
