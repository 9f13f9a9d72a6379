//! What a run holds and has to give back before it ends: locks, references, sections that cannot be left.
//!
//! The verifier refuses a program that does not give it back. Here the program is stopped where it shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skep_sys::abi::AttachType;

use super::refuse;
use crate::kernel::SimKernel;
use crate::vm::{Trap, Vm};
use crate::words::{narrow_any, widen_any};

/// How often a lock that another run holds is tried before the program is stopped.
const TRIES: u32 = 1 << 20;

/// Of how many resilient locks that it holds the kernel takes note (`RES_NR_HELD`).
const NOTED: usize = 31;

/// What helpers keep of a run.
#[derive(Debug, Default)]
pub(crate) struct Held {
    locks: Vec<Lock>,
    references: Vec<Reference>,
    /// How many sections are entered of each kind.
    sections: [u32; SECTIONS.len()],
    /// Buffers to be used again.
    buffers: Vec<Vec<u8>>,
    /// The cgroup that the program is attached to, and as what.
    cgroup: Option<(u64, AttachType)>,
    /// By map, the values that stand for those of cgroups in a test run.
    own_storage: Vec<(u64, u64)>,
    /// The mark of the timer whose callback runs.
    calling: Option<u64>,
    /// What the program threw.
    thrown: Option<u64>,
}

/// A lock that the run has taken.
#[derive(Debug)]
struct Lock {
    place: Place,
    kind: LockKind,
}

/// Kinds of locks, which are given back to where they come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LockKind {
    /// `bpf_spin_lock`.
    Spin,
    /// `bpf_res_spin_lock`.
    Resilient,
    /// `bpf_res_spin_lock_irqsave`.
    ResilientIrq,
}

/// The four bytes that a lock is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In shared words, `at` a multiple of 4.
    Words { words: Arc<[AtomicU64]>, at: usize },
    /// In an object that a program allocated.
    Object(u64),
}

/// Something that a helper gave to the program, which has to give it back.
#[derive(Debug)]
struct Reference {
    address: u64,
    what: &'static str,
    /// How it is given back.
    release: &'static str,
    drop: Option<DropFn>,
}

/// Gives something back for a program that did not.
pub(crate) type DropFn = fn(&mut Vm, u64);

/// Parts of a program that it enters and has to leave again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Section {
    /// `bpf_rcu_read_lock`.
    Rcu,
    /// `bpf_preempt_disable`.
    Preempt,
    /// `bpf_local_irq_save`.
    Irq,
}

/// Names of what enters and what leaves each section.
const SECTIONS: [(&str, &str); 3] = [
    ("bpf_rcu_read_lock", "bpf_rcu_read_unlock"),
    ("bpf_preempt_disable", "bpf_preempt_enable"),
    ("bpf_local_irq_save", "bpf_local_irq_restore"),
];

/// How taking a lock ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    Yes,
    /// This run holds it already.
    Own,
    /// Another run does not let go of it.
    Others,
}

impl Place {
    fn is(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Words { words, at }, Place::Words { words: others, at: place }) => {
                Arc::ptr_eq(words, others) && at == place
            }
            (Place::Object(address), Place::Object(other)) => address == other,
            _ => false,
        }
    }

    fn swap(&self, kernel: &SimKernel, from: u32, to: u32) -> bool {
        let (words, at) = match self {
            Place::Words { words, at } => (words, *at),
            Place::Object(address) => {
                let objects = &mut kernel.0.world().objects;
                let mut held = [0; 4];
                let is_so = objects.read(*address, &mut held).is_some() && u32::from_ne_bytes(held) == from;
                return is_so && objects.write(*address, &to.to_ne_bytes()).is_some();
            }
        };
        let Some(word) = words.get(at / 8) else { return false };
        let skip = at % 8;
        let swapped = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |word| {
            let mut bytes = word.to_ne_bytes();
            let part = bytes.get_mut(skip..skip + 4)?;
            if widen_any(part) != u64::from(from) {
                return None;
            }
            narrow_any(to.into(), part);
            Some(u64::from_ne_bytes(bytes))
        });
        swapped.is_ok()
    }
}

impl Held {
    /// Whether a spin lock is held, under which nothing else may be called.
    #[inline]
    pub(crate) fn locks_calls(&self) -> bool {
        !self.locks.is_empty()
    }

    pub(super) fn in_section(&self, section: Section) -> bool {
        self.sections.get(section as usize).is_some_and(|depth| *depth > 0)
    }

    pub(super) fn has_lock(&self) -> bool {
        !self.locks.is_empty()
    }

    /// The id of the cgroup that the program is attached to, and as what: none in a test run.
    pub(super) fn cgroup(&self) -> Option<(u64, AttachType)> {
        self.cgroup
    }

    /// Says which cgroup the program is attached to, and as what.
    pub(crate) fn set_cgroup(&mut self, id: u64, attach_type: AttachType) {
        self.cgroup = Some((id, attach_type));
    }

    /// The address of the value that the run has in the place of a cgroup's, by the address of the map.
    pub(super) fn own_storage(&self, map: u64) -> Option<u64> {
        self.own_storage.iter().find(|(known, _)| *known == map).map(|(_, address)| *address)
    }

    pub(super) fn set_own_storage(&mut self, map: u64, address: u64) {
        self.own_storage.push((map, address));
    }

