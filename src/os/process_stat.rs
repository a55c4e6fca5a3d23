//! `/proc/PID/stat` (proc(5)), and the list of all processes.

use std::io;

/// The fields of one process that are used here.
pub(super) struct ProcessStat {
    state: char,
    /// Process id of its parent.
    pub(super) parent: u32,
    /// Its process group.
    pub(super) group: u32,
    /// Its session.
    pub(super) session: Option<u32>,
    /// `PF_…` of linux/sched.h.
    pub(super) flags: Option<u32>,
}

impl ProcessStat {
    /// Reads those of process `pid`.
    ///
    /// # Errors
    /// `NotFound`: there is no such process. Otherwise the error of the system call, or
    /// `InvalidData`.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The fields come behind the name, which is in parentheses and may hold any character.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (_, behind_name) = text.rsplit_once(')')?;
        let mut fields = behind_name.split_ascii_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            session: fields.next().and_then(|session| session.parse().ok()),
            flags: fields.nth(2).and_then(|flags| flags.parse().ok()),
        })
    }

    /// True for a process that a signal has stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.state == 'T'
    }

    /// False for a process that has exited, whether its parent has reaped it or not.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// The ids of all processes. Reads all of `/proc`: not for frequent calls.
pub(super) fn all_processes() -> impl Iterator<Item = u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
