//! BTF: views of any bytes stay within them, and checked types lead nowhere forever.

use skep::asm::Endian;
use skep::btf::relo::types_compatible;
use skep::btf::{
    Btf, BtfBuilder, BtfEdit, BtfError, KernelBtfFeatures, Kind, TypeId, essential_name, sanitize,
};

/// Everything can be walked, whether checked or not; copies and other byte orders say the same.
pub fn btf(data: &[u8]) {
    let Ok(btf) = Btf::parse(data.to_vec()) else { return };
    let again = Btf::parse(data.to_vec()).expect("parsed before");
    assert_eq!(btf, again);
    walk(&btf);
    find(&btf);
    let checked = btf.check();
    if checked.is_ok() {
        follow(&btf);
    }
    round_trip(&btf, checked.is_ok());
    for features in [KernelBtfFeatures::NONE, KernelBtfFeatures::ALL] {
        if let Ok(Some(bytes)) = sanitize(&btf, &features) {
            let clean = Btf::parse(bytes).expect("what skep writes, it reads");
            assert!(clean.len() >= btf.len());
        }
    }
    edit(&btf);
    split(data, &btf);
}

/// Reads all of every record through every accessor.
fn walk(btf: &Btf) {
    let mut next = btf.start_id();
    let mut bytes = 0;
    for ty in btf.types() {
        assert_eq!(ty.id(), next);
        assert_eq!(btf.ty(next).as_ref(), Ok(&ty));
        next = TypeId(next.0 + 1);
        bytes += ty.record().len();
        let _ = (ty.name(), ty.size(), ty.type_id(), ty.int(), ty.array(), ty.linkage());
        let _ = (ty.component_index(), ty.kind_flag(), format!("{ty:?}"));
        let members = ty.members().inspect(|member| drop(member.name())).count();
        assert_eq!(members, ty.members().len());
        if members > 0 {
            assert_eq!(members, ty.vlen() as usize);
            assert_eq!(ty.member(ty.vlen() - 1).map(|m| m.type_id), ty.members().last().map(|m| m.type_id));
            assert!(ty.member(ty.vlen()).is_none());
        }
        assert_eq!(ty.params().inspect(|param| _ = param.is_vararg()).count(), ty.params().len());
        assert_eq!(ty.enumerators().inspect(|value| _ = value.c_value()).count(), ty.enumerators().len());
        assert_eq!(ty.vars().count(), ty.vars().len());
        assert_eq!(ty.referenced_types().count() > 0, ty.referenced_types().next().is_some());
        let _ = ty.referenced_strings().filter(|&offset| btf.str_at(offset).is_ok()).count();
        // Bounded by themselves, whatever the types say.
        let _ = (btf.peel(ty.id()).is_ok(), btf.resolve_size(ty.id()), btf.align_of(ty.id()));
    }
    assert_eq!(next, btf.end_id());
    assert!(bytes <= btf.bytes().len());
    assert!(btf.ty(btf.end_id()).is_err());
    assert!(btf.ty(TypeId(u32::MAX)).is_err());
    let _ = btf.pointer_size();
}

/// A type is found by the name that it has, and so are its flavours.
fn find(btf: &Btf) {
    for ty in btf.types().take(8).filter(|ty| !ty.name_bytes().is_empty()) {
        let name = ty.name_bytes();
        if name == b"void" || ty.kind() == Kind::VOID {
            continue;
        }
        let found = btf.find(name, ty.kind()).expect("it is there");
        assert!(found <= ty.id());
        assert!(btf.find_any(name).is_some_and(|id| id <= found));
        assert!(btf.named(name).any(|other| other == ty));
        let essential = essential_name(name);
        if let Ok(found) = btf.candidates(&[essential])
            && !ty.kind().is_declaration()
            && !essential.is_empty()
        {
            assert!(found[0].contains(&ty.id()), "{ty:?} is no candidate of its own name");
        }
    }
}

/// Down by value or through pointers and aliases, a walk of checked types ends.
fn follow(btf: &Btf) {
    for ty in btf.types() {
        let mut at = ty;
        let mut steps = 0;
        while at.kind() == Kind::PTR || at.kind() == Kind::TYPEDEF || at.kind().is_modifier() {
            at = btf.ty(at.type_id()).expect("checked");
            steps += 1;
            assert!(steps <= btf.len(), "a loop behind {ty:?}");
        }
        if let Err(error) = btf.peel(ty.id()) {
            assert!(matches!(error, BtfError::TooDeep { .. }), "{error}");
        }
        let _ = types_compatible(btf, ty.id(), btf, ty.id());
    }
}

fn round_trip(btf: &Btf, checked: bool) {
    let builder = BtfBuilder::from_btf(btf);
    for (endian, layout) in [(Endian::Little, false), (Endian::Big, false), (Endian::Little, true)] {
        let bytes = builder.encode(endian, layout);
        let copy = Btf::parse(bytes).expect("what skep writes, it reads");
        assert_eq!(copy.len(), btf.len());
        assert_eq!(copy.check().is_ok(), checked);
        for (a, b) in btf.types().zip(copy.types()) {
            assert_eq!((a.kind(), a.vlen(), a.name_bytes()), (b.kind(), b.vlen(), b.name_bytes()));
            assert!(a.referenced_types().eq(b.referenced_types()));
            assert!(a.referenced_strings().eq(b.referenced_strings()));
        }
    }
    if !checked {
        return;
    }
    let mut copy = BtfBuilder::new();
    if btf.types().all(|ty| copy.add_copy(&ty, Ok).is_ok()) {
        let copy = copy.finish().expect("what skep writes, it reads");
        assert_eq!(copy.check(), Ok(()));
        assert!(btf.types().map(|ty| ty.name_bytes()).eq(copy.types().map(|ty| ty.name_bytes())));
    }
}

fn edit(btf: &Btf) {
    let mut edit = BtfEdit::new(btf);
    for ty in btf.types().take(16) {
        let _ = edit.set_size(ty.id(), 7);
        let _ = edit.set_type(ty.id(), TypeId(1));
        let vars: Vec<_> = ty.vars().collect();
        let _ = edit.set_datasec(ty.id(), 9, &vars);
    }
    assert_eq!(edit.finish().expect("records keep their shapes").len(), btf.len());
}

/// The same bytes again, split over themselves.
fn split(data: &[u8], base: &Btf) {
    let Ok(split) = Btf::parse_split(data.to_vec(), base) else { return };
    assert_eq!(split.len(), base.len());
    walk_split(&split);
    let _ = split.check();
}

fn walk_split(split: &Btf) {
    for ty in split.types() {
        assert_eq!(split.ty(ty.id()).as_ref(), Ok(&ty));
        let _ = (ty.name_bytes().len(), split.peel(ty.id()).is_ok(), split.resolve_size(ty.id()));
    }
    assert_eq!(split.end_id().0, split.start_id().0 + split.len() as u32);
}
