//! Certificates by ACME, from a real pebble: the first one, renewals, and all that goes wrong.

mod failures;
mod manual;
mod orders;
mod settings;
mod sharing;
mod under_load;
mod upgraded;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::pebble::{Pebble, PebbleSettings};
use crate::support::server::{Pyserve, Server};
use crate::support::tls::authority;
use crate::support::{DEADLINE, skipped};

/// An authority, unless this machine cannot have one.
fn pebble(what: &str) -> Option<Pebble> {
    Pebble::new().inspect_err(|why| skipped(what, why)).ok()
}

/// A server of certificates for hosts, with plain HTTP and TLS.
fn server(pebble: &Pebble, dir: &Path, names: &[&str]) -> Pyserve {
    let server =
        Pyserve::app("environ.py").args(["--bind", "127.0.0.1:0", "--bind", "https://127.0.0.1:0"]);
    with_acme(server, pebble, dir, names)
}

fn with_acme(server: Pyserve, pebble: &Pebble, dir: &Path, names: &[&str]) -> Pyserve {
    let mut server = server
        .watched()
        .args(["--acme-directory", &pebble.directory()])
        .arg_file("--acme-ca", &authority().root())
        .arg_file("--acme-dir", dir);
    for name in names {
        server = server.args(["--acme", name]);
    }
    server
}

/// Starts the authority for this server.
fn start(pebble: &mut Pebble, server: &Server) {
    start_with(pebble, server, &PebbleSettings::default());
}

fn start_with(pebble: &mut Pebble, server: &Server, settings: &PebbleSettings) {
    pebble.start(server.port(), server.tls_port(), settings);
}

/// An authority whose certificates last for 20 s.
fn start_short_lived(pebble: &mut Pebble, server: &Server) {
    let settings = PebbleSettings {
        lifetime: Some(20),
        ..PebbleSettings::default()
    };
    start_with(pebble, server, &settings);
}

/// Output of `openssl s_client` for a host.
fn handshake(server: &Server, name: &str) -> String {
    let said = Command::new("openssl")
        .args(["s_client", "-showcerts", "-servername", name, "-connect"])
        .arg(format!("127.0.0.1:{}", server.tls_port()))
        .stdin(Stdio::null())
        .output()
        .expect("openssl");
    String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
}

/// The first certificate in a text.
fn certificate_in(text: &str) -> Option<String> {
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let (certificate, _) = text[begin..].split_once("-----END")?;
    Some(certificate.to_owned())
}

/// Waits until clients that ask for `name` get a certificate of pebble other than `before`.
#[track_caller]
fn wait_for_certificate(server: &Server, name: &str, before: Option<&str>) -> String {
    let began = Instant::now();
    loop {
        let said = handshake(server, name);
        let found = certificate_in(&said).filter(|_| said.contains("Pebble Intermediate CA"));
        if let Some(found) = found.filter(|found| Some(&**found) != before) {
            return found;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "no certificate for {name}: {said}"
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// The entry of a host in the status.
fn status(server: &Server, name: &str) -> serde_json::Value {
    let all = server.status()["acme"].take();
    let mut all = all.as_array().cloned().unwrap_or_default().into_iter();
    all.find(|entry| entry["name"] == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

/// Waits until the status of a host has this value.
#[track_caller]
fn wait_for_status(server: &Server, name: &str, field: &str, value: &serde_json::Value) {
    let began = Instant::now();
    loop {
        let found = status(server, name);
        if found[field] == *value {
            return;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "{field} of {found} is not {value}"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
