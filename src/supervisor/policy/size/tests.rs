//! Tables of looks: what was seen, and how many workers there are afterwards.

use super::*;
use crate::observe::metrics::METRICS;

const AUTO: SizeLimits = SizeLimits {
    least: 2,
    most: 32,
    is_auto: true,
};
const RANGE: SizeLimits = SizeLimits {
    least: 1,
    most: 4,
    is_auto: false,
};

/// Two idle workers of one thread on two idle CPUs, with memory for many.
const CALM: Demand = Demand {
    waited: Duration::ZERO,
    waiting: 0,
    running: 0,
    workers: 2,
    ready: 2,
    threads: 1,
    idle: Some(0.9),
    cpus: 2.0,
    runnable: Some(0.1),
    room: 100,
    memory_runs_out: false,
};

/// All threads wait for something else, and 30 requests for them.
fn waiting(workers: u32, waiting: u64) -> Demand {
    Demand {
        waited: Duration::from_millis(50),
        waiting,
        running: u64::from(workers),
        workers,
        ready: workers,
        ..CALM
    }
}

/// Follows a story: milliseconds, what is seen, and the number of workers afterwards with the
/// label of its reason.
#[track_caller]
fn check(limits: SizeLimits, start: u32, story: &[(u64, Demand, u32, &str)]) {
    let began = Instant::now();
    let mut sizer = Sizer::default();
    let mut workers = start;
    for (ms, seen, expected, reason) in story {
        let seen = Demand {
            workers,
            ready: workers,
            ..*seen
        };
        let (wanted, why) = sizer.look(&seen, limits, began + Duration::from_millis(*ms));
        assert_eq!(
            (wanted, why.label()),
            (*expected, *reason),
            "{ms} ms: {why}"
        );
        workers = wanted;
    }
}

#[test]
fn it_grows_by_those_that_wait_as_far_as_the_idle_cpus_suffice() {
    let seen = |workers, requests, idle| Demand {
        idle: Some(idle),
        ..waiting(workers, requests)
    };
    check(
        AUTO,
        2,
        &[
            // Two workers keep half of the CPUs busy: four would leave nothing.
            (0, seen(2, 30, 0.5), 2, "enough"),
            (50, seen(2, 30, 0.5), 2, "enough"),
            (100, seen(2, 30, 0.5), 3, "requests_waited"),
            (150, seen(3, 29, 0.75), 3, "enough"),
            (250, seen(3, 29, 0.75), 10, "requests_waited"),
            // The fewest that waited at a time count.
            (300, seen(10, 22, 0.9), 10, "enough"),
            (350, seen(10, 5, 0.9), 10, "enough"),
            (400, seen(10, 22, 0.9), 15, "requests_waited"),
            // One at least.
            (450, seen(15, 90, 0.2), 15, "enough"),
            (550, seen(15, 90, 0.2), 16, "requests_waited"),
            (600, seen(16, 90, 1.0), 16, "enough"),
            (700, seen(16, 90, 1.0), 32, "requests_waited"),
            (800, seen(32, 90, 1.0), 32, "enough"),
            (900, seen(32, 90, 1.0), 32, "maximum"),
        ],
    );
}

#[test]
fn a_moment_of_waiting_is_no_reason() {
    let short = Demand {
        waited: Duration::from_millis(4),
        ..waiting(2, 30)
    };
    check(
        AUTO,
        2,
        &[
            (0, short, 2, "enough"),
            (200, short, 2, "enough"),
            (250, waiting(2, 3), 2, "enough"),
            // In between a thread was free.
            (300, CALM, 2, "enough"),
            (350, waiting(2, 3), 2, "enough"),
            (400, waiting(2, 3), 2, "enough"),
            (450, waiting(2, 3), 5, "requests_waited"),
        ],
    );
}

#[test]
fn busy_cpus_get_no_more_workers() {
    for (idle, expected, reason) in [
        (Some(0.0), 2, "cpus_busy"),
        (Some(0.19), 2, "cpus_busy"),
        (Some(0.2), 3, "requests_waited"),
        (None, 2, "cpus_busy"),
    ] {
        for runnable in [None, Some(0.0), Some(1.6)] {
            let seen = Demand {
                idle,
                runnable,
                ..waiting(2, 30)
            };
            let first = (0, seen, 2, "enough");
            check(AUTO, 2, &[first, (5000, seen, expected, reason)]);
        }
    }
}

#[test]
fn workers_that_want_the_cpus_get_no_more_whatever_the_cpus_look_like() {
    // A group that others leave less than its quota, for example.
    for (workers, cpus, runnable, expected, reason) in [
        (2, 2.0, 1.7, 2, "cpus_busy"),
        (2, 2.0, 1.6, 18, "requests_waited"),
        (2, 0.5, 1.6, 2, "cpus_busy"),
        (2, 0.5, 1.1, 18, "requests_waited"),
        // Many of the workers wait for something else.
        (10, 2.0, 6.1, 10, "cpus_busy"),
        (10, 2.0, 5.9, 32, "requests_waited"),
    ] {
        let seen = Demand {
            cpus,
            runnable: Some(runnable),
            ..waiting(workers, 30)
        };
        let first = (0, seen, workers, "enough");
        check(AUTO, workers, &[first, (500, seen, expected, reason)]);
    }
}

