use std::time::{Duration, Instant};

use skep::asm::{Cond, Reg, Size};
use skep::map::Map;
use skep::sys::abi::{Errno, MapType, ProgType, UpdateFlags};
use skep::sys::request::TestRun;

use super::Arg::{Func, Imm, Map as M, Reg as R, Stack};
use super::loops::locked;
use super::{Script, World, errno, has_functions, has_helper};

const LOOKUP: i32 = 1;
const INIT: i32 = 169;
const SET_CALLBACK: i32 = 170;
const START: i32 = 171;
const CANCEL: i32 = 172;

const EINVAL: u64 = errno(Errno::EINVAL);
const MILLISECOND: i64 = 1_000_000;
/// What no test waits for, however long a machine stops.
const HOUR: i64 = 3_600_000 * MILLISECOND;

pub(super) fn clocks(world: &World<'_>) {
    // Times since boot, then the time of day.
    let mut script = Script::new(world);
    let times: Vec<i32> = [5, 125]
        .into_iter()
        .filter(|helper| has_helper(world, "clocks", *helper, ProgType::SOCKET_FILTER))
        .collect();
    for helper in times.iter().chain(&[5]) {
        script.call(*helper, &[]).note();
    }
    let program = script.exit(0).program();
    let run = || {
        program.test_run(&mut TestRun::default()).unwrap();
        script.notes()
    };
    let first = run();
    (world.wait)(Duration::from_millis(20));
    let second = run();
    for (before, after) in first.iter().zip(&second) {
        let passed = after - before;
        assert!((10_000_000..60_000_000_000).contains(&passed), "{first:?} {second:?}");
    }
    assert!(first[0] <= first[times.len()]);

    let mut script = Script::new(world);
    script.call(8, &[]).note();
    script.call(42, &[]).note();
    for _ in 0..3 {
        script.call(7, &[]).note();
    }
    if has_helper(world, "clocks", 118, ProgType::SOCKET_FILTER) {
        script.call(118, &[]);
        script.builder.asm().jmp64_imm(Cond::Ne, Reg::R0, 0, "ticks").mov64_imm(Reg::R0, 0).label("ticks");
        script.note_if_set();
    }
    let program = script.exit(0).program();
    let mut run = TestRun::default();
    run.flags = skep::sys::abi::TestRunFlags::RUN_ON_CPU;
    run.cpu = world.kernel.online_cpus().unwrap().into_iter().max().unwrap();
    program.test_run(&mut run).unwrap();
    let noted = script.notes();
    assert_eq!(noted[0], run.cpu.into());
    assert!(noted[2..5].iter().all(|random| u32::try_from(*random).is_ok()), "{noted:?}");
    assert!(noted[2] != noted[3] || noted[3] != noted[4], "{noted:?}");
    assert!(noted.get(5).is_none_or(|ticks| *ticks == 1));
}

/// The clock that only ticks is behind the other and follows it, and international atomic time goes with it.
pub(super) fn times_of_day(world: &World<'_>) {
    if [160, 208].iter().any(|helper| !has_helper(world, "times_of_day", *helper, ProgType::SOCKET_FILTER)) {
        return;
    }
    let mut script = Script::of(world, ProgType::SOCKET_FILTER);
    for helper in [160, 5, 208, 5] {
        script.call(helper, &[]).note();
    }
    let program = script.exit(0).program();
    let run = || {
        let mut run = TestRun::default();
        run.data_in = &[0; 64];
        program.test_run(&mut run).unwrap();
        <[u64; 4]>::try_from(script.notes()).unwrap()
    };
    let first = run();
    // Ticks come when the machine lets them, so that the first clock may be behind for a while.
    let ticked = |now: [u64; 4]| {
        assert!(now[0] <= now[1], "{now:?}");
        now[0] > first[1]
    };
    world.eventually(|| ticked(run()), || "the clock that ticks stands still");
    let second = run();
    // Between the two looks at the other clock.
    let between = second[1] - first[3]..=second[3] - first[1];
    assert!(between.contains(&(second[2] - first[2])), "{first:?} {second:?}");
    // Of this century.
    assert!(first[2] > 946_684_800_000_000_000, "{first:?}");
}

/// A map of elements with a timer or a work queue at 16, and a number at 0.
fn timed(world: &World<'_>, field: &str) -> Map {
    let map = locked(world, MapType::ARRAY, field, 16, 8);
    map.update(&0u32.to_ne_bytes(), &[0; 32], UpdateFlags::empty()).unwrap();
    map
}

fn has_timers(world: &World<'_>, test: &str) -> bool {
    has_helper(world, test, INIT, ProgType::SCHED_CLS)
}

