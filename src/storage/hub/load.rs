//! The hub as the database has it, and what every company starts with.

use super::alerts::Alert;
use super::registry::password_name;
use super::rows::{self, AlertKindRow, AlertRow, RuleRow, trust_of};
use super::{Hub, HubSettings, KeyUse, NextRows, StorageError};
use crate::domain::device::{KeyMaterial, PasswordDigest};
use crate::domain::registry::{
    AlertKind, Company, Device, DeviceKey, DeviceType, SILENT_DEVICE, Site,
};
use crate::domain::rule::{self, Condition, DEFAULT_RULES, Rule};
use crate::domain::{
    AlertState, DeviceAddress, Label, Priority, Prose, Registry, SequenceWindow, Slug, StepTexts,
};
use crate::storage::Connection;
use crate::storage::schema::{
    alert_kinds, alerts, broker_windows, companies, device_keys, device_passwords, device_secrets,
    device_types, device_windows, devices, journal_texts, rules, sites,
};
use crate::storage::steps::{priority_code, priority_of, state_of, texts_of};
use crate::storage::vault::{Vault, VaultError};
use crate::wire::rules::parse_actions;
use diesel::dsl::max;
use diesel::prelude::*;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;
use uuid::Uuid;

impl From<VaultError> for StorageError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

/// What is in the database was parsed on its way in: if it does not parse now, somebody else has
/// been writing here.
fn unreadable(what: impl Display) -> StorageError {
    StorageError::Inconsistent {
        what: format!("{what} cannot be read"),
    }
}

fn slug(text: &str) -> Result<Slug, StorageError> {
    Slug::parse(text).map_err(|_| unreadable(format_args!("the name {text:?}")))
}

fn label(text: &str) -> Result<Label, StorageError> {
    Label::parse(text).map_err(|_| unreadable(format_args!("the name {text:?}")))
}

fn prose(text: &str) -> Result<Prose, StorageError> {
    Prose::parse(text).map_err(|_| unreadable(format_args!("the text {text:?}")))
}

/// The registry as the database has it.
pub(in crate::storage) fn load_registry(
    connection: &mut Connection,
    vault: &Vault,
) -> Result<Registry, StorageError> {
    let mut registry = Registry::default();
    load_places(connection, &mut registry)?;
    load_devices(connection, &mut registry)?;
    load_keys(connection, vault, &mut registry)?;
    load_passwords(connection, vault, &mut registry)?;
    load_secrets(connection, &mut registry)?;
    load_kinds(connection, &mut registry)?;
    load_rules(connection, &mut registry)?;
    Ok(registry)
}

fn load_places(connection: &mut Connection, registry: &mut Registry) -> Result<(), StorageError> {
    let found: Vec<(i64, String, String, bool, bool)> = companies::table
        .select((
            companies::id,
            companies::slug,
            companies::name,
            companies::active,
            companies::broker_trust,
        ))
        .load(connection)?;
    for (row, name, people, active, broker_trust) in found {
        registry.put_company(Company {
            row,
            slug: slug(&name)?,
            name: label(&people)?,
            active,
            broker_trust,
        });
    }
    let found: Vec<(i64, i64, String, String, String, bool)> = sites::table
        .select((
            sites::id,
            sites::company_id,
            sites::slug,
            sites::name,
            sites::time_zone,
            sites::active,
        ))
        .load(connection)?;
    for (row, company, name, people, zone, active) in found {
        registry.put_site(Site {
            row,
            company,
            slug: slug(&name)?,
            name: label(&people)?,
            time_zone: TimeZone::get(&zone)
                .map_err(|_| unreadable(format_args!("the time zone {zone:?}")))?,
            active,
        });
    }
    Ok(())
}

type DeviceColumns = (i64, String, i64, i64, String, String, bool, i32);

fn load_devices(connection: &mut Connection, registry: &mut Registry) -> Result<(), StorageError> {
    let found: Vec<(String, String, Option<i64>)> = device_types::table.load(connection)?;
    for (code, description, silence) in found {
        registry.put_device_type(DeviceType {
            code: slug(&code)?,
            description: prose(&description)?,
            silence,
        });
    }
    let found: Vec<DeviceColumns> = devices::table
        .order(devices::id)
        .select((
            devices::id,
            devices::slug,
            devices::company_id,
            devices::site_id,
            devices::kind,
            devices::name,
            devices::active,
            devices::trust,
        ))
        .load(connection)?;
    for (row, name, company, site, kind, people, active, trust) in found {
        registry.put_device(Device {
            row,
            slug: slug(&name)?,
            company,
            site,
            kind: slug(&kind)?,
            name: label(&people)?,
            active,
            trust: trust_of(trust).ok_or_else(|| unreadable(format_args!("device {row}")))?,
        });
    }
    Ok(())
}

