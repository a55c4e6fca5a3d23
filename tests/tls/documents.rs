//! The commands and files of the manual's page `tls` run as they stand there, but for addresses, and paths
//! that are below a directory of the test.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::readme::text;
use crate::support::backend::{Backend, page};
use crate::support::raw::{Connection, Response};
use crate::support::server::{Pyserve, Server, get};
use crate::support::tls::{self, Authority, Issued, authority};
use crate::support::{skipped, temp_dir, write_files};

/// The blocks between lines of three backquotes.
fn blocks(page: &str) -> Vec<String> {
    let page = text(&format!("src/docs/{page}.md"));
    let parts = page.split("```").skip(1).step_by(2);
    let inside = parts.map(|part| part.split_once('\n').map_or("", |(_, text)| text));
    inside.map(|text| text.replace("\\\n", " ")).collect()
}

/// The words of the lines that start pyserve.
fn commands(page: &str) -> Vec<Vec<String>> {
    let blocks = blocks(page);
    let lines = blocks.iter().flat_map(|block| block.lines());
    let words = lines.filter_map(|line| line.strip_prefix("pyserve "));
    words
        .map(|words| words.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// A machine's files, below `root`.
struct Machine {
    root: tempfile::TempDir,
    clients: Authority,
    client: Issued,
}

impl Machine {
    fn new() -> Self {
        let root = temp_dir();
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let server = authority().issue(&["example.org"]);
        let clients = Authority::new();
        let client = clients.issue(&["client"]);
        write_files(
            root.path(),
            &[
                ("static/a.txt", "a file"),
                (
                    "var/www/challenges/.well-known/acme-challenge/token",
                    "proof",
                ),
            ],
        );
        let list = clients.revocations(&[]);
        for (from, to) in [
            (&server.cert, "etc/ssl/example.org/fullchain.pem"),
            (&server.key, "etc/ssl/example.org/privkey.pem"),
            (
                &server.cert,
                "etc/letsencrypt/live/example.org/fullchain.pem",
            ),
            (&server.key, "etc/letsencrypt/live/example.org/privkey.pem"),
            (
                &server.cert,
                "etc/letsencrypt/archive/example.org/fullchain1.pem",
            ),
            (&server.cert, "tls/..2026/tls.crt"),
            (&server.key, "tls/..2026/tls.key"),
            (&clients.root(), "etc/ssl/clients/ca.pem"),
            (&list, "etc/ssl/clients/crl.pem"),
            (&authority().root(), "etc/ssl/internal-ca.pem"),
        ] {
            let to = root.path().join(to);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(from, to).unwrap();
        }
        let secret = root.path().join("tls");
        symlink("..2026", secret.join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), secret.join(name)).unwrap();
        }
        Self {
            root,
            clients,
            client,
        }
    }

    /// The text with the places of this machine.
    fn here(&self, text: &str) -> String {
        let root = self.root.path().display().to_string();
        let mut text = text.replace("10.0.0.0/8", "127.0.0.0/8");
        for port in ["443", "80", "8443", "8080"] {
            text = text.replace(&format!("0.0.0.0:{port}\""), "127.0.0.1:0\"");
            if text.ends_with(&format!("0.0.0.0:{port}")) {
                text = text.replace(&format!("0.0.0.0:{port}"), "127.0.0.1:0");
            }
        }
        for (place, before) in [("/etc/", ""), ("/tls", ""), ("/var/", "="), ("/etc/", "\"")] {
            match before {
                "" if text.starts_with(place) => text = format!("{root}{text}"),
                "" => {}
                before => {
                    let (from, to) = (format!("{before}{place}"), format!("{before}{root}{place}"));
                    text = text.replace(&from, &to);
                }
            }
        }
        text
    }

    /// Starts a server with these words, and asks it for a file, as clients that the words are for.
    fn check(&self, words: &[String]) {
        let mut words: Vec<_> = words.iter().map(|word| self.here(word)).collect();
        // The port of the redirect is not that of the test.
        if let Some(at) = words.iter().position(|word| word == "--redirect-to-https") {
            words[at + 1] = "443".to_owned();
        }
        if let Some(at) = words.iter().position(|word| word == "--uid")
            && !rustix::process::geteuid().is_root()
        {
            skipped(
                "--uid in a command of the manual",
                "only root can drop privileges",
            );
            words.drain(at..at + 2);
        }
        let server = Pyserve::new()
            .current_dir(self.root.path())
            .env("PYSERVE_CONTROL", "off")
            .without("PYSERVE_BIND")
            .arg_file("--root", self.root.path())
            .args(&words)
            .ready();
        let has = |word: &str| words.iter().any(|one| one == word);
        let is_tls = words.iter().any(|word| word.starts_with("https://"));
        let own = has("--tls-client-ca").then_some(&self.client);
        let ask = |own: Option<&Issued>| -> std::io::Result<Response> {
            let mut connection = Connection::tcp(server.tls_port());
            if has("--proxy-protocol") {
                connection.send("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
            }
            let client = authority().client_with(&["http/1.1"], rustls::ALL_VERSIONS, own);
            let mut connection = connection.secured(client, "example.org")?;
            connection.send(get("/static/a.txt"));
            let mut head = connection
                .try_head()
                .map_err(|end| std::io::Error::other(format!("{end:?}")))?;
            head.body = connection.exactly(6);
            Ok(head)
        };
        let response = match is_tls {
            true => ask(own).unwrap_or_else(|error| panic!("{words:?}: {error}")),
            false => server.get("/static/a.txt"),
        };
        assert_eq!(
            (response.status(), &*response.text()),
            (200, "a file"),
            "{words:?}"
        );
        if own.is_some() {
            assert!(ask(None).is_err(), "{words:?}");
        }
        if has("--static") {
            let proof = Connection::tcp(plain_port(&server))
                .exchange(get("/.well-known/acme-challenge/token"));
            assert_eq!(proof.text(), "proof");
        }
        if has("--redirect-to-https") {
            let plain = plain_port(&server);
            let redirected = Connection::tcp(plain).exchange(get("/static/a.txt"));
            assert_eq!(redirected.status(), 301, "{words:?}");
        }
    }
}

/// The port of the listener without TLS.
fn plain_port(server: &Server) -> u16 {
    let line = server.stderr.wait_for("starting on http://127.0.0.1:");
    let (_, port) = line.rsplit_once(':').expect("a port");
    port.trim().parse().expect("a port number")
}

#[test]
fn the_commands_of_the_page_serve_their_clients() {
    let machine = Machine::new();
    let commands = commands("tls");
    assert!(commands.len() >= 5, "{commands:?}");
    // Those for ACME need an authority that speaks it.
    let is_acme = |words: &&Vec<String>| words.iter().any(|word| word.starts_with("--acme"));
    for words in commands.iter().filter(|words| !is_acme(words)) {
        machine.check(words);
    }
    assert!(machine.clients.root().exists());
}

#[test]
fn the_tables_and_the_container_of_the_page_serve_their_clients() {
    let machine = Machine::new();
    let blocks = blocks("tls");
    let tables: Vec<_> = blocks
        .iter()
        .filter(|block| block.contains("[[certificate]]"))
        .collect();
    assert!(!tables.is_empty());
    for (at, table) in tables.iter().enumerate() {
        let lines: Vec<_> = table.lines().map(|line| machine.here(line)).collect();
        let file = machine.root.path().join(format!("{at}.toml"));
        let text = lines
            .join("\n")
            .replace("https://0.0.0.0:443", "https://127.0.0.1:0");
        std::fs::write(&file, text).unwrap();
        machine.check(&[
            "--config".to_owned(),
            file.display().to_string(),
            "--bind".to_owned(),
            "https://0.0.0.0:443".to_owned(),
        ]);
    }
    let containers: Vec<Vec<String>> = blocks
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| line.trim().strip_prefix("args: "))
        .map(|args| serde_json::from_str(args).expect("a list"))
        .filter(|args: &Vec<String>| args.iter().any(|arg| arg == "/tls"))
        .collect();
    assert!(!containers.is_empty());
    for args in containers {
        machine.check(&args);
    }
}

