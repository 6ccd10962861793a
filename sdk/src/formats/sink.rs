//! A part of the output as a [`Write`], compressed where that is asked for.

#[cfg(feature = "compression")]
use crate::dataset::Dataset;
#[cfg(feature = "compression")]
use crate::error::Error;
#[cfg(any(feature = "compression", feature = "csv", feature = "json"))]
use crate::formats::codec::Compression;
use crate::host;
#[cfg(feature = "compression")]
use crate::job::Action;
#[cfg(feature = "compression")]
use crate::lines::Lines;
#[cfg(feature = "compression")]
use crate::node::Origin;
#[cfg(feature = "compression")]
use crate::output::ToLine;
use std::io::{self, Write};

/// Bytes that a task holds before it hands them over.
const BUFFER_BYTES: usize = 128 << 10;

/// Bytes of a frame of Zstandard: what the encoder takes at a time.
#[cfg(feature = "compression")]
const ZSTD_FRAME_BYTES: usize = 1 << 20;

/// Bytes as they are, on their way to the host.
#[derive(Default)]
pub(crate) struct PlainSink(Vec<u8>);

/// A part of the output.
#[cfg(any(feature = "compression", feature = "csv", feature = "json"))]
pub(crate) enum PartSink {
    Plain(PlainSink),
    #[cfg(feature = "compression")]
    Gzip(Box<flate2::write::GzEncoder<PlainSink>>),
    #[cfg(feature = "compression")]
    Zstd(PlainSink, Vec<u8>),
    #[cfg(feature = "compression")]
    Lz4(Box<lz4_flex::frame::FrameEncoder<PlainSink>>),
}

// === impl PlainSink ===

impl Write for PlainSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.0.is_empty() {
            host::write_output(&self.0);
            self.0.clear();
        }
        Ok(())
    }
}

// === impl PartSink ===

#[cfg(any(feature = "compression", feature = "csv", feature = "json"))]
impl PartSink {
    pub(crate) fn new(compression: Compression) -> Self {
        let plain = PlainSink::default();
        match compression {
            Compression::None => Self::Plain(plain),
            #[cfg(feature = "compression")]
            Compression::Gzip => {
                let level = flate2::Compression::default();
                Self::Gzip(Box::new(flate2::write::GzEncoder::new(plain, level)))
            }
            #[cfg(feature = "compression")]
            Compression::Zstd => Self::Zstd(plain, Vec::new()),
            #[cfg(feature = "compression")]
            Compression::Lz4 => {
                let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
                Self::Lz4(Box::new(lz4_flex::frame::FrameEncoder::with_frame_info(info, plain)))
            }
        }
    }

    /// Writes what is held back.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut plain) => plain.flush(),
            #[cfg(feature = "compression")]
            Self::Gzip(encoder) => encoder.finish()?.flush(),
            #[cfg(feature = "compression")]
            Self::Zstd(mut plain, held) => {
                plain.write_all(&zstd_frame(&held))?;
                plain.flush()
            }
            #[cfg(feature = "compression")]
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other)?.flush(),
        }
    }
}

#[cfg(feature = "compression")]
fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

#[cfg(any(feature = "compression", feature = "csv", feature = "json"))]
impl Write for PartSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.write(bytes),
            #[cfg(feature = "compression")]
            Self::Gzip(encoder) => encoder.write(bytes),
            #[cfg(feature = "compression")]
            Self::Zstd(plain, held) => {
                held.extend_from_slice(bytes);
                if held.len() >= ZSTD_FRAME_BYTES {
                    plain.write_all(&zstd_frame(held))?;
                    held.clear();
                }
                Ok(bytes.len())
            }
            #[cfg(feature = "compression")]
            Self::Lz4(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends the task if the output could not be written.
pub(crate) fn written<T, E: core::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| {
        crate::task::fail(format_args!("writing the output: {error}"));
    })
}

#[cfg(feature = "compression")]
fn line(part: &mut PartSink, line: &mut Vec<u8>) {
    line.push(b'\n');
    written(part.write_all(line));
    line.clear();
}

#[cfg(feature = "compression")]
impl<T: ToLine + 'static> Dataset<T> {
    /// [`save_as_text_file`](Self::save_as_text_file) with compressed parts: `part-00000.gz` and
    /// so on. Needs the feature `compression`.
    #[track_caller]
    pub fn save_as_compressed_text_file(
        &self,
        path: &str,
        compression: Compression,
    ) -> Result<(), Error> {
        let dataset = self.clone();
        let origin = Origin::here("save_as_text_file");
        let action = Action::new(origin, self.node(), move |partition, _| {
            let (mut part, mut buffer) = (PartSink::new(compression), Vec::new());
            dataset.records(partition).for_each(|record| {
                record.to_line(&mut buffer);
                line(&mut part, &mut buffer);
            });
            written(part.finish());
        });
        action.save(path, compression.suffix())
    }
}

#[cfg(feature = "compression")]
impl Lines {
    /// [`save_as_text_file`](Self::save_as_text_file) with compressed parts: `part-00000.gz` and
    /// so on. Needs the feature `compression`.
    #[track_caller]
    pub fn save_as_compressed_text_file(
        &self,
        path: &str,
        compression: Compression,
    ) -> Result<(), Error> {
        let lines = self.clone();
        let origin = Origin::here("save_as_text_file");
        let action = Action::new(origin, self.node(), move |partition, _| {
            let (mut part, mut buffer) = (PartSink::new(compression), Vec::new());
            lines.open(partition).drain(&mut |bytes| {
                buffer.extend_from_slice(bytes);
                line(&mut part, &mut buffer);
            });
            written(part.finish());
        });
        action.save(path, compression.suffix())
    }
}
