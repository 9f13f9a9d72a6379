//! Pinned state that survives restarts and upgrades of a service.
//!
//! An [`Upgrade`] puts the maps, programs and links of an object into one directory on a bpffs, in place of those of the
//! version that was there before:
//!
//! ```
//! use skep::pinned::{Attachment, PinnedSet, Upgrade};
//! use skep::{Loader, Spec};
//!
//! # fn main() -> Result<(), skep::Error> {
//! # let kernel = skep::sim::kernel();
//! # let spec = Spec::parse("xdp_count", include_bytes!("../../testdata/xdp_count.o"))?;
//! // At each start of the service: nothing may be pinned yet, or an older version, or this very one.
//! let upgrade = Upgrade::begin(&kernel, "/sys/fs/bpf/counter")?;
//! let mut staged = upgrade.load(&Loader::new(&kernel), &spec)?; // takes the maps over; nothing runs yet
//! staged.attach("xdp_count", Attachment::xdp("lo"))?;
//! let switched = staged.switch()?; // the new programs run
//! let (object, set) = switched.commit()?; // and what the old version left is gone
//! assert_eq!(set.generation(), 1);
//! drop((object, set));
//!
//! // The next version.
//! let upgrade = Upgrade::begin(&kernel, "/sys/fs/bpf/counter")?;
//! let mut staged = upgrade.load(&Loader::new(&kernel), &spec)?;
//! staged.attach("xdp_count", Attachment::xdp("lo"))?;
//! staged.switch()?.commit()?;
//!
//! // Another program that looks into it.
//! let set = PinnedSet::open(&kernel, "/sys/fs/bpf/counter")?.ok_or("nothing is pinned");
//! # let set = set.expect("it is there");
//! assert_eq!(set.generation(), 2);
//! assert_eq!(set.map("flows")?.key_len(), 8);
//! # Ok(())
//! # }
//! ```
//!
//! # What is where
//!
//! ```text
//! counter/current -> gen-2                the set that counts
//! counter/gen-2/maps/flows                maps by their names, those of data sections without dots
//! counter/gen-2/programs/xdp_count        programs by their names
//! counter/gen-2/links/xdp_count           links by the names that they were attached by
//! counter/gen-2/attach/xdp_count -> …     where each is attached, as the text of a symbolic link
//! ```
//!
//! # What holds when a process is ended in the middle
//!
//! Each step is one call of the kernel, and the state between any two of them can be told from the directory. The next
//! [`Upgrade::begin`] first finishes what was begun: **back** when the new set was not committed, **forward** when it
//! was. The commit is one call, the renaming of a symbolic link. So after it:
//!
//! - the old programs are attached in all places, or the new ones are, and nothing of the other set is left;
//! - a map that fits both versions is one and the same map throughout, and loses nothing;
//! - a map that is [migrated](crate::load::OnMismatch::Migrate) has in the new set every entry that no program wrote after it was copied,
//!   and is as it was in the old set.
//!
//! Between the two, and while [`Staged::switch`] runs, places are switched one after the other. A link whose program can
//! be exchanged (XDP) runs one of the two programs at any moment. Other links (raw tracepoints, tracing) are replaced by
//! new ones, and [`Exchange`] says in which order: both programs run for a moment, or neither.
//!
//! What a process holds open beside the pins is not known here: links that it keeps handles of stay attached when their
//! pins are removed.

mod attachment;
mod layout;
mod recover;
mod set;
mod upgrade;

pub use attachment::{Attachment, Exchange};
pub use recover::Recovery;
pub use set::PinnedSet;
pub use upgrade::{Staged, Switched, Upgrade};
