//! One Socket.IO session of the web front end from before Atalaya: it says which balances it wants
//! to see, and sees them, their latest movements and the figures that everybody may see.

use super::upgrade::ws;
use super::websocket::Lobby;
use crate::actors::session_hub::{
    Connect, Deliver, Disconnect, KillSwitch, Pass, SessionId, Subscribe, Unsubscribe,
};
use crate::clock::Clock;
use crate::desk::{Caller, Failure};
use crate::domain::token::Token;
use crate::domain::{AccountId, Identity};
use crate::storage::{AccessView, HubView};
use crate::trusted::TrustedNetworks;
use crate::wire::bridge::{self, Movement};
use crate::wire::legacy::MOVEMENTS;
use crate::wire::numbers::Decimal;
use crate::wire::socketio::{self, Heard, PING_INTERVAL, PING_TIMEOUT};
use crate::wire::{Problem, ProblemKind, topics};
use actix::prelude::*;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// The largest frame a client may send.
const FRAME_LIMIT: usize = 16 * 1024;

/// Frames that wait for this session; the hub waits for room or evicts.
const MAILBOX: usize = 512;

/// Accounts that one session follows; of more the one asked for longest ago is let go.
const ACCOUNTS: usize = 64;

/// How often the figures are told.
const FIGURES: Duration = Duration::from_secs(3);

/// How long it takes at least until what could not be read is read again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long somebody may take to say who they are.
const KNOCK: Duration = Duration::from_secs(10);

/// What a session needs from the house beside what every session needs.
#[derive(Clone)]
pub struct Gate {
    /// What every session needs.
    pub lobby: Lobby,
    /// Who is let in with a token.
    pub access: Arc<AccessView>,
    /// The time.
    pub clock: Clock,
    /// Who is let in without one.
    pub trusted: Arc<TrustedNetworks>,
    /// The companies and sites for which they are let in.
    pub view: Arc<HubView>,
    /// The time zone of the dates that are shown.
    pub zone: TimeZone,
}

/// Upgrades a connection to a session of `caller`, who may say later who they are.
///
/// # Errors
/// Where the house is full of sessions, or the request is no WebSocket handshake.
pub fn upgrade(
    gate: Gate,
    caller: Caller,
    request: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let place = Arc::clone(&gate.lobby.places).try_acquire_owned();
    let place = place.map_err(|_| Problem::of(ProblemKind::Overloaded))?;
    let socket = request.conn_data::<Arc<socket2::Socket>>().cloned();
    let session = SocketIoSession {
        id: super::next_id(),
        name: uuid::Uuid::new_v4().simple().to_string(),
        gate,
        caller: Arc::new(caller),
        pass: None,
        kill: KillSwitch {
            socket,
            alive: Arc::new(AtomicU64::new(0)),
            epoch: Instant::now(),
        },
        heard: Instant::now(),
        accounts: HashMap::new(),
        ended: "closed",
        _place: place,
    };
    ws::WsResponseBuilder::new(session, request, body)
        .frame_size(FRAME_LIMIT)
        .start()
        .map_err(|_| Problem::of(ProblemKind::MalformedFrame))
}

/// What is known of an account that is followed.
#[derive(Debug)]
struct Followed {
    /// When it was last asked for.
    asked: Instant,
    /// The newest version that was told: what is older is not news.
    version: i64,
    /// Whether its state is being read.
    reading: bool,
    /// Whether it has changed since that began.
    changed: bool,
}

/// One Socket.IO session.
///
/// * Full: as a [`super::websocket::WsSession`]: the hub waits, and evicts who reads nothing.
/// * Panic: ends the process. Restart: never; the client connects again and subscribes anew.
pub struct SocketIoSession {
    id: SessionId,
    /// Its name on the wire.
    name: String,
    gate: Gate,
    caller: Arc<Caller>,
    /// What it may see, once it is let in.
    pass: Option<Pass>,
    kill: KillSwitch,
    heard: Instant,
    accounts: HashMap<AccountId, Followed>,
    /// How it has ended, for the count.
    ended: &'static str,
    _place: OwnedSemaphorePermit,
}

type Context = ws::WebsocketContext<SocketIoSession>;

#[derive(Deserialize)]
struct Wanted {
    cedula: String,
}

#[derive(Deserialize)]
struct Shown {
    token: Option<String>,
}

#[derive(Serialize)]
struct Balance<'a> {
    cedula: &'a str,
    balance: Decimal,
}

