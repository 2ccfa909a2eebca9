//! Moving in from the system before Atalaya: a real MariaDB with its tables, the real command.

use crate::support::checks::{
    all_arrived, backlog_drains, marker_catches_up, retained_balances_are_right,
};
use crate::support::mariadb::{MariaDb, Schema, on_files};
use crate::support::{Atalaya, Mosquitto, Records, Subscriber, audit, eventually};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Output, Stdio};

const TABLES: &str = "
    CREATE DATABASE viejo CHARACTER SET utf8mb4;
    USE viejo;
    CREATE TABLE clientes (
        cedula VARCHAR(20) NOT NULL PRIMARY KEY, nombres VARCHAR(120), apellidos VARCHAR(120),
        telefono VARCHAR(20), saldo DECIMAL(15,2) NOT NULL);
    CREATE TABLE transacciones (
        id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, cedula VARCHAR(20), tipo VARCHAR(30),
        monto DECIMAL(15,2), saldo_final DECIMAL(15,2), fecha DATETIME, detalle TEXT, KEY (cedula));
";

/// Six accounts: the history of the fifth begins too late, that of the sixth lacks a withdrawal.
/// The rows do not stand in the order in which they happened.
const SIX: &str = "
    INSERT INTO clientes (cedula, nombres, apellidos, saldo) VALUES
        ('1350509525', 'Stefano', 'Aguilar', 60.00), ('2', 'Juan José', 'Pérez', 450.00),
        ('3', 'Ana', 'Ñandú', 75.00), ('4', 'Luz', 'Mora', 0.00), ('5', 'Eva', 'Vera', 180.00),
        ('6', 'Raúl', 'Paz', 950.00);
    INSERT INTO transacciones (id, cedula, tipo, monto, saldo_final, fecha) VALUES
        (1, '1350509525', 'retiro', 40.00, 60.00, '2020-01-02 09:00:00'),
        (2, '1350509525', 'DEPOSITO', 100.00, 100.00, '2020-01-01 23:59:59'),
        (3, '2', 'Deposito', 500.00, 500.00, '2020-01-01 10:00:00'),
        (10, '2', 'TRANSFERENCIA_ENVIADA', 50.00, 450.00, '2020-01-03 10:00:00'),
        (11, '3', 'TRANSFERENCIA_RECIBIDA', 50.00, 50.00, '2020-01-03 10:00:00'),
        (12, '3', 'DEPOSITO', 25.00, 75.00, '2020-01-03 10:00:00'),
        (13, '5', 'RETIRO', 20.00, 180.00, '2020-02-29 10:00:00'),
        (14, '6', 'DEPOSITO', 1000.00, 1000.00, '2020-01-05 10:00:00');
";

/// An old system with these tables and rows.
fn old_system(statements: &[&str]) -> MariaDb {
    let server = MariaDb::start();
    server.execute(&statements.concat());
    server
}

fn url(old: &MariaDb) -> String {
    old.url().replacen("/?", "/viejo?", 1)
}

fn import(atalaya: &Atalaya, old: &MariaDb, options: &[&str]) -> Output {
    let mut command = atalaya.command();
    let output = command.arg("import").arg(url(old)).args(options).output();
    output.unwrap()
}

fn report(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Imports everything and returns the report.
fn import_all(atalaya: &Atalaya, old: &MariaDb) -> String {
    let output = import(atalaya, old, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{errors}", report(&output));
    report(&output)
}

/// The line of the report about `account`.
fn line<'a>(report: &'a str, account: &str) -> Vec<&'a str> {
    let mut lines = report.lines().map(|line| line.split_whitespace().collect());
    let found = lines.find(|line: &Vec<&str>| line.first() == Some(&account));
    found.unwrap_or_else(|| panic!("{account} is not in {report}"))
}

fn head(atalaya: &Atalaya) -> i64 {
    Records::of(atalaya).number("SELECT head_seq FROM lanes")
}

