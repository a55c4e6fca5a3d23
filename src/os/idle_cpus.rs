//! The share of our CPUs that is idle, measured between two moments.
//!
//! 1. The CPUs that this process may run on, less the CPU time that its control group uses. What
//!    other groups take of a shared machine does not count.
//! 2. Idle time of these CPUs by `/proc/stat` (proc_stat(5)), if that is more (other processes of
//!    the group may run on other CPUs), or if there is no group.
//! 3. For each group with a quota, at most the part of it that its processes leave unused.
//!
//! Values that cannot be read count as not measured, never as idle.

use std::time::{Duration, Instant};

use super::cgroup;
use super::cpu_group::CpuGroup;

/// Measures the CPUs of this process.
#[derive(Debug)]
pub struct CpuMeter {
    /// Numbers of the CPUs that this process may run on.
    numbers: Vec<usize>,
    groups: Vec<CpuGroup>,
}

/// The values read at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuReading {
    at: Instant,
    /// Idle time of all our CPUs together.
    idle: Option<Duration>,
    /// CPU time used, by group.
    used: Vec<Option<Duration>>,
}

impl CpuReading {
    /// True if this was read longer than `time` before `other`.
    pub fn is_older_than(&self, time: Duration, other: &Self) -> bool {
        other.at.saturating_duration_since(self.at) > time
    }
}

impl CpuMeter {
    /// The meter for this process, with the quotas of this moment.
    pub fn of_this_process() -> Self {
        Self {
            numbers: cgroup::affinity_numbers(),
            groups: cgroup::cpu_groups(),
        }
    }

    /// CPUs that may be used: those of the affinity, or of the smallest quota.
    pub fn cpus(&self) -> f64 {
        let quotas = self.groups.iter().filter_map(|group| group.quota);
        quotas.fold(self.numbers.len().max(1) as f64, f64::min)
    }

    /// Reads `/proc/stat` and a file for each group.
    pub fn read(&self) -> CpuReading {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        CpuReading {
            at: Instant::now(),
            idle: idle_time(&stat, &self.numbers),
            used: self.groups.iter().map(CpuGroup::used).collect(),
        }
    }

    /// The share of [`CpuMeter::cpus`] that was idle from one reading to the next, from 0 to 1;
    /// `None` if that cannot be measured.
    pub fn idle(&self, before: &CpuReading, after: &CpuReading) -> Option<f64> {
        let passed = after.at.duration_since(before.at).as_secs_f64();
        if passed <= 0.0 {
            return None;
        }
        let rate = |before: Option<Duration>, after: Option<Duration>| {
            let (before, after) = (before?, after?);
            Some(after.saturating_sub(before).as_secs_f64() / passed)
        };
        let all = self.numbers.len().max(1) as f64;
        let mut idle = rate(before.idle, after.idle);
        let mut unused = None;
        let used = before.used.iter().zip(&after.used);
        for (group, (before, after)) in self.groups.iter().zip(used) {
            let used = rate(*before, *after);
            match (group.quota, used) {
                (None, used) => {
                    let left = used.map(|used| all - used);
                    idle = idle.into_iter().chain(left).reduce(f64::max);
                }
                (Some(quota), used) => {
                    let left = quota - used?;
                    unused = Some(unused.map_or(left, |unused: f64| unused.min(left)));
                }
            }
        }
        let idle = match (idle, unused) {
            (Some(idle), Some(unused)) => idle.min(unused),
            (idle, unused) => idle.or(unused)?,
        };
        Some((idle / self.cpus()).clamp(0.0, 1.0))
    }
}

