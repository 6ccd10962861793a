//! Tenants that share a cluster, as processes.

use crate::support::{Cluster, Said, guest, run, signal};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a busy machine may take to come to what is right.
const PATIENCE: Duration = Duration::from_secs(60);

impl Cluster {
    fn tenant(&self, arguments: &[&str]) -> Said {
        let mut command = self.command();
        command.arg("tenant").args(arguments).current_dir(self.directory.path());
        run(command)
    }

    /// Adds a tenant whose credential is beside the cluster's directories.
    fn add(&self, name: &str, rules: &[&str]) -> PathBuf {
        let said = self.tenant(&[&["add", name], rules].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        self.directory.path().join(format!("{name}.credential"))
    }

    fn command_of(&self, tenant: &str) -> Command {
        let mut command = self.command();
        let credential = self.directory.path().join(format!("{tenant}.credential"));
        command.env("OFFSHOOT_CREDENTIAL", credential);
        command
    }

    /// A job of a tenant that runs until it is interrupted.
    fn endless(&self, tenant: &str, flags: &[&str], tasks: [&str; 2]) -> Child {
        let mut command = self.command_of(tenant);
        command.arg("submit").args(flags).arg(guest("equal_tasks")).args(tasks);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Cores of each tenant that has any.
    fn cores(&self) -> BTreeMap<String, u64> {
        let mut cores = BTreeMap::new();
        for app in self.list("apps") {
            let tenant = app["tenant"].as_str().unwrap().to_owned();
            *cores.entry(tenant).or_default() += app["cores"].as_u64().unwrap();
        }
        cores.retain(|_, cores| *cores > 0);
        cores
    }

    fn wait_for_cores(&self, expected: &[(&str, u64)]) {
        let expected = expected.iter().map(|(name, cores)| ((*name).to_owned(), *cores)).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let cores = self.cores();
            if cores == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{cores:?}, expected {expected:?}");
        }
    }
}

fn interrupt(mut child: Child) {
    signal(child.id(), "INT");
    child.wait().unwrap();
}

#[test]
fn three_to_one_by_weight_and_all_to_who_is_left() {
    let cluster = Cluster::start(2, 4);
    cluster.add("light", &[]);
    cluster.add("heavy", &["--weight", "3"]);
    for flags in [&[][..], &["--executor-cores", "1"]] {
        let light = cluster.endless("light", flags, ["1000000", "1"]);
        cluster.wait_for_cores(&[("light", 8)]);
        let heavy = cluster.endless("heavy", flags, ["1000000", "1"]);
        let shared = [("heavy", 6), ("light", 2)];
        cluster.wait_for_cores(&shared);
        for _ in 0..5 {
            cluster.wait_for_cores(&shared);
        }
        interrupt(heavy);
        cluster.wait_for_cores(&[("light", 8)]);
        interrupt(light);
        cluster.wait_until_idle();
    }
}

#[test]
fn what_gives_back_loses_nothing() {
    let cluster = Cluster::start(2, 2);
    cluster.add("ada", &[]);
    cluster.add("bob", &[]);
    let mut command = cluster.command_of("ada");
    let flags = ["--conf", "task-max-failures=1", "--executor-cores", "1"];
    command.arg("submit").args(flags).arg(guest("equal_tasks")).args(["4000", "5"]);
    let ada = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cluster.wait_for_cores(&[("ada", 4)]);
    let bob = cluster.endless("bob", &["--executor-cores", "1"], ["1000000", "1"]);
    cluster.wait_for_cores(&[("ada", 2), ("bob", 2)]);
    interrupt(bob);
    let output = ada.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"4000\n"[..]));
}

#[test]
fn tasks_that_do_not_end_are_preempted_where_that_is_on() {
    let cluster = Cluster::start_with(&["--preemption", "--preemption-timeout", "500ms"], 2, 2);
    cluster.add("ada", &[]);
    cluster.add("bob", &[]);
    // Tasks of several minutes.
    let long = ["64", "1000000"];
    let mut ada = cluster.endless("ada", &["--conf", "task-max-failures=1"], long);
    cluster.wait_for_cores(&[("ada", 4)]);
    let bob = cluster.endless("bob", &[], long);
    cluster.wait_for_cores(&[("ada", 2), ("bob", 2)]);
    assert_eq!(ada.try_wait().unwrap(), None, "what is preempted counts as no failure");
    interrupt(ada);
    interrupt(bob);
    cluster.wait_until_idle();
}

#[test]
fn quotas_hold_and_say_so() {
    let cluster = Cluster::start(1, 8);
    cluster.add("ada", &["--max-cores", "3", "--max-submitted", "1", "--max-running=none"]);
    let job = cluster.endless("ada", &["--executor-cores", "2"], ["1000000", "1"]);
    cluster.wait_for_cores(&[("ada", 2)]);
    let mut second = cluster.command_of("ada");
    second.arg("submit").arg(guest("equal_tasks")).args(["1", "1"]);
    let text = "tenant ada has as many applications as its quota lets it, 1; wait for one to end, \
                or ask the operator";
    run(second).failed(3, text);
    assert_eq!(cluster.tenant(&["set", "ada", "--max-cores", "none"]).code, Some(0));
    cluster.wait_for_cores(&[("ada", 8)]);
    let said = cluster.tenant(&["list", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let ada = &rows[0];
    let shown = (&ada["name"], &ada["cores_used"], &ada["max_cores"], &ada["submitted"]);
    assert_eq!(format!("{shown:?}"), r#"(String("ada"), Number(8), Null, Number(1))"#);
    cluster.tenant(&["remove", "ada"]).failed(3, "tenant ada has 1 application; wait");
    interrupt(job);
    cluster.wait_until_idle();
    assert_eq!(cluster.tenant(&["remove", "ada"]).code, Some(0));
    let mut third = cluster.command_of("ada");
    third.arg("submit").arg(guest("equal_tasks")).args(["1", "1"]);
    run(third).failed(3, "tenant ada is not let in");
}

#[test]
fn orders_that_cannot_be_meant_say_why() {
    let cluster = Cluster::start(0, 1);
    cluster.add("ada", &["--guaranteed-cores", "2"]);
    let failed = |arguments: &[&str], code: i32, text: &str| {
        cluster.tenant(arguments).failed(code, text);
    };
    failed(&["add", "ada"], 2, "ada.credential: is there already; name another with --out");
    failed(&["add", "ada", "--out", "other"], 3, "there is a tenant ada already");
    failed(&["add", "Ada"], 3, "a name starts with a small letter or a digit");
    failed(&["add", "../x"], 3, "a name starts with a small letter or a digit");
    failed(&["add", "x", "--weight", "0"], 2, "--weight");
    failed(&["add", "x", "--policy", "fairest"], 2, "fair");
    failed(&["set", "ada"], 2, "nothing to set: name a rule, such as --weight 2");
    failed(&["set", "eve", "--weight", "2"], 3, "there is no tenant eve");
    let text =
        "guaranteed-cores 2 is more than max-cores 1: lower the guarantee, or raise the quota";
    failed(&["set", "ada", "--max-cores", "1"], 3, text);
    failed(&["remove", "admin"], 3, "the tenant admin cannot be removed");
    let mut command = cluster.command_of("ada");
    command.args(["tenant", "list"]);
    run(command).failed(3, "tenant ada may not see or change tenants");
}
