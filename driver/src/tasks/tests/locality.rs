//! How long tasks wait for a slot near what they read.

use super::*;

const MILLI: u64 = 1_000_000;

impl Env {
    fn submit_near(&mut self, stage: u32, partitions: u32, near: Near) -> Vec<Action> {
        self.handle(Event::StageSubmitted {
            stage: StageRunId(stage),
            job: JobId(stage),
            pool: PoolName::default(),
            partitions: (0..partitions).map(Partition).collect(),
            near,
        })
    }

    /// What is due at a time.
    fn at(&mut self, millis: u64) -> Vec<Action> {
        self.now = Duration::from_millis(millis);
        let mut actions = Vec::new();
        self.tasks.dispatch(self.now, &mut actions);
        self.tasks.check();
        actions
    }

    fn due(&self) -> Option<u128> {
        self.tasks.next_timeout().map(|due| due.as_millis())
    }
}

fn in_memory<const N: usize>(of: [(u32, Vec<u32>); N]) -> Near {
    let executors = of.into_iter().map(|(number, tasks)| (executor(number), tasks)).collect();
    Near { executors, ..Near::default() }
}

fn on_disk(on: u32, tasks: Vec<u32>) -> Near {
    Near { workers: BTreeMap::from([(worker(on), tasks)]), ..Near::default() }
}

fn mostly(on: u32) -> Near {
    Near { mostly: Some(worker(on)), ..Near::default() }
}

#[test]
fn a_slot_idles_for_the_wait_and_then_runs_what_another_is_near_to() {
    let mut env = Env::with_executors(&[1, 1]);
    let sent = env.submit_near(0, 4, in_memory([(0, vec![0, 1, 2, 3])]));
    assert_eq!(sent, [described(0, 0), run(0, 0, [(0, 0), (1, 1)])]);
    assert_eq!(env.due(), Some(100));
    assert_eq!(env.at(99), []);
    assert_eq!(env.due(), Some(100), "it is the slot that waits, since it was refused");
    assert_eq!(env.at(100), [described(1, 0), run(1, 0, [(2, 3), (3, 2)])]);
    assert_eq!(env.due(), None);
}

#[test]
fn after_the_wait_another_executor_of_the_machine_is_first_and_then_anybody() {
    let mut env = Env::with_executors(&[1, 1]);
    assert_eq!(env.add(2, 0, 1), [], "a second executor on the machine of the first");
    env.submit_near(0, 6, in_memory([(0, vec![0, 1, 2, 3, 4, 5])]));
    assert_eq!(env.at(100), [described(2, 0), run(2, 0, [(2, 5), (3, 4)])]);
    assert_eq!(env.due(), Some(200));
    assert_eq!(env.at(200), [described(1, 0), run(1, 0, [(4, 3), (5, 2)])]);
    assert_eq!(env.due(), None);
}

#[test]
fn every_executor_of_a_machine_is_near_to_its_files() {
    let mut env = Env::with_executors(&[1, 1]);
    env.add(2, 0, 1);
    let sent = env.submit_near(0, 2, on_disk(0, vec![0, 1]));
    assert_eq!(sent, [described(0, 0), run(0, 0, [(0, 0)]), described(2, 0), run(2, 0, [(1, 1)])]);
    assert_eq!(env.due(), None, "nothing is left to wait");
}

#[test]
fn what_nobody_is_near_to_does_not_wait() {
    let mut env = Env::with_executors(&[1, 1]);
    let sent = env.submit_near(0, 6, in_memory([(0, vec![0, 1, 2])]));
    assert_eq!(
        sent[1..],
        [run(0, 0, [(0, 0), (1, 1)]), described(1, 0), run(1, 0, [(2, 3), (3, 4)])]
    );
}

#[test]
fn nobody_waits_if_the_wait_is_zero() {
    let scheduling = Scheduling { locality_wait: Duration::ZERO, ..Scheduling::default() };
    let mut env = Env::with(&[1, 1], &scheduling);
    let sent = env.submit_near(0, 4, in_memory([(0, vec![0, 1, 2, 3])]));
    assert_eq!(sent[2..], [described(1, 0), run(1, 0, [(2, 3), (3, 2)])]);
    assert_eq!(env.due(), None);
}

#[test]
fn nobody_waits_for_who_is_gone() {
    let mut env = Env::with_executors(&[1, 1]);
    env.submit_near(0, 4, in_memory([(0, vec![0, 1, 2, 3])]));
    let sent = env.handle(Event::ExecutorLost(executor(0)));
    assert_eq!(sent, [described(1, 0), run(1, 0, [(2, 0), (3, 1)])]);
    assert_eq!(env.due(), None);
    assert_eq!(env.done(1, &[2, 3], SECOND)[2..], [run(1, 0, [(4, 3), (5, 2)])]);
}

