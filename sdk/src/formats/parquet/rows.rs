//! The rows of a partition.

use crate::formats::parquet::ParquetRead;
use crate::formats::parquet::cell::Cell;
use crate::formats::parquet::chunk::{self, Chunk, Ranges};
use crate::formats::parquet::column::Column;
use crate::formats::parquet::kind::Kind;
use crate::formats::parquet::zstd;
use crate::formats::word::Word;
use crate::formats::{fields, files, hive};
use crate::input::Piece;
use core::marker::PhantomData;
use core::ops::Range;
use offshoot_proto::abi::InputFile;
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer};
use serde::de::{MapAccess, Visitor};
use std::rc::Rc;

/// Rows that are decoded at once: a thousand values of each column are in a core's cache.
const BATCH_ROWS: usize = 1024;

pub(crate) struct Rows<T> {
    read: Rc<ParquetRead>,
    pieces: std::vec::IntoIter<Piece>,
    open: Option<OpenFile>,
    kind: PhantomData<fn() -> T>,
}

struct OpenFile {
    file: Rc<InputFile>,
    metadata: ParquetMetaData,
    hive: Vec<hive::Column>,
    wanted: Vec<Wanted>,
    /// Row groups that are left, and the number of the first row of the next.
    groups: Range<usize>,
    next_row: u64,
    middle_in: Range<u64>,
    columns: Vec<Column>,
    /// Rows of the open row group: left in it, left of the batch, and the number of the next.
    rows_left: usize,
    batch_left: usize,
    row: u64,
}

/// A column that is read.
struct Wanted {
    /// Where it is in the file.
    index: usize,
    name: String,
    kind: Kind,
    /// Whether the type names it, and not only a range.
    is_field: bool,
}

/// A row as serde sees it: a map of columns.
struct Row<'a, 'c> {
    open: &'a OpenFile,
    at: usize,
    hive: core::slice::Iter<'a, hive::Column>,
    word: Option<Word<'a>>,
    /// The column at hand, for errors.
    column: &'c mut &'a str,
}

// === impl Rows ===

impl<T> Rows<T> {
    pub(crate) fn new(pieces: Vec<Piece>, read: Rc<ParquetRead>) -> Self {
        Self { read, pieces: pieces.into_iter(), open: None, kind: PhantomData }
    }
}

impl<T: DeserializeOwned> Iterator for Rows<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(row) = open.next(&self.read) {
                    return Some(row);
                }
                self.open = None;
            }
            self.open = OpenFile::new::<T>(self.pieces.next()?, &self.read);
        }
    }
}

// === impl OpenFile ===

impl OpenFile {
    /// Reads the footer; nothing if the folders of the file are out of range.
    fn new<T: DeserializeOwned>(piece: Piece, read: &ParquetRead) -> Option<Self> {
        let file = piece.file;
        let hive = hive::columns(&file);
        for (key, value) in &hive {
            let mut ranges = read.ranges.iter().filter(|range| range.column == *key);
            let inside = |range: &crate::formats::parquet::ColumnRange| {
                let found = range.contains_word(value.as_deref());
                found.unwrap_or_else(|error| files::fail(&file, format_args!("{key}: {error}")))
            };
            if !ranges.all(inside) {
                return None;
            }
        }
        let metadata = chunk::metadata(&file);
        let metadata = metadata.unwrap_or_else(|error| files::fail(&file, error));
        let rows: i64 = metadata.row_groups().iter().map(RowGroupMetaData::num_rows).sum();
        if rows != metadata.file_metadata().num_rows() {
            let said = metadata.file_metadata().num_rows();
            let what = format_args!("its footer says {said} rows, and {rows} in row groups");
            files::fail(&file, what);
        }
        let wanted = wanted::<T>(&file, &metadata, &hive, read);
        Some(Self {
            groups: 0..metadata.num_row_groups(),
            file,
            metadata,
            hive,
            wanted,
            next_row: 0,
            middle_in: piece.range,
            columns: Vec::new(),
            rows_left: 0,
            batch_left: 0,
            row: 0,
        })
    }

    fn next<T: DeserializeOwned>(&mut self, read: &ParquetRead) -> Option<T> {
        loop {
            if self.batch_left == 0 && !self.next_batch(read) {
                return None;
            }
            let row = self.is_in_ranges(read).then(|| self.row());
            self.columns.iter_mut().for_each(Column::advance);
            self.batch_left -= 1;
            self.row += 1;
            if row.is_some() {
                return row;
            }
        }
    }

