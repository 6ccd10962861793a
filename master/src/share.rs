//! Who is owed what is free: tenants by weight, applications inside a tenant. Books, no I/O.
//!
//! ```text
//!   rules, weights ─┐
//!   wants ──────────┼─► Shares ─► allot: so many units of what is free to whom
//!   holds, lets go ─┘        └──► level: how far somebody is above or below the others
//! ```
//!
//! The rule is weighted dominant resource fairness. What a tenant has is the larger of its part of
//! the cluster's cores and its part of the cluster's memory; divided by its weight, that is its
//! *level*. Each unit that is free goes to the tenant at the lowest level that can use it, unless
//! some tenant has less than it is guaranteed: those come first. Inside a tenant the application
//! with the least comes first, or with [`TenantPolicy::Fifo`] the oldest. A unit is an executor, or
//! one core of an application that takes executors of any size.
//!
//! Nobody who wants more is kept from what nobody else can use, and nobody exceeds a quota.
//!
//! Costs: a change O(log n) of tenants and applications. [`Shares::allot`] looks at each
//! application each time that what is left for it is a third less; the last units of each are
//! O(log n) a unit, and so are all if that went wrong or an application's level stays as it is.
//! Besides a look at each application that comes before and cannot use what is free.

mod allot;
mod level;

pub use allot::Allotment;
pub use level::Level;
pub(crate) use level::{guarantee, is_guaranteed};

#[cfg(test)]
mod tests;

use level::part;
use offshoot_proto::id::AppId;
use offshoot_proto::tenant::{TenantPolicy, TenantRules};
use offshoot_proto::waiting::{Quota, Size};
use std::collections::{BTreeMap, BTreeSet};

/// Tenants and applications: what they have and want.
#[derive(Debug, Default)]
pub struct Shares {
    /// All that the cluster's workers give.
    total: Size,
    /// By name.
    tenants: Vec<Tenant>,
    apps: BTreeMap<AppId, App>,
    /// Tenants that want more, the one that is owed most first; equal ones by name.
    queue: BTreeSet<(Place, TenantIndex)>,
}

/// Where a tenant stands among all, by name. It is another when one comes or goes.
pub(crate) type TenantIndex = usize;

/// A tenant's place in the order in which what is free is given away: its level, and above that
/// whether it has what it is guaranteed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

#[derive(Debug, Default)]
struct Tenant {
    name: String,
    rules: TenantRules,
    /// The part of the cluster that it is guaranteed.
    guaranteed: u64,
    used: Size,
    /// Of that, what executors have that have been told to stop.
    stopping: Size,
    /// Applications.
    apps: u32,
    /// Applications with executors that have not been told to stop.
    running: u32,
    /// Those with executors that want more, and those without; in order.
    queues: [BTreeSet<(Level, AppId)>; 2],
    /// Where it stands in the queue of tenants.
    place: Option<Place>,
}

#[derive(Debug)]
struct App {
    tenant: TenantIndex,
    unit: Unit,
    used: Size,
    executors: u32,
    /// Executors that have been told to stop, and what they have.
    stopping: (u32, Size),
    wants: u32,
    /// Where it stands in its tenant's queues.
    place: Option<(usize, Level)>,
}

/// What an application is given at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Cores and memory of one executor; one core if it may be of any size.
    pub size: Size,
    /// Executors may be of any size.
    pub elastic: bool,
}

pub(crate) fn plus(a: Size, b: Size) -> Size {
    Size {
        cores: a.cores.saturating_add(b.cores),
        memory_bytes: a.memory_bytes.saturating_add(b.memory_bytes),
    }
}

pub(crate) fn minus(a: Size, b: Size) -> Size {
    Size {
        cores: a.cores.saturating_sub(b.cores),
        memory_bytes: a.memory_bytes.saturating_sub(b.memory_bytes),
    }
}

