//! What is acknowledged stays, whatever the disk, the clock and the clients do.

use crate::support::audit::open;
use crate::support::mariadb::on_files;
#[cfg(feature = "failpoints")]
use crate::support::raw;
use crate::support::{Atalaya, Client, Watched, access, audit, eventually, has_tool, run};
use atalaya::application::Application;
use atalaya::clock::Clock;
use atalaya::config::{Config, ServeArgs};
use atalaya::storage::Location;
use clap::Parser;
use diesel::prelude::*;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
#[cfg(feature = "failpoints")]
use std::time::{Duration, Instant};

const DEPOSITS: &str = "/api/v1/cuentas/1/depositos";

fn one() -> Value {
    json!({"monto": "1.00"})
}

// ---- the disk ----------------------------------------------------------------------------------

/// Makes every flush of a running process fail, through strace; `None` where that is not allowed.
async fn fail_every_flush(process: u32) -> Option<Watched> {
    if !has_tool("strace") {
        return None;
    }
    let mut command = Command::new("strace");
    command
        .args(["-f", "-p", &process.to_string(), "-o", "/dev/null"])
        .args(["-e", "trace=fsync,fdatasync"])
        .args(["-e", "inject=fsync,fdatasync:error=EIO"]);
    let strace = Watched::start(command);
    let attached = eventually("strace attaches, or says why not", || async {
        let said = strace.stderr().join("\n");
        let refused = said.contains("not permitted") || said.contains("No such process");
        (refused || said.contains("attached")).then_some(!refused)
    })
    .await;
    if !attached {
        eprintln!("SKIPPED: strace may not attach: {:?}", strace.stderr());
        return None;
    }
    Some(strace)
}

#[actix_web::test]
async fn a_flush_that_fails_is_no_success_and_ends_the_process() {
    if !on_files() {
        return;
    }
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let Some(strace) = fail_every_flush(atalaya.id()).await else {
        return;
    };
    let keys: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
    let body = one();
    let tries = keys
        .iter()
        .map(|key| client.post(DEPOSITS, Some(key), &body));
    for answer in join_all(tries).await.into_iter().flatten() {
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    let status = atalaya.wait().await;
    drop(strace);
    assert!(matches!(status.code(), Some(code) if code != 0), "{status}");
    let log = atalaya.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("atalaya: stopped") && last.contains("disk I/O error"),
        "{log}"
    );

    atalaya.start().await;
    for key in &keys {
        assert_eq!(client.deposit("1", "1.00", key).await.status, 201);
    }
    assert_eq!(client.balance("1").await, "108.00", "each key counts once");
    audit(&atalaya.database()).unwrap();
}

/// A small file system of its own; unmounted with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path());
        if !has_tool("mount") {
            return None;
        }
        let ended = run(mount);
        if ended.code == Some(0) {
            return Some(Self(folder));
        }
        eprintln!("SKIPPED: a small disk may not be mounted: {}", ended.stderr);
        None
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Takes all the space that is left, to the last byte.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.filler()).unwrap();
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
    }

    fn make_space(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[actix_web::test]
async fn a_full_disk_refuses_writes_answers_reads_and_recovers() {
    if !on_files() {
        return;
    }
    let Some(disk) = SmallDisk::mount("8m") else {
        return;
    };
    let database = disk.0.path().join("atalaya.db");
    let atalaya = Atalaya::without_mqtt()
        .set("DATABASE_URL", format!("sqlite://{}", database.display()))
        .start()
        .await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    for round in 0..2 {
        disk.fill();
        // What stands in the log's last page may still find room; then there is none.
        let mut taken = 0;
        let refused = loop {
            let key = format!("full-{round}-{taken}");
            let answer = client.post(DEPOSITS, Some(&key), &one()).await.unwrap();
            if answer.status != 201 {
                break answer;
            }
            taken += 1;
            assert!(taken < 1_000, "the disk is not full");
        };
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.header("retry-after"), Some("1"));
        let balance = client.balance("1").await;
        for n in 0..20 {
            let key = format!("more-{round}-{n}");
            let answer = client.post(DEPOSITS, Some(&key), &one()).await.unwrap();
            assert_eq!(answer.status, 503, "{}", answer.text());
        }
        assert_eq!(client.balance("1").await, balance, "reads live");
        let ready = client.get("/readyz").await.unwrap();
        assert_eq!(ready.status, 200, "reads live");

        disk.make_space();
        let again = client
            .deposit("1", "1.00", &format!("full-{round}-{taken}"))
            .await;
        assert_eq!(
            (again.status, again.is_replayed()),
            (201, false),
            "{}",
            again.text()
        );
    }
    audit(&Location::Sqlite(database)).unwrap();
}

