//! What outlives the job that computed it: kept datasets, accumulators, lineages that are cut.

use crate::support::{Cluster, Said, finish, guest, run, signal};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

/// Partitions of the kept dataset.
const PARTITIONS: usize = 8;

/// A job whose output is read while it runs.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

/// Starts a job with what it says.
fn start(cluster: &Cluster, arguments: &[&str]) -> Running {
    let mut command = cluster.command();
    command.arg("submit").args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    Running { child, out }
}

/// Files of shuffles in the directory of a worker: a data and an index file for each map output.
fn shuffle_files(directory: &Path) -> usize {
    let mut waiting = vec![directory.join("apps")];
    let mut count = 0;
    while let Some(directory) = waiting.pop() {
        // What goes while it is counted is gone.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => waiting.push(path),
                false => count += usize::from(path.extension().is_some_and(|e| e == "index")),
            }
        }
    }
    count
}

fn worker(cluster: &Cluster, number: usize) -> usize {
    shuffle_files(&cluster.directory.path().join(format!("worker-{number}")))
}

/// Runs `kept` at a level, `between` its two uses of the dataset.
fn use_twice(cluster: &mut Cluster, level: &str, between: impl FnOnce(&mut Cluster)) {
    let directory = cluster.directory.path().join("granted");
    fs::create_dir(&directory).unwrap();
    let (path, module) = (directory.to_str().unwrap(), guest("kept"));
    let partitions = PARTITIONS.to_string();
    let arguments = ["--allow-write", path, module.to_str().unwrap(), path, &partitions, level];
    let mut job = start(cluster, &arguments);
    assert_eq!(job.line(), "count 1000 computed 8");
    between(cluster);
    fs::write(directory.join("go"), "").unwrap();
    assert_eq!(job.line(), "sum 332833500 computed 8");
    assert_eq!(job.line(), "max Some(998001) computed 8");
    let said = finish(job.child);
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// Partitions that the tasks of a worker have said that they compute.
fn computed(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.contains("computes")).count()
}

/// How many partitions the executor of a worker computed, to its end.
fn computed_by(cluster: &Cluster, number: usize) -> usize {
    computed(&cluster.workers[number].lines_until("ends:"))
}

/// Keeps a dataset, kills the executor of worker 0 between two uses, and returns how many
/// partitions that had computed, and how often all executors computed one. `text` is what both
/// workers must have said before.
fn kill_between(level: &str, text: Option<&str>) -> (usize, usize) {
    let mut cluster = Cluster::start(2, 1);
    let mut said = Vec::new();
    let mut lost = 0;
    use_twice(&mut cluster, level, |cluster| {
        let [first, second] = &cluster.workers[..] else { panic!("two workers") };
        if let Some(text) = text {
            said.extend(first.lines_until(text));
            lost = computed(&said);
            said.extend(second.lines_until(text));
        }
        let executors = first.descendants();
        let executor = executors.iter().find(|(_, name)| name.starts_with("offshoot executor"));
        signal(executor.unwrap().0, "KILL");
        let last = first.lines_until(" is gone");
        lost += computed(&last);
        said.extend(last);
    });
    cluster.wait_until_idle();
    for worker in &mut cluster.workers {
        worker.terminate();
        said.extend(worker.last_words());
    }
    (lost, computed(&said))
}

#[test]
fn what_an_executor_kept_in_memory_is_computed_again_and_nothing_else() {
    let (lost, all) = kill_between("memory", None);
    assert!((1..PARTITIONS).contains(&lost) && all == PARTITIONS + lost, "{lost} of {all}");
}

#[test]
fn of_two_copies_in_memory_one_outlives_an_executor() {
    let (lost, all) = kill_between("memory-2", Some("has copies of"));
    assert!((1..PARTITIONS).contains(&lost) && all == PARTITIONS, "{lost} of {all}");
}

#[test]
fn what_is_kept_on_disk_outlives_an_executor() {
    let (lost, all) = kill_between("disk", None);
    assert!((1..PARTITIONS).contains(&lost) && all == PARTITIONS, "{lost} of {all}");
}

#[test]
fn of_a_lost_worker_its_partitions_are_computed_again() {
    let mut cluster = Cluster::start(2, 1);
    let mut lost = 0;
    use_twice(&mut cluster, "disk", |cluster| {
        lost = worker(cluster, 0);
        assert_eq!(lost + worker(cluster, 1), PARTITIONS);
        assert!((1..PARTITIONS).contains(&lost), "{lost} on one worker");
        cluster.workers[0].kill();
    });
    assert_eq!(computed_by(&cluster, 1), PARTITIONS);
}

