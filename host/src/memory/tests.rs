//! Who makes room for whom.
#![allow(clippy::unwrap_used)]

mod books;

use super::{BlockId, Lease, Memory};
use offshoot_proto::id::{AttemptId, NodeId, Partition};
use std::collections::BTreeSet;

fn block(writer: u32, map: u32) -> BlockId {
    BlockId { writer: NodeId(writer), map: Partition(map), attempt: AttemptId(0) }
}

fn kept(memory: &mut Memory, id: BlockId, bytes: u64) -> Option<Vec<BlockId>> {
    let mut evicted = Vec::new();
    memory.keep(id, bytes, &mut evicted).ok().map(|()| evicted)
}

fn leased(memory: &mut Memory, slot: usize, bytes: u64) -> (Lease, Vec<BlockId>) {
    let mut evicted = Vec::new();
    (memory.lease(slot, bytes, &mut evicted), evicted)
}

#[test]
fn what_was_not_used_for_longest_makes_room_for_another_dataset() {
    let mut memory = Memory::new(100);
    for map in 0..3 {
        assert_eq!(kept(&mut memory, block(1, map), 30), Some(vec![]));
    }
    memory.touch(block(1, 0));
    assert_eq!(kept(&mut memory, block(2, 0), 50), Some(vec![block(1, 1), block(1, 2)]));
    assert_eq!(memory.free(), 20);
}

#[test]
fn blocks_that_are_read_go_in_the_order_of_their_last_use() {
    let mut memory = Memory::new(100);
    for map in 0..4 {
        kept(&mut memory, block(1, map), 20);
    }
    for map in [2, 0, 3, 0] {
        memory.touch(block(1, map));
    }
    assert_eq!(kept(&mut memory, block(2, 0), 20), Some(vec![]));
    let mut evicted = Vec::new();
    memory.set_snapshots(100, &mut evicted);
    let order = [block(1, 1), block(1, 2), block(1, 3), block(1, 0), block(2, 0)];
    assert_eq!(evicted, order);
    assert_eq!(memory.kept(), 0);
}

#[test]
fn a_dataset_does_not_drive_out_its_own_blocks_nor_those_that_are_read() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 60);
    assert_eq!(kept(&mut memory, block(1, 1), 60), None, "its own");
    memory.set_readers(BTreeSet::from([NodeId(1)]));
    assert_eq!(kept(&mut memory, block(2, 0), 60), None, "read");
    memory.set_readers(BTreeSet::new());
    assert_eq!(kept(&mut memory, block(2, 0), 60), Some(vec![block(1, 0)]));
    let refusal = memory.keep(block(3, 0), 1 << 30, &mut Vec::new()).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "no room for 1 GiB in the executor's memory of 100 bytes: snapshots take 0 bytes, other \
         tasks 0 bytes, kept blocks 0 bytes (raise --executor-memory, or use fewer cores an \
         executor)"
    );
    assert_eq!(memory.kept(), 60, "nothing went for nothing");
}

#[test]
fn tasks_drive_blocks_out_down_to_the_immune_share() {
    let mut memory = Memory::new(100);
    memory.set_snapshots(20, &mut Vec::new());
    for map in 0..8 {
        kept(&mut memory, block(1, map), 10);
    }
    let (lease, evicted) = leased(&mut memory, 0, 40);
    assert_eq!((lease, evicted.len()), (Lease::Granted, 4));
    assert_eq!((memory.kept(), memory.immune(), memory.free()), (40, 40, 0));
    let (lease, _) = leased(&mut memory, 0, 50);
    assert!(matches!(lease, Lease::Refused(refusal) if refusal.blocks == 40), "{lease:?}");
    memory.give_back(0, 10);
    assert_eq!(kept(&mut memory, block(1, 8), 30), Some(vec![]), "blocks borrow what is free");
}

