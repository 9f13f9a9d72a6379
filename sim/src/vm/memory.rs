//! The memory that a program sees: regions that are checked at every access.
//!
//! An address is a region's number in its upper half and a place inside of it in its lower one, with the top bit set, as
//! addresses of a kernel have it. So finding a region takes no search, no access reaches from one into the next, and null
//! and small numbers lead nowhere. Addresses that a test gave to its own memory image are the image's business.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use skep_asm::AtomicOp;

use super::arena::ArenaAt;
use super::context::Context;
use super::fault::{FaultKind, Trap};
use super::region::{Handle, Own, Region, Shared, What};
use crate::kernel::SimKernel;
use crate::map::Map;
use crate::words::{
    load_shared, narrow, narrow_any, read_shared, store_shared, widen, widen_any, write_shared,
};

/// The top bit, which all addresses of regions have.
const BASE: u64 = 1 << 63;
/// Most regions of one run, so that a program that makes new ones in a loop ends.
const REGIONS_MAX: usize = 1 << 20;
/// Room for those that most runs have.
const REGIONS_USUAL: usize = 8;

/// How many copied bytes count as an instruction.
const COPIED: u64 = 32;

/// All memory of a run.
#[derive(Debug)]
pub(crate) struct Memory {
    kernel: SimKernel,
    regions: Vec<Region>,
    /// Regions of shared words by where these are, so that one value has one address.
    shared: BTreeMap<(usize, usize), u32>,
    context: Option<Box<dyn Context>>,
    /// Whether a load from where nothing is answers 0, as loads through typed pointers do.
    probes: bool,
    arena: Option<ArenaAt>,
    /// What helpers did since it was last asked for, in instructions.
    work: u64,
}

impl Memory {
    pub(crate) fn new(kernel: &SimKernel) -> Memory {
        let mut regions = Vec::with_capacity(REGIONS_USUAL);
        regions.extend((0..kernel.0.config().address_shift).map(|_| Region::Gone("nothing is there")));
        Memory {
            kernel: kernel.clone(),
            regions,
            shared: BTreeMap::new(),
            arena: None,
            context: None,
            probes: false,
            work: 0,
        }
    }

    /// Counts bytes that were copied: one that looks at a string byte by byte pays for each.
    fn count_copy(&mut self, len: usize) {
        self.work = self.work.saturating_add(1 + len as u64 / COPIED); // a length in memory
    }

