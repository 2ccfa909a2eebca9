//! What a rule does, as JSON (`acciones`).

use crate::domain::rule::{Action, Payload, RuleError};
use crate::domain::{Priority, Slug};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Actions that one rule may have.
const MAX_ACTIONS: usize = 20;

/// Types that one command may go to.
const MAX_TYPES: usize = 20;

/// One action with the members of all of them: an enum of serde's cannot keep `datos` as written.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ActionJson<'a> {
    accion: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tipos: Option<Vec<String>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    datos: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grupo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prioridad: Option<String>,
}

/// Reads `acciones`: a JSON array of one to twenty actions.
///
/// # Errors
/// [`RuleError`] says which action is wrong, and where in an expression.
pub fn parse_actions(json: &str) -> Result<Vec<Action>, RuleError> {
    let read: Result<Vec<ActionJson<'_>>, _> = serde_json::from_str(json);
    let actions = read.map_err(|error| wrong(format!("acciones: {error}")))?;
    if actions.is_empty() || actions.len() > MAX_ACTIONS {
        return Err(wrong(format!("acciones: from 1 to {MAX_ACTIONS} actions")));
    }
    let numbered = actions.into_iter().enumerate();
    let parsed = numbered.map(|(index, action)| {
        parse_action(action).map_err(|error| RuleError {
            message: format!("acciones[{index}]: {}", error.message),
            ..error
        })
    });
    parsed.collect()
}

/// Writes `acciones` as [`parse_actions`] reads them.
#[must_use]
pub fn actions_json(actions: &[Action]) -> String {
    let written: Vec<_> = actions.iter().map(action_json).collect();
    // Nothing in it can fail to be written.
    serde_json::to_string(&written).unwrap_or_default()
}

fn wrong(message: String) -> RuleError {
    RuleError {
        position: None,
        message,
    }
}

fn parse_action(action: ActionJson<'_>) -> Result<Action, RuleError> {
    match action {
        ActionJson {
            accion,
            tipos: Some(types),
            datos: Some(payload),
            grupo: None,
            prioridad: None,
        } if accion == "comando" => Ok(Action::Command {
            types: parse_types(&types)?,
            payload: Payload::parse(payload.get())?,
        }),
        ActionJson {
            accion,
            tipos: None,
            datos: None,
            grupo: Some(group),
            prioridad: None,
        } if accion == "notificar" => Ok(Action::Notify {
            group: parse_slug("grupo", &group)?,
        }),
        ActionJson {
            accion,
            tipos: None,
            datos: None,
            grupo: None,
            prioridad: Some(priority),
        } if accion == "prioridad" => Priority::parse(&priority)
            .map(Action::SetPriority)
            .ok_or_else(|| wrong(format!("there is no priority \"{priority}\""))),
        ActionJson {
            accion,
            tipos: None,
            datos: None,
            grupo: None,
            prioridad: None,
        } if accion == "congelar_retiros" => Ok(Action::FreezeWithdrawals),
        other => Err(wrong(misfit(&other.accion))),
    }
}

fn misfit(name: &str) -> String {
    let members = match name {
        "comando" => "tipos and datos",
        "notificar" => "grupo",
        "prioridad" => "prioridad",
        "congelar_retiros" => "nothing else",
        _ => return format!("there is no action \"{name}\""),
    };
    format!("{name} takes {members}")
}

fn parse_types(types: &[String]) -> Result<Vec<Slug>, RuleError> {
    if types.is_empty() || types.len() > MAX_TYPES {
        return Err(wrong(format!("tipos: from 1 to {MAX_TYPES} types")));
    }
    types.iter().map(|code| parse_slug("tipos", code)).collect()
}

fn parse_slug(member: &str, text: &str) -> Result<Slug, RuleError> {
    Slug::parse(text).map_err(|error| wrong(format!("{member}: {error}")))
}

