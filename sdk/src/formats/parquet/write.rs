//! Rows into columns into a part of the output.

mod value;

use crate::formats::parquet::ParquetOptions;
use crate::formats::parquet::kind::Kind;
use crate::formats::parquet::shape::Columns;
use crate::formats::sink::{PlainSink, written};
use crate::task;
use parquet::basic::Type as Physical;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use serde::Serialize;
use std::io::Write;
use std::sync::Arc;

/// Bytes of values at which a row group is written, however few rows it has.
const GROUP_BYTES_MAX: usize = 64 << 20;

/// A file being written.
pub(crate) struct Part {
    writer: SerializedFileWriter<PlainSink>,
    filled: Vec<Filled>,
    rows: usize,
    rows_max: usize,
    written: u64,
}

/// Values of a column that wait to be written.
pub(crate) struct Filled {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_optional: bool,
    /// Bytes of a value, where all have as many.
    pub(crate) fixed_bytes: usize,
    pub(crate) values: Values,
    pub(crate) levels: Vec<i16>,
    bytes: usize,
}

/// As they are stored.
pub(crate) enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

// === impl Part ===

impl Part {
    pub(crate) fn new(columns: &Columns, options: &ParquetOptions) -> Self {
        let properties = WriterProperties::builder()
            .set_compression(options.codec)
            .set_created_by(concat!("offshoot version ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let schema = Arc::clone(&columns.schema);
        let writer = SerializedFileWriter::new(PlainSink::default(), schema, Arc::new(properties));
        let filled = columns.columns.iter().map(|(column, kind)| Filled {
            name: column.name().to_owned(),
            kind: *kind,
            is_optional: column.max_def_level() > 0,
            fixed_bytes: usize::try_from(column.type_length()).unwrap_or(0),
            values: Values::of(column.physical_type()),
            levels: Vec::new(),
            bytes: 0,
        });
        let (filled, rows_max) = (filled.collect(), options.rows);
        Self { writer: written(writer), filled, rows: 0, rows_max, written: 0 }
    }

    /// Adds a row; writes a row group when there is enough for one.
    pub(crate) fn add(&mut self, row: &impl Serialize) {
        let mut next = 0;
        let added = row.serialize(value::Row { columns: &mut self.filled, next: &mut next });
        let added =
            added.and_then(|()| self.filled[next..].iter_mut().try_for_each(Filled::add_null));
        if let Err(error) = added {
            let row = self.written + self.rows as u64;
            task::fail(format_args!("writing Parquet: row {row} of the partition: {error}"));
        }
        self.rows += 1;
        let bytes: usize = self.filled.iter().map(|column| column.bytes).sum();
        if self.rows >= self.rows_max || bytes >= GROUP_BYTES_MAX {
            self.write_group();
        }
    }

    /// Writes what is left, and the footer.
    pub(crate) fn finish(mut self) {
        if self.rows > 0 {
            self.write_group();
        }
        written(self.writer.finish());
        written(self.writer.inner_mut().flush());
    }

    fn write_group(&mut self) {
        self.written += self.rows as u64;
        self.rows = 0;
        written(self.try_write_group());
    }

    fn try_write_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.filled {
            let mut writer = group.next_column()?.ok_or_else(|| {
                ParquetError::General(format!("there is no place for {}", column.name))
            })?;
            let levels = column.is_optional.then_some(&column.levels[..]);
            column.values.write(writer.untyped(), levels)?;
            writer.close()?;
            column.levels.clear();
            column.values.clear();
            column.bytes = 0;
        }
        group.close()?;
        Ok(())
    }
}

// === impl Filled ===

impl Filled {
    /// Notes a value, of so many bytes, that was pushed.
    pub(crate) fn note(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.is_optional {
            self.levels.push(1);
        }
    }

    /// A row has no value.
    pub(crate) fn add_null(&mut self) -> core::result::Result<(), value::WriteError> {
        if !self.is_optional {
            return Err(value::WriteError::new(format!("column {} has no value", self.name)));
        }
        self.levels.push(0);
        self.bytes += size_of::<i16>();
        Ok(())
    }
}

// === impl Values ===

macro_rules! each {
    ($values:expr, $found:ident => $do:expr) => {
        match $values {
            Values::Bool($found) => $do,
            Values::Int32($found) => $do,
            Values::Int64($found) => $do,
            Values::Float($found) => $do,
            Values::Double($found) => $do,
            Values::Bytes($found) => $do,
            Values::Fixed($found) => $do,
        }
    };
}

macro_rules! writes {
    ($self:expr, $writer:expr, $levels:expr, $($kind:ident $of:ident,)*) => {
        match ($self, $writer) {
            $((Values::$kind(values), ColumnWriter::$of(writer)) => {
                writer.write_batch(values, $levels, None).map(drop)
            })*
            _ => Err(ParquetError::General("the column is of another type".to_owned())),
        }
    };
}

impl Values {
    fn of(physical: Physical) -> Self {
        match physical {
            Physical::BOOLEAN => Self::Bool(Vec::new()),
            Physical::INT32 => Self::Int32(Vec::new()),
            Physical::INT64 | Physical::INT96 => Self::Int64(Vec::new()),
            Physical::FLOAT => Self::Float(Vec::new()),
            Physical::DOUBLE => Self::Double(Vec::new()),
            Physical::BYTE_ARRAY => Self::Bytes(Vec::new()),
            Physical::FIXED_LEN_BYTE_ARRAY => Self::Fixed(Vec::new()),
        }
    }

    fn clear(&mut self) {
        each!(self, values => values.clear());
    }

    fn write(&self, writer: &mut ColumnWriter<'_>, levels: Option<&[i16]>) -> Result<()> {
        writes!(
            self, writer, levels,
            Bool BoolColumnWriter,
            Int32 Int32ColumnWriter,
            Int64 Int64ColumnWriter,
            Float FloatColumnWriter,
            Double DoubleColumnWriter,
            Bytes ByteArrayColumnWriter,
            Fixed FixedLenByteArrayColumnWriter,
        )
    }
}
