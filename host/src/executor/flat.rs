//! Flat blocks: those in memory, which tasks may map, and those that are on their way there.
//!
//! A task that maps a block looks at no sums. So they are looked at here, once, when a task first
//! asks for it: the file is sealed by then.

use super::granted::GrantedFile;
use super::kept::InMemory;
use offshoot_proto::block::{Extent, ShuffleIndex};
use offshoot_sandbox::shuffle::{
    ChunkError, FlatParts, append_header, chunk, flat_extents, unpack,
};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use tokio::task::yield_now;

/// Chunks that are looked at before others have their turn: 1 MiB.
const CHUNKS_AT_ONCE: usize = 4;

/// A file that becomes flat, of chunks that come one after the other.
pub(super) struct FlatFile {
    file: GrantedFile,
    headers: Vec<u8>,
    /// Of the chunk that is written.
    body: Vec<u8>,
}

// === impl InMemory ===

impl InMemory {
    /// Bytes of the block, with which its file begins. None if they do not lie so, or not all of
    /// them are what was written: then it is read, which says what is wrong.
    pub(super) async fn flat_bytes(&self) -> Option<u64> {
        let look = || async { check(&self.file, &self.index).await.ok().flatten() };
        *self.flat.get_or_init(look).await
    }
}

async fn check(file: &File, index: &ShuffleIndex) -> io::Result<Option<u64>> {
    let [extents] = &index.reducers[..] else { return Ok(None) };
    let (mut bytes, mut buffer) = (0, Vec::new());
    for (number, part) in FlatParts::new(extents).enumerate() {
        let Some(part) = part else { return Ok(None) };
        let header = part.header.length as usize;
        buffer.resize(header + part.body.length as usize, 0);
        file.read_exact_at(&mut buffer[..header], part.header.offset)?;
        file.read_exact_at(&mut buffer[header..], part.body.offset)?;
        match chunk(&buffer) {
            Ok((found, body)) if !found.compressed && body.len() as u64 == part.body.length => {}
            _ => return Ok(None),
        }
        bytes += part.body.length;
        if number % CHUNKS_AT_ONCE == 0 {
            yield_now().await;
        }
    }
    Ok(Some(bytes))
}

// === impl FlatFile ===

impl FlatFile {
    pub(super) fn new(file: GrantedFile) -> Self {
        Self { file, headers: Vec::new(), body: Vec::new() }
    }

    /// Takes whole chunks.
    pub(super) fn push(&mut self, mut chunks: &[u8]) -> io::Result<()> {
        let damaged = |error: ChunkError| io::Error::other(error.to_string());
        while !chunks.is_empty() {
            let (header, body) = chunk(chunks).map_err(damaged)?;
            unpack(header, body, &mut self.body).map_err(damaged)?;
            append_header(&self.body, &mut self.headers);
            self.file.push(&self.body)?;
            chunks = &chunks[header.total()..];
        }
        Ok(())
    }

    /// Writes the rest: its index. From here on it counts as committed, or as memory.
    pub(super) fn finish(mut self) -> io::Result<ShuffleIndex> {
        let extents: Vec<Extent> = flat_extents(&self.headers, self.file.length());
        self.file.push(&self.headers)?;
        Ok(ShuffleIndex { reducers: vec![extents], data_bytes: self.file.length() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    /// A file of these bodies, with something before its end that no extent has.
    fn flat(bodies: &[&[u8]]) -> (File, ShuffleIndex) {
        let (mut file, mut headers, mut bytes) = (tempfile::tempfile().unwrap(), vec![], 0);
        for body in bodies {
            append_header(body, &mut headers);
            file.write_all(body).unwrap();
            bytes += body.len() as u64;
        }
        file.write_all(&headers).unwrap();
        let reducers = vec![flat_extents(&headers, bytes)];
        (file, ShuffleIndex { reducers, data_bytes: bytes + headers.len() as u64 })
    }

    async fn bytes(file: &File, index: &ShuffleIndex) -> Option<u64> {
        check(file, index).await.ok().flatten()
    }

    #[tokio::test]
    async fn a_flat_block_has_so_many_bytes() {
        let large = vec![7; 256 << 10];
        let (file, index) = flat(&[&large, &large, b"rest"]);
        assert_eq!(bytes(&file, &index).await, Some(2 * large.len() as u64 + 4));
        let (file, index) = flat(&[]);
        assert_eq!(bytes(&file, &index).await, Some(0));
    }

    #[tokio::test]
    async fn a_flipped_bit_anywhere_is_found() {
        let (file, index) = flat(&[b"some", b"words"]);
        for at in 0..index.data_bytes {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            assert_eq!(bytes(&file, &index).await, None, "byte {at}");
            file.write_all_at(&byte, at).unwrap();
        }
        assert_eq!(bytes(&file, &index).await, Some(9));
    }

    #[tokio::test]
    async fn what_says_that_it_is_flat_and_is_not() {
        let (file, mut index) = flat(&[b"some", b"words"]);
        let extents = index.reducers[0].clone();
        // Its second body begins elsewhere; it has two reducers; it is beyond its file.
        index.reducers[0][3].offset -= 1;
        assert_eq!(bytes(&file, &index).await, None);
        index.reducers = vec![extents.clone(), vec![]];
        assert_eq!(bytes(&file, &index).await, None);
        index.reducers = vec![extents];
        file.set_len(8).unwrap();
        assert_eq!(bytes(&file, &index).await, None);
    }
}
