//! One connection that listens: a session that the broker keeps, and acknowledgements that wait
//! until what was heard is safe.
//!
//! Messages are answered in the order in which they came (MQTT 5 §4.6), whatever the order in which
//! they are done. What is unacknowledged when a connection ends comes again on the next.

use super::connection::{BrokerAddress, DownCause, PACKET_LIMIT, base_options, cause_of};
use crate::wire::topics;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesOrdered;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Filter, Packet, Publish, RetainForwardRule, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};

/// Messages that the broker may send before the first of them is acknowledged: what a group commit
/// takes.
pub const RECEIVE_MAXIMUM: u16 = 256;

/// Messages under way beyond which nothing more is read: those of quality of service 0 keep to no
/// receive maximum.
const UNDER_WAY: usize = 2 * RECEIVE_MAXIMUM as usize;

/// The session never expires: alerts wait for us however long we are away (MQTT 5 §3.1.2.11.2).
const SESSION_EXPIRY: u32 = u32::MAX;

/// A message as it was heard.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Its topic, which may not be UTF-8.
    pub topic: Bytes,
    /// Its payload.
    pub payload: Bytes,
    /// Whether the broker had kept it from earlier.
    pub retained: bool,
}

/// What becomes of what is heard.
pub trait Listener {
    /// The broker has taken the subscription: from now on we hear.
    fn hearing(&self);

    /// A message. It is acknowledged when the future is done, so the future ends when what it heard
    /// is safe, and not before.
    fn heard(&self, message: Heard) -> LocalBoxFuture<'static, ()>;
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// What kind of end it is.
    pub cause: DownCause,
    /// Why, in words.
    pub reason: String,
}

/// Connects and listens until the connection ends.
pub async fn listen(broker: &BrokerAddress, listener: &impl Listener) -> Over {
    // Acknowledgements wait for the event loop: one for each message under way, and subscriptions.
    let (client, event_loop) = AsyncClient::new(options(broker), UNDER_WAY + 16);
    let mut connection = Connection {
        client,
        under_way: FuturesOrdered::new(),
        listener,
    };
    connection.run(event_loop).await
}

fn options(broker: &BrokerAddress) -> MqttOptions {
    let mut options = base_options(broker);
    options
        .set_clean_start(false)
        .set_manual_acks(true)
        .set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(SESSION_EXPIRY),
            receive_maximum: Some(RECEIVE_MAXIMUM),
            max_packet_size: Some(PACKET_LIMIT),
            ..ConnectProperties::new()
        });
    options
}

/// Both subscriptions. Alerts that the broker has kept are asked for by nobody: an alert is not
/// retained, so one that is was planted. One that is being planted is passed on with its flag
/// (retain as published, MQTT 5 §3.8.3.1), also where it has waited for us: without it the broker
/// would hand it over as if it were fresh.
fn filters() -> [Filter; 2] {
    let mut alerts = Filter::new(topics::EVERY_ALERT, QoS::AtLeastOnce);
    alerts.retain_forward_rule = RetainForwardRule::Never;
    alerts.preserve_retain = true;
    [alerts, Filter::new(topics::EVERY_STATUS, QoS::AtLeastOnce)]
}

fn over(error: &ConnectionError) -> Over {
    Over {
        cause: cause_of(error),
        reason: error.to_string(),
    }
}

struct Connection<'a, L> {
    client: AsyncClient,
    under_way: FuturesOrdered<LocalBoxFuture<'static, Publish>>,
    listener: &'a L,
}

impl<L: Listener> Connection<'_, L> {
    async fn run(&mut self, mut event_loop: EventLoop) -> Over {
        loop {
            while self.under_way.len() >= UNDER_WAY {
                if let Some(done) = self.under_way.next().await {
                    self.acknowledge(&done);
                }
            }
            // The poll is never dropped half-way: rumqttc could lose a packet between taking it
            // and handling it.
            let mut poll = std::pin::pin!(event_loop.poll());
            let polled = loop {
                tokio::select! {
                    polled = &mut poll => break polled,
                    Some(done) = self.under_way.next() => self.acknowledge(&done),
                }
            };
            match polled {
                Ok(Event::Incoming(packet)) => {
                    if let Err(over) = self.received(packet) {
                        return over;
                    }
                }
                Ok(Event::Outgoing(_)) => {}
                Err(error) => return over(&error),
            }
        }
    }

    fn received(&mut self, packet: Packet) -> Result<(), Over> {
        match packet {
            // On every connection, whether or not the broker remembers: it may have forgotten.
            Packet::ConnAck(_) => self.subscribe(),
            Packet::SubAck(ack) => self.subscribed(&ack)?,
            Packet::Publish(publish) => {
                let heard = self.listener.heard(Heard {
                    topic: publish.topic.clone(),
                    payload: publish.payload.clone(),
                    retained: publish.retain,
                });
                self.under_way.push_back(Box::pin(async move {
                    heard.await;
                    publish
                }));
            }
            _ => {}
        }
        Ok(())
    }

    /// Without alerts there is nothing to listen for: somebody has to mend rights, and the next
    /// connection finds out whether they have. Without statuses less is shown, and that is all.
    fn subscribed(&self, ack: &SubAck) -> Result<(), Over> {
        let granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
        if !ack.return_codes.first().is_some_and(granted) {
            return Err(Over {
                cause: DownCause::Unauthorized,
                reason: "our user may not subscribe to empresas/#".to_owned(),
            });
        }
        if !ack.return_codes.iter().all(granted) {
            log::warn!("the broker does not let us hear the statuses of devices");
        }
        self.listener.hearing();
        Ok(())
    }

    fn subscribe(&self) {
        if self.client.try_subscribe_many(filters()).is_err() {
            log::warn!("the topics of devices cannot be subscribed to");
        }
    }

    fn acknowledge(&self, publish: &Publish) {
        // There is room for each message under way; a connection that is gone hears it anew.
        if publish.qos != QoS::AtMostOnce && self.client.try_ack(publish).is_err() {
            log::debug!("a message is acknowledged on the next connection");
        }
    }
}
