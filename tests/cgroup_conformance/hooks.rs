//! Programs of control groups at hooks of security.

use skep::asm::{Reg, Size};
use skep::sys::abi::{AttachType as A, Errno, ProgType};

use super::{Attached, Host, Script, at};

/// A program at a hook, with its context in `r6`.
fn script<'h>(host: &'h dyn Host, hook: &str) -> Script<'h> {
    let mut script = Script::new(host, ProgType::LSM, A::LSM_CGROUP);
    script.builder.attach_to(hook);
    script
}

/// A program that says yes and notes arguments.
fn observer<'h>(host: &'h dyn Host, hook: &str, args: &[i16]) -> Result<Attached<'h>, String> {
    let mut script = script(host, hook);
    for arg in args {
        script.note_field(Size::DW, arg * 8);
    }
    script.builder.asm().mov64_imm(Reg::R0, 1).exit();
    script.try_attach()
}

/// Programs see the arguments of a hook, and what they say together is what it answers.
pub(super) fn verdicts(host: &dyn Host) {
    let create = match observer(host, "socket_create", &[0, 1, 2, 3]) {
        Ok(create) => create,
        Err(reason) => return host.lacks("security", &reason),
    };
    assert_eq!(host.create(true), Ok(()));
    if create.notes() == [0; 4] {
        return host.lacks("security", "this kernel was started without the security module `bpf`");
    }
    assert_eq!(create.notes(), [2, 1, 6, 0]);
    assert_eq!(host.create(false), Ok(()));
    assert_eq!(create.notes(), [2, 2, 17, 0]);

    // One says no, and another one what is answered instead.
    let no = script(host, "socket_create").attach(0);
    create.clear();
    assert_eq!(host.create(true), Err(Errno::EPERM));
    assert_eq!(create.notes(), [2, 1, 6, 0]);
    let other = script(host, "socket_create").set_retval(-Errno::ENOSPC.0).attach(1);
    assert_eq!(host.create(true), Err(Errno::ENOSPC));
    // Processes that are in another group are not asked about.
    create.clear();
    host.outside(&mut || assert_eq!(host.create(true), Ok(())));
    assert_eq!(create.notes(), [0, 0, 0, 0]);
    drop((no, other));
    assert_eq!(host.create(true), Ok(()));

    // Another hook has programs of its own.
    let socket = host.socket(true).unwrap();
    let mut bind = script(host, "socket_bind");
    bind.note_field(Size::DW, 16);
    // `type` of a `struct socket`.
    let asm = bind.builder.asm();
    asm.ldx(Size::DW, Reg::R7, Reg::R6, 0).ldx(Size::H, Reg::R7, Reg::R7, 4);
    bind.note(Reg::R7);
    let bind = bind.attach(0);
    create.clear();
    assert_eq!(host.secure_bind(socket, at("127.0.0.1:0")), Err(Errno::EPERM));
    assert_eq!(bind.notes(), [16, 1]);
    // The group of the task counts, whatever that of the socket is.
    bind.clear();
    host.outside(&mut || assert_eq!(host.secure_bind(socket, at("127.0.0.1:0")), Ok(())));
    assert_eq!(bind.notes(), [0, 0]);
    assert_eq!(create.notes(), [0, 0, 0, 0]);
    drop((bind, create));
    assert_eq!(host.create(false), Ok(()));
}
