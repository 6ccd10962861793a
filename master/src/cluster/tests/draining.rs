//! Workers that are to leave.

use super::env::*;
use crate::cluster::{Action, Note};
use crate::share::covers;
use offshoot_proto::cluster::{FromClient, ToClient, ToWorker, WorkerState};
use offshoot_proto::waiting::{Size, WaitReason};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(30);

pub(super) fn drain(worker: &str) -> FromClient {
    FromClient::Drain { worker: worker_id(worker), within_millis: WITHIN.as_millis() as u64 }
}

pub(super) fn drained(worker: &str) -> FromClient {
    FromClient::Drained { worker: worker_id(worker) }
}

pub(super) fn draining(session: u64, worker: &str) -> Action {
    let left_millis = WITHIN.as_millis() as u64;
    to_client(session, ToClient::Draining { worker: worker_id(worker), left_millis })
}

pub(super) fn leaves(session: u64, worker: &str) -> [Action; 3] {
    let left = Action::Note(Note::WorkerLeft { worker: worker_id(worker) });
    [to_worker(session, ToWorker::Leave), close(session), left]
}

pub(super) fn drain_note(worker: &str) -> Action {
    Action::Note(Note::WorkerDrains { worker: worker_id(worker), within: WITHIN })
}

#[test]
fn an_empty_worker_leaves_at_once_and_is_nobodys_any_more() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 4));
    let actions = env.client_says(5, "admin", drain("w1"));
    let mut expected = vec![drain_note("w1"), to_client(5, ToClient::Done)];
    expected.extend(leaves(1, "w1"));
    assert_eq!(actions, expected);
    assert_eq!(env.cluster.worker_rows(), []);
    assert_eq!(env.cluster.next_timeout().map(|due| due > env.now), Some(true));
}

#[test]
fn its_executors_are_asked_back_and_it_leaves_when_every_driver_is_done() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    env.register_app(3, 1, app(Some(1), None));
    for number in 0..2 {
        env.ready(1, "w1", executor(10, number));
    }
    let actions = env.client_says(5, "admin", drain("w1"));
    let executors = vec![executor(10, 0), executor(10, 1)];
    let asked = to_client(3, ToClient::GiveBack { executors: executors.clone() });
    let told = [drain_note("w1"), to_client(5, ToClient::Done), draining(3, "w1"), asked];
    assert_eq!(actions[..4], told);
    assert_eq!(env.cluster.worker_rows()[0].state, WorkerState::Draining);
    // Nothing new comes there; elsewhere it does.
    assert_eq!(env.register_worker(2, worker("w2", 1)).len(), 3, "registered, launched, noted");
    env.client_says(3, "ada", FromClient::Release { executors: executors.clone() });
    env.gone(1, "w1", executors[0]);
    assert_eq!(env.gone(1, "w1", executors[1]), []);
    assert_eq!(env.client_says(3, "ada", drained("w1")), leaves(1, "w1"));
    assert_eq!(env.client_says(3, "ada", drained("w1")), [], "it has left");
}

#[test]
fn what_runs_at_the_deadline_is_stopped_and_the_worker_leaves_in_any_case() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_app(3, 1, app(Some(1), None));
    env.ready(1, "w1", executor(10, 0));
    env.client_says(5, "admin", drain("w1"));
    assert!(!env.pass(WITHIN - Duration::from_secs(1)).contains(&kill()));
    let actions = env.pass(Duration::from_secs(1));
    let reason = "worker w1 leaves, and the time for that is over";
    assert!(actions.contains(&kill()), "{actions:?}");
    assert!(actions.contains(&gone_message(3, executor(10, 0), reason)), "{actions:?}");
    assert_eq!(env.gone(1, "w1", executor(10, 0))[..3], leaves(1, "w1"));
}

fn kill() -> Action {
    to_worker(1, ToWorker::Kill(executor(10, 0)))
}

#[test]
fn a_driver_and_a_worker_that_come_back_are_still_meant() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_app(3, 1, app(Some(1), None));
    env.ready(1, "w1", executor(10, 0));
    env.client_says(5, "admin", drain("w1"));
    env.closed(3);
    let back = env.register_app(4, 1, app(Some(1), None));
    assert!(back.contains(&draining(4, "w1")), "{back:?}");
    env.closed(1);
    let held = holding(worker("w1", 1), &[(executor(10, 0), 1)]);
    env.register_worker(2, held);
    assert_eq!(env.cluster.worker_rows()[0].state, WorkerState::Draining);
    // The application ends: nobody needs anything there.
    env.client_says(4, "ada", FromClient::Finished { succeeded: true });
    assert_eq!(env.gone(2, "w1", executor(10, 0))[..3], leaves(2, "w1"));
}

#[test]
fn what_leaves_counts_for_no_limit_of_its_application() {
    for executors_max in [None, Some(2)] {
        let mut env = Env::new();
        env.register_worker(1, worker("w1", 2));
        let mut spec = app(Some(1), Some(2));
        spec.request.executors_max = executors_max;
        spec.request.total_cores = executors_max.is_none().then_some(2);
        env.register_app(3, 1, spec.clone());
        for number in 0..2 {
            env.ready(1, "w1", executor(10, number));
        }
        assert_eq!(env.register_worker(2, worker("w2", 8)), [registered(2), worker_note("w2", 8)]);
        let actions = env.client_says(5, "admin", drain("w1"));
        let instead = [2, 3].map(|number| launch(2, executor(10, number), 1, &spec));
        assert_eq!(actions[4..], instead);
        // When they are gone it has what it may have.
        let executors = (0..2).map(|number| executor(10, number)).collect();
        env.client_says(3, "ada", FromClient::Release { executors });
        for number in 0..2 {
            assert_eq!(env.gone(1, "w1", executor(10, number)), []);
        }
        assert_eq!(env.cluster.worker_rows()[1].cores_used, 2);
    }
}

#[test]
fn what_leaves_is_no_part_of_the_cluster_that_is_shared_or_waited_for() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 8));
    env.register_worker(2, worker("w2", 2));
    env.register_app(3, 1, app(Some(1), Some(1)));
    env.client_says(5, "admin", drain("w1"));
    let total = env.cluster.shares.total();
    assert!(covers(Size { cores: 2, memory_bytes: 2 * GIB }, total), "{total:?}");
    let actions = env.register_app(4, 2, app(Some(4), None));
    let waits = |action: &Action| {
        matches!(action, Action::ToClient {
        message: ToClient::Waiting(WaitReason::TooLarge(it)), ..
    } if it.largest.cores == 2)
    };
    assert!(actions.iter().any(waits), "{actions:?}");
}

#[test]
fn only_the_admin_drains_and_only_what_is_there() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    let mut refused = |tenant: &str, message: FromClient, text: &str| {
        let actions = env.client_says(5, tenant, message);
        let [Action::ToClient { message: ToClient::Refused { reason }, .. }, ..] = &actions[..]
        else {
            panic!("{actions:?}")
        };
        assert!(reason.contains(text), "{reason}");
    };
    refused("ada", drain("w1"), "tenant ada may not drain workers");
    refused("admin", drain("w9"), "there is no worker w9");
    let worker = worker_id("w1");
    refused("admin", FromClient::Drain { worker, within_millis: u64::MAX }, "at most 604800 s");
    // Of an application that was never there.
    assert_eq!(env.register_app(6, 1, app(Some(1), None)).len(), 3);
    env.client_says(6, "ada", drained("w1"));
    assert_eq!(env.cluster.worker_rows().len(), 1);
}
