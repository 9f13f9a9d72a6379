use skep::asm::{Cond, Reg, Size};
use skep::sys::abi::{AttachType, Errno, ProgType};

use super::{Host, Script};

const NULL: (&str, (u32, u32)) = ("/dev/null", (1, 3));
const ZERO: (&str, (u32, u32)) = ("/dev/zero", (1, 5));

pub(super) fn devices(host: &dyn Host) {
    let mut script = Script::new(host, ProgType::CGROUP_DEVICE, AttachType::CGROUP_DEVICE);
    for (size, field) in [(Size::W, 0), (Size::H, 0), (Size::B, 0), (Size::W, 4), (Size::W, 8)] {
        script.note_field(size, field);
    }
    // Only the one is refused.
    let asm = script.builder.asm();
    asm.ldx(Size::W, Reg::R7, Reg::R6, 8).mov64_imm(Reg::R0, 1);
    asm.jmp64_imm(Cond::Ne, Reg::R7, 5, "end").mov64_imm(Reg::R0, 0).label("end").exit();
    let program = script.attach_as_is();
    let open = |(path, number), write| host.open_device(path, number, write);
    assert_eq!(open(NULL, false), Ok(()));
    assert_eq!(program.notes(), [2 << 16 | 2, 2, 2, 1, 3]);
    assert_eq!(open(NULL, true), Ok(()));
    assert_eq!(program.notes(), [6 << 16 | 2, 2, 2, 1, 3]);
    assert_eq!(open(ZERO, false), Err(Errno::EPERM));
    assert_eq!(program.notes(), [2 << 16 | 2, 2, 2, 1, 5]);
    drop(program);
    assert_eq!(open(ZERO, true), Ok(()));
}
