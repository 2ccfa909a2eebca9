//! What every response tells browsers: to load nothing from elsewhere, to be framed by nobody, to
//! guess no types and to keep nothing.

use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::Next;

/// For answers that are data: nothing of them is ever run.
const DATA: &str = "default-src 'none'; frame-ancestors 'none'";

/// For the page: its own scripts, styles, pictures and connections.
const PAGE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
                    frame-ancestors 'none'";

/// For the documentation, whose vendored page (Swagger UI) sets styles inline and has a picture
/// within its style sheet.
const DOCUMENTATION: &str = "default-src 'none'; script-src 'self'; \
                             style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                             connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A year, as browsers want it before they believe it.
const HSTS: &str = "max-age=31536000";

/// Adds the headers that every response has.
pub(super) async fn protect(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let is_secure = request.app_config().secure();
    let policy = match request.path() {
        "/" => PAGE,
        path if path.starts_with("/api/docs") => DOCUMENTATION,
        _ => DATA,
    };
    let keeps_nothing = policy == DATA && !super::page::is_page(request.path());
    let answered = next.call(request).await?;
    let mut response = answered.map_into_boxed_body();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(CONTENT_SECURITY_POLICY, policy);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    if keeps_nothing {
        set(CACHE_CONTROL, "no-store");
    }
    if is_secure {
        set(STRICT_TRANSPORT_SECURITY, HSTS);
    }
    Ok(response)
}
