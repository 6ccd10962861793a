//! Operations on pairs that move nothing.

use crate::dataset::Dataset;
use crate::node::Origin;
use crate::records::Records;
use std::rc::Rc;

impl<K: 'static, V: 'static> Dataset<(K, V)> {
    /// Every value, changed. Spark: `mapValues`.
    #[track_caller]
    pub fn map_values<W: 'static>(&self, change: impl Fn(V) -> W + 'static) -> Dataset<(K, W)> {
        let change = Rc::new(change);
        self.narrow_keeping_keys(Origin::here("map_values"), move |_, records| {
            let change = Rc::clone(&change);
            Records::new(records.map(move |(key, value)| (key, change(value))))
        })
    }

    /// Any number of values for each, under the same key. Spark: `flatMapValues`.
    #[track_caller]
    pub fn flat_map_values<I>(&self, change: impl Fn(V) -> I + 'static) -> Dataset<(K, I::Item)>
    where
        K: Clone,
        I: IntoIterator + 'static,
    {
        let change = Rc::new(change);
        self.narrow_keeping_keys(Origin::here("flat_map_values"), move |_, records| {
            let change = Rc::clone(&change);
            Records::new(records.flat_map(move |(key, value)| {
                change(value).into_iter().map(move |value| (key.clone(), value))
            }))
        })
    }

    /// The keys. Spark: `keys`.
    #[track_caller]
    pub fn keys(&self) -> Dataset<K> {
        let origin = Origin::here("keys");
        self.keys_from(origin)
    }

    /// The values. Spark: `values`.
    #[track_caller]
    pub fn values(&self) -> Dataset<V> {
        let origin = Origin::here("values");
        self.values_from(origin)
    }

    pub(crate) fn keys_from(&self, origin: Origin) -> Dataset<K> {
        self.narrow(origin, |_, records| Records::new(records.map(|(key, _)| key)))
    }

    pub(crate) fn values_from(&self, origin: Origin) -> Dataset<V> {
        self.narrow(origin, |_, records| Records::new(records.map(|(_, value)| value)))
    }
}
