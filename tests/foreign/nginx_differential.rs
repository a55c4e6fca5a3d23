//! The real nginx beside pyserve with the same file and the same requests.
//!
//! A second pyserve has the `pyserve.toml` that `explain` prints for the file, and answers as the first.
//! Statuses, bodies of 200, and the named header fields have to agree, or the difference is listed with
//! its reason, and then has to be there.

use std::path::Path;
use std::process::Command;

use crate::support::behind::{Behind, program};
use crate::support::nginx::Nginx;
use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server};
use crate::support::{python, skipped, temp_dir, write_files};

/// One file with requests to it.
pub(super) struct Case {
    /// Inside of `http`; `DIR` is the directory of the files, `BACKEND` the socket of a server, and
    /// `LISTEN` the address.
    pub text: &'static str,
    /// Requests as [`ask`] takes them.
    pub requests: &'static [&'static str],
    /// Header fields to compare.
    pub fields: &'static [&'static str],
    /// Requests with another response, and the reason.
    pub differences: &'static [(&'static str, &'static str)],
}

/// The compared parts of a response.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    body: String,
    fields: Vec<(String, Vec<String>)>,
}

/// A request: `[METHOD ][HOST]/target`.
pub(super) fn ask(text: &str) -> String {
    let (method, rest) = text.split_once(' ').unwrap_or(("GET", text));
    let slash = rest.find('/').unwrap_or(0);
    let host = if slash == 0 {
        "site.test"
    } else {
        &rest[..slash]
    };
    let target = &rest[slash..];
    let body = if method == "POST" {
        "x".repeat(2000)
    } else {
        String::new()
    };
    let length = if method == "POST" {
        "Content-Length: 2000\r\n"
    } else {
        ""
    };
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}\r\n{body}")
}

fn answer(response: &Response, fields: &[&str]) -> Answer {
    let mut compared = Vec::new();
    // The pages of errors and redirects are each server's own.
    let is_own = |name: &&&str| **name != "Content-Type" || response.status() == 200;
    for name in fields.iter().filter(is_own) {
        let values = response.headers(name).into_iter();
        // nginx makes paths absolute, by the host of the request.
        let values = values.map(|value| value.replace("http://site.test/", "/"));
        compared.push(((*name).to_owned(), values.collect()));
    }
    let body = match response.status() {
        200 | 206 => compared_body(&response.text()),
        _ => String::new(),
    };
    Answer {
        status: response.status().to_string(),
        body,
        fields: compared,
    }
}

/// Of an environ, the variables that have to agree.
fn compared_body(body: &str) -> String {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(body) else {
        return body.to_owned();
    };
    let names = [
        "PATH_INFO",
        "SCRIPT_NAME",
        "QUERY_STRING",
        "REQUEST_METHOD",
        "HTTP_HOST",
        "CONTENT_LENGTH",
        "REMOTE_USER",
        "HTTP_X_URL",
        "HTTP_X_TENANT",
        "DEPLOYMENT",
    ];
    let environ = &value["environ"];
    // An empty variable may be absent (PEP 3333, "environ Variables").
    let known = names.map(|name| format!("{name}={}", environ[name].as_str().unwrap_or_default()));
    format!("{} {}", known.join(" "), value["body"])
}

