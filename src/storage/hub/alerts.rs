//! Alerts: which messages are new, what they make, and the steps of an alert's life.

use super::rows::{self, AlertRow};
use super::{
    Group, Hub, HubAnswer, HubRefusal, Intent, Manual, Merge, SECOND, Undecided, Urgency, Verdict,
    Verified,
};
use crate::domain::registry::{AlertKind, Device};
use crate::domain::rule::{Situation, plan};
use crate::domain::validation::{
    Located, Reason, Rejected, is_late, kind_of, locate, out_of_sequence,
};
use crate::domain::{
    AlertChange, AlertContent, AlertState, AlertStep, DeviceAddress, DeviceCommand, Fact,
    MessageRef, Novelty, Plan, Principal, Priority, Prose, Registry, RuleRef, Slug, StepTexts,
};
use crate::storage::ledger::uuid_at;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// An alert as the writer holds it: open, or closed a moment ago.
#[derive(Debug, Clone)]
pub(super) struct Alert {
    pub(super) row: i64,
    pub(super) id: Uuid,
    pub(super) company: i64,
    pub(super) site: i64,
    pub(super) device: i64,
    pub(super) address: DeviceAddress,
    pub(super) kind: Slug,
    pub(super) priority: Priority,
    pub(super) state: AlertState,
    pub(super) late: bool,
    pub(super) count: i64,
    pub(super) escalations: i64,
    pub(super) freezes: bool,
    pub(super) raised_at: i64,
    pub(super) updated_at: i64,
    pub(super) acknowledged_at: Option<i64>,
    pub(super) closed_at: Option<i64>,
    pub(super) escalate_at: Option<i64>,
    pub(super) first_seq: i64,
    pub(super) last_seq: i64,
    /// When it was raised or repeated last.
    pub(super) touched_at: i64,
    /// What devices of the site were told because of it.
    pub(super) commands: Vec<DeviceCommand>,
}

impl Alert {
    pub(super) fn merge(&self) -> Merge {
        (self.device, self.kind.clone(), self.late)
    }
}

/// What raises an alert.
struct Cause {
    located: Located,
    kind: Arc<AlertKind>,
    late: bool,
    content: AlertContent,
    plan: Plan,
    message: Option<MessageRef>,
    principal: Principal,
}

/// What came of a cause.
struct Raised {
    row: i64,
    id: Uuid,
    /// Whether it made an alert, and did not repeat one.
    created: bool,
    /// The rules that it set off.
    rules: Vec<RuleRef>,
}

/// What a step adds to an alert.
#[derive(Default)]
struct Addition {
    message: Option<MessageRef>,
    content: AlertContent,
    reason: Option<String>,
    commands: Vec<DeviceCommand>,
    rules: Vec<RuleRef>,
    notify: Vec<Slug>,
}

/// What the rules make of an alert at `at`.
pub(super) fn plan_for(
    registry: &Registry,
    located: &Located,
    kind: &AlertKind,
    content: &AlertContent,
    late: bool,
    at: i64,
) -> Plan {
    let situation = Situation {
        company: &located.company,
        site: &located.site,
        device: &located.device,
        kind,
        content,
        late,
        at,
    };
    plan(registry, registry.rules_of(located.company.row), &situation)
}

impl Hub {
    /// Decides a message that is proved to be its device's.
    pub(super) fn message(
        &mut self,
        group: &mut Group<'_>,
        verified: &Verified,
    ) -> Result<Verdict, Undecided> {
        let located = match self.look_again(verified) {
            Ok(located) => located,
            Err(rejected) => return Ok(Verdict::Rejected(rejected)),
        };
        if !verified.proof.is_counted() {
            return self.uncounted(group, verified, located);
        }
        let key = verified.proof.row();
        let seq = verified.claims.seq;
        let short = rows::short_digest(&verified.digest);
        let novelty = self
            .uses
            .get(&key)
            .map_or(Novelty::New, |used| used.window.look_at(seq, short));
        if let Novelty::TooOld = novelty
            && let Some((id, digest)) = self.made_by(group, key, seq)?
            && digest == verified.digest
        {
            return Ok(Verdict::Duplicate { alert: Some(id) });
        }
        if let Some(rejected) = out_of_sequence(novelty) {
            return Ok(Verdict::Rejected(rejected));
        }
        if novelty == Novelty::New {
            return self.accept(group, verified, located);
        }
        Ok(Verdict::Duplicate {
            alert: self.made_by(group, key, seq)?.map(|(id, _)| id),
        })
    }

