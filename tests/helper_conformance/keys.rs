use skep::asm::{Cond, Reg};
use skep::sys::abi::{Errno, ProgType};

use super::Arg::{Imm, Reg as R};
use super::{Script, World, has_functions, skip};

/// Keyrings that stand for themselves, and keys that there are not.
pub(super) fn keys(world: &World<'_>) {
    let names = ["bpf_lookup_user_key", "bpf_lookup_system_key", "bpf_key_put"];
    if !has_functions(world, "keys", &names) {
        return;
    }
    let mut script = Script::of(world, ProgType::SYSCALL);
    let ask = |script: &mut Script, function: &str, args: &[super::Arg<'_>]| {
        script.kfunc(function, args);
        script.builder.asm().mov64_reg(Reg::R6, Reg::R0);
        let (none, end) = (format!("none{}", script.noted), format!("end{}", script.noted));
        let asm = script.builder.asm();
        asm.mov64_imm(Reg::R7, 0).jmp64_imm(Cond::Eq, Reg::R6, 0, &*none).mov64_imm(Reg::R7, 1);
        script.kfunc("bpf_key_put", &[R(Reg::R6)]);
        script.builder.asm().ja(&*end).label(none).label(end);
        script.note_reg(Reg::R7);
    };
    const SESSION: i64 = -3;
    for (serial, flags) in [(SESSION, 0), (SESSION, 1), (SESSION, 4), (-4, 0), (0x7fff_fff1, 0), (-9, 0)] {
        ask(&mut script, "bpf_lookup_user_key", &[Imm(serial), Imm(flags)]);
    }
    for id in [0, 1, 2, 3] {
        ask(&mut script, "bpf_lookup_system_key", &[Imm(id)]);
    }
    script.exit(0);
    // Before Linux 6.18 only tracing programs may call them.
    let refused = script.builder.load(world.kernel).err();
    if refused.is_some_and(|error| error.errno() == Some(Errno::EACCES)) {
        return skip("keys", "this kernel lets no program that it runs by itself look up keys");
    }
    let noted = script.run();
    assert_eq!(noted, [1, 1, 0, 1, 0, 0, 1, 1, 1, 0]);
}
