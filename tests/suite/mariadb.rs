//! What a server of databases can do to its clients: undo their transactions, let them wait, lose
//! their connections in the middle of a commit, go away and come back.

use crate::support::mariadb::{MariaDb, Schema};
use crate::support::proxy::{Cut, Proxy};
use crate::support::terminal::Terminal;
use crate::support::{
    Atalaya, Client, Mosquitto, Subscriber, audit, certificates, eventually, free_port, run,
};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use futures_util::future::join_all;
use nix::sys::signal::Signal;

/// An Atalaya with its data on `server`.
async fn atalaya_on(schema: &Schema) -> Atalaya {
    Atalaya::without_mqtt()
        .set("DATABASE_URL", schema.url())
        .start()
        .await
}

/// `schema` as `sql` sees it, for a connection of the test's own.
fn connect(schema: &Schema) -> MysqlConnection {
    MysqlConnection::establish(schema.url()).unwrap()
}

/// The `value` of a query.
fn number(schema: &Schema, query: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        value: i64,
    }
    let mut connection = connect(schema);
    let found: Number = diesel::sql_query(query)
        .get_result(&mut connection)
        .unwrap();
    found.value
}

/// A server that listens on a port, which is what a proxy needs.
fn server_on_a_port() -> (MariaDb, u16) {
    let port = free_port();
    let server = MariaDb::start_with(&["--bind-address=127.0.0.1", &format!("--port={port}")]);
    server.execute(
        "CREATE USER 'atalaya'@'127.0.0.1' IDENTIFIED BY 'canary-of-the-database'; \
         GRANT ALL ON *.* TO 'atalaya'@'127.0.0.1';",
    );
    (server, port)
}

/// The address of a schema through `port`.
fn through(schema: &Schema, port: u16) -> String {
    let name = schema.name();
    format!("mysql://atalaya:canary-of-the-database@127.0.0.1:{port}/{name}")
}

#[actix_web::test]
async fn a_commit_whose_reply_is_lost_is_looked_up() {
    let (server, port) = server_on_a_port();
    let schema = Schema::on(&server.url());
    let proxy = Proxy::start(port).await;
    let atalaya = Atalaya::without_mqtt()
        .set("DATABASE_URL", through(&schema, proxy.port))
        .set("TCP_TRUSTED", "127.0.0.1=cajero:banco")
        .start()
        .await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let cuts = [
        Cut::AfterCommit,
        Cut::BeforeCommit,
        Cut::Unnoticed,
        Cut::AfterCommit,
    ];
    for (n, cut) in cuts.into_iter().enumerate() {
        proxy.cut_at_next_commit(cut);
        let key = format!("k{n}");
        let answer = client.deposit("1", "1.00", &key).await;
        assert_eq!(answer.status, 201, "{cut:?}: {}", answer.text());
        assert!(proxy.has_cut(), "{cut:?}");
        let again = client.deposit("1", "1.00", &key).await;
        assert!(again.is_replayed(), "{cut:?}");
        assert_eq!(again.text(), answer.text(), "{cut:?}");
    }
    assert_eq!(client.balance("1").await, "104.00");
    // Where there is no key nothing but the looking up keeps it from being done twice.
    let mut terminal = Terminal::open(&atalaya);
    for (cut, balance) in [(Cut::AfterCommit, "105.00"), (Cut::BeforeCommit, "106.00")] {
        proxy.cut_at_next_commit(cut);
        let asked = actix_web::rt::task::spawn_blocking(move || {
            let answer = terminal.asks("AUMENTAR 1 1");
            (terminal, answer)
        });
        let answer;
        (terminal, answer) = asked.await.unwrap();
        assert_eq!(answer, format!("OK|Depósito exitoso|{balance}"), "{cut:?}");
        assert!(proxy.has_cut(), "{cut:?}");
    }
    audit(&schema.location()).unwrap();
    assert!(atalaya.log().contains("the reply to a commit was lost"));
}

