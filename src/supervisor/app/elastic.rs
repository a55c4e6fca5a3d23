//! The number of workers of an application that follows the demand: measures, has
//! [`crate::supervisor::policy::size`] decide, and does what that says.
//!
//! While no request waits and there are no more workers than at the start, nothing is measured:
//! the pool reports the first request that waits.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::App;
use crate::config::AppSettings;
use crate::front::upstream::workers::demand::QueueDemand;
use crate::observe::metrics::METRICS;
use crate::observe::status::Scaling;
use crate::os::idle_cpus::{CpuMeter, CpuReading};
use crate::os::memory_group::MemoryGroup;
use crate::os::{cgroup, process};
use crate::supervisor::plan::PlanEvent;
use crate::supervisor::policy::recycle::Seen;
use crate::supervisor::policy::size::{Demand, LOOK, LOOK_CLOSELY, SizeLimits, SizeReason, Sizer};

/// Time of close checks after requests have waited.
const ATTENTION: Duration = Duration::from_secs(2);
/// CPUs are measured over this time at most.
const MEASURED: Duration = Duration::from_millis(300);
/// Longest time over which the CPU demand of workers is measured. The kernel counts a wait when
/// it ends: among many workers, a few long ones at a time.
const RUNNABLE: Duration = Duration::from_secs(1);
/// With less idle CPUs it is looked which processes want one.
const SCARCE: f64 = 0.2;
/// Of the control group's memory limit: with more in use no worker is added.
const ROOMY: f64 = 0.85;
/// The same of the machine's memory, which others use as well.
const MACHINE_ROOMY: f64 = 0.95;
/// Workers whose memory is looked at: those that have answered the most requests.
const SAMPLE: usize = 4;
/// Interval of checks of their memory, each of which costs up to a millisecond.
const REMEMBERED: Duration = Duration::from_millis(250);
/// Least memory that a worker is reckoned with, and least part of its resident set: one that was
/// just forked has touched little, and unshares more with each request.
const LEAST_MEMORY: u64 = 4 << 20;
const LEAST_PART: u64 = 2;
/// After this time a worker is as large as others.
const GROWN_UP: Duration = Duration::from_secs(10);

/// State between two checks.
#[derive(Debug, Default)]
pub(super) struct Elastic {
    sizer: Sizer,
    meter: Option<CpuMeter>,
    readings: VecDeque<CpuReading>,
    /// For how long each worker has wanted a CPU until the last looks.
    runnable: VecDeque<(Instant, HashMap<u32, Duration>)>,
    /// Most memory that one worker took for itself, and when that was looked at.
    private: Option<(Instant, u64)>,
    /// When workers were added, and how many.
    added: VecDeque<(Instant, u32)>,
    attentive_until: Option<Instant>,
    next: Option<Instant>,
    /// A number was set by hand, until the next reload.
    is_held: bool,
    /// That was during a reload, after which the number stays.
    is_held_beyond: bool,
    reason: Option<SizeReason>,
}

impl App {
    /// Looks how many workers there are to be, if it is time to. When to look again.
    pub(super) fn follow_demand(&mut self, now: Instant) -> Option<Instant> {
        let settings = self.settings();
        if !self.is_elastic(&settings) {
            return None;
        }
        let limits = self.size_limits(&settings);
        let is_within = (limits.least..=limits.most).contains(&self.size());
        let elastic = &mut self.care.elastic;
        if elastic.attentive_until.is_some_and(|until| now >= until) {
            elastic.attentive_until = None;
        }
        let pause = match elastic.attentive_until {
            Some(_) => LOOK_CLOSELY,
            None if self.plan.size() != limits.least || !is_within => LOOK,
            None => {
                elastic.forget_measures();
                return None;
            }
        };
        if elastic.next.is_none_or(|next| now >= next) {
            self.care.elastic.next = Some(now + pause);
            self.resize_by_demand(&settings, limits, now);
        }
        // Another reason to look may have come meanwhile.
        let next = self.care.elastic.next.map(|next| next.min(now + pause));
        self.care.elastic.next = next;
        next
    }

    /// A request has waited for long.
    pub(super) fn requests_wait(&mut self, now: Instant) {
        if self.is_elastic(&self.settings()) {
            let elastic = &mut self.care.elastic;
            if elastic.attentive_until.is_none() {
                elastic.forget_measures();
                elastic.next = None;
            }
            elastic.attentive_until = Some(now + ATTENTION);
            self.look_after(now);
        }
    }

    /// The number of workers stays as it was set by hand until the next reload.
    pub(super) fn hold_size(&mut self) {
        let elastic = &mut self.care.elastic;
        elastic.is_held = true;
        elastic.is_held_beyond = self.plan.is_reloading();
        elastic.reason = None;
    }

    /// A reload begins. What is set by hand from now on is meant for what serves afterwards.
    pub(super) fn reload_begins(&mut self) {
        self.care.elastic.is_held_beyond = false;
    }

