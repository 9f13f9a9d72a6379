//! Programs: whatever is loaded and run, the simulated kernel goes on.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use skep::asm::{Endian, Insn, decode, pseudo};
use skep::btf::{BtfBuilder, IntEncoding, Linkage};
use skep::sim::SimKernel;
use skep::sys::abi::{AttachType, MapFlags, MapType, ProgFlags, ProgType, UpdateFlags};
use skep::sys::request::{MapCreate, ProgLoad, Records, TestRun};
use skep::sys::{Kernel, MapFd};

/// Instructions that a run may execute.
const BUDGET: u64 = 20_000;
/// Slots of a program, and bytes of its input, that are taken from the data.
const INSNS_MAX: usize = 512;
/// What loading and running may take, on a machine that is busy with much else.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Kinds of programs that can be run, with what they insist on.
const KINDS: [(ProgType, u32); 9] = [
    (ProgType::RAW_TRACEPOINT, 0),
    (ProgType::SYSCALL, 0),
    (ProgType::XDP, 0),
    (ProgType::SCHED_CLS, 0),
    (ProgType::SOCKET_FILTER, 0),
    (ProgType::CGROUP_SKB, 0),
    (ProgType::FLOW_DISSECTOR, 0),
    (ProgType::SK_LOOKUP, 36),
    (ProgType::NETFILTER, 45),
];

/// The data: a byte for the kind of program, one for the length of its input, its input, and its instructions. A load of
/// a map has the map's place in the set instead of a descriptor.
///
/// Neither loading nor running panics, both end, and nothing is left.
pub fn interp(data: &[u8]) {
    let [kind, len, rest @ ..] = data else { return };
    let (input, code) = rest.split_at(usize::from(*len).min(rest.len()));
    let code = &code[..code.len().min(INSNS_MAX * Insn::SIZE)];
    let whole = &code[..code.len() - code.len() % Insn::SIZE];
    let mut insns = decode(whole, Endian::Little).expect("whole slots");
    let sim = SimKernel::builder().budget(BUDGET).cpus(2).build().expect("a kernel");
    let kernel = Kernel::new(sim.clone());
    let start = Instant::now();
    let maps = maps(&kernel);
    for insn in &mut insns {
        if insn.is_ld_imm64() && matches!(insn.src_raw(), pseudo::MAP_FD | pseudo::MAP_VALUE) {
            let place = insn.imm.unsigned_abs() as usize % maps.len();
            insn.imm = maps[place].as_fd().as_raw_fd();
        }
    }
    run(&kernel, KINDS[usize::from(*kind) % KINDS.len()], &insns, input, &maps);
    drop(maps);
    drop(kernel);
    assert!(start.elapsed() < TIME_MAX, "it took {:?}", start.elapsed());
    assert_eq!(sim.live(), Default::default(), "something is left");
}

fn maps(kernel: &Kernel) -> Vec<MapFd> {
    let plain = MapFlags::empty();
    let kinds = [
        (MapType::ARRAY, 4, 48, 1, plain),
        (MapType::HASH, 4, 16, 3, plain),
        (MapType::PROG_ARRAY, 4, 4, 2, plain),
        (MapType::PERCPU_ARRAY, 4, 8, 2, plain),
        (MapType::LRU_HASH, 8, 8, 2, plain),
        (MapType::QUEUE, 0, 8, 2, plain),
        (MapType::LPM_TRIE, 8, 4, 3, MapFlags::NO_PREALLOC),
        (MapType::RINGBUF, 0, 0, 4096, plain),
        (MapType::STACK_TRACE, 4, 64, 2, plain),
        (MapType::PERF_EVENT_ARRAY, 4, 4, 2, plain),
        (MapType::DEVMAP, 4, 4, 2, plain),
        (MapType::BLOOM_FILTER, 0, 8, 4, plain),
        (MapType::ARENA, 0, 0, 2, MapFlags::MMAPABLE),
    ];
    let create = |(kind, key, value, entries, flags)| {
        let mut request = MapCreate::new(kind, key, value, entries);
        request.flags = flags;
        kernel.map_create(&request)
    };
    let maps = kinds.into_iter().map(create).collect::<Result<Vec<_>, _>>();
    let maps = maps.expect("kinds that the kernel has");
    maps[1].update(&[0; 4], &[7; 16], UpdateFlags::empty()).expect("room for one");
    maps
}

/// Types of functions at these slots, all static.
fn types(kernel: &Kernel, starts: &[u32]) -> Option<(skep::sys::BtfFd, Vec<u8>)> {
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED).ok()?;
    let proto = builder.add_func_proto(int).ok()?;
    let mut records = Vec::new();
    for start in starts {
        let function = builder.add_func(format!("f{start}"), Linkage::STATIC, proto).ok()?;
        records.extend([start.to_ne_bytes(), function.0.to_ne_bytes()].concat());
    }
    Some((kernel.btf_load(&builder.encode(Endian::NATIVE, false), None).ok()?, records))
}

fn run(
    kernel: &Kernel,
    (prog_type, attach_type): (ProgType, u32),
    insns: &[Insn],
    input: &[u8],
    maps: &[MapFd],
) {
    let targets = (0..).zip(insns).filter_map(|(slot, insn)| insn.func_target(slot));
    let mut starts: Vec<u32> = targets.filter_map(|target| u32::try_from(target).ok()).chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    let types = types(kernel, &starts);
    let mut request = ProgLoad::new(prog_type, insns, "GPL");
    request.expected_attach_type = AttachType(attach_type);
    if prog_type == ProgType::SYSCALL {
        request.flags = ProgFlags::SLEEPABLE;
    }
    if let Some((btf, records)) = &types {
        request.btf = Some(btf.as_fd());
        request.func_info = Records { record_size: 8, bytes: records };
    }
    let Ok(program) = kernel.prog_load(&request, None) else { return };
    // A tail call leads to the program itself.
    let _ = maps[2].update_program(&[0; 4], &program, UpdateFlags::empty());
    let mut out = [0; 256];
    let mut run = TestRun::default();
    match prog_type {
        ProgType::RAW_TRACEPOINT | ProgType::SYSCALL | ProgType::SK_LOOKUP => run.ctx_in = input,
        _ => {
            run.data_in = input;
            run.data_out = &mut out;
            run.repeat = 2;
        }
    }
    let _ = program.test_run(&mut run);
    let _ = maps[2].delete(&[0; 4]);
}