/// Idle time of the CPUs with these numbers together, out of the text of `/proc/stat`.
fn idle_time(stat: &str, numbers: &[usize]) -> Option<Duration> {
    let mut found = 0;
    let mut ticks = 0;
    for line in stat.lines() {
        let mut fields = line.split_ascii_whitespace();
        // "cpu" without a number is the sum.
        let number = fields.next().and_then(|name| name.strip_prefix("cpu"));
        let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) else {
            continue;
        };
        if numbers.contains(&number) {
            // user, nice, system, idle, iowait: a CPU whose processes wait for a disk is idle.
            let mut times = fields.skip(3).map(str::parse::<u64>);
            ticks += times.next()?.ok()? + times.next().and_then(Result::ok).unwrap_or(0);
            found += 1;
        }
    }
    // A sandbox that shows no times shows zeros.
    (found == numbers.len() && ticks > 0).then(|| {
        let each = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        Duration::from_nanos(ticks * each)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 0 100 1400 100 0 0 0 0 0\n\
                        cpu0 50 0 50 500 50 0 0 9 0 0\n\
                        cpu1 50 0 50 400 0\n\
                        cpu2 50 0 50 500 50 0 0 9 0 0\n\
                        intr 7\n";

    #[test]
    fn idle_time_is_that_of_our_cpus_alone() {
        let ticks = |numbers: &[usize]| {
            let time = idle_time(STAT, numbers)?;
            Some(time.as_secs_f64() * rustix::param::clock_ticks_per_second() as f64)
        };
        assert_eq!(ticks(&[0]), Some(550.0));
        assert_eq!(ticks(&[0, 1]), Some(950.0));
        assert_eq!(ticks(&[3]), None, "there is no such CPU");
        assert_eq!(idle_time("", &[0]), None);
        assert_eq!(idle_time("cpu0 0 0 0 0 0\n", &[0]), None, "a sandbox");
        assert_eq!(idle_time("cpu0 1 2 3\n", &[0]), None);
    }

    /// Idle share over two seconds, in percent, by CPUs, quotas, and what was idle and used.
    #[track_caller]
    fn check(
        cpus: usize,
        idle_ms: Option<u64>,
        groups: &[(Option<f64>, Option<u64>)],
        expected: Option<u32>,
    ) {
        let meter = CpuMeter {
            numbers: (0..cpus).collect(),
            groups: groups
                .iter()
                .map(|(quota, _)| CpuGroup {
                    quota: *quota,
                    usage: "unread".into(),
                    unified: true,
                })
                .collect(),
        };
        let at = Instant::now();
        let past = Duration::from_secs(100);
        let later = |ms: Option<u64>| ms.map(|ms| past + Duration::from_millis(ms));
        let before = CpuReading {
            at,
            idle: idle_ms.map(|_| past),
            used: groups.iter().map(|(_, used)| used.map(|_| past)).collect(),
        };
        let after = CpuReading {
            at: at + Duration::from_secs(2),
            idle: later(idle_ms),
            used: groups.iter().map(|(_, used)| later(*used)).collect(),
        };
        let share = meter.idle(&before, &after);
        assert_eq!(share.map(|share| (share * 100.0).round() as u32), expected);
        assert_eq!(meter.idle(&before, &before), None, "no time has passed");
    }

    #[test]
    fn the_scarcest_of_cpus_and_quotas_counts() {
        // Two CPUs without groups.
        check(2, Some(4000), &[], Some(100));
        check(2, Some(1000), &[], Some(25));
        check(2, Some(0), &[], Some(0));
        // Half a CPU of quota: 0.4 of it used, 0.5, and more than that in a burst.
        check(2, Some(3200), &[(Some(0.5), Some(800))], Some(20));
        check(2, Some(3000), &[(Some(0.5), Some(1000))], Some(0));
        check(2, Some(3000), &[(Some(0.5), Some(1100))], Some(0));
        // The quota is hardly used, but other processes have the CPUs.
        check(2, Some(100), &[(Some(0.5), Some(100))], Some(10));
        // A group above has the narrower quota.
        check(
            4,
            Some(8000),
            &[(Some(2.0), Some(1000)), (Some(1.0), Some(1800))],
            Some(10),
        );
        // Without a quota: other groups keep the CPUs busy, or other CPUs are those of the group.
        check(2, Some(0), &[(None, Some(1000))], Some(75));
        check(2, Some(4000), &[(None, Some(3000))], Some(100));
        check(2, None, &[(None, Some(3000))], Some(25));
        // The group's own processes keep them busy.
        check(2, Some(0), &[(None, Some(4000))], Some(0));
        check(
            2,
            Some(0),
            &[(None, Some(100)), (Some(1.0), Some(1500))],
            Some(25),
        );
        // Nothing can be read, or not the quota's use.
        check(2, None, &[], None);
        check(2, None, &[(None, None)], None);
        check(2, Some(4000), &[(Some(1.0), None)], None);
    }

    #[test]
    fn this_machine_can_be_measured() {
        let meter = CpuMeter::of_this_process();
        assert!(meter.cpus() > 0.0);
        let reading = meter.read();
        assert!(reading.idle.is_some() || reading.used.iter().any(Option::is_some));
    }
}
