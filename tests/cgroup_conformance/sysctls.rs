use skep::asm::{Reg, Size};
use skep::sys::abi::{AttachType, Errno, ProgType};

use super::{Host, Script, negative, ordered, sets_retval};

const NAME: i32 = 101;
const CURRENT: i32 = 102;
const NEW: i32 = 103;
const SET_NEW: i32 = 104;

/// A setting that a process may write without harm, since it has one of its own.
const SETTING: &str = "kernel/domainname";

fn script(host: &dyn Host) -> Script<'_> {
    Script::new(host, ProgType::CGROUP_SYSCTL, AttachType::CGROUP_SYSCTL)
}

/// Calls a helper with a buffer of 24 bytes on the stack, of which so many count, and notes what it answers and wrote.
fn call(script: &mut Script<'_>, helper: i32, len: i32, flags: i32) {
    for at in [-24, -16, -8] {
        script.stack(at, [0xee; 8]);
    }
    let asm = script.builder.asm();
    asm.mov64_reg(Reg::R1, Reg::R6).mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -24);
    asm.mov64_imm(Reg::R3, len).mov64_imm(Reg::R4, flags).call_helper(helper);
    script.note(Reg::R0).note_stack(-24).note_stack(-16);
}

fn bytes(text: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..text.len()].copy_from_slice(text);
    u64::from_ne_bytes(bytes)
}

const ANY: u64 = 0xeeee_eeee_eeee_eeee;

pub(super) fn reading(host: &dyn Host) {
    let mut script = script(host);
    script.note_field(Size::W, 0).note_field(Size::W, 4); // write, file_pos
    call(&mut script, NAME, 16, 0);
    call(&mut script, NAME, 16, 1);
    call(&mut script, NAME, 4, 1);
    call(&mut script, CURRENT, 16, 0);
    call(&mut script, CURRENT, 6, 0);
    call(&mut script, CURRENT, 4, 0);
    call(&mut script, NEW, 16, 0);
    // Nothing is written that could be exchanged.
    call(&mut script, SET_NEW, 4, 0);
    let program = script.attach(1);
    assert_eq!(host.sysctl("kernel/ostype"), Ok(b"Linux\n".to_vec()));
    let e2big = negative(Errno::E2BIG);
    let noted: [u64; 26] = program.notes();
    assert_eq!(noted[..2], [0, 0]);
    let rows: Vec<&[u64]> = noted[2..].chunks(3).collect();
    // What is behind a name is not said.
    let name = |words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.split(|byte| *byte == 0).next().unwrap().to_vec()
    };
    assert_eq!((rows[0][0], name(&rows[0][1..])), (13, b"kernel/ostype".to_vec()));
    assert_eq!((rows[1][0], name(&rows[1][1..])), (6, b"ostype".to_vec()));
    assert_eq!((rows[2][0], name(&rows[2][1..])), (e2big, b"ost".to_vec()));
    let behind = |text: &[u8]| {
        let mut bytes = [0xee; 8];
        bytes[..text.len()].copy_from_slice(text);
        u64::from_ne_bytes(bytes)
    };
    assert_eq!(rows[3], [6, bytes(b"Linux\n"), 0]);
    assert_eq!(rows[4], [e2big, behind(b"Linux\0"), ANY]);
    assert_eq!(rows[5], [e2big, behind(b"Lin\0"), ANY]);
    assert_eq!(rows[6], [negative(Errno::EINVAL), 0, 0]);
    assert_eq!(rows[7][0], negative(Errno::EINVAL));
    drop(program);

    // From further behind, and not at all.
    let mut script = self::script(host);
    let later = script.set_field(4, 3).attach(1);
    assert_eq!(host.sysctl("kernel/ostype"), Ok(b"ux\n".to_vec()));
    drop(later);
    let no = self::script(host).attach(0);
    assert_eq!(host.sysctl("kernel/ostype"), Err(Errno::EPERM));
    drop(no);
    if !sets_retval(host, "reading_settings") {
        return;
    }
    let mut script = self::script(host);
    let other = script.set_retval(-Errno::ENOSPC.0).attach(0);
    assert_eq!(host.sysctl("kernel/ostype"), Err(Errno::ENOSPC));
    drop(other);
}

pub(super) fn writing(host: &dyn Host) {
    host.set_sysctl(SETTING, b"one").unwrap();
    assert_eq!(host.sysctl(SETTING), Ok(b"one\n".to_vec()));
    let mut script = script(host);
    script.note_field(Size::W, 0);
    call(&mut script, CURRENT, 16, 0);
    call(&mut script, NEW, 16, 0);
    let program = script.attach(1);
    host.set_sysctl(SETTING, b"two").unwrap();
    assert_eq!(program.notes(), [1, 4, bytes(b"one\n"), 0, 3, bytes(b"two"), 0]);
    assert_eq!(host.sysctl(SETTING), Ok(b"two\n".to_vec()));
    drop(program);

    let set_new = |value: &[u8]| {
        let mut script = self::script(host);
        script.stack(-24, bytes(value).to_ne_bytes());
        let asm = script.builder.asm();
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -24);
        asm.mov64_imm(Reg::R3, value.len() as i32).call_helper(SET_NEW);
        script.note(Reg::R0);
        call(&mut script, NEW, 8, 0);
        script
    };
    let other = set_new(b"three").attach(1);
    host.set_sysctl(SETTING, b"x").unwrap();
    assert_eq!(other.notes(), [0, 5, bytes(b"three"), ANY]);
    let set = host.sysctl(SETTING);
    let new = set == Ok(b"three\n".to_vec());
    // Since programs can say what is answered, the new value was not taken, until that was found. Nothing but the value
    // tells, so kernels that are certainly newer are held to it.
    if !new && !ordered(host) {
        assert_eq!(set, Ok(b"x\n".to_vec()));
    } else {
        assert!(new, "{set:?}");
    }
    drop(other);
    // Who says no has it stay.
    let no = set_new(b"four").attach(0);
    assert_eq!(host.set_sysctl(SETTING, b"x"), Err(Errno::EPERM));
    drop(no);
    assert_eq!(host.sysctl(SETTING), set);
}
