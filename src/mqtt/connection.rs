//! One connection to the broker, from CONNECT to its end.
//!
//! Each connection has a client and an event loop of its own: what the last one had in flight is
//! not its business, since the outbox knows what is acknowledged and what is not. Messages go out
//! in the order in which they come in; each is answered with exactly one event, unless the
//! connection ends first.

use crate::config::Login;
use crate::tls::ClientTls;
use crate::wire::events::{Event, Presence, Qos, RetainedMarker};
use crate::wire::topics;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Filter, LastWill, Packet, PubAckReason, PubCompReason, PubRecReason,
    SubscribeReasonCode,
};
use rumqttc::v5::{
    AsyncClient, ConnectionError, Event as Packets, EventLoop, MqttOptions, StateError,
};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages between publisher and connection, either way.
pub const CHANNEL: usize = 1_024;

/// Messages handed to the event loop that it has not sent yet. Its own queue is twice as long, so
/// handing over never waits: waiting there, in the task that polls, would be a deadlock.
const HANDED: usize = 128;

/// Unacknowledged messages; the broker's receive maximum may be lower.
const IN_FLIGHT: u16 = 1_000;

/// The largest packet that is taken from a broker. Brokers are set to less, since a packet that is
/// refused here would come again and again.
pub(super) const PACKET_LIMIT: u32 = 256 * 1024;

/// How often a silent connection is probed; twice that finds a broker that stalls.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a broker has to answer CONNECT, in seconds.
const CONNECT_TIMEOUT: u64 = 5;

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct BrokerAddress {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How to sign in.
    pub login: Option<Login>,
    /// How to speak TLS, if it is to be spoken.
    pub tls: Option<ClientTls>,
    /// The client id.
    pub client_id: String,
}

/// A message on its way out, under a number of the publisher's choice.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// The number that its answer will carry.
    pub token: u64,
    /// The message.
    pub event: Arc<Event>,
}

/// What a connection tells the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// The broker has accepted the connection.
    Up,
    /// The broker has taken a message: PUBACK, PUBCOMP, or sent for quality of service 0.
    Acknowledged(u64),
    /// The broker has refused a message.
    Refused {
        /// Which.
        token: u64,
        /// Whether it was a matter of rights or quotas, which a person has to mend.
        unauthorized: bool,
        /// What it said.
        reason: String,
    },
    /// The retained marker as the broker has it; `None` where it has none that can be read.
    Marker(Option<RetainedMarker>),
    /// The connection is over. Nothing comes after this.
    Down {
        /// What kind of end it is.
        cause: DownCause,
        /// Why, in words.
        reason: String,
    },
}

/// What kind of end a connection has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownCause {
    /// The broker does not let us in, which a person has to mend.
    Unauthorized,
    /// Another client has our client id, which a person has to mend.
    TakenOver,
    /// The broker has said why, and no message of ours is the reason.
    Broker,
    /// It broke, for whatever reason.
    Network,
}

/// Opens a connection for a lane and runs it until it ends or `outbound` is closed, which ends it politely.
/// The task belongs to the current thread.
#[must_use]
pub fn open(
    broker: &BrokerAddress,
    lane: i32,
    will: Option<&Presence<'_>>,
) -> (mpsc::Sender<Outbound>, mpsc::Receiver<Link>) {
    let (outbound, messages) = mpsc::channel(CHANNEL);
    // Each message makes one answer; a few more for the life of the connection itself.
    let (links, events) = mpsc::channel(CHANNEL + 16);
    let (client, event_loop) = AsyncClient::new(options(broker, will), HANDED * 2);
    let connection = Connection {
        client,
        messages,
        links,
        marker: topics::retained_marker(lane),
        flight: Flight::default(),
        handed: 0,
    };
    actix::spawn(connection.run(event_loop));
    (outbound, events)
}

/// What every connection of ours to a broker has in common. It sends each packet at once: Nagle's
/// algorithm would keep it back until what went before it is acknowledged, which the other side's
/// kernel may put off for 40 ms.
pub(super) fn base_options(broker: &BrokerAddress) -> MqttOptions {
    let mut options = MqttOptions::new(broker.client_id.clone(), broker.host.clone(), broker.port);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECT_TIMEOUT)
        .set_network_options(network);
    if let Some(login) = &broker.login {
        options.set_credentials(login.user.clone(), login.password.clone());
    }
    if let Some(tls) = &broker.tls {
        options.set_transport(transport(tls));
    }
    options
}

