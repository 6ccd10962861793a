//! The imports of module `offshoot1`: guest arguments are checked here, then handed to the slot.
//!
//! A bad pointer ends the attempt with `GuestAbi`; everything else that goes wrong is a negative
//! code and a sentence for `error_text`. `docs/abi.md` is the specification.

use crate::slot::{Ended, SlotState};
use crate::wasi;
use offshoot_proto::abi::{IMPORT_MODULE, code};
use offshoot_proto::frame;
use offshoot_proto::limits::MESSAGE_BYTES_MAX;
use offshoot_proto::outcome::TaskFailure;
use serde::de::DeserializeOwned;
use wasmtime::{AsContextMut, Caller, Linker};

/// The module of preview-1's imports.
pub(crate) const WASI_MODULE: &str = wasi::MODULE;

/// The functions of preview-1.
const WASI_NAMES: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// Every import of `offshoot1` with its type.
const SIGNATURES: [(&str, &str); 20] = [
    ("error_text", "(i32, i32) -> i32"),
    ("stream_open", "(i32, i32) -> i32"),
    ("stream_read", "(i32, i32, i32) -> i32"),
    ("stream_close", "(i32) -> i32"),
    ("node_register", "(i32, i32) -> i32"),
    ("node_drop", "(i32) -> i32"),
    ("job_submit", "(i32, i32) -> i32"),
    ("job_results", "(i32, i32, i32) -> i32"),
    ("job_drop", "(i32) -> i32"),
    ("parallelism", "() -> i32"),
    ("result_write", "(i32, i32) -> i32"),
    ("shuffle_write", "(i32, i32, i32) -> i32"),
    ("spill_write", "(i32, i32, i32) -> i32"),
    ("output_write", "(i32, i32) -> i32"),
    ("task_fail", "(i32, i32) -> ()"),
    ("update_write", "(i32, i32) -> i32"),
    ("updates_read", "(i32, i32) -> i32"),
    ("task_memory", "() -> i32"),
    ("job_pool", "(i32, i32) -> i32"),
    ("block_map", "(i32, i32, i32, i32) -> i32"),
];

/// What `block_map` writes: address and length, each a little-endian `u32`.
const MAPPED_BYTES: usize = 8;

/// What a call that did not work returns to the guest.
pub(crate) struct Refusal {
    /// A value of [`code`].
    pub(crate) code: i32,
    /// For `error_text`.
    pub(crate) message: String,
}

/// How a call went: a value for the guest, a refusal, or the end of the attempt.
pub(crate) type Outcome = Result<i32, CallError>;

/// Why a call gave no value.
pub(crate) enum CallError {
    /// The guest is told.
    Refused(Refusal),
    /// The attempt ends.
    Ends(TaskFailure),
    /// The link is gone, and the slot with it.
    Link(crate::link::LinkError),
}

/// The type of an import of `offshoot1`, if there is one of this name.
pub(crate) fn signature(name: &str) -> Option<&'static str> {
    SIGNATURES.iter().find(|(known, _)| *known == name).map(|(_, signature)| *signature)
}

/// The names of preview-1's functions.
pub(crate) fn wasi_names() -> &'static [&'static str] {
    &WASI_NAMES
}

/// Defines every import.
pub(crate) fn link(linker: &mut Linker<SlotState>) -> wasmtime::Result<()> {
    wasi::add_to_linker(linker)?;
    linker.func_wrap(IMPORT_MODULE, "error_text", |caller: Guest<'_>, ptr: i32, cap: i32| {
        call(caller, |memory, state| {
            let text = state.error.as_bytes();
            let out = slice_mut(memory, ptr, cap, "error_text")?;
            let length = text.len().min(out.len());
            out[..length].copy_from_slice(&text[..length]);
            Ok(text.len() as i32)
        })
    })?;
    link_streams(linker)?;
    link_driver(linker)?;
    link_task(linker)
}

type Guest<'a> = Caller<'a, SlotState>;

fn link_streams(linker: &mut Linker<SlotState>) -> wasmtime::Result<()> {
    linker.func_wrap(IMPORT_MODULE, "stream_open", |caller: Guest<'_>, ptr: i32, len: i32| {
        call(caller, |memory, state| {
            let source = decode(memory, ptr, len, "stream_open")?;
            state.stream_open(source)
        })
    })?;
    linker.func_wrap(
        IMPORT_MODULE,
        "stream_read",
        |caller: Guest<'_>, handle: i32, ptr: i32, cap: i32| {
            call(caller, |memory, state| {
                let out = slice_mut(memory, ptr, cap, "stream_read")?;
                state.stream_read(handle, state.fillable(out))
            })
        },
    )?;
    linker.func_wrap(IMPORT_MODULE, "stream_close", |caller: Guest<'_>, handle: i32| {
        call(caller, |_, state| state.stream_close(handle))
    })?;
    linker.func_wrap(IMPORT_MODULE, "block_map", block_map)?;
    Ok(())
}

