//! Files, directories and streams of a guest.

use super::*;
use std::io::{Read as _, Seek as _, Write as _};

const READ: u64 = 1 << 1;
const SEEK_TELL: u64 = 1 << 2 | 1 << 5;
const WRITE: u64 = 1 << 6;
const ALL: u64 = u64::MAX;
const APPEND: u64 = 1;

fn file_with(bytes: &[u8]) -> SystemFile {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// One buffer at 0x1000, or where the test says.
fn transfer(guest: &mut Guest, name: &str, fd: u64, buffers: &[u32]) -> Result<u32, u16> {
    guest.write_words(0x400, buffers);
    let count = buffers.len() as u64 / 2;
    match guest.call(name, &[fd, 0x400, count, 0x300]) {
        0 => Ok(guest.u32_at(0x300)),
        errno => Err(errno),
    }
}

#[test]
fn a_file_is_read_where_its_offset_is() {
    let mut guest = Guest::main();
    guest.serve(&file_with(b"hello, world"));
    let fd = guest.open("in.txt", ALL, 0).unwrap().into();
    assert_eq!(transfer(&mut guest, "fd_read", fd, &[0x1000, 3, 0x2000, 2]), Ok(5));
    assert_eq!(guest.read(0x1000, 3), b"hel");
    assert_eq!(guest.read(0x2000, 2), b"lo");
    assert_eq!(guest.call("fd_seek", &[fd, -5_i64 as u64, 2, 0]), 0);
    assert_eq!(guest.u64_at(0), 7);
    assert_eq!(transfer(&mut guest, "fd_read", fd, &[0x1000, 100]), Ok(5));
    assert_eq!(guest.read(0x1000, 5), b"world");
    assert_eq!(transfer(&mut guest, "fd_read", fd, &[0x1000, 100]), Ok(0));
    assert_eq!(guest.call("fd_tell", &[fd, 0]), 0);
    assert_eq!(guest.u64_at(0), 12);
    guest.write_words(0x400, &[0x1000, 4]);
    assert_eq!(guest.call("fd_pread", &[fd, 0x400, 1, 1, 0x300]), 0);
    assert_eq!(guest.read(0x1000, 4), b"ello");
    assert_eq!(guest.call("fd_seek", &[fd, -1_i64 as u64, 0, 0]), Errno::INVAL.raw());
    let far = guest.call("fd_pread", &[fd, 0x400, 1, u64::MAX, 0x300]);
    assert_eq!(far, Errno::INVAL.raw());
}

#[test]
fn memory_is_made_writable_before_the_kernel_writes_there() {
    let mut guest = Guest::main();
    let content: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    guest.serve(&file_with(&content));
    let fd = guest.open("in", ALL, 0).unwrap().into();
    assert_eq!(transfer(&mut guest, "fd_read", fd, &[0x1000, 4095]), Ok(4095));
    assert!(guest.host().made_writable.is_empty(), "copied");
    assert_eq!(guest.read(0x1000, 4095), content[..4095]);
    assert_eq!(transfer(&mut guest, "fd_read", fd, &[0x1000, 100_000]), Ok(95_905));
    assert_eq!(guest.read(0x1000, 95_905), content[4095..]);
    let chunks = [(0x1000, 65_536), (0x1000 + 65_536, 34_464)];
    assert_eq!(guest.host().made_writable, chunks);
}

#[test]
fn a_short_file_does_not_make_a_large_buffer_writable() {
    let mut guest = Guest::main();
    guest.serve(&file_with(b"short"));
    let fd = guest.open("in", ALL, 0).unwrap().into();
    assert_eq!(transfer(&mut guest, "fd_read", fd, &[0x1000, 120_000]), Ok(5));
    assert_eq!(guest.host().made_writable, [(0x1000, 65_536)]);
}

#[test]
fn a_read_over_its_own_buffer_list_goes_where_the_list_said() {
    let mut guest = Guest::main();
    guest.serve(&file_with(&[0xff; 24]));
    let fd = guest.open("in", ALL, 0).unwrap().into();
    assert_eq!(transfer(&mut guest, "fd_read", fd, &[0x400, 16, 0x1000, 8]), Ok(24));
    assert_eq!(guest.read(0x1000, 8), [0xff; 8]);
}

#[test]
fn a_file_is_written_and_cut_and_appended_to() {
    let mut guest = Guest::main();
    let mut file = file_with(b"");
    guest.serve(&file);
    guest.write(0x1000, b"abcdef");
    let fd = guest.open("out", ALL, 0).unwrap().into();
    assert_eq!(transfer(&mut guest, "fd_write", fd, &[0x1000, 6, 0x1000, 2]), Ok(8));
    assert_eq!(guest.call("fd_filestat_set_size", &[fd, 7]), 0);
    assert_eq!(guest.call("fd_sync", &[fd]), 0);
    assert_eq!(guest.call("fd_datasync", &[fd]), 0);
    guest.write_words(0x400, &[0x1004, 2]);
    assert_eq!(guest.call("fd_pwrite", &[fd, 0x400, 1, 0, 0x300]), 0);
    let mut content = String::new();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "efcdefa");

    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), "head").unwrap();
    guest.serve(&SystemFile::options().append(true).open(named.path()).unwrap());
    let fd = guest.open("log", WRITE | SEEK_TELL, APPEND).unwrap().into();
    assert_eq!(transfer(&mut guest, "fd_write", fd, &[0x1000, 3]), Ok(3));
    assert_eq!(guest.call("fd_tell", &[fd, 0]), 0);
    assert_eq!(guest.u64_at(0), 7, "at the end");
    assert_eq!(std::fs::read(named.path()).unwrap(), b"headabc");
}

