//! `atalaya import`.
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {}

pub(super) fn run(_args: &ImportArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    Ok(ExitCode::SUCCESS)
}
