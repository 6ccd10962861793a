//! Flat blocks: what a task wrote as it is, and the headers of its chunks behind it.
//!
//! ```text
//!   | body 0 | body 1 | ... | body n | header 0 | header 1 | ... | header n |
//!   extents: header 0, body 0, header 1, body 1, ...
//! ```
//!
//! Whoever follows the extents reads chunks as in any other block; whoever maps the file has the
//! bytes of the block in one piece.

use super::{ChunkHeader, header_of};
use offshoot_proto::block::{CHUNK_HEADER_BYTES, Extent};
use offshoot_proto::limits::SHUFFLE_CHUNK_BYTES;

/// A chunk of a flat block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlatPart {
    /// Where its header lies.
    pub header: Extent,
    /// Where its body lies: behind that of the chunk before it.
    pub body: Extent,
}

/// The chunks of a block that says that it is flat.
#[derive(Clone, Debug)]
pub struct FlatParts<'a> {
    extents: &'a [Extent],
    end: u64,
}

/// Appends the header of `body`, at most [`SHUFFLE_CHUNK_BYTES`], which lies elsewhere.
pub fn append_header(body: &[u8], headers: &mut Vec<u8>) {
    debug_assert!(body.len() <= SHUFFLE_CHUNK_BYTES);
    headers.extend_from_slice(&header_of(body.len(), body.len() as u32, body));
}

/// The extents of a block whose `headers` come behind `bodies_bytes` of bodies.
pub fn flat_extents(headers: &[u8], bodies_bytes: u64) -> Vec<Extent> {
    let (mut header, mut body) = (bodies_bytes, 0);
    let chunks = headers.chunks_exact(CHUNK_HEADER_BYTES);
    let extents = chunks.flat_map(|bytes| {
        let length = ChunkHeader::read(bytes).and_then(Result::ok).map_or(0, |chunk| chunk.body);
        let part = [
            Extent { offset: header, length: CHUNK_HEADER_BYTES as u64 },
            Extent { offset: body, length: length as u64 },
        ];
        header += CHUNK_HEADER_BYTES as u64;
        body += length as u64;
        part
    });
    extents.collect()
}

// === impl FlatParts ===

impl<'a> FlatParts<'a> {
    /// Of the extents of a block, which somebody says that it has.
    pub fn new(extents: &'a [Extent]) -> Self {
        Self { extents, end: 0 }
    }
}

impl Iterator for FlatParts<'_> {
    /// None where the block is not flat.
    type Item = Option<FlatPart>;

    fn next(&mut self) -> Option<Option<FlatPart>> {
        let (part, rest) = match self.extents {
            [] => return None,
            [header, body, rest @ ..] => (FlatPart { header: *header, body: *body }, rest),
            [_] => {
                self.extents = &[];
                return Some(None);
            }
        };
        self.extents = rest;
        let FlatPart { header, body } = part;
        let flat = header.length == CHUNK_HEADER_BYTES as u64
            && body.offset == self.end
            && (1..=SHUFFLE_CHUNK_BYTES as u64).contains(&body.length);
        self.end += body.length;
        Some(flat.then_some(part))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{BlockReader, ShuffleWriter};
    use super::*;
    use offshoot_proto::link::BlockFile;
    use offshoot_proto::outcome::TaskFailure;
    use std::io::Read;
    use std::io::Seek;

    fn written(pieces: &[&[u8]]) -> (std::fs::File, Vec<Extent>, u64) {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = ShuffleWriter::new(1, false);
        for piece in pieces {
            if writer.push(0, piece) {
                writer.flush(&mut file).unwrap();
            }
        }
        writer.flush(&mut file).unwrap();
        writer.end(&mut file).unwrap();
        let (mut index, _) = writer.finish();
        (file, index.reducers.pop().unwrap(), index.data_bytes)
    }

    #[test]
    fn a_flat_block_is_its_bytes_and_reads_as_chunks() {
        let bytes: Vec<u8> = (0..40_000_003u32).map(|n| (n % 251) as u8).collect();
        let (mut file, extents, length) = written(&bytes.chunks(70_001).collect::<Vec<_>>());
        assert_eq!(file.metadata().unwrap().len(), length);
        assert_eq!(extents.iter().map(|extent| extent.length).sum::<u64>(), length);
        let parts: Option<Vec<_>> = FlatParts::new(&extents).collect();
        assert_eq!(parts.unwrap().iter().map(|p| p.body.length).sum::<u64>(), 40_000_003);
        let mut flat = vec![0; bytes.len()];
        file.rewind().unwrap();
        file.read_exact(&mut flat).unwrap();
        assert!(flat == bytes);
        let mut reader = BlockReader::default();
        reader.add_file(file, BlockFile { failure: TaskFailure::Killed, extents });
        let mut read = vec![0; bytes.len() + 1];
        assert_eq!(reader.read(&mut read).unwrap(), bytes.len());
        assert!(read[..bytes.len()] == bytes);
    }

    #[test]
    fn an_empty_block_has_no_extents() {
        let (_, extents, length) = written(&[]);
        assert_eq!((extents.len(), length), (0, 0));
    }

    #[test]
    fn what_is_not_flat_is_seen() {
        let extent = |offset, length| Extent { offset, length };
        let flat = [extent(30, 12), extent(0, 20), extent(42, 12), extent(20, 10)];
        let all = |extents: &[Extent]| FlatParts::new(extents).collect::<Option<Vec<_>>>();
        assert_eq!(all(&flat).map(|parts| parts.len()), Some(2));
        assert_eq!(all(&flat[..3]), None);
        assert_eq!(all(&[flat[0], flat[1], flat[2], extent(21, 10)]), None);
        assert_eq!(all(&[extent(30, 11), flat[1]]), None);
        assert_eq!(all(&[flat[0], extent(0, 0)]), None);
        assert_eq!(all(&[flat[0], extent(0, 1 << 40)]), None);
        assert_eq!(all(&[extent(0, 700)]), None);
    }
}
