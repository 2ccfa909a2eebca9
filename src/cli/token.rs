//! The token that client subcommands show.

use crate::config::ConfigError;
use crate::domain::token::Token;
use std::path::PathBuf;

/// The variable that holds the token. There is no flag for it: the command line of a process is for
/// every user of the machine to read.
pub(in crate::cli) const VARIABLE: &str = "ATALAYA_TOKEN";

/// Where the token is.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct TokenArgs {
    /// File that holds the token to show; without it the variable `ATALAYA_TOKEN` is taken, as
    /// `atalaya login` prints it
    #[arg(long, env = "ATALAYA_TOKEN_FILE", help_heading = "Access")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// The token, if there is one.
    ///
    /// # Errors
    /// [`ConfigError`] where the file cannot be read or holds no token.
    pub(in crate::cli) fn resolve(&self) -> Result<Option<Token>, ConfigError> {
        let (text, source) = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| {
                    ConfigError(format!("ATALAYA_TOKEN_FILE: {}: {e}", path.display()))
                })?;
                (text, "ATALAYA_TOKEN_FILE")
            }
            None => match std::env::var(VARIABLE) {
                Ok(text) => (text, VARIABLE),
                Err(_) => return Ok(None),
            },
        };
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        Token::parse(text).map(Some).map_err(|_| {
            ConfigError(format!(
                "{source}: not a token; `atalaya login` prints one, and so does an admin's \
                 `atalaya token add`"
            ))
        })
    }
}
