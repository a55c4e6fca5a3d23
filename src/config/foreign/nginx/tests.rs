//! Every directive of any file gets a verdict, and nothing panics.

use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::config::foreign::Verdict;
use crate::config::layers::{Layer, SettingOrigin, SettingsTable};
use crate::config::{HostFacts, locations};

fn reading(text: &str, app: bool) -> Reading {
    reading_where(text, app, &|_| true)
}

/// The reading beside an application that gives a request so many seconds.
fn reading_beside(text: &str, deadline: Option<u64>) -> Reading {
    reading_with(text, true, &|_| true, deadline)
}

/// The reading where these directories are.
fn reading_where(text: &str, app: bool, is_dir: &dyn Fn(&Path) -> bool) -> Reading {
    reading_with(text, app, is_dir, None)
}

fn reading_with(
    text: &str,
    app: bool,
    is_dir: &dyn Fn(&Path) -> bool,
    deadline: Option<u64>,
) -> Reading {
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
        trusts: false,
        hosts: Vec::new(),
        deadline,
        is_dir,
        is_dir_here: &|path| is_dir(path) && path.extension().is_none(),
        has_headers: false,
        bad_passwords: &|_| None,
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
fn conditions_on_the_method_make_tables_of_their_own() {
    let check = |inner: &str, expected: &[(&str, &str)]| {
        let text = format!("server {{ {inner} }}");
        let reading = reading(&text, false);
        let of = |table: &SettingsTable, name: &str| {
            let values = table.entry(name).map(|entry| entry.values.join(" "));
            values.unwrap_or_default()
        };
        let tables = reading.layer.locations.iter();
        let made: Vec<_> = tables
            .map(|table| (of(table, "method"), of(table, "status")))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(methods, status)| ((*methods).to_owned(), (*status).to_owned()))
            .collect();
        assert_eq!(made, expected, "{inner}");
    };
    let pass = "proxy_pass http://a;";
    check(
        &format!("location / {{ limit_except GET {{ deny all; }} {pass} }}"),
        &[("", ""), ("!GET !HEAD", "403")],
    );
    check(
        &format!("location / {{ limit_except POST {{ allow 10.0.0.0/8; deny all; }} {pass} }}"),
        &[("", ""), ("!POST", "")],
    );
    check(
        &format!("location / {{ limit_except GET {{ lua_x on; }} {pass} }}"),
        &[("", ""), ("!GET !HEAD", "403")],
    );
    check(
        &format!(
            "location / {{ if ($request_method = OPTIONS) {{ return 204; }} limit_except GET {{ deny all; }} {pass} }}"
        ),
        &[("", ""), ("OPTIONS", "204"), ("!GET !HEAD !OPTIONS", "403")],
    );
    check(
        &format!(
            "location / {{ if ($request_method !~ ^(GET|PUT)$) {{ return 405; }} limit_except GET {{ deny all; }} {pass} }}"
        ),
        &[("", ""), ("!GET !PUT", "405"), ("PUT", "403")],
    );
    // Of the server: at each place, before the conditions of locations.
    check(
        &format!(
            "if ($request_method ~ (DELETE|OPTIONS)) {{ return 405; }} location / {{ if ($request_method = OPTIONS) {{ return 204; }} {pass} }} location = /x {{ return 200; }}"
        ),
        &[
            ("", ""),
            ("", "200"),
            ("DELETE OPTIONS", "405"),
            ("DELETE OPTIONS", "405"),
        ],
    );
    // Behind the response of all methods, none gets to a condition.
    check(
        "location / { return 200; if ($request_method = POST) { return 405; } }",
        &[("", "200")],
    );
    // Not two at once, and no other content.
    check(
        &format!(
            "location / {{ if ($request_method = PUT) {{ return 405; }} if ($request_method != GET) {{ return 403; }} {pass} }}"
        ),
        &[("", ""), ("PUT", "405")],
    );
    check(
        &format!("location / {{ if ($request_method = PUT) {{ proxy_pass http://b; }} {pass} }}"),
        &[("", "")],
    );
}

