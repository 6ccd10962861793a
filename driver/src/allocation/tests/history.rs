//! Random histories: whatever happens, the bounds hold and nothing is lost.

use super::super::{Action, Event};
use super::{Env, request};
use offshoot_proto::id::{AppId, ExecutorId, ExecutorNumber};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Work(u64),
    Wait(u64),
    /// The master grants up to so many of those that are wanted.
    Grant(u32, u32),
    Toggle(u32),
    Lose(u32),
    GiveBack(Vec<u32>),
    Keep(u32),
    Master(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..200u64).prop_map(Step::Work),
        Just(Step::Work(0)),
        (1..400u64).prop_map(Step::Wait),
        (1..20_000u64).prop_map(Step::Wait),
        (1..9u32, 1..5u32).prop_map(|(count, cores)| Step::Grant(count, cores)),
        (0..30u32).prop_map(Step::Toggle),
        (0..30u32).prop_map(Step::Lose),
        proptest::collection::vec(0..30u32, 0..4).prop_map(Step::GiveBack),
        (0..30u32).prop_map(Step::Keep),
        (1..3u64).prop_map(Step::Master),
    ]
}

/// The world around the machine: what a history has made so far.
struct History {
    env: Env,
    min: u32,
    max: u32,
    wanted: u32,
    next: u32,
    /// Executors that are held and whether they are busy.
    held: BTreeMap<ExecutorId, bool>,
    retiring: BTreeSet<ExecutorId>,
    named: BTreeSet<ExecutorId>,
    app: AppId,
}

// === impl History ===

impl History {
    fn new(min: u32, max: u32, sized: bool) -> Self {
        let pairs = [format!("min-executors={min}"), format!("max-executors={max}")];
        let pairs = pairs.iter().map(String::as_str).collect::<Vec<_>>();
        let env = Env::with(&pairs, request(sized.then_some(1), None));
        let (next, wanted, app) = (0, min, AppId(1));
        let (held, retiring, named) = Default::default();
        Self { env, min, max, wanted, next, held, retiring, named, app }
    }

    fn nth(&self, index: u32) -> Option<ExecutorId> {
        let index = (index as usize).checked_rem(self.held.len())?;
        self.held.keys().nth(index).copied()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Work(work) => self.tell(Event::Work(work)),
            Step::Wait(millis) => {
                let end = self.env.now + Duration::from_millis(millis);
                self.wait(end);
            }
            Step::Grant(count, cores) => {
                let own = self.held.keys().filter(|id| id.app == self.app).count() as u32;
                for _ in 0..count.min(self.wanted.saturating_sub(own)) {
                    let executor = ExecutorId { app: self.app, number: ExecutorNumber(self.next) };
                    self.next += 1;
                    self.held.insert(executor, false);
                    self.tell(Event::Added { executor, cores });
                }
            }
            Step::Toggle(index) => {
                let Some(id) = self.nth(index) else { return };
                let busy = !self.held[&id];
                // Who is to go is given nothing.
                if busy && self.retiring.contains(&id) {
                    return;
                }
                self.held.insert(id, busy);
                self.tell(if busy { Event::Busy(id) } else { Event::Idle(id) });
                self.end_retired();
            }
            Step::Lose(index) => {
                if let Some(id) = self.nth(index) {
                    self.gone(id);
                }
            }
            Step::GiveBack(indices) => {
                let named = indices.iter().filter_map(|index| self.nth(*index));
                self.named = named.collect();
                self.tell(Event::GiveBack(self.named.iter().copied().collect()));
                self.end_retired();
            }
            Step::Keep(index) => {
                if let Some(id) = self.nth(index) {
                    self.env.keeping.insert(id);
                }
            }
            Step::Master(app) => {
                self.app = AppId(app);
                self.tell(Event::Master(self.app));
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let decided = self.env.handle(event);
        decided.into_iter().for_each(|action| self.act(action));
        let target = self.env.allocation.target().unwrap();
        assert!((self.min..=self.max).contains(&target), "{target}");
    }

    fn wait(&mut self, end: Duration) {
        while let Some(due) = self.env.allocation.next_timeout().filter(|due| *due <= end) {
            for (_, action) in self.env.until(due) {
                self.act(action);
            }
            self.end_retired();
        }
        self.env.now = end;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Target(target) => {
                assert!(target <= self.max);
                self.wanted = target;
            }
            Action::Retire(id) => {
                assert!(self.held.contains_key(&id) && self.retiring.insert(id), "{id}");
                if !self.named.contains(&id) {
                    assert!(!self.held[&id], "{id} is busy and nobody asked for it");
                    assert!(!self.env.keeping.contains(&id), "{id} has what is not elsewhere");
                }
            }
            Action::Unretire(id) => assert!(self.retiring.remove(&id), "{id}"),
        }
    }

    /// As the scheduler does: who is to go and has nothing to do is gone.
    fn end_retired(&mut self) {
        let retiring = self.retiring.iter().filter(|id| !self.held[*id]);
        for id in retiring.copied().collect::<Vec<_>>() {
            self.gone(id);
        }
    }

    fn gone(&mut self, id: ExecutorId) {
        self.held.remove(&id);
        self.retiring.remove(&id);
        self.env.keeping.remove(&id);
        self.tell(Event::Gone(id));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_the_bounds_hold_and_an_idle_application_ends_at_the_minimum(
        steps in proptest::collection::vec(step(), 1..60),
        min in 0..4u32,
        more in 1..9u32,
        sized in any::<bool>(),
    ) {
        let mut history = History::new(min, min + more, sized);
        for step in steps {
            history.step(step);
        }
        history.env.keeping.clear();
        history.step(Step::GiveBack(vec![]));
        history.step(Step::Work(0));
        for id in history.held.keys().copied().collect::<Vec<_>>() {
            if history.held.insert(id, false) == Some(true) {
                history.tell(Event::Idle(id));
            }
        }
        history.end_retired();
        history.step(Step::Wait(60_000));
        prop_assert_eq!(history.env.allocation.target(), Some(min));
        prop_assert!(history.held.len() as u32 <= min);
        prop_assert_eq!(history.env.allocation.next_timeout(), None);
    }
}
