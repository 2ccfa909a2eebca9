#![allow(
    clippy::print_stdout,
    reason = "the report is what this command is for"
)]
//! `atalaya import mysql://…`: moving in from a database of `clientes` and `transacciones`.
//!
//! [`old`] reads it in pages, [`rows`] says what each row means, [`crate::domain::moving`] plans
//! what to post for one account, [`target`] posts it through the journal, and [`report`] tells what
//! came of it. An account is planned whole before any of it is posted. Nothing is remembered on
//! this side: every posting has a key that follows from the row it stands for, and an account's
//! last posting tells how far it has come. So a move that was killed is resumed by running it again.

mod figure;
mod old;
mod report;
mod rows;
mod target;

use super::progress::Progress;
use super::{EXIT_USAGE, ImportArgs};
use crate::application::ApplicationError;
use crate::cli::text::Shown;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::moving::{self, Immovable, MovePlan, OldMovement, Origin, Step};
use crate::domain::{AccountId, Command, Order};
use crate::storage::connection::MysqlUrl;
use crate::storage::moving::Standing;
use crate::storage::{Location, StorageError};
use crate::wire::numbers::parse_date;
use anstream::{eprintln, println};
use jiff::Zoned;
use jiff::tz::TimeZone;
use old::{OldError, OldSystem, Stray};
use report::{Discrepancy, HEADING, Rejected, Totals};
use rows::{Client, RawClient, RawMovement, Reading, Rounding};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;
use target::Target;

/// Rows named of one account whose rows are wrong.
const BAD_ROWS_SHOWN: usize = 5;

/// Why a move ended before everything was in.
#[derive(Debug, thiserror::Error)]
enum MoveError {
    /// The old system.
    #[error(transparent)]
    Old(#[from] OldError),
    /// Our own database cannot be opened.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// Our own database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Something was not written; for people.
    #[error("{0}")]
    Stopped(String),
}

/// Moves in: 0 when everything is in, 1 when something was rejected or it had to stop, 2 when the
/// command line is wrong and nothing was read.
///
/// # Errors
/// What a person has to mend; the text says what.
pub(super) fn run(args: &ImportArgs, source: &str) -> Result<ExitCode, Box<dyn Error>> {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let url = match MysqlUrl::parse(source) {
        Ok(url) => url,
        // Not the text itself: there may be a password in it.
        Err(StorageError::Url { reason }) => return Ok(usage(&format!("origen: {reason}"))),
        Err(error) => return Err(error.into()),
    };
    let zone = match &args.zona {
        None => TimeZone::system(),
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(_) => return Ok(usage(&format!("no se conoce la zona horaria {name:?}"))),
        },
    };
    let config = Config::try_from(args.serve.clone())?;
    if let Location::Mysql(own) = &config.database
        && own.is_same_database(&url)
    {
        return Ok(usage(
            "el origen es la base de datos de Atalaya: DATABASE_URL tiene que nombrar otra",
        ));
    }
    eprintln!("atalaya import: de {url} a {}", config.database);
    // First of all: a server that runs would have to be stopped anyway.
    let target = if args.dry_run {
        Target::look(&config)?
    } else {
        Target::open(&config, &Clock::system())?
    };
    let mut reporter = Reporter::new(args.json, args.dry_run);
    let moved = move_in(&config, &url, &zone, target, &mut reporter);
    if let Err(error) = &moved {
        eprintln!("atalaya import: {error}");
        if !matches!(error, MoveError::Old(OldError::Form(_))) {
            eprintln!("atalaya import: ejecute otra vez la misma orden para continuar donde quedó");
        }
    }
    Ok(reporter.finish(moved.is_ok()))
}

fn usage(reason: &str) -> ExitCode {
    eprintln!("atalaya import: {reason}");
    ExitCode::from(EXIT_USAGE)
}

fn move_in(
    config: &Config,
    url: &MysqlUrl,
    zone: &TimeZone,
    target: Target,
    reporter: &mut Reporter,
) -> Result<(), MoveError> {
    let opened = OldSystem::open(url).and_then(|old| {
        let reading = old.reading(zone.clone(), config.cedula_check)?;
        Ok((old, reading))
    });
    let (old, reading) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            target.close();
            return Err(error.into());
        }
    };
    let mut mover = Mover {
        old,
        reading,
        target,
        reporter,
        today: today(zone),
    };
    let ended = mover.run();
    // What was handed in is committed even where the rest had to be left.
    mover.target.close();
    ended
}

