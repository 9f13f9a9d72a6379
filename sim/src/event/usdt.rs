//! Where the arguments of a tracepoint of a program (USDT) are, as libbpf's `usdt.bpf.h` reads it from a map.

use std::sync::Arc;

use super::attach::PointKind;
use super::registers::Registers;
use super::scene::attached;
use crate::fd::Access;
use crate::kernel::SimKernel;
use crate::link::{Link, Place};
use crate::map::Map;

/// `struct __bpf_usdt_spec`: twelve arguments of 16 bytes, the cookie, the number of arguments.
const SPEC: usize = 208;
const ARGS_MAX: usize = 12;
const ARG: usize = 16;
const COOKIE_AT: usize = 192;
const COUNT_AT: usize = 200;
/// Kinds of arguments: a number, and a register.
const CONSTANT: u32 = 0;
const REGISTER: u32 = 1;

/// The maps that the header makes.
const SPECS: &str = "__bpf_usdt_specs";
const SPECS_BY_IP: &str = "__bpf_usdt_ip_to_spec_id";

fn map_of(link: &Link, name: &str) -> Option<Arc<Map>> {
    // Names of maps are cut to 15 bytes.
    let name = name.get(..15).unwrap_or(name);
    link.prog().code.maps().iter().find(|map| map.name == name).cloned()
}

/// Describes arguments in the map of a link's program: the first ones are in registers, as functions have them, the others are
/// numbers. Answers the index of the description, none where the program has no such map.
pub(super) fn describe(
    kernel: &SimKernel,
    link: &Link,
    cookie: u64,
    args: &[u64],
    regs: &Registers,
) -> Option<u64> {
    let specs = map_of(link, SPECS)?;
    if specs.shape.value_size as usize != SPEC {
        return None;
    }
    // From the end on, where no loader begins to fill it.
    let of_usdt = |other: &Link| match &other.place {
        Place::Points { points, .. } => {
            points.iter().any(|point| matches!(point.kind, PointKind::Usdt { .. })).then_some(())
        }
        _ => None,
    };
    let place = attached(kernel, of_usdt).iter().position(|(other, ())| other.id == link.id)?;
    let index = specs.shape.max_entries.checked_sub(1)?.checked_sub(u32::try_from(place).ok()?)?;
    let mut spec = vec![0; SPEC];
    for (at, value) in args.iter().take(ARGS_MAX).enumerate() {
        let (number, kind, register) = match Registers::argument_offset(at) {
            Some(offset) => (0, REGISTER, offset),
            None => (*value, CONSTANT, 0),
        };
        let from = at * ARG; // at most 12
        put(&mut spec, from, &number.to_ne_bytes());
        put(&mut spec, from + 8, &kind.to_ne_bytes());
        put(&mut spec, from + 12, &register.to_ne_bytes());
    }
    put(&mut spec, COOKIE_AT, &cookie.to_ne_bytes());
    let count = u16::try_from(args.len().min(ARGS_MAX)).unwrap_or(0); // at most 12
    put(&mut spec, COUNT_AT, &count.to_ne_bytes());
    let nothing = |_| Err(skep_sys::abi::Errno::EBADF);
    specs.update(Access::ALL, &index.to_ne_bytes(), &spec, 0, &nothing).ok()?;
    // Kernels without cookies have the index by the address.
    if let Some(by_ip) = map_of(link, SPECS_BY_IP).filter(|map| map.shape.key_size == 8) {
        let _ = by_ip.update(Access::ALL, &regs.ip().to_ne_bytes(), &index.to_ne_bytes(), 0, &nothing);
    }
    Some(index.into())
}

fn put(bytes: &mut [u8], at: usize, from: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at + from.len()) {
        to.copy_from_slice(from);
    }
}
