//! Lets people in: passwords, second factors, sessions, and the record of who came and who was
//! turned away.

mod hashing;
mod throttle;
mod trail;

pub use hashing::{Busy, hash};
pub(super) use throttle::Throttle;
pub use trail::Trail;

use self::hashing::Hashing;
use self::trail::Tally;
use crate::clock::Clock;
use crate::domain::device::Secret;
use crate::domain::password::Password;
use crate::domain::token::{Token, TokenDigest, TokenUse};
use crate::domain::{AccessEvent, Channel, Principal, Slug, second_factor};
use crate::storage::access::queries::{Credentials, credentials};
use crate::storage::access::{AccessNote, AccessView, PasswordHash, Standing};
use crate::storage::vault::{Vault, random};
use crate::storage::{
    self, AccessCommand, AccessOrder, AccessRefusal, ReadPool, StorageError, WriteError, Writer,
};
use actix::prelude::*;
use futures_util::stream;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages that wait for this actor; each is handled in microseconds, the slow part elsewhere.
const MAILBOX: usize = 256;

/// How often what happened for the first time is written.
const FLUSH: Duration = Duration::from_secs(1);

/// How often repeats, and when sessions were last used, are written.
const MINUTE: Duration = Duration::from_secs(60);

/// How long a ticket for a WebSocket connection is good, in microseconds: a page asks for one when
/// it is about to connect.
const TICKET: i64 = 30_000_000;

/// How long somebody may take to type the first code of a new second factor, in microseconds.
const SETUP: i64 = 600_000_000;

/// Tickets and half-made second factors at once; those that are over make room.
const PENDING: usize = 10_000;

/// Who asks, and from where.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who, as far as is known.
    pub principal: Principal,
    /// Through which edge.
    pub channel: Channel,
    /// From where.
    pub address: Option<IpAddr>,
}

/// Somebody wants to sign in.
#[derive(Debug, Message)]
#[rtype(result = "Result<SignedIn, NotIn>")]
pub struct SignIn {
    /// As whom, as they typed it.
    pub username: String,
    /// With which password.
    pub password: Password,
    /// With which code of their second factor.
    pub code: Option<String>,
    /// What the client calls itself.
    pub client: Option<String>,
    /// Through which edge.
    pub channel: Channel,
    /// From where.
    pub address: Option<IpAddr>,
}

/// Somebody is in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// What they show from now on.
    pub token: Token,
    /// The session.
    pub standing: Standing,
}

