//! Mosquitto with the configurations for production: only paths and ports are others.

use crate::support::certificates::Authority;
use crate::support::device::{Device, create_place};
use crate::support::guest::Guest;
use crate::support::run::Ended;
use crate::support::{Atalaya, Mosquitto, eventually, free_port, logins, run};
use atalaya::mqtt::connection::transport;
use atalaya::tls;
use awc::http::Method;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const REFUSED: u8 = 0x87;

/// What is no message of a device's, and is answered all the same.
const MARKER: &str = "marker";

/// Who controls access.
#[derive(Clone, Copy, PartialEq, Debug)]
enum By {
    Passwords,
    DynamicSecurity,
}

/// Mosquitto as in production, with the real Atalaya at it.
struct Production {
    by: By,
    broker: Mosquitto,
    atalaya: Atalaya,
    authority: Authority,
    /// For devices and listeners.
    port: u16,
}

/// The password of every user but devices.
const PASSWORD: &str = "correct horse battery";

impl Production {
    async fn start(by: By) -> Self {
        let (authority, own) = (Authority::new(), Authority::new());
        let (port, server_port) = (free_port(), free_port());
        let shown = authority.vouch_for("server");
        let client = own.vouch_for("atalaya");
        let mut broker = Mosquitto::prepare();
        let folder = broker.folder().display().to_string();
        std::fs::create_dir(broker.folder().join("base")).unwrap();
        let adapt = |name: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("mosquitto/production");
            let text = std::fs::read_to_string(path.join(name)).unwrap();
            let mut adapted = text
                .replace("listener 8883", &format!("listener {port} 127.0.0.1"))
                .replace(
                    "listener 8884",
                    &format!("listener {server_port} 127.0.0.1"),
                )
                .replace("mosquitto/production", &folder)
                .replace("/etc/mosquitto/passwords", &format!("{folder}/passwords"))
                .replace("/var/lib/mosquitto", &folder);
            for (named, file) in [
                ("atalaya-ca.pem", own.certificate()),
                ("server.pem", shown.certificate.clone()),
                ("server.key", shown.key.clone()),
                ("ca.pem", authority.certificate()),
            ] {
                let named = format!("/etc/mosquitto/certs/{named}");
                adapted = adapted.replace(&named, &file.display().to_string());
            }
            broker.write_file(name, &adapted);
        };
        adapt("base/base.conf");
        adapt("acl");
        let name = match by {
            By::Passwords => "passwords.conf",
            By::DynamicSecurity => "dynamic-security.conf",
        };
        adapt(name);
        for user in ["atalaya", "auditor", "1350509525", "vecino"] {
            set_password(&broker, user, PASSWORD);
        }
        if by == By::DynamicSecurity {
            let store = broker.folder().join("dynamic-security.json");
            let mut init = Command::new("mosquitto_ctrl");
            init.args(["dynsec", "init"])
                .arg(&store)
                .args(["admin", PASSWORD]);
            let made = run(init);
            assert_eq!(made.code, Some(0), "{made:?}");
        }
        broker.start_as(name, port);
        let atalaya = Atalaya::with_broker(&broker)
            .set("MQTT_BROKER_PORT", server_port)
            .set("MQTT_USERNAME", "atalaya")
            .set("MQTT_PASSWORD", PASSWORD)
            .set("MQTT_TLS", "on")
            .set("MQTT_CA_FILE", authority.certificate().display())
            .set("MQTT_CLIENT_CERT_FILE", client.certificate.display())
            .set("MQTT_CLIENT_KEY_FILE", client.key.display())
            .start()
            .await;
        let production = Self {
            by,
            broker,
            atalaya,
            authority,
            port,
        };
        if by == By::DynamicSecurity {
            production.synced();
            for (user, role) in [
                ("atalaya", "atalaya-servidor"),
                ("auditor", "atalaya-auditor"),
                ("vecino", "atalaya-suscriptor"),
            ] {
                production.control(&["createClient", user, "-p", PASSWORD]);
                production.control(&["addClientRole", user, role, "1"]);
            }
            production.control(&["createClient", "1350509525", "-p", PASSWORD]);
            production.control(&["createRole", "titular"]);
            let right = ["subscribeLiteral", "banco/saldo/1350509525", "allow"];
            production.control(&[&["addRoleACL", "titular"], &right[..]].concat());
            production.control(&["addClientRole", "1350509525", "titular", "1"]);
        }
        production.atalaya.listens().await;
        production
    }

    /// A device with a password at this broker.
    async fn enrol(&self, name: &str) -> (Device, String) {
        let client = self.atalaya.client();
        let device = Device::enrol(&client, name).await;
        let password = logins::new_password(&client, name).await;
        match self.by {
            By::Passwords => {
                set_password(&self.broker, name, &password);
                self.broker.reload();
            }
            By::DynamicSecurity => self.synced(),
        }
        (device, password)
    }

    fn synced(&self) {
        let ended = self.sync(&[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    fn sync(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
        command
            .current_dir(self.atalaya.folder())
            .env_clear()
            .env("MQTT_USERNAME", "admin")
            .env("MQTT_PASSWORD", PASSWORD)
            .envs(self.atalaya.database_setting())
            .args(["broker", "sync", "--port", &self.port.to_string()])
            .args(["--mqtt-tls", "on", "--mqtt-ca-file"])
            .arg(self.authority.certificate())
            .args(words);
        run(command)
    }

    fn control(&self, words: &[&str]) {
        let mut command = Command::new("mosquitto_ctrl");
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "--cafile"])
            .arg(self.authority.certificate())
            .args(["-u", "admin", "-P", PASSWORD, "dynsec"])
            .args(words);
        let ended = run(command);
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
    }

    /// A client over TLS on the port of devices and listeners.
    async fn join(&self, user: &str, password: &str, id: &str) -> Result<Guest, ConnectReturnCode> {
        let mut options = Guest::anonymous(self.port, id);
        let ca = self.authority.certificate();
        let config = tls::client(Some(("CA", &ca)), None).unwrap();
        options.set_credentials(user, password);
        options.set_transport(transport(&config));
        Guest::connect(options).await
    }
}

