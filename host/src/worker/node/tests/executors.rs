//! Launches, their failures, and ends.

use super::env::{Env, TIMING, address, gone, launch, module};
use crate::launch::test_support::{executor, order};
use crate::worker::node::{Action, Event, Note};
use offshoot_proto::cluster::{FromWorker, LaunchExecutor, ToWorker};
use offshoot_proto::id::{AppId, ExecutorId};

fn prepare(number: u8) -> Action {
    let module = module(number);
    Action::Prepare { module }
}

/// What follows an order that is not followed.
fn refused(executor: ExecutorId, reason: &str) -> [Action; 2] {
    let reason = || reason.to_owned();
    let note = Note::LaunchRefused { executor, reason: reason() };
    let message = FromWorker::ExecutorGone { executor, reason: reason() };
    [Action::Note(note), Action::Send(message)]
}

#[test]
fn an_executor_is_prepared_launched_and_reported() {
    let mut env = Env::registered();
    let id = executor(1, 0);
    assert_eq!(env.order(id), [prepare(7)]);
    assert_eq!(env.prepared(), [launch(id)]);
    let address = address(5000);
    let ready = [
        Action::Note(Note::ExecutorReady { executor: id, address }),
        Action::Send(FromWorker::ExecutorReady { executor: id, address }),
    ];
    assert_eq!(env.ready(id, 5000), ready);
    assert_eq!(env.ended(id, "crashed"), gone(id, "crashed"));
    assert_eq!(env.ended(id, "again"), []);
}

#[test]
fn executors_of_one_module_wait_for_one_preparation() {
    let mut env = Env::registered();
    assert_eq!(env.order(executor(1, 0)), [prepare(7)]);
    assert_eq!(env.order(executor(1, 1)), []);
    let other = ToWorker::Launch(Box::new(order(executor(2, 0), 8)));
    assert_eq!(env.master(1, other), [prepare(8)]);
    assert_eq!(env.prepared(), [launch(executor(1, 0)), launch(executor(1, 1))]);
    assert_eq!(env.prepared(), []);
}

#[test]
fn a_module_that_cannot_be_had_ends_all_launches_that_wait_for_it() {
    let mut env = Env::registered();
    env.order(executor(1, 0));
    env.order(executor(1, 1));
    let outcome = Err("CompileLimit: 30 s CPU".to_owned());
    let module = module(7);
    let actions = env.event(Event::Prepared { module, outcome });
    let reason = "CompileLimit: 30 s CPU";
    let expected = [gone(executor(1, 0), reason), gone(executor(1, 1), reason)];
    assert_eq!(actions, expected.concat());
    assert_eq!(env.order(executor(1, 2)), [prepare(7)], "the next one tries again");
}

#[test]
fn an_order_that_comes_twice_is_followed_once() {
    let mut env = Env::registered();
    env.order(executor(1, 0));
    assert_eq!(env.order(executor(1, 0)), []);
    assert_eq!(env.prepared(), [launch(executor(1, 0))]);
    assert_eq!(env.order(executor(1, 0)), []);
}

#[test]
fn no_core_and_no_byte_is_granted_twice() {
    let mut env = Env::running();
    let order = |number, cores, memory_bytes| {
        let order = order(executor(1, number), 7);
        let order = LaunchExecutor { cores, memory_bytes, ..order };
        ToWorker::Launch(Box::new(order))
    };
    let actions = env.master(1, order(1, 4, 1 << 20));
    assert_eq!(actions, refused(executor(1, 1), "it asks for 4 cores, 3 are free"));
    let actions = env.master(1, order(2, 0, 1 << 20));
    assert_eq!(actions, refused(executor(1, 2), "it asks for 0 cores, 3 are free"));
    let actions = env.master(1, order(3, 1, 1 << 30));
    let reason = "it asks for 1 GiB of memory, 924 MiB are free";
    assert_eq!(actions, refused(executor(1, 3), reason));
    env.ended(executor(1, 0), "crashed");
    assert_eq!(env.master(1, order(4, 4, 1 << 30)), [prepare(7)]);
}

