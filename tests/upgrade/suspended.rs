//! Ctrl-Z and SIGTSTP at each moment of an upgrade: the server stops, and goes on when it is continued.

use rustix::process::{kill_process_group, test_kill_process_group};

use super::*;

/// The receivers of the signal: the job of a shell, or its first process.
#[derive(Debug, Clone, Copy)]
enum To {
    Job,
    First,
}

fn is_stopped(pid: &Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| state.starts_with('T'))
}

/// Suspends and continues these processes, three times.
#[track_caller]
fn suspend_and_continue(server: &Server, all: &[Pid], to: To) {
    test_kill_process_group(server.pid()).expect("a job of its own");
    let send = |signal| match to {
        To::Job => kill_process_group(server.pid(), signal).unwrap(),
        To::First => server.signal(signal),
    };
    for _ in 0..3 {
        send(Signal::TSTP);
        wait_until("all are stopped", || all.iter().all(is_stopped));
        send(Signal::CONT);
        wait_until("all go on", || !all.iter().any(is_stopped));
    }
}

#[test]
fn a_job_that_is_suspended_while_the_new_process_starts_goes_on() {
    let site = Site::new();
    for to in [To::Job, To::First] {
        let server = site.pyserve().in_own_group().ready();
        site.hold_next_start();
        server.signal(Signal::USR2);
        let import = server.probe.held("importing");
        let new = logged_pid(&server, "starts its applications pid=");
        site.hold_no_more();
        suspend_and_continue(&server, &[server.pid(), new], to);
        assert_eq!(server.get("/").status(), 200, "{to:?}");
        import.release();
        server.stderr.wait_for("upgraded from pyserve ");
        assert_eq!(main_pid(&server), new);
        assert_eq!(server.get("/").status(), 200, "{to:?}");
    }
}

#[test]
fn a_job_that_is_suspended_while_the_old_process_drains_goes_on() {
    let site = Site::new();
    for to in [To::Job, To::First] {
        let mut server = site.pyserve().in_own_group().ready();
        let (mut connection, held) = server.hold("/inside");
        let new = upgrade(&server);
        suspend_and_continue(&server, &[server.pid(), new], to);
        assert_eq!(server.get("/").status(), 200, "{to:?}");
        held.release();
        assert_eq!(connection.response().status(), 200, "{to:?}");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0);
    }
}

#[test]
fn a_job_that_is_suspended_after_an_upgrade_goes_on() {
    let site = Site::new();
    for to in [To::Job, To::First] {
        let mut server = site.pyserve().in_own_group().ready();
        let new = upgrade(&server);
        server.stderr.wait_for("has finished its requests");
        suspend_and_continue(&server, &[server.pid(), new], to);
        assert_eq!(server.get("/").status(), 200, "{to:?}");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0);
    }
}

#[test]
fn a_new_process_that_is_stopped_is_given_up_and_the_old_one_goes_on() {
    let site = Site::new();
    let server = site.pyserve().env("PYSERVE_UPGRADE_TIMEOUT", "2").ready();
    site.hold_next_start();
    server.signal(Signal::USR2);
    let _import = server.probe.held("importing");
    let new = logged_pid(&server, "starts its applications pid=");
    kill(new, Signal::STOP);
    server.stderr.wait_for("it was not ready after 2 s");
    wait_until("the new process is killed", || has_ended(new));
    assert_eq!(server.get("/").status(), 200);
}
