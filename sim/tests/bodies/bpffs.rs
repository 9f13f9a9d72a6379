//! The file system of pins: renames, symbolic links, listings, locks.

use std::path::{Path, PathBuf};

use skep_sys::Kernel;
use skep_sys::abi::{Errno, MapFlags, MapType, OpenFlags};
use skep_sys::request::PinEntry;

use super::{Outcome, Script, create};

impl Outcome for PathBuf {
    fn text(self) -> String {
        format!("ok:{}", self.display())
    }
}

impl Outcome for Vec<PinEntry> {
    fn text(self) -> String {
        let names = self.iter().map(|entry| format!("{}({:?})", entry.name.display(), entry.kind));
        format!("ok:{}", names.collect::<Vec<_>>().join(" "))
    }
}

pub(super) fn all(kernel: &Kernel, pins: &Path, lines: &mut Vec<String>) {
    let dir = pins.join("fs");
    kernel.backend().create_pin_dir(&dir).unwrap();
    rename(Script::new(kernel, "rename", lines), &dir);
    symlinks(Script::new(kernel, "symlink", lines), &dir);
    lock(Script::new(kernel, "lock", lines), &dir);
    kernel.backend().remove_pin_dir(&dir).unwrap();
}

/// Says which of the two maps a path leads to.
fn which(kernel: &Kernel, path: &Path, maps: &[skep_sys::MapFd; 2]) -> Result<usize, Errno> {
    let id = kernel.map_open_pinned(path, OpenFlags::empty())?.info().unwrap().id;
    Ok(maps.iter().position(|map| map.info().unwrap().id == id).unwrap())
}

fn rename(mut s: Script<'_>, dir: &Path) {
    let kernel = s.kernel;
    let backend = kernel.backend();
    let maps = [(); 2].map(|()| create(kernel, MapType::ARRAY, [4, 8, 1], MapFlags::empty()));
    let at = |name: &str| dir.join(name);
    let rename = |from: &str, to: &str| backend.rename_pin(&at(from), &at(to));
    maps[0].pin(at("a")).unwrap();
    maps[1].pin(at("b")).unwrap();
    s.row("pin over pin", rename("a", "b"));
    s.row("which is there", which(kernel, &at("b"), &maps));
    s.row("is gone from", which(kernel, &at("a"), &maps));
    s.row("missing", rename("none", "b"));
    s.row("to itself", rename("b", "b"));
    s.row("to a name with '.'", rename("b", "a.b"));
    s.row("to a missing directory", rename("b", "none/b"));
    for name in ["d", "e", "full", "full/x"] {
        backend.create_pin_dir(&at(name)).unwrap();
    }
    s.row("pin over directory", rename("b", "d"));
    s.row("directory over pin", rename("d", "b"));
    s.row("directory over full one", rename("d", "full"));
    s.row("directory over empty one", rename("full", "d"));
    s.row("what moved along", backend.pin_dir_entries(&at("d")));
    s.row("directory into itself", rename("d", "d/x/y"));
    s.row("directory over its parent", rename("d/x", "d"));
    s.row("pin into directory", rename("b", "d/x/b"));
    s.row("which is there", which(kernel, &at("d/x/b"), &maps));
    s.row("away from the bpffs", backend.rename_pin(&at("e"), Path::new("/tmp/skep-no-such-rename")));
    s.row("the listing", backend.pin_dir_entries(dir));
    s.row("listing of a pin", backend.pin_dir_entries(&at("d/x/b")));
    s.row("listing of nothing", backend.pin_dir_entries(&at("none")));
    backend.unpin(&at("d/x/b")).unwrap();
    for name in ["d/x", "d", "e"] {
        backend.remove_pin_dir(&at(name)).unwrap();
    }
}

fn symlinks(mut s: Script<'_>, dir: &Path) {
    let kernel = s.kernel;
    let backend = kernel.backend();
    let maps = [(); 2].map(|()| create(kernel, MapType::ARRAY, [4, 8, 1], MapFlags::empty()));
    let at = |name: &str| dir.join(name);
    let link = |text: &str, name: &str| backend.symlink_pin(Path::new(text), &at(name));
    for (name, map) in [("one", &maps[0]), ("two", &maps[1])] {
        backend.create_pin_dir(&at(name)).unwrap();
        map.pin(at(name).join("m")).unwrap();
    }
    s.row("make", link("one", "current"));
    s.row("make again", link("two", "current"));
    s.row("make next", link("two", "next"));
    s.row("text", backend.read_pin_link(&at("current")));
    s.row("through it", which(kernel, &at("current/m"), &maps));
    s.row("list through it", backend.pin_dir_entries(&at("current")));
    s.row("the listing", backend.pin_dir_entries(dir));
    s.row("rename over", backend.rename_pin(&at("next"), &at("current")));
    s.row("through it now", which(kernel, &at("current/m"), &maps));
    s.row("it over a directory", backend.rename_pin(&at("current"), &at("one")));
    s.row("directory over it", backend.rename_pin(&at("one"), &at("current")));
    s.row("pin over it", maps[0].pin(at("current")));
    s.row("mkdir over it", backend.create_pin_dir(&at("current")));
    s.row("rmdir of it", backend.remove_pin_dir(&at("current")));
    s.row("pin behind it", maps[0].pin(at("current/n")));
    s.row("unpin behind it", backend.unpin(&at("two/n")));
    s.row("make to a pin", link("one/m", "pin"));
    s.row("open it", which(kernel, &at("pin"), &maps));
    s.row("below it", which(kernel, &at("pin/x"), &maps));
    s.row("make to its parent", link("../fs/one/m", "up"));
    s.row("make with other text", link("no: path, x.y", "text"));
    s.row("other text", backend.read_pin_link(&at("text")));
    s.row("open other text", which(kernel, &at("text"), &maps));
    s.row("make with no text", link("", "empty"));
    s.row("make with a '.' in its name", link("one", "a.b"));
    s.row("make in a circle", link("circle", "circle"));
    s.row("open a circle", which(kernel, &at("circle"), &maps));
    s.row("text of a directory", backend.read_pin_link(&at("one")));
    s.row("text of a pin", backend.read_pin_link(&at("one/m")));
    s.row("text of nothing", backend.read_pin_link(&at("none")));
    for name in ["current", "pin", "up", "text", "circle", "one/m", "two/m"] {
        s.row("unlink", backend.unpin(&at(name)));
    }
    for name in ["one", "two"] {
        backend.remove_pin_dir(&at(name)).unwrap();
    }
}

fn lock(mut s: Script<'_>, dir: &Path) {
    let backend = s.kernel.backend();
    let held = backend.lock_pin_dir(dir);
    s.row("lock", held.as_ref().map(|_| ()).map_err(|errno| *errno));
    s.row("lock again", backend.lock_pin_dir(dir));
    let copy = held.as_ref().unwrap().try_clone().unwrap();
    drop(held);
    s.row("while a copy is left", backend.lock_pin_dir(dir));
    drop(copy);
    s.row("lock when it is free", backend.lock_pin_dir(dir));
    s.row("lock nothing", backend.lock_pin_dir(&dir.join("none")));
}
