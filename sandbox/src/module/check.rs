//! The cheap pass before compilation: features, limits, imports and exports.
//!
//! Compile-time exhaustion is no vulnerability in wasmtime's eyes: 36 KB of nested loops took it
//! 154 s. So size is bounded here, and the rest by the limits of the compiling process.

use super::ModuleError;
use crate::engine::features;
use crate::imports::{WASI_MODULE, signature, wasi_names};
use offshoot_proto::abi::{EXPORT_MEMORY, EXPORT_START, EXPORT_TASK, IMPORT_MODULE};
use offshoot_proto::limits::MODULE_BYTES_MAX;
use wasmparser::{
    DataKind, ExternalKind, FuncType, FunctionBody, Operator, Parser, Payload, TypeRef, ValType,
    Validator,
};

/// Functions of a module.
pub const MAX_FUNCTIONS: u64 = 50_000;
/// Bytes of one function's body.
pub const MAX_BODY_BYTES: u64 = 1 << 20;
/// Locals of one function.
pub const MAX_LOCALS: u64 = 5_000;
/// Nesting of blocks in one function.
pub const MAX_NESTING: u64 = 256;
/// Elements of one table at its start.
const MAX_TABLE_ELEMENTS: u64 = 1 << 20;

/// What the rewriting needs to know.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) is_job: bool,
    pub(super) imported_globals: u32,
    /// Indices of mutable globals.
    pub(super) mutable_globals: Vec<u32>,
    pub(super) start: Option<u32>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    types: Vec<Option<FuncType>>,
    exports: Vec<(String, ExternalKind, u32)>,
    unknown_imports: Vec<String>,
    wants_tasks: bool,
    bodies: u64,
}

pub(super) fn check(wasm: &[u8]) -> Result<Facts, ModuleError> {
    check_header(wasm)?;
    let mut facts = Facts::default();
    for payload in Parser::new(0).parse_all(wasm) {
        facts.payload(payload.map_err(|error| invalid(&error))?)?;
    }
    // After the limits, so that a huge function is not validated first.
    Validator::new_with_features(features()).validate_all(wasm).map_err(|error| {
        let message = error.message().to_owned();
        if message.contains("support is not enabled") || message.contains("must be enabled") {
            let offset = error.offset();
            ModuleError::Unsupported(format!("{message} (at offset {offset:#x})"))
        } else {
            invalid(&error)
        }
    })?;
    facts.check_imports()?;
    facts.check_exports()?;
    Ok(facts)
}

fn check_header(wasm: &[u8]) -> Result<(), ModuleError> {
    if wasm.len() as u64 > MODULE_BYTES_MAX {
        let (value, limit) = (wasm.len() as u64, MODULE_BYTES_MAX);
        return Err(ModuleError::TooLarge { what: "module bytes".into(), value, limit });
    }
    let magic = wasm.get(..4).unwrap_or(wasm);
    if magic == b"\x7fELF" && wasm.windows(8).take(4096).any(|w| w == b"wasmtime") {
        let text = "precompiled code is not accepted; submit the .wasm it was made from";
        return Err(ModuleError::Invalid(text.into()));
    }
    if magic != b"\0asm" {
        let hex: Vec<String> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = if hex.is_empty() { "the file is empty".into() } else { hex.join(" ") };
        return Err(ModuleError::Invalid(format!("not wasm (magic {shown})")));
    }
    if wasm.get(4..8) == Some(&[0x0d, 0, 1, 0]) {
        let text = "a component; build a core module (target wasm32-wasip1)";
        return Err(ModuleError::Unsupported(text.into()));
    }
    Ok(())
}

fn invalid(error: &wasmparser::BinaryReaderError) -> ModuleError {
    let (message, offset) = (error.message(), error.offset());
    ModuleError::Invalid(format!("{message} at offset {offset:#x}"))
}

fn unsupported(what: &str) -> ModuleError {
    ModuleError::Unsupported(what.to_owned())
}

fn limited(what: String, value: u64, limit: u64) -> Result<(), ModuleError> {
    if value > limit { Err(ModuleError::TooLarge { what, value, limit }) } else { Ok(()) }
}

