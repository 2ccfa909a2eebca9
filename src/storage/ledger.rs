//! Deciding orders within a group and writing what was decided.
//!
//! A group is decided in memory first: nothing is written for an order that is rejected, and the
//! rows of all others go out together in [`Lane::write`]. The lane's memory (balances, keys, head)
//! runs ahead of the database only while a group is open; when a group fails the lane is dropped
//! with it and loaded anew.

use super::keys::KeyIndex;
use super::rows::JournalRow;
use super::schema::{account_holders, accounts, journal, lanes};
use super::writer::WriteError;
use super::{Connection, Head, StorageError, chain, queries};
use crate::domain::{
    self, Account, AccountId, AccountRef, Command, Counterparty, Decision, Entry, Fact, KeyDigest,
    KeyRecord, Money, Movement, Order, Outcome, PersonName, Position, Posting, PostingKind,
    Refusal, Rejection, Slug,
};
use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::BigInt;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// Accounts whose state is held in memory; beyond that the memory starts over. Some 12 MiB.
const ACCOUNTS_HELD: usize = 100_000;

/// Why an order was not decided.
#[derive(Debug)]
pub(super) enum Undecided {
    /// The order itself is wrong; the group goes on without it.
    Order(WriteError),
    /// The database failed; the group fails with it.
    Storage(StorageError),
}

impl From<StorageError> for Undecided {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// An account as the writer holds it.
#[derive(Debug, Clone, Copy)]
struct Held {
    row: i64,
    state: Account,
    last_seq: i64,
}

/// A holder to be written with a new account.
#[derive(Debug)]
struct NewHolder {
    account: i64,
    id: AccountId,
    given_names: PersonName,
    surnames: PersonName,
    salt: [u8; 16],
    opened_at: i64,
}

/// One writer lane: its head, what it remembers, and the group that is open.
#[derive(Debug)]
pub(super) struct Lane {
    company: i64,
    head: Head,
    link: chain::Link,
    next_account: i64,
    held: HashMap<AccountId, Held>,
    sites: HashMap<Slug, i64>,
    keys: KeyIndex,
    entries: Vec<Arc<Entry>>,
    holders: Vec<NewHolder>,
    dirty: BTreeSet<AccountId>,
}

impl Lane {
    /// The lane as the database has it.
    pub(super) fn load(connection: &mut Connection, company: i64) -> Result<Self, StorageError> {
        let (seq, link, postings, keys_indexed_to): (i64, Vec<u8>, i64, i64) = lanes::table
            .find(0)
            .select((
                lanes::head_seq,
                lanes::head_hash,
                lanes::postings,
                lanes::keys_indexed_to,
            ))
            .first(connection)?;
        let last: Option<(i64, Vec<u8>)> = journal::table
            .select((journal::seq, journal::hash))
            .order(journal::seq.desc())
            .first(connection)
            .optional()?;
        let agrees = last
            .as_ref()
            .map_or(seq == 0, |(s, hash)| *s == seq && *hash == link);
        if !agrees {
            return Err(StorageError::Inconsistent {
                what: format!("the head of lane 0 says {seq}, the journal ends elsewhere"),
            });
        }
        let highest: Option<i64> = accounts::table
            .select(diesel::dsl::max(accounts::id))
            .first(connection)?;
        Ok(Self {
            company,
            head: Head { seq, postings },
            link: link.try_into().map_err(|_| StorageError::Inconsistent {
                what: "the head of lane 0 has no link".to_owned(),
            })?,
            next_account: highest.unwrap_or(0) + 1,
            held: HashMap::new(),
            sites: HashMap::new(),
            keys: KeyIndex::load(connection, keys_indexed_to)?,
            entries: Vec::new(),
            holders: Vec::new(),
            dirty: BTreeSet::new(),
        })
    }

    /// The head, the open group included.
    pub(super) const fn head(&self) -> Head {
        self.head
    }

    /// Decides one order within the open group. Nothing is written yet.
    pub(super) fn decide(
        &mut self,
        connection: &mut Connection,
        order: &Order,
        now: i64,
    ) -> Result<Decision, Undecided> {
        let key = order.key.as_ref().map(|_| key_record(order));
        if let Some(key) = key
            && let Some(decision) = self.replay(connection, &key)?
        {
            return Ok(decision);
        }
        // After the key: a decision stands even if its site has gone since.
        let site = self.site(connection, order.site.as_ref())?;
        let circumstances = Circumstances {
            order,
            site,
            key,
            now,
            tx_id: uuid_at(now),
        };
        let outcome = match &order.command {
            Command::Open {
                account,
                given_names,
                surnames,
            } => self.open(connection, &circumstances, account, given_names, surnames)?,
            Command::Deposit { account, amount } => self.post(
                connection,
                &circumstances,
                account,
                PostingKind::Deposit,
                *amount,
            )?,
            Command::Withdraw { account, amount } => self.post(
                connection,
                &circumstances,
                account,
                PostingKind::Withdrawal,
                *amount,
            )?,
            Command::Transfer {
                origin,
                destination,
                amount,
            } => self.transfer(connection, &circumstances, origin, destination, *amount)?,
        };
        Ok(Decision {
            outcome,
            replayed: false,
        })
    }

