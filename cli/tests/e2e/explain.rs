//! `offshoot explain`: each reason to wait, as a person and a program are told of it.

use crate::support::{Cluster, guest, run, signal, wait_until};
use serde_json::Value;
use std::cell::RefCell;
use std::process::{Child, Stdio};

/// A task of this many millions of rounds ends with its job.
const ENDLESS: &str = "1000000";

/// A job that is interrupted when the test is done with it.
struct Job(Child);

impl Drop for Job {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            signal(self.0.id(), "INT");
        }
        let _ = self.0.wait();
    }
}

impl Cluster {
    /// Starts a job that ends when it is interrupted.
    fn start_job(&self, flags: &[&str], name: &str, arguments: &[&str]) -> Job {
        self.start_job_of("master/admin.credential", flags, name, arguments)
    }

    fn start_job_of(
        &self,
        credential: &str,
        flags: &[&str],
        name: &str,
        arguments: &[&str],
    ) -> Job {
        let mut command = self.command();
        command.env("OFFSHOOT_CREDENTIAL", self.directory.path().join(credential));
        command.arg("submit").args(flags).arg(guest(name)).args(arguments);
        Job(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// What a program is told; nothing of an application that the master does not know.
    fn explain(&self, app: &str) -> Value {
        let mut command = self.command();
        command.args(["explain", app, "--json"]);
        serde_json::from_str(&run(command).out).unwrap_or_default()
    }

    /// What a person is told.
    fn explain_to_a_person(&self, app: &str) -> String {
        let mut command = self.command();
        command.args(["explain", app]);
        run(command).ok()
    }

    /// Waits until an application lacks executors for this reason.
    fn wait_for_missing(&self, app: &str, reason: &str) -> Value {
        self.wait_for_explained(app, reason, |explained| {
            let missing = &explained["missing"];
            (missing["reason"] == reason).then(|| missing.clone())
        })
    }

    /// Waits until tasks of an application wait for this reason; what is said of the first such.
    fn wait_for_pending(&self, app: &str, reason: &str) -> Value {
        self.wait_for_explained(app, reason, |explained| {
            let stages = explained["stages"].as_array().into_iter().flatten();
            let mut pending = stages.flat_map(|stage| stage["pending"].as_array().unwrap());
            pending.find(|pending| pending["reason"] == reason).cloned()
        })
    }

    fn wait_for_explained(
        &self,
        app: &str,
        reason: &str,
        find: impl Fn(&Value) -> Option<Value>,
    ) -> Value {
        let (last, found) = (RefCell::new(Value::Null), RefCell::new(None));
        let holds = || {
            *last.borrow_mut() = self.explain(app);
            *found.borrow_mut() = find(&last.borrow());
            found.borrow().is_some()
        };
        wait_until(holds, || format!("{app} does not wait for {reason}: {:#}", last.borrow()));
        found.into_inner().unwrap()
    }
}

fn text(value: &Value) -> &str {
    value["text"].as_str().unwrap()
}

/// Flags of jobs with two executors of one slot each, from start to end.
const TWO: [&str; 4] = ["--executor-cores", "1", "--conf", "dynamic-allocation.enabled=false"];

#[test]
fn without_workers_there_is_no_executor_and_with_one_all_its_slots_have_work() {
    let cluster = Cluster::start(0, 1);
    let _job = cluster.start_job(&[], "equal_tasks", &["16", ENDLESS]);
    let missing = cluster.wait_for_missing("app-1", "no-workers");
    assert_eq!(text(&missing), "the cluster has no workers yet");
    let person = cluster.explain_to_a_person("app-1");
    assert!(person.contains("1 executor waiting: the cluster has no workers yet"), "{person}");
    let _worker = cluster.start_worker("worker-0", 4);
    let pending = cluster.wait_for_pending("app-1", "slots-busy");
    assert_eq!(pending["slots"], 4);
    let said = text(&pending);
    assert!(said.starts_with("all 4 slots have work; they start as others end"), "{said}");
    assert_eq!(cluster.explain("app-1")["executors_running"], 1);
}

#[test]
fn what_no_worker_can_hold_is_said_with_both_numbers_and_the_flag() {
    let cluster = Cluster::start(1, 4);
    let work = ["1", ENDLESS];
    let _cores = cluster.start_job(&["--wait", "--executor-cores", "10"], "equal_tasks", &work);
    let missing = cluster.wait_for_missing("app-1", "too-large");
    let expected = "asked for 10 cores per executor, but the largest worker has 4 cores; lower \
                    --executor-cores, or add such a worker";
    assert_eq!(text(&missing), expected);
    let _memory = cluster.start_job(&["--wait", "--executor-memory=100GiB"], "equal_tasks", &work);
    let missing = cluster.wait_for_missing("app-2", "too-large");
    let expected = "asked for 100 GiB per executor, but the largest worker has 4 GiB; lower \
                    --executor-memory, or add such a worker";
    assert_eq!(text(&missing), expected);
    assert!(cluster.explain_to_a_person("app-2").contains(expected));
}

#[test]
fn who_waits_for_others_hears_who_they_are() {
    let cluster = Cluster::start(1, 4);
    let mut command = cluster.command();
    command.args(["tenant", "set", "admin", "--policy", "fifo"]);
    run(command).ok();
    let first = cluster.start_job(&[], "equal_tasks", &["16", ENDLESS]);
    cluster.wait_for_pending("app-1", "slots-busy");
    let _second = cluster.start_job(&["--executor-cores", "1"], "equal_tasks", &["2", ENDLESS]);
    let missing = cluster.wait_for_missing("app-2", "busy");
    let expected = "asked for 1 core per executor, but no worker has more than 0 cores free; in \
                    use: 4 cores by app-1 of admin";
    assert_eq!(text(&missing), expected);
    assert_eq!(cluster.wait_for_pending("app-2", "no-executors")["tasks"], 2);
    let person = cluster.explain_to_a_person("app-2");
    assert!(person.contains(expected), "{person}");
    let line = "2 tasks waiting: the application has no executor; they start when it has one";
    assert!(person.contains(line), "{person}");
    drop(first);
    cluster.wait_for_explained("app-2", "nothing", |it| {
        (it["executors_running"] == 2).then(|| it.clone())
    });
    assert!(cluster.explain_to_a_person("app-1").ends_with("it waits for nothing\n"));
}

#[test]
fn a_quota_that_is_reached_is_named_and_others_applications_are_not_told_of() {
    let cluster = Cluster::start(1, 4);
    let mut command = cluster.command();
    command.args(["tenant", "add", "ada", "--max-cores", "1"]);
    command.current_dir(cluster.directory.path());
    run(command).ok();
    let flags = ["--executor-cores", "1"];
    let _job = cluster.start_job_of("ada.credential", &flags, "equal_tasks", &["8", ENDLESS]);
    let missing = cluster.wait_for_missing("app-1", "quota");
    let expected = "the tenant has 1 core of the 1 core in its quota; wait for one of its \
                    applications, or ask the operator";
    assert_eq!(text(&missing), expected);
    let person = cluster.explain_to_a_person("app-1");
    assert!(person.contains(" of ada has 1 executor; it wants "), "{person}");
    let said = text(&cluster.wait_for_pending("app-1", "slots-busy")).to_owned();
    assert!(said.starts_with("the only slot has work"), "{said}");
    let _other = cluster.start_job(&flags, "equal_tasks", &["1", ENDLESS]);
    cluster.wait_for_explained("app-2", "nothing", |it| (!it.is_null()).then(|| it.clone()));
    for app in ["app-2", "app-77"] {
        let mut command = cluster.command();
        let credential = cluster.directory.path().join("ada.credential");
        command.env("OFFSHOOT_CREDENTIAL", credential).args(["explain", app]);
        run(command).failed(3, app);
    }
}

#[test]
fn a_stage_waits_for_the_nodes_that_it_reads() {
    let cluster = Cluster::start(1, 2);
    let _job = cluster.start_job(&[], "waiting", &["parents"]);
    let pending = cluster.wait_for_pending("app-1", "parents");
    assert_eq!((&pending["tasks"], &pending["nodes_total"]), (&3.into(), &1.into()));
    let explained = cluster.explain("app-1");
    let stages = explained["stages"].as_array().unwrap();
    let [parent, child] = &stages[..] else { panic!("{explained:#}") };
    assert_eq!(pending["nodes"][0], parent["node"], "{explained:#}");
    assert!(parent["stage"].is_number() && child["stage"].is_null(), "{explained:#}");
    let person = cluster.explain_to_a_person("app-1");
    let line = "a stage that has not started, node ";
    assert!(person.contains(line), "{person}");
    let line = format!("not all that they read is complete (nodes {})", parent["node"]);
    assert!(person.contains(&line), "{person}");
}

#[test]
fn tasks_that_wait_for_a_near_slot_say_whose_and_how_long() {
    let cluster = Cluster::start(2, 1);
    let flags = [&TWO[..], &["--conf", "locality-wait=1h"]].concat();
    let _job = cluster.start_job(&flags, "waiting", &["locality"]);
    let pending = cluster.wait_for_pending("app-1", "locality");
    let near = pending["near"].as_array().unwrap();
    assert_eq!(near.len(), 1, "{pending:#}");
    let left = pending["left_millis"].as_u64().unwrap();
    assert!((1..=3_600_000).contains(&left), "{pending:#}");
    let near = near[0].as_str().unwrap();
    let end = format!("for a slot near what they read ({near}); then they go further away");
    assert!(text(&pending).contains(&end), "{pending:#}");
    let person = cluster.explain_to_a_person("app-1");
    assert!(person.contains(&end), "{person}");
}

#[test]
fn tasks_that_failed_where_slots_are_free_say_where() {
    let cluster = Cluster::start(2, 1);
    let _job = cluster.start_job(&TWO, "waiting", &["excluded"]);
    let pending = cluster.wait_for_pending("app-1", "excluded");
    let executors = pending["executors"].as_array().unwrap();
    assert_eq!(executors.len(), 1, "{pending:#}");
    let said = text(&pending);
    let executor = executors[0].as_str().unwrap();
    let expected = format!("they failed on every executor that has a slot free ({executor}); ");
    assert!(said.starts_with(&expected), "{said}");
    let person = cluster.explain_to_a_person("app-1");
    assert!(person.contains(&expected), "{person}");
}
