//! The imports: numbers from the guest become arguments, results become error numbers.

use super::errno::Errno;
use super::memory::GuestMemory;
use super::{Exit, Wasi, WasiHost};
use wasmtime::{Caller, Extern, Linker};

/// The module that all of preview-1 is imported from.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// Bytes that are written to the guest's memory before its host is asked whether to go on. The
/// random bytes of a task do not depend on it while it is a multiple of a word.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// A call of a guest that stands still.
pub(super) struct Call<'a, T> {
    pub(super) memory: GuestMemory<'a>,
    pub(super) host: &'a mut T,
}

// === impl Call ===

impl<T: WasiHost> Call<'_, T> {
    pub(super) fn wasi(&mut self) -> &mut Wasi {
        self.host.wasi()
    }

    /// Writes what may be long.
    pub(super) fn write_long(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::FAULT)?;
        let range = self.memory.range(pointer, length)?;
        let starts = range.clone().step_by(PIECE_BYTES);
        for (piece, start) in bytes.chunks(PIECE_BYTES).zip(starts) {
            self.host.may_write()?;
            self.memory.slice_mut(start..start + piece.len()).copy_from_slice(piece);
        }
        Ok(())
    }
}

/// Defines each function as the method of [`Call`] that has its name.
macro_rules! define {
    ($linker:ident, $($name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        $linker.func_wrap(
            MODULE,
            stringify!($name),
            |mut caller: Caller<'_, T>, $($argument: $kind),*| {
                enter(&mut caller, |mut call| call.$name($($argument),*))
            },
        )?;
    )*};
}

/// Defines all 46 functions of preview-1.
///
/// # Errors
/// One of them is defined already.
pub fn add_to_linker<T: WasiHost + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    add_process(linker)?;
    add_descriptors(linker)?;
    add_paths(linker)
}

fn add_process<T: WasiHost + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    define! { linker,
        args_get(pointers: u32, bytes: u32);
        args_sizes_get(count: u32, size: u32);
        environ_get(pointers: u32, bytes: u32);
        environ_sizes_get(count: u32, size: u32);
        clock_res_get(clock: u32, out: u32);
        clock_time_get(clock: u32, precision: u64, out: u32);
        poll_oneoff(subscriptions: u32, events: u32, count: u32, out: u32);
        proc_raise(signal: u32);
        random_get(pointer: u32, length: u32);
        sched_yield();
        sock_accept(fd: u32, flags: u32, out: u32);
        sock_recv(fd: u32, buffers: u32, count: u32, flags: u32, out: u32, out_flags: u32);
        sock_send(fd: u32, buffers: u32, count: u32, flags: u32, out: u32);
        sock_shutdown(fd: u32, how: u32);
    }
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(Exit(code).into())
    })?;
    Ok(())
}

fn add_descriptors<T: WasiHost + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    define! { linker,
        fd_advise(fd: u32, offset: u64, length: u64, advice: u32);
        fd_allocate(fd: u32, offset: u64, length: u64);
        fd_close(fd: u32);
        fd_datasync(fd: u32);
        fd_fdstat_get(fd: u32, out: u32);
        fd_fdstat_set_flags(fd: u32, flags: u32);
        fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
        fd_filestat_get(fd: u32, out: u32);
        fd_filestat_set_size(fd: u32, length: u64);
        fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32);
        fd_pread(fd: u32, buffers: u32, count: u32, offset: u64, out: u32);
        fd_prestat_dir_name(fd: u32, pointer: u32, length: u32);
        fd_prestat_get(fd: u32, out: u32);
        fd_pwrite(fd: u32, buffers: u32, count: u32, offset: u64, out: u32);
        fd_read(fd: u32, buffers: u32, count: u32, out: u32);
        fd_readdir(fd: u32, pointer: u32, length: u32, cookie: u64, out: u32);
        fd_renumber(from: u32, to: u32);
        fd_seek(fd: u32, offset: i64, whence: u32, out: u32);
        fd_sync(fd: u32);
        fd_tell(fd: u32, out: u32);
        fd_write(fd: u32, buffers: u32, count: u32, out: u32);
    }
    Ok(())
}

fn add_paths<T: WasiHost + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    define! { linker,
        path_create_directory(fd: u32, path: u32, length: u32);
        path_filestat_get(fd: u32, lookup: u32, path: u32, length: u32, out: u32);
        path_filestat_set_times(
            fd: u32, lookup: u32, path: u32, length: u32, accessed: u64, modified: u64, flags: u32
        );
        path_link(
            from_fd: u32, lookup: u32, from: u32, from_length: u32,
            to_fd: u32, to: u32, to_length: u32
        );
        path_open(
            fd: u32, lookup: u32, path: u32, length: u32, how: u32,
            base: u64, inheriting: u64, flags: u32, out: u32
        );
        path_readlink(fd: u32, path: u32, length: u32, buffer: u32, capacity: u32, out: u32);
        path_remove_directory(fd: u32, path: u32, length: u32);
        path_rename(
            from_fd: u32, from: u32, from_length: u32, to_fd: u32, to: u32, to_length: u32
        );
        path_symlink(target: u32, target_length: u32, fd: u32, path: u32, length: u32);
        path_unlink_file(fd: u32, path: u32, length: u32);
    }
    Ok(())
}

/// Runs a function on the guest's memory. A module without one has no valid pointer. An error is
/// the guest's end.
fn enter<T: WasiHost>(
    caller: &mut Caller<'_, T>,
    run: impl FnOnce(Call<'_, T>) -> Result<(), Errno>,
) -> wasmtime::Result<u32> {
    let export =
        |caller: &mut Caller<'_, T>| caller.get_export("memory").and_then(Extern::into_memory);
    let memory = caller.data().memory().or_else(|| export(caller));
    let (bytes, host) = match memory {
        Some(memory) => memory.data_and_store_mut(caller),
        None => (&mut [] as &mut [u8], caller.data_mut()),
    };
    let memory = GuestMemory::new(bytes);
    host.begin_call();
    let ended = run(Call { memory, host: &mut *host });
    host.end_call()?;
    Ok(ended.err().map_or(0, |errno| errno.raw().into()))
}
