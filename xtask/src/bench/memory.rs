//! What the processes of an idle cluster hold in memory.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;

/// A process as `/proc` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// Its arguments without the program's name.
    pub(crate) arguments: Vec<String>,
    /// Resident, shared pages counted whole.
    pub(crate) resident_mib: f64,
    /// Resident and of no other process.
    pub(crate) private_mib: f64,
}

/// A process with all that it started, directly or not.
pub(crate) fn family(root: u32) -> Result<Vec<Process>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("listing /proc")? {
        let name = entry.context("listing /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile is nobody's child.
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        family.extend(children.get(pid).into_iter().flatten().copied().collect::<Vec<_>>());
        next += 1;
    }
    family.into_iter().map(look).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, more parentheses included.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

fn look(pid: u32) -> Result<Process> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    };
    let arguments = read("cmdline")?.split('\0').skip(1).map(str::to_owned).collect();
    let rollup = read("smaps_rollup")?;
    let kib = |names: &[&str]| {
        let lines = rollup.lines().filter_map(|line| line.split_once(':'));
        let wanted = lines.filter(|(name, _)| names.contains(name));
        let values = wanted.filter_map(|(_, value)| value.trim().strip_suffix(" kB"));
        values.filter_map(|value| value.trim().parse::<f64>().ok()).sum::<f64>()
    };
    let resident_mib = kib(&["Rss"]) / 1024.0;
    ensure!(resident_mib > 0.0, "process {pid} has no memory");
    let private_mib = kib(&["Private_Clean", "Private_Dirty"]) / 1024.0;
    Ok(Process { arguments, resident_mib, private_mib })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::{Command, Stdio, id};

    #[test]
    fn a_family_is_a_process_and_what_it_started() {
        let mut child = Command::new("cat").arg("-u").stdin(Stdio::piped()).spawn().unwrap();
        let family = family(id());
        drop(child.stdin.take());
        child.wait().unwrap();
        let family = family.unwrap();
        assert!(family[0].resident_mib >= family[0].private_mib);
        assert!(family[1..].iter().any(|process| process.arguments[0] == "-u"));
    }
}
