//! Crashes under load: nothing acknowledged is lost, nothing is half done.

use crate::support::checks::{
    all_arrived, backlog_drains, cents, retained_balances_are_right, versions_rise_by_one,
};
use crate::support::client::raw_field;
use crate::support::{Atalaya, Client, Mosquitto, Records, Subscriber, eventually};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CLIENTS: usize = 12;
const REQUESTS: usize = 40;
const ACCOUNTS: usize = 6;

/// Takes some ten seconds: five lives under load.
#[actix_web::test]
async fn what_was_acknowledged_survives_kill_9_under_load() {
    let broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker).start().await;
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    let client = atalaya.client();
    for account in 1..=ACCOUNTS {
        client.open(&account.to_string()).await;
    }
    let journal = RefCell::new(Vec::new());
    let load = join_all((0..CLIENTS).map(|number| work(&client, number, &journal)));
    let kills = async {
        for life in 1..=4 {
            let enough = life * CLIENTS * REQUESTS / 6;
            eventually("the load goes on", || async {
                (journal.borrow().len() >= enough).then_some(())
            })
            .await;
            // Any moment will do, so any is taken.
            tokio::time::sleep(Duration::from_millis(random_below(150))).await;
            atalaya.kill();
            atalaya.start().await;
        }
    };
    futures_util::future::join(load, kills).await;
    let journal = journal.into_inner();
    assert_eq!(journal.len(), CLIENTS * REQUESTS);
    the_decisions_stand(&client, &journal).await;
    balances_are_the_sums(&client, &journal).await;
    the_journal_is_whole(&atalaya);
    all_arrived(&bank, &atalaya).await;
    versions_rise_by_one(&bank.all());
    backlog_drains(&atalaya).await;
    retained_balances_are_right(broker.port, &atalaya).await;
}

/// A request and the decision about it, as the client has written them down.
struct Noted {
    key: String,
    path: String,
    body: Value,
    status: u16,
    answer: String,
}

/// Sends requests of all kinds, each until it is decided, and writes decisions down.
async fn work(client: &Client, number: usize, journal: &RefCell<Vec<Noted>>) {
    for n in 0..REQUESTS {
        let account = (number + n) % ACCOUNTS + 1;
        let other = account % ACCOUNTS + 1;
        let amount = format!("{}.{:02}", n % 7 + 1, number);
        let (path, body) = match (number + n) % 4 {
            0 | 1 => (
                format!("/api/v1/cuentas/{account}/depositos"),
                json!({ "monto": amount }),
            ),
            // Some are more than there is: refusals are decisions too.
            2 => (
                format!("/api/v1/cuentas/{account}/retiros"),
                json!({ "monto": amount.replace('.', "9.") }),
            ),
            _ => (
                "/api/v1/transferencias".to_owned(),
                json!({"cedula_origen": account.to_string(), "cedula_destino": other.to_string(),
                       "monto": amount}),
            ),
        };
        let key = format!("client-{number}-{n}");
        let (status, answer) = insist(client, &path, &key, &body).await;
        journal.borrow_mut().push(Noted {
            key,
            path,
            body,
            status,
            answer,
        });
    }
}

/// Asks under the same key until there is a decision.
async fn insist(client: &Client, path: &str, key: &str, body: &Value) -> (u16, String) {
    eventually("a decision", || async {
        let answer = client.post(path, Some(key), body).await.ok()?;
        // The status may arrive of an answer that is cut off behind it.
        let whole = serde_json::from_slice::<Value>(&answer.body).is_ok();
        (whole && matches!(answer.status, 201 | 409) && !is_in_flight(&answer.text()))
            .then(|| (answer.status, answer.text()))
    })
    .await
}

fn is_in_flight(answer: &str) -> bool {
    answer.contains("\"codigo\"") && !answer.contains("saldo_insuficiente")
}

async fn the_decisions_stand(client: &Client, journal: &[Noted]) {
    for noted in journal {
        let again = client.post(&noted.path, Some(&noted.key), &noted.body);
        let again = again.await.unwrap();
        assert!(again.is_replayed(), "{} is forgotten", noted.key);
        assert_eq!(
            (again.status, again.text()),
            (noted.status, noted.answer.clone()),
            "{}",
            noted.key
        );
    }
}

