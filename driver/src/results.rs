//! Results of one job between their arrival and the guest's question: a pure state machine.
//!
//! Results stay in the host until the guest asks, in the order that the job asks for, and count
//! against `max-result-size` before they are copied anywhere.

use offshoot_proto::abi::{RESULT_PIECE_HEADER_BYTES, ResultOrder};
use offshoot_proto::id::{AttemptId, ExecutorId, Partition};
use std::collections::{BTreeMap, VecDeque};

/// The results of a job.
#[derive(Debug)]
pub(crate) struct Results {
    /// What the guest gets next: in partition order known from the start, else as they arrive.
    order: VecDeque<Partition>,
    by_arrival: bool,
    entries: BTreeMap<Partition, Entry>,
    /// How much of the first result the guest has.
    handed: usize,
    /// Of all results so far, handed out or not: whether a job may have them depends on nobody's
    /// speed.
    bytes: u64,
    limit: u64,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Here.
    Here(Vec<u8>),
    /// With an executor.
    Held {
        /// Which.
        executor: ExecutorId,
        /// In which attempt it was computed.
        attempt: AttemptId,
        /// Length in bytes.
        length: u64,
    },
    /// On its way, or computed again.
    Coming {
        /// Who sends it, and what it is called there.
        from: Option<(ExecutorId, AttemptId)>,
        /// Length in bytes.
        length: u64,
    },
}

/// What the guest can have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// These pieces.
    Pieces(Vec<u8>),
    /// Nothing until this one was fetched.
    Fetch(Partition, ExecutorId, AttemptId, u64),
    /// Nothing yet.
    Wait,
    /// Everything has been handed out.
    End,
}

/// Results that are more than the driver may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) bytes: u64,
    pub(crate) limit: u64,
}

// === impl Results ===

impl Results {
    pub(crate) fn new(order: ResultOrder, partitions: Vec<Partition>, limit: u64) -> Self {
        let by_arrival = order == ResultOrder::Arrival;
        let order = if by_arrival { VecDeque::new() } else { partitions.into() };
        Self { order, by_arrival, entries: BTreeMap::new(), handed: 0, bytes: 0, limit }
    }

    /// A partition is ready. One that was ready before, and lost, is ready again.
    pub(crate) fn add(&mut self, partition: Partition, entry: Entry) -> Result<(), TooLarge> {
        let length = entry.length();
        let known = self.entries.insert(partition, entry);
        self.bytes = self.bytes + length - known.as_ref().map_or(0, Entry::length);
        if known.is_none() && self.by_arrival {
            self.order.push_back(partition);
        }
        if self.bytes > self.limit {
            return Err(TooLarge { bytes: self.bytes, limit: self.limit });
        }
        Ok(())
    }

    /// A held result has come.
    pub(crate) fn fetched(&mut self, partition: Partition, bytes: Vec<u8>) {
        self.entries.insert(partition, Entry::Here(bytes));
    }

    /// A held result is not to be had: it will be added again.
    pub(crate) fn lost(&mut self, partition: Partition) {
        if let Some(entry) = self.entries.get_mut(&partition) {
            *entry = Entry::Coming { from: None, length: entry.length() };
        }
    }

    /// Whether an executor has a result that is not here.
    pub(crate) fn is_held_by(&self, id: ExecutorId) -> bool {
        let by = |entry: &Entry| matches!(entry, Entry::Held { executor, .. } if *executor == id);
        self.entries.values().any(by) || self.coming_from(id).next().is_some()
    }

    /// What is on its way from an executor.
    pub(crate) fn coming_from(&self, id: ExecutorId) -> impl Iterator<Item = AttemptId> {
        self.entries.values().filter_map(move |entry| match entry {
            Entry::Coming { from: Some((executor, attempt)), .. } if *executor == id => {
                Some(*attempt)
            }
            _ => None,
        })
    }

    /// What an executor has, which is to be fetched from now on though nobody has asked for it: a
    /// partition, its attempt and its length each.
    pub(crate) fn take_held(&mut self, id: ExecutorId) -> Vec<(Partition, AttemptId, u64)> {
        let mut taken = Vec::new();
        for (partition, entry) in &mut self.entries {
            if let Entry::Held { executor, attempt, length } = *entry
                && executor == id
            {
                taken.push((*partition, attempt, length));
                *entry = Entry::Coming { from: Some((id, attempt)), length };
            }
        }
        taken
    }

    /// Whether all that was added has been handed out.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.order.is_empty()
    }

    /// The next pieces, at most `capacity` bytes of them; `complete` if no more will be added.
    pub(crate) fn next(&mut self, capacity: usize, complete: bool) -> Next {
        let mut out = Vec::new();
        while let Some(&partition) = self.order.front() {
            let room = capacity.saturating_sub(out.len() + RESULT_PIECE_HEADER_BYTES);
            match self.entries.get_mut(&partition) {
                Some(Entry::Here(bytes)) => {
                    let rest = &bytes[self.handed..];
                    let count = rest.len().min(room);
                    let fits = out.len() + RESULT_PIECE_HEADER_BYTES <= capacity;
                    if !fits || count == 0 && !rest.is_empty() {
                        break;
                    }
                    for number in
                        [partition.0, bytes.len() as u32, self.handed as u32, count as u32]
                    {
                        out.extend_from_slice(&number.to_le_bytes());
                    }
                    out.extend_from_slice(&rest[..count]);
                    self.handed += count;
                    if self.handed < bytes.len() {
                        break;
                    }
                    self.entries.remove(&partition);
                    self.order.pop_front();
                    self.handed = 0;
                }
                Some(entry @ Entry::Held { .. }) if out.is_empty() => {
                    let Entry::Held { executor, attempt, length } = *entry else {
                        break;
                    };
                    *entry = Entry::Coming { from: Some((executor, attempt)), length };
                    return Next::Fetch(partition, executor, attempt, length);
                }
                _ => break,
            }
        }
        if !out.is_empty() {
            Next::Pieces(out)
        } else if self.order.is_empty() && (complete || !self.by_arrival) {
            Next::End
        } else {
            Next::Wait
        }
    }
}

