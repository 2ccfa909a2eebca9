//! Keeps the history over restarts: one small file beside the database.
//!
//! It is written once a minute and at an orderly end, so kill -9 loses a minute of charts. It is not
//! synced: charts are not worth the disk's time, and a torn file only begins the history anew.

use super::history::{History, Kept};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The file's name in the data folder.
pub(super) const FILE: &str = "metrics.json";

/// Reads what was kept. A file that cannot be read is told and forgotten.
pub(super) fn load(path: &Path) -> History {
    let read = match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => return History::default(),
        Err(error) => Err(error.to_string()),
    };
    let history = read.and_then(|kept| {
        History::from_kept(kept).ok_or_else(|| "it is of another version".to_owned())
    });
    history.unwrap_or_else(|reason| {
        log::warn!(
            "the history of metrics begins anew, {} is of no use: {reason}",
            path.display()
        );
        History::default()
    })
}

/// Writes the history, on a thread that may block.
pub(super) fn save(path: PathBuf, kept: Kept) -> impl Future<Output = Result<(), String>> {
    let written = tokio::task::spawn_blocking(move || {
        let fresh = path.with_extension("json.new");
        let bytes = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
        std::fs::write(&fresh, bytes)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|error| format!("{}: {error}", path.display()))
    });
    async move { written.await.unwrap_or_else(|error| Err(error.to_string())) }
}
