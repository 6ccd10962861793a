//! `offshoot.toml`: where it is, and what it says, with the line of each key.
//!
//! A file that is found rather than named has to be the user's own: whoever writes it decides which
//! cluster gets the user's jobs. Paths in it are relative to its directory.

use super::error::{self, Error, advice};
use super::{Key, Origin, Place, Setting, Table, flags, keys};
use offshoot_proto::settings::{self as application, Kind};
use rustix::process::geteuid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Its name.
const NAME: &str = "offshoot.toml";

/// As long as a thousand keys with a comment each, many times over.
const BYTES_MAX: u64 = 1 << 20;

/// Flags that are no keys, and why.
pub(super) const NOT_IN_FILES: [(&str, &str); 16] = [
    ("token", "a token lets a machine in; set OFFSHOOT_TOKEN"),
    ("allow-read", "what a job may read is said for each job, with --allow-read"),
    ("allow-write", "what a job may write is said for each job, with --allow-write"),
    ("json", "it is said with --json"),
    ("config", "it is said with --config or OFFSHOOT_CONFIG"),
    ("within", OF_A_DRAIN),
    ("no-wait", OF_A_DRAIN),
    ("out", OF_A_TENANT),
    ("weight", OF_A_TENANT),
    ("policy", OF_A_TENANT),
    ("max-cores", OF_A_TENANT),
    ("max-memory", OF_A_TENANT),
    ("max-running", OF_A_TENANT),
    ("max-submitted", OF_A_TENANT),
    ("guaranteed-cores", OF_A_TENANT),
    ("guaranteed-memory", OF_A_TENANT),
];

const OF_A_DRAIN: &str = "it is about one worker's leaving; say it to offshoot drain";

const OF_A_TENANT: &str = "the master keeps what holds for a tenant; say it to offshoot tenant";

/// A file that is being read.
struct Reader<'a> {
    /// As it is named.
    path: Rc<str>,
    /// Where it is.
    directory: &'a Path,
    text: &'a str,
    settings: Vec<Setting>,
    /// What `[submit.conf]` says so far.
    application: application::Settings,
}

/// What stands at one place of the file.
enum Item<'a> {
    /// Instead of a table.
    Top(&'a DeValue<'a>),
    /// In a table.
    In(Table, &'a Spanned<DeValue<'a>>),
}

/// Reads the file that is named or found, if there is one.
pub(super) fn find(
    named: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Setting>, Error> {
    let config = named.map(Path::to_owned).or_else(|| variable("OFFSHOOT_CONFIG").map(Into::into));
    if let Some(path) = config {
        let file = File::open(&path);
        return load(&path, file.map_err(|error| Error::Read { path: path.clone(), error })?);
    }
    let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
    let user = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let user = user.map(|directory| directory.join("offshoot").join(NAME));
    let here = PathBuf::from(NAME);
    for path in [Some(here.clone()), user].into_iter().flatten() {
        match File::open(&path) {
            Ok(file) => {
                is_trusted(&path, &file)?;
                let settings = load(&path, file)?;
                return if path == here { without_client(settings) } else { Ok(settings) };
            }
            Err(error) if is_not_there(&error) => {}
            Err(error) => return Err(Error::Read { path, error }),
        }
    }
    Ok(Vec::new())
}

/// A directory that somebody was given does not choose who gets his jobs and credentials.
fn without_client(settings: Vec<Setting>) -> Result<Vec<Setting>, Error> {
    match settings.iter().find(|setting| setting.place.table == Table::Client) {
        Some(setting) => Err(Error::ClientHere { place: setting.place.to_string() }),
        None => Ok(settings),
    }
}

fn is_not_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Looks at the file that is open, not at what has its name by now.
fn is_trusted(path: &Path, file: &File) -> Result<(), Error> {
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| Error::Read { path: path.to_owned(), error })?;
    let why = match () {
        () if metadata.mode() & 0o002 != 0 => "everybody may write this file",
        () if ![0, geteuid().as_raw()].contains(&metadata.uid()) => "this file is another user's",
        () => return Ok(()),
    };
    Err(Error::Untrusted { path: path.to_owned(), why })
}

fn load(path: &Path, file: File) -> Result<Vec<Setting>, Error> {
    let mut text = String::new();
    let read = file.take(BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Error::Read { path: path.to_owned(), error })?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Error::TooLong { path: path.to_owned(), limit: BYTES_MAX });
    }
    read_text(path, &text)
}

/// What a file of this path and text says; if it is wrong, its first error.
pub(super) fn read_text(path: &Path, text: &str) -> Result<Vec<Setting>, Error> {
    let mut reader = Reader {
        path: path.display().to_string().into(),
        directory: path.parent().unwrap_or(Path::new("")),
        text,
        settings: Vec::new(),
        application: Default::default(),
    };
    let document = DeTable::parse(text).map_err(|error| {
        let origin = reader.origin(error.span().map_or(text.len(), |span| span.start));
        Error::Syntax { origin, what: error.message().to_owned() }
    })?;
    // By offset: tables are sorted by name, and the first error is the one further up.
    let mut items = BTreeMap::new();
    for (name, value) in document.get_ref().iter() {
        collect_top(name, value, &mut items);
    }
    for (offset, (name, item)) in items {
        match item {
            Item::Top(value) => return Err(reader.wrong_top(offset, &name, value)),
            Item::In(table, value) => reader.set(offset, table, &name, value)?,
        }
    }
    Ok(reader.settings)
}

