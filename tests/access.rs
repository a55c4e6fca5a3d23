//! Access to locations by network and by password, for each kind of handler, over HTTP/1 and HTTP/2.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::process::Signal;

use crate::support::backend::{Backend, page};
use crate::support::http2::{Http2, Outcome};
use crate::support::raw::{Connection, Response};
use crate::support::server::{Pyserve, Server, request};
use crate::support::{is_root, temp_dir, write_files};

/// Passwords: ann has "secret" in bcrypt (`htpasswd -nbB -C 4`), bob "Hello world!" in SHA-256 crypt
/// and cid the same in SHA-512 crypt (test vectors of the specification of SHA-crypt).
const USERS: &str = "\
ann:$2y$04$ufMOz5kLLK8nViKQykW8puksmbPhhkcuboB7rMRhzAsIyumUVlUH2
bob:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5
cid:$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1
";

const ENVIRON: &str = "
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    names = ['AUTH_TYPE', 'REMOTE_USER', 'HTTP_REMOTE_USER', 'HTTP_AUTHORIZATION']
    return ['|'.join(environ.get(name, '-') for name in names).encode('latin-1')]
";

/// One location for each kind of handler.
fn locations(backend: &Backend) -> String {
    format!(
        "app = 'app.py'\n\
         trust = ['127.0.0.1', 'unix']\n\
         static_check = '1h'\n\
         [[location]]\nprefix = '/files'\nstatic = 'files'\n\
         [[location]]\nprefix = '/upstream'\nupstream = 'http://{}'\n\
         [[location]]\nprefix = '/redirect'\nredirect = '/elsewhere'\n\
         [[location]]\nprefix = '/respond'\nrespond = 'said'\n",
        backend.address()
    )
}

/// Target, and status if the client has access.
const TARGETS: [(&str, u16); 8] = [
    ("/", 200),
    ("/files/a.txt", 200),
    ("/files/large.bin", 200),
    ("/files/missing", 404),
    // A directory of a usual name, in front of the application.
    ("/static/a.txt", 200),
    ("/upstream", 200),
    ("/redirect", 302),
    ("/respond", 200),
];

fn backend() -> Backend {
    Backend::tcp(|mut call| {
        while call.http_head().is_some() {
            call.send(page("of the upstream"));
        }
    })
}

fn site(toml: &str) -> (Pyserve, tempfile::TempDir) {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("pyserve.toml", toml),
            ("app.py", ENVIRON),
            ("files/a.txt", "in memory"),
            ("files/large.bin", &"x".repeat(300_000)),
            ("static/a.txt", "found"),
            ("users", USERS),
        ],
    );
    (Pyserve::new().current_dir(dir.path()), dir)
}

fn basic(user: &str, password: &str) -> String {
    let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {both}\r\n")
}

fn asks(server: &Server, target: &str, lines: &str) -> Response {
    server.exchange(&request("GET", target, lines))
}

/// The statuses of a target over HTTP/1 and over HTTP/2; header lines in lower case.
fn both(server: &Server, target: &str, lines: &str) -> (u16, u16) {
    let first = asks(server, target, lines).status();
    let fields: Vec<(String, String)> = lines
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut all = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", target),
    ];
    all.extend(fields.iter().map(|(name, value)| (&**name, &**value)));
    let mut http2 = Http2::with_window(server.connect(), 1 << 20);
    http2.allow(0, 1 << 20);
    http2.headers(1, &all, true);
    let Outcome::Response(second, _) = http2.outcome(1) else {
        panic!("no response to {target}");
    };
    (first, second)
}

fn from(address: &str) -> String {
    format!("X-Forwarded-For: {address}\r\n")
}

#[test]
fn networks_are_allowed_and_denied_in_order_whatever_answers() {
    let backend = backend();
    let rules = "access = ['deny 10.0.0.9', 'allow 10.0.0.0/8 2001:db8::/32', 'deny all']\n";
    let (pyserve, _dir) = site(&(rules.to_owned() + &locations(&backend)));
    let server = pyserve.ready();
    for round in 0..2 {
        for (target, status) in TARGETS {
            for (address, allowed) in [
                ("10.1.2.3", true),
                ("2001:db8::1", true),
                ("10.0.0.9", false),
                ("192.0.2.1", false),
                ("2001:db9::1", false),
            ] {
                let expected = if allowed { status } else { 403 };
                let found = both(&server, target, &from(address));
                assert_eq!(found, (expected, expected), "{round} {target} {address}");
            }
            // The peer itself.
            assert_eq!(asks(&server, target, "").status(), 403, "{target}");
        }
    }
    let file = asks(&server, "/files/a.txt", &from("10.1.2.3"));
    let cached = file.header("Cache-Control").unwrap();
    assert!(cached.starts_with("private, "), "{cached}");
}

