//! Blocks that are fetched before they are read: in a file without a name.

use super::FetchError;
use super::lines::HeldStream;
use crate::executor::files::AppFiles;
use offshoot_proto::block::{BlockFrame, Extent};
use offshoot_proto::id::{AttemptId, Partition};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};

/// The blocks of one shuffle that one task has fetched.
pub(super) struct Spool {
    files: AppFiles,
    file: File,
    length: u64,
    /// Of the application's disk, what this was granted.
    granted: u64,
    /// By map partition.
    blocks: BTreeMap<usize, Extent>,
}

// === impl Spool ===

impl Spool {
    pub(super) fn new(files: &AppFiles) -> io::Result<Self> {
        let (file, blocks) = (files.spill()?.into(), BTreeMap::new());
        Ok(Self { files: files.clone(), file, length: 0, granted: 0, blocks })
    }

    /// What was fetched of a map.
    pub(super) fn find(&self, map: usize) -> Option<Extent> {
        self.blocks.get(&map).copied()
    }

    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Takes the blocks of these maps from a stream, to its end.
    pub(super) async fn fetch(
        &mut self,
        mut held: HeldStream,
        maps: &[(Partition, AttemptId)],
    ) -> Result<(), FetchError> {
        for (map, _) in maps {
            let index = map.0 as usize;
            let failed = |reason: String| FetchError::Fetch(index, reason);
            let offset = self.length;
            loop {
                let frame = held.stream.receiver.recv::<BlockFrame>().await;
                match frame.map_err(|error| failed(error.to_string()))? {
                    Some(BlockFrame::Chunks(chunks)) => self.push(&chunks)?,
                    Some(BlockFrame::End { map: ended }) if ended == *map => break,
                    Some(BlockFrame::Failed { map: lost, reason }) if lost == *map => {
                        return Err(failed(reason));
                    }
                    Some(_) => return Err(failed("another map came than was due".to_owned())),
                    None => return Err(failed("the stream ended early".to_owned())),
                }
            }
            let length = self.length - offset;
            self.blocks.insert(index, Extent { offset, length });
        }
        Ok(())
    }

    /// Sums are checked when it is read.
    fn push(&mut self, chunks: &[u8]) -> Result<(), FetchError> {
        let length = self.length + chunks.len() as u64;
        if length > self.granted {
            let granted = self.files.disk().grant(length - self.granted);
            let kibibytes = granted.map_err(|error| FetchError::Host(error.to_string()))?;
            self.granted += u64::from(kibibytes) << 10;
        }
        let written = self.file.write_all(chunks);
        written.map_err(|error| FetchError::Host(format!("writing fetched blocks: {error}")))?;
        self.length = length;
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.files.disk().release(self.granted);
    }
}
