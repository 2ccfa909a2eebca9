//! The addresses that clients from before Atalaya know, served where `LEGACY_API` is on: one file a
//! kind of client. What goes wrong is told in their words too.

pub(super) mod alerts;

use super::Route;
use crate::domain::{Identity, Registry};
use crate::storage::HubView;
use crate::trusted::TrustedNetworks;
use crate::wire::bridge_alerts::Bad;
use crate::wire::events::json;
use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web;
use bytes::Bytes;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// What all addresses of these clients start with.
const STARTS: [&str; 2] = ["/api/hardware-auth/", "/api/mqtt-alerts"];

/// Where devices show their own token, or their secret: nobody else's token is looked at.
const OF_DEVICES: [&str; 3] = [
    "/api/hardware-auth/authenticate",
    "/api/mqtt-alerts",
    "/api/mqtt-alerts/process",
];

/// Who needs no token on these addresses.
#[derive(Clone)]
pub struct Bridge {
    /// Networks that are trusted.
    pub trusted: Arc<TrustedNetworks>,
    /// Where it is seen whether their companies are there.
    pub view: Arc<HubView>,
}

impl Bridge {
    /// Who comes from a trusted address to one of these addresses.
    pub(super) fn identity(&self, path: &str, address: Option<IpAddr>) -> Option<Identity> {
        let registry: Arc<Registry> = self.view.registry();
        is_bridge(path)
            .then(|| self.trusted.identity_of(address?, &registry))
            .flatten()
    }
}

/// Whether a path is one of these addresses.
fn is_bridge(path: &str) -> bool {
    STARTS.iter().any(|start| path.starts_with(start))
}

/// Whether a device shows its own token here.
pub(super) fn is_of_devices(method: &str, path: &str) -> bool {
    method == "POST" && OF_DEVICES.contains(&path)
}

/// The handlers of these addresses.
pub(super) fn handler(path: &str, method: &str) -> Route {
    match (method, path) {
        ("POST", "/api/hardware-auth/authenticate") => web::post().to(alerts::authenticate),
        ("POST", "/api/mqtt-alerts" | "/api/mqtt-alerts/process") => web::post().to(alerts::take),
        ("GET", "/api/mqtt-alerts") => web::get().to(alerts::list),
        ("GET", "/api/mqtt-alerts/verify-hardware") => web::get().to(alerts::verify_device),
        ("GET", "/api/mqtt-alerts/verify-empresa-sede") => web::get().to(alerts::verify_place),
        ("PATCH", "/api/mqtt-alerts/{id}/authorize") => web::patch().to(alerts::authorize),
        ("PATCH", "/api/mqtt-alerts/{id}/toggle-status") => web::patch().to(alerts::toggle),
        _ => web::route().to(super::answer::not_found),
    }
}

/// Tells what went wrong in the words that clients from before read.
pub(super) async fn in_their_words(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let is_theirs = request.app_data::<web::Data<Bridge>>().is_some() && is_bridge(request.path());
    let response = next.call(request).await?.map_into_boxed_body();
    if !is_theirs || response.status().as_u16() < 400 {
        return Ok(response);
    }
    Ok(response.map_body(|head, body| {
        let told = body.try_into_bytes().unwrap_or_default();
        let json_type = HeaderValue::from_static("application/json");
        head.headers_mut().insert(CONTENT_TYPE, json_type);
        BoxBody::new(in_short(head.status, &told))
    }))
}

/// A problem document, shortened.
fn in_short(status: StatusCode, document: &[u8]) -> Bytes {
    // Whatever of a device is wrong is told alike.
    if status == StatusCode::UNAUTHORIZED {
        return json(&Bad::new("No autorizado", None));
    }
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    let text = |field: &str| document.get(field).and_then(Value::as_str);
    let title = text("title").unwrap_or("Error");
    let detail = text("detail").filter(|detail| *detail != title);
    let reason = detail.map(|detail| detail.strip_prefix(title).unwrap_or(detail));
    let reason = reason.map(|reason| reason.trim_start_matches(": "));
    json(&Bad::new(title, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_told_in_short() {
        let told = |status: u16, document: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            String::from_utf8(in_short(status, document.as_bytes()).to_vec()).unwrap()
        };
        assert_eq!(
            told(422, r#"{"title":"Rechazada","detail":"Rechazada: TIPO"}"#),
            r#"{"success":false,"error":"Rechazada","detalles":"TIPO"}"#
        );
        assert_eq!(
            told(404, r#"{"title":"No existe","detail":"No existe"}"#),
            r#"{"success":false,"error":"No existe","detalles":null}"#
        );
        let unauthorised = r#"{"success":false,"error":"No autorizado","detalles":null}"#;
        assert_eq!(told(401, r#"{"title":"a","detail":"a: b"}"#), unauthorised);
        assert_eq!(told(401, ""), unauthorised);
        assert!(told(500, "not JSON").contains("\"Error\""));
    }
}
