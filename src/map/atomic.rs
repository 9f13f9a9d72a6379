use std::sync::atomic::Ordering;

use skep_sys::{SharedMemory, SharedMemoryError};

use super::plain::PlainData;

/// Integers that programs and user space can share one access at a time: 32 and 64 bits, with or without a sign.
///
/// A load has acquire ordering, a store release ordering, and the others have both, so that what was written before a store is
/// seen after a load that sees it. In a program, `__sync_fetch_and_add` and the like go with them.
pub trait Atomic: PlainData + Copy + sealed::Access {}

pub(crate) mod sealed {
    use super::{SharedMemory, SharedMemoryError};

    type Result<T> = std::result::Result<T, SharedMemoryError>;

    /// What is done to the number at an offset. All but a load need memory that can be written.
    pub trait Access: Sized {
        fn load(memory: &SharedMemory, at: usize) -> Result<Self>;
        fn store(self, memory: &SharedMemory, at: usize) -> Result<()>;
        fn swap(self, memory: &SharedMemory, at: usize) -> Result<Self>;
        fn fetch_add(self, memory: &SharedMemory, at: usize) -> Result<Self>;
        fn fetch_and(self, memory: &SharedMemory, at: usize) -> Result<Self>;
        fn fetch_or(self, memory: &SharedMemory, at: usize) -> Result<Self>;
        fn compare_exchange(
            self,
            new: Self,
            memory: &SharedMemory,
            at: usize,
        ) -> Result<std::result::Result<Self, Self>>;
    }
}

macro_rules! atomic {
    ($($number:ty as $bits:ty: $load:ident, $place:ident;)*) => {
        $(
            impl Atomic for $number {}

            impl sealed::Access for $number {
                fn load(memory: &SharedMemory, at: usize) -> Result<Self, SharedMemoryError> {
                    Ok(memory.$load(at)? as $number)
                }

                fn store(self, memory: &SharedMemory, at: usize) -> Result<(), SharedMemoryError> {
                    memory.$place(at)?.store(self as $bits, Ordering::Release);
                    Ok(())
                }

                fn swap(self, memory: &SharedMemory, at: usize) -> Result<Self, SharedMemoryError> {
                    Ok(memory.$place(at)?.swap(self as $bits, Ordering::AcqRel) as $number)
                }

                fn fetch_add(self, memory: &SharedMemory, at: usize) -> Result<Self, SharedMemoryError> {
                    Ok(memory.$place(at)?.fetch_add(self as $bits, Ordering::AcqRel) as $number)
                }

                fn fetch_and(self, memory: &SharedMemory, at: usize) -> Result<Self, SharedMemoryError> {
                    Ok(memory.$place(at)?.fetch_and(self as $bits, Ordering::AcqRel) as $number)
                }

                fn fetch_or(self, memory: &SharedMemory, at: usize) -> Result<Self, SharedMemoryError> {
                    Ok(memory.$place(at)?.fetch_or(self as $bits, Ordering::AcqRel) as $number)
                }

                fn compare_exchange(
                    self,
                    new: Self,
                    memory: &SharedMemory,
                    at: usize,
                ) -> Result<Result<Self, Self>, SharedMemoryError> {
                    let place = memory.$place(at)?;
                    let (now, new) = (self as $bits, new as $bits);
                    let answer = place.compare_exchange(now, new, Ordering::AcqRel, Ordering::Acquire);
                    Ok(answer.map(|was| was as $number).map_err(|is| is as $number))
                }
            }
        )*
    };
}

atomic! {
    u32 as u32: load_u32, atomic_u32;
    i32 as u32: load_u32, atomic_u32;
    u64 as u64: load_u64, atomic_u64;
    i64 as u64: load_u64, atomic_u64;
}
