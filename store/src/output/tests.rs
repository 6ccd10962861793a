//! Commits that are cut off, repeated or contested.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::tests::{Memory, grants, staged};
use object_store::ObjectStore;

const OUT: &str = "s3://bucket/results/out";

fn files(memory: &Memory) -> RemoteFiles {
    let stores = Arc::new(Memory(memory.0.clone()));
    RemoteFiles::new(stores, &grants(&[], &["s3://bucket/results"]), Default::default())
}

async fn part(files: &RemoteFiles, number: u32, bytes: &[u8]) -> StagedPart {
    let url = format!("{OUT}/part-{number:05}");
    let checksum = crc32fast::hash(bytes);
    files.upload(&url, &staged(bytes), bytes.len() as u64, checksum).await.unwrap()
}

async fn begin(files: &RemoteFiles) -> Result<Output, StoreError> {
    Output::begin(files, OUT, "app-1-0".to_owned(), "part-").await
}

async fn names(memory: &Memory) -> Vec<String> {
    let objects = memory.0.list(None).map(|object| object.unwrap().location.to_string());
    let mut names: Vec<_> = objects.collect().await;
    names.sort();
    names
}

async fn get(memory: &Memory, path: &str) -> Vec<u8> {
    memory.0.get(&Path::from(path)).await.unwrap().bytes().await.unwrap().to_vec()
}

const COMMITTED: [&str; 4] = [
    "results/out/_SUCCESS",
    "results/out/_commits/app-1-0.json",
    "results/out/part-00000",
    "results/out/part-00001",
];

#[tokio::test]
async fn nothing_is_seen_before_the_commit_and_all_of_it_after() {
    let memory = Memory::default();
    let files = files(&memory);
    let mut output = begin(&files).await.unwrap();
    output.add(Partition(0), part(&files, 0, b"zero").await);
    output.add(Partition(1), part(&files, 1, b"").await);
    assert_eq!(names(&memory).await, ["results/out/_commits/claim"]);
    output.commit().await.unwrap();
    assert_eq!(names(&memory).await, COMMITTED);
    assert_eq!(get(&memory, COMMITTED[2]).await, b"zero");
    assert_eq!(get(&memory, COMMITTED[3]).await, b"");
}

#[tokio::test]
async fn an_output_is_made_once() {
    let memory = Memory::default();
    let files = files(&memory);
    let first = begin(&files).await.unwrap();
    let second = begin(&files).await.unwrap_err();
    assert_eq!(second, StoreError::OutputExists { url: OUT.to_owned() });
    first.abandon().await;
    assert_eq!(names(&memory).await, Vec::<String>::new());
    begin(&files).await.unwrap();
}

#[tokio::test]
async fn another_owner_does_not_take_a_claim_for_its_own() {
    let memory = Memory::default();
    let files = files(&memory);
    // Two that see nothing there: only the claim decides.
    let claim = Path::from("results/out/_commits/claim");
    memory.0.put(&claim, "app-1-9".into()).await.unwrap();
    let mine = begin(&files).await.unwrap_err();
    assert_eq!(mine, StoreError::OutputExists { url: OUT.to_owned() });
    assert_eq!(get(&memory, claim.as_ref()).await, b"app-1-9");
}

#[tokio::test]
async fn a_commit_that_was_cut_off_is_finished_by_the_next() {
    let memory = Memory::default();
    let files = files(&memory);
    let mut first = begin(&files).await.unwrap();
    first.add(Partition(0), part(&files, 0, b"zero").await);
    first.add(Partition(1), part(&files, 1, b"one").await);
    let manifest = first.write_manifest().await.unwrap();
    first.complete(&manifest.parts[0]).await.unwrap();
    drop(first);

    // The tasks have run again: the same bytes, other uploads.
    let mut next = again(&files);
    next.add(Partition(0), part(&files, 0, b"zero").await);
    next.add(Partition(1), part(&files, 1, b"one").await);
    next.commit().await.unwrap();
    assert_eq!(names(&memory).await, COMMITTED);
    assert_eq!(get(&memory, COMMITTED[3]).await, b"one");
}

/// As a restarted driver has it, which does not ask for an empty prefix.
fn again(files: &RemoteFiles) -> Output {
    let directory = crate::location::Location::parse(OUT).unwrap();
    let store = files.store(&directory).unwrap();
    Output {
        uploads: store.uploads.clone().unwrap(),
        store,
        directory,
        key: "app-1-0".to_owned(),
        prefix: "part-".to_owned(),
        parts: Default::default(),
        reported: Default::default(),
    }
}

#[tokio::test]
async fn the_same_key_with_other_bytes_is_a_conflict() {
    let memory = Memory::default();
    let files = files(&memory);
    let mut first = begin(&files).await.unwrap();
    first.add(Partition(0), part(&files, 0, b"zero").await);
    first.commit().await.unwrap();
    let mut second = again(&files);
    second.add(Partition(0), part(&files, 0, b"other").await);
    let error = second.commit().await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    assert_eq!(get(&memory, COMMITTED[2]).await, b"zero");
}

#[tokio::test]
async fn what_was_damaged_is_not_staged() {
    let memory = Memory::default();
    let files = files(&memory);
    let file = staged(b"good");
    let url = format!("{OUT}/part-00000");
    for (length, checksum) in [(4, 7), (3, crc32fast::hash(b"goo"))] {
        let error = files.upload(&url, &file, length, checksum).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
    let outside = files.upload("s3://bucket/results2/part", &file, 4, 0).await.unwrap_err();
    assert!(outside.to_string().contains("add --allow-write s3://bucket/results2/part"));
}
