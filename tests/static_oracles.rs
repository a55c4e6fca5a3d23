//! The same requests on the same tree to pyserve, nginx and tower-http's `ServeDir`.
//!
//! Where the three differ, [`DIFFERENCES`] says so and why; anything else fails, and so does
//! a difference that is none any more.

use std::collections::BTreeSet;
use std::path::Path;

use http_body_util::BodyExt;
use tempfile::TempDir;
use tower::ServiceExt;
use tower_http::services::ServeDir;

use crate::support::nginx::Nginx;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, request};
use crate::support::{skipped, temp_dir, write_files};

/// What we compare of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: u16,
    length: Option<String>,
    range: Option<String>,
    coding: Option<String>,
    /// Of 200 and 206 alone: error pages are everyone's own. Parts are compared elsewhere.
    body: Option<Vec<u8>>,
}

/// A request: method, target, header lines.
type Question = (&'static str, &'static str, &'static str);

const QUESTIONS: &[Question] = &[
    ("GET", "/static/ten.txt", ""),
    ("HEAD", "/static/ten.txt", ""),
    ("GET", "/static/empty.txt", ""),
    ("GET", "/static/large.bin", ""),
    ("HEAD", "/static/large.bin", ""),
    ("GET", "/static/with%20space.txt", ""),
    ("GET", "/static/caf%C3%A9.txt", ""),
    ("GET", "/static/100%25.txt", ""),
    ("GET", "/static/a+b.txt", ""),
    ("GET", "/static/missing.txt", ""),
    ("GET", "/static/ten.txt/", ""),
    ("GET", "/static/ten.txt/x", ""),
    ("GET", "/static/dir/", ""),
    ("GET", "/static/dir", ""),
    ("GET", "/static/bare/", ""),
    ("GET", "/static//ten.txt", ""),
    ("GET", "/static/./ten.txt", ""),
    ("GET", "/static/dir/../ten.txt", ""),
    ("GET", "/static/../secret.txt", ""),
    ("GET", "/static/%2e%2e/secret.txt", ""),
    ("GET", "/static/..%2fsecret.txt", ""),
    ("GET", "/static/.hidden", ""),
    ("GET", "/static/ten.txt?query", ""),
    ("POST", "/static/ten.txt", ""),
    ("DELETE", "/static/ten.txt", ""),
    ("OPTIONS", "/static/ten.txt", ""),
    ("GET", "/static/ten.txt", "Range: bytes=0-0"),
    ("GET", "/static/ten.txt", "Range: bytes=2-5"),
    ("GET", "/static/ten.txt", "Range: bytes=5-"),
    ("GET", "/static/ten.txt", "Range: bytes=-3"),
    ("GET", "/static/ten.txt", "Range: bytes=0-99"),
    ("GET", "/static/ten.txt", "Range: bytes=-99"),
    ("GET", "/static/ten.txt", "Range: bytes=10-"),
    ("GET", "/static/ten.txt", "Range: bytes=-0"),
    ("GET", "/static/ten.txt", "Range: bytes=5-2"),
    ("GET", "/static/ten.txt", "Range: bytes=a-b"),
    ("GET", "/static/ten.txt", "Range: lines=0-1"),
    ("GET", "/static/ten.txt", "Range: bytes=0-1,0-2"),
    ("GET", "/static/empty.txt", "Range: bytes=0-"),
    ("HEAD", "/static/ten.txt", "Range: bytes=0-1"),
    ("GET", "/static/large.bin", "Range: bytes=100000-250000"),
    ("GET", "/static/ten.txt", "If-None-Match: *"),
    ("GET", "/static/ten.txt", "If-None-Match: \"other\""),
    ("GET", "/static/ten.txt", "If-Match: \"other\""),
    ("GET", "/static/ten.txt", "If-Match: *"),
    (
        "GET",
        "/static/ten.txt",
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    ),
    (
        "GET",
        "/static/ten.txt",
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT",
    ),
    (
        "GET",
        "/static/ten.txt",
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:38 GMT",
    ),
    ("GET", "/static/ten.txt", "If-Modified-Since: nonsense"),
    (
        "GET",
        "/static/ten.txt",
        "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT",
    ),
    (
        "GET",
        "/static/ten.txt",
        "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    ),
    (
        "GET",
        "/static/ten.txt",
        "Range: bytes=0-1\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT",
    ),
    (
        "GET",
        "/static/ten.txt",
        "Range: bytes=0-1\r\nIf-Range: Sun, 06 Nov 1994 08:49:36 GMT",
    ),
    (
        "GET",
        "/static/ten.txt",
        "Range: bytes=0-1\r\nIf-Range: \"other\"",
    ),
    ("GET", "/static/script.js", "Accept-Encoding: gzip"),
    ("GET", "/static/script.js", "Accept-Encoding: gzip;q=0"),
    (
        "GET",
        "/static/script.js",
        "Accept-Encoding: identity;q=0, gzip",
    ),
    ("GET", "/static/script.js", "Accept-Encoding: *"),
    (
        "GET",
        "/static/script.js",
        "Accept-Encoding: identity, gzip;q=0.5",
    ),
    ("GET", "/static/ten.txt", "Accept-Encoding: identity;q=0"),
    (
        "GET",
        "/static/ten.txt",
        "Accept-Encoding: gzip;q=1.0, *;q=0",
    ),
];

/// Who answers otherwise than pyserve, and why we differ.
const DIFFERENCES: &[(&str, Question, &str)] = &[
    (
        "ServeDir",
        ("GET", "/static/ten.txt/", ""),
        "a slash behind a file's name asks for a directory",
    ),
    (
        "ServeDir",
        ("GET", "/static/dir", ""),
        "301 as nginx says it; browsers keep it",
    ),
    (
        "ServeDir",
        ("GET", "/static/dir/../ten.txt", ""),
        "dot segments are resolved, as nginx does",
    ),
    (
        "ServeDir",
        ("GET", "/static/.hidden", ""),
        "dotfiles are not for the public",
    ),
    (
        "ServeDir",
        ("OPTIONS", "/static/ten.txt", ""),
        "RFC 9110 §9.3.7 lets a server say what it allows",
    ),
    (
        "ServeDir",
        ("GET", "/static/ten.txt", "Range: bytes=-99"),
        "RFC 9110 §14.1.2: a suffix longer than the file is the file",
    ),
    (
        "ServeDir",
        ("GET", "/static/ten.txt", "Range: bytes=5-2"),
        "RFC 9110 §14.2 lets us ignore what is invalid, and the client gets the file",
    ),
    (
        "ServeDir",
        ("GET", "/static/ten.txt", "Range: bytes=a-b"),
        "the same",
    ),
    (
        "ServeDir",
        ("GET", "/static/ten.txt", "Range: lines=0-1"),
        "RFC 9110 §14.2: unknown units must be ignored",
    ),
    (
        "ServeDir",
        ("GET", "/static/ten.txt", "Range: bytes=0-1,0-2"),
        "RFC 9110 §15.3.7.2: ranges that overlap may become one",
    ),
    (
        "ServeDir",
        ("GET", "/static/empty.txt", "Range: bytes=0-"),
        "RFC 9110 §14.1.2: nothing has no first byte",
    ),
    (
        "ServeDir",
        ("HEAD", "/static/ten.txt", "Range: bytes=0-1"),
        "RFC 9110 §14.2: ranges are for GET",
    ),
    (
        "ServeDir",
        ("GET", "/static/ten.txt", "If-None-Match: *"),
        "ServeDir has no entity tags",
    ),
    (
        "ServeDir",
        ("GET", "/static/ten.txt", "If-Match: \"other\""),
        "ServeDir has no entity tags",
    ),
    (
        "ServeDir",
        (
            "GET",
            "/static/ten.txt",
            "Range: bytes=0-1\r\nIf-Range: Sun, 06 Nov 1994 08:49:36 GMT",
        ),
        "ServeDir does not know If-Range",
    ),
    (
        "ServeDir",
        (
            "GET",
            "/static/ten.txt",
            "Range: bytes=0-1\r\nIf-Range: \"other\"",
        ),
        "ServeDir does not know If-Range",
    ),
    (
        "ServeDir",
        ("GET", "/static/script.js", "Accept-Encoding: *"),
        "RFC 9110 §12.5.3: a star stands for every coding",
    ),
    (
        "nginx",
        ("GET", "/static/bare/", ""),
        "a directory without an index is nothing, rather than forbidden",
    ),
    (
        "nginx",
        ("GET", "/static/../secret.txt", ""),
        "this nginx serves its whole root; here a file outside every location is none",
    ),
    (
        "nginx",
        ("GET", "/static/%2e%2e/secret.txt", ""),
        "this nginx serves its whole root; here a file outside every location is none",
    ),
    (
        "nginx",
        ("GET", "/static/..%2fsecret.txt", ""),
        "this nginx serves its whole root; here a file outside every location is none",
    ),
    (
        "nginx",
        ("GET", "/static/.hidden", ""),
        "dotfiles are not for the public",
    ),
    (
        "nginx",
        ("OPTIONS", "/static/ten.txt", ""),
        "RFC 9110 §9.3.7 lets a server say what it allows",
    ),
    (
        "nginx",
        ("GET", "/static/ten.txt", "Range: bytes=5-2"),
        "RFC 9110 §14.2 lets us ignore what is invalid, and the client gets the file",
    ),
    (
        "nginx",
        ("GET", "/static/ten.txt", "Range: bytes=a-b"),
        "the same",
    ),
    (
        "nginx",
        ("GET", "/static/ten.txt", "Range: bytes=0-1,0-2"),
        "RFC 9110 §15.3.7.2: ranges that overlap may become one",
    ),
    (
        "nginx",
        ("GET", "/static/empty.txt", "Range: bytes=0-"),
        "RFC 9110 §14.1.2: nothing has no first byte",
    ),
    (
        "nginx",
        ("HEAD", "/static/ten.txt", "Range: bytes=0-1"),
        "RFC 9110 §14.2: ranges are for GET",
    ),
    (
        "nginx",
        ("GET", "/static/script.js", "Accept-Encoding: *"),
        "RFC 9110 §12.5.3: a star stands for every coding",
    ),
    (
        "nginx",
        (
            "GET",
            "/static/script.js",
            "Accept-Encoding: identity, gzip;q=0.5",
        ),
        "RFC 9110 §12.4.2: the heavier one is preferred",
    ),
];

fn tree() -> TempDir {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("static/ten.txt", "0123456789"),
            ("static/empty.txt", ""),
            ("static/with space.txt", "space"),
            ("static/caf\u{e9}.txt", "accent"),
            ("static/100%.txt", "percent"),
            ("static/a+b.txt", "plus"),
            ("static/dir/index.html", "index"),
            ("static/bare/file.txt", "bare"),
            ("static/.hidden", "hidden"),
            ("static/script.js", "a script"),
            ("static/script.js.gz", "a zipped script"),
            ("secret.txt", "SECRET"),
        ],
    );
    let large: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(dir.path().join("static/large.bin"), large).unwrap();
    let time = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
    for name in ["ten.txt", "script.js", "script.js.gz"] {
        let file = std::fs::File::options()
            .write(true)
            .open(dir.path().join("static").join(name))
            .unwrap();
        file.set_modified(time).unwrap();
    }
    dir
}