#[test]
fn of_two_copies_on_disk_one_outlives_a_worker() {
    let mut cluster = Cluster::start(2, 1);
    let mut before = Vec::new();
    use_twice(&mut cluster, "disk-2", |cluster| {
        cluster.workers[0].wait_for("has copies of");
        before = cluster.workers[1].lines_until("has copies of");
        assert_eq!([worker(cluster, 0), worker(cluster, 1)], [PARTITIONS; 2]);
        cluster.workers[0].kill();
    });
    let after = computed_by(&cluster, 1);
    assert!(computed(&before) < PARTITIONS, "each computed some");
    assert_eq!(after, 0, "nothing is computed again");
}

/// Keeps two datasets of 8 x 5 MiB where one and a half fit; how many partitions of the first one
/// are computed.
fn crowd(level: &str) -> usize {
    let cluster = Cluster::start(1, 1);
    let mut command = cluster.command();
    command.args(["submit", "--executor-memory", "64MiB"]).arg(guest("crowded"));
    command.args([level, "8", "5242880"]);
    let said = run(command);
    assert_eq!(said.out, "(41943040, 41943040, 41943040)\n", "{said:?}");
    let lines = cluster.workers[0].lines_until("ends:");
    lines.iter().filter(|line| line.contains("computes first")).count()
}

#[test]
fn what_makes_room_in_memory_is_computed_again_unless_it_goes_to_disk() {
    assert_eq!(crowd("memory-and-disk"), 8);
    assert!(crowd("memory") > 8);
}

#[test]
fn accumulators_are_exact_when_a_worker_is_killed() {
    let mut cluster = Cluster::start(2, 1);
    let module = guest("accumulated");
    let mut job = start(&cluster, &[module.to_str().unwrap(), "16", "150000"]);
    let mut values: Vec<u64> = Vec::new();
    let end = loop {
        let line = job.line();
        match line.parse() {
            Ok(value) => values.push(value),
            Err(_) => break line,
        }
        if values.len() == 3 {
            cluster.workers[0].kill();
        }
    };
    assert_eq!(end, "mapped 1600 counted 1600 largest 9");
    assert!(values.is_sorted() && values.len() > 3, "{values:?}");
    assert!(values.iter().all(|value| value % 100 == 0), "whole partitions: {values:?}");
    let too_many = job.line();
    assert!(too_many.contains("limit 65536 a task"), "{too_many}");
    assert_eq!(finish(job.child).code, Some(0));
}

#[test]
fn a_long_loop_keeps_the_files_of_a_few_rounds() {
    let cluster = Cluster::start(2, 1);
    let module = guest("pagerank");
    let mut job = start(&cluster, &[module.to_str().unwrap(), "100", "3", "200", "2"]);
    let mut most = 0;
    while job.child.try_wait().unwrap().is_none() {
        most = most.max(worker(&cluster, 0) + worker(&cluster, 1));
    }
    let mut out = String::new();
    job.out.read_to_string(&mut out).unwrap();
    assert!(out.ends_with("total\t100.000\n"), "{out}");
    // Two map outputs a round; without an end of the lineage there would be 404 at the end.
    assert!((4..60).contains(&most), "{most} map outputs at once");
    cluster.wait_until_idle();
}

// === impl Running ===

impl Running {
    /// The next line of its output, without its end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        if self.out.read_line(&mut line).unwrap() == 0 {
            let mut error = String::new();
            let _ = self.child.stderr.take().map(|mut e| e.read_to_string(&mut error));
            panic!("the job has ended: {error}");
        }
        line.trim_end().to_owned()
    }
}

/// Runs a job on one executor with 64 MiB and two cores.
fn in_64_mib(cluster: &Cluster, arguments: &[&str]) -> Said {
    let mut command = cluster.command();
    command.args(["submit", "--executor-memory", "64MiB", "--executor-cores", "2"]);
    run({
        command.arg(guest(arguments[0])).args(&arguments[1..]);
        command
    })
}