/// `block_map`: maps a block behind the memory's end and writes where. 0 if it must be read.
fn block_map(
    mut caller: Guest<'_>,
    writer: i32,
    map: i32,
    ptr: i32,
    cap: i32,
) -> wasmtime::Result<i32> {
    let mut found = None;
    let asked = call(caller.as_context_mut(), |memory, state| {
        if slice_mut(memory, ptr, cap, "block_map")?.len() < MAPPED_BYTES {
            return Err(refused(code::INVALID, "block_map: no room for address and length"));
        }
        found = state.find_block(writer, map)?;
        Ok(0)
    })?;
    let Some(block) = found else { return Ok(asked) };
    let memory = caller.data().guest.expect("a guest that runs has a memory");
    let start = memory.data_size(&caller);
    // Refused as any other growth is: then the block is read.
    let grown = memory.grow(&mut caller, block.pages()).is_ok();
    call(caller.as_context_mut(), |memory, state| {
        let Some(bytes) = state.map_block(block, grown, start)? else { return Ok(0) };
        let out = slice_mut(memory, ptr, cap, "block_map")?;
        out[..4].copy_from_slice(&(start as u32).to_le_bytes());
        out[4..MAPPED_BYTES].copy_from_slice(&bytes.to_le_bytes());
        Ok(MAPPED_BYTES as i32)
    })
}

fn link_driver(linker: &mut Linker<SlotState>) -> wasmtime::Result<()> {
    linker.func_wrap(IMPORT_MODULE, "node_register", |caller: Guest<'_>, ptr: i32, len: i32| {
        call(caller, |memory, state| {
            let node = decode(memory, ptr, len, "node_register")?;
            state.node_register(node)
        })
    })?;
    linker.func_wrap(IMPORT_MODULE, "node_drop", |caller: Guest<'_>, node: i32| {
        call(caller, |_, state| state.node_drop(node))
    })?;
    linker.func_wrap(
        IMPORT_MODULE,
        "job_submit",
        |mut caller: Guest<'_>, ptr: i32, len: i32| {
            let globals = crate::slot::read_globals(&mut caller);
            call(caller, |memory, state| {
                let job = decode(memory, ptr, len, "job_submit")?;
                state.job_submit(job, globals)
            })
        },
    )?;
    linker.func_wrap(
        IMPORT_MODULE,
        "job_results",
        |caller: Guest<'_>, job: i32, ptr: i32, cap: i32| {
            call(caller, |memory, state| {
                let out = slice_mut(memory, ptr, cap, "job_results")?;
                state.job_results(job, out)
            })
        },
    )?;
    linker.func_wrap(IMPORT_MODULE, "job_drop", |caller: Guest<'_>, job: i32| {
        call(caller, |_, state| state.job_drop(job))
    })?;
    linker.func_wrap(IMPORT_MODULE, "updates_read", |caller: Guest<'_>, ptr: i32, cap: i32| {
        call(caller, |memory, state| {
            let out = slice_mut(memory, ptr, cap, "updates_read")?;
            state.updates_read(out)
        })
    })?;
    linker.func_wrap(IMPORT_MODULE, "parallelism", |caller: Guest<'_>| {
        call(caller, |_, state| state.parallelism())
    })?;
    linker.func_wrap(IMPORT_MODULE, "job_pool", |caller: Guest<'_>, ptr: i32, len: i32| {
        call(caller, |memory, state| state.job_pool(slice(memory, ptr, len, "job_pool")?))
    })?;
    Ok(())
}

