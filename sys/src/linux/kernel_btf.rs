//! Where the kernel's own BTF is.
//!
//! Unsafe code is allowed here because a file is mapped.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use object::read::{ObjectSection, ReadCache};
use object::{Object, ReadRef};
use skep_btf::Btf;

use super::system::io_errno;
use crate::abi::Errno;

const SYSFS: &str = "/sys/kernel/btf/vmlinux";

/// Largest BTF that is believed; that of a distribution's kernel has 5 MB.
const MAX_SIZE: u64 = 1 << 30;

/// The BTF of the running kernel: sysfs, or else the kernel's image with debug information.
///
/// What sysfs has is the answer even when it is unreadable, since another file could only be less true.
pub(super) fn open(release: &str) -> Result<Bytes, Errno> {
    match File::open(SYSFS) {
        Ok(file) => sysfs(file),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            image_paths(release).iter().find_map(|path| image(path)).ok_or(Errno::ESRCH)
        }
        Err(error) => Err(io_errno(&error)),
    }
}

fn sysfs(mut file: File) -> Result<Bytes, Errno> {
    // SAFETY: the mapping is private and read-only, of a file in sysfs that is part of the kernel's image: it is
    // neither written nor truncated while the kernel runs. The mapping is owned by the `Bytes` made of it.
    if let Ok(mapping) = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file) } {
        return Ok(Bytes::from_owner(mapping));
    }
    // Before Linux 6.16 it cannot be mapped.
    let size = file.metadata().map_or(0, |metadata| metadata.len()).min(MAX_SIZE);
    let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(|_| Errno::ENOMEM)?);
    file.by_ref().take(MAX_SIZE).read_to_end(&mut bytes).map_err(|error| io_errno(&error))?;
    Ok(Bytes::from(bytes))
}

/// Where distributions put the image with a `.BTF` section, in libbpf's order.
fn image_paths(release: &str) -> [PathBuf; 7] {
    [
        format!("/boot/vmlinux-{release}"),
        format!("/lib/modules/{release}/vmlinux-{release}"),
        format!("/lib/modules/{release}/build/vmlinux"),
        format!("/usr/lib/modules/{release}/kernel/vmlinux"),
        format!("/usr/lib/debug/boot/vmlinux-{release}"),
        format!("/usr/lib/debug/boot/vmlinux-{release}.debug"),
        format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
    ]
    .map(PathBuf::from)
}

/// The well-formed BTF of an image, if there is any.
fn image(path: &Path) -> Option<Bytes> {
    // An image with debug information has hundreds of megabytes, so only what is needed of it is read.
    let cache = ReadCache::new(File::open(path).ok()?);
    let bytes = btf_section(&cache)?;
    Btf::parse(bytes.clone()).is_ok().then_some(bytes)
}

fn btf_section<'a>(data: impl ReadRef<'a>) -> Option<Bytes> {
    let file = object::File::parse(data).ok()?;
    let section = file.section_by_name(".BTF")?;
    (section.size() <= MAX_SIZE).then_some(())?;
    Some(Bytes::copy_from_slice(section.data().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_read_in_parts() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/tp_btf_exec.o");
        let bytes = image(&path).expect("a test object has BTF");
        assert!(Btf::parse(bytes).is_ok_and(|btf| !btf.is_empty()));
        assert!(image(Path::new("/proc/self/status")).is_none());
        assert!(image(Path::new("/nowhere")).is_none());
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a skipped test says so")]
    fn types_are_mapped_where_they_can_be() {
        let Ok(file) = File::open(SYSFS) else {
            return println!("skip: types_are_mapped_where_they_can_be: this kernel has no {SYSFS}");
        };
        // SAFETY: as above, and the mapping is let go of at once.
        let can_be = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file) }.is_ok();
        let bytes = sysfs(file).unwrap();
        let at = bytes.as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mapped = maps.lines().any(|line| line.starts_with(&format!("{at:x}-")) && line.ends_with(SYSFS));
        assert_eq!(mapped, can_be);
        assert!(Btf::parse(bytes).is_ok_and(|btf| btf.len() > 10_000));
    }
}
