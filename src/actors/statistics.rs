//! The figures that everybody may see: sessions, addresses, postings.

use super::mqtt_publisher::{MqttPublisher, Publish};
use super::session_hub::{Announce, CountSessions, SessionHub};
use crate::clock::Clock;
use crate::storage::Feeds;
use crate::wire::events::{Event, Qos, Statistics};
use crate::wire::numbers::Moment;
use crate::wire::topics;
use actix::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often changed statistics are published by themselves.
const PERIOD: Duration = Duration::from_secs(3);

/// The least time between two publications, however often statistics are asked for.
const LEAST: Duration = Duration::from_secs(1);

/// Messages that wait for this actor.
const MAILBOX: usize = 256;

/// Asks for statistics, which also publishes them.
#[derive(Debug, Message)]
#[rtype(result = "Option<Statistics>")]
pub struct TakeStatistics;

/// Asks for statistics that are not older than a second, and publishes nothing.
#[derive(Debug, Message)]
#[rtype(result = "Option<Statistics>")]
pub struct LookAtStatistics;

/// Takes and publishes statistics.
///
/// * Full: whoever asks waits; nothing piles up, since each answer takes one look at the hub.
/// * Panic: ends the process. Restart: the first tick publishes again.
#[derive(Debug)]
pub struct StatisticsActor {
    feeds: Feeds,
    hub: Addr<SessionHub>,
    publisher: Option<Addr<MqttPublisher>>,
    clock: Clock,
    published: Option<(Instant, Statistics)>,
    /// The last that were looked at, for those who look soon after.
    seen: Option<(Instant, Statistics)>,
}

impl StatisticsActor {
    /// An actor that counts postings in `feeds` and sessions in `hub`.
    #[must_use]
    pub fn new(
        feeds: Feeds,
        hub: Addr<SessionHub>,
        publisher: Option<Addr<MqttPublisher>>,
        clock: Clock,
    ) -> Self {
        Self {
            feeds,
            hub,
            publisher,
            clock,
            published: None,
            seen: None,
        }
    }

    fn take(&self) -> ResponseActFuture<Self, Option<Statistics>> {
        let counted = self.hub.send(CountSessions);
        Box::pin(counted.into_actor(self).map(|counted, actor, _| {
            let sessions = counted.ok()?;
            Some(Statistics {
                clientes_conectados: sessions.clients,
                total_transacciones: u64::try_from(actor.feeds.head().postings).unwrap_or(0),
                ips_activas: sessions.addresses,
                timestamp: Moment(actor.clock.now()),
            })
        }))
    }

    /// Publishes `statistics`; asked for or, if not, only when they have changed.
    fn publish(&mut self, statistics: Statistics, asked: bool) {
        if let Some((at, last)) = &self.published {
            let same = Statistics {
                timestamp: last.timestamp,
                ..statistics
            } == *last;
            if at.elapsed() < LEAST || (same && !asked) {
                return;
            }
        }
        self.published = Some((Instant::now(), statistics));
        let event = Event::new(topics::STATISTICS, &statistics, Qos::AtMostOnce, true);
        let event = Arc::new(event);
        // Quality of service 0: where there is no room, the next ones will be newer.
        if let Some(publisher) = &self.publisher {
            let _ = publisher.try_send(Publish(Arc::clone(&event)));
        }
        let _ = self.hub.try_send(Announce(event));
    }
}

impl Actor for StatisticsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(PERIOD, |actor, ctx| {
            ctx.spawn(actor.take().map(|statistics, actor, _| {
                if let Some(statistics) = statistics {
                    actor.publish(statistics, false);
                }
            }));
        });
    }
}

impl Handler<TakeStatistics> for StatisticsActor {
    type Result = ResponseActFuture<Self, Option<Statistics>>;

    fn handle(&mut self, _: TakeStatistics, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.take().map(|statistics, actor, _| {
            if let Some(statistics) = statistics {
                actor.publish(statistics, true);
            }
            statistics
        }))
    }
}

impl Handler<LookAtStatistics> for StatisticsActor {
    type Result = ResponseActFuture<Self, Option<Statistics>>;

    fn handle(&mut self, _: LookAtStatistics, _: &mut Self::Context) -> Self::Result {
        if let Some((at, seen)) = self.seen
            && at.elapsed() < LEAST
        {
            return Box::pin(fut::ready(Some(seen)));
        }
        Box::pin(self.take().map(|statistics, actor, _| {
            actor.seen = statistics.map(|statistics| (Instant::now(), statistics));
            statistics
        }))
    }
}
