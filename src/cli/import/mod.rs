#![allow(
    clippy::print_stdout,
    reason = "the summary is what this command is for"
)]
#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "the help is for terminals, where backticks are noise"
)]
//! `atalaya import`: movements from CSV through the public API, or a whole bank from a database
//! before Atalaya ([`mover`]).
//!
//! [`plan`] reads the file, [`courier`] brings each request of [`client`] through until
//! [`verdict`] finds it decided, [`report`] says what came of it. Nothing is remembered on this
//! side: every movement has a key that follows from what its row says, and the server remembers
//! its decision under that key. So an import that was killed, or whose server was, is resumed by
//! running it again.

mod client;
mod courier;
#[cfg(feature = "mysql")]
mod mover;
mod plan;
mod progress;
mod report;
mod source;
#[cfg(test)]
mod tests;
mod verdict;

use crate::cli::api::{Api, BaseUrl};
use crate::cli::token::TokenArgs;
use crate::config::{ConfigError, ServeArgs};
use crate::domain::token::Token;
use crate::domain::{AccountId, Money};
use anstream::{eprintln, println};
use clap::Args as _;
use courier::{Courier, Pacer, Stopped};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use plan::{AccountPlan, Movement, Plan, PlanError};
use progress::Progress;
use report::{Summary, Tally};
use source::Source;
use std::cell::RefCell;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use verdict::Decision;

/// What the file or the command line got wrong; nothing was sent. The same as clap's.
const EXIT_USAGE: u8 = 2;

/// What the help says beyond the settings.
pub(super) const HELP: &str = "\
A FILE goes through the API of a server that runs. It has the columns cedula, fecha (YYYY-MM-DD), \
tipo (DEPOSITO or RETIRO) and monto, named in its first line; others are ignored.

A database of MySQL or MariaDB is moved in whole, into the database of a server that is stopped \
(--database-url, --data-dir). It has the tables clientes (cedula, nombres, apellidos, saldo) and \
transacciones (id, cedula, tipo, monto, saldo_final, fecha), and is never written to; other columns \
are ignored. Where the history of an account does not explain its balance the difference is posted \
as AJUSTE and reported. An account with a row that cannot be right is named and left out whole.

Either may be imported again at any time: what is there already is not posted twice.";

/// Settings of `atalaya import`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ImportArgs {
    /// CSV file with the columns cedula, fecha, tipo, monto, in the order in which it happened; or
    /// mysql://user:password@host/database. The variable keeps the password off the command line,
    /// which is for every user of the machine to read
    #[arg(
        env = "ATALAYA_IMPORT",
        hide_env_values = true,
        value_name = "FILE|mysql://…",
        value_parser = Source::parser()
    )]
    source: Source,

    /// mysql:// only: read and report, and change nothing; the server may run
    #[arg(long)]
    dry_run: bool,

    /// mysql:// only: time zone of the old system, such as America/Guayaquil; that of this machine
    /// (TZ) where none is named
    #[arg(long, value_name = "ZONE")]
    zona: Option<String>,

    /// FILE only: address of the server
    #[arg(
        long,
        env = "ATALAYA_URL",
        default_value = "http://127.0.0.1:5001",
        value_parser = BaseUrl::parse
    )]
    url: BaseUrl,

    #[command(flatten)]
    token: TokenArgs,

    /// FILE only: movements per second at most; 0 sends as fast as the server answers
    #[arg(long, default_value_t = 0)]
    rate: u32,

    /// FILE only: accounts at once, each with one connection; within an account order is kept
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,

    /// FILE only: time without any progress after which to give up, in seconds
    #[arg(long, default_value_t = 120)]
    patience: u64,

    /// Print the summary as one JSON object, and before it each line of a report as another
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    serve: ServeArgs,
}

/// Settings of the server that moving in heeds and shows; the others are taken and not shown.
const HEEDED: [&str; 7] = [
    "database_url",
    "writer_lanes",
    "data_dir",
    "empresa",
    "moneda",
    "cedula_check",
    "instalacion",
];

/// The subcommand with nothing in its help that does nothing here.
pub(super) fn without_noise(command: clap::Command) -> clap::Command {
    let settings = ServeArgs::augment_args(clap::Command::new("serve"));
    let hidden: Vec<clap::Id> = settings
        .get_arguments()
        .map(|setting| setting.get_id().clone())
        .filter(|id| !HEEDED.contains(&id.as_str()))
        .collect();
    command.mut_args(|arg| {
        if hidden.contains(arg.get_id()) {
            arg.hide(true)
        } else {
            arg
        }
    })
}