pub(super) fn check(name: &str, case: &Case, backend: Option<&Path>, app: Option<&str>) {
    let dir = temp_dir();
    write_files(dir.path(), FILES);
    let backend = backend
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let text = case
        .text
        .replace("DIR", &dir.path().display().to_string())
        .replace("BACKEND", &backend)
        .replace("PARAMS", PARAMS);
    let nginx = match Nginx::with_servers(&text) {
        Ok(nginx) => nginx,
        Err(why) => return skipped(&format!("the comparison with nginx: {name}"), &why),
    };
    let file = dir.path().join("nginx.conf");
    let whole = format!(
        "events {{}}\nhttp {{\n{}\n}}\n",
        text.replace("LISTEN", "127.0.0.1:0")
    );
    std::fs::write(&file, whole).unwrap();
    let by_file = ["--nginx".into(), file.display().to_string()];
    let server = started(dir.path(), &by_file, app);
    let toml = dir.path().join("equivalent.toml");
    std::fs::write(&toml, equivalent(&file, app)).unwrap();
    let by_toml = ["--config".into(), toml.display().to_string()];
    let same = started(dir.path(), &by_toml, app);
    let mut wrong = Vec::new();
    for request in case.requests {
        let text = ask(request);
        let mut theirs = nginx.connect();
        theirs.send(&text);
        let mut ours = server.connect();
        ours.send(&text);
        let mut by_toml = same.connect();
        by_toml.send(&text);
        if request.contains("closed.test") {
            let bytes = [theirs, ours, by_toml].map(|mut one| one.rest().0.len());
            assert_eq!(bytes, [0, 0, 0], "{name}: {request}");
            continue;
        }
        let responses = [theirs, ours, by_toml].map(|mut one| one.response());
        let [theirs, ours, by_toml] = responses.map(|one| answer(&one, case.fields));
        assert_eq!(
            ours, by_toml,
            "{name}: {request}: --nginx and its pyserve.toml"
        );
        let listed = case
            .differences
            .iter()
            .any(|(differs, _)| differs == request);
        if (theirs == ours) == listed {
            wrong.push(format!(
                "{name}: {request} (listed: {listed})\n  nginx   {theirs:?}\n  pyserve {ours:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A server with these arguments.
pub(super) fn started(dir: &Path, args: &[String], app: Option<&str>) -> Server {
    let pyserve = Pyserve::bare().current_dir(dir);
    let control = pyserve.path("control");
    let mut pyserve = pyserve
        .env("PYSERVE_CONTROL", control)
        .env("PYSERVE_FRONT_THREADS", "1")
        .env("PYSERVE_PYTHON", python::default())
        .args(args);
    if let Some(app) = app {
        let apps = crate::support::apps().display().to_string();
        pyserve = pyserve.args(["--app", app, "--chdir", &apps]);
    }
    pyserve.ready()
}

/// The `pyserve.toml` that `pyserve explain` prints for the file, beside an application.
fn equivalent(file: &Path, app: Option<&str>) -> String {
    let dir = temp_dir();
    let mut pyserve = Pyserve::bare()
        .current_dir(dir.path())
        .args(["explain", "--json"]);
    if let Some(app) = app {
        write_files(
            dir.path(),
            &[("uwsgi.ini", &format!("[uwsgi]\nmodule = {app}\n"))],
        );
        pyserve = pyserve.args(["uwsgi.ini"]);
    }
    let ended = pyserve.args([file]).run();
    let all: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let explained = all.as_array().and_then(|all| all.last()).expect("the file");
    explained["pyserve_toml"].as_str().unwrap().to_owned()
}

/// nginx's own `uwsgi_params`.
pub(super) const PARAMS: &str = "uwsgi_param QUERY_STRING $query_string; uwsgi_param REQUEST_METHOD $request_method;\n\
     uwsgi_param CONTENT_TYPE $content_type; uwsgi_param CONTENT_LENGTH $content_length;\n\
     uwsgi_param REQUEST_URI $request_uri; uwsgi_param PATH_INFO $document_uri;\n\
     uwsgi_param SERVER_PROTOCOL $server_protocol; uwsgi_param REMOTE_ADDR $remote_addr;\n\
     uwsgi_param SERVER_PORT $server_port; uwsgi_param SERVER_NAME $server_name;\n";

pub(super) const FILES: &[(&str, &str)] = &[
    ("www/index.html", "<p>home</p>\n"),
    ("www/about.html", "<p>about</p>\n"),
    ("www/404.html", "<p>nothing</p>\n"),
    ("www/static/a.css", "a {}\n"),
    ("www/static/sub/index.html", "<p>sub</p>\n"),
    ("www/media/b.txt", "media\n"),
    ("www/named/b.txt", "named\n"),
    ("www/robots.txt", "User-agent: *\n"),
    ("www/.hidden", "hidden\n"),
    ("errors/50x.html", "<p>down</p>\n"),
    ("other/c.txt", "other\n"),
    ("staticsecret/s.txt", "secret\n"),
    ("secret.txt", "secret\n"),
    ("www/a.css", "b {}\n"),
    ("www/x.js", "x()\n"),
    ("www/plain", "plain\n"),
    ("other/b.txt", "other b\n"),
    ("other/x.html", "other x\n"),
    ("htpasswd", ""),
    (
        "mime.types",
        "types { text/html html; text/plain txt; application/json json; application/javascript js; }\n",
    ),
    ("protected/file.txt", "protected\n"),
];

pub(super) fn mirror(args: &[&str]) -> Option<Behind> {
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
            "--module",
            "mirror",
        ])
        .args(args)
        .arg(dir.path().join("socket"));
    Some(Behind::start(&mut command, dir, "spawned uWSGI worker 2"))
}

#[test]
fn files_are_served_as_nginx_serves_them() {
    let case = Case {
        text: "include DIR/missing*; types { text/html html; text/css css; text/plain txt; }\n\
               server {\n listen LISTEN;\n root DIR/www;\n index index.html;\n add_header X-Site one;\n\
               location / { try_files $uri $uri/ =404; }\n\
               location /static/ { alias DIR/www/static/; expires 1h; }\n\
               location /other { alias DIR/other/; add_header X-Other two; }\n\
               location = /robots.txt { alias DIR/www/robots.txt; }\n\
               location ~ /\\. { deny all; }\n}",
        requests: &[
            "/",
            "/about.html",
            "/static/a.css",
            "/static/sub/",
            "/static/none.css",
            "/other/c.txt",
            "/robots.txt",
            "/none",
            "/static/../secret.txt",
            "/other../secret.txt",
            "/othersecret/s.txt",
            "POST /about.html",
            "HEAD /about.html",
            "/static/sub",
            "/.hidden",
        ],
        fields: &["X-Site", "X-Other", "Location"],
        differences: &[(
            "/other../secret.txt",
            "nginx leaves the directory, because the location has no slash",
        )],
    };
    check("files", &case, None, None);
}

#[test]
fn a_single_page_application_is_served_as_by_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n root DIR/www;\n\
               location / { try_files $uri $uri/ /index.html; }\n\
               location /api/ { proxy_pass http://unix:BACKEND; proxy_set_header Host $host; }\n\
               location /v1/ { proxy_pass http://unix:BACKEND:/; proxy_set_header Host $host; }\n}",
        requests: &[
            "/",
            "/about.html",
            "/users/7",
            "/api/x?y=1",
            "/api",
            "/api/",
            "/v1/x?y=1",
            "/v1/a%20b",
            "/missing.js",
        ],
        fields: &["Location"],
        differences: &[("/missing.js", "a missing script is 404, not the page")],
    };
    check(
        "single-page application",
        &case,
        Some(&behind.socket()),
        None,
    );
}

#[test]
fn a_page_before_a_status_takes_the_place_of_missing_files_as_by_nginx() {
    let case = Case {
        text: "server {\n listen LISTEN;\n root DIR/www;\n\
               location / { try_files $uri $uri/ /index.html =404; }\n\
               location /o/ { alias DIR/other/; try_files $uri /x.html =404; }\n\
               location /p/ { alias DIR/other/; try_files $uri /p/x.html =404; }\n\
               location /q/ { alias DIR/other/; try_files $uri $uri/ /q/x.html; }\n\
               location /static/ { try_files $uri /static/sub/index.html =404; }\n\
               location /media/ { try_files $uri /media/none.html =404; }\n}",
        requests: &[
            "/",
            "/users/7",
            "/about.html",
            "/o/b.txt",
            "/o/users/7",
            "/p/b.txt",
            "/p/users/7",
            "/q/users/7",
            "/static/a.css",
            "/static/sub/",
            "/static/users/7",
            "/media/users/7",
            "/missing.js",
        ],
        fields: &[],
        differences: &[("/missing.js", "a missing script is 404, not the page")],
    };
    check("a page before a status", &case, None, None);
}

#[test]
fn fields_and_variables_of_requests_are_nginx_s() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n proxy_set_header Host $http_host; proxy_set_header X-Url $scheme://$host$request_uri;\n\
               location / {\n if ($http_x_asked != 'x') { return 403; }\n\
               location /static/ { alias DIR/www/static/; }\n\
               location / { proxy_pass http://unix:BACKEND; }\n }\n\
               location ~ ^/m/(.+\\.(?:txt|css))$ { alias DIR/www/media/$1; }\n\
               location x/ { return 403; }\n}",
        requests: &[
            "/a%20b?c=d",
            "Other.TEST/x/",
            "/static/a.css",
            "/m/b.txt",
            "/m/none.txt",
            "/m/b.html",
        ],
        fields: &[],
        differences: &[],
    };
    check("fields of requests", &case, Some(&behind.socket()), None);
}

#[test]
fn variables_of_a_location_reach_the_application_as_by_uwsgi_param() {
    let Some(behind) = mirror(&["--socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n\
               location / { PARAMS uwsgi_param DEPLOYMENT blue; uwsgi_param HTTP_X_TENANT shop; uwsgi_pass unix:BACKEND; }\n\
               location /url/ { PARAMS uwsgi_param HTTP_X_URL $scheme://$host$request_uri; uwsgi_pass unix:BACKEND; }\n}",
        requests: &["/", "/url/a%20b?c=d", "POST /x"],
        fields: &[],
        differences: &[],
    };
    check("variables", &case, Some(&behind.socket()), Some("mirror"));
}

#[test]
fn files_before_a_server_are_served_as_by_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "client_max_body_size 1k;\nupstream app { server unix:BACKEND fail_timeout=0; }\n\
               server {\n listen LISTEN;\n root DIR/www;\n\
               location / { try_files $uri @app; }\n\
               location /big/ { client_max_body_size 1m; proxy_pass http://app; proxy_set_header Host $host; }\n\
               location @app { proxy_set_header Host $http_host; proxy_redirect off; proxy_pass http://app; }\n}",
        requests: &[
            "/",
            "/static/sub/",
            "/about.html",
            "/none?a=b",
            "/status/404",
            "/redirect",
            "POST /form",
            "POST /big/form",
            "other.test/none",
        ],
        fields: &["Location", "X-Case"],
        differences: &[],
    };
    check("files before a server", &case, Some(&behind.socket()), None);
}

#[test]
fn shapes_of_older_files_are_served_as_by_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "upstream app { server unix:BACKEND fail_timeout=0; }\n\
               types { text/html html; text/css css; text/plain txt; }\n\
               server {\n listen LISTEN;\n root DIR/www;\n\
               if ($time_iso8601 ~ \"^(\\d{4})-(\\d{2})\") { set $year $1; set $month $2; }\n\
               location / { try_files $uri $uri.html @app; }\n\
               location /static/ { proxy_set_header Host $http_host; if (!-f $request_filename) { proxy_pass http://app; break; } }\n\
               location ~ ^/(admin|api)(/|$) { proxy_pass http://app; proxy_set_header Host $host; }\n\
               location ^~ /moved/ { root DIR/www; rewrite ^/moved(/.*)$ $1 break; }\n\
               location ^~ /from { root DIR/www; rewrite ^/from(.*) /$1 break; }\n\
               location ^~ /below { root DIR/www; rewrite ^/below(.*)$ /static/$1 break; }\n\
               location ~ ^/robots.txt$ { alias DIR/www/robots.txt; }\n\
               location ~* .(png|js)$ { expires 1d; }\n\
               location @app { proxy_set_header Host $http_host; proxy_redirect off; proxy_pass http://app; }\n}",
        requests: &[
            "/",
            "/about",
            "/about.html",
            "/none",
            "/none.html",
            "/static/a.css",
            "/static/none.css",
            "/static/sub/",
            "/admin",
            "/admin/x",
            "Site.TEST.:81/admin/x",
            "Site.TEST.:81/none",
            "/administrator",
            "/moved/about.html",
            "/moved/none",
            "/from/about.html",
            "/from/static/sub/",
            "/from/none",
            "/below/a.css",
            "/below/about.html",
            "/robots.txt",
            "/x.js",
            "/none.png",
        ],
        fields: &["Location"],
        differences: &[],
    };
    check("older shapes", &case, Some(&behind.socket()), None);
}

