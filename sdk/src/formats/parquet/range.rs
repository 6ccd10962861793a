//! Ranges of columns: which rows are wanted, and which row groups cannot have any.

use crate::formats::parquet::cell::Cell;
use crate::formats::parquet::column::{bytes_cell, int_cell};
use crate::formats::parquet::kind::Kind;
use crate::formats::parquet::times;
use core::cmp::Ordering;
use core::ops::{Bound, RangeBounds};
use parquet::file::statistics::Statistics;

/// An end of a range of a column: a whole number, a floating-point number, a truth value, or text,
/// which is also how dates, times, timestamps and decimals are given: `2024-02-29`.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnValue {
    /// For columns of whole numbers.
    Int(i128),
    /// For columns of `f32` and `f64`.
    Float(f64),
    /// For columns of truth values.
    Bool(bool),
    /// For all others.
    Text(String),
}

/// The rows whose value of a column is in a range. A row without a value is in none.
#[derive(Clone, Debug)]
pub(crate) struct ColumnRange {
    pub(crate) column: String,
    start: Bound<ColumnValue>,
    end: Bound<ColumnValue>,
}

// === impl ColumnRange ===

impl ColumnRange {
    pub(crate) fn new<V: Clone + Into<ColumnValue>>(
        column: &str,
        range: impl RangeBounds<V>,
    ) -> Self {
        let bound = |bound: Bound<&V>| bound.map(|value| value.clone().into());
        let column = column.to_owned();
        Self { column, start: bound(range.start_bound()), end: bound(range.end_bound()) }
    }

    /// Whether a value is in it.
    ///
    /// # Errors
    /// They cannot be compared.
    pub(crate) fn contains(&self, cell: Cell<'_>) -> Result<bool, String> {
        if cell == Cell::Null {
            return Ok(false);
        }
        Ok(self.is_above_start(cell)? && self.is_below_end(cell)?)
    }

    /// Whether the value in a path is in it: as a number where an end is one.
    pub(crate) fn contains_word(&self, word: Option<&str>) -> Result<bool, String> {
        let Some(word) = word else { return Ok(false) };
        let ends = [&self.start, &self.end];
        let is = |wanted: fn(&ColumnValue) -> bool| {
            ends.iter().any(|end| match end {
                Bound::Included(value) | Bound::Excluded(value) => wanted(value),
                Bound::Unbounded => false,
            })
        };
        let number = || format!("{word:?} in the path is no number");
        let cell = if is(|value| matches!(value, ColumnValue::Int(_))) {
            Cell::Int(word.parse().map_err(|_| number())?)
        } else if is(|value| matches!(value, ColumnValue::Float(_))) {
            Cell::Float(word.parse().map_err(|_| number())?)
        } else {
            Cell::Text(word)
        };
        self.contains(cell)
    }

    fn is_above_start(&self, cell: Cell<'_>) -> Result<bool, String> {
        Ok(match &self.start {
            Bound::Included(start) => compare(cell, start)?.is_some_and(Ordering::is_ge),
            Bound::Excluded(start) => compare(cell, start)?.is_some_and(Ordering::is_gt),
            Bound::Unbounded => true,
        })
    }

    fn is_below_end(&self, cell: Cell<'_>) -> Result<bool, String> {
        Ok(match &self.end {
            Bound::Included(end) => compare(cell, end)?.is_some_and(Ordering::is_le),
            Bound::Excluded(end) => compare(cell, end)?.is_some_and(Ordering::is_lt),
            Bound::Unbounded => true,
        })
    }