    /// Decides a message of a device that does not count its messages: it is the same message where
    /// it comes again under the same token while the alert that it made is there. After that it is a
    /// button pressed again, which says the same and must be heard.
    fn uncounted(
        &mut self,
        group: &mut Group<'_>,
        verified: &Verified,
        located: Located,
    ) -> Result<Verdict, Undecided> {
        let key = verified.proof.row();
        let first = verified.claims.seq;
        for seq in first..first + PRESSES {
            match self.made_by(group, key, seq)? {
                Some((id, digest)) if digest == verified.digest && self.is_there(id, group.now) => {
                    return Ok(Verdict::Duplicate { alert: Some(id) });
                }
                Some(_) => {}
                None if seq == first => return self.accept(group, verified, located),
                None => {
                    let mut again = verified.clone();
                    again.claims.seq = seq;
                    return self.accept(group, &again, located);
                }
            }
        }
        let detail = "el mismo mensaje ya hizo demasiadas alertas con este token";
        Ok(Verdict::Rejected(Rejected::new(Reason::Limit, detail)))
    }

    /// Whether an alert is open, or was touched within the time that a button bounces.
    fn is_there(&self, id: Uuid, now: i64) -> bool {
        let bounces = bounces(self.settings.bounce, now);
        self.open_ids.contains_key(&id)
            || self
                .closed
                .values()
                .any(|alert| alert.id == id && bounces(alert))
    }

    /// What was true when the message was checked may have changed since: a key revoked or a
    /// device disabled is refused from the commit on.
    fn look_again(&self, verified: &Verified) -> Result<Located, Rejected> {
        let claims = &verified.claims;
        let located = locate(&self.registry, &claims.subject)?;
        if !Arc::ptr_eq(&self.registry, &verified.registry) {
            verified.proof.holds(&self.registry, &located.device)?;
            if matches!(verified.intent, Intent::Alert { .. }) {
                kind_of(&self.registry, located.company.row, &claims.kind)?;
            }
        }
        Ok(located)
    }

