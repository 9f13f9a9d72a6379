//! What the kernel says beside bpf(2): files under `/proc` and `/sys`, limits, the pin file system.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::statfs::statfs;
use nix::unistd::{SysconfVar, sysconf};

use crate::abi::{Errno, ProgType};
use crate::backend::Permissions;
use crate::request::{MapUsage, PinAttributes, PinEntry, PinEntryKind, ProcessFile, ReadSeek};

/// `BPF_FS_MAGIC`.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

pub(super) fn io_errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno)
}

/// Size of a page in bytes.
pub(super) fn page_size() -> u32 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u32::try_from(size).ok()).unwrap_or(4096)
}

fn nix_errno(errno: nix::errno::Errno) -> Errno {
    Errno(errno as i32)
}

/// [`Errno::EINVAL`] unless `fd` is an object of this kind, by the name of its inode: the kernel answers a request for
/// info whatever the descriptor is, so an answer could be read as what it is not. Without `/proc` nothing is checked.
pub(super) fn check_kind(fd: BorrowedFd<'_>, kind: &str) -> Result<(), Errno> {
    match fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) {
        Ok(target) => match target.to_str().and_then(|target| target.strip_prefix("anon_inode:")) {
            Some(found) if found.replace('_', "-") == kind => Ok(()),
            _ => Err(Errno::EINVAL),
        },
        Err(_) => Ok(()),
    }
}

/// What `/proc/self/fdinfo` says that an object takes.
pub(super) fn memlock(object: BorrowedFd<'_>) -> Result<u64, Errno> {
    let path = format!("/proc/self/fdinfo/{}", object.as_raw_fd());
    let text = fs::read_to_string(path).map_err(|error| io_errno(&error))?;
    let field = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    field.and_then(|number| number.trim().parse().ok()).ok_or(Errno::EINVAL)
}

/// What `/proc` says of a map's descriptor.
pub(super) fn map_usage(map: BorrowedFd<'_>) -> Result<MapUsage, Errno> {
    check_kind(map, "bpf-map")?;
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()));
    Ok(usage(&text.map_err(|error| io_errno(&error))?))
}

fn usage(text: &str) -> MapUsage {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse::<u64>().ok()
    };
    MapUsage {
        memory: field("memlock"),
        frozen: field("frozen").map(|frozen| frozen != 0),
        owner: field("owner_prog_type").and_then(|kind| u32::try_from(kind).ok()).map(ProgType),
    }
}

pub(super) fn possible_cpus() -> Result<u32, Errno> {
    let list = fs::read_to_string("/sys/devices/system/cpu/possible").map_err(|error| io_errno(&error))?;
    count_cpus(&list).ok_or(Errno::EINVAL)
}

pub(super) fn online_cpus() -> Result<Vec<u32>, Errno> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").map_err(|error| io_errno(&error))?;
    list_cpus(&list).ok_or(Errno::EINVAL)
}

