//! Counts the calls of bpf(2) of this process and the time spent in them.
//!
//! skep and libbpf both make them through the C library's `syscall`, which has no other definition in a program that
//! has this one. It does the same for either, at the cost of reading two clocks.

use std::arch::asm;
use std::ffi::c_long;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Commands that are counted one by one; those beyond share the last place.
const COMMANDS: usize = 48;

static CALLS: [AtomicU64; COMMANDS] = [const { AtomicU64::new(0) }; COMMANDS];
static WALL: AtomicU64 = AtomicU64::new(0);
static CPU: AtomicU64 = AtomicU64::new(0);

/// A point in time, or a span: nanoseconds of the wall's clock and of this process's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time {
    /// Of the clock on the wall.
    pub wall: u64,
    /// That the process computed, itself and in the kernel.
    pub cpu: u64,
}

/// Now.
pub fn now() -> Time {
    Time { wall: clock(libc::CLOCK_MONOTONIC), cpu: clock(libc::CLOCK_PROCESS_CPUTIME_ID) }
}

impl Time {
    /// The span since then.
    pub fn elapsed(self) -> Time {
        now().since(self)
    }

    /// What is left of a span without another.
    pub fn since(self, earlier: Time) -> Time {
        Time { wall: self.wall.saturating_sub(earlier.wall), cpu: self.cpu.saturating_sub(earlier.cpu) }
    }
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and outlives the call.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What was spent in bpf(2) so far.
pub fn inside() -> Time {
    Time { wall: WALL.load(Relaxed), cpu: CPU.load(Relaxed) }
}

/// How often each command was called so far, by its number.
pub fn calls() -> Vec<(usize, u64)> {
    let counts = CALLS.iter().map(|count| count.load(Relaxed)).enumerate();
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The C library's function of this name.
///
/// # Safety
/// As the system call that it makes.
#[unsafe(no_mangle)]
#[cfg(target_arch = "x86_64")]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let metered = number == libc::SYS_bpf;
    let start = if metered { now() } else { Time::default() };
    let answer: isize;
    // SAFETY: the caller's promises are those of the system call; the registers are those of its calling convention.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if metered {
        let span = start.elapsed();
        WALL.fetch_add(span.wall, Relaxed);
        CPU.fetch_add(span.cpu, Relaxed);
        CALLS[a.min(COMMANDS - 1)].fetch_add(1, Relaxed);
    }
    if (-4095..0).contains(&answer) {
        // SAFETY: the C library's place for the error of this thread.
        unsafe { *libc::__errno_location() = -answer as i32 };
        return -1;
    }
    answer as c_long
}

/// Prints the span of a load in which bpf(2) was called, as `load` reads it.
pub fn report(span: Time) {
    let inside = inside();
    let calls: Vec<String> = calls().iter().map(|(command, count)| format!("{command}:{count}")).collect();
    println!("{} {} {} {} {}", span.wall, span.cpu, inside.wall, inside.cpu, calls.join(","));
}
