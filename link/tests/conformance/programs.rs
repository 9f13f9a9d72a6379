//! Small programs.

use skep_asm::{Assembler, AtomicOp, Insn, Reg, Size};
use skep_sys::abi::{AttachType, Errno, MapType, ProgType, UpdateFlags};
use skep_sys::request::{AttachTarget, LogBuffer, MapCreate, ProgLoad};
use skep_sys::{Kernel, LoadedProgram, MapFd};
use std::os::fd::{AsFd, AsRawFd};

/// A program that counts its runs.
pub(crate) struct Counter {
    pub(crate) prog: LoadedProgram,
    map: MapFd,
}

impl Counter {
    /// Loads one that answers `returns`.
    pub(crate) fn load(
        kernel: &Kernel,
        prog_type: ProgType,
        attach_type: AttachType,
        attach: AttachTarget<'_>,
        returns: i32,
    ) -> Counter {
        let load = Counter::try_load(kernel, prog_type, attach_type, attach, returns);
        load.unwrap_or_else(|(errno, log)| panic!("cannot load: {errno}\n{log}"))
    }

    /// As `load`, for a kernel that may have something against it: its errno and log.
    pub(crate) fn try_load(
        kernel: &Kernel,
        prog_type: ProgType,
        attach_type: AttachType,
        attach: AttachTarget<'_>,
        returns: i32,
    ) -> Result<Counter, (Errno, String)> {
        let map = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 8, 1)).unwrap();
        let insns = Assembler::new()
            .ld_map_value(Reg::R1, map.as_fd().as_raw_fd(), 0)
            .mov64_imm(Reg::R2, 1)
            .atomic(AtomicOp::Add, Size::DW, Reg::R1, 0, Reg::R2)
            .mov64_imm(Reg::R0, returns)
            .exit()
            .finish()
            .unwrap();
        let mut request = ProgLoad::new(prog_type, &insns, "GPL");
        request.name = "counter";
        request.expected_attach_type = attach_type;
        request.attach = attach;
        let mut log = LogBuffer::new(1, 1 << 16);
        match kernel.prog_load(&request, Some(&mut log)) {
            Ok(prog) => Ok(Counter { prog, map }),
            Err(errno) => Err((errno, log.text().into_owned())),
        }
    }

    pub(crate) fn value(&self) -> u64 {
        let mut value = [0; 8];
        self.map.lookup(&[0; 4], &mut value, UpdateFlags::empty()).unwrap();
        u64::from_ne_bytes(value)
    }
}

/// A program that no hook here takes.
pub(crate) fn socket_filter(kernel: &Kernel) -> LoadedProgram {
    let insns: Vec<Insn> = Assembler::new().mov64_imm(Reg::R0, 0).exit().finish().unwrap();
    let mut request = ProgLoad::new(ProgType::SOCKET_FILTER, &insns, "GPL");
    request.name = "other";
    kernel.prog_load(&request, None).unwrap()
}
