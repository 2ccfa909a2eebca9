//! The plugin's own protocol: JSON commands on one topic, their answers on another.

use super::plan::{Actual, ClientState, Rights, Step};
use crate::config::Login;
use crate::mqtt::connection::transport;
use crate::tls::ClientTls;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

const COMMANDS: &str = "$CONTROL/dynamic-security/v1";
const ANSWERS: &str = "$CONTROL/dynamic-security/v1/response";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Commands in one message; the plugin answers each of them.
const AT_ONCE: usize = 50;

/// The largest answer: some thousands of clients and roles.
const ANSWER_LIMIT: u32 = 16 * 1024 * 1024;

/// Why the plugin does not do what it was asked; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum TalkError {
    #[error(
        "el broker no deja entrar ({0}): revise MQTT_USERNAME, MQTT_PASSWORD y los certificados"
    )]
    Denied(String),
    #[error("el broker no responde: {0}")]
    Broken(String),
    #[error(
        "el plugin no contesta: ¿lo carga la configuración (mosquitto/production/\
         dynamic-security.conf), y puede este usuario administrarlo (rol admin)?"
    )]
    Silent,
    #[error("el plugin rechaza {command}: {reason}")]
    Refused { command: String, reason: String },
}

impl From<ConnectionError> for TalkError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => Self::Denied(format!("{code:?}")),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// A connection to the plugin.
pub(super) struct Plugin {
    client: AsyncClient,
    events: EventLoop,
}

impl Plugin {
    /// Connects as an administrator of the plugin.
    pub(super) async fn connect(
        host: &str,
        port: u16,
        login: Login,
        tls: Option<ClientTls>,
    ) -> Result<Self, TalkError> {
        let id = format!("atalaya-sync-{}", Uuid::new_v4().simple());
        let mut options = MqttOptions::new(id, host, port);
        options.set_credentials(login.user, login.password);
        options.set_connect_properties(ConnectProperties {
            max_packet_size: Some(ANSWER_LIMIT),
            ..ConnectProperties::new()
        });
        if let Some(tls) = &tls {
            options.set_transport(transport(tls));
        }
        let (client, events) = AsyncClient::new(options, 16);
        let mut plugin = Self { client, events };
        plugin
            .client
            .try_subscribe(ANSWERS, QoS::AtLeastOnce)
            .map_err(|error| TalkError::Broken(error.to_string()))?;
        plugin
            .until(|packet| matches!(packet, Packet::SubAck(_)).then_some(()))
            .await?;
        Ok(plugin)
    }

    /// What the plugin has.
    pub(super) async fn state(&mut self) -> Result<Actual, TalkError> {
        let asked = [
            json!({"command": "listClients", "verbose": true, "count": -1, "offset": 0}),
            json!({"command": "listRoles", "verbose": true, "count": -1, "offset": 0}),
            json!({"command": "getDefaultACLAccess"}),
        ];
        let answers = self.ask(&asked).await?;
        let mut actual = Actual::default();
        for answer in &answers {
            let data = &answer["data"];
            for client in items(&data["clients"]) {
                let state = ClientState {
                    description: text(&client["textdescription"]),
                    client_id: text(&client["clientid"]),
                    disabled: client["disabled"] == json!(true),
                    roles: items(&client["roles"])
                        .map(|r| text(&r["rolename"]))
                        .collect(),
                };
                actual.clients.insert(text(&client["username"]), state);
            }
            for role in items(&data["roles"]) {
                let rights: Rights = items(&role["acls"])
                    .filter(|acl| acl["allow"] == json!(true))
                    .map(|acl| (text(&acl["acltype"]), text(&acl["topic"])))
                    .collect::<BTreeSet<_>>();
                actual.roles.insert(text(&role["rolename"]), rights);
            }
            for acl in items(&data["acls"]) {
                let allow = acl["allow"] == json!(true);
                actual.defaults.insert(text(&acl["acltype"]), allow);
            }
        }
        Ok(actual)
    }

    /// Sends the commands of a plan, in its order.
    pub(super) async fn apply(&mut self, steps: &[Step]) -> Result<(), TalkError> {
        for some in steps.chunks(AT_ONCE) {
            let commands: Vec<Value> = some.iter().map(|step| step.command.clone()).collect();
            self.ask(&commands).await?;
        }
        Ok(())
    }

    /// Sends commands and waits for the answers to all of them.
    async fn ask(&mut self, commands: &[Value]) -> Result<Vec<Value>, TalkError> {
        let message = json!({ "commands": commands }).to_string();
        self.client
            .try_publish(COMMANDS, QoS::AtLeastOnce, false, message)
            .map_err(|error| TalkError::Broken(error.to_string()))?;
        let mut answers = Vec::new();
        while answers.len() < commands.len() {
            let some = self
                .until(|packet| match packet {
                    Packet::Publish(publish) => {
                        let body: Value = serde_json::from_slice(&publish.payload).ok()?;
                        Some(body["responses"].as_array()?.clone())
                    }
                    _ => None,
                })
                .await?;
            answers.extend(some);
        }
        for answer in &answers {
            if let Some(reason) = answer["error"].as_str() {
                return Err(TalkError::Refused {
                    command: text(&answer["command"]),
                    reason: reason.to_owned(),
                });
            }
        }
        Ok(answers)
    }

    /// Waits for a packet in which `find` finds something.
    async fn until<T>(&mut self, find: impl Fn(&Packet) -> Option<T>) -> Result<T, TalkError> {
        let waiting = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await?
                    && let Some(found) = find(&packet)
                {
                    return Ok(found);
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or(Err(TalkError::Silent))
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
