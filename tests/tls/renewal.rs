//! Certificates that are replaced while the server runs.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use super::{certificate_for, serving, text};
use crate::support::load::Load;
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
fn ten_renewals_under_load_lose_nothing() {
    let dir = temp_dir();
    let [one, other] = [(); 2].map(|()| authority().issue(&["localhost"]));
    let used = copies(&one, dir.path());
    let builder = Pyserve::app("ledger.py");
    let ledger = builder.path("ledger");
    let server = builder
        .args(["--bind", "127.0.0.1:0", "--bind", "https://127.0.0.1:0"])
        .args(super::pairs(&[&used]))
        .env("LEDGER", &ledger)
        .ready()
        .over_tls();
    let pause = std::time::Duration::from_millis(3);
    let loads = [(8, false), (2, true)].map(|(clients, fresh)| {
        let load = Load::start(&server, clients, "/", pause, fresh);
        load.wait_for(20);
        load
    });
    for next in [&other, &one].into_iter().cycle().take(10) {
        replace(&used.cert, &next.cert);
        replace(&used.key, &next.key);
        wait_for(&server, next);
    }
    for tally in loads.map(Load::stop) {
        let rate = tally.fates.len() as f64 / tally.took.as_secs_f64();
        println!("{rate:.0} requests/s");
        tally.check_each_ran_once(&ledger);
    }
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
fn a_pair_whose_files_are_gone_is_dropped_and_reported() {
    let dir = temp_dir();
    let [first, other] = ["localhost", "other.test"].map(|name| authority().issue(&[name]));
    let [_, used] = [(&first, "a"), (&other, "b")].map(|(pair, name)| {
        let below = dir.path().join(name);
        std::fs::create_dir(&below).unwrap();
        copies(pair, &below)
    });
    let server = Pyserve::app("environ.py")
        .args(["--bind", "127.0.0.1:0", "--bind", "https://127.0.0.1:0"])
        .arg_file("--tls-cert", dir.path())
        .ready();
    let sent = |expected: &Issued| {
        text(&expected.cert).contains(&certificate_for(&server, Some("other.test")))
    };
    assert!(sent(&other));
    std::fs::remove_file(&used.key).unwrap();
    let line = server.stderr.wait_for("its files are gone");
    assert!(line.contains(&*used.cert.to_string_lossy()), "{line}");
    assert!(sent(&first));
    std::fs::copy(&other.key, &used.key).unwrap();
    server.stderr.wait_for("certificate read: ");
    assert!(sent(&other));
    assert_eq!(server.stderr.count("its files are gone"), 1);
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
fn keys_of_root_are_renewed_after_privileges_were_dropped() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::skipped("keys of root", "only root can drop privileges");
    }
    let dir = temp_dir();
    let [first, second, third] = [(); 3].map(|()| authority().issue(&["localhost"]));
    std::fs::create_dir(dir.path().join("static")).unwrap();
    set_mode(dir.path(), 0o755);
    // As two files, and as certbot's directory, in which the user cannot even look.
    for is_directory in [false, true] {
        let live = dir.path().join(format!("live-{is_directory}"));
        let below = live.join("localhost");
        std::fs::create_dir_all(&below).unwrap();
        let used = copies(&first, &below);
        let mode = if is_directory { 0o700 } else { 0o755 };
        set_mode(&live, mode);
        set_mode(&below, 0o755);
        set_mode(&used.key, 0o600);
        let mut pyserve = Pyserve::new()
            .args(["--bind", "https://127.0.0.1:0", "--uid", "nobody"])
            .arg_file("--root", dir.path())
            .env("PYSERVE_CONTROL", "off");
        pyserve = match is_directory {
            true => pyserve.arg_file("--tls-cert", &live),
            false => pyserve.args(super::pairs(&[&used])),
        };
        let mut server = pyserve.started();
        server
            .stderr
            .wait_for("a process that stays root reads keys");
        server.stderr.wait_for("ready in ");
        wait_for(&server, &first);
        for next in [&second, &third] {
            replace(&used.cert, &next.cert);
            replace(&used.key, &next.key);
            set_mode(&used.key, 0o600);
            wait_for(&server, next);
        }
        let reader = reader_of(&server);
        let status = text(&reader.join("status"));
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(field("Uid:"), "0 0 0 0");
        assert_eq!(field("NoNewPrivs:"), "1");
        // capabilities(7): CAP_DAC_READ_SEARCH is the second, where root has it.
        for set in ["CapEff:", "CapPrm:"] {
            assert_eq!(u64::from_str_radix(&field(set), 16).unwrap() & !(1 << 2), 0);
        }
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.wait_exit(), 0);
        let began = Instant::now();
        while reader.exists() {
            assert!(began.elapsed() < DEADLINE, "the reader outlives the server");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn a_reload_that_adds_a_key_of_root_is_refused_with_the_remedy() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::skipped("keys of root", "only root can drop privileges");
    }
    let dir = temp_dir();
    set_mode(dir.path(), 0o755);
    let [first, second] = ["first", "second"].map(|name| {
        let below = dir.path().join(name);
        std::fs::create_dir(&below).unwrap();
        let issued = copies(&authority().issue(&["localhost"]), &below);
        set_mode(&issued.key, 0o600);
        issued
    });
    std::fs::create_dir(dir.path().join("static")).unwrap();
    let settings = dir.path().join("pyserve.toml");
    let of = |pair: &Issued| {
        let [cert, key] = [&pair.cert, &pair.key].map(|file| file.display());
        format!("[[certificate]]\ncert = '{cert}'\nkey = '{key}'\n")
    };
    std::fs::write(&settings, of(&first)).unwrap();
    let server = Pyserve::new()
        .args(["--bind", "https://127.0.0.1:0", "--uid", "nobody"])
        .arg_file("--root", dir.path())
        .arg_file("--config", &settings)
        .env("PYSERVE_CONTROL", "off")
        .started();
    server.stderr.wait_for("ready in ");
    let directory = second.cert.parent().unwrap().display().to_string();
    let added = [
        of(&second),
        // A directory in which the user cannot look.
        format!("[[certificate]]\ncert = '{directory}'\n"),
    ];
    for (at, added) in added.iter().enumerate() {
        set_mode(&dir.path().join("second"), 0o700);
        std::fs::write(&settings, of(&first) + added).unwrap();
        server.signal(rustix::process::Signal::HUP);
        let failed = "reload failed, the old code and settings keep serving";
        server.stderr.wait_for_nth(failed, at + 1);
        let said = server.stderr.wait_for_nth("Permission denied", at + 1);
        for part in ["mode 640", "restart", "second"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        wait_for(&server, &first);
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// The directory in `/proc` of the process that stays root.
fn reader_of(server: &Server) -> std::path::PathBuf {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let parent = format!("PPid:\t{}\n", server.pid());
    let mut all = processes.map(|entry| entry.path());
    let found = all.find(|process| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"read-keys") && status.contains(&parent)
    });
    found.expect("the process")
}

#[test]
fn no_process_stays_root_where_the_user_can_read_the_keys() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::skipped("keys of a user", "only root can drop privileges");
    }
    let dir = temp_dir();
    set_mode(dir.path(), 0o755);
    std::fs::create_dir(dir.path().join("static")).unwrap();
    let used = copies(&authority().issue(&["localhost"]), dir.path());
    set_mode(&used.key, 0o644);
    let server = Pyserve::new()
        .args(["--bind", "https://127.0.0.1:0", "--uid", "nobody"])
        .arg_file("--root", dir.path())
        .args(super::pairs(&[&used]))
        .env("PYSERVE_CONTROL", "off")
        .started();
    server.stderr.wait_for("ready in ");
    let said = server.stderr.so_far().join("\n");
    assert!(!said.contains("stays root"), "{said}");
}
