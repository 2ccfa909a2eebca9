//! Rules: what happens when an alert arrives.
//!
//! A condition is written in CEL (<https://cel.dev>) over the alert, its device, its site and the
//! time there; where it holds, the rule's actions are planned. Planning has no effect: the writer
//! carries a plan out in the commit of the alert, and a trial throws it away.

mod check;
mod defaults;
mod expression;
mod meter;
mod payload;
mod place;
#[cfg(test)]
mod tests;
mod variables;

pub use defaults::{DEFAULT_RULES, DefaultRule};

use super::alert::{AlertContent, Priority, RuleRef};
use super::name::{Label, Slug};
use super::registry::{AlertKind, Company, Device, Registry, Site};
use expression::{Expression, unplaced};
use meter::{BUDGET, Meter, PLAN_BUDGET};
use payload::Template;
use std::sync::Arc;
use variables::Variables;

/// Commands that one alert may give: more would be a mistake, and hold up everybody else's.
pub const MAX_COMMANDS: usize = 1_000;

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
    source: Arc<str>,
    expression: Arc<Expression>,
}

impl Condition {
    /// Compiles a condition: trimmed, 1 to 2000 characters. Names have to be known, loops may not
    /// stand in loops, and a value that can be told beforehand has to be true or false.
    ///
    /// # Errors
    /// [`RuleError`] with the position.
    pub fn parse(source: &str) -> Result<Self, RuleError> {
        let source = source.trim();
        let expression = Expression::compile(source)?;
        // What fails here may do so for want of what only a real alert has.
        let sample = expression.evaluate(&Variables::sample(), &Arc::new(Meter::full()));
        match sample {
            Ok(cel::Value::Bool(_)) | Err(_) => Ok(Self {
                source: source.into(),
                expression: Arc::new(expression),
            }),
            Ok(value) => Err(unplaced(not_bool(&value))),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    fn holds(&self, variables: &Variables, meter: &Arc<Meter>) -> Result<bool, String> {
        match self.expression.evaluate(variables, meter)? {
            cel::Value::Bool(holds) => Ok(holds),
            value => Err(not_bool(&value)),
        }
    }
}

fn not_bool(value: &cel::Value) -> String {
    format!("gives {}, not true or false", value.type_of())
}

/// What a command says beyond its kind and priority: a JSON object whose texts that begin with `=`
/// are CEL expressions. `==` at the beginning stands for a plain `=`.
#[derive(Debug, Clone)]
pub struct Payload {
    source: Arc<str>,
    template: Arc<Template>,
}

impl Payload {
    /// Compiles a payload from a JSON object of at most 8 KiB and eight levels, without the keys
    /// that Atalaya itself writes.
    ///
    /// # Errors
    /// [`RuleError`], with the position within the expression that is wrong.
    pub fn parse(json: &str) -> Result<Self, RuleError> {
        let json = json.trim();
        Ok(Self {
            source: json.into(),
            template: Arc::new(Template::parse(json)?),
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

/// Tries `rules` in order on `situation`. A condition that fails does not hold, and an action that
/// fails is left out; both are told in [`Plan::errors`], and the others go on.
#[must_use]
pub fn plan(registry: &Registry, rules: &[Arc<Rule>], situation: &Situation<'_>) -> Plan {
    let mut planner = Planner {
        registry,
        situation,
        plan: Plan {
            priority: situation.kind.priority,
            rules: Vec::new(),
            commands: Vec::new(),
            notify: Vec::new(),
            freeze: Vec::new(),
            errors: Vec::new(),
        },
        budget: PLAN_BUDGET,
    };
    let mut active = rules.iter().filter(|rule| rule.active).peekable();
    if active.peek().is_some() {
        let mut variables = Variables::of(situation);
        active.for_each(|rule| planner.attempt(rule, &mut variables));
    }
    planner.plan
}

struct Planner<'a> {
    registry: &'a Registry,
    situation: &'a Situation<'a>,
    plan: Plan,
    /// What the rest of the rules may cost.
    budget: u64,
}

impl Planner<'_> {
    fn attempt(&mut self, rule: &Rule, variables: &mut Variables) {
        let reference = RuleRef {
            id: rule.id,
            version: rule.version,
        };
        match self.metered(|meter| rule.condition.holds(variables, meter)) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.plan.errors.push((reference, error)),
        }
        self.plan.rules.push(reference);
        for action in &rule.actions {
            self.act(action, reference, variables);
        }
        variables.set_priority(self.plan.priority);
    }

    /// Does one piece of work, on the account of all.
    fn metered<T>(&mut self, work: impl FnOnce(&Arc<Meter>) -> T) -> T {
        let granted = self.budget.min(BUDGET);
        let meter = Arc::new(Meter::of(granted));
        let done = work(&meter);
        self.budget = self.budget.saturating_sub(granted - meter.left());
        done
    }

    fn act(&mut self, action: &Action, rule: RuleRef, variables: &Variables) {
        match action {
            Action::Command { types, payload } => self.command(types, payload, rule, variables),
            Action::Notify { group } => self.plan.notify.push((group.clone(), rule)),
            Action::SetPriority(priority) => self.plan.priority = *priority,
            Action::FreezeWithdrawals => {
                if !self.plan.freeze.contains(&rule) {
                    self.plan.freeze.push(rule);
                }
            }
        }
    }

    fn command(&mut self, types: &[Slug], payload: &Payload, rule: RuleRef, seen: &Variables) {
        // Hardware must not act out what was over long ago.
        if self.situation.late {
            return;
        }
        let payload = match self.metered(|meter| payload.template.evaluate(seen, meter)) {
            Ok(payload) => payload,
            Err(error) => return self.plan.errors.push((rule, error)),
        };
        let devices = self.registry.active_devices_at(self.situation.site.row);
        for device in devices.filter(|device| types.contains(&device.kind)) {
            if self.plan.commands.len() == MAX_COMMANDS {
                let error = format!("more than {MAX_COMMANDS} commands: the others are left out");
                return self.plan.errors.push((rule, error));
            }
            self.plan.commands.push(PlannedCommand {
                device: device.slug.clone(),
                payload: Arc::clone(&payload),
                rule,
            });
        }
    }
}
