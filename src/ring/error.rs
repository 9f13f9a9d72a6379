use std::io;

use skep_sys::ring::RingFault;

use crate::map::MapLabel;

/// Why a ring buffer cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// What is in the ring's memory cannot be, or another process uses this end of the ring. It stays so: what is
    /// there can only be skipped as a whole ([`RingBuffer::skip_all`](super::RingBuffer::skip_all)).
    #[error("ring buffer {map} is broken")]
    Broken {
        /// The map.
        map: MapLabel,
        /// What is wrong.
        #[source]
        fault: RingFault,
    },
    /// A record has another size than the type that it was to be. It was skipped.
    #[error("record of {there} bytes in ring buffer {map} where the type has {asked}")]
    WrongSize {
        /// The map.
        map: MapLabel,
        /// Size of the type in bytes.
        asked: usize,
        /// Size of the record in bytes.
        there: usize,
    },
    /// There is no room for a sample until programs have read others.
    #[error("user ring buffer {map} is full: {wanted} bytes wanted and {available} free")]
    Full {
        /// The map.
        map: MapLabel,
        /// Bytes that the sample takes, its header among them.
        wanted: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// A sample is longer than the ring.
    #[error("sample of {asked} bytes is too large for user ring buffer {map} of {size} bytes")]
    TooLarge {
        /// The map.
        map: MapLabel,
        /// Length of the sample in bytes.
        asked: usize,
        /// Size of the ring in bytes.
        size: usize,
    },
    /// Its descriptor cannot be waited for.
    #[error("cannot wait for a ring buffer")]
    Wait(#[from] io::Error),
}

impl RingError {
    pub(super) fn broken(map: MapLabel, fault: RingFault) -> RingError {
        RingError::Broken { map, fault }
    }

    pub(super) fn wrong_size<T>(map: MapLabel, there: usize) -> RingError {
        RingError::WrongSize { map, asked: size_of::<T>(), there }
    }

    /// What is wrong with the ring's memory.
    pub fn fault(&self) -> Option<RingFault> {
        match self {
            RingError::Broken { fault, .. } => Some(*fault),
            _ => None,
        }
    }

    /// Whether it is only that there is no room now.
    pub fn is_full(&self) -> bool {
        matches!(self, RingError::Full { .. })
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<RingError>();
};
