//! Several writer lanes: each commits by itself, transfers between them are one commit, and whoever
//! follows misses nothing of any.

use crate::support::mariadb::{MariaDb, Schema};
use crate::support::proxy::{Cut, Proxy};
use crate::support::web_socket::SessionEvent;
use crate::support::{
    Atalaya, Client, Mosquitto, Subscriber, WebSocket, audit, eventually, free_port, run,
};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LANES: &str = "4";

/// Enough accounts for each lane to have some.
const ACCOUNTS: usize = 12;

fn account(n: usize) -> String {
    (1_000_000_000 + n).to_string()
}

async fn atalaya_on(schema: &Schema) -> Atalaya {
    let atalaya = Atalaya::without_mqtt()
        .set("DATABASE_URL", schema.url())
        .set("WRITER_LANES", LANES)
        .start()
        .await;
    open_all(&atalaya.client()).await;
    atalaya
}

async fn open_all(client: &Client) {
    for n in 0..ACCOUNTS {
        client.open_with(&account(n), "100.00").await;
    }
}

async fn total(client: &Client) -> i64 {
    let mut sum = 0;
    for n in 0..ACCOUNTS {
        let balance = client.balance(&account(n)).await;
        sum += balance.replace('.', "").parse::<i64>().unwrap();
    }
    sum
}

/// Opposing transfers between all pairs at once, with their answers.
async fn cross(client: &Client, round: usize) -> usize {
    let pairs = (0..ACCOUNTS).flat_map(|a| (0..ACCOUNTS).map(move |b| (a, b)));
    let tried = pairs.filter(|(a, b)| a != b).map(|(a, b)| {
        let client = client.clone();
        async move {
            let key = format!("x{round}-{a}-{b}");
            let answer = client
                .transfer(&account(a), &account(b), "1.00", &key)
                .await;
            assert!(
                matches!(answer.status, 201 | 409),
                "{}: {}",
                answer.status,
                answer.text()
            );
            usize::from(answer.status == 201)
        }
    });
    // Not more at once than a client has connections.
    let done: Vec<usize> = stream::iter(tried).buffer_unordered(32).collect().await;
    done.into_iter().sum()
}

#[actix_web::test]
async fn opposing_transfers_between_lanes_do_not_deadlock_and_lose_nothing() {
    let server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let mut atalaya = atalaya_on(&schema).await;
    let client = atalaya.client();
    let mut done = 0;
    for round in 0..3 {
        done += cross(&client, round).await;
        if round == 1 {
            atalaya.kill();
            atalaya.start().await;
        }
    }
    assert!(done > 2 * ACCOUNTS * (ACCOUNTS - 1), "{done}");
    let cents = i64::try_from(ACCOUNTS).unwrap() * 10_000;
    assert_eq!(total(&client).await, cents);
    audit(&schema.location()).unwrap();
    let postings =
        client.get("/api/v1/estadisticas").await.unwrap().json()["total_transacciones"].as_u64();
    assert_eq!(postings, Some((ACCOUNTS + 2 * done) as u64));
}

#[actix_web::test]
async fn a_kill_between_two_lanes_leaves_no_half_of_a_transfer() {
    let server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let mut atalaya = atalaya_on(&schema).await;
    for round in 10..14 {
        let client = atalaya.client();
        let answered = Arc::new(AtomicUsize::new(0));
        let pairs = (1..ACCOUNTS).flat_map(|n| [(0, n), (n, 0)]);
        let tried = pairs.map(|(a, b)| {
            let (client, answered) = (client.clone(), Arc::clone(&answered));
            async move {
                let key = format!("k{round}-{a}-{b}");
                let (from, to) = (account(a), account(b));
                let body = json!({"cedula_origen": from, "cedula_destino": to, "monto": "1.00"});
                let sent = client
                    .post("/api/v1/transferencias", Some(&key), &body)
                    .await;
                answered.fetch_add(1, Ordering::SeqCst);
                (sent.is_ok_and(|answer| answer.status == 201)).then_some((from, to, key))
            }
        });
        let all = actix_web::rt::spawn(join_all(tried.collect::<Vec<_>>()));
        eventually("some are answered", || async {
            (answered.load(Ordering::SeqCst) >= 3).then_some(())
        })
        .await;
        atalaya.kill();
        let promised = all.await.unwrap();
        atalaya.start().await;
        let client = atalaya.client();
        let cents = i64::try_from(ACCOUNTS).unwrap() * 10_000;
        assert_eq!(total(&client).await, cents, "round {round}");
        audit(&schema.location()).unwrap();
        for (from, to, key) in promised.into_iter().flatten() {
            assert!(
                client
                    .transfer(&from, &to, "1.00", &key)
                    .await
                    .is_replayed()
            );
        }
    }
}

#[actix_web::test]
async fn one_key_is_one_decision_in_whichever_lane_it_comes() {
    let server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let atalaya = atalaya_on(&schema).await;
    let client = atalaya.client();
    for round in 0..5 {
        let key = format!("same-{round}");
        let tried = (0..ACCOUNTS).map(|n| {
            let (client, key) = (client.clone(), key.clone());
            async move { client.deposit(&account(n), "1.00", &key).await.status }
        });
        let statuses = join_all(tried).await;
        let done = statuses.iter().filter(|status| **status == 201).count();
        let reused = statuses.iter().filter(|status| **status == 422).count();
        assert_eq!((done, reused), (1, ACCOUNTS - 1), "{statuses:?}");
    }
    let again = client.transfer(&account(0), &account(1), "1.00", "t").await;
    assert_eq!(again.status, 201);
    let again = client.transfer(&account(0), &account(1), "1.00", "t").await;
    assert!(again.is_replayed());
    let other = client.transfer(&account(1), &account(0), "1.00", "t").await;
    assert_eq!(other.status, 422);
    audit(&schema.location()).unwrap();
}