/// Imports a file or a database.
///
/// # Errors
/// What a person has to mend; the text says what.
pub(super) fn run(args: &ImportArgs) -> Result<ExitCode, Box<dyn Error>> {
    match &args.source {
        Source::File(_) if args.dry_run || args.zona.is_some() => {
            eprintln!("atalaya import: --dry-run y --zona son para mysql://");
            Ok(ExitCode::from(EXIT_USAGE))
        }
        Source::File(path) => import_file(args, path),
        #[cfg(feature = "mysql")]
        Source::Database(url) => mover::run(args, url),
        #[cfg(not(feature = "mysql"))]
        Source::Database(_) => {
            eprintln!(
                "atalaya import: this build has no MySQL/MariaDB support; build with --features \
                 mysql, which needs libmariadb-dev"
            );
            Ok(ExitCode::from(EXIT_USAGE))
        }
    }
}

/// Imports a file: 0 when every movement is decided, 1 when it had to stop, 2 when the file is
/// wrong and nothing was sent.
///
/// # Errors
/// Where the summary cannot be written as JSON.
fn import_file(args: &ImportArgs, path: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let plan = match read(path) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("atalaya import: {}: {error}", path.display());
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let token = args.token.resolve()?;
    let summary = actix_web::rt::System::new().block_on(import(args, &plan, token))?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{summary}");
    }
    Ok(if summary.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read(path: &Path) -> Result<Plan, PlanError> {
    plan::read(&std::fs::read(path).map_err(csv::Error::from)?)
}

/// Sends the plan until it is done, stopped or interrupted.
async fn import(
    args: &ImportArgs,
    plan: &Plan,
    token: Option<Token>,
) -> Result<Summary, ConfigError> {
    let progress = Progress::new(plan.movements);
    let concurrency = usize::from(args.concurrency);
    let courier = Courier::new(
        Api::new(args.url.clone(), concurrency, token)?,
        Pacer::new(args.rate),
        Duration::from_secs(args.patience),
        &progress,
    );
    let importer = Importer {
        courier,
        progress: &progress,
        concurrency,
        tally: RefCell::default(),
    };
    let total = tokio::select! {
        total = importer.run(plan) => total,
        never = progress.narrate() => match never {},
        Ok(()) = tokio::signal::ctrl_c() => Err(Stopped("interrumpido".to_owned())),
    };
    progress.finish();
    if let Err(stopped) = &total {
        eprintln!("atalaya import: {stopped}");
    }
    Ok(Summary::new(plan.movements, importer.tally.take(), &total))
}

/// One import under way. Everything runs on one thread, so cells are enough.
struct Importer<'a> {
    courier: Courier<'a>,
    progress: &'a Progress,
    concurrency: usize,
    tally: RefCell<Tally>,
}

impl Importer<'_> {
    /// Sends every movement and returns the total of balances.
    async fn run(&self, plan: &Plan) -> Result<Money, Stopped> {
        // Accounts start in the order of their first movements; a finished one makes room.
        let open: Vec<&AccountId> = stream::iter(&plan.accounts)
            .map(|account| self.account(account))
            .buffer_unordered(self.concurrency)
            .try_filter_map(async |account| Ok(account))
            .try_collect()
            .await?;
        stream::iter(open)
            .map(|account| self.balance(account))
            .buffer_unordered(self.concurrency)
            .try_fold(Money::ZERO, async |total, balance| {
                total
                    .plus(balance)
                    .ok_or_else(|| Stopped("el total de saldos no cabe".to_owned()))
            })
            .await
    }

    /// Opens one account and sends its movements, one after the other: its balance decides what
    /// is refused, so order matters. `None` where the server does not take the account.
    async fn account<'p>(
        &self,
        account: &'p AccountPlan,
    ) -> Result<Option<&'p AccountId>, Stopped> {
        // First of all, since a movement of an unknown account is refused for good under its key.
        let opening = self
            .courier
            .direct(&client::open(&account.id), verdict::of_opening)
            .await?;
        match opening.value {
            Decision::Accepted { already } => {
                self.tally
                    .borrow_mut()
                    .open(already && !opening.perhaps_ours);
            }
            Decision::Refused(refusal) => {
                self.tally.borrow_mut().refuse_all(account, &refusal);
                account
                    .movements
                    .iter()
                    .for_each(|_| self.progress.decided());
                return Ok(None);
            }
        }
        for movement in &account.movements {
            self.movement(&account.id, movement).await?;
        }
        Ok(Some(&account.id))
    }

    async fn movement(&self, account: &AccountId, movement: &Movement) -> Result<(), Stopped> {
        let call = client::post(account, movement);
        let delivered = self.courier.paced(&call, verdict::of_movement).await?;
        let mut tally = self.tally.borrow_mut();
        match delivered.value {
            // Where an answer of ours was lost, the replay is most likely of our own request. After
            // an outage the count of what was there already is therefore a lower bound.
            Decision::Accepted { already } => {
                tally.accept(movement, already && !delivered.perhaps_ours);
            }
            Decision::Refused(refusal) => tally.refuse(account, movement, &refusal),
        }
        self.progress.decided();
        Ok(())
    }

    async fn balance(&self, account: &AccountId) -> Result<Money, Stopped> {
        let delivered = self
            .courier
            .direct(&client::read(account), verdict::of_balance)
            .await?;
        Ok(delivered.value)
    }
}
