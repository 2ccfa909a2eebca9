//! Deciding orders within a group and writing what was decided.
//!
//! A group is decided in memory first: nothing is written for an order that is rejected, and the
//! rows of all others go out together in [`Lane::write`]. The lane's memory (balances, keys, head)
//! runs ahead of the database only while a group is open; when a group fails the lane is dropped
//! with it and loaded anew.

use super::account_rows::{Held, NewHolder, insert_account, update_accounts};
use super::digests::{holder_digest, key_record};
use super::keys::KeyIndex;
use super::rows::{JournalRow, insert_rows};
use super::schema::{accounts, journal, journal_texts, lanes};
use super::writer::WriteError;
use super::{Connection, Head, StorageError, chain, queries, steps};
use crate::domain::{
    self, Account, AccountId, AccountRef, Channel, Command, Counterparty, Decision, Entry, Fact,
    KeyRecord, Money, Movement, Order, Outcome, PersonName, Position, Posting, PostingKind,
    Principal, Refusal, Rejection, Slug,
};
use diesel::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use uuid::Uuid;

/// Accounts whose state is held in memory; beyond that the memory starts over. Some 12 MiB.
const ACCOUNTS_HELD: usize = 100_000;

/// Accounts of a lane that are looked at when it is opened.
const DEALT: i64 = 64;

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

/// What a lane has in common with the others.
#[derive(Debug, Clone)]
pub(super) struct LaneSetup {
    /// Its number.
    pub(super) lane: i32,
    /// How many there are.
    pub(super) lanes: usize,
    /// The row of the company that accounts belong to.
    pub(super) company: i64,
    /// The row that the next account gets, in whichever lane.
    pub(super) next_account: Arc<AtomicI64>,
}

/// One writer lane: its head, what it remembers, and the group that is open.
#[derive(Debug)]
pub(super) struct Lane {
    setup: LaneSetup,
    head: Head,
    /// The head as the database has it.
    written: i64,
    link: chain::Link,
    held: HashMap<AccountId, Held>,
    sites: HashMap<(i64, Slug), i64>,
    keys: KeyIndex,
    entries: Vec<Arc<Entry>>,
    holders: Vec<NewHolder>,
    dirty: BTreeSet<AccountId>,
}

/// Whether the accounts of a lane are those that would be dealt to it today: looked at in some, since
/// all are dealt in one way.
fn check_dealing(connection: &mut Connection, lane: i32, lanes: usize) -> Result<(), StorageError> {
    if lanes == 1 {
        return Ok(());
    }
    let some: Vec<String> = accounts::table
        .filter(accounts::lane.eq(lane))
        .select(accounts::account_id)
        .limit(DEALT)
        .load(connection)?;
    let is_ours = |id: &String| {
        AccountId::parse(id).is_ok_and(|id| i32::try_from(Lane::of(&id, lanes)) == Ok(lane))
    };
    if some.iter().all(is_ours) {
        return Ok(());
    }
    Err(StorageError::Inconsistent {
        what: format!("lane {lane} holds accounts that another way of dealing them out put there"),
    })
}

/// Where a lane ends by its head and by its journal: head, link, postings, indexed keys, last entry.
type Ends = (i64, Vec<u8>, i64, i64, Option<i64>);

