//! The port of tellers' terminals: the line protocol, byte for byte, and what ends a connection.

use crate::support::access::{ADMIN_TOKEN, make_token, make_token_for};
use crate::support::certificates::Authority;
use crate::support::front_end::{FRONT_END, socket_io};
use crate::support::terminal::{WELCOME, connect_from};
use crate::support::{Atalaya, Client, DEADLINE, Subscriber, Terminal, WebSocket, eventually, raw};
use crate::tls::{connect_with, serve};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

const NOBODY: &str = "ERROR|Debe autenticarse primero (AUTENTICAR <token>)";
const UNRECOGNISED: &str = "ERROR|Comando no reconocido o parámetros incorrectos";
const BAD_TOKEN: &str = "ERROR|Token inválido";

/// An Atalaya whose terminals on this machine are tellers.
async fn bank() -> Atalaya {
    trusting("127.0.0.1=cajero:banco").await
}

async fn trusting(networks: &str) -> Atalaya {
    let settings = Atalaya::without_mqtt().set("TCP_TRUSTED", networks);
    settings.set("TZ", "America/Guayaquil").start().await
}

/// A few commands and what they answer, in order, on accounts that are not there yet.
const CONVERSATION: &[(&str, &str)] = &[
    ("CONSULTA 1350509525", "ERROR|Cliente no encontrado"),
    ("HISTORIAL 1350509525", "ERROR|Cliente no encontrado"),
    ("AUMENTAR 1350509525 1", "ERROR|Cliente no encontrado"),
    ("DISMINUIR 1350509525 1", "ERROR|Cliente no encontrado"),
    (
        "CREAR 1350509525",
        "ERROR|Debe proporcionar al menos nombre y apellido",
    ),
    (
        "CREAR 1350509525 Stefano",
        "ERROR|Debe proporcionar al menos nombre y apellido",
    ),
    (
        "CREAR 1350509525 Stefano Iván Aguilar Peña",
        "OK|Cliente creado exitosamente|Stefano Iván|Aguilar Peña|0.00",
    ),
    ("CREAR 1350509525 Otro Nombre", "ERROR|Cliente ya existe"),
    (
        "CREAR 2 Ana Vera Paz",
        "OK|Cliente creado exitosamente|Ana|Vera Paz|0.00",
    ),
    ("CREAR 3 Ana|Vera Paz", "ERROR|Nombre o apellido inválido"),
    ("CREAR 3 Ana V\u{7}era", "ERROR|Nombre o apellido inválido"),
    ("HISTORIAL 1350509525", "OK|Sin transacciones"),
    ("CONSULTA 1350509525", "OK|Stefano Iván|Aguilar Peña|0.00"),
    ("AUMENTAR 1350509525 150", "OK|Depósito exitoso|150.00"),
    ("AUMENTAR 1350509525 0.5", "OK|Depósito exitoso|150.50"),
    ("DISMINUIR 1350509525 50.25", "OK|Retiro exitoso|100.25"),
    (
        "DISMINUIR 1350509525 100.26",
        "ERROR|Saldo insuficiente|100.25",
    ),
    (
        "TRANSFERIR 1350509525 2 20.25",
        "OK|Transferencia exitosa|80.00|20.25",
    ),
    (
        "TRANSFERIR 1350509525 2 80.01",
        "ERROR|Saldo insuficiente en cuenta origen",
    ),
    ("TRANSFERIR 9 2 1", "ERROR|Cuenta origen no existe"),
    (
        "TRANSFERIR 1350509525 9 1",
        "ERROR|Cuenta destino no existe",
    ),
    (
        "TRANSFERIR 2 2 1",
        "ERROR|La cuenta origen y la cuenta destino son la misma",
    ),
    ("AUMENTAR 2 abc", "ERROR|Formato de monto inválido"),
    ("AUMENTAR 2 1e2", "ERROR|Formato de monto inválido"),
    ("AUMENTAR 2 0.001", "ERROR|Formato de monto inválido"),
    ("DISMINUIR 2 12,50", "ERROR|Formato de monto inválido"),
    (
        "TRANSFERIR 2 1350509525 NaN",
        "ERROR|Formato de monto inválido",
    ),
    ("AUMENTAR 2 0", "ERROR|El monto debe ser positivo"),
    ("DISMINUIR 2 -5", "ERROR|El monto debe ser positivo"),
    (
        "TRANSFERIR 2 1350509525 -0.01",
        "ERROR|El monto debe ser positivo",
    ),
    ("AUMENTAR 2", UNRECOGNISED),
    ("AUMENTAR x 1", UNRECOGNISED),
    ("CONSULTA", UNRECOGNISED),
    ("HOLA", UNRECOGNISED),
    ("consulta 2", "OK|Ana|Vera Paz|20.25"),
    (
        "STATS",
        "OK|Clientes conectados: 1|Transacciones: 5|IPs activas: 1",
    ),
    ("SALIR", "OK|Hasta pronto"),
];

