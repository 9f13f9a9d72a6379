//! Spin locks in values.

use skep_sys::abi::Errno;

use super::held::{LockKind, Place, Taken};
use super::memory::{read_u64, write_u64};
use super::{HelperFn, negative, refuse};
use crate::map::FieldKind;
use crate::vm::{Region, Trap, Vm, What, offset};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[(93, lock), (94, unlock)];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_res_spin_lock", |vm, [lock, ..]| res_lock(vm, lock, LockKind::Resilient)),
    ("bpf_res_spin_unlock", |vm, [lock, ..]| res_unlock(vm, lock, LockKind::Resilient)),
    ("bpf_res_spin_lock_irqsave", res_lock_irqsave),
    ("bpf_res_spin_unlock_irqrestore", res_unlock_irqrestore),
];

/// The lock at an address, which has to be where a value or an object has one.
fn place(vm: &Vm, address: u64, kind: FieldKind) -> Result<Place, Trap> {
    let at = offset(address);
    let name = if kind == FieldKind::SpinLock { "bpf_spin_lock" } else { "bpf_res_spin_lock" };
    let Some(Region::Shared(shared)) = vm.memory.region(address) else {
        return match vm.kernel.0.world().objects.has_field(address, kind) {
            Some(true) => Ok(Place::Object(address)),
            Some(false) => Err(refuse(format!("{address:#x} is not the {name} of the object that it is in"))),
            None => Err(refuse(format!("{address:#x} is not a {name} in a value of a map or in an object"))),
        };
    };
    if let What::Value(map) = &shared.what
        && map.fields().of(kind).is_none_or(|field| field.offset != at)
    {
        return Err(match map.fields().of(kind) {
            Some(field) => refuse(format!(
                "offset {at} of a value of map `{}` is not its {name}, which is at {}",
                map.name, field.offset
            )),
            None => refuse(format!(
                "values of map `{}` have no {name}: the map was made without BTF that tells of one",
                map.name
            )),
        });
    }
    if at.saturating_add(4) > shared.len || !(shared.start + at).is_multiple_of(4) {
        return Err(vm.memory.fault(address, 4, true));
    }
    Ok(Place::Words { words: shared.words.clone(), at: shared.start + at })
}

/// `bpf_spin_lock(lock)`.
fn lock(vm: &mut Vm, [lock, ..]: [u64; 5]) -> Result<u64, Trap> {
    if vm.held.has_lock() {
        let place = place(vm, lock, FieldKind::SpinLock)?;
        return Err(match vm.lock(place, LockKind::Spin) {
            Taken::Own => refuse("deadlock: the program takes a bpf_spin_lock that it holds already"),
            _ => refuse("the program takes a second bpf_spin_lock, which no kernel allows"),
        });
    }
    let place = place(vm, lock, FieldKind::SpinLock)?;
    match vm.lock(place, LockKind::Spin) {
        Taken::Yes => Ok(0),
        Taken::Own => Err(refuse("deadlock: the program takes a bpf_spin_lock that it holds already")),
        Taken::Others => Err(refuse("deadlock: another holder does not let go of the bpf_spin_lock")),
    }
}

/// `bpf_spin_unlock(lock)`.
fn unlock(vm: &mut Vm, [lock, ..]: [u64; 5]) -> Result<u64, Trap> {
    let place = place(vm, lock, FieldKind::SpinLock)?;
    vm.unlock(&place, LockKind::Spin)?;
    Ok(0)
}

/// How long it is waited for a lock, in nanoseconds: until more than `RES_DEF_TIMEOUT` has passed.
const PATIENCE: u64 = 250_001_000;

/// `bpf_res_spin_lock(lock)`: says what would block for ever, instead of doing so.
fn res_lock(vm: &mut Vm, lock: u64, kind: LockKind) -> Result<u64, Trap> {
    let place = place(vm, lock, FieldKind::ResSpinLock)?;
    Ok(match vm.lock(place, kind) {
        Taken::Yes => 0,
        Taken::Own => negative(Errno::EDEADLK),
        Taken::Others => {
            let mut world = vm.kernel.0.world();
            world.clock = world.clock.saturating_add(PATIENCE);
            negative(Errno::ETIMEDOUT)
        }
    })
}

fn res_unlock(vm: &mut Vm, lock: u64, kind: LockKind) -> Result<u64, Trap> {
    let place = place(vm, lock, FieldKind::ResSpinLock)?;
    vm.unlock(&place, kind)?;
    Ok(0)
}

fn res_lock_irqsave(vm: &mut Vm, [lock, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    write_u64(vm, flags, 0)?;
    res_lock(vm, lock, LockKind::ResilientIrq)
}

fn res_unlock_irqrestore(vm: &mut Vm, [lock, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    read_u64(vm, flags)?;
    res_unlock(vm, lock, LockKind::ResilientIrq)
}
