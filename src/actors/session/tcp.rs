//! One TCP connection of a teller's terminal: who it is, and what it asks.
//!
//! Its bytes are read and written by a task of their own ([`crate::tcp`]), which hands in one
//! command at a time and waits for the answer.

use crate::actors::doorkeeper::Trail;
use crate::actors::session_hub::{
    Connect, Deliver, Disconnect, KillSwitch, Pass, SessionHub, SessionId,
};
use crate::clock::Clock;
use crate::desk::{Caller, Desk, Direction, Failure};
use crate::domain::token::Token;
use crate::domain::{AccountId, Amount, Channel, Fact, Identity, Money, Movement};
use crate::instruments::Instruments;
use crate::limits::Limits;
use crate::storage::access::Standing;
use crate::storage::{AccessView, HubView};
use crate::trusted::TrustedNetworks;
use crate::wire::legacy::MOVEMENTS;
use crate::wire::line::{self, Command, Fault, Verb, answer};
use crate::wire::requests::{MovementBody, OpenAccountBody, TransferBody};
use crate::wire::{Problem, ProblemKind};
use actix::prelude::*;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long somebody who is let in may ask nothing. A terminal that nobody is at should not stay
/// open; fifteen minutes is what PCI DSS 4.0 (8.2.8) grants a person's session.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// How long nobody in particular may.
const NOBODY_IDLE: Duration = Duration::from_secs(30);

/// How long somebody may stay who has not said who they are, whatever they send meanwhile.
const NOBODY_STAYS: Duration = Duration::from_secs(120);

/// How often it shows the hub that it lives, whatever its client does: how long that may be silent
/// is decided here.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Messages that wait for this session: one command, and words of the hub.
const MAILBOX: usize = 16;

/// What a session needs from the house.
#[derive(Clone)]
pub struct TcpParts {
    /// Where commands go.
    pub desk: Desk,
    /// Where it is known which sessions there are.
    pub hub: Addr<SessionHub>,
    /// What is counted.
    pub instruments: Instruments,
    /// How much may be asked, over whichever edge.
    pub limits: Limits,
    /// Who is let in with a token.
    pub access: Arc<AccessView>,
    /// Who is let in without one.
    pub trusted: Arc<TrustedNetworks>,
    /// The companies and sites for which they are let in.
    pub view: Arc<HubView>,
    /// Where refusals are told.
    pub trail: Trail,
    /// The time.
    pub clock: Clock,
    /// The time zone of the dates that are shown.
    pub zone: TimeZone,
}

/// The connection is there: what is said first?
#[derive(Debug, Message)]
#[rtype(result = "Said")]
pub struct Greet;

/// A command has come, as bytes without their end.
#[derive(Message)]
#[rtype(result = "Said")]
pub struct Ask(pub bytes::BytesMut);

/// The connection has ended, for this reason.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HungUp(pub &'static str);

/// What is said to the client, and what then.
#[derive(Debug, MessageResponse)]
pub struct Said {
    /// One line without its end.
    pub text: Cow<'static, str>,
    /// What then.
    pub then: Then,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next command, for which there is so much time.
    Listen(Duration),
    /// The end, for this reason.
    HangUp(&'static str),
}

/// The end of a connection, decided while nothing was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// What is said before it.
    pub text: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// One connection of a terminal.
///
/// * Full: cannot be, since the connection's task waits for each answer; the hub waits as well.
/// * Panic: ends the process. Restart: never; the client connects again.
pub struct TcpSession {
    id: SessionId,
    parts: TcpParts,
    address: IpAddr,
    kill: KillSwitch,
    /// Who has shown a token, and whether it is still good.
    shown: Option<(Standing, Pass)>,
    /// Nothing has been asked yet: what is no command now comes from no terminal.
    is_new: bool,
    /// Tells the connection's task to end.
    leave: watch::Sender<Option<Leave>>,
    /// How it has ended, for the count.
    ended: &'static str,
}

impl TcpSession {
    /// A session of whoever has connected from `address`, and where it is told to end.
    #[must_use]
    pub fn new(
        parts: TcpParts,
        address: IpAddr,
        socket: Option<Arc<socket2::Socket>>,
    ) -> (Self, watch::Receiver<Option<Leave>>) {
        let (leave, told) = watch::channel(None);
        let session = Self {
            id: super::next_id(),
            parts,
            address,
            kill: KillSwitch {
                socket,
                alive: Arc::new(AtomicU64::new(0)),
                epoch: Instant::now(),
            },
            shown: None,
            is_new: true,
            leave,
            ended: "closed",
        };
        (session, told)
    }

