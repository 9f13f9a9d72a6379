//! Prints the types of a BTF file, as `bpftool btf dump file FILE format raw` does.
//!
//! ```sh
//! cargo run -p skep-btf --example dump -- /sys/kernel/btf/vmlinux
//! ```
#![allow(clippy::print_stdout)]

use std::io::Write;

use skep_btf::{Btf, Kind, Type};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: dump FILE")?;
    let btf = Btf::parse(std::fs::read(path)?)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for ty in btf.types() {
        print_type(&mut out, &ty)?;
    }
    Ok(out.flush()?)
}

fn or_anon(name: &str) -> &str {
    if name.is_empty() { "(anon)" } else { name }
}

fn print_type(out: &mut impl Write, ty: &Type<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let kind = ty.kind();
    write!(out, "{} {kind} '{}'", ty.id(), or_anon(&ty.name()))?;
    if let Some(int) = ty.int() {
        let encoding = match int.encoding.0 {
            0 => "(none)",
            1 => "SIGNED",
            2 => "CHAR",
            4 => "BOOL",
            _ => "UNKN",
        };
        write!(
            out,
            " size={} bits_offset={} nr_bits={} encoding={encoding}",
            ty.size(),
            int.offset,
            int.bits
        )?;
    } else if let Some(array) = ty.array() {
        write!(out, " type_id={} index_type_id={} nr_elems={}", array.element.0, array.index.0, array.len)?;
    } else if kind.is_composite() {
        write!(out, " size={} vlen={}", ty.size(), ty.vlen())?;
    } else if kind.is_enum() {
        let encoding = if ty.kind_flag() { "SIGNED" } else { "UNSIGNED" };
        write!(out, " encoding={encoding} size={} vlen={}", ty.size(), ty.vlen())?;
    } else if kind == Kind::FWD {
        write!(out, " fwd_kind={}", if ty.kind_flag() { "union" } else { "struct" })?;
    } else if kind == Kind::FUNC_PROTO {
        write!(out, " ret_type_id={} vlen={}", ty.type_id().0, ty.vlen())?;
    } else if kind == Kind::DATASEC {
        write!(out, " size={} vlen={}", ty.size(), ty.vlen())?;
    } else if kind == Kind::FLOAT {
        write!(out, " size={}", ty.size())?;
    } else {
        write!(out, " type_id={}", ty.type_id().0)?;
    }
    if let Some(linkage) = ty.linkage() {
        let comma = if kind == Kind::VAR { "," } else { "" };
        match linkage.known_name() {
            Some(name) => write!(out, "{comma} linkage={name}")?,
            None => write!(out, "{comma} linkage=(unknown)")?,
        }
    }
    if let Some(index) = ty.component_index() {
        write!(out, " component_idx={index}")?;
    }
    for m in ty.members() {
        write!(out, "\n\t'{}' type_id={} bits_offset={}", or_anon(&m.name()), m.type_id.0, m.bit_offset)?;
        if m.bitfield_size > 0 {
            write!(out, " bitfield_size={}", m.bitfield_size)?;
        }
    }
    for p in ty.params() {
        write!(out, "\n\t'{}' type_id={}", or_anon(&p.name()), p.type_id.0)?;
    }
    for e in ty.enumerators() {
        write!(out, "\n\t'{}' val={}", or_anon(&e.name()), e.c_value())?;
    }
    for v in ty.vars() {
        let var = ty.btf().ty(v.type_id)?;
        write!(out, "\n\ttype_id={} offset={} size={}", v.type_id.0, v.offset, v.size)?;
        write!(out, " ({} '{}')", var.kind(), or_anon(&var.name()))?;
    }
    Ok(writeln!(out)?)
}
