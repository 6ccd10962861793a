//! Any events in any order: whatever starts also ends, and the books stay true.

use super::env::{Env, module};
use crate::launch::test_support::{executor, order};
use crate::worker::node::{Action, Event, SessionId};
use offshoot_proto::cluster::{LaunchExecutor, ToWorker};
use offshoot_proto::id::{AppId, Epoch, ExecutorId};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Step {
    Timeout,
    Connected,
    Disconnected,
    Master(ToWorker),
    Prepared { module: u8, works: bool },
    Ready(ExecutorId),
    Ended(ExecutorId),
}

fn executors() -> impl Strategy<Value = ExecutorId> {
    (1..3_u64, 0..3_u32).prop_map(|(app, number)| executor(app, number))
}

fn messages() -> impl Strategy<Value = ToWorker> {
    let launch = (executors(), 0..4_u32).prop_map(|(id, cores)| {
        let order = order(id, id.app.0 as u8);
        ToWorker::Launch(Box::new(LaunchExecutor { cores, ..order }))
    });
    prop_oneof![
        2 => (1..4_u64).prop_map(|epoch| ToWorker::Registered { epoch: Epoch(epoch) }),
        1 => Just(ToWorker::Heartbeat),
        4 => launch,
        1 => executors().prop_map(ToWorker::Kill),
        1 => (1..3_u64).prop_map(|app| ToWorker::Forget(AppId(app))),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Timeout),
        2 => Just(Step::Connected),
        1 => Just(Step::Disconnected),
        8 => messages().prop_map(Step::Master),
        3 => (1..3_u8, any::<bool>())
            .prop_map(|(module, works)| Step::Prepared { module, works }),
        2 => executors().prop_map(Step::Ready),
        2 => executors().prop_map(Step::Ended),
    ]
}

/// The world around a node: which executors have been started and not ended.
#[derive(Default)]
struct World {
    started: BTreeSet<ExecutorId>,
    exits: usize,
}

impl World {
    fn watch(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Launch(order) => {
                    assert!(self.started.insert(order.executor), "launched twice");
                }
                Action::StopExecutor(id) | Action::KillExecutor(id) => {
                    assert!(self.started.contains(id), "{id} was never started");
                }
                Action::Delete(app) => {
                    let lives = self.started.iter().any(|id| id.app == *app);
                    assert!(!lives, "files of {app} are deleted under its executors");
                }
                Action::Exit { .. } => self.exits += 1,
                _ => {}
            }
        }
    }

    fn run(&mut self, env: &mut Env, step: Step) {
        let session = env.node.session().unwrap_or(SessionId(0));
        let event = match step {
            Step::Timeout => {
                if env.node.next_timeout().is_some() {
                    let actions = env.timeout();
                    self.watch(&actions);
                }
                return;
            }
            Step::Connected => Event::Connected { session },
            Step::Disconnected => {
                Event::Disconnected { session, reason: String::new(), hopeless: false }
            }
            Step::Master(message) => Event::FromMaster { session, message },
            Step::Prepared { module: number, works } => Event::Prepared {
                module: module(number),
                outcome: works.then_some(()).ok_or_else(|| "no".to_owned()),
            },
            Step::Ready(executor) if self.started.contains(&executor) => {
                Event::ExecutorReady { executor, address: super::env::address(1) }
            }
            Step::Ended(executor) if self.started.remove(&executor) => {
                Event::ExecutorEnded { executor, how: String::new() }
            }
            Step::Ready(_) | Step::Ended(_) => return,
        };
        let actions = env.event(event);
        self.watch(&actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_started_twice_or_left_behind(steps in prop::collection::vec(steps(), 0..120)) {
        let (mut env, mut world) = (Env::new(), World::default());
        for step in steps {
            world.run(&mut env, step);
        }
        let stopped = env.event(Event::Stop);
        world.watch(&stopped);
        while let Some(id) = world.started.first().copied() {
            world.run(&mut env, Step::Ended(id));
        }
        prop_assert_eq!(world.exits, 1);
        prop_assert_eq!(env.node.next_timeout(), None);
    }
}
