//! Memory use of the control group compared with its limit, beyond which the kernel kills the
//! process with the most memory.

use std::path::PathBuf;

/// The control group whose memory limit is the narrowest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryGroup {
    /// Bytes that all its processes may use together.
    pub limit: u64,
    /// Its directory.
    pub directory: PathBuf,
    /// True if its files are those of version 2.
    pub unified: bool,
}

impl MemoryGroup {
    /// Bytes in use that the kernel cannot take back by dropping files from its cache. Files
    /// that are mapped count: they are the programs that run.
    pub fn used(&self) -> Option<u64> {
        // Kernel, "Control Group v2", memory.stat; of version 1, which counts groups below
        // only in its totals, "Memory Resource Controller" §5.2.
        let (current, inactive, active, mapped) = match self.unified {
            true => (
                "memory.current",
                "inactive_file",
                "active_file",
                "file_mapped",
            ),
            false => (
                "memory.usage_in_bytes",
                "total_inactive_file",
                "total_active_file",
                "total_mapped_file",
            ),
        };
        let read = |file: &str| std::fs::read_to_string(self.directory.join(file)).ok();
        let current: u64 = read(current)?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let bytes = |wanted: &str| -> u64 {
            let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
            let value = lines.find(|(name, _)| *name == wanted);
            let value = value.and_then(|(_, bytes)| bytes.trim().parse().ok());
            value.unwrap_or(0)
        };
        let cache = (bytes(inactive) + bytes(active)).saturating_sub(bytes(mapped));
        Some(current.saturating_sub(cache))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_can_drop_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        write("memory.current", "1000\n");
        write(
            "memory.stat",
            "anon 600\nfile_mapped 50\ninactive_file 300\nactive_file 100\n\
             inactive_file 9\ntotal_active_file 150\ntotal_mapped_file 30\n",
        );
        write("memory.usage_in_bytes", "500\n");
        let group = |unified| MemoryGroup {
            limit: 2000,
            directory: dir.path().to_owned(),
            unified,
        };
        assert_eq!(group(true).used(), Some(650));
        assert_eq!(group(false).used(), Some(380));
        let gone = MemoryGroup {
            directory: dir.path().join("gone"),
            ..group(true)
        };
        assert_eq!(gone.used(), None);
    }
}
