//! Tenants with weights, quotas and guarantees, and what is asked back for whom.

use super::env::*;
use crate::cluster::{Action, Event, SessionId, Tenants};
use crate::placement::Policy;
use offshoot_proto::cluster::{AppSpec, FromClient, ToClient, ToWorker};
use offshoot_proto::id::{AppId, ExecutorId};
use offshoot_proto::tenant::{TenantChange, TenantOrder, TenantPolicy, TenantRules};
use offshoot_proto::waiting::{Quota, WaitReason};
use std::collections::BTreeMap;
use std::time::Duration;

const ADA: u64 = 11;
const BOB: u64 = 12;

fn weight(weight: u32) -> TenantRules {
    TenantRules { weight, ..TenantRules::default() }
}

/// One worker, `w1` at session 1, and tenants of these rules.
fn env(cores: u32, ada: TenantRules, bob: TenantRules) -> Env {
    let mut env = Env::new();
    env.admit("ada", ada);
    env.admit("bob", bob);
    env.register_worker(1, worker("w1", cores));
    env
}

fn launched(actions: &[Action]) -> Vec<(u64, u32)> {
    let order = |action: &Action| match action {
        Action::Launch { order, .. } => Some((order.executor.app.0, order.cores)),
        _ => None,
    };
    actions.iter().filter_map(order).collect()
}

/// What each application is asked to give back, by the last list for each.
fn asked(actions: &[Action]) -> BTreeMap<u64, Vec<u32>> {
    let mut asked = BTreeMap::new();
    for action in actions {
        if let Action::ToClient { session, message: ToClient::GiveBack { executors } } = action {
            let numbers = executors.iter().map(|id| id.number.0).collect();
            asked.insert(session.0, numbers);
        }
    }
    asked
}

impl Env {
    fn submit(&mut self, session: u64, tenant: &str, spec: AppSpec) -> Vec<Action> {
        self.client_says(session, tenant, register(session.into(), spec))
    }

    fn release(&mut self, session: u64, tenant: &str, executors: &[ExecutorId]) -> Vec<Action> {
        let executors = executors.to_vec();
        self.client_says(session, tenant, FromClient::Release { executors })
    }

    fn cores_of(&self, tenant: &str) -> u32 {
        self.cluster.shares.tenant_used(tenant).cores
    }

    /// Does what a good driver does at once, and what its worker then says.
    fn obey(&mut self, session: u64, tenant: &str, actions: &[Action]) -> Vec<Action> {
        let mut after = Vec::new();
        for action in actions {
            if let Action::ToClient { session: to, message: ToClient::GiveBack { executors } } =
                action
                && to.0 == session
            {
                after.extend(self.release(session, tenant, executors));
                for executor in executors {
                    after.extend(self.gone(1, "w1", *executor));
                }
            }
        }
        after
    }

    fn waiting_reason(&mut self, session: u64, app: u64) -> WaitReason {
        let admin = SessionId(900 + session);
        let message = FromClient::Explain(AppId(app));
        let asked = self.client_says(admin.0, "admin", message);
        let [Action::ToClient { message: ToClient::Explain { query }, .. }] = asked[..] else {
            panic!("{asked:?}")
        };
        let stages = Default::default();
        let told = self.client_says(session, "ada", FromClient::Explained { query, stages });
        let [Action::ToClient { session: to, message: ToClient::Explanation(explanation) }] =
            &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!(*to, admin);
        explanation.missing.clone().expect("something is missing").reason
    }
}

#[test]
fn by_weight_three_to_one_and_all_to_who_is_left() {
    for executor_cores in [Some(1), None] {
        let mut env = env(8, weight(1), weight(3));
        env.submit(ADA, "ada", app(executor_cores, None));
        assert_eq!(env.cores_of("ada"), 8);
        let actions = env.submit(BOB, "bob", app(executor_cores, None));
        let given = match executor_cores {
            // The newest first; nothing that is not owed.
            Some(_) => vec![2, 3, 4, 5, 6, 7],
            None => vec![0],
        };
        assert_eq!(asked(&actions), BTreeMap::from([(ADA, given)]));
        let actions = env.obey(ADA, "ada", &actions);
        assert_eq!((env.cores_of("ada"), env.cores_of("bob")), (2, 6), "{actions:?}");
        assert_eq!(asked(&env.pass(Duration::from_secs(3))), BTreeMap::new());
        let mut actions = env.client_says(BOB, "bob", FromClient::Finished { succeeded: true });
        let executors: Vec<_> = actions.iter().filter_map(killed).collect();
        for executor in executors {
            actions.extend(env.gone(1, "w1", executor));
        }
        assert_eq!(env.cores_of("ada"), 8);
    }
}

