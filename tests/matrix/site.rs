//! The servers of the matrix: two of pyserve, one of which is behind a balancer that speaks the
//! PROXY protocol, with the same locations; real servers behind both; and an nginx that serves
//! the same for comparison.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::answerers::{Answerer, Length};
use super::listeners::{Listener, Proxy};
use super::shapes::Shape;
use crate::support::behind::{Behind, program};
use crate::support::nginx::Nginx;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, request};
use crate::support::{skipped, temp_dir, write_files};

/// Everything that runs.
pub struct Site {
    open: Server,
    proxied: Server,
    /// nginx, with the same files and the same servers behind it.
    pub nginx: Option<Nginx>,
    behind: Peers,
    /// The entity tags of pyserve.
    pub tags: Tags,
    _files: TempDir,
}

/// The entity tags that a server sends with its pages.
#[derive(Default)]
pub struct Tags(HashMap<Answerer, String>);

/// What is behind; `None` where this machine cannot have it.
struct Peers {
    uwsgi: Option<Behind>,
    gunicorn: Option<Behind>,
    gunicorn_uwsgi: Option<Behind>,
    waitress: Option<Behind>,
    uvicorn: Option<Behind>,
}

const SETTLED: Duration = Duration::from_millis(2_500);
/// Of a file in memory.
pub const SMALL: usize = 1 << 10;
/// Of a file that is not kept in memory, and does not fit into the first flight of HTTP/2.
pub const LARGE: usize = 300_000;
/// What stands for something compressed: it is sent as it is.
pub const PACKED: &str = "stands for something smaller";
/// The text that the redirect and the response of the settings have.
pub const REDIRECT: &str = "/new";
pub const RESPOND: &str = "pong";

/// The bytes of a file of this length.
pub fn bytes_of_file(length: usize) -> String {
    "0123456789abcdef".repeat(length / 16)
}

impl Site {
    pub fn start() -> Self {
        let files = temp_dir();
        write_files(
            files.path(),
            &[
                ("static/small.bin", &bytes_of_file(SMALL)),
                ("static/large.bin", &bytes_of_file(LARGE)),
                ("static/style.css", &"b { }\n".repeat(500)),
                ("static/style.css.gz", PACKED),
            ],
        );
        settle(&files.path().join("static"));
        let written = Instant::now();
        let behind = Peers::start();
        let nginx = Nginx::start("", &nginx_like(files.path(), &behind))
            .inspect_err(|why| skipped("nginx in the matrix", why))
            .ok();
        let open = serve(Pyserve::new(), files.path(), &behind, nginx.as_ref());
        let proxied = Pyserve::new().args(["--proxy-protocol", "127.0.0.1,unix"]);
        let proxied = serve(proxied, files.path(), &behind, nginx.as_ref());
        let mut site = Self {
            open,
            proxied,
            nginx,
            behind,
            tags: Tags::default(),
            _files: files,
        };
        // A file that has changed less than two seconds ago has another tag: a file system's
        // clock may not show a second change.
        std::thread::sleep(SETTLED.saturating_sub(written.elapsed()));
        site.tags = site.learn_tags(|| site.open.connect());
        site
    }

    /// The server that has this listener.
    pub fn server(&self, listener: Listener) -> &Server {
        match listener.proxy {
            Proxy::None => &self.open,
            Proxy::V1 | Proxy::V2 => &self.proxied,
        }
    }

    /// Whether this machine has this answerer.
    pub fn has(&self, answerer: Answerer) -> bool {
        match answerer {
            Answerer::Uwsgi(_) => self.behind.uwsgi.is_some(),
            Answerer::Gunicorn(_) => self.behind.gunicorn.is_some(),
            Answerer::GunicornUwsgi(_) => self.behind.gunicorn_uwsgi.is_some(),
            Answerer::Waitress(_) => self.behind.waitress.is_some(),
            Answerer::Uvicorn(_) => self.behind.uvicorn.is_some(),
            Answerer::Nginx => self.nginx.is_some(),
            _ => true,
        }
    }

