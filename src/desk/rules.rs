//! Rules at the desk: made, revised, read, and tried without effect.

use super::alerts::{cursor, invalid_value, limit, optional, slug};
use super::registry::{label, may_read, named, rows};
use super::{Answer, Caller, Desk, Failure, allow, reply};
use crate::domain::rule::{Condition, Rule, RuleError, Situation, plan};
use crate::domain::{Action, DeviceCommand, Plan, Reach, Registry, Resource, RuleRef, Slug};
use crate::storage::alert_queries::{self, AlertFilter, AlertView};
use crate::storage::hub::RuleSpec;
use crate::storage::registry_queries::{self as queries, RuleView};
use crate::storage::{HubAnswer, HubCommand};
use crate::wire::alerts::{CommandResource, TrialResource, TrialsResource, command_body};
use crate::wire::numbers::Moment;
use crate::wire::registry::{RuleBody, RulePatch, RuleResource, TrialBody};
use crate::wire::rules::parse_actions;
use crate::wire::{Problem, ProblemKind, Reason};
use serde_json::value::RawValue;
use std::sync::Arc;
use uuid::Uuid;

/// The order of a rule that names none: before the preloaded ones.
const ORDER: i32 = 50;

/// Rules of one company: each alert is tried on all of them.
const RULES: usize = 200;

/// Alerts that are tried at most, and results that are shown.
const TRIALS: i64 = 10_000;
const SHOWN: usize = 200;

/// The most days that a trial looks back.
const DAYS: i64 = 90;

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

impl Desk {
    /// Makes a rule.
    ///
    /// # Errors
    /// [`Failure`], as for all calls here; 422 `regla_invalida` with the position.
    pub async fn create_rule(&self, caller: &Caller, body: &RuleBody) -> Answer {
        let company = slug("empresa", &body.empresa)?;
        allow(caller, Action::ChangeRegistry, Resource::Company(&company))?;
        let registry = self.parts.view.registry();
        let owner = registry
            .company(&company)
            .ok_or(ProblemKind::UnknownCompany)?;
        if registry.rules_of(owner.row).len() >= RULES {
            return Err(invalid_value((
                "la empresa ya tiene 200 reglas",
                "the company has 200 rules already",
            )));
        }
        let spec = Box::new(rule_spec(body)?);
        let order = HubCommand::CreateRule { company, spec };
        match self.order(caller, order).await? {
            HubAnswer::Rule(id) => self.rule_reply(caller, id, None).await,
            _ => Err(ProblemKind::Internal.into()),
        }
    }

