//! What a waiting application is told, and when.

use super::env::*;
use crate::cluster::limits::{BUSY_AFTER, BUSY_AGAIN, RECOVERY};
use crate::cluster::{Action, Cluster, Leases};
use crate::placement::Policy;
use offshoot_proto::cluster::{FromClient, ToClient};
use offshoot_proto::id::AppId;
use offshoot_proto::tenant::{TenantPolicy, TenantRules};
use offshoot_proto::waiting::{Busy, Holder, Shortage, Size, TooLarge, WaitReason};
use std::time::Duration;

fn size(cores: u32, gib: u64) -> Size {
    Size { cores, memory_bytes: gib * GIB }
}

fn waiting(session: u64, reason: WaitReason) -> Action {
    to_client(session, ToClient::Waiting(reason))
}

fn too_large(short: Shortage, asked: Size, largest: Size) -> WaitReason {
    WaitReason::TooLarge(TooLarge { short, asked, largest })
}

fn holder(app: u64, tenant: Option<&str>, held: Size) -> Holder {
    Holder { app: AppId(app), tenant: tenant.map(str::to_owned), held }
}

impl Env {
    /// Lets time pass in which everybody is heard.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<Action> {
        let (end, mut all) = (self.now + time, Vec::new());
        while self.now < end {
            self.now = end.min(self.now + Duration::from_secs(1));
            for session in 1..25 {
                self.client_says(session, "ada", FromClient::Heartbeat);
                for id in ["w1", "w2"] {
                    let beat = offshoot_proto::cluster::FromWorker::Heartbeat;
                    self.worker_says(session, id, beat);
                }
            }
            let now = self.now;
            self.cluster.handle_timeout(now, &mut all);
            all = self.save(all);
            let next = self.cluster.next_timeout();
            assert!(next.is_none_or(|due| due > now), "{next:?} is due at {now:?} already");
        }
        all
    }
}

#[test]
fn waiting_is_explained_once_and_again_when_it_changes() {
    let mut env = Env::new();
    let spec = app(Some(4), None);
    assert_eq!(
        env.register_app(2, 1, spec.clone()),
        [certify(2, 10, false), app_note(10), waiting(2, WaitReason::NoWorkers)]
    );
    let largest = |cores| too_large(Shortage::Cores, size(4, 1), size(cores, u64::from(cores)));
    assert_eq!(
        env.register_worker(1, worker("w1", 2)),
        [registered(1), worker_note("w1", 2), waiting(2, largest(2))]
    );
    assert_eq!(env.register_worker(3, worker("w2", 1)), [registered(3), worker_note("w2", 1)]);
    assert_eq!(
        env.register_worker(4, worker("w3", 8)),
        [
            registered(4),
            worker_note("w3", 8),
            launch(4, executor(10, 0), 4, &spec),
            launch(4, executor(10, 1), 4, &spec),
        ]
    );
}

#[test]
fn what_no_worker_can_hold_is_told_at_once_busy_or_not() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 8));
    let mut narrow = worker("w2", 2);
    narrow.memory_bytes = 16 * GIB;
    env.register_worker(2, narrow);
    env.register_app(3, 1, app(None, None));
    let mut told = |session: u64, cores: u32, gib: u64| {
        let mut spec = app(Some(cores), None);
        spec.request.executor_memory_bytes = gib * GIB;
        let actions = env.register_app(session, u128::from(session), spec);
        match &actions[2..] {
            [] => None,
            [Action::ToClient { message: ToClient::Waiting(reason), .. }] => Some(reason.clone()),
            other => panic!("{other:?}"),
        }
    };
    let reason = |short, cores, gib| Some(too_large(short, size(cores, gib), size(8, 16)));
    assert_eq!(told(4, 10, 1), reason(Shortage::Cores, 10, 1));
    assert_eq!(told(5, 1, 17), reason(Shortage::Memory, 1, 17));
    assert_eq!(told(6, 9, 17), reason(Shortage::Both, 9, 17));
    assert_eq!(told(7, 4, 12), reason(Shortage::Together, 4, 12));
    assert_eq!(told(8, 8, 8), None, "the worker is large enough, though another has it");
}

#[test]
fn a_busy_cluster_is_told_after_a_moment_with_who_holds_what() {
    let mut env = Env::new();
    // Those who came later are owed nothing.
    env.admit("ada", TenantRules { policy: TenantPolicy::Fifo, ..Default::default() });
    env.register_worker(1, worker("w1", 4));
    env.register_worker(2, holding(worker("w2", 4), &[(executor(9, 4), 1)]));
    env.register_app(3, 1, app(Some(3), None));
    env.register_app(4, 2, app(Some(2), None));
    assert_eq!(env.pass(BUSY_AFTER - Duration::from_secs(1)), []);
    let holders = vec![holder(10, Some("ada"), size(6, 2)), holder(9, None, size(1, 1))];
    let busy = |free, holders| {
        let (short, asked) = (Shortage::Cores, size(2, 1));
        waiting(4, WaitReason::Busy(Busy { short, asked, free, holders, others: 0 }))
    };
    assert_eq!(env.pass(Duration::from_secs(1)), [busy(size(1, 3), holders)]);
    assert_eq!(env.pass(2 * BUSY_AGAIN), [], "nothing has changed");
    env.gone(2, "w2", executor(9, 4));
    // The first application has the same cores again; only the free ones are others.
    assert_eq!(env.pass(BUSY_AGAIN - Duration::from_secs(1)), []);
    let holders = vec![holder(10, Some("ada"), size(6, 2))];
    assert_eq!(env.pass(Duration::from_secs(1)), [busy(size(1, 3), holders)]);
}