#[test]
fn applications_get_paths_as_by_uwsgi_params_and_servers_as_by_an_address_with_a_path() {
    let requests = &[
        "/a//b",
        "/a/./b/../c?x=//",
        "/a%2Fb",
        "/a%20b%3Fc?d",
        "/other/../a",
        "/other//a%2fb",
        "/other/%2e%2e/x",
        "//",
        "/none/..",
    ];
    let Some(behind) = mirror(&["--socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n location / { PARAMS uwsgi_pass unix:BACKEND; }\n}",
        requests,
        fields: &[],
        differences: &[],
    };
    check("paths of uwsgi_params", &case, Some(&behind.socket()), None);
    check("paths of uwsgi_params", &case, None, Some("mirror"));
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n proxy_set_header Host $host;\n\
               location / { proxy_pass http://unix:BACKEND:/; }\n\
               location /other/ { proxy_pass http://unix:BACKEND:/other/; }\n\
               location /raw/ { proxy_pass http://unix:BACKEND; }\n}",
        requests: &[
            "/a//b",
            "/a/./b/../c?x=//",
            "/a%2Fb",
            "/a%20b%3Fc?d",
            "/other/../a",
            "/other//a%2fb",
            "/raw//a/%2e/b%2Fc",
        ],
        fields: &[],
        differences: &[],
    };
    check("paths by an address", &case, Some(&behind.socket()), None);
}

#[test]
fn text_of_servers_has_the_charset_of_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    for text in [
        "server {\n listen LISTEN;\n charset utf-8;\n proxy_set_header Host $http_host;\n\
         default_type text/plain;\n\
         location / { proxy_pass http://unix:BACKEND; }\n\
         location /text { return 200 text; }\n location /moved { return 301 /; }\n}",
        "server {\n listen LISTEN;\n proxy_set_header Host $http_host;\n\
         location / { proxy_pass http://unix:BACKEND; }\n\
         location = /stream { charset koi8-r; proxy_pass http://unix:BACKEND; }\n}",
    ] {
        let case = Case {
            text,
            requests: &["/stream", "/x", "/text", "/moved", "/cookies"],
            fields: &["Content-Type"],
            differences: &[],
        };
        check("charset", &case, Some(&behind.socket()), None);
    }
}

#[test]
fn restrictions_hold_for_what_begins_so_and_in_any_case_as_in_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "types { text/html html; text/css css; text/plain txt; }\n\
               server {\n listen LISTEN;\n root DIR/www;\n\
               location / { proxy_pass http://unix:BACKEND; proxy_set_header Host $http_host; }\n\
               location ~ ^/(secret|private) { deny all; }\n\
               location ~* ^/hidden { deny all; }\n\
               location ~* ^/admin/login$ { return 403; }\n\
               location /inner { deny all; location /inner/open { allow all; return 200 open; } }\n\
               location /read { limit_except GET { deny all; } proxy_pass http://unix:BACKEND; proxy_set_header Host $http_host; }\n\
               location /gone { return 410; }\n\
               location /fixed/ { return 200 fixed; }\n\
               location ~ ^/(one|two)/ { return 200 regex; }\n\
               location /static { allow 192.0.2.1; deny all; }\n\
               location /pages { alias DIR/www/static; allow 192.0.2.1; deny all; }\n\
               location /password { auth_basic x; auth_basic_user_file DIR/htpasswd; proxy_pass http://unix:BACKEND; }\n\
               location /replaced { auth_basic x; auth_basic_user_file DIR/htpasswd; proxy_pass http://unix:BACKEND:/v1; }\n}",
        requests: &[
            "/",
            "/secret",
            "/secret/x",
            "/secrets",
            "/secret.bak?x",
            "/%73ecrets",
            "/x/../secrets",
            "//secrets",
            "/Secret",
            "/secre",
            "POST /private_x",
            "HEAD /privatex",
            "/hidden",
            "/HIDDEN/x",
            "/Hiddenx",
            "/admin/login",
            "/ADMIN/Login",
            "/admin/login/",
            "/admin/Login2",
            "/inner",
            "/innerx",
            "/inner/open/x",
            "/read/x",
            "/readx",
            "POST /read/x",
            "POST /readx",
            "/gone",
            "/gonex",
            "/fixed",
            "/fixed/",
            "/fixed/x",
            "/fixedx",
            "/one",
            "/one/x",
            "/two/",
            "/static/a.css",
            "/static_x",
            "/pages/a.css",
            "/pagesx",
            "/password",
            "/passwords",
            "/replaced/x",
            "/replacedx",
        ],
        fields: &[],
        differences: &[],
    };
    check("restrictions", &case, Some(&behind.socket()), None);
}