    /// Other settings or other code serve from now on.
    pub(super) fn release_size(&mut self, now: Instant) {
        self.care.elastic = Elastic {
            is_held: self.care.elastic.is_held_beyond,
            ..Elastic::default()
        };
        // From now on the first request that waits is reported again.
        let demand = self.pool.demand();
        if demand.waiting > 0 {
            self.requests_wait(now);
        }
    }

    /// A worker of this generation could not be started. If it was added on demand, there are to
    /// be no more than there are.
    pub(super) fn growth_failed(&mut self, number: u32) {
        let settings = self.settings();
        if self.plan.current() != Some(number) || !self.is_elastic(&settings) {
            return;
        }
        let least = self.size_limits(&settings).least;
        let ready = self
            .serving_workers(false)
            .map_or(0, |(_, seen)| seen.len() as u32);
        let (from, to) = (self.size(), ready.max(least));
        if to < from {
            self.care.elastic.sizer.not_started(Instant::now());
            self.set_size(to, SizeReason::NotStarted);
        }
    }

    /// Workers that the next generation is to begin with: as many as serve now, as far as there is
    /// memory for them beside those.
    pub(super) fn size_of_next(&mut self, settings: &AppSettings) -> u32 {
        let least = settings.workers.count;
        let wanted = self.size().clamp(least, settings.workers.most);
        let seen = self.serving_workers(false).map(|(_, seen)| seen);
        let group = self.care.group();
        let room =
            self.care
                .elastic
                .room(group.as_ref(), &seen.unwrap_or_default(), Instant::now());
        wanted.min(room.max(least))
    }

    /// Current, smallest and largest number of workers, and why.
    pub fn scaling(&self) -> Scaling {
        let settings = self.settings();
        let elastic = &self.care.elastic;
        let is_range = settings.workers.most > settings.workers.count;
        let reason = match elastic.reason {
            _ if elastic.is_held && is_range => "set by hand, until the next reload".to_owned(),
            _ if elastic.is_held => "set by hand, until `workers` changes".to_owned(),
            _ if !is_range => "fixed".to_owned(),
            _ if settings.workers.is_auto && !self.plan.makes_copies() => {
                "fixed, because each worker imports for itself".to_owned()
            }
            reason => reason.unwrap_or(SizeReason::Enough).to_string(),
        };
        let limits = match elastic.is_held || !is_range {
            true => SizeLimits {
                least: self.size(),
                most: self.size(),
                is_auto: false,
            },
            false => self.size_limits(&settings),
        };
        Scaling {
            workers: self.size(),
            minimum: limits.least,
            maximum: limits.most,
            reason,
        }
    }

    /// True if memory that runs out can be had from workers that are not needed at least.
    pub(super) fn has_surplus(&self, settings: &AppSettings) -> bool {
        self.is_elastic(settings) && self.size() > self.size_limits(settings).least
    }

    fn is_elastic(&self, settings: &AppSettings) -> bool {
        settings.workers.most > settings.workers.count && !self.care.elastic.is_held
    }

    fn size_limits(&self, settings: &AppSettings) -> SizeLimits {
        let workers = &settings.workers;
        // What imports for itself costs as much as all others together.
        let may_grow = !workers.is_auto || self.plan.makes_copies();
        SizeLimits {
            least: workers.count,
            most: if may_grow {
                workers.most
            } else {
                workers.count
            },
            is_auto: workers.is_auto,
        }
    }

    fn resize_by_demand(&mut self, settings: &AppSettings, limits: SizeLimits, now: Instant) {
        let queue = self.pool.demand();
        let Some((_, seen)) = self.serving_workers(false) else {
            return;
        };
        let demand = self.measure(queue, &seen, settings, limits, now);
        tracing::trace!(?demand, "demand for workers");
        let elastic = &mut self.care.elastic;
        let (wanted, why) = elastic.sizer.look(&demand, limits, now);
        if elastic.sizer.is_waited_for() {
            elastic.attentive_until = Some(now + ATTENTION);
        }
        if wanted != demand.workers {
            if let Some(more) = wanted.checked_sub(demand.workers) {
                elastic.added.push_back((now, more));
            }
            self.set_size(wanted, why);
        } else if why != SizeReason::Enough {
            elastic.reason = Some(why);
        }
    }

    fn set_size(&mut self, workers: u32, why: SizeReason) {
        tracing::info!(
            from = self.size(),
            to = workers,
            %why,
            "number of workers follows the demand"
        );
        METRICS.scaled.up(why.label());
        self.care.elastic.reason = Some(why);
        self.handle(PlanEvent::FollowDemand(workers));
    }

