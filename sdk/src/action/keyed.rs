//! Counts, maps and look-ups by key. Their results are in `main`'s memory.

use crate::dataset::Dataset;
use crate::error::Error;
use crate::node::Origin;
use crate::record::Record;
use std::collections::BTreeMap;

impl<T: Record + Ord> Dataset<T> {
    /// How often each record is there; partitions count, then `main` adds. For many distinct
    /// records, `map` to pairs and `reduce_by_key`. Spark: `countByValue`.
    #[track_caller]
    pub fn count_by_value(&self) -> Result<BTreeMap<T, u64>, Error> {
        self.counted(Origin::here("count_by_value"), |record| record)
    }
}

impl<T: 'static> Dataset<T> {
    #[track_caller]
    fn counted<K: Record + Ord>(
        &self,
        origin: Origin,
        key: impl Fn(T) -> K + 'static,
    ) -> Result<BTreeMap<K, u64>, Error> {
        let action = self.each_partition(origin, move |_, records| {
            let mut counts = BTreeMap::<K, u64>::new();
            records.for_each(|record| *counts.entry(key(record)).or_default() += 1);
            counts
        });
        let mut total = BTreeMap::new();
        action.in_any_order().run(|_, counts: BTreeMap<K, u64>| {
            for (key, count) in counts {
                *total.entry(key).or_default() += count;
            }
        })?;
        Ok(total)
    }
}

impl<K: Record + Ord, V: 'static> Dataset<(K, V)> {
    /// How many pairs each key has. Spark: `countByKey`.
    #[track_caller]
    pub fn count_by_key(&self) -> Result<BTreeMap<K, u64>, Error> {
        self.counted(Origin::here("count_by_key"), |(key, _)| key)
    }
}

impl<K: Record + Ord, V: Record> Dataset<(K, V)> {
    /// All pairs as a map; of several with the same key, the last. Spark: `collectAsMap`.
    #[track_caller]
    pub fn collect_as_map(&self) -> Result<BTreeMap<K, V>, Error> {
        let pairs = self.collect_from(Origin::here("collect_as_map"), 0..self.partitions())?;
        Ok(pairs.into_iter().collect())
    }
}

impl<K: Record, V: Record> Dataset<(K, V)> {
    /// All values of a key. If the dataset is partitioned by key, only the partition of this key
    /// is computed. Spark: `lookup`.
    #[track_caller]
    pub fn lookup(&self, key: &K) -> Result<Vec<V>, Error> {
        let mut encoded = Vec::new();
        key.encode(&mut encoded);
        let partitioner = self.partitioner().filter(|known| known.is_general());
        let partitions = match partitioner.map(|known| known.partition_of(key, &encoded)) {
            Some(partition) => partition..partition + 1,
            None => 0..self.partitions(),
        };
        let action = self.each_partition(Origin::here("lookup"), move |_, records| {
            let mut other = Vec::new();
            let values = records.filter_map(|(key, value)| {
                other.clear();
                key.encode(&mut other);
                (other == encoded).then_some(value)
            });
            values.collect::<Vec<V>>()
        });
        let mut values = Vec::new();
        action.partitions(partitions).run(|_, part: Vec<V>| values.extend(part))?;
        Ok(values)
    }
}
