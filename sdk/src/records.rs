//! The records of a partition on their way through a task.

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
}

impl<T, I: Iterator<Item = T>> Stream<T> for I {
    #[inline]
    fn pull(&mut self) -> Option<T> {
        self.next()
    }

    fn push_all(self: Box<Self>, sink: &mut dyn FnMut(T)) {
        (*self).for_each(sink);
    }
}

impl<T> Records<T> {
    /// Any iterator's items.
    pub(crate) fn new(items: impl Iterator<Item = T> + 'static) -> Self {
        Self(Box::new(items))
    }
}

impl<T> Iterator for Records<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.pull()
    }

    fn fold<A, F: FnMut(A, T) -> A>(self, initial: A, mut step: F) -> A {
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
