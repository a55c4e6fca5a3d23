//! Releases: a deployment switches a symbolic link, and a reload takes everything from where it leads then.
//! Until a reload has succeeded, everything comes from the release before.
//!
//! A running server reads paths again when it replaces a worker, a template or a companion, and when it looks
//! at a file, so the tests force each of them before and after the reload.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::load::{Fate, Load};
use crate::support::server::{Pyserve, Server, get};
use crate::support::{is_root, python, source, write_files};

const APP: &str = "\
import json, os, sys, time
import probe

def app(environ, start_response):
    path = environ['PATH_INFO']
    if path == '/die':
        os._exit(3)
    if path.startswith('/held'):
        probe.wait(path)
    fields = [('Content-Type', 'text/plain')]
    if path == '/named':
        fields.append(('X-Accel-Redirect', '/internal/version.txt'))
    if path == '/sent':
        fields.append(('X-Sendfile', os.path.abspath('files/version.txt')))
    if path == '/sent-by-link':
        fields.append(('X-Sendfile', os.environ['LINK'] + '/files/version.txt'))
    start_response('200 OK', fields)
    if path == '/prefix':
        return [sys.prefix.split('/')[-2 - ('second' in sys.prefix)].encode()]
    if path == '/cwd':
        return [os.path.basename(os.getcwd()).encode()]
    if path == '/relative':
        return [open('version.txt', 'rb').read()]
    if path == '/env':
        return [open('.env', 'rb').read()]
    if path == '/pid':
        return [str(os.getpid()).encode()]
    if path == '/lazy':
        import helper
        return [helper.VERSION.encode()]
    return [VERSION.encode()]
";

/// Everything that a release may have, all of it saying `version`. The files look the same from outside:
/// the same length, the same time.
fn write_release(dir: &Path, version: &str, link: &Path) {
    let app = format!("VERSION = {version:?}\n{APP}");
    let helper = format!("VERSION = {version:?}\n");
    let settings = format!(
        r#"
app = "site_app"
pythonpath = ["lib"]
static = ["/files=files", "/page=files", "/absolute={}/files"]
static_missing = ["/page=page.html"]
internal = ["/internal=files"]

[[location]]
prefix = "/settings"
respond = "{version}"

[[location]]
prefix = "/second"
app = "second"
chdir = "second"

[[companion]]
name = "beside"
command = "echo companion of $(cat version.txt) in $(basename $(pwd -P)); exec sleep 1000"
"#,
        link.display()
    );
    let with_chdir = format!("chdir = \".\"\n{settings}");
    let probe = fs::read_to_string(source("tests/apps/probe.py")).unwrap();
    write_files(
        dir,
        &[
            ("site_app.py", &app),
            ("probe.py", &probe),
            ("lib/helper.py", &helper),
            (
                "second/second.py",
                &app.replace("def app", "def application"),
            ),
            ("second/probe.py", &probe),
            ("second/version.txt", version),
            ("pyserve.toml", &settings),
            ("with_chdir.toml", &with_chdir),
            ("version.txt", version),
            (".env", version),
            ("static/version.txt", version),
            ("files/version.txt", version),
            ("files/page.html", version),
            ("touch.txt", "same"),
            (".venv/pyvenv.cfg", "home = /usr/bin\n"),
            ("second/.venv/pyvenv.cfg", "home = /usr/bin\n"),
        ],
    );
    for environment in [".venv/bin", "second/.venv/bin"] {
        let programs = dir.join(environment);
        fs::create_dir_all(&programs).unwrap();
        if fs::symlink_metadata(programs.join("python")).is_err() {
            symlink(python::default(), programs.join("python")).unwrap();
        }
    }
    for each in [".", "static", "files", "second", "lib"] {
        for entry in fs::read_dir(dir.join(each)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                let file = fs::File::open(entry.path()).unwrap();
                let hour = std::time::Duration::from_secs(3600);
                file.set_modified(std::time::SystemTime::UNIX_EPOCH + 1000 * hour)
                    .unwrap();
            }
        }
    }
}

/// Moves a link in one step, as deployments do.
fn lead(link: &Path, target: &Path) {
    let next = link.with_extension("next");
    symlink(target, &next).unwrap();
    fs::rename(&next, link).unwrap();
}

/// Two releases, and the link to the first.
struct Site {
    root: PathBuf,
    link: PathBuf,
}

