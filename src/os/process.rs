//! Reads memory, CPU time and descriptors of processes from `/proc`.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::process_stat::{ProcessStat, all_processes};

/// Resident set of a process in bytes; `None` if it has gone. Memory that it shares with
/// others counts whole.
pub fn resident_memory(pid: u32) -> Option<u64> {
    // proc(5), statm: sizes in pages, the second is the resident set.
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Sets the permissions that new files of this process and its children do not get.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Limits the address space of a process and of those that it forks.
///
/// # Errors
/// The error of the system call.
pub fn limit_address_space(pid: u32, bytes: u64) -> std::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    prlimit(pid, Resource::As, limit)?;
    Ok(())
}

/// Memory of a process that no other process shares, in bytes: what its end would free, and what
/// another one like it would take. `None` if the kernel does not show it.
pub fn private_memory(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    private_bytes(&text)
}

/// proc_pid_smaps(5), in KiB.
fn private_bytes(smaps: &str) -> Option<u64> {
    let mut found = None;
    for line in smaps.lines() {
        if let Some(rest) = line.strip_prefix("Private_")
            && let Some((_, size)) = rest.split_once(':')
        {
            let kib: u64 = size.split_ascii_whitespace().next()?.parse().ok()?;
            *found.get_or_insert(0) += kib << 10;
        }
    }
    found
}

/// Time for which the threads of a process have run or waited for a CPU: their demand of CPU time,
/// whatever they got of it. With `all_threads` that of each, otherwise of the first one alone.
/// `None` if the kernel does not show it.
pub fn runnable_time(pid: u32, all_threads: bool) -> Option<Duration> {
    if !all_threads {
        let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
        return runnable(&text);
    }
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut sum = Duration::ZERO;
    for thread in threads.flatten() {
        // One that has ended meanwhile counts no more.
        let text = std::fs::read_to_string(thread.path().join("schedstat"));
        sum += text
            .ok()
            .and_then(|text| runnable(&text))
            .unwrap_or_default();
    }
    Some(sum)
}

/// Kernel, "Scheduler Statistics", `/proc/<pid>/schedstat`: time on the CPU and time on a run queue,
/// in nanoseconds.
fn runnable(schedstat: &str) -> Option<Duration> {
    let mut fields = schedstat.split_ascii_whitespace();
    let mut next = || fields.next()?.parse().ok().map(Duration::from_nanos);
    Some(next()? + next()?)
}

/// True if a process has gone, or is a zombie that its parent has not reaped.
pub fn has_ended(pid: u32) -> bool {
    match ProcessStat::of(pid) {
        Ok(stat) => !stat.is_alive(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// True if a signal has stopped a process, and none has continued it.
pub fn is_stopped(pid: u32) -> bool {
    ProcessStat::of(pid).is_ok_and(|stat| stat.is_stopped())
}

/// True if a process is ending by itself or by a signal, or has ended.
pub fn is_ending(pid: u32) -> bool {
    const PF_EXITING: u32 = 0x4;
    let flags = ProcessStat::of(pid).ok().and_then(|stat| stat.flags);
    flags.is_none_or(|flags| flags & PF_EXITING != 0)
}

/// True if a process has a handler of its own for a signal.
pub fn handles(pid: u32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    is_caught(&status, signal)
}

/// proc(5), status: `SigCgt` is a mask in hexadecimal, whose lowest bit is signal 1.
fn is_caught(status: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal - 1)
        .ok()
        .and_then(|bit| 1_u64.checked_shl(bit));
    mask.zip(bit).is_some_and(|(mask, bit)| mask & bit != 0)
}

/// Living children of this process in the process group of `leader`. Reads all of `/proc`: not for
/// frequent calls.
pub fn children_in_group(leader: u32) -> Vec<u32> {
    let own = std::process::id();
    let is_child =
        |pid: &u32| ProcessStat::of(*pid).is_ok_and(|stat| is_child_in_group(&stat, own, leader));
    all_processes().filter(is_child).collect()
}

fn is_child_in_group(stat: &ProcessStat, parent: u32, group: u32) -> bool {
    stat.is_alive() && stat.parent == parent && stat.group == group
}

/// True if a living process belongs to the process group of `leader`.
pub fn is_in_group(pid: u32, leader: u32) -> bool {
    ProcessStat::of(pid).is_ok_and(|stat| stat.is_alive() && stat.group == leader)
}

/// True if the standard input of a process is a pipe, as it is behind a `|` of the shell.
pub fn reads_from_pipe(pid: u32) -> bool {
    let input = std::fs::read_link(format!("/proc/{pid}/fd/0"));
    input.is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"))
}

/// Number of descriptors that this process has open.
pub fn open_descriptors() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    // One of them is the directory itself.
    Some((entries.count() as u64).saturating_sub(1))
}

/// The limit on descriptors before [`raise_descriptor_limit`].
static FORMER: OnceLock<Rlimit> = OnceLock::new();

/// Raises this process's limit on descriptors as far as it may without privileges, and says
/// what it is now. Programs that it starts have the former limit: some count up to it, and
/// `select` fails above 1024.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let former = *FORMER.get_or_init(|| limit);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => former.current,
    };
    now.unwrap_or(u64::MAX)
}

