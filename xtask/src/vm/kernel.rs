//! The kernels that can be booted, and one of them unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection};

use super::store::Tools;

/// A kernel that Debian builds for virtual machines.
pub(crate) struct Release {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// The suite that has it.
    pub(crate) suite: &'static str,
    /// Its packages: `*` is the newest version of the first one and the same in the others.
    pub(crate) packages: &'static [&'static str],
}

/// All kernels, oldest first.
pub(crate) const RELEASES: &[Release] = &[
    Release { name: "5.10", suite: "bullseye", packages: &["linux-image-5.10.0-*-cloud-amd64-unsigned"] },
    Release { name: "6.1", suite: "bookworm", packages: &["linux-image-6.1.0-*-cloud-amd64-unsigned"] },
    Release { name: "6.12", suite: "trixie", packages: &["linux-image-6.12.*-cloud-amd64-unsigned"] },
    Release {
        name: "new",
        suite: "sid",
        packages: &[
            "linux-base-*-cloud-amd64",
            "linux-binary-unsigned-*-cloud-amd64",
            "linux-modules-*-cloud-amd64",
        ],
    },
];

/// The release called `name`.
pub(crate) fn find(name: &str) -> Result<&'static Release> {
    RELEASES.iter().find(|release| release.name == name).with_context(|| {
        let known: Vec<_> = RELEASES.iter().map(|release| release.name).collect();
        format!("unknown kernel `{name}`: choose one of {}", known.join(", "))
    })
}

/// A kernel, unpacked.
pub(super) struct Kernel {
    /// The uncompressed image, which qemu enters directly.
    pub(super) image: PathBuf,
    /// What `uname -r` says in it.
    pub(super) version: String,
    /// Its configuration.
    pub(super) config: PathBuf,
    modules: PathBuf,
}

/// A kernel module, ready to load.
pub(super) struct Module {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl Module {
    /// Whether it has BTF.
    pub(super) fn has_types(&self) -> bool {
        object::File::parse(&*self.bytes).is_ok_and(|elf| elf.section_by_name(".BTF").is_some())
    }
}

impl Kernel {
    /// Puts the uncompressed image beside the unpacked packages in `root`.
    pub(super) fn prepare(root: &Path, tools: &Tools) -> Result<()> {
        let compressed = only_match(root, &["boot", "usr/lib/modules/*"], "vmlinuz")?;
        let elf = decompress(&fs::read(&compressed)?, tools)
            .with_context(|| format!("decompress {}", compressed.display()))?;
        fs::write(root.join("vmlinux"), elf)?;
        Ok(())
    }

    pub(super) fn open(root: &Path) -> Result<Self> {
        let modules = only_match(root, &["lib/modules", "usr/lib/modules"], "")?;
        let version = modules.file_name().context("a modules directory has a name")?;
        let version = version.to_string_lossy().into_owned();
        let config = only_match(root, &["boot", "usr/lib/modules/*"], "config")?;
        Ok(Self { image: root.join("vmlinux"), version, config, modules })
    }

    /// The named modules and those that they need, in the order to load them; without the built-in ones.
    pub(super) fn modules(&self, names: &[String], tools: &Tools) -> Result<Vec<Module>> {
        let mut files = BTreeMap::new();
        index_modules(&self.modules, &mut files)?;
        let builtin = fs::read_to_string(self.modules.join("modules.builtin")).unwrap_or_default();
        let builtin: Vec<String> = builtin.lines().map(|line| module_name(Path::new(line))).collect();
        let mut loaded = Vec::new();
        for name in names {
            self.load_order(&name.replace('-', "_"), &files, &builtin, tools, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn load_order(
        &self,
        name: &str,
        files: &BTreeMap<String, PathBuf>,
        builtin: &[String],
        tools: &Tools,
        loaded: &mut Vec<Module>,
    ) -> Result<()> {
        if loaded.iter().any(|module| module.name == name) || builtin.iter().any(|module| module == name) {
            return Ok(());
        }
        let file =
            files.get(name).with_context(|| format!("kernel {} has no module {name}", self.version))?;
        let bytes = fs::read(file)?;
        let bytes = match file.extension().and_then(|e| e.to_str()) {
            Some("xz") => tools.filter("xz", &["-dcq"], &bytes)?,
            Some("zst") => tools.filter("zstd", &["-dcq"], &bytes)?,
            _ => bytes,
        };
        for needed in depends(&bytes).with_context(|| format!("read {}", file.display()))? {
            self.load_order(&needed.replace('-', "_"), files, builtin, tools, loaded)?;
        }
        loaded.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

/// The ELF image inside a bzImage. (Documentation/arch/x86/boot.rst: `setup_sects`, `payload_offset`, `payload_length`)
fn decompress(bz: &[u8], tools: &Tools) -> Result<Vec<u8>> {
    let word = |at: usize| -> Option<usize> {
        let bytes = bz.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    ensure!(bz.get(0x202..0x206) == Some(b"HdrS"), "not a bzImage");
    let setup = (usize::from(bz[0x1f1]) + 1) * 512; // the ensure above read past 0x1f1
    let payload = (|| {
        let start = setup.checked_add(word(0x248)?)?;
        // The last four bytes hold the uncompressed size.
        bz.get(start..start.checked_add(word(0x24c)?)?.checked_sub(4)?)
    })();
    let payload = payload.context("the payload is outside of the file")?;
    let (tool, args): (_, &[&str]) = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", &["-dcq"]),
        [0x02, 0x21, 0x4c, 0x18, ..] => ("lz4", &["-dcq"]),
        [0xfd, b'7', b'z', ..] => ("xz", &["-dcq", "--single-stream"]),
        _ => bail!("unknown compression"),
    };
    let elf = tools.filter(tool, args, payload)?;
    ensure!(elf.starts_with(b"\x7fELF"), "the payload is not an ELF file");
    Ok(elf)
}

/// The modules that a module names in its `depends=` entry.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    let elf = object::File::parse(module)?;
    let info = elf.section_by_name(".modinfo").context("no .modinfo section")?.data()?;
    let list = info.split(|&b| b == 0).find_map(|entry| entry.strip_prefix(b"depends=")).unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    Ok(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// `kernel/net/sched/cls_bpf.ko.xz` is `cls_bpf`.
fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

fn index_modules(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            index_modules(&entry.path(), files)?;
        } else if entry.file_name().to_string_lossy().contains(".ko") {
            files.insert(module_name(&entry.path()), entry.path());
        }
    }
    Ok(())
}

/// The one entry whose name begins with `prefix` in the first of the directories that has one.
/// A `*` at the end of a directory is any directory.
fn only_match(root: &Path, dirs: &[&str], prefix: &str) -> Result<PathBuf> {
    for dir in dirs {
        let parents = match dir.strip_suffix("/*") {
            Some(parent) => entries(&root.join(parent)),
            None => vec![root.join(dir)],
        };
        for parent in parents {
            let found = entries(&parent)
                .into_iter()
                .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }
    bail!("{} holds no {prefix}* in {}", root.display(), dirs.join(" or "))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules_have_no_suffix() {
        assert_eq!(module_name(Path::new("kernel/net/sched/cls-bpf.ko.xz")), "cls_bpf");
        assert_eq!(module_name(Path::new("veth.ko")), "veth");
    }

    #[test]
    fn an_unknown_kernel_names_the_known_ones() {
        let error = find("4.4").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("5.10, 6.1, 6.12, new"), "{error}");
    }
}
