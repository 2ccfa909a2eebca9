//! The counter beside money: who has an account, and where withdrawals are frozen.

use crate::support::access::make_token_for;
use crate::support::device::{create_place, register};
use crate::support::hub::assert_refused;
use crate::support::{Atalaya, Client};
use awc::http::Method;
use serde_json::{Value, json};

async fn open(client: &Client, account: &str, given: &str, surnames: &str) {
    let body = json!({"cedula": account, "nombres": given, "apellidos": surnames});
    client
        .changes(Method::POST, "/api/v1/cuentas", &body, 201)
        .await;
}

async fn found(client: &Client, text: &str) -> Vec<String> {
    let text: Vec<String> = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let text = text.concat();
    let page = client.json(&format!("/api/v1/cuentas?buscar={text}")).await;
    let accounts = page["datos"].as_array().unwrap().iter();
    accounts
        .map(|one| one["cedula"].as_str().unwrap().to_owned())
        .collect()
}

#[actix_web::test]
async fn accounts_are_found_by_cedula_and_names() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    open(&client, "7101", "Ana María", "Zambrano").await;
    open(&client, "7102", "Luis", "Zambrano 100% Puro").await;
    open(&client, "7201", "José", "Álava_Ponce").await;
    for (text, expected) in [
        ("71", vec!["7101", "7102"]),
        ("7101", vec!["7101"]),
        ("9", vec![]),
        ("zambrano", vec!["7101", "7102"]),
        ("zam ana", vec!["7101"]),
        ("maría zam", vec!["7101"]),
        // What SQL would read as a wildcard stands for itself.
        ("%", vec!["7102"]),
        ("_", vec!["7201"]),
        ("\\", vec![]),
        ("' OR 1=1 --", vec![]),
        ("", vec!["7101", "7102", "7201"]),
    ] {
        assert_eq!(found(&client, text).await, expected, "{text:?}");
    }
    let first = client.json("/api/v1/cuentas?limite=2").await;
    assert_eq!(first["datos"][1]["cedula"], "7102");
    assert_eq!(first["datos"][1]["saldo"].to_string(), "0.0");
    let next = first["siguiente"].as_str().unwrap();
    let rest = client
        .json(&format!("/api/v1/cuentas?limite=2&cursor={next}"))
        .await;
    assert_eq!(rest["datos"][0]["cedula"], "7201");
    assert_eq!(
        (rest["datos"].as_array().unwrap().len(), &rest["siguiente"]),
        (1, &Value::Null)
    );
    for wrong in [
        "limite=0",
        "cursor=x",
        &format!("buscar={}", "a".repeat(61)),
    ] {
        let answer = client
            .get(&format!("/api/v1/cuentas?{wrong}"))
            .await
            .unwrap();
        assert_refused(&answer, 400, "parametro_invalido", wrong);
    }
}

#[actix_web::test]
async fn nobody_finds_accounts_that_are_not_theirs() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    create_place(&client, "otra", "principal").await;
    open(&client, "7101", "Ana", "Zambrano").await;
    let roles = json!([{"rol": "cajero", "empresa": "otra"}]);
    let other = client.with_token(&make_token_for(&client, "otra", &roles).await);
    open(&other, "7102", "Luis", "Zambrano").await;
    assert_eq!(
        found(&client, "zambrano").await,
        ["7101", "7102"],
        "an auditor of everything"
    );
    assert_eq!(found(&other, "zambrano").await, ["7102"]);
    assert_eq!(found(&other, "7101").await, Vec::<String>::new());
    let roles = json!([{"rol": "cliente", "cedula": "7101"}]);
    let owner = client.with_token(&make_token_for(&client, "ana", &roles).await);
    assert_eq!(found(&owner, "zambrano").await, ["7101"]);
    assert_eq!(found(&owner, "").await, ["7101"]);
}

/// The counters of a teller, each with whether withdrawals are frozen there.
async fn counters(client: &Client) -> Vec<(String, bool)> {
    let page = client.json("/api/v1/cajas").await;
    let all = page["datos"].as_array().unwrap().iter();
    all.map(|one| {
        let place = format!(
            "{}/{}",
            one["empresa"].as_str().unwrap(),
            one["sede"].as_str().unwrap()
        );
        let frozen = one["retiros_congelados"].as_bool().unwrap();
        assert_eq!(one["congelados_desde"].is_string(), frozen);
        (place, frozen)
    })
    .collect()
}

#[actix_web::test]
async fn a_teller_sees_where_withdrawals_are_frozen() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    create_place(&client, "banco", "norte").await;
    let roles = json!([{"rol": "cajero", "empresa": "banco", "sede": "norte"}]);
    let north = client.with_token(&make_token_for(&client, "norte", &roles).await);
    let place = |name: &str, frozen| (format!("banco/{name}"), frozen);
    assert_eq!(
        counters(&client).await,
        [place("norte", false), place("principal", false)]
    );
    assert_eq!(counters(&north).await, [place("norte", false)]);

    let rule = json!({"empresa": "banco", "nombre": "Congelar", "condicion": "alerta.prioridad == 'critica'",
        "acciones": [{"accion": "congelar_retiros"}]});
    client
        .changes(Method::POST, "/api/v1/reglas", &rule, 201)
        .await;
    register(&client, "banco", "norte", "boton-n", "BOTONERA").await;
    let raised = client.raise("boton-n", "ROJO").await.json();
    assert_eq!(
        counters(&client).await,
        [place("norte", true), place("principal", false)]
    );
    assert_eq!(counters(&north).await, [place("norte", true)]);
    let id = raised["alerta_id"].as_str().unwrap();
    client.step(id, "reconocer", &json!({})).await;
    assert_eq!(
        counters(&north).await,
        [place("norte", true)],
        "somebody has seen it; it is not over"
    );
    client.step(id, "resolver", &json!({})).await;
    assert_eq!(counters(&north).await, [place("norte", false)]);
}
