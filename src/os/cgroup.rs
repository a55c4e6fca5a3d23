//! Limits of the container: the cgroup's CPU quota and memory limit (versions 1 and 2), and the
//! CPUs and memory of the machine.
//!
//! 1. `/proc/self/cgroup` names our group, `/proc/self/mountinfo` the mount with its files
//!    (cgroups(7)).
//! 2. From our group up to the root of the visible tree, the smallest limit counts.
//!
//! Files are read through a function from path to text, so that tests can supply their own. An
//! unreadable file sets no limit.

use std::path::{Path, PathBuf};

use super::cpu_group::CpuGroup;
use super::memory_group::MemoryGroup;

/// Limits of our control group.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CgroupLimits {
    /// CPUs that the quota allows, `1.5`; `None` without a quota.
    pub cpus: Option<f64>,
    /// Bytes of memory; `None` without a limit.
    pub memory: Option<u64>,
}

/// The limits of this process.
pub fn limits() -> CgroupLimits {
    limits_from(|path| std::fs::read_to_string(path).ok())
}

/// CPUs that this process may run on, at least one.
pub fn affinity() -> usize {
    match rustix::thread::sched_getaffinity(None) {
        Ok(cpus) => (cpus.count() as usize).max(1),
        // More CPUs than the set holds.
        Err(_) => std::thread::available_parallelism().map_or(1, |cpus| cpus.get()),
    }
}

/// Numbers of the CPUs that this process may run on.
pub fn affinity_numbers() -> Vec<usize> {
    use rustix::thread::CpuSet;
    match rustix::thread::sched_getaffinity(None) {
        Ok(cpus) => (0..CpuSet::MAX_CPU)
            .filter(|cpu| cpus.is_set(*cpu))
            .collect(),
        Err(_) => (0..affinity()).collect(),
    }
}

/// Bytes of memory that the machine has, and those of them that are free or can be made so at once.
pub fn machine_memory() -> Option<(u64, u64)> {
    // proc_meminfo(5), in KiB.
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kib << 10)
    };
    Some((bytes("MemTotal:")?, bytes("MemAvailable:")?))
}

/// Bytes of memory that the machine has.
pub fn physical_memory() -> u64 {
    let machine = rustix::system::sysinfo();
    (machine.totalram as u64).saturating_mul(u64::from(machine.mem_unit.max(1)))
}

/// The limits that these files describe; `read` gives the text of a file, if it is there.
pub fn limits_from(read: impl Fn(&Path) -> Option<String>) -> CgroupLimits {
    let mut limits = CgroupLimits::default();
    let (Some(groups), Some(mounts)) = (
        read(Path::new("/proc/self/cgroup")),
        read(Path::new("/proc/self/mountinfo")),
    ) else {
        return limits;
    };
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    for controller in [Controller::Unified, Controller::Cpu, Controller::Memory] {
        let Some(group) = groups.lines().find_map(|line| controller.group(line)) else {
            continue;
        };
        for directory in directories(&mounts, controller, group) {
            let number = |file: &str| read(&directory.join(file));
            limits.lower_to(controller.limits(number));
        }
    }
    limits
}

/// The group, ours or one above, whose memory limit is the narrowest.
pub fn memory_group() -> Option<MemoryGroup> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    [Controller::Unified, Controller::Memory]
        .into_iter()
        .flat_map(|controller| {
            let group = groups.lines().find_map(|line| controller.group(line));
            let directories = group.map(|group| directories(&mounts, controller, group));
            directories
                .unwrap_or_default()
                .into_iter()
                .filter_map(move |directory| {
                    let limits = controller.limits(|file| read(&directory.join(file)));
                    Some(MemoryGroup {
                        limit: limits.memory?,
                        directory,
                        unified: controller == Controller::Unified,
                    })
                })
        })
        .min_by_key(|group| group.limit)
}

/// The groups with a CPU quota, ours and those above, and ours even without one.
pub fn cpu_groups() -> Vec<CpuGroup> {
    cpu_groups_from(|path| std::fs::read_to_string(path).ok())
}