fn killed(action: &Action) -> Option<ExecutorId> {
    match action {
        Action::ToWorker { message: ToWorker::Kill(id), .. } => Some(*id),
        _ => None,
    }
}

#[test]
fn what_is_free_goes_by_weight_core_by_core() {
    let mut env = env(8, weight(1), weight(3));
    for (session, tenant) in [(ADA, "ada"), (BOB, "bob")] {
        let mut spec = app(None, None);
        spec.request.executors_wanted = Some(0);
        assert_eq!(launched(&env.submit(session, tenant, spec)), []);
    }
    let mut blocker = app(Some(8), None);
    blocker.request.executors_wanted = Some(1);
    env.submit(13, "admin", blocker);
    for (session, tenant) in [(ADA, "ada"), (BOB, "bob")] {
        env.client_says(session, tenant, FromClient::Target { executors: 1 });
    }
    let executors = [executor(12, 0)];
    env.release(13, "admin", &executors);
    let actions = env.gone(1, "w1", executors[0]);
    let mut given = launched(&actions);
    given.sort_unstable();
    // The admin wanted one that it has released itself: one more is nobody's wish.
    assert_eq!(given, [(10, 2), (11, 6)], "{actions:?}");
}

#[test]
fn who_has_half_of_what_it_is_owed_waits_a_moment() {
    let mut env = env(8, weight(1), weight(1));
    env.submit(BOB, "bob", app(Some(1), Some(4)));
    let mut spec = app(Some(1), None);
    spec.request.executors_wanted = Some(2);
    env.submit(ADA, "ada", spec);
    env.submit(13, "admin", app(Some(1), None));
    assert_eq!((env.cores_of("ada"), env.cores_of("bob"), env.cores_of("admin")), (2, 4, 2));
    let actions = env.client_says(ADA, "ada", FromClient::Target { executors: 3 });
    assert_eq!(asked(&actions), BTreeMap::new());
    let timeout = Policy::default().share_release_timeout;
    assert_eq!(asked(&env.pass(timeout / 2)), BTreeMap::new());
    let actions = env.pass(timeout);
    assert_eq!(asked(&actions), BTreeMap::from([(BOB, vec![3])]));
}

#[test]
fn what_is_asked_for_stays_so_when_half_of_it_has_come() {
    let mut env = env(8, weight(1), weight(1));
    env.submit(ADA, "ada", app(Some(1), None));
    let actions = env.submit(BOB, "bob", app(Some(1), None));
    assert_eq!(asked(&actions), BTreeMap::from([(ADA, vec![4, 5, 6, 7])]));
    for number in [4, 5] {
        env.release(ADA, "ada", &[executor(10, number)]);
        env.gone(1, "w1", executor(10, number));
    }
    assert_eq!(env.cores_of("bob"), 2);
    assert_eq!(asked(&env.pass(Duration::from_millis(500))), BTreeMap::new());
}

#[test]
fn quotas_are_hard() {
    let rules = TenantRules {
        cores_max: Some(3),
        memory_bytes_max: Some(100 * GIB),
        running_max: Some(1),
        submitted_max: Some(2),
        ..TenantRules::default()
    };
    let mut env = env(16, rules, weight(1));
    assert_eq!(launched(&env.submit(ADA, "ada", app(Some(2), None))), [(10, 2)]);
    let quota = |quota| WaitReason::Quota(quota);
    assert_eq!(env.waiting_reason(ADA, 10), quota(Quota::Cores { used: 2, max: 3 }));
    assert_eq!(launched(&env.submit(21, "ada", app(Some(1), None))), []);
    assert_eq!(env.waiting_reason(21, 11), quota(Quota::Running { max: 1 }));
    let refused = env.submit(22, "ada", app(Some(1), None));
    let reason =
        "tenant ada has as many applications as its quota lets it, 2; wait for one to end, \
                  or ask the operator"
            .to_owned();
    assert_eq!(refused, [to_client(22, ToClient::Refused { reason }), close(22)]);
    env.admit("ada", TenantRules { memory_bytes_max: Some(GIB), ..TenantRules::default() });
    assert_eq!(
        env.waiting_reason(ADA, 10),
        quota(Quota::Memory { used_bytes: GIB, max_bytes: GIB })
    );
}