    /// Who asks: whoever has shown a token or comes from a trusted address, as of now.
    fn caller(&self) -> Caller {
        let identity = match &self.shown {
            Some((standing, _)) => Arc::clone(&standing.subject.identity),
            None => Arc::new(self.trusted().unwrap_or_else(Identity::nobody)),
        };
        Caller {
            identity,
            standing: self.shown.as_ref().map(|(standing, _)| standing.clone()),
            channel: Channel::Tcp,
            address: Some(self.address),
            trail: self.parts.trail.clone(),
        }
    }

    fn trusted(&self) -> Option<Identity> {
        let registry = self.parts.view.registry();
        self.parts.trusted.identity_of(self.address, &registry)
    }

    /// Says `text` and listens.
    fn say(&self, text: impl Into<Cow<'static, str>>) -> Said {
        let is_somebody = self.shown.is_some() || self.trusted().is_some();
        let patience = if is_somebody {
            IDLE
        } else {
            NOBODY_IDLE.min(NOBODY_STAYS.saturating_sub(self.kill.epoch.elapsed()))
        };
        Said {
            text: text.into(),
            then: Then::Listen(patience),
        }
    }

    /// What is asked, and by whom; or what is said at once.
    fn hear(&mut self, bytes: &[u8]) -> Result<(Verb, Command, Caller), Said> {
        let heard = line::verb(bytes);
        if std::mem::take(&mut self.is_new) && heard.is_none() {
            // A browser, a scanner, a client of TLS: nothing of what follows is for us.
            let said = self.fault(None, Fault::Unrecognised);
            return Err(hang_up(said.text, "protocol"));
        }
        let verb = heard.map(|(verb, _)| verb);
        if self.shown.as_ref().is_some_and(|(_, pass)| !pass.is_good()) {
            // The hub is about to end this session; until then nothing is done for it.
            let said = self.problem(verb, ProblemKind::InvalidToken.into());
            return Err(hang_up(said.text, "revoked"));
        }
        let caller = self.caller();
        if let Err(wait) = self.count(&caller) {
            let problem = Problem::of(ProblemKind::TooManyRequests).after_seconds(wait);
            return Err(self.problem(verb, problem));
        }
        let Some((verb, rest)) = heard else {
            return Err(self.fault(None, Fault::Unrecognised));
        };
        let is_open = matches!(verb, Verb::Authenticate | Verb::Quit);
        if !is_open && !caller.identity.is_somebody() {
            return Err(self.problem(Some(verb), ProblemKind::Unauthenticated.into()));
        }
        match line::command(verb, rest) {
            Ok(command) => Ok((verb, command, caller)),
            Err(fault) => Err(self.fault(Some(verb), fault)),
        }
    }

    /// Counts a command as a request over REST is counted.
    fn count(&self, caller: &Caller) -> Result<(), u64> {
        self.parts.limits.address(Some(self.address))?;
        match &caller.standing {
            Some(standing) => self.parts.limits.principal(standing.subject.row),
            None => Ok(()),
        }
    }

    fn counted(&self, verb: Option<Verb>, result: &str) {
        let command = verb.map_or("unknown", Verb::name);
        let commands = &self.parts.instruments.tcp_commands;
        commands.with_label_values(&[command, result]).inc();
    }

    fn fault(&self, verb: Option<Verb>, fault: Fault) -> Said {
        self.counted(verb, fault.code());
        self.say(fault.text())
    }