/// Number of CPUs in a list such as `0-3,6`.
fn count_cpus(list: &str) -> Option<u32> {
    cpu_ranges(list).try_fold(0u32, |count, range| {
        let (first, last) = range?;
        count.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// The CPUs in such a list, if there are no more than any Linux kernel has.
fn list_cpus(list: &str) -> Option<Vec<u32>> {
    const MANY: u32 = 1 << 16;

    if count_cpus(list)? > MANY {
        return None;
    }
    let mut cpus = Vec::new();
    for range in cpu_ranges(list) {
        let (first, last) = range?;
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// First and last of each range in such a list.
fn cpu_ranges(list: &str) -> impl Iterator<Item = Option<(u32, u32)>> {
    list.trim().split(',').map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    })
}

pub(super) fn release() -> Result<String, Errno> {
    let name = nix::sys::utsname::uname().map_err(nix_errno)?;
    Ok(name.release().to_string_lossy().into_owned())
}

pub(super) fn config() -> Result<Box<dyn io::Read + Send>, Errno> {
    let boot = format!("/boot/config-{}", release()?);
    let file = fs::File::open(boot).or_else(|_| fs::File::open("/proc/config.gz"));
    Ok(Box::new(file.map_err(|error| io_errno(&error))?))
}

pub(super) fn symbols() -> Result<Box<dyn io::Read + Send>, Errno> {
    Ok(Box::new(fs::File::open("/proc/kallsyms").map_err(|error| io_errno(&error))?))
}

pub(super) fn process_maps(pid: u32) -> Result<Box<dyn io::Read + Send>, Errno> {
    let file = fs::File::open(format!("/proc/{pid}/maps"));
    Ok(Box::new(file.map_err(|error| io_errno(&error))?))
}

pub(super) fn process_file(file: &ProcessFile<'_>) -> Result<Box<dyn ReadSeek>, Errno> {
    let &ProcessFile { pid, start, end, path } = file;
    let mut options = fs::OpenOptions::new();
    // What has the path now may be anything, and must not make us wait.
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let by_path = || {
        let path = path.strip_prefix("/").map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        options.open(Path::new(&format!("/proc/{pid}/root")).join(path))
    };
    let file = options.open(format!("/proc/{pid}/map_files/{start:x}-{end:x}")).or_else(|_| by_path());
    let file = file.map_err(|error| io_errno(&error))?;
    match file.metadata() {
        Ok(data) if data.is_file() => Ok(Box::new(file)),
        Ok(_) => Err(Errno::EINVAL),
        Err(error) => Err(io_errno(&error)),
    }
}

/// Prefix of the system calls of architectures that wrap them.
const WRAPPER: Option<&str> = match () {
    () if cfg!(target_arch = "x86_64") => Some("__x64"),
    () if cfg!(target_arch = "x86") => Some("__ia32"),
    () if cfg!(target_arch = "aarch64") => Some("__arm64"),
    () if cfg!(target_arch = "s390x") => Some("__s390x"),
    () if cfg!(target_arch = "riscv64") => Some("__riscv"),
    () => None,
};

pub(super) fn has_syscall_wrapper() -> Result<bool, Errno> {
    let Some(prefix) = WRAPPER else { return Ok(false) };
    let wanted = format!("{prefix}_sys_bpf");
    let text = io::BufReader::new(symbols()?);
    for line in io::BufRead::lines(text) {
        let line = line.map_err(|error| io_errno(&error))?;
        if line.split_whitespace().nth(2) == Some(&wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn version_code() -> Result<u32, Errno> {
    let signature = fs::read_to_string("/proc/version_signature").ok();
    let name = nix::sys::utsname::uname().map_err(nix_errno)?;
    let (release, version) = (name.release().to_string_lossy(), name.version().to_string_lossy());
    choose_version(signature.as_deref(), &version, &release).ok_or(Errno::EINVAL)
}

/// The version that the kernel itself has compiled in. On Ubuntu and Debian the release is the distribution's and
/// the kernel's own version is elsewhere: third in Ubuntu's signature, after `Debian` in the version string.
fn choose_version(signature: Option<&str>, version: &str, release: &str) -> Option<u32> {
    let ubuntu = || parse_version(signature?.split_whitespace().nth(2)?);
    let debian = || parse_version(version.split_once("Debian ")?.1);
    ubuntu().or_else(debian).or_else(|| parse_version(release))
}

/// `a.b.c` with anything behind it as `KERNEL_VERSION(a, b, c)`.
fn parse_version(text: &str) -> Option<u32> {
    let mut numbers = text.splitn(3, '.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part.get(..end)?.parse::<u32>().ok()
    });
    let (major, minor, patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
    major.checked_mul(1 << 16)?.checked_add(minor.min(255) << 8)?.checked_add(patch.min(255))
}

pub(super) fn permissions() -> Permissions {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let memlock = getrlimit(Resource::RLIMIT_MEMLOCK).ok().map(|(soft, _)| soft);
    let unprivileged = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").ok();
    Permissions {
        effective_caps: effective_caps(&status),
        memlock_limit: memlock.filter(|&soft| soft != RLIM_INFINITY),
        unprivileged_bpf_disabled: unprivileged.and_then(|text| text.trim().parse().ok()),
        lockdown: lockdown_mode(&lockdown).filter(|&mode| mode != "none").map(str::to_owned),
        user_namespace: fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !maps_all(&map)),
    }
}

/// The mask after `CapEff:` in `/proc/self/status`.
fn effective_caps(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether a map of user ids is that of the first user namespace: all of them, to themselves.
fn maps_all(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The word in brackets of `none [integrity] confidentiality`.
fn lockdown_mode(text: &str) -> Option<&str> {
    text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

pub(super) fn raise_memlock() -> Result<bool, Errno> {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(nix_errno)?;
    if soft == RLIM_INFINITY {
        return Ok(false);
    }
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).map_err(nix_errno)?;
    Ok(true)
}

pub(super) fn is_bpffs(path: &Path) -> Result<bool, Errno> {
    match statfs(path) {
        // The type is a signed or unsigned word that holds 32 bits, depending on the machine.
        Ok(stat) => Ok(stat.filesystem_type().0 as u32 == BPF_FS_MAGIC),
        Err(nix::errno::Errno::ENOENT) => Ok(false),
        Err(errno) => Err(nix_errno(errno)),
    }
}

/// Opens a directory, such as the root of a bpffs.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let options = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path);
    options.map(OwnedFd::from).map_err(|error| io_errno(&error))
}

pub(super) fn unpin(path: &Path) -> Result<(), Errno> {
    fs::remove_file(path).map_err(|error| io_errno(&error))
}

pub(super) fn create_pin_dir(path: &Path) -> Result<(), Errno> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| io_errno(&error))
}

pub(super) fn remove_pin_dir(path: &Path) -> Result<(), Errno> {
    fs::remove_dir(path).map_err(|error| io_errno(&error))
}

pub(super) fn rename_pin(from: &Path, to: &Path) -> Result<(), Errno> {
    fs::rename(from, to).map_err(|error| io_errno(&error))
}

pub(super) fn symlink_pin(text: &Path, path: &Path) -> Result<(), Errno> {
    std::os::unix::fs::symlink(text, path).map_err(|error| io_errno(&error))
}

pub(super) fn read_pin_link(path: &Path) -> Result<PathBuf, Errno> {
    fs::read_link(path).map_err(|error| io_errno(&error))
}

pub(super) fn pin_dir_entries(path: &Path) -> Result<Vec<PinEntry>, Errno> {
    let read = || -> io::Result<Vec<PinEntry>> {
        fs::read_dir(path)?
            .map(|entry| {
                let entry = entry?;
                let kind = match entry.file_type()? {
                    kind if kind.is_dir() => PinEntryKind::Directory,
                    kind if kind.is_symlink() => PinEntryKind::Symlink,
                    _ => PinEntryKind::Pin,
                };
                Ok(PinEntry { name: entry.file_name(), kind })
            })
            .collect()
    };
    let mut entries = read().map_err(|error| io_errno(&error))?;
    entries.sort();
    Ok(entries)
}

/// What is on another file system is not changed.
fn on_bpffs(path: &Path) -> Result<(), Errno> {
    match is_bpffs(path) {
        Ok(true) => Ok(()),
        // `chmod` and `chown` say what is missing.
        Ok(false) if fs::symlink_metadata(path).is_err() => Err(Errno::ENOENT),
        Ok(false) => Err(Errno::EPERM),
        Err(errno) => Err(errno),
    }
}

pub(super) fn pin_attributes(path: &Path) -> Result<PinAttributes, Errno> {
    on_bpffs(path)?;
    let metadata = fs::metadata(path).map_err(|error| io_errno(&error))?;
    Ok(PinAttributes { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() })
}

pub(super) fn set_pin_mode(path: &Path, mode: u32) -> Result<(), Errno> {
    on_bpffs(path)?;
    let mode = fs::Permissions::from_mode(mode & 0o7777);
    fs::set_permissions(path, mode).map_err(|error| io_errno(&error))
}

pub(super) fn set_pin_owner(path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    on_bpffs(path)?;
    std::os::unix::fs::chown(path, uid, gid).map_err(|error| io_errno(&error))
}

pub(super) fn lock_pin_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let directory = fs::File::from(open_directory(path)?);
    match directory.try_lock() {
        Ok(()) => Ok(directory.into()),
        Err(fs::TryLockError::WouldBlock) => Err(Errno::EAGAIN),
        Err(fs::TryLockError::Error(error)) => Err(io_errno(&error)),
    }
}

pub(super) fn mount_bpffs(path: &Path) -> Result<(), Errno> {
    match create_pin_dir(path) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700")).map_err(nix_errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        for (list, count) in [("0\n", 1), ("0-1\n", 2), ("0-3,6", 5), ("0,2-3,8-127", 123)] {
            assert_eq!(count_cpus(list), Some(count), "{list}");
        }
        for list in ["", "\n", "a", "3-1", "0-", "0-4294967295", "1,,2"] {
            assert_eq!((count_cpus(list), list_cpus(list)), (None, None), "{list}");
        }
        assert_eq!(list_cpus("0,2-4,8\n"), Some(vec![0, 2, 3, 4, 8]));
        assert_eq!(list_cpus("0-4294967294"), None);
    }

    #[test]
    fn versions() {
        let code = |a: u32, b: u32, c: u32| Some(a << 16 | b << 8 | c);
        let plain = "#1 SMP PREEMPT_DYNAMIC";
        assert_eq!(choose_version(None, plain, "6.18.44-fc-v445"), code(6, 18, 44));
        assert_eq!(choose_version(None, plain, "5.10.0"), code(5, 10, 0));
        assert_eq!(
            choose_version(None, "#1 SMP Debian 4.19.37-5 (2019-06-19)", "4.19.0-5-amd64"),
            code(4, 19, 37)
        );
        let signature = "Ubuntu 4.15.0-20.21-generic 4.15.17\n";
        assert_eq!(choose_version(Some(signature), "#21-Ubuntu SMP", "4.15.0-20-generic"), code(4, 15, 17));
        assert_eq!(choose_version(None, plain, "4.9.337"), code(4, 9, 255));
        assert_eq!(choose_version(None, plain, "6.18"), None);
        assert_eq!(choose_version(None, plain, "99999999.1.1"), None);
    }

    #[test]
    fn rights() {
        assert_eq!(effective_caps("Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t0"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective_caps("CapEff:\tx"), None);
        assert_eq!(lockdown_mode("none [integrity] confidentiality\n"), Some("integrity"));
        assert_eq!(lockdown_mode(""), None);
    }
}