    /// Writes the rows of the open group, within the caller's transaction.
    pub(super) fn write(
        &mut self,
        connection: &mut Connection,
        operations: usize,
    ) -> Result<(), StorageError> {
        for holder in &self.holders {
            insert_account(connection, holder, self.company)?;
        }
        let mut link = self.link;
        for entry in &self.entries {
            let row = JournalRow::new(entry, &link);
            link = chain::link(&link, &row);
            diesel::insert_into(journal::table)
                .values(&row)
                .execute(connection)?;
        }
        self.link = link;
        for id in &self.dirty {
            if let Some(held) = self.held.get(id) {
                update_account(connection, held)?;
            }
        }
        let indexed = self.keys.advance(connection, operations)?;
        let target = || diesel::update(lanes::table.find(0));
        if let Some(indexed_to) = indexed {
            target()
                .set(lanes::keys_indexed_to.eq(indexed_to))
                .execute(connection)?;
        }
        if !self.entries.is_empty() {
            target()
                .set((
                    lanes::head_seq.eq(self.head.seq),
                    lanes::head_hash.eq(link.as_slice()),
                    lanes::postings.eq(self.head.postings),
                ))
                .execute(connection)?;
        }
        Ok(())
    }

    /// The open group is committed: its entries, for those who follow.
    pub(super) fn committed(&mut self) -> Vec<Arc<Entry>> {
        self.keys.committed(self.head.seq);
        self.holders.clear();
        self.dirty.clear();
        if self.held.len() > ACCOUNTS_HELD {
            self.held.clear();
        }
        // Sites change rarely and from elsewhere: remembered for one group only.
        self.sites.clear();
        std::mem::take(&mut self.entries)
    }

    fn open(
        &mut self,
        connection: &mut Connection,
        circumstances: &Circumstances<'_>,
        id: &AccountId,
        given_names: &PersonName,
        surnames: &PersonName,
    ) -> Result<Outcome, StorageError> {
        if let Some(held) = self.find(connection, id)? {
            let account = Some(AccountRef {
                row: held.row,
                id: id.clone(),
            });
            return Ok(self.refuse(circumstances, account, None, None, Refusal::AccountExists));
        }
        let row = self.next_account;
        self.next_account += 1;
        let salt = *Uuid::new_v4().as_bytes();
        let holder = holder_digest(&salt, id, given_names, surnames);
        self.held.insert(
            id.clone(),
            Held {
                row,
                state: Account::NEW,
                last_seq: 0,
            },
        );
        self.holders.push(NewHolder {
            account: row,
            id: id.clone(),
            given_names: given_names.clone(),
            surnames: surnames.clone(),
            salt,
            opened_at: circumstances.now,
        });
        let account = AccountRef {
            row,
            id: id.clone(),
        };
        let fact = Fact::AccountOpened { account, holder };
        Ok(Outcome::Done(self.append(
            circumstances,
            circumstances.key,
            fact,
        )))
    }

    fn post(
        &mut self,
        connection: &mut Connection,
        circumstances: &Circumstances<'_>,
        id: &AccountId,
        kind: PostingKind,
        amount: domain::Amount,
    ) -> Result<Outcome, Undecided> {
        let Some(held) = self.find(connection, id)? else {
            let unknown = Refusal::UnknownAccount;
            return Ok(self.refuse(circumstances, None, Some(kind), Some(amount), unknown));
        };
        let account = AccountRef {
            row: held.row,
            id: id.clone(),
        };
        match held.state.apply(kind, amount) {
            Ok(posting) => {
                let movement = Movement {
                    account,
                    posting,
                    counterparty: None,
                    previous: held.last_seq,
                };
                Ok(Outcome::Done(self.append_posting(
                    circumstances,
                    circumstances.key,
                    movement,
                )))
            }
            Err(rejection) => {
                let refusal = refusal_of(rejection)?;
                Ok(self.refuse(
                    circumstances,
                    Some(account),
                    Some(kind),
                    Some(amount),
                    refusal,
                ))
            }
        }
    }

