//! Arguments, environment, clocks, randomness, waiting, exit.

use super::*;

#[test]
fn exit_is_an_error_of_its_own_type() {
    for code in [0_i32, 3, -1] {
        let mut guest = Guest::main();
        let error = guest.try_call("proc_exit", &[code as u32 as u64]).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Exit(code)));
    }
}

#[test]
fn arguments_and_environment_are_those_of_the_slot() {
    let mut guest = Guest::task(0);
    assert_eq!(guest.call("args_sizes_get", &[0, 4]), 0);
    assert_eq!((guest.u32_at(0), guest.u32_at(4)), (2, 11));
    assert_eq!(guest.call("args_get", &[0, 0x100]), 0);
    assert_eq!(guest.read(0x100, 11), b"job\0--fast\0");
    assert_eq!((guest.u32_at(0), guest.u32_at(4)), (0x100, 0x104));

    assert_eq!(guest.call("environ_sizes_get", &[0, 4]), 0);
    assert_eq!((guest.u32_at(0), guest.u32_at(4)), (1, 7));
    assert_eq!(guest.call("environ_get", &[0, 0x100]), 0);
    assert_eq!(guest.read(0x100, 7), b"LANG=C\0");
}

#[test]
fn the_clocks_of_a_task_stand_at_its_snapshot() {
    let mut guest = Guest::task(0);
    for _ in 0..2 {
        assert_eq!(guest.call("clock_time_get", &[0, 0, 0]), 0);
        assert_eq!(guest.u64_at(0), 1_700_000_000_000_000_000);
        assert_eq!(guest.call("clock_time_get", &[1, 0, 0]), 0);
        assert_eq!(guest.u64_at(0), 42_000_000);
    }
}

#[test]
fn the_clocks_of_main_run_in_steps_of_a_millisecond() {
    let mut guest = Guest::main();
    let mut last = 0;
    for _ in 0..100 {
        assert_eq!(guest.call("clock_time_get", &[1, 0, 0]), 0);
        let now = guest.u64_at(0);
        assert!(now >= last && now.is_multiple_of(1_000_000));
        last = now;
    }
    assert_eq!(guest.call("clock_time_get", &[0, 0, 0]), 0);
    let now = guest.u64_at(0);
    assert!(now > 1_700_000_000_000_000_000 && now.is_multiple_of(1_000_000));
    assert_eq!(guest.call("clock_res_get", &[0, 0]), 0);
    assert_eq!(guest.u64_at(0), 1_000_000);
}

#[test]
fn the_clocks_of_processor_time_do_not_exist() {
    let mut guest = Guest::main();
    for clock in [2, 3, u32::MAX.into()] {
        assert_eq!(guest.call("clock_time_get", &[clock, 0, 0]), Errno::INVAL.raw());
        assert_eq!(guest.call("clock_res_get", &[clock, 0]), Errno::INVAL.raw());
    }
}

#[test]
fn a_clock_that_goes_on_from_a_snapshot_does_not_go_back() {
    let clock =
        Clock::Real { origin: std::time::Instant::now(), monotonic_base_nanos: 5_000_000_000 };
    assert!(clock.monotonic_nanos() >= 5_000_000_000);
}

fn draw(wasi: Wasi) -> Vec<u8> {
    let mut guest = Guest::new(wasi);
    assert_eq!(guest.call("random_get", &[0, 1000]), 0);
    guest.read(0, 1000)
}

#[test]
fn every_attempt_of_a_partition_draws_the_same() {
    let task = |seed, node, partition| {
        let snapshot = SnapshotHeader { seed, ..snapshot(0) };
        draw(Wasi::for_task(&settings(), &snapshot, NodeId(node), Partition(partition)))
    };
    let first = task(1, 2, 3);
    assert_eq!(first, task(1, 2, 3));
    for other in [task(2, 2, 3), task(1, 3, 3), task(1, 2, 4), task(1, 3, 2)] {
        assert_ne!(first[..16], other[..16]);
    }
}

#[test]
fn main_draws_from_the_system() {
    let first = draw(Wasi::for_main(&settings()));
    assert_ne!(first, draw(Wasi::for_main(&settings())));
    assert_ne!(first[..256], first[256..512]);
}

/// A subscription: a clock (tag 0) with a timeout, or a descriptor (1: read, 2: write).
fn subscription(userdata: u64, tag: u8, id: u32, timeout: u64, absolute: bool) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..8].copy_from_slice(&userdata.to_le_bytes());
    bytes[8] = tag;
    bytes[16..20].copy_from_slice(&id.to_le_bytes());
    bytes[24..32].copy_from_slice(&timeout.to_le_bytes());
    bytes[40] = absolute.into();
    bytes
}

/// The user data, error number and type of each event.
fn poll(guest: &mut Guest, subscriptions: &[[u8; 48]]) -> Vec<(u64, u16, u8)> {
    guest.write(0, &subscriptions.concat());
    let count = subscriptions.len() as u64;
    assert_eq!(guest.call("poll_oneoff", &[0, 0x1000, count, 0x2000]), 0);
    let events = (0..guest.u32_at(0x2000)).map(|index| {
        let event = guest.read(0x1000 + index * 32, 32);
        let userdata = u64::from_le_bytes(event[..8].try_into().unwrap());
        (userdata, u16::from_le_bytes([event[8], event[9]]), event[10])
    });
    events.collect()
}

#[test]
fn a_sleep_of_a_task_ends_at_once() {
    let mut guest = Guest::task(0);
    let hour = 3_600_000_000_000;
    let both = [subscription(1, 0, 1, hour, false), subscription(2, 0, 1, 2 * hour, false)];
    assert_eq!(poll(&mut guest, &both), [(1, 0, 0)], "the earlier one only");
    assert_eq!(poll(&mut guest, &[subscription(3, 0, 0, u64::MAX, true)]), [(3, 0, 0)]);
}

#[test]
fn main_does_not_sleep_for_what_is_past_or_while_a_descriptor_is_ready() {
    let mut guest = Guest::main();
    assert_eq!(poll(&mut guest, &[subscription(1, 0, 0, 5, true)]), [(1, 0, 0)]);
    let ready = [
        subscription(1, 0, 1, u64::MAX, false),
        subscription(2, 1, 0, 0, false),
        subscription(3, 2, 1, 0, false),
        subscription(4, 1, 77, 0, false),
        subscription(5, 0, 9, 0, false),
    ];
    let (bad, invalid) = (Errno::BADF.raw(), Errno::INVAL.raw());
    assert_eq!(poll(&mut guest, &ready), [(2, 0, 1), (3, 0, 2), (4, bad, 1), (5, invalid, 0)]);
}

#[test]
fn there_is_no_network_and_there_are_no_signals() {
    let mut guest = Guest::main();
    assert_eq!(guest.call("sock_shutdown", &[1, 3]), Errno::NOTSOCK.raw());
    assert_eq!(guest.call("sock_accept", &[3, 0, 0]), Errno::NOTSOCK.raw());
    assert_eq!(guest.call("sock_recv", &[77, 0, 0, 0, 0, 0]), Errno::BADF.raw());
    assert_eq!(guest.call("sock_send", &[2, 0, 0, 0, 0]), Errno::NOTSOCK.raw());
    assert_eq!(guest.call("proc_raise", &[6]), Errno::NOTSUP.raw());
    assert_eq!(guest.call("sched_yield", &[]), 0);
}