impl Lane {
    /// The lane as the database has it.
    pub(super) fn load(
        connection: &mut Connection,
        setup: LaneSetup,
    ) -> Result<Self, StorageError> {
        let lane = setup.lane;
        // One statement sees one moment: a commit of the connection before may still be under way.
        let last = journal::table
            .filter(journal::lane.eq(lane))
            .select(diesel::dsl::max(journal::seq))
            .single_value();
        let (seq, link, postings, keys_indexed_to, last): Ends = lanes::table
            .find(lane)
            .select((
                lanes::head_seq,
                lanes::head_hash,
                lanes::postings,
                lanes::keys_indexed_to,
                last,
            ))
            .first(connection)?;
        let hash: Option<Vec<u8>> = journal::table
            .find((lane, seq))
            .select(journal::hash)
            .first(connection)
            .optional()?;
        let agrees = last.unwrap_or(0) == seq && hash.is_none_or(|hash| hash == link);
        if !agrees {
            return Err(StorageError::Inconsistent {
                what: format!("the head of lane {lane} says {seq}, the journal ends elsewhere"),
            });
        }
        check_dealing(connection, lane, setup.lanes)?;
        let highest: Option<i64> = accounts::table
            .select(diesel::dsl::max(accounts::id))
            .first(connection)?;
        let next = highest.unwrap_or(0) + 1;
        setup.next_account.fetch_max(next, Ordering::Relaxed);
        let place = (lane, setup.lanes > 1);
        Ok(Self {
            setup,
            head: Head { seq, postings },
            written: seq,
            link: link.try_into().map_err(|_| StorageError::Inconsistent {
                what: format!("the head of lane {lane} has no link"),
            })?,
            held: HashMap::new(),
            sites: HashMap::new(),
            keys: KeyIndex::load(connection, place, keys_indexed_to)?,
            entries: Vec::new(),
            holders: Vec::new(),
            dirty: BTreeSet::new(),
        })
    }

    /// The head, the open group included.
    pub(super) const fn head(&self) -> Head {
        self.head
    }

    /// Where the journal ends, once the open group is written.
    pub(super) const fn mark(&self) -> (i64, chain::Link) {
        (self.head.seq, self.link)
    }

    /// The row of the company that accounts belong to.
    pub(super) const fn company(&self) -> i64 {
        self.setup.company
    }

    /// The lane that an account belongs to, in one database for ever.
    pub(super) fn of(account: &AccountId, lanes: usize) -> usize {
        // FNV-1a: cédulas are digits, and their last ones tell little apart.
        let hash = account
            .as_str()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        // Its last bytes reach few bits of it: all are mixed (SplitMix64), or running numbers would
        // share a lane.
        let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let lanes = u64::try_from(lanes.max(1)).unwrap_or(1);
        usize::try_from((hash ^ (hash >> 31)) % lanes).unwrap_or(0)
    }

    /// Decides one order within the open group. Nothing is written yet.
    pub(super) fn decide(
        &mut self,
        connection: &mut Connection,
        order: &Order,
        now: i64,
    ) -> Result<Decision, Undecided> {
        self.decide_with(None, connection, order, now)
    }

    /// Decides a transfer to an account of `other`, whose group is the same transaction.
    pub(super) fn decide_across(
        &mut self,
        other: &mut Self,
        connection: &mut Connection,
        order: &Order,
        now: i64,
    ) -> Result<Decision, Undecided> {
        self.decide_with(Some(other), connection, order, now)
    }

