//! A file of a listing as a task reads it.

use crate::error::Error;
use crate::formats::codec::{Compression, Decoded};
use crate::host::{self, InputStream};
use crate::task;
use core::fmt;
use offshoot_proto::abi::{InputFile, Source};

/// What [`open`] opens.
pub(crate) type Opened = Decoded<InputStream>;

/// The version behind the URL of a listed object: `docs/abi.md`.
const VERSION: &str = "#etag=";

/// The path of a listed file as a person knows it, without the version behind it.
#[inline(never)]
pub(crate) fn name(file: &InputFile) -> &str {
    // Not by `str::rsplit_once`: it would be a hundredth of a small job's module.
    let mut places = file.path.as_bytes().windows(VERSION.len());
    let place = places.rposition(|bytes| bytes == VERSION.as_bytes());
    place.map_or(&file.path, |place| &file.path[..place])
}

/// The raw bytes of a file from an offset on.
#[inline(never)]
pub(crate) fn open_raw(file: &InputFile, offset: u64) -> InputStream {
    host::open_in_task(&Source::File { file: file.clone(), offset })
}

/// All bytes of a file, decoded as its name says.
pub(crate) fn open(file: &InputFile) -> Opened {
    // Of an empty file no decoder finds the beginning; there is nothing to decode in it.
    let compression = if file.length == 0 { Compression::None } else { compression(file) };
    compression.decode(open_raw(file, 0))
}

/// How a file is compressed, by its name.
pub(crate) fn compression(file: &InputFile) -> Compression {
    if cfg!(feature = "compression") { Compression::of(name(file)) } else { Compression::None }
}

/// Ends the task for what is wrong with a file.
pub(crate) fn fail(file: &InputFile, what: impl fmt::Display) -> ! {
    task::fail(format_args!("{}: {what}", name(file)))
}

/// The files of a path, in `main`; the number of partitions where each file is one.
pub(crate) fn list(path: &str) -> Result<(Vec<InputFile>, u32), Error> {
    let files = host::list(path)?;
    let partitions = u32::try_from(files.len()).unwrap_or(u32::MAX);
    Ok((files, partitions))
}

/// Puts files together until there are no more than so many partitions, each of neighbours and
/// of about as many bytes: one task for each of ten thousand small files would be too many.
pub(crate) fn group(files: Vec<InputFile>, partitions: u32) -> Vec<Vec<InputFile>> {
    // What it costs to open a file, so that empty ones are spread, too.
    let weight = |file: &InputFile| file.length + 4096;
    let total: u64 = files.iter().map(weight).sum();
    let partitions = u64::from(partitions.max(1)).min(files.len().max(1) as u64);
    let mut groups = vec![Vec::new(); partitions as usize];
    let mut before = 0;
    for file in files {
        let middle = u128::from(before + weight(&file) / 2);
        before += weight(&file);
        let index = middle * u128::from(partitions) / u128::from(total.max(1));
        groups[(index as usize).min(partitions as usize - 1)].push(file);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::{group, name};
    use offshoot_proto::abi::InputFile;
    use proptest::prelude::*;

    fn file(number: usize, length: u64) -> InputFile {
        InputFile { path: format!("/f{number}"), length, modified_nanos: 0 }
    }

    #[test]
    fn a_version_is_no_part_of_the_name() {
        let path = "s3://b/a#etag=x#etag=\"1\"".to_owned();
        let object = InputFile { path, ..file(0, 1) };
        assert_eq!(name(&object), "s3://b/a#etag=x");
        assert_eq!(name(&file(1, 1)), "/f1");
    }

    proptest! {
        #[test]
        fn groups_have_every_file_once_and_in_order(
            lengths in prop::collection::vec(0u64..1 << 30, 0..50), partitions in 1u32..70,
        ) {
            let files: Vec<_> =
                lengths.iter().enumerate().map(|(n, length)| file(n, *length)).collect();
            let groups = group(files.clone(), partitions);
            prop_assert!(groups.len() <= partitions as usize && !groups.is_empty());
            prop_assert_eq!(groups.concat(), files);
        }
    }
}