#[test]
fn a_slot_waits_for_others_and_is_refused_when_all_wait() {
    let mut memory = Memory::new(100);
    assert_eq!(leased(&mut memory, 0, 50).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 40).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 0, 70).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 1, 80).0, Lease::Waits);
    let (slot, lease) = memory.decided(&mut Vec::new()).unwrap();
    assert_eq!(slot, 1);
    assert!(matches!(lease, Lease::Refused(refusal) if refusal.tasks == 50), "{lease:?}");
    assert_eq!(memory.decided(&mut Vec::new()), None);
    memory.give_back(1, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
    assert_eq!((memory.decided(&mut Vec::new()), memory.free()), (None, 30));
}

#[test]
fn when_the_last_who_could_give_back_has_ended_the_youngest_is_refused() {
    let mut memory = Memory::new(100);
    for slot in 0..3 {
        assert_eq!(leased(&mut memory, slot, 33).0, Lease::Granted);
    }
    assert_eq!(leased(&mut memory, 0, 90).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 1, 80).0, Lease::Waits);
    memory.give_back(2, 0);
    let (slot, lease) = memory.decided(&mut Vec::new()).unwrap();
    assert!(slot == 1 && matches!(lease, Lease::Refused(_)), "{slot}: {lease:?}");
    memory.give_back(1, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
}

#[test]
fn tasks_to_come_take_what_is_left_beside_what_the_first_waits_for() {
    let mut memory = Memory::new(100);
    assert_eq!(leased(&mut memory, 0, 30).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 75).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 2, 15).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 3, 15).0, Lease::Waits, "there is room, but not beside it");
    assert_eq!(leased(&mut memory, 2, 26).0, Lease::Waits, "nor is there for more");
    assert_eq!(leased(&mut memory, 0, 50).0, Lease::Granted, "it was there before");
    assert_eq!(memory.decided(&mut Vec::new()), None);
    memory.give_back(0, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
    assert_eq!(memory.decided(&mut Vec::new()), None);
    memory.give_back(1, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((3, Lease::Granted)));
    assert_eq!(memory.decided(&mut Vec::new()), Some((2, Lease::Granted)));
}

#[test]
fn who_passed_one_was_there_before_the_next() {
    let mut memory = Memory::new(100);
    assert_eq!(leased(&mut memory, 0, 30).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 75).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 2, 15).0, Lease::Granted);
    memory.give_back(0, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
    assert_eq!(leased(&mut memory, 3, 85).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 2, 20).0, Lease::Granted);
}

#[test]
fn who_has_something_does_not_wait_for_who_has_nothing() {
    let mut memory = Memory::new(100);
    assert_eq!(leased(&mut memory, 0, 50).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 40).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 2, 60).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 0, 70).0, Lease::Waits);
    memory.give_back(1, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
    memory.give_back(0, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((2, Lease::Granted)));
}

#[test]
fn who_maps_what_made_room_does_not_wait_for_who_waits_for_it() {
    let mut memory = Memory::new(100);
    for map in 0..8 {
        kept(&mut memory, block(1, map), 10);
        assert!(memory.map(1 + map as usize / 4, block(1, map)));
    }
    let (lease, evicted) = leased(&mut memory, 0, 50);
    assert_eq!((lease, evicted.len()), (Lease::Waits, 3));
    assert_eq!(leased(&mut memory, 1, 16).0, Lease::Granted, "nobody goes over the limit");
    assert_eq!(memory.decided(&mut Vec::new()), None);
    memory.give_back(1, 0);
    memory.unmap(1);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
    assert_eq!(memory.free(), 0);
}

#[test]
fn who_has_nothing_is_not_refused_for_others() {
    let mut memory = Memory::new(100);
    for slot in 0..3 {
        assert_eq!(leased(&mut memory, slot, 30).0, Lease::Granted);
    }
    assert_eq!(leased(&mut memory, 0, 80).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 1, 80).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 3, 25).0, Lease::Waits);
    memory.give_back(2, 0);
    let (slot, lease) = memory.decided(&mut Vec::new()).unwrap();
    assert!(slot == 1 && matches!(lease, Lease::Refused(_)), "{slot}: {lease:?}");
    memory.give_back(1, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
    assert_eq!(memory.decided(&mut Vec::new()), None);
    memory.give_back(0, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((3, Lease::Granted)));
}

