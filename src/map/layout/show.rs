//! Two layouts side by side.

use std::fmt;

use skep_btf::{Btf, Kind, TypeId};

use super::btf;
use super::compare::Differs;
use super::{Layout, LayoutKind};

/// How deep members are listed.
const MAX_DEPTH: u32 = 8;
/// Lines that are made of one type.
const MAX_LINES: usize = 1024;
/// Lines that are printed before and after the one that differs.
const AROUND: usize = 16;

/// How a Rust type and a type of BTF differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayoutMismatch {
    /// The type of BTF, as C has it.
    pub c_type: String,
    /// Its size in bytes.
    pub c_size: usize,
    /// The Rust type.
    pub rust_type: String,
    /// Its size in bytes.
    pub rust_size: usize,
    /// Offset in bytes of the first difference.
    pub offset: usize,
    /// What differs there.
    pub reason: String,
    /// Both layouts, in the order of offsets; of arrays of structs, the first element. Not all lines of types with
    /// very many members.
    pub lines: Vec<LayoutLine>,
}

/// What two types have at one offset.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayoutLine {
    /// Offset in bytes.
    pub offset: usize,
    /// Size in bytes and declaration of the member of BTF.
    pub c: Option<(usize, String)>,
    /// Size in bytes and declaration of the Rust field.
    pub rust: Option<(usize, String)>,
    /// Whether the types differ from here on.
    pub differs: bool,
}

impl fmt::Display for LayoutMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "at offset {}, {}", self.offset, self.reason)?;
        let mark = self.lines.iter().position(|line| line.differs).unwrap_or(0);
        let (first, last) = (mark.saturating_sub(AROUND), mark.saturating_add(AROUND));
        let shown = || self.lines.iter().take(last.saturating_add(1)).skip(first);
        let text = |side: &Option<(usize, String)>| side.as_ref().map_or(0, |(_, text)| text.chars().count());
        let digits =
            |side: &Option<(usize, String)>| side.as_ref().map_or(0, |(size, _)| size.to_string().len());
        let sizes = |digits: usize| digits.max("size".len());
        let c_digits = sizes(shown().map(|line| digits(&line.c)).max().unwrap_or(0));
        let rust_digits = sizes(shown().map(|line| digits(&line.rust)).max().unwrap_or(0));
        let width = shown().map(|line| text(&line.c)).chain([self.c_type.chars().count()]).max().unwrap_or(0);
        write!(f, "    offset  {:>c_digits$}  {:width$}", "size", self.c_type)?;
        write!(f, "  {:>rust_digits$}  {}", "size", self.rust_type)?;
        if first > 0 {
            write!(f, "\n       ...")?;
        }
        for line in shown() {
            let mark = if line.differs { '>' } else { ' ' };
            let side = |side: &Option<(usize, String)>| match side {
                Some((size, text)) => (size.to_string(), text.clone()),
                None => (String::new(), String::new()),
            };
            let ((c_size, c), (rust_size, rust)) = (side(&line.c), side(&line.rust));
            let c = format!("{c_size:>c_digits$}  {c:width$}");
            let row = format!("  {mark} {:>6}  {c}  {rust_size:>rust_digits$}  {rust}", line.offset);
            write!(f, "\n{}", row.trim_end())?;
        }
        if last.saturating_add(1) < self.lines.len() {
            write!(f, "\n       ...")?;
        }
        Ok(())
    }
}

pub(super) fn mismatch(btf: &Btf, id: TypeId, layout: &'static Layout, differs: Differs) -> LayoutMismatch {
    let mut c = Vec::new();
    c_lines(btf, id, 0, "", MAX_DEPTH, &mut c);
    let mut rust = Vec::new();
    rust_lines(layout, 0, "", MAX_DEPTH, &mut rust);
    LayoutMismatch {
        c_type: btf::type_name(btf, id),
        c_size: btf::size(btf, id),
        rust_type: layout.type_name(),
        rust_size: layout.size,
        offset: differs.at,
        reason: differs.why,
        lines: merge(c, rust, differs.at),
    }
}

