//! Rows of the journal and the entries they stand for.

use super::schema::journal;
use super::{Connection, StorageError, chain, steps};
use crate::domain::{
    AccountId, AccountRef, Amount, Channel, Counterparty, DeviceAddress, Entry, Fact, KeyRecord,
    Money, Movement, Position, Posting, PostingKind, Principal, Refusal,
};
use diesel::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// A row of the journal, column by column.
#[derive(Debug, Clone, PartialEq, Eq, Insertable, Queryable, Selectable)]
#[diesel(table_name = journal)]
// With the default, every combination of present columns would be a statement of its own.
#[diesel(treat_none_as_default_value = false)]
#[allow(missing_docs, reason = "the migrations document the columns")]
pub struct JournalRow {
    pub seq: i64,
    pub lane: i32,
    pub format: i32,
    pub fact: i32,
    pub at: i64,
    pub tx_id: Vec<u8>,
    pub principal: i64,
    pub channel: i32,
    pub company: i64,
    pub site: Option<i64>,
    pub account: Option<i64>,
    pub posting_kind: Option<i32>,
    pub amount: Option<i64>,
    pub balance: Option<i64>,
    pub version: Option<i64>,
    pub previous_seq: Option<i64>,
    pub counterparty: Option<i64>,
    pub counterparty_balance: Option<i64>,
    pub counterparty_version: Option<i64>,
    pub value_date: Option<i32>,
    pub refusal: Option<i32>,
    pub details: Option<Vec<u8>>,
    pub key_digest: Option<Vec<u8>>,
    pub fingerprint: Option<Vec<u8>>,
    pub hash: Vec<u8>,
}

/// Writes rows to the journal.
pub(super) fn insert_rows(
    connection: &mut Connection,
    rows: &[JournalRow],
) -> Result<(), StorageError> {
    match connection {
        // One statement, prepared once for ever.
        Connection::Sqlite(file) => {
            for row in rows {
                diesel::insert_into(journal::table)
                    .values(row)
                    .execute(file)?;
            }
        }
        // A server is asked once, since each question costs its way there.
        #[cfg(feature = "mysql")]
        Connection::Mysql(server) => {
            for slice in rows.chunks(super::connection::ROWS) {
                diesel::insert_into(journal::table)
                    .values(slice)
                    .execute(server)?;
            }
        }
    }
    Ok(())
}

const ACCOUNT_OPENED: i32 = 1;
const POSTED: i32 = 2;
const REFUSED: i32 = 3;
const ALERT: i32 = 4;
pub(super) const SETTING: i32 = 5;
pub(super) const ACCESS: i32 = 6;

/// What rows name by number or by digest, looked up beforehand.
#[derive(Debug, Default)]
pub struct Names {
    /// Accounts by row.
    pub accounts: HashMap<i64, AccountId>,
    /// Devices by row.
    pub devices: HashMap<i64, DeviceAddress>,
    /// Names of people and programs by row.
    pub principals: HashMap<i64, Arc<str>>,
    /// Bodies of `journal_texts` by sequence; what was erased is missing.
    pub texts: HashMap<i64, Vec<u8>>,
}

impl JournalRow {
    /// The row of `entry`, linked to `previous`.
    #[must_use]
    pub fn new(entry: &Entry, previous: &chain::Link) -> Self {
        let mut row = Self::blank(entry);
        match &entry.fact {
            Fact::AccountOpened { account, holder } => {
                row.fact = ACCOUNT_OPENED;
                row.account = Some(account.row);
                row.details = Some(holder.to_vec());
            }
            Fact::Posted(movement) => row.put_movement(movement),
            Fact::Alert(step) => {
                row.fact = ALERT;
                row.previous_seq = Some(step.previous);
                let texts = steps::texts_body(&step.texts);
                row.details = Some(steps::step_details(step, texts.as_deref()));
            }
            Fact::Access(access) => {
                row.fact = ACCESS;
                row.details = Some(steps::access_details(access).0);
            }
            Fact::Setting { subject, change } => {
                row.fact = SETTING;
                row.details = Some(steps::setting_details(*subject, change));
            }
            Fact::Refused {
                account,
                kind,
                amount,
                refusal,
            } => {
                row.fact = REFUSED;
                row.account = account.as_ref().map(|account| account.row);
                row.posting_kind = kind.map(kind_code);
                row.amount = amount.map(Amount::cents);
                row.refusal = Some(refusal_code(refusal));
                if let Refusal::InsufficientBalance { balance } = refusal {
                    row.balance = Some(balance.cents());
                }
            }
        }
        row.hash = chain::link(previous, &row).to_vec();
        row
    }

