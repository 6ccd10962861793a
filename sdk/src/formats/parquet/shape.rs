//! The columns of a type, found by asking it to be deserialized: serde tells which fields it has,
//! and what each of them would take.

use crate::formats::fields;
use crate::formats::parquet::kind::Kind;
use core::cell::RefCell;
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor, Type};
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use std::sync::Arc;

/// The columns of a file.
pub(crate) struct Columns {
    pub(crate) schema: Arc<Type>,
    pub(crate) columns: Vec<(ColumnDescPtr, Kind)>,
}

/// What a field takes.
#[derive(Clone, Copy, Default)]
struct Found {
    what: Option<What>,
    is_optional: bool,
}

#[derive(Clone, Copy)]
enum What {
    Bool,
    /// Of so many bits, with a sign or without.
    Int(i8, bool),
    Float,
    Double,
    Text,
    Bytes,
    Other(&'static str),
}

/// A struct with one field.
struct One<'a> {
    field: &'static str,
    found: &'a RefCell<Found>,
    is_given: bool,
}

/// A value that says what it is asked for.
struct Asked<'a>(&'a RefCell<Found>);

/// The columns of a struct.
///
/// # Errors
/// It is none, or a field is nothing that a column can have.
pub(crate) fn of<T: DeserializeOwned>() -> Result<Columns, String> {
    let fields = fields::of::<T>().ok_or("rows are structs with fields, and this type is none")?;
    let mut columns = Vec::new();
    for field in fields {
        let found = RefCell::default();
        // Whether this works is nothing to us: that it asks is.
        let _ = T::deserialize(One { field, found: &found, is_given: false });
        columns.push(Arc::new(column(field, found.into_inner())?));
    }
    let schema = Type::group_type_builder("schema").with_fields(columns).build();
    finish(schema.map_err(|error| error.to_string())?)
}

/// The columns of a schema in Parquet's words.
pub(crate) fn parse(text: &str) -> Result<Columns, String> {
    let schema = parse_message_type(text).map_err(|error| format!("the schema: {error}"))?;
    finish(schema)
}

fn finish(schema: Type) -> Result<Columns, String> {
    let schema = Arc::new(schema);
    let descriptor = SchemaDescriptor::new(Arc::clone(&schema));
    let of = |column: &ColumnDescPtr| match Kind::of(column) {
        Ok(_) if column.physical_type() == Physical::INT96 => {
            Err(format!("column {}: int96 is not written; use int64", column.name()))
        }
        Ok(Kind::Half) => Err(format!("column {}: float16 is not written", column.name())),
        Ok(kind) => Ok((Arc::clone(column), kind)),
        Err(what) => Err(format!("column {}: {what}", column.path().string())),
    };
    let columns = descriptor.columns().iter().map(of).collect::<Result<_, _>>()?;
    Ok(Columns { schema, columns })
}

fn column(name: &str, found: Found) -> Result<Type, String> {
    let (physical, logical) = match found.what {
        Some(What::Bool) => (Physical::BOOLEAN, None),
        Some(What::Int(64, true)) => (Physical::INT64, None),
        Some(What::Int(32, true)) => (Physical::INT32, None),
        Some(What::Int(bits, signed)) => {
            let physical = if bits == 64 { Physical::INT64 } else { Physical::INT32 };
            (physical, Some(LogicalType::integer(bits, signed)))
        }
        Some(What::Float) => (Physical::FLOAT, None),
        Some(What::Double) => (Physical::DOUBLE, None),
        Some(What::Text) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Some(What::Bytes) => (Physical::BYTE_ARRAY, None),
        Some(What::Other(what)) => {
            return Err(format!("field {name} is {what}, which no column can have"));
        }
        None => return Err(format!("field {name} does not say what it is; give a schema")),
    };
    let repetition = match found.is_optional {
        true => Repetition::OPTIONAL,
        false => Repetition::REQUIRED,
    };
    let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
    builder.with_logical_type(logical).build().map_err(|error| error.to_string())
}

// === impl One ===

impl<'de> Deserializer<'de> for One<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self)
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
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        if core::mem::replace(&mut self.is_given, true) {
            return Ok(None);
        }
        let name: StrDeserializer<'_, Error> = self.field.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(Asked(self.found))
    }
}

// === impl Asked ===

impl Asked<'_> {
    fn is<T>(&self, what: What) -> Result<T, Error> {
        let mut found = self.0.borrow_mut();
        found.what.get_or_insert(what);
        Err(Error::custom("there is no value"))
    }
}

macro_rules! asked {
    ($($method:ident $what:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            self.is($what)
        }
    )*};
}

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    asked! {
        deserialize_any What::Other("anything");
        deserialize_bool What::Bool;
        deserialize_i8 What::Int(8, true);
        deserialize_i16 What::Int(16, true);
        deserialize_i32 What::Int(32, true);
        deserialize_i64 What::Int(64, true);
        deserialize_i128 What::Other("an i128");
        deserialize_u8 What::Int(8, false);
        deserialize_u16 What::Int(16, false);
        deserialize_u32 What::Int(32, false);
        deserialize_u64 What::Int(64, false);
        deserialize_u128 What::Other("a u128");
        deserialize_f32 What::Float;
        deserialize_f64 What::Double;
        deserialize_char What::Text;
        deserialize_str What::Text;
        deserialize_string What::Text;
        deserialize_bytes What::Bytes;
        deserialize_byte_buf What::Bytes;
        deserialize_unit What::Other("a unit");
        deserialize_map What::Other("a map");
        deserialize_identifier What::Text;
        deserialize_ignored_any What::Other("ignored");
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.borrow_mut().is_optional = true;
        visitor.visit_some(self)
    }

    /// A list of `u8` is binary.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let item = RefCell::default();
        let asked = visitor.visit_seq(Items(&item));
        match item.into_inner() {
            Found { what: Some(What::Int(8, false)), is_optional: false } => self.is(What::Bytes),
            _ => asked
                .and_then(|_| self.is(What::Other("a list")))
                .or_else(|_| self.is(What::Other("a list"))),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        self.is(What::Other("a tuple"))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        _: V,
    ) -> Result<V::Value, Error> {
        self.is(What::Other("a tuple"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.is(What::Other("a struct"))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: V,
    ) -> Result<V::Value, Error> {
        self.is(What::Other("a unit"))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.is(What::Text)
    }
}

/// A list that asks for its first item.
struct Items<'a>(&'a RefCell<Found>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        seed.deserialize(Asked(self.0)).map(Some)
    }
}
