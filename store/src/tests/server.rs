//! What a real server says.

use super::{grants, read, staged};
use crate::{Output, RemoteFiles, StoreError, SystemStores};
use offshoot_proto::id::Partition;
use offshoot_proto::store::StoreOptions;
use offshoot_tests::s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

fn options(server: &S3Server) -> StoreOptions {
    StoreOptions {
        access_key_id: Some(ACCESS_KEY_ID.to_owned()),
        secret_access_key: Some(SECRET_ACCESS_KEY.to_owned()),
        endpoint: Some(server.endpoint()),
        ..StoreOptions::default()
    }
}

fn files_with(options: StoreOptions) -> RemoteFiles {
    let grants = grants(&["s3://bucket/in", "s3://none"], &["s3://bucket/out"]);
    RemoteFiles::new(Arc::new(SystemStores), &grants, options)
}

fn put(server: &S3Server, key: &str, bytes: &[u8]) {
    let path = server.bucket().join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

async fn keys(files: &RemoteFiles, pattern: &str) -> Vec<String> {
    let listed = files.list_inputs(pattern).await.unwrap();
    let key = |file: offshoot_proto::abi::InputFile| {
        let path = file.path.split("#etag=").next().unwrap().to_owned();
        path.strip_prefix("s3://bucket/in/").unwrap().to_owned()
    };
    listed.into_iter().map(key).collect()
}

#[tokio::test]
async fn a_listing_is_like_a_local_one() {
    let server = S3Server::start().unwrap();
    for key in ["a.txt", "b.txt", "_hidden", ".dot", "deep/c.txt", "deep/er/d.txt", "deep2/_e"] {
        put(&server, &format!("in/{key}"), key.as_bytes());
    }
    put(&server, "into/x", b"x");
    let files = files_with(options(&server));
    assert_eq!(keys(&files, "s3://bucket/in").await, ["a.txt", "b.txt"]);
    assert_eq!(keys(&files, "s3://bucket/in/").await, ["a.txt", "b.txt"]);
    assert_eq!(keys(&files, "s3://bucket/in/_hidden").await, ["_hidden"]);
    assert_eq!(keys(&files, "s3://bucket/in/*.txt").await, ["a.txt", "b.txt"]);
    assert_eq!(keys(&files, "s3://bucket/in/*").await, ["a.txt", "b.txt", "deep/c.txt"]);
    assert_eq!(keys(&files, "s3://bucket/in/*/?.txt").await, ["deep/c.txt"]);
    assert_eq!(keys(&files, "s3://bucket/in/d*/er").await, ["deep/er/d.txt"]);
    assert_eq!(keys(&files, "s3://bucket/in/d*/c.txt").await, ["deep/c.txt"]);
    assert_eq!(keys(&files, "s3://bucket/in/_*").await, ["_hidden"]);
    for key in ["y=1/a", "y=1/m=2/b.csv", "y=2/_tmp/x.csv", "y=2/.x/x.csv", "y=2/c.csv"] {
        put(&server, &format!("in/tree/{key}"), b"x");
    }
    let tree = ["tree/y=1/a", "tree/y=1/m=2/b.csv", "tree/y=2/c.csv"];
    assert_eq!(keys(&files, "s3://bucket/in/tree/**").await, tree);
    assert_eq!(keys(&files, "s3://bucket/in/tree/**/").await, tree);
    assert_eq!(keys(&files, "s3://bucket/in/tree/**/*.csv").await, tree[1..]);
    assert_eq!(keys(&files, "s3://bucket/in/tr*/**/m=2").await, tree[1..2]);
    assert_eq!(keys(&files, "s3://bucket/in/tree/y=1/**").await, tree[..2]);
    let nothing = files.list_inputs("s3://bucket/in/none").await.unwrap_err();
    assert_eq!(nothing.to_string(), "nothing is at s3://bucket/in/none");
    for outside in ["s3://bucket/into/x", "s3://bucket/*", "s3://bucket/i*/a.txt"] {
        let refused = files.list_inputs(outside).await.unwrap_err().to_string();
        assert!(refused.contains("is not granted: add --allow-read s3://"), "{refused}");
    }
}

#[tokio::test]
async fn objects_are_read_from_any_offset() {
    let server = S3Server::start().unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    put(&server, "in/large", &bytes);
    put(&server, "in/empty", b"");
    let files = files_with(options(&server));
    for offset in [0, 1, 2_999_999, 3_000_000, 4_000_000] {
        let expected = bytes.get(offset..).unwrap_or_default();
        let got = read(&files, "s3://bucket/in/large", offset as u64).await.unwrap();
        assert!(got == expected, "from {offset}: {} bytes", got.len());
    }
    assert_eq!(read(&files, "s3://bucket/in/empty", 0).await.unwrap(), b"");
}

#[tokio::test]
async fn another_version_fails_with_both() {
    let server = S3Server::start().unwrap();
    put(&server, "in/a", b"one");
    let files = files_with(options(&server));
    let listed = files.list_inputs("s3://bucket/in/a").await.unwrap();
    assert!(listed[0].path.starts_with("s3://bucket/in/a#etag="), "{}", listed[0].path);
    put(&server, "in/a", b"two");
    let error = files.open_input(&listed[0], 0).await.unwrap_err();
    let StoreError::Changed { listed: before, found, .. } = &error else { panic!("{error}") };
    assert!(before != found && before.contains("ETag") && found.contains("ETag"), "{error}");
    fs::remove_file(server.bucket().join("in/a")).unwrap();
    let gone = files.open_input(&listed[0], 0).await.unwrap_err().to_string();
    assert!(gone.contains("and now is gone"), "{gone}");
}

#[tokio::test]
async fn what_is_wrong_is_said_in_a_line() {
    let server = S3Server::start().unwrap();
    put(&server, "in/a", b"one");
    let wrong = StoreOptions { secret_access_key: Some("wrong".to_owned()), ..options(&server) };
    let files = files_with(options(&server));
    for (files, url, word) in [
        (files_with(wrong), "s3://bucket/in/a", "SignatureDoesNotMatch"),
        (files.clone(), "s3://none/a", "NoSuchBucket"),
    ] {
        let error = files.list_inputs(url).await.unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(url), "{error}");
        assert!(!error.contains('\n') && !error.contains(SECRET_ACCESS_KEY), "{error}");
        let output = url.replace("/in/a", "/out").replace("none/a", "none/out");
        let error = Output::begin(&files, &output, "k".to_owned(), "part-").await.unwrap_err();
        assert!(!matches!(error, StoreError::OutputExists { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_output_is_committed_and_an_abandoned_one_leaves_nothing() {
    let server = S3Server::start().unwrap();
    let files = files_with(options(&server));
    // Two parts of an upload and a little.
    let large: Vec<u8> = (0..17u32 << 20).map(|n| (n / 7) as u8).collect();
    for (out, commit) in [("s3://bucket/out/1", true), ("s3://bucket/out/2", false)] {
        let mut output = Output::begin(&files, out, "k".to_owned(), "part-").await.unwrap();
        for (number, bytes) in [&large[..], b""].into_iter().enumerate() {
            let url = format!("{out}/part-{number:05}");
            let (length, checksum) = (bytes.len() as u64, crc32fast::hash(bytes));
            let part = files.upload(&url, &staged(bytes), length, checksum).await.unwrap();
            output.add(Partition(number as u32), part);
        }
        assert!(!server.uploads().unwrap().is_empty());
        match commit {
            true => output.commit().await.unwrap(),
            false => output.abandon().await,
        }
        assert_eq!(server.uploads().unwrap(), Vec::<String>::new(), "{out}");
    }
    let there = |key: &str| server.bucket().join("out").join(key);
    assert!(fs::read(there("1/part-00000")).unwrap() == large);
    assert!(there("1/part-00001").exists() && there("1/_SUCCESS").exists());
    assert!(!there("1/_commits/claim").exists() && !there("2/part-00000").exists());
    assert!(!there("2/_commits/claim").exists());
}

/// Answers a HEAD, and breaks off in the middle of every GET.
fn broken_server() -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/data/file", listener.local_addr().unwrap());
    let serve = thread::spawn(move || {
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n";
            socket.write_all(head.as_bytes()).unwrap();
            if request.starts_with(b"GET") {
                socket.write_all(&[b'x'; 5000]).unwrap();
            }
        }
    });
    (url, serve)
}

#[tokio::test]
async fn an_input_that_breaks_off_says_where() {
    let (url, serving) = broken_server();
    let grants = grants(&[url.strip_suffix("/file").unwrap()], &[]);
    let files = RemoteFiles::new(Arc::new(SystemStores), &grants, Default::default());
    let error = read(&files, &url, 0).await.unwrap_err();
    assert!(matches!(&error, StoreError::BrokeOff { offset: 5000, .. }), "{error}");
    assert!(error.to_string().contains(&url), "{error}");
    serving.join().unwrap();
    let written = Output::begin(&files, &url, "k".to_owned(), "part-").await.unwrap_err();
    assert!(matches!(written, StoreError::ReadOnly { .. }), "{written}");
}
