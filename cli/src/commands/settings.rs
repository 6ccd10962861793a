//! `offshoot settings`: every setting, what it is and who says so.

use crate::failure::Failure;
use crate::settings::{Key, Origin, Setting, Settings, keys};
use crate::table::{self, Align};
use clap::Args;
use offshoot_proto::settings::Kind;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Flags of `offshoot settings`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print an array of objects.
    #[arg(long)]
    json: bool,
    /// A command with its flags, which is not run: the settings that it would have.
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// A key, and who has set it.
type Row<'a> = (Key, Option<&'a Setting>);

const COLUMNS: [(&str, Align); 3] =
    [("KEY", Align::Left), ("VALUE", Align::Left), ("FROM", Align::Left)];

pub(crate) fn run(arguments: &Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    table::print(&rows(settings), arguments.json, COLUMNS, cells, as_json);
    Ok(ExitCode::SUCCESS)
}

/// In the order of the documentation; of pools those that somebody has described.
fn rows(settings: &Settings) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for key in keys::all() {
        let mut set = settings.iter().filter(|setting| setting.key == key).peekable();
        if set.peek().is_none() && key.variable().is_some() {
            rows.push((key, None));
        }
        rows.extend(set.map(|setting| (key, Some(setting))));
    }
    rows
}

fn name((key, set): &Row<'_>) -> String {
    format!("{}.{}", key.table.name(), set.map_or(key.name, |setting| &setting.place.name))
}

/// The value, if there is one and everybody may see it.
fn value<'a>((key, set): &Row<'a>) -> Option<&'a str> {
    match set {
        Some(_) if key.kind == Kind::Secret => None,
        Some(setting) => Some(&setting.text),
        None => key.default_value(),
    }
}

fn cells(row: &Row<'_>) -> [String; 3] {
    let words = if row.1.is_some() { "(set)" } else { row.0.default };
    let from = row.1.map(|setting| setting.place.origin.to_string());
    [name(row), shown(value(row).unwrap_or(words)), from.unwrap_or_else(|| "default".to_owned())]
}

/// A line stays a line.
fn shown(text: &str) -> String {
    match text.chars().any(char::is_control) {
        true => text.escape_debug().to_string(),
        false => text.to_owned(),
    }
}

fn as_json(row: &Row<'_>) -> Value {
    let mut object = json!({ "key": name(row), "value": value(row), "from": "default" });
    let from = match row.1.map(|setting| &setting.place.origin) {
        None => return object,
        Some(Origin::File { path, line }) => {
            object["file"] = json!(path.as_ref());
            object["line"] = json!(line);
            "file"
        }
        Some(Origin::Environment(variable)) => {
            object["variable"] = json!(variable);
            "environment"
        }
        Some(Origin::Flag) => "flag",
    };
    object["from"] = json!(from);
    object
}
