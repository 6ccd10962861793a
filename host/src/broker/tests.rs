//! Guests that try to leave what they were granted, and guests that do not.
//!
//! ```text
//!   data/      read      in.txt, sub/deep.txt, and links that lead everywhere
//!   work/      write     old.txt, dir/
//!   one.txt    read      and its sibling two.txt is not granted
//!   secret/    nothing   key.txt
//! ```
#![allow(clippy::unwrap_used)]

use super::*;
use offshoot_proto::abi::{InputFile, code};
use offshoot_proto::grants::PathGrant;
use offshoot_proto::link::{PathKind, PathOperation};
use offshoot_sandbox::wasi::Errno;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
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
        Self {
            directory,
            grants,
            broker,
        }
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

    fn ask(&self, guest: &str, path: &str, operation: PathOperation) -> (PathReply, Option<OwnedFd>) {
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
    PathOperation::Rename {
        to_preopen,
        to_path: to_path.to_owned(),
    }
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

#[test]
fn what_is_granted_can_be_read() {
    let world = World::new();
    assert_eq!(world.contents("data", "in.txt"), "in");
    assert_eq!(world.contents("data", "sub/deep.txt"), "deep");
    assert_eq!(world.contents("data", "./sub//../in.txt"), "in");
    assert_eq!(world.contents("data", "inside"), "in");
    assert_eq!(world.contents("data", "winding"), "in");
    assert_eq!(world.contents("work", "old.txt"), "old", "writing includes reading");
    assert_eq!(world.contents("one.txt", "."), "one");
    assert_eq!(world.contents(&world.host("data"), "in.txt"), "in", "as listings name it");
}

#[test]
fn no_path_leads_out() {
    let world = World::new();
    let before = world.outside();
    let absolute = world.host("secret/key.txt");
    let paths = [
        "../secret/key.txt",
        "../two.txt",
        "sub/../../secret/key.txt",
        "./../secret/key.txt",
        "..",
        "../",
        "out",
        "absolute",
        "outdir/key.txt",
        "outdir",
        "outdir/",
        "chain1",
        "up/secret/key.txt",
        "up",
        "magic/etc/passwd",
        "dangling",
        "/etc/passwd",
        "/",
        absolute.as_str(),
    ];
    let operations = [
        READ,
        WRITE,
        CREATE,
        open(true, true, true),
        PathOperation::Stat { follow: true },
        PathOperation::List,
        PathOperation::SetTimes {
            accessed_nanos: Some(0),
            modified_nanos: Some(0),
        },
    ];
    for guest in ["data", "work"] {
        for path in paths {
            for operation in &operations {
                let errno = world.refused(guest, path, operation.clone());
                let reasons = [Errno::PERM, Errno::ACCES];
                assert!(reasons.contains(&errno), "{guest} {path} {operation:?}: {errno:?}");
            }
        }
    }
    assert_eq!(world.outside(), before);
}

#[test]
fn nothing_outside_is_made_moved_or_removed() {
    let world = World::new();
    let before = world.outside();
    let work = world.preopen("work");
    for path in [
        "../new",
        "outdir/new",
        "outdir/key.txt",
        "up/new",
        "up/two.txt",
        "/tmp/new",
        "dir/../../new",
        "..",
        "dir/..",
    ] {
        for operation in [
            CREATE,
            PathOperation::CreateDirectory,
            PathOperation::RemoveFile,
            PathOperation::RemoveDirectory,
            rename(work, "stolen"),
        ] {
            world.refused("work", path, operation);
        }
        world.refused("work", "old.txt", rename(work, path));
    }
    assert_eq!(world.outside(), before);
    assert_eq!(world.contents("work", "old.txt"), "old");
}

#[test]
fn a_grant_to_read_is_no_grant_to_write() {
    let world = World::new();
    let work = world.preopen("work");
    let data = world.preopen("data");
    let truncate = PathOperation::Open {
        read: true,
        write: false,
        create: false,
        exclusive: false,
        truncate: true,
        append: false,
        directory: false,
        follow: true,
    };
    for operation in [
        WRITE,
        truncate,
        PathOperation::RemoveFile,
        rename(work, "stolen"),
        PathOperation::SetTimes {
            accessed_nanos: None,
            modified_nanos: Some(1),
        },
    ] {
        assert_eq!(world.refused("data", "in.txt", operation), Errno::ACCES);
    }
    assert_eq!(world.refused("data", "new", CREATE), Errno::ACCES);
    assert_eq!(world.refused("data", "new", PathOperation::CreateDirectory), Errno::ACCES);
    assert_eq!(world.refused("data", "sub", PathOperation::RemoveDirectory), Errno::ACCES);
    assert_eq!(world.refused("work", "old.txt", rename(data, "new")), Errno::ACCES);
    assert_eq!(world.contents("data", "in.txt"), "in");
    assert_eq!(
        world.message("data", "in.txt", WRITE),
        "writing data/in.txt is not granted: add --allow-write data/in.txt"
    );
}

#[test]
fn a_granted_file_says_nothing_of_its_siblings() {
    let world = World::new();
    for path in ["../two.txt", "two.txt", "one.txt", "./x", "..", "/", "one.txt/../two.txt"] {
        world.refused("one.txt", path, READ);
        world.refused("one.txt", path, PathOperation::Stat { follow: true });
    }
    assert_eq!(world.refused("one.txt", ".", PathOperation::List), Errno::NOTDIR);
    assert_eq!(world.refused("one.txt", "./", READ), Errno::NOTDIR);
    assert_eq!(world.refused("one.txt", ".", WRITE), Errno::ACCES);
}

#[test]
fn a_granted_file_may_be_made_and_replaced() {
    let world = World::new();
    let grants = grants(world.directory.path(), &[], &["work", "result.txt"]);
    let world = World {
        broker: Broker::new(&grants),
        ..world
    };
    assert_eq!(world.refused("result.txt", ".", READ), Errno::NOENT);
    let (_, file) = world.ask("result.txt", ".", CREATE);
    fs::File::from(file.unwrap()).write_all(b"first").unwrap();
    assert_eq!(world.contents("result.txt", "."), "first");
    let result = world.preopen("result.txt");
    let (reply, _) = world.ask("work", "old.txt", rename(result, "."));
    assert_eq!(reply, PathReply::Done);
    assert_eq!(world.contents("result.txt", "."), "old");
    let (reply, _) = world.ask("result.txt", ".", PathOperation::RemoveFile);
    assert_eq!(reply, PathReply::Done);
    assert!(!world.at("result.txt").exists());
}

#[test]
fn a_hard_link_inside_is_inside() {
    let world = World::new();
    fs::hard_link(world.at("secret/key.txt"), world.at("data/hard")).unwrap();
    assert_eq!(world.contents("data", "hard"), "key");
}

#[test]
fn a_trailing_slash_means_a_directory() {
    let world = World::new();
    let stat = PathOperation::Stat { follow: true };
    assert_eq!(world.refused("data", "in.txt/", READ), Errno::NOTDIR);
    assert_eq!(world.refused("data", "in.txt/", stat), Errno::NOTDIR);
    assert_eq!(world.refused("work", "old.txt/", PathOperation::RemoveFile), Errno::NOTDIR);
    let work = world.preopen("work");
    assert_eq!(world.refused("work", "old.txt", rename(work, "x/")), Errno::NOTDIR);
    assert_eq!(world.refused("work", "new/", CREATE), Errno::INVAL);
    let (reply, descriptor) = world.ask("data", "sub/", READ);
    assert!(matches!(reply, PathReply::Stat(stat) if stat.kind == PathKind::Directory));
    assert!(descriptor.is_none(), "a directory is no descriptor");
    assert_eq!(world.ask("work", "new/", PathOperation::CreateDirectory).0, PathReply::Done);
}

#[test]
fn paths_that_are_none_are_refused_by_form() {
    let world = World::new();
    let long = "x/".repeat(512 << 10);
    for operation in [READ, CREATE, PathOperation::List, PathOperation::RemoveFile] {
        let nul = world.refused("work", "old.txt\0.png", operation.clone());
        assert_eq!(nul, Errno::INVAL);
        let errno = world.refused("work", &long, operation.clone());
        assert_eq!(errno, Errno::NAMETOOLONG);
        assert_eq!(world.refused("work", "", operation), Errno::NOENT);
    }
    assert!(world.message("work", &long, READ).len() < 100, "the path is not repeated");
    let work = world.preopen("work");
    assert_eq!(world.refused("work", "old.txt", rename(work, &long)), Errno::NAMETOOLONG);
    assert!(world.broker.list_inputs(&long).unwrap_err().to_string().len() < 100);
    let request = PathRequest {
        preopen: 99,
        path: "x".to_owned(),
        operation: READ,
    };
    let (reply, _) = world.broker.handle(&request);
    assert!(matches!(reply, PathReply::Errno { errno, .. } if errno == Errno::BADF.raw()));
    let deep = "d/".repeat(2000) + "x";
    assert_eq!(world.refused("data", &deep, READ), Errno::NOENT);
}

#[test]
fn devices_pipes_and_sockets_are_not_opened() {
    let world = World::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, world.at("work/fifo"), fifo, mode, 0).unwrap();
    let _listener = UnixListener::bind(world.at("work/socket")).unwrap();
    for path in ["fifo", "socket"] {
        for operation in [READ, WRITE, CREATE, open(true, true, false)] {
            assert_eq!(world.refused("work", path, operation), Errno::ACCES);
        }
    }
    let grants = grants(Path::new("/dev"), &["."], &["null"]);
    let world = World {
        broker: Broker::new(&grants),
        ..world
    };
    assert_eq!(world.refused(".", "zero", READ), Errno::ACCES);
    assert_eq!(world.refused("null", ".", WRITE), Errno::ACCES);
}