type Items<'a> = BTreeMap<usize, (String, Item<'a>)>;

fn collect_top<'a>(
    name: &Spanned<std::borrow::Cow<'a, str>>,
    value: &'a Spanned<DeValue<'a>>,
    items: &mut Items<'a>,
) {
    let offset = name.span().start;
    let table = Table::ALL.into_iter().find(|table| table.name() == name.get_ref().as_ref());
    let (Some(table), DeValue::Table(content)) = (table, value.get_ref()) else {
        items.insert(offset, (name.get_ref().to_string(), Item::Top(value.get_ref())));
        return;
    };
    for (key, value) in content.iter() {
        match (table, key.get_ref().as_ref(), value.get_ref()) {
            (Table::Submit, "conf", DeValue::Table(conf)) => collect_conf("", conf, items),
            (_, name, _) => {
                items.insert(key.span().start, (name.to_owned(), Item::In(table, value)));
            }
        }
    }
}

/// Dots of keys are tables to TOML: `scheduler.mode` is `mode` in the table `scheduler`.
fn collect_conf<'a>(prefix: &str, table: &'a DeTable<'a>, items: &mut Items<'a>) {
    for (key, value) in table.iter() {
        let name = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(table) if !table.is_empty() => {
                collect_conf(&format!("{name}."), table, items);
            }
            _ => {
                items.insert(key.span().start, (name, Item::In(Table::Conf, value)));
            }
        }
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Origin::File { path: self.path.clone(), line }
    }

    /// What stands at the top and is none of the tables.
    fn wrong_top(&self, offset: usize, name: &str, value: &DeValue<'_>) -> Error {
        let (origin, name) = (self.origin(offset), name.to_owned());
        let tables = Table::ALL.map(Table::name);
        if tables.contains(&name.as_str()) {
            return Error::NoTable { origin, name };
        }
        let owner = keys::all().find(|key| key.name == name);
        match (value, owner) {
            (DeValue::Table(_), _) => {
                let advice = match flags::is_client(&name) {
                    true => format!(
                        "offshoot {name} has its cluster from [client], and the rest from its flags"
                    ),
                    false => advice(&name, &tables),
                };
                Error::UnknownTable { origin, name, advice }
            }
            (_, Some(Key { table, .. })) => {
                Error::Elsewhere { place: format!("{origin}: {name}"), table }
            }
            (_, None) => {
                let advice = advice(&name, &keys::all().map(|key| key.name).collect::<Vec<_>>());
                Error::Unknown { place: format!("{origin}: {name}"), what: "key", advice }
            }
        }
    }

    fn set(
        &mut self,
        offset: usize,
        table: Table,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), Error> {
        let origin = self.origin(offset);
        let written = Place { table, name: name.to_owned(), origin: origin.clone() };
        if let Some((_, why)) = NOT_IN_FILES.iter().find(|(flag, _)| *flag == name) {
            return Err(Error::NotInFiles { place: written.to_string(), why });
        }
        let Some((key, name)) = table.find(name) else {
            return unknown(&written, value.get_ref());
        };
        let place = Place { table, name, origin };
        let same =
            |setting: &&Setting| (setting.place.table, &setting.place.name) == (table, &place.name);
        if let Some(other) = self.settings.iter().find(same) {
            let other = other.place.origin.clone();
            return Err(Error::Twice { place: written.to_string(), other });
        }
        let shown = self.text.get(value.span()).unwrap_or_default();
        let wrong = || Error::Value {
            what: error::with_value(&written, shown),
            expected: key.kind.to_string(),
        };
        let text = text_of(key.kind, value.get_ref()).ok_or_else(wrong)?;
        let text = match (table, key.kind) {
            (Table::Conf, _) => {
                let set = self.application.set(&format!("{}={text}", place.name));
                set.map_err(|error| error::misfit(&written, shown, error))?;
                text
            }
            (_, kind) if !kind.fits(&text) => return Err(wrong()),
            (_, Kind::Path) => self.directory.join(text).to_str().ok_or_else(wrong)?.to_owned(),
            _ => text,
        };
        self.settings.push(Setting { key, text, place });
        Ok(())
    }
}

/// A value as a flag would have it, if TOML's type is one that the key may have.
fn text_of(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) if kind.is_text() => Some(text.to_string()),
        DeValue::Boolean(truth) if kind == Kind::Truth => Some(truth.to_string()),
        DeValue::Integer(number) if kind.is_number() => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(number.to_string())
        }
        DeValue::Float(number) if kind == Kind::Share => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn unknown(place: &Place, value: &DeValue<'_>) -> Result<(), Error> {
    let (table, name) = (place.table, place.name.as_str());
    // A table of which every line is a comment says nothing.
    let names = table.names();
    let within = format!("{name}.");
    let is_part = names.iter().any(|known| known.starts_with(&within))
        || within.starts_with("scheduler.pool.");
    if table == Table::Conf && matches!(value, DeValue::Table(_)) && is_part {
        return Ok(());
    }
    let place = place.to_string();
    if let Some(table) = Table::ALL.into_iter().find(|table| table.find(name).is_some()) {
        return Err(Error::Elsewhere { place, table });
    }
    Err(Error::Unknown { place, what: "key", advice: advice(name, &names) })
}