async fn balances_are_the_sums(client: &Client, journal: &[Noted]) {
    let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut post = |account: &Value, change: i64| {
        let sum = sums
            .entry(account.as_str().unwrap().to_owned())
            .or_default();
        *sum = (sum.0 + change, sum.1 + 1);
    };
    for noted in journal.iter().filter(|noted| noted.status == 201) {
        let answer: Value = serde_json::from_str(&noted.answer).unwrap();
        let amount = cents(&raw_field(&noted.answer, "monto"));
        match answer["tipo"].as_str() {
            Some("DEPOSITO") => post(&answer["cedula"], amount),
            Some(_) => post(&answer["cedula"], -amount),
            None => {
                post(&answer["cedula_origen"], -amount);
                post(&answer["cedula_destino"], amount);
            }
        }
    }
    for (account, (balance, version)) in &sums {
        assert_eq!(cents(&client.balance(account).await), *balance, "{account}");
        let versions = versions_in_history(client, account).await;
        assert_eq!(versions, (1..=*version).rev().collect::<Vec<_>>());
    }
}

/// All versions that the history of `account` shows, newest first.
async fn versions_in_history(client: &Client, account: &str) -> Vec<i64> {
    let mut versions = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/cuentas/{account}/movimientos?limite=200{cursor}");
        let page = client.get(&path).await.unwrap().json();
        let movements = page["datos"].as_array().unwrap();
        versions.extend(movements.iter().map(|m| m["version"].as_i64().unwrap()));
        match page["siguiente"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return versions,
        }
    }
}

/// Sequences without a gap, versions without a gap, balances that follow from the postings.
fn the_journal_is_whole(atalaya: &Atalaya) {
    let records = Records::of(atalaya);
    let head = records.number("SELECT head_seq FROM lanes");
    assert_eq!(records.number("SELECT COUNT(*) FROM journal"), head);
    assert_eq!(records.number("SELECT MIN(seq) FROM journal"), 1);
    assert_eq!(records.number("SELECT MAX(seq) FROM journal"), head);
    let mut last: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for posting in records.postings() {
        let (version, _) = last.get(&posting.id).copied().unwrap_or_default();
        assert_eq!(posting.version, version + 1, "{posting:?}");
        last.insert(posting.id, (posting.version, posting.balance));
    }
    for account in records.accounts().into_values() {
        let expected = last.get(&account.id).copied().unwrap_or_default();
        assert_eq!((account.version, account.balance), expected);
    }
}

#[cfg(feature = "failpoints")]
#[actix_web::test]
async fn what_was_not_committed_is_absent_after_a_crash_and_can_be_asked_again() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    atalaya.kill();
    atalaya.set("FAILPOINTS", "writer::before_commit=sleep(60000)");
    atalaya.start().await;
    let records = Records::of(&atalaya);
    let asking = ask_in_vain(&client);
    let crash = async {
        eventually("the transaction is open", || async {
            records.is_being_written().then_some(())
        })
        .await;
        atalaya.kill();
    };
    futures_util::future::join(asking, crash).await;
    atalaya.set("FAILPOINTS", "");
    atalaya.start().await;
    assert_eq!(client.balance("1").await, "10.00");
    let answer = client.deposit("1", "5.00", "cut-off").await;
    assert_eq!((answer.status, answer.is_replayed()), (201, false));
    assert_eq!(client.balance("1").await, "15.00");
    the_journal_is_whole(&atalaya);
}

#[cfg(feature = "failpoints")]
#[actix_web::test]
async fn what_was_committed_and_not_answered_is_known_by_its_key_after_a_crash() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    atalaya.kill();
    atalaya.set("FAILPOINTS", "writer::after_commit=sleep(60000)");
    atalaya.start().await;
    let records = Records::of(&atalaya);
    let asking = ask_in_vain(&client);
    let crash = async {
        eventually("the deposit is on disk", || async {
            (records.accounts()["1"].balance == 1_500).then_some(())
        })
        .await;
        atalaya.kill();
    };
    futures_util::future::join(asking, crash).await;
    atalaya.set("FAILPOINTS", "");
    atalaya.start().await;
    let answer = client.deposit("1", "5.00", "cut-off").await;
    assert_eq!((answer.status, answer.is_replayed()), (201, true));
    assert_eq!(client.balance("1").await, "15.00");
    the_journal_is_whole(&atalaya);
}

/// A deposit whose answer never comes.
#[cfg(feature = "failpoints")]
async fn ask_in_vain(client: &Client) {
    let path = "/api/v1/cuentas/1/depositos";
    let body = json!({"monto": "5.00"});
    let answer = client.post(path, Some("cut-off"), &body).await;
    assert!(answer.is_err(), "it was answered: {answer:?}");
}

// --- imports ------------------------------------------------------------------------------------

const ROWS: usize = 600;

