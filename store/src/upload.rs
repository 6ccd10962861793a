//! What an executor does with a part that an attempt has written: uploads it, and does not
//! complete the upload.
//!
//! An upload that nobody will complete costs money for as long as it is there. So whatever began
//! one says how it ended: reported, or (it failed, or its future was dropped) left to
//! [`RemoteFiles::abort_left`]. The request that creates an upload is never dropped with who asked
//! for it: the store may have done what was asked, and then nobody else knows the upload's name.

#[cfg(test)]
mod tests;

use crate::location::Location;
use crate::{RemoteFiles, Store, StoreError};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, join_all};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutPayload};
use offshoot_proto::grants::Access;
use offshoot_proto::outcome::{StagedPart, StagedUpload};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// Bytes of one part of an upload, of which each slot that uploads holds one. At least 5 MiB by the
/// protocol.
const PART_BYTES: u64 = 8 << 20;

/// Parts of one upload. The protocol allows 10,000; a report with the names of so many would not
/// fit its frame, so parts grow instead.
const PARTS_MAX: u64 = 1_000;

/// Uploads that have begun and not ended.
#[derive(Default)]
pub(crate) struct InFlight {
    table: Mutex<Table>,
    /// One of them was left, or has ended.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    begun: BTreeMap<u64, Begun>,
}

/// The request that creates an upload, for whoever goes on with it.
type Creating = Shared<BoxFuture<'static, Result<MultipartId, StoreError>>>;

enum Begun {
    /// Somebody works at it.
    Held { uploads: Arc<dyn MultipartStore>, path: Path, id: Creating },
    /// Nobody does any more. It stays here until it is gone: whoever aborts may be dropped, too.
    Left(Shared<BoxFuture<'static, ()>>),
}

/// One of them; dropping it leaves it to be aborted.
struct Guard<'a> {
    in_flight: &'a InFlight,
    number: u64,
}

// === impl RemoteFiles ===

impl RemoteFiles {
    /// Uploads the first `length` bytes of a file as what will be the object `url`, and checks on
    /// the way that they are what the attempt reported.
    ///
    /// # Errors
    /// Not granted; other bytes than reported; the file cannot be read; whatever the store says.
    /// Nothing is left of the upload then, if the store can be reached.
    pub async fn upload(
        &self,
        url: &str,
        file: &File,
        length: u64,
        checksum: u32,
    ) -> Result<StagedPart, StoreError> {
        let location = Location::parse(url)?;
        self.check(&location, Access::Write)?;
        let store = self.store(&location)?;
        let uploads = writable(&store, &location)?;
        let (creating, guard) = self.shared.uploads.begin(&uploads, &location);
        let sent = async {
            let id = creating.await?;
            let parts = send(&*uploads, &location, &id, file, length, checksum).await?;
            Ok(StagedUpload { id, parts })
        };
        match sent.await {
            Ok(upload) => {
                guard.end();
                Ok(StagedPart { path: url.to_owned(), length, checksum, upload: Some(upload) })
            }
            Err(error) => {
                drop(guard);
                self.abort_left().await;
                Err(error)
            }
        }
    }

    /// Aborts the uploads at which nobody works any more.
    pub async fn abort_left(&self) {
        self.shared.uploads.abort_left().await;
    }

    /// Aborts every upload that is not reported, each as soon as nobody works at it: to be called
    /// when whoever does has been told to end.
    pub async fn abort_all(&self) {
        self.shared.uploads.abort_all().await;
    }
}

pub(crate) fn writable(
    store: &Store,
    location: &Location,
) -> Result<Arc<dyn MultipartStore>, StoreError> {
    let uploads = store.uploads.clone();
    uploads.ok_or_else(|| StoreError::ReadOnly { url: location.to_string() })
}

async fn send(
    uploads: &dyn MultipartStore,
    location: &Location,
    id: &MultipartId,
    file: &File,
    length: u64,
    expected: u32,
) -> Result<Vec<String>, StoreError> {
    let url = location.to_string();
    let part_bytes = PART_BYTES.max(length.div_ceil(PARTS_MAX));
    let (mut parts, mut hasher, mut offset) = (Vec::new(), crc32fast::Hasher::new(), 0);
    // An empty object is one empty part.
    while offset < length || parts.is_empty() {
        let mut part = vec![0; part_bytes.min(length - offset) as usize];
        file.read_exact_at(&mut part, offset).map_err(|error| not_read(&url, &error))?;
        hasher.update(&part);
        offset += part.len() as u64;
        let sent = uploads.put_part(&location.path, id, parts.len(), PutPayload::from(part)).await;
        let PartId { content_id } =
            sent.map_err(|error| StoreError::failed(url.clone(), "uploading a part", &error))?;
        parts.push(content_id);
    }
    let found_length = file.metadata().map_err(|error| not_read(&url, &error))?.len();
    let found = hasher.finalize();
    if (found_length, found) != (length, expected) {
        return Err(StoreError::Damaged { url, length, expected, found_length, found });
    }
    Ok(parts)
}

fn not_read(url: &str, error: &io::Error) -> StoreError {
    let step = "reading what was staged for it";
    StoreError::Failed { url: url.to_owned(), step, reason: error.to_string() }
}

// === impl InFlight ===

impl InFlight {
    fn begin(
        &self,
        uploads: &Arc<dyn MultipartStore>,
        location: &Location,
    ) -> (Creating, Guard<'_>) {
        let (uploads, path) = (uploads.clone(), location.path.clone());
        let (store, object, url) = (uploads.clone(), path.clone(), location.to_string());
        let id = async move {
            let created = store.create_multipart(&object).await;
            created.map_err(|error| StoreError::failed(url, "beginning an upload", &error))
        };
        let id = id.boxed().shared();
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.begun.insert(number, Begun::Held { uploads, path, id: id.clone() });
        (id, Guard { in_flight: self, number })
    }

    async fn abort_left(&self) {
        let left: Vec<_> = {
            let table = self.table();
            let left = table.begun.iter().filter_map(|(number, begun)| match begun {
                Begun::Left(gone) => Some((*number, gone.clone())),
                Begun::Held { .. } => None,
            });
            left.collect()
        };
        join_all(left.into_iter().map(|(number, gone)| async move {
            gone.await;
            self.table().begun.remove(&number);
        }))
        .await;
    }

    async fn abort_all(&self) {
        loop {
            let changed = self.changed.notified();
            self.abort_left().await;
            if self.table().begun.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of the lock panics")
    }
}

/// Aborts an upload whose name may not be known yet.
async fn abort(uploads: Arc<dyn MultipartStore>, path: Path, id: Creating) {
    // One that could not be created is not there.
    let Ok(id) = id.await else { return };
    if let Err(error) = uploads.abort_multipart(&path, &id).await {
        let reason = crate::error::reason(&error);
        tracing::warn!(%path, reason, "an upload could not be aborted");
    }
}

// === impl Guard ===

impl Guard<'_> {
    /// Whoever is told of the upload answers for it from now on.
    fn end(self) {
        self.in_flight.table().begun.remove(&self.number);
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut table = self.in_flight.table();
        if let Some(Begun::Held { uploads, path, id }) = table.begun.remove(&self.number) {
            let gone = abort(uploads, path, id).boxed().shared();
            table.begun.insert(self.number, Begun::Left(gone));
        }
        drop(table);
        self.in_flight.changed.notify_waiters();
    }
}
