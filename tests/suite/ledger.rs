//! The ledger through REST: what is promised about money.

use crate::support::client::{finish, raw_field};
use crate::support::{Atalaya, Mosquitto, Subscriber, eventually, raw};
use futures_util::future::join_all;
use serde_json::json;

#[actix_web::test]
async fn sixty_four_withdraw_at_once_and_ten_succeed() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let tries = (0..64).map(|n| {
        let client = client.clone();
        async move { client.withdraw("1", "10.00", &format!("w{n}")).await }
    });
    let answers = join_all(tries).await;
    let count = |status| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!((count(201), count(409)), (10, 54));
    assert!(
        answers
            .iter()
            .filter(|a| a.status == 409)
            .all(|a| a.code() == "saldo_insuficiente")
    );
    assert_eq!(client.balance("1").await, "0.00");
    assert_eq!(client.version("1").await, 11);
}

#[actix_web::test]
async fn a_thousand_requests_under_one_key_are_one_posting() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let tries = (0..1_000).map(|_| client.deposit("1", "5.00", "the-key"));
    let answers = join_all(tries).await;
    let first = answers[0].text();
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 201 && answer.text() == first)
    );
    assert_eq!(
        answers
            .iter()
            .filter(|answer| !answer.is_replayed())
            .count(),
        1
    );
    assert_eq!(client.balance("1").await, "5.00");
    assert_eq!(client.version("1").await, 1);
}

#[actix_web::test]
async fn a_repeat_gets_the_same_answer_and_changes_nothing() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    client.open("2").await;
    let person = json!({"cedula": "3", "nombres": "Eva", "apellidos": "Paz"});
    let transfer = json!({"cedula_origen": "1", "cedula_destino": "2", "monto": "7.00"});
    let commands = [
        ("/api/v1/cuentas", person),
        ("/api/v1/cuentas/1/depositos", json!({"monto": "5.00"})),
        ("/api/v1/cuentas/1/retiros", json!({"monto": "3.00"})),
        ("/api/v1/transferencias", transfer),
        ("/api/v1/cuentas/1/retiros", json!({"monto": "1000"})),
        ("/api/v1/cuentas/9/retiros", json!({"monto": "1.00"})),
    ];
    let mut first = Vec::new();
    for (n, (path, body)) in commands.iter().enumerate() {
        let key = format!("k{n}");
        first.push(client.post(path, Some(&key), body).await.unwrap());
    }
    let statuses: Vec<u16> = first.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [201, 201, 201, 201, 409, 404]);
    assert!(first.iter().all(|answer| !answer.is_replayed()));
    let head = journal_head(&atalaya).await;

    for (n, ((path, body), first)) in commands.iter().zip(&first).enumerate() {
        let key = format!("k{n}");
        let again = client.post(path, Some(&key), body).await.unwrap();
        assert!(again.is_replayed(), "{path}");
        assert_eq!(
            (again.status, again.text()),
            (first.status, first.text()),
            "{path}"
        );
    }
    assert_eq!(journal_head(&atalaya).await, head);
    assert_eq!(client.balance("1").await, "95.00");
    assert_eq!(client.version("1").await, 4);
}

#[actix_web::test]
async fn a_command_is_the_same_however_it_is_spelled() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let path = "/api/v1/cuentas/1/depositos";
    let first = client.deposit("1", "5.00", "k").await;
    for body in [
        r#"{"monto":5}"#,
        r#"{"monto":5.0}"#,
        r#" { "monto" : "5" , "sede" : null } "#,
        r#"{"monto":"\u0035"}"#,
    ] {
        let again = client.post_raw(path, Some("k"), body).await.unwrap();
        assert!(again.is_replayed(), "{body}");
        assert_eq!(again.text(), first.text(), "{body}");
    }
    assert_eq!(client.balance("1").await, "5.00");
}