    /// Asks for every page once, as clients do before they ask conditionally.
    pub fn learn_tags(&self, connect: impl Fn() -> Connection) -> Tags {
        let mut tags = HashMap::new();
        for answerer in Answerer::ALL {
            if !self.has(answerer) {
                continue;
            }
            let coding = match answerer {
                Answerer::Precompressed => "Accept-Encoding: gzip\r\n",
                _ => "",
            };
            let path = answerer.path(Shape::Get);
            let response = connect().exchange(request("GET", &path, coding));
            if let Some(tag) = response.header("ETag") {
                tags.insert(answerer, tag);
            }
        }
        Tags(tags)
    }
}

impl Tags {
    /// The tag of this answerer's page, if it has one.
    pub fn of(&self, answerer: Answerer) -> Option<&str> {
        self.0.get(&answerer).map(String::as_str)
    }
}

impl Peers {
    /// Starts all at once.
    fn start() -> Self {
        std::thread::scope(|scope| {
            let [uwsgi, gunicorn, gunicorn_uwsgi, waitress, uvicorn] =
                [uwsgi, gunicorn, gunicorn_uwsgi, waitress, uvicorn].map(|one| scope.spawn(one));
            Self {
                uwsgi: uwsgi.join().expect("it starts"),
                gunicorn: gunicorn.join().expect("it starts"),
                gunicorn_uwsgi: gunicorn_uwsgi.join().expect("it starts"),
                waitress: waitress.join().expect("it starts"),
                uvicorn: uvicorn.join().expect("it starts"),
            }
        })
    }
}

fn uwsgi() -> Option<Behind> {
    let dir = temp_dir();
    let mut command = Command::new(program("uwsgi", "uwsgi")?);
    command
        .args(["--master", "--die-on-term", "--need-app"])
        .args(["--processes", "2", "--buffer-size", "65535"])
        .args(["--module", "matrix", "--socket"])
        .arg(dir.path().join("socket"));
    Some(Behind::start(&mut command, dir, "spawned uWSGI worker 2"))
}

fn gunicorn() -> Option<Behind> {
    gunicorn_with(&["--worker-class", "gthread", "--threads", "4"])
}

fn gunicorn_uwsgi() -> Option<Behind> {
    gunicorn_with(&["--workers", "2", "--protocol", "uwsgi"])
}

fn gunicorn_with(args: &[&str]) -> Option<Behind> {
    let dir = temp_dir();
    let mut command = Command::new(program("peers", "gunicorn")?);
    command
        .arg("--bind")
        .arg(format!("unix:{}", dir.path().join("socket").display()))
        .args(args)
        .arg("matrix:application");
    Some(Behind::start(&mut command, dir, "Booting worker"))
}

fn waitress() -> Option<Behind> {
    let dir = temp_dir();
    let mut command = Command::new(program("peers", "waitress-serve")?);
    command
        .arg("--unix-socket")
        .arg(dir.path().join("socket"))
        .arg("matrix:application");
    Some(Behind::start(&mut command, dir, "Serving on"))
}

fn uvicorn() -> Option<Behind> {
    let dir = temp_dir();
    let mut command = Command::new(program("peers", "uvicorn")?);
    command
        .arg("--uds")
        .arg(dir.path().join("socket"))
        .arg("matrix:asgi");
    Some(Behind::start(&mut command, dir, "Uvicorn running on"))
}

/// Sets the time of the last change back: what has just changed is not kept in memory.
fn settle(dir: &Path) {
    // A date of the year 2020.
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    for entry in std::fs::read_dir(dir).unwrap() {
        let file = std::fs::File::options()
            .write(true)
            .open(entry.unwrap().path());
        file.unwrap().set_modified(then).unwrap();
    }
}

