//! What an expression may say, beyond what the language allows.
//!
//! The interpreter finds out at run time that a name is unknown; whoever writes a rule wants to
//! know when saving it. Loops are refused within loops, and what remains is made to pay before it
//! works: loops and patterns become calls of the functions in `expression`.

use super::RuleError;
use super::place::{Role, Source};
use super::variables::{FIELDS, NAMES};
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, operators,
};
use regex::{Regex, RegexBuilder};
use std::collections::HashMap;

/// The function that charges for a loop: takes what is looped over, what each element costs and
/// how often the elements are copied, and gives the first back.
pub(super) const LOOP: &str = "@loop";

/// The function that matches: takes a text and the number of a pattern.
pub(super) const MATCHES: &str = "@matches";

/// How deep the parsed expression may be: the interpreter recurses, and takes some 2.5 KiB of stack
/// a level.
const MAX_DEPTH: usize = 64;

/// How large a compiled pattern may be, in bytes. It bounds how long a pattern takes for a byte of
/// the text, and leaves room for a few dozen alternatives or a Unicode class.
const MAX_PATTERN: usize = 128 * 1024;

/// Patterns that one expression, or one payload, may have: each takes milliseconds to compile and up
/// to [`MAX_PATTERN`] to keep.
pub(super) const MAX_PATTERNS: usize = 10;

/// The loops of the language. They are macros: the parser has replaced them.
const LOOPS: [&str; 6] = ["all", "exists", "exists_one", "existsOne", "map", "filter"];

/// The functions: how each is written and how many arguments it takes. What is missing of the
/// standard library makes optional values, or is a second way to write one of these.
const FUNCTIONS: [(&str, Role, usize); 14] = [
    ("size", Role::Function, 1),
    ("size", Role::Method, 0),
    ("contains", Role::Method, 1),
    ("startsWith", Role::Method, 1),
    ("endsWith", Role::Method, 1),
    ("matches", Role::Method, 1),
    ("int", Role::Function, 1),
    ("uint", Role::Function, 1),
    ("double", Role::Function, 1),
    ("string", Role::Function, 1),
    ("bool", Role::Function, 1),
    ("bytes", Role::Function, 1),
    ("type", Role::Function, 1),
    ("dyn", Role::Function, 1),
];

/// The operators, as the parser calls them: names that cannot be written.
const OPERATORS: [&str; 19] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::NOT_STRICTLY_FALSE,
    operators::IN,
];

/// The names of types, which are values: `type(x) == string`.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// What checking finds out.
#[derive(Debug)]
pub(super) struct Checked {
    /// The patterns, in the order of their numbers.
    pub patterns: Vec<Regex>,
    /// How often a variable's value may be copied on its way up the expression.
    pub copies: u64,
}

/// Checks a parsed expression, and makes its loops and patterns pay.
pub(super) fn check(source: &Source<'_>, expression: &mut IdedExpr) -> Result<Checked, RuleError> {
    let mut checker = Checker {
        source,
        seen: HashMap::new(),
        loop_variable: None,
        loops: 0,
        nodes: 0,
        uses: 0,
        copies: 1,
        patterns: Vec::new(),
    };
    checker.node(expression, 0)?;
    Ok(Checked {
        patterns: checker.patterns,
        copies: checker.copies,
    })
}

struct Checker<'a> {
    source: &'a Source<'a>,
    /// How often each word was met in each role. Nodes are visited in the order in which they are
    /// written, so this tells where the one at hand stands: the parser does not.
    seen: HashMap<(String, Role), usize>,
    /// The variable of the loop around the node at hand.
    loop_variable: Option<String>,
    loops: usize,
    nodes: u64,
    /// How often the loop's variable was met.
    uses: u64,
    copies: u64,
    patterns: Vec<Regex>,
}

