//! `atalaya device simulate`: many devices in one process, as a scenario says.
//!
//! [`cast`] gives every device its identity, [`player`] is one device, [`clockwork`] and
//! [`reflexes`] say what it does by itself and because of what it hears, [`stage`] is what all
//! share, and this file opens and closes the play.

mod cast;
mod clockwork;
mod player;
mod reflexes;
mod stage;
mod tally;

use super::registry::{PATIENCE, Registry};
use super::scenario::{Scenario, Span};
use crate::cli::api::BaseUrl;
use crate::cli::broker::BrokerArgs;
use crate::cli::serve::raise_file_limit;
use crate::cli::token::TokenArgs;
use anstream::eprintln;
use cast::Casting;
use player::{Player, Progress};
use stage::{Act, Stage};
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tally::Tally;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Something got in that must not, or a device could not go on.
const EXIT_ALARMING: u8 = 1;
/// Something was never answered.
const EXIT_INCOMPLETE: u8 = 2;

/// How often the director looks.
const GLANCE: Duration = Duration::from_millis(50);

/// How long devices stay once everything is answered, for the orders that follow an answer.
const REST: Duration = Duration::from_millis(500);

/// How long the last answers are waited for after Ctrl-C.
const HURRY: Duration = Duration::from_secs(2);

/// Arguments of `atalaya device simulate`.
///
/// The exit code is 0 where every alert was answered, 1 where an impostor got in or a device could
/// not go on, and 2 where an alert was never answered.
#[derive(Debug, clap::Args)]
pub(super) struct SimulateArgs {
    /// Scenario file, in TOML
    scenario: PathBuf,

    /// Address of the server, where the scenario enrols devices
    #[arg(long, env = "ATALAYA_URL", value_parser = BaseUrl::parse)]
    url: Option<BaseUrl>,

    #[command(flatten)]
    token: TokenArgs,

    /// Folder of the devices' credentials
    #[arg(long, value_name = "DIR", default_value_os_t = cast::default_folder())]
    credenciales: PathBuf,

    /// Stop after this long, as in 30s or 5m [default: the scenario's]
    #[arg(long, value_name = "TIME", value_parser = span)]
    duration: Option<Span>,

    /// Seed of what is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Write what becomes of each message to this file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    diario: Option<PathBuf>,

    /// Print the summary as one JSON object; what devices see goes to stderr
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    broker: BrokerArgs,
}

/// Plays a scenario.
///
/// # Errors
/// What has to be mended before it can begin.
pub(super) async fn run(args: &SimulateArgs) -> Result<ExitCode, Box<dyn Error>> {
    let path = args.scenario.display();
    let text = std::fs::read_to_string(&args.scenario).map_err(|e| format!("{path}: {e}"))?;
    let scenario = Scenario::parse(&text).map_err(|e| format!("{path}: {e}"))?;
    let journal = args.diario.as_ref().map(|path| {
        File::create(path).map_err(|e| format!("no se puede crear {}: {e}", path.display()))
    });
    let journal = journal.transpose()?;
    raise_file_limit();

    let stage = Rc::new(Stage::new(Tally::new(args.seed), args.json, journal));
    let (acts, act) = watch::channel(Act::Play);
    let players = cast(args, &scenario, &stage, &act).await?;
    let began = Instant::now();
    let count = players.len();
    let mut troupe = Troupe::start(players, acts);
    troupe.direct(args, &scenario, &stage).await?;
    troupe.close().await;

    stage.flush()?;
    let tally = stage.tally.replace(Tally::new(args.seed));
    let summary = tally.summary(&scenario.nombre, count, began.elapsed());
    let text = if args.json {
        serde_json::to_string(&summary)?
    } else {
        format!("\n{summary}")
    };
    // Not `println!`, which panics where the reader has gone.
    let _ = writeln!(anstream::stdout(), "{text}");
    Ok(if summary.is_alarming() {
        ExitCode::from(EXIT_ALARMING)
    } else if summary.is_incomplete() {
        ExitCode::from(EXIT_INCOMPLETE)
    } else {
        ExitCode::SUCCESS
    })
}

