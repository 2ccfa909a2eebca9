//! Out in the field: devices that reach Atalaya over a broker, its own or another.

use super::atalaya::Settings;
use super::device::{Device, fingerprint};
use super::{Atalaya, Client, Message, Mosquitto, Subscriber, eventually};
use serde_json::Value;

/// Which broker devices are at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Mosquitto,
    Embedded,
}

impl At {
    pub const BOTH: [Self; 2] = [Self::Mosquitto, Self::Embedded];
}

/// Atalaya and the broker that it listens at.
pub struct Field {
    pub atalaya: Atalaya,
    pub broker: Option<Mosquitto>,
}

impl Field {
    /// Starts both, with the settings as they come.
    pub async fn start(at: At) -> Self {
        Self::start_with(at, |settings| settings).await
    }

    /// Starts both, where a device may send as fast as the test can.
    pub async fn unhurried(at: At) -> Self {
        Self::start_with(at, Settings::without_haste).await
    }

    /// Starts both, and waits until devices are heard.
    pub async fn start_with(at: At, shape: impl FnOnce(Settings) -> Settings) -> Self {
        let broker = (at == At::Mosquitto).then(Mosquitto::start);
        let settings = match &broker {
            Some(broker) => Atalaya::with_broker(broker),
            None => Atalaya::with_embedded_broker(),
        };
        let atalaya = shape(settings).start().await;
        atalaya.listens().await;
        Self { atalaya, broker }
    }

    /// Where the broker listens.
    pub fn port(&self) -> u16 {
        let own = self.atalaya.mqtt_port;
        self.broker.as_ref().map_or(own, |broker| broker.port)
    }

    pub fn client(&self) -> Client {
        self.atalaya.client()
    }
}

impl Settings {
    /// Lets a device send as fast as it can.
    pub fn without_haste(self) -> Self {
        self.set("DEVICE_RATE", 1_000_000)
            .set("DEVICE_BURST", 1_000_000)
    }
}

impl Atalaya {
    /// Waits until devices are heard on MQTT.
    pub async fn listens(&self) {
        eventually("devices are heard", || async {
            (self.metric("atalaya_mqtt_intake_connected").await? == 1.0).then_some(())
        })
        .await;
    }

    /// Waits until devices are not heard on MQTT.
    pub async fn is_deaf(&self) {
        eventually("devices are not heard", || async {
            (self.metric("atalaya_mqtt_intake_connected").await? == 0.0).then_some(())
        })
        .await;
    }

    /// How many messages of devices had this result for this reason.
    pub async fn messages(&self, result: &str, reason: &str) -> f64 {
        let name =
            format!("atalaya_device_messages_total{{reason=\"{reason}\",result=\"{result}\"}}");
        self.metric(&name).await.unwrap_or(0.0)
    }

    /// How many messages of devices were decided, whatever the result.
    pub async fn decided(&self) -> f64 {
        let text = self.client().get("/metrics").await.map(|page| page.text());
        let text = text.unwrap_or_default();
        let all = text
            .lines()
            .filter(|line| line.starts_with("atalaya_device_messages_total{"));
        let counts = all.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        counts.sum()
    }

    /// Waits until so many messages had this result for this reason.
    pub async fn decides(&self, result: &str, reason: &str, count: f64) {
        eventually(&format!("{count} messages {result} {reason}"), || async {
            (self.messages(result, reason).await >= count).then_some(())
        })
        .await;
        assert_eq!(self.messages(result, reason).await, count);
    }

    /// How often it has begun to listen to devices, over all its lives.
    pub fn listened(&self) -> usize {
        self.log().matches("listening to devices").count()
    }
}

impl Subscriber {
    /// Publishes a message on a device's topic for alerts.
    pub async fn alert(&self, device: &Device, message: &str) {
        self.publish(&device.topic("alerta"), false, message).await;
    }

    /// Publishes a message and waits for its answer.
    pub async fn asks(&self, device: &Device, message: &str) -> Value {
        self.alert(device, message).await;
        self.answer(device, message).await
    }

    /// Publishes the next message of a device and waits for its answer.
    pub async fn says(&self, device: &mut Device, kind: &str) -> Value {
        let message = device.alert(kind);
        self.asks(device, &message).await
    }

    /// The first answer to a message.
    pub async fn answer(&self, device: &Device, message: &str) -> Value {
        self.answers_to(device, message, 1).await.remove(0)
    }

    /// The answers to a message, once there are as many.
    pub async fn answers_to(&self, device: &Device, message: &str, count: usize) -> Vec<Value> {
        let print = fingerprint(message.as_bytes());
        eventually(&format!("{count} answers to {}", device.name), || async {
            let mut answers = self.answers(device);
            answers.retain(|answer| answer["huella"] == print.as_str());
            (answers.len() >= count).then_some(answers)
        })
        .await
    }

    /// All that a device was answered so far.
    pub fn answers(&self, device: &Device) -> Vec<Value> {
        let answers = self.on(&device.topic("respuesta"));
        answers.iter().map(Message::json).collect()
    }

    /// All that a device was ordered so far.
    pub fn orders(&self, device: &str) -> Vec<Value> {
        let orders = self.all().into_iter();
        orders
            .filter(|m| m.topic.ends_with(&format!("/{device}/comando")))
            .map(|m| m.json())
            .collect()
    }

    /// The news about a company's alerts so far.
    pub fn news(&self, company: &str) -> Vec<Value> {
        let news = self.on(&format!("empresas/{company}/alertas"));
        news.iter().map(Message::json).collect()
    }

    /// Waits until there are as many news about a company's alerts.
    pub async fn news_reach(&self, company: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} news of {company}"), || async {
            let news = self.news(company);
            (news.len() >= count).then_some(news)
        })
        .await
    }
}
