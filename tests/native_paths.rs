//! Directories whose names are not UTF-8.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::support::server::Pyserve;
use crate::support::{python, temp_dir, write_files};

/// Answers the bytes of the paths that it has.
const APP: &str = "\
import os, sys
import beside

def application(environ, start_response):
    if environ['PATH_INFO'] == '/raise':
        raise ValueError(os.getcwd())
    start_response('200 OK', [('Content-Type', 'text/plain')])
    paths = [os.getcwd(), os.path.dirname(os.path.abspath(__file__)), sys.prefix]
    return [b'|'.join(map(os.fsencode, paths))]
";
const SETTINGS: &str = "app = \"module\"\nstatic = \"/files=files\"\n";

struct Site {
    _temporary: tempfile::TempDir,
    dir: PathBuf,
}

impl Site {
    fn new() -> Self {
        let temporary = temp_dir();
        // Latin-1.
        let dir = temporary.path().join(OsStr::from_bytes(b"caf\xe9"));
        std::fs::create_dir(&dir).unwrap();
        write_files(
            &dir,
            &[
                ("module.py", APP),
                ("library/beside.py", ""),
                ("files/page.txt", "a file"),
                ("pyserve.toml", SETTINGS),
            ],
        );
        Self {
            _temporary: temporary,
            dir,
        }
    }

    fn path(&self, name: &str) -> OsString {
        self.dir.join(name).into_os_string()
    }

    fn text(&self, before: &str, name: &str) -> OsString {
        let mut text = OsString::from(before);
        text.push(self.path(name));
        text
    }
}

fn told(site: &Path, body: &[u8]) {
    let mut paths = body.split(|byte| *byte == b'|');
    let site = std::fs::canonicalize(site).unwrap();
    let mut next = || std::fs::canonicalize(OsStr::from_bytes(paths.next().unwrap())).unwrap();
    assert_eq!(next(), site, "the current directory");
    assert_eq!(next(), site, "the directory of the module");
}

#[test]
fn directories_that_are_no_utf8_are_served_whatever_names_them() {
    let site = Site::new();
    let flags = Pyserve::new()
        .args([OsString::from("--app"), "module".into()])
        .args([OsString::from("--chdir"), site.dir.clone().into()])
        .args([OsString::from("--pythonpath"), site.path("library")])
        .args([OsString::from("--static"), site.text("/files=", "files")]);
    let variables = Pyserve::new()
        .env("PYSERVE_APP", site.path("module.py"))
        .env("PYSERVE_CHDIR", &site.dir)
        .env("PYSERVE_PYTHONPATH", site.path("library"))
        .env("PYSERVE_STATIC", site.text("/files=", "files"));
    let current = Pyserve::new()
        .current_dir(&site.dir)
        .args(["--pythonpath", "library"]);
    let config = Pyserve::new()
        .args([OsString::from("--config"), site.path("pyserve.toml")])
        .args([OsString::from("--chdir"), site.dir.clone().into()])
        .args(["--pythonpath", "library"]);
    for (name, server) in [
        ("flags", flags),
        ("variables", variables),
        ("current directory", current),
        ("settings file", config),
    ] {
        let server = server.ready();
        let answer = server.get("/");
        assert_eq!(answer.status(), 200, "{name}");
        told(&site.dir, &answer.body);
        let file = server.get("/files/page.txt");
        assert_eq!((file.status(), &*file.text()), (200, "a file"), "{name}");
    }
}

#[test]
fn a_virtual_environment_in_a_directory_that_is_no_utf8_is_used() {
    let site = Site::new();
    let home = python::default();
    std::fs::create_dir_all(site.path(".venv/bin")).unwrap();
    std::os::unix::fs::symlink(&home, site.path(".venv/bin/python")).unwrap();
    let home = format!("home = {}\n", home.parent().unwrap().display());
    write_files(&site.dir, &[(".venv/pyvenv.cfg", &home)]);
    let found = Pyserve::new().current_dir(&site.dir);
    let named = Pyserve::new()
        .current_dir(&site.dir)
        .args([OsString::from("--venv"), site.path(".venv")]);
    for server in [found, named] {
        let server = server.without("PYSERVE_PYTHON");
        let server = server.args(["--pythonpath", "library"]).ready();
        let answer = server.get("/");
        let prefix = answer.body.rsplit(|byte| *byte == b'|').next().unwrap();
        assert_eq!(OsStr::from_bytes(prefix), site.path(".venv"));
    }
}

