//! One WebSocket connection: requests in, answers and events out.
//!
//! `actix-web-actors` is named in [`super::upgrade`] alone, so that replacing it begins there.

use super::upgrade::ws;
use crate::actors::session_hub::{
    Connect, Deliver, Disconnect, KillSwitch, Pass, SessionHub, SessionId, Subscribe, Unsubscribe,
};
use crate::desk::{Answer, Caller, Desk, Direction, Failure, Reply};
use crate::domain::Cursor;
use crate::instruments::Instruments;
use crate::limits::Limits;
use crate::wire::frames::{self, Request};
use crate::wire::requests::{MovementBody, OpenAccountBody, TransferBody};
use crate::wire::{Language, Problem, ProblemKind, Reason, requests};
use actix::prelude::*;
use actix_http::ws::Item;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest frame a client may send, and the largest message it may send in pieces.
pub const FRAME_LIMIT: usize = 16 * 1024;

/// Frames that wait for this session; the hub waits for room or evicts. Some 150 KiB of events.
const MAILBOX: usize = 512;

/// Requests of one session under way at once; more are refused.
const REQUESTS: usize = 64;

/// Filters of one session.
const FILTERS: usize = 256;

/// How often the client is asked for life, and how long it may show none.
const HEARTBEAT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);

/// What a session needs from the house.
#[derive(Clone)]
pub struct Lobby {
    /// Where requests go.
    pub desk: Desk,
    /// Where events come from.
    pub hub: Addr<SessionHub>,
    /// What is counted.
    pub instruments: Instruments,
    /// How much a principal may ask, over whichever edge.
    pub limits: Limits,
    /// Room for sessions: fewer than connections, so that requests find room beside them.
    pub places: Arc<Semaphore>,
}

/// Upgrades a connection to a session.
///
/// # Errors
/// Where the house is full of sessions, or the request is no WebSocket handshake.
pub fn upgrade(
    lobby: Lobby,
    caller: Caller,
    request: &HttpRequest,
    body: web::Payload,
    language: Language,
) -> Result<HttpResponse, Problem> {
    let pass = lobby
        .desk
        .pass(&caller)
        .ok_or(ProblemKind::Unauthenticated)?;
    let place = Arc::clone(&lobby.places).try_acquire_owned();
    let place = place.map_err(|_| Problem::of(ProblemKind::Overloaded))?;
    let socket = request.conn_data::<Arc<socket2::Socket>>().cloned();
    let session = WsSession {
        id: super::next_id(),
        lobby,
        caller: Arc::new(caller),
        pass,
        language,
        kill: KillSwitch {
            socket,
            alive: Arc::new(AtomicU64::new(0)),
            epoch: Instant::now(),
        },
        heard: Instant::now(),
        under_way: 0,
        filters: HashSet::new(),
        pieces: BytesMut::new(),
        leaving: None,
        ended: "closed",
        _place: place,
    };
    ws::WsResponseBuilder::new(session, request, body)
        .frame_size(FRAME_LIMIT)
        .start()
        .map_err(|error| {
            Problem::of(ProblemKind::MalformedFrame).because(Reason::technical(error.to_string()))
        })
}

/// One WebSocket connection.
///
/// * Full: the hub, whose frames arrive by `try_send`, stops pushing and waits for room; a client
///   that reads nothing for some seconds is disconnected (`session_hub`).
/// * Panic: ends the process. Restart: never; the client reconnects and resumes by cursor.
pub struct WsSession {
    id: SessionId,
    lobby: Lobby,
    caller: Arc<Caller>,
    pass: Pass,
    language: Language,
    kill: KillSwitch,
    heard: Instant,
    under_way: usize,
    filters: HashSet<String>,
    pieces: BytesMut,
    /// Why it is about to end, once the requests under way are answered.
    leaving: Option<&'static str>,
    /// How it has ended, for the count.
    ended: &'static str,
    _place: OwnedSemaphorePermit,
}

