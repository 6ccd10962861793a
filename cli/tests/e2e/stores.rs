//! Jobs that read from and save to a real S3 server.

use crate::support::{Cluster, Said, guest, offshoot, run, run_and_leave_nothing};
use offshoot_tests::s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// Objects of the word count.
const OBJECTS: u64 = 1_000;

pub(crate) fn with_store<'a>(command: &'a mut Command, server: &S3Server) -> &'a mut Command {
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
        .env("AWS_ENDPOINT_URL", server.endpoint())
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_REGION")
}

/// `offshoot submit` with an embedded cluster, of one line of errors at the end.
fn submit(server: &S3Server, change: impl Fn(&mut Command), arguments: &[&str]) -> Said {
    let directory = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut command = offshoot(directory.path());
    with_store(&mut command, server).arg("submit").args(arguments);
    change(&mut command);
    run_and_leave_nothing(command, scratch.path())
}

/// What a job wrote to a directory of the bucket, by name.
fn saved(server: &S3Server, directory: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(server.bucket().join(directory)).unwrap().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    files.map(file).collect()
}

#[test]
fn word_count_reads_a_thousand_objects_and_saves_to_a_bucket() {
    let server = S3Server::start().unwrap();
    let (input, mut counts) = (server.bucket().join("in"), BTreeMap::<String, u64>::new());
    fs::create_dir(&input).unwrap();
    for object in 0..OBJECTS {
        let words = [format!("w{}", object % 7), format!("o{object}"), "all".to_owned()];
        fs::write(input.join(format!("{object:04}.txt")), words.join(" ")).unwrap();
        words.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
    }
    fs::write(input.join("_hidden"), "hidden").unwrap();
    let cluster = Cluster::start(2, 1);
    let wordcount = guest("wordcount");
    let mut command = cluster.command();
    with_store(&mut command, &server).args(["submit", "--allow-read", "s3://bucket/in"]);
    command.args(["--allow-write", "s3://bucket/out", wordcount.to_str().unwrap()]);
    command.args(["s3://bucket/in/*.txt", "s3://bucket/out/counts"]);
    let printed = run(command);
    assert!(printed.out.starts_with("1000\tall\n143\tw0\n"), "{printed:?}");
    let mut files = saved(&server, "out/counts");
    assert_eq!(files.remove("_SUCCESS"), Some(Vec::new()));
    let text = String::from_utf8(files.into_values().flatten().collect()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> =
        counts.iter().map(|(word, count)| format!("{word}\t{count}")).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(server.uploads().unwrap(), Vec::<String>::new());
    // Nothing on a disk of the cluster has the secret.
    let grep = Command::new("grep")
        .args(["-rl", SECRET_ACCESS_KEY])
        .arg(cluster.directory.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "{grep:?}");
}

#[test]
fn a_job_that_fails_leaves_no_upload() {
    let server = S3Server::start().unwrap();
    let module = guest("save_panic");
    let arguments = ["--allow-write", "s3://bucket/out", module.to_str().unwrap()];
    let said = submit(&server, |_| {}, &[&arguments[..], &["s3://bucket/out"]].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("3999 is one too many"), "{said:?}");
    assert_eq!(server.uploads().unwrap(), Vec::<String>::new());
    assert_eq!(saved(&server, "."), BTreeMap::new());
    assert!(!server.bucket().join("out/_commits/claim").exists());
}

#[test]
fn what_is_wrong_with_a_store_is_one_clear_error() {
    let server = S3Server::start().unwrap();
    fs::create_dir(server.bucket().join("in")).unwrap();
    fs::write(server.bucket().join("in/a"), "a b a\n").unwrap();
    let wordcount = guest("wordcount");
    let count = |change: &dyn Fn(&mut Command), url: &str, grants: &[&str]| {
        let mut arguments = grants.to_vec();
        arguments.extend([wordcount.to_str().unwrap(), url]);
        let said = submit(&server, change, &arguments);
        assert!(!said.err.contains(SECRET_ACCESS_KEY), "{said:?}");
        said
    };
    let wrong = |command: &mut Command| {
        command.env("AWS_SECRET_ACCESS_KEY", "wrong");
    };
    let right = |_: &mut Command| {};
    let read = ["--allow-read", "s3://bucket/in"];
    count(&wrong, "s3://bucket/in/a", &read).failed(1, "s3://bucket/in/a: listing it: Signature");
    let none = ["--allow-read", "s3://no-bucket"];
    count(&right, "s3://no-bucket/a", &none)
        .failed(1, "s3://no-bucket/a: listing it: NoSuchBucket");
    count(&right, "s3://bucket/b", &read)
        .failed(1, "reading s3://bucket/b is not granted: add --allow-read s3://bucket/b");
    count(&right, "s3://bucket/in/b", &read).failed(1, "nothing is at s3://bucket/in/b");
    let http = ["--allow-write", "http://127.0.0.1/out"];
    count(&right, "x", &http).failed(2, "--allow-write: http://127.0.0.1/out cannot be written");
}

#[test]
fn a_server_that_goes_away_is_named() {
    // It answers the listing: a look at the object.
    let server = S3Server::start_for(1).unwrap();
    fs::create_dir(server.bucket().join("in")).unwrap();
    fs::write(server.bucket().join("in/a"), "a b a\n").unwrap();
    let module = guest("wordcount");
    let arguments = ["--conf", "task-max-failures=1", "--allow-read", "s3://bucket/in"];
    let job = [module.to_str().unwrap(), "s3://bucket/in/a"];
    let said = submit(&server, |_| {}, &[&arguments[..], &job].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("s3://bucket/in/a: opening it: "), "{said:?}");
}
