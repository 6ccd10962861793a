//! Join tokens that have been used: one line each, on disk before the worker gets its certificate.

use super::{StateError, read, replace, sync_directory};
use offshoot_proto::id::WorkerId;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long after its expiry a token is still remembered, for clocks that are set back.
const MEMORY_AFTER_EXPIRY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The file `redeemed`.
#[derive(Debug)]
pub(crate) struct Redeemed {
    path: PathBuf,
    file: File,
    tokens: BTreeMap<[u8; 16], Redemption>,
    /// A write failed: what is on disk is unknown, so nothing more can be promised.
    broken: bool,
}

/// What a token was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redemption {
    /// The worker's id.
    pub(crate) worker: WorkerId,
    /// BLAKE3 of the worker's public key.
    pub(crate) key: [u8; 32],
    /// When the token expires, in seconds of Unix time.
    pub(crate) expires: u64,
}

// === impl Redeemed ===

impl Redeemed {
    /// Reads the file and rewrites it without what has long expired and without a last line that a
    /// crash cut short: nobody was told of that one.
    pub(super) fn open(directory: &Path, now: SystemTime) -> Result<Self, StateError> {
        let path = directory.join("redeemed");
        let text = read(&path)?.unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let oldest = now.checked_sub(MEMORY_AFTER_EXPIRY).unwrap_or(UNIX_EPOCH);
        let oldest = oldest.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut tokens = BTreeMap::new();
        for (index, line) in whole.lines().enumerate() {
            let (nonce, redemption) = parse(line).ok_or_else(|| StateError::Damaged {
                path: path.clone(),
                line: index + 1,
                reason: "not a redeemed token".to_owned(),
            })?;
            if redemption.expires >= oldest {
                tokens.insert(nonce, redemption);
            }
        }
        let lines: String = tokens.iter().map(|(nonce, used)| line(nonce, used)).collect();
        if lines != text || !path.exists() {
            replace(&path, &lines)?;
        }
        let mut options = OpenOptions::new();
        let opened = options.append(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| StateError::File {
            doing: "open",
            path: path.clone(),
            source,
        })?;
        Ok(Self { path, file, tokens, broken: false })
    }

    /// What the token was used for, if it was.
    pub(crate) fn find(&self, nonce: &[u8; 16]) -> Option<&Redemption> {
        self.tokens.get(nonce)
    }

    /// Remembers a use. When this has returned, no restart forgets it.
    pub(crate) fn record(
        &mut self,
        nonce: [u8; 16],
        redemption: Redemption,
    ) -> Result<(), StateError> {
        let failed = |source| StateError::File { doing: "write", path: self.path.clone(), source };
        if self.broken {
            let reason = "an earlier write failed; restart the master when the disk is well";
            return Err(failed(std::io::Error::other(reason)));
        }
        let text = line(&nonce, &redemption);
        let written = self.file.write_all(text.as_bytes());
        let written = written.and_then(|()| self.file.sync_all());
        if let Err(source) = written.and_then(|()| sync_directory(&self.path)) {
            self.broken = true;
            return Err(failed(source));
        }
        self.tokens.insert(nonce, redemption);
        Ok(())
    }
}

fn line(nonce: &[u8; 16], used: &Redemption) -> String {
    let (nonce, key) = (hex(nonce), hex(&used.key));
    format!("{nonce} {key} {} {}\n", used.expires, used.worker)
}

fn parse(line: &str) -> Option<([u8; 16], Redemption)> {
    let mut words = line.split(' ');
    let nonce = from_hex(words.next()?)?;
    let key = from_hex(words.next()?)?;
    let expires = words.next()?.parse().ok()?;
    let worker = WorkerId(words.next()?.to_owned());
    let redemption = Redemption { worker, key, expires };
    (words.next().is_none() && redemption.worker.is_valid()).then_some((nonce, redemption))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}