#[actix_web::test]
async fn a_lost_reply_to_a_commit_of_two_lanes_is_looked_up_in_both() {
    let port = free_port();
    let server = MariaDb::start_with(&["--bind-address=127.0.0.1", &format!("--port={port}")]);
    server.execute("CREATE USER 'a'@'127.0.0.1'; GRANT ALL ON *.* TO 'a'@'127.0.0.1';");
    let schema = Schema::on(&server.url());
    let proxy = Proxy::start(port).await;
    let url = format!("mysql://a@127.0.0.1:{}/{}", proxy.port, schema.name());
    let atalaya = Atalaya::without_mqtt()
        .set("DATABASE_URL", url)
        .set("WRITER_LANES", LANES)
        .start()
        .await;
    let client = atalaya.client();
    open_all(&client).await;
    for (n, cut) in (1..ACCOUNTS).zip([Cut::AfterCommit, Cut::BeforeCommit].into_iter().cycle()) {
        proxy.cut_at_next_commit(cut);
        let (key, to) = (format!("c{n}"), account(n));
        let answer = client.transfer(&account(0), &to, "1.00", &key).await;
        assert_eq!(answer.status, 201, "{cut:?} {n}: {}", answer.text());
        assert!(proxy.has_cut());
        assert!(
            client
                .transfer(&account(0), &to, "1.00", &key)
                .await
                .is_replayed()
        );
        assert_eq!(client.balance(&to).await, "101.00");
    }
    audit(&schema.location()).unwrap();
}

#[actix_web::test]
async fn whoever_follows_misses_nothing_of_any_lane() {
    let server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let mut broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker)
        .set("DATABASE_URL", schema.url())
        .set("WRITER_LANES", LANES)
        .start()
        .await;
    let client = atalaya.client();
    open_all(&client).await;
    let mut session = WebSocket::open(&atalaya).await;
    let wish = json!({"accion": "suscribir", "temas": FOLLOWED});
    let answer = session.ask(wish).await;
    let start = answer.json["datos"]["cursor"].as_str().unwrap();
    assert_eq!(start.split(',').count(), 4, "{start}");
    // The broker is away meanwhile; what it misses follows, and its retained balances are right.
    broker.kill();
    let done = cross(&client, 0).await;
    let events = gather(&mut session, 3 * done).await;
    let versions = versions_of(&events);
    for n in 0..ACCOUNTS {
        let last = client.version(&account(n)).await;
        let seen = &versions[&account(n)];
        // The deposit was before.
        let all: BTreeSet<i64> = (2..=last).collect();
        assert_eq!(seen, &all, "account {n}");
    }
    // From the middle of it everything after is there again.
    let middle = events.len() / 2;
    let mut again = WebSocket::open(&atalaya).await;
    again
        .resume(&FOLLOWED, events[middle].cursor.as_deref().unwrap())
        .await;
    let rest = named(&events[middle + 1..]);
    let mut replayed = BTreeSet::new();
    while !rest.is_subset(&replayed) {
        replayed.extend(named(&[again.event().await]));
    }
    broker.restart();
    eventually("all is published", || async {
        (atalaya.metric("atalaya_outbox_backlog_entries").await? == 0.0).then_some(())
    })
    .await;
    are_retained(&broker, &client).await;
    // The same of a broker that has lost what it held.
    broker.kill();
    broker.forget();
    broker.restart();
    are_retained(&broker, &client).await;
    assert!(atalaya.terminate().await.success());
    audit(&schema.location()).unwrap();
}

const FOLLOWED: [&str; 2] = ["banco/saldo/#", "banco/transferencias"];

/// The broker comes to hold the balance of every account as it is.
async fn are_retained(broker: &Mosquitto, client: &Client) {
    let subscriber = Subscriber::to(broker.port, &["banco/saldo/#"]).await;
    for n in 0..ACCOUNTS {
        let version = client.version(&account(n)).await;
        let topic = format!("banco/saldo/{}", account(n));
        let what = format!("{topic} in version {version}");
        subscriber
            .wait_for(&what, |message| {
                message.topic == topic && message.json()["version"] == version
            })
            .await;
    }
}

/// So many events of a session.
async fn gather(session: &mut WebSocket, number: usize) -> Vec<SessionEvent> {
    let mut events = Vec::new();
    while events.len() < number {
        events.push(session.event().await);
    }
    events
}

/// The versions that were told of each account.
fn versions_of(events: &[SessionEvent]) -> BTreeMap<String, BTreeSet<i64>> {
    let mut versions: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for event in events {
        if let Some(account) = event.topic.strip_prefix("banco/saldo/") {
            let told = versions.entry(account.to_owned()).or_default();
            assert!(told.insert(event.version()), "twice: {event:?}");
        }
    }
    versions
}

fn named(events: &[SessionEvent]) -> BTreeSet<String> {
    let name = |event: &SessionEvent| format!("{} {}", event.topic, event.json()["tx_id"]);
    events.iter().map(name).collect()
}

#[actix_web::test]
async fn lanes_are_fixed_with_the_database_and_need_a_server() {
    let server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let mut atalaya = atalaya_on(&schema).await;
    atalaya.terminate().await;
    atalaya.set("WRITER_LANES", "2");
    let ended = run(atalaya.command());
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(
        last.contains("WRITER_LANES is 2") && last.contains("with 4"),
        "{last}"
    );
    let file = Atalaya::without_mqtt()
        .set("DATABASE_URL", "sqlite://data/atalaya.db")
        .set("WRITER_LANES", "2")
        .prepare();
    let ended = run(file.command());
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("WRITER_LANES"), "{last}");
}