    fn blank(entry: &Entry) -> Self {
        Self {
            seq: entry.position.seq,
            lane: entry.position.lane,
            format: chain::FORMAT,
            fact: 0,
            at: entry.at,
            tx_id: entry.tx_id.as_bytes().to_vec(),
            principal: entry.principal.row(),
            channel: channel_code(entry.channel),
            company: entry.company,
            site: entry.site,
            account: None,
            posting_kind: None,
            amount: None,
            balance: None,
            version: None,
            previous_seq: None,
            counterparty: None,
            counterparty_balance: None,
            counterparty_version: None,
            value_date: entry.value_date,
            refusal: None,
            details: None,
            key_digest: entry.key.map(|key| key.digest.to_vec()),
            fingerprint: entry.key.map(|key| key.fingerprint.to_vec()),
            hash: Vec::new(),
        }
    }

    fn put_movement(&mut self, movement: &Movement) {
        self.fact = POSTED;
        self.account = Some(movement.account.row);
        self.posting_kind = Some(kind_code(movement.posting.kind));
        self.amount = Some(movement.posting.amount.cents());
        self.balance = Some(movement.posting.balance.cents());
        self.version = Some(movement.posting.version);
        self.previous_seq = Some(movement.previous);
        if let Some(other) = &movement.counterparty {
            self.counterparty = Some(other.account.row);
            self.counterparty_balance = Some(other.balance.cents());
            self.counterparty_version = Some(other.version);
        }
    }

    /// The row of the device that this row is about, if it is about one.
    #[must_use]
    pub fn device(&self) -> Option<i64> {
        (self.fact == ALERT)
            .then(|| steps::device_in(self.details.as_deref()?))
            .flatten()
    }

    /// The row of the alert that this row is a step of, if it is one.
    #[must_use]
    pub fn alert(&self) -> Option<i64> {
        (self.fact == ALERT)
            .then(|| steps::alert_in(self.details.as_deref()?))
            .flatten()
    }

    /// Whether some of it stands in `journal_texts`.
    #[must_use]
    pub const fn has_texts(&self) -> bool {
        matches!(self.fact, ALERT | ACCESS)
    }

    /// The entry of this row, with what it names looked up in `names`.
    ///
    /// # Errors
    /// [`StorageError::Inconsistent`] where the row is not one that this program wrote.
    pub fn entry(&self, names: &Names) -> Result<Entry, StorageError> {
        self.try_entry(names)
            .ok_or_else(|| StorageError::Inconsistent {
                what: format!("row {} of the journal cannot be read", self.seq),
            })
    }

    fn try_entry(&self, names: &Names) -> Option<Entry> {
        let account = |row: Option<i64>| -> Option<AccountRef> {
            Some(AccountRef {
                row: row?,
                id: names.accounts.get(&row?)?.clone(),
            })
        };
        let fact = match self.fact {
            ACCOUNT_OPENED => Fact::AccountOpened {
                account: account(self.account)?,
                holder: self.details.as_deref()?.try_into().ok()?,
            },
            POSTED => Fact::Posted(Movement {
                account: account(self.account)?,
                posting: Posting {
                    kind: kind_of(self.posting_kind?)?,
                    amount: Amount::from_cents(self.amount?).ok()?,
                    balance: Money::from_cents(self.balance?),
                    version: self.version?,
                },
                counterparty: match self.counterparty {
                    None => None,
                    other => Some(Counterparty {
                        account: account(other)?,
                        balance: Money::from_cents(self.counterparty_balance?),
                        version: self.counterparty_version?,
                    }),
                },
                previous: self.previous_seq?,
            }),
            REFUSED => Fact::Refused {
                account: account(self.account),
                kind: self.posting_kind.and_then(kind_of),
                amount: self.amount.and_then(|cents| Amount::from_cents(cents).ok()),
                refusal: refusal_of(self.refusal?, self.balance)?,
            },
            ALERT => Fact::Alert(Box::new(steps::step_of(
                self.details.as_deref()?,
                self.previous_seq?,
                names.texts.get(&self.seq).map(Vec::as_slice),
                |row| names.devices.get(&row).cloned(),
            )?)),
            ACCESS => Fact::Access(Box::new(steps::access_of(
                self.details.as_deref()?,
                names.texts.get(&self.seq).map(Vec::as_slice),
            )?)),
            SETTING => {
                let (subject, change) = steps::setting_of(self.details.as_deref()?)?;
                Fact::Setting { subject, change }
            }
            _ => return None,
        };
        let key = match (&self.key_digest, &self.fingerprint) {
            (Some(digest), Some(fingerprint)) => Some(KeyRecord {
                digest: digest.as_slice().try_into().ok()?,
                fingerprint: fingerprint.as_slice().try_into().ok()?,
            }),
            _ => None,
        };
        Some(Entry {
            position: Position {
                lane: self.lane,
                seq: self.seq,
            },
            at: self.at,
            tx_id: Uuid::from_slice(&self.tx_id).ok()?,
            principal: principal_of(self.principal, names)?,
            channel: channel_of(self.channel)?,
            company: self.company,
            site: self.site,
            value_date: self.value_date,
            key,
            fact,
        })
    }
}

