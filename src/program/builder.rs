//! Programs without an object file.

use std::sync::Arc;

use skep_asm::{AsmError, Assembler, Reg};
use skep_btf::{Btf, ExtRecord, FuncInfo, Kind, LineInfo, TypeId};
use skep_sys::abi::{AttachType, ProgFlags, ProgType};
use skep_sys::{Kernel, LoadedProgram, MapError};

use super::Program;
use crate::error::Error;
use crate::load::program::{self, Context};
use crate::load::{KernelTarget, LoadError, LoadReport, raise_memlock};
use crate::map::{Map, MapLabel};
use crate::reloc::attach::{Unbound, kernel_type, program_function};
use crate::reloc::{
    KernelType, PlacedFunction, Placeholder, PlaceholderValue, ProgramPlan, Target, TargetError,
};
use crate::spec::{AutoAttach, InfoRecords, MapIndex, ProgramIndex, sanitize};

/// Puts a program together from instructions and loads it (`BPF_PROG_LOAD`), with the same errors as an object's: what
/// the verifier said, the instruction that it is about, and the whole log.
///
/// Instructions are written by its [assembler](Self::asm). What they refer to in a kernel is named by the methods that
/// begin with `load_` and `call_`, which write the instruction and find map, function or variable when the program is
/// loaded.
///
/// ```
/// use skep::asm::{Cond, Reg, Size};
/// use skep::map::Map;
/// use skep::program::ProgramBuilder;
/// use skep::sys::abi::{MapType, ProgType};
/// use skep::sys::request::MapCreate;
///
/// const MAP_LOOKUP_ELEM: i32 = 1;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kernel = skep::sim::kernel();
/// let counts = Map::create(&kernel, &MapCreate::new(MapType::HASH, 4, 8, 16))?;
///
/// let mut builder = ProgramBuilder::new(ProgType::SOCKET_FILTER, "GPL");
/// builder.name("lookup");
/// builder.asm().st(Size::W, Reg::R10, -4, 7).mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -4);
/// builder.load_map(Reg::R1, &counts);
/// builder
///     .asm()
///     .call_helper(MAP_LOOKUP_ELEM)
///     .jmp64_imm(Cond::Eq, Reg::R0, 0, "none")
///     .ldx(Size::DW, Reg::R0, Reg::R0, 0)
///     .label("none")
///     .exit();
/// let program = builder.load(&kernel)?;
/// assert_eq!(program.info()?.map_ids, [counts.id()?]);
///
/// builder.asm().label("none"); // the second one of that name
/// let error = builder.load(&kernel).unwrap_err();
/// assert_eq!(error.to_string(), "load program `lookup`");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ProgramBuilder {
    prog_type: ProgType,
    license: String,
    name: String,
    attach_type: AttachType,
    flags: ProgFlags,
    log_level: u32,
    attach_to: Option<String>,
    attach_program: Option<Arc<LoadedProgram>>,
    types: Option<Btf>,
    func_info: Vec<FuncInfo>,
    line_info: Vec<LineInfo>,
    asm: Assembler,
    references: Vec<(usize, Reference)>,
}

/// What an instruction refers to.
#[derive(Clone, Debug)]
enum Reference {
    Map(Map),
    MapValue(Map),
    Function(String),
    Variable(String),
}