#[test]
fn links_stay_where_they_are() {
    let world = World::new();
    let grants = grants(world.directory.path(), &["work/nested"], &["work", "result.txt"]);
    let world = World {
        broker: Broker::new(&grants),
        ..world
    };
    let result = world.preopen("result.txt");
    let work = world.preopen("work");
    assert_eq!(world.refused("work", "out", rename(result, ".")), Errno::PERM);
    assert_eq!(world.refused("work", "out", rename(work, "nested")), Errno::PERM);
    // Should there be one where a grant begins that a guest can write around, it leads nowhere.
    symlink("../secret", world.at("work/nested")).unwrap();
    assert_eq!(world.refused("work/nested", "key.txt", READ), Errno::PERM);
    assert_eq!(world.ask("work", "out", PathOperation::RemoveFile).0, PathReply::Done);
    assert_eq!(fs::read(world.at("secret/key.txt")).unwrap(), b"key");
}

#[test]
fn a_grant_that_is_a_link_stands_for_what_it_leads_to() {
    let world = World::new();
    symlink("data", world.at("latest")).unwrap();
    let grants = grants(world.directory.path(), &["latest"], &[]);
    let world = World {
        broker: Broker::new(&grants),
        ..world
    };
    assert_eq!(world.contents("latest", "in.txt"), "in");
    assert_eq!(world.refused("latest", "out", READ), Errno::PERM);
    let (reply, _) = world.ask("latest", ".", PathOperation::Stat { follow: false });
    assert!(matches!(reply, PathReply::Stat(stat) if stat.kind == PathKind::Directory));
}

