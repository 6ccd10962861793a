//! What is bounded: giving back on workers with more executors than a round looks at.

use super::env::*;
use crate::cluster::limits::{CORES_MAX, WORKERS_LOST_KEPT};
use crate::cluster::{Action, SessionId};
use crate::placement::Policy;
use offshoot_proto::cluster::{AppSpec, FromClient, FromWorker, ToClient, ToWorker};
use offshoot_proto::id::{AppId, ExecutorId};
use offshoot_proto::tenant::TenantRules;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::time::Duration;

/// Executors that the last list asks of whoever is at a session.
fn asked(actions: &[Action], session: u64) -> Option<Vec<ExecutorId>> {
    let lists = actions.iter().rev().filter_map(|action| match action {
        Action::ToClient { session: to, message: ToClient::GiveBack { executors } } => {
            (to.0 == session).then(|| executors.clone())
        }
        _ => None,
    });
    lists.into_iter().next()
}

fn wait(env: &mut Env, millis: u64) -> Vec<Action> {
    let mut out = Vec::new();
    env.now += Duration::from_millis(millis);
    env.cluster.handle_timeout(env.now, &mut out);
    out
}

/// Lets a pass come to its end.
fn settle(env: &mut Env) -> Vec<Action> {
    let mut out = Vec::new();
    while env.cluster.next_timeout().is_some_and(|due| due <= env.now) {
        env.cluster.handle_timeout(env.now, &mut out);
    }
    out
}

#[test]
fn so_many_are_asked_back_at_a_time_and_then_others() {
    let mut env = Env::new();
    for session in 1..6 {
        env.register_worker(session, worker(&format!("w{session}"), CORES_MAX));
    }
    env.client_says(11, "ada", register(1, app(Some(1), None)));
    settle(&mut env);
    let actions = env.client_says(12, "bob", register(1, app(Some(1), None)));
    let first = asked(&actions, 11).unwrap();
    assert_eq!(first.len(), 4096);
    assert_eq!(asked(&wait(&mut env, 200), 11), None, "the same are meant");
    let release = FromClient::Release { executors: first[..100].to_vec() };
    let actions = env.client_says(11, "ada", release);
    let second = asked(&actions, 11).or_else(|| asked(&wait(&mut env, 200), 11)).unwrap();
    assert_eq!(second.len(), 4096, "others for those that come");
    let known = first[100..].iter().all(|executor| second.contains(executor));
    assert!(known, "what was asked for stays so");
}

#[test]
fn who_is_searched_for_in_vain_keeps_nobody_from_having_a_turn() {
    let mut env = Env::new();
    let guaranteed = TenantRules { cores_guaranteed: 13, ..TenantRules::default() };
    env.admit("eve", guaranteed);
    env.admit("zoe", TenantRules::default());
    for session in 1..14 {
        env.register_worker(session, worker(&format!("w{session:02}"), CORES_MAX));
    }
    // One executor on each worker that stays: no worker is ever free as a whole.
    env.client_says(20, "eve", register(1, app(Some(1), Some(13))));
    env.client_says(21, "ada", register(1, app(Some(1), None)));
    settle(&mut env);
    assert_eq!(env.cluster.shares.tenant_used("ada").cores, 13 * (CORES_MAX - 1));
    let actions = env.client_says(22, "bob", register(1, app(Some(CORES_MAX), None)));
    assert_eq!(asked(&actions, 21), None);
    let actions = env.client_says(23, "zoe", register(1, app(Some(1), Some(1))));
    assert_eq!(asked(&actions, 21), None, "a moment after the last round");
    assert_eq!(asked(&wait(&mut env, 100), 21), None, "there was no time for her");
    let list = asked(&wait(&mut env, 100), 21);
    assert_eq!(list.map(|list| list.len()), Some(1));
}

/// An application that wants so many executors of a core.
fn wants(executors: u32) -> AppSpec {
    let mut spec = app(Some(1), None);
    spec.request.executors_wanted = Some(executors);
    spec
}

/// Workers of these cores, from a session on.
fn workers(env: &mut Env, from: u64, cores: &[u32]) {
    for (session, cores) in (from..).zip(cores) {
        env.register_worker(session, worker(&format!("w{session}"), *cores));
    }
}

#[test]
fn what_is_lifted_as_it_was_not_enough_is_no_part_of_how_many_may_be_asked_for() {
    let mut env = Env::new();
    let guaranteed = TenantRules { cores_guaranteed: 4399, ..TenantRules::default() };
    env.admit("eve", guaranteed);
    workers(&mut env, 1, &[2200, 2200]);
    env.client_says(20, "eve", register(1, wants(4400)));
    settle(&mut env);
    workers(&mut env, 3, &[1000]);
    env.client_says(11, "ada", register(1, app(Some(1), None)));
    settle(&mut env);
    // Eve stands highest: of hers one could go, again and again, and never the second.
    env.client_says(12, "bob", register(1, app(Some(2), Some(2))));
    let actions = wait(&mut env, 200);
    assert_eq!(asked(&actions, 20), None);
    assert_eq!(asked(&actions, 11).map(|list| list.len()), Some(2));
}

