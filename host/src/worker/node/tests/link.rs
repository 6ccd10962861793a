//! Registration, heartbeats, leases, epochs, renewal.

use super::env::{Env, TIMING, address, held, offer};
use crate::launch::test_support::{executor, order};
use crate::worker::node::{Action, Event, Note, SessionId};
use offshoot_proto::cluster::{FromWorker, ToWorker, WorkerInfo};
use offshoot_proto::id::Epoch;
use std::time::Duration;

const HEARTBEAT: Action = Action::Send(FromWorker::Heartbeat);

fn connect(session: u64) -> Action {
    let session = SessionId(session);
    Action::Connect { session }
}

fn registered_note(epoch: u64, executors: usize) -> Action {
    let epoch = Epoch(epoch);
    Action::Note(Note::Registered { epoch, executors })
}

/// The pause that a note announces.
fn retry_in(action: &Action) -> Duration {
    match action {
        Action::Note(Note::MasterLost { retry_in, .. }) => *retry_in,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_dials_registers_and_sweeps_what_an_earlier_one_left() {
    let mut env = Env::new();
    assert_eq!(env.timeout(), [connect(1)]);
    let register = Action::Send(FromWorker::Register(offer()));
    assert_eq!(env.connected(1), [register]);
    let registered = env.master(1, ToWorker::Registered { epoch: Epoch(3) });
    assert_eq!(registered, [registered_note(3, 0), Action::Sweep]);
}

#[test]
fn a_registered_worker_beats_each_second_and_loses_a_silent_master() {
    let mut env = Env::registered();
    for second in 1..=7 {
        assert_eq!(env.timeout(), [HEARTBEAT], "{second}");
        assert_eq!(env.now, Duration::from_secs(second));
    }
    let lost = env.timeout();
    assert_eq!(env.now, TIMING.master_lease);
    assert_eq!(lost[0], Action::Disconnect);
    let Action::Note(Note::MasterLost { reason, .. }) = &lost[1] else { panic!("{lost:?}") };
    assert_eq!(reason, "nothing heard from it for 8 s");
    assert_eq!(lost.len(), 2);
}

#[test]
fn every_frame_of_the_master_renews_its_lease() {
    let mut env = Env::registered();
    env.until(Duration::from_secs(7));
    assert_eq!(env.master(1, ToWorker::Heartbeat), []);
    let beats = env.until(Duration::from_millis(14_999));
    assert_eq!(beats, vec![HEARTBEAT; 7]);
    assert_eq!(env.timeout()[0], Action::Disconnect);
    assert_eq!(env.now, Duration::from_secs(15));
}

#[test]
fn a_master_that_does_not_answer_a_registration_is_given_up() {
    let mut env = Env::new();
    env.timeout();
    env.connected(1);
    let lost = env.timeout();
    assert_eq!((env.now, &lost[0]), (TIMING.master_lease, &Action::Disconnect));
}

#[test]
fn pauses_double_within_their_bounds_and_start_anew_after_a_registration() {
    let mut env = Env::new();
    let mut bounds = vec![];
    for session in 1..=6 {
        assert_eq!(env.timeout(), [connect(session)]);
        let lost = env.disconnected(session);
        let pause = retry_in(&lost[0]);
        assert_eq!(lost.len(), 1);
        assert_eq!(env.node.next_timeout(), Some(env.now + pause));
        bounds.push(pause);
    }
    for (pause, most) in bounds.iter().zip([500, 1000, 2000, 4000, 4000, 4000]) {
        let most = Duration::from_millis(most);
        assert!(*pause >= most / 2 && *pause < most, "{pause:?} of {most:?}");
    }
    env.timeout();
    env.connected(7);
    env.master(7, ToWorker::Registered { epoch: Epoch(1) });
    assert!(retry_in(&env.disconnected(7)[0]) < Duration::from_millis(500));
}

#[test]
fn executors_go_on_without_a_master_and_are_named_to_the_next() {
    let mut env = Env::running();
    env.launched(executor(1, 1));
    env.order(executor(2, 0));
    let lost = env.disconnected(1);
    assert!(matches!(&lost[..], [Action::Note(Note::MasterLost { executors: 3, .. })]));
    assert_eq!(env.ended(executor(2, 0), "never")[1..], []);
    assert_eq!(env.timeout(), [connect(2)]);
    let executors = vec![held(executor(1, 0), Some(address(5000))), held(executor(1, 1), None)];
    let info = WorkerInfo { executors, ..offer() };
    let register = Action::Send(FromWorker::Register(info));
    assert_eq!(env.connected(2), [register]);
    // What happens before the answer is told too: the frames keep their order.
    let message = FromWorker::ExecutorReady { executor: executor(1, 1), address: address(5001) };
    assert_eq!(env.ready(executor(1, 1), 5001)[1], Action::Send(message));
    let registered = env.master(2, ToWorker::Registered { epoch: Epoch(1) });
    assert_eq!(registered, [registered_note(1, 2)], "nothing is swept again");
}

#[test]
fn a_master_of_an_older_life_is_refused() {
    let mut env = Env::registered();
    env.disconnected(1);
    env.timeout();
    env.connected(2);
    env.master(2, ToWorker::Registered { epoch: Epoch(5) });
    env.disconnected(2);
    env.timeout();
    env.connected(3);
    let refused = env.master(3, ToWorker::Registered { epoch: Epoch(4) });
    let [Action::Disconnect, Action::Note(Note::MasterLost { reason, .. })] = &refused[..] else {
        panic!("{refused:?}")
    };
    assert_eq!(reason, "its epoch is 4, and a master of epoch 5 was here");
    let launch = ToWorker::Launch(Box::new(order(executor(1, 0), 7)));
    assert_eq!(env.master(3, launch), []);
}

#[test]
fn orders_before_the_registration_end_the_connection() {
    let mut env = Env::new();
    env.timeout();
    env.connected(1);
    let actions = env.order(executor(1, 0));
    assert!(matches!(
        &actions[..],
        [Action::Disconnect, Action::Note(Note::MasterLost { executors: 0, .. })]
    ));
}

#[test]
fn what_is_said_of_an_earlier_connection_is_ignored() {
    let mut env = Env::registered();
    env.disconnected(1);
    env.timeout();
    assert_eq!(env.disconnected(1), []);
    assert_eq!(env.connected(1), []);
    assert_eq!(env.order(executor(1, 0)), []);
    assert_eq!(env.node.session(), Some(SessionId(2)));
}

#[test]
fn a_worker_that_no_master_ever_took_ends_when_it_is_refused() {
    let mut env = Env::new();
    env.timeout();
    let reason = "10.0.0.9:1 is not a member of this cluster".to_owned();
    let event =
        Event::Disconnected { session: SessionId(1), reason: reason.clone(), hopeless: true };
    assert_eq!(env.event(event), [Action::Exit { error: Some(reason) }]);
    assert_eq!(env.node.next_timeout(), None);

    let mut env = Env::new();
    env.timeout();
    env.connected(1);
    let reason = "cores is 0".to_owned();
    let error = Some("the master refused this worker: cores is 0".to_owned());
    let refused = env.master(1, ToWorker::Refused { reason });
    assert_eq!(refused, [Action::Disconnect, Action::Exit { error }]);
}

#[test]
fn a_worker_that_was_taken_once_is_stubborn() {
    let mut env = Env::running();
    env.disconnected(1);
    env.timeout();
    env.connected(2);
    let reason = "executors: app-1/0 runs on worker w2".to_owned();
    let refused = env.master(2, ToWorker::Refused { reason });
    assert!(matches!(
        &refused[..],
        [Action::Disconnect, Action::Note(Note::MasterLost { executors: 1, .. })]
    ));
    assert_eq!(env.timeout(), [connect(3)]);
    let event =
        Event::Disconnected { session: SessionId(3), reason: "expired".to_owned(), hopeless: true };
    assert!(matches!(env.event(event)[..], [Action::Note(_)]));
}

#[test]
fn a_certificate_is_renewed_when_it_is_time_and_again_if_that_fails() {
    let mut env = Env::registered();
    let due = Duration::from_secs(2);
    env.event(Event::CertificateInstalled { renew_in: due });
    assert_eq!(env.until(due), [HEARTBEAT, HEARTBEAT, Action::Renew]);
    let reason = "busy".to_owned();
    let refused = env.master(1, ToWorker::Refused { reason: reason.clone() });
    assert_eq!(refused, [Action::Note(Note::RenewalRefused { reason })]);
    let mut again = vec![];
    while env.now < due + TIMING.renewal_retry {
        env.master(1, ToWorker::Heartbeat);
        again = env.timeout();
    }
    assert_eq!(again, [HEARTBEAT, Action::Renew]);
    let certificate = vec![1];
    let install = Action::Install { certificate: vec![1] };
    assert_eq!(env.master(1, ToWorker::Renewed { certificate }), [install]);
}
