//! Which kernels to look at, and what is known of each.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use skep::reloc::BtfTarget;

use super::Args;
use crate::{inspect, out};

/// How deep directories are looked into.
const MAX_DEPTH: usize = 16;

/// A kernel, by the files that describe it.
pub(super) struct Kernel {
    /// What it is called: the path of its types.
    pub(super) name: String,
    /// Which one it is.
    pub(super) number: usize,
    btf: PathBuf,
    kconfig: Option<PathBuf>,
    kallsyms: Option<PathBuf>,
    modules: Vec<PathBuf>,
    version: Option<String>,
}

/// The kernels of these files and directories; a file is taken once.
pub(super) fn find(paths: &[PathBuf]) -> anyhow::Result<Vec<Kernel>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
        if !metadata.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        walk(path, 0, &mut files).with_context(|| format!("look into {}", path.display()))?;
        if files.len() == before {
            return Err(out::Usage(format!(
                "{} holds no kernel's types: looked for *.btf, vmlinux* and files that begin as BTF does",
                path.display()
            ))
            .into());
        }
    }
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files.into_iter().enumerate().map(|(number, btf)| Kernel::new(number, btf)).collect())
}

fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    // So that the order is the same everywhere, and 5.4 comes before 5.10.
    entries.sort_by_cached_key(|path| natural(&path.to_string_lossy()));
    for path in entries {
        // A link may lead back here: links to directories are not followed.
        let link = fs::symlink_metadata(&path)?.is_symlink();
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            let modules = path.extension() == Some(OsStr::new("modules"));
            if !link && !modules && depth < MAX_DEPTH {
                walk(&path, depth + 1, files)?;
            }
        } else if metadata.is_file() && is_kernel(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Numbers in a name count as numbers.
fn natural(name: &str) -> Vec<(u64, String)> {
    let mut parts: Vec<(u64, String)> = vec![(0, String::new())];
    let mut digits = false;
    for c in name.chars() {
        match c.to_digit(10) {
            Some(digit) => {
                if !digits {
                    parts.push((0, String::new()));
                }
                if let Some((number, _)) = parts.last_mut() {
                    *number = number.saturating_mul(10).saturating_add(digit.into());
                }
            }
            None => {
                if let Some((_, text)) = parts.last_mut() {
                    text.push(c);
                }
            }
        }
        digits = c.is_ascii_digit();
    }
    parts
}

/// Whether a file in a directory is one of a kernel's types.
fn is_kernel(path: &Path) -> bool {
    let magic = magic(path);
    let is_btf = matches!(magic, Some([0x9f, 0xeb, ..] | [0xeb, 0x9f, ..]));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_vmlinux = name.starts_with("vmlinux") && magic == Some(*b"\x7fELF");
    // What is named as one and is none is an error that its user wants to see.
    name.ends_with(".btf") || is_vmlinux || is_btf && !is_module(path)
}

/// Whether raw BTF is that of a module: it stands on another one.
fn is_module(path: &Path) -> bool {
    BtfTarget::open(path).is_err() && path.with_file_name("vmlinux").is_file()
}

fn magic(path: &Path) -> Option<[u8; 4]> {
    let mut magic = [0; 4];
    fs::File::open(path).ok()?.read_exact(&mut magic).ok()?;
    Some(magic)
}

impl Kernel {
    fn new(number: usize, btf: PathBuf) -> Kernel {
        let stem = match btf.extension() {
            Some(extension) if extension == "btf" => btf.with_extension(""),
            _ => btf.clone(),
        };
        let beside = |suffix: &str| {
            let mut name = stem.clone().into_os_string();
            name.push(suffix);
            Some(PathBuf::from(name)).filter(|path| path.exists())
        };
        let mut modules = match beside(".modules") {
            Some(directory) => files_of(&directory),
            None => Vec::new(),
        };
        // As in /sys/kernel/btf.
        if let (Some("vmlinux"), Some(directory)) = (btf.file_name().and_then(OsStr::to_str), btf.parent()) {
            let others = files_of(directory).into_iter().filter(|path| {
                matches!(magic(path), Some([0x9f, 0xeb, ..] | [0xeb, 0x9f, ..])) && is_module(path)
            });
            modules.extend(others);
        }
        Kernel {
            name: inspect::name(&btf),
            number,
            kconfig: beside(".config").or_else(|| beside(".config.gz")),
            kallsyms: beside(".kallsyms"),
            modules,
            version: None,
            btf,
        }
    }

    /// Adds what the command line says of it.
    pub(super) fn describe(&mut self, args: &Args) {
        self.kconfig = args.kconfig.clone().or(self.kconfig.take());
        self.kallsyms = args.kallsyms.clone().or(self.kallsyms.take());
        self.version.clone_from(&args.kernel_version);
        self.modules.extend(args.modules.iter().cloned());
    }

    /// Reads all that is known of it.
    pub(super) fn target(&self) -> Result<BtfTarget, String> {
        let read = |path: &Path| fs::read(path).map_err(|error| format!("read {}: {error}", path.display()));
        let said = |error: skep::reloc::TargetError| error.to_string();
        let mut target = BtfTarget::open(&self.btf).map_err(said)?;
        if let Some(path) = &self.kconfig {
            target =
                target.with_kconfig(read(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if let Some(version) = &self.version {
            target = target.with_version(version).map_err(said)?;
        }
        if let Some(path) = &self.kallsyms {
            target = target.with_symbols(read(path)?);
        }
        for path in &self.modules {
            target = target.open_module(path).map_err(said)?;
        }
        Ok(target)
    }
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_in_names_are_ordered_as_numbers() {
        let mut names = ["6.1.btf", "5.10.btf", "5.4.btf", "a"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["5.4.btf", "5.10.btf", "6.1.btf", "a"]);
    }
}
