//! Servers that are pointed at a file of uWSGI.

use std::fs;
use std::path::Path;

use crate::support::server::{Pyserve, Server};
use crate::support::{python, temp_dir, write_files};

const APP: &str = r#"
import json, os, resource, threading
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    old = os.umask(0); os.umask(old)
    return [json.dumps({
        "path": environ["PATH_INFO"], "script": environ["SCRIPT_NAME"],
        "greeting": os.environ.get("GREETING"), "umask": old,
        "space": resource.getrlimit(resource.RLIMIT_AS)[0],
        "threads": environ["wsgi.multithread"], "cwd": os.getcwd(),
    }).encode()]
"#;

/// A server with nothing but what the file says, except for its port and its interpreter.
fn pyserve(dir: &Path) -> Pyserve {
    let pyserve = Pyserve::bare().current_dir(dir);
    let control = pyserve.path("control");
    pyserve
        .env("PYSERVE_CONTROL", control)
        .env("PYSERVE_LOG_FORMAT", "pretty")
        .env("PYSERVE_FRONT_THREADS", "1")
        .env("PYSERVE_PYTHON", python::default())
}

fn answer(server: &Server, target: &str) -> serde_json::Value {
    let response = server.get(target);
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("{response:?}"))
}

#[test]
fn a_site_is_served_as_its_uwsgi_ini_says() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("app/site.py", APP),
            ("app/shop.py", APP),
            ("files/a.txt", "a file\n"),
            (
                "uwsgi.ini",
                "[uwsgi]\nhttp = 127.0.0.1:0 ; any port\nchdir = %d/app\nmodule = site_name\nmodule = site\n\
                 processes = 2\nthreads = 2\nmaster = true\nenv = GREETING=hello world\numask = 027\n\
                 limit-as = 4096\npidfile = %d/site.pid\nstatic-map = /f=%d/files\nharakari = 3\n\
                 exec-asap = echo $GREETING > %d/asap\n\
                 mount = /shop=shop:application\nmanage-script-name = true\n",
            ),
        ],
    );
    // A name that Python has itself would be imported instead.
    fs::rename(
        dir.path().join("app/site.py"),
        dir.path().join("app/mysite.py"),
    )
    .unwrap();
    let ini = dir.path().join("uwsgi.ini");
    let text = fs::read_to_string(&ini)
        .unwrap()
        .replace("module = site\n", "module = mysite\n");
    fs::write(&ini, text).unwrap();
    let mut server = pyserve(dir.path()).args(["--ini", "uwsgi.ini"]).ready();
    let root = answer(&server, "/x");
    assert_eq!(root["greeting"], "hello world");
    assert_eq!(root["umask"], 0o027);
    assert_eq!(root["space"].as_u64(), Some(4096 << 20));
    assert_eq!(root["threads"], true);
    assert!(root["cwd"].as_str().unwrap().ends_with("/app") || root["cwd"].is_string());
    let shop = answer(&server, "/shop/cart");
    assert_eq!(
        (&shop["script"], &shop["path"]),
        (&"/shop".into(), &"/cart".into())
    );
    assert_eq!(server.get("/f/a.txt").body, b"a file\n");
    // What is no file is the application's.
    assert_eq!(answer(&server, "/f/missing")["path"], "/f/missing");
    assert_eq!(
        fs::read_to_string(dir.path().join("asap")).unwrap(),
        "hello world\n"
    );
    let pid = fs::read_to_string(dir.path().join("site.pid")).unwrap();
    assert_eq!(pid.trim(), server.pid().as_raw_nonzero().to_string());
    let log = server.stderr.so_far().join("\n");
    assert_eq!(
        log.matches("uwsgi.ini:14: harakari = 3").count(),
        1,
        "{log}"
    );
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert!(!dir.path().join("site.pid").exists());
}

#[test]
fn flags_variables_and_pyserve_toml_override_the_file() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            (
                "uwsgi.ini",
                "[uwsgi]\nmodule = mysite\nprocesses = 7\nthreads = 7\nharakiri = 7\nmax-requests = 7\n\
                 mount = /shop=mysite:application\nattach-daemon = sleep 9\n",
            ),
            (
                "pyserve.toml",
                "ini = 'uwsgi.ini'\nthreads = 3\nrequest_timeout = 3\nworkers = 3\n\
                 [[location]]\nprefix = '/shop'\nrespond = 'closed'\n[[companion]]\nname = 'sleep'\ncommand = 'sleep 8'\n",
            ),
        ],
    );
    let ended = pyserve(dir.path())
        .env("PYSERVE_THREADS", "2")
        .args(["check", "--workers", "1"])
        .run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let row = |name: &str| {
        let line = ended
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
        words[1..].join(" ")
    };
    assert_eq!(row("workers"), "1 --workers");
    assert_eq!(row("threads"), "2 PYSERVE_THREADS");
    assert_eq!(row("request_timeout"), "3 s pyserve.toml:3");
    assert_eq!(row("max_requests"), "7 uwsgi.ini:6");
    assert_eq!(row("app"), "mysite uwsgi.ini:2");
    assert!(
        ended.stdout.contains("/shop -> respond"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("sleep 8") && !ended.stdout.contains("sleep 9"));
}

