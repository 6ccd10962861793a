//! Orders and modules for tests.
#![allow(clippy::unwrap_used)]

use super::ExecutorStart;
use offshoot_proto::cluster::{AppSpec, LaunchExecutor, ResourceRequest};
use offshoot_proto::grants::Grants;
use offshoot_proto::id::{AppId, ExecutorId, ExecutorNumber, ModuleHash, WorkerId};
use offshoot_proto::settings::Settings;
use offshoot_sandbox::compile::Artifact;
use offshoot_sandbox::module::ModuleInfo;
use std::ffi::OsString;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStringExt;

pub(crate) fn executor(app: u64, number: u32) -> ExecutorId {
    ExecutorId { app: AppId(app), number: ExecutorNumber(number) }
}

/// An order for one core and 100 MiB.
pub(crate) fn order(executor: ExecutorId, module: u8) -> LaunchExecutor {
    let memory_bytes = 100 << 20;
    let app = AppSpec {
        name: "test".to_owned(),
        module: ModuleHash([module; 32]),
        arguments: vec!["test".to_owned()],
        grants: Grants::default(),
        settings: Settings::default(),
        request: ResourceRequest {
            executor_cores: Some(1),
            executor_memory_bytes: memory_bytes,
            total_cores: None,
            executors_max: None,
            executors_wanted: None,
        },
        store: Default::default(),
    };
    LaunchExecutor { executor, cores: 1, memory_bytes, app, credential: vec![1, 2, 3] }
}

pub(crate) fn start() -> ExecutorStart {
    ExecutorStart {
        launch: order(executor(1, 0), 7),
        worker: WorkerId("w1".to_owned()),
        worker_address: (Ipv4Addr::LOCALHOST, 4000).into(),
        listen: Ipv4Addr::LOCALHOST.into(),
        ports: Some((4001, 4010)),
        advertise: None,
        // Not UTF-8, as a path may be.
        app_directory: OsString::from_vec(b"/srv/\xff/apps/app-1".to_vec()).into(),
    }
}

/// An artifact with empty files.
pub(crate) fn artifact() -> Artifact {
    let file = || File::open("/dev/null").unwrap();
    Artifact { code: file(), description: file(), info: ModuleInfo::default() }
}
