use skep_sys::PerfRingRecord;
use skep_sys::abi::PerfRecordType;

/// What a perf buffer gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PerfRecord<'a> {
    /// What a program wrote.
    Sample(PerfSample<'a>),
    /// Records that were lost because the ring of a CPU was full or paused (`PERF_RECORD_LOST`,
    /// `PERF_RECORD_LOST_SAMPLES`). Linux says so only in front of the next record that has space.
    #[non_exhaustive]
    Lost {
        /// The CPU.
        cpu: u32,
        /// How many records.
        count: u64,
    },
    /// A record of any other kind, which Linux does not write for programs.
    Other(RawPerfRecord<'a>),
}

/// What a program wrote with `bpf_perf_event_output`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PerfSample<'a> {
    /// The CPU whose ring it was written to.
    pub cpu: u32,
    /// When it was written, in nanoseconds of the clock that the buffer was opened with.
    pub time: Option<u64>,
    /// The bytes, and up to 7 more: the kernel fills a record up to a multiple of 8 bytes, and does not tell how many
    /// of them the program wrote. The length is always 4 more than a multiple of 8.
    pub data: &'a [u8],
}

/// A record as it lies in a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RawPerfRecord<'a> {
    /// The CPU whose ring it is from.
    pub cpu: u32,
    /// Kind, and all bytes with the header.
    pub record: PerfRingRecord<'a>,
}

impl<'a> PerfSample<'a> {
    /// Reads a sample, which has a time if `timed`. An error says what is wrong with it.
    #[inline]
    pub(super) fn parse(
        cpu: u32,
        record: PerfRingRecord<'a>,
        timed: bool,
    ) -> Result<PerfSample<'a>, &'static str> {
        let mut payload = record.payload();
        let time = if timed { Some(number(&mut payload).ok_or("a sample without its time")?) } else { None };
        let (len, rest) = payload.split_first_chunk().ok_or("a sample without its length")?;
        let len = u32::from_ne_bytes(*len) as usize;
        let data = rest.get(..len).ok_or("a sample that is longer than its record")?;
        Ok(PerfSample { cpu, time, data })
    }
}

impl<'a> PerfRecord<'a> {
    /// Reads a record of a ring whose samples have times if `timed`. An error says what is wrong with it.
    pub(super) fn parse(
        cpu: u32,
        record: PerfRingRecord<'a>,
        timed: bool,
    ) -> Result<PerfRecord<'a>, &'static str> {
        let mut payload = record.payload();
        match record.record_type {
            PerfRecordType::SAMPLE => PerfSample::parse(cpu, record, timed).map(PerfRecord::Sample),
            PerfRecordType::LOST => {
                // The event's id is first.
                number(&mut payload).ok_or("a number of lost records is missing")?;
                let count = number(&mut payload).ok_or("a number of lost records is missing")?;
                Ok(PerfRecord::Lost { cpu, count })
            }
            PerfRecordType::LOST_SAMPLES => {
                let count = number(&mut payload).ok_or("a number of lost records is missing")?;
                Ok(PerfRecord::Lost { cpu, count })
            }
            _ => Ok(PerfRecord::Other(RawPerfRecord { cpu, record })),
        }
    }

    /// The CPU whose ring it is from.
    pub fn cpu(&self) -> u32 {
        match self {
            PerfRecord::Sample(sample) => sample.cpu,
            PerfRecord::Lost { cpu, .. } => *cpu,
            PerfRecord::Other(raw) => raw.cpu,
        }
    }
}

/// A [`PerfRecord`] in memory of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OwnedPerfRecord {
    /// What a program wrote, as [`PerfSample`] has it.
    #[non_exhaustive]
    Sample {
        /// The CPU whose ring it was written to.
        cpu: u32,
        /// When it was written.
        time: Option<u64>,
        /// The bytes, and up to 7 more.
        data: Vec<u8>,
    },
    /// Records that were lost.
    #[non_exhaustive]
    Lost {
        /// The CPU.
        cpu: u32,
        /// How many records.
        count: u64,
    },
    /// A record of any other kind.
    #[non_exhaustive]
    Other {
        /// The CPU.
        cpu: u32,
        /// All bytes, the header's 8 included.
        bytes: Vec<u8>,
    },
}

impl From<PerfRecord<'_>> for OwnedPerfRecord {
    fn from(record: PerfRecord<'_>) -> OwnedPerfRecord {
        match record {
            PerfRecord::Sample(PerfSample { cpu, time, data }) => {
                OwnedPerfRecord::Sample { cpu, time, data: data.to_vec() }
            }
            PerfRecord::Lost { cpu, count } => OwnedPerfRecord::Lost { cpu, count },
            PerfRecord::Other(raw) => {
                OwnedPerfRecord::Other { cpu: raw.cpu, bytes: raw.record.bytes.to_vec() }
            }
        }
    }
}

/// The time of a record, if it is a sample that has one.
pub(super) fn time(record: PerfRingRecord<'_>) -> Option<u64> {
    (record.record_type == PerfRecordType::SAMPLE).then(|| number(&mut record.payload()))?
}

/// Takes 8 bytes off the front.
#[inline]
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_ne_bytes(*number))
}