    fn row<T: DeserializeOwned>(&self) -> T {
        let mut column = "";
        let hive = self.hive.iter();
        let row = Row { open: self, at: 0, hive, word: None, column: &mut column };
        match T::deserialize(row) {
            Ok(row) => row,
            Err(error) => self.fail_at(column, error),
        }
    }

    fn is_in_ranges(&self, read: &ParquetRead) -> bool {
        read.ranges.iter().all(|range| {
            let found = self.wanted.iter().zip(&self.columns);
            let mut found = found.filter(|(wanted, _)| wanted.name == range.column);
            found.all(|(wanted, column)| {
                let inside = column.cell().and_then(|cell| range.contains(cell));
                inside.unwrap_or_else(|error| self.fail_at(&wanted.name, error))
            })
        })
    }

    fn fail_at(&self, column: &str, what: impl core::fmt::Display) -> ! {
        let column = if column.is_empty() { String::new() } else { format!(", column {column}") };
        files::fail(&self.file, format_args!("row {}{column}: {what}", self.row))
    }

    /// Decodes the next rows; `false` if there are none.
    fn next_batch(&mut self, read: &ParquetRead) -> bool {
        while self.rows_left == 0 {
            let Some(group) = self.groups.next() else { return false };
            let metadata = self.metadata.row_group(group).clone();
            self.row = self.next_row;
            let rows = u64::try_from(metadata.num_rows()).unwrap_or(0);
            self.next_row += rows;
            if self.is_mine(&metadata) && self.may_have_rows(&metadata, read) {
                self.rows_left = rows as usize;
                self.columns = self.open_columns(group, &metadata);
            }
        }
        let rows = self.rows_left.min(BATCH_ROWS);
        for (wanted, column) in self.wanted.iter().zip(&mut self.columns) {
            if let Err(error) = column.read(rows) {
                let (row, name) = (self.row, &wanted.name);
                let what = format_args!("rows from {row} on, column {name}: {error}");
                files::fail(&self.file, what);
            }
        }
        self.rows_left -= rows;
        self.batch_left = rows;
        true
    }

    /// Whether the middle of a row group is in this task's bytes. Every file has one partition
    /// that all its middles are in, or several that they are in one of.
    fn is_mine(&self, group: &RowGroupMetaData) -> bool {
        let starts = group.columns().iter().map(|column| start(column).unwrap_or(0));
        let begin = starts.min().unwrap_or(0);
        let bytes: i64 = group.columns().iter().map(ColumnChunkMetaData::compressed_size).sum();
        let middle = begin + u64::try_from(bytes).unwrap_or(0) / 2;
        // What a damaged footer says may be outside of the file: the last task tells of it.
        self.middle_in.contains(&middle.min(self.file.length.saturating_sub(1)))
    }

    fn may_have_rows(&self, group: &RowGroupMetaData, read: &ParquetRead) -> bool {
        read.ranges.iter().all(|range| {
            let mut columns = self.wanted.iter().filter(|wanted| wanted.name == range.column);
            columns.all(|wanted| {
                let Some(statistics) = group.column(wanted.index).statistics() else { return true };
                let may = range.may_be_in(statistics, wanted.kind);
                may.unwrap_or_else(|error| {
                    files::fail(&self.file, format_args!("column {}: {error}", wanted.name))
                })
            })
        })
    }

    fn open_columns(&self, group: usize, metadata: &RowGroupMetaData) -> Vec<Column> {
        let mut order: Vec<usize> = (0..self.wanted.len()).collect();
        order.sort_by_key(|at| start(metadata.column(self.wanted[*at].index)));
        let mut ranges = Ranges::new(&self.file);
        let mut columns: Vec<Option<Column>> = order.iter().map(|_| None).collect();
        for at in order {
            let wanted = &self.wanted[at];
            let rows = metadata.num_rows() as usize;
            let opened = self.open_column(&mut ranges, metadata, wanted, rows);
            columns[at] = Some(opened.unwrap_or_else(|error| {
                let name = &wanted.name;
                files::fail(&self.file, format_args!("row group {group}, column {name}: {error}"))
            }));
        }
        columns.into_iter().flatten().collect()
    }