#[test]
fn a_kill_stops_an_executor_in_order_and_then_by_force() {
    let mut env = Env::running();
    let id = executor(1, 0);
    env.until(std::time::Duration::from_millis(500));
    assert_eq!(env.master(1, ToWorker::Kill(id)), [Action::StopExecutor(id)]);
    assert_eq!(env.master(1, ToWorker::Kill(id)), []);
    let due = env.now + TIMING.stop_deadline;
    let killed = env.until(due);
    assert_eq!(killed.last(), Some(&Action::KillExecutor(id)));
    assert_eq!(killed.len(), 6, "five heartbeats before it: {killed:?}");
    assert_eq!(env.ended(id, "signal 9"), gone(id, "stopped by the master"));
}

#[test]
fn a_kill_during_the_preparation_needs_nothing_more() {
    let mut env = Env::registered();
    let id = executor(1, 0);
    env.order(id);
    assert_eq!(env.master(1, ToWorker::Kill(id)), gone(id, "stopped by the master"));
    assert_eq!(env.prepared(), []);
}

#[test]
fn a_kill_of_an_executor_that_is_not_here_is_answered() {
    let mut env = Env::registered();
    let id = executor(1, 0);
    let reason = "it does not run on this worker".to_owned();
    let message = FromWorker::ExecutorGone { executor: id, reason };
    assert_eq!(env.master(1, ToWorker::Kill(id)), [Action::Send(message)]);
}

#[test]
fn an_executor_that_does_not_listen_in_time_is_killed() {
    let mut env = Env::registered();
    let id = executor(1, 0);
    env.launched(id);
    let mut actions = vec![];
    while env.now < TIMING.launch_deadline {
        env.master(1, ToWorker::Heartbeat);
        actions = env.timeout();
    }
    assert_eq!(actions[0], Action::KillExecutor(id));
    assert_eq!(env.ready(id, 5000), [], "too late");
    let reason = "it did not listen within 30 s of its start";
    assert_eq!(env.ended(id, "signal 9"), gone(id, reason));
}

#[test]
fn a_forgotten_application_is_deleted_once_its_executors_are_gone() {
    let mut env = Env::running();
    let (running, launching, preparing) = (executor(1, 0), executor(1, 1), executor(1, 2));
    env.launched(launching);
    env.order(preparing);
    env.order(executor(2, 0));
    let app = AppId(1);
    let mut expected = vec![Action::StopExecutor(running), Action::StopExecutor(launching)];
    expected.extend(gone(preparing, "its application has ended"));
    assert_eq!(env.master(1, ToWorker::Forget(app)), expected);
    assert_eq!(env.master(1, ToWorker::Forget(app)), []);
    let late = env.order(executor(1, 3));
    assert_eq!(late, refused(executor(1, 3), "app-1 has ended"));
    let reason = "its application has ended";
    assert_eq!(env.ended(launching, "exit"), gone(launching, reason));
    let mut last = gone(running, reason).to_vec();
    last.push(Action::Delete(app));
    assert_eq!(env.ended(running, "exit"), last);
    assert_eq!(env.master(1, ToWorker::Forget(app)), [Action::Delete(app)]);
    assert_eq!(env.prepared(), [launch(executor(2, 0))]);
}

#[test]
fn a_worker_that_stops_ends_its_executors_first() {
    let mut env = Env::running();
    env.order(executor(1, 1));
    let mut expected = vec![Action::StopExecutor(executor(1, 0))];
    expected.extend(gone(executor(1, 1), "its worker stops"));
    assert_eq!(env.event(Event::Stop), expected);
    assert_eq!(env.event(Event::Stop), []);
    let late = env.order(executor(2, 0));
    assert_eq!(late, refused(executor(2, 0), "the worker stops"));
    let mut last = gone(executor(1, 0), "its worker stops").to_vec();
    last.push(Action::Exit { error: None });
    assert_eq!(env.ended(executor(1, 0), "exit"), last);
    assert_eq!(env.node.next_timeout(), None);
    assert_eq!(env.master(1, ToWorker::Kill(executor(1, 0))), []);
}

#[test]
fn a_worker_without_executors_stops_at_once_and_dials_no_more() {
    let mut env = Env::new();
    assert_eq!(env.event(Event::Stop), [Action::Exit { error: None }]);
    let mut env = Env::running();
    env.event(Event::Stop);
    env.disconnected(1);
    assert_eq!(env.node.next_timeout(), Some(TIMING.stop_deadline));
    let how = env.ended(executor(1, 0), "exit");
    assert_eq!(how.last(), Some(&Action::Exit { error: None }));
}
