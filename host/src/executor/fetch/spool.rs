//! Blocks that are fetched before they are read: in a file without a name.

use super::FetchError;
use super::lines::HeldStream;
use crate::executor::files::AppFiles;
use crate::executor::granted::GrantedFile;
use offshoot_proto::block::{BlockFrame, Extent};
use offshoot_proto::id::{AttemptId, Partition};
use rustix::fs::{Mode, OFlags, open};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The blocks of one shuffle that one task has fetched.
pub(super) struct Spool {
    file: GrantedFile,
    /// By map partition.
    blocks: BTreeMap<usize, Extent>,
}

// === impl Spool ===

impl Spool {
    pub(super) fn new(files: &AppFiles) -> io::Result<Self> {
        let file = GrantedFile::new(files, files.spill()?.into());
        Ok(Self { file, blocks: BTreeMap::new() })
    }

    /// What was fetched of a map.
    pub(super) fn find(&self, map: usize) -> Option<Extent> {
        self.blocks.get(&map).copied()
    }

    /// For a slot, which may read it and no more.
    pub(super) fn file(&self) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", self.file.file().as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(open(path, flags, Mode::empty()).map(File::from)?)
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
            let offset = self.file.length();
            loop {
                match held.next().await.map_err(failed)? {
                    // Sums are checked when it is read.
                    BlockFrame::Chunks(chunks) => {
                        let pushed = self.file.push(&chunks);
                        pushed.map_err(|error| {
                            FetchError::Host(format!("writing fetched blocks: {error}"))
                        })?;
                    }
                    BlockFrame::End { map: ended } if ended == *map => break,
                    BlockFrame::Failed { map: lost, reason } if lost == *map => {
                        return Err(failed(reason));
                    }
                    _ => return Err(failed("another map came than was due".to_owned())),
                }
            }
            let length = self.file.length() - offset;
            self.blocks.insert(index, Extent { offset, length });
        }
        Ok(())
    }
}
