//! What single types may look like (`btf_check_all_metas`).

use skep_btf::Kind;
use skep_sys::abi::Errno;

use super::check::{Checker, Record};
use crate::features::Features;

/// Bytes of what every type has.
const RECORD: usize = 12;
/// The bits of a type's kind, flag and count.
const INFO: u32 = 0x9f00_ffff;
/// Largest id of a type (`BTF_MAX_TYPE`).
const TYPE_MAX: u32 = 0xf_ffff;
/// Bits of the largest integer.
const BITS_MAX: u32 = 128;

impl Checker<'_, '_> {
    /// Checks each type by itself, and finds where it is.
    pub(super) fn check_metas(&mut self) -> Result<(), Errno> {
        let mut at = self.types_at;
        while at < self.types_end {
            let id = self.types.len() as u32; // ids are fewer than the bytes, which are 16 MiB at most
            let rest = self.check_meta(id, at)?;
            if id > TYPE_MAX {
                self.say(format_args!("Exceeded max num of types"));
                return Err(Errno::E2BIG);
            }
            at += RECORD + rest;
        }
        Ok(())
    }

    /// Checks a type, and answers the length of its other parts.
    fn check_meta(&mut self, id: u32, at: usize) -> Result<usize, Errno> {
        let left = self.types_end - at; // it begins before the end
        if left < RECORD {
            return Err(self.refuse(format_args!("[{id}] meta_left:{left} meta_needed:{RECORD}")));
        }
        let (name, info, third) = (self.word(at), self.word(at + 4), self.word(at + 8));
        let ty = Record { rest: at + RECORD, name, info, third };
        if info & !INFO != 0 {
            return Err(self.refuse(format_args!("[{id}] Invalid btf_info:{info:x}")));
        }
        let kind = ty.kind();
        if kind == Kind(0) || kind > Kind::LAST || !self.features.contains(needed(kind)) {
            return Err(self.refuse(format_args!("[{id}] Invalid kind:{}", kind.0)));
        }
        if !self.is_name(name) {
            return Err(self.refuse(format_args!("[{id}] Invalid name_offset:{name}")));
        }
        let rest = match kind {
            Kind::INT | Kind::VAR | Kind::DECL_TAG => 4,
            Kind::ARRAY => 12,
            Kind::STRUCT | Kind::UNION | Kind::DATASEC | Kind::ENUM64 => ty.vlen() * 12,
            Kind::ENUM | Kind::FUNC_PROTO => ty.vlen() * 8,
            _ => 0,
        };
        let left = left - RECORD;
        if left < rest as usize {
            return Err(self.about_basic(id, &ty, format_args!("meta_left:{left} meta_needed:{rest}")));
        }
        self.types.push(ty);
        match kind {
            Kind::INT => self.check_int(id, &ty),
            Kind::ARRAY => self.check_array(id, &ty),
            Kind::STRUCT | Kind::UNION => self.check_members(id, &ty),
            Kind::ENUM | Kind::ENUM64 => self.check_enum(id, &ty),
            Kind::DATASEC => self.check_section(id, &ty),
            kind => {
                if let Some(text) = self.wrong(kind, &ty) {
                    return Err(self.about(id, &ty, format_args!("{text}")));
                }
                self.about(id, &ty, format_args!(""));
                Ok(())
            }
        }?;
        Ok(rest as usize)
    }

