//! The command line: `serve` and the clients, one file a subcommand.

mod import;
mod monitor;
mod serve;

use crate::config::ServeArgs;
use anstream::eprintln;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Accounts and alarms for organisations with many sites.
///
/// Without a subcommand it serves: database, MQTT broker and HTTP on this machine.
#[derive(Debug, Parser)]
#[command(name = "atalaya", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default)
    Serve(Box<ServeArgs>),
    /// Show a broker's events live
    Monitor(monitor::MonitorArgs),
    /// Import movements from CSV through the API
    Import(import::ImportArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(error) = dotenvy::dotenv()
        && !error.not_found()
    {
        eprintln!("atalaya: .env: {error}");
        return ExitCode::from(2);
    }
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(args)) => serve::run(*args),
        Some(Command::Monitor(args)) => monitor::run(&args),
        Some(Command::Import(args)) => import::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("atalaya: {error}");
            ExitCode::FAILURE
        }
    }
}
