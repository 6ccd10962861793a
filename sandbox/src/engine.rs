//! How wasmtime is set up: which features a module may use, and what a trap looks like.
//!
//! Compiling and running processes must agree on everything that changes code, so both go through
//! one `config`. The choice of features removes attack surface: core modules without threads,
//! garbage collection, exceptions or components would have been exposed to about two of the two
//! dozen advisories that wasmtime published in 2026.

use std::sync::Arc;
use wasmtime::{Config, Engine, MemoryCreator, OptLevel, WasmBacktraceDetails, WasmFeatures};

/// Bytes of address space that a linear memory takes: all that 32 bits can address.
pub const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// Bytes after it that trap, so that constant offsets need no check.
pub const MEMORY_GUARD_BYTES: u64 = 32 << 20;

/// Bytes of stack that a guest's frames may take in the host.
pub const WASM_STACK_BYTES: usize = 512 << 10;

/// What this build's compiled code is compatible with; part of a cached artifact's name.
pub const ARTIFACT_VERSION: &str =
    concat!("offshoot-", env!("CARGO_PKG_VERSION"), "-wasmtime-48.0.8-1");

/// What a module may use. rustc of the pinned version and wasi-sdk need no more.
pub fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::FLOATS
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::BULK_MEMORY_OPT
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::CALL_INDIRECT_OVERLONG
        | WasmFeatures::SIMD
        | WasmFeatures::RELAXED_SIMD
}

/// An engine that compiles.
pub fn compiler() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// An engine that runs compiled code on memory from `creator`.
pub fn runner(creator: Arc<dyn MemoryCreator>) -> wasmtime::Result<Engine> {
    let mut config = config();
    config.with_host_memory(creator);
    Engine::new(&config)
}

fn config() -> Config {
    let mut config = Config::new();
    for feature in [
        WasmFeatures::THREADS,
        WasmFeatures::MEMORY64,
        WasmFeatures::MULTI_MEMORY,
        WasmFeatures::GC,
        WasmFeatures::FUNCTION_REFERENCES,
        WasmFeatures::EXCEPTIONS,
        WasmFeatures::TAIL_CALL,
        WasmFeatures::STACK_SWITCHING,
        WasmFeatures::EXTENDED_CONST,
        WasmFeatures::GC_TYPES,
    ] {
        config.wasm_features(feature, false);
    }
    config
        .wasm_features(WasmFeatures::REFERENCE_TYPES, true)
        .wasm_simd(true)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .memory_may_move(false)
        .memory_init_cow(false)
        .guard_before_linear_memory(false)
        .signals_based_traps(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config
}