    /// The first of these that does not hold.
    fn expect(&mut self, id: u32, ty: &Record, rules: &[(bool, &str)]) -> Result<(), Errno> {
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, text)) => Err(self.about(id, ty, format_args!("{text}"))),
            None => Ok(()),
        }
    }

    /// Whether a name is none or one as C has them.
    fn is_optional_name(&self, name: u32) -> bool {
        name == 0 || self.is_identifier(name)
    }

    fn check_int(&mut self, id: u32, ty: &Record) -> Result<(), Errno> {
        self.expect(id, ty, &[(ty.vlen() == 0, "vlen != 0"), (!ty.flag(), FLAG)])?;
        let data = self.word(ty.rest);
        if data >> 28 != 0 {
            return Err(self.about_basic(id, ty, format_args!("Invalid int_data:{data:x}")));
        }
        let bits = (data & 0xff) + (data >> 16 & 0xff);
        self.expect(
            id,
            ty,
            &[
                (bits <= BITS_MAX, "nr_bits exceeds 128"),
                (bits.div_ceil(8) <= ty.third, "nr_bits exceeds type_size"),
            ],
        )?;
        if !matches!(data >> 24, 0 | 1 | 2 | 4) {
            self.about(id, ty, format_args!("Unsupported encoding"));
            return Err(Errno::ENOTSUPP);
        }
        self.about(id, ty, format_args!(""));
        Ok(())
    }

    fn check_array(&mut self, id: u32, ty: &Record) -> Result<(), Errno> {
        let (element, index) = (self.word(ty.rest), self.word(ty.rest + 4));
        self.expect(
            id,
            ty,
            &[
                (ty.name == 0, NAME),
                (ty.vlen() == 0, "vlen != 0"),
                (!ty.flag(), FLAG),
                (ty.third == 0, "size != 0"),
                (is_some_type(element), "Invalid elem"),
                (is_some_type(index), "Invalid index"),
            ],
        )?;
        self.about(id, ty, format_args!(""));
        Ok(())
    }

    fn check_members(&mut self, id: u32, ty: &Record) -> Result<(), Errno> {
        self.expect(id, ty, &[(self.is_optional_name(ty.name), NAME)])?;
        self.about(id, ty, format_args!(""));
        let mut last = 0;
        for index in 0..ty.vlen() {
            let member = self.member(ty, index);
            if !self.is_name(member.name) {
                let text = format_args!("Invalid member name_offset:{}", member.name);
                return Err(self.about_member(id, ty, member, text));
            }
            let offset = if ty.flag() { member.offset & 0xff_ffff } else { member.offset };
            let wrong = if !self.is_optional_name(member.name) {
                NAME
            } else if !is_some_type(member.type_id) {
                TYPE
            } else if ty.kind() == Kind::UNION && offset != 0 || last > offset {
                "Invalid member bits_offset"
            } else if offset.div_ceil(8) > ty.third {
                "Member bits_offset exceeds its struct size"
            } else {
                ""
            };
            let errno = self.about_member(id, ty, member, format_args!("{wrong}"));
            if !wrong.is_empty() {
                return Err(errno);
            }
            last = offset;
        }
        Ok(())
    }

    fn check_enum(&mut self, id: u32, ty: &Record) -> Result<(), Errno> {
        let flagged = ty.kind() == Kind::ENUM && ty.flag();
        self.expect(
            id,
            ty,
            &[
                (!flagged || self.features.contains(Features::BTF_ENUM64), FLAG),
                (ty.third <= 8 && ty.third.is_power_of_two(), "Unexpected size"),
                (self.is_optional_name(ty.name), NAME),
            ],
        )?;
        self.about(id, ty, format_args!(""));
        let wide = ty.kind() == Kind::ENUM64;
        for index in 0..ty.vlen() as usize {
            let at = ty.rest + index * if wide { 12 } else { 8 };
            let (name, low, high) = (self.word(at), self.word(at + 4), self.word(at + 8));
            if !self.is_name(name) {
                return Err(self.refuse(format_args!("\tInvalid name_offset:{name}")));
            }
            self.expect(id, ty, &[(name != 0 && self.is_identifier(name), NAME)])?;
            let value = u64::from(low) | u64::from(high) << 32;
            let name = String::from_utf8_lossy(self.string(name));
            match (wide, ty.flag()) {
                (false, true) => self.say(format_args!("\t{name} val={}\n", low.cast_signed())),
                (false, false) => self.say(format_args!("\t{name} val={low}\n")),
                (true, true) => self.say(format_args!("\t{name} val={}\n", value.cast_signed())),
                (true, false) => self.say(format_args!("\t{name} val={value}\n")),
            }
        }
        Ok(())
    }

    fn check_section(&mut self, id: u32, ty: &Record) -> Result<(), Errno> {
        let optional = self.string(ty.name).starts_with(b"?");
        self.expect(
            id,
            ty,
            &[
                (ty.third != 0, "size == 0"),
                (!ty.flag(), FLAG),
                (ty.name != 0 && self.is_section(ty.name), NAME),
                (!optional || self.features.contains(Features::BTF_QMARK_DATASEC), NAME),
            ],
        )?;
        self.about(id, ty, format_args!(""));
        let size = ty.third;
        let (mut end, mut sum) = (0, 0_u64);
        for index in 0..ty.vlen() {
            let var = self.section_var(ty, index);
            let [type_id, offset, len] = var;
            let next = u64::from(offset) + u64::from(len);
            let wrong = if !is_some_type(type_id) {
                TYPE
            } else if u64::from(offset) < end || offset >= size {
                "Invalid offset"
            } else if len == 0 || len > size {
                "Invalid size"
            } else if next > u64::from(size) {
                "Invalid offset+size"
            } else {
                ""
            };
            let errno = self.about_var(id, ty, var, format_args!("{wrong}"));
            if !wrong.is_empty() {
                return Err(errno);
            }
            end = next;
            sum += u64::from(len);
        }
        self.expect(id, ty, &[(u64::from(size) >= sum, "Invalid btf_info size")])
    }

    /// Type, offset and size of a variable of a section.
    pub(super) fn section_var(&self, ty: &Record, index: u32) -> [u32; 3] {
        let at = ty.rest + index as usize * 12;
        [self.word(at), self.word(at + 4), self.word(at + 8)]
    }

    /// What is wrong with a type of a kind that has no list.
    fn wrong(&self, kind: Kind, ty: &Record) -> Option<&'static str> {
        let named = ty.name != 0 && self.is_identifier(ty.name);
        let nothing = (true, "");
        let global = self.features.contains(Features::BTF_FUNC_GLOBAL);
        let rules = match kind {
            Kind::FWD => {
                [(ty.vlen() == 0, "vlen != 0"), (ty.third == 0, "type != 0"), (named, NAME), nothing]
            }
            Kind::FUNC_PROTO => [(ty.name == 0, NAME), (!ty.flag(), FLAG), nothing, nothing],
            Kind::FUNC => [
                (named, NAME),
                (global || ty.vlen() == 0, "vlen != 0"),
                (ty.vlen() <= 1, "Invalid func linkage"),
                (!ty.flag(), FLAG),
            ],
            Kind::VAR => {
                if ty.vlen() != 0 {
                    return Some("vlen != 0");
                }
                [
                    (!ty.flag(), FLAG),
                    (named, NAME),
                    (is_some_type(ty.third), TYPE),
                    (self.word(ty.rest) <= 1, "Linkage not supported"),
                ]
            }
            Kind::FLOAT => {
                let sized = matches!(ty.third, 2 | 4 | 8 | 12 | 16);
                [(ty.vlen() == 0, "vlen != 0"), (!ty.flag(), FLAG), (sized, "Invalid type_size"), nothing]
            }
            Kind::DECL_TAG => {
                let index = self.word(ty.rest).cast_signed();
                [
                    (!self.string(ty.name).is_empty(), "Invalid value"),
                    (ty.vlen() == 0, "vlen != 0"),
                    (index >= -1, "Invalid component_idx"),
                    nothing,
                ]
            }
            _ => {
                let name = match kind {
                    Kind::TYPEDEF => named,
                    Kind::TYPE_TAG => !self.string(ty.name).is_empty(),
                    _ => ty.name == 0,
                };
                [
                    (ty.vlen() == 0, "vlen != 0"),
                    (!ty.flag() || kind == Kind::TYPE_TAG, FLAG),
                    (ty.third <= TYPE_MAX, TYPE),
                    (name, NAME),
                ]
            }
        };
        rules.iter().find(|(holds, _)| !holds).map(|(_, text)| *text)
    }
}

const FLAG: &str = "Invalid btf_info kind_flag";
const NAME: &str = "Invalid name";
const TYPE: &str = "Invalid type_id";

/// Whether a number may be that of a type that is not `void`.
fn is_some_type(id: u32) -> bool {
    (1..=TYPE_MAX).contains(&id)
}

/// What a kernel must have learnt to know a kind.
fn needed(kind: Kind) -> Features {
    match kind {
        Kind::FUNC | Kind::FUNC_PROTO => Features::BTF_FUNC,
        Kind::VAR | Kind::DATASEC => Features::BTF_DATASEC,
        Kind::FLOAT => Features::BTF_FLOAT,
        Kind::DECL_TAG => Features::BTF_DECL_TAG,
        Kind::TYPE_TAG => Features::BTF_TYPE_TAG,
        Kind::ENUM64 => Features::BTF_ENUM64,
        _ => Features::empty(),
    }
}