impl WsSession {
    fn heard(&mut self) {
        self.heard = Instant::now();
        self.kill.touch();
    }

    fn request(&mut self, text: &[u8], ctx: &mut ws::WebsocketContext<Self>) {
        // Before it is read: what is malformed costs as much.
        if let Err(problem) = self.count() {
            let id = frames::id_of(text);
            return self.answer(id.as_deref(), "unknown", Err(problem.into()), ctx);
        }
        let request: Request = match requests::object(text) {
            Ok(request) => request,
            Err(error) => {
                let problem =
                    Problem::of(ProblemKind::MalformedFrame).because(Reason::technical(error));
                let id = frames::id_of(text);
                return self.answer(id.as_deref(), "unknown", Err(problem.into()), ctx);
            }
        };
        let action = Action::parse(&request.accion);
        let name = action.map_or("unknown", Action::name);
        let checked = match action {
            None => Err(ProblemKind::UnknownAction.into()),
            // The hub is about to end this session; until then nothing is done for it.
            Some(_) if !self.pass.is_good() => Err(ProblemKind::InvalidToken.into()),
            Some(_) if self.leaving.is_some() => Err(ProblemKind::ShuttingDown.into()),
            Some(_) if self.under_way >= REQUESTS => Err(ProblemKind::Overloaded.into()),
            Some(action) => action.check(&request).map(|()| action),
        };
        match checked {
            Err(problem) => self.answer(request.id.as_deref(), name, Err(problem.into()), ctx),
            Ok(Action::Ping) => self.answer(request.id.as_deref(), name, empty(), ctx),
            Ok(Action::Subscribe) => {
                let wish = self.subscription(&request);
                self.ask_hub(wish, request.id, name, ctx, standing_at);
            }
            Ok(Action::Unsubscribe) => {
                let wish = self.unsubscription(&request);
                self.ask_hub(wish, request.id, name, ctx, |()| empty());
            }
            Ok(action) => self.ask_desk(action, request, ctx),
        }
    }

    /// Counts a request of whoever this session is, as one over REST is counted.
    fn count(&self) -> Result<(), Problem> {
        let Some(standing) = &self.caller.standing else {
            return Ok(());
        };
        let counted = self.lobby.limits.principal(standing.subject.row);
        counted.map_err(|wait| Problem::of(ProblemKind::TooManyRequests).after_seconds(wait))
    }

    /// Asks the desk; the answer is sent when it is there, whatever else happens meanwhile.
    fn ask_desk(&mut self, action: Action, request: Request, ctx: &mut ws::WebsocketContext<Self>) {
        self.under_way += 1;
        let (desk, caller) = (self.lobby.desk.clone(), Arc::clone(&self.caller));
        let asked = async move {
            let answer = at_desk(&desk, &caller, action, &request).await;
            (request.id, answer)
        };
        ctx.spawn(
            asked
                .into_actor(self)
                .map(move |(id, answer), session, ctx| {
                    session.under_way -= 1;
                    session.answer(id.as_deref(), action.name(), answer, ctx);
                    session.leave_when_answered(ctx);
                }),
        );
    }

    /// Ends a session that was told to leave, once nobody waits for an answer any more. The hub
    /// ends it by its socket where that takes too long.
    fn leave_when_answered(&mut self, ctx: &mut ws::WebsocketContext<Self>) {
        if let Some(reason) = self.leaving.filter(|_| self.under_way == 0) {
            close(ctx, ws::CloseCode::Again, reason);
        }
    }

    fn answer(
        &self,
        id: Option<&RawValue>,
        action: &str,
        answer: Answer,
        ctx: &mut ws::WebsocketContext<Self>,
    ) {
        let (frame, result) = match answer {
            Ok(reply) => (frames::answer(id, &reply.body, reply.replayed), "ok"),
            Err(Failure { problem, replayed }) => {
                self.lobby.desk.count_problem(&problem);
                (
                    frames::failure(id, &problem, self.language, replayed),
                    problem.kind.code(),
                )
            }
        };
        self.lobby
            .instruments
            .frames
            .with_label_values(&[action, result])
            .inc();
        send(ctx, frame);
    }