impl Site {
    fn new(builder: &Pyserve) -> Self {
        let root = builder.path("srv");
        fs::create_dir_all(&root).unwrap();
        let root = root.canonicalize().unwrap();
        let site = Self {
            link: root.join("current"),
            root,
        };
        site.write("old", "old");
        site.write("new", "new");
        site.lead_to("old");
        site
    }

    fn write(&self, release: &str, version: &str) {
        write_release(&self.at(release), version, &self.link);
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn lead_to(&self, release: &str) {
        lead(&self.link, &self.at(release));
    }

    /// The server started in this way.
    fn start(&self, builder: Pyserve, start: Start) -> Pyserve {
        let link = self.link.to_str().unwrap();
        let builder = builder
            .without("PYSERVE_PYTHON")
            .env("PWD", &self.root)
            .env("LINK", link);
        let builder = builder.current_dir(&self.root);
        match start {
            Start::Pwd => builder.current_dir(&self.link).env("PWD", &self.link),
            Start::AbsoluteChdir => {
                let config = format!("{link}/pyserve.toml");
                builder.args(["--chdir", link, "--config", &config])
            }
            Start::RelativeChdir => {
                builder.args(["--chdir", "current", "--config", "current/pyserve.toml"])
            }
            Start::ChdirOfTheFile => builder.args(["--config", "current/with_chdir.toml"]),
        }
    }
}

/// How the server comes to its directory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    /// `cd current; pyserve`.
    Pwd,
    /// `pyserve --chdir /srv/current`.
    AbsoluteChdir,
    /// `cd /srv; pyserve --chdir current`.
    RelativeChdir,
    /// `chdir = "."` in `/srv/current/with_chdir.toml`.
    ChdirOfTheFile,
}

/// How a reload is asked for.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// SIGHUP.
    Signal,
    /// `pyserve reload`.
    Verb,
    /// A file of `touch_reload`; the link alone is switched.
    Touch,
    /// The directory itself is watched by `touch_reload`.
    TouchOfTheLink,
    /// `--dev`; the link alone is switched.
    Development,
}

/// Each thing that depends on the directory: a target, and where the response says it comes from.
const THINGS: &[(&str, &str)] = &[
    ("application code", "/"),
    ("a module that is imported later", "/lazy"),
    ("the working directory", "/cwd"),
    ("relative paths", "/relative"),
    (".env", "/env"),
    (".venv", "/prefix"),
    ("a second application with a relative chdir", "/second/"),
    ("relative paths of a second application", "/second/relative"),
    ("pyserve.toml", "/settings"),
    ("a static location of the root", "/static/version.txt"),
    ("a static location", "/files/version.txt"),
    (
        "an absolute static location through the link",
        "/absolute/version.txt",
    ),
    ("a fallback page", "/page/somewhere"),
    ("an internal location", "/named"),
    ("a file named by its physical path", "/sent"),
    ("a file named by the link", "/sent-by-link"),
];

/// A request of a browser that navigates, which gets the fallback page.
fn navigation(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n")
}

#[track_caller]
fn check_all(server: &Server, expected: &str, context: &str) {
    for (thing, target) in THINGS {
        let request = navigation(target);
        let response = server.exchange(&request);
        assert_eq!(
            response.text(),
            expected,
            "{context}: {thing}: {response:?}"
        );
    }
}

#[track_caller]
fn check_own_directory(server: &Server, expected: &str) {
    let cwd = fs::read_link(format!("/proc/{}/cwd", server.pid())).unwrap();
    assert_eq!(cwd.file_name().unwrap().to_str(), Some(expected), "{cwd:?}");
}

/// Does something, and waits until a reload has succeeded.
fn reloaded_by(server: &Server, trigger: impl FnOnce()) {
    let before = server.stderr.count("reloaded in ");
    trigger();
    server.stderr.wait_for_nth("reloaded in ", before + 1);
}

/// Does something, and waits until a reload has failed.
fn failed_by(server: &Server, trigger: impl FnOnce()) -> String {
    let before = server.stderr.count("reload failed");
    trigger();
    server.stderr.wait_for_nth("reload failed", before + 1)
}

fn hup(server: &Server) {
    reloaded_by(server, || server.signal(Signal::HUP));
}

