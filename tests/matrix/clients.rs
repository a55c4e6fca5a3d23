//! Real clients: curl, ab, h2load, Python's requests and httpx, Node's fetch, Chromium. Each
//! gets pages and files, a part of one, sends bodies, and keeps its connections.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::site::{LARGE, SMALL, bytes_of_file};
use crate::support::behind::program;
use crate::support::provision;
use crate::support::server::{Pyserve, Server};
use crate::support::{skipped, source, temp_dir, write_files};

/// A server, its files, and a body to send.
struct Served {
    server: Server,
    dir: TempDir,
}

/// Status and body, shown as latin-1.
type Answer = (u16, String);

impl Served {
    fn start() -> Self {
        let dir = temp_dir();
        let style = "b { }\n".repeat(500);
        write_files(
            dir.path(),
            &[
                ("static/small.bin", &bytes_of_file(SMALL)),
                ("static/large.bin", &bytes_of_file(LARGE)),
                ("static/style.css", &style),
                ("static/page.html", PAGE),
            ],
        );
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(style.as_bytes()).unwrap();
        let neighbour = dir.path().join("static/style.css.gz");
        std::fs::write(neighbour, packed.finish().unwrap()).unwrap();
        std::fs::write(dir.path().join("body"), latin1_bytes(&body())).unwrap();
        let server = Pyserve::app("matrix.py")
            .watched()
            .args(["--threads", "4", "--root"])
            .args([dir.path()])
            .ready();
        Self { server, dir }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    fn body(&self) -> PathBuf {
        self.dir.path().join("body")
    }

    /// How many connections it has accepted on all its addresses; this asks over one of them.
    fn accepted(&self) -> f64 {
        let accepted = self.server.metric("pyserve_connections_accepted_total");
        accepted.expect("the sample")
    }

    /// Runs a client; what it printed, and how many connections it made.
    #[track_caller]
    fn run(&self, command: &mut Command) -> (String, u64) {
        let before = self.accepted();
        let ran = command.output().expect("it starts");
        let connections = self.accepted() - before;
        let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{command:?}: {printed}\n{said}");
        (printed, connections as u64)
    }
}

fn body() -> String {
    "any bytes\0\r\n\u{ff}".repeat(1000)
}

fn latin1_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|char| char as u8).collect()
}

/// `tests/apps/matrix.py` without cookies.
fn page(filler: usize, body: &str) -> String {
    format!("cookie: \n{}body: {body}", bytes_of_file(filler))
}

/// What the scripts of clients have to get, in their order.
fn answers() -> Vec<Answer> {
    vec![
        (200, page(4_096, "")),
        (200, page(98_304, "")),
        (200, String::new()),
        (200, bytes_of_file(LARGE)),
        (206, "2345".to_owned()),
        (200, "b { }\n".repeat(500)),
        (200, page(4_096, &body())),
        (200, page(4_096, &body())),
        (204, String::new()),
        (200, bytes_of_file(SMALL)),
    ]
}

#[track_caller]
fn assert_answers(printed: &str) {
    let got: Vec<Answer> = serde_json::from_str(printed).expect("JSON");
    for (at, (got, wanted)) in got.iter().zip(answers()).enumerate() {
        assert_eq!(got.0, wanted.0, "answer {at}");
        assert!(got.1 == wanted.1, "answer {at}: {:.200}", got.1);
    }
    assert_eq!(got.len(), answers().len());
}

/// Makes sure that the machine has a program of a package; says so if not.
fn has(name: &str, package: &str) -> bool {
    let is_there = || {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|dir| dir.join(name).exists())
    };
    if is_there() {
        return true;
    }
    let made = provision::directory("clients", |_| vec!["debian".into(), package.into()]);
    match made {
        Ok(_) if is_there() => true,
        Ok(_) => {
            skipped(name, "its package does not bring it");
            false
        }
        Err(why) => {
            skipped(name, &why);
            false
        }
    }
}

#[test]
fn curl_gets_the_same_over_three_versions_of_http() {
    if !has("curl", "curl") {
        return;
    }
    let served = Served::start();
    let url = served.url();
    let large = format!("{url}/static/large.bin");
    let (page_url, streamed) = (format!("{url}/app/page"), format!("{url}/app/streamed"));
    let body_file = format!("@{}", served.body().display());
    let requests: [(&[&str], u16, String); 4] = [
        (&[&page_url], 200, page(4_096, "")),
        (&["--range", "2-5", &large], 206, "2345".to_owned()),
        (
            &["--data-binary", &body_file, &streamed],
            200,
            page(98_304, &body()),
        ),
        (&[&large], 200, bytes_of_file(LARGE)),
    ];
    for (version, name, connections) in [
        ("--http1.0", "1", 4),
        ("--http1.1", "1.1", 1),
        // 7.88.1 fails on a connection of HTTP/2 that it uses again, before any server.
        ("--http2-prior-knowledge", "2", 4),
    ] {
        let got = |number: usize| served.dir.path().join(format!("got{number}"));
        let mut curls = vec![Command::new("curl")];
        for (number, (args, ..)) in requests.iter().enumerate() {
            match name {
                "2" => curls.push(Command::new("curl")),
                _ if number > 0 => _ = curls[0].arg("--next"),
                _ => {}
            }
            let curl = curls.last_mut().expect("one at least");
            curl.args(["-sS", version, "-w", "%{http_version} %{http_code}\n", "-o"])
                .arg(got(number))
                .args(*args);
        }
        let (mut printed, mut made) = (String::new(), 0);
        for mut curl in curls.into_iter().filter(|curl| curl.get_args().len() > 0) {
            let (lines, connections) = served.run(&mut curl);
            printed += &lines;
            made += connections;
        }
        let lines: String = requests
            .iter()
            .map(|(_, status, _)| format!("{name} {status}\n"))
            .collect();
        assert_eq!((printed, made), (lines, connections), "{version}");
        for (number, (_, _, wanted)) in requests.iter().enumerate() {
            let got = std::fs::read(got(number)).unwrap();
            assert!(got == latin1_bytes(wanted), "{version}: {number}");
        }
    }
}

