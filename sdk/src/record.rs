//! How records become bytes: in shuffles and in results.
//!
//! The encoding is postcard's, byte for byte. The trait exists because it is several times faster
//! than going through serde for what records mostly are: numbers, byte strings, text and tuples
//! of these. Any other type with serde gets it by one line: [`record!`](crate::record!).

use crate::raw::plain::{Fields, Plain};
use core::cmp::Reverse;
use core::fmt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

mod varint;

/// A value that can cross a shuffle or come back to `main`.
///
/// Keys are compared by their encoding, so equal keys must have equal encodings: derived serde
/// traits of ordinary types have this property, hash maps do not.
pub trait Record: Sized + 'static {
    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads one value and moves the input past it.
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed>;

    /// Moves the input past one value.
    fn skip(input: &mut &[u8]) -> Result<(), Malformed> {
        Self::decode(input).map(drop)
    }

    /// Bytes of the heap that the value holds, for the bound on tables of partial results. Called
    /// twice for each change, so it should not look at every part; for a type that grows while it
    /// is combined (a set, a sketch) it should be written, or tables are fuller than they seem.
    fn heap_bytes(&self) -> usize {
        0
    }

    /// Whether the values are their bytes. What is kept in memory of such a type is kept so, and
    /// read in place: see [`Records::as_slice`](crate::Records::as_slice).
    fn plain() -> Option<Plain<Self>> {
        None
    }

    /// Appends many encodings; one copy where the memory already has their form.
    fn encode_all(items: &[Self], out: &mut Vec<u8>) {
        items.iter().for_each(|item| item.encode(out));
    }

    /// Reads many values.
    fn decode_all(count: usize, input: &mut &[u8]) -> Result<Vec<Self>, Malformed> {
        // A count is not believed before the values are there.
        let mut items = Vec::with_capacity(count.min(input.len()));
        for _ in 0..count {
            items.push(Self::decode(input)?);
        }
        Ok(items)
    }

    /// Reads as many values as an array has.
    fn decode_array<const N: usize>(input: &mut &[u8]) -> Result<[Self; N], Malformed> {
        let items = Self::decode_all(N, input)?;
        items.try_into().map_err(|_| malformed::<[Self; N]>("another number of items"))
    }
}

/// Bytes that do not decode: a record written by another type, or damaged on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The type asked for.
    pub expected: &'static str,
    /// What is wrong.
    pub reason: &'static str,
}

/// A value of a foreign type with serde as a [`Record`]; for own types use
/// [`record!`](crate::record!).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serde<T>(pub T);

/// Makes types with `serde::Serialize` and `serde::Deserialize` into records.
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Visit { page: String, seconds: f32 }
/// offshoot::record!(Visit);
/// ```
#[macro_export]
macro_rules! record {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::Record for $type {
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                $crate::encode_serde(self, out);
            }
            fn decode(input: &mut &[u8]) -> ::std::result::Result<Self, $crate::Malformed> {
                $crate::decode_serde(input)
            }
        }
    )+};
}

/// Appends the encoding of a value with serde.
///
/// # Panics
/// If the value refuses to be serialised, or is a sequence that does not know its length.
pub fn encode_serde<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    struct Appending<'a>(&'a mut Vec<u8>);
    impl postcard::ser_flavors::Flavor for Appending<'_> {
        type Output = ();
        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.push(byte);
            Ok(())
        }
        fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
        fn finalize(self) -> postcard::Result<()> {
            Ok(())
        }
    }
    if let Err(error) = postcard::serialize_with_flavor(value, Appending(out)) {
        panic!("{} as a record: {error}", core::any::type_name::<T>());
    }
}

/// Reads one value with serde and moves the input past it.
pub fn decode_serde<T: DeserializeOwned>(input: &mut &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(input) {
        Ok((value, rest)) => {
            *input = rest;
            Ok(value)
        }
        Err(error) => Err(malformed::<T>(match error {
            postcard::Error::DeserializeUnexpectedEnd => "the bytes end too early",
            postcard::Error::DeserializeBadUtf8 => "text is not UTF-8",
            postcard::Error::DeserializeBadVarint => "a number is out of range",
            _ => "the bytes do not have its form",
        })),
    }
}

/// One record that is all of `bytes`.
pub(crate) fn decode_whole<T: Record>(mut bytes: &[u8]) -> Result<T, Malformed> {
    let value = T::decode(&mut bytes)?;
    if bytes.is_empty() { Ok(value) } else { Err(malformed::<T>("bytes are left over")) }
}

#[cold]
fn malformed<T>(reason: &'static str) -> Malformed {
    Malformed { expected: core::any::type_name::<T>(), reason }
}

#[inline]
fn take<'a, T>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) =
        input.split_at_checked(count).ok_or_else(|| malformed::<T>("the bytes end too early"))?;
    *input = rest;
    Ok(taken)
}

#[inline]
fn take_length<T>(input: &mut &[u8]) -> Result<usize, Malformed> {
    usize::decode(input).map_err(|_| malformed::<T>("its length is malformed"))
}

// === impl Malformed ===

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes that are no {}: {}", self.expected, self.reason)
    }
}

impl core::error::Error for Malformed {}

// === bytes and text ===

