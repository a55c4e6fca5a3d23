//! CPU time that a control group has used, compared with its quota.

use std::path::PathBuf;
use std::time::Duration;

/// A control group on the way from ours to the root.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuGroup {
    /// CPUs that its quota allows, `1.5`; `None` without a quota.
    pub quota: Option<f64>,
    /// The file with the CPU time of all its processes.
    pub usage: PathBuf,
    /// True if that file is `cpu.stat` of version 2, false if it is `cpuacct.usage` of version 1.
    pub unified: bool,
}

impl CpuGroup {
    /// CPU time that its processes have used so far.
    pub fn used(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(&self.usage).ok()?;
        used(&text, self.unified)
    }
}

/// Kernel, "Control Group v2", cpu.stat: a line `usage_usec N`; "CPU Accounting Controller" of
/// version 1: nanoseconds.
fn used(text: &str, unified: bool) -> Option<Duration> {
    if !unified {
        return text.trim().parse().ok().map(Duration::from_nanos);
    }
    let usage = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    usage.trim().parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_the_time_used() {
        let stat = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 9\n";
        let expected = Some(Duration::from_millis(2500));
        assert_eq!(used(stat, true), expected);
        assert_eq!(used("2500000000\n", false), expected);
        for broken in ["", "usage_usec\n", "usage_usec x\n", "user_usec 7\n"] {
            assert_eq!(used(broken, true), None, "{broken:?}");
            assert_eq!(used(broken, false), None, "{broken:?}");
        }
    }
}
