//! What reaches the broker: the promised messages, whatever happens to either side.

use crate::support::checks::{
    all_arrived, backlog_drains, cents, marker_catches_up, retained_balances_are_right,
    versions_rise_by_one,
};
use crate::support::client::raw_field;
use crate::support::{Atalaya, Message, Mosquitto, Records, Subscriber, eventually};
use futures_util::future::join_all;
use std::collections::HashSet;
use std::time::Instant;

// --- the contract -------------------------------------------------------------------------------

#[actix_web::test]
async fn a_deposit_is_published_as_promised() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    let client = atalaya.client();
    client.open_with("1350509525", "1000").await;
    let answer = client.deposit("1350509525", "150", "d").await.text();
    let (at, tx) = (field(&answer, "timestamp"), field(&answer, "tx_id"));
    let transaction = format!(
        r#"{{"cedula":"1350509525","tipo":"DEPOSITO","monto":150.00,"saldo_nuevo":1150.00,"timestamp":"{at}","tx_id":"{tx}","version":2}}"#
    );
    let balance = format!(
        r#"{{"cedula":"1350509525","saldo_nuevo":1150.00,"saldo_anterior":1000.00,"timestamp":"{at}","tx_id":"{tx}","version":2}}"#
    );
    assert_eq!(answer, transaction);
    assert_eq!(
        messages_of(&bank, &tx, 3).await,
        [
            told("banco/transacciones", 1, &transaction),
            told("banco/depositos", 1, &transaction),
            told("banco/saldo/1350509525", 1, &balance),
        ]
    );
    assert_eq!(
        retained(broker.port, "banco/#", 1).await,
        [kept("banco/saldo/1350509525", 1, &balance)]
    );
}

/// What has no message of its own is no backlog: it would grow for ever where people sign in and
/// nobody moves money.
#[actix_web::test]
async fn what_is_not_published_is_no_backlog() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    for index in 0..5 {
        let body = serde_json::json!({"usuario": format!("u{index}")});
        let made = client.changes(awc::http::Method::POST, "/api/v1/usuarios", &body, 201);
        made.await;
    }
    eventually("nothing waits", || async {
        let head = atalaya.metric("atalaya_journal_head").await?;
        let backlog = atalaya.metric("atalaya_outbox_backlog_entries").await?;
        (head >= 5.0 && backlog == 0.0).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_withdrawal_is_published_as_promised() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    let client = atalaya.client();
    client.open_with("1", "200.50").await;
    let answer = client.withdraw("1", "0.50", "w").await.text();
    let (at, tx) = (field(&answer, "timestamp"), field(&answer, "tx_id"));
    let transaction = format!(
        r#"{{"cedula":"1","tipo":"RETIRO","monto":0.50,"saldo_nuevo":200.00,"timestamp":"{at}","tx_id":"{tx}","version":2}}"#
    );
    let balance = format!(
        r#"{{"cedula":"1","saldo_nuevo":200.00,"saldo_anterior":200.50,"timestamp":"{at}","tx_id":"{tx}","version":2}}"#
    );
    assert_eq!(answer, transaction);
    assert_eq!(
        messages_of(&bank, &tx, 3).await,
        [
            told("banco/transacciones", 1, &transaction),
            told("banco/retiros", 1, &transaction),
            told("banco/saldo/1", 1, &balance),
        ]
    );
    assert_eq!(
        retained(broker.port, "banco/#", 1).await,
        [kept("banco/saldo/1", 1, &balance)]
    );
}

#[actix_web::test]
async fn a_transfer_is_published_as_promised() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    let client = atalaya.client();
    client.open_with("1", "1000").await;
    client.open_with("2", "100").await;
    let answer = client.transfer("1", "2", "990", "t").await.text();
    let (at, tx) = (field(&answer, "timestamp"), field(&answer, "tx_id"));
    let transfer = format!(
        r#"{{"cedula_origen":"1","cedula_destino":"2","monto":990.00,"saldo_origen":10.00,"saldo_destino":1090.00,"timestamp":"{at}","tx_id":"{tx}","version_origen":2,"version_destino":2}}"#
    );
    let from = format!(
        r#"{{"cedula":"1","saldo_nuevo":10.00,"saldo_anterior":1000.00,"timestamp":"{at}","tx_id":"{tx}","version":2}}"#
    );
    let to = format!(
        r#"{{"cedula":"2","saldo_nuevo":1090.00,"saldo_anterior":100.00,"timestamp":"{at}","tx_id":"{tx}","version":2}}"#
    );
    assert_eq!(answer, transfer);
    assert_eq!(client.deposit("2", "1", "last").await.status, 201);
    let last = bank.wait_for("the deposit behind it", |m| {
        m.topic == "banco/saldo/2" && m.text().contains(r#""version":3"#)
    });
    last.await;
    // And nothing else: a transfer that leaves little is no withdrawal, so there is no alert.
    assert_eq!(
        messages_of(&bank, &tx, 3).await,
        [
            told("banco/transferencias", 1, &transfer),
            told("banco/saldo/1", 1, &from),
            told("banco/saldo/2", 1, &to),
        ]
    );
    let kept_now = retained(broker.port, "banco/#", 2).await;
    assert!(
        kept_now.contains(&kept("banco/saldo/1", 1, &from)),
        "{kept_now:?}"
    );
    assert_eq!(kept_now.len(), 2, "{kept_now:?}");
}

#[actix_web::test]
async fn only_a_withdrawal_to_less_than_the_threshold_raises_an_alert() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    let client = atalaya.client();
    let mut alerts = Vec::new();
    for (account, left) in [
        ("1", "100.01"),
        ("2", "100.00"),
        ("3", "99.99"),
        ("4", "0.00"),
    ] {
        client.open_with(account, "300.00").await;
        let cents: i64 = 30_000 - cents(left);
        let amount = format!("{}.{:02}", cents / 100, cents % 100);
        let answer = client
            .withdraw(account, &amount, &format!("w{account}"))
            .await
            .text();
        assert_eq!(raw_field(&answer, "saldo_nuevo"), left);
        let (at, tx) = (field(&answer, "timestamp"), field(&answer, "tx_id"));
        alerts.push(told(
            "banco/alertas",
            2,
            &format!(
                r#"{{"type":"LOW_BALANCE","message":"Saldo bajo: ${left}","cedula":"{account}","data":{{"saldo":{left}}},"timestamp":"{at}","tx_id":"{tx}"}}"#
            ),
        ));
    }
    // A deposit that leaves little is good news.
    client.open_with("5", "1.00").await;
    bank.wait_for("the last deposit", |m| m.topic == "banco/saldo/5")
        .await;
    eventually("two alerts", || async {
        (bank.on("banco/alertas").len() >= 2).then_some(())
    })
    .await;
    assert_eq!(bank.on("banco/alertas"), alerts[2..]);
}