#[derive(Serialize)]
struct Transactions<'a> {
    cedula: &'a str,
    transactions: Vec<Movement>,
}

#[derive(Serialize)]
struct Words<'a> {
    mensaje: &'a str,
}

/// What of an event of ours is looked at.
#[derive(Deserialize)]
struct Event {
    tema: String,
}

impl SocketIoSession {
    fn hear(&mut self, text: &str, ctx: &mut Context) {
        match socketio::hear(text) {
            Ok(Heard::Pong | Heard::Nothing) => {}
            // Nothing is said to somebody who has not said who they are.
            Ok(Heard::Ping(words)) => {
                if self.pass.is_some() {
                    ctx.text(socketio::pong(&words));
                }
            }
            Ok(Heard::Connect(shown)) => self.connect(shown, ctx),
            Ok(Heard::ConnectElsewhere(namespace)) => {
                ctx.text(socketio::refused(&namespace, "Invalid namespace"));
            }
            Ok(Heard::Disconnect) => close(ctx, ws::CloseCode::Normal),
            Ok(Heard::Event {
                name,
                data,
                acknowledge,
            }) => {
                let may = self.is_counted() && self.happened(&name, data, ctx);
                if let Some(number) = acknowledge {
                    ctx.text(socketio::acknowledged(number, &may));
                }
            }
            Err(_) => {
                self.ended = "protocol";
                close(ctx, ws::CloseCode::Protocol);
            }
        }
    }

    /// Lets in whoever has shown a good token or comes from a trusted address.
    fn connect(&mut self, shown: Value, ctx: &mut Context) {
        if self.pass.is_some() {
            return;
        }
        if !self.is_counted() {
            return ctx.text(socketio::refused("", "Demasiadas solicitudes"));
        }
        let shown = serde_json::from_value::<Option<Shown>>(shown)
            .ok()
            .flatten();
        if let Some(text) = shown.and_then(|shown| shown.token) {
            let token = Token::parse(&text).ok();
            let now = self.gate.clock.now();
            let standing = token.and_then(|token| self.gate.access.identify(&token, now));
            let Some(standing) = standing else {
                return ctx.text(socketio::refused("", "Token inválido"));
            };
            self.caller = Arc::new(Caller {
                identity: Arc::clone(&standing.subject.identity),
                standing: Some(standing),
                ..Caller::clone(&self.caller)
            });
        }
        let pass = self.gate.lobby.desk.pass(&self.caller);
        let Some(pass) = pass.filter(|_| !self.caller.identity.must_change) else {
            return ctx.text(socketio::refused("", "No autorizado"));
        };
        self.pass = Some(pass.clone());
        let joined = self.joined(pass, ctx);
        let told = self.gate.lobby.hub.send(joined).into_actor(self);
        ctx.wait(told.map(|told, session, ctx| {
            if told.is_err() {
                return close(ctx, ws::CloseCode::Away);
            }
            ctx.text(socketio::connected(&session.name));
            ctx.text(socketio::event_of(
                "connected",
                &Words {
                    mensaje: "Conectado",
                },
            ));
            session.tell_figures(ctx);
        }));
    }

    fn joined(&self, pass: Pass, ctx: &Context) -> Connect {
        Connect {
            id: self.id,
            address: self.caller.address,
            pass,
            frames: ctx.address().recipient(),
            kill: self.kill.clone(),
        }
    }

    /// Whether what it asks is within what it may ask, as over REST.
    fn is_counted(&self) -> bool {
        let limits = &self.gate.lobby.limits;
        let standing = self.caller.standing.as_ref();
        limits.address(self.caller.address).is_ok()
            && standing.is_none_or(|standing| limits.principal(standing.subject.row).is_ok())
    }

    /// Whether it still is who it was let in as: by its token, or by its address as of now.
    fn is_let_in(&self) -> bool {
        let Some(pass) = &self.pass else {
            return false;
        };
        if self.caller.standing.is_some() {
            return pass.is_good();
        }
        let registry = self.gate.view.registry();
        let address = self.caller.address;
        let identity = address.and_then(|at| self.gate.trusted.identity_of(at, &registry));
        identity.as_ref() == Some(&*self.caller.identity)
    }

