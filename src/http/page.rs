//! The page: what people look at all day, embedded in the binary.
//!
//! A build for development reads `static/` at each request, so that a change shows at once.

use super::answer::ApiError;
use crate::wire::ProblemKind;
use actix_web::http::header::{CACHE_CONTROL, ETAG, EntityTag, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use rust_embed::{EmbeddedFile, RustEmbed};

/// Our own files.
#[derive(RustEmbed)]
#[folder = "static/"]
#[include = "*.html"]
#[include = "*.js"]
#[include = "*.css"]
#[include = "*.svg"]
struct Own;

/// What `build.rs` has fetched; empty where Node was not there.
#[derive(RustEmbed)]
#[folder = "$OUT_DIR/vendor"]
struct Vendor;

/// Where the files of the page are, beside `/` itself.
const FOLDER: &str = "/app/";

/// Whether a path is the page's, whose answers browsers may keep and are compressed.
pub(super) fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with(FOLDER)
}

/// The page.
pub(super) async fn index(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    serve(&request, "index.html")
}

/// A file of the page.
pub(super) async fn file(
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    serve(&request, &name)
}

fn serve(request: &HttpRequest, name: &str) -> Result<HttpResponse, ApiError> {
    let found = Own::get(name).or_else(|| Vendor::get(name));
    let file = found.ok_or_else(|| ApiError::new(request, ProblemKind::NotFound))?;
    let tag = tag_of(&file);
    let mut response = match is_known(request, &tag) {
        true => HttpResponse::NotModified(),
        false => HttpResponse::Ok(),
    };
    // Kept, and asked for again each time: a page and its scripts are of one version.
    response.insert_header((CACHE_CONTROL, "no-cache"));
    response.insert_header((ETAG, tag.to_string()));
    if is_known(request, &tag) {
        return Ok(response.finish());
    }
    Ok(response.content_type(kind_of(name)).body(file.data))
}

fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    let shown = request.headers().get(IF_NONE_MATCH);
    let shown = shown.and_then(|value| value.to_str().ok());
    shown.is_some_and(|shown| shown.split(',').any(|one| one.trim() == tag.to_string()))
}

/// Weak, since the same file is sent compressed or not.
fn tag_of(file: &EmbeddedFile) -> EntityTag {
    EntityTag::new_weak(crate::wire::alerts::hex(&file.metadata.sha256_hash()))
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
