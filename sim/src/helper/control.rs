//! Loops, iterators over numbers and bits, and the sections that a program enters and leaves.

use skep_sys::abi::Errno;

use super::held::Section;
use super::memory::{read_u64, write_u64};
use super::{HelperFn, answer, negative, refuse};
use crate::vm::{Trap, Vm, What};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[(181, repeat)];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_iter_num_new", num_new),
    ("bpf_iter_num_next", num_next),
    ("bpf_iter_num_destroy", num_destroy),
    ("bpf_iter_bits_new", bits_new),
    ("bpf_iter_bits_next", bits_next),
    ("bpf_iter_bits_destroy", bits_destroy),
    ("bpf_rcu_read_lock", |vm, _| enter(vm, Section::Rcu)),
    ("bpf_rcu_read_unlock", |vm, _| leave(vm, Section::Rcu)),
    ("bpf_preempt_disable", |vm, _| enter(vm, Section::Preempt)),
    ("bpf_preempt_enable", |vm, _| leave(vm, Section::Preempt)),
    ("bpf_local_irq_save", irq_save),
    ("bpf_local_irq_restore", irq_restore),
    ("bpf_throw", throw),
];

/// Most turns of a loop (`BPF_MAX_LOOPS`).
pub(super) const LOOPS_MAX: u64 = 8 << 20;

/// `bpf_loop(count, callback, context, flags)`: how often the callback was called.
fn repeat(vm: &mut Vm, [count, callback, context, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    if flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    if count > LOOPS_MAX {
        // The kernel puts the loop into the program, and moves the number as one of 32 bits.
        return Ok(u64::from(negative(Errno::E2BIG) as u32));
    }
    for index in 0..count {
        if vm.call(callback, [index, context, 0, 0, 0])? != 0 {
            return Ok(index + 1); // at most the count
        }
    }
    Ok(count)
}

/// `struct bpf_iter_num`: the number before the next one, and the end, as two of 32 bits; then the number that the program
/// was shown, which it gets a pointer to, has a place of its own.
fn num_new(vm: &mut Vm, [iter, start, end, ..]: [u64; 5]) -> Result<u64, Trap> {
    let (start, end) = (start as u32 as i32, end as u32 as i32);
    let distance = i64::from(end) - i64::from(start);
    let refused = if start > end {
        Some(Errno::EINVAL)
    } else if distance > LOOPS_MAX as i64 {
        Some(Errno::E2BIG)
    } else {
        None
    };
    let (current, end) = if refused.is_some() { (0, 0) } else { (start.wrapping_sub(1), end) };
    write_pair(vm, iter, current, end)?;
    vm.acquire(iter, "an iterator over numbers", "bpf_iter_num_destroy", None);
    Ok(refused.map_or(0, negative))
}

fn num_next(vm: &mut Vm, [iter, ..]: [u64; 5]) -> Result<u64, Trap> {
    let (current, end) = read_pair(vm, iter)?;
    if current.wrapping_add(1) >= end {
        write_pair(vm, iter, 0, 0)?;
        return Ok(0);
    }
    write_pair(vm, iter, current.wrapping_add(1), end)?;
    // The kernel points into the iterator, too.
    Ok(iter)
}

fn num_destroy(vm: &mut Vm, [iter, ..]: [u64; 5]) -> Result<u64, Trap> {
    destroy(vm, iter, "bpf_iter_num_destroy")?;
    write_pair(vm, iter, 0, 0)?;
    Ok(0)
}

fn destroy(vm: &mut Vm, iter: u64, function: &str) -> Result<(), Trap> {
    if vm.release(iter) {
        Ok(())
    } else {
        Err(refuse(format!("{function} of an iterator that was not begun")))
    }
}

fn read_pair(vm: &mut Vm, address: u64) -> Result<(i32, i32), Trap> {
    let mut bytes = [0; 8];
    vm.memory.read(address, &mut bytes)?;
    let [a, b, c, d, e, f, g, h] = bytes;
    Ok((i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h])))
}

fn write_pair(vm: &mut Vm, address: u64, first: i32, second: i32) -> Result<(), Trap> {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    vm.memory.write(address, &[a, b, c, d, e, f, g, h])
}

/// Most words of a set of bits (`BITS_ITER_NR_WORDS_MAX`).
const BITS_WORDS_MAX: u32 = 511;

/// `bpf_iter_bits_new(iter, words, count)`. The iterator's first word is where a copy of the bits is, its second the number of
/// bits and the next bit.
fn bits_new(vm: &mut Vm, [iter, words, count, ..]: [u64; 5]) -> Result<u64, Trap> {
    let count = count as u32;
    vm.acquire(iter, "an iterator over bits", "bpf_iter_bits_destroy", None);
    write_u64(vm, iter, 0)?;
    write_u64(vm, iter.wrapping_add(8), 0)?;
    if words == 0 || count == 0 {
        return Ok(negative(Errno::EINVAL));
    }
    if count > BITS_WORDS_MAX {
        return Ok(negative(Errno::E2BIG));
    }
    let Ok(bits) = vm.memory.bytes(words, count as usize * 8) else {
        return Ok(negative(Errno::EFAULT));
    };
    let len = i32::try_from(count * 64).unwrap_or(i32::MAX); // at most 511 words
    let copy = vm.own(What::Other("bits of an iterator"), bits, false)?;
    write_u64(vm, iter, copy)?;
    write_pair(vm, iter.wrapping_add(8), len, 0)?;
    Ok(0)
}

fn bits_next(vm: &mut Vm, [iter, ..]: [u64; 5]) -> Result<u64, Trap> {
    let copy = read_u64(vm, iter)?;
    let (len, next) = read_pair(vm, iter.wrapping_add(8))?;
    for bit in next.max(0)..len {
        let word = read_u64(vm, copy.wrapping_add(bit as u64 / 64 * 8))?;
        if word >> (bit as u64 % 64) & 1 != 0 {
            write_pair(vm, iter.wrapping_add(8), len, bit.saturating_add(1))?;
            // The number is where the program reads it as an `int`.
            return vm.own(What::Other("the number of a bit"), bit.to_ne_bytes().to_vec(), false);
        }
    }
    write_pair(vm, iter.wrapping_add(8), 0, 0)?;
    Ok(0)
}

fn bits_destroy(vm: &mut Vm, [iter, ..]: [u64; 5]) -> Result<u64, Trap> {
    destroy(vm, iter, "bpf_iter_bits_destroy")?;
    let copy = read_u64(vm, iter)?;
    vm.memory.revoke(copy, "the iterator over these bits was destroyed");
    Ok(0)
}

fn enter(vm: &mut Vm, section: Section) -> Result<u64, Trap> {
    vm.enter(section);
    Ok(0)
}

fn leave(vm: &mut Vm, section: Section) -> Result<u64, Trap> {
    vm.leave_section(section).map(|()| answer(Ok(())))
}

fn irq_save(vm: &mut Vm, [flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let was_off = vm.held.in_section(Section::Irq);
    write_u64(vm, flags, u64::from(was_off))?;
    enter(vm, Section::Irq)
}

fn irq_restore(vm: &mut Vm, [flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    read_u64(vm, flags)?;
    leave(vm, Section::Irq)
}

/// `bpf_throw(cookie)`: ends the program, and everything that it called, in its exception callback.
fn throw(vm: &mut Vm, [cookie, ..]: [u64; 5]) -> Result<u64, Trap> {
    vm.held.throw(cookie);
    Err(refuse("an exception was thrown where nothing can end the program"))
}
