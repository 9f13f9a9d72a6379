//! What the calls of a [`Backend`](crate::Backend) are asked, and what they answer.
//!
//! Required arguments are in the constructors, optional ones are public fields to set.

mod attach;
mod batch;
mod dump;
mod info;
mod link;
mod map;
mod object;
mod perf;
mod process;
mod program;

pub use attach::{AttachedProg, AttachedProgs, ProgAttach, ProgDetach, ProgQuery};
pub use batch::{BatchRead, BatchWrite};
pub use dump::{OwnedRecords, ProgDump};
pub use info::{BtfInfo, LinkInfo, LinkPlace, MapInfo, MapUsage, ProgInfo};
pub use link::{LinkAnchor, LinkCreate, LinkTarget, LinkUpdate, NetfilterHook, Uprobes};
pub use map::{MapBtf, MapCreate, MapMemory};
pub use object::{BtfLoad, OpenById, Pin, PinAttributes, PinEntry, PinEntryKind};
pub use perf::{PerfControl, PerfEventOpen, PerfMemory, PerfTarget, PerfWakeup};
pub use process::{ProcessFile, ReadSeek};
pub use program::{
    AttachTarget, KnownRecords, LogBuffer, ProgKey, ProgLoad, Records, TestRun, TestRunResult,
};
