//! Silence, broken connections, and workers that come back.

use super::env::*;
use crate::cluster::limits::{DRIVER_LEASE, WORKER_LEASE};
use crate::cluster::{Action, Note};
use offshoot_proto::cluster::{AppState, FromClient, FromWorker, ToClient, ToWorker};
use offshoot_proto::id::AppId;
use std::time::Duration;

const LOST: &str = "worker w1 is lost: nothing heard from it for 8 s";

#[test]
fn heartbeats_are_answered_and_renew_leases() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.now += WORKER_LEASE / 2;
    let answer = env.worker_says(1, "w1", FromWorker::Heartbeat);
    assert_eq!(answer, [to_worker(1, ToWorker::Heartbeat)]);
    assert_eq!(env.run_timeout().0, WORKER_LEASE);
    env.register_app(2, 1, app(None, None));
    env.now += DRIVER_LEASE / 2;
    let answer = env.client_says(2, "ada", FromClient::Heartbeat);
    assert_eq!(answer, [to_client(2, ToClient::Heartbeat)]);
    assert_eq!(env.run_timeout().0, DRIVER_LEASE);
}

#[test]
fn a_silent_driver_loses_its_application() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_app(2, 1, app(None, None));
    let (moved, actions) = env.run_timeout();
    assert_eq!(moved, DRIVER_LEASE);
    let reason = "app-10 is lost: nothing heard from its driver for 4 s".to_owned();
    assert_eq!(
        actions,
        [
            ended_note(10, AppState::Lost),
            to_worker(1, ToWorker::Kill(executor(10, 0))),
            to_worker(1, ToWorker::Forget(AppId(10))),
            to_client(2, ToClient::Refused { reason }),
            close(2),
        ]
    );
}

#[test]
fn a_driver_that_left_is_lost_after_its_lease_and_not_before() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_app(2, 1, app(None, None));
    assert_eq!(env.closed(2), []);
    let (moved, actions) = env.run_timeout();
    assert_eq!((moved, actions.len()), (DRIVER_LEASE, 3));
}

#[test]
fn a_silent_worker_is_lost_and_its_executors_are_replaced_elsewhere() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    let spec = app(Some(2), Some(2));
    env.register_app(2, 1, spec.clone());
    env.ready(1, "w1", executor(10, 0));
    env.now += Duration::from_secs(5);
    env.register_worker(3, worker("w2", 2));
    env.client_says(2, "ada", FromClient::Heartbeat);
    let (moved, actions) = env.run_timeout();
    assert_eq!(moved, Duration::from_secs(3));
    assert_eq!(
        actions,
        [
            Action::Note(Note::WorkerLost { worker: worker_id("w1"), executors: 1 }),
            close(1),
            gone_message(2, executor(10, 0), LOST),
            launch(3, executor(10, 1), 2, &spec),
        ]
    );
}

#[test]
fn a_worker_that_reconnects_keeps_what_it_still_runs() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 3));
    let spec = app(Some(1), None);
    env.register_app(2, 1, spec.clone());
    let (running, starting, gone) = (executor(10, 0), executor(10, 1), executor(10, 2));
    env.ready(1, "w1", running);
    env.closed(1);
    let back = holding(worker("w1", 3), &[(running, 1), (starting, 1)]);
    let actions = env.register_worker(4, back);
    let Action::ToClient { message: ToClient::ExecutorAdded(info), .. } = &actions[2] else {
        panic!("{actions:?}");
    };
    assert_eq!((info.id, info.address), (starting, executor_address(starting)));
    assert_eq!(
        actions,
        [
            gone_message(2, gone, "worker w1 came back without it"),
            registered(4),
            actions[2].clone(),
            worker_note("w1", 3),
            launch(4, executor(10, 3), 1, &spec),
        ]
    );
}

#[test]
fn a_new_incarnation_retires_the_executors_of_the_old() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    let spec = app(Some(1), None);
    env.register_app(2, 1, spec.clone());
    let why = "worker w1 came back without it";
    assert_eq!(
        env.register_worker(3, worker("w1", 2)),
        [
            gone_message(2, executor(10, 0), why),
            gone_message(2, executor(10, 1), why),
            close(1),
            registered(3),
            worker_note("w1", 2),
            launch(3, executor(10, 2), 1, &spec),
            launch(3, executor(10, 3), 1, &spec),
        ]
    );
    // What the old connection still says is nobody's word.
    assert_eq!(env.gone(1, "w1", executor(10, 2)), []);
    assert_eq!(env.closed(1), []);
    assert_eq!(env.cluster.worker_rows()[0].cores_used, 2);
}

#[test]
fn a_lost_worker_that_comes_back_stops_what_was_given_up() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    let spec = app(Some(2), None);
    env.register_app(2, 1, spec.clone());
    let old = executor(10, 0);
    env.ready(1, "w1", old);
    env.now += Duration::from_secs(6);
    env.client_says(2, "ada", FromClient::Heartbeat);
    env.run_timeout();
    assert_eq!(
        env.register_worker(3, holding(worker("w1", 2), &[(old, 2)])),
        [registered(3), to_worker(3, ToWorker::Kill(old)), worker_note("w1", 2)]
    );
    assert_eq!(env.gone(3, "w1", old), [launch(3, executor(10, 1), 2, &spec)]);
}

#[test]
fn a_worker_hears_of_the_end_of_an_application_when_it_is_back() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    env.register_app(2, 1, app(Some(2), None));
    let id = executor(10, 0);
    env.closed(1);
    let end = env.client_says(2, "ada", FromClient::Finished { succeeded: false });
    assert_eq!(end, [ended_note(10, AppState::Failed), close(2)]);
    let spec = app(Some(1), None);
    env.register_app(3, 2, spec);
    assert_eq!(
        env.register_worker(4, holding(worker("w1", 2), &[(id, 2)])),
        [registered(4), to_worker(4, ToWorker::Forget(AppId(10))), worker_note("w1", 2),]
    );
    assert_eq!(env.gone(4, "w1", id).len(), 2, "its cores are free now");
}

#[test]
fn executors_of_an_earlier_life_of_the_master_run_on_and_are_counted() {
    let mut env = Env::new();
    let old = executor(9, 4);
    assert_eq!(
        env.register_worker(1, holding(worker("w1", 3), &[(old, 2)])),
        [registered(1), worker_note("w1", 3)]
    );
    let spec = app(None, None);
    let actions = env.register_app(2, 1, spec.clone());
    assert_eq!(actions[2..], [launch(1, executor(10, 0), 1, &spec)]);
    assert_eq!(env.gone(1, "w1", old), [launch(1, executor(10, 1), 2, &spec)]);
}

#[test]
fn nothing_is_given_to_a_driver_or_by_a_worker_that_is_away() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.closed(1);
    let actions = env.register_app(2, 1, app(None, None));
    assert_eq!(actions[2..], [], "nothing is given, and nothing is told at once");
    env.closed(2);
    assert_eq!(env.register_worker(3, worker("w1", 1)), [registered(3), worker_note("w1", 1)]);
}
