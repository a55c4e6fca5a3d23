//! Default number of workers: at the start as many as CPUs and memory allow, and up to 16 for each
//! CPU while requests wait.

use pyserve_wire::scoreboard::MAX_THREADS;

use super::Workers;

/// Resources of the machine or the container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// CPUs that the cgroup's quota allows, `1.5`; `None` without a quota.
    pub cpu_quota: Option<f64>,
    /// CPUs that we may run on.
    pub affinity: usize,
    /// Bytes of memory that we may use: the cgroup's limit, or what the machine has.
    pub memory: Option<u64>,
    /// Descriptors that this process may open; `None` without a limit.
    pub descriptors: Option<u64>,
}

/// Further limits of the number of workers that are started on demand.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Threads of each worker.
    pub threads: u32,
    /// Applications that share the machine.
    pub apps: u32,
    /// The largest number that was set, with its origin.
    pub most: Option<(u32, String)>,
    /// Why there are no more than at the start.
    pub fixed: Option<&'static str>,
}

/// Memory that one worker is reckoned with. A preforked Django worker was measured at 15 to
/// 30 MB of its own; 128 MiB leave room for what it grows to, and for the front.
const WORKER_MEMORY: u64 = 128 << 20;

/// Most workers that are started unasked: beyond, the application's database notices first.
const MOST_WORKERS: u64 = 32;

/// Workers that are started on demand, for each CPU: as many as wait for a database or another
/// service at a time while one of them runs. An application that computes for 1 ms and waits for
/// 15 uses up a CPU with them.
const EACH_CPU: u64 = 16;

/// Most workers that are started on demand unasked, however many CPUs there are.
const MOST_ON_DEMAND: u64 = 256;

impl Machine {
    /// CPUs that can be kept busy, at least one. A part of a CPU counts as one, so that a
    /// quota of 1.5 is used up.
    pub fn cpus(&self) -> u64 {
        let affinity = self.affinity.max(1) as u64;
        self.cpu_quota
            .map_or(affinity, |quota| affinity.min(whole_cpus(quota)))
    }
}

/// The numbers of workers for a machine, with the arithmetic in one line.
pub fn workers(machine: &Machine, bounds: &Bounds) -> Workers {
    let (mut count, mut reason) = at_the_start(machine);
    if bounds.apps > 1 {
        count = (count / bounds.apps).max(1);
        reason = format!("{count} of {reason}, for {} applications", bounds.apps);
    }
    let (most, why) = on_demand(machine, bounds);
    if let Some((most, origin)) = bounds.most.as_ref().filter(|(most, _)| *most < count) {
        count = *most;
        reason = format!("{count} (set by {origin}) instead of {reason}");
    }
    let most = most.max(count);
    let reason = match bounds.fixed {
        Some(why) => format!("{reason}; no more, {why}"),
        None if most == count => reason,
        None => format!("{reason}; up to {most} ({why})"),
    };
    Workers {
        count,
        most: if bounds.fixed.is_some() { count } else { most },
        is_auto: true,
        reason,
    }
}

/// The largest number of workers on demand, and its arithmetic.
fn on_demand(machine: &Machine, bounds: &Bounds) -> (u32, String) {
    let cpus = machine.cpus();
    let mut terms = match &bounds.most {
        Some((most, origin)) => vec![(u64::from(*most), format!("set by {origin}"))],
        None => vec![
            (
                EACH_CPU * cpus / u64::from(bounds.apps.max(1)),
                format!("{EACH_CPU} per CPU"),
            ),
            (MOST_ON_DEMAND, "the largest default".to_owned()),
        ],
    };
    let threads = u64::from(bounds.threads.max(1));
    if let Some(limit) = machine.descriptors {
        // A channel for each thread and one for orders, twice during a reload, out of a quarter
        // of all descriptors.
        let fitting = limit / 4 / (2 * (1 + threads)) / u64::from(bounds.apps.max(1));
        terms.push((fitting, format!("{limit} descriptors")));
    }
    let fitting = MAX_THREADS as u64 / threads;
    terms.push((fitting, format!("{threads} threads each")));
    let (most, why) = terms
        .into_iter()
        .min_by_key(|(number, _)| *number)
        .expect("there are two at least");
    (u32::try_from(most).unwrap_or(u32::MAX), why)
}

/// The number of workers at the start, and its arithmetic.
fn at_the_start(machine: &Machine) -> (u32, String) {
    let mut terms = Vec::new();
    let mut limit = |number: u64, text: String| terms.push((number, text));
    if let Some(quota) = machine.cpu_quota {
        let whole = whole_cpus(quota);
        limit(whole, format!("CPU quota {quota:.1} -> {whole}"));
    }
    let affinity = machine.affinity.max(1) as u64;
    limit(affinity, format!("affinity {affinity}"));
    if let Some(bytes) = machine.memory {
        let fitting = (bytes / WORKER_MEMORY).max(1);
        limit(
            fitting,
            format!(
                "memory {} MiB / {} MiB -> {fitting}",
                bytes >> 20,
                WORKER_MEMORY >> 20
            ),
        );
    }
    limit(MOST_WORKERS, format!("at most {MOST_WORKERS}"));
    let number = terms.iter().map(|(number, _)| *number).min().unwrap_or(1);
    let texts: Vec<&str> = terms
        .iter()
        .filter(|(limit, text)| !text.starts_with("at most") || *limit == number)
        .map(|(_, text)| text.as_str())
        .collect();
    let count = u32::try_from(number).unwrap_or(1);
    (count, format!("{number} = min({})", texts.join(", ")))
}