fn is_whole(atalaya: &Atalaya) {
    audit(&atalaya.database()).unwrap();
}

fn balances(atalaya: &Atalaya) -> BTreeMap<String, i64> {
    let accounts = Records::of(atalaya).accounts().into_values();
    accounts.map(|a| (a.id, a.balance)).collect()
}

/// The kinds, amounts, balances and value dates of an account's movements, newest first.
async fn movements(atalaya: &Atalaya, account: &str) -> Vec<(String, String, String, String)> {
    let path = format!("/api/v1/cuentas/{account}/movimientos");
    let answer = atalaya.client().get(&path).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let page: Value = answer.json();
    let text = |value: &Value| value.to_string().trim_matches('"').to_owned();
    let rows = page["datos"].as_array().unwrap().iter().map(|row| {
        assert!(row.get("contraparte").is_none(), "{row}");
        (
            text(&row["tipo"]),
            format!("{:.2}", row["monto"].as_f64().unwrap()),
            format!("{:.2}", row["saldo_nuevo"].as_f64().unwrap()),
            text(&row["fecha_valor"]),
        )
    });
    rows.collect()
}

fn row(kind: &str, amount: &str, balance: &str, day: &str) -> (String, String, String, String) {
    (kind.into(), amount.into(), balance.into(), day.into())
}

