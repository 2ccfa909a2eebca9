//! The alert hub from end to end: a device, a broker, a database, people.

use crate::support::device::{Device, fingerprint, register};
use crate::support::{Atalaya, Mosquitto, Subscriber};
use serde_json::json;

#[actix_web::test]
async fn an_alert_is_answered_drives_the_site_and_is_followed_to_its_end() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let subscriber = Subscriber::to(broker.port, &["empresas/#"]).await;

    let message = button.alert("ROJO");
    subscriber
        .publish(&button.topic("alerta"), false, &message)
        .await;
    let reply = button.topic("respuesta");
    let reply = subscriber.wait_for("the reply", |m| m.topic == reply).await;
    let reply = reply.json();
    assert_eq!(reply["estado"], "ACEPTADA");
    assert_eq!(reply["huella"], fingerprint(message.as_bytes()));
    let alert = reply["alerta_id"].as_str().unwrap().to_owned();

    let command = "empresas/banco/principal/luz-1/comando";
    let command = subscriber
        .wait_for("the light's order", |m| m.topic == command)
        .await
        .json();
    assert_eq!(command["alerta_id"], alert.as_str());
    assert_eq!(command["tipo_alarma"], "ROJO");
    assert_eq!(command["color"], "ROJO");

    for (step, state) in [("reconocer", "RECONOCIDA"), ("resolver", "RESUELTA")] {
        let path = format!("/api/v1/alertas/{alert}/{step}");
        let answer = client.post(&path, None, &json!({})).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["estado"], state);
    }
    subscriber
        .wait_for("all is normal again", |m| {
            m.topic.ends_with("luz-1/comando") && m.json()["tipo_alarma"] == "NORMAL"
        })
        .await;
    let detail = client.json(&format!("/api/v1/alertas/{alert}")).await;
    let steps: Vec<&str> = detail["historia"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["cambio"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["RESUELTA", "RECONOCIDA", "CREADA"]);
}

#[actix_web::test]
async fn a_less_urgent_alert_waits_for_the_hardware_that_a_more_urgent_one_has() {
    let broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    let mut robbed = Device::enrol(&client, "boton-1").await;
    let mut helped = Device::enrol(&client, "boton-2").await;
    register(&client, "banco", "principal", "luz-1", "SEMAFORO").await;
    let topic = "empresas/banco/principal/luz-1/comando";
    let light = Subscriber::to(broker.port, &[topic, "empresas/banco/alertas"]).await;
    let colours = || -> Vec<String> {
        let told = light.on(topic);
        told.iter()
            .map(|m| m.json()["tipo_alarma"].as_str().unwrap().to_owned())
            .collect()
    };

    let robbery = client.submit(&robbed.alert("ROJO")).await.json();
    let help = client.submit(&helped.alert("VERDE")).await.json();
    light
        .wait_for("news of the second", |m| {
            m.json()["alerta_id"] == help["alerta_id"] && m.topic.ends_with("alertas")
        })
        .await;
    assert_eq!(colours(), ["ROJO"]);

    // What is held is not forgotten when the process is.
    atalaya.kill();
    atalaya.start().await;
    let resolve = format!(
        "/api/v1/alertas/{}/resolver",
        robbery["alerta_id"].as_str().unwrap()
    );
    let resolved = client.post(&resolve, None, &json!({})).await.unwrap();
    assert_eq!(resolved.status, 200, "{}", resolved.text());
    light
        .wait_for("the light is given to the other", |m| {
            m.topic == topic && m.json()["tipo_alarma"] == "VERDE"
        })
        .await;
    let told = light.on(topic).pop().unwrap().json();
    assert_eq!(told["alerta_id"], help["alerta_id"]);
}
