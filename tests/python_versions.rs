//! One binary and every interpreter of this machine, with and without environments.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::python::{self, Interpreter};
use crate::support::server::{Pyserve, Server, get, post};
use crate::support::{apps, copy_program, skipped, temp_dir, write_files};

/// The small behaviours that differ between versions of the interpreter, if any do.
fn check_serves_wsgi(server: &Server, name: &str) {
    for (request, body) in [
        (get("/hello"), "hello"),
        (get("/write_callable"), "written, twice, then iterated"),
        (get("/start_twice"), "AssertionError"),
        (get("/replace_start?after=empty"), "<p>sorry"),
        (get("/late_start"), "late"),
        (get("/lengths?as=one"), "0123456789"),
        (get("/lengths?as=generator"), "0123456789"),
        (get("/lengths?as=tuple&length=7"), "0123456"),
        (get("/duplicates"), "ok"),
        (get("/closing?token=v"), "onetwo"),
        (post("/echo", "a body"), "a body"),
    ] {
        assert_eq!(server.exchange(&request).text(), body, "{name}: {request}");
    }
    server.probe.notes.wait_for("closed v");
    let input = server.exchange(&post(
        "/read_input?do=readline+read:2+readlines",
        "a\nbcd\ne",
    ));
    let pieces = [r"b'a\n'", "b'bc'", r"[b'd\n', b'e']"];
    assert_eq!(input.json()["pieces"], serde_json::json!(pieces), "{name}");
    assert_eq!(
        server.get("/files?of=file&seek=8").body.len(),
        159_992,
        "{name}"
    );
    assert_eq!(server.get("/raises").status(), 500, "{name}");
    server
        .stderr
        .wait_for("ZeroDivisionError: secret of the application");
    assert_eq!(
        server.get("/bad_iterables?kind=str").status(),
        500,
        "{name}"
    );
    assert_eq!(server.get("/hello").text(), "hello", "{name}");
}

fn about(server: &Server) -> Value {
    server.get("/environ").json()
}

/// An environment of the interpreter without anything in it.
fn bare_venv(python: &Path, dir: &Path) {
    let made = Command::new(python)
        .args(["-m", "venv", "--without-pip"])
        .arg(dir)
        .status()
        .expect("the interpreter runs");
    assert!(made.success());
}

fn real(path: impl AsRef<Path>) -> String {
    let path = path.as_ref().canonicalize().expect("it is there");
    path.to_string_lossy().into_owned()
}

#[test]
fn every_interpreter_serves_with_the_same_binary() {
    for python in python::supported() {
        let name = &python.full_version;
        let mut server = Pyserve::app("every.py")
            .args(["--python"])
            .args([&python.path])
            .ready();
        let block = server.stderr.so_far().join("\n");
        assert!(
            block.contains(name),
            "the start names the version {name}: {block}"
        );
        check_serves_wsgi(&server, name);
        let about = about(&server);
        assert_eq!(about["version"], **name);
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.wait_exit(), 0, "{name}");
    }
}

#[test]
fn every_interpreter_serves_flask_from_its_environment() {
    for python in python::supported() {
        let name = &python.full_version;
        let venv = match python::venv(python) {
            Ok(venv) => venv,
            Err(because) => {
                skipped(&format!("Flask under Python {name}"), &because);
                continue;
            }
        };
        let server = Pyserve::app("flask_hello.py")
            .without("PYSERVE_PYTHON")
            .args(["--venv"])
            .args([&venv])
            .ready();
        assert_eq!(server.get("/").json()["method"], "GET", "{name}");
        let form = server.exchange(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\nname=me",
        );
        assert_eq!(form.json()["form"], "me", "{name}");
        let block = server.stderr.so_far().join("\n");
        assert!(block.contains("Flask"), "{block}");
    }
}

#[test]
fn old_interpreters_get_one_clear_line() {
    if python::too_old().next().is_none() {
        skipped(
            "the refusal of old interpreters",
            "there is none older than 3.9",
        );
    }
    for Interpreter {
        path, full_version, ..
    } in python::too_old()
    {
        let ended = Pyserve::app("hello.py")
            .args(["--python"])
            .args([path])
            .run();
        assert_eq!(ended.code, 78, "{full_version}: {}", ended.stderr);
        let lines: Vec<_> = ended
            .stderr
            .lines()
            .filter(|line| line.contains("needs"))
            .collect();
        assert_eq!(lines.len(), 1, "{}", ended.stderr);
        for part in [full_version, "3.9", "--python"] {
            assert!(lines[0].contains(part), "{part} in {}", lines[0]);
        }
        assert!(!ended.stderr.contains("Traceback"), "{}", ended.stderr);
    }
}

