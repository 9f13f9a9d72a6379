//! The bytes of a packet in the memory of a run, with room before and behind.

use crate::vm::{Memory, Own, Region, Trap, What};

/// What a fault says of a pointer that a helper has made stale, as the verifier would have refused it.
const STALE: &str = "it points into the packet as it was before a helper changed it; read `data` and `data_end` of the context again";

/// Where a packet lies. All places count from the first byte of its region.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    region: u64,
    /// Begin of the metadata, which is `data` where there is none.
    pub(crate) meta: usize,
    pub(crate) data: usize,
    pub(crate) end: usize,
}

impl Buffer {
    /// A packet without metadata.
    pub(crate) fn new(
        memory: &mut Memory,
        headroom: usize,
        bytes: &[u8],
        tailroom: usize,
    ) -> Result<Buffer, Trap> {
        let mut room = vec![0; headroom + bytes.len() + tailroom];
        let end = headroom + bytes.len();
        if let Some(to) = room.get_mut(headroom..end) {
            to.copy_from_slice(bytes);
        }
        let own = Own { what: What::Packet, bytes: room, start: headroom, end, writable: true };
        let region = memory.add(Region::Own(own))?;
        Ok(Buffer { region, meta: headroom, data: headroom, end })
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.data // the end is never before
    }

    /// The address of a place.
    fn address(&self, place: usize) -> u64 {
        self.region + place as u64 // places are below 2^32
    }

    /// The address of the memory that it lies in.
    pub(crate) fn room_address(&self) -> u64 {
        self.region
    }

    pub(crate) fn data_address(&self) -> u64 {
        self.address(self.data)
    }

    pub(crate) fn meta_address(&self) -> u64 {
        self.address(self.meta)
    }

    pub(crate) fn end_address(&self) -> u64 {
        self.address(self.end)
    }

    fn own<'m>(&self, memory: &'m Memory) -> Option<&'m Own> {
        match memory.region(self.region)? {
            Region::Own(own) => Some(own),
            _ => None,
        }
    }

    /// All bytes of its region.
    pub(crate) fn room<'m>(&self, memory: &'m Memory) -> &'m [u8] {
        self.own(memory).map_or(&[], |own| &own.bytes)
    }

    /// As [`room`](Buffer::room), to change them.
    pub(crate) fn room_mut<'m>(&self, memory: &'m mut Memory) -> &'m mut [u8] {
        match memory.region_mut(self.region) {
            Some(Region::Own(own)) => &mut own.bytes,
            _ => &mut [],
        }
    }

    /// The packet without metadata.
    pub(crate) fn bytes<'m>(&self, memory: &'m Memory) -> &'m [u8] {
        self.room(memory).get(self.data..self.end).unwrap_or_default()
    }

    pub(crate) fn bytes_mut<'m>(&self, memory: &'m mut Memory) -> &'m mut [u8] {
        let (data, end) = (self.data, self.end);
        self.room_mut(memory).get_mut(data..end).unwrap_or_default()
    }

    /// Metadata and packet.
    pub(crate) fn with_meta<'m>(&self, memory: &'m Memory) -> &'m [u8] {
        self.room(memory).get(self.meta..self.end).unwrap_or_default()
    }

    /// Changes bytes and bounds, and takes all pointers into the packet away from the program.
    pub(crate) fn edit<T>(
        &mut self,
        memory: &mut Memory,
        edit: impl FnOnce(&mut Vec<u8>, &mut Buffer) -> T,
    ) -> Result<T, Trap> {
        let mut bytes = match memory.region_mut(self.region) {
            Some(Region::Own(own)) => std::mem::take(&mut own.bytes),
            _ => Vec::new(),
        };
        memory.revoke(self.region, STALE);
        let answer = edit(&mut bytes, self);
        let own = Own { what: What::Packet, start: self.meta, end: self.end, bytes, writable: true };
        self.region = memory.add(Region::Own(own))?;
        Ok(answer)
    }

    /// Takes all pointers into the packet away from the program.
    pub(crate) fn renew(&mut self, memory: &mut Memory) -> Result<(), Trap> {
        self.edit(memory, |_, _| ())
    }

    /// Lets the program see what is between the bounds now, without taking its pointers away.
    pub(crate) fn show(&self, memory: &mut Memory) {
        if let Some(Region::Own(own)) = memory.region_mut(self.region) {
            (own.start, own.end) = (self.meta, self.end);
        }
    }

    /// Makes the packet readable only.
    pub(crate) fn protect(&self, memory: &mut Memory) {
        if let Some(Region::Own(own)) = memory.region_mut(self.region) {
            own.writable = false;
        }
    }

    /// Moves the packet into the memory of another run.
    pub(crate) fn migrate(&mut self, from: &mut Memory, to: &mut Memory) -> Result<(), Trap> {
        let mut region = Region::Gone(STALE);
        if let Some(there) = from.region_mut(self.region) {
            std::mem::swap(there, &mut region);
        }
        self.region = to.add(region)?;
        Ok(())
    }
}
