//! What an executor does with a part that an attempt has written: uploads it, and does not
//! complete the upload.
//!
//! An upload that nobody will complete costs money for as long as it is there. So whatever began
//! one says how it ended: reported, failed, or (its future was dropped) left to
//! [`RemoteFiles::abort_left`].

use crate::location::Location;
use crate::{RemoteFiles, Store, StoreError};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutPayload};
use offshoot_proto::grants::Access;
use offshoot_proto::outcome::{StagedPart, StagedUpload};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

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
}

#[derive(Default)]
struct Table {
    next: u64,
    begun: BTreeMap<u64, Begun>,
}

#[derive(Clone)]
struct Begun {
    uploads: Arc<dyn MultipartStore>,
    path: Path,
    id: MultipartId,
    /// Nobody works at it any more.
    left: bool,
}

/// One of them; dropping it leaves it to be aborted.
pub(crate) struct Guard<'a> {
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
        let path = &location.path;
        let failed = |error| StoreError::failed(url.to_owned(), "beginning an upload", &error);
        let id = uploads.create_multipart(path).await.map_err(failed)?;
        let guard = self.shared.uploads.begin(uploads.clone(), path.clone(), id.clone());
        let sent = send(&*uploads, &location, &id, file, length, checksum).await;
        match sent {
            Ok(parts) => {
                guard.end();
                let upload = Some(StagedUpload { id, parts });
                Ok(StagedPart { path: url.to_owned(), length, checksum, upload })
            }
            Err(error) => {
                let _ = uploads.abort_multipart(path, &id).await;
                guard.end();
                Err(error)
            }
        }
    }

    /// Aborts the uploads at which nobody works any more.
    pub async fn abort_left(&self) {
        self.shared.uploads.abort(|begun| begun.left).await;
    }

    /// Aborts every upload that has not been reported: what is begun will not be ended.
    pub async fn abort_all(&self) {
        self.shared.uploads.abort(|_| true).await;
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
    pub(crate) fn begin(
        &self,
        uploads: Arc<dyn MultipartStore>,
        path: Path,
        id: MultipartId,
    ) -> Guard<'_> {
        let mut table = self.table.lock().expect("no holder of the lock panics");
        let number = table.next;
        table.next += 1;
        table.begun.insert(number, Begun { uploads, path, id, left: false });
        Guard { in_flight: self, number }
    }

    async fn abort(&self, which: impl Fn(&Begun) -> bool) {
        loop {
            let next = {
                let mut table = self.table.lock().expect("no holder of the lock panics");
                let number = table.begun.iter().find(|(_, begun)| which(begun)).map(|(n, _)| *n);
                number.and_then(|number| table.begun.remove(&number))
            };
            let Some(Begun { uploads, path, id, .. }) = next else { return };
            if let Err(error) = uploads.abort_multipart(&path, &id).await {
                let reason = crate::error::reason(&error);
                tracing::warn!(%path, reason, "an upload could not be aborted");
            }
        }
    }
}

// === impl Guard ===

impl Guard<'_> {
    /// Whoever is told of the upload answers for it from now on.
    fn end(self) {
        let mut table = self.in_flight.table.lock().expect("no holder of the lock panics");
        table.begun.remove(&self.number);
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut table = self.in_flight.table.lock().expect("no holder of the lock panics");
        if let Some(begun) = table.begun.get_mut(&self.number) {
            begun.left = true;
        }
    }
}
