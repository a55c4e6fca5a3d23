//! New binaries that are broken: nothing changes, and the reason is known.

use super::*;

/// The upgrade to this program fails for this reason; the server goes on.
#[track_caller]
fn refused(server: &Server, to: &Path, expected: &str) {
    let before = main_pid(server);
    let ended = verb(server, &["upgrade", "--to", to.to_str().unwrap()]);
    assert_eq!(ended.code, 1, "{}: {}", to.display(), ended.stdout);
    assert!(
        ended.stderr.contains(expected),
        "{}: {}",
        to.display(),
        ended.stderr
    );
    assert_eq!(main_pid(server), before);
    assert_eq!(server.get("/").status(), 200);
}

/// The begin of this program, for a machine that never existed (`e_machine` of ELF).
fn foreign_program() -> Vec<u8> {
    let mut head = std::fs::read("/proc/self/exe").unwrap();
    head.truncate(4096);
    head[18..20].copy_from_slice(&[0xfe, 0xfe]);
    head
}

#[test]
fn a_program_that_cannot_be_started_or_ends_changes_nothing() {
    let site = Site::new();
    let pidfile = site.path("site.pid");
    let mut server = site.pyserve().env("PYSERVE_PIDFILE", &pidfile).ready();
    let binary = env!("CARGO_BIN_EXE_pyserve");
    let plain = site.path("plain");
    std::fs::write(&plain, "").unwrap();
    refused(&server, &site.path("absent"), "No such file");
    refused(&server, &plain, "Permission denied");
    refused(&server, site.dir.path(), "Permission denied");
    let interpreter = site.script("interpreter", "#!/nonexistent/interpreter\n");
    refused(&server, &interpreter, "No such file");
    let exits = site.script("exits", "#!/bin/sh\nexit 7\n");
    refused(&server, &exits, "exit code 7");
    let done = site.script("done", "#!/bin/sh\nexit 0\n");
    refused(&server, &done, "exit code 0");
    let killed = site.script("killed", "#!/bin/sh\nkill -9 $$\n");
    refused(&server, &killed, "SIGKILL");
    // The C library would let a shell read each of these.
    for (text, expected) in [
        (&b""[..], "neither a program (ELF) nor a script"),
        (b"exit 0\n", "neither a program (ELF) nor a script"),
        (b"\x7fELF\x02\x01\x01", "for another machine"),
        (&foreign_program(), "for another machine"),
    ] {
        let unknown = site.script("unknown", "");
        std::fs::write(&unknown, text).unwrap();
        refused(&server, &unknown, expected);
    }
    // The channel is for the program itself.
    let beside = site.script("beside", &format!("#!/bin/sh\n{binary} \"$@\"\nexit 3\n"));
    refused(&server, &beside, "the program must become the server");
    let wrapper = site.script("wrapper", &format!("#!/bin/sh\nexec {binary} \"$@\"\n"));
    let ended = verb(&server, &["upgrade", "--to", wrapper.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let written = std::fs::read_to_string(&pidfile).unwrap();
    assert_eq!(written, format!("{}\n", main_pid(&server)));
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn a_program_that_is_not_ready_in_time_is_ended() {
    let site = Site::new();
    let mut server = site
        .pyserve()
        .env("PYSERVE_UPGRADE_TIMEOUT", "300ms")
        .ready();
    // It takes no notice of SIGTERM.
    let hangs = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n";
    refused(
        &server,
        &site.script("hangs", hangs),
        "it was not ready after 0.3 s",
    );
    site.hold_next_start();
    let imports = site.path("pyserve");
    refused(&server, &imports, "it was not ready after 0.3 s");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn settings_and_code_that_the_new_process_cannot_use_change_nothing_and_are_named() {
    let site = Site::new();
    let mut server = site.pyserve().ready();
    let binary = site.path("pyserve");
    let (settings, app) = (site.path("pyserve.toml"), site.path("app.py"));
    for (text, expected) in [
        ("app = 'app:app'\nthreads = 'many'\n", "threads"),
        ("app = 'app:app'\n[[", "pyserve.toml"),
        ("app = 'app:app'\nadmin = '127.0.0.256:1'\n", "admin"),
        ("app = 'absent:app'\n", "absent"),
    ] {
        std::fs::write(&settings, text).unwrap();
        refused(&server, &binary, expected);
    }
    std::fs::write(&settings, "app = 'app:app'\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!(
        "app = 'app:app'\nadmin = '{}'\n",
        taken.local_addr().unwrap()
    );
    std::fs::write(&settings, admin).unwrap();
    refused(&server, &binary, "address in use");
    std::fs::write(&settings, "app = 'app:app'\n").unwrap();
    std::fs::write(&app, "raise ValueError('not today')\n").unwrap();
    refused(&server, &binary, "not today");
    std::fs::write(&app, APP).unwrap();
    upgrade(&server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn a_new_process_that_is_killed_changes_nothing_and_one_whose_old_process_is_killed_ends() {
    let site = Site::new();
    let mut server = site.pyserve().ready();
    let before = main_pid(&server);
    site.hold_next_start();
    server.signal(Signal::USR2);
    let import = server.probe.held("importing");
    let new = logged_pid(&server, "starts its applications pid=");
    kill(new, Signal::KILL);
    server
        .stderr
        .wait_for("keeps serving: it ended before it was ready");
    drop(import);
    assert_eq!(main_pid(&server), before);
    assert_eq!(server.get("/").status(), 200);

    server.signal(Signal::USR2);
    let import = server.probe.held("importing");
    server.stderr.wait_for_nth("starts its applications", 2);
    let children = format!("/proc/{before}/task/{before}/children");
    let children = std::fs::read_to_string(children).unwrap();
    let pids = children
        .split_ascii_whitespace()
        .map(|pid| pid.parse().unwrap());
    let pids: Vec<Pid> = pids.map(|pid| Pid::from_raw(pid).unwrap()).collect();
    server.signal(Signal::KILL);
    server
        .stderr
        .wait_for("the process that started this upgrade has ended");
    drop(import);
    for pid in pids {
        wait_until("all processes end", || has_ended(pid));
    }
    assert_eq!(server.wait_exit(), 137);
    assert!(std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err());
}

#[test]
fn the_end_of_the_first_process_is_the_end_of_the_server() {
    let site = Site::new();
    let mut server = site.pyserve().ready();
    let pid = upgrade(&server);
    server.stderr.wait_for("has finished its requests");
    server.signal(Signal::KILL);
    assert_eq!(server.wait_exit(), 137);
    server
        .stderr
        .wait_for("the process that started the server has ended: stopping");
    wait_until("the server ends", || has_ended(pid));
}
