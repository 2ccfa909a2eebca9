//! What the alert hub does at its limits: buttons that are pressed on and on, strangers in crowds,
//! devices that come back.

use crate::support::device::Device;
use crate::support::{Atalaya, Records, eventually};
use awc::http::Method;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

#[actix_web::test]
async fn a_button_that_is_pressed_on_and_on_is_heard_again_after_its_alert_is_closed() {
    let atalaya = Atalaya::without_mqtt()
        .set("ALERT_BOUNCE_MS", 1_500)
        .set("DEVICE_RATE", 1_000)
        .set("DEVICE_BURST", 1_000)
        .start()
        .await;
    let client = atalaya.client();
    let mut button = Device::enrol(&client, "boton-1").await;
    let first = client.accepts(&button.alert("ROJO")).await;
    let body = json!({"motivo": "falsa alarma"});
    assert_eq!(client.step(&first, "descartar", &body).await.status, 200);
    let bounced = client.accepts(&button.alert("ROJO")).await;
    assert_eq!(bounced, first, "a bounce is no new alert");
    // Somebody is in danger and keeps pressing, always sooner than a bounce takes.
    let mut messages: Vec<String> = (0..2_000).map(|_| button.alert("ROJO")).collect();
    messages.reverse();
    let messages = std::cell::RefCell::new(messages);
    eventually("the presses are an alert of their own", || async {
        let message = messages.borrow_mut().pop().expect("enough presses");
        (client.accepts(&message).await != first).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn strangers_in_crowds_are_counted_and_not_all_kept() {
    const CROWD: usize = 2_000;
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    for crowd in (0..CROWD).collect::<Vec<_>>().chunks(100) {
        let sent = crowd.iter().map(|n| {
            let client = client.clone();
            async move { client.submit(&format!("nobody-{n}")).await.status }
        });
        assert!(join_all(sent).await.iter().all(|status| *status == 422));
    }
    let counted = "atalaya_device_messages_total{reason=\"FORMA\",result=\"rejected\"}";
    let rejected = atalaya.metric(counted).await.unwrap();
    assert!((rejected - 2_000.0).abs() < 0.5, "{rejected}");
    let log = atalaya.log();
    let told = log
        .lines()
        .filter(|line| line.contains("RECHAZADA"))
        .count();
    assert!((1..CROWD).contains(&told), "{told} lines in the log");
    let kept = Records::of(&atalaya).number("SELECT count(*) FROM quarantine");
    assert!((1..2_000).contains(&kept), "{kept} kept");
}

#[actix_web::test]
async fn a_device_that_is_switched_on_again_has_its_full_time() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let kind = json!({"silencio_segundos": 2});
    client
        .changes(Method::PUT, "/api/v1/tipos_hardware/BOTONERA", &kind, 200)
        .await;
    let mut button = Device::enrol(&client, "boton-1").await;
    client.accepts(&button.alert("VERDE")).await;
    let switch = |on: bool| {
        let client = client.clone();
        async move {
            let body = json!({ "activa": on });
            client
                .changes(Method::PATCH, "/api/v1/empresas/banco", &body, 200)
                .await;
        }
    };
    switch(false).await;
    let heard = client.json("/api/v1/hardware/boton-1").await["ultima_senal"].clone();
    let heard: Timestamp = heard.as_str().unwrap().parse().unwrap();
    let silence = SignedDuration::from_secs(2);
    eventually("its time would be over, were it on", || async {
        (Timestamp::now() > heard + silence * 2).then_some(())
    })
    .await;
    let on_again = Timestamp::now();
    switch(true).await;
    let raised = eventually("it is silent", || async {
        let filter = "/api/v1/alertas?tipo_alarma=DISPOSITIVO_SILENCIOSO";
        let alerts = client.json(filter).await;
        let raised = alerts["datos"][0]["creada"].as_str()?;
        raised.parse::<Timestamp>().ok()
    })
    .await;
    assert!(raised >= on_again + silence, "{raised} after {on_again}");
}
