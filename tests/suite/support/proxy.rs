//! A way to a database server that can be cut in the middle of a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// When the server has answered a commit, whose client does not get to hear it.
    AfterCommit,
    /// When a commit comes, which the server does not get to see.
    BeforeCommit,
    /// The same, and the server does not get to see either that its client is gone, as behind a
    /// network that has failed.
    Unnoticed,
}

/// A running proxy. It ends with the test.
pub struct Proxy {
    pub port: u16,
    armed: Arc<AtomicU8>,
    is_shut: Arc<AtomicBool>,
    is_muffled: Arc<AtomicBool>,
}

const QUIET: u8 = 0;
const AFTER: u8 = 1;
const BEFORE: u8 = 2;
const UNNOTICED: u8 = 3;

impl Proxy {
    /// A proxy in front of the server on `server`.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(AtomicU8::new(QUIET));
        let [is_shut, is_muffled] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (shut, muffled, shared) = (is_shut.clone(), is_muffled.clone(), armed.clone());
        actix_web::rt::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shut.load(Ordering::SeqCst) {
                    continue;
                }
                if let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await {
                    let (shared, muffled) = (shared.clone(), muffled.clone());
                    actix_web::rt::spawn(async move {
                        carry(client, &mut server, shared).await;
                        if muffled.load(Ordering::SeqCst) {
                            wait_for_end(&mut server).await;
                        }
                    });
                }
            }
        });
        Self {
            port,
            armed,
            is_shut,
            is_muffled,
        }
    }

    /// Whether it lets nobody new through.
    pub fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::SeqCst);
    }

    /// From now on the server does not get to know when a client is gone, as when the client's
    /// machine has lost its power.
    pub fn muffle(&self) {
        self.is_muffled.store(true, Ordering::SeqCst);
    }

    pub fn cut_at_next_commit(&self, cut: Cut) {
        let armed = match cut {
            Cut::AfterCommit => AFTER,
            Cut::BeforeCommit => BEFORE,
            Cut::Unnoticed => UNNOTICED,
        };
        self.armed.store(armed, Ordering::SeqCst);
    }

    /// Whether what was asked for has happened.
    pub fn has_cut(&self) -> bool {
        self.armed.load(Ordering::SeqCst) == QUIET
    }
}

/// Until the server ends it.
async fn wait_for_end(server: &mut TcpStream) {
    let mut rest = [0; 4_096];
    while matches!(server.read(&mut rest).await, Ok(1..)) {}
}

/// Carries bytes both ways until one side ends or the way is cut.
async fn carry(mut client: TcpStream, server: &mut TcpStream, armed: Arc<AtomicU8>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(1..) = read else { return };
                let bytes = &up[..read.unwrap_or(0)];
                let is_commit = bytes.windows(7).any(|window| window == b"\x03COMMIT");
                let cut = if is_commit { armed.swap(QUIET, Ordering::SeqCst) } else { QUIET };
                if cut == UNNOTICED {
                    drop(client);
                    return wait_for_end(server).await;
                }
                if cut == BEFORE || server.write_all(bytes).await.is_err() {
                    return;
                }
                if cut == AFTER {
                    // Its answer is read here and goes no further.
                    let _ = server.read(&mut down).await;
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(1..) = read else { return };
                if client.write_all(&down[..read.unwrap_or(0)]).await.is_err() {
                    return;
                }
            }
        }
    }
}