fn today(zone: &TimeZone) -> i32 {
    let date = Zoned::now().with_time_zone(zone.clone()).date();
    parse_date(&date.to_string()).unwrap_or_default()
}

/// A move under way.
struct Mover<'a> {
    old: OldSystem,
    reading: Reading,
    target: Target,
    reporter: &'a mut Reporter,
    today: i32,
}

impl Mover<'_> {
    fn run(&mut self) -> Result<(), MoveError> {
        let counts = self.old.counts()?;
        self.reporter.expect(counts);
        if let Some(table) = self.old.unprotected() {
            self.reporter.progress.beside(|| {
                eprintln!(
                    "atalaya import: la tabla {table} no es InnoDB y no da una vista fija: nadie debe \
                     escribir en el sistema anterior mientras dure la mudanza"
                );
            });
        }
        let ambiguous = self.reject_ambiguous()?;
        self.reject_orphans()?;
        let page = OldSystem::page(counts);
        let mut after: Option<String> = None;
        loop {
            let clients = self.old.clients(after.as_deref(), page)?;
            let Some(last) = clients.last() else { break };
            after = Some(last.cedula.clone());
            let clients = clients
                .into_iter()
                .filter(|client| !ambiguous.contains(client.cedula.trim_end()));
            let clients = self.with_ids(clients);
            self.accounts(&clients)?;
        }
        self.target.finish()
    }

    /// Rejects clients whose cédula others have too, or who have none.
    fn reject_ambiguous(&mut self) -> Result<HashSet<String>, MoveError> {
        let mut ambiguous = HashSet::new();
        for Stray { cedula, count, .. } in self.old.ambiguous()? {
            let reason = match &cedula {
                None => format!("clientes: {count} filas sin cédula"),
                Some(_) => format!("clientes: la cédula está en {count} filas"),
            };
            self.reporter.reject(cedula.as_deref(), reason);
            ambiguous.extend(cedula.map(|cedula| cedula.trim_end().to_owned()));
        }
        Ok(ambiguous)
    }

    /// Rejects movements that no client has.
    fn reject_orphans(&mut self) -> Result<(), MoveError> {
        for (orphan, place) in self.old.orphans()?.into_iter().zip(0..) {
            if place == old::EXAMPLES {
                let reason = "transacciones: hay más cédulas que no están en clientes";
                self.reporter.reject(Some("…"), reason.to_owned());
                break;
            }
            let first = Shown::from(orphan.first.as_deref().unwrap_or("NULL"));
            self.reporter.reject(
                orphan.cedula.as_deref(),
                format!(
                    "transacciones {}: la cédula no está en clientes ({} filas)",
                    first.as_str(),
                    orphan.count
                ),
            );
        }
        Ok(())
    }

    /// The clients whose cédula is one.
    fn with_ids(
        &mut self,
        clients: impl Iterator<Item = RawClient>,
    ) -> Vec<(AccountId, RawClient)> {
        let mut found = Vec::new();
        for client in clients {
            match self.reading.cedula(&client.cedula) {
                Ok(id) => found.push((id, client)),
                Err(reason) => self.reporter.reject(Some(&client.cedula), reason),
            }
        }
        found
    }

    /// Moves some accounts in; by halves where their movements are too many to be read at once.
    fn accounts(&mut self, clients: &[(AccountId, RawClient)]) -> Result<(), MoveError> {
        if clients.is_empty() {
            return Ok(());
        }
        let ids: Vec<AccountId> = clients.iter().map(|(id, _)| id.clone()).collect();
        let Some(rows) = self.old.movements(&ids)? else {
            if let [(id, _)] = clients {
                let most = old::MOST_OF_ONE;
                let reason = format!("transacciones: más de {most} filas de una sola cuenta");
                self.reporter.reject(Some(id.as_str()), reason);
                return Ok(());
            }
            let (first, second) = clients.split_at(clients.len() / 2);
            self.accounts(first)?;
            return self.accounts(second);
        };
        let mut histories: HashMap<String, Vec<RawMovement>> = HashMap::new();
        for row in rows {
            let cedula = row.cedula.as_deref().unwrap_or_default().trim_end();
            match histories.get_mut(cedula) {
                Some(history) => history.push(row),
                None => {
                    histories.insert(cedula.to_owned(), vec![row]);
                }
            }
        }
        for (id, client) in clients {
            let rows = histories.remove(id.as_str()).unwrap_or_default();
            match self.account(id, client, &rows)? {
                Ok(()) => {}
                Err(reason) => self.reporter.reject(Some(id.as_str()), reason),
            }
            self.reporter.progress.advance(rows.len());
        }
        // The old system takes these cédulas for one and the same, and Atalaya does not.
        for (cedula, rows) in histories {
            let first = Shown::from(
                rows.first()
                    .and_then(|row| row.id.as_deref())
                    .unwrap_or("NULL"),
            );
            let reason = format!(
                "transacciones {}: la cédula está escrita de otra manera que en clientes ({} filas)",
                first.as_str(),
                rows.len()
            );
            self.reporter.reject(Some(&cedula), reason);
            self.reporter.progress.advance(rows.len());
        }
        Ok(())
    }

    /// Moves one account in, or says for people why not.
    fn account(
        &mut self,
        id: &AccountId,
        raw: &RawClient,
        rows: &[RawMovement],
    ) -> Result<Result<(), String>, MoveError> {
        let mut rounding = Rounding(0);
        let read = self
            .reading
            .client(raw, &mut rounding)
            .and_then(|client| Ok((client, read_history(&self.reading, rows, &mut rounding)?)));
        let (client, history) = match read {
            Ok(read) => read,
            Err(reason) => return Ok(Err(reason)),
        };
        self.reporter.totals.cifras_redondeadas += rounding.0;
        let plan = match moving::plan(client.balance, &history, self.today) {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(immovable(error))),
        };
        let standing = self.target.standing(id)?;
        let done = match &standing {
            None => 0,
            Some(standing) => match self.done_of(id, standing, &client, &plan, &history) {
                Ok(done) => done,
                Err(reason) => return Ok(Err(reason)),
            },
        };
        if let Some(discrepancy) = Discrepancy::of(id, &plan, &history) {
            self.reporter.discrepancy(&discrepancy);
        }
        if standing.is_none() {
            let open = match self.opening(id, &client) {
                Ok(open) => open,
                Err(reason) => return Ok(Err(reason)),
            };
            self.target.order(open, None)?;
        }
        let mut is_new = standing.is_none();
        for (step, place) in plan.steps(&history).zip(0_usize..) {
            let is_movement = u64::from(matches!(step.origin, Origin::Movement(_)));
            if place < done {
                self.reporter.totals.movimientos_ya_estaban += is_movement;
                continue;
            }
            is_new = true;
            self.reporter.totals.movimientos_traidos += is_movement;
            let order = match self.order(id, &step) {
                Ok(order) => order,
                Err(reason) => return Err(MoveError::Stopped(format!("{id}: {reason}"))),
            };
            self.target.order(order, Some(step.posting))?;
        }
        self.reporter.totals.account(&plan, is_new);
        Ok(Ok(()))
    }

    /// How many steps of its plan an account that is there has made already.
    fn done_of(
        &self,
        id: &AccountId,
        standing: &Standing,
        client: &Client,
        plan: &MovePlan,
        history: &[OldMovement],
    ) -> Result<usize, String> {
        let same = standing.given_names == client.given_names.as_str()
            && standing.surnames == client.surnames.as_str();
        if !same {
            return Err("ya existe en Atalaya con otros nombres".to_owned());
        }
        let Some(last) = standing.last else {
            return Ok(0);
        };
        if !last.is_history {
            return Err("ya tiene en Atalaya movimientos que no son de la mudanza".to_owned());
        }
        // Versions count postings, so the last one's tells its place in the plan. If it is what the
        // plan says there, so are those before it: none was made without looking.
        let done = usize::try_from(last.posting.version).unwrap_or(usize::MAX);
        let step = plan.steps(history).nth(done.saturating_sub(1));
        let is_ours = step.is_some_and(|step| {
            self.order(id, &step)
                .is_ok_and(|order| last.is_of(&order, &step.posting))
        });
        if is_ours {
            return Ok(done);
        }
        Err(
            "lo que ya está en Atalaya no es lo que dice ahora el origen: cambió desde que la \
             cuenta se mudó"
                .to_owned(),
        )
    }

    fn opening(&self, id: &AccountId, client: &Client) -> Result<Order, String> {
        let command = Command::Open {
            account: id.clone(),
            given_names: client.given_names.clone(),
            surnames: client.surnames.clone(),
        };
        let key = self.reading.key(id.as_str(), "cuenta")?;
        Ok(Order::moving_in(command, None, key))
    }

    fn order(&self, id: &AccountId, step: &Step<'_>) -> Result<Order, String> {
        let key = match step.origin {
            Origin::Movement(movement) => movement.key.clone(),
            Origin::Opening => self.reading.key(id.as_str(), "ajuste")?,
            Origin::Closing => self.reading.key(id.as_str(), "ajuste-final")?,
        };
        Ok(Order::moving_in(step.command(id), Some(step.day), key))
    }
}

