//! Which columns a type of records names: serde tells a deserializer the fields of a struct.

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

/// Remembers the fields and goes no further.
struct Probe<'a>(&'a mut Option<&'static [&'static str]>);

/// The fields of a struct, or nothing for other types, which take whatever columns there are.
pub(crate) fn of<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut fields = None;
    // It always fails: there are no values.
    let _ = T::deserialize(Probe(&mut fields));
    fields
}

/// The first field that is no column, with what to say of it.
pub(crate) fn missing<'a>(
    fields: Option<&'static [&'static str]>,
    has: impl Fn(&str) -> bool,
    columns: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let missing = fields?.iter().find(|field| !has(field))?;
    let columns: Vec<&str> = columns.take(COLUMNS_SHOWN).collect();
    Some(format!("there is no column {missing}; there are: {}", columns.join(", ")))
}

/// Columns that a message names.
const COLUMNS_SHOWN: usize = 40;

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = Some(fields);
        Err(Error::custom("no values"))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