fn verb(server: &Server) {
    let ended = Pyserve::bare()
        .env("PYSERVE_CONTROL", server.probe.path("control"))
        .args(["reload"])
        .run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

/// Everything is from the release before until the reload, from the new one behind it, and is reloaded from
/// there afterwards.
fn check(start: Start, way: Way) {
    let context = format!("{start:?}, {way:?}");
    let builder = Pyserve::new();
    let site = Site::new(&builder);
    let link = site.link.to_str().unwrap();
    let builder = site.start(builder, start);
    let builder = match way {
        Way::Signal | Way::Verb => builder,
        Way::Touch => builder.args(["--touch-reload", "touch.txt"]),
        Way::TouchOfTheLink => builder.args(["--touch-reload", link]),
        Way::Development => builder.args(["--dev"]),
    };
    let server = builder.ready();
    check_all(&server, "old", &context);
    server.stderr.wait_for("companion of old in old");
    let take_over = |release: &str| match way {
        Way::Signal => {
            site.lead_to(release);
            hup(&server);
        }
        Way::Verb => {
            site.lead_to(release);
            verb(&server);
        }
        _ => reloaded_by(&server, || site.lead_to(release)),
    };
    take_over("new");
    check_all(&server, "new", &context);
    if start == Start::Pwd {
        check_own_directory(&server, "new");
    }
    server.stderr.wait_for("companion of new in new");
    // What is changed in the new release counts from now on.
    let code = format!("VERSION = 'now'\n{APP}");
    write_files(&site.root, &[("site_app.py", &code)]);
    let save = || fs::rename(site.at("site_app.py"), site.at("new/site_app.py")).unwrap();
    let change = |name: &str, text: &str| {
        save();
        write_files(&site.at("new"), &[(name, text)]);
    };
    match way {
        Way::Signal => {
            save();
            hup(&server);
        }
        Way::Verb => {
            save();
            verb(&server);
        }
        Way::Touch => reloaded_by(&server, || change("touch.txt", "other")),
        Way::TouchOfTheLink => reloaded_by(&server, || change("an entry", "")),
        Way::Development => reloaded_by(&server, save),
    }
    assert_eq!(server.get("/").text(), "now", "{context}");
    take_over("old");
    assert_eq!(server.get("/").text(), "old", "{context}: back again");
    assert_eq!(server.get("/files/version.txt").text(), "old", "{context}");
}

#[test]
fn a_signal_takes_everything_from_where_the_link_of_the_shell_leads() {
    check(Start::Pwd, Way::Signal);
}

#[test]
fn a_signal_takes_everything_from_where_an_absolute_chdir_leads() {
    check(Start::AbsoluteChdir, Way::Signal);
}

#[test]
fn a_signal_takes_everything_from_where_a_relative_chdir_leads() {
    check(Start::RelativeChdir, Way::Signal);
}

#[test]
fn a_signal_takes_everything_from_where_the_chdir_of_a_settings_file_leads() {
    check(Start::ChdirOfTheFile, Way::Signal);
}

#[test]
fn pyserve_reload_follows_the_link() {
    check(Start::Pwd, Way::Verb);
    check(Start::AbsoluteChdir, Way::Verb);
}

#[test]
fn a_watched_file_behind_the_link_is_another_one_when_the_link_is_switched() {
    check(Start::Pwd, Way::Touch);
    check(Start::AbsoluteChdir, Way::Touch);
}

#[test]
fn a_link_that_is_watched_itself_reloads_when_it_is_switched() {
    check(Start::Pwd, Way::TouchOfTheLink);
}

#[test]
fn development_follows_the_link_and_watches_the_new_source() {
    check(Start::Pwd, Way::Development);
    check(Start::AbsoluteChdir, Way::Development);
}

/// The process ids of the templates.
fn templates(server: &Server) -> Vec<rustix::process::Pid> {
    let status = server.status();
    let apps = status["applications"].as_array().unwrap();
    let pids = apps
        .iter()
        .map(|app| app["template"]["pid"].as_i64().unwrap());
    pids.map(|pid| rustix::process::Pid::from_raw(pid as i32).unwrap())
        .collect()
}

/// The worker, then the template and the worker, of each application are replaced.
fn replace_processes(server: &Server, expected: &str, context: &str) {
    for target in ["/die", "/second/die"] {
        assert_eq!(server.get(target).status(), 502, "{context}");
    }
    check_all(server, expected, &format!("{context}: other workers"));
    let before = server.stderr.count("template died");
    for template in templates(server) {
        rustix::process::kill_process(template, Signal::KILL).unwrap();
    }
    server.stderr.wait_for_nth("template died", before + 2);
    for target in ["/die", "/second/die"] {
        assert_eq!(server.get(target).status(), 502, "{context}");
    }
    check_all(server, expected, &format!("{context}: other templates"));
}

#[test]
fn processes_that_are_replaced_before_the_reload_come_from_the_old_release() {
    for preload in ["yes", "no", "auto"] {
        for start in [Start::Pwd, Start::AbsoluteChdir] {
            let builder = Pyserve::new().watched();
            let site = Site::new(&builder);
            let server = site
                .start(builder, start)
                .args(["--preload", preload, "--static-check", "0"])
                .ready();
            site.lead_to("new");
            let context = format!("preload {preload}, {start:?}");
            check_all(&server, "old", &context);
            replace_processes(&server, "old", &context);
            let line = server.stderr.wait_for("companion started");
            let (_, pid) = line.split_once("pid=").unwrap();
            let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
            server.stderr.wait_for_nth("companion of old in old", 2);
            hup(&server);
            check_all(&server, "new", &context);
            replace_processes(&server, "new", &context);
        }
    }
}

#[test]
fn a_reload_that_fails_leaves_everything_in_the_old_release_and_a_later_one_succeeds() {
    let builder = Pyserve::new().watched();
    let site = Site::new(&builder);
    let server = site
        .start(builder, Start::Pwd)
        .args(["--static-check", "0"])
        .ready();
    let broken: &[(&str, &dyn Fn(), &str)] = &[
        (
            "an import error",
            &|| {
                write_files(
                    &site.at("new"),
                    &[("site_app.py", "import no_such_module\n")],
                )
            },
            "no_such_module",
        ),
        (
            "an import error of the second application",
            &|| {
                write_files(
                    &site.at("new"),
                    &[("second/second.py", "import no_such_one\n")],
                )
            },
            "no_such_one",
        ),
        (
            "wrong settings",
            &|| {
                write_files(
                    &site.at("new"),
                    &[("pyserve.toml", "no_such_setting = 1\n")],
                )
            },
            "no_such_setting",
        ),
        (
            "a static directory that is missing",
            &|| fs::remove_dir_all(site.at("new/files")).unwrap(),
            "there is no directory",
        ),
    ];
    for (what, breaks, why) in broken {
        site.write("new", "new");
        breaks();
        site.lead_to("new");
        let line = failed_by(&server, || server.signal(Signal::HUP));
        let expected = format!(
            "{} is still {}",
            site.link.display(),
            site.at("old").display()
        );
        assert!(line.contains(&expected), "{what}: {line}");
        server.stderr.wait_for(why);
        check_all(&server, "old", what);
        check_own_directory(&server, "old");
        replace_processes(&server, "old", what);
        site.lead_to("old");
    }
    site.write("new", "new");
    site.lead_to("new");
    hup(&server);
    check_all(&server, "new", "after the repair");
    check_own_directory(&server, "new");
}

#[test]
fn a_link_that_leads_nowhere_is_named_and_changes_nothing() {
    for start in [Start::Pwd, Start::AbsoluteChdir, Start::RelativeChdir] {
        let builder = Pyserve::new();
        let site = Site::new(&builder);
        let server = site.start(builder, start).ready();
        lead(&site.link, &site.at("nothing"));
        failed_by(&server, || server.signal(Signal::HUP));
        server.stderr.wait_for(site.link.to_str().unwrap());
        check_all(&server, "old", &format!("{start:?}"));
        site.lead_to("new");
        hup(&server);
        check_all(&server, "new", &format!("{start:?}"));
    }
}

#[test]
fn a_release_that_the_user_must_not_read_is_named_and_changes_nothing() {
    const USER: u32 = 64_321;
    if !is_root("a release that the user of the server cannot read") {
        return;
    }
    for (start, is_list) in [
        (Start::Pwd, false),
        (Start::AbsoluteChdir, false),
        (Start::AbsoluteChdir, true),
    ] {
        let builder = Pyserve::new();
        let site = Site::new(&builder);
        let (open, spool) = (fs::Permissions::from_mode(0o755), builder.path("spool"));
        fs::create_dir(&spool).unwrap();
        chown(&spool, Some(USER), Some(USER)).unwrap();
        for dir in [builder.path("."), site.root.clone()] {
            fs::set_permissions(dir, open.clone()).unwrap();
        }
        let uid = USER.to_string();
        let server = site
            .start(builder, start)
            .args(["--uid", &uid, "--gid", &uid, "--temp-dir"])
            .args([&spool])
            .ready();
        check_all(&server, "old", &format!("{start:?}"));
        let closed = match is_list {
            // Files can be opened in it, and it cannot be listed: Python finds no module.
            true => 0o711,
            false => 0o700,
        };
        fs::set_permissions(site.at("new"), fs::Permissions::from_mode(closed)).unwrap();
        site.lead_to("new");
        failed_by(&server, || server.signal(Signal::HUP));
        let line = server.stderr.wait_for(&format!("uid {uid} may not"));
        assert!(line.contains("srv/new"), "{line}");
        check_all(&server, "old", &format!("{start:?}"));
        fs::set_permissions(site.at("new"), open).unwrap();
        hup(&server);
        check_all(&server, "new", &format!("{start:?}"));
    }
}

#[test]
fn nothing_is_lost_and_old_requests_finish_from_the_old_release() {
    let builder = Pyserve::new();
    let site = Site::new(&builder);
    let server = site
        .start(builder, Start::Pwd)
        .args(["--workers", "2"])
        .ready();
    let pause = std::time::Duration::from_millis(3);
    let loads = ["/", "/static/version.txt", "/named"].map(|path| {
        let load = Load::start(&server, 2, path, pause, false);
        load.wait_for(10);
        load
    });
    let mut idle = server.connect();
    assert_eq!(idle.exchange(get("/static/version.txt")).text(), "old");
    for (from, to) in [("old", "new"), ("new", "old"), ("old", "new")] {
        let (mut inside, held) = server.hold("/held");
        site.lead_to(to);
        hup(&server);
        let answer = idle.exchange(get("/static/version.txt")).text();
        assert_eq!(answer, to, "on a connection that was open before");
        // What no link leads to is removed.
        fs::remove_dir_all(site.at(from)).unwrap();
        held.release();
        assert_eq!(inside.response().text(), from);
        check_all(&server, to, "while others ask");
        site.write(from, from);
        for load in &loads {
            load.wait_for(load.answered() + 20);
        }
    }
    for load in loads {
        let counts = load.stop().counts();
        let all_well = counts.keys().all(|fate| *fate == Fate::Status(200));
        assert!(all_well, "{counts:?}");
    }
}

#[test]
fn the_old_release_may_be_removed_before_the_reload() {
    let builder = Pyserve::new();
    let site = Site::new(&builder);
    let server = site.start(builder, Start::Pwd).ready();
    site.lead_to("new");
    fs::remove_dir_all(site.at("old")).unwrap();
    assert_eq!(server.get("/").text(), "old");
    hup(&server);
    check_all(&server, "new", "after the reload");
    check_own_directory(&server, "new");
}

#[test]
fn a_name_of_the_shell_that_is_missing_or_wrong_is_not_followed() {
    for pwd in [
        None,
        Some("elsewhere"),
        Some("nothing"),
        Some("current/../new"),
    ] {
        let builder = Pyserve::new();
        let site = Site::new(&builder);
        fs::create_dir(site.at("elsewhere")).unwrap();
        let builder = site.start(builder, Start::Pwd);
        let server = match pwd {
            None => builder.without("PWD"),
            Some(name) => builder.env("PWD", site.at(name)),
        };
        let server = server.ready();
        let context = format!("PWD is {pwd:?}");
        check_all_but_the_link(&server, "old", &context);
        site.lead_to("new");
        hup(&server);
        check_all_but_the_link(&server, "old", &context);
        check_own_directory(&server, "old");
    }
}

/// Targets of files that are named by an absolute path through the link.
const BY_THE_LINK: &[&str] = &["/absolute/version.txt", "/sent-by-link"];

fn check_all_but_the_link(server: &Server, expected: &str, context: &str) {
    for (thing, target) in THINGS.iter().filter(|(_, at)| !BY_THE_LINK.contains(at)) {
        let request = navigation(target);
        let response = server.exchange(&request);
        assert_eq!(response.text(), expected, "{context}: {thing}");
    }
}

#[test]
fn a_static_location_behind_a_link_of_its_own_is_followed_at_once_and_by_a_reload() {
    let builder = Pyserve::new();
    let root = builder.path("srv").join("x");
    let (link, chdir) = (root.join("files"), root.join("app"));
    write_files(
        &root,
        &[
            ("one/a.txt", "one"),
            ("two/a.txt", "two"),
            ("app/x.txt", ""),
        ],
    );
    lead(&link, &root.join("one"));
    let location = format!("/files={}", link.display());
    let serve = |check: &str| {
        let chdir = chdir.to_str().unwrap();
        let arguments = [
            "--static",
            &location,
            "--chdir",
            chdir,
            "--static-check",
            check,
        ];
        Pyserve::new().args(arguments).listening()
    };
    // As nginx does without `open_file_cache`.
    let server = serve("0");
    assert_eq!(server.get("/files/a.txt").text(), "one");
    lead(&link, &root.join("two"));
    assert_eq!(server.get("/files/a.txt").text(), "two");
    drop(server);
    let server = serve("1h");
    assert_eq!(server.get("/files/a.txt").text(), "two");
    lead(&link, &root.join("one"));
    hup(&server);
    assert_eq!(
        server.get("/files/a.txt").text(),
        "one",
        "the memory is of before"
    );
}

#[test]
fn several_applications_with_links_of_their_own_change_together() {
    let builder = Pyserve::new().watched();
    let root = builder.path("srv");
    fs::create_dir_all(&root).unwrap();
    let root = root.canonicalize().unwrap();
    let mut settings = String::new();
    for name in ["a", "b"] {
        for version in ["old", "new"] {
            write_release(
                &root.join(name).join(version),
                version,
                &root.join(name).join("current"),
            );
        }
        lead(
            &root.join(name).join("current"),
            &root.join(name).join("old"),
        );
        let current = root.join(name).join("current");
        let current = current.display();
        settings.push_str(&format!(
            "[[location]]\nprefix = \"/{name}\"\napp = \"site_app\"\nchdir = \"{current}\"\n\
             [[location]]\nprefix = \"/{name}/files\"\nstatic = \"{current}/files\"\n"
        ));
    }
    write_files(&root, &[("pyserve.toml", &settings)]);
    let server = builder
        .current_dir(&root)
        .args(["--static-check", "0"])
        .ready();
    let check = |a: &str, b: &str| {
        for (name, expected) in [("a", a), ("b", b)] {
            for rest in ["", "cwd", "relative", "files/version.txt"] {
                let target = format!("/{name}/{rest}");
                assert_eq!(server.get(&target).text(), expected, "{target}");
            }
        }
    };
    check("old", "old");
    let switch = |name: &str| {
        lead(
            &root.join(name).join("current"),
            &root.join(name).join("new"),
        )
    };
    switch("a");
    check("old", "old");
    hup(&server);
    check("new", "old");
    write_files(&root, &[("b/new/site_app.py", "import no_such_module\n")]);
    write_files(
        &root,
        &[("a/new/site_app.py", &format!("VERSION = 'newer'\n{APP}"))],
    );
    switch("b");
    failed_by(&server, || server.signal(Signal::HUP));
    check("new", "old");
    write_release(&root.join("b/new"), "new", &root.join("b/current"));
    hup(&server);
    assert_eq!(server.get("/a/").text(), "newer");
    assert_eq!(server.get("/b/files/version.txt").text(), "new");
    assert_eq!(server.get("/b/").text(), "new");
}

#[test]
fn directories_that_django_names_through_the_link_are_those_of_the_release() {
    let Some(venv) = crate::frameworks::venv("a Django project behind a link") else {
        return;
    };
    let builder = Pyserve::new();
    let root = builder.path("srv");
    fs::create_dir_all(&root).unwrap();
    let root = root.canonicalize().unwrap();
    let link = root.join("current");
    let project = fs::read_to_string(source("tests/apps/assets_site.py")).unwrap();
    for version in ["old", "new"] {
        let file = |name: &str| format!("{version}/{name}");
        write_files(
            &root,
            &[
                (&file("assets_site.py"), &project),
                (&file("collected/site.css"), version),
                (&file("media/cat.txt"), version),
                (&file("sources/site.css"), version),
            ],
        );
    }
    lead(&link, &root.join("old"));
    let server = builder
        .without("PYSERVE_PYTHON")
        .current_dir(&link)
        .env("PWD", &link)
        .env("COLLECTED", link.join("collected"))
        .env("SOURCES", link.join("sources"))
        .env("MEDIA", link.join("media"))
        .env("PYSERVE_DJANGO_MEDIA", "yes")
        .args(["--app", "assets_site", "--static-check", "0", "--venv"])
        .args([&venv])
        .ready();
    let check = |expected: &str| {
        for target in ["/assets/site.css", "/media/cat.txt"] {
            assert_eq!(server.get(target).text(), expected, "{target}");
        }
    };
    check("old");
    lead(&link, &root.join("new"));
    check("old");
    hup(&server);
    check("new");
}