#[actix_web::test]
async fn another_command_under_a_used_key_is_refused_and_changes_nothing() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    client.open_with("2", "100.00").await;
    let (deposit, withdrawal) = ("/api/v1/cuentas/1/depositos", "/api/v1/cuentas/1/retiros");
    let (elsewhere, transfer) = ("/api/v1/cuentas/2/depositos", "/api/v1/transferencias");
    let plain = json!({"monto": "5.00"});
    let sited = json!({"monto": "5.00", "sede": "principal"});
    let dated = json!({"monto": "5.00", "fecha_valor": "2026-01-15"});
    let sent = json!({"cedula_origen": "1", "cedula_destino": "2", "monto": "5.00"});
    let back = json!({"cedula_origen": "2", "cedula_destino": "1", "monto": "5.00"});
    let person = json!({"cedula": "3", "nombres": "Eva", "apellidos": "Paz"});
    let cases = [
        (
            "another amount",
            (deposit, &plain),
            (deposit, &json!({"monto": "5.01"})),
        ),
        ("another account", (deposit, &plain), (elsewhere, &plain)),
        ("another kind", (deposit, &plain), (withdrawal, &plain)),
        ("a site", (deposit, &plain), (deposit, &sited)),
        ("no site", (withdrawal, &sited), (withdrawal, &plain)),
        ("a value date", (deposit, &plain), (deposit, &dated)),
        (
            "another value date",
            (deposit, &dated),
            (
                deposit,
                &json!({"monto": "5.00", "fecha_valor": "2026-01-16"}),
            ),
        ),
        ("a transfer", (withdrawal, &plain), (transfer, &sent)),
        ("the way back", (transfer, &sent), (transfer, &back)),
        (
            "an opening",
            (deposit, &plain),
            ("/api/v1/cuentas", &person),
        ),
        (
            "another holder",
            (
                "/api/v1/cuentas",
                &json!({"cedula": "4", "nombres": "Eva", "apellidos": "Paz"}),
            ),
            (
                "/api/v1/cuentas",
                &json!({"cedula": "4", "nombres": "Eva", "apellidos": "Paz Ruiz"}),
            ),
        ),
        (
            "after a refusal",
            (withdrawal, &json!({"monto": "1000"})),
            (withdrawal, &json!({"monto": "1"})),
        ),
    ];
    for (key, (path, body), (other_path, other_body)) in cases {
        let key = key.replace(' ', "-");
        let first = client.post(path, Some(&key), body).await.unwrap();
        let head = journal_head(&atalaya).await;
        let other = client
            .post(other_path, Some(&key), other_body)
            .await
            .unwrap();
        assert_eq!(
            (other.status, other.code().as_str()),
            (422, "clave_reutilizada"),
            "{key}"
        );
        assert!(!other.is_replayed(), "{key}");
        assert_eq!(journal_head(&atalaya).await, head, "{key}");
        let again = client.post(path, Some(&key), body).await.unwrap();
        assert_eq!(again.text(), first.text(), "{key}");
    }
    assert_eq!(
        client.get("/api/v1/cuentas/3").await.unwrap().code(),
        "cuenta_no_existe"
    );
}

#[actix_web::test]
async fn of_many_commands_at_once_under_one_key_one_is_decided() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    let amounts: Vec<String> = (1..=32).map(|n| format!("{n}.00")).collect();
    let answers = join_all(amounts.iter().map(|a| client.deposit("1", a, "k"))).await;
    let (done, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 201);
    assert_eq!(done.len(), 1);
    assert!(refused.iter().all(|a| a.code() == "clave_reutilizada"));
    assert_eq!(
        raw_field(&done[0].text(), "saldo_nuevo"),
        client.balance("1").await
    );
    assert_eq!(client.version("1").await, 1);
}

