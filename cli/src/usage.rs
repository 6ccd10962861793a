//! What clap says of wrong arguments, in one line.

use crate::failure::Failure;
use clap::error::ErrorKind;
use std::process::ExitCode;

/// Prints what is wrong, or the help that was asked for; gives the exit code.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::DisplayVersion => error.exit(),
        _ => Failure::usage(one_line(&error.to_string())).report(),
    }
}

/// Prints what is wrong with what stands elsewhere, where that is first; gives the exit code.
pub(crate) fn report_of(place: &str, error: &clap::Error) -> ExitCode {
    Failure::usage(format!("{place}: {}", one_line(&error.to_string()))).report()
}

/// The paragraphs that say what is wrong and what may be meant, without the usage.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let boilerplate = ["Usage:", "For more information"];
    let paragraphs = text.split("\n\n").map(str::trim).filter(|paragraph| {
        !paragraph.is_empty() && !boilerplate.iter().any(|start| paragraph.starts_with(start))
    });
    let lines = paragraphs.map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clap_says_becomes_a_line() {
        let missing = "error: the following required arguments were not provided:\n  <APP.wasm>\n\n\
             Usage: offshoot submit <APP.wasm> [ARG]...\n\nFor more information, try '--help'.\n";
        let expected = "the following required arguments were not provided: <APP.wasm>";
        assert_eq!(one_line(missing), expected);
        let unknown = "error: unrecognized subcommand 'mster'\n\n  tip: a similar subcommand \
             exists: 'master'\n\nUsage: offshoot <COMMAND>\n\nFor more information, try \
             '--help'.\n";
        let expected =
            "unrecognized subcommand 'mster'; tip: a similar subcommand exists: 'master'";
        assert_eq!(one_line(unknown), expected);
    }
}