#[test]
fn a_missing_interpreter_gets_one_clear_line() {
    let nowhere = temp_dir();
    let ended = Pyserve::app("hello.py")
        .without("PYSERVE_PYTHON")
        .env("PATH", nowhere.path())
        .run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(ended.stderr.contains("--python"), "{}", ended.stderr);

    for (option, value) in [("--python", "/no/such/python"), ("--venv", "/no/such/venv")] {
        let ended = Pyserve::app("hello.py")
            .without("PYSERVE_PYTHON")
            .args([option, value])
            .run();
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        assert!(ended.stderr.contains(value), "{}", ended.stderr);
    }
}

#[test]
fn what_is_no_python_is_named() {
    let dir = temp_dir();
    let fake = dir.path().join("python3");
    std::fs::write(&fake, "#!/bin/sh\nexit 7\n").unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ended = Pyserve::app("hello.py")
        .args(["--python"])
        .args([&fake])
        .run();
    assert!(matches!(ended.code, 3 | 78), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&*fake.to_string_lossy()),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_virtual_environment_is_found_in_three_ways_and_is_right_inside() {
    let dir = temp_dir();
    let venv = dir.path().join(".venv");
    bare_venv(&python::default(), &venv);
    for name in ["environ.py", "probe.py"] {
        std::fs::copy(apps().join(name), dir.path().join(name)).unwrap();
    }
    let started = || {
        Pyserve::new()
            .without("PYSERVE_PYTHON")
            .args(["--app", "environ.py"])
            .current_dir(dir.path())
    };
    for (way, pyserve) in [
        ("--venv", started().args(["--venv"]).args([&venv])),
        ("--venv relative", started().args(["--venv", ".venv"])),
        ("VIRTUAL_ENV", started().env("VIRTUAL_ENV", &venv)),
        ("./.venv", started()),
    ] {
        let server = pyserve.ready();
        let about = about(&server);
        assert_eq!(
            real(about["prefix"].as_str().unwrap()),
            real(&venv),
            "{way}"
        );
        let executable = about["executable"].as_str().unwrap();
        assert!(
            executable.contains("/.venv/bin/python"),
            "{way}: {executable}"
        );
        let block = server.stderr.so_far().join("\n");
        assert!(block.contains(".venv"), "{way}: {block}");
    }
}

#[test]
fn a_broken_environment_is_never_passed_over_in_silence() {
    let breaks = |name: &str, python: &Path| {
        std::fs::create_dir_all(python.parent().unwrap()).unwrap();
        match name {
            "is a link to /no/such/python3, which is not there" => {
                std::os::unix::fs::symlink("/no/such/python3", python).unwrap();
            }
            "is not executable" => std::fs::write(python, "").unwrap(),
            "is a directory" => std::fs::create_dir(python).unwrap(),
            _ => {
                let made = python.parent().unwrap().parent().unwrap();
                std::fs::write(made.join("pyvenv.cfg"), "").unwrap();
            }
        }
    };
    for why in [
        "is a link to /no/such/python3, which is not there",
        "is not executable",
        "is a directory",
        "is not there",
    ] {
        let dir = temp_dir();
        std::fs::copy(apps().join("hello.py"), dir.path().join("hello.py")).unwrap();
        let environment = dir.path().join(".venv");
        breaks(why, &environment.join("bin/python"));
        let started = || {
            let pyserve = Pyserve::new().without("PYSERVE_PYTHON");
            pyserve.args(["--app", "hello.py"]).current_dir(dir.path())
        };
        let server = started().ready();
        let line = server.stderr.wait_for("is not used");
        assert!(line.contains(why) && line.contains(".venv"), "{line}");
        assert_eq!(server.get("/").status(), 200);
        // Where it was named, it is an error.
        let ended = started().args(["--venv", ".venv"]).run();
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        if why != "is not there" {
            assert!(ended.stderr.contains(why), "{}", ended.stderr);
        }
        // Also one that was activated.
        let elsewhere = temp_dir();
        std::fs::copy(apps().join("hello.py"), elsewhere.path().join("hello.py")).unwrap();
        let active = Pyserve::new().without("PYSERVE_PYTHON");
        let active = active
            .args(["--app", "hello.py"])
            .current_dir(elsewhere.path());
        let server = active.env("VIRTUAL_ENV", &environment).ready();
        let line = server.stderr.wait_for("is not used");
        assert!(line.contains(why) && line.contains("VIRTUAL_ENV"), "{line}");
    }
}

#[test]
fn processes_can_be_started_from_inside_a_request() {
    for python in python::supported() {
        let name = &python.full_version;
        let dir = temp_dir();
        let venv = dir.path().join("venv");
        bare_venv(&python.path, &venv);
        let server = Pyserve::app("children.py")
            .without("PYSERVE_PYTHON")
            .args(["--venv"])
            .args([&venv])
            .ready();
        let about = server.get("/").json();
        assert_eq!(
            real(about["subprocess"].as_str().unwrap()),
            real(&venv),
            "{name}"
        );
        let main = about["main"].as_str().unwrap();
        assert_eq!(real(main), real(apps().join("children.py")), "{name}");
        for method in ["spawn", "fork", "forkserver"] {
            assert_eq!(
                about[method],
                serde_json::json!([2, 4, 6]),
                "{name} {method}"
            );
        }
        // Whatever started these tests may have left descriptors of its own to all of us.
        let line = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))";
        let without_us = python::run(&python.path, line).expect("a list");
        assert_eq!(about["inherited"], *without_us, "{name}: none of ours");
    }
}