// === impl Entry ===

impl Entry {
    fn length(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Held { length, .. } | Self::Coming { length, .. } => *length,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn here(bytes: &[u8]) -> Entry {
        Entry::Here(bytes.to_vec())
    }

    fn piece(partition: u32, total: u32, offset: u32, bytes: &[u8]) -> Vec<u8> {
        let numbers = [partition, total, offset, bytes.len() as u32];
        let mut out: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn results_come_in_the_order_of_partitions() {
        let order = vec![Partition(2), Partition(0)];
        let mut results = Results::new(ResultOrder::Partition, order, 100);
        results.add(Partition(0), here(b"zero")).unwrap();
        assert_eq!(results.next(100, false), Next::Wait);
        results.add(Partition(2), here(b"")).unwrap();
        let expected = [piece(2, 0, 0, b""), piece(0, 4, 0, b"zero")].concat();
        assert_eq!(results.next(100, false), Next::Pieces(expected));
        assert_eq!(results.next(100, true), Next::End);
    }

    #[test]
    fn a_large_result_comes_in_pieces() {
        let mut results = Results::new(ResultOrder::Arrival, vec![], 100);
        results.add(Partition(7), here(b"abcdef")).unwrap();
        assert_eq!(results.next(20, false), Next::Pieces(piece(7, 6, 0, b"abcd")));
        assert_eq!(results.next(20, false), Next::Pieces(piece(7, 6, 4, b"ef")));
        assert_eq!(results.next(20, false), Next::Wait);
        assert_eq!(results.next(20, true), Next::End);
    }

    #[test]
    fn a_held_result_is_fetched_when_it_is_due_and_may_be_lost() {
        let app = offshoot_proto::id::AppId(1);
        let executor = ExecutorId { app, number: offshoot_proto::id::ExecutorNumber(0) };
        let held = |n| Entry::Held { executor, attempt: AttemptId(n), length: 50 };
        let mut results = Results::new(ResultOrder::Arrival, vec![], 60);
        results.add(Partition(1), held(3)).unwrap();
        let fetch = |n| Next::Fetch(Partition(1), executor, AttemptId(n), 50);
        assert_eq!(results.next(100, false), fetch(3));
        assert_eq!(results.next(100, false), Next::Wait);
        assert!(results.is_held_by(executor), "it is on its way");
        results.lost(Partition(1));
        assert!(!results.is_held_by(executor));
        results.add(Partition(1), held(4)).unwrap();
        assert_eq!(results.next(100, false), fetch(4));
        results.fetched(Partition(1), vec![1; 50]);
        assert!(matches!(results.next(100, false), Next::Pieces(_)));
        assert_eq!(results.next(100, true), Next::End);
    }

    #[test]
    fn what_an_executor_has_may_be_fetched_before_it_is_due() {
        let app = offshoot_proto::id::AppId(1);
        let executor = |n| ExecutorId { app, number: offshoot_proto::id::ExecutorNumber(n) };
        let held = |n| Entry::Held { executor: executor(n), attempt: AttemptId(4), length: 5 };
        let mut results = Results::new(ResultOrder::Arrival, vec![], 60);
        results.add(Partition(1), held(0)).unwrap();
        results.add(Partition(2), held(1)).unwrap();
        assert_eq!(results.take_held(executor(0)), [(Partition(1), AttemptId(4), 5)]);
        assert_eq!(results.take_held(executor(0)), []);
        assert_eq!(results.next(100, false), Next::Wait);
        assert!(results.is_held_by(executor(0)), "what is on its way is there only");
        assert_eq!(results.coming_from(executor(0)).collect::<Vec<_>>(), [AttemptId(4)]);
        results.fetched(Partition(1), vec![1; 5]);
        assert!(!results.is_held_by(executor(0)) && results.is_held_by(executor(1)));
        assert!(matches!(results.next(100, false), Next::Pieces(_)));
    }

    #[test]
    fn more_than_the_limit_is_refused_before_it_is_fetched() {
        let app = offshoot_proto::id::AppId(1);
        let executor = ExecutorId { app, number: offshoot_proto::id::ExecutorNumber(0) };
        let held = Entry::Held { executor, attempt: AttemptId(1), length: 50 };
        let mut results = Results::new(ResultOrder::Arrival, vec![], 60);
        results.add(Partition(0), here(&[0; 20])).unwrap();
        let error = results.add(Partition(1), held).unwrap_err();
        assert_eq!(error, TooLarge { bytes: 70, limit: 60 });
    }

    #[test]
    fn what_was_handed_out_still_counts() {
        let mut results = Results::new(ResultOrder::Arrival, vec![], 60);
        results.add(Partition(0), here(&[0; 40])).unwrap();
        assert!(matches!(results.next(100, false), Next::Pieces(_)));
        let error = results.add(Partition(1), here(&[0; 40])).unwrap_err();
        assert_eq!(error, TooLarge { bytes: 80, limit: 60 });
    }
}
