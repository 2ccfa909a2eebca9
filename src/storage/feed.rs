//! What has been committed, for whoever follows: publisher, sessions, metrics.
//!
//! A follower keeps its own position and asks for what comes after it. News is a watch, so any
//! number of commits are one wake-up and a slow follower costs no memory: the recent entries stand
//! in a bounded ring shared by all, older ones are read from the journal.

use super::{Connection, ReadPool, StorageError, queries};
use crate::domain::{Entry, Money, Position};
use crate::wire::events::{self, Event};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::{Semaphore, watch};

/// Entries in the ring: some seconds of full load, about 4 MiB.
const RING: usize = 8_192;

/// Reads of followers at once: half of the pool.
const READS: usize = 2;

/// How far the journal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The last committed sequence.
    pub seq: i64,
    /// Postings since the database was created.
    pub postings: i64,
}

/// A committed entry with its events, which are computed once, when first needed.
#[derive(Debug)]
pub struct Notice {
    /// The entry.
    pub entry: Arc<Entry>,
    threshold: Money,
    events: OnceLock<Vec<Arc<Event>>>,
}

impl Notice {
    fn new(entry: Arc<Entry>, threshold: Money) -> Self {
        Self {
            entry,
            threshold,
            events: OnceLock::new(),
        }
    }

    /// What is published for it, in order.
    pub fn events(&self) -> &[Arc<Event>] {
        self.events.get_or_init(|| {
            events::events_of(&self.entry, self.threshold)
                .into_iter()
                .map(Arc::new)
                .collect()
        })
    }
}

/// The feed of one lane; clones share it.
#[derive(Debug, Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ring: Mutex<VecDeque<Arc<Notice>>>,
    head: watch::Sender<Head>,
    lane: i32,
    readers: ReadPool,
    reads: Arc<Semaphore>,
    threshold: Money,
}

impl Feed {
    fn new(lane: i32, reads: Arc<Semaphore>, readers: ReadPool, threshold: Money) -> Self {
        let shared = Shared {
            ring: Mutex::new(VecDeque::with_capacity(RING)),
            head: watch::Sender::new(Head::default()),
            lane,
            readers,
            reads,
            threshold,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Which lane it is of.
    #[must_use]
    pub fn lane(&self) -> i32 {
        self.shared.lane
    }

    /// Tells everybody of one group. For the writer alone, after its commit.
    pub(super) fn publish(&self, entries: Vec<Arc<Entry>>, head: Head) {
        let threshold = self.shared.threshold;
        {
            let mut ring = self
                .shared
                .ring
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let excess = (ring.len() + entries.len())
                .saturating_sub(RING)
                .min(ring.len());
            ring.drain(..excess);
            ring.extend(
                entries
                    .into_iter()
                    .map(|e| Arc::new(Notice::new(e, threshold))),
            );
        }
        self.shared.head.send_replace(head);
    }

    /// Starts over at `head`, with what is before it in the journal alone. For the writer, when it
    /// had to look again at what was committed.
    pub(super) fn restart(&self, head: Head) {
        self.shared
            .ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.shared.head.send_replace(head);
    }

    /// How far the journal goes now.
    #[must_use]
    pub fn head(&self) -> Head {
        *self.shared.head.borrow()
    }

    /// News: resolves whenever the head has moved.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<Head> {
        self.shared.head.subscribe()
    }

    /// Reads for a follower that needs more than what is recent. Followers take turns, so that
    /// however many sessions catch up, whoever asks for a balance finds a connection.
    ///
    /// # Errors
    /// Whatever `work` or the pool answers.
    pub async fn read<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
    {
        let _turn = self
            .shared
            .reads
            .acquire()
            .await
            .map_err(|_| StorageError::Cancelled)?;
        super::read(&self.shared.readers, work).await
    }

    /// At most `limit` entries after `seq`, in order, from the ring or else from the journal.
    ///
    /// # Errors
    /// [`StorageError`] where the journal has to be read and cannot be.
    pub async fn read_after(
        &self,
        seq: i64,
        limit: usize,
    ) -> Result<Vec<Arc<Notice>>, StorageError> {
        if let Some(recent) = self.recent_after(seq, limit) {
            return Ok(recent);
        }
        let (threshold, lane) = (self.shared.threshold, self.shared.lane);
        let entries = self
            .read(move |c| queries::entries_after(c, Position { lane, seq }, limit))
            .await?;
        Ok(entries
            .into_iter()
            .map(|e| Arc::new(Notice::new(Arc::new(e), threshold)))
            .collect())
    }

    /// The same from the ring alone; `None` where the ring does not reach back that far.
    #[must_use]
    pub fn recent_after(&self, seq: i64, limit: usize) -> Option<Vec<Arc<Notice>>> {
        if seq >= self.head().seq {
            return Some(Vec::new());
        }
        let ring = self
            .shared
            .ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let first = ring.front()?.entry.position.seq;
        // Sequences are gapless, so an entry's place in the ring follows from its sequence.
        let skip = usize::try_from(seq + 1 - first).ok()?;
        Some(ring.iter().skip(skip).take(limit).cloned().collect())
    }
}

/// The feeds of all lanes, in their order. There is at least one.
#[derive(Debug, Clone)]
pub struct Feeds(Arc<[Feed]>);

impl Feeds {
    /// Feeds of as many lanes, each at its beginning until its writer has looked.
    #[must_use]
    pub fn new(lanes: usize, readers: &ReadPool, low_balance_threshold: Money) -> Self {
        // Followers take turns however many lanes there are.
        let reads = Arc::new(Semaphore::new(READS));
        let feed = |lane| {
            let reads = Arc::clone(&reads);
            Feed::new(lane, reads, readers.clone(), low_balance_threshold)
        };
        let lanes = i32::try_from(lanes.max(1)).unwrap_or(i32::MAX);
        Self((0..lanes).map(feed).collect())
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Feed> {
        self.into_iter()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The feed of a lane, if there is such a lane.
    #[must_use]
    pub fn lane(&self, lane: usize) -> Option<&Feed> {
        self.0.get(lane)
    }

    /// Entries and postings in all lanes.
    #[must_use]
    pub fn head(&self) -> Head {
        let heads = self.iter().map(Feed::head);
        heads.fold(Head::default(), |sum, head| Head {
            seq: sum.seq + head.seq,
            postings: sum.postings + head.postings,
        })
    }
}

impl<'a> IntoIterator for &'a Feeds {
    type Item = &'a Feed;
    type IntoIter = std::slice::Iter<'a, Feed>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
