//! Against a real server, and against one in memory that fails.
#![allow(clippy::unwrap_used)]

mod server;

use crate::{Place, RemoteFiles, Store, Stores};
use object_store::memory::InMemory;
use offshoot_proto::grants::{Grants, PathGrant};
use offshoot_proto::store::StoreOptions;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// Stores in memory, the same for every place.
#[derive(Debug, Default)]
pub(crate) struct Memory(pub(crate) Arc<InMemory>);

impl Stores for Memory {
    fn open(&self, _: &Place, _: &StoreOptions) -> object_store::Result<Store> {
        Ok(Store { objects: self.0.clone(), uploads: Some(self.0.clone()) })
    }
}

pub(crate) fn grants(read: &[&str], write: &[&str]) -> Grants {
    let grant = |url: &&str| PathGrant { guest: (*url).to_owned(), host: (*url).to_owned() };
    Grants {
        read: read.iter().map(grant).collect(),
        write: write.iter().map(grant).collect(),
        environment: vec![],
    }
}

pub(crate) fn staged(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

async fn read(files: &RemoteFiles, url: &str, offset: u64) -> Result<Vec<u8>, crate::StoreError> {
    let listed = files.list_inputs(url).await?;
    let mut input = files.open_input(&listed[0], offset).await?;
    let mut bytes = Vec::new();
    loop {
        let next = input.pull().await?;
        if next.is_empty() {
            return Ok(bytes);
        }
        bytes.extend(next);
    }
}
