//! Real servers behind pyserve: uWSGI, beside nginx in front of the same one; gunicorn in both
//! of its protocols; a WebSocket server. What a machine cannot have is skipped aloud.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::support::behind::{Behind, program};
use crate::support::curl;
use crate::support::nginx::Nginx;
use crate::support::process_tree::{descendants, wait_for_the_end};
use crate::support::raw::{Connection, Response};
use crate::support::server::{Pyserve, Server, get, post};
use crate::support::{apps, skipped, temp_dir};

fn uwsgi(args: &[&str]) -> Option<Behind> {
    let program = program("uwsgi", "uwsgi")?;
    let dir = temp_dir();
    let mut command = Command::new(program);
    command
        .args([
            "--master",
            "--die-on-term",
            "--need-app",
            "--processes",
            "2",
        ])
        .args(["--module", "mirror", "--socket"])
        .arg(dir.path().join("socket"))
        .args(args);
    Some(Behind::start(&mut command, dir, "spawned uWSGI worker 2"))
}

#[test]
fn no_worker_of_uwsgi_is_left_where_its_master_was_killed() {
    let Some(behind) = uwsgi(&[]) else { return };
    let all = descendants(behind.pid());
    assert!(all.len() >= 2, "{all:?}");
    drop(behind);
    wait_for_the_end(&all);
}

fn before(behind: &Behind) -> Pyserve {
    Pyserve::new()
        .args(["--compress", "off", "--uwsgi"])
        .args([format!("unix:{}", behind.socket().display())])
}

