//! What bodies need that are about maps whose keys or values are descriptors.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use skep::asm::Assembler;
use skep::btf::{BtfBuilder, IntEncoding};
use skep::map::{
    AttachedCgroupStorage, CgroupArray, CgroupStorage, CpuMap, DevMap, DevMapHash, InodeStorage, Map,
    MapError, PerCpuAttachedCgroupStorage, ReuseportArray, SkStorage, SockHash, SockMap, TaskStorage, XskMap,
};
use skep::sys::abi::{AttachType, MapFlags, MapType, ProgId, ProgType};
use skep::sys::request::{MapBtf, MapCreate, ProgLoad};
use skep::sys::{Feature, Kernel, LoadedProgram};

pub(super) fn is_simulated(kernel: &Kernel) -> bool {
    kernel.backend().name() == "simulated"
}

/// A map of a shape that not every kernel takes; none where it does not, which is said.
pub(super) fn try_map(kernel: &Kernel, map_type: MapType, key: u32, value: u32, entries: u32) -> Option<Map> {
    let mut request = MapCreate::new(map_type, key, value, entries);
    request.name = "under_test";
    created(kernel, &request)
}

pub(super) fn created(kernel: &Kernel, request: &MapCreate<'_>) -> Option<Map> {
    let map_type = request.map_type;
    if kernel.has(Feature::MapType(map_type)).is_unsupported() {
        println!("skip: {map_type}: this kernel has none");
        return None;
    }
    Some(Map::create(kernel, request).unwrap_or_else(|error| panic!("{map_type}: {error}")))
}

/// Local storage of a 32-bit integer.
pub(super) fn storage(kernel: &Kernel, map_type: MapType) -> Option<Map> {
    let mut types = BtfBuilder::new();
    let int = types.add_int("int", 4, IntEncoding::SIGNED).unwrap().0;
    let types = kernel.btf_load(types.finish().unwrap().bytes(), None).unwrap();
    let mut request = MapCreate::new(map_type, 4, 4, 0);
    request.name = "under_test";
    request.flags = MapFlags::NO_PREALLOC;
    request.btf = Some(MapBtf { btf: types.as_fd(), key_type: int, value_type: int });
    created(kernel, &request)
}

/// A view refuses maps of another kind, with other keys, or with values of another length.
pub(super) fn shapes(kernel: &Kernel) {
    let hash = super::map(kernel, MapType::HASH, 4, 4, 8);
    let long = super::map(kernel, MapType::HASH, 6, 8, 8);
    macro_rules! refuse {
        ($($view:ty)*) => {$(
            for map in [&hash, &long] {
                let error = map.typed::<$view>().unwrap_err();
                assert!(matches!(error, MapError::WrongType { .. }), "{error}");
            }
        )*};
    }
    refuse! {
        DevMap DevMapHash CpuMap XskMap SockMap SockHash<u32> ReuseportArray CgroupArray SkStorage<u32>
        TaskStorage<u32> InodeStorage<u32> CgroupStorage<u32> AttachedCgroupStorage<u64, u32>
        PerCpuAttachedCgroupStorage<u64, u32>
    }
    if let Some(map) = try_map(kernel, MapType::SOCKHASH, 6, 4, 1) {
        assert!(map.typed::<SockHash<[u8; 6]>>().is_ok());
        assert!(matches!(
            map.typed::<SockHash<u32>>(),
            Err(MapError::WrongKeySize { asked: 4, there: 6, .. })
        ));
    }
    if let Some(map) = storage(kernel, MapType::SK_STORAGE) {
        assert!(matches!(map.typed::<SkStorage<u64>>(), Err(MapError::WrongLayout { .. })));
        let view: SkStorage<i32> = map.typed().unwrap();
        assert!(format!("{view:?}").starts_with("SkStorage("));
        assert_eq!(Map::from(view.clone()).id().unwrap(), view.as_map().id().unwrap());
    }
    if let Some(map) = try_map(kernel, MapType::CGROUP_STORAGE, 16, 8, 0) {
        let error = map.typed::<AttachedCgroupStorage<u64, u64>>().unwrap_err();
        assert!(matches!(error, MapError::WrongKeySize { asked: 8, there: 16, .. }), "{error}");
    }
}

/// An XDP program that passes every packet.
pub(super) fn xdp(kernel: &Kernel, attach_type: AttachType) -> LoadedProgram {
    let mut code = Assembler::new();
    code.mov64_imm(skep::asm::Reg::R0, 2).exit();
    let code = code.finish().unwrap();
    let mut request = ProgLoad::new(ProgType::XDP, &code, "GPL");
    request.expected_attach_type = attach_type;
    kernel.prog_load(&request, None).unwrap()
}

pub(super) fn id(program: &LoadedProgram) -> Option<ProgId> {
    Some(program.info().unwrap().id)
}

/// A cgroup of its own, or on a simulated kernel a directory.
pub(super) struct Cgroup {
    path: PathBuf,
    /// A cgroup file system that was mounted for this.
    mounted: Option<PathBuf>,
}

impl Cgroup {
    /// None where there can be no cgroup, which is said.
    pub(super) fn new(kernel: &Kernel, name: &str) -> Option<Cgroup> {
        let name = format!("skep_{name}_{}", std::process::id());
        let (root, mounted) = if is_simulated(kernel) {
            (std::env::temp_dir(), None)
        } else if let Some(root) = mount() {
            (root, None)
        } else {
            let root = std::env::temp_dir().join(format!("{name}_mount"));
            fs::create_dir_all(&root).unwrap();
            if !mount_cgroup2(&root) {
                println!("skip: {name}: no cgroup file system of version 2, and none can be mounted");
                return None;
            }
            (root.clone(), Some(root))
        };
        let path = root.join(name);
        // Of a process of before that had the number, and was ended in the middle.
        let _ = fs::remove_dir(&path);
        fs::create_dir(&path).unwrap();
        Some(Cgroup { path, mounted })
    }

    pub(super) fn open(&self) -> File {
        File::open(&self.path).unwrap()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
        #[cfg(target_os = "linux")]
        if let Some(root) = &self.mounted {
            let _ = rustix::mount::unmount(root, rustix::mount::UnmountFlags::DETACH);
            let _ = fs::remove_dir(root);
        }
    }
}

/// Where a cgroup file system of version 2 is mounted.
fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut fields| {
        let path = fields.nth(1)?;
        (fields.next() == Some("cgroup2")).then(|| path.into())
    })
}

#[cfg(target_os = "linux")]
fn mount_cgroup2(root: &Path) -> bool {
    use rustix::mount::{MountFlags, mount};

    mount("none", root, "cgroup2", MountFlags::empty(), None).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn mount_cgroup2(_: &Path) -> bool {
    false
}