#[test]
fn a_location_has_rules_of_its_own_and_unix_sockets_have_no_address() {
    let toml = "
        access = 'deny all'
        bind = ['127.0.0.1:0', 'unix:socket']
        [[location]]
        prefix = '/open'
        respond = 'open'
        access = []
        [[location]]
        prefix = '/local'
        respond = 'local'
        access = ['allow unix', 'deny all']
        [[location]]
        prefix = '/none'
        respond = 'none'
    ";
    let (pyserve, dir) = site(toml);
    let server = pyserve.without("PYSERVE_BIND").listening();
    let over = |target: &str| {
        let mut connection = Connection::unix(&dir.path().join("socket"));
        let unix = connection.exchange(request("GET", target, "")).status();
        (server.get(target).status(), unix)
    };
    assert_eq!(over("/open"), (200, 200));
    assert_eq!(over("/local"), (403, 200));
    assert_eq!(over("/none"), (403, 403));
    // Where no location answers, the rules for all decide.
    assert_eq!(over("/nowhere"), (403, 403));
    let ended = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
    assert!(
        ended
            .stdout
            .contains("/local -> respond 200 \"local\" (by address)")
    );
}

#[test]
fn passwords_of_bcrypt_and_sha_2_open_every_kind_of_location() {
    let backend = backend();
    let toml = "basic_auth = { file = 'users', realm = 'Staff only' }\n";
    let (pyserve, _dir) = site(&(toml.to_owned() + &locations(&backend)));
    let server = pyserve.ready();
    for (target, status) in TARGETS {
        for (lines, is_right) in [
            (basic("ann", "secret"), true),
            (basic("bob", "Hello world!"), true),
            (basic("cid", "Hello world!"), true),
            (basic("ann", "Secret"), false),
            (basic("ann", "secret\0"), false),
            (basic("bob", "secret"), false),
            (basic("dan", "secret"), false),
            (basic("ann", &"x".repeat(4000)), false),
            (basic("", ""), false),
            (basic("ann", "secret").replace("Basic", "Bearer"), false),
            (String::new(), false),
        ] {
            let expected = if is_right { status } else { 401 };
            let found = both(&server, target, &lines);
            assert_eq!(found, (expected, expected), "{target} {lines}");
        }
    }
    // RFC 7617 §2, §2.1; RFC 9110 §11.6.1.
    let refused = asks(&server, "/files/a.txt", "");
    let challenge = refused.header("WWW-Authenticate");
    assert_eq!(
        challenge.as_deref(),
        Some("Basic realm=\"Staff only\", charset=\"UTF-8\"")
    );
    assert!(refused.text().contains("401 Unauthorized"));
}

#[test]
fn the_application_gets_the_verified_user_and_no_field_can_set_it() {
    let toml = "
        app = 'app.py'
        [[location]]
        prefix = '/staff'
        app = 'app.py'
        basic_auth = 'users'
    ";
    let (pyserve, _dir) = site(toml);
    let server = pyserve.ready();
    let forged = "Remote-User: root\r\nREMOTE_USER: root\r\nAuth-Type: Basic\r\n";
    let ann = basic("ann", "secret");
    let field = ann.trim_end().strip_prefix("Authorization: ").unwrap();
    assert_eq!(
        asks(&server, "/staff", &format!("{forged}{ann}")).text(),
        format!("Basic|ann|root|{field}")
    );
    // Not asked for, not verified.
    assert_eq!(
        asks(&server, "/", &format!("{forged}{ann}")).text(),
        format!("-|-|root|{field}")
    );
    assert_eq!(asks(&server, "/staff", forged).status(), 401);
}

