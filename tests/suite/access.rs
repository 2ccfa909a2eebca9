//! People, sessions, tokens: who gets in, for how long, and what is kept of it.

use crate::support::access::{ADMIN_TOKEN, make_token_for};
use crate::support::atalaya::ADMIN_PASSWORD;
use crate::support::client::{Client, Response, finish};
use crate::support::device::register;
use crate::support::guest::Guest;
use crate::support::hub::assert_refused;
use crate::support::mariadb::on_files;
use crate::support::{Atalaya, Records, WebSocket, audit, eventually};
use atalaya::domain::device::Secret;
use atalaya::domain::second_factor;
use awc::http::Method;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SESSIONS: &str = "/api/v1/sesiones";
const SELF: &str = "/api/v1/sesiones/actual";
const CHOSEN: &str = "staple battery horse correct";

/// Makes a person and lets them choose their password.
async fn person(atalaya: &Atalaya, name: &str, roles: Value) -> Client {
    let client = atalaya.client();
    let first = created(&client, name, roles).await;
    let session = signed_in(&client, name, &first).await;
    let body = json!({"actual": first, "nueva": CHOSEN});
    let path = format!("{SELF}/contrasena");
    let done = session.send(Method::PUT, &path, &body).await;
    assert_eq!(done.status, 204, "{}", done.text());
    session
}

/// Makes a person; the password that was made for them.
async fn created(client: &Client, name: &str, roles: Value) -> String {
    let body = json!({"usuario": name, "roles": roles});
    let made = client
        .changes(Method::POST, "/api/v1/usuarios", &body, 201)
        .await;
    made["contrasena"].as_str().unwrap().to_owned()
}

async fn sign_in(client: &Client, body: &Value) -> Response {
    client.anonymous().send(Method::POST, SESSIONS, body).await
}

/// A client with the token of a new session.
async fn signed_in(client: &Client, name: &str, password: &str) -> Client {
    let answer = sign_in(client, &json!({"usuario": name, "contrasena": password})).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    client.with_token(answer.json()["token"].as_str().unwrap())
}

fn operator() -> Value {
    json!([{"rol": "operador", "empresa": "banco"}])
}

#[actix_web::test]
async fn who_signs_in_is_in_until_they_sign_out() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let first = created(&client, "ana", operator()).await;
    let body = json!({"usuario": "ana", "contrasena": first});
    let entered = sign_in(&client, &body).await;
    assert_eq!(entered.status, 201);
    let identity = entered.json();
    assert_eq!(identity["usuario"], "ana");
    assert_eq!(identity["roles"], operator());
    assert_eq!(identity["cambiar_contrasena"], true);
    let ana = client.with_token(identity["token"].as_str().unwrap());

    // Nothing but choosing a password, seeing who one is and leaving.
    assert_refused(
        &ana.get("/api/v1/alertas").await.unwrap(),
        403,
        "debe_cambiar_contrasena",
        "before the choice",
    );
    assert_eq!(ana.get(SELF).await.unwrap().status, 200);
    let other = signed_in(&client, "ana", &first).await;
    let path = format!("{SELF}/contrasena");
    for (actual, nueva, status, code) in [
        ("wrong", CHOSEN, 401, "credenciales_invalidas"),
        (first.as_str(), "short", 422, "contrasena_debil"),
        (first.as_str(), "aaaaaaaaaaaaaaaa", 422, "contrasena_debil"),
    ] {
        let body = json!({"actual": actual, "nueva": nueva});
        let refused = ana.send(Method::PUT, &path, &body).await;
        assert_refused(&refused, status, code, nueva);
    }
    let body = json!({"actual": first, "nueva": CHOSEN});
    assert_eq!(ana.send(Method::PUT, &path, &body).await.status, 204);
    assert_eq!(ana.get("/api/v1/alertas").await.unwrap().status, 200);
    // Whoever else was in with the old password is out.
    assert_refused(
        &other.get(SELF).await.unwrap(),
        401,
        "token_invalido",
        "other",
    );
    let old = json!({"usuario": "ana", "contrasena": first});
    assert_eq!(sign_in(&client, &old).await.status, 401);

    let again = signed_in(&client, "ana", CHOSEN).await;
    let list = again.json(SESSIONS).await;
    let sessions = list["datos"].as_array().unwrap();
    assert_eq!(sessions.len(), 2, "{list}");
    assert_eq!(sessions[0]["direccion"], "127.0.0.1");
    assert_eq!(
        (&sessions[0]["actual"], &sessions[1]["actual"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(ana.bare(Method::DELETE, SELF).await.status, 204);
    assert_refused(&ana.get(SELF).await.unwrap(), 401, "token_invalido", "out");
    assert_eq!(again.get(SELF).await.unwrap().status, 200);
    audit(&atalaya.database()).unwrap();
}

#[actix_web::test]
async fn tokens_and_sessions_outlive_a_crash_and_their_end_does_too() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let ana = person(&atalaya, "ana", operator()).await;
    let gone = signed_in(&client, "ana", CHOSEN).await;
    assert_eq!(gone.bare(Method::DELETE, SELF).await.status, 204);
    let token = make_token_for(&client, "lector", &json!([{"rol": "auditor"}])).await;
    atalaya.kill();
    atalaya.start().await;
    assert_eq!(ana.get(SELF).await.unwrap().status, 200);
    assert_eq!(gone.get(SELF).await.unwrap().status, 401);
    let reader = client.with_token(&token);
    assert_eq!(reader.get("/api/v1/alertas").await.unwrap().status, 200);
    // Nothing that would let anybody in stands in the database.
    if !on_files() {
        return;
    }
    let bytes = std::fs::read(atalaya.file()).unwrap();
    let log = std::fs::read(atalaya.folder().join("data/atalaya.db-wal")).unwrap();
    for secret in [token.as_str(), CHOSEN, ADMIN_TOKEN, ADMIN_PASSWORD] {
        for file in [&bytes, &log] {
            let found = file.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "a secret stands in the database");
        }
    }
}

