//! A subscriber that keeps all it receives, reconnecting on a session that the broker keeps.

use super::device::Device;
use super::{eventually, logins};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Packet};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub topic: String,
    pub qos: u8,
    pub retain: bool,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("JSON")
    }
}

/// A subscriber; it goes on for as long as it is held.
pub struct Subscriber {
    received: Arc<Mutex<Vec<Message>>>,
    task: JoinHandle<()>,
    client: AsyncClient,
    port: u16,
    id: String,
    /// Connections of devices, where a broker lets nobody else speak for them.
    devices: tokio::sync::Mutex<HashMap<String, Self>>,
}

impl Subscriber {
    /// Subscribes to `filters` at quality of service 2, and waits until the broker has agreed.
    pub async fn to(port: u16, filters: &[&str]) -> Self {
        let id = format!("test-{}", uuid::Uuid::new_v4());
        Self::called(port, id, filters).await
    }

    /// A device that listens to what is said to it, as itself where the broker asks who comes.
    pub async fn of_device(port: u16, device: &Device) -> Self {
        let answers = device.topic("respuesta");
        if logins::is_device(port, &device.name) {
            Self::called(port, device.name.clone(), &[&answers]).await
        } else {
            Self::to(port, &[&answers]).await
        }
    }

    async fn called(port: u16, id: String, filters: &[&str]) -> Self {
        let mut options = MqttOptions::new(id.clone(), "127.0.0.1", port);
        logins::sign_in(&mut options, port, &id);
        options
            .set_keep_alive(Duration::from_secs(30))
            .set_clean_start(false);
        options.set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(3_600),
            max_packet_size: Some(256 * 1024),
            ..ConnectProperties::new()
        });
        let (client, mut event_loop) = AsyncClient::new(options, 1_024);
        let received = Arc::new(Mutex::new(Vec::new()));
        let agreed = Arc::new(Mutex::new(false));
        let task = {
            let (received, agreed) = (Arc::clone(&received), Arc::clone(&agreed));
            let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
            let client = client.clone();
            actix_web::rt::spawn(async move {
                loop {
                    match event_loop.poll().await {
                        Ok(Event::Incoming(Packet::ConnAck(_))) => {
                            for filter in &filters {
                                client
                                    .try_subscribe(filter.clone(), QoS::ExactlyOnce)
                                    .unwrap();
                            }
                        }
                        Ok(Event::Incoming(Packet::SubAck(_))) => *agreed.lock().unwrap() = true,
                        Ok(Event::Incoming(Packet::Publish(publish))) => {
                            received.lock().unwrap().push(Message {
                                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                                qos: publish.qos as u8,
                                retain: publish.retain,
                                payload: publish.payload.to_vec(),
                            });
                        }
                        Ok(_) => {}
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                }
            })
        };
        eventually("the broker takes a subscription", || async {
            agreed.lock().unwrap().then_some(())
        })
        .await;
        Self {
            received,
            task,
            client,
            port,
            id,
            devices: tokio::sync::Mutex::default(),
        }
    }

    /// Publishes as this client, or as the device whose topic it is where the broker asks who comes;
    /// whether the broker agrees is the broker's business.
    pub async fn publish(&self, topic: &str, retain: bool, payload: impl AsRef<[u8]>) {
        let payload = payload.as_ref().to_vec();
        let level = topic.split('/').nth(3).unwrap_or_default();
        if level != self.id && logins::is_device(self.port, level) {
            let mut devices = self.devices.lock().await;
            if !devices.contains_key(level) {
                let (own, _) = topic.rsplit_once('/').unwrap();
                let answers = format!("{own}/respuesta");
                let filters = [answers.as_str()];
                let own = Self::called(self.port, level.to_owned(), &filters);
                devices.insert(level.to_owned(), Box::pin(own).await);
            }
            let published = &devices[level].client;
            published
                .publish(topic, QoS::AtLeastOnce, retain, payload)
                .await
                .unwrap();
            return;
        }
        self.client
            .publish(topic, QoS::AtLeastOnce, retain, payload)
            .await
            .unwrap();
    }

    /// All that has arrived so far.
    pub fn all(&self) -> Vec<Message> {
        self.received.lock().unwrap().clone()
    }

    /// What has arrived on `topic`.
    pub fn on(&self, topic: &str) -> Vec<Message> {
        self.all()
            .into_iter()
            .filter(|message| message.topic == topic)
            .collect()
    }

    /// Waits until a message matches.
    pub async fn wait_for(&self, what: &str, matches: impl Fn(&Message) -> bool) -> Message {
        eventually(what, || async {
            self.all().into_iter().find(|m| matches(m))
        })
        .await
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}
