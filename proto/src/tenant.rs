//! Tenants: who shares the cluster, and by what rules.

use core::fmt;
use serde::{Deserialize, Serialize};

/// The rules that one tenant is served by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRules {
    /// Its part of the cluster against that of the others, 1 to 1,000: a tenant of weight 3 is
    /// owed three times what one of weight 1 is, while both have work.
    pub weight: u32,
    /// How its applications share what it is given.
    pub policy: TenantPolicy,
    /// Cores that it never has more of; no limit if unset.
    pub cores_max: Option<u32>,
    /// Memory of executors that it never has more of; no limit if unset.
    pub memory_bytes_max: Option<u64>,
    /// Applications that have executors at once; no limit if unset.
    pub running_max: Option<u32>,
    /// Applications that are registered at once; no limit but that of the cluster if unset.
    pub submitted_max: Option<u32>,
    /// Cores that it is given before others get more than theirs, and that nobody takes back.
    pub cores_guaranteed: u32,
    /// Memory that it is given before others get more than theirs, and that nobody takes back.
    pub memory_bytes_guaranteed: u64,
}

/// How the applications of a tenant share what it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantPolicy {
    /// In equal parts.
    #[default]
    Fair,
    /// First come, first served.
    Fifo,
}

/// What is to become of a tenant's rules: what is unset stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantChange {
    /// See [`TenantRules::weight`].
    pub weight: Option<u32>,
    /// See [`TenantRules::policy`].
    pub policy: Option<TenantPolicy>,
    /// See [`TenantRules::cores_max`].
    pub cores_max: Option<Option<u32>>,
    /// See [`TenantRules::memory_bytes_max`].
    pub memory_bytes_max: Option<Option<u64>>,
    /// See [`TenantRules::running_max`].
    pub running_max: Option<Option<u32>>,
    /// See [`TenantRules::submitted_max`].
    pub submitted_max: Option<Option<u32>>,
    /// See [`TenantRules::cores_guaranteed`].
    pub cores_guaranteed: Option<u32>,
    /// See [`TenantRules::memory_bytes_guaranteed`].
    pub memory_bytes_guaranteed: Option<u64>,
}

/// What an operator wants of the tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TenantOrder {
    /// A new tenant, with its first credential.
    Add {
        /// Its name.
        name: String,
        /// Its rules, over the defaults.
        rules: TenantChange,
    },
    /// Other rules for a tenant.
    Set {
        /// Which.
        name: String,
        /// The rules that change.
        rules: TenantChange,
    },
    /// A tenant is let in no more. It must have no applications.
    Remove {
        /// Which.
        name: String,
    },
    /// All tenants.
    List,
}

/// A row of `offshoot tenant list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    /// Its name.
    pub name: String,
    /// Its rules.
    pub rules: TenantRules,
    /// Cores that its executors have.
    pub cores_used: u32,
    /// Memory that its executors have.
    pub memory_used_bytes: u64,
    /// Applications with executors.
    pub running: u32,
    /// Applications that are registered.
    pub submitted: u32,
}

// === impl TenantRules ===

impl Default for TenantRules {
    fn default() -> Self {
        Self {
            weight: 1,
            policy: TenantPolicy::Fair,
            cores_max: None,
            memory_bytes_max: None,
            running_max: None,
            submitted_max: None,
            cores_guaranteed: 0,
            memory_bytes_guaranteed: 0,
        }
    }
}

impl TenantRules {
    /// Applies a change.
    pub fn apply(&mut self, change: &TenantChange) {
        fn set<T: Clone>(field: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        set(&mut self.weight, &change.weight);
        set(&mut self.policy, &change.policy);
        set(&mut self.cores_max, &change.cores_max);
        set(&mut self.memory_bytes_max, &change.memory_bytes_max);
        set(&mut self.running_max, &change.running_max);
        set(&mut self.submitted_max, &change.submitted_max);
        set(&mut self.cores_guaranteed, &change.cores_guaranteed);
        set(&mut self.memory_bytes_guaranteed, &change.memory_bytes_guaranteed);
    }
}

// === impl TenantPolicy ===

impl fmt::Display for TenantPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fair => "fair",
            Self::Fifo => "fifo",
        })
    }
}