    fn transfer(
        &mut self,
        connection: &mut Connection,
        circumstances: &Circumstances<'_>,
        origin: &AccountId,
        destination: &AccountId,
        amount: domain::Amount,
    ) -> Result<Outcome, Undecided> {
        let kind = Some(PostingKind::TransferSent);
        let from = self.find(connection, origin)?;
        let to = self.find(connection, destination)?;
        let named = |id: &AccountId, held: Held| AccountRef {
            row: held.row,
            id: id.clone(),
        };
        let account = from.map(|held| named(origin, held));
        let (Some(from), Some(to)) = (from, to) else {
            let refusal = if from.is_none() {
                Refusal::UnknownAccount
            } else {
                Refusal::UnknownDestination
            };
            return Ok(self.refuse(circumstances, account, kind, Some(amount), refusal));
        };
        match domain::transfer((origin, &from.state), (destination, &to.state), amount) {
            Ok((sent, received)) => {
                let origin = named(origin, from);
                let destination = named(destination, to);
                let half = |account: &AccountRef,
                            posting,
                            other: &AccountRef,
                            theirs: Posting,
                            previous| {
                    Movement {
                        account: account.clone(),
                        posting,
                        counterparty: Some(Counterparty {
                            account: other.clone(),
                            balance: theirs.balance,
                            version: theirs.version,
                        }),
                        previous,
                    }
                };
                let first = half(&origin, sent, &destination, received, from.last_seq);
                let second = half(&destination, received, &origin, sent, to.last_seq);
                let entry = self.append_posting(circumstances, circumstances.key, first);
                // The key stands on the origin's entry: one decision, one row under it.
                self.append_posting(circumstances, None, second);
                Ok(Outcome::Done(entry))
            }
            Err(rejection) => {
                let refusal = refusal_of(rejection)?;
                Ok(self.refuse(circumstances, account, kind, Some(amount), refusal))
            }
        }
    }

    /// A refusal is a row only under a key: without one there is nothing to be permanent about.
    fn refuse(
        &mut self,
        circumstances: &Circumstances<'_>,
        account: Option<AccountRef>,
        kind: Option<PostingKind>,
        amount: Option<domain::Amount>,
        refusal: Refusal,
    ) -> Outcome {
        if circumstances.key.is_some() {
            let fact = Fact::Refused {
                account,
                kind,
                amount,
                refusal,
            };
            self.append(circumstances, circumstances.key, fact);
        }
        Outcome::Refused(refusal)
    }

    fn append_posting(
        &mut self,
        circumstances: &Circumstances<'_>,
        key: Option<KeyRecord>,
        movement: Movement,
    ) -> Arc<Entry> {
        let id = movement.account.id.clone();
        let held = Held {
            row: movement.account.row,
            state: Account::after(&movement.posting),
            last_seq: self.head.seq + 1,
        };
        self.held.insert(id.clone(), held);
        self.dirty.insert(id);
        self.head.postings += 1;
        self.append(circumstances, key, Fact::Posted(movement))
    }

    fn append(
        &mut self,
        circumstances: &Circumstances<'_>,
        key: Option<KeyRecord>,
        fact: Fact,
    ) -> Arc<Entry> {
        self.head.seq += 1;
        if let Some(key) = key {
            self.keys.add(key.digest, self.head.seq);
        }
        let entry = Arc::new(Entry {
            position: Position::new(self.head.seq),
            at: circumstances.now,
            tx_id: circumstances.tx_id,
            principal: circumstances.order.principal,
            channel: circumstances.order.channel,
            company: self.company,
            site: circumstances.site,
            value_date: circumstances.order.value_date,
            key,
            fact,
        });
        self.entries.push(Arc::clone(&entry));
        entry
    }

    /// The decision that stands under `key`, if there is one.
    fn replay(
        &self,
        connection: &mut Connection,
        key: &KeyRecord,
    ) -> Result<Option<Decision>, Undecided> {
        let Some(seq) = self.keys.find(connection, &key.digest)? else {
            return Ok(None);
        };
        let open = self
            .entries
            .iter()
            .find(|entry| entry.position.seq == seq)
            .cloned();
        let entry = match open {
            Some(entry) => entry,
            None => Arc::new(queries::entry_at(connection, seq)?.ok_or_else(|| {
                StorageError::Inconsistent {
                    what: format!("a key points at {seq}, which is not"),
                }
            })?),
        };
        if entry
            .key
            .is_none_or(|found| found.fingerprint != key.fingerprint)
        {
            return Err(Undecided::Order(WriteError::KeyReused));
        }
        let outcome = match entry.fact {
            Fact::Refused { refusal, .. } => Outcome::Refused(refusal),
            Fact::AccountOpened { .. } | Fact::Posted(_) => Outcome::Done(entry),
        };
        Ok(Some(Decision {
            outcome,
            replayed: true,
        }))
    }

