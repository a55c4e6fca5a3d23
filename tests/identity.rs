//! Running as somebody else: who the processes are, and what they can still do.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};
use crate::support::{self, copy_program, is_root, python, skipped};

/// A user and a group that no system has an entry for.
const NOBODY: u32 = 64_321;
const NO_GROUP: u32 = 64_322;

/// A directory with the application that anybody may read, and a place in it to write.
fn directory() -> tempfile::TempDir {
    let dir = support::temp_dir();
    fs::copy(
        support::apps().join("whoami.py"),
        dir.path().join("whoami.py"),
    )
    .unwrap();
    let spool = dir.path().join("spool");
    fs::create_dir(&spool).unwrap();
    for (path, mode) in [
        (dir.path(), 0o755),
        (&dir.path().join("whoami.py"), 0o644),
        (&spool, 0o1777),
    ] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    dir
}

fn server(dir: &Path, args: &[&str]) -> Pyserve {
    Pyserve::new()
        .args(["--app", "whoami.py", "--chdir"])
        .args([dir])
        .args([Path::new("--temp-dir"), &dir.join("spool")])
        .args(args)
        .env("TMPDIR", dir.join("spool"))
        .without("PYSERVE_CONTROL")
}

/// The numbers of the user of every thread of a process: real, effective, saved, of files.
fn users_of_threads(server: &Server) -> Vec<String> {
    let pid = server.pid().as_raw_nonzero();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lines = tasks.map(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("Uid:"));
        line.unwrap_or_default().replace('\t', " ")
    });
    lines.collect()
}

#[test]
fn the_application_runs_as_the_user_given_and_cannot_be_root_again() {
    if !is_root("running as another user") {
        return;
    }
    let dir = directory();
    let (uid, gid) = (NOBODY.to_string(), NO_GROUP.to_string());
    for (group, home) in [(gid.as_str(), "/"), ("0", "/")] {
        let server = server(dir.path(), &["--uid", &uid, "--gid", group])
            .without("HOME")
            .ready();
        let about: Value = server.get("/").json();
        let gid: u32 = group.parse().unwrap();
        assert_eq!(about["uids"], json!([NOBODY, NOBODY, NOBODY]));
        assert_eq!(about["gids"], json!([gid, gid, gid]));
        assert_eq!(about["groups"], json!([]));
        assert_eq!(about["setuid"], "PermissionError");
        assert_eq!(about["setgroups"], "PermissionError");
        assert_eq!(about["no_new_privs"], "1");
        assert_eq!(about["capabilities"], "");
        assert_eq!(
            (&about["home"], &about["user"]),
            (&json!(home), &json!(null))
        );
        assert_eq!(about["temporary"], "done");
        // Whatever started these tests may have left descriptors of its own to all of us.
        let line = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))";
        let without_us = python::run(&python::default(), line).expect("a list");
        assert_eq!(about["inherited"], *without_us, "none of ours");
        let users = users_of_threads(&server);
        let expected = format!("Uid: {NOBODY} {NOBODY} {NOBODY} {NOBODY}");
        assert!(users.iter().all(|user| *user == expected), "{users:?}");
        // More than stays in memory: a file in the temporary directory.
        let body = "x".repeat(300_000);
        let upload = server.exchange(&support::server::post("/", &body));
        assert_eq!(upload.json()["length"], 300_000);
    }
}

#[test]
fn a_name_brings_its_group_and_its_home() {
    if !is_root("running as a user by name") {
        return;
    }
    let dir = directory();
    let server = server(dir.path(), &["--uid", "daemon"]).ready();
    let about: Value = server.get("/").json();
    assert_eq!(
        (&about["uids"][1], &about["user"]),
        (&json!(1), &json!("daemon"))
    );
    assert_eq!(about["gids"][1], 1);
    assert_eq!(about["home"], "/usr/sbin");
}

#[test]
fn a_socket_file_belongs_to_the_user_and_goes_with_the_server() {
    if !is_root("the owner of a socket") {
        return;
    }
    let dir = directory();
    let socket = dir.path().join("spool/app.sock");
    let address = format!("unix:{}", socket.display());
    let (uid, gid) = (NOBODY.to_string(), NO_GROUP.to_string());
    let mut server = server(
        dir.path(),
        &["--bind", &address, "--uid", &uid, "--gid", &gid],
    )
    .ready();
    let owner = fs::metadata(&socket).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (NOBODY, NO_GROUP));
    let response = Connection::unix(&socket).exchange(get("/"));
    assert_eq!(response.json()["uids"][0], NOBODY);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert!(!socket.exists());
}