/// Whether `a` is enough for `b`.
pub(crate) fn covers(a: Size, b: Size) -> bool {
    a.cores >= b.cores && a.memory_bytes >= b.memory_bytes
}

// === impl Shares ===

impl Shares {
    /// The cluster has grown or shrunk: everybody's part of it is another.
    pub fn set_total(&mut self, total: Size) {
        if self.total == total {
            return;
        }
        self.total = total;
        for tenant in &mut self.tenants {
            tenant.guaranteed = tenant.guarantee(total);
        }
        self.queue_anew();
    }

    /// A tenant, or other rules for one.
    pub fn set_rules(&mut self, name: &str, rules: TenantRules) {
        let index = self.index(name);
        let tenant = &mut self.tenants[index];
        tenant.rules = rules;
        tenant.guaranteed = tenant.guarantee(self.total);
        self.queue_anew();
    }

    /// The rules of a tenant, if it is known.
    pub fn rules(&self, name: &str) -> Option<&TenantRules> {
        self.tenant(name).map(|tenant| &tenant.rules)
    }

    /// A tenant without applications is forgotten.
    pub fn remove_tenant(&mut self, name: &str) {
        if let Ok(index) = self.find(name)
            && self.tenants[index].apps == 0
        {
            self.tenants.remove(index);
            for app in self.apps.values_mut().filter(|app| app.tenant > index) {
                app.tenant -= 1;
            }
            self.queue_anew();
        }
    }

    /// Every tenant: its name, rules, what it uses, and how many applications it has, with
    /// executors and in all.
    pub fn tenants(&self) -> impl Iterator<Item = (&str, &TenantRules, Size, u32, u32)> {
        let tenants = self.tenants.iter();
        tenants.map(|it| (it.name.as_str(), &it.rules, it.used, it.running, it.apps))
    }

    /// A new application of a known tenant, which has nothing and wants nothing.
    pub fn add_app(&mut self, id: AppId, tenant: &str, unit: Unit) {
        let tenant = self.index(tenant);
        self.tenants[tenant].apps += 1;
        let app = App {
            tenant,
            unit,
            used: Size::default(),
            executors: 0,
            stopping: Default::default(),
            wants: 0,
            place: None,
        };
        self.apps.insert(id, app);
    }

    /// An application has ended. What its executors still use is nobody's.
    pub fn remove_app(&mut self, id: AppId) {
        self.change(id, |tenant, app| {
            tenant.used = minus(tenant.used, app.used);
            tenant.stopping = minus(tenant.stopping, app.stopping.1);
            tenant.apps -= 1;
            (app.wants, app.used, app.executors) = (0, Size::default(), 0);
            app.stopping = Default::default();
        });
        self.apps.remove(&id);
    }

    /// An application wants so many units more than it has.
    pub fn set_wants(&mut self, id: AppId, units: u32) {
        if self.apps.get(&id).is_some_and(|app| app.wants != units) {
            self.change(id, |_, app| app.wants = units);
        }
    }

    /// An application has so many executors more, of this size together.
    pub fn hold(&mut self, id: AppId, executors: u32, size: Size) {
        self.change(id, |tenant, app| {
            tenant.used = plus(tenant.used, size);
            app.used = plus(app.used, size);
            app.executors += executors;
        });
    }

    /// An executor has been told to stop. It still uses what it has.
    pub fn stop(&mut self, id: AppId, size: Size) {
        self.change(id, |tenant, app| {
            tenant.stopping = plus(tenant.stopping, size);
            app.stopping = (app.stopping.0 + 1, plus(app.stopping.1, size));
        });
    }

    /// An application has an executor less, which was told to stop or ended by itself.
    pub fn let_go(&mut self, id: AppId, size: Size, told: bool) {
        self.change(id, |tenant, app| {
            if told {
                tenant.stopping = minus(tenant.stopping, size);
                app.stopping = (app.stopping.0.saturating_sub(1), minus(app.stopping.1, size));
            }
            tenant.used = minus(tenant.used, size);
            app.used = minus(app.used, size);
            app.executors = app.executors.saturating_sub(1);
        });
    }

