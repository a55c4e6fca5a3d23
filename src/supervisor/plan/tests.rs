//! A table of stories: events in, actions out.

use std::time::Duration;

use super::generation::RETIRING_ALONE;
use super::*;

fn recipe(workers: u32) -> GenerationSpec {
    GenerationSpec {
        workers,
        range: (1, 2 * workers),
        slots: 2 * workers,
        preload: Preload::Auto,
        without_copies: workers,
    }
}

struct Story {
    plan: Plan,
    start: Instant,
}

#[test]
fn a_template_that_dies_while_it_forks_is_tried_three_times() {
    let mut story = Story::new(1);
    story.plan.decide(PlanEvent::Start, story.start);
    let fork = Action::Fork(0, 0);
    let restart = Action::StartTemplate(0, Preload::Auto);
    for ms in [10, 20] {
        story.check(
            ms,
            PlanEvent::TemplateLoaded(0),
            std::slice::from_ref(&fork),
        );
        story.check(
            ms + 1,
            PlanEvent::TemplateExited(0),
            std::slice::from_ref(&restart),
        );
    }
    story.check(30, PlanEvent::TemplateLoaded(0), &[fork]);
    let give_up = Action::GiveUp(Ending::NeverReady);
    story.check(31, PlanEvent::TemplateExited(0), &[give_up]);
}

#[test]
fn a_template_that_dies_while_it_forks_is_tried_ever_more_rarely_once_it_has_served() {
    let mut story = Story::serving(1);
    story
        .plan
        .decide(PlanEvent::WorkerExited(0, 0), story.at(2000));
    let restart = Action::StartTemplate(0, Preload::Auto);
    for ms in [2010, 2020] {
        story.check(
            ms,
            PlanEvent::TemplateExited(0),
            std::slice::from_ref(&restart),
        );
        story
            .plan
            .decide(PlanEvent::TemplateLoaded(0), story.at(ms));
    }
    story.check(2030, PlanEvent::TemplateExited(0), &[restart]);
    story
        .plan
        .decide(PlanEvent::TemplateLoaded(0), story.at(2030));
    let later = Action::WakeAt(story.at(2140));
    story.check(2040, PlanEvent::TemplateExited(0), &[later]);
}