#[test]
fn a_mapper_that_comes_after_those_who_wait_is_not_refused_either() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 10);
    assert!(memory.map(2, block(1, 0)));
    assert_eq!(leased(&mut memory, 0, 50).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 40).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 0, 60).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 1, 50).0, Lease::Waits);
    assert_eq!(memory.decided(&mut Vec::new()), None);
    assert_eq!(leased(&mut memory, 2, 16).0, Lease::Waits);
    let (slot, lease) = memory.decided(&mut Vec::new()).unwrap();
    assert!(slot == 1 && matches!(lease, Lease::Refused(_)), "{slot}: {lease:?}");
    memory.give_back(1, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
    assert_eq!(memory.decided(&mut Vec::new()), Some((2, Lease::Granted)));
}

#[test]
fn nobody_is_refused_who_lacks_only_what_was_mapped() {
    // By who asks last.
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 10);
    assert!(memory.map(2, block(1, 0)));
    assert_eq!(leased(&mut memory, 0, 50).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 40).0, Lease::Granted);
    memory.forget(block(1, 0));
    assert_eq!(leased(&mut memory, 0, 60).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 1, 50).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 2, 16).0, Lease::Waits);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));

    // By who waits second.
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 20);
    assert!(memory.map(1, block(1, 0)));
    for (slot, bytes) in [(0, 40), (1, 30), (2, 10)] {
        assert_eq!(leased(&mut memory, slot, bytes).0, Lease::Granted);
    }
    memory.forget(block(1, 0));
    assert_eq!(leased(&mut memory, 0, 85).0, Lease::Waits);
    assert_eq!(leased(&mut memory, 1, 45).0, Lease::Waits);
    memory.give_back(2, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
}

#[test]
fn no_block_takes_what_somebody_waits_for() {
    let mut memory = Memory::new(100);
    assert_eq!(leased(&mut memory, 0, 45).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 60).0, Lease::Waits);
    assert_eq!(kept(&mut memory, block(1, 0), 50), None);
    assert_eq!(kept(&mut memory, block(1, 0), 40), Some(vec![]));
    memory.give_back(0, 0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
}

#[test]
fn what_would_never_fit_is_refused_at_once() {
    let mut memory = Memory::new(100);
    assert_eq!(leased(&mut memory, 1, 40).0, Lease::Granted);
    let (lease, _) = leased(&mut memory, 0, 101);
    assert!(matches!(lease, Lease::Refused(refusal) if refusal.asked == 101), "{lease:?}");
}

#[test]
fn snapshots_have_what_they_need() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 50);
    kept(&mut memory, block(1, 1), 50);
    let mut evicted = Vec::new();
    memory.set_snapshots(60, &mut evicted);
    assert_eq!(evicted, [block(1, 0), block(1, 1)]);
    memory.set_snapshots(200, &mut evicted);
    assert_eq!((memory.free(), memory.immune()), (0, 0));
}

#[test]
fn a_block_that_is_gone_counts_until_nobody_maps_it() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 40);
    kept(&mut memory, block(1, 1), 30);
    for slot in [0, 1] {
        assert!(memory.map(slot, block(1, 0)));
    }
    assert_eq!(memory.free(), 30, "it counts once");
    memory.forget(block(1, 0));
    assert_eq!((memory.kept(), memory.free()), (30, 30));
    memory.unmap(0);
    assert_eq!(memory.free(), 30, "one maps it yet");
    memory.unmap(0);
    memory.unmap(1);
    assert_eq!(memory.free(), 70);
    assert!(!memory.map(0, block(1, 0)), "it is on its way to a file");
    assert_eq!(memory.free(), 70);
}