/// All movements of an account, or the first of those that are wrong.
fn read_history(
    reading: &Reading,
    rows: &[RawMovement],
    rounding: &mut Rounding,
) -> Result<Vec<OldMovement>, String> {
    let mut history = Vec::with_capacity(rows.len());
    let (mut reasons, mut wrong) = (Vec::new(), 0);
    let mut ids = HashSet::new();
    for row in rows {
        let movement = reading.movement(row, rounding).and_then(|movement| {
            if ids.insert(row.id.as_deref()) {
                return Ok(movement);
            }
            let id = Shown::from(&*movement.id);
            Err(format!("transacciones {}: el id se repite", id.as_str()))
        });
        match movement {
            Ok(movement) => history.push(movement),
            Err(reason) => {
                wrong += 1;
                if reasons.len() < BAD_ROWS_SHOWN {
                    reasons.push(reason);
                }
            }
        }
    }
    if wrong == 0 {
        return Ok(history);
    }
    let more = wrong - reasons.len();
    if more > 0 {
        reasons.push(format!("y {more} filas más"));
    }
    Err(reasons.join("; "))
}

fn immovable(error: Immovable) -> String {
    match error {
        Immovable::BelowZero(balance) => format!("clientes: saldo {balance}: es negativo"),
        Immovable::TooRich => "su historia suma más de lo que cabe en una cuenta".to_owned(),
    }
}