#[test]
fn what_restricts_and_is_not_understood_closes_its_location() {
    for inner in [
        "auth_request /a;",
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
        "location / { alias /srv/my site/; }",
        "location / { proxy_set_header Host; proxy_pass http://a; }",
        "location / { root; }",
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

/// A location of a shape that sites have.
fn location() -> impl Strategy<Value = String> {
    let places = prop::sample::select(vec![
        "/",
        "/a/",
        "/a",
        "/a/b/",
        "^~ /a/",
        "= /",
        "= /a",
        "= /a/",
        "= /x.txt",
        "~ ^/(a|c)/",
        "~ ^/a/(.*)$",
        "~* \\.(css|js)$",
        "~ \\.css$",
        "~ ^/a/.*\\.css$",
        "~ /\\.",
        "~ /\\.ht",
        "~* /(a|x\\.php)",
        "~ /\\.(?!well-known)",
        "@app",
        "@other",
    ]);
    let lines = prop::sample::select(vec![
        "root /tmp;",
        "alias /tmp/;",
        "alias /tmp;",
        "try_files $uri @app;",
        "try_files $uri $uri/ /index.html;",
        "try_files $uri =404;",
        "proxy_pass http://127.0.0.1:9;",
        "proxy_pass http://b:9/;",
        "proxy_pass http://b:9/x/;",
        "uwsgi_pass unix:/s;",
        "uwsgi_pass x:1;",
        "return 301 /;",
        "return 301 /a/;",
        "return 301 https://$host$request_uri;",
        "return 302 /c/$1;",
        "return 200 ok;",
        "return 444;",
        "return 404;",
        "rewrite ^/a/(.*)$ /$1 break;",
        "rewrite ^/a/?$ /c/ permanent;",
        "rewrite ^/a/(.*)$ /a/$1 permanent;",
        "rewrite ^/x\\.txt$ /a/x.txt last;",
        "expires 1h;",
        "add_header X-A b always;",
        "add_header ETag \"\";",
        "deny all;",
        "allow 127.0.0.1; deny all;",
        "internal;",
        "autoindex on;",
        "error_page 404 /a/x.txt;",
        "error_page 502 @other;",
        "client_max_body_size 1m;",
        "access_log off;",
        "satisfy any;",
        "gzip off;",
        "proxy_set_header Host $host;",
        "proxy_redirect off;",
        "proxy_cookie_path / /a/;",
        "uwsgi_param A b;",
        "proxy_read_timeout 5;",
        "proxy_buffering off;",
        "gzip_static on;",
        "default_type text/html;",
        "if ($request_method = POST) { return 405; }",
        "if ($request_method ~ ^(GET|PUT)$) { add_header A b; }",
        "if ($request_method != GET) { return 418; }",
        "error_page 418 = @app;",
        "limit_except GET { deny all; }",
        "limit_except PUT { allow 10.0.0.0/8; deny all; }",
    ]);
    (places, prop::collection::vec(lines, 0..4))
        .prop_map(|(place, lines)| format!("location {place} {{ {} }}\n", lines.join(" ")))
}

fn site() -> impl Strategy<Value = String> {
    let lines = prop::sample::select(vec![
        "listen 80;",
        "listen 81 default_server;",
        "listen [::]:80;",
        "server_name a.test;",
        "server_name *.a.test b.test;",
        "server_name _;",
        "root /tmp;",
        "return 301 https://$host$request_uri;",
        "if ($host = a.test) { return 301 /x; }",
        "if ($host != b.test) { return 444; }",
        "rewrite ^/a$ /b permanent;",
        "if ($request_method !~ ^(GET|POST)$) { return 405; }",
        "if ($request_method = OPTIONS) { return 204; }",
        "rewrite ^/c/(.*)$ /a/$1 permanent;",
        "error_page 404 /x.txt;",
        "listen 443 ssl;",
    ]);
    let parts = (
        prop::collection::vec(lines, 0..4),
        prop::collection::vec(location(), 0..5),
    );
    parts.prop_map(|(lines, locations)| {
        format!("server {{ {}\n{} }}\n", lines.join(" "), locations.concat())
    })
}

proptest! {
    #[test]
    fn the_settings_of_a_site_without_a_wrong_line_are_accepted(sites in prop::collection::vec(site(), 1..3), app: bool) {
        let text = sites.concat();
        let reading = reading_where(&text, app, &|dir| dir == Path::new("/tmp"));
        if !reading.lines.iter().any(|line| line.verdict.is_fatal()) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("hello.wsgi"), "").unwrap();
            let mut flags = Layer::default();
            if app {
                let setting = crate::config::settings::named("app").unwrap();
                let origin = SettingOrigin::Flag("--app".to_owned());
                flags.insert(setting, vec!["hello.wsgi".to_owned()], origin);
            }
            let host = HostFacts { current_dir: dir.path().to_owned(), ..HostFacts::of_this_process() };
            let layers = [flags, reading.layer];
            let resolved = crate::config::resolve::resolve(&layers, None, &host);
            // A circle of redirects is one in nginx, too.
            if let Err(problem) = resolved.map_err(|error| error.to_string())
                && !problem.contains("circles")
            {
                let toml = crate::config::foreign::equivalent::file(&layers[1], false);
                prop_assert!(false, "{problem}\n{text}\n{toml}");
            }
        }
    }
}

#[test]
fn a_prefix_that_comes_before_expressions_takes_the_requests_of_one_below_it() {
    let check = |lines: &str, hidden: bool| {
        let text = format!(
            "server {{\nlocation ~ ^/(a|c)/ {{ if ($request_method = POST) {{ return 405; }} }}\n{lines}\n}}\n"
        );
        let reading = reading(&text, false);
        let starts = reading.layer.locations.iter();
        let of_a = starts.filter(|table| {
            let method = table.entry("method").map(|entry| &*entry.values[0]);
            let starts = table.entry("starts_with").map(|entry| &*entry.values[0]);
            (starts, method) == (Some("/a/"), Some("POST"))
        });
        assert_eq!(of_a.count(), usize::from(!hidden), "{lines}");
        assert_eq!(reading.exit_code(), 0, "{lines}");
    };
    check(
        "location ^~ /a/ { if ($request_method != GET) { return 418; } }",
        true,
    );
    check("location ^~/a/ { return 418; }", true);
    check("location /b { location ^~ /b/a/ { return 418; } }", false);
    check(
        "location ^~ / { return 418; } location /a/ { return 404; }",
        false,
    );
}

#[test]
fn conditions_of_two_locations_for_one_method_of_the_same_paths_are_not_supported() {
    let post = "if ($request_method = POST) { return 405; }";
    for lines in [
        "location / { if ($request_method != GET) { return 418; } try_files $uri @app; }",
        "location / { limit_except GET { deny all; } try_files $uri @app; }",
    ] {
        let text = format!("server {{\nlocation @app {{ {post} }}\n{lines}\n}}\n");
        assert_eq!(reading(&text, false).exit_code(), 1, "{lines}");
    }
    let other = "location / { limit_except GET POST { deny all; } try_files $uri @app; }";
    let text = format!("server {{\nlocation @app {{ {post} }}\n{other}\n}}\n");
    assert_eq!(reading(&text, false).exit_code(), 0);
}