#[test]
fn a_range_that_was_set_grows_slowly_unless_its_workers_keep_the_cpus_busy() {
    for (runnable, expected, reason) in [
        (Some(0.0), 2, "requests_waited"),
        (None, 2, "requests_waited"),
        (Some(0.7), 2, "requests_waited"),
        (Some(1.0), 1, "cpus_busy"),
    ] {
        for idle in [Some(0.1), None] {
            let seen = Demand {
                idle,
                runnable,
                cpus: 1.0,
                ..waiting(1, 30)
            };
            check(
                RANGE,
                1,
                &[
                    (0, seen, 1, "enough"),
                    (500, seen, 1, "cpus_busy"),
                    (1000, seen, expected, reason),
                ],
            );
        }
    }
    // With idle CPUs it is as quick as any.
    let seen = waiting(1, 30);
    check(
        RANGE,
        1,
        &[(0, seen, 1, "enough"), (200, seen, 4, "requests_waited")],
    );
}

#[test]
fn threads_take_as_many_requests_each() {
    let seen = Demand {
        threads: 4,
        ..waiting(2, 5)
    };
    check(
        AUTO,
        2,
        &[(0, seen, 2, "enough"), (200, seen, 4, "requests_waited")],
    );
    let seen = Demand {
        threads: 4,
        ..waiting(8, 5)
    };
    check(
        AUTO,
        8,
        &[(0, seen, 8, "enough"), (200, seen, 10, "requests_waited")],
    );
}

#[test]
fn memory_bounds_the_number() {
    let seen = |room| Demand {
        room,
        ..waiting(8, 30)
    };
    check(
        AUTO,
        8,
        &[
            (0, seen(3), 8, "enough"),
            (200, seen(3), 11, "requests_waited"),
            (300, seen(0), 11, "enough"),
            (500, seen(0), 11, "no_memory"),
        ],
    );
}

#[test]
fn when_memory_runs_out_workers_beyond_the_minimum_leave() {
    let short = Demand {
        memory_runs_out: true,
        ..waiting(10, 30)
    };
    check(
        AUTO,
        10,
        &[
            (0, short, 8, "memory"),
            (200, short, 8, "memory"),
            (500, short, 6, "memory"),
            (1000, short, 5, "memory"),
            (1500, short, 4, "memory"),
            (2000, short, 3, "memory"),
            (2500, short, 2, "memory"),
            (3000, short, 2, "enough"),
            // They would be as large as those that have left.
            (60_000, short, 2, "no_memory"),
            (62_500, waiting(2, 3), 5, "requests_waited"),
        ],
    );
}

#[test]
fn those_that_start_are_waited_for() {
    let mut sizer = Sizer::default();
    let now = Instant::now();
    let seen = Demand {
        ready: 2,
        ..waiting(4, 30)
    };
    for ms in [0, 200, 400] {
        let (workers, _) = sizer.look(&seen, AUTO, now + Duration::from_millis(ms));
        assert_eq!(workers, 4);
    }
    // From then on requests have to wait again.
    let seen = Demand { ready: 4, ..seen };
    for (ms, expected) in [(500, 4), (550, 4), (600, 32)] {
        let (workers, _) = sizer.look(&seen, AUTO, now + Duration::from_millis(ms));
        assert_eq!(workers, expected, "{ms}");
    }
}

#[test]
fn after_one_that_could_not_be_started_there_is_a_pause() {
    let mut sizer = Sizer::default();
    let now = Instant::now();
    sizer.not_started(now);
    for (ms, expected, reason) in [
        (0, 2, "enough"),
        (30_000, 2, "not_started"),
        (59_999, 2, "not_started"),
        (60_000, 18, "requests_waited"),
    ] {
        let at = now + Duration::from_millis(ms);
        let (workers, why) = sizer.look(&waiting(2, 30), AUTO, at);
        assert_eq!((workers, why.label()), (expected, reason), "{ms}");
    }
}

