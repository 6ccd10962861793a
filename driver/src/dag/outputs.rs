//! What a stage has computed so far: by partition, the accepted attempt and the first digest.

use super::places::PlaceIndex;
use offshoot_proto::id::{AttemptId, Partition};

/// The outputs of one stage in one snapshot.
#[derive(Debug)]
pub(super) struct Outputs {
    /// Which partitions are wanted; `None` for all.
    wanted: Option<Wanted>,
    slots: Vec<Slot>,
    missing: u32,
}

/// Some partitions of a node.
#[derive(Debug)]
struct Wanted {
    /// In the order in which they were asked for.
    order: Vec<Partition>,
    /// Each with its index in `order`, sorted.
    sorted: Vec<(Partition, u32)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    output: Option<Output>,
    /// Digest of the first attempt that was ever accepted, and its machine. Outlives the output.
    first: Option<(u32, u32)>,
}

/// An accepted attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) attempt: AttemptId,
    pub(super) place: PlaceIndex,
    /// Where there is a second copy.
    pub(super) copy: Option<PlaceIndex>,
}

/// What became of an attempt's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    New {
        /// Whether no attempt of this partition was ever accepted before.
        first: bool,
    },
    /// There is one, or the partition is not of this stage.
    Unwanted,
    /// Another attempt gave other bytes, on this machine.
    Differs { place: PlaceIndex },
}

/// What the loss of a place takes from a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Nothing,
    /// One of two copies.
    Copy,
    /// The only one.
    Output,
}

// === impl Output ===

impl Output {
    /// Where it is, once or twice.
    pub(super) fn places(self) -> impl Iterator<Item = PlaceIndex> {
        [Some(self.place), self.copy].into_iter().flatten()
    }
}

// === impl Slot ===

impl Slot {
    fn lose(&mut self, place: PlaceIndex) -> Loss {
        let Some(output) = &mut self.output else {
            return Loss::Nothing;
        };
        match output.copy {
            Some(copy) if copy == place => output.copy = None,
            Some(copy) if output.place == place => {
                (output.place, output.copy) = (copy, None);
            }
            None if output.place == place => {
                self.output = None;
                return Loss::Output;
            }
            _ => return Loss::Nothing,
        }
        Loss::Copy
    }
}

// === impl Outputs ===

impl Outputs {
    /// Nothing computed yet. `partitions` has no repetition; empty means all of `total`.
    pub(super) fn new(total: u32, partitions: &[Partition]) -> Self {
        let wanted = (!partitions.is_empty()).then(|| {
            let mut sorted = partitions.iter().copied().zip(0..).collect::<Vec<_>>();
            sorted.sort_unstable();
            Wanted { order: partitions.to_vec(), sorted }
        });
        let count = wanted.as_ref().map_or(total, |w| w.order.len() as u32);
        Self { wanted, slots: vec![Slot::default(); count as usize], missing: count }
    }

