//! The imports of module `offshoot1` and the export `offshoot_task`, as slices and integers.
//!
//! The only unsafe code of the crate. Outside of WebAssembly every import answers `NOT_HERE`, so
//! that a job's pure parts can be tested as a native program; this crate's own tests put a small
//! host in its place. What the functions mean is in `docs/abi.md`.

pub(crate) mod plain;

#[cfg(not(any(target_family = "wasm", test)))]
use offshoot_proto::abi::code;

/// Declares one safe function per import. A `&[u8]` becomes pointer and length, a `&mut [u8]`
/// pointer and capacity; everything else is an `i32`.
macro_rules! imports {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($($before:ident: i32,)* $([in $input:ident])? $([out $output:ident])?);
    )*) => {
        #[cfg(target_family = "wasm")]
        mod wasm {
            #[link(wasm_import_module = "offshoot1")]
            unsafe extern "C" {$(
                pub(super) fn $name(
                    $($before: i32,)*
                    $($input: *const u8, input_bytes: usize,)?
                    $($output: *mut u8, output_bytes: usize,)?
                ) -> i32;
            )*}
        }
        $(
            $(#[$doc])*
            #[cfg(target_family = "wasm")]
            pub(crate) fn $name(
                $($before: i32,)* $($input: &[u8],)? $($output: &mut [u8],)?
            ) -> i32 {
                // SAFETY: the signature is that of docs/abi.md; pointers and lengths come from
                // one slice each, which is borrowed for as long as the call lasts.
                unsafe {
                    wasm::$name(
                        $($before,)*
                        $($input.as_ptr(), $input.len(),)?
                        $($output.as_mut_ptr(), $output.len(),)?
                    )
                }
            }

            $(#[$doc])*
            #[cfg(not(any(target_family = "wasm", test)))]
            pub(crate) fn $name(
                $($before: i32,)* $($input: &[u8],)? $($output: &mut [u8],)?
            ) -> i32 {
                let _ = ($($before,)* $($input,)? $($output,)?);
                code::NOT_HERE
            }
        )*
    };
}

#[cfg(test)]
pub(crate) use crate::fake_host::imports::*;

imports! {
    /// Text of the last error.
    fn error_text([out text]);
    /// Opens a postcard `Source`.
    fn stream_open([in source]);
    /// Reads; 0 at the end.
    fn stream_read(handle: i32, [out bytes]);
    /// Closes.
    fn stream_close(handle: i32,);
    /// Registers a postcard `NodeSpec`.
    fn node_register([in spec]);
    /// Forgets a node.
    fn node_drop(node: i32,);
    /// Takes a snapshot and runs a postcard `JobSpec`.
    fn job_submit([in spec]);
    /// Pieces of results.
    fn job_results(job: i32, [out pieces]);
    /// Forgets a job; cancels it if it runs.
    fn job_drop(job: i32,);
    /// Reduce partitions where the job names no number.
    fn parallelism();
    /// The pool of the jobs that are submitted from now on.
    fn job_pool([in name]);
    /// Appends to the task's result.
    fn result_write([in bytes]);
    /// Appends whole records for one reducer.
    fn shuffle_write(reducer: i32, [in bytes]);
    /// Appends to a run of this task.
    fn spill_write(run: i32, [in bytes]);
    /// Appends to what the task says to main.
    fn update_write([in bytes]);
    /// Takes what tasks said to main.
    fn updates_read([out pieces]);
    /// Pages by which this task may grow its memory.
    fn task_memory();
    /// Appends to the attempt's part of the output.
    fn output_write([in bytes]);
}

/// The bytes of a block of a kept dataset, in place; none if it must be read.
#[cfg(target_family = "wasm")]
pub(crate) fn map_block(writer: u32, map: u32) -> Result<Option<&'static [u8]>, i32> {
    #[link(wasm_import_module = "offshoot1")]
    unsafe extern "C" {
        fn block_map(writer: u32, map: u32, place: *mut u8, place_bytes: usize) -> i32;
    }
    let mut place = [0; 8];
    // SAFETY: the signature is that of docs/abi.md; `place` is borrowed for as long as it lasts.
    let written = unsafe { block_map(writer, map, place.as_mut_ptr(), place.len()) };
    if written <= 0 {
        return if written == 0 { Ok(None) } else { Err(written) };
    }
    let [a, b, c, d, e, f, g, h] = place;
    let address = u32::from_le_bytes([a, b, c, d]) as usize;
    let length = u32::from_le_bytes([e, f, g, h]) as usize;
    let start = core::ptr::with_exposed_provenance(address);
    // SAFETY: the host has grown the memory by what it put there; nobody else has the address, and
    // it stays as it is until the task ends.
    Ok(Some(unsafe { core::slice::from_raw_parts(start, length) }))
}

/// Outside of a cluster nothing is kept.
#[cfg(not(any(target_family = "wasm", test)))]
pub(crate) fn map_block(_writer: u32, _map: u32) -> Result<Option<&'static [u8]>, i32> {
    Err(code::NOT_HERE)
}

/// Says why the task is about to trap.
#[cfg(target_family = "wasm")]
pub(crate) fn task_fail(message: &[u8]) {
    #[link(wasm_import_module = "offshoot1")]
    unsafe extern "C" {
        fn task_fail(message: *const u8, message_bytes: usize);
    }
    // SAFETY: as above; the import has no result.
    unsafe { task_fail(message.as_ptr(), message.len()) }
}

/// Says why the task is about to trap: nobody listens outside of a cluster.
#[cfg(not(any(target_family = "wasm", test)))]
pub(crate) fn task_fail(_message: &[u8]) {}

/// Computes one partition of a node: the host calls it in a fork of the driver.
#[cfg(target_family = "wasm")]
#[unsafe(no_mangle)]
extern "C" fn offshoot_task(node: i32, partition: i32) -> i64 {
    crate::task::run(node.cast_unsigned(), partition.cast_unsigned());
    0
}