    /// Makes a new version of a rule.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revise_rule(&self, caller: &Caller, id: &str, body: &RulePatch) -> Answer {
        let id = rule_id(id)?;
        let current = self.rule(caller, id, None, Action::ChangeRegistry).await?;
        let from_version = body.version.unwrap_or(current.rule.version);
        let spec = Box::new(revised(&current, body)?);
        let order = HubCommand::ReviseRule {
            id,
            from_version,
            spec,
        };
        self.order(caller, order).await?;
        self.rule_reply(caller, id, None).await
    }

    /// One rule, in the version asked for or in its newest.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn show_rule(&self, caller: &Caller, id: &str) -> Answer {
        self.rule_reply(caller, rule_id(id)?, None).await
    }

    /// Rules, of one company or of all.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_rules(
        &self,
        caller: &Caller,
        company: &str,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let within = may_read(caller, company)?;
        let limit = limit(limit_text)?;
        let after = cursor(cursor_text)?.unwrap_or(0);
        let company = optional(company);
        let found = self
            .read(move |c| queries::rules(c, &within, company.as_deref(), after, limit + 1))
            .await?;
        reply(&rows(found, limit, rule_resource))
    }

    /// The versions of a rule, newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_versions(
        &self,
        caller: &Caller,
        id: &str,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let id = rule_id(id)?;
        self.rule(caller, id, None, Action::ReadRegistry).await?;
        let limit = limit(limit_text)?;
        let before = cursor(cursor_text)?.unwrap_or(i64::MAX);
        let found = self
            .read(move |c| queries::rule_versions(c, id, before, limit + 1))
            .await?;
        reply(&rows(found, limit, rule_resource))
    }

    /// Tries rules on stored alerts, without effect.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn try_rules(&self, caller: &Caller, body: &TrialBody) -> Answer {
        let within = allow(caller, Action::ReadRegistry, Resource::Any)?;
        let candidate = self.candidate(&within, body)?;
        let wanted = self.tried_alerts(body, candidate.as_deref())?;
        let registry = self.parts.view.registry();
        let now = self.parts.clock.now();
        let trials = self
            .read(move |c| {
                let found = alert_queries::alerts(c, &within, &wanted, i64::MAX, TRIALS)?;
                Ok((!found.is_empty() || wanted.id.is_none())
                    .then(|| trials(&registry, candidate.as_ref(), &found, now)))
            })
            .await?;
        reply(&trials.ok_or(ProblemKind::UnknownAlert)?)
    }

    /// The rule that is tried; `None` for all of an alert's company.
    fn candidate(&self, within: &Reach, body: &TrialBody) -> Result<Option<Arc<Rule>>, Failure> {
        let registry = self.parts.view.registry();
        match (&body.regla, body.regla_id) {
            (Some(_), Some(_)) => Err(invalid_value((
                "se espera regla o regla_id, no ambas",
                "expected regla or regla_id, not both",
            ))),
            (Some(body), None) => {
                let company = slug("empresa", &body.empresa)?;
                let company = registry.company(&company);
                let company = company.filter(|company| within.has_company(company.row));
                let spec = rule_spec(body)?;
                Ok(Some(Arc::new(Rule {
                    id: 0,
                    company: company.ok_or(ProblemKind::UnknownCompany)?.row,
                    name: spec.name,
                    order: spec.order,
                    condition: spec.condition,
                    actions: spec.actions,
                    active: true,
                    version: 0,
                })))
            }
            (None, Some(id)) => {
                let rule = registry.rule(id);
                let rule = rule.filter(|rule| within.has_company(rule.company));
                let rule = rule.ok_or(ProblemKind::UnknownRule)?;
                let mut rule = Rule::clone(rule);
                rule.active = true;
                Ok(Some(Arc::new(rule)))
            }
            (None, None) => Ok(None),
        }
    }

    fn tried_alerts(
        &self,
        body: &TrialBody,
        candidate: Option<&Rule>,
    ) -> Result<AlertFilter, Failure> {
        let registry = self.parts.view.registry();
        let company = candidate.and_then(|rule| registry.company_at(rule.company));
        let company = company.map(|company| company.slug.to_string());
        match (body.alerta_id, body.dias) {
            (Some(id), None) => Ok(AlertFilter {
                id: Some(id),
                ..AlertFilter::default()
            }),
            (None, Some(days)) if (1..=DAYS).contains(&days) => Ok(AlertFilter {
                company,
                from: Some(self.parts.clock.now() - days * DAY),
                ..AlertFilter::default()
            }),
            _ => Err(invalid_value((
                "se espera alerta_id, o dias de 1 a 90",
                "expected alerta_id, or dias from 1 to 90",
            ))),
        }
    }

    async fn rule(
        &self,
        caller: &Caller,
        id: i64,
        version: Option<i64>,
        action: Action,
    ) -> Result<RuleView, Failure> {
        let within = allow(caller, action, Resource::Any)?;
        let found = self
            .read(move |c| queries::rule(c, &within, id, version))
            .await?;
        Ok(found.ok_or(ProblemKind::UnknownRule)?)
    }

    async fn rule_reply(&self, caller: &Caller, id: i64, version: Option<i64>) -> Answer {
        let rule = self.rule(caller, id, version, Action::ReadRegistry).await?;
        reply(&rule_resource(rule))
    }
}

fn trials(
    registry: &Registry,
    candidate: Option<&Arc<Rule>>,
    alerts: &[AlertView],
    now: i64,
) -> TrialsResource {
    let mut trials = TrialsResource {
        probadas: 0,
        coinciden: 0,
        resultados: Vec::new(),
    };
    for alert in alerts {
        let Some((kind, plan)) = tried(registry, candidate, alert) else {
            continue;
        };
        trials.probadas += 1;
        let result = trial_resource(Some(alert.id), &kind, &plan, now);
        trials.coinciden += u64::from(result.coincide);
        let telling = result.coincide || !result.errores.is_empty() || alerts.len() == 1;
        if telling && trials.resultados.len() < SHOWN {
            trials.resultados.push(result);
        }
    }
    trials
}

