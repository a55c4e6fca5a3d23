//! Orders that fail, and what happens meanwhile.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{
    certificate_in, handshake, pebble, server, start, start_with, status, wait_for_certificate,
    wait_for_status, with_acme,
};
use crate::limits::with_small_disk;
use crate::support::pebble::PebbleSettings;
use crate::support::server::{Pyserve, get};
use crate::support::{apps, skipped, temp_dir};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The state that survives a restart.
fn state(dir: &std::path::Path, name: &str) -> Value {
    let text = std::fs::read_to_string(dir.join("state.json")).unwrap();
    let mut state: Value = serde_json::from_str(&text).unwrap();
    state["certificates"][name].take()
}

#[test]
fn a_rate_limit_is_obeyed_for_the_time_that_the_authority_wants() {
    let Some(mut pebble) = pebble("a rate limit") else {
        return;
    };
    let dir = temp_dir();
    let problem = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many new orders","status":429}"#;
    pebble.refuse(
        "/order-plz",
        &format!(
            "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\n\
             Retry-After: 3\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{problem}",
            problem.len()
        ),
    );
    let server = server(&pebble, dir.path(), &["one.test"]).ready();
    start(&mut pebble, &server);
    let line = server.stderr.wait_for("no certificate: ");
    for part in [
        "too many new orders",
        "rateLimited",
        "handshakes for this host are refused",
        "PS-118",
    ] {
        assert!(line.contains(part), "{line}");
    }
    wait_for_certificate(&server, "one.test", None);
    let orders = pebble.seen("/order-plz");
    let pause = orders[1].at - orders[0].at;
    assert!(pause >= Duration::from_secs(3), "{pause:?}");
    wait_for_status(&server, "one.test", "failures", &json!(0));
}

