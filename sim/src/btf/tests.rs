use skep_asm::Endian;
use skep_btf::{BtfBuilder, IntEncoding, Kind, Linkage, TypeId};
use skep_sys::Kernel;
use skep_sys::abi::Errno;
use skep_sys::request::LogBuffer;

/// `int`, a structure of two, a pointer to it, an alias of that, and a function that takes it.
fn bytes() -> Vec<u8> {
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let point = builder.add_struct("point", 8).unwrap();
    builder.add_member("x", int, 0, 0).unwrap();
    builder.add_member("y", int, 32, 0).unwrap();
    let pointer = builder.add_ptr(point).unwrap();
    let alias = builder.add_typedef("alias", pointer).unwrap();
    let prototype = builder.add_func_proto(TypeId::VOID).unwrap();
    builder.add_param("at", alias).unwrap();
    builder.add_func("draw", Linkage::STATIC, prototype).unwrap();
    builder.add_modifier(Kind::CONST, int).unwrap();
    builder.encode(Endian::NATIVE, false)
}

fn load(bytes: &[u8]) -> (Result<(), Errno>, String) {
    let mut log = LogBuffer::new(1, 1 << 12);
    let result = Kernel::new(crate::SimKernel::new()).btf_load(bytes, Some(&mut log)).map(drop);
    (result, log.text().lines().last().unwrap_or_default().to_owned())
}

/// What Linux 6.18 says when one word is another.
#[test]
fn what_is_wrong_is_said() {
    let types = 24;
    let (point, pointer, alias) = (types + 16, types + 16 + 36, types + 16 + 36 + 12);
    let (prototype, function) = (alias + 12, alias + 12 + 20);
    let cases: &[(usize, u32, Errno, &str)] = &[
        (0, 0x1_eb9e, Errno::EINVAL, "Invalid magic"),
        (0, 0x2_eb9f, Errno::ENOTSUPP, "Unsupported version"),
        (0, 0x101_eb9f, Errno::ENOTSUPP, "Unsupported flags"),
        (4, 400, Errno::EINVAL, "btf_header not found"),
        (16, 0, Errno::EINVAL, "Section overlap found"),
        (
            types + 8,
            2,
            Errno::EINVAL,
            "[1] INT int size=2 bits_offset=0 nr_bits=32 encoding=SIGNED nr_bits exceeds type_size",
        ),
        (
            types + 12,
            0x800_0020,
            Errno::ENOTSUPP,
            "[1] INT int size=4 bits_offset=0 nr_bits=32 encoding=UNKN Unsupported encoding",
        ),
        (point + 8, 7, Errno::EINVAL, "\ty type_id=1 bits_offset=32 Member exceeds struct_size"),
        (point + 16, 99, Errno::EINVAL, "\tx type_id=99 bits_offset=0 Invalid member"),
        (point + 20, 64, Errno::EINVAL, "\ty type_id=1 bits_offset=32 Invalid member bits_offset"),
        (pointer + 8, 4, Errno::EEXIST, "[3] PTR (anon) type_id=4 Loop detected"),
        (pointer + 8, 99, Errno::EINVAL, "[3] PTR (anon) type_id=99 Invalid type_id"),
        (alias + 4, 0x1f00_0000, Errno::EINVAL, "[4] Invalid kind:31"),
        (prototype + 16, 6, Errno::EINVAL, "[5] FUNC_PROTO (anon) return=0 args=(6 at) Invalid arg#1"),
        (function + 8, 1, Errno::EINVAL, "[6] FUNC draw type_id=1 Invalid type_id"),
    ];
    assert_eq!(load(&bytes()), (Ok(()), "[7] CONST (anon) type_id=1".to_owned()));
    for (at, value, errno, text) in cases {
        let mut bytes = bytes();
        bytes[*at..at + 4].copy_from_slice(&value.to_ne_bytes());
        assert_eq!(load(&bytes), (Err(*errno), (*text).to_owned()), "{value:#x} at {at}");
    }
}
