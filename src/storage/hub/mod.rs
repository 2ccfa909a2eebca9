//! The alert hub behind the writer: the registry, what each key has been used for, and the alerts
//! that are open.
//!
//! Like the ledger's lane it decides in memory first: an order that is refused writes nothing, and
//! the rows of all others go out together (`Hub::write`). Its memory runs ahead of the database
//! only while a group is open; when a group fails the hub is dropped with it and loaded anew.

mod alerts;
mod load;
pub mod quarantine;
mod registry;
mod rows;

pub(super) use load::preload;
pub(super) use load::{kind_of, rule_of};
pub(super) use registry::password_name;
pub(super) use rows::AlertRow;
pub(super) use rows::{AlertKindRow, RuleRow, find_message, short_digest, trust_of};

use self::alerts::Alert;
use super::ledger::{Lane, Place, uuid_at};
use super::vault::Vault;
use super::writer::WriteError;
use super::{Connection, StorageError};
use crate::domain::device::{KeyMaterial, PasswordDigest, Secret};
use crate::domain::registry::{AlertKind, Trust};
use crate::domain::rule::{Action, Condition};
use crate::domain::validation::{Claims, Proof, Purpose, Reason, Rejected};
use crate::domain::{
    AlertChange, AlertContent, AlertState, Channel, Fact, Label, Plan, Principal, Priority, Prose,
    Registry, RuleRef, SequenceWindow, Slug,
};
use jiff::tz::TimeZone;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

/// A message that is proved to be its device's, as of `registry`.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The registry that it was checked against. The commit looks again where there is a newer.
    pub registry: Arc<Registry>,
    /// What it says.
    pub claims: Claims,
    /// SHA-256 of it.
    pub digest: [u8; 32],
    /// What proves it.
    pub proof: Proof,
    /// What it is good for, with what the rules make of it.
    pub intent: Intent,
    /// When it arrived, in microseconds since 1970 UTC.
    pub received_at: i64,
}

/// What a verified message is to do.
#[derive(Debug, Clone)]
pub enum Intent {
    /// Show that its device lives.
    Heartbeat {
        /// Whether it was made too long ago to show that.
        late: bool,
    },
    /// Raise an alert.
    Alert {
        /// Of which kind.
        kind: Arc<AlertKind>,
        /// Whether it comes too late to drive hardware.
        late: bool,
        /// What the rules make of it.
        plan: Plan,
    },
}

impl Intent {
    /// Whether it was made long ago.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        let (Self::Heartbeat { late } | Self::Alert { late, .. }) = self;
        *late
    }
}

/// An alert that somebody raises for a device.
#[derive(Debug, Clone)]
pub struct Manual {
    /// The device.
    pub device: Slug,
    /// The kind.
    pub kind: Slug,
    /// What is said of it.
    pub content: AlertContent,
}

/// What changes in a company's, site's or device's entry; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    /// The name for people.
    pub name: Option<Label>,
    /// Whether it is heard.
    pub active: Option<bool>,
    /// A site's time zone.
    pub time_zone: Option<TimeZone>,
    /// A device's type.
    pub kind: Option<Slug>,
    /// Whether the broker may vouch for devices of a company.
    pub broker_trust: Option<bool>,
    /// What proves a device's messages.
    pub trust: Option<Trust>,
}

/// A kind of alert as it is to be.
#[derive(Debug, Clone)]
pub struct KindSpec {
    /// For people.
    pub name: Label,
    /// How urgent.
    pub priority: Priority,
    /// What lights show.
    pub colour: Label,
    /// What it means.
    pub description: Prose,
    /// What to do.
    pub instructions: Prose,
    /// What to bring.
    pub items: Vec<Label>,
    /// Seconds until it is escalated.
    pub escalation: Option<i64>,
    /// Whether it is taken.
    pub active: bool,
}