    fn subscription(&mut self, request: &Request) -> Result<Subscribe, Problem> {
        let filters = self.filters_of(request)?;
        let from = request
            .desde
            .as_deref()
            .map(str::parse::<Cursor>)
            .transpose()
            .map_err(|_| {
                Problem::of(ProblemKind::InvalidParameter)
                    .because(("desde: no es un cursor", "desde: not a cursor"))
            })?;
        let fresh = filters
            .iter()
            .filter(|filter| !self.filters.contains(*filter))
            .count();
        if self.filters.len() + fresh > FILTERS {
            let reason = (
                "temas: más de 256 filtros en una sesión",
                "temas: more than 256 filters in one session",
            );
            return Err(Problem::of(ProblemKind::InvalidParameter).because(reason));
        }
        self.filters.extend(filters.iter().cloned());
        Ok(Subscribe {
            id: self.id,
            filters,
            from,
        })
    }

    fn unsubscription(&mut self, request: &Request) -> Result<Unsubscribe, Problem> {
        let filters = self.filters_of(request)?;
        for filter in &filters {
            self.filters.remove(filter);
        }
        Ok(Unsubscribe {
            id: self.id,
            filters,
        })
    }

    /// Tells the hub what is wished for and answers when it knows: what is committed after the
    /// answer is delivered, since the hub was told before.
    fn ask_hub<M>(
        &mut self,
        wish: Result<M, Problem>,
        id: Option<Box<RawValue>>,
        action: &'static str,
        ctx: &mut ws::WebsocketContext<Self>,
        answer: impl FnOnce(M::Result) -> Answer + 'static,
    ) where
        M: Message + Send + 'static,
        M::Result: Send,
        SessionHub: Handler<M>,
    {
        match wish {
            Err(problem) => self.answer(id.as_deref(), action, Err(problem.into()), ctx),
            Ok(message) => self.tell_hub(message, ctx, move |told, session, ctx| {
                session.answer(id.as_deref(), action, answer(told), ctx);
            }),
        }
    }

    fn filters_of(&self, request: &Request) -> Result<Vec<String>, Problem> {
        let filters = request.temas.clone().unwrap_or_default();
        for filter in &filters {
            self.lobby.desk.may_subscribe(&self.caller, filter)?;
        }
        Ok(filters)
    }

    /// Tells the hub in order, before the next frame is read, and goes on with `then`.
    fn tell_hub<M>(
        &self,
        message: M,
        ctx: &mut ws::WebsocketContext<Self>,
        then: impl FnOnce(M::Result, &mut Self, &mut ws::WebsocketContext<Self>) + 'static,
    ) where
        M: Message + Send + 'static,
        M::Result: Send,
        SessionHub: Handler<M>,
    {
        let told = self.lobby.hub.send(message);
        ctx.wait(told.into_actor(self).map(|told, session, ctx| match told {
            Ok(answer) => then(answer, session, ctx),
            Err(_) => close(ctx, ws::CloseCode::Away, "cerrando"),
        }));
    }

    fn beat(&mut self, ctx: &mut ws::WebsocketContext<Self>) {
        // To be polled at all is a sign of life: a client that reads nothing freezes this actor.
        self.kill.touch();
        if self.heard.elapsed() > SILENCE {
            self.ended = "silent";
            close(ctx, ws::CloseCode::Policy, "sin respuesta al ping");
            return;
        }
        ctx.ping(b"");
    }

