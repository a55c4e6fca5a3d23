//! New code and new settings in a server that goes on serving.

use rustix::process::Signal;

use crate::support::load::{Fate, Load};
use crate::support::server::{Pyserve, Server, get, post};
use crate::support::write_files;

crate::clients_over_tls! {
    new_code_takes_over_and_neither_connections_nor_running_requests_notice,
    code_that_cannot_be_imported_changes_nothing,
    reloads_that_overlap_end_with_the_last_code,
    reloads_during_long_requests_wait_for_them_instead_of_cutting_them_off,
    an_application_that_is_taken_away_answers_what_it_has_and_leaves,
}

/// A server of an application that answers `version`, with the file that holds it.
fn serving(version: &str, more: &[(&str, &str)]) -> (Server, std::path::PathBuf) {
    serving_with(version, more, &[])
}

fn serving_with(
    version: &str,
    more: &[(&str, &str)],
    arguments: &[&str],
) -> (Server, std::path::PathBuf) {
    let builder = Pyserve::new();
    let dir = builder.path("app");
    write(&dir, version);
    write_files(&dir, more);
    let server = builder
        .current_dir(&dir)
        .args(["--app", "site_app"])
        .args(arguments)
        .ready();
    (server, dir)
}

fn write(dir: &std::path::Path, version: &str) {
    let held = format!(
        "import os, probe\n\
         def app(environ, start_response):\n\
         \x20   path = environ['PATH_INFO']\n\
         \x20   if path != '/': probe.wait(path)\n\
         \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
         \x20   return [{version:?}.encode()]\n"
    );
    let probe = std::fs::read_to_string(crate::support::source("tests/apps/probe.py")).unwrap();
    write_files(dir, &[("site_app.py", &*held), ("probe.py", &*probe)]);
}

fn hup(server: &Server) {
    server.signal(Signal::HUP);
}

#[test]
fn new_code_takes_over_and_neither_connections_nor_running_requests_notice() {
    let (server, dir) = serving("old", &[]);
    let mut idle = server.connect();
    assert_eq!(idle.exchange(get("/")).text(), "old");
    let (mut inside, held) = server.hold("/inside");
    // Handed out, and taken by nobody: the only worker is busy.
    let mut waiting = server.connect();
    waiting.send(get("/"));

    write(&dir, "new");
    hup(&server);
    server.stderr.wait_for("reloaded in");
    assert_eq!(waiting.response().text(), "new");
    assert_eq!(idle.exchange(get("/")).text(), "new");
    held.release();
    assert_eq!(inside.response().text(), "old", "it finishes what it holds");
    assert_eq!(inside.exchange(get("/")).text(), "new");
}

#[test]
fn code_that_cannot_be_imported_changes_nothing() {
    let (server, dir) = serving("old", &[]);
    write_files(&dir, &[("site_app.py", "import no_such_module_here\n")]);
    hup(&server);
    server.stderr.wait_for("reload failed");
    server.stderr.wait_for("no_such_module_here");
    assert_eq!(server.get("/").text(), "old");
    write(&dir, "repaired");
    hup(&server);
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").text(), "repaired");
}

#[test]
fn workers_that_die_before_they_are_ready_never_take_over() {
    let (server, dir) = serving("old", &[]);
    let dies = "import os\nos.register_at_fork(after_in_child=lambda: os._exit(9))\n\
                def app(environ, start_response): pass\n";
    write_files(&dir, &[("site_app.py", dies)]);
    hup(&server);
    server.stderr.wait_for("reload failed");
    assert_eq!(server.get("/").text(), "old");
}

