//! The ledger through REST: what is promised about money.

use crate::support::Atalaya;
use futures_util::future::join_all;

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