    fn open_column(
        &self,
        ranges: &mut Ranges<'_>,
        metadata: &RowGroupMetaData,
        wanted: &Wanted,
        rows: usize,
    ) -> Result<Column, String> {
        let column = metadata.column(wanted.index);
        // Without lists a row has one value, or none, which is counted too.
        if column.num_values() != metadata.num_rows() {
            let (values, rows) = (column.num_values(), metadata.num_rows());
            return Err(format!("its footer says {values} values, and {rows} rows"));
        }
        let begin = start(column).ok_or("its footer has an offset below zero")?;
        let length = u64::try_from(column.compressed_size());
        let length = length.map_err(|_| "its footer has a size below zero")?;
        let bytes = ranges.read(begin..begin.saturating_add(length));
        let bytes = bytes.map_err(|error| error.to_string())?;
        let (bytes, column) = match column.compression() {
            Compression::ZSTD(_) => {
                let plain = zstd::plain_pages(&bytes)?;
                let (builder, size) = (column.clone().into_builder(), plain.len() as i64);
                let builder = builder.set_compression(Compression::UNCOMPRESSED);
                let column = builder.set_total_compressed_size(size).build();
                (plain.into(), column.map_err(|error| error.to_string())?)
            }
            _ => (bytes, column.clone()),
        };
        let chunk = Chunk::new(begin, bytes, self.file.length);
        let column = Column::new(chunk, &column, wanted.kind, rows);
        column.map_err(|error| error.to_string())
    }
}

/// Where a column chunk begins; nothing if that is no place.
fn start(column: &ColumnChunkMetaData) -> Option<u64> {
    let data = u64::try_from(column.data_page_offset()).ok()?;
    match column.dictionary_page_offset() {
        Some(dictionary) => u64::try_from(dictionary).ok(),
        None => Some(data),
    }
}

/// The columns that a type and the ranges name.
fn wanted<T: DeserializeOwned>(
    file: &InputFile,
    metadata: &ParquetMetaData,
    hive: &[hive::Column],
    read: &ParquetRead,
) -> Vec<Wanted> {
    let named = fields::of::<T>();
    let schema = metadata.file_metadata().schema_descr();
    let top = |index: usize| schema.column(index).path().parts().first().cloned();
    let names: Vec<String> = (0..schema.num_columns()).filter_map(top).collect();
    let in_path = |name: &str| hive.iter().any(|(key, _)| key == name);
    let has = |name: &str| in_path(name) || names.iter().any(|found| found == name);
    let all = || names.iter().map(String::as_str);
    if let Some(missing) = fields::missing(named, has, all())
        && !read.missing_allowed
    {
        files::fail(file, missing);
    }
    if let Some(range) = read.ranges.iter().find(|range| !has(&range.column)) {
        let text = format_args!("there is no column {} to look for a range in", range.column);
        files::fail(file, text);
    }
    let mut wanted = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let is_field = named.is_none_or(|named| named.contains(&name.as_str())) && !in_path(name);
        if !is_field && !read.ranges.iter().any(|range| range.column == *name) {
            continue;
        }
        let kind = Kind::of(&schema.column(index));
        let kind =
            kind.unwrap_or_else(|what| files::fail(file, format_args!("column {name}: {what}")));
        wanted.push(Wanted { index, name: name.clone(), kind, is_field });
    }
    wanted
}

// === impl Row ===

impl<'de> Deserializer<'de> for Row<'_, '_> {
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

impl<'de> MapAccess<'de> for Row<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        while self.open.wanted.get(self.at).is_some_and(|wanted| !wanted.is_field) {
            self.at += 1;
        }
        *self.column = if let Some(wanted) = self.open.wanted.get(self.at) {
            &wanted.name
        } else if let Some((key, value)) = self.hive.next() {
            self.word = Some(Word(value.as_deref()));
            key
        } else {
            // What is missing now is no column's fault.
            *self.column = "";
            return Ok(None);
        };
        let name: StrDeserializer<'_, Error> = (*self.column).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        if let Some(word) = self.word.take() {
            return seed.deserialize(word);
        }
        let column = self.open.columns.get(self.at);
        self.at += 1;
        let cell = column.map_or(Ok(Cell::Null), Column::cell);
        seed.deserialize(cell.map_err(Error::custom)?)
    }
}