/// Why somebody is not in.
#[derive(Debug, thiserror::Error)]
pub enum NotIn {
    /// Name or password are wrong; which is not told.
    #[error("wrong name or password")]
    Wrong,
    /// The password is right and a code is needed.
    #[error("a code is needed")]
    CodeNeeded,
    /// The code is wrong, or was used.
    #[error("the code is wrong")]
    WrongCode,
    /// They tried too often; seconds to wait.
    #[error("too many attempts")]
    TooOften(u64),
    /// Too many passwords at once.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The database failed, or the change was refused.
    #[error(transparent)]
    Refused(#[from] AccessRefusal),
}

impl From<WriteError> for NotIn {
    fn from(error: WriteError) -> Self {
        Self::Refused(error.into())
    }
}

/// A change of access, written through.
#[derive(Debug, Message)]
#[rtype(result = "Result<i64, AccessRefusal>")]
pub struct ChangeAccess(pub AccessOrder);

/// Asks for the hash of a password.
#[derive(Debug, Message)]
#[rtype(result = "Result<PasswordHash, Busy>")]
pub struct HashPassword(pub Password);

/// Asks whether a password is that of the person called `username`. Counts as an attempt.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotIn>")]
pub struct CheckPassword {
    /// Whose.
    pub username: Slug,
    /// The password.
    pub password: Password,
    /// From where.
    pub address: Option<IpAddr>,
}

/// Asks for a ticket: somebody who is in wants to open one WebSocket connection.
#[derive(Debug, Message)]
#[rtype(result = "Result<Token, Busy>")]
pub struct IssueTicket(pub Standing);

/// Takes a ticket; it is good once.
#[derive(Debug, Message)]
#[rtype(result = "Option<Standing>")]
pub struct RedeemTicket(pub Token);

/// Begins a second factor: its secret, to be proved with a code within ten minutes.
#[derive(Debug, Message)]
#[rtype(result = "Result<Secret, Busy>")]
pub struct BeginSecondFactor {
    /// Whose.
    pub person: i64,
}

/// Proves that the app has the secret; from then on signing in needs a code.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotIn>")]
pub struct ProveSecondFactor {
    /// Whose.
    pub person: i64,
    /// Their name, under which attempts are counted.
    pub username: Slug,
    /// The code.
    pub code: String,
    /// Who asks, and from where.
    pub origin: Origin,
}

/// What the actor needs.
pub struct DoorkeeperParts {
    /// Where changes are written.
    pub writer: Writer,
    /// Connections for reading.
    pub readers: ReadPool,
    /// What seals second factors.
    pub vault: Vault,
    /// Who is let in.
    pub view: Arc<AccessView>,
    /// The time.
    pub clock: Clock,
    /// How long a session lasts whatever happens.
    pub session: Duration,
}

/// Lets people in, and keeps the record of who came.
///
/// * Full: the edges answer 503; the trail drops what a flood brings and counts the rest.
/// * Panic: ends the process. Restart: tickets and half-made second factors are gone with the
///   process, and asked for again; attempts are counted anew.
pub struct Doorkeeper {
    parts: Arc<DoorkeeperParts>,
    hashing: Hashing,
    throttle: Arc<Throttle>,
    trail: Trail,
    notes: Option<mpsc::Receiver<AccessNote>>,
    tally: Tally,
    tickets: HashMap<TokenDigest, (Standing, i64)>,
    setups: HashMap<i64, (Secret, i64)>,
}

impl Doorkeeper {
    /// A doorkeeper over `parts`, and the way to tell it of refusals.
    #[must_use]
    pub fn new(parts: DoorkeeperParts) -> (Self, Trail) {
        let (trail, notes) = Trail::new();
        let doorkeeper = Self {
            parts: Arc::new(parts),
            hashing: Hashing::new(),
            throttle: Arc::new(Throttle::new()),
            trail: trail.clone(),
            notes: Some(notes),
            tally: Tally::default(),
            tickets: HashMap::new(),
            setups: HashMap::new(),
        };
        (doorkeeper, trail)
    }

    /// Writes notes; what cannot be written is told in the log and not tried again.
    fn keep(&self, notes: Vec<AccessNote>, ctx: &mut Context<Self>) {
        if !notes.is_empty() {
            self.write_down(AccessCommand::Note(notes), ctx);
        }
    }

    fn write_down(&self, command: AccessCommand, ctx: &mut Context<Self>) {
        let order = AccessOrder {
            command,
            principal: Principal::System,
            channel: Channel::Internal,
            address: None,
        };
        let parts = Arc::clone(&self.parts);
        let written = async move {
            if let Err(error) = parts.change(order).await {
                log::warn!("the record of access has a gap: {error}");
            }
        };
        ctx.spawn(written.into_actor(self));
    }

    fn minute(&mut self, ctx: &mut Context<Self>) {
        let notes = self.tally.take_minute();
        self.keep(notes, ctx);
        self.write_down(AccessCommand::Touch(self.parts.view.take_seen()), ctx);
    }

    fn make_room(&mut self) {
        let now = self.parts.clock.now();
        if self.tickets.len() >= PENDING {
            self.tickets.retain(|_, (_, until)| *until > now);
        }
        if self.setups.len() >= PENDING {
            self.setups.retain(|_, (_, until)| *until > now);
        }
    }
}

impl DoorkeeperParts {
    async fn change(&self, order: AccessOrder) -> Result<i64, AccessRefusal> {
        let ticket = self.writer.submit_access(order)?;
        ticket
            .await
            .unwrap_or_else(|_| Err(WriteError::ShuttingDown.into()))
    }

    async fn credentials(&self, username: &str) -> Result<Option<Credentials>, NotIn> {
        let Ok(username) = Slug::parse(username) else {
            return Ok(None);
        };
        let read = storage::read(&self.readers, move |c| credentials(c, &username));
        read.await.map_err(|error: StorageError| {
            log::error!("a person cannot be looked up: {error}");
            WriteError::Unavailable.into()
        })
    }

