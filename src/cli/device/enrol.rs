//! `atalaya device enrol`: a device gets an identity.

use super::credentials::{self, Credentials, CredentialsError, Vault};
use super::registry::{Registered, Registration, Registry, RegistryError};
use crate::cli::api::BaseUrl;
use crate::cli::text::Shown;
use crate::cli::token::TokenArgs;
use crate::domain::{Algorithm, DeviceAddress, Slug};
use anstream::{eprintln, println};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The company and the site that every installation starts with.
const DEFAULT_COMPANY: &str = "banco";
const DEFAULT_SITE: &str = "principal";

/// Where `atalaya serve` listens.
const DEFAULT_URL: &str = "http://127.0.0.1:5001";

/// A person waits: a server that is being started is up by then, and a wrong address is told soon.
const PATIENCE: Duration = Duration::from_secs(2);

/// The types of devices that are told things and press nothing.
const LISTENERS: [&str; 3] = ["SEMAFORO", "PANTALLA", "SIRENA"];

/// Arguments of `atalaya device enrol`.
///
/// A device that is registered at this company and site already gets one more key, and a new
/// password at the broker, which ends the one that it had. The secrets are in the file alone: they
/// are never printed.
#[derive(Debug, clap::Args)]
pub(super) struct EnrolArgs {
    /// Name of the device: 1 to 64 letters, digits, _ and -, unique in the installation
    #[arg(value_parser = slug)]
    hardware: Slug,

    /// Company [default: banco, or the file's with --rotar]
    #[arg(long, value_parser = slug)]
    empresa: Option<Slug>,

    /// Site [default: principal, or the file's with --rotar]
    #[arg(long, value_parser = slug)]
    sede: Option<Slug>,

    /// Type of a device that is not registered yet
    #[arg(long, default_value = "BOTONERA", value_parser = slug)]
    tipo: Slug,

    /// What people call it
    #[arg(long)]
    nombre: Option<String>,

    /// Algorithm: `EdDSA`, or HS256 for small controllers [default: `EdDSA`, or the file's with --rotar]
    #[arg(long, value_parser = algorithm)]
    alg: Option<Algorithm>,

    /// File for the credentials [default: HARDWARE.json]
    #[arg(long)]
    out: Option<PathBuf>,

    /// Name of the installation that the device will talk to [default: atalaya, or the file's with --rotar]
    #[arg(long, env = "INSTALACION")]
    aud: Option<String>,

    /// Create the company and the site where they are missing
    #[arg(long)]
    crear: bool,

    /// Replace the file if it is there; its key stays active at the server
    #[arg(long, conflicts_with = "rotar")]
    force: bool,

    /// Replace the key in the file, and revoke the old one once the new one is safely written
    #[arg(long)]
    rotar: bool,

    /// Address of the server
    #[arg(
        long,
        env = "ATALAYA_URL",
        default_value = DEFAULT_URL,
        value_parser = BaseUrl::parse
    )]
    url: BaseUrl,

    #[command(flatten)]
    token: TokenArgs,
}

/// Why a device is not enrolled, beyond what the server or the file system say.
#[derive(Debug, thiserror::Error)]
enum EnrolError {
    #[error(
        "{0} ya existe y no se reemplaza: use --rotar para cambiar su clave, --out para otro archivo \
         o --force"
    )]
    Exists(String),
    #[error("{path} es de {found}, no de {wanted}")]
    AnotherDevice {
        path: String,
        found: Box<DeviceAddress>,
        wanted: Box<DeviceAddress>,
    },
    #[error(
        "{write}; la clave nueva queda sin uso y {revoked}; la contraseña MQTT anterior ya no vale: \
         enrole de nuevo"
    )]
    NotWritten {
        write: CredentialsError,
        revoked: String,
    },
}

/// What is to be enrolled.
pub(super) struct Enrolment<'a> {
    /// Who and where.
    pub(super) address: DeviceAddress,
    /// What it is.
    pub(super) kind: &'a Slug,
    /// What people call it.
    pub(super) name: Option<&'a str>,
    /// How it will sign.
    pub(super) algorithm: Algorithm,
    /// The installation.
    pub(super) audience: String,
    /// Whether company and site may be created.
    pub(super) create_place: bool,
}