#[test]
fn the_group_of_the_page_can_read_the_keys() {
    let is_there =
        std::fs::read_to_string("/etc/group").is_ok_and(|text| text.contains("\nwww-data:"));
    if !rustix::process::geteuid().is_root() || !is_there {
        return skipped("the group of keys", "it needs root and the group www-data");
    }
    let machine = Machine::new();
    let key = machine
        .root
        .path()
        .join("etc/letsencrypt/live/example.org/privkey.pem");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let blocks = blocks("tls");
    let block = blocks
        .iter()
        .find(|block| block.starts_with("chgrp "))
        .expect("the commands");
    for line in block.lines() {
        let words: Vec<_> = line
            .split_whitespace()
            .map(|word| machine.here(word))
            .collect();
        let ran = Command::new(&words[0])
            .args(&words[1..])
            .status()
            .expect("the command");
        assert!(ran.success(), "{line}");
    }
    assert_eq!(mode(&key) & 0o060, 0o040);
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode()
}

#[test]
fn the_command_for_servers_with_tls_reaches_one() {
    let machine = Machine::new();
    let own = authority().issue(&["backend.internal"]);
    let backend = Backend::tls_with(tls::server(&own, None), |mut call| {
        call.http_head();
        call.send(page("the page"));
    });
    let commands = commands("upstreams");
    let found = commands
        .iter()
        .find(|words| words.iter().any(|word| word.starts_with("https://")));
    let words = found.expect("the command").iter();
    let words = words.map(|word| match word.starts_with("https://") {
        true => backend.url(),
        false => machine.here(word),
    });
    let server = Pyserve::new().without("PYSERVE_PYTHON").args(words).ready();
    assert_eq!(server.get("/").text(), "the page");
}