impl Script {
    /// Puts the address of an element into `r6` and of its timer into `r7`; ends the program when there is none.
    fn element(&mut self, map: &Map, key: u64) -> &mut Self {
        self.stack(-8, key).call(LOOKUP, &[M(map), Stack(-8)]);
        let there = format!("there{}", self.builder.asm().here());
        let asm = self.builder.asm();
        asm.jmp64_imm(Cond::Ne, Reg::R0, 0, &*there).exit().label(there).mov64_reg(Reg::R6, Reg::R0);
        asm.mov64_reg(Reg::R7, Reg::R0).add64_imm(Reg::R7, 16);
        self
    }

    /// A callback that adds `key + 1` to the number of its element.
    fn counting(&mut self, name: &str) -> &mut Self {
        self.function(name);
        let asm = self.builder.asm();
        asm.ldx(Size::W, Reg::R0, Reg::R2, 0).add64_imm(Reg::R0, 1).ldx(Size::W, Reg::R1, Reg::R3, 0);
        asm.add64_reg(Reg::R1, Reg::R0).stx(Size::W, Reg::R3, 0, Reg::R1);
        self.exit(0)
    }
}

fn count(map: &Map, key: u32) -> u32 {
    let value = map.lookup(&key.to_ne_bytes()).unwrap().unwrap();
    u32::from_ne_bytes(value[..4].try_into().unwrap())
}

pub(super) fn timers(world: &World<'_>) {
    if !has_timers(world, "timers") {
        return;
    }
    let map = timed(world, "bpf_timer");
    let mut script = Script::of(world, ProgType::SYSCALL);
    script.element(&map, 1);
    script.call(INIT, &[R(Reg::R7), M(&map), Imm(1)]).note();
    script.call(INIT, &[R(Reg::R7), M(&map), Imm(1)]).note();
    script.call(SET_CALLBACK, &[R(Reg::R7), Func("tick")]).note();
    script.call(START, &[R(Reg::R7), Imm(100 * MILLISECOND), Imm(0)]).note();
    script.exit(0).counting("tick");
    let start = Instant::now();
    assert_eq!(script.run(), [0, errno(Errno::EBUSY), 0, 0]);
    let early = count(&map, 1);
    assert!(early == 0 || start.elapsed() >= Duration::from_millis(100), "it came before its time");
    world.eventually(|| count(&map, 1) == 2, || count(&map, 1));
    assert_eq!(count(&map, 0), 0);

    // Started again, and stopped before it is due.
    let mut script = Script::of(world, ProgType::SYSCALL);
    script.element(&map, 1);
    script.call(START, &[R(Reg::R7), Imm(HOUR), Imm(0)]).note();
    script.call(CANCEL, &[R(Reg::R7)]).note();
    script.call(CANCEL, &[R(Reg::R7)]).note();
    script.call(START, &[R(Reg::R7), Imm(0), Imm(0)]).note();
    script.call(SET_CALLBACK, &[R(Reg::R7), Func("tick")]).note();
    script.call(5, &[]);
    script.builder.asm().mov64_reg(Reg::R2, Reg::R0).add64_imm(Reg::R2, 5_000_000);
    script.call(START, &[R(Reg::R7), R(Reg::R2), Imm(1)]).note();
    script.exit(0).counting("tick");
    // Times to start at came with the loops over numbers.
    let knows_times = has_functions(world, "absolute times", &["bpf_iter_num_new"]);
    assert_eq!(script.run(), [0, 1, 0, EINVAL, 0, if knows_times { 0 } else { EINVAL }]);
    let due = if knows_times { 4 } else { 2 };
    world.eventually(|| count(&map, 1) == due, || count(&map, 1));

    // An array's values are never removed, but what is written over one ends its timer.
    let mut started = Script::of(world, ProgType::SYSCALL);
    started.element(&map, 1);
    started.call(START, &[R(Reg::R7), Imm(HOUR), Imm(0)]).note();
    assert_eq!(started.exit(0).run(), [0]);
    map.update(&1u32.to_ne_bytes(), &[0; 32], UpdateFlags::empty()).unwrap();
    let mut script = Script::of(world, ProgType::SYSCALL);
    script.element(&map, 1);
    script.call(CANCEL, &[R(Reg::R7)]).note();
    assert_eq!(script.exit(0).run(), [EINVAL], "there is none any more");
    assert_eq!(count(&map, 1), 0);
}

