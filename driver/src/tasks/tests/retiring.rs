//! Executors that are to go.

use super::*;

fn retire(number: u32) -> Event {
    Event::Retire(executor(number))
}

fn retired(number: u32) -> Action {
    Action::Retired(executor(number))
}

#[test]
fn who_has_nothing_to_do_goes_at_once_and_is_a_stranger_then() {
    let mut env = Env::with_executors(&[1, 1]);
    assert_eq!(env.handle(retire(0)), [retired(0)]);
    assert_eq!(env.handle(retire(0)), [], "it is not here");
    assert_eq!(env.submit(0, 0, 2), [described(1, 0), run(1, 0, [(0, 0), (1, 1)])]);
    assert_eq!(env.handle(Event::ExecutorLost(executor(0))), []);
}

#[test]
fn what_has_not_started_is_asked_back_and_what_runs_ends() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 4);
    assert_eq!(env.handle(retire(0)), [recall(0, [0, 1])], "which of them runs is not known here");
    assert_eq!(env.recalled(0, &[1]), [], "nobody else is here");
    let there = env.add(1, 1, 1);
    assert_eq!(there, [described(1, 0), run(1, 0, [(2, 1), (3, 2)])], "not one of them counts");
    let end = env.done(0, &[0], SECOND);
    assert_eq!(end, [partition_done(0, 0, 0, 0), retired(0)]);
    assert_eq!(env.tasks.stale_reports(), 0);
}

#[test]
fn an_end_that_crosses_the_recall_is_the_last_word() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 1);
    assert_eq!(env.handle(retire(0)), [recall(0, [0])]);
    let end = env.done(0, &[0], SECOND);
    let whole =
        [partition_done(0, 0, 0, 0), dropped(0, 0), Action::StageDone(StageRunId(0)), retired(0)];
    assert_eq!(end, whole);
    assert_eq!(env.recalled(0, &[]), [], "the answer comes from a stranger");
}

#[test]
fn who_is_to_stay_after_all_is_given_tasks_again() {
    let mut env = Env::with_executors(&[1]);
    env.submit(0, 0, 3);
    assert_eq!(env.handle(retire(0)), [recall(0, [0, 1])]);
    assert_eq!(env.recalled(0, &[1]), []);
    assert_eq!(env.handle(Event::Unretire(executor(0))), [run(0, 0, [(2, 1)])]);
    assert_eq!(env.handle(Event::Unretire(executor(0))), []);
    assert_eq!(env.done(0, &[0], SECOND), [partition_done(0, 0, 0, 0), run(0, 0, [(3, 2)])]);
}

#[test]
fn a_failed_task_does_not_wait_for_a_machine_that_is_to_go() {
    let mut env = Env::with_executors(&[1, 1]);
    env.submit(0, 0, 4);
    let recalls = env.handle(retire(1));
    assert_eq!(recalls, [recall(1, [2, 3])]);
    env.recalled(1, &[3]);
    let again = env.fail(0, 0, host("disk"));
    assert_eq!(given_out(&again), (1, 1), "{again:?}");
    assert!(matches!(&again[..], [Action::Run { executor: e, .. }] if *e == executor(0)));
}

#[test]
fn whose_first_attempt_came_and_whose_last_ended_is_told_once() {
    let mut env = Env::with_executors(&[1, 1, 1]);
    assert_eq!(env.tasks.take_turned(), []);
    env.submit(0, 0, 2);
    assert_eq!(env.tasks.take_turned(), [(executor(0), false), (executor(1), false)]);
    assert_eq!(env.tasks.unfinished(), 2);
    env.done(0, &[0], SECOND);
    env.submit(1, 0, 1);
    assert_eq!(env.tasks.take_turned(), [(executor(0), false)]);
    env.done(1, &[1], SECOND);
    assert_eq!(env.tasks.take_turned(), [(executor(1), true)]);
    assert_eq!(env.tasks.take_turned(), []);
}

#[test]
fn who_is_held_goes_when_it_is_idle_and_let_go_of() {
    let mut env = Env::with_executors(&[1, 1]);
    assert_eq!(env.handle(Event::Hold(executor(0))), []);
    assert_eq!(env.handle(retire(0)), []);
    assert_eq!(env.tasks.held_back().collect::<Vec<_>>(), [executor(0)]);
    assert_eq!(env.submit(0, 0, 2), [described(1, 0), run(1, 0, [(0, 0), (1, 1)])]);
    assert_eq!(env.handle(Event::LetGo(executor(0))), [retired(0)]);
    env.handle(Event::Hold(executor(1)));
    env.handle(retire(1));
    assert_eq!(env.tasks.held_back().count(), 0, "it runs tasks");
    assert_eq!(env.handle(Event::LetGo(executor(1))), []);
}