#[test]
fn what_helps_after_many_tries_in_vain_may_be_what_is_found_last() {
    for helpful in 7..16 {
        let mut env = Env::new();
        env.admit("eve", TenantRules { cores_guaranteed: 59, ..TenantRules::default() });
        workers(&mut env, 1, &[60 + helpful]);
        env.client_says(20, "eve", register(1, wants(60)));
        env.client_says(11, "ada", register(1, wants(helpful)));
        // Others of hers are where no executor of Bob's has room.
        workers(&mut env, 2, &[4, 4, 4]);
        env.client_says(11, "ada", FromClient::Target { executors: helpful + 12 });
        let mut actions = env.client_says(12, "bob", register(1, app(Some(8), Some(8))));
        actions.extend(wait(&mut env, 200));
        let of = |session| asked(&actions, session).map_or(0, |list| list.len());
        assert_eq!((of(11) + of(20), of(20) <= 1), (8, true), "{helpful}");
    }
}

#[test]
fn what_is_not_due_yet_is_no_part_of_how_many_may_be_asked_for() {
    let mut env = Env::new();
    env.admit("bob", TenantRules { weight: 1000, ..TenantRules::default() });
    env.admit("zoe", TenantRules::default());
    workers(&mut env, 1, &[CORES_MAX, 114]);
    env.client_says(12, "bob", register(1, wants(4200)));
    settle(&mut env);
    env.client_says(20, "zoe", register(1, wants(10)));
    workers(&mut env, 3, &[CORES_MAX, CORES_MAX]);
    env.client_says(11, "ada", register(1, app(Some(1), None)));
    settle(&mut env);
    // Half of it he has: he waits for a moment, and nobody waits for him.
    let actions = env.client_says(12, "bob", FromClient::Target { executors: 8390 });
    assert_eq!(asked(&actions, 11), None);
    assert_eq!(asked(&wait(&mut env, 200), 11), None);
    env.client_says(20, "zoe", FromClient::Target { executors: 21 });
    assert_eq!(asked(&wait(&mut env, 200), 11).map(|list| list.len()), Some(11));
}

#[test]
fn releasing_what_is_of_no_use_puts_no_deadline_off() {
    let preemption = Some(Duration::from_secs(5));
    let mut env = Env::with_policy(Policy { preemption, ..Policy::default() });
    env.admit("bob", TenantRules { weight: 10, ..TenantRules::default() });
    for (session, cores) in [(1, 2), (2, 1), (3, 1)] {
        env.register_worker(session, worker(&format!("w{session}"), cores));
    }
    env.client_says(11, "ada", register(1, app(Some(1), None)));
    let on_small = launched_at(&env, 2);
    let mut spec = app(Some(2), None);
    spec.request.executors_wanted = Some(1);
    let actions = env.client_says(12, "bob", register(1, spec));
    let first = asked(&actions, 11).unwrap();
    assert_eq!((first.len(), first.contains(&on_small)), (2, false));
    beat(&mut env, 4);
    let release = FromClient::Release { executors: vec![on_small] };
    env.client_says(11, "ada", release);
    let actions = beat(&mut env, 1);
    let killed = actions.iter().filter(|action| {
        matches!(action, Action::ToWorker { message: ToWorker::Kill(id), .. } if first.contains(id))
    });
    assert_eq!(killed.count(), 2, "{actions:?}");
}

#[test]
fn who_was_given_a_part_when_a_worker_leaves_wants_no_more_than_the_rest() {
    let policy = Policy { share_release_timeout: Duration::ZERO, ..Policy::default() };
    let mut env = Env::with_policy(policy);
    workers(&mut env, 1, &[8]);
    env.client_says(12, "bob", register(1, wants(8)));
    workers(&mut env, 2, &[3, 1]);
    env.cluster.launches_a_step = 3;
    let mut out = env.client_says(11, "ada", register(1, wants(4)));
    // What is left was to be on the worker that goes.
    out.extend(env.closed(3));
    out.extend(wait(&mut env, 0));
    let launches = out.iter().filter(|action| matches!(action, Action::Launch { .. }));
    assert_eq!(launches.count(), 3);
    out.extend(wait(&mut env, 200));
    assert_eq!(asked(&out, 12).map(|list| list.len()), Some(1));
}

