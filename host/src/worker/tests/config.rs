//! What an operator may get wrong.

use super::support::{Stage, TestMaster, idle_ports};
use crate::worker::{WorkerConfig, serve};
use offshoot_net::Role;
use std::fs;

/// The error of a worker whose settings `change` has changed.
async fn refusal(change: impl FnOnce(&TestMaster, &mut WorkerConfig)) -> String {
    let master = TestMaster::start().await;
    let mut config = master.config();
    change(&master, &mut config);
    serve(config, idle_ports()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn numbers_out_of_range_are_named_with_their_range() {
    let error = refusal(|_, config| config.cores = 0).await;
    assert_eq!(error, "cores is 0; it must be from 1 to 4096");
    let error = refusal(|_, config| config.memory_bytes = 16 << 20).await;
    assert_eq!(error, "memory is 16 MiB; it must be from 64 MiB to 1024 TiB");
    let error = refusal(|_, config| config.executor_ports = Some((5000, 4000))).await;
    assert!(error.starts_with("executor ports 5000 to 4000: "), "{error}");
    let nowhere = "0.0.0.0".parse().unwrap();
    let error = refusal(|_, config| config.advertise = Some(nowhere)).await;
    assert!(error.starts_with("cannot advertise 0.0.0.0: "), "{error}");
}

#[tokio::test]
async fn a_credential_of_somebody_else_is_refused() {
    let error = refusal(|master, config| {
        config.credential = master.credential(&Role::Tenant("ada".to_owned()));
    });
    let expected = "the credential is that of tenant/ada; join the cluster with a worker's token";
    let error = error.await;
    assert!(error.starts_with(expected), "{error}");
}

#[tokio::test]
async fn a_directory_that_is_a_file_is_named() {
    let error = refusal(|master, config| {
        config.directory = master.directory.path().join("file");
        fs::write(&config.directory, "").unwrap();
    });
    let error = error.await;
    assert!(error.starts_with("cannot use /"), "{error}");
    assert!(error.contains("/file as the worker's directory"), "{error}");
    assert!(error.ends_with("choose another one with --dir"), "{error}");
}

#[tokio::test]
async fn a_directory_or_an_address_in_use_is_named() {
    let master = TestMaster::start().await;
    let stage = Stage::start(master.config()).await;
    let error = serve(master.config(), idle_ports()).await.unwrap_err();
    assert!(error.to_string().contains("is in use by another worker"), "{error}");
    let mut config = master.config();
    config.directory = master.directory.path().join("other");
    config.listen = stage.worker.local_address();
    let error = serve(config, idle_ports()).await.unwrap_err().to_string();
    let expected = format!("cannot bind {}: ", stage.worker.local_address());
    assert!(error.starts_with(&expected), "{error}");
}
