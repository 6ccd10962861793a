//! Why an application has no executor yet, and the sentence that tells a person.

use crate::id::AppId;
use crate::settings::format_size;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Why an application has no executor yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitReason {
    /// No worker is registered.
    NoWorkers,
    /// No registered worker is large enough, but the master was restarted a moment ago: larger
    /// ones may still come back.
    Recovering,
    /// No worker is large enough, busy or not.
    TooLarge(TooLarge),
    /// Others use what it asks for.
    Busy(Busy),
    /// The workers that could hold an executor have no connection at the moment, or still stop
    /// executors of this application.
    OutOfReach,
    /// The tenant has all that its quota allows.
    Quota(Quota),
    /// What is free is kept for others, who are owed it.
    Share(Share),
    /// The driver is away, or the module has not come yet.
    Unready,
}

/// A quota of a tenant that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quota {
    /// Cores.
    Cores {
        /// Cores that it has.
        used: u32,
        /// Cores that it may have.
        max: u32,
    },
    /// Memory.
    Memory {
        /// Memory that it has.
        used_bytes: u64,
        /// Memory that it may have.
        max_bytes: u64,
    },
    /// Applications with executors.
    Running {
        /// Applications that it may have running at once; it has as many.
        max: u32,
    },
}

/// What is free goes to others first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Cores that the application has.
    pub held_cores: u32,
    /// Other tenants that want more.
    pub owed: u32,
}

/// What one executor asks for, or what a worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Cores.
    pub cores: u32,
    /// Memory.
    pub memory_bytes: u64,
}

/// What no worker has enough of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shortage {
    /// Cores.
    Cores,
    /// Memory.
    Memory,
    /// Neither cores nor memory are enough on any.
    Both,
    /// One has the cores and another the memory; none has both.
    Together,
}

/// A request that none of today's workers can ever serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TooLarge {
    /// What there is too little of.
    pub short: Shortage,
    /// What one executor asks for.
    pub asked: Size,
    /// The most cores of any worker, and the most memory of any.
    pub largest: Size,
}

/// A request that waits for others to give back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// What there is too little of.
    pub short: Shortage,
    /// What one executor asks for.
    pub asked: Size,
    /// The most cores that are free on one worker, and the most memory.
    pub free: Size,
    /// Who holds most of it on the workers that are large enough.
    pub holders: Vec<Holder>,
    /// How many applications more hold some of it.
    pub others: u32,
}

/// An application that holds cores and memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Which.
    pub app: AppId,
    /// Whose; unknown for one of an earlier life of the master.
    pub tenant: Option<String>,
    /// What it holds.
    pub held: Size,
}

// === impl WaitReason ===

impl WaitReason {
    /// Whether the wait ends by itself when others give back: most such waits are short.
    pub fn passes(&self) -> bool {
        match self {
            Self::Busy(_) | Self::OutOfReach | Self::Quota(_) | Self::Share(_) => true,
            Self::NoWorkers | Self::Recovering | Self::TooLarge(_) | Self::Unready => false,
        }
    }
}

impl WaitReason {
    /// What it is called where a program reads it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoWorkers => "no-workers",
            Self::Recovering => "recovering",
            Self::TooLarge(_) => "too-large",
            Self::Busy(_) => "busy",
            Self::OutOfReach => "out-of-reach",
            Self::Quota(_) => "quota",
            Self::Share(_) => "share",
            Self::Unready => "unready",
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorkers => f.write_str("the cluster has no workers yet"),
            Self::Recovering => f.write_str(
                "no worker that the master knows is large enough; it was restarted, and others may \
                 still come back",
            ),
            Self::TooLarge(too_large) => {
                write!(f, "{too_large}, or add such a worker")
            }
            Self::Busy(busy) => busy.fmt(f),
            Self::OutOfReach => f.write_str(
                "the workers that could hold an executor are out of reach at the moment, or still \
                 stop executors of this application",
            ),
            Self::Quota(quota) => quota.fmt(f),
            Self::Share(share) => share.fmt(f),
            Self::Unready => f.write_str("the driver is away, or its module has not come yet"),
        }
    }
}

// === impl Quota ===

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Cores { used, max } => {
                format!("{} of the {} in its quota", cores(*used), cores(*max))
            }
            Self::Memory { used_bytes, max_bytes } => {
                let (used, max) = (format_size(*used_bytes), format_size(*max_bytes));
                format!("{used} of the {max} in its quota")
            }
            Self::Running { max } => format!("the {max} running applications of its quota"),
        };
        write!(f, "the tenant has {what}; wait for one of its applications, or ask the operator")
    }
}