    /// Whether anybody wants more.
    pub fn any_wants(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Units that an application wants beyond what it has.
    pub fn wants(&self, id: AppId) -> u32 {
        self.apps.get(&id).map_or(0, |app| app.wants)
    }

    /// Executors of an application that have been told to stop.
    pub fn stopping(&self, id: AppId) -> u32 {
        self.apps.get(&id).map_or(0, |app| app.stopping.0)
    }

    /// What an application has, without what stops.
    pub fn kept(&self, id: AppId) -> Size {
        self.apps.get(&id).map_or(Size::default(), |app| minus(app.used, app.stopping.1))
    }

    /// What an application has.
    pub fn used(&self, id: AppId) -> Size {
        self.apps.get(&id).map_or(Size::default(), |app| app.used)
    }

    /// How many executors an application has.
    pub fn executors(&self, id: AppId) -> u32 {
        self.apps.get(&id).map_or(0, |app| app.executors)
    }

    /// What a tenant has.
    #[cfg(test)]
    pub(crate) fn tenant_used(&self, name: &str) -> Size {
        self.tenant(name).map_or(Size::default(), |tenant| tenant.used)
    }

    /// How many applications a tenant has.
    pub fn apps_of(&self, name: &str) -> u32 {
        self.tenant(name).map_or(0, |tenant| tenant.apps)
    }

    /// Whether an application has executors that go on.
    pub fn runs(&self, id: AppId) -> bool {
        self.apps.get(&id).is_some_and(App::runs)
    }

    /// Whose an application is.
    pub(crate) fn tenant_of(&self, id: AppId) -> Option<TenantIndex> {
        self.apps.get(&id).map(|app| app.tenant)
    }

    /// Every tenant in the order of [`TenantIndex`]: its rules, and what it has without what stops.
    pub(crate) fn standings(&self) -> impl Iterator<Item = (&TenantRules, Size)> {
        self.tenants.iter().map(|tenant| (&tenant.rules, tenant.kept()))
    }

    /// All that the cluster's workers give.
    pub fn total(&self) -> Size {
        self.total
    }

    /// What a tenant may still be given by its quotas.
    pub fn room(&self, tenant: &str) -> Size {
        let all = Size { cores: u32::MAX, memory_bytes: u64::MAX };
        self.tenant(tenant).map_or(all, Tenant::room)
    }

    /// The quota that keeps an application from one unit more.
    pub fn quota(&self, id: AppId) -> Option<Quota> {
        let app = self.apps.get(&id)?;
        let tenant = self.tenants.get(app.tenant)?;
        tenant.quota(app.unit.size, app.runs())
    }

    fn find(&self, name: &str) -> Result<TenantIndex, TenantIndex> {
        self.tenants.binary_search_by(|tenant| tenant.name.as_str().cmp(name))
    }

    fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.find(name).ok().map(|index| &self.tenants[index])
    }

    /// Where a tenant stands, which is new if it is not known.
    fn index(&mut self, name: &str) -> TenantIndex {
        match self.find(name) {
            Ok(index) => index,
            Err(index) => {
                let tenant = Tenant { name: name.to_owned(), ..Tenant::default() };
                self.tenants.insert(index, tenant);
                for app in self.apps.values_mut().filter(|app| app.tenant >= index) {
                    app.tenant += 1;
                }
                self.queue_anew();
                index
            }
        }
    }

    /// Everybody's place may be another.
    fn queue_anew(&mut self) {
        self.tenants.iter_mut().flat_map(|it| &mut it.queues).for_each(BTreeSet::clear);
        for (id, app) in &mut self.apps {
            app.place = None;
            if app.wants > 0 {
                self.tenants[app.tenant].queue(*id, app, self.total);
            }
        }
        self.queue.clear();
        for (index, tenant) in self.tenants.iter_mut().enumerate() {
            tenant.place = tenant.place(self.total);
            self.queue.extend(tenant.place.map(|place| (place, index)));
        }
    }

