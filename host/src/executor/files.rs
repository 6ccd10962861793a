//! The files of an executor: where shuffle data, spilled runs and staged parts are written.
//!
//! A map attempt's files get their names only when its report is accepted: the data first, then
//! the index, whose presence means that the output is whole.

use super::ExecutorError;
use super::disk::AppDisk;
use crate::launch::ExecutorStart;
use crate::memory::BlockId;
use crate::shuffle_service::index::{self, IndexError};
use offshoot_proto::block::{Extent, ShuffleIndex};
use offshoot_proto::grants::{Access, Grants, is_remote};
use offshoot_proto::id::{AttemptId, NodeId, Partition};
use offshoot_proto::part::{BadPartNames, PartNames};
use offshoot_proto::stage::StageKind;
use rustix::fs::{Mode, OFlags, open};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The application's directory on this worker.
#[derive(Clone, Debug)]
pub(super) struct AppFiles {
    directory: PathBuf,
    /// How files that are being written end: executors of one application share a directory.
    staged: String,
    grants: Grants,
    disk: Arc<Mutex<AppDisk>>,
}

// === impl AppFiles ===

impl AppFiles {
    pub(super) fn create(start: &ExecutorStart) -> Result<Self, ExecutorError> {
        let directory = start.app_directory.clone();
        for path in [directory.join("shuffle"), directory.join("spill")] {
            fs::create_dir_all(&path)
                .map_err(|error| ExecutorError::Directory { path: path.clone(), error })?;
        }
        let app = &start.launch.app;
        let disk = AppDisk::new(app.settings.app_disk_bytes_max, committed(&directory));
        let disk = Arc::new(Mutex::new(disk));
        let staged = format!("{}.new", start.launch.executor.number);
        Ok(Self { directory, staged, grants: app.grants.clone(), disk })
    }

    /// Files of one map attempt, without their ending.
    pub(super) fn map_path(&self, writer: NodeId, map: Partition, attempt: AttemptId) -> PathBuf {
        self.directory.join(format!("shuffle/{writer}/{map}-{attempt}"))
    }

    /// The index of a block that is in a file.
    pub(super) fn index(&self, id: BlockId) -> Result<ShuffleIndex, IndexError> {
        let path = self.map_path(id.writer, id.map, id.attempt);
        index::read_index(&path.with_added_extension("index"))
    }

    /// The data of a block that is in a file.
    pub(super) fn data_path(&self, id: BlockId) -> PathBuf {
        self.map_path(id.writer, id.map, id.attempt).with_added_extension("data")
    }

    fn staged_path(&self, writer: NodeId, map: Partition, attempt: AttemptId) -> PathBuf {
        self.map_path(writer, map, attempt).with_added_extension(&self.staged)
    }

    /// What an attempt has written that is not committed; none if it wrote nothing.
    pub(super) fn open_staged(
        &self,
        id: BlockId,
        index: &ShuffleIndex,
    ) -> io::Result<Option<File>> {
        if index.data_bytes == 0 {
            return Ok(None);
        }
        let file = File::open(self.staged_path(id.writer, id.map, id.attempt))?;
        check_index(index, file.metadata()?.len())?;
        Ok(Some(file))
    }

    /// Removes it.
    pub(super) fn discard_staged(&self, id: BlockId) {
        // It may never have been there.
        let _ = fs::remove_file(self.staged_path(id.writer, id.map, id.attempt));
    }

    /// Removes a block of a dataset that was dropped while it was written.
    pub(super) fn remove_block(&self, id: BlockId) {
        // It may be in memory, or its whole directory gone.
        let _ = fs::remove_file(
            self.map_path(id.writer, id.map, id.attempt).with_added_extension("index"),
        );
        let data = self.data_path(id);
        let length = fs::metadata(&data).map_or(0, |data| data.len());
        if fs::remove_file(data).is_ok() {
            self.disk().uncommit(id.writer, length);
        }
    }

    /// A file for the shuffle data of an attempt that has not ended.
    pub(super) fn shuffle_sink(
        &self,
        writer: NodeId,
        map: Partition,
        attempt: AttemptId,
    ) -> io::Result<OwnedFd> {
        let path = self.staged_path(writer, map, attempt);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        create(&path)
    }

