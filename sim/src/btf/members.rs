//! Whether members fit into their structures (`check_member` and `check_kflag_member` of each kind).

use skep_btf::Kind;
use skep_sys::abi::Errno;

use super::check::{Checker, Member, Record};
use super::resolve::Resolved;

const BITS_MAX: u32 = 128;

impl Checker<'_, '_> {
    /// Whether an integer fills whole bytes, as many as C has (`btf_type_int_is_regular`).
    pub(super) fn is_regular_int(&self, ty: &Record) -> bool {
        let data = self.word(ty.rest);
        let (offset, bits) = (data >> 16 & 0xff, data & 0xff);
        offset == 0 && matches!(bits, 8 | 16 | 32 | 64 | 128)
    }

    /// Checks a member whose type is known.
    pub(super) fn check_member(
        &mut self,
        known: &Resolved,
        id: u32,
        ty: &Record,
        member: Member,
    ) -> Result<(), Errno> {
        let own = self.own(member.type_id);
        let (member, of_member, size) = match known.sized(self, member.type_id) {
            Some((type_id, behind, size)) if own.is_modifier() => {
                (Member { type_id, ..member }, behind, size)
            }
            Some((_, _, size)) => (member, own, size),
            None => return Err(self.about_member(id, ty, member, format_args!("Invalid member"))),
        };
        let wrong = match of_member.kind() {
            Kind::INT => self.wrong_int(ty, member, &of_member),
            Kind::ENUM | Kind::ENUM64 if ty.flag() => wrong_enum(ty, member),
            _ if ty.flag() && member.offset >> 24 != 0 => Some("Invalid member bitfield_size"),
            Kind::FLOAT => wrong_float(ty, member, size),
            _ => wrong_bytes(ty, member, size),
        };
        match wrong {
            Some(text) => Err(self.about_member(id, ty, member, format_args!("{text}"))),
            None => Ok(()),
        }
    }

    fn wrong_int(&self, ty: &Record, member: Member, int: &Record) -> Option<&'static str> {
        let data = self.word(int.rest);
        let own = data & 0xff;
        let (start, bits) = if ty.flag() {
            if !self.is_regular_int(int) {
                return Some("Invalid member base type");
            }
            let (bits, start) = (member.offset >> 24, member.offset & 0xff_ffff);
            match bits {
                0 if start % 8 != 0 => return Some("Invalid member offset"),
                0 => (start, own),
                _ if bits > own => return Some("Invalid member bitfield_size"),
                _ => (start, bits),
            }
        } else {
            match member.offset.checked_add(data >> 16 & 0xff) {
                Some(start) => (start, own),
                None => return Some("bits_offset exceeds U32_MAX"),
            }
        };
        let copied = bits + start % 8;
        if copied > BITS_MAX {
            return Some("nr_copy_bits exceeds 128");
        }
        let left = ty.third.checked_sub(start / 8);
        if left.is_none_or(|left| left < copied.div_ceil(8)) { Some(EXCEEDS) } else { None }
    }
}

const EXCEEDS: &str = "Member exceeds struct_size";
const UNALIGNED: &str = "Member is not byte aligned";

/// Whole bytes: pointers, arrays, structures, and enumerations outside of bit fields.
fn wrong_bytes(ty: &Record, member: Member, size: u32) -> Option<&'static str> {
    if !member.offset.is_multiple_of(8) {
        return Some(UNALIGNED);
    }
    // No member begins behind the end.
    (ty.third.wrapping_sub(member.offset / 8) < size).then_some(EXCEEDS)
}

fn wrong_enum(ty: &Record, member: Member) -> Option<&'static str> {
    /// Bits of an `int`, which enumerations in bit fields are.
    const INT: u32 = 32;

    let (bits, start) = (member.offset >> 24, member.offset & 0xff_ffff);
    let bits = match bits {
        0 if start % 8 != 0 => return Some(UNALIGNED),
        0 => INT,
        _ if bits > INT => return Some("Invalid member bitfield_size"),
        _ => bits,
    };
    (ty.third < (start + bits).div_ceil(8)).then_some(EXCEEDS)
}

fn wrong_float(ty: &Record, member: Member, size: u32) -> Option<&'static str> {
    if !member.offset.is_multiple_of((size.min(8) * 8).max(1)) {
        return Some("Member is not properly aligned");
    }
    let end = u64::from(member.offset / 8) + u64::from(size);
    (end > u64::from(ty.third)).then_some(EXCEEDS)
}
