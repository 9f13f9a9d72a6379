use crate::batch::BatchCursor;

/// `BPF_MAP_LOOKUP_BATCH` and `BPF_MAP_LOOKUP_AND_DELETE_BATCH`: room for elements, and where to go on.
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchRead<'a> {
    /// Where to begin, and afterwards where to go on.
    pub cursor: &'a mut BatchCursor,
    /// Room for as many keys as are asked for.
    pub keys: &'a mut [u8],
    /// Room for as many values, each as user space takes it with these flags.
    pub values: &'a mut [u8],
    /// How many elements at most.
    pub count: u32,
    /// Flags of each element's lookup: [`UpdateFlags::LOCK`](crate::abi::UpdateFlags::LOCK) at most before Linux 7.0.
    pub elem_flags: u64,
}

impl<'a> BatchRead<'a> {
    /// A call that reads at most `count` elements into these slices.
    pub fn new(cursor: &'a mut BatchCursor, keys: &'a mut [u8], values: &'a mut [u8], count: u32) -> Self {
        BatchRead { cursor, keys, values, count, elem_flags: 0 }
    }
}

/// `BPF_MAP_UPDATE_BATCH` and, without values, `BPF_MAP_DELETE_BATCH`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BatchWrite<'a> {
    /// The keys, one behind the other.
    pub keys: &'a [u8],
    /// The values, each as user space passes it with these flags; empty for a deletion.
    pub values: &'a [u8],
    /// How many elements.
    pub count: u32,
    /// Flags of each element's update: [`UpdateFlags::LOCK`](crate::abi::UpdateFlags::LOCK) at most before Linux 7.0.
    pub elem_flags: u64,
}

impl<'a> BatchWrite<'a> {
    /// A call that writes, or without values deletes, `count` elements.
    pub fn new(keys: &'a [u8], values: &'a [u8], count: u32) -> Self {
        BatchWrite { keys, values, count, elem_flags: 0 }
    }
}