/// Registers what is missing and gives the device a key and a password at the broker; how it came
/// to be registered.
///
/// # Errors
/// [`RegistryError`].
pub(super) async fn enrol(
    registry: &Registry,
    new: Enrolment<'_>,
) -> Result<(Credentials, Registered), RegistryError> {
    if new.create_place {
        registry.create_place(&new.address).await?;
    }
    let registration = Registration {
        address: &new.address,
        kind: new.kind,
        name: new.name,
    };
    let registered = registry.register(registration).await?;
    let (kid, key) = registry.add_key(&new.address.device, new.algorithm).await?;
    let password = registry.new_password(&new.address.device).await?;
    let credentials = Credentials {
        address: new.address,
        audience: new.audience,
        kid,
        key,
        password: Some(password),
        seq: 0,
    };
    Ok((credentials, registered))
}

/// Enrols one device.
///
/// # Errors
/// What has to be mended; then no file has changed.
pub(super) async fn run(args: &EnrolArgs) -> Result<ExitCode, Box<dyn Error>> {
    let default = PathBuf::from(format!("{}.json", args.hardware));
    let path = args.out.as_deref().unwrap_or(&default);
    // What is refused is refused before anything is written, even a lock.
    old_credentials(args, path)?;
    let vault = Vault::open(path)?;
    let old = old_credentials(args, path)?;
    // A file that cannot be written is found out before the server has made a key for it.
    vault.rehearse()?;

    let registry = Registry::new(args.url.clone(), PATIENCE, args.token.resolve()?)?;
    let (new, registered) = enrol(&registry, enrolment(args, old.as_ref())?).await?;
    if let Err(write) = vault.write(&new) {
        let revoked = match registry.revoke(&new.address.device, &new.kid).await {
            Ok(()) => "ya está revocada".to_owned(),
            Err(error) => format!("no se pudo revocar {} ({error})", new.kid),
        };
        return Err(EnrolError::NotWritten { write, revoked }.into());
    }
    tell(args, path, &new, &registered);
    match old {
        Some(old) => Ok(retire(&registry, &old).await),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The identity that is to be replaced and revoked, if one is.
fn old_credentials(args: &EnrolArgs, path: &Path) -> Result<Option<Credentials>, Box<dyn Error>> {
    if args.rotar {
        return Ok(Some(credentials::expect(path)?));
    }
    // A link that leads nowhere is something, too.
    if std::fs::symlink_metadata(path).is_ok() && !args.force {
        return Err(EnrolError::Exists(path.display().to_string()).into());
    }
    Ok(None)
}

fn enrolment<'a>(
    args: &'a EnrolArgs,
    old: Option<&Credentials>,
) -> Result<Enrolment<'a>, Box<dyn Error>> {
    let part = |given: &Option<Slug>, old: Option<&Slug>, default| match (given, old) {
        (Some(slug), _) | (None, Some(slug)) => Ok(slug.clone()),
        (None, None) => Slug::parse(default),
    };
    let old_address = old.map(|old| &old.address);
    let address = DeviceAddress {
        company: part(
            &args.empresa,
            old_address.map(|a| &a.company),
            DEFAULT_COMPANY,
        )?,
        site: part(&args.sede, old_address.map(|a| &a.site), DEFAULT_SITE)?,
        device: args.hardware.clone(),
    };
    if let Some(found) = old_address
        && *found != address
    {
        return Err(EnrolError::AnotherDevice {
            path: args
                .out
                .as_deref()
                .unwrap_or(Path::new("el archivo"))
                .display()
                .to_string(),
            found: Box::new(found.clone()),
            wanted: Box::new(address),
        }
        .into());
    }
    let algorithm = args.alg.or(old.map(|old| old.key.algorithm()));
    let audience = args.aud.clone().or(old.map(|old| old.audience.clone()));
    Ok(Enrolment {
        address,
        kind: &args.tipo,
        name: args.nombre.as_deref(),
        algorithm: algorithm.unwrap_or(Algorithm::EdDsa),
        audience: audience.unwrap_or_else(|| "atalaya".to_owned()),
        create_place: args.crear,
    })
}