#[test]
fn tasks_wait_for_memory_that_others_have_and_are_told_when_there_is_not_enough() {
    let cluster = Cluster::start(1, 2);
    let said = in_64_mib(&cluster, &["hungry_task", "40", "4"]);
    assert_eq!((said.code, &*said.out), (Some(0), "[41943040, 41943040, 41943040, 41943040]\n"));
    let said = in_64_mib(&cluster, &["hungry_task", "80", "1"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let told = ["no room for 80 MiB in the executor's memory of 64 MiB", "--executor-memory"];
    assert!(told.iter().all(|text| said.err.contains(text)), "{said:?}");
}

/// The ranks of the web of `pagerank`, one page after the other.
fn ranks(nodes: u64, edges: u64, iterations: u32) -> Vec<f64> {
    let mix = |number: u64| {
        let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let mut ranks = vec![1.0; nodes as usize];
    for _ in 0..iterations {
        let mut flowed = vec![0.0; nodes as usize];
        for edge in 0..nodes * edges {
            let place = mix(edge) % nodes;
            flowed[(place * place / nodes) as usize] +=
                ranks[(edge / edges) as usize] / edges as f64;
        }
        ranks = flowed.into_iter().map(|flowed| 0.15 + 0.85 * flowed).collect();
    }
    ranks
}

#[test]
fn ranks_are_those_of_a_program_without_a_cluster() {
    let cluster = Cluster::start(2, 1);
    let (output, module) = (cluster.directory.path().join("ranks"), guest("pagerank"));
    let (path, module) = (output.to_str().unwrap(), module.to_str().unwrap());
    let granted = cluster.directory.path().to_str().unwrap();
    let job = ["--allow-write", granted, module, "3000", "7", "12", "5", path];
    cluster.submit(&job).ok();
    let parts = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path());
    let parts = parts.filter(|path| path.to_str().unwrap().contains("/part-"));
    let text: String = parts.map(|path| fs::read_to_string(path).unwrap()).collect();
    let expected = ranks(3000, 7, 12);
    let mut found = 0;
    for line in text.lines() {
        let (page, rank) = line.split_once('\t').unwrap();
        let (page, rank): (usize, f64) = (page.parse().unwrap(), rank.parse().unwrap());
        assert!((rank / expected[page] - 1.0).abs() < 1e-9, "{line}, not {}", expected[page]);
        found += 1;
    }
    assert_eq!(found, expected.len());
}

/// Runs `plain` and returns, of each look, how many partitions were in place; what was seen must
/// have been the same.
fn in_place(cluster: &Cluster, conf: &[&str], records: &str, level: &str) -> Vec<u64> {
    let module = guest("plain");
    let job = [module.to_str().unwrap(), records, "8", level];
    let out = cluster.submit(&[conf, &job[..]].concat()).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert_eq!(lines[2], format!("other: {records}"));
    let look = |line: &str| {
        let count = line.split_once(": same true, in place ").map(|(_, count)| count.parse());
        count.unwrap_or_else(|| panic!("{out}")).unwrap()
    };
    [lines[0], lines[1], lines[3]].map(look).to_vec()
}

#[test]
fn plain_records_are_seen_in_place_where_they_are_kept() {
    let cluster = Cluster::start(1, 1);
    let few = "400000";
    assert_eq!(in_place(&cluster, &[], few, "memory"), [8, 0, 8]);
    assert_eq!(in_place(&cluster, &[], few, "disk"), [0, 0, 0]);
    // A partition of 4 MB is more than a task may have.
    let small = ["--conf", "task-memory=2MiB"];
    assert_eq!(in_place(&cluster, &small, "4000000", "memory"), [0, 0, 0]);
    // 32 MB, and 64 MB more.
    let memory = ["--executor-memory", "64MiB", "--conf", "task-memory=8MiB"];
    let looks = in_place(&cluster, &memory, "4000000", "memory-and-disk");
    assert_eq!(looks[..2], [8, 0]);
    assert!(looks[2] < 8, "nothing made room: {looks:?}");
    cluster.wait_until_idle();
}

#[test]
fn plain_records_are_the_same_wherever_they_are_read() {
    let mut cluster = Cluster::start(2, 1);
    for level in ["memory", "memory-2"] {
        // One task reads what is here and what the other executor has.
        let looks = in_place(&cluster, &[], "400000", level);
        assert_eq!(looks[1], 0);
    }
    cluster.wait_until_idle();
    for worker in &mut cluster.workers {
        worker.terminate();
        assert!(computed(&worker.last_words()) > 0, "one executor computed everything");
    }
}