#[test]
fn a_directory_that_the_user_cannot_write_is_named() {
    if !is_root("a directory of somebody else") {
        return;
    }
    let dir = directory();
    fs::set_permissions(dir.path().join("spool"), Permissions::from_mode(0o755)).unwrap();
    let uid = NOBODY.to_string();
    let server = server(dir.path(), &["--uid", &uid, "--gid", "0"]).ready();
    let line = server.stderr.wait_for("cannot create temporary files");
    assert!(line.contains(&uid) && line.contains("spool"), "{line}");
    assert!(line.contains("--temp-dir"), "{line}");
    assert_eq!(server.get("/").status(), 200);
}

#[test]
fn who_is_not_root_is_told_so() {
    if !is_root("starting as somebody who is not root") {
        return;
    }
    // As an image does that sets its user itself.
    let dir = directory();
    let binary = dir.path().join("pyserve");
    copy_program(env!("CARGO_BIN_EXE_pyserve"), &binary);
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
    let started_as_nobody = |uid: u32| {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid=64321", "--regid=64322", "--clear-groups"])
            .arg(&binary)
            .args([
                "check",
                "--app",
                "whoami.py",
                "--python",
                "/usr/bin/python3",
            ])
            .args(["--uid", &uid.to_string(), "--gid", "64322"])
            .current_dir(dir.path())
            .env_remove("PYSERVE_BIND");
        command.output()
    };
    let Ok(other) = started_as_nobody(NOBODY + 5) else {
        return skipped(
            "starting as somebody who is not root",
            "there is no setpriv",
        );
    };
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert_eq!(other.status.code(), Some(78), "{said}");
    assert!(
        said.contains("uid 64326") && said.contains("only root"),
        "{said}"
    );
    let same = started_as_nobody(NOBODY).unwrap();
    assert_eq!(same.status.code(), Some(0), "{same:?}");
}

#[test]
fn the_file_of_a_socket_has_the_permissions_and_the_owner_of_the_settings() {
    if !is_root("giving a socket away") {
        return;
    }
    let dir = directory();
    let (uid, gid) = (NOBODY.to_string(), NO_GROUP.to_string());
    let spool = dir.path().join("spool");
    // In a directory of the user, in one that only root may write to, and given to another one.
    let cases = [
        (
            spool.join("own"),
            &["--bind-mode", "660"][..],
            (NOBODY, NO_GROUP),
        ),
        (
            dir.path().join("root"),
            &["--bind-mode", "600"],
            (NOBODY, NO_GROUP),
        ),
        (
            dir.path().join("given"),
            &["--bind-mode", "660", "--bind-owner", "64321:64329"],
            (NOBODY, NO_GROUP + 7),
        ),
    ];
    for (socket, flags, owner) in cases {
        let bind = format!("unix:{}", socket.display());
        let server = server(dir.path(), &["--bind", &bind, "--uid", &uid, "--gid", &gid])
            .without("PYSERVE_BIND")
            .args(flags)
            .ready();
        let meta = fs::symlink_metadata(&socket).unwrap();
        let mode = u32::from_str_radix(flags[1], 8).unwrap();
        assert_eq!((meta.uid(), meta.gid()), owner, "{flags:?}");
        assert_eq!(meta.mode() & 0o777, mode, "{flags:?}");
        assert_eq!(Connection::unix(&socket).exchange(get("/")).status(), 200);
        drop(server);
    }
}

/// Paths of root's own steps, with a link of the target user as the last component or before it:
/// nothing appears, changes or vanishes in the directory of root that the link leads to.
#[test]
fn root_follows_no_link_of_the_user_that_it_becomes() {
    check_links_of_another_user(true);
}

#[test]
fn root_that_stays_root_follows_no_link_of_another_user() {
    check_links_of_another_user(false);
}

