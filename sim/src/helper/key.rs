//! Keys that signatures are checked with.

use super::{HelperFn, refuse};
use crate::vm::{Trap, Vm, What};

pub(super) const KFUNCS: &[(&str, HelperFn)] =
    &[("bpf_lookup_user_key", look_up), ("bpf_lookup_system_key", look_up_system), ("bpf_key_put", put)];

const WHAT: &str = "a key";
const RELEASE: &str = "bpf_key_put";

/// Flags of `bpf_lookup_user_key`: the keyring is made if it is not there, and a key may be one that is only being made.
const CREATE: u64 = 1;
const PARTIAL: u64 = 2;

/// Numbers that stand for keyrings of the current task.
const THREAD_KEYRING: i32 = -1;
const PROCESS_KEYRING: i32 = -2;
const USER_SESSION_KEYRING: i32 = -5;

/// Gives the program a `struct bpf_key`: a key, and whether it is one that is counted.
fn give(vm: &mut Vm, key: u64, counted: bool) -> Result<u64, Trap> {
    let mut bytes = [0; 16];
    let (pointer, rest) = bytes.split_at_mut(8);
    pointer.copy_from_slice(&key.to_ne_bytes());
    if let Some(first) = rest.first_mut() {
        *first = counted.into();
    }
    let address = vm.own(What::Other(WHAT), bytes.to_vec(), false)?;
    vm.acquire(address, WHAT, RELEASE, None);
    Ok(address)
}

/// `bpf_lookup_user_key(serial, flags)`: a key of a user, or null.
fn look_up(vm: &mut Vm, [serial, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let serial = serial as i32;
    let is_there = match serial {
        // Keyrings that a task has only when it made them.
        THREAD_KEYRING | PROCESS_KEYRING => flags & CREATE != 0,
        USER_SESSION_KEYRING..THREAD_KEYRING => true,
        _ => vm.kernel.0.world().keys.has(serial),
    };
    if flags & !(CREATE | PARTIAL) != 0 || !is_there {
        return Ok(0);
    }
    let key = key_address(vm, serial);
    give(vm, key, true)
}

/// The address of the `struct key` of a key.
fn key_address(vm: &Vm, serial: i32) -> u64 {
    let known = vm.kernel.0.world().keys.object(serial);
    if known != 0 {
        return known;
    }
    let Ok(object) = vm.kernel.memory().object("key") else { return 0 };
    let _ = object.set("serial", i64::from(serial)); // every kernel has it
    if serial > 0 {
        vm.kernel.0.world().keys.set_object(serial, object.address());
    }
    object.address()
}

/// `bpf_lookup_system_key(id)`: the keys of the kernel, those that were added to them, or those of the machine; or null.
fn look_up_system(vm: &mut Vm, [id, ..]: [u64; 5]) -> Result<u64, Trap> {
    const PLATFORM: u64 = 2;

    if id > PLATFORM { Ok(0) } else { give(vm, id, false) }
}

/// `bpf_key_put(key)`.
fn put(vm: &mut Vm, [key, ..]: [u64; 5]) -> Result<u64, Trap> {
    if vm.release(key) {
        return Ok(0);
    }
    Err(refuse(format!("{key:#x} is no key that the program looked up")))
}
