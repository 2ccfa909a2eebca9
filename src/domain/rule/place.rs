//! The pieces of an expression's text, and where they stand.

use super::RuleError;
use cel::parser::pratt_parser::{Lexer, Token, TokenKind};

/// How deep brackets and conditionals may nest: the parser recurses.
const MAX_NESTING: usize = 32;

/// How many words and signs an expression may have: syntax that nests without brackets (`!-!-x`,
/// `a.b.c`) nests at most so deep.
const MAX_TOKENS: usize = 1_000;

/// What a word stands for where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// `x`
    Variable,
    /// `f(`
    Function,
    /// `.f(`
    Method,
}

/// An expression's text, cut into words and signs.
#[derive(Debug)]
pub(super) struct Source<'a> {
    text: &'a str,
    tokens: Vec<Token>,
}

impl<'a> Source<'a> {
    /// Cuts `text`, and refuses what would nest too deep to be parsed.
    pub(super) fn cut(text: &'a str) -> Result<Self, RuleError> {
        let mut lexer = Lexer::new(text);
        let mut source = Self {
            text,
            tokens: Vec::new(),
        };
        loop {
            let token = lexer.lex();
            match token.kind {
                TokenKind::TokEnd => break,
                TokenKind::TokWhitespace | TokenKind::TokComment => {}
                _ if source.tokens.len() == MAX_TOKENS => {
                    let message = format!("more than {MAX_TOKENS} words and signs");
                    return Err(source.error(token.start, message));
                }
                _ => source.tokens.push(token),
            }
        }
        source.refuse_deep_nesting()?;
        Ok(source)
    }

    fn refuse_deep_nesting(&self) -> Result<(), RuleError> {
        let (mut brackets, mut conditionals) = (0_usize, 0_usize);
        for token in &self.tokens {
            match token.kind {
                TokenKind::TokLeftParen | TokenKind::TokLeftBracket | TokenKind::TokLeftBrace => {
                    brackets += 1;
                }
                TokenKind::TokRightParen
                | TokenKind::TokRightBracket
                | TokenKind::TokRightBrace => brackets = brackets.saturating_sub(1),
                TokenKind::TokQuestion => conditionals += 1,
                _ => {}
            }
            if brackets.max(conditionals) > MAX_NESTING {
                let message = format!("more than {MAX_NESTING} brackets or conditionals nested");
                return Err(self.error(token.start, message));
            }
        }
        Ok(())
    }

    /// An error at the byte `offset`.
    pub(super) fn error(&self, offset: usize, message: impl Into<String>) -> RuleError {
        RuleError {
            position: Some(place(self.text, offset)),
            message: message.into(),
        }
    }

    /// An error where `word` is written in this role for the `nth` time, from 0.
    pub(super) fn error_at(
        &self,
        word: &str,
        role: Role,
        nth: usize,
        message: String,
    ) -> RuleError {
        match self.find(&[word], role, nth) {
            Some(offset) => self.error(offset, message),
            None => RuleError {
                position: None,
                message,
            },
        }
    }

    /// Where any of `words` is written in this role for the `nth` time, from 0.
    pub(super) fn find(&self, words: &[&str], role: Role, nth: usize) -> Option<usize> {
        let written = (0..self.tokens.len()).filter(|&index| {
            let token = self.tokens[index];
            token.kind == TokenKind::TokIdent
                && self.role(index) == Some(role)
                && self
                    .text
                    .get(token.start..token.end)
                    .is_some_and(|text| words.contains(&text))
        });
        written.map(|index| self.tokens[index].start).nth(nth)
    }

    fn role(&self, index: usize) -> Option<Role> {
        let kind = |index: usize| self.tokens.get(index).map(|token| token.kind);
        let before = index.checked_sub(1).and_then(kind);
        let selected = before == Some(TokenKind::TokDot);
        let called = kind(index + 1) == Some(TokenKind::TokLeftParen);
        match (selected, called) {
            (false, false) => Some(Role::Variable),
            (false, true) => Some(Role::Function),
            (true, true) => Some(Role::Method),
            // A field. (`{name: value}` does not get this far: there are no types to build.)
            (true, false) => None,
        }
    }

    /// The parser's line and column, which counts bytes, as people count.
    pub(super) fn position(&self, (line, column): (isize, isize)) -> Option<(usize, usize)> {
        let line = usize::try_from(line).ok()?.checked_sub(1)?;
        let column = usize::try_from(column).ok()?.checked_sub(1)?;
        let before: usize = self
            .text
            .split_inclusive('\n')
            .take(line)
            .map(str::len)
            .sum();
        Some(place(self.text, before + column))
    }
}

/// Line and column of a byte, both from 1, the column in characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (line, before[start..].chars().count() + 1)
}