#[test]
fn a_directory_that_is_missing_leaves_its_paths_to_the_server_behind_it() {
    for handed_on in [
        "try_files $uri @b;",
        "if (!-f $request_filename) { proxy_pass http://b; }",
        "error_page 404 = @b;",
    ] {
        let text = format!(
            "server {{\nlocation / {{ root /gone; {handed_on} }}\nlocation @b {{ proxy_pass http://b; }}\n}}\n"
        );
        let reading = reading_where(&text, false, &|_| false);
        let upstream = reading.layer.locations[0].entry("upstream").unwrap();
        assert_eq!(upstream.values, ["http://b:80"], "{handed_on}");
        assert_eq!(reading.exit_code(), 0, "{handed_on}");
    }
}

#[test]
fn addresses_of_proxies_are_read_as_by_the_real_ip_module_and_nothing_else() {
    let check = |lines: &str, expected: [&str; 4], code: u8| {
        let text = format!("server {{ {lines} location / {{ proxy_pass http://a; }} }}");
        let reading = reading(&text, false);
        let value = |name: &str| {
            let entry = reading.layer.entry(name);
            entry.map_or_else(String::new, |entry| entry.values.join(" "))
        };
        let found = ["trust", "trust_fields", "trust_hops", "proxy_protocol"].map(value);
        assert_eq!(found, expected, "{lines}");
        let field = lines.split("real_ip_header ").nth(1);
        let field = field.and_then(|rest| rest.split(';').next());
        let field = field.filter(|name| *name != "proxy_protocol");
        let is_default = lines.contains("real_ip_from") && !lines.contains("real_ip_header");
        let field = field.or(is_default.then_some("X-Real-IP"));
        assert_eq!(value("trust_header"), field.unwrap_or_default(), "{lines}");
        assert_eq!(reading.exit_code(), code, "{lines}");
    };
    let net = "set_real_ip_from 10.0.0.0/8;";
    let by_for = "real_ip_header X-Forwarded-For;";
    check(
        &format!("{net} {by_for}"),
        ["10.0.0.0/8", "for", "1", ""],
        0,
    );
    check(
        &format!("{net} {by_for} real_ip_recursive on;"),
        ["10.0.0.0/8", "for", "", ""],
        0,
    );
    check(net, ["10.0.0.0/8", "for", "1", ""], 0);
    check(
        &format!("{net} real_ip_header CF-Connecting-IP;"),
        ["10.0.0.0/8", "for", "1", ""],
        0,
    );
    check(
        &format!("listen 80 proxy_protocol; {net} real_ip_header proxy_protocol;"),
        ["", "", "", "10.0.0.0/8"],
        0,
    );
    check(
        &format!("listen 80; {net} real_ip_header proxy_protocol;"),
        ["", "", "", ""],
        0,
    );
    check(
        "listen 80 proxy_protocol;",
        ["", "", "", "0.0.0.0/0 ::/0 unix"],
        0,
    );
    check(
        "listen 80 proxy_protocol; listen 8080;",
        ["", "", "", ""],
        1,
    );
}

#[test]
fn the_shorter_time_of_nginx_and_the_application_holds() {
    let text = "server { location / { uwsgi_pass unix:/s; uwsgi_read_timeout 30s; } }";
    for (deadline, expected) in [(None, Some("30")), (Some(60), Some("30")), (Some(30), None)] {
        let reading = reading_beside(text, deadline);
        let entry = reading.layer.entry("request_timeout");
        let found = entry.map(|entry| &*entry.values[0]);
        assert_eq!(found, expected, "{deadline:?}");
    }
}

#[test]
fn a_redirect_to_https_with_fields_of_the_site_is_a_location_that_has_them() {
    let text = |field: &str, inside: &str| {
        format!(
            "{field} server {{ listen 80; {inside} return 301 https://$host$request_uri; }}\n\
             server {{ listen 443 ssl; ssl_certificate /c; ssl_certificate_key /k; location / {{ proxy_pass http://a; }} }}\n"
        )
    };
    let field = "add_header X-Frame-Options DENY;";
    for (text, is_location) in [
        (text("", ""), false),
        (text(field, ""), true),
        (text("", field), true),
    ] {
        let reading = reading(&text, false);
        let is_setting = reading.layer.entry("redirect_to_https").is_some();
        assert_eq!(is_setting, !is_location, "{text}");
        let mut tables = reading.layer.locations.iter();
        let redirect = tables.find(|table| table.entry("redirect").is_some());
        let is_for_all = reading.layer.entry("header").is_some();
        let header = redirect.map(|table| is_for_all || table.entry("header").is_some());
        assert_eq!(header, is_location.then_some(true), "{text}");
    }
}

#[test]
fn a_second_location_of_the_same_path_is_wrong_as_in_nginx() {
    for (locations, is_wrong) in [
        ("location = /a {} location = /a {}", true),
        ("location /a {} location /a {}", true),
        ("location /a {} location ^~ /a {}", true),
        ("location /a/ { location /a/b {} location /a/b {} }", true),
        ("location /a {} location = /a {}", false),
        ("location /a {} location /a/ {}", false),
        ("location ~ ^/a/ {} location ~ ^/a/ {}", false),
        ("location /a {} location / { location /a {} }", false),
    ] {
        let text = format!(
            "server {{ root /srv; {locations} }}\nserver {{ root /srv; server_name b; location /a {{}} }}\n"
        );
        let reading = reading(&text, false);
        let found = reading.lines.iter().any(|line| line.verdict.is_fatal());
        assert_eq!(found, is_wrong, "{locations}");
    }
}