#[actix_web::test]
async fn a_bank_moves_in_with_its_history_and_what_that_does_not_explain() {
    let old = old_system(&[TABLES, SIX]);
    let mut atalaya = Atalaya::without_mqtt().prepare();

    let dry = import(&atalaya, &old, &["--dry-run"]);
    assert!(dry.status.success());
    let told = report(&dry);
    assert_eq!(line(&told, "5")[1..5], ["180.00", "-20.00", "+200.00", "-"]);
    assert_eq!(line(&told, "6")[1..5], ["950.00", "1000.00", "-", "-50.00"]);
    assert!(told.contains("Simulación: no se cambió nada"), "{told}");
    if on_files() {
        assert!(
            !atalaya.folder().join("data").exists(),
            "something was made"
        );
    }

    let told = import_all(&atalaya, &old);
    assert_eq!(line(&told, "5")[1..5], ["180.00", "-20.00", "+200.00", "-"]);
    assert_eq!(line(&told, "6")[1..5], ["950.00", "1000.00", "-", "-50.00"]);
    for part in [
        "transacciones 13: saldo_final 180.00 donde sigue -20.00",
        "Cuentas traídas: 6 (ya estaban completas: 0)",
        "Movimientos traídos: 8 (ya estaban: 0)",
        "Cuentas con discrepancias: 2 (ajustes iniciales: 1, finales: 1, en total 150.00)",
        "Total de saldos: 1715.00",
        "Mudanza completa",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    is_whole(&atalaya);

    atalaya.start().await;
    let client = atalaya.client();
    for (account, balance) in [
        ("1350509525", "60.00"),
        ("2", "450.00"),
        ("3", "75.00"),
        ("4", "0.00"),
        ("5", "180.00"),
        ("6", "950.00"),
    ] {
        assert_eq!(client.balance(account).await, balance, "{account}");
    }
    assert_eq!(
        movements(&atalaya, "1350509525").await,
        [
            row("RETIRO", "40.00", "60.00", "2020-01-02"),
            row("DEPOSITO", "100.00", "100.00", "2020-01-01"),
        ]
    );
    assert_eq!(
        movements(&atalaya, "3").await,
        [
            row("DEPOSITO", "25.00", "75.00", "2020-01-03"),
            row("TRANSFERENCIA_RECIBIDA", "50.00", "50.00", "2020-01-03"),
        ]
    );
    assert_eq!(
        movements(&atalaya, "5").await,
        [
            row("RETIRO", "20.00", "180.00", "2020-02-29"),
            row("AJUSTE", "200.00", "200.00", "2020-02-28"),
        ]
    );
    let closing = movements(&atalaya, "6").await.remove(0);
    assert_eq!(
        (closing.0.as_str(), closing.1.as_str()),
        ("AJUSTE", "50.00")
    );
    let six = client.get("/api/v1/cuentas/6/movimientos").await.unwrap();
    assert!(
        six.text().contains("\"saldo_anterior\":1000.00"),
        "{}",
        six.text()
    );
    let two: Value = client.get("/api/v1/cuentas/2").await.unwrap().json();
    assert_eq!(
        (&two["nombres"], &two["apellidos"]),
        (&"Juan José".into(), &"Pérez".into())
    );

    assert!(atalaya.terminate().await.success());
    let before = head(&atalaya);
    let told = import_all(&atalaya, &old);
    for part in [
        "Cuentas traídas: 0 (ya estaban completas: 6)",
        "Movimientos traídos: 0 (ya estaban: 8)",
        "Total de saldos: 1715.00",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(head(&atalaya), before, "a second run has written something");
    is_whole(&atalaya);
}

/// Accounts with six hundred movements each, half of which do not explain their balance.
const MANY: &str = "
    INSERT INTO clientes (cedula, nombres, apellidos, saldo)
        SELECT CONCAT('10', seq), 'Ana', CONCAT('Mora ', seq), 5000.00 + (seq MOD 2) * 17.35
        FROM seq_1_to_8;
    INSERT INTO transacciones (cedula, tipo, monto, saldo_final, fecha)
        SELECT CONCAT('10', c.seq), IF(t.seq MOD 3 = 0, 'RETIRO', 'DEPOSITO'), t.seq / 100 + 1,
               NULL, DATE_ADD('2019-12-31 12:00:00', INTERVAL t.seq HOUR)
        FROM seq_1_to_600 t JOIN seq_1_to_8 c;
    UPDATE clientes c SET saldo = (SELECT SUM(IF(tipo = 'RETIRO', -monto, monto))
        FROM transacciones t WHERE t.cedula = c.cedula) WHERE cedula MOD 2 = 0;
";

#[actix_web::test]
async fn a_move_that_was_killed_is_finished_by_running_it_again() {
    let old = old_system(&[TABLES, MANY]);
    let whole = Atalaya::without_mqtt().prepare();
    let told = import_all(&whole, &old);
    assert!(
        told.contains("Movimientos traídos: 4800 (ya estaban: 0)"),
        "{told}"
    );

    let mut killed = Atalaya::without_mqtt().start().await;
    assert!(killed.terminate().await.success());
    for enough in [700, 2_300] {
        let mut command = killed.command();
        command
            .arg("import")
            .arg(url(&old))
            // So that there is a middle to be killed in.
            .env("FAILPOINTS", "writer::after_commit=sleep(60)")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut import = command.spawn().unwrap();
        eventually("the move goes on", || async {
            let postings = Records::of(&killed).number("SELECT postings FROM lanes");
            (postings >= enough).then_some(())
        })
        .await;
        import.kill().unwrap();
        let status = import.wait().unwrap();
        if cfg!(feature = "failpoints") {
            assert!(!status.success(), "it was over before it was killed");
        }
        is_whole(&killed);
    }
    let told = import_all(&killed, &old);
    assert!(told.contains("Mudanza completa"), "{told}");
    is_whole(&killed);
    assert_eq!(
        Records::of(&killed).postings(),
        Records::of(&whole).postings()
    );
    assert_eq!(balances(&killed), balances(&whole));
    let before = head(&killed);
    import_all(&killed, &old);
    assert_eq!(head(&killed), before);
}

#[actix_web::test]
async fn a_group_that_was_not_written_stops_the_move_and_spoils_nothing() {
    if cfg!(not(feature = "failpoints")) {
        eprintln!("SKIPPED: it needs the feature failpoints");
        return;
    }
    let old = old_system(&[TABLES, MANY]);
    let whole = Atalaya::without_mqtt().prepare();
    import_all(&whole, &old);
    let failed = Atalaya::without_mqtt().prepare();
    for first in [0, 2] {
        let mut command = failed.command();
        let output = command
            .arg("import")
            .arg(url(&old))
            // What is behind it has been handed in already, and is committed.
            .env(
                "FAILPOINTS",
                format!("writer::refuse_commit={first}*off->1*return->off"),
            )
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("no lo ha escrito"), "{errors}");
        is_whole(&failed);
    }
    let told = import_all(&failed, &old);
    assert!(told.contains("Mudanza completa"), "{told}");
    is_whole(&failed);
    assert_eq!(balances(&failed), balances(&whole));
    let sorted = |atalaya: &Atalaya| {
        let mut postings = Records::of(atalaya).postings();
        postings.sort_by(|a, b| (&a.id, a.version).cmp(&(&b.id, b.version)));
        postings
    };
    assert_eq!(sorted(&failed), sorted(&whole));
}

#[actix_web::test]
async fn a_bank_moves_into_several_lanes() {
    let old = old_system(&[TABLES, MANY]);
    let whole = Atalaya::without_mqtt().prepare();
    import_all(&whole, &old);
    let schema = Schema::on(&old.url());
    let laned = Atalaya::without_mqtt()
        .set("DATABASE_URL", schema.url())
        .set("WRITER_LANES", "4")
        .prepare();
    for _ in 0..2 {
        let told = import_all(&laned, &old);
        assert!(told.contains("Mudanza completa"), "{told}");
        audit(&schema.location()).unwrap();
        let moved = Records::at(schema.location()).accounts().into_values();
        let moved: BTreeMap<String, i64> = moved.map(|a| (a.id, a.balance)).collect();
        assert_eq!(moved, balances(&whole));
    }
}

#[actix_web::test]
async fn the_database_of_atalaya_is_not_moved_into_itself() {
    let old = old_system(&[TABLES, SIX]);
    let own = url(&old).replacen("root@", "root:x@", 1);
    let atalaya = Atalaya::without_mqtt().set("DATABASE_URL", own).prepare();
    for options in [["--dry-run"].as_slice(), &[]] {
        let output = import(&atalaya, &old, options);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("DATABASE_URL"), "{errors}");
    }
}