#[test]
fn what_is_kept_for_nobody_any_more_is_given_in_steps() {
    for is_alone in [true, false] {
        let mut env = Env::new();
        workers(&mut env, 1, &[8]);
        env.client_says(11, "ada", register(1, wants(5)));
        if !is_alone {
            env.client_says(13, "admin", register(1, wants(0)));
        }
        let mut spec = app(Some(4), None);
        spec.request.executors_wanted = Some(1);
        env.client_says(12, "bob", register(1, spec));
        wait(&mut env, 200);
        env.client_says(11, "ada", FromClient::Target { executors: 8 });
        let rows = env.cluster.worker_rows();
        assert_eq!(rows[0].cores_used, 5, "the rest is kept for bob");
        env.cluster.launches_a_step = 1;
        wait(&mut env, 200);
        let mut out = env.client_says(12, "bob", FromClient::Finished { succeeded: true });
        let mut launches = 0;
        loop {
            let of_step = out.iter().filter(|it| matches!(it, Action::Launch { .. })).count();
            assert!(of_step <= 1, "{of_step} in a step");
            launches += of_step;
            if env.cluster.next_timeout().is_none_or(|due| due > env.now) {
                break;
            }
            out = wait(&mut env, 0);
        }
        assert_eq!(launches, 3);
    }
}

type Wish = (Option<u32>, Option<u32>, u32, bool);

/// What is launched where, in order, when applications with these wishes come to these workers.
fn launches(workers: &[u32], wishes: &[Wish], launches_a_step: usize) -> Vec<(u64, String)> {
    let mut env = Env::new();
    env.cluster.launches_a_step = launches_a_step;
    for (index, cores) in workers.iter().enumerate() {
        env.register_worker(1 + index as u64, worker(&format!("w{index}"), *cores));
    }
    let mut blocker = app(None, None);
    blocker.request.executor_memory_bytes = GIB / 2;
    env.client_says(30, "admin", register(1, blocker));
    settle(&mut env);
    for (index, (cores, total, wanted, is_bobs)) in wishes.iter().enumerate() {
        let mut spec = app(*cores, total.map(|total| total.max(cores.unwrap_or(1))));
        spec.request.executors_wanted = Some(*wanted);
        let tenant = if *is_bobs { "bob" } else { "ada" };
        env.client_says(31 + index as u64, tenant, register(1 + index as u128, spec));
    }
    settle(&mut env);
    // Every core becomes free at once.
    let rows = env.cluster.app_rows("admin");
    let held: Vec<_> = rows.iter().flat_map(|row| &row.executors).cloned().collect();
    let mut out = Vec::new();
    for executor in held {
        env.cluster.free(executor.id);
    }
    env.cluster.place(&mut out);
    out.extend(settle(&mut env));
    let launches = out.iter().filter_map(|action| match action {
        Action::Launch { session, order } => Some((session.0, format!("{order:?}"))),
        _ => None,
    });
    launches.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_pass_in_steps_gives_what_a_pass_at_once_gives(
        workers in vec(1..9_u32, 1..5),
        wishes in vec((option::of(1..4_u32), option::of(1..9_u32), 0..9_u32, any::<bool>()), 1..6),
        launches_a_step in 1..5_usize,
    ) {
        let at_once = launches(&workers, &wishes, usize::MAX);
        prop_assert_eq!(launches(&workers, &wishes, launches_a_step), at_once);
    }
}

/// The executor on the worker of a session.
fn launched_at(env: &Env, session: u64) -> ExecutorId {
    let rows = env.cluster.app_rows("admin");
    let executors = rows.iter().flat_map(|row| &row.executors);
    let mut on = executors.filter(|executor| executor.worker.0 == format!("w{session}"));
    on.next().unwrap().id
}

/// Seconds in which everybody is heard.
fn beat(env: &mut Env, seconds: u64) -> Vec<Action> {
    let mut all = Vec::new();
    for _ in 0..seconds {
        for (session, tenant) in [(11, "ada"), (12, "bob")] {
            env.client_says(session, tenant, FromClient::Heartbeat);
        }
        for session in 1..4 {
            env.worker_says(session, &format!("w{session}"), FromWorker::Heartbeat);
        }
        all.extend(wait(env, 1000));
    }
    all
}

#[test]
fn a_worker_that_was_forgotten_hears_of_the_end_of_what_has_files_there() {
    let mut env = Env::new();
    env.register_worker(1, worker("first", 1));
    env.client_says(11, "ada", register(1, app(Some(1), None)));
    for index in 0..=WORKERS_LOST_KEPT as u64 {
        env.register_worker(100 + index, worker(&format!("w{index}"), 1));
    }
    env.client_says(11, "ada", FromClient::Target { executors: 0 });
    // The first is silent longest and so is the first that is forgotten.
    env.now += Duration::from_secs(3);
    for index in 0..=WORKERS_LOST_KEPT as u64 {
        env.worker_says(100 + index, &format!("w{index}"), FromWorker::Heartbeat);
    }
    for _ in 0..6 {
        env.client_says(11, "ada", FromClient::Heartbeat);
        wait(&mut env, 2000);
    }
    let rows = env.cluster.worker_rows();
    assert!(!rows.iter().any(|row| row.id == worker_id("first")), "{} rows", rows.len());
    env.register_worker(400, worker("first", 1));
    let actions = env.client_says(11, "ada", FromClient::Finished { succeeded: true });
    let forget = Action::ToWorker { session: SessionId(400), message: ToWorker::Forget(AppId(10)) };
    assert!(actions.contains(&forget), "{actions:?}");
}
