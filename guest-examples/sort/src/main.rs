//! Sorts the lines of text files by their bytes: `sort INPUT OUTPUT`.
//!
//! The parts of OUTPUT, in order of their names, are all lines in order, each ended by `\n`.
#![forbid(unsafe_code)]

use offshoot::prelude::*;
use std::process::ExitCode;

const USAGE: &str = "usage: sort INPUT OUTPUT (a text file, a directory of them or a pattern such \
     as '/data/*.txt'; a directory to make, for the sorted lines)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, input, output] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(input, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sort: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(input: &str, output: &str) -> Result<(), Error> {
    // Takes a sample first, to know which lines go to which part.
    let sorted = Context::new().byte_lines(input)?.sort();
    sorted.save_as_text_file(output)
}