    /// Takes an application and its tenant out of the queues, changes them, and puts them back.
    fn change(&mut self, id: AppId, change: impl FnOnce(&mut Tenant, &mut App)) {
        let Some(app) = self.apps.get_mut(&id) else {
            return;
        };
        let tenant = &mut self.tenants[app.tenant];
        if let Some((queue, level)) = app.place.take() {
            tenant.queues[queue].remove(&(level, id));
        }
        let ran = app.runs();
        change(tenant, app);
        tenant.running = tenant.running + u32::from(app.runs()) - u32::from(ran);
        if app.wants > 0 {
            tenant.queue(id, app, self.total);
        }
        let place = tenant.place(self.total);
        if place == tenant.place {
            return;
        }
        if let Some(old) = std::mem::replace(&mut tenant.place, place) {
            self.queue.remove(&(old, app.tenant));
        }
        if let Some(place) = place {
            self.queue.insert((place, app.tenant));
        }
    }
}

// === impl App ===

impl App {
    /// Whether it has executors that go on.
    fn runs(&self) -> bool {
        self.executors > self.stopping.0
    }
}

// === impl Tenant ===

impl Tenant {
    fn place_with(&self, used: Size, total: Size) -> Place {
        let part = part(used, total);
        // A level is less than 2^61.
        let above_guarantee = u64::from(part >= self.guaranteed) << 63;
        Place(above_guarantee | Level::of(part, self.rules.weight).number())
    }

    /// Where it stands, if it wants something.
    fn place(&self, total: Size) -> Option<Place> {
        let wants = self.queues.iter().any(|queue| !queue.is_empty());
        wants.then(|| self.place_with(self.used, total))
    }

    /// Puts an application that wants more into a queue.
    fn queue(&mut self, id: AppId, app: &mut App, total: Size) {
        let place = (usize::from(!app.runs()), self.level_of(app, total));
        app.place = Some(place);
        self.queues[place.0].insert((place.1, id));
    }

    /// By the larger part: who is guaranteed much memory and takes cores is served by the cores.
    fn guarantee(&self, total: Size) -> u64 {
        guarantee(&self.rules, total)
    }

    /// What it has, without what stops.
    fn kept(&self) -> Size {
        minus(self.used, self.stopping)
    }

    /// What orders applications inside the tenant.
    fn level_of(&self, app: &App, total: Size) -> Level {
        self.level_with(app.used, total)
    }

    fn level_with(&self, used: Size, total: Size) -> Level {
        match self.rules.policy {
            TenantPolicy::Fair => Level::new(used, total, 1),
            TenantPolicy::Fifo => Level::default(),
        }
    }

    fn room(&self) -> Size {
        self.room_with(self.used)
    }

    fn room_with(&self, used: Size) -> Size {
        let rules = &self.rules;
        Size {
            cores: rules.cores_max.map_or(u32::MAX, |max| max.saturating_sub(used.cores)),
            memory_bytes: rules
                .memory_bytes_max
                .map_or(u64::MAX, |max| max.saturating_sub(used.memory_bytes)),
        }
    }

    fn quota(&self, unit: Size, runs: bool) -> Option<Quota> {
        let (rules, used, room) = (&self.rules, self.used, self.room());
        if let (Some(max), true) = (rules.cores_max, room.cores < unit.cores) {
            return Some(Quota::Cores { used: used.cores, max });
        }
        if let (Some(max), true) = (rules.memory_bytes_max, room.memory_bytes < unit.memory_bytes) {
            return Some(Quota::Memory { used_bytes: used.memory_bytes, max_bytes: max });
        }
        let full = rules.running_max.filter(|max| !runs && self.running >= *max);
        full.map(|max| Quota::Running { max })
    }
}