// === impl Share ===

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, plural) =
            (cores(self.held_cores), if self.owed == 1 { " has" } else { "s have" });
        write!(
            f,
            "the application has {held}; what is free is kept for others: {} tenant{plural} less \
             for their weight",
            self.owed
        )
    }
}

// === impl TooLarge ===

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { short, asked, largest } = self;
        if *short == Shortage::Together {
            return write!(
                f,
                "asked for {asked} per executor, but no worker has both; lower --executor-cores \
                 or --executor-memory"
            );
        }
        let (asked, largest, flags) = (short.of(asked), short.of(largest), short.flags());
        write!(
            f,
            "asked for {asked} per executor, but the largest worker has {largest}; lower {flags}"
        )
    }
}

// === impl Busy ===

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { short, asked, free, .. } = self;
        if *short == Shortage::Together {
            write!(f, "asked for {asked} per executor, but no worker has both free at once")?;
        } else {
            let (asked, free) = (short.of(asked), short.of(free));
            write!(f, "asked for {asked} per executor, but no worker has more than {free} free")?;
        }
        for (index, Holder { app, tenant, held }) in self.holders.iter().enumerate() {
            let start = if index == 0 { "; in use: " } else { ", " };
            let tenant = tenant.as_deref().unwrap_or("an unknown tenant").escape_debug();
            write!(f, "{start}{} by {app} of {tenant}", short.of(held))?;
        }
        match self.others {
            0 => Ok(()),
            others => write!(f, ", and more by {others} others"),
        }
    }
}

// === impl Shortage ===

impl Shortage {
    /// The part of a size that there is too little of.
    fn of(self, size: &Size) -> String {
        match self {
            Self::Cores => cores(size.cores),
            Self::Memory => format_size(size.memory_bytes),
            Self::Both | Self::Together => size.to_string(),
        }
    }

    fn flags(self) -> &'static str {
        match self {
            Self::Cores => "--executor-cores",
            Self::Memory => "--executor-memory",
            Self::Both => "--executor-cores and --executor-memory",
            Self::Together => "--executor-cores or --executor-memory",
        }
    }
}

// === impl Size ===

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", cores(self.cores), format_size(self.memory_bytes))
    }
}

fn cores(number: u32) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} core{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn size(cores: u32, gib: u64) -> Size {
        Size { cores, memory_bytes: gib * GIB }
    }

    #[test]
    fn what_is_too_large_is_told_with_both_numbers_and_the_flag() {
        let (asked, largest) = (size(10, 20), size(8, 16));
        let text = |short| TooLarge { short, asked, largest }.to_string();
        let tail = "per executor, but the largest worker has";
        let expected = format!("asked for 10 cores {tail} 8 cores; lower --executor-cores");
        assert_eq!(text(Shortage::Cores), expected);
        let expected = format!("asked for 20 GiB {tail} 16 GiB; lower --executor-memory");
        assert_eq!(text(Shortage::Memory), expected);
        let expected = format!(
            "asked for 10 cores and 20 GiB {tail} 8 cores and 16 GiB; lower --executor-cores and \
             --executor-memory"
        );
        assert_eq!(text(Shortage::Both), expected);
        let expected = "asked for 10 cores and 20 GiB per executor, but no worker has both; lower \
             --executor-cores or --executor-memory";
        assert_eq!(text(Shortage::Together), expected);
    }

    #[test]
    fn what_is_busy_is_told_with_who_holds_it() {
        let holder = |app, tenant: Option<&str>, held| Holder {
            app: AppId(app),
            tenant: tenant.map(str::to_owned),
            held,
        };
        let mut busy = Busy {
            short: Shortage::Cores,
            asked: size(4, 1),
            free: size(1, 9),
            holders: vec![holder(3, Some("ada"), size(6, 2)), holder(1, None, size(1, 1))],
            others: 2,
        };
        let expected = "asked for 4 cores per executor, but no worker has more than 1 core free; \
             in use: 6 cores by app-3 of ada, 1 core by app-1 of an unknown tenant, and more by 2 \
             others";
        assert_eq!(busy.to_string(), expected);
        busy.holders.clear();
        busy.others = 0;
        busy.short = Shortage::Together;
        let expected =
            "asked for 4 cores and 1 GiB per executor, but no worker has both free at once";
        assert_eq!(busy.to_string(), expected);
    }
}
