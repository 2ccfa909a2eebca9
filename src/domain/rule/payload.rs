//! What a command says, as a template.

use super::RuleError;
use super::check::MAX_PATTERNS;
use super::expression::{Expression, unplaced};
use super::meter::Meter;
use super::variables::Variables;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// The longest payload as it is written, in bytes.
const MAX_SOURCE: usize = 8 * 1024;

/// How deep it may nest; the payload itself is the first level.
const MAX_DEPTH: usize = 8;

/// The longest payload as it is evaluated, in bytes: what a small controller can take in.
const MAX_RESULT: usize = 16 * 1024;

/// What Atalaya itself says in every command.
const RESERVED: [&str; 5] = [
    "alerta_id",
    "tipo_alarma",
    "prioridad",
    "regla",
    "timestamp",
];

/// A JSON object whose texts that begin with `=` are expressions.
#[derive(Debug)]
pub(super) struct Template {
    members: Vec<(String, Node)>,
}

#[derive(Debug)]
enum Node {
    /// JSON, given back as it was written.
    Literal(String),
    Expression(Expression),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn patterns(&self) -> usize {
        match self {
            Self::Literal(_) => 0,
            Self::Expression(expression) => expression.patterns(),
            Self::List(nodes) => nodes.iter().map(Self::patterns).sum(),
            Self::Object(members) => members.iter().map(|(_, node)| node.patterns()).sum(),
        }
    }
}

impl Template {
    pub(super) fn parse(json: &str) -> Result<Self, RuleError> {
        if json.len() > MAX_SOURCE {
            return Err(unplaced(format!("longer than {MAX_SOURCE} bytes")));
        }
        let raw: &RawValue = read(json)?;
        if !raw.get().starts_with('{') {
            return Err(unplaced("not a JSON object".to_owned()));
        }
        let members = members(raw.get(), 1)?;
        match members
            .iter()
            .find(|(key, _)| RESERVED.contains(&key.as_str()))
        {
            Some((key, _)) => Err(unplaced(format!("\"{key}\" is what Atalaya itself says"))),
            None => Self { members }.with_few_patterns(),
        }
    }

    /// A payload is one piece of work: its expressions share what one of them may have.
    fn with_few_patterns(self) -> Result<Self, RuleError> {
        let patterns: usize = self.members.iter().map(|(_, node)| node.patterns()).sum();
        if patterns > MAX_PATTERNS {
            return Err(unplaced(format!("more than {MAX_PATTERNS} patterns")));
        }
        Ok(self)
    }

    /// The payload as JSON, its keys in the order in which they are written.
    /// One meter for all: a payload is one piece of work, however many expressions it has.
    pub(super) fn evaluate(
        &self,
        variables: &Variables,
        meter: &Arc<Meter>,
    ) -> Result<Arc<str>, String> {
        let mut writer = Writer {
            variables,
            meter: Arc::clone(meter),
            text: String::new(),
        };
        writer.object(&self.members)?;
        Ok(writer.text.into())
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, RuleError> {
    serde_json::from_str(json).map_err(|error| unplaced(format!("not JSON: {error}")))
}

fn node(json: &str, depth: usize) -> Result<Node, RuleError> {
    match json.as_bytes().first() {
        Some(b'{') => Ok(Node::Object(members(json, depth)?)),
        Some(b'[') => {
            within(depth)?;
            let items: Vec<&RawValue> = read(json)?;
            let nodes = items.into_iter().map(|item| node(item.get(), depth + 1));
            Ok(Node::List(nodes.collect::<Result<_, _>>()?))
        }
        Some(b'"') => text(json),
        _ => Ok(Node::Literal(json.to_owned())),
    }
}

fn text(json: &str) -> Result<Node, RuleError> {
    let text: String = read(json)?;
    match text.strip_prefix('=') {
        Some(literal) if literal.starts_with('=') => Ok(Node::Literal(quoted(literal))),
        Some(expression) => Ok(Node::Expression(Expression::compile(expression)?)),
        None => Ok(Node::Literal(json.to_owned())),
    }
}

fn members(json: &str, depth: usize) -> Result<Vec<(String, Node)>, RuleError> {
    within(depth)?;
    let Members(raw) = read(json)?;
    let mut members: Vec<(String, Node)> = Vec::with_capacity(raw.len());
    for (key, value) in raw {
        if members.iter().any(|(other, _)| *other == key) {
            return Err(unplaced(format!("\"{key}\" stands there twice")));
        }
        let node = node(value.get(), depth + 1).map_err(|error| RuleError {
            message: format!("{key}: {}", error.message),
            ..error
        })?;
        members.push((key, node));
    }
    Ok(members)
}

fn within(depth: usize) -> Result<(), RuleError> {
    if depth > MAX_DEPTH {
        return Err(unplaced(format!("nested deeper than {MAX_DEPTH}")));
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The members of an object in the order in which they are written, which `serde_json`'s own map
/// does not keep.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

struct Writer<'a> {
    variables: &'a Variables,
    meter: Arc<Meter>,
    text: String,
}

impl Writer<'_> {
    fn node(&mut self, node: &Node) -> Result<(), String> {
        match node {
            Node::Literal(json) => self.push(json),
            Node::Expression(expression) => {
                let value = expression.evaluate(self.variables, &self.meter)?;
                let json = value
                    .json()
                    .map_err(|_| "not a value that JSON knows".to_owned())?;
                self.push(&json.to_string())
            }
            Node::List(nodes) => {
                self.push("[")?;
                for (index, node) in nodes.iter().enumerate() {
                    self.separate(index)?;
                    self.node(node)?;
                }
                self.push("]")
            }
            Node::Object(members) => self.object(members),
        }
    }

    fn object(&mut self, members: &[(String, Node)]) -> Result<(), String> {
        self.push("{")?;
        for (index, (key, node)) in members.iter().enumerate() {
            self.separate(index)?;
            self.push(&quoted(key))?;
            self.push(":")?;
            self.node(node).map_err(|error| format!("{key}: {error}"))?;
        }
        self.push("}")
    }

    fn separate(&mut self, index: usize) -> Result<(), String> {
        self.push(if index == 0 { "" } else { "," })
    }

    fn push(&mut self, json: &str) -> Result<(), String> {
        if self.text.len() + json.len() > MAX_RESULT {
            return Err(format!("the payload is longer than {MAX_RESULT} bytes"));
        }
        self.text.push_str(json);
        Ok(())
    }
}