    fn problem(&self, verb: Option<Verb>, problem: Problem) -> Said {
        self.parts.desk.count_problem(&problem);
        self.counted(verb, problem.kind.code());
        self.say(answer::problem(verb, &problem))
    }

    fn answer(&self, verb: Verb, answered: Result<String, Failure>) -> Said {
        match answered {
            Ok(text) => {
                self.counted(Some(verb), "ok");
                self.say(text)
            }
            Err(failure) => self.problem(Some(verb), failure.problem),
        }
    }

    /// Lets in whoever shows a good token. Whoever shows a bad one stays who they were.
    fn authenticate(
        &mut self,
        token: &Token,
        ctx: &Context<Self>,
    ) -> ResponseActFuture<Self, Said> {
        let now = self.parts.clock.now();
        let shown = self.parts.access.identify(token, now).and_then(|standing| {
            let caller = Caller {
                standing: Some(standing.clone()),
                ..self.caller()
            };
            let pass = self.parts.desk.pass(&caller)?;
            Some((standing, pass))
        });
        let Some((standing, pass)) = shown else {
            let said = self.problem(Some(Verb::Authenticate), ProblemKind::InvalidToken.into());
            return Box::pin(fut::ready(said));
        };
        // From now on the hub looks at this token, and ends the session with it.
        let joined = self.parts.hub.send(self.joined(pass.clone(), ctx));
        self.shown = Some((standing, pass));
        Box::pin(joined.into_actor(self).map(|joined, session, _| {
            let joined = joined.map_err(|_| ProblemKind::ShuttingDown.into());
            let text = joined.map(|()| answer::AUTHENTICATED.to_owned());
            session.answer(Verb::Authenticate, text)
        }))
    }

    fn joined(&self, pass: Pass, ctx: &Context<Self>) -> Connect {
        Connect {
            id: self.id,
            address: Some(self.address),
            pass,
            frames: ctx.address().recipient(),
            kill: self.kill.clone(),
        }
    }