#[test]
fn satisfy_any_takes_the_address_or_the_password() {
    let toml = "
        trust = '127.0.0.1'
        access = ['allow 10.0.0.0/8', 'deny all']
        basic_auth = 'users'
        [[location]]
        prefix = '/any'
        respond = 'any'
        satisfy = 'any'
        [[location]]
        prefix = '/all'
        respond = 'all'
        [[location]]
        prefix = '/address'
        respond = 'address'
        basic_auth = 'off'
        [[location]]
        prefix = '/no-rules'
        respond = 'x'
        access = []
        satisfy = 'any'
    ";
    let (pyserve, _dir) = site(toml);
    let server = pyserve.listening();
    let (inside, outside) = (from("10.0.0.1"), from("192.0.2.1"));
    let (right, wrong) = (basic("ann", "secret"), basic("ann", "x"));
    // As nginx: an address that is refused is 403 before the password, a password that could do is 401.
    for (target, lines, status) in [
        ("/any", inside.clone(), 200),
        ("/any", format!("{inside}{wrong}"), 200),
        ("/any", format!("{outside}{right}"), 200),
        ("/any", format!("{outside}{wrong}"), 401),
        ("/any", outside.clone(), 401),
        ("/all", inside.clone(), 401),
        ("/all", format!("{inside}{right}"), 200),
        ("/all", format!("{outside}{right}"), 403),
        ("/all", outside.clone(), 403),
        ("/address", inside.clone(), 200),
        ("/address", format!("{outside}{right}"), 403),
        ("/no-rules", inside, 401),
        ("/no-rules", right, 200),
    ] {
        assert_eq!(
            both(&server, target, &lines),
            (status, status),
            "{target} {lines}"
        );
    }
}

/// Waits until a request has this status: a change of the file is seen within a second.
fn becomes(server: &Server, lines: &str, status: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = asks(server, "/", lines).status();
        if found == status {
            return;
        }
        assert!(Instant::now() < deadline, "still {found}, not {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn write(dir: &Path, users: &str) {
    fs::write(dir.join("users.new"), users).unwrap();
    fs::rename(dir.join("users.new"), dir.join("users")).unwrap();
}

#[test]
fn a_changed_password_file_counts_without_a_reload_and_a_missing_one_admits_no_client() {
    let toml = "basic_auth = 'users'\n[[location]]\nprefix = '/'\nrespond = 'x'\n";
    let (pyserve, dir) = site(toml);
    let server = pyserve.listening();
    let (ann, bob) = (basic("ann", "secret"), basic("bob", "Hello world!"));
    becomes(&server, &ann, 200);
    let (_, without_ann) = USERS.split_once('\n').unwrap();
    write(dir.path(), without_ann);
    // Ann's password had been right.
    becomes(&server, &ann, 401);
    becomes(&server, &bob, 200);
    fs::remove_file(dir.path().join("users")).unwrap();
    becomes(&server, &bob, 500);
    server.stderr.wait_for("cannot read the password file");
    let bad = format!("{USERS}eve:$apr1$GYl1IA2o$TlChbQHTlSNiQS.xPCmWC.\n");
    write(dir.path(), &bad);
    becomes(&server, &ann, 200);
    assert_eq!(asks(&server, "/", &basic("eve", "secret")).status(), 401);
    server
        .stderr
        .wait_for("an entry of a password file cannot be used");
}

#[test]
fn entries_and_rules_that_cannot_be_used_end_the_start() {
    for (toml, users, parts) in [
        (
            "basic_auth = 'users'",
            "ann:$apr1$GYl1IA2o$TlChbQHTlSNiQS.xPCmWC.\nbob:rqXexS6ZhobKA\n",
            &[
                "line 1: user ann: an MD5 hash ($apr1$)",
                "line 2: user bob: a DES hash",
                "htpasswd -B",
            ][..],
        ),
        (
            "basic_auth = 'users'",
            "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n",
            &["SHA-1"],
        ),
        ("basic_auth = 'users'", "ann:secret\n", &["plain text"]),
        (
            "basic_auth = 'nothing'",
            "",
            &["cannot read", "nothing: No such file"],
        ),
        (
            "basic_auth = { realm = 'a\"b', file = 'users' }",
            USERS,
            &["quotes"],
        ),
        (
            "basic_auth = { user = 'ann', file = 'users' }",
            USERS,
            &["neither `file` nor `realm`"],
        ),
        ("access = '10.0.0.0/8'", "", &["neither `allow` nor `deny`"]),
        ("satisfy = 'both'", "", &["all", "any"]),
    ] {
        let (pyserve, dir) = site(&format!("{toml}\n[[location]]\nrespond = 'x'\n"));
        fs::write(dir.path().join("users"), users).unwrap();
        let ended = pyserve.run();
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("TlChbQHTlSNiQS"), "{}", ended.stderr);
    }
}

