//! CSV: rows as any type with serde.

use crate::context::{self, Context};
use crate::dataset::Dataset;
use crate::error::Error;
use crate::formats::codec::Compression;
use crate::formats::sink::{PartSink, written};
use crate::formats::{fields, files, hive};
use crate::input::{self, LineReader, Piece};
use crate::job::Action;
use crate::node::{Node, Origin};
use crate::records::Records;
use core::marker::PhantomData;
use csv::{ByteRecord, ErrorKind, ReaderBuilder, Terminator, WriterBuilder};
use offshoot_proto::abi::InputFile;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// How CSV files look. The default is RFC 4180 with a header, and `\n` at the ends of lines that
/// are written.
#[derive(Clone, Debug)]
pub struct CsvOptions {
    delimiter: u8,
    quote: Option<u8>,
    columns: Option<Vec<String>>,
    split: bool,
    missing_allowed: bool,
    compression: Compression,
}

/// Rows of a partition.
struct Rows<T> {
    options: Rc<CsvOptions>,
    pieces: std::vec::IntoIter<Piece>,
    open: Option<OpenFile>,
    record: ByteRecord,
    kind: PhantomData<fn() -> T>,
}

struct OpenFile {
    file: Rc<InputFile>,
    reader: csv::Reader<Quotes>,
    header: ByteRecord,
    /// How many columns the file itself has.
    width: usize,
    hive: Vec<hive::Column>,
    /// Where the reader's first byte is in the file.
    base: u64,
    /// Whether the number of quotes that were read is odd, and the last byte that was read.
    end: Quoted,
    /// Where the last record begins, and whether its last field ends with an end of line.
    last: (Option<csv::Position>, bool),
}

/// Watches quotes go by: a quote that is opened and never closed would take the rest of a file
/// for one field.
struct Quotes {
    input: Box<dyn Read>,
    quote: Option<u8>,
    end: Quoted,
}

/// The lines that begin in a part of a file, as bytes.
struct LinesOf {
    lines: LineReader<files::Opened>,
    at: Option<usize>,
}

impl Context {
    /// The rows of CSV files, as a type with serde whose fields are called as the columns; what
    /// it does not name is skipped. `key=value` folders are columns, too. An empty field is
    /// `None` of an `Option`. Needs the feature `csv`.
    ///
    /// A column that a file does not have, a value of another type, bytes that are no UTF-8, a row
    /// of another length and a quote that is never closed fail the task with file, line, byte and
    /// column. Spark: `read.csv`.
    #[track_caller]
    pub fn csv_file<T: DeserializeOwned + 'static>(
        &self,
        path: &str,
        options: CsvOptions,
    ) -> Result<Dataset<T>, Error> {
        let origin = Origin::here("csv_file");
        let (files, _) = files::list(path)?;
        let total = files.iter().map(|file| file.length).sum();
        let partitions = input::default_partitions(total, context::parallelism());
        let pieces = match options.split {
            true => input::split(files, partitions),
            false => files::group(files, partitions).into_iter().map(Piece::whole).collect(),
        };
        let (pieces, options) = (Rc::new(pieces), Rc::new(options));
        let node = Node::records(origin, pieces.len() as u32, Vec::new());
        Ok(Dataset::new(node, move |partition| {
            Records::new(Rows {
                options: Rc::clone(&options),
                pieces: pieces[partition as usize].clone().into_iter(),
                open: None,
                record: ByteRecord::new(),
                kind: PhantomData::<fn() -> T>,
            })
        }))
    }
}

impl<T: Serialize + 'static> Dataset<T> {
    /// Writes the rows of each partition to `path/part-00000.csv` and so on, with a header made of
    /// the names of the fields. `path` must not exist; it appears whole or not at all. A partition
    /// without rows makes an empty file. Needs the feature `csv`. Spark: `write.csv`.
    #[track_caller]
    pub fn save_as_csv(&self, path: &str, options: CsvOptions) -> Result<(), Error> {
        let dataset = self.clone();
        let suffix = format!(".csv{}", options.compression.suffix());
        let action = Action::new(Origin::here("save_as_csv"), self.node(), move |partition, _| {
            let mut part = PartSink::new(options.compression);
            let mut builder = WriterBuilder::new();
            builder.delimiter(options.delimiter).terminator(Terminator::Any(b'\n'));
            builder.has_headers(options.columns.is_none());
            match options.quote {
                Some(quote) => builder.quote(quote),
                None => builder.quote_style(csv::QuoteStyle::Never),
            };
            let mut writer = builder.from_writer(&mut part);
            dataset.records(partition).for_each(|row| written(writer.serialize(row)));
            written(writer.flush());
            drop(writer);
            written(part.finish());
        });
        action.save(path, &suffix)
    }
}

