//! Storage that goes with tasks and sockets, as programs see it.

use std::os::fd::AsFd;

use skep::asm::{Cond, Reg, Size};
use skep::btf::{BtfBuilder, IntEncoding};
use skep::map::Map;
use skep::sys::abi::{Errno, MapFlags, MapType, ProgType};
use skep::sys::request::{MapBtf, MapCreate};

use super::Arg::{Imm, Map as M};
use super::{Arg, Script, World, errno, has_helper};

/// Storage whose value is a number.
fn storage(world: &World<'_>, kind: MapType) -> Map {
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let number = btf.add_int("unsigned long", 8, IntEncoding(0)).unwrap();
    let btf = world.kernel.btf_load(btf.finish().unwrap().bytes(), None).unwrap();
    let mut request = MapCreate::new(kind, 4, 8, 0);
    request.flags = MapFlags::NO_PREALLOC;
    request.btf = Some(MapBtf { btf: btf.as_fd(), key_type: int.0, value_type: number.0 });
    Map::create(world.kernel, &request).unwrap()
}

/// Writes to what `r0` points to.
fn write(script: &mut Script, value: i32) {
    let end = format!("written{value}");
    let asm = script.builder.asm();
    asm.jmp64_imm(Cond::Eq, Reg::R0, 0, &*end).st(Size::DW, Reg::R0, 0, value).label(end);
}

/// Takes, writes and removes what belongs to the object in `r6`, and notes what comes of it.
fn script(script: &mut Script, map: &Map, [get, delete]: [i32; 2]) {
    let owner = Arg::Reg(Reg::R6);
    let create = Imm(1);
    // Nothing is there, and nothing comes by a look.
    script.call(get, &[M(map), owner, Imm(0), Imm(0)]).note_target();
    script.call(delete, &[M(map), owner]).note();
    // Flags that there are not.
    script.call(get, &[M(map), owner, Imm(0), Imm(2)]).note_target();
    // A new one is zero.
    script.call(get, &[M(map), owner, Imm(0), create]).note_target();
    script.call(get, &[M(map), owner, Imm(0), create]);
    write(script, 41);
    script.call(get, &[M(map), owner, Imm(0), Imm(0)]).note_target();
    script.call(delete, &[M(map), owner]).note();
    script.call(delete, &[M(map), owner]).note();
    // Or begins as it is told.
    script.stack(-8, 7);
    script.call(get, &[M(map), owner, Arg::Stack(-8), create]).note_target();
    // That of before is not looked at when there is one.
    script.stack(-8, 9);
    script.call(get, &[M(map), owner, Arg::Stack(-8), create]).note_target();
}

/// What is noted, -1 for no storage.
fn expected() -> Vec<u64> {
    const NONE: u64 = u64::MAX;
    vec![NONE, errno(Errno::ENOENT), NONE, 0, 41, 0, errno(Errno::ENOENT), 7, 7]
}

pub(super) fn of_tasks(world: &World<'_>) {
    if !has_helper(world, "storage_of_tasks", 156, ProgType::RAW_TRACEPOINT)
        || !has_helper(world, "storage_of_tasks", 158, ProgType::RAW_TRACEPOINT)
    {
        return;
    }
    let map = storage(world, MapType::TASK_STORAGE);
    let mut task = Script::new(world);
    task.call(158, &[]);
    task.builder.asm().mov64_reg(Reg::R6, Reg::R0);
    script(&mut task, &map, [156, 157]);
    assert_eq!(task.exit(0).run(), expected());
    // The next run is of the same task.
    let mut task = Script::new(world);
    task.call(158, &[]);
    task.builder.asm().mov64_reg(Reg::R6, Reg::R0);
    task.call(156, &[M(&map), Arg::Reg(Reg::R6), Imm(0), Imm(0)]).note_target();
    assert_eq!(task.exit(0).run(), [7]);
}

/// A packet of a test run has a socket of its own.
pub(super) fn of_sockets(world: &World<'_>) {
    if !has_helper(world, "storage_of_sockets", 107, ProgType::SCHED_CLS) {
        return;
    }
    let map = storage(world, MapType::SK_STORAGE);
    let mut socket = Script::of(world, ProgType::SCHED_CLS);
    let asm = socket.builder.asm();
    asm.ldx(Size::DW, Reg::R1, Reg::R1, 168).jmp64_imm(Cond::Eq, Reg::R1, 0, "none").call_helper(95);
    asm.jmp64_imm(Cond::Eq, Reg::R0, 0, "none").mov64_reg(Reg::R6, Reg::R0);
    script(&mut socket, &map, [107, 108]);
    socket.builder.asm().label("none");
    assert_eq!(socket.exit(0).run_on(&[0; 64]), expected());
}
