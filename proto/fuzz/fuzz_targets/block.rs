//! Random bytes into the `block` decoders.
#![no_main]

#[path = "../decoders.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod decoders;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // Errors are what bad input deserves.
    let _ = decoders::block(input);
});