impl Record for u8 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        Ok(take::<Self>(input, 1)?[0])
    }
    fn plain() -> Option<Plain<Self>> {
        Some(Plain::<Self>::NUMBER)
    }
    #[inline]
    fn encode_all(items: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(items);
    }
    #[inline]
    fn decode_all(count: usize, input: &mut &[u8]) -> Result<Vec<Self>, Malformed> {
        Ok(take::<Vec<Self>>(input, count)?.to_vec())
    }
    #[inline]
    fn decode_array<const N: usize>(input: &mut &[u8]) -> Result<[Self; N], Malformed> {
        let (array, rest) = input
            .split_first_chunk()
            .ok_or_else(|| malformed::<[Self; N]>("the bytes end too early"))?;
        *input = rest;
        Ok(*array)
    }
}

impl<T: Record> Record for Vec<T> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.len().encode(out);
        T::encode_all(self, out);
    }
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        let count = take_length::<Self>(input)?;
        T::decode_all(count, input)
    }
    fn skip(input: &mut &[u8]) -> Result<(), Malformed> {
        let count = take_length::<Self>(input)?;
        (0..count).try_for_each(|_| T::skip(input))
    }
    fn heap_bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

impl Record for String {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.len().encode(out);
        out.extend_from_slice(self.as_bytes());
    }
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        let length = take_length::<Self>(input)?;
        let text = core::str::from_utf8(take::<Self>(input, length)?);
        text.map(str::to_owned).map_err(|_| malformed::<Self>("text is not UTF-8"))
    }
    #[inline]
    fn skip(input: &mut &[u8]) -> Result<(), Malformed> {
        let length = take_length::<Self>(input)?;
        take::<Self>(input, length).map(drop)
    }
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl Record for char {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut buffer = [0; 4];
        let text = self.encode_utf8(&mut buffer);
        text.len().encode(out);
        out.extend_from_slice(text.as_bytes());
    }
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        let length = take_length::<Self>(input)?;
        let text = core::str::from_utf8(take::<Self>(input, length)?).unwrap_or_default();
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(char), None) => Ok(char),
            _ => Err(malformed::<Self>("not one character")),
        }
    }
}

// === numbers ===

impl Record for i8 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.cast_unsigned());
    }
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        Ok(take::<Self>(input, 1)?[0].cast_signed())
    }
    fn plain() -> Option<Plain<Self>> {
        Some(Plain::<Self>::NUMBER)
    }
}

impl Record for bool {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        match take::<Self>(input, 1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(malformed::<Self>("neither 0 nor 1")),
        }
    }
}

macro_rules! floats {
    ($($float:ty),*) => {$(
        impl Record for $float {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
                let (bytes, rest) = input
                    .split_first_chunk()
                    .ok_or_else(|| malformed::<Self>("the bytes end too early"))?;
                *input = rest;
                Ok(Self::from_le_bytes(*bytes))
            }
            fn plain() -> Option<Plain<Self>> {
                Some(Plain::<Self>::NUMBER)
            }
        }
    )*};
}
floats!(f32, f64);

// === compound types ===

impl<T: Record> Record for Option<T> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(out);
        }
    }
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        match take::<Self>(input, 1)?[0] {
            0 => Ok(None),
            1 => T::decode(input).map(Some),
            _ => Err(malformed::<Self>("neither 0 nor 1")),
        }
    }
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, T::heap_bytes)
    }
}

impl<T: Record, E: Record> Record for Result<T, E> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_err()));
        match self {
            Ok(value) => value.encode(out),
            Err(error) => error.encode(out),
        }
    }
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        match take::<Self>(input, 1)?[0] {
            0 => T::decode(input).map(Ok),
            1 => E::decode(input).map(Err),
            _ => Err(malformed::<Self>("neither 0 nor 1")),
        }
    }
}

impl<T: Record> Record for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        T::decode(input).map(Self::new)
    }
    fn heap_bytes(&self) -> usize {
        size_of::<T>() + T::heap_bytes(self)
    }
}

impl<T: Record> Record for Reverse<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        T::decode(input).map(Self)
    }
    fn skip(input: &mut &[u8]) -> Result<(), Malformed> {
        T::skip(input)
    }
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

impl<T: Record, const N: usize> Record for [T; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode_all(self, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        T::decode_array(input)
    }
    fn skip(input: &mut &[u8]) -> Result<(), Malformed> {
        (0..N).try_for_each(|_| T::skip(input))
    }
    fn plain() -> Option<Plain<Self>> {
        T::plain()?.array()
    }
    fn heap_bytes(&self) -> usize {
        self.iter().map(T::heap_bytes).sum()
    }
}

impl<K: Record + Ord, V: Record> Record for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.len().encode(out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        let count = take_length::<Self>(input)?;
        (0..count).map(|_| <(K, V)>::decode(input)).collect()
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),*))*) => {$(
        impl<$($name: Record),*> Record for ($($name,)*) {
            #[inline]
            #[allow(unused_variables, reason = "the empty tuple")]
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)*
            }
            #[inline]
            #[allow(unused_variables, clippy::unused_unit, reason = "the empty tuple")]
            fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
                Ok(($($name::decode(input)?,)*))
            }
            #[inline]
            #[allow(unused_variables, reason = "the empty tuple")]
            fn skip(input: &mut &[u8]) -> Result<(), Malformed> {
                $($name::skip(input)?;)*
                Ok(())
            }
            fn plain() -> Option<Plain<Self>> {
                <Self as Fields>::plain(($($name::plain()?,)*))
            }
            #[inline]
            fn heap_bytes(&self) -> usize {
                0 $(+ self.$index.heap_bytes())*
            }
        }
    )*};
}
tuples! {
    ()
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

impl<T: Serialize + DeserializeOwned + 'static> Record for Serde<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_serde(&self.0, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        decode_serde(input).map(Self)
    }
}

#[cfg(test)]
mod tests;
