//! The number of workers where it follows the demand: pure, `(what was seen, now) -> grow, shrink, keep`.
//!
//! ```text
//! grow    requests wait for a thread at every look, and CPUs are idle        as far as CPUs suffice
//! shrink  the last half minute needed fewer                                  half of the surplus
//!         more workers want a CPU than there are CPUs                        the crowd
//!         memory runs out                                                    a quarter of the surplus
//! ```
//!
//! More workers help while the others wait for something else than a CPU: a database, another
//! service, a lock. Where the CPUs are busy, they would only take turns.

use std::fmt;
use std::time::{Duration, Instant};

/// Interval of the checks while requests wait.
pub const LOOK_CLOSELY: Duration = Duration::from_millis(50);
/// Interval of the checks while there are more workers than at the start.
pub const LOOK: Duration = Duration::from_millis(250);
/// A request that waits for less finds a thread by itself: the queue of 32 that lies ready for
/// workers of a fast application is shorter.
const MOMENT: Duration = Duration::from_millis(5);
/// Requests must wait at all looks of this time.
const PERSISTS: Duration = Duration::from_millis(100);
/// The same for another worker of a range that was set, while CPUs are busy elsewhere.
const PATIENCE: Duration = Duration::from_secs(1);
/// Share of the CPUs that must be idle for more workers to help.
const IDLE: f64 = 0.2;
/// Share of the CPUs that stays idle where more workers are added.
const MARGIN: f64 = 0.1;
/// With a smaller share of idle CPUs they are busy.
const BUSY: f64 = 0.05;
/// Workers that want a CPU, for each CPU: with more they are a crowd. One in four waits for a disk
/// or another service in the next moment.
const CROWD: f64 = 1.25;
/// Time for which they must be.
const CROWDED: Duration = Duration::from_secs(1);
/// Part of the workers that want a CPU where they compute: then others would do the same.
const COMPUTE: f64 = 0.6;
/// Time for which fewer workers must have been enough.
const QUIET: Duration = Duration::from_secs(30);
/// Threads for each request that ran or waited at the busiest look of that time.
const SPARE: f64 = 1.25;
/// Time for memory to recover after workers have been removed for it.
const RECOVERY: Duration = Duration::from_millis(500);
/// Time without new workers after one could not be started, or memory ran out.
const PAUSE: Duration = Duration::from_secs(60);

/// The limits of the number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimits {
    /// Smallest number, with which it starts.
    pub least: u32,
    /// Largest number.
    pub most: u32,
    /// Adds workers only while CPUs are idle. False for a range that was set: there it also
    /// adds one while the CPUs are busy, if it is not the workers that keep them busy.
    pub is_auto: bool,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Time for which the oldest request has waited that no thread has taken.
    pub waited: Duration,
    /// Requests that no thread has taken.
    pub waiting: u64,
    /// Requests that threads run.
    pub running: u64,
    /// Workers that there are to be.
    pub workers: u32,
    /// Those of them that serve.
    pub ready: u32,
    /// Threads of each.
    pub threads: u32,
    /// Share of the CPUs that was idle lately; `None` if that is not known.
    pub idle: Option<f64>,
    /// Number of CPUs, `0.5`.
    pub cpus: f64,
    /// Mean number of workers that ran or waited for a CPU; `None` if that is not known.
    pub runnable: Option<f64>,
    /// Workers for which there is memory besides those that there are.
    pub room: u32,
    /// True if the kernel may kill a process for want of memory soon.
    pub memory_runs_out: bool,
}

/// Why a number of workers changes, or does not although requests wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SizeReason {
    /// As many as at the start, or as were needed before.
    Enough,
    /// Requests waited while CPUs were idle: time in the queue, share of idle CPUs.
    RequestsWaited(Duration, Option<f64>),
    /// Fewer were enough: requests at the busiest moment.
    Quiet(u64),
    /// More workers wanted a CPU than there are: their number.
    Crowded(f64),
    /// Memory ran out.
    MemoryRanOut,
    /// One could not be started.
    NotStarted,
    /// There were fewer or more than there may be: the smallest and the largest number.
    OutsideRange(u32, u32),
    /// Requests wait, and there are as many workers as there may be.
    AtMaximum,
    /// Requests wait, and there is no memory for another worker.
    NoRoom,
    /// Requests wait, and the CPUs are busy: share that is idle, if known.
    CpusBusy(Option<f64>),
    /// Requests wait, and the workers that there are want the CPUs: how many.
    WorkersBusy(f64),
}

