//! What helper functions and kernel functions do.
//!
//! [`builtin`] and [`kfunc`] are the tables, and each family of functions has a file. A function is given the run and
//! its five arguments, and answers what goes to `r0`; a trap ends the program.

mod arena;
mod attached;
mod cast;
mod control;
mod cpumask;
mod crypto;
mod custom;
mod dynptr;
mod format;
mod held;
mod iterate;
mod key;
mod lock;
mod map;
mod memory;
mod net;
mod object;
mod perf;
mod print;
mod probe;
mod ring;
mod rstat;
mod show;
mod stack;
mod storage;
mod strings;
mod sys;
mod task;
#[cfg(test)]
mod tests;
mod time;
mod timer;

pub(crate) use custom::CustomFunction;
pub use custom::{HelperCall, HelperMap};
pub(crate) use held::Held;
pub(crate) use print::SeqFile;

use skep_sys::abi::Errno;

use crate::vm::{FaultKind, Trap, Vm};

/// A helper function.
pub(crate) type HelperFn = fn(&mut Vm, [u64; 5]) -> Result<u64, Trap>;

/// A function that programs call.
#[derive(Clone, Debug)]
pub(crate) enum Function {
    Builtin(HelperFn),
    /// One that a test gave to its kernel.
    Custom(CustomFunction),
}

/// What an effect that is kept counts as, in instructions.
const EFFECT: u64 = 64;

/// The helpers of each family, by number.
const HELPERS: &[&[(i32, HelperFn)]] = &[
    attached::HELPERS,
    cast::HELPERS,
    control::HELPERS,
    dynptr::HELPERS,
    lock::HELPERS,
    map::HELPERS,
    object::HELPERS,
    perf::HELPERS,
    print::HELPERS,
    probe::HELPERS,
    ring::HELPERS,
    show::HELPERS,
    stack::HELPERS,
    storage::HELPERS,
    strings::HELPERS,
    sys::HELPERS,
    task::HELPERS,
    time::HELPERS,
    timer::HELPERS,
];

/// The kernel functions of each family, by name.
const KFUNCS: &[&[(&str, HelperFn)]] = &[
    arena::KFUNCS,
    attached::KFUNCS,
    cast::KFUNCS,
    control::KFUNCS,
    cpumask::KFUNCS,
    crypto::KFUNCS,
    dynptr::KFUNCS,
    iterate::KFUNCS,
    key::KFUNCS,
    lock::KFUNCS,
    map::KFUNCS,
    net::KFUNCS,
    net::conntrack::KFUNCS,
    net::metadata::KFUNCS,
    object::KFUNCS,
    print::KFUNCS,
    rstat::KFUNCS,
    probe::KFUNCS,
    strings::KFUNCS,
    task::KFUNCS,
    time::KFUNCS,
    timer::KFUNCS,
];

/// The helper with a number, if it is simulated.
pub(crate) fn builtin(number: i32) -> Option<HelperFn> {
    let mut all = HELPERS.iter().flat_map(|family| family.iter());
    all.find(|(known, _)| *known == number).map(|(_, function)| *function).or_else(|| net::builtin(number))
}

/// The kernel function with a name, if it is simulated.
pub(crate) fn kfunc(name: &str) -> Option<HelperFn> {
    let mut all = KFUNCS.iter().flat_map(|family| family.iter());
    all.find(|(known, _)| *known == name).map(|(_, function)| *function)
}

/// Calls a kernel function of one argument.
fn kfunc_call(vm: &mut Vm, name: &str, argument: u64) -> Result<u64, Trap> {
    match kfunc(name) {
        Some(function) => function(vm, [argument, 0, 0, 0, 0]),
        None => Err(refuse(format!("{name} is not simulated"))),
    }
}

/// What a helper answers: 0, or an errno as a negative number.
pub(crate) fn answer(result: Result<(), Errno>) -> u64 {
    match result {
        Ok(()) => 0,
        Err(errno) => negative(errno),
    }
}

/// An errno as helpers return it.
pub(crate) fn negative(errno: Errno) -> u64 {
    i64::from(errno.0).wrapping_neg() as u64
}

/// Stops a program for what no kernel would have let it do.
#[cold]
pub(crate) fn refuse(message: impl Into<String>) -> Trap {
    FaultKind::Helper { message: message.into() }.into()
}