#[actix_web::test]
async fn a_refusal_is_final_under_its_key_even_when_its_reason_is_gone() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    let overdraft = client.withdraw("1", "50.00", "overdraft").await;
    let unknown = client.deposit("2", "5.00", "unknown").await;
    let nowhere = client.transfer("1", "2", "5.00", "nowhere").await;
    let exists = json!({"cedula": "1", "nombres": "Eva", "apellidos": "Paz"});
    let exists = client
        .post("/api/v1/cuentas", Some("exists"), &exists)
        .await
        .unwrap();
    assert_eq!((overdraft.status, unknown.status), (409, 404));
    assert_eq!((nowhere.status, exists.status), (404, 409));

    client.deposit("1", "100.00", "more").await;
    client.open("2").await;
    for restarted in [false, true] {
        if restarted {
            atalaya.kill();
            atalaya.start().await;
        }
        let again = client.withdraw("1", "50.00", "overdraft").await;
        assert!(again.is_replayed());
        assert_eq!((again.status, again.text()), (409, overdraft.text()));
        assert_eq!(raw_field(&again.text(), "saldo"), "10.00");
        let again = client.deposit("2", "5.00", "unknown").await;
        assert!(again.is_replayed());
        assert_eq!((again.status, again.text()), (404, unknown.text()));
        let again = client.transfer("1", "2", "5.00", "nowhere").await;
        assert!(again.is_replayed());
        assert_eq!((again.status, again.text()), (404, nowhere.text()));
    }
    // Under another key it is another decision.
    assert_eq!(client.withdraw("1", "50.00", "anew").await.status, 201);
    assert_eq!(client.balance("1").await, "60.00");
    assert_eq!(client.balance("2").await, "0.00");
}

#[actix_web::test]
async fn decisions_survive_a_kill() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    client.open("2").await;
    let deposit = client.deposit("1", "5.00", "d").await;
    let transfer = client.transfer("1", "2", "25.00", "t").await;
    atalaya.kill();
    atalaya.start().await;
    let again = client.deposit("1", "5.00", "d").await;
    assert!(again.is_replayed());
    assert_eq!((again.status, again.text()), (201, deposit.text()));
    let again = client.transfer("1", "2", "25.00", "t").await;
    assert!(again.is_replayed());
    assert_eq!((again.status, again.text()), (201, transfer.text()));
    assert_eq!(
        client.deposit("1", "6.00", "d").await.code(),
        "clave_reutilizada"
    );
    assert_eq!(client.balance("1").await, "80.00");
    assert_eq!(client.balance("2").await, "25.00");
}

#[actix_web::test]
async fn what_cannot_be_right_leaves_its_key_free() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    for (n, body) in [
        r#"{"monto":0}"#,
        r#"{"monto":5,"sede":"a/b"}"#,
        r#"{"monto":5,"sede":"no-such-site"}"#,
        r#"{"monto":5,"fecha_valor":"2026-02-30"}"#,
        r#"{"mnto":5}"#,
        "{",
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("k{n}");
        let path = "/api/v1/cuentas/1/depositos";
        let wrong = client.post_raw(path, Some(&key), body).await.unwrap();
        assert!(matches!(wrong.status, 400 | 422), "{body}: {wrong:?}");
        let right = client.deposit("1", "5.00", &key).await;
        assert_eq!((right.status, right.is_replayed()), (201, false), "{body}");
    }
    let oneself = client.transfer("1", "1", "1.00", "self").await;
    assert_eq!(oneself.status, 422);
    assert_eq!(client.deposit("1", "5.00", "self").await.status, 201);
    assert_eq!(client.balance("1").await, "35.00");
}