    /// The alert that the message `seq` under `key` made, with the message's digest.
    fn made_by(
        &self,
        group: &mut Group<'_>,
        key: i64,
        seq: u64,
    ) -> Result<Option<(Uuid, [u8; 32])>, Undecided> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        if let Some((_, id, digest)) = self.accepted.get(&(key, seq)) {
            return Ok(Some((*id, *digest)));
        }
        Ok(rows::find_message(group.connection, key, seq)?)
    }

    fn accept(
        &mut self,
        group: &mut Group<'_>,
        verified: &Verified,
        located: Located,
    ) -> Result<Verdict, Undecided> {
        let claims = &verified.claims;
        let digest = verified.digest;
        // A message may have been held since it was checked, while the database was away.
        let late = verified.intent.is_late() || is_late(claims.issued_at, group.now / SECOND);
        self.heard_from(group, verified, &located.device, late);
        let Intent::Alert { .. } = verified.intent else {
            return Ok(Verdict::Accepted {
                alert: None,
                rules: Vec::new(),
                at: group.now,
                journaled: false,
            });
        };
        let (kind, plan) = self.plan_again(verified, &located, late)?;
        let cause = Cause {
            located,
            kind,
            late,
            content: claims.content.clone(),
            plan,
            message: Some(MessageRef {
                key: verified.proof.name(),
                seq: claims.seq,
                digest,
                received_at: verified.received_at,
            }),
            principal: Principal::Device,
        };
        let raised = self.raise(group, cause);
        let seq = i64::try_from(claims.seq).unwrap_or(i64::MAX);
        self.accepted
            .insert((verified.proof.row(), seq), (raised.row, raised.id, digest));
        Ok(Verdict::Accepted {
            alert: Some(raised.id),
            rules: raised.rules,
            at: group.now,
            journaled: true,
        })
    }

    /// The plan that was made with the message, or a new one where the registry has changed or the
    /// message has become late.
    fn plan_again(
        &self,
        verified: &Verified,
        located: &Located,
        late: bool,
    ) -> Result<(Arc<AlertKind>, Plan), Undecided> {
        if Arc::ptr_eq(&self.registry, &verified.registry)
            && late == verified.intent.is_late()
            && let Intent::Alert { kind, plan, .. } = &verified.intent
        {
            return Ok((Arc::clone(kind), plan.clone()));
        }
        let claims = &verified.claims;
        let kind = kind_of(&self.registry, located.company.row, &claims.kind)
            .map_err(HubRefusal::NotRaised)?;
        let plan = plan_for(
            &self.registry,
            located,
            &kind,
            &claims.content,
            late,
            verified.received_at,
        );
        Ok((kind, plan))
    }

    /// A new message under a key: its number is used, and its device lives.
    fn heard_from(
        &mut self,
        group: &mut Group<'_>,
        verified: &Verified,
        device: &Device,
        late: bool,
    ) {
        let key = verified.proof.window();
        let used = self.uses.entry(key).or_insert_with(|| super::KeyUse {
            device: device.row,
            window: crate::domain::SequenceWindow::default(),
            heard_at: 0,
        });
        if verified.proof.is_counted() {
            let digest = rows::short_digest(&verified.digest);
            used.window.accept(verified.claims.seq, digest);
        }
        self.used.insert(key);
        // What was made long ago and only now arrives is no sign of life today.
        if late {
            return;
        }
        used.heard_at = group.now;
        self.heard.insert(device.row, group.now);
        self.watch(device.row, group.now);
        let silent = (device.row, rows::silent_kind(), false);
        if let Some(alert) = self.merges.get(&silent).copied() {
            let addition = Addition {
                reason: Some("volvió a dar señal".to_owned()),
                ..Addition::default()
            };
            self.take_step(
                group,
                alert,
                AlertChange::Resolved,
                Principal::System,
                addition,
            );
        }
    }

    /// Raises an alert that somebody wants raised for a device.
    pub(super) fn raise_for(
        &mut self,
        group: &mut Group<'_>,
        manual: &Manual,
    ) -> Result<HubAnswer, Undecided> {
        let device = self
            .registry
            .device(&manual.device)
            .ok_or(HubRefusal::UnknownDevice)?;
        let address = self
            .registry
            .address_of(device)
            .ok_or(HubRefusal::UnknownDevice)?;
        let located = locate(&self.registry, &address).map_err(HubRefusal::NotRaised)?;
        let kind = kind_of(&self.registry, located.company.row, &manual.kind)
            .map_err(HubRefusal::NotRaised)?;
        let content = manual.content.clone();
        let plan = plan_for(&self.registry, &located, &kind, &content, false, group.now);
        let cause = Cause {
            located,
            kind,
            late: false,
            content,
            plan,
            message: None,
            principal: group.order.principal.clone(),
        };
        let Raised { id, created, .. } = self.raise(group, cause);
        Ok(HubAnswer::Alert { id, created })
    }

    /// Makes an alert, or raises the count of the one that it repeats.
    fn raise(&mut self, group: &mut Group<'_>, cause: Cause) -> Raised {
        let merge = (
            cause.located.device.row,
            cause.kind.code.clone(),
            cause.late,
        );
        let Some(mut alert) = self.to_repeat(&merge, group.now) else {
            return self.create(group, cause);
        };
        let addition = Addition {
            message: cause.message,
            content: cause.content,
            ..Addition::default()
        };
        repeat(group, &mut alert, cause.principal, addition);
        let (row, id) = (alert.row, alert.id);
        self.changed.insert(row, AlertRow::new(&alert));
        if alert.state.is_open() {
            self.open.insert(row, alert);
        } else {
            self.closed.insert(merge, alert);
        }
        Raised {
            row,
            id,
            created: false,
            rules: Vec::new(),
        }
    }

    /// The alert whose count a further one of the same kind from the same device raises: one that
    /// is open, or one that was touched within the time that a button bounces.
    fn to_repeat(&self, merge: &Merge, now: i64) -> Option<Alert> {
        let open = self.merges.get(merge).and_then(|row| self.open.get(row));
        let bounces = bounces(self.settings.bounce, now);
        let closed = || self.closed.get(merge).filter(|closed| bounces(closed));
        open.or_else(closed).cloned()
    }

    fn create(&mut self, group: &mut Group<'_>, cause: Cause) -> Raised {
        let row = self.next.alert;
        self.next.alert += 1;
        let commands = self.commands_of(&cause);
        let mut alert = new_alert(row, group, &cause, commands.clone());
        let rules = cause.plan.rules;
        let addition = Addition {
            message: cause.message,
            content: cause.content,
            reason: None,
            commands,
            rules: rules.clone(),
            notify: cause
                .plan
                .notify
                .into_iter()
                .map(|(group, _)| group)
                .collect(),
        };
        let principal = cause.principal;
        append(group, &mut alert, AlertChange::Raised, principal, addition);
        let id = alert.id;
        self.changed.insert(row, AlertRow::new(&alert));
        self.put_open(alert);
        Raised {
            row,
            id,
            created: true,
            rules,
        }
    }

    /// What the site's devices are to be told because of a new alert.
    fn commands_of(&self, cause: &Cause) -> Vec<DeviceCommand> {
        let priority = cause.plan.priority;
        let planned = cause.plan.commands.iter().map(|command| DeviceCommand {
            device: command.device.clone(),
            payload: Some(Arc::clone(&command.payload)),
            rule: Some(command.rule),
            kind: cause.kind.code.clone(),
            priority,
            alert: None,
            held: self.is_held(&command.device, priority),
        });
        planned.collect()
    }

    /// Takes an alert into memory as an open one.
    pub(super) fn put_open(&mut self, alert: Alert) {
        if alert.state == AlertState::New {
            self.new_alerts += 1;
        }
        if let Some(due) = alert.escalate_at {
            self.escalations.insert((due, alert.row));
        }
        self.open_ids.insert(alert.id, alert.row);
        self.merges.insert(alert.merge(), alert.row);
        for device in driven_by(&alert) {
            let wanting = self.wanting.entry(device.clone()).or_default();
            wanting.insert(urgency(&alert));
        }
        self.open.insert(alert.row, alert);
    }

    /// An alert that is over wants no device any more.
    fn let_go(&mut self, over: &Alert) {
        for device in driven_by(over) {
            if let Some(wanting) = self.wanting.get_mut(device) {
                wanting.remove(&urgency(over));
                if wanting.is_empty() {
                    self.wanting.remove(device);
                }
            }
        }
    }

    /// Takes a step that somebody wants.
    pub(super) fn step(
        &mut self,
        group: &mut Group<'_>,
        id: Uuid,
        change: AlertChange,
        reason: Option<&Prose>,
    ) -> Result<HubAnswer, Undecided> {
        let answer = Ok(HubAnswer::Alert { id, created: false });
        let open = self.open_ids.get(&id).and_then(|row| self.open.get(row));
        let (state, row) = match open {
            Some(alert) => (alert.state, Some(alert.row)),
            None => (self.state_of_closed(group, id)?, None),
        };
        match change.apply(state) {
            Err(wrong) => Err(HubRefusal::WrongStep(wrong.state).into()),
            // Somebody was faster and wanted the same.
            Ok(None) => answer,
            Ok(Some(_)) => {
                let row = row.ok_or(HubRefusal::WrongStep(state))?;
                let addition = Addition {
                    reason: reason
                        .map(|reason| reason.as_str().to_owned())
                        .filter(|reason| !reason.is_empty()),
                    ..Addition::default()
                };
                self.take_step(group, row, change, group.order.principal.clone(), addition);
                answer
            }
        }
    }

    fn state_of_closed(&self, group: &mut Group<'_>, id: Uuid) -> Result<AlertState, Undecided> {
        // Closed by this very group, so that the database does not know it yet.
        let closed_now = self.changed.values().find_map(|row| row.state_of(id));
        if let Some(state) = closed_now {
            return Ok(state);
        }
        Ok(rows::find_state(group.connection, id)?.ok_or(HubRefusal::UnknownAlert)?)
    }

    /// Takes an open alert a step further, if it takes it.
    fn take_step(
        &mut self,
        group: &mut Group<'_>,
        row: i64,
        change: AlertChange,
        principal: Principal,
        mut addition: Addition,
    ) {
        let Some(mut alert) = self.open.get(&row).cloned() else {
            return;
        };
        let before = alert.state;
        let Ok(Some(state)) = change.apply(before) else {
            return;
        };
        self.forget_escalation(&mut alert);
        alert.state = state;
        alert.updated_at = group.now;
        match change {
            AlertChange::Acknowledged => alert.acknowledged_at = Some(group.now),
            AlertChange::Escalated => self.escalate_again(&mut alert, group.now),
            _ => {
                alert.closed_at = Some(group.now);
                self.let_go(&alert);
                addition.commands = self.release_devices(&alert);
            }
        }
        append(group, &mut alert, change, principal, addition);
        self.changed.insert(row, AlertRow::new(&alert));
        if before == AlertState::New && state != AlertState::New {
            self.new_alerts -= 1;
        }
        let id = alert.id;
        if state.is_open() {
            self.open.insert(row, alert);
        } else {
            self.open.remove(&row);
            self.open_ids.remove(&id);
            self.merges.remove(&alert.merge());
            self.closed.insert(alert.merge(), alert);
        }
    }

    /// Whether a more urgent open alert has a device: during a robbery a call for help must not put
    /// the light to green. What is held is given when the other alert is over.
    fn is_held(&self, device: &Slug, priority: Priority) -> bool {
        let first = self.wanting.get(device).and_then(BTreeSet::first);
        first.is_some_and(|(most_urgent, ..)| *most_urgent < priority)
    }

    fn forget_escalation(&mut self, alert: &mut Alert) {
        if let Some(due) = alert.escalate_at.take() {
            self.escalations.remove(&(due, alert.row));
        }
    }

    fn escalate_again(&mut self, alert: &mut Alert, now: i64) {
        alert.escalations += 1;
        let kind = self.registry.kind(alert.company, &alert.kind);
        if let Some(after) = kind.and_then(|kind| kind.escalation) {
            let due = now + after * SECOND;
            alert.escalate_at = Some(due);
            self.escalations.insert((due, alert.row));
        }
    }

    /// What the devices that an alert has driven are told when it is over: that all is normal, or,
    /// where another open alert wants them too, what the most urgent of those wants.
    fn release_devices(&self, over: &Alert) -> Vec<DeviceCommand> {
        let other_of = |device: &Slug| -> Option<&Alert> {
            let (_, Reverse(row)) = self.wanting.get(device)?.first()?;
            self.open.get(row)
        };
        driven_by(over)
            .into_iter()
            .flat_map(|device| match other_of(device) {
                Some(other) => told_again(other, device),
                None => vec![DeviceCommand {
                    device: device.clone(),
                    payload: None,
                    rule: None,
                    kind: over.kind.clone(),
                    priority: over.priority,
                    alert: None,
                    held: false,
                }],
            })
            .collect()
    }

    /// Takes what is due: escalations, and devices that have fallen silent.
    pub(super) fn sweep(&mut self, group: &mut Group<'_>, hearing_since: Option<i64>) {
        let now = group.now;
        let bounces = bounces(self.settings.bounce, now);
        self.closed.retain(|_, alert| bounces(alert));
        for _ in 0..SWEEP {
            let Some((due, row)) = self.escalations.first().copied() else {
                break;
            };
            if due > now {
                break;
            }
            self.escalations.remove(&(due, row));
            let addition = Addition::default();
            self.take_step(
                group,
                row,
                AlertChange::Escalated,
                Principal::System,
                addition,
            );
        }
        for _ in 0..SWEEP {
            let Some((due, device)) = self.silences.first().copied() else {
                break;
            };
            if due > now {
                break;
            }
            self.silences.remove(&(due, device));
            self.watched.remove(&device);
            self.look_for_silence(group, device, hearing_since);
        }
    }

    fn look_for_silence(&mut self, group: &mut Group<'_>, row: i64, hearing_since: Option<i64>) {
        let Some(hearing_since) = hearing_since else {
            // Nobody can be heard: look again when that has changed, at the earliest.
            return self.watch(row, group.now);
        };
        let heard = self.heard.get(&row).copied().unwrap_or(group.now);
        let since = heard.max(hearing_since);
        let registry = Arc::clone(&self.registry);
        let Some(device) = registry.device_at(row).filter(|d| registry.is_heard(d)) else {
            return;
        };
        let Some(silence) = registry.silence_of(device) else {
            return;
        };
        if since + silence * SECOND > group.now {
            return self.watch(row, since);
        }
        let kind = registry.kind(device.company, &rows::silent_kind());
        let located = registry.address_of(device).map(|a| locate(&registry, &a));
        let (Some(kind), Some(Ok(located))) = (kind.filter(|kind| kind.active), located) else {
            return self.watch(row, group.now);
        };
        let merge = (row, kind.code.clone(), false);
        if self.merges.contains_key(&merge) {
            return;
        }
        let content = AlertContent {
            description: Some(format!("sin señal desde hace más de {silence} s")),
            ..AlertContent::default()
        };
        let plan = plan_for(&registry, &located, kind, &content, false, group.now);
        let cause = Cause {
            located,
            kind: Arc::clone(kind),
            late: false,
            content,
            plan,
            message: None,
            principal: Principal::System,
        };
        self.create(group, cause);
    }

    /// Watches a device that was heard at `since`, unless it is watched already or may be silent
    /// for ever.
    pub(super) fn watch(&mut self, row: i64, since: i64) {
        let Some(device) = self.registry.device_at(row) else {
            return;
        };
        if let Some(silence) = self.registry.silence_of(device)
            && self.watched.insert(row)
        {
            self.silences.insert((since + silence * SECOND, row));
        }
    }

    /// Devices that were not heard for a while, because they or what is above them were switched off,
    /// have their full time from `now` on.
    pub(super) fn hear_again(&mut self, now: i64, of: impl Fn(&Device) -> bool) {
        let registry = Arc::clone(&self.registry);
        for (row, heard) in &mut self.heard {
            if registry.device_at(*row).is_some_and(|device| of(device)) {
                *heard = now;
            }
        }
        self.watch_all(now);
    }

    /// Watches all devices anew, since what they are or how long they may be silent has changed.
    pub(super) fn watch_all(&mut self, now: i64) {
        self.watched.clear();
        self.silences.clear();
        for (device, heard) in self.heard.clone() {
            self.watch(device, heard.min(now));
        }
    }
}