fn check_links_of_another_user(becomes: bool) {
    if !is_root("links of another user") {
        return;
    }
    let (uid, gid) = (NOBODY.to_string(), NO_GROUP.to_string());
    // The flag, the text before the path, the name of the socket, and flags besides.
    let kinds: [(&str, &str, &str, &[&str]); 8] = [
        ("--bind", "unix:", "/s.sock", &[]),
        ("--bind", "unix:", "/s.sock", &["--bind-mode", "666"]),
        ("--bind", "unix:", "/s.sock", &["--bind-owner", "64321:0"]),
        ("--admin", "unix:", "/s.sock", &[]),
        ("--control", "", "/s.sock", &[]),
        ("--temp-dir", "", "", &[]),
        ("--startup-log", "", "/s.log", &[]),
        ("--log-file", "", "/s.log", &[]),
    ];
    for (flag, prefix, name, besides) in kinds {
        for place in ["parent", "before the parent", "last", "absolute chdir"] {
            let dir = directory();
            let (theirs, roots) = (dir.path().join("theirs"), dir.path().join("roots"));
            fs::create_dir(&theirs).unwrap();
            fs::create_dir_all(roots.join("sub")).unwrap();
            fs::set_permissions(&roots, Permissions::from_mode(0o700)).unwrap();
            // Left over by a server of root: it would be replaced.
            for socket in ["s.sock", "sub/s.sock"] {
                drop(std::os::unix::net::UnixListener::bind(roots.join(socket)).unwrap());
            }
            if place == "last" {
                fs::write(roots.join("s.log"), "before\n").unwrap();
            }
            let link = theirs.join("link");
            let (target, path) = match place {
                "parent" => (roots.clone(), format!("{}{name}", link.display())),
                "before the parent" => (roots.clone(), format!("{}/sub{name}", link.display())),
                // A directory for files is the link itself in the first case.
                "last" if name.is_empty() => continue,
                "last" => (roots.join(&name[1..]), link.display().to_string()),
                // The setting is relative to it.
                _ => (roots.clone(), format!(".{name}")),
            };
            std::os::unix::fs::symlink(target, &link).unwrap();
            for path in [&theirs, &link] {
                std::os::unix::fs::lchown(path, Some(NOBODY), Some(NO_GROUP)).unwrap();
            }
            let before = listing(&roots);
            let files = format!("/={}", dir.path().display());
            let mut server = Pyserve::new().without("PYSERVE_CONTROL").args(besides);
            server = server.args(["--static", &files]);
            if becomes {
                server = server.args(["--uid", &uid, "--gid", &gid]);
            }
            if place == "absolute chdir" {
                server = server.args([Path::new("--chdir"), &link]);
            }
            if flag != "--temp-dir" {
                server = server.args([Path::new("--temp-dir"), &dir.path().join("spool")]);
            }
            let server = server.args([flag, &format!("{prefix}{path}")]).started();
            server.stderr.wait_for(match flag {
                "--bind" | "--admin" => "cannot bind",
                "--log-file" => "other than root",
                _ => "ready in",
            });
            // After `--uid` the user's own permissions decide.
            let is_refused = !becomes && besides != ["--bind-owner", "64321:0"];
            if is_refused && (place != "last" || flag.ends_with("log")) {
                server.stderr.wait_for("other than root");
            }
            assert_eq!(listing(&roots), before, "{flag} {besides:?} {place}");
            drop(server);
            assert_eq!(listing(&roots), before, "{flag} {besides:?} {place}");
        }
    }
}