/// Fault 41: whether there is such a person cannot be told from the answer, nor from its time.
#[actix_web::test]
async fn an_unknown_name_answers_like_a_wrong_password() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    created(&client, "ana", operator()).await;
    let ask = async |name: &str| {
        let started = Instant::now();
        let answer = sign_in(&client, &json!({"usuario": name, "contrasena": "wrong"})).await;
        assert_refused(&answer, 401, "credenciales_invalidas", name);
        (started.elapsed(), answer.text())
    };
    // The first hash of nobody is made then.
    ask("first").await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for n in 0..7 {
        known.push(ask("ana").await);
        unknown.push(ask(&format!("nobody-{n}")).await);
    }
    assert!(
        known
            .iter()
            .chain(&unknown)
            .all(|(_, text)| *text == known[0].1)
    );
    known.sort();
    unknown.sort();
    // Without a hash it would take a hundredth.
    let (with, without) = (known[3].0, unknown[3].0);
    assert!(
        without * 3 > with && with * 3 > without,
        "{with:?} and {without:?}"
    );
}

#[actix_web::test]
async fn who_guesses_is_held_up_and_is_told_for_how_long() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let first = created(&client, "ana", operator()).await;
    created(&client, "luis", operator()).await;
    let guess = json!({"usuario": "ana", "contrasena": "guess"});
    let mut refused = None;
    for n in 0..20 {
        let answer = sign_in(&client, &guess).await;
        if answer.status == 429 {
            refused = Some((n, answer));
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let (n, answer) = refused.expect("somebody stops the guessing");
    assert_eq!(n, 10);
    assert_refused(&answer, 429, "demasiados_intentos", "the eleventh");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&seconds), "{seconds}");
    // The right password is not tried either, or the answer would tell.
    let right = json!({"usuario": "ana", "contrasena": first});
    assert_eq!(sign_in(&client, &right).await.status, 429);
    let other = json!({"usuario": "luis", "contrasena": "guess"});
    assert_eq!(sign_in(&client, &other).await.status, 401);
}

