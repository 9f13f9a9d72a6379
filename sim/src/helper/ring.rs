//! Ring buffers: records that programs write, and samples that they are sent.

use std::sync::Arc;

use skep_sys::abi::{Errno, MapType, RingFlags};

use super::dynptr::{self, Dynptr, Kind};
use super::map::map_of;
use super::{HelperFn, negative, refuse};
use crate::map::{Map, Sample, Wake};
use crate::vm::{Region, Shared, Trap, Vm, What, offset};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (130, output),
    (131, reserve),
    (132, |vm, [record, flags, ..]| finish(vm, record, flags, false)),
    (133, |vm, [record, flags, ..]| finish(vm, record, flags, true)),
    (134, query),
    (198, reserve_dynptr),
    (199, |vm, [dynptr, flags, ..]| finish_dynptr(vm, dynptr, flags, false)),
    (200, |vm, [dynptr, flags, ..]| finish_dynptr(vm, dynptr, flags, true)),
    (209, drain),
];

/// Samples that are drained in one call (`BPF_MAX_USER_RINGBUF_SAMPLES`).
const SAMPLES_MAX: u64 = 128 * 1024;
const RING: &str = "a record of a ring buffer";

fn is_ring(kind: MapType) -> bool {
    kind == MapType::RINGBUF
}

/// The flags that say whether a reader is woken.
fn wake_flags(flags: u64) -> Result<RingFlags, Errno> {
    let known = RingFlags::NO_WAKEUP | RingFlags::FORCE_WAKEUP;
    RingFlags::from_bits(flags).filter(|flags| known.contains(*flags)).ok_or(Errno::EINVAL)
}

/// The shared bytes of a record.
fn record(map: &Arc<Map>, position: u64, len: u32) -> Result<Shared, Errno> {
    let (words, start) = map.ring(|ring| ring.place(position, len))?;
    Ok(Shared { what: What::Record(map.clone()), words, start, len: len as usize, writable: true })
}

