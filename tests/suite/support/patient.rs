//! What a good device does: it sends a message again until it sees the answer.

use super::device::{Device, fingerprint};
use super::{Records, Subscriber, eventually};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Messages under way at once: no more than half of what the window of a key holds, so that none
/// becomes too old while it waits.
const UNDER_WAY: usize = 32;

/// How long a device waits for an answer.
const PATIENCE: Duration = Duration::from_millis(700);

/// A device with its connection.
pub struct PatientDevice {
    pub device: Device,
    line: Subscriber,
}

impl PatientDevice {
    /// Connects `device` to the broker at `port`.
    pub async fn connect(port: u16, device: Device) -> Self {
        let line = Subscriber::of_device(port, &device).await;
        Self { device, line }
    }

    /// Sends one message, once.
    pub async fn send(&self, message: &str) {
        let topic = self.device.topic("alerta");
        self.line.publish(&topic, false, message).await;
    }

    /// Everything that this device was told.
    pub fn answers(&self) -> Vec<Value> {
        let told = self.line.on(&self.device.topic("respuesta"));
        told.iter().map(super::Message::json).collect()
    }

    /// What became of `message`, as far as this device knows; that it was throttled is no answer.
    pub fn answer_to(&self, message: &str) -> Option<Value> {
        let digest = fingerprint(message.as_bytes());
        self.answers()
            .into_iter()
            .find(|answer| answer["huella"] == digest.as_str() && answer["motivo"] != "LIMITE")
    }

    /// Waits for the answer to a message that was sent.
    pub async fn answered(&self, message: &str) -> Value {
        eventually("an answer", || async { self.answer_to(message) }).await
    }

    /// Sends messages until each of them is answered. Counts answers into `count`.
    pub async fn insist(&self, messages: &[String], count: &Cell<usize>) {
        for some in messages.chunks(UNDER_WAY) {
            let sent = RefCell::new(None::<Instant>);
            let known = Cell::new(0);
            eventually("all are answered", || async {
                let waiting: Vec<_> = some
                    .iter()
                    .filter(|m| self.answer_to(m).is_none())
                    .collect();
                count.set(count.get() + (some.len() - waiting.len()) - known.get());
                known.set(some.len() - waiting.len());
                if waiting.is_empty() {
                    return Some(());
                }
                let is_due = sent.borrow().is_none_or(|sent| sent.elapsed() > PATIENCE);
                if is_due {
                    for message in waiting {
                        self.send(message).await;
                    }
                    sent.replace(Some(Instant::now()));
                }
                None
            })
            .await;
        }
    }

    /// Each answer that this device has seen says what the database says.
    pub fn answers_are_in(&self, records: &Records) {
        let kept = messages_of(records);
        for answer in self.answers() {
            assert_ne!(answer["estado"], "RECHAZADA", "{answer}");
            let digest = answer["huella"].as_str().unwrap();
            let alert = kept.get(digest).unwrap_or_else(|| panic!("lost: {answer}"));
            assert_eq!(
                answer["alerta_id"].as_str().unwrap().replace('-', ""),
                *alert,
                "{answer}"
            );
        }
    }
}

/// The messages in the database: the alert of each by its digest, both in hexadecimal.
pub fn messages_of(records: &Records) -> BTreeMap<String, String> {
    let rows = records.texts(
        "SELECT lower(hex(m.digest)) || ' ' || lower(hex(a.alert_id)) AS value \
         FROM alert_messages m JOIN alerts a ON a.id = m.alert",
    );
    let count = rows.len();
    let messages: BTreeMap<String, String> = rows
        .iter()
        .map(|row| row.split_once(' ').unwrap())
        .map(|(digest, alert)| (digest.to_owned(), alert.to_owned()))
        .collect();
    assert_eq!(messages.len(), count, "a message is there twice");
    messages
}
