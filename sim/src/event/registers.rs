//! The registers of a simulated machine, which is an x86-64.

/// `struct pt_regs` of x86-64, as kprobe and uprobe programs get it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Registers {
    words: [u64; Registers::COUNT],
}

/// Registers that hold arguments of functions, in their order: rdi, rsi, rdx, rcx, r8, r9.
const ARGS: [usize; 6] = [14, 13, 12, 11, 9, 8];
/// Those of system calls, whose fourth is in r10.
const SYSCALL_ARGS: [usize; 6] = [14, 13, 12, 7, 9, 8];
/// By the order in the struct.
const NAMES: [&str; Registers::COUNT] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
    "orig_rax", "rip", "cs", "eflags", "rsp", "ss",
];

const AX: usize = 10;
const ORIG_AX: usize = 15;
const IP: usize = 16;
const SP: usize = 19;

impl Registers {
    const COUNT: usize = 21;
    /// Bytes of the struct.
    pub(crate) const SIZE: usize = Registers::COUNT * 8;
    /// Where the value is that a function returns.
    pub(crate) const AX_OFFSET: usize = AX * 8;

    /// All zero.
    pub fn new() -> Registers {
        Registers::default()
    }

    /// Sets a register by its name: `rip`, `rsp`, `rbp`, `rax`, `orig_rax`. Nothing happens for one that does not exist.
    pub fn with(mut self, name: &str, value: u64) -> Registers {
        let at = NAMES.iter().position(|known| *known == name);
        if let Some(word) = at.and_then(|at| self.words.get_mut(at)) {
            *word = value;
        }
        self
    }

    /// The register of a name.
    pub fn get(&self, name: &str) -> Option<u64> {
        let at = NAMES.iter().position(|known| *known == name)?;
        self.words.get(at).copied()
    }

    fn set(&mut self, at: usize, value: u64) {
        if let Some(word) = self.words.get_mut(at) {
            *word = value;
        }
    }

    /// Where the register of an argument of a function is, for the first six.
    pub(crate) fn argument_offset(at: usize) -> Option<u16> {
        ARGS.get(at).and_then(|word| u16::try_from(word * 8).ok())
    }

    /// Puts the first six arguments of a function into their registers.
    pub(crate) fn set_args(&mut self, args: &[u64]) {
        for (at, value) in ARGS.into_iter().zip(args) {
            self.set(at, *value);
        }
    }

    /// Puts the arguments of a system call into their registers.
    pub(crate) fn set_syscall(&mut self, number: u64, args: &[u64]) {
        for (at, value) in SYSCALL_ARGS.into_iter().zip(args) {
            self.set(at, *value);
        }
        self.set(ORIG_AX, number);
    }

    pub(crate) fn set_returned(&mut self, value: u64) {
        self.set(AX, value);
    }

    pub(crate) fn set_ip(&mut self, value: u64) {
        self.set(IP, value);
    }

    pub(crate) fn set_sp(&mut self, value: u64) {
        self.set(SP, value);
    }

    pub(crate) fn ip(&self) -> u64 {
        self.words[IP] // one of 21
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}