#[test]
fn uwsgi_answers_whole_and_is_told_what_is_true() {
    let Some(behind) = uwsgi(&["--buffer-size", "65535"]) else {
        return;
    };
    let server = before(&behind).ready();
    let body = "0123456789".repeat(500_000);
    let seen = server.exchange(&post("/a%2Fb?x=%20", &body)).json();
    assert_eq!(seen["body"][0], 5_000_000);
    assert_eq!(seen["environ"]["PATH_INFO"], "/a/b");
    assert_eq!(seen["scheme"], "http");
    // uWSGI would believe any of these from a client.
    let fooled = server.exchange(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\nX-Forwarded-SSL: on\r\n\
         X_Forwarded_Proto: https\r\nUWSGI-SCHEME: https\r\nHTTPS: on\r\n\r\n",
    );
    let fooled = fooled.json();
    assert_eq!(fooled["scheme"], "http");
    assert_eq!(fooled["environ"]["HTTPS"], serde_json::Value::Null);
    let long = server.get("/long");
    assert_eq!((long.body.len(), long.broken), (5 << 20, None));
    assert!(
        long.body
            .chunks(65_536)
            .enumerate()
            .all(|(n, piece)| piece[0] == n as u8)
    );
    assert!(server.get("/stream").text().ends_with("piece 99\n"));
    // It answers, and closes without having read the body.
    let refused = server.exchange(&post("/unread", &body));
    assert_eq!((refused.status(), refused.text().as_str()), (403, "no"));
    let empty = server.exchange("HEAD /long HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(empty.header("Content-Length").as_deref(), Some("5242880"));
    let case = server.get("/status/404");
    assert!(case.text().is_empty() && case.status_line().ends_with("404 Some Words"));
    assert!(case.fields().iter().any(|(name, _)| name == "ETag"));

    let trusted = before(&behind).args(["--trust", "127.0.0.1"]).ready();
    let https = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\n\r\n";
    assert_eq!(trusted.exchange(https).json()["scheme"], "https");
}

#[test]
fn uwsgi_s_small_buffer_is_named_in_the_log() {
    let Some(behind) = uwsgi(&[]) else { return };
    let server = before(&behind).ready();
    assert_eq!(server.get("/").status(), 200);
    let cookie = "c".repeat(5_000);
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n");
    assert_eq!(server.exchange(&request).status(), 502);
    server.stderr.wait_for("set buffer-size = 65535");
}

#[test]
fn a_client_that_does_not_read_costs_uwsgi_no_time() {
    // uWSGI gives up whoever takes nothing for so many seconds.
    let Some(behind) = uwsgi(&["--socket-timeout", "1"]) else {
        return;
    };
    let server = before(&behind).ready();
    let mut client = Connection::tcp_that_takes_little(server.port());
    client.send(get("/long"));
    behind.output.wait_for("generated 5242880 bytes");
    let response = client.response();
    assert_eq!((response.body.len(), response.broken), (5 << 20, None));
}

#[test]
fn uwsgi_s_other_sockets_are_told_from_its_own() {
    let Some(program) = program("uwsgi", "uwsgi") else {
        return;
    };
    let dir = temp_dir();
    let mut command = Command::new(program);
    command
        .args(["--need-app", "--module", "mirror", "--http-socket"])
        .arg(dir.path().join("socket"))
        .args(["--master", "--processes", "2"]);
    let behind = Behind::start(&mut command, dir, "spawned uWSGI worker 2");
    let server = before(&behind)
        .args(["--upstream-read-timeout", "500ms"])
        .ready();
    assert_eq!(server.get("/").status(), 502);
    server.stderr.wait_for("speaks HTTP, not uwsgi");
    // Spoken to in HTTP, it answers.
    let url = format!("http+unix:{}", behind.socket().display());
    let server = Pyserve::new().args(["--upstream", &url]).ready();
    let seen = server.exchange(&post("/x", "hello")).json();
    assert_eq!(seen["body"][0], 5);
    assert_eq!(server.get("/long").body.len(), 5 << 20);
}

fn gunicorn(args: &[&str]) -> Option<Behind> {
    let program = program("peers", "gunicorn")?;
    let dir = temp_dir();
    let mut command = Command::new(program);
    command
        .arg("--bind")
        .arg(format!("unix:{}", dir.path().join("socket").display()))
        .args(["--workers", "2", "mirror:application"])
        .args(args);
    Some(Behind::start(&mut command, dir, "Booting worker"))
}

#[test]
fn gunicorn_answers_in_both_of_its_protocols() {
    let servers = [
        (gunicorn(&["--protocol", "uwsgi"]), "uwsgi+unix"),
        (gunicorn(&["--worker-class", "gthread"]), "http+unix"),
    ];
    for (behind, scheme) in servers {
        let Some(behind) = behind else { return };
        let url = format!("{scheme}:{}", behind.socket().display());
        let server = Pyserve::new()
            .args(["--compress", "off", "--upstream", &url])
            .ready();
        let seen = server
            .exchange(&post("/a?b=c", &"x".repeat(300_000)))
            .json();
        assert_eq!(seen["body"][0], 300_000, "{scheme}");
        assert_eq!(seen["environ"]["PATH_INFO"], "/a");
        assert_eq!(seen["environ"]["QUERY_STRING"], "b=c");
        for _ in 0..5 {
            assert_eq!(server.get("/long").body.len(), 5 << 20, "{scheme}");
        }
        assert!(
            server.get("/stream").text().ends_with("piece 99\n"),
            "{scheme}"
        );
        assert_eq!(server.get("/status/404").status(), 404, "{scheme}");
    }
}

fn waitress() -> Option<Behind> {
    let program = program("peers", "waitress-serve")?;
    let dir = temp_dir();
    let mut command = Command::new(program);
    let socket = dir.path().join("socket");
    command
        .arg(format!("--unix-socket={}", socket.display()))
        .arg("mirror:application");
    Some(Behind::start(&mut command, dir, "Serving on"))
}

fn uvicorn() -> Option<Behind> {
    let program = program("peers", "uvicorn")?;
    let dir = temp_dir();
    let mut command = Command::new(program);
    command
        .args(["--interface", "wsgi", "--uds"])
        .arg(dir.path().join("socket"))
        .arg("mirror:application");
    Some(Behind::start(&mut command, dir, "Uvicorn running on"))
}

/// Servers repeat what they are sent, and decide by it: uWSGI writes the client's protocol into
/// its status line. So each is asked by each kind of client.
fn every_version_is_served_alike(server: &Server, is_uwsgi: bool, name: &str) {
    http1_is_served(server, is_uwsgi, name);
    http2_is_served(server, is_uwsgi, name);
}

fn asked(response: &Response) -> serde_json::Value {
    response.json()["environ"].clone()
}

fn http1_is_served(server: &Server, is_uwsgi: bool, name: &str) {
    for (line, protocol) in [("HTTP/1.1", "HTTP/1.1"), ("HTTP/1.0", "HTTP/1.0")] {
        let response = server.exchange(&format!("GET /a?b=c {line}\r\nHost: example.org\r\n\r\n"));
        assert_eq!(
            (response.status(), response.broken),
            (200, None),
            "{name} {line}"
        );
        if is_uwsgi {
            assert_eq!(asked(&response)["SERVER_PROTOCOL"], protocol, "{name}");
        }
        assert_eq!(
            server
                .exchange(&format!("GET /status/404 {line}\r\nHost: h\r\n\r\n"))
                .status(),
            404
        );
    }
}

fn http2_is_served(server: &Server, is_uwsgi: bool, name: &str) {
    let ask = |target: &str, args: &[&str]| curl::http2(server, target, args);
    let Some(got) = ask(
        "/a?b=c",
        &["--header", "Host: example.org", "--cookie", "a=1; b=2"],
    ) else {
        return;
    };
    assert_eq!(
        (got.code, got.response.status()),
        (0, 200),
        "{name}: {got:?}"
    );
    let environ = asked(&got.response);
    // RFC 3875 §4.1.16, as nginx writes it; over HTTP servers are spoken to in HTTP/1.1.
    let protocol = if is_uwsgi { "HTTP/2.0" } else { "HTTP/1.1" };
    assert_eq!(environ["SERVER_PROTOCOL"], protocol, "{name}");
    assert_eq!(environ["HTTP_HOST"], "example.org", "{name}");
    assert_eq!(environ["HTTP_COOKIE"], "a=1; b=2", "{name}");
    assert_eq!(environ["QUERY_STRING"], "b=c", "{name}");
    for (target, status) in [
        ("/status/404", 404),
        ("/status/204", 204),
        ("/status/304", 304),
        ("/redirect", 302),
    ] {
        let got = ask(target, &[]).unwrap();
        assert_eq!(
            (got.code, got.response.status()),
            (0, status),
            "{name} {target}: {got:?}"
        );
    }
    let dir = temp_dir();
    let body = dir.path().join("body");
    std::fs::write(&body, "0123456789".repeat(100_000)).unwrap();
    let data = format!("@{}", body.display());
    let posted = ask("/", &["--data-binary", &data]).unwrap();
    assert_eq!((posted.code, posted.response.status()), (0, 200), "{name}");
    assert_eq!(posted.response.json()["body"][0], 1_000_000, "{name}");
    let chunked = ask(
        "/",
        &["--data-binary", &data, "--header", "Content-Length:"],
    )
    .unwrap();
    assert_eq!(chunked.response.json()["body"][0], 1_000_000, "{name}");
    let head = ask("/long", &["--head"]).unwrap();
    assert_eq!(
        (head.code, head.response.status()),
        (0, 200),
        "{name}: {head:?}"
    );
    assert_eq!(
        head.response.header("content-length").as_deref(),
        Some("5242880"),
        "{name}"
    );
    let long = ask("/long", &[]).unwrap();
    assert_eq!(
        (long.code, long.response.body.len()),
        (0, 5 << 20),
        "{name}"
    );
    let stream = ask("/stream", &[]).unwrap();
    assert!(
        stream.code == 0 && stream.response.text().ends_with("piece 99\n"),
        "{name}"
    );
}

#[test]
fn servers_that_repeat_the_client_s_protocol_answer_each_client() {
    type Start = fn() -> Option<Behind>;
    let servers: [(&str, &str, Start); 5] = [
        ("uWSGI", "uwsgi+unix", || uwsgi(&["--buffer-size", "65535"])),
        ("gunicorn by uwsgi", "uwsgi+unix", || {
            gunicorn(&["--protocol", "uwsgi"])
        }),
        ("gunicorn", "http+unix", || {
            gunicorn(&["--worker-class", "gthread"])
        }),
        ("waitress", "http+unix", waitress),
        ("uvicorn", "http+unix", uvicorn),
    ];
    for (name, scheme, start) in servers {
        let Some(behind) = start() else { continue };
        let url = format!("{scheme}:{}", behind.socket().display());
        let server = Pyserve::new()
            .args(["--compress", "off", "--upstream", &url])
            .ready();
        let is_uwsgi = scheme == "uwsgi+unix" && name == "uWSGI";
        every_version_is_served_alike(&server, is_uwsgi, name);
    }
}

#[test]
fn nginx_behind_answers_each_client() {
    let nginx = Nginx::start(
        "",
        "location / { return 200 \"$server_protocol $host $http_cookie|$request_method\\n\"; }\n\
         location /none { return 204; }",
    );
    let nginx = match nginx {
        Ok(nginx) => nginx,
        Err(why) => return skipped("a real nginx behind", &why),
    };
    let url = format!("http+unix:{}", nginx.socket().display());
    let server = Pyserve::new().args(["--upstream", &url]).ready();
    let text = |response: Response| response.text();
    assert_eq!(text(server.get("/")), "HTTP/1.1 localhost |GET\n");
    let Some(got) = curl::http2(&server, "/", &["--cookie", "a=1; b=2"]) else {
        return;
    };
    assert_eq!(text(got.response), "HTTP/1.1 127.0.0.1 a=1; b=2|GET\n");
    let got = curl::http2(&server, "/none", &[]).unwrap();
    assert_eq!((got.code, got.response.status()), (0, 204), "{got:?}");
    // A response in the clear over kept connections, also behind a POST.
    for _ in 0..3 {
        assert_eq!(server.exchange(&post("/", "x")).status(), 200);
    }
}

#[test]
fn gunicorn_gets_a_body_without_a_length_while_it_arrives() {
    let Some(behind) = gunicorn(&["--worker-class", "gthread"]) else {
        return;
    };
    let url = format!("http+unix:{}", behind.socket().display());
    let server = Pyserve::new()
        .args(["--request-buffering", "no", "--upstream", &url])
        .ready();
    let piece = "0123456789".repeat(10_000);
    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
    let request = format!(
        "POST /terminated HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(10)
    );
    let seen = server.exchange(&request).json();
    assert_eq!(seen["body"][0], 1_000_000);
    assert_eq!(seen["environ"]["HTTP_TRANSFER_ENCODING"], "chunked");
}

#[test]
fn websockets_pass_through() {
    let Some(python) = program("peers", "python") else {
        return;
    };
    let dir = temp_dir();
    let script = apps().join("websocket_echo.py");
    let mut command = Command::new(&python);
    command.arg(&script).arg(dir.path().join("socket"));
    let behind = Behind::start(&mut command, dir, "listening");
    let url = format!("http+unix:{}", behind.socket().display());
    let server = Pyserve::new().args(["--upstream", &url]).ready();
    let client = Command::new(&python)
        .arg(&script)
        .arg("talk")
        .arg(format!("ws://127.0.0.1:{}/", server.port()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&client.stdout);
    assert_eq!(said.trim(), "talked 1000", "{client:?}");
}

/// An nginx before the same uWSGI.
fn nginx_before(upstream: &Path) -> Result<Nginx, String> {
    // What Debian's and nginx's own file of this name say.
    let params: String = [
        ("QUERY_STRING", "$query_string"),
        ("REQUEST_METHOD", "$request_method"),
        ("CONTENT_TYPE", "$content_type"),
        ("CONTENT_LENGTH", "$content_length"),
        ("REQUEST_URI", "$request_uri"),
        ("PATH_INFO", "$document_uri"),
        ("DOCUMENT_ROOT", "$document_root"),
        ("SERVER_PROTOCOL", "$server_protocol"),
        ("REQUEST_SCHEME", "$scheme"),
        ("HTTPS", "$https if_not_empty"),
        ("REMOTE_ADDR", "$remote_addr"),
        ("REMOTE_PORT", "$remote_port"),
        ("SERVER_PORT", "$server_port"),
        ("SERVER_NAME", "$server_name"),
    ]
    .map(|(name, value)| format!("uwsgi_param {name} {value};\n"))
    .concat();
    let location = format!(
        "server_name localhost;\nlocation / {{ {params} uwsgi_buffer_size 64k; uwsgi_buffers 8 64k;\n\
         uwsgi_pass unix:{}; }}",
        upstream.display()
    );
    let limits = "client_max_body_size 100m;\nlarge_client_header_buffers 4 64k;\n";
    Nginx::start(limits, &location)
}

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];

const TARGETS: [&str; 24] = [
    "/",
    "/a",
    "/a/b/",
    "/a?b=c&d=%20e",
    "/?",
    "/caf%C3%A9",
    "/%E2%82%AC?%E2%82%AC",
    "/%ff%fe",
    "/a%2Fb",
    "/a%25b",
    "/a+b%2Bc",
    "/a;b=c,d",
    "/~user/$!'()*@:",
    "/a//b",
    "/a/./b",
    "/x/../b",
    "/status/200",
    "/status/404",
    "/status/204",
    "/status/304",
    "/stream",
    "/cookies",
    "/redirect",
    "/unread",
];

const FIELDS: [&str; 12] = [
    "",
    "Accept: */*\r\nAccept-Language: de, en;q=0.5\r\nUser-Agent: x/1 (y)\r\n",
    "Cookie: a=1; b=2\r\nReferer: http://h/x\r\nAuthorization: Basic dTpw\r\n",
    "X-Empty:\r\nX-Spaces:   a  b  \r\nx-lower: 1\r\nX-MiXeD: 2\r\n",
    "X-Latin: caf\u{e9}\r\nX-Digits-123: 1\r\n",
    "X_Underscore: 1\r\nX-Forwarded-For_: 2\r\nProxy: http://evil\r\n",
    "If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nRange: bytes=0-1\r\n",
    "Content-Type: text/plain; charset=utf-8\r\n",
    "Accept-Encoding: gzip, br\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n",
    "X-Twice: 1\r\nX-Twice: 2\r\n",
    "Connection: close\r\nUpgrade-Insecure-Requests: 1\r\nTE: trailers\r\n",
    "X-Forwarded-Proto: https\r\nX-Forwarded-For: 1.2.3.4\r\n",
];

/// Variables of environ that differ, where, and why.
type Difference = (&'static str, fn(&str) -> bool, &'static str);
const DIFFERENCES: &[Difference] = &[
    (
        "DOCUMENT_ROOT",
        always,
        "nginx has a root of its own; ours is the directory of the application",
    ),
    ("HTTP_X_REQUEST_ID", always, "every request has an id here"),
    (
        "REMOTE_ADDR",
        always,
        "this nginx listens on a Unix socket, so that no port has to be free",
    ),
    ("REMOTE_PORT", always, "as above"),
    ("SERVER_PORT", always, "as above"),
    (
        "PATH_INFO",
        |request| {
            let line = request.lines().next().unwrap_or_default();
            ["//", "/./", "/../"].iter().any(|part| line.contains(part))
        },
        "nginx resolves dot segments and merges slashes; applications get what was asked here",
    ),
    (
        "HTTP_X_TWICE",
        |request| request.contains("X-Twice"),
        "nginx before 1.23 sends two variables, of which Python keeps the last; newer ones join them, with a space behind the comma",
    ),
    (
        "HTTP_X_FORWARDED_PROTO",
        |request| request.contains("X-Forwarded-Proto"),
        "nginx passes what clients say about themselves; we believe trusted proxies alone",
    ),
    (
        "HTTP_X_FORWARDED_FOR",
        |request| request.contains("X-Forwarded-Proto"),
        "as above",
    ),
    (
        "HTTP_PROXY",
        |request| request.contains("Proxy: "),
        "nginx passes it; CGI programs take it for the proxy to use (httpoxy)",
    ),
    (
        "wsgi.url_scheme",
        |request| request.contains("X-Forwarded-Proto: https"),
        "uWSGI believes the field that nginx has passed",
    ),
    (
        "HTTP_TRANSFER_ENCODING",
        |request| request.contains("Transfer-Encoding"),
        "the body has been read and has a length now; nginx tells the coding all the same",
    ),
    (
        "HTTP_CONTENT_LENGTH",
        |_| true,
        "nginx sends it beside CONTENT_LENGTH; CGI knows only the latter",
    ),
    (
        "HTTP_CONTENT_TYPE",
        |request| request.contains("Content-Type"),
        "as above",
    ),
];

fn always(_: &str) -> bool {
    true
}

/// Where the application answers without reading, uWSGI closes on an unread body, the kernel
/// resets the connection, and nginx makes a 502 or half a page of the answer now and then. We
/// do not, which a test above shows; here it would differ by chance.
fn reads_bodies(target: &str) -> bool {
    const DO_NOT: [&str; 5] = ["/status/", "/stream", "/cookies", "/redirect", "/unread"];
    !DO_NOT.iter().any(|path| target.starts_with(path))
}

/// About 200 requests, each method, target, set of fields and kind of body often enough.
fn requests() -> Vec<String> {
    let bodies = [
        String::new(),
        "a=1&b=2".to_owned(),
        "x".repeat(100_000),
        "\u{e9}\0\r\n".repeat(50),
    ];
    (0..204)
        .map(|number: usize| {
            let method = METHODS[number % METHODS.len()];
            let target = TARGETS[number % TARGETS.len()];
            let fields = FIELDS[(number / 3) % FIELDS.len()];
            let body = match method {
                "POST" | "PUT" | "PATCH" if reads_bodies(target) => {
                    &bodies[(number / 7) % bodies.len()]
                }
                _ => "",
            };
            let version = if number % 17 == 16 { "1.0" } else { "1.1" };
            let framing = match (body, number % 2, version) {
                ("", ..) => String::new(),
                (body, 1, "1.1") => {
                    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.chars().count());
                    return format!(
                        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{chunk}"
                    );
                }
                (body, ..) => format!("Content-Length: {}\r\n", body.chars().count()),
            };
            format!("{method} {target} HTTP/{version}\r\nHost: localhost\r\n{fields}{framing}\r\n{body}")
        })
        .collect()
}

