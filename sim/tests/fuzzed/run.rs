//! Runs programs on a kernel.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use skep_asm::Endian;
use skep_btf::{BtfBuilder, IntEncoding, Linkage};
use skep_sys::abi::{Errno, MapType, ProgType, TestRunFlags, UpdateFlags};
use skep_sys::request::{LogBuffer, MapCreate, ProgLoad, Records, TestRun};
use skep_sys::{BtfFd, Kernel, LoadedProgram, MapFd};

use super::Random;
use super::code::{MAPS, Program};
use super::make::{ARRAY_SIZE, DATA_SIZE, HASH_SIZE, OUT_SIZE};

const ARRAY_ENTRIES: u32 = 4;
const HASH_ENTRIES: u32 = 5;
const RUNS: usize = 3;
const PROGRAMS: usize = 4;

/// What came of running programs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What each run returned, or the errno.
    pub(crate) returned: Vec<Result<u32, Errno>>,
    /// Registers that the programs wrote, and what is in the maps, sorted by key.
    pub(crate) out: Vec<u64>,
    pub(crate) data: Vec<u8>,
    pub(crate) array: Vec<Vec<u8>>,
    pub(crate) hash: Vec<(u32, Vec<u8>)>,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "returned {:?}", self.returned)?;
        for (number, registers) in self.out.chunks(OUT_SIZE / 8).enumerate() {
            writeln!(f, "program {number}: {registers:x?}")?;
        }
        writeln!(f, "data {:x?}\narray {:x?}\nhash {:x?}", self.data, self.array, self.hash)
    }
}

/// Programs that a kernel does not load, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) errno: Errno,
    pub(crate) log: String,
}

struct Maps {
    out: MapFd,
    data: MapFd,
    array: MapFd,
    hash: MapFd,
    programs: MapFd,
}

fn key(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}

impl Maps {
    fn new(kernel: &Kernel, random: &mut Random) -> Maps {
        let create = |kind, value: usize, entries| {
            kernel.map_create(&MapCreate::new(kind, 4, value as u32, entries)).unwrap()
        };
        let maps = Maps {
            out: create(MapType::ARRAY, OUT_SIZE * PROGRAMS, 1),
            data: create(MapType::ARRAY, DATA_SIZE, 1),
            array: create(MapType::ARRAY, ARRAY_SIZE, ARRAY_ENTRIES),
            hash: create(MapType::HASH, HASH_SIZE, HASH_ENTRIES),
            programs: create(MapType::PROG_ARRAY, 4, PROGRAMS as u32),
        };
        let mut bytes = |len: usize| -> Vec<u8> { (0..len).map(|_| random.edge() as u8).collect() };
        let fill = |map: &MapFd, number, value: &[u8]| {
            map.update(&key(number), value, UpdateFlags::empty()).unwrap();
        };
        fill(&maps.data, 0, &bytes(DATA_SIZE));
        for number in 0..ARRAY_ENTRIES {
            fill(&maps.array, number, &bytes(ARRAY_SIZE));
        }
        for number in 0..3 {
            fill(&maps.hash, number, &bytes(HASH_SIZE));
        }
        maps
    }

    fn fds(&self) -> [i32; MAPS] {
        [&self.out, &self.data, &self.array, &self.hash, &self.programs].map(|map| map.as_fd().as_raw_fd())
    }
}

/// Types for so many functions: the first is global, others are static.
fn types(kernel: &Kernel, functions: usize) -> (BtfFd, Vec<u32>) {
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = builder.add_func_proto(int).unwrap();
    let ids = (0..functions).map(|number| {
        let linkage = if number == 0 { Linkage::GLOBAL } else { Linkage::STATIC };
        builder.add_func(format!("f{number}"), linkage, proto).unwrap().0
    });
    let ids = ids.collect();
    (kernel.btf_load(&builder.encode(Endian::NATIVE, false), None).unwrap(), ids)
}

fn load(kernel: &Kernel, program: &Program, maps: &[i32; MAPS]) -> Result<LoadedProgram, Refused> {
    let emitted = program.emit(maps);
    let (btf, ids) = types(kernel, emitted.starts.len());
    let words = emitted.starts.iter().zip(&ids).flat_map(|(start, id)| [*start as u32, *id]);
    let records: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
    let mut request = ProgLoad::new(ProgType::RAW_TRACEPOINT, &emitted.insns, "GPL");
    request.btf = Some(btf.as_fd());
    request.func_info = Records { record_size: 8, bytes: &records };
    kernel.prog_load(&request, None).map_err(|errno| {
        let mut log = LogBuffer::new(1, 1 << 22);
        let _ = kernel.prog_load(&request, Some(&mut log));
        Refused { errno, log: log.text().into_owned() }
    })
}

/// Loads the programs, runs the first a few times, and says what came of it. The same seed gives the same input.
pub(crate) fn run(kernel: &Kernel, programs: &[Program], seed: u64) -> Result<Outcome, Refused> {
    let mut random = Random::new(seed ^ 0x1234_5678);
    let maps = Maps::new(kernel, &mut random);
    let fds = maps.fds();
    let loaded = programs.iter().map(|program| load(kernel, program, &fds)).collect::<Result<Vec<_>, _>>()?;
    if loaded.len() > 1 {
        for (number, program) in (0..).zip(&loaded) {
            maps.programs.update_program(&key(number), program, UpdateFlags::empty()).unwrap();
        }
    }
    let mut returned = Vec::new();
    for _ in 0..RUNS {
        let ctx: Vec<u8> = (0..12).flat_map(|_| random.edge().to_ne_bytes()).collect();
        let mut run = TestRun::default();
        run.ctx_in = &ctx;
        run.flags = TestRunFlags::empty();
        let result = loaded[0].test_run(&mut run);
        returned.push(result.map(|result| result.retval).map_err(|(errno, _)| errno));
    }
    // A program array that holds a program which refers to it holds itself.
    for number in 0..loaded.len() as u32 {
        let _ = maps.programs.delete(&key(number));
    }
    let read = |map: &MapFd, number: u32| {
        let mut value = vec![0; map.value_len()];
        map.lookup(&key(number), &mut value, UpdateFlags::empty()).ok().map(|()| value)
    };
    let out = read(&maps.out, 0).unwrap();
    Ok(Outcome {
        returned,
        out: out.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect(),
        data: read(&maps.data, 0).unwrap(),
        array: (0..ARRAY_ENTRIES).filter_map(|number| read(&maps.array, number)).collect(),
        hash: (0..8).filter_map(|number| Some((number, read(&maps.hash, number)?))).collect(),
    })
}
