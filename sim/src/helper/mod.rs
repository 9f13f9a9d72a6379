//! What helper functions and kernel functions do.
//!
//! [`builtin`] and [`kfunc`] are the tables, and each family of functions has a file. A function is given the run and
//! its five arguments, and answers what goes to `r0`; a trap ends the program.

mod custom;
mod map;
mod net;

pub(crate) use custom::CustomFunction;
pub use custom::HelperCall;

use skep_sys::abi::Errno;

use crate::vm::{Trap, Vm};

/// A helper function.
pub(crate) type HelperFn = fn(&mut Vm, [u64; 5]) -> Result<u64, Trap>;

/// A function that programs call.
#[derive(Clone, Debug)]
pub(crate) enum Function {
    Builtin(HelperFn),
    /// One that a test gave to its kernel.
    Custom(CustomFunction),
}

/// The helper with a number, if it is simulated.
pub(crate) fn builtin(number: i32) -> Option<HelperFn> {
    Some(match number {
        1 => map::lookup,
        2 => map::update,
        3 => map::delete,
        _ => return net::builtin(number),
    })
}

/// The kernel function with a name, if it is simulated.
pub(crate) fn kfunc(name: &str) -> Option<HelperFn> {
    let _ = name;
    None
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
