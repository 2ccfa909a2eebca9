//! Parses arguments, starts the logs, runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    atalaya::cli::main()
}
