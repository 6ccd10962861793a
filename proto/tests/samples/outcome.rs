//! How attempts end.

use super::{Sample, sample, samples, variants};
use offshoot_proto::id::{AttemptId, NodeId, Partition, WorkerId};
use offshoot_proto::outcome::{
    ResultPlace, StagedPart, StagedUpload, TaskDone, TaskFailure, TaskOutcome, TaskReport,
};

variants!(TaskOutcome: Done, Failed);
variants!(ResultPlace: Inline, Held);
variants!(
    TaskFailure: Panic, Trap, Exit, OutOfMemory, FetchFailed, Input, Host, GuestAbi,
    ResultTooLarge, SlotCrashed, ExecutorLost, Killed, DiskLimit, NoMemory
);

/// Samples of every message.
pub fn all() -> Vec<Sample> {
    let done = TaskOutcome::Done(TaskDone::default());
    let outcomes = [done, TaskOutcome::Failed(TaskFailure::Killed)];
    let places = [ResultPlace::Inline(vec![1, 2]), ResultPlace::Held { length: 1 << 33 }];
    let mut all = samples("TaskFailure", &failures());
    all.extend(samples("TaskOutcome", &outcomes));
    all.extend(samples("ResultPlace", &places));
    all.extend(reports().iter().map(|report| sample("TaskReport", report)));
    all
}

/// One of every way to fail.
pub fn failures() -> Vec<TaskFailure> {
    let message = || "src/main.rs:7: why".to_owned();
    vec![
        TaskFailure::Panic { message: message() },
        TaskFailure::Trap { message: message() },
        TaskFailure::Exit { code: -3 },
        TaskFailure::OutOfMemory { asked: 5 << 30, limit: 4 << 30 },
        TaskFailure::FetchFailed {
            writer: NodeId(4),
            map: Partition(5),
            map_attempt: AttemptId(600),
            worker: WorkerId("w1".into()),
            executor: None,
            reason: message(),
        },
        TaskFailure::Input { message: message() },
        TaskFailure::Host { message: message() },
        TaskFailure::GuestAbi { message: message() },
        TaskFailure::ResultTooLarge { length: 2 << 30, limit: 1 << 30 },
        TaskFailure::SlotCrashed { message: message() },
        TaskFailure::ExecutorLost { message: message() },
        TaskFailure::Killed,
        TaskFailure::NoMemory { message: message(), others: true },
        TaskFailure::DiskLimit { asked: (64 << 30) + 1, limit: 64 << 30 },
    ]
}

/// A success with everything, and a failure.
pub fn reports() -> Vec<TaskReport> {
    let staged = StagedPart {
        path: "/data/out/.staging/part-00000.9".into(),
        length: 300,
        checksum: 0xDEAD_BEEF,
        upload: Some(StagedUpload { id: "upload".into(), parts: vec!["etag".into()] }),
    };
    let done = TaskDone {
        updates: vec![0xAB; 3],
        in_memory: true,
        digest: 0x0102_0304,
        result: ResultPlace::Inline(vec![1, 2]),
        staged: Some(staged),
        shuffle_bytes: 70_000,
    };
    let report = |outcome| TaskReport { attempt: AttemptId(300), run_nanos: 2_500, outcome };
    vec![
        report(TaskOutcome::Done(done)),
        report(TaskOutcome::Failed(TaskFailure::Exit { code: 3 })),
    ]
}
