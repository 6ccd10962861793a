//! The index file of a map attempt: where each reducer's chunks lie in the data file beside it.
//!
//! ```text
//!   magic and version (8) | postcard of ShuffleIndex | CRC-32 of all before (4, little-endian)
//! ```
//!
//! An index is only good together with its data: reading one checks that every extent lies inside
//! the data file and that together they are all of it.

use offshoot_proto::block::{Extent, INDEX_MAGIC, ShuffleIndex};
use offshoot_proto::frame;
use offshoot_proto::limits::PARTITIONS_MAX;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes of an index file at most: a million reducers with four extents each, and room to spare.
pub const INDEX_BYTES_MAX: u64 = 128 << 20;

/// Bytes of the checksum at the end.
const CHECKSUM_BYTES: usize = 4;

/// Why an index cannot be read or written.
#[derive(Debug, Error)]
pub enum IndexError {
    /// There is none: the attempt left no output here, or it has been dropped.
    #[error("there is no index {}", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The disk does not play along.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("index {} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The index is larger than any reader accepts.
    #[error("index {} takes {bytes} bytes, the limit is {INDEX_BYTES_MAX}", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
}

/// Writes `index` to `path`, replacing what is there. The caller gives the file its final name
/// when all of the attempt's output is whole.
pub fn write_index(path: &Path, index: &ShuffleIndex) -> Result<(), IndexError> {
    let mut bytes = INDEX_MAGIC.to_vec();
    bytes.append(&mut frame::to_bytes(index));
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    if bytes.len() as u64 > INDEX_BYTES_MAX {
        return Err(IndexError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64 });
    }
    fs::write(path, bytes).map_err(|source| failed(path, source))
}

/// Reads the index at `path` and checks it against the data file beside it (the same name with
/// the ending `data`).
pub fn read_index(path: &Path) -> Result<ShuffleIndex, IndexError> {
    let bytes = read_bounded(path)?;
    let damaged = |reason: String| IndexError::Damaged { path: path.to_owned(), reason };
    let index = decode(&bytes).map_err(damaged)?;
    let data = path.with_extension("data");
    let found = fs::metadata(&data).map_err(|source| failed(&data, source))?;
    if found.len() != index.data_bytes {
        let (expected, found) = (index.data_bytes, found.len());
        return Err(damaged(format!(
            "it is for {expected} bytes of data, the data file has {found}"
        )));
    }
    check_extents(&index).map_err(damaged)?;
    Ok(index)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, IndexError> {
    let file = File::open(path).map_err(|source| failed(path, source))?;
    let mut bytes = Vec::new();
    let read = file.take(INDEX_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|source| failed(path, source))?;
    let length = bytes.len() as u64;
    if length > INDEX_BYTES_MAX {
        return Err(IndexError::TooLarge { path: path.to_owned(), bytes: length });
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<ShuffleIndex, String> {
    let (rest, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or("it is empty or cut")?;
    let payload = rest
        .strip_prefix(&INDEX_MAGIC)
        .ok_or("it does not start as an index of this version does")?;
    let (expected, found) = (u32::from_le_bytes(*sum), crc32fast::hash(rest));
    if expected != found {
        return Err(format!("checksum mismatch: expected {expected:08x}, found {found:08x}"));
    }
    frame::from_bytes(payload).map_err(|error| error.to_string())
}

fn check_extents(index: &ShuffleIndex) -> Result<(), String> {
    let ShuffleIndex { reducers, data_bytes } = index;
    if reducers.len() > PARTITIONS_MAX as usize {
        return Err(format!("{} reducers, the limit is {PARTITIONS_MAX}", reducers.len()));
    }
    let mut total = 0_u64;
    for (reducer, extents) in reducers.iter().enumerate() {
        for Extent { offset, length } in extents {
            let end = offset.checked_add(*length);
            if end.is_none_or(|end| end > *data_bytes) {
                return Err(format!(
                    "reducer {reducer}: {length} bytes at {offset} are not inside {data_bytes}"
                ));
            }
            total = total.saturating_add(*length);
        }
    }
    if total == *data_bytes {
        Ok(())
    } else {
        Err(format!("its extents have {total} bytes, the data file has {data_bytes}"))
    }
}

fn failed(path: &Path, source: io::Error) -> IndexError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::NotFound {
        IndexError::Missing { path }
    } else {
        IndexError::Io { path, source }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tempfile::TempDir;

    fn extent(offset: u64, length: u64) -> Extent {
        Extent { offset, length }
    }

    fn sample() -> ShuffleIndex {
        ShuffleIndex {
            reducers: vec![vec![extent(0, 10), extent(40, 2)], vec![], vec![extent(10, 30)]],
            data_bytes: 42,
        }
    }

    /// A directory with an index and a data file of `data_bytes`.
    fn written(index: &ShuffleIndex, data_bytes: usize) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("3-17.index");
        write_index(&path, index).unwrap();
        fs::write(path.with_extension("data"), vec![0; data_bytes]).unwrap();
        (directory, path)
    }

    fn reason(result: Result<ShuffleIndex, IndexError>) -> String {
        match result {
            Err(IndexError::Damaged { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_index_reads_back_as_it_was_written() {
        for index in [sample(), ShuffleIndex::default()] {
            let (_directory, path) = written(&index, index.data_bytes as usize);
            assert_eq!(read_index(&path).unwrap(), index);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (_directory, path) = written(&sample(), 42);
        let good = fs::read(&path).unwrap();
        for position in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[position / 8] ^= 1 << (position % 8);
            fs::write(&path, &bad).unwrap();
            reason(read_index(&path));
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            reason(read_index(&path));
        }
        let longer = [good.as_slice(), &[0]].concat();
        fs::write(&path, longer).unwrap();
        reason(read_index(&path));
    }

    #[test]
    fn an_index_must_fit_its_data() {
        for data_bytes in [41, 43] {
            let (_directory, path) = written(&sample(), data_bytes);
            assert!(reason(read_index(&path)).contains("it is for 42 bytes"));
        }
        let outside = ShuffleIndex { reducers: vec![vec![extent(u64::MAX, 2)]], data_bytes: 1 };
        let (_directory, path) = written(&outside, 1);
        assert!(reason(read_index(&path)).starts_with("reducer 0: 2 bytes at"));
        let hole = ShuffleIndex { reducers: vec![vec![extent(0, 1)]], data_bytes: 2 };
        let (_directory, path) = written(&hole, 2);
        assert!(reason(read_index(&path)).contains("its extents have 1 bytes"));
    }

    #[test]
    fn a_missing_file_is_told_apart_from_a_damaged_one() {
        let (directory, path) = written(&sample(), 42);
        let absent = directory.path().join("4-17.index");
        assert!(matches!(read_index(&absent), Err(IndexError::Missing { .. })));
        fs::remove_file(path.with_extension("data")).unwrap();
        let Err(IndexError::Missing { path }) = read_index(&path) else { panic!("it is there") };
        assert!(path.ends_with("3-17.data"));
    }
}
