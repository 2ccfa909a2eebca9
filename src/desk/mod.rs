//! The desk: where every edge hands in what its clients ask, and gets back what to answer.
//!
//! REST, WebSocket and TCP turn bytes into the calls below; here they are parsed into
//! domain types, authorised, sent to the actors, and the results turned into one set of answers.

mod access;
mod alerts;
mod counter;
mod legacy;
mod logs;
mod registry;
mod rules;

pub use alerts::{AlertQuery, AlertRequest};
pub use logs::LogQuery;

use crate::actors::account::{AccountActor, FindAccount, ListMovements, PlaceOrder, ReadError};
use crate::actors::alert_validator::AlertValidator;
use crate::actors::doorkeeper::{Doorkeeper, Trail};
use crate::actors::legacy_gate::LegacyGate;
use crate::actors::session::sight;
use crate::actors::session_hub::Pass;
use crate::actors::statistics::{LookAtStatistics, StatisticsActor, TakeStatistics};
use crate::clock::Clock;
use crate::domain::{
    AccountId, Action, CedulaCheck, Channel, Command, Counter, Decision, Denied, Entry, Fact,
    IdempotencyKey, Identity, Money, Order, Outcome, Reach, Refusal, Resource, Slug, authorize,
};
use crate::instruments::Instruments;
use crate::log_files::LogFolder;
use crate::mqtt::status::StatusBoard;
use crate::storage::access::Standing;
use crate::storage::queries::AccountView;
use crate::storage::{self, AccessView, Connection, HubView, ReadPool, StorageError, WriteError};
use crate::wire::bridge::Figures;
use crate::wire::events::{self, Statistics, json};
use crate::wire::numbers::Decimal;
use crate::wire::requests::{self, MovementBody, OpenAccountBody, TransferBody};
use crate::wire::resources::{AccountResource, MovementResource, Page};
use crate::wire::{Problem, ProblemKind, Reason};
use actix::Addr;
use bytes::Bytes;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long anybody waits for an actor or a commit before being told to ask again under the same
/// key. A commit takes milliseconds; ten seconds of silence mean that something is stuck.
const DEADLINE: Duration = Duration::from_secs(10);

/// Movements on a page where none is asked for, and at most.
const PAGE: u32 = 50;
const PAGE_MAX: u32 = 200;

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// JSON.
    pub body: Bytes,
    /// Whether it was decided earlier, under the same key.
    pub replayed: bool,
}

/// A bad answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong.
    pub problem: Problem,
    /// Whether it was decided earlier, under the same key.
    pub replayed: bool,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            replayed: false,
        }
    }
}

impl From<ProblemKind> for Failure {
    fn from(kind: ProblemKind) -> Self {
        Problem::of(kind).into()
    }
}

/// An order that was carried out.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Its place in the journal.
    pub entry: Arc<Entry>,
    /// Whether it was decided earlier, under the same key.
    pub replayed: bool,
}

impl Placed {
    fn reply(self, body: impl FnOnce(&Entry) -> Option<Bytes>) -> Answer {
        let body = body(&self.entry).ok_or(ProblemKind::Internal)?;
        Ok(Reply {
            body,
            replayed: self.replayed,
        })
    }
}

/// What an edge answers.
pub type Answer = Result<Reply, Failure>;

/// Who asks, through which edge.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who, with all that they may.
    pub identity: Arc<Identity>,
    /// The token that they have shown, if any.
    pub standing: Option<Standing>,
    /// Through which edge.
    pub channel: Channel,
    /// From where.
    pub address: Option<IpAddr>,
    /// Where refusals are told.
    pub trail: Trail,
}

/// Deposit or withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Pay in.
    In,
    /// Pay out.
    Out,
}

/// What is behind the desk.
#[derive(Clone)]
pub struct DeskParts {
    /// Where money commands go.
    pub accounts: Addr<AccountActor>,
    /// Where statistics come from.
    pub statistics: Addr<StatisticsActor>,
    /// Where messages of devices and orders to the hub go.
    pub validator: Addr<AlertValidator>,
    /// Where people sign in, and changes of access go.
    pub doorkeeper: Addr<Doorkeeper>,
    /// Where devices from before Atalaya are let in.
    pub legacy: Addr<LegacyGate>,
    /// Where it is seen who is let in.
    pub access: Arc<AccessView>,
    /// Where the registry is seen.
    pub view: Arc<HubView>,
    /// What devices say of themselves.
    pub statuses: Arc<StatusBoard>,
    /// Connections for reading.
    pub readers: ReadPool,
    /// What the service has logged.
    pub logs: LogFolder,
    /// The check of new account ids.
    pub cedula_check: CedulaCheck,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub instruments: Instruments,
    /// The installation, which messages of devices name as their audience.
    pub installation: Slug,
}

