//! The port: from a place to a client for it. The real one is [`SystemStores`].

use object_store::aws::AmazonS3Builder;
use object_store::http::HttpBuilder;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use offshoot_proto::store::StoreOptions;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Tries after the first one of a request that failed for a reason that may pass. With the waits
/// between them that is a few seconds: the task itself is tried again, elsewhere.
const RETRIES_MAX: usize = 4;

/// How long a request and its retries may take.
const RETRY_WITHIN: Duration = Duration::from_secs(30);

/// The first wait before a retry; it doubles.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// The longest wait before a retry.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How long a server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long a server may send nothing while somebody waits for it.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Where Amazon's buckets are if nobody says.
const REGION: &str = "us-east-1";

/// What holds objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A bucket of an object store that speaks S3, by its name.
    Bucket(String),
    /// A server to read from, `http(s)://host[:port]`.
    Server(String),
}

/// A client for a place.
#[derive(Clone)]
pub struct Store {
    /// Objects.
    pub objects: Arc<dyn ObjectStore>,
    /// Uploads that are completed later, if the place can be written to.
    pub uploads: Option<Arc<dyn MultipartStore>>,
}

/// Makes clients. A second implementation is for simulation.
pub trait Stores: Send + Sync {
    /// A client for a place. Connects to nothing yet.
    ///
    /// # Errors
    /// The options do not fit.
    fn open(&self, place: &Place, options: &StoreOptions) -> object_store::Result<Store>;
}

/// The world's stores.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemStores;

// === impl SystemStores ===

impl Stores for SystemStores {
    fn open(&self, place: &Place, options: &StoreOptions) -> object_store::Result<Store> {
        match place {
            Place::Bucket(bucket) => {
                let s3 = Arc::new(bucket_of(bucket, options)?);
                Ok(Store { objects: s3.clone(), uploads: Some(s3) })
            }
            Place::Server(url) => {
                let http = HttpBuilder::new()
                    .with_url(url)
                    .with_retry(retries())
                    .with_client_options(client(url.starts_with("http://")));
                Ok(Store { objects: Arc::new(http.build()?), uploads: None })
            }
        }
    }
}

fn bucket_of(
    bucket: &str,
    options: &StoreOptions,
) -> object_store::Result<object_store::aws::AmazonS3> {
    let endpoint = options.endpoint.as_deref();
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(options.region.as_deref().unwrap_or(REGION))
        .with_retry(retries())
        .with_client_options(client(plain));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    match (&options.access_key_id, &options.secret_access_key) {
        (Some(id), Some(secret)) => {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = &options.session_token {
                builder = builder.with_token(token);
            }
        }
        // Never those of the machine that the executor happens to run on.
        _ => builder = builder.with_skip_signature(true),
    }
    builder.build()
}

fn retries() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: BACKOFF_FIRST, max_backoff: BACKOFF_MAX, base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_WITHIN }
}

/// A whole request has no deadline: a task may read an object for as long as it computes.
fn client(plain: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(plain)
        .with_connect_timeout(CONNECT_WITHIN)
        .with_timeout_disabled()
        .with_read_timeout(READ_WITHIN)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not with `Debug` of what it holds, which has the credentials.
        write!(f, "Store({})", self.objects)
    }
}
