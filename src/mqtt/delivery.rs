//! The bookkeeping of delivery: what is out, what is acknowledged, what keeps failing. Pure.

use crate::wire::events::Event;
use std::collections::VecDeque;
use std::sync::Arc;

/// Disconnects and refusals without progress before messages go out one at a time.
const TRIES_TOGETHER: u32 = 3;

/// Failures of one message alone before it is quarantined.
const TRIES_ALONE: u32 = 3;

/// An entry of the journal on its way: its messages, and how many are not acknowledged yet.
#[derive(Debug)]
struct Outgoing {
    seq: i64,
    events: Vec<Arc<Event>>,
    sent: usize,
    acknowledged: Vec<bool>,
}

impl Outgoing {
    fn is_done(&self) -> bool {
        self.acknowledged.iter().all(|done| *done)
    }
}

/// Names a message of an entry: its sequence and its place among the entry's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId {
    /// The entry.
    pub seq: i64,
    /// The place.
    pub index: usize,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// Which message.
    pub id: MessageId,
    /// The message itself.
    pub event: Arc<Event>,
    /// What the broker said last.
    pub reason: String,
}

/// What is under way between the journal and the broker.
#[derive(Debug)]
pub struct Delivery {
    /// All entries up to here are acknowledged: the cursor.
    acknowledged_to: i64,
    /// The last entry that was loaded.
    loaded_to: i64,
    /// Loaded entries that are not done, in order and without gaps.
    pending: VecDeque<Outgoing>,
    /// Entries of `pending` before this one are sent entirely.
    next: usize,
    in_flight: usize,
    failures: u32,
    alone: bool,
    /// The message that failed last, alone.
    suspect: Option<MessageId>,
    /// Messages behind the cursor that were given up.
    given_up: Vec<MessageId>,
}

impl Delivery {
    /// Delivery that goes on behind `position`.
    #[must_use]
    pub const fn new(position: i64) -> Self {
        Self {
            acknowledged_to: position,
            loaded_to: position,
            pending: VecDeque::new(),
            next: 0,
            in_flight: 0,
            failures: 0,
            alone: false,
            suspect: None,
            given_up: Vec::new(),
        }
    }

    /// All entries up to here are acknowledged.
    #[must_use]
    pub const fn acknowledged_to(&self) -> i64 {
        self.acknowledged_to
    }

    /// The last entry that was loaded.
    #[must_use]
    pub const fn loaded_to(&self) -> i64 {
        self.loaded_to
    }

    /// The last entry that is sent entirely: what the broker holds once it has caught up.
    #[must_use]
    pub fn sent_to(&self) -> i64 {
        match self.pending.get(self.next) {
            Some(outgoing) => outgoing.seq - 1,
            None => self.loaded_to,
        }
    }