    fn leave(&self, text: &'static str, reason: &'static str) {
        self.leave.send_replace(Some(Leave { text, reason }));
    }
}

fn hang_up(text: impl Into<Cow<'static, str>>, reason: &'static str) -> Said {
    Said {
        text: text.into(),
        then: Then::HangUp(reason),
    }
}

/// Asks the desk what a terminal asks. There is no idempotency key in this protocol: what is asked
/// twice is done twice.
async fn at_desk(
    desk: &Desk,
    zone: &TimeZone,
    caller: &Caller,
    command: Command,
) -> Result<String, Failure> {
    match command {
        Command::Balance(account) => {
            let found = desk.account_found(caller, account.as_str()).await?;
            Ok(answer::account(&found))
        }
        Command::Deposit(account, amount) => {
            let balance = moved(desk, caller, Direction::In, &account, amount).await?;
            Ok(answer::deposited(balance))
        }
        Command::Withdraw(account, amount) => {
            let balance = moved(desk, caller, Direction::Out, &account, amount).await?;
            Ok(answer::withdrawn(balance))
        }
        Command::Transfer {
            origin,
            destination,
            amount,
        } => {
            let body = TransferBody {
                cedula_origen: origin.to_string(),
                cedula_destino: destination.to_string(),
                monto: number(amount)?,
                sede: None,
                fecha_valor: None,
            };
            let placed = desk.transferred(caller, &body, None).await?;
            let movement = movement(&placed.entry.fact)?;
            let other = movement.counterparty.as_ref();
            let other = other.ok_or(ProblemKind::Internal)?;
            Ok(answer::transferred(movement.posting.balance, other.balance))
        }
        Command::Open {
            account,
            given_names,
            surnames,
        } => {
            let body = OpenAccountBody {
                cedula: account.to_string(),
                nombres: given_names,
                apellidos: surnames,
            };
            let (opened, _) = desk.account_opened(caller, &body, None).await?;
            Ok(answer::opened(&opened))
        }
        Command::Movements(account) => {
            let (account, most) = (account.as_str(), Some(MOVEMENTS));
            let page = desk.movements_found(caller, account, most, None).await?;
            Ok(answer::movements(&page.datos, zone))
        }
        Command::Statistics => Ok(answer::statistics(&desk.statistics_taken(caller).await?)),
        // Answered by the session itself, before the desk is asked.
        Command::Authenticate(_) | Command::Quit => Err(ProblemKind::Internal.into()),
    }
}

/// Moves money, and what the balance is then.
async fn moved(
    desk: &Desk,
    caller: &Caller,
    direction: Direction,
    account: &AccountId,
    amount: Amount,
) -> Result<Money, Failure> {
    let body = MovementBody {
        monto: number(amount)?,
        sede: None,
        fecha_valor: None,
    };
    let account = account.as_str();
    let placed = desk.money_moved(caller, direction, account, &body, None);
    Ok(movement(&placed.await?.entry.fact)?.posting.balance)
}

fn movement(fact: &Fact) -> Result<&Movement, Failure> {
    match fact {
        Fact::Posted(movement) => Ok(movement),
        _ => Err(ProblemKind::Internal.into()),
    }
}

/// An amount as the desk takes it from every edge.
fn number(amount: Amount) -> Result<Box<RawValue>, Failure> {
    RawValue::from_string(amount.to_string()).map_err(|_| ProblemKind::InvalidAmount.into())
}

impl Actor for TcpSession {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(HEARTBEAT, |session, _| session.kill.touch());
        // It counts as a session from the start. It subscribes to nothing, so what it may see there
        // does not matter.
        let joined = self.joined(Pass::trusted(&Identity::nobody()), ctx);
        let joined = self.parts.hub.send(joined).into_actor(self);
        ctx.wait(joined.map(|joined, session, _| {
            if joined.is_err() {
                session.leave(answer::CLOSING, "closing");
            }
        }));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let hub = self.parts.hub.clone();
        let (id, reason) = (self.id, self.ended);
        // Nobody waits for it: a task sees to it that the hub hears of it even when it is busy.
        actix::spawn(async move {
            let _ = hub.send(Disconnect { id, reason }).await;
        });
    }
}

impl Handler<Greet> for TcpSession {
    type Result = Said;

    fn handle(&mut self, _: Greet, _: &mut Self::Context) -> Said {
        self.say(answer::WELCOME)
    }
}

impl Handler<Ask> for TcpSession {
    type Result = ResponseActFuture<Self, Said>;

    fn handle(&mut self, Ask(bytes): Ask, ctx: &mut Self::Context) -> Self::Result {
        self.kill.touch();
        match self.hear(&bytes) {
            Err(said) => Box::pin(fut::ready(said)),
            Ok((verb, Command::Quit, _)) => {
                self.counted(Some(verb), "ok");
                Box::pin(fut::ready(hang_up(answer::GOODBYE, "closed")))
            }
            Ok((_, Command::Authenticate(token), _)) => self.authenticate(&token, ctx),
            Ok((verb, command, caller)) => {
                let (desk, zone) = (self.parts.desk.clone(), self.parts.zone.clone());
                let asked = async move { at_desk(&desk, &zone, &caller, command).await };
                let asked = asked.into_actor(self);
                Box::pin(asked.map(move |answered, session, _| session.answer(verb, answered)))
            }
        }
    }
}

impl Handler<HungUp> for TcpSession {
    type Result = ();

    fn handle(&mut self, HungUp(reason): HungUp, ctx: &mut Self::Context) {
        self.ended = reason;
        ctx.stop();
    }
}

impl Handler<Deliver> for TcpSession {
    type Result = ();

    fn handle(&mut self, message: Deliver, _: &mut Self::Context) {
        match message {
            // It subscribes to nothing.
            Deliver::Frame(_) => {}
            Deliver::Close(reason) => self.leave(answer::CLOSING, reason),
            Deliver::Revoked => self.leave(answer::BAD_TOKEN, "revoked"),
        }
    }
}
