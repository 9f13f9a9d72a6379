use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::abi::OpenFlags;
use crate::backend::ObjectKind;

/// `BPF_BTF_LOAD`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BtfLoad<'a> {
    /// The BTF, in the byte order of the machine.
    pub bytes: &'a [u8],
    /// Token that the right comes from (Linux 6.9). [`Kernel`](crate::Kernel) puts its own here.
    pub token: Option<BorrowedFd<'a>>,
}

impl<'a> BtfLoad<'a> {
    /// These bytes, with the rights of the process.
    pub fn new(bytes: &'a [u8]) -> Self {
        BtfLoad { bytes, token: None }
    }
}

/// `BPF_*_GET_FD_BY_ID`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenById<'a> {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Its id.
    pub id: u32,
    /// Flags of the descriptor, of maps.
    pub flags: OpenFlags,
    /// Token that the right comes from, for BTF (Linux 6.15).
    pub token: Option<BorrowedFd<'a>>,
}

impl OpenById<'_> {
    /// The object of this kind and id, with the rights of the process.
    pub fn new(kind: ObjectKind, id: u32) -> Self {
        OpenById { kind, id, flags: OpenFlags::empty(), token: None }
    }
}

/// Pins an object (`BPF_OBJ_PIN`).
#[derive(Clone, Copy, Debug)]
pub struct Pin<'a> {
    /// The object.
    pub fd: BorrowedFd<'a>,
    /// Path on a bpffs.
    pub path: &'a Path,
}

/// One thing in a directory of a bpffs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinEntry {
    /// Its name in the directory.
    pub name: OsString,
    /// What it is.
    pub kind: PinEntryKind,
}

/// Whose a file of a bpffs is, and what its mode allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PinAttributes {
    /// The lower twelve bits of its mode: `0o600` is what a pin has that was just made.
    pub mode: u32,
    /// The user whose it is.
    pub uid: u32,
    /// The group whose it is.
    pub gid: u32,
}

/// Kinds of things in a directory of a bpffs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PinEntryKind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pinned object, of whatever kind: the file system does not tell.
    Pin,
}
