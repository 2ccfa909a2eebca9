//! Strangers' text on a terminal.

use serde::{Deserialize, Deserializer};
use std::fmt;

/// Characters of one text that are shown to people; a screen of them says enough.
const MAX_SHOWN: usize = 1_000;

/// A text that is safe and short enough to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Shown(String);

impl Shown {
    /// The escaped text.
    pub(in crate::cli) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Self {
        let mut shown = String::with_capacity(text.len().min(MAX_SHOWN));
        for (place, c) in text.chars().enumerate() {
            if place == MAX_SHOWN {
                shown.push('…');
                break;
            }
            if is_hidden(c) {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
        }
        Self(shown)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(text.as_str()))
    }
}

/// Whether `c` steers a terminal or hides text: controls (ESC and the one-byte CSI among them),
/// line separators, and the invisible marks that reorder what is read.
pub(in crate::cli) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        let shown = Shown::from("ñ".repeat(MAX_SHOWN + 1).as_str());
        assert_eq!(shown.as_str().chars().count(), MAX_SHOWN + 1);
        assert!(shown.as_str().ends_with('…'));
    }

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        let shown = Shown::from("a\u{1b}[31m\u{202e}b");
        assert_eq!(shown.as_str(), "a\\u{1b}[31m\\u{202e}b");
    }
}
