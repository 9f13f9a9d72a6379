//! What is mapped into a process, from the text of `/proc/PID/maps`.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use skep_sys::abi::Errno;

/// Bytes of a table that are looked at: a process has at most some ten thousand mappings.
const TEXT_MAX: u64 = 64 << 20;

/// The mappings of files that may be run, in the order of their addresses.
#[derive(Debug, Default)]
pub(super) struct Mappings(Vec<Mapping>);

/// A part of a file in a process.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where it begins in the file.
    offset: u64,
    device: String,
    inode: u64,
    pub(super) path: PathBuf,
}

/// What tells a file from others. A path alone may mean several, by process and time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: String,
    pub(super) inode: u64,
    pub(super) path: PathBuf,
}

impl Mapping {
    pub(super) fn file_offset(&self, address: u64) -> u64 {
        address.saturating_sub(self.start).saturating_add(self.offset)
    }

    pub(super) fn file_id(&self) -> FileId {
        FileId { device: self.device.clone(), inode: self.inode, path: self.path.clone() }
    }
}

impl Mappings {
    pub(super) fn read(text: impl Read) -> Result<Mappings, Errno> {
        let mut bytes = Vec::new();
        let read = text.take(TEXT_MAX).read_to_end(&mut bytes);
        read.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno))?;
        let mut mappings: Vec<Mapping> = bytes.split(|&byte| byte == b'\n').filter_map(mapping).collect();
        mappings.sort_by_key(|mapping| mapping.start);
        Ok(Mappings(mappings))
    }

    pub(super) fn find(&self, address: u64) -> Option<&Mapping> {
        let after = self.0.partition_point(|mapping| mapping.start <= address);
        let mapping = self.0.get(after.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping)
    }
}

/// A line such as `55d0c000-55d0d000 r-xp 00001000 08:01 1234   /usr/bin/cat`; none for memory that is not run, or no file.
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        let tail = rest.get(start..)?;
        let end = tail.iter().position(|byte| *byte == b' ').unwrap_or(tail.len());
        let (word, after) = tail.split_at_checked(end)?;
        rest = after;
        std::str::from_utf8(word).ok()
    };
    let (range, mode, offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
    let (start, end) = range.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let path = rest.trim_ascii_start();
    // `[heap]`, `[vdso]` and the like are no files, nor is what has no name.
    if !mode.contains('x') || !path.starts_with(b"/") {
        return None;
    }
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        device: device.to_owned(),
        inode: inode.parse().ok()?,
        path: OsStr::from_bytes(&unescaped(path)).into(),
    })
}

/// The kernel writes a newline in a path as `\012`.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(tail) => {
                bytes.push(b'\n');
                rest = tail;
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Mappings;

    #[test]
    fn mappings_are_found_by_address() {
        let text = b"7f0000002000-7f0000004000 r-xp 00001000 08:01 77 /usr/lib/lib c.so\n\
            55d0c0000000-55d0c0001000 r--p 00000000 08:01 12 /usr/bin/cat\n\
            55d0c0001000-55d0c0002000 r-xp 00001000 08:01 12 /usr/bin/cat (deleted)\n\
            7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0 [vdso]\n\
            7ffd00000000-7ffd00001000 rwxp 00000000 00:00 0\n\
            7ffe00000000-7ffe00001000 r-xp 00000000 08:01 5 /a\\012b\nnonsense\n\xff - x\n";
        let mappings = Mappings::read(&text[..]).unwrap();
        assert_eq!(mappings.0.len(), 3);
        let cat = mappings.find(0x55d0_c000_1234).unwrap();
        assert_eq!((cat.file_offset(0x55d0_c000_1234), cat.inode), (0x1234, 12));
        let lib = mappings.find(0x7f00_0000_2000).unwrap();
        assert_eq!(
            (lib.path.as_path(), lib.file_offset(0x7f00_0000_2010)),
            (Path::new("/usr/lib/lib c.so"), 0x1010)
        );
        assert_eq!(mappings.find(0x7ffe_0000_0000).unwrap().path, Path::new("/a\nb"));
        for nowhere in [0, 0x55d0_c000_0000, 0x7f00_0000_4000, 0x7ffc_0000_0000, u64::MAX] {
            assert!(mappings.find(nowhere).is_none(), "{nowhere:#x}");
        }
    }
}
