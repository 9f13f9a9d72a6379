//! Timers and work queues in values of maps.
//!
//! The first word of a `struct bpf_timer` is the mark of the timer in the kernel, and 0 before `bpf_timer_init`. Callbacks
//! run when [`SimKernel::advance`](crate::SimKernel::advance) passes the time.

use std::sync::Arc;

use skep_sys::abi::Errno;

use super::memory::{read_u64, write_u64};
use super::{HelperFn, negative, refuse};
use crate::map::{FieldKind, Map, Value};
use crate::vm::{Handle, Region, Trap, Vm, What, offset};
use crate::world::{Callback, Timer, WALL_CLOCK};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (169, init),
    (170, |vm, [timer, callback, ..]| set_callback(vm, timer, callback, FieldKind::Timer)),
    (171, start),
    (172, cancel),
];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_wq_init", work_init),
    ("bpf_wq_set_callback_impl", |vm, [work, callback, ..]| {
        set_callback(vm, work, callback, FieldKind::Workqueue)
    }),
    ("bpf_wq_start", work_start),
];

/// Kinds of clocks.
const CLOCK_REALTIME: u64 = 0;
const CLOCK_MONOTONIC: u64 = 1;
const CLOCK_BOOTTIME: u64 = 7;
/// Flags of `bpf_timer_start`.
const ABSOLUTE: u64 = 1;
const PIN_CPU: u64 = 2;

/// The value that a timer or work queue is in, and its map.
fn place(vm: &Vm, address: u64, kind: FieldKind) -> Result<(Arc<Map>, Value), Trap> {
    let name = if kind == FieldKind::Timer { "bpf_timer" } else { "bpf_wq" };
    if let Some(Region::Shared(shared)) = vm.memory.region(address)
        && let What::Value(map) = &shared.what
        && map.fields().of(kind).is_some_and(|field| field.offset == offset(address))
        && let Some(value) = Value::within(&shared.words, shared.start, shared.len)
    {
        return Ok((map.clone(), value));
    }
    Err(refuse(format!("{address:#x} is not the {name} of a value; the map's BTF tells where that is")))
}

/// Begins one: `EBUSY` when it was begun already, `EPERM` when no descriptor or pin holds the map any more.
fn begin(vm: &mut Vm, address: u64, map: u64, kind: FieldKind, is_wall_clock: bool) -> Result<u64, Trap> {
    let (owner, value) = place(vm, address, kind)?;
    let map = vm.memory.map(map)?;
    if !Arc::ptr_eq(&owner, &map) {
        return Err(refuse(format!("the timer is in map `{}`, and not in `{}`", owner.name, map.name)));
    }
    let mark = read_u64(vm, address)?;
    if mark != 0 && vm.kernel.0.world().timers.get(mark).is_some() {
        return Ok(negative(Errno::EBUSY));
    }
    if !vm.kernel.0.is_held(&map) {
        return Ok(negative(Errno::EPERM));
    }
    vm.spend(map.count() as u64); // the key is searched for among them
    // A value that was removed meanwhile has no key any more.
    let key = map.key_of(&value, vm.cpu).unwrap_or_else(|| Arc::from(vec![0; map.shape.key_size as usize]));
    let mut timer = Timer::new(&map, key, offset(address));
    timer.is_wall_clock = is_wall_clock;
    let mark = vm.kernel.0.world().timers.add(timer);
    write_u64(vm, address, mark)?;
    Ok(0)
}

/// `bpf_timer_init(timer, map, flags)`.
fn init(vm: &mut Vm, [timer, map, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    if !matches!(flags, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME) {
        place(vm, timer, FieldKind::Timer)?;
        return Ok(negative(Errno::EINVAL));
    }
    begin(vm, timer, map, FieldKind::Timer, flags == CLOCK_REALTIME)
}

/// `bpf_wq_init(work, map, flags)`.
fn work_init(vm: &mut Vm, [work, map, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    if flags != 0 {
        place(vm, work, FieldKind::Workqueue)?;
        return Ok(negative(Errno::EINVAL));
    }
    begin(vm, work, map, FieldKind::Workqueue, false)
}

/// `bpf_timer_set_callback(timer, callback)`.
fn set_callback(vm: &mut Vm, timer: u64, callback: u64, kind: FieldKind) -> Result<u64, Trap> {
    let (map, _) = place(vm, timer, kind)?;
    let Some(Handle::Code(prog)) = vm.memory.handle(callback) else {
        return Err(refuse(format!("{callback:#x} is not a function of the program")));
    };
    let callback = Callback { prog: prog.clone(), slot: offset(callback) / 8 };
    let mark = read_u64(vm, timer)?;
    let held = vm.kernel.0.is_held(&map);
    let mut world = vm.kernel.0.world();
    let Some(timer) = world.timers.get(mark) else { return Ok(negative(Errno::EINVAL)) };
    if !held {
        return Ok(negative(Errno::EPERM));
    }
    timer.callback = Some(callback);
    Ok(0)
}

/// `bpf_timer_start(timer, nanoseconds, flags)`.
fn start(vm: &mut Vm, [timer, nanoseconds, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    place(vm, timer, FieldKind::Timer)?;
    if flags & !(ABSOLUTE | PIN_CPU) != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let mark = read_u64(vm, timer)?;
    let mut world = vm.kernel.0.world();
    let now = world.clock;
    let ready = world.timers.get(mark).filter(|timer| timer.callback.is_some());
    let Some(timer) = ready else { return Ok(negative(Errno::EINVAL)) };
    let due = match (flags & ABSOLUTE != 0, timer.is_wall_clock) {
        (false, _) => now.saturating_add(nanoseconds),
        (true, false) => nanoseconds,
        (true, true) => nanoseconds.saturating_sub(WALL_CLOCK),
    };
    world.timers.start(mark, due, vm.cpu);
    Ok(0)
}

/// `bpf_wq_start(work, flags)`.
fn work_start(vm: &mut Vm, [work, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    place(vm, work, FieldKind::Workqueue)?;
    if flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let mark = read_u64(vm, work)?;
    let mut world = vm.kernel.0.world();
    let now = world.clock;
    if world.timers.get(mark).is_none_or(|work| work.callback.is_none()) {
        return Ok(negative(Errno::EINVAL));
    }
    world.timers.start(mark, now, vm.cpu);
    Ok(0)
}

/// `bpf_timer_cancel(timer)`: 1 when it had been started. It forgets its callback.
fn cancel(vm: &mut Vm, [timer, ..]: [u64; 5]) -> Result<u64, Trap> {
    place(vm, timer, FieldKind::Timer)?;
    let mark = read_u64(vm, timer)?;
    let own = vm.held.calling() == Some(mark);
    let mut world = vm.kernel.0.world();
    let Some(timer) = world.timers.get(mark) else { return Ok(negative(Errno::EINVAL)) };
    if own {
        // It would wait for itself.
        return Ok(negative(Errno::EDEADLK));
    }
    timer.callback = None;
    Ok(u64::from(world.timers.stop(mark)))
}
