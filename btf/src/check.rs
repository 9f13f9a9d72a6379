//! Looking at all of a BTF at once.

use crate::{Btf, BtfError, Kind, StrOffset, Type, TypeId};

/// State of a type in the search for cycles.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

impl Btf {
    /// Checks everything that views would otherwise check when they are followed: that every string
    /// and type that a record refers to is there, that functions have prototypes, and that no type
    /// contains or aliases itself, so that whoever walks by value, or down a chain of pointers and
    /// aliases, arrives.
    ///
    /// Only the own types are looked at; those of the base are the base's matter. Time and memory
    /// are linear in the size of the BTF.
    ///
    /// # Errors
    /// The first thing that is wrong, with the id of the type.
    pub fn check(&self) -> Result<(), BtfError> {
        for ty in self.types() {
            self.check_references(&ty)?;
        }
        self.check_cycles(contained)?;
        self.check_cycles(pointed_at)
    }

    fn check_references(&self, ty: &Type<'_>) -> Result<(), BtfError> {
        let (end_id, end_str) = (self.end_id(), self.end_str());
        let (id, kind) = (ty.id(), ty.kind());
        let name = |offset: StrOffset| {
            if offset < end_str { Ok(()) } else { Err(BtfError::BadName { id, kind, offset }) }
        };
        let reference = |target: TypeId| {
            let reason = "there is no such type";
            if target < end_id { Ok(()) } else { Err(BtfError::BadReference { id, kind, target, reason }) }
        };
        name(ty.name_offset())?;
        reference(ty.type_id())?;
        match kind {
            Kind::STRUCT | Kind::UNION => ty
                .members()
                .try_for_each(|member| name(member.name_offset()).and_then(|()| reference(member.type_id))),
            Kind::FUNC_PROTO => ty
                .params()
                .try_for_each(|param| name(param.name_offset()).and_then(|()| reference(param.type_id))),
            Kind::ENUM | Kind::ENUM64 => ty.enumerators().try_for_each(|value| name(value.name_offset())),
            Kind::DATASEC => ty.vars().try_for_each(|var| reference(var.type_id)),
            Kind::ARRAY => ty.array().map_or(Ok(()), |array| {
                reference(array.element)?;
                reference(array.index)
            }),
            Kind::FUNC if self.ty(ty.type_id())?.kind() != Kind::FUNC_PROTO => {
                let (target, reason) = (ty.type_id(), "a function needs a prototype");
                Err(BtfError::BadReference { id, kind, target, reason })
            }
            _ => Ok(()),
        }
    }

    /// Depth-first search along `edge`, with a stack of its own. `edge(type, n)` is the `n`-th type
    /// that a type leads to.
    fn check_cycles(&self, edge: impl Fn(&Type<'_>, u32) -> Option<TypeId>) -> Result<(), BtfError> {
        let mut marks = vec![Mark::New; self.len()];
        let mut stack: Vec<(Type<'_>, u32)> = Vec::new();
        // Types of the base cannot lead back here.
        let slot = |id: TypeId| id.0.checked_sub(self.start_id().0).map(|nth| nth as usize);
        for root in self.types() {
            // Most types lead nowhere, or were met before.
            let seen = slot(root.id()).is_none_or(|nth| marks.get(nth) == Some(&Mark::Done));
            if seen || edge(&root, 0).is_none() {
                continue;
            }
            let mut enter = Some(root);
            loop {
                if let Some(ty) = enter.take()
                    && let Some(mark) = slot(ty.id()).and_then(|nth| marks.get_mut(nth))
                {
                    match mark {
                        Mark::Open => return Err(BtfError::Cycle { id: ty.id() }),
                        Mark::Done => {}
                        Mark::New => {
                            *mark = Mark::Open;
                            stack.push((ty, 0));
                        }
                    }
                }
                let Some((ty, next)) = stack.last_mut() else { break };
                match edge(ty, *next) {
                    Some(target) => {
                        *next += 1;
                        // Known to be done without looking at its record, as most are.
                        let done = slot(target).is_none_or(|nth| marks.get(nth) == Some(&Mark::Done));
                        if !done {
                            enter = Some(self.ty(target)?);
                        }
                    }
                    None => {
                        if let Some(mark) = slot(ty.id()).and_then(|nth| marks.get_mut(nth)) {
                            *mark = Mark::Done;
                        }
                        stack.pop();
                    }
                }
            }
        }
        Ok(())
    }
}

/// The types that a type is made of or stands for.
fn contained(ty: &Type<'_>, n: u32) -> Option<TypeId> {
    match ty.kind() {
        // A function leads to a prototype, and that nowhere.
        Kind::PTR | Kind::FUNC | Kind::FUNC_PROTO => None,
        Kind::ARRAY => {
            let array = ty.array()?;
            [array.element, array.index].get(n as usize).copied()
        }
        Kind::STRUCT | Kind::UNION => ty.member(n).map(|member| member.type_id),
        Kind::DATASEC => ty.vars().nth(n as usize).map(|var| var.type_id),
        kind if kind.has_type() && n == 0 => Some(ty.type_id()),
        _ => None,
    }
}

/// What a pointer or alias leads to, until something that is neither.
fn pointed_at(ty: &Type<'_>, n: u32) -> Option<TypeId> {
    let kind = ty.kind();
    let follows = kind == Kind::PTR || kind == Kind::TYPEDEF || kind.is_modifier();
    (follows && n == 0).then_some(ty.type_id())
}
