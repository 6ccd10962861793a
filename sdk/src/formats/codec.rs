//! Compressed files, known by the suffix of their name.
//!
//! A compressed file cannot be entered in its middle: it belongs to one partition as a whole.

use std::io::{self, Read};

/// How files are compressed. All but `None` need the feature `compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952, suffix `.gz`: also several members one after the other.
    #[cfg(feature = "compression")]
    Gzip,
    /// RFC 8878, suffix `.zst`: also several frames one after the other. Written at its fastest
    /// level.
    #[cfg(feature = "compression")]
    Zstd,
    /// Frames of LZ4, suffix `.lz4`.
    #[cfg(feature = "compression")]
    Lz4,
}

/// The decoded bytes of a file.
pub(crate) enum Decoded<R: Read> {
    /// As they are.
    Plain(R),
    #[cfg(feature = "compression")]
    Packed(&'static str, Box<dyn Read>),
}

// === impl Compression ===

impl Compression {
    /// By the end of a file's name.
    pub(crate) fn of(path: &str) -> Self {
        #[cfg(feature = "compression")]
        for compression in [Self::Gzip, Self::Zstd, Self::Lz4] {
            if path.ends_with(compression.suffix()) {
                return compression;
            }
        }
        let _ = path;
        Self::None
    }

    /// The end of a file's name.
    #[cfg(any(feature = "compression", feature = "csv", feature = "json"))]
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            #[cfg(feature = "compression")]
            Self::Gzip => ".gz",
            #[cfg(feature = "compression")]
            Self::Zstd => ".zst",
            #[cfg(feature = "compression")]
            Self::Lz4 => ".lz4",
        }
    }

    /// Decodes what `input` has from its beginning.
    pub(crate) fn decode<R: Read + 'static>(self, input: R) -> Decoded<R> {
        match self {
            Self::None => Decoded::Plain(input),
            #[cfg(feature = "compression")]
            Self::Gzip => {
                Decoded::Packed("gzip", Box::new(flate2::read::MultiGzDecoder::new(input)))
            }
            #[cfg(feature = "compression")]
            Self::Zstd => Decoded::Packed("zstd", Box::new(packed::ZstdFrames::new(input))),
            #[cfg(feature = "compression")]
            Self::Lz4 => Decoded::Packed("lz4", Box::new(packed::Lz4Frames::new(input))),
        }
    }
}

// === impl Decoded ===

impl<R: Read> Read for Decoded<R> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            #[cfg(feature = "compression")]
            Self::Packed(name, input) => {
                let wrong = |error| io::Error::other(format!("{name}: {error}"));
                input.read(buffer).map_err(wrong)
            }
        }
    }
}

/// What the crates leave to do: frames one after the other, and files that are cut off.
#[cfg(feature = "compression")]
mod packed {
    use lz4_flex::frame;
    use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
    use std::io::{self, BufRead, BufReader, Read};

    /// Zstandard frames, with the checksums of those that have one.
    pub(super) struct ZstdFrames<R> {
        input: BufReader<R>,
        frame: FrameDecoder,
        is_open: bool,
    }

    /// LZ4 frames. The decoder takes an end of the input between two blocks for the end of a
    /// frame: what it has read beyond the input's end tells the two apart.
    pub(super) struct Lz4Frames<R: Read> {
        frames: frame::FrameDecoder<Watched<R>>,
        is_open: bool,
    }

    /// Remembers that its end was met.
    struct Watched<R> {
        input: BufReader<R>,
        met_end: bool,
    }

    impl<R: Read> ZstdFrames<R> {
        pub(super) fn new(input: R) -> Self {
            Self { input: BufReader::new(input), frame: FrameDecoder::new(), is_open: false }
        }

        /// Begins the next frame; `false` if there is none.
        fn open(&mut self) -> io::Result<bool> {
            while !self.input.fill_buf()?.is_empty() {
                match self.frame.reset(&mut self.input) {
                    Ok(()) => {
                        self.is_open = true;
                        return Ok(true);
                    }
                    Err(FrameDecoderError::ReadFrameHeaderError(
                        ReadFrameHeaderError::SkipFrame { length, .. },
                    )) => {
                        let mut skipped = self.input.by_ref().take(u64::from(length));
                        if io::copy(&mut skipped, &mut io::sink())? < u64::from(length) {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                    }
                    Err(error) => return Err(io::Error::other(error.to_string())),
                }
            }
            Ok(false)
        }

        fn check_sum(&self) -> io::Result<()> {
            let (written, found) =
                (self.frame.get_checksum_from_data(), self.frame.get_calculated_checksum());
            match written {
                Some(written) if found.is_some_and(|found| found != written) => {
                    Err(io::Error::other("a frame's checksum is another"))
                }
                _ => Ok(()),
            }
        }
    }

    impl<R: Read> Read for ZstdFrames<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            loop {
                if !self.is_open && !self.open()? {
                    return Ok(0);
                }
                while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    let decoded = self.frame.decode_blocks(&mut self.input, one);
                    decoded.map_err(|error| io::Error::other(error.to_string()))?;
                }
                let count = self.frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                self.check_sum()?;
                self.is_open = false;
            }
        }
    }

    impl<R: Read> Lz4Frames<R> {
        pub(super) fn new(input: R) -> Self {
            let input = Watched { input: BufReader::new(input), met_end: false };
            Self { frames: frame::FrameDecoder::new(input), is_open: false }
        }
    }

    impl<R: Read> Read for Lz4Frames<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            loop {
                if !self.is_open && self.frames.get_mut().input.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.is_open = true;
                let count = self.frames.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                if self.frames.get_ref().met_end {
                    return Err(io::Error::other("it is cut off"));
                }
                self.is_open = false;
            }
        }
    }

    impl<R: Read> Read for Watched<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.input.read(buffer)?;
            self.met_end |= count == 0 && !buffer.is_empty();
            Ok(count)
        }
    }
}
