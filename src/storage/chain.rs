//! The audit chain: each row of the journal is bound to all before it.
//!
//! `hash = SHA-256(domain ‖ previous hash ‖ canonical bytes)`. The canonical bytes are the columns
//! in the order of `canonical_row` below, integers as eight big-endian bytes, byte strings after their
//! length, and a presence byte before each nullable column, so no two rows share an encoding.

use super::rows::JournalRow;
use sha2::{Digest, Sha256};

/// The version of the canonical form, kept in every row.
pub const FORMAT: i32 = 1;

const LINK_DOMAIN: &[u8] = b"atalaya/journal/link/v1\0";
const GENESIS_DOMAIN: &[u8] = b"atalaya/journal/genesis/v1\0";

/// A link of the chain.
pub type Link = [u8; 32];

/// The link before the first row: it binds the chain to its database and lane.
#[must_use]
pub fn genesis(database_id: &[u8], lane: i32) -> Link {
    let mut hasher = Sha256::new();
    hasher.update(GENESIS_DOMAIN);
    hasher.update(database_id);
    hasher.update(lane.to_be_bytes());
    hasher.finalize().into()
}

/// The link of `row` after `previous`. The row's own `hash` does not enter.
#[must_use]
pub fn link(previous: &Link, row: &JournalRow) -> Link {
    let mut bytes = Canonical(Vec::with_capacity(320));
    bytes.canonical_row(row);
    let mut hasher = Sha256::new();
    hasher.update(LINK_DOMAIN);
    hasher.update(previous);
    hasher.update(&bytes.0);
    hasher.finalize().into()
}

struct Canonical(Vec<u8>);

impl Canonical {
    fn canonical_row(&mut self, row: &JournalRow) {
        self.int(row.format.into());
        self.int(row.lane.into());
        self.int(row.seq);
        self.int(row.fact.into());
        self.int(row.at);
        self.bytes(&row.tx_id);
        self.int(row.principal);
        self.int(row.channel.into());
        self.int(row.company);
        self.maybe_int(row.site);
        self.maybe_int(row.account);
        self.maybe_int(row.posting_kind.map(i64::from));
        self.maybe_int(row.amount);
        self.maybe_int(row.balance);
        self.maybe_int(row.version);
        self.maybe_int(row.previous_seq);
        self.maybe_int(row.counterparty);
        self.maybe_int(row.counterparty_balance);
        self.maybe_int(row.counterparty_version);
        self.maybe_int(row.value_date.map(i64::from));
        self.maybe_int(row.refusal.map(i64::from));
        self.maybe_bytes(row.details.as_deref());
        self.maybe_bytes(row.key_digest.as_deref());
        self.maybe_bytes(row.fingerprint.as_deref());
    }

    fn int(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.int(i64::try_from(value.len()).unwrap_or(i64::MAX));
        self.0.extend_from_slice(value);
    }

    fn maybe_int(&mut self, value: Option<i64>) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            self.int(value);
        }
    }

    fn maybe_bytes(&mut self, value: Option<&[u8]>) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            self.bytes(value);
        }
    }
}