#[actix_web::test]
async fn a_page_has_a_cookie_that_no_other_page_can_use() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    person(&atalaya, "ana", operator()).await;
    let body = json!({"usuario": "ana", "contrasena": CHOSEN, "cookie": true});
    let entered = sign_in(&client, &body).await;
    assert_eq!(entered.status, 201);
    assert!(entered.json().get("token").is_none());
    let csrf = entered.json()["csrf"].as_str().unwrap().to_owned();
    let set = entered.header("set-cookie").unwrap().to_owned();
    for part in [
        "__Host-atalaya=ats_",
        "Path=/",
        "Secure",
        "HttpOnly",
        "SameSite=Strict",
    ] {
        assert!(set.contains(part), "{set}");
    }
    let cookie = set.split(';').next().unwrap().to_owned();
    let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| {
        let anonymous = client.anonymous();
        let mut request = anonymous
            .request(method, path)
            .insert_header(("cookie", format!("other=1; {cookie}")));
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        finish(request.send()).await.unwrap()
    };
    let me = ask(Method::GET, SELF, &[]).await;
    assert_eq!((me.status, &me.json()["csrf"]), (200, &json!(csrf)));
    let ticket = format!("{SELF}/boleto");
    let token = ("x-csrf-token", csrf.as_str());
    let without = ask(Method::POST, &ticket, &[]).await;
    assert_refused(&without, 403, "falta_csrf", "no token");
    let wrong = ask(Method::POST, &ticket, &[("x-csrf-token", "guess")]).await;
    assert_refused(&wrong, 403, "falta_csrf", "another token");
    let foreign = ask(
        Method::POST,
        &ticket,
        &[token, ("origin", "http://evil.example")],
    )
    .await;
    assert_refused(&foreign, 403, "origen_no_permitido", "a foreign page");
    let own = ask(Method::POST, &ticket, &[token]).await;
    assert_eq!(own.status, 201, "{}", own.text());

    // A WebSocket takes the ticket, once, and never the cookie: a foreign page can send that.
    let port = atalaya.http_port;
    let nobody = ("authorization", "");
    let by_cookie = WebSocket::knock(port, "/ws", &[("cookie", &cookie), nobody]).await;
    assert_eq!(by_cookie, Err(401));
    let ticket = own.json()["boleto"].as_str().unwrap().to_owned();
    let path = format!("/ws?boleto={ticket}");
    let strange = [
        ("origin", "http://evil.example"),
        ("cookie", cookie.as_str()),
    ];
    assert_eq!(WebSocket::knock(port, &path, &strange).await, Err(403));
    let mut session = WebSocket::open_at(&atalaya, &path, None).await;
    session.asks(json!({"accion": "ping"})).await;
    assert_eq!(WebSocket::knock(port, &path, &[]).await, Err(401));

    let out = ask(Method::DELETE, SELF, &[token]).await;
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    // A cookie that is over does not keep its page from signing in.
    let over = ask(Method::GET, SELF, &[]).await;
    assert_refused(&over, 401, "no_autenticado", "over");
    let page = ask(Method::GET, "/", &[]).await;
    assert_eq!(page.status, 200);
}

/// Fault 40: what ends a token ends what is open with it, within a second.
#[actix_web::test]
async fn a_revoked_token_ends_its_stream_within_a_second() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let roles = json!([{"rol": "auditor"}]);
    let token = make_token_for(&client, "lector", &roles).await;
    let ana = person(&atalaya, "ana", operator()).await;
    let luis = person(&atalaya, "luis", operator()).await;
    person(&atalaya, "eva", operator()).await;
    let eva = signed_in(&client, "eva", CHOSEN).await;
    let me = async |who: &Client| who.json(SELF).await["sesion"].as_i64().unwrap();
    let list = client.json("/api/v1/tokens").await;
    let listed = list["datos"].as_array().unwrap();
    let id = listed.iter().find(|t| t["nombre"] == "lector").unwrap()["id"].clone();
    let ends = [
        (
            token.clone(),
            Method::DELETE,
            format!("/api/v1/tokens/{id}"),
            None,
        ),
        (
            ana.token(),
            Method::DELETE,
            format!("{SESSIONS}/{}", me(&ana).await),
            None,
        ),
        (
            luis.token(),
            Method::PATCH,
            "/api/v1/usuarios/luis".to_owned(),
            Some(json!({"activo": false})),
        ),
        // Whoever may do something else now must ask again what they may see.
        (
            eva.token(),
            Method::PATCH,
            "/api/v1/usuarios/eva".to_owned(),
            Some(json!({"roles": [{"rol": "operador", "empresa": "banco"}, {"rol": "auditor"}]})),
        ),
    ];
    let admin = client.with_token(ADMIN_TOKEN);
    for (token, method, path, body) in ends {
        let mut stream = WebSocket::open_as(&atalaya, &token).await;
        stream
            .asks(json!({"accion": "suscribir", "temas": ["#"]}))
            .await;
        let mut silent = WebSocket::open_as(&atalaya, &token).await;
        silent.asks(json!({"accion": "ping"})).await;
        let done = match &body {
            Some(body) => admin.send(method, &path, body).await,
            None => admin.bare(method, &path).await,
        };
        assert!(done.status < 300, "{path}: {}", done.text());
        let asked = Instant::now();
        stream.closed().await;
        silent.closed().await;
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "{path}: {:?}",
            asked.elapsed()
        );
    }
    assert_eq!(
        client.with_token(&token).get(SELF).await.unwrap().status,
        401
    );
    assert_eq!(
        eva.get(SELF).await.unwrap().status,
        200,
        "her session goes on"
    );
}