    fn piece(&mut self, item: Item, ctx: &mut ws::WebsocketContext<Self>) {
        let (data, last) = match item {
            Item::FirstText(data) => {
                self.pieces.clear();
                (data, false)
            }
            Item::Continue(data) => (data, false),
            Item::Last(data) => (data, true),
            Item::FirstBinary(_) => {
                return close(ctx, ws::CloseCode::Unsupported, "solo texto");
            }
        };
        if self.pieces.len() + data.len() > FRAME_LIMIT {
            return close(ctx, ws::CloseCode::Size, "mensaje de más de 16 KiB");
        }
        self.pieces.extend_from_slice(&data);
        if last {
            let whole = self.pieces.split();
            self.request(&whole, ctx);
        }
    }
}

/// What a client can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    OpenAccount,
    Deposit,
    Withdraw,
    Transfer,
    Balance,
    Movements,
    Statistics,
    Subscribe,
    Unsubscribe,
    Ping,
}

impl Action {
    const ALL: [Self; 10] = [
        Self::OpenAccount,
        Self::Deposit,
        Self::Withdraw,
        Self::Transfer,
        Self::Balance,
        Self::Movements,
        Self::Statistics,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Ping,
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::OpenAccount => "abrir_cuenta",
            Self::Deposit => "depositar",
            Self::Withdraw => "retirar",
            Self::Transfer => "transferir",
            Self::Balance => "saldo",
            Self::Movements => "movimientos",
            Self::Statistics => "estadisticas",
            Self::Subscribe => "suscribir",
            Self::Unsubscribe => "desuscribir",
            Self::Ping => "ping",
        }
    }

    /// The fields that it needs, and those that it takes besides.
    const fn fields(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::OpenAccount => (&["cedula", "nombres", "apellidos"], &["clave"]),
            Self::Deposit | Self::Withdraw => {
                (&["cedula", "monto"], &["clave", "sede", "fecha_valor"])
            }
            Self::Transfer => (
                &["cedula_origen", "cedula_destino", "monto"],
                &["clave", "sede", "fecha_valor"],
            ),
            Self::Balance => (&["cedula"], &[]),
            Self::Movements => (&["cedula"], &["limite", "cursor"]),
            Self::Statistics | Self::Ping => (&[], &[]),
            Self::Subscribe => (&["temas"], &["desde"]),
            Self::Unsubscribe => (&["temas"], &[]),
        }
    }

    /// Whether `request` has what it needs and nothing that does not belong.
    fn check(self, request: &Request) -> Result<(), Problem> {
        let (needed, optional) = self.fields();
        let present = request.present();
        if let Some(missing) = needed.iter().find(|field| !present.contains(field)) {
            let reason = Reason::from(("falta", "it is missing")).about(missing);
            return Err(Problem::of(ProblemKind::MalformedFrame).because(reason));
        }
        let belongs = |field: &&str| needed.contains(field) || optional.contains(field);
        if let Some(foreign) = present.iter().find(|field| !belongs(field)) {
            let reason = (
                "no corresponde a esta acción",
                "it does not belong to this action",
            );
            let reason = Reason::from(reason).about(foreign);
            return Err(Problem::of(ProblemKind::MalformedFrame).because(reason));
        }
        Ok(())
    }
}

async fn at_desk(desk: &Desk, caller: &Caller, action: Action, request: &Request) -> Answer {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let key = request.clave.as_deref();
    let amount = || request.monto.clone().ok_or(ProblemKind::InvalidAmount);
    match action {
        Action::OpenAccount => {
            let body = OpenAccountBody {
                cedula: text(&request.cedula),
                nombres: text(&request.nombres),
                apellidos: text(&request.apellidos),
            };
            desk.open_account(caller, &body, key).await
        }
        Action::Deposit | Action::Withdraw => {
            let direction = if action == Action::Deposit {
                Direction::In
            } else {
                Direction::Out
            };
            let body = MovementBody {
                monto: amount()?,
                sede: request.sede.clone(),
                fecha_valor: request.fecha_valor.clone(),
            };
            desk.move_money(caller, direction, &text(&request.cedula), &body, key)
                .await
        }
        Action::Transfer => {
            let body = TransferBody {
                cedula_origen: text(&request.cedula_origen),
                cedula_destino: text(&request.cedula_destino),
                monto: amount()?,
                sede: request.sede.clone(),
                fecha_valor: request.fecha_valor.clone(),
            };
            desk.transfer(caller, &body, key).await
        }
        Action::Balance => desk.account(caller, &text(&request.cedula)).await,
        Action::Movements => {
            let cursor = request.cursor.as_deref();
            desk.movements(caller, &text(&request.cedula), request.limite, cursor)
                .await
        }
        Action::Statistics => desk.statistics(caller).await,
        // Answered by the session itself, before the desk is asked.
        Action::Subscribe | Action::Unsubscribe | Action::Ping => empty(),
    }
}