/// Waits longer than the busy timeout of five seconds, so it takes some.
#[actix_web::test]
async fn a_lock_that_another_process_holds_is_waited_for_and_survived() {
    if !on_files() {
        return;
    }
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let mut other = open(&atalaya.database());
    diesel::sql_query("BEGIN EXCLUSIVE")
        .execute(&mut other)
        .unwrap();
    let refused = client.deposit("1", "1.00", "k").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(client.balance("1").await, "100.00", "reads live");
    diesel::sql_query("ROLLBACK").execute(&mut other).unwrap();
    let again = client.deposit("1", "1.00", "k").await;
    assert_eq!((again.status, again.is_replayed()), (201, false));
    assert_eq!(client.balance("1").await, "101.00");
}

/// Copies a database as it stands to a new installation that does not run yet.
fn copy_of(atalaya: &Atalaya) -> Atalaya {
    let copy = Atalaya::without_mqtt().prepare();
    std::fs::create_dir_all(copy.folder().join("data")).unwrap();
    for suffix in ["", "-wal"] {
        let file = |atalaya: &Atalaya| {
            let mut name = atalaya.file().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        std::fs::copy(file(atalaya), file(&copy)).unwrap();
    }
    copy
}

fn log_of(atalaya: &Atalaya) -> PathBuf {
    atalaya.folder().join("data/atalaya.db-wal")
}

#[actix_web::test]
async fn a_power_cut_keeps_what_was_acknowledged_before_it() {
    if !on_files() {
        return;
    }
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let mut kept = Vec::new();
    for n in 0..20 {
        kept.push((
            format!("a{n}"),
            client.deposit("1", "1.00", &format!("a{n}")).await,
        ));
    }
    let synced = std::fs::metadata(log_of(&atalaya)).unwrap().len();

    let loading: Vec<_> = (0..8)
        .map(|n| {
            let client = client.clone();
            actix_web::rt::spawn(async move {
                for round in 0..25 {
                    client.deposit("1", "1.00", &format!("b{n}-{round}")).await;
                }
            })
        })
        .collect();
    eventually("the load is under way", || async {
        (client.version("1").await > 60).then_some(())
    })
    .await;
    let acknowledged = client.version("1").await;
    atalaya.signal(Signal::SIGSTOP);
    let mut whole = copy_of(&atalaya);
    let mut torn = copy_of(&atalaya);
    atalaya.signal(Signal::SIGCONT);
    join_all(loading).await;

    whole.start().await;
    assert!(whole.client().version("1").await >= acknowledged);
    check(&whole.client(), &kept).await;
    audit(&whole.database()).unwrap();

    // What the disk had not synced is cut in the middle of a page, with noise behind it.
    let log = std::fs::read(log_of(&torn)).unwrap();
    let synced = usize::try_from(synced).unwrap();
    assert!(
        log.len() > synced,
        "nothing was written after the synced part"
    );
    let mut cut = log[..synced + (log.len() - synced) / 2 + 100].to_vec();
    cut.extend(std::iter::repeat_n(0xA5, 5_000));
    std::fs::write(log_of(&torn), cut).unwrap();
    torn.start().await;
    check(&torn.client(), &kept).await;
    audit(&torn.database()).unwrap();
    assert_eq!(torn.client().deposit("1", "1.00", "new").await.status, 201);
}

/// Every answer in `kept` comes back word for word.
async fn check(client: &Client, kept: &[(String, crate::support::client::Response)]) {
    for (key, first) in kept {
        let again = client.deposit("1", "1.00", key).await;
        assert!(again.is_replayed(), "{key} is gone");
        assert_eq!(again.text(), first.text());
    }
}

// ---- damage ------------------------------------------------------------------------------------

/// A database with some content, whole in its one file.
async fn a_closed_database() -> Atalaya {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for account in ["1", "2", "3"] {
        client.open_with(account, "100.00").await;
    }
    let keys: Vec<String> = (0..300).map(|n| format!("d{n}")).collect();
    join_all(keys.iter().map(|key| client.deposit("1", "1.00", key))).await;
    atalaya.terminate().await;
    diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut open(&atalaya.database()))
        .unwrap();
    atalaya
}