#[test]
fn ab_keeps_its_connections_of_http_1_0() {
    if !has("ab", "apache2-utils") {
        return;
    }
    let served = Served::start();
    let url = served.url();
    for (target, is_post, is_kept) in [
        ("/app/page", false, true),
        ("/app/page", true, true),
        ("/static/small.bin", false, true),
        ("/static/large.bin", false, true),
    ] {
        let mut ab = Command::new("ab");
        ab.args(["-k", "-n", "100", "-c", "2"]);
        if is_post {
            ab.args(["-T", "application/octet-stream", "-p"]);
            ab.arg(served.body());
        }
        ab.arg(format!("{url}{target}"));
        let (printed, _) = served.run(&mut ab);
        let number = |name: &str| -> u32 {
            let line = printed.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0, |rest| rest.trim().parse().expect("a number"))
        };
        assert_eq!(number("Complete requests:"), 100, "{printed}");
        assert_eq!(number("Failed requests:"), 0, "{target} {printed}");
        assert_eq!(number("Non-2xx responses:"), 0, "{target} {printed}");
        let kept = if is_kept { 100 } else { 0 };
        assert_eq!(number("Keep-Alive requests:"), kept, "{target} {printed}");
    }
}

#[test]
fn h2load_s_streams_are_all_answered() {
    if !has("h2load", "nghttp2-client") {
        return;
    }
    let served = Served::start();
    let url = served.url();
    for (target, is_post) in [
        ("/app/page", false),
        ("/app/streamed", false),
        ("/app/page", true),
        ("/static/small.bin", false),
        ("/static/large.bin", false),
    ] {
        for version in ["", "--h1"] {
            let mut h2load = Command::new("h2load");
            h2load.args(["-n", "100", "-c", "2", "-m", "10"]);
            if !version.is_empty() {
                h2load.arg(version);
            }
            if is_post {
                h2load.arg("-d").arg(served.body());
            }
            h2load.arg(format!("{url}{target}"));
            let (printed, connections) = served.run(&mut h2load);
            let all = "100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored";
            assert!(printed.contains(all), "{version} {target}: {printed}");
            let statuses = "status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx";
            assert!(printed.contains(statuses), "{version} {target}: {printed}");
            assert_eq!(connections, 2, "{version} {target}");
        }
    }
}

#[test]
fn requests_and_httpx_get_every_byte() {
    let Some(python) = program("peers", "python") else {
        return;
    };
    let served = Served::start();
    for library in ["requests", "httpx", "httpx2"] {
        let script = source("tests/matrix/clients.py");
        let mut command = Command::new(&python);
        command.arg(script).args([library, &served.url()]);
        let (printed, connections) = served.run(&mut command);
        assert_answers(&printed);
        assert_eq!(connections, 1, "{library}");
    }
}

#[test]
fn fetch_of_node_gets_every_byte() {
    // It has fetch since version 18; older ones are no client of this kind.
    if !has("node", "nodejs") {
        return;
    }
    let served = Served::start();
    let mut command = Command::new("node");
    command
        .arg(source("tests/matrix/clients.mjs"))
        .arg(served.url());
    let (printed, connections) = served.run(&mut command);
    assert_answers(&printed);
    // It uses none again behind a HEAD, which some servers answer with a body, and may open
    // another behind a long response, with any server.
    assert!(connections <= 3, "{connections}");
}

/// A page that does in a browser what the scripts do, and shows what came of it.
const PAGE: &str = "<!doctype html><title>page</title><link rel=stylesheet href=style.css>
<body><script type=module>
const answers = [];
async function ask(path, options) {
  const answer = await fetch(path, options);
  answers.push(answer.status + ':' + (await answer.text()).length);
}
await ask('/app/page');
await ask('/app/streamed');
await ask('/static/large.bin');
await ask('/static/large.bin', {headers: {Range: 'bytes=2-5'}});
await ask('/app/page', {method: 'POST', body: 'x'.repeat(1000)});
const color = document.styleSheets[0].cssRules.length;
document.body.textContent = 'got ' + answers.join(' ') + ' rules ' + color;
</script>";

#[test]
fn chromium_shows_a_page_that_fetches() {
    // Too large to be installed for this alone.
    let Some(chromium) = ["/usr/bin/chromium", "/usr/bin/chromium-browser"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
    else {
        return skipped("a page in Chromium", "there is no /usr/bin/chromium");
    };
    let served = Served::start();
    let mut command = Command::new(chromium);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .args(["--virtual-time-budget=20000", "--no-proxy-server"])
        .arg(format!(
            "--user-data-dir={}",
            served.dir.path().join("profile").display()
        ))
        .arg(format!("{}/static/page.html", served.url()));
    let (printed, _) = served.run(&mut command);
    let lengths = [
        (200, page(4_096, "").len()),
        (200, page(98_304, "").len()),
        (200, LARGE),
        (206, 4),
        (200, page(4_096, "").len() + 1000),
    ];
    let answers = lengths.map(|(status, length)| format!("{status}:{length} "));
    let wanted = format!("got {}rules 500", answers.concat());
    assert!(printed.contains(&wanted), "{wanted}: {printed}");
}
