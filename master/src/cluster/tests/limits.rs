//! What is refused, with field, value and range.

use super::env::*;
use crate::cluster::limits::{APPS_LIVE_MAX, validate_app, validate_worker};
use crate::placement::Policy;
use expect_test::expect;
use offshoot_proto::cluster::{AppSpec, FromClient, ToClient, ToWorker, WorkerInfo};

fn worker_errors(change: impl Fn(&mut WorkerInfo)) -> String {
    let mut info = worker("w1", 4);
    change(&mut info);
    validate_worker(&worker_id("w1"), &info).unwrap_err().to_string()
}

fn app_errors(change: impl Fn(&mut AppSpec)) -> String {
    let mut spec = app(None, None);
    change(&mut spec);
    validate_app(&spec, &Policy::default()).unwrap_err().to_string()
}

#[test]
fn workers_are_refused_with_field_value_and_range() {
    let errors = [
        worker_errors(|info| info.cores = 0),
        worker_errors(|info| info.cores = 1 << 31),
        worker_errors(|info| info.memory_bytes = 1),
        worker_errors(|info| info.memory_bytes = u64::MAX),
        worker_errors(|info| info.id = worker_id("w2")),
        worker_errors(|info| info.address.set_port(0)),
        worker_errors(|info| *info = holding(info.clone(), &[(executor(1, 0), 5)])),
        worker_errors(|info| *info = holding(info.clone(), &[(executor(1, 0), 0)])),
        worker_errors(|info| info.executors = vec![held(); 5000]),
    ];
    expect![[r#"
        cores is 0; it must be from 1 to 4096
        cores is 2147483648; it must be from 1 to 4096
        memory is 1 bytes; it must be from 64 MiB to 1024 TiB
        memory is 18446744073709551615 bytes; it must be from 64 MiB to 1024 TiB
        worker id is "w2", but the certificate is for w1
        address is 127.0.0.1:0; it must name a port that others can dial
        cores of held executors 5 is more than cores 4: stop executors first
        cores of a held executor is 0; it must be from 1 to 4096
        executors takes 5000 entries; the limit is 4096"#]]
    .assert_eq(&errors.join("\n"));
}

fn held() -> offshoot_proto::cluster::HeldExecutor {
    holding(worker("w1", 1), &[(executor(1, 0), 1)]).executors.remove(0)
}

#[test]
fn applications_are_refused_with_field_value_and_range() {
    let errors = [
        app_errors(|app| app.name = " ".to_owned()),
        app_errors(|app| app.name = "n".repeat(257)),
        app_errors(|app| app.arguments = vec!["a".repeat(1 << 18)]),
        app_errors(|app| app.request.executor_memory_bytes = 1 << 20),
        app_errors(|app| app.request.executor_cores = Some(0)),
        app_errors(|app| app.request.executor_cores = Some(5000)),
        app_errors(|app| app.request.total_cores = Some(0)),
        app_errors(|app| app.request.executors_max = Some(0)),
        app_errors(|app| {
            app.request.executor_cores = Some(8);
            app.request.total_cores = Some(7);
        }),
        app_errors(|app| app.settings.task_memory_bytes = 0),
        app_errors(|app| app.settings.shuffle_partitions = 1_000_000_000),
        app_errors(|app| app.settings.task_disk_bytes_max = 0),
    ];
    expect![[r#"
        length of the application's name is 1; it must be from 1 to 256
        name of the application takes 257 bytes; the limit is 256
        arguments and environment takes 262145 bytes; the limit is 262144
        executor-memory is 1 MiB; it must be from 64 MiB to 1024 TiB
        executor-cores is 0; it must be from 1 to 4096
        executor-cores is 5000; it must be from 1 to 4096
        total-executor-cores is 0; it must be from 1 to 40960000
        num-executors is 0; it must be from 1 to 40960000
        executor-cores 8 is more than total-executor-cores 7: raise the total
        task-memory is 0; it must be from 1048576 to 4294967296
        shuffle-partitions is 1000000000; it must be from 0 to 1048576
        task-disk-max is 0; it must be from 1048576 to 1125899906842624"#]]
    .assert_eq(&errors.join("\n"));
}

#[test]
fn a_refused_peer_hears_why_and_is_cut() {
    let mut env = Env::new();
    let reason = "cores is 0; it must be from 1 to 4096".to_owned();
    assert_eq!(
        env.register_worker(1, worker("w1", 0)),
        [to_worker(1, ToWorker::Refused { reason }), close(1)]
    );
    let reason = "executor-cores is 0; it must be from 1 to 4096".to_owned();
    assert_eq!(
        env.register_app(2, 1, app(Some(0), None)),
        [to_client(2, ToClient::Refused { reason }), close(2)]
    );
}

#[test]
fn a_worker_cannot_claim_executors_of_another_or_of_another_size() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    env.register_app(2, 1, app(Some(2), None));
    let id = executor(10, 0);
    let refusal = |env: &mut Env, info| match &env.register_worker(3, info)[..] {
        [crate::cluster::Action::ToWorker { message: ToWorker::Refused { reason }, .. }, _] => {
            reason.clone()
        }
        other => panic!("{other:?}"),
    };
    let errors = [
        refusal(&mut env, holding(worker("w2", 2), &[(id, 2)])),
        refusal(&mut env, holding(worker("w1", 2), &[(id, 1)])),
        refusal(&mut env, holding(worker("w1", 4), &[(id, 2), (id, 2)])),
    ];
    expect![[r#"
        executors: app-10/0 runs on worker w1
        executors: app-10/0 has 1 cores and 1073741824 bytes; it was launched with 2 and 1073741824
        executors: app-10/0 is named twice"#]]
    .assert_eq(&errors.join("\n"));
}

#[test]
fn the_number_of_live_applications_is_bounded() {
    let mut env = Env::new();
    let count = APPS_LIVE_MAX as u64;
    for session in 0..count {
        env.register_app(session, u128::from(session), app(None, None));
    }
    let reason = format!(
        "{count} applications are registered, which is the limit; try again when one has ended"
    );
    let refused = to_client(count, ToClient::Refused { reason });
    let actions = env.register_app(count, u128::MAX, app(None, None));
    assert_eq!(actions, [refused, close(count)]);
    env.client_says(0, "ada", FromClient::Finished { succeeded: true });
    let actions = env.register_app(count + 1, u128::MAX, app(None, None));
    assert_eq!(actions[0], certify(count + 1, 10 + count, false));
}

#[test]
fn one_connection_is_one_application() {
    let mut env = Env::new();
    env.register_app(1, 1, app(None, None));
    let actions = env.register_app(1, 2, app(None, None));
    let reason = "register: this connection is that of app-10 already".to_owned();
    assert_eq!(actions[1], to_client(1, ToClient::Refused { reason }));
}