#[actix_web::test]
async fn a_request_on_an_open_stream_is_refused_once_its_token_is_revoked() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "100.00").await;
    let teller = json!([{"rol": "cajero", "empresa": "banco"}]);
    let token = make_token_for(&client, "caja", &teller).await;
    let id = client.with_token(&token).json(SELF).await;
    assert_eq!(id["sesion"], Value::Null);
    let list = client.json("/api/v1/tokens").await;
    let listed = list["datos"].as_array().unwrap();
    let id = listed.iter().find(|t| t["nombre"] == "caja").unwrap()["id"].clone();
    let mut stream = WebSocket::open_as(&atalaya, &token).await;
    let deposit =
        |key: &str| json!({"accion": "depositar", "cedula": "1", "monto": 1, "clave": key});
    stream.asks(deposit("before")).await;
    let path = format!("/api/v1/tokens/{id}");
    assert_eq!(client.bare(Method::DELETE, &path).await.status, 204);
    // Before the stream is ended, or after: nothing is done for it.
    stream.try_send(&deposit("after")).await;
    stream.closed().await;
    assert_eq!(client.balance("1").await, "101.00");
}

#[actix_web::test]
async fn a_second_factor_is_asked_for_and_each_code_is_good_once() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let ana = person(&atalaya, "ana", operator()).await;
    let path = format!("{SELF}/segundo_factor");
    // Who has found an open session does not make it their own.
    let luis = person(&atalaya, "luis", operator()).await;
    let guessed = luis
        .send(Method::POST, &path, &json!({"contrasena": "wrong"}))
        .await;
    assert_eq!(guessed.status, 401, "{}", guessed.text());
    let own = json!({"contrasena": CHOSEN});
    luis.changes(Method::POST, &path, &own, 201).await;
    let wrong = luis
        .send(Method::PUT, &path, &json!({"codigo": "000000"}))
        .await;
    assert_refused(&wrong, 401, "codigo_incorrecto", "a guess");
    let begun = ana.changes(Method::POST, &path, &own, 201).await;
    let secret = decoded(begun["secreto"].as_str().unwrap());
    assert!(
        begun["uri"]
            .as_str()
            .unwrap()
            .starts_with("otpauth://totp/atalaya:ana?secret=")
    );
    let step = || second_factor::step_at(crate::support::device::now());
    let first = step();
    let code = second_factor::code(&secret, first);
    let proved = ana.send(Method::PUT, &path, &json!({"codigo": code})).await;
    assert_eq!(proved.status, 204, "{}", proved.text());

    let enter = |code: Option<&str>| {
        let mut body = json!({"usuario": "ana", "contrasena": CHOSEN});
        if let Some(code) = code {
            body["codigo"] = json!(code);
        }
        body
    };
    let needed = sign_in(&client, &enter(None)).await;
    assert_refused(&needed, 401, "falta_codigo", "no code");
    let used = sign_in(&client, &enter(Some(&code))).await;
    assert_refused(&used, 401, "codigo_incorrecto", "the code of the proof");
    // The next one is taken a step early.
    let next = second_factor::code(&secret, first + 1);
    assert_eq!(sign_in(&client, &enter(Some(&next))).await.status, 201);
    let again = sign_in(&client, &enter(Some(&next))).await;
    assert_refused(&again, 401, "codigo_incorrecto", "once");
    // A wrong password does not tell whether there is a second factor.
    let body = json!({"usuario": "ana", "contrasena": "wrong", "codigo": next});
    let refused = sign_in(&client, &body).await;
    assert_refused(
        &refused,
        401,
        "credenciales_invalidas",
        "the password first",
    );
    let gone = json!({"segundo_factor": false});
    client
        .changes(Method::PATCH, "/api/v1/usuarios/ana", &gone, 200)
        .await;
    assert_eq!(sign_in(&client, &enter(None)).await.status, 201);
}

