//! What a file asks for: read whole, checked whole, grouped by account. No network here.

use crate::domain::{AccountId, Amount, AmountError, PostingKind};
use crate::wire::events::kind_name;
use crate::wire::numbers::{format_date, parse_date};
use csv::{ErrorKind, Position, Reader, ReaderBuilder, StringRecord, Trim};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::{self, Write as _};

/// How many bad rows are named: enough to see a pattern, few enough to read.
const BAD_ROWS_SHOWN: usize = 10;

/// Tells these keys from those of any other use of SHA-256, and this recipe from a later one.
const KEY_DOMAIN: &str = "atalaya-import-v1";

/// One row of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Movement {
    /// Where it stands in the file; for people, never part of the key.
    pub(super) line: u64,
    /// Deposit or withdrawal.
    pub(super) kind: PostingKind,
    /// How much.
    pub(super) amount: Amount,
    /// Value date, in days since 1970-01-01.
    pub(super) day: i32,
    /// Which one it is, from 1, of the rows that say the very same.
    pub(super) occurrence: u32,
}

impl Movement {
    /// The value date as the wire writes it.
    pub(super) fn date(&self) -> String {
        format_date(self.day)
    }

    /// The idempotency key of this movement of `account`.
    ///
    /// It depends on what the row says and on nothing else, so that every run on every machine
    /// finds the decisions of the runs before it: not on the line number, which changes when a
    /// file grows at the front or loses a comment, and not on how the amount was spelled. Rows
    /// that say the very same (two equal deposits on one day) are told apart by counting them;
    /// a longer file with the same beginning counts them the same. It follows that two files that
    /// split one account's day between them would count from 1 twice: import whole days.
    pub(super) fn key(&self, account: &AccountId) -> String {
        // No field can hold a newline, so no two tuples give the same bytes.
        let tuple = format!(
            "{KEY_DOMAIN}\n{account}\n{}\n{}\n{}\n{}",
            self.date(),
            kind_name(self.kind),
            self.amount,
            self.occurrence
        );
        let mut key = String::from("imp-");
        for byte in Sha256::digest(tuple.as_bytes()) {
            // Writing to a String cannot fail.
            let _ = write!(key, "{byte:02x}");
        }
        key
    }
}

/// The movements of one account, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccountPlan {
    /// The account.
    pub(super) id: AccountId,
    /// Its movements.
    pub(super) movements: Vec<Movement>,
}

/// A whole file that may be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Accounts, in the order of their first movements.
    pub(super) accounts: Vec<AccountPlan>,
    /// Movements of all accounts.
    pub(super) movements: u64,
}

/// A row that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRow {
    /// Where it stands.
    pub(super) line: u64,
    /// What is wrong, for people.
    pub(super) reason: String,
}

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    /// It cannot be read at all.
    #[error("no se puede leer el archivo: {0}")]
    Unreadable(#[from] csv::Error),
    /// A column that is needed is not there.
    #[error("falta la columna {0:?} en la primera línea")]
    MissingColumn(&'static str),
    /// Rows that cannot be right.
    #[error("{}", BadRows(.total, .first))]
    BadRows {
        /// How many.
        total: u64,
        /// The first few.
        first: Vec<BadRow>,
    },
}

struct BadRows<'a>(&'a u64, &'a [BadRow]);

impl fmt::Display for BadRows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(total, first) = self;
        write!(f, "filas con errores: {total}; no se envió nada")?;
        first
            .iter()
            .try_for_each(|row| write!(f, "\n  línea {}: {}", row.line, row.reason))
    }
}

/// Reads and checks the whole of `text` before anything is sent: half an import because of a typo
/// in line 9,000 would be worse than none.
///
/// # Errors
/// [`PlanError`] says what is wrong and where.
pub(super) fn read(text: &[u8]) -> Result<Plan, PlanError> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(text);
    let columns = Columns::find(&mut reader)?;
    let mut lines = Lines {
        text,
        offset: 0,
        line: 1,
    };
    let mut planner = Planner::default();
    let (mut first, mut total) = (Vec::new(), 0);
    let mut record = StringRecord::new();
    loop {
        let row = match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => columns.row(&record, lines.at(record.position())),
            Err(error) => Err(bad_record(error, &mut lines)?),
        };
        match row {
            Ok(row) => planner.add(row),
            Err(bad) => {
                total += 1;
                if first.len() < BAD_ROWS_SHOWN {
                    first.push(bad);
                }
            }
        }
    }
    if total > 0 {
        Err(PlanError::BadRows { total, first })
    } else {
        Ok(planner.plan)
    }
}

/// A record that is not one, or an error that ends the reading.
fn bad_record(error: csv::Error, lines: &mut Lines<'_>) -> Result<BadRow, csv::Error> {
    let line = lines.at(error.position());
    let reason = match error.kind() {
        ErrorKind::Utf8 { .. } => "no es texto UTF-8".to_owned(),
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("tiene {len} columnas y no {expected_len}")
        }
        _ => return Err(error),
    };
    Ok(BadRow { line, reason })
}