#[test]
fn one_call_moves_at_most_a_mebibyte() {
    let mut guest = Guest::main();
    let buffers: Vec<u32> = (0..20).flat_map(|_| [0, MEMORY_BYTES]).collect();
    assert_eq!(transfer(&mut guest, "fd_write", 1, &buffers), Ok(1 << 20));
    let written: usize = guest.host().output.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(written, 1 << 20);
}

#[test]
fn streams_go_out_and_nothing_comes_in() {
    let mut guest = Guest::main();
    guest.write(0x1000, b"to all");
    assert_eq!(transfer(&mut guest, "fd_write", 1, &[0x1000, 3]), Ok(3));
    assert_eq!(transfer(&mut guest, "fd_write", 2, &[0x1003, 3]), Ok(3));
    let output = [(1, b"to ".to_vec()), (2, b"all".to_vec())];
    assert_eq!(guest.host().output, output);
    assert_eq!(transfer(&mut guest, "fd_read", 0, &[0x1000, 3]), Ok(0));
    assert_eq!(transfer(&mut guest, "fd_read", 1, &[0x1000, 3]), Err(Errno::BADF.raw()));
    assert_eq!(transfer(&mut guest, "fd_write", 0, &[0x1000, 3]), Err(Errno::BADF.raw()));
    assert_eq!(guest.call("fd_seek", &[1, 0, 0, 0]), Errno::SPIPE.raw());
}

#[test]
fn a_descriptor_of_main_is_not_a_tasks_and_the_reason_is_kept() {
    let mut guest = Guest::task(6);
    let calls: [(&str, &[u64]); 8] = [
        ("fd_read", &[5, 0, 0, 0x300]),
        ("fd_write", &[5, 0, 0, 0x300]),
        ("fd_close", &[5]),
        ("fd_seek", &[5, 0, 0, 0]),
        ("fd_filestat_get", &[5, 0]),
        ("fd_readdir", &[5, 0, 64, 0, 0x300]),
        ("path_unlink_file", &[5, 0, 1]),
        ("fd_renumber", &[5, 1]),
    ];
    for (name, arguments) in calls {
        guest.host().wasi.refusal = None;
        assert_eq!(guest.call(name, arguments), Errno::BADF.raw(), "{name}");
        let refusal = guest.host().wasi.refusal().map(ToString::to_string);
        let expected = "descriptor 5 was opened by main; a task opens its own files";
        assert_eq!(refusal.as_deref(), Some(expected), "{name}");
    }
    guest.host().wasi.refusal = None;
    assert_eq!(guest.call("fd_close", &[6]), Errno::BADF.raw(), "never opened by anyone");
    assert_eq!(guest.call("fd_prestat_get", &[4, 0]), Errno::BADF.raw());
    assert_eq!(guest.host().wasi.refusal(), None);
    guest.serve(&file_with(b""));
    assert_eq!(guest.open("own", ALL, 0), Ok(6));
}