#[actix_web::test]
async fn each_command_answers_without_a_newline() {
    let atalaya = bank().await;
    let mut terminal = Terminal::open(&atalaya);
    for (command, answer) in CONVERSATION {
        assert_eq!(terminal.asks(command), *answer, "{command}");
    }
    assert_eq!(terminal.rest(), "");
}

#[actix_web::test]
async fn each_command_answers_with_a_newline() {
    let atalaya = bank().await;
    let mut terminal = Terminal::open(&atalaya);
    for (n, (command, answer)) in CONVERSATION.iter().enumerate() {
        let end = if n % 2 == 0 { "" } else { "\r" };
        let line = format!("{command}{end}");
        assert_eq!(terminal.asks_line(&line), *answer, "{line:?}");
    }
    assert_eq!(terminal.rest(), "");
}

#[actix_web::test]
async fn the_history_is_newest_first_and_ten_at_most_in_the_local_time() {
    let atalaya = bank().await;
    let client = atalaya.client();
    client.open("1").await;
    client.open("2").await;
    let mut terminal = Terminal::open(&atalaya);
    for n in 1..=9 {
        terminal.asks_line(&format!("AUMENTAR 1 {n}"));
    }
    terminal.asks_line("DISMINUIR 1 2.50");
    terminal.asks_line("TRANSFERIR 1 2 1");

    let movements = movements(&client, "1").await;
    let money = |value: &Value| format!("{:.2}", value.as_f64().unwrap());
    let zone = jiff::tz::TimeZone::get("America/Guayaquil").unwrap();
    let fields: Vec<_> = movements[..10]
        .iter()
        .flat_map(|movement| {
            let at: jiff::Timestamp = movement["timestamp"].as_str().unwrap().parse().unwrap();
            let date = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S");
            [
                movement["tipo"].as_str().unwrap().to_owned(),
                money(&movement["monto"]),
                money(&movement["saldo_nuevo"]),
                date.to_string(),
            ]
        })
        .collect();
    let history = terminal.asks_line("HISTORIAL 1");
    assert_eq!(history, format!("OK|{}", fields.join("|")));
    assert!(
        history.starts_with("OK|TRANSFERENCIA_ENVIADA|1.00|41.50|"),
        "{history}"
    );
    let received = terminal.asks_line("HISTORIAL 2");
    assert!(
        received.starts_with("OK|TRANSFERENCIA_RECIBIDA|1.00|1.00|"),
        "{received}"
    );
}

async fn movements(client: &Client, account: &str) -> Vec<Value> {
    let path = format!("/api/v1/cuentas/{account}/movimientos");
    let page = client.get(&path).await.unwrap().json();
    page["datos"].as_array().unwrap().clone()
}

