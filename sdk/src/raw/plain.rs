//! Types whose values are their bytes, and slices of them as bytes.

use core::marker::PhantomData;
use core::{ptr, slice};

/// That the values of `T` are their bytes, whatever these are: no padding, no byte that is not
/// allowed, nothing that points elsewhere. Numbers have it, and arrays and tuples of what has it,
/// if nothing lies between their parts. What [`Record::plain`](crate::Record::plain) answers.
pub struct Plain<T>(PhantomData<fn() -> T>);

/// A tuple, of whose parts it is known.
pub(crate) trait Fields: Sized {
    /// What is known.
    type Known;
    /// The same of the tuple, if it has no padding.
    fn plain(known: Self::Known) -> Option<Plain<Self>>;
}

// === impl Plain ===

impl<T: Copy + 'static> Plain<T> {
    /// For a type of one's own, made of plain ones, best with `#[repr(C)]`.
    ///
    /// # Safety
    /// `T` has at least one byte, and none that is padding; each of its bytes may have any value,
    /// whatever the others are; it has no pointer or reference.
    pub const unsafe fn promise() -> Self {
        const { assert!(size_of::<T>() > 0, "a plain type has bytes") };
        Self(PhantomData)
    }
}

impl<T> Plain<T> {
    /// The value once more.
    #[inline]
    pub(crate) fn copy(self, value: &T) -> T {
        // SAFETY: `T` was `Copy` when it was promised.
        unsafe { ptr::read(value) }
    }

    /// Values as bytes.
    #[inline]
    pub(crate) fn bytes(self, values: &[T]) -> &[u8] {
        // SAFETY: the same memory, for as long; without padding all of it is initialised.
        unsafe { slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }

    /// Values as bytes that may be changed.
    #[inline]
    pub(crate) fn bytes_mut(self, values: &mut [T]) -> &mut [u8] {
        // SAFETY: as above; whatever is written there are values again.
        unsafe { slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
    }

    /// Bytes as values, if they are whole ones and lie as `T` must.
    pub(crate) fn values(self, bytes: &[u8]) -> Option<&[T]> {
        let pointer = bytes.as_ptr().cast::<T>();
        if !pointer.is_aligned() || !bytes.len().is_multiple_of(size_of::<T>()) {
            return None;
        }
        // SAFETY: the same memory, for as long, looked at just above; any bytes are values.
        Some(unsafe { slice::from_raw_parts(pointer, bytes.len() / size_of::<T>()) })
    }

    /// Values of zero bytes.
    pub(crate) fn zeroed(self, count: usize) -> Vec<T> {
        // SAFETY: zeros are a value, as any bytes are.
        core::iter::repeat_with(|| unsafe { core::mem::zeroed() }).take(count).collect()
    }

    /// Of arrays, which have nothing between their items.
    pub(crate) fn array<const N: usize>(self) -> Option<Plain<[T; N]>> {
        (N > 0).then_some(Plain(PhantomData))
    }
}

impl<T> Clone for Plain<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Plain<T> {}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Plain<$number> {
            /// Of a number.
            pub(crate) const NUMBER: Self = Self(PhantomData);
        }
    )*};
}
numbers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);

// === impl Fields ===

macro_rules! fields {
    ($(($($name:ident),*))*) => {$(
        impl<$($name),*> Fields for ($($name,)*) {
            type Known = ($(Plain<$name>,)*);
            fn plain(_: Self::Known) -> Option<Plain<Self>> {
                let parts: usize = 0 $(+ size_of::<$name>())*;
                // No padding if the parts are all that there is; all of them are `Copy`.
                (parts > 0 && parts == size_of::<Self>()).then_some(Plain(PhantomData))
            }
        }
    )*};
}
fields! { () (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) }

#[cfg(test)]
mod tests {
    use crate::Record;

    #[test]
    fn what_has_padding_or_forbidden_bytes_is_not_plain() {
        assert!(u64::plain().is_some() && f32::plain().is_some() && i8::plain().is_some());
        assert!(<[f64; 3]>::plain().is_some() && <(u32, f32)>::plain().is_some());
        assert!(<([u8; 4], u32, u64)>::plain().is_some());
        assert!(<(u32, u64)>::plain().is_none() && <[(u8, u16); 2]>::plain().is_none());
        assert!(bool::plain().is_none() && char::plain().is_none());
        assert!(<()>::plain().is_none() && <[u32; 0]>::plain().is_none());
        assert!(String::plain().is_none() && <Option<u8>>::plain().is_none());
        assert!(<(u32, bool)>::plain().is_none() && <Vec<u8>>::plain().is_none());
    }

    #[test]
    fn bytes_and_values() {
        let plain = <(u32, f32)>::plain().expect("no padding");
        let values = [(7, 1.5), (u32::MAX, f32::NEG_INFINITY)];
        let bytes = plain.bytes(&values);
        assert_eq!(bytes.len(), 16);
        assert_eq!(plain.values(bytes), Some(&values[..]));
        assert_eq!(plain.values(&bytes[1..]), None);
        assert_eq!(plain.values(&bytes[..12]), None);
        let mut zeros = plain.zeroed(2);
        plain.bytes_mut(&mut zeros).copy_from_slice(bytes);
        assert_eq!(zeros, values);
    }
}
