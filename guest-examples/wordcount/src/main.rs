//! Counts the words of text files: `wordcount INPUT [OUTPUT]`.
//!
//! A word is a longest run of bytes without white space; its bytes may be anything else, UTF-8 or
//! not. Prints the 20 most frequent words as `count<TAB>word`. With OUTPUT, a directory that does
//! not exist yet, also saves every word as `word<TAB>count`.
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use std::io::{self, Write};
use std::process::ExitCode;

const USAGE: &str = "usage: wordcount INPUT [OUTPUT] (a text file, a directory of them or a \
     pattern such as '/data/*.txt'; a directory to make, for all words with their counts)";

/// How many words are printed.
const PRINTED: usize = 20;

type Count = (Vec<u8>, u64);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (input, output) = match arguments.as_slice() {
        [_, input] => (input, None),
        [_, input, output] => (input, Some(output)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(input, output.map(String::as_str)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(input: &str, output: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    let context = Context::new();
    let counts = context
        .byte_lines(input)?
        .flat_map_bytes(|line, emit| words(line).for_each(|word| emit(word, 1u64)))
        .reduce_by_key(|left, right| left + right);

    // Every partition sends its own best, so that `main` sees a few words of each, not all.
    let best = counts.map_partitions(most_frequent).collect()?;
    let mut stdout = io::stdout().lock();
    for (word, count) in most_frequent(best.into_iter()) {
        write!(stdout, "{count}\t")?;
        stdout.write_all(&word)?;
        writeln!(stdout)?;
    }

    // The counts are not computed again: both jobs read the same shuffle.
    if let Some(output) = output {
        counts.save_as_text_file(output)?;
    }
    Ok(())
}

/// The words of a line.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| is_space(*byte)).filter(|word| !word.is_empty())
}

/// White space of ASCII, with the vertical tabulator that `is_ascii_whitespace` leaves out.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The most frequent words, the most frequent first, equally frequent ones in byte order.
fn most_frequent(counts: impl Iterator<Item = Count>) -> Vec<Count> {
    let in_order =
        |left: &Count, right: &Count| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0));
    let mut best = Vec::new();
    counts.for_each(|count| {
        best.push(count);
        if best.len() >= 64 * PRINTED {
            best.sort_unstable_by(in_order);
            best.truncate(PRINTED);
        }
    });
    best.sort_unstable_by(in_order);
    best.truncate(PRINTED);
    best
}

#[cfg(test)]
mod tests {
    use super::{most_frequent, words};

    #[test]
    fn words_are_runs_without_white_space() {
        let found: Vec<&[u8]> = words(b" a\tb\x0b\x0cc\r\xc3\x28  d\xa0e ").collect();
        assert_eq!(found, [&b"a"[..], b"b", b"c", b"\xc3\x28", b"d\xa0e"]);
        assert_eq!(words(b" \r").count(), 0);
    }

    #[test]
    fn the_best_come_first_and_ties_in_byte_order() {
        let counts = (0..5000u64).map(|n| (format!("w{n:04}").into_bytes(), n / 2));
        let best = most_frequent(counts);
        assert_eq!(best.len(), 20);
        assert_eq!(best[0], (b"w4998".to_vec(), 2499));
        assert_eq!(best[1], (b"w4999".to_vec(), 2499));
        assert_eq!(best[19], (b"w4981".to_vec(), 2490));
    }
}
