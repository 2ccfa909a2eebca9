//! Stub.
use crate::domain::rule::{Action, RuleError};
/// Stub.
pub fn parse_actions(_: &str) -> Result<Vec<Action>, RuleError> {
    Ok(Vec::new())
}
