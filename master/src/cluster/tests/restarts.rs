//! Workers that were to leave when the master was restarted.

use super::draining::{drain, drain_note, drained, draining, leaves};
use super::env::*;
use crate::cluster::drain::WITHIN_MAX;
use crate::cluster::limits::{RECOVERY, WORKER_LEASE};
use crate::cluster::{Action, DrainOrder, Event, Note, SessionId};
use offshoot_proto::cluster::{ToClient, ToWorker, WorkerState};
use offshoot_proto::id::Epoch;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A worker with one core is to leave within 30 s, an executor of app-10 is there, and the master
/// is restarted after so long.
fn restarted(after: Duration) -> Env {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_app(3, 1, app(Some(1), None));
    env.ready(1, "w1", executor(10, 0));
    env.client_says(5, "admin", drain("w1"));
    env.restart(after);
    env
}

/// It comes back over session 11 with what it runs.
fn come_back(env: &mut Env, runs: bool) -> Vec<Action> {
    let info = worker("w1", 1);
    env.register_worker(11, if runs { holding(info, &[(executor(10, 0), 1)]) } else { info })
}

fn told(session: u64, left: Duration) -> Action {
    let left_millis = left.as_millis() as u64;
    to_client(session, ToClient::Draining { worker: worker_id("w1"), left_millis })
}

fn states(env: &Env) -> Vec<WorkerState> {
    env.cluster.worker_rows().iter().map(|row| row.state).collect()
}

#[test]
fn nothing_comes_of_an_order_before_it_is_written_down() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    let mut out = Vec::new();
    let (session, message) = (SessionId(5), drain("w1"));
    let event = Event::FromClient { session, tenant: "admin".to_owned(), message };
    env.cluster.handle(env.now, event, &mut out);
    let within = Duration::from_secs(30);
    let order = DrainOrder { session, worker: worker_id("w1"), within };
    let drains = [(worker_id("w1"), within)].into();
    assert_eq!(out, [Action::SaveDrains { drains, order: Some(order.clone()) }]);
    assert_eq!(states(&env), [WorkerState::Alive]);
    // It is lost before that is done.
    env.now += WORKER_LEASE;
    env.cluster.handle_timeout(env.now, &mut Vec::new());
    let mut out = Vec::new();
    env.cluster.handle(env.now, Event::DrainSaved(order), &mut out);
    let reason = "worker w1 is lost".to_owned();
    let forgotten = Action::SaveDrains { drains: Default::default(), order: None };
    let refused = to_client(5, ToClient::Refused { reason });
    assert_eq!(out, [refused, close(5), forgotten]);
}

#[test]
fn a_worker_goes_on_leaving_after_a_restart() {
    let mut env = restarted(10 * SECOND);
    assert_eq!(states(&env), [WorkerState::Draining], "it is awaited");
    env.now = SECOND;
    env.register_app(13, 1, app(Some(1), None));
    let note = Action::Note(Note::WorkerDrains { worker: worker_id("w1"), within: 19 * SECOND });
    let epoch = Epoch(4);
    let asked = to_client(13, ToClient::GiveBack { executors: Vec::new() });
    let registered = to_worker(11, ToWorker::Registered { epoch });
    let expected = [registered, worker_note("w1", 1), note, told(13, 19 * SECOND), asked];
    assert_eq!(come_back(&mut env, true)[..5], expected);
    assert_eq!(states(&env), [WorkerState::Draining]);
    // Who comes later hears it, too; nothing is launched there.
    let later = env.register_app(14, 2, app(Some(1), None));
    assert!(later.contains(&told(14, 19 * SECOND)), "{later:?}");
    assert!(!later.iter().any(|action| matches!(action, Action::Launch { .. })), "{later:?}");
    env.gone(11, "w1", executor(10, 0));
    for session in [13, 14] {
        assert_eq!(env.client_says(session, "ada", drained("w1")), [], "others may come");
    }
    assert!(env.drains.contains_key(&worker_id("w1")));
    let actions = env.pass_quietly(RECOVERY - env.now);
    assert!(actions.ends_with(&leaves(11, "w1")), "{actions:?}");
    assert!(env.drains.is_empty());
}

#[test]
fn nobody_is_let_go_before_the_drivers_of_before_have_had_time_to_come_back() {
    let mut env = restarted(SECOND);
    come_back(&mut env, false);
    let early = env.pass_quietly(RECOVERY - SECOND);
    assert!(!early.contains(&to_worker(11, ToWorker::Leave)), "{early:?}");
    // This one needs something: it leaves when that is elsewhere.
    env.register_app(13, 1, app(Some(1), None));
    let late = env.pass_quietly(2 * SECOND);
    assert!(!late.contains(&to_worker(11, ToWorker::Leave)), "{late:?}");
    assert_eq!(env.client_says(13, "ada", drained("w1")), leaves(11, "w1"));
}

#[test]
fn a_deadline_that_passed_meanwhile_is_over_when_the_recovery_is() {
    let mut env = restarted(10 * 60 * SECOND);
    come_back(&mut env, true);
    let kill = to_worker(11, ToWorker::Kill(executor(10, 0)));
    assert!(!env.pass_quietly(RECOVERY - SECOND).contains(&kill));
    assert!(env.pass_quietly(SECOND).contains(&kill));
    assert_eq!(env.gone(11, "w1", executor(10, 0)), leaves(11, "w1"));
}

