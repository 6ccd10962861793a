//! What has become of a task, in one line for a person.
//!
//! What a guest says may have many lines and anything in them. Here they become one line that a
//! terminal shows as it is; attempts that said the same are told once.

use super::FailedAttempt;
use offshoot_proto::id::WorkerId;
use std::fmt::Write as _;

/// Characters of a message: a panic with two values, or a trap with the innermost frames.
const MESSAGE_CHARS_MAX: usize = 1500;

/// Characters of what other attempts said than the last one.
const OTHER_MESSAGE_CHARS_MAX: usize = 160;

/// Other messages, and workers, that are told one by one.
const LISTED_MAX: usize = 4;

/// One message, and the workers whose attempts said it.
struct Group<'a> {
    text: &'a str,
    attempts: usize,
    workers: Vec<&'a WorkerId>,
}

/// A message in one line: its lines follow each other with "; ", after a colon with a space.
/// Other control characters are escaped, and what is too long is cut.
pub fn one_line(text: &str) -> String {
    shortened(text, MESSAGE_CHARS_MAX)
}

/// How the last attempt failed, how many there were and where, and what others said if that was
/// something else.
pub(crate) fn describe(attempts: &[FailedAttempt]) -> String {
    let groups = group(attempts);
    let Some((last, others)) = groups.split_first() else {
        return "no attempt is known".to_owned();
    };
    let mut line = one_line(last.text);
    let plural = if attempts.len() == 1 { "" } else { "s" };
    // Writing to a string cannot fail.
    let _ = write!(line, " ({} attempt{plural}", attempts.len());
    if others.is_empty() {
        let same = if attempts.len() == 1 { "" } else { ", said the same" };
        let _ = write!(line, ", on {}{same})", list(&last.workers));
        return line;
    }
    let _ = write!(line, "; this was said on {}", list(&last.workers));
    for other in others.iter().take(LISTED_MAX) {
        let text = shortened(other.text, OTHER_MESSAGE_CHARS_MAX);
        let _ = write!(line, "; {} on {} said: {text}", other.attempts, list(&other.workers));
    }
    if let Some(more @ 1..) = others.len().checked_sub(LISTED_MAX) {
        let _ = write!(line, "; {more} more said something else");
    }
    line.push(')');
    line
}

/// Attempts by what they said, what was said last first.
fn group(attempts: &[FailedAttempt]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for failed in attempts.iter().rev() {
        let (text, worker) = (failed.text.as_str(), &failed.worker);
        match groups.iter_mut().find(|group| group.text == text) {
            Some(group) => {
                group.attempts += 1;
                if !group.workers.contains(&worker) {
                    group.workers.push(worker);
                }
            }
            None => groups.push(Group { text, attempts: 1, workers: vec![worker] }),
        }
    }
    for group in &mut groups {
        group.workers.reverse();
    }
    groups
}

fn list(workers: &[&WorkerId]) -> String {
    let mut names: Vec<String> = workers.iter().take(LISTED_MAX).map(|w| w.to_string()).collect();
    if workers.len() > LISTED_MAX {
        names.push(format!("{} more workers", workers.len() - LISTED_MAX));
    }
    match names.split_last() {
        Some((last, rest @ [_, ..])) => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

fn shortened(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push_str(if line.ends_with(':') { " " } else { "; " });
        }
        for character in part.chars() {
            match character.is_control() {
                true => line.extend(character.escape_default()),
                false => line.push(character),
            }
        }
    }
    if let Some((cut, _)) = line.char_indices().nth(chars_max) {
        let left_out = line[cut..].chars().count();
        line.truncate(cut);
        let _ = write!(line, "… ({left_out} more characters)");
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use offshoot_proto::id::AttemptId;

    fn attempts(said: &[(&str, &str)]) -> Vec<FailedAttempt> {
        let attempt = |(number, (worker, text)): (u64, &(&str, &str))| FailedAttempt {
            attempt: AttemptId(number),
            executor: "app-1/0".parse().unwrap(),
            worker: WorkerId((*worker).to_owned()),
            text: (*text).to_owned(),
        };
        (0..).zip(said).map(attempt).collect()
    }

    #[test]
    fn a_message_of_many_lines_becomes_one_and_nothing_reaches_a_terminal() {
        let panic = "panicked at a.rs:1:2:\nassertion failed\n  left: 1\n\n right: \x1b[2J2\r\n";
        let line = "panicked at a.rs:1:2: assertion failed; left: 1; right: \\u{1b}[2J2";
        assert_eq!(one_line(panic), line);
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let line = one_line(&"ä".repeat(MESSAGE_CHARS_MAX + 7));
        assert_eq!(line, format!("{}… (7 more characters)", "ä".repeat(MESSAGE_CHARS_MAX)));
    }

    #[test]
    fn attempts_that_said_the_same_are_told_once() {
        let said = attempts(&[("a", "boom\nbang"), ("b", "boom\nbang"), ("a", "boom\nbang")]);
        assert_eq!(describe(&said), "boom; bang (3 attempts, on b and a, said the same)");
        assert_eq!(describe(&said[..1]), "boom; bang (1 attempt, on a)");
    }

    #[test]
    fn others_are_told_shortened_and_few_of_them() {
        let said = attempts(&[("a", "disk full"), ("b", "disk full"), ("c", "boom")]);
        let line = "boom (3 attempts; this was said on c; 2 on a and b said: disk full)";
        assert_eq!(describe(&said), line);
        let texts: Vec<String> = (0..7).map(|n| format!("{n}{}", "x".repeat(300))).collect();
        let said: Vec<_> = texts.iter().map(|text| ("w", text.as_str())).collect();
        let line = describe(&attempts(&said));
        assert!(line.ends_with("; 2 more said something else)"), "{line}");
        assert_eq!(line.matches("(141 more characters)").count(), LISTED_MAX, "{line}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn many_workers_are_counted() {
        let said = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "x"), ("e", "x"), ("f", "x")];
        let line = "x (6 attempts, on a, b, c, d and 2 more workers, said the same)";
        assert_eq!(describe(&attempts(&said)), line);
    }
}
