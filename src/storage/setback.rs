//! Failures of a database after which the same transaction may succeed.
//!
//! Servers name them by number, and by the client library's and the cluster's ways only by their
//! text, so it is the text that is read, without regard to case. Connections ask for it in English.

use super::StorageError;
use diesel::result::{DatabaseErrorKind, Error};
use std::time::Duration;

/// How often a transaction is tried.
pub(super) const TRIES: u32 = 8;

/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(320);

/// What a failure means for whoever may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setback {
    /// The transaction was undone for the sake of another: it may be run again.
    Undone,
    /// The connection is gone, and with it a transaction that was not being committed.
    Lost,
    /// To try again would help nobody.
    Fatal,
}

/// Deadlock (1213), wait for a lock (1205), a row that was changed meanwhile (1020), and what a
/// Galera cluster says of a transaction that another node was first to contradict. MariaDB tells of
/// a deadlock in the server's own language whatever a connection asks for; the word is in most.
const UNDONE: [&str; 4] = [
    "deadlock",
    "lock wait timeout exceeded",
    "record has changed since last read",
    "certification failure",
];

/// 2006, 2013, 1927, 1053, 1152, 4031, and 1047 of a cluster's node that is not in it.
const LOST: [&str; 8] = [
    "server has gone away",
    "lost connection to",
    "connection was killed",
    "server shutdown in progress",
    "aborted connection",
    "server closed the connection",
    "disconnected by the server because of inactivity",
    "wsrep has not yet prepared node",
];

/// What `error` means.
pub(super) fn of(error: &StorageError) -> Setback {
    let StorageError::Query(error) = error else {
        return Setback::Fatal;
    };
    match error {
        // A key that another lane has used meanwhile is found at the next try.
        Error::DatabaseError(
            DatabaseErrorKind::SerializationFailure | DatabaseErrorKind::UniqueViolation,
            _,
        ) => return Setback::Undone,
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection, _) => return Setback::Lost,
        _ => {}
    }
    let text = error.to_string().to_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|known| text.contains(known));
    if says(&UNDONE) {
        Setback::Undone
    } else if says(&LOST) {
        Setback::Lost
    } else {
        Setback::Fatal
    }
}

/// Waits before the next try, longer each time and never as long as somebody else who waits.
pub(super) fn pause(tries: u32) {
    let longest = PAUSE.min(Duration::from_millis(5 << tries.min(6)));
    let mut random = [0; 1];
    // Without chance all that are in each other's way would meet again; so it would be no harm
    // beyond that if there were none.
    let _ = getrandom::fill(&mut random);
    std::thread::sleep(longest.mul_f64(f64::from(random[0]) / 255.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> StorageError {
        let information = Box::new(text.to_owned());
        Error::DatabaseError(DatabaseErrorKind::Unknown, information).into()
    }

    #[test]
    fn what_may_be_run_again_is_told_by_its_text() {
        for (text, expected) in [
            (
                "Deadlock found when trying to get lock; try restarting transaction",
                Setback::Undone,
            ),
            (
                "Encontrado estancamiento (deadlock) al intentar obtener el bloqueo",
                Setback::Undone,
            ),
            (
                "WSREP detected deadlock/conflict and aborted the transaction",
                Setback::Undone,
            ),
            (
                "Lock wait timeout exceeded; try restarting transaction",
                Setback::Undone,
            ),
            (
                "Record has changed since last read in table 'lanes'",
                Setback::Undone,
            ),
            ("Lost connection to server during query", Setback::Lost),
            ("MySQL server has gone away", Setback::Lost),
            ("Connection was killed", Setback::Lost),
            ("Table 'x.journal' doesn't exist", Setback::Fatal),
            ("database or disk is full", Setback::Fatal),
        ] {
            assert_eq!(of(&failure(text)), expected, "{text}");
        }
    }
}
