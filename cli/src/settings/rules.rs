//! What only shows when all settings are known: those without effect, and those that exclude each
//! other.
//!
//! What somebody has set is never ignored, with one exception: what a setting of a higher level
//! turns off. So a flag can turn off what the file turns on without a look at the rest of it.

use super::{Error, Place, Setting, Table, error};
use offshoot_proto::settings::{SettingError, Settings};
use std::collections::BTreeMap;

type Set = BTreeMap<(Table, String), Setting>;

/// The keys that begin so mean something only while another one has a value.
struct Needs {
    table: Table,
    prefix: &'static str,
    key: &'static str,
    value: &'static str,
    default: &'static str,
}

const NEEDS: [Needs; 3] = [
    Needs {
        table: Table::Master,
        prefix: "preemption-timeout",
        key: "preemption",
        value: "true",
        default: "false",
    },
    Needs {
        table: Table::Conf,
        prefix: "dynamic-allocation.",
        key: "dynamic-allocation.enabled",
        value: "true",
        default: "true",
    },
    Needs {
        table: Table::Conf,
        prefix: "scheduler.pool.",
        key: "scheduler.mode",
        value: "fair",
        default: "fifo",
    },
];

/// Takes out what has no effect because a higher level says so; what else has none is an error.
/// Gives the settings of an application.
pub(super) fn check(set: &mut Set) -> Result<Settings, Error> {
    choose(set)?;
    for needs in &NEEDS {
        needs.check(set)?;
    }
    application(set)
}

/// `spread` and `consolidate` are two words for one choice.
fn choose(set: &mut Set) -> Result<(), Error> {
    let key = |name: &str| (Table::Master, name.to_owned());
    let spread = set.get(&key("spread"));
    if let Some(setting) = spread.filter(|setting| setting.text == "false") {
        return Err(Error::NoChoice { place: setting.place.to_string() });
    }
    let consolidate = set.get(&key("consolidate")).filter(|setting| setting.text == "true");
    let Some((spread, consolidate)) = spread.zip(consolidate) else { return Ok(()) };
    match spread.level().cmp(&consolidate.level()) {
        std::cmp::Ordering::Less => set.remove(&key("spread")),
        std::cmp::Ordering::Greater => set.remove(&key("consolidate")),
        std::cmp::Ordering::Equal => {
            let (place, other) = (consolidate.place.to_string(), spread.place.to_string());
            return Err(Error::Both { place, other });
        }
    };
    Ok(())
}

fn application(set: &Set) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for ((table, name), setting) in set {
        if *table == Table::Conf {
            let applied = settings.set(&format!("{name}={}", setting.text));
            applied.map_err(|error| error::misfit(&setting.place, &setting.text, error))?;
        }
    }
    let number = |name: &str| set.get(&(Table::Submit, name.to_owned()))?.text.parse().ok();
    let checked = settings.check(number("executor-cores"), number("num-executors"));
    checked.map_err(|error| contradiction(set, error))?;
    Ok(settings)
}

fn contradiction(set: &Set, error: SettingError) -> Error {
    let name = match &error {
        SettingError::Contradiction { name, .. } => *name,
        _ => "",
    };
    let find = |table| set.get(&(table, name.to_owned()));
    match find(Table::Conf).or_else(|| find(Table::Submit)) {
        Some(setting) => Error::Contradiction { place: setting.place.to_string(), error },
        None => Error::Pair(error),
    }
}

// === impl Needs ===

impl Needs {
    fn check(&self, set: &mut Set) -> Result<(), Error> {
        let needed = set.get(&(self.table, self.key.to_owned()));
        let is = needed.map_or(self.default, |setting| setting.text.as_str());
        if is.eq_ignore_ascii_case(self.value) {
            return Ok(());
        }
        let level = needed.map_or(0, Setting::level);
        let without = |setting: &Setting| {
            let Place { table, name, .. } = &setting.place;
            *table == self.table && name.starts_with(self.prefix) && *name != self.key
        };
        if let Some(setting) = set.values().find(|s| without(s) && s.level() >= level) {
            let because = needed.map(|needed| needed.place.origin.to_string());
            return Err(Error::NoEffect {
                place: setting.place.to_string(),
                needs: self.key,
                is: is.to_owned(),
                because: because.unwrap_or_else(|| "the default".to_owned()),
            });
        }
        set.retain(|_, setting| !without(setting));
        Ok(())
    }
}

// === impl Setting ===

impl Setting {
    fn level(&self) -> u8 {
        self.place.origin.level()
    }
}
