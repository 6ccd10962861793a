//! A guest that has every import of preview-1 as an export, so that tests call them as it would.
#![allow(clippy::unwrap_used)]

mod descriptors;
mod hostile;
mod process;

use super::*;
use offshoot_proto::link::{PathKind, PathOperation, PathStat, SlotRole};
use std::fmt::Write as _;
use std::fs::File as SystemFile;
use std::sync::LazyLock;
use wasmtime::{Engine, Extern, FuncType, Instance, Linker, Module, Store, Val, ValType};

/// Bytes of the test guest's memory: two pages.
const MEMORY_BYTES: u32 = 2 << 16;

type Answer = (PathReply, Option<OwnedFd>);

/// The state of a store in tests: it notes what it is asked for.
struct Host {
    wasi: Wasi,
    output: Vec<(u8, Vec<u8>)>,
    made_writable: Vec<(usize, usize)>,
    requests: Vec<PathRequest>,
    answer: Box<dyn FnMut(&PathRequest) -> Answer>,
    /// How often a call may go on to write.
    writes_left: usize,
}

/// A guest.
struct Guest {
    store: Store<Host>,
    instance: Instance,
}

/// What all guests share: compiled once.
struct Shared {
    linker: Linker<Host>,
    module: Module,
    imports: Vec<(String, FuncType)>,
}

static SHARED: LazyLock<Shared> = LazyLock::new(Shared::new);

// === impl Shared ===

impl Shared {
    fn new() -> Self {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker).unwrap();
        let mut store = Store::new(&engine, Host::new(Wasi::for_main(&settings())));
        let mut imports = Vec::new();
        for (_, name, item) in linker.iter(&mut store).collect::<Vec<_>>() {
            let Extern::Func(function) = item else {
                panic!("{name} is no function");
            };
            imports.push((name.to_owned(), function.ty(&store)));
        }
        Self { module: Module::new(&engine, wrapper_module(&imports)).unwrap(), linker, imports }
    }
}

// === impl Host ===

impl Host {
    fn new(wasi: Wasi) -> Self {
        Self {
            wasi,
            output: Vec::new(),
            made_writable: Vec::new(),
            requests: Vec::new(),
            answer: Box::new(|_| (errno_reply(Errno::NOENT, "not there"), None)),
            writes_left: usize::MAX,
        }
    }
}

impl WasiHost for Host {
    fn wasi(&mut self) -> &mut Wasi {
        &mut self.wasi
    }

    fn output(&mut self, stream: u8, bytes: &[u8]) -> Result<(), Errno> {
        self.output.push((stream, bytes.to_vec()));
        Ok(())
    }

    fn path(&mut self, request: PathRequest) -> Result<Answer, Errno> {
        self.requests.push(request.clone());
        Ok((self.answer)(&request))
    }

    fn make_writable(&mut self, offset: usize, length: usize) {
        self.made_writable.push((offset, length));
    }

    fn may_write(&mut self) -> Result<(), Errno> {
        self.writes_left = self.writes_left.checked_sub(1).ok_or(Errno::NOSPC)?;
        Ok(())
    }

    fn end_call(&mut self) -> wasmtime::Result<()> {
        if self.writes_left == 0 { Err(wasmtime::Error::msg("it is the last one")) } else { Ok(()) }
    }
}

// === impl Guest ===

impl Guest {
    /// `main`, with a preopen `data`; its paths are answered with `ENOENT`.
    fn main() -> Self {
        Self::new(Wasi::for_main(&settings()))
    }

    /// A task of a snapshot that was taken when `main` had used the descriptors below `first`.
    fn task(first: u32) -> Self {
        let partition = Partition(7);
        Self::new(Wasi::for_task(&settings(), &snapshot(first), NodeId(3), partition))
    }

    fn new(wasi: Wasi) -> Self {
        let shared = &*SHARED;
        let mut store = Store::new(shared.module.engine(), Host::new(wasi));
        let instance = shared.linker.instantiate(&mut store, &shared.module);
        Self { instance: instance.unwrap(), store }
    }

    fn answer(&mut self, answer: impl FnMut(&PathRequest) -> Answer + 'static) {
        self.host().answer = Box::new(answer);
    }

    fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    /// The error number that a call returns, 0 for none.
    fn call(&mut self, name: &str, arguments: &[u64]) -> u16 {
        self.try_call(name, arguments).unwrap()
    }