/// Reads of alerts and the registry at once: the pool has four connections.
const READS: usize = 64;

/// The desk; clones share the actors behind it.
#[derive(Clone)]
pub struct Desk {
    parts: DeskParts,
    reads: Arc<Semaphore>,
    log_reads: Arc<Semaphore>,
    /// Orders that have been handed in and not answered.
    under_way: Arc<AtomicU64>,
}

/// One order that is under way, for as long as it is.
struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn one_of(orders: &'a AtomicU64) -> Self {
        orders.fetch_add(1, Ordering::Relaxed);
        Self(orders)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Desk {
    /// A desk in front of `parts`.
    #[must_use]
    pub fn new(parts: DeskParts) -> Self {
        Self {
            parts,
            reads: Arc::new(Semaphore::new(READS)),
            log_reads: Arc::new(Semaphore::new(logs::READS)),
            under_way: Arc::default(),
        }
    }

    /// Opens an account. A key is welcome but not demanded: an account cannot be opened twice.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn open_account(
        &self,
        caller: &Caller,
        body: &OpenAccountBody,
        key: Option<&str>,
    ) -> Answer {
        let (resource, replayed) = self.account_opened(caller, body, key).await?;
        Ok(Reply {
            body: json(&resource),
            replayed,
        })
    }

    /// The same for edges that do not answer with JSON: the account, and whether it was opened
    /// earlier under the same key.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn account_opened(
        &self,
        caller: &Caller,
        body: &OpenAccountBody,
        key: Option<&str>,
    ) -> Result<(AccountResource, bool), Failure> {
        let account = requests::account_id(&body.cedula)?;
        account
            .check(self.parts.cedula_check)
            .map_err(|e| Problem::of(ProblemKind::InvalidAccountId).because(e))?;
        let given_names = requests::person_name("nombres", &body.nombres)?;
        let surnames = requests::person_name("apellidos", &body.apellidos)?;
        let resource = AccountResource {
            cedula: account.to_string(),
            nombres: given_names.as_str().to_owned(),
            apellidos: surnames.as_str().to_owned(),
            saldo: Decimal(Money::ZERO),
            version: 0,
        };
        let counter = counter_of(caller, Action::OpenAccount, None)?;
        let order = Order {
            command: Command::Open {
                account,
                given_names,
                surnames,
            },
            principal: caller.identity.principal.clone(),
            channel: caller.channel,
            company: Some(counter.company.row),
            site: None,
            value_date: None,
            key: key.map(parse_key).transpose()?,
        };
        // Under a key the command is the same, so the account it opened had these very names.
        let placed = self.place(order).await?;
        Ok((resource, placed.replayed))
    }

    /// Deposits to or withdraws from an account.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn move_money(
        &self,
        caller: &Caller,
        direction: Direction,
        account: &str,
        body: &MovementBody,
        key: Option<&str>,
    ) -> Answer {
        let placed = self
            .money_moved(caller, direction, account, body, key)
            .await?;
        placed.reply(|entry| match &entry.fact {
            Fact::Posted(movement) => Some(json(&events::transaction(entry, movement))),
            _ => None,
        })
    }

    /// The same for edges that do not answer with JSON: the entry of the movement.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn money_moved(
        &self,
        caller: &Caller,
        direction: Direction,
        account: &str,
        body: &MovementBody,
        key: Option<&str>,
    ) -> Result<Placed, Failure> {
        let account = requests::account_id(account)?;
        let amount = requests::amount(&body.monto)?;
        let site = requests::site(body.sede.as_deref())?;
        let counter = counter_of(caller, Action::MoveMoney, site.as_ref())?;
        let order = Order {
            command: match direction {
                Direction::In => Command::Deposit { account, amount },
                Direction::Out => Command::Withdraw { account, amount },
            },
            principal: caller.identity.principal.clone(),
            channel: caller.channel,
            company: Some(counter.company.row),
            site: counter.site,
            value_date: requests::value_date(body.fecha_valor.as_deref())?,
            key: key_of(caller, key)?,
        };
        self.place(order).await
    }

    /// Transfers between two accounts.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn transfer(
        &self,
        caller: &Caller,
        body: &TransferBody,
        key: Option<&str>,
    ) -> Answer {
        let placed = self.transferred(caller, body, key).await?;
        placed.reply(|entry| match &entry.fact {
            Fact::Posted(movement) => events::transfer(entry, movement).map(|body| json(&body)),
            _ => None,
        })
    }

    /// The same for edges that do not answer with JSON: the entry of the origin's side.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn transferred(
        &self,
        caller: &Caller,
        body: &TransferBody,
        key: Option<&str>,
    ) -> Result<Placed, Failure> {
        let origin = requests::account_id(&body.cedula_origen)?;
        let destination = requests::account_id(&body.cedula_destino)?;
        let site = requests::site(body.sede.as_deref())?;
        let counter = counter_of(caller, Action::MoveMoney, site.as_ref())?;
        if origin == destination {
            return Err(ProblemKind::SameAccount.into());
        }
        let order = Order {
            command: Command::Transfer {
                origin,
                destination,
                amount: requests::amount(&body.monto)?,
            },
            principal: caller.identity.principal.clone(),
            channel: caller.channel,
            company: Some(counter.company.row),
            site: counter.site,
            value_date: requests::value_date(body.fecha_valor.as_deref())?,
            key: key_of(caller, key)?,
        };
        self.place(order).await
    }

    /// Reads an account.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn account(&self, caller: &Caller, account: &str) -> Answer {
        reply(&self.account_found(caller, account).await?)
    }

    /// The same for edges that do not answer with JSON.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn account_found(
        &self,
        caller: &Caller,
        account: &str,
    ) -> Result<AccountResource, Failure> {
        let account = requests::account_id(account)?;
        let reach = allow(caller, Action::ReadAccount, Resource::Account(&account))?;
        let found = self.find(reach, account).await?;
        let view = found.ok_or(ProblemKind::UnknownAccount)?;
        Ok(counter::account_resource(view))
    }

    /// Reads a page of an account's movements, newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn movements(
        &self,
        caller: &Caller,
        account: &str,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Answer {
        reply(&self.movements_found(caller, account, limit, cursor).await?)
    }

    /// The same for edges that do not answer with JSON.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn movements_found(
        &self,
        caller: &Caller,
        account: &str,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<MovementResource>, Failure> {
        let account = requests::account_id(account)?;
        let reach = allow(caller, Action::ReadAccount, Resource::Account(&account))?;
        let limit = limit.unwrap_or(PAGE);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(invalid_parameter((
                "limite: se espera de 1 a 200",
                "limite: expected 1 to 200",
            )));
        }
        let from = cursor
            .map(|text| text.parse::<i64>().ok().filter(|seq| *seq > 0))
            .map(|seq| {
                seq.ok_or_else(|| {
                    invalid_parameter(("cursor: no es uno nuestro", "cursor: not one of ours"))
                })
            })
            .transpose()?;
        let asked = ListMovements {
            within: reach.clone(),
            account: account.clone(),
            from,
            limit: usize::try_from(limit).unwrap_or(0),
        };
        let history = within(self.parts.accounts.send(asked))
            .await?
            .map_err(unread)?;
        let Some(history) = history else {
            return Err(match from {
                Some(_) => self.no_such_page(reach, account).await?,
                None => ProblemKind::UnknownAccount.into(),
            });
        };
        let datos = history
            .entries
            .iter()
            .filter_map(|(entry, site)| match &entry.fact {
                Fact::Posted(movement) => {
                    Some(MovementResource::new(entry, movement, site.clone()))
                }
                _ => None,
            })
            .collect();
        Ok(Page {
            datos,
            siguiente: history.next.map(|seq| seq.to_string()),
        })
    }

    /// Takes statistics, which also publishes them.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn statistics(&self, caller: &Caller) -> Answer {
        reply(&self.statistics_taken(caller).await?)
    }

    /// The same for edges that do not answer with JSON.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn statistics_taken(&self, caller: &Caller) -> Result<Statistics, Failure> {
        allow(caller, Action::ReadStatistics, Resource::Any)?;
        let statistics = within(self.parts.statistics.send(TakeStatistics)).await?;
        Ok(statistics.ok_or(ProblemKind::ShuttingDown)?)
    }

    /// The same figures as the front end from before Atalaya knows them.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn figures(&self, caller: &Caller) -> Result<Figures, Failure> {
        let statistics = self.statistics_taken(caller).await?;
        let under_way = self.under_way.load(Ordering::Relaxed);
        Ok(Figures::new(&statistics, under_way))
    }

    /// The same, not older than a second, for those who are told again and again.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn figures_lately(&self, caller: &Caller) -> Result<Figures, Failure> {
        allow(caller, Action::ReadStatistics, Resource::Any)?;
        let statistics = within(self.parts.statistics.send(LookAtStatistics)).await?;
        let statistics = statistics.ok_or(ProblemKind::ShuttingDown)?;
        let under_way = self.under_way.load(Ordering::Relaxed);
        Ok(Figures::new(&statistics, under_way))
    }

    /// Whether the caller may read metrics, which are of the installation as a whole.
    ///
    /// # Errors
    /// 401 or 403.
    pub fn may_read_metrics(&self, caller: &Caller) -> Result<(), Problem> {
        allow(caller, Action::ReadMetrics, Resource::Installation).map(drop)
    }

    /// What a session may see and for how long; `None` for whoever has neither shown a token nor
    /// comes from a trusted address.
    #[must_use]
    pub fn pass(&self, caller: &Caller) -> Option<Pass> {
        let Some(standing) = caller.standing.clone() else {
            let trusted = caller.identity.is_somebody();
            return trusted.then(|| Pass::trusted(&caller.identity));
        };
        let (access, clock) = (Arc::clone(&self.parts.access), self.parts.clock.clone());
        Some(Pass::new(standing, access, clock))
    }

    /// Whether the caller may see the events under an MQTT filter.
    ///
    /// # Errors
    /// 403, or 422 where it is no filter.
    pub fn may_subscribe(&self, caller: &Caller, filter: &str) -> Result<(), Problem> {
        let valid = rumqttc::mqttbytes::valid_filter(filter)
            && filter.len() <= 256
            && !filter.contains('\0');
        if !valid {
            return Err(Problem::of(ProblemKind::InvalidFilter));
        }
        sight::may_subscribe(&caller.identity, filter)
            .map_err(|denied| caller.refuse(denied, Action::ReadAccount, ProblemKind::Forbidden))
    }

    /// Counts a problem that an edge is about to answer.
    pub fn count_problem(&self, problem: &Problem) {
        self.parts
            .instruments
            .problems
            .with_label_values(&[problem.kind.code()])
            .inc();
    }

    async fn place(&self, order: Order) -> Result<Placed, Failure> {
        let _counted = UnderWay::one_of(&self.under_way);
        let ticket = within(self.parts.accounts.send(PlaceOrder(order)))
            .await?
            .map_err(unwritten)?;
        let decision: Decision = within(ticket).await?.map_err(unwritten)?;
        let replayed = decision.replayed;
        match decision.outcome {
            Outcome::Done(entry) => Ok(Placed { entry, replayed }),
            Outcome::Refused(refusal) => Err(Failure {
                problem: refused(refusal),
                replayed,
            }),
        }
    }

    /// Reads from the database, a bounded number at a time.
    async fn read<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
    {
        let permit = Arc::clone(&self.reads).try_acquire_owned();
        let _permit = permit.map_err(|_| ProblemKind::Overloaded)?;
        match tokio::time::timeout(DEADLINE, storage::read(&self.parts.readers, work)).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => Err(unread(error.into())),
            Err(_) => Err(ProblemKind::StorageUnavailable.into()),
        }
    }

    async fn find(&self, reach: Reach, account: AccountId) -> Result<Option<AccountView>, Failure> {
        let asked = FindAccount {
            within: reach,
            account,
        };
        within(self.parts.accounts.send(asked))
            .await?
            .map_err(unread)
    }

    /// Tells an unknown account from a cursor that is not one of its own.
    async fn no_such_page(&self, reach: Reach, account: AccountId) -> Result<Failure, Failure> {
        Ok(match self.find(reach, account).await? {
            Some(_) => invalid_parameter((
                "cursor: no es de esta cuenta",
                "cursor: not one of this account",
            )),
            None => ProblemKind::UnknownAccount.into(),
        })
    }
}