#[test]
fn a_block_that_is_kept_again_while_it_is_mapped_counts_twice() {
    let mut memory = Memory::new(100);
    let id = block(1, 0);
    kept(&mut memory, id, 30);
    assert!(memory.map(0, id));
    assert_eq!(kept(&mut memory, id, 30), Some(vec![]));
    assert_eq!((memory.kept(), memory.free()), (30, 40), "the old one is there yet");
    assert!(memory.map(1, id));
    assert_eq!(memory.free(), 40, "that is the new one");
    memory.forget(id);
    assert_eq!((memory.kept(), memory.free()), (0, 40));
    memory.unmap(0);
    assert_eq!(memory.free(), 70);
    memory.unmap(1);
    assert_eq!(memory.free(), 100);
}

#[test]
fn blocks_that_nobody_maps_make_room_first() {
    let mut memory = Memory::new(100);
    for map in 0..4 {
        kept(&mut memory, block(1, map), 25);
    }
    assert!(memory.map(0, block(1, 0)));
    assert_eq!(kept(&mut memory, block(2, 0), 25), Some(vec![block(1, 1)]));
    assert_eq!(leased(&mut memory, 1, 25), (Lease::Granted, vec![block(1, 2)]));
    assert_eq!(kept(&mut memory, block(3, 0), 75), None, "what is mapped is no room");
    let mut evicted = Vec::new();
    memory.set_snapshots(75, &mut evicted);
    assert_eq!(evicted, [block(1, 3), block(2, 0), block(1, 0)], "snapshots have what they need");
    assert_eq!(memory.free(), 0);
}

#[test]
fn a_task_waits_for_who_maps_what_made_room_and_is_not_refused_for_it() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 80);
    assert!(memory.map(0, block(1, 0)));
    assert_eq!(leased(&mut memory, 1, 45), (Lease::Waits, vec![block(1, 0)]), "slot 0 ends");
    assert!(!memory.map(2, block(1, 0)), "one who comes now is not waited for");
    assert_eq!(memory.decided(&mut Vec::new()), None);
    memory.unmap(0);
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
    memory.give_back(1, 0);

    // Who maps it itself does not wait for itself, nor do two for one another.
    kept(&mut memory, block(1, 0), 80);
    assert!(memory.map(0, block(1, 0)) && memory.map(1, block(1, 0)));
    assert_eq!(leased(&mut memory, 0, 30), (Lease::Waits, vec![block(1, 0)]));
    assert_eq!(leased(&mut memory, 1, 30), (Lease::Granted, vec![]));
    memory.give_back(1, 0);
    memory.unmap(1);
    assert_eq!(memory.decided(&mut Vec::new()), Some((0, Lease::Granted)));
}

#[test]
fn blocks_go_as_soon_as_nothing_else_is_lacking_and_not_before() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 60);
    for slot in [0, 2] {
        assert!(memory.map(slot, block(1, 0)));
        assert_eq!(leased(&mut memory, slot, 15).0, Lease::Granted);
    }
    assert_eq!(leased(&mut memory, 1, 30), (Lease::Waits, vec![]), "leases are lacking, too");
    memory.give_back(0, 0);
    memory.unmap(0);
    let mut evicted = Vec::new();
    assert_eq!(memory.decided(&mut evicted), None);
    assert_eq!(evicted, [block(1, 0)]);
    assert_eq!(leased(&mut memory, 0, 15).0, Lease::Granted);
    assert!(!memory.map(0, block(1, 0)));
    memory.give_back(2, 0);
    memory.unmap(2);
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
}

#[test]
fn a_slot_does_not_wait_for_what_it_maps_itself_while_others_go_on() {
    let mut memory = Memory::new(100);
    kept(&mut memory, block(1, 0), 80);
    assert!(memory.map(1, block(1, 0)) && memory.map(2, block(1, 0)));
    assert_eq!(leased(&mut memory, 0, 5).0, Lease::Granted);
    assert_eq!(leased(&mut memory, 1, 30), (Lease::Waits, vec![block(1, 0)]));
    assert_eq!(memory.decided(&mut Vec::new()), Some((1, Lease::Granted)));
}
