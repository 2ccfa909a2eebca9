//! The command line: `serve` and the clients, one file a subcommand.

mod api;
mod broker;
mod broker_sync;
mod device;
mod import;
mod login;
mod monitor;
mod people;
mod reset_password;
mod serve;
mod text;
mod token;

use crate::config::ServeArgs;
use anstream::eprintln;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
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
    /// Enrol hardware, send its alerts, simulate it
    Device(device::DeviceArgs),
    /// Keep an external broker in line with the registry
    Broker(broker_sync::BrokerCommandArgs),
    /// Import movements from CSV, or move in from a database of another system
    #[command(after_long_help = import::HELP)]
    Import(Box<import::ImportArgs>),
    /// Sign in and print a token for the other commands
    Login(login::LoginArgs),
    /// End the session of the token
    Logout(login::LogoutArgs),
    /// Make, list and change people
    User(people::UserArgs),
    /// Make, list and revoke tokens of programs
    Token(people::TokensArgs),
    /// Give a user who cannot get in a new password, with the server stopped
    ResetPassword(Box<reset_password::ResetArgs>),
}

/// The command line, with empty variables counting as unset: compose files and `.env` leave them.
fn command() -> clap::Command {
    let drop_empty = |arg: clap::Arg| {
        let is_empty = arg
            .get_env()
            .is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
        if is_empty {
            arg.env(clap::builder::Resettable::Reset)
        } else {
            arg
        }
    };
    Cli::command()
        .mut_subcommand("import", import::without_noise)
        .mut_args(drop_empty)
        .mut_subcommands(move |subcommand| {
            subcommand
                .mut_args(drop_empty)
                .mut_subcommands(move |inner| inner.mut_args(drop_empty))
        })
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(error) = dotenvy::from_path(".env")
        && !error.not_found()
    {
        eprintln!("atalaya: .env: {error}");
        return ExitCode::from(2);
    }
    let cli = match Cli::from_arg_matches(&command().get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let result = match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(args)) => serve::run(*args),
        Some(Command::Monitor(args)) => monitor::run(&args),
        Some(Command::Device(args)) => device::run(&args),
        Some(Command::Broker(args)) => broker_sync::run(&args),
        Some(Command::Import(args)) => import::run(&args),
        Some(Command::Login(args)) => login::run(&args),
        Some(Command::Logout(args)) => login::log_out(&args),
        Some(Command::User(args)) => people::run_user(&args),
        Some(Command::Token(args)) => people::run_token(&args),
        Some(Command::ResetPassword(args)) => reset_password::run(*args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("atalaya: {error}");
            ExitCode::FAILURE
        }
    }
}
