//! Deciding the relocations of an object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;

use super::access::{Access, Work};
use super::decision::{Decision, MAX_REJECTED, MemSize, Outcome, Rejection, Target};
use super::error::{CoreError, CoreErrorKind, Side};
use super::find::find;
use super::target::{Candidate, CandidateSource, SkippedModule, TargetModule};
use super::types::same_kind;
use super::value::{Value, absent};
use crate::{Btf, BtfError, CoreRelo, CoreReloKind, IntEncoding, Kind, TypeId, essential_name};

/// Decides the CO-RE relocations of one object for one target.
///
/// Candidates are searched once for each type of the object and shared by all relocations of it, and a candidate that
/// lacks what one relocation finds in another is no candidate for those that follow. So the order matters: it is that
/// of the records in `.BTF.ext`, without those of programs that are left out, as in libbpf.
///
/// ```
/// use skep_asm::{Insn, Reg, opcode};
/// use skep_btf::relo::{Resolver, apply};
/// use skep_btf::{BtfBuilder, CoreRelo, CoreReloKind, IntEncoding};
///
/// // `struct pair { int b; };` in the object, `struct pair { int a, b; };` in the kernel.
/// let mut object = BtfBuilder::new();
/// let int = object.add_int("int", 4, IntEncoding::SIGNED)?;
/// let pair = object.add_struct("pair", 4)?;
/// object.add_member("b", int, 0, 0)?;
/// let access_str_off = object.add_str("0:0")?;
/// let mut kernel = BtfBuilder::new();
/// let int = kernel.add_int("int", 4, IntEncoding::SIGNED)?;
/// kernel.add_struct("pair", 8)?;
/// kernel.add_member("a", int, 0, 0)?;
/// kernel.add_member("b", int, 32, 0)?;
///
/// // r1 = *(u32 *)(r2 + 0)
/// let mut insns = [Insn::new(opcode::CLASS_LDX | opcode::MODE_MEM, Reg::R1, Reg::R2, 0, 0)];
/// let kind = CoreReloKind::FIELD_BYTE_OFFSET;
/// let relos = [CoreRelo { insn_off: 0, type_id: pair, access_str_off, kind }];
///
/// let mut resolver = Resolver::new(&object.finish()?, kernel.finish()?);
/// resolver.prepare(&relos)?;
/// for (index, relo) in relos.iter().enumerate() {
///     let decision = resolver.resolve(index, relo)?;
///     apply(&mut insns, relo.insn_off as usize / Insn::SIZE, &decision)?;
/// }
/// assert_eq!(insns[0].off, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Resolver<'s> {
    local: Btf,
    source: Box<dyn CandidateSource + 's>,
    vmlinux: Option<Btf>,
    modules: Option<Vec<TargetModule>>,
    skipped: Vec<SkippedModule>,
    /// By type of the object.
    candidates: HashMap<TypeId, Vec<Candidate>>,
    work: Work,
}

impl<'s> Resolver<'s> {
    /// A resolver for an object whose BTF is `local`. Nothing is asked of `source` yet.
    pub fn new(local: &Btf, source: impl CandidateSource + 's) -> Self {
        Resolver {
            local: local.clone(),
            source: Box::new(source),
            vmlinux: None,
            modules: None,
            skipped: Vec::new(),
            candidates: HashMap::new(),
            work: Work::new(),
        }
    }

