//! The registry: companies, sites, devices and their keys, kinds of alert and rules, as they are
//! at one moment. A snapshot: whoever holds one sees no change; the writer makes the next.

use super::alert::Priority;
use super::device::{DeviceAddress, KeyMaterial, PasswordDigest};
use super::name::{Label, Prose, Slug};
use super::rule::Rule;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::sync::Arc;

/// The kind of a heartbeat, which shows that a device lives and makes no alert.
pub const HEARTBEAT: &str = "LATIDO";

/// The kind that Atalaya itself raises for a device that has fallen silent.
pub const SILENT_DEVICE: &str = "DISPOSITIVO_SILENCIOSO";

/// Keys of one device that may be active at once, so that they rotate without a gap.
pub const ACTIVE_KEYS: usize = 2;

/// A tenant (`empresa`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Company {
    /// Its row.
    pub row: i64,
    /// Its name in topics.
    pub slug: Slug,
    /// Its name for people.
    pub name: Label,
    /// Whether anything below it is heard.
    pub active: bool,
    /// Whether the broker may vouch for devices of this company (`confianza_broker`).
    pub broker_trust: bool,
}

/// A place (`sede`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its row.
    pub row: i64,
    /// The row of its company.
    pub company: i64,
    /// Its name in topics.
    pub slug: Slug,
    /// Its name for people.
    pub name: Label,
    /// Where its clocks stand, for rules and people.
    pub time_zone: TimeZone,
    /// Whether anything below it is heard.
    pub active: bool,
}

/// What a device is (`tipo`): `BOTONERA`, `SIRENA`, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceType {
    /// Its code.
    pub code: Slug,
    /// For people.
    pub description: Prose,
    /// How long a device of this type may say nothing, in seconds; for ever where there is none.
    pub silence: Option<i64>,
}

/// What proves that a device's message is its own (`confianza`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Trust {
    /// Its signature.
    #[default]
    Signature,
    /// That the broker has let the device in, and nobody else speak on its topic. What is signed is
    /// taken all the same.
    Broker,
    /// A token that it got for its secret: it is one from before Atalaya, and speaks HTTP alone. What
    /// is signed is taken all the same.
    Legacy,
}

impl Trust {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signature => "firma",
            Self::Broker => "broker",
            Self::Legacy => "heredada",
        }
    }

    /// What is called so.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Signature, Self::Broker, Self::Legacy]
            .into_iter()
            .find(|trust| trust.name() == name)
    }
}

/// A thing in the field (`hardware`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its row.
    pub row: i64,
    /// Its name in topics, unique in the installation.
    pub slug: Slug,
    /// The row of its company.
    pub company: i64,
    /// The row of its site.
    pub site: i64,
    /// What it is.
    pub kind: Slug,
    /// Its name for people.
    pub name: Label,
    /// Whether it is heard.
    pub active: bool,
    /// What proves its messages.
    pub trust: Trust,
}

/// An active key of a device. What is revoked is not in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKey {
    /// Its row.
    pub row: i64,
    /// Its name (`kid`).
    pub kid: Slug,
    /// The row of its device.
    pub device: i64,
    /// What checks its signatures.
    pub material: KeyMaterial,
}

/// A kind of alert (`tipo_alarma`) of one company.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertKind {
    /// Its row.
    pub row: i64,
    /// The row of its company.
    pub company: i64,
    /// Its code: `ROJO`, …
    pub code: Slug,
    /// Its name for people.
    pub name: Label,
    /// How urgent its alerts are, unless a rule says otherwise.
    pub priority: Priority,
    /// What lights show: a word or `#rrggbb`.
    pub colour: Label,
    /// What it means.
    pub description: Prose,
    /// What to do.
    pub instructions: Prose,
    /// What to bring.
    pub items: Vec<Label>,
    /// Seconds until an alert that nobody acknowledges is escalated, and again after as many;
    /// never where there are none.
    pub escalation: Option<i64>,
    /// Whether alerts of this kind are taken.
    pub active: bool,
}