#[test]
fn an_upstream_takes_the_place_of_the_application_of_the_file() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[(
            "uwsgi.ini",
            "[uwsgi]\nmodule = mysite\nsocket = /tmp/x.sock\n",
        )],
    );
    let ended = pyserve(dir.path())
        .args(["check", "--ini", "uwsgi.ini", "--uwsgi", "unix:/tmp/x.sock"])
        .run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn lines_that_contradict_or_cannot_be_read_end_the_start_with_78() {
    let check = |text: &str, expected: &str| {
        let dir = temp_dir();
        write_files(dir.path(), &[("mysite.py", APP), ("uwsgi.ini", text)]);
        let ended = pyserve(dir.path()).args(["--ini", "uwsgi.ini"]).run();
        assert_eq!(ended.code, 78, "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    };
    let base = "[uwsgi]\nmodule = mysite\n";
    check(
        &format!("{base}processes = 2\ncheaper = 3\n"),
        "uwsgi.ini:4: cheaper = 3: cheaper has to be lower than processes, which is 2",
    );
    check(
        &format!("{base}http = :$(SURELY_NOT_SET)\n"),
        "uwsgi.ini:3: http = :$(SURELY_NOT_SET): the variable SURELY_NOT_SET is not set",
    );
    check(
        &format!("{base}ini = missing.ini\n"),
        "uwsgi.ini:3: ini = missing.ini: cannot read missing.ini",
    );
    check("[other]\nmodule = mysite\n", "there is no section [uwsgi]");
    check(
        &format!("{base}strict = 1\nharakari = 1\n"),
        "did you mean harakiri?",
    );
    // A value that only the resolver refuses has its line too.
    check(
        &format!("{base}processes = 99999\n"),
        "uwsgi.ini:3: processes = 99999: too many",
    );
    check(
        &format!("{base}env = \\0=x\nenv = =hunter2\nuid = no-such-user-here\nhttp = nowhere:80\n"),
        "uwsgi.ini:",
    );
}

#[test]
fn variables_of_uwsgi_count_where_one_of_them_names_a_file() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            (
                "conf/uwsgi.ini",
                "[uwsgi]\nmodule = mysite\ncallable = application\n",
            ),
        ],
    );
    let workers = |variables: &[(&str, &str)]| {
        let mut check = pyserve(dir.path()).args(["check", "--app", "mysite"]);
        for (name, value) in variables {
            check = check.env(name, value);
        }
        let ended = check.run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let line = ended
            .stdout
            .lines()
            .find(|line| line.starts_with("workers "));
        line.unwrap()
            .split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let numbers = [("UWSGI_PROCESSES", "16"), ("UWSGI_CHEAPER", "2")];
    assert!(!workers(&numbers).contains("UWSGI"), "no file is named");
    for name in [("UWSGI_INI", "conf/uwsgi.ini"), ("UWSGI_INI_DIR", "conf")] {
        let all = [name, numbers[0], numbers[1]];
        assert_eq!(workers(&all), "2..16 UWSGI_PROCESSES", "{name:?}");
    }
    // The directory may be without one.
    let all = [("UWSGI_INI_DIR", "elsewhere"), numbers[0], numbers[1]];
    assert!(!workers(&all).contains("UWSGI"));
}

#[test]
fn the_access_log_leaves_out_what_the_file_leaves_out() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            (
                "mysite.py",
                "def application(environ, start_response):\n    \
                 status = environ['PATH_INFO'][-3:]\n    \
                 start_response(f'{status} X', [])\n    return [b'x']\n",
            ),
            (
                "uwsgi.ini",
                "[uwsgi]\nmodule = mysite\nhttp = 127.0.0.1:0\ndisable-logging = true\nlog-5xx = true\n\
                 log-format = seen %(method) %(uri) %(status) %(unknown)\n\
                 route = ^/health donotlog:\n",
            ),
        ],
    );
    let server = pyserve(dir.path())
        .args(["--ini", "uwsgi.ini", "--access-log", "combined"])
        .ready();
    for target in ["/200", "/health/500", "/404", "/500", "/503"] {
        server.get(target);
    }
    server.stdout.wait_for("/503");
    let log = server.stdout.so_far().join("\n");
    assert!(
        log.contains("/500 ") && !log.contains("/200 ") && !log.contains("/404 "),
        "{log}"
    );
    assert!(!log.contains("/health"), "{log}");
    assert!(log.contains("seen GET /503 503 -"), "{log}");
}