#[test]
fn settings_are_read_again_and_wrong_ones_change_nothing() {
    let (server, dir) = serving("old", &[("pyserve.toml", "server_header = true\n")]);
    let header = |server: &Server| server.get("/").header("Server");
    assert_eq!(header(&server).as_deref(), Some("pyserve"));

    write_files(&dir, &[("pyserve.toml", "server_haeder = false\n")]);
    hup(&server);
    server.stderr.wait_for("server_haeder");
    assert_eq!(header(&server).as_deref(), Some("pyserve"));

    let text = "server_header = false\nmax_body = 3\n[[location]]\nprefix = \"/ping\"\nrespond = \"pong\"\n";
    write_files(&dir, &[("pyserve.toml", text)]);
    let mut connection = server.connect();
    assert_eq!(connection.exchange(get("/")).status(), 200);
    hup(&server);
    server.stderr.wait_for("reloaded in");
    assert_eq!(header(&server), None);
    let response = connection.exchange(get("/ping"));
    assert_eq!(response.text(), "pong", "on a connection from before");
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n1234";
    assert_eq!(server.exchange(post).status(), 413);

    write_files(&dir, &[("pyserve.toml", "log_level = \"debug\"\n")]);
    hup(&server);
    let line = server.stderr.wait_for("need a restart");
    assert!(line.contains("log_level"), "{line}");
}

#[test]
fn reloads_that_overlap_end_with_the_last_code() {
    let (server, dir) = serving("0", &[]);
    for version in 1..=10 {
        write(&dir, &version.to_string());
        hup(&server);
        assert_eq!(server.get("/").status(), 200);
    }
    // At most one follows the one that was under way at the last signal.
    while server.get("/").text() != "10" {
        let reloads = server.stderr.count("reloaded in");
        server.stderr.wait_for_nth("reloaded in", reloads + 1);
    }
}

#[test]
fn reloads_during_long_requests_wait_for_them_instead_of_cutting_them_off() {
    let (server, dir) = serving("0", &[]);
    let mut inside = Vec::new();
    for number in 1..=4 {
        inside.push(server.hold(&format!("/{number}")));
        write(&dir, &number.to_string());
        hup(&server);
        server.stderr.wait_for_nth("reloaded in", number);
    }
    hup(&server);
    server.stderr.wait_for("the reload waits");
    assert_eq!(server.get("/").text(), "4");
    for (number, (mut connection, held)) in inside.into_iter().enumerate() {
        held.release();
        assert_eq!(connection.response().text(), number.to_string());
    }
    server.stderr.wait_for_nth("reloaded in", 5);
}

#[test]
fn the_workers_of_the_generation_before_leave() {
    let server = Pyserve::app("hooks.py").ready();
    assert_eq!(server.get("/").status(), 200);
    hup(&server);
    server.stderr.wait_for("reloaded in");
    server
        .probe
        .notes
        .wait_for("pyserve.before_exit in worker 0");
    assert_eq!(server.get("/").status(), 200);
}

#[test]
fn a_stop_during_a_reload_ends_both_generations() {
    let (mut server, dir) = serving("old", &[]);
    let slow = "import probe\nprobe.wait('import')\ndef app(environ, start_response): pass\n";
    write_files(&dir, &[("site_app.py", slow)]);
    hup(&server);
    let _held = server.probe.held("import");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    server.stderr.to_end();
}

#[test]
fn a_named_file_that_appears_or_changes_reloads() {
    let (server, dir) = serving_with("old", &[], &["--touch-reload", "touch-me"]);
    write(&dir, "new");
    write_files(&dir, &[("touch-me", "")]);
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").text(), "new");
}

#[test]
fn development_reloads_when_source_is_saved() {
    let (server, dir) = serving_with("old", &[], &["--dev"]);
    assert_eq!(server.get("/").text(), "old");
    write_files(&dir, &[("site_app.py", "def app(:\n")]);
    let line = server.stderr.wait_for("reload failed");
    assert!(
        line.contains("get this error until a file is saved"),
        "{line}"
    );
    let page = server.get("/");
    assert_eq!(page.status(), 500, "not what the code before answers");
    assert!(page.text().contains("SyntaxError"), "{page:?}");
    assert!(page.text().contains("site_app.py"), "{page:?}");
    write(&dir, "new and longer");
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").text(), "new and longer");
}

