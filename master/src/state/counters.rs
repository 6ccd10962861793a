//! Numbers that are never used twice, whatever happens to the process: epochs and applications.

use super::{StateError, read, replace};
use offshoot_net::ClusterName;
use offshoot_proto::id::{AppId, Epoch};
use std::path::{Path, PathBuf};

/// The format of the state directory.
pub const FORMAT_VERSION: u64 = 1;

/// The file `counters`.
#[derive(Debug)]
pub(crate) struct Counters {
    path: PathBuf,
    cluster: String,
    epoch: Epoch,
    next_app: AppId,
}

// === impl Counters ===

impl Counters {
    /// Reads the file, or starts at the beginning.
    pub(super) fn open(directory: &Path, cluster: &ClusterName) -> Result<Self, StateError> {
        let path = directory.join("counters");
        let mut counters =
            Self { path, cluster: cluster.to_string(), epoch: Epoch(0), next_app: AppId(1) };
        if let Some(text) = read(&counters.path)? {
            counters.parse(&text)?;
        }
        Ok(counters)
    }

    /// This life of the master, once it has begun.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The lowest application number that was never given out.
    pub(crate) fn next_app(&self) -> AppId {
        self.next_app
    }

    /// Begins a life of the master.
    pub(super) fn begin_epoch(&mut self) -> Result<(), StateError> {
        self.epoch.0 += 1;
        self.write()
    }

    /// Remembers that `app` is given out. When this has returned, no later life gives it again.
    pub(crate) fn use_app(&mut self, app: AppId) -> Result<(), StateError> {
        if app < self.next_app {
            return Ok(());
        }
        self.next_app = AppId(app.0 + 1);
        self.write()
    }

    fn write(&self) -> Result<(), StateError> {
        let text = format!(
            "version {FORMAT_VERSION}\ncluster {}\nepoch {}\nnext-app {}\n",
            self.cluster, self.epoch, self.next_app.0
        );
        replace(&self.path, &text)
    }

    fn parse(&mut self, text: &str) -> Result<(), StateError> {
        let mut lines = text.lines();
        let mut next = |line: usize, key: &'static str| {
            let value = lines.next().and_then(|text| text.strip_prefix(key)?.strip_prefix(' '));
            value.ok_or_else(|| self.damaged(line, format!("expected {key:?} and a value")))
        };
        let number = |line, text: &str| {
            let parsed = text.parse::<u64>();
            parsed.map_err(|_| self.damaged(line, format!("{text:?} is not a number")))
        };
        let version = number(1, next(1, "version")?)?;
        if version > FORMAT_VERSION {
            return Err(StateError::Version {
                path: self.path.clone(),
                found: version,
                supported: FORMAT_VERSION,
            });
        }
        let cluster = next(2, "cluster")?;
        if cluster != self.cluster {
            return Err(StateError::OtherCluster {
                path: self.path.clone(),
                expected: self.cluster.clone(),
                found: cluster.escape_debug().to_string(),
            });
        }
        let epoch = Epoch(number(3, next(3, "epoch")?)?);
        let next_app = AppId(number(4, next(4, "next-app")?)?);
        (self.epoch, self.next_app) = (epoch, next_app);
        Ok(())
    }

    fn damaged(&self, line: usize, reason: String) -> StateError {
        StateError::Damaged { path: self.path.clone(), line, reason }
    }
}
