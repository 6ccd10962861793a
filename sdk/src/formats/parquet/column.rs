//! The values of a column chunk, some rows at a time.

use crate::formats::parquet::cell::Cell;
use crate::formats::parquet::chunk::Chunk;
use crate::formats::parquet::kind::Kind;
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use std::sync::Arc;

/// A column of the rows at hand.
pub(crate) struct Column {
    reader: ColumnReader,
    kind: Kind,
    is_optional: bool,
    values: Values,
    /// Whether each row has a value, if some have none.
    levels: Vec<i16>,
    /// The row at hand, and which value is its own, or would be.
    row: usize,
    value: usize,
}

/// Values as they are stored.
enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

/// A decimal of more than 128 bits is none of this world.
pub(crate) const DECIMAL_BYTES_MAX: usize = 16;

// === impl Column ===

impl Column {
    /// Of a chunk that is not packed, or packed by what the reader of pages knows.
    pub(crate) fn new(
        chunk: Chunk,
        metadata: &ColumnChunkMetaData,
        kind: Kind,
        rows: usize,
    ) -> Result<Self> {
        let pages = SerializedPageReader::new(Arc::new(chunk), metadata, rows, None)?;
        let descriptor = metadata.column_descr_ptr();
        let is_optional = descriptor.max_def_level() > 0;
        let reader = get_column_reader(descriptor, Box::new(pages));
        let values = Values::of(&reader);
        Ok(Self { reader, kind, is_optional, values, levels: Vec::new(), row: 0, value: 0 })
    }

    /// Reads so many rows.
    pub(crate) fn read(&mut self, rows: usize) -> Result<()> {
        self.values.clear();
        self.levels.clear();
        (self.row, self.value) = (0, 0);
        let mut done = 0;
        while done < rows {
            let levels = self.is_optional.then_some(&mut self.levels);
            let read = self.values.read(&mut self.reader, rows - done, levels)?;
            if read == 0 {
                let text = format!("it has {} rows less than its footer says", rows - done);
                return Err(ParquetError::EOF(text));
            }
            done += read;
        }
        Ok(())
    }

    /// Goes on to the next row.
    pub(crate) fn advance(&mut self) {
        self.value += usize::from(self.has_value());
        self.row += 1;
    }

    fn has_value(&self) -> bool {
        !self.is_optional || self.levels.get(self.row).is_some_and(|level| *level > 0)
    }

    /// The value of the row at hand, or why it is none.
    pub(crate) fn cell(&self) -> core::result::Result<Cell<'_>, String> {
        if !self.has_value() {
            return Ok(Cell::Null);
        }
        self.values.cell(self.value, self.kind)
    }
}

// === impl Values ===

macro_rules! each {
    ($values:expr, $found:ident => $do:expr) => {
        match $values {
            Values::Bool($found) => $do,
            Values::Int32($found) => $do,
            Values::Int64($found) => $do,
            Values::Int96($found) => $do,
            Values::Float($found) => $do,
            Values::Double($found) => $do,
            Values::Bytes($found) => $do,
            Values::Fixed($found) => $do,
        }
    };
}

macro_rules! reads {
    ($self:expr, $reader:expr, $rows:expr, $levels:expr, $($kind:ident $of:ident,)*) => {
        match ($self, $reader) {
            $((Values::$kind(values), ColumnReader::$of(reader)) => {
                let (rows, ..) = reader.read_records($rows, $levels, None, values)?;
                Ok(rows)
            })*
            _ => Err(ParquetError::General("the column changed its type".to_owned())),
        }
    };
}

impl Values {
    fn of(reader: &ColumnReader) -> Self {
        match reader {
            ColumnReader::BoolColumnReader(_) => Self::Bool(Vec::new()),
            ColumnReader::Int32ColumnReader(_) => Self::Int32(Vec::new()),
            ColumnReader::Int64ColumnReader(_) => Self::Int64(Vec::new()),
            ColumnReader::Int96ColumnReader(_) => Self::Int96(Vec::new()),
            ColumnReader::FloatColumnReader(_) => Self::Float(Vec::new()),
            ColumnReader::DoubleColumnReader(_) => Self::Double(Vec::new()),
            ColumnReader::ByteArrayColumnReader(_) => Self::Bytes(Vec::new()),
            ColumnReader::FixedLenByteArrayColumnReader(_) => Self::Fixed(Vec::new()),
        }
    }