    fn try_call(&mut self, name: &str, arguments: &[u64]) -> wasmtime::Result<u16> {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let kind = function.ty(&self.store);
        assert_eq!(kind.params().len(), arguments.len(), "arguments of {name}");
        let values = kind.params().zip(arguments).map(|(kind, &value)| match kind {
            ValType::I32 => Val::I32(value as u32 as i32),
            _ => Val::I64(value as i64),
        });
        let mut results = vec![Val::I32(0); kind.results().len()];
        function.call(&mut self.store, &values.collect::<Vec<_>>(), &mut results)?;
        let number = results.first().map_or(0, Val::unwrap_i32);
        Ok(u16::try_from(number).unwrap())
    }

    fn memory(&mut self) -> &mut [u8] {
        let memory = self.instance.get_memory(&mut self.store, "memory").unwrap();
        memory.data_mut(&mut self.store)
    }

    fn write(&mut self, pointer: u32, bytes: &[u8]) {
        let start = pointer as usize;
        self.memory()[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn write_words(&mut self, pointer: u32, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(pointer, &bytes);
    }

    fn read(&mut self, pointer: u32, length: u32) -> Vec<u8> {
        self.memory()[pointer as usize..(pointer + length) as usize].to_vec()
    }

    fn u32_at(&mut self, pointer: u32) -> u32 {
        u32::from_le_bytes(self.read(pointer, 4).try_into().unwrap())
    }

    fn u64_at(&mut self, pointer: u32) -> u64 {
        u64::from_le_bytes(self.read(pointer, 8).try_into().unwrap())
    }

    /// Opens `path` under the preopen with these rights; the result is the error or the number.
    fn open(&mut self, path: &str, rights: u64, flags: u64) -> Result<u32, u16> {
        self.write(0x8000, path.as_bytes());
        let length = path.len() as u64;
        let arguments = [3, 1, 0x8000, length, 0, rights, 0, flags, 0x9000];
        match self.call("path_open", &arguments) {
            0 => Ok(self.u32_at(0x9000)),
            errno => Err(errno),
        }
    }

    /// Makes every path a file that is this one.
    fn serve(&mut self, file: &SystemFile) {
        let file = file.try_clone().unwrap();
        self.answer(move |_| {
            let descriptor = OwnedFd::from(file.try_clone().unwrap());
            (PathReply::Opened(PathStat::default()), Some(descriptor))
        });
    }
}

fn settings() -> Arc<WasiSettings> {
    let text = |text: &str| text.to_owned();
    WasiSettings::new(&SlotStart {
        role: SlotRole::Tasks,
        arguments: vec![text("job"), text("--fast")],
        environment: vec![(text("LANG"), text("C"))],
        preopens: vec![(text("data"), false)],
        memory_bytes_max: 0,
        result_bytes_max: 0,
        disk_bytes_max: 0,
    })
}

fn snapshot(first_free_descriptor: u32) -> SnapshotHeader {
    SnapshotHeader {
        id: offshoot_proto::id::SnapshotId(1),
        memory_bytes: 0,
        globals: Vec::new(),
        realtime_nanos: 1_700_000_000_000_000_000,
        monotonic_nanos: 42_000_000,
        seed: 11,
        first_free_descriptor,
        runs: Vec::new(),
    }
}

fn errno_reply(errno: Errno, message: &str) -> PathReply {
    PathReply::Errno { errno: errno.raw(), message: message.to_owned() }
}

fn wrapper_module(imports: &[(String, FuncType)]) -> Vec<u8> {
    let (mut head, mut body) = (String::new(), String::new());
    for (name, kind) in imports {
        let parameters: Vec<String> = kind.params().map(|kind| kind.to_string()).collect();
        let result = if kind.results().len() == 0 { "" } else { "(result i32)" };
        let signature = format!("(param {}) {result}", parameters.join(" "));
        writeln!(head, "(import \"{MODULE}\" \"{name}\" (func ${name} {signature}))").unwrap();
        write!(body, "(func (export \"{name}\") {signature} (call ${name}").unwrap();
        for index in 0..parameters.len() {
            write!(body, " (local.get {index})").unwrap();
        }
        body.push_str("))\n");
    }
    wat::parse_str(format!("(module {head} (memory (export \"memory\") 2) {body})")).unwrap()
}