#[test]
fn links_can_be_read_unless_they_name_the_host() {
    let world = World::new();
    let (reply, _) = world.ask("data", "inside", PathOperation::ReadLink);
    assert_eq!(reply, PathReply::Link("in.txt".to_owned()));
    assert_eq!(world.refused("data", "absolute", PathOperation::ReadLink), Errno::PERM);
    assert_eq!(world.refused("data", "in.txt", PathOperation::ReadLink), Errno::INVAL);
    let (reply, _) = world.ask("data", "out", PathOperation::Stat { follow: false });
    assert!(matches!(reply, PathReply::Stat(stat) if stat.kind == PathKind::Link));
    assert_eq!(world.refused("data", "loop", READ), Errno::LOOP);
}

#[test]
fn a_directory_can_be_filled_listed_and_emptied() {
    let world = World::new();
    let exclusive = PathOperation::Open {
        read: false,
        write: true,
        create: true,
        exclusive: true,
        truncate: false,
        append: false,
        directory: false,
        follow: true,
    };
    assert_eq!(world.ask("work", "dir/b", PathOperation::CreateDirectory).0, PathReply::Done);
    assert!(world.ask("work", "dir/a", exclusive.clone()).1.is_some());
    assert_eq!(world.refused("work", "dir/a", exclusive), Errno::EXIST);
    let (reply, _) = world.ask("work", "dir", PathOperation::List);
    let PathReply::Entries(entries) = reply else {
        panic!("{reply:?}");
    };
    let names: Vec<_> = entries.iter().map(|(name, stat)| (name.as_str(), stat.kind)).collect();
    assert_eq!(names, [("a", PathKind::File), ("b", PathKind::Directory)]);
    assert_eq!(world.refused("work", "dir", PathOperation::RemoveDirectory), Errno::NOTEMPTY);
    assert_eq!(world.refused("work", "dir/b", PathOperation::RemoveFile), Errno::ISDIR);
    assert_eq!(world.refused("work", "dir", WRITE), Errno::ISDIR);
    let times = PathOperation::SetTimes {
        accessed_nanos: None,
        modified_nanos: Some(5_000_000_007),
    };
    assert_eq!(world.ask("work", "dir/a", times).0, PathReply::Done);
    let stat = fs::metadata(world.at("work/dir/a")).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (5, 7));
    let work = world.preopen("work");
    assert_eq!(world.ask("work", "dir/a", rename(work, "a")).0, PathReply::Done);
    assert_eq!(world.ask("work", "dir/b", PathOperation::RemoveDirectory).0, PathReply::Done);
    assert_eq!(world.ask("work", "dir", PathOperation::RemoveDirectory).0, PathReply::Done);
    assert_eq!(world.refused("work", ".", PathOperation::RemoveDirectory), Errno::PERM);
    assert_eq!(world.refused("work", ".", rename(work, "x")), Errno::PERM);
}

