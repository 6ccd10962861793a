//! A dataset read in `main`, one partition after the other.

use crate::dataset::Dataset;
use crate::error::Error;
use crate::node::Origin;
use crate::record::Record;

/// The records of a dataset in order, one partition at a time in `main`'s memory: see
/// [`Dataset::to_local_iterator`].
pub struct LocalIterator<T: 'static> {
    dataset: Dataset<T>,
    origin: Origin,
    /// The partition that comes next.
    next: u32,
    current: std::vec::IntoIter<T>,
}

impl<T: Record> Dataset<T> {
    /// All records in order, for datasets that do not fit `main`'s memory: computes a partition
    /// when the one before has been read, each with a job of its own. After an error there is
    /// nothing more. Spark: `toLocalIterator`.
    #[track_caller]
    pub fn to_local_iterator(&self) -> LocalIterator<T> {
        let origin = Origin::here("to_local_iterator");
        LocalIterator { dataset: self.clone(), origin, next: 0, current: Vec::new().into_iter() }
    }
}

impl<T: Record> Iterator for LocalIterator<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.current.next() {
                return Some(Ok(record));
            }
            let partition = self.next;
            if partition >= self.dataset.partitions() {
                return None;
            }
            self.next += 1;
            match self.dataset.collect_from(self.origin, partition..partition + 1) {
                Ok(records) => self.current = records.into_iter(),
                Err(error) => {
                    self.next = self.dataset.partitions();
                    return Some(Err(error));
                }
            }
        }
    }
}