    /// Whether the session follows what it wants to.
    fn happened(&mut self, name: &str, data: Option<Value>, ctx: &mut Context) -> bool {
        if name != "subscribe_balance" || !self.is_let_in() {
            return false;
        }
        let wanted = data.and_then(|data| serde_json::from_value::<Wanted>(data).ok());
        let account = wanted.and_then(|wanted| AccountId::parse(wanted.cedula.trim()).ok());
        let Some(account) = account else {
            return false;
        };
        let filter = topics::balance(&account);
        let desk = &self.gate.lobby.desk;
        if desk.may_subscribe(&self.caller, &filter).is_err() {
            return false;
        }
        let now = Instant::now();
        let followed = self.accounts.entry(account.clone());
        let followed = followed.or_insert(Followed {
            asked: now,
            version: 0,
            reading: false,
            changed: false,
        });
        // Whoever asks again wants to be told again.
        (followed.asked, followed.version) = (now, 0);
        self.let_go(ctx);
        let wish = Subscribe {
            id: self.id,
            filters: vec![filter],
            from: None,
        };
        // What is committed after the hub has heard is told by it; what was before is read.
        let told = self.gate.lobby.hub.send(wish).into_actor(self);
        ctx.wait(told.map(move |told, session, ctx| match told {
            Ok(_) => session.read(account, ctx),
            Err(_) => close(ctx, ws::CloseCode::Away),
        }));
        true
    }

    /// Follows no more accounts than one session may.
    fn let_go(&mut self, ctx: &mut Context) {
        if self.accounts.len() <= ACCOUNTS {
            return;
        }
        let oldest = self.accounts.iter().min_by_key(|(_, one)| one.asked);
        if let Some(oldest) = oldest.map(|(oldest, _)| oldest.clone()) {
            self.accounts.remove(&oldest);
            let wish = Unsubscribe {
                id: self.id,
                filters: vec![topics::balance(&oldest)],
            };
            let told = self.gate.lobby.hub.send(wish).into_actor(self);
            ctx.wait(told.map(|told, _, ctx| {
                if told.is_err() {
                    close(ctx, ws::CloseCode::Away);
                }
            }));
        }
    }

    /// An event of ours: the account that it is about is read and told as it is by then.
    fn deliver(&mut self, frame: &Bytes, ctx: &mut Context) {
        if !self.is_let_in() {
            return self.shut_out(ctx);
        }
        let event: Option<Event> = serde_json::from_slice(frame).ok();
        if let Some(account) = event.and_then(|event| topics::account_of(&event.tema)) {
            self.read(account, ctx);
        }
    }

    /// Reads an account and tells of it, one reading at a time: of many changes at once it tells
    /// the last.
    fn read(&mut self, account: AccountId, ctx: &mut Context) {
        let Some(followed) = self.accounts.get_mut(&account) else {
            return;
        };
        if std::mem::replace(&mut followed.reading, true) {
            followed.changed = true;
            return;
        }
        let (desk, caller) = (self.gate.lobby.desk.clone(), Arc::clone(&self.caller));
        let zone = self.gate.zone.clone();
        let id = account.clone();
        let read = async move {
            // In this order: what is committed in between is then in the history too early, and
            // not for ever missing from it.
            let found = desk.account_found(&caller, id.as_str()).await?;
            let movements = Some(MOVEMENTS);
            let page = desk
                .movements_found(&caller, id.as_str(), movements, None)
                .await?;
            let movements = bridge::movements(&page.datos, &zone);
            Ok::<_, Failure>((found, movements))
        };
        ctx.spawn(read.into_actor(self).map(move |read, session, ctx| {
            let Some(followed) = session.accounts.get_mut(&account) else {
                return;
            };
            followed.reading = false;
            let changed = std::mem::take(&mut followed.changed);
            let cedula = account.as_str();
            if let Err(failure) = &read
                && is_passing(failure.problem.kind)
            {
                let pause = session.pause();
                ctx.run_later(pause, |session, ctx| session.read(account, ctx));
                return;
            }
            if let Ok((found, transactions)) = read
                && (found.version > followed.version || found.version == 0)
            {
                followed.version = found.version;
                let balance = found.saldo;
                ctx.text(socketio::event_of(
                    "balance_updated",
                    &Balance { cedula, balance },
                ));
                let news = Transactions {
                    cedula,
                    transactions,
                };
                ctx.text(socketio::event_of("transactions_updated", &news));
            }
            if changed {
                session.read(account, ctx);
            }
        }));
    }