/// What of a response must be the same: status line, fields, body; environ apart.
fn compared(response: &Response) -> (String, Vec<(String, String)>, BTreeMap<String, String>) {
    const OWN: [&str; 6] = [
        "date",
        "server",
        "connection",
        "x-request-id",
        "transfer-encoding",
        // With environ in the body, its length differs as well.
        "content-length",
    ];
    let mut fields = response.fields();
    fields.retain(|(name, _)| !OWN.contains(&&*name.to_lowercase()));
    fields.sort();
    let mut seen = BTreeMap::new();
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match serde_json::from_slice::<serde_json::Value>(&response.body) {
        Ok(body) if body.is_object() => {
            for (name, value) in body["environ"].as_object().unwrap() {
                seen.insert(name.clone(), text(value));
            }
            seen.insert("wsgi.url_scheme".into(), text(&body["scheme"]));
            seen.insert("body".into(), text(&body["body"]));
        }
        _ => {
            seen.insert("page".into(), response.text());
        }
    }
    (response.status_line()[8..].to_owned(), fields, seen)
}

#[test]
fn uwsgi_is_told_and_answers_what_it_is_and_does_behind_nginx_or_otherwise_for_a_reason() {
    let Some(behind) = uwsgi(&["--buffer-size", "65535"]) else {
        return;
    };
    let nginx = match nginx_before(&behind.socket()) {
        Ok(nginx) => nginx,
        Err(why) => return skipped("the comparison of uWSGI behind nginx", &why),
    };
    let server: Server = before(&behind).ready();
    let mut stale: Vec<_> = DIFFERENCES.iter().map(|(name, ..)| *name).collect();
    let mut wrong = Vec::new();
    let mut asked = 0;
    for request in requests() {
        let bytes = latin1_bytes(&request);
        let ours = compared(&server.connect().exchange(&bytes));
        let theirs = compared(&nginx.connect().exchange(&bytes));
        asked += 1;
        let first = request.lines().next().unwrap_or_default();
        if (&ours.0, &ours.1) != (&theirs.0, &theirs.1) {
            wrong.push(format!(
                "{first}\n  ours   {:?}\n  nginx  {:?}",
                (&ours.0, &ours.1),
                (&theirs.0, &theirs.1)
            ));
        }
        let names: std::collections::BTreeSet<_> = ours.2.keys().chain(theirs.2.keys()).collect();
        for name in names {
            let (our, their) = (ours.2.get(name), theirs.2.get(name));
            if our == their {
                continue;
            }
            let is_listed = DIFFERENCES
                .iter()
                .any(|(listed, applies, _)| listed == name && applies(&request));
            match is_listed {
                true => stale.retain(|listed| listed != name),
                false => wrong.push(format!(
                    "{first}: {name}\n  ours   {our:?}\n  nginx  {their:?}"
                )),
            }
        }
    }
    assert!(asked > 200);
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(stale.is_empty(), "no difference any more: {stale:?}");
}

/// Characters as bytes of the same number, for requests that are not all ASCII.
fn latin1_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|char| char as u8).collect()
}
