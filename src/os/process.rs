//! What the kernel tells about processes: memory, time, descriptors.

use std::time::Duration;

/// Resident set of a process in bytes; `None` if it has gone. Memory that it shares with
/// others counts whole.
pub fn resident_memory(pid: u32) -> Option<u64> {
    // proc(5), statm: sizes in pages, the second is the resident set.
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    // One of them is the directory itself.
    Some((entries.count() as u64).saturating_sub(1))
}

/// CPU time, user and system, that this process has taken.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// `CLOCK_MONOTONIC`, in nanoseconds: the clock of the scoreboard.
pub fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_descriptors_and_a_past() {
        assert!(resident_memory(std::process::id()).unwrap() > 1 << 20);
        assert_eq!(resident_memory(u32::MAX), None);
        assert!(open_descriptors().unwrap() >= 3);
        assert!(cpu_time() > Duration::ZERO);
        assert!(monotonic_ns() > 0);
    }
}