#[test]
fn py_autoreload_reloads_when_a_file_is_saved_and_shows_no_traceback() {
    let dir = temp_dir();
    let app = |text: &str| {
        format!(
            "def application(environ, start_response):\n    \
             if environ['PATH_INFO'] == '/raise': raise ValueError('inside')\n    \
             start_response('200 OK', [])\n    return [b'{text}']\n"
        )
    };
    write_files(
        dir.path(),
        &[
            ("mysite.py", &app("one")),
            (
                "uwsgi.ini",
                "[uwsgi]\nmodule = mysite\nhttp = 127.0.0.1:0\npy-autoreload = 1\n",
            ),
        ],
    );
    crate::support::age(dir.path());
    let server = pyserve(dir.path()).args(["--ini", "uwsgi.ini"]).ready();
    assert_eq!(server.get("/").body, b"one");
    let response = server.get("/raise");
    assert_eq!(response.status(), 500);
    assert!(!String::from_utf8_lossy(&response.body).contains("inside"));
    fs::write(dir.path().join("mysite.py"), app("two")).unwrap();
    server.stderr.wait_for("reloaded");
    assert_eq!(server.get("/").body, b"two");
}

#[test]
fn a_link_of_the_name_uwsgi_takes_its_command_line() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[("mysite.py", APP), ("more.ini", "[uwsgi]\nthreads = 2\n")],
    );
    let link = dir.path().join("uwsgi");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pyserve"), &link).unwrap();
    let uwsgi = |words: &[&str]| {
        let uwsgi = Pyserve::binary(&link).current_dir(dir.path());
        let control = uwsgi.path("control");
        uwsgi
            .env("PYSERVE_CONTROL", control)
            .env("PYSERVE_LOG_FORMAT", "pretty")
            .env("PYSERVE_PYTHON", python::default())
            .args(words)
    };
    let started = [
        "--http",
        "127.0.0.1:0",
        "-w",
        "mysite",
        "--master",
        "-p",
        "2",
        "--ini",
        "more.ini",
        "--pidfile",
        "site.pid",
        "--env=GREETING=hello",
        "--logto",
        "/dev/null",
    ];
    let mut server = uwsgi(&started).ready();
    let root = answer(&server, "/");
    assert_eq!(
        (&root["greeting"], &root["threads"]),
        (&"hello".into(), &true.into())
    );
    let log = server.stderr.so_far().join("\n");
    assert!(log.contains("2 × 2 threads"), "{log}");
    assert!(
        log.contains("command line: --logto /dev/null: no effect here"),
        "{log}"
    );
    assert_eq!(uwsgi(&["--reload", "site.pid"]).run().code, 0);
    server.stderr.wait_for("reloaded");
    assert_eq!(uwsgi(&["--stop=site.pid"]).run().code, 0);
    assert_eq!(server.wait_exit(), 0);
    let ended = uwsgi(&["--stop", "site.pid"]).run();
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("site.pid: No such file"),
        "{}",
        ended.stderr
    );
    let ended = uwsgi(&["--http", ":0", "--bogus"]).run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    let ended = uwsgi(&["--version"]).run();
    assert!(ended.stdout.starts_with("pyserve "), "{}", ended.stdout);
}

#[test]
fn what_is_missing_at_the_start_does_not_end_it_where_uwsgi_starts_too() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            (
                "uwsgi.ini",
                "[uwsgi]\nmodule = mysite\nhttp = 127.0.0.1:0\npythonpath = /no/such/dir\n\
                 static-map = /f=later\nstatic-safe = /no/such/dir\nenv = GREETING=$(SURELY_NOT_SET)\n\
                 touch-reload = $(SURELY_NOT_SET)\n",
            ),
        ],
    );
    let server = pyserve(dir.path()).args(["--ini", "uwsgi.ini"]).ready();
    let missing = answer(&server, "/f/a.txt");
    assert_eq!(missing["path"], "/f/a.txt");
    assert_eq!(missing["greeting"], "$(SURELY_NOT_SET)");
    let log = server.stderr.so_far().join("\n");
    for line in [
        "uwsgi.ini:4: pythonpath: there is no directory /no/such/dir now",
        "uwsgi.ini:7: env = GREETING=$(SURELY_NOT_SET): not set: the variable SURELY_NOT_SET is not set",
        "uwsgi.ini:8: touch-reload",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    // A directory that is made later, by collectstatic perhaps, is served.
    write_files(dir.path(), &[("later/a.txt", "a file\n")]);
    assert_eq!(server.get("/f/a.txt").body, b"a file\n");
}