#[test]
fn tasks_have_the_same_preopens_and_write_nothing() {
    let world = World::new();
    let tasks = Broker::for_tasks(&world.grants);
    let names = |broker: &Broker| broker.preopens().into_iter().map(|(name, _)| name).collect();
    let (of_main, of_tasks): (Vec<_>, Vec<_>) = (names(&world.broker), names(&tasks));
    assert_eq!(of_main, of_tasks);
    assert!(world.broker.preopens().iter().any(|(_, writable)| *writable));
    assert!(!tasks.preopens().iter().any(|(_, writable)| *writable));
    let world = World {
        broker: tasks,
        ..world
    };
    assert_eq!(world.contents("work", "old.txt"), "old");
    assert_eq!(world.refused("work", "old.txt", WRITE), Errno::ACCES);
    assert!(world.message("work", "old.txt", WRITE).starts_with("a task cannot write work/old.txt"));
    assert_eq!(world.broker.check_output_dir("work/out").unwrap_err().code(), code::DENIED);
}

#[test]
fn preopens_do_not_depend_on_what_exists() {
    let world = World::new();
    let grants = grants(world.directory.path(), &["./data/", "data"], &["data", "later"]);
    let before = Broker::new(&grants).preopens();
    fs::create_dir(world.at("later")).unwrap();
    assert_eq!(Broker::new(&grants).preopens(), before);
    let expected = ["data".to_owned(), world.host("data"), "later".to_owned(), world.host("later")];
    assert_eq!(before, expected.map(|name| (name, true)));
}

fn names(files: &[InputFile]) -> Vec<&str> {
    let name = |file: &'_ InputFile| file.path.rsplit('/').next().map(str::len).unwrap();
    files.iter().map(|file| &file.path[file.path.len() - name(file)..]).collect()
}

