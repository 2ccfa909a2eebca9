//! `atalaya monitor`.
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct MonitorArgs {}

pub(super) fn run(_args: &MonitorArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    Ok(ExitCode::SUCCESS)
}