#[test]
fn a_new_guest_has_no_file_of_the_last_one() {
    let mut guest = Guest::task(0);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut writer = Some(OwnedFd::from(writer));
    guest.answer(move |_| (PathReply::Opened(PathStat::default()), writer.take()));
    let fd = guest.open("pipe", ALL, 0).unwrap();
    assert_eq!(guest.host().wasi.first_free_descriptor(), fd + 1);
    let next = Wasi::for_task(&settings(), &snapshot(0), NodeId(0), Partition(0));
    guest.host().wasi = next;
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(guest.call("fd_close", &[fd.into()]), Errno::BADF.raw());
    assert_eq!(guest.host().wasi.first_free_descriptor(), 4);
}

#[test]
fn preopens_have_names_and_rights() {
    let mut guest = Guest::main();
    assert_eq!(guest.call("fd_prestat_get", &[3, 0]), 0);
    assert_eq!((guest.u32_at(0), guest.u32_at(4)), (0, 4));
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, 0, 4]), 0);
    assert_eq!(guest.read(0, 4), b"data");
    let short = guest.call("fd_prestat_dir_name", &[3, 0, 3]);
    assert_eq!(short, Errno::NAMETOOLONG.raw());
    for fd in [0, 1, 2, 4] {
        assert_eq!(guest.call("fd_prestat_get", &[fd, 0]), Errno::BADF.raw());
    }
    assert_eq!(guest.call("fd_fdstat_get", &[3, 0]), 0);
    assert_eq!(guest.read(0, 1), [3], "a directory");
    let (base, inheriting) = (guest.u64_at(8), guest.u64_at(16));
    let (path_open, path_unlink_file) = (1 << 13, 1 << 26);
    assert_eq!(base & (path_open | path_unlink_file), path_open | path_unlink_file);
    assert_eq!(inheriting & (READ | WRITE), READ | WRITE, "for wasi-libc to ask with");
}

#[test]
fn a_guest_opens_with_rights_and_can_give_them_up() {
    let mut guest = Guest::main();
    guest.serve(&file_with(b"content"));
    let fd = guest.open("in", READ, 0).unwrap().into();
    let expected = PathOperation::Open {
        read: true,
        write: false,
        create: false,
        exclusive: false,
        truncate: false,
        append: false,
        directory: false,
        follow: true,
    };
    assert_eq!(guest.host().requests.pop().unwrap().operation, expected);
    assert_eq!(transfer(&mut guest, "fd_write", fd, &[0, 1]), Err(Errno::BADF.raw()));
    assert_eq!(guest.call("fd_filestat_set_size", &[fd, 0]), Errno::NOTCAPABLE.raw());
    let gain = guest.call("fd_fdstat_set_rights", &[fd, READ | WRITE, 0]);
    assert_eq!(gain, Errno::NOTCAPABLE.raw());
    assert_eq!(guest.call("fd_fdstat_set_rights", &[fd, READ, 0]), 0);
    assert_eq!(transfer(&mut guest, "fd_read", fd, &[0x1000, 7]), Ok(7));
    assert_eq!(guest.call("fd_seek", &[fd, 0, 0, 0]), Errno::NOTCAPABLE.raw());
}

#[test]
fn flags_that_mean_nothing_are_refused() {
    let mut guest = Guest::main();
    guest.serve(&file_with(b""));
    assert_eq!(guest.open("x", ALL, 1 << 5), Err(Errno::INVAL.raw()));
    assert_eq!(guest.open("x", ALL, 1 << 16), Err(Errno::INVAL.raw()));
    assert_eq!(guest.open("x", ALL, 1 << 1), Err(Errno::NOTSUP.raw()), "dsync");
    let lookup = [3, 2, 0x8000, 1, 0, ALL, 0, 0, 0x9000];
    assert_eq!(guest.call("path_open", &lookup), Errno::INVAL.raw());
    let how = [3, 0, 0x8000, 1, 16, ALL, 0, 0, 0x9000];
    assert_eq!(guest.call("path_open", &how), Errno::INVAL.raw());
    assert!(guest.host().requests.is_empty(), "nothing was asked for");
    let fd = guest.open("x", ALL, 0).unwrap().into();
    assert_eq!(guest.call("fd_fdstat_set_flags", &[fd, 1 << 2]), 0, "never blocks anyway");
    let append = guest.call("fd_fdstat_set_flags", &[fd, 1]);
    assert_eq!(append, Errno::NOTSUP.raw());
}