/// Tells what happens, and counts it.
struct Reporter {
    progress: Progress,
    totals: Totals,
    json: bool,
    headed: bool,
}

impl Reporter {
    fn new(json: bool, is_simulation: bool) -> Self {
        Self {
            progress: Progress::new(0),
            totals: Totals {
                simulacion: is_simulation,
                ..Totals::default()
            },
            json,
            headed: false,
        }
    }

    fn expect(&mut self, counts: old::Counts) {
        self.totals.clientes = u64::try_from(counts.clients).unwrap_or(0);
        self.progress
            .expect(u64::try_from(counts.movements).unwrap_or(0));
    }

    fn discrepancy(&mut self, discrepancy: &Discrepancy) {
        self.totals.cuentas_con_discrepancias += 1;
        if !self.json && !self.headed {
            self.headed = true;
            self.progress.beside(|| println!("{HEADING}"));
        }
        self.line(discrepancy);
    }

    fn reject(&mut self, cedula: Option<&str>, reason: String) {
        self.totals.rechazos += 1;
        self.line(&Rejected {
            cedula: Shown::from(cedula.unwrap_or("NULL")).as_str().to_owned(),
            rechazo: reason,
        });
    }

    fn line(&self, line: &(impl Serialize + Display)) {
        self.progress.beside(|| self.print(line));
    }

    fn print(&self, line: &(impl Serialize + Display)) {
        if self.json {
            // What is told is ours and always serialises.
            println!("{}", serde_json::to_string(line).unwrap_or_default());
        } else {
            println!("{line}");
        }
    }

    fn finish(mut self, is_complete: bool) -> ExitCode {
        self.progress.finish();
        self.totals.completo = is_complete && self.totals.rechazos == 0;
        self.print(&self.totals);
        if self.totals.completo {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
