//! What a column's values mean.

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::schema::types::ColumnDescriptor;

/// Columns that can be read and written: those that are no list, map or struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    /// Of so many bits.
    Signed(u8),
    /// Of so many bits, stored in a signed number.
    Unsigned(u8),
    Float,
    Half,
    Text,
    Bytes,
    /// Days since 1970.
    Date,
    /// Since midnight, in units of so many nanoseconds.
    Time(i64),
    /// Since 1970, in units of so many nanoseconds.
    Timestamp {
        unit: i64,
        utc: bool,
    },
    /// Digits behind the point.
    Decimal(u32),
}

// === impl Kind ===

impl Kind {
    /// Of a column.
    ///
    /// # Errors
    /// What it is, if it is none of these.
    pub(crate) fn of(column: &ColumnDescriptor) -> Result<Self, String> {
        if column.max_rep_level() > 0 {
            return Err("it is a list or a map, which are not read".to_owned());
        }
        if column.path().parts().len() > 1 {
            return Err("it is a field of a struct, which are not read".to_owned());
        }
        let kind = match column.logical_type_ref() {
            Some(logical) => Self::logical(logical),
            None => Self::converted(column),
        };
        let physical = column.physical_type();
        let kind = kind.unwrap_or(match physical {
            Physical::BOOLEAN => Self::Bool,
            Physical::INT32 => Self::Signed(32),
            Physical::INT64 => Self::Signed(64),
            Physical::INT96 => Self::Timestamp { unit: 1, utc: false },
            Physical::FLOAT | Physical::DOUBLE => Self::Float,
            Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY => Self::Bytes,
        });
        if kind.fits(physical) {
            return Ok(kind);
        }
        Err(format!("it is {kind:?} stored as {physical}, which are not read"))
    }

    fn logical(logical: &LogicalType) -> Option<Self> {
        Some(match logical {
            LogicalType::String | LogicalType::Enum | LogicalType::Json => Self::Text,
            LogicalType::Date => Self::Date,
            LogicalType::Decimal(decimal) => Self::Decimal(u32::try_from(decimal.scale).ok()?),
            LogicalType::Time(time) => Self::Time(nanos(time.unit)),
            LogicalType::Timestamp(stamp) => {
                Self::Timestamp { unit: nanos(stamp.unit), utc: stamp.is_adjusted_to_u_t_c }
            }
            LogicalType::Integer(int) => match (int.is_signed, int.bit_width as u8) {
                (true, bits) => Self::Signed(bits),
                (false, bits) => Self::Unsigned(bits),
            },
            LogicalType::Float16 => Self::Half,
            _ => return None,
        })
    }

    /// Of files by writers of before 2018.
    fn converted(column: &ColumnDescriptor) -> Option<Self> {
        Some(match column.converted_type() {
            ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => Self::Text,
            ConvertedType::DATE => Self::Date,
            ConvertedType::DECIMAL => Self::Decimal(u32::try_from(column.type_scale()).ok()?),
            ConvertedType::TIME_MILLIS => Self::Time(1_000_000),
            ConvertedType::TIME_MICROS => Self::Time(1000),
            ConvertedType::TIMESTAMP_MILLIS => Self::Timestamp { unit: 1_000_000, utc: true },
            ConvertedType::TIMESTAMP_MICROS => Self::Timestamp { unit: 1000, utc: true },
            ConvertedType::INT_8 => Self::Signed(8),
            ConvertedType::INT_16 => Self::Signed(16),
            ConvertedType::INT_32 => Self::Signed(32),
            ConvertedType::INT_64 => Self::Signed(64),
            ConvertedType::UINT_8 => Self::Unsigned(8),
            ConvertedType::UINT_16 => Self::Unsigned(16),
            ConvertedType::UINT_32 => Self::Unsigned(32),
            ConvertedType::UINT_64 => Self::Unsigned(64),
            _ => return None,
        })
    }

    /// Whether such values can be stored so: a file may say anything.
    fn fits(self, physical: Physical) -> bool {
        let int = matches!(physical, Physical::INT32 | Physical::INT64);
        let bytes = matches!(physical, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY);
        match self {
            Self::Bool => physical == Physical::BOOLEAN,
            Self::Signed(_) | Self::Unsigned(_) | Self::Time(_) => int,
            Self::Float => matches!(physical, Physical::FLOAT | Physical::DOUBLE),
            Self::Half => physical == Physical::FIXED_LEN_BYTE_ARRAY,
            Self::Text | Self::Bytes => bytes,
            Self::Date => physical == Physical::INT32,
            Self::Timestamp { .. } => int || physical == Physical::INT96,
            Self::Decimal(_) => int || bytes,
        }
    }
}

fn nanos(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::MILLIS => 1_000_000,
        TimeUnit::MICROS => 1000,
        TimeUnit::NANOS => 1,
    }
}
