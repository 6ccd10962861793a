//! The cache: one compilation, refusals remembered, edited artifacts refused.
#![allow(clippy::unwrap_used)]

use super::*;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

const MODULE: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

fn module() -> (ModuleHash, Vec<u8>) {
    let wasm = wat::parse_str(MODULE).unwrap();
    (ModuleHash(*blake3::hash(&wasm).as_bytes()), wasm)
}

fn cache(directory: &Path) -> ModuleCache {
    ModuleCache::open(directory, Compiler::InPlace).unwrap()
}

fn content(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_module_is_compiled_once() {
    let directory = tempfile::tempdir().unwrap();
    let (hash, wasm) = module();
    let cache = cache(directory.path());
    assert!(cache.lookup(hash).unwrap().is_none());
    let first = content(&cache.get(hash, &wasm).unwrap().code);
    // Without the module there is nothing to compile: it must come from the cache.
    let again = content(&cache.get(hash, b"").unwrap().code);
    assert!(!first.is_empty() && first == again);
    let key = directory.path().join("key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_edited_artifact_is_compiled_again() {
    let directory = tempfile::tempdir().unwrap();
    let (hash, wasm) = module();
    let cache = cache(directory.path());
    let first = content(&cache.get(hash, &wasm).unwrap().code);
    for kind in ["module", "info", "tag"] {
        let path = cache.path(hash, kind);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(cache.lookup(hash).unwrap().is_none(), "an edited {kind} is not used");
        assert!(content(&cache.get(hash, &wasm).unwrap().code) == first);
    }
    // A key of somebody else authenticates nothing.
    fs::write(directory.path().join("key"), [7; 32]).unwrap();
    assert!(cache.lookup(hash).unwrap().is_none());
}

#[test]
fn a_refusal_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    let hash = ModuleHash([1; 32]);
    let first = cache.get(hash, b"no module").unwrap_err().to_string();
    let (_, wasm) = module();
    let again = cache.get(hash, &wasm).unwrap_err().to_string();
    assert_eq!(first, again, "it was not tried again");
    assert!(first.contains("not wasm"), "{first}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = ModuleCache::open(&file.join("cache"), Compiler::InPlace).unwrap_err();
    assert!(error.to_string().contains("file/cache"), "{error}");
}
