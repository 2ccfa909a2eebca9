//! The front end comes from another origin: what its browser must hear to let it read our answers
//! (Fetch, §3.3). Only of origins that `ALLOWED_ORIGINS` names, which the guard before this has
//! looked at, and only about what the front end uses.

use super::super::BRIDGE_ROUTES;
use super::{Bridge, asked};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, web};

/// How long a browser may remember the answer to its question, in seconds.
const REMEMBERED: &str = "600";

/// Headers that the front end may send.
const HEADERS: &str = "authorization, content-type, idempotency-key";

/// Answers the questions of browsers, and says on each answer who may read it.
pub(in super::super) async fn share(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let Some(origin) = origin.filter(|_| is_shared(request.request())) else {
        let answered = next.call(request).await;
        return answered.map(ServiceResponse::map_into_boxed_body);
    };
    if request.method() == Method::OPTIONS {
        let mut response = HttpResponse::NoContent().finish();
        let headers = response.headers_mut();
        allow(headers, origin);
        let value = HeaderValue::from_static;
        let methods = methods_of(request.path());
        if let Ok(methods) = HeaderValue::from_str(&methods) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, value(HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, value(REMEMBERED));
        return Ok(request.into_response(response));
    }
    let mut response = next.call(request).await?.map_into_boxed_body();
    allow(response.headers_mut(), origin);
    Ok(response)
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Whether the front end asks for it: a route of the bridge, or our health.
fn is_shared(request: &HttpRequest) -> bool {
    let has_bridge = request.app_data::<web::Data<Bridge>>().is_some();
    asked(request).is_some() || (has_bridge && request.path() == "/health")
}

fn methods_of(path: &str) -> String {
    let is_at = |route: &str| match route.split_once('{') {
        Some((first, rest)) => {
            let last = rest.split_once('}').map_or("", |(_, last)| last);
            !last.is_empty() && path.starts_with(first) && path.ends_with(last)
        }
        None => route == path,
    };
    let route = BRIDGE_ROUTES.iter().find(|(route, _)| is_at(route));
    route.map_or_else(|| "GET".to_owned(), |(_, methods)| methods.join(", "))
}
