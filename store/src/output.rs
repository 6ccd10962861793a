//! The commit of an output in an object store: uploads, one manifest, an idempotent roll-forward.
//!
//! ```text
//!   <out>/_commits/claim        put if absent: this prefix is taken; removed last
//!   (uploads)                   what attempts wrote; no object yet
//!   <out>/_commits/<key>.json   put if absent: the moment of the commit
//!   <out>/part-00000            completed uploads
//!   <out>/_SUCCESS              after all of them
//! ```
//!
//! Before the manifest there is no output; after it there is all of it, because whoever finds the
//! manifest can finish the work: [`Output::commit`] takes an upload that is gone and an object of
//! the right length in its place as done.

#[cfg(test)]
mod tests;

use crate::location::Location;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest, ManifestPart};
use crate::upload::writable;
use crate::{RemoteFiles, Store, StoreError};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use offshoot_proto::grants::Access;
use offshoot_proto::id::Partition;
use offshoot_proto::outcome::StagedPart;
use offshoot_proto::part::PartNames;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Uploads that are completed or aborted at once.
const AT_ONCE: usize = 8;

/// An output that is being written.
pub struct Output {
    store: Store,
    uploads: Arc<dyn MultipartStore>,
    directory: Location,
    key: String,
    prefix: String,
    /// Accepted parts.
    parts: BTreeMap<Partition, StagedPart>,
    /// All that were reported, accepted or not, by upload.
    reported: BTreeMap<String, Path>,
}

// === impl Output ===

impl Output {
    /// Takes a prefix, beneath which nothing may be.
    ///
    /// # Errors
    /// Not granted; something is there, or somebody else has taken it; whatever the store says.
    pub async fn begin(
        files: &RemoteFiles,
        url: &str,
        key: String,
        prefix: &str,
    ) -> Result<Self, StoreError> {
        let directory = Location::parse(url)?;
        PartNames::new(prefix).map_err(|error| StoreError::Failed {
            url: directory.to_string(),
            step: "naming its parts",
            reason: error.to_string(),
        })?;
        directory.check_access(Access::Write)?;
        files.check(&directory, Access::Write)?;
        let store = files.store(&directory)?;
        let uploads = writable(&store, &directory)?;
        let there = store.objects.list(Some(&directory.path)).next().await;
        match there {
            None => {}
            Some(Ok(_)) => return Err(StoreError::OutputExists { url: directory.to_string() }),
            Some(Err(error)) => {
                return Err(StoreError::failed(directory.to_string(), "listing it", &error));
            }
        }
        let (parts, reported) = (BTreeMap::new(), BTreeMap::new());
        let prefix = prefix.to_owned();
        let output = Self { store, uploads, directory, key, prefix, parts, reported };
        if output.create(&output.claim(), output.key.clone()).await? {
            return Ok(output);
        }
        Err(StoreError::OutputExists { url: output.directory.to_string() })
    }

    fn name(&self, partition: Partition) -> String {
        PartNames::new(&self.prefix).expect("`begin` has looked at it").of(partition)
    }

    /// Where attempts stage their parts: the URL of the output.
    pub fn staging(&self) -> String {
        self.directory.to_string()
    }

    /// Whether a part is for this output.
    pub fn is_of(&self, part: &StagedPart) -> bool {
        let location = Location::parse(&part.path);
        location.is_ok_and(|location| location.is_beneath(&self.directory))
    }

    /// Somebody reported a part; it may be accepted or not.
    pub fn note(&mut self, part: &StagedPart) {
        if let (Some(upload), Ok(location)) = (&part.upload, Location::parse(&part.path)) {
            self.reported.insert(upload.id.clone(), location.path);
        }
    }

    /// The accepted part of a partition.
    pub fn add(&mut self, partition: Partition, part: StagedPart) {
        self.note(&part);
        self.parts.insert(partition, part);
    }

    /// The uploads that [`commit`](Self::commit) will complete.
    pub fn accepted(&self) -> impl Iterator<Item = &str> {
        self.parts.values().filter_map(|part| Some(part.upload.as_ref()?.id.as_str()))
    }

