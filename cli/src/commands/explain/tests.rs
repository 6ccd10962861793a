//! What a person reads, and what a program does.
#![allow(clippy::unwrap_used)]

use super::as_json;
use offshoot_proto::cluster::AppState;
use offshoot_proto::explain::{
    Explanation, MissingExecutors, PendingTasks, StageWait, StageWaits, TaskWait,
};
use offshoot_proto::id::{ExecutorId, JobId, NodeId, StageRunId};
use offshoot_proto::scheduling::PoolName;
use offshoot_proto::waiting::{Quota, WaitReason};
use serde_json::json;

fn executor(number: u32) -> ExecutorId {
    format!("app-7/{number}").parse().unwrap()
}

fn stage(run: Option<u32>, name: &str, running: u32, pending: Vec<(u32, TaskWait)>) -> StageWait {
    StageWait {
        job: JobId(1),
        stage: run.map(StageRunId),
        node: NodeId(6),
        name: name.to_owned(),
        source: "job.rs:3".to_owned(),
        pool: PoolName::new("etl").unwrap(),
        running,
        pending: pending
            .into_iter()
            .map(|(tasks, reason)| PendingTasks { tasks, reason })
            .collect(),
    }
}

fn explanation(stages: Option<StageWaits>) -> Explanation {
    let reason = WaitReason::Quota(Quota::Running { max: 2 });
    Explanation {
        app: "app-7".parse().unwrap(),
        name: "word\x1bcount".to_owned(),
        tenant: "ada".to_owned(),
        state: AppState::Running,
        running: 1,
        launching: 2,
        wanted: Some(8),
        missing: Some(MissingExecutors { executors: Some(5), reason }),
        stages,
    }
}

fn every_reason() -> StageWaits {
    let running = vec![
        (9, TaskWait::SlotsBusy { slots: 8 }),
        (1, TaskWait::Excluded { executors: vec![executor(1), executor(2)] }),
        (3, TaskWait::Locality { near: vec![executor(0)], left_millis: 80 }),
    ];
    let others = vec![
        (4, TaskWait::NoExecutors),
        (4, TaskWait::Retiring),
        (4, TaskWait::SlotsBusy { slots: 1 }),
    ];
    let parents = TaskWait::Parents { nodes: vec![NodeId(2), NodeId(4)], count: 3 };
    StageWaits {
        stages: vec![
            stage(Some(4), "map", 16, running),
            stage(Some(5), "filter", 1, others),
            stage(None, "reduce_by_key", 0, vec![(20, parents)]),
        ],
        more: 1,
    }
}

#[test]
fn a_person_reads_a_line_for_each_reason_with_what_to_do() {
    let expected = "\
app-7 word\\u{1b}count of ada has 1 executor, 2 more starting; it wants 8
5 executors waiting: the tenant has the 2 running applications of its quota; wait for one of its \
applications, or ask the operator
stage 4, node 6 map (job.rs:3), job 1, pool etl: 16 tasks sent
  9 tasks waiting: all 8 slots have work; they start as others end; more executors or cores would \
start them sooner
  1 task waiting: they failed on every executor that has a slot free (app-7/1, app-7/2); \
they start when another has one; the workers' logs say how they failed
  3 tasks waiting: for 80 ms more, for a slot near what they read (app-7/0); then they go further \
away; --conf locality-wait=0 would not let them wait
stage 5, node 6 filter (job.rs:3), job 1, pool etl: 1 task sent
  4 tasks waiting: the application has no executor; they start when it has one
  4 tasks waiting: every executor is being given back; they start when it has others
  4 tasks waiting: the only slot has work; they start as others end; more executors or cores would \
start them sooner
a stage that has not started, node 6 reduce_by_key (job.rs:3), job 1, pool etl: 0 tasks sent
  20 tasks waiting: not all that they read is complete (nodes 2, 4, 1 more); they start when the \
last of those is
1 stage more";
    assert_eq!(explanation(Some(every_reason())).to_string(), expected);
}

#[test]
fn what_is_not_known_or_not_there_is_said() {
    let quiet = Explanation {
        launching: 0,
        wanted: None,
        missing: None,
        ..explanation(Some(StageWaits::default()))
    };
    let expected = "app-7 word\\u{1b}count of ada has 1 executor; it wants as many as fit\n\
                    no stage is active: main has no job that is not complete";
    assert_eq!(quiet.to_string(), expected);
    let silent = Explanation { stages: None, ..quiet.clone() };
    let expected = "app-7 word\\u{1b}count of ada has 1 executor; it wants as many as fit\nits \
                    driver did not answer: what its tasks wait for is not known";
    assert_eq!(silent.to_string(), expected);
    for (state, said) in [
        (AppState::Finished, "has finished"),
        (AppState::Failed, "has failed"),
        (AppState::Lost, "was lost with its driver"),
    ] {
        let ended = Explanation { state, ..silent.clone() };
        let expected = format!("app-7 word\\u{{1b}}count of ada {said}; it waits for nothing");
        assert_eq!(ended.to_string(), expected);
    }
}

#[test]
fn a_program_reads_names_that_stay() {
    let object = as_json(&explanation(Some(every_reason())));
    let reasons: Vec<_> = object["stages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|stage| stage["pending"].as_array().unwrap())
        .map(|pending| pending["reason"].as_str().unwrap())
        .collect();
    let expected =
        ["slots-busy", "excluded", "locality", "no-executors", "retiring", "slots-busy", "parents"];
    assert_eq!(reasons, expected);
    let missing = &object["missing"];
    assert_eq!((&missing["executors"], &missing["reason"]), (&json!(5), &json!("quota")));
    let waits = StageWaits {
        stages: vec![stage(
            Some(4),
            "map",
            2,
            vec![(3, TaskWait::Locality { near: vec![executor(0)], left_millis: 80 })],
        )],
        more: 0,
    };
    let object = as_json(&Explanation { missing: None, ..explanation(Some(waits)) });
    let text = "for 80 ms more, for a slot near what they read (app-7/0); then they go further \
                away; --conf locality-wait=0 would not let them wait";
    let expected = json!({
        "id": "app-7",
        "name": "word\x1bcount",
        "tenant": "ada",
        "state": "running",
        "executors_running": 1,
        "executors_launching": 2,
        "executors_wanted": 8,
        "missing": null,
        "stages": [{
            "job": 1,
            "stage": 4,
            "node": 6,
            "name": "map",
            "source": "job.rs:3",
            "pool": "etl",
            "running": 2,
            "pending": [{
                "tasks": 3,
                "reason": "locality",
                "text": text,
                "near": ["app-7/0"],
                "left_millis": 80,
            }],
        }],
        "stages_more": 0,
    });
    assert_eq!(object, expected);
}