/// Every device with its identity, ready to start.
async fn cast(
    args: &SimulateArgs,
    scenario: &Scenario,
    stage: &Rc<Stage>,
    act: &watch::Receiver<Act>,
) -> Result<Vec<Player>, Box<dyn Error>> {
    let default_url = BaseUrl::parse("http://127.0.0.1:5001")?;
    let url = args
        .url
        .clone()
        .or_else(|| scenario.enrolar.as_ref()?.url.clone());
    let registry = Registry::new(url.unwrap_or(default_url), PATIENCE, args.token.resolve()?)?;
    let registry = scenario.enrolar.is_some().then_some(registry);
    let mut casting = Casting::new(scenario, &args.credenciales, &args.broker, registry)?;
    let mut roles = Vec::new();
    for group in &scenario.dispositivos {
        for address in group.addresses()? {
            let place = roles.len() as u64;
            let role = tokio::select! {
                role = casting.role(group, address, place) => role?,
                _ = tokio::signal::ctrl_c() => return Err("interrumpido".into()),
            };
            roles.push((role, group));
        }
    }
    if casting.enrolled() > 0 {
        eprintln!(
            "atalaya device simulate: {} dispositivos enrolados",
            casting.enrolled()
        );
    }
    // Only now, so that all start together.
    let player = |(role, group)| Player::new(role, group, args.seed, Rc::clone(stage), act.clone());
    Ok(roles.into_iter().map(player).collect())
}

/// The devices while they play.
struct Troupe {
    acts: watch::Sender<Act>,
    progress: Vec<Rc<Progress>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Troupe {
    fn start(players: Vec<Player>, acts: watch::Sender<Act>) -> Self {
        Self {
            acts,
            progress: players.iter().map(Player::progress).collect(),
            tasks: players
                .into_iter()
                .map(|player| actix_web::rt::spawn(player.run()))
                .collect(),
        }
    }

    /// The play, from its beginning until the last answer is there or is not waited for any more.
    async fn direct(
        &mut self,
        args: &SimulateArgs,
        scenario: &Scenario,
        stage: &Stage,
    ) -> Result<(), Box<dyn Error>> {
        let mut stop = Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        let limit = args.duration.or(scenario.duracion).map(|span| span.0);
        let hurried = tokio::select! {
            () = self.until_played(limit, stage) => false,
            () = stop.asked() => true,
        };
        self.acts.send_replace(Act::Drain);
        let patience = if hurried { HURRY } else { scenario.espera.0 };
        let drained = async {
            while !self.progress.iter().all(|player| player.quiet.get()) {
                glance(stage).await;
            }
            tokio::time::sleep(REST).await;
        };
        tokio::select! {
            _ = tokio::time::timeout(patience, drained) => {}
            () = stop.asked() => {}
        }
        Ok(())
    }

    /// With a limit the play lasts so long; without one until every device has done what it does,
    /// which is never where one goes on for ever, or where none does anything by itself.
    async fn until_played(&self, limit: Option<Duration>, stage: &Stage) {
        let end = limit.map(|limit| Instant::now() + limit);
        loop {
            glance(stage).await;
            let over = match end {
                Some(end) => Instant::now() >= end,
                None => self.has_nothing_left(),
            };
            if over || stage.is_unread() {
                return;
            }
        }
    }

    fn has_nothing_left(&self) -> bool {
        let all = |holds: fn(&Progress) -> bool| self.progress.iter().all(|p| holds(p));
        let none_acts = all(|player| player.listens_only.get());
        let done = all(|player| !player.endless.get() && player.done.get() && player.quiet.get());
        !none_acts && done
    }

    /// Lets every device say goodbye.
    async fn close(self) {
        self.acts.send_replace(Act::Leave);
        for task in self.tasks {
            // A device that panicked has ended already, and the panic was told.
            let _ = task.await;
        }
    }
}

async fn glance(stage: &Stage) {
    tokio::time::sleep(GLANCE).await;
    stage.next_second();
}

/// Somebody wants it to end.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn span(text: &str) -> Result<Span, String> {
    let json = serde_json::Value::from(text);
    serde_json::from_value(json).map_err(|error| error.to_string())
}
