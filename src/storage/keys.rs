//! Which decision stands under which idempotency key.
//!
//! Keys arrive in random order, and an index in random order dirties a page for every key. So the
//! latest keys stand in memory (the journal has them, so nothing is lost with the process); when
//! enough have gathered they are sealed and moved to the table in sorted order, a slice with each
//! group, so that a slice touches few neighbouring pages and no commit pays for all.
//!
//! Several lanes do not see each other's memory: there the table's own index keeps a key from being
//! used twice, so each key is written with its decision.

use super::connection::{ROWS, on_each};
use super::schema::{idempotency_keys, journal};
use super::{Connection, StorageError};
use crate::domain::{KeyDigest, Position};
use diesel::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Keys that gather before they are sealed: some 6 MiB, and a start reads at most twice as many.
const BATCH: usize = 65_536;

/// Keys moved with a group beyond twice its size, so that a batch is gone before the next is full.
const SLICE_MINIMUM: usize = 16;

/// The index of keys: memory in front, table behind.
#[derive(Debug)]
pub(super) struct KeyIndex {
    lane: i32,
    /// Whether other lanes use keys too.
    is_shared: bool,
    recent: HashMap<KeyDigest, i64>,
    sealed: BTreeMap<KeyDigest, i64>,
    /// All keys up to here are in the table once `sealed` is empty.
    sealed_to: i64,
    batch: usize,
}

impl KeyIndex {
    /// The index as the journal implies it, where the table holds all keys up to `indexed_to`.
    pub(super) fn load(
        connection: &mut Connection,
        (lane, is_shared): (i32, bool),
        indexed_to: i64,
    ) -> Result<Self, StorageError> {
        let rows: Vec<(Option<Vec<u8>>, i64)> = if is_shared {
            Vec::new()
        } else {
            journal::table
                .filter(journal::lane.eq(lane))
                .filter(journal::seq.gt(indexed_to))
                .filter(journal::key_digest.is_not_null())
                .select((journal::key_digest, journal::seq))
                .load(connection)?
        };
        let recent = rows
            .into_iter()
            .filter_map(|(digest, seq)| Some((digest?.as_slice().try_into().ok()?, seq)))
            .collect();
        Ok(Self {
            lane,
            is_shared,
            recent,
            sealed: BTreeMap::new(),
            sealed_to: indexed_to,
            batch: BATCH,
        })
    }

    /// Where the decision under `digest` stands, if there is one.
    pub(super) fn find(
        &self,
        connection: &mut Connection,
        digest: &KeyDigest,
    ) -> Result<Option<Position>, StorageError> {
        if let Some(seq) = self.recent.get(digest).or_else(|| self.sealed.get(digest)) {
            let (lane, seq) = (self.lane, *seq);
            return Ok(Some(Position { lane, seq }));
        }
        let found: Option<(i32, i64)> = idempotency_keys::table
            .find(digest.as_slice())
            .select((idempotency_keys::lane, idempotency_keys::seq))
            .first(connection)
            .optional()?;
        Ok(found.map(|(lane, seq)| Position { lane, seq }))
    }

    /// Notes a key decided in the running group.
    pub(super) fn add(&mut self, digest: KeyDigest, seq: i64) {
        self.recent.insert(digest, seq);
    }

    /// Moves a slice of the sealed keys to the table, within the running group's transaction.
    /// Returns the new `keys_indexed_to` when the batch is through.
    pub(super) fn advance(
        &mut self,
        connection: &mut Connection,
        operations: usize,
    ) -> Result<Option<i64>, StorageError> {
        if self.is_shared {
            put_all(connection, self.lane, &self.recent)?;
            return Ok(None);
        }
        if self.sealed.is_empty() {
            return Ok(None);
        }
        for _ in 0..operations * 2 + SLICE_MINIMUM {
            let Some((digest, seq)) = self.sealed.pop_first() else {
                break;
            };
            put(connection, self.lane, &digest, seq)?;
        }
        Ok(self.sealed.is_empty().then_some(self.sealed_to))
    }