/// Counts lines as an editor does. The parser's own count stands still at the end of the record
/// before, so that blank lines and the second half of CRLF are not in it yet.
struct Lines<'a> {
    text: &'a [u8],
    offset: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record at `position`; positions only rise.
    fn at(&mut self, position: Option<&Position>) -> u64 {
        let start = position
            .and_then(|p| usize::try_from(p.byte()).ok())
            .unwrap_or(self.offset);
        let rest = self.text.get(start..).unwrap_or_default();
        let ends = rest
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        let passed = self.text.get(self.offset..start + ends).unwrap_or_default();
        for byte in passed {
            self.line += u64::from(*byte == b'\n');
        }
        self.offset += passed.len();
        self.line
    }
}

/// Where the columns stand. Others, like the bank's own balance, are not looked at.
struct Columns {
    cedula: usize,
    fecha: usize,
    tipo: usize,
    monto: usize,
}

impl Columns {
    fn find(reader: &mut Reader<&[u8]>) -> Result<Self, PlanError> {
        let headers = reader.headers()?;
        let at = |name: &'static str| {
            headers
                .iter()
                .position(|h| h == name)
                .ok_or(PlanError::MissingColumn(name))
        };
        Ok(Self {
            cedula: at("cedula")?,
            fecha: at("fecha")?,
            tipo: at("tipo")?,
            monto: at("monto")?,
        })
    }

    fn row(&self, record: &StringRecord, line: u64) -> Result<Row, BadRow> {
        self.parse(record, line)
            .map_err(|reason| BadRow { line, reason })
    }

    fn parse(&self, record: &StringRecord, line: u64) -> Result<Row, String> {
        let text = |column| record.get(column).unwrap_or_default();
        let account = AccountId::parse(text(self.cedula)).map_err(|_| {
            format!(
                "cedula {:?}: se esperan de 1 a 20 dígitos",
                text(self.cedula)
            )
        })?;
        let day = parse_date(text(self.fecha)).ok_or_else(|| {
            format!(
                "fecha {:?}: se espera AAAA-MM-DD entre 1900 y 2200",
                text(self.fecha)
            )
        })?;
        let kind = kind(text(self.tipo))
            .ok_or_else(|| format!("tipo {:?}: se espera DEPOSITO o RETIRO", text(self.tipo)))?;
        let amount = Amount::parse(text(self.monto))
            .map_err(|e| format!("monto {:?}: {}", text(self.monto), explain(e)))?;
        Ok(Row {
            account,
            line,
            kind,
            amount,
            day,
        })
    }
}

fn kind(text: &str) -> Option<PostingKind> {
    [PostingKind::Deposit, PostingKind::Withdrawal]
        .into_iter()
        .find(|k| kind_name(*k) == text)
}

pub(super) const fn explain(error: AmountError) -> &'static str {
    match error {
        AmountError::Malformed => "no es un número decimal como 150 o 150.50",
        AmountError::TooPrecise => "tiene más de dos decimales",
        AmountError::NotPositive => "no es mayor que cero",
        AmountError::TooLarge => "tiene más de 15 dígitos enteros",
    }
}

/// A row that is right.
struct Row {
    account: AccountId,
    line: u64,
    kind: PostingKind,
    amount: Amount,
    day: i32,
}

/// Groups rows by account and counts those that say the same.
#[derive(Default)]
struct Planner {
    plan: Plan,
    places: HashMap<AccountId, usize>,
    seen: HashMap<(usize, i32, PostingKind, Amount), u32>,
}