#[actix_web::test]
async fn no_money_moves_without_a_valid_key() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    client.open("2").await;
    let transfer = json!({"cedula_origen": "1", "cedula_destino": "2", "monto": "5.00"});
    let commands = [
        ("/api/v1/cuentas/1/depositos", json!({"monto": "5.00"})),
        ("/api/v1/cuentas/1/retiros", json!({"monto": "5.00"})),
        ("/api/v1/transferencias", transfer),
    ];
    let head = journal_head(&atalaya).await;
    for (path, body) in &commands {
        let answer = client.post(path, None, body).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "falta_clave")
        );
        for key in ["", "two words", "ñ", &"x".repeat(129)] {
            let request = client
                .request(awc::http::Method::POST, path)
                .insert_header(("content-type", "application/json"))
                .insert_header((
                    "Idempotency-Key",
                    awc::http::header::HeaderValue::from_bytes(key.as_bytes()).unwrap(),
                ));
            let answer = finish(request.send_body(body.to_string())).await.unwrap();
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "clave_invalida"),
                "{path} {key:?}"
            );
        }
    }
    let two_keys = "POST /api/v1/cuentas/1/depositos HTTP/1.1\r\nHost: localhost\r\n\
                    Connection: close\r\nIdempotency-Key: one\r\nIdempotency-Key: two\r\n\
                    Content-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"monto\":5}";
    let answer = raw::exchange(atalaya.http_port, two_keys).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "clave_invalida")
    );
    assert_eq!(journal_head(&atalaya).await, head);
    let longest = "~".repeat(128);
    assert_eq!(client.deposit("1", "5.00", &longest).await.status, 201);
}

#[actix_web::test]
async fn what_is_no_amount_changes_nothing() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    client.open("2").await;
    let head = journal_head(&atalaya).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for amount in [
        "0",
        "0.00",
        "-0",
        "-1",
        "-0.01",
        "0.001",
        "1.000",
        "1e2",
        "1E2",
        "1e-1",
        "1e400",
        "NaN",
        "Infinity",
        "+5",
        "05",
        ".5",
        "5.",
        "0x10",
        "1000000000000000",
        "92233720368547758.08",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551616",
        "\"\"",
        "\" 5\"",
        "\"5 \"",
        "\"12,50\"",
        "\"1,000\"",
        "\"1e2\"",
        "\"NaN\"",
        "\"-1\"",
        "\"+5\"",
        "\"0.001\"",
        "\"1000000000000000\"",
        "\"٣\"",
        "\"５\"",
        "\"5\\u0000\"",
        "\"$5\"",
        "null",
        "true",
        "[]",
        "[5]",
        "{}",
        "{\"monto\":5}",
        "",
        &deep,
    ] {
        let sent = format!(r#"{{"cedula_origen":"1","cedula_destino":"2","monto":{amount}}}"#);
        let moved = format!(r#"{{"monto":{amount}}}"#);
        for (path, body) in [
            ("/api/v1/cuentas/1/depositos", &moved),
            ("/api/v1/cuentas/1/retiros", &moved),
            ("/api/v1/transferencias", &sent),
        ] {
            let answer = client
                .post_raw(path, Some("k"), body.clone())
                .await
                .unwrap();
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
            let expected = if is_json {
                (422, "monto_invalido")
            } else {
                (400, "cuerpo_invalido")
            };
            let short = &amount[..amount.len().min(30)];
            assert_eq!(
                (answer.status, answer.code().as_str()),
                expected,
                "{path} {short}"
            );
        }
    }
    assert_eq!(journal_head(&atalaya).await, head);
    assert_eq!(client.balance("1").await, "100.00");
    assert_eq!(client.version("1").await, 1);
    assert_eq!(client.version("2").await, 0);
}

#[actix_web::test]
async fn a_balance_stays_within_what_it_can_hold() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open("1").await;
    client.open_with("2", "999999999999999.99").await;
    let keys: Vec<String> = (0..100).map(|n| format!("d{n}")).collect();
    let deposits = keys
        .iter()
        .map(|key| client.deposit("1", "999999999999999.99", key));
    let answers = join_all(deposits).await;
    let refused: Vec<_> = answers.iter().filter(|a| a.status != 201).collect();
    // 92 times that many cents fit an i64, 93 times do not.
    assert_eq!(refused.len(), 8);
    assert!(refused.iter().all(|a| a.code() == "saldo_excedido"));
    assert_eq!(client.balance("1").await, "91999999999999999.08");
    let transfer = client.transfer("2", "1", "999999999999999.99", "t").await;
    assert_eq!(transfer.code(), "saldo_excedido");
    assert_eq!(client.balance("2").await, "999999999999999.99");
    assert_eq!(client.version("1").await, 92);
}