#[test]
fn memory_that_is_short_is_told_as_such() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 8));
    let mut first = app(Some(1), Some(2));
    first.request.executor_memory_bytes = 3 * GIB;
    env.register_app(3, 1, first.clone());
    env.register_app(4, 2, first);
    let busy = Busy {
        short: Shortage::Memory,
        asked: size(1, 3),
        free: size(6, 2),
        holders: vec![holder(10, Some("ada"), size(2, 6))],
        others: 0,
    };
    assert_eq!(env.pass(BUSY_AFTER), [waiting(4, WaitReason::Busy(busy))]);
}

#[test]
fn of_many_who_hold_the_largest_are_named() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 11));
    for (session, cores) in [(2, 1), (3, 2), (4, 1), (5, 4), (6, 3)] {
        let key = u128::from(session);
        env.register_app(session, key, app(Some(cores), Some(cores)));
    }
    env.register_app(7, 7, app(None, None));
    let told = env.pass(BUSY_AFTER);
    let [Action::ToClient { message: ToClient::Waiting(WaitReason::Busy(busy)), .. }] = &told[..]
    else {
        panic!("{told:?}")
    };
    let named: Vec<_> = busy.holders.iter().map(|holder| holder.app.0).collect();
    assert_eq!((named, busy.others), (vec![13, 14, 11], 2));
}

#[test]
fn a_short_wait_is_not_told() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.register_app(2, 1, app(None, None));
    env.register_app(3, 2, app(None, None));
    env.client_says(2, "ada", FromClient::Finished { succeeded: true });
    assert_eq!(env.gone(1, "w1", executor(10, 0)).len(), 1, "a launch");
    assert_eq!(env.pass(2 * BUSY_AFTER), []);
}

#[test]
fn workers_without_a_connection_are_out_of_reach() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    env.closed(1);
    env.register_app(2, 1, app(None, None));
    assert_eq!(env.pass(BUSY_AFTER), [waiting(2, WaitReason::OutOfReach)]);
}

#[test]
fn a_restarted_master_calls_nothing_impossible_before_workers_can_be_back() {
    let mut env = Env::new();
    env.now = Duration::ZERO;
    env.register_worker(1, worker("w1", 1));
    let actions = env.register_app(2, 1, app(Some(4), None));
    assert_eq!(actions[2..], [waiting(2, WaitReason::Recovering)]);
    assert_eq!(env.pass(RECOVERY - Duration::from_secs(1)), []);
    let reason = too_large(Shortage::Cores, size(4, 1), size(1, 1));
    assert_eq!(env.pass(Duration::from_secs(1)), [waiting(2, reason.clone())]);

    let mut origin = origin();
    origin.epoch.0 = 1;
    let mut env = Env::new();
    env.cluster = Cluster::new(origin, Leases::default(), Policy::default(), [MODULE], tenants());
    env.now = Duration::ZERO;
    env.register_worker(1, worker("w1", 1));
    let actions = env.register_app(2, 1, app(Some(4), None));
    assert_eq!(actions[2..], [waiting(2, reason)], "the first life has nobody to wait for");
}

#[test]
fn who_holds_the_short_resource_of_large_enough_workers_comes_first() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 8));
    // A worker that the waiting application would not fit on, whoever holds it.
    env.register_worker(2, holding(worker("w2", 2), &[(executor(9, 0), 2)]));
    let asks = |cores, gib| {
        let mut spec = app(Some(cores), Some(cores));
        spec.request.executor_memory_bytes = gib * GIB;
        spec
    };
    env.register_app(3, 1, asks(5, 1));
    env.register_app(4, 2, asks(1, 6));
    env.register_app(5, 3, asks(1, 4));
    let busy = Busy {
        short: Shortage::Memory,
        asked: size(1, 4),
        free: size(2, 1),
        holders: vec![holder(11, Some("ada"), size(1, 6)), holder(10, Some("ada"), size(5, 1))],
        others: 0,
    };
    assert_eq!(env.pass(BUSY_AFTER), [waiting(5, WaitReason::Busy(busy))]);
}

#[test]
fn of_many_different_waits_a_few_are_looked_into_at_a_time() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 8));
    env.register_app(3, 1, app(Some(8), None));
    for cores in 1..7 {
        env.register_app(10 + u64::from(cores), 10 + u128::from(cores), app(Some(cores), None));
    }
    env.now += BUSY_AFTER;
    let told = |env: &mut Env| {
        let mut out = Vec::new();
        env.cluster.handle_timeout(env.now, &mut out);
        let waits = |action: &&Action| {
            matches!(action, Action::ToClient { message: ToClient::Waiting(_), .. })
        };
        (out.iter().filter(waits).count(), env.cluster.next_timeout() <= Some(env.now))
    };
    assert_eq!(told(&mut env), (4, true));
    assert_eq!(told(&mut env), (2, false));
}