#[test]
fn routes_headers_error_pages_and_single_files_are_served_as_written() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            ("files/icon.ico", "an icon"),
            ("files/neighbour.txt", "not served"),
            ("pages/404.html", "<p>own page</p>"),
            // bcrypt of `secret`, by `htpasswd -nbB bob secret`.
            (
                "htpasswd",
                "bob:$2y$05$HwOiA/HuH07sWMxV6mUKYuvH2m1N1PwkyFJCZxsEsBqeQowY4eKNK\n",
            ),
            (
                "uwsgi.ini",
                "[uwsgi]\nmodule = mysite\nhttp = 127.0.0.1:0\n\
                 static-map = /favicon.ico=%d/files/icon.ico\nstatic-map = /later.txt=%d/later.txt\n\
                 static-map = /f=%d/files\nerror-page-404 = %d/pages/404.html\n\
                 add-header = X-Everywhere: yes\ndel-header = Content-Type\n\
                 route = ^/api/ addheader:X-Api: 1\nroute = ^/old$ redirect:/new\n\
                 route = ^/blog/(.*)$ redirect-permanent:/articles/$1\n\
                 route-host = ^www\\.example\\.com$ redirect-permanent:https://example.com${REQUEST_URI}\n\
                 route = ^/gone/ break:404 Not Found\nroute = ^/admin/ basicauth:Staff,%d/htpasswd\n\
                 route = ^/closed/ basicauth:Closed,bob:hunter2\n",
            ),
        ],
    );
    let server = pyserve(dir.path()).args(["--ini", "uwsgi.ini"]).ready();
    let get = |target: &str| server.get(target);
    assert_eq!(get("/favicon.ico").body, b"an icon");
    assert_eq!(answer(&server, "/favicon.icon")["path"], "/favicon.icon");
    assert_eq!(answer(&server, "/later.txt")["path"], "/later.txt");
    write_files(dir.path(), &[("later.txt", "late")]);
    assert_eq!(get("/later.txt").body, b"late");
    // The bytes of the prefix alone are no match.
    assert_eq!(
        answer(&server, "/files/icon.ico")["path"],
        "/files/icon.ico"
    );
    let root = get("/");
    assert_eq!(root.header("x-everywhere").as_deref(), Some("yes"));
    assert_eq!(root.header("content-type").as_deref(), None);
    assert_eq!(root.header("x-api").as_deref(), None);
    let api = get("/api/a");
    assert_eq!(api.header("x-api").as_deref(), Some("1"));
    assert_eq!(api.header("x-everywhere").as_deref(), Some("yes"));
    let moved = get("/old?a=1");
    assert_eq!(
        (moved.status(), moved.header("location").as_deref()),
        (302, Some("/new"))
    );
    assert_eq!(answer(&server, "/older")["path"], "/older");
    let moved = get("/blog/a/b");
    assert_eq!(
        (moved.status(), moved.header("location").as_deref()),
        (301, Some("/articles/a/b"))
    );
    let moved =
        server.exchange("GET /x?y HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n");
    assert_eq!(
        (moved.status(), moved.header("location").as_deref()),
        (301, Some("https://example.com/x?y"))
    );
    let gone = get("/gone/a");
    assert_eq!((gone.status(), &*gone.body), (404, &b"<p>own page</p>"[..]));
    assert_eq!(get("/admin/").status(), 401);
    let known = server.exchange(
        "GET /admin/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Ym9iOnNlY3JldA==\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(known.status(), 200);
    assert_eq!(get("/closed/x").status(), 403);
    let log = server.stderr.so_far().join("\n");
    assert!(log.contains("basicauth:Closed,***: not supported"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn schedules_become_companions_of_the_same_times() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            (
                "uwsgi.ini",
                "[uwsgi]\nmodule = mysite\ncron = 0 3 -1 -1 -1 python manage.py clearsessions\n\
                 unique-cron = -10 -1 -1 -1 -1 poll 'a b'\ncron2 = minute=0,harakiri=9 slow\n",
            ),
        ],
    );
    let ended = pyserve(dir.path())
        .env("TZ", "UTC")
        .args(["check", "--ini", "uwsgi.ini"])
        .run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for expected in [
        "python -> python manage.py clearsessions, \"0 3 * * *\" (UTC)",
        "poll -> poll 'a b', \"*/10 * * * *\" (UTC)",
        "slow -> exec timeout -s KILL 9 /bin/sh -c 'slow', \"0 * * * *\" (UTC)",
    ] {
        assert!(
            ended.stdout.contains(expected),
            "{expected}: {}",
            ended.stdout
        );
    }
}

