//! What helpers and kernel functions do for programs, on any kernel: bodies that the test binaries run on theirs.
//!
//! A body builds small programs that call helpers and note what they return, and says what a kernel answers.

mod ciphers;
mod conntrack;
mod cookies;
mod dynptrs;
mod events;
mod keys;
mod locks;
mod loops;
mod maps;
mod objects;
mod packets;
mod rings;
mod storage;
mod strings;
mod text;
mod timers;

use std::fmt::Display;
use std::time::{Duration, Instant};

use skep::asm::{Cond, Reg, Size};
use skep::btf::{Btf, BtfBuilder, FuncInfo, IntEncoding, Linkage};
use skep::map::Map;
use skep::program::{Program, ProgramBuilder};
use skep::sys::Kernel;
use skep::sys::abi::{MapFlags, MapType, ProgType, UpdateFlags};
use skep::sys::request::{MapCreate, TestRun};

use crate::support::skip;
use crate::support::time::PATIENCE;

/// A body: what it does on a kernel.
pub(crate) type Body = fn(&World<'_>);

/// A kernel, and how time passes on it.
pub(crate) struct World<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) wait: &'a dyn Fn(Duration),
}

impl World<'_> {
    /// Lets time pass until something is so.
    #[track_caller]
    fn eventually<W: Display>(&self, mut is_so: impl FnMut() -> bool, instead: impl Fn() -> W) {
        const STEP: Duration = Duration::from_millis(10);
        let start = Instant::now();
        // A simulated clock goes on by steps alone.
        let mut waited = Duration::ZERO;
        while !is_so() {
            assert!(waited < PATIENCE || start.elapsed() < PATIENCE, "{}", instead());
            (self.wait)(STEP);
            waited += STEP;
        }
    }
}

crate::support::bodies! { ($) helper_conformance;
    maps: maps::elements,
    arrays: maps::arrays,
    queues: maps::queues,
    bloom_filters: maps::bloom_filters,
    per_cpu: maps::per_cpu,
    inner_maps: maps::inner_maps,
    every_element: maps::every_element,
    tail_calls: loops::tail_calls,
    loops: loops::loops,
    numbers: loops::numbers,
    bits: loops::bits,
    locks: loops::locks,
    resilient_locks: locks::resilient,
    rings: rings::records,
    full_rings: rings::full,
    ring_queries: rings::queries,
    ring_dynptrs: rings::dynptrs,
    sent_samples: rings::sent,
    events: events::output,
    counters: events::counters,
    dynptrs: dynptrs::memory,
    dynptr_functions: dynptrs::functions,
    dynptrs_of_packets: dynptrs::packets,
    events_with_packets: events::packets,
    formats: text::formats,
    format_errors: text::errors,
    format_space: text::space,
    printing: text::printing,
    streams: text::streams,
    integers: strings::integers,
    comparisons: strings::comparisons,
    string_functions: strings::functions,
    clocks: timers::clocks,
    times_of_day: timers::times_of_day,
    storage_of_tasks: storage::of_tasks,
    storage_of_sockets: storage::of_sockets,
    timers: timers::timers,
    timer_ends: timers::ends,
    timer_errors: timers::errors,
    work_queues: timers::work_queues,
    kept_objects: objects::kept,
    graphs: objects::graphs,
    cpu_sets: objects::cpu_sets,
    nested_objects: objects::nested,
    cookies: cookies::cookies,
    connections: conntrack::connections,
    translated_connections: conntrack::translated_connections,
    connection_errors: conntrack::connection_errors,
    pulled_packets: packets::pulled,
    keys: keys::keys,
    ciphers: ciphers::ciphers,
}

fn map(world: &World<'_>, map_type: MapType, key: u32, value: u32, entries: u32) -> Map {
    Map::create(world.kernel, &MapCreate::new(map_type, key, value, entries)).unwrap()
}

/// Whether a kernel has all of these functions; says which one it lacks.
fn has_functions(world: &World<'_>, test: &str, names: &[&str]) -> bool {
    let btf = world.kernel.btf();
    let lacking = names.iter().find(|name| {
        !btf.as_ref().is_ok_and(|btf| btf.find(name.as_bytes(), skep::btf::Kind::FUNC).is_some())
    });
    if let Some(name) = lacking {
        skip(test, format!("this kernel has no {name}"));
    }
    lacking.is_none()
}

/// Whether a kernel has a helper, by its number, for programs of a kind.
fn has_helper(world: &World<'_>, test: &str, helper: i32, prog_type: ProgType) -> bool {
    let feature = skep::sys::Feature::Helper(prog_type, helper.cast_unsigned());
    let lacks = |feature| world.kernel.has(feature).is_unsupported();
    let has = !lacks(feature) && !lacks(skep::sys::Feature::ProgType(prog_type));
    if !has {
        skip(test, format!("this kernel has no helper {helper}"));
    }
    has
}

