//! The logs at the desk: what the service says of itself, for those who run it.

use super::alerts::{limit, moment};
use super::{Answer, Caller, Desk, Failure, allow, invalid_parameter, reply};
use crate::domain::{Action, Resource};
use crate::log_files::{LogFilter, LogName, LogPlace, gravity};
use crate::wire::{ProblemKind, Reason};
use std::sync::Arc;

/// Requests that read logs at once: they share the disk with the ledger.
pub(super) const READS: usize = 2;

/// Lines on a page where nothing is said.
const PAGE: i64 = 100;

/// The longest text that is looked for, in characters.
const LONGEST: usize = 200;

/// Which lines somebody wants, as they wrote it; empty is whatever there is.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// `sistema`, `alertas` or `errores`.
    pub registro: String,
    /// This grave or graver.
    pub nivel: String,
    /// Containing this.
    pub texto: String,
    /// Not before this moment.
    pub desde: String,
    /// Before this moment.
    pub hasta: String,
    /// So many at most.
    pub limite: String,
    /// Before this place.
    pub cursor: String,
    /// After this place.
    pub despues: String,
}

impl Desk {
    /// Reads a log: a page from the newest line back, or what was written after a place.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn read_log(&self, caller: &Caller, asked: &LogQuery) -> Answer {
        // In the logs there is something of every company.
        allow(caller, Action::ReadLogs, Resource::Installation)?;
        let log = LogName::parse(&asked.registro).ok_or(ProblemKind::NotFound)?;
        let filter = wanted(asked)?;
        let limit = match asked.limite.as_str() {
            "" => PAGE,
            text => limit(text)?,
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        let cursor = place("cursor", &asked.cursor)?;
        let after = place("despues", &asked.despues)?;
        let permit = Arc::clone(&self.log_reads).try_acquire_owned();
        let permit = permit.map_err(|_| ProblemKind::Overloaded)?;
        let folder = self.parts.logs.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            match after {
                Some(place) => folder.after(log, &filter, place, limit),
                None => folder.page(log, &filter, cursor, limit),
            }
        });
        match read.await {
            Ok(Ok(page)) => reply(&page),
            Ok(Err(error)) => {
                log::error!("the logs cannot be read: {error}");
                Err(ProblemKind::Internal.into())
            }
            Err(_) => Err(ProblemKind::Overloaded.into()),
        }
    }
}

fn wanted(asked: &LogQuery) -> Result<LogFilter, Failure> {
    let level = gravity(&asked.nivel);
    if !asked.nivel.is_empty() && level.is_none() {
        return Err(invalid_parameter((
            "nivel: error, warn, info, debug o trace",
            "nivel: error, warn, info, debug or trace",
        )));
    }
    if asked.texto.chars().count() > LONGEST {
        return Err(invalid_parameter((
            "texto: hasta 200 caracteres",
            "texto: up to 200 characters",
        )));
    }
    Ok(LogFilter {
        gravity: level,
        text: asked.texto.to_lowercase(),
        from: moment("desde", &asked.desde)?,
        until: moment("hasta", &asked.hasta)?,
    })
}

fn place(name: &'static str, text: &str) -> Result<Option<LogPlace>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let reason = ("no es uno nuestro", "not one of ours");
    text.parse()
        .map(Some)
        .map_err(|()| invalid_parameter(Reason::from(reason).about(name)))
}
