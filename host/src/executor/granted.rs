//! A file that takes what peers send, as far as the application may have disk.

use super::files::AppFiles;
use std::fs::File;
use std::io::{self, Write};

/// The file, and what it was granted. The grant ends with this.
pub(super) struct GrantedFile {
    files: AppFiles,
    file: File,
    length: u64,
    granted: u64,
}

// === impl GrantedFile ===

impl GrantedFile {
    pub(super) fn new(files: &AppFiles, file: File) -> Self {
        Self { files: files.clone(), file, length: 0, granted: 0 }
    }

    /// Appends.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = self.length + bytes.len() as u64;
        if length > self.granted {
            let granted = self.files.disk().grant(length - self.granted);
            self.granted += u64::from(granted.map_err(io::Error::other)?) << 10;
        }
        self.file.write_all(bytes)?;
        self.length = length;
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for GrantedFile {
    fn drop(&mut self) {
        self.files.disk().release(self.granted);
    }
}
