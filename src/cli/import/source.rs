//! Where an import comes from.

use clap::builder::{OsStringValueParser, TypedValueParser};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// A file, or a database by its address.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A file of CSV.
    File(PathBuf),
    /// `mysql://user:password@host/database`, as it was typed.
    Database(String),
}

impl Source {
    /// Never refuses a text: a refusal would show it, and a password in it.
    pub(super) fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().map(Self::from)
    }
}

impl From<OsString> for Source {
    fn from(text: OsString) -> Self {
        match text.to_str() {
            Some(url) if url.starts_with("mysql://") || url.starts_with("mariadb://") => {
                Self::Database(url.replacen("mariadb://", "mysql://", 1))
            }
            _ => Self::File(PathBuf::from(text)),
        }
    }
}

/// Without what may be a password.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Database(_) => f.write_str("Database(…)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_file_and_is_shown_to_nobody() {
        let source = |text: &str| Source::from(OsString::from(text));
        assert_eq!(source("a.csv"), Source::File(PathBuf::from("a.csv")));
        let url = "mysql://ana:canary@db.example/viejo";
        assert_eq!(source(url), Source::Database(url.to_owned()));
        assert_eq!(
            source("mariadb://a@h/d"),
            Source::Database("mysql://a@h/d".to_owned())
        );
        assert!(!format!("{:?}", source(url)).contains("canary"));
    }
}
