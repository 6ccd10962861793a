//! Text inputs: which bytes a partition has, and the lines that begin in them.
//!
//! ```text
//!   files   |----a----|-b-||--------------c--------------|      as listed, one after the other
//!   cuts         |         |         |         |                equal shares of all bytes
//!   partition 1:  rest of a, all of b, beginning of c
//! ```
//!
//! A line belongs to the partition in whose bytes it begins. A reader that starts in the middle
//! of a file looks at the byte before, and skips to the end of the line that was begun there. A
//! compressed file has no middle: it belongs to the partition in whose bytes it begins.

use crate::bytes::find_newline;
use crate::context::share;
use crate::formats::files;
use crate::host::STREAM_BUFFER_BYTES;
use crate::lines::LineStream;
use crate::task;
use core::ops::Range;
use offshoot_proto::abi::InputFile;
use std::io::{self, Read};
use std::rc::Rc;

/// Bytes of a partition where the job names no number: enough work to make a task worth its
/// while, little enough to lose.
const PARTITION_BYTES: u64 = 64 << 20;

/// Room to read one line of a sample.
const SAMPLE_BUFFER_BYTES: usize = 8 << 10;

/// A range of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) file: Rc<InputFile>,
    pub(crate) range: Range<u64>,
}

/// The lines that begin in a range of a file.
pub(crate) struct LineReader<R> {
    input: R,
    /// Where the first byte of the buffer is in the file.
    base: u64,
    /// Where in the file no more lines may begin.
    limit: u64,
    buffer: Vec<u8>,
    /// The current line in the buffer.
    line: Range<usize>,
    /// Where the next line begins in the buffer.
    next: usize,
    /// Where the buffer's bytes end.
    end: usize,
}

/// The lines of a partition.
pub(crate) struct PieceLines {
    pieces: std::vec::IntoIter<Piece>,
    file: Option<Rc<InputFile>>,
    reader: Option<LineReader<files::Opened>>,
    buffer: Vec<u8>,
}

/// How many partitions an input has where the job names no number.
pub(crate) fn default_partitions(total_bytes: u64, parallelism: u32) -> u32 {
    let full = u32::try_from(total_bytes.div_ceil(PARTITION_BYTES)).unwrap_or(u32::MAX);
    full.max(parallelism)
}

/// Cuts the files, put one after the other, into equal shares.
pub(crate) fn split(files: Vec<InputFile>, partitions: u32) -> Vec<Vec<Piece>> {
    let total = files.iter().map(|file| file.length).sum();
    let files: Vec<Rc<InputFile>> = files.into_iter().map(Rc::new).collect();
    let mut rest = files.iter().scan(0, |start, file| {
        let begins = *start;
        *start += file.length;
        Some((begins, file))
    });
    let mut current = rest.next();
    let share_of = |partition| {
        let share = share(0..total, partition, partitions);
        let mut pieces = Vec::new();
        while let Some((begins, file)) = current {
            let ends = begins + file.length;
            let cut = share.start.max(begins)..share.end.min(ends);
            if is_compressed(file) {
                if cut.start == begins && !cut.is_empty() {
                    pieces.extend(Piece::whole([InputFile::clone(file)]));
                }
            } else if !cut.is_empty() {
                pieces.push(Piece {
                    file: Rc::clone(file),
                    range: cut.start - begins..cut.end - begins,
                });
            }
            if ends > share.end {
                break;
            }
            current = rest.next();
        }
        pieces
    };
    (0..partitions).map(share_of).collect()
}

/// Whether a file has no middle to begin in.
pub(crate) fn is_compressed(file: &InputFile) -> bool {
    files::compression(file) != crate::formats::Compression::None
}

/// Lines from places spread evenly over the bytes of a partition, and the number of its bytes.
/// Reads a buffer for each, not the partition. A long line is as likely as it is long, which is
/// what makes reduce partitions equal in bytes.
pub(crate) fn sample(pieces: &[Piece], count: usize, line_bytes_max: usize) -> (Vec<Vec<u8>>, u64) {
    let length = |piece: &Piece| piece.range.end - piece.range.start;
    let total: u64 = pieces.iter().map(length).sum();
    let mut lines = Vec::with_capacity(count);
    let (mut rest, mut begins) = (pieces.iter().peekable(), 0);
    for middle in 0..count as u64 {
        let count = 2 * count as u128;
        let place = (u128::from(total) * u128::from(2 * middle + 1) / count) as u64;
        while rest.next_if(|piece| begins + length(piece) <= place).is_some_and(|piece| {
            begins += length(piece);
            true
        }) {}
        let Some(piece) = rest.peek() else { break };
        let range = piece.range.start + (place - begins)..piece.range.end;
        let mut reader = open(&piece.file, range, vec![0; SAMPLE_BUFFER_BYTES]);
        if advance_or_fail(&mut reader, &piece.file) {
            let line = reader.line();
            lines.push(line[..line.len().min(line_bytes_max)].to_vec());
        }
    }
    (lines, total)
}

/// The lines that begin in a range of a file, in a task.
pub(crate) fn open(
    file: &Rc<InputFile>,
    range: Range<u64>,
    buffer: Vec<u8>,
) -> LineReader<files::Opened> {
    // A range of a compressed file begins with it.
    let offset = range.start.saturating_sub(1);
    let input = files::open_raw(file, offset);
    let input = files::compression(file).decode(input);
    let reader = LineReader::new(input, range, buffer);
    reader.unwrap_or_else(|error| fail_reading(file, offset, &error))
}

