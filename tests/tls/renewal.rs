//! Certificates that are replaced while the server runs.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use super::{certificate_for, serving, text};
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};
use crate::support::tls::{Issued, VALID, Validity, authority};
use crate::support::{DEADLINE, temp_dir};

/// Waits until new clients get this certificate.
#[track_caller]
fn wait_for(server: &Server, expected: &Issued) {
    let began = Instant::now();
    while !text(&expected.cert).contains(&certificate_for(server, None)) {
        assert!(began.elapsed() < DEADLINE, "the old certificate");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Replaces a file as careful programs do.
fn replace(file: &Path, from: &Path) {
    let new = file.with_extension("new");
    std::fs::copy(from, &new).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn copies(of: &Issued, dir: &Path) -> Issued {
    let copied = Issued {
        cert: dir.join("tls.crt"),
        key: dir.join("tls.key"),
    };
    std::fs::copy(&of.cert, &copied.cert).unwrap();
    std::fs::copy(&of.key, &copied.key).unwrap();
    copied
}

#[test]
fn changed_files_are_read_and_connections_go_on() {
    let dir = temp_dir();
    let [old, new] = [(); 2].map(|()| authority().issue(&["localhost"]));
    let used = copies(&old, dir.path());
    let server = serving(&[&used]).watched().ready();
    wait_for(&server, &old);
    let mut kept = server.connect_tls();
    // One after the other: the pair does not match in between.
    replace(&used.cert, &new.cert);
    replace(&used.key, &new.key);
    wait_for(&server, &new);
    server.stderr.wait_for("certificate read: ");
    assert_eq!(kept.exchange(get("/")).status(), 200);
    let mut connection: Connection = server.connect_tls();
    assert_eq!(connection.exchange(get("/")).status(), 200);
    // Seconds since 1970 of 2099-01-01.
    let expiry = "pyserve_tls_certificate_expiry_seconds{name=\"localhost\"}";
    assert_eq!(server.metric(expiry), Some(4_070_908_800.0));
}

#[test]
fn the_links_of_certbot_and_kubernetes_are_followed() {
    let [old, new] = [(); 2].map(|()| authority().issue(&["localhost"]));
    let dir = temp_dir();
    // certbot: live/NAME/fullchain.pem -> ../../archive/NAME/fullchain1.pem
    let live = dir.path().join("live/localhost");
    std::fs::create_dir_all(&live).unwrap();
    let link = |pair: &Issued| {
        for (name, target) in [("fullchain.pem", &pair.cert), ("privkey.pem", &pair.key)] {
            let new = live.join("new");
            symlink(target, &new).unwrap();
            std::fs::rename(new, live.join(name)).unwrap();
        }
    };
    link(&old);
    // Kubernetes: tls.crt -> ..data/tls.crt, ..data -> ..2026_1
    let secret = dir.path().join("secret");
    let data = |pair: &Issued, name: &str| {
        let target = secret.join(name);
        std::fs::create_dir_all(&target).unwrap();
        copies(pair, &target);
        symlink(name, secret.join("..data_tmp")).unwrap();
        std::fs::rename(secret.join("..data_tmp"), secret.join("..data")).unwrap();
    };
    data(&old, "..2026_1");
    symlink("..data/tls.crt", secret.join("tls.crt")).unwrap();
    symlink("..data/tls.key", secret.join("tls.key")).unwrap();
    let start = |place: &Path| {
        Pyserve::app("environ.py")
            .args(["--bind", "127.0.0.1:0", "--bind", "https://127.0.0.1:0"])
            .args([Path::new("--tls-cert"), place])
            .ready()
    };
    let [certbot, kubernetes] = [dir.path().join("live"), secret.clone()].map(|at| start(&at));
    wait_for(&certbot, &old);
    wait_for(&kubernetes, &old);
    link(&new);
    data(&new, "..2026_2");
    std::fs::remove_dir_all(secret.join("..2026_1")).unwrap();
    wait_for(&certbot, &new);
    wait_for(&kubernetes, &new);
}

#[test]
fn a_broken_new_pair_keeps_the_old_one_and_is_reported_once() {
    let dir = temp_dir();
    let [old, new] = [(); 2].map(|()| authority().issue(&["localhost"]));
    let used = copies(&old, dir.path());
    let server = serving(&[&used]).ready();
    replace(&used.cert, &new.cert);
    let line = server.stderr.wait_for("new certificate refused");
    assert!(line.contains("does not belong"), "{line}");
    assert!(line.contains("the one before stays in use"), "{line}");
    wait_for(&server, &old);
    assert_eq!(server.connect_tls().exchange(get("/")).status(), 200);
    std::fs::write(&used.cert, "no certificate").unwrap();
    let again = |line: &String| line.contains("new certificate refused");
    let began = Instant::now();
    while server
        .stderr
        .so_far()
        .iter()
        .filter(|line| again(line))
        .count()
        < 2
    {
        assert!(began.elapsed() < DEADLINE);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    replace(&used.cert, &new.cert);
    replace(&used.key, &new.key);
    wait_for(&server, &new);
}

#[test]
fn a_certificate_that_expires_soon_is_a_warning() {
    let soon = std::process::Command::new("date")
        .args(["-u", "-d", "+13 days", "+%Y%m%d%H%M%SZ"])
        .output()
        .unwrap();
    let soon = String::from_utf8(soon.stdout).unwrap();
    let soon = Validity {
        to: soon.trim().to_owned().leak(),
        ..VALID
    };
    let soon = authority().issue_to("/O=Test/CN=x", &["localhost"], &soon);
    let server = serving(&[&soon]).ready();
    server.stderr.wait_for("localhost: 12 days left");
}

/// For root only, as the test of privileges are.
#[test]
fn keys_of_root_are_read_before_privileges_are_dropped_and_a_renewal_that_fails_is_announced() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::skipped("keys of root", "only root can drop privileges");
    }
    let dir = temp_dir();
    let issued = authority().issue(&["localhost"]);
    let used = copies(&issued, dir.path());
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&used.key, PermissionsExt::from_mode(0o600)).unwrap();
    let static_dir = dir.path().join("static");
    std::fs::create_dir(&static_dir).unwrap();
    let server = Pyserve::new()
        .args(["--bind", "https://127.0.0.1:0", "--uid", "nobody"])
        .arg_file("--root", dir.path())
        .args(super::pairs(&[&used]))
        .env("PYSERVE_CONTROL", "off")
        .started();
    server
        .stderr
        .wait_for("a renewed certificate cannot be read after the start");
    server.stderr.wait_for("ready in ");
    wait_for(&server, &issued);
}
