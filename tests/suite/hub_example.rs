//! What people are shown first: the example in Python and the device commands, as real programs
//! against a real broker.

use crate::support::device::register;
use crate::support::{Atalaya, Mosquitto, access, eventually, run};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const LIGHT: &str = "empresas/banco/principal/luz-1/comando";

/// For firmware authors to read in one go.
#[test]
fn the_example_is_short() {
    let lines = include_str!("../../examples/device.py").lines().count();
    assert!(lines < 60, "{lines} lines");
}

#[actix_web::test]
async fn the_example_and_the_device_commands_raise_alerts() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let orders = Orders::listen(&atalaya, &broker).await;

    let file = atalaya.folder().join("boton-1.json");
    let mut enrol = device(&atalaya, &broker, &["enrol", "boton-1", "--out"]);
    enrol.arg(&file);
    let enrolled = run(enrol);
    assert_eq!(enrolled.code, Some(0), "{enrolled:?}");

    // The example prints its reply and leaves.
    let mut example = Command::new(at_top("target/python/bin/python3"));
    example
        .arg(at_top("examples/device.py"))
        .arg(&file)
        .args(["ROJO", "--port", &broker.port.to_string()])
        .env_clear();
    let said = run(example);
    assert_eq!(said.code, Some(0), "{said:?}");
    let reply = said
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("empresas/banco/principal/boton-1/respuesta "))
        .unwrap_or_else(|| panic!("{said:?}"));
    let reply: Value = serde_json::from_str(reply).unwrap();
    assert_eq!(reply["estado"], "ACEPTADA");
    let id = reply["alerta_id"].as_str().unwrap();
    let alert = client.alert(id).await;
    assert_eq!(
        (&alert["estado"], &alert["tipo_alarma"], &alert["hardware"]),
        (&json!("NUEVA"), &json!("ROJO"), &json!("boton-1"))
    );

    // A client that is not ours sees the light's orders: red, and normal once it is over.
    let on = orders.wait_for("the light goes red", "ROJO").await;
    assert_eq!(on["alerta_id"], id);
    for step in ["reconocer", "resolver"] {
        let answer = client.step(id, step, &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let off = orders.wait_for("the light goes back", "NORMAL").await;
    assert_eq!(off["alerta_id"], id);

    // The same credentials, which the example has counted on, serve the command.
    let mut send = device(&atalaya, &broker, &["send"]);
    send.arg(&file).arg("AMARILLO");
    let sent = run(send);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(sent.stdout.contains("ACEPTADA"), "{sent:?}");
    assert_eq!(client.count_alerts().await, 2);
}

#[actix_web::test]
async fn a_simulation_is_answered_and_its_impostors_are_not_believed() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    let scenario = atalaya.folder().join("scenario.toml");
    let impostor = |name: &str, company: &str, forgery: &str| {
        format!(
            "[[dispositivos]]\nhardware = \"{name}\"\nempresa = \"{company}\"\nsede = \"norte\"\n\
             {forgery}\nestado = false\n\
             pulsar = [{{ tipo_alarma = \"ROJO\", cada = \"100ms\", veces = 3 }}]\n"
        )
    };
    let text = [
        "nombre = \"small\"\n[enrolar]\ncrear = true\n\
         [[dispositivos]]\nhardware = \"boton-{n}\"\ncantidad = 2\nempresa = \"acme\"\n\
         sede = \"norte\"\n\
         pulsar = [{ tipo_alarma = \"ROJO\", cada = \"100ms\", veces = 4 }]\n\
         rebotar = [{ tipo_alarma = \"VERDE\", pulsos = 5, en = \"50ms\" }]\n"
            .to_owned(),
        impostor("intruso", "acme", "forjado = \"clave_desconocida\""),
        impostor("despedido", "acme", "forjado = \"clave_revocada\""),
        impostor(
            "vecino",
            "vecina",
            "forjado = \"empresa_ajena\"\nfinge = \"acme/norte/boton-1\"",
        ),
    ];
    std::fs::write(&scenario, text.concat()).unwrap();
    let mut simulate = device(&atalaya, &broker, &["simulate", "--json"]);
    simulate
        .arg(&scenario)
        .arg("--credenciales")
        .arg(atalaya.folder().join("credentials"));
    let played = run(simulate);
    assert_eq!(played.code, Some(0), "{played:?}");
    let summary: Value = serde_json::from_str(&played.stdout).unwrap();
    assert_eq!(
        summary["alerta"],
        json!({"distintas": 18, "aceptadas": 18, "duplicadas": 0, "rechazadas": {}, "sin_respuesta": 0})
    );
    let forged = &summary["forjada"];
    assert_eq!(
        (
            &forged["distintas"],
            &forged["aceptadas"],
            &forged["duplicadas"]
        ),
        (&json!(9), &json!(0), &json!(0)),
        "{forged}"
    );
    let rejected = "atalaya_device_messages_total{reason=\"IDENTIDAD\",result=\"rejected\"}";
    let count = atalaya.metric(rejected).await;
    assert_eq!(count, Some(9.0), "each of them was refused");
    let alerts = client.walk("/api/v1/alertas", "", 200).await;
    for alert in &alerts {
        assert!(alert["hardware"].as_str().unwrap().starts_with("boton-"));
    }
    let messages: i64 = alerts
        .iter()
        .filter_map(|a| a["repeticiones"].as_i64())
        .sum();
    assert_eq!(messages, 18);
}

fn at_top(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{}: tests/run makes it", path.display());
    path
}

/// `atalaya device …` that talks to this server and this broker.
fn device(atalaya: &Atalaya, broker: &Mosquitto, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
    command
        .current_dir(atalaya.folder())
        .env_clear()
        .env("ATALAYA_URL", atalaya.client().base())
        // Scenarios make companies, which is an admin's.
        .env("ATALAYA_TOKEN", access::ADMIN_TOKEN)
        .env("MQTT_BROKER_HOST", "127.0.0.1")
        .env("MQTT_BROKER_PORT", broker.port.to_string())
        .arg("device")
        .args(words);
    command
}

/// What `mosquitto_sub` hears of the light's orders.
struct Orders {
    child: Child,
    heard: PathBuf,
}

impl Orders {
    /// Starts it; returns once it hears.
    async fn listen(atalaya: &Atalaya, broker: &Mosquitto) -> Self {
        let port = broker.port.to_string();
        // It has what is retained as soon as it is subscribed.
        let mut mark = Command::new("mosquitto_pub");
        mark.args(["-p", &port, "-r", "-q", "1", "-t", "mark", "-m", "{}"]);
        let marked = run(mark);
        assert_eq!(marked.code, Some(0), "{marked:?}");
        let heard = atalaya.folder().join("orders");
        let child = Command::new("mosquitto_sub")
            .args(["-p", &port, "-q", "1", "-t", LIGHT, "-t", "mark"])
            .args(["-F", "%p"])
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&heard).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub (tests/run installs it)");
        let orders = Self { child, heard };
        eventually("mosquitto_sub listens", || async {
            orders.all().contains(&json!({})).then_some(())
        })
        .await;
        orders
    }

    fn all(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.heard).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }

    /// Waits for an order for this kind of alert.
    async fn wait_for(&self, what: &str, kind: &str) -> Value {
        eventually(what, || async {
            let mut all = self.all().into_iter();
            all.find(|order| order["tipo_alarma"] == kind)
        })
        .await
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
