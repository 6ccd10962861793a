//! Pieces of bulk data between a driver and its executors: packed where that is shorter.

use offshoot_proto::executor::DataChunk;
use offshoot_proto::limits::LINK_CHUNK_BYTES;
use std::io;

/// Bytes of one chunk after decompression.
const CHUNK_BYTES_MAX: usize = 4 * LINK_CHUNK_BYTES;

/// A chunk of these bytes, compressed if that is shorter.
pub fn pack(bytes: Vec<u8>) -> DataChunk {
    let packed = lz4_flex::block::compress(&bytes);
    if packed.len() < bytes.len() {
        return DataChunk { length: bytes.len() as u32, compressed: true, bytes: packed };
    }
    raw(bytes)
}

/// A chunk of these bytes as they are.
fn raw(bytes: Vec<u8>) -> DataChunk {
    DataChunk { length: bytes.len() as u32, compressed: false, bytes }
}

/// The bytes of a chunk.
pub fn unpack(chunk: DataChunk) -> io::Result<Vec<u8>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "a chunk that does not unpack");
    let length = chunk.length as usize;
    if length > CHUNK_BYTES_MAX {
        return Err(bad());
    }
    let bytes = if chunk.compressed {
        lz4_flex::block::decompress(&chunk.bytes, length).map_err(|_| bad())?
    } else {
        chunk.bytes
    };
    if bytes.len() == length { Ok(bytes) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_packed_comes_out_the_same() {
        for bytes in [vec![], vec![7; 100_000], (0..=255).collect()] {
            let chunk = pack(bytes.clone());
            assert_eq!(chunk.compressed, bytes.len() > 1000);
            assert_eq!(unpack(chunk).unwrap(), bytes);
            assert_eq!(unpack(raw(bytes.clone())).unwrap(), bytes);
        }
    }

    #[test]
    fn a_chunk_that_lies_about_its_length_is_refused() {
        let packed = pack(vec![7; 1000]);
        for length in [999, 1001, u32::MAX] {
            assert!(unpack(DataChunk { length, ..packed.clone() }).is_err());
            assert!(unpack(DataChunk { length, ..raw(vec![7; 1000]) }).is_err());
        }
    }
}