    /// The step that `code` proves, where the person has a second factor.
    fn second_factor(
        &self,
        person: &Credentials,
        code: Option<&str>,
    ) -> Result<Option<i64>, NotIn> {
        let Some(sealed) = &person.second_factor else {
            return Ok(None);
        };
        let code = code.ok_or(NotIn::CodeNeeded)?;
        let secret = self
            .vault
            .unseal(&sealed_as(person.row), sealed)
            .map_err(|error| {
                log::error!("a second factor cannot be opened: {error}");
                WriteError::Unavailable
            })?;
        let seconds = self.clock.now().div_euclid(1_000_000);
        second_factor::proves(&secret, code, seconds, person.used_step)
            .map(Some)
            .ok_or(NotIn::WrongCode)
    }

    async fn open_session(
        &self,
        person: i64,
        step: Option<i64>,
        asked: &SignIn,
    ) -> Result<SignedIn, NotIn> {
        let random = random().map_err(|_| Busy)?;
        let token = Token::new(TokenUse::Session, random);
        let subject = self.view.subject(person);
        let principal = subject.map_or(Principal::Local, |s| s.identity.principal.clone());
        let lasting = i64::try_from(self.session.as_micros()).unwrap_or(i64::MAX);
        let command = AccessCommand::OpenSession {
            person,
            digest: token.digest(),
            expires_at: self.clock.now().saturating_add(lasting),
            client: asked.client.clone(),
            step,
        };
        let order = AccessOrder {
            command,
            principal,
            channel: asked.channel,
            address: asked.address,
        };
        self.change(order).await?;
        let standing = self.view.identify(&token, self.clock.now());
        let standing = standing.ok_or(NotIn::Wrong)?;
        Ok(SignedIn { token, standing })
    }
}

/// Under what name the second factor of the person in `row` is sealed.
fn sealed_as(row: i64) -> String {
    format!("second-factor-{row}")
}

impl Actor for Doorkeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        if let Some(notes) = self.notes.take() {
            ctx.add_stream(stream::unfold(notes, |mut notes| async move {
                let note = notes.recv().await?;
                Some((note, notes))
            }));
        }
        ctx.run_interval(FLUSH, |doorkeeper, ctx| {
            let notes = doorkeeper.tally.take_fresh();
            doorkeeper.keep(notes, ctx);
        });
        ctx.run_interval(MINUTE, Self::minute);
    }
}

impl StreamHandler<AccessNote> for Doorkeeper {
    fn handle(&mut self, note: AccessNote, _: &mut Self::Context) {
        self.tally.add(note);
    }
}

impl Handler<SignIn> for Doorkeeper {
    type Result = ResponseFuture<Result<SignedIn, NotIn>>;

    fn handle(&mut self, asked: SignIn, _: &mut Self::Context) -> Self::Result {
        let (parts, hashing) = (Arc::clone(&self.parts), self.hashing.clone());
        let (trail, throttle) = (self.trail.clone(), Arc::clone(&self.throttle));
        Box::pin(async move {
            let username = asked.username.clone();
            if let Err(seconds) = throttle.attempt(&username, asked.address) {
                trail.failed(AccessEvent::Throttled, None, &username, asked.address);
                return Err(NotIn::TooOften(seconds));
            }
            let person = parts.credentials(&username).await?;
            let row = person.as_ref().map(|person| person.row);
            let hash = person.as_ref().map(|person| person.password.clone());
            let right = hashing.verify(asked.password.clone(), hash).await?;
            let entered = match person.filter(|person| right && person.active) {
                None => Err(NotIn::Wrong),
                Some(person) => match parts.second_factor(&person, asked.code.as_deref()) {
                    Ok(step) => parts.open_session(person.row, step, &asked).await,
                    Err(error) => Err(error),
                },
            };
            if matches!(
                entered,
                Err(NotIn::Wrong
                    | NotIn::WrongCode
                    | NotIn::Refused(AccessRefusal::CodeUsed | AccessRefusal::Inactive))
            ) {
                trail.failed(AccessEvent::SignInFailed, row, &username, asked.address);
            }
            entered
        })
    }
}

impl Handler<CheckPassword> for Doorkeeper {
    type Result = ResponseFuture<Result<(), NotIn>>;

