//! Whether types hang together (`btf_check_all_types`): that they lead to something, with a size where one is needed, and
//! not back to themselves.

use skep_btf::Kind;
use skep_sys::abi::Errno;

use super::check::{Checker, Record};

/// How many types may wait for another one (`MAX_RESOLVE_DEPTH`).
const DEPTH_MAX: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Visit {
    Not,
    Open,
    Done,
}

/// What the type that is being resolved is looked at for, which says where to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Undecided,
    Pointer,
    StructOrArray,
}

/// What is known of types, by id.
pub(super) struct Resolved {
    visits: Vec<Visit>,
    /// What each stands for in the end.
    ids: Vec<u32>,
    /// Sizes of arrays.
    sizes: Vec<u32>,
}

/// A type that waits for another one.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u32,
    next: u32,
}

struct Resolver<'c, 'a, 'log> {
    check: &'c mut Checker<'a, 'log>,
    known: Resolved,
    stack: Vec<Waiting>,
    mode: Mode,
}

/// What comes of looking at a type: it is done, or waits for another one.
type Step = Result<(), Errno>;

/// Checks all types.
pub(super) fn check_types(check: &mut Checker<'_, '_>) -> Result<(), Errno> {
    let count = check.types.len();
    let known = Resolved { visits: vec![Visit::Not; count], ids: vec![0; count], sizes: vec![0; count] };
    let mut resolver = Resolver { check, known, stack: Vec::new(), mode: Mode::Undecided };
    for id in 1..count as u32 {
        let ty = resolver.check.own(id);
        resolver.resolve_if_needed(id, &ty)?;
        if ty.kind() == Kind::FUNC_PROTO {
            resolver.check_prototype(id, &ty)?;
        }
    }
    Ok(())
}

impl Resolved {
    fn id(&self, id: u32) -> u32 {
        self.ids.get(id as usize).copied().unwrap_or(0)
    }

    fn is_done(&self, id: u32) -> bool {
        // `void` counts as one that is done.
        id == 0 || self.visits.get(id as usize) == Some(&Visit::Done)
    }

    /// The type behind aliases, and its size (`btf_type_id_size`).
    pub(super) fn sized(&self, check: &Checker<'_, '_>, id: u32) -> Option<(u32, Record, u32)> {
        let size = |id: u32, ty: &Record| match ty.kind() {
            Kind::ARRAY => self.sizes.get(id as usize).copied(),
            Kind::PTR => Some(8),
            Kind::INT
            | Kind::STRUCT
            | Kind::UNION
            | Kind::ENUM
            | Kind::DATASEC
            | Kind::FLOAT
            | Kind::ENUM64 => Some(ty.third),
            _ => None,
        };
        let ty = check.ty(id).filter(|ty| !ty.has_no_size())?;
        if let Some(bytes) = size(id, &ty) {
            return Some((id, ty, bytes));
        }
        let id = self.id(id);
        let ty = check.ty(id).filter(|ty| !ty.has_no_size())?;
        size(id, &ty).map(|bytes| (id, ty, bytes))
    }
}