#[actix_web::test]
async fn statistics_are_published_when_asked_for_and_retained() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let live = Subscriber::to(broker.port, &["banco/estadisticas"]).await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    client.open("2").await;
    assert_eq!(client.transfer("1", "2", "4.00", "t").await.status, 201);
    let asked = Instant::now();
    for _ in 0..20 {
        let answer = client.get("/api/v1/estadisticas").await.unwrap();
        assert_eq!(answer.json()["total_transacciones"], 3);
    }
    let asking = asked.elapsed();
    let message = live
        .wait_for("statistics with three postings", |m| {
            m.json()["total_transacciones"] == 3
        })
        .await;
    let at = field(&message.text(), "timestamp");
    let expected = format!(
        r#"{{"clientes_conectados":0,"total_transacciones":3,"ips_activas":0,"timestamp":"{at}"}}"#
    );
    assert_eq!(message.text(), expected);
    assert_eq!((message.qos, message.retain), (0, false));
    let most = 3 + usize::try_from(asking.as_secs()).unwrap();
    assert!(live.all().len() <= most, "{:?}", live.all());
    let late = retained(broker.port, "banco/estadisticas", 1).await;
    assert_eq!((late[0].qos, late[0].retain), (0, true));
    assert_eq!(late[0].json()["total_transacciones"], 3);
}

