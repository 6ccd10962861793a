//! The file `tenants`: who shares the cluster by what rules, and who did once.
//!
//! ```text
//!   version 1
//!   tenant ada weight 3 policy fifo max-cores 8 max-running 2 guaranteed-cores 1
//!   removed bob
//! ```

use super::{StateError, read, replace};
use crate::cluster::Tenants;
use crate::cluster::limits::{validate_rules, validate_tenant};
use offshoot_proto::tenant::{TenantPolicy, TenantRules};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::SplitAsciiWhitespace;

/// The format of the file.
const VERSION: u64 = 1;

/// The file `tenants`.
#[derive(Debug)]
pub(crate) struct TenantsFile {
    path: PathBuf,
}

// === impl TenantsFile ===

impl TenantsFile {
    /// Reads the file; without one there is the admin.
    pub(super) fn open(directory: &Path) -> Result<(Self, Tenants), StateError> {
        let path = directory.join("tenants");
        let text = read(&path)?;
        let tenants = match &text {
            None => Tenants::default(),
            Some(text) => parse(text).map_err(|(line, reason)| StateError::Damaged {
                path: path.clone(),
                line,
                reason,
            })?,
        };
        Ok((Self { path }, tenants))
    }

    /// Replaces the file.
    pub(crate) fn save(&self, tenants: &Tenants) -> Result<(), StateError> {
        replace(&self.path, &format(tenants))
    }
}

fn format(tenants: &Tenants) -> String {
    let mut text = format!("version {VERSION}\n");
    for (name, rules) in tenants.rules() {
        let _ = write!(text, "tenant {name} weight {} policy {}", rules.weight, rules.policy);
        let numbers = [
            ("max-cores", rules.cores_max.map(u64::from)),
            ("max-memory", rules.memory_bytes_max),
            ("max-running", rules.running_max.map(u64::from)),
            ("max-submitted", rules.submitted_max.map(u64::from)),
            ("guaranteed-cores", Some(rules.cores_guaranteed.into())),
            ("guaranteed-memory", Some(rules.memory_bytes_guaranteed)),
        ];
        for (key, value) in numbers {
            if let Some(value) = value {
                let _ = write!(text, " {key} {value}");
            }
        }
        text.push('\n');
    }
    for name in tenants.removed() {
        let _ = writeln!(text, "removed {name}");
    }
    text
}

fn parse(text: &str) -> Result<Tenants, (usize, String)> {
    let (mut rules, mut removed) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let at = |reason: String| (number, reason);
        let mut words = line.split_ascii_whitespace();
        match (number, words.next()) {
            (1, Some("version")) => match words.next().and_then(|text| text.parse::<u64>().ok()) {
                Some(VERSION) => {}
                found => return Err(at(format!("version {found:?} is not {VERSION}"))),
            },
            (2.., Some("tenant")) => rules.push(parse_tenant(&mut words).map_err(at)?),
            (2.., Some("removed")) => removed.push(parse_name(&mut words).map_err(at)?),
            (_, word) => return Err(at(format!("{word:?} is none of version, tenant, removed"))),
        }
    }
    if text.is_empty() {
        return Err((1, "expected \"version\" and a value".to_owned()));
    }
    Ok(Tenants::new(rules, removed))
}

fn parse_name(words: &mut SplitAsciiWhitespace<'_>) -> Result<String, String> {
    let name = words.next().ok_or("expected a name")?;
    validate_tenant(name).map_err(|error| error.to_string())?;
    Ok(name.to_owned())
}

fn parse_tenant(words: &mut SplitAsciiWhitespace<'_>) -> Result<(String, TenantRules), String> {
    let name = parse_name(words)?;
    let mut rules = TenantRules::default();
    while let Some(key) = words.next() {
        let value = words.next().ok_or_else(|| format!("{key:?} has no value"))?;
        let large = || value.parse::<u64>().map_err(|_| format!("{key} {value:?}: no number"));
        let small = || value.parse::<u32>().map_err(|_| format!("{key} {value:?}: no number"));
        match (key, value) {
            ("weight", _) => rules.weight = small()?,
            ("policy", "fair") => rules.policy = TenantPolicy::Fair,
            ("policy", "fifo") => rules.policy = TenantPolicy::Fifo,
            ("max-cores", _) => rules.cores_max = Some(small()?),
            ("max-memory", _) => rules.memory_bytes_max = Some(large()?),
            ("max-running", _) => rules.running_max = Some(small()?),
            ("max-submitted", _) => rules.submitted_max = Some(small()?),
            ("guaranteed-cores", _) => rules.cores_guaranteed = small()?,
            ("guaranteed-memory", _) => rules.memory_bytes_guaranteed = large()?,
            _ => return Err(format!("{key:?} {value:?} is no rule of a tenant")),
        }
    }
    validate_rules(&rules).map_err(|error| error.to_string())?;
    Ok((name, rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_read_as_they_were_written() {
        let rules = TenantRules {
            weight: 3,
            policy: TenantPolicy::Fifo,
            cores_max: Some(8),
            memory_bytes_max: Some(1 << 40),
            running_max: Some(2),
            submitted_max: Some(0),
            cores_guaranteed: 1,
            memory_bytes_guaranteed: 1 << 30,
        };
        let plain = TenantRules::default();
        let named = [("ada".to_owned(), rules), ("eve".to_owned(), plain)];
        let tenants = Tenants::new(named, ["bob".to_owned()]);
        assert_eq!(parse(&format(&tenants)), Ok(tenants));
    }

    #[test]
    fn damage_is_found_with_its_line() {
        let line = |text: &str| parse(text).expect_err(text).0;
        assert_eq!(line(""), 1);
        assert_eq!(line("version 2\n"), 1);
        assert_eq!(line("version 1\ntenant\n"), 2);
        assert_eq!(line("version 1\nremoved bob\ntenant ada weight 0\n"), 3);
        assert_eq!(line("version 1\ntenant ada max-cores\n"), 2);
        assert_eq!(line("version 1\ntenant ../ada weight 1\n"), 2);
        assert_eq!(line("version 1\nhost ada\n"), 2);
    }
}