#[test]
fn inputs_are_files_directories_and_patterns() {
    let world = World::new();
    for name in ["b.csv", "a.csv", "c.txt", ".hidden.csv", "_SUCCESS", "10.csv"] {
        fs::write(world.at("work/dir").join(name), name).unwrap();
    }
    fs::create_dir(world.at("work/dir/more.csv")).unwrap();
    fs::write(world.at("work/dir/more.csv/z.csv"), "z").unwrap();
    let list = |pattern: &str| world.broker.list_inputs(pattern).unwrap();
    let file = list("work/dir/a.csv");
    assert_eq!(file[0].path, world.host("work/dir/a.csv"));
    assert_eq!(file[0].length, 5);
    let stat = fs::metadata(world.at("work/dir/a.csv")).unwrap();
    assert_eq!(file[0].modified_nanos, stat.mtime() * 1_000_000_000 + stat.mtime_nsec());
    let all = ["10.csv", "a.csv", "b.csv", "c.txt"];
    assert_eq!(names(&list("work/dir")), all);
    assert_eq!(names(&list("./work/dir/")), all);
    assert_eq!(names(&list(&world.host("work/dir"))), all);
    assert_eq!(names(&list("work/dir/?.csv")), ["a.csv", "b.csv"]);
    assert_eq!(names(&list("work/dir/[bc].*")), ["b.csv", "c.txt"]);
    assert_eq!(names(&list("work/d*/[0-9]*.csv")), ["10.csv"]);
    assert_eq!(names(&list("work/dir/*.csv")), ["10.csv", "a.csv", "b.csv", "z.csv"]);
    assert_eq!(names(&list("work/dir/.*.csv")), [".hidden.csv"]);
    assert_eq!(names(&list("one.txt")), ["one.txt"]);
}

#[test]
fn listings_stay_inside_too() {
    let world = World::new();
    let fails = |pattern: &str| world.broker.list_inputs(pattern).unwrap_err();
    for pattern in ["secret", "secret/*", "/etc/passwd", "*.txt", "two.txt", "../*", "data/../*"] {
        assert_eq!(fails(pattern).code(), code::DENIED, "{pattern}");
    }
    for pattern in ["data/out", "data/o*", "data/outdir", "data/outdir/*", "data/up/*", "data"] {
        assert_eq!(fails(pattern).code(), code::DENIED, "{pattern}");
    }
    assert_eq!(
        fails("secret/*").to_string(),
        "reading secret/* is not granted: add --allow-read secret/*"
    );
    assert_eq!(fails("data/no*").to_string(), "no file matches data/no*");
    assert_eq!(fails("data/none").code(), code::IO);
    assert_eq!(fails("data/in.txt/").code(), code::IO);
    assert_eq!(fails("data/**/x").code(), code::INVALID);
    assert_eq!(fails("data/[x").code(), code::INVALID);
}

#[test]
fn an_input_is_the_file_that_was_listed() {
    let world = World::new();
    let listed = world.broker.list_inputs("data/in.txt").unwrap().remove(0);
    let tasks = Broker::for_tasks(&world.grants);
    assert_eq!(text_of(tasks.open_input(&listed).unwrap()), "in");

    fs::write(world.at("data/in.txt"), "longer").unwrap();
    let error = tasks.open_input(&listed).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("listed with 2 bytes") && text.contains("now has 6 bytes"), "{text}");
    assert_eq!(error.code(), code::IO);

    let older = InputFile {
        length: 6,
        modified_nanos: 1,
        ..listed
    };
    assert!(matches!(tasks.open_input(&older), Err(BrokerError::InputChanged { .. })));
    for path in ["secret/key.txt", "two.txt", "data/../secret/key.txt", "data/out"] {
        let path = world.host(path);
        let file = InputFile { path, ..older.clone() };
        assert_eq!(tasks.open_input(&file).unwrap_err().code(), code::DENIED);
    }
}

#[test]
fn an_output_is_a_directory_that_does_not_exist_yet() {
    let world = World::new();
    let check = |path: &str| world.broker.check_output_dir(path);
    assert_eq!(check("work/out").unwrap(), world.host("work/out"));
    assert_eq!(check("work/dir/out/").unwrap(), world.host("work/dir/out"));
    assert!(matches!(check("work/dir"), Err(BrokerError::OutputExists { .. })));
    assert!(matches!(check("work/dangling"), Err(BrokerError::OutputExists { .. })));
    assert!(matches!(check("work"), Err(BrokerError::OutputExists { .. })));
    assert!(matches!(check("work/no/out"), Err(BrokerError::NoOutputParent { .. })));
    for path in ["data/out", "out", "/tmp/out", "work/../out", "work/outdir/out"] {
        assert_eq!(check(path).unwrap_err().code(), code::DENIED, "{path}");
    }
    let text = check("data/out").unwrap_err().to_string();
    assert_eq!(text, "writing data/out is not granted: add --allow-write data/out");
    let grants = grants(world.directory.path(), &[], &["result"]);
    let output = Broker::new(&grants).check_output_dir("result").unwrap();
    assert_eq!(output, world.host("result"));
}
