//! Connections that hold a place and do nothing with it.
//!
//! The server's own deadline for the head of a request covers the first one of a connection. A
//! client that has had one answer and then sends half a request, or reads no answer, would keep
//! its place for ever; a sweep ends it by its socket.
//!
//! When all places are taken, a few are left for those who watch us: [`SPARE`]. Whoever takes one
//! and says nothing loses it to the next who comes, so that a crowd passes through them and does not
//! keep anybody waiting; whoever asks for anything but our health is told to come again.

use crate::network::{AddressPlace, AddressPlaces};
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often idle connections are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// Places beyond the limit. A request to [`super::is_watch`] is answered within microseconds, so
/// few are enough.
pub(super) const SPARE: usize = 64;

/// Connections that have ended and are not forgotten yet, before they are.
const FORGET: usize = 1_024;

/// One connection, as the handlers of its requests see it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its place among those of its address; given back when it ends.
    _place: Option<AddressPlace>,
    /// Its place among all.
    _open: OpenPlace,
    /// There was no room for it: it has one of the spare places.
    is_spare: bool,
    socket: Arc<socket2::Socket>,
    opened: Instant,
    /// When the last request ended, in milliseconds since `opened`.
    idle_since: AtomicU64,
    under_way: AtomicUsize,
    /// Whether a request has come.
    has_asked: AtomicBool,
    /// A session has a heartbeat of its own, and the hub to end it.
    is_session: AtomicBool,
}

impl Connection {
    /// A request has begun. It ends when what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        self.has_asked.store(true, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// From now on this connection is a session.
    pub(super) fn becomes_session(&self) {
        self.is_session.store(true, Ordering::Relaxed);
    }

    /// Whether it has a spare place alone, where only those who watch us are answered.
    pub(super) fn is_spare(&self) -> bool {
        self.is_spare
    }

    /// Whether it has sent what no worker has looked at yet.
    fn has_unread(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        matches!(self.socket.peek(&mut byte), Ok(1))
    }

    fn end(&self) {
        // It may be closed already; then there is nothing left to end.
        let _ = self.socket.shutdown(Shutdown::Both);
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

/// One connection, until it is dropped.
#[derive(Debug)]
struct OpenPlace(Arc<AtomicUsize>);

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All connections of a server.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    all: Arc<Mutex<Vec<Weak<Connection>>>>,
    places: AddressPlaces,
    open: Arc<AtomicUsize>,
    /// Those in the spare places, the oldest first.
    spare: Arc<Mutex<VecDeque<Weak<Connection>>>>,
    /// Connections at once.
    most: usize,
}

impl Connections {
    /// No connections yet; there may be `most` of them at once, an address `per_address`.
    pub(super) fn new(most: usize, per_address: usize) -> Self {
        Self {
            all: Arc::default(),
            places: AddressPlaces::new(per_address),
            open: Arc::default(),
            spare: Arc::default(),
            most,
        }
    }

    /// Notes a connection that has just been accepted. One too many of its address is ended at
    /// once, before anything is read from it.
    pub(super) fn add(
        &self,
        socket: Arc<socket2::Socket>,
        address: Option<IpAddr>,
    ) -> Arc<Connection> {
        let place = address.map_or(Ok(None), |address| self.places.take(address));
        let is_too_many = place.is_err();
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let connection = Arc::new(Connection {
            _place: place.ok().flatten(),
            _open: OpenPlace(Arc::clone(&self.open)),
            is_spare: open > self.most,
            socket,
            opened: Instant::now(),
            idle_since: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            has_asked: AtomicBool::new(false),
            is_session: AtomicBool::new(false),
        });
        if is_too_many {
            connection.end();
        } else if connection.is_spare {
            self.crowd_out(&connection);
        }
        let mut all = self.lock();
        if all.len() > 2 * open + FORGET {
            all.retain(|connection| connection.strong_count() > 0);
        }
        all.push(Arc::downgrade(&connection));
        drop(all);
        connection
    }

    /// Gives `newest` a spare place. Where there is none left, somebody loses theirs: of those who
    /// ask nothing whoever has had it the longest.
    fn crowd_out(&self, newest: &Arc<Connection>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push_back(Arc::downgrade(newest));
        if spare.len() <= SPARE {
            return;
        }
        for _ in 0..SPARE {
            let Some(oldest) = spare.pop_front().and_then(|oldest| oldest.upgrade()) else {
                return;
            };
            if oldest.has_asked.load(Ordering::Relaxed) {
                // It is closed behind its answer, which must not be lost on the way.
                return;
            }
            if !oldest.has_unread() {
                return oldest.end();
            }
            spare.push_back(Arc::downgrade(&oldest));
        }
        if let Some(first) = spare.pop_front().and_then(|first| first.upgrade()) {
            first.end();
        }
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
                    connection.end();
                }
                true
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Connection>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
