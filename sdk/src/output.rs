//! Saving: every task writes a part, and the driver's side commits all of them or none.

use crate::dataset::Dataset;
use crate::error::Error;
use crate::host;
use crate::job::Action;
use crate::lines::Lines;
use crate::node::{Node, Origin};
use std::rc::Rc;

/// Bytes of a part that a task holds before it hands them over.
const OUTPUT_BUFFER_BYTES: usize = 128 << 10;

/// What can be a line of a text file.
pub trait ToLine {
    /// Appends the line, without its end.
    fn to_line(&self, out: &mut Vec<u8>);
}

/// A part of the output being written, line by line.
struct PartWriter(Vec<u8>);

/// Runs `write` for every partition and waits for the commit.
fn save(
    origin: Origin,
    path: &str,
    parent: &Rc<Node>,
    write: impl Fn(u32, &mut PartWriter) + 'static,
) -> Result<(), Error> {
    let action = Action::new(origin, parent, move |partition, _| {
        let mut part = PartWriter(Vec::with_capacity(OUTPUT_BUFFER_BYTES));
        write(partition, &mut part);
        part.flush();
    });
    action.output(path).submit()?.for_each(&mut |_, _| Ok(()))
}

impl<T: ToLine + 'static> Dataset<T> {
    /// Writes one line for each record to `path/part-00000` and so on. `path` must not exist; it
    /// appears whole or not at all. Spark: `saveAsTextFile`.
    #[track_caller]
    pub fn save_as_text_file(&self, path: &str) -> Result<(), Error> {
        let dataset = self.clone();
        let origin = Origin::here("save_as_text_file");
        save(origin, path, self.node(), move |partition, part| {
            let records = dataset.records(partition);
            records.for_each(|record| part.line(|out| record.to_line(out)));
        })
    }
}

impl<T: 'static> Dataset<T> {
    /// [`save_as_text_file`](Self::save_as_text_file) with lines made by `format`, which appends
    /// a record's line without its end.
    #[track_caller]
    pub fn save_as_text_file_with(
        &self,
        path: &str,
        format: impl Fn(&T, &mut Vec<u8>) + 'static,
    ) -> Result<(), Error> {
        let dataset = self.clone();
        let origin = Origin::here("save_as_text_file");
        save(origin, path, self.node(), move |partition, part| {
            let records = dataset.records(partition);
            records.for_each(|record| part.line(|out| format(&record, out)));
        })
    }
}

impl Lines {
    /// Writes the lines to `path/part-00000` and so on, each ended by `\n`. `path` must not
    /// exist; it appears whole or not at all. Spark: `saveAsTextFile`.
    #[track_caller]
    pub fn save_as_text_file(&self, path: &str) -> Result<(), Error> {
        let lines = self.clone();
        let origin = Origin::here("save_as_text_file");
        save(origin, path, self.node(), move |partition, part| {
            let write = &mut |line: &[u8]| part.line(|out| out.extend_from_slice(line));
            lines.open(partition).drain(write);
        })
    }
}

// === impl PartWriter ===

impl PartWriter {
    #[inline]
    fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.0);
        self.0.push(b'\n');
        if self.0.len() >= OUTPUT_BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.0.is_empty() {
            host::write_output(&self.0);
            self.0.clear();
        }
    }
}

// === impl ToLine ===

impl ToLine for Vec<u8> {
    fn to_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl ToLine for String {
    fn to_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl ToLine for &'static str {
    fn to_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

macro_rules! displayed {
    ($($type:ty),*) => {$(
        impl ToLine for $type {
            fn to_line(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.to_string().as_bytes());
            }
        }
    )*};
}
displayed!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, bool, char);

/// Values of a pair or triple with tabulators between them.
macro_rules! separated {
    ($(($first:ident $zero:tt $(, $name:ident $index:tt)*))*) => {$(
        impl<$first: ToLine, $($name: ToLine),*> ToLine for ($first, $($name),*) {
            fn to_line(&self, out: &mut Vec<u8>) {
                self.$zero.to_line(out);
                $(
                    out.push(b'\t');
                    self.$index.to_line(out);
                )*
            }
        }
    )*};
}
separated! { (A 0, B 1) (A 0, B 1, C 2) }
