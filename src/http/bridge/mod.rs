//! The REST of the bridge that the web front end from before Atalaya speaks to: a thin adapter over
//! the desk, there where `LEGACY_API` is on, for trusted addresses and whoever shows a token.
//!
//! It is in no OpenAPI document: nobody should build on it. Its clients send no idempotency key, so
//! that what they ask twice is done twice; a key that comes is honoured.

pub(super) mod alerts;
mod cors;

pub(super) use cors::share;

use super::answer::ApiError;
use super::extract::{JsonBody, Visitor};
use crate::desk::{Desk, Direction, Failure, Placed};
use crate::domain::{Amount, Fact, Identity, Movement};
use crate::storage::HubView;
use crate::trusted::TrustedNetworks;
use crate::wire::bridge::{self, AccountBody, OpenBody, TransferBody};
use crate::wire::legacy::{MOVEMENTS, split_name};
use crate::wire::line::{Fault, Verb};
use crate::wire::numbers::Decimal;
use crate::wire::requests::{self, MovementBody, OpenAccountBody};
use crate::wire::{Problem, ProblemKind};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use bytes::Bytes;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;
use std::sync::Arc;

/// What the bridge needs beside the desk.
#[derive(Clone)]
pub struct Bridge {
    /// Who is let in without a token.
    pub trusted: Arc<TrustedNetworks>,
    /// The companies and sites for which they are let in.
    pub view: Arc<HubView>,
    /// The time zone of the dates that are shown.
    pub zone: TimeZone,
}

impl Bridge {
    /// Who sends a request from a trusted address.
    pub(super) fn identity_of(&self, request: &HttpRequest) -> Option<Identity> {
        let address = request.peer_addr()?.ip();
        self.trusted.identity_of(address, &self.view.registry())
    }
}

/// The bridge, if there is one and `request` is for it.
pub(super) fn asked(request: &HttpRequest) -> Option<&web::Data<Bridge>> {
    let bridge = request.app_data::<web::Data<Bridge>>()?;
    let path = request.match_info().as_str();
    let mut routes = super::BRIDGE_ROUTES.iter();
    let is_ours = routes.any(|(route, _)| match route.split_once('{') {
        Some((before, _)) => path.starts_with(before),
        None => path == *route,
    });
    is_ours.then_some(bridge)
}

/// The answer of the bridge where a request does not get as far as a handler.
pub(super) fn turned_away(problem: &Problem) -> Bytes {
    bridge::failed(None, problem)
}

fn done(body: Bytes) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(body)
}

/// What comes of asking the desk: the body of a good answer, or why there is none.
type Asked = Result<Bytes, Refused>;

enum Refused {
    Failure(Failure),
    Fault(Fault),
}

impl<E: Into<Failure>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

fn respond(request: &HttpRequest, verb: Verb, asked: Asked) -> HttpResponse {
    match asked {
        Ok(body) => done(body),
        Err(Refused::Failure(failure)) => {
            let body = bridge::failed(Some(verb), &failure.problem);
            ApiError::new(request, failure)
                .error_response()
                .set_body(body)
                .map_into_boxed_body()
        }
        Err(Refused::Fault(fault)) => HttpResponse::build(StatusCode::BAD_REQUEST)
            .content_type("application/json")
            .body(bridge::faulty(fault)),
    }
}

pub(super) async fn balance(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
    JsonBody(body): JsonBody<AccountBody>,
) -> HttpResponse {
    let asked = async {
        let found = desk
            .account_found(&visitor.caller, body.cedula.trim())
            .await?;
        Ok(bridge::Done::bytes(
            "consulta",
            bridge::Account::from(&found),
        ))
    };
    respond(&request, Verb::Balance, asked.await)
}

pub(super) async fn deposit(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
    JsonBody(body): JsonBody<bridge::MovementBody>,
) -> HttpResponse {
    let asked = move_money(&desk, &visitor, Direction::In, body).await;
    respond(&request, Verb::Deposit, asked)
}