#[test]
fn path_files_of_an_environment_and_pythonpath_are_honoured() {
    let dir = temp_dir();
    let venv = dir.path().join("venv");
    bare_venv(&python::default(), &venv);
    let line = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = python::run(&venv.join("bin/python"), line).expect("a path");
    write_files(
        dir.path(),
        &[
            ("by_pth/from_pth.py", "name = 'pth'\n"),
            ("by_variable/from_variable.py", "name = 'variable'\n"),
            ("by_option/from_option.py", "name = 'option'\n"),
            (
                "app/app.py",
                "import from_pth, from_variable, from_option\n\
                 def application(environ, start_response):\n\
                 \x20   start_response('200 OK', [])\n\
                 \x20   names = (from_pth.name, from_variable.name, from_option.name)\n\
                 \x20   return [' '.join(names).encode()]\n",
            ),
        ],
    );
    let pth = dir.path().join("by_pth").display().to_string();
    std::fs::write(Path::new(&packages).join("ours.pth"), pth + "\n").unwrap();
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--app", "app.py", "--venv"])
        .args([&venv])
        .args(["--pythonpath"])
        .args([dir.path().join("by_option")])
        .env("PYTHONPATH", dir.path().join("by_variable"))
        .current_dir(dir.path().join("app"))
        .ready();
    assert_eq!(server.get("/").text(), "pth variable option");
}

#[test]
fn pythonhome_is_honoured() {
    let dir = temp_dir();
    let home = dir.path().join("home");
    let line = "import sys; print(sys.base_prefix)";
    let prefix = python::run(&python::default(), line).expect("a path");
    std::os::unix::fs::symlink(prefix, &home).unwrap();
    let server = Pyserve::app("environ.py").env("PYTHONHOME", &home).ready();
    let about = about(&server);
    assert_eq!(about["prefix"], *home.to_string_lossy());
}

#[test]
fn the_application_sees_a_sane_sys_path_and_argv() {
    let server = Pyserve::app("environ.py").ready();
    let about = about(&server);
    let path: Vec<_> = about["path"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dir| dir.as_str().unwrap())
        .collect();
    assert_eq!(
        real(path[0]),
        real(apps()),
        "the current directory comes first"
    );
    assert!(!path.contains(&""), "{path:?}");
    let argv = about["argv"].as_array().unwrap();
    assert_eq!(argv.len(), 1, "{argv:?}");
    assert!(argv[0].as_str().unwrap().contains("environ"), "{argv:?}");
}