/// The alert that a cause makes, before its first step.
fn new_alert(row: i64, group: &Group<'_>, cause: &Cause, commands: Vec<DeviceCommand>) -> Alert {
    let Located {
        device,
        site,
        company,
    } = &cause.located;
    let now = group.now;
    Alert {
        row,
        id: uuid_at(now),
        company: company.row,
        site: site.row,
        device: device.row,
        address: DeviceAddress {
            company: company.slug.clone(),
            site: site.slug.clone(),
            device: device.slug.clone(),
        },
        kind: cause.kind.code.clone(),
        priority: cause.plan.priority,
        state: AlertState::New,
        late: cause.late,
        count: 1,
        escalations: 0,
        freezes: !cause.plan.freeze.is_empty(),
        raised_at: now,
        updated_at: now,
        acknowledged_at: None,
        closed_at: None,
        escalate_at: cause.kind.escalation.map(|after| now + after * SECOND),
        first_seq: group.lane.head().seq + 1,
        last_seq: 0,
        touched_at: now,
        commands,
    }
}

/// Alerts that one message may make under one token, whose life is five minutes: each only after the
/// one before is over.
const PRESSES: u64 = 64;

/// What is taken of what is due in one sweep; the rest comes with the next.
const SWEEP: usize = 256;

/// Whether a press at `now` may still be a bounce of the one that touched an alert last.
fn bounces(within: Duration, now: i64) -> impl Fn(&Alert) -> bool {
    let within = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
    move |alert| now.saturating_sub(alert.touched_at) <= within
}

