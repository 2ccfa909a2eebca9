//! Checks a database against what is promised of it, from its rows alone.

use super::device::hex;
use atalaya::storage::rows::JournalRow;
use atalaya::storage::schema::{
    accounts, alert_messages, alerts, device_keys, installation, journal, journal_texts, lanes,
};
use atalaya::storage::{Connection, Location, chain, connection};
use diesel::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// Opens a database beside whoever uses it.
pub fn open(database: &Location) -> Connection {
    connection::open(database).unwrap()
}

/// Begins to read a database as it is at this moment, whoever goes on using it.
fn begin(connection: &mut Connection) {
    let begin = match connection {
        Connection::Sqlite(_) => "BEGIN",
        #[cfg(feature = "mysql")]
        Connection::Mysql(_) => {
            let level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
            diesel::sql_query(level).execute(connection).unwrap();
            "START TRANSACTION WITH CONSISTENT SNAPSHOT"
        }
    };
    diesel::sql_query(begin).execute(connection).unwrap();
}

const POSTED: i32 = 2;
const ALERT: i32 = 4;
const SETTING: i32 = 5;
const ACCESS: i32 = 6;
const DEPOSIT: i32 = 1;
const WITHDRAWAL: i32 = 2;
const SENT: i32 = 3;
const RECEIVED: i32 = 4;
const ADJUSTED_UP: i32 = 5;
const ADJUSTED_DOWN: i32 = 6;
const MOVING_IN: i32 = 6;

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    balance: i64,
    version: i64,
    last_seq: i64,
}

/// Walks the journal: no gap, each link right, each balance the sum of its postings, each version
/// one more, each posting naming the one before it, each alert taking the steps that it may, each
/// text the one whose digest is in the chain, each message used once, and the tables saying the
/// same as the journal; over all, deposits less withdrawals and adjustments either way (and halves of
/// transfers from before Atalaya, whose other half nobody names) are the sum of balances. The error
/// says what is wrong first.
pub fn audit(database: &Location) -> Result<usize, String> {
    let connection = &mut open(database);
    begin(connection);
    let id: Vec<u8> = installation::table
        .select(installation::database_id)
        .first(connection)
        .unwrap();
    let heads: Vec<(i32, i64, Vec<u8>, i64)> = lanes::table
        .order(lanes::lane)
        .select((
            lanes::lane,
            lanes::head_seq,
            lanes::head_hash,
            lanes::postings,
        ))
        .load(connection)
        .unwrap();
    let stored: Vec<(i64, i64, i64, i64)> = accounts::table
        .select((
            accounts::id,
            accounts::balance,
            accounts::version,
            accounts::last_seq,
        ))
        .load(connection)
        .unwrap();
    let homes: Vec<(i64, i32)> = accounts::table
        .select((accounts::id, accounts::lane))
        .load(connection)
        .unwrap();
    let mut books = Books {
        homes: homes.into_iter().collect(),
        states: HashMap::new(),
        paid_in: 0,
    };
    let mut lives = Lives::read(connection);
    let mut length = 0;
    for (lane, head_seq, head_hash, postings) in heads {
        let rows: Vec<JournalRow> = journal::table
            .filter(journal::lane.eq(lane))
            .order(journal::seq.asc())
            .select(JournalRow::as_select())
            .load(connection)
            .unwrap();
        let (link, posted) = walk(&id, lane, &rows, &mut books, &mut lives)?;
        let end = i64::try_from(rows.len()).unwrap();
        if (head_seq, head_hash.as_slice(), postings) != (end, link.as_slice(), posted) {
            return Err("the head is not that of the journal".to_owned());
        }
        length += rows.len();
    }
    let Books {
        mut states,
        paid_in,
        ..
    } = books;
    for (account, balance, version, last_seq) in &stored {
        let state = states.remove(account).unwrap_or_default();
        if (*balance, *version, *last_seq) != (state.balance, state.version, state.last_seq) {
            return Err(format!("account {account}: not the sum of its postings"));
        }
    }
    if !states.is_empty() {
        return Err("postings of accounts that do not exist".to_owned());
    }
    let total: i64 = stored.iter().map(|account| account.1).sum();
    if total != paid_in {
        return Err(format!("{paid_in} cents came in and {total} are there"));
    }
    lives.are_all(connection)?;
    Ok(length)
}

/// Balances as the journal tells of them.
struct Books {
    /// The lane of each account.
    homes: HashMap<i64, i32>,
    states: HashMap<i64, State>,
    paid_in: i64,
}

