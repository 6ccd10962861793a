//! Tenants: who is let in, by what rules, and what an operator may change.

use super::limits::{TENANTS_MAX, validate_rules, validate_tenant};
use super::rows::ADMIN;
use super::{Action, Cluster, SessionId};
use offshoot_proto::cluster::ToClient;
use offshoot_proto::tenant::{TenantChange, TenantOrder, TenantRow, TenantRules};
use std::collections::{BTreeMap, BTreeSet};

/// All tenants, and the names of those that are let in no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    rules: BTreeMap<String, TenantRules>,
    /// A removed tenant's credentials are still good: its name never comes back.
    removed: BTreeSet<String>,
}

// === impl Tenants ===

impl Default for Tenants {
    fn default() -> Self {
        Self::new([], [])
    }
}

impl Tenants {
    /// These tenants, and the admin.
    pub fn new(
        rules: impl IntoIterator<Item = (String, TenantRules)>,
        removed: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut rules: BTreeMap<_, _> = rules.into_iter().collect();
        rules.entry(ADMIN.to_owned()).or_default();
        Self { rules, removed: removed.into_iter().collect() }
    }

    /// The tenants that are let in, with their rules.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &TenantRules)> {
        self.rules.iter().map(|(name, rules)| (name.as_str(), rules))
    }

    /// The names of those that were removed.
    pub fn removed(&self) -> impl Iterator<Item = &str> {
        self.removed.iter().map(String::as_str)
    }

    fn add(&mut self, name: &str, change: &TenantChange) -> Result<(), String> {
        let name_error = validate_tenant(name).map_err(|error| error.to_string());
        name_error?;
        if self.rules.contains_key(name) {
            return Err(format!("there is a tenant {name} already; change it with `tenant set`"));
        }
        if self.removed.contains(name) {
            return Err(format!(
                "a tenant {name} was removed, and its credentials would be good again; choose \
                 another name"
            ));
        }
        if self.rules.len() >= TENANTS_MAX {
            return Err(format!("there are {TENANTS_MAX} tenants, which is the limit"));
        }
        self.rules.insert(name.to_owned(), changed(TenantRules::default(), change)?);
        Ok(())
    }

    fn set(&mut self, name: &str, change: &TenantChange) -> Result<(), String> {
        let rules = self.rules.get_mut(name).ok_or_else(|| unknown(name))?;
        *rules = changed(rules.clone(), change)?;
        Ok(())
    }

    fn remove(&mut self, name: &str, live: u32) -> Result<(), String> {
        if name == ADMIN {
            return Err("the tenant admin cannot be removed".to_owned());
        }
        if !self.rules.contains_key(name) {
            return Err(unknown(name));
        }
        if live > 0 {
            let plural = if live == 1 { "" } else { "s" };
            return Err(format!(
                "tenant {name} has {live} application{plural}; wait for them to end, or set its \
                 --max-submitted to 0 first"
            ));
        }
        self.rules.remove(name);
        self.removed.insert(name.to_owned());
        Ok(())
    }
}

fn unknown(name: &str) -> String {
    format!("there is no tenant {}; see `offshoot tenant list`", name.escape_debug())
}

/// What somebody hears who has a certificate, but is no tenant.
pub(super) fn unknown_tenant(name: &str) -> String {
    format!(
        "tenant {} is not let in: it was removed, or is of another life of this cluster; ask the \
         operator for a new credential",
        name.escape_debug()
    )
}

fn changed(mut rules: TenantRules, change: &TenantChange) -> Result<TenantRules, String> {
    rules.apply(change);
    validate_rules(&rules).map_err(|error| error.to_string())?;
    Ok(rules)
}

// === impl Cluster ===

impl Cluster {
    /// Whether a tenant may register an application more.
    pub(super) fn admit(&self, tenant: &str) -> Result<(), String> {
        let Some(rules) = self.shares.rules(tenant) else {
            return Err(unknown_tenant(tenant));
        };
        let live = self.shares.apps_of(tenant);
        match rules.submitted_max.filter(|max| live >= *max) {
            None => Ok(()),
            Some(max) => Err(format!(
                "tenant {tenant} has as many applications as its quota lets it, {max}; wait for \
                 one to end, or ask the operator"
            )),
        }
    }

    pub(super) fn on_tenant_order(
        &mut self,
        session: SessionId,
        tenant: &str,
        order: TenantOrder,
        out: &mut Vec<Action>,
    ) {
        if tenant != ADMIN {
            let reason = format!(
                "tenant {} may not see or change tenants; use the credential of {ADMIN}",
                tenant.escape_debug()
            );
            return self.refuse_client(session, reason, out);
        }
        let before = self.tenants.clone();
        let mut tenants = before.clone();
        let (result, added) = match &order {
            TenantOrder::List => {
                let message = ToClient::Tenants(self.tenant_rows());
                return out.push(Action::ToClient { session, message });
            }
            TenantOrder::Add { name, rules } => (tenants.add(name, rules), Some(name.clone())),
            TenantOrder::Set { name, rules } => (tenants.set(name, rules), None),
            TenantOrder::Remove { name } => (tenants.remove(name, self.shares.apps_of(name)), None),
        };
        if let Err(reason) = result {
            return self.refuse_client(session, reason, out);
        }
        self.set_tenants(tenants.clone());
        out.push(Action::SaveTenants { session, tenants, before, added });
        self.place(out);
    }

    pub(super) fn set_tenants(&mut self, tenants: Tenants) {
        self.pass.forget();
        for name in self.tenants.rules.keys().filter(|name| !tenants.rules.contains_key(*name)) {
            self.shares.remove_tenant(name);
        }
        for (name, rules) in tenants.rules() {
            if self.shares.rules(name) != Some(rules) {
                self.shares.set_rules(name, rules.clone());
            }
        }
        self.tenants = tenants;
    }

    fn tenant_rows(&self) -> Vec<TenantRow> {
        let rows = self.shares.tenants().map(|(name, rules, used, running, submitted)| TenantRow {
            name: name.to_owned(),
            rules: rules.clone(),
            cores_used: used.cores,
            memory_used_bytes: used.memory_bytes,
            running,
            submitted,
        });
        super::rows::fitting(rows)
    }
}