#[test]
fn nobody_waits_for_who_is_to_go() {
    let mut env = Env::with_executors(&[1, 1]);
    env.submit_near(0, 4, in_memory([(0, vec![0, 1, 2, 3])]));
    assert_eq!(env.due(), Some(100));
    let sent = env.handle(Event::Retire(executor(0)));
    assert_eq!(sent, [recall(0, [0, 1]), described(1, 0), run(1, 0, [(2, 3), (3, 2)])]);
    assert_eq!(env.due(), None);
}

#[test]
fn nobody_waits_for_who_has_more_to_do_than_the_wait_is_long() {
    let mut env = Env::with_executors(&[1, 1]);
    env.submit_near(0, 8, in_memory([(0, (0..8).collect())]));
    assert_eq!(env.due(), Some(100));
    let sent = env.done(0, &[0], 30 * MILLI);
    assert_eq!(
        sent[1..],
        [run(0, 0, [(2, 2)]), described(1, 0), run(1, 0, [(3, 7), (4, 6)])],
        "150 ms of work are left for one slot"
    );
    assert_eq!(env.done(1, &[3, 4], 30 * MILLI)[2..], [], "90 ms are left");
    assert_eq!(env.due(), Some(100));
}

#[test]
fn a_task_that_starts_where_its_input_is_begins_the_wait_anew() {
    let mut env = Env::with_executors(&[1, 1]);
    env.submit_near(0, 10, in_memory([(0, (0..10).collect())]));
    env.at(100);
    env.done(0, &[0], MILLI);
    assert_eq!(env.done(1, &[2, 3], MILLI)[2..], [], "the level is that of the first again");
    assert_eq!(env.due(), Some(200));
}

#[test]
fn what_is_queued_where_it_is_near_is_robbed_only_after_the_wait() {
    let mut env = Env::with_executors(&[1]);
    env.submit_near(0, 2, in_memory([(0, vec![0, 1])]));
    assert_eq!(env.add(1, 1, 1), []);
    assert_eq!(env.due(), Some(100), "a slot idles, and nothing is left to be sent");
    assert_eq!(env.at(100), [recall(0, [1])]);
    assert_eq!(env.recalled(0, &[1]), [described(1, 0), run(1, 0, [(2, 1)])]);
}

#[test]
fn what_came_back_waits_for_who_is_near_unless_it_failed() {
    let mut env = Env::with_executors(&[1]);
    env.submit_near(0, 2, in_memory([(0, vec![0, 1])]));
    assert_eq!(env.handle(Event::StageSuspended(StageRunId(0))), [recall(0, [0, 1])]);
    assert_eq!(env.recalled(0, &[1]), []);
    assert_eq!(env.add(1, 1, 1), []);
    let resumed = Event::StageResumed { stage: StageRunId(0), run: StageRunId(3) };
    assert_eq!(env.handle(resumed), [dropped(0, 0)]);
    assert_eq!(env.due(), Some(100));
    assert_eq!(env.done(0, &[0], SECOND)[1..], [described(0, 3), run(0, 3, [(2, 1)])]);
    assert_eq!(env.fail(0, 2, panicked("boom")), [described(1, 3), run(1, 3, [(3, 1)])]);
}

#[test]
fn few_tasks_go_to_the_machine_that_has_most_of_what_they_read() {
    let mut env = Env::with_executors(&[4, 2]);
    let sent = env.submit_near(0, 2, mostly(1));
    assert_eq!(sent, [described(1, 0), run(1, 0, [(0, 0)]), run(1, 0, [(1, 1)])]);
    let mut env = Env::with_executors(&[4, 2]);
    let sent = env.submit_near(0, 3, mostly(1));
    assert_eq!(sent[..2], [described(0, 0), run(0, 0, [(0, 0), (1, 1)])], "they do not fit there");
}

#[test]
fn all_of_what_a_machine_is_near_to_goes_there_and_not_only_its_share() {
    let mut env = Env::with_executors(&[4, 4]);
    let sent = env.submit_near(0, 4, in_memory([(1, vec![0, 1, 2, 3])]));
    assert_eq!(given_out(&sent), (4, 2));
    assert!(sent.iter().all(|action| match action {
        Action::Run { executor: to, .. } => *to == executor(1),
        _ => true,
    }));
    assert_eq!(env.due(), None);
}
