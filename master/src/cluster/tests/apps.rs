//! Registration, executors that come and go, and the end of an application.

use super::env::*;
use crate::cluster::{Event, SessionId};
use offshoot_proto::cluster::{AppState, ExecutorInfo, FromClient, FromWorker, ToClient, ToWorker};
use offshoot_proto::id::{AppId, ExecutorId};

fn refused(session: u64, reason: &str) -> [crate::cluster::Action; 2] {
    let reason = reason.to_owned();
    [to_client(session, ToClient::Refused { reason }), close(session)]
}

fn added(session: u64, id: ExecutorId, cores: u32) -> crate::cluster::Action {
    let info = ExecutorInfo {
        id,
        address: executor_address(id),
        cores,
        worker: worker_id("w1"),
        worker_address: address(7000),
    };
    to_client(session, ToClient::ExecutorAdded(info))
}

#[test]
fn the_same_key_gives_the_same_application_and_all_that_was_missed() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    let spec = app(Some(1), None);
    let (first, second, third) = (executor(10, 0), executor(10, 1), executor(10, 2));
    env.register_app(2, 5, spec.clone());
    env.ready(1, "w1", first);
    env.ready(1, "w1", second);
    assert_eq!(env.closed(2), []);
    assert_eq!(env.gone(1, "w1", first), []);
    assert_eq!(
        env.register_app(3, 5, spec.clone()),
        [
            certify(3, 10, false),
            gone_message(3, first, "it ended"),
            added(3, second, 1),
            launch(1, third, 1, &spec),
        ]
    );
    let mut other = spec;
    other.name = "other".to_owned();
    assert_eq!(
        env.register_app(4, 5, other),
        refused(4, "the key of app-10 was used for another application")
    );
}

#[test]
fn a_newer_connection_of_a_driver_replaces_the_older() {
    let mut env = Env::new();
    let spec = app(None, None);
    env.register_app(2, 5, spec.clone());
    let actions = env.register_app(3, 5, spec);
    assert_eq!(actions[..2], [close(2), certify(3, 10, false)]);
    assert_eq!(env.closed(2), []);
    let answer = env.client_says(3, "ada", FromClient::Heartbeat);
    assert_eq!(answer, [to_client(3, ToClient::Heartbeat)]);
}

#[test]
fn another_tenants_key_is_another_application() {
    let mut env = Env::new();
    env.register_app(2, 5, app(None, None));
    let actions = env.client_says(3, "bob", register(5, app(None, None)));
    assert_eq!(actions[0], certify(3, 11, false));
}

#[test]
fn the_end_stops_executors_and_frees_their_cores_only_when_they_are_gone() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    env.register_app(2, 1, app(Some(2), None));
    let id = executor(10, 0);
    env.ready(1, "w1", id);
    assert_eq!(
        env.client_says(2, "ada", FromClient::Finished { succeeded: true }),
        [
            ended_note(10, AppState::Finished),
            to_worker(1, ToWorker::Kill(id)),
            to_worker(1, ToWorker::Forget(AppId(10))),
            close(2),
        ]
    );
    let spec = app(Some(2), None);
    let actions = env.register_app(3, 2, spec.clone());
    assert_eq!(actions, [certify(3, 11, false), app_note(11)], "it waits");
    assert_eq!(env.gone(1, "w1", id), [launch(1, executor(11, 0), 2, &spec)]);
    assert_eq!(
        env.register_app(4, 1, spec),
        refused(4, "app-10, registered with this key, has ended")
    );
}

#[test]
fn an_executor_that_is_gone_is_replaced() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    let spec = app(Some(2), None);
    env.register_app(2, 1, spec.clone());
    assert_eq!(env.ready(1, "w1", executor(10, 0)), [added(2, executor(10, 0), 2)]);
    assert_eq!(
        env.gone(1, "w1", executor(10, 0)),
        [gone_message(2, executor(10, 0), "it ended"), launch(1, executor(10, 1), 2, &spec)]
    );
}

#[test]
fn ten_executors_in_a_row_that_never_listened_end_the_application() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    env.register_app(2, 1, app(Some(2), None));
    for number in 0..9 {
        env.gone(1, "w1", executor(10, number));
    }
    // One that listens starts the count anew.
    env.ready(1, "w1", executor(10, 9));
    env.gone(1, "w1", executor(10, 9));
    for number in 10..19 {
        assert_eq!(env.gone(1, "w1", executor(10, number)).len(), 2, "{number}");
    }
    let last = executor(10, 19);
    let mut expected = vec![
        gone_message(2, last, "it ended"),
        ended_note(10, AppState::Failed),
        to_worker(1, ToWorker::Forget(AppId(10))),
    ];
    let reason = "10 executors in a row failed to start; the last, app-10/19: it ended";
    expected.extend(refused(2, reason));
    assert_eq!(env.gone(1, "w1", last), expected);
}

#[test]
fn launches_stop_but_the_application_goes_on_while_another_executor_listens() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    env.register_app(2, 1, app(Some(1), None));
    env.ready(1, "w1", executor(10, 0));
    for number in 1..10 {
        env.gone(1, "w1", executor(10, number));
    }
    let last = executor(10, 10);
    assert_eq!(env.gone(1, "w1", last), [gone_message(2, last, "it ended")]);
    let answer = env.client_says(2, "ada", FromClient::Heartbeat);
    assert_eq!(answer, [to_client(2, ToClient::Heartbeat)]);
}

#[test]
fn an_order_that_cannot_be_completed_is_a_failed_launch() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    let spec = app(None, None);
    env.register_app(2, 1, spec.clone());
    let event = Event::LaunchFailed { executor: executor(10, 0), reason: "cannot sign".to_owned() };
    assert_eq!(
        env.handle(event),
        [gone_message(2, executor(10, 0), "cannot sign"), launch(1, executor(10, 1), 1, &spec)]
    );
}

#[test]
fn a_driver_without_a_certificate_is_refused_and_its_application_ends() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_app(2, 1, app(None, None));
    let event = Event::CertificateRefused {
        session: SessionId(2),
        app: AppId(10),
        reason: "the signing request is not valid".to_owned(),
    };
    let mut expected = vec![
        ended_note(10, AppState::Failed),
        to_worker(1, ToWorker::Kill(executor(10, 0))),
        to_worker(1, ToWorker::Forget(AppId(10))),
    ];
    expected.extend(refused(2, "the signing request is not valid"));
    assert_eq!(env.handle(event), expected);
}

#[test]
fn reports_of_what_is_not_theirs_change_nothing_and_are_counted() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_worker(2, worker("w2", 1));
    env.register_app(3, 1, app(Some(1), Some(1)));
    let id = executor(10, 0);
    assert_eq!(env.ready(2, "w2", id), []);
    assert_eq!(env.gone(2, "w2", id), []);
    assert_eq!(env.gone(1, "w1", executor(99, 0)), []);
    assert_eq!(env.worker_says(9, "w1", FromWorker::Heartbeat), []);
    assert_eq!(env.client_says(9, "ada", FromClient::Heartbeat), []);
    assert_eq!(env.cluster.rejected(), 5);
    let unregistered = env.client_says(9, "ada", FromClient::Finished { succeeded: true });
    let reason = "finished: no application is registered on this connection";
    assert_eq!(unregistered, refused(9, reason));
    assert_eq!(env.ready(1, "w1", id), [added(3, id, 1)]);
}
