//! Which worker gives how many cores to an application, and what it is told while none does.
//!
//! The rule is Spark standalone's: an application gets `executor-cores` at a time, one worker after
//! the other, those with most free cores first, until its total is reached or nothing fits. With
//! `executor-cores` unset it gets one executor on each worker, grown evenly up to the total.

use super::limits::LAUNCH_FAILURES_MAX;
use super::{Action, App, Cluster, Executor, Life};
use offshoot_proto::cluster::{LaunchExecutor, ResourceRequest, ToClient, WaitReason};
use offshoot_proto::id::{AppId, ExecutorId, WorkerId};

/// What a worker has free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) worker: WorkerId,
    pub(super) cores: u32,
    pub(super) memory_bytes: u64,
}

/// One executor to launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) worker: WorkerId,
    pub(super) cores: u32,
}

/// Chooses executors for one application that holds `cores_held` already.
pub(super) fn plan(
    request: &ResourceRequest,
    cores_held: u32,
    mut offers: Vec<Offer>,
) -> Vec<Grant> {
    let total = request.total_cores.unwrap_or(u32::MAX);
    let cores_left = total.saturating_sub(cores_held);
    let memory_bytes = request.executor_memory_bytes;
    let cores_least = request.executor_cores.unwrap_or(1);
    offers.retain(|offer| offer.cores >= cores_least && offer.memory_bytes >= memory_bytes);
    offers.sort_by(|a, b| b.cores.cmp(&a.cores).then_with(|| a.worker.cmp(&b.worker)));
    match request.executor_cores {
        Some(cores) => plan_rounds(cores, memory_bytes, cores_left, offers),
        None => plan_whole(cores_left, offers),
    }
}

/// Executors of one size, one a worker and round.
fn plan_rounds(
    cores: u32,
    memory_bytes: u64,
    mut cores_left: u32,
    mut offers: Vec<Offer>,
) -> Vec<Grant> {
    let mut grants = Vec::new();
    while !offers.is_empty() && cores_left >= cores {
        for offer in &mut offers {
            if cores_left < cores {
                break;
            }
            cores_left -= cores;
            offer.cores -= cores;
            offer.memory_bytes -= memory_bytes;
            let worker = offer.worker.clone();
            grants.push(Grant { worker, cores });
        }
        offers.retain(|offer| offer.cores >= cores && offer.memory_bytes >= memory_bytes);
    }
    grants
}

/// One executor a worker, as even as what is free allows. `offers` has the largest first.
fn plan_whole(mut cores_left: u32, offers: Vec<Offer>) -> Vec<Grant> {
    let mut grants = Vec::new();
    // From the smallest up: what a small worker cannot give is shared by the rest.
    for (index, offer) in offers.into_iter().enumerate().rev() {
        let sharers = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let cores = offer.cores.min(cores_left / sharers);
        cores_left -= cores;
        if cores > 0 {
            let worker = offer.worker;
            grants.push(Grant { worker, cores });
        }
    }
    grants.reverse();
    grants
}

// === impl Cluster ===

impl Cluster {
    /// Gives away what is free and tells waiting drivers what they wait for.
    pub(super) fn place(&mut self, out: &mut Vec<Action>) {
        let apps: Vec<AppId> = self.apps.keys().copied().collect();
        for app in &apps {
            self.place_app(*app, out);
        }
        for app in &apps {
            self.tell_waiting(*app, out);
        }
    }

    fn place_app(&mut self, id: AppId, out: &mut Vec<Action>) {
        let Some(app) = self.apps.get(&id) else {
            return;
        };
        if !self.may_launch(app) || app.failures >= LAUNCH_FAILURES_MAX {
            return;
        }
        let cores_held = self.executors_of(id).map(|(_, executor)| executor.cores).sum();
        let request = app.spec.request;
        for grant in plan(&request, cores_held, self.offers()) {
            self.launch(id, grant, out);
        }
    }

    /// A driver that is away could not use what it is given, and no executor starts without code.
    fn may_launch(&self, app: &App) -> bool {
        app.session.is_some() && self.modules.contains(&app.spec.module)
    }

    fn offers(&self) -> Vec<Offer> {
        let connected = self.workers.iter().filter(|(_, worker)| worker.session().is_some());
        let offer = connected.map(|(id, worker)| Offer {
            worker: id.clone(),
            cores: worker.cores - worker.cores_used,
            memory_bytes: worker.memory_bytes - worker.memory_used_bytes,
        });
        offer.collect()
    }

    fn launch(&mut self, id: AppId, grant: Grant, out: &mut Vec<Action>) {
        let session = self.workers.get(&grant.worker).and_then(|worker| worker.session());
        let (Some(app), Some(session)) = (self.apps.get_mut(&id), session) else {
            return;
        };
        let executor = ExecutorId { app: id, number: app.next_executor };
        app.next_executor.0 += 1;
        app.touched.insert(grant.worker.clone());
        let memory_bytes = app.spec.request.executor_memory_bytes;
        let order = Box::new(LaunchExecutor {
            executor,
            cores: grant.cores,
            memory_bytes,
            app: (*app.spec).clone(),
            credential: Vec::new(),
        });
        let books = Executor {
            worker: grant.worker,
            cores: grant.cores,
            memory_bytes,
            life: Life::Launching,
        };
        self.take(executor, books);
        out.push(Action::Launch { session, order });
    }

    fn tell_waiting(&mut self, id: AppId, out: &mut Vec<Action>) {
        let Some(app) = self.apps.get(&id) else {
            return;
        };
        if !self.may_launch(app) {
            return;
        }
        let served = self.executors_of(id).any(|(_, executor)| executor.life.is_live());
        let reason = (!served).then(|| self.wait_reason(&app.spec.request));
        let Some(app) = self.apps.get_mut(&id) else {
            return;
        };
        if let (Some(reason), Some(session)) = (&reason, app.session)
            && app.told.as_ref() != Some(reason)
        {
            let message = ToClient::Waiting(reason.clone());
            out.push(Action::ToClient { session, message });
        }
        app.told = reason;
    }

    /// Why an application with no executor has none.
    fn wait_reason(&self, request: &ResourceRequest) -> WaitReason {
        let cores = request.executor_cores.unwrap_or(1);
        let memory = request.executor_memory_bytes;
        let alive = || self.workers.values().filter(|worker| worker.is_alive());
        let sizes = alive().map(|worker| (worker.cores, worker.memory_bytes));
        let Some((cores_max, memory_bytes_max)) = sizes.max() else {
            return WaitReason::NoWorkers;
        };
        if alive().any(|worker| worker.cores >= cores && worker.memory_bytes >= memory) {
            let cores_free = self.offers().iter().map(|offer| offer.cores).sum();
            return WaitReason::Busy { cores_free };
        }
        WaitReason::TooLarge { cores_max, memory_bytes_max }
    }
}