fn action_json(action: &Action) -> ActionJson<'_> {
    match action {
        Action::Command { types, payload } => ActionJson {
            accion: "comando".to_owned(),
            tipos: Some(types.iter().map(Slug::to_string).collect()),
            datos: serde_json::from_str(payload.source()).ok(),
            ..ActionJson::default()
        },
        Action::Notify { group } => ActionJson {
            accion: "notificar".to_owned(),
            grupo: Some(group.to_string()),
            ..ActionJson::default()
        },
        Action::SetPriority(priority) => ActionJson {
            accion: "prioridad".to_owned(),
            prioridad: Some(priority.name().to_owned()),
            ..ActionJson::default()
        },
        Action::FreezeWithdrawals => ActionJson {
            accion: "congelar_retiros".to_owned(),
            ..ActionJson::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rule::{Condition, DEFAULT_RULES};

    #[test]
    fn actions_are_written_as_they_were_read() {
        let json = concat!(
            r#"[{"accion":"comando","tipos":["SEMAFORO","SIRENA"],"#,
            r#""datos":{"z":1.50,"color":"=tipo.color","a":["==x",null]}},"#,
            r#"{"accion":"notificar","grupo":"guardia"},"#,
            r#"{"accion":"prioridad","prioridad":"critica"},"#,
            r#"{"accion":"congelar_retiros"}]"#
        );
        assert_eq!(actions_json(&parse_actions(json).unwrap()), json);
    }

    #[test]
    fn every_company_starts_with_rules_that_can_be_taken() {
        for rule in DEFAULT_RULES {
            assert!(Condition::parse(rule.condition).is_ok(), "{}", rule.name);
            let actions = parse_actions(rule.actions).unwrap();
            assert_eq!(actions_json(&actions), rule.actions, "{}", rule.name);
        }
    }

    #[test]
    fn what_is_not_an_action_is_refused_with_its_number() {
        let many = |action: &str, n: usize| format!("[{}]", vec![action; n].join(","));
        let freeze = r#"{"accion":"congelar_retiros"}"#;
        assert!(parse_actions(&many(freeze, 20)).is_ok());
        let command = |types: &str| {
            format!(r#"[{freeze},{{"accion":"comando","tipos":{types},"datos":{{}}}}]"#)
        };
        assert!(parse_actions(&command(&many("\"A\"", 20))).is_ok());
        let refused = [
            ("[]".to_owned(), "from 1 to 20 actions"),
            (many(freeze, 21), "from 1 to 20 actions"),
            (command("[]"), "acciones[1]: tipos: from 1 to 20 types"),
            (command(&many("\"A\"", 21)), "acciones[1]: tipos"),
            (command("[\"a b\"]"), "acciones[1]: tipos"),
            (
                r#"[{"accion":"saltar"}]"#.to_owned(),
                "no action \"saltar\"",
            ),
            (r#"[{"accion":"notificar"}]"#.to_owned(), "takes grupo"),
            (
                r#"[{"accion":"congelar_retiros","grupo":"a"}]"#.to_owned(),
                "nothing else",
            ),
            (
                r#"[{"accion":"congelar_retiros","x":1}]"#.to_owned(),
                "unknown field `x`",
            ),
            (
                r#"[{"accion":"prioridad","prioridad":"rara"}]"#.to_owned(),
                "no priority",
            ),
            ("{}".to_owned(), "acciones: "),
        ];
        for (json, why) in refused {
            let error = parse_actions(&json).unwrap_err();
            assert!(error.message.contains(why), "{json}: {}", error.message);
        }
    }

    #[test]
    fn an_expression_that_is_wrong_is_found() {
        let json = r#"[{"accion":"comando","tipos":["A"],"datos":{"x":{"y":["= 1 + colr"]}}}]"#;
        let error = parse_actions(json).unwrap_err();
        assert_eq!(
            error.message,
            "acciones[0]: x: y: unknown variable \"colr\""
        );
        assert_eq!(error.position, Some((1, 5)));
    }
}
