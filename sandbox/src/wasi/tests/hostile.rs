//! Whatever a guest passes, a call returns an error number and touches nothing else.

use super::*;

const OUT: u64 = MEMORY_BYTES as u64;
const FAULT: u16 = 21;

/// Every function that takes a pointer, with arguments that are right but for one pointer.
const FAULTS: &[(&str, &[u64])] = &[
    ("args_get", &[OUT, 0]),
    ("args_get", &[0, OUT - 4]),
    ("args_sizes_get", &[OUT - 3, 0]),
    ("args_sizes_get", &[0, OUT]),
    ("environ_get", &[OUT, 0]),
    ("environ_get", &[0, OUT - 4]),
    ("environ_sizes_get", &[OUT - 3, 0]),
    ("environ_sizes_get", &[0, OUT]),
    ("clock_res_get", &[0, OUT - 7]),
    ("clock_time_get", &[0, 0, OUT - 7]),
    ("poll_oneoff", &[OUT - 47, 0, 1, 0]),
    ("poll_oneoff", &[0, OUT - 31, 1, 0]),
    ("poll_oneoff", &[0, 64, 1, OUT]),
    ("random_get", &[OUT - 1, 2]),
    ("random_get", &[0xffff_ffff, 0xffff_ffff]),
    ("fd_fdstat_get", &[1, OUT - 23]),
    ("fd_filestat_get", &[1, OUT - 63]),
    ("fd_prestat_get", &[3, OUT - 7]),
    ("fd_prestat_dir_name", &[3, OUT - 3, 4]),
    ("fd_read", &[0, OUT - 7, 1, 0]),
    ("fd_read", &[0, 0, 0, OUT - 3]),
    ("fd_write", &[1, OUT - 7, 1, 0]),
    ("fd_write", &[1, 0, 0, OUT - 3]),
    ("fd_pread", &[4, OUT - 7, 1, 0, 0]),
    ("fd_pread", &[4, 0, 0, 0, OUT]),
    ("fd_pwrite", &[4, OUT - 7, 1, 0, 0]),
    ("fd_pwrite", &[4, 0, 0, 0, OUT]),
    ("fd_readdir", &[3, OUT - 9, 10, 0, 0]),
    ("fd_readdir", &[3, 0, 10, 0, OUT]),
    ("fd_seek", &[4, 0, 0, OUT - 7]),
    ("fd_tell", &[4, OUT - 7]),
    ("path_create_directory", &[3, OUT - 1, 2]),
    ("path_filestat_get", &[3, 0, OUT - 1, 2, 0]),
    ("path_filestat_get", &[3, 0, 0, 1, OUT - 63]),
    ("path_filestat_set_times", &[3, 0, OUT - 1, 2, 0, 0, 0]),
    ("path_link", &[3, 0, OUT - 1, 2, 3, 0, 1]),
    ("path_link", &[3, 0, 0x100, 1, 3, OUT - 1, 2]),
    ("path_open", &[3, 0, OUT - 1, 2, 0, 0, 0, 0, 0]),
    ("path_open", &[3, 0, 0, 1, 0, 0, 0, 0, OUT - 3]),
    ("path_readlink", &[3, OUT - 1, 2, 0, 8, 16]),
    ("path_readlink", &[3, 0, 1, OUT - 7, 8, 16]),
    ("path_readlink", &[3, 0, 1, 0, 8, OUT]),
    ("path_remove_directory", &[3, OUT - 1, 2]),
    ("path_rename", &[3, OUT - 1, 2, 3, 0, 1]),
    ("path_rename", &[3, 0x100, 1, 3, OUT - 1, 2]),
    ("path_symlink", &[OUT - 1, 2, 3, 0, 1]),
    ("path_symlink", &[0x100, 1, 3, OUT - 1, 2]),
    ("path_unlink_file", &[3, OUT - 1, 2]),
];

/// Pointers, lengths, descriptors and flags that have hurt somebody.
const NASTY: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    99,
    1024,
    1025,
    OUT - 8,
    OUT - 1,
    OUT,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff0,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// A task with an open file as descriptor 4.
fn guest_with_file() -> Guest {
    let mut guest = Guest::task(0);
    let file = tempfile::tempfile().unwrap();
    guest.serve(&file);
    assert_eq!(guest.open("file", u64::MAX, 0), Ok(4));
    guest.answer(|request| match request.operation {
        PathOperation::List => (PathReply::Entries(Vec::new()), None),
        PathOperation::ReadLink => (PathReply::Link("target".to_owned()), None),
        PathOperation::Stat { .. } => (PathReply::Stat(PathStat::default()), None),
        _ => (PathReply::Done, None),
    });
    guest.write(0, b"name");
    guest.write(0x100, b"name");
    guest
}

#[test]
fn there_are_46_functions() {
    assert_eq!(SHARED.imports.len(), 46);
}

#[test]
fn a_pointer_outside_the_memory_is_a_fault() {
    for (name, arguments) in FAULTS {
        let mut guest = guest_with_file();
        assert_eq!(guest.call(name, arguments), FAULT, "{name} {arguments:?}");
    }
}

