//! What programs see that read packets, devices and maps by the kernel's own types, on any kernel.

use std::io::Read;
use std::os::fd::AsFd;

use skep::asm::{Endian, Insn};
use skep::btf::Kind;
use skep::map::{Map, PerCpuArray};
use skep::program::Program;
use skep::sys::abi::{AttachType, MapType, ProgFlags, ProgType, UpdateFlags};
use skep::sys::request::{LinkCreate, LinkTarget, MapCreate, ProgLoad, TestRun};
use skep::{Kernel, Loader, Object, Spec};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What a program of `kernel_ctx.c` saw.
pub(crate) type Seen = [u64; 40];

/// A packet of TCP in IPv4.
fn packet() -> Vec<u8> {
    let mut packet = vec![0; 64];
    packet[12..14].copy_from_slice(&[0x08, 0x00]);
    packet[14..18].copy_from_slice(&[0x45, 0x00, 0x00, 0x32]);
    packet[23] = 6;
    packet[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    packet
}

fn load(kernel: &Kernel, program: &str) -> Result<Object> {
    let mut spec = Spec::parse("kernel_ctx", include_bytes!("../../testdata/run/kernel_ctx.o"))?;
    spec.programs.retain(|spec| spec.name == program);
    Ok(Loader::new(kernel).load(&spec)?)
}

fn run(object: &Object, program: &str, data: &[u8], context: &[u8]) -> Result<Seen> {
    let mut run = TestRun::default();
    run.data_in = data;
    run.ctx_in = context;
    object.program(program)?.test_run(&mut run)?;
    Ok(object.global("seen")?)
}

/// Runs all programs. Answers what is wrong, and which programs the kernel does not load.
pub(crate) fn check(kernel: &Kernel) -> Result<(Vec<String>, Vec<String>)> {
    let mut differs = Vec::new();
    let mut lacking = Vec::new();
    let packet = packet();
    let mut skb = [0; 192];
    skb[8..12].copy_from_slice(&7_u32.to_ne_bytes()); // mark
    skb[32..36].copy_from_slice(&3_u32.to_ne_bytes()); // priority
    skb[164..168].copy_from_slice(&4_u32.to_ne_bytes()); // gso_segs
    skb[176..180].copy_from_slice(&1000_u32.to_ne_bytes()); // gso_size
    let mut xdp = [0; 24];
    xdp[0..4].copy_from_slice(&8_u32.to_ne_bytes()); // data
    xdp[4..8].copy_from_slice(&64_u32.to_ne_bytes()); // data_end
    let tcp = 0x4500_0032;
    // Index, ARPHRD_LOOPBACK, the begin of its name, length of its addresses, MTU.
    let loopback = [1, 772, 0x6c6f, 6, 65536];
    let protocol = u64::from(0x0800_u16.to_be());
    let with = |start: &[u64], at: usize, more: &[u64]| {
        let mut seen = [0; 40];
        seen[..start.len()].copy_from_slice(start);
        seen[at..at + more.len()].copy_from_slice(more);
        seen
    };
    let tc = with(
        &[64, 0, 7, 3, 0, protocol, 0, 0, 14, 0, 64, 1, tcp, 0, 0, 1, 772, 0x6c6f, 6, 65536],
        20,
        &[1000, 4, 1, 2, 77, 5],
    );
    let xdp_seen = with(&[56, 8, 256, 0], 4, &loopback);
    let mut state = [0; 48];
    state[..2].copy_from_slice(&[1, 2]); // into this machine, of IPv4; a kernel says the device as of what leaves
    let hook = with(
        &[50, 0, 0, 0, 0, protocol, 0, 0, 14, 14, 64, 1, tcp, tcp, 0, 1, 772, 0x6c6f, 6, 65536],
        20,
        &[1, 2, 0, 1, 1, 772, 0x6c6f, 6, 65536, 0x4532],
    );
    let maps = with(&[2, 5, 8, 7, 1, 4, 16, 64], 8, &[]);
    let cases: [(&str, &[u8], &[u8], Seen); 4] = [
        ("tc_context", &packet, &skb, tc),
        ("xdp_context", &packet, &xdp, xdp_seen),
        ("hook", &packet, &state, hook),
        ("maps", &packet, &[], maps),
    ];
    for (program, data, context, expected) in cases {
        let object = match load(kernel, program) {
            Ok(object) => object,
            Err(error) => {
                lacking.push(format!("{program}: {error:?}"));
                continue;
            }
        };
        let seen = run(&object, program, data, context)?;
        if seen != expected {
            differs.push(format!("{program}:\n {seen:x?}\nand not\n {expected:x?}\n"));
        }
    }
    Ok((differs, lacking))
}

fn of_iter(kernel: &Kernel, program: &str) -> Result<Object> {
    let mut spec = Spec::parse("kernel_iter", include_bytes!("../../testdata/run/kernel_iter.o"))?;
    spec.programs.retain(|spec| spec.name == program);
    // A kernel without functions that another program calls runs this one all the same.
    spec.externs.iter_mut().for_each(|found| found.weak = true);
    Ok(Loader::new(kernel).load(&spec)?)
}

/// What the program of an iterator writes, which goes through `target`.
pub(crate) fn iterate(kernel: &Kernel, program: &str, target: LinkTarget<'_>) -> Result<String> {
    let object = of_iter(kernel, program)?;
    let program = object.program(program)?;
    let link = kernel.link_create(&LinkCreate::new(program.as_fd(), target, AttachType::TRACE_ITER))?;
    let mut text = String::new();
    link.iterate()?.read_to_string(&mut text)?;
    Ok(text)
}

/// Open-coded iterators: over the tasks of which `pid` is one, control groups from the root on, and mappings of `pid`.
pub(crate) fn walk(kernel: &Kernel, pid: i32) -> Result<Vec<String>> {
    let mut lacking = Vec::new();
    for name in ["all_tasks", "below_group", "regions"] {
        let object = match of_iter(kernel, name) {
            Ok(object) => object,
            Err(error) => {
                lacking.push(format!("{name}: {error:?}"));
                continue;
            }
        };
        object.set_global("pid", &pid)?;
        object.set_global("group", &1_u64)?;
        let answer = object.program(name)?.test_run(&mut TestRun::default())?.retval;
        assert_eq!(answer, 0, "{name}");
        let seen: [u64; 16] = object.global("seen")?;
        let einval = -22_i64 as u64;
        match name {
            "all_tasks" => {
                assert_eq!((seen[0], seen[2], seen[3], seen[4]), (0, 1, 0, 1), "{seen:x?}");
                assert!(seen[1] >= 2 && seen[5] == 0 && seen[6] >= 1, "{seen:x?}");
                // Threads of no process.
                assert_eq!((seen[7], seen[8]), (einval, 0), "{seen:x?}");
            }
            "below_group" => {
                assert!(seen[0] == 0 && seen[1] >= 1, "{seen:x?}");
                // The root is the only one without a parent.
                assert_eq!((seen[2], seen[3]), (1, 1), "{seen:x?}");
                assert_eq!((seen[4], seen[5]), (einval, 0), "{seen:x?}");
            }
            _ => {
                assert!(seen[0] == 0 && seen[1] >= 1 && seen[2] != 0, "{seen:x?}");
                assert_eq!(seen[3], seen[1], "{seen:x?}");
            }
        }
    }
    Ok(lacking)
}

/// Types whose objects are written as text.
const SHOWN: &[&str] = &[
    "in6_addr",
    "list_head",
    "kuid_t",
    "qstr",
    "path",
    "xdp_md",
    "sock_common",
    "sk_buff",
    "file",
    "dentry",
    "bpf_map",
    "bpf_nf_ctx",
    "nf_hook_state",
    "xdp_rxq_info",
    "xdp_buff",
    "bpf_iter_meta",
    "unsigned int",
    "unsigned char",
    "long long unsigned int",
    "bool",
];

/// What a kernel makes of objects: for each type, flags and room, what `bpf_snprintf_btf` answered and wrote. Without
/// `BTF_F_PTR_RAW` pointers are replaced by what tells nobody where something is, which differs from kernel to kernel.
pub(crate) fn shown(kernel: &Kernel) -> Result<Vec<String>> {
    let object = of_iter(kernel, "show")?;
    let program = object.program("show")?;
    let mut texts = Vec::new();
    let mut seed = 1_u32;
    for name in SHOWN {
        let kinds = [Kind::STRUCT, Kind::TYPEDEF, Kind::INT];
        let Some(id) = kinds.iter().find_map(|kind| kernel.btf().ok()?.find(name.as_bytes(), *kind)) else {
            continue;
        };
        object.set_global("type_id", &id.0)?;
        for round in 0..6 {
            let mut bytes = [0_u8; 512];
            // All zero, few that are not, many, and texts.
            for (at, byte) in bytes.iter_mut().enumerate() {
                seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12345);
                let random = (seed >> 16) as u8;
                *byte = match round {
                    0 => 0,
                    1 if at % 16 == 0 => 1,
                    2 if random < 20 => random,
                    3 => b"abc\0"[at % 4],
                    4 | 5 => random,
                    _ => 0,
                };
            }
            object.set_global("object", &bytes)?;
            for flags in 0..16_u64 {
                for room in [2048_u32, 64, 1] {
                    object.set_global("flags", &flags)?;
                    object.set_global("room", &room)?;
                    object.set_global("shown", &[0x11_u8; 2048])?;
                    program.test_run(&mut TestRun::default())?;
                    let answer: i64 = object.global("answer")?;
                    let bytes: [u8; 2048] = object.global("shown")?;
                    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                    let text = String::from_utf8_lossy(&bytes[..end]);
                    let text = if flags & 4 == 0 { without_pointers(&text) } else { text.into_owned() };
                    texts.push(format!("{name} round {round} flags {flags} room {room}: {answer}\n{text}\n"));
                }
            }
        }
    }
    Ok(texts)
}

