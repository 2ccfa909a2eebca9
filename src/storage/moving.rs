//! Moving in: where an account stands on its way, and history that need not be published.

use super::connection::open;
use super::digests::key_record;
use super::{Connection, Location, StorageError, queries};
use crate::domain::{
    AccountId, Channel, Entry, Fact, KeyDigest, Money, Movement, Order, Position, Posting, Reach,
};
use crate::wire::events;

/// Entries looked at in one read.
const PAGE: usize = 1_024;

/// An account that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Given names of its holder.
    pub given_names: String,
    /// Surnames of its holder.
    pub surnames: String,
    /// Its last posting, if it has one.
    pub last: Option<LastPosting>,
}

/// The last posting of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastPosting {
    /// The change.
    pub posting: Posting,
    /// Whether it was brought in from another system.
    pub is_history: bool,
    key: Option<KeyDigest>,
}

impl LastPosting {
    /// Whether it is what `order` makes, and came to `posting`.
    #[must_use]
    pub fn is_of(&self, order: &Order, posting: &Posting) -> bool {
        self.is_history && self.posting == *posting && self.key == Some(key_record(order).digest)
    }
}

/// Where the account called `id` stands; `None` where there is none.
///
/// # Errors
/// [`StorageError`].
pub fn standing(
    connection: &mut Connection,
    id: &AccountId,
) -> Result<Option<Standing>, StorageError> {
    let Some(account) = queries::find_account(connection, &Reach::All, id)? else {
        return Ok(None);
    };
    let entry = match account.last.seq {
        0 => None,
        _ => queries::entry_at(connection, account.last)?,
    };
    let last = entry.and_then(|entry| match &entry.fact {
        Fact::Posted(Movement { posting, .. }) => Some(LastPosting {
            posting: *posting,
            is_history: entry.channel == Channel::MovingIn,
            key: entry.key.map(|key| key.digest),
        }),
        _ => None,
    });
    if last.is_none() && account.version > 0 {
        return Err(StorageError::Inconsistent {
            what: format!("account {} has postings and no last one", account.row),
        });
    }
    Ok(Some(Standing {
        given_names: account.given_names,
        surnames: account.surnames,
        last,
    }))
}

/// Where the outbox of each lane may go at once: past what is history or publishes nothing, up to
/// the first entry that is still to be published. Nothing of those that stand there already.
/// Retained balances of the accounts passed over are made right by whoever publishes, as after an
/// outage: its marker stays behind.
///
/// # Errors
/// [`StorageError`].
pub fn outbox_past_history(connection: &mut Connection) -> Result<Vec<Position>, StorageError> {
    let mut further = Vec::new();
    for (lane, seq) in (0..).zip(queries::outbox_positions(connection)?) {
        let from = Position { lane, seq };
        let position = past_history(connection, from)?;
        if position.seq > from.seq {
            further.push(position);
        }
    }
    Ok(further)
}

fn past_history(connection: &mut Connection, from: Position) -> Result<Position, StorageError> {
    let mut position = from;
    loop {
        let entries = queries::entries_after(connection, position, PAGE)?;
        let passed = entries.iter().take_while(|entry| is_silent(entry)).last();
        let whole = passed == entries.last();
        position = passed.map_or(position, |entry| entry.position);
        if !whole || entries.is_empty() {
            return Ok(position);
        }
    }
}

fn is_silent(entry: &Entry) -> bool {
    // The threshold decides on alerts of withdrawals alone, which are never silent.
    entry.channel == Channel::MovingIn || events::events_of(entry, Money::ZERO).is_empty()
}

/// Opens the database at `location` for looking, if there is one in it already.
///
/// # Errors
/// [`StorageError`].
pub fn look_into(location: &Location) -> Result<Option<Connection>, StorageError> {
    if location.path().is_some_and(|path| !path.exists()) {
        return Ok(None);
    }
    let mut connection = open(location)?;
    match queries::ping(&mut connection) {
        Ok(()) => Ok(Some(connection)),
        Err(StorageError::Query(error)) if is_missing_table(&error.to_string()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As SQLite, and MySQL and MariaDB, say it.
fn is_missing_table(error: &str) -> bool {
    error.contains("no such table") || error.contains("doesn't exist")
}