    fn measure(
        &mut self,
        queue: QueueDemand,
        seen: &[Seen],
        settings: &AppSettings,
        limits: SizeLimits,
        now: Instant,
    ) -> Demand {
        let workers = self.size();
        let memory_runs_out = self.care.memory_runs_out();
        let group = self.care.group();
        let elastic = &mut self.care.elastic;
        let ready = seen.len() as u32;
        if ready < workers {
            // What was idle before there were as many says nothing.
            elastic.readings.clear();
            elastic.runnable.clear();
        }
        let (idle, cpus) = elastic.idle_cpus();
        let may_grow = queue.waiting > 0 && workers < limits.most;
        // As many as may be a crowd that computes.
        let are_busy = queue.running * 2 >= u64::from(workers);
        let is_scarce = idle.is_some_and(|idle| idle < SCARCE);
        let may_shrink = workers > limits.least && (is_scarce || are_busy);
        let runnable = match may_grow || may_shrink {
            true => elastic.runnable(seen, settings.threads > 1, now),
            false => {
                elastic.runnable.clear();
                None
            }
        };
        // It costs something to know, as what is runnable does.
        let room = match may_grow {
            true => elastic.room(group.as_ref(), seen, now),
            false => 0,
        };
        Demand {
            waited: queue.waited,
            waiting: queue.waiting,
            running: queue.running,
            workers,
            ready,
            threads: settings.threads,
            idle,
            cpus,
            runnable,
            room,
            memory_runs_out,
        }
    }
}

impl Elastic {
    fn forget_measures(&mut self) {
        self.meter = None;
        self.readings.clear();
        self.runnable.clear();
        self.sizer.forget();
    }

    /// The share of the CPUs that was idle lately, and their number.
    fn idle_cpus(&mut self) -> (Option<f64>, f64) {
        let meter = self.meter.get_or_insert_with(CpuMeter::of_this_process);
        let reading = meter.read();
        while self.readings.len() > 1 && self.readings[0].is_older_than(MEASURED, &reading) {
            self.readings.pop_front();
        }
        let first = self.readings.front();
        let idle = first.and_then(|first| meter.idle(first, &reading));
        self.readings.push_back(reading);
        (idle, meter.cpus())
    }

    /// The mean number of workers that ran or waited for a CPU lately.
    fn runnable(&mut self, seen: &[Seen], all_threads: bool, now: Instant) -> Option<f64> {
        let times: HashMap<u32, Duration> = seen
            .iter()
            .filter_map(|worker| {
                let time = process::runnable_time(worker.pid, all_threads)?;
                Some((worker.pid, time))
            })
            .collect();
        while self.runnable.len() > 1 && now >= self.runnable[0].0 + RUNNABLE {
            self.runnable.pop_front();
        }
        let mean = self.runnable.front().and_then(|(since, before)| {
            let passed = now.duration_since(*since).as_secs_f64();
            let wanted = times.iter().filter_map(|(pid, time)| {
                let before = before.get(pid)?;
                Some(time.saturating_sub(*before).as_secs_f64())
            });
            (passed > 0.0 && !times.is_empty()).then(|| wanted.sum::<f64>() / passed)
        });
        self.runnable.push_back((now, times));
        mean
    }

    /// Workers for which there is memory besides those that serve.
    fn room(&mut self, group: Option<&MemoryGroup>, seen: &[Seen], now: Instant) -> u32 {
        let known = self.private.filter(|(at, _)| now < *at + REMEMBERED);
        let before = self.private.map_or(0, |(_, each)| each);
        let known = known.unwrap_or_else(|| (now, largest(seen).max(before)));
        let (_, each) = *self.private.insert(known);
        while self
            .added
            .front()
            .is_some_and(|(at, _)| now >= *at + GROWN_UP)
        {
            self.added.pop_front();
        }
        let young: u64 = self
            .added
            .iter()
            .map(|(_, number)| u64::from(*number))
            .sum();
        let below = |limit: u64, share: f64, used: u64| {
            ((limit as f64 * share) as u64).saturating_sub(used)
        };
        let of_group = group.and_then(|group| Some(below(group.limit, ROOMY, group.used()?)));
        let of_machine = cgroup::machine_memory()
            .map(|(all, free)| below(all, MACHINE_ROOMY, all.saturating_sub(free)));
        let free = of_group.into_iter().chain(of_machine).min();
        // Those that were added last will take as much as the others.
        let fitting = free.map_or(u64::from(u32::MAX), |free| {
            (free / each).saturating_sub(young)
        });
        u32::try_from(fitting).unwrap_or(u32::MAX)
    }
}

/// Memory that the largest of the workers that have answered the most takes for itself.
fn largest(seen: &[Seen]) -> u64 {
    let mut seen: Vec<&Seen> = seen.iter().collect();
    seen.sort_unstable_by_key(|worker| std::cmp::Reverse(worker.served));
    let sizes = seen.iter().take(SAMPLE).filter_map(|worker| {
        let resident = process::resident_memory(worker.pid)?;
        let private = process::private_memory(worker.pid).unwrap_or(resident);
        Some(private.max(resident / LEAST_PART))
    });
    sizes.max().unwrap_or_default().max(LEAST_MEMORY)
}
