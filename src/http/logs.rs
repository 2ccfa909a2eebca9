//! `/api/v1/logs`: what the service says of itself, for those who run it.

use super::answer::ApiError;
use super::extract::{Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::log_files::{LogFilter, LogFolder, LogName, LogPage, LogPlace, gravity};
use crate::wire::{Problem, ProblemKind, Reason};
use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Requests that read logs at once: they share the disk with the ledger.
const READS: usize = 2;

/// Lines on a page where nothing is said, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 200;

/// The longest text that is looked for, in characters.
const LONGEST: usize = 200;

/// The logs, read by so many at once.
#[derive(Debug, Clone)]
pub struct LogDesk {
    folder: LogFolder,
    reads: Arc<Semaphore>,
}

impl LogDesk {
    /// The logs in `folder`.
    #[must_use]
    pub fn new(folder: LogFolder) -> Self {
        Self {
            folder,
            reads: Arc::new(Semaphore::new(READS)),
        }
    }
}

/// Lee un registro, de la línea más nueva hacia atrás; con `despues`, lo escrito desde entonces.
#[utoipa::path(
    get, path = "/api/v1/logs/{registro}", tag = "operaciones", operation_id = "leerRegistro",
    params(
        ("registro" = String, Path, description = "`sistema`, `alertas` or `errores`"),
        ("nivel" = Option<String>, Query, description = "This grave or graver: `error`, `warn`, `info`, `debug`, `trace`"),
        ("texto" = Option<String>, Query, description = "Containing this, whatever the case", max_length = 200),
        ("desde" = Option<String>, Query, description = "Not before this moment (RFC 3339)"),
        ("hasta" = Option<String>, Query, description = "Before this moment (RFC 3339)"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 100 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
        ("despues" = Option<String>, Query, description = "`posicion` of an earlier answer"),
    ),
    responses((status = 200, description = "A page", body = LogPage), Problems)
)]
pub(super) async fn read(
    logs: web::Data<LogDesk>,
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let failed = |problem: Problem| ApiError::new(&request, problem);
    desk.may_read_logs(&visitor.caller).map_err(failed)?;
    let log = LogName::parse(visitor.param("registro"));
    let log = log.ok_or_else(|| failed(ProblemKind::NotFound.into()))?;
    let (filter, limit) = wanted(&query).map_err(failed)?;
    let cursor = place("cursor", &query).map_err(failed)?;
    let after = place("despues", &query).map_err(failed)?;
    let permit = Arc::clone(&logs.reads).try_acquire_owned();
    let permit = permit.map_err(|_| failed(ProblemKind::Overloaded.into()))?;
    let folder = logs.folder.clone();
    let read = web::block(move || {
        let _permit = permit;
        match after {
            Some(place) => folder.after(log, &filter, place, limit),
            None => folder.page(log, &filter, cursor, limit),
        }
    });
    match read.await {
        Ok(Ok(page)) => Ok(HttpResponse::Ok().json(page)),
        Ok(Err(error)) => {
            log::error!("the logs cannot be read: {error}");
            Err(failed(ProblemKind::Internal.into()))
        }
        Err(_) => Err(failed(ProblemKind::Overloaded.into())),
    }
}

fn wanted(query: &Query) -> Result<(LogFilter, usize), Problem> {
    let level = query.text("nivel");
    let known = gravity(level);
    if !level.is_empty() && known.is_none() {
        return Err(wrong((
            "nivel: error, warn, info, debug o trace",
            "nivel: error, warn, info, debug or trace",
        )));
    }
    let text = query.text("texto");
    if text.chars().count() > LONGEST {
        return Err(wrong((
            "texto: hasta 200 caracteres",
            "texto: up to 200 characters",
        )));
    }
    let limit = match query.text("limite") {
        "" => Some(PAGE),
        text => text
            .parse()
            .ok()
            .filter(|limit| (1..=PAGE_MAX).contains(limit)),
    };
    let limit = limit
        .ok_or_else(|| wrong(("limite: se espera de 1 a 200", "limite: expected 1 to 200")))?;
    let filter = LogFilter {
        gravity: known,
        text: text.to_lowercase(),
        from: moment("desde", query)?,
        until: moment("hasta", query)?,
    };
    Ok((filter, limit))
}

fn moment(name: &'static str, query: &Query) -> Result<Option<Timestamp>, Problem> {
    let text = query.text(name);
    if text.is_empty() {
        return Ok(None);
    }
    let reason = ("se espera una fecha RFC 3339", "expected an RFC 3339 date");
    text.parse()
        .map(Some)
        .map_err(|_| wrong(Reason::from(reason).about(name)))
}

fn place(name: &'static str, query: &Query) -> Result<Option<LogPlace>, Problem> {
    let text = query.text(name);
    if text.is_empty() {
        return Ok(None);
    }
    let reason = ("no es uno nuestro", "not one of ours");
    text.parse()
        .map(Some)
        .map_err(|()| wrong(Reason::from(reason).about(name)))
}

fn wrong(reason: impl Into<Reason>) -> Problem {
    Problem::of(ProblemKind::InvalidParameter).because(reason)
}