/// Waits for an answer, but not for ever.
async fn within<T, E>(answer: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        // The actor or the writer went away with the question: the process is on its way out.
        Ok(Err(_)) => Err(ProblemKind::ShuttingDown.into()),
        Err(_) => Err(ProblemKind::StorageUnavailable.into()),
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "it ends calls that answer `Answer`"
)]
fn reply(body: &impl serde::Serialize) -> Answer {
    Ok(Reply {
        body: json(body),
        replayed: false,
    })
}

/// Whether the caller may, and within what.
fn allow(caller: &Caller, action: Action, resource: Resource<'_>) -> Result<Reach, Problem> {
    authorize(&caller.identity, action, resource).map_err(|denied| {
        // What lies outside answers like what is missing.
        let missing = match resource {
            Resource::Account(_) => ProblemKind::UnknownAccount,
            Resource::Company(_) => ProblemKind::UnknownCompany,
            Resource::Any | Resource::Installation => ProblemKind::Forbidden,
        };
        caller.refuse(denied, action, missing)
    })
}

/// Where the caller does `action` with money. A site that is not theirs is as if it were not.
fn counter_of(caller: &Caller, action: Action, site: Option<&Slug>) -> Result<Counter, Problem> {
    crate::domain::counter(&caller.identity, action, site)
        .map_err(|denied| caller.refuse(denied, action, ProblemKind::UnknownSite))
}