#[actix_web::test]
async fn presence_follows_start_kill_and_shutdown() {
    let broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker).start().await;
    let presence = Subscriber::to(broker.port, &["atalaya/estado"]).await;
    let states = || {
        let states = presence.all().into_iter();
        states
            .map(|m| m.json()["estado"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let after = |count: usize, what: &'static str| {
        let states = &states;
        async move { eventually(what, || async { (states().len() >= count).then_some(()) }).await }
    };
    after(1, "online").await;
    let first = presence.all()[0].json();
    assert_eq!(first["nodo"], "atalaya-1");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert!(first["timestamp"].as_str().unwrap().ends_with('Z'));
    atalaya.kill();
    after(2, "the broker says so by the will").await;
    atalaya.start().await;
    after(3, "online again").await;
    let status = atalaya.terminate().await;
    assert!(status.success(), "{status}");
    after(4, "goodbye").await;
    assert_eq!(
        states(),
        ["en_linea", "fuera_de_linea", "en_linea", "fuera_de_linea"]
    );
    let late = retained(broker.port, "atalaya/estado", 1).await;
    assert_eq!((late[0].qos, late[0].retain), (1, true));
    assert_eq!(late[0].json()["estado"], "fuera_de_linea");
}

// --- outages of the broker ----------------------------------------------------------------------

#[actix_web::test]
async fn money_goes_on_without_the_broker_and_the_backlog_follows_in_order() {
    let mut broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    let client = atalaya.client();
    let accounts = ["1", "2", "3"];
    for account in accounts {
        client.open_with(account, "500.00").await;
    }
    all_arrived(&bank, &atalaya).await;
    broker.stop();
    for n in 0..10 {
        let tries = accounts.map(|account| {
            let client = client.clone();
            async move {
                client
                    .withdraw(account, "1.00", &format!("{account}-{n}"))
                    .await
                    .status
            }
        });
        assert_eq!(join_all(tries).await, [201; 3]);
    }
    assert_eq!(client.transfer("1", "2", "5.00", "t").await.status, 201);
    assert_eq!(client.get("/readyz").await.unwrap().status, 200);
    let backlog = atalaya.metric("atalaya_outbox_backlog_entries").await;
    assert!(backlog >= Some(32.0), "{backlog:?}");
    eventually("the metric says that the broker is away", || async {
        (atalaya.metric("atalaya_mqtt_connected").await? == 0.0).then_some(())
    })
    .await;
    broker.restart();
    all_arrived(&bank, &atalaya).await;
    versions_rise_by_one(&bank.all());
    retained_balances_are_right(broker.port, &atalaya).await;
    backlog_drains(&atalaya).await;
}

#[actix_web::test]
async fn a_broker_that_has_forgotten_everything_gets_all_balances_again() {
    let mut broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    // More than the repair takes in one step.
    let accounts: Vec<String> = (1..=130).map(|n| n.to_string()).collect();
    join_all(
        accounts
            .iter()
            .map(|account| client.open_with(account, "10.00")),
    )
    .await;
    backlog_drains(&atalaya).await;
    broker.kill();
    broker.forget();
    assert_eq!(client.deposit("7", "1.00", "while-away").await.status, 201);
    broker.restart();
    retained_balances_are_right(broker.port, &atalaya).await;
    marker_catches_up(broker.port, &atalaya).await;
}

#[actix_web::test]
async fn a_broker_that_has_forgotten_the_last_minutes_gets_what_has_changed_since() {
    let mut broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    let accounts: Vec<String> = (1..=60).map(|n| n.to_string()).collect();
    join_all(
        accounts
            .iter()
            .map(|account| client.open_with(account, "10.00")),
    )
    .await;
    backlog_drains(&atalaya).await;
    marker_catches_up(broker.port, &atalaya).await;
    let balances = Subscriber::to(broker.port, &["banco/saldo/#"]).await;
    eventually("what is retained", || async {
        (balances.all().len() >= 60).then_some(())
    })
    .await;
    broker.stop();
    let memory = broker.memory();
    broker.restart();
    for n in 0..3 {
        let answer = client.deposit("7", "1.00", &format!("d{n}")).await;
        assert_eq!(answer.status, 201);
    }
    backlog_drains(&atalaya).await;
    marker_catches_up(broker.port, &atalaya).await;
    broker.kill();
    broker.remember(&memory);
    broker.restart();
    retained_balances_are_right(broker.port, &atalaya).await;
    marker_catches_up(broker.port, &atalaya).await;
    // The subscriber subscribes anew, which shows it what is retained: that is no republication.
    let live = balances.all().into_iter().filter(|m| !m.retain).count();
    assert!((3..=15).contains(&live), "{live} balances published");
}

#[actix_web::test]
async fn the_ledger_goes_on_while_the_broker_is_frozen() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    let client = atalaya.client();
    client.open_with("1", "500.00").await;
    all_arrived(&bank, &atalaya).await;
    broker.freeze();
    let tries = (0..200).map(|n| {
        let client = client.clone();
        async move { client.deposit("1", "1.00", &format!("d{n}")).await.status }
    });
    assert!(join_all(tries).await.iter().all(|status| *status == 201));
    eventually("the lag rises", || async {
        (atalaya.metric("atalaya_outbox_lag_seconds").await? > 1.0).then_some(())
    })
    .await;
    let backlog = atalaya.metric("atalaya_outbox_backlog_entries").await;
    assert_eq!(backlog, Some(200.0));
    assert_eq!(client.get("/readyz").await.unwrap().status, 200);
    broker.resume();
    all_arrived(&bank, &atalaya).await;
    versions_rise_by_one(&bank.all());
    backlog_drains(&atalaya).await;
    assert_eq!(
        atalaya.metric("atalaya_outbox_lag_seconds").await,
        Some(0.0)
    );
}