/// The secret in an app's letters (base32).
fn decoded(text: &str) -> Secret {
    let mut bits = Vec::new();
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            _ => letter - b'2' + 26,
        };
        bits.extend((0..5).rev().map(|bit| value >> bit & 1));
    }
    let bytes: Vec<u8> = bits
        .chunks_exact(8)
        .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit))
        .collect();
    Secret(bytes[..32].try_into().unwrap())
}

#[actix_web::test]
async fn admin_is_one_persons_only_role_and_somebody_always_has_it() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let admin = signed_in(&client, "admin", ADMIN_PASSWORD).await;
    let combined = json!({"usuario": "todo", "roles": [{"rol": "admin"}, {"rol": "auditor"}]});
    let people = "/api/v1/usuarios";
    let refused = admin.send(Method::POST, people, &combined).await;
    assert_refused(&refused, 422, "rol_invalido", "two roles");
    for roles in [
        json!([{"rol": "rey"}]),
        json!([{"rol": "cajero"}]),
        json!([{"rol": "cliente", "empresa": "banco"}]),
        json!([{"rol": "operador", "empresa": "nada"}]),
        json!([{"rol": "cajero", "empresa": "banco", "sede": "nada"}]),
        json!([{"rol": "cajero", "sede": "principal"}]),
    ] {
        let body = json!({"usuario": "nuevo", "roles": roles});
        let refused = admin.send(Method::POST, people, &body).await;
        assert_refused(&refused, 422, "rol_invalido", &body);
    }
    let own = "/api/v1/usuarios/admin";
    for body in [
        json!({"activo": false}),
        json!({"roles": []}),
        json!({"nueva_contrasena": true}),
    ] {
        let refused = admin.send(Method::PATCH, own, &body).await;
        assert_refused(&refused, 403, "no_permitido", &body);
        let last = client.send(Method::PATCH, own, &body).await;
        if body.get("nueva_contrasena").is_none() {
            assert_refused(&last, 409, "ultimo_admin", &body);
        }
    }
    let second = json!([{"rol": "admin"}]);
    created(&client, "segunda", second).await;
    let out = json!({"activo": false});
    client.changes(Method::PATCH, own, &out, 200).await;
    assert_eq!(
        sign_in(
            &client,
            &json!({"usuario": "admin", "contrasena": ADMIN_PASSWORD})
        )
        .await
        .status,
        401
    );
    let last = client
        .send(Method::PATCH, "/api/v1/usuarios/segunda", &out)
        .await;
    assert_refused(&last, 409, "ultimo_admin", "the second");
    let taken = json!({"usuario": "segunda"});
    let refused = client.send(Method::POST, people, &taken).await;
    assert_refused(&refused, 409, "usuario_existe", "twice");
    for reserved in ["atalaya", "hardware", "a b", ""] {
        let body = json!({"usuario": reserved});
        let refused = client.send(Method::POST, people, &body).await;
        assert_refused(&refused, 422, "valor_invalido", reserved);
    }
}

#[actix_web::test]
async fn a_teller_who_is_tied_to_a_site_works_there_and_nowhere_else() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let site = json!({"empresa": "banco", "sede": "norte"});
    client
        .changes(Method::POST, "/api/v1/sedes", &site, 201)
        .await;
    client.open_with("1", "100.00").await;
    let roles = json!([{"rol": "cajero", "empresa": "banco", "sede": "norte"}]);
    let teller = client.with_token(&make_token_for(&client, "caja", &roles).await);
    let deposit = async |site: Option<&str>, key: &str| {
        let mut body = json!({"monto": 1});
        if let Some(site) = site {
            body["sede"] = json!(site);
        }
        let path = "/api/v1/cuentas/1/depositos";
        teller.post(path, Some(key), &body).await.unwrap()
    };
    assert_eq!(deposit(None, "a").await.status, 201);
    assert_eq!(deposit(Some("norte"), "b").await.status, 201);
    for elsewhere in ["principal", "nada"] {
        let refused = deposit(Some(elsewhere), elsewhere).await;
        assert_refused(&refused, 422, "sede_no_existe", elsewhere);
    }
    let history = teller.json("/api/v1/cuentas/1/movimientos").await;
    let sites: Vec<&Value> = history["datos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["sede"])
        .collect();
    assert_eq!(sites, [&json!("norte"), &json!("norte"), &Value::Null]);
}