    fn handle(&mut self, asked: CheckPassword, _: &mut Self::Context) -> Self::Result {
        let (parts, hashing) = (Arc::clone(&self.parts), self.hashing.clone());
        let (trail, throttle) = (self.trail.clone(), Arc::clone(&self.throttle));
        Box::pin(async move {
            let username = asked.username.as_str();
            throttle
                .attempt(username, asked.address)
                .map_err(NotIn::TooOften)?;
            let person = parts.credentials(username).await?;
            let row = person.as_ref().map(|person| person.row);
            let hash = person.map(|person| person.password);
            if hashing.verify(asked.password, hash).await? {
                return Ok(());
            }
            trail.failed(AccessEvent::SignInFailed, row, username, asked.address);
            Err(NotIn::Wrong)
        })
    }
}

impl Handler<ChangeAccess> for Doorkeeper {
    type Result = ResponseFuture<Result<i64, AccessRefusal>>;

    fn handle(&mut self, ChangeAccess(order): ChangeAccess, _: &mut Self::Context) -> Self::Result {
        let parts = Arc::clone(&self.parts);
        Box::pin(async move { parts.change(order).await })
    }
}

impl Handler<HashPassword> for Doorkeeper {
    type Result = ResponseFuture<Result<PasswordHash, Busy>>;

    fn handle(&mut self, HashPassword(typed): HashPassword, _: &mut Self::Context) -> Self::Result {
        let hashing = self.hashing.clone();
        Box::pin(async move { hashing.hash(typed).await })
    }
}

impl Handler<IssueTicket> for Doorkeeper {
    type Result = Result<Token, Busy>;

    fn handle(
        &mut self,
        IssueTicket(standing): IssueTicket,
        _: &mut Self::Context,
    ) -> Self::Result {
        self.make_room();
        if self.tickets.len() >= PENDING {
            return Err(Busy);
        }
        let token = Token::new(TokenUse::Ticket, random().map_err(|_| Busy)?);
        let until = self.parts.clock.now() + TICKET;
        self.tickets.insert(token.digest(), (standing, until));
        Ok(token)
    }
}

impl Handler<RedeemTicket> for Doorkeeper {
    type Result = Option<Standing>;

    fn handle(&mut self, RedeemTicket(token): RedeemTicket, _: &mut Self::Context) -> Self::Result {
        let (standing, until) = self.tickets.remove(&token.digest())?;
        let now = self.parts.clock.now();
        let good = now < until && self.parts.view.stands(&standing, now, true);
        good.then_some(standing)
    }
}

impl Handler<BeginSecondFactor> for Doorkeeper {
    type Result = Result<Secret, Busy>;

    fn handle(&mut self, asked: BeginSecondFactor, _: &mut Self::Context) -> Self::Result {
        self.make_room();
        if self.setups.len() >= PENDING {
            return Err(Busy);
        }
        let secret = Secret(random().map_err(|_| Busy)?);
        let until = self.parts.clock.now() + SETUP;
        self.setups.insert(asked.person, (secret.clone(), until));
        Ok(secret)
    }
}

impl Handler<ProveSecondFactor> for Doorkeeper {
    type Result = ResponseFuture<Result<(), NotIn>>;

    fn handle(&mut self, asked: ProveSecondFactor, _: &mut Self::Context) -> Self::Result {
        let (username, address) = (asked.username.as_str(), asked.origin.address);
        if let Err(seconds) = self.throttle.attempt(username, address) {
            return Box::pin(std::future::ready(Err(NotIn::TooOften(seconds))));
        }
        let now = self.parts.clock.now();
        let begun = self.setups.get(&asked.person);
        let secret = begun
            .filter(|(_, until)| now < *until)
            .map(|(s, _)| s.clone());
        let proved = secret.and_then(|secret| {
            let seconds = now.div_euclid(1_000_000);
            let step = second_factor::proves(&secret, &asked.code, seconds, 0)?;
            Some((secret, step))
        });
        if proved.is_some() {
            self.setups.remove(&asked.person);
        }
        let parts = Arc::clone(&self.parts);
        Box::pin(async move {
            let (secret, step) = proved.ok_or(NotIn::WrongCode)?;
            let sealed = parts.vault.seal(&sealed_as(asked.person), &secret);
            let sealed = sealed.map_err(|_| Busy)?;
            let order = AccessOrder {
                command: AccessCommand::SetSecondFactor {
                    person: asked.person,
                    secret: Some((sealed, step)),
                },
                principal: asked.origin.principal,
                channel: asked.origin.channel,
                address: asked.origin.address,
            };
            parts.change(order).await?;
            Ok(())
        })
    }
}
