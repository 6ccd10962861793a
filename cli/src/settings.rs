//! Settings from file, environment and flags, with one precedence: a flag before a variable before
//! the file before the default.
//!
//! ```text
//! offshoot.toml ─► file ────────┐
//! OFFSHOOT_*    ─► environment ─┼─► Settings ─► rules ─► defaults of the second parse by clap
//! first parse   ─► flags ───────┘
//! ```
//!
//! Every key stands once, in `keys` or in `offshoot_proto::settings::KEYS`: its flag, its variable,
//! what it may be, its documentation and its line of `offshoot settings` follow from that.

mod environment;
mod error;
mod file;
pub(crate) mod flags;
pub(crate) mod keys;
mod rules;

use offshoot_proto::settings as application;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

pub(crate) use error::Error;
pub(crate) use keys::{Key, Table};

/// What holds for a command: what anybody has set, and where. The rest are defaults.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    set: BTreeMap<(Table, String), Setting>,
    application: application::Settings,
}

/// One that somebody has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) key: Key,
    /// The value, as a flag would have it.
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// Where something was set, or was meant to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) table: Table,
    /// The key; of settings of pools, with the pool's name in it.
    pub(crate) name: String,
    pub(crate) origin: Origin,
}

/// Who said it. Those further down are listened to first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file, as it was named, and the line.
    File { path: Rc<str>, line: usize },
    /// The name of the variable.
    Environment(String),
    /// A flag.
    Flag,
}

// === impl Settings ===

impl Settings {
    /// Of the file that `config` names or that is found, the environment, and these flags.
    pub(crate) fn find(config: Option<&Path>, flags: Vec<Setting>) -> Result<Self, Error> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = file::find(config, variable)?;
        let environment = environment::read(std::env::vars_os())?;
        Self::resolve([file, environment, flags])
    }

    /// The last one that sets a key has its way, as far as that makes sense.
    fn resolve(levels: [Vec<Setting>; 3]) -> Result<Self, Error> {
        let mut set = BTreeMap::new();
        for setting in levels.into_iter().flatten() {
            set.insert((setting.place.table, setting.place.name.clone()), setting);
        }
        let mut settings = Self { set, application: Default::default() };
        settings.application = rules::check(&mut settings.set)?;
        Ok(settings)
    }

    /// The setting of this name, if anybody has set it.
    pub(crate) fn setting(&self, table: Table, name: &str) -> Option<&Setting> {
        // A key of the map is a pair of owned ones.
        self.set.get(&(table, name.to_owned()))
    }

    /// All that anybody has set, by table and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.set.values()
    }

    /// What a flag is to have if it is not there.
    pub(crate) fn text(&self, key: Key) -> Option<String> {
        let set = self.setting(key.table, key.name).map(|setting| setting.text.as_str());
        set.or(key.default_value()).map(str::to_owned)
    }

    /// The settings of an application.
    pub(crate) fn application(&self) -> &application::Settings {
        &self.application
    }
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, name, origin } = self;
        match (origin, table) {
            (Origin::File { .. }, _) => write!(f, "{origin}: [{}] {name}", table.name()),
            (Origin::Environment(variable), _) => f.write_str(variable),
            (Origin::Flag, Table::Conf) => write!(f, "--conf {name}"),
            (Origin::Flag, _) => write!(f, "--{name}"),
        }
    }
}

// === impl Origin ===

impl Origin {
    /// Who is listened to first has the greatest.
    fn level(&self) -> u8 {
        match self {
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Flag => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag => f.write_str("flag"),
        }
    }
}

#[cfg(test)]
mod tests;