    /// The mark of the timer whose callback the run is.
    pub(super) fn calling(&self) -> Option<u64> {
        self.calling
    }

    pub(crate) fn set_calling(&mut self, mark: u64) {
        self.calling = Some(mark);
    }

    /// Notes that the program threw an exception.
    pub(super) fn throw(&mut self, cookie: u64) {
        self.thrown = Some(cookie);
    }

    pub(crate) fn take_thrown(&mut self) -> Option<u64> {
        self.thrown.take()
    }

    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        const KEPT: usize = 1 << 16;

        buffer.clear();
        if buffer.capacity() <= KEPT {
            self.buffers.push(buffer);
        }
    }
}

impl Vm {
    /// Notes that the program was given something that it has to give back with `release`.
    pub(crate) fn acquire(
        &mut self,
        address: u64,
        what: &'static str,
        release: &'static str,
        drop: Option<DropFn>,
    ) {
        self.held.references.push(Reference { address, what, release, drop });
    }

    /// Notes that it gave it back. Answers whether it had it.
    pub(crate) fn release(&mut self, address: u64) -> bool {
        let all = self.held.references.len();
        let found = self.held.references.iter().rposition(|reference| reference.address == address);
        // Whoever gives back first what came first has all others looked at and moved.
        self.spend((all - found.unwrap_or(0)) as u64 / 4); // it was found there
        found.map(|at| self.held.references.remove(at)).is_some() // it was found there
    }

    /// Takes a lock. That the program holds it itself is seen of those only that the kernel takes note of.
    pub(super) fn lock(&mut self, place: Place, kind: LockKind) -> Taken {
        if let Some(at) = self.held.locks.iter().position(|lock| lock.place.is(&place)) {
            let is_noted = kind == LockKind::Spin || at < NOTED;
            return if is_noted { Taken::Own } else { Taken::Others };
        }
        for _ in 0..TRIES {
            if place.swap(&self.kernel, 0, 1) {
                self.held.locks.push(Lock { place, kind });
                return Taken::Yes;
            }
            std::thread::yield_now();
        }
        Taken::Others
    }

    /// Lets go of the lock that was taken last, which has to be this one.
    pub(super) fn unlock(&mut self, place: &Place, kind: LockKind) -> Result<(), Trap> {
        match self.held.locks.last() {
            Some(last) if last.place.is(place) && last.kind == kind => {
                place.swap(&self.kernel, 1, 0);
                self.held.locks.pop();
                Ok(())
            }
            Some(last) if last.place.is(place) => Err(refuse(
                "the lock was taken in another way; unlock it with the function that goes with that",
            )),
            Some(_) => Err(refuse("another lock was taken after this one; unlock that one first")),
            None => Err(refuse("the lock is not held by this program")),
        }
    }

    /// Enters a section.
    pub(super) fn enter(&mut self, section: Section) {
        if let Some(depth) = self.held.sections.get_mut(section as usize) {
            *depth = depth.saturating_add(1);
        }
    }

    /// Leaves a section.
    pub(super) fn leave_section(&mut self, section: Section) -> Result<(), Trap> {
        let (enter, leave) = SECTIONS[section as usize]; // one for each
        match self.held.sections.get_mut(section as usize) {
            Some(depth) if *depth > 0 => {
                *depth -= 1; // above 0
                Ok(())
            }
            _ => Err(refuse(format!("{leave} without {enter} before it"))),
        }
    }

    /// Checks that a program that returns has given everything back.
    pub(crate) fn check_held(&self) -> Result<(), Trap> {
        if !self.held.locks.is_empty() {
            return Err(refuse("the program returned while it holds a lock"));
        }
        if let Some(Reference { what, release, .. }) = self.held.references.first() {
            return Err(refuse(format!("the program returned and did not give back {what}; call {release}")));
        }
        let entered = self.held.sections.iter().zip(SECTIONS).find(|(depth, _)| **depth > 0);
        match entered {
            Some((_, (enter, leave))) => {
                Err(refuse(format!("the program returned after {enter} without {leave}")))
            }
            None => Ok(()),
        }
    }

    /// Gives everything back, for a program that was stopped.
    pub(crate) fn drop_held(&mut self) {
        while let Some(lock) = self.held.locks.pop() {
            lock.place.swap(&self.kernel, 1, 0);
        }
        while let Some(reference) = self.held.references.pop() {
            if let Some(drop) = reference.drop {
                drop(self, reference.address);
            }
        }
        self.held.sections = Default::default();
    }

    /// Whether a function may be called while a lock is held.
    pub(crate) fn check_call(&self, name: &str) -> Result<(), Trap> {
        const ALLOWED: [&str; 8] = [
            "bpf_spin_unlock#94",
            "bpf_spin_lock#93",
            "bpf_res_spin_lock",
            "bpf_res_spin_unlock",
            "bpf_res_spin_lock_irqsave",
            "bpf_res_spin_unlock_irqrestore",
            "bpf_refcount_acquire_impl",
            "bpf_throw",
        ];
        let spins = self.held.locks.iter().any(|lock| lock.kind == LockKind::Spin);
        let allowed = ALLOWED.contains(&name)
            || ["bpf_list_", "bpf_rbtree_", "bpf_iter_num_"].iter().any(|start| name.starts_with(start));
        if !spins || allowed {
            return Ok(());
        }
        Err(refuse(format!("{name} is called while a bpf_spin_lock is held, which no kernel allows")))
    }
}