/// A teller per terminal, each of them old: no newline, and one answer before the next command.
#[actix_web::test]
async fn five_terminals_at_once_on_one_account_add_up() {
    let atalaya = Atalaya::without_mqtt()
        .set("TCP_TRUSTED", "127.0.0.1=cajero:banco")
        .set("LEGACY_API", "on")
        .set("ALLOWED_ORIGINS", FRONT_END)
        .start()
        .await;
    let client = atalaya.client();
    client.open_with("1", "1000.00").await;
    let mut front_end = socket_io(&atalaya, None);
    front_end.tell("subscribe 1");
    front_end.wait_for_line(r#"["heard","1",true]"#).await;
    let mut follower = WebSocket::open(&atalaya).await;
    follower.subscribe(&["banco/saldo/1"]).await;
    let terminals: Vec<_> = (0..5)
        .map(|n| {
            let mut terminal = Terminal::open(&atalaya);
            std::thread::spawn(move || {
                for _ in 0..20 {
                    let paid_in = terminal.asks(&format!("AUMENTAR 1 {}.01", n + 1));
                    assert!(paid_in.starts_with("OK|Depósito exitoso|"), "{paid_in}");
                    let paid_out = terminal.asks("DISMINUIR 1 1");
                    assert!(paid_out.starts_with("OK|Retiro exitoso|"), "{paid_out}");
                }
                assert_eq!(terminal.asks("SALIR"), "OK|Hasta pronto");
            })
        })
        .collect();
    for terminal in terminals {
        let joined = actix_web::rt::task::spawn_blocking(move || terminal.join());
        joined.await.unwrap().expect("all answers are right");
    }
    // 20 × (1.01 + 2.01 + 3.01 + 4.01 + 5.01 − 5)
    let expected = "1201.00";
    assert_eq!(client.balance("1").await, expected);
    let mut terminal = Terminal::open(&atalaya);
    assert_eq!(
        terminal.asks("CONSULTA 1"),
        format!("OK|Ana|Vera|{expected}")
    );
    let mut session = WebSocket::open(&atalaya).await;
    let seen = session
        .asks(json!({"accion": "saldo", "cedula": "1"}))
        .await;
    assert_eq!(
        crate::support::client::raw_field(&seen.data, "saldo"),
        expected
    );
    assert_eq!(client.version("1").await, 201);
    // Those who follow have come to the same.
    let events = follower.events_until(|event| event.version() == 201).await;
    let last = &events.last().unwrap().payload;
    assert!(last.contains(r#""saldo_nuevo":1201.00"#), "{last}");
    front_end
        .wait_for_line(r#"["balance_updated",{"cedula":"1","balance":1201}]"#)
        .await;
}

#[actix_web::test]
async fn a_command_in_pieces_is_one_and_lines_are_answered_in_order() {
    let atalaya = bank().await;
    atalaya.client().open_with("1", "100.00").await;

    // On a busy machine the pieces may come too far apart; then they are no command.
    let mut old = eventually("pieces are one command", || async {
        let mut old = Terminal::open(&atalaya);
        old.stream.set_nodelay(true).unwrap();
        old.sends("AUMEN");
        for piece in ["TAR 1", " 10.", "50"] {
            old.stream.write_all(piece.as_bytes()).ok()?;
        }
        let said = old.chunk();
        assert!(
            said == "OK|Depósito exitoso|110.50" || said.starts_with("ERROR|"),
            "{said}"
        );
        said.starts_with("OK|").then_some(old)
    })
    .await;
    // The end of what it says ends a command too, and it still listens.
    old.sends("CONSULTA 1");
    old.ends_talk();
    assert_eq!(old.rest(), "OK|Ana|Vera|110.50");

    let mut new = Terminal::open(&atalaya);
    let lines: String = (0..200).map(|_| "AUMENTAR 1 0.01\r\n").collect();
    new.sends(lines);
    for n in 1..=200 {
        let cents = 11_050 + n;
        let balance = format!("{}.{:02}", cents / 100, cents % 100);
        assert_eq!(new.line(), format!("OK|Depósito exitoso|{balance}\n"));
    }
    // From the first newline on a pause ends nothing, not even the end does.
    new.sends("AUMENTAR 1 5");
    std::thread::sleep(Duration::from_millis(200));
    new.sends("0\nAUMENTAR 1 7");
    assert_eq!(new.line(), "OK|Depósito exitoso|162.50\n");
    new.ends_talk();
    assert_eq!(new.rest(), "");
    assert_eq!(atalaya.client().balance("1").await, "162.50");
}

#[actix_web::test]
async fn what_is_no_terminal_executes_nothing() {
    let atalaya = bank().await;
    atalaya.client().open_with("1", "10.00").await;
    let post = "POST / HTTP/1.1\r\nHost: 127.0.0.1:5000\r\nContent-Length: 14\r\n\r\nAUMENTAR 1 100\nAUMENTAR 1 100\n";
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03AUMENTAR 1 100\nAUMENTAR 1 100\n";
    for bytes in [post.as_bytes(), hello, b"\nAUMENTAR 1 100\n", b"\xff\xfe"] {
        let mut terminal = Terminal::open(&atalaya);
        terminal.sends(bytes);
        let said = terminal.rest();
        assert_eq!(said.trim_end(), UNRECOGNISED, "{bytes:?}");
    }
    // A mistake is a mistake, also in a name that is not in UTF-8.
    let mut terminal = Terminal::open(&atalaya);
    terminal.sends(b"CREAR 7 Ana Pe\xf1a\n");
    assert_eq!(terminal.line(), format!("{UNRECOGNISED}\n"));
    assert_eq!(terminal.asks_line("AYUDA"), UNRECOGNISED);
    terminal.sends(b"CONSULTA \xff\n");
    assert_eq!(terminal.line(), format!("{UNRECOGNISED}\n"));
    assert_eq!(terminal.asks_line(""), UNRECOGNISED);
    assert_eq!(terminal.asks_line("CONSULTA 1"), "OK|Ana|Vera|10.00");
    assert_eq!(atalaya.client().version("1").await, 1);
}

#[actix_web::test]
async fn a_line_has_a_bound() {
    let atalaya = bank().await;
    let fits = format!("CREAR 1 Ana{}Vera", " ".repeat(1_009));
    assert_eq!(fits.len(), 1_024);
    let mut terminal = Terminal::open(&atalaya);
    assert_eq!(
        terminal.asks_line(&fits),
        "OK|Cliente creado exitosamente|Ana|Vera|0.00"
    );
    for end in ["x", "x\nAUMENTAR 1 5\n"] {
        let mut terminal = Terminal::open(&atalaya);
        terminal.sends(format!("{fits}{end}"));
        assert_eq!(terminal.rest().trim_end(), "ERROR|Comando demasiado largo");
    }
    assert_eq!(atalaya.client().version("1").await, 0);
}

#[actix_web::test]
async fn nobody_does_nothing_without_a_token() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    let mut terminal = Terminal::open(&atalaya);
    for command in [
        "CONSULTA 1",
        "AUMENTAR 1 5",
        "AUMENTAR 1 x",
        "TRANSFERIR 1 2 5",
        "CREAR 2 Ana Vera",
        "HISTORIAL 1",
        "STATS",
    ] {
        assert_eq!(terminal.asks(command), NOBODY, "{command}");
    }
    let bad = "x".repeat(43);
    for token in ["short", bad.as_str()] {
        assert_eq!(terminal.asks(&format!("AUTENTICAR {token}")), BAD_TOKEN);
    }
    assert_eq!(terminal.asks("CONSULTA 1"), NOBODY);
    let authenticate = format!("AUTENTICAR {}", atalaya.token());
    assert_eq!(terminal.asks(&authenticate), "OK|Autenticado");
    assert_eq!(terminal.asks("AUMENTAR 1 5"), "OK|Depósito exitoso|15.00");
    // A bad token changes nothing for whoever has shown a good one.
    assert_eq!(terminal.asks(&format!("AUTENTICAR {bad}")), BAD_TOKEN);
    assert_eq!(terminal.asks("CONSULTA 1"), "OK|Ana|Vera|15.00");
    // An admin has no money.
    let as_admin = format!("AUTENTICAR {ADMIN_TOKEN}");
    assert_eq!(terminal.asks(&as_admin), "OK|Autenticado");
    assert_eq!(
        terminal.asks("AUMENTAR 1 5"),
        "ERROR|Operación no permitida"
    );
    assert_eq!(client.version("1").await, 2);
    assert_eq!(terminal.asks("SALIR"), "OK|Hasta pronto");
}

#[actix_web::test]
async fn a_revoked_token_ends_its_terminal_within_a_second() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    let token = make_token(&client, "terminal", "banco").await;
    let (mut terminal, mut busy) = (Terminal::open(&atalaya), Terminal::open(&atalaya));
    let authenticate = format!("AUTENTICAR {token}");
    assert_eq!(busy.asks_line(&authenticate), "OK|Autenticado");
    assert_eq!(terminal.asks_line(&authenticate), "OK|Autenticado");
    assert_eq!(terminal.asks_line("CONSULTA 1"), "OK|Ana|Vera|10.00");

    let list = client.get("/api/v1/tokens").await.unwrap().json();
    let tokens = list["datos"].as_array().unwrap();
    let own = tokens
        .iter()
        .find(|one| one["nombre"] == "terminal")
        .unwrap();
    let path = format!("/api/v1/tokens/{}", own["id"]);
    let request = client
        .with_token(ADMIN_TOKEN)
        .request(awc::http::Method::DELETE, &path);
    assert_eq!(request.send().await.unwrap().status(), 204);
    let revoked = Instant::now();
    // At once it does nothing any more.
    assert_eq!(busy.asks_line("AUMENTAR 1 5"), BAD_TOKEN);
    assert_eq!(terminal.rest(), format!("{BAD_TOKEN}\n"));
    assert!(
        revoked.elapsed() < Duration::from_secs(1),
        "{:?}",
        revoked.elapsed()
    );
    eventually("it is counted", || async {
        let ended = atalaya.metric(r#"atalaya_sessions_ended_total{reason="revoked"}"#);
        (ended.await == Some(2.0)).then_some(())
    })
    .await;
    assert_eq!(client.version("1").await, 1);
}

#[actix_web::test]
async fn an_address_is_trusted_for_what_its_network_says() {
    let networks =
        "127.0.0.2=auditor:banco,127.0.0.3=cajero:banco/principal,127.0.0.4=cajero:nadie";
    let atalaya = trusting(networks).await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    let from = |last| Terminal::open_from(Ipv4Addr::new(127, 0, 0, last), &atalaya);

    let mut auditor = from(2);
    assert_eq!(auditor.asks("CONSULTA 1"), "OK|Ana|Vera|10.00");
    assert!(
        auditor
            .asks("HISTORIAL 1")
            .starts_with("OK|DEPOSITO|10.00|10.00|")
    );
    let forbidden = "ERROR|Operación no permitida";
    for command in [
        "AUMENTAR 1 5",
        "DISMINUIR 1 5",
        "TRANSFERIR 1 2 5",
        "CREAR 2 Ana Vera",
    ] {
        assert_eq!(auditor.asks(command), forbidden, "{command}");
    }
    assert_eq!(from(1).asks("CONSULTA 1"), NOBODY);
    assert_eq!(from(4).asks("CONSULTA 1"), NOBODY);

    let mut teller = from(3);
    assert_eq!(teller.asks("AUMENTAR 1 5"), "OK|Depósito exitoso|15.00");
    let latest = &movements(&client, "1").await[0];
    assert_eq!(latest["sede"], "principal", "{latest}");

    // Whoever shows a token is who the token says.
    let lector = json!([{"rol": "auditor"}]);
    let token = make_token_for(&client, "lector", &lector).await;
    assert_eq!(
        teller.asks(&format!("AUTENTICAR {token}")),
        "OK|Autenticado"
    );
    assert_eq!(teller.asks("AUMENTAR 1 5"), forbidden);

    // A place that is no longer there is trusted no more, at once.
    let mut other = from(3);
    assert_eq!(other.asks("AUMENTAR 1 5"), "OK|Depósito exitoso|20.00");
    let request = client
        .request(awc::http::Method::PATCH, "/api/v1/sedes/banco/principal")
        .insert_header(("content-type", "application/json"));
    let changed = request.send_body(r#"{"activa":false}"#).await.unwrap();
    assert_eq!(changed.status(), 200);
    assert_eq!(other.asks("AUMENTAR 1 5"), NOBODY);
    assert_eq!(client.balance("1").await, "20.00");
}

#[actix_web::test]
async fn each_role_may_what_it_may_elsewhere() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("1", "10.00").await;
    client.open_with("2", "10.00").await;
    let (forbidden, unknown) = (
        "ERROR|Operación no permitida",
        "ERROR|Cliente no encontrado",
    );
    let (own, statistics) = ("OK|Ana|Vera|10.00", "OK|Clientes conectados: 1|");
    for (name, role, answers) in [
        (
            "c",
            json!({"rol": "cajero", "empresa": "banco"}),
            [own, own, unknown, statistics],
        ),
        (
            "a",
            json!({"rol": "auditor"}),
            [own, own, forbidden, statistics],
        ),
        (
            "o",
            json!({"rol": "operador"}),
            [forbidden, forbidden, forbidden, statistics],
        ),
        (
            "k",
            json!({"rol": "cliente", "cedula": "1"}),
            [own, unknown, forbidden, forbidden],
        ),
    ] {
        let token = make_token_for(&client, name, &json!([role])).await;
        let mut terminal = Terminal::open(&atalaya);
        assert_eq!(
            terminal.asks_line(&format!("AUTENTICAR {token}")),
            "OK|Autenticado"
        );
        // Whoever may pay in is told that there is no such account.
        let commands = ["CONSULTA 1", "CONSULTA 2", "AUMENTAR 9 1", "STATS"];
        for (command, answer) in commands.into_iter().zip(answers) {
            let said = terminal.asks_line(command);
            assert!(said.starts_with(answer), "{role}: {command}: {said}");
        }
        assert_eq!(terminal.asks_line("SALIR"), "OK|Hasta pronto");
        eventually("it has left", || async {
            let figures = client.get("/api/v1/estadisticas").await.unwrap().json();
            (figures["clientes_conectados"] == 0).then_some(())
        })
        .await;
    }
}

#[actix_web::test]
async fn a_program_may_ask_so_much_over_whichever_edge() {
    let atalaya = Atalaya::without_mqtt()
        .set("HTTP_RATE", 1)
        .set("HTTP_BURST", 5)
        .start()
        .await;
    let token = make_token(&atalaya.client(), "terminal", "banco").await;
    let mut terminal = Terminal::open(&atalaya);
    assert_eq!(
        terminal.asks_line(&format!("AUTENTICAR {token}")),
        "OK|Autenticado"
    );
    let said: Vec<_> = (0..8).map(|_| terminal.asks_line("CONSULTA 1")).collect();
    assert_eq!(said[0], "ERROR|Cliente no encontrado");
    assert_eq!(said[7], "ERROR|Demasiadas solicitudes, espere un momento");
}

#[actix_web::test]
async fn names_with_a_separator_are_refused_over_rest_too() {
    let atalaya = Atalaya::without_mqtt().start().await;
    for (names, surnames) in [("A|B", "Vera"), ("Ana", "V|era"), ("Ana\u{1}", "Vera")] {
        let body = json!({"cedula": "1", "nombres": names, "apellidos": surnames});
        let answer = atalaya.client().post("/api/v1/cuentas", None, &body).await;
        assert_eq!(
            answer.unwrap().code(),
            "nombre_invalido",
            "{names} {surnames}"
        );
    }
}

#[actix_web::test]
async fn statistics_count_terminals_and_are_published() {
    let atalaya = Atalaya::with_embedded_broker()
        .set("TCP_TRUSTED", "127.0.0.1=cajero:banco")
        .start()
        .await;
    let subscriber = Subscriber::to(atalaya.mqtt_port, &["banco/estadisticas"]).await;
    let mut terminal = Terminal::open(&atalaya);
    let other = Terminal::open_from(Ipv4Addr::new(127, 0, 0, 9), &atalaya);
    let _session = WebSocket::open(&atalaya).await;
    assert_eq!(
        terminal.asks("STATS"),
        "OK|Clientes conectados: 3|Transacciones: 0|IPs activas: 2"
    );
    let published = subscriber
        .wait_for("the figures", |message| {
            message.json()["clientes_conectados"] == 3
        })
        .await;
    assert_eq!(published.json()["ips_activas"], 2);
    drop(other);
    eventually("one has left", || {
        let said = terminal.asks("STATS");
        async move { said.contains("conectados: 2").then_some(()) }
    })
    .await;
    let counted = r#"atalaya_tcp_commands_total{command="STATS",result="ok"}"#;
    assert!(atalaya.metric(counted).await.unwrap() >= 2.0);
}

#[actix_web::test]
async fn whoever_is_too_many_is_told() {
    let atalaya = Atalaya::without_mqtt()
        .set("MAX_CONNECTIONS", 2)
        .start()
        .await;
    let first = Terminal::open(&atalaya);
    let mut second = Terminal::open(&atalaya);
    let mut third = raw::connect(atalaya.tcp_port);
    assert_eq!(
        raw::read_all(&mut third),
        "ERROR|Servidor ocupado\n".as_bytes()
    );
    drop(first);
    eventually("there is room again", || async {
        let mut stream = raw::connect(atalaya.tcp_port);
        let (said, _) = raw::read_some(&mut stream);
        (said == WELCOME.as_bytes()).then_some(())
    })
    .await;
    assert_eq!(second.asks("SALIR"), "OK|Hasta pronto");
}

#[actix_web::test]
async fn nobody_in_particular_may_be_silent_for_half_a_minute() {
    let atalaya = Atalaya::without_mqtt().start().await;
    let mut silent = Terminal::open(&atalaya);
    // One byte now and then is no command either.
    let mut slow = Terminal::open(&atalaya);
    let begun = Instant::now();
    let timeout = Some(Duration::from_secs(60));
    silent.stream.set_read_timeout(timeout).unwrap();
    slow.stream.set_read_timeout(timeout).unwrap();
    slow.sends("SALI\nX");
    assert_eq!(slow.rest().trim_end(), UNRECOGNISED);
    let mut slow = Terminal::open(&atalaya);
    assert_eq!(slow.asks_line("CONSULTA 1"), NOBODY);
    for _ in 0..10 {
        slow.sends("C");
        std::thread::sleep(Duration::from_secs(2));
    }
    assert_eq!(silent.rest(), "ERROR|Tiempo de espera agotado");
    assert!(begun.elapsed() >= Duration::from_secs(29));
    assert_eq!(slow.rest(), "ERROR|Tiempo de espera agotado\n");
    assert!(begun.elapsed() < Duration::from_secs(45));
}

#[actix_web::test]
async fn whoever_reads_nothing_is_closed_and_holds_up_nobody() {
    let atalaya = bank().await;
    let client = atalaya.client();
    client.open("1").await;
    let mut lazy = Terminal::open(&atalaya);
    let socket = socket2::SockRef::from(&lazy.stream);
    socket.set_recv_buffer_size(4_096).unwrap();
    lazy.stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let lines = "HISTORIAL 1\nAUMENTAR 1 0.01\n".repeat(64);
    let begun = Instant::now();
    // The server stops reading when its answers find no room, and ends it some seconds later.
    while lazy.stream.write_all(lines.as_bytes()).is_ok() {
        assert!(begun.elapsed() < DEADLINE, "it is never closed");
    }
    eventually("it is counted", || async {
        let ended = atalaya.metric(r#"atalaya_sessions_ended_total{reason="slow_reader"}"#);
        (ended.await == Some(1.0)).then_some(())
    })
    .await;
    let mut other = Terminal::open(&atalaya);
    assert!(other.asks("CONSULTA 1").starts_with("OK|Ana|Vera|"));
}

#[actix_web::test]
async fn sigterm_ends_terminals_with_a_word() {
    let mut atalaya = bank().await;
    let (mut old, mut new) = (Terminal::open(&atalaya), Terminal::open(&atalaya));
    assert_eq!(new.asks_line("CONSULTA 1"), "ERROR|Cliente no encontrado");
    let asked = Instant::now();
    assert!(atalaya.terminate().await.success());
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(old.rest(), "ERROR|El servidor se está cerrando");
    assert_eq!(new.rest(), "ERROR|El servidor se está cerrando\n");
    assert!(TcpStream::connect(atalaya.tcp()).is_err());
}

#[cfg(feature = "failpoints")]
#[actix_web::test]
async fn sigterm_lets_the_command_under_way_finish_and_no_other() {
    let mut atalaya = bank().await;
    atalaya.client().open_with("1", "10.00").await;
    atalaya.terminate().await;
    let slow = "account::place_order=print(an order is placed);writer::before_commit=sleep(1000)";
    atalaya.set("FAILPOINTS", slow);
    atalaya.start().await;
    let mut terminal = Terminal::open(&atalaya);
    terminal.sends("AUMENTAR 1 5\nAUMENTAR 1 7\n");
    eventually("it is under way", || async {
        atalaya.log().contains("an order is placed").then_some(())
    })
    .await;
    assert!(atalaya.terminate().await.success());
    assert_eq!(
        terminal.rest(),
        "OK|Depósito exitoso|15.00\nERROR|El servidor se está cerrando\n"
    );
    atalaya.set("FAILPOINTS", "");
    atalaya.start().await;
    assert_eq!(atalaya.client().balance("1").await, "15.00");
}

#[actix_web::test]
async fn terminals_may_speak_tls() {
    let authority = Authority::new();
    let atalaya = Atalaya::without_mqtt().prepare();
    let trust = "127.0.0.1=cajero:banco".to_owned();
    let settings = [("SERVER_TLS", "on".to_owned()), ("TCP_TRUSTED", trust)];
    let server = serve(&atalaya, &authority, "atalaya", &settings).await;
    assert!(
        server
            .stdout()
            .iter()
            .any(|line| line.contains(&format!("{} over TLS", atalaya.tcp())))
    );
    let mut terminal = Terminal::over(connect_with(atalaya.tcp_port, &authority, b"atalaya"));
    assert_eq!(
        terminal.asks("CREAR 1 Ana Vera"),
        "OK|Cliente creado exitosamente|Ana|Vera|0.00"
    );
    assert_eq!(
        terminal.asks_line("AUMENTAR 1 5"),
        "OK|Depósito exitoso|5.00"
    );
    assert_eq!(terminal.asks_line("SALIR"), "OK|Hasta pronto");
    assert_eq!(terminal.rest(), "");

    // Whoever speaks without it gets nothing.
    let mut plain = connect_from(Ipv4Addr::LOCALHOST, atalaya.tcp());
    plain.write_all(b"AUMENTAR 1 5\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    assert!(
        !said.contains("OK|") && !said.contains("BIENVENIDO"),
        "{said:?}"
    );
}
