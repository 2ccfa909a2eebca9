//! `atalaya serve`.
use crate::config::ServeArgs;
use std::process::ExitCode;

pub(super) fn run(_args: ServeArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    Ok(ExitCode::SUCCESS)
}