/// The same by the files that `read` gives.
fn cpu_groups_from(read: impl Fn(&Path) -> Option<String>) -> Vec<CpuGroup> {
    let (Some(groups), Some(mounts)) = (
        read(Path::new("/proc/self/cgroup")),
        read(Path::new("/proc/self/mountinfo")),
    ) else {
        return Vec::new();
    };
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    let group = |controller: Controller| {
        let mut lines = groups.lines();
        lines.find_map(|line| controller.group(line))
    };
    let mut found = Vec::new();
    // The quota is the business of one controller of version 1, the time used that of another.
    for (controller, accounting, file) in [
        (Controller::Unified, Controller::Unified, "cpu.stat"),
        (Controller::Cpu, Controller::CpuAccounting, "cpuacct.usage"),
    ] {
        let (Some(ours), Some(accounted)) = (group(controller), group(accounting)) else {
            continue;
        };
        if ours != accounted {
            continue;
        }
        let quotas = directories(&mounts, controller, ours);
        let usages = directories(&mounts, accounting, accounted);
        for (level, (quota, usage)) in quotas.into_iter().zip(usages).enumerate() {
            let limits = controller.limits(|file| read(&quota.join(file)));
            let usage = usage.join(file);
            let unified = controller == Controller::Unified;
            // The group's own use counts beside the quota, which may be wider than the affinity.
            if level == 0 && read(&usage).is_some() {
                found.push(CpuGroup {
                    quota: None,
                    usage: usage.clone(),
                    unified,
                });
            }
            if limits.cpus.is_some() {
                found.push(CpuGroup {
                    quota: limits.cpus,
                    usage,
                    unified,
                });
            }
        }
    }
    found
}

/// A memory limit from here on is none: without one, version 1 shows the largest number of
/// pages, 2^63 less a page.
const NO_LIMIT: u64 = 1 << 60;

/// Most levels that are walked up; container runtimes make fewer than ten.
const DEEPEST: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    /// The single hierarchy of version 2.
    Unified,
    /// `cpu` of version 1.
    Cpu,
    /// `cpuacct` of version 1.
    CpuAccounting,
    /// `memory` of version 1.
    Memory,
}

impl Controller {
    /// Our group in this controller's hierarchy, from a line `4:memory:/path`.
    fn group(self, line: &str) -> Option<&str> {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_ours = match self.name() {
            None => id == "0" && controllers.is_empty(),
            Some(name) => controllers.split(',').any(|controller| controller == name),
        };
        is_ours.then_some(path)
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Unified => None,
            Self::Cpu => Some("cpu"),
            Self::CpuAccounting => Some("cpuacct"),
            Self::Memory => Some("memory"),
        }
    }

    fn is_at(self, mount: &Mount) -> bool {
        match self.name() {
            None => mount.kind == "cgroup2",
            Some(name) => {
                mount.kind == "cgroup" && mount.options.split(',').any(|option| option == name)
            }
        }
    }

    /// The limits in one directory, whose files `text` reads.
    fn limits(self, text: impl Fn(&str) -> Option<String>) -> CgroupLimits {
        let number = |file: &str| text(file)?.trim().parse::<u64>().ok();
        let memory = |file: &str| number(file).filter(|bytes| *bytes < NO_LIMIT);
        match self {
            // "max 100000" or "200000 100000".
            Self::Unified => CgroupLimits {
                cpus: text("cpu.max").and_then(|line| {
                    let (quota, period) = line.trim().split_once(' ')?;
                    cpus(quota.parse().ok()?, period.parse().ok()?)
                }),
                memory: memory("memory.max"),
            },
            // The quota is -1 without a limit, which is no `u64`.
            Self::Cpu => CgroupLimits {
                cpus: number("cpu.cfs_quota_us")
                    .zip(number("cpu.cfs_period_us"))
                    .and_then(|(quota, period)| cpus(quota, period)),
                memory: None,
            },
            Self::CpuAccounting => CgroupLimits::default(),
            Self::Memory => CgroupLimits {
                cpus: None,
                memory: memory("memory.limit_in_bytes"),
            },
        }
    }
}

impl CgroupLimits {
    fn lower_to(&mut self, other: Self) {
        let lower = |a: f64, b: f64| a.min(b);
        self.cpus = self
            .cpus
            .zip(other.cpus)
            .map(|(a, b)| lower(a, b))
            .or(self.cpus)
            .or(other.cpus);
        self.memory = self.memory.into_iter().chain(other.memory).min();
    }
}

