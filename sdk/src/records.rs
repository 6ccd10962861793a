//! The records of a partition on their way through a task.

use crate::raw::plain::Plain;

/// The records of one partition: an iterator that a task pulls, or lets push.
///
/// Adapters of the standard library (`map`, `filter`, ...) stay on top of it. Methods that consume
/// everything by `fold` (`for_each`, `sum`, `count`, `max`, ...) let the source push: the whole
/// chain runs as one loop with one indirect call per step of the chain instead of one per `next`.
pub struct Records<T>(Box<dyn Stream<T>>);

/// What a boxed iterator cannot do: run to its end by itself.
trait Stream<T> {
    fn pull(&mut self) -> Option<T>;
    fn push_all(self: Box<Self>, sink: &mut dyn FnMut(T));
    /// What is left, if it lies in memory.
    fn in_place(&self) -> Option<(&[T], Plain<T>)> {
        None
    }
}

/// Any iterator.
struct Items<I>(I);

/// Values that lie in memory for as long as the task.
struct InPlace<T: 'static> {
    rest: &'static [T],
    plain: Plain<T>,
}

impl<T, I: Iterator<Item = T>> Stream<T> for Items<I> {
    #[inline]
    fn pull(&mut self) -> Option<T> {
        self.0.next()
    }

    fn push_all(self: Box<Self>, sink: &mut dyn FnMut(T)) {
        self.0.for_each(sink);
    }
}

impl<T> Stream<T> for InPlace<T> {
    #[inline]
    fn pull(&mut self) -> Option<T> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(self.plain.copy(first))
    }

    fn push_all(self: Box<Self>, sink: &mut dyn FnMut(T)) {
        self.rest.iter().for_each(|value| sink(self.plain.copy(value)));
    }

    fn in_place(&self) -> Option<(&[T], Plain<T>)> {
        Some((self.rest, self.plain))
    }
}

impl<T> Records<T> {
    /// Any iterator's items.
    pub(crate) fn new(items: impl Iterator<Item = T> + 'static) -> Self {
        Self(Box::new(Items(items)))
    }

    /// What is left of the partition as it lies in memory, without a copy: where a dataset of a
    /// plain type ([`Record::plain`](crate::Record::plain): numbers, and arrays and tuples of them
    /// without padding) is kept in memory, and this task runs where the partition is. `None` for
    /// anything else, for a partition that is read from elsewhere or from a file, and for one that
    /// is larger than `task-memory`: whoever asks needs the other way, too.
    ///
    /// ```no_run
    /// # use offshoot::prelude::*;
    /// # let context = Context::new();
    /// let points = context.range(0..1_000_000, 8).map(|n| [n as f64, 1.0]).cache();
    /// let sums = points.map_partitions(|points| {
    ///     let sum = match points.as_slice() {
    ///         Some(points) => points.iter().map(|[x, _]| x).sum::<f64>(),
    ///         None => points.map(|[x, _]| x).sum::<f64>(),
    ///     };
    ///     [sum]
    /// });
    /// # let _ = sums.collect();
    /// ```
    pub fn as_slice(&self) -> Option<&[T]> {
        self.0.in_place().map(|(values, _)| values)
    }
}

impl<T: 'static> Records<T> {
    /// Values that stay where they are.
    pub(crate) fn of_slice(rest: &'static [T], plain: Plain<T>) -> Self {
        Self(Box::new(InPlace { rest, plain }))
    }
}

impl<T> Iterator for Records<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.pull()
    }

    fn fold<A, F: FnMut(A, T) -> A>(self, initial: A, mut step: F) -> A {
        if let Some((values, plain)) = self.0.in_place() {
            return values.iter().fold(initial, |before, item| step(before, plain.copy(item)));
        }
        let mut state = Some(initial);
        self.0.push_all(&mut |item| {
            if let Some(before) = state.take() {
                state = Some(step(before, item));
            }
        });
        state.expect("every step puts the state back")
    }
}

#[cfg(test)]
mod tests {
    use super::Records;

    #[test]
    fn pulled_and_pushed_are_the_same() {
        let chain = || {
            let numbers = Records::new(0..100u32);
            let odd = Records::new(numbers.filter(|n| n % 2 == 1));
            Records::new(odd.flat_map(|n| [n, n * 10]))
        };
        let mut records = chain();
        let pulled: Vec<u32> = core::iter::from_fn(|| records.next()).collect();
        let mut pushed = Vec::new();
        chain().for_each(|record| pushed.push(record));
        assert_eq!(pulled, pushed);
        assert_eq!(pulled.len(), 100);
        assert_eq!(chain().sum::<u32>(), pulled.iter().sum::<u32>());
    }

    #[test]
    fn what_was_pulled_is_not_pushed_again() {
        let mut records = Records::new([1, 2, 3].into_iter());
        assert_eq!(records.next(), Some(1));
        assert_eq!(records.product::<i32>(), 6);
    }
}