/// Asks over a connection of its own, so that whoever closes does no harm.
fn ask(mut connection: Connection, (method, target, lines): Question) -> Answer {
    let lines = match lines {
        "" => String::new(),
        lines => format!("{lines}\r\n"),
    };
    let response = connection.exchange(request(method, target, &lines));
    let status = response.status();
    let is_file = matches!(status, 200 | 206) && method != "OPTIONS";
    Answer {
        status,
        length: response.header("Content-Length").filter(|_| is_file),
        range: response.header("Content-Range"),
        coding: response.header("Content-Encoding"),
        body: is_file.then_some(response.body),
    }
}

/// The path decoded and given to `ServeDir`, in this process.
fn ask_serve_dir(runtime: &tokio::runtime::Runtime, root: &Path, question: Question) -> Answer {
    let (method, target, lines) = question;
    let mut request = http::Request::builder().method(method).uri(target);
    for line in lines.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let request = request
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let service = ServeDir::new(root).precompressed_gzip();
    runtime.block_on(async {
        let response = service.oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        let field = |name| {
            let value = head.headers.get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let status = head.status.as_u16();
        let is_file = matches!(status, 200 | 206) && method != "OPTIONS";
        let body = if method == "HEAD" { Vec::new() } else { body };
        Answer {
            status,
            length: field("content-length").filter(|_| is_file),
            range: field("content-range"),
            coding: field("content-encoding"),
            body: is_file.then_some(body),
        }
    })
}

/// Extensions whose type is another one here, and why.
const OTHER_TYPES: &[(&str, &str)] = &[(
    "js",
    "RFC 9239 §6: text/javascript; nginx says application/javascript",
)];

/// nginx with the table that it comes with.
#[test]
fn files_have_the_types_of_nginx_s_own_table() {
    let provisioned = Path::new(env!("CARGO_TARGET_TMPDIR")).join("provision/nginx/root");
    let started = Nginx::start("", "").map(drop);
    let tables = [
        provisioned.join("etc/nginx/mime.types"),
        "/etc/nginx/mime.types".into(),
    ];
    let table = tables.iter().find(|table| table.exists());
    let (Ok(()), Some(table)) = (&started, table) else {
        return skipped(
            "the comparison of types with nginx",
            &format!("{started:?}, {table:?}"),
        );
    };
    let text = std::fs::read_to_string(table).unwrap();
    let lines = text
        .lines()
        .filter(|line| line.contains('/') && line.trim().ends_with(';'));
    let extensions: Vec<&str> = lines
        .flat_map(|line| line.trim().trim_end_matches(';').split_whitespace().skip(1))
        .collect();
    assert!(extensions.len() > 90, "{extensions:?}");
    let site = temp_dir();
    for extension in &extensions {
        write_files(site.path(), &[(&format!("static/a.{extension}"), "x")]);
    }
    let server = Pyserve::new().current_dir(site.path()).ready();
    let http = format!(
        "include {};\ndefault_type application/octet-stream;\n",
        table.display()
    );
    let nginx = Nginx::start(&http, &format!("root {};", site.path().display())).unwrap();
    let (mut ours, mut theirs) = (server.connect(), nginx.connect());
    for extension in extensions {
        let request = request("HEAD", &format!("/static/a.{extension}"), "");
        let [ours, theirs] = [&mut ours, &mut theirs].map(|connection| {
            let said = connection
                .exchange(&request)
                .header("Content-Type")
                .unwrap();
            said.split(';').next().unwrap().to_owned()
        });
        let is_listed = OTHER_TYPES.iter().any(|(other, _)| *other == extension);
        assert!(
            ours == theirs || is_listed,
            "{extension}: {ours}, nginx {theirs}"
        );
    }
}

/// Compares all answers; what differs must be listed, and what is listed must differ.
fn check(who: &str, ours: impl Fn(Question) -> Answer, theirs: impl Fn(Question) -> Answer) {
    let mut found = Vec::new();
    let mut stale: BTreeSet<Question> = DIFFERENCES
        .iter()
        .filter(|(name, ..)| *name == who)
        .map(|(_, question, _)| *question)
        .collect();
    for &question in QUESTIONS {
        let (ours, theirs) = (ours(question), theirs(question));
        if ours == theirs {
            continue;
        }
        if !stale.remove(&question) {
            found.push(format!(
                "{question:?}\n  ours   {ours:?}\n  theirs {theirs:?}"
            ));
        }
    }
    let found: Vec<_> = found
        .iter()
        .map(|text| text.chars().take(400).collect::<String>())
        .collect();
    assert!(found.is_empty(), "{who} differs:\n{}", found.join("\n"));
    assert!(
        stale.is_empty(),
        "{who} does not differ any more: {stale:?}"
    );
}

#[test]
fn files_are_served_as_nginx_and_serve_dir_do_or_otherwise_for_a_reason() {
    let site = tree();
    let server = Pyserve::new().current_dir(site.path()).ready();
    let ours = |question| ask(server.connect(), question);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    check("ServeDir", ours, |question| {
        ask_serve_dir(&runtime, site.path(), question)
    });
    let root = format!("root {};", site.path().display());
    match Nginx::start("gzip_static on;\nif_modified_since before;\n", &root) {
        Ok(nginx) => check("nginx", ours, |question| ask(nginx.connect(), question)),
        Err(why) => skipped("the comparison with nginx", &why),
    }
}