/// What the rules make of a stored alert, as if it came now to the place where it came then.
fn tried(
    registry: &Registry,
    candidate: Option<&Arc<Rule>>,
    alert: &AlertView,
) -> Option<(Slug, Plan)> {
    let device = registry.device_at(alert.device_row)?;
    let company = registry.company_at(device.company)?;
    let kind = registry.kind(company.row, &Slug::parse(&alert.kind).ok()?)?;
    let situation = Situation {
        company,
        site: registry.site_at(device.site)?,
        device,
        kind,
        content: &alert.content,
        late: alert.late,
        at: alert.raised_at,
    };
    let plan = match candidate {
        Some(rule) => plan(registry, std::slice::from_ref(rule), &situation),
        None => plan(registry, registry.rules_of(company.row), &situation),
    };
    Some((kind.code.clone(), plan))
}

/// A plan as the answer to a trial.
pub(super) fn trial_resource(
    alert: Option<Uuid>,
    kind: &Slug,
    plan: &Plan,
    now: i64,
) -> TrialResource {
    let commands = plan.commands.iter().filter_map(|command| {
        let given = DeviceCommand {
            device: command.device.clone(),
            payload: Some(Arc::clone(&command.payload)),
            rule: Some(command.rule),
            kind: kind.clone(),
            priority: plan.priority,
            alert: None,
            held: false,
        };
        let body = command_body(now, alert.unwrap_or_default(), &given);
        Some(CommandResource {
            hardware: command.device.to_string(),
            comando: RawValue::from_string(body).ok()?,
        })
    });
    let error = |(rule, text): &(RuleRef, String)| format!("{}.{}: {text}", rule.id, rule.version);
    TrialResource {
        alerta_id: alert,
        coincide: !plan.rules.is_empty(),
        prioridad: plan.priority.name(),
        reglas: plan.rules.iter().copied().map(Into::into).collect(),
        comandos: commands.collect(),
        notificar: plan
            .notify
            .iter()
            .map(|(group, _)| group.to_string())
            .collect(),
        congela_retiros: !plan.freeze.is_empty(),
        errores: plan.errors.iter().map(error).collect(),
    }
}

fn rule_resource(view: RuleView) -> RuleResource {
    let actions = RawValue::from_string(view.actions).unwrap_or_else(|_| RawValue::NULL.to_owned());
    RuleResource {
        id: view.rule.id,
        empresa: view.company,
        nombre: view.rule.name.to_string(),
        condicion: view.rule.condition.source().to_owned(),
        acciones: actions,
        orden: view.rule.order,
        activa: view.rule.active,
        version: view.rule.version,
        modificada: Moment(view.changed_at),
    }
}

fn rule_spec(body: &RuleBody) -> Result<RuleSpec, Failure> {
    Ok(RuleSpec {
        name: named("nombre", &body.nombre)?,
        order: body.orden.unwrap_or(ORDER),
        condition: Condition::parse(&body.condicion).map_err(invalid_rule)?,
        actions: parse_actions(body.acciones.get()).map_err(invalid_rule)?,
        actions_source: body.acciones.get().to_owned(),
        active: body.activa,
    })
}

fn revised(current: &RuleView, body: &RulePatch) -> Result<RuleSpec, Failure> {
    let rule = &current.rule;
    let name = label("nombre", body.nombre.as_deref())?;
    let condition = match &body.condicion {
        Some(source) => Condition::parse(source).map_err(invalid_rule)?,
        None => rule.condition.clone(),
    };
    let (actions, actions_source) = match &body.acciones {
        Some(raw) => {
            let actions = parse_actions(raw.get()).map_err(invalid_rule)?;
            (actions, raw.get().to_owned())
        }
        None => (rule.actions.clone(), current.actions.clone()),
    };
    Ok(RuleSpec {
        name: name.unwrap_or_else(|| rule.name.clone()),
        order: body.orden.unwrap_or(rule.order),
        condition,
        actions,
        actions_source,
        active: body.activa.unwrap_or(rule.active),
    })
}

fn invalid_rule(error: RuleError) -> Failure {
    let text = match error.position {
        Some((line, column)) => format!("{line}:{column}: {}", error.message),
        None => error.message,
    };
    Problem::of(ProblemKind::InvalidRule)
        .because(Reason::technical(text))
        .at(error.position)
        .into()
}

fn rule_id(text: &str) -> Result<i64, Failure> {
    text.parse().map_err(|_| ProblemKind::UnknownRule.into())
}
