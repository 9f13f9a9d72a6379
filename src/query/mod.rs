//! What is in a kernel: its programs, maps, links and BTF objects, whoever made them.
//!
//! Each function answers a [`Query`]: an iterator over what the kernel says of the objects, in the order of their ids.
//! Filters narrow it; [`handles`](Query::handles) gives the objects themselves. Objects that go away meanwhile are
//! skipped, and those that come may or may not be seen.
//!
//! ```
//! use skep::query;
//! use skep::sys::abi::{MapType, ProgType};
//! # use skep::{asm::Reg, map::Map, program::ProgramBuilder, sys::request::MapCreate};
//! # let kernel = skep::sim::kernel();
//! # let _hash = Map::create(&kernel, &MapCreate::new(MapType::HASH, 4, 4, 8))?;
//! # let mut builder = ProgramBuilder::new(ProgType::XDP, "GPL");
//! # builder.name("filter").asm().mov64_imm(Reg::R0, 2).exit();
//! # let _program = builder.load(&kernel)?;
//!
//! for program in query::programs(&kernel).of_type(ProgType::XDP) {
//!     let program = program?;
//!     println!("{}: {}", program.id, program.name);
//! }
//! let named: Vec<_> = query::programs(&kernel).named("filter").handles().collect::<Result<_, _>>()?;
//! assert_eq!(named.len(), 1);
//! let elements: u32 = query::maps(&kernel).filter_map(Result::ok).map(|map| map.max_entries).sum();
//! assert_eq!(elements, 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod pins;

use std::fmt;
use std::os::fd::OwnedFd;

use skep_link::Link;
use skep_sys::abi::{
    BtfObjectId, Errno, LinkId, LinkType, MapId, MapType, OBJ_NAME_MAX, OpenFlags, ProgId, ProgType, TAG_SIZE,
};
use skep_sys::request::{BtfInfo, LinkInfo, MapInfo, ProgInfo};
use skep_sys::{BtfFd, Ids, Kernel, ObjectKind};

use crate::error::Error;
use crate::load::hint;
use crate::map::Map;
use crate::program::{Program, opened};

pub use pins::{Pinned, PinnedObject, pins};

/// All programs of a kernel (`BPF_PROG_GET_NEXT_ID`, Linux 4.13).
pub fn programs(kernel: &Kernel) -> Query<Program> {
    Query::new(kernel)
}

/// All maps of a kernel (`BPF_MAP_GET_NEXT_ID`, Linux 4.13).
pub fn maps(kernel: &Kernel) -> Query<Map> {
    Query::new(kernel)
}

/// All links of a kernel (`BPF_LINK_GET_NEXT_ID`, Linux 5.8).
///
/// A link is looked at through a handle of it: who drops the last other handle meanwhile detaches it only when the
/// query goes on.
pub fn links(kernel: &Kernel) -> Query<Link> {
    Query::new(kernel)
}

/// All BTF objects of a kernel: its own, its modules', and those of programs and maps (`BPF_BTF_GET_NEXT_ID`, Linux 5.1).
pub fn btfs(kernel: &Kernel) -> Query<BtfFd> {
    Query::new(kernel)
}

/// A kind of objects that can be listed: [`Program`], [`Map`], [`Link`], [`BtfFd`].
pub trait Listed: sealed::Sealed + Sized {
    /// What the kernel says of one.
    type Info;
    /// Which kind it is.
    const KIND: ObjectKind;
    /// The kind's plural, for errors.
    const PLURAL: &'static str;

    /// Opens one and asks the kernel about it.
    #[doc(hidden)]
    fn open(kernel: &Kernel, id: u32) -> Result<(Self, Self::Info), Errno>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Program {}
    impl Sealed for super::Map {}
    impl Sealed for super::Link {}
    impl Sealed for super::BtfFd {}
}

impl Listed for Program {
    type Info = ProgInfo;
    const KIND: ObjectKind = ObjectKind::Program;
    const PLURAL: &'static str = "programs";

    fn open(kernel: &Kernel, id: u32) -> Result<(Self, ProgInfo), Errno> {
        let program = kernel.prog_by_id(ProgId(id))?;
        let info = program.info()?;
        Ok((opened(program, &info), info))
    }
}

impl Listed for Map {
    type Info = MapInfo;
    const KIND: ObjectKind = ObjectKind::Map;
    const PLURAL: &'static str = "maps";

    fn open(kernel: &Kernel, id: u32) -> Result<(Self, MapInfo), Errno> {
        let fd = kernel.map_by_id(MapId(id), OpenFlags::empty())?;
        let info = fd.info().map_err(|error| error.errno().unwrap_or(Errno::EIO))?;
        Ok((Map::new(&info.name, fd), info))
    }
}

impl Listed for Link {
    type Info = LinkInfo;
    const KIND: ObjectKind = ObjectKind::Link;
    const PLURAL: &'static str = "links";

    fn open(kernel: &Kernel, id: u32) -> Result<(Self, LinkInfo), Errno> {
        let fd = kernel.link_by_id(LinkId(id))?;
        let info = fd.info()?;
        let link = Link::from_fd(kernel, OwnedFd::from(fd));
        Ok((link.map_err(|error| error.errno().unwrap_or(Errno::EIO))?, info))
    }
}

impl Listed for BtfFd {
    type Info = BtfInfo;
    const KIND: ObjectKind = ObjectKind::Btf;
    const PLURAL: &'static str = "BTF objects";