/// TLS in the client's terms.
#[must_use]
pub fn transport(tls: &ClientTls) -> Transport {
    Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(&tls.0)))
}

fn options(broker: &BrokerAddress, will: Option<&Presence<'_>>) -> MqttOptions {
    let mut options = base_options(broker);
    if let Some(will) = will.map(Presence::event) {
        options.set_last_will(LastWill::new(
            will.topic,
            will.payload.to_vec(),
            QoS::AtLeastOnce,
            will.retain,
            None,
        ));
    }
    options
        .set_clean_start(true)
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_connect_properties(ConnectProperties {
            max_packet_size: Some(PACKET_LIMIT),
            ..ConnectProperties::new()
        });
    options
}

struct Connection {
    client: AsyncClient,
    messages: mpsc::Receiver<Outbound>,
    links: mpsc::Sender<Link>,
    /// The topic of its lane's marker of retained balances.
    marker: String,
    flight: Flight,
    handed: usize,
}

/// Why the loop of a connection ends.
enum End {
    /// The publisher is done with it.
    Released,
    /// The network, or the broker.
    Broken(ConnectionError),
    /// The event loop does not take messages any more.
    Stuck,
}

impl Connection {
    async fn run(mut self, mut event_loop: EventLoop) {
        let end = loop {
            // The poll is never dropped half-way: rumqttc could lose a packet between taking it
            // and writing it.
            let mut poll = std::pin::pin!(event_loop.poll());
            let polled = loop {
                let room = self.handed < HANDED;
                tokio::select! {
                    biased;
                    polled = &mut poll => break polled,
                    message = self.messages.recv(), if room => {
                        let Some(message) = message else {
                            // Disconnecting needs room in the event loop's own queue alone.
                            let _ = self.client.try_disconnect();
                            break poll.as_mut().await;
                        };
                        if self.hand_over(message).is_err() {
                            break Err(ConnectionError::RequestsDone);
                        }
                    },
                }
            };
            match polled {
                Ok(packets) => {
                    if self.heard(packets).await.is_err() {
                        break End::Released;
                    }
                }
                Err(_) if self.messages.is_closed() => break End::Released,
                Err(ConnectionError::RequestsDone) => break End::Stuck,
                Err(error) => break End::Broken(error),
            }
        };
        if matches!(end, End::Broken(_)) {
            self.hear_the_rest(event_loop).await;
        }
        self.finish(end).await;
    }

    /// What the broker said before the end, read together with it: rumqttc tells the end first. A
    /// refused authorisation is often the last word of a broker that hangs up behind it.
    async fn hear_the_rest(&mut self, mut event_loop: EventLoop) {
        while let Some(packets) = event_loop.state.events.pop_front() {
            if self.heard(packets).await.is_err() {
                return;
            }
        }
    }