impl Story {
    fn new(workers: u32) -> Self {
        Self {
            plan: Plan::new(recipe(workers)),
            start: Instant::now(),
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    #[track_caller]
    fn check(&mut self, ms: u64, event: PlanEvent, expected: &[Action]) {
        let now = self.at(ms);
        assert_eq!(self.plan.decide(event, now), expected);
    }

    /// Starts the workers of the generation; all are ready at once.
    fn bring_up(&mut self, ms: u64, generation: u32, workers: u32) -> Vec<Action> {
        let now = self.at(ms);
        self.plan.decide(PlanEvent::TemplateLoaded(generation), now);
        let mut last = Vec::new();
        for worker in 0..workers {
            self.plan.decide(PlanEvent::Forked(generation, worker), now);
            last = self
                .plan
                .decide(PlanEvent::WorkerReady(generation, worker), now);
        }
        last
    }

    fn serving(workers: u32) -> Self {
        let mut story = Self::new(workers);
        story.plan.decide(PlanEvent::Start, story.start);
        assert_eq!(story.bring_up(0, 0, workers), [Action::Announce]);
        story
    }
}

const START: [Action; 2] = [Action::Switch(0), Action::StartTemplate(0, Preload::Auto)];

#[test]
fn a_start_goes_from_template_to_workers_to_the_announcement() {
    let mut story = Story::new(2);
    story.check(0, PlanEvent::Start, &START);
    story.check(
        1,
        PlanEvent::TemplateLoaded(0),
        &[Action::Fork(0, 0), Action::Fork(0, 1)],
    );
    story.check(2, PlanEvent::Forked(0, 0), &[]);
    story.check(2, PlanEvent::Forked(0, 1), &[]);
    story.check(3, PlanEvent::WorkerReady(0, 1), &[]);
    story.check(4, PlanEvent::WorkerReady(0, 0), &[Action::Announce]);
}

#[test]
fn an_unsafe_template_is_followed_by_one_that_does_not_import() {
    let mut story = Story::new(1);
    story.check(0, PlanEvent::Start, &START);
    story.check(
        1,
        PlanEvent::TemplateUnsafe(0),
        &[Action::StartTemplate(0, Preload::No)],
    );
    story.check(2, PlanEvent::TemplateLoaded(0), &[Action::Fork(0, 0)]);
}

#[test]
fn a_dead_worker_is_replaced_at_once() {
    let mut story = Story::serving(2);
    for second in 2..20 {
        let ms = second * 1000;
        story.check(ms, PlanEvent::WorkerExited(0, 1), &[Action::Fork(0, 1)]);
        story.check(ms, PlanEvent::Forked(0, 1), &[]);
        story.check(ms, PlanEvent::WorkerReady(0, 1), &[]);
        story.check(ms + 1, PlanEvent::Timer, &[]);
    }
}

#[test]
fn a_crash_loop_of_a_server_that_has_served_backs_off_and_continues() {
    let mut story = Story::serving(1);
    let died = PlanEvent::WorkerExited(0, 0);
    for _ in 0..3 {
        story.check(10, died.clone(), &[Action::Fork(0, 0)]);
    }
    let until = story.at(10 + 100);
    story.check(10, died.clone(), &[Action::WakeAt(until)]);
    story.check(110, PlanEvent::Timer, &[Action::Fork(0, 0)]);
    let until = story.at(110 + 200);
    story.check(110, died.clone(), &[Action::WakeAt(until)]);
    story.check(310, PlanEvent::Timer, &[Action::Fork(0, 0)]);
    story.check(320, PlanEvent::WorkerReady(0, 0), &[]);
    story.check(2000, died, &[Action::Fork(0, 0)]);
}

#[test]
fn a_ready_event_after_the_exit_of_its_worker_is_ignored() {
    let mut story = Story::serving(1);
    let restart = [Action::StartTemplate(0, Preload::Auto)];
    story.check(10, PlanEvent::TemplateExited(0), &restart);
    story.check(11, PlanEvent::WorkerExited(0, 0), &[]);
    story.check(12, PlanEvent::WorkerReady(0, 0), &[]);
    story.check(13, PlanEvent::TemplateLoaded(0), &[Action::Fork(0, 0)]);
    story.check(14, PlanEvent::Leave, &[Action::CloseQueues]);
    let over = [Action::Forget(0), Action::Gone];
    story.check(15, PlanEvent::ForkFailed(0, 0), &over);
}

#[test]
fn a_server_whose_workers_never_get_ready_gives_up() {
    let mut story = Story::new(1);
    let died = PlanEvent::WorkerExited(0, 0);
    story.check(0, PlanEvent::Start, &START);
    story.check(0, PlanEvent::TemplateLoaded(0), &[Action::Fork(0, 0)]);
    story.check(1, died.clone(), &[Action::Fork(0, 0)]);
    story.check(2, died.clone(), &[Action::Fork(0, 0)]);
    story.check(3, died.clone(), &[Action::GiveUp(Ending::NeverReady)]);
    story.check(4, died, &[]);
}

#[test]
fn an_import_error_ends_a_server_that_never_served() {
    let mut story = Story::new(1);
    story.check(0, PlanEvent::Start, &START);
    story.check(
        1,
        PlanEvent::ImportFailed(0),
        &[Action::GiveUp(Ending::ImportFailed)],
    );
}

#[test]
fn a_template_that_dies_is_replaced_while_its_workers_keep_serving() {
    let mut story = Story::serving(2);
    story.check(
        5,
        PlanEvent::TemplateExited(0),
        &[Action::StartTemplate(0, Preload::Auto)],
    );
    story.check(6, PlanEvent::WorkerExited(0, 0), &[]);
    story.check(7, PlanEvent::TemplateLoaded(0), &[Action::Fork(0, 0)]);
}

#[test]
fn forks_asked_of_a_dead_template_are_asked_of_the_next() {
    let mut story = Story::serving(1);
    story.check(2000, PlanEvent::WorkerExited(0, 0), &[Action::Fork(0, 0)]);
    story.check(
        2001,
        PlanEvent::TemplateExited(0),
        &[Action::StartTemplate(0, Preload::Auto)],
    );
    story.check(2002, PlanEvent::TemplateLoaded(0), &[Action::Fork(0, 0)]);
}

#[test]
fn the_application_is_gone_after_its_workers() {
    let mut story = Story::serving(2);
    story.check(0, PlanEvent::Leave, &[Action::CloseQueues]);
    story.check(1, PlanEvent::Leave, &[]);
    story.check(510, PlanEvent::WorkerExited(0, 0), &[]);
    story.check(
        511,
        PlanEvent::WorkerExited(0, 1),
        &[Action::Forget(0), Action::Gone],
    );
}

#[test]
fn a_reload_takes_over_on_request_with_all_of_its_workers_ready() {
    let mut story = Story::serving(2);
    story.check(
        0,
        PlanEvent::Reload(recipe(2)),
        &[Action::StartTemplate(1, Preload::Auto)],
    );
    story.check(
        1,
        PlanEvent::TemplateLoaded(1),
        &[Action::Fork(1, 0), Action::Fork(1, 1)],
    );
    story.check(2, PlanEvent::WorkerReady(1, 1), &[]);
    assert_eq!(story.plan.current(), Some(0));
    story.check(3, PlanEvent::WorkerReady(1, 0), &[Action::Prepared]);
    // Other applications are not ready yet: it stays prepared, even if a worker exits.
    story.check(3, PlanEvent::WorkerExited(1, 1), &[Action::Fork(1, 1)]);
    story.check(3, PlanEvent::WorkerReady(1, 1), &[]);
    assert_eq!(story.plan.current(), Some(0));
    let taken_over = [Action::Switch(1), Action::Reloaded];
    story.check(3, PlanEvent::TakeOver, &taken_over);
    story.check(3, PlanEvent::TakeOver, &[]);
    assert_eq!(story.plan.current(), Some(1));
    story.check(4, PlanEvent::WorkerExited(0, 0), &[]);
    story.check(5, PlanEvent::WorkerExited(0, 1), &[Action::Forget(0)]);
}

#[test]
fn a_reload_that_cannot_be_imported_changes_nothing() {
    for failure in [
        PlanEvent::ImportFailed(1),
        PlanEvent::InterpreterUnusable(1),
        PlanEvent::TemplateExited(1),
    ] {
        let mut story = Story::serving(1);
        story.plan.decide(PlanEvent::Reload(recipe(1)), story.start);
        story.check(
            1,
            failure,
            &[Action::Discard(1), Action::ReloadFailed, Action::Forget(1)],
        );
        assert_eq!(story.plan.current(), Some(0));
        story.check(2000, PlanEvent::WorkerExited(0, 0), &[Action::Fork(0, 0)]);
    }
}

#[test]
fn a_reload_whose_workers_keep_dying_fails() {
    let mut story = Story::serving(2);
    story.plan.decide(PlanEvent::Reload(recipe(2)), story.start);
    story.plan.decide(PlanEvent::TemplateLoaded(1), story.start);
    // One becomes ready, the other never does.
    story.check(1, PlanEvent::WorkerReady(1, 0), &[]);
    story.check(2, PlanEvent::WorkerExited(1, 1), &[Action::Fork(1, 1)]);
    story.check(3, PlanEvent::WorkerExited(1, 1), &[Action::Fork(1, 1)]);
    story.check(
        4,
        PlanEvent::WorkerExited(1, 1),
        &[Action::Discard(1), Action::ReloadFailed],
    );
    story.check(5, PlanEvent::WorkerExited(1, 0), &[Action::Forget(1)]);
}

#[test]
fn failed_forks_fail_a_reload_and_not_a_server() {
    let mut story = Story::serving(1);
    story.plan.decide(PlanEvent::Reload(recipe(1)), story.start);
    story.plan.decide(PlanEvent::TemplateLoaded(1), story.start);
    let failed = |generation| PlanEvent::ForkFailed(generation, 0);
    for (ms, pause) in [(0, 100), (100, 200)] {
        let again = story.at(ms + pause);
        story.check(ms, failed(1), &[Action::WakeAt(again)]);
        story.check(ms + pause, PlanEvent::Timer, &[Action::Fork(1, 0)]);
    }
    story.check(
        300,
        failed(1),
        &[Action::Discard(1), Action::ReloadFailed, Action::Forget(1)],
    );
    story.check(2000, PlanEvent::WorkerExited(0, 0), &[Action::Fork(0, 0)]);
    let mut ms = 2000;
    for pause in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
        let again = story.at(ms + pause);
        story.check(ms, failed(0), &[Action::WakeAt(again)]);
        ms += pause;
        story.check(ms, PlanEvent::Timer, &[Action::Fork(0, 0)]);
    }
    // A fork ends the row of failures.
    story.check(ms, PlanEvent::Forked(0, 0), &[]);
    story.check(ms, PlanEvent::WorkerExited(0, 0), &[Action::Fork(0, 0)]);
    let again = story.at(ms + 100);
    story.check(ms, failed(0), &[Action::WakeAt(again)]);
}

#[test]
fn a_server_that_never_gets_a_process_for_a_worker_gives_up() {
    let mut story = Story::new(2);
    story.check(0, PlanEvent::Start, &START);
    let both = [Action::Fork(0, 0), Action::Fork(0, 1)];
    story.check(0, PlanEvent::TemplateLoaded(0), &both);
    for (ms, pause) in [(0, 100), (100, 200)] {
        let again = story.at(ms + pause);
        story.check(ms, PlanEvent::ForkFailed(0, 0), &[Action::WakeAt(again)]);
        story.check(ms, PlanEvent::ForkFailed(0, 1), &[Action::WakeAt(again)]);
        story.check(ms + pause, PlanEvent::Timer, &both);
    }
    let over = [Action::GiveUp(Ending::NeverReady)];
    story.check(300, PlanEvent::ForkFailed(0, 1), &over);
}

#[test]
fn a_reload_can_be_discarded() {
    let mut story = Story::serving(1);
    story.plan.decide(PlanEvent::Reload(recipe(3)), story.start);
    story.check(1, PlanEvent::Reload(recipe(1)), &[]);
    story.check(
        2,
        PlanEvent::DiscardNew,
        &[Action::Discard(1), Action::ReloadFailed, Action::Forget(1)],
    );
    assert_eq!(story.plan.size(), 1);
}

#[test]
fn a_stop_during_a_reload_ends_both_generations() {
    let mut story = Story::serving(1);
    story.plan.decide(PlanEvent::Reload(recipe(1)), story.start);
    story.check(
        1,
        PlanEvent::Leave,
        &[
            Action::Discard(1),
            Action::ReloadFailed,
            Action::CloseQueues,
            Action::Forget(1),
        ],
    );
    story.check(
        2,
        PlanEvent::WorkerExited(0, 0),
        &[Action::Forget(0), Action::Gone],
    );
}

#[test]
fn generations_that_do_not_leave_are_killed_in_the_end() {
    let mut story = with_four_leaving();
    let until = story.start + LEAVING_ALONE;
    let waits = [Action::Wait, Action::WakeAt(until)];
    story.check(2, PlanEvent::Reload(recipe(1)), &waits);
    story.check(3, PlanEvent::Timer, &waits[1..]);
    let ms = LEAVING_ALONE.as_millis() as u64;
    let begins = [Action::StartTemplate(5, Preload::Auto)];
    story.check(ms, PlanEvent::Timer, &begins);
    story.bring_up(ms, 5, 1);
    let now = story.at(ms + 1);
    let actions = story.plan.decide(PlanEvent::TakeOver, now);
    assert!(actions.contains(&Action::Discard(0)), "{actions:?}");
}

fn with_four_leaving() -> Story {
    let mut story = Story::serving(1);
    for number in 1..=4 {
        story.plan.decide(PlanEvent::Reload(recipe(1)), story.start);
        story.bring_up(1, number, 1);
        let actions = story.plan.decide(PlanEvent::TakeOver, story.start);
        assert!(!actions.contains(&Action::Discard(0)), "{actions:?}");
    }
    story
}

#[test]
fn a_waiting_reload_starts_when_a_generation_has_left_and_can_be_discarded() {
    let mut story = with_four_leaving();
    story.plan.decide(PlanEvent::Reload(recipe(1)), story.start);
    assert!(story.plan.is_reloading());
    let begins = [Action::StartTemplate(5, Preload::Auto), Action::Forget(2)];
    story.check(2, PlanEvent::WorkerExited(2, 0), &begins);

    let mut story = with_four_leaving();
    story.plan.decide(PlanEvent::Reload(recipe(1)), story.start);
    let off = [Action::Discard(5), Action::ReloadFailed, Action::Forget(5)];
    story.check(2, PlanEvent::DiscardNew, &off);
    story.check(3, PlanEvent::WorkerExited(2, 0), &[Action::Forget(2)]);
}

#[test]
fn a_worn_worker_leaves_when_its_successor_is_ready_and_only_one_at_a_time() {
    let mut story = Story::serving(2);
    story.check(0, PlanEvent::WornOut(0, 0), &[Action::Fork(0, 2)]);
    story.check(1, PlanEvent::WornOut(0, 1), &[]);
    let until = story.at(2) + RETIRING_ALONE;
    story.check(
        2,
        PlanEvent::WorkerReady(0, 2),
        &[Action::Retire(0, 0), Action::WakeAt(until)],
    );
    story.check(3, PlanEvent::Timer, &[Action::WakeAt(until)]);
    story.check(4, PlanEvent::WorkerExited(0, 0), &[Action::Fork(0, 0)]);
    story.check(5, PlanEvent::WorkerReady(0, 0), &[Action::Retire(0, 1)]);
    story.check(6, PlanEvent::WorkerExited(0, 1), &[]);
}

#[test]
fn a_stuck_worker_has_a_successor_before_it_is_killed() {
    let mut story = Story::serving(1);
    story.check(2000, PlanEvent::Stuck(0, 0), &[Action::Fork(0, 1)]);
    story.check(2001, PlanEvent::WorkerReady(0, 1), &[]);
    story.check(2002, PlanEvent::WorkerExited(0, 0), &[]);
    story.check(2003, PlanEvent::Stuck(0, 0), &[]);
}

#[test]
fn a_worn_worker_that_dies_is_replaced_like_any_other() {
    let mut story = Story::serving(1);
    story.check(0, PlanEvent::WornOut(0, 0), &[Action::Fork(0, 1)]);
    story.check(2000, PlanEvent::WorkerExited(0, 0), &[]);
    story.check(2001, PlanEvent::WorkerReady(0, 1), &[]);
}

#[test]
fn a_change_of_size_forks_or_retires() {
    let mut story = Story::serving(2);
    story.check(
        0,
        PlanEvent::Scale(4),
        &[Action::Fork(0, 2), Action::Fork(0, 3)],
    );
    story.check(1, PlanEvent::WorkerReady(0, 2), &[]);
    story.check(1, PlanEvent::WorkerReady(0, 3), &[]);
    story.check(
        2,
        PlanEvent::Scale(1),
        &[
            Action::Retire(0, 3),
            Action::Retire(0, 2),
            Action::Retire(0, 1),
        ],
    );
    assert_eq!(story.plan.size(), 1);
}

/// A range of workers, with slots for as many successors.
fn ranging(workers: u32, range: (u32, u32)) -> GenerationSpec {
    GenerationSpec {
        workers,
        range,
        slots: 2 * range.1.max(16),
        preload: Preload::Auto,
        without_copies: u32::MAX,
    }
}

/// Workers of the generations are forked and become ready until none is asked for any more. The templates
/// named are loaded.
fn settle(story: &mut Story, mut actions: Vec<Action>) -> Vec<Action> {
    let mut all = Vec::new();
    while !actions.is_empty() {
        let ready = actions.iter().filter_map(|action| match action {
            Action::Fork(number, worker) => Some(PlanEvent::WorkerReady(*number, *worker)),
            Action::Retire(number, worker) => Some(PlanEvent::WorkerExited(*number, *worker)),
            _ => None,
        });
        let events: Vec<_> = ready.collect();
        all.append(&mut actions);
        for event in events {
            actions.extend(story.plan.decide(event, story.at(5000)));
        }
    }
    all
}

#[test]
fn numbers_set_at_any_moment_of_a_reload_with_another_range_hold_for_both_generations() {
    let ranges = [(1, 2), (1, 6), (3, 3), (4, 40)];
    let changes = [
        PlanEvent::Scale(1),
        PlanEvent::Scale(5),
        PlanEvent::Scale(300),
        PlanEvent::FollowDemand(0),
        PlanEvent::FollowDemand(6),
        PlanEvent::FollowDemand(300),
    ];
    let pairs = ranges.map(|before| ranges.map(|after| (before, after)));
    for (before, after) in pairs.into_iter().flatten() {
        for (change, moment) in changes.iter().flat_map(|c| (0..6).map(move |m| (c, m))) {
            let mut story = Story {
                plan: Plan::new(ranging(before.0, before)),
                start: Instant::now(),
            };
            let steps = [
                PlanEvent::Start,
                PlanEvent::TemplateLoaded(0),
                PlanEvent::Reload(ranging(after.0, after)),
                PlanEvent::TemplateLoaded(1),
                PlanEvent::TakeOver,
                PlanEvent::Timer,
            ];
            for (at, step) in steps.into_iter().enumerate() {
                let actions = story.plan.decide(step, story.at(1));
                settle(&mut story, actions);
                if at == moment {
                    let actions = story.plan.decide(change.clone(), story.at(1));
                    settle(&mut story, actions);
                }
            }
            let what = format!("{before:?} -> {after:?}, {change:?} behind step {moment}");
            assert_eq!(story.plan.current(), Some(1), "{what}");
            let most = 16.max(after.1);
            let expected = match change {
                // The settings of the reload count.
                _ if moment < 2 => after.0,
                PlanEvent::Scale(wanted) => (*wanted).min(most),
                PlanEvent::FollowDemand(wanted) => (*wanted).clamp(after.0, after.1),
                _ => unreachable!(),
            };
            assert_eq!(story.plan.size(), expected, "{what}");
            let current = story.plan.in_role(Role::Current).unwrap();
            assert_eq!(current.count(is_ready), expected, "{what}");
        }
    }
}

/// One worker of two is warm, and is asked to become the template.
fn asked() -> Story {
    let mut story = Story::serving(2);
    assert!(story.plan.may_refork());
    story.check(0, PlanEvent::Warm(0, 1), &[Action::Fork(0, 2)]);
    assert!(!story.plan.may_refork());
    story.check(1, PlanEvent::Warm(0, 0), &[]);
    let until = story.at(2) + RETIRING_ALONE;
    story.check(2, PlanEvent::WorkerReady(0, 2), &[Action::Promote(0, 1)]);
    story.check(3, PlanEvent::Timer, &[]);
    story.check(4, PlanEvent::WornOut(0, 0), &[Action::WakeAt(until)]);
    story
}

#[test]
fn a_warm_worker_becomes_the_template_and_all_others_are_replaced_one_at_a_time() {
    let mut story = asked();
    story.check(
        5,
        PlanEvent::Promoted(0, 1),
        &[Action::Adopt(0), Action::Fork(0, 1)],
    );
    let until = story.at(6) + RETIRING_ALONE;
    story.check(
        6,
        PlanEvent::WorkerReady(0, 1),
        &[Action::Retire(0, 0), Action::WakeAt(until)],
    );
    story.check(7, PlanEvent::WorkerExited(0, 0), &[Action::Fork(0, 0)]);
    story.check(8, PlanEvent::WorkerReady(0, 0), &[Action::Retire(0, 2)]);
    story.check(9, PlanEvent::WorkerExited(0, 2), &[]);
    assert!(!story.plan.may_refork(), "once");
}

#[test]
fn a_worker_that_is_unwilling_is_replaced_and_no_other_is_asked() {
    let mut story = asked();
    story.check(
        5,
        PlanEvent::Refused(0, 1),
        &[Action::WakeAt(story.at(2) + RETIRING_ALONE)],
    );
    story.check(6, PlanEvent::WorkerExited(0, 1), &[Action::Fork(0, 1)]);
    story.check(7, PlanEvent::WorkerReady(0, 1), &[Action::Retire(0, 0)]);
    story.check(8, PlanEvent::WorkerExited(0, 0), &[]);
    assert!(!story.plan.may_refork());
    story.check(9, PlanEvent::Warm(0, 1), &[]);
    story.check(9, PlanEvent::Promoted(0, 1), &[]);
}

#[test]
fn a_warm_worker_that_dies_before_it_is_asked_leaves_the_promotion_open() {
    let mut story = Story::serving(2);
    story.check(0, PlanEvent::Warm(0, 1), &[Action::Fork(0, 2)]);
    story.check(2000, PlanEvent::WorkerExited(0, 1), &[]);
    assert!(story.plan.may_refork());
    story.check(2001, PlanEvent::WorkerReady(0, 2), &[]);
}

#[test]
fn a_template_is_followed_when_its_forks_are_done_and_they_are_replaced_too() {
    let mut story = Story::serving(2);
    story.check(0, PlanEvent::Warm(0, 1), &[Action::Fork(0, 2)]);
    story.check(2, PlanEvent::WorkerReady(0, 2), &[Action::Promote(0, 1)]);
    story.check(2000, PlanEvent::WorkerExited(0, 0), &[Action::Fork(0, 0)]);
    story.check(2001, PlanEvent::Promoted(0, 1), &[]);
    story.check(2002, PlanEvent::WorkerExited(0, 2), &[]);
    story.check(
        2003,
        PlanEvent::Forked(0, 0),
        &[Action::Adopt(0), Action::Fork(0, 1)],
    );
    // The fork of the previous template; then one of the new template, which stays.
    let until = story.at(2004) + RETIRING_ALONE;
    story.check(2004, PlanEvent::WorkerReady(0, 0), &[Action::Fork(0, 2)]);
    story.check(2004, PlanEvent::WorkerReady(0, 1), &[]);
    story.check(2004, PlanEvent::WorkerReady(0, 2), &[Action::Retire(0, 0)]);
    story.check(2005, PlanEvent::WornOut(0, 1), &[Action::WakeAt(until)]);
}

#[test]
fn a_promoted_template_that_dies_is_followed_by_a_fresh_one() {
    let mut story = Story::serving(1);
    story.check(0, PlanEvent::Warm(0, 0), &[Action::Fork(0, 1)]);
    story.check(1, PlanEvent::WorkerReady(0, 1), &[Action::Promote(0, 0)]);
    // The previous template dies first: the worker has agreed already.
    story.check(
        2,
        PlanEvent::TemplateExited(0),
        &[Action::StartTemplate(0, Preload::Auto)],
    );
    story.check(
        3,
        PlanEvent::Promoted(0, 0),
        &[Action::Adopt(0), Action::Fork(0, 0)],
    );
    story.check(4, PlanEvent::WorkerReady(0, 0), &[Action::Retire(0, 1)]);
    story.check(5, PlanEvent::WorkerExited(0, 1), &[]);
    story.check(
        2000,
        PlanEvent::TemplateExited(0),
        &[Action::StartTemplate(0, Preload::Auto)],
    );
    assert!(story.plan.may_refork(), "of that one");
}

#[test]
fn a_worker_that_was_asked_exits_when_its_generation_leaves() {
    let mut story = asked();
    story.check(
        5,
        PlanEvent::Leave,
        &[Action::CloseQueues, Action::DismissCandidate(0)],
    );
    story.check(6, PlanEvent::Promoted(0, 1), &[]);
    for worker in 0..2 {
        story.check(7, PlanEvent::WorkerExited(0, worker), &[]);
    }
    story.check(
        7,
        PlanEvent::WorkerExited(0, 2),
        &[Action::Forget(0), Action::Gone],
    );

    let mut story = asked();
    story.plan.decide(PlanEvent::Reload(recipe(1)), story.start);
    assert_eq!(story.bring_up(6, 1, 1).last(), Some(&Action::Prepared));
    let taken_over = [
        Action::Switch(1),
        Action::Reloaded,
        Action::DismissCandidate(0),
    ];
    story.check(6, PlanEvent::TakeOver, &taken_over);
    assert!(story.plan.may_refork(), "a reload starts afresh");
}

#[test]
fn workers_that_import_for_themselves_have_no_template_to_become() {
    let mut story = Story::new(1);
    story.check(0, PlanEvent::Start, &START);
    story.plan.decide(PlanEvent::TemplateUnsafe(0), story.start);
    story.bring_up(1, 0, 1);
    assert!(!story.plan.may_refork());
    story.check(2, PlanEvent::Warm(0, 0), &[]);
}
