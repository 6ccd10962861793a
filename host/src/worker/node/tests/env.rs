//! A node with a clock of its own.

use crate::launch::test_support::{executor, order};
use crate::worker::node::{Action, Event, Node, Note, SessionId, Timing};
use offshoot_proto::cluster::{FromWorker, HeldExecutor, ToWorker, WorkerInfo};
use offshoot_proto::id::{Epoch, ExecutorId, ModuleHash, WorkerId};
use std::net::SocketAddr;
use std::time::Duration;

/// Pauses are exact here: half of an even number, plus at most as much.
pub(super) const TIMING: Timing = Timing {
    heartbeat: Duration::from_secs(1),
    master_lease: Duration::from_secs(8),
    pause_min: Duration::from_millis(500),
    pause_max: Duration::from_secs(4),
    launch_deadline: Duration::from_secs(30),
    stop_deadline: Duration::from_secs(5),
    renewal_retry: Duration::from_secs(60),
};

pub(super) struct Env {
    pub(super) node: Node,
    pub(super) now: Duration,
}

pub(super) fn offer() -> WorkerInfo {
    WorkerInfo {
        id: WorkerId("w1".to_owned()),
        address: "10.0.0.1:4000".parse().unwrap(),
        cores: 4,
        memory_bytes: 1 << 30,
        executors: vec![],
    }
}

pub(super) fn address(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

pub(super) fn module(number: u8) -> ModuleHash {
    ModuleHash([number; 32])
}

pub(super) fn held(id: ExecutorId, address: Option<SocketAddr>) -> HeldExecutor {
    HeldExecutor { id, cores: 1, memory_bytes: 100 << 20, address }
}

pub(super) fn gone(executor: ExecutorId, reason: &str) -> [Action; 2] {
    let reason = || reason.to_owned();
    let note = Note::ExecutorGone { executor, reason: reason() };
    let message = FromWorker::ExecutorGone { executor, reason: reason() };
    [Action::Note(note), Action::Send(message)]
}

pub(super) fn launch(executor: ExecutorId) -> Action {
    Action::Launch(Box::new(order(executor, 7)))
}

// === impl Env ===

impl Env {
    pub(super) fn new() -> Self {
        let renew_in = Duration::from_secs(16 * 60 * 60);
        Self { node: Node::new(offer(), TIMING, renew_in, 1), now: Duration::ZERO }
    }

    /// One that is registered with a master of epoch 1, over session 1.
    pub(super) fn registered() -> Self {
        let mut env = Self::new();
        env.timeout();
        env.connected(1);
        env.master(1, ToWorker::Registered { epoch: Epoch(1) });
        env
    }

    /// A registered one, with executor `app-1/0` listening on port 5000.
    pub(super) fn running() -> Self {
        let mut env = Self::registered();
        env.launched(executor(1, 0));
        env.ready(executor(1, 0), 5000);
        env
    }

    pub(super) fn event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = vec![];
        self.node.handle(self.now, event, &mut actions);
        actions
    }

    pub(super) fn connected(&mut self, session: u64) -> Vec<Action> {
        let session = SessionId(session);
        self.event(Event::Connected { session })
    }

    pub(super) fn disconnected(&mut self, session: u64) -> Vec<Action> {
        self.event(Event::Disconnected {
            session: SessionId(session),
            reason: "gone".to_owned(),
            hopeless: false,
        })
    }

    pub(super) fn master(&mut self, session: u64, message: ToWorker) -> Vec<Action> {
        let session = SessionId(session);
        self.event(Event::FromMaster { session, message })
    }

    pub(super) fn order(&mut self, executor: ExecutorId) -> Vec<Action> {
        let order = Box::new(order(executor, 7));
        self.master(1, ToWorker::Launch(order))
    }

    pub(super) fn prepared(&mut self) -> Vec<Action> {
        self.event(Event::Prepared { module: module(7), outcome: Ok(()) })
    }

    /// Orders an executor and brings it as far as its launch.
    pub(super) fn launched(&mut self, executor: ExecutorId) {
        self.order(executor);
        assert_eq!(self.prepared(), [launch(executor)]);
    }

    pub(super) fn ready(&mut self, executor: ExecutorId, port: u16) -> Vec<Action> {
        let address = address(port);
        self.event(Event::ExecutorReady { executor, address })
    }

    pub(super) fn ended(&mut self, executor: ExecutorId, how: &str) -> Vec<Action> {
        let how = how.to_owned();
        self.event(Event::ExecutorEnded { executor, how })
    }

    /// Goes on to the next timeout.
    pub(super) fn timeout(&mut self) -> Vec<Action> {
        self.now = self.node.next_timeout().unwrap().max(self.now);
        let mut actions = vec![];
        self.node.handle_timeout(self.now, &mut actions);
        actions
    }

    /// Every action until `end`, that included.
    pub(super) fn until(&mut self, end: Duration) -> Vec<Action> {
        let mut actions = vec![];
        while self.node.next_timeout().is_some_and(|at| at <= end) {
            actions.extend(self.timeout());
        }
        self.now = end;
        actions
    }
}
