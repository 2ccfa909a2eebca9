//! What happens around every request: foreign pages are turned away, and all is measured.

use super::RouteTemplate;
use super::answer::ApiError;
use super::connections::Connection;
use crate::instruments::Instruments;
use crate::origin;
use crate::wire::{Problem, ProblemKind};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HOST, HeaderValue, ORIGIN};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use std::sync::Arc;
use std::time::Instant;

/// Turns away requests for which there is no room, and closes the connection behind them and behind
/// those of the watch, which has only been lent its place.
pub(super) async fn make_room(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let connection = request.request().conn_data::<Arc<Connection>>();
    let is_spare = connection.is_some_and(|connection| connection.is_spare());
    let mut response = if is_spare && !super::is_watch(request.path()) {
        let error = ApiError::new(request.request(), Problem::of(ProblemKind::Overloaded));
        request.into_response(error.error_response())
    } else {
        let answered = next.call(request).await?;
        answered.map_into_boxed_body()
    };
    if is_spare {
        let head = response.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// Turns away requests that a foreign page has made.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let origin = request.headers().get(ORIGIN).map(text_of);
    let allowed = request
        .app_data::<web::Data<Vec<String>>>()
        .zip(host_of(&request))
        .is_some_and(|(origins, host)| origin::is_allowed(origins, host, origin));
    if allowed {
        return next
            .call(request)
            .await
            .map(ServiceResponse::map_into_boxed_body);
    }
    let error = ApiError::new(request.request(), Problem::of(ProblemKind::ForeignOrigin));
    Ok(request.into_response(error.error_response()))
}

/// Whom a request is for: the authority that its target names, as in HTTP/2, where browsers send no
/// `Host` (RFC 9113 §8.3.1), or else `Host`. `None` where the two do not agree, so that nobody gets
/// past one of them with the other.
fn host_of(request: &ServiceRequest) -> Option<&str> {
    let mut named = request.headers().get_all(HOST).map(text_of);
    match request.uri().authority() {
        Some(target) => named
            .all(|host| host.eq_ignore_ascii_case(target.as_str()))
            .then_some(target.as_str()),
        None => named.next(),
    }
}

/// A header's text; what is none is like no host and no origin.
fn text_of(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("\0")
}

/// Measures every request by its route's template, so that no label carries an id.
pub(super) async fn measure(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let connection = request.request().conn_data::<Arc<Connection>>().cloned();
    let _under_way = connection.as_ref().map(Connection::request);
    let instruments = request.app_data::<web::Data<Instruments>>().cloned();
    let result = next.call(request).await;
    let response = match result {
        Ok(response) => response.map_into_boxed_body(),
        Err(error) => return Err(error),
    };
    if let Some(connection) = connection
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        connection.becomes_session();
    }
    if let Some(instruments) = instruments {
        record(&instruments, &response, started);
    }
    Ok(response)
}

fn record(instruments: &Instruments, response: &ServiceResponse<BoxBody>, started: Instant) {
    let request = response.request();
    let route = match request.app_data::<RouteTemplate>() {
        Some(RouteTemplate(template)) => template,
        None if request.path().starts_with("/api/docs/") => "/api/docs",
        None => "other",
    };
    // Methods are the client's choice: only those we know become a label.
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => known,
        _ => "other",
    };
    let status = response.status();
    instruments
        .http_requests
        .with_label_values(&[route, method, status.as_str()])
        .observe(started.elapsed().as_secs_f64());
    if let Some(kind) = response.response().extensions().get::<ProblemKind>() {
        instruments.problems.with_label_values(&[kind.code()]).inc();
    }
}