#[test]
fn a_server_with_both_schemes_has_the_scheme_of_each_request() {
    let server = |line: &str| {
        format!(
            "server {{\nlisten 80;\nlisten 443 ssl;\nssl_certificate /a.pem;\nssl_certificate_key /a.key;\n\
             location / {{ uwsgi_pass unix:/s; {line} }}\n}}\n"
        )
    };
    let values = |line: &str, name: &str| -> Vec<(String, String)> {
        let reading = reading(&server(line), false);
        let tables = reading.layer.locations.iter();
        let value = |table: &crate::config::layers::SettingsTable, name: &str| {
            let entry = table.entry(name);
            entry.map_or_else(String::new, |entry| entry.values.join(" "))
        };
        tables
            .map(|table| (value(table, "scheme"), value(table, name)))
            .collect()
    };
    let both = |https: &str, http: &str| {
        vec![
            ("https".to_owned(), https.to_owned()),
            ("http".to_owned(), http.to_owned()),
        ]
    };
    assert_eq!(
        values("uwsgi_param HTTP_X_FORWARDED_PROTO $scheme;", "uwsgi_param"),
        both(
            "HTTP_X_FORWARDED_PROTO=https",
            "HTTP_X_FORWARDED_PROTO=http"
        )
    );
    assert_eq!(
        values("return 302 $scheme://www.$host/;", "redirect"),
        both("https://www.{host}/", "http://www.{host}/")
    );
    let one = vec![(String::new(), "uwsgi+unix:/s".to_owned())];
    assert_eq!(values("uwsgi_param UWSGI_SCHEME $scheme;", "upstream"), one);
}

#[test]
fn the_fields_of_debian_s_proxy_params_are_sent() {
    let headers = |site: &str, location: &str| {
        let text =
            format!("server {{\n{site}\nlocation / {{ proxy_pass http://b; {location} }}\n}}\n");
        let reading = reading(&text, false);
        let table = &reading.layer.locations[0];
        let value = |name: &str| {
            let entry = table.entry(name);
            entry.map_or_else(Vec::new, |entry| entry.values.clone())
        };
        (value("request_header"), value("upstream_host"))
    };
    let (none, server) = (Vec::<String>::new(), vec!["server".to_owned()]);
    let sent = vec!["set X-Real-IP: {client}".to_owned()];
    assert_eq!(
        headers("", "include proxy_params;"),
        (sent.clone(), none.clone())
    );
    assert_eq!(
        headers("include /etc/nginx/proxy_params;", ""),
        (sent.clone(), none.clone())
    );
    assert_eq!(
        headers(
            "",
            "include proxy_params; proxy_set_header X-Real-IP $remote_addr;"
        ),
        (sent, none.clone())
    );
    // Fields of the location itself take the place of those around it.
    assert_eq!(
        headers("include proxy_params;", "proxy_set_header X-A b;"),
        (vec!["set X-A: b".to_owned()], server)
    );
}

#[test]
fn an_address_has_tls_for_all_servers_if_one_asks_for_it() {
    let text = "server {\nlisten 443;\nserver_name a.test;\nreturn 301 https://www.a.test$request_uri;\n}\n\
                server {\nlisten 443 default_server ssl;\nserver_name www.a.test;\nssl_certificate /a.pem;\n\
                ssl_certificate_key /a.key;\nlocation / { proxy_pass http://b; }\n}\n";
    let reading = reading(text, false);
    assert_eq!(reading.exit_code(), 0, "{:?}", reading.lines);
    let entry = reading.layer.entry("bind").unwrap();
    assert_eq!(entry.values, ["https://0.0.0.0:443"]);
    let redirect = reading
        .layer
        .locations
        .iter()
        .find_map(|table| table.entry("redirect"));
    assert_eq!(redirect.unwrap().values, ["https://www.a.test"]);
    let without = text.replace("ssl_certificate /a.pem;\nssl_certificate_key /a.key;\n", "");
    assert!(
        reading_where(&without, false, &|_| true)
            .lines
            .iter()
            .any(|line| line.verdict.is_fatal())
    );
}

#[test]
fn tls_is_translated() {
    let text = "server {\nlisten 443 ssl;\nserver_name a.test;\nssl_certificate /a.pem;\nssl_certificate_key /a.key;\n\
                location / { proxy_pass http://b; }\n}\n\
                server {\nlisten 80;\nserver_name a.test;\nreturn 301 https://$host$request_uri;\n}\n";
    let reading = reading(text, false);
    let values = |name: &str| {
        let entry = reading.layer.entry(name);
        entry.map_or(Vec::new(), |entry| entry.values.clone())
    };
    let locations = reading.layer.locations.len();
    assert_eq!(locations, 1, "the redirect is for all");
    assert_eq!(values("bind"), ["https://0.0.0.0:443", "0.0.0.0:80"]);
    assert_eq!(values("tls_cert"), ["/a.pem"]);
    assert_eq!(values("tls_key"), ["/a.key"]);
    assert_eq!(values("redirect_to_https"), ["yes"]);
    assert_eq!(reading.exit_code(), 0);
    let text = "server {\nlisten 443 ssl;\nssl_verify_client on;\n}\n";
    assert!(matches!(verdict(text, 3), Verdict::Unsupported(_)));
}