impl Planner {
    fn add(&mut self, row: Row) {
        let Row {
            account,
            line,
            kind,
            amount,
            day,
        } = row;
        let accounts = &mut self.plan.accounts;
        let place = *self.places.entry(account).or_insert_with_key(|id| {
            accounts.push(AccountPlan {
                id: id.clone(),
                movements: Vec::new(),
            });
            accounts.len() - 1
        });
        let occurrence = self.seen.entry((place, day, kind, amount)).or_insert(0);
        *occurrence += 1;
        let movement = Movement {
            line,
            kind,
            amount,
            day,
            occurrence: *occurrence,
        };
        accounts[place].movements.push(movement);
        self.plan.movements += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "cedula,fecha,tipo,monto,saldo_banco\n";

    fn plan(rows: &str) -> Plan {
        read(format!("{HEADER}{rows}").as_bytes()).unwrap()
    }

    fn keys(plan: &Plan) -> Vec<String> {
        let of = |a: &AccountPlan| a.movements.iter().map(|m| m.key(&a.id)).collect::<Vec<_>>();
        plan.accounts.iter().flat_map(of).collect()
    }

    #[test]
    fn accounts_come_in_the_order_of_their_first_movement() {
        let plan = plan(
            "2,1995-04-19,DEPOSITO,200.00,\n1,1995-04-20,DEPOSITO,5.00,\n2,1995-04-21,RETIRO,7,\n",
        );
        let ids: Vec<_> = plan.accounts.iter().map(|a| a.id.as_str()).collect();
        assert_eq!(ids, ["2", "1"]);
        let lines: Vec<_> = plan.accounts[0].movements.iter().map(|m| m.line).collect();
        assert_eq!((lines, plan.movements), (vec![2, 4], 3));
    }

    /// Pinned: a changed recipe would post everybody's history a second time.
    #[test]
    fn a_key_never_changes() {
        let keys = keys(&plan("0000005724,1995-04-19,DEPOSITO,200.00,200.00\n"));
        assert_eq!(
            keys,
            ["imp-7c460e735188735df090b98968cdababf59c11edaa94482962052b4ac4a2aafd"]
        );
    }

    #[test]
    fn keys_do_not_depend_on_lines_spelling_or_other_columns() {
        let one = plan("1,1995-04-19,DEPOSITO,200.00,200.00\n");
        let source = "\u{feff}monto, tipo ,x,fecha,cedula\n\n200,DEPOSITO,?,1995-04-19,1\n";
        assert_eq!(keys(&one), keys(&read(source.as_bytes()).unwrap()));
    }

    #[test]
    fn every_difference_makes_another_key() {
        let keys = keys(&plan(
            "1,1995-04-19,DEPOSITO,200.00,\n1,1995-04-20,DEPOSITO,200.00,\n\
             1,1995-04-19,RETIRO,200.00,\n1,1995-04-19,DEPOSITO,200.01,\n\
             2,1995-04-19,DEPOSITO,200.00,\n1,1995-04-19,DEPOSITO,200.00,\n",
        ));
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), 6);
        assert!(
            keys.iter()
                .all(|k| crate::domain::IdempotencyKey::parse(k).is_ok())
        );
    }

    #[test]
    fn equal_rows_are_counted_and_a_longer_file_counts_the_same() {
        let rows = "1,1995-04-19,DEPOSITO,1.00,\n2,1995-04-19,DEPOSITO,1.00,\n".repeat(2);
        let short = plan(&rows);
        let occurrences: Vec<_> = short.accounts[0]
            .movements
            .iter()
            .map(|m| m.occurrence)
            .collect();
        assert_eq!(occurrences, [1, 2]);
        let long = keys(&plan(&format!("{rows}1,1995-04-19,DEPOSITO,1.00,\n")));
        assert!(keys(&short).iter().all(|key| long.contains(key)));
        assert_eq!(long.len(), 5);
    }

    #[test]
    fn bad_rows_are_named_and_only_the_first_few() {
        let bad = [
            "x,1995-04-19,DEPOSITO,1,",
            "1,1995-02-30,DEPOSITO,1,",
            "1,1995-04-19,deposito,1,",
            "1,1995-04-19,RETIRO,1.001,",
            "1,1995-04-19,RETIRO,0,",
            "1,1995-04-19,RETIRO",
        ];
        let rows = format!("{HEADER}1,1995-04-19,DEPOSITO,1,\n{}\n", bad.join("\n"));
        let text = read(rows.as_bytes()).unwrap_err().to_string();
        for part in [
            "errores: 6",
            "línea 3: cedula",
            "línea 4: fecha",
            "línea 5: tipo",
            "línea 6: monto \"1.001\": tiene más",
            "línea 7: monto",
            "línea 8: tiene 3 columnas",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let many = format!("{HEADER}{}", "x,1995-04-19,DEPOSITO,1,\n".repeat(50));
        let text = read(many.as_bytes()).unwrap_err().to_string();
        assert!(
            text.contains("errores: 50") && text.lines().count() == 11,
            "{text}"
        );
    }

    #[test]
    fn lines_are_an_editors() {
        let rows = [
            "cedula,fecha,tipo,monto",
            "1,1995-04-19,RETIRO,1",
            "",
            "x,y,z,1",
            "",
            "1,2",
        ];
        for (mark, end) in [("", "\n"), ("", "\r\n"), ("\u{feff}", "\r\n")] {
            let text = format!("{mark}{}", rows.join(end));
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("línea 4: cedula"), "{end:?}: {error}");
            assert!(error.contains("línea 6: tiene 2"), "{end:?}: {error}");
        }
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = read("cedula,fecha,tipo\n1,1995-04-19,RETIRO\n".as_bytes()).unwrap_err();
        assert!(error.to_string().contains("monto"));
        assert!(read("".as_bytes()).is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_a_bad_row() {
        let mut rows = format!("{HEADER}1,1995-04-19,DEPOSITO,1,").into_bytes();
        rows.extend([0xff, b'\n']);
        assert!(
            read(rows.as_slice())
                .unwrap_err()
                .to_string()
                .contains("línea 2: no es texto")
        );
    }
}