fn is_mutation(operator: &Operator<'_>) -> Option<&'static str> {
    match operator {
        Operator::TableSet { .. }
        | Operator::TableGrow { .. }
        | Operator::TableFill { .. }
        | Operator::TableCopy { .. }
        | Operator::TableInit { .. }
        | Operator::ElemDrop { .. } => {
            Some("a table that changes; tasks share the driver's tables")
        }
        Operator::DataDrop { .. } => Some("a data segment that is dropped"),
        _ => None,
    }
}

// === impl Facts ===

impl Facts {
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::TypeSection(reader) => self.type_section(reader)?,
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    self.import(&import.map_err(|error| invalid(&error))?)?;
                }
            }
            Payload::FunctionSection(reader) => {
                for function in reader {
                    self.functions.push(function.map_err(|error| invalid(&error))?);
                }
                limited("functions".into(), self.functions.len() as u64, MAX_FUNCTIONS)?;
            }
            Payload::TableSection(reader) => {
                for table in reader {
                    let table = table.map_err(|error| invalid(&error))?;
                    limited("table elements".into(), table.ty.initial, MAX_TABLE_ELEMENTS)?;
                }
            }
            Payload::MemorySection(reader) => {
                for memory in reader {
                    let memory = memory.map_err(|error| invalid(&error))?;
                    if memory.shared {
                        return Err(unsupported("shared memory"));
                    }
                    if memory.memory64 {
                        return Err(unsupported("memory64"));
                    }
                }
            }
            Payload::GlobalSection(reader) => {
                for (global, index) in reader.into_iter().zip(self.imported_globals..) {
                    if global.map_err(|error| invalid(&error))?.ty.mutable {
                        self.mutable_globals.push(index);
                    }
                }
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export.map_err(|error| invalid(&error))?;
                    self.exports.push((export.name.to_owned(), export.kind, export.index));
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::DataSection(reader) => {
                for data in reader {
                    let data = data.map_err(|error| invalid(&error))?;
                    if let DataKind::Active { memory_index, .. } = data.kind
                        && memory_index != 0
                    {
                        return Err(unsupported("more than one memory"));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => self.body(&body)?,
            _ => {}
        }
        Ok(())
    }

    fn type_section(
        &mut self,
        reader: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), ModuleError> {
        for group in reader.into_iter_err_on_gc_types() {
            self.types.push(Some(group.map_err(|error| invalid(&error))?));
        }
        Ok(())
    }

    fn import(&mut self, import: &wasmparser::Import<'_>) -> Result<(), ModuleError> {
        let name = format!("{}::{}", import.module, import.name);
        match import.ty {
            TypeRef::Func(index) => {
                self.functions.push(index);
                self.function_import(import, &name, index)?;
            }
            TypeRef::Global(_) => {
                self.imported_globals += 1;
                self.unknown_imports.push(name);
            }
            TypeRef::Memory(memory) if memory.shared => return Err(unsupported("shared memory")),
            TypeRef::Memory(_) => {
                return Err(unsupported("an imported memory; jobs define and export their own"));
            }
            _ => self.unknown_imports.push(name),
        }
        Ok(())
    }

    fn function_import(
        &mut self,
        import: &wasmparser::Import<'_>,
        name: &str,
        index: u32,
    ) -> Result<(), ModuleError> {
        if import.module == WASI_MODULE {
            if !wasi_names().contains(&import.name) {
                self.unknown_imports.push(name.to_owned());
            }
            return Ok(());
        }
        let Some(expected) = signature(import.name).filter(|_| import.module == IMPORT_MODULE)
        else {
            self.unknown_imports.push(name.to_owned());
            return Ok(());
        };
        self.is_job = true;
        self.wants_tasks |= import.name == "job_submit";
        let found = self.types.get(index as usize).and_then(Option::as_ref);
        let found = found.map(show).unwrap_or_default();
        if found != expected {
            let (name, expected) = (name.to_owned(), expected.to_owned());
            return Err(ModuleError::ImportType { name, found, expected });
        }
        Ok(())
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), ModuleError> {
        let index = self.bodies;
        self.bodies += 1;
        let bytes = body.range().len() as u64;
        limited(format!("bytes of function body {index}"), bytes, MAX_BODY_BYTES)?;
        let mut locals = 0u64;
        for local in body.get_locals_reader().map_err(|error| invalid(&error))? {
            locals += u64::from(local.map_err(|error| invalid(&error))?.0);
        }
        limited(format!("locals of function body {index}"), locals, MAX_LOCALS)?;
        let mut nesting = 0u64;
        for operator in body.get_operators_reader().map_err(|error| invalid(&error))? {
            match operator.map_err(|error| invalid(&error))? {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    nesting += 1;
                    limited(format!("nesting in function body {index}"), nesting, MAX_NESTING)?;
                }
                Operator::End => nesting = nesting.saturating_sub(1),
                operator => {
                    if let Some(what) = is_mutation(&operator) {
                        return Err(unsupported(what));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_imports(&self) -> Result<(), ModuleError> {
        let Some(name) = self.unknown_imports.first() else {
            return Ok(());
        };
        Err(ModuleError::UnknownImport {
            name: name.clone(),
            others: self.unknown_imports.len() - 1,
            available: format!("{WASI_MODULE} and {IMPORT_MODULE} (docs/abi.md)"),
        })
    }

    fn check_exports(&self) -> Result<(), ModuleError> {
        self.need(EXPORT_MEMORY, None, "needs one")?;
        self.need(EXPORT_START, Some("() -> ()"), "is run by it")?;
        if self.wants_tasks {
            self.need(EXPORT_TASK, Some("(i32, i32) -> i64"), "calls job_submit")?;
        }
        Ok(())
    }

    fn need(&self, name: &str, ty: Option<&str>, reason: &str) -> Result<(), ModuleError> {
        let fits = |(found, kind, index): &&(String, ExternalKind, u32)| {
            found == name
                && match (kind, ty) {
                    (ExternalKind::Memory, None) => true,
                    (ExternalKind::Func, Some(ty)) => self.function_type(*index) == ty,
                    _ => false,
                }
        };
        if self.exports.iter().any(|export| fits(&export)) {
            return Ok(());
        }
        let names: Vec<&str> =
            self.exports.iter().map(|(name, ..)| name.as_str()).take(8).collect();
        Err(ModuleError::MissingExport {
            expected: format!("{name}{}", ty.unwrap_or("").replace("() -> ()", "()")),
            reason: reason.to_owned(),
            exports: if names.is_empty() { "nothing".into() } else { names.join(", ") },
        })
    }

    fn function_type(&self, index: u32) -> String {
        let ty = self.functions.get(index as usize).and_then(|ty| self.types.get(*ty as usize));
        ty.and_then(Option::as_ref).map(show).unwrap_or_default()
    }

    /// Index in the list of globals that the rewritten module exports.
    pub(super) fn exported_globals(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.mutable_globals.iter().copied().enumerate()
    }
}

/// `(i32, i32) -> i64`.
fn show(ty: &FuncType) -> String {
    let list =
        |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let results = match ty.results() {
        [one] => one.to_string(),
        many => format!("({})", list(many)),
    };
    format!("({}) -> {results}", list(ty.params()))
}