    /// Loaded entries that are not done.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Sent and not answered.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether messages go out one at a time, since together they got nowhere.
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.alone
    }

    /// Takes the next entry of the journal.
    pub fn load(&mut self, seq: i64, events: Vec<Arc<Event>>) {
        debug_assert_eq!(seq, self.loaded_to + 1, "the journal has no gaps");
        let acknowledged = vec![false; events.len()];
        self.loaded_to = seq;
        self.pending.push_back(Outgoing {
            seq,
            events,
            sent: 0,
            acknowledged,
        });
        self.settle();
    }

    /// The next message to send, if one may be sent now.
    pub fn send_next(&mut self) -> Option<(MessageId, Arc<Event>)> {
        if self.alone && self.in_flight > 0 {
            return None;
        }
        while let Some(outgoing) = self.pending.get_mut(self.next) {
            while let Some(event) = outgoing.events.get(outgoing.sent) {
                let index = outgoing.sent;
                outgoing.sent += 1;
                if outgoing.acknowledged.get(index) == Some(&true) {
                    continue;
                }
                self.in_flight += 1;
                return Some((
                    MessageId {
                        seq: outgoing.seq,
                        index,
                    },
                    Arc::clone(event),
                ));
            }
            self.next += 1;
        }
        None
    }

    /// The broker has taken a message. Returns whether the cursor has moved.
    pub fn acknowledge(&mut self, id: MessageId) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.mark(id);
        let before = self.acknowledged_to;
        self.settle();
        let moved = self.acknowledged_to > before;
        // Only the cursor counts as progress: messages around a bad one get through too.
        if moved {
            self.failures = 0;
            self.alone = false;
            self.suspect = None;
        }
        moved
    }

    /// A connection ended, or a message was refused, for `reason`. What was out goes out again.
    /// Returns a message that has failed alone too often: it is passed over from now on.
    pub fn fail(&mut self, failed: Option<MessageId>, reason: &str) -> Option<Poison> {
        let culprit = failed.or_else(|| self.only_one_out());
        let had_sent = self.in_flight > 0 || failed.is_some();
        self.rewind();
        if !had_sent {
            return None;
        }
        self.failures += 1;
        if !self.alone {
            if self.failures >= TRIES_TOGETHER {
                self.alone = true;
                self.failures = 0;
            }
            return None;
        }
        if culprit != self.suspect {
            self.suspect = culprit;
            self.failures = 1;
        }
        if self.failures < TRIES_ALONE {
            return None;
        }
        let id = culprit?;
        self.suspect = None;
        let event = self.event(id)?;
        self.failures = 0;
        self.alone = false;
        self.given_up.push(id);
        self.mark(id);
        self.settle();
        Some(Poison {
            id,
            event,
            reason: reason.to_owned(),
        })
    }

    /// A connection ended for a reason that says nothing about the messages. All that stands behind
    /// the cursor goes out again, even what was acknowledged: a broker that went down may have
    /// lost what it had acknowledged last, and its retained balances are repaired only up to the
    /// cursor.
    pub fn rewind(&mut self) {
        self.in_flight = 0;
        self.next = 0;
        for outgoing in &mut self.pending {
            outgoing.sent = 0;
            let seq = outgoing.seq;
            for (index, done) in outgoing.acknowledged.iter_mut().enumerate() {
                *done = self.given_up.contains(&MessageId { seq, index });
            }
        }
    }

    /// In the mode of one at a time, the message that is out.
    fn only_one_out(&self) -> Option<MessageId> {
        if !self.alone || self.in_flight == 0 {
            return None;
        }
        self.pending
            .iter()
            .take(self.next + 1)
            .find_map(|outgoing| {
                let index = (0..outgoing.sent)
                    .find(|index| outgoing.acknowledged.get(*index) == Some(&false))?;
                Some(MessageId {
                    seq: outgoing.seq,
                    index,
                })
            })
    }

    fn at(&mut self, seq: i64) -> Option<&mut Outgoing> {
        let first = self.pending.front()?.seq;
        self.pending.get_mut(usize::try_from(seq - first).ok()?)
    }

    fn event(&mut self, id: MessageId) -> Option<Arc<Event>> {
        self.at(id.seq)?.events.get(id.index).cloned()
    }

    fn mark(&mut self, id: MessageId) {
        if let Some(done) = self
            .at(id.seq)
            .and_then(|outgoing| outgoing.acknowledged.get_mut(id.index))
        {
            *done = true;
        }
    }

    /// Moves the cursor over what is done, contiguously.
    fn settle(&mut self) {
        while let Some(outgoing) = self.pending.front().filter(|outgoing| outgoing.is_done()) {
            self.acknowledged_to = outgoing.seq;
            self.pending.pop_front();
            self.next = self.next.saturating_sub(1);
        }
        let cursor = self.acknowledged_to;
        self.given_up.retain(|id| id.seq > cursor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::events::Qos;
    use proptest::prelude::*;

    fn events(count: usize) -> Vec<Arc<Event>> {
        (0..count)
            .map(|n| Arc::new(Event::new(format!("t/{n}"), &n, Qos::AtLeastOnce, false)))
            .collect()
    }

    fn delivery(counts: &[usize]) -> Delivery {
        let mut delivery = Delivery::new(0);
        for (seq, count) in (1..).zip(counts) {
            delivery.load(seq, events(*count));
        }
        delivery
    }

    fn id(seq: i64, index: usize) -> MessageId {
        MessageId { seq, index }
    }

    fn send_all(delivery: &mut Delivery) -> Vec<MessageId> {
        std::iter::from_fn(|| delivery.send_next().map(|(id, _)| id)).collect()
    }

    #[test]
    fn the_cursor_moves_contiguously() {
        let mut delivery = delivery(&[2, 1, 0, 1]);
        assert_eq!(
            send_all(&mut delivery),
            [id(1, 0), id(1, 1), id(2, 0), id(4, 0)]
        );
        assert_eq!(delivery.sent_to(), 4);
        assert!(!delivery.acknowledge(id(2, 0)));
        assert!(!delivery.acknowledge(id(1, 1)));
        assert!(delivery.acknowledge(id(1, 0)));
        // Entry 3 has no message, so it is passed over with its neighbours.
        assert_eq!(delivery.acknowledged_to(), 3);
        assert!(delivery.acknowledge(id(4, 0)));
        assert_eq!((delivery.acknowledged_to(), delivery.pending()), (4, 0));
    }

    #[test]
    fn entries_without_messages_need_no_broker() {
        assert_eq!(delivery(&[0, 0]).acknowledged_to(), 2);
    }

    #[test]
    fn all_behind_the_cursor_goes_out_again() {
        let mut delivery = delivery(&[2, 1]);
        send_all(&mut delivery);
        delivery.acknowledge(id(1, 1));
        delivery.acknowledge(id(2, 0));
        assert_eq!(delivery.fail(None, "gone"), None);
        // Also what the broker had acknowledged behind the cursor: it may have lost it since.
        assert_eq!(send_all(&mut delivery), [id(1, 0), id(1, 1), id(2, 0)]);
    }

    #[test]
    fn a_message_that_fails_alone_is_given_up_and_the_rest_flows() {
        let mut delivery = delivery(&[1, 2, 1]);
        for _ in 0..TRIES_TOGETHER {
            send_all(&mut delivery);
            assert_eq!(delivery.fail(None, "gone"), None);
        }
        assert!(delivery.is_alone());
        assert_eq!(send_all(&mut delivery), [id(1, 0)]);
        assert!(delivery.acknowledge(id(1, 0)));
        // The good one got through, so all go together again, and the bad one fails them again.
        let mut poison = None;
        for _ in 0..TRIES_TOGETHER + TRIES_ALONE {
            assert_eq!(poison, None);
            send_all(&mut delivery);
            poison = delivery.fail(delivery.is_alone().then_some(id(2, 0)), "too large");
        }
        let poison = poison.unwrap();
        assert_eq!((poison.id, poison.reason.as_str()), (id(2, 0), "too large"));
        assert!(!delivery.is_alone());
        assert_eq!(send_all(&mut delivery), [id(2, 1), id(3, 0)]);
        delivery.acknowledge(id(2, 1));
        delivery.acknowledge(id(3, 0));
        assert_eq!(delivery.acknowledged_to(), 3);
    }

    #[test]
    fn a_disconnect_with_one_message_out_is_about_that_message() {
        let mut delivery = delivery(&[2]);
        for _ in 0..TRIES_TOGETHER {
            send_all(&mut delivery);
            delivery.fail(None, "gone");
        }
        let mut poison = None;
        for _ in 0..TRIES_ALONE {
            assert_eq!(send_all(&mut delivery), [id(1, 0)]);
            poison = delivery.fail(None, "gone");
        }
        assert_eq!(poison.map(|poison| poison.id), Some(id(1, 0)));
    }

    #[test]
    fn the_second_message_of_an_entry_can_be_the_bad_one() {
        let mut delivery = delivery(&[2]);
        for _ in 0..TRIES_TOGETHER {
            send_all(&mut delivery);
            delivery.fail(None, "gone");
        }
        let mut poison = None;
        for _ in 0..TRIES_ALONE {
            assert_eq!(poison, None);
            assert_eq!(send_all(&mut delivery), [id(1, 0)]);
            delivery.acknowledge(id(1, 0));
            assert_eq!(send_all(&mut delivery), [id(1, 1)]);
            poison = delivery.fail(Some(id(1, 1)), "refused");
        }
        assert_eq!(poison.map(|poison| poison.id), Some(id(1, 1)));
        assert_eq!(send_all(&mut delivery), [id(1, 0)]);
        assert!(delivery.acknowledge(id(1, 0)));
    }

    #[test]
    fn messages_behind_a_bad_one_are_no_progress() {
        let mut delivery = delivery(&[1, 1, 1, 1, 1, 1]);
        for seq in 2..2 + i64::from(TRIES_TOGETHER) {
            send_all(&mut delivery);
            delivery.acknowledge(id(seq, 0));
            delivery.fail(None, "gone");
        }
        assert!(delivery.is_alone());
    }

    #[test]
    fn a_broker_that_is_away_condemns_nobody() {
        let mut delivery = delivery(&[1]);
        for _ in 0..100 {
            assert_eq!(delivery.fail(None, "connection refused"), None);
        }
        assert!(!delivery.is_alone());
    }

    proptest! {
        #[test]
        fn whatever_happens_nothing_is_skipped(
            counts in proptest::collection::vec(0usize..4, 1..20),
            choices in proptest::collection::vec((0usize..8, any::<bool>()), 0..60),
        ) {
            let mut delivery = delivery(&counts);
            let mut out = Vec::new();
            let mut acknowledged = std::collections::HashSet::new();
            let mut given_up = std::collections::HashSet::new();
            for (choice, lost) in choices {
                out.extend(send_all(&mut delivery));
                if lost {
                    if let Some(poison) = delivery.fail(None, "gone") {
                        given_up.insert((poison.id.seq, poison.id.index));
                    }
                    out.clear();
                } else if !out.is_empty() {
                    let id = out.remove(choice % out.len());
                    acknowledged.insert((id.seq, id.index));
                    delivery.acknowledge(id);
                }
                for (seq, count) in (1..=delivery.acknowledged_to()).zip(&counts) {
                    for index in 0..*count {
                        let key = (seq, index);
                        prop_assert!(acknowledged.contains(&key) || given_up.contains(&key));
                    }
                }
            }
        }
    }
}
