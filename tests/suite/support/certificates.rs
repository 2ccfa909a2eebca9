//! An authority of the test's own, and certificates that it vouches for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Makes certificates with openssl, in a folder of its own.
pub struct Authority {
    folder: TempDir,
}

/// A certificate and its key, in PEM files.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// A new authority.
    pub fn new() -> Self {
        let authority = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let (key, certificate) = (authority.path("ca.key"), authority.certificate());
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-keyout",
            text(&key),
            "-out",
            text(&certificate),
        ]);
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A certificate for `name`, and for 127.0.0.1.
    pub fn vouch_for(&self, name: &str) -> Pair {
        let (request, key) = (self.path("request.pem"), self.path(&format!("{name}.key")));
        let certificate = self.path(&format!("{name}.pem"));
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            text(&key),
            "-out",
            text(&request),
        ]);
        let extensions = self.path("extensions");
        let names = format!("subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:{name}\n");
        std::fs::write(&extensions, names).unwrap();
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            text(&request),
            "-CA",
            text(&self.certificate()),
            "-CAkey",
            text(&self.path("ca.key")),
            "-CAcreateserial",
            "-extfile",
            text(&extensions),
            "-out",
            text(&certificate),
        ]);
        Pair { certificate, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn openssl(words: &[&str]) {
    let output = Command::new("openssl")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("openssl (tests/run installs it)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words:?}: {said}");
}
