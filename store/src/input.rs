//! An input being read: one get from an offset on, pulled as its task reads.

use crate::error::reason;
use crate::listing::modified_nanos;
use crate::location::Location;
use crate::{RemoteFiles, StoreError};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use object_store::{GetOptions, GetRange, ObjectMeta};
use offshoot_proto::abi::InputFile;
use offshoot_proto::grants::Access;
use std::fmt;

/// Bytes of one pull: enough that asking for them costs little, and little enough to hold for
/// every open input. What lies before them waits in the connection.
const PULL_BYTES: usize = 256 << 10;

/// The bytes of an object from an offset on. Dropping it ends the get.
pub struct Input {
    url: String,
    body: BoxStream<'static, object_store::Result<Bytes>>,
    /// What came with the last pull and did not fit it.
    rest: Bytes,
    offset: u64,
    length: u64,
}

// === impl RemoteFiles ===

impl RemoteFiles {
    /// Begins to read a file of a listing, if it is still the same.
    ///
    /// # Errors
    /// Not granted; another version, with both; whatever the store says.
    pub async fn open_input(&self, file: &InputFile, offset: u64) -> Result<Input, StoreError> {
        let (location, version) = Location::of_input(&file.path)?;
        self.check(&location, Access::Read)?;
        let url = location.to_string();
        let empty = Input {
            url: url.clone(),
            body: futures_util::stream::empty().boxed(),
            rest: Bytes::new(),
            offset,
            length: file.length,
        };
        if offset >= file.length {
            return Ok(empty);
        }
        let store = self.store(&location)?;
        let options = GetOptions {
            if_match: version.map(str::to_owned),
            range: (offset > 0).then_some(GetRange::Offset(offset)),
            ..GetOptions::default()
        };
        let got = store.objects.get_opts(&location.path, options).await;
        let got = match got {
            Ok(got) => got,
            // What is there now is worth another request: the person sees both.
            Err(object_store::Error::Precondition { .. }) => {
                let now = store.objects.get_opts(&location.path, head()).await;
                let found = now.map_or_else(|error| reason(&error), |now| describe(&now.meta));
                return Err(changed(url, file, version, found));
            }
            Err(object_store::Error::NotFound { .. }) => {
                return Err(changed(url, file, version, "gone".to_owned()));
            }
            Err(error) => return Err(StoreError::failed(url, "opening it", &error)),
        };
        let same = match version {
            Some(version) => got.meta.e_tag.as_deref() == Some(version),
            None => modified_nanos(&got.meta) == file.modified_nanos,
        };
        if !same || got.meta.size != file.length {
            return Err(changed(url, file, version, describe(&got.meta)));
        }
        Ok(Input { body: got.into_stream(), ..empty })
    }
}

fn head() -> GetOptions {
    GetOptions { head: true, ..GetOptions::default() }
}

fn changed(url: String, file: &InputFile, version: Option<&str>, found: String) -> StoreError {
    let listed = describe_parts(file.length, version, file.modified_nanos);
    StoreError::Changed { url, listed, found }
}

fn describe(object: &ObjectMeta) -> String {
    describe_parts(object.size, object.e_tag.as_deref(), modified_nanos(object))
}

fn describe_parts(length: u64, version: Option<&str>, modified_nanos: i64) -> String {
    match version {
        Some(version) => format!("{length} bytes, ETag {version}"),
        None => format!("{length} bytes, modified at {modified_nanos} ns since 1970"),
    }
}

// === impl Input ===

impl Input {
    /// The next bytes, at most 256 KiB; none at the end.
    ///
    /// # Errors
    /// What is left cannot be read, with where that was.
    pub async fn pull(&mut self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.take_rest(&mut bytes);
        while bytes.is_empty() && self.offset < self.length {
            let next = self.body.next().await;
            self.take(next, &mut bytes)?;
        }
        // What is there already costs no wait.
        while bytes.len() < PULL_BYTES && self.offset < self.length {
            let Some(next) = self.body.next().now_or_never() else { break };
            self.take(next, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn take(
        &mut self,
        next: Option<object_store::Result<Bytes>>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let reason = match next {
            Some(Ok(piece)) => {
                self.rest = piece;
                self.take_rest(bytes);
                return Ok(());
            }
            Some(Err(error)) => reason(&error),
            None => format!("it ends there, {} bytes early", self.length - self.offset),
        };
        Err(StoreError::BrokeOff { url: self.url.clone(), offset: self.offset, reason })
    }

    fn take_rest(&mut self, bytes: &mut Vec<u8>) {
        let left = usize::try_from(self.length.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let count = self.rest.len().min(PULL_BYTES - bytes.len()).min(left);
        bytes.extend_from_slice(&self.rest.split_to(count));
        self.offset += count as u64;
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} at {} of {})", self.url, self.offset, self.length)
    }
}
