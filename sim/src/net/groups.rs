//! The kernel's own structures of control groups.

use crate::image::{ImageError, KernelObject};
use crate::kernel::{Inner, SimKernel};

/// Groups in groups that are looked at.
const DEPTH_MAX: usize = 64;

impl Inner {
    /// The ids of a group and of those that it is in, from the root on: of the groups of the network, else of those that tasks
    /// are in. Empty for one that does not exist.
    pub(crate) fn cgroup_path(&self, id: u64) -> Vec<u64> {
        let world = self.world();
        let mut path = world.net.cgroups.ancestors(id);
        path.reverse();
        if path.is_empty() {
            let mut paths = world.tasks.all().map(|task| task.cgroup_path());
            let found = paths.find_map(|path| {
                let level = path.iter().position(|known| *known == id)?;
                path.get(..=level).map(<[u64]>::to_vec)
            });
            path = found.unwrap_or_default();
        }
        path
    }

    /// The ids of all groups, each once.
    pub(crate) fn cgroup_ids(&self) -> Vec<u64> {
        let world = self.world();
        let mut ids: Vec<u64> = world.net.cgroups.ids().collect();
        ids.extend(world.tasks.all().flat_map(|task| task.cgroup_path()));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// A group and all below it: each before those that are in it, or after them.
    pub(crate) fn cgroups_below(&self, id: u64, before: bool) -> Vec<u64> {
        let paths: Vec<Vec<u64>> = self.cgroup_ids().into_iter().map(|id| self.cgroup_path(id)).collect();
        let mut ids = Vec::new();
        below(&paths, id, before, 0, &mut ids);
        ids
    }
}

impl SimKernel {
    /// The `struct cgroup` of a control group, as programs get it.
    ///
    /// # Errors
    /// [`ImageError::NoBtf`], [`ImageError::NoType`]; [`ImageError::NoSuch`] when there is no such group.
    pub fn cgroup_object(&self, path: &str) -> Result<KernelObject, ImageError> {
        let (btf, ty) = self.0.type_named("cgroup")?;
        let missing = || ImageError::NoSuch { what: format!("control group `{path}`") };
        let id = self.0.world().net.cgroups.get(path).map(|group| group.id).ok_or_else(missing)?;
        let address = self.cgroup_address(id).ok_or_else(missing)?;
        Ok(KernelObject::new(self, &btf, address, ty))
    }

    /// The address of the `struct cgroup` of a group, which is made at first. `None` without types, or without such a group.
    pub(crate) fn cgroup_address(&self, id: u64) -> Option<u64> {
        if let Some(address) = self.0.world().structures.cgroup(id) {
            return Some(address);
        }
        let path = self.0.cgroup_path(id);
        let level = path.len().checked_sub(1)?;
        let object = self.memory().object("cgroup").ok()?;
        let address = object.address();
        self.0.world().structures.add_cgroup(id, address);
        // A kernel of another version may have none of a name.
        let _ = object.set("level", level);
        let _ = object.set("self.cgroup", address);
        self.fill_node(&object, id);
        let parent = level.checked_sub(1).and_then(|above| path.get(above));
        if let Some(parent) = parent.and_then(|parent| self.cgroup_css(*parent)) {
            let _ = object.set("self.parent", parent);
        }
        Some(address)
    }

    /// What programs read of its directory.
    fn fill_node(&self, object: &KernelObject, id: u64) {
        let _ = object.set("kn.id", id);
        let path = self.0.world().net.cgroups.path(id);
        let name = path.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let _ = object.set("kn.name", name);
    }

    /// The address of the `struct cgroup_subsys_state` of a group.
    pub(crate) fn cgroup_css(&self, id: u64) -> Option<u64> {
        let address = self.cgroup_address(id)?;
        let object = self.memory().object_at("cgroup", address).ok()?;
        object.at("self").ok().map(|css| css.address())
    }
}

fn below(paths: &[Vec<u64>], id: u64, before: bool, depth: usize, to: &mut Vec<u64>) {
    if before {
        to.push(id);
    }
    let is_child = |path: &&Vec<u64>| {
        path.len().checked_sub(2).and_then(|above| path.get(above)).is_some_and(|parent| *parent == id)
    };
    if depth < DEPTH_MAX {
        for child in paths.iter().filter(is_child).filter_map(|path| path.last()) {
            below(paths, *child, before, depth + 1, to); // below the limit
        }
    }
    if !before {
        to.push(id);
    }
}