/// A server of the whole site, over TCP and over `http.sock` in its directory.
fn serve(pyserve: Pyserve, files: &Path, behind: &Peers, nginx: Option<&Nginx>) -> Server {
    let apps = crate::support::apps();
    let mut locations = format!(
        "app = \"matrix.py\"\n\
         [[location]]\nprefix = \"/old\"\nredirect = \"{REDIRECT}\"\n\
         [[location]]\nprefix = \"/ping\"\nrespond = \"{RESPOND}\"\n\
         [[location]]\nprefix = \"/unbuffered/app\"\napp = \"matrix.py\"\nworkers = 1\n\
         request_buffering = false\n"
    );
    let mut behind_us: Vec<_> = [
        (Answerer::Uwsgi(Length::Known), "uwsgi+unix", &behind.uwsgi),
        (
            Answerer::Gunicorn(Length::Known),
            "http+unix",
            &behind.gunicorn,
        ),
        (
            Answerer::GunicornUwsgi(Length::Known),
            "uwsgi+unix",
            &behind.gunicorn_uwsgi,
        ),
        (
            Answerer::Waitress(Length::Known),
            "http+unix",
            &behind.waitress,
        ),
        (
            Answerer::Uvicorn(Length::Known),
            "http+unix",
            &behind.uvicorn,
        ),
    ]
    .into_iter()
    .filter_map(|(answerer, scheme, peer)| Some((answerer, scheme, peer.as_ref()?.socket())))
    .collect();
    behind_us.extend(nginx.map(|nginx| (Answerer::Nginx, "http+unix", nginx.socket())));
    for (answerer, scheme, socket) in behind_us {
        let (name, socket) = (answerer.location(), socket.display());
        locations += &format!(
            "[[location]]\nprefix = \"/{name}\"\nupstream = \"{scheme}:{socket}\"\n\
             [[location]]\nprefix = \"/unbuffered/{name}\"\nupstream = \"{scheme}:{socket}\"\n\
             request_buffering = false\n"
        );
    }
    let config = pyserve.path("pyserve.toml");
    std::fs::write(&config, locations).unwrap();
    let socket = format!("unix:{}", pyserve.path("http.sock").display());
    let internal = format!("/protected={}", files.join("static").display());
    pyserve
        .without("PYSERVE_BIND")
        .env("MATRIX_FILES", files.join("static"))
        .with_tls()
        .args(["--bind", &socket])
        .args(["--threads", "4", "--access-log", "json"])
        .args(["--internal", &internal, "--chdir"])
        .args([apps.as_path(), Path::new("--root"), files])
        .args([Path::new("--config"), &config])
        .ready()
}

/// nginx's spelling of the same site.
fn nginx_like(files: &Path, behind: &Peers) -> String {
    let root = files.display();
    let mut text = format!(
        "location /static/ {{ root {root}; gzip_static on; gzip_vary on; gzip_http_version 1.0; }}\n\
         location /nginx/ {{ alias {root}/static/; }}\n\
         location /unbuffered/nginx/ {{ alias {root}/static/; }}\n\
         location /old {{ return 302 {REDIRECT}; }}\n\
         location /ping {{ return 200 {RESPOND}; default_type text/plain; }}\n"
    );
    let params: String = [
        ("QUERY_STRING", "$query_string"),
        ("REQUEST_METHOD", "$request_method"),
        ("CONTENT_TYPE", "$content_type"),
        ("CONTENT_LENGTH", "$content_length"),
        ("REQUEST_URI", "$request_uri"),
        ("PATH_INFO", "$document_uri"),
        ("SERVER_PROTOCOL", "$server_protocol"),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "$server_name"),
    ]
    .map(|(name, value)| format!("uwsgi_param {name} {value}; "))
    .concat();
    if let Some(uwsgi) = &behind.uwsgi {
        let socket = uwsgi.socket();
        text += &format!(
            "location /uwsgi/ {{ {params} uwsgi_pass unix:{0}; }}\n\
             location /unbuffered/uwsgi/ {{ {params} uwsgi_request_buffering off; uwsgi_pass unix:{0}; }}\n",
            socket.display()
        );
    }
    for (name, peer) in [
        ("gunicorn", &behind.gunicorn),
        ("waitress", &behind.waitress),
        ("uvicorn", &behind.uvicorn),
    ] {
        let Some(peer) = peer else { continue };
        let pass = format!(
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_pass http://unix:{}:;",
            peer.socket().display()
        );
        text += &format!(
            "location /{name}/ {{ {pass} }}\n\
             location /unbuffered/{name}/ {{ proxy_request_buffering off; {pass} }}\n"
        );
    }
    text
}