/// Walks the journal of a lane: its last link, and how many postings it has.
fn walk(
    id: &[u8],
    lane: i32,
    rows: &[JournalRow],
    books: &mut Books,
    lives: &mut Lives,
) -> Result<(chain::Link, i64), String> {
    let mut link = chain::genesis(id, lane);
    let mut posted = 0;
    for (row, expected) in rows.iter().zip(1..) {
        if row.seq != expected {
            return Err(format!("row {expected} is missing"));
        }
        link = chain::link(&link, row);
        if row.hash != link {
            return Err(format!("row {expected} breaks the chain"));
        }
        let facts = match row.fact {
            ALERT => lives.step(row),
            ACCESS => lives.access(row),
            SETTING => is_setting(row),
            POSTED => {
                posted += 1;
                books.post(lane, row)
            }
            _ => Ok(()),
        };
        facts.map_err(|error| format!("row {expected}: {error}"))?;
    }
    Ok((link, posted))
}

impl Books {
    fn post(&mut self, lane: i32, row: &JournalRow) -> Result<(), String> {
        let (account, amount) = (row.account.unwrap(), row.amount.unwrap());
        if self.homes.get(&account) != Some(&lane) {
            return Err("a posting in another lane than its account's".to_owned());
        }
        let state = self.states.entry(account).or_default();
        let kind = row.posting_kind.unwrap();
        let change = match kind {
            DEPOSIT | RECEIVED | ADJUSTED_UP => amount,
            WITHDRAWAL | SENT | ADJUSTED_DOWN => -amount,
            other => return Err(format!("kind {other}")),
        };
        let is_transfer = matches!(kind, SENT | RECEIVED);
        let is_adjustment = matches!(kind, ADJUSTED_UP | ADJUSTED_DOWN);
        // Half a transfer stands alone, and an adjustment at all, only where history was brought in.
        let is_half = is_transfer && row.counterparty.is_none();
        if (is_half || is_adjustment) && row.channel != MOVING_IN {
            return Err("only moving in may do this".to_owned());
        }
        if !is_transfer || is_half {
            self.paid_in += change;
        }
        if row.previous_seq != Some(state.last_seq) {
            return Err("the posting before it is another".to_owned());
        }
        *state = State {
            balance: state.balance + change,
            version: state.version + 1,
            last_seq: row.seq,
        };
        if state.balance < 0
            || row.balance != Some(state.balance)
            || row.version != Some(state.version)
        {
            return Err("not the sum of the postings".to_owned());
        }
        Ok(())
    }
}

/// A setting is a code and a JSON object.
fn is_setting(row: &JournalRow) -> Result<(), String> {
    let details = row.details.as_deref().unwrap_or_default();
    let text = std::str::from_utf8(details).map_err(|error| error.to_string())?;
    let (code, change) = text.split_once(' ').ok_or("a setting without a code")?;
    code.parse::<i32>().map_err(|error| error.to_string())?;
    let change: Value = serde_json::from_str(change).map_err(|error| error.to_string())?;
    change
        .is_object()
        .then_some(())
        .ok_or("no object".to_owned())
}

const RAISED: i64 = 1;
const REPEATED: i64 = 2;
const ACKNOWLEDGED: i64 = 3;
const RESOLVED: i64 = 4;
const DISCARDED: i64 = 5;
const ESCALATED: i64 = 6;

/// Where an alert stands, by the journal or by its row.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
struct Life {
    id: String,
    device: i64,
    kind: String,
    priority: i64,
    late: bool,
    state: i64,
    count: i64,
    escalations: i64,
    first_seq: i64,
    last_seq: i64,
}

/// A message by its kid and its number: which alert it is of, and its digest.
type Messages = BTreeMap<(String, u64), (i64, String)>;

/// Alerts as the journal tells of them.
struct Lives {
    alerts: BTreeMap<i64, Life>,
    texts: HashMap<i64, Vec<u8>>,
    messages: Messages,
}

impl Lives {
    fn read(connection: &mut Connection) -> Self {
        let texts: Vec<(i64, Vec<u8>)> = journal_texts::table.load(connection).unwrap();
        Self {
            alerts: BTreeMap::new(),
            texts: texts.into_iter().collect(),
            messages: BTreeMap::new(),
        }
    }

    /// A fact of access has a text, and the digest of it.
    fn access(&mut self, row: &JournalRow) -> Result<(), String> {
        let details = row.details.as_deref().ok_or("access without details")?;
        let details: Value = serde_json::from_slice(details).map_err(|error| error.to_string())?;
        let text = self.texts.remove(&row.seq).ok_or("access without a text")?;
        if details["x"].as_str() != Some(&texts_digest(&text)) {
            return Err("its text is another".to_owned());
        }
        Ok(())
    }