// --- crashes of ours ----------------------------------------------------------------------------

#[actix_web::test]
async fn what_was_committed_and_not_published_follows_after_a_crash() {
    let broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker).start().await;
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    let client = atalaya.client();
    client.open_with("1", "500.00").await;
    all_arrived(&bank, &atalaya).await;
    // The outbox has stored what it knows by now, so the next start would not repeat it.
    marker_catches_up(broker.port, &atalaya).await;
    broker.freeze();
    let answer = client.withdraw("1", "450.00", "w").await;
    assert_eq!(answer.status, 201);
    // Time enough to store a position that would be ahead of the broker.
    eventually("the withdrawal waits", || async {
        (atalaya.metric("atalaya_outbox_lag_seconds").await? > 0.5).then_some(())
    })
    .await;
    atalaya.kill();
    broker.resume();
    atalaya.start().await;
    let tx = field(&answer.text(), "tx_id");
    let expected: HashSet<String> = [
        "banco/transacciones",
        "banco/retiros",
        "banco/saldo/1",
        "banco/alertas",
    ]
    .map(str::to_owned)
    .into();
    eventually("all its messages", || async {
        let topics: HashSet<String> = of_transaction(&bank, &tx).map(|m| m.topic).collect();
        (topics == expected).then_some(())
    })
    .await;
    retained_balances_are_right(broker.port, &atalaya).await;
}

#[cfg(feature = "failpoints")]
#[actix_web::test]
async fn what_was_published_and_not_marked_is_published_again_with_the_same_tx_id() {
    let broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker)
        .set("FAILPOINTS", "publisher::before_store=return")
        .start()
        .await;
    let bank = Subscriber::to(broker.port, &["banco/depositos", "banco/saldo/+"]).await;
    let client = atalaya.client();
    client.open("1").await;
    let answer = client.deposit("1", "5.00", "d").await.text();
    backlog_drains(&atalaya).await;
    // The broker has it; the subscriber gets it when it is its turn.
    let published = |m: &Message| m.topic == "banco/depositos";
    bank.wait_for("the deposit", published).await;
    atalaya.kill();
    let first = bank.on("banco/depositos");
    assert_eq!(first.len(), 1);
    atalaya.set("FAILPOINTS", "");
    atalaya.start().await;
    eventually("the deposit again", || async {
        (bank.on("banco/depositos").len() >= 2).then_some(())
    })
    .await;
    let again = bank.on("banco/depositos");
    assert_eq!(again[1], first[0]);
    assert_eq!(again[1].text(), answer);
    marker_catches_up(broker.port, &atalaya).await;
    versions_rise_by_one(&bank.all());
}

// --- a broker that refuses ----------------------------------------------------------------------

