//! People and tokens from the command line, from the first start on.

use crate::support::atalaya::ADMIN_PASSWORD;
use crate::support::run::Ended;
use crate::support::{Atalaya, Watched, audit};
use std::io::Write;
use std::process::{Command, Stdio};

const CHOSEN: &str = "staple battery horse correct";

/// Runs `atalaya …` against this server with `input` on its standard input.
fn command(atalaya: &Atalaya, token: Option<&str>, words: &[&str], input: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atalaya"));
    command
        .current_dir(atalaya.folder())
        .env_clear()
        .env("ATALAYA_URL", atalaya.client().base())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(token) = token {
        command.env("ATALAYA_TOKEN", token);
    }
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

#[track_caller]
fn fine(ended: &Ended) -> String {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.trim().to_owned()
}

#[actix_web::test]
async fn from_the_first_start_to_a_teller_at_work() {
    let atalaya = Atalaya::without_mqtt().prepare();
    let mut serve = atalaya.command();
    serve.env_remove("ADMIN_PASSWORD").env_remove("ADMIN_TOKEN");
    let server = Watched::start(serve);
    server.wait_for_line("Ctrl-C").await;
    let banner = server.stdout();
    let line = banner.iter().find(|line| line.contains("must be changed:"));
    let first = line.unwrap().rsplit(' ').next().unwrap().to_owned();
    let files = std::fs::read_dir(atalaya.folder().join("logs")).unwrap();
    for file in files {
        let logged = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!logged.contains(&first), "the password stands in a log");
    }

    let wrong = command(&atalaya, None, &["login", "admin"], "guess\n");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("no son correctos") && wrong.stdout.is_empty());
    let weak = command(
        &atalaya,
        None,
        &["login", "admin"],
        &format!("{first}\nshort\n"),
    );
    assert!(weak.stderr.contains("12 caracteres"), "{weak:?}");
    let input = format!("{first}\n{CHOSEN}\n");
    let admin = fine(&command(&atalaya, None, &["login", "admin"], &input));
    assert!(admin.starts_with("ats_"), "{admin}");

    let add = [
        "user",
        "add",
        "ana",
        "--rol",
        "cajero",
        "--empresa",
        "banco",
    ];
    let refused = command(&atalaya, None, &add, "");
    assert!(refused.stderr.contains("atalaya login"), "{refused:?}");
    let password = fine(&command(&atalaya, Some(&admin), &add, ""));
    let input = format!("{password}\n{CHOSEN}\n");
    let teller = fine(&command(&atalaya, None, &["login", "ana"], &input));
    let client = atalaya.client().with_token(&teller);
    client.open_with("1", "5.00").await;
    let list = fine(&command(&atalaya, Some(&admin), &["user", "list"], ""));
    assert!(list.contains("cajero@banco"), "{list}");

    let add = ["token", "add", "lector", "--rol", "auditor", "--dias", "7"];
    let token = fine(&command(&atalaya, Some(&admin), &add, ""));
    let reader = atalaya.client().with_token(&token);
    assert_eq!(reader.balance("1").await, "5.00");
    let list = fine(&command(&atalaya, Some(&admin), &["token", "list"], ""));
    let id = list.lines().find(|line| line.contains("lector")).unwrap();
    let id = id.split_whitespace().next().unwrap();
    fine(&command(
        &atalaya,
        Some(&admin),
        &["token", "revoke", id],
        "",
    ));
    assert_eq!(reader.get("/api/v1/cuentas/1").await.unwrap().status, 401);

    let set = ["user", "set", "ana", "--activo", "false"];
    fine(&command(&atalaya, Some(&admin), &set, ""));
    assert_eq!(client.get("/api/v1/cuentas/1").await.unwrap().status, 401);
    fine(&command(&atalaya, Some(&admin), &["logout"], ""));
    let out = command(&atalaya, Some(&admin), &["user", "list"], "");
    assert_eq!(out.code, Some(1), "{out:?}");
}

#[actix_web::test]
async fn a_lost_password_is_mended_with_the_server_stopped() {
    let mut atalaya = Atalaya::without_mqtt().start().await;
    let reset = |words: &[&str]| {
        let mut command = atalaya.command();
        command.arg("reset-password").args(words);
        crate::support::run(command)
    };
    let busy = reset(&["admin"]);
    assert_eq!(busy.code, Some(1));
    assert!(busy.stderr.contains("another process is using"), "{busy:?}");
    atalaya.kill();
    let reset = |words: &[&str]| {
        let mut command = atalaya.command();
        command.arg("reset-password").args(words);
        crate::support::run(command)
    };
    let nobody = reset(&["nobody"]);
    assert!(nobody.stderr.contains("no such person"), "{nobody:?}");
    let password = fine(&reset(&["admin"]));
    atalaya.start().await;
    let old = command(
        &atalaya,
        None,
        &["login", "admin"],
        &format!("{ADMIN_PASSWORD}\n"),
    );
    assert_eq!(old.code, Some(1));
    let input = format!("{password}\n{CHOSEN}\n");
    fine(&command(&atalaya, None, &["login", "admin"], &input));
    audit(&atalaya.database()).unwrap();
}

/// Whose password the whole world knows is shut out where there is no demo.
#[actix_web::test]
async fn the_people_of_the_demo_are_shut_out_without_it() {
    let mut atalaya = Atalaya::without_mqtt().set("DEMO", "true").start().await;
    let login = |atalaya: &Atalaya| {
        let password = format!("{}\n", atalaya::first_run::DEMO_PASSWORD);
        command(atalaya, None, &["login", "demo-cajero"], &password)
    };
    let token = fine(&login(&atalaya));
    let teller = atalaya.client().with_token(&token);
    assert_eq!(teller.balance("1350509525").await, "5000.00");
    assert!(atalaya.terminate().await.success());
    atalaya.set("DEMO", "false");
    atalaya.start().await;
    assert_eq!(login(&atalaya).code, Some(1));
    assert_eq!(
        teller
            .get("/api/v1/cuentas/1350509525")
            .await
            .unwrap()
            .status,
        401
    );
    assert!(atalaya.terminate().await.success());
    atalaya.set("DEMO", "true");
    atalaya.start().await;
    fine(&login(&atalaya));
    // And never where others can reach it.
    let mut open = atalaya.command();
    open.env("BIND_ADDRESS", "0.0.0.0")
        .env("ALLOW_REMOTE", "sin-tls");
    let ended = crate::support::run(open);
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("--demo"), "{ended:?}");
}
