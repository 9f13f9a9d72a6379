//! Perf events: what programs write into their rings, and the counters that they read.

use skep_sys::abi::{Errno, MapType, ProgType};

use super::map::map_of;
use super::{HelperFn, memory, negative};
use crate::vm::{Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] =
    &[(22, read), (25, output), (55, read_value), (111, output), (121, output)];

/// Bits of the flags that are an index; all of them stand for the CPU.
const INDEX: u64 = 0xffff_ffff;
/// Bits of the flags that are a number of bytes of the packet (`BPF_F_CTXLEN_MASK`).
const PACKET_LEN: u64 = 0xf_ffff << 32;
/// `struct bpf_perf_event_value`.
const VALUE_LEN: usize = 24;

fn is_events(kind: MapType) -> bool {
    kind == MapType::PERF_EVENT_ARRAY
}

fn index(vm: &Vm, flags: u64) -> u32 {
    if flags & INDEX == INDEX { vm.cpu } else { flags as u32 }
}

/// Whether the context is a packet, of which bytes can be added to the record.
fn has_packet(kind: ProgType) -> bool {
    let kinds = [
        ProgType::XDP,
        ProgType::SCHED_CLS,
        ProgType::SCHED_ACT,
        ProgType::SOCKET_FILTER,
        ProgType::CGROUP_SKB,
        ProgType::LWT_IN,
        ProgType::LWT_OUT,
        ProgType::LWT_XMIT,
        ProgType::LWT_SEG6LOCAL,
        ProgType::SK_SKB,
    ];
    kinds.contains(&kind)
}

/// `bpf_perf_event_output(context, map, flags, data, size)`.
fn output(vm: &mut Vm, [_, map, flags, data, size]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_perf_event_output", is_events)?;
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    vm.memory.check(data, len, false)?;
    let known = if has_packet(vm.prog().prog_type) { INDEX | PACKET_LEN } else { INDEX };
    if flags & !known != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let packet_len = ((flags & PACKET_LEN) >> 32) as usize;
    let index = index(vm, flags);
    let (cpu, now) = (vm.cpu, vm.kernel.0.now());
    let write =
        |bytes: &[u8]| super::answer(map.perf_event(index).and_then(|event| event.output(cpu, bytes, now)));
    memory::with_bytes(vm, data, len, |vm, bytes| {
        if packet_len == 0 {
            return Ok(write(bytes));
        }
        vm.spend(packet_len as u64 / 32); // 20 bits
        let mut record = vm.held.buffer();
        record.extend_from_slice(bytes);
        record.resize(len + packet_len, 0); // both are below the size of a region
        let packet = record.get_mut(len..).unwrap_or_default();
        let answer = match vm.memory.packet(0, packet) {
            Some(()) => write(&record),
            None => negative(Errno::EFAULT),
        };
        vm.held.give_back(record);
        Ok(answer)
    })
}

/// What an event of a map counted, and for how long it was enabled and running.
fn counters(vm: &Vm, map: u64, helper: &str, flags: u64) -> Result<Result<[u64; 3], Errno>, Trap> {
    let map = map_of(vm, map, helper, is_events)?;
    if flags & !INDEX != 0 {
        return Ok(Err(Errno::EINVAL));
    }
    let event = map.perf_event(index(vm, flags));
    Ok(event.and_then(|event| event.counters(vm.cpu, vm.kernel.0.now())))
}

/// `bpf_perf_event_read(map, flags)`: what was counted, or an errno.
fn read(vm: &mut Vm, [map, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let counters = counters(vm, map, "bpf_perf_event_read", flags)?;
    Ok(counters.map_or_else(negative, |[counted, ..]| counted))
}

/// `bpf_perf_event_read_value(map, flags, value, size)`.
fn read_value(vm: &mut Vm, [map, flags, to, size, _]: [u64; 5]) -> Result<u64, Trap> {
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    vm.memory.check(to, len, true)?;
    let counters = counters(vm, map, "bpf_perf_event_read_value", flags)?;
    memory::with_room(vm, to, len, |bytes| {
        let counters = if bytes.len() == VALUE_LEN { counters? } else { return Err(Errno::EINVAL) };
        let (words, _) = bytes.as_chunks_mut::<8>();
        words.iter_mut().zip(counters).for_each(|(to, word)| *to = word.to_ne_bytes());
        Ok(())
    })
}
