//! Which certificate a client gets, and which defects are reported at the start.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{certificate_for, pairs, serving, text};
use crate::support::server::{Ended, Pyserve, get};
use crate::support::tls::{Issued, VALID, Validity, authority};
use crate::support::{temp_dir, write_files};

/// True if the server sends this certificate to a client that asks for the name.
#[track_caller]
fn check(server: &crate::support::server::Server, name: Option<&str>, expected: &Issued) {
    let sent = certificate_for(server, name);
    assert!(text(&expected.cert).contains(&sent), "{name:?}");
}

#[test]
fn the_certificate_is_chosen_by_the_name_of_the_client() {
    let [first, second, third] = [
        &["first.test"][..],
        &["example.org", "*.example.org"],
        &["deep.example.org"],
    ]
    .map(|names| authority().issue(names));
    let server = serving(&[&first, &second, &third]).ready();
    check(&server, None, &first);
    check(&server, Some("unknown.test"), &first);
    check(&server, Some("first.test"), &first);
    check(&server, Some("example.org"), &second);
    check(&server, Some("EXAMPLE.org"), &second);
    check(&server, Some("www.example.org"), &second);
    // A name has precedence over a wildcard, which stands for one label (RFC 9525 §6.3).
    check(&server, Some("deep.example.org"), &third);
    check(&server, Some("a.b.example.org"), &first);
}

#[test]
fn tables_of_the_settings_file_and_directories_have_certificates() {
    let dir = temp_dir();
    let [first, second, kubernetes, certbot] = [
        "first.test",
        "second.test",
        "kubernetes.test",
        "certbot.test",
    ]
    .map(|name| authority().issue(&[name]));
    let copy = |from: &Issued, cert: &str, key: &str| {
        let (cert, key) = (dir.path().join(cert), dir.path().join(key));
        std::fs::create_dir_all(cert.parent().unwrap()).unwrap();
        std::fs::copy(&from.cert, cert).unwrap();
        std::fs::copy(&from.key, key).unwrap();
    };
    copy(&second, "named/second.crt", "named/second.key");
    copy(&kubernetes, "secret/tls.crt", "secret/tls.key");
    copy(
        &certbot,
        "live/certbot.test/fullchain.pem",
        "live/certbot.test/privkey.pem",
    );
    let settings = format!(
        "[[certificate]]\ncert = {:?}\nkey = {:?}\n[[certificate]]\ncert = \"named\"\n\
         [[certificate]]\ncert = \"secret\"\n[[certificate]]\ncert = \"live\"\n",
        first.cert, first.key
    );
    write_files(
        dir.path(),
        &[("pyserve.toml", &settings), ("index.html", "page")],
    );
    let server = Pyserve::new()
        .args(["--bind", "https://127.0.0.1:0", "--static", "/=."])
        .current_dir(dir.path())
        .ready();
    check(&server, None, &first);
    check(&server, Some("second.test"), &second);
    check(&server, Some("kubernetes.test"), &kubernetes);
    check(&server, Some("certbot.test"), &certbot);
}

fn refused(args: &[&Path]) -> Ended {
    Pyserve::app("environ.py")
        .args(["--bind", "https://127.0.0.1:0"])
        .args(args)
        .run()
}