/// A customer sees their own account and nobody else's, live too.
#[actix_web::test]
async fn a_customer_sees_their_own_account_alone() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1350509525", "100.00").await;
    client.open_with("1315151515", "100.00").await;
    let roles = json!([{"rol": "cliente", "cedula": "1350509525"}]);
    let token = make_token_for(&client, "suya", &roles).await;
    let mut session = WebSocket::open_as(&atalaya, &token).await;
    let other = json!({"accion": "suscribir", "temas": ["banco/saldo/1315151515"]});
    assert_eq!(session.ask(other).await.code(), "no_permitido");
    let alerts = json!({"accion": "suscribir", "temas": ["empresas/banco/alertas"]});
    assert_eq!(session.ask(alerts).await.code(), "no_permitido");
    session.subscribe(&["#", "banco/saldo/1350509525"]).await;
    let retained = session.event().await;
    assert_eq!(
        (retained.topic.as_str(), retained.retained),
        ("banco/saldo/1350509525", true)
    );

    register(&client, "banco", "principal", "boton-1", "BOTONERA").await;
    assert_eq!(client.raise("boton-1", "ROJO").await.status, 201);
    assert_eq!(
        client.deposit("1315151515", "7.00", "theirs").await.status,
        201
    );
    assert_eq!(
        client
            .transfer("1315151515", "1350509525", "5.00", "t")
            .await
            .status,
        201
    );
    assert_eq!(
        client.deposit("1350509525", "9.00", "own").await.status,
        201
    );
    let mut topics = Vec::new();
    loop {
        let event = session.event().await;
        assert!(!event.payload.contains("1315151515"), "{event:?}");
        assert!(event.topic.starts_with("banco/"), "{event:?}");
        let is_last = event.payload.contains("114.00") && event.topic.starts_with("banco/saldo");
        topics.push(event.topic);
        if is_last {
            break;
        }
    }
    topics.sort();
    topics.dedup();
    assert_eq!(
        topics,
        [
            "banco/depositos",
            "banco/saldo/1350509525",
            "banco/transacciones"
        ]
    );
}

#[actix_web::test]
async fn what_happens_to_access_is_kept_with_who_when_and_from_where() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    let ana = person(&atalaya, "ana", operator()).await;
    let guess = json!({"usuario": "ana", "contrasena": "guess"});
    assert_eq!(sign_in(&client, &guess).await.status, 401);
    // A flood of refusals is a number, not a row each.
    for _ in 0..200 {
        assert_eq!(ana.get("/api/v1/usuarios").await.unwrap().status, 403);
    }
    make_token_for(&client, "lector", &json!([{"rol": "auditor"}])).await;
    let lines = eventually("failures and refusals are kept", || async {
        let lines = client.walk("/api/v1/auditoria", "", 7).await;
        let has = |event: &str| lines.iter().any(|line| line["suceso"] == event);
        (has("inicio_fallido") && has("acceso_denegado")).then_some(lines)
    })
    .await;
    let of = |event: &str| {
        let found: Vec<&Value> = lines
            .iter()
            .filter(|line| line["suceso"] == event)
            .collect();
        assert!(!found.is_empty(), "{event} is missing");
        found
    };
    let failed = of("inicio_fallido")[0];
    assert_eq!(
        (&failed["quien"], &failed["direccion"], &failed["sobre"]),
        (&json!("ana"), &json!("127.0.0.1"), &json!("ana"))
    );
    let refused = of("acceso_denegado");
    assert!(refused.len() <= 3, "{refused:?}");
    assert_eq!(
        (&refused[0]["quien"], &refused[0]["detalle"]),
        (&json!("ana"), &json!("leer_usuarios"))
    );
    let made = of("usuario_creado");
    let made = made.iter().find(|line| line["sobre"] == "ana").unwrap();
    assert_eq!(
        (&made["por"], &made["detalle"]),
        (&json!("automatizacion"), &json!("operador@banco"))
    );
    let entered = of("inicio_de_sesion")[0];
    assert_eq!(
        (&entered["por"], &entered["direccion"]),
        (&json!("ana"), &json!("127.0.0.1"))
    );
    of("contrasena_cambiada");
    let token = of("token_creado")[0];
    assert_eq!(token["sobre"], "token:lector");
    let hers = client.walk("/api/v1/auditoria", "&usuario=ana", 50).await;
    assert!(
        hers.iter()
            .all(|line| line["por"] == "ana" || line["sobre"] == "ana" || line["quien"] == "ana")
    );
    // Where somebody was is personal, and can be erased without breaking the chain.
    let details = Records::of(&atalaya)
        .texts("SELECT CAST(details AS TEXT) AS value FROM journal WHERE fact = 6");
    assert!(!details.is_empty());
    assert!(
        details
            .iter()
            .all(|text| !text.contains("127.0.0.1") && !text.contains("ana"))
    );
    audit(&atalaya.database()).unwrap();
}

