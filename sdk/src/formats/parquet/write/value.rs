//! A record as serde hands it out: field by field, each into its column.

use crate::formats::parquet::kind::Kind;
use crate::formats::parquet::times;
use crate::formats::parquet::write::{Filled, Values};
use core::fmt;
use serde::ser::{Impossible, SerializeSeq, SerializeStruct, Serializer};
use serde::{Serialize, ser};

/// A record cannot be written.
#[derive(Debug)]
pub(crate) struct WriteError(String);

/// A record: fields in the order of the columns, or any other.
pub(crate) struct Row<'a> {
    pub(crate) columns: &'a mut [Filled],
    /// How many columns have this row's value.
    pub(crate) next: &'a mut usize,
}

/// One value.
struct Value<'a>(&'a mut Filled);

/// Binary as a list of `u8`.
struct Items<'a> {
    column: &'a mut Filled,
    bytes: Vec<u8>,
}

// === impl WriteError ===

impl WriteError {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for WriteError {}

impl ser::Error for WriteError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

type Result<T = ()> = core::result::Result<T, WriteError>;

fn no_struct<T>() -> Result<T> {
    Err(WriteError("rows are structs with fields".to_owned()))
}

// === impl Row ===

impl SerializeStruct for Row<'_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result {
        // Columns that the record leaves out come before.
        let left = &self.columns[*self.next..];
        let Some(ahead) = left.iter().position(|column| column.name == name) else {
            let text = format!("field {name} has no column in the schema, or not in this order");
            return Err(WriteError(text));
        };
        for column in &mut self.columns[*self.next..*self.next + ahead] {
            column.add_null()?;
        }
        *self.next += ahead + 1;
        value.serialize(Value(&mut self.columns[*self.next - 1]))
    }

    fn end(self) -> Result {
        Ok(())
    }
}

macro_rules! no_structs {
    ($($method:ident($($type:ty),*);)*) => {$(
        fn $method(self, $(_: $type),*) -> Result {
            no_struct()
        }
    )*};
}

