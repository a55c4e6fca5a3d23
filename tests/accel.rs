//! What applications tell the server in front with `X-Accel-*` fields: the same as they tell
//! nginx, beside a real one. `X-Accel-Redirect` alone stands in `internal`.

use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::nginx::Nginx;
use crate::support::raw::{Connection, Response};
use crate::support::server::{Pyserve, Server, get};
use crate::support::{skipped, temp_dir, write_files};

/// What the application says, by the number that is asked for.
const SAID: [&str; 16] = [
    "Content-Type: text/html\r\nX-Accel-Charset: utf-8",
    "Content-Type: text/html; charset=utf-8\r\nX-Accel-Charset: utf-8",
    "Content-Type: text/html; charset=iso-8859-2\r\nX-Accel-Charset: utf-8",
    "Content-Type: image/png\r\nX-Accel-Charset: koi8-r",
    "Content-Type: text/html\r\nX-Accel-Charset:",
    "X-Accel-Charset: utf-8",
    "Status: 302 Found\r\nLocation: /\r\nContent-Type: text/html\r\nX-Accel-Charset: utf-8",
    "Status: 404 Not Found\r\nContent-Type: text/html\r\nX-Accel-Charset: utf-8",
    "Content-Type: a/b\r\nX-Accel-Expires: 60",
    "Content-Type: a/b\r\nX-Accel-Expires: 0\r\nCache-Control: max-age=60\r\nExpires: 0",
    "Content-Type: a/b\r\nX-Accel-Expires: @1",
    "Content-Type: a/b\r\nX-Accel-Limit-Rate: 1000000",
    "Content-Type: a/b\r\nX-Accel-Limit-Rate: 0",
    "Content-Type: a/b\r\nX-Accel-Limit-Rate: fast",
    "Content-Type: text/x-own\r\nX-Accel-Redirect: /protected/file\r\nX-Accel-Charset: utf-8\r\n\
     X-Accel-Limit-Rate: 1000\r\nX-Accel-Expires: 60\r\nX-Accel-Buffering: no\r\nSet-Cookie: a=1\r\n\
     Content-Disposition: attachment\r\nCache-Control: private\r\nExpires: 0",
    "Content-Type: a/b\r\nX-Accel-Buffering: yes",
];

fn saying() -> Backend {
    Backend::unix(|mut call| {
        let packet = call.packet();
        let number: usize = packet.vars["PATH_INFO"][1..].parse().unwrap();
        let said = SAID[number];
        call.send(format!("{said}\r\nContent-Length: 4\r\n\r\nbody"));
    })
}

/// Status, body, and the fields that the application has to do with.
fn shown(response: &Response) -> String {
    const OURS_OR_THEIRS: [&str; 9] = [
        // Files have it here.
        "x-content-type-options",
        // CGI's word to the server in front, which nginx lets pass.
        "status",
        "server",
        "date",
        "connection",
        "x-request-id",
        // Both say these of the file, each in its own way.
        "etag",
        "last-modified",
        "accept-ranges",
    ];
    let mut fields: Vec<_> = response
        .fields()
        .into_iter()
        .map(|(name, value)| format!("{}: {value}", name.to_lowercase()))
        .filter(|line| {
            !OURS_OR_THEIRS
                .iter()
                .any(|name| line.starts_with(&format!("{name}:")))
        })
        // nginx hides it; a proxy in front of us has to know it as well.
        .filter(|line| !line.starts_with("x-accel-buffering"))
        .collect();
    fields.sort();
    format!("{} {fields:?} {:?}", response.status(), response.text())
}

#[test]
fn the_client_gets_what_it_gets_from_nginx() {
    let backend = saying();
    let dir = temp_dir();
    write_files(dir.path(), &[("file", "of the disk")]);
    let address = backend.address();
    let nginx = Nginx::start(
        // Both charsets are known to it by this.
        "charset_map koi8-r utf-8 { C0 D18E; }\n",
        &format!(
            "location / {{ uwsgi_param PATH_INFO $document_uri; uwsgi_pass {address}; }}\n\
             location /protected/ {{ internal; alias {}/; }}\n",
            dir.path().display()
        ),
    );
    let nginx = match nginx {
        Ok(nginx) => nginx,
        Err(why) => return skipped("X-Accel-* beside nginx", &why),
    };
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--uwsgi", address, "--compress", "off", "--internal"])
        .args([format!("/protected={}", dir.path().display())])
        .ready();
    for (number, said) in SAID.iter().enumerate() {
        let target = format!("/{number}");
        let theirs = shown(&nginx.connect().exchange(get(&target)));
        let ours = shown(&server.get(&target));
        assert_eq!(ours, theirs, "{said}");
    }
}