// === impl CsvOptions ===

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            columns: None,
            split: false,
            missing_allowed: false,
            compression: Compression::None,
        }
    }
}

impl CsvOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is between fields; a comma by default.
    pub fn delimiter(self, delimiter: u8) -> Self {
        Self { delimiter, ..self }
    }

    /// What is around fields with delimiters in them; `"` by default. With `None` quotes are
    /// letters as others.
    pub fn quote(self, quote: Option<u8>) -> Self {
        Self { quote, ..self }
    }

    /// Files have no header: their columns are these. Nor do files that are written.
    pub fn without_header<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: Some(columns.into_iter().map(Into::into).collect()), ..self }
    }

    /// No field of these files has an end of line in its quotes: large files are then read by
    /// several tasks. By default each is read by one, because nobody can tell in the middle of a
    /// file whether a line begins there or a field goes on.
    pub fn one_line_a_row(self) -> Self {
        Self { split: true, ..self }
    }

    /// A field whose column a file does not have is `None`, or serde's default, instead of an
    /// error.
    pub fn allow_missing_columns(self) -> Self {
        Self { missing_allowed: true, ..self }
    }

    /// How parts are written. What is read says so by its suffix.
    pub fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    fn reader(&self, input: Box<dyn Read>) -> (csv::Reader<Quotes>, Quoted) {
        let end = Rc::new(Cell::new((false, b'\n')));
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).delimiter(self.delimiter).buffer_capacity(64 << 10);
        builder.quoting(self.quote.is_some()).quote(self.quote.unwrap_or(b'"'));
        let quotes = Quotes { input, quote: self.quote, end: Rc::clone(&end) };
        (builder.from_reader(quotes), end)
    }
}

type Quoted = Rc<Cell<(bool, u8)>>;

// === impl OpenFile ===

