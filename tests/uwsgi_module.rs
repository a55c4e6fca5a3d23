//! `import uwsgi` inside an application: what its functions return, across workers and beside the
//! real one; the end of workers that hold something; workers that misuse the service.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::behind::{Behind, program};
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};
use crate::support::{apps, python, temp_dir, write_files};

fn pyserve() -> Pyserve {
    Pyserve::app("uwsgi_module").args(["--uwsgi-module", "yes"])
}

/// The target that has the application evaluate this expression.
fn target(expression: &str) -> String {
    let escaped = expression.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    format!("/?{}", escaped.collect::<String>())
}

fn eval(server: &Server, expression: &str) -> String {
    server.get(&target(expression)).text()
}

/// A request that the application holds until another one says `release`.
fn begin(server: &Server, expression: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(get(&target(expression)));
    connection
}

#[track_caller]
fn wait_for(server: &Server, expression: &str, expected: &str) {
    let began = std::time::Instant::now();
    loop {
        let seen = eval(server, expression);
        if seen == expected {
            return;
        }
        assert!(
            began.elapsed() < crate::support::DEADLINE,
            "{expression} is {seen}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Expressions, in this order, whose values are the same under uWSGI 2.0.
const SAME: &[&str] = &[
    "uwsgi.version",
    "uwsgi.worker_id()",
    "uwsgi.numproc",
    "uwsgi.cores",
    "uwsgi.applications",
    "uwsgi.is_a_reload",
    "uwsgi.opt['greeting']",
    "uwsgi.opt['master'], uwsgi.opt['locks'], 'missing' in uwsgi.opt",
    "uwsgi.masterpid() == os.getppid() or uwsgi.masterpid() > 1",
    "uwsgi.mule_id(), uwsgi.in_farm(), uwsgi.ready()",
    "sorted(set(uwsgi.workers()[0]) & {'id', 'pid', 'requests', 'status'})",
    "uwsgi.workers()[0]['id'], uwsgi.workers()[0]['pid'] == os.getpid(), uwsgi.workers()[0]['status']",
    "len(uwsgi.workers()), len(forked), forked[0][1]",
    "uwsgi.request_id() == uwsgi.workers()[0]['requests'] == uwsgi.total_requests() > 0",
    "uwsgi.cache_clear()",
    "uwsgi.cache_set('a', '1')",
    "uwsgi.cache_set('a', '2')",
    "uwsgi.cache_get('a'), uwsgi.cache_get(b'a'), uwsgi.cache_get('b')",
    "uwsgi.cache_update('a', b'3'), uwsgi.cache_get('a')",
    "uwsgi.cache_exists('a'), uwsgi.cache_exists('b')",
    "uwsgi.cache_del('a'), uwsgi.cache_del('a')",
    "uwsgi.cache_inc('n'), uwsgi.cache_inc('n', 5), uwsgi.cache_dec('n', 2)",
    "uwsgi.cache_mul('n', 10), uwsgi.cache_div('n', 3)",
    "uwsgi.cache_num('n'), uwsgi.cache_num('missing'), uwsgi.cache_get('n')",
    "uwsgi.cache_keys()",
    "uwsgi.cache_set('', 'x'), uwsgi.cache_set('x', ''), uwsgi.cache_exists('x')",
    "uwsgi.cache_set('k' * 3000, 'x')",
    "uwsgi.cache_set('v', 'x' * 65536), len(uwsgi.cache_get('v'))",
    "uwsgi.cache_set('v' * 2048, 'x'), uwsgi.cache_get('v' * 2048)",
    "uwsgi.cache_set('bytes', bytes(range(256))), uwsgi.cache_get('bytes') == bytes(range(256))",
    "uwsgi.cache_set('x', 1)",
    "uwsgi.cache_set('default', 'y', 0, 'default'), uwsgi.cache_get('default')",
    "uwsgi.cache_clear(), uwsgi.cache_keys()",
    "uwsgi.lock(), uwsgi.is_locked(), uwsgi.unlock(), uwsgi.is_locked()",
    "uwsgi.unlock()",
    "uwsgi.lock(1), uwsgi.is_locked(0), uwsgi.is_locked(1), uwsgi.unlock(1)",
    "uwsgi.lock(2)",
    "uwsgi.is_locked(-1)",
    "uwsgi.set_logvar('plan', 'gold'), uwsgi.get_logvar('plan'), uwsgi.get_logvar('other')",
    "uwsgi.set_logvar('plan', 1)",
    "uwsgi.log('a line')",
    "uwsgi.SPOOL_OK, uwsgi.SPOOL_RETRY, uwsgi.SPOOL_IGNORE",
];

const INI: &str = "[uwsgi]\nmodule = uwsgi_module\nmaster = true\nprocesses = 1\nlocks = 1\ngreeting = hello\ncache2 = name=default,items=100\n";

#[test]
fn the_same_application_gets_the_same_answers_as_under_uwsgi() {
    let dir = temp_dir();
    write_files(dir.path(), &[("site.ini", INI)]);
    let ours = Pyserve::bare()
        .current_dir(apps())
        .env("PYSERVE_CONTROL", dir.path().join("control"))
        .env("PYSERVE_LOG_FORMAT", "pretty")
        .env("PYSERVE_PYTHON", python::default())
        .env("PYSERVE_UWSGI_MODULE", "yes")
        .args(["--bind", "127.0.0.1:0", "--ini"])
        .args([dir.path().join("site.ini")])
        .ready();
    let theirs = real(dir.path());
    for expression in SAME {
        let found = eval(&ours, expression);
        if let Some(socket) = &theirs {
            let mut connection = Connection::unix(&socket.socket());
            let expected = connection.exchange(get(&target(expression))).text();
            assert_eq!(found, expected, "{expression}");
        }
        assert!(
            !found.contains("NotImplementedError") && !found.contains("AttributeError"),
            "{expression}: {found}"
        );
    }
}

/// The real one, with the same file.
fn real(dir: &Path) -> Option<Behind> {
    let uwsgi = program("uwsgi", "uwsgi")?;
    let own = temp_dir();
    let mut command = Command::new(uwsgi);
    command
        .arg("--ini")
        .arg(dir.join("site.ini"))
        .arg("--http-socket")
        .arg(own.path().join("socket"));
    Some(Behind::start(&mut command, own, "spawned uWSGI worker 1"))
}

#[test]
fn workers_share_one_cache_and_each_lock_has_one_holder() {
    let server = pyserve().args(["--workers", "2"]).ready();
    let mut held = begin(
        &server,
        "uwsgi.cache_update('from', str(uwsgi.worker_id())), uwsgi.lock(), uwsgi.cache_update('locked', 'y'), hold('go'), uwsgi.unlock()",
    );
    // The other worker answers meanwhile.
    wait_for(&server, "uwsgi.cache_exists('locked')", "True");
    let workers = eval(
        &server,
        "uwsgi.cache_get('from').decode(), uwsgi.worker_id(), uwsgi.is_locked()",
    );
    assert!(
        ["('1', 2, True)", "('2', 1, True)"].contains(&&*workers),
        "{workers}"
    );
    // Only the holder gives it back.
    eval(&server, "uwsgi.unlock()");
    assert_eq!(eval(&server, "uwsgi.is_locked()"), "True");
    assert_eq!(eval(&server, "uwsgi.cache_set('go', 'x')"), "True");
    held.response();
    assert_eq!(eval(&server, "uwsgi.is_locked()"), "False");
    let error = eval(&server, "(uwsgi.lock(), uwsgi.lock())");
    assert!(
        error.starts_with("RuntimeError: this thread holds"),
        "{error}"
    );
    let total = eval(&server, "uwsgi.total_requests() >= 5, len(uwsgi.workers())");
    assert_eq!(total, "(True, 2)");
}

#[test]
fn a_worker_that_dies_leaves_the_cache_and_releases_its_locks() {
    let server = pyserve().args(["--workers", "3"]).ready();
    let mut dies = begin(
        &server,
        "uwsgi.lock(), uwsgi.cache_set('pid', str(os.getpid())), hold('never')",
    );
    wait_for(&server, "uwsgi.cache_exists('pid')", "True");
    let mut waits = begin(
        &server,
        "uwsgi.cache_set('waits', 'x'), uwsgi.lock(), uwsgi.cache_get('waits'), uwsgi.unlock()",
    );
    wait_for(&server, "uwsgi.cache_exists('waits')", "True");
    let killed = eval(
        &server,
        "os.kill(int(uwsgi.cache_get('pid')), signal.SIGKILL)",
    );
    assert_eq!(killed, "None");
    assert_eq!(dies.response().status(), 502);
    assert_eq!(waits.response().text(), "(True, None, b'x', None)");
    assert_eq!(eval(&server, "uwsgi.cache_exists('pid')"), "True");
}

#[test]
fn a_lock_of_a_forked_child_is_not_kept_by_it() {
    let server = pyserve().args(["--workers", "2"]).ready();
    // The child outlives the worker that held the lock.
    let mut dies = begin(
        &server,
        "uwsgi.lock(), os.fork() or (time.sleep(1000), os._exit(0)), os.kill(os.getpid(), signal.SIGKILL)",
    );
    assert_eq!(dies.response().status(), 502);
    wait_for(&server, "uwsgi.is_locked()", "False");
    wait_for(&server, "(uwsgi.lock(), uwsgi.unlock())", "(None, None)");
}

#[test]
fn values_expire_and_a_full_cache_refuses_new_ones() {
    let server = pyserve()
        .args(["--workers", "1", "--uwsgi-cache", "200K"])
        .ready();
    assert_eq!(eval(&server, "uwsgi.cache_set('short', 'x', 1)"), "True");
    wait_for(&server, "uwsgi.cache_get('short')", "None");
    let fill = "[uwsgi.cache_set('k%d' % n, 'x' * 50000) for n in range(5)]";
    assert_eq!(eval(&server, fill), "[True, True, True, True, None]");
    server
        .stderr
        .wait_for("the cache of `import uwsgi` is full");
    assert_eq!(eval(&server, "len(uwsgi.cache_keys())"), "4");
    assert_eq!(
        eval(&server, "uwsgi.cache_set('big', 'x' * 200000)"),
        "None"
    );
    assert_eq!(eval(&server, "uwsgi.cache_clear()"), "True");
    let many = "[uwsgi.cache_set('%0200d' % n, 'x') for n in range(500)].count(True)";
    assert_eq!(eval(&server, many), "500");
    assert_eq!(eval(&server, "len(set(uwsgi.cache_keys()))"), "500");
}

#[test]
fn a_worker_that_misuses_the_service_harms_itself_alone() {
    let server = pyserve().args(["--workers", "2"]).ready();
    // Garbage, a wrong kind of descriptor at the door, and messages whose answers it does not read.
    let garbage = "uwsgi._connection().send(b'\\xff' * 100), uwsgi._connection().recv(100)[:1]";
    assert_eq!(eval(&server, garbage), "(100, b'\\x02')");
    let wrong_kind = "(lambda s, a: [s.sendmsg([b'x'], [(a.SOL_SOCKET, a.SCM_RIGHTS, n.to_bytes(4, 'little'))]) for n in (0, 1, 2) * 10])(uwsgi._socket.socket(fileno=os.dup(uwsgi._door)), uwsgi._socket).count(1)";
    assert_eq!(eval(&server, wrong_kind), "30");
    let many = "(lambda u: [(uwsgi._local.__dict__.clear(), u.append(uwsgi._connection())) and None for n in range(700)].count(None))([])";
    let ended = eval(&server, many);
    assert!(ended == "700" || ended.contains("OSError"), "{ended}");
    server
        .stderr
        .wait_for("a connection of `import uwsgi` was refused");
    let unread =
        "[uwsgi._connection().send(uwsgi._HEADER.pack(12, 0, 0, 0, 0)) for n in range(3000)]";
    let ended = eval(&server, unread);
    assert!(
        ended.contains("BrokenPipe") || ended.contains("Reset") || ended.contains("imed out"),
        "{ended}"
    );
    wait_for(
        &server,
        "uwsgi.cache_set('a', 'x'), uwsgi.cache_get('a')",
        "(True, b'x')",
    );
    wait_for(&server, "uwsgi.cache_get('a')", "b'x'");
}

#[test]
fn variables_of_the_request_are_in_the_access_log() {
    let server = pyserve()
        .args(["--access-log", "combined", "--access-log-format"])
        .args(["line $status plan=$logvar_plan other=$logvar_other"])
        .ready();
    eval(&server, "uwsgi.set_logvar('plan', 'go\"ld')");
    server.stdout.wait_for("line 200 plan=go\\x22ld other=-");
    eval(&server, "uwsgi.set_logvar('other', 'x')");
    server.stdout.wait_for("line 200 plan=- other=x");
    // They are no header fields.
    let response = server.get(&target("uwsgi.set_logvar('X-Secret', 'x')"));
    assert_eq!(response.header("x-secret"), None);
}

#[test]
fn reload_starts_a_generation_that_knows_it() {
    let server = pyserve().ready();
    assert_eq!(eval(&server, "uwsgi.is_a_reload"), "False");
    assert_eq!(eval(&server, "uwsgi.cache_set('kept', 'x')"), "True");
    assert_eq!(eval(&server, "uwsgi.reload()"), "True");
    server.stderr.wait_for("reloaded");
    let after = "uwsgi.is_a_reload, uwsgi.cache_get('kept')";
    assert_eq!(eval(&server, after), "(True, b'x')");
    assert_eq!(
        eval(&server, "uwsgi.masterpid()"),
        server.pid().as_raw_nonzero().to_string()
    );
}

#[test]
fn what_is_not_there_says_so_when_it_is_used() {
    let server = pyserve().ready();
    for (expression, advice) in [
        ("uwsgi.spool({})", "Celery"),
        ("uwsgi.add_timer(1, 2)", "[[companion]]"),
        ("uwsgi.websocket_handshake()", "WebSockets"),
        ("uwsgi.rpc('a', 'b')", "Redis"),
        ("uwsgi.workers()[0]['tx']", "pyserve status"),
        ("__import__('uwsgidecorators').timer(3)", "[[companion]]"),
        ("__import__('uwsgidecorators').spool(len)", "Celery"),
    ] {
        let answer = eval(&server, expression);
        let starts = answer.starts_with("NotImplementedError: ");
        assert!(starts && answer.contains(advice), "{expression}: {answer}");
    }
    let without = Pyserve::app("uwsgi_module").run();
    assert_eq!(without.code, 4, "{}", without.stderr);
    assert!(without.stderr.contains("No module named 'uwsgi'"));
}

#[test]
fn workers_that_import_for_themselves_have_the_module_too() {
    let server = pyserve()
        .args(["--workers", "2", "--preload", "no"])
        .ready();
    assert_eq!(eval(&server, "uwsgi.cache_set('a', 'x')"), "True");
    assert_eq!(
        eval(
            &server,
            "len(forked), forked[0] == (os.getpid(), uwsgi.worker_id())"
        ),
        "(1, True)"
    );
    // A cache that is used at the import is no reason not to fork.
    let dir = temp_dir();
    let early = "import uwsgi, os\nuwsgi.cache_update('early', str(os.getpid()))\nuwsgi.atexit = lambda: uwsgi.log('leaving %d' % uwsgi.worker_id())\n\
                 def application(environ, start_response):\n    start_response('200 OK', [])\n    \
                 return [b'%d' % (int(uwsgi.cache_get('early')) != os.getpid())]\n";
    write_files(dir.path(), &[("early.py", early)]);
    let mut server = Pyserve::bare()
        .current_dir(dir.path())
        .env("PYSERVE_CONTROL", dir.path().join("control"))
        .env("PYSERVE_LOG_FORMAT", "pretty")
        .env("PYSERVE_PYTHON", python::default())
        .args([
            "--bind",
            "127.0.0.1:0",
            "--app",
            "early",
            "--workers",
            "1",
            "--uwsgi-module",
            "yes",
        ])
        .ready();
    assert_eq!(server.get("/").body, b"1");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    let log = server.stderr.to_end();
    assert!(log.contains("leaving 1"), "{log}");
}

#[test]
fn a_program_called_uwsgi_has_the_module_and_pyserve_toml_turns_it_off() {
    let dir = temp_dir();
    let link = dir.path().join("uwsgi");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pyserve"), &link).unwrap();
    let uwsgi = || {
        let uwsgi = Pyserve::binary(&link).current_dir(apps());
        let control = uwsgi.path("control");
        uwsgi
            .env("PYSERVE_CONTROL", control)
            .env("PYSERVE_LOG_FORMAT", "pretty")
            .env("PYSERVE_PYTHON", python::default())
            .args([
                "--http",
                "127.0.0.1:0",
                "-w",
                "uwsgi_module",
                "-p",
                "1",
                "--set",
                "x=y",
            ])
    };
    let server = uwsgi().ready();
    assert_eq!(
        eval(
            &server,
            "uwsgi.opt['module'], uwsgi.opt['x'], uwsgi.worker_id()"
        ),
        "(b'uwsgi_module', b'y', 1)"
    );
    write_files(dir.path(), &[("pyserve.toml", "uwsgi_module = false\n")]);
    let ended = uwsgi()
        .env("PYSERVE_CONFIG", dir.path().join("pyserve.toml"))
        .run();
    assert_eq!(ended.code, 4, "{}", ended.stderr);
}

#[test]
fn a_request_over_its_deadline_neither_keeps_a_lock_nor_waits_for_one() {
    let server = pyserve()
        .args(["--workers", "2", "--request-timeout", "1"])
        .ready();
    let mut holds = begin(
        &server,
        "uwsgi.lock(), uwsgi.cache_set('held', 'x'), hold('never')",
    );
    wait_for(&server, "uwsgi.cache_exists('held')", "True");
    let mut waits = begin(&server, "uwsgi.lock(), uwsgi.unlock()");
    assert_eq!(holds.response().status(), 504);
    // It gets the lock of the other, or its own time is over before.
    let status = waits.response().status();
    assert!([200, 504].contains(&status), "{status}");
    wait_for(&server, "uwsgi.lock(), uwsgi.unlock()", "(None, None)");
    wait_for(&server, "uwsgi.is_locked()", "False");
    let workers = eval(&server, "len(uwsgi.workers())");
    assert_eq!(workers, "2");
}