fn set_password(broker: &Mosquitto, user: &str, password: &str) {
    let file = broker.folder().join("passwords");
    let mut command = Command::new("mosquitto_passwd");
    if !file.exists() {
        command.arg("-c");
    }
    command.arg("-b").arg(&file).args([user, password]);
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

async fn everybody_keeps_to_their_own(by: By) {
    let production = Production::start(by).await;
    let client = production.atalaya.client();
    let (mut first, first_password) = production.enrol("boton-a").await;
    let (second, second_password) = production.enrol("boton-b").await;
    client.open_with("1350509525", "100.00").await;

    // A device speaks and hears for itself: the whole way, over TLS.
    let mut a = production
        .join("boton-a", &first_password, "boton-a")
        .await
        .unwrap();
    a.asks_for(&first.topic("respuesta")).await;
    let alert = first.alert("ROJO");
    assert_eq!(
        a.publish(&first.topic("alerta"), QoS::AtLeastOnce, false, &alert)
            .await,
        0
    );
    let reply = a.message().await;
    assert_eq!(reply.json()["estado"], "ACEPTADA");

    // And for nobody else, whatever it calls itself.
    let mut b = production
        .join("boton-b", &second_password, "boton-a")
        .await
        .unwrap();
    for topic in [
        first.topic("alerta"),
        first.topic("estado"),
        first.topic("respuesta"),
        second.topic("respuesta"),
        second.topic("comando"),
        "banco/depositos".to_owned(),
        "banco/saldo/1350509525".to_owned(),
        "atalaya/estado".to_owned(),
        "empresas/banco/alertas".to_owned(),
    ] {
        for retain in [false, true] {
            let reason = b.publish(&topic, QoS::AtLeastOnce, retain, "forged").await;
            assert_eq!(reason, REFUSED, "{topic}");
        }
    }
    // The owner of the client id is still there (fault 30).
    let again = first.alert("AZUL");
    assert_eq!(
        a.publish(&first.topic("alerta"), QoS::AtLeastOnce, false, &again)
            .await,
        0
    );
    assert_eq!(a.message().await.json()["estado"], "ACEPTADA");

    // What b may not read never comes, though everything is said while it listens.
    for filter in ["#", "banco/#", "banco/saldo/1350509525", "empresas/#"] {
        b.asks_for(filter).await;
    }
    b.asks_for(&first.topic("respuesta")).await;
    b.asks_for(&second.topic("estado")).await;
    b.asks_for(&second.topic("respuesta")).await;
    client.deposit("1350509525", "7.00", "seen").await;
    let third = first.alert("VERDE");
    a.publish(&first.topic("alerta"), QoS::AtLeastOnce, false, &third)
        .await;
    a.message().await;
    let marker = second.topic("alerta");
    b.publish(&marker, QoS::AtLeastOnce, false, MARKER).await;
    let heard = eventually_answered(&mut b).await;
    let own = second.topic("respuesta");
    for topic in &heard {
        let fine = *topic == own || topic == "banco/estadisticas" || topic == "atalaya/estado";
        assert!(fine, "{topic} is not for boton-b: {heard:?}");
    }

    // A balance is its owner's and the auditor's, and no other listener's.
    let topic = "banco/saldo/1350509525";
    for (user, sees) in [("1350509525", true), ("auditor", true), ("vecino", false)] {
        let mut listener = production.join(user, PASSWORD, user).await.unwrap();
        listener.asks_for(topic).await;
        let seen = listener.message_within(Duration::from_secs(1)).await;
        assert_eq!(seen.is_some_and(|m| m.topic == topic), sees, "{user}");
        let reason = listener.publish(topic, QoS::AtLeastOnce, true, "").await;
        assert_eq!(reason, REFUSED, "{user}");
    }
    let mut auditor = production
        .join("auditor", PASSWORD, "auditor")
        .await
        .unwrap();
    auditor.asks_for("banco/#").await;
    client.withdraw("1350509525", "50.00", "low").await;
    eventually_hears(&mut auditor, "banco/alertas").await;
    assert_eq!(
        production.join("boton-a", "guess", "boton-a").await.err(),
        Some(ConnectReturnCode::NotAuthorized)
    );
    // Nothing of ours was refused.
    let backlog = production.atalaya.metric("atalaya_outbox_backlog_entries");
    assert!(backlog.await.is_some_and(|waiting| waiting < 5.0));
    let log = production.atalaya.log();
    assert!(!log.contains("does not let us publish"), "{log}");
}

/// What a device hears until its nonsense is answered, which shows that all before it was said.
async fn eventually_answered(guest: &mut Guest) -> Vec<String> {
    let mut topics = Vec::new();
    loop {
        let message = guest.message().await;
        let is_reply = message.topic.ends_with("/respuesta");
        topics.push(message.topic);
        if is_reply {
            return topics;
        }
    }
}

async fn eventually_hears(guest: &mut Guest, topic: &str) {
    while guest.message().await.topic != topic {}
}

#[actix_web::test]
async fn with_passwords_and_rights_everybody_keeps_to_their_own() {
    everybody_keeps_to_their_own(By::Passwords).await;
}

#[actix_web::test]
async fn with_dynamic_security_everybody_keeps_to_their_own() {
    everybody_keeps_to_their_own(By::DynamicSecurity).await;
}

/// What is changed in the registry is brought to the broker, and what is not ours is left alone.
#[actix_web::test]
async fn the_plugin_follows_the_registry() {
    let production = Production::start(By::DynamicSecurity).await;
    let client = production.atalaya.client();
    create_place(&client, "banco", "norte").await;
    let (device, password) = production.enrol("boton-a").await;
    let nothing = production.sync(&[]);
    assert!(nothing.stdout.contains("Nada que cambiar"), "{nothing:?}");
    let mut a = production
        .join("boton-a", &password, "boton-a")
        .await
        .unwrap();
    a.asks_for(&device.topic("respuesta")).await;

    let path = "/api/v1/hardware/boton-a";
    client
        .changes(Method::PATCH, path, &json!({"activo": false}), 200)
        .await;
    let dry = production.sync(&["--dry-run"]);
    assert!(dry.stdout.contains("Serían 1 cambios"), "{dry:?}");
    assert!(
        production.join("boton-a", &password, "x").await.is_ok(),
        "a dry run changes nothing"
    );
    let mut a = production
        .join("boton-a", &password, "boton-a")
        .await
        .unwrap();
    production.synced();
    assert!(a.is_shown_out().await < Duration::from_secs(1));
    assert!(
        production
            .join("boton-a", &password, "boton-a")
            .await
            .is_err()
    );
    client
        .changes(Method::PATCH, path, &json!({"activo": true}), 200)
        .await;
    production.synced();
    assert!(
        production
            .join("boton-a", &password, "boton-a")
            .await
            .is_ok()
    );

    // A new password ends the old one.
    let renewed = logins::new_password(&client, "boton-a").await;
    production.synced();
    assert!(
        production
            .join("boton-a", &password, "boton-a")
            .await
            .is_err()
    );
    assert!(
        production
            .join("boton-a", &renewed, "boton-a")
            .await
            .is_ok()
    );
    let gone = client
        .bare(Method::DELETE, "/api/v1/hardware/boton-a/contrasena_mqtt")
        .await;
    assert_eq!(gone.status, 204);
    production.synced();
    assert!(
        production
            .join("boton-a", &renewed, "boton-a")
            .await
            .is_err()
    );
    // Whom somebody else has made is still there, and may what they might.
    assert!(
        production
            .join("auditor", PASSWORD, "auditor")
            .await
            .is_ok()
    );
    eventually("Atalaya is connected all the while", || async {
        let connected = production.atalaya.metric("atalaya_mqtt_connected").await?;
        (connected == 1.0).then_some(())
    })
    .await;

    let stranger = {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
        command
            .current_dir(production.atalaya.folder())
            .env_clear()
            .envs(production.atalaya.database_setting())
            .args(["broker", "sync", "--port", &production.port.to_string()])
            .args(["--mqtt-username", "auditor", "--mqtt-password", PASSWORD])
            .args(["--mqtt-tls", "on", "--mqtt-ca-file"])
            .arg(production.authority.certificate());
        run(command)
    };
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    assert!(stranger.stderr.contains("rol admin"), "{stranger:?}");
}
