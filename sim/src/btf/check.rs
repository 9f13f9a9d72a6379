//! How a kernel looks at BTF that it is given (`btf_parse`): in its order, with its errnos and its words.

use std::borrow::Cow;
use std::fmt::Arguments;

use skep_btf::Kind;
use skep_sys::abi::Errno;

use super::header::{self, Header};
use super::resolve;
use crate::features::Features;
use crate::log::Log;

/// Longest chain of modifiers.
const CHAIN_MAX: u32 = 32;

/// How much of some BTF was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Checked {
    /// All of it.
    Whole,
    /// The header: what is behind it is as newer kernels have it.
    Header,
}

/// Checks BTF.
pub(super) fn check(bytes: &[u8], features: Features, log: &mut Log<'_>) -> Result<Checked, Errno> {
    let Some(header) = header::read(bytes, features, log)? else { return Ok(Checked::Header) };
    let mut checker = Checker::new(bytes, header, features, log)?;
    checker.check_metas()?;
    checker.resolving = true;
    resolve::check_types(&mut checker)?;
    checker.check_tags()?;
    Ok(Checked::Whole)
}

/// The fixed part of a type.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Record {
    /// Where its other parts begin.
    pub(super) rest: usize,
    pub(super) name: u32,
    pub(super) info: u32,
    /// Size or type.
    pub(super) third: u32,
}

impl Record {
    pub(super) fn kind(&self) -> Kind {
        Kind((self.info >> 24 & 0x1f) as u8) // five bits
    }

    pub(super) fn vlen(&self) -> u32 {
        self.info & 0xffff
    }

    pub(super) fn flag(&self) -> bool {
        self.info >> 31 != 0
    }

    pub(super) fn is_modifier(&self) -> bool {
        self.kind().is_modifier() || self.kind() == Kind::TYPEDEF
    }

    /// `btf_type_is_struct`
    pub(super) fn is_composite(&self) -> bool {
        matches!(self.kind(), Kind::STRUCT | Kind::UNION)
    }

    /// `btf_type_nosize`
    pub(super) fn has_no_size(&self) -> bool {
        matches!(self.kind(), Kind(0) | Kind::FWD | Kind::FUNC | Kind::FUNC_PROTO | Kind::DECL_TAG)
    }

    /// `btf_type_is_resolve_source_only`
    pub(super) fn is_source_only(&self) -> bool {
        matches!(self.kind(), Kind::VAR | Kind::DECL_TAG | Kind::DATASEC)
    }

    /// `btf_type_needs_resolve`
    pub(super) fn needs_resolve(&self) -> bool {
        let kind = self.kind();
        self.is_modifier()
            || self.is_composite()
            || matches!(
                kind,
                Kind::PTR | Kind::ARRAY | Kind::VAR | Kind::FUNC | Kind::DECL_TAG | Kind::DATASEC
            )
    }
}

/// A part of a structure or union, as it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) name: u32,
    pub(super) type_id: u32,
    pub(super) offset: u32,
}

/// BTF that is being checked.
pub(super) struct Checker<'a, 'log> {
    pub(super) bytes: &'a [u8],
    pub(super) types_at: usize,
    pub(super) types_end: usize,
    strings: &'a [u8],
    pub(super) features: Features,
    log: &'a mut Log<'log>,
    /// By id; the first is `void`.
    pub(super) types: Vec<Record>,
    /// Whether records as such were checked: then the log says of which type a part is.
    resolving: bool,
}

impl<'a, 'log> Checker<'a, 'log> {
    /// Looks where the sections are (`btf_parse_str_sec`, `btf_parse_type_sec`).
    fn new(
        bytes: &'a [u8],
        header: Header,
        features: Features,
        log: &'a mut Log<'log>,
    ) -> Result<Self, Errno> {
        /// Longest section of strings (`BTF_MAX_NAME_OFFSET`).
        const STRINGS_MAX: u32 = 0xff_ffff;

        let mut refuse = |text: &str| {
            log.any(format_args!("{text}"));
            Errno::EINVAL
        };
        let body = header.len as usize;
        let start = body + header.str_off as usize;
        let end = start + header.str_len as usize;
        if end != bytes.len() {
            return Err(refuse("String section is not at the end"));
        }
        let strings = bytes.get(start..end).unwrap_or_default();
        let closed = strings.first() == Some(&0) && strings.last() == Some(&0);
        if !closed || header.str_len - 1 > STRINGS_MAX {
            return Err(refuse("Invalid string section"));
        }
        if !header.type_off.is_multiple_of(4) {
            return Err(refuse("Unaligned type_off"));
        }
        if header.type_len == 0 {
            return Err(refuse("No type found"));
        }
        let types_at = body + header.type_off as usize;
        let types_end = types_at + header.type_len as usize;
        let types = vec![Record::default()];
        Ok(Checker { bytes, types_at, types_end, strings, features, log, types, resolving: false })
    }