/// Turns all bits of `length` bytes at `offset`.
fn flip(database: &Path, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = std::fs::read(database).unwrap();
    for byte in &mut bytes[offset..offset + length] {
        *byte = !*byte;
    }
    std::fs::write(database, &bytes).unwrap();
    bytes
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

fn number(database: &Location, sql: &str) -> usize {
    let found: Number = diesel::sql_query(sql)
        .get_result(&mut open(database))
        .unwrap();
    usize::try_from(found.number).unwrap()
}

#[actix_web::test]
async fn a_damaged_page_keeps_it_from_starting() {
    if !on_files() {
        return;
    }
    let atalaya = a_closed_database().await;
    let database = atalaya.database();
    let file = atalaya.file();
    let whole = std::fs::read(&file).unwrap();
    let page = number(
        &database,
        "SELECT page_size AS number FROM pragma_page_size",
    );
    let root = |table: &str| {
        number(
            &database,
            &format!("SELECT rootpage AS number FROM sqlite_schema WHERE name = '{table}'"),
        )
    };
    // The root of the journal has outgrown one page, so it is an interior page.
    let journal = (root("journal") - 1) * page;
    assert_eq!(whole[journal], 5, "an interior page of a table");
    let accounts = (root("accounts") - 1) * page;
    for (what, offset, length) in [
        ("the magic of the header", 0, 16),
        ("the type of the schema's page", 100, 1),
        ("the head of an interior page", journal, 12),
        ("the children of an interior page", journal + 12, 8),
        ("the head of the accounts", accounts, 8),
    ] {
        let damaged = flip(&file, offset, length);
        let ended = run(atalaya.command());
        assert!(
            matches!(ended.code, Some(code) if code != 0),
            "{what}: {ended:?}"
        );
        let last = ended.stderr.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("atalaya: ")
                && last.contains("data/atalaya.db")
                && ["damaged", "malformed", "not a database"]
                    .iter()
                    .any(|word| last.contains(word)),
            "{what}: {last}"
        );
        assert!(ended.stdout.is_empty(), "{what}: {ended:?}");
        assert!(
            std::fs::read(&file).unwrap() == damaged,
            "{what}: the file was touched"
        );
        std::fs::write(&file, &whole).unwrap();
    }
}

// ---- the chain ---------------------------------------------------------------------------------

#[actix_web::test]
async fn the_chain_and_the_sums_hold_after_a_mixed_load() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for account in ["1", "2", "3", "4", "5"] {
        client.open_with(account, "50.00").await;
    }
    for half in 0..2 {
        let tasks = (0..120).map(|n: u32| {
            let client = client.clone();
            let key = format!("m{half}-{n}");
            let account = (n % 5 + 1).to_string();
            let other = (n * 7 % 5 + 1).to_string();
            async move {
                match n % 4 {
                    0 => client.deposit(&account, "3.10", &key).await,
                    // Some of these are refused, and refusals are rows too.
                    1 => client.withdraw(&account, "20.05", &key).await,
                    2 => client.transfer(&account, &other, "7.77", &key).await,
                    _ => client.withdraw("404", "1.00", &key).await,
                }
            }
        });
        join_all(tasks).await;
        if half == 0 {
            atalaya.kill();
            atalaya.start().await;
        }
    }
    let rows = audit(&atalaya.database()).unwrap();
    assert!(rows > 200, "{rows}");
    atalaya.terminate().await;
    if !on_files() {
        return;
    }

    let changes = [
        (
            "UPDATE journal SET amount = amount + 1 WHERE seq = 10",
            "row 10 ",
        ),
        ("UPDATE journal SET at = at + 1 WHERE seq = 20", "row 20 "),
        (
            "UPDATE journal SET key_digest = NULL WHERE seq = 8",
            "row 8 ",
        ),
        ("DELETE FROM journal WHERE seq = 50", "row 50 "),
        (
            "DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)",
            "the head",
        ),
        (
            "UPDATE accounts SET balance = balance + 1 WHERE id = 2",
            "account 2",
        ),
    ];
    for (change, named) in changes {
        let copy = copy_of(&atalaya);
        diesel::sql_query(change)
            .execute(&mut open(&copy.database()))
            .unwrap();
        let found = audit(&copy.database()).unwrap_err();
        assert!(found.starts_with(named), "{change}: {found}");
    }
}

