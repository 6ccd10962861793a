//! One guest: instantiated, set to its start, called, and its end put into words.

use super::{Ended, Exports, SlotState};
use crate::link::LinkError;
use crate::wasi::Exit;
use offshoot_proto::limits::MESSAGE_BYTES_MAX;
use offshoot_proto::outcome::TaskFailure;
use offshoot_proto::snapshot::GlobalValue;
use wasmtime::{
    AsContextMut, Extern, Func, Instance, InstancePre, ModuleExport, Store, Trap, Val,
    WasmBacktrace,
};

/// Frames of a trap's backtrace that are shown.
const FRAMES_MAX: usize = 16;

/// How a guest ended, if not well.
pub(super) enum GuestEnd {
    /// It called `exit`.
    Exit(i32),
    /// The attempt failed.
    Failed(TaskFailure),
    /// The slot cannot go on.
    Link(LinkError),
}

/// A guest that is ready to be called.
pub(super) struct Guest {
    pub(super) store: Store<SlotState>,
    instance: Instance,
    exports: Exports,
}

pub(super) fn from_val(value: &Val) -> GlobalValue {
    match value {
        Val::I32(value) => GlobalValue::I32(*value),
        Val::I64(value) => GlobalValue::I64(*value),
        Val::F32(bits) => GlobalValue::F32(*bits),
        Val::F64(bits) => GlobalValue::F64(*bits),
        Val::V128(value) => GlobalValue::V128(value.as_u128()),
        _ => unreachable!("a global of reference type is refused at submission"),
    }
}

fn to_val(value: GlobalValue) -> Val {
    match value {
        GlobalValue::I32(value) => Val::I32(value),
        GlobalValue::I64(value) => Val::I64(value),
        GlobalValue::F32(bits) => Val::F32(bits),
        GlobalValue::F64(bits) => Val::F64(bits),
        GlobalValue::V128(value) => Val::V128(value.into()),
    }
}

// === impl Guest ===

impl Guest {
    /// Instantiates. On failure the state comes back with the reason.
    pub(super) fn new(
        pre: &InstancePre<SlotState>,
        state: SlotState,
    ) -> Result<Self, Box<(SlotState, TaskFailure)>> {
        let exports = state.exports.clone();
        let mut store = Store::new(pre.module().engine(), state);
        store.limiter(|state| state);
        let instance = match pre.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) => {
                let message = format!("could not start the guest: {error:#}");
                return Err(Box::new((store.into_data(), TaskFailure::Host { message })));
            }
        };
        let mut guest = Self { store, instance, exports };
        let memory = guest.exports.memory;
        let memory = guest.export(&memory).into_memory();
        guest.store.data_mut().guest = memory;
        Ok(guest)
    }

    fn export(&mut self, export: &ModuleExport) -> Extern {
        let found = self.instance.get_module_export(&mut self.store, export);
        found.expect("exports were found in the module")
    }

    /// Sets every mutable global, the stack pointer among them.
    pub(super) fn set_globals(&mut self, values: &[GlobalValue]) -> Result<(), TaskFailure> {
        if values.len() != self.exports.globals.len() {
            let message = "the snapshot has another number of globals than the module".to_owned();
            return Err(TaskFailure::Host { message });
        }
        for (index, value) in values.iter().enumerate() {
            let export = self.exports.globals[index];
            let global = self.export(&export).into_global().expect("exported as a global");
            global.set(&mut self.store, to_val(*value)).map_err(|error| TaskFailure::Host {
                message: format!("setting global {index}: {error:#}"),
            })?;
        }
        Ok(())
    }

    /// Writes a module's active data.
    pub(super) fn write_data(&mut self, data: &[(u32, Vec<u8>)]) -> Result<(), TaskFailure> {
        let memory = self.store.data().guest.expect("set when the guest was made");
        for (offset, bytes) in data {
            memory.write(&mut self.store, *offset as usize, bytes).map_err(|_| {
                let message = format!("a data segment at {offset:#x} is out of bounds");
                TaskFailure::Trap { message }
            })?;
        }
        Ok(())
    }

    /// Calls the function of the start section, if there is one.
    pub(super) fn call_start_section(&mut self) -> Result<(), GuestEnd> {
        match self.exports.start_section {
            Some(export) => self.call_unit(&export),
            None => Ok(()),
        }
    }

    /// Calls `main`.
    pub(super) fn call_main(&mut self) -> Result<(), GuestEnd> {
        let export = self.exports.start.ok_or_else(|| missing("_start"))?;
        self.call_unit(&export)
    }

    fn call_unit(&mut self, export: &ModuleExport) -> Result<(), GuestEnd> {
        let function = self.function(export);
        let typed = function.typed::<(), ()>(&self.store).map_err(|_| missing("of this type"))?;
        let result = typed.call(&mut self.store, ());
        result.map_err(|error| self.ended(&error))
    }

    /// Calls the task entry.
    pub(super) fn call_task(&mut self, node: u32, partition: u32) -> Result<i64, GuestEnd> {
        let export = self.exports.task.ok_or_else(|| missing("offshoot_task"))?;
        let function = self.function(&export);
        let typed = function.typed::<(i32, i32), i64>(&self.store);
        let typed = typed.map_err(|_| missing("of this type"))?;
        let result = typed.call(&mut self.store, (node as i32, partition as i32));
        result.map_err(|error| self.ended(&error))
    }

    fn function(&mut self, export: &ModuleExport) -> Func {
        self.export(export).into_func().expect("checked when the module was submitted")
    }

    /// The reason why a call did not return.
    fn ended(&mut self, error: &wasmtime::Error) -> GuestEnd {
        let mut context = self.store.as_context_mut();
        let state = context.data_mut();
        if let Some(error) = state.link_error.take() {
            return GuestEnd::Link(error);
        }
        if let Some(Exit(code)) = error.downcast_ref::<Exit>() {
            return GuestEnd::Exit(*code);
        }
        if let Some(failure) = state.failure.take() {
            return GuestEnd::Failed(failure);
        }
        debug_assert!(error.downcast_ref::<Ended>().is_none(), "an end has its reason");
        if let Some((asked, limit)) = state.refused_growth.take() {
            return GuestEnd::Failed(TaskFailure::OutOfMemory { asked, limit });
        }
        GuestEnd::Failed(TaskFailure::Trap { message: describe(error) })
    }
}

fn missing(what: &str) -> GuestEnd {
    GuestEnd::Failed(TaskFailure::Trap { message: format!("the module has no export {what}") })
}

/// A trap's name and the guest's frames, innermost first.
fn describe(error: &wasmtime::Error) -> String {
    let mut text = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => {
            format!("StackOverflow ({} KiB)", crate::engine::WASM_STACK_BYTES >> 10)
        }
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for frame in backtrace.frames().iter().take(FRAMES_MAX) {
            let symbol = frame.symbols().first();
            let demangled = symbol.and_then(wasmtime::FrameSymbol::name);
            let name = demangled.or_else(|| frame.func_name()).unwrap_or("<unknown>");
            text.push_str(&format!("\n    at {name}"));
            if let Some(symbol) = symbol
                && let (Some(file), Some(line)) = (symbol.file(), symbol.line())
            {
                text.push_str(&format!(" ({file}:{line})"));
            }
        }
    }
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    text
}