#[test]
fn conditions_that_take_all_hosts_of_a_server_leave_none_to_others() {
    let text = "server { server_name *.a.test b.test; }\n\
                server { if ($host = a.test) { return 301 /x; } server_name a.test; if ($host != b.test) { return 444; } }\n";
    let reading = reading(text, false);
    let hosts = reading.layer.locations.iter().map(|table| {
        let entry = table.entry("host");
        entry.map_or(Vec::new(), |entry| entry.values.clone())
    });
    let hosts: Vec<_> = hosts.flatten().collect();
    assert_eq!(hosts, ["*.a.test", "b.test", "*", "a.test"]);
}

#[test]
fn without_a_directory_the_named_location_gets_all_requests() {
    let text = "server { location /x/ { root /none; try_files $uri @app; } location @app { proxy_pass http://a; } }";
    let reading = reading_where(text, false, &|_| false);
    let table = &reading.layer.locations[0];
    assert!(table.entry("upstream").is_some(), "{table:?}");
    assert_eq!(table.entry("prefix").unwrap().values, ["/x"]);
}

#[test]
fn servers_get_the_name_of_their_upstream_as_nginx_s_proxy_host() {
    let check = |lines: &str, expected: Option<&str>| {
        let text = format!(
            "upstream a_b {{ server 127.0.0.1:1; server 127.0.0.1:2; }} upstream c {{ server 127.0.0.1:3; }} server {{ location / {{ {lines} }} }}"
        );
        let reading = reading(&text, false);
        let table = &reading.layer.locations[0];
        let host = table.entry("upstream_host");
        assert_eq!(host.map(|entry| &*entry.values[0]), expected, "{lines}");
    };
    check("proxy_pass http://a_b;", Some("a_b"));
    check("proxy_pass http://c/x/;", Some("c"));
    check(
        "proxy_pass http://c; proxy_set_header Host $proxy_host;",
        Some("c"),
    );
    for (sent, expected) in [
        ("$host", Some("{host}")),
        ("$http_host", None),
        ("$host:$server_port", Some("{host}:{port}")),
        ("$host:8080", Some("{host}:8080")),
    ] {
        let lines = format!("proxy_pass http://c; proxy_set_header Host {sent};");
        check(&lines, expected);
    }
    check("proxy_pass http://127.0.0.1:3;", Some("server"));
    check(
        "proxy_pass http://a_b; proxy_set_header Host $http_host;",
        None,
    );
}

#[test]
fn a_limit_of_requests_has_nginx_s_burst_and_the_first_one_holds() {
    let zone = "limit_req_zone $binary_remote_addr zone=a:1m rate=5r/s; limit_req_zone $remote_addr zone=b:1m rate=60r/m;";
    let check = |lines: &str, expected: [&str; 2]| {
        let text = format!("{zone} server {{ {lines} location / {{ proxy_pass http://a; }} }}");
        let reading = reading(&text, false);
        let value = |name: &str| {
            let entry = reading.layer.entry(name);
            entry.map_or_else(String::new, |entry| entry.values.concat())
        };
        assert_eq!(
            [value("rate_limit"), value("rate_burst")],
            expected,
            "{lines}"
        );
    };
    check("limit_req zone=a;", ["5/s", "1"]);
    check("limit_req zone=a burst=20 nodelay;", ["5/s", "21"]);
    check(
        "limit_req zone=b burst=5 delay=3; limit_req zone=a;",
        ["60/m", "6"],
    );
    check("location /login { limit_req zone=a; }", ["", ""]);
}

#[test]
fn a_file_of_another_name_has_the_type_of_its_path() {
    let text = "server { include mime.types; location = /map.json { alias /srv/map.txt; } location = /a.txt { alias /srv/b.txt; } }";
    let reading = reading(text, false);
    let types = reading.layer.locations.iter().take(2).map(|table| {
        let entry = table.entry("types");
        entry.map_or(Vec::new(), |entry| entry.values.clone())
    });
    let types: Vec<_> = types.collect();
    assert_eq!(types, [vec!["txt=application/json".to_owned()], Vec::new()]);
}

/// The settings of the layer as text.
fn settings_of(text: &str) -> String {
    format!("{:?}", reading(text, false).layer)
}

#[test]
fn a_redirect_to_https_has_the_port_only_if_it_is_the_usual_one() {
    let site = |port: u16| {
        format!(
            "server {{ listen 80; return 301 https://$host$request_uri; }}\n\
             server {{ listen {port} ssl; ssl_certificate /c.pem; ssl_certificate_key /k.pem; location / {{ return 200 x; }} }}\n"
        )
    };
    assert!(settings_of(&site(443)).contains("redirect_to_https"));
    // nginx names no port, behind which another one may be published.
    let other = settings_of(&site(8443));
    assert!(!other.contains("redirect_to_https"), "{other}");
    assert!(other.contains("https://{host}"), "{other}");
}

#[test]
fn a_semicolon_that_is_missing_behind_names_is_pointed_out() {
    let text =
        "server {\nserver_name a.example # old\ncharset utf-8;\nlocation / { return 200 x; }\n}\n";
    let reading = reading(text, true);
    let line = reading.lines.iter().find(|line| line.place.line == 2);
    let line = line.expect("the names");
    assert_eq!(line.text, "server_name a.example charset utf-8");
    let Verdict::Noted(said) = &line.verdict else {
        panic!("{:?}", line.verdict);
    };
    assert!(said.contains("missing before charset"), "{said}");
}

