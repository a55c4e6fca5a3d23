//! A control group of our own with a memory limit, version 1 or 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::DEADLINE;

/// A group without processes. Dropping removes it, when the last of its processes has gone.
pub struct MemoryGroup {
    directory: PathBuf,
    unified: bool,
}

impl MemoryGroup {
    /// Makes one whose processes may have so many bytes together.
    ///
    /// # Errors
    /// Why that is not possible here, in words.
    pub fn new(limit: u64) -> Result<Self, String> {
        let mut reasons = vec!["no memory controller is mounted".to_owned()];
        for (parent, unified) in parents() {
            match Self::below(&parent, unified, limit) {
                Ok(group) => return Ok(group),
                Err(error) => reasons.push(format!("{}: {error}", parent.display())),
            }
        }
        Err(reasons.split_off(1.min(reasons.len() - 1)).join("; "))
    }

    fn below(parent: &Path, unified: bool, limit: u64) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pyserve-test-{}-{number}", std::process::id());
        let directory = parent.join(name);
        fs::create_dir(&directory)?;
        let group = Self { directory, unified };
        let file = match unified {
            true => "memory.max",
            false => "memory.limit_in_bytes",
        };
        // The file is not there where the controller is not handed down; and it is not made.
        let mut file = fs::OpenOptions::new().write(true).open(group.file(file))?;
        io::Write::write_all(&mut file, limit.to_string().as_bytes())?;
        Ok(group)
    }

    /// Whoever writes a process id into this file puts the process into the group.
    pub fn processes(&self) -> PathBuf {
        self.file("cgroup.procs")
    }

    /// How many of its processes the kernel has ended for want of memory.
    pub fn killed(&self) -> u64 {
        let text = fs::read_to_string(self.file(match self.unified {
            true => "memory.events",
            false => "memory.oom_control",
        }));
        let text = text.expect("the group is there");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("Linux 4.13 counts them").parse().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let began = Instant::now();
        while fs::remove_dir(&self.directory).is_err() && began.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Groups below which one could be made, with their version: our own, and the top.
fn parents() -> Vec<(PathBuf, bool)> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (groups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
    let mut parents = Vec::new();
    for mount in mounts.lines() {
        let Some((place, kind)) = mount.split_once(" - ") else {
            continue;
        };
        let unified = kind.starts_with("cgroup2 ");
        let is_memory = kind.starts_with("cgroup ") && kind.ends_with(",memory");
        if !unified && !is_memory {
            continue;
        }
        let point = PathBuf::from(place.split(' ').nth(4).unwrap_or_default());
        let ours = groups.lines().find_map(|line| match unified {
            true => line.strip_prefix("0::/"),
            false => line.split_once(":memory:/").map(|(_, path)| path),
        });
        parents.extend(ours.map(|path| (point.join(path), unified)));
        parents.push((point, unified));
    }
    parents
}
