//! A value of a column, and how serde sees it.
//!
//! | column | as a number | as text, and where anything goes |
//! |---|---|---|
//! | date | days since 1970 | `2024-02-29` |
//! | time | microseconds since midnight (`i128`: nanoseconds) | `12:34:56.789` |
//! | timestamp | microseconds since 1970 (`i128`: nanoseconds) | `2024-02-29T12:34:56.789Z` |
//! | decimal | only if nothing is behind the point | `-12.30` |
//! | binary | no | only if it is UTF-8 |

use crate::formats::parquet::times;
use core::fmt;
use serde::de::value::{Error, SeqDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Date(i64),
    /// Nanoseconds.
    Time(i128),
    /// Nanoseconds, and whether it is an instant.
    Timestamp(i128, bool),
    Decimal(i128, u32),
}

// === impl Cell ===

impl<'a> Cell<'a> {
    /// What it is as text, if it is something that is shown as such.
    fn text(self) -> Option<String> {
        Some(match self {
            Self::Date(days) => times::date_text(days),
            Self::Time(nanos) => times::time_text(nanos),
            Self::Timestamp(nanos, utc) => times::timestamp_text(nanos, utc),
            Self::Decimal(unscaled, scale) => times::decimal_text(unscaled, scale),
            _ => return None,
        })
    }

    /// What it is as a whole number, if it is something that has one.
    fn number(self) -> Result<Self, Error> {
        let micros = |nanos: i128, what: &str| match nanos % 1000 {
            0 => Ok(Self::Int(nanos / 1000)),
            _ => Err(Error::custom(format_args!(
                "{self} is no whole number of microseconds; the field must be a String or, for \
                 nanoseconds, an i128 ({what})"
            ))),
        };
        match self {
            Self::Date(days) => Ok(Self::Int(days.into())),
            Self::Time(nanos) => micros(nanos, "a time"),
            Self::Timestamp(nanos, _) => micros(nanos, "a timestamp"),
            Self::Decimal(unscaled, 0) => Ok(Self::Int(unscaled)),
            Self::Decimal(..) => {
                let text = format_args!("{self} is a decimal; the field must be a String");
                Err(Error::custom(text))
            }
            _ => Ok(self),
        }
    }

    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Whether a field of floating point can have it without a loss.
    fn float(self) -> Result<f64, Self> {
        match self {
            Self::Float(float) => Ok(float),
            Self::Int(int) if int.unsigned_abs() <= 1 << 53 => Ok(int as f64),
            other => Err(other),
        }
    }
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Bytes(value) => write!(f, "{} bytes", value.len()),
            other => f.write_str(&other.text().unwrap_or_default()),
        }
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.number()?.deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Cell<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Null => Err(Error::custom("it has no value; the field must be an Option")),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Int(value) => match (i64::try_from(value), u64::try_from(value)) {
                (Ok(value), _) => visitor.visit_i64(value),
                (_, Ok(value)) => visitor.visit_u64(value),
                _ => visitor.visit_i128(value),
            },
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(text) => visitor.visit_str(text),
            Self::Bytes(bytes) => visitor.visit_bytes(bytes),
            other => visitor.visit_string(other.text().unwrap_or_default()),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Time(nanos) | Self::Timestamp(nanos, _) => visitor.visit_i128(nanos),
            other => other.number()?.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.number()?.float() {
            Ok(value) if value.is_nan() || f64::from(value as f32) == value => {
                visitor.visit_f32(value as f32)
            }
            Ok(value) => Err(Error::custom(format_args!("{value} is no f32"))),
            Err(other) => other.deserialize_any(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.number()?.float() {
            Ok(value) => visitor.visit_f64(value),
            Err(Self::Int(value)) => Err(Error::custom(format_args!("{value} is no f64"))),
            Err(other) => other.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Bytes(bytes) => match core::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_str(text),
                Err(error) => {
                    let after = error.valid_up_to();
                    Err(Error::custom(format_args!("not UTF-8 after {after} bytes of it")))
                }
            },
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.bytes() {
            Some(bytes) => visitor.visit_bytes(bytes),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.bytes() {
            Some(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self == Self::Null { visitor.visit_none() } else { visitor.visit_some(self) }
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
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Text(name) => {
                let name: StrDeserializer<'_, Error> = name.into_deserializer();
                visitor.visit_enum(name)
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool char unit unit_struct tuple_struct map struct identifier
    }
}
