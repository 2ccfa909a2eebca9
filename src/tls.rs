//! TLS: certificates and keys from PEM files, with rustls and one provider of cryptography.

use crate::config::ConfigError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate with the chain above it, and its key: two PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate first, then those that vouch for it.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How a client of TLS behaves. `Debug` keeps its key to itself.
#[derive(Clone)]
pub struct ClientTls(pub Arc<ClientConfig>);

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls(…)")
    }
}

/// Makes ring the provider for every library of this process that asks for the default one. Called
/// before anything that may speak TLS; a second call changes nothing.
fn choose_provider() {
    // An error says that one is chosen already, which was here.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What a server shows.
///
/// # Errors
/// [`ConfigError`] that names the file and what is wrong with it.
pub fn server(identity: &Identity) -> Result<ServerConfig, ConfigError> {
    choose_provider();
    let (chain, key) = load(identity, "TLS_CERT_FILE", "TLS_KEY_FILE")?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            let (cert, key) = (identity.certificate.display(), identity.key.display());
            ConfigError(format!(
                "TLS_CERT_FILE={cert} and TLS_KEY_FILE={key} do not go together: {error}"
            ))
        })
}

/// Whom a client believes (the CA in a file, or those of the system), and what it shows, if asked.
///
/// # Errors
/// [`ConfigError`] that names the file and what is wrong with it.
pub fn client(
    ca: Option<(&str, &Path)>,
    identity: Option<(&Identity, &str, &str)>,
) -> Result<ClientTls, ConfigError> {
    choose_provider();
    let roots = match ca {
        Some((setting, path)) => roots_in(setting, path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((identity, certificate_setting, key_setting)) => {
            let (chain, key) = load(identity, certificate_setting, key_setting)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                ConfigError(format!(
                    "{certificate_setting} and {key_setting} do not go together: {error}"
                ))
            })?
        }
    };
    Ok(ClientTls(Arc::new(config)))
}

fn roots_in(setting: &str, path: &Path) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, path)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(setting, path, &error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, ConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        return Err(ConfigError(
            "this system trusts no certificate authority (on Debian: apt install \
             ca-certificates); name one with a CA file"
                .to_owned(),
        ));
    }
    Ok(roots)
}

type Loaded = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn load(
    identity: &Identity,
    certificate_setting: &str,
    key_setting: &str,
) -> Result<Loaded, ConfigError> {
    let chain = certificates(certificate_setting, &identity.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key)
        .map_err(|error| wrong(key_setting, &identity.key, &error))?;
    Ok((chain, key))
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong(setting, path, &error))?
        .collect();
    let found = found.map_err(|error| wrong(setting, path, &error))?;
    if found.is_empty() {
        return Err(wrong(setting, path, &"there is no certificate in it"));
    }
    Ok(found)
}

fn wrong(setting: &str, path: &Path, what: &dyn fmt::Display) -> ConfigError {
    ConfigError(format!(
        "{setting}={}: expected a PEM file: {what}",
        path.display()
    ))
}
