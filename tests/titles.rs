//! What `ps` and `pgrep` show of the processes.

use std::path::Path;
use std::process::Command;

use rustix::process::Pid;

use crate::support::server::{Pyserve, Server};
use crate::support::{DEADLINE, python, skipped, write_files};

const APP: &str = "import os, sys, multiprocessing, probe\n\
    if 'TITLE' in os.environ:\n\
    \x20   import setproctitle; setproctitle.setproctitle(os.environ['TITLE'])\n\
    def child(): probe.wait('child')\n\
    def app(environ, start_response):\n\
    \x20   path, body = environ['PATH_INFO'], str(os.getpid())\n\
    \x20   if path == '/arguments': body = repr((sys.argv, getattr(sys, 'orig_argv', [0, '-c', 2, 3, 4, 5])[1:2]))\n\
    \x20   elif path == '/fork': multiprocessing.get_context('fork').Process(target=child).start()\n\
    \x20   elif path == '/import': import setproctitle; body = setproctitle.__name__\n\
    \x20   elif path.startswith('/title/'):\n\
    \x20       import setproctitle; setproctitle.setproctitle(path[7:])\n\
    \x20       body = setproctitle.getproctitle()\n\
    \x20   elif path == '/probe': import importlib.util; body = str(importlib.util.find_spec('setproctitle'))\n\
    \x20   return probe.plain(start_response, body)\n";

fn with(files: &[(&str, &str)]) -> Pyserve {
    let builder = Pyserve::new();
    let dir = builder.path("site");
    let probe = crate::support::source("tests/apps/probe.py");
    let probe = std::fs::read_to_string(probe).unwrap();
    write_files(&dir, &[("mysite/wsgi.py", APP), ("probe.py", &*probe)]);
    write_files(&dir, files);
    builder.current_dir(dir)
}

