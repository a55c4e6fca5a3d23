//! A Django project's own files, without a setting.

use std::path::Path;

use crate::frameworks::venv;
use crate::support::server::{Pyserve, Server, request};
use crate::support::{age, temp_dir};

struct Project {
    dir: tempfile::TempDir,
    venv: std::path::PathBuf,
}

/// A project with sources and an upload; what is collected is in `collected`.
fn project(collected: &[(&str, &str)]) -> Option<Project> {
    let venv = venv("a Django project's own files")?;
    let dir = temp_dir();
    let base = [
        ("sources/site.css", "from sources"),
        ("media/cat.txt", "uploaded"),
    ];
    for (name, content) in base.iter().chain(collected) {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    Some(Project { dir, venv })
}

impl Project {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn serve(&self, args: &[&str]) -> Server {
        self.server(args).ready()
    }

    fn server(&self, args: &[&str]) -> Pyserve {
        Pyserve::app("assets_site.py")
            .without("PYSERVE_PYTHON")
            .args(["--venv"])
            .args([&self.venv])
            .args(args)
            .env("COLLECTED", self.path("collected"))
            .env("SOURCES", self.path("sources"))
            .env("MEDIA", self.path("media"))
    }
}

fn check(server: &Server, target: &str, expected: &str) {
    let response = server.get(target);
    assert_eq!(response.text(), expected, "{target}: {response:?}");
}

const COLLECTED: &[(&str, &str)] = &[("collected/site.css", "collected")];

#[test]
fn before_anything_is_collected_the_sources_are_served() {
    let Some(project) = project(&[]) else { return };
    let server = project.serve(&[]);
    check(&server, "/assets/site.css", "from sources");
    check(&server, "/assets/below/site.css", "from sources");
    check(&server, "/", "app");
    assert_eq!(server.get("/assets/none.css").status(), 404);
    server.stderr.wait_for("staticfiles finders");
}

#[test]
fn what_was_collected_is_served_and_in_development_the_sources() {
    let Some(project) = project(COLLECTED) else {
        return;
    };
    let server = project.serve(&[]);
    check(&server, "/assets/site.css", "collected");
    assert!(server.stderr.so_far().join("\n").contains("STATIC_ROOT"));
    check(
        &project.serve(&["--dev"]),
        "/assets/site.css",
        "from sources",
    );
    let each_imports = project.serve(&["--preload", "no"]);
    check(&each_imports, "/assets/site.css", "collected");
}

#[test]
fn settings_have_the_last_word() {
    let Some(project) = project(COLLECTED) else {
        return;
    };
    let own = format!("/assets={}", project.path("media").display());
    let server = project.serve(&["--static", &own]);
    check(&server, "/assets/cat.txt", "uploaded");
    assert_eq!(server.get("/assets/site.css").status(), 404);
    let server = project.serve(&["--django-static", "no"]);
    assert_eq!(server.get("/assets/site.css").status(), 404);
}

#[test]
fn uploads_are_served_only_if_that_is_asked_for() {
    let Some(project) = project(COLLECTED) else {
        return;
    };
    assert_eq!(project.serve(&[]).get("/media/cat.txt").status(), 404);
    let server = project.serve(&["--django-media", "yes"]);
    check(&server, "/media/cat.txt", "uploaded");
}

#[test]
fn only_what_was_collected_is_taken_for_a_build_s() {
    let hashed = "site.27e20196a850.css";
    let all: Vec<_> = ["collected", "sources", "media"]
        .iter()
        .flat_map(|place| {
            let names = [hashed, "a.txt", "a.txt.gz"];
            names.map(|name| (format!("{place}/{name}"), "x"))
        })
        .collect();
    let all: Vec<_> = all
        .iter()
        .map(|(name, text)| (name.as_str(), *text))
        .collect();
    let Some(project) = project(&all) else { return };
    age(project.dir.path());
    let of = |server: &Server, prefix: &str| {
        let caching = server
            .get(&format!("{prefix}/{hashed}"))
            .header("Cache-Control")
            .unwrap();
        let lines = "Accept-Encoding: gzip\r\n";
        let text = server.exchange(&request("GET", &format!("{prefix}/a.txt"), lines));
        (caching, text.header("Content-Encoding").is_some())
    };
    let media = ["--django-media", "yes"];
    let forever = "public, max-age=31536000, immutable".to_owned();
    let a_while = "public, max-age=60".to_owned();
    let server = project.serve(&media);
    assert_eq!(of(&server, "/assets"), (forever.clone(), true));
    assert_eq!(of(&server, "/media"), (a_while.clone(), false));
    // What is said about all files holds for these as well.
    let server = project.serve(
        &[
            &media[..],
            &["--static-max-age", "5m", "--static-precompressed", "yes"],
        ]
        .concat(),
    );
    assert_eq!(
        of(&server, "/assets"),
        ("public, max-age=300".to_owned(), true)
    );
    assert_eq!(
        of(&server, "/media"),
        ("public, max-age=300".to_owned(), true)
    );
    let server = project.serve(&[&media[..], &["--static-immutable", "auto"]].concat());
    assert_eq!(of(&server, "/media"), (forever, false));
    // Nothing is collected yet: the finders' directories hold what people write.
    std::fs::remove_dir_all(project.path("collected")).unwrap();
    assert_eq!(of(&project.serve(&media), "/assets"), (a_while, false));
}

#[test]
fn a_directory_of_the_right_name_does_not_hide_what_was_collected() {
    let Some(project) = project(COLLECTED) else {
        return;
    };
    // As in a project whose sources are in `static`, beside `manage.py`.
    let root = project.path("root");
    std::fs::create_dir_all(root.join("static")).unwrap();
    for name in ["site.css", "extra.css"] {
        std::fs::write(root.join("static").join(name), "by its name").unwrap();
    }
    let server = project
        .server(&["--root", &shown(&root)])
        .env("ASSETS_URL", "/static/")
        .ready();
    check(&server, "/static/site.css", "collected");
    check(&server, "/static/extra.css", "by its name");
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn files_of_a_project_are_served_on_the_hosts_of_its_application() {
    let Some(project) = project(COLLECTED) else {
        return;
    };
    let said = |server: &Server, host: &str| {
        let get = format!("GET /assets/site.css HTTP/1.1\r\nHost: {host}\r\n\r\n");
        server.exchange(&get).text()
    };
    let table = format!(
        "[[location]]\nhost = ['shop.test', '*.shop.test']\napp = '{}'\n",
        crate::support::apps().join("assets_site.py").display()
    );
    let other = "[[location]]\nhost = 'other.test'\nrespond = 'other'\n";
    let settings = project.path("pyserve.toml");
    std::fs::write(&settings, format!("{other}{table}header = 'X-A: b'\n")).unwrap();
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .current_dir(project.dir.path())
        .args(["--venv"])
        .args([&project.venv])
        .env("COLLECTED", project.path("collected"))
        .env("SOURCES", project.path("sources"))
        .env("MEDIA", project.path("media"))
        .ready();
    for (host, expected) in [
        ("shop.test", "collected"),
        ("a.shop.test:80", "collected"),
        ("other.test", "other"),
    ] {
        assert_eq!(said(&server, host), expected, "{host}");
    }
    // An application before it in the settings: numbers change, hosts do not.
    std::fs::write(project.path("hello.py"), HELLO).unwrap();
    let hello = "[[location]]\nhost = 'hello.test'\napp = 'hello.py'\n";
    std::fs::write(&settings, format!("{hello}{other}{table}")).unwrap();
    server.signal(rustix::process::Signal::HUP);
    server.stderr.wait_for("reloaded in");
    for (host, expected) in [
        ("shop.test", "collected"),
        ("hello.test", "hello"),
        ("other.test", "other"),
    ] {
        assert_eq!(said(&server, host), expected, "{host}");
    }
}

const HELLO: &str = "
def application(environ, start_response):
    start_response('200 OK', [])
    return [b'hello']
";