/// The limit to which [`raise_descriptor_limit`] may raise that on descriptors; `None` without one.
pub fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Gives this process its former limit back; for a child before it executes its program.
/// Makes system calls only.
///
/// # Errors
/// The error of the system call.
pub fn restore_descriptor_limit() -> std::io::Result<()> {
    match FORMER.get() {
        Some(former) => Ok(setrlimit(Resource::Nofile, *former)?),
        None => Ok(()),
    }
}

/// CPU time, user and system, that this process has taken.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_of_signals_starts_at_signal_1() {
        let status = "SigIgn:\t0000000000000001\nSigCgt:\t2000000000000002\n";
        let caught: Vec<_> = (0..=65)
            .filter(|number| is_caught(status, *number))
            .collect();
        assert_eq!(caught, [2, 62]);
        assert!(!is_caught("", 2));
    }

    #[test]
    fn a_stat_line_tells_parent_and_group_whatever_the_name() {
        let is_child_in_group = |line, parent, group| {
            let stat = ProcessStat::parse(line);
            stat.is_some_and(|stat| is_child_in_group(&stat, parent, group))
        };
        let line = "7 (a) b) S 5 6 6 0 -1 4194560";
        assert!(is_child_in_group(line, 5, 6));
        assert!(!is_child_in_group(line, 5, 7));
        assert!(!is_child_in_group(line, 4, 6));
        assert!(!is_child_in_group("7 (a) Z 5 6 6 0", 5, 6), "it has ended");
        assert!(!is_child_in_group("", 5, 6));
    }

    #[test]
    fn private_memory_is_what_is_in_no_other_process() {
        let smaps = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss: 500 kB\n\
                     Shared_Clean: 300 kB\nShared_Dirty: 100 kB\nPrivate_Clean: 40 kB\n\
                     Private_Dirty: 460 kB\nPrivate_Hugetlb: 4 kB\n";
        assert_eq!(private_bytes(smaps), Some(504 << 10));
        assert_eq!(private_bytes("Rss: 900 kB\n"), None);
        assert_eq!(private_bytes("Private_Dirty: x kB\n"), None);
    }

    #[test]
    fn demand_of_cpu_time_is_what_was_run_and_waited_for() {
        assert_eq!(runnable("300 40 7\n"), Some(Duration::from_nanos(340)));
        assert_eq!(runnable("300\n"), None);
        assert_eq!(runnable(""), None);
    }

    #[test]
    fn this_process_has_memory_descriptors_and_a_past() {
        assert!(resident_memory(std::process::id()).unwrap() > 1 << 20);
        assert_eq!(resident_memory(u32::MAX), None);
        assert!(!has_ended(std::process::id()) && has_ended(u32::MAX));
        assert!(open_descriptors().unwrap() >= 3);
        assert!(cpu_time() > Duration::ZERO);
    }
}