    fn decide_with(
        &mut self,
        other: Option<&mut Self>,
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
        let company = order.company.unwrap_or(self.setup.company);
        let site = self.site(connection, company, order.site.as_ref())?;
        let circumstances = Circumstances {
            order,
            company,
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
            } => self.transfer(
                other,
                connection,
                &circumstances,
                (origin, destination),
                *amount,
            )?,
            Command::BringIn {
                account,
                kind,
                amount,
                version,
            } => {
                self.check_version(connection, &circumstances, account, *version)?;
                self.post(connection, &circumstances, account, *kind, *amount)?
            }
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
            insert_account(connection, holder)?;
        }
        let link = self.write_entries(connection)?;
        let dirty = self.dirty.iter().filter_map(|id| self.held.get(id));
        update_accounts(connection, &dirty.copied().collect::<Vec<_>>())?;
        let indexed = self.keys.advance(connection, operations)?;
        let target = || diesel::update(lanes::table.find(self.setup.lane));
        if let Some(indexed_to) = indexed {
            target()
                .set(lanes::keys_indexed_to.eq(indexed_to))
                .execute(connection)?;
        }
        if !self.entries.is_empty() {
            let moved = target()
                .filter(lanes::head_seq.eq(self.written))
                .set((
                    lanes::head_seq.eq(self.head.seq),
                    lanes::head_hash.eq(link.as_slice()),
                    lanes::postings.eq(self.head.postings),
                ))
                .execute(connection)?;
            if moved != 1 {
                let lane = self.setup.lane;
                return Err(StorageError::Inconsistent {
                    what: format!("the head of lane {lane} was moved by somebody else"),
                });
            }
        }
        self.link = link;
        self.written = self.head.seq;
        Ok(())
    }

    /// Writes the entries of the open group; the link that the last of them makes.
    fn write_entries(&self, connection: &mut Connection) -> Result<chain::Link, StorageError> {
        let mut link = self.link;
        let mut rows = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let row = JournalRow::new(entry, &link);
            link = chain::link(&link, &row);
            rows.push(row);
        }
        insert_rows(connection, &rows)?;
        for entry in &self.entries {
            let texts = match &entry.fact {
                Fact::Alert(step) => steps::texts_body(&step.texts),
                Fact::Access(access) => Some(steps::access_details(access).1),
                _ => None,
            };
            if let Some(body) = texts {
                diesel::insert_into(journal_texts::table)
                    .values((
                        journal_texts::seq.eq(entry.position.seq),
                        journal_texts::body.eq(body),
                    ))
                    .execute(connection)?;
            }
        }
        Ok(link)
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
        // Cédulas are unique in the installation: topics name accounts by them alone.
        if let Some(held) = self.find(connection, id)? {
            let account = Some(AccountRef {
                row: held.row,
                id: id.clone(),
            });
            return Ok(self.refuse(circumstances, account, None, None, Refusal::AccountExists));
        }
        let row = self.setup.next_account.fetch_add(1, Ordering::Relaxed);
        let salt = *Uuid::new_v4().as_bytes();
        let holder = holder_digest(&salt, id, given_names, surnames);
        self.held.insert(
            id.clone(),
            Held {
                row,
                company: circumstances.company,
                state: Account::NEW,
                last_seq: 0,
            },
        );
        self.holders.push(NewHolder {
            account: row,
            lane: self.setup.lane,
            company: circumstances.company,
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

    /// Whether the account is there and its next posting makes `version`.
    fn check_version(
        &mut self,
        connection: &mut Connection,
        circumstances: &Circumstances<'_>,
        id: &AccountId,
        version: i64,
    ) -> Result<(), Undecided> {
        let held = self.within(connection, circumstances, id)?;
        match held {
            Some(held) if held.state.version.checked_add(1) == Some(version) => Ok(()),
            _ => Err(Undecided::Order(WriteError::OutOfPlace)),
        }
    }

    fn post(
        &mut self,
        connection: &mut Connection,
        circumstances: &Circumstances<'_>,
        id: &AccountId,
        kind: PostingKind,
        amount: domain::Amount,
    ) -> Result<Outcome, Undecided> {
        let Some(held) = self.within(connection, circumstances, id)? else {
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

    /// Both sides of a transfer; the receiving one in `other`, if that is another lane's.
    fn transfer(
        &mut self,
        mut other: Option<&mut Self>,
        connection: &mut Connection,
        circumstances: &Circumstances<'_>,
        (origin, destination): (&AccountId, &AccountId),
        amount: domain::Amount,
    ) -> Result<Outcome, Undecided> {
        let kind = Some(PostingKind::TransferSent);
        let from = self.within(connection, circumstances, origin)?;
        let receiving = other.as_deref_mut().unwrap_or(self);
        let to = receiving.within(connection, circumstances, destination)?;
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
                let receiving = other.unwrap_or(self);
                receiving.append_posting(circumstances, None, second);
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
            company: circumstances.company,
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
        let place = Place {
            at: circumstances.now,
            tx_id: circumstances.tx_id,
            principal: circumstances.order.principal.clone(),
            channel: circumstances.order.channel,
            company: circumstances.company,
            site: circumstances.site,
            value_date: circumstances.order.value_date,
        };
        self.append_at(place, key, fact)
    }

    /// Appends a fact to the open group.
    pub(super) fn append_at(
        &mut self,
        place: Place,
        key: Option<KeyRecord>,
        fact: Fact,
    ) -> Arc<Entry> {
        self.head.seq += 1;
        if let Some(key) = key {
            self.keys.add(key.digest, self.head.seq);
        }
        let entry = Arc::new(Entry {
            position: Position {
                lane: self.setup.lane,
                seq: self.head.seq,
            },
            at: place.at,
            tx_id: place.tx_id,
            principal: place.principal,
            channel: place.channel,
            company: place.company,
            site: place.site,
            value_date: place.value_date,
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
        let Some(position) = self.keys.find(connection, &key.digest)? else {
            return Ok(None);
        };
        let open = self
            .entries
            .iter()
            .find(|entry| entry.position == position)
            .cloned();
        let entry = match open {
            Some(entry) => entry,
            None => Arc::new(queries::entry_at(connection, position)?.ok_or_else(|| {
                StorageError::Inconsistent {
                    what: format!("a key points at {position:?}, which is not"),
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
            _ => Outcome::Done(entry),
        };
        Ok(Some(Decision {
            outcome,
            replayed: true,
        }))
    }

    /// The account called `id`, if it belongs to the company that the order is for.
    fn within(
        &mut self,
        connection: &mut Connection,
        circumstances: &Circumstances<'_>,
        id: &AccountId,
    ) -> Result<Option<Held>, StorageError> {
        let found = self.find(connection, id)?;
        Ok(found.filter(|held| held.company == circumstances.company))
    }

    fn find(
        &mut self,
        connection: &mut Connection,
        id: &AccountId,
    ) -> Result<Option<Held>, StorageError> {
        if let Some(held) = self.held.get(id) {
            return Ok(Some(*held));
        }
        let found: Option<(i64, i64, i64, i64, i64)> = accounts::table
            .filter(accounts::account_id.eq(id.as_str()))
            .select((
                accounts::id,
                accounts::company_id,
                accounts::balance,
                accounts::version,
                accounts::last_seq,
            ))
            .first(connection)
            .optional()?;
        Ok(found.map(|(row, company, balance, version, last_seq)| {
            let state = Account {
                balance: Money::from_cents(balance),
                version,
            };
            let held = Held {
                row,
                company,
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
        company: i64,
        slug: Option<&Slug>,
    ) -> Result<Option<i64>, Undecided> {
        let Some(slug) = slug else {
            return Ok(None);
        };
        let key = (company, slug.clone());
        if let Some(site) = self.sites.get(&key) {
            return Ok(Some(*site));
        }
        let site = queries::find_site(connection, company, slug.as_str())?
            .ok_or(Undecided::Order(WriteError::UnknownSite))?;
        self.sites.insert(key, site);
        Ok(Some(site))
    }
}

/// The circumstances of a fact.
pub(super) struct Place {
    pub(super) at: i64,
    pub(super) tx_id: Uuid,
    pub(super) principal: Principal,
    pub(super) channel: Channel,
    pub(super) company: i64,
    pub(super) site: Option<i64>,
    pub(super) value_date: Option<i32>,
}

/// What is the same for all rows of one order.
struct Circumstances<'a> {
    order: &'a Order,
    company: i64,
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
pub(super) fn uuid_at(micros: i64) -> Uuid {
    let micros = u64::try_from(micros).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        micros / 1_000_000,
        nanos,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_numbers_are_dealt_out_evenly() {
        for (first, width) in [(1_000, 10), (900_000_000, 10), (1, 1)] {
            for lanes in [2, 3, 4, 16] {
                let mut dealt = vec![0; lanes];
                for number in first..first + 1_600 {
                    let id = AccountId::parse(&format!("{number:0width$}")).unwrap();
                    dealt[Lane::of(&id, lanes)] += 1;
                }
                let even = 1_600 / lanes;
                let least = dealt.iter().min().copied().unwrap_or_default();
                assert!(least > even * 2 / 3, "{first} {lanes}: {dealt:?}");
            }
        }
    }
}