#[test]
fn a_path_straight_behind_a_host_is_dangerous() {
    for (line, is_dangerous) in [
        ("rewrite ^/(.*)$ https://a.example$1 permanent;", true),
        ("rewrite ^/(.*) $scheme://a.example$1 redirect;", true),
        ("rewrite ^/(.*)$ https://a.example/$1 permanent;", false),
        ("rewrite ^(.*)$ https://a.example$1 permanent;", false),
    ] {
        let text = format!("server {{\n{line}\n}}\n");
        let found = verdict(&text, 2);
        let is_it = matches!(found, Verdict::Dangerous(_));
        assert_eq!(is_it, is_dangerous, "{line}: {found:?}");
    }
}

#[test]
fn the_first_name_of_a_server_is_its_server_name_if_it_is_a_host() {
    for (names, expected) in [
        ("a.example b.example", Some("https://a.example/x")),
        (".A.example", Some("https://a.example/x")),
        ("_ a.example", None),
        ("*.example", None),
        ("$hostname", None),
    ] {
        let text = format!(
            "server {{\nserver_name {names};\nlocation / {{\nreturn 301 https://$server_name/x;\n}}\n}}\n"
        );
        let is_there = |to: &str| settings_of(&text).contains(to);
        match expected {
            Some(to) => assert!(is_there(to), "{names}"),
            None => assert!(
                matches!(verdict(&text, 4), Verdict::Unsupported(_)),
                "{names}"
            ),
        }
    }
}

#[test]
fn a_field_of_several_lines_is_sent_as_one() {
    let text = "server {\nlocation / {\nadd_header X-Policy \"a;\n   b\";\nreturn 200 x;\n}\n}\n";
    let found = verdict(text, 3);
    let expected = Verdict::Honoured("header = \"add X-Policy: a; b\"".to_owned());
    assert_eq!(found, expected);
}

#[test]
fn an_empty_variable_alone_on_its_line_leaves_the_next_directive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.conf");
    let text = "server {\n$ONE\nserver_name a.example;\nlocation / { return 200 x; }\n}\n";
    std::fs::write(&path, text).unwrap();
    let disk = tree::Disk {
        read: &|path| std::fs::read(path),
        list: &|_| Vec::new(),
    };
    let mut tree = tree::read("site.conf", &path, &disk);
    let empty = |_: &str| Some(String::new());
    let mut stand_ins = templates::StandIns::of(&tree, &empty, true);
    stand_ins.fill(&mut tree, &empty);
    let names: Vec<_> = tree.items.iter().map(|item| &*item.name).collect();
    assert_eq!(names, ["server", "server_name", "location", "return"]);
}

#[test]
fn a_password_file_with_hashes_that_the_start_refuses_is_not_honoured() {
    let text = "server {\nauth_basic Site;\nauth_basic_user_file /etc/htp;\nlocation / { proxy_pass http://127.0.0.1:8000; }\n}\n";
    let tree = tree::read(
        "site.conf",
        Path::new("/site.conf"),
        &tree::Disk {
            read: &|_| Ok(text.as_bytes().to_vec()),
            list: &|_| Vec::new(),
        },
    );
    let bad = |path: &Path| {
        assert_eq!(path, Path::new("/etc/htp"));
        Some(vec!["line 1: user u: an MD5 hash".to_owned()])
    };
    let given = Given {
        app: true,
        found_app: None,
        binds: Vec::new(),
        sockets: Vec::new(),
        trusts: false,
        hosts: Vec::new(),
        deadline: None,
        is_dir: &|_| true,
        is_dir_here: &|_| true,
        has_headers: false,
        bad_passwords: &bad,
        variable: &|_| None,
    };
    let reading = meaning::of(&tree, &given);
    let line = reading.lines.iter().find(|line| line.place.line == 3);
    let Some(Verdict::Unsupported(why)) = line.map(|line| &line.verdict) else {
        panic!("{line:?}");
    };
    assert_eq!(why, "/etc/htp, line 1: user u: an MD5 hash");
}

#[test]
fn a_directive_in_a_wrong_block_makes_the_whole_file_wrong() {
    for (text, is_wrong) in [
        (
            "server { keepalive_timeout 5; location / { return 404; } }",
            false,
        ),
        (
            "server { location / { gzip_types text/css; root /srv; } }",
            false,
        ),
        (
            "server { location / { access_log off; if ($request_method = POST) { return 405; } root /srv; } }",
            false,
        ),
        (
            "server { location / { ssl_ciphers HIGH; root /srv; } }",
            true,
        ),
        ("server { location / { listen 80; root /srv; } }", true),
        (
            "server { location / { large_client_header_buffers 4 8k; root /srv; } }",
            true,
        ),
        (
            "server { upstream a { server b:1; } location / { root /srv; } }",
            true,
        ),
        (
            "server { location / { root /srv; if ($host = a) { expires 1h; } } }",
            false,
        ),
        (
            "server { location / { root /srv; if ($host = a) { proxy_set_header A b; } } }",
            true,
        ),
        (
            "events { worker_connections 5; } http { server { location / { root /srv; } } }",
            false,
        ),
        (
            "worker_connections 5; events { } http { server { location / { root /srv; } } }",
            true,
        ),
    ] {
        let reading = reading(text, false);
        assert_eq!(reading.exit_code() == 2, is_wrong, "{text}");
    }
}