fn cpus(quota_us: u64, period_us: u64) -> Option<f64> {
    (quota_us > 0 && period_us > 0).then(|| quota_us as f64 / period_us as f64)
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug)]
struct Mount {
    /// Group that appears at `point`.
    root: String,
    point: PathBuf,
    kind: String,
    /// Options of the file system; version 1 names its controllers here.
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, behind) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut fields = behind.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        Some(Self {
            root: unescaped(root),
            point: PathBuf::from(unescaped(point)),
            kind: kind.to_owned(),
            options: options.to_owned(),
        })
    }
}

/// The directories whose limits hold for `group`: its own, and all above it that we see.
fn directories(mounts: &[Mount], controller: Controller, group: &str) -> Vec<PathBuf> {
    let ours = || mounts.iter().filter(|mount| controller.is_at(mount));
    let mut directories: Vec<PathBuf> = ours()
        .filter_map(|mount| {
            let below = Path::new(group).strip_prefix(&mount.root).ok()?;
            // A group outside our namespace shows as `/../other`.
            let is_plain = below
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            is_plain.then_some((mount, below))
        })
        .flat_map(|(mount, below)| {
            below
                .ancestors()
                .take(DEEPEST)
                .map(|below| mount.point.join(below))
                .collect::<Vec<_>>()
        })
        .collect();
    if directories.is_empty() {
        // A container without a cgroup namespace sees only its own group, mounted as the
        // top, under a path that is the host's.
        directories.extend(ours().map(|mount| mount.point.clone()));
    }
    directories
}

