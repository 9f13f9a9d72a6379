//! Looking at programs of the simulated kernel: coverage by C source line, each instruction, a debugger.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use skep::asm::Reg;
use skep::program::{ProgramBuilder, RunInput};
use skep::sim::{Debugger, FaultKind, SimKernel, Stop};
use skep::sys::abi::{Errno, ProgType};
use skep::{Kernel, Loader, Object, Spec};

const COUNTER: &[u8] = include_bytes!("../examples/packet_counter.bpf.o");
const SOURCE: &str = "packet_counter.bpf.c";

fn load(sim: &SimKernel) -> Object {
    let spec = Spec::parse("packet_counter", COUNTER).unwrap();
    Loader::new(&Kernel::new(sim.clone())).load(&spec).unwrap()
}

/// A UDP packet in IPv4.
fn udp() -> [u8; 64] {
    let mut packet = [0; 64];
    (packet[12], packet[13]) = (0x08, 0x00);
    packet[14 + 9] = 17;
    packet
}

/// The number of the line with this text.
fn line(text: &str) -> u32 {
    let source = include_str!("../examples/packet_counter.bpf.c");
    let at = source.lines().position(|line| line.trim() == text).unwrap_or_else(|| panic!("{text}"));
    u32::try_from(at).unwrap() + 1
}

#[test]
fn lines_and_branches_are_counted() {
    let sim = SimKernel::builder().coverage().build().unwrap();
    let object = load(&sim);
    let program = object.program("count_packets").unwrap();
    assert_eq!(sim.coverage().program("count_packets").unwrap().executed, 0);
    for _ in 0..3 {
        program.run(&RunInput::packet(&udp())).unwrap();
    }
    let coverage = sim.coverage();
    let counted = coverage.program("count_packets").unwrap();
    let count = |text| counted.line(SOURCE, line(text));
    assert_eq!(count("__sync_fetch_and_add(&packets_seen, 1);"), Some(3));
    assert_eq!(count("__sync_fetch_and_add(&packets_skipped, 1);"), Some(0));
    assert_eq!(count("count->packets += 1;"), Some(3));
    assert_eq!(count("struct count {"), None);
    let taken = |text| {
        let wanted = line(text);
        let found = counted.lines.iter().find(|known| known.source.line == wanted).unwrap();
        found.branches.iter().map(|branch| (branch.taken, branch.passed)).collect::<Vec<_>>()
    };
    let long_enough = taken("if (data + ETHERNET_HEADER + 10 > end)");
    assert_eq!(long_enough, [(0, 3)]);
    assert!(counted.missed().any(|missed| missed.text.contains("packets_skipped")));

    let text = coverage.to_string();
    assert!(text.starts_with("count_packets: "), "{text}");
    let missed = text.lines().find(|line| line.contains("packets_skipped")).unwrap();
    assert!(missed.trim_start().starts_with("#####"), "{missed}");
    let lcov = coverage.lcov();
    let file = lcov.lines().find(|line| line.starts_with("SF:")).unwrap();
    assert!(file.ends_with(SOURCE), "{file}");
    assert!(lcov.contains(&format!("DA:{},3\n", line("count->packets += 1;"))), "{lcov}");
    assert!(lcov.contains("FNDA:3,count_packets\n"), "{lcov}");
    assert!(
        lcov.contains(&format!("BRDA:{},0,0,0\n", line("if (data + ETHERNET_HEADER + 10 > end)"))),
        "{lcov}"
    );
    assert!(lcov.ends_with("end_of_record\n"));

    // What other tests saw is added.
    let other = SimKernel::builder().coverage().build().unwrap();
    load(&other).program("count_packets").unwrap().run(&RunInput::packet(&[0; 16])).unwrap();
    let mut both = coverage.clone();
    both.merge(&other.coverage());
    let both = both.program("count_packets").unwrap();
    assert_eq!(both.line(SOURCE, line("__sync_fetch_and_add(&packets_seen, 1);")), Some(4));
    assert_eq!(both.line(SOURCE, line("count->packets += 1;")), Some(4));
}

#[test]
fn every_instruction_is_told() {
    let sim = SimKernel::new();
    let mut builder = ProgramBuilder::new(ProgType::RAW_TRACEPOINT, "GPL");
    builder.asm().mov64_imm(Reg::R6, 7).mov64_reg(Reg::R0, Reg::R6).add64_imm(Reg::R0, 0).exit();
    let program = builder.load(&Kernel::new(sim.clone())).unwrap();
    let text = Arc::new(Mutex::new(String::new()));
    let to = text.clone();
    sim.watch_instructions(move |step| to.lock().unwrap().push_str(&format!("{step}\n")));
    program.run(&RunInput::new()).unwrap();
    sim.unwatch_instructions();
    program.run(&RunInput::new()).unwrap();
    let expected =
        "   0: (b7) r6 = 7  ; r6=0x7\n   1: (bf) r0 = r6  ; r0=0x7\n   2: (07) r0 += 0\n   3: (95) exit\n";
    assert_eq!(*text.lock().unwrap(), expected);

    // With the lines of its source.
    let object = load(&sim);
    text.lock().unwrap().clear();
    let to = text.clone();
    sim.watch_instructions(move |step| to.lock().unwrap().push_str(&format!("{step}\n")));
    object.program("count_packets").unwrap().run(&RunInput::packet(&udp())).unwrap();
    let text = text.lock().unwrap();
    assert!(text.contains(": __sync_fetch_and_add(&packets_seen, 1);\n"), "{text}");
}

