//! JSON lines: one value of any type with serde on each line.

use crate::context::{self, Context};
use crate::dataset::Dataset;
use crate::error::Error;
use crate::formats::codec::Compression;
use crate::formats::sink::{PartSink, written};
use crate::formats::word::Word;
use crate::formats::{files, hive};
use crate::input::{self, PieceLines};
use crate::job::Action;
use crate::lines::LineStream;
use crate::node::{Node, Origin};
use crate::records::Records;
use core::cell::RefCell;
use core::fmt;
use core::marker::PhantomData;
use offshoot_proto::abi::InputFile;
use serde::Serialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer};
use serde::de::{MapAccess, Visitor};
use std::io::Write;
use std::rc::Rc;

/// What many programs for Windows write first.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Rows of a partition.
struct Rows<T> {
    lines: PieceLines,
    /// The columns in the path of the current file.
    file: Option<Rc<InputFile>>,
    hive: Vec<hive::Column>,
    kind: PhantomData<fn() -> T>,
}

/// An object's entries after the columns of the path.
struct Row<'a, D> {
    json: D,
    place: &'a Place<'a>,
}

/// Columns of the path, and which entry is being read.
struct Place<'a> {
    hive: &'a [hive::Column],
    column: RefCell<String>,
}

struct Entries<'a, V> {
    visitor: V,
    place: &'a Place<'a>,
}

struct Chained<'a, A> {
    hive: core::slice::Iter<'a, hive::Column>,
    value: Option<Word<'a>>,
    json: A,
    place: &'a Place<'a>,
}

impl Context {
    /// The values in files of JSON lines, as a type with serde. The entries of an object that it
    /// does not name are skipped, those that it names and an object does not have are `None` of
    /// an `Option`; `key=value` folders are entries, too. Empty lines are skipped. Needs the
    /// feature `json`.
    ///
    /// A value that does not fit fails the task with file, byte, column and name of the entry.
    /// Spark: `read.json`.
    #[track_caller]
    pub fn json_lines<T: DeserializeOwned + 'static>(
        &self,
        path: &str,
    ) -> Result<Dataset<T>, Error> {
        let origin = Origin::here("json_lines");
        let (listed, _) = files::list(path)?;
        let total = listed.iter().map(|file| file.length).sum();
        let partitions = input::default_partitions(total, context::parallelism());
        let pieces = Rc::new(input::split(listed, partitions));
        let node = Node::records(origin, partitions, Vec::new());
        Ok(Dataset::new(node, move |partition| {
            let lines = PieceLines::new(pieces[partition as usize].clone());
            let kind = PhantomData::<fn() -> T>;
            Records::new(Rows { lines, file: None, hive: Vec::new(), kind })
        }))
    }
}

impl<T: Serialize + 'static> Dataset<T> {
    /// Writes each record as a line of JSON to `path/part-00000.jsonl` and so on. `path` must not
    /// exist; it appears whole or not at all. Needs the feature `json`. Spark: `write.json`.
    #[track_caller]
    pub fn save_as_json_lines(&self, path: &str, compression: Compression) -> Result<(), Error> {
        let dataset = self.clone();
        let origin = Origin::here("save_as_json_lines");
        let suffix = format!(".jsonl{}", compression.suffix());
        let action = Action::new(origin, self.node(), move |partition, _| {
            let (mut part, mut line) = (PartSink::new(compression), Vec::new());
            dataset.records(partition).for_each(|record| {
                written(serde_json::to_writer(&mut line, &record));
                line.push(b'\n');
                written(part.write_all(&line));
                line.clear();
            });
            written(part.finish());
        });
        action.save(path, &suffix)
    }
}

// === impl Rows ===

impl<T: DeserializeOwned> Rows<T> {
    fn parse(&self, line: &[u8]) -> T {
        let place = Place { hive: &self.hive, column: RefCell::default() };
        let mut json = serde_json::Deserializer::from_slice(line);
        let row = T::deserialize(Row { json: &mut json, place: &place });
        match row.and_then(|row| json.end().map(|()| row)) {
            Ok(row) => row,
            Err(error) => self.fail(&error, &place.column.borrow()),
        }
    }

    fn fail(&self, error: &serde_json::Error, column: &str) -> ! {
        let text = error.to_string();
        // A line has one line.
        let text = text.split(" at line ").next().unwrap_or_default();
        let byte = self.lines.offset() + (error.column() as u64).saturating_sub(1);
        let entry = if column.is_empty() { String::new() } else { format!("{column}: ") };
        let path = self.file.as_ref().map_or("?", |file| files::name(file));
        let begins = self.lines.offset();
        crate::task::fail(format_args!(
            "{path}, line at byte {begins}: {entry}{text} (at byte {byte})"
        ))
    }
}

impl<T: DeserializeOwned> Iterator for Rows<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while self.lines.advance() {
            let now = self.lines.file();
            if self.file.as_ref().map(Rc::as_ptr) != now.map(Rc::as_ptr) {
                self.file = now.cloned();
                self.hive = now.map(|file| hive::columns(file)).unwrap_or_default();
            }
            let mut line = self.lines.line();
            if self.lines.offset() == 0 {
                line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
            }
            if !line.trim_ascii().is_empty() {
                return Some(self.parse(line));
            }
        }
        None
    }
}

// === impl Row, Entries, Chained ===

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Row<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.json.deserialize_any(Entries { visitor, place: self.place })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.json.deserialize_map(Entries { visitor, place: self.place })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.json.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

macro_rules! passed_on {
    ($($method:ident $type:ty;)*) => {$(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Entries<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, json: A) -> Result<V::Value, A::Error> {
        let (hive, place) = (self.place.hive.iter(), self.place);
        self.visitor.visit_map(Chained { hive, value: None, json, place })
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(items)
    }

    passed_on! {
        visit_bool bool;
        visit_i64 i64;
        visit_i128 i128;
        visit_u64 u64;
        visit_u128 u128;
        visit_f64 f64;
        visit_str &str;
        visit_borrowed_str &'de str;
        visit_string String;
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Chained<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let key = match self.hive.next() {
            Some((key, value)) => {
                self.value = Some(Word(value.as_deref()));
                key.clone()
            }
            None => match self.json.next_key::<String>()? {
                Some(key) => key,
                None => {
                    self.place.column.borrow_mut().clear();
                    return Ok(None);
                }
            },
        };
        let name: StrDeserializer<'_, A::Error> = key.as_str().into_deserializer();
        let named = seed.deserialize(name).map(Some);
        *self.place.column.borrow_mut() = key;
        named
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match self.value.take() {
            Some(word) => {
                seed.deserialize(word).map_err(|error: WordError| A::Error::custom(error))
            }
            None => self.json.next_value_seed(seed),
        }
    }
}