type Line = (usize, usize, String);

/// Both in the order of offsets; what begins at the same place shares a line.
fn merge(c: Vec<Line>, rust: Vec<Line>, at: usize) -> Vec<LayoutLine> {
    let (mut c, mut rust) = (c, rust);
    c.sort_by_key(|line| line.0); // the arms of a union begin again
    rust.sort_by_key(|line| line.0);
    let (mut c, mut rust) = (c.into_iter().peekable(), rust.into_iter().peekable());
    let mut lines: Vec<LayoutLine> = Vec::new();
    while let Some(offset) = c.peek().into_iter().chain(rust.peek()).map(|line| line.0).min() {
        let strip = |(_, size, text): Line| (size, text);
        let c = c.next_if(|line| line.0 == offset).map(strip);
        let rust = rust.next_if(|line| line.0 == offset).map(strip);
        lines.push(LayoutLine { offset, c, rust, differs: false });
    }
    let first = lines.iter().position(|line| line.offset == at);
    let before = lines.iter().rposition(|line| line.offset < at);
    if let Some(line) = first.or(before).and_then(|nth| lines.get_mut(nth)) {
        line.differs = true;
    }
    lines
}

fn rust_lines(layout: &Layout, at: usize, prefix: &str, depth: u32, lines: &mut Vec<Line>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let LayoutKind::Struct(fields) = layout.kind else {
        if prefix.is_empty() {
            lines.push((at, layout.size, layout.type_name()));
        }
        return;
    };
    for field in fields {
        if lines.len() >= MAX_LINES {
            return;
        }
        let at = at.saturating_add(field.offset);
        let name = format!("{prefix}{}", field.name);
        match field.layout.kind {
            LayoutKind::Struct(inner) if !inner.is_empty() => {
                rust_lines(field.layout, at, &format!("{name}."), depth, lines);
            }
            _ => {
                lines.push((at, field.layout.size, format!("{name}: {}", field.layout.type_name())));
                if let LayoutKind::Array { element, .. } = field.layout.kind {
                    rust_lines(element, at, &format!("{name}[0]."), depth, lines);
                }
            }
        }
    }
}

fn c_lines(btf: &Btf, id: TypeId, at: usize, prefix: &str, depth: u32, lines: &mut Vec<Line>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let Ok(ty) = btf.peel(id) else { return };
    if !ty.kind().is_composite() && ty.kind() != Kind::DATASEC {
        if prefix.is_empty() {
            lines.push((at, btf::size(btf, id), btf::type_name(btf, id)));
        }
        return;
    }
    for member in btf::members(btf, &ty).into_iter().take(MAX_LINES) {
        if lines.len() >= MAX_LINES {
            return;
        }
        let at = at.saturating_add((member.start / 8) as usize);
        let name = format!("{prefix}{}", member.name);
        let inner = btf.peel(member.id).ok();
        let composite = inner.filter(|inner| inner.kind() == Kind::STRUCT && inner.vlen() > 0);
        if composite.is_some() && !member.bitfield {
            // An anonymous struct's members count as those of what holds it.
            let inner = if member.name.is_empty() { prefix.to_owned() } else { format!("{name}.") };
            c_lines(btf, member.id, at, &inner, depth, lines);
            continue;
        }
        let bits = member.end - member.start; // members have their places in order
        let size = bits.div_ceil(8) as usize;
        let mut text = format!("{} {name}", btf::type_name(btf, member.id));
        if member.bitfield {
            text.push_str(&format!(":{bits}"));
        }
        lines.push((at, size, text.trim_end().to_owned()));
        let (element, prefix) = match inner {
            Some(inner) if inner.kind() == Kind::UNION => (member.id, format!("{name}|")),
            Some(inner) => (inner.array().map_or(TypeId::VOID, |array| array.element), format!("{name}[0].")),
            None => continue,
        };
        if !element.is_void() {
            c_lines(btf, element, at, &prefix, depth, lines);
        }
    }
}