/// A rule as it is to be.
#[derive(Debug, Clone)]
pub struct RuleSpec {
    /// For people.
    pub name: Label,
    /// Its place in the order.
    pub order: i32,
    /// When it applies.
    pub condition: Condition,
    /// What it does.
    pub actions: Vec<Action>,
    /// Its actions as they were written: a JSON array.
    pub actions_source: String,
    /// Whether it is tried.
    pub active: bool,
}

/// A message for quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// SHA-256 of the message.
    pub digest: [u8; 32],
    /// When it arrived.
    pub received_at: i64,
    /// Through which edge.
    pub channel: Channel,
    /// On which topic, where there was one.
    pub topic: Option<String>,
    /// Which device it claims to be from, where it claims one.
    pub device: Option<Slug>,
    /// Why it was refused.
    pub rejected: Rejected,
    /// The message, cut to what is kept.
    pub message: Vec<u8>,
    /// Whether it was cut.
    pub truncated: bool,
}

/// A change that somebody wants of the hub.
#[derive(Debug, Clone)]
pub enum HubCommand {
    /// A device's message.
    Message(Box<Verified>),
    /// An alert raised for a device.
    Raise(Manual),
    /// A step of an alert's life.
    Step {
        /// Which alert.
        alert: Uuid,
        /// Acknowledged, resolved or discarded.
        change: AlertChange,
        /// Why.
        reason: Option<Prose>,
    },
    /// Look at what is due: escalations, and devices that have been silent since `hearing_since`
    /// or longer. `None`: devices cannot be heard at present, so none is silent.
    Sweep {
        /// Since when devices can be heard, in microseconds since 1970 UTC.
        hearing_since: Option<i64>,
    },
    /// A new company, with the preloaded kinds and rules.
    CreateCompany {
        /// Its name in topics.
        slug: Slug,
        /// Its name for people.
        name: Label,
    },
    /// A change of a company.
    PatchCompany(Slug, Patch),
    /// A new site.
    CreateSite {
        /// The company.
        company: Slug,
        /// Its name in topics.
        slug: Slug,
        /// Its name for people.
        name: Label,
        /// Where its clocks stand.
        time_zone: TimeZone,
    },
    /// A change of a site.
    PatchSite(Slug, Slug, Patch),
    /// A new device.
    CreateDevice {
        /// Its name in topics.
        slug: Slug,
        /// The company.
        company: Slug,
        /// The site.
        site: Slug,
        /// Its type.
        kind: Slug,
        /// Its name for people.
        name: Label,
        /// What proves its messages.
        trust: Trust,
    },
    /// A change of a device.
    PatchDevice(Slug, Patch),
    /// A new key of a device.
    AddKey {
        /// The device.
        device: Slug,
        /// Its name, made for it.
        kid: Slug,
        /// What checks signatures.
        material: KeyMaterial,
    },
    /// The end of a key.
    RevokeKey {
        /// The device.
        device: Slug,
        /// Which key.
        kid: Slug,
    },
    /// What a device signs in with at the broker from now on; `None`: it does not any more.
    SetPassword {
        /// The device.
        device: Slug,
        /// The password, whose text is its base64url.
        password: Option<Secret>,
    },
    /// What a device from before Atalaya shows for a token from now on; `None`: it gets none any
    /// more.
    SetSecret {
        /// The device.
        device: Slug,
        /// The digest of the secret, which is in no order.
        secret: Option<PasswordDigest>,
    },
    /// A type of device, new or changed.
    PutDeviceType {
        /// Its code.
        code: Slug,
        /// For people; as it was where there is none.
        description: Option<Prose>,
        /// How long it may say nothing, in seconds.
        silence: Option<i64>,
    },
    /// A kind of alert, new or changed.
    PutKind {
        /// The company.
        company: Slug,
        /// Its code.
        code: Slug,
        /// What it is to be.
        spec: KindSpec,
    },
    /// A new rule.
    CreateRule {
        /// The company.
        company: Slug,
        /// What it is to be.
        spec: Box<RuleSpec>,
    },
    /// A new version of a rule.
    ReviseRule {
        /// Which rule.
        id: i64,
        /// The version that the change was made from: another change meanwhile refuses it.
        from_version: i64,
        /// What it is to be.
        spec: Box<RuleSpec>,
    },
    /// Messages for quarantine.
    Quarantine(Vec<Suspect>),
    /// The end of a message in quarantine.
    Release(i64),
    /// Refused messages of a while, counted by reason.
    CountRefusals(Vec<(Reason, u64)>),
}