#[test]
fn a_script_goes_from_stop_to_stop() {
    let sim = SimKernel::new();
    let object = load(&sim);
    let program = object.program("count_packets").unwrap();
    let mut debugger = Debugger::new(&sim);
    let counts = debugger.break_at(SOURCE, line("count->packets += 1;"));
    let begins = debugger.break_at_function("count_packets");
    let (packet, short) = (udp(), [0; 16]);
    let (output, ()) = debugger.run(
        || [&packet[..], &short].map(|packet| program.run(&RunInput::packet(packet)).unwrap().retval),
        |session| {
            assert_eq!(session.register(Reg::R0), None, "nothing runs yet");
            assert_eq!(session.resume(), Stop::Breakpoint(begins));
            assert_eq!(session.global("packets_seen").as_deref(), Some("0"));
            let frames = session.frames().unwrap();
            assert_eq!((frames.len(), frames[0].function.as_str()), (1, "count_packets"));
            assert_eq!(frames[0].arguments[0].0, "ctx");
            assert_eq!(session.packet().unwrap(), udp());

            assert_eq!(session.resume(), Stop::Breakpoint(counts));
            assert_eq!(session.source().unwrap().line, line("count->packets += 1;"));
            assert_eq!(session.global("packets_seen").as_deref(), Some("1"));
            let value = |session: &skep::sim::Session| session.map("per_protocol").unwrap()[17].clone();
            assert_eq!(value(session), ("17".to_owned(), "{.packets = 0, .bytes = 0}".to_owned()));
            assert_eq!(session.step_over(), Stop::Step);
            assert_eq!(session.source().unwrap().line, line("count->bytes += end - data;"));
            assert_eq!(session.step(), Stop::Step);
            assert_eq!(value(session).1, "{.packets = 1, .bytes = 64}");
            let dump = session.dump().unwrap();
            assert!(
                dump.starts_with("program `count_packets` at ") && dump.contains("\nregisters: r0="),
                "{dump}"
            );
            assert!(dump.contains("#0 count_packets(ctx="), "{dump}");

            // The other packet.
            assert_eq!(session.resume(), Stop::Breakpoint(begins));
            assert_eq!(session.packet().unwrap().len(), 16);
            assert_eq!(session.resume(), Stop::Breakpoint(counts));
            assert_eq!(session.resume(), Stop::Done);
            assert_eq!((session.resume(), session.source()), (Stop::Done, None));
        },
    );
    assert_eq!(output, [2, 2]);
}

#[test]
fn conditions_steps_and_calls() {
    let sim = SimKernel::new();
    let mut builder = ProgramBuilder::new(ProgType::RAW_TRACEPOINT, "GPL");
    builder.name("loop");
    let asm = builder.asm();
    asm.mov64_imm(Reg::R6, 0).label("again").mov64_reg(Reg::R1, Reg::R6).call("double");
    asm.add64_imm(Reg::R6, 1).jmp64_imm(skep::asm::Cond::Lt, Reg::R6, 5, "again").exit();
    asm.label("double").mov64_reg(Reg::R0, Reg::R1).add64_reg(Reg::R0, Reg::R1).exit();
    let program = builder.load(&Kernel::new(sim.clone())).unwrap();
    let run = || program.run(&RunInput::new()).unwrap().retval;

    let mut debugger = Debugger::new(&sim);
    let inside = debugger.break_at_instruction("loop", 7);
    debugger.condition(inside, |registers| registers[1] == 3);
    let (result, ()) = debugger.run(run, |session| {
        assert_eq!(session.resume(), Stop::Breakpoint(inside));
        assert_eq!((session.register(Reg::R1), session.register(Reg::R0)), (Some(3), Some(3)));
        assert_eq!(session.frames().unwrap().iter().map(|frame| frame.index).collect::<Vec<_>>(), [7, 2]);
        assert_eq!(session.step_instruction(), Stop::Step);
        assert_eq!(session.register(Reg::R0), Some(6));
        assert_eq!(session.finish(), Stop::Step);
        assert_eq!(session.look(|halted| (halted.index(), halted.depth())), Some((3, 0)));
        assert_eq!(session.resume(), Stop::Done);
    });
    assert_eq!(result, 8);
    // A script that ends lets the rest run, and programs of others never stop.
    let mut debugger = Debugger::new(&sim);
    debugger.break_at_instruction("loop", 0);
    let (result, stop) = debugger.run(run, |session| {
        assert_eq!(run(), 8);
        session.resume()
    });
    assert_eq!((result, stop), (8, Stop::Breakpoint(0)));
    assert_eq!(run(), 8);
}