    /// How long to wait before what could not be read is read again: not as long as others.
    fn pause(&self) -> Duration {
        AGAIN + AGAIN * u32::try_from(self.id % 16).unwrap_or(0) / 4
    }

    /// Ends the session of somebody who is no longer let in.
    fn shut_out(&mut self, ctx: &mut Context) {
        self.ended = "revoked";
        // A client that hears this does not come again by itself.
        ctx.text(socketio::DISCONNECT);
        close(ctx, ws::CloseCode::Policy);
    }

    fn tell_figures(&mut self, ctx: &mut Context) {
        if self.pass.is_none() {
            return;
        }
        if !self.is_let_in() {
            return self.shut_out(ctx);
        }
        let (desk, caller) = (self.gate.lobby.desk.clone(), Arc::clone(&self.caller));
        let taken = async move { desk.figures_lately(&caller).await };
        ctx.spawn(taken.into_actor(self).map(|figures, _, ctx| {
            if let Ok(figures) = figures {
                ctx.text(socketio::event_of("stats_updated", &figures));
            }
        }));
    }

    fn beat(&mut self, ctx: &mut Context) {
        // To be polled at all is a sign of life: a client that reads nothing freezes this actor.
        self.kill.touch();
        if self.heard.elapsed() > Duration::from_millis(PING_INTERVAL + PING_TIMEOUT) {
            self.ended = "silent";
            return close(ctx, ws::CloseCode::Policy);
        }
        ctx.text(socketio::PING);
    }
}

/// Whether what has failed may succeed a moment later.
const fn is_passing(kind: ProblemKind) -> bool {
    matches!(
        kind,
        ProblemKind::Overloaded | ProblemKind::StorageUnavailable
    )
}

/// Ends the connection, after which a client comes again by itself.
fn close(ctx: &mut Context, code: ws::CloseCode) {
    ctx.close(Some(code.into()));
    ctx.stop();
}

impl Actor for SocketIoSession {
    type Context = Context;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.text(socketio::open(&self.name, FRAME_LIMIT));
        // From the start, so that the hub ends whoever reads nothing, let in or not.
        let joined = self.joined(Pass::trusted(&Identity::nobody()), ctx);
        let told = self.gate.lobby.hub.send(joined).into_actor(self);
        ctx.wait(told.map(|told, _, ctx| {
            if told.is_err() {
                close(ctx, ws::CloseCode::Away);
            }
        }));
        ctx.run_interval(Duration::from_millis(PING_INTERVAL), Self::beat);
        ctx.run_interval(FIGURES, Self::tell_figures);
        ctx.run_later(KNOCK, |session, ctx| {
            if session.pass.is_none() {
                session.ended = "silent";
                close(ctx, ws::CloseCode::Policy);
            }
        });
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let hub = self.gate.lobby.hub.clone();
        let (id, reason) = (self.id, self.ended);
        // Nobody waits for it: a task sees to it that the hub hears of it even when it is busy.
        actix::spawn(async move {
            let _ = hub.send(Disconnect { id, reason }).await;
        });
    }
}

impl StreamHandler<Result<ws::Message, ws::ProtocolError>> for SocketIoSession {
    fn handle(&mut self, message: Result<ws::Message, ws::ProtocolError>, ctx: &mut Context) {
        self.heard = Instant::now();
        self.kill.touch();
        match message {
            Ok(ws::Message::Text(text)) => self.hear(&text, ctx),
            Ok(ws::Message::Ping(data)) => ctx.pong(&data),
            Ok(ws::Message::Pong(_) | ws::Message::Nop) => {}
            Ok(ws::Message::Close(reason)) => {
                ctx.close(reason);
                ctx.stop();
            }
            // Nothing that is asked of us is that long, or no text.
            Ok(ws::Message::Continuation(_) | ws::Message::Binary(_)) => {
                close(ctx, ws::CloseCode::Unsupported);
            }
            Err(error) => {
                log::debug!("session {} breaks the protocol: {error}", self.id);
                close(ctx, ws::CloseCode::Protocol);
            }
        }
    }
}

impl Handler<Deliver> for SocketIoSession {
    type Result = ();

    fn handle(&mut self, message: Deliver, ctx: &mut Context) {
        match message {
            Deliver::Frame(frame) => self.deliver(&frame, ctx),
            Deliver::Close(_) => close(ctx, ws::CloseCode::Again),
            Deliver::Revoked => self.shut_out(ctx),
        }
    }
}