/// Asks for so much that, at 200,000 bytes in a second, half a second is needed.
fn timed(server: &Server, target: &str) -> (Duration, Vec<u8>) {
    let began = Instant::now();
    let response = server.get(target);
    assert_eq!((response.status(), &response.broken), (200, &None));
    let names: Vec<_> = response
        .fields()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(!names.iter().any(|name| name == "X-Accel-Limit-Rate"));
    (began.elapsed(), response.body)
}

const HALF_A_SECOND: Duration = Duration::from_millis(450);

fn numbered() -> Vec<u8> {
    (0..300_000u32).map(|number| (number / 3) as u8).collect()
}

#[test]
fn a_rate_is_kept_to_whoever_answers_and_with_what() {
    let dir = temp_dir();
    std::fs::write(dir.path().join("file"), numbered()).unwrap();
    let internal = format!("/protected={}", dir.path().display());
    let backend = Backend::unix(|mut call| {
        call.packet();
        call.send("HTTP/1.1 200 OK\r\nX-Accel-Limit-Rate: 200000\r\n\r\n");
        call.send(numbered());
    });
    let behind = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--uwsgi", backend.address()])
        .ready();
    let app = Pyserve::app("dressed.py")
        .args(["--compress", "off", "--internal", &internal])
        .ready();
    let limited = "X_Accel_Limit_Rate=200000";
    let text = app.get("/?bytes=300000").body;
    for (server, target, expected) in [
        (&behind, "/".to_owned(), numbered()),
        (&app, format!("/?bytes=300000&{limited}"), text.clone()),
        (&app, format!("/?bytes=300000&pieces=7&{limited}"), text),
        (
            &app,
            format!("/?X_Accel_Redirect=/protected/file&bytes=0&{limited}"),
            numbered(),
        ),
    ] {
        let (took, body) = timed(server, &target);
        assert!(body == expected, "{target}: {} bytes", body.len());
        assert!(took >= HALF_A_SECOND, "{target}: {took:?}");
    }
    // What a coding has made smaller counts as it is sent.
    let encoded = app.exchange(
        "GET /?bytes=300000&X_Accel_Limit_Rate=200000 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n",
    );
    assert_eq!(encoded.broken, None);
}

#[test]
fn a_rate_is_kept_to_over_http_2() {
    let server = Pyserve::app("dressed.py").ready();
    let mut client = Http2::new(server.connect());
    let began = Instant::now();
    let fields = get_fields("/?bytes=60000&X_Accel_Limit_Rate=40000");
    client.headers(1, &fields, true);
    match client.outcome(1) {
        Outcome::Response(200, body) => assert_eq!(body.len(), 60_000),
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() >= HALF_A_SECOND);
}

#[test]
fn a_limited_response_holds_no_worker() {
    let server = Pyserve::app("dressed.py").args(["--threads", "1"]).ready();
    let ask = |more: &str| -> Connection {
        let mut client = server.connect();
        let target = format!("/?bytes=5000000&X_Accel_Limit_Rate=1000{more}");
        client.send(get(&target));
        assert_eq!(client.response_to_head().status(), 200);
        client
    };
    // The only worker goes on although it would take more than an hour.
    let slow = [ask(""), ask("&pieces=50")];
    assert_eq!(server.get("/?bytes=3").status(), 200);
    drop(slow);
}

#[test]
fn buffering_that_the_application_wants_wins_over_the_setting() {
    let server = Pyserve::app("dressed.py")
        .args(["--threads", "1", "--buffering", "no"])
        .ready();
    let mut client = server.connect();
    client.send(get("/?bytes=20000000&pieces=50&X_Accel_Buffering=yes"));
    assert_eq!(client.response_to_head().status(), 200);
    // The client takes nothing, and the only worker is through all the same.
    assert_eq!(server.get("/?bytes=3").status(), 200);
}

#[test]
fn what_is_for_a_proxy_in_front_of_us_passes() {
    let server = Pyserve::app("dressed.py").ready();
    let fields = "X_Accel_Limit_Rate=9000000&X_Accel_Charset=x&X_Accel_Expires=9";
    let response = server.get(&format!("/?X_Accel_Redirect=/p/x&{fields}"));
    for name in ["Redirect", "Limit-Rate", "Charset", "Expires"] {
        let name = format!("X-Accel-{name}");
        assert!(response.header(&name).is_some(), "{name}");
    }
    let response = server.get(&format!("/?{fields}&X_Accel_Buffering=no"));
    let names: Vec<_> = response
        .fields()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let left: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with("X-Accel"))
        .collect();
    assert_eq!(left, ["X-Accel-Buffering"]);
}
