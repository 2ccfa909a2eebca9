//! Who the tests are: the tokens that they show to each Atalaya, by its port.

use super::client::{Client, finish};
use awc::http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// The token of the setting `ADMIN_TOKEN`.
pub const ADMIN_TOKEN: &str = "token-of-the-tests-0123456789-0123456789-0123456789";

/// Tokens with every role but admin, by port.
static TOKENS: Mutex<BTreeMap<u16, String>> = Mutex::new(BTreeMap::new());

/// Makes the token that tests show to the Atalaya at `client`, once. It has every role but admin,
/// which goes with no other; what only an admin may, tests ask with [`ADMIN_TOKEN`].
pub async fn introduce(port: u16, client: &Client, company: &str) {
    if token(port).is_some() {
        return;
    }
    // A copy of a database knows the token of the Atalaya that it was copied from.
    let known: Vec<String> = TOKENS.lock().unwrap().values().cloned().collect();
    for token in known {
        let client = client.with_token(&token);
        let asked = client.get("/api/v1/sesiones/actual").await.unwrap();
        if asked.status == 200 {
            TOKENS.lock().unwrap().insert(port, token);
            return;
        }
    }
    let token = make_token(client, "pruebas", company).await;
    TOKENS.lock().unwrap().insert(port, token);
}

/// A new token with every role but admin.
pub async fn make_token(client: &Client, name: &str, company: &str) -> String {
    let roles = json!([
        {"rol": "cajero", "empresa": company}, {"rol": "operador"}, {"rol": "auditor"}]);
    make_token_for(client, name, &roles).await
}

/// A new token with `roles`.
pub async fn make_token_for(client: &Client, name: &str, roles: &Value) -> String {
    let body = json!({"nombre": name, "dias": 1, "roles": roles});
    let request = client
        .with_token(ADMIN_TOKEN)
        .request(Method::POST, "/api/v1/tokens")
        .insert_header(("content-type", "application/json"));
    let response = finish(request.send_body(body.to_string())).await.unwrap();
    assert_eq!(response.status, 201, "{}", response.text());
    response.json()["token"].as_str().unwrap().to_owned()
}

/// The token of every role but admin for the Atalaya at `port`, once there is one.
pub fn token(port: u16) -> Option<String> {
    TOKENS.lock().unwrap().get(&port).cloned()
}

/// What is shown to the Atalaya at `port` with a request.
pub fn token_for(port: u16, method: &str, path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    let for_admins = [
        "/api/v1/empresas",
        "/api/v1/sedes",
        "/api/v1/tipos_hardware",
    ];
    let is_platform = method != "GET" && for_admins.iter().any(|start| path.starts_with(start));
    let is_people = path.starts_with("/api/v1/usuarios") || path.starts_with("/api/v1/tokens");
    let known = token(port)?;
    Some(if is_platform || is_people {
        ADMIN_TOKEN.to_owned()
    } else {
        known
    })
}

/// Cédulas of the tests that are long enough to be told from other numbers.
const ACCOUNTS: [&str; 5] = [
    "1350509525",
    "1315151515",
    "0912345678",
    "1350509526",
    "9950509525",
];

/// What of a line of a log should not be there: a secret of ours, anything that looks like a token,
/// or a whole cédula.
pub fn secret_in(line: &str) -> Option<&'static str> {
    let token = |start: &str| {
        line.match_indices(start).any(|(at, _)| {
            let rest = &line.as_bytes()[at + start.len()..];
            let letter = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(**byte, b'-' | b'_');
            rest.iter().take_while(letter).count() >= 43
        })
    };
    if line.contains(ADMIN_TOKEN) || ["ats_", "atp_", "atb_", "ath_"].into_iter().any(token) {
        return Some("a token");
    }
    if line.contains(super::atalaya::ADMIN_PASSWORD) || line.contains("$argon2id$") {
        return Some("a password");
    }
    ACCOUNTS.into_iter().find(|account| line.contains(account))
}