    fn hand_over(&mut self, message: Outbound) -> Result<(), ()> {
        let event = &message.event;
        let qos = match event.qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
            Qos::ExactlyOnce => QoS::ExactlyOnce,
        };
        self.client
            .try_publish(
                event.topic.clone(),
                qos,
                event.retain,
                event.payload.clone(),
            )
            .map_err(|_| ())?;
        self.flight.handed.push_back((message.token, event.qos));
        self.handed += 1;
        Ok(())
    }

    /// Tells the publisher what an event of the loop means. An error: nobody listens.
    async fn heard(&mut self, packets: Packets) -> Result<(), ()> {
        let link = match packets {
            Packets::Outgoing(Outgoing::Publish(id)) => {
                self.handed = self.handed.saturating_sub(1);
                self.flight.sent(id)
            }
            Packets::Incoming(packet) => self.received(packet),
            Packets::Outgoing(_) => None,
        };
        match link {
            Some(link) => self.links.send(link).await.map_err(|_| ()),
            None => Ok(()),
        }
    }

    fn received(&mut self, packet: Packet) -> Option<Link> {
        match packet {
            Packet::ConnAck(_) => {
                let filter = Filter::new(self.marker.clone(), QoS::AtLeastOnce);
                if self.client.try_subscribe_many([filter]).is_err() {
                    log::warn!("the retained marker cannot be asked for");
                }
                Some(Link::Up)
            }
            Packet::PubAck(ack) => {
                let token = self.flight.once.remove(&ack.pkid)?;
                Some(match ack.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
                        Link::Acknowledged(token)
                    }
                    reason => Link::Refused {
                        token,
                        unauthorized: matches!(
                            reason,
                            PubAckReason::NotAuthorized | PubAckReason::QuotaExceeded
                        ),
                        reason: format!("{reason:?}"),
                    },
                })
            }
            Packet::PubRec(rec) => match rec.reason {
                PubRecReason::Success | PubRecReason::NoMatchingSubscribers => {
                    let token = self.flight.exactly_once.remove(&rec.pkid)?;
                    self.flight.released.insert(rec.pkid, token);
                    None
                }
                reason => Some(Link::Refused {
                    token: self.flight.exactly_once.remove(&rec.pkid)?,
                    unauthorized: matches!(
                        reason,
                        PubRecReason::NotAuthorized | PubRecReason::QuotaExceeded
                    ),
                    reason: format!("{reason:?}"),
                }),
            },
            Packet::PubComp(comp) => {
                let token = self.flight.released.remove(&comp.pkid)?;
                Some(match comp.reason {
                    PubCompReason::Success => Link::Acknowledged(token),
                    reason @ PubCompReason::PacketIdentifierNotFound => Link::Refused {
                        token,
                        unauthorized: false,
                        reason: format!("{reason:?}"),
                    },
                })
            }
            Packet::SubAck(ack) => {
                let refused = ack
                    .return_codes
                    .iter()
                    .any(|c| !matches!(c, SubscribeReasonCode::Success(_)));
                refused.then(|| {
                    log::warn!("the broker does not let us read {}", self.marker);
                    Link::Marker(None)
                })
            }
            Packet::Publish(publish) if publish.retain => {
                Some(Link::Marker(serde_json::from_slice(&publish.payload).ok()))
            }
            _ => None,
        }
    }

    async fn finish(self, end: End) {
        let (cause, reason) = match &end {
            End::Released => return,
            End::Stuck => (
                DownCause::Broker,
                "the client does not take messages any more".to_owned(),
            ),
            End::Broken(error) => (cause_of(error), error.to_string()),
        };
        // Whoever does not listen any more has a connection of its own.
        let _ = self.links.send(Link::Down { cause, reason }).await;
    }
}

/// What kind of end a connection has come to.
pub(super) fn cause_of(error: &ConnectionError) -> DownCause {
    use rumqttc::v5::mqttbytes::v5::ConnectReturnCode::{
        BadUserNamePassword, Banned, ClientIdentifierNotValid, NotAuthorized,
    };
    use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode as Said;
    match error {
        ConnectionError::ConnectionRefused(
            BadUserNamePassword | NotAuthorized | Banned | ClientIdentifierNotValid,
        ) => DownCause::Unauthorized,
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            match reason_code {
                Said::SessionTakenOver => DownCause::TakenOver,
                Said::NotAuthorized => DownCause::Unauthorized,
                Said::ServerBusy
                | Said::ServerShuttingDown
                | Said::KeepAliveTimeout
                | Said::QuotaExceeded
                | Said::MessageRateTooHigh
                | Said::AdministrativeAction => DownCause::Broker,
                _ => DownCause::Network,
            }
        }
        _ => DownCause::Network,
    }
}

/// Which packet id belongs to which message. Ids are reused, so each state has a map of its own.
#[derive(Debug, Default)]
struct Flight {
    /// Handed to the event loop, which sends in the same order.
    handed: VecDeque<(u64, Qos)>,
    /// Sent at quality of service 1, waiting for PUBACK.
    once: HashMap<u16, u64>,
    /// Sent at quality of service 2, waiting for PUBREC.
    exactly_once: HashMap<u16, u64>,
    /// Received by the broker at quality of service 2, waiting for PUBCOMP.
    released: HashMap<u16, u64>,
}

impl Flight {
    /// The event loop has sent the next message, under `id`.
    fn sent(&mut self, id: u16) -> Option<Link> {
        let (token, qos) = self.handed.pop_front()?;
        match qos {
            Qos::AtMostOnce => return Some(Link::Acknowledged(token)),
            Qos::AtLeastOnce => self.once.insert(id, token),
            Qos::ExactlyOnce => self.exactly_once.insert(id, token),
        };
        None
    }
}
