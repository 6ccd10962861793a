//! Reads the checkout and says what a reviewer would have to say again and again.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a Rust file, from which on it holds more than one thing.
const LINES_MAX: usize = 500;

/// Columns of a line of code, tests and documentation of Rust code included.
const COLUMNS_MAX: usize = 100;

/// How the paths of the pure state machines begin: what decides, and does nothing.
const PURE: [&str; 9] = [
    "driver/src/allocation",
    "driver/src/dag",
    "driver/src/tasks",
    "driver/src/scheduler",
    "driver/src/master_watch",
    "master/src/cluster",
    "master/src/placement",
    "host/src/executor/dispatch",
    "host/src/worker/node",
];

/// What a pure state machine has no use for, and why.
const IMPURE: [(&str, &str); 6] = [
    ("tokio", "the driver around it waits"),
    ("async", "the driver around it waits"),
    ("Instant", "time is an argument: a Duration since some start"),
    ("SystemTime", "time is an argument"),
    ("HashMap", "its order differs from run to run; use BTreeMap"),
    ("HashSet", "its order differs from run to run; use BTreeSet"),
];

/// Where `unsafe` may be: the sandbox, the SDK's imports, process set-up, and an example job that
/// looks at its own memory.
const UNSAFE: [&str; 4] =
    ["sandbox/", "sdk/src/raw", "host/src/launch", "guest-examples/probe/src/lib.rs"];

/// What the guide for authors of jobs tells of: operations, actions and where datasets come from.
const OPERATIONS: [&str; 10] = [
    "sdk/src/action",
    "sdk/src/byte_pairs",
    "sdk/src/context",
    "sdk/src/dataset",
    "sdk/src/formats/sink",
    "sdk/src/lines",
    "sdk/src/output",
    "sdk/src/pairs",
    "sdk/src/sorted_lines",
    "sdk/src/external/spilled",
];

/// How the names of variants of operations end, which the guide tells of once.
const VARIANTS: [&str; 2] = ["_with_partitions", "_with_partitioner"];

/// Where every package may come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A file of the checkout.
struct Source {
    /// From the top of the checkout.
    path: String,
    text: String,
}

// === impl Source ===

impl Source {
    /// Every text file of the checkout that is not built.
    fn all() -> Vec<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut paths = Vec::new();
        collect(top, &mut paths);
        assert!(paths.len() > 100, "this is not the whole checkout");
        let read = |path: PathBuf| {
            // What is not UTF-8 is not text.
            let text = fs::read_to_string(&path).ok()?;
            let path = path.strip_prefix(top).unwrap().to_str().unwrap();
            Some(Self { path: path.to_owned(), text })
        };
        paths.into_iter().filter_map(read).collect()
    }

    fn rust() -> Vec<Self> {
        let mut sources = Self::all();
        sources.retain(|source| source.path.ends_with(".rs"));
        sources
    }

    /// Whether the path begins with one of these.
    fn is_within(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// Numbered lines without comments; strings count as code.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = (1..).zip(self.text.lines());
        numbered.map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_symlink() || ["target", ".git", "corpus"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// Whether `word` is in the line with neither a letter, a digit nor `_` beside it.
fn has_word(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + word.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut complaints = Vec::new();
    for Source { path, text } in Source::rust() {
        if !text.starts_with("//! ") {
            complaints.push(format!("{path}: the first line is no `//!`"));
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn files_and_lines_are_short() {
    let mut complaints = Vec::new();
    for Source { path, text } in Source::rust() {
        let lines = text.lines().count();
        if lines >= LINES_MAX {
            complaints.push(format!("{path}: {lines} lines; split it by concept"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            if line.chars().count() > COLUMNS_MAX {
                complaints.push(format!("{path}:{number}: over {COLUMNS_MAX} columns"));
            }
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn state_machines_are_pure() {
    let mut complaints = Vec::new();
    let sources = Source::rust();
    for place in PURE {
        let files: Vec<_> = sources.iter().filter(|file| file.is_within(&[place])).collect();
        assert!(!files.is_empty(), "{place} is gone; correct the list");
        for file in files {
            for (number, line) in file.code() {
                let found = IMPURE.iter().filter(|(word, _)| has_word(line, word));
                complaints.extend(
                    found.map(|(word, why)| format!("{}:{number}: {word}: {why}", file.path)),
                );
            }
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn unsafe_code_stays_where_it_may_be() {
    let mut complaints = Vec::new();
    for file in Source::rust() {
        // This file names the word.
        if file.is_within(&UNSAFE) || file.path == "xtask/tests/tidy.rs" {
            continue;
        }
        let found = file.code().filter(|(_, line)| has_word(line, "unsafe"));
        complaints.extend(found.map(|(number, _)| format!("{}:{number}: unsafe", file.path)));
    }
    assert_tidy(&complaints);
}

#[test]
fn crates_forbid_unsafe_code_or_name_its_module() {
    let mut complaints = Vec::new();
    for Source { path, text } in Source::rust() {
        let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        let refuses =
            ["forbid", "deny"].map(|lint| text.contains(&format!("#![{lint}(unsafe_code)]")));
        // The two whose purpose needs it.
        let excepted = ["sandbox/src/lib.rs", "guest-examples/probe/src/lib.rs"];
        if is_root && refuses == [false; 2] && !excepted.contains(&&*path) {
            complaints.push(format!("{path}: no #![forbid(unsafe_code)]"));
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn nothing_names_the_machine_that_it_was_written_on() {
    // Written so that this file does not complain about itself.
    let homes = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    let mut complaints = Vec::new();
    for Source { path, text } in Source::all() {
        for (number, line) in (1..).zip(text.lines()) {
            let absolute = |home: &String| {
                let mut places = line.match_indices(home.as_str());
                places.any(|(start, _)| {
                    !line[..start].ends_with(|c: char| c.is_alphanumeric() || "./}_-".contains(c))
                })
            };
            complaints.extend(
                homes
                    .iter()
                    .filter(|home| absolute(home))
                    .map(|home| format!("{path}:{number}: a path in {home}")),
            );
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn packages_come_from_the_public_registry() {
    let mut complaints = Vec::new();
    let locks = Source::all().into_iter().filter(|file| file.path.ends_with("Cargo.lock"));
    for Source { path, text } in locks {
        let sources = text.lines().filter_map(|line| line.strip_prefix("source = "));
        let foreign = sources.filter(|source| source.trim_matches('"') != REGISTRY);
        complaints.extend(foreign.map(|source| format!("{path}: {source}")));
    }
    assert_tidy(&complaints);
}

#[test]
fn words_are_found_whole() {
    assert!(has_word("use tokio::sync;", "tokio"));
    assert!(!has_word("fn is_async_io()", "async"));
    assert!(!has_word("tokio_util", "tokio"));
}

#[test]
fn the_guide_has_every_operation() {
    let sources = Source::all();
    let text = |path: &str| sources.iter().find(|source| source.path == path).unwrap().text.clone();
    let guide = text("docs/job-authors.md") + &text("docs/formats.md");
    let mut seen = 0;
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.is_within(&OPERATIONS)) {
        for (number, line) in source.code() {
            let Some((_, rest)) = line.split_once("pub fn ") else { continue };
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            seen += 1;
            let told = VARIANTS.iter().any(|ending| name.ends_with(ending));
            if !told && !has_word(&guide, name) {
                let path = &source.path;
                complaints.push(format!("{path}:{number}: {name} is not in docs/job-authors.md"));
            }
        }
    }
    assert!(seen > 100, "this is not the whole SDK: {seen} operations");
    assert_tidy(&complaints);
}
