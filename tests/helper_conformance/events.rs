use skep::map::Map;
use skep::perf::{PerfBuffer, PerfBufferOptions};
use skep::sys::abi::{Errno, MapType, PerfEventKind, ProgType, UpdateFlags};
use skep::sys::request::{PerfEventOpen, PerfTarget, TestRun};

use super::Arg::{Imm, Map as M, Reg as R, Stack};
use super::{Script, World, errno, map, number};
use skep::asm::Reg;

const READ: i32 = 22;
const OUTPUT: i32 = 25;
const READ_VALUE: i32 = 55;

const CURRENT_CPU: i64 = 0xffff_ffff;
const EINVAL: u64 = errno(Errno::EINVAL);
const ENOENT: u64 = errno(Errno::ENOENT);
const E2BIG: u64 = errno(Errno::E2BIG);

/// Runs a program on CPU 0.
fn on_first_cpu(script: &mut Script) -> Vec<u64> {
    let program = script.program();
    let mut run = TestRun::default();
    run.flags = skep::sys::abi::TestRunFlags::RUN_ON_CPU;
    program.test_run(&mut run).unwrap();
    script.notes()
}

pub(super) fn output(world: &World<'_>) {
    let cpus = world.kernel.possible_cpus().unwrap();
    let events = map(world, MapType::PERF_EVENT_ARRAY, 4, 4, cpus + 1);
    let mut buffer = PerfBuffer::new(&events, PerfBufferOptions::new()).unwrap();
    let mut script = Script::new(world);
    script.builder.asm().mov64_reg(skep::asm::Reg::R6, skep::asm::Reg::R1);
    script.stack(-8, 31);
    let write = |script: &mut Script, flags: i64, len: i64| {
        script.call(OUTPUT, &[R(Reg::R6), M(&events), Imm(flags), Stack(-8), Imm(len)]).note();
    };
    write(&mut script, CURRENT_CPU, 8);
    write(&mut script, 0, 4);
    write(&mut script, i64::from(cpus), 8);
    write(&mut script, i64::from(cpus) + 1, 8);
    write(&mut script, CURRENT_CPU + 1, 8);
    if cpus > 1 {
        write(&mut script, 1, 8);
    }
    let mut noted = on_first_cpu(script.exit(0));
    if cpus > 1 {
        assert_eq!(noted.pop(), Some(errno(Errno::EOPNOTSUPP)));
    }
    assert_eq!(noted, [0, 0, ENOENT, E2BIG, EINVAL]);
    let mut records = Vec::new();
    buffer
        .consume(|record| {
            if let skep::perf::PerfRecord::Sample(sample) = record {
                records.push(sample.data.to_vec());
            }
        })
        .unwrap();
    assert_eq!(number(&records[0][..8]), 31);
    assert_eq!((records.len(), &records[1][..4]), (2, &31u32.to_ne_bytes()[..]));
}

pub(super) fn counters(world: &World<'_>) {
    let events: Map = map(world, MapType::PERF_EVENT_ARRAY, 4, 4, 2);
    let mut request = PerfEventOpen::new(PerfEventKind::CPU_CLOCK, PerfTarget::Cpu(0));
    request.read_format = Default::default();
    let event = world.kernel.perf_event_open(&request).unwrap();
    events.update_fd(&0u32.to_ne_bytes(), &event, UpdateFlags::empty()).unwrap();
    let mut script = Script::new(world);
    script.call(READ, &[M(&events), Imm(1)]).note();
    script.call(READ, &[M(&events), Imm(2)]).note();
    script.call(READ, &[M(&events), Imm(1 << 32)]).note();
    script.stack(-8, 1).stack(-16, 1).stack(-24, 1);
    script.call(READ_VALUE, &[M(&events), Imm(1), Stack(-24), Imm(24)]).note().note_stack(-24);
    script.stack(-24, 1);
    script.call(READ_VALUE, &[M(&events), Imm(0), Stack(-24), Imm(16)]).note().note_stack(-24);
    script.call(READ, &[M(&events), Imm(0)]).note();
    script.call(READ_VALUE, &[M(&events), Imm(0), Stack(-24), Imm(24)]).note();
    script.note_stack(-24).note_stack(-16).note_stack(-8);
    (world.wait)(std::time::Duration::from_millis(3));
    let noted = on_first_cpu(script.exit(0));
    assert_eq!(noted[..7], [ENOENT, E2BIG, EINVAL, ENOENT, 0, EINVAL, 0]);
    let [first, answer, counted, enabled, running] = noted[7..] else { panic!("{noted:?}") };
    assert!(answer == 0 && first >= 1_000_000 && counted >= first, "{noted:?}");
    assert!(enabled >= 1_000_000 && running <= enabled, "{noted:?}");
}

pub(super) fn packets(world: &World<'_>) {
    let cpus = world.kernel.possible_cpus().unwrap();
    let events = map(world, MapType::PERF_EVENT_ARRAY, 4, 4, cpus);
    let packet: Vec<u8> = (0..64).collect();
    for kind in [ProgType::XDP, ProgType::SCHED_CLS] {
        let mut buffer = PerfBuffer::new(&events, PerfBufferOptions::new()).unwrap();
        let mut script = Script::of(world, kind);
        script.builder.asm().mov64_reg(Reg::R6, Reg::R1);
        script.stack(-8, 31);
        for len in [0, 10, 64, 65] {
            let flags = len << 32 | CURRENT_CPU;
            script.call(OUTPUT, &[R(Reg::R6), M(&events), Imm(flags), Stack(-8), Imm(8)]).note();
        }
        script.call(OUTPUT, &[R(Reg::R6), M(&events), Imm(1 << 52 | CURRENT_CPU), Stack(-8), Imm(8)]).note();
        let noted = script.exit(0).run_on(&packet);
        assert_eq!(noted, [0, 0, 0, errno(Errno::EFAULT), EINVAL], "{kind}");
        let mut records = Vec::new();
        buffer
            .consume(|record| {
                if let skep::perf::PerfRecord::Sample(sample) = record {
                    records.push(sample.data.to_vec());
                }
            })
            .unwrap();
        for (record, len) in records.iter().zip([0, 10, 64]) {
            let expected = [&31u64.to_ne_bytes()[..], &packet[..len]].concat();
            assert_eq!(record[..8 + len], expected, "{kind}");
        }
        assert_eq!(records.len(), 3);
    }
}
