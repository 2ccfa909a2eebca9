//! What must be true of a broker and a database together.

use super::client::raw_field;
use super::{Atalaya, Message, Records, Subscriber, eventually, has_tool};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};

/// Money as the wire writes it, in cents.
pub fn cents(decimal: &str) -> i64 {
    decimal.replace('.', "").parse().unwrap()
}

/// Waits until a subscriber has seen every posting's balance, and with it all that goes before.
pub async fn all_arrived(bank: &Subscriber, atalaya: &Atalaya) {
    let records = Records::of(atalaya);
    let expected: HashSet<(String, i64, i64)> = records
        .postings()
        .into_iter()
        .map(|posting| (posting.id, posting.version, posting.balance))
        .collect();
    eventually("every posting is published", || async {
        let seen: HashSet<_> = bank.all().iter().filter_map(balance_message).collect();
        expected.is_subset(&seen).then_some(())
    })
    .await;
}

/// Account, version and balance of a message on `banco/saldo/{cedula}`.
fn balance_message(message: &Message) -> Option<(String, i64, i64)> {
    let account = message.topic.strip_prefix("banco/saldo/")?;
    let text = message.text();
    let version = raw_field(&text, "version").parse().unwrap();
    Some((
        account.to_owned(),
        version,
        cents(&raw_field(&text, "saldo_nuevo")),
    ))
}

/// On first delivery the versions of each account rise by one.
pub fn versions_rise_by_one(messages: &[Message]) {
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for (account, version, _) in messages.iter().filter_map(balance_message) {
        let last = last.entry(account.clone()).or_default();
        assert!(
            version <= *last + 1,
            "account {account}: version {version} follows {last}"
        );
        *last = version.max(*last);
    }
}

/// What is retained at the broker is what stands in the database, for all accounts.
pub async fn retained_balances_are_right(port: u16, atalaya: &Atalaya) {
    let expected: BTreeMap<String, (i64, i64)> = Records::of(atalaya)
        .accounts()
        .into_values()
        .filter(|account| account.version > 0)
        .map(|account| (account.id, (account.version, account.balance)))
        .collect();
    let late = Subscriber::to(port, &["banco/saldo/#"]).await;
    eventually("retained balances equal the database", || async {
        let now: BTreeMap<String, (i64, i64)> = late
            .all()
            .iter()
            .filter_map(balance_message)
            .map(|(account, version, balance)| (account, (version, balance)))
            .collect();
        (now == expected).then_some(())
    })
    .await;
}

/// Waits until the broker has acknowledged all there is.
pub async fn backlog_drains(atalaya: &Atalaya) {
    eventually("the backlog drains", || async {
        (atalaya.metric("atalaya_outbox_backlog_entries").await? == 0.0).then_some(())
    })
    .await;
}

/// Waits until the marker says that retained balances are right up to the journal's end.
pub async fn marker_catches_up(port: u16, atalaya: &Atalaya) -> String {
    let head = Records::of(atalaya).number("SELECT head_seq FROM lanes");
    let marker = Subscriber::to(port, &["atalaya/retenidos"]).await;
    marker
        .wait_for("the marker", |m| {
            serde_json::from_slice(&m.payload).is_ok_and(|m: Value| m["posicion"] == head)
        })
        .await
        .text()
}

/// The official linter of metrics finds nothing to say.
pub fn passes_promtool(text: &str) {
    if !has_tool("promtool") {
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
