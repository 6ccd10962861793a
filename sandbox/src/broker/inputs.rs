//! Inputs and outputs of jobs: listed once by the driver, opened by whoever runs a task.

use super::Broker;
use super::error::BrokerError;
use super::place::Place;
use crate::wasi::{Errno, modified_nanos};
use glob::{MatchOptions, Pattern};
use offshoot_proto::abi::InputFile;
use offshoot_proto::grants::Access;
use offshoot_proto::link::PathKind;
use rustix::fs::{AtFlags, statat};
use std::os::fd::OwnedFd;

/// Files of one listing.
const FILES_MAX: usize = 65_536;

/// Bytes of the paths of one listing, so that it fits a frame of the link with room to spare.
const PATHS_BYTES_MAX: usize = 8 << 20;

/// The component that stands for directories at any depth.
const ANY_DEPTH: &str = "**";

/// Within one component; hidden names are left out by [`is_hidden`].
const MATCH: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A listing in the making.
struct Listing<'a> {
    pattern: &'a str,
    files: Vec<InputFile>,
    path_bytes: usize,
}

impl Broker {
    /// The files that a path or pattern names, sorted by path, as they are now.
    ///
    /// A directory stands for the files in it. Names that begin with `.` or `_` are left out, in
    /// directories and where a wildcard would match them. Wildcards are `*`, `?` and `[..]`, none
    /// of which matches a slash, and the component `**`, which stands for a directory and all
    /// directories beneath it that are no links.
    ///
    /// # Errors
    /// Nothing matches; the path or a match is not under a grant to read; a limit.
    pub fn list_inputs(&self, pattern: &str) -> Result<Vec<InputFile>, BrokerError> {
        let mut listing = Listing { pattern, files: Vec::new(), path_bytes: 0 };
        for place in self.expand(pattern)? {
            match self.stat(&place, true) {
                Ok(stat) if stat.kind == PathKind::Directory => {
                    self.add_directory(&mut listing, &place)?;
                }
                Ok(_) => listing.add(self.input(&place)?)?,
                Err(error) if error.errno() == Errno::NOENT => {}
                Err(error) => return Err(error),
            }
        }
        if listing.files.is_empty() {
            let pattern = pattern.to_owned();
            return Err(BrokerError::NothingFound { pattern });
        }
        listing.files.sort_unstable();
        Ok(listing.files)
    }

    /// Opens a file of a listing for reading, if it is still the same file.
    ///
    /// # Errors
    /// It is not granted, cannot be read, or has another length or time of modification.
    pub fn open_input(&self, file: &InputFile) -> Result<OwnedFd, BrokerError> {
        let place = self.locate(&file.path, Access::Read)?;
        let (opened, stat) = self.open_to_read(&place)?;
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        let modified_nanos = modified_nanos(&stat);
        if (length, modified_nanos) != (file.length, file.modified_nanos) {
            return Err(BrokerError::InputChanged {
                path: file.path.clone(),
                listed_length: file.length,
                listed_modified_nanos: file.modified_nanos,
                length,
                modified_nanos,
            });
        }
        Ok(opened)
    }

