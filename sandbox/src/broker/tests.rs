//! A world with grants and with things around them that are not granted.
//!
//! ```text
//!   data/      read      in.txt, sub/deep.txt, and links that lead everywhere
//!   work/      write     old.txt, dir/
//!   one.txt    read      and its sibling two.txt is not granted
//!   secret/    nothing   key.txt
//! ```
#![allow(clippy::unwrap_used)]

mod escapes;
mod inputs;
mod uses;

use super::*;
use crate::wasi::Errno;
use offshoot_proto::abi::{InputFile, code};
use offshoot_proto::grants::PathGrant;
use offshoot_proto::link::{PathKind, PathOperation};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;
use tempfile::TempDir;

const READ: PathOperation = open(true, false, false);
const WRITE: PathOperation = open(false, true, false);
const CREATE: PathOperation = open(false, true, true);

/// What there is to be lost: everything outside the grants, by path.
type Outside = Vec<(PathBuf, u64, i64, Vec<u8>)>;

struct World {
    directory: TempDir,
    grants: Grants,
    broker: Broker,
}

// === impl World ===

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in ["data/sub", "work/dir", "secret"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for (path, content) in [
            ("data/in.txt", "in"),
            ("data/sub/deep.txt", "deep"),
            ("work/old.txt", "old"),
            ("one.txt", "one"),
            ("two.txt", "two"),
            ("secret/key.txt", "key"),
        ] {
            fs::write(at(path), content).unwrap();
        }
        for granted in ["data", "work"] {
            let link = |target: &str, name: &str| symlink(target, at(granted).join(name)).unwrap();
            link("../secret/key.txt", "out");
            link(at("secret/key.txt").to_str().unwrap(), "absolute");
            link("../secret", "outdir");
            link("chain2", "chain1");
            link("chain3", "chain2");
            link("../secret/key.txt", "chain3");
            link("loop", "loop");
            link("..", "up");
            link("/proc/self/root", "magic");
            link("../secret/new.txt", "dangling");
        }
        symlink("in.txt", at("data/inside")).unwrap();
        symlink("sub/../in.txt", at("data/winding")).unwrap();
        let grants = grants(directory.path(), &["data", "one.txt"], &["work"]);
        let broker = Broker::new(&grants);
        Self { directory, grants, broker }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn host(&self, path: &str) -> String {
        self.at(path).to_str().unwrap().to_owned()
    }

    fn preopen(&self, guest: &str) -> u32 {
        let preopens = self.broker.preopens();
        let index = preopens.iter().position(|(name, _)| name == guest);
        index.unwrap().try_into().unwrap()
    }

    fn ask(
        &self,
        guest: &str,
        path: &str,
        operation: PathOperation,
    ) -> (PathReply, Option<OwnedFd>) {
        self.broker.handle(&PathRequest {
            preopen: self.preopen(guest),
            path: path.to_owned(),
            operation,
        })
    }

    /// The error number of an operation that must fail and give nothing away.
    fn refused(&self, guest: &str, path: &str, operation: PathOperation) -> Errno {
        match self.ask(guest, path, operation.clone()) {
            (PathReply::Errno { errno, .. }, None) => Errno::from_raw(errno),
            answer => panic!("{guest}: {path:?} {operation:?}: {answer:?}"),
        }
    }

    fn message(&self, guest: &str, path: &str, operation: PathOperation) -> String {
        match self.ask(guest, path, operation) {
            (PathReply::Errno { message, .. }, None) => message,
            answer => panic!("{answer:?}"),
        }
    }

    fn contents(&self, guest: &str, path: &str) -> String {
        let (reply, descriptor) = self.ask(guest, path, READ);
        assert!(matches!(reply, PathReply::Opened(_)), "{path}: {reply:?}");
        text_of(descriptor.unwrap())
    }

    fn outside(&self) -> Outside {
        let mut all = Vec::new();
        for path in ["secret", "secret/key.txt", "two.txt", "."] {
            let path = self.at(path);
            let stat = fs::metadata(&path).unwrap();
            let content = fs::read(&path).unwrap_or_default();
            all.push((path, stat.nlink(), stat.mtime_nsec(), content));
        }
        all
    }
}

const fn open(read: bool, write: bool, create: bool) -> PathOperation {
    PathOperation::Open {
        read,
        write,
        create,
        exclusive: false,
        truncate: false,
        append: false,
        directory: false,
        follow: true,
    }
}

fn rename(to_preopen: u32, to_path: &str) -> PathOperation {
    PathOperation::Rename { to_preopen, to_path: to_path.to_owned() }
}

fn grants(directory: &Path, read: &[&str], write: &[&str]) -> Grants {
    let grant = |guest: &&str| PathGrant {
        guest: (*guest).to_owned(),
        host: directory.join(guest).to_str().unwrap().to_owned(),
    };
    Grants {
        read: read.iter().map(grant).collect(),
        write: write.iter().map(grant).collect(),
        environment: Vec::new(),
    }
}

fn text_of(descriptor: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(descriptor).read_to_string(&mut text).unwrap();
    text
}
