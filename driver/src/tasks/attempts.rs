//! The attempts that have been sent and not ended, by id.
//!
//! Ids count up from 0, so the live ones are a window over the sequence: a look-up is an index.
//! A few attempts that outlive thousands of others would keep the window open for ever; they move
//! to a map, once each, so that memory follows the attempts in flight and not the sequence.

use offshoot_proto::id::{AttemptId, ExecutorId, StageRunId};
use std::collections::{BTreeMap, VecDeque};

/// Ended entries that the window may hold besides three for each live one.
const WINDOW_SLACK: usize = 1024;

/// One attempt in flight.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// The set that its task belongs to.
    pub(super) stage: StageRunId,
    /// The run that it was sent under.
    pub(super) run: StageRunId,
    /// Index of its task in the set.
    pub(super) task: u32,
    pub(super) standing: Standing,
    /// To whom it was sent.
    pub(super) executor: ExecutorId,
    /// How long it was thought to take when it was sent: what it adds to its executor's load.
    pub(super) estimate_nanos: u64,
}

/// What is known of whether an attempt has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing.
    Sent,
    /// It has been recalled and the answer is not here yet.
    Asked,
    /// It was recalled and not given back.
    Started,
}

/// The attempts in flight.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Id of the first entry of `window`.
    first: u64,
    window: VecDeque<Option<Attempt>>,
    /// Live attempts with ids below `first`.
    old: BTreeMap<u64, Attempt>,
    live: usize,
}

// === impl Attempts ===

impl Attempts {
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Adds an attempt under a new id.
    pub(super) fn insert(&mut self, attempt: Attempt) -> AttemptId {
        if self.window.len() > WINDOW_SLACK + 4 * self.live {
            self.narrow();
        }
        let id = self.first + self.window.len() as u64;
        self.window.push_back(Some(attempt));
        self.live += 1;
        AttemptId(id)
    }

    pub(super) fn find(&self, id: AttemptId) -> Option<&Attempt> {
        match self.offset(id) {
            Some(offset) => self.window.get(offset)?.as_ref(),
            None => self.old.get(&id.0),
        }
    }

    pub(super) fn find_mut(&mut self, id: AttemptId) -> Option<&mut Attempt> {
        match self.offset(id) {
            Some(offset) => self.window.get_mut(offset)?.as_mut(),
            None => self.old.get_mut(&id.0),
        }
    }

    pub(super) fn remove(&mut self, id: AttemptId) -> Option<Attempt> {
        let removed = match self.offset(id) {
            Some(offset) => self.window.get_mut(offset)?.take(),
            None => self.old.remove(&id.0),
        }?;
        self.live -= 1;
        while let Some(None) = self.window.front() {
            self.window.pop_front();
            self.first += 1;
        }
        Some(removed)
    }

    /// Removes an attempt if it was sent to this executor.
    pub(super) fn remove_from(&mut self, id: AttemptId, executor: ExecutorId) -> Option<Attempt> {
        self.find(id).filter(|attempt| attempt.executor == executor)?;
        self.remove(id)
    }

    /// All of them, in order of id. What is always to hold is checked with it.
    #[cfg(debug_assertions)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (AttemptId, &Attempt)> {
        let old = self.old.iter().map(|(id, attempt)| (*id, attempt));
        let window = (self.first..).zip(&self.window);
        let window = window.filter_map(|(id, entry)| Some((id, entry.as_ref()?)));
        old.chain(window).map(|(id, entry)| (AttemptId(id), entry))
    }

    /// Entries that take up memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.window.capacity() + self.old.len()
    }

    /// Index into the window, unless the id is below it.
    fn offset(&self, id: AttemptId) -> Option<usize> {
        let offset = id.0.checked_sub(self.first)?;
        Some(usize::try_from(offset).unwrap_or(usize::MAX))
    }

    fn narrow(&mut self) {
        let half = self.window.len() / 2;
        for entry in self.window.drain(..half) {
            if let Some(attempt) = entry {
                self.old.insert(self.first, attempt);
            }
            self.first += 1;
        }
    }
}
