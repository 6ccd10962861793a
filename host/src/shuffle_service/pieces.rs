//! Cuts a reducer's part of a data file into pieces of whole, checked chunks.

use super::BlockError;
use offshoot_proto::block::{CHUNK_HEADER_BYTES, Extent};
use offshoot_sandbox::shuffle::{CHUNK_BODY_BYTES_MAX, ChunkError, chunk};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of one piece at most: the largest chunk. A piece is checked and sent as one, between two
/// others the process does something else.
pub(super) const PIECE_BYTES_MAX: usize = CHUNK_HEADER_BYTES + CHUNK_BODY_BYTES_MAX;

/// Extents that are read for one piece: a call of the system each, so about as long as checking the
/// sums of a full piece. A chunk takes two at most, where its header lies apart; what says that it
/// lies in more of them than this is damaged.
const EXTENTS_MAX: usize = 1024;

/// What is left to read of one reducer's part of one file.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    path: &'a Path,
    file: &'a File,
    extents: std::slice::Iter<'a, Extent>,
    /// What has not been read of the current extent.
    unread: Extent,
    /// Read and not handed out.
    buffer: Vec<u8>,
    /// Of the parts of the buffer, where each begins there and in the file.
    places: Vec<(usize, u64)>,
}

// === impl Pieces ===

impl<'a> Pieces<'a> {
    pub(super) fn new(path: &'a Path, file: &'a File, extents: &'a [Extent]) -> Self {
        let (unread, buffer, places) = (Extent::default(), Vec::new(), Vec::new());
        Self { path, file, extents: extents.iter(), unread, buffer, places }
    }

