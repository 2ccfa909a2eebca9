//! The page: what people look at all day, embedded in the binary.
//!
//! A build for development reads `static/` at each request, so that a change shows at once.

use super::answer::ApiError;
use crate::wire::ProblemKind;
use crate::wire::alerts::hex;
use actix_web::http::header::{CACHE_CONTROL, ETAG, EntityTag, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Our own files.
#[derive(RustEmbed)]
#[folder = "static/"]
#[include = "*.html"]
#[include = "*.js"]
#[include = "*.css"]
#[include = "*.svg"]
struct Own;

/// What `build.rs` has fetched, by name; empty where Node was not there.
const VENDOR: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/vendor.rs"));

/// A file, and what tells its versions apart.
struct Asset {
    data: Cow<'static, [u8]>,
    tag: EntityTag,
}

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
    let asset = find(name).ok_or_else(|| ApiError::new(request, ProblemKind::NotFound))?;
    let tag = asset.tag;
    let is_known = is_known(request, &tag);
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    // Kept, and asked for again each time: a page and its scripts are of one version.
    response.insert_header((CACHE_CONTROL, "no-cache"));
    response.insert_header((ETAG, tag.to_string()));
    if is_known {
        return Ok(response.finish());
    }
    Ok(response.content_type(kind_of(name)).body(asset.data))
}

fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    let shown = request.headers().get(IF_NONE_MATCH);
    let shown = shown.and_then(|value| value.to_str().ok());
    shown.is_some_and(|shown| shown.split(',').any(|one| one.trim() == tag.to_string()))
}

fn find(name: &str) -> Option<Asset> {
    // Weak, since the same file is sent compressed or not.
    let tagged = |digest: &[u8]| EntityTag::new_weak(hex(digest));
    if let Some(own) = Own::get(name) {
        return Some(Asset {
            tag: tagged(&own.metadata.sha256_hash()),
            data: own.data,
        });
    }
    let (_, data) = VENDOR.iter().find(|(known, _)| *known == name)?;
    Some(Asset {
        tag: tagged(&Sha256::digest(data)),
        data: Cow::Borrowed(data),
    })
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
