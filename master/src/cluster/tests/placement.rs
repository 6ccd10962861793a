//! Who gets what of a cluster, and what waiting applications hear.

use super::env::*;
use crate::placement::{Policy, Rule, Sharing};
use offshoot_proto::cluster::ToClient;
use offshoot_proto::tenant::{TenantPolicy, TenantRules};

#[test]
fn an_application_gets_what_is_free_and_its_driver_hears_who_listens() {
    let mut env = Env::new();
    assert_eq!(env.register_worker(1, worker("w1", 4)), [registered(1), worker_note("w1", 4)]);
    let spec = app(Some(2), None);
    let (first, second) = (executor(10, 0), executor(10, 1));
    assert_eq!(
        env.register_app(2, 1, spec.clone()),
        [
            certify(2, 10, false),
            app_note(10),
            launch(1, first, 2, &spec),
            launch(1, second, 2, &spec),
        ]
    );
    let added = env.cluster_added(1, "w1", second);
    assert_eq!(added.cores, 2);
    assert_eq!(added.address, executor_address(second));
    assert_eq!(added.worker_address, address(7000));
}

impl Env {
    fn cluster_added(
        &mut self,
        session: u64,
        worker: &str,
        id: offshoot_proto::id::ExecutorId,
    ) -> offshoot_proto::cluster::ExecutorInfo {
        match &self.ready(session, worker, id)[..] {
            [crate::cluster::Action::ToClient { message: ToClient::ExecutorAdded(info), .. }] => {
                info.clone()
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_first_application_is_served_first_and_the_second_when_it_has_ended() {
    let mut env = Env::new();
    env.admit("ada", TenantRules { policy: TenantPolicy::Fifo, ..TenantRules::default() });
    env.register_worker(1, worker("w1", 4));
    let spec = app(None, None);
    env.register_app(2, 1, spec.clone());
    assert_eq!(env.register_app(3, 2, spec.clone()), [certify(3, 11, false), app_note(11)]);
    env.client_says(2, "ada", finished(true));
    assert_eq!(env.gone(1, "w1", executor(10, 0)), [launch(1, executor(11, 0), 4, &spec)]);
}

#[test]
fn nothing_is_launched_before_the_module_is_there() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 1));
    let mut spec = app(None, None);
    spec.module.0 = [8; 32];
    assert_eq!(env.register_app(2, 1, spec.clone()), [certify(2, 10, true), app_note(10)]);
    let hash = spec.module;
    assert_eq!(
        env.handle(crate::cluster::Event::ModuleStored { hash }),
        [launch(1, executor(10, 0), 1, &spec)]
    );
}

fn finished(succeeded: bool) -> offshoot_proto::cluster::FromClient {
    offshoot_proto::cluster::FromClient::Finished { succeeded }
}

#[test]
fn an_application_that_names_no_total_gets_the_operators() {
    let policy = Policy { default_cores: Some(3), ..Policy::default() };
    let mut env = Env::with_policy(policy);
    env.register_worker(1, worker("w1", 8));
    let spec = app(Some(1), None);
    assert_eq!(env.register_app(2, 1, spec)[2..].len(), 3, "executors");
    let spec = app(Some(1), Some(4));
    assert_eq!(env.register_app(3, 2, spec)[2..].len(), 4, "executors");
    let spec = app(Some(4), None);
    let reason = "executor-cores 4 is more than the master's default-cores 3: name \
         total-executor-cores, or lower executor-cores";
    let refused = to_client(4, ToClient::Refused { reason: reason.to_owned() });
    assert_eq!(env.register_app(4, 3, spec), [refused, close(4)]);
}

#[test]
fn consolidation_leaves_a_worker_free() {
    let rule = Rule { sharing: Sharing::Consolidate, ..Rule::default() };
    let mut env = Env::with_policy(Policy { rule, ..Policy::default() });
    env.register_worker(1, worker("w1", 4));
    env.register_worker(2, worker("w2", 4));
    let spec = app(Some(2), Some(4));
    let launches = [executor(10, 0), executor(10, 1)].map(|id| launch(1, id, 2, &spec));
    assert_eq!(env.register_app(3, 1, spec)[2..], launches);
}

#[test]
fn the_limit_of_executors_counts_those_that_are_held() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    let mut spec = app(Some(2), None);
    spec.request.executors_max = Some(2);
    let (first, second) = (executor(10, 0), executor(10, 1));
    assert_eq!(env.register_app(2, 1, spec.clone())[2..], [launch(1, first, 2, &spec)]);
    let more = env.register_worker(3, worker("w2", 8));
    assert_eq!(more[2..], [launch(3, second, 2, &spec)]);
    assert_eq!(env.gone(3, "w2", second)[1..], [launch(3, executor(10, 2), 2, &spec)]);
}

#[test]
fn an_executor_of_any_size_takes_all_cores_beside_the_last_memory() {
    let mut env = Env::new();
    let mut info = worker("w1", 8);
    info.memory_bytes = 4 * GIB;
    env.register_worker(1, info);
    let mut spec = app(None, None);
    spec.request.executor_memory_bytes = 4 * GIB;
    env.register_app(2, 1, spec);
    let rows = env.cluster.worker_rows();
    assert_eq!((rows[0].cores_used, rows[0].memory_used_bytes), (8, 4 * GIB));
}
