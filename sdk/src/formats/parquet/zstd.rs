//! Column chunks in Zstandard, made plain: the reader of pages knows it only through a library in
//! C, for which jobs have no compiler.
//!
//! ```text
//!   chunk := pages; page := header (Thrift's compact protocol), body
//!   header: 1 type, 2 size, 3 size in the file, 4 checksum, 5 data page, ..., 8 data page v2
//! ```
//!
//! A header is copied with another size 3 and without the checksum, which is of the packed bytes.

use ruzstd::decoding::FrameDecoder;

/// The largest header of a page: those of real files have less than a hundred bytes, and twice
/// the length of a text or two as statistics.
const HEADER_BYTES_MAX: usize = 16 << 20;

/// Fields of a page header.
const SIZE: i16 = 2;
const SIZE_IN_FILE: i16 = 3;
const CHECKSUM: i16 = 4;
const DATA_PAGE_V2: i16 = 8;

/// Fields of the header of a data page v2: lengths of two parts that are never packed, and
/// whether the third is.
const DEFINITION_BYTES: i16 = 5;
const REPETITION_BYTES: i16 = 6;
const IS_PACKED: i16 = 7;

/// Reads Thrift's compact protocol.
struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A field of a struct.
struct Field {
    id: i16,
    kind: u8,
}

/// What a header says of its page, and the header for a plain one.
struct Header {
    size: usize,
    size_in_file: usize,
    /// Bytes at the beginning of the body that are not packed.
    plain: usize,
    is_packed: bool,
    /// The fields but sizes in the file and checksums: number, type and encoded value.
    fields: Vec<(i16, u8, Vec<u8>)>,
}

/// The pages of a chunk, not packed.
///
/// # Errors
/// What is wrong, with the byte of the chunk.
pub(crate) fn plain_pages(chunk: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::with_capacity(chunk.len() * 2);
    let mut decoder = FrameDecoder::new();
    let mut at = 0;
    while at < chunk.len() {
        let wrong = |what: &str| format!("a page at byte {at} of its column chunk: {what}");
        let (header, length) = Header::read(&chunk[at..]).ok_or_else(|| wrong("a bad header"))?;
        let body = chunk.get(at + length..).and_then(|rest| rest.get(..header.size_in_file));
        let body = body.ok_or_else(|| wrong("it ends behind the chunk"))?;
        let (levels, packed) =
            body.split_at_checked(header.plain).ok_or_else(|| wrong("bad lengths of levels"))?;
        header.write(&mut plain);
        let begin = plain.len();
        plain.extend_from_slice(levels);
        match header.is_packed && header.size > header.plain {
            true => {
                let mut values = vec![0; header.size - header.plain];
                let count = decoder.decode_all(packed, &mut values);
                let count = count.map_err(|error| wrong(&format!("zstd: {error}")))?;
                plain.extend_from_slice(&values[..count]);
            }
            false => plain.extend_from_slice(packed),
        }
        if plain.len() - begin != header.size {
            return Err(wrong("it unpacks to another number of bytes"));
        }
        at += length + header.size_in_file;
    }
    Ok(plain)
}

// === impl Header ===

impl Header {
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut thrift = Thrift { bytes: &bytes[..bytes.len().min(HEADER_BYTES_MAX)], at: 0 };
        let mut header =
            Self { size: 0, size_in_file: 0, plain: 0, is_packed: true, fields: Vec::new() };
        let mut last = 0;
        while let Some(field) = thrift.field(last)? {
            last = field.id;
            let begin = thrift.at;
            match field.id {
                SIZE => header.size = thrift.length()?,
                SIZE_IN_FILE => header.size_in_file = thrift.length()?,
                DATA_PAGE_V2 => header.read_v2(&mut thrift)?,
                _ => thrift.skip(field.kind, 0)?,
            }
            let value = match field.id {
                SIZE_IN_FILE => Vec::new(),
                _ => thrift.bytes[begin..thrift.at].to_vec(),
            };
            if field.id != CHECKSUM {
                header.fields.push((field.id, field.kind, value));
            }
        }
        Some((header, thrift.at))
    }

    fn read_v2(&mut self, thrift: &mut Thrift<'_>) -> Option<()> {
        let mut last = 0;
        while let Some(field) = thrift.field(last)? {
            last = field.id;
            match field.id {
                DEFINITION_BYTES | REPETITION_BYTES => {
                    self.plain = self.plain.checked_add(thrift.length()?)?;
                }
                // Its value is its type: 1 is true, 2 is false.
                IS_PACKED => self.is_packed = field.kind == 1,
                _ => thrift.skip(field.kind, 0)?,
            }
        }
        Some(())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut last = 0;
        for (id, kind, value) in &self.fields {
            // Page headers have fewer than 16 fields.
            out.push(((id - last) as u8) << 4 | kind);
            last = *id;
            match *id {
                SIZE_IN_FILE => write_varint(out, (self.size as u64) << 1),
                _ => out.extend_from_slice(value),
            }
        }
        out.push(0);
    }
}

fn write_varint(out: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

// === impl Thrift ===

impl Thrift<'_> {
    /// Structs in structs of a page header.
    const DEPTH_MAX: u32 = 8;

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A signed number that is a length of something in memory.
    fn length(&mut self) -> Option<usize> {
        let zigzag = self.varint()?;
        (zigzag & 1 == 0 && zigzag >> 1 <= i32::MAX as u64).then_some((zigzag >> 1) as usize)
    }

    /// The next field of a struct whose last one was `last`; the inner nothing at its end.
    fn field(&mut self, last: i16) -> Option<Option<Field>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        let (delta, kind) = (byte >> 4, byte & 0xf);
        let id = match delta {
            0 => {
                let zigzag = self.varint()?;
                i16::try_from((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)).ok()?
            }
            delta => last.checked_add(delta.into())?,
        };
        // Fields come in order, and every header is written with short distances.
        (id > last && id - last < 16).then_some(Some(Field { id, kind }))
    }

    fn advance(&mut self, count: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(count).ok()?)?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        match kind {
            1 | 2 => Some(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(drop),
            7 => self.advance(8),
            8 => {
                let length = self.varint()?;
                self.advance(length)
            }
            12 if depth < Self::DEPTH_MAX => {
                let mut last = 0;
                while let Some(field) = self.field(last)? {
                    last = field.id;
                    self.skip(field.kind, depth + 1)?;
                }
                Some(())
            }
            // Page headers have no lists and no maps.
            _ => None,
        }
    }
}
