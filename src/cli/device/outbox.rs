//! What a device has signed and not yet heard of. Pure: the caller tells the time.
//!
//! A broker may lose what it has acknowledged, so the only proof is the reply. Until it comes the
//! same bytes are sent again, ever more slowly. Atalaya remembers 64 numbers back, so no message
//! goes out that is further than that ahead of the oldest one without a reply: it would make the
//! oldest one too old to be taken.

use super::jws::{Fingerprint, Message};
use super::reply::Reply;
use crate::domain::device::SEQUENCE_WINDOW;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// The first wait for a reply.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest: a server that comes back should not wait long for what it missed.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Messages that wait in a device; one that is filled beyond drops what is new, as a small
/// controller must.
pub(super) const CAPACITY: usize = 4_096;

/// A message that has no reply yet.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// The message.
    pub(super) message: Message,
    /// How often it was sent.
    pub(super) sends: u32,
    /// When it was first sent.
    pub(super) first_sent: Option<Instant>,
    /// When it is to be sent again.
    due: Instant,
    /// How long to wait after that.
    wait: Duration,
}

/// What a reply is to this device.
#[derive(Debug)]
pub(super) enum Heard {
    /// The answer to this message, which is done with.
    Settled(Box<Pending>),
    /// Too many at once: this message comes again later.
    Later,
    /// The answer to nothing that is waiting.
    Stranger,
}

/// The messages without a reply, oldest first.
#[derive(Debug)]
pub(super) struct Outbox {
    pending: BTreeMap<u64, Pending>,
    numbers: HashMap<Fingerprint, u64>,
    window: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new(SEQUENCE_WINDOW as u64)
    }
}

impl Outbox {
    /// An outbox in which at most `window` successive numbers are on their way.
    pub(super) fn new(window: u64) -> Self {
        Self {
            pending: BTreeMap::new(),
            numbers: HashMap::new(),
            window: window.clamp(1, SEQUENCE_WINDOW as u64),
        }
    }

