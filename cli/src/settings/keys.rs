//! Every key of the file once. Its flag is the same with `--` before it; its variable follows from
//! table and name.

use offshoot_proto::settings::{CORES_MAX, KEYS, Kind};
use std::time::Duration;

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// `offshoot master`.
    Master,
    /// `offshoot worker`.
    Worker,
    /// Whoever speaks with a master: `submit`, `workers`, `apps`, `explain`,
    /// `drain`, `tenant`.
    Client,
    /// `offshoot submit`.
    Submit,
    /// `--conf` of `offshoot submit`.
    Conf,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) table: Table,
    /// As in the file; `NAME` stands for a pool's.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// A value, or words in parentheses.
    pub(crate) default: &'static str,
}

/// What no machine has more of.
const MEMORY: Kind = Kind::Size(1 << 20, 1 << 50);

/// Cores of an executor or a worker.
const CORES: Kind = Kind::Count(1, CORES_MAX);

/// Cores of an application.
const TOTAL_CORES: Kind = Kind::Count(1, offshoot_master::cluster::limits::TOTAL_CORES_MAX);

const EXECUTORS: Kind = Kind::Count(1, offshoot_proto::settings::EXECUTORS_MAX);

const TIMEOUT: Kind = Kind::Time(Duration::ZERO, Duration::from_secs(365 * 86_400));

const POLICIES: Kind = Kind::Word(&[
    "cores-free-desc",
    "cores-free-asc",
    "memory-free-desc",
    "memory-free-asc",
    "worker-id",
]);

const REQUIRED: &str = "(required)";

/// All but those of `--conf`.
const OWN: [Key; 26] = [
    key(Table::Client, "master", Kind::Address, "(none)"),
    key(Table::Client, "credential", Kind::Path, "(none)"),
    key(Table::Submit, "name", Kind::Text, "(the module's file name without .wasm)"),
    key(Table::Submit, "executor-cores", CORES, "(all free cores of each worker)"),
    key(Table::Submit, "executor-memory", MEMORY, "1GiB"),
    // Linear memory of 32 bits.
    key(Table::Submit, "driver-memory", Kind::Size(1 << 16, 4 << 30), "4GiB"),
    key(Table::Submit, "total-executor-cores", TOTAL_CORES, "(the master's default-cores)"),
    key(Table::Submit, "num-executors", EXECUTORS, "(those of dynamic allocation)"),
    key(Table::Submit, "wait", Kind::Truth, "false"),
    key(Table::Master, "listen", Kind::Address, REQUIRED),
    key(Table::Master, "dir", Kind::Path, REQUIRED),
    key(Table::Master, "default-cores", TOTAL_CORES, "(all that are free)"),
    key(Table::Master, "spread", Kind::Truth, "(what consolidate is not)"),
    key(Table::Master, "consolidate", Kind::Truth, "false"),
    key(Table::Master, "worker-selection-policy", POLICIES, "cores-free-desc"),
    key(Table::Master, "share-release-timeout", TIMEOUT, "1s"),
    key(Table::Master, "preemption", Kind::Truth, "false"),
    key(Table::Master, "preemption-timeout", TIMEOUT, "10s"),
    key(Table::Worker, "master", Kind::Address, REQUIRED),
    key(Table::Worker, "token", Kind::Secret, "(none)"),
    key(Table::Worker, "cores", CORES, "(all of the machine)"),
    key(Table::Worker, "memory", MEMORY, "(the machine's but for 1 GiB, at least half of it)"),
    key(Table::Worker, "dir", Kind::Path, "offshoot-worker"),
    key(Table::Worker, "listen", Kind::Address, "(any port)"),
    key(Table::Worker, "advertise", Kind::Ip, "(the address that it listens on)"),
    key(Table::Worker, "executor-ports", Kind::Ports, "(any)"),
];

const fn key(table: Table, name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { table, name, kind, default }
}

/// All of them, in the order of `docs/settings.md`.
pub(crate) fn all() -> impl Iterator<Item = Key> {
    Table::ALL.into_iter().flat_map(Table::keys)
}

// === impl Table ===

impl Table {
    pub(super) const ALL: [Self; 5] =
        [Self::Client, Self::Submit, Self::Conf, Self::Master, Self::Worker];

    /// As in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Worker => "worker",
            Self::Client => "client",
            Self::Submit => "submit",
            Self::Conf => "submit.conf",
        }
    }

    /// Its keys, in the order of `docs/settings.md`.
    pub(super) fn keys(self) -> impl Iterator<Item = Key> {
        let conf = KEYS.iter().map(|conf| key(Table::Conf, conf.name, conf.kind, conf.default));
        OWN.into_iter().chain(conf).filter(move |key| key.table == self)
    }

    /// The key that somebody wrote as `name`, and what it is called: there are other spellings
    /// of some.
    pub(super) fn find(self, name: &str) -> Option<(Key, String)> {
        if self == Self::Conf {
            let conf = offshoot_proto::settings::find(name)?;
            let found = key(self, conf.name, conf.kind, conf.default);
            return Some((found, conf.canonical(name)));
        }
        self.keys().find(|key| key.name == name).map(|key| (key, name.to_owned()))
    }

    /// Every name that is understood, other spellings included.
    pub(super) fn names(self) -> Vec<&'static str> {
        match self {
            Self::Conf => offshoot_proto::settings::names(),
            _ => self.keys().map(|key| key.name).collect(),
        }
    }
}

// === impl Key ===

impl Key {
    /// The default, if it is a value.
    pub(crate) fn default_value(self) -> Option<&'static str> {
        Some(self.default).filter(|default| !default.starts_with('('))
    }

    /// Its variable. What is about one pool of many has none: the name of a pool would not be
    /// found again in it.
    pub(crate) fn variable(self) -> Option<String> {
        match self.name {
            "master" => Some("OFFSHOOT_MASTER".to_owned()),
            "credential" => Some("OFFSHOOT_CREDENTIAL".to_owned()),
            "token" => Some("OFFSHOOT_TOKEN".to_owned()),
            _ => (!self.name.contains("NAME")).then(|| self.regular_variable()),
        }
    }

    /// What its variable would be without exceptions.
    pub(super) fn regular_variable(self) -> String {
        let name = format!("offshoot_{}_{}", self.table.name(), self.name);
        name.replace(['-', '.'], "_").to_ascii_uppercase()
    }
}