#[actix_web::test]
async fn a_transaction_that_is_undone_for_another_is_run_again() {
    let server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let atalaya = atalaya_on(&schema).await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let mut other = connect(&schema);
    // Much written weighs much: of two in each other's way the lighter is undone.
    other
        .batch_execute(
            "CREATE TABLE weight (n INT PRIMARY KEY) ENGINE = InnoDB; START TRANSACTION; \
             INSERT INTO weight SELECT seq FROM seq_1_to_5000; \
             SELECT * FROM lanes FOR UPDATE;",
        )
        .unwrap();
    let deposit = {
        let client = client.clone();
        actix_web::rt::spawn(async move { client.deposit("1", "5.00", "k").await })
    };
    eventually("the deposit waits for the head of the journal", || async {
        waits(&schema).then_some(())
    })
    .await;
    // Now each waits for the other.
    other
        .batch_execute("UPDATE accounts SET balance = balance; COMMIT")
        .unwrap();
    let answer = deposit.await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(client.balance("1").await, "105.00");
    assert!(
        atalaya.log().to_lowercase().contains("deadlock"),
        "{}",
        atalaya.log()
    );
    audit(&schema.location()).unwrap();
}

/// Whether somebody is held up in moving the head of the journal in `schema`.
fn waits(schema: &Schema) -> bool {
    #[derive(QueryableByName)]
    struct Waiting {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        number: i64,
    }
    let found: Waiting = diesel::sql_query(
        "SELECT count(*) AS number FROM information_schema.processlist \
         WHERE db = DATABASE() AND command = 'Execute' AND info LIKE 'UPDATE `lanes`%' \
         AND id <> CONNECTION_ID()",
    )
    .get_result(&mut connect(schema))
    .unwrap();
    found.number > 0
}

/// Waits longer than a lock is waited for, which is five seconds, so it takes some.
#[actix_web::test]
async fn a_lock_that_is_not_given_in_time_is_waited_for_again() {
    let server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let atalaya = atalaya_on(&schema).await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let mut other = connect(&schema);
    other
        .batch_execute("START TRANSACTION; SELECT * FROM lanes FOR UPDATE;")
        .unwrap();
    let deposit = {
        let client = client.clone();
        actix_web::rt::spawn(async move { client.deposit("1", "5.00", "k").await })
    };
    eventually("the wait has been given up once", || async {
        atalaya
            .log()
            .contains("Lock wait timeout exceeded")
            .then_some(())
    })
    .await;
    other.batch_execute("ROLLBACK").unwrap();
    let answer = deposit.await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(client.balance("1").await, "105.00");
}

#[actix_web::test]
async fn many_who_withdraw_at_once_take_what_is_there_and_no_more() {
    let server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let atalaya = atalaya_on(&schema).await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    client.open("2").await;
    let keys: Vec<String> = (0..64).map(|n| format!("w{n}")).collect();
    let tried = join_all(keys.iter().map(|key| client.withdraw("1", "3.00", key))).await;
    let done = tried.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(done, 33);
    assert_eq!(client.balance("1").await, "1.00");
    let crossing = (0..40).map(|n| {
        let client = client.clone();
        async move {
            let key = format!("t{n}");
            let (from, to) = if n % 2 == 0 { ("1", "2") } else { ("2", "1") };
            client.transfer(from, to, "0.10", &key).await
        }
    });
    join_all(crossing).await;
    audit(&schema.location()).unwrap();
}

#[actix_web::test]
async fn a_server_that_is_killed_or_frozen_is_survived_without_a_restart() {
    let mut server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let atalaya = atalaya_on(&schema).await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;

    server.kill();
    let refused = client.deposit("1", "1.00", "a").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    eventually("it is not ready", || readiness(&client, 503)).await;
    assert_eq!(client.get("/livez").await.unwrap().status, 200);
    server.restart();
    eventually("it is ready", || readiness(&client, 200)).await;
    assert_eq!(client.deposit("1", "1.00", "a").await.status, 201);
    assert_eq!(client.balance("1").await, "101.00");

    server.signal(Signal::SIGSTOP);
    let waiting = client.deposit("1", "1.00", "b").await;
    assert_eq!(waiting.status, 503, "{}", waiting.text());
    server.signal(Signal::SIGCONT);
    eventually("it is ready again", || readiness(&client, 200)).await;
    assert_eq!(client.deposit("1", "1.00", "b").await.status, 201);
    assert_eq!(client.balance("1").await, "102.00", "once");
    audit(&schema.location()).unwrap();
}

async fn readiness(client: &Client, status: u16) -> Option<()> {
    (client.get("/readyz").await.ok()?.status == status).then_some(())
}

