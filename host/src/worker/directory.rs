//! The directory of one worker.
//!
//! ```text
//!   DIR/worker.lock          held for as long as the worker lives; its text is the process id
//!   DIR/apps/app-1/          shuffle/ and spill/ of the application's executors
//!   DIR/trash/0              what is being deleted, a little at a time
//! ```
//!
//! Deleting is renaming first: whoever looks finds nothing from then on, however long the files
//! take to go.

use offshoot_proto::id::AppId;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::task::yield_now;

/// Files deleted before other tasks run.
const DELETIONS_MAX: usize = 64;

/// A worker's directory, locked.
#[derive(Debug)]
pub(super) struct WorkDirectory {
    root: PathBuf,
    next_trash: AtomicU64,
    /// Held by whoever deletes.
    deleting: Mutex<()>,
    _lock: File,
}

/// Why a worker cannot use its directory.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// It cannot be made or written to.
    #[error(
        "cannot use {} as the worker's directory: {source}; choose another one with --dir",
        path.display()
    )]
    Unusable {
        /// What was tried last.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another worker has it.
    #[error(
        "{} is in use by another worker (process {holder}); stop that one, or choose another \
         directory with --dir",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
}

// === impl WorkDirectory ===

impl WorkDirectory {
    /// Makes the directory if it is missing, and locks it.
    pub(super) fn open(root: &Path) -> Result<Self, DirectoryError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| DirectoryError::Unusable { path, source }
        };
        make(root).map_err(unusable(root))?;
        let root = fs::canonicalize(root).map_err(unusable(root))?;
        let lock = lock(&root)?;
        for path in [root.join("apps"), root.join("trash")] {
            make(&path).map_err(unusable(&path))?;
        }
        Ok(Self { root, next_trash: AtomicU64::new(0), deleting: Mutex::default(), _lock: lock })
    }

    /// Where the directories of applications are.
    pub(super) fn apps(&self) -> PathBuf {
        self.root.join("apps")
    }

    /// The directory of an application.
    pub(super) fn app(&self, app: AppId) -> PathBuf {
        self.apps().join(app.to_string())
    }

    /// Makes the directory of an application, with what its executors expect.
    pub(super) fn make_app(&self, app: AppId) -> io::Result<PathBuf> {
        let path = self.app(app);
        make(&path.join("shuffle"))?;
        make(&path.join("spill"))?;
        Ok(path)
    }

    /// Takes an application's directory out of sight; the rest is for [`WorkDirectory::empty`].
    pub(super) fn discard(&self, app: AppId) -> io::Result<()> {
        self.retire(&self.app(app))
    }

    /// The same with those of all applications.
    pub(super) fn discard_all(&self) -> io::Result<()> {
        self.retire(&self.apps())?;
        make(&self.apps())
    }

    fn retire(&self, path: &Path) -> io::Result<()> {
        loop {
            let number = self.next_trash.fetch_add(1, Ordering::Relaxed);
            let trash = self.root.join("trash").join(number.to_string());
            match fs::rename(path, trash) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                // An earlier worker left it; numbers are for telling apart.
                Err(error) if is_taken(&error) => {}
                other => return other,
            }
        }
    }

    /// Deletes what has been discarded, a little at a time.
    pub(super) async fn empty(&self) -> io::Result<()> {
        let _alone = self.deleting.lock().await;
        let trash = self.root.join("trash");
        let mut open = vec![fs::read_dir(&trash)?];
        let mut paths = vec![trash];
        let mut deletions = 0;
        while let Some(entries) = open.last_mut() {
            deletions += 1;
            if deletions % DELETIONS_MAX == 0 {
                yield_now().await;
            }
            let Some(entry) = entries.next().transpose()? else {
                open.pop();
                // The trash itself stays.
                if let Some(path) = paths.pop().filter(|_| !open.is_empty()) {
                    fs::remove_dir(path)?;
                }
                continue;
            };
            // The type of a link is link: nothing outside is followed.
            if entry.file_type()?.is_dir() {
                open.push(fs::read_dir(entry.path())?);
                paths.push(entry.path());
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn lock(root: &Path) -> Result<File, DirectoryError> {
    let path = root.join("worker.lock");
    let unusable = |source| DirectoryError::Unusable { path: path.clone(), source };
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.mode(0o600).open(&path).map_err(unusable)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // Without a number the message is still clear.
            let _ = (&file).take(20).read_to_string(&mut holder);
            return Err(DirectoryError::Locked { path: root.to_owned(), holder });
        }
        Err(error) => return Err(unusable(error.into())),
    }
    let written = file.set_len(0);
    let written = written.and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(unusable)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn open() -> (TempDir, WorkDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let work = WorkDirectory::open(&directory.path().join("new/work")).unwrap();
        (directory, work)
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn two_workers_do_not_share_a_directory() {
        let (_directory, first) = open();
        let error = WorkDirectory::open(&first.root).unwrap_err();
        let pid = std::process::id();
        assert!(error.to_string().contains(&format!("(process {pid})")), "{error}");
        let root = first.root.clone();
        drop(first);
        WorkDirectory::open(&root).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = WorkDirectory::open(&file.join("work")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot use {}/work", file.display())), "{text}");
    }

    #[tokio::test]
    async fn what_is_discarded_is_out_of_sight_at_once_and_gone_at_last() {
        let (directory, work) = open();
        let outside = directory.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        for app in [AppId(1), AppId(2)] {
            let path = work.make_app(app).unwrap();
            assert_eq!(names(&path), ["shuffle", "spill"]);
            for number in 0..200 {
                fs::write(path.join(format!("shuffle/{number}.data")), "x").unwrap();
            }
            symlink(directory.path(), path.join("spill/link")).unwrap();
        }
        work.discard(AppId(1)).unwrap();
        work.discard(AppId(7)).unwrap();
        assert_eq!(names(&work.apps()), ["app-2"]);
        work.empty().await.unwrap();
        assert_eq!(names(&work.root.join("trash")), [""; 0]);
        assert_eq!(fs::read_to_string(outside).unwrap(), "kept");
        assert_eq!(names(&work.app(AppId(2)).join("shuffle")).len(), 200);
    }

    #[tokio::test]
    async fn trash_of_an_earlier_worker_does_not_stand_in_the_way() {
        let (_directory, work) = open();
        work.make_app(AppId(1)).unwrap();
        work.discard_all().unwrap();
        let root = work.root.clone();
        drop(work);
        let work = WorkDirectory::open(&root).unwrap();
        work.make_app(AppId(2)).unwrap();
        work.discard_all().unwrap();
        assert_eq!(names(&work.apps()), [""; 0]);
        assert_eq!(names(&root.join("trash")), ["0", "1"]);
        work.empty().await.unwrap();
        assert_eq!(names(&root.join("trash")), [""; 0]);
    }
}
