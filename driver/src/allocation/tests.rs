//! One rule, one test, and the ramp as a table.
#![allow(clippy::unwrap_used)]

use super::{Action, Allocation, Event};
use expect_test::expect;
use offshoot_proto::cluster::ResourceRequest;
use offshoot_proto::id::{AppId, ExecutorId, ExecutorNumber};
use offshoot_proto::settings::Settings;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

mod history;

/// A machine, its clock, and executors that have what must not be lost.
struct Env {
    allocation: Allocation,
    now: Duration,
    keeping: BTreeSet<ExecutorId>,
}

fn executor(number: u32) -> ExecutorId {
    ExecutorId { app: AppId(1), number: ExecutorNumber(number) }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn request(executor_cores: Option<u32>, total_cores: Option<u32>) -> ResourceRequest {
    ResourceRequest {
        executor_cores,
        executor_memory_bytes: 1 << 30,
        total_cores,
        executors_max: None,
        executors_wanted: None,
    }
}

fn added(number: u32, cores: u32) -> Event {
    Event::Added { executor: executor(number), cores }
}

fn target(executors: u32) -> Action {
    Action::Target(executors)
}

// === impl Env ===

impl Env {
    /// With these settings, and executors of one core.
    fn new(pairs: &[&str]) -> Self {
        Self::with(pairs, request(Some(1), None))
    }

    fn with(pairs: &[&str], request: ResourceRequest) -> Self {
        let mut settings = Settings::default();
        for pair in pairs {
            let long = format!("dynamic-allocation.{pair}");
            let pair = if pair.starts_with("task") { *pair } else { long.as_str() };
            settings.set(pair).unwrap();
        }
        let allocation = Allocation::new(&settings, &request, AppId(1));
        Self { allocation, now: Duration::ZERO, keeping: BTreeSet::new() }
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        let keeps = |id| self.keeping.contains(&id);
        self.allocation.handle(self.now, event, &keeps, &mut out);
        out
    }

    /// What is decided until then, and when.
    fn until(&mut self, end: Duration) -> Vec<(u128, Action)> {
        let mut decided = Vec::new();
        while let Some(due) = self.allocation.next_timeout().filter(|due| *due <= end) {
            assert!(due > self.now, "nothing was done about {due:?}");
            self.now = due;
            let mut out = Vec::new();
            let keeps = |id| self.keeping.contains(&id);
            self.allocation.handle_timeout(self.now, &keeps, &mut out);
            decided.extend(out.into_iter().map(|action| (due.as_millis(), action)));
        }
        self.now = end;
        decided
    }

    fn add(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            assert_eq!(self.handle(added(number, 1)), []);
            self.handle(Event::Busy(executor(number)));
        }
    }
}

