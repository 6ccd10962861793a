//! Replays the fuzz corpora: whatever a peer sends is a message or an error, never a panic.
//!
//! `proto/fuzz/corpus/TARGET/` holds real messages (`message-...`, kept complete by this test;
//! `UPDATE_EXPECT=1` writes what is missing) and what once was, or may be, hard (everything else).
#![allow(clippy::unwrap_used, unreachable_pub)]

use decoders::{Decoder, TARGETS};
use samples::Sample;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

#[path = "../fuzz/decoders.rs"]
mod decoders;
#[path = "samples/all.rs"]
mod samples;

/// A target, its messages in the order in which an input's first byte chooses them, and samples.
type Messages = (&'static str, &'static [&'static str], fn() -> Vec<Sample>);

/// Those of every target that has messages.
const MESSAGES: [Messages; 6] = [
    ("hello", &["Hello", "Welcome", "JoinRequest", "JoinReply"], samples::hello::all),
    (
        "cluster",
        &["FromWorker", "ToWorker", "FromClient", "ToClient", "ModuleRequest", "ModuleReply"],
        samples::cluster::all,
    ),
    (
        "executor",
        &["ToExecutor", "FromExecutor", "DriverData", "DataChunk", "TaskReport", "SnapshotHeader"],
        samples::executor::with_reports,
    ),
    ("block", &["FetchBlocks", "BlockFrame", "ShuffleIndex"], samples::block::all),
    ("link", &["FromSlot", "ToSlot", "Request", "Reply"], samples::link::all),
    ("abi", &["NodeSpec", "JobSpec", "Source", "InputFiles"], samples::abi::all),
];

/// Bytes that are put in place of each byte of a message: the ends of the varint's range, and the
/// values on which lengths and variants turn.
const NASTY: [u8; 6] = [0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF];

fn folder(target: &str) -> PathBuf {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    top.join("fuzz/corpus").join(target)
}

/// The corpus of a target by file name.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(target)).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    files.collect()
}

/// Real messages as inputs of a target, by file name.
fn messages(kinds: &[&str], samples: Vec<Sample>) -> BTreeMap<String, Vec<u8>> {
    let mut inputs = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    for Sample { name, bytes } in samples {
        let kind = name.split([':', ' ']).next().unwrap();
        // Parts of messages are in no corpus of their own.
        let Some(choice) = kinds.iter().position(|known| *known == kind) else {
            continue;
        };
        let name = name.to_lowercase().replace("::", "-").replace(' ', "-");
        // Numbered by name: a new message changes the names of no others.
        let number = numbers.entry(name.clone()).or_insert(0);
        let input = [&[choice as u8][..], &bytes].concat();
        inputs.insert(format!("message-{name}-{number}"), input);
        *number += 1;
    }
    inputs
}

fn decoder(target: &str) -> Decoder {
    TARGETS.iter().find(|(name, _)| *name == target).unwrap().1
}

#[test]
fn every_real_message_is_in_the_corpus_and_decodes() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    for (target, kinds, samples) in MESSAGES {
        if update {
            fs::create_dir_all(folder(target)).unwrap();
            // Those of messages that are no more, or have another number.
            for name in corpus(target).into_keys().filter(|name| name.starts_with("message-")) {
                fs::remove_file(folder(target).join(name)).unwrap();
            }
        }
        let stored = corpus(target);
        for (name, input) in messages(kinds, samples()) {
            if update {
                fs::write(folder(target).join(&name), &input).unwrap();
            } else {
                let found = stored.get(&name);
                assert_eq!(found, Some(&input), "{target}/{name}: see this file's first lines");
            }
            assert_eq!(decoder(target)(&input), Ok(()), "{target}/{name}");
        }
    }
}

#[test]
fn no_stored_input_makes_a_decoder_panic() {
    let mut unexpected = Vec::new();
    for (target, decode) in TARGETS {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "the corpus of {target} is empty");
        for (name, input) in corpus {
            // Names say what is expected.
            let result = decode(&input);
            if result.is_err() != name.starts_with("refused-") {
                unexpected.push(format!("{target}/{name}: {result:?}"));
            }
        }
    }
    assert!(unexpected.is_empty(), "\n{}\n", unexpected.join("\n"));
}

#[test]
fn no_mutation_of_a_real_message_makes_a_decoder_panic() {
    let mut refused = 0u64;
    for (target, kinds, samples) in MESSAGES {
        let decode = decoder(target);
        for (_, mut input) in messages(kinds, samples()) {
            for cut in 1..input.len() {
                refused += u64::from(decode(&input[..cut]).is_err());
            }
            for place in 1..input.len() {
                let byte = input[place];
                for nasty in NASTY {
                    input[place] = nasty;
                    refused += u64::from(decode(&input).is_err());
                }
                input[place] = byte;
            }
            input.push(0);
            assert!(decode(&input).is_err(), "{target}: a byte left over");
        }
    }
    assert!(refused > 1000, "mutations should seldom be messages");
}