#[test]
fn a_crowd_before_busy_cpus_leaves() {
    let crowd = |runnable| Demand {
        idle: Some(0.02),
        runnable,
        ..waiting(32, 10)
    };
    check(
        AUTO,
        32,
        &[
            (0, crowd(Some(31.5)), 32, "enough"),
            (500, crowd(Some(30.0)), 32, "maximum"),
            (1000, crowd(Some(31.0)), 4, "cpus_busy"),
            (1100, crowd(Some(3.9)), 4, "enough"),
            (2100, crowd(Some(3.9)), 2, "cpus_busy"),
            (2200, crowd(Some(2.0)), 2, "enough"),
        ],
    );
    // Others keep the CPUs busy, or the cause is unknown.
    for runnable in [Some(2.5), None] {
        let busy = crowd(runnable);
        check(
            AUTO,
            32,
            &[(0, busy, 32, "enough"), (5000, busy, 32, "maximum")],
        );
    }
    // Workers at a CPU of which a part is idle work in turns with what they wait for.
    let idle = Demand {
        idle: Some(0.05),
        ..crowd(Some(9.0))
    };
    check(
        AUTO,
        32,
        &[(0, idle, 32, "enough"), (5000, idle, 32, "maximum")],
    );
    // Nearly all of them compute, on CPUs that another group keeps busy.
    let starved = Demand {
        idle: Some(0.5),
        ..crowd(Some(31.5))
    };
    check(
        AUTO,
        32,
        &[(0, starved, 32, "enough"), (1000, starved, 3, "cpus_busy")],
    );
    // The minimum stays, also with half a CPU.
    let least = Demand {
        cpus: 0.5,
        ..crowd(Some(2.0))
    };
    check(
        AUTO,
        2,
        &[(0, least, 2, "enough"), (5000, least, 2, "cpus_busy")],
    );
}

#[test]
fn after_a_quiet_time_half_of_what_was_not_needed_leaves() {
    let seen = |running| Demand { running, ..CALM };
    check(
        AUTO,
        32,
        &[
            (0, seen(30), 32, "enough"),
            // 30 requests and some to spare: all were needed.
            (30_000, seen(1), 32, "enough"),
            (30_250, seen(4), 32, "enough"),
            (60_000, seen(1), 32, "enough"),
            // At most four: five workers would have done.
            (60_250, seen(0), 18, "quiet"),
            (60_500, seen(0), 18, "enough"),
            (90_500, seen(0), 10, "quiet"),
            (90_750, seen(0), 10, "enough"),
            (120_750, seen(0), 6, "quiet"),
            (121_000, seen(0), 6, "enough"),
            (151_000, seen(0), 4, "quiet"),
            (151_250, seen(0), 4, "enough"),
            (181_250, seen(0), 3, "quiet"),
            (181_500, seen(0), 3, "enough"),
            (211_500, seen(0), 2, "quiet"),
            (211_750, seen(0), 2, "enough"),
            (300_000, seen(0), 2, "enough"),
        ],
    );
}

#[test]
fn a_number_outside_of_the_limits_comes_back_into_them() {
    check(AUTO, 40, &[(0, CALM, 32, "range")]);
    check(AUTO, 1, &[(0, CALM, 2, "range")]);
}

#[test]
fn whatever_is_seen_there_are_as_many_as_may_be_and_each_change_is_counted() {
    let counted = |why: &SizeReason| {
        let mut all = METRICS.scaled.all();
        all.any(|(label, _)| label == why.label())
    };
    let limits = |(least, most, is_auto)| SizeLimits {
        least,
        most,
        is_auto,
    };
    let ranges = [(1, 2, false), (2, 6, false), (3, 3, false), (1, 32, true)];
    // Busy or calm, short of memory or of CPUs, with requests that wait.
    let all_seen: Vec<Demand> = (0..64)
        .map(|bits: u32| Demand {
            waiting: u64::from(bits & 1) * 40,
            waited: Duration::from_millis(u64::from(bits & 1) * 50),
            running: u64::from(bits >> 1 & 1) * 9,
            idle: [None, Some(0.0), Some(0.9), Some(1.0)][(bits >> 2 & 3) as usize],
            runnable: (bits >> 4 & 1 == 1).then_some(9.0),
            memory_runs_out: bits >> 5 == 1,
            ..CALM
        })
        .collect();
    for range in ranges {
        let limits = limits(range);
        for (workers, seen) in (0..40).flat_map(|n| all_seen.iter().map(move |seen| (n, seen))) {
            let mut sizer = Sizer::default();
            let began = Instant::now();
            let seen = Demand {
                workers,
                ready: workers,
                ..*seen
            };
            for ms in [0, 200, 1000, 3000, 60_000] {
                let (wanted, why) = sizer.look(&seen, limits, began + Duration::from_millis(ms));
                let what = format!("{range:?}, {ms} ms: {seen:?} -> {wanted}, {why}");
                assert!((limits.least..=limits.most).contains(&wanted), "{what}");
                assert!(wanted == workers || counted(&why), "{what}");
            }
        }
    }
    assert!(counted(&SizeReason::NotStarted));
}

#[test]
fn more_than_may_be_leave_at_once_and_the_range_is_the_reason() {
    let seen = Demand {
        workers: 4,
        ready: 4,
        ..CALM
    };
    let range = SizeLimits {
        least: 1,
        most: 2,
        is_auto: false,
    };
    let (wanted, why) = Sizer::default().look(&seen, range, Instant::now());
    assert_eq!((wanted, why.label()), (2, "range"));
    assert_eq!(why.to_string(), "there are to be from 1 to 2");
}