#[test]
fn a_fault_can_be_looked_at() {
    let sim = SimKernel::new();
    let mut builder = ProgramBuilder::new(ProgType::RAW_TRACEPOINT, "GPL");
    builder.asm().mov64_imm(Reg::R3, 0).stx(skep::asm::Size::DW, Reg::R10, -8, Reg::R10);
    builder.asm().ldx(skep::asm::Size::DW, Reg::R0, Reg::R3, 8).exit();
    let program = builder.load(&Kernel::new(sim.clone())).unwrap();
    let (result, ()) = Debugger::new(&sim).run(
        || program.run(&RunInput::new()),
        |session| {
            let Stop::Fault(fault) = session.resume() else { panic!("no fault") };
            assert!(matches!(fault.kind, FaultKind::Access { write: false, address: 8, .. }), "{fault}");
            let dump = session.dump().unwrap();
            assert!(
                dump.contains("at 2: (79) r0 = *(u64 *)(r3 +8)") && dump.contains("\nr10-8: 0x"),
                "{dump}"
            );
            assert_eq!(session.resume(), Stop::Done);
        },
    );
    result.unwrap_err();
}

/// Why, where, which line of C, and what the registers held: in the words that a person reads.
#[test]
fn a_fault_is_told_with_its_line_and_registers() {
    let kernel = Kernel::new(SimKernel::new());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/bad_null_deref.o");
    let object = Loader::new(&kernel).load(&Spec::open(path).unwrap()).unwrap();
    let program = object.program("no_check").unwrap();
    assert_eq!(kernel.backend().prog_fault(program.as_fd()), Err(Errno::ENOENT), "it has not run");
    let error = program.run(&RunInput::packet(&[0; 64])).unwrap_err();
    let text = kernel.backend().prog_fault(program.as_fd()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "program `no_check` faulted: invalid read of 8 bytes at 0x0: it is a null pointer",
            "  at instruction 9: (79) r2 = *(u64 *)(r0 +0)",
            "  source: ./bad_null_deref.c:12: *value += skb->len; // here",
        ]
    );
    let registers: Vec<(&str, &str)> = lines[3]
        .strip_prefix("  registers: ")
        .unwrap()
        .split(' ')
        .map(|register| register.split_once('=').unwrap())
        .collect();
    let names: Vec<&str> = registers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10"]);
    // What was looked up, and not found.
    assert_eq!(registers[0].1, "0x0");
    assert!(registers[10].1.starts_with("0x8"), "the stack: {text}");
    assert_eq!(lines.len(), 4);
    // The error of the run has it too.
    let told = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
    assert!(format!("{error}: {told}").contains(&text), "{error}: {told}");
}

#[test]
fn breakpoints_where_nothing_stops_are_told() {
    let sim = SimKernel::new();
    let object = load(&sim);
    let mut debugger = Debugger::new(&sim);
    debugger.break_at(SOURCE, line("count->packets += 1;"));
    debugger.break_at_function("count_packets");
    debugger.break_at_instruction("count_packets", 1);
    assert_eq!(debugger.misplaced(), [""; 0]);
    debugger.break_at(SOURCE, 1);
    debugger.break_at("filter.c", 1);
    debugger.break_at_function("count_packet");
    debugger.break_at_instruction("count_pakets", 1);
    debugger.break_at_instruction("count_packets", 1000);
    let told = debugger.misplaced();
    let parts = [
        "breakpoint 3, packet_counter.bpf.c:1: no instruction comes from this line; the nearest that has some: ",
        "breakpoint 4, filter.c:1: no program that is loaded comes from this file, only from ",
        "breakpoint 5, function `count_packet`: no program that is loaded has it; similar: count_packets",
        "breakpoint 6, program `count_pakets`: none of that name is loaded; similar: count_packets",
        "breakpoint 7, program `count_packets`: it has no instruction 1000, only ",
    ];
    assert_eq!(told.len(), parts.len(), "{told:?}");
    for (told, part) in told.iter().zip(parts) {
        assert!(told.starts_with(part), "{told}");
    }
    drop(object);
}

/// Kernels keep 15 bytes of a name.
#[test]
fn long_names_are_those_that_a_kernel_keeps() {
    let sim = SimKernel::builder().coverage().build().unwrap();
    let mut builder = ProgramBuilder::new(ProgType::RAW_TRACEPOINT, "GPL");
    builder.name("a_name_of_many_letters");
    builder.asm().mov64_imm(Reg::R0, 7).exit();
    let program = builder.load(&Kernel::new(sim.clone())).unwrap();
    let mut debugger = Debugger::new(&sim);
    let at = debugger.break_at_instruction("a_name_of_many_letters", 1);
    assert_eq!(debugger.misplaced(), [""; 0]);
    let (_, stop) = debugger.run(|| program.run(&RunInput::new()).unwrap(), skep::sim::Session::resume);
    assert_eq!(stop, Stop::Breakpoint(at));
    assert!(sim.coverage().program("a_name_of_many_letters").is_some());
    assert!(sim.coverage().program("a_name_of_many").is_none());
}