/// A command with its circumstances.
#[derive(Debug, Clone)]
pub struct HubOrder {
    /// What is wanted.
    pub command: HubCommand,
    /// By whom.
    pub principal: Principal,
    /// Through which edge.
    pub channel: Channel,
}

/// What became of a device's message; durable when it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken. A heartbeat makes no alert.
    Accepted {
        /// The alert that it made or repeated.
        alert: Option<Uuid>,
        /// The rules that it set off.
        rules: Vec<RuleRef>,
        /// When it was committed; a heartbeat is in no entry of the journal.
        at: i64,
        /// Whether its answer is published with an entry of the journal.
        journaled: bool,
    },
    /// It was taken before.
    Duplicate {
        /// The alert that it made then.
        alert: Option<Uuid>,
    },
    /// It was refused.
    Rejected(Rejected),
}

/// What came of an order; durable when it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubAnswer {
    /// Of a message.
    Message(Verdict),
    /// Of an alert.
    Alert {
        /// Which.
        id: Uuid,
        /// Whether it was made by this order.
        created: bool,
    },
    /// Of a rule.
    Rule(i64),
    /// Of anything else: it is done.
    Done,
}

/// Why an order was refused; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum HubRefusal {
    #[error("no such company")]
    UnknownCompany,
    #[error("the company exists")]
    CompanyExists,
    #[error("no such site")]
    UnknownSite,
    #[error("the site exists")]
    SiteExists,
    #[error("no such device")]
    UnknownDevice,
    #[error("the device exists")]
    DeviceExists,
    #[error("no such type of device")]
    UnknownDeviceType,
    #[error("no such active key")]
    UnknownKey,
    #[error("the key exists")]
    KeyExists,
    #[error("the device has two active keys")]
    TooManyKeys,
    #[error("the company does not let its broker vouch for devices")]
    TrustNotAllowed,
    #[error("the device does not speak with a secret")]
    NotLegacy,
    #[error("no such alert")]
    UnknownAlert,
    #[error("an alert that is {} does not take this step", .0.name())]
    WrongStep(AlertState),
    #[error("the alert cannot be raised: {0}")]
    NotRaised(Rejected),
    #[error("no such rule")]
    UnknownRule,
    #[error("the rule was changed meanwhile")]
    RuleChanged,
    #[error("no such message in quarantine")]
    UnknownSuspect,
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why an order was not decided.
pub(super) enum Undecided {
    /// The order itself is wrong; the group goes on without it.
    Refused(HubRefusal),
    /// The database failed; the group fails with it.
    Storage(StorageError),
}

