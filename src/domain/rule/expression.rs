//! CEL, compiled and evaluated within bounds.
//!
//! Whatever people type and devices send, an expression is an error or a value: its text nests
//! within limits before it is parsed, its work is counted ([`Meter`]), and a panic of the library
//! is contained. The library is told as little as needed: no types to build, no optional values.

use super::RuleError;
use super::check::{Checked, LOOP, MATCHES, check};
use super::meter::{Meter, size};
use super::place::Source;
use super::variables::{Seen, Variables};
use crate::contained::contain;
use cel::common::ast::IdedExpr;
use cel::common::types::{CelBool, CelInt, CelString};
use cel::common::value::CowVal;
use cel::parser::{ParseErrors, PrattParser};
use cel::{Context, Env, ExecutionError, FunctionContext, Value};
use regex::Regex;
use std::sync::{Arc, LazyLock};

/// The longest expression, in characters.
pub(super) const MAX_LENGTH: usize = 2_000;

/// The longest message of a failure, in characters: the library shows whole values in them.
const MAX_MESSAGE: usize = 300;

/// What matching costs for a byte of text, at the largest pattern that is taken.
const MATCH_UNITS: u64 = 64;

/// The standard functions and types. Building it takes longer than most evaluations.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    tree: IdedExpr,
    patterns: Arc<[Regex]>,
    copies: u64,
}

/// What an expression gives, or why it does not.
pub(super) type Outcome = Result<Value, String>;

impl Expression {
    /// Compiles a text of 1 to 2000 characters, not counting the blanks around it.
    pub(super) fn compile(text: &str) -> Result<Self, RuleError> {
        let text = text.trim();
        let problem = match text.chars().count() {
            0 => "empty".to_owned(),
            length if length > MAX_LENGTH => format!("longer than {MAX_LENGTH} characters"),
            _ => {
                let compiled = contain(|| parse(text));
                return compiled.unwrap_or_else(|panic| Err(unplaced(format!("defect: {panic}"))));
            }
        };
        Err(unplaced(problem))
    }

    /// How many patterns it has.
    pub(super) fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// The value for these variables, at the expense of `meter`.
    pub(super) fn evaluate(&self, variables: &Variables, meter: &Arc<Meter>) -> Outcome {
        let seen = Seen {
            variables,
            meter,
            copies: self.copies,
        };
        let outcome = contain(|| self.resolve(&seen, meter));
        if meter.is_exhausted() {
            return Err("too much work: the alert says too much for this expression".to_owned());
        }
        let outcome = outcome.map_err(|panic| format!("defect: {panic}"));
        outcome.flatten().map_err(|message| shorten(&message))
    }

    fn resolve(&self, seen: &Seen<'_>, meter: &Arc<Meter>) -> Outcome {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(seen);
        add(&mut context, LOOP, charge_loop(Arc::clone(meter)))?;
        let matching = match_pattern(Arc::clone(meter), Arc::clone(&self.patterns));
        add(&mut context, MATCHES, matching)?;
        Value::resolve(&self.tree, &context).map_err(|error| error.to_string())
    }
}

fn parse(text: &str) -> Result<Expression, RuleError> {
    let source = Source::cut(text)?;
    let mut tree = PrattParser::new()
        .parse(text)
        .map_err(|errors| first(&source, errors))?;
    let Checked { patterns, copies } = check(&source, &mut tree)?;
    Ok(Expression {
        tree,
        patterns: patterns.into(),
        copies,
    })
}

/// The first error that has a place: the others mostly follow from it.
fn first(source: &Source<'_>, errors: ParseErrors) -> RuleError {
    let mut errors: Vec<_> = errors
        .errors
        .into_iter()
        .map(|error| RuleError {
            position: source.position(error.pos),
            message: error.msg,
        })
        .collect();
    errors.sort_by_key(|error| (error.position.is_none(), error.position));
    errors
        .into_iter()
        .next()
        .unwrap_or_else(|| unplaced("does not compile".to_owned()))
}

pub(super) const fn unplaced(message: String) -> RuleError {
    RuleError {
        position: None,
        message,
    }
}

/// A function that the interpreter can call.
type Function = Box<
    dyn for<'c, 'v> Fn(&mut FunctionContext<'c, 'v>) -> Result<CowVal<'c, 'v>, ExecutionError>
        + Send
        + Sync,
>;

fn add(context: &mut Context<'_, '_>, name: &str, function: Function) -> Result<(), String> {
    let added = context.add_function(name, function);
    added.map_err(|error| error.to_string())
}

fn charge_loop(meter: Arc<Meter>) -> Function {
    Box::new(move |call| {
        let (nodes, copies) = (count(call, 1), count(call, 2));
        let Some(range) = call.args.drain(..).next() else {
            return Err(ExecutionError::MissingArgumentOrTarget);
        };
        let elements = range.as_sizer().map_or(0, |sizer| *sizer.size().inner());
        let elements = u64::try_from(elements).unwrap_or(0);
        let units = elements
            .saturating_mul(nodes)
            .saturating_add(size(range.as_ref()).saturating_mul(copies));
        paid(&meter, units).map(|()| range)
    })
}

fn match_pattern(meter: Arc<Meter>, patterns: Arc<[Regex]>) -> Function {
    Box::new(move |call| {
        let number = usize::try_from(count(call, 1)).ok();
        let pattern = number.and_then(|number| patterns.get(number));
        let text = call
            .args
            .first()
            .and_then(|text| text.downcast_ref::<CelString<'_>>());
        let (Some(pattern), Some(text)) = (pattern, text) else {
            return Err(ExecutionError::function_error("matches", "not a text"));
        };
        let text = text.inner();
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        paid(&meter, 1 + bytes.saturating_mul(MATCH_UNITS))?;
        Ok(CowVal::owned(CelBool::from(pattern.is_match(text))))
    })
}

/// The number that `check` has written into a call.
fn count(call: &FunctionContext<'_, '_>, index: usize) -> u64 {
    let number = call
        .args
        .get(index)
        .and_then(|number| number.downcast_ref::<CelInt>());
    number.map_or(u64::MAX, |number| {
        u64::try_from(*number.inner()).unwrap_or(u64::MAX)
    })
}

fn paid(meter: &Meter, units: u64) -> Result<(), ExecutionError> {
    if meter.charge(units) {
        Ok(())
    } else {
        Err(ExecutionError::InternalError("too much work".to_owned()))
    }
}

fn shorten(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No text is known that makes the library panic, so this builds what its parser leaves where
    /// it has failed, which its interpreter panics at.
    #[test]
    fn a_panic_of_the_library_is_an_error_of_the_expression() {
        let broken = Expression {
            tree: IdedExpr::default(),
            patterns: Arc::new([]),
            copies: 1,
        };
        let outcome = broken.evaluate(&Variables::sample(), &Arc::new(Meter::full()));
        let error = outcome.unwrap_err();
        assert!(error.starts_with("defect: "), "{error}");
    }
}
