//! Sets of CPUs.

use super::{HelperFn, object, refuse};
use crate::builder::CPUS_MAX;
use crate::vm::{Trap, Vm};

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_cpumask_create", create),
    ("bpf_cpumask_release", |vm, [mask, ..]| super::kfunc_call(vm, "bpf_obj_drop_impl", mask)),
    ("bpf_cpumask_acquire", |vm, [mask, ..]| super::kfunc_call(vm, "bpf_refcount_acquire_impl", mask)),
    ("bpf_cpumask_first", |vm, [mask, ..]| first(vm, mask, |word| word)),
    ("bpf_cpumask_first_zero", |vm, [mask, ..]| first(vm, mask, |word| !word)),
    ("bpf_cpumask_first_and", |vm, [a, b, ..]| {
        let both = and(read(vm, a)?, read(vm, b)?);
        Ok(first_of(vm, both))
    }),
    ("bpf_cpumask_set_cpu", |vm, [cpu, mask, ..]| change(vm, cpu, mask, true)),
    ("bpf_cpumask_clear_cpu", |vm, [cpu, mask, ..]| change(vm, cpu, mask, false)),
    ("bpf_cpumask_test_and_set_cpu", |vm, [cpu, mask, ..]| change(vm, cpu, mask, true)),
    ("bpf_cpumask_test_and_clear_cpu", |vm, [cpu, mask, ..]| change(vm, cpu, mask, false)),
    ("bpf_cpumask_test_cpu", |vm, [cpu, mask, ..]| {
        let mask = read(vm, mask)?;
        Ok(u64::from(
            bit(vm, cpu).is_some_and(|(word, bit)| mask.get(word).is_some_and(|word| word & bit != 0)),
        ))
    }),
    ("bpf_cpumask_setall", |vm, [mask, ..]| {
        let all = possible(vm);
        write(vm, mask, all)
    }),
    ("bpf_cpumask_clear", |vm, [mask, ..]| write(vm, mask, NONE)),
    ("bpf_cpumask_and", |vm, [to, a, b, ..]| {
        let both = and(read(vm, a)?, read(vm, b)?);
        write(vm, to, both)?;
        Ok(u64::from(both != NONE))
    }),
    ("bpf_cpumask_or", |vm, [to, a, b, ..]| combine(vm, to, a, b, |a, b| a | b)),
    ("bpf_cpumask_xor", |vm, [to, a, b, ..]| combine(vm, to, a, b, |a, b| a ^ b)),
    ("bpf_cpumask_equal", |vm, [a, b, ..]| Ok(u64::from(read(vm, a)? == read(vm, b)?))),
    ("bpf_cpumask_intersects", |vm, [a, b, ..]| Ok(u64::from(and(read(vm, a)?, read(vm, b)?) != NONE))),
    ("bpf_cpumask_subset", |vm, [a, b, ..]| {
        let a = read(vm, a)?;
        Ok(u64::from(and(a, read(vm, b)?) == a))
    }),
    ("bpf_cpumask_empty", |vm, [mask, ..]| Ok(u64::from(read(vm, mask)? == NONE))),
    ("bpf_cpumask_full", |vm, [mask, ..]| {
        let mask = read(vm, mask)?;
        Ok(u64::from(and(mask, possible(vm)) == possible(vm)))
    }),
    ("bpf_cpumask_copy", |vm, [to, from, ..]| {
        let mask = read(vm, from)?;
        write(vm, to, mask)
    }),
    // Any one will do; the first is the same each time.
    ("bpf_cpumask_any_distribute", |vm, [mask, ..]| first(vm, mask, |word| word)),
    ("bpf_cpumask_any_and_distribute", |vm, [a, b, ..]| {
        let both = and(read(vm, a)?, read(vm, b)?);
        Ok(first_of(vm, both))
    }),
    ("bpf_cpumask_weight", |vm, [mask, ..]| {
        let mask = read(vm, mask)?;
        Ok(mask.iter().map(|word| u64::from(word.count_ones())).sum())
    }),
];