impl From<HubRefusal> for Undecided {
    fn from(refusal: HubRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StorageError> for Undecided {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<diesel::result::Error> for Undecided {
    fn from(error: diesel::result::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// What of the hub can be seen from outside, as of the last commit.
#[derive(Debug)]
pub struct HubView {
    registry: watch::Sender<Arc<Registry>>,
    next_due: AtomicI64,
    open: [AtomicI64; 2],
}

impl Default for HubView {
    fn default() -> Self {
        Self {
            registry: watch::Sender::new(Arc::default()),
            next_due: AtomicI64::new(i64::MAX),
            open: [AtomicI64::new(0), AtomicI64::new(0)],
        }
    }
}

impl HubView {
    /// The registry.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.borrow())
    }

    /// Shows another registry.
    pub(crate) fn show(&self, registry: impl Into<Arc<Registry>>) {
        self.registry.send_replace(registry.into());
    }

    /// Tells of each newer registry.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<Registry>> {
        self.registry.subscribe()
    }

    /// When the next escalation or silence may be due, in microseconds since 1970 UTC.
    #[must_use]
    pub fn next_due(&self) -> i64 {
        self.next_due.load(Ordering::Relaxed)
    }

    /// How many alerts are new, and how many acknowledged.
    #[must_use]
    pub fn open_alerts(&self) -> (i64, i64) {
        let [new, acknowledged] = &self.open;
        let count = |count: &AtomicI64| count.load(Ordering::Relaxed);
        (count(new), count(acknowledged))
    }
}

/// What decides how the hub behaves.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Opens the shared secrets of devices.
    pub vault: Vault,
    /// Presses of a bouncing button: the same kind from the same device within this time of the
    /// last is the same alert, even if that was closed meanwhile.
    pub bounce: Duration,
    /// Where the hub is seen from outside.
    pub view: Arc<HubView>,
}

/// Names what merges: the same kind from the same device. Late alerts merge among themselves, or
/// one that came late would keep the hardware still when the real one comes.
type Merge = (i64, Slug, bool);

/// How urgently an open alert wants a device: its priority, and of two alike the newer.
type Urgency = (Priority, Reverse<i64>);

/// What a key, or a device that the broker vouches for, has been used for, and when it was heard
/// last.
#[derive(Debug, Clone)]
struct KeyUse {
    device: i64,
    window: SequenceWindow,
    heard_at: i64,
}

/// The numbers that the next rows get.
#[derive(Debug, Default)]
struct NextRows {
    company: i64,
    site: i64,
    device: i64,
    key: i64,
    kind: i64,
    rule: i64,
    alert: i64,
}

/// The hub, with the group that is open.
pub(super) struct Hub {
    settings: HubSettings,
    registry: Arc<Registry>,
    registry_changed: bool,
    /// By [`Proof::window`].
    uses: HashMap<i64, KeyUse>,
    /// When each device was heard last, whatever the key.
    heard: HashMap<i64, i64>,
    open: HashMap<i64, Alert>,
    open_ids: HashMap<Uuid, i64>,
    merges: HashMap<Merge, i64>,
    /// Alerts that were closed within the bounce window, until a sweep.
    closed: HashMap<Merge, Alert>,
    /// For each device the open alerts that want it.
    wanting: HashMap<Slug, BTreeSet<Urgency>>,
    escalations: BTreeSet<(i64, i64)>,
    /// When each device that is watched may be silent for too long. One entry a device, moved only
    /// when it is due: messages do not touch it.
    silences: BTreeSet<(i64, i64)>,
    watched: HashSet<i64>,
    next: NextRows,
    /// Alerts from this row on are of the open group; those before it are in the database.
    first_new: i64,
    /// Keys used in the open group.
    used: BTreeSet<i64>,
    /// Alerts changed in the open group, as they are to be written.
    changed: BTreeMap<i64, AlertRow>,
    /// Messages accepted in the open group, by key and number.
    accepted: BTreeMap<(i64, i64), (i64, Uuid, [u8; 32])>,
    pending: Vec<rows::Row>,
    /// Open alerts that nobody has acknowledged.
    new_alerts: usize,
}

impl Hub {
    /// Decides one order within the open group. Nothing is written yet.
    pub(super) fn decide(
        &mut self,
        connection: &mut Connection,
        lane: &mut Lane,
        order: &HubOrder,
        now: i64,
    ) -> Result<HubAnswer, Undecided> {
        let mut desk = Group {
            connection,
            lane,
            order,
            now,
        };
        match &order.command {
            HubCommand::Message(verified) => {
                Ok(HubAnswer::Message(self.message(&mut desk, verified)?))
            }
            HubCommand::Raise(manual) => self.raise_for(&mut desk, manual),
            HubCommand::Step {
                alert,
                change,
                reason,
            } => self.step(&mut desk, *alert, *change, reason.as_ref()),
            HubCommand::Sweep { hearing_since } => {
                self.sweep(&mut desk, *hearing_since);
                Ok(HubAnswer::Done)
            }
            HubCommand::Quarantine(suspects) => {
                self.pending
                    .extend(suspects.iter().cloned().map(rows::Row::Suspect));
                Ok(HubAnswer::Done)
            }
            HubCommand::Release(id) => quarantine::release(self, &mut desk, *id),
            HubCommand::CountRefusals(counts) => {
                desk.set(None, None, quarantine::refusals(counts));
                Ok(HubAnswer::Done)
            }
            _ => self.change_registry(&mut desk),
        }
    }

    /// Writes what the open group has changed, within the caller's transaction.
    pub(super) fn write(&mut self, connection: &mut Connection) -> Result<(), StorageError> {
        for row in self.pending.drain(..) {
            row.write(connection)?;
        }
        for (key, used) in self
            .used
            .iter()
            .filter_map(|key| Some((key, self.uses.get(key)?)))
        {
            rows::write_window(connection, *key, used.device, &used.window, used.heard_at)?;
        }
        for (alert, row) in &self.changed {
            if *alert < self.first_new {
                row.update(connection)?;
            } else {
                row.insert(connection)?;
            }
        }
        for ((key, seq), (alert, _, digest)) in &self.accepted {
            rows::write_message(connection, *key, *seq, *alert, digest)?;
        }
        Ok(())
    }

    /// The open group is committed: it can be seen.
    pub(super) fn committed(&mut self) {
        self.used.clear();
        self.changed.clear();
        self.accepted.clear();
        self.first_new = self.next.alert;
        let view = &self.settings.view;
        if self.registry_changed {
            self.registry_changed = false;
            view.show(Arc::clone(&self.registry));
        }
        let first = |set: &BTreeSet<(i64, i64)>| set.first().map_or(i64::MAX, |(due, _)| *due);
        let mut due = first(&self.escalations).min(first(&self.silences));
        if !self.closed.is_empty() {
            // What was closed a moment ago is forgotten by the next sweep, or the one after.
            due = 0;
        }
        view.next_due.store(due, Ordering::Relaxed);
        let new = self.new_alerts;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        view.open[0].store(count(new), Ordering::Relaxed);
        view.open[1].store(count(self.open.len() - new), Ordering::Relaxed);
    }

    /// The registry, to be changed.
    fn registry_mut(&mut self) -> &mut Registry {
        self.registry_changed = true;
        Arc::make_mut(&mut self.registry)
    }
}

/// What a decision works with.
struct Group<'a> {
    connection: &'a mut Connection,
    lane: &'a mut Lane,
    order: &'a HubOrder,
    now: i64,
}

impl Group<'_> {
    /// Appends a fact to the journal.
    fn append(&mut self, principal: Principal, at: (i64, Option<i64>), fact: Fact) {
        let place = Place {
            at: self.now,
            tx_id: uuid_at(self.now),
            principal,
            channel: self.order.channel,
            company: at.0,
            site: at.1,
            value_date: None,
        };
        self.lane.append_at(place, None, fact);
    }

    /// Appends a changed setting of a company (the installation's own where there is none).
    fn set(&mut self, company: Option<i64>, site: Option<i64>, setting: registry::Setting) {
        let company = company.unwrap_or_else(|| self.lane.company());
        let fact = Fact::Setting {
            subject: setting.subject,
            change: setting.change.to_string(),
        };
        self.append(self.order.principal.clone(), (company, site), fact);
    }
}

/// What a purpose needs from the rules.
pub(crate) fn intent_of(
    registry: &Registry,
    located: &crate::domain::validation::Located,
    purpose: Purpose,
    content: &AlertContent,
    at: i64,
) -> Intent {
    match purpose {
        Purpose::Heartbeat { late } => Intent::Heartbeat { late },
        Purpose::Alert { kind, late } => {
            let plan = alerts::plan_for(registry, located, &kind, content, late, at);
            Intent::Alert { kind, late, plan }
        }
    }
}