    /// The running group is committed up to `head`. A group that fails needs no counterpart: its
    /// index is dropped with it and loaded anew.
    pub(super) fn committed(&mut self, head: i64) {
        if self.is_shared {
            self.recent.clear();
            return;
        }
        if self.sealed.is_empty() && self.recent.len() >= self.batch {
            self.sealed = self.recent.drain().collect();
            self.sealed_to = head;
        }
    }
}

/// Inserts the keys of the running group. One that is there already was used in another lane since
/// it was looked for; then the group is run again, and finds it.
fn put_all(
    connection: &mut Connection,
    lane: i32,
    keys: &HashMap<KeyDigest, i64>,
) -> Result<(), StorageError> {
    let mut sorted: Vec<(&KeyDigest, i64)> = keys.iter().map(|(key, seq)| (key, *seq)).collect();
    sorted.sort_unstable();
    for slice in sorted.chunks(ROWS) {
        let row = |(digest, seq): &(&KeyDigest, i64)| {
            (
                idempotency_keys::key_digest.eq(digest.to_vec()),
                idempotency_keys::lane.eq(lane),
                idempotency_keys::seq.eq(*seq),
            )
        };
        let rows: Vec<_> = slice.iter().map(row).collect();
        on_each!(connection, |inner| diesel::insert_into(
            idempotency_keys::table
        )
        .values(rows)
        .execute(inner))?;
    }
    Ok(())
}

/// Inserts a key unless it is there from a batch that a crash interrupted.
fn put(
    connection: &mut Connection,
    lane: i32,
    digest: &KeyDigest,
    seq: i64,
) -> Result<(), StorageError> {
    let row = (
        idempotency_keys::key_digest.eq(digest.as_slice()),
        idempotency_keys::lane.eq(lane),
        idempotency_keys::seq.eq(seq),
    );
    match diesel::insert_into(idempotency_keys::table)
        .values(row)
        .execute(connection)
    {
        Ok(_) => Ok(()),
        Err(diesel::result::Error::DatabaseError(
            diesel::result::DatabaseErrorKind::UniqueViolation,
            _,
        )) => check_same(connection, digest, seq),
        Err(error) => Err(error.into()),
    }
}

fn check_same(
    connection: &mut Connection,
    digest: &KeyDigest,
    seq: i64,
) -> Result<(), StorageError> {
    let stored: i64 = idempotency_keys::table
        .find(digest.as_slice())
        .select(idempotency_keys::seq)
        .first(connection)?;
    if stored == seq {
        return Ok(());
    }
    Err(StorageError::Inconsistent {
        what: format!("one idempotency key stands at {stored} and at {seq} of the journal"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::connection::{Location, open_writer};

    fn digest(n: u8) -> KeyDigest {
        [n; 16]
    }

    #[test]
    fn keys_move_to_the_table_in_slices_and_are_found_all_the_while() {
        let folder = tempfile::tempdir().unwrap();
        let connection =
            &mut open_writer(&Location::Sqlite(folder.path().join("keys.db"))).unwrap();
        let mut index = KeyIndex::load(connection, (0, false), 0).unwrap();
        index.batch = 40;
        for n in 0..40u8 {
            index.add(digest(n), i64::from(n) + 1);
        }
        index.committed(40);
        assert_eq!(index.sealed.len(), 40);
        // As after a crash in the middle of a batch: one key is there already.
        put(connection, 0, &digest(3), 4).unwrap();

        let mut indexed_to = None;
        for _ in 0..3 {
            assert_eq!(indexed_to, None);
            indexed_to = index.advance(connection, 0).unwrap();
            index.committed(40);
            for n in 0..40u8 {
                assert_eq!(
                    index.find(connection, &digest(n)).unwrap(),
                    Some(Position::new(i64::from(n) + 1))
                );
            }
        }
        assert_eq!(indexed_to, Some(40));
        assert!(index.recent.is_empty() && index.sealed.is_empty());
        assert_eq!(index.find(connection, &digest(99)).unwrap(), None);
        assert!(put(connection, 0, &digest(3), 5).is_err());
    }
}
