//! What the source-register field means in calls and 64-bit immediate loads.
//!
//! These are two separate sets of numbers: 1 is [`CALL`] in a call and [`MAP_FD`] in a 64-bit immediate load.

/// In a call: the immediate is the distance to a sub-program, in slots from the next instruction (`BPF_PSEUDO_CALL`).
pub const CALL: u8 = 1;
/// In a call: the immediate is the BTF id of a kernel function and the offset an index into the program's array of
/// BTF file descriptors, 0 for vmlinux (`BPF_PSEUDO_KFUNC_CALL`).
pub const KFUNC_CALL: u8 = 2;

/// In a 64-bit load: the immediate is a map's file descriptor (`BPF_PSEUDO_MAP_FD`).
pub const MAP_FD: u8 = 1;
/// In a 64-bit load: the low immediate is a map's file descriptor, the high one an offset into its value
/// (`BPF_PSEUDO_MAP_VALUE`).
pub const MAP_VALUE: u8 = 2;
/// In a 64-bit load: the low immediate is the BTF id of a kernel variable, the high one the file descriptor of its
/// module's BTF or 0 (`BPF_PSEUDO_BTF_ID`).
pub const BTF_ID: u8 = 3;
/// In a 64-bit load: the immediate is the distance to a sub-program, in slots from the next instruction counted as
/// if this one took a single slot (`BPF_PSEUDO_FUNC`).
pub const FUNC: u8 = 4;
/// In a 64-bit load: the immediate is an index into the program's `fd_array` (`BPF_PSEUDO_MAP_IDX`).
pub const MAP_IDX: u8 = 5;
/// In a 64-bit load: the low immediate is an index into the program's `fd_array`, the high one an offset into the
/// map's value (`BPF_PSEUDO_MAP_IDX_VALUE`).
pub const MAP_IDX_VALUE: u8 = 6;
