//! Default number of workers: as many as CPUs and memory allow.

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
}

/// Memory that one worker is reckoned with. A preforked Django worker was measured at 15 to
/// 30 MB of its own; 128 MiB leave room for what it grows to, and for the front.
const WORKER_MEMORY: u64 = 128 << 20;

/// Most workers that are started unasked: beyond, the application's database notices first.
const MOST_WORKERS: u64 = 32;

impl Machine {
    /// CPUs that can be kept busy, at least one. A part of a CPU counts as one, so that a
    /// quota of 1.5 is used up.
    pub fn cpus(&self) -> u64 {
        let affinity = self.affinity.max(1) as u64;
        self.cpu_quota
            .map_or(affinity, |quota| affinity.min(whole_cpus(quota)))
    }
}

/// The number of workers for a machine, with the arithmetic in one line.
pub fn workers(machine: &Machine) -> Workers {
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
    Workers {
        count,
        most: count,
        reason: format!("{number} = min({})", texts.join(", ")),
    }
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
            let sized = workers(&Machine {
                cpu_quota,
                affinity,
                memory,
            });
            assert_eq!(sized.reason, expected);
            assert!(expected.starts_with(&format!("{} = ", sized.count)));
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
            };
            assert_eq!(workers(&machine).count, 1);
            assert!(machine.cpus() >= 1);
        }
    }
}