#[actix_web::test]
async fn tables_that_do_not_go_together_are_read_or_refused() {
    // Compared with one another, these two have no order in common; and each account counts anew.
    let apart = "
        ALTER TABLE clientes CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
        ALTER TABLE transacciones MODIFY id INT NOT NULL, DROP PRIMARY KEY,
            CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;
        INSERT INTO clientes (cedula, nombres, apellidos, saldo) VALUES
            ('1', 'Ana', 'Mora', 30.00), ('2', 'Luz', 'Paz', 5.00), ('3', 'Eva', 'Vera', 2.00),
            ('4', 'Raúl', 'Paz', 7.00);
        INSERT INTO transacciones (id, cedula, tipo, monto, saldo_final, fecha) VALUES
            (1, '1', 'DEPOSITO', 10.00, 10.00, '2020-01-01'),
            (2, '1', 'DEPOSITO', 20.00, 30.00, '2020-01-02'),
            (1, '2', 'DEPOSITO', 5.00, 5.00, '2020-01-01'),
            (1, '3', 'DEPOSITO', 1.00, 1.00, '2020-01-01'),
            (1, '3', 'DEPOSITO', 1.00, 2.00, '2020-01-01'),
            (1, '\u{ff14}', 'DEPOSITO', 7.00, 7.00, '2020-01-01'),
            (1, '9', 'DEPOSITO', 1.00, 1.00, '2020-01-01');
    ";
    let old = old_system(&[TABLES, apart]);
    let atalaya = Atalaya::without_mqtt().prepare();
    for options in [["--dry-run"].as_slice(), &[], &[]] {
        let output = import(&atalaya, &old, options);
        let told = report(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("collation"), "{errors}");
        for part in [
            "transacciones 1: el id se repite",
            "transacciones 1: la cédula no está en clientes (1 filas)",
            "Rechazos: ",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    is_whole(&atalaya);
    let moved = balances(&atalaya);
    assert_eq!(moved.get("1"), Some(&3_000));
    assert_eq!(moved.get("2"), Some(&500));
    assert_eq!(moved.get("3"), None);

    // As numbers these cédulas are others than as text.
    old.execute(
        "USE viejo; DELETE FROM transacciones WHERE cedula = '\u{ff14}';
         ALTER TABLE transacciones MODIFY cedula BIGINT;",
    );
    let output = import(&atalaya, &old, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("dé a las dos el mismo tipo"), "{errors}");
}

#[actix_web::test]
async fn what_cannot_be_right_is_named_and_left_out_whole() {
    let bad = "
        ALTER TABLE clientes DROP PRIMARY KEY;
        INSERT INTO clientes (cedula, nombres, apellidos, saldo) VALUES
            ('12a', 'Ana', 'Mora', 1.00), ('21', '', 'Mora', 1.00), ('22', 'a|b', 'Mora', 1.00),
            ('23', 'Ana', 'Mo\\nra', 1.00), ('24', 'Ana', 'Mora', -0.01),
            ('25', 'Ana', 'Mora', 30.00), ('26', 'Ana', 'Mora', 30.00),
            ('27', 'Otra', 'Persona', 5.00), ('28', 'Prueba', 'De Atalaya', 5.00),
            ('29', 'Ana', 'Mora', 1.00), ('29', 'Ana', 'Vera', 2.00), ('30', 'Ana', 'Mora', 7.00);
        INSERT INTO transacciones (id, cedula, tipo, monto, saldo_final, fecha) VALUES
            (1, '25', 'DEPOSITO', 30.00, 30.00, '2020-01-01'),
            (2, '25', 'RETIRO', 0.00, 30.00, '2020-01-02'),
            (3, '25', 'INTERES', 1.00, 30.00, '2020-01-02'),
            (4, '26', 'DEPOSITO', 30.00, 30.00, NULL),
            (5, '99', 'DEPOSITO', 30.00, 30.00, '2020-01-01'),
            (6, '30', 'DEPOSITO', 4.00, 4.00, '2020-01-01'),
            (7, '30', 'DEPOSITO', 3.00, 9.00, '2020-01-01');
    ";
    let old = old_system(&[TABLES, bad]);
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let client = atalaya.client();
    client.open_with("27", "5.00").await;
    client.open_with("28", "5.00").await;
    let names: Value = client.get("/api/v1/cuentas/28").await.unwrap().json();
    old.execute(&format!(
        "UPDATE viejo.clientes SET nombres = '{}', apellidos = '{}' WHERE cedula = '28'",
        names["nombres"].as_str().unwrap(),
        names["apellidos"].as_str().unwrap()
    ));
    assert!(atalaya.terminate().await.success());

    for options in [&["--dry-run"][..], &[]] {
        let output = import(&atalaya, &old, options);
        assert_eq!(output.status.code(), Some(1));
        let told = report(&output);
        for part in [
            "RECHAZADA 12a: clientes: la cédula no es de 1 a 20 dígitos",
            "RECHAZADA 21: clientes: nombres: está vacío",
            "RECHAZADA 22: clientes: nombres: tiene caracteres que no se admiten",
            "RECHAZADA 23: clientes: apellidos: tiene caracteres que no se admiten",
            "RECHAZADA 24: clientes: saldo -0.01: es negativo",
            "RECHAZADA 25: transacciones 2: monto \"0.00\": no es mayor que cero; \
             transacciones 3: tipo \"INTERES\"",
            "RECHAZADA 26: transacciones 4: fecha \"NULL\"",
            "RECHAZADA 27: ya existe en Atalaya con otros nombres",
            "RECHAZADA 28: ya tiene en Atalaya movimientos que no son de la mudanza",
            "RECHAZADA 29: clientes: la cédula está en 2 filas",
            "RECHAZADA 99: transacciones 5: la cédula no está en clientes (1 filas)",
            "transacciones 7: saldo_final 9.00 donde sigue 7.00",
            "Cuentas traídas: 1 (",
            "Rechazos: 11",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    let expected = [("27", 500), ("28", 500), ("30", 700)];
    let expected = expected.map(|(account, balance)| (account.to_owned(), balance));
    assert_eq!(balances(&atalaya), BTreeMap::from(expected));
    is_whole(&atalaya);
}

#[actix_web::test]
async fn what_changed_since_is_not_moved_over_what_is_there() {
    let old = old_system(&[TABLES, SIX]);
    let atalaya = Atalaya::without_mqtt().prepare();
    import_all(&atalaya, &old);
    let before = head(&atalaya);
    // The first goes on as it should, the third has another past, the sixth was closed with an
    // adjustment and goes on behind it.
    old.execute(
        "UPDATE viejo.clientes SET saldo = 61.00 WHERE cedula = '1350509525';
         UPDATE viejo.clientes SET saldo = 76.00 WHERE cedula = '3';
         UPDATE viejo.transacciones SET monto = 26.00 WHERE id = 12;
         UPDATE viejo.clientes SET saldo = 951.00 WHERE cedula = '6';
         INSERT INTO viejo.transacciones (cedula, tipo, monto, saldo_final, fecha) VALUES
            ('1350509525', 'DEPOSITO', 1.00, 61.00, '2020-03-01'),
            ('6', 'DEPOSITO', 1.00, 951.00, '2020-03-01');",
    );
    let output = import(&atalaya, &old, &[]);
    let told = report(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for account in ["3", "6"] {
        let rejected = format!("RECHAZADA {account}: lo que ya está en Atalaya");
        assert!(told.contains(&rejected), "{told}");
    }
    assert!(told.contains("Movimientos traídos: 1 ("), "{told}");
    assert_eq!(head(&atalaya), before + 1);
    assert_eq!(balances(&atalaya)["1350509525"], 6_100);
    is_whole(&atalaya);
}

#[actix_web::test]
async fn a_server_that_runs_keeps_its_database_to_itself() {
    let old = old_system(&[TABLES, SIX]);
    let atalaya = Atalaya::without_mqtt().start().await;
    let output = import(&atalaya, &old, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("another process is using"), "{errors}");
    assert!(report(&output).is_empty());
    // To look does no harm.
    assert!(import(&atalaya, &old, &["--dry-run"]).status.success());
    assert_eq!(Records::of(&atalaya).accounts().len(), 0);
}

const NOTIFIED: [&str; 5] = [
    "banco/transacciones",
    "banco/depositos",
    "banco/retiros",
    "banco/transferencias",
    "banco/alertas",
];

#[actix_web::test]
async fn nobody_is_notified_of_history_and_balances_are_published() {
    let old = old_system(&[TABLES, SIX]);
    let broker = Mosquitto::start();
    let mut atalaya = Atalaya::with_broker(&broker).prepare();
    import_all(&atalaya, &old);
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    atalaya.start().await;
    retained_balances_are_right(broker.port, &atalaya).await;
    backlog_drains(&atalaya).await;
    marker_catches_up(broker.port, &atalaya).await;
    let seen = bank.all();
    assert!(
        !seen.iter().any(|m| NOTIFIED.contains(&m.topic.as_str())),
        "{seen:?}"
    );
    // Each balance once, and not each on the way to it.
    assert_eq!(bank.on("banco/saldo/1350509525").len(), 1);

    // A later run, where the broker knows what there was before.
    assert!(atalaya.terminate().await.success());
    old.execute(
        "UPDATE viejo.clientes SET saldo = 10.00 WHERE cedula = '1350509525';
         INSERT INTO viejo.transacciones (cedula, tipo, monto, saldo_final, fecha) VALUES
            ('1350509525', 'RETIRO', 40.00, 20.00, '2020-03-01'),
            ('1350509525', 'RETIRO', 10.00, 10.00, '2020-03-01');",
    );
    import_all(&atalaya, &old);
    atalaya.start().await;
    retained_balances_are_right(broker.port, &atalaya).await;
    let client = atalaya.client();
    client.deposit("1350509525", "5.00", "live").await;
    let deposit = bank
        .wait_for("the deposit", |m| m.topic == "banco/depositos")
        .await;
    assert_eq!(deposit.json()["version"], 5);
    assert_eq!(bank.on("banco/transacciones").len(), 1);
    assert_eq!(bank.on("banco/retiros").len(), 0);
}

#[actix_web::test]
async fn what_waited_to_be_published_before_the_move_is_published_after_it() {
    let old = old_system(&[TABLES, SIX]);
    let mut atalaya = Atalaya::without_mqtt().start().await;
    atalaya.client().open_with("9", "5.00").await;
    assert!(atalaya.terminate().await.success());
    import_all(&atalaya, &old);
    let broker = Mosquitto::start();
    atalaya.set("MQTT", "on");
    atalaya.set("MQTT_BROKER_HOST", "127.0.0.1");
    atalaya.set("MQTT_BROKER_PORT", broker.port);
    let bank = Subscriber::to(broker.port, &["banco/#"]).await;
    atalaya.start().await;
    all_arrived(&bank, &atalaya).await;
    retained_balances_are_right(broker.port, &atalaya).await;
    backlog_drains(&atalaya).await;
    let deposits = bank.on("banco/depositos");
    assert_eq!(deposits.len(), 1);
    assert_eq!(deposits[0].json()["cedula"], "9");
    assert_eq!(bank.on("banco/transacciones").len(), 1);
    assert_eq!(bank.on("banco/alertas").len(), 0);
}

#[actix_web::test]
async fn money_kept_as_double_or_with_more_decimals_is_read_to_the_cent() {
    let other = "
        CREATE DATABASE viejo;
        USE viejo;
        CREATE TABLE clientes (cedula BIGINT NOT NULL PRIMARY KEY, nombres TEXT, apellidos TEXT,
            saldo DOUBLE NOT NULL);
        CREATE TABLE transacciones (id BIGINT NOT NULL PRIMARY KEY, cedula BIGINT,
            tipo ENUM('DEPOSITO', 'RETIRO'), monto DECIMAL(18,4), saldo_final DOUBLE,
            fecha TIMESTAMP NULL);
        SET time_zone = '+00:00';
        INSERT INTO clientes VALUES (1350509525, 'Ana', 'Mora', 0.1e0 + 0.2e0),
            (2, 'Eva', 'Vera', 9007199254740.91), (3, 'Luz', 'Paz', 1e0 - 0.9e0 - 0.1e0),
            (4, 'Sol', 'Rey', 1.005);
        INSERT INTO transacciones VALUES
            (1, 1350509525, 'DEPOSITO', 0.1000, 0.1, '2020-01-01 03:00:00'),
            (2, 1350509525, 'DEPOSITO', 0.2000, 0.1e0 + 0.2e0, '2020-01-01 06:00:00'),
            (3, 2, 'DEPOSITO', 9007199254740.91, 9007199254740.91, '2020-01-01 03:00:00');
    ";
    let old = old_system(&[other]);
    let mut atalaya = Atalaya::without_mqtt().prepare();
    let output = import(&atalaya, &old, &["--zona", "America/Guayaquil"]);
    let told = report(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("RECHAZADA 4: clientes: saldo \"1.005\": tiene más de dos decimales"),
        "{told}"
    );
    assert!(
        told.contains("Cifras DOUBLE llevadas al centavo más cercano: 3"),
        "{told}"
    );
    assert!(told.contains("Cuentas con discrepancias: 0"), "{told}");
    let expected = [("1350509525", 30), ("2", 900_719_925_474_091), ("3", 0)];
    let expected = expected.map(|(account, balance)| (account.to_owned(), balance));
    assert_eq!(balances(&atalaya), BTreeMap::from(expected));
    is_whole(&atalaya);
    // A TIMESTAMP is kept in UTC; in Ecuador it was still the day before.
    atalaya.start().await;
    assert_eq!(
        movements(&atalaya, "1350509525").await,
        [
            row("DEPOSITO", "0.20", "0.30", "2020-01-01"),
            row("DEPOSITO", "0.10", "0.10", "2019-12-31"),
        ]
    );
}

#[actix_web::test]
async fn a_history_that_would_dip_below_zero_is_lifted_and_let_down_again() {
    let dips = "
        INSERT INTO clientes (cedula, nombres, apellidos, saldo) VALUES ('7', 'Ana', 'Mora', 50.00);
        INSERT INTO transacciones (id, cedula, tipo, monto, saldo_final, fecha) VALUES
            (1, '7', 'DEPOSITO', 100.00, 100.00, '2020-01-01'),
            (2, '7', 'RETIRO', 300.00, -200.00, '2020-01-02'),
            (3, '7', 'DEPOSITO', 250.00, 50.00, '2020-01-03');
    ";
    let old = old_system(&[TABLES, dips]);
    let mut atalaya = Atalaya::without_mqtt().prepare();
    let told = import_all(&atalaya, &old);
    assert_eq!(
        line(&told, "7")[1..5],
        ["50.00", "50.00", "+200.00", "-200.00"]
    );
    assert!(
        told.contains("la historia sola bajaría a -200.00"),
        "{told}"
    );
    assert!(told.contains("el final lleva al saldo"), "{told}");
    is_whole(&atalaya);
    atalaya.start().await;
    let found = movements(&atalaya, "7").await;
    let balances: Vec<&str> = found.iter().map(|row| row.2.as_str()).collect();
    assert_eq!(balances, ["50.00", "250.00", "0.00", "300.00", "200.00"]);
    let statistics: Value = atalaya
        .client()
        .get("/api/v1/estadisticas")
        .await
        .unwrap()
        .json();
    assert_eq!(statistics["total_transacciones"], 5);
}

#[actix_web::test]
async fn what_is_no_old_system_is_refused_with_a_reason_and_without_a_password() {
    let old = old_system(&[
        TABLES,
        "ALTER TABLE transacciones MODIFY monto FLOAT;",
        "CREATE USER ana@localhost IDENTIFIED BY 'canario';",
    ]);
    let atalaya = Atalaya::without_mqtt().prepare();
    let run = |source: &str| {
        let mut command = atalaya.command();
        // As from the environment, where the command line does not show it.
        let output = command.arg("import").env("ATALAYA_IMPORT", source).output();
        let output = output.unwrap();
        let said = report(&output) + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("canario"), "{said}");
        (output.status.code(), said)
    };
    let (code, said) = run(&url(&old));
    assert_eq!(code, Some(1));
    assert!(said.contains("transacciones.monto es FLOAT"), "{said}");
    old.execute("ALTER TABLE viejo.transacciones DROP COLUMN monto");
    let (code, said) = run(&url(&old));
    assert_eq!(code, Some(1));
    assert!(
        said.contains("falta la columna transacciones.monto"),
        "{said}"
    );
    let ana = url(&old).replacen("root@", "ana:canario@", 1);
    let (code, said) = run(&ana);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("origen mysql://ana@localhost/viejo"),
        "{said}"
    );
    let (code, said) = run("mysql://ana:canario@");
    assert_eq!(code, Some(2));
    assert!(said.contains("origen: "), "{said}");
    let (code, said) = run("no-such-file.csv");
    assert_eq!(code, Some(2));
    assert!(said.contains("no-such-file.csv"), "{said}");
}