impl Serializer for Row<'_> {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Impossible<(), WriteError>;
    type SerializeTuple = Impossible<(), WriteError>;
    type SerializeTupleStruct = Impossible<(), WriteError>;
    type SerializeTupleVariant = Impossible<(), WriteError>;
    type SerializeMap = Impossible<(), WriteError>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), WriteError>;

    no_structs! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result {
        no_struct()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result {
        no_struct()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq> {
        no_struct()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple> {
        no_struct()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct> {
        no_struct()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        no_struct()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap> {
        no_struct()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant> {
        no_struct()
    }
}

// === impl Value ===

impl Value<'_> {
    fn unlike<T>(&self, value: impl fmt::Display) -> Result<T> {
        let Filled { name, kind, .. } = &self.0;
        Err(WriteError(format!("column {name}: {value} does not fit {kind:?}")))
    }

    /// A whole number in the column's own unit.
    fn stored(self, number: i128) -> Result {
        let fits = match self.0.kind {
            Kind::Signed(bits) => (-(1i128 << (bits - 1))..1i128 << (bits - 1)).contains(&number),
            Kind::Unsigned(bits) => (0..1i128 << bits).contains(&number),
            _ => true,
        };
        let column = &mut *self.0;
        let unsigned = matches!(column.kind, Kind::Unsigned(_));
        let done = match &mut column.values {
            Values::Int32(values) if fits => {
                let value = match unsigned {
                    true => u32::try_from(number).ok().map(u32::cast_signed),
                    false => i32::try_from(number).ok(),
                };
                value.map(|value| values.push(value)).map(|()| 4)
            }
            Values::Int64(values) if fits => {
                let value = match unsigned {
                    true => u64::try_from(number).ok().map(u64::cast_signed),
                    false => i64::try_from(number).ok(),
                };
                value.map(|value| values.push(value)).map(|()| 8)
            }
            Values::Bytes(values) if matches!(column.kind, Kind::Decimal(_)) => {
                values.push(number.to_be_bytes().to_vec().into());
                Some(size_of::<i128>())
            }
            Values::Fixed(values) if matches!(column.kind, Kind::Decimal(_)) => {
                let value = fixed(number, column.fixed_bytes);
                value.map(|value| values.push(value.into())).map(|()| column.fixed_bytes)
            }
            _ => None,
        };
        match done {
            Some(bytes) => {
                column.note(bytes);
                Ok(())
            }
            None => self.unlike(number),
        }
    }

    /// Nanoseconds as the column's unit, exactly.
    fn in_units(self, nanos: i128, unit: i64) -> Result {
        if nanos % i128::from(unit) != 0 {
            return self.unlike(format_args!("{nanos} ns"));
        }
        self.stored(nanos / i128::from(unit))
    }

    /// A whole number as it is read: of microseconds where the column is of times.
    fn number(self, number: i128) -> Result {
        match self.0.kind {
            Kind::Signed(_) | Kind::Unsigned(_) | Kind::Date | Kind::Decimal(0) => {
                self.stored(number)
            }
            Kind::Time(unit) | Kind::Timestamp { unit, .. } => self.in_units(number * 1000, unit),
            _ => self.unlike(number),
        }
    }

    fn text(self, text: &str) -> Result {
        let parsed = match self.0.kind {
            Kind::Text => return self.bytes(text.as_bytes()),
            Kind::Date => times::parse_date(text).map(|days| (days.into(), 1)),
            Kind::Time(unit) => times::parse_time(text).map(|nanos| (nanos, unit)),
            Kind::Timestamp { unit, .. } => times::parse_timestamp(text).map(|nanos| (nanos, unit)),
            Kind::Decimal(scale) => times::parse_decimal(text, scale).map(|number| (number, 1)),
            _ => None,
        };
        match parsed {
            Some((number, unit)) => self.in_units(number, unit),
            None => self.unlike(format_args!("{text:?}")),
        }
    }

    fn bytes(self, bytes: &[u8]) -> Result {
        let column = &mut *self.0;
        match (&mut column.values, column.kind) {
            (Values::Bytes(values), Kind::Text | Kind::Bytes) => values.push(bytes.to_vec().into()),
            (Values::Fixed(values), Kind::Text | Kind::Bytes)
                if bytes.len() == column.fixed_bytes =>
            {
                values.push(bytes.to_vec().into());
            }
            _ => return self.unlike(format_args!("{} bytes", bytes.len())),
        }
        // With what the vector itself needs.
        column.note(bytes.len() + 32);
        Ok(())
    }
}

/// A number as so many bytes, the upper ones first.
fn fixed(number: i128, bytes: usize) -> Option<Vec<u8>> {
    let sign = if number < 0 { 0xff } else { 0 };
    let all = number.to_be_bytes();
    let (cut, kept) = all.split_at(all.len().saturating_sub(bytes));
    let negative = kept.first().is_some_and(|first| *first >= 0x80);
    if cut.iter().any(|byte| *byte != sign) || negative != (number < 0) {
        return None;
    }
    let mut padded = vec![sign; bytes.saturating_sub(all.len())];
    padded.extend_from_slice(kept);
    Some(padded)
}

macro_rules! whole_numbers {
    ($($method:ident $type:ty;)*) => {$(
        fn $method(self, value: $type) -> Result {
            self.number(value.into())
        }
    )*};
}

impl<'a> Serializer for Value<'a> {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Impossible<(), WriteError>;
    type SerializeTupleStruct = Impossible<(), WriteError>;
    type SerializeTupleVariant = Impossible<(), WriteError>;
    type SerializeMap = Impossible<(), WriteError>;
    type SerializeStruct = Impossible<(), WriteError>;
    type SerializeStructVariant = Impossible<(), WriteError>;

    whole_numbers! {
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
    }

    fn serialize_i128(self, value: i128) -> Result {
        match self.0.kind {
            Kind::Time(unit) | Kind::Timestamp { unit, .. } => self.in_units(value, unit),
            _ => self.number(value),
        }
    }

    fn serialize_bool(self, value: bool) -> Result {
        match &mut self.0.values {
            Values::Bool(values) => values.push(value),
            _ => return self.unlike(value),
        }
        self.0.note(1);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result {
        match &mut self.0.values {
            Values::Double(values) => values.push(value),
            Values::Float(values) if value.is_nan() || f64::from(value as f32) == value => {
                values.push(value as f32);
            }
            _ => return self.unlike(value),
        }
        self.0.note(8);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result {
        self.bytes(value)
    }

    fn serialize_none(self) -> Result {
        self.0.add_null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result {
        self.0.add_null()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result {
        self.unlike(name)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result {
        self.unlike(name)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>> {
        Ok(Items { column: self.0, bytes: Vec::new() })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple> {
        self.unlike("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct> {
        self.unlike(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        self.unlike(name)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap> {
        self.unlike("a map")
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self::SerializeStruct> {
        self.unlike(name)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant> {
        self.unlike(name)
    }
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result {
        // Postcard writes a `u8` as itself. That it is a `u8` the type's columns have told.
        let mut one = [0; 1];
        match postcard::to_slice(item, &mut one) {
            Ok([byte]) => self.bytes.push(*byte),
            _ => {
                let name = &self.column.name;
                return Err(WriteError(format!("column {name}: lists are not written")));
            }
        }
        Ok(())
    }

    fn end(self) -> Result {
        Value(self.column).bytes(&self.bytes)
    }
}
