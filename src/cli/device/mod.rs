#![allow(
    clippy::print_stdout,
    reason = "what a device is told is what these commands are for"
)]
//! `atalaya device`: hardware in the field, as its firmware would be.
//!
//! [`enrol`] registers a device and writes its [`credentials`], [`send`] sends one alert with them,
//! [`simulate`] plays a [`scenario`] of many. They share the signing ([`jws`]), the connection
//! ([`link`]) and the rule that nothing is delivered before its reply is there ([`outbox`]).

mod credentials;
mod enrol;
mod jws;
mod link;
mod outbox;
mod registry;
mod reply;
mod scenario;
mod send;
mod simulate;

use clap::Subcommand;
use std::error::Error;
use std::mem::ManuallyDrop;
use std::process::ExitCode;

/// Arguments of `atalaya device`.
#[derive(Debug, clap::Args)]
pub(super) struct DeviceArgs {
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// Register a device and write the credentials it signs with
    Enrol(enrol::EnrolArgs),
    /// Sign one alert, send it until it is answered, and print the answer
    Send(send::SendArgs),
    /// Play a scenario of many devices
    Simulate(simulate::SimulateArgs),
}

/// Runs one of the device commands.
///
/// # Errors
/// Whatever a person has to mend; the text says what.
pub(super) fn run(args: &DeviceArgs) -> Result<ExitCode, Box<dyn Error>> {
    let system = actix_web::rt::System::new();
    let result = match &args.command {
        DeviceCommand::Enrol(args) => system.block_on(enrol::run(args)),
        DeviceCommand::Send(args) => system.block_on(send::run(args)),
        DeviceCommand::Simulate(args) => return system.block_on(simulate::run(args)),
    };
    // A look-up of a host that still blocks must not hold the end up.
    let _never_dropped = ManuallyDrop::new(system);
    result
}