/// Names below a directory with inode, owner and time of the last change.
fn listing(dir: &Path) -> Vec<(std::path::PathBuf, u64, u32, i64)> {
    let mut names = vec![dir.join("s.sock"), dir.join("sub/s.sock")];
    for dir in [dir, &dir.join("sub")] {
        names.extend(
            fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
    }
    names.sort();
    let about = |path: std::path::PathBuf| {
        let stat = fs::symlink_metadata(&path).unwrap();
        (path, stat.ino(), stat.uid(), stat.ctime_nsec())
    };
    names.into_iter().map(about).collect()
}

/// A verb that believed it would call a server healthy that does not run.
#[test]
fn a_server_of_another_user_under_our_name_is_not_asked() {
    if !is_root("a directory of another user") {
        return;
    }
    let dir = support::temp_dir();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    let place = dir.path().join("pyserve-0");
    fs::create_dir(&place).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(place.join("1.sock")).unwrap();
    std::os::unix::fs::chown(&place, Some(NOBODY), Some(NO_GROUP)).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    for verb in ["health", "status", "reload", "stop"] {
        let ended = Pyserve::bare()
            .without("PYSERVE_CONTROL")
            .without("XDG_RUNTIME_DIR")
            .env("TMPDIR", dir.path())
            .args([verb])
            .run();
        assert_ne!(ended.code, 0, "{verb}");
        assert!(
            ended.stderr.contains("no server runs here"),
            "{}",
            ended.stderr
        );
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nothing has connected to it");
}

/// A server of any user at a path that an operator gives as `--control`.
#[test]
fn root_asks_no_server_of_a_user_that_the_settings_do_not_name() {
    if !is_root("a server of another user") {
        return;
    }
    let dir = support::temp_dir();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let uid = NOBODY.to_string();
    let fake = "import os,socket,sys
os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
server = socket.socket(socket.AF_UNIX)
server.bind('control'); server.listen(); print(flush=True)
while True:
    client, _ = server.accept()
    try: client.sendall(b'{\"done\":true,\"text\":\"ready\"}\\n')
    except OSError: pass  # A client that refuses the server has left.
";
    let mut server = std::process::Command::new("python3")
        .args(["-c", fake, &uid])
        .current_dir(dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0];
    std::io::Read::read_exact(&mut server.stdout.take().unwrap(), &mut line).unwrap();
    let ask = |user: &str| {
        let mut verb = Pyserve::bare().env("PYSERVE_CONTROL", dir.path().join("control"));
        if !user.is_empty() {
            verb = verb.env("PYSERVE_UID", user).env("PYSERVE_GID", user);
        }
        verb.args(["health"]).run()
    };
    let (refused, accepted) = (ask(""), ask(&uid));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    let reason = format!("it belongs to user {uid}, not to the user of the settings");
    assert!(refused.stderr.contains(&reason), "{}", refused.stderr);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
}

#[test]
fn what_the_user_cannot_reach_is_one_error_that_names_it() {
    if !is_root("running as another user") {
        return;
    }
    let uid = NOBODY.to_string();
    let private = || {
        let dir = support::temp_dir();
        let inside = dir.path().join("private");
        fs::create_dir(&inside).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        (dir, inside)
    };
    let close = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();

    // The interpreter, behind a link of an environment.
    let (dir, inside) = private();
    let (python, link) = (inside.join("python3"), dir.path().join("python"));
    copy_program("/bin/true", &python);
    std::os::unix::fs::symlink(&python, &link).unwrap();
    close(&inside);
    let site = directory();
    let by_link = server(site.path(), &["--uid", &uid, "--gid", &uid])
        .args(["--python"])
        .args([&link]);
    one_error(by_link.run(), &[&link, &inside], "search");

    // The directory of the application, and a package in it.
    let (_dir, inside) = private();
    fs::write(inside.join("whoami.py"), "").unwrap();
    fs::create_dir(inside.join("spool")).unwrap();
    close(&inside);
    one_error(
        server(&inside, &["--uid", &uid, "--gid", &uid]).run(),
        &[&inside],
        "search",
    );
    let (dir, inside) = private();
    fs::write(inside.join("wsgi.py"), "").unwrap();
    close(&inside);
    let module = Pyserve::new().args([
        "--app",
        "private.wsgi",
        "--uid",
        &uid,
        "--gid",
        &uid,
        "--chdir",
    ]);
    one_error(module.args([dir.path()]).run(), &[&inside], "search");
}

/// The start failed with code 78, and one line that names these paths.
#[track_caller]
fn one_error(ended: support::server::Ended, paths: &[&Path], what: &str) {
    let stderr = &ended.stderr;
    assert_eq!(ended.code, 78, "{stderr}");
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| line.contains("pyserve: "))
        .collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    for path in paths {
        assert!(lines[0].contains(&*path.to_string_lossy()), "{stderr}");
    }
    assert!(
        lines[0].contains(what) && lines[0].contains("mode 0700"),
        "{stderr}"
    );
}

#[test]
fn another_user_in_the_settings_is_named_at_a_reload_and_needs_a_restart() {
    if !is_root("running as another user") {
        return;
    }
    // Started as root and staying so; started as root and running as another user.
    for before in ["", "uid = 64321\ngid = 64322\n"] {
        let dir = directory();
        let write = |identity: &str| {
            let file = dir.path().join("pyserve.toml");
            fs::write(&file, identity).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        };
        write(before);
        let server = server(dir.path(), &[]).current_dir(dir.path()).ready();
        let users = server.get("/").json()["uids"].clone();
        write("uid = 64323\ngid = 64324\n");
        server.signal(Signal::HUP);
        let line = server.stderr.wait_for("need a restart");
        for part in ["uid", "gid", "[PS-115]"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert_eq!(server.get("/").json()["uids"], users);
    }
}
