//! Settings from everywhere, the errors about them, and the exit codes.

use std::net::TcpListener;

use crate::support::server::{Ended, Pyserve, get};
use crate::support::{apps, python, temp_dir, write_files};

fn check_fails(pyserve: Pyserve, code: i32, parts: &[&str]) {
    let ended = pyserve.run();
    assert_eq!(ended.code, code, "{}", ended.stderr);
    for part in parts {
        assert!(
            ended.stderr.contains(part),
            "{part:?} is missing in: {}",
            ended.stderr
        );
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn an_unknown_option_is_a_usage_error_that_names_the_likely_one() {
    check_fails(
        Pyserve::bare().args(["--wrokers", "2"]),
        2,
        &["--wrokers", "--workers"],
    );
    check_fails(
        Pyserve::bare().args(["serve", "--tread", "2"]),
        2,
        &["--threads"],
    );
    check_fails(Pyserve::bare().args(["chekc"]), 2, &["check"]);
}

#[test]
fn an_unknown_name_in_the_file_is_a_configuration_error_that_names_the_likely_one() {
    let dir = temp_dir();
    write_files(dir.path(), &[("pyserve.toml", "wrokers = 2\n")]);
    check_fails(
        Pyserve::bare().current_dir(dir.path()),
        78,
        &["wrokers", "workers", "pyserve.toml"],
    );
}

#[test]
fn a_file_that_is_not_utf_8_is_one_error_with_its_line() {
    let dir = temp_dir();
    let file = dir.path().join("pyserve.toml");
    std::fs::write(&file, b"workers = 2\n# caf\xe9\n").unwrap();
    let ended = Pyserve::bare().current_dir(dir.path()).run();
    assert_eq!(ended.code, 78);
    assert_eq!(
        ended.stderr.trim_end(),
        "pyserve: pyserve.toml:2: not valid TOML: not UTF-8 (save the file as UTF-8; a path that is not goes to a flag or variable) [PS-103]"
    );
    // The cause of any error stands there once.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let ended = Pyserve::bare().args(["--config"]).args([&file]).run();
    let cause = "directory (os error 21)";
    assert!(ended.stderr.matches(cause).count() <= 1, "{}", ended.stderr);
}

#[test]
fn what_has_the_path_of_a_socket_is_named() {
    let dir = temp_dir();
    std::fs::write(dir.path().join("file"), "").unwrap();
    std::fs::create_dir(dir.path().join("directory")).unwrap();
    std::os::unix::fs::symlink("gone", dir.path().join("link")).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("server")).unwrap();
    for (name, expected) in [
        ("file", "a regular file has this path"),
        ("directory", "a directory has this path"),
        ("link", "a link has this path"),
        ("server", "address in use (another server runs there"),
    ] {
        for flag in ["--bind", "--admin"] {
            let socket = format!("unix:{}", dir.path().join(name).display());
            let files = format!("/={}", dir.path().display());
            let builder = Pyserve::new().args([flag, &socket, "--static", &files]);
            check_fails(builder, 69, &["cannot bind", name, expected]);
        }
    }
}

#[test]
fn a_burst_without_a_rate_is_a_warning() {
    let server = Pyserve::app("hello.py").args(["--rate-burst", "5"]).ready();
    server
        .stderr
        .wait_for("rate_burst has no effect without rate_limit");
}

#[test]
fn an_unknown_variable_is_a_warning_and_those_of_kubernetes_are_not() {
    let server = Pyserve::app("hello.py")
        .env("PYSERVE_WROKERS", "2")
        .env("PYSERVE_PORT", "tcp://10.0.0.1:80")
        .env("PYSERVE_SERVICE_HOST", "10.0.0.1")
        .ready();
    let line = server.stderr.wait_for("PYSERVE_WROKERS");
    assert!(
        line.contains("PYSERVE_WORKERS") || line.contains("workers"),
        "{line}"
    );
    assert_eq!(server.stderr.count("PYSERVE_SERVICE_HOST"), 0);
}

#[test]
fn a_wrong_value_names_the_setting_the_value_and_where_it_came_from() {
    check_fails(
        Pyserve::app("hello.py").args(["--threads", "many"]),
        78,
        &["--threads", "many"],
    );
    check_fails(
        Pyserve::app("hello.py").args(["--threads", "0"]),
        78,
        &["--threads", "0"],
    );
    check_fails(
        Pyserve::app("hello.py").env("PYSERVE_MAX_BODY", "big"),
        78,
        &["PYSERVE_MAX_BODY", "big"],
    );
    check_fails(
        Pyserve::app("hello.py").args(["--bind", "host:port:x"]),
        78,
        &["--bind"],
    );
    check_fails(
        Pyserve::app("hello.py").args(["--trust", "10.0.0.0/99"]),
        78,
        &["--trust"],
    );
    let dir = temp_dir();
    write_files(dir.path(), &[("pyserve.toml", "threads = \"many\"\n")]);
    check_fails(
        Pyserve::bare().current_dir(dir.path()).args(["--app", "x"]),
        78,
        &["threads", "many", "pyserve.toml"],
    );
    write_files(dir.path(), &[("pyserve.toml", "threads = = 1\n")]);
    check_fails(
        Pyserve::bare().current_dir(dir.path()),
        78,
        &["pyserve.toml"],
    );
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let dir = temp_dir();
    let toml = "app = \"environ.py\"\nthreads = 1\nbind = \"127.0.0.1:0\"\nworkers = 1\n\
                access_log = \"off\"\nlog_format = \"pretty\"\n";
    write_files(dir.path(), &[("pyserve.toml", toml)]);
    for name in ["environ.py", "probe.py"] {
        std::fs::copy(apps().join(name), dir.path().join(name)).unwrap();
    }
    let threaded = |pyserve: Pyserve| {
        let server = pyserve
            .env("PYSERVE_PYTHON", python::default())
            .current_dir(dir.path())
            .ready();
        server.get("/").json()["entries"]["wsgi.multithread"][1] == true
    };
    assert!(!threaded(Pyserve::bare()), "the file's");
    assert!(
        threaded(Pyserve::bare().env("PYSERVE_THREADS", "2")),
        "the environment's"
    );
    let both = Pyserve::bare()
        .env("PYSERVE_THREADS", "2")
        .args(["--threads", "1"]);
    assert!(!threaded(both), "the flag's");
}

#[test]
fn check_tells_each_setting_with_its_origin_and_imports_the_application() {
    let dir = temp_dir();
    let toml = format!(
        "app = \"hello.py\"\nchdir = \"{}\"\nqueue_limit = 7\n",
        apps().display()
    );
    write_files(dir.path(), &[("pyserve.toml", &toml)]);
    let Ended {
        code,
        stdout,
        stderr,
    } = Pyserve::bare()
        .args(["check", "--threads", "3"])
        .env("PYSERVE_WORKERS", "2")
        .env("PYSERVE_PYTHON", python::default())
        .current_dir(dir.path())
        .run();
    assert_eq!(code, 0, "{stderr}");
    for (name, value, origin) in [
        ("threads", "3", "--threads"),
        ("workers", "2", "PYSERVE_WORKERS"),
        ("queue_limit", "7", "pyserve.toml"),
        ("max_body", "100M", "default"),
    ] {
        let line = stdout
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {stdout}"));
        assert!(line.contains(value) && line.contains(origin), "{line}");
    }
}

#[test]
fn check_shows_what_differs_from_the_defaults_first_and_times_with_units() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("static/a.css", ""),
            ("hello.py", "def application(e, s): pass\n"),
        ],
    );
    let ended = Pyserve::bare()
        .args([
            "check",
            "--app",
            "hello.py",
            "--threads",
            "3",
            "--keepalive-timeout",
            "20",
        ])
        .env("PYSERVE_PYTHON", python::default())
        .current_dir(dir.path())
        .run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let (set, rest) = ended.stdout.split_once("# defaults").expect("two parts");
    for part in ["threads ", "keepalive_timeout        20 s ", "app "] {
        assert!(set.contains(part), "{part}: {set}");
    }
    assert!(!set.contains(" default\n"), "{set}");
    for part in [
        "header_timeout           15 s ",
        "max_requests             never ",
        "location                 /static -> files in ",
    ] {
        assert!(rest.contains(part), "{part}: {rest}");
    }
    assert!(!rest.contains("UID"), "{rest}");
}

