//! What executors say.

use super::Core;
use crate::allocation;
use crate::executors::ExecutorEvent;
use crate::scheduler::Event;
use offshoot_proto::executor::FromExecutor;
use offshoot_proto::id::ExecutorId;

// === impl Core ===

impl Core {
    pub(super) fn on_executor(&mut self, executor: ExecutorId, event: ExecutorEvent) {
        match event {
            ExecutorEvent::Ready { slots, door } => {
                let Some(link) = self.executors.get_mut(&executor) else {
                    return;
                };
                link.ready = true;
                let network = self.cluster.as_ref().map(|cluster| &cluster.network);
                link.door = door.filter(|_| network.is_some_and(|n| n.has_local_sockets()));
                let worker = link.info.worker.clone();
                let (address, worker_address) = (link.info.address, link.info.worker_address);
                self.settle_drops(executor);
                self.handle(Event::ExecutorAdded {
                    executor,
                    address,
                    worker,
                    worker_address,
                    slots,
                });
                self.answer_parallelism();
            }
            ExecutorEvent::Frame(FromExecutor::Reports(reports)) => {
                self.note_uploads(&reports);
                self.handle(Event::Reports { executor, reports });
            }
            ExecutorEvent::Frame(FromExecutor::Recalled(attempts)) => {
                self.handle(Event::Recalled { executor, attempts });
            }
            ExecutorEvent::Frame(FromExecutor::Kept(blocks)) => {
                self.handle(Event::Kept { executor, blocks });
            }
            ExecutorEvent::Frame(FromExecutor::Log { text }) => self.observer.notice(&text),
            ExecutorEvent::Frame(FromExecutor::Ready { .. } | FromExecutor::Heartbeat) => {}
            ExecutorEvent::Lost(reason) => self.lose(executor, &reason),
        }
    }

    /// An executor is gone, whoever says so first.
    pub(super) fn lose(&mut self, executor: ExecutorId, reason: &str) {
        let Some(link) = self.executors.remove(&executor) else {
            return;
        };
        self.observer.notice(&format!("executor {executor} is gone: {reason}"));
        self.tell_allocation(allocation::Event::Gone(executor));
        let worker = link.info.worker;
        if link.ready {
            self.note_lost(worker.clone());
            self.handle(Event::ExecutorLost(executor));
        }
        self.say_drained(&worker);
    }
}