    /// The next piece, or `None` when all has been read.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, BlockError> {
        self.fill()?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let end = self.whole_chunks()?;
        let rest_at = self.place(end);
        self.places.retain(|(start, _)| *start > end);
        self.places.iter_mut().for_each(|(start, _)| *start -= end);
        self.places.insert(0, (0, rest_at));
        let rest = self.buffer.split_off(end);
        Ok(Some(std::mem::replace(&mut self.buffer, rest)))
    }

    /// Reads as much as a piece may have: a chunk may lie in several extents.
    fn fill(&mut self) -> Result<(), BlockError> {
        for _ in 0..EXTENTS_MAX {
            if self.buffer.len() == PIECE_BYTES_MAX {
                break;
            }
            if self.unread.length == 0 {
                let Some(extent) = self.extents.next() else { break };
                self.unread = *extent;
            }
            let start = self.buffer.len();
            let room = (PIECE_BYTES_MAX - start) as u64;
            let count = room.min(self.unread.length);
            self.places.push((start, self.unread.offset));
            self.buffer.resize(start + count as usize, 0);
            let read = self.file.read_exact_at(&mut self.buffer[start..], self.unread.offset);
            read.map_err(|source| BlockError::Data { path: self.path.to_owned(), source })?;
            self.unread.offset += count;
            self.unread.length -= count;
        }
        Ok(())
    }

    /// Where a byte of the buffer lies in the file.
    fn place(&self, at: usize) -> u64 {
        let part = self.places.iter().rev().find(|(start, _)| *start <= at);
        part.map_or(0, |(start, offset)| offset + (at - start) as u64)
    }

    fn has_more(&self) -> bool {
        self.unread.length > 0 || self.extents.len() > 0
    }

    /// How many bytes of the buffer are whole chunks; at least one chunk is.
    fn whole_chunks(&self) -> Result<usize, BlockError> {
        let mut end = 0;
        while end < self.buffer.len() {
            match chunk(&self.buffer[end..]) {
                Ok((header, _)) => end += header.total(),
                Err(ChunkError::Truncated { .. }) if end > 0 && self.has_more() => break,
                Err(error) => {
                    let offset = self.place(end);
                    return Err(BlockError::Chunk { path: self.path.to_owned(), offset, error });
                }
            }
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use offshoot_proto::limits::SHUFFLE_CHUNK_BYTES;
    use offshoot_sandbox::shuffle::{append_chunk, append_header, flat_extents};
    use std::fs;
    use std::io::Write;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        let mut bytes = vec![0; length];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    fn all(pieces: &mut Pieces<'_>) -> Result<Vec<Vec<u8>>, BlockError> {
        std::iter::from_fn(|| pieces.next().transpose()).collect()
    }

    /// A file with something before, between and after two extents.
    fn file() -> (tempfile::TempDir, std::path::PathBuf, [Extent; 2], Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0-0.data");
        let (mut first, mut second) = (vec![], vec![]);
        for length in [SHUFFLE_CHUNK_BYTES, 1, SHUFFLE_CHUNK_BYTES, 70_000, 5] {
            append_chunk(&noise(length as u64, length), &mut first);
        }
        append_chunk(&[7; 1000], &mut second);
        let bytes = [b"xx".as_slice(), &first, b"yyy", &second, b"z"].concat();
        fs::write(&path, bytes).unwrap();
        let extent = |offset, part: &[u8]| Extent { offset, length: part.len() as u64 };
        let extents = [extent(2, &first), extent(5 + first.len() as u64, &second)];
        (directory, path, extents, [first, second].concat())
    }

    #[test]
    fn pieces_are_whole_chunks_and_all_of_the_extents() {
        let (_directory, path, extents, expected) = file();
        let file = File::open(&path).unwrap();
        let pieces = all(&mut Pieces::new(&path, &file, &extents)).unwrap();
        assert!(pieces.len() >= 3, "{}", pieces.len());
        for piece in &pieces {
            assert!(piece.len() <= PIECE_BYTES_MAX);
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                rest = &rest[chunk(rest).unwrap().0.total()..];
            }
        }
        assert_eq!(pieces.concat(), expected);
    }

    #[test]
    fn headers_may_lie_apart_from_bodies() {
        let mut file = tempfile::tempfile().unwrap();
        let (mut headers, mut bytes, mut expected) = (vec![], 0, vec![]);
        for length in [SHUFFLE_CHUNK_BYTES, 1, SHUFFLE_CHUNK_BYTES, 70_000, 5] {
            let (body, at) = (noise(length as u64, length), headers.len());
            append_header(&body, &mut headers);
            file.write_all(&body).unwrap();
            bytes += length as u64;
            expected.extend_from_slice(&headers[at..]);
            expected.extend_from_slice(&body);
        }
        file.write_all(&headers).unwrap();
        let extents = flat_extents(&headers, bytes);
        let pieces = all(&mut Pieces::new(Path::new("flat"), &file, &extents)).unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES_MAX));
        assert_eq!(pieces.concat(), expected);
        let third = extents[4].offset;
        file.write_all_at(&[9], third + 8).unwrap();
        let error = all(&mut Pieces::new(Path::new("flat"), &file, &extents)).unwrap_err();
        let BlockError::Chunk { offset, .. } = error else { panic!("{error}") };
        assert_eq!(offset, third, "where its header lies");
    }

    #[test]
    fn a_piece_is_of_so_many_extents() {
        let mut file = tempfile::tempfile().unwrap();
        let (mut headers, mut bytes, mut expected) = (vec![], 0, vec![]);
        for body in 0..3000u32 {
            let (body, at) = ([body as u8], headers.len());
            append_header(&body, &mut headers);
            file.write_all(&body).unwrap();
            bytes += 1;
            expected.extend_from_slice(&headers[at..]);
            expected.extend_from_slice(&body);
        }
        file.write_all(&headers).unwrap();
        let extents = flat_extents(&headers, bytes);
        assert_eq!(extents.len(), 6000);
        let pieces = all(&mut Pieces::new(Path::new("flat"), &file, &extents)).unwrap();
        assert_eq!(pieces.concat(), expected);
        assert_eq!(pieces.len(), 6000usize.div_ceil(EXTENTS_MAX));
    }

    #[test]
    fn a_chunk_in_a_thousand_extents_is_none() {
        let (mut file, mut bytes) = (tempfile::tempfile().unwrap(), vec![]);
        append_chunk(&noise(1, 2 * EXTENTS_MAX), &mut bytes);
        file.write_all(&bytes).unwrap();
        let bytewise = |offset| Extent { offset, length: 1 };
        let extents: Vec<_> = (0..bytes.len() as u64).map(bytewise).collect();
        let error = all(&mut Pieces::new(Path::new("cut"), &file, &extents)).unwrap_err();
        assert!(matches!(error, BlockError::Chunk { error: ChunkError::Truncated { .. }, .. }));
    }

    #[test]
    fn a_damaged_chunk_is_named_by_its_place_and_not_handed_out() {
        let (_directory, path, extents, _) = file();
        let mut bytes = fs::read(&path).unwrap();
        let last = extents[1].offset as usize;
        bytes[last + CHUNK_HEADER_BYTES] ^= 1;
        fs::write(&path, bytes).unwrap();
        let file = File::open(&path).unwrap();
        let error = all(&mut Pieces::new(&path, &file, &extents)).unwrap_err();
        let BlockError::Chunk { offset, error, .. } = error else { panic!("{error}") };
        assert_eq!(offset, extents[1].offset);
        assert!(matches!(error, ChunkError::Checksum { .. }), "{error}");
    }

    #[test]
    fn an_extent_that_ends_inside_a_chunk_or_the_file_is_an_error() {
        let (_directory, path, [mut extent, _], _) = file();
        let file = File::open(&path).unwrap();
        extent.length -= 1;
        let error = all(&mut Pieces::new(&path, &file, &[extent])).unwrap_err();
        assert!(matches!(error, BlockError::Chunk { error: ChunkError::Truncated { .. }, .. }));
        extent.offset = file.metadata().unwrap().len();
        let error = all(&mut Pieces::new(&path, &file, &[extent])).unwrap_err();
        assert!(matches!(error, BlockError::Data { .. }), "{error}");
    }
}