/// Takes the publisher's pause of 15 s, since a person has to mend rights.
#[actix_web::test]
async fn a_refused_authorisation_pauses_and_shouts_and_loses_nothing() {
    let mut broker = Mosquitto::start();
    broker.stop();
    let passwords = password_file(&broker, "atalaya", "secreta");
    let rights = "topic read #\nuser atalaya\ntopic readwrite atalaya/#\n";
    let rights_file = broker.write_file("rights", rights);
    broker.configure(&format!(
        "allow_anonymous true\npassword_file {passwords}\nacl_file {rights_file}\n"
    ));
    broker.restart();
    let atalaya = Atalaya::with_broker(&broker)
        .set("MQTT_USERNAME", "atalaya")
        .set("MQTT_PASSWORD", "secreta")
        .start()
        .await;
    let client = atalaya.client();
    client.open_with("1", "500.00").await;
    // At quality of service 1 and 2 alike.
    assert_eq!(client.withdraw("1", "450.00", "w").await.status, 201);
    eventually("the log names the mend", || async {
        let log = atalaya.log();
        log.lines()
            .any(|line| line.contains("ERROR") && line.contains("banco/#"))
            .then_some(())
    })
    .await;
    assert_eq!(client.deposit("1", "1.00", "d").await.status, 201);
    assert_eq!(
        atalaya.metric("atalaya_outbox_backlog_entries").await,
        // What moved money. To open an account, or to let somebody in, publishes nothing.
        Some(3.0)
    );
    broker.write_file("rights", &format!("{rights}topic readwrite banco/#\n"));
    broker.stop();
    broker.restart();
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    all_arrived(&bank, &atalaya).await;
    eventually("the alert", || async {
        (bank.on("banco/alertas").len() == 1).then_some(())
    })
    .await;
    versions_rise_by_one(&bank.all());
    assert_eq!(Records::of(&atalaya).quarantined(), [""; 0]);
}

/// Takes the publisher's pause of 15 s, as above.
#[actix_web::test]
async fn a_wrong_password_pauses_and_shouts_and_loses_nothing() {
    let mut broker = Mosquitto::start();
    broker.stop();
    let passwords = password_file(&broker, "atalaya", "otra");
    broker.configure(&format!(
        "allow_anonymous true\npassword_file {passwords}\n"
    ));
    broker.restart();
    let atalaya = Atalaya::with_broker(&broker)
        .set("MQTT_USERNAME", "atalaya")
        .set("MQTT_PASSWORD", "secreta")
        .start()
        .await;
    let client = atalaya.client();
    client.open_with("1", "500.00").await;
    eventually("the log names the setting", || async {
        let log = atalaya.log();
        log.lines()
            .any(|line| line.contains("ERROR") && line.contains("MQTT_USERNAME"))
            .then_some(())
    })
    .await;
    assert!(
        !atalaya.log().contains("secreta"),
        "the password is in the log"
    );
    password_file(&broker, "atalaya", "secreta");
    broker.stop();
    broker.restart();
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    all_arrived(&bank, &atalaya).await;
    assert_eq!(Records::of(&atalaya).quarantined(), [""; 0]);
}

/// Takes the six tries, which back off up to 5 s: about 15 s.
#[actix_web::test]
async fn a_message_that_the_broker_always_refuses_is_quarantined_and_the_rest_flows() {
    let broker = Mosquitto::start_with("allow_anonymous true\nmessage_size_limit 200\n");
    a_transfer_is_given_up(&broker).await;
}

/// The same where the broker says its limit when we connect; as slow.
#[actix_web::test]
async fn a_message_above_the_limit_that_the_broker_names_is_quarantined() {
    let broker = Mosquitto::start_with("allow_anonymous true\nmax_packet_size 235\n");
    a_transfer_is_given_up(&broker).await;
}

async fn a_transfer_is_given_up(broker: &Mosquitto) {
    let atalaya = Atalaya::with_broker(broker).start().await;
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    let client = atalaya.client();
    client.open_with("1", "500.00").await;
    client.open_with("2", "500.00").await;
    let transfer = client.transfer("1", "2", "5.00", "t").await.text();
    assert!(transfer.len() > 220, "{}", transfer.len());
    assert_eq!(client.deposit("1", "1.00", "behind").await.status, 201);
    eventually("the transfer is given up", || async {
        (Records::of(&atalaya).quarantined() == ["banco/transferencias"]).then_some(())
    })
    .await;
    assert_eq!(client.deposit("2", "1.00", "afterwards").await.status, 201);
    backlog_drains(&atalaya).await;
    all_arrived(&bank, &atalaya).await;
    assert_eq!(bank.on("banco/transferencias"), []);
    assert_eq!(
        Records::of(&atalaya).quarantined(),
        ["banco/transferencias"],
        "nothing else is given up"
    );
    let payload = "SELECT CAST(payload AS TEXT) AS value FROM outbox_quarantine";
    assert_eq!(Records::of(&atalaya).texts(payload), [transfer]);
    versions_rise_by_one(&bank.all());
    retained_balances_are_right(broker.port, &atalaya).await;
    assert_eq!(
        atalaya
            .metric("atalaya_mqtt_messages_quarantined_total")
            .await,
        Some(1.0)
    );
}

// --- and the rest -------------------------------------------------------------------------------

