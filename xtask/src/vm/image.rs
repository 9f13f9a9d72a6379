//! The guest's file system: an initramfs in the kernel's "newc" cpio format.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use anyhow::{Context, Result, ensure};

const PAGE: usize = 4096;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that is being written. Parents are made as needed; what is added first stays.
#[derive(Default)]
pub(super) struct Image {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Image {
    /// Adds a directory.
    pub(super) fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        self.entry(path, DIRECTORY | mode, &[], (0, 0))
    }

    /// Adds a file with these contents.
    pub(super) fn file(&mut self, path: &Path, mode: u32, contents: &[u8]) -> Result<()> {
        self.entry(path, REGULAR | mode, contents, (0, 0))
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &Path, mode: u32, major: u32, minor: u32) -> Result<()> {
        self.entry(path, CHARACTER_DEVICE | mode, &[], (major, minor))
    }

    /// Copies a file, or a directory with all that is in it, from the host.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let metadata = fs::metadata(from).with_context(|| format!("read {}", from.display()))?;
        if !metadata.is_dir() {
            let contents = fs::read(from).with_context(|| format!("read {}", from.display()))?;
            return self.file(to, metadata.permissions().mode() & 0o777, &contents);
        }
        self.directory(to, 0o755)?;
        let mut entries = fs::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            self.copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    }

    /// The finished archive, in whole pages. QEMU puts it as high into the memory of a microvm as it fits, and the
    /// firmware puts the ACPI tables into the last page without looking: with a part of a page they overlap, the kernel
    /// reads file contents as tables, and hangs.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.record("TRAILER!!!", 0, &[], (0, 0))?;
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE), 0);
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &Path, mode: u32, contents: &[u8], device: (u32, u32)) -> Result<()> {
        let mut name = String::new();
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(part) => {
                    if !name.is_empty() && self.names.insert(name.clone()) {
                        self.record(&name, DIRECTORY | 0o755, &[], (0, 0))?;
                    }
                    if !name.is_empty() {
                        name.push('/');
                    }
                    name.push_str(part.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?);
                }
                Component::ParentDir | Component::Prefix(_) => {
                    anyhow::bail!("{} is not a plain path", path.display())
                }
            }
        }
        if name.is_empty() || !self.names.insert(name.clone()) {
            return Ok(());
        }
        self.record(&name, mode, contents, device)
    }

    fn record(&mut self, name: &str, mode: u32, contents: &[u8], (major, minor): (u32, u32)) -> Result<()> {
        let size = u32::try_from(contents.len()).ok().with_context(|| format!("{name} is over 4 GiB"))?;
        ensure!(name.len() < 4096, "{name} is too long");
        let inode = self.names.len();
        self.bytes.extend(b"070701");
        let fields = [
            inode,
            mode as usize,
            0,
            0,
            1,
            0,
            size as usize,
            0,
            0,
            major as usize,
            minor as usize,
            name.len() + 1,
            0,
        ];
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_nothing_comes_twice() -> Result<()> {
        let mut image = Image::default();
        image.file(Path::new("/a/b/c"), 0o644, b"12345")?;
        image.directory(Path::new("a/b"), 0o700)?;
        image.file(Path::new("/a/b/c"), 0o644, b"other")?;
        let bytes = image.finish()?;
        let text = String::from_utf8_lossy(&bytes);
        let at = |needle: &str| text.find(needle).with_context(|| format!("{needle} is missing"));
        assert!(at("a\0")? < at("a/b\0")? && at("a/b\0")? < at("a/b/c\0")?);
        assert!(text.contains("12345") && !text.contains("other"));
        assert_eq!(text.matches("070701").count(), 4, "three entries and the trailer");
        assert_eq!(bytes.len() % PAGE, 0);
        assert!(Image::default().file(Path::new("/a/../b"), 0o644, b"").is_err());
        Ok(())
    }
}