pub(super) async fn withdraw(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
    JsonBody(body): JsonBody<bridge::MovementBody>,
) -> HttpResponse {
    let asked = move_money(&desk, &visitor, Direction::Out, body).await;
    respond(&request, Verb::Withdraw, asked)
}

async fn move_money(
    desk: &Desk,
    visitor: &Visitor,
    direction: Direction,
    body: bridge::MovementBody,
) -> Asked {
    check_amount(&body.monto)?;
    let (action, mensaje) = match direction {
        Direction::In => ("deposito", "Depósito exitoso"),
        Direction::Out => ("retiro", "Retiro exitoso"),
    };
    let movement = MovementBody {
        monto: body.monto,
        sede: None,
        fecha_valor: None,
    };
    let (caller, account, key) = (&visitor.caller, body.cedula.trim(), visitor.key());
    let placed = desk
        .money_moved(caller, direction, account, &movement, key)
        .await?;
    let data = bridge::Moved {
        mensaje,
        nuevo_saldo: Decimal(movement_of(&placed)?.posting.balance),
    };
    Ok(bridge::Done::bytes(action, data))
}

pub(super) async fn open(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
    JsonBody(body): JsonBody<OpenBody>,
) -> HttpResponse {
    let asked = async {
        let words: Vec<&str> = body.nombre.split_whitespace().collect();
        let names = split_name(&words).ok_or(Refused::Fault(Fault::TooFewNames))?;
        let account = OpenAccountBody {
            cedula: body.cedula.trim().to_owned(),
            nombres: names.0,
            apellidos: names.1,
        };
        let (opened, _) = desk
            .account_opened(&visitor.caller, &account, visitor.key())
            .await?;
        Ok(bridge::Done::bytes("crear", bridge::Opened::from(&opened)))
    };
    respond(&request, Verb::Open, asked.await)
}

pub(super) async fn transfer(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
    JsonBody(body): JsonBody<TransferBody>,
) -> HttpResponse {
    let asked = async {
        check_amount(&body.monto)?;
        let wanted = requests::TransferBody {
            cedula_origen: body.cedula_origen.trim().to_owned(),
            cedula_destino: body.cedula_destino.trim().to_owned(),
            monto: body.monto,
            sede: None,
            fecha_valor: None,
        };
        let placed = desk
            .transferred(&visitor.caller, &wanted, visitor.key())
            .await?;
        let sent = movement_of(&placed)?;
        let received = sent.counterparty.as_ref().ok_or(ProblemKind::Internal)?;
        let data = bridge::Transferred::new(sent.posting.balance, received.balance);
        Ok(bridge::Done::bytes("transferir", data))
    };
    respond(&request, Verb::Transfer, asked.await)
}

pub(super) async fn history(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
    own: web::Data<Bridge>,
) -> HttpResponse {
    let asked = async {
        let (caller, account) = (&visitor.caller, visitor.account.as_str());
        let page = desk
            .movements_found(caller, account, Some(MOVEMENTS), None)
            .await?;
        let data = bridge::History {
            transacciones: bridge::movements(&page.datos, &own.zone),
        };
        Ok(bridge::Done::bytes("historial", data))
    };
    respond(&request, Verb::Movements, asked.await)
}

pub(super) async fn statistics(
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> HttpResponse {
    let asked = async { Ok(desk.figures(&visitor.caller).await?.bytes()) };
    respond(&request, Verb::Statistics, asked.await)
}

/// The old texts tell no amount from an amount of nothing, which the desk's problem does not.
fn check_amount(raw: &RawValue) -> Result<(), Refused> {
    let text = raw.get();
    let text = match serde_json::from_str::<String>(text) {
        Ok(unquoted) => unquoted,
        Err(_) => text.to_owned(),
    };
    Amount::parse(&text)
        .map(drop)
        .map_err(|error| Refused::Fault(error.into()))
}

fn movement_of(placed: &Placed) -> Result<&Movement, Failure> {
    match &placed.entry.fact {
        Fact::Posted(movement) => Ok(movement),
        _ => Err(ProblemKind::Internal.into()),
    }
}
