//! Child processes: after a fork the worker cannot wait for them, and its exit may end them.

use std::fs;

use rustix::process::Pid;

use super::objects::Objects;

/// Longest part of a command line that is shown.
const LONGEST: usize = 80;

/// Names the children of this process that no object names already.
pub fn reasons(objects: &Objects) -> Vec<String> {
    children(std::process::id())
        .into_iter()
        .filter(|pid| !objects.named_pids.contains(pid) && !objects.safe_pids.contains(pid))
        .filter(|pid| !is_daemon(*pid))
        .map(|pid| format!("process {pid} {:?}", name(pid)))
        .collect()
}

/// The children of process `parent` that have not exited.
pub fn children(parent: u32) -> Vec<u32> {
    let own = "/proc/self/task";
    let other = format!("/proc/{parent}/task");
    let tasks = if parent == std::process::id() {
        own
    } else {
        &other
    };
    let tasks = fs::read_dir(tasks).into_iter().flatten().flatten();
    let mut listed = Vec::new();
    let mut is_listed = false;
    for task in tasks {
        if let Ok(text) = fs::read_to_string(task.path().join("children")) {
            is_listed = true;
            let pids = text.split_ascii_whitespace();
            listed.extend(pids.filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    if !is_listed {
        // A kernel without CONFIG_PROC_CHILDREN.
        listed = all()
            .filter(|pid| parent_of(*pid) == Some(parent))
            .collect();
    }
    listed.retain(|pid| is_alive(*pid));
    listed
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Makes this process the parent of descendants whose own parent exits, or no longer.
pub fn adopt_orphans(is_on: bool) {
    let own = is_on.then(rustix::process::getpid);
    let _ = rustix::process::set_child_subreaper(own);
}

/// True for an adopted process in the session of its former parent: a fork does not affect it.
fn is_daemon(pid: u32) -> bool {
    let session = |pid: u32| {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        rustix::process::getsid(pid)
            .ok()
            .map(|id| id.as_raw_nonzero().get().unsigned_abs())
    };
    // A child leaves our session as the leader of its own.
    session(pid).is_some_and(|id| id != pid && Some(id) != session(std::process::id()))
}

/// State and parent, from the fields after the name, which may contain any character.
fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

fn parent_of(pid: u32) -> Option<u32> {
    state_and_parent(pid).map(|(_, parent)| parent)
}

fn is_alive(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

fn name(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let name = match line.trim() {
        "" => fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default(),
        line => line.to_owned(),
    };
    name.trim().chars().take(LONGEST).collect()
}
