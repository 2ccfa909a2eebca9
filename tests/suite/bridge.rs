//! The web front end from before Atalaya: its REST, its Socket.IO, and for whom they are.

use crate::support::access::make_token_for;
use crate::support::client::{Client, Response, finish};
use crate::support::front_end::{FRONT_END, socket_io};
use crate::support::{Atalaya, DEADLINE, Watched, WebSocket, eventually, raw};
use awc::http::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::{Duration, Instant};

async fn bridged() -> Atalaya {
    Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .set("TCP_TRUSTED", "127.0.0.1=cajero:banco")
        .set("ALLOWED_ORIGINS", FRONT_END)
        .set("TZ", "America/Guayaquil")
        .start()
        .await
}

/// A client as the front end is one: it shows nothing.
fn front_end(atalaya: &Atalaya) -> Client {
    atalaya.client().anonymous()
}

async fn post(client: &Client, action: &str, body: &Value) -> Response {
    let path = format!("/api/{action}");
    client.post(&path, None, body).await.unwrap()
}

async fn says(client: &Client, action: &str, body: Value, status: u16, text: &str) {
    let answer = post(client, action, &body).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (status, text),
        "{action} {body}"
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[actix_web::test]
async fn each_question_has_the_answer_that_the_front_end_reads() {
    let atalaya = bridged().await;
    let client = front_end(&atalaya);
    let one = |name: &str| json!({"cedula": "1350509525", "nombre": name});
    says(
        &client,
        "crear",
        one("Ana Lucía Vera Paz"),
        200,
        r#"{"success":true,"action":"crear","data":{"mensaje":"Cliente creado exitosamente","nombres":"Ana Lucía","apellidos":"Vera Paz","saldo":0.00}}"#,
    )
    .await;
    let move_of = |amount: Value| json!({"cedula": "1350509525", "monto": amount});
    says(
        &client,
        "deposito",
        move_of(json!(1150)),
        200,
        r#"{"success":true,"action":"deposito","data":{"mensaje":"Depósito exitoso","nuevo_saldo":1150.00}}"#,
    )
    .await;
    says(
        &client,
        "retiro",
        move_of(json!("50.50")),
        200,
        r#"{"success":true,"action":"retiro","data":{"mensaje":"Retiro exitoso","nuevo_saldo":1099.50}}"#,
    )
    .await;
    says(
        &client,
        "consulta",
        json!({"cedula": "1350509525"}),
        200,
        r#"{"success":true,"action":"consulta","data":{"nombres":"Ana Lucía","apellidos":"Vera Paz","saldo":1099.50}}"#,
    )
    .await;
    post(
        &client,
        "crear",
        &json!({"cedula": "2", "nombre": "Eva Paz"}),
    )
    .await;
    let transfer = json!({"cedula_origen": "1350509525", "cedula_destino": "2", "monto": 99.5});
    says(
        &client,
        "transferir",
        transfer,
        200,
        r#"{"success":true,"action":"transferir","data":{"mensaje":"Transferencia exitosa","saldo_origen":1000.00,"saldo_destino":99.50}}"#,
    )
    .await;
    let history = client
        .get("/api/historial/1350509525")
        .await
        .unwrap()
        .json();
    assert_eq!(
        (&history["success"], &history["action"]),
        (&json!(true), &json!("historial"))
    );
    let movements = history["data"]["transacciones"].as_array().unwrap();
    let kinds: Vec<&str> = movements
        .iter()
        .map(|m| m["tipo"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["TRANSFERENCIA_ENVIADA", "RETIRO", "DEPOSITO"]);
    assert_eq!(movements[0]["saldo_final"].to_string(), "1000.0");
    // Dates in the zone of TZ, five hours behind UTC.
    let path = "/api/v1/cuentas/1350509525/movimientos";
    let moment = atalaya.client().get(path).await.unwrap().json()["datos"][0]["timestamp"].clone();
    let moment: jiff::Timestamp = moment.as_str().unwrap().parse().unwrap();
    let local = moment.in_tz("America/Guayaquil").unwrap();
    let expected = local.strftime("%Y-%m-%d %H:%M:%S").to_string();
    assert_eq!(movements[0]["fecha"], expected.as_str());
    for _ in 0..12 {
        post(&client, "deposito", &move_of(json!(1))).await;
    }
    let history = client
        .get("/api/historial/1350509525")
        .await
        .unwrap()
        .json();
    assert_eq!(
        history["data"]["transacciones"].as_array().unwrap().len(),
        10
    );
    let figures = client.get("/api/stats").await.unwrap();
    assert_eq!(
        figures.text(),
        r#"{"success":true,"action":"stats","estadisticas":{"clientes_activos":0,"operaciones_simultaneas":0,"conexiones_activas":0}}"#
    );
    let health = client.get("/health").await.unwrap().json();
    assert_eq!(health["status"], "ok");
    assert!(health["service"].is_string() && health["timestamp"].is_string());
}

#[actix_web::test]
async fn what_cannot_be_done_is_said_in_one_form() {
    let atalaya = bridged().await;
    let client = front_end(&atalaya);
    atalaya.client().open_with("1", "10.00").await;
    let failed = |text: &str| format!(r#"{{"success":false,"error":"{text}","detalles":null}}"#);
    let unknown = json!({"cedula": "404", "monto": 1});
    says(
        &client,
        "deposito",
        unknown.clone(),
        404,
        &failed("Cliente no encontrado"),
    )
    .await;
    says(
        &client,
        "consulta",
        unknown,
        404,
        &failed("Cliente no encontrado"),
    )
    .await;
    let short = r#"{"success":false,"error":"Saldo insuficiente","detalles":"10.00"}"#;
    says(
        &client,
        "retiro",
        json!({"cedula": "1", "monto": 11}),
        409,
        short,
    )
    .await;
    for (amount, text) in [
        (json!("abc"), "Formato de monto inválido"),
        (json!("1,50"), "Formato de monto inválido"),
        (json!(1.001), "Formato de monto inválido"),
        (json!(null), "Formato de monto inválido"),
        (json!(0), "El monto debe ser positivo"),
        (json!(-5), "El monto debe ser positivo"),
    ] {
        let body = json!({"cedula": "1", "monto": amount});
        says(&client, "deposito", body, 400, &failed(text)).await;
    }
    let transfer = |from: &str, to: &str, amount: i64| json!({"cedula_origen": from, "cedula_destino": to, "monto": amount});
    says(
        &client,
        "transferir",
        transfer("404", "1", 1),
        404,
        &failed("Cuenta origen no existe"),
    )
    .await;
    says(
        &client,
        "transferir",
        transfer("1", "404", 1),
        404,
        &failed("Cuenta destino no existe"),
    )
    .await;
    atalaya.client().open("2").await;
    let poor = failed("Saldo insuficiente en cuenta origen");
    says(&client, "transferir", transfer("1", "2", 11), 409, &poor).await;
    let named = |name: &str| json!({"cedula": "1", "nombre": name});
    says(
        &client,
        "crear",
        named("Ana Vera"),
        409,
        &failed("Cliente ya existe"),
    )
    .await;
    let few = failed("Debe proporcionar al menos nombre y apellido");
    says(&client, "crear", named("Ana"), 400, &few).await;
    says(
        &client,
        "deposito",
        json!({"cedula": "1"}),
        400,
        &failed("Datos inválidos"),
    )
    .await;
    let text = client.request(Method::POST, "/api/deposito");
    let text = finish(
        text.insert_header(("content-type", "text/plain"))
            .send_body("{}"),
    )
    .await;
    let text = text.unwrap();
    assert_eq!(
        (text.status, text.json()["error"].as_str()),
        (415, Some("Datos inválidos"))
    );
    assert_eq!(atalaya.client().balance("1").await, "10.00");
    // A key that comes is honoured.
    let body = json!({"cedula": "1", "monto": 1});
    for _ in 0..3 {
        let answer = client
            .post("/api/deposito", Some("k"), &body)
            .await
            .unwrap();
        assert_eq!(answer.json()["data"]["nuevo_saldo"].to_string(), "11.0");
    }
}

#[actix_web::test]
async fn it_is_there_for_those_who_are_trusted_and_where_it_is_switched_on() {
    let off = Atalaya::without_mqtt()
        .set("TCP_TRUSTED", "127.0.0.1=cajero:banco")
        .start()
        .await;
    let body = json!({"cedula": "1"});
    let answer = off
        .client()
        .post("/api/consulta", None, &body)
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (404, "no_encontrado")
    );
    let socket = "/socket.io/?EIO=4&transport=websocket";
    assert_eq!(off.client().get(socket).await.unwrap().status, 404);
    drop(off);

    let atalaya = Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .start()
        .await;
    let nobody = front_end(&atalaya);
    let unauthorised = r#"{"success":false,"error":"No autorizado","detalles":null}"#;
    says(&nobody, "consulta", body.clone(), 401, unauthorised).await;
    assert_eq!(nobody.get("/api/stats").await.unwrap().status, 401);
    // Whoever shows a token is who they are.
    atalaya.client().open("1").await;
    let reader = make_token_for(&atalaya.client(), "lector", &json!([{"rol": "auditor"}])).await;
    let reader = atalaya.client().with_token(&reader);
    assert_eq!(post(&reader, "consulta", &body).await.status, 200);
    let refused = r#"{"success":false,"error":"Operación no permitida","detalles":null}"#;
    says(
        &reader,
        "deposito",
        json!({"cedula": "1", "monto": 1}),
        403,
        refused,
    )
    .await;
    drop(atalaya);

    // Where an address is trusted, it is trusted here and nowhere else.
    let atalaya = bridged().await;
    let trusted = front_end(&atalaya);
    trusted
        .post(
            "/api/crear",
            None,
            &json!({"cedula": "1", "nombre": "Ana Vera"}),
        )
        .await
        .unwrap();
    assert_eq!(trusted.get("/api/v1/cuentas/1").await.unwrap().status, 401);
    assert_eq!(trusted.get("/ws").await.unwrap().status, 401);
}

#[actix_web::test]
async fn another_origin_reads_it_if_it_is_allowed_and_no_other_does() {
    let atalaya = bridged().await;
    let client = front_end(&atalaya);
    let ask = async |method: Method, path: &str, origin: &str| {
        let request = client
            .request(method, path)
            .insert_header(("origin", origin));
        let request = request.insert_header(("access-control-request-method", "POST"));
        finish(request.send()).await.unwrap()
    };
    let may = "access-control-allow-origin";
    let asked = ask(Method::OPTIONS, "/api/deposito", FRONT_END).await;
    assert_eq!((asked.status, asked.header(may)), (204, Some(FRONT_END)));
    assert_eq!(asked.header("access-control-allow-methods"), Some("POST"));
    assert!(
        asked
            .header("access-control-allow-headers")
            .unwrap()
            .contains("content-type")
    );
    for path in ["/api/stats", "/api/historial/404", "/health"] {
        let answer = ask(Method::GET, path, FRONT_END).await;
        assert_eq!(answer.header(may), Some(FRONT_END), "{path}");
        assert!(answer.header("vary").unwrap().contains("Origin"), "{path}");
    }
    let elsewhere = ask(Method::GET, "/api/v1/cuentas/1", FRONT_END).await;
    assert_eq!(elsewhere.header(may), None);
    for origin in ["https://evil.example", "null"] {
        for method in [Method::OPTIONS, Method::GET] {
            let answer = ask(method, "/api/stats", origin).await;
            assert_eq!((answer.status, answer.header(may)), (403, None), "{origin}");
            assert!(
                answer.text().contains("ALLOWED_ORIGINS"),
                "{}",
                answer.text()
            );
        }
    }
}

#[actix_web::test]
async fn a_socket_io_client_sees_what_it_has_subscribed_to() {
    let mut atalaya = bridged().await;
    let client = atalaya.client();
    client.open_with("1350509525", "100.00").await;
    client.open("2").await;
    let mut front = socket_io(&atalaya, None);
    front
        .wait_for_line(r#"["connected",{"mensaje":"Conectado"}]"#)
        .await;
    front.tell("subscribe 1350509525");
    front.wait_for_line(r#"["heard","1350509525",true]"#).await;
    let balance =
        |text: &str| format!(r#"["balance_updated",{{"cedula":"1350509525","balance":{text}}}]"#);
    front.wait_for_line(&balance("100")).await;
    let mut session = WebSocket::open(&atalaya).await;
    session.subscribe(&["banco/saldo/1350509525"]).await;
    client.deposit("1350509525", "50.25", "k").await;
    front.wait_for_line(&balance("150.25")).await;
    let event = session.events_until(|event| event.version() == 2).await;
    assert!(
        event
            .last()
            .unwrap()
            .payload
            .contains(r#""saldo_nuevo":150.25"#)
    );
    let news = front.wait_for_line(r#""saldo_final":150.25"#).await;
    assert!(news.starts_with(r#"["transactions_updated",{"cedula":"1350509525","transactions":[{"tipo":"DEPOSITO","monto":50.25,"#), "{news}");
    client.deposit("2", "7.77", "other").await;
    front
        .wait_for_line(r#"["stats_updated",{"clientes_activos":2,"#)
        .await;
    // Another process, after a crash or in good order: it comes back and subscribes anew.
    atalaya.kill();
    front.wait_for_line(r#"["disconnect""#).await;
    atalaya.start().await;
    client.deposit("1350509525", "1.00", "after").await;
    front.wait_for_line(&balance("151.25")).await;
    atalaya.terminate().await;
    atalaya.start().await;
    client.deposit("1350509525", "1.00", "again").await;
    front.wait_for_line(&balance("152.25")).await;
    let heard = front.stdout().join("\n");
    assert!(
        !heard.contains("7.77"),
        "it sees what it did not ask for: {heard}"
    );
}

#[actix_web::test]
async fn a_socket_io_client_follows_what_it_asked_for_last() {
    const MOST: usize = 64;
    let atalaya = bridged().await;
    let client = atalaya.client();
    let account = |n: usize| (5_000 + n).to_string();
    for n in 0..=MOST {
        client.open_with(&account(n), "1.00").await;
    }
    let mut front = socket_io(&atalaya, None);
    front.wait_for_line(r#"["connected""#).await;
    let balance =
        |n: usize, text: &str| format!(r#"{{"cedula":"{}","balance":{text}}}"#, account(n));
    for n in 0..=MOST {
        front.tell(&format!("subscribe {}", account(n)));
        front.wait_for_line(&balance(n, "1")).await;
    }
    // The first was let go for the last.
    client.deposit(&account(0), "1.00", "first").await;
    client.deposit(&account(MOST), "1.00", "last").await;
    front.wait_for_line(&balance(MOST, "2")).await;
    let heard = front.stdout().join("\n");
    assert!(!heard.contains(&balance(0, "2")), "{heard}");
    // Whoever asks again is told again.
    let told = |front: &Watched| {
        let lines = front.stdout();
        let of = balance(MOST, "2");
        lines.iter().filter(|line| line.contains(&of)).count()
    };
    assert_eq!(told(&front), 1);
    front.tell(&format!("subscribe {}", account(MOST)));
    eventually("it is told again", || async {
        (told(&front) == 2).then_some(())
    })
    .await;
    // Its address is trusted for a company, while there is one.
    let off = json!({"activa": false});
    client
        .changes(Method::PATCH, "/api/v1/empresas/banco", &off, 200)
        .await;
    front
        .wait_for_line(r#"["disconnect","io server disconnect"]"#)
        .await;
}

#[actix_web::test]
async fn who_does_not_say_who_they_are_does_not_stay() {
    let atalaya = bridged().await;
    let port = atalaya.http_port;
    let ended = actix_web::rt::task::spawn_blocking(move || {
        let mut stream = raw::connect(port);
        let handshake = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(handshake.as_bytes()).unwrap();
        // Questions for life, whose answers are not read. Under a mask of zeros text is as it is.
        let mut ping = vec![0x81, 0xfe, 0x10, 0, 0, 0, 0, 0];
        ping.resize(8 + 0x1000, b'2');
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            if stream.write_all(&ping).is_err() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    });
    assert!(ended.await.unwrap(), "it stays");
}

#[actix_web::test]
async fn a_socket_io_client_must_say_who_it_is() {
    let atalaya = Atalaya::without_mqtt()
        .set("LEGACY_API", "on")
        .set("ALLOWED_ORIGINS", FRONT_END)
        .start()
        .await;
    let client = atalaya.client();
    client.open_with("1", "5.00").await;
    client.open_with("2", "7.00").await;
    let nobody = socket_io(&atalaya, None);
    nobody
        .wait_for_line(r#"["connect_error","No autorizado"]"#)
        .await;
    let wrong = socket_io(&atalaya, Some(&"x".repeat(43)));
    wrong
        .wait_for_line(r#"["connect_error","Token inválido"]"#)
        .await;
    let own = json!([{"rol": "cliente", "cedula": "1"}]);
    let token = make_token_for(&client, "titular", &own).await;
    let mut customer = socket_io(&atalaya, Some(&token));
    customer.wait_for_line(r#"["connected""#).await;
    customer.tell("subscribe 2");
    customer.wait_for_line(r#"["heard","2",false]"#).await;
    customer.tell("subscribe 1");
    customer
        .wait_for_line(r#"{"cedula":"1","balance":5}"#)
        .await;
    client.deposit("2", "1.00", "a").await;
    client.deposit("1", "1.00", "b").await;
    customer
        .wait_for_line(r#"{"cedula":"1","balance":6}"#)
        .await;
    let heard = customer.stdout().join("\n");
    assert!(
        !heard.contains(r#""cedula":"2""#) && !heard.contains("stats_updated"),
        "{heard}"
    );
    // Its token ends, and its session with it.
    let tokens = client.get("/api/v1/tokens").await.unwrap().json();
    let found = tokens["datos"]
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["nombre"] == "titular");
    let path = format!("/api/v1/tokens/{}", found.unwrap()["id"]);
    assert_eq!(client.bare(Method::DELETE, &path).await.status, 204);
    customer
        .wait_for_line(r#"["disconnect","io server disconnect"]"#)
        .await;
}

#[actix_web::test]
async fn what_is_no_socket_io_is_told_so() {
    let atalaya = bridged().await;
    let client = front_end(&atalaya);
    for (query, text) in [
        (
            "EIO=4&transport=polling",
            r#"{"code":0,"message":"Transport unknown"}"#,
        ),
        (
            "EIO=3&transport=websocket",
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
        ("", r#"{"code":5,"message":"Unsupported protocol version"}"#),
    ] {
        let answer = client.get(&format!("/socket.io/?{query}")).await.unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (400, text),
            "{query}"
        );
    }
    let path = "/socket.io/?EIO=4&transport=websocket";
    let foreign = [("Origin", "https://evil.example")];
    assert_eq!(
        WebSocket::knock(atalaya.http_port, path, &foreign).await,
        Err(403)
    );
    let mut session = WebSocket::open_at(&atalaya, path, None).await;
    assert!(session.raw().await.starts_with("0{\"sid\":"));
    session.send_text("42[").await;
    assert_eq!(session.closed().await.map(|(code, _)| code), Some(1002));
    assert_eq!(client.get("/livez").await.unwrap().status, 200);
}
