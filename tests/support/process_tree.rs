//! The processes below one that a test has started, and their end: none is left behind, however
//! the test ends.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The children of a process, their children, and so on.
pub fn descendants(pid: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let children = threads.into_iter().flatten().filter_map(|thread| {
        let path = thread.ok()?.path().join("children");
        std::fs::read_to_string(path).ok()
    });
    let children: Vec<Pid> = children
        .flat_map(|text| {
            text.split_ascii_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect();
    let below = children.into_iter();
    below
        .flat_map(|pid| [pid].into_iter().chain(descendants(pid)))
        .collect()
}

/// True until the process has ended; its parent may not have been told yet.
pub fn is_running(pid: &Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Kills all of these that are left.
pub fn kill(all: &[Pid]) {
    for pid in all {
        // Fails if it has ended.
        let _ = kill_process(*pid, Signal::KILL);
    }
}

/// The processes that [`Guard`] kills.
#[derive(Debug, Clone, Copy)]
pub enum Guarded {
    /// The child alone: its own children end with it.
    Child,
    /// The process group that it leads.
    Group,
}

/// A shell that kills a child and removes its directory when this process ends, however it ends:
/// what the tests of a module share is never dropped.
pub struct Guard(Child);

impl Guard {
    pub fn over(child: &Child, guarded: Guarded, dir: &Path) -> Self {
        let target = match guarded {
            Guarded::Child => child.id().to_string(),
            Guarded::Group => format!("-{}", child.id()),
        };
        let shell = Command::new("/bin/sh")
            .args(["-c", "read line; kill -s KILL -- \"$0\"; rm -rf \"$1\""])
            .arg(target)
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Self(shell)
    }

    pub fn dismiss(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until none of these runs.
#[track_caller]
pub fn wait_for_the_end(all: &[Pid]) {
    let began = std::time::Instant::now();
    while all.iter().any(is_running) {
        assert!(began.elapsed() < super::DEADLINE, "still running: {all:?}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_group_ends_with_the_guard() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;

    let dir = super::temp_dir();
    let mut leader = Command::new("/bin/sh")
        .args(["-c", "sleep 1000 & echo $!; wait"])
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut line = String::new();
    let mut said = BufReader::new(leader.stdout.take().expect("it is piped"));
    said.read_line(&mut line).expect("its child");
    let all = descendants(Pid::from_child(&leader));
    assert_eq!(all.len(), 1, "{line}");
    let mut guard = Guard::over(&leader, Guarded::Group, dir.path());
    // As if this process had ended.
    drop(guard.0.stdin.take());
    guard.0.wait().expect("it ends");
    leader.wait().expect("it was killed");
    wait_for_the_end(&all);
}
