#![allow(
    clippy::print_stdout,
    reason = "the password is what this command is for"
)]
//! `atalaya reset-password`: for whoever lost the way in. It works on the database itself, so the
//! server must be stopped, and whoever may do it may read and write the database anyway.

use crate::application::reset_password;
use crate::clock::Clock;
use crate::config::{Config, ServeArgs};
use crate::domain::Slug;
use anstream::{eprintln, println};
use std::error::Error;
use std::process::ExitCode;

/// Arguments of `atalaya reset-password`.
#[derive(Debug, clap::Args)]
pub(super) struct ResetArgs {
    /// Whose
    #[arg(value_parser = |text: &str| Slug::parse(text).map_err(|e| e.to_string()))]
    user: Slug,

    #[command(flatten)]
    serve: ServeArgs,
}

/// Gives a person a new password and prints it.
///
/// # Errors
/// Whatever a person has to mend; the text says what.
pub(super) fn run(args: ResetArgs) -> Result<ExitCode, Box<dyn Error>> {
    let config = Config::try_from(args.serve)?;
    let user = args.user.clone();
    let password = actix_web::rt::System::new().block_on(reset_password(
        &config,
        &Clock::system(),
        args.user,
    ))?;
    eprintln!(
        "{user} entra de nuevo, sin segundo factor, y debe cambiar esta contraseña, que no se \
         vuelve a mostrar:"
    );
    println!("{password}");
    Ok(ExitCode::SUCCESS)
}