// ---- the clock ---------------------------------------------------------------------------------

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// 2026-01-15T14:30:00Z and a day, in microseconds.
const START: i64 = 1_768_487_400_000_000;
const DAY: i64 = 86_400_000_000;

#[actix_web::test]
async fn a_clock_that_jumps_changes_no_order_and_breaks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let database = data.join("atalaya.db");
    let flags = Flags::parse_from([
        "atalaya".to_owned(),
        "--mqtt=off".to_owned(),
        "--http-port=0".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--database-url=sqlite://{}", database.display()),
        format!("--admin-token={}", access::ADMIN_TOKEN),
        "--admin-password=correct horse battery".to_owned(),
    ]);
    let now = Arc::new(AtomicI64::new(START));
    let clock = {
        let now = Arc::clone(&now);
        Clock::from_fn(move || now.load(Ordering::Relaxed))
    };
    let config = Config::try_from(flags.serve).unwrap();
    let application = Application::build(config, clock).await.unwrap();
    let client = Client::new(format!("http://{}", application.http()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = actix_web::rt::spawn(application.run_until(async move {
        let _ = stopped.await;
    }));

    // A token ends when the clock says so, and this clock says anything: each moment has its own.
    let now_known = async |name: &str| {
        let token = access::make_token(&client, name, "banco").await;
        client.with_token(&token)
    };
    now_known("first").await.open("1").await;
    let jumps = [
        START,
        START - 400 * DAY,
        START + 40_000 * DAY,
        0,
        -DAY,
        START,
        START,
    ];
    for (jump, version) in jumps.into_iter().zip(1..) {
        now.store(jump, Ordering::Relaxed);
        let key = format!("k{version}");
        let client = now_known(&key).await;
        let answer = client.deposit("1", "1.00", &key).await;
        assert_eq!(answer.status, 201, "at {jump}: {}", answer.text());
        assert_eq!(answer.json()["version"], version);
        let again = client.deposit("1", "1.00", &key).await;
        assert_eq!(again.text(), answer.text());
        assert_eq!(client.get("/health").await.unwrap().status, 200);
        assert_eq!(client.get("/metrics").await.unwrap().status, 200);
    }
    let client = now_known("last").await;
    let page = client.get("/api/v1/cuentas/1/movimientos").await.unwrap();
    let versions: Vec<i64> = page.json()["datos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|movement| movement["version"].as_i64().unwrap())
        .collect();
    assert_eq!(
        versions,
        [7, 6, 5, 4, 3, 2, 1],
        "newest first, whatever the clock said"
    );
    let ids: std::collections::HashSet<String> = page.json()["datos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|movement| movement["tx_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 7, "each has an id of its own");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    audit(&Location::Sqlite(database)).unwrap();
}

// ---- overload and clients that leave -----------------------------------------------------------

#[cfg(feature = "failpoints")]
mod stalled {
    use super::*;
    use crate::support::client::Response;
    use std::cell::RefCell;
    use std::io::Write;
    use std::net::TcpStream;

    /// More than the writer's queue holds (2,048), below the connections that are allowed (4,096).
    const CROWD: usize = 2_600;

    /// It stalls the ledger for six seconds, so it takes some.
    #[actix_web::test]
    async fn a_stalled_ledger_refuses_beyond_its_queue_and_goes_on() {
        let stall = "writer::before_commit=4*off->1*sleep(6000)->off";
        let atalaya = Atalaya::without_mqtt()
            .set("FAILPOINTS", stall)
            .start()
            .await;
        let client = atalaya.client();
        client.open_with("1", "100.00").await;
        let before = memory(&atalaya).await;
        let started = Instant::now();
        let crowd: Vec<_> = (0..CROWD)
            .map(|n| {
                // A client has 2,000 connections at most: several share the crowd.
                let client = if n % 2 == 0 {
                    client.clone()
                } else {
                    atalaya.client()
                };
                actix_web::rt::spawn(async move {
                    let answer = client.deposit("1", "1.00", &format!("c{n}")).await;
                    (started.elapsed(), answer)
                })
            })
            .collect();
        eventually("the queue is full", || async {
            let queue = atalaya.metric("atalaya_writer_queue_operations").await?;
            (queue >= 2_000.0).then_some(())
        })
        .await;
        let live = client.get("/livez").await.unwrap();
        assert_eq!(live.status, 200);
        assert_eq!(client.balance("1").await, "100.00", "reads live");
        let refused = client.deposit("1", "1.00", "late").await;
        assert!(
            started.elapsed() < Duration::from_secs(6),
            "too slow to see the stall"
        );
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.header("retry-after"), Some("1"));
        let grown = memory(&atalaya).await - before;
        assert!(grown < 256e6, "{grown} bytes for {CROWD} requests");

        let mut done = 0;
        let mut refused: Vec<(usize, Response)> = Vec::new();
        for (n, client) in crowd.into_iter().enumerate() {
            let (took, answer) = client.await.unwrap();
            match answer.status {
                201 => done += 1,
                503 => {
                    assert!(took < Duration::from_secs(6), "refused only after {took:?}");
                    assert_eq!(answer.header("retry-after"), Some("1"));
                    refused.push((n, answer));
                }
                other => panic!("{other}: {}", answer.text()),
            }
        }
        assert!(done >= 2_048, "{done}");
        assert!(!refused.is_empty());
        assert_eq!(client.balance("1").await, format!("{}.00", 100 + done));
        // A refusal at the door decided nothing.
        for (n, _) in refused.iter().take(20) {
            let again = client.deposit("1", "1.00", &format!("c{n}")).await;
            assert_eq!((again.status, again.is_replayed()), (201, false));
        }
        audit(&atalaya.database()).unwrap();
    }

    async fn memory(atalaya: &Atalaya) -> f64 {
        atalaya
            .metric("process_resident_memory_bytes")
            .await
            .unwrap()
    }

    /// Sends a deposit under `key`, but for its last `missing` bytes.
    fn send(port: u16, key: &str, missing: usize) -> TcpStream {
        let body = one().to_string();
        let request = format!(
            "POST {DEPOSITS} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n\
             idempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let request = raw::signed(port, request.into_bytes());
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .write_all(&request[..request.len() - missing])
            .unwrap();
        stream
    }

    /// Closes with a reset, as a client that crashes does.
    fn reset(stream: TcpStream) {
        let socket = socket2::Socket::from(stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    #[actix_web::test]
    async fn a_client_that_leaves_finds_the_outcome_under_its_key() {
        let stall = "writer::before_commit=4*off->1*sleep(3000)->off";
        let atalaya = Atalaya::without_mqtt()
            .set("FAILPOINTS", stall)
            .start()
            .await;
        let client = atalaya.client();
        client.open_with("1", "100.00").await;
        // The first occupies the ledger; those in the queue when their clients leave are eight.
        let half = send(atalaya.http_port, "half", 5);
        let sent = RefCell::new(Vec::new());
        eventually("eight are in the queue", || async {
            let key = format!("q{}", sent.borrow().len());
            let stream = send(atalaya.http_port, &key, 0);
            sent.borrow_mut().push((key, stream));
            let queue = atalaya.metric("atalaya_writer_queue_operations").await?;
            (queue >= 8.0).then_some(())
        })
        .await;
        reset(half);
        let mut keys = Vec::new();
        for (key, stream) in sent.into_inner() {
            reset(stream);
            keys.push(key);
        }
        for key in &keys {
            let again = client.deposit("1", "1.00", key).await;
            assert_eq!((again.status, again.is_replayed()), (201, true), "{key}");
        }
        let again = client.deposit("1", "1.00", "half").await;
        assert_eq!(
            (again.status, again.is_replayed()),
            (201, false),
            "half a request is none"
        );
        assert_eq!(
            client.balance("1").await,
            format!("{}.00", 101 + keys.len())
        );
        audit(&atalaya.database()).unwrap();
    }
}