impl Checker<'_> {
    fn node(&mut self, node: &mut IdedExpr, depth: usize) -> Result<(), RuleError> {
        if depth > MAX_DEPTH {
            return Err(self
                .source
                .error(0, format!("nested deeper than {MAX_DEPTH}")));
        }
        self.nodes += 1;
        match &mut node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                self.node(&mut select.operand, depth + 1)?;
                self.field(&select.operand, &select.field)
            }
            Expr::Call(call) => self.call(call, depth + 1),
            Expr::List(list) => {
                self.copies += 1;
                self.nodes(&mut list.elements, depth + 1)
            }
            Expr::Map(map) => self.map(map, depth + 1),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth + 1),
            Expr::Struct(built) => {
                let message = format!("there is no type \"{}\" to build", built.type_name);
                let root = built.type_name.split('.').next().unwrap_or_default();
                Err(self.source.error_at(root, Role::Variable, 0, message))
            }
            // The parser leaves these where it has reported an error.
            Expr::Unspecified => Err(self.source.error(0, "incomplete expression")),
        }
    }

    fn nodes(&mut self, nodes: &mut [IdedExpr], depth: usize) -> Result<(), RuleError> {
        nodes.iter_mut().try_for_each(|node| self.node(node, depth))
    }

    /// Counts a word, and gives how often it was met before.
    fn meet(&mut self, word: &str, role: Role) -> usize {
        let count = self.seen.entry((word.to_owned(), role)).or_default();
        *count += 1;
        *count - 1
    }

    fn variable(&mut self, name: &str) -> Result<(), RuleError> {
        // The accumulator of a loop, which cannot be written.
        if name.starts_with('@') {
            return Ok(());
        }
        let nth = self.meet(name, Role::Variable);
        if self.loop_variable.as_deref() == Some(name) {
            self.uses += 1;
            return Ok(());
        }
        if NAMES.contains(&name) || TYPES.contains(&name) {
            return Ok(());
        }
        let message = format!("unknown variable \"{name}\"");
        Err(self.source.error_at(name, Role::Variable, nth, message))
    }

    /// A misspelt field would fail on every alert, so it is refused like a misspelt variable.
    fn field(&self, operand: &IdedExpr, field: &str) -> Result<(), RuleError> {
        let Expr::Ident(name) = &operand.expr else {
            return Ok(());
        };
        if self.loop_variable.as_deref() == Some(name) {
            return Ok(());
        }
        let known = FIELDS.iter().find(|(variable, _)| variable == name);
        if known.is_none_or(|(_, fields)| fields.contains(&field)) {
            return Ok(());
        }
        let met = self.seen.get(&(name.clone(), Role::Variable));
        let nth = met.map_or(0, |count| count - 1);
        let message = format!("\"{name}\" has no field \"{field}\"");
        Err(self.source.error_at(name, Role::Variable, nth, message))
    }

    fn call(&mut self, call: &mut CallExpr, depth: usize) -> Result<(), RuleError> {
        let name = call.func_name.as_str();
        if OPERATORS.contains(&name) {
            self.copies += u64::from(name == operators::ADD || name == operators::INDEX);
            return self.nodes(&mut call.args, depth);
        }
        let role = if call.target.is_some() {
            Role::Method
        } else {
            Role::Function
        };
        if let Some(target) = &mut call.target {
            self.node(target, depth)?;
        }
        self.copies += 1;
        let nth = self.meet(&call.func_name, role);
        let known = refuse_unknown(call, role).and_then(|()| match call.func_name.as_str() {
            "matches" => self.pattern(call),
            _ => Ok(()),
        });
        known.map_err(|message| self.source.error_at(&call.func_name, role, nth, message))?;
        if call.func_name == MATCHES {
            // Its text has been visited, as the target.
            return Ok(());
        }
        self.nodes(&mut call.args, depth)
    }

    /// Makes a call of [`MATCHES`] of a call of `matches`. The pattern has to be written out: one
    /// that is compiled anew for each element of a list, or that comes from a device, could take
    /// any time.
    fn pattern(&mut self, call: &mut CallExpr) -> Result<(), String> {
        let Some(Expr::Literal(LiteralValue::String(text))) = call.args.first().map(|a| &a.expr)
        else {
            return Err("the pattern of matches() has to be a text in quotes".to_owned());
        };
        if self.patterns.len() == MAX_PATTERNS {
            return Err(format!("more than {MAX_PATTERNS} patterns"));
        }
        let pattern = RegexBuilder::new(text.inner())
            .size_limit(MAX_PATTERN)
            .build()
            .map_err(|error| error.to_string().replace('\n', " "))?;
        let number = i64::try_from(self.patterns.len()).unwrap_or(i64::MAX);
        self.patterns.push(pattern);
        MATCHES.clone_into(&mut call.func_name);
        call.args = call
            .target
            .take()
            .map(|target| *target)
            .into_iter()
            .collect();
        call.args.push(number_node(number));
        Ok(())
    }

    fn map(&mut self, map: &mut MapExpr, depth: usize) -> Result<(), RuleError> {
        self.copies += 1;
        for entry in &mut map.entries {
            match &mut entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.node(&mut entry.key, depth)?;
                    self.node(&mut entry.value, depth)?;
                }
                EntryExpr::StructField(_) => {
                    return Err(self.source.error(0, "incomplete expression"));
                }
            }
        }
        Ok(())
    }

    fn comprehension(
        &mut self,
        comprehension: &mut ComprehensionExpr,
        depth: usize,
    ) -> Result<(), RuleError> {
        let before = self.loops;
        self.node(&mut comprehension.iter_range, depth)?;
        if self.loop_variable.is_some() || self.loops > before {
            let nested = self.source.find(&LOOPS, Role::Method, self.loops);
            let message = "a loop in a loop: write one of them, or two beside each other";
            return Err(self.source.error(nested.unwrap_or(0), message));
        }
        self.loops += 1;
        let (nodes, uses, copies) = (self.nodes, self.uses, self.copies);
        self.meet(&comprehension.iter_var, Role::Variable);
        self.loop_variable = Some(comprehension.iter_var.clone());
        self.node(&mut comprehension.accu_init, depth)?;
        self.node(&mut comprehension.loop_cond, depth)?;
        self.node(&mut comprehension.loop_step, depth)?;
        self.node(&mut comprehension.result, depth)?;
        self.loop_variable = None;
        let copies = 1 + (self.uses - uses) * (1 + self.copies - copies);
        make_pay(&mut comprehension.iter_range, self.nodes - nodes, copies);
        Ok(())
    }
}

fn refuse_unknown(call: &CallExpr, role: Role) -> Result<(), String> {
    let (name, given) = (call.func_name.as_str(), call.args.len());
    let known = FUNCTIONS
        .iter()
        .find(|known| known.0 == name && known.1 == role);
    match known {
        Some((_, _, arguments)) if *arguments == given => Ok(()),
        Some((_, _, arguments)) => {
            Err(format!("{name}() takes {arguments} arguments, not {given}"))
        }
        None => Err(format!("unknown function \"{name}\"")),
    }
}

fn make_pay(range: &mut IdedExpr, nodes: u64, copies: u64) {
    let written = std::mem::take(range);
    let number = |n: u64| number_node(i64::try_from(n).unwrap_or(i64::MAX));
    range.expr = Expr::Call(CallExpr {
        func_name: LOOP.to_owned(),
        target: None,
        args: vec![written, number(nodes), number(copies)],
    });
}

fn number_node(number: i64) -> IdedExpr {
    IdedExpr {
        id: 0,
        expr: Expr::Literal(LiteralValue::Int(number.into())),
    }
}
