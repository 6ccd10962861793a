//! Guests that use what they were granted.

use super::*;
use std::io::Write as _;

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
fn a_granted_file_may_be_made_and_replaced() {
    let world = World::new();
    let grants = grants(world.directory.path(), &[], &["work", "result.txt"]);
    let world = World { broker: Broker::new(&grants), ..world };
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
fn a_trailing_slash_means_a_directory() {
    let world = World::new();
    let stat = PathOperation::Stat { follow: true };
    assert_eq!(world.refused("data", "in.txt/", READ), Errno::NOTDIR);
    assert_eq!(world.refused("data", "outdir/", READ), Errno::PERM);
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
fn a_grant_that_is_a_link_stands_for_what_it_leads_to() {
    let world = World::new();
    symlink("data", world.at("latest")).unwrap();
    let grants = grants(world.directory.path(), &["latest"], &[]);
    let world = World { broker: Broker::new(&grants), ..world };
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
    let times =
        PathOperation::SetTimes { accessed_nanos: None, modified_nanos: Some(5_000_000_007) };
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
    let world = World { broker: tasks, ..world };
    assert_eq!(world.contents("work", "old.txt"), "old");
    assert_eq!(world.refused("work", "old.txt", WRITE), Errno::ACCES);
    assert!(
        world.message("work", "old.txt", WRITE).starts_with("a task cannot write work/old.txt")
    );
    assert_eq!(world.broker.check_output_dir("work/out").unwrap_err().code(), code::DENIED);
}

#[test]
fn preopens_do_not_depend_on_what_exists() {
    let world = World::new();
    let grants = grants(world.directory.path(), &["./data/", "data"], &["data", "later"]);
    let before = Broker::new(&grants).preopens();
    fs::create_dir(world.at("later")).unwrap();
    assert_eq!(Broker::new(&grants).preopens(), before);
    let mut expected =
        ["data".to_owned(), world.host("data"), "later".to_owned(), world.host("later")]
            .map(|name| (name, true))
            .to_vec();
    expected.push(("/".to_owned(), false));
    assert_eq!(before, expected);
}