/// Space, tab, newline and backslash are written there as `\040` and so on.
fn unescaped(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (escape, plain)| {
        text.replace(escape, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], cpus: Option<f64>, memory: Option<u64>) {
        let read = |path: &Path| {
            files
                .iter()
                .find(|(name, _)| Path::new(name) == path)
                .map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(
            limits_from(read),
            CgroupLimits { cpus, memory },
            "{files:#?}"
        );
    }

    const V2_MOUNT: (&str, &str) = (
        "/proc/self/mountinfo",
        "22 1 0:20 / / rw - ext4 /dev/sda rw\n\
         31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    );

    #[test]
    fn version_2_in_a_namespace() {
        check(
            &[
                ("/proc/self/cgroup", "0::/\n"),
                V2_MOUNT,
                ("/sys/fs/cgroup/cpu.max", "150000 100000\n"),
                ("/sys/fs/cgroup/memory.max", "536870912\n"),
            ],
            Some(1.5),
            Some(512 << 20),
        );
    }

    #[test]
    fn version_2_takes_the_smallest_limit_on_the_way_up() {
        check(
            &[
                ("/proc/self/cgroup", "0::/system.slice/app.service/sub\n"),
                V2_MOUNT,
                (
                    "/sys/fs/cgroup/system.slice/app.service/sub/cpu.max",
                    "max 100000\n",
                ),
                (
                    "/sys/fs/cgroup/system.slice/app.service/cpu.max",
                    "400000 100000\n",
                ),
                ("/sys/fs/cgroup/system.slice/cpu.max", "200000 100000\n"),
                (
                    "/sys/fs/cgroup/system.slice/app.service/memory.max",
                    "1000\n",
                ),
                ("/sys/fs/cgroup/system.slice/memory.max", "max\n"),
            ],
            Some(2.0),
            Some(1000),
        );
    }

    #[test]
    fn version_2_without_limits() {
        check(
            &[
                ("/proc/self/cgroup", "0::/a\n"),
                V2_MOUNT,
                ("/sys/fs/cgroup/a/cpu.max", "max 100000\n"),
                ("/sys/fs/cgroup/a/memory.max", "max\n"),
            ],
            None,
            None,
        );
    }

    #[test]
    fn version_1_in_a_container_that_sees_the_paths_of_the_host() {
        check(
            &[
                (
                    "/proc/self/cgroup",
                    "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/docker/abc\n",
                ),
                (
                    "/proc/self/mountinfo",
                    "1 2 0:1 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                     1 2 0:2 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
                ),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"),
            ],
            Some(0.5),
            Some(128 << 20),
        );
    }

    #[test]
    fn version_1_hybrid_with_nested_groups_and_no_quota() {
        check(
            &[
                (
                    "/proc/self/cgroup",
                    "4:memory:/a/b\n2:cpuacct:/\n1:cpu:/\n0::/\n",
                ),
                (
                    "/proc/self/mountinfo",
                    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                     35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
                ),
                ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                (
                    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                (
                    "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                    "1073741824\n",
                ),
                (
                    "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
            ],
            None,
            Some(1 << 30),
        );
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_falls_back_to_the_mount() {
        for group in ["0::/\n", "0::/elsewhere\n", "0::/../other\n"] {
            check(
                &[
                    ("/proc/self/cgroup", group),
                    (
                        "/proc/self/mountinfo",
                        "1 2 0:1 /pod/x /mnt/with\\040space ro - cgroup2 cgroup rw\n",
                    ),
                    ("/mnt/with space/memory.max", "4096\n"),
                    ("/mnt/memory.max", "1\n"),
                ],
                None,
                Some(4096),
            );
        }
    }

    #[test]
    fn unreadable_or_broken_files_set_no_limit() {
        check(&[], None, None);
        check(
            &[
                ("/proc/self/cgroup", "0::/\nnonsense\n"),
                V2_MOUNT,
                ("/sys/fs/cgroup/cpu.max", "x y\n"),
                ("/sys/fs/cgroup/memory.max", "\n"),
            ],
            None,
            None,
        );
        check(
            &[
                ("/proc/self/cgroup", "0::/\n"),
                V2_MOUNT,
                ("/sys/fs/cgroup/cpu.max", "0 0\n"),
            ],
            None,
            None,
        );
    }

    /// Quotas of the groups on the way up, with the files that show their use.
    fn check_cpu(files: &[(&str, &str)], expected: &[(Option<f64>, &str, bool)]) {
        let read = |path: &Path| {
            let mut files = files.iter();
            let file = files.find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        let expected = expected.iter().map(|(quota, usage, unified)| CpuGroup {
            quota: *quota,
            usage: PathBuf::from(usage),
            unified: *unified,
        });
        assert_eq!(cpu_groups_from(read), expected.collect::<Vec<_>>());
    }

    #[test]
    fn groups_with_a_quota_and_our_own_are_measured() {
        check_cpu(
            &[
                ("/proc/self/cgroup", "0::/a/b/c\n"),
                V2_MOUNT,
                ("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n"),
                ("/sys/fs/cgroup/a/b/c/cpu.stat", "usage_usec 7\n"),
                ("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
                ("/sys/fs/cgroup/a/b/cpu.stat", "usage_usec 7\n"),
                ("/sys/fs/cgroup/a/cpu.max", "50000 100000\n"),
            ],
            &[
                (None, "/sys/fs/cgroup/a/b/c/cpu.stat", true),
                (Some(0.5), "/sys/fs/cgroup/a/cpu.stat", true),
            ],
        );
        let version_1 = |accounted: &str| format!("3:cpuacct:{accounted}\n1:cpu:/a\n");
        let mounts = "32 31 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu\n\
                      33 31 0:30 / /cg/acct rw - cgroup cgroup rw,cpuacct\n";
        let files = |groups: &'static str| {
            [
                ("/proc/self/cgroup", groups),
                ("/proc/self/mountinfo", mounts),
                ("/cg/cpu/a/cpu.cfs_quota_us", "150000\n"),
                ("/cg/cpu/a/cpu.cfs_period_us", "100000\n"),
            ]
        };
        check_cpu(
            &files(version_1("/a").leak()),
            &[(Some(1.5), "/cg/acct/a/cpuacct.usage", false)],
        );
        // The time of another group says nothing about the quota of ours.
        check_cpu(&files(version_1("/other").leak()), &[]);
        check_cpu(&[], &[]);
    }

    #[test]
    fn this_machine_has_a_cpu_and_memory() {
        assert!(affinity() >= 1);
        assert_eq!(affinity_numbers().len(), affinity());
        assert!(machine_memory().is_some_and(|(all, free)| free > 0 && free <= all));
        assert!(physical_memory() > 1 << 20);
        let _ = limits();
    }
}