#[test]
fn a_thousand_tasks_on_eight_cores_from_nothing_to_nothing() {
    let mut env = Env::new(&["max-executors=8", "executor-idle-timeout=1s"]);
    let mut table = String::from("ms      wanted  running   tasks\n");
    let (mut running, mut next, mut work, mut shown) = (0, 0, 1000, None);
    let mut starting = std::collections::VecDeque::new();
    // An executor takes 30 ms to start and 20 ms for a task.
    for tick in 0..500 {
        env.now = millis(10 * tick);
        let mut decided = Vec::new();
        while starting.front() == Some(&tick) {
            starting.pop_front();
            decided.extend(env.handle(added(next, 1)));
            decided.extend(env.handle(Event::Busy(executor(next))));
            (next, running) = (next + 1, running + 1);
        }
        if tick % 2 == 0 && work > 0 {
            work -= u64::from(running).min(work);
            decided.extend(env.handle(Event::Work(work)));
            if work == 0 {
                (0..running).for_each(|n| decided.extend(env.handle(Event::Idle(executor(n)))));
            }
        }
        if env.allocation.next_timeout().is_some_and(|due| due <= env.now) {
            env.allocation.handle_timeout(env.now, &|_| false, &mut decided);
        }
        for action in decided {
            match action {
                Action::Target(target) => {
                    let more = target.saturating_sub(running + starting.len() as u32);
                    starting.extend((0..more).map(|_| tick + 3));
                }
                Action::Retire(executor) => {
                    assert_eq!(env.handle(Event::Gone(executor)), []);
                    running -= 1;
                }
                Action::Unretire(executor) => panic!("{executor}"),
            }
        }
        let now = (env.allocation.target().unwrap(), running);
        if shown.replace(now) != Some(now) {
            writeln!(table, "{:<6}{:>8}{running:>9}{work:>8}", 10 * tick, now.0).unwrap();
        }
    }
    expect![[r#"
        ms      wanted  running   tasks
        0            1        0    1000
        30           1        1    1000
        50           3        1     999
        80           3        3     995
        100          7        3     992
        130          7        7     989
        150          8        7     982
        180          8        8     967
        2630         0        8       0
        3600         0        0       0
    "#]]
    .assert_eq(&table);
    assert_eq!(env.allocation.next_timeout(), None, "it sleeps");
}

#[test]
fn batches_double_while_tasks_wait_and_start_at_one_again() {
    let pairs = ["backlog-timeout=100ms", "sustained-backlog-timeout=1s"];
    let mut env = Env::new(&pairs);
    assert_eq!(env.handle(Event::Work(20)), [target(1)], "at once");
    let steps = [(100, target(3)), (1100, target(7)), (2100, target(15)), (3100, target(20))];
    assert_eq!(env.until(millis(9000)), steps, "as many as there are tasks and no more");
    assert_eq!(env.allocation.next_timeout(), None);
    env.add(0..20);
    assert_eq!(env.handle(Event::Work(21)), [target(21)]);
    assert_eq!(env.handle(Event::Work(40)), [], "the next batch has its time");
    assert_eq!(env.until(env.now + millis(100)), [(9100, target(23))]);
    assert_eq!(env.handle(Event::Work(20)), [], "no backlog");
    assert_eq!(env.until(env.now + millis(100)), [(9200, target(20))], "it falls");
    assert_eq!(env.handle(Event::Work(40)), [target(21)], "the batch is one again");
}

#[test]
fn nothing_is_wanted_twice() {
    let mut env = Env::new(&["initial-executors=2"]);
    assert_eq!(env.handle(Event::Work(10)), [], "two are on their way");
    assert_eq!(env.until(millis(60)), [(50, target(3))]);
    // The executors die; what is wanted stays.
    env.add(0..3);
    assert_eq!(env.handle(Event::Gone(executor(0))), []);
    assert_eq!(env.handle(Event::Gone(executor(1))), []);
    assert_eq!(env.allocation.target(), Some(3));
}

#[test]
fn jobs_that_follow_each_other_do_not_make_the_target_flutter() {
    let mut env = Env::new(&[]);
    assert_eq!(env.handle(Event::Work(1)), [target(1)]);
    env.add(0..1);
    for _ in 0..10 {
        assert_eq!(env.handle(Event::Work(0)), []);
        assert_eq!(env.until(env.now + millis(40)), []);
        assert_eq!(env.handle(Event::Work(1)), []);
        assert_eq!(env.until(env.now + millis(5)), []);
    }
    assert_eq!(env.handle(Event::Work(0)), []);
    assert_eq!(env.until(millis(2000)), [(500, target(0))]);
    assert_eq!(env.handle(Event::Work(1)), [target(1)], "what is in use is wanted");
}

#[test]
fn a_whole_worker_may_be_larger_than_thought() {
    let mut env = Env::with(&[], request(None, None));
    assert_eq!(env.handle(Event::Work(12)), [target(1)]);
    assert_eq!(env.until(millis(110)), [(50, target(3)), (100, target(7))], "a task each");
    assert_eq!(env.handle(added(0, 8)), []);
    assert_eq!(env.until(millis(200)), [(160, target(2))], "8 tasks each");
    assert_eq!(env.handle(added(1, 2)), [], "a small one");
    assert_eq!(env.until(millis(300)), [(210, target(3))], "10 slots are not enough");
    assert_eq!(env.handle(added(2, 2)), []);
    assert_eq!(env.until(millis(400)), [(350, target(2))], "two of 8 would do");
}

#[test]
fn limits_are_those_of_settings_cores_and_shares() {
    let at_most = |pairs: &[&str], request| {
        let mut env = Env::with(pairs, request);
        env.handle(Event::Work(100));
        env.until(millis(5000));
        env.allocation.target().unwrap()
    };
    assert_eq!(at_most(&[], request(Some(4), None)), 25);
    assert_eq!(at_most(&["task-cores=2"], request(Some(4), None)), 50);
    assert_eq!(at_most(&["max-executors=7"], request(Some(4), None)), 7);
    assert_eq!(at_most(&[], request(Some(4), Some(13))), 3);
    assert_eq!(at_most(&["executor-allocation-ratio=0.5"], request(Some(4), None)), 13);
}

#[test]
fn what_is_wanted_from_the_start_is_kept_until_there_was_work_or_time() {
    let pairs = ["initial-executors=4", "min-executors=1", "executor-idle-timeout=3s"];
    let mut env = Env::new(&pairs);
    assert_eq!(env.allocation.target(), Some(4));
    assert_eq!(env.until(millis(3000)), []);
    assert_eq!(env.until(millis(9000)), [(3050, target(1))]);
    let mut env = Env::new(&pairs);
    (0..4).for_each(|n| assert_eq!(env.handle(added(n, 1)), []));
    assert_eq!(env.handle(Event::Work(2)), []);
    assert_eq!(env.until(millis(1000)), [(50, target(2))]);
}

#[test]
fn who_has_nothing_to_do_for_long_enough_goes_the_longest_idle_first() {
    let mut env = Env::new(&["min-executors=1", "executor-idle-timeout=10s"]);
    env.handle(Event::Work(3));
    env.until(millis(1000));
    env.add(0..3);
    env.handle(Event::Work(0));
    for (number, at) in [(1, 2000), (0, 3000), (2, 4000)] {
        env.until(millis(at));
        env.handle(Event::Idle(executor(number)));
    }
    env.until(millis(11_000));
    env.handle(Event::Busy(executor(1)));
    env.handle(Event::Idle(executor(1)));
    let decided = env.until(millis(60_000));
    let retired = |at, number| (at, Action::Retire(executor(number)));
    assert_eq!(decided, [retired(13_000, 0), retired(14_000, 2)], "the last one is the minimum");
    assert_eq!(env.allocation.next_timeout(), None);
}

#[test]
fn who_is_wanted_stays_however_idle() {
    let mut env = Env::new(&["executor-idle-timeout=1s"]);
    env.handle(Event::Work(2));
    env.until(millis(100));
    env.add(0..2);
    // One has both tasks, and the other has failed at them.
    env.handle(Event::Idle(executor(1)));
    assert_eq!(env.until(millis(60_000)), []);
    env.handle(Event::Work(1));
    let decided = env.until(millis(61_000));
    assert_eq!(decided, [(60_050, target(1)), (60_050, Action::Retire(executor(1)))]);
}

#[test]
fn what_only_an_idle_executor_has_keeps_it_for_longer() {
    let pairs = ["executor-idle-timeout=1s", "cached-executor-idle-timeout=1min"];
    for (pairs, ends) in [(&pairs[..], Some(60_100)), (&pairs[..1], None)] {
        let mut env = Env::new(pairs);
        env.handle(Event::Work(1));
        env.until(millis(100));
        env.add(0..1);
        env.handle(Event::Work(0));
        env.handle(Event::Idle(executor(0)));
        env.keeping.insert(executor(0));
        let decided = env.until(millis(100_000));
        let retired = ends.map(|at| (at, Action::Retire(executor(0))));
        let expected: Vec<_> = [(150, target(0))].into_iter().chain(retired).collect();
        assert_eq!(decided, expected);
        if ends.is_none() {
            env.keeping.clear();
            let retired = Action::Retire(executor(0));
            assert_eq!(env.until(millis(102_000)), [(100_100, retired)], "at the next look");
        }
    }
}

#[test]
fn what_the_master_wants_back_goes_and_nothing_more_is_wanted_by_that() {
    let mut env = Env::new(&["max-executors=4"]);
    env.handle(Event::Work(100));
    env.until(millis(1000));
    env.add(0..4);
    let give = |numbers: &[u32]| Event::GiveBack(numbers.iter().map(|n| executor(*n)).collect());
    let [retire, stay] = [Action::Retire, Action::Unretire];
    assert_eq!(env.handle(give(&[1, 2])), [retire(executor(1)), retire(executor(2))]);
    assert_eq!(env.handle(give(&[1, 2])), [], "it knows");
    assert_eq!(env.until(millis(2000)), []);
    assert_eq!(env.handle(give(&[2, 3, 77])), [stay(executor(1)), retire(executor(3))]);
    assert_eq!(env.handle(Event::Gone(executor(2))), []);
    assert_eq!(env.until(millis(3000)), []);
    assert_eq!(env.allocation.target(), Some(4));
    assert_eq!(env.handle(give(&[])), [stay(executor(3))]);
}

#[test]
fn an_idle_one_of_the_same_size_goes_instead() {
    let mut env = Env::with(&["min-executors=4"], request(None, None));
    for (number, cores) in [(0, 2), (1, 4), (2, 2), (3, 2)] {
        env.handle(added(number, cores));
    }
    env.handle(Event::Busy(executor(0)));
    let give = |number| Event::GiveBack(vec![executor(number)]);
    env.keeping.insert(executor(2));
    assert_eq!(env.handle(give(0)), [Action::Retire(executor(3))], "that has nothing to lose");
    assert_eq!(env.handle(give(0)), [Action::Retire(executor(0))], "the master insists");
    assert_eq!(env.handle(give(1)), [Action::Unretire(executor(0)), Action::Retire(executor(1))]);
}

#[test]
fn nobody_looks_for_another_one_when_an_idle_one_is_to_go() {
    let mut env = Env::new(&["min-executors=3"]);
    (0..3).for_each(|number| assert_eq!(env.handle(added(number, 1)), []));
    let back = Event::GiveBack(vec![executor(1)]);
    let mut out = Vec::new();
    let keeps = |id| panic!("what {id} keeps is not asked");
    env.allocation.handle(env.now, back, &keeps, &mut out);
    assert_eq!(out, [Action::Retire(executor(1))]);
}

#[test]
fn without_dynamic_allocation_only_what_the_master_wants_back_goes() {
    let mut env = Env::new(&["enabled=false"]);
    assert_eq!(Allocation::initial(&Settings::default()), Some(0));
    assert_eq!((env.allocation.target(), env.allocation.told), (None, None));
    env.add(0..2);
    assert_eq!(env.handle(Event::Work(100)), []);
    assert_eq!(env.handle(Event::Idle(executor(0))), []);
    assert_eq!(env.allocation.next_timeout(), None);
    let back = Event::GiveBack(vec![executor(1)]);
    assert_eq!(env.handle(back), [Action::Retire(executor(0))]);
}

#[test]
fn a_master_that_is_back_is_told_again() {
    let mut env = Env::new(&[]);
    env.handle(Event::Work(3));
    env.until(millis(1000));
    env.add(0..3);
    assert_eq!(env.handle(Event::Master(AppId(1))), [target(3)]);
    assert_eq!(env.handle(Event::Master(AppId(2))), [target(0)], "it does not know those three");
    assert_eq!(env.handle(Event::Gone(executor(1))), [target(1)]);
}

#[test]
fn executors_on_a_worker_that_leaves_are_no_place_for_tasks() {
    let mut env = Env::new(&["max-executors=4"]);
    env.handle(Event::Work(2));
    env.until(millis(200));
    env.add(0..2);
    let draining = |number| Event::Draining(vec![executor(number)]);
    assert_eq!(env.handle(draining(0)), [Action::Retire(executor(0)), target(3)], "one instead");
    assert_eq!(env.handle(Event::GiveBack(vec![executor(0)])), [], "it goes already");
    assert_eq!(env.handle(Event::GiveBack(vec![])), [], "it goes all the same");
    assert_eq!(env.handle(draining(0)), [], "said again");
    assert_eq!(env.handle(Event::Gone(executor(0))), [target(2)]);
}

#[test]
fn somebody_is_wanted_for_what_is_to_be_copied() {
    let mut env = Env::new(&[]);
    env.handle(Event::Work(1));
    env.add(0..1);
    env.handle(Event::Work(0));
    env.handle(Event::Idle(executor(0)));
    env.handle(Event::Draining(vec![executor(0)]));
    let decided = env.until(Duration::from_secs(100));
    assert_eq!(decided.last().map(|(_, action)| action.clone()), Some(target(1)), "itself");
    assert_eq!(env.handle(Event::Moving(true)), [target(2)]);
    env.handle(added(1, 1));
    let decided = env.until(Duration::from_secs(200));
    assert_eq!(decided, [], "the one that copies has no task, and stays");
    assert_eq!(env.handle(Event::Gone(executor(0))), [target(1)]);
    env.handle(Event::Moving(false));
    let decided = env.until(Duration::from_secs(300));
    let actions: Vec<_> = decided.into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions, [target(0), Action::Retire(executor(1))]);
}
