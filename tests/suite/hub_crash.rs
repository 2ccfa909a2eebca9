//! Alerts on MQTT while either side is killed: what was answered is there, once.

use crate::support::device::Device;
use crate::support::patient::messages_of;
use crate::support::{Atalaya, Mosquitto, PatientDevice, Records, audit, eventually};
use futures_util::future::{join, join_all};
use std::cell::Cell;

/// Atalaya at `broker`, where a device may send as fast as the test can.
async fn unhurried(broker: &Mosquitto) -> Atalaya {
    Atalaya::with_broker(broker).without_haste().start().await
}

/// A device that has said something that was answered, and Atalaya killed and started again with
/// `failpoints`, listening and writing nothing.
#[cfg(feature = "failpoints")]
async fn about_to_fail(broker: &Mosquitto, failpoints: &str) -> (Atalaya, PatientDevice) {
    let mut atalaya = unhurried(broker).await;
    let button = Device::enrol(&atalaya.client(), "boton-1").await;
    let mut button = PatientDevice::connect(broker.port, button).await;
    atalaya.listens().await;
    let first = button.device.alert("AZUL");
    button.send(&first).await;
    assert_eq!(button.answered(&first).await["estado"], "ACEPTADA");
    // In good order, so that nothing is left for the next life to write.
    assert!(atalaya.terminate().await.success());
    atalaya.set("FAILPOINTS", failpoints);
    atalaya.start().await;
    atalaya.listens().await;
    assert!(!Records::of(&atalaya).is_being_written());
    (atalaya, button)
}

#[cfg(feature = "failpoints")]
#[actix_web::test]
async fn an_alert_is_acknowledged_to_the_broker_after_its_commit_only() {
    let broker = Mosquitto::start();
    let failpoints = "writer::before_commit=sleep(60000)";
    let (mut atalaya, mut button) = about_to_fail(&broker, failpoints).await;
    let records = Records::of(&atalaya);
    let message = button.device.alert("ROJO");
    button.send(&message).await;
    eventually("the alert is in an open transaction", || async {
        records.is_being_written().then_some(())
    })
    .await;
    atalaya.kill();
    assert_eq!(records.number("SELECT count(*) FROM alert_messages"), 1);
    assert!(button.answer_to(&message).is_none());
    atalaya.set("FAILPOINTS", "");
    atalaya.start().await;
    // Nobody sends it again but the broker.
    assert_eq!(button.answered(&message).await["estado"], "ACEPTADA");
    let last = button.device.alert("AZUL");
    button.send(&last).await;
    button.answered(&last).await;
    let all = button.answers();
    assert!(all.iter().all(|a| a["estado"] == "ACEPTADA"), "{all:?}");
    assert_eq!(all.len(), 3);
    assert_eq!(messages_of(&records).len(), 3);
    button.answers_are_in(&records);
    audit(&atalaya.database()).unwrap();
}

#[cfg(feature = "failpoints")]
#[actix_web::test]
async fn an_alert_that_was_committed_and_not_answered_is_answered_after_the_crash() {
    let broker = Mosquitto::start();
    let failpoints = "writer::after_commit=panic";
    let (mut atalaya, mut button) = about_to_fail(&broker, failpoints).await;
    let records = Records::of(&atalaya);
    let message = button.device.alert("ROJO");
    button.send(&message).await;
    assert!(!atalaya.wait().await.success());
    assert_eq!(messages_of(&records).len(), 2);
    assert!(button.answer_to(&message).is_none());
    atalaya.set("FAILPOINTS", "");
    atalaya.start().await;
    // Once from the journal, and once because the broker gives it again.
    for state in ["ACEPTADA", "DUPLICADA"] {
        eventually(state, || async {
            let answers = button.answers();
            let seq = button.device.seq;
            answers
                .iter()
                .any(|a| a["seq"] == seq && a["estado"] == state)
                .then_some(())
        })
        .await;
    }
    assert_eq!(messages_of(&records).len(), 2);
    button.answers_are_in(&records);
    audit(&atalaya.database()).unwrap();
}

