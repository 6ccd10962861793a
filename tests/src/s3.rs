//! A real S3 server on loopback, with a directory as its disk, for as long as a test needs it.

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Who may use the server.
pub const ACCESS_KEY_ID: &str = "AKOFFSHOOT";

/// With this.
pub const SECRET_ACCESS_KEY: &str = "a-secret-that-is-printed-nowhere";

/// The one bucket.
pub const BUCKET: &str = "bucket";

/// The server. It stops, and its disk goes, when this is dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    disk: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves one connection, until there are no more requests to be answered.
async fn attend(socket: TcpStream, service: S3Service, left: Arc<AtomicUsize>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let take = |left: usize| left.checked_sub(1);
        let answered = left.fetch_update(Relaxed, Relaxed, take).is_ok();
        let answer = answered.then(|| Service::call(&service, request));
        async move {
            let answer = answer.ok_or_else(|| io::Error::other("no more answers"))?;
            answer.await.map_err(|error| io::Error::other(format!("{error:?}")))
        }
    });
    let http = Builder::new(TokioExecutor::new());
    // A client that goes away is none of the server's business.
    let _ = http.serve_connection(TokioIo::new(socket), service).await;
}

// === impl S3Server ===

impl S3Server {
    /// Starts one with an empty bucket.
    ///
    /// # Errors
    /// No port, no disk, no thread.
    pub fn start() -> io::Result<Self> {
        Self::start_for(usize::MAX)
    }

    /// Starts one that answers so many requests, and from then on none: it cuts connections.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_for(requests: usize) -> io::Result<Self> {
        let disk = tempfile::tempdir()?;
        fs::create_dir(disk.path().join(BUCKET))?;
        let files = FileSystem::new(disk.path())
            .map_err(|error| io::Error::other(format!("the directory of the server: {error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, mut stopped) = oneshot::channel();
        let left = Arc::new(AtomicUsize::new(requests));
        let serve = async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            // Dropping it ends every connection.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    biased;
                    _ = &mut stopped => return,
                    accepted = listener.accept() => {
                        let Ok((socket, _)) = accepted else { return };
                        // Head and body of an answer are two writes: without this, the second
                        // waits for the first one's acknowledgement.
                        if socket.set_nodelay(true).is_err() {
                            continue;
                        }
                        connections.spawn(attend(socket, service.clone(), left.clone()));
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("s3".to_owned());
        let thread = Some(thread.spawn(move || runtime.block_on(serve))?);
        Ok(Self { address, disk, stop: Some(stop), thread })
    }

    /// What `AWS_ENDPOINT_URL` has to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the objects of the bucket are on its disk, with other data of the server beside it.
    pub fn bucket(&self) -> PathBuf {
        self.disk.path().join(BUCKET)
    }

    /// Names of what uploads that are neither completed nor aborted have left on its disk.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn uploads(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.disk.path().read_dir()? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(".upload") {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Ends it at once, in the middle of what it does.
    pub fn kill(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has no more to say than that it has ended.
            let _ = thread.join();
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
    }
}