fn load_keys(
    connection: &mut Connection,
    vault: &Vault,
    registry: &mut Registry,
) -> Result<(), StorageError> {
    let found: Vec<(i64, String, i64, i32, Vec<u8>)> = device_keys::table
        .filter(device_keys::revoked_at.is_null())
        .select((
            device_keys::id,
            device_keys::kid,
            device_keys::device_id,
            device_keys::algorithm,
            device_keys::material,
        ))
        .load(connection)?;
    for (row, kid, device, algorithm, material) in found {
        let wrong = || unreadable(format_args!("the key {kid}"));
        let material = match algorithm {
            1 => {
                let bytes: [u8; 32] = material.try_into().map_err(|_| wrong())?;
                KeyMaterial::ed25519(&bytes).map_err(|_| wrong())?
            }
            2 => KeyMaterial::Hs256(vault.unseal(&kid, &material)?),
            _ => return Err(wrong()),
        };
        registry.put_key(DeviceKey {
            row,
            kid: slug(&kid)?,
            device,
            material,
        });
    }
    Ok(())
}

fn load_passwords(
    connection: &mut Connection,
    vault: &Vault,
    registry: &mut Registry,
) -> Result<(), StorageError> {
    let found: Vec<(i64, Vec<u8>)> = device_passwords::table
        .select((device_passwords::device_id, device_passwords::sealed))
        .load(connection)?;
    for (row, sealed) in found {
        let device = registry.device_at(row);
        let device = device.ok_or_else(|| unreadable(format_args!("the password of {row}")))?;
        let secret = vault.unseal(&password_name(&device.slug), &sealed)?;
        registry.set_password(row, Some(PasswordDigest::of(&secret)));
    }
    Ok(())
}

fn load_secrets(connection: &mut Connection, registry: &mut Registry) -> Result<(), StorageError> {
    let found: Vec<(i64, Vec<u8>)> = device_secrets::table
        .select((device_secrets::device_id, device_secrets::digest))
        .load(connection)?;
    for (row, digest) in found {
        let wrong = || unreadable(format_args!("the secret of {row}"));
        let digest: [u8; 32] = digest.try_into().map_err(|_| wrong())?;
        registry.set_secret(row, Some(PasswordDigest::from_bytes(digest)));
    }
    Ok(())
}

fn load_kinds(connection: &mut Connection, registry: &mut Registry) -> Result<(), StorageError> {
    let found: Vec<AlertKindRow> = alert_kinds::table
        .select(AlertKindRow::as_select())
        .load(connection)?;
    for row in found {
        registry.put_kind(kind_of(&row)?);
    }
    Ok(())
}

/// The kind of a row.
pub(in crate::storage) fn kind_of(row: &AlertKindRow) -> Result<AlertKind, StorageError> {
    let wrong = || unreadable(format_args!("the kind of alert {}", row.code));
    let items: Vec<String> = serde_json::from_str(&row.items).map_err(|_| wrong())?;
    Ok(AlertKind {
        row: row.id,
        company: row.company_id,
        code: slug(&row.code)?,
        name: label(&row.name)?,
        priority: priority_of(row.priority).ok_or_else(wrong)?,
        colour: label(&row.colour)?,
        description: prose(&row.description)?,
        instructions: prose(&row.instructions)?,
        items: items
            .iter()
            .map(|item| label(item))
            .collect::<Result<_, _>>()?,
        escalation: row.escalation,
        active: row.active,
    })
}

fn load_rules(connection: &mut Connection, registry: &mut Registry) -> Result<(), StorageError> {
    // In order of versions, so that the newest of each is put in last and stays.
    let found: Vec<RuleRow> = rules::table
        .order((rules::id, rules::version))
        .select(RuleRow::as_select())
        .load(connection)?;
    let mut newest: BTreeMap<i64, RuleRow> = BTreeMap::new();
    newest.extend(found.into_iter().map(|row| (row.id, row)));
    for row in newest.values() {
        registry.put_rule(rule_of(row)?);
    }
    Ok(())
}

