//! `atalaya serve`: everything on this machine.

use crate::application::Application;
use crate::clock::Clock;
use crate::config::{Config, MqttConfig, ServeArgs};
use crate::contained::is_contained;
use crate::first_run::DEMO_PASSWORD;
use crate::logging;
use anstream::println;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

pub(super) fn run(args: ServeArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let logs = args.logs.clone();
    let config = Config::try_from(args)?;
    logging::start(&logs)?;
    raise_file_limit();
    end_on_panic();
    // For tests: FAILPOINTS names the points and what happens there, for the life of the run.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    actix::System::new().block_on(async move {
        // Before anything is started, so that no signal is missed.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let application = Application::build(config, Clock::system())
            .await
            .inspect_err(|error| log::error!(target: logging::FILES, "{error}"))?;
        print_banner(&application, &logs.log_dir.display().to_string());
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => log::info!("SIGTERM"),
                _ = interrupt.recv() => log::info!("SIGINT"),
            }
            // Whoever asks twice does not want to wait for the rest.
            actix::spawn(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                log::warn!("a second signal: ending at once; what was answered is on disk");
                std::process::exit(130);
            });
        };
        application.run_until(stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Every connection is a file, twice for HTTP, and most systems start processes with room for a
/// thousand. What the system grants at most is taken; to get less is no reason not to start.
pub(super) fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        log::warn!("the limit of open files stays as it is: {error}");
    }
}

/// A panic is a defect in a process whose promises are on disk: it ends at once, loudly, and
/// whoever supervises it starts it again. To go on with half an actor would be worse. A panic that
/// is [contained](crate::contained) becomes an error where it is caught.
fn end_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if is_contained() {
            log::error!("a defect in a library, contained: {panic}");
            return;
        }
        log::error!("a defect ends the process: {panic}");
        log::logger().flush();
        tell(panic);
        std::process::abort();
    }));
}

/// What `monitor` has to be told to find the broker; `None` where there is none.
fn monitor_options(application: &Application) -> Option<String> {
    let (host, port) = match (&application.config().mqtt, application.broker()) {
        (_, Some((tcp, _))) => (tcp.ip().to_string(), tcp.port()),
        (MqttConfig::External { host, port, .. }, _) => (host.clone(), *port),
        _ => return None,
    };
    let mut options = String::new();
    if host != "127.0.0.1" {
        options.extend([" --host ", host.as_str()]);
    }
    if port != 1883 {
        options.extend([" --port ", port.to_string().as_str()]);
    }
    Some(options)
}

#[allow(
    clippy::print_stdout,
    reason = "the banner is for the person who typed the command"
)]
fn print_banner(application: &Application, logs: &str) {
    let config = application.config();
    let http = application.http();
    println!("Atalaya {} is up.", env!("CARGO_PKG_VERSION"));
    let secure = if config.tls.is_some() { "s" } else { "" };
    println!(
        "  page, API   http{secure}://{http}/   (try the API: http{secure}://{http}/api/docs/)"
    );
    println!("  WebSocket   ws{secure}://{http}/ws");
    let over = match config.terminals_tls {
        Some(_) => " over TLS",
        None => "",
    };
    println!(
        "  TCP         {}{over}   (tellers' terminals)",
        application.terminals()
    );
    match (&config.mqtt, application.broker()) {
        (MqttConfig::Embedded { tls, .. }, Some((tcp, websocket))) => {
            println!("  MQTT        {tcp}, over WebSocket {websocket}   (embedded broker)");
            if let Some(tls) = tls {
                println!("  MQTTS       {tls}");
            }
        }
        (MqttConfig::External { host, port, .. }, _) => {
            println!("  MQTT        publishes to {host}:{port}");
        }
        _ => println!("  MQTT        off"),
    }
    println!("  database    {}", config.database);
    println!("  logs        {logs}");
    if config.demo {
        print_demo(application);
    } else {
        print_first_steps(application);
    }
    println!("Ctrl-C here stops the service.\n");
}

/// How this program was started, for lines to be copied.
fn this_program() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "atalaya".to_owned())
}

/// The options with which client commands find this server, where it is not where they look.
fn url_option(application: &Application) -> String {
    let http = application.http();
    let secure = if application.config().tls.is_some() {
        "s"
    } else {
        ""
    };
    let url = format!("http{secure}://{http}");
    if url == "http://127.0.0.1:5001" {
        String::new()
    } else {
        format!(" --url {url}")
    }
}

/// The way in where nobody was in before, and what to do next.
#[allow(
    clippy::print_stdout,
    reason = "the banner is for the person who typed the command"
)]
fn print_first_steps(application: &Application) {
    let (this, url) = (this_program(), url_option(application));
    if let Some(password) = &application.welcome().admin_password {
        println!(
            "\n  FIRST START: sign in as `admin` with this password. It is shown this once and"
        );
        println!("  must be changed:   {password}");
    }
    let empresa = &application.config().company;
    println!("\nFrom another terminal:");
    println!("  export ATALAYA_TOKEN=$({this} login admin{url})");
    println!("  {this} user add cajera-ana --rol cajero --empresa {empresa}{url}");
    println!("  {this} user add vigia --rol operador{url}");
}

/// What `--demo` has made, loudly, and lines to be copied.
#[allow(
    clippy::print_stdout,
    reason = "the banner is for the person who typed the command"
)]
fn print_demo(application: &Application) {
    let (this, url, http) = (this_program(), url_option(application), application.http());
    println!("  demo        accounts 1350509525, 1315151515 and 0912345678 are open");
    println!("\n  *** DEMO: these users exist, and the whole world knows their password. ***");
    println!("  *** Without --demo they are shut out; never use --demo with real money. ***");
    println!("      demo (cajero, operador, auditor), demo-admin, demo-operador, demo-cajero,");
    println!("      demo-cliente, demo-auditor   password: {DEMO_PASSWORD}");
    println!("\nFrom another terminal:");
    if let Some(token) = &application.welcome().demo_token {
        println!("  export ATALAYA_TOKEN={}", token.reveal());
    }
    println!(
        "  curl -s http://{http}/api/v1/cuentas/1350509525/depositos \
         -H \"authorization: Bearer $ATALAYA_TOKEN\" -H 'content-type: application/json' \
         -H \"idempotency-key: $(date +%s%N)\" -d '{{\"monto\":150}}'"
    );
    if let Some(options) = monitor_options(application) {
        println!("  {this} monitor{options}   # shows the events live");
        println!(
            "  {this} device enrol boton-1{url} && \\\n  \
             {this} device send boton-1.json ROJO{options}   # raises an alarm"
        );
    }
}