    fn clear(&mut self) {
        each!(self, values => values.clear());
    }

    fn read(
        &mut self,
        reader: &mut ColumnReader,
        rows: usize,
        levels: Option<&mut Vec<i16>>,
    ) -> Result<usize> {
        reads!(
            self, reader, rows, levels,
            Bool BoolColumnReader,
            Int32 Int32ColumnReader,
            Int64 Int64ColumnReader,
            Int96 Int96ColumnReader,
            Float FloatColumnReader,
            Double DoubleColumnReader,
            Bytes ByteArrayColumnReader,
            Fixed FixedLenByteArrayColumnReader,
        )
    }

    fn cell(&self, at: usize, kind: Kind) -> core::result::Result<Cell<'_>, String> {
        let missing = || "there is no such value".to_owned();
        match self {
            Self::Bool(values) => values.get(at).map(|value| Cell::Bool(*value)),
            Self::Int32(values) => values.get(at).map(|value| int_cell((*value).into(), 32, kind)),
            Self::Int64(values) => values.get(at).map(|value| int_cell(*value, 64, kind)),
            Self::Int96(values) => values.get(at).map(|value| Cell::Timestamp(nanos(value), false)),
            Self::Float(values) => values.get(at).map(|value| Cell::Float((*value).into())),
            Self::Double(values) => values.get(at).map(|value| Cell::Float(*value)),
            Self::Bytes(values) => {
                return bytes_cell(values.get(at).ok_or_else(missing)?.data(), kind);
            }
            Self::Fixed(values) => {
                return bytes_cell(values.get(at).ok_or_else(missing)?.data(), kind);
            }
        }
        .ok_or_else(missing)
    }
}

/// Nanoseconds since 1970 of a day since 4714 BC and nanoseconds of it.
fn nanos(value: &Int96) -> i128 {
    let [low, high, day] = [value.data()[0], value.data()[1], value.data()[2]];
    let of_day = i128::from(u64::from(high) << 32 | u64::from(low));
    (i128::from(day) - 2_440_588) * 86_400_000_000_000 + of_day
}

/// What a stored whole number of so many bits means.
pub(crate) fn int_cell<'a>(value: i64, stored_bits: u8, kind: Kind) -> Cell<'a> {
    match kind {
        Kind::Unsigned(_) if stored_bits == 32 => Cell::Int((value as u32).into()),
        Kind::Unsigned(_) => Cell::Int((value as u64).into()),
        Kind::Date => Cell::Date(value),
        Kind::Time(unit) => Cell::Time(i128::from(value) * i128::from(unit)),
        Kind::Timestamp { unit, utc } => Cell::Timestamp(i128::from(value) * i128::from(unit), utc),
        Kind::Decimal(scale) => Cell::Decimal(value.into(), scale),
        _ => Cell::Int(value.into()),
    }
}

/// What stored bytes mean.
pub(crate) fn bytes_cell(bytes: &[u8], kind: Kind) -> core::result::Result<Cell<'_>, String> {
    match kind {
        Kind::Text => match core::str::from_utf8(bytes) {
            Ok(text) => Ok(Cell::Text(text)),
            Err(error) => Err(format!("not UTF-8 after {} bytes of it", error.valid_up_to())),
        },
        Kind::Decimal(scale) => {
            if bytes.len() > DECIMAL_BYTES_MAX {
                return Err(format!("a decimal of {} bytes; at most 16 are read", bytes.len()));
            }
            let negative = bytes.first().is_some_and(|first| *first >= 0x80);
            let initial = if negative { -1 } else { 0 };
            let unscaled = bytes.iter().fold(initial, |sum, byte| sum << 8 | i128::from(*byte));
            Ok(Cell::Decimal(unscaled, scale))
        }
        Kind::Half => match bytes {
            [low, high] => Ok(Cell::Float(half(u16::from_le_bytes([*low, *high])))),
            _ => Err("a half float has two bytes".to_owned()),
        },
        _ => Ok(Cell::Bytes(bytes)),
    }
}

/// An IEEE 754 number of 16 bits.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    match exponent {
        0 => sign * fraction * 2f64.powi(-24),
        31 if fraction > 0.0 => f64::NAN,
        31 => sign * f64::INFINITY,
        exponent => sign * (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}
