//! Real text for the demo and the benchmarks, from what every Rust machine has.
//!
//! The HTML of Rust's documentation where rustup installed it, else the sources of the crates that
//! cargo has downloaded, else this checkout's own: concatenated in the order of their paths,
//! repeated where that is too little.

use crate::toolchain::{cargo_home, repository, sysroot};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// A file of real text with exactly `bytes` bytes, made where it is missing.
pub(crate) fn text_of(bytes: u64) -> Result<PathBuf> {
    let folder = repository().join("target/demo");
    let path = folder.join(format!("text-{}MiB.txt", bytes >> 20));
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes) {
        return Ok(path);
    }
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let (origin, files) = sources()?;
    eprintln!("Making {} out of {} files of {origin}", path.display(), files.len());
    let unfinished = path.with_extension("unfinished");
    write_text(&files, bytes, &unfinished)
        .with_context(|| format!("writing {}", unfinished.display()))?;
    fs::rename(&unfinished, &path).with_context(|| format!("making {}", path.display()))?;
    Ok(path)
}

/// Where there is text, and the files.
fn sources() -> Result<(String, Vec<PathBuf>)> {
    let html = sysroot()?.join("share/doc/rust/html");
    let crates = cargo_home().map(|home| home.join("registry/src"));
    let places = [
        (Some(html), &["html"][..]),
        (crates, &["rs", "md"]),
        (Some(repository().to_owned()), &["rs", "md"]),
    ];
    for (folder, extensions) in places {
        let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
            continue;
        };
        let mut files = Vec::new();
        collect(&folder, extensions, &mut files)
            .with_context(|| format!("listing {}", folder.display()))?;
        if !files.is_empty() {
            return Ok((folder.display().to_string(), files));
        }
    }
    bail!("there is no text on this machine; name a file with --input")
}

fn collect(folder: &Path, extensions: &[&str], files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != "target" {
            collect(&path, extensions, files)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn write_text(files: &[PathBuf], bytes: u64, path: &Path) -> io::Result<()> {
    let mut text = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut missing = bytes;
    while missing > 0 {
        let before = missing;
        for file in files {
            missing -= io::copy(&mut File::open(file)?.take(missing), &mut text)?;
        }
        if missing == before {
            return Err(io::Error::other("every file that could be used is empty"));
        }
    }
    text.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_are_repeated_and_cut_to_length() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("b.md", "bb\n"), ("a.md", "a\n"), ("c.txt", "not used")] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let mut files = Vec::new();
        collect(folder.path(), &["md"], &mut files).unwrap();
        let text = folder.path().join("text");
        write_text(&files, 8, &text).unwrap();
        assert_eq!(fs::read(text).unwrap(), b"a\nbb\na\nb");
    }

    #[test]
    fn empty_files_are_an_error_and_no_endless_loop() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.md");
        fs::write(&empty, "").unwrap();
        assert!(write_text(&[empty], 8, &folder.path().join("text")).is_err());
    }
}