#[test]
fn options_of_other_servers_are_answered_with_ours() {
    for (arguments, part) in [
        (&["-w", "4"][..], "--workers"),
        (&["-b", ":8000"], "--bind"),
        (&["--processes", "4"], "--workers"),
        (&["--wsgi-file", "app.py"], "--app"),
    ] {
        check_fails(Pyserve::bare().args(arguments), 2, &[part]);
    }
    let help = Pyserve::bare().args(["help"]).run();
    assert_eq!((help.code, &*help.stderr), (0, ""));
    assert!(help.stdout.contains("Usage: pyserve"), "{}", help.stdout);
    let dir = temp_dir();
    write_files(dir.path(), &[("pyserve.toml", "processes = 4\n")]);
    check_fails(
        Pyserve::bare().current_dir(dir.path()),
        78,
        &["--workers N"],
    );
}

#[test]
fn an_interpreter_that_cannot_be_executed_ends_the_start_at_once() {
    use std::os::unix::fs::PermissionsExt;
    let dir = temp_dir();
    write_files(dir.path(), &[("python", "#!/nowhere/python\n")]);
    let path = dir.path().join("python");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ended = Pyserve::app("hello.py")
        .args(["--python"])
        .args([&path])
        .run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    let named = ended.stderr.matches(&*path.to_string_lossy()).count();
    assert_eq!(named, 1, "{}", ended.stderr);
    for part in ["from --python", "#! line"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

#[test]
fn check_says_what_is_wrong_with_the_application() {
    check_fails(
        Pyserve::app("boot_fails.py").args(["check"]),
        4,
        &["a_module_that_is_not_there", "imported with", "--venv"],
    );
    check_fails(
        Pyserve::app("absent.py").args(["check"]),
        78,
        &["absent.py"],
    );
}

#[test]
fn an_application_that_cannot_be_imported_ends_with_its_traceback() {
    for preload in ["auto", "no"] {
        let ended = Pyserve::app("boot_fails.py")
            .args(["--preload", preload])
            .run();
        assert_eq!(ended.code, 4, "{}", ended.stderr);
        let mut lines = ended.stderr.trim_end().lines().rev();
        let last = lines.next().unwrap_or_default();
        let python = format!("imported with {} (", python::default().display());
        for part in [&*python, "from PYSERVE_PYTHON)", "--venv", "--python"] {
            assert!(last.contains(part), "{part}: {}", ended.stderr);
        }
        assert_eq!(
            lines.next(),
            Some("ModuleNotFoundError: No module named 'a_module_that_is_not_there'"),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("boot_fails.py"), "{}", ended.stderr);
    }
}

#[test]
fn applications_are_named_in_many_ways() {
    for app in [
        "hello",
        "hello.py",
        "hello:application",
        "hello.py:application",
        "./hello.py",
        "factory:create_app()",
        "factory.py:create_app()",
        "factory:create_app_for('hello', debug=False)",
        "factory.py:create_app_for(\"hello\", tags={'a': ':b()'},)",
        "factory:other",
        "validated",
    ] {
        let server = Pyserve::app(app).env("VALIDATED", "hello").ready();
        assert_eq!(server.get("/").text(), "hello", "{app}");
    }
}

#[test]
fn arguments_of_a_factory_are_literals_and_stay_out_of_the_log() {
    let refused = Pyserve::app("factory:create_app_for(open('/etc/passwd'))").run();
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let expected = "ValueError: arguments of a factory are literals";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    let server = Pyserve::app("factory:create_app_for('hello', tags='hunter2')").ready();
    let log = server.stderr.so_far().join("\n");
    assert!(log.contains("factory:create_app_for(…)"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn hello_wsgi_is_the_file_if_there_is_one_and_else_the_module() {
    let dir = temp_dir();
    let app = |body: &str| {
        format!(
            "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{body}']\n"
        )
    };
    write_files(
        dir.path(),
        &[
            ("hello.wsgi", &app("the file")),
            ("package/__init__.py", ""),
            ("package/wsgi.py", &app("the module")),
        ],
    );
    for (name, body) in [("hello.wsgi", "the file"), ("package.wsgi", "the module")] {
        let server = Pyserve::new()
            .args(["--app", name])
            .current_dir(dir.path())
            .ready();
        assert_eq!(server.get("/").text(), body, "{name}");
    }
}

#[test]
fn a_callable_that_is_not_there_is_answered_with_those_that_are() {
    check_fails(
        Pyserve::app("broken_names.py"),
        4,
        &["application", "aplication", "create_app"],
    );
    check_fails(Pyserve::app("hello:absent"), 4, &["absent", "application"]);
    check_fails(Pyserve::app("no_such_module"), 4, &["no_such_module"]);
}

#[test]
fn an_application_is_found_whatever_way_its_file_binds_it() {
    let wsgi = "def make(body):\n\
                \x20   def app(environ, start_response):\n\
                \x20       start_response('200 OK', [])\n\
                \x20       return [body]\n\
                \x20   return app\n\
                application_of_parts = make(b'parts')\n";
    let named = format!("{wsgi}app = application_of_parts\n");
    for source in [
        "import parts; app = parts.make(b'here')",
        "try:\n    from parts import absent as app\nexcept ImportError:\n    from parts import make\n    app = make(b'here')",
        "from parts import (\n    make,\n    application_of_parts as app,  # here\n)",
        "from named import *",
        "from parts import make\nother, app = 1, make(b'here')",
        "import parts\nif parts:\n    app = parts.make(b'here')",
        "import parts\ndef start():\n    global app\n    app = parts.make(b'here')\nstart()",
        "import parts\nglobals()['app'] = parts.make(b'here')",
        "import parts, sys\nsys.modules[__name__].app = parts.make(b'here')",
        "import parts\ndef keep(f):\n    globals()['app'] = parts.make(b'here')\n    return f\n@keep\ndef page(): pass",
        "import parts\ndef __getattr__(name):\n    if name == 'app':\n        return parts.make(b'here')\n    raise AttributeError(name)",
        "import parts\nif parts:\n    def create_app():\n        return parts.make(b'here')",
    ] {
        let builder = Pyserve::new();
        let dir = builder.path("site");
        write_files(
            &dir,
            &[("parts.py", wsgi), ("named.py", &named), ("app.py", source)],
        );
        let server = builder.current_dir(&dir).ready();
        assert_eq!(server.get("/").status(), 200, "{source}");
    }
}

#[test]
fn what_looked_like_an_application_and_is_none_is_named() {
    let dir = temp_dir();
    write_files(dir.path(), &[("main.py", "from math import *\n")]);
    check_fails(
        Pyserve::new().current_dir(dir.path()),
        4,
        &["\"main\" has no \"application\" or \"app\""],
    );
}

#[test]
fn an_object_that_has_its_application_inside_is_answered_with_how_to_say_so() {
    let dash = "class Dash:\n\
                \x20   def server(self, environ, start_response):\n\
                \x20       start_response('200 OK', [])\n\
                \x20       return [b'inside']\n\
                app = Dash()\n\
                def create_app():\n\
                \x20   return Dash()\n\
                class Plain: pass\n\
                plain = Plain()\n";
    let dir = temp_dir();
    write_files(dir.path(), &[("app.py", dash)]);
    let started = |arguments: &[&str]| {
        let pyserve = Pyserve::new().current_dir(dir.path());
        pyserve.args(arguments)
    };
    for arguments in [&[][..], &["--app", "app"], &["--app", "app:app"]] {
        check_fails(
            started(arguments),
            4,
            &[
                "of type Dash",
                "cannot be called",
                "\"server\"",
                "app:app.server",
            ],
        );
    }
    check_fails(
        started(&["--app", "app:create_app()"]),
        4,
        &["returned", "of type Dash", "wsgi = create_app().server"],
    );
    check_fails(started(&["--app", "app:plain"]), 4, &["cannot be called"]);
    let server = started(&["--app", "app:app.server"]).ready();
    assert_eq!(server.get("/").text(), "inside");
}

#[test]
fn nothing_to_serve_is_a_configuration_error_that_tells_what_was_looked_for() {
    let dir = temp_dir();
    check_fails(
        Pyserve::new().current_dir(dir.path()),
        78,
        &["--app", "manage.py", "app.py"],
    );
}

#[test]
fn an_address_that_is_taken_is_exit_code_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check_fails(
        Pyserve::app("hello.py").args(["--bind", &address]),
        69,
        &["cannot bind", &address],
    );
    let absent = "unix:/no/such/directory/http.sock";
    check_fails(
        Pyserve::app("hello.py").args(["--bind", absent]),
        69,
        &["cannot bind", absent],
    );
}

#[test]
fn the_usual_variables_of_platforms_are_understood() {
    let port = {
        // Free a moment ago; only its presence in the settings is looked at.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port().to_string()
    };
    let Ended {
        code,
        stdout,
        stderr,
    } = Pyserve::app("hello.py")
        .without("PYSERVE_BIND")
        .without("PYSERVE_WORKERS")
        .args(["check"])
        .env("PORT", &port)
        .env("WEB_CONCURRENCY", "3")
        .run();
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains(&format!("0.0.0.0:{port}")), "{stdout}");
    let workers = stdout
        .lines()
        .find(|line| line.trim_start().starts_with("workers"));
    let workers = workers.expect("the workers");
    assert!(
        workers.contains('3') && workers.contains("WEB_CONCURRENCY"),
        "{workers}"
    );
}

#[test]
fn help_and_version_are_printed_on_stdout() {
    let help = Pyserve::bare().args(["--help"]).run();
    assert_eq!(help.code, 0);
    for part in ["--app", "--workers", "--bind", "--static", "check", "100M"] {
        assert!(help.stdout.contains(part), "{part} in {}", help.stdout);
    }
    let version = Pyserve::bare().args(["--version"]).run();
    assert_eq!(version.code, 0);
    assert!(
        version.stdout.contains(env!("CARGO_PKG_VERSION")),
        "{}",
        version.stdout
    );
}

#[test]
fn the_first_lines_tell_what_is_served_by_what() {
    let server = Pyserve::app("hello.py").args(["--threads", "2"]).ready();
    let block = server.stderr.so_far().join("\n");
    for part in [
        env!("CARGO_PKG_VERSION"),
        "hello",
        "127.0.0.1",
        "python",
        "1 × 2 threads",
    ] {
        assert!(block.contains(part), "{part} in {block}");
    }
    assert_eq!(server.exchange(&get("/")).text(), "hello");
}

/// Starts pyserve in a directory that has been removed.
fn run_in_a_removed_directory(arguments: &[&str]) -> (std::process::Output, std::path::PathBuf) {
    let builder = Pyserve::new();
    let (gone, app) = (builder.path("gone"), builder.path("app"));
    std::fs::create_dir_all(&gone).unwrap();
    write_files(
        &app,
        &[("wsgi.py", "def app(environ, start_response): pass\n")],
    );
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg("cd \"$1\" && rmdir \"$1\" && app=$2 && shift 2 && exec \"$@\"")
        .args(["sh".as_ref(), gone.as_os_str(), app.as_os_str()])
        .args([env!("CARGO_BIN_EXE_pyserve"), "check"])
        .args(
            arguments
                .iter()
                .map(|text| text.replace("APP", app.to_str().unwrap())),
        )
        .output()
        .unwrap();
    (output, app)
}

#[test]
fn a_removed_current_directory_matters_only_where_something_is_relative_to_it() {
    let (output, app) = run_in_a_removed_directory(&["--chdir", "APP", "--app", "wsgi:app"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.contains(app.to_str().unwrap()), "{text}");
    for (arguments, problem) in [
        (&["--app", "wsgi:app"][..], "give an absolute --chdir"),
        (
            &["--chdir", "app", "--app", "wsgi:app"],
            "there is no directory",
        ),
    ] {
        let (output, _) = run_in_a_removed_directory(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(problem), "{text}");
    }
}