#[test]
fn a_site_of_nginx_has_no_directory_that_it_does_not_name() {
    let dir = temp_dir();
    let site =
        "server {\n listen 80;\n location / { return 301 https://example.org$request_uri; }\n}\n";
    write_files(dir.path(), &[("static/a.css", "a"), ("site.conf", site)]);
    let serving = |arguments: &[&str]| {
        let server = pyserve(dir.path())
            .env("PYSERVE_BIND", "127.0.0.1:0")
            .args(["--nginx", "site.conf"])
            .args(arguments)
            .ready();
        server.get("/static/a.css").status()
    };
    assert_eq!(serving(&[]), 301);
    assert_eq!(serving(&["--root", "."]), 200, "a flag has precedence");
}

#[test]
fn modules_of_import_come_before_the_application_and_may_fail() {
    for lazy in ["false", "true"] {
        let dir = temp_dir();
        let ini = format!(
            "[uwsgi]\nhttp = 127.0.0.1:0\nchdir = %d/site\nmodule = shop\nlazy-apps = {lazy}\n\
             import = first\nimport = not_there\npy-import = lib/second.py\n"
        );
        let note = "import builtins\nbuiltins.seen = getattr(builtins, 'seen', []) + [__name__]\n";
        write_files(
            dir.path(),
            &[
                ("site/first.py", note),
                ("site/lib/second.py", note),
                (
                    "site/shop.py",
                    "before = list(seen)\n\
                     def application(environ, start_response):\n    \
                     start_response('200 OK', [])\n    return [' '.join(before).encode()]\n",
                ),
                ("uwsgi.ini", &ini),
            ],
        );
        let server = pyserve(dir.path()).args(["--ini", "uwsgi.ini"]).ready();
        assert_eq!(server.get("/").text(), "first lib_second", "{lazy}");
        server.stderr.wait_for("cannot import \"not_there\"");
        server.stderr.wait_for("ModuleNotFoundError");
    }
}

#[test]
fn paths_beside_the_mounts_are_those_of_the_first_application() {
    let dir = temp_dir();
    let ini = "[uwsgi]\nhttp-socket = 127.0.0.1:0\nmount = /shop=shop:application\n\
               mount = /blog=blog.py\ncallable = application\n";
    write_files(
        dir.path(),
        &[
            (
                "shop.py",
                &format!("{APP}\nos.environ['GREETING'] = 'shop'\n"),
            ),
            (
                "blog.py",
                &format!("{APP}\nos.environ['GREETING'] = 'blog'\n"),
            ),
            ("managed.ini", &format!("{ini}manage-script-name = true\n")),
            ("unmanaged.ini", ini),
        ],
    );
    let check = |file: &str, target: &str, expected: [&str; 3]| {
        let server = pyserve(dir.path()).args(["--ini", file]).ready();
        let answer = answer(&server, target);
        let found = ["greeting", "script", "path"].map(|key| answer[key].as_str().unwrap());
        assert_eq!(found, expected, "{file} {target}");
    };
    check("managed.ini", "/blog/2", ["blog", "/blog", "/2"]);
    check("managed.ini", "/shop/2", ["shop", "/shop", "/2"]);
    check("managed.ini", "/else", ["shop", "", "/else"]);
    check("unmanaged.ini", "/blog/2", ["shop", "", "/blog/2"]);
}

#[test]
fn a_listen_that_uwsgi_reads_as_zero_is_no_queue_of_zero() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            (
                "uwsgi.ini",
                "[uwsgi]\nmodule = mysite\nhttp = 127.0.0.1:0\nmost = 100\nlisten = %(most - 1)\n",
            ),
        ],
    );
    let server = pyserve(dir.path()).args(["--ini", "uwsgi.ini"]).ready();
    assert_eq!(server.get("/").status(), 200);
    let log = server.stderr.so_far().join("\n");
    assert!(
        log.contains("uwsgi.ini:5: listen = %(most - 1): dangerous"),
        "{log}"
    );
}