#[test]
fn a_clock_that_was_set_back_gives_no_more_time_than_an_operator_may() {
    let mut env = Env::new();
    env.drains = [(worker_id("w1"), env.now + 1000 * WITHIN_MAX)].into();
    env.restart(Duration::ZERO);
    env.register_app(13, 1, app(Some(1), None));
    assert!(come_back(&mut env, true).contains(&told(13, WITHIN_MAX)));
}

#[test]
fn who_has_left_and_is_started_again_is_given_work() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.client_says(5, "admin", drain("w1"));
    assert!(env.drains.is_empty());
    env.register_worker(2, worker("w1", 1));
    assert_eq!(states(&env), [WorkerState::Alive]);
    env.restart(SECOND);
    come_back(&mut env, false);
    assert_eq!(states(&env), [WorkerState::Alive]);
}

#[test]
fn who_does_not_come_back_in_time_counts_as_lost_and_is_forgotten() {
    let mut env = restarted(SECOND);
    assert_eq!(env.pass_quietly(RECOVERY - SECOND), []);
    assert_eq!(states(&env), [WorkerState::Draining]);
    let missing = Note::WorkerMissing { worker: worker_id("w1") };
    assert_eq!(env.pass_quietly(SECOND), [Action::Note(missing)]);
    assert_eq!(states(&env), [WorkerState::Lost]);
    assert!(env.drains.is_empty());
    assert_eq!(env.cluster.next_timeout(), None);
    come_back(&mut env, true);
    assert_eq!(states(&env), [WorkerState::Alive]);
}

#[test]
fn who_is_lost_is_forgotten_and_given_work_when_it_comes_back() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_app(3, 1, app(Some(1), None));
    env.ready(1, "w1", executor(10, 0));
    assert!(env.client_says(5, "admin", drain("w1")).contains(&draining(3, "w1")));
    env.closed(1);
    let actions = env.pass(WORKER_LEASE);
    // Its driver would give back what it is granted there, else.
    assert!(actions.contains(&told(3, Duration::ZERO)), "{actions:?}");
    assert_eq!(states(&env), [WorkerState::Lost]);
    assert!(env.drains.is_empty());
    let back = env.register_worker(2, worker("w1", 1));
    assert_eq!(states(&env), [WorkerState::Alive]);
    assert!(back.contains(&launch(2, executor(10, 1), 1, &app(Some(1), None))), "{back:?}");
}

#[test]
fn what_is_to_leave_is_written_down_until_it_has_left() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_worker(2, worker("w2", 1));
    env.register_app(3, 1, app(Some(1), None));
    for name in ["w1", "w2"] {
        assert!(env.client_says(5, "admin", drain(name)).contains(&drain_note(name)));
    }
    assert_eq!(env.drains.len(), 2);
    env.restart(SECOND);
    come_back(&mut env, false);
    // What is ordered now does not drive out who is awaited.
    env.client_says(15, "admin", drain("w1"));
    assert_eq!(env.drains.len(), 2);
    let refused = env.client_says(15, "ada", drain("w1"));
    assert!(matches!(refused[..], [Action::ToClient { .. }, Action::Close { .. }]));
    env.pass_quietly(RECOVERY);
    assert!(env.drains.is_empty(), "one has left, one has not come back");
}

#[test]
fn who_is_drained_after_a_restart_waits_for_what_others_have_there_from_before() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_app(3, 1, app(Some(1), None));
    env.restart(SECOND);
    come_back(&mut env, false);
    let actions = env.client_says(15, "admin", drain("w1"));
    assert_eq!(actions, [drain_note("w1"), to_client(15, ToClient::Done)], "not yet");
    // The same driver under another name: it hears of it, and has files there.
    let actions = env.register_app(13, 1, app(Some(1), None));
    assert!(actions.contains(&draining(13, "w1")), "{actions:?}");
    let late = env.pass_quietly(RECOVERY);
    assert!(!late.contains(&to_worker(11, ToWorker::Leave)), "{late:?}");
    assert_eq!(env.client_says(13, "ada", drained("w1")), leaves(11, "w1"));
}

#[test]
fn who_has_not_come_back_can_be_told_another_time() {
    let mut env = restarted(10 * 60 * SECOND);
    env.register_app(13, 1, app(Some(1), None));
    assert_eq!(env.client_says(15, "admin", drain("w1")), [to_client(15, ToClient::Done)]);
    assert_eq!(env.drains[&worker_id("w1")], env.now + 30 * SECOND);
    assert!(come_back(&mut env, true).contains(&told(13, 30 * SECOND)));

    let mut env = restarted(SECOND);
    env.pass_quietly(RECOVERY);
    let refused = ToClient::Refused { reason: "worker w1 is lost".to_owned() };
    assert_eq!(env.client_says(15, "admin", drain("w1"))[..1], [to_client(15, refused)]);
}

impl Env {
    /// Time passes; who waits is told nothing that matters here.
    fn pass_quietly(&mut self, time: Duration) -> Vec<Action> {
        let mut all = self.pass(time);
        all.retain(|action| {
            !matches!(action, Action::ToClient { message, .. }
            if matches!(message, ToClient::Waiting(_)))
        });
        all
    }
}