fn link_task(linker: &mut Linker<SlotState>) -> wasmtime::Result<()> {
    linker.func_wrap(IMPORT_MODULE, "result_write", |caller: Guest<'_>, ptr: i32, len: i32| {
        call(caller, |memory, state| {
            let bytes = slice(memory, ptr, len, "result_write")?;
            state.result_write(bytes)
        })
    })?;
    linker.func_wrap(
        IMPORT_MODULE,
        "shuffle_write",
        |caller: Guest<'_>, reducer: i32, ptr: i32, len: i32| {
            call(caller, |memory, state| {
                let bytes = slice(memory, ptr, len, "shuffle_write")?;
                state.shuffle_write(reducer, bytes)
            })
        },
    )?;
    linker.func_wrap(
        IMPORT_MODULE,
        "spill_write",
        |caller: Guest<'_>, run: i32, ptr: i32, len: i32| {
            call(caller, |memory, state| {
                let bytes = slice(memory, ptr, len, "spill_write")?;
                state.spill_write(run, bytes)
            })
        },
    )?;
    linker.func_wrap(IMPORT_MODULE, "output_write", |caller: Guest<'_>, ptr: i32, len: i32| {
        call(caller, |memory, state| {
            let bytes = slice(memory, ptr, len, "output_write")?;
            state.output_write(bytes)
        })
    })?;
    linker.func_wrap(IMPORT_MODULE, "update_write", |caller: Guest<'_>, ptr: i32, len: i32| {
        call(caller, |memory, state| {
            let bytes = slice(memory, ptr, len, "update_write")?;
            state.update_write(bytes)
        })
    })?;
    linker.func_wrap(IMPORT_MODULE, "task_memory", |caller: Guest<'_>| {
        call(caller, |_, state| state.task_memory())
    })?;
    linker.func_wrap(IMPORT_MODULE, "task_fail", |caller: Guest<'_>, ptr: i32, len: i32| {
        let told = call(caller, |memory, state| {
            let bytes = slice(memory, ptr, len, "task_fail")?;
            let bytes = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
            state.task_fail(String::from_utf8_lossy(bytes).into_owned())
        });
        told.map(|_| ())
    })?;
    Ok(())
}

/// Runs a call with the guest's memory and the slot's state side by side.
fn call(
    mut caller: impl AsContextMut<Data = SlotState>,
    body: impl FnOnce(&mut [u8], &mut SlotState) -> Outcome,
) -> wasmtime::Result<i32> {
    let memory = caller.as_context().data().guest.expect("a guest that runs has a memory");
    let (memory, state) = memory.data_and_store_mut(&mut caller);
    state.begin_writing();
    let outcome = body(memory, state);
    match state.end_writing().map_err(CallError::Ends).and(outcome) {
        Ok(value) => Ok(value),
        Err(CallError::Refused(refusal)) => {
            state.error = refusal.message;
            Ok(refusal.code)
        }
        Err(CallError::Ends(failure)) => {
            state.failure = Some(failure);
            Err(wasmtime::Error::new(Ended))
        }
        Err(CallError::Link(error)) => {
            state.link_error = Some(error);
            Err(wasmtime::Error::new(Ended))
        }
    }
}

fn out_of_bounds(call: &str, ptr: i32, len: i32) -> CallError {
    let (ptr, len) = (ptr as u32, len as u32);
    let message = format!("GuestAbi: {call}: ptr {ptr:#x} + len {len} out of bounds");
    CallError::Ends(TaskFailure::GuestAbi { message })
}

fn slice<'a>(memory: &'a [u8], ptr: i32, len: i32, call: &str) -> Result<&'a [u8], CallError> {
    let (start, length) = (ptr as u32 as usize, len as u32 as usize);
    memory.get(start..start + length).ok_or_else(|| out_of_bounds(call, ptr, len))
}

fn slice_mut<'a>(
    memory: &'a mut [u8],
    ptr: i32,
    len: i32,
    call: &str,
) -> Result<&'a mut [u8], CallError> {
    let (start, length) = (ptr as u32 as usize, len as u32 as usize);
    memory.get_mut(start..start + length).ok_or_else(|| out_of_bounds(call, ptr, len))
}

fn decode<T: DeserializeOwned>(
    memory: &[u8],
    ptr: i32,
    len: i32,
    call: &str,
) -> Result<T, CallError> {
    let bytes = slice(memory, ptr, len, call)?;
    let limit = offshoot_proto::limits::CONTROL_FRAME_BYTES_MAX;
    if bytes.len() > limit {
        let message = format!("{call}: argument of {len} bytes is over the limit of {limit}");
        return Err(refused(code::LIMIT, message));
    }
    frame::from_bytes(bytes).map_err(|error| refused(code::INVALID, format!("{call}: {error}")))
}

/// A refusal as the error of a call.
pub(crate) fn refused(code: i32, message: impl Into<String>) -> CallError {
    CallError::Refused(Refusal { code, message: message.into() })
}

impl From<crate::link::LinkError> for CallError {
    fn from(error: crate::link::LinkError) -> Self {
        Self::Link(error)
    }
}
