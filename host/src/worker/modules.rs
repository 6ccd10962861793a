//! Modules: from the master to this machine's cache of compiled code.
//!
//! Bytes are fetched by their hash and believed only by it. Compiled code never travels.

use offshoot_net::{CloseCode, ConnectError, Endpoint, FrameStream, RoleKind, StreamError};
use offshoot_proto::cluster::{ModuleReply, ModuleRequest};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::ModuleHash;
use offshoot_proto::limits::MODULE_BYTES_MAX;
use offshoot_sandbox::compile::{Artifact, CompileError, ModuleCache};
use offshoot_sandbox::slots::PortFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// How long one module may take: 32 MiB at 1 Mbit/s. The master gives as much.
const FETCH_DEADLINE: Duration = Duration::from_secs(300);

/// Bytes taken from the stream at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Modules that are compiled, or read back and checked, at once. A compilation may take 2 GiB.
const PREPARATIONS_MAX: usize = 2;

/// The compiled modules of this machine, as a port: what blocks must not block the worker, and
/// under simulation there are no threads.
pub trait PrepareModule: Send + Sync {
    /// The artifact of a module, if it has been compiled.
    fn lookup(&self, hash: ModuleHash) -> PortFuture<'_, Result<Option<Artifact>, CompileError>>;

    /// The artifact of a module, compiled from `wasm` if need be.
    fn compile(
        &self,
        hash: ModuleHash,
        wasm: Vec<u8>,
    ) -> PortFuture<'_, Result<Artifact, CompileError>>;
}

/// A [`ModuleCache`] that is used from threads of its own, a few at a time.
#[derive(Debug)]
pub struct ThreadedModules {
    cache: ModuleCache,
    places: Arc<Semaphore>,
}

/// Why a module is not there.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("the master cannot be asked for module {hash}: {source}")]
    Connect { hash: ModuleHash, source: ConnectError },
    #[error("module {hash} did not arrive: {source}")]
    Stream { hash: ModuleHash, source: StreamError },
    #[error("module {hash} did not arrive within {} s", FETCH_DEADLINE.as_secs())]
    Deadline { hash: ModuleHash },
    #[error("the master has no module {hash}: {reason}")]
    Refused { hash: ModuleHash, reason: String },
    #[error("module {hash} has {length} bytes, the limit is {MODULE_BYTES_MAX}")]
    TooLarge { hash: ModuleHash, length: u64 },
    #[error("module {hash} has {found} bytes, the master announced {announced}")]
    Length { hash: ModuleHash, announced: u64, found: u64 },
    #[error("module {hash} arrived damaged: its bytes have the hash {found}")]
    Damaged { hash: ModuleHash, found: ModuleHash },
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// Makes sure that a module is in the cache.
pub(super) async fn prepare(
    modules: &dyn PrepareModule,
    endpoint: &Endpoint,
    master: SocketAddr,
    hash: ModuleHash,
) -> Result<(), FetchError> {
    if modules.lookup(hash).await?.is_some() {
        return Ok(());
    }
    let wasm = timeout(FETCH_DEADLINE, fetch(endpoint, master, hash)).await;
    let wasm = wasm.unwrap_or(Err(FetchError::Deadline { hash }))?;
    modules.compile(hash, wasm).await?;
    Ok(())
}

/// Fetches the bytes of a module, checked against its hash.
async fn fetch(
    endpoint: &Endpoint,
    master: SocketAddr,
    hash: ModuleHash,
) -> Result<Vec<u8>, FetchError> {
    let connected = endpoint.connect(master, RoleKind::Master, Purpose::Data);
    let connection = connected.await.map_err(|source| FetchError::Connect { hash, source })?;
    let failed = |source| FetchError::Stream { hash, source };
    let mut stream = connection.open().await.map_err(failed)?;
    let request = ModuleRequest::Get { hash };
    stream.sender.send(&request).await.map_err(failed)?;
    stream.sender.finish().await.map_err(failed)?;
    let wasm = receive(&mut stream, hash).await;
    connection.close(CloseCode::Done, "");
    wasm
}

async fn receive(stream: &mut FrameStream, hash: ModuleHash) -> Result<Vec<u8>, FetchError> {
    let failed = |source| FetchError::Stream { hash, source };
    let receiver = &mut stream.receiver;
    let announced = match receiver.recv::<ModuleReply>().await.map_err(failed)? {
        Some(ModuleReply::Ok { length }) => length,
        Some(ModuleReply::Refused { reason }) => {
            return Err(FetchError::Refused { hash, reason });
        }
        None => {
            let reason = "it said nothing".to_owned();
            return Err(FetchError::Refused { hash, reason });
        }
    };
    if announced > MODULE_BYTES_MAX {
        let length = announced;
        return Err(FetchError::TooLarge { hash, length });
    }
    let mut wasm = Vec::new();
    let mut hasher = blake3::Hasher::new();
    while let Some(piece) = receiver.recv_chunk(PIECE_BYTES).await.map_err(failed)? {
        let found = (wasm.len() + piece.len()) as u64;
        if found > announced {
            return Err(FetchError::Length { hash, announced, found });
        }
        hasher.update(&piece);
        wasm.extend_from_slice(&piece);
    }
    let found = wasm.len() as u64;
    if found != announced {
        return Err(FetchError::Length { hash, announced, found });
    }
    let found = ModuleHash(*hasher.finalize().as_bytes());
    if found != hash {
        return Err(FetchError::Damaged { hash, found });
    }
    Ok(wasm)
}

// === impl ThreadedModules ===

impl ThreadedModules {
    /// Uses `cache`, which other processes may use too.
    pub fn new(cache: ModuleCache) -> Self {
        let places = Arc::new(Semaphore::new(PREPARATIONS_MAX));
        Self { cache, places }
    }

    /// Runs `work` on a thread when there is a place for it.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ModuleCache) -> Result<T, CompileError> + Send + 'static,
    ) -> Result<T, CompileError> {
        let failed = |error: io::Error| CompileError::Child(format!("no thread for it: {error}"));
        let place = self.places.clone().acquire_owned().await;
        let (done, result) = oneshot::channel();
        let cache = self.cache.clone();
        let thread = thread::Builder::new().name("modules".to_owned());
        let spawned = thread.spawn(move || {
            // Whoever asked may have given up.
            let _ = done.send(work(&cache));
            drop(place);
        });
        spawned.map_err(failed)?;
        let ended = |_| CompileError::Child("its thread has panicked".to_owned());
        result.await.map_err(ended)?
    }
}

impl PrepareModule for ThreadedModules {
    fn lookup(&self, hash: ModuleHash) -> PortFuture<'_, Result<Option<Artifact>, CompileError>> {
        Box::pin(self.on_thread(move |cache| cache.lookup(hash)))
    }

    fn compile(
        &self,
        hash: ModuleHash,
        wasm: Vec<u8>,
    ) -> PortFuture<'_, Result<Artifact, CompileError>> {
        Box::pin(self.on_thread(move |cache| cache.get(hash, &wasm)))
    }
}

/// In place: blocks whoever asks. For a simulation, where time stands still meanwhile.
impl PrepareModule for ModuleCache {
    fn lookup(&self, hash: ModuleHash) -> PortFuture<'_, Result<Option<Artifact>, CompileError>> {
        Box::pin(async move { ModuleCache::lookup(self, hash) })
    }

    fn compile(
        &self,
        hash: ModuleHash,
        wasm: Vec<u8>,
    ) -> PortFuture<'_, Result<Artifact, CompileError>> {
        Box::pin(async move { self.get(hash, &wasm) })
    }
}
