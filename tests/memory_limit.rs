//! A container's memory runs out: workers are replaced before the kernel ends one.

use std::time::Duration;

use crate::support::load::Load;
use crate::support::memory_group::MemoryGroup;
use crate::support::server::Pyserve;
use crate::support::{apps, skipped};

/// Between two requests of one client: not more than 1,000 requests/s, and so 32 MB/s, come
/// together, however fast the machine.
const PAUSE: Duration = Duration::from_millis(8);

#[test]
fn an_application_that_leaks_is_recycled_before_the_kernel_ends_it_and_loses_nothing() {
    let group = match MemoryGroup::new(192 << 20) {
        Ok(group) => group,
        Err(why) => return skipped("a group whose memory runs out", &why),
    };
    let builder = Pyserve::binary(std::path::Path::new("/bin/sh"));
    let ledger = builder.path("ledger");
    let server = builder
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
        .args([group.processes()])
        .args([env!("CARGO_BIN_EXE_pyserve"), "--app", "ledger.py"])
        .args(["--chdir".into(), apps()])
        .quick()
        .env("PYSERVE_WORKERS", "2")
        .env("LEDGER", &ledger)
        .ready();
    let load = Load::start(&server, 8, "/drip", PAUSE, false);
    let reason = "the container's memory is nearly exhausted";
    server.stderr.wait_for_nth(reason, 2);
    load.wait_for(load.answered() + 100);
    load.stop().check_nothing_lost(&ledger);
    assert_eq!(group.killed(), 0);
    assert_eq!(server.stderr.count("died"), 0);
}