#[test]
fn a_message_shows_a_directory_that_is_no_utf8_with_replacements() {
    let ended = Pyserve::new()
        .args([OsStr::new("--chdir"), OsStr::from_bytes(b"/none/caf\xe9")])
        .run();
    assert_eq!(ended.code, 78);
    assert!(
        ended.stderr.contains("/none/caf\u{fffd}"),
        "{}",
        ended.stderr
    );
}

#[test]
fn commands_and_names_of_programs_keep_bytes_that_are_no_utf8() {
    let site = Site::new();
    let name = OsStr::from_bytes(b"pyth\xf6n");
    std::os::unix::fs::symlink(python::default(), site.dir.join(name)).unwrap();
    let made = OsStr::from_bytes(b"m\xe4de");
    let mut line = OsString::from("touch ");
    line.push(made);
    let server = Pyserve::new()
        .current_dir(&site.dir)
        .without("PYSERVE_PYTHON")
        .env("PATH", search_path(&site.dir))
        .args(["--pythonpath", "library"])
        .args([OsStr::new("--python"), name])
        .args([OsString::from("--before-start"), line])
        .ready();
    assert_eq!(server.get("/").status(), 200);
    assert!(site.dir.join(made).is_file());
}

fn search_path(first: &Path) -> OsString {
    let present = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(first.to_owned()).chain(std::env::split_paths(&present));
    std::env::join_paths(dirs).unwrap()
}

#[test]
fn values_that_are_no_paths_are_refused_if_they_are_no_utf8() {
    for (flag, value) in [
        ("--static", &b"/caf\xe9=/tmp"[..]),
        ("--static-missing", b"caf\xe9.html"),
        ("--types", b"\xe9=text/plain"),
        ("--app", b"module:caf\xe9"),
    ] {
        let site = Site::new();
        let ended = Pyserve::new()
            .current_dir(&site.dir)
            .args([OsStr::new(flag), OsStr::from_bytes(value)])
            .run();
        assert_eq!(ended.code, 78, "{flag}");
        // A character of our own for the byte would be none that a terminal shows.
        assert!(!ended.stderr.contains('\u{10fee9}'), "{}", ended.stderr);
        assert!(ended.stderr.contains('\u{fffd}'), "{}", ended.stderr);
    }
}

#[test]
fn a_traceback_escapes_bytes_that_are_no_utf8_as_python_does() {
    let site = Site::new();
    let server = Pyserve::new().current_dir(&site.dir);
    let server = server.args(["--pythonpath", "library"]).ready();
    assert_eq!(server.get("/raise").status(), 500);
    // sys.stderr: `backslashreplace`.
    let error = server.stderr.wait_for("ValueError: ");
    assert!(error.contains("caf\\udce9"), "{error}");
}

#[test]
fn a_verb_finds_the_server_of_a_directory_that_is_no_utf8() {
    let site = Site::new();
    let runtime = temp_dir();
    let start = |dir: &Path| {
        let server = Pyserve::new().current_dir(dir).args(["--app", "module"]);
        let server = server.args([OsString::from("--pythonpath"), site.path("library")]);
        server
            .without("PYSERVE_CONTROL")
            .env("XDG_RUNTIME_DIR", runtime.path())
            .ready()
    };
    let elsewhere = Site::new();
    let other = elsewhere.dir.with_file_name("other");
    std::fs::rename(&elsewhere.dir, &other).unwrap();
    let (mut here, there) = (start(&site.dir), start(&other));
    let ended = Pyserve::new()
        .args(["stop"])
        .current_dir(&site.dir)
        .without("PYSERVE_CONTROL")
        .env("XDG_RUNTIME_DIR", runtime.path())
        .run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(here.wait_exit(), 0);
    assert_eq!(there.get("/").status(), 200);
}