/// Movements of some accounts, and where they must end: computed here, apart from the ledger.
struct History {
    csv: String,
    balances: BTreeMap<String, i64>,
    accepted: usize,
    refused: usize,
}

impl History {
    fn generate() -> Self {
        let mut csv = "cedula,fecha,tipo,monto,saldo_banco\n".to_owned();
        let mut balances: BTreeMap<String, i64> = BTreeMap::new();
        let (mut accepted, mut refused) = (0, 0);
        // A linear congruence: the same file in every run.
        let mut state = 20_260_115_u64;
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for row in 0..ROWS {
            let account = format!("{:010}", draw(7) + 1);
            let amount = i64::try_from(draw(50_000) + 1).unwrap();
            let is_deposit = draw(100) < 52;
            let kind = if is_deposit { "DEPOSITO" } else { "RETIRO" };
            let balance = balances.entry(account.clone()).or_default();
            if is_deposit {
                *balance += amount;
                accepted += 1;
            } else if *balance >= amount {
                *balance -= amount;
                accepted += 1;
            } else {
                refused += 1;
            }
            let (whole, part, day) = (amount / 100, amount % 100, row / 25 + 1);
            writeln!(csv, "{account},1995-05-{day:02},{kind},{whole}.{part:02},0").unwrap();
        }
        assert!(refused > 10, "some are overdrafts");
        Self {
            csv,
            balances,
            accepted,
            refused,
        }
    }

    fn write_into(&self, folder: &Path) -> PathBuf {
        let path = folder.join("movements.csv");
        std::fs::write(&path, &self.csv).unwrap();
        path
    }

    /// The summary and the database say what was computed.
    fn is_in(&self, atalaya: &Atalaya, summary: &Value) {
        assert_eq!(summary["completo"], true, "{summary}");
        assert_eq!(summary["aceptados"], self.accepted, "{summary}");
        assert_eq!(summary["rechazados"], self.refused, "{summary}");
        let accounts = Records::of(atalaya).accounts().into_values();
        let balances: BTreeMap<String, i64> = accounts.map(|a| (a.id, a.balance)).collect();
        assert_eq!(balances, self.balances);
        let postings = Records::of(atalaya).postings().len();
        assert_eq!(postings, self.accepted, "postings");
        the_journal_is_whole(atalaya);
    }
}

fn import(atalaya: &Atalaya, file: &Path, rate: u32) -> Child {
    Command::new(env!("CARGO_BIN_EXE_atalaya"))
        .arg("import")
        .arg(file)
        .args(["--url", atalaya.client().base()])
        .args(["--rate", &rate.to_string(), "--json"])
        .env_clear()
        .env("ATALAYA_TOKEN", atalaya.token())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for an import's end without standing in the way of the rest.
async fn summary_of(mut import: Child) -> Value {
    eventually("the import ends", || {
        let ended = import.try_wait().unwrap();
        async move { ended }
    })
    .await;
    let output = import.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn postings_reach(atalaya: &Atalaya, count: i64) {
    eventually("the import goes on", || async {
        let postings = Records::of(atalaya).number("SELECT postings FROM lanes");
        (postings >= count).then_some(())
    })
    .await;
}

/// Takes some ten seconds: the importer waits longer after each crash.
#[actix_web::test]
async fn an_import_ends_right_though_the_server_is_killed_three_times() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let history = History::generate();
    let file = history.write_into(atalaya.folder());
    let import = import(&atalaya, &file, 200);
    for part in 1..=3 {
        postings_reach(&atalaya, part * 120).await;
        atalaya.kill();
        atalaya.start().await;
    }
    let summary = summary_of(import).await;
    history.is_in(&atalaya, &summary);
}

#[actix_web::test]
async fn an_import_that_was_killed_is_finished_by_running_it_again() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let history = History::generate();
    let file = history.write_into(atalaya.folder());
    let mut first = import(&atalaya, &file, 200);
    postings_reach(&atalaya, 150).await;
    first.kill().unwrap();
    first.wait().unwrap();
    let summary = summary_of(import(&atalaya, &file, 0)).await;
    history.is_in(&atalaya, &summary);
    let head = Records::of(&atalaya).number("SELECT head_seq FROM lanes");
    let again = summary_of(import(&atalaya, &file, 0)).await;
    history.is_in(&atalaya, &again);
    assert_eq!(again["ya_estaban"], history.accepted);
    assert_eq!(
        Records::of(&atalaya).number("SELECT head_seq FROM lanes"),
        head,
        "the third run has written something"
    );
}

fn random_below(limit: u64) -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0 % limit
}