fn tell(args: &EnrolArgs, path: &Path, new: &Credentials, registered: &Registered) {
    let (state, kind) = match registered {
        Registered::New => ("registrado", Some(args.tipo.as_str())),
        Registered::Already { kind } => ("ya registrado", kind.as_deref()),
    };
    println!("Dispositivo {}: {state}", new.address);
    if let Some(kind) = kind.filter(|kind| *kind != args.tipo.as_str()) {
        println!(
            "Su tipo sigue siendo {}, no {}",
            Shown::from(kind),
            args.tipo
        );
    }
    println!(
        "Clave {} ({}) y contraseña MQTT guardadas en {}",
        new.kid,
        new.key.algorithm().name(),
        path.display()
    );
    if kind.is_none_or(|kind| !LISTENERS.contains(&kind)) {
        println!("Pruébelo con: {}", trial(&program(), &args.url, path));
    }
}

/// The command that sends a first alert. Which broker belongs to another server is not known here,
/// its HTTP address is.
fn trial(program: &str, url: &BaseUrl, path: &Path) -> String {
    let command = format!("{program} device send {} ROJO", path.display());
    if url.to_string() == DEFAULT_URL {
        command
    } else {
        format!("{command} --http --url {url}")
    }
}

/// This program as it was called.
fn program() -> String {
    std::env::args_os().next().map_or_else(
        || "atalaya".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Revokes the key that the file no longer holds.
async fn retire(registry: &Registry, old: &Credentials) -> ExitCode {
    let (device, kid) = (&old.address.device, &old.kid);
    match registry.revoke(device, kid).await {
        Ok(()) => {
            println!("Clave anterior {kid} revocada");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!(
                "atalaya device enrol: la clave nueva ya está en uso, pero la anterior sigue \
                 activa: {error}; revóquela con DELETE /api/v1/hardware/{device}/claves/{kid}"
            );
            ExitCode::FAILURE
        }
    }
}

/// A name for the command line.
pub(super) fn slug(text: &str) -> Result<Slug, String> {
    Slug::parse(text).map_err(|error| format!("{error} (letters, digits, _ and -)"))
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::parse(text).ok_or_else(|| "EdDSA or HS256".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
    use clap::Parser;
    use std::sync::Mutex;

    /// What a small registry of our own was asked, and whether it refuses keys.
    #[derive(Default)]
    struct Office {
        asked: Vec<String>,
        refuses: bool,
        keys: u32,
    }

    type Shared = web::Data<Mutex<Office>>;

    async fn answer(office: Shared, request: HttpRequest) -> HttpResponse {
        let mut office = office.lock().unwrap();
        let asked = format!("{} {}", request.method(), request.path());
        let asked = asked.replace("/api/v1", "");
        office.asked.push(asked.clone());
        let json = |mut builder: actix_web::HttpResponseBuilder, body: String| {
            builder.content_type("application/json").body(body)
        };
        match asked.as_str() {
            "POST /hardware" => json(
                HttpResponse::Conflict(),
                r#"{"codigo":"hardware_existe"}"#.to_owned(),
            ),
            "GET /hardware/b" => json(
                HttpResponse::Ok(),
                r#"{"empresa":"banco","sede":"principal","activo":true,"claves":[]}"#.to_owned(),
            ),
            "POST /hardware/b/claves" if office.refuses => json(
                HttpResponse::UnprocessableEntity(),
                r#"{"codigo":"clave_invalida","detail":"no"}"#.to_owned(),
            ),
            "POST /hardware/b/claves" => {
                office.keys += 1;
                let kid = format!("k{}", office.keys);
                json(HttpResponse::Created(), format!(r#"{{"kid":"{kid}"}}"#))
            }
            "POST /hardware/b/contrasena_mqtt" => json(
                HttpResponse::Created(),
                r#"{"usuario":"b","contrasena":"palabra"}"#.to_owned(),
            ),
            _ => json(HttpResponse::Ok(), "{}".to_owned()),
        }
    }

    /// The registry, its address, and a folder for the file.
    fn office() -> (Shared, String, tempfile::TempDir) {
        let shared = Shared::default();
        let data = shared.clone();
        let app = move || {
            let office = App::new().app_data(data.clone());
            office.default_service(web::to(answer))
        };
        let server = HttpServer::new(app).workers(1).disable_signals();
        let server = server.bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        actix_web::rt::spawn(server.run());
        (shared, url, tempfile::tempdir().unwrap())
    }

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: EnrolArgs,
    }

    async fn enrol(url: &str, file: &Path, flags: &[&str]) -> Result<ExitCode, String> {
        let file = file.display().to_string();
        let words = ["enrol", "b", "--url", url, "--out", &file];
        let words = words.into_iter().chain(flags.iter().copied());
        let args = Wrapper::try_parse_from(words).unwrap().args;
        run(&args).await.map_err(|error| error.to_string())
    }

    fn kid(file: &Path) -> String {
        Vault::open(file).unwrap().expect().unwrap().kid
    }

    #[actix_web::test]
    async fn a_file_is_replaced_only_when_asked_and_only_by_a_better_one() {
        let (office, url, folder) = office();
        let file = folder.path().join("b.json");
        enrol(&url, &file, &[]).await.unwrap();
        assert_eq!(kid(&file), "k1");
        let written = credentials::expect(&file).unwrap().password;
        assert_eq!(written.unwrap().0, "palabra");

        let before = office.lock().unwrap().asked.len();
        let error = enrol(&url, &file, &[]).await.unwrap_err();
        assert!(error.contains("--rotar"), "{error}");
        let after = office.lock().unwrap().asked.len();
        assert_eq!(before, after, "the server is not even asked");

        office.lock().unwrap().refuses = true;
        for flag in ["--force", "--rotar"] {
            let error = enrol(&url, &file, &[flag]).await.unwrap_err();
            assert!(error.contains("clave_invalida"), "{error}");
            assert_eq!(kid(&file), "k1", "{flag}");
        }
        office.lock().unwrap().refuses = false;
        enrol(&url, &file, &["--force"]).await.unwrap();
        assert_eq!(kid(&file), "k2");
        let asked = office.lock().unwrap().asked.join("\n");
        assert!(!asked.contains("DELETE"), "{asked}");
    }

    #[actix_web::test]
    async fn a_server_that_is_down_is_told_soon() {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", port.local_addr().unwrap());
        drop(port);
        let began = std::time::Instant::now();
        let error = enrol(&url, &folder.path().join("b.json"), &[]).await;
        let error = error.unwrap_err();
        assert!(error.contains("--url") && error.contains(&url), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_trial_reaches_the_same_server() {
        let trial = |url| {
            trial(
                "./atalaya",
                &BaseUrl::parse(url).unwrap(),
                Path::new("b.json"),
            )
        };
        let plain = "./atalaya device send b.json ROJO";
        assert_eq!(trial(DEFAULT_URL), plain);
        let elsewhere = format!("{plain} --http --url http://10.0.0.2:80");
        assert_eq!(trial("http://10.0.0.2:80/"), elsewhere);
    }

    #[actix_web::test]
    async fn the_old_key_is_revoked_after_the_new_one_is_written() {
        let (office, url, folder) = office();
        let file = folder.path().join("b.json");
        enrol(&url, &file, &[]).await.unwrap();
        enrol(&url, &file, &["--rotar"]).await.unwrap();
        assert_eq!(kid(&file), "k2");
        let asked = office.lock().unwrap().asked.clone();
        let last: Vec<_> = asked.iter().rev().take(3).map(String::as_str).collect();
        let expected = [
            "DELETE /hardware/b/claves/k1",
            "POST /hardware/b/contrasena_mqtt",
            "POST /hardware/b/claves",
        ];
        assert_eq!(last, expected);
    }

    #[actix_web::test]
    async fn a_device_elsewhere_and_a_place_that_cannot_be_written_get_no_key() {
        let (office, url, folder) = office();
        let file = folder.path().join("b.json");
        let error = enrol(&url, &file, &["--sede", "norte"]).await.unwrap_err();
        assert!(error.contains("banco/principal"), "{error}");
        let nowhere = folder.path().join("none/b.json");
        assert!(enrol(&url, &nowhere, &[]).await.is_err());
        assert_eq!(office.lock().unwrap().keys, 0);
        assert!(!file.exists());
    }
}