    /// The work since the last call, in instructions.
    pub(super) fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.work)
    }

    /// Says whether loads from where nothing is answer 0, as those through typed pointers do (`PROBE_MEM`).
    pub(crate) fn set_probes(&mut self, probes: bool) {
        self.probes = probes;
    }

    /// Reads what programs allocated, and what a test described of the kernel's memory.
    fn read_image(&self, address: u64, to: &mut [u8]) -> Option<()> {
        let world = self.kernel.0.world();
        world.objects.read(address, to).or_else(|| world.memory.read_kernel(address, to))
    }

    /// Writes what programs allocated and, where typed pointers lead, what a test described.
    fn write_image(&self, address: u64, from: &[u8]) -> Option<()> {
        let mut world = self.kernel.0.world();
        let written = world.objects.write(address, from);
        written.or_else(|| if self.probes { world.memory.write_kernel(address, from) } else { None })
    }

    pub(crate) fn arena(&self) -> Option<ArenaAt> {
        self.arena
    }

    pub(crate) fn set_arena(&mut self, arena: ArenaAt) {
        self.arena = Some(arena);
    }

    /// The address in the arena's region that stands for one of user space.
    fn in_arena(&self, address: u64) -> Option<u64> {
        self.arena.filter(|arena| arena.has(address)).map(|arena| arena.access(address))
    }

    /// Adds a region. Answers its first address.
    pub(crate) fn add(&mut self, region: Region) -> Result<u64, Trap> {
        if self.regions.len() >= REGIONS_MAX {
            return Err(FaultKind::Memory.into());
        }
        let address = BASE | (self.regions.len() as u64) << 32;
        self.regions.push(region);
        Ok(address)
    }

    /// How many regions there are.
    pub(crate) fn regions(&self) -> usize {
        self.regions.len()
    }

    /// Adds bytes of the run.
    pub(crate) fn add_own(&mut self, what: What, bytes: Vec<u8>, writable: bool) -> Result<u64, Trap> {
        let end = bytes.len();
        // It stays until the run ends, so a program pays for every byte.
        self.work = self.work.saturating_add(end as u64); // a length in memory
        self.add(Region::Own(Own { what, bytes, start: 0, end, writable }))
    }

    /// The address of shared bytes, the same for the same ones.
    pub(crate) fn add_shared(&mut self, shared: Shared) -> Result<u64, Trap> {
        let place = (shared.words.as_ptr().addr(), shared.start);
        if let Some(&region) = self.shared.get(&place)
            && let Some(Region::Shared(known)) = self.regions.get_mut(region as usize)
            && Arc::ptr_eq(&known.words, &shared.words)
        {
            known.len = known.len.max(shared.len);
            return Ok(BASE | u64::from(region) << 32);
        }
        let address = self.add(Region::Shared(shared))?;
        self.shared.insert(place, region_number(address));
        Ok(address)
    }

    /// Sets the context. Answers its address.
    pub(crate) fn add_context(&mut self, context: Box<dyn Context>) -> Result<u64, Trap> {
        self.context = Some(context);
        self.add(Region::Context)
    }

    /// The context, as the kind that it is.
    pub(crate) fn context<C: Context>(&mut self) -> Option<&mut C> {
        self.context.as_mut()?.as_any().downcast_mut()
    }

    /// Takes the context out, as the kind that it is, when the run is over.
    pub(crate) fn take_context<C: Context>(&mut self) -> Option<Box<C>> {
        let context: Box<dyn Any> = self.context.take()?;
        context.downcast().ok()
    }

    /// Does something with the context and the rest of the memory.
    pub(crate) fn with_context<C: Context, T>(
        &mut self,
        with: impl FnOnce(&mut C, &mut Memory) -> T,
    ) -> Option<T> {
        let mut context = self.context.take()?;
        let answer = context.as_any().downcast_mut().map(|context| with(context, self));
        self.context = Some(context);
        answer
    }

    /// Bytes of the packet that the context has.
    pub(crate) fn packet(&mut self, at: i64, to: &mut [u8]) -> Option<()> {
        self.count_copy(to.len());
        let mut context = self.context.take()?;
        let found = context.packet(self, at, to);
        self.context = Some(context);
        found
    }

    /// The region that an address lies in.
    pub(crate) fn region(&self, address: u64) -> Option<&Region> {
        self.regions.get(number(address))
    }

    /// As [`region`](Memory::region), to change it.
    pub(crate) fn region_mut(&mut self, address: u64) -> Option<&mut Region> {
        self.regions.get_mut(number(address))
    }

    /// What has the address `address`, if it is a handle.
    pub(crate) fn handle(&self, address: u64) -> Option<&Handle> {
        match self.region(address)? {
            Region::Handle(handle) => Some(handle),
            _ => None,
        }
    }

    /// The map with this address.
    pub(crate) fn map(&self, address: u64) -> Result<Arc<Map>, Trap> {
        match self.handle(address) {
            Some(Handle::Map(map)) => Ok(map.clone()),
            _ => Err(FaultKind::NotA { what: "map", address }.into()),
        }
    }

    /// Takes away what lies at an address: accesses fault from now on and say why.
    pub(crate) fn revoke(&mut self, address: u64, why: &'static str) {
        if let Some(region) = self.region_mut(address) {
            *region = Region::Gone(why);
        }
    }

    /// Loads `N` bytes. The program does this; helpers use [`read`](Memory::read).
    #[inline]
    pub(crate) fn load<const N: usize>(&mut self, address: u64) -> Result<u64, Trap> {
        let offset = offset(address);
        match self.regions.get(number(address)) {
            Some(Region::Own(own)) if offset >= own.start && offset + N <= own.end => {
                match own.bytes.get(offset..offset + N) {
                    Some(bytes) => Ok(widen::<N>(bytes)),
                    None => Err(self.fault(address, N, false)),
                }
            }
            Some(Region::Shared(shared)) if offset + N <= shared.len => {
                Ok(load_shared::<N>(&shared.words, shared.start + offset))
            }
            Some(Region::Arena(arena)) => Ok(arena.load::<N>(address)),
            _ => self.load_other(address, N),
        }
    }

    #[cold]
    fn load_other(&mut self, address: u64, len: usize) -> Result<u64, Trap> {
        match self.region(address) {
            Some(Region::Context) => {
                let Some(mut context) = self.context.take() else {
                    return Err(self.fault(address, len, false));
                };
                let value = context.load(self, offset(address) as u32, len as u32);
                self.context = Some(context);
                value.ok_or_else(|| self.fault(address, len, false))
            }
            Some(Region::View(_)) => {
                let mut bytes = [0; 8];
                let to = bytes.get_mut(..len).unwrap_or_default();
                self.read(address, to).map(|()| widen_any(to))
            }
            Some(region) => {
                let mut bytes = [0; 8];
                let to = bytes.get_mut(..len).unwrap_or_default();
                let found = match region {
                    Region::Handle(Handle::Map(map)) => {
                        let kernel = &self.kernel.0;
                        kernel.map_fields().read(kernel, map, offset(address), to)
                    }
                    Region::Handle(Handle::Table { map, code }) => {
                        let slot = map.table_entry(offset(address)).filter(|_| len == 8);
                        slot.map(|slot| to.copy_from_slice(&(code + u64::from(slot) * 8).to_ne_bytes()))
                    }
                    _ => None,
                };
                match found {
                    Some(()) => Ok(widen_any(to)),
                    None => Err(self.fault(address, len, false)),
                }
            }
            None => {
                let mut bytes = [0; 8];
                let to = bytes.get_mut(..len).unwrap_or_default();
                if let Some(address) = self.in_arena(address) {
                    self.read(address, to)?;
                    return Ok(widen_any(to));
                }
                match self.read_image(address, to) {
                    Some(()) => Ok(widen_any(bytes.get(..len).unwrap_or_default())),
                    None if self.probes => Ok(0),
                    None => Err(self.fault(address, len, false)),
                }
            }
        }
    }

    /// Stores the low `N` bytes of a number.
    #[inline]
    pub(crate) fn store<const N: usize>(&mut self, address: u64, value: u64) -> Result<(), Trap> {
        let offset = offset(address);
        match self.regions.get_mut(number(address)) {
            Some(Region::Own(own)) if own.writable && offset >= own.start && offset + N <= own.end => {
                match own.bytes.get_mut(offset..offset + N) {
                    Some(bytes) => {
                        narrow::<N>(value, bytes);
                        Ok(())
                    }
                    None => Err(self.fault(address, N, true)),
                }
            }
            Some(Region::Shared(shared)) if shared.writable && offset + N <= shared.len => {
                store_shared::<N>(&shared.words, shared.start + offset, value);
                Ok(())
            }
            Some(Region::Arena(arena)) => {
                arena.store::<N>(address, value);
                Ok(())
            }
            _ => self.store_other(address, N, value),
        }
    }

    #[cold]
    fn store_other(&mut self, address: u64, len: usize, value: u64) -> Result<(), Trap> {
        if matches!(self.region(address), Some(Region::Context))
            && let Some(mut context) = self.context.take()
        {
            let stored = context.store(self, offset(address) as u32, len as u32, value);
            self.context = Some(context);
            if stored.is_some() {
                return Ok(());
            }
        }
        if self.region(address).is_none() {
            let mut bytes = [0; 8];
            let from = bytes.get_mut(..len).unwrap_or_default();
            narrow_any(value, from);
            if let Some(address) = self.in_arena(address) {
                return self.write(address, from);
            }
            if self.write_image(address, from).is_some() {
                return Ok(());
            }
        }
        Err(self.fault(address, len, true))
    }

    /// An atomic operation on 4 or 8 bytes. Answers the old value; none where nothing was done, in a page of an arena that is
    /// not there.
    pub(crate) fn atomic<const N: usize>(
        &mut self,
        op: AtomicOp,
        address: u64,
        operand: u64,
        expected: u64,
    ) -> Result<Option<u64>, Trap> {
        if !address.is_multiple_of(N as u64) {
            return Err(FaultKind::Misaligned { address, len: N }.into());
        }
        let address = self.in_arena(address).unwrap_or(address);
        let next = |old: u64| match op {
            AtomicOp::Add | AtomicOp::FetchAdd => old.wrapping_add(operand),
            AtomicOp::Or | AtomicOp::FetchOr => old | operand,
            AtomicOp::And | AtomicOp::FetchAnd => old & operand,
            AtomicOp::Xor | AtomicOp::FetchXor => old ^ operand,
            AtomicOp::CmpXchg if old != expected => old,
            _ => operand,
        };
        let place = offset(address);
        let found = match self.regions.get(number(address)) {
            Some(Region::Arena(arena)) => match arena.place(address, N) {
                Some(at) => Some((arena.word(at), at)),
                None => return Ok(None),
            },
            Some(Region::Shared(shared)) if shared.writable && place + N <= shared.len => {
                let at = shared.start + place;
                Some((shared.words.get(at / 8), at))
            }
            _ => None,
        };
        if let Some((word, at)) = found {
            let Some(word) = word else {
                return Err(self.fault(address, N, true));
            };
            let mut old = 0;
            let _ = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                let mut bytes = word.to_ne_bytes();
                let part = bytes.get_mut(at % 8..at % 8 + N)?;
                old = widen_any(part);
                narrow_any(next(old), part);
                Some(u64::from_ne_bytes(bytes))
            });
            return Ok(Some(old));
        }
        if matches!(self.region(address), Some(Region::Context)) {
            return Err(self.fault(address, N, true));
        }
        let old = self.load::<N>(address)?;
        self.store::<N>(address, next(old))?;
        Ok(Some(old))
    }

    /// A word of memory of this run, for who looks at it.
    pub(crate) fn peek(&self, address: u64) -> Option<u64> {
        let Some(Region::Own(own)) = self.region(address) else { return None };
        let at = offset(address);
        let bytes = own.bytes.get(at..at.checked_add(8)?)?;
        bytes.try_into().ok().map(u64::from_ne_bytes)
    }

    /// Copies bytes out, for helpers.
    pub(crate) fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), Trap> {
        let (at, len) = (offset(address), to.len());
        if len == 0 {
            return Ok(());
        }
        self.count_copy(len);
        match self.region(address) {
            Some(Region::Own(own)) if at >= own.start && at.saturating_add(len) <= own.end => {
                match own.bytes.get(at..at + len) {
                    Some(bytes) => to.copy_from_slice(bytes),
                    None => return Err(self.fault(address, len, false)),
                }
                Ok(())
            }
            Some(Region::Shared(shared)) if at.saturating_add(len) <= shared.len => {
                read_shared(&shared.words, shared.start + at, to);
                Ok(())
            }
            Some(Region::Arena(arena)) => {
                arena.read(address, to);
                Ok(())
            }
            Some(Region::Context) => {
                // The fields that the context has at these places, each as wide as it can be read.
                let mut done = 0;
                while done < len {
                    let step = if at.wrapping_add(done).is_multiple_of(4) && len - done >= 4 { 4 } else { 1 };
                    let value = self.load_other(address + done as u64, step)?;
                    narrow_any(value, to.get_mut(done..done + step).unwrap_or_default());
                    done += step;
                }
                Ok(())
            }
            Some(Region::View(view)) => {
                let view = view.clone();
                view.read(self, at, to).ok_or_else(|| self.fault(address, len, false))
            }
            None if self.read_image(address, to).is_some() => Ok(()),
            _ => Err(self.fault(address, len, false)),
        }
    }

    /// Copies bytes out into a new vector.
    pub(crate) fn bytes(&mut self, address: u64, len: usize) -> Result<Vec<u8>, Trap> {
        // What is longer than its region is refused before it takes memory.
        self.check(address, len, false)?;
        let mut bytes = vec![0; len];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies bytes in, for helpers.
    pub(crate) fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Trap> {
        let (at, len) = (offset(address), from.len());
        if len == 0 {
            return Ok(());
        }
        self.count_copy(len);
        match self.region_mut(address) {
            Some(Region::Own(own))
                if own.writable && at >= own.start && at.saturating_add(len) <= own.end =>
            {
                match own.bytes.get_mut(at..at + len) {
                    Some(bytes) => bytes.copy_from_slice(from),
                    None => return Err(self.fault(address, len, true)),
                }
                Ok(())
            }
            Some(Region::Shared(shared)) if shared.writable && at.saturating_add(len) <= shared.len => {
                write_shared(&shared.words, shared.start + at, from);
                Ok(())
            }
            Some(Region::Arena(arena)) => {
                arena.write(address, from);
                Ok(())
            }
            None => {
                let written = self.kernel.0.world().objects.write(address, from);
                written.ok_or_else(|| self.fault(address, len, true))
            }
            _ => Err(self.fault(address, len, true)),
        }
    }

    /// Checks that bytes can be read, or written.
    pub(crate) fn check(&self, address: u64, len: usize, write: bool) -> Result<(), Trap> {
        let at = offset(address);
        let end = at.saturating_add(len);
        let fits = match self.region(address) {
            _ if len == 0 => true,
            Some(Region::Own(own)) => at >= own.start && end <= own.end && (own.writable || !write),
            Some(Region::Shared(shared)) => end <= shared.len && (shared.writable || !write),
            Some(Region::View(view)) => !write && end <= view.size(),
            Some(Region::Arena(_)) => len <= 1 << 20,
            Some(Region::Context) => !write && end <= 4096,
            // An image has no length to be asked for; reading it will tell.
            None if write => self.kernel.0.world().objects.has(address, len),
            None => len <= 1 << 20,
            _ => false,
        };
        if fits { Ok(()) } else { Err(self.fault(address, len, write)) }
    }

    /// The string at an address up to its NUL, at most `max` bytes.
    pub(crate) fn string(&mut self, address: u64, max: usize) -> Result<Vec<u8>, Trap> {
        let mut text = Vec::new();
        while text.len() < max {
            let mut byte = [0];
            self.read(address.wrapping_add(text.len() as u64), &mut byte)?;
            match byte {
                [0] => break,
                [byte] => text.push(byte),
            }
        }
        Ok(text)
    }
}

/// The number of the region that an address lies in; one that does not exist when it has none.
#[inline]
pub(super) fn number(address: u64) -> usize {
    (address.wrapping_sub(BASE) >> 32) as usize
}

fn region_number(address: u64) -> u32 {
    number(address) as u32 // there are fewer than 2^20
}

/// The place inside of a region.
#[inline]
pub(crate) fn offset(address: u64) -> usize {
    (address & 0xffff_ffff) as usize
}