#[actix_web::test]
async fn a_second_process_on_the_same_server_is_refused() {
    let server = MariaDb::start();
    let schema = Schema::on(&server.url());
    let mut atalaya = atalaya_on(&schema).await;
    let second = Atalaya::without_mqtt()
        .set("DATABASE_URL", schema.url())
        .prepare();
    let ended = run(second.command());
    assert!(matches!(ended.code, Some(code) if code != 0), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(
        last.contains("another process") && last.contains("DATABASE_URL"),
        "{last}"
    );
    atalaya.client().open("1").await;
    // Who is killed leaves nothing behind that holds up the next.
    atalaya.kill();
    atalaya.start().await;
    atalaya.client().open("2").await;
}

#[actix_web::test]
async fn a_machine_that_lost_its_power_does_not_lock_out_the_next() {
    let (server, port) = server_on_a_port();
    let schema = Schema::on(&server.url());
    let proxy = Proxy::start(port).await;
    let mut atalaya = Atalaya::without_mqtt()
        .set("DATABASE_URL", through(&schema, proxy.port))
        .start()
        .await;
    atalaya.client().open("1").await;
    // Its connections stand at the server as if it were there.
    proxy.muffle();
    atalaya.kill();
    let held = number(
        &schema,
        "SELECT COUNT(*) AS value FROM information_schema.processlist WHERE user = 'atalaya'",
    );
    assert!(held > 0, "the server knows");
    atalaya.set("DATABASE_URL", through(&schema, port));
    atalaya.start().await;
    atalaya.client().open("2").await;
    assert_eq!(atalaya.client().balance("1").await, "0.00");
    audit(&schema.location()).unwrap();
}

#[actix_web::test]
async fn what_was_committed_unheard_is_published_though_nobody_comes() {
    let (server, port) = server_on_a_port();
    let schema = Schema::on(&server.url());
    let proxy = Proxy::start(port).await;
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker)
        .set("DATABASE_URL", through(&schema, proxy.port))
        .start()
        .await;
    let client = atalaya.client();
    client.open("7").await;
    let subscriber = Subscriber::to(broker.port, &["banco/depositos"]).await;
    eventually("nothing else is to be committed", || async {
        let behind = "SELECT COUNT(*) AS value FROM lanes JOIN outbox ON outbox.lane = lanes.lane \
                      WHERE outbox.position < lanes.head_seq";
        (number(&schema, behind) == 0).then_some(())
    })
    .await;
    proxy.shut(true);
    proxy.cut_at_next_commit(Cut::AfterCommit);
    let answer = client.deposit("7", "5.00", "unheard").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    eventually("it was committed", || async {
        (number(&schema, "SELECT postings AS value FROM lanes") == 1).then_some(())
    })
    .await;
    proxy.shut(false);
    subscriber
        .wait_for("the deposit", |message| message.json()["cedula"] == "7")
        .await;
}

#[actix_web::test]
async fn what_is_said_on_the_way_is_hidden_or_not_said() {
    let authority = certificates::Authority::new();
    let identity = authority.vouch_for("127.0.0.1");
    let port = free_port();
    let server = MariaDb::start_with(&[
        "--bind-address=127.0.0.1",
        &format!("--port={port}"),
        &format!("--ssl-cert={}", identity.certificate.display()),
        &format!("--ssl-key={}", identity.key.display()),
    ]);
    let schema = Schema::on(&server.url());
    server.execute(
        "CREATE USER 'atalaya'@'127.0.0.1' IDENTIFIED BY 'canary-of-the-database' REQUIRE SSL; \
         GRANT ALL ON *.* TO 'atalaya'@'127.0.0.1'; \
         CREATE USER 'open'@'127.0.0.1' IDENTIFIED BY 'canary-of-the-database'; \
         GRANT ALL ON *.* TO 'open'@'127.0.0.1';",
    );
    let ca = authority.certificate();
    let ca = ca.display();
    let name = schema.name();
    let url = |user: &str, rest: &str| {
        format!("mysql://{user}:canary-of-the-database@127.0.0.1:{port}/{name}{rest}")
    };
    let hidden = Atalaya::without_mqtt()
        .set("DATABASE_URL", url("atalaya", &format!("?ssl_ca={ca}")))
        .start()
        .await;
    hidden.client().open("1").await;
    drop(hidden);
    // The server would take it in the clear; we do not.
    let open = Atalaya::without_mqtt()
        .set("DATABASE_URL", url("open", "?ssl_mode=required"))
        .prepare();
    let ended = run(open.command());
    assert!(matches!(ended.code, Some(code) if code != 0), "{ended:?}");
    assert!(ended.stderr.contains("not encrypted"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    let refused = Atalaya::without_mqtt()
        .set("DATABASE_URL", url("atalaya", ""))
        .prepare();
    let ended = run(refused.command());
    assert!(matches!(ended.code, Some(code) if code != 0), "{ended:?}");
    assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
}