    /// Whether a row group with these statistics may have such a row.
    ///
    /// # Errors
    /// Its values cannot be compared with the ends.
    pub(crate) fn may_be_in(&self, statistics: &Statistics, kind: Kind) -> Result<bool, String> {
        // Old writers compared bytes, and unsigned numbers, as if they had signs.
        let ordered = matches!(kind, Kind::Signed(_) | Kind::Date | Kind::Float);
        if statistics.is_min_max_deprecated() && !ordered {
            return Ok(true);
        }
        let (Some(least), Some(greatest)) = (end(statistics, kind, 0), end(statistics, kind, 1))
        else {
            return Ok(true);
        };
        // Of NaN nothing can be said.
        let is_nan = |cell: Cell<'_>| matches!(cell, Cell::Float(value) if value.is_nan());
        if is_nan(least) || is_nan(greatest) {
            return Ok(true);
        }
        Ok(self.is_above_start(greatest)? && self.is_below_end(least)?)
    }
}

/// The least or the greatest value of a row group.
fn end(statistics: &Statistics, kind: Kind, which: usize) -> Option<Cell<'_>> {
    fn one<T>(both: [Option<&T>; 2], which: usize) -> Option<&T> {
        both[which]
    }
    match statistics {
        Statistics::Boolean(v) => {
            one([v.min_opt(), v.max_opt()], which).map(|value| Cell::Bool(*value))
        }
        Statistics::Int32(v) => {
            one([v.min_opt(), v.max_opt()], which).map(|value| int_cell((*value).into(), 32, kind))
        }
        Statistics::Int64(v) => {
            one([v.min_opt(), v.max_opt()], which).map(|value| int_cell(*value, 64, kind))
        }
        Statistics::Float(v) => {
            one([v.min_opt(), v.max_opt()], which).map(|value| Cell::Float((*value).into()))
        }
        Statistics::Double(v) => {
            one([v.min_opt(), v.max_opt()], which).map(|value| Cell::Float(*value))
        }
        // A text that was cut may end in the middle of a letter: compared as bytes.
        Statistics::ByteArray(_) | Statistics::FixedLenByteArray(_) => {
            let bytes = [statistics.min_bytes_opt(), statistics.max_bytes_opt()][which]?;
            match kind {
                Kind::Text | Kind::Bytes => Some(Cell::Bytes(bytes)),
                kind => bytes_cell(bytes, kind).ok(),
            }
        }
        Statistics::Int96(_) => None,
    }
}

/// How a value of a column is to an end of a range; nothing for NaN.
fn compare(cell: Cell<'_>, to: &ColumnValue) -> Result<Option<Ordering>, String> {
    let unlike = || format!("{cell} cannot be compared with {to:?}");
    Ok(match (cell, to) {
        (Cell::Int(value), ColumnValue::Int(to)) => Some(value.cmp(to)),
        (Cell::Float(value), ColumnValue::Float(to)) => value.partial_cmp(to),
        (Cell::Bool(value), ColumnValue::Bool(to)) => Some(value.cmp(to)),
        (Cell::Text(value), ColumnValue::Text(to)) => Some(value.cmp(to)),
        (Cell::Bytes(value), ColumnValue::Text(to)) => Some(value.cmp(to.as_bytes())),
        (Cell::Date(value), ColumnValue::Text(to)) => {
            Some(value.cmp(&times::parse_date(to).ok_or_else(unlike)?))
        }
        (Cell::Time(value), ColumnValue::Text(to)) => {
            Some(value.cmp(&times::parse_time(to).ok_or_else(unlike)?))
        }
        (Cell::Timestamp(value, _), ColumnValue::Text(to)) => {
            Some(value.cmp(&times::parse_timestamp(to).ok_or_else(unlike)?))
        }
        (Cell::Decimal(value, scale), ColumnValue::Text(to)) => {
            Some(value.cmp(&times::parse_decimal(to, scale).ok_or_else(unlike)?))
        }
        _ => return Err(unlike()),
    })
}

macro_rules! from_numbers {
    ($($variant:ident $to:ty: $($type:ty)*;)*) => {$($(
        impl From<$type> for ColumnValue {
            fn from(value: $type) -> Self {
                Self::$variant(<$to>::from(value))
            }
        }
    )*)*};
}
from_numbers! {
    Int i128: i8 i16 i32 i64 u8 u16 u32 u64;
    Float f64: f32 f64;
    Bool bool: bool;
    Text String: String &str;
}