#[test]
fn gzip_of_a_location_or_another_server_differs_from_that_for_all() {
    let text = "gzip off;\nserver { location /a { root /s; gzip on; } location / { proxy_pass http://a; } }\n\
                server { server_name b; gzip on; location / { proxy_pass http://a; } location /c { root /s; gzip off; } }";
    let reading = reading(text, false);
    let of_all = ["compress", "static_compress"].map(|name| reading.layer.entry(name).is_some());
    assert_eq!(of_all, [true, true]);
    let tables = reading.layer.locations.iter();
    let found: Vec<_> = tables
        .map(|table| table.entry("compress").map(|entry| entry.values.join(" ")))
        .collect();
    let codings = |text: &str| Some(text.to_owned());
    assert_eq!(
        found,
        [codings("br gzip"), None, codings("zstd br gzip"), None]
    );
}

#[test]
fn values_that_nginx_reads_in_another_way_are_not_honoured_as_they_stand() {
    let check = |line: &str, expected: &str| {
        let text = format!(
            "server {{ listen 443 ssl; ssl_certificate /c; ssl_certificate_key /k;\n{line}\n}}"
        );
        let reading = reading(&text, false);
        let found = reading
            .lines
            .iter()
            .find(|line| line.place.line == 2)
            .unwrap();
        assert_eq!(found.verdict.word(), expected, "{line}: {}", found.verdict);
    };
    check("ssl_protocols TLSv1.2 TLSv1.3;", "already_so");
    check("ssl_protocols TLSv1.3;", "honoured");
    check("ssl_protocols TLSv1.2;", "differs");
    check("ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;", "differs");
    let text =
        "server { listen 443 ssl;\nssl_certificate /c/$host.pem;\nssl_certificate_key /k;\n}";
    let reading = reading(text, false);
    assert_eq!(reading.exit_code(), 1);
    assert!(reading.layer.entry("tls_cert").is_none());
}

#[test]
fn paths_of_cookies_and_redirects_are_mapped_as_the_address_says() {
    for (lines, code) in [
        (
            "location /h/ { proxy_pass http://b/x/; proxy_cookie_path /x/ /h/; }",
            0,
        ),
        (
            "location /h/ { proxy_pass http://b/; proxy_cookie_path / /h/; }",
            0,
        ),
        (
            "location /h/ { proxy_pass http://b/; proxy_cookie_path off; }",
            0,
        ),
        (
            "location /h/ { proxy_pass http://b/x/; proxy_cookie_path / /h/; }",
            1,
        ),
        (
            "location /h/ { proxy_pass http://b; proxy_cookie_path / /h/; }",
            1,
        ),
        (
            "location /g/ { proxy_pass http://b/; proxy_set_header Host i.example; proxy_redirect http://i.example/ /g/; }",
            0,
        ),
        (
            "location / { proxy_pass http://b; proxy_set_header Host i.example; proxy_redirect http://i.example/ /; }",
            0,
        ),
        (
            "location / { proxy_pass http://b; proxy_set_header Host i.example; proxy_redirect http://other.example/ /; }",
            1,
        ),
    ] {
        let reading = reading(&format!("server {{ {lines} }}"), false);
        assert_eq!(reading.exit_code(), code, "{lines}");
    }
}

/// The verdict of the line that begins so.
fn verdict_of(text: &str, beginning: &str) -> Verdict {
    let reading = reading(text, true);
    let line = reading
        .lines
        .iter()
        .find(|line| line.text.starts_with(beginning));
    line.expect("the line").verdict.clone()
}

#[test]
fn types_of_a_location_take_the_place_of_all_others() {
    let check = |lines: &str, expected: &[&str]| {
        let text = format!("server {{ location /up/ {{ alias /srv/up/; {lines} }} }}");
        let reading = reading(&text, true);
        let entry = reading.layer.locations[0].entry("types");
        let values = entry.map_or(Vec::new(), |entry| entry.values.clone());
        assert_eq!(values, expected, "{lines}");
        for line in &reading.lines {
            assert!(!line.verdict.is_fatal(), "{line:?}");
        }
    };
    check(
        "types { } default_type application/octet-stream;",
        &["**=application/octet-stream"],
    );
    check("types { }", &["**=application/octet-stream"]);
    check(
        "types { } default_type application/x-foo;",
        &["**=application/x-foo"],
    );
    check(
        "types { text/x-own css own; }",
        &[
            "css=text/x-own",
            "own=text/x-own",
            "**=application/octet-stream",
        ],
    );
}

#[test]
fn lines_whose_outcome_differs_say_so() {
    let files = |lines: &str| format!("server {{ location / {{ root /srv/www; {lines} }} }}");
    for (text, line) in [
        (files("gzip_static always;"), "gzip_static"),
        (files("index p.html index.html;"), "index"),
        (
            "server { root /srv/www; error_page 404 =200 /e.html; location = /e.html { } location / { add_header X-A a; } }".to_owned(),
            "error_page",
        ),
        (
            "server { root /srv/www; error_page 404 /e.html; location = /e.html { add_header X-A a always; } location / { } }".to_owned(),
            "error_page",
        ),
    ] {
        let verdict = verdict_of(&text, line);
        assert!(matches!(verdict, Verdict::Differs(_)), "{text}: {verdict:?}");
    }
    let same = "server { root /srv/www; error_page 404 /e.html; location = /e.html { } location / { add_header X-A a; } }";
    let verdict = verdict_of(same, "error_page");
    assert!(matches!(verdict, Verdict::Honoured(_)), "{verdict:?}");
}

