//! Connections that hold a place and do nothing with it.
//!
//! The server's own deadline for the head of a request covers the first one of a connection. A
//! client that has had one answer and then sends half a request, or reads no answer, would keep
//! its place for ever; a sweep ends it by its socket.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often idle connections are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// One connection, as the handlers of its requests see it.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Arc<socket2::Socket>,
    opened: Instant,
    /// When the last request ended, in milliseconds since `opened`.
    idle_since: AtomicU64,
    under_way: AtomicUsize,
    /// A session has a heartbeat of its own, and the hub to end it.
    is_session: AtomicBool,
}

impl Connection {
    /// A request has begun. It ends when what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// From now on this connection is a session.
    pub(super) fn becomes_session(&self) {
        self.is_session.store(true, Ordering::Relaxed);
    }

    fn is_idle_for(&self, limit: Duration) -> bool {
        let since = Duration::from_millis(self.idle_since.load(Ordering::Relaxed));
        self.under_way.load(Ordering::Relaxed) == 0
            && !self.is_session.load(Ordering::Relaxed)
            && self.opened.elapsed().saturating_sub(since) > limit
    }
}

/// A request under way.
pub(super) struct UnderWay(Arc<Connection>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.idle_since.store(now, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All connections of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Vec<Weak<Connection>>>>);

impl Connections {
    /// Notes a connection that has just been accepted.
    pub(super) fn add(&self, socket: Arc<socket2::Socket>) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            socket,
            opened: Instant::now(),
            idle_since: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            is_session: AtomicBool::new(false),
        });
        self.lock().push(Arc::downgrade(&connection));
        connection
    }

    /// Ends connections without a request for longer than `limit`, for as long as it is polled.
    pub(super) async fn sweep(self, limit: Duration) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            self.lock().retain(|connection| {
                let Some(connection) = connection.upgrade() else {
                    return false;
                };
                if connection.is_idle_for(limit) {
                    // It may be closed already; then there is nothing left to end.
                    let _ = connection.socket.shutdown(Shutdown::Both);
                }
                true
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