#[actix_web::test]
async fn a_thousand_alerts_under_load_arrive_exactly_once() {
    let broker = Mosquitto::start();
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let alerts = Subscriber::to(broker.port, &["banco/alertas"]).await;
    let client = atalaya.client();
    for account in 1..=10 {
        client.open_with(&account.to_string(), "99.00").await;
    }
    let tries = (0..1_000).map(|n| {
        let client = client.clone();
        let account = (n % 10 + 1).to_string();
        async move { client.withdraw(&account, "0.10", &format!("w{n}")).await }
    });
    let answers = join_all(tries).await;
    let raised: HashSet<String> = answers
        .iter()
        .map(|answer| field(&answer.text(), "tx_id"))
        .collect();
    assert_eq!(raised.len(), 1_000);
    backlog_drains(&atalaya).await;
    eventually("all alerts", || async {
        (alerts.all().len() >= 1_000).then_some(())
    })
    .await;
    let heard: HashSet<String> = alerts
        .all()
        .iter()
        .map(|m| field(&m.text(), "tx_id"))
        .collect();
    assert_eq!((alerts.all().len(), heard), (1_000, raised));
    assert!(alerts.all().iter().all(|m| m.qos == 2));
}

#[actix_web::test]
async fn a_planted_marker_deceives_nobody() {
    let foreign = r#"{"base":"00000000-0000-4000-8000-000000000000","posicion":1}"#;
    let mut broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    for account in ["1", "2", "3"] {
        client.open_with(account, "10.00").await;
    }
    backlog_drains(&atalaya).await;
    let ours = marker_catches_up(broker.port, &atalaya).await;
    let ahead = ours.replace(r#""posicion":"#, r#""posicion":99"#);
    let negative = ours.replace(r#""posicion":"#, r#""posicion":-"#);
    assert_ne!(ahead, ours);
    for planted in ["[nonsense", foreign, &ahead, &negative, "", "\u{0}"] {
        // A broker that has lost the balances, and a marker that says otherwise.
        atalaya.kill();
        broker.kill();
        broker.forget();
        broker.restart();
        let stranger = Subscriber::to(broker.port, &["atalaya/retenidos"]).await;
        stranger.publish("atalaya/retenidos", true, planted).await;
        stranger
            .wait_for("it is planted", |m| m.text() == planted)
            .await;
        atalaya.start().await;
        retained_balances_are_right(broker.port, &atalaya).await;
        assert_eq!(marker_catches_up(broker.port, &atalaya).await, ours);
    }
}

// --- what these tests look at -------------------------------------------------------------------

fn field(json: &str, name: &str) -> String {
    raw_field(json, name).trim_matches('"').to_owned()
}

fn told(topic: &str, qos: u8, payload: &str) -> Message {
    Message {
        topic: topic.to_owned(),
        qos,
        retain: false,
        payload: payload.as_bytes().to_vec(),
    }
}

fn kept(topic: &str, qos: u8, payload: &str) -> Message {
    Message {
        retain: true,
        ..told(topic, qos, payload)
    }
}

fn of_transaction<'a>(bank: &Subscriber, tx: &'a str) -> impl Iterator<Item = Message> + 'a {
    bank.all()
        .into_iter()
        .filter(move |m| m.text().contains(tx))
}

/// The messages of one transaction, once there are `count`.
async fn messages_of(bank: &Subscriber, tx: &str, count: usize) -> Vec<Message> {
    eventually("the messages of a transaction", || async {
        let messages: Vec<Message> = of_transaction(bank, tx).collect();
        (messages.len() >= count).then_some(messages)
    })
    .await
}

/// What a subscriber that comes late is shown on `filter`, statistics apart where the filter is
/// wider than they are.
async fn retained(port: u16, filter: &str, at_least: usize) -> Vec<Message> {
    let late = Subscriber::to(port, &[filter]).await;
    eventually("what is retained", || async {
        let mut all = late.all();
        all.retain(|m| m.topic == filter || m.topic != "banco/estadisticas");
        (all.len() >= at_least).then_some(all)
    })
    .await
}

/// A password file with one user, made by Mosquitto's own tool.
fn password_file(broker: &Mosquitto, user: &str, password: &str) -> String {
    let path = broker.write_file("passwords", &format!("{user}:{password}\n"));
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-U", &path])
        .status()
        .expect("mosquitto_passwd (tests/run installs it)");
    assert!(made.success());
    path
}
