//! The same requests to nginx and to pyserve with the settings that are its counterpart: hosts,
//! exact locations, header fields, error pages, and `proxy_pass` with a path.
//!
//! If the two differ, [`DIFFERENCES`] says so and why; anything else fails, and so does a
//! difference that is none any more.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::backend::Backend;
use crate::support::nginx::Nginx;
use crate::support::raw::Connection;
use crate::support::server::Pyserve;
use crate::support::{skipped, temp_dir, write_files};

const NGINX: &str = "
    server_name example.org www.example.org;
    root ROOT/site;
    absolute_redirect off;
    add_header X-Server server;
    add_header X-Always always always;
    error_page 404 /404.html;
    error_page 500 502 503 504 /50x.html;
    error_page 410 =200 /empty.txt;
    location = /exact { return 200 exact; }
    location = /exact/ { return 200 'with slash'; }
    location = /one.txt { alias ROOT/elsewhere/file.txt; }
    location /own/ { alias ROOT/site/; add_header X-Own own; }
    location /gone { return 410; }
    location /broken { return 503; }
    location /text { return 404 'a text'; }
    location /moved { return 301 /there; }
    location /up/ { proxy_pass http://BACKEND; }
    location /caught/ {
        proxy_pass http://BACKEND;
        proxy_intercept_errors on;
        proxy_hide_header X-Theirs;
    }
    location /api/ { proxy_pass http://BACKEND/other/; }
    location /named/ { try_files $uri @up; }
    location @up { proxy_pass http://BACKEND; proxy_set_header Host $host; }
    location /cut { return 444; }
}
server {
    listen SOCKET;
    server_name *.example.org;
    return 200 wildcard;
}
server {
    listen SOCKET;
    server_name *.deep.example.org;
    return 200 deep;
}
server {
    listen SOCKET default_server;
    server_name _;
    return 444;
";

const PYSERVE: &str = "
    [[location]]
    host = ['example.org', 'www.example.org']
    static = 'site'
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    path = '/exact'
    respond = 'exact'
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    path = '/exact/'
    respond = 'with slash'
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    path = '/one.txt'
    file = 'elsewhere/file.txt'
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/own'
    static = 'site'
    error_page = PAGES
    header = 'add X-Own: own'

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/gone'
    respond = ''
    status = 410
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/broken'
    respond = ''
    status = 503
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/text'
    respond = 'a text'
    status = 404
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/moved'
    redirect = '/there'
    status = 301
    keep_path = false
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/up'
    upstream = 'http://BACKEND'
    upstream_host = 'server'
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/caught'
    upstream = 'http://BACKEND'
    upstream_host = 'server'
    intercept_errors = true
    error_page = PAGES
    header = ['add X-Server: server', 'always add X-Always: always', 'remove X-Theirs']

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/api'
    upstream = 'http://BACKEND'
    upstream_host = 'server'
    replace_prefix = '/other'
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/named'
    static = 'site/named'
    missing = '@up'
    EACH

    [[location]]
    name = 'up'
    upstream = 'http://BACKEND'
    EACH

    [[location]]
    host = ['example.org', 'www.example.org']
    prefix = '/cut'
    respond = ''
    status = 444

    [[location]]
    host = '*.example.org'
    respond = 'wildcard'

    [[location]]
    host = '*.deep.example.org'
    respond = 'deep'

    [[location]]
    host = '*'
    respond = ''
    status = 444
    ";
const EACH: &str = "error_page = PAGES
    header = ['add X-Server: server', 'always add X-Always: always']";
const PAGES: &str =
    "{ 404 = 'site/404.html', '500,502,503,504' = 'site/50x.html', 410 = '=200 site/empty.txt' }";

/// Host and target.
type Question = (&'static str, &'static str);

const QUESTIONS: &[Question] = &[
    ("example.org", "/ok.txt"),
    ("www.example.org:8080", "/ok.txt"),
    ("EXAMPLE.org.", "/ok.txt"),
    ("a.example.org", "/ok.txt"),
    ("a.b.example.org", "/x"),
    ("deep.example.org", "/x"),
    ("a.deep.example.org", "/x"),
    ("notexample.org", "/ok.txt"),
    ("example.org.evil", "/ok.txt"),
    ("192.0.2.1", "/ok.txt"),
    ("[::1]:80", "/ok.txt"),
    ("example.org", "/cut"),
    ("example.org", "/exact"),
    ("example.org", "/exact?q"),
    ("example.org", "/%65xact"),
    ("example.org", "/exact/"),
    ("example.org", "/exact/x"),
    ("example.org", "/exactly"),
    ("example.org", "/x/../exact"),
    ("example.org", "/one.txt"),
    ("example.org", "/one.txt/x"),
    ("example.org", "/own/ok.txt"),
    ("example.org", "/own/missing"),
    ("example.org", "/missing"),
    ("example.org", "/gone"),
    ("example.org", "/broken"),
    ("example.org", "/text"),
    ("example.org", "/moved"),
    ("example.org", "/up/200"),
    ("example.org", "/up/302"),
    ("example.org", "/up/404"),
    ("example.org", "/up/500"),
    ("example.org", "/caught/200"),
    ("example.org", "/caught/404"),
    ("example.org", "/caught/401"),
    ("example.org", "/caught/500"),
    ("example.org", "/caught/504"),
    ("example.org", "/caught/410"),
    ("example.org", "/caught/418"),
    ("example.org", "/api/200"),
    ("example.org", "/api/x/200?q=/api/"),
    ("example.org", "/api/302"),
    ("example.org", "/api/a%20b/200"),
    ("example.org", "/api/x/../200"),
    ("example.org", "/api/x/%2e%2e/200"),
    ("example.org", "/api/../../200"),
    ("example.org", "/api//200"),
    ("example.org", "/api/a%2Fb/200"),
    ("example.org", "/named/there.txt"),
    ("example.org", "/named/200"),
];

/// The questions that pyserve answers otherwise, with the reasons.
const DIFFERENCES: &[(Question, &str)] = &[
    (
        ("example.org", "/api//200"),
        "nginx replaces the prefix in the normalized path; here the rest is what the client sent",
    ),
    (
        ("example.org", "/api/a%2Fb/200"),
        "nginx decodes the slash; here the rest is what the client sent",
    ),
    (
        ("example.org", "/own/missing"),
        "nginx adds the fields of the location that has the page; here those of the request's",
    ),
];

/// The parts that are compared; `None` for no response.
type Answer = Option<(u16, String, Vec<(&'static str, String)>)>;

const FIELDS: [&str; 7] = [
    "X-Server",
    "X-Always",
    "X-Own",
    "X-Theirs",
    "Location",
    "Set-Cookie",
    "WWW-Authenticate",
];

fn asked(mut connection: Connection, (host, target): Question) -> Answer {
    connection.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ));
    let head = connection.try_head().ok()?;
    let mut response = head;
    let is_chunked = response.header("Transfer-Encoding").is_some();
    assert!(!is_chunked, "{target}: {response:?}");
    response.body = connection.rest().0;
    let fields = FIELDS.map(|name| (name, response.headers(name).join("|")));
    // Built-in pages of errors and redirects differ in their text.
    let is_built_in = response.text().contains("<title>") || response.status() == 301;
    let body = match is_built_in {
        true => "built-in".to_owned(),
        false => response.text(),
    };
    Some((response.status(), body, fields.into()))
}

/// Answers `/…/STATUS` with that status, its request line and `Host`.
fn backend() -> Backend {
    Backend::tcp(|mut call| {
        while let Some(head) = call.http_head() {
            let target = head.split(' ').nth(1).unwrap_or_default();
            let path = target.split('?').next().unwrap_or_default();
            let status = path.rsplit('/').next().unwrap_or_default();
            let host = head.lines().find_map(|line| line.strip_prefix("Host: "));
            let body = format!("{target} {}", host.unwrap_or_default());
            let location = format!("Location: http://{}{target}\r\n", host.unwrap_or_default());
            let location = if status == "302" { &*location } else { "" };
            call.send(format!(
                "HTTP/1.1 {status} As Given\r\n{location}X-Theirs: theirs\r\nSet-Cookie: a=b\r\n\
                 WWW-Authenticate: Basic\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

fn tree(dir: &Path) {
    write_files(
        dir,
        &[
            ("site/ok.txt", "ok"),
            ("site/404.html", "our 404"),
            ("site/50x.html", "our 50x"),
            ("site/empty.txt", "empty"),
            ("site/named/there.txt", "there"),
            ("elsewhere/file.txt", "file"),
        ],
    );
}

#[test]
fn counterparts_of_nginx_s_directives_answer_as_nginx_does() {
    let (dir, backend) = (temp_dir(), backend());
    tree(dir.path());
    let root = dir.path().display().to_string();
    let conf = NGINX
        .replace("ROOT", &root)
        .replace("BACKEND", backend.address());
    let nginx = match Nginx::start("", &conf) {
        Ok(nginx) => nginx,
        Err(why) => return skipped("the comparison with nginx", &why),
    };
    let toml = PYSERVE
        .replace("EACH", EACH)
        .replace("PAGES", PAGES)
        .replace("BACKEND", backend.address());
    write_files(dir.path(), &[("pyserve.toml", &toml)]);
    let server = Pyserve::new().current_dir(dir.path()).ready();
    let mut wrong = Vec::new();
    let mut differ = BTreeSet::new();
    for question in QUESTIONS {
        let theirs = asked(nginx.connect(), *question);
        let ours = asked(server.connect(), *question);
        let is_listed = DIFFERENCES.iter().any(|(listed, _)| listed == question);
        if theirs != ours {
            differ.insert(*question);
            if !is_listed {
                wrong.push(format!(
                    "{question:?}\n  nginx:   {theirs:?}\n  pyserve: {ours:?}"
                ));
            }
        }
    }
    let mut stale = DIFFERENCES
        .iter()
        .filter(|(listed, _)| !differ.contains(listed));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(stale.next(), None, "no difference any more");
}