#[test]
fn an_empty_variable_is_not_sent_if_it_has_to_have_a_value() {
    let text =
        "server { location / { uwsgi_pass unix:/a.sock; uwsgi_param B \"\" if_not_empty; } }";
    let verdict = verdict_of(text, "uwsgi_param");
    assert!(matches!(verdict, Verdict::NoEffect(_)), "{verdict:?}");
    let wrong =
        "set_real_ip_from 10.0.0.1; real_ip_header; server { location / { return 200 x; } }";
    let verdict = verdict_of(wrong, "real_ip_header");
    assert!(matches!(verdict, Verdict::Wrong(_)), "{verdict:?}");
}

const ZONES: &str = "limit_conn_zone $binary_remote_addr zone=a:1m; limit_req_zone $binary_remote_addr zone=b:1m rate=5r/s; limit_req zone=c;";

/// Directives with times, sizes, counts and types.
const WITH_VALUES: &[&str] = &[
    "keepalive_timeout",
    "client_header_timeout",
    "client_body_timeout",
    "send_timeout",
    "client_max_body_size",
    "default_type",
    "gzip_min_length",
    "gzip_types",
    "gzip_comp_level",
    "expires",
    "max_ranges",
    "charset",
    "proxy_connect_timeout",
    "proxy_read_timeout",
    "proxy_send_timeout",
    "uwsgi_connect_timeout",
    "uwsgi_read_timeout",
    "uwsgi_send_timeout",
    "uwsgi_modifier1",
    "uwsgi_modifier2",
    "limit_conn a",
    "limit_req zone=b burst=5",
    "limit_req zone=b burst=",
    "limit_req_zone $binary_remote_addr zone=c:1m rate=",
    "set_real_ip_from",
    "real_ip_header",
    "index",
];

#[test]
fn a_line_without_a_fatal_verdict_does_not_end_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let host = HostFacts {
        current_dir: dir.path().to_owned(),
        ..HostFacts::of_this_process()
    };
    let values = [
        "0",
        "1",
        "-1",
        "60",
        "10000d",
        "99999999999999",
        "99999999999999g",
        "8589934591g",
        "99999999999999999g",
        "4294967296",
        "x",
        "bad",
        "a/b",
        "a/b/c",
        "text/plain;charset=x",
        "\"\"",
        "on",
        "\"é\"",
    ];
    let mut found = Vec::new();
    for (name, value) in WITH_VALUES
        .iter()
        .flat_map(|name| values.map(|value| (name, value)))
    {
        for (around, handler) in [
            ("", "return 200 x;"),
            ("", "root /;"),
            ("", "proxy_pass http://127.0.0.1:1;"),
            ("", "uwsgi_pass unix:/a.sock;"),
            (ZONES, "return 200 x;"),
        ] {
            let line = match name.ends_with('=') {
                true => format!("{name}{value};"),
                false => format!("{name} {value};"),
            };
            for text in [
                format!("{around} server {{ {line} location / {{ {handler} }} }}"),
                format!("{around} server {{ location / {{ {line} {handler} }} }}"),
            ] {
                let reading = reading(&text, false);
                if reading.lines.iter().any(|line| line.verdict.is_fatal()) {
                    continue;
                }
                if let Err(problem) = crate::config::resolve::resolve(&[reading.layer], None, &host)
                {
                    found.push(format!("{text}: {problem}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_path_without_a_slash_goes_to_the_named_location_of_the_paths_around() {
    let text = "server { root /srv/www; location / { try_files $uri @gun; } location @gun { proxy_pass http://127.0.0.1:1; } location /old/ { return 301 https://n.example$request_uri; } }";
    let reading = reading(text, true);
    let value =
        |table: &SettingsTable, name: &str| table.entry(name).map(|entry| entry.values.concat());
    let mut tables = reading.layer.locations.iter();
    let found = tables.find(|table| value(table, "path").as_deref() == Some("/old"));
    let upstream = value(found.expect("the path"), "upstream");
    assert_eq!(upstream.as_deref(), Some("http://127.0.0.1:1"));
}

#[test]
fn keys_of_a_map_over_a_secret_are_hidden() {
    let text =
        "map $http_x_api_key $ok {\ndefault 0;\n\"a1b2c3d4e5\" 1;\n}\nserver { return 200 $ok; }\n";
    let reading = reading(text, false);
    let line = reading.lines.iter().find(|line| line.place.line == 3);
    let line = line.expect("the entry");
    assert!(!line.text.contains("a1b2c3"), "{}", line.text);
    assert!(reading.lines.iter().any(|line| line.text == "default 0"));
}

#[test]
fn addresses_that_no_server_can_have_are_wrong() {
    let check = |address: &str, server: &str, code: u8| {
        let text = format!(
            "upstream b {{ server {server}; }}\nserver {{ location / {{ proxy_pass http://{address}; }} }}\n"
        );
        assert_eq!(
            reading(&text, false).exit_code(),
            code,
            "{address} {server}"
        );
    };
    check("localhost:8000", "a:80", 0);
    check("b", "a:8080", 0);
    check("b", "unix:/run/a.sock", 0);
    check("b", "[::1]:80", 0);
    for wrong in [
        "localhost:PORT",
        "web:99999",
        "web:0",
        "web:80:80",
        "web:8000x",
        ":8000",
    ] {
        check(wrong, "a:80", 2);
        check("b", wrong, 2);
    }
}