/// The rule of a row.
pub(in crate::storage) fn rule_of(row: &RuleRow) -> Result<Rule, StorageError> {
    let wrong = |error: rule::RuleError| unreadable(format_args!("rule {}: {error}", row.id));
    Ok(Rule {
        id: row.id,
        company: row.company_id,
        name: label(&row.name)?,
        order: row.position,
        condition: Condition::parse(&row.condition).map_err(wrong)?,
        actions: parse_actions(&row.actions).map_err(wrong)?,
        active: row.active,
        version: row.version,
    })
}

impl Hub {
    /// The hub as the database has it.
    pub(in crate::storage) fn load(
        connection: &mut Connection,
        settings: HubSettings,
        now: i64,
    ) -> Result<Self, StorageError> {
        let registry = Arc::new(load_registry(connection, &settings.vault)?);
        let next = next_rows(connection)?;
        let (uses, heard) = load_uses(connection)?;
        let mut hub = Self {
            settings,
            registry,
            registry_changed: true,
            uses,
            heard,
            open: HashMap::new(),
            open_ids: HashMap::new(),
            merges: HashMap::new(),
            closed: HashMap::new(),
            wanting: HashMap::new(),
            escalations: BTreeSet::new(),
            silences: BTreeSet::new(),
            watched: HashSet::new(),
            first_new: next.alert,
            next,
            used: BTreeSet::new(),
            changed: BTreeMap::new(),
            accepted: BTreeMap::new(),
            pending: Vec::new(),
            new_alerts: 0,
        };
        for alert in load_open(connection, &hub.registry)? {
            hub.put_open(alert);
        }
        hub.watch_all(now);
        hub.committed();
        Ok(hub)
    }
}

fn next_rows(connection: &mut Connection) -> Result<NextRows, StorageError> {
    macro_rules! next {
        ($table:ident) => {
            $table::table
                .select(max($table::id))
                .first::<Option<i64>>(connection)?
                .unwrap_or(0)
                + 1
        };
    }
    Ok(NextRows {
        company: next!(companies),
        site: next!(sites),
        device: next!(devices),
        key: next!(device_keys),
        kind: next!(alert_kinds),
        rule: next!(rules),
        alert: next!(alerts),
    })
}

type Uses = (HashMap<i64, KeyUse>, HashMap<i64, i64>);

fn load_uses(connection: &mut Connection) -> Result<Uses, StorageError> {
    let mut found: Vec<(i64, i64, Vec<u8>, i64)> = device_windows::table.load(connection)?;
    let vouched: Vec<(i64, Vec<u8>, i64)> = broker_windows::table.load(connection)?;
    let vouched = vouched.into_iter();
    found.extend(vouched.map(|(device, sequence, heard)| (-device, device, sequence, heard)));
    let mut uses = HashMap::new();
    let mut heard: HashMap<i64, i64> = HashMap::new();
    for (key, device, sequence, heard_at) in found {
        let window = SequenceWindow::from_bytes(&sequence)
            .ok_or_else(|| unreadable(format_args!("the window of key {key}")))?;
        // 0: its messages so far were all late, so it was never heard.
        if heard_at > 0 {
            let last = heard.entry(device).or_default();
            *last = heard_at.max(*last);
        }
        uses.insert(
            key,
            KeyUse {
                device,
                window,
                heard_at,
            },
        );
    }
    Ok((uses, heard))
}

fn load_open(connection: &mut Connection, registry: &Registry) -> Result<Vec<Alert>, StorageError> {
    let found: Vec<(AlertRow, Option<Vec<u8>>)> = alerts::table
        .left_join(journal_texts::table.on(journal_texts::seq.eq(alerts::first_seq)))
        .filter(alerts::state.le(2))
        .order(alerts::id)
        .select((AlertRow::as_select(), journal_texts::body.nullable()))
        .load(connection)?;
    found
        .iter()
        .map(|(row, texts)| open_alert(row, texts.as_deref(), registry))
        .collect()
}

