//! What trusted proxies say about their client, as the application and the log see it.
//! That nobody else is believed stands in `framing`.

use serde_json::Value;

use crate::support::http2::{Http2, Outcome};
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server};

/// A server that takes everybody on this machine for a proxy, and 10.0.0.0/8 as well.
fn trusting() -> Pyserve {
    Pyserve::app("environ.py").args(["--trust", "127.0.0.1,10.0.0.0/8", "--trust", "unix"])
}

fn entries(server: &Server, fields: &str) -> Value {
    let request = format!("GET /page HTTP/1.1\r\nHost: inner:8000\r\n{fields}\r\n");
    server.exchange(&request).json()["entries"].take()
}

fn check(entries: &Value, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(entries[key][1], **value, "{key} in {entries:#}");
    }
}

#[test]
fn everything_that_a_proxy_tells_reaches_the_application() {
    let server = trusting().args(["--access-log", "combined"]).ready();
    let environ = entries(
        &server,
        "X-Forwarded-For: 6.6.6.6, [2001:db8::9]:4711, 10.1.1.1\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: shop.example\r\nX-Forwarded-Prefix: /shop\r\nX-Forwarded-SSL: off\r\n\
         Forwarded: for=6.6.6.6;host=evil\r\n",
    );
    check(
        &environ,
        &[
            ("REMOTE_ADDR", "2001:db8::9"),
            ("REMOTE_PORT", "4711"),
            ("wsgi.url_scheme", "https"),
            ("REQUEST_SCHEME", "https"),
            ("HTTPS", "on"),
            ("HTTP_HOST", "shop.example"),
            ("SERVER_NAME", "shop.example"),
            ("SERVER_PORT", "443"),
            ("SCRIPT_NAME", "/shop"),
            ("PATH_INFO", "/page"),
            ("HTTP_X_FORWARDED_PROTO", "https"),
            // uWSGI believes this one alone.
            ("HTTP_X_FORWARDED_SSL", "on"),
        ],
    );
    assert!(environ["HTTP_FORWARDED"].is_null(), "{environ:#}");
    server.stdout.wait_for("2001:db8::9 - - [");
}

#[test]
fn a_proxy_that_tells_nothing_is_the_client_itself() {
    let server = trusting().ready();
    let environ = entries(&server, "X-Forwarded-SSL: on\r\n");
    check(
        &environ,
        &[
            ("REMOTE_ADDR", "127.0.0.1"),
            ("wsgi.url_scheme", "http"),
            ("HTTP_HOST", "inner:8000"),
            ("SERVER_PORT", &server.port().to_string()),
            ("SCRIPT_NAME", ""),
            ("HTTP_X_FORWARDED_SSL", "off"),
        ],
    );
    assert!(environ["HTTPS"].is_null());
}

#[test]
fn forwarded_alone_is_believed_also_over_http_2() {
    let server = trusting().ready();
    let field = "for=203.0.113.9;proto=https;host=shop.example:444";
    let environ = entries(&server, &format!("Forwarded: {field}\r\n"));
    let expected = [
        ("REMOTE_ADDR", "203.0.113.9"),
        ("REMOTE_PORT", ""),
        ("wsgi.url_scheme", "https"),
        ("HTTP_HOST", "shop.example:444"),
        ("SERVER_NAME", "shop.example"),
        ("SERVER_PORT", "444"),
    ];
    check(&environ, &expected);

    let mut http2 = Http2::new(server.connect());
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", "inner"),
        ("forwarded", field),
    ];
    http2.headers(1, &fields, true);
    let Outcome::Response(200, body) = http2.outcome(1) else {
        panic!("no response");
    };
    let about: Value = serde_json::from_slice(&body).unwrap();
    check(&about["entries"], &expected);
}

#[test]
fn a_proxy_on_a_unix_socket_names_its_client() {
    let builder = trusting();
    let path = builder.path("http.sock");
    let server = builder
        .args(["--bind", &format!("unix:{}", path.display())])
        .ready();
    server.stderr.wait_for("ready in ");
    let ask = |fields: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: inner\r\n{fields}\r\n");
        let mut connection = Connection::unix(&path);
        connection.exchange(request).json()["entries"].take()
    };
    check(
        &ask("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"),
        &[("REMOTE_ADDR", "203.0.113.9"), ("SERVER_PORT", "443")],
    );
    check(&ask(""), &[("REMOTE_ADDR", ""), ("SERVER_PORT", "80")]);
}

#[test]
fn a_proxy_that_tells_the_scheme_alone_has_passed_the_host_on_with_its_port() {
    let server = trusting().ready();
    let ask = |host: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\n\r\n");
        server.exchange(&request).json()["entries"].take()
    };
    let expected = |port| [("SERVER_NAME", "name.example"), ("SERVER_PORT", port)];
    check(&ask("name.example:8443"), &expected("8443"));
    check(&ask("name.example"), &expected("443"));
}

#[test]
fn a_directory_is_redirected_below_the_prefix_that_a_proxy_has_removed() {
    let dir = crate::support::temp_dir();
    crate::support::write_files(dir.path(), &[("static/docs/index.html", "docs")]);
    let server = trusting()
        .args(["--root".as_ref(), dir.path().as_os_str()])
        .ready();
    let ask = |fields: &str| {
        let request = format!("GET /static/docs?q=1 HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        server.exchange(&request).header("Location").unwrap()
    };
    assert_eq!(
        ask("X-Forwarded-Prefix: /shop\r\n"),
        "/shop/static/docs/?q=1"
    );
    assert_eq!(ask(""), "/static/docs/?q=1");
}