/// Raises the count of an alert. The step points back to the last one and is not pointed to, so
/// that a history is one of steps and not of a bouncing button.
fn repeat(group: &mut Group<'_>, alert: &mut Alert, principal: Principal, addition: Addition) {
    alert.count += 1;
    alert.updated_at = group.now;
    if alert.state.is_open() {
        // Not of one that is closed: or a button that is pressed on and on would be heard by nobody.
        alert.touched_at = group.now;
    }
    let last = alert.last_seq;
    append(group, alert, AlertChange::Repeated, principal, addition);
    alert.last_seq = last;
}

/// The devices that an alert wants, each once.
fn driven_by(alert: &Alert) -> BTreeSet<&Slug> {
    alert.commands.iter().map(|c| &c.device).collect()
}

/// Orders the alerts that want one device: the most urgent first, and of those the newest.
fn urgency(alert: &Alert) -> Urgency {
    (alert.priority, Reverse(alert.row))
}

/// What `other` told `device`, to be told again.
fn told_again(other: &Alert, device: &Slug) -> Vec<DeviceCommand> {
    let mine = other.commands.iter().filter(|c| c.device == *device);
    mine.map(|command| DeviceCommand {
        alert: Some(other.id),
        held: false,
        ..command.clone()
    })
    .collect()
}

/// Appends a step of `alert`, as it stands after it, to the journal.
fn append(
    group: &mut Group<'_>,
    alert: &mut Alert,
    change: AlertChange,
    principal: Principal,
    addition: Addition,
) {
    let previous = alert.last_seq;
    alert.last_seq = group.lane.head().seq + 1;
    let step = AlertStep {
        alert: alert.row,
        alert_id: alert.id,
        device: alert.device,
        address: alert.address.clone(),
        kind: alert.kind.clone(),
        priority: alert.priority,
        late: alert.late,
        change,
        state: alert.state,
        count: alert.count,
        freezes: alert.freezes,
        notify: addition.notify,
        rules: addition.rules,
        message: addition.message,
        texts: StepTexts {
            salt: *Uuid::new_v4().as_bytes(),
            content: addition.content,
            reason: addition.reason,
            commands: addition.commands,
        },
        previous,
    };
    let place = (alert.company, Some(alert.site));
    group.append(principal, place, Fact::Alert(Box::new(step)));
}
