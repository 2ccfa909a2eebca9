#![allow(
    clippy::print_stdout,
    reason = "what is to be done is what this command is for"
)]
//! `atalaya broker sync`: brings the dynamic-security plugin of a Mosquitto in line with the
//! registry.
//!
//! It reads the database and the key file of this host, asks the plugin what it has
//! (`$CONTROL/dynamic-security/v1`), and sends the difference. Clients of its own have a description
//! that begins with [`MARK`]; what others made is left alone.

mod plan;
mod talk;

use self::plan::{Desired, DeviceUser};
use super::broker::BrokerArgs;
use crate::storage::connection::{DatabaseUrl, open_readers};
use crate::storage::registry_queries::broker_logins;
use crate::storage::vault::Vault;
use anstream::{eprintln, println};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `atalaya broker`.
#[derive(Debug, clap::Args)]
pub(super) struct BrokerCommandArgs {
    #[command(subcommand)]
    command: BrokerCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BrokerCommand {
    /// Bring the dynamic-security plugin of a Mosquitto in line with the registry
    Sync(Box<SyncArgs>),
}

/// Arguments of `atalaya broker sync`.
#[derive(Debug, clap::Args)]
struct SyncArgs {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Where the database is, as `sqlite://path` or `mysql://user:password@host/database`
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://data/atalaya.db"
    )]
    database_url: DatabaseUrl,

    /// Folder of what is not in the database
    #[arg(long, env = "DATA_DIR", default_value = "data")]
    data_dir: PathBuf,

    /// File with the key that seals the passwords of devices; `device-kek` in `DATA_DIR` where none
    /// is named
    #[arg(long, env = "DEVICE_KEK_FILE")]
    device_kek_file: Option<PathBuf>,

    #[command(flatten)]
    broker: BrokerArgs,
}

/// Runs one of the commands about an external broker.
///
/// # Errors
/// Whatever a person has to mend; the text says what.
pub(super) fn run(args: &BrokerCommandArgs) -> Result<ExitCode, Box<dyn Error>> {
    let BrokerCommand::Sync(args) = &args.command;
    let desired = read_registry(args)?;
    let login = args.broker.login()?.ok_or(
        "MQTT_USERNAME y MQTT_PASSWORD(_FILE): hace falta el usuario que administra el plugin \
         (mosquitto_ctrl dynsec init lo crea)",
    )?;
    let tls = args.broker.tls()?;
    actix_web::rt::System::new().block_on(async {
        let mut plugin =
            talk::Plugin::connect(&args.broker.host, args.broker.port, login, tls).await?;
        let actual = plugin.state().await?;
        let plan = plan::plan(&desired, &actual);
        for warning in &plan.warnings {
            eprintln!("aviso: {warning}");
        }
        for step in &plan.steps {
            println!("{}", step.said);
        }
        if plan.steps.is_empty() {
            println!("Nada que cambiar: {} dispositivos.", desired.devices.len());
        } else if args.dry_run {
            println!(
                "Serían {} cambios; no se ha hecho ninguno.",
                plan.steps.len()
            );
        } else {
            plugin.apply(&plan.steps).await?;
            println!("Hecho: {} cambios.", plan.steps.len());
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn read_registry(args: &SyncArgs) -> Result<Desired, Box<dyn Error>> {
    let location = args.database_url.location()?;
    if location.path().is_some_and(|path| !path.exists()) {
        return Err(format!(
            "{location}: no hay base de datos ahí; este comando corre donde está la de Atalaya \
             (DATABASE_URL)"
        )
        .into());
    }
    let key = args
        .device_kek_file
        .clone()
        .unwrap_or_else(|| args.data_dir.join("device-kek"));
    let vault = Vault::open(&key, true)?;
    let readers = open_readers(&location)?;
    let logins = broker_logins(&mut *readers.get()?, &vault)?;
    let devices = logins.into_iter().filter_map(|login| {
        let password = login.password?;
        Some(DeviceUser {
            address: login.address,
            active: login.active,
            password: password.reveal(),
        })
    });
    Ok(Desired {
        devices: devices.collect(),
    })
}