#[test]
fn nobody_is_brought_below_its_guarantee_and_it_comes_first() {
    let guaranteed = TenantRules { cores_guaranteed: 6, ..TenantRules::default() };
    let mut env = env(8, guaranteed.clone(), weight(1000));
    env.submit(ADA, "ada", app(Some(1), None));
    let actions = env.submit(BOB, "bob", app(Some(1), None));
    assert_eq!(asked(&actions), BTreeMap::from([(ADA, vec![6, 7])]));

    let mut env = self::env(8, guaranteed, weight(1000));
    env.submit(BOB, "bob", app(Some(1), None));
    let actions = env.submit(ADA, "ada", app(Some(1), None));
    assert_eq!(asked(&actions), BTreeMap::from([(BOB, vec![2, 3, 4, 5, 6, 7])]));
    env.obey(BOB, "bob", &actions);
    assert_eq!((env.cores_of("ada"), env.cores_of("bob")), (6, 2));
}

#[test]
fn what_is_not_given_back_is_taken_only_where_preemption_is_on() {
    let preemption = Some(Duration::from_secs(5));
    for preemption in [None, preemption] {
        let mut env = Env::with_policy(Policy { preemption, ..Policy::default() });
        env.register_worker(1, worker("w1", 2));
        env.submit(ADA, "ada", app(Some(1), None));
        let actions = env.submit(BOB, "bob", app(Some(1), None));
        assert_eq!(asked(&actions), BTreeMap::from([(ADA, vec![1])]));
        assert_eq!(env.pass(Duration::from_secs(4)).iter().filter_map(killed).next(), None);
        let actions = env.pass(Duration::from_secs(2));
        let killed: Vec<_> = actions.iter().filter_map(killed).collect();
        if preemption.is_none() {
            assert_eq!(killed, []);
            continue;
        }
        assert_eq!(killed, [executor(10, 1)]);
        let reason = "preempted: tenant bob is owed it, and it was not given back within 5 s";
        assert!(actions.contains(&gone_message(ADA, executor(10, 1), reason)), "{actions:?}");
        assert_eq!(launched(&env.gone(1, "w1", executor(10, 1))), [(11, 1)]);
    }
}

#[test]
fn a_driver_may_give_back_another_executor_instead() {
    let mut env = env(4, weight(1), weight(1));
    env.submit(ADA, "ada", app(Some(1), None));
    let actions = env.submit(BOB, "bob", app(Some(1), None));
    assert_eq!(asked(&actions), BTreeMap::from([(ADA, vec![2, 3])]));
    let actions = env.release(ADA, "ada", &[executor(10, 0)]);
    assert_eq!(asked(&actions), BTreeMap::from([(ADA, vec![3])]));
    // Somebody else's executor cannot be released, and what stops is not released twice.
    assert_eq!(env.release(BOB, "bob", &[executor(10, 1)]), []);
    assert_eq!(env.cluster.rejected(), 1);
    assert_eq!(env.release(ADA, "ada", &[executor(10, 0)]), []);
}

#[test]
fn a_wish_that_is_gone_takes_its_requests_back() {
    let mut env = env(4, weight(1), weight(1));
    env.submit(ADA, "ada", app(Some(1), None));
    env.submit(BOB, "bob", app(Some(1), None));
    let actions = env.client_says(BOB, "bob", FromClient::Target { executors: 0 });
    let later = env.pass(Duration::from_secs(1));
    let all: Vec<_> = actions.into_iter().chain(later).collect();
    assert_eq!(asked(&all), BTreeMap::from([(ADA, vec![])]));
}

#[test]
fn of_a_fifo_tenant_the_oldest_application_comes_first() {
    let fifo = TenantRules { policy: TenantPolicy::Fifo, ..TenantRules::default() };
    let mut env = env(4, fifo, weight(1));
    for session in [ADA, 21, 22] {
        let mut spec = app(Some(1), None);
        spec.request.executors_wanted = Some(if session == ADA { 4 } else { 2 });
        env.submit(session, "ada", spec);
    }
    let mut given = Vec::new();
    for number in 0..4 {
        env.client_says(ADA, "ada", FromClient::Target { executors: 3 - number });
        env.release(ADA, "ada", &[executor(10, number)]);
        given.extend(launched(&env.gone(1, "w1", executor(10, number))));
    }
    assert_eq!(given, [(11, 1), (11, 1), (12, 1), (12, 1)]);
}

