//! Fetches what the page shows charts with, where Node is there.
//!
//! `static/package.json` and its lock file say what and in which bytes. The page works without: it
//! says that charts need it. Nothing else of the build touches the network.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What the page is served from `node_modules`, and under which name.
const FILES: &[(&str, &str)] = &[
    ("uplot/dist/uPlot.iife.min.js", "uplot.js"),
    ("uplot/dist/uPlot.min.css", "uplot.css"),
];

/// Where the versions stand.
const MANIFESTS: &[&str] = &["package.json", "package-lock.json"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for manifest in MANIFESTS {
        println!("cargo:rerun-if-changed=static/{manifest}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let vendor = out.join("vendor");
    let fetched = fetch(&out.join("npm"), &vendor).and_then(|()| list(&out, FILES));
    if let Err(why) = fetched.or_else(|why| list(&out, &[]).and(Err(why))) {
        println!(
            "cargo:warning=the page is built without charts: {why}. To have them, install Node \
             with npm, touch build.rs and build again"
        );
    }
}

/// Writes what the binary includes: a list of names and contents.
fn list(out: &Path, files: &[(&str, &str)]) -> Result<(), String> {
    let each = files.iter().map(|(_, name)| {
        format!("({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/vendor/{name}\"))),")
    });
    let code = format!("&[{}]", each.collect::<String>());
    fs::write(out.join("vendor.rs"), code).map_err(|error| format!("vendor.rs: {error}"))
}

/// Puts the files into `vendor`, which is there and empty where that fails.
fn fetch(workshop: &Path, vendor: &Path) -> Result<(), String> {
    let told = |what: &Path, error: std::io::Error| format!("{}: {error}", what.display());
    // What an earlier build left may be of another version.
    let _ = fs::remove_dir_all(vendor);
    fs::create_dir_all(vendor).map_err(|e| told(vendor, e))?;
    fs::create_dir_all(workshop).map_err(|e| told(workshop, e))?;
    for manifest in MANIFESTS {
        let from = Path::new("static").join(manifest);
        fs::copy(&from, workshop.join(manifest)).map_err(|e| told(&from, e))?;
    }
    let ran = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        // In a closed network a build is not to wait for minutes.
        .args(["--fetch-timeout=20000", "--fetch-retries=1"])
        .current_dir(workshop)
        .output()
        .map_err(|error| format!("npm does not run ({error})"))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(format!(
            "npm ci failed ({})",
            said.lines().next().unwrap_or("no reason")
        ));
    }
    for (file, name) in FILES {
        let from = workshop.join("node_modules").join(file);
        fs::copy(&from, vendor.join(name)).map_err(|e| told(&from, e))?;
    }
    Ok(())
}
