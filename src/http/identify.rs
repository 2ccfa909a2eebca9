//! Who sends a request: the token that it shows, before any handler sees it.
//!
//! Deny by default: what is not listed in [`super::PUBLIC`] is not even looked at without a good
//! token. What somebody may do with theirs is the desk's to decide.

use super::answer::ApiError;
use super::bridge;
use crate::actors::doorkeeper::Trail;
use crate::clock::Clock;
use crate::desk::Caller;
use crate::domain::token::Token;
use crate::domain::{Channel, Identity};
use crate::limits::Limits;
use crate::storage::AccessView;
use crate::storage::access::Standing;
use crate::wire::{Problem, ProblemKind};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, ResponseError, web};
use std::sync::Arc;

/// The cookie of a page's session. The prefix makes browsers refuse it from anywhere but this very
/// host, over TLS or loopback, for all paths (RFC 6265bis §4.1.3).
pub(super) const COOKIE_NAME: &str = "__Host-atalaya";

/// Where the front end from before Atalaya opens its session, and says who it is in it.
const SOCKET_IO: &str = "/socket.io/";

/// What a page must send along with its cookie.
const CSRF: &str = "X-CSRF-Token";

/// What it takes to tell who sends a request.
#[derive(Clone)]
pub struct Door {
    /// Who is let in.
    pub access: Arc<AccessView>,
    /// Where refusals are told.
    pub trail: Trail,
    /// How much may be asked.
    pub limits: Limits,
    /// The time.
    pub clock: Clock,
}

/// Who sends a request, for its handler.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) caller: Caller,
    /// The token of a page's cookie.
    pub(super) csrf: Option<String>,
}

/// Tells who sends a request, and turns away who may send none.
pub(super) async fn identify(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let visited = visit(request.request(), super::is_watch(request.path()));
    let allowed = visited.and_then(|visit| {
        let is_somebody = visit.caller.identity.is_somebody();
        if is_somebody || is_public(request.request()) {
            Ok(visit)
        } else {
            Err(ProblemKind::Unauthenticated.into())
        }
    });
    match allowed {
        Ok(visit) => {
            request.extensions_mut().insert(visit);
            let answered = next.call(request).await;
            answered.map(ServiceResponse::map_into_boxed_body)
        }
        Err(problem) => {
            let error = ApiError::new(request.request(), problem);
            Ok(request.into_response(error.error_response()))
        }
    }
}

/// Whether a request may come from anybody. Asked before the router is, so it matches the routes by
/// itself; whoever shows a token is spared that.
fn is_public(request: &HttpRequest) -> bool {
    // Where there is no route there is nothing to protect.
    let Some(path) = request.resource_map().match_pattern(routed(request)) else {
        return true;
    };
    if path.starts_with("/api/docs") || path == "/api/openapi.json" || path == SOCKET_IO {
        return true;
    }
    let method = request.method().as_str();
    if bridge::alerts::is_of_devices(method, &path) {
        return true;
    }
    super::PUBLIC
        .iter()
        .any(|(open, methods)| *open == path && methods.contains(&method))
}

/// The path as the router reads it: `/%77s` is `/ws` to it.
fn routed(request: &HttpRequest) -> &str {
    request.match_info().as_str()
}

fn visit(request: &HttpRequest, is_exempt: bool) -> Result<Visit, Problem> {
    let door = request
        .app_data::<web::Data<Door>>()
        .ok_or(ProblemKind::Internal)?;
    if !is_exempt {
        let address = request.peer_addr().map(|peer| peer.ip());
        door.limits.address(address).map_err(too_many)?;
    }
    let shown = shown_token(request)?;
    let standing = match &shown {
        None => None,
        Some((token, _)) => {
            let standing = door.access.identify(token, door.clock.now());
            let standing = standing.ok_or(ProblemKind::InvalidToken)?;
            if !is_exempt {
                count_principal(door, &standing)?;
            }
            Some(standing)
        }
    };
    let csrf = match shown {
        Some((token, Shown::Cookie)) => {
            check_csrf(request, &token)?;
            Some(token.csrf())
        }
        _ => None,
    };
    let mut caller = caller(door, standing, request, Channel::Http);
    if let Some(bridge) = bridge::asked(request) {
        caller.channel = Channel::Bridge;
        // There alone an address says who somebody is.
        if let Some(identity) = bridge
            .identity_of(request)
            .filter(|_| caller.standing.is_none())
        {
            caller.identity = Arc::new(identity);
        }
    }
    Ok(Visit { caller, csrf })
}

fn too_many(seconds: u64) -> Problem {
    Problem::of(ProblemKind::TooManyRequests).after_seconds(seconds)
}

/// Counts a request of whoever `standing` is.
pub(super) fn count_principal(door: &Door, standing: &Standing) -> Result<(), Problem> {
    let row = standing.subject.row;
    door.limits.principal(row).map_err(too_many)
}

/// Whoever sends `request`, with the token that they have shown.
pub(super) fn caller(
    door: &Door,
    standing: Option<Standing>,
    request: &HttpRequest,
    channel: Channel,
) -> Caller {
    let identity = standing.as_ref().map_or_else(
        || Arc::new(Identity::nobody()),
        |standing| Arc::clone(&standing.subject.identity),
    );
    Caller {
        identity,
        standing,
        channel,
        address: request.peer_addr().map(|peer| peer.ip()),
        trail: door.trail.clone(),
    }
}

/// How a token is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Header,
    Cookie,
}

fn shown_token(request: &HttpRequest) -> Result<Option<(Token, Shown)>, Problem> {
    // A device's own token is none that is kept here.
    if bridge::alerts::is_of_devices(request.method().as_str(), routed(request)) {
        return Ok(None);
    }
    let headers = request.headers();
    let invalid = || Problem::of(ProblemKind::InvalidToken);
    if headers.contains_key(AUTHORIZATION) {
        let text = bearer(headers).ok_or_else(invalid)?;
        let token = Token::parse(text).map_err(|_| invalid())?;
        return Ok(Some((token, Shown::Header)));
    }
    // A foreign page can open a WebSocket with the cookie, and no header of ours can go with it:
    // there a page shows a ticket.
    if matches!(routed(request), "/ws" | SOCKET_IO) || bridge::asked(request).is_some() {
        return Ok(None);
    }
    match cookie(headers) {
        None => Ok(None),
        // A cookie that is no token any more must not keep its page from signing in.
        Some(text) => Ok(Token::parse(text)
            .ok()
            .filter(|token| is_good(request, token))
            .map(|token| (token, Shown::Cookie))),
    }
}

fn is_good(request: &HttpRequest, token: &Token) -> bool {
    request
        .app_data::<web::Data<Door>>()
        .is_some_and(|door| door.access.identify(token, door.clock.now()).is_some())
}

/// The token of the one `Authorization: Bearer …`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION);
    let only = all.next().filter(|_| all.next().is_none())?;
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers
        .get_all(COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE_NAME).then_some(value))
}

/// What changes something must come from our own page, which knows what the cookie's token implies.
fn check_csrf(request: &HttpRequest, token: &Token) -> Result<(), Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let sent = request.headers().get(CSRF).map(HeaderValue::as_bytes);
    if sent == Some(token.csrf().as_bytes()) {
        return Ok(());
    }
    Err(ProblemKind::MissingCsrf.into())
}
