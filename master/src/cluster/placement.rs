//! Gives away what is free.
//!
//! Which worker gives what is [`crate::placement`]'s; here are the books that it reads and the
//! orders that come of its grants.

use super::limits::LAUNCH_FAILURES_MAX;
use super::{Action, App, Cluster, Executor, Life};
use crate::placement::{Grant, Offer, Request, plan};
use offshoot_proto::cluster::LaunchExecutor;
use offshoot_proto::id::{AppId, ExecutorId};

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
        let request = self.left_of(id, app);
        for grant in plan(&request, self.policy.rule, self.offers()) {
            self.launch(id, grant, out);
        }
    }

    /// What an application may be given beyond what it holds.
    fn left_of(&self, id: AppId, app: &App) -> Request {
        let asked = &app.spec.request;
        let held = || self.executors_of(id);
        let cores_held = held().map(|(_, executor)| executor.cores).sum();
        let executors_held = u32::try_from(held().count()).unwrap_or(u32::MAX);
        let total = asked.total_cores.or(self.policy.default_cores).unwrap_or(u32::MAX);
        let limit = asked.executors_max.unwrap_or(u32::MAX).min(app.wanted.unwrap_or(u32::MAX));
        Request {
            executor_cores: asked.executor_cores,
            task_cores: app.spec.settings.task_cores,
            executor_memory_bytes: asked.executor_memory_bytes,
            cores_left: total.saturating_sub(cores_held),
            executors_left: limit.saturating_sub(executors_held),
        }
    }

    /// A driver that is away could not use what it is given, and no executor starts without code.
    pub(super) fn may_launch(&self, app: &App) -> bool {
        app.session.is_some() && self.modules.contains(&app.spec.module)
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
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
}
