//! The rewriting of a checked module: sections are copied as they are but for three.

use super::check::Facts;
use super::{ModuleError, ModuleInfo, Prepared, START_EXPORT, global_export};
use wasm_encoder::{
    DataSection, DataSegment, DataSegmentMode, ExportKind, ExportSection, Module, RawSection,
};
use wasmparser::{DataKind, ExternalKind, Operator, Parser, Payload};

pub(super) fn rewrite(wasm: &[u8], facts: &Facts) -> Result<Prepared, ModuleError> {
    let mut module = Module::new();
    let mut info = ModuleInfo {
        globals: facts.mutable_globals.len(),
        has_start: facts.start.is_some(),
        is_job: facts.is_job,
        ..ModuleInfo::default()
    };
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| ModuleError::Invalid(error.to_string()))?;
        match &payload {
            Payload::ExportSection(reader) => {
                module.section(&exports(reader.clone(), facts)?);
            }
            Payload::StartSection { .. } => {}
            Payload::DataSection(reader) => {
                module.section(&data(reader.clone(), &mut info)?);
            }
            _ => {
                if let Some((id, range)) = payload.as_section() {
                    module.section(&RawSection { id, data: &wasm[range] });
                }
            }
        }
    }
    Ok(Prepared { wasm: module.finish(), info })
}

fn invalid(error: wasmparser::BinaryReaderError) -> ModuleError {
    ModuleError::Invalid(error.to_string())
}

fn exports(
    reader: wasmparser::ExportSectionReader<'_>,
    facts: &Facts,
) -> Result<ExportSection, ModuleError> {
    let mut section = ExportSection::new();
    for export in reader {
        let export = export.map_err(invalid)?;
        let kind = match export.kind {
            ExternalKind::Func => ExportKind::Func,
            ExternalKind::Table => ExportKind::Table,
            ExternalKind::Memory => ExportKind::Memory,
            ExternalKind::Global => ExportKind::Global,
            _ => continue,
        };
        if export.name.starts_with("offshoot:") {
            let text = format!("export {:?}: names with offshoot: are the host's", export.name);
            return Err(ModuleError::Invalid(text));
        }
        section.export(export.name, kind, export.index);
    }
    for (number, index) in facts.exported_globals() {
        section.export(&global_export(number), ExportKind::Global, index);
    }
    if let Some(start) = facts.start {
        section.export(START_EXPORT, ExportKind::Func, start);
    }
    Ok(section)
}

/// Active segments become passive and empty, so that indices stay what they are.
fn data(
    reader: wasmparser::DataSectionReader<'_>,
    info: &mut ModuleInfo,
) -> Result<DataSection, ModuleError> {
    let mut section = DataSection::new();
    for segment in reader {
        let segment = segment.map_err(invalid)?;
        let mut data = segment.data.to_vec();
        if let DataKind::Active { offset_expr, .. } = segment.kind {
            let mut operators = offset_expr.get_operators_reader();
            let Operator::I32Const { value } = operators.read().map_err(invalid)? else {
                let text = "a data segment whose offset is no constant; link without --pic";
                return Err(ModuleError::Unsupported(text.into()));
            };
            info.data.push((value as u32, std::mem::take(&mut data)));
        }

        section.segment(DataSegment { mode: DataSegmentMode::Passive, data });
    }
    Ok(section)
}