#[test]
fn every_function_with_a_pointer_is_in_the_table() {
    let without: [&str; 17] = [
        "fd_advise",
        "fd_allocate",
        "fd_close",
        "fd_datasync",
        "fd_fdstat_set_flags",
        "fd_fdstat_set_rights",
        "fd_filestat_set_size",
        "fd_filestat_set_times",
        "fd_renumber",
        "fd_sync",
        "proc_exit",
        "proc_raise",
        "sched_yield",
        // These look at the descriptor, which is never a socket, before any pointer.
        "sock_accept",
        "sock_recv",
        "sock_send",
        "sock_shutdown",
    ];
    for (name, _) in &SHARED.imports {
        let listed = FAULTS.iter().any(|(listed, _)| *listed == name);
        assert!(listed || without.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn a_buffer_outside_the_memory_is_a_fault_before_anything_is_moved() {
    for (pointer, length) in [(OUT - 1, 2), (0, OUT + 1), (u32::MAX.into(), u32::MAX.into())] {
        let mut guest = guest_with_file();
        let buffers = [0x200, 4, pointer as u32, length as u32];
        guest.write_words(0x400, &buffers);
        for name in ["fd_read", "fd_write"] {
            assert_eq!(guest.call(name, &[4, 0x400, 2, 0x500]), FAULT);
        }
        assert_eq!(guest.call("fd_write", &[1, 0x400, 2, 0x500]), FAULT);
        assert!(guest.host().output.is_empty(), "not even the first buffer");
        assert_eq!(guest.call("fd_tell", &[4, 0x500]), 0);
        assert_eq!(guest.u64_at(0x500), 0);
    }
}

#[test]
fn there_are_at_most_1024_buffers() {
    let mut guest = guest_with_file();
    assert_eq!(guest.call("fd_write", &[1, 0x1000, 1024, 0]), 0);
    for count in [1025, 0x2000_0001, u32::MAX.into()] {
        assert_eq!(guest.call("fd_write", &[1, 0x1000, count, 0]), Errno::INVAL.raw());
    }
}

#[test]
fn no_arguments_make_the_host_panic() {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        NASTY[(seed >> 33) as usize % NASTY.len()]
    };
    let mut guest = guest_with_file();
    for (name, kind) in &SHARED.imports {
        let count = kind.params().len();
        for round in 0..400 {
            if round % 50 == 0 {
                guest = guest_with_file();
            }
            let arguments: Vec<u64> = (0..count).map(|_| next()).collect();
            match guest.try_call(name, &arguments) {
                Ok(errno) => assert!(errno <= 76, "{name} {arguments:?}: {errno}"),
                Err(error) => assert!(error.is::<Exit>(), "{name} {arguments:?}: {error:?}"),
            }
        }
    }
}

#[test]
fn answers_that_make_no_sense_are_input_errors() {
    for answer in [PathReply::Done, PathReply::Opened(PathStat::default())] {
        let mut guest = Guest::main();
        guest.answer(move |_| (answer.clone(), None));
        assert_eq!(guest.open("x", u64::MAX, 0), Err(Errno::IO.raw()));
    }
    for errno in [0, 77, u16::MAX] {
        let mut guest = Guest::main();
        guest.answer(move |_| {
            let message = String::new();
            (PathReply::Errno { errno, message }, None)
        });
        assert_eq!(guest.open("x", u64::MAX, 0), Err(Errno::IO.raw()));
    }
}

#[test]
fn a_module_without_memory_has_no_valid_pointer() {
    let mut store = Guest::main().store;
    let wat = format!(
        "(module (import \"{MODULE}\" \"clock_time_get\"
             (func $now (param i32 i64 i32) (result i32)))
           (func (export \"run\") (result i32)
             (call $now (i32.const 0) (i64.const 0) (i32.const 0))))"
    );
    let module = Module::new(store.engine(), wat::parse_str(wat).unwrap()).unwrap();
    let instance = SHARED.linker.instantiate(&mut store, &module).unwrap();
    let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
    assert_eq!(run.call(&mut store, ()).unwrap(), i32::from(FAULT));
}

#[test]
fn a_host_that_may_not_write_stops_in_the_middle_and_ends_the_guest() {
    let mut guest = Guest::main();
    let mut file = SystemFile::from(crate::memory::memory_file("read").unwrap());
    std::io::Write::write_all(&mut file, &[7; 100]).unwrap();
    guest.serve(&file);
    let fd = guest.open("in", u64::MAX, 0).unwrap().into();
    guest.answer(|_| {
        let entry = |number: u64| (format!("file-{number}"), PathStat::default());
        (PathReply::Entries((0..20).map(entry).collect()), None)
    });
    // Buffers of two bytes, a page apart.
    let buffers = (1..20).flat_map(|page| [page << 12, 2]).collect::<Vec<_>>();
    let calls: [(&str, &[u64], u32); 4] = [
        ("fd_read", &[fd, 0x400, 19, 0x300], 2 << 12),
        ("fd_readdir", &[3, 0x1000, 5000, 0, 0x300], 0x1000 + 25),
        ("args_get", &[0x1000, 0x2000], 0x1000),
        ("random_get", &[0x1000, 100], 0x1000 + 100),
    ];
    for (name, arguments, end) in calls {
        guest.memory()[0x1000..0x9000].fill(0xee);
        guest.write_words(0x400, &buffers);
        guest.host().writes_left = 1;
        assert!(guest.try_call(name, arguments).is_err(), "{name}");
        assert_eq!(guest.read(end, 4), [0xee; 4], "{name} went on");
        guest.host().writes_left = usize::MAX;
    }
}