/// A quota as a number of CPUs; between 1 and what fits.
fn whole_cpus(quota: f64) -> u64 {
    // The cast saturates, and takes what is no number to zero.
    (quota.ceil() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcest_resource_decides_and_the_reason_shows_it() {
        let check = |cpu_quota, affinity, mib: Option<u64>, expected: &str| {
            let memory = mib.map(|mib| mib << 20);
            let (count, reason) = at_the_start(&Machine {
                cpu_quota,
                affinity,
                memory,
                descriptors: None,
            });
            assert_eq!(reason, expected);
            assert!(expected.starts_with(&format!("{count} = ")));
        };
        check(
            Some(2.0),
            4,
            Some(512),
            "2 = min(CPU quota 2.0 -> 2, affinity 4, memory 512 MiB / 128 MiB -> 4)",
        );
        check(
            Some(0.5),
            4,
            None,
            "1 = min(CPU quota 0.5 -> 1, affinity 4)",
        );
        check(
            Some(1.5),
            4,
            None,
            "2 = min(CPU quota 1.5 -> 2, affinity 4)",
        );
        check(
            None,
            8,
            Some(256),
            "2 = min(affinity 8, memory 256 MiB / 128 MiB -> 2)",
        );
        check(
            None,
            8,
            Some(64),
            "1 = min(affinity 8, memory 64 MiB / 128 MiB -> 1)",
        );
        check(None, 128, None, "32 = min(affinity 128, at most 32)");
        check(None, 0, None, "1 = min(affinity 1)");
    }

    #[test]
    fn strange_quotas_still_give_a_worker() {
        for quota in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
            let machine = Machine {
                cpu_quota: Some(quota),
                affinity: 4,
                memory: Some(0),
                descriptors: Some(0),
            };
            let sized = workers(&machine, &Bounds::default());
            assert_eq!(sized.count, 1);
            assert!(sized.most >= 1);
            assert!(machine.cpus() >= 1);
        }
    }

    /// Two CPUs with plenty of everything else.
    const MACHINE: Machine = Machine {
        cpu_quota: None,
        affinity: 2,
        memory: None,
        descriptors: None,
    };

    #[track_caller]
    fn check(machine: Machine, bounds: Bounds, count: u32, most: u32, reason: &str) {
        let sized = workers(&machine, &bounds);
        assert_eq!((sized.count, sized.most), (count, most), "{}", sized.reason);
        assert_eq!(sized.reason, reason);
        assert!(sized.is_auto);
    }

    #[test]
    fn on_demand_there_are_sixteen_for_each_cpu_unless_something_else_is_scarcer() {
        let alone = Bounds {
            threads: 1,
            apps: 1,
            ..Bounds::default()
        };
        let start = "2 = min(affinity 2)";
        let reason = |rest: &str| format!("{start}; {rest}");
        check(
            MACHINE,
            alone.clone(),
            2,
            32,
            &reason("up to 32 (16 per CPU)"),
        );
        let half = Machine {
            cpu_quota: Some(0.5),
            memory: Some(512 << 20),
            ..MACHINE
        };
        let text = "1 = min(CPU quota 0.5 -> 1, affinity 2, memory 512 MiB / 128 MiB -> 4); up to 16 (16 per CPU)";
        check(half, alone.clone(), 1, 16, text);
        let large = Machine {
            affinity: 64,
            ..MACHINE
        };
        let text = "32 = min(affinity 64, at most 32); up to 256 (the largest default)";
        check(large, alone.clone(), 32, 256, text);
        // 1024 descriptors: a quarter for the workers and those of a reload.
        let few = |descriptors| Machine {
            affinity: 8,
            descriptors: Some(descriptors),
            ..MACHINE
        };
        let text = "8 = min(affinity 8); up to 64 (1024 descriptors)";
        check(few(1024), alone.clone(), 8, 64, text);
        check(few(64), alone.clone(), 8, 8, "8 = min(affinity 8)");
        let threads = Bounds {
            threads: 1024,
            ..alone.clone()
        };
        check(
            MACHINE,
            threads,
            2,
            31,
            &reason("up to 31 (1024 threads each)"),
        );
    }

    #[test]
    fn a_maximum_that_is_set_holds_also_at_the_start() {
        let bounds = |most| Bounds {
            threads: 1,
            apps: 1,
            most: Some((most, "--max-workers".to_owned())),
            ..Bounds::default()
        };
        let start = "2 = min(affinity 2)";
        let text = format!("{start}; up to 100 (set by --max-workers)");
        check(MACHINE, bounds(100), 2, 100, &text);
        check(MACHINE, bounds(2), 2, 2, start);
        let text = format!("1 (set by --max-workers) instead of {start}");
        check(MACHINE, bounds(1), 1, 1, &text);
    }

    #[test]
    fn applications_share_the_machine_and_those_without_copies_stay_as_they_are() {
        let bounds = Bounds {
            threads: 1,
            apps: 3,
            ..Bounds::default()
        };
        let text = "1 of 2 = min(affinity 2), for 3 applications; up to 10 (16 per CPU)";
        check(MACHINE, bounds, 1, 10, text);
        let bounds = Bounds {
            threads: 1,
            apps: 1,
            fixed: Some("because each imports for itself"),
            ..Bounds::default()
        };
        let text = "2 = min(affinity 2); no more, because each imports for itself";
        check(MACHINE, bounds, 2, 2, text);
    }
}