/// The registry at one moment.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    companies: HashMap<i64, Arc<Company>>,
    company_rows: HashMap<Slug, i64>,
    sites: HashMap<i64, Arc<Site>>,
    site_rows: HashMap<(i64, Slug), i64>,
    types: HashMap<Slug, Arc<DeviceType>>,
    devices: HashMap<i64, Arc<Device>>,
    device_rows: HashMap<Slug, i64>,
    devices_at: HashMap<i64, Vec<i64>>,
    keys: HashMap<Slug, Arc<DeviceKey>>,
    passwords: HashMap<i64, PasswordDigest>,
    secrets: HashMap<i64, PasswordDigest>,
    kinds: HashMap<(i64, Slug), Arc<AlertKind>>,
    rules: HashMap<i64, Arc<Rule>>,
    rules_of: HashMap<i64, Vec<Arc<Rule>>>,
}

impl Registry {
    /// The company called `slug`.
    #[must_use]
    pub fn company(&self, slug: &Slug) -> Option<&Arc<Company>> {
        self.companies.get(self.company_rows.get(slug)?)
    }

    /// The company at `row`.
    #[must_use]
    pub fn company_at(&self, row: i64) -> Option<&Arc<Company>> {
        self.companies.get(&row)
    }

    /// All companies, in no order.
    pub fn companies(&self) -> impl Iterator<Item = &Arc<Company>> {
        self.companies.values()
    }

    /// The site called `slug` of the company at `company`.
    #[must_use]
    pub fn site(&self, company: i64, slug: &Slug) -> Option<&Arc<Site>> {
        self.sites
            .get(self.site_rows.get(&(company, slug.clone()))?)
    }

    /// The site at `row`.
    #[must_use]
    pub fn site_at(&self, row: i64) -> Option<&Arc<Site>> {
        self.sites.get(&row)
    }