/// Timers go with the last descriptor of their map, though a program holds it still.
pub(super) fn ends(world: &World<'_>) {
    if !has_timers(world, "timer_ends") {
        return;
    }
    let map = timed(world, "bpf_timer");
    let id = map.info().unwrap().id;
    // Starts a timer that is due after a time.
    let starting = |due| {
        let mut script = Script::of(world, ProgType::SYSCALL);
        script.element(&map, 1);
        script.call(INIT, &[R(Reg::R7), M(&map), Imm(1)]).note();
        script.call(SET_CALLBACK, &[R(Reg::R7), Func("tick")]).note();
        script.call(START, &[R(Reg::R7), Imm(due), Imm(0)]).note();
        let program = script.exit(0).counting("tick").program();
        // What it was built with is held by nobody else.
        script.builder = skep::program::ProgramBuilder::new(ProgType::SYSCALL, "GPL");
        move || {
            program.test_run(&mut TestRun::default()).unwrap();
            script.notes()
        }
    };
    let (late, soon) = (starting(HOUR), starting(MILLISECOND));
    assert_eq!(late(), [0; 3]);
    drop(map);
    // The kernel may let go of the timer a moment later.
    world.eventually(|| late() == [errno(Errno::EPERM), EINVAL, EINVAL], || "somebody holds the map");
    let map = Map::by_id(world.kernel, id, Default::default()).unwrap();
    assert_eq!(count(&map, 1), 0);
    assert_eq!(soon(), [0; 3]);
    world.eventually(|| count(&map, 1) == 2, || count(&map, 1));
}

pub(super) fn errors(world: &World<'_>) {
    if !has_timers(world, "timer_errors") {
        return;
    }
    let map = timed(world, "bpf_timer");
    let mut script = Script::of(world, ProgType::SYSCALL);
    script.element(&map, 0);
    script.call(SET_CALLBACK, &[R(Reg::R7), Func("tick")]).note();
    script.call(START, &[R(Reg::R7), Imm(0), Imm(0)]).note();
    script.call(CANCEL, &[R(Reg::R7)]).note();
    script.call(INIT, &[R(Reg::R7), M(&map), Imm(2)]).note();
    script.call(INIT, &[R(Reg::R7), M(&map), Imm(16)]).note();
    script.call(INIT, &[R(Reg::R7), M(&map), Imm(7)]).note();
    script.call(START, &[R(Reg::R7), Imm(0), Imm(0)]).note();
    script.call(SET_CALLBACK, &[R(Reg::R7), Func("tick")]).note();
    script.call(START, &[R(Reg::R7), Imm(0), Imm(4)]).note();
    script.call(CANCEL, &[R(Reg::R7)]).note();
    script.exit(0).counting("tick");
    assert_eq!(script.run(), [EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, 0, EINVAL, 0, EINVAL, 0]);
}

pub(super) fn work_queues(world: &World<'_>) {
    if !has_functions(world, "work_queues", &["bpf_wq_init", "bpf_wq_set_callback_impl", "bpf_wq_start"]) {
        return;
    }
    // Since 7.0 the kernel gives its last argument by itself, and the function has another name.
    let newer = "bpf_wq_set_callback";
    let has_newer =
        world.kernel.btf().is_ok_and(|btf| btf.find(newer.as_bytes(), skep::btf::Kind::FUNC).is_some());
    let set_callback = if has_newer { newer } else { "bpf_wq_set_callback_impl" };
    let map = timed(world, "bpf_wq");
    let mut script = Script::of(world, ProgType::SYSCALL);
    script.element(&map, 1);
    let note = |script: &mut Script| {
        script.builder.asm().lsh64_imm(Reg::R0, 32).arsh64_imm(Reg::R0, 32);
        script.note();
    };
    for (name, args) in [
        ("bpf_wq_start", vec![R(Reg::R7), Imm(0)]),
        ("bpf_wq_init", vec![R(Reg::R7), M(&map), Imm(1)]),
        ("bpf_wq_init", vec![R(Reg::R7), M(&map), Imm(0)]),
        ("bpf_wq_init", vec![R(Reg::R7), M(&map), Imm(0)]),
        (set_callback, vec![R(Reg::R7), Func("tick"), Imm(0), Imm(0)]),
        ("bpf_wq_start", vec![R(Reg::R7), Imm(1)]),
        ("bpf_wq_start", vec![R(Reg::R7), Imm(0)]),
    ] {
        script.kfunc(name, &args);
        note(&mut script);
    }
    script.exit(0).counting("tick");
    assert_eq!(script.run(), [EINVAL, EINVAL, 0, errno(Errno::EBUSY), 0, EINVAL, 0]);
    world.eventually(|| count(&map, 1) == 2, || count(&map, 1));
}
