//! What tests are written in.

pub mod access;
pub mod atalaya;
pub mod audit;
pub mod certificates;
pub mod checks;
pub mod client;
pub mod device;
pub mod field;
pub mod front_end;
pub mod guest;
pub mod hub;
pub mod logins;
pub mod mariadb;
pub mod mosquitto;
pub mod patient;
#[cfg(feature = "mysql")]
pub mod proxy;
pub mod raw;
pub mod records;
pub mod run;
pub mod schema;
pub mod stage;
pub mod subscriber;
pub mod terminal;
pub mod watched;
pub mod web_socket;

pub use atalaya::Atalaya;
pub use audit::audit;
pub use client::Client;
pub use mosquitto::Mosquitto;
pub use patient::PatientDevice;
pub use records::Records;
pub use run::{has_tool, run};
pub use subscriber::{Message, Subscriber};
pub use terminal::Terminal;
pub use watched::Watched;
pub use web_socket::WebSocket;

use std::future::Future;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

/// How long a condition may take to come true before the test fails. Generous, since machines are
/// slow and shared; nothing waits for it when all is well.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Ports below those that the system gives to whoever connects, which would take them in between;
/// and above those that browsers refuse.
const PORTS: std::ops::Range<u16> = 11_000..32_000;

/// A port that nobody listens on and no other test is given. Restarts need the same port again, so 0
/// will not do there.
pub fn free_port() -> u16 {
    let from = PORTS.start + rand_below(PORTS.end - PORTS.start);
    (from..PORTS.end)
        .chain(PORTS.start..from)
        .find(|port| claim(*port) && TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port")
}

/// Claims a port among all tests, which are processes of their own, until this one has ended: there
/// is one abstract socket of a name.
fn claim(port: u16) -> bool {
    let name = format!("atalaya-test-port-{port}");
    let claim = SocketAddr::from_abstract_name(name).and_then(|at| UnixListener::bind_addr(&at));
    claim.map(std::mem::forget).is_ok()
}

fn rand_below(end: u16) -> u16 {
    u16::try_from(uuid::Uuid::new_v4().as_u128() % u128::from(end)).unwrap()
}

/// Waits until `look` finds something; fails the test at the deadline, saying what was awaited.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "{what}: not within {DEADLINE:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