fn open_alert(
    row: &AlertRow,
    texts: Option<&[u8]>,
    registry: &Registry,
) -> Result<Alert, StorageError> {
    let wrong = || unreadable(format_args!("alert {}", row.id));
    let device = registry.device_at(row.device_id).ok_or_else(wrong)?;
    let address: DeviceAddress = registry.address_of(device).ok_or_else(wrong)?;
    let state: AlertState = state_of(row.state).ok_or_else(wrong)?;
    let priority: Priority = priority_of(row.priority).ok_or_else(wrong)?;
    let texts = match texts {
        Some(body) => texts_of(body).ok_or_else(wrong)?,
        None => StepTexts::default(),
    };
    Ok(Alert {
        row: row.id,
        id: Uuid::from_slice(&row.alert_id).map_err(|_| wrong())?,
        company: row.company_id,
        site: row.site_id,
        device: row.device_id,
        address,
        kind: slug(&row.kind)?,
        priority,
        state,
        late: row.late,
        count: row.count,
        escalations: row.escalations,
        freezes: row.freezes,
        raised_at: row.raised_at,
        updated_at: row.updated_at,
        acknowledged_at: row.acknowledged_at,
        closed_at: row.closed_at,
        escalate_at: row.escalate_at,
        first_seq: row.first_seq,
        last_seq: row.last_seq,
        touched_at: row.updated_at,
        commands: texts.commands,
    })
}

/// A preloaded kind: code, name, priority, colour, what it means, what to do, seconds until it is
/// escalated.
type Preloaded = (
    &'static str,
    &'static str,
    Priority,
    &'static str,
    &'static str,
    &'static str,
    i64,
);

/// The kinds that every company starts with; each may change its own.
const KINDS: [Preloaded; 6] = [
    (
        "ROJO",
        "Robo o asalto",
        Priority::Critical,
        "ROJO",
        "Robo, asalto o amenaza armada",
        "No se exponga. Llame a la policía y siga el protocolo de asalto.",
        60,
    ),
    (
        "NARANJA",
        "Incendio",
        Priority::High,
        "NARANJA",
        "Fuego, humo o peligro de explosión",
        "Evacúe el local y llame a los bomberos.",
        120,
    ),
    (
        "AMARILLO",
        "Conducta sospechosa",
        Priority::Medium,
        "AMARILLO",
        "Personas u objetos sospechosos",
        "Observe a distancia y avise a seguridad.",
        300,
    ),
    (
        "VERDE",
        "Asistencia",
        Priority::Low,
        "VERDE",
        "Se pide ayuda sin peligro inmediato",
        "Envíe a alguien a la sede.",
        900,
    ),
    (
        "AZUL",
        "Emergencia médica",
        Priority::High,
        "AZUL",
        "Una persona necesita atención médica",
        "Llame a emergencias médicas y envíe el botiquín.",
        120,
    ),
    (
        SILENT_DEVICE,
        "Dispositivo silencioso",
        Priority::Medium,
        "GRIS",
        "Un dispositivo no da señal desde hace demasiado",
        "Revise su corriente y su conexión.",
        3_600,
    ),
];

/// The kinds and rules that the company at `company` starts with, in numbers from `kind` and
/// `rule` on.
pub(super) fn preloaded(
    company: i64,
    kind: i64,
    rule: i64,
    principal: i64,
    now: i64,
) -> (Vec<AlertKindRow>, Vec<RuleRow>) {
    let kinds = (kind..).zip(KINDS).map(
        |(id, (code, name, priority, colour, description, instructions, escalation))| {
            AlertKindRow {
                id,
                company_id: company,
                code: code.to_owned(),
                name: name.to_owned(),
                priority: priority_code(priority),
                colour: colour.to_owned(),
                description: description.to_owned(),
                instructions: instructions.to_owned(),
                items: "[]".to_owned(),
                escalation: Some(escalation),
                active: true,
            }
        },
    );
    let rules = (rule..).zip(DEFAULT_RULES).map(|(id, rule)| RuleRow {
        id,
        version: 1,
        company_id: company,
        name: rule.name.to_owned(),
        position: rule.order,
        condition: rule.condition.to_owned(),
        actions: rule.actions.to_owned(),
        active: true,
        principal,
        changed_at: now,
    });
    (kinds.collect(), rules.collect())
}

/// Gives the company at `company` what every company starts with, unless it has any kinds.
pub(in crate::storage) fn preload(
    connection: &mut Connection,
    company: i64,
    principal: i64,
    now: i64,
) -> Result<(), StorageError> {
    let has_kinds: i64 = alert_kinds::table
        .filter(alert_kinds::company_id.eq(company))
        .count()
        .get_result(connection)?;
    if has_kinds > 0 {
        return Ok(());
    }
    let next = next_rows(connection)?;
    let (kinds, new_rules) = preloaded(company, next.kind, next.rule, principal, now);
    for kind in &kinds {
        rows::put_kind(connection, kind)?;
    }
    for rule in &new_rules {
        diesel::insert_into(rules::table)
            .values(rule)
            .execute(connection)?;
    }
    Ok(())
}