#[actix_web::test]
async fn opposing_transfers_keep_the_sum() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "50.00").await;
    client.open_with("2", "50.00").await;
    let oneself = client.transfer("1", "1", "1.00", "self").await;
    assert_eq!(
        (oneself.status, oneself.code().as_str()),
        (422, "misma_cuenta")
    );
    let tries = (0..200).map(|n| {
        let client = client.clone();
        async move {
            let (from, to) = if n % 2 == 0 { ("1", "2") } else { ("2", "1") };
            let amount = format!("{}.{:02}", 1 + n % 40, n % 100);
            client.transfer(from, to, &amount, &format!("t{n}")).await
        }
    });
    let answers = join_all(tries).await;
    let done = answers.iter().filter(|a| a.status == 201).count();
    assert!(done > 0, "none succeeded");
    assert!(
        answers
            .iter()
            .filter(|a| a.status != 201)
            .all(|a| a.code() == "saldo_insuficiente")
    );
    let (one, two) = (
        cents(&client.balance("1").await),
        cents(&client.balance("2").await),
    );
    assert_eq!(one + two, 10_000);
    assert!(one >= 0 && two >= 0);
    let postings = i64::try_from(done).unwrap() + 1;
    assert_eq!(client.version("1").await, postings);
    assert_eq!(client.version("2").await, postings);
}

#[actix_web::test]
async fn only_a_withdrawal_that_leaves_less_than_the_threshold_raises_an_alert() {
    let broker = Mosquitto::start();
    let subscriber = Subscriber::to(broker.port, &["banco/alertas"]).await;
    let atalaya = Atalaya::with_broker(&broker).start().await;
    let client = atalaya.client();
    client.open_with("1", "99.99").await;
    client.open_with("2", "200.00").await;
    client.open_with("3", "200.00").await;
    assert_eq!(
        client.transfer("3", "2", "150.00", "sent").await.status,
        201
    );
    assert_eq!(client.withdraw("3", "50.01", "refused").await.status, 409);
    for (amount, left) in [("249.99", "100.01"), ("0.01", "100.00"), ("0.01", "99.99")] {
        let key = format!("leaves-{left}");
        assert_eq!(client.withdraw("2", amount, &key).await.status, 201);
        assert_eq!(client.balance("2").await, left);
    }
    assert_eq!(client.withdraw("2", "99.99", "all").await.status, 201);
    subscriber
        .wait_for("the last alert", |alert| {
            alert.text().contains("Saldo bajo: $0.00")
        })
        .await;
    let alerts = subscriber.on("banco/alertas");
    let messages: Vec<_> = alerts.iter().map(|a| a.json()["message"].clone()).collect();
    assert_eq!(messages, ["Saldo bajo: $99.99", "Saldo bajo: $0.00"]);
    assert!(alerts.iter().all(|alert| alert.qos == 2));
    assert!(alerts.iter().all(|alert| alert.json()["cedula"] == "2"));

    let log = atalaya.folder().join("logs/alerts.log");
    let lines = eventually("two lines in alerts.log", || async {
        let text = std::fs::read_to_string(&log).ok()?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= 2).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("99.99") && lines[1].contains("0.00"));
}

/// The last sequence of the journal: whether anything at all was recorded.
async fn journal_head(atalaya: &Atalaya) -> f64 {
    let head = atalaya.metric("atalaya_journal_head").await;
    head.expect("atalaya_journal_head")
}

fn cents(balance: &str) -> i64 {
    balance.replace('.', "").parse().unwrap()
}