#[test]
fn large_executors_are_not_starved_by_small_ones() {
    let mut env = env(4, weight(1), weight(1));
    env.submit(ADA, "ada", app(Some(1), None));
    let actions = env.submit(BOB, "bob", app(Some(2), None));
    assert_eq!(asked(&actions), BTreeMap::from([(ADA, vec![2, 3])]));
    // The first core that comes back is kept until the second has come too.
    env.release(ADA, "ada", &[executor(10, 3)]);
    assert_eq!(launched(&env.gone(1, "w1", executor(10, 3))), []);
    env.release(ADA, "ada", &[executor(10, 2)]);
    assert_eq!(launched(&env.gone(1, "w1", executor(10, 2))), [(11, 2)]);
}

#[test]
fn the_admin_adds_changes_and_removes_tenants_and_nobody_else_does() {
    let mut env = Env::new();
    let add = |name: &str| {
        let rules = TenantChange { weight: Some(3), ..TenantChange::default() };
        FromClient::Tenants(TenantOrder::Add { name: name.to_owned(), rules })
    };
    let refused = |actions: Vec<Action>| match &actions[..] {
        [Action::ToClient { message: ToClient::Refused { reason }, .. }, Action::Close { .. }] => {
            reason.clone()
        }
        other => panic!("{other:?}"),
    };
    let reason = refused(env.client_says(1, "ada", add("eve")));
    assert!(reason.contains("may not see or change tenants"), "{reason}");
    let actions = env.client_says(1, "admin", add("eve"));
    let [Action::SaveTenants { added, tenants, before, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(added.as_deref(), Some("eve"));
    assert_eq!(tenants.rules().count(), before.rules().count() + 1);
    for (name, words) in [("eve", "already"), ("../x", "small letter"), ("", "small letter")] {
        let reason = refused(env.client_says(1, "admin", add(name)));
        assert!(reason.contains(words), "{reason}");
    }
    let remove = |name: &str| FromClient::Tenants(TenantOrder::Remove { name: name.to_owned() });
    assert!(refused(env.client_says(1, "admin", remove("admin"))).contains("cannot be removed"));
    assert!(refused(env.client_says(1, "admin", remove("mallory"))).contains("no tenant mallory"));
    env.submit(2, "eve", app(None, None));
    assert!(refused(env.client_says(1, "admin", remove("eve"))).contains("1 application"));
    env.client_says(2, "eve", FromClient::Finished { succeeded: true });
    assert!(matches!(env.client_says(1, "admin", remove("eve"))[..], [Action::SaveTenants { .. }]));
    let reason = refused(env.submit(3, "eve", app(None, None)));
    assert!(reason.contains("tenant eve is not let in"), "{reason}");
    assert!(refused(env.client_says(1, "admin", add("eve"))).contains("choose another name"));
    // What could not be written down does not hold.
    let tenants = Tenants::new([("eve".to_owned(), TenantRules::default())], []);
    env.handle(Event::TenantsUnsaved { tenants });
    assert_eq!(launched(&env.submit(4, "eve", app(None, None))), []);
}

#[test]
fn what_was_given_up_and_comes_back_does_not_make_an_application_run() {
    let mut env = env(4, TenantRules { running_max: Some(1), ..weight(1) }, weight(1));
    env.submit(ADA, "ada", app(Some(2), None));
    env.submit(21, "ada", app(Some(2), None));
    env.closed(1);
    let mut all = Vec::new();
    while env.cores_of("ada") > 0 {
        for (session, tenant) in [(ADA, "ada"), (21, "ada")] {
            env.client_says(session, tenant, FromClient::Heartbeat);
        }
        env.now += Duration::from_secs(1);
        env.cluster.handle_timeout(env.now, &mut all);
    }
    // The second one is served by a worker that comes now; the first has two that it gave up.
    env.client_says(ADA, "ada", FromClient::Target { executors: 0 });
    assert_eq!(launched(&env.register_worker(2, worker("w2", 2))), [(11, 2)]);
    env.client_says(ADA, "ada", FromClient::Target { executors: 5 });
    let back = holding(worker("w1", 8), &[(executor(10, 0), 2), (executor(10, 1), 2)]);
    assert_eq!(launched(&env.register_worker(3, back)), [(11, 2), (11, 2)]);
}
