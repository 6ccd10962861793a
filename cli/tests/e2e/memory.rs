//! What does not fit a task's memory: the same results, whatever the memory and the cluster.

use crate::support::{Cluster, guest, submit};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What every task of these tests may have.
const TASK_MEMORY: &str = "task-memory=2MiB";

/// Ten times that, in one partition.
const KIBIBYTES: &str = "20480";

fn with_little_memory(module: &str, rest: &[&Path]) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["--conf".into(), TASK_MEMORY.into()];
    if let [input, output] = rest {
        all.extend(["--allow-read".into(), input.into()]);
        all.extend(["--allow-write".into(), output.into()]);
    }
    all.push(guest(module).into());
    all.extend(rest.iter().map(Into::into));
    all
}

#[test]
fn a_partition_of_ten_times_a_tasks_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut small = with_little_memory("larger_than_memory", &[]);
    small.push(KIBIBYTES.into());
    let out = submit(directory.path(), &small).ok();
    // With the default memory, everything but the hot key fits.
    assert_eq!(submit(directory.path(), &small[2..]).ok(), out);
    let expected = "distinct 20480\ngroups 5120 values 20480\ncogrouped 5120\njoined 10240\n";
    assert!(out.contains(expected) && out.starts_with("sorted [true] "), "{out}");
}

#[test]
fn a_file_of_twenty_times_a_tasks_memory() {
    let cluster = Cluster::start(2, 1);
    let path = |name: &str| cluster.directory.path().join(name);
    let (mut number, mut text) = (7u64, String::new());
    let mut counts = BTreeMap::<String, u64>::new();
    while text.len() < 40 << 20 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let word = format!("word-{:x}", (number >> 33) % 400_000);
        text.push_str(&word);
        text.push(if number >> 60 == 0 { '\n' } else { ' ' });
        *counts.entry(word).or_default() += 1;
    }
    fs::write(path("in"), &text).unwrap();
    let saved = |name: &str| {
        let parts = fs::read_dir(path(name)).unwrap().flatten().map(|entry| entry.path());
        let is_part = |path: &PathBuf| path.to_string_lossy().contains("/part-");
        let mut parts: Vec<_> = parts.filter(is_part).collect();
        parts.sort();
        parts.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>()
    };

    cluster.submit(&with_little_memory("wordcount", &[&path("in"), &path("counts")])).ok();
    let mut found: Vec<_> = saved("counts").lines().map(str::to_owned).collect();
    found.sort();
    let expected: Vec<_> = counts.iter().map(|(word, n)| format!("{word}\t{n}")).collect();
    assert!(found == expected, "{} words, {} expected", found.len(), expected.len());

    cluster.submit(&with_little_memory("sort", &[&path("in"), &path("sorted")])).ok();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let expected = lines.iter().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "{line}");
        all
    });
    assert!(saved("sorted") == expected, "not sorted, or other lines");
    cluster.wait_until_idle();
}

#[test]
fn every_operation_is_the_same_on_any_cluster_with_any_memory() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = |memory: &str| -> Vec<OsString> {
        let settings = ["--conf", "shuffle-partitions=5", "--conf", memory];
        let mut all: Vec<OsString> = settings.map(Into::into).into();
        all.extend([guest("every_operation").into(), "20000".into()]);
        all
    };
    let (usual, little) = (arguments("task-memory=512MiB"), arguments(TASK_MEMORY));
    let expected = submit(directory.path(), &usual).ok();
    assert!(expected.lines().count() > 50, "{expected}");
    assert_eq!(submit(directory.path(), &little).ok(), expected, "spilling");
    for (workers, cores, arguments) in [(1, 1, &usual), (2, 2, &little), (3, 1, &usual)] {
        let found = Cluster::start(workers, cores).submit(arguments).ok();
        assert_eq!(found, expected, "{workers} workers with {cores} cores");
    }
}