#[cfg(feature = "failpoints")]
#[actix_web::test]
async fn what_the_validator_has_no_room_for_is_held_until_there_is() {
    use crate::support::hub::assert_refused;
    let broker = Mosquitto::start();
    // Ten alerts and their first eight tries: some two seconds and a half.
    let failpoints = "validator::submit=82*return->off";
    let mut atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    let button = Device::enrol(&client, "boton-1").await;
    let mut other = Device::enrol(&client, "boton-2").await;
    atalaya.kill();
    atalaya.set("FAILPOINTS", failpoints);
    atalaya.start().await;
    let mut button = PatientDevice::connect(broker.port, button).await;
    atalaya.listens().await;
    let rest = other.alert("ROJO");
    let answer = client.submit(&rest).await;
    assert_refused(&answer, 503, "sobrecarga", "no room");
    assert!(answer.header("retry-after").is_some());
    let messages: Vec<String> = (0..10).map(|_| button.device.alert("ROJO")).collect();
    for message in &messages {
        button.send(message).await;
    }
    let answer = client.submit(&rest).await;
    assert_refused(&answer, 503, "sobrecarga", "no room while some are held");
    for message in &messages {
        assert_eq!(button.answered(message).await["estado"], "ACEPTADA");
    }
    client.accepts(&rest).await;
    assert_eq!(button.answers().len(), 10);
    assert_eq!(messages_of(&Records::of(&atalaya)).len(), 11);
    audit(&atalaya.database()).unwrap();
}

const DEVICES: usize = 5;
const EACH: usize = 80;

/// Devices at `port`, each with its messages.
async fn fleet(atalaya: &Atalaya, port: u16) -> Vec<(PatientDevice, Vec<String>)> {
    let client = atalaya.client();
    let mut fleet = Vec::new();
    for n in 1..=DEVICES {
        let mut device = Device::enrol(&client, &format!("boton-{n}")).await;
        let messages = (0..EACH)
            .map(|m| device.alert(["ROJO", "AZUL", "VERDE"][m % 3]))
            .collect();
        fleet.push((PatientDevice::connect(port, device).await, messages));
    }
    fleet
}

async fn answered(count: &Cell<usize>, enough: usize) {
    eventually("alerts are answered", || async {
        (count.get() >= enough).then_some(())
    })
    .await;
}

/// Each message is there once, and its device knows its alert.
fn all_are_there(atalaya: &Atalaya, fleet: &[(PatientDevice, Vec<String>)]) {
    let records = Records::of(atalaya);
    assert_eq!(messages_of(&records).len(), DEVICES * EACH);
    for (device, messages) in fleet {
        device.answers_are_in(&records);
        assert!(messages.iter().all(|m| device.answer_to(m).is_some()));
    }
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn each_alert_is_taken_once_though_both_sides_are_killed() {
    let mut broker = Mosquitto::start();
    let mut atalaya = unhurried(&broker).await;
    let fleet = fleet(&atalaya, broker.port).await;
    let count = Cell::new(0);
    let load = join_all(fleet.iter().map(|(device, all)| device.insist(all, &count)));
    let kills = async {
        answered(&count, 20).await;
        atalaya.kill();
        atalaya.start().await;
        answered(&count, 60).await;
        broker.kill();
        broker.restart();
        answered(&count, 170).await;
        broker.kill();
        atalaya.kill();
        broker.forget();
        broker.restart();
        atalaya.start().await;
    };
    join(load, kills).await;
    all_are_there(&atalaya, &fleet);
}

#[actix_web::test]
async fn sigterm_while_alerts_flow_loses_nothing_that_was_answered() {
    let broker = Mosquitto::start();
    let mut atalaya = unhurried(&broker).await;
    let fleet = fleet(&atalaya, broker.port).await;
    let count = Cell::new(0);
    let load = join_all(fleet.iter().map(|(device, all)| device.insist(all, &count)));
    let ends = async {
        answered(&count, 30).await;
        let status = atalaya.terminate().await;
        assert!(status.success(), "{status}");
        let records = Records::of(&atalaya);
        for (device, _) in &fleet {
            device.answers_are_in(&records);
        }
        assert!(
            messages_of(&records).len() < DEVICES * EACH,
            "it came too late"
        );
        atalaya.start().await;
    };
    join(load, ends).await;
    all_are_there(&atalaya, &fleet);
}
