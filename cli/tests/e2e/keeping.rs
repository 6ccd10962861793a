//! What outlives the job that computed it: kept datasets, accumulators, lineages that are cut.

use crate::support::{Cluster, finish, guest, signal};
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

/// Runs `kept`, `between` its two uses of the dataset.
fn use_twice(cluster: &mut Cluster, between: impl FnOnce(&mut Cluster)) {
    let directory = cluster.directory.path().join("granted");
    fs::create_dir(&directory).unwrap();
    let (path, module) = (directory.to_str().unwrap(), guest("kept"));
    let partitions = PARTITIONS.to_string();
    let arguments = ["--allow-write", path, module.to_str().unwrap(), path, &partitions];
    let mut job = start(cluster, &arguments);
    assert_eq!(job.line(), "count 1000 computed 8");
    between(cluster);
    fs::write(directory.join("go"), "").unwrap();
    assert_eq!(job.line(), "sum 332833500 computed 8");
    assert_eq!(job.line(), "max Some(998001) computed 8");
    let said = finish(job.child);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_kept_dataset_outlives_an_executor() {
    let mut cluster = Cluster::start(2, 1);
    use_twice(&mut cluster, |cluster| {
        assert_eq!(worker(cluster, 0) + worker(cluster, 1), PARTITIONS);
        signal(cluster.wait_for_process("offshoot executor app-1/0"), "KILL");
    });
    cluster.wait_until_idle();
}

#[test]
fn of_a_lost_worker_its_partitions_are_computed_again() {
    let mut cluster = Cluster::start(2, 1);
    let mut lost = 0;
    use_twice(&mut cluster, |cluster| {
        lost = worker(cluster, 0);
        assert_eq!(lost + worker(cluster, 1), PARTITIONS);
        assert!((1..PARTITIONS).contains(&lost), "{lost} on one worker");
        cluster.workers[0].kill();
    });
}

#[test]
fn accumulators_are_exact_when_a_worker_is_killed() {
    let mut cluster = Cluster::start(2, 1);
    let module = guest("accumulated");
    let mut job = start(&cluster, &[module.to_str().unwrap(), "16", "3000000"]);
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