impl OpenFile {
    /// Opens a piece; nothing if there is nothing in it.
    fn new<T: DeserializeOwned>(options: &CsvOptions, piece: Piece) -> Option<Self> {
        let file = piece.file;
        let (mut reader, mut end) = options.reader(Box::new(files::open(&file)));
        let (mut header, mut base) = (ByteRecord::new(), 0);
        match &options.columns {
            Some(columns) => header.extend(columns),
            None => match reader.read_byte_record(&mut header) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => files::fail(&file, Self::words(&error, &header)),
            },
        }
        let width = header.len();
        if piece.range.start > 0 {
            let lines = input::open(&file, piece.range, vec![0; 64 << 10]);
            let mut lines = LinesOf { lines, at: None };
            base = match lines.advance() {
                Ok(true) => lines.lines.offset(),
                Ok(false) => return None,
                Err(error) => files::fail(&file, error),
            };
            (reader, end) = options.reader(Box::new(lines));
        } else if piece.range.end < file.length {
            // The header is a line, too: it comes first, and is not handed out.
            let lines = input::open(&file, piece.range, vec![0; 64 << 10]);
            (reader, end) = options.reader(Box::new(LinesOf { lines, at: None }));
            if options.columns.is_none() {
                let skipped = reader.read_byte_record(&mut ByteRecord::new());
                skipped.unwrap_or_else(|error| files::fail(&file, error));
            }
        }
        let hive = hive::columns(&file);
        hive.iter().for_each(|(key, _)| header.push_field(key.as_bytes()));
        let this = Self { file, reader, header, width, hive, base, end, last: (None, false) };
        this.check_columns::<T>(options);
        Some(this)
    }

    fn check_columns<T: DeserializeOwned>(&self, options: &CsvOptions) {
        if let Some(bad) = self.header.iter().find(|name| core::str::from_utf8(name).is_err()) {
            let shown = String::from_utf8_lossy(bad);
            files::fail(&self.file, format_args!("line 1: column {shown:?} is not UTF-8"));
        }
        let has = |field: &str| self.header.iter().any(|name| name == field.as_bytes());
        let names = self.header.iter().map(|name| core::str::from_utf8(name).unwrap_or("?"));
        if let Some(missing) = fields::missing(fields::of::<T>(), has, names)
            && !options.missing_allowed
        {
            files::fail(&self.file, missing);
        }
    }

    fn next<T: DeserializeOwned>(&mut self, record: &mut ByteRecord) -> Option<T> {
        match self.reader.read_byte_record(record) {
            Ok(true) => {}
            Ok(false) => {
                self.check_quotes();
                return None;
            }
            Err(error) => self.fail(&error),
        }
        let ends = record.get(record.len().wrapping_sub(1));
        let runs_on = ends.is_some_and(|field| field.ends_with(b"\n"));
        self.last = (record.position().cloned(), runs_on);
        if record.len() != self.width {
            let (line, byte) = self.place(record.position());
            let (found, width) = (record.len(), self.width);
            let what = format_args!("{line}byte {byte}: {found} fields, and {width} columns");
            files::fail(&self.file, what);
        }
        for (_, value) in &self.hive {
            record.push_field(value.as_deref().unwrap_or_default().as_bytes());
        }
        match record.deserialize(Some(&self.header)) {
            Ok(row) => Some(row),
            Err(error) => self.fail(&error),
        }
    }

    /// At the end: the last record must not be what follows a quote that was never closed.
    fn check_quotes(&self) {
        let ((odd, last_byte), (position, runs_on)) = (self.end.get(), &self.last);
        if odd && (*runs_on || last_byte != b'\n') {
            let (line, byte) = self.place(position.as_ref());
            files::fail(
                &self.file,
                format_args!(
                    "{line}byte {byte}: the file ends within quotes (if quotes are letters in it, \
                     read it with `quote(None)`)"
                ),
            );
        }
    }

    /// The line of a position, if it is known, and its byte.
    fn place(&self, position: Option<&csv::Position>) -> (String, u64) {
        let (line, byte) = position.map_or((1, 0), |place| (place.line(), place.byte()));
        let line = if self.base == 0 { format!("line {line}, ") } else { String::new() };
        (line, self.base + byte)
    }

    fn fail(&self, error: &csv::Error) -> ! {
        let (line, byte) = self.place(error.position());
        let what = Self::words(error, &self.header);
        files::fail(&self.file, format_args!("{line}byte {byte}: {what}"))
    }

    /// What is wrong, without where.
    fn words(error: &csv::Error, header: &ByteRecord) -> String {
        match error.kind() {
            ErrorKind::Io(error) => error.to_string(),
            ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} fields, and {expected_len} columns")
            }
            ErrorKind::Deserialize { err, .. } => {
                let column = err.field().and_then(|field| header.get(field as usize));
                let column = column.map(String::from_utf8_lossy).unwrap_or_default();
                format!("column {column}: {}", err.kind())
            }
            _ => error.to_string(),
        }
    }
}

// === impl Rows ===

impl<T: DeserializeOwned> Iterator for Rows<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(row) = open.next(&mut self.record) {
                    return Some(row);
                }
                self.open = None;
            }
            self.open = OpenFile::new::<T>(&self.options, self.pieces.next()?);
        }
    }
}

// === impl Quotes, LinesOf ===

impl Read for Quotes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if let (Some(quote), Some(last)) = (self.quote, buffer[..count].last()) {
            let quotes = buffer[..count].iter().filter(|byte| **byte == quote).count();
            self.end.set((self.end.get().0 ^ (quotes % 2 == 1), *last));
        }
        Ok(count)
    }
}

impl LinesOf {
    fn advance(&mut self) -> io::Result<bool> {
        let there = self.lines.advance()?;
        self.at = there.then_some(0);
        Ok(there)
    }
}

impl Read for LinesOf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at.is_none() && !self.advance()? {
            return Ok(0);
        }
        let at = self.at.unwrap_or(0);
        let rest = &self.lines.line()[at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        if count < buffer.len() {
            buffer[count] = b'\n';
            self.at = None;
            return Ok(count + 1);
        }
        self.at = Some(at + count);
        Ok(count)
    }
}