    /// Gives the output of an ended attempt its name.
    pub(super) fn commit_shuffle(
        &self,
        writer: NodeId,
        map: Partition,
        attempt: AttemptId,
        output: &ShuffleIndex,
    ) -> io::Result<()> {
        let path = self.map_path(writer, map, attempt);
        let staged = self.staged_path(writer, map, attempt);
        if output.data_bytes == 0 && !staged.exists() {
            // A task that wrote nothing opened nothing.
            self.shuffle_sink(writer, map, attempt)?;
        }
        check_index(output, fs::metadata(&staged)?.len())?;
        self.disk().commit(writer, output.data_bytes).map_err(io::Error::other)?;
        let named = || {
            fs::rename(&staged, path.with_added_extension("data"))?;
            let index_new = path.with_added_extension(format!("index.{}", self.staged));
            index::write_index(&index_new, output).map_err(io::Error::other)?;
            fs::rename(index_new, path.with_added_extension("index"))
        };
        named().inspect_err(|_| self.disk().uncommit(writer, output.data_bytes))
    }

    /// Removes what an attempt that failed has staged.
    pub(super) fn discard(
        &self,
        kind: &StageKind,
        node: NodeId,
        map: Partition,
        attempt: AttemptId,
    ) {
        let path = match kind {
            StageKind::Result => return,
            StageKind::ShuffleWrite { .. } | StageKind::Kept { .. } => {
                self.staged_path(node, map, attempt)
            }
            StageKind::Output { staging, .. } if is_remote(staging) => return,
            StageKind::Output { staging, prefix } => {
                let Ok(path) = part_path(staging, prefix, map, attempt) else { return };
                path
            }
        };
        // It may never have been opened.
        let _ = fs::remove_file(&path);
        if let (StageKind::ShuffleWrite { .. } | StageKind::Kept { .. }, Some(of_all)) =
            (kind, path.parent())
        {
            // Goes if nothing is in it: the shuffle may have been dropped.
            let _ = fs::remove_dir(of_all);
        }
    }

    /// Removes the output of a shuffle that nobody needs.
    pub(super) fn drop_shuffle(&self, writer: NodeId) {
        let _ = fs::remove_dir_all(self.directory.join(format!("shuffle/{writer}")));
        self.disk().drop_shuffle(writer);
    }

    /// What the application has on this worker's disk.
    pub(super) fn disk(&self) -> MutexGuard<'_, AppDisk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file for the part that an attempt stages.
    pub(super) fn output_sink(
        &self,
        staging: &str,
        prefix: &str,
        partition: Partition,
        attempt: AttemptId,
    ) -> io::Result<OwnedFd> {
        if self.grants.find(staging, Access::Write).is_none() {
            let text = format!("writing {staging} is not granted: add --allow-write");
            return Err(io::Error::other(text));
        }
        let path = part_path(staging, prefix, partition, attempt).map_err(io::Error::other)?;
        let with_path = |error: io::Error| {
            let path = path.display();
            io::Error::other(format!(
                "{path}: {error} (an output on several machines must be on a file system that \
                 all of them share)"
            ))
        };
        create(&path).map_err(with_path)
    }

    /// A file that has no name: it is gone when the attempt is.
    pub(super) fn spill(&self) -> io::Result<OwnedFd> {
        let directory = self.directory.join("spill");
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match open(&directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(file),
            // Not every file system can make a file without a name.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
                let path = directory.join("run");
                let file = create(&path)?;
                fs::remove_file(path)?;
                Ok(file)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Bytes of the shuffles that are there, by writer: what executors before this one have left.
fn committed(directory: &Path) -> BTreeMap<NodeId, u64> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let mut committed = BTreeMap::new();
    for writer_directory in entries(&directory.join("shuffle")) {
        let name = writer_directory.file_name();
        let Some(writer) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let lengths =
            entries(&writer_directory.path()).filter_map(|file| Some(file.metadata().ok()?.len()));
        committed.insert(NodeId(writer), lengths.sum());
    }
    committed
}

/// Checks what a slot said of a file of this length.
pub(super) fn check_index(index: &ShuffleIndex, length: u64) -> io::Result<()> {
    let inside =
        |extent: &Extent| extent.offset.checked_add(extent.length).is_some_and(|end| end <= length);
    if length != index.data_bytes || !index.reducers.iter().flatten().all(inside) {
        return Err(io::Error::other("the index of the shuffle does not fit its data"));
    }
    Ok(())
}

/// `<staging>/<name of the part>.<attempt>`.
pub(super) fn part_path(
    staging: &str,
    prefix: &str,
    partition: Partition,
    attempt: AttemptId,
) -> Result<PathBuf, BadPartNames> {
    let name = PartNames::new(prefix)?.of(partition);
    Ok(Path::new(staging).join(format!("{name}.{attempt}")))
}

fn create(path: &Path) -> io::Result<OwnedFd> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    Ok(file.into())
}
