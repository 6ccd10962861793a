//! The process that compiles: standard input is the module, 3 and 4 are the files to write.

use super::Verdict;
use crate::engine;
use crate::imports;
use crate::module;
use crate::slot::SlotState;
use offshoot_proto::frame;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use wasmtime::Linker;

/// What one compilation may take.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// Processor time.
    pub cpu: Duration,
    /// Memory for data. Address space is not limited: wasmtime reserves much more than it uses.
    pub data_bytes: u64,
    /// Bytes of compiled code.
    pub artifact_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { cpu: Duration::from_secs(30), data_bytes: 2 << 30, artifact_bytes: 128 << 20 }
    }
}

/// Compiles in a child process. An error is a failure of the child, not of the module.
pub(super) fn run(
    program: &Path,
    wasm: &[u8],
    code: OwnedFd,
    info: OwnedFd,
) -> Result<Verdict, String> {
    let mut command = Command::new(program);
    command.arg("compile").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::null());
    let inherited = [(code.as_raw_fd(), 3), (info.as_raw_fd(), 4)];
    // SAFETY: only async-signal-safe calls. The sources are moved out of the way first, because
    // one of them may be a target of the other.
    unsafe {
        command.pre_exec(move || {
            let mut moved = [0; 2];
            for (index, (source, _)) in inherited.iter().enumerate() {
                moved[index] = libc::fcntl(*source, libc::F_DUPFD, 10);
            }
            for (index, (_, target)) in inherited.iter().enumerate() {
                if moved[index] < 0 || libc::dup2(moved[index], *target) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                libc::close(moved[index]);
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
    let mut input = child.stdin.take().expect("piped above");
    // A child that dies early closes the pipe; its status says why.
    let _ = input.write_all(wasm);
    drop(input);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let limits = CompileLimits::default();
    if let Some(signal) = output.status.signal() {
        return Ok(Verdict::Limit(match signal {
            libc::SIGXCPU | libc::SIGKILL => format!("{} s CPU", limits.cpu.as_secs()),
            libc::SIGXFSZ => format!("artifact of {} bytes", limits.artifact_bytes),
            _ => format!("memory of {} bytes, or signal {signal}", limits.data_bytes),
        }));
    }
    if !output.status.success() {
        return Err(output.status.to_string());
    }
    frame::from_bytes(&output.stdout).map_err(|error| error.to_string())
}

/// What the child process runs. Its exit code.
pub fn child_main() -> i32 {
    let mut wasm = Vec::new();
    let limits = CompileLimits::default();
    let read = std::io::stdin().lock().take(offshoot_proto::limits::MODULE_BYTES_MAX + 1);
    if set_limits(limits).is_err() || { read }.read_to_end(&mut wasm).is_err() {
        return 1;
    }
    // SAFETY: the parent has put the two files there; nothing else owns these numbers.
    let (code, info) = unsafe {
        use std::os::fd::FromRawFd;
        (OwnedFd::from_raw_fd(3), OwnedFd::from_raw_fd(4))
    };
    let Ok(verdict) = compile(&wasm, code, info) else {
        return 1;
    };
    let written = std::io::stdout().write_all(&frame::to_bytes(&verdict));
    i32::from(written.is_err())
}

fn set_limits(limits: CompileLimits) -> rustix::io::Result<()> {
    let set = |resource, value| {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    set(Resource::Cpu, limits.cpu.as_secs())?;
    set(Resource::Data, limits.data_bytes)?;
    set(Resource::Fsize, limits.artifact_bytes)?;
    set(Resource::Nofile, 32)?;
    set(Resource::Core, 0)
}

/// Checks, rewrites and compiles into the two files.
pub(super) fn compile(wasm: &[u8], code: OwnedFd, info: OwnedFd) -> Result<Verdict, String> {
    let prepared = match module::prepare(wasm) {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Verdict::Refused(error)),
    };
    let failed = |error: wasmtime::Error| format!("{error:#}");
    let engine = engine::compiler().map_err(failed)?;
    let refused = |error: wasmtime::Error| {
        Ok(Verdict::Refused(module::ModuleError::Invalid(format!("{error:#}"))))
    };
    let module = match wasmtime::Module::new(&engine, &prepared.wasm) {
        Ok(module) => module,
        Err(error) => return refused(error),
    };
    let mut linker = Linker::<SlotState>::new(&engine);
    imports::link(&mut linker).map_err(failed)?;
    if let Err(error) = linker.instantiate_pre(&module) {
        return refused(error);
    }
    let bytes = module.serialize().map_err(failed)?;
    let limit = CompileLimits::default().artifact_bytes;
    if bytes.len() as u64 > limit {
        return Ok(Verdict::ArtifactTooLarge { bytes: bytes.len() as u64, limit });
    }
    write_whole(code, &bytes)?;
    write_whole(info, &frame::to_bytes(&prepared.info))?;
    Ok(Verdict::Compiled)
}

fn write_whole(file: OwnedFd, bytes: &[u8]) -> Result<(), String> {
    let mut file = File::from(file);
    let written = file.set_len(0).and_then(|()| file.write_all(bytes));
    written.map_err(|error| format!("writing the artifact: {error}"))
}
