//! Upgrades of the binary in the middle of an order.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Pid, Signal};

use super::sharing::assert_one_order;
use super::{pebble, start, wait_for_certificate, with_acme};
use crate::support::pebble::Pebble;
use crate::support::server::{Pyserve, Server};
use crate::support::temp_dir;
use crate::upgrade::{main_pid, upgrade, verb, wait_until};

/// A server whose old process has a request after an upgrade.
fn server(pebble: &Pebble, dir: &Path) -> Server {
    let server =
        Pyserve::app("held.py").args(["--bind", "127.0.0.1:0", "--bind", "https://127.0.0.1:0"]);
    with_acme(server, pebble, dir, &["one.test"])
        .args(["--threads", "2"])
        .ready()
}

/// The processes with a descriptor of the directory's lock that has the lock.
fn holders(dir: &Path) -> Vec<Pid> {
    let lock = dir.join("lock").canonicalize().expect("a lock");
    let has_it = |process: &Path| {
        let open = std::fs::read_dir(process.join("fd")).into_iter().flatten();
        open.flatten().any(|entry| {
            let facts = process.join("fdinfo").join(entry.file_name());
            std::fs::read_link(entry.path()).is_ok_and(|file| file == lock)
                && std::fs::read_to_string(facts).is_ok_and(|facts| facts.contains("FLOCK"))
        })
    };
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        has_it(&process.path()).then(|| Pid::from_raw(pid))?
    });
    pids.collect()
}

/// At each step: the request of the old process waits at the authority, which never sees it.
#[test]
fn the_new_process_continues_the_order_and_is_the_only_one_with_the_lock() {
    for (step, is_ordered) in [
        ("/sign-me-up", false),
        ("/order-plz", false),
        ("/chalZ/", true),
        ("/finalize-order/", true),
        ("/certZ/", true),
    ] {
        let Some(mut pebble) = pebble("an upgrade in the middle of an order") else {
            return;
        };
        let dir = temp_dir();
        let mut server = server(&pebble, dir.path());
        pebble.hold(Some(step));
        start(&mut pebble, &server);
        pebble.wait_for(step, 1);
        assert_eq!(holders(dir.path()), [main_pid(&server)], "{step}");

        let (mut connection, held) = server.hold("/held");
        let new = upgrade(&server);
        wait_until("the new process has the lock", || {
            holders(dir.path()) == [new]
        });
        pebble.drop_held();
        wait_for_certificate(&server, "one.test", None);
        assert_eq!(holders(dir.path()), [new], "{step}");
        server.stderr.wait_for("certificate issued");
        let continued = server.stderr.count("order continued");
        assert_eq!(continued, usize::from(is_ordered), "{step}");
        assert_one_order(&pebble);

        held.release();
        assert_eq!(connection.response().status(), 200, "{step}");
        server.stderr.wait_for("has finished its requests");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0, "{step}");
        assert_eq!(holders(dir.path()), []);
    }
}

/// A new process that does not get ready has changed nothing: the old one has the lock, and its order ends.
#[test]
fn a_failed_upgrade_leaves_the_order_to_the_old_process() {
    let Some(mut pebble) = pebble("a failed upgrade in the middle of an order") else {
        return;
    };
    let dir = temp_dir();
    let server = server(&pebble, dir.path());
    pebble.hold(Some("/chalZ/"));
    start(&mut pebble, &server);
    pebble.wait_for("/chalZ/", 1);
    let old = main_pid(&server);
    let broken = dir.path().join("broken");
    let binary = env!("CARGO_BIN_EXE_pyserve");
    let script = format!(
        "#!/bin/sh
for word do shift
    case $word in held*) word=absent:app;; esac
    set -- \"$@\" \"$word\"
done
exec {binary} \"$@\"
"
    );
    std::fs::write(&broken, script).unwrap();
    std::fs::set_permissions(&broken, PermissionsExt::from_mode(0o755)).unwrap();
    let ended = verb(&server, &["upgrade", "--to", broken.to_str().unwrap()]);
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    assert!(
        ended.stderr.contains("nothing has changed"),
        "{}",
        ended.stderr
    );
    server.stderr.wait_for("absent");
    pebble.hold(None);
    wait_for_certificate(&server, "one.test", None);
    assert_eq!(holders(dir.path()), [old]);
    assert_eq!(server.stderr.count("order continued"), 0);
    assert_one_order(&pebble);
}
