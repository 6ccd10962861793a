//! What a commit says: which uploads are the output.

use offshoot_proto::id::Partition;
use offshoot_proto::outcome::{StagedPart, StagedUpload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of a manifest that is read back: 1,000,000 partitions of one part each, with room.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 512 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) parts: Vec<ManifestPart>,
}

/// A part: what it is, and the upload that makes it visible.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ManifestPart {
    pub(crate) partition: u32,
    pub(crate) object: String,
    pub(crate) bytes: u64,
    pub(crate) crc32: u32,
    pub(crate) upload: String,
    pub(crate) upload_parts: Vec<String>,
}

// === impl Manifest ===

impl Manifest {
    pub(crate) fn new(parts: &BTreeMap<Partition, StagedPart>) -> Self {
        let part = |(partition, part): (&Partition, &StagedPart)| {
            let upload =
                part.upload.clone().unwrap_or(StagedUpload { id: String::new(), parts: vec![] });
            ManifestPart {
                partition: partition.0,
                object: part.path.clone(),
                bytes: part.length,
                crc32: part.checksum,
                upload: upload.id,
                upload_parts: upload.parts,
            }
        };
        Self { parts: parts.iter().map(part).collect() }
    }

    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data always serialises")
    }

    /// Whether both are the same output, whichever attempts have uploaded it.
    pub(crate) fn is_same_output(&self, other: &Self) -> bool {
        let contents = |manifest: &Self| {
            let part =
                |part: &ManifestPart| (part.partition, part.object.clone(), part.bytes, part.crc32);
            manifest.parts.iter().map(part).collect::<Vec<_>>()
        };
        contents(self) == contents(other)
    }
}