    /// Whether one more has room.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < CAPACITY
    }

    /// How many have no reply.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether every message has its reply.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Adds a message to be sent at once.
    pub(super) fn add(&mut self, message: Message, now: Instant) {
        self.numbers.insert(message.fingerprint, message.seq);
        self.pending.insert(
            message.seq,
            Pending {
                message,
                sends: 0,
                first_sent: None,
                due: now,
                wait: FIRST_WAIT,
            },
        );
    }

    /// The messages that may be on their way.
    fn window(&self) -> impl Iterator<Item = &Pending> {
        let end = self
            .pending
            .first_key_value()
            .map_or(0, |(oldest, _)| oldest.saturating_add(self.window));
        self.pending.range(..end).map(|(_, pending)| pending)
    }

    /// When the next message is to be sent.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.window().map(|pending| pending.due).min()
    }

    /// A message that is to be sent now.
    pub(super) fn due(&self, now: Instant) -> Option<&Message> {
        self.window()
            .find(|pending| pending.due <= now)
            .map(|pending| &pending.message)
    }

    /// The message `seq` has gone out.
    pub(super) fn sent(&mut self, seq: u64, now: Instant) {
        if let Some(pending) = self.pending.get_mut(&seq) {
            pending.sends = pending.sends.saturating_add(1);
            pending.first_sent.get_or_insert(now);
            pending.due = now + pending.wait;
            pending.wait = (pending.wait * 2).min(LONGEST_WAIT);
        }
    }

    /// A new connection: whatever was on its way may be lost, and is sent again at once.
    pub(super) fn reconnected(&mut self, now: Instant) {
        for pending in self.pending.values_mut().filter(|p| p.sends > 0) {
            pending.due = now;
            pending.wait = FIRST_WAIT;
        }
    }

    /// Takes a reply in.
    pub(super) fn hear(&mut self, reply: &Reply, now: Instant) -> Heard {
        let Some((fingerprint, seq)) = reply
            .fingerprint()
            .and_then(|fingerprint| Some((fingerprint, *self.numbers.get(&fingerprint)?)))
        else {
            return Heard::Stranger;
        };
        if reply.is_throttled() {
            if let Some(pending) = self.pending.get_mut(&seq) {
                pending.due = now + pending.wait;
            }
            return Heard::Later;
        }
        self.numbers.remove(&fingerprint);
        match self.pending.remove(&seq) {
            Some(pending) => Heard::Settled(Box::new(pending)),
            None => Heard::Stranger,
        }
    }

    /// What has no reply at the end.
    pub(super) fn into_pending(self) -> impl Iterator<Item = Pending> {
        self.pending.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::device::reply::Verdict;
    use bytes::Bytes;

    fn message(seq: u64) -> Message {
        let bytes = Bytes::from(format!("message {seq}"));
        Message {
            seq,
            kind: "ROJO".to_owned(),
            kid: "k".to_owned(),
            fingerprint: Fingerprint::of(&bytes),
            bytes,
        }
    }

    fn reply(seq: u64, estado: Verdict, motivo: Option<&str>) -> Reply {
        Reply {
            alerta_id: None,
            estado,
            motivo: motivo.map(str::to_owned),
            seq: Some(seq),
            huella: message(seq).fingerprint.to_string(),
            timestamp: None,
        }
    }

    fn send_all(outbox: &mut Outbox, now: Instant) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(seq) = outbox.due(now).map(|message| message.seq) {
            outbox.sent(seq, now);
            sent.push(seq);
        }
        sent
    }

    #[test]
    fn the_same_message_goes_out_until_it_is_answered() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outbox = Outbox::default();
        outbox.add(message(1), start);
        let mut sends = Vec::new();
        for second in 0..=120 {
            sends.extend(send_all(&mut outbox, at(second)).iter().map(|_| second));
        }
        assert_eq!(sends, [0, 1, 3, 7, 15, 31, 61, 91]);
        let heard = outbox.hear(&reply(1, Verdict::Accepted, None), at(121));
        assert!(matches!(heard, Heard::Settled(pending) if pending.sends == 8));
        assert!(outbox.is_empty() && outbox.next_due().is_none());
    }

    #[test]
    fn answers_to_others_settle_nothing() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        outbox.add(message(1), now);
        let stranger = reply(2, Verdict::Accepted, None);
        assert!(matches!(outbox.hear(&stranger, now), Heard::Stranger));
        let garbage = Reply {
            huella: "1".to_owned(),
            ..reply(1, Verdict::Accepted, None)
        };
        assert!(matches!(outbox.hear(&garbage, now), Heard::Stranger));
        let right = reply(1, Verdict::Rejected, Some("TIPO"));
        assert!(matches!(outbox.hear(&right, now), Heard::Settled(_)));
        assert!(matches!(outbox.hear(&right, now), Heard::Stranger), "once");
    }

    #[test]
    fn none_runs_so_far_ahead_that_the_oldest_gets_too_old() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        (10..200).for_each(|seq| outbox.add(message(seq), now));
        assert_eq!(send_all(&mut outbox, now), (10..74).collect::<Vec<_>>());
        // Later ones are answered, the oldest is not: nothing moves.
        (11..74).for_each(|seq| {
            outbox.hear(&reply(seq, Verdict::Accepted, None), now);
        });
        assert!(send_all(&mut outbox, now).is_empty());
        outbox.hear(&reply(10, Verdict::Accepted, None), now);
        assert_eq!(send_all(&mut outbox, now), (74..138).collect::<Vec<_>>());
    }

    #[test]
    fn a_throttled_message_comes_again_and_so_does_one_after_a_reconnection() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        outbox.add(message(1), now);
        assert_eq!(send_all(&mut outbox, now), [1]);
        let throttled = reply(1, Verdict::Rejected, Some("LIMITE"));
        assert!(matches!(outbox.hear(&throttled, now), Heard::Later));
        assert!(send_all(&mut outbox, now).is_empty());
        assert_eq!(outbox.next_due(), Some(now + Duration::from_secs(2)));
        outbox.reconnected(now);
        assert_eq!(send_all(&mut outbox, now), [1]);
    }
}