fn advance_or_fail<R: Read>(reader: &mut LineReader<R>, file: &InputFile) -> bool {
    match reader.advance() {
        Ok(there) => there,
        Err(error) => fail_reading(file, reader.base + reader.end as u64, &error),
    }
}

#[cold]
#[inline(never)]
fn fail_reading(file: &InputFile, byte: u64, error: &io::Error) -> ! {
    task::fail(format_args!("reading {} at byte {byte}: {error}", files::name(file)))
}

// === impl Piece ===

impl Piece {
    /// Files that are not cut.
    pub(crate) fn whole(files: impl IntoIterator<Item = InputFile>) -> Vec<Self> {
        let piece = |file| Self { file: Rc::new(file), range: 0..u64::MAX };
        files.into_iter().filter(|file| file.length > 0).map(piece).collect()
    }
}

// === impl LineReader ===

impl<R: Read> LineReader<R> {
    /// `input` begins at the byte before the range, or with it at the beginning of the file.
    pub(crate) fn new(input: R, range: Range<u64>, buffer: Vec<u8>) -> io::Result<Self> {
        let mut reader = Self {
            input,
            base: range.start.saturating_sub(1),
            limit: u64::MAX,
            buffer,
            line: 0..0,
            next: 0,
            end: 0,
        };
        if range.start > 0 {
            reader.advance()?;
        }
        reader.limit = range.end;
        Ok(reader)
    }

    /// Goes to the next line; `false` if there is none.
    #[inline]
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        if self.base + self.next as u64 >= self.limit {
            return Ok(false);
        }
        if let Some(length) = find_newline(&self.buffer[self.next..self.end]) {
            self.line = self.next..self.next + length;
            self.next += length + 1;
            return Ok(true);
        }
        self.advance_reading()
    }

    /// The current line, without its end.
    #[inline]
    pub(crate) fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// Where the current line begins in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.line.start as u64
    }

    /// The next line goes beyond the buffer.
    fn advance_reading(&mut self) -> io::Result<bool> {
        let mut searched = self.end - self.next;
        loop {
            if !self.fill()? {
                self.line = self.next..self.end;
                self.next = self.end;
                return Ok(!self.line.is_empty());
            }
            let begin = self.next + searched;
            if let Some(length) = find_newline(&self.buffer[begin..self.end]) {
                self.line = self.next..begin + length;
                self.next = self.line.end + 1;
                return Ok(true);
            }
            searched = self.end - self.next;
        }
    }

    /// Reads more behind what is left, which moves to the front; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.next..self.end, 0);
            self.base += self.next as u64;
            self.end -= self.next;
            self.next = 0;
            if self.end * 2 > self.buffer.len() || self.buffer.is_empty() {
                let size = (self.buffer.len() * 2).max(SAMPLE_BUFFER_BYTES);
                self.buffer.resize(size, 0);
            }
        }
        let length = self.input.read(&mut self.buffer[self.end..])?;
        self.end += length;
        Ok(length > 0)
    }
}

// === impl PieceLines ===

impl PieceLines {
    pub(crate) fn new(pieces: Vec<Piece>) -> Self {
        Self {
            pieces: pieces.into_iter(),
            file: None,
            reader: None,
            buffer: vec![0; STREAM_BUFFER_BYTES],
        }
    }

    /// The file of the current line.
    #[cfg(feature = "json")]
    pub(crate) fn file(&self) -> Option<&Rc<InputFile>> {
        self.file.as_ref()
    }

    /// Where the current line begins in its file.
    #[cfg(feature = "json")]
    pub(crate) fn offset(&self) -> u64 {
        self.reader.as_ref().map_or(0, LineReader::offset)
    }

    /// Opens the next piece; `false` if there is none.
    fn open_next(&mut self) -> bool {
        if let Some(reader) = self.reader.take() {
            self.buffer = reader.buffer;
        }
        let Some(piece) = self.pieces.next() else {
            return false;
        };
        let buffer = core::mem::take(&mut self.buffer);
        self.reader = Some(open(&piece.file, piece.range, buffer));
        self.file = Some(piece.file);
        true
    }

    /// Goes to the next line of the open piece.
    #[inline]
    fn advance_in_piece(&mut self) -> bool {
        match (&mut self.reader, &self.file) {
            (Some(reader), Some(file)) => advance_or_fail(reader, file),
            _ => false,
        }
    }
}

impl LineStream for PieceLines {
    #[inline]
    fn advance(&mut self) -> bool {
        while !self.advance_in_piece() {
            if !self.open_next() {
                return false;
            }
        }
        true
    }

    #[inline]
    fn line(&self) -> &[u8] {
        self.reader.as_ref().map_or(&[], LineReader::line)
    }

    fn drain(mut self: Box<Self>, sink: &mut dyn FnMut(&[u8])) {
        while LineStream::advance(&mut *self) {
            sink(LineStream::line(&*self));
        }
    }

    fn place(&self) -> String {
        let path = self.file.as_ref().map_or("?", |file| files::name(file));
        let offset = self.reader.as_ref().map_or(0, LineReader::offset);
        format!("{path}, line at byte {offset}")
    }
}

#[cfg(test)]
mod tests;