    pub(super) fn total(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn done(&self) -> u32 {
        self.total() - self.missing
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Partitions that are not there, in the order in which they were asked for.
    pub(super) fn missing(&self) -> Vec<Partition> {
        let slots = self.slots.iter().enumerate();
        slots
            .filter(|(_, slot)| slot.output.is_none())
            .map(|(index, _)| match &self.wanted {
                Some(wanted) => wanted.order[index],
                None => Partition(index as u32),
            })
            .collect()
    }

    /// Outputs in order of partition, of a stage that wants all and has all.
    pub(super) fn complete(&self) -> impl Iterator<Item = Output> {
        debug_assert!(self.is_complete() && self.wanted.is_none());
        self.slots.iter().filter_map(|slot| slot.output)
    }

    /// An attempt has ended, with its output in this place of this machine.
    pub(super) fn accept(
        &mut self,
        partition: Partition,
        attempt: AttemptId,
        (place, machine): (PlaceIndex, PlaceIndex),
        digest: u32,
    ) -> Accepted {
        let Some(slot) = self.slot(partition) else {
            return Accepted::Unwanted;
        };
        let is_first = slot.first.is_none();
        let (first, first_place) = *slot.first.get_or_insert((digest, machine.0));
        if first != digest {
            let place = PlaceIndex(first_place);
            return Accepted::Differs { place };
        }
        if slot.output.is_some() {
            return Accepted::Unwanted;
        }
        slot.output = Some(Output { attempt, place, copy: None });
        self.missing -= 1;
        Accepted::New { first: is_first }
    }

    /// What is there of a partition of a stage that wants all.
    pub(super) fn find(&self, partition: Partition) -> Option<Output> {
        debug_assert!(self.wanted.is_none());
        self.slots.get(partition.0 as usize).and_then(|slot| slot.output)
    }

    /// Outputs of a stage that wants all, of which there is one copy.
    pub(super) fn without_copy(&self) -> impl Iterator<Item = (Partition, Output)> {
        self.present().filter(|(_, output)| output.copy.is_none())
    }

    /// All that is there, of a stage that wants all.
    pub(super) fn present(&self) -> impl Iterator<Item = (Partition, Output)> {
        let outputs = (0..).map(Partition).zip(&self.slots);
        outputs.filter_map(|(partition, slot)| Some((partition, slot.output?)))
    }

    /// Has the better one of two copies read first; what is there then.
    pub(super) fn prefer(
        &mut self,
        partition: Partition,
        is_worse: impl Fn(PlaceIndex) -> bool,
    ) -> Option<Output> {
        let output = self.slot(partition)?.output.as_mut()?;
        if let Some(copy) = output.copy
            && is_worse(output.place)
            && !is_worse(copy)
        {
            (output.place, output.copy) = (copy, Some(output.place));
        }
        Some(*output)
    }

    /// Notes that what an attempt computed is in this place, too.
    pub(super) fn add_copy(&mut self, partition: Partition, attempt: AttemptId, place: PlaceIndex) {
        let output = self.slot(partition).and_then(|slot| slot.output.as_mut());
        if let Some(output) = output.filter(|o| o.attempt == attempt && o.place != place) {
            output.copy = Some(place);
        }
    }

    /// Notes that what an attempt left in one place is in another now, or a copy of it is.
    pub(super) fn move_to(
        &mut self,
        partition: Partition,
        attempt: AttemptId,
        from: PlaceIndex,
        to: PlaceIndex,
    ) {
        let output = self.slot(partition).and_then(|slot| slot.output.as_mut());
        let Some(output) = output.filter(|output| output.attempt == attempt) else {
            return;
        };
        if output.place == from {
            output.place = to;
            output.copy.take_if(|copy| *copy == to);
        } else {
            output.copy = Some(to).filter(|to| *to != output.place);
        }
    }

    /// Removes an output if it is of this attempt; whether it was.
    pub(super) fn lose(&mut self, partition: Partition, attempt: AttemptId) -> bool {
        let slot = self.slot(partition);
        let lost = slot.and_then(|slot| slot.output.take_if(|o| o.attempt == attempt));
        self.missing += u32::from(lost.is_some());
        lost.is_some()
    }

    /// Removes what an attempt left in one place.
    pub(super) fn lose_at(
        &mut self,
        partition: Partition,
        attempt: AttemptId,
        place: PlaceIndex,
    ) -> Loss {
        let Some(slot) = self.slot(partition) else {
            return Loss::Nothing;
        };
        let loss = match slot.output {
            Some(output) if output.attempt == attempt => slot.lose(place),
            _ => Loss::Nothing,
        };
        self.missing += u32::from(loss == Loss::Output);
        loss
    }

    /// Whether there is an output in this place and nowhere else.
    pub(super) fn is_only_place(&self, place: PlaceIndex) -> bool {
        let mut outputs = self.slots.iter().filter_map(|slot| slot.output);
        outputs.any(|output| output.place == place && output.copy.is_none())
    }

    /// Removes everything in one place; returns how many partitions are not there any more.
    pub(super) fn lose_place(&mut self, place: PlaceIndex) -> u32 {
        let losses = self.slots.iter_mut().map(|slot| slot.lose(place));
        let lost = losses.filter(|loss| *loss == Loss::Output).count() as u32;
        self.missing += lost;
        lost
    }

    fn slot(&mut self, partition: Partition) -> Option<&mut Slot> {
        let index = match &self.wanted {
            None => partition.0,
            Some(wanted) => {
                let sorted = &wanted.sorted;
                let found = sorted.binary_search_by_key(&partition, |(p, _)| *p).ok()?;
                sorted[found].1
            }
        };
        self.slots.get_mut(index as usize)
    }
}