    fn find(
        &mut self,
        connection: &mut Connection,
        id: &AccountId,
    ) -> Result<Option<Held>, StorageError> {
        if let Some(held) = self.held.get(id) {
            return Ok(Some(*held));
        }
        let found: Option<(i64, i64, i64, i64)> = accounts::table
            .filter(accounts::account_id.eq(id.as_str()))
            .select((
                accounts::id,
                accounts::balance,
                accounts::version,
                accounts::last_seq,
            ))
            .first(connection)
            .optional()?;
        Ok(found.map(|(row, balance, version, last_seq)| {
            let state = Account {
                balance: Money::from_cents(balance),
                version,
            };
            let held = Held {
                row,
                state,
                last_seq,
            };
            self.held.insert(id.clone(), held);
            held
        }))
    }

    fn site(
        &mut self,
        connection: &mut Connection,
        slug: Option<&Slug>,
    ) -> Result<Option<i64>, Undecided> {
        let Some(slug) = slug else {
            return Ok(None);
        };
        if let Some(site) = self.sites.get(slug) {
            return Ok(Some(*site));
        }
        let site = queries::find_site(connection, self.company, slug.as_str())?
            .ok_or(Undecided::Order(WriteError::UnknownSite))?;
        self.sites.insert(slug.clone(), site);
        Ok(Some(site))
    }
}

/// What is the same for all rows of one order.
struct Circumstances<'a> {
    order: &'a Order,
    site: Option<i64>,
    key: Option<KeyRecord>,
    now: i64,
    tx_id: Uuid,
}

fn refusal_of(rejection: Rejection) -> Result<Refusal, Undecided> {
    match rejection {
        Rejection::Overdraft { balance } => Ok(Refusal::InsufficientBalance { balance }),
        Rejection::TooRich => Ok(Refusal::BalanceLimit),
        Rejection::SameAccount => Err(Undecided::Order(WriteError::SameAccount)),
    }
}

/// UUIDv7 of a moment in microseconds (RFC 9562 §5.7).
fn uuid_at(micros: i64) -> Uuid {
    let micros = u64::try_from(micros).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        micros / 1_000_000,
        nanos,
    ))
}

fn insert_account(
    connection: &mut Connection,
    holder: &NewHolder,
    company: i64,
) -> Result<(), StorageError> {
    diesel::insert_into(accounts::table)
        .values((
            accounts::id.eq(holder.account),
            accounts::account_id.eq(holder.id.as_str()),
            accounts::company_id.eq(company),
            accounts::balance.eq(0),
            accounts::version.eq(0),
            accounts::last_seq.eq(0),
        ))
        .execute(connection)?;
    diesel::insert_into(account_holders::table)
        .values((
            account_holders::account.eq(holder.account),
            account_holders::given_names.eq(holder.given_names.as_str()),
            account_holders::surnames.eq(holder.surnames.as_str()),
            account_holders::salt.eq(holder.salt.as_slice()),
            account_holders::opened_at.eq(holder.opened_at),
        ))
        .execute(connection)?;
    Ok(())
}

/// Writes an account's balance, guarded by its version: the row must be older than what is
/// written, or somebody else has been writing here.
fn update_account(connection: &mut Connection, held: &Held) -> Result<(), StorageError> {
    let updated = UpdateAccount {
        row: held.row,
        balance: held.state.balance.cents(),
        version: held.state.version,
        last_seq: held.last_seq,
    }
    .execute(connection)?;
    if updated == 1 {
        return Ok(());
    }
    Err(StorageError::Inconsistent {
        what: format!("account {} was changed by somebody else", held.row),
    })
}

/// The update of an account as a statement of our own: diesel prepares its own `UPDATE`s anew each
/// time, and this one runs once for every account of every group.
#[derive(QueryId)]
struct UpdateAccount {
    row: i64,
    balance: i64,
    version: i64,
    last_seq: i64,
}

impl<DB> QueryFragment<DB> for UpdateAccount
where
    DB: Backend,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("UPDATE accounts SET balance = ");
        out.push_bind_param::<BigInt, _>(&self.balance)?;
        out.push_sql(", version = ");
        out.push_bind_param::<BigInt, _>(&self.version)?;
        out.push_sql(", last_seq = ");
        out.push_bind_param::<BigInt, _>(&self.last_seq)?;
        out.push_sql(" WHERE id = ");
        out.push_bind_param::<BigInt, _>(&self.row)?;
        out.push_sql(" AND version < ");
        out.push_bind_param::<BigInt, _>(&self.version)
    }
}

impl RunQueryDsl<Connection> for UpdateAccount {}

fn holder_digest(
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
fn key_record(order: &Order) -> KeyRecord {
    let key = order.key.as_ref().map_or("", |key| key.as_str()).as_bytes();
    let mut digest = Fields::new(b"atalaya/key/v1\0");
    digest.field(&order.principal.row().to_be_bytes());
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
        }
    }

    fn half(self) -> KeyDigest {
        let whole: [u8; 32] = self.0.finalize().into();
        let mut half = KeyDigest::default();
        half.copy_from_slice(&whole[..16]);
        half
    }
}
