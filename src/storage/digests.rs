//! What the journal holds instead of keys, commands and personal data: digests.

use super::rows::kind_code;
use crate::domain::{AccountId, Command, KeyDigest, KeyRecord, Order, PersonName, Principal, Slug};
use sha2::{Digest, Sha256};

/// The salted digest of a holder's data, which stands in the journal in its place.
pub(super) fn holder_digest(
    salt: &[u8; 16],
    id: &AccountId,
    given_names: &PersonName,
    surnames: &PersonName,
) -> [u8; 32] {
    let mut digest = Fields::new(b"atalaya/holder/v1\0");
    digest.field(salt);
    digest.field(id.as_str().as_bytes());
    digest.field(given_names.as_str().as_bytes());
    digest.field(surnames.as_str().as_bytes());
    digest.0.finalize().into()
}

/// What finds an order's key and tells a repeat from a reuse. The key salts the fingerprint, so
/// that names cannot be guessed from the journal.
pub(super) fn key_record(order: &Order) -> KeyRecord {
    let key = order.key.as_ref().map_or("", |key| key.as_str()).as_bytes();
    let mut digest = Fields::new(b"atalaya/key/v1\0");
    digest.field(&order.principal.row().to_be_bytes());
    if order.principal == Principal::Terminal {
        // One name for all who are trusted for their address, whatever company they are of.
        digest.field(&order.company.unwrap_or_default().to_be_bytes());
    }
    digest.field(key);
    let mut fingerprint = Fields::new(b"atalaya/fingerprint/v1\0");
    fingerprint.field(key);
    fingerprint.command(&order.command);
    fingerprint.field(order.site.as_ref().map_or("", Slug::as_str).as_bytes());
    fingerprint.field(&order.value_date.unwrap_or(i32::MIN).to_be_bytes());
    KeyRecord {
        digest: digest.half(),
        fingerprint: fingerprint.half(),
    }
}

/// SHA-256 over fields, each after its length, so that no two lists of fields collide.
struct Fields(Sha256);

impl Fields {
    fn new(domain: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(domain);
        Self(hasher)
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Open {
                account,
                given_names,
                surnames,
            } => {
                self.field(b"open");
                self.field(account.as_str().as_bytes());
                self.field(given_names.as_str().as_bytes());
                self.field(surnames.as_str().as_bytes());
            }
            Command::Deposit { account, amount } => {
                self.field(b"deposit");
                self.field(account.as_str().as_bytes());
                self.field(&amount.cents().to_be_bytes());
            }
            Command::Withdraw { account, amount } => {
                self.field(b"withdraw");
                self.field(account.as_str().as_bytes());
                self.field(&amount.cents().to_be_bytes());
            }
            Command::Transfer {
                origin,
                destination,
                amount,
            } => {
                self.field(b"transfer");
                self.field(origin.as_str().as_bytes());
                self.field(destination.as_str().as_bytes());
                self.field(&amount.cents().to_be_bytes());
            }
            Command::BringIn {
                account,
                kind,
                amount,
                version,
            } => {
                self.field(b"bring in");
                self.field(account.as_str().as_bytes());
                self.field(&kind_code(*kind).to_be_bytes());
                self.field(&amount.cents().to_be_bytes());
                self.field(&version.to_be_bytes());
            }
        }
    }

    fn half(self) -> KeyDigest {
        let whole: [u8; 32] = self.0.finalize().into();
        let mut half = KeyDigest::default();
        half.copy_from_slice(&whole[..16]);
        half
    }
}
