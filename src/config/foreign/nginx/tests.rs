//! Every directive of any file gets a verdict, and nothing panics.

use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::config::foreign::Verdict;
use crate::config::locations;

fn reading(text: &str, app: bool) -> Reading {
    let read = |path: &Path| -> io::Result<Vec<u8>> {
        match path == Path::new("/etc/nginx/site.conf") {
            true => Ok(text.as_bytes().to_vec()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    };
    let disk = tree::Disk {
        read: &read,
        list: &|_| Vec::<PathBuf>::new(),
    };
    let tree = tree::read("site.conf", Path::new("/etc/nginx/site.conf"), &disk);
    let given = Given {
        app,
        found_app: None,
        binds: vec!["127.0.0.1:8000".to_owned()],
        sockets: Vec::new(),
        has_deadline: false,
        is_dir: &|_| true,
        is_dir_here: &|_| true,
        variable: &|_| None,
    };
    meaning::of(&tree, &given)
}

fn verdict(text: &str, line: usize) -> Verdict {
    let reading = reading(text, true);
    let found = reading.lines.iter().find(|found| found.place.line == line);
    found
        .unwrap_or_else(|| panic!("{text}: no line {line}"))
        .verdict
        .clone()
}

/// A directive of the table, or of the shapes that code decides about, with some arguments.
fn directive() -> impl Strategy<Value = String> {
    let names: Vec<&str> = directives::names().collect();
    let args = prop::sample::select(vec![
        "on",
        "off",
        "80",
        "/",
        "/a/",
        "/a",
        "=",
        "~",
        "~*",
        "^~",
        "@app",
        "$uri",
        "$uri/",
        "=404",
        "http://app/",
        "http://127.0.0.1:8000",
        "unix:/s",
        "301",
        "200",
        "\"a b\"",
        "https://x$request_uri",
        "^/(a|b)/",
        r"\.(css|js)$",
        "all",
        "${X}",
        "$host",
        "",
        "-1",
        "10m",
        "zone=a:1m",
        "rate=1r/s",
        "always",
        "example.org",
        "*.example.org",
        "default_server",
        "ssl",
        "é",
    ]);
    let usual = prop::sample::select(vec![
        "listen",
        "server_name",
        "root",
        "alias",
        "try_files",
        "proxy_pass",
        "uwsgi_pass",
        "return",
        "rewrite",
        "add_header",
        "expires",
        "error_page",
        "deny",
        "allow",
        "internal",
        "client_max_body_size",
        "if",
        "set",
        "limit_req",
        "index",
        "auth_basic",
    ]);
    let name = prop_oneof![prop::sample::select(names), usual];
    let args = prop::collection::vec(args, 0..4);
    (name, args).prop_map(|(name, args)| format!("{name} {}", args.join(" ")))
}

fn block() -> impl Strategy<Value = String> {
    let line = directive().prop_map(|text| format!("{text};\n"));
    line.prop_recursive(4, 40, 6, |inner| {
        let heads = prop::sample::select(vec![
            "server",
            "http",
            "location /",
            "location /a/",
            "location = /a",
            "location ~ ^/(a|b)/",
            "location @app",
            "upstream app",
            "if ($x)",
            "map $a $b",
            "types",
            "location ~* \\.(css)$",
            "limit_except GET",
            "server {} server",
        ]);
        (heads, prop::collection::vec(inner, 0..6))
            .prop_map(|(head, inner)| format!("{head} {{\n{}}}\n", inner.concat()))
    })
}

proptest! {
    #[test]
    fn every_directive_of_any_file_has_a_verdict(blocks in prop::collection::vec(block(), 0..6), app: bool) {
        let text = blocks.concat();
        let reading = reading(&text, app);
        for line in &reading.lines {
            prop_assert!(!line.verdict.detail().is_empty(), "{line:?} of {text}");
        }
        for table in &reading.layer.locations {
            let handlers = locations::KINDS.iter().filter(|(kind, _)| table.entry(kind).is_some());
            prop_assert_eq!(handlers.count(), 1, "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "(\\PC|[{};\n$]|location |server |proxy_pass |listen ){0,80}") {
        let _ = reading(&text, true);
    }
}

#[test]
fn a_long_file_is_read_in_time() {
    let many = "location /x { set $a b; return 200 $a; }\n".repeat(3000);
    let reading = reading(&format!("server {{\n{many}}}\n"), true);
    assert!(reading.lines.len() > 8000);
}

#[test]
fn what_restricts_and_is_not_understood_closes_its_location() {
    for inner in [
        "auth_request /a;",
        "limit_except GET { deny all; }",
        "secure_link $a;",
        "auth_basic x;",
        "auth_jwt on;",
    ] {
        let text = format!("server {{ location /p/ {{ {inner} proxy_pass http://a; }} }}");
        let reading = reading(&text, false);
        let table = &reading.layer.locations[0];
        assert!(table.entry("upstream").is_none(), "{inner}");
        assert_eq!(table.entry("status").unwrap().values, ["403"], "{inner}");
    }
}

#[test]
fn names_that_nginx_has_not_are_suggested() {
    let text = "server {\nlitsen 80;\n}";
    assert!(
        matches!(verdict(text, 2), Verdict::Unknown(text) if text.contains("did you mean listen?"))
    );
}

#[test]
fn values_that_nginx_refuses_are_wrong() {
    for line in [
        "listen 80 nonsense;",
        "listen 127.0.0.1:x;",
        "client_max_body_size 1x;",
        "keepalive_timeout x;",
        "location a/ { }",
        "location / { return x; }",
        "location / { try_files $uri @gone; root /x; }",
        "location / { root /a; root /b; } location /x { proxy_read_timeout 1; proxy_read_timeout 2; proxy_pass http://a; }",
        "location / { proxy_pass a:80; }",
        "auth_basic x; location / { proxy_pass http://a; }",
    ] {
        let text = format!("server {{\n{line}\n}}");
        let reading = reading(&text, true);
        let is_wrong = reading
            .lines
            .iter()
            .any(|line| matches!(line.verdict, Verdict::Wrong(_)));
        assert!(is_wrong, "{line}: {:?}", reading.lines);
    }
}
