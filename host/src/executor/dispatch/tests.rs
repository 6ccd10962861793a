//! One event, the whole list of actions.
#![allow(clippy::unwrap_used)]

use super::*;

fn report(attempt: u64, run_nanos: u64) -> TaskReport {
    let outcome = TaskOutcome::Done(offshoot_proto::outcome::TaskDone::default());
    TaskReport { attempt: AttemptId(attempt), run_nanos, outcome }
}

fn tasks(range: std::ops::Range<u64>) -> Vec<(AttemptId, Partition)> {
    range.map(|n| (AttemptId(n), Partition(n as u32))).collect()
}

fn step(machine: &mut Dispatch, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    machine.handle(event, &mut actions);
    actions
}

const STAGE: StageRunId = StageRunId(1);
const SNAPSHOT: SnapshotId = SnapshotId(1);

/// Two ready slots and a described stage.
fn machine() -> Dispatch {
    let mut actions = Vec::new();
    let mut machine = Dispatch::new(2, &mut actions);
    assert_eq!(actions, [Action::StartSlot(0), Action::StartSlot(1)]);
    for event in
        [Event::SlotReady(0), Event::SlotReady(1), Event::Stage { id: STAGE, snapshot: SNAPSHOT }]
    {
        assert_eq!(step(&mut machine, event), []);
    }
    machine
}

#[test]
fn tasks_wait_for_their_snapshot_and_are_shared() {
    let mut machine = machine();
    assert_eq!(step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(0..4) }), []);
    let run = |slot, range| {
        [
            Action::SendStage { slot, stage: STAGE },
            Action::Fork { slot, from: None, to: SNAPSHOT },
            Action::Run { slot, stage: STAGE, tasks: tasks(range) },
        ]
    };
    let expected = [run(0, 0..1), run(1, 1..2)].concat();
    assert_eq!(step(&mut machine, Event::SnapshotReady(SNAPSHOT)), expected);
    let reports = vec![report(0, 1000)];
    assert_eq!(
        step(&mut machine, Event::Reports { slot: 0, reports: reports.clone() }),
        [
            Action::Report(reports),
            Action::Run { slot: 0, stage: STAGE, tasks: tasks(2..3) },
            Action::Run { slot: 0, stage: STAGE, tasks: tasks(3..4) }
        ],
    );
}

#[test]
fn a_recall_gives_back_what_no_slot_has() {
    let mut machine = machine();
    step(&mut machine, Event::SnapshotReady(SNAPSHOT));
    step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(0..5) });
    let recall = Event::Recall((0..5).map(AttemptId).collect());
    let expected = Action::Recalled((2..5).map(AttemptId).collect());
    assert_eq!(step(&mut machine, recall), [expected]);
    assert_eq!(machine.tasks(), 2);
}

#[test]
fn a_crash_is_told_of_the_running_task_alone() {
    let mut machine = machine();
    step(&mut machine, Event::SnapshotReady(SNAPSHOT));
    step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(0..2) });
    step(&mut machine, Event::Reports { slot: 0, reports: vec![report(0, 100_000)] });
    step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(2..6) });
    let before = machine.slots[0].tasks.len();
    assert!(before > 1);
    let how = "signal 9".to_owned();
    let actions = step(&mut machine, Event::SlotLost { slot: 0, how: how.clone() });
    let crashed = TaskFailure::SlotCrashed { message: how };
    assert_eq!(actions[0], Action::Report(failed(std::iter::once(AttemptId(2)), &crashed)));
    assert_eq!(actions[1], Action::StartSlot(0));
    assert_eq!(machine.tasks(), 4, "the others wait for a slot");
}

#[test]
fn a_killed_task_takes_its_slot_along_and_the_others_run_again() {
    let mut machine = machine();
    step(&mut machine, Event::SnapshotReady(SNAPSHOT));
    step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(0..3) });
    let kill = Event::Kill(vec![AttemptId(0), AttemptId(2)]);
    let killed = |n| Action::Report(failed(std::iter::once(AttemptId(n)), &TaskFailure::Killed));
    assert_eq!(step(&mut machine, kill), [killed(2), Action::KillSlot(0)]);
    let lost = Event::SlotLost { slot: 0, how: "signal 9".to_owned() };
    assert_eq!(step(&mut machine, lost), [killed(0), Action::StartSlot(0)]);
}

#[test]
fn a_report_out_of_turn_ends_the_slot() {
    let mut machine = machine();
    step(&mut machine, Event::SnapshotReady(SNAPSHOT));
    step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(0..2) });
    let lie = Event::Reports { slot: 0, reports: vec![report(1, 5)] };
    assert_eq!(step(&mut machine, lie), [Action::KillSlot(0)]);
}

#[test]
fn a_slot_that_never_starts_ends_the_executor() {
    let mut actions = Vec::new();
    let mut machine = Dispatch::new(1, &mut actions);
    for round in 1..=BARREN_STARTS_MAX {
        let lost = Event::SlotLost { slot: 0, how: "exit status 1".to_owned() };
        let actions = step(&mut machine, lost);
        if round == BARREN_STARTS_MAX {
            assert!(matches!(&actions[..], [Action::GiveUp(_)]), "{actions:?}");
        } else {
            assert_eq!(actions, [Action::StartSlot(0)]);
        }
    }
}

#[test]
fn every_task_of_a_dropped_stage_is_answered_for_when_its_slot_dies() {
    let mut machine = Dispatch::new(1, &mut Vec::new());
    step(&mut machine, Event::Stage { id: STAGE, snapshot: SNAPSHOT });
    step(&mut machine, Event::SlotReady(0));
    step(&mut machine, Event::SnapshotReady(SNAPSHOT));
    step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(0..1) });
    step(&mut machine, Event::Reports { slot: 0, reports: vec![report(0, 1)] });
    step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(1..4) });
    step(&mut machine, Event::DropStage(STAGE));
    let actions = step(&mut machine, Event::SlotLost { slot: 0, how: "killed".to_owned() });
    let Some(Action::Report(reports)) = actions.first() else { panic!("{actions:?}") };
    let answered: Vec<_> = reports.iter().map(|report| report.attempt).collect();
    assert_eq!(answered, [1, 2, 3].map(AttemptId));
    assert_eq!(machine.tasks(), 0);
}

#[test]
fn a_dropped_stage_leaves_the_queue_and_the_slots() {
    let mut machine = machine();
    step(&mut machine, Event::SnapshotReady(SNAPSHOT));
    step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(0..5) });
    let expected = [0, 1].map(|slot| Action::DropStage { slot, stage: STAGE });
    let actions = step(&mut machine, Event::DropStage(STAGE));
    assert_eq!(actions[1..], expected);
    let killed = (2..5).map(AttemptId);
    assert_eq!(actions[0], Action::Report(failed(killed, &TaskFailure::Killed)), "one answer each");
    assert_eq!(machine.tasks(), 2, "what runs, runs on");
    let late = step(&mut machine, Event::Run { stage: STAGE, tasks: tasks(9..10) });
    assert!(matches!(&late[..], [Action::Report(_)]), "{late:?}");
}
