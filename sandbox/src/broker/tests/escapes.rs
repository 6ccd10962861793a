//! Guests that try to leave what they were granted.

use super::*;
use std::os::unix::net::UnixListener;

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
        PathOperation::SetTimes { accessed_nanos: Some(0), modified_nanos: Some(0) },
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
        PathOperation::SetTimes { accessed_nanos: None, modified_nanos: Some(1) },
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
fn a_hard_link_inside_is_inside() {
    let world = World::new();
    fs::hard_link(world.at("secret/key.txt"), world.at("data/hard")).unwrap();
    assert_eq!(world.contents("data", "hard"), "key");
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
    let request = PathRequest { preopen: 99, path: "x".to_owned(), operation: READ };
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
    let world = World { broker: Broker::new(&grants), ..world };
    assert_eq!(world.refused(".", "zero", READ), Errno::ACCES);
    assert_eq!(world.refused("null", ".", WRITE), Errno::ACCES);
}

#[test]
fn links_stay_where_they_are() {
    let world = World::new();
    let grants = grants(world.directory.path(), &["work/nested"], &["work", "result.txt"]);
    let world = World { broker: Broker::new(&grants), ..world };
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
fn what_no_grant_is_near_is_refused_with_the_flag() {
    let world = World::new();
    assert_eq!(world.refused("/", "etc/passwd", READ), Errno::ACCES);
    assert_eq!(
        world.message("/", "etc/passwd", READ),
        "reading etc/passwd is not granted: add --allow-read etc/passwd, or --allow-read \
         /etc/passwd if the path is absolute"
    );
    let everything = [
        WRITE,
        CREATE,
        PathOperation::Stat { follow: true },
        PathOperation::List,
        PathOperation::RemoveDirectory,
        rename(world.preopen("work"), "x"),
    ];
    for operation in everything {
        assert_eq!(world.refused("/", ".", operation), Errno::ACCES);
    }
    let work = world.preopen("work");
    let nowhere = world.preopen("/");
    assert_eq!(world.refused("work", "old.txt", rename(nowhere, "tmp/x")), Errno::ACCES);
    assert_eq!(world.contents("work", "old.txt"), "old");
    assert!(work < nowhere);
}
