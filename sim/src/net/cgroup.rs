//! Control groups.

use std::collections::BTreeMap;

use skep_sys::abi::Errno;

/// A control group of the second version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    pub(crate) id: u64,
    pub(crate) path: String,
}

/// All control groups, by path. The root is always there.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    by_path: BTreeMap<String, Cgroup>,
    next: u64,
}

impl Default for Cgroups {
    fn default() -> Self {
        let root = Cgroup { id: 1, path: "/".to_owned() };
        Cgroups { by_path: BTreeMap::from([(root.path.clone(), root)]), next: 2 }
    }
}

/// A path that begins with a slash and has no empty parts.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

impl Cgroups {
    pub(crate) fn get(&self, path: &str) -> Option<&Cgroup> {
        self.by_path.get(&normal(path))
    }

    /// Makes a group: `EEXIST` when it is there, `ENOENT` when its parent is not.
    pub(crate) fn add(&mut self, path: &str) -> Result<u64, Errno> {
        let path = normal(path);
        if self.by_path.contains_key(&path) {
            return Err(Errno::EEXIST);
        }
        if !self.by_path.contains_key(&parent(&path)) {
            return Err(Errno::ENOENT);
        }
        let id = self.next;
        self.next += 1; // a new one each nanosecond lasts for centuries
        self.by_path.insert(path.clone(), Cgroup { id, path });
        Ok(id)
    }

    /// Removes a group: `ENOENT` when it is not there, `EBUSY` for the root and when there are groups in it.
    pub(crate) fn remove(&mut self, path: &str) -> Result<u64, Errno> {
        let path = normal(path);
        if path == "/" || self.by_path.keys().any(|other| parent(other) == path) {
            return Err(Errno::EBUSY);
        }
        self.by_path.remove(&path).map(|group| group.id).ok_or(Errno::ENOENT)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u64> {
        self.by_path.values().map(|group| group.id)
    }

    /// The path of the group with an id.
    pub(crate) fn path(&self, id: u64) -> Option<String> {
        self.by_path.values().find(|group| group.id == id).map(|group| group.path.clone())
    }

    /// The ids of a group and of those that it is in, from the inside.
    pub(crate) fn ancestors(&self, id: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut path = self.by_path.values().find(|group| group.id == id).map(|group| group.path.clone());
        while let Some(group) = path.and_then(|path| self.by_path.get(&path)) {
            ids.push(group.id);
            path = (group.path != "/").then(|| parent(&group.path));
        }
        ids
    }
}

/// The path of the group that a group is in; the root is in itself, which no group but the root is called like.
fn parent(path: &str) -> String {
    match path.rsplit_once('/') {
        _ if path == "/" => String::new(),
        Some(("", _)) | None => "/".to_owned(),
        Some((parent, _)) => parent.to_owned(),
    }
}