/// Why a program that was built could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The instructions do not fit together.
    #[error("its instructions do not fit together")]
    Assemble(#[from] AsmError),
    /// A map is another kernel's, or its descriptor cannot be duplicated.
    #[error("map {map} cannot be used in it")]
    Map {
        /// Name of the map.
        map: MapLabel,
        /// Why.
        source: MapError,
    },
    /// Something that it refers to is not in the kernel.
    #[error("{what}: {reason}")]
    Missing {
        /// What it refers to.
        what: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// The kernel cannot be asked for what it refers to.
    #[error("{what}")]
    Target {
        /// What it refers to.
        what: String,
        /// Why.
        source: TargetError,
    },
    /// The kernel did not take it.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl ProgramBuilder {
    /// A program of this kind with no instruction yet. The license decides which helpers it may call: `GPL` for all.
    pub fn new(prog_type: ProgType, license: impl Into<String>) -> Self {
        ProgramBuilder {
            prog_type,
            license: license.into(),
            name: String::new(),
            attach_type: AttachType(0),
            flags: ProgFlags::empty(),
            log_level: 0,
            attach_to: None,
            attach_program: None,
            types: None,
            func_info: Vec::new(),
            line_info: Vec::new(),
            asm: Assembler::new(),
            references: Vec::new(),
        }
    }

    /// Name. The kernel keeps the first 15 bytes, with an underscore for what it does not take (Linux 4.15).
    pub fn name(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = name.into();
        self
    }

    /// Attach type that the verifier assumes (Linux 4.17), for kinds that have one. Of
    /// [`STRUCT_OPS`](ProgType::STRUCT_OPS) it is the index of the member.
    pub fn expected_attach_type(&mut self, attach_type: AttachType) -> &mut Self {
        self.attach_type = attach_type;
        self
    }

    /// Load flags, such as [`ProgFlags::SLEEPABLE`], which kind [`SYSCALL`](ProgType::SYSCALL) needs.
    pub fn flags(&mut self, flags: ProgFlags) -> &mut Self {
        self.flags = flags;
        self
    }

    /// Asks for the verifier's log also when it loads (`log_level`: 1 for branches, 2 for all, 4 for statistics, or-ed).
    /// It is in [`Program::log`] then. When it does not load the log is in the error anyway.
    pub fn log_level(&mut self, level: u32) -> &mut Self {
        self.log_level = level;
        self
    }

    /// Binds it to something of the kernel by its name in the kernel's types: for tracing a function or, with
    /// [`TRACE_RAW_TP`](AttachType::TRACE_RAW_TP), a tracepoint (`sched_process_exec`), for LSM a hook (`file_open`), for
    /// `struct_ops` a structure, for raw tracepoints the one that [`Program::attach`] takes. `module:name` is for
    /// something of a module.
    pub fn attach_to(&mut self, name: impl Into<String>) -> &mut Self {
        self.attach_to = Some(name.into());
        self
    }

    /// Binds it to a function of another program: for `freplace` (kind [`EXT`](ProgType::EXT), Linux 5.6), and `fentry`
    /// and `fexit` of programs (Linux 5.5).
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left for a second handle of `program`.
    pub fn attach_to_program(
        &mut self,
        program: &Program,
        function: impl Into<String>,
    ) -> Result<&mut Self, Error> {
        self.attach_program = Some(Arc::new(program.try_clone()?.into()));
        Ok(self.attach_to(function))
    }

    /// Types that its function and line records, and so dumps and the verifier's log, refer to (Linux 5.0). They are made
    /// by [`BtfBuilder`](skep_btf::BtfBuilder), or those of an object.
    pub fn types(&mut self, types: Btf) -> &mut Self {
        self.types = Some(types);
        self
    }

    /// Which function of the [types](Self::types) begins where; one record for the program and for each of its
    /// sub-programs.
    pub fn func_info(&mut self, records: impl IntoIterator<Item = FuncInfo>) -> &mut Self {
        self.func_info = records.into_iter().collect();
        self
    }

    /// Which source line an instruction comes from; text and file name are strings of the [types](Self::types).
    pub fn line_info(&mut self, records: impl IntoIterator<Item = LineInfo>) -> &mut Self {
        self.line_info = records.into_iter().collect();
        self
    }

    /// The assembler, to append instructions. What comes from elsewhere goes in by
    /// [`Assembler::insns`](skep_asm::Assembler::insns).
    pub fn asm(&mut self) -> &mut Assembler {
        &mut self.asm
    }

    /// `dst = ` the map, as helpers take it.
    pub fn load_map(&mut self, dst: Reg, map: &Map) -> &mut Self {
        self.refer(Reference::Map(map.clone()));
        self.asm.ld_map_fd(dst, 0);
        self
    }

    /// `dst = ` the address `offset` bytes into the only value of an array (Linux 5.2), or into an arena.
    pub fn load_map_value(&mut self, dst: Reg, map: &Map, offset: u32) -> &mut Self {
        self.refer(Reference::MapValue(map.clone()));
        self.asm.ld_map_value(dst, 0, offset.cast_signed());
        self
    }

    /// `dst = ` the address of a variable of the kernel or of a module that its types have (Linux 5.10).
    pub fn load_ksym(&mut self, dst: Reg, name: impl Into<String>) -> &mut Self {
        self.refer(Reference::Variable(name.into()));
        self.asm.ld_btf_id(dst, 0, 0);
        self
    }

    /// Calls a function of the kernel or of a module that programs may call, a kfunc (Linux 5.13; of modules 5.16).
    pub fn call_kfunc(&mut self, name: impl Into<String>) -> &mut Self {
        self.refer(Reference::Function(name.into()));
        self.asm.call_kfunc(0, 0);
        self
    }

    fn refer(&mut self, reference: Reference) {
        self.references.push((self.asm.here(), reference));
    }

    /// Loads the program. It can be loaded again, into another kernel too if it has no maps.
    ///
    /// What a kernel lacks that the program can do without, such as names, is left out as for objects.
    ///
    /// # Errors
    ///
    /// [`Error::Build`]: the instructions do not fit together, the kernel has not what they refer to, or it did not take
    /// the program.
    pub fn load(&self, kernel: &Kernel) -> Result<Program, Error> {
        self.load_into(kernel)
            .map_err(|source| Error::Build { program: self.name.clone(), source: Box::new(source) })
    }

    fn load_into(&self, kernel: &Kernel) -> Result<Program, BuildError> {
        let others = self.attach_program.iter().map(|program| (self.name.clone(), program.clone()));
        let target = KernelTarget::new(kernel).with_programs(others.collect());
        let mut plan = self.plan()?;
        let mut maps = Vec::new();
        let mut modules = Vec::new();
        for (insn, reference) in &self.references {
            self.resolve(&target, &mut plan, *insn, reference, &mut maps, &mut modules)?;
        }
        if let Some(map) = maps.iter().find(|map: &&&Map| !map.kernel().same(kernel)) {
            return Err(BuildError::Map { map: map.label(), source: MapError::OtherKernel });
        }
        self.bind(&target, &mut plan)?;
        let handles = maps.iter().map(|map| {
            let fd = map.as_map_fd().try_clone();
            fd.map(Some).map_err(|source| BuildError::Map { map: map.label(), source })
        });
        let handles = handles.collect::<Result<Vec<_>, _>>()?;
        // Who has no types for a kernel that takes none can do without.
        let btf = self.types.as_ref().and_then(|types| kernel.btf_load(types.bytes(), None).ok());
        let context = Context {
            kernel,
            target: &target,
            maps: &handles,
            modules: &modules,
            devices: &[],
            license: &self.license,
            version: None,
            btf_fd: btf.as_ref(),
            btf: self.types.as_ref(),
            log_level: self.log_level,
        };
        let mut report = LoadReport::default();
        let taken = match program::load(&context, &plan, None, &mut report) {
            // Before Linux 5.11 programs count against a limit that is often too low.
            Err(error) if error.errno() == Some(skep_sys::abi::Errno::EPERM) && raise_memlock(kernel) => {
                program::load(&context, &plan, None, &mut report)?
            }
            taken => taken?,
        };
        let mut program = Program::new(&plan, taken);
        program.origin.index = None;
        Ok(program)
    }

    /// What is known without a kernel.
    fn plan(&self) -> Result<ProgramPlan, BuildError> {
        let insns = self.asm.finish()?;
        let len = u32::try_from(insns.len()).unwrap_or(u32::MAX);
        let auto_attach = match self.prog_type {
            ProgType::TRACING | ProgType::EXT => AutoAttach::Trace,
            ProgType::LSM => AutoAttach::Lsm,
            ProgType::RAW_TRACEPOINT | ProgType::RAW_TRACEPOINT_WRITABLE => AutoAttach::RawTracepoint,
            _ => AutoAttach::None,
        };
        Ok(ProgramPlan {
            name: self.name.clone(),
            kernel_name: sanitize(&self.name),
            program: ProgramIndex(0),
            section: String::new(),
            prog_type: self.prog_type,
            attach_type: self.attach_type,
            attach_type_optional: false,
            attach_to: self.attach_to.clone(),
            auto_attach,
            attach_target: None,
            attach_function: None,
            flags: self.flags,
            functions: self.functions(len),
            insns,
            placeholders: Vec::new(),
            jump_tables: Vec::new(),
            func_info: records(&self.func_info),
            line_info: records(&self.line_info),
            decisions: Vec::new(),
            missing: Vec::new(),
            externs: Vec::new(),
        })
    }

    /// The functions by their records; without these all is one.
    fn functions(&self, len: u32) -> Vec<PlacedFunction> {
        let name = |type_id: TypeId| {
            let ty = self.types.as_ref().and_then(|types| types.ty(type_id).ok());
            ty.map_or_else(|| self.name.clone(), |ty| ty.name().into_owned())
        };
        if self.func_info.is_empty() {
            return vec![PlacedFunction { name: self.name.clone(), start: 0, len }];
        }
        let ends = self.func_info.iter().skip(1).map(|info| info.insn_off).chain([len]);
        let placed = self.func_info.iter().zip(ends).map(|(info, end)| PlacedFunction {
            name: name(info.type_id),
            start: info.insn_off,
            len: end.saturating_sub(info.insn_off),
        });
        placed.collect()
    }

    /// Finds what an instruction refers to.
    fn resolve<'b>(
        &'b self,
        target: &KernelTarget,
        plan: &mut ProgramPlan,
        at: usize,
        reference: &'b Reference,
        maps: &mut Vec<&'b Map>,
        modules: &mut Vec<String>,
    ) -> Result<(), BuildError> {
        let insn = at as u32; // `plan` refuses nothing that long, and no kernel takes it
        let mut place = |value| plan.placeholders.push(Placeholder { insn, value });
        let (name, kind) = match reference {
            Reference::Map(map) => {
                place(PlaceholderValue::Map(MapIndex(maps.len())));
                maps.push(map);
                return Ok(());
            }
            Reference::MapValue(map) => {
                place(PlaceholderValue::MapValue(MapIndex(maps.len())));
                maps.push(map);
                return Ok(());
            }
            Reference::Function(name) => (name, Kind::FUNC),
            Reference::Variable(name) => (name, Kind::VAR),
        };
        let found = find(target, name, kind)?;
        if let Some(module) = found.module {
            place(match kind {
                Kind::FUNC => PlaceholderValue::ModuleCall(module.clone()),
                _ => PlaceholderValue::ModuleBtf(module.clone()),
            });
            if kind == Kind::FUNC && !modules.contains(&module) {
                modules.push(module);
            }
        }
        if let Some(insn) = plan.insns.get_mut(at) {
            insn.imm = found.type_id.0.cast_signed();
        }
        Ok(())
    }

    /// Finds what the program is bound to.
    fn bind(&self, target: &KernelTarget, plan: &mut ProgramPlan) -> Result<(), BuildError> {
        let what = || match self.attach_to.as_deref() {
            Some(to) => format!("`{to}`, which it attaches to"),
            None => "what it attaches to".to_owned(),
        };
        let failed = |error| match error {
            Unbound::Target(source) => BuildError::Target { what: what(), source },
            Unbound::Missing(reason) => BuildError::Missing { what: what(), reason },
        };
        let to = self.attach_to.as_deref();
        match self.prog_type {
            ProgType::TRACING | ProgType::EXT if self.attach_program.is_some() => {
                plan.attach_function = program_function(&self.name, to, target).map_err(failed)?;
            }
            ProgType::TRACING | ProgType::LSM if to.is_some() => {
                plan.attach_target = Some(kernel_type(self.attach_type, to, target).map_err(failed)?);
            }
            ProgType::STRUCT_OPS => {
                if let Some(name) = to {
                    plan.attach_target = Some(find(target, name, Kind::STRUCT)?);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A type of the kernel or, if it has none of that name, of a module.
fn find(target: &KernelTarget, name: &str, kind: Kind) -> Result<KernelType, BuildError> {
    let what = format!("{kind} `{name}`");
    let failed = |source| BuildError::Target { what: what.clone(), source };
    if let Some(type_id) = target.btf().map_err(failed)?.find(name.as_bytes(), kind) {
        return Ok(KernelType { name: name.to_owned(), type_id, module: None });
    }
    for module in target.modules().map_err(failed)? {
        if let Some(type_id) = module.btf.find_own(name.as_bytes(), kind) {
            return Ok(KernelType { name: name.to_owned(), type_id, module: Some(module.name.clone()) });
        }
    }
    let reason = "neither this kernel nor its loaded modules have one in their types".to_owned();
    Err(BuildError::Missing { what, reason })
}

fn records<R: ExtRecord>(all: &[R]) -> InfoRecords {
    let mut bytes = Vec::with_capacity(all.len().saturating_mul(R::SIZE as usize));
    all.iter().for_each(|record| record.write(&mut bytes));
    InfoRecords { record_size: if all.is_empty() { 0 } else { R::SIZE }, bytes }
}