/// The text with `P` for each hexadecimal digit of what is as long as an address.
fn without_pointers(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("0x") {
        let digits = after.bytes().take_while(u8::is_ascii_hexdigit).count();
        out.push_str(before);
        out.push_str("0x");
        out.push_str(if digits == 16 || digits == after.len() { "P" } else { &after[..digits] });
        rest = &after[digits..];
    }
    out + rest
}

/// The loader of a light skeleton: a program that loads others. `take` gives the descriptor of a number that the program made.
pub(crate) fn light_skeleton(
    kernel: &Kernel,
    take_map: &dyn Fn(i32) -> Result<Map>,
    take_program: &dyn Fn(i32) -> Result<Program>,
) -> Result<()> {
    let data = include_bytes!("../../testdata/lskel/xdp_count.data");
    let code = include_bytes!("../../testdata/lskel/xdp_count.insns");
    let create = MapCreate::new(MapType::ARRAY, 4, u32::try_from(data.len())?, 1);
    let loader_map = kernel.map_create(&create)?;
    loader_map.update(&0_u32.to_ne_bytes(), data, UpdateFlags::empty())?;
    let (slots, _) = code.as_chunks::<8>();
    let insns: Vec<Insn> = slots.iter().map(|slot| Insn::from_bytes(Endian::NATIVE, *slot)).collect();
    let table = [Some(loader_map.as_fd())];
    let mut load = ProgLoad::new(ProgType::SYSCALL, &insns, "Dual BSD/GPL");
    (load.name, load.fd_array, load.flags) = ("__loader.prog", &table, ProgFlags::SLEEPABLE);
    let loader = kernel.prog_load(&load, None)?;
    // `struct bpf_loader_ctx`, two maps, one program.
    let mut context = [0; 60];
    context[0] = 60;
    let mut run = TestRun::default();
    run.ctx = &mut context;
    let answer = loader.test_run(&mut run).map_err(|(errno, _)| errno)?.retval.cast_signed();
    assert_eq!(answer, 0, "the loader says errno {}", -answer);
    let number = |at: usize| i32::from_ne_bytes(context[at..at + 4].try_into().expect("4 bytes"));
    let (packets, flows) = (take_map(number(24))?, take_map(number(40))?);
    assert_eq!((packets.name(), flows.name()), ("packets", "flows"));
    let program = take_program(number(56))?;
    let mut run = TestRun::default();
    let packet = packet();
    run.data_in = &packet;
    assert_eq!(program.test_run(&mut run)?.retval, 2);
    let per_cpu: PerCpuArray<u64> = packets.typed()?;
    let counted: u64 = per_cpu.get(6)?.ok_or("slot 6")?.iter().sum();
    assert_eq!(counted, 1);
    Ok(())
}
