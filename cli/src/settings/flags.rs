//! Flags of keys: their defaults come from the other settings, and what is written goes before
//! them.

use super::error::{self, Error};
use super::{Key, Origin, Place, Setting, Settings, Table};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{OsStr, ValueParser},
};
use offshoot_proto::settings::{self as application, Kind};
use std::path::PathBuf;

/// What somebody wrote after the subcommand.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The file that is named.
    pub(crate) config: Option<PathBuf>,
    /// Flags that are settings.
    pub(crate) settings: Vec<Setting>,
}

/// The tables whose keys are flags of a subcommand; none if it reads no settings.
pub(super) fn tables(command: &str) -> Option<&'static [Table]> {
    match command {
        "master" | "token" => Some(&[Table::Master]),
        "worker" => Some(&[Table::Worker]),
        "submit" => Some(&[Table::Submit, Table::Client]),
        "workers" | "apps" | "explain" | "drain" | "tenant" => Some(&[Table::Client]),
        "settings" => Some(&[]),
        _ => None,
    }
}

/// Whether a subcommand has no settings but how to reach the cluster.
pub(super) fn is_client(command: &str) -> bool {
    tables(command) == Some(&[Table::Client])
}

/// The key of a flag.
fn key(tables: &[Table], arg: &Arg) -> Option<Key> {
    let name = arg.get_long()?;
    tables.iter().find_map(|table| Some(table.find(name)?.0))
}

/// Adds `--config`, and to each flag of a key its default. Before settings are known nothing is
/// required of them.
pub(crate) fn equip(command: Command, settings: Option<&Settings>) -> Command {
    command.mut_subcommands(|command| match tables(command.get_name()) {
        Some(tables) => equip_one(command, tables, settings),
        None => command,
    })
}

fn equip_one(command: Command, tables: &'static [Table], settings: Option<&Settings>) -> Command {
    let command = command.mut_args(|arg| match key(tables, &arg) {
        Some(key) => with_default(arg, key, settings),
        None => arg,
    });
    if command.has_subcommands() {
        return command.mut_subcommands(|command| equip_one(command, tables, settings));
    }
    let config = Arg::new("config").long("config").value_name("FILE");
    let help = "The file with settings (./offshoot.toml, else that of the user) [env: \
         OFFSHOOT_CONFIG]";
    command.arg(config.value_parser(ValueParser::path_buf()).help(help))
}

fn with_default(arg: Arg, key: Key, settings: Option<&Settings>) -> Arg {
    let arg = match key.kind {
        // So that a flag may turn off what the file turns on.
        Kind::Truth => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false"),
        _ => arg,
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let arg = match key.variable() {
        Some(variable) => arg.help(format!("{help} [env: {variable}]")),
        None => arg,
    };
    let value = match settings {
        Some(settings) => settings.text(key),
        None => key.default_value().map(str::to_owned),
    };
    // A field that is not optional has a value in any case.
    let value = value.or((key.kind == Kind::Truth).then(|| "false".to_owned()));
    match value {
        Some(value) => arg.required(false).default_value(OsStr::from(value)),
        None if settings.is_none() => arg.required(false),
        None => arg,
    }
}

/// What was written, and the file that was named; none if the subcommand reads no settings.
/// `command` is the one that made the matches.
pub(crate) fn read(
    mut command: &Command,
    mut matches: &ArgMatches,
) -> Result<Option<Written>, Error> {
    let Some(tables) = matches.subcommand_name().and_then(tables) else { return Ok(None) };
    while let Some((name, within)) = matches.subcommand() {
        command = command.find_subcommand(name).expect("clap found it");
        matches = within;
    }
    let mut settings = Vec::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let is_written = matches.value_source(id) == Some(ValueSource::CommandLine);
        if let Some(key) = key(tables, arg).filter(|_| is_written) {
            let raw = matches.get_raw(id).and_then(Iterator::last).unwrap_or_default();
            settings.push(setting(key, raw.to_string_lossy().into_owned())?);
        }
        if id == "conf" && is_written {
            for pair in matches.get_many::<String>(id).into_iter().flatten() {
                settings.push(conf(pair)?);
            }
        }
    }
    Ok(Some(Written { config: matches.get_one("config").cloned(), settings }))
}

fn setting(key: Key, text: String) -> Result<Setting, Error> {
    let place = Place { table: key.table, name: key.name.to_owned(), origin: Origin::Flag };
    if !key.kind.fits(&text) {
        let what = error::with_value(&place, &text);
        return Err(Error::Value { what, expected: key.kind.to_string() });
    }
    Ok(Setting { key, text, place })
}

fn conf(pair: &str) -> Result<Setting, Error> {
    application::Settings::default().set(pair).map_err(Error::Pair)?;
    let (name, text) = pair.split_once('=').expect("it has been read as a pair");
    let (key, name) = Table::Conf.find(name).expect("it has been found");
    let place = Place { table: Table::Conf, name, origin: Origin::Flag };
    Ok(Setting { key, text: text.to_owned(), place })
}

/// Where the value comes from that clap does not like, if it is not the command line.
pub(crate) fn blame(error: &clap::Error, command: &str, settings: &Settings) -> Option<String> {
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = arg.strip_prefix("--")?.split([' ', '=']).next()?;
    let setting = tables(command)?.iter().find_map(|table| settings.setting(*table, name))?;
    (setting.place.origin != Origin::Flag).then(|| setting.place.to_string())
}
