//! The header of BTF, and where its sections lie.

use skep_sys::abi::Errno;

use crate::features::Features;
use crate::log::Log;

/// Length of the header that every kernel knows.
const LEN: usize = 24;
const MAGIC: u16 = 0xeb9f;

/// The header, each number as it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) len: u32,
    pub(super) type_off: u32,
    pub(super) type_len: u32,
    pub(super) str_off: u32,
    pub(super) str_len: u32,
}

/// Checks the header (`btf_parse_hdr`). Answers none where it is one that this does not know and the kernel does.
pub(super) fn read(bytes: &[u8], features: Features, log: &mut Log<'_>) -> Result<Option<Header>, Errno> {
    let mut refuse = |text: &str, errno| {
        log.any(format_args!("{text}"));
        Err(errno)
    };
    let Some(len) = bytes.get(4..8).and_then(|len| len.first_chunk()).map(|len| u32::from_ne_bytes(*len))
    else {
        return refuse("hdr_len not found", Errno::EINVAL);
    };
    let Some(own) = bytes.get(..len as usize) else {
        return refuse("btf_header not found", Errno::EINVAL);
    };
    if own.iter().skip(LEN).any(|&byte| byte != 0) {
        if features.contains(Features::BTF_LAYOUT) {
            return Ok(None);
        }
        return refuse("Unsupported btf_header", Errno::E2BIG);
    }
    // What a short one does not have is zero, its length too.
    let mut words = [0_u8; LEN];
    let known = own.len().min(LEN);
    if let (Some(to), Some(from)) = (words.get_mut(..known), own.get(..known)) {
        to.copy_from_slice(from);
    }
    let word = |at: usize| {
        let bytes = words.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    };
    let [low, high, version, flags] = word(0).to_ne_bytes();
    let magic = u16::from_ne_bytes([low, high]);
    let len = word(4);
    let header = Header { len, type_off: word(8), type_len: word(12), str_off: word(16), str_len: word(20) };
    let Header { type_off, type_len, str_off, str_len, .. } = header;
    let size = bytes.len();
    log.any(format_args!(
        "magic: {magic:#x}\nversion: {version}\nflags: {flags:#x}\nhdr_len: {len}\ntype_off: {type_off}\n\
         type_len: {type_len}\nstr_off: {str_off}\nstr_len: {str_len}\nbtf_total_size: {size}\n"
    ));
    let mut refuse = |text: &str, errno| {
        log.any(format_args!("{text}"));
        Err(errno)
    };
    if magic != MAGIC {
        return refuse("Invalid magic", Errno::EINVAL);
    }
    if version != 1 {
        return refuse("Unsupported version", Errno::ENOTSUPP);
    }
    if flags != 0 {
        return refuse("Unsupported flags", Errno::ENOTSUPP);
    }
    if size == len as usize {
        return refuse("No data", Errno::EINVAL);
    }
    check_sections(header, size).map_or(Ok(Some(header)), |text| refuse(text, Errno::EINVAL))
}

/// Says what is wrong with gaps and overlaps, if something is (`btf_check_sec_info`).
fn check_sections(header: Header, size: usize) -> Option<&'static str> {
    let Header { len, type_off, type_len, str_off, str_len } = header;
    // As the kernel orders them: by differences, which have a sign.
    let mut sections = [(type_off, type_len), (str_off, str_len)];
    let difference = match type_off.wrapping_sub(str_off).cast_signed() {
        0 => type_len.wrapping_sub(str_len).cast_signed(),
        difference => difference,
    };
    if difference > 0 {
        sections.reverse();
    }
    let expected = size - len as usize; // the header is inside of it
    let mut total = 0;
    for (off, section) in sections.map(|(off, section)| (off as usize, section as usize)) {
        if expected < off {
            return Some("Invalid section offset");
        }
        if total < off {
            return Some("Unsupported section found");
        }
        if total > off {
            return Some("Section overlap found");
        }
        if expected - total < section {
            return Some("Total section length too long");
        }
        total += section;
    }
    (total != expected).then_some("Unsupported section found")
}