    fn step(&mut self, row: &JournalRow) -> Result<(), String> {
        let details = row.details.as_deref().ok_or("a step without details")?;
        let details: Value = serde_json::from_slice(details).map_err(|error| error.to_string())?;
        let text = self.texts.remove(&row.seq);
        if details["x"].as_str() != text.as_deref().map(texts_digest).as_deref() {
            return Err("its text is another".to_owned());
        }
        let number = |value: &Value| value.as_i64().ok_or(format!("{details}"));
        let alert = number(&details["a"][0])?;
        let steps = &details["s"];
        let (change, state) = (number(&steps[2])?, number(&steps[3])?);
        let message = details.get("m").map(|message| {
            let text = |index: usize| message[index].as_str().unwrap_or_default().to_owned();
            let seq = message[1].as_u64().unwrap_or_default();
            ((text(0), seq), (alert, text(2)))
        });
        if let Some((name, made)) = message
            && self.messages.insert(name, made).is_some()
        {
            return Err("its message was used before".to_owned());
        }
        let told = Life {
            id: details["a"][1].as_str().unwrap_or_default().to_owned(),
            device: number(&details["d"])?,
            kind: details["k"].as_str().unwrap_or_default().to_owned(),
            priority: number(&steps[0])?,
            late: steps[1] == true,
            state,
            count: number(&steps[4])?,
            ..Life::default()
        };
        let before = self.alerts.get(&alert).cloned();
        let previous = before.as_ref().map_or(0, |life| life.last_seq);
        if row.previous_seq != Some(previous) {
            return Err("the step before it is another".to_owned());
        }
        let before = before.unwrap_or_default();
        let fits = match (change, before.state) {
            (RAISED, 0) | (ESCALATED, 1) => state == 1,
            (REPEATED, 1..) => state == before.state,
            (ACKNOWLEDGED, 1) => state == 2,
            (RESOLVED, 1 | 2) => state == 3,
            (DISCARDED, 1 | 2) => state == 4,
            _ => false,
        };
        let expected = Life {
            state,
            count: before.count + i64::from(matches!(change, RAISED | REPEATED)),
            escalations: before.escalations + i64::from(change == ESCALATED),
            first_seq: if change == RAISED {
                row.seq
            } else {
                before.first_seq
            },
            // A repetition points back and is not pointed to.
            last_seq: if change == REPEATED {
                before.last_seq
            } else {
                row.seq
            },
            ..if change == RAISED {
                told.clone()
            } else {
                before
            }
        };
        let told = Life {
            escalations: expected.escalations,
            first_seq: expected.first_seq,
            last_seq: expected.last_seq,
            ..told
        };
        if !fits || told != expected {
            return Err(format!(
                "change {change} made {told:?} where {expected:?} follows"
            ));
        }
        self.alerts.insert(alert, expected);
        Ok(())
    }

    /// The tables say what the journal says, and no more.
    fn are_all(self, connection: &mut Connection) -> Result<(), String> {
        type Columns = (
            i64,
            Vec<u8>,
            i64,
            String,
            i32,
            bool,
            i32,
            i64,
            i64,
            i64,
            i64,
        );
        let stored: Vec<Columns> = alerts::table
            .select((
                alerts::id,
                alerts::alert_id,
                alerts::device_id,
                alerts::kind,
                alerts::priority,
                alerts::late,
                alerts::state,
                alerts::count,
                alerts::escalations,
                alerts::first_seq,
                alerts::last_seq,
            ))
            .load(connection)
            .unwrap();
        let stored: BTreeMap<i64, Life> = stored
            .into_iter()
            .map(|row| {
                let life = Life {
                    id: uuid::Uuid::from_slice(&row.1).unwrap().to_string(),
                    device: row.2,
                    kind: row.3,
                    priority: row.4.into(),
                    late: row.5,
                    state: row.6.into(),
                    count: row.7,
                    escalations: row.8,
                    first_seq: row.9,
                    last_seq: row.10,
                };
                (row.0, life)
            })
            .collect();
        if stored != self.alerts {
            return Err(format!(
                "alerts are {stored:?} where the journal says {:?}",
                self.alerts
            ));
        }
        let keys: Vec<(i64, String)> = device_keys::table
            .select((device_keys::id, device_keys::kid))
            .load(connection)
            .unwrap();
        let keys: HashMap<i64, String> = keys.into_iter().collect();
        let messages: Vec<(i64, i64, i64, Vec<u8>)> =
            alert_messages::table.load(connection).unwrap();
        let messages: Messages = messages
            .into_iter()
            .map(|(key, seq, alert, digest)| {
                // Who cannot sign has no key, and its row with a minus instead, far below where it
                // showed a token.
                let kid = keys.get(&key).cloned();
                let kid = kid.unwrap_or_else(|| match -key - (1 << 40) {
                    device @ 1.. => format!("heredada-{device}"),
                    _ => format!("broker-{}", -key),
                });
                let name = (kid, seq.try_into().unwrap());
                (name, (alert, hex(&digest)))
            })
            .collect();
        if messages != self.messages {
            return Err("the messages taken are not those of the journal".to_owned());
        }
        if !self.texts.is_empty() {
            return Err(format!("texts of no step: {:?}", self.texts.keys()));
        }
        Ok(())
    }
}

/// The digest of a step's texts, as the chain holds it.
fn texts_digest(body: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"atalaya/journal/texts/v1\0");
    hasher.update(body);
    hex(&hasher.finalize())
}
