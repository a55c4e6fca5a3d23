//! `sys.argv` of the application: the words of the settings, before and behind the fork, and after a reload.

use rustix::process::Signal;

use crate::support::server::Pyserve;
use crate::support::{temp_dir, write_files};

const APP: &str = "import os, sys\n\
    IMPORTED = list(sys.argv), os.getpid()\n\
    def application(environ, start_response):\n\
    \x20   start_response('200 OK', [('Content-Type', 'text/plain; charset=utf-8')])\n\
    \x20   same = IMPORTED[0] == sys.argv\n\
    \x20   return [ascii([same, IMPORTED[1] == os.getpid(), sys.argv]).encode()]\n";

#[test]
fn the_words_are_those_of_the_settings() {
    let dir = temp_dir();
    let ini = "[uwsgi]\nmodule = app\npyargv = --mode  \"two words\"\t-v\n";
    let toml = "app = 'app'\nargv = ['shop', '', 'two words', 'caf\u{e9}', '--', '-x']\n\
                [[location]]\nprefix = '/own'\napp = 'app'\nargv = 'own'\n\
                [[location]]\nprefix = '/same'\napp = 'app'\n";
    let files = [("app.py", APP), ("uwsgi.ini", ini), ("some.toml", toml)];
    write_files(dir.path(), &files);
    let check = |arguments: &[&str], target: &str, expected: &str| {
        for preload in ["yes", "no"] {
            let server = Pyserve::new()
                .current_dir(dir.path())
                .args(arguments)
                .args(["--preload", preload, "--workers", "2"])
                .ready();
            let forked = if preload == "yes" { "False" } else { "True" };
            let expected = format!("[True, {forked}, [{expected}]]");
            assert_eq!(server.get(target).text(), expected, "{arguments:?}");
        }
    };
    let of_uwsgi = "'uwsgi', '--mode', '\"two', 'words\"', '-v'";
    check(&["--ini", "uwsgi.ini"], "/", of_uwsgi);
    let shop = "'shop', '', 'two words', 'caf\\xe9', '--', '-x'";
    check(&["--config", "some.toml"], "/", shop);
    check(&["--config", "some.toml"], "/same/", shop);
    check(&["--config", "some.toml"], "/own/", "'own'");
    check(&["--app", "app"], "/", "'app'");
    let flags = ["--app", "app.py", "--argv", "a", "--argv=-b"];
    check(&flags, "/", "'a', '-b'");
}

#[test]
fn a_reload_takes_the_new_words() {
    let dir = temp_dir();
    let ini = "[uwsgi]\nmodule = app\npyargv = old\n";
    write_files(dir.path(), &[("app.py", APP), ("uwsgi.ini", ini)]);
    let server = Pyserve::new()
        .current_dir(dir.path())
        .args(["--ini", "uwsgi.ini"])
        .ready();
    write_files(dir.path(), &[("uwsgi.ini", &*ini.replace("old", "new"))]);
    server.signal(Signal::HUP);
    let line = server.stderr.wait_for("reloaded in");
    assert!(line.contains("argv"), "{line}");
    assert!(server.get("/").text().ends_with("['uwsgi', 'new']]"));
}

#[test]
fn secrets_among_the_words_are_not_shown() {
    let dir = temp_dir();
    let ini = "[uwsgi]\nmodule = app\npyargv = --password hunter2 --token=t0ken9 -v\n";
    write_files(dir.path(), &[("app.py", APP), ("uwsgi.ini", ini)]);
    for verb in [
        &["explain", "uwsgi.ini"][..],
        &["check", "--ini", "uwsgi.ini"],
    ] {
        let ended = Pyserve::new().current_dir(dir.path()).args(verb).run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let shown = ended.stdout + &ended.stderr;
        assert!(shown.contains("--password"), "{verb:?}: {shown}");
        let has_secret = shown.contains("hunter2") || shown.contains("t0ken9");
        assert!(!has_secret, "{verb:?}: {shown}");
    }
}