    /// The word at a place; those that are asked for are there.
    pub(super) fn word(&self, at: usize) -> u32 {
        let bytes = self.bytes.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    /// `btf_type_by_id`
    pub(super) fn ty(&self, id: u32) -> Option<Record> {
        self.types.get(id as usize).copied()
    }

    /// The type being checked, which is there.
    pub(super) fn own(&self, id: u32) -> Record {
        self.ty(id).unwrap_or_default()
    }

    pub(super) fn member(&self, ty: &Record, index: u32) -> Member {
        let at = ty.rest + index as usize * 12;
        Member { name: self.word(at), type_id: self.word(at + 4), offset: self.word(at + 8) }
    }

    /// Name and type of a parameter.
    pub(super) fn param(&self, ty: &Record, index: u32) -> (u32, u32) {
        let at = ty.rest + index as usize * 8;
        (self.word(at), self.word(at + 4))
    }

    pub(super) fn is_name(&self, offset: u32) -> bool {
        (offset as usize) < self.strings.len()
    }

    /// The string at an offset; that of no offset is empty.
    pub(super) fn string(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// `btf_name_valid_identifier`, of a name that is not empty.
    pub(super) fn is_identifier(&self, offset: u32) -> bool {
        let is_start = |byte: u8| is_letter(byte) || matches!(byte, b'_' | b'.');
        let name = self.string(offset);
        let first = name.first().is_some_and(|&byte| is_start(byte));
        first && name.len() <= NAME_MAX && name.iter().all(|&byte| is_start(byte) || byte.is_ascii_digit())
    }

    /// `btf_name_valid_section`
    pub(super) fn is_section(&self, offset: u32) -> bool {
        let name = self.string(offset);
        let printable = |&byte: &u8| matches!(byte, b' '..=b'~' | 160..);
        !name.is_empty() && name.len() <= NAME_MAX && name.iter().all(printable)
    }

    fn shown(&self, offset: u32) -> Cow<'a, str> {
        match offset {
            0 => "(anon)".into(),
            _ if !self.is_name(offset) => "(invalid-name-offset)".into(),
            _ => String::from_utf8_lossy(self.string(offset)),
        }
    }

    /// Text as it is, without an end of the line.
    pub(super) fn say(&mut self, text: Arguments<'_>) {
        self.log.any(text);
    }

    /// Says what is wrong with the BTF, which ends no line.
    pub(super) fn refuse(&mut self, text: Arguments<'_>) -> Errno {
        self.say(text);
        Errno::EINVAL
    }

    /// Says what is wrong with a type, or nothing (`btf_verifier_log_type`).
    pub(super) fn about(&mut self, id: u32, ty: &Record, text: Arguments<'_>) -> Errno {
        if self.log.is_any() {
            self.head(id, ty, " ");
            self.details(ty);
            self.end(text);
        }
        Errno::EINVAL
    }

    /// The same without what is in it (`btf_verifier_log_basic`).
    pub(super) fn about_basic(&mut self, id: u32, ty: &Record, text: Arguments<'_>) -> Errno {
        if self.log.is_any() {
            self.head(id, ty, "");
            self.end(text);
        }
        Errno::EINVAL
    }

    /// Says what is wrong with a member, or nothing (`btf_verifier_log_member`).
    pub(super) fn about_member(
        &mut self,
        id: u32,
        ty: &Record,
        member: Member,
        text: Arguments<'_>,
    ) -> Errno {
        if !self.log.is_any() {
            return Errno::EINVAL;
        }
        if self.resolving {
            self.about(id, ty, format_args!(""));
        }
        let name = self.shown(member.name);
        let Member { type_id, offset, .. } = member;
        if ty.flag() {
            let (size, place) = (offset >> 24, offset & 0xff_ffff);
            self.say(format_args!("\t{name} type_id={type_id} bitfield_size={size} bits_offset={place}"));
        } else {
            self.say(format_args!("\t{name} type_id={type_id} bits_offset={offset}"));
        }
        self.end(text);
        Errno::EINVAL
    }

    /// Says what is wrong with a variable of a section, or nothing (`btf_verifier_log_vsi`).
    pub(super) fn about_var(
        &mut self,
        id: u32,
        ty: &Record,
        [var, offset, size]: [u32; 3],
        text: Arguments<'_>,
    ) -> Errno {
        if !self.log.is_any() {
            return Errno::EINVAL;
        }
        if self.resolving {
            self.about(id, ty, format_args!(""));
        }
        self.say(format_args!("\t type_id={var} offset={offset} size={size}"));
        self.end(text);
        Errno::EINVAL
    }

    fn head(&mut self, id: u32, ty: &Record, after: &str) {
        let name = self.shown(ty.name);
        let kind = match ty.kind() {
            Kind(0) => "UNKNOWN",
            kind => kind.known_name().unwrap_or("UNKNOWN"),
        };
        self.say(format_args!("[{id}] {kind} {name}{after}"));
    }

    fn end(&mut self, text: Arguments<'_>) {
        let text = text.to_string();
        let before = if text.is_empty() { "" } else { " " };
        self.say(format_args!("{before}{text}\n"));
    }

    /// What a kind shows of a type (`log_details`).
    fn details(&mut self, ty: &Record) {
        let (third, word) = (ty.third, |place| self.word(ty.rest + place));
        match ty.kind() {
            Kind::INT => {
                let data = word(0);
                let encoding = match data >> 24 & 15 {
                    0 => "(none)",
                    1 => "SIGNED",
                    2 => "CHAR",
                    4 => "BOOL",
                    _ => "UNKN",
                };
                let (offset, bits) = (data >> 16 & 0xff, data & 0xff);
                self.say(format_args!(
                    "size={third} bits_offset={offset} nr_bits={bits} encoding={encoding}"
                ));
            }
            Kind::ARRAY => {
                let [element, index, len] = [word(0), word(4), word(8)];
                self.say(format_args!("type_id={element} index_type_id={index} nr_elems={len}"));
            }
            Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 | Kind::DATASEC => {
                self.say(format_args!("size={third} vlen={}", ty.vlen()));
            }
            Kind::FWD => {
                let what = if ty.flag() { "union" } else { "struct" };
                self.say(format_args!("{what}"));
            }
            Kind::FUNC_PROTO => self.prototype(ty),
            Kind::VAR => {
                let linkage = word(0);
                self.say(format_args!("type_id={third} linkage={linkage}"));
            }
            Kind::FLOAT => self.say(format_args!("size={third}")),
            Kind::DECL_TAG => {
                let index = word(0).cast_signed();
                self.say(format_args!("type={third} component_idx={index}"));
            }
            Kind(0) => {}
            _ => self.say(format_args!("type_id={third}")),
        }
    }

    fn prototype(&mut self, ty: &Record) {
        self.say(format_args!("return={} args=(", ty.third));
        let params = ty.vlen();
        for index in 0..params {
            let (name, type_id) = self.param(ty, index);
            let name = self.shown(name);
            let comma = if index == 0 { "" } else { ", " };
            // What follows the last is not named.
            if index + 1 == params && type_id == 0 {
                self.say(format_args!("{comma}vararg"));
            } else {
                self.say(format_args!("{comma}{type_id} {name}"));
            }
        }
        self.say(format_args!("{}", if params == 0 { "void)" } else { ")" }));
    }

    /// Checks that tags of types come before all other modifiers, and that these end (`btf_check_type_tags`).
    fn check_tags(&mut self) -> Result<(), Errno> {
        // Up to here all chains are known to be good.
        let mut good = 0;
        for first in 1.. {
            let Some(mut ty) = self.ty(first) else { return Ok(()) };
            if !ty.is_modifier() {
                continue;
            }
            let (mut id, mut left) = (first, CHAIN_MAX);
            let mut in_tags = ty.kind() == Kind::TYPE_TAG;
            while ty.is_modifier() {
                if left == 0 {
                    self.say(format_args!("Max chain length or cycle detected"));
                    return Err(Errno::ELOOP);
                }
                left -= 1;
                if ty.kind() == Kind::TYPE_TAG {
                    if !in_tags {
                        return Err(self.refuse(format_args!("Type tags don't precede modifiers")));
                    }
                } else {
                    in_tags = false;
                }
                if id <= good {
                    break;
                }
                id = ty.third;
                ty = self.ty(id).ok_or(Errno::EINVAL)?;
            }
            good = first;
        }
        Ok(())
    }
}

/// Longest name of a symbol (`KSYM_NAME_LEN`).
const NAME_MAX: usize = 512;

/// The kernel's `isalpha`, which knows Latin-1.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 192 && !matches!(byte, 215 | 247)
}
