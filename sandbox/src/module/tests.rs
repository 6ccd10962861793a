//! What is refused, in which words, and what the rewriting leaves.
#![allow(clippy::unwrap_used)]

use super::*;

const FRAME: &str = r#"(memory (export "memory") 1) (func (export "_start"))"#;

fn refused(text: &str) -> String {
    prepare(&wat::parse_str(text).unwrap()).unwrap_err().to_string()
}

fn with(fields: &str) -> String {
    format!("(module {fields} {FRAME})")
}

#[test]
fn what_is_no_module_is_told_by_its_first_bytes() {
    for (bytes, text) in [
        (b"".as_slice(), "InvalidModule: not wasm (magic the file is empty)"),
        (b"hello", "InvalidModule: not wasm (magic 68 65 6c 6c)"),
        (b"\x7fELF\x02\x01\x01", "InvalidModule: not wasm (magic 7f 45 4c 46)"),
        (b"\0asm\x0d\0\x01\0", "UnsupportedFeature: a component; build a core module"),
    ] {
        let error = prepare(bytes).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    let whole = wat::parse_str(with("")).unwrap();
    for length in 8..whole.len() {
        let error = prepare(&whole[..length]).unwrap_err();
        let expected = matches!(error, ModuleError::Invalid(_) | ModuleError::MissingExport { .. });
        assert!(expected, "cut at {length}: {error}");
    }
    let trailing = [whole.as_slice(), b"xyz"].concat();
    assert!(matches!(prepare(&trailing), Err(ModuleError::Invalid(_))));
}

#[test]
fn features_that_a_fork_cannot_have_are_refused_by_name() {
    for (text, word) in [
        (r#"(module (memory (export "memory") 1 1 shared) (func (export "_start")))"#, "shared"),
        (r#"(module (memory (export "memory") i64 1) (func (export "_start")))"#, "memory64"),
        (
            &with("(table 1 funcref) (func (drop (table.grow 0 (ref.null func) (i32.const 1))))"),
            "table",
        ),
        (&with(r#"(data $d "x") (func (data.drop $d))"#), "data segment that is dropped"),
        (r#"(module (memory (import "a" "b") 1) (func (export "_start")))"#, "imported memory"),
    ] {
        let error = refused(text);
        assert!(error.starts_with("UnsupportedFeature: ") && error.contains(word), "{error}");
    }
}

#[test]
fn what_compiles_for_ever_is_refused_before_it_is_compiled() {
    let nested = format!("(func {} {})", "(block ".repeat(300), ")".repeat(300));
    assert_eq!(
        refused(&with(&nested)),
        "ModuleTooLarge: nesting in function body 0 is 257, limit 256"
    );
    let locals = format!("(func (local {}))", "i32 ".repeat(6000));
    assert_eq!(
        refused(&with(&locals)),
        "ModuleTooLarge: locals of function body 0 is 6000, limit 5000"
    );
    assert_eq!(
        refused(&with("(table 3000000 funcref)")),
        "ModuleTooLarge: table elements is 3000000, limit 1048576"
    );
}

#[test]
fn imports_are_checked_by_name_and_type() {
    let two = r#"(import "env" "f0" (func)) (import "env" "f1" (func))"#;
    assert!(refused(&with(two)).starts_with("UnknownImport: env::f0 (+1 more); available: "));
    let task = r#"(import "offshoot1" "result_write" (func (param i64) (result i32)))"#;
    assert_eq!(
        refused(&with(task)),
        "UnknownImport: offshoot1::result_write has type (i64) -> i32; the host's has \
         (i32, i32) -> i32"
    );
}

#[test]
fn a_module_that_submits_jobs_needs_the_task_entry() {
    let submits = r#"(import "offshoot1" "job_submit" (func (param i32 i32) (result i32)))"#;
    assert_eq!(
        refused(&with(submits)),
        "MissingExport: offshoot_task(i32, i32) -> i64; the module calls job_submit and exports: \
         memory, _start"
    );
    let entry = r#"(func (export "offshoot_task") (param i32 i32) (result i64) (i64.const 0))"#;
    let prepared = prepare(&wat::parse_str(with(&format!("{submits} {entry}"))).unwrap()).unwrap();
    assert!(prepared.info.is_job);
}

#[test]
fn data_and_start_are_taken_out_and_globals_exported() {
    let text = r#"(module
        (memory (export "memory") 1)
        (global $a (mut i32) (i32.const 7))
        (global $b i32 (i32.const 8))
        (global $c (mut i64) (i64.const 9))
        (func $init) (start $init)
        (func (export "_start") (memory.init $p (i32.const 0) (i32.const 0) (i32.const 1)))
        (data (i32.const 16) "sixteen")
        (data $p "passive")
        (data (i32.const 32) ""))"#;
    let prepared = prepare(&wat::parse_str(text).unwrap()).unwrap();
    let expected = ModuleInfo {
        data: vec![(16, b"sixteen".to_vec()), (32, vec![])],
        globals: 2,
        has_start: true,
        is_job: false,
    };
    assert_eq!(prepared.info, expected);
    let engine = crate::engine::compiler().unwrap();
    let module = wasmtime::Module::new(&engine, &prepared.wasm).unwrap();
    let names: Vec<&str> = module.exports().map(|export| export.name()).collect();
    let mine = ["memory", "_start", "offshoot:global:0", "offshoot:global:1", "offshoot:start"];
    assert_eq!(names, mine);
}

/// `MemoryCreator` as the fork relies on it: a memory may be longer than the module declares, and
/// instances see its whole length.
#[test]
fn wasmtime_takes_the_length_that_the_creator_gives() {
    use crate::memory::{GuestMemory, memory_file};
    let text = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
    let memory = GuestMemory::new().unwrap();
    memory.share(memory_file("test").unwrap()).unwrap();
    let engine = crate::engine::runner(memory.creator()).unwrap();
    let module = wasmtime::Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let mut store = wasmtime::Store::new(&engine, ());
    let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
    let linear = instance.get_memory(&mut store, "memory").unwrap();
    linear.grow(&mut store, 2).unwrap();
    memory.snapshot().unwrap();
    let mut fork = wasmtime::Store::new(&engine, ());
    let instance = wasmtime::Instance::new(&mut fork, &module, &[]).unwrap();
    assert_eq!(instance.get_memory(&mut fork, "memory").unwrap().size(&fork), 3);
}
