//! Modules go in once and come out as they were.

use crate::support::*;
use offshoot_net::{FrameStream, Role};
use offshoot_proto::cluster::{ModuleReply, ModuleRequest};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::ModuleHash;
use offshoot_proto::limits::MODULE_BYTES_MAX;

/// Uploads a module; it must be taken.
pub(crate) async fn put(peer: &Peer, module: &[u8]) {
    let reply = put_as(peer, hash_of(module), module.len() as u64, module).await;
    let length = module.len() as u64;
    assert_eq!(reply, ModuleReply::Ok { length });
}

async fn put_as(peer: &Peer, hash: ModuleHash, length: u64, bytes: &[u8]) -> ModuleReply {
    let connection = peer.connect(Purpose::Data).await;
    let mut stream = connection.open().await.unwrap();
    stream.sender.send(&ModuleRequest::Put { hash, length }).await.unwrap();
    // The master may have its answer before it has the bytes, and then stops reading.
    let _ = stream.sender.send_chunk(bytes.to_vec().into()).await;
    let _ = stream.sender.finish().await;
    stream.receiver.recv().await.unwrap().unwrap()
}

async fn get(peer: &Peer, hash: ModuleHash) -> (ModuleReply, Vec<u8>) {
    let connection = peer.connect(Purpose::Data).await;
    let FrameStream { mut sender, mut receiver } = connection.open().await.unwrap();
    sender.send(&ModuleRequest::Get { hash }).await.unwrap();
    sender.finish().await.unwrap();
    let reply = receiver.recv().await.unwrap().unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = receiver.recv_chunk(1 << 20).await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    (reply, bytes)
}

fn reason(reply: ModuleReply) -> String {
    match reply {
        ModuleReply::Refused { reason } => reason,
        ModuleReply::Ok { .. } => panic!("it was taken"),
    }
}

#[tokio::test]
async fn a_module_comes_out_as_it_went_in_even_after_a_restart() {
    let master = TestMaster::start().await;
    let module: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let ada = master.tenant("ada").await;
    put(&ada, &module).await;
    put(&ada, &module).await;
    let master = master.restart().await;
    let worker = master.peer(Role::Worker(worker_id("w1"))).await;
    let (reply, bytes) = get(&worker, hash_of(&module)).await;
    let length = module.len() as u64;
    assert_eq!(reply, ModuleReply::Ok { length });
    assert!(bytes == module);
}

#[tokio::test]
async fn false_modules_are_refused_with_a_sentence() {
    let master = TestMaster::start().await;
    let ada = master.tenant("ada").await;
    let hash = hash_of(b"module");
    let other = reason(put_as(&ada, hash, 5, b"other").await);
    assert!(other.contains(&format!("{hash} was announced")), "{other}");
    let short = reason(put_as(&ada, hash, 6, b"mod").await);
    assert_eq!(short, "module is 3 bytes long, 6 were announced");
    let long = reason(put_as(&ada, hash, 2, b"module").await);
    assert_eq!(long, "module is 6 bytes long, 2 were announced");
    let large = reason(put_as(&ada, hash, MODULE_BYTES_MAX + 1, b"").await);
    assert_eq!(large, "module too large: 33554433 bytes, the limit is 33554432");
    let (unknown, bytes) = get(&ada, hash).await;
    assert!(reason(unknown).contains("is not known to the master"));
    assert!(bytes.is_empty());
}

#[tokio::test]
async fn workers_may_not_upload() {
    let master = TestMaster::start().await;
    let worker = master.peer(Role::Worker(worker_id("w1"))).await;
    let refused = reason(put_as(&worker, hash_of(b"module"), 6, b"module").await);
    assert_eq!(refused, "permission denied: role worker may not upload modules");
}