#[test]
fn a_page_with_many_files_costs_one_check_of_its_password() {
    // The cost 10 of bcrypt takes a debug build about a second.
    let toml = "basic_auth = 'users'\n[[location]]\nprefix = '/'\nrespond = 'x'\n";
    let (pyserve, dir) = site(toml);
    let hash = "$2y$10$B2uahqkeefKpDfNxHsNd.OWJ3.TkYvmmMdU/hVXcporiRVIFuv/KO";
    fs::write(dir.path().join("users"), format!("ann:{hash}\n")).unwrap();
    let server = pyserve.listening();
    let lines = basic("ann", "secret");
    let field = lines.trim_end().strip_prefix("Authorization: ").unwrap();
    let mut http2 = Http2::new(server.connect());
    for stream in 0..100 {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", "/"),
            ("authorization", field),
        ];
        http2.headers(stream * 2 + 1, &fields, true);
    }
    for stream in 0..100 {
        let outcome = http2.outcome(stream * 2 + 1);
        assert_eq!(outcome, Outcome::Response(200, b"x".to_vec()), "{stream}");
    }
}

#[test]
fn a_reload_changes_access_and_a_bad_password_file_keeps_the_old() {
    let toml = |access: &str| format!("{access}\n[[location]]\nprefix = '/'\nrespond = 'x'\n");
    let (pyserve, dir) = site(&toml("access = 'deny all'"));
    let server = pyserve.listening();
    let rewrite = |access: &str| fs::write(dir.path().join("pyserve.toml"), toml(access)).unwrap();
    assert_eq!(server.get("/").status(), 403);
    rewrite("basic_auth = 'users'");
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in");
    assert_eq!(asks(&server, "/", &basic("ann", "secret")).status(), 200);
    fs::write(dir.path().join("users"), "ann:plain\n").unwrap();
    rewrite("basic_auth = 'users'");
    server.signal(Signal::HUP);
    server
        .stderr
        .wait_for("line 1: user ann: a password in plain text");
    assert_eq!(server.get("/").status(), 401);
}

#[test]
fn a_reload_changes_the_access_of_one_location() {
    let toml =
        |access: &str| format!("[[location]]\nprefix = '/a'\nrespond = 'a'\naccess = '{access}'\n");
    let (pyserve, dir) = site(&toml("allow all"));
    let server = pyserve.listening();
    for (count, rules, status) in [(1, "deny all", 403), (2, "deny 10.0.0.0/8", 200)] {
        fs::write(dir.path().join("pyserve.toml"), toml(rules)).unwrap();
        server.signal(Signal::HUP);
        server.stderr.wait_for_nth("reloaded in", count);
        assert_eq!(server.get("/a").status(), status, "{rules}");
    }
}

#[test]
fn a_password_file_that_the_server_s_user_cannot_read_ends_the_start() {
    if !is_root("a password file of another user") {
        return;
    }
    let (pyserve, dir) =
        site("uid = 'nobody'\nbasic_auth = 'users'\n[[location]]\nrespond = 'x'\n");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(dir.path(), 0o755);
    mode(&dir.path().join("users"), 0o600);
    let ended = pyserve.run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("users: Permission denied"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_uwsgi_server_gets_the_verified_user_too() {
    let backend = Backend::unix(|mut call| {
        let packet = call.packet();
        let value = |name: &str| packet.vars.get(name).map_or("-", String::as_str).to_owned();
        let seen = ["AUTH_TYPE", "REMOTE_USER", "HTTP_REMOTE_USER"]
            .map(value)
            .join("|");
        call.send(page(&seen));
    });
    let toml = format!("uwsgi = '{}'\nbasic_auth = 'users'\n", backend.address());
    let (pyserve, _dir) = site(&toml);
    let server = pyserve.listening();
    let lines = format!("Remote-User: root\r\n{}", basic("ann", "secret"));
    assert_eq!(asks(&server, "/", &lines).text(), "Basic|ann|root");
    let calls = backend.calls();
    assert_eq!(asks(&server, "/", "Remote-User: root\r\n").status(), 401);
    assert_eq!(
        backend.calls(),
        calls,
        "a refused request reaches no server"
    );
}

#[test]
fn a_path_without_a_file_needs_access_to_both_of_its_locations() {
    let toml = "
        trust = '127.0.0.1'
        [[location]]
        prefix = '/both'
        static = 'files'
        missing = 'app'
        access = 'deny 10.0.0.1'
        [[location]]
        prefix = '/'
        respond = 'other'
        access = 'deny 10.0.0.2'
    ";
    let (pyserve, _dir) = site(toml);
    let server = pyserve.listening();
    for (target, client, status) in [
        ("/both/a.txt", "10.0.0.1", 403),
        ("/both/a.txt", "10.0.0.2", 200),
        ("/both/none", "10.0.0.1", 403),
        ("/both/none", "10.0.0.2", 403),
        ("/both/none", "10.0.0.3", 200),
    ] {
        assert_eq!(
            both(&server, target, &from(client)),
            (status, status),
            "{target} {client}"
        );
    }
}