    /// Searches the candidates of all these relocations in one pass over the target.
    ///
    /// Without it the results are the same and each new type costs a pass. Relocations that cannot be resolved are
    /// passed over; [`resolve`](Self::resolve) reports them.
    ///
    /// # Errors
    /// When the target has no BTF or it is malformed.
    pub fn prepare<'r>(
        &mut self,
        relos: impl IntoIterator<Item = &'r CoreRelo>,
    ) -> Result<(), CoreErrorKind> {
        let mut types = BTreeSet::new();
        for relo in relos {
            if relo.kind != CoreReloKind::TYPE_ID_LOCAL && !self.candidates.contains_key(&relo.type_id) {
                types.insert(relo.type_id);
            }
        }
        self.search(&types)
    }

    /// Modules that were not searched because their BTF is malformed.
    pub fn skipped_modules(&self) -> &[SkippedModule] {
        &self.skipped
    }

    /// Decides a relocation. `index` is its number, for error messages and the decision.
    ///
    /// # Errors
    /// When the relocation or BTF is malformed, candidates disagree, or there is no target.
    pub fn resolve(&mut self, index: usize, relo: &CoreRelo) -> Result<Decision, CoreError> {
        let mut work = mem::replace(&mut self.work, Work::new()).next();
        let decided = self.decide(index, relo, &mut work);
        self.work = work;
        decided.map_err(|reason| {
            // An access string that cannot be read leaves the type.
            let access = Access::parse(&self.local, relo)
                .unwrap_or_else(|_| Access::new(&self.local, Side::Local, relo.type_id, relo.kind));
            CoreError { index, insn: relo.insn_off / 8, access: access.to_string(), reason }
        })
    }

    fn decide(&mut self, index: usize, relo: &CoreRelo, work: &mut Work) -> Result<Decision, CoreErrorKind> {
        let insn_off = relo.insn_off;
        if !insn_off.is_multiple_of(8) {
            return Err(CoreErrorKind::Unaligned { insn_off });
        }
        let local = Access::parse_within(&self.local, relo, work)?;
        let endian = self.local.endian();
        let ours = local.value(endian, work)?;
        let mut decision = Decision {
            index,
            insn_off,
            local,
            target: None,
            local_value: ours.value,
            new_value: ours.value,
            outcome: Outcome::LocalOnly,
            validate: ours.validate,
            mem_size: None,
            candidates: 0,
            rejected: Vec::new(),
        };
        if relo.kind == CoreReloKind::TYPE_ID_LOCAL {
            return Ok(decision);
        }

        let candidates = self.candidates_of(relo.type_id)?;
        decision.candidates = candidates.len();
        let mut first: Option<(Access, Value)> = None;
        let mut matched = Vec::new();
        for (nth, candidate) in candidates.iter().enumerate() {
            let found = match find(&decision.local, &candidate.btf, candidate.id, work)? {
                Ok(found) => found,
                Err(mismatch) => {
                    if decision.rejected.len() < MAX_REJECTED {
                        decision.rejected.push(Rejection { candidate: candidate.clone(), mismatch });
                    }
                    continue;
                }
            };
            let theirs = found.value(endian, work)?;
            matched.push(nth);
            match &first {
                None => {
                    decision.target =
                        Some(Target { access: found.clone(), module: candidate.module.clone() });
                    first = Some((found, theirs));
                }
                Some((known, value)) => agree((known, value), (&found, &theirs))?,
            }
        }
        let Some((_, theirs)) = first else {
            (decision.outcome, decision.new_value) = match absent(relo.kind) {
                Some(value) => (Outcome::Absent, value),
                None => (Outcome::Poisoned, 0),
            };
            return Ok(decision);
        };
        if matched.len() < candidates.len() {
            let mut nth = 0;
            candidates.retain(|_| {
                let keep = matched.binary_search(&nth).is_ok();
                nth += 1;
                keep
            });
        }
        decision.outcome = Outcome::Resolved;
        decision.new_value = theirs.value;
        if relo.kind == CoreReloKind::FIELD_BYTE_OFFSET {
            let adjustable = ours.size == theirs.size
                || decision.target.as_ref().is_some_and(|target| {
                    adjustable(&self.local, ours.type_id, target.access.btf(), theirs.type_id)
                });
            decision.mem_size = Some(MemSize { local: ours.size, target: theirs.size, adjustable });
        }
        Ok(decision)
    }

    fn candidates_of(&mut self, id: TypeId) -> Result<&mut Vec<Candidate>, CoreErrorKind> {
        let malformed = |source| CoreErrorKind::Btf { side: Side::Local, source };
        if !self.candidates.contains_key(&id) {
            let ty = self.local.ty(id).map_err(malformed)?;
            if ty.name_bytes().is_empty() {
                return Err(CoreErrorKind::Anonymous { id, kind: ty.kind() });
            }
            self.search(&BTreeSet::from([id]))?;
        }
        // The search has just put it there unless the type does not exist.
        self.candidates
            .get_mut(&id)
            .ok_or_else(|| malformed(BtfError::NoSuchType { id, end: self.local.end_id() }))
    }

    /// Finds the candidates of these types of the object; those that are anonymous or do not exist are passed over.
    fn search(&mut self, types: &BTreeSet<TypeId>) -> Result<(), CoreErrorKind> {
        let local = self.local.clone();
        let named = |&id: &TypeId| {
            let ty = local.ty(id).ok()?;
            let name = essential_name(ty.name_bytes());
            (!name.is_empty()).then_some((id, ty.kind(), name))
        };
        let wanted: Vec<(TypeId, Kind, &[u8])> = types.iter().filter_map(named).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let vmlinux = match &self.vmlinux {
            Some(btf) => btf.clone(),
            None => {
                let btf = self.source.vmlinux().map_err(|source| CoreErrorKind::NoTarget { source })?;
                self.vmlinux.insert(btf).clone()
            }
        };
        // Split BTF that stands for a whole target is searched with what it is split from.
        let mut chain = vec![vmlinux];
        while let Some(base) = chain.last().and_then(|btf| btf.base()) {
            chain.push(base.clone());
        }
        let mut missing = wanted;
        let mut found = BTreeMap::new();
        for btf in chain.iter().rev() {
            let all = search_own(btf, &missing)
                .map_err(|source| CoreErrorKind::Btf { side: Side::Target, source })?;
            for ((id, ..), ids) in missing.iter().zip(all) {
                let ids = ids.into_iter().map(|id| Candidate { id, btf: btf.clone(), module: None });
                found.entry(*id).or_insert_with(Vec::new).extend(ids);
            }
        }
        missing.retain(|(id, ..)| found.get(id).is_none_or(Vec::is_empty));
        if !missing.is_empty() {
            self.search_modules(&missing, &mut found)?;
        }
        self.candidates.extend(found);
        Ok(())
    }

    fn search_modules(
        &mut self,
        missing: &[(TypeId, Kind, &[u8])],
        found: &mut BTreeMap<TypeId, Vec<Candidate>>,
    ) -> Result<(), CoreErrorKind> {
        if self.modules.is_none() {
            let modules = self.source.modules().map_err(|source| CoreErrorKind::NoTarget { source })?;
            self.modules = Some(modules);
        }
        for TargetModule { name, btf } in self.modules.iter().flatten() {
            match search_own(btf, missing) {
                Ok(all) => {
                    for ((id, ..), ids) in missing.iter().zip(all) {
                        let ids = ids.into_iter().map(|id| Candidate {
                            id,
                            btf: btf.clone(),
                            module: Some(name.clone()),
                        });
                        found.entry(*id).or_default().extend(ids);
                    }
                }
                Err(error) => {
                    if !self.skipped.iter().any(|skipped| skipped.name == *name) {
                        self.skipped.push(SkippedModule { name: name.clone(), error });
                    }
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Resolver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("local", &self.local)
            .field("types", &self.candidates.len())
            .finish_non_exhaustive()
    }
}

/// For each wanted type the ids of the own types of `btf` with its essential name and its kind.
fn search_own(btf: &Btf, wanted: &[(TypeId, Kind, &[u8])]) -> Result<Vec<Vec<TypeId>>, BtfError> {
    // Flavours share a name.
    let mut names: Vec<&[u8]> = wanted.iter().map(|&(.., name)| name).collect();
    names.sort_unstable();
    names.dedup();
    let by_name = btf.candidates(&names)?;
    let of_kind = |kind: Kind, ids: &[TypeId]| -> Vec<TypeId> {
        let same = |id: &&TypeId| btf.ty(**id).is_ok_and(|ty| same_kind(ty.kind(), kind));
        ids.iter().filter(same).copied().collect()
    };
    let ids = |&(_, kind, name): &(TypeId, Kind, &[u8])| {
        let nth = names.binary_search(&name).ok();
        nth.and_then(|nth| by_name.get(nth)).map_or_else(Vec::new, |ids| of_kind(kind, ids))
    };
    Ok(wanted.iter().map(ids).collect())
}

/// All candidates that match must lead to the same place and value.
fn agree(first: (&Access, &Value), second: (&Access, &Value)) -> Result<(), CoreErrorKind> {
    let ((a, x), (b, y)) = (first, second);
    if a.bit_offset() != b.bit_offset() {
        return Err(CoreErrorKind::AmbiguousOffset {
            first: a.type_id(),
            first_bit: a.bit_offset(),
            second: b.type_id(),
            second_bit: b.bit_offset(),
        });
    }
    if x.value != y.value {
        return Err(CoreErrorKind::AmbiguousValue {
            first: a.type_id(),
            first_value: x.value,
            second: b.type_id(),
            second_value: y.value,
        });
    }
    Ok(())
}

/// Whether an access to a field may change its size: what a register gets from a pointer or an unsigned integer is
/// extended with zeros, whatever its size.
fn adjustable(local: &Btf, ours: TypeId, target: &Btf, theirs: TypeId) -> bool {
    let (Ok(a), Ok(b)) = (local.ty(ours), target.ty(theirs)) else { return false };
    if a.kind() == Kind::PTR && b.kind() == Kind::PTR {
        return true;
    }
    // As libbpf: exactly the signed bit, so that a signed character passes.
    let zero_extends = |ty: &crate::Type<'_>| ty.int().is_some_and(|int| int.encoding != IntEncoding::SIGNED);
    zero_extends(&a) && zero_extends(&b)
}