    /// Makes the output visible: all of it, or an error and nothing. An error after the manifest
    /// says so: what was staged is kept then, and the manifest names it.
    ///
    /// # Errors
    /// Another output was committed with this key; whatever the store says.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let committed = match self.write_manifest().await {
            Ok(committed) => committed,
            Err(error) => {
                // A manifest whose answer was lost commits what would be taken away here.
                if matches!(error, StoreError::Conflict { .. }) || self.is_uncommitted().await {
                    self.clean().await;
                }
                return Err(error);
            }
        };
        let completing = committed.parts.iter().map(|part| self.complete(part).boxed());
        let completing: Vec<_> = completing.collect();
        stream::iter(completing).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let success = self.directory.join("_SUCCESS");
        let put = self.store.objects.put(&success.path, PutPayload::new()).await;
        put.map_err(|error| StoreError::failed(success.to_string(), "creating it", &error))?;
        for part in &committed.parts {
            self.reported.remove(&part.upload);
        }
        self.clean().await;
        Ok(())
    }

    /// Aborts what was uploaded, and gives the prefix back.
    pub async fn abandon(self) {
        self.clean().await;
    }

    /// Aborts an upload for which there is no output any more.
    pub async fn abort(files: &RemoteFiles, part: &StagedPart) {
        let (Some(upload), Ok(location)) = (&part.upload, Location::parse(&part.path)) else {
            return;
        };
        let store = files.store(&location).and_then(|store| writable(&store, &location));
        if let Ok(uploads) = store {
            abort(&*uploads, &upload.id, &location.path).await;
        }
    }

    fn claim(&self) -> Location {
        self.directory.join("_commits").join("claim")
    }

    fn manifest(&self) -> Location {
        self.directory.join("_commits").join(&format!("{}.json", self.key))
    }

    /// Whether there is no manifest for sure.
    async fn is_uncommitted(&self) -> bool {
        let there = self.store.objects.head(&self.manifest().path).await;
        matches!(there, Err(object_store::Error::NotFound { .. }))
    }

    /// The manifest by which the output is committed: this one, or one of the same output that
    /// is there already.
    async fn write_manifest(&self) -> Result<Manifest, StoreError> {
        let location = self.manifest();
        for (partition, part) in &self.parts {
            let expected = self.directory.join(&self.name(*partition));
            if part.path != expected.to_string() || part.upload.is_none() {
                let reason = format!("an executor reported {} for it", part.path.escape_debug());
                let step = "looking at what was staged";
                return Err(StoreError::Failed { url: expected.to_string(), step, reason });
            }
        }
        let manifest = Manifest::new(&self.parts);
        if self.create(&location, manifest.to_text()).await? {
            return Ok(manifest);
        }
        let found = self.read_manifest(&location).await?;
        if manifest.is_same_output(&found) {
            return Ok(found);
        }
        Err(StoreError::Conflict { url: location.to_string() })
    }

    async fn read_manifest(&self, location: &Location) -> Result<Manifest, StoreError> {
        let step = "reading the manifest";
        let failed = |error: &_| StoreError::failed(location.to_string(), step, error);
        let got = self.store.objects.get(&location.path).await.map_err(|error| failed(&error))?;
        let wrong = |reason: String| StoreError::Failed { url: location.to_string(), step, reason };
        if got.meta.size > MANIFEST_BYTES_MAX {
            return Err(wrong(format!("{} bytes are too many for one", got.meta.size)));
        }
        let bytes = got.bytes().await.map_err(|error| failed(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
    }

    /// Puts an object that must not exist; whether this call, or an earlier try of it, made it.
    async fn create(&self, location: &Location, text: String) -> Result<bool, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = PutPayload::from(text.clone().into_bytes());
        let failed = |error: &_| StoreError::failed(location.to_string(), "creating it", error);
        match self.store.objects.put_opts(&location.path, payload, options).await {
            Ok(_) => Ok(true),
            // A try whose answer was lost has made it, too: then it says the same.
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => {
                let got = self.store.objects.get(&location.path).await;
                let got = got.map_err(|error| failed(&error))?;
                if got.meta.size != text.len() as u64 {
                    return Ok(false);
                }
                let there = got.bytes().await.map_err(|error| failed(&error))?;
                Ok(there == text.as_bytes())
            }
            Err(error) => Err(failed(&error)),
        }
    }

    async fn complete(&self, part: &ManifestPart) -> Result<(), StoreError> {
        let location = Location::parse(&part.object)?;
        let path = &location.path;
        let ids = part.upload_parts.iter().cloned();
        let ids = ids.map(|content_id| PartId { content_id }).collect();
        let completed = self.uploads.complete_multipart(path, &part.upload, ids).await;
        let Err(error) = completed else { return Ok(()) };
        // Completed before, by somebody who could not say so.
        match self.store.objects.head(path).await {
            Ok(object) if object.size == part.bytes => Ok(()),
            _ => {
                let step = "completing its upload, after the manifest was committed";
                Err(StoreError::failed(part.object.clone(), step, &error))
            }
        }
    }

    /// Leaves nothing of what is not the output.
    async fn clean(&self) {
        let aborts = self.reported.iter().map(|(id, path)| abort(&*self.uploads, id, path).boxed());
        let aborts: Vec<_> = aborts.collect();
        stream::iter(aborts).buffer_unordered(AT_ONCE).collect::<()>().await;
        let claim = self.claim();
        if let Err(error) = self.store.objects.delete(&claim.path).await {
            let reason = crate::error::reason(&error);
            tracing::warn!(%claim, reason, "the claim of an output could not be removed");
        }
    }
}

async fn abort(uploads: &dyn MultipartStore, id: &str, path: &Path) {
    if let Err(error) = uploads.abort_multipart(path, &id.to_owned()).await {
        let reason = crate::error::reason(&error);
        tracing::warn!(%path, reason, "an upload could not be aborted");
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({}, {} parts)", self.directory, self.parts.len())
    }
}
