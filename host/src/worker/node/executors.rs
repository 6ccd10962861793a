//! Executors: from the order to the last word about them.

use super::{Action, Executor, Life, Node, Note, Phase};
use offshoot_proto::cluster::{FromWorker, LaunchExecutor};
use offshoot_proto::id::{AppId, ExecutorId, ModuleHash};
use offshoot_proto::settings::format_size;
use std::net::SocketAddr;
use std::time::Duration;

// === impl Node ===

impl Node {
    pub(super) fn on_launch(&mut self, order: Box<LaunchExecutor>, out: &mut Vec<Action>) {
        let id = order.executor;
        if self.executors.contains_key(&id) {
            // The order came twice; it is being followed.
            return;
        }
        if let Err(reason) = self.accepts(&order) {
            out.push(Action::Note(Note::LaunchRefused { executor: id, reason: reason.clone() }));
            return self.tell(FromWorker::ExecutorGone { executor: id, reason }, out);
        }
        let module = order.app.module;
        if !self.is_preparing(module) {
            out.push(Action::Prepare { module });
        }
        let executor = Executor {
            cores: order.cores,
            memory_bytes: order.memory_bytes,
            phase: Phase::Preparing(order),
        };
        self.executors.insert(id, executor);
    }

    /// Whether the order can be followed. The master decides, but two executors on one core are
    /// never right.
    fn accepts(&self, order: &LaunchExecutor) -> Result<(), String> {
        if self.life != Life::Serving {
            return Err("the worker stops".to_owned());
        }
        if self.forgotten.contains(&order.executor.app) {
            return Err(format!("{} has ended", order.executor.app));
        }
        let (cores, free) = (order.cores, self.cores_free());
        if cores == 0 || cores > free {
            return Err(format!("it asks for {cores} cores, {free} are free"));
        }
        let (bytes, free) = (order.memory_bytes, self.memory_free());
        if bytes > free {
            let (bytes, free) = (format_size(bytes), format_size(free));
            return Err(format!("it asks for {bytes} of memory, {free} are free"));
        }
        Ok(())
    }

    fn is_preparing(&self, module: ModuleHash) -> bool {
        let wants = |executor: &Executor| match &executor.phase {
            Phase::Preparing(order) => order.app.module == module,
            _ => false,
        };
        self.executors.values().any(wants)
    }

    pub(super) fn on_prepared(
        &mut self,
        now: Duration,
        module: ModuleHash,
        outcome: Result<(), String>,
        out: &mut Vec<Action>,
    ) {
        let waits = |(id, executor): (&ExecutorId, &Executor)| match &executor.phase {
            Phase::Preparing(order) if order.app.module == module => Some(*id),
            _ => None,
        };
        let waiting: Vec<_> = self.executors.iter().filter_map(waits).collect();
        for id in waiting {
            match &outcome {
                Ok(()) => self.start(now, id, out),
                Err(reason) => self.remove(id, reason.clone(), out),
            }
        }
    }

    fn start(&mut self, now: Duration, id: ExecutorId, out: &mut Vec<Action>) {
        let Some(executor) = self.executors.get_mut(&id) else {
            return;
        };
        let until = now + self.timing.launch_deadline;
        let before = std::mem::replace(&mut executor.phase, Phase::Launching { until });
        if let Phase::Preparing(order) = before {
            out.push(Action::Launch(order));
        }
    }

    pub(super) fn on_executor_ready(
        &mut self,
        id: ExecutorId,
        address: SocketAddr,
        out: &mut Vec<Action>,
    ) {
        let Some(executor) = self.executors.get_mut(&id) else {
            return;
        };
        if !matches!(executor.phase, Phase::Launching { .. }) {
            return;
        }
        executor.phase = Phase::Running { address };
        out.push(Action::Note(Note::ExecutorReady { executor: id, address }));
        self.tell(FromWorker::ExecutorReady { executor: id, address }, out);
    }

    pub(super) fn on_executor_ended(&mut self, id: ExecutorId, how: String, out: &mut Vec<Action>) {
        let Some(executor) = self.executors.get_mut(&id) else {
            return;
        };
        let reason = match &mut executor.phase {
            Phase::Ending { why, .. } => std::mem::take(why),
            _ => how,
        };
        self.remove(id, reason, out);
    }

    pub(super) fn on_kill(&mut self, now: Duration, id: ExecutorId, out: &mut Vec<Action>) {
        if self.executors.contains_key(&id) {
            return self.end(now, id, "stopped by the master", out);
        }
        // The master's books may have what is long gone.
        let reason = "it does not run on this worker".to_owned();
        self.tell(FromWorker::ExecutorGone { executor: id, reason }, out);
    }

    pub(super) fn on_forget(&mut self, now: Duration, app: AppId, out: &mut Vec<Action>) {
        for id in self.executors_of(app) {
            self.end(now, id, "its application has ended", out);
        }
        if self.executors_of(app).is_empty() {
            out.push(Action::Delete(app));
        } else {
            self.forgotten.insert(app);
        }
    }

    /// Ends an executor as its phase asks for.
    pub(super) fn end(&mut self, now: Duration, id: ExecutorId, why: &str, out: &mut Vec<Action>) {
        let Some(executor) = self.executors.get_mut(&id) else {
            return;
        };
        let why = why.to_owned();
        match executor.phase {
            Phase::Preparing(_) => self.remove(id, why, out),
            Phase::Launching { .. } | Phase::Running { .. } => {
                let kill_at = Some(now + self.timing.stop_deadline);
                executor.phase = Phase::Ending { kill_at, why };
                out.push(Action::StopExecutor(id));
            }
            Phase::Ending { .. } => {}
        }
    }

    pub(super) fn on_executor_timeouts(&mut self, now: Duration, out: &mut Vec<Action>) {
        for (id, executor) in &mut self.executors {
            if executor.phase.timeout().is_none_or(|at| at > now) {
                continue;
            }
            match &mut executor.phase {
                Phase::Launching { .. } => {
                    let seconds = self.timing.launch_deadline.as_secs_f64();
                    let why = format!("it did not listen within {seconds} s of its start");
                    executor.phase = Phase::Ending { kill_at: None, why };
                }
                Phase::Ending { kill_at, .. } => *kill_at = None,
                Phase::Preparing(_) | Phase::Running { .. } => {}
            }
            out.push(Action::KillExecutor(*id));
        }
    }

    /// Takes an executor of which nothing is left out of the books.
    fn remove(&mut self, id: ExecutorId, reason: String, out: &mut Vec<Action>) {
        self.executors.remove(&id);
        out.push(Action::Note(Note::ExecutorGone { executor: id, reason: reason.clone() }));
        self.tell(FromWorker::ExecutorGone { executor: id, reason }, out);
        if self.executors_of(id.app).is_empty() && self.forgotten.remove(&id.app) {
            out.push(Action::Delete(id.app));
        }
        self.finish_if_empty(out);
    }

    fn executors_of(&self, app: AppId) -> Vec<ExecutorId> {
        let ids = self.executors.keys().copied();
        ids.filter(|id| id.app == app).collect()
    }
}
