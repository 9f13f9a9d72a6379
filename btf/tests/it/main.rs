//! BTF as a user of the crate sees it.

mod check;
mod edit;
mod ext;
mod find;
mod header;
mod kernel;
mod kinds;
mod objects;
mod resolve;
mod sanitize;

use skep_asm::Endian;
use skep_btf::{Btf, BtfBuilder, BtfError, Type};

const BOTH: [Endian; 2] = [Endian::Little, Endian::Big];

/// A blob in pieces, for those that no builder makes.
#[derive(Clone)]
struct Raw {
    endian: Endian,
    header: usize,
    types: Vec<u32>,
    layout: Vec<u8>,
    strings: Vec<u8>,
}

impl Raw {
    fn new(types: &[u32], strings: &str) -> Self {
        let (types, strings) = (types.to_vec(), strings.as_bytes().to_vec());
        Self { endian: Endian::NATIVE, header: 24, types, layout: Vec::new(), strings }
    }

    fn layout(mut self, entries: &[(u8, u8, u8)]) -> Self {
        self.header = 32;
        self.layout = vec![0; 128 * 4];
        for &(kind, info, elem) in entries {
            self.layout[usize::from(kind) * 4] = info;
            self.layout[usize::from(kind) * 4 + 1] = elem;
        }
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let word = |value: u32| match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        };
        let (types, layout) = (self.types.len() * 4, self.layout.len());
        let magic = match self.endian {
            Endian::Little => [0x9f, 0xeb],
            Endian::Big => [0xeb, 0x9f],
        };
        let mut out = magic.to_vec();
        out.extend([1, 0]);
        let mut header = vec![self.header, 0, types, types + layout, self.strings.len()];
        if self.header >= 32 {
            header.extend([types, layout]);
        }
        out.extend(header.into_iter().flat_map(|value| word(value as u32)));
        out.resize(self.header, 0);
        out.extend(self.types.iter().flat_map(|&value| word(value)));
        out.extend(&self.layout);
        out.extend(&self.strings);
        out
    }

    fn parse(&self) -> Result<Btf, BtfError> {
        Btf::parse(self.bytes())
    }
}

/// An `info` word.
fn info(kind: u8, vlen: u32) -> u32 {
    u32::from(kind) << 24 | vlen
}

fn build(f: impl FnOnce(&mut BtfBuilder) -> Result<(), BtfError>) -> Btf {
    let mut builder = BtfBuilder::new();
    f(&mut builder).and_then(|()| builder.finish()).expect("the builder takes it")
}

/// Looks at everything that a BTF can be asked about types; returns something to depend on.
fn exercise<'a>(types: impl Iterator<Item = Type<'a>>) -> u64 {
    let mut seen = 0u64;
    for ty in types {
        let btf = ty.btf();
        seen += ty.name().len() as u64 + u64::from(ty.size()) + u64::from(ty.type_id().0);
        seen += ty.members().map(|m| m.name_bytes().len() as u64 + u64::from(m.bit_offset)).sum::<u64>();
        seen += ty.params().map(|p| p.name().len() as u64).sum::<u64>();
        seen += ty.enumerators().map(|e| e.name().len() as u64 + e.c_value() as u64 % 7).sum::<u64>();
        seen += ty.vars().map(|v| u64::from(v.offset)).sum::<u64>();
        seen += ty.referenced_types().count() as u64 + ty.referenced_strings().count() as u64;
        seen += u64::from(ty.array().is_some()) + u64::from(ty.int().is_some());
        seen += u64::from(ty.linkage().is_some()) + u64::from(ty.component_index().is_some());
        seen += u64::from(btf.peel(ty.id()).is_ok());
        seen += u64::from(btf.resolve_size(ty.id()).unwrap_or(1));
        seen += u64::from(btf.align_of(ty.id()).unwrap_or(1));
        assert_eq!(btf.ty(ty.id()).as_ref().map(|ty| ty.record()), Ok(ty.record()));
    }
    seen
}