/// A user, their token, and filters with whether they are granted.
type Listener<'a> = (&'a str, &'a str, &'a [(&'a str, bool)]);

/// At the embedded broker a token is the password, and a filter is granted where all of it may be
/// seen; the end of the token ends the connection.
#[actix_web::test]
async fn people_listen_at_our_own_broker_to_what_they_may_see_and_no_longer() {
    let atalaya = Atalaya::with_embedded_broker().start().await;
    let client = atalaya.client();
    client.open_with("1350509525", "100.00").await;
    let port = atalaya.mqtt_port;
    let join = async |user: &str, token: &str, id: &str| {
        let mut options = Guest::anonymous(port, id);
        options.set_credentials(user, token);
        Guest::connect(options).await
    };
    let customer = json!([{"rol": "cliente", "cedula": "1350509525"}]);
    let customer = make_token_for(&client, "suya", &customer).await;
    let teller = json!([{"rol": "cajero", "empresa": "banco"}]);
    let teller = make_token_for(&client, "caja", &teller).await;
    let auditor = make_token_for(&client, "lector", &json!([{"rol": "auditor"}])).await;
    for (user, password) in [
        ("suya", "guess"),
        ("lector", customer.as_str()),
        ("suya", ""),
    ] {
        let refused = join(user, password, "stranger").await.err();
        assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized), "{user}");
    }
    let cases: [Listener<'_>; 3] = [
        (
            "suya",
            &customer,
            &[
                ("banco/saldo/1350509525", true),
                ("banco/saldo/1315151515", false),
                ("banco/saldo/+", false),
                ("$share/g/banco/saldo/+", false),
                ("banco/#", false),
                ("#", false),
                ("empresas/banco/alertas", false),
            ],
        ),
        (
            "caja",
            &teller,
            &[("banco/#", false), ("banco/estadisticas", true)],
        ),
        (
            "token",
            &auditor,
            &[("#", true), ("$share/g/banco/#", true)],
        ),
    ];
    for (user, token, filters) in cases {
        let mut guest = join(user, token, &format!("id-{user}")).await.unwrap();
        for (filter, granted) in filters {
            let reason = guest.asks_for(filter).await;
            assert_eq!(reason < 0x80, *granted, "{user} {filter}");
        }
        for topic in ["banco/depositos", "empresas/banco/principal/x/alerta", "x"] {
            let reason = guest
                .publish(topic, QoS::AtLeastOnce, false, "forged")
                .await;
            assert_eq!(reason, 0x87, "{user} publishes on {topic}");
        }
    }
    let mut guest = join("suya", &customer, "mine").await.unwrap();
    guest.asks_for("banco/saldo/1350509525").await;
    assert!(guest.message().await.text().contains("100.00"));
    let list = client.json("/api/v1/tokens").await;
    let listed = list["datos"].as_array().unwrap();
    let id = &listed.iter().find(|t| t["nombre"] == "suya").unwrap()["id"];
    let revoked = client
        .bare(Method::DELETE, &format!("/api/v1/tokens/{id}"))
        .await;
    assert_eq!(revoked.status, 204);
    assert!(guest.is_shown_out().await < Duration::from_secs(1));
    let refused = join("suya", &customer, "mine").await.err();
    assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized));
}