#[test]
fn the_bare_binary_runs_from_anywhere() {
    let dir = temp_dir();
    let copy = dir.path().join("pyserve-copied");
    copy_program(env!("CARGO_BIN_EXE_pyserve"), &copy);
    let server = Pyserve::binary(&copy)
        .quick()
        .args(["--app", "every.py", "--chdir"])
        .args([apps()])
        .current_dir("/")
        .env("HOME", "/nonexistent")
        .ready();
    check_serves_wsgi(&server, "a copy");
}

#[test]
fn python_dotenv_finds_its_file_beside_the_module_that_asks() {
    let venv = match python::libraries() {
        Ok(venv) => venv,
        Err(because) => return skipped("python-dotenv", &because),
    };
    let dir = temp_dir();
    let settings = "from dotenv import load_dotenv\nload_dotenv()\n";
    let app = "import os\n\
               from . import settings\n\
               def app(environ, start_response):\n\
               \x20   start_response('200 OK', [])\n\
               \x20   return [os.environ.get('OF_DOTENV', 'not loaded').encode()]\n";
    write_files(
        dir.path(),
        &[
            ("shop/__init__.py", ""),
            ("shop/settings.py", settings),
            ("shop/site.py", app),
            ("shop/.env", "OF_DOTENV=loaded\n"),
        ],
    );
    for preload in ["yes", "no"] {
        let server = Pyserve::new()
            .without("PYSERVE_PYTHON")
            .args(["--app", "shop.site", "--preload", preload, "--venv"])
            .args([&venv])
            .current_dir(dir.path())
            .ready();
        assert_eq!(server.get("/").text(), "loaded", "preload {preload}");
    }
}

/// Modules that import each other lazily, one that is missing, and one that ends the process.
const LAZY: &[(&str, &str)] = &[
    (
        "app.py",
        "import os, sys\n\
         lazy import shop.heavy\n\
         lazy import shop.leaves\n\
         lazy import not_installed\n\
         lazy import optparse\n\
         lazy from shop.named import pid as named\n\
         lazy from circle import left\n\
         def application(environ, start_response):\n\
         \x20   start_response('200 OK', [])\n\
         \x20   loaded = 'shop.heavy' in sys.modules, 'shop.deeper' in sys.modules, 'optparse' in sys.modules\n\
         \x20   pids = [shop.heavy.pid, shop.heavy.deeper(), named, left.pid()]\n\
         \x20   mine = [pid == os.getpid() for pid in pids]\n\
         \x20   return [f'{loaded} {mine}'.encode()]\n",
    ),
    ("shop/__init__.py", ""),
    (
        "shop/heavy.py",
        "import os\n\
         lazy import shop.deeper as below\n\
         pid = os.getpid()\n\
         def deeper():\n\
         \x20   return below.pid\n",
    ),
    ("shop/deeper.py", "import os\npid = os.getpid()\n"),
    ("shop/named.py", "import os\npid = os.getpid()\n"),
    ("shop/leaves.py", "import sys\nsys.exit(3)\n"),
    ("circle/__init__.py", ""),
    (
        "circle/left.py",
        "lazy from circle.right import pid as other\ndef pid():\n    return other\nthere = 1\n",
    ),
    (
        "circle/right.py",
        "import os\nfrom circle.left import there\npid = os.getpid()\n",
    ),
];

#[test]
fn lazy_imports_of_the_application_are_loaded_before_the_fork() {
    let lazy = python::supported().filter(|python| python.version >= (3, 15));
    let lazy: Vec<_> = lazy.collect();
    if lazy.is_empty() {
        skipped("lazy imports", "there is no CPython 3.15");
    }
    for python in lazy {
        let dir = temp_dir();
        write_files(dir.path(), LAZY);
        let started = |preload: &str| {
            let server = Pyserve::new().args(["--app", "app.py", "--preload", preload, "--python"]);
            let server = server.args([&python.path]);
            server.current_dir(dir.path()).ready()
        };
        let server = started("auto");
        // The template has loaded everything, also what the application imports of the standard library.
        assert_eq!(
            server.get("/").text(),
            "(True, True, True) [False, False, False, False]"
        );
        let line = server.stderr.wait_for("lazy imports that raise stay lazy");
        for part in ["not_installed", "shop.leaves (SystemExit: 3)"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains("circle"), "{line}");
        // Without a fork nothing is gained, so they stay lazy in each worker.
        let server = started("no");
        assert_eq!(
            server.get("/").text(),
            "(False, False, False) [True, True, True, True]"
        );
    }
}