impl Resolver<'_, '_, '_> {
    fn resolve_if_needed(&mut self, id: u32, ty: &Record) -> Result<(), Errno> {
        if ty.needs_resolve() && !self.known.is_done(id) { self.resolve(id, ty) } else { Ok(()) }
    }

    /// Resolves a type and all that it needs (`btf_resolve`).
    fn resolve(&mut self, id: u32, ty: &Record) -> Result<(), Errno> {
        self.mode = Mode::Undecided;
        self.stack.clear();
        let mut result = Ok(());
        // The first one was never visited, or it would be done.
        let _ = self.wait_for(id, ty);
        while result.is_ok()
            && let Some(waiting) = self.stack.last().copied()
        {
            let ty = self.check.own(waiting.id);
            result = self.step(waiting, &ty);
        }
        match result {
            Err(Errno::E2BIG) => {
                self.check.about(id, ty, format_args!("Exceeded max resolving depth:{DEPTH_MAX}"));
            }
            Err(Errno::EEXIST) => _ = self.check.about(id, ty, format_args!("Loop detected")),
            _ => {}
        }
        result?;
        if self.is_valid(id, ty) {
            return Ok(());
        }
        Err(self.check.about(id, ty, format_args!("Invalid resolve state")))
    }

    /// Whether a type came to what its kind comes to (`btf_resolve_valid`).
    fn is_valid(&self, id: u32, ty: &Record) -> bool {
        if !self.known.is_done(id) {
            return false;
        }
        let target = self.known.id(id);
        let size = self.known.sizes.get(id as usize).copied().unwrap_or(0);
        match ty.kind() {
            Kind::STRUCT | Kind::UNION | Kind::DATASEC => target == 0 && size == 0,
            Kind::DECL_TAG | Kind::FUNC => target != 0 && size == 0,
            Kind::ARRAY => {
                let (element, len) = (self.check.word(ty.rest), self.check.word(ty.rest + 8));
                self.known
                    .sized(self.check, element)
                    .is_some_and(|(_, ty, bytes)| !ty.is_modifier() && len.wrapping_mul(bytes) == size)
            }
            _ => self
                .check
                .ty(target)
                .is_some_and(|ty| !ty.is_modifier() && !matches!(ty.kind(), Kind::VAR | Kind::DATASEC)),
        }
    }

    /// Puts a type on the way (`env_stack_push`).
    fn wait_for(&mut self, id: u32, ty: &Record) -> Step {
        if self.stack.len() >= DEPTH_MAX {
            return Err(Errno::E2BIG);
        }
        match self.known.visits.get_mut(id as usize) {
            Some(visit) if *visit == Visit::Not => *visit = Visit::Open,
            _ => return Err(Errno::EEXIST),
        }
        self.stack.push(Waiting { id, next: 0 });
        if self.mode == Mode::Undecided {
            match ty.kind() {
                Kind::PTR => self.mode = Mode::Pointer,
                Kind::STRUCT | Kind::UNION | Kind::ARRAY => self.mode = Mode::StructOrArray,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a type ends the way (`env_type_is_resolve_sink`).
    fn is_sink(&self, ty: &Record) -> bool {
        match self.mode {
            Mode::Undecided => !ty.needs_resolve(),
            Mode::Pointer => !ty.is_modifier() && ty.kind() != Kind::PTR,
            Mode::StructOrArray => !ty.is_modifier() && ty.kind() != Kind::ARRAY && !ty.is_composite(),
        }
    }

    /// Whether a type has to be resolved first.
    fn is_open(&self, id: u32, ty: &Record) -> bool {
        !self.is_sink(ty) && !self.known.is_done(id)
    }

    /// Takes the last type off the way (`env_stack_pop_resolved`).
    fn done(&mut self, target: u32, size: u32) -> Step {
        if let Some(Waiting { id, .. }) = self.stack.pop() {
            let at = id as usize;
            let places = (self.known.ids.get_mut(at), self.known.sizes.get_mut(at));
            if let (Some(to), Some(bytes)) = places {
                (*to, *bytes) = (target, size);
            }
            if let Some(visit) = self.known.visits.get_mut(at) {
                *visit = Visit::Done;
            }
        }
        Ok(())
    }

    fn step(&mut self, waiting: Waiting, ty: &Record) -> Step {
        match ty.kind() {
            Kind::ARRAY => self.array(waiting.id, ty),
            Kind::STRUCT | Kind::UNION => self.composite(waiting, ty),
            Kind::DATASEC => self.section(waiting, ty),
            Kind::FUNC => self.function(waiting.id, ty),
            Kind::DECL_TAG => self.declaration(waiting.id, ty),
            _ => self.alias(waiting.id, ty),
        }
    }

    /// Modifiers, pointers and variables.
    fn alias(&mut self, id: u32, ty: &Record) -> Step {
        let target = ty.third;
        let Some(next) = self.check.ty(target).filter(|next| !next.is_source_only()) else {
            return Err(self.check.about(id, ty, format_args!("Invalid type_id")));
        };
        if self.is_open(target, &next) {
            return self.wait_for(target, &next);
        }
        // An alias may have been followed to a pointer only, which may lead back here.
        if !ty.is_modifier() && next.is_modifier() {
            let behind = self.known.id(target);
            if let Some(pointer) = self.check.ty(behind).filter(|ty| ty.kind() == Kind::PTR)
                && self.is_open(behind, &pointer)
            {
                return self.wait_for(behind, &pointer);
            }
        }
        if let Some((target, ..)) = self.known.sized(self.check, target) {
            return self.done(target, 0);
        }
        let target = if self.known.is_done(target) { self.known.id(target) } else { target };
        let behind = self.check.own(target);
        let nothing = matches!(behind.kind(), Kind(0) | Kind::FWD | Kind::FUNC_PROTO);
        if ty.kind() == Kind::VAR || !nothing {
            return Err(self.check.about(id, ty, format_args!("Invalid type_id")));
        }
        self.done(target, 0)
    }

    fn array(&mut self, id: u32, ty: &Record) -> Step {
        let [element, index, len] = [0, 4, 8].map(|place| self.check.word(ty.rest + place));
        let refuse =
            |resolver: &mut Self, text: &str| Err(resolver.check.about(id, ty, format_args!("{text}")));
        let usable = |resolver: &Self, id| {
            resolver.check.ty(id).filter(|ty| !ty.has_no_size() && !ty.is_source_only())
        };
        let Some(of_index) = usable(self, index) else { return refuse(self, "Invalid index") };
        if self.is_open(index, &of_index) {
            return self.wait_for(index, &of_index);
        }
        let sized = self.known.sized(self.check, index);
        if !sized.is_some_and(|(_, ty, _)| ty.kind() == Kind::INT && self.check.is_regular_int(&ty)) {
            return refuse(self, "Invalid index");
        }
        let Some(of_element) = usable(self, element) else { return refuse(self, "Invalid elem") };
        if self.is_open(element, &of_element) {
            return self.wait_for(element, &of_element);
        }
        let Some((target, of_element, size)) = self.known.sized(self.check, element) else {
            return refuse(self, "Invalid elem");
        };
        if of_element.kind() == Kind::INT && !self.check.is_regular_int(&of_element) {
            return refuse(self, "Invalid array of int");
        }
        match size.checked_mul(len) {
            Some(bytes) => self.done(target, bytes),
            None => refuse(self, "Array size overflows U32_MAX"),
        }
    }

    fn composite(&mut self, waiting: Waiting, ty: &Record) -> Step {
        let id = waiting.id;
        // The one that was waited for is looked at now.
        if let Some(last) = waiting.next.checked_sub(1) {
            let member = self.check.member(ty, last);
            self.check.check_member(&self.known, id, ty, member)?;
        }
        for index in waiting.next..ty.vlen() {
            let member = self.check.member(ty, index);
            let of_member = self.check.ty(member.type_id);
            let Some(of_member) = of_member.filter(|ty| !ty.has_no_size() && !ty.is_source_only()) else {
                return Err(self.check.about_member(id, ty, member, format_args!("Invalid member")));
            };
            if self.is_open(member.type_id, &of_member) {
                self.set_next(index + 1);
                return self.wait_for(member.type_id, &of_member);
            }
            self.check.check_member(&self.known, id, ty, member)?;
        }
        self.done(0, 0)
    }

    fn section(&mut self, waiting: Waiting, ty: &Record) -> Step {
        let id = waiting.id;
        self.mode = Mode::Undecided;
        for index in waiting.next..ty.vlen() {
            let var = self.check.section_var(ty, index);
            let [type_id, _, size] = var;
            let Some(of_var) = self.check.ty(type_id).filter(|ty| ty.kind() == Kind::VAR) else {
                return Err(self.check.about_var(id, ty, var, format_args!("Not a VAR kind member")));
            };
            if self.is_open(type_id, &of_var) {
                self.set_next(index + 1);
                return self.wait_for(type_id, &of_var);
            }
            let wrong = match self.known.sized(self.check, of_var.third) {
                None => "Invalid type",
                Some((_, _, needed)) if size < needed => "Invalid size",
                Some(_) => continue,
            };
            return Err(self.check.about_var(id, ty, var, format_args!("{wrong}")));
        }
        self.done(0, 0)
    }

    fn set_next(&mut self, next: u32) {
        if let Some(waiting) = self.stack.last_mut() {
            waiting.next = next;
        }
    }

    fn function(&mut self, id: u32, ty: &Record) -> Step {
        let Some(prototype) = self.check.ty(ty.third).filter(|ty| ty.kind() == Kind::FUNC_PROTO) else {
            return Err(self.check.about(id, ty, format_args!("Invalid type_id")));
        };
        for index in 0..prototype.vlen() {
            let (name, type_id) = self.check.param(&prototype, index);
            if name == 0 && type_id != 0 {
                return Err(self.check.about(id, ty, format_args!("Invalid arg#{}", index + 1)));
            }
        }
        self.done(ty.third, 0)
    }

    fn declaration(&mut self, id: u32, ty: &Record) -> Step {
        let target = self.check.ty(ty.third).filter(|target| {
            target.is_composite() || matches!(target.kind(), Kind::FUNC | Kind::VAR | Kind::TYPEDEF)
        });
        let Some(target) = target else {
            return Err(self.check.about(id, ty, format_args!("Invalid type_id")));
        };
        if self.is_open(ty.third, &target) {
            return self.wait_for(ty.third, &target);
        }
        let index = self.check.word(ty.rest);
        let parts = match target.kind() {
            Kind::VAR | Kind::TYPEDEF => 0,
            Kind::FUNC => self.check.own(target.third).vlen(),
            _ => target.vlen(),
        };
        if index != u32::MAX && index >= parts {
            return Err(self.check.about(id, ty, format_args!("Invalid component_idx")));
        }
        self.done(ty.third, 0)
    }

    /// `btf_func_proto_check`
    fn check_prototype(&mut self, id: u32, ty: &Record) -> Result<(), Errno> {
        if ty.third != 0 {
            let returned = self.check.ty(ty.third).filter(|ty| !ty.is_source_only());
            if let Some(returned) = &returned {
                self.resolve_if_needed(ty.third, returned)?;
            }
            if returned.is_none() || self.known.sized(self.check, ty.third).is_none() {
                return Err(self.check.about(id, ty, format_args!("Invalid return type")));
            }
        }
        let mut params = ty.vlen();
        if let Some(last) = params.checked_sub(1) {
            // What follows may be open.
            match self.check.param(ty, last) {
                (0, 0) => params = last,
                (_, 0) => return Err(self.check.about(id, ty, format_args!("Invalid arg#{params}"))),
                _ => {}
            }
        }
        for index in 0..params {
            let (name, type_id) = self.check.param(ty, index);
            let named = name == 0 || self.check.is_name(name) && self.check.is_identifier(name);
            let of_param = self.check.ty(type_id).filter(|ty| named && !ty.is_source_only());
            if let Some(of_param) = &of_param {
                self.resolve_if_needed(type_id, of_param)?;
            }
            if of_param.is_none() || self.known.sized(self.check, type_id).is_none() {
                return Err(self.check.about(id, ty, format_args!("Invalid arg#{}", index + 1)));
            }
        }
        Ok(())
    }
}
