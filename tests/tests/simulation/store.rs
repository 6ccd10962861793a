//! An object store in memory that is slow, fails, and loses answers, by the seed.
//!
//! ```text
//!   one try:  wait ─► refused? ─► done in memory ─► answer lost?
//!   a request that may be repeated is, as a real client does; one whose answer was lost finds
//!   what it has done itself
//! ```
//!
//! Reads and uploads are tried once: their tasks fail and run again.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use offshoot_proto::store::StoreOptions;
use offshoot_store::{Place, Store, Stores};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Of so many tries one is refused, and of as many the answer is lost.
const FAILS_ONE_OF: u32 = 40;

/// Tries of a request that may be repeated.
const TRIES: u32 = 6;

/// How long a try takes, in virtual milliseconds.
const MILLIS: std::ops::Range<u64> = 1..40;

/// The one store of a simulation.
#[derive(Clone)]
pub(crate) struct SimStore {
    memory: Arc<InMemory>,
    chance: Arc<Mutex<StdRng>>,
    /// Uploads that are neither completed nor aborted.
    uploads: Arc<Mutex<BTreeSet<MultipartId>>>,
}

// === impl SimStore ===

impl SimStore {
    pub(crate) fn new(seed: u64) -> Self {
        let chance = Mutex::new(StdRng::seed_from_u64(seed ^ 0x0b7e_c700));
        Self { memory: Arc::default(), chance: Arc::new(chance), uploads: Arc::default() }
    }

    /// Puts an object there, without a fault.
    pub(crate) async fn put_input(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        self.memory.put(&Path::from(path), PutPayload::from(bytes)).await.map(drop)
    }

    /// Everything that is there, by path, without a fault.
    pub(crate) async fn contents(&self, directory: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let prefix = Path::from(directory);
        let found: Vec<_> = self.memory.list(Some(&prefix)).try_collect().await?;
        let mut contents = Vec::new();
        for object in found {
            let bytes = self.memory.get(&object.location).await?.bytes().await?;
            contents.push((object.location.to_string(), bytes.to_vec()));
        }
        contents.sort();
        Ok(contents)
    }

    pub(crate) fn uploads_left(&self) -> usize {
        self.uploads.lock().expect("no holder of the lock panics").len()
    }

    fn fails(&self) -> bool {
        let mut chance = self.chance.lock().expect("no holder of the lock panics");
        chance.random_ratio(1, FAILS_ONE_OF)
    }

    /// One try. Whatever happens, it takes its time.
    async fn try_once<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let millis = {
            let mut chance = self.chance.lock().expect("no holder of the lock panics");
            chance.random_range(MILLIS)
        };
        tokio::time::sleep(Duration::from_millis(millis)).await;
        if self.fails() {
            return Err(fault(what, "refused"));
        }
        let done = work.await;
        if self.fails() { Err(fault(what, "the answer was lost")) } else { done }
    }

    /// As a client that repeats.
    async fn repeat<T, F>(&self, what: &'static str, work: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        for _ in 1..TRIES {
            match self.try_once(what, work()).await {
                Err(Error::Generic { .. }) => {}
                ended => return ended,
            }
        }
        self.try_once(what, work()).await
    }

    fn ended(&self, id: &MultipartId) {
        self.uploads.lock().expect("no holder of the lock panics").remove(id);
    }
}

fn fault(what: &'static str, how: &'static str) -> Error {
    Error::Generic { store: "simulated", source: format!("{what}: {how}").into() }
}

/// Guests see when an object was made; the clock of the machine must not be seen.
fn timeless(object: ObjectMeta) -> ObjectMeta {
    ObjectMeta { last_modified: Default::default(), ..object }
}

impl Stores for SimStore {
    fn open(&self, _: &Place, _: &StoreOptions) -> Result<Store> {
        let this = Arc::new(self.clone());
        Ok(Store { objects: this.clone(), uploads: Some(this) })
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, how: PutOptions) -> Result<PutResult> {
        let put = || self.memory.put_opts(at, payload.clone(), how.clone());
        self.repeat("put", put).await
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(fault("put_multipart", "nobody needs it"))
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        // The driver's own reads are repeated, as all of a real client's are.
        let repeats = how.head || !at.as_ref().starts_with("in/");
        let got = match repeats {
            true => self.repeat("get", || self.memory.get_opts(at, how.clone())).await?,
            false => self.try_once("get", self.memory.get_opts(at, how)).await?,
        };
        let GetResult { meta, range, attributes, extensions, .. } = &got;
        let (meta, range) = (timeless(meta.clone()), range.clone());
        let (attributes, extensions) = (attributes.clone(), extensions.clone());
        let breaks = !repeats && self.fails();
        let body = got.into_stream().map(move |piece: Result<Bytes>| match breaks {
            true => Err(fault("get", "broke off")),
            false => piece,
        });
        let payload = GetResultPayload::Stream(body.boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let delete = move |path: Result<Path>| {
            let this = this.clone();
            async move {
                let path = path?;
                this.repeat("delete", || this.memory.delete(&path)).await?;
                Ok(path)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.memory.list(prefix).map_ok(timeless).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let list = || self.memory.list_with_delimiter(prefix);
        let listed = self.repeat("list", list).await?;
        let objects = listed.objects.into_iter().map(timeless).collect();
        Ok(ListResult { objects, ..listed })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(fault("copy", "nobody needs it"))
    }
}

#[async_trait]
impl MultipartStore for SimStore {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        // An upload whose name nobody hears of stays, in a real store too, until the bucket's rule
        // removes it. So its answer is not lost here.
        self.try_once("create", async { Ok(()) }).await?;
        let id = self.memory.create_multipart(path).await?;
        self.uploads.lock().expect("no holder of the lock panics").insert(id.clone());
        Ok(id)
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.try_once("upload", self.memory.put_part(path, id, part, data)).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let complete = || async {
            let completed = self.memory.complete_multipart(path, id, parts.clone()).await?;
            self.ended(id);
            Ok(completed)
        };
        self.repeat("complete", complete).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let abort = || async {
            self.ended(id);
            // Gone already, for a try whose answer was lost.
            let _ = self.memory.abort_multipart(path, id).await;
            Ok(())
        };
        self.repeat("abort", abort).await
    }
}
