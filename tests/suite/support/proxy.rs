//! A way to a database server that can be cut in the middle of a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// When the server has answered a commit, whose client does not get to hear it.
    AfterCommit,
    /// When a commit comes, which the server does not get to see.
    BeforeCommit,
}

/// A running proxy. It ends with the test.
pub struct Proxy {
    pub port: u16,
    armed: Arc<AtomicU8>,
}

const QUIET: u8 = 0;
const AFTER: u8 = 1;
const BEFORE: u8 = 2;

impl Proxy {
    /// A proxy in front of the server on `server`.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(AtomicU8::new(QUIET));
        let shared = Arc::clone(&armed);
        actix_web::rt::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                    actix_web::rt::spawn(carry(client, server, Arc::clone(&shared)));
                }
            }
        });
        Self { port, armed }
    }

    pub fn cut_at_next_commit(&self, cut: Cut) {
        let armed = match cut {
            Cut::AfterCommit => AFTER,
            Cut::BeforeCommit => BEFORE,
        };
        self.armed.store(armed, Ordering::SeqCst);
    }

    /// Whether what was asked for has happened.
    pub fn has_cut(&self) -> bool {
        self.armed.load(Ordering::SeqCst) == QUIET
    }
}

/// Carries bytes both ways until one side ends or the way is cut.
async fn carry(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicU8>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(1..) = read else { return };
                let bytes = &up[..read.unwrap_or(0)];
                let is_commit = bytes.windows(7).any(|window| window == b"\x03COMMIT");
                let cut = if is_commit { armed.swap(QUIET, Ordering::SeqCst) } else { QUIET };
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