    /// All sites, in no order.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.sites.values()
    }

    /// The type called `code`.
    #[must_use]
    pub fn device_type(&self, code: &Slug) -> Option<&Arc<DeviceType>> {
        self.types.get(code)
    }

    /// How long a device may say nothing, in seconds; for ever where there is none.
    #[must_use]
    pub fn silence_of(&self, device: &Device) -> Option<i64> {
        self.types.get(&device.kind)?.silence
    }

    /// All types, in no order.
    pub fn device_types(&self) -> impl Iterator<Item = &Arc<DeviceType>> {
        self.types.values()
    }

    /// The device called `slug`.
    #[must_use]
    pub fn device(&self, slug: &Slug) -> Option<&Arc<Device>> {
        self.devices.get(self.device_rows.get(slug)?)
    }

    /// The device at `row`.
    #[must_use]
    pub fn device_at(&self, row: i64) -> Option<&Arc<Device>> {
        self.devices.get(&row)
    }

    /// All devices, in no order.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.devices.values()
    }

    /// The active devices at a site, in the order of their rows.
    pub fn active_devices_at(&self, site: i64) -> impl Iterator<Item = &Arc<Device>> {
        let rows = self.devices_at.get(&site).into_iter().flatten();
        rows.filter_map(|row| self.devices.get(row))
            .filter(|device| device.active)
    }

    /// The active key called `kid`.
    #[must_use]
    pub fn key(&self, kid: &Slug) -> Option<&Arc<DeviceKey>> {
        self.keys.get(kid)
    }

    /// The active keys of a device.
    #[must_use]
    pub fn keys_of(&self, device: i64) -> Vec<Arc<DeviceKey>> {
        let mut keys: Vec<_> = self
            .keys
            .values()
            .filter(|key| key.device == device)
            .cloned()
            .collect();
        keys.sort_by_key(|key| key.row);
        keys
    }

    /// What the device at `row` signs in with at the broker, if it may.
    #[must_use]
    pub fn password_of(&self, row: i64) -> Option<PasswordDigest> {
        self.passwords.get(&row).copied()
    }

    /// What the device at `row`, one from before Atalaya, shows for a token, if it may.
    #[must_use]
    pub fn secret_of(&self, row: i64) -> Option<PasswordDigest> {
        self.secrets.get(&row).copied()
    }

    /// The kind called `code` of a company.
    #[must_use]
    pub fn kind(&self, company: i64, code: &Slug) -> Option<&Arc<AlertKind>> {
        self.kinds.get(&(company, code.clone()))
    }

    /// All kinds, in no order.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<AlertKind>> {
        self.kinds.values()
    }

    /// The rule called `id`, in its newest version.
    #[must_use]
    pub fn rule(&self, id: i64) -> Option<&Arc<Rule>> {
        self.rules.get(&id)
    }

    /// The rules of a company in the order in which they are tried, inactive ones included.
    #[must_use]
    pub fn rules_of(&self, company: i64) -> &[Arc<Rule>] {
        self.rules_of.get(&company).map_or(&[], Vec::as_slice)
    }

    /// Where a device is.
    #[must_use]
    pub fn address_of(&self, device: &Device) -> Option<DeviceAddress> {
        Some(DeviceAddress {
            company: self.companies.get(&device.company)?.slug.clone(),
            site: self.sites.get(&device.site)?.slug.clone(),
            device: device.slug.clone(),
        })
    }

    /// Whether a device and all above it are active.
    #[must_use]
    pub fn is_heard(&self, device: &Device) -> bool {
        device.active
            && self.sites.get(&device.site).is_some_and(|s| s.active)
            && self
                .companies
                .get(&device.company)
                .is_some_and(|c| c.active)
    }

    /// Whether the broker may vouch for a device: it is one that cannot sign, of a company that
    /// allows it.
    #[must_use]
    pub fn is_vouched_for(&self, device: &Device) -> bool {
        device.trust == Trust::Broker
            && self
                .companies
                .get(&device.company)
                .is_some_and(|company| company.broker_trust)
    }

    /// Puts a company in, or its newer state in its place.
    pub fn put_company(&mut self, company: Company) {
        self.company_rows.insert(company.slug.clone(), company.row);
        self.companies.insert(company.row, Arc::new(company));
    }

    /// Puts a site in, or its newer state in its place.
    pub fn put_site(&mut self, site: Site) {
        let name = (site.company, site.slug.clone());
        self.site_rows.insert(name, site.row);
        self.sites.insert(site.row, Arc::new(site));
    }

    /// Puts a type in, or its newer state in its place.
    pub fn put_device_type(&mut self, device_type: DeviceType) {
        self.types
            .insert(device_type.code.clone(), Arc::new(device_type));
    }

    /// Puts a device in, or its newer state in its place. A device never moves to another site.
    pub fn put_device(&mut self, device: Device) {
        self.device_rows.insert(device.slug.clone(), device.row);
        let known = self.devices.insert(device.row, Arc::new(device.clone()));
        if known.is_none() {
            self.devices_at
                .entry(device.site)
                .or_default()
                .push(device.row);
        }
    }

    /// Puts an active key in.
    pub fn put_key(&mut self, key: DeviceKey) {
        self.keys.insert(key.kid.clone(), Arc::new(key));
    }

    /// Takes a revoked key out.
    pub fn remove_key(&mut self, kid: &Slug) {
        self.keys.remove(kid);
    }

    /// Sets what the device at `row` signs in with at the broker, or ends it.
    pub fn set_password(&mut self, row: i64, password: Option<PasswordDigest>) {
        match password {
            Some(password) => self.passwords.insert(row, password),
            None => self.passwords.remove(&row),
        };
    }

    /// Sets what the device at `row` shows for a token, or ends it.
    pub fn set_secret(&mut self, row: i64, secret: Option<PasswordDigest>) {
        match secret {
            Some(secret) => self.secrets.insert(row, secret),
            None => self.secrets.remove(&row),
        };
    }

    /// Puts a kind in, or its newer state in its place.
    pub fn put_kind(&mut self, kind: AlertKind) {
        self.kinds
            .insert((kind.company, kind.code.clone()), Arc::new(kind));
    }

    /// Puts a rule in, or its newer version in its place.
    pub fn put_rule(&mut self, rule: Rule) {
        let rule = Arc::new(rule);
        self.rules.insert(rule.id, Arc::clone(&rule));
        let rules = self.rules_of.entry(rule.company).or_default();
        rules.retain(|other| other.id != rule.id);
        rules.push(rule);
        rules.sort_by_key(|rule| (rule.order, rule.id));
    }
}
