//! Word count and sort against programs that everybody has.

use crate::support::{Cluster, guest};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Bytes of every kind that a text file may hold.
fn nasty_directory(directory: &Path) {
    fs::create_dir(directory).unwrap();
    let mut number = 12_345u64;
    let mut next = |limit: u64| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (number >> 33) % limit
    };
    for file in 0..1000 {
        let lines: Vec<u8> = (0..next(20))
            .flat_map(|_| format!("w{} w{}\tline {file}\n", next(50), next(3)).into_bytes())
            .collect();
        fs::write(directory.join(format!("small-{file:04}.txt")), lines).unwrap();
    }
    let long: Vec<u8> = (0..1 << 20).map(|n| if n % 1000 == 0 { b' ' } else { b'x' }).collect();
    fs::write(directory.join("one-line"), long).unwrap();
    fs::write(directory.join("empty"), b"").unwrap();
    fs::write(directory.join("crlf"), b"one\r\ntwo\r\n\r\nthree\r\n").unwrap();
    fs::write(directory.join("no-end"), b"the last line has no end").unwrap();
    fs::write(directory.join("bytes"), b"\xff\xfe \x00 caf\xc3\xa9\n\x0bv\x0cf\n").unwrap();
    let many: Vec<u8> = (0..200_000)
        .flat_map(|_| format!("{} {}\n", next(5000), next(100_000)).into_bytes())
        .collect();
    fs::write(directory.join("many"), many).unwrap();
}

fn all_bytes(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

fn parts(directory: &Path) -> Vec<Vec<u8>> {
    assert!(directory.join("_SUCCESS").exists());
    assert!(!directory.join(".staging").exists(), "nothing is staged any more");
    let parts = all_bytes(directory).into_iter().filter(|(name, _)| name.starts_with("part-"));
    parts.map(|(_, bytes)| bytes).collect()
}

fn arguments(list: &[&dyn AsRef<std::ffi::OsStr>]) -> Vec<OsString> {
    list.iter().map(|item| item.as_ref().to_owned()).collect()
}

#[test]
fn word_count_equals_a_naive_count() {
    let cluster = Cluster::start(2, 1);
    let (input, output) =
        (cluster.directory.path().join("in"), cluster.directory.path().join("out"));
    nasty_directory(&input);
    let out = cluster
        .submit(&arguments(&[
            &"--allow-read",
            &input,
            &"--allow-write",
            &output,
            &guest("wordcount"),
            &input,
            &output,
        ]))
        .ok();
    let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for bytes in all_bytes(&input).values() {
        let words = bytes.split(|byte| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r'));
        for word in words.filter(|word| !word.is_empty()) {
            *counts.entry(word.to_vec()).or_default() += 1;
        }
    }
    let mut saved: Vec<Vec<u8>> = parts(&output)
        .concat()
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    saved.sort();
    let mut expected: Vec<Vec<u8>> = counts
        .iter()
        .map(|(word, count)| [word, format!("\t{count}\n").as_bytes()].concat())
        .collect();
    expected.sort();
    assert!(saved == expected, "{} words saved, {} expected", saved.len(), expected.len());
    let mut top: Vec<(&Vec<u8>, u64)> = counts.iter().map(|(word, count)| (word, *count)).collect();
    top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let shown: String = top
        .iter()
        .take(20)
        .map(|(word, count)| format!("{count}\t{}\n", String::from_utf8_lossy(word)))
        .collect();
    assert_eq!(out, shown);
}

#[test]
fn sort_equals_sort() {
    let cluster = Cluster::start(2, 1);
    let (input, output) =
        (cluster.directory.path().join("in"), cluster.directory.path().join("out"));
    nasty_directory(&input);
    let job = arguments(&[
        &"--allow-read",
        &input,
        &"--allow-write",
        &output,
        &guest("sort"),
        &input,
        &output,
    ]);
    cluster.submit(&job).ok();
    // coreutils' sort ends each file's last line, as every line of the output is ended.
    let mut command = Command::new("sort");
    let names = all_bytes(&input).into_keys().map(|name| input.join(name));
    let sorted = command.env("LC_ALL", "C").args(names).stdin(Stdio::null()).output().unwrap();
    assert!(sorted.status.success());
    assert!(parts(&output).concat() == sorted.stdout, "not as LC_ALL=C sort has it");
    // The same output again: it is there.
    let again = cluster.submit(&job);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("out"), "{again:?}");
}