/// Where a subscription begins, so that a client that has had no event yet can resume too.
fn standing_at(cursor: Option<Cursor>) -> Answer {
    let Some(cursor) = cursor else {
        return empty();
    };
    Ok(Reply {
        body: Bytes::from(format!(r#"{{"cursor":"{cursor}"}}"#)),
        replayed: false,
    })
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "it ends calls that answer `Answer`"
)]
fn empty() -> Answer {
    Ok(Reply {
        body: Bytes::from_static(b"{}"),
        replayed: false,
    })
}

fn send(ctx: &mut ws::WebsocketContext<WsSession>, frame: Bytes) {
    match ByteString::try_from(frame) {
        Ok(text) => ctx.text(text),
        Err(_) => log::error!("a frame was not UTF-8; it was not sent"),
    }
}

fn close(ctx: &mut ws::WebsocketContext<WsSession>, code: ws::CloseCode, why: &str) {
    ctx.close(Some(ws::CloseReason {
        code,
        description: Some(why.to_owned()),
    }));
    ctx.stop();
}

impl Actor for WsSession {
    type Context = ws::WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(HEARTBEAT, Self::beat);
        let joined = Connect {
            id: self.id,
            address: self.caller.address,
            pass: self.pass.clone(),
            frames: ctx.address().recipient(),
            kill: self.kill.clone(),
        };
        self.tell_hub(joined, ctx, |(), _, _| {});
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let hub = self.lobby.hub.clone();
        let (id, reason) = (self.id, self.ended);
        // Nobody waits for it: a task sees to it that the hub hears of it even when it is busy.
        actix::spawn(async move {
            let _ = hub.send(Disconnect { id, reason }).await;
        });
    }
}

impl StreamHandler<Result<ws::Message, ws::ProtocolError>> for WsSession {
    fn handle(&mut self, message: Result<ws::Message, ws::ProtocolError>, ctx: &mut Self::Context) {
        self.heard();
        match message {
            Ok(ws::Message::Text(text)) => self.request(text.as_bytes(), ctx),
            Ok(ws::Message::Ping(data)) => ctx.pong(&data),
            Ok(ws::Message::Pong(_) | ws::Message::Nop) => {}
            Ok(ws::Message::Continuation(item)) => self.piece(item, ctx),
            Ok(ws::Message::Binary(_)) => close(ctx, ws::CloseCode::Unsupported, "solo texto"),
            Ok(ws::Message::Close(reason)) => {
                ctx.close(reason);
                ctx.stop();
            }
            Err(ws::ProtocolError::Overflow) => {
                close(ctx, ws::CloseCode::Size, "mensaje de más de 16 KiB");
            }
            Err(error) => {
                log::debug!("session {} breaks the protocol: {error}", self.id);
                close(ctx, ws::CloseCode::Protocol, "protocolo");
            }
        }
    }
}

impl Handler<Deliver> for WsSession {
    type Result = ();

    fn handle(&mut self, message: Deliver, ctx: &mut Self::Context) {
        match message {
            Deliver::Frame(frame) => send(ctx, frame),
            Deliver::Close(reason) => {
                self.leaving = Some(reason);
                self.leave_when_answered(ctx);
            }
            Deliver::Revoked => {
                self.ended = "revoked";
                close(ctx, ws::CloseCode::Policy, "el token ya no es válido");
            }
        }
    }
}