#[test]
fn pairs_that_cannot_be_used_end_the_start_with_a_remedy() {
    let [one, other] = ["one.test", "other.test"].map(|name| authority().issue(&[name]));
    let dir = temp_dir();
    let empty = dir.path().join("empty.pem");
    let encrypted = dir.path().join("encrypted.pem");
    write_files(
        dir.path(),
        &[
            ("empty.pem", ""),
            (
                "encrypted.pem",
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGb\n-----END ENCRYPTED PRIVATE KEY-----\n",
            ),
        ],
    );
    let missing = dir.path().join("missing.pem");
    let [binary, part, reversed] = ["binary", "part", "reversed"].map(|name| dir.path().join(name));
    std::fs::write(&binary, [0x30, 0x82, 1, 0]).unwrap();
    let chain = text(&one.cert);
    std::fs::write(&part, &chain[..300]).unwrap();
    let (leaf, root) = chain.split_at(chain.rfind("-----BEGIN").unwrap());
    std::fs::write(&reversed, format!("{root}{leaf}")).unwrap();
    let check = |cert: &Path, key: &Path, expected: &[&str]| {
        let ended = refused(&[Path::new("--tls-cert"), cert, Path::new("--tls-key"), key]);
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        for part in expected {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
    };
    check(
        &one.cert,
        &other.key,
        &["does not belong to the certificate", "one.test", "PS-117"],
    );
    check(
        &missing,
        &one.key,
        &["cannot read the certificate", "missing.pem"],
    );
    check(&one.cert, &missing, &["cannot read the key", "missing.pem"]);
    check(&empty, &one.key, &["empty.pem", "BEGIN CERTIFICATE"]);
    check(
        &one.cert,
        &empty,
        &["cannot use the key", "empty.pem", "BEGIN PRIVATE KEY"],
    );
    check(&binary, &one.key, &["not PEM", "openssl x509 -inform der"]);
    check(&one.cert, &binary, &["not PEM", "openssl pkey -inform der"]);
    check(&part, &one.key, &["it is incomplete"]);
    check(&reversed, &one.key, &["has to be the first"]);
    check(
        &one.cert,
        &encrypted,
        &["encrypted with a password", "openssl pkey"],
    );
    let ended = refused(&[]);
    assert!(
        ended.stderr.contains("needs a certificate"),
        "{}",
        ended.stderr
    );
    let ended = refused(&[Path::new("--tls-cert"), &one.cert]);
    assert!(
        ended.stderr.contains("no key belongs to"),
        "{}",
        ended.stderr
    );
    let ended = refused(&[Path::new("--tls-cert"), dir.path()]);
    assert!(
        ended.stderr.contains("no certificates in"),
        "{}",
        ended.stderr
    );
}

#[test]
fn defects_are_warnings_at_the_start() {
    let expired = Validity {
        from: "20200101000000Z",
        to: "20200201000000Z",
    };
    let future = Validity {
        from: "20980101000000Z",
        to: "20990101000000Z",
    };
    let issue = |name, validity| authority().issue_to("/O=Test/CN=x", &[name], validity);
    let expired = issue("expired.test", &expired);
    let future = issue("future.test", &future);
    let nameless = authority().issue_to("/O=Test/CN=nameless", &[], &VALID);
    let mut leaf = issue("leaf.test", &VALID);
    leaf.cert.set_file_name("cert.pem");
    let open = issue("open.test", &VALID);
    std::fs::set_permissions(&open.key, PermissionsExt::from_mode(0o644)).unwrap();
    let sound = issue("sound.test", &VALID);
    let all = [&expired, &future, &nameless, &leaf, &open, &sound];
    let server = serving(&all).ready();
    for expected in [
        "expired.test: expired",
        "future.test: not valid yet",
        "names no host",
        "has no intermediate certificate",
        "every user can read the key",
    ] {
        server.stderr.wait_for(expected);
    }
    let said = server.stderr.so_far().join("\n");
    assert!(!said.contains("sound.test"), "{said}");
    assert_eq!(server.get("/").status(), 200);
}

#[test]
fn a_chain_out_of_order_is_a_warning() {
    let own = authority().issue(&["own.test"]);
    // The certificate twice, where that of its issuer is due.
    let other = own.cert.with_file_name("other.pem");
    let leaf = text(&own.cert.with_file_name("cert.pem"));
    std::fs::write(&other, leaf.clone() + &leaf).unwrap();
    let broken = Issued {
        cert: other,
        key: own.key.clone(),
    };
    let server = serving(&[&broken]).ready();
    server.stderr.wait_for("is out of order");
}

#[test]
fn files_of_windows_are_read() {
    let own = authority().issue(&["own.test"]);
    let dir = temp_dir();
    let [cert, key] = [&own.cert, &own.key].map(|file| {
        let copy = dir.path().join(file.file_name().unwrap());
        let lines = text(file).replace('\n', "\r\n");
        // A chain of files that each had a byte order mark.
        let lines = lines.replace("-----BEGIN", "\u{feff}-----BEGIN");
        std::fs::write(&copy, lines).unwrap();
        copy
    });
    let server = serving(&[&Issued { cert, key }]).ready();
    check(&server, Some("own.test"), &own);
}

#[test]
fn a_pair_that_no_client_gets_is_a_warning() {
    let names = [
        &["a.test", "b.test"][..],
        &["c.test"],
        &["b.test"],
        &["b.test", "d.test"],
    ];
    let [first, other, hidden, part] = names.map(|names| authority().issue(names));
    let server = serving(&[&first, &other, &hidden, &part]).ready();
    let warning = server.stderr.wait_for("is not used");
    for file in [&hidden.cert, &first.cert] {
        assert!(warning.contains(&*file.to_string_lossy()), "{warning}");
    }
    assert_eq!(server.stderr.count("is not used"), 1);
}

#[test]
fn check_prints_names_and_days_left() {
    let expired = Validity {
        from: "20200101000000Z",
        to: "20200201000000Z",
    };
    let one = authority().issue(&["example.org", "*.example.org"]);
    let other = authority().issue_to("/O=Test/CN=x", &["old.test"], &expired);
    let ended = Pyserve::app("environ.py")
        .args(["--bind", "https://127.0.0.1:0"])
        .args(pairs(&[&one, &other]))
        .args(["check"])
        .run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let line = |name: &str| {
        let found = ended.stdout.lines().find(|line| line.contains(name));
        found
            .unwrap_or_else(|| panic!("{}", ended.stdout))
            .to_owned()
    };
    assert!(line("*.example.org").starts_with("certificate "));
    assert!(line("*.example.org").contains("days left"));
    assert!(line("old.test").contains("expired"));
}

#[test]
fn certificates_without_an_address_are_reported() {
    let one = authority().issue(&["one.test"]);
    let server = Pyserve::app("environ.py").args(pairs(&[&one])).ready();
    server.stderr.wait_for("the certificates are not used");
    assert_eq!(server.exchange(&get("/")).status(), 200);
}