    fn open(kernel: &Kernel, id: u32) -> Result<(Self, BtfInfo), Errno> {
        let fd = kernel.btf_by_id(BtfObjectId(id))?;
        let info = fd.info()?;
        Ok((fd, info))
    }
}

/// A condition on what the kernel says of an object.
type Condition<I> = Box<dyn Fn(&I) -> bool + Send + Sync>;

/// Iterator over what a kernel says of its objects of a kind, made by [`programs`], [`maps`], [`links`] and [`btfs`].
///
/// It ends after the first error of the listing itself: [`Error::Query`], which is [`Errno::EPERM`] for who may not list
/// (that needs `CAP_SYS_ADMIN`) and [`Errno::EINVAL`] from kernels that cannot.
#[must_use = "it asks nothing until it is iterated over"]
pub struct Query<O: Listed> {
    kernel: Kernel,
    ids: Ids,
    conditions: Vec<Condition<O::Info>>,
    ended: bool,
}

impl<O: Listed> fmt::Debug for Query<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions = self.conditions.len();
        f.debug_struct("Query")
            .field("of", &O::PLURAL)
            .field("conditions", &conditions)
            .finish_non_exhaustive()
    }
}

impl<O: Listed> Query<O> {
    fn new(kernel: &Kernel) -> Self {
        Query { kernel: kernel.clone(), ids: kernel.ids(O::KIND), conditions: Vec::new(), ended: false }
    }

    /// Only those for which `condition` is true. All conditions of a query have to be.
    pub fn matching(mut self, condition: impl Fn(&O::Info) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Box::new(condition));
        self
    }

    /// The objects themselves instead of what the kernel says of them.
    pub fn handles(self) -> Handles<O> {
        Handles(self)
    }

    fn advance(&mut self) -> Option<Result<(O, O::Info), Error>> {
        while !self.ended {
            let opened = match self.ids.next()? {
                Ok(id) => O::open(&self.kernel, id),
                Err(errno) => Err(errno),
            };
            match opened {
                Ok((object, info)) => {
                    if self.conditions.iter().all(|condition| condition(&info)) {
                        return Some(Ok((object, info)));
                    }
                }
                // It went away meanwhile.
                Err(Errno::ENOENT) => {}
                Err(source) => {
                    self.ended = true;
                    let hint = match source {
                        Errno::EPERM => hint::for_admin(&self.kernel),
                        Errno::EINVAL => " (it is too old to list them)".to_owned(),
                        _ => String::new(),
                    };
                    return Some(Err(Error::Query { what: O::PLURAL, hint, source }));
                }
            }
        }
        None
    }
}

impl<O: Listed> Iterator for Query<O> {
    type Item = Result<O::Info, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().map(|found| found.map(|(_, info)| info))
    }
}

/// Iterator over the objects of a [`Query`], from [`Query::handles`].
#[derive(Debug)]
#[must_use = "it asks nothing until it is iterated over"]
pub struct Handles<O: Listed>(Query<O>);

impl<O: Listed> Iterator for Handles<O> {
    type Item = Result<O, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.advance().map(|found| found.map(|(object, _)| object))
    }
}

/// The name as a kernel keeps it.
fn kept(name: &str) -> String {
    crate::spec::sanitize(name)
}

impl Query<Program> {
    /// Only programs of a kind.
    pub fn of_type(self, prog_type: ProgType) -> Self {
        self.matching(move |info| info.prog_type == prog_type)
    }

    /// Only programs of that name. Kernels keep the first 15 bytes of names, so only these are compared.
    pub fn named(self, name: &str) -> Self {
        let name = kept(name);
        self.matching(move |info| info.name == name)
    }

    /// Only programs with these instructions, by their hash.
    pub fn tagged(self, tag: [u8; TAG_SIZE]) -> Self {
        self.matching(move |info| info.tag == tag)
    }

    /// Only programs that were loaded by a user.
    pub fn of_user(self, uid: u32) -> Self {
        self.matching(move |info| info.created_by_uid == uid)
    }

    /// Only programs that use a map.
    pub fn using_map(self, map: MapId) -> Self {
        self.matching(move |info| info.map_ids.contains(&map))
    }

    /// Only programs with a BTF object; those of one object file share it.
    pub fn with_btf(self, btf: BtfObjectId) -> Self {
        self.matching(move |info| info.btf_id == btf)
    }
}

impl Query<Map> {
    /// Only maps of a kind.
    pub fn of_type(self, map_type: MapType) -> Self {
        self.matching(move |info| info.map_type == map_type)
    }

    /// Only maps of that name, of which the first 15 bytes are compared.
    pub fn named(self, name: &str) -> Self {
        let name = kept(name);
        self.matching(move |info| info.name == name)
    }

    /// Only maps with a BTF object; those of one object file share it.
    pub fn with_btf(self, btf: BtfObjectId) -> Self {
        self.matching(move |info| info.btf_id == btf)
    }
}

impl Query<Link> {
    /// Only links of a kind.
    pub fn of_type(self, link_type: LinkType) -> Self {
        self.matching(move |info| info.link_type == link_type)
    }

    /// Only links that run a program.
    pub fn of_program(self, program: ProgId) -> Self {
        self.matching(move |info| info.prog_id == program)
    }
}

impl Query<BtfFd> {
    /// Only the object of that name: `vmlinux`, or of a module (Linux 5.11).
    pub fn named(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.matching(move |info| info.name == name)
    }

    /// Only the kernel's own and its modules' (Linux 5.11).
    pub fn of_kernel(self) -> Self {
        self.matching(|info| info.kernel)
    }
}

const _: () = assert!(OBJ_NAME_MAX == 15, "the documentation says so");