#[test]
fn what_is_saved_next_does_not_wait_for_code_that_never_comes_to_an_end() {
    let (server, dir) = serving_with("old", &[], &["--dev"]);
    write_files(
        &dir,
        &[("site_app.py", "import probe\nprobe.wait('import')\n")],
    );
    let _held = server.probe.held("import");
    write(&dir, "new");
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").text(), "new");
    assert_eq!(server.stderr.count("reload failed"), 0);
}

#[test]
fn code_that_never_comes_to_an_end_is_given_up_for_the_next_in_its_time() {
    let (server, dir) = serving("old", &[]);
    write_files(
        &dir,
        &[("site_app.py", "import probe\nprobe.wait('import')\n")],
    );
    server.signal(Signal::HUP);
    let _held = server.probe.held("import");
    write(&dir, "new");
    server.signal(Signal::HUP);
    server.stderr.wait_for("in favour of the next one");
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").text(), "new");
    assert_eq!(server.stderr.count("reload failed"), 0);
    // One that nobody asks for is not there, either.
    assert_eq!(server.stderr.count("reloading"), 2);
}

#[test]
fn development_begins_with_code_that_cannot_be_imported() {
    let builder = Pyserve::new();
    let dir = builder.path("app");
    write(&dir, "old");
    write_files(
        &dir,
        &[(
            "site_app.py",
            "import probe\nprobe.wait('import')\nan_error\n",
        )],
    );
    let mut server = builder
        .current_dir(&dir)
        .args(["--app", "site_app", "--dev"])
        .listening();
    let mut early = server.connect();
    early.send(get("/"));
    server.probe.held("import").release();
    for page in [early.response(), server.get("/")] {
        assert_eq!(page.status(), 500);
        assert!(page.text().contains("NameError"), "{page:?}");
    }
    write_files(&dir, &[("site_app.py", "raise ZeroDivisionError\n")]);
    server.stderr.wait_for("reload failed");
    let page = server.get("/");
    assert!(page.text().contains("ZeroDivisionError"), "{page:?}");
    write(&dir, "repaired");
    server.stderr.wait_for("ready in");
    assert_eq!(server.get("/").text(), "repaired");
    write(&dir, "and goes on");
    server.stderr.wait_for_nth("reloaded in", 2);
    assert_eq!(server.get("/").text(), "and goes on");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn development_that_begins_with_broken_code_can_be_stopped() {
    let builder = Pyserve::new();
    let dir = builder.path("app");
    write_files(&dir, &[("site_app.py", "raise ZeroDivisionError\n")]);
    let mut server = builder
        .current_dir(&dir)
        .args(["--app", "site_app", "--dev"])
        .listening();
    server.stderr.wait_for("when a file is saved");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

fn status(server: &Server) -> serde_json::Value {
    let control = server.probe.path("control");
    let output = Pyserve::bare()
        .env("PYSERVE_CONTROL", control)
        .args(["status", "--json"])
        .run();
    serde_json::from_str(&output.stdout).expect("JSON")
}

/// A table for `pyserve.toml`: this application at this prefix, with a ledger of its own.
fn mounted(prefix: &str, app: &str, dir: &std::path::Path) -> String {
    let (apps, ledger) = (crate::support::apps(), dir.join(prefix.trim_matches('/')));
    format!(
        "[[location]]\nprefix = {prefix:?}\napp = {app:?}\nchdir = {apps:?}\nenv = {{ LEDGER = {ledger:?} }}\n"
    )
}

/// A server of `tables`, and its directory.
fn mounting(tables: impl Fn(&std::path::Path) -> String) -> (Server, std::path::PathBuf) {
    let builder = Pyserve::new();
    let dir = builder.path("site");
    write_files(&dir, &[("pyserve.toml", &*tables(&dir))]);
    (builder.current_dir(&dir).ready(), dir)
}

#[test]
fn applications_come_and_go_with_a_reload_and_no_request_is_lost() {
    let (server, dir) = mounting(|dir| mounted("/one", "ledger.py", dir));
    let one = mounted("/one", "ledger.py", &dir);
    let both = one.clone() + &mounted("/two", "ledger.py", &dir);
    let pause = std::time::Duration::from_millis(3);
    let stays = Load::start(&server, 8, "/one/", pause, false);
    stays.wait_for(50);
    assert_eq!(server.get("/two/").status(), 404);
    let mut answered = 0;
    for round in 0..3 {
        write_files(&dir, &[("pyserve.toml", &*both)]);
        hup(&server);
        server.stderr.wait_for_nth("reloaded in", 2 * round + 1);
        assert_eq!(server.get("/two/").status(), 200, "ready before the switch");
        let leaves = Load::start(&server, 4, "/two/", pause, false);
        leaves.wait_for(50);
        write_files(&dir, &[("pyserve.toml", &*one)]);
        hup(&server);
        server.stderr.wait_for_nth("reloaded in", 2 * round + 2);
        leaves.wait_for(leaves.answered() + 20);
        let tally = leaves.stop();
        for (number, fate) in &tally.fates {
            assert!(
                matches!(fate, Fate::Status(200 | 404)),
                "{number}: {fate:?}"
            );
        }
        assert!(tally.counts().contains_key(&Fate::Status(404)));
        answered += 1 + tally.counts()[&Fate::Status(200)];
        stays.wait_for(stays.answered() + 50);
    }
    stays.stop().check_nothing_lost(&dir.join("one"));
    let ran = std::fs::read_to_string(dir.join("two")).unwrap();
    assert_eq!(
        ran.lines().count(),
        answered,
        "each that was answered ran once"
    );
}

#[test]
fn an_application_that_is_taken_away_answers_what_it_has_and_leaves() {
    let (server, dir) =
        mounting(|dir| mounted("/one", "hello.py", dir) + &mounted("/two", "held.py", dir));
    let mut inside = server.connect();
    inside.send(get("/two/inside"));
    let held = server.probe.held("/inside");
    let mut waiting = server.connect();
    waiting.send(get("/two/waiting"));
    write_files(
        &dir,
        &[("pyserve.toml", &*mounted("/one", "hello.py", &dir))],
    );
    hup(&server);
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/two/").status(), 404);
    assert_eq!(server.stderr.count("of the removed application to exit"), 0);
    held.release();
    assert_eq!(inside.response().status(), 200);
    server.probe.held("/waiting").release();
    assert_eq!(waiting.response().status(), 200);
    server.stderr.wait_for("of the removed application to exit");
    let last = || status(&server)["applications"].as_array().map(Vec::len);
    let began = std::time::Instant::now();
    while last() != Some(1) {
        assert!(
            began.elapsed() < crate::support::DEADLINE,
            "it does not leave"
        );
    }
}

#[test]
fn where_one_application_cannot_be_imported_none_changes() {
    let (server, dir) = mounting(|dir| mounted("/one", "whoami.py", dir));
    let who = || status(&server)["applications"][0]["workers"][0]["pid"].clone();
    let before = who();
    let broken = mounted("/one", "whoami.py", &dir) + &mounted("/two", "boot_fails.py", &dir);
    write_files(&dir, &[("pyserve.toml", &*broken)]);
    hup(&server);
    server.stderr.wait_for("reload failed");
    server.stderr.wait_for("a_module_that_is_not_there");
    assert_eq!(who(), before, "the same worker");
    assert_eq!(server.get("/two/").status(), 404);
    assert_eq!(server.get("/one/").status(), 200);
    assert_eq!(status(&server)["applications"].as_array().unwrap().len(), 1);
    // The other way round: what serves gets broken, what comes would be well.
    let other = mounted("/one", "boot_fails.py", &dir) + &mounted("/two", "hello.py", &dir);
    write_files(&dir, &[("pyserve.toml", &*other)]);
    hup(&server);
    server.stderr.wait_for_nth("reload failed", 2);
    assert_eq!(who(), before, "the same worker");
    assert_eq!(server.get("/two/").status(), 404);
}

#[test]
fn what_clients_have_used_up_counts_after_a_reload_and_under_other_limits() {
    let tables = |dir: &std::path::Path, limits: &str| {
        format!("{limits}\nthreads = 2\n") + &mounted("/", "held.py", dir)
    };
    let loose = "rate_limit = \"2/h\"\nmax_spool = \"1M\"";
    let (server, dir) = mounting(|dir| tables(dir, loose));
    let reload = |limits: &str| {
        let reloads = server.stderr.count("reloaded in");
        write_files(&dir, &[("pyserve.toml", &*tables(&dir, limits))]);
        hup(&server);
        server.stderr.wait_for_nth("reloaded in", reloads + 1);
    };
    let upload = |target: &str| post(target, &"x".repeat(300_000));
    let mut first = server.connect();
    first.send(upload("/first"));
    let held = server.probe.held("/first");
    assert_eq!(server.get("/gone").status(), 200);
    assert_eq!(
        server.get("/gone").status(),
        429,
        "the third within an hour"
    );

    let other = "rate_limit = \"2/h\"\nrate_burst = 4\nmax_spool = \"400K\"";
    reload(other);
    let mut second = server.connect();
    let _ = second.try_send(upload("/gone"));
    assert_eq!(second.response().status(), 503, "no room beside the first");
    drop(second);
    assert_eq!(server.get("/gone").status(), 200);
    assert_eq!(server.get("/gone").status(), 429, "the fifth");
    reload(&format!("{other}\nmax_connections_per_ip = 1"));
    let (answer, _) = server.connect().rest();
    assert_eq!(answer, b"", "a second connection");
    held.release();
    assert_eq!(first.response().status(), 200);
}

#[test]
fn an_application_that_was_found_and_has_gone_fails_the_reload() {
    let builder = Pyserve::new();
    let dir = builder.path("site");
    let code = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'served']\n";
    write_files(&dir, &[("app.py", code), ("static/a.txt", "a file")]);
    let server = builder.current_dir(&dir).ready();
    assert_eq!(server.get("/").text(), "served");
    for now in [Some(""), Some("1/0\n"), None] {
        match now {
            Some(text) => write_files(&dir, &[("app.py", text)]),
            None => std::fs::remove_file(dir.join("app.py")).unwrap(),
        }
        hup(&server);
        server
            .stderr
            .wait_for("the application that was found at the start is not there any more");
        assert_eq!(server.get("/").text(), "served", "{now:?}");
        assert_eq!(server.get("/static/a.txt").text(), "a file");
    }
}

#[test]
fn the_types_of_a_file_are_read_again() {
    let files = [
        ("own.types", "text/x-old\town\n"),
        ("files/a.own", "a"),
        ("files/b.css", "b"),
    ];
    let arguments = [
        "--types-file",
        "own.types",
        "--types",
        "css=text/x-css",
        "--static",
        "/f=files",
    ];
    let (server, dir) = serving_with("old", &files, &arguments);
    let kind = |target: &str| server.get(target).header("Content-Type").unwrap();
    assert_eq!(kind("/f/a.own"), "text/x-old; charset=utf-8");
    write_files(&dir, &[("own.types", "text/x-new own css\n")]);
    hup(&server);
    let line = server.stderr.wait_for("reloaded in");
    assert!(line.contains("types_file"), "{line}");
    assert_eq!(kind("/f/a.own"), "text/x-new; charset=utf-8");
    assert_eq!(
        kind("/f/b.css"),
        "text/x-css; charset=utf-8",
        "`types` precedes"
    );

    let missing = Pyserve::new()
        .current_dir(&dir)
        .args(["--app", "site_app", "--types-file", "missing.types"])
        .run();
    assert_eq!(missing.code, 78, "{}", missing.stderr);
    assert!(
        missing.stderr.contains("missing.types"),
        "{}",
        missing.stderr
    );
}