/// Two functions between a type and the integers that stand for it in the database. The integers
/// are for ever: what is written must be readable by every later version.
macro_rules! codes {
    ($(#[$doc:meta])* $visibility:vis $to:ident, $from:ident, $type:ty, $int:ty, $($variant:path = $code:literal),+ $(,)?) => {
        $visibility const fn $to(value: $type) -> $int {
            match value { $($variant => $code,)+ }
        }
        $visibility const fn $from(code: $int) -> Option<$type> {
            match code { $($code => Some($variant),)+ _ => None }
        }
    };
}

pub(super) use codes;

codes!(
    pub(super) kind_code,
    kind_of,
    PostingKind,
    i32,
    PostingKind::Deposit = 1,
    PostingKind::Withdrawal = 2,
    PostingKind::TransferSent = 3,
    PostingKind::TransferReceived = 4,
    PostingKind::AdjustedUp = 5,
    PostingKind::AdjustedDown = 6,
);

codes!(
    pub(super) channel_code,
    channel_of,
    Channel,
    i32,
    Channel::Internal = 0,
    Channel::Http = 1,
    Channel::WebSocket = 2,
    Channel::Mqtt = 3,
    Channel::Tcp = 4,
    Channel::Bridge = 5,
    Channel::MovingIn = 6,
);

/// Rows are never deleted, so each has a name.
fn principal_of(row: i64, names: &Names) -> Option<Principal> {
    Some(match row {
        1 => Principal::Local,
        2 => Principal::System,
        3 => Principal::Device,
        4 => Principal::Automation,
        5 => Principal::Terminal,
        row => Principal::Subject {
            row,
            name: Arc::clone(names.principals.get(&row)?),
        },
    })
}

const fn refusal_code(refusal: &Refusal) -> i32 {
    match refusal {
        Refusal::InsufficientBalance { .. } => 1,
        Refusal::BalanceLimit => 2,
        Refusal::UnknownAccount => 3,
        Refusal::UnknownDestination => 4,
        Refusal::AccountExists => 5,
    }
}

fn refusal_of(code: i32, balance: Option<i64>) -> Option<Refusal> {
    Some(match code {
        1 => Refusal::InsufficientBalance {
            balance: Money::from_cents(balance?),
        },
        2 => Refusal::BalanceLimit,
        3 => Refusal::UnknownAccount,
        4 => Refusal::UnknownDestination,
        5 => Refusal::AccountExists,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        AlertChange, AlertContent, AlertState, AlertStep, DeviceCommand, MessageRef, Priority,
        RuleRef, Slug, StepTexts, Subject,
    };

    fn entry(fact: Fact) -> Entry {
        Entry {
            position: Position::new(7),
            at: 1_768_487_400_123_456,
            tx_id: Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001),
            principal: Principal::Local,
            channel: Channel::Http,
            company: 1,
            site: Some(1),
            value_date: Some(9_239),
            key: Some(KeyRecord {
                digest: [1; 16],
                fingerprint: [2; 16],
            }),
            fact,
        }
    }

    fn account(row: i64) -> AccountRef {
        AccountRef {
            row,
            id: AccountId::parse(&row.to_string()).unwrap(),
        }
    }

    fn facts() -> Vec<Fact> {
        let posting = Posting {
            kind: PostingKind::TransferSent,
            amount: Amount::from_cents(1_000).unwrap(),
            balance: Money::from_cents(5),
            version: 3,
        };
        let counterparty = Counterparty {
            account: account(2),
            balance: Money::from_cents(9),
            version: 8,
        };
        vec![
            Fact::AccountOpened {
                account: account(1),
                holder: [9; 32],
            },
            Fact::Posted(Movement {
                account: account(1),
                posting,
                counterparty: Some(counterparty),
                previous: 4,
            }),
            Fact::Refused {
                account: Some(account(1)),
                kind: Some(PostingKind::Withdrawal),
                amount: Some(Amount::from_cents(1).unwrap()),
                refusal: Refusal::InsufficientBalance {
                    balance: Money::ZERO,
                },
            },
            Fact::Refused {
                account: None,
                kind: None,
                amount: None,
                refusal: Refusal::UnknownAccount,
            },
            Fact::Alert(Box::new(step())),
            Fact::Setting {
                subject: Subject::Device,
                change: "{\"hardware\":\"boton-1\"}".into(),
            },
        ]
    }

    fn names() -> Names {
        let accounts = (1..=2).map(|row| (row, account(row).id));
        let texts = steps::texts_body(&step().texts).unwrap();
        Names {
            principals: HashMap::from([(16, Arc::from("ana"))]),
            accounts: accounts.collect(),
            devices: HashMap::from([(8, step().address)]),
            texts: HashMap::from([(7, texts)]),
        }
    }

    fn step() -> AlertStep {
        let slug = |text| Slug::parse(text).unwrap();
        let rule = RuleRef { id: 3, version: 2 };
        AlertStep {
            alert: 5,
            alert_id: Uuid::from_u128(9),
            device: 8,
            address: "banco/norte/boton-1".parse().unwrap(),
            kind: slug("ROJO"),
            priority: Priority::Critical,
            late: false,
            change: AlertChange::Raised,
            state: AlertState::New,
            count: 1,
            freezes: true,
            notify: vec![slug("guardia")],
            rules: vec![rule],
            message: Some(MessageRef {
                key: slug("k1"),
                seq: 17,
                digest: [7; 32],
                received_at: 12,
            }),
            texts: StepTexts {
                salt: [4; 16],
                content: AlertContent {
                    description: Some("Robo en caja".into()),
                    location: Some("{\"piso\":2}".into()),
                    data: None,
                },
                reason: Some("porque sí".into()),
                commands: vec![DeviceCommand {
                    device: slug("luz-1"),
                    payload: Some("{\"accion\":\"ENCENDER\"}".into()),
                    rule: Some(rule),
                    kind: slug("ROJO"),
                    priority: Priority::High,
                    alert: None,
                    held: true,
                }],
            },
            previous: 2,
        }
    }

    #[test]
    fn an_erased_text_leaves_the_step_and_its_link() {
        let row = JournalRow::new(&entry(Fact::Alert(Box::new(step()))), &[0; 32]);
        let mut names = names();
        names.texts.clear();
        let Fact::Alert(read) = row.entry(&names).unwrap().fact else {
            panic!("no alert");
        };
        assert_eq!(read.texts, StepTexts::default());
        assert_eq!(read.message, step().message);
        let details = String::from_utf8(row.details.unwrap()).unwrap();
        for text in ["Robo", "porque", "ENCENDER", "piso"] {
            assert!(!details.contains(text), "{details}");
        }
    }

    #[test]
    fn entries_survive_their_rows() {
        for fact in facts() {
            let entry = entry(fact);
            let row = JournalRow::new(&entry, &[0; 32]);
            assert_eq!(row.entry(&names()).unwrap(), entry);
        }
    }

    #[test]
    fn every_column_is_under_the_hash() {
        let row = JournalRow::new(&entry(facts().remove(1)), &[0; 32]);
        let mut other = row.clone();
        other.balance = None;
        assert_ne!(chain::link(&[0; 32], &row), chain::link(&[0; 32], &other));
        other = row.clone();
        other.value_date = Some(0);
        assert_ne!(chain::link(&[0; 32], &row), chain::link(&[0; 32], &other));
        assert_ne!(chain::link(&[1; 32], &row), chain::link(&[0; 32], &row));
    }

    #[test]
    fn the_link_of_a_known_row_is_pinned() {
        // A change of the canonical form breaks every chain in the field: it needs a new FORMAT.
        let row = JournalRow::new(&entry(facts().remove(1)), &[0; 32]);
        let hex = row
            .hash
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(
            hex,
            "388624bca50e611e5b3a3933e285ae16c9b28b1248b02357a68771480f471eb0"
        );
    }
}