#[test]
fn paths_are_text_of_bounded_length() {
    let mut guest = Guest::main();
    assert_eq!(guest.open("a\0b", ALL, 0), Err(Errno::INVAL.raw()));
    guest.write(0x8000, &[0xff, 0xfe]);
    let bytes = guest.call("path_unlink_file", &[3, 0x8000, 2]);
    assert_eq!(bytes, Errno::ILSEQ.raw());
    let long = guest.call("path_unlink_file", &[3, 0, 4097]);
    assert_eq!(long, Errno::NAMETOOLONG.raw());
    assert!(guest.host().requests.is_empty());
}

#[test]
fn a_refused_path_leaves_its_reason_and_a_missing_one_does_not() {
    let mut guest = Guest::main();
    assert_eq!(guest.open("gone", ALL, 0), Err(Errno::NOENT.raw()));
    assert_eq!(guest.host().wasi.refusal(), None);
    guest.answer(|_| (errno_reply(Errno::ACCES, "add --allow-write data"), None));
    assert_eq!(guest.open("x", ALL, 0), Err(Errno::ACCES.raw()));
    let refusal = guest.host().wasi.refusal().map(ToString::to_string);
    assert_eq!(refusal.as_deref(), Some("add --allow-write data"));
}

#[test]
fn an_opened_directory_is_a_name() {
    let mut guest = Guest::main();
    let stat = PathStat { kind: PathKind::Directory, inode: 9, ..PathStat::default() };
    guest.answer(move |_| (PathReply::Stat(stat), None));
    let fd = guest.open("sub", ALL, 0).unwrap().into();
    guest.answer(|_| (PathReply::Done, None));
    guest.write(0, b"x/y../z");
    assert_eq!(guest.call("path_create_directory", &[fd, 0, 3]), 0);
    let request = guest.host().requests.pop().unwrap();
    assert_eq!((request.preopen, request.path.as_str()), (0, "sub/x/y"));
    let up = guest.call("path_create_directory", &[fd, 3, 2]);
    assert_eq!(up, Errno::PERM.raw());
    assert_eq!(guest.call("path_rename", &[fd, 0, 1, 3, 2, 1]), 0);
    let rename = guest.host().requests.pop().unwrap();
    let operation = PathOperation::Rename { to_preopen: 0, to_path: "y".to_owned() };
    assert_eq!((rename.path.as_str(), rename.operation), ("sub/x", operation));
    assert_eq!(transfer(&mut guest, "fd_read", fd, &[0, 1]), Err(Errno::ISDIR.raw()));
}

/// Name, cookie, inode and type of each entry that is whole.
fn entries(mut bytes: &[u8]) -> Vec<(String, u64, u64, u8)> {
    let mut entries = Vec::new();
    while bytes.len() >= 24 {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let length = word(16) as u32 as usize;
        let Some(name) = bytes.get(24..24 + length) else {
            break;
        };
        let name = String::from_utf8(name.to_vec()).unwrap();
        entries.push((name, word(0), word(8), bytes[20]));
        bytes = &bytes[24 + length..];
    }
    entries
}

#[test]
fn a_directory_is_read_in_pieces_that_fit_together() {
    let mut guest = Guest::main();
    guest.answer(|_| {
        let entry = |index: u64| {
            let stat = PathStat { inode: 100 + index, kind: PathKind::File, ..PathStat::default() };
            (format!("file-{index:02}"), stat)
        };
        (PathReply::Entries((0..20).map(entry).collect()), None)
    });
    for size in [60, 100, 5000] {
        let (mut all, mut cookie) = (Vec::new(), 0);
        loop {
            assert_eq!(guest.call("fd_readdir", &[3, 0x1000, size, cookie, 0x300]), 0);
            let used = guest.u32_at(0x300);
            let piece = entries(&guest.read(0x1000, used));
            all.extend(piece.iter().map(|(name, ..)| name.clone()));
            cookie = piece.last().map_or(cookie, |entry| entry.1);
            if u64::from(used) < size {
                break;
            }
        }
        let files = (0..20).map(|index| format!("file-{index:02}"));
        let expected: Vec<String> =
            [".".to_owned(), "..".to_owned()].into_iter().chain(files).collect();
        assert_eq!(all, expected, "with a buffer of {size}");
    }
    assert_eq!(guest.host().requests.len(), 3, "asked for once each");
    assert_eq!(guest.call("fd_readdir", &[3, 0x1000, 5000, u64::MAX, 0x300]), 0);
    assert_eq!(guest.u32_at(0x300), 0);
}