impl SizeReason {
    /// For a label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Enough => "enough",
            Self::RequestsWaited(..) => "requests_waited",
            Self::Quiet(_) => "quiet",
            Self::Crowded(_) => "cpus_busy",
            Self::MemoryRanOut => "memory",
            Self::NotStarted => "not_started",
            Self::OutsideRange(..) => "range",
            Self::AtMaximum => "maximum",
            Self::NoRoom => "no_memory",
            Self::CpusBusy(_) | Self::WorkersBusy(_) => "cpus_busy",
        }
    }
}

impl fmt::Display for SizeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &f64| (share * 100.0).round();
        match self {
            Self::Enough => write!(f, "no request waits long"),
            Self::RequestsWaited(time, Some(idle)) => write!(
                f,
                "requests waited {} ms while {} % of the CPUs were idle",
                time.as_millis(),
                percent(idle)
            ),
            Self::RequestsWaited(time, None) => {
                write!(f, "requests waited {} ms", time.as_millis())
            }
            Self::Quiet(requests) => write!(
                f,
                "at most {requests} requests ran or waited at a time in the last {} s",
                QUIET.as_secs()
            ),
            Self::Crowded(runnable) => {
                write!(
                    f,
                    "{runnable:.1} workers wanted a CPU while the CPUs were busy"
                )
            }
            Self::MemoryRanOut => write!(f, "the memory is nearly exhausted"),
            Self::NotStarted => write!(f, "another worker could not be started (see the log)"),
            Self::OutsideRange(least, most) if least == most => {
                write!(f, "there are to be {least}")
            }
            Self::OutsideRange(least, most) => {
                write!(f, "there are to be from {least} to {most}")
            }
            Self::AtMaximum => write!(f, "requests wait, and there are as many workers as may be"),
            Self::NoRoom => write!(
                f,
                "requests wait, and there is no memory for another worker"
            ),
            Self::CpusBusy(Some(idle)) => write!(
                f,
                "requests wait, and only {} % of the CPUs are idle",
                percent(idle)
            ),
            Self::WorkersBusy(runnable) => {
                write!(
                    f,
                    "requests wait, and {runnable:.1} workers want a CPU already"
                )
            }
            Self::CpusBusy(None) => {
                write!(f, "requests wait, and idle CPUs cannot be measured")
            }
        }
    }
}

/// Follows the demand.
#[derive(Debug, Default)]
pub struct Sizer {
    waits: Option<Waits>,
    crowd: Option<Crowd>,
    /// Since when no worker was added, and requests at the busiest look.
    quiet: Option<(Instant, u64)>,
    /// No worker leaves for want of memory before.
    recovers_until: Option<Instant>,
    /// No worker is added before, and why.
    pause: Option<(Instant, SizeReason)>,
}

/// Requests have waited at every look since some time.
#[derive(Debug, Clone, Copy)]
struct Waits {
    since: Instant,
    /// Number at the check with the fewest.
    fewest: u64,
}

/// More workers have wanted a CPU than there are since some time.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    since: Instant,
    looks: u32,
    /// Sum over all checks.
    sum: f64,
}

impl Sizer {
    /// The number of workers that there are to be, and why.
    pub fn look(&mut self, seen: &Demand, limits: SizeLimits, now: Instant) -> (u32, SizeReason) {
        self.remember(seen, now);
        let (decided, why) = self.decide(seen, limits, now);
        let most = limits.most.max(limits.least);
        let wanted = decided.clamp(limits.least, most);
        if wanted == seen.workers {
            return (wanted, why);
        }
        self.forget();
        match decided == wanted {
            true => (wanted, why),
            // The settings have changed, or the template makes no copies any more.
            false => (wanted, SizeReason::OutsideRange(limits.least, most)),
        }
    }

    /// A worker that was added could not be started: the system has no process for it, or the
    /// application no connection.
    pub fn not_started(&mut self, now: Instant) {
        self.pause = Some((now + PAUSE, SizeReason::NotStarted));
    }

    /// Nothing is seen for a while: what was seen last says nothing about what comes.
    pub fn forget(&mut self) {
        *self = Self {
            recovers_until: self.recovers_until,
            pause: self.pause,
            ..Self::default()
        };
    }

    /// True if requests have waited at the last look.
    pub fn is_waited_for(&self) -> bool {
        self.waits.is_some()
    }