/// `bpf_ringbuf_output(map, data, size, flags)`.
fn output(vm: &mut Vm, [map, data, size, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_ringbuf_output", is_ring)?;
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    vm.memory.check(data, len, false)?;
    let flags = match wake_flags(flags) {
        Ok(flags) => flags,
        Err(errno) => return Ok(negative(errno)),
    };
    super::memory::with_bytes(vm, data, len, |vm, bytes| {
        let written = u32::try_from(size).map_err(|_| Errno::EAGAIN).and_then(|len| {
            map.ring(|ring| {
                let position = ring.reserve(len).map_err(|_| Errno::EAGAIN)?;
                ring.write(position, 0, bytes)?;
                ring.finish(position, false, flags)
            })
        });
        Ok(match written {
            Ok(wake) => {
                vm.kernel.wake(&map, wake);
                0
            }
            Err(errno) => negative(errno),
        })
    })
}

/// `bpf_ringbuf_reserve(map, size, flags)`: a pointer to the record, or null.
fn reserve(vm: &mut Vm, [map, size, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_ringbuf_reserve", is_ring)?;
    let Some(len) = u32::try_from(size).ok().filter(|_| flags == 0) else { return Ok(0) };
    let Ok(shared) = map.ring(|ring| ring.reserve(len)).and_then(|position| record(&map, position, len))
    else {
        return Ok(0);
    };
    let address = vm.memory.add(Region::Shared(shared))?;
    vm.acquire(address, RING, "bpf_ringbuf_submit or bpf_ringbuf_discard", Some(drop_record));
    Ok(address)
}

/// Discards the record of a program that was stopped, so that those after it are seen.
fn drop_record(vm: &mut Vm, address: u64) {
    if let Some(Region::Shared(shared)) = vm.memory.region(address)
        && let What::Record(map) = &shared.what
    {
        let (map, start) = (map.clone(), shared.start);
        if let Ok(wake) = map.ring(|ring| ring.finish_at(start, true, RingFlags::empty())) {
            vm.kernel.wake(&map, wake);
        }
    }
}

/// `bpf_ringbuf_submit(record, flags)` and `bpf_ringbuf_discard(record, flags)`.
fn finish(vm: &mut Vm, address: u64, flags: u64, discard: bool) -> Result<u64, Trap> {
    let shared = match vm.memory.region(address) {
        Some(Region::Shared(shared)) if offset(address) == 0 => shared,
        Some(Region::Gone(why)) => return Err(refuse(*why)),
        _ => return Err(refuse(format!("{address:#x} is not the start of {RING}"))),
    };
    let What::Record(map) = &shared.what else {
        return Err(refuse(format!("{address:#x} is in {}, not {RING}", shared.what)));
    };
    let (map, start) = (map.clone(), shared.start);
    if !vm.release(address) {
        return Err(refuse(format!("{address:#x} is {RING} that is not this program's to finish")));
    }
    // Flags that are not known are as good as none: nothing is answered.
    let flags = RingFlags::from_bits_truncate(flags);
    if let Ok(wake) = map.ring(|ring| ring.finish_at(start, discard, flags)) {
        vm.kernel.wake(&map, wake);
    }
    vm.memory.revoke(address, "the record of the ring buffer was submitted or discarded");
    Ok(0)
}

/// `bpf_ringbuf_query(map, what)`.
fn query(vm: &mut Vm, [map, what, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_ringbuf_query", is_ring)?;
    let answer = map.ring(|ring| {
        let [size, consumer, producer, overwritten] = ring.state()?;
        Ok(match what {
            0 => ring.available()?,
            1 => size,
            2 => consumer,
            3 => producer,
            4 => overwritten,
            _ => 0,
        })
    });
    Ok(answer.unwrap_or(0))
}

/// `bpf_ringbuf_reserve_dynptr(map, size, flags, dynptr)`. Also one without a record has to be submitted or discarded.
fn reserve_dynptr(vm: &mut Vm, [map, size, flags, to, _]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_ringbuf_reserve_dynptr", is_ring)?;
    let size = size as u32;
    dynptr::write(vm, to, &Dynptr::NULL)?;
    vm.acquire(
        to,
        "a dynptr of a ring buffer",
        "bpf_ringbuf_submit_dynptr or bpf_ringbuf_discard_dynptr",
        Some(drop_dynptr),
    );
    if flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    if size > dynptr::SIZE_MAX {
        return Ok(negative(Errno::E2BIG));
    }
    let Ok(shared) = map.ring(|ring| ring.reserve(size)).and_then(|position| record(&map, position, size))
    else {
        return Ok(negative(Errno::EINVAL));
    };
    let data = vm.memory.add(Region::Shared(shared))?;
    dynptr::write(vm, to, &Dynptr { data, size, offset: 0, kind: Kind::Ring, read_only: false })?;
    Ok(0)
}

fn drop_dynptr(vm: &mut Vm, address: u64) {
    if let Ok(dynptr) = dynptr::read(vm, address) {
        drop_record(vm, dynptr.data);
    }
}

fn finish_dynptr(vm: &mut Vm, address: u64, flags: u64, discard: bool) -> Result<u64, Trap> {
    let dynptr = dynptr::read(vm, address)?;
    if !vm.release(address) {
        return Err(refuse(format!("{address:#x} is not a dynptr of a ring buffer that was reserved")));
    }
    dynptr::write(vm, address, &Dynptr::NULL)?;
    if dynptr.data == 0 {
        return Ok(0);
    }
    vm.acquire(dynptr.data, RING, "", None);
    finish(vm, dynptr.data, flags, discard)
}

/// `bpf_user_ringbuf_drain(map, callback, context, flags)`: how many samples the callback was given.
fn drain(vm: &mut Vm, [map, callback, context, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_user_ringbuf_drain", |kind| kind == MapType::USER_RINGBUF)?;
    let flags = match wake_flags(flags) {
        Ok(flags) => flags,
        Err(errno) => return Ok(negative(errno)),
    };
    if let Err(errno) = map.ring(|ring| ring.begin_drain()) {
        return Ok(negative(errno));
    }
    let drained = drain_with(vm, &map, callback, context);
    let _ = map.ring(|ring| ring.end_drain()); // it is a ring
    let (samples, outcome) = drained?;
    let wakes =
        flags.contains(RingFlags::FORCE_WAKEUP) || samples > 0 && !flags.contains(RingFlags::NO_WAKEUP);
    vm.kernel.wake(&map, Wake(wakes));
    Ok(outcome.map_or_else(negative, |()| samples))
}

/// Answers how many samples there were and what ended it.
fn drain_with(
    vm: &mut Vm,
    map: &Arc<Map>,
    callback: u64,
    context: u64,
) -> Result<(u64, Result<(), Errno>), Trap> {
    let dynptr_at = vm.own(What::Other("the dynptr of a callback"), vec![0; dynptr::LEN], true)?;
    let data = vm.memory.add(Region::Gone("there is no sample"))?;
    let mut samples = 0;
    for _ in 0..SAMPLES_MAX {
        let sample = match map.ring(|ring| ring.next_sample()) {
            Ok(Sample::None) => break,
            Ok(Sample::Discarded { end }) => {
                let _ = map.ring(|ring| ring.consumed_to(end)); // it is a ring
                continue;
            }
            Ok(Sample::Data(sample)) => sample,
            Err(errno) => return Ok((samples, Err(errno))),
        };
        let shared = Shared {
            what: What::Other("a sample of a user ring buffer"),
            words: sample.words,
            start: sample.start,
            len: sample.len as usize,
            writable: true,
        };
        if let Some(region) = vm.memory.region_mut(data) {
            *region = Region::Shared(shared);
        }
        let dynptr = Dynptr { data, size: sample.len, offset: 0, kind: Kind::Local, read_only: false };
        dynptr::write(vm, dynptr_at, &dynptr)?;
        let stop = vm.call(callback, [dynptr_at, context, 0, 0, 0])?;
        let _ = map.ring(|ring| ring.consumed_to(sample.end)); // it is a ring
        samples += 1;
        if stop != 0 {
            break;
        }
    }
    vm.memory.revoke(data, "the sample was that of a callback which has returned");
    vm.memory.revoke(dynptr_at, "the dynptr was that of a callback which has returned");
    Ok((samples, Ok(())))
}
