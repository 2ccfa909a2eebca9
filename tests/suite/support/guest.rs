//! An MQTT 5 client that sees each answer of the broker.

use super::{DEADLINE, Message, logins};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, ConnectReturnCode, Packet, PubAckReason, PubRecReason, PublishProperties,
    SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A connected client. Dropped, it vanishes without a word, as a machine does that loses power.
pub struct Guest {
    client: AsyncClient,
    event_loop: EventLoop,
    /// Messages that arrived while something else was awaited.
    received: VecDeque<Message>,
    /// Whether the broker remembered this client.
    pub was_known: bool,
}

impl Guest {
    /// A client that the broker forgets when it goes, and that signs in as the book says.
    pub fn options(port: u16, id: &str) -> MqttOptions {
        let mut options = Self::anonymous(port, id);
        logins::sign_in(&mut options, port, id);
        options
    }

    /// The same, that does not say who it is.
    pub fn anonymous(port: u16, id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options
            .set_keep_alive(Duration::from_secs(30))
            .set_connect_properties(ConnectProperties {
                max_packet_size: Some(256 * 1024),
                ..ConnectProperties::new()
            });
        options
    }

    /// A client that the broker remembers for an hour.
    pub fn remembered(port: u16, id: &str) -> MqttOptions {
        let mut options = Self::options(port, id);
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(3_600));
        options
    }

    /// Connects, or says why the broker would not have it.
    pub async fn connect(options: MqttOptions) -> Result<Self, ConnectReturnCode> {
        let (client, mut event_loop) = AsyncClient::new(options, 64);
        loop {
            match event_loop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                    return Ok(Self {
                        client,
                        event_loop,
                        received: VecDeque::new(),
                        was_known: answer.session_present,
                    });
                }
                Ok(_) => {}
                Err(ConnectionError::ConnectionRefused(code)) => return Err(code),
                Err(error) => panic!("no answer from the broker: {error}"),
            }
        }
    }

    /// Publishes and returns the broker's reason code: 0, or 0x87 for "not authorized".
    pub async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str) -> u8 {
        let payload = payload.to_owned().into_bytes();
        let sent = self.client.try_publish(topic, qos, retain, payload);
        sent.expect("handed to the client");
        self.reason().await
    }

    /// The same under a topic alias, with or without the topic that it stands for.
    pub async fn publish_as(&mut self, alias: u16, topic: &str, payload: &str) -> u8 {
        let properties = PublishProperties {
            topic_alias: Some(alias),
            ..PublishProperties::default()
        };
        let payload = payload.to_owned().into_bytes();
        let sent = self.client.try_publish_with_properties(
            topic,
            QoS::AtLeastOnce,
            false,
            payload,
            properties,
        );
        sent.expect("handed to the client");
        self.reason().await
    }

    /// Subscribes and waits until the broker has agreed.
    pub async fn subscribe(&mut self, filter: &str) {
        let asked = self.client.try_subscribe(filter, QoS::AtLeastOnce);
        asked.expect("handed to the client");
        while !matches!(self.packet().await, Packet::SubAck(_)) {}
    }

    /// Subscribes, and returns the broker's reason code: the quality of service granted, or 0x87.
    pub async fn asks_for(&mut self, filter: &str) -> u8 {
        let asked = self.client.try_subscribe(filter, QoS::AtLeastOnce);
        asked.expect("handed to the client");
        loop {
            if let Packet::SubAck(ack) = self.packet().await {
                return match ack.return_codes[0] {
                    SubscribeReasonCode::Success(qos) => qos as u8,
                    SubscribeReasonCode::NotAuthorized => 0x87,
                    SubscribeReasonCode::TopicFilterInvalid => 0x8F,
                    other => panic!("{other:?}"),
                };
            }
        }
    }

    /// Waits until the broker hangs up, and says how long that took.
    pub async fn is_shown_out(&mut self) -> Duration {
        let began = Instant::now();
        let ends = async { while self.event_loop.poll().await.is_ok() {} };
        let ended = tokio::time::timeout(DEADLINE, ends).await;
        ended.expect("the broker hangs up");
        began.elapsed()
    }

    /// The next message.
    pub async fn message(&mut self) -> Message {
        self.message_within(DEADLINE).await.expect("a message")
    }

    /// The next message, if one comes in time.
    pub async fn message_within(&mut self, time: Duration) -> Option<Message> {
        let waiting = async {
            while self.received.is_empty() {
                self.packet().await;
            }
        };
        tokio::time::timeout(time, waiting).await.ok()?;
        self.received.pop_front()
    }

    async fn reason(&mut self) -> u8 {
        loop {
            return match self.packet().await {
                Packet::PubAck(ack) => match ack.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => 0,
                    PubAckReason::NotAuthorized => 0x87,
                    other => panic!("{other:?}"),
                },
                Packet::PubRec(ack) => match ack.reason {
                    // PUBCOMP follows.
                    PubRecReason::Success | PubRecReason::NoMatchingSubscribers => continue,
                    PubRecReason::NotAuthorized => 0x87,
                    other => panic!("{other:?}"),
                },
                Packet::PubComp(_) => 0,
                _ => continue,
            };
        }
    }

    async fn packet(&mut self) -> Packet {
        loop {
            let polled = tokio::time::timeout(DEADLINE, self.event_loop.poll()).await;
            let event = polled.expect("a packet in time").expect("connected");
            let Event::Incoming(packet) = event else {
                continue;
            };
            if let Packet::Publish(publish) = &packet {
                self.received.push_back(Message {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    payload: publish.payload.to_vec(),
                });
            }
            return packet;
        }
    }
}