    fn remember(&mut self, seen: &Demand, now: Instant) {
        // Those that were added last have not helped yet.
        let all_serve = seen.ready >= seen.workers;
        self.waits = (all_serve && seen.waiting > 0 && seen.waited >= MOMENT).then(|| {
            let before = self.waits.unwrap_or(Waits {
                since: now,
                fewest: seen.waiting,
            });
            Waits {
                fewest: before.fewest.min(seen.waiting),
                ..before
            }
        });
        let compute = |runnable: f64| runnable > f64::from(seen.workers) * COMPUTE;
        // Where nearly all compute, the CPUs are busy, if only with what others do.
        let is_busy =
            seen.idle.is_some_and(|idle| idle < BUSY) || seen.runnable.is_some_and(compute);
        let crowd = seen
            .runnable
            .filter(|runnable| is_busy && *runnable > seen.cpus * CROWD);
        self.crowd = crowd.map(|runnable| {
            let before = self.crowd.unwrap_or(Crowd {
                since: now,
                looks: 0,
                sum: 0.0,
            });
            Crowd {
                looks: before.looks + 1,
                sum: before.sum + runnable,
                ..before
            }
        });
        let requests = seen.running + seen.waiting;
        let (since, most) = self.quiet.unwrap_or((now, 0));
        self.quiet = Some((since, most.max(requests)));
    }

    fn decide(&mut self, seen: &Demand, limits: SizeLimits, now: Instant) -> (u32, SizeReason) {
        let workers = seen.workers;
        let surplus = workers.saturating_sub(limits.least);
        let lasts = |since: Instant, time| now >= since + time;
        if seen.memory_runs_out && surplus > 0 {
            if self.recovers_until.is_none_or(|until| now >= until) {
                self.recovers_until = Some(now + RECOVERY);
                self.pause = Some((now + PAUSE, SizeReason::NoRoom));
                return (workers - surplus.div_ceil(4), SizeReason::MemoryRanOut);
            }
            return (workers, SizeReason::MemoryRanOut);
        }
        if let Some(crowd) = self.crowd
            && lasts(crowd.since, CROWDED)
            && surplus > 0
        {
            let runnable = crowd.sum / f64::from(crowd.looks);
            // All of them where all compute; fewer where the others wait for something else, and
            // want a CPU afterwards.
            let crowd = (runnable - seen.cpus * CROWD) * runnable / f64::from(workers);
            let crowd = (crowd.ceil().max(1.0) as u32).min(surplus);
            return (workers - crowd, SizeReason::Crowded(runnable));
        }
        if let Some(waits) = self.waits.filter(|waits| lasts(waits.since, PERSISTS)) {
            return self.grow(waits, seen, limits, now);
        }
        if let Some((since, requests)) = self.quiet
            && lasts(since, QUIET)
        {
            self.quiet = None;
            let threads = f64::from(seen.threads.max(1));
            let needed = (requests as f64 * SPARE / threads).ceil() as u32;
            let unneeded = workers.saturating_sub(needed.max(limits.least));
            if unneeded > 0 {
                return (workers - unneeded.div_ceil(2), SizeReason::Quiet(requests));
            }
        }
        (workers, SizeReason::Enough)
    }

    /// Requests wait: adds workers if there may be more, and if they would help.
    fn grow(
        &self,
        waits: Waits,
        seen: &Demand,
        limits: SizeLimits,
        now: Instant,
    ) -> (u32, SizeReason) {
        let workers = seen.workers;
        let keep = |why| (workers, why);
        if workers >= limits.most {
            return keep(SizeReason::AtMaximum);
        }
        if let Some((_, why)) = self.pause.filter(|(until, _)| now < *until) {
            return keep(why);
        }
        if seen.room == 0 {
            return keep(SizeReason::NoRoom);
        }
        // They compute, or wait for a CPU that others have, whatever the CPUs look like.
        if let Some(runnable) = seen.runnable
            && runnable > seen.cpus * (1.0 - IDLE)
            && runnable > f64::from(workers) * COMPUTE
        {
            return keep(SizeReason::WorkersBusy(runnable));
        }
        let why = SizeReason::RequestsWaited(seen.waited, seen.idle);
        if let Some(idle) = seen.idle.filter(|idle| *idle >= IDLE) {
            let waiting = waits.fewest.div_ceil(u64::from(seen.threads.max(1)));
            let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
            // If those that there are take the rest of the CPUs, so many more take what is idle.
            // The cast saturates, also where nothing is taken at all.
            let affordable = (f64::from(workers) * (idle - MARGIN) / (1.0 - idle)) as u32;
            let more = waiting.min(affordable.max(1)).min(seen.room);
            return (workers.saturating_add(more).min(limits.most), why);
        }
        if !limits.is_auto && now >= waits.since + PATIENCE {
            return (workers + 1, why);
        }
        keep(SizeReason::CpusBusy(seen.idle))
    }
}

#[cfg(test)]
mod tests;