#[test]
fn a_rate_limit_survives_a_restart() {
    let Some(mut pebble) = pebble("a rate limit over a restart") else {
        return;
    };
    let dir = temp_dir();
    pebble.refuse(
        "/order-plz",
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 86400\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    let first = server(&pebble, dir.path(), &["one.test"]).ready();
    start(&mut pebble, &first);
    first.stderr.wait_for("no certificate: ");
    wait_for_status(&first, "one.test", "failures", &json!(1));
    drop(first);
    let second = server(&pebble, dir.path(), &["one.test"]).ready();
    wait_for_status(&second, "one.test", "failures", &json!(1));
    let entry = status(&second, "one.test");
    let next = entry["next_attempt_at"].as_u64().unwrap();
    assert!(next > now() + 80_000, "{entry}");
    assert!(
        entry["last_error"].as_str().unwrap().contains("429"),
        "{entry}"
    );
    assert_eq!(pebble.seen("/order-plz").len(), 1);
}

#[test]
fn an_authority_that_is_away_at_the_start_is_asked_again_soon() {
    let Some(mut pebble) = pebble("an authority that is away") else {
        return;
    };
    let dir = temp_dir();
    pebble.set_away(true);
    let server = server(&pebble, dir.path(), &["one.test"]).ready();
    let line = server.stderr.wait_for("no certificate: ");
    assert!(
        line.contains("cannot reach the authority localhost:"),
        "{line}"
    );
    // The application is served meanwhile.
    assert_eq!(server.get("/").status(), 200);
    start(&mut pebble, &server);
    pebble.set_away(false);
    wait_for_certificate(&server, "one.test", None);
}

#[test]
fn the_certificate_in_use_goes_on_while_the_authority_is_away() {
    let Some(mut pebble) = pebble("an authority that is away later") else {
        return;
    };
    let dir = temp_dir();
    let server = server(&pebble, dir.path(), &["one.test"]).ready();
    let settings = PebbleSettings {
        lifetime: Some(40),
        ..PebbleSettings::default()
    };
    start_with(&mut pebble, &server, &settings);
    let first = wait_for_certificate(&server, "one.test", None);
    pebble.set_away(true);
    let line = server.stderr.wait_for("no certificate: ");
    assert!(line.contains("the one before stays in use"), "{line}");
    let said = handshake(&server, "one.test");
    assert_eq!(certificate_in(&said).as_deref(), Some(&*first), "{said}");
    pebble.set_away(false);
    wait_for_certificate(&server, "one.test", Some(&first));
}

#[test]
fn the_other_challenge_is_tried_where_one_port_is_not_reached() {
    let Some(mut pebble) = pebble("a wrong port for HTTP-01") else {
        return;
    };
    let dir = temp_dir();
    let server = server(&pebble, dir.path(), &["one.test"]).ready();
    pebble.start(1, server.tls_port(), &PebbleSettings::default());
    let line = server.stderr.wait_for("no certificate: ");
    for part in [
        "one.test was not validated by http-01",
        "the authority connects to port 80 of one.test",
    ] {
        assert!(line.contains(part), "{line}");
    }
    wait_for_certificate(&server, "one.test", None);
    server
        .stderr
        .wait_for("challenge of the authority answered in a TLS handshake");
}

#[test]
fn a_challenge_that_cannot_succeed_is_tried_at_growing_intervals() {
    let Some(mut pebble) = pebble("wrong ports for all challenges") else {
        return;
    };
    let dir = temp_dir();
    let server = server(&pebble, dir.path(), &["one.test"]).ready();
    pebble.start(1, 1, &PebbleSettings::default());
    server.stderr.wait_for_nth("no certificate: ", 2);
    wait_for_status(&server, "one.test", "failures", &json!(2));
    // Five failed validations within an hour are a limit of Let's Encrypt.
    let next = status(&server, "one.test")["next_attempt_at"]
        .as_u64()
        .unwrap();
    assert!(next >= now() + 250, "{next}");
    let kept = state(dir.path(), "one.test");
    assert_eq!(kept["failures"], 2);
    assert_eq!(kept["order"], Value::Null);
    assert!(kept["not_before"].as_u64().unwrap() >= now() + 250);
    let failed = "pyserve_acme_orders_total{outcome=\"failed\"}";
    assert_eq!(server.metric(failed), Some(2.0));
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_pyserve"))
        .args([
            std::path::Path::new("status"),
            "--control".as_ref(),
            &server.probe.path("control"),
        ])
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("certificates by ACME\n  one.test  missing, next attempt "),
        "{shown}"
    );
    assert!(
        shown.contains("2 failures, the last: one.test was not validated by tls-alpn-01"),
        "{shown}"
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_at_the_start_and_the_server_serves() {
    let Some(mut pebble) = pebble("a directory that cannot be used") else {
        return;
    };
    let dir = temp_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let store = file.join("acme");
    let server = server(&pebble, &store, &["one.test"]).ready();
    let line = server.stderr.wait_for("no certificates by ACME");
    assert!(line.contains(&*store.to_string_lossy()), "{line}");
    assert_eq!(server.get("/").status(), 200);
    // It is used as soon as it can be.
    std::fs::remove_file(&file).unwrap();
    start(&mut pebble, &server);
    wait_for_certificate(&server, "one.test", None);
}

#[test]
fn a_full_disk_is_noticed_before_the_authority_has_work() {
    let Some(mut pebble) = pebble("a full disk") else {
        return;
    };
    let disk = temp_dir();
    // The state has room, the certificate has not.
    let Some(wrapper) = with_small_disk(disk.path(), "32k") else {
        return skipped("ACME on a full disk", "user namespaces may not mount here");
    };
    let server = Pyserve::binary(&wrapper)
        .quick()
        .args(["--app", "environ.py", "--chdir"])
        .args([apps()])
        .args(["--bind", "127.0.0.1:0", "--bind", "https://127.0.0.1:0"]);
    let small = disk.path().join("small");
    let server = with_acme(server, &pebble, &small, &["one.test"]).ready();
    start(&mut pebble, &server);
    let line = server.stderr.wait_for("no certificate: ");
    assert!(line.contains("No space left on device"), "{line}");
    server.stderr.wait_for_nth("no certificate: ", 2);
    assert!(pebble.seen("/order-plz").is_empty());
    assert_eq!(server.get("/").status(), 200);
    // Enough for it, in the namespace of the server.
    let grown = std::process::Command::new("nsenter")
        .args(["-U", "-m", "--preserve-credentials", "-t"])
        .arg(server.pid().to_string())
        .args(["mount", "-o", "remount,size=1m"])
        .arg(&small)
        .status();
    assert!(grown.is_ok_and(|status| status.success()));
    wait_for_certificate(&server, "one.test", None);
}

/// For root only, as the tests of privileges are.
#[test]
fn a_directory_of_another_user_is_an_error_at_the_start_and_a_missing_one_is_created() {
    if !rustix::process::geteuid().is_root() {
        return skipped("a directory of root", "only root can drop privileges");
    }
    let Some(mut pebble) = pebble("a directory of root") else {
        return;
    };
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = temp_dir();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::copy(crate::support::tls::authority().root(), &ca).unwrap();
    std::fs::set_permissions(&ca, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::create_dir(dir.path().join("static")).unwrap();
    let as_nobody = |store: &std::path::Path| {
        Pyserve::new()
            .args(["--bind", "127.0.0.1:0", "--bind", "https://127.0.0.1:0"])
            .args(["--uid", "nobody", "--acme", "one.test"])
            .args(["--acme-directory", &pebble.directory()])
            .arg_file("--acme-ca", &ca)
            .arg_file("--acme-dir", store)
            .arg_file("--root", dir.path())
            .env("PYSERVE_CONTROL", "off")
            .listening()
    };
    std::fs::create_dir(dir.path().join("of-root")).unwrap();
    let refused = as_nobody(&dir.path().join("of-root"));
    let line = refused.stderr.wait_for("no certificates by ACME");
    assert!(
        line.contains("make it writable for the user that the server runs as"),
        "{line}"
    );
    drop(refused);
    let made = dir.path().join("new");
    let server = as_nobody(&made);
    start(&mut pebble, &server);
    wait_for_certificate(&server, "one.test", None);
    assert_ne!(made.metadata().unwrap().uid(), 0);
    assert_eq!(made.metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn an_external_account_is_bound_by_its_key_and_another_key_is_refused() {
    let Some(mut pebble) = pebble("an external account") else {
        return;
    };
    let dir = temp_dir();
    // An example of pebble's documentation.
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let [right, wrong] = ["right", "wrong"].map(|name| dir.path().join(name));
    std::fs::write(&right, format!("{key}\n")).unwrap();
    std::fs::write(&wrong, key.to_lowercase()).unwrap();
    let with_key = |pebble: &crate::support::pebble::Pebble, file: &std::path::Path, at: &str| {
        server(pebble, &dir.path().join(at), &["one.test"])
            .args(["--acme-eab-kid", "kid-1"])
            .arg_file("--acme-eab-key", file)
            .ready()
    };
    let settings = PebbleSettings {
        external: Some(("kid-1", key)),
        ..PebbleSettings::default()
    };
    let first = with_key(&pebble, &right, "a");
    start_with(&mut pebble, &first, &settings);
    wait_for_certificate(&first, "one.test", None);
    let second = with_key(&pebble, &wrong, "b");
    let line = second.stderr.wait_for("no certificate: ");
    assert!(line.contains("the authority gives no account"), "{line}");
    let third = server(&pebble, &dir.path().join("c"), &["one.test"]).ready();
    let line = third.stderr.wait_for("no certificate: ");
    assert!(line.contains("externalAccountRequired"), "{line}");
}

#[test]
fn an_account_that_the_authority_has_forgotten_is_made_again() {
    let Some(mut first) = pebble("an authority without memory") else {
        return;
    };
    let dir = temp_dir();
    let server = server(&first, dir.path(), &["one.test"]).ready();
    let settings = PebbleSettings {
        lifetime: Some(16),
        ..PebbleSettings::default()
    };
    start_with(&mut first, &server, &settings);
    let before = wait_for_certificate(&server, "one.test", None);
    // pebble keeps everything in memory.
    first.restart(&server, &settings);
    wait_for_certificate(&server, "one.test", Some(&before));
    assert_eq!(server.stderr.count("ACME account made"), 2);
    let mut kept = server.connect();
    assert_eq!(kept.exchange(get("/")).status(), 200);
}
