//! Rules: what happens when an alert arrives.
//!
//! A condition is written in CEL (<https://cel.dev>) over the alert, its device, its site and the
//! time there; where it holds, the rule's actions are planned. Planning has no effect: the writer
//! carries a plan out in the commit of the alert, and a trial throws it away.

use super::alert::{AlertContent, Priority, RuleRef};
use super::name::{Label, Slug};
use super::registry::{AlertKind, Company, Device, Registry, Site};
use std::sync::Arc;

/// Why a rule cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    /// Line and column of the expression, from 1, where the place is known.
    pub position: Option<(usize, usize)>,
    /// What is wrong, in English, as the compiler says it.
    pub message: String,
}

/// A condition that compiles.
#[derive(Debug, Clone)]
pub struct Condition {
    source: String,
}

impl Condition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// [`RuleError`] with the position.
    pub fn parse(source: &str) -> Result<Self, RuleError> {
        Ok(Self {
            source: source.to_owned(),
        })
    }

    /// As it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// What a command says beyond its kind and priority: a JSON object whose texts that begin with `=`
/// are CEL expressions.
#[derive(Debug, Clone)]
pub struct Payload {
    source: String,
}

impl Payload {
    /// Compiles a payload from a JSON object.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn parse(json: &str) -> Result<Self, RuleError> {
        Ok(Self {
            source: json.to_owned(),
        })
    }

    /// As it was written: a JSON object.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// What a rule does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Orders the site's active devices of some types (`comando`).
    Command {
        /// Which types.
        types: Vec<Slug>,
        /// What they are to do.
        payload: Payload,
    },
    /// Tells a group of people (`notificar`).
    Notify {
        /// Which group.
        group: Slug,
    },
    /// Makes the alert more or less urgent (`prioridad`).
    SetPriority(Priority),
    /// Freezes withdrawals at the site while the alert is open (`congelar_retiros`).
    FreezeWithdrawals,
}

/// A rule in one of its versions.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Names it for ever.
    pub id: i64,
    /// The row of its company.
    pub company: i64,
    /// Its name for people.
    pub name: Label,
    /// Rules are tried in this order.
    pub order: i32,
    /// When it applies.
    pub condition: Condition,
    /// What it does then, in order.
    pub actions: Vec<Action>,
    /// Whether it is tried at all.
    pub active: bool,
    /// Counts its changes, from 1.
    pub version: i64,
}

/// The alert that rules are tried on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Its company.
    pub company: &'a Company,
    /// Its site.
    pub site: &'a Site,
    /// Its device.
    pub device: &'a Device,
    /// Its kind.
    pub kind: &'a AlertKind,
    /// What is said of it.
    pub content: &'a AlertContent,
    /// Whether it came too late to drive hardware.
    pub late: bool,
    /// When it happened, in microseconds since 1970 UTC.
    pub at: i64,
}

/// An order that a rule wants given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCommand {
    /// To which device.
    pub device: Slug,
    /// What it is to do: a JSON object.
    pub payload: Arc<str>,
    /// The rule that wants it.
    pub rule: RuleRef,
}

/// What the rules make of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The priority in the end.
    pub priority: Priority,
    /// The rules whose condition held, in order.
    pub rules: Vec<RuleRef>,
    /// Orders, in order. Empty for a late alert.
    pub commands: Vec<PlannedCommand>,
    /// Groups to be told, each with its rule.
    pub notify: Vec<(Slug, RuleRef)>,
    /// The rules that freeze withdrawals.
    pub freeze: Vec<RuleRef>,
    /// Rules that failed, and how: a condition that fails does not hold.
    pub errors: Vec<(RuleRef, String)>,
}

/// Tries `rules` in order on `situation`.
#[must_use]
pub fn plan(registry: &Registry, rules: &[Arc<Rule>], situation: &Situation<'_>) -> Plan {
    let _ = (registry, rules);
    Plan {
        priority: situation.kind.priority,
        rules: Vec::new(),
        commands: Vec::new(),
        notify: Vec::new(),
        freeze: Vec::new(),
        errors: Vec::new(),
    }
}

/// Stub.
pub fn default_rules() -> Vec<(&'static str, &'static str, &'static str, i32)> {
    Vec::new()
}