fn children(pid: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

fn read(pid: Pid, file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Name and title of template and workers.
fn titles(server: &Server) -> Vec<(String, String)> {
    let templates = children(server.pid());
    let workers: Vec<_> = templates.iter().copied().flat_map(children).collect();
    let all = templates.into_iter().chain(workers);
    let mut titles: Vec<_> = all
        .map(|pid| {
            (
                read(pid, "comm").trim_end().to_owned(),
                read(pid, "cmdline"),
            )
        })
        .collect();
    titles.sort();
    titles
}

#[track_caller]
fn wait_for_titles(server: &Server, wanted: &[(&str, &str)]) {
    let began = std::time::Instant::now();
    loop {
        let seen = titles(server);
        let is_so = seen.iter().map(|(name, title)| (&**name, &**title));
        if is_so.eq(wanted.iter().copied()) {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{seen:#?}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The environment that the kernel shows is that of the server.
#[track_caller]
fn check_environment(server: &Server) {
    let templates = children(server.pid());
    let workers: Vec<_> = templates.iter().copied().flat_map(children).collect();
    for pid in templates.into_iter().chain(workers) {
        assert_eq!(read(pid, "environ"), read(server.pid(), "environ"));
    }
}

#[test]
fn processes_show_their_role_number_and_application() {
    let settings = "app = 'mysite.wsgi'\nworkers = 2\n\
        [[location]]\nprefix = '/shop'\napp = 'mysite/wsgi.py:app'\n\
        [[companion]]\ncommand = ['sleep', '1000']\n";
    let server = with(&[("pyserve.toml", settings)])
        .without("PYSERVE_WORKERS")
        .ready();
    wait_for_titles(
        &server,
        &[
            ("pyserve-tmpl", "pyserve: template mysite.wsgi\0"),
            (
                "pyserve-tmpl",
                "pyserve: template mysite/wsgi.py:app at /shop\0",
            ),
            ("pyserve-w0", "pyserve: worker 0 mysite.wsgi\0"),
            (
                "pyserve-w0",
                "pyserve: worker 0 mysite/wsgi.py:app at /shop\0",
            ),
            ("pyserve-w1", "pyserve: worker 1 mysite.wsgi\0"),
            (
                "pyserve-w1",
                "pyserve: worker 1 mysite/wsgi.py:app at /shop\0",
            ),
            ("sleep", "sleep\u{0}1000\0"),
        ],
    );
    // Exact matches find the server alone.
    assert_eq!(read(server.pid(), "comm"), "pyserve\n");
    let worker = children(children(server.pid())[0])[0];
    let mut ps = Command::new("ps");
    ps.args(["-o", "args=", "-p", &worker.to_string()]);
    let ps = String::from_utf8(ps.output().unwrap().stdout).unwrap();
    assert!(ps.starts_with("pyserve: worker "), "{ps}");
    assert!(
        ps.trim_end().ends_with("mysite.wsgi") || ps.trim_end().ends_with("/shop"),
        "{ps}"
    );
    assert_eq!(server.get("/arguments").text(), "(['mysite.wsgi'], ['-c'])");
}

#[test]
fn the_environment_stays_readable_however_long_the_title_is() {
    let long = "é".repeat(120);
    let file = format!("{long}/{long}/wsgi.py");
    let server = with(&[(&file, APP)]).args(["--app", &file]).ready();
    check_environment(&server);
    for (_, title) in titles(&server) {
        assert!(title.starts_with("pyserve: "), "{title}");
        assert!(title.ends_with("éé\0"), "{title}");
    }
    let server = with(&[("a\nb.py", APP)]).args(["--app", "a\nb.py"]).ready();
    wait_for_titles(
        &server,
        &[
            ("pyserve-tmpl", "pyserve: template a?b.py\0"),
            ("pyserve-w0", "pyserve: worker 0 a?b.py\0"),
        ],
    );
}

#[test]
fn a_process_that_the_application_forks_counts_as_no_worker() {
    let server = with(&[]).args(["--app", "mysite.wsgi"]).ready();
    server.get("/fork");
    let held = server.probe.held("child");
    let worker = children(children(server.pid())[0])[0];
    let child = children(worker)[0];
    assert_eq!(
        read(child, "cmdline"),
        "pyserve: child of worker 0 mysite.wsgi\0"
    );
    // `pkill -HUP pyserve` would end it.
    assert!(read(child, "comm").starts_with("python"));
    held.release();
}

#[test]
fn a_worker_that_becomes_the_template_shows_it() {
    let server = with(&[])
        .args(["--app", "mysite.wsgi", "--refork", "5"])
        .ready();
    let mut connection = server.connect();
    let worker = children(children(server.pid())[0])[0];
    while server.stderr.count("the worker has become the template") == 0 {
        connection.exchange(crate::support::server::get("/"));
    }
    assert_eq!(read(worker, "cmdline"), "pyserve: template mysite.wsgi\0");
    assert_eq!(read(worker, "comm"), "pyserve-tmpl\n");
    let began = std::time::Instant::now();
    let is_worker = |pid: &Pid| read(*pid, "cmdline").starts_with("pyserve: worker ");
    while !children(worker).iter().any(is_worker) {
        assert!(began.elapsed() < DEADLINE);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_worker_in_an_interpreter_of_its_own_shows_its_number() {
    let agent = "import threading\n\
        threading.Thread(target=threading.Event().wait, daemon=True).start()\n";
    let builder = with(&[("agent/sitecustomize.py", agent)]);
    let agent = builder.path("site").join("agent");
    let server = builder
        .env("PYTHONPATH", agent)
        .args(["--app", "mysite.wsgi"])
        .ready();
    server.stderr.wait_for("an interpreter of its own");
    wait_for_titles(
        &server,
        &[
            ("pyserve-tmpl", "pyserve: template mysite.wsgi\0"),
            ("pyserve-w0", "pyserve: worker 0 mysite.wsgi\0"),
        ],
    );
}

/// A server in an environment that has the package setproctitle.
fn with_setproctitle() -> Option<Pyserve> {
    let default = python::default();
    let python = python::supported().find(|python| python.path == default)?;
    let venv = python::environment("libraries", python)
        .inspect_err(|because| skipped("titles by setproctitle", because))
        .ok()?;
    let server = with(&[]).without("PYSERVE_PYTHON");
    let arguments: [&Path; 4] = [
        "--app".as_ref(),
        "mysite.wsgi".as_ref(),
        "--venv".as_ref(),
        &venv,
    ];
    Some(server.args(arguments))
}

#[test]
fn an_application_that_sets_titles_by_itself_still_does() {
    let Some(builder) = with_setproctitle() else {
        return;
    };
    let server = builder.ready();
    // Neither looking for the package nor its import changes anything.
    assert!(server.get("/probe").text().contains("ModuleSpec"));
    assert_eq!(server.get("/import").text(), "setproctitle");
    let template = ("pyserve-tmpl", "pyserve: template mysite.wsgi\0");
    wait_for_titles(
        &server,
        &[template, ("pyserve-w0", "pyserve: worker 0 mysite.wsgi\0")],
    );
    check_environment(&server);
    for title in ["short", "a-longer-title-than-before", "short"] {
        assert_eq!(server.get(&format!("/title/{title}")).text(), title);
        let workers = children(children(server.pid())[0]);
        let shown = read(workers[0], "cmdline");
        assert_eq!(shown.trim_end_matches('\0'), title);
        check_environment(&server);
    }
    // Forked, the process shows the title that the application has set.
    server.get("/fork");
    let _held = server.probe.held("child");
    let child = children(children(children(server.pid())[0])[0])[0];
    assert_eq!(read(child, "cmdline").trim_end_matches('\0'), "short");
}

#[test]
fn a_title_that_the_import_sets_stays_in_all_processes() {
    let Some(builder) = with_setproctitle() else {
        return;
    };
    let server = builder.env("TITLE", "my shop").ready();
    let titles = titles(&server);
    let of_the_application =
        |(_, title): &(String, String)| title.trim_end_matches('\0') == "my shop";
    assert!(
        titles.len() == 2 && titles.iter().all(of_the_application),
        "{titles:?}"
    );
}