/// Words of a `struct cpumask`, for as many CPUs as a kernel may have here.
const WORDS: usize = CPUS_MAX as usize / 64;
type Mask = [u64; WORDS];
const NONE: Mask = [0; WORDS];
/// Bytes of a `struct bpf_cpumask`, which counts its references behind the set.
const LEN: usize = WORDS * 8 + 8;

fn read(vm: &mut Vm, address: u64) -> Result<Mask, Trap> {
    let mut bytes = [0; WORDS * 8];
    // A set of the kernel's own may be shorter than those here.
    let used = (vm.kernel.0.config().cpus as usize).div_ceil(64).min(WORDS) * 8;
    vm.memory.read(address, &mut bytes[..used])?; // at most all of them
    let (words, _) = bytes.as_chunks::<8>();
    let mut mask = NONE;
    mask.iter_mut().zip(words).for_each(|(to, word)| *to = u64::from_ne_bytes(*word));
    Ok(mask)
}

fn write(vm: &mut Vm, address: u64, mask: Mask) -> Result<u64, Trap> {
    let mut bytes = [0; WORDS * 8];
    let (words, _) = bytes.as_chunks_mut::<8>();
    words.iter_mut().zip(mask).for_each(|(to, word)| *to = word.to_ne_bytes());
    if vm.kernel.0.world().objects.write(address, &bytes).is_none() {
        return Err(refuse(format!("{address:#x} is not a bpf_cpumask that the program made")));
    }
    Ok(0)
}

fn and(a: Mask, b: Mask) -> Mask {
    let mut both = a;
    both.iter_mut().zip(b).for_each(|(to, word)| *to &= word);
    both
}

/// The word and the bit of a CPU that there is.
fn bit(vm: &Vm, cpu: u64) -> Option<(usize, u64)> {
    let cpu = u64::from(cpu as u32);
    (cpu < u64::from(vm.kernel.0.config().cpus)).then(|| ((cpu / 64) as usize, 1 << (cpu % 64)))
}

/// All CPUs that there are.
fn possible(vm: &Vm) -> Mask {
    let cpus = vm.kernel.0.config().cpus as usize;
    let mut mask = NONE;
    for (at, word) in mask.iter_mut().enumerate() {
        let bits = cpus.saturating_sub(at * 64).min(64);
        *word = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    }
    mask
}

/// `bpf_cpumask_create()`: an empty set, or null.
fn create(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    let made = vm.kernel.0.world().objects.allocate(LEN);
    Ok(made.inspect(|start| object::own(vm, *start)).unwrap_or(0))
}

/// The first CPU of a set, or the number of CPUs for none.
fn first_of(vm: &Vm, mask: Mask) -> u64 {
    let cpus = u64::from(vm.kernel.0.config().cpus);
    let found = (0..).zip(mask).find(|(_, word)| *word != 0);
    found.map_or(cpus, |(at, word): (u64, u64)| (at * 64 + u64::from(word.trailing_zeros())).min(cpus))
}

fn first(vm: &mut Vm, address: u64, of: fn(u64) -> u64) -> Result<u64, Trap> {
    let mask = read(vm, address)?.map(of);
    Ok(first_of(vm, mask))
}

/// Puts a CPU in or takes it out. Answers whether it was in.
fn change(vm: &mut Vm, cpu: u64, address: u64, set: bool) -> Result<u64, Trap> {
    let mut mask = read(vm, address)?;
    // What is no CPU is left alone.
    let Some((word, bit)) = bit(vm, cpu) else { return Ok(0) };
    let Some(word) = mask.get_mut(word) else { return Ok(0) };
    let was = u64::from(*word & bit != 0);
    *word = if set { *word | bit } else { *word & !bit };
    write(vm, address, mask)?;
    Ok(was)
}

fn combine(vm: &mut Vm, to: u64, a: u64, b: u64, with: fn(u64, u64) -> u64) -> Result<u64, Trap> {
    let (mut mask, other) = (read(vm, a)?, read(vm, b)?);
    mask.iter_mut().zip(other).for_each(|(to, word)| *to = with(*to, word));
    write(vm, to, mask)
}
