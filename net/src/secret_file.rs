//! Files that hold a private key: PEM text that only its owner may read.
//!
//! Written whole or not at all (staged, synced, then linked or renamed into place); read only if
//! nobody but the owner can.

use crate::credential::CredentialError;
use rand::RngCore;
use rustls::pki_types::pem::{PemObject, SectionKind};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file of certificates and one key has a few hundred bytes; more is not such a file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Characters of a line of PEM (RFC 7468).
const PEM_LINE_CHARACTERS: usize = 64;

/// What to do if the file is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Replace,
    Refuse,
}

/// The blocks of a secret file, in their order.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) keys: Vec<Vec<u8>>,
}

/// Appends one PEM block.
pub(crate) fn push_pem(out: &mut String, label: &str, der: &[u8]) {
    out.push_str(&format!("-----BEGIN {label}-----\n"));
    let text = base64(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(PEM_LINE_CHARACTERS));
        out.push_str(line);
        out.push('\n');
        rest = next;
    }
    out.push_str(&format!("-----END {label}-----\n"));
}

/// Reads the PEM blocks of `text`; anything between them is a comment.
pub(crate) fn parse_pem(text: &[u8]) -> Result<Blocks, String> {
    let mut blocks = Blocks::default();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| error.to_string())?;
        match kind {
            SectionKind::Certificate => blocks.certificates.push(der),
            SectionKind::PrivateKey => blocks.keys.push(der),
            other => return Err(format!("unexpected block {other:?}")),
        }
    }
    Ok(blocks)
}

/// Writes `text` to `path` with mode 0600. Returns `AlreadyExists` only for [`Existing::Refuse`].
pub(crate) fn write(path: &Path, text: &str, existing: Existing) -> io::Result<()> {
    let staged = staging_name(path);
    let result = stage(&staged, text).and_then(|()| match existing {
        Existing::Replace => fs::rename(&staged, path),
        Existing::Refuse => fs::hard_link(&staged, path),
    });
    if existing == Existing::Refuse || result.is_err() {
        let _ = fs::remove_file(&staged);
    }
    result?;
    File::open(directory(path))?.sync_all()
}

/// Reads a file that only its owner may read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let failed = |source| CredentialError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CredentialError::Permissions { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("longer than {FILE_BYTES_MAX} bytes");
        return Err(CredentialError::Malformed { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

fn stage(staged: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(staged)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn staging_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.staged", rand::rng().next_u64()));
    path.with_file_name(name)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for position in 0..4 {
            let digit = (bits >> (18 - 6 * position)) & 63;
            let filled = position <= chunk.len();
            text.push(if filled { char::from(ALPHABET[digit as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pem_of_every_length_reads_back() {
        for length in 0..200_u8 {
            let der: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            let mut text = String::from("a comment\n");
            push_pem(&mut text, "CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= PEM_LINE_CHARACTERS), "{text}");
            assert_eq!(parse_pem(text.as_bytes()).unwrap().certificates, [der]);
        }
    }

    #[test]
    fn an_existing_file_is_kept_or_replaced_as_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write(&path, "one", Existing::Refuse).unwrap();
        let again = write(&path, "two", Existing::Refuse).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path).unwrap(), b"one");
        write(&path, "three", Existing::Replace).unwrap();
        assert_eq!(read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "staging is left over");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write(&path, "secret", Existing::Refuse).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, CredentialError::Permissions { mode: 0o640, .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
