//! What a service may ask of a map, as traits: so that it can run on maps of a kernel, of a simulated kernel, of
//! [`memory`](super::memory), or on mocks.
//!
//! A service names what it needs of each map, and nothing more:
//!
//! ```
//! use skep::map::memory;
//! use skep::map::traits::{MapRead, MapRemove, MapWrite};
//! use skep::map::MapError;
//! use skep::sys::abi::UpdateFlags;
//!
//! /// Lets an address try so many times.
//! struct Attempts<M> {
//!     seen: M,
//!     allowed: u64,
//! }
//!
//! impl<M: MapRead<[u8; 4], u64> + MapWrite<[u8; 4], u64> + MapRemove<[u8; 4]>> Attempts<M> {
//!     fn allow(&self, address: [u8; 4]) -> Result<bool, MapError> {
//!         let seen = self.seen.get(&address)?.unwrap_or(0);
//!         self.seen.insert(&address, &(seen + 1), UpdateFlags::empty())?;
//!         Ok(seen < self.allowed)
//!     }
//!
//!     fn forget(&self, address: [u8; 4]) -> Result<bool, MapError> {
//!         self.seen.remove(&address)
//!     }
//! }
//!
//! // In the program: `seen` is a `HashMap<[u8; 4], u64>` of the loaded object. In its unit test:
//! let attempts = Attempts { seen: memory::HashMap::new(16)?, allowed: 1 };
//! assert!(attempts.allow([10, 0, 0, 1])?);
//! assert!(!attempts.allow([10, 0, 0, 1])?);
//! attempts.forget([10, 0, 0, 1])?;
//! assert!(attempts.allow([10, 0, 0, 1])?);
//! # Ok::<(), MapError>(())
//! ```
//!
//! # The traits
//! Each is one operation of the kernel and has one method to implement (queues two), so a mock has no more lines than
//! what it mocks. Nothing is sealed.
//!
//! | trait | operation | implemented by |
//! |---|---|---|
//! | [`MapRead<K, V>`](MapRead) | look up | hashes, arrays, tries; slots of devices, CPUs, sockets, programs and maps; storage |
//! | [`MapWrite<K, V>`](MapWrite) | update, with the kernel's flags | the same, cgroup arrays, XDP socket maps |
//! | [`MapRemove<K>`](MapRemove) | delete | the same but arrays and XDP socket maps |
//! | [`MapIter<K, V>`](MapIter) | go through all elements | hashes, arrays, tries; slots |
//! | [`MapTake<K, V>`](MapTake) | look up and delete in one step | hashes |
//! | [`MapDrain<K, V>`](MapDrain) | take all elements | hashes |
//! | [`MapTable<K, V>`](MapTable) | the first four in one name, for `dyn` | whatever has the four |
//! | [`PerCpu`] | how many values an element has | per-CPU kinds |
//! | [`Push<V>`](Push), [`Pop<V>`](Pop) | put in, peek and take out | queues and stacks; bloom filters only the first |
//! | [`Contains<V>`](Contains) | ask for a value | bloom filters |
//! | [`EventSource`] | wait for events and read them | readers of ring and perf buffers |
//!
//! Arrays have indexes for keys (`MapRead<u32, V>`), and lack what the kernel refuses them: they are no `MapRemove`.
//! Per-CPU kinds have [`PerCpuValues<V>`](super::PerCpuValues) for values (`MapRead<K, PerCpuValues<V>>`).
//! Where a map holds objects, what is written is not what is read: a socket goes into a
//! [`SockMap`](super::SockMap) (`MapWrite<u32, S>` for any descriptor `S`) and its cookie comes out (`MapRead<u32, u64>`);
//! of programs and maps the ids come out.
//! Storage has descriptors of its owners for keys.
//!
//! # Handing maps over
//! `&M`, `Box<M>`, `Rc<M>` and `Arc<M>` are what `M` is, also where `M` is `dyn`. A service that is not to be generic
//! holds `Box<dyn MapRead<K, V>>`, or `Arc<dyn MapTable<K, V> + Send + Sync>` for several operations; a service of one's own
//! bundles what it needs in a trait of its own, as [`MapTable`] does. Views and maps in memory are cheap to clone and
//! share their elements, so a test keeps a clone of what it hands over.
//!
//! Views have methods of the same names, with indexes by value and more variants. Where a value is a view, these are called; a
//! generic function sees only the traits.
//!
//! # Mocks
//! With [`mockall`](https://docs.rs/mockall) a mock is the trait's signature, repeated:
//!
//! ```
//! use mockall::mock;
//! use skep::map::traits::MapRead;
//! use skep::map::{MapError, MapErrorKind, MapOperation};
//! use skep::sys::abi::Errno;
//!
//! mock! {
//!     Limits {}
//!     impl MapRead<u32, u64> for Limits {
//!         fn get(&self, key: &u32) -> Result<Option<u64>, MapError>;
//!     }
//! }
//!
//! # fn main() -> Result<(), MapError> {
//! let mut limits = MockLimits::new();
//! limits.expect_get().withf(|key| *key == 7).return_const(Ok(Some(100)));
//! limits.expect_get().returning(|_| Err(MapError::refused("limits", MapOperation::Lookup, Errno::EPERM)));
//! assert_eq!(limits.get(&7)?, Some(100));
//! assert_eq!(limits.contains(&8).unwrap_err().kind(), MapErrorKind::Denied);
//! # Ok(())
//! # }
//! ```
//!
//! [`MapError::refused`](super::MapError::refused) makes the error of any errno; the variants of
//! [`MapError`](super::MapError) are public, so that a mock can give the others. A map in [`memory`](super::memory) is the better stand-in where the test is about what is in the map, a
//! mock where it is about how the map is asked.

mod elements;
mod event_fault;
mod events;
mod forward;
mod per_cpu;
mod values;
mod views;

pub use elements::{MapDrain, MapIter, MapRead, MapRemove, MapTable, MapTake, MapWrite};
pub use event_fault::EventFault;
pub use events::EventSource;
pub use per_cpu::PerCpu;
pub use values::{Contains, Pop, Push};
