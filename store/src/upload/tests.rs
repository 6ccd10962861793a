//! Uploads whose futures are dropped at any step, on a store that answers when it is told to.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::tests::{grants, staged};
use crate::{Place, Stores};
use async_trait::async_trait;
use object_store::Result;
use object_store::memory::InMemory;
use offshoot_proto::store::StoreOptions;
use std::collections::BTreeSet;
use tokio::sync::Semaphore;

const URL: &str = "s3://bucket/out/part-00000";

/// Does what it is asked at once, and says so later.
#[derive(Clone)]
struct Slow {
    memory: Arc<InMemory>,
    uploads: Arc<Mutex<BTreeSet<MultipartId>>>,
    creates: Arc<Semaphore>,
    parts: Arc<Semaphore>,
    aborts: Arc<Semaphore>,
}

// === impl Slow ===

impl Slow {
    fn new() -> Self {
        let answers = || Arc::new(Semaphore::new(0));
        Self {
            memory: Arc::default(),
            uploads: Arc::default(),
            creates: answers(),
            parts: answers(),
            aborts: answers(),
        }
    }

    fn left(&self) -> usize {
        self.uploads.lock().unwrap().len()
    }

    fn files(&self) -> RemoteFiles {
        RemoteFiles::new(Arc::new(self.clone()), &grants(&[], &[URL]), StoreOptions::default())
    }
}

impl Stores for Slow {
    fn open(&self, _: &Place, _: &StoreOptions) -> Result<Store> {
        Ok(Store { objects: self.memory.clone(), uploads: Some(Arc::new(self.clone())) })
    }
}

async fn answer(answers: &Semaphore) {
    answers.acquire().await.unwrap().forget();
}

#[async_trait]
impl MultipartStore for Slow {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let id = self.memory.create_multipart(path).await?;
        self.uploads.lock().unwrap().insert(id.clone());
        answer(&self.creates).await;
        Ok(id)
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        answer(&self.parts).await;
        self.memory.put_part(path, id, part, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<object_store::PutResult> {
        self.memory.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        answer(&self.aborts).await;
        self.memory.abort_multipart(path, id).await?;
        self.uploads.lock().unwrap().remove(id);
        Ok(())
    }
}

#[tokio::test]
async fn an_upload_whose_creation_nobody_waits_for_is_aborted() {
    let (store, file) = (Slow::new(), staged(b"good"));
    let files = store.files();
    let mut uploading = files.upload(URL, &file, 4, crc32fast::hash(b"good")).boxed();
    assert!((&mut uploading).now_or_never().is_none());
    assert_eq!(store.left(), 1);
    drop(uploading);
    store.creates.add_permits(1);
    store.aborts.add_permits(1);
    files.abort_left().await;
    assert_eq!(store.left(), 0);
}

#[tokio::test]
async fn an_abort_that_is_dropped_is_gone_on_with() {
    let (store, file) = (Slow::new(), staged(b"good"));
    let files = store.files();
    store.creates.add_permits(1);
    let mut uploading = files.upload(URL, &file, 4, crc32fast::hash(b"good")).boxed();
    assert!((&mut uploading).now_or_never().is_none());
    drop(uploading);
    assert!(files.abort_left().now_or_never().is_none());
    store.aborts.add_permits(1);
    files.abort_all().await;
    assert_eq!(store.left(), 0);
}

#[tokio::test]
async fn the_end_waits_for_whoever_works_at_an_upload() {
    let (store, file) = (Slow::new(), staged(b"good"));
    let files = store.files();
    store.creates.add_permits(1);
    store.aborts.add_permits(1);
    let mut uploading = files.upload(URL, &file, 4, crc32fast::hash(b"good")).boxed();
    assert!((&mut uploading).now_or_never().is_none());
    let mut ending = files.abort_all().boxed();
    assert!((&mut ending).now_or_never().is_none());
    // Not before: a part may be on its way, and would come after the abort.
    assert_eq!(store.left(), 1);
    drop(uploading);
    ending.await;
    assert_eq!(store.left(), 0);
}

#[tokio::test]
async fn an_upload_that_fails_or_is_reported_leaves_nothing_to_abort() {
    let (store, file) = (Slow::new(), staged(b"good"));
    let files = store.files();
    store.creates.add_permits(2);
    store.parts.add_permits(2);
    store.aborts.add_permits(1);
    let damaged = files.upload(URL, &file, 4, 7).await.unwrap_err();
    assert!(matches!(damaged, StoreError::Damaged { .. }), "{damaged}");
    assert_eq!(store.left(), 0);
    files.upload(URL, &file, 4, crc32fast::hash(b"good")).await.unwrap();
    files.abort_all().await;
    assert_eq!(store.left(), 1);
}