impl Caller {
    /// The problem that a denial is to the caller, which is kept if they have said who they are.
    fn refuse(&self, denied: Denied, action: Action, missing: ProblemKind) -> Problem {
        if denied != Denied::Unknown {
            self.trail.refused(self, action);
        }
        match denied {
            Denied::Unknown => ProblemKind::Unauthenticated,
            Denied::MustChange => ProblemKind::PasswordMustChange,
            Denied::Never => ProblemKind::Forbidden,
            Denied::NotHere => missing,
        }
        .into()
    }
}

fn parse_key(text: &str) -> Result<IdempotencyKey, Problem> {
    IdempotencyKey::parse(text).map_err(|e| Problem::of(ProblemKind::InvalidKey).because(e))
}

/// The key of a command that moves money, which some edges do without.
fn key_of(caller: &Caller, key: Option<&str>) -> Result<Option<IdempotencyKey>, Problem> {
    if key.is_none() && caller.channel.demands_key() {
        return Err(ProblemKind::MissingKey.into());
    }
    key.map(parse_key).transpose()
}

fn invalid_parameter(reason: impl Into<Reason>) -> Failure {
    Problem::of(ProblemKind::InvalidParameter)
        .because(reason)
        .into()
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::InsufficientBalance { balance } => {
            Problem::of(ProblemKind::InsufficientBalance).with_balance(balance)
        }
        Refusal::BalanceLimit => ProblemKind::BalanceLimit.into(),
        Refusal::UnknownAccount => ProblemKind::UnknownAccount.into(),
        Refusal::UnknownDestination => ProblemKind::UnknownDestination.into(),
        Refusal::AccountExists => ProblemKind::AccountExists.into(),
    }
}

fn unwritten(error: WriteError) -> Failure {
    match error {
        WriteError::Overloaded => ProblemKind::Overloaded,
        WriteError::Unavailable => ProblemKind::StorageUnavailable,
        WriteError::ShuttingDown => ProblemKind::ShuttingDown,
        WriteError::KeyReused => ProblemKind::KeyReused,
        WriteError::UnknownSite => ProblemKind::UnknownSite,
        WriteError::SameAccount => ProblemKind::SameAccount,
        // Only moving in says where an account has to be, and that has no edge.
        WriteError::OutOfPlace => ProblemKind::Internal,
    }
    .into()
}

fn unread(error: ReadError) -> Failure {
    match error {
        ReadError::Overloaded => ProblemKind::Overloaded.into(),
        ReadError::Storage(error) => {
            log::error!("a read failed: {error}");
            ProblemKind::StorageUnavailable.into()
        }
    }
}