#[test]
fn a_server_gets_all_paths_of_a_location_without_a_directory_as_by_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n\
               location / { if (!-f $request_filename) { proxy_pass http://unix:BACKEND; break; } }\n\
               location /nginx/ { root html; try_files $uri @app; }\n\
               location /old/ { root html; if (!-f $request_filename) { proxy_pass http://unix:BACKEND; } }\n\
               location /page/ { root html; error_page 404 = @app; }\n\
               location /none/ { root html; }\n\
               location @app { proxy_pass http://unix:BACKEND; proxy_set_header Host $host; }\n}",
        requests: &[
            "/",
            "/x?y=1",
            "POST /x",
            "/nginx/a.css",
            "/nginx/",
            "/old/a",
            "/page/a",
            "/none/a",
        ],
        fields: &["Location"],
        differences: &[],
    };
    check("no directory", &case, Some(&behind.socket()), None);
}

#[test]
fn variables_of_a_file_name_directories_hosts_and_nothing_in_expressions_as_in_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n server_name site.test;\n set $base DIR;\n set $site $base/www;\n\
               types { text/html html; text/css css; text/plain txt; }\n\
               location /static { alias DIR/www/static; }\n\
               location /s/ { alias $base/www/static/; }\n\
               location / { root ${base}/www; index index.html; try_files $uri $uri/ /; }\n\
               location = /www { return 301 https://www.$host$request_uri; }\n\
               location = /scheme { return 302 $scheme://www.$host/; }\n\
               location = /port { return 301 http://a.$http_host:81$request_uri; }\n\
               location /up/ { rewrite ^(.*)$http_host(.*[^/])$ $1$http_host$2/ permanent; proxy_pass http://unix:BACKEND; proxy_set_header Host $host; }\n}",
        requests: &[
            "/",
            "/about.html",
            "/none/page",
            "/s/a.css",
            "/static/a.css",
            "/s/none.css",
            "/www?a=1",
            "/scheme",
            "/port",
            "/up/x",
            "/up/site.test/y",
        ],
        fields: &["Location"],
        differences: &[],
    };
    check("variables", &case, Some(&behind.socket()), None);
}

#[test]
fn an_application_is_served_as_behind_nginx_and_uwsgi() {
    let Some(behind) = mirror(&["--socket"]) else {
        return;
    };
    let case = Case {
        text: "upstream django { server unix:BACKEND; }\n\
               server {\n listen LISTEN;\n charset utf-8;\n client_max_body_size 75M;\n PARAMS\
               location /static { alias DIR/www/static; }\n\
               location /protected/ { internal; alias DIR/protected/; }\n\
               location /admin/ { uwsgi_pass django; add_header X-Frame-Options DENY always; }\n\
               location / { uwsgi_pass django; uwsgi_read_timeout 30; }\n}",
        requests: &[
            "/",
            "/a/b?c=d",
            "POST /form",
            "/status/404",
            "/redirect",
            "/static/a.css",
            "/admin/x",
            "/admin",
            "/accel",
            "/protected/file.txt",
            "/cookies",
        ],
        fields: &["Location", "X-Frame-Options", "Set-Cookie"],
        differences: &[],
    };
    check("application", &case, Some(&behind.socket()), Some("mirror"));
}

#[test]
fn an_application_has_nginx_s_conditions_and_regular_expressions_before_it() {
    let Some(behind) = mirror(&["--socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n client_max_body_size 2M;\n PARAMS\
               if ($request_method !~ ^(GET|HEAD|POST|OPTIONS)$) { return 444; }\n\
               location ~ /\\.(?!well-known) { deny all; }\n\
               location ~ \\.php$ { return 404; }\n\
               location /static/ { alias DIR/www/static/; }\n\
               location /upload/ { limit_except GET { deny all; } uwsgi_pass unix:BACKEND; }\n\
               location / {\n if ($request_method = OPTIONS) { add_header Access-Control-Allow-Origin *; return 204; }\n\
               add_header Access-Control-Allow-Origin * always; uwsgi_pass unix:BACKEND; }\n}",
        requests: &[
            "/",
            "HEAD /",
            "POST /form",
            "OPTIONS /form",
            "DELETE closed.test/form",
            "PUT closed.test/upload/x",
            "/.env",
            "/a/.git/config",
            "/.well-known/x",
            "/index.php",
            "/static/a.css",
            "/static/.x",
            "OPTIONS /upload/x",
            "POST /upload/x",
            "/upload/x",
            "/status/404",
        ],
        fields: &["Access-Control-Allow-Origin"],
        differences: &[],
    };
    check("conditions", &case, Some(&behind.socket()), Some("mirror"));
}

#[test]
fn a_server_of_uwsgi_does_not_see_a_prefix_that_rewrite_takes_away_as_by_nginx() {
    let Some(behind) = mirror(&["--socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n server_name site.test;\nPARAMS\n\
               location /api/ { rewrite ^/api/(.*)$ /$1 break; uwsgi_pass unix:BACKEND; }\n\
               location /pod { rewrite /pod(.*) $1 break; uwsgi_pass unix:BACKEND; PARAMS uwsgi_param DEPLOYMENT one; }\n\
               location /v1 { rewrite /v1/(.+) /$1 break; uwsgi_pass unix:BACKEND; }\n\
               location / { uwsgi_pass unix:BACKEND; }\n}",
        requests: &[
            "/api/x?y=1",
            "/api/a%20b/c",
            "/api/",
            "POST /api/x",
            "/pod/x",
            "/pod/pod/x",
            "/v1/x/v1/y",
            "/podcast",
            "/x",
        ],
        fields: &["Location"],
        differences: &[("/podcast", "a location has whole segments of the path")],
    };
    check("stripped prefixes", &case, Some(&behind.socket()), None);
}

#[test]
fn hosts_select_servers_as_in_nginx() {
    let case = Case {
        text: "default_type text/plain;\n\
               server { listen LISTEN default_server; server_name _; return 444; }\n\
               server { listen LISTEN; server_name site.test; location / { return 200 one; } location = /x { return 200 exact; } }\n\
               server { listen LISTEN; server_name *.site.test; location / { return 200 wildcard; } }\n\
               server { listen LISTEN; server_name www.site.test; return 301 http://site.test$request_uri; }\n\
               server { listen LISTEN; server_name .two.test; location /x/ { return 200 two; } location / { return 404; } }",
        requests: &[
            "/",
            "/x",
            "/x/",
            "a.site.test/",
            "a.b.site.test/y",
            "www.site.test/p?q=1",
            "two.test/x/",
            "w.two.test/x/y",
            "two.test/",
            "closed.test/",
            "SITE.TEST:80/",
        ],
        fields: &["Location", "Content-Type"],
        differences: &[],
    };
    check("hosts", &case, None, None);
}

#[test]
fn conditions_on_the_host_are_sites_of_their_own() {
    let case = Case {
        text: "default_type text/plain;\n\
               server {\n listen LISTEN;\n server_name site.test www.site.test old.test;\n\
               if ($host = 'www.site.test') { return 301 http://site.test$request_uri; }\n\
               if ($host = old.test) { return 302 https://$host$request_uri; }\n\
               location /a/ { return 200 a; }\n location / { return 200 root; }\n}",
        requests: &[
            "/",
            "/a/x",
            "www.site.test/a/x?y=1",
            "www.site.test/",
            "old.test/p",
            "other.test/a/",
        ],
        fields: &["Location"],
        differences: &[],
    };
    check("conditions on the host", &case, None, None);
}

#[test]
fn prefixes_are_replaced_as_by_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n proxy_set_header Host $host;\n\
               location /one/ { proxy_pass http://unix:BACKEND:/; }\n\
               location /two/ { proxy_pass http://unix:BACKEND:/base/; }\n\
               location /three/ { proxy_pass http://unix:BACKEND; }\n\
               location /slip { proxy_pass http://unix:BACKEND:/; }\n\
               location ~ ^/(four|five)/ { proxy_pass http://unix:BACKEND; }\n\
               location / { return 404; }\n}",
        requests: &[
            "/one/x?y",
            "/one/",
            "/one",
            "/two/x/y",
            "/two/../three/x",
            "/three/x",
            "/four/x",
            "/five/",
            "/four",
            "/six/x",
            "/slip",
            "/slip/x",
        ],
        fields: &["Location"],
        differences: &[("/slip/x", "nginx sends //x")],
    };
    check("prefixes", &case, Some(&behind.socket()), None);
}

#[test]
fn fixed_responses_are_nginx_s() {
    let case = Case {
        text: "server {\n listen LISTEN;\n default_type text/plain;\n\
               location = /healthz { return 200 \"ok\\n\"; }\n\
               location = /json { default_type application/json; return 200 '{\"a\": 1}'; }\n\
               location = /gone { return 410; }\n\
               location = /empty { return 204; }\n\
               location = /old { return 301 /new/; }\n\
               location /docs/ { return 302 https://docs.test$request_uri; }\n\
               location /moved/ { rewrite ^ https://moved.test$request_uri? permanent; }\n\
               location /closed/ { deny all; }\n\
               location / { return 403; }\n}",
        requests: &[
            "/healthz",
            "/json",
            "/gone",
            "/empty",
            "/old",
            "/old?x=1",
            "/docs/a?b=c",
            "/docs/",
            "/moved/a/b?c=d",
            "/closed/x",
            "/",
            "POST /healthz",
        ],
        fields: &["Location", "Content-Type"],
        differences: &[],
    };
    check("fixed responses", &case, None, None);
}

#[test]
fn error_pages_are_nginx_s() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "types { text/html html; }\ncharset utf-8;\nserver {\n listen LISTEN;\n root DIR/www;\n\
               error_page 404 /404.html;\n error_page 500 502 503 504 /50x.html;\n\
               location = /50x.html { root DIR/errors; }\n\
               location /app/ { proxy_pass http://unix:BACKEND:/; proxy_intercept_errors on; }\n\
               location /raw/ { proxy_pass http://unix:BACKEND:/; }\n\
               location / { }\n}",
        requests: &[
            "/none",
            "/app/status/404",
            "/app/status/503",
            "/raw/status/404",
            "/50x.html",
            "/about.html",
        ],
        fields: &["X-Case", "Content-Type"],
        differences: &[],
    };
    check("error pages", &case, Some(&behind.socket()), None);
}

#[test]
fn a_prefix_with_a_slash_leaves_the_path_without_it_to_others_as_in_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n root DIR/www;\n error_page 404 /404.html;\n\
               location = /404.html { internal; }\n\
               location / { proxy_pass http://unix:BACKEND; }\n\
               location /old/ { return 301 /new/; }\n\
               location ~ ^/(a|b)/ { return 200 ab; }\n\
               location /deny/ { deny all; }\n\
               location /f { return 200 f; }\n location /f/g/ { return 200 g; }\n\
               location /named/ { root DIR/www; try_files $uri @app; }\n\
               location @app { proxy_pass http://unix:BACKEND; }\n}",
        requests: &[
            "/old",
            "/old/",
            "/old/x",
            "/a",
            "/a/x",
            "/b",
            "/deny",
            "/deny/x",
            "/f",
            "/f/g",
            "/f/g/",
            "/404.html",
            "/named/x",
        ],
        fields: &["Location"],
        differences: &[],
    };
    check("slashes", &case, Some(&behind.socket()), None);
}

#[test]
fn parts_of_paths_are_refused_as_by_nginx_s_regular_expressions() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n root DIR/www;\n\
               location / { try_files $uri $uri/ @app; }\n\
               location /p/ { proxy_pass http://unix:BACKEND; }\n\
               location ^~ /free/ { proxy_pass http://unix:BACKEND; }\n\
               location @app { proxy_pass http://unix:BACKEND; }\n\
               include DIR/mime.types; location = /map.json { alias DIR/www/robots.txt; }\n\
               location ~ /\\.(?!well-known) { deny all; access_log off; log_not_found off; }\n\
               location ~ \\.php$ { return 404; }\n\
               location ~* /(wp-admin|xmlrpc\\.php) { return 410; }\n\
               location ~* \\.(css|js)$ { expires 1h; }\n}",
        requests: &[
            "/.hidden",
            "/.git/config",
            "/p/.env",
            "/p/a/.git/x",
            "/p/%2Eenv",
            "/p/x.php",
            "/x.php",
            "/p/wp-admin/",
            "/WP-Admin",
            "/x/xmlrpc.phpx",
            "/p/x",
            "/p/a.b",
            "/free/.env",
            "/free/x.php",
            "/.well-known/acme-challenge/x",
            "/p/.well-known/x",
            "/static/a.css",
            "/static/.x.css",
            "/p/none.css",
            "/map.json",
        ],
        fields: &[],
        differences: &[],
    };
    check("parts of paths", &case, Some(&behind.socket()), None);
}

#[test]
fn an_upstream_block_has_the_name_and_the_paths_that_nginx_gives_it() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "upstream one { server unix:BACKEND; }\n upstream two { server unix:BACKEND weight=1; server 127.0.0.1:1 down; keepalive 8; }\n\
               server {\n listen LISTEN;\n\
               location / { proxy_pass http://one; }\n\
               location /two/ { proxy_pass http://two/other/; }\n\
               location /host/ { proxy_pass http://two; proxy_set_header Host $host; }\n\
               location ~ ^/v2/(.*)$ { proxy_pass http://one/api/$1$is_args$args; }\n\
               location ~ ^/v3/(.*)$ { proxy_pass http://one/$1?$args; proxy_set_header Host $proxy_host; }\n}",
        requests: &[
            "/a/b?c=d",
            "/two/x?y",
            "/two/",
            "/two",
            "/host/x",
            "/v2/x/y?z=1",
            "/v2/",
            "/v3/x",
            "/v3/x?y",
        ],
        fields: &["Location"],
        differences: &[],
    };
    check("upstream blocks", &case, Some(&behind.socket()), None);
}

#[test]
fn conditions_on_the_method_are_nginx_s() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n root DIR/www;\n if ($request_method ~ ^(TRACE|PURGE)$) { return 405; }\n\
               if ($request_method = PATCH) { return 308 https://other.test$request_uri; }\n\
               add_header X-Outer one;\n\
               location / {\n if ($request_method = 'OPTIONS') {\n\
               add_header 'Access-Control-Allow-Origin' '*';\n\
               add_header 'Access-Control-Max-Age' 1728000;\n\
               add_header 'Content-Type' 'text/plain; charset=utf-8';\n\
               add_header 'Content-Length' 0;\n return 204;\n }\n\
               if ($request_method ~* \"(GET|POST)\") { add_header 'Access-Control-Allow-Origin' '*' always; }\n\
               if ($request_method = DELETE) { return 301 /gone; }\n\
               proxy_pass http://unix:BACKEND; }\n\
               location /read/ { limit_except GET { deny all; } proxy_pass http://unix:BACKEND; }\n\
               location = /exact { if ($request_method != GET) { return 403; } return 200 exact; }\n\
               location /static/ { if ($request_method !~ ^(GET|HEAD)$) { return 403; } }\n\
               location /media/ { error_page 418 = @other; if ($request_method = POST) { return 418; } try_files $uri @app; }\n\
               location @app { proxy_pass http://unix:BACKEND; add_header X-Own app; }\n\
               location @other { proxy_pass http://unix:BACKEND; add_header X-Own other; }\n\
               location /e418 { error_page 418 = @other; return 418; }\n\
               location /opaque { add_header X-Own two; if ($request_method = POST) { return 200 posted; } proxy_pass http://unix:BACKEND; }\n}",
        requests: &[
            "/x",
            "HEAD /x",
            "POST /x",
            "PUT /x",
            "OPTIONS /x",
            "DELETE /x",
            "PURGE /x",
            "PATCH /x?y",
            "PATCH /read/x?y",
            "PATCH /exact",
            "PATCH /static/a.css",
            "/status/404",
            "HEAD /status/404",
            "/read/x",
            "HEAD /read/x",
            "POST /read/x",
            "DELETE /read/x",
            "PURGE /read/x",
            "/exact",
            "HEAD /exact",
            "POST /exact",
            "PURGE /exact",
            "/static/a.css",
            "HEAD /static/a.css",
            "POST /static/a.css",
            "PURGE /static/a.css",
            "/opaque",
            "/media/x",
            "/media/b.txt",
            "POST /media/x",
            "/e418",
            "POST /e418",
            "POST /opaque",
        ],
        fields: &[
            "Access-Control-Allow-Origin",
            "Access-Control-Max-Age",
            "X-Outer",
            "X-Own",
            "Location",
        ],
        differences: &[],
    };
    check("methods", &case, Some(&behind.socket()), None);
}

#[test]
fn headers_of_locations_are_nginx_s() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n add_header X-Outer one;\n add_header X-Always two always;\n\
               location /inner/ { add_header X-Inner three; proxy_pass http://unix:BACKEND:/; }\n\
               location /hide/ { proxy_hide_header X-Case; proxy_pass http://unix:BACKEND:/; }\n\
               location /age/ { expires 10m; proxy_pass http://unix:BACKEND:/; }\n\
               location / { proxy_pass http://unix:BACKEND; }\n}",
        requests: &[
            "/",
            "/status/404",
            "/inner/",
            "/inner/status/500",
            "/hide/status/200",
            "/age/x",
            "/age/status/404",
        ],
        fields: &["X-Outer", "X-Always", "X-Inner", "X-Case", "Cache-Control"],
        differences: &[],
    };
    check("headers", &case, Some(&behind.socket()), None);
}

#[test]
fn extensions_select_locations_as_nginx_s_regular_expressions_do() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "types { text/html html; text/css css; text/plain txt; }\nserver {\n listen LISTEN;\n root DIR/www;\n\
               add_header X-Site one;\n\
               location / { try_files $uri $uri/ =404; }\n\
               location ~* \\.(css|js)$ { expires 30d; add_header X-Kind asset; }\n\
               location ~ \\.txt$ { deny all; }\n\
               location ~ \\.css$ { return 500; }\n\
               location /media/ { alias DIR/other/; location ~ \\.html$ { return 204; } }\n\
               location ^~ /static/ { add_header X-Kind final; }\n\
               location /app/ { proxy_pass http://unix:BACKEND:/; proxy_set_header Host $host; }\n\
               location = /robots.txt { }\n}",
        requests: &[
            "/a.css",
            "/A.CSS",
            "/x.js?a=b",
            "/none.css",
            "/static/a.css",
            "/media/b.txt",
            "/media/x.html",
            "/media/none",
            "/robots.txt",
            "/about.html",
            "/app/x",
            "/app/x.txt",
            "/app/x.css",
            "/x.txt/..%2fa.css",
        ],
        fields: &["X-Site", "X-Kind"],
        differences: &[],
    };
    check("extensions", &case, Some(&behind.socket()), None);
}

#[test]
fn rewrites_of_known_shapes_are_nginx_s() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n root DIR/www;\n proxy_set_header Host $host;\n\
               rewrite ^/robots2\\.txt$ /robots.txt last;\n\
               rewrite ^/blog/?$ /news/ permanent;\n\
               rewrite ^/archive/(.*)$ https://old.test/$1 redirect;\n\
               rewrite ^/query$ /target? permanent;\n\
               location ~ ^/old/(.*)$ { return 301 /new/$1$is_args$args; }\n\
               location /api/ { rewrite ^/api/(.*)$ /$1 break; proxy_pass http://unix:BACKEND; }\n\
               location /deep/ { rewrite ^/deep(/.*)$ /base$1 break; proxy_pass http://unix:BACKEND; }\n\
               location / { rewrite ^/home$ / permanent; try_files $uri =404; }\n}",
        requests: &[
            "/robots2.txt",
            "/blog",
            "/blog/",
            "/blog?x=1",
            "/blog/x",
            "/archive/a/b?c=d",
            "/query?a=b",
            "/old/a/b?c=d",
            "/api/x?y=1",
            "/api/",
            "/api/redirect",
            "/deep/x",
            "/home?a=b",
            "/about.html",
        ],
        fields: &["Location"],
        differences: &[],
    };
    check("rewrites", &case, Some(&behind.socket()), None);
}

#[test]
fn restrictions_hold_as_in_nginx_before_named_locations_too() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "server {\n listen LISTEN;\n root DIR/www;\n proxy_set_header Host $host;\n\
               location / { auth_basic staff; auth_basic_user_file DIR/htpasswd; try_files $uri @app; }\n\
               location @app { proxy_pass http://unix:BACKEND; }\n\
               location /denied/ { deny 127.0.0.1; deny unix:; proxy_pass http://unix:BACKEND; }\n\
               location /allowed/ { allow 127.0.0.0/8; allow unix:; deny all; proxy_pass http://unix:BACKEND; }\n\
               location /any/ { satisfy any; deny all; auth_basic staff; auth_basic_user_file DIR/htpasswd; proxy_pass http://unix:BACKEND; }\n\
               location /either/ { satisfy any; allow all; auth_basic staff; auth_basic_user_file DIR/htpasswd; proxy_pass http://unix:BACKEND; }\n\
               location = /health { deny all; return 200 ok; }\n\
               location /moved/ { deny all; return 301 /new/; }\n}",
        requests: &[
            "/about.html",
            "/none",
            "/denied/x",
            "/allowed/x",
            "/any/x",
            "/either/x",
            "/health",
            "/moved/x",
        ],
        fields: &["Location"],
        differences: &[],
    };
    check("restrictions", &case, Some(&behind.socket()), None);
}

#[test]
fn a_page_of_a_named_location_takes_the_place_of_errors_as_in_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let case = Case {
        text: "types { text/html html; }\ncharset utf-8;\nserver {\n listen LISTEN;\n root DIR/www;\n\
               error_page 503 @down;\n error_page 404 =200 /about.html;\n\
               location / { proxy_pass http://unix:BACKEND; proxy_set_header Host $host; proxy_intercept_errors on; }\n\
               location @down { root DIR/errors; rewrite ^(.*)$ /50x.html break; }\n\
               location = /about.html { }\n}",
        requests: &[
            "/",
            "/status/503",
            "/status/404",
            "/status/500",
            "/about.html",
        ],
        fields: &["Content-Type"],
        differences: &[],
    };
    check(
        "pages of named locations",
        &case,
        Some(&behind.socket()),
        None,
    );
}

#[test]
fn texts_have_the_types_that_nginx_gives_them() {
    let case = Case {
        text: "include DIR/mime.types;\ndefault_type application/octet-stream;\nserver {\n listen LISTEN;\n charset utf-8;\n\
               location = /robots.txt { return 200 \"User-agent: *\\n\"; }\n\
               location = /a.json { return 200 '{}'; }\n\
               location = /b.js { return 200 'x'; }\n\
               location = /plain { default_type text/plain; return 200 ok; }\n\
               location = /html { default_type text/html; return 200 ok; }\n\
               location /other { return 200 ok; }\n}",
        requests: &[
            "/robots.txt",
            "/a.json",
            "/b.js",
            "/plain",
            "/html",
            "/other",
            "/none",
        ],
        fields: &["Content-Type"],
        differences: &[],
    };
    check("types of texts", &case, None, None);
}

#[test]
fn a_condition_on_other_hosts_is_nginx_s() {
    let case = Case {
        text: "default_type text/plain;\nserver {\n listen LISTEN;\n server_name site.test www.site.test;\n\
               if ($host !~* ^(site\\.test|www\\.site\\.test)$) { return 403; }\n\
               location / { return 200 root; }\n}",
        requests: &["/", "www.site.test/x", "other.test/", "sitextest/"],
        fields: &[],
        differences: &[],
    };
    check("other hosts", &case, None, None);
}

#[test]
fn redirects_to_their_own_slash_end_where_nginx_ends_them() {
    let case = Case {
        text: "default_type text/plain;\nserver {\n listen LISTEN;\n\
               location /app { return 302 /app/; }\n\
               location /app/ { return 200 app; }\n\
               location /docs { return 301 /docs/; }\n\
               location = /wiki { return 307 /wiki/; }\n\
               location /old { return 301 /old/new/; }\n\
               location /old/new { return 200 new; }\n\
               location / { return 200 root; }\n}",
        requests: &[
            "/app",
            "/app/",
            "/app/x",
            "/app?a=b",
            "/docs",
            "/docs/",
            "/wiki",
            "/wiki/",
            "/old",
            "/old/x",
            "/old/new/",
        ],
        fields: &["Location"],
        differences: &[("/docs/", "nginx sends clients round in circles")],
    };
    check("redirects to a slash", &case, None, None);
}

#[test]
fn files_have_the_types_ranges_and_codings_of_their_locations() {
    let case = Case {
        text: "types { text/html html; text/css css; }\ndefault_type image/x-own;\ncharset utf-8;\ngzip on;\ngzip_min_length 1;\n\
               server {\n listen LISTEN;\n root DIR/www;\n\
               location = /unknown { alias DIR/www/plain; }\n\
               location = /json { alias DIR/www/plain; default_type image/x-other; }\n\
               location = /a.html { default_type application/json; return 200 text; }\n\
               location = /b { return 200 text; }\n\
               location = /c { types { } return 200 text; }\n\
               location = /d.html { alias DIR/www/plain; }\n\
               location = /e { alias DIR/www/a.css; }\n\
               location = /f { try_files /a.css =404; }\n\
               location / { return 404; }\n}",
        requests: &[
            "/unknown", "/json", "/a.html", "/b", "/c", "/d.html", "/e", "/f",
        ],
        fields: &["Content-Type"],
        differences: &[("/f", "text files are UTF-8")],
    };
    check("types of files", &case, None, None);
}

#[test]
fn pages_beside_a_condition_on_hosts_are_nginx_s() {
    let case = Case {
        text: "types { text/html html; }\nserver {\n listen LISTEN;\n server_name site.test;\n root DIR/www;\n\
               error_page 404 /about.html;\n error_page 403 /about.html;\n error_page 410 @gone;\n\
               if ($host = old.test) { return 403; }\n\
               if ($host = gone.test) { return 410; }\n\
               if ($host = moved.test) { return 301 https://site.test$request_uri; }\n\
               location @gone { return 200 gone; }\n\
               location /none/ { return 404; }\n}",
        requests: &[
            "/none/x",
            "/about.html",
            "old.test/",
            "gone.test/x",
            "moved.test/x",
        ],
        fields: &["Location"],
        differences: &[],
    };
    check("pages beside conditions", &case, None, None);
}