/// Whether errors of operations on maps have 32 bits.
fn is_narrow(world: &World<'_>) -> bool {
    let hash = map(world, MapType::HASH, 4, 8, 1);
    let mut script = Script::new(world);
    script.stack(-8, 1).call(3, &[Arg::Map(&hash), Arg::Stack(-8)]).note();
    script.exit(0).run() == [u64::from(-2i32 as u32)]
}

/// An argument of a call.
#[derive(Clone, Copy)]
enum Arg<'a> {
    Imm(i64),
    /// A place on the stack.
    Stack(i32),
    Map(&'a Map),
    /// A place in the map that the program and the test share.
    Data(u32),
    /// A place in the constant texts.
    Text(u32),
    Reg(Reg),
    Func(&'a str),
}

/// Room for what a program notes, in 64-bit numbers.
const NOTES: u32 = 128;
/// Where data starts in the shared map, and how large it is.
const DATA: u32 = NOTES * 8;
const SHARED: u32 = DATA + 4096;

/// A program under construction, and the map that it notes things in.
struct Script {
    builder: ProgramBuilder,
    kernel: Kernel,
    shared: Map,
    texts: Vec<u8>,
    constants: Option<Map>,
    functions: Vec<(String, usize)>,
    noted: u32,
}

impl Script {
    fn new(world: &World<'_>) -> Script {
        Script::of(world, ProgType::RAW_TRACEPOINT)
    }

    fn of(world: &World<'_>, prog_type: ProgType) -> Script {
        let mut builder = ProgramBuilder::new(prog_type, "GPL");
        builder.name("script");
        if prog_type == ProgType::SYSCALL {
            builder.flags(skep::sys::abi::ProgFlags::SLEEPABLE);
        }
        Script {
            builder,
            kernel: world.kernel.clone(),
            shared: map(world, MapType::ARRAY, 4, SHARED, 1),
            texts: Vec::new(),
            constants: None,
            functions: vec![("entry".to_owned(), 0)],
            noted: 0,
        }
    }

    /// Gives the program constant texts, each with a NUL behind it. Answers where they are.
    fn texts(&mut self, texts: &[&[u8]]) -> Vec<u32> {
        let mut places = Vec::new();
        for text in texts {
            places.push(self.texts.len() as u32);
            self.texts.extend_from_slice(text);
            self.texts.push(0);
        }
        let mut request = MapCreate::new(MapType::ARRAY, 4, self.texts.len() as u32, 1);
        request.flags = MapFlags::RDONLY_PROG;
        let constants = Map::create(&self.kernel, &request).unwrap();
        constants.update(&0u32.to_ne_bytes(), &self.texts, UpdateFlags::empty()).unwrap();
        constants.freeze().unwrap();
        self.constants = Some(constants);
        places
    }

    /// Puts bytes into the shared map.
    fn data(&mut self, at: u32, bytes: &[u8]) {
        let mut value = self.shared.lookup(&0u32.to_ne_bytes()).unwrap().unwrap();
        let start = (DATA + at) as usize;
        value[start..start + bytes.len()].copy_from_slice(bytes);
        self.shared.update(&0u32.to_ne_bytes(), &value, UpdateFlags::empty()).unwrap();
    }

    /// Stores a number of 64 bits on the stack.
    fn stack(&mut self, at: i16, value: u64) -> &mut Self {
        self.builder.asm().ld_imm64(Reg::R1, value).stx(Size::DW, Reg::R10, at, Reg::R1);
        self
    }

    fn load(&mut self, to: Reg, arg: Arg<'_>) {
        match arg {
            Arg::Imm(value) => match i32::try_from(value) {
                Ok(value) => _ = self.builder.asm().mov64_imm(to, value),
                Err(_) => _ = self.builder.asm().ld_imm64(to, value.cast_unsigned()),
            },
            Arg::Stack(at) => _ = self.builder.asm().mov64_reg(to, Reg::R10).add64_imm(to, at),
            Arg::Map(map) => _ = self.builder.load_map(to, map),
            Arg::Data(at) => _ = self.builder.load_map_value(to, &self.shared, DATA + at),
            Arg::Text(at) => {
                let constants = self.constants.as_ref().expect("the script has texts");
                self.builder.load_map_value(to, constants, at);
            }
            Arg::Reg(from) => _ = self.builder.asm().mov64_reg(to, from),
            Arg::Func(name) => _ = self.builder.asm().ld_func(to, name),
        }
    }

    fn arguments(&mut self, args: &[Arg<'_>]) {
        for (to, arg) in [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5].into_iter().zip(args) {
            self.load(to, *arg);
        }
    }

    /// Calls a helper.
    fn call(&mut self, helper: i32, args: &[Arg<'_>]) -> &mut Self {
        self.arguments(args);
        self.builder.asm().call_helper(helper);
        self
    }

    /// Calls a kernel function.
    fn kfunc(&mut self, name: &str, args: &[Arg<'_>]) -> &mut Self {
        self.arguments(args);
        self.builder.call_kfunc(name);
        self
    }

    /// Notes `r0`.
    fn note(&mut self) -> &mut Self {
        self.note_reg(Reg::R0)
    }

    /// Notes a register other than `r1`.
    fn note_reg(&mut self, reg: Reg) -> &mut Self {
        let at = self.noted * 8;
        self.noted += 1;
        assert!(self.noted <= NOTES);
        self.builder.load_map_value(Reg::R1, &self.shared, at);
        self.builder.asm().stx(Size::DW, Reg::R1, 0, reg);
        self
    }

    /// Notes whether `r0` is a pointer, which makes it one to the verifier only in the other case; then goes on at once.
    fn note_if_set(&mut self) -> &mut Self {
        self.builder.asm().mov64_imm(Reg::R9, 1);
        let label = format!("set{}", self.noted);
        self.builder.asm().jmp64_imm(Cond::Ne, Reg::R0, 0, &*label).mov64_imm(Reg::R9, 0).label(label);
        self.note_reg(Reg::R9)
    }

    /// Notes the number of 64 bits that `r0` points to, or -1 for null.
    fn note_target(&mut self) -> &mut Self {
        let (null, end) = (format!("null{}", self.noted), format!("end{}", self.noted));
        let asm = self.builder.asm();
        asm.jmp64_imm(Cond::Eq, Reg::R0, 0, &*null).ldx(Size::DW, Reg::R9, Reg::R0, 0).ja(&*end);
        asm.label(null).mov64_imm(Reg::R9, -1).label(end);
        self.note_reg(Reg::R9)
    }

    /// Notes a number of 64 bits on the stack.
    fn note_stack(&mut self, at: i16) -> &mut Self {
        self.builder.asm().ldx(Size::DW, Reg::R9, Reg::R10, at);
        self.note_reg(Reg::R9)
    }

    /// Ends the function that is written, with a number.
    fn exit(&mut self, value: i32) -> &mut Self {
        self.builder.asm().mov64_imm(Reg::R0, value).exit();
        self
    }

    /// Begins another function.
    fn function(&mut self, name: &str) -> &mut Self {
        let at = self.builder.asm().here();
        self.functions.push((name.to_owned(), at));
        self.builder.asm().label(name);
        self
    }

    /// Loads the program.
    fn program(&mut self) -> Program {
        if self.functions.len() > 1 {
            let (btf, functions) = types(&self.functions);
            self.builder.types(btf).func_info(functions);
        }
        self.builder.load(&self.kernel).unwrap_or_else(|error| {
            panic!("{error}: {}", error.verifier_log().unwrap_or("no log"));
        })
    }

    /// Loads and runs the program, and answers what it noted.
    fn run(&mut self) -> Vec<u64> {
        let program = self.program();
        program.test_run(&mut TestRun::default()).unwrap();
        self.notes()
    }

    /// As [`run`](Script::run), with results of operations on maps, of which older kernels answer the lower half.
    fn run_wide(&mut self, world: &World<'_>) -> Vec<u64> {
        let noted = self.run();
        if !is_narrow(world) {
            return noted;
        }
        let widen = |number: u64| match u32::try_from(number) {
            Ok(number) if number > 0xffff_f000 => i64::from(number.cast_signed()).cast_unsigned(),
            _ => number,
        };
        noted.into_iter().map(widen).collect()
    }

    /// As [`run`](Script::run), on a packet.
    fn run_on(&mut self, packet: &[u8]) -> Vec<u64> {
        let mut run = TestRun::default();
        run.data_in = packet;
        self.program().test_run(&mut run).unwrap();
        self.notes()
    }

    fn notes(&self) -> Vec<u64> {
        let mut value = self.value();
        value.truncate(self.noted as usize * 8);
        value.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    fn value(&self) -> Vec<u8> {
        self.shared.lookup(&0u32.to_ne_bytes()).unwrap().unwrap()
    }

    /// Bytes of the data that the program shares with the test.
    fn shared(&self, at: u32, len: usize) -> Vec<u8> {
        let start = (DATA + at) as usize;
        self.value()[start..start + len].to_vec()
    }
}

/// Types of functions that take whatever they are given.
fn types(functions: &[(String, usize)]) -> (Btf, Vec<FuncInfo>) {
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = btf.add_func_proto(int).unwrap();
    let infos = functions.iter().map(|(name, at)| {
        let type_id = btf.add_func(name, Linkage::STATIC, proto).unwrap();
        FuncInfo { insn_off: u32::try_from(*at).unwrap(), type_id }
    });
    let infos = infos.collect();
    (btf.finish().unwrap(), infos)
}

/// An errno as helpers return it.
const fn errno(errno: skep::sys::abi::Errno) -> u64 {
    -(errno.0 as i64) as u64
}

/// The number that eight bytes are.
fn number(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().unwrap())
}
