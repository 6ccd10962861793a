//! The tables of `offshoot workers` and `offshoot apps`.

use super::env::*;
use offshoot_proto::cluster::{
    AppRow, AppState, ExecutorState, FromClient, ToClient, WorkerRow, WorkerState,
};
use offshoot_proto::frame;
use offshoot_proto::id::AppId;
use offshoot_proto::limits::CONTROL_FRAME_BYTES_MAX;
use std::time::Duration;

#[test]
fn workers_show_what_is_granted_and_who_is_lost() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 4));
    env.register_app(2, 1, app(Some(3), None));
    let mut row = WorkerRow {
        id: worker_id("w1"),
        address: address(7000),
        state: WorkerState::Alive,
        cores: 4,
        cores_used: 3,
        memory_bytes: 4 * GIB,
        memory_used_bytes: GIB,
    };
    let list = env.client_says(5, "ada", FromClient::ListWorkers);
    assert_eq!(list, [to_client(5, ToClient::Workers(vec![row.clone()]))]);
    env.client_says(2, "ada", FromClient::Finished { succeeded: true });
    env.run_timeout();
    row.state = WorkerState::Lost;
    (row.cores_used, row.memory_used_bytes) = (0, 0);
    assert_eq!(env.cluster.worker_rows(), [row]);
}

fn states(rows: &[AppRow]) -> Vec<(u64, AppState)> {
    rows.iter().map(|row| (row.id.0, row.state)).collect()
}

#[test]
fn a_tenant_sees_its_own_applications_and_the_admin_all() {
    let mut env = Env::new();
    env.register_worker(1, worker("w1", 2));
    env.register_app(2, 1, app(Some(2), None));
    env.client_says(3, "bob", register(1, app(None, None)));
    env.client_says(4, "ada", register(2, app(None, None)));
    env.client_says(4, "ada", FromClient::Finished { succeeded: false });
    env.now += Duration::from_secs(1);
    let list = env.client_says(5, "ada", FromClient::ListApps);
    let [crate::cluster::Action::ToClient { message: ToClient::Apps(rows), .. }] = &list[..] else {
        panic!("{list:?}");
    };
    assert_eq!(states(rows), [(10, AppState::Running), (12, AppState::Failed)]);
    assert_eq!(rows[0].submitted, 1_100_000);
    assert_eq!((rows[0].cores, &rows[0].tenant[..]), (2, "ada"));
    assert_eq!(rows[0].executors[0].state, ExecutorState::Launching);
    assert_eq!(states(&env.cluster.app_rows("bob")), [(11, AppState::Waiting)]);
    assert_eq!(env.cluster.app_rows("admin").len(), 3);
    env.client_says(2, "ada", FromClient::Finished { succeeded: true });
    let row = &env.cluster.app_rows("ada")[0];
    assert_eq!((row.state, row.cores), (AppState::Finished, 2));
    assert_eq!(row.executors[0].state, ExecutorState::Stopping);
}

#[test]
fn two_hundred_ended_applications_are_remembered_with_their_keys() {
    let mut env = Env::new();
    for key in 0..201 {
        env.register_app(1, key, app(None, None));
        env.client_says(1, "ada", FromClient::Finished { succeeded: true });
    }
    let rows = env.cluster.app_rows("ada");
    assert_eq!((rows.len(), rows[0].id), (200, AppId(11)));
    let again = env.register_app(1, 1, app(None, None));
    assert!(matches!(
        &again[0],
        crate::cluster::Action::ToClient { message: ToClient::Refused { .. }, .. }
    ));
    let forgotten = env.register_app(1, 0, app(None, None));
    assert_eq!(forgotten[0], certify(1, 211, false));
}

#[test]
fn a_long_list_is_cut_to_one_frame_and_keeps_the_newest() {
    let mut env = Env::new();
    let tenant = "t".repeat(3000);
    env.admit(&tenant, Default::default());
    for session in 0..500 {
        env.client_says(session, &tenant, register(session.into(), app(None, None)));
    }
    let rows = env.cluster.app_rows("admin");
    assert_eq!(rows.last().map(|row| row.id), Some(AppId(509)));
    assert!(rows.len() < 500);
    let bytes = frame::to_bytes(&ToClient::Apps(rows)).len();
    assert!((CONTROL_FRAME_BYTES_MAX * 9 / 10..=CONTROL_FRAME_BYTES_MAX).contains(&bytes));
}