    /// The absolute path of a directory that a job may create and fill.
    ///
    /// # Errors
    /// It is not under a grant to write, it exists, or the directory above it does not.
    pub fn check_output_dir(&self, path: &str) -> Result<String, BrokerError> {
        let place = self.locate(path, Access::Write)?;
        let (parent, name) = self.open_parent(&place).map_err(|error| {
            if error.errno() == Errno::NOENT {
                let path = path.to_owned();
                return BrokerError::NoOutputParent { path };
            }
            error
        })?;
        match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(BrokerError::OutputExists { path: path.to_owned() }),
            Err(rustix::io::Errno::NOENT) => utf8(&place),
            Err(errno) => Err(place.system(errno)),
        }
    }

    /// The places that a pattern may mean; those without wildcards need not exist.
    fn expand(&self, pattern: &str) -> Result<Vec<Place<'_>>, BrokerError> {
        let place = self.locate(pattern, Access::Read)?;
        let grant = Place { rest: String::new(), ..place.clone() };
        let mut places = vec![grant];
        for component in place.rest.split('/').filter(|component| !component.is_empty()) {
            if !component.contains(['*', '?', '[']) {
                places = places.iter().map(|place| place.join(component)).collect();
                continue;
            }
            if component == ANY_DEPTH {
                places = self.directories(pattern, places)?;
                continue;
            }
            let wildcard = wildcard(pattern, component)?;
            let mut matches = Vec::new();
            for place in &places {
                matches.extend(self.matches(place, &wildcard)?);
                check_count(pattern, matches.len())?;
            }
            places = matches;
        }
        for place in &mut places {
            place.must_be_directory = pattern.ends_with('/');
        }
        Ok(places)
    }

    /// Directories, and all beneath them.
    fn directories<'a>(
        &'a self,
        pattern: &str,
        mut waiting: Vec<Place<'a>>,
    ) -> Result<Vec<Place<'a>>, BrokerError> {
        let mut found = Vec::new();
        while let Some(place) = waiting.pop() {
            let entries = match self.list(&place) {
                Ok(entries) => entries,
                Err(error) if [Errno::NOENT, Errno::NOTDIR].contains(&error.errno()) => continue,
                Err(error) => return Err(error),
            };
            let beneath = entries.iter().filter(|entry| entry.kind == PathKind::Directory);
            let shown = beneath.filter(|entry| !is_hidden(&entry.name));
            waiting.extend(shown.map(|entry| place.join(&entry.name)));
            found.push(place);
            check_count(pattern, found.len().max(waiting.len()))?;
        }
        Ok(found)
    }

    /// What a wildcard matches in a directory; nothing in what is none.
    fn matches<'a>(
        &'a self,
        place: &Place<'a>,
        wildcard: &Pattern,
    ) -> Result<Vec<Place<'a>>, BrokerError> {
        let entries = match self.list(place) {
            Ok(entries) => entries,
            Err(error) if [Errno::NOENT, Errno::NOTDIR].contains(&error.errno()) => Vec::new(),
            Err(error) => return Err(error),
        };
        let hidden_asked_for = is_hidden(wildcard.as_str());
        let matching = entries.iter().filter(|entry| {
            let shown = hidden_asked_for || !is_hidden(&entry.name);
            shown && wildcard.matches_with(&entry.name, MATCH)
        });
        Ok(matching.map(|entry| place.join(&entry.name)).collect())
    }

    fn add_directory<'a>(
        &'a self,
        listing: &mut Listing<'_>,
        place: &Place<'a>,
    ) -> Result<(), BrokerError> {
        for entry in self.list(place)? {
            if is_hidden(&entry.name) {
                continue;
            }
            let file = place.join(&entry.name);
            let kind = match entry.kind {
                PathKind::Link => self.stat(&file, true)?.kind,
                kind => kind,
            };
            if kind == PathKind::File {
                listing.add(self.input(&file)?)?;
            }
        }
        Ok(())
    }

    /// A file as it is now. It is opened, so that one that cannot be read fails here, in `main`.
    fn input(&self, place: &Place<'_>) -> Result<InputFile, BrokerError> {
        let (_, stat) = self.open_to_read(place)?;
        Ok(InputFile {
            path: utf8(place)?,
            length: u64::try_from(stat.st_size).unwrap_or(0),
            modified_nanos: modified_nanos(&stat),
        })
    }
}

// === impl Listing ===

impl Listing<'_> {
    fn add(&mut self, file: InputFile) -> Result<(), BrokerError> {
        self.path_bytes += file.path.len();
        if self.path_bytes > PATHS_BYTES_MAX {
            return Err(too_many(self.pattern, "8 MiB of paths"));
        }
        self.files.push(file);
        check_count(self.pattern, self.files.len())
    }
}

fn check_count(pattern: &str, count: usize) -> Result<(), BrokerError> {
    if count > FILES_MAX {
        return Err(too_many(pattern, "65536 files"));
    }
    Ok(())
}

fn too_many(pattern: &str, limit: &'static str) -> BrokerError {
    let pattern = pattern.to_owned();
    BrokerError::TooManyInputs { pattern, limit }
}

fn wildcard(pattern: &str, component: &str) -> Result<Pattern, BrokerError> {
    let bad = |reason: String| BrokerError::BadPattern { pattern: pattern.to_owned(), reason };
    if component.contains("**") {
        let reason = "** stands for directories, between slashes".to_owned();
        return Err(bad(reason));
    }
    Pattern::new(component).map_err(|error| bad(error.msg.to_owned()))
}

/// Names that tools use for what is not data: `.part-0.crc`, `_SUCCESS`.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

fn utf8(place: &Place<'_>) -> Result<String, BrokerError> {
    let path = place.host_path().into_os_string().into_string();
    path.map_err(|_| place.error(Errno::ILSEQ))
}
