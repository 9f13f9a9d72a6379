//! What iterators go through.

use std::sync::Arc;

use skep_sys::abi::Errno;

use super::Item;
use crate::fd::Access;
use crate::image::Layout;
use crate::kernel::SimKernel;
use crate::link::{IterOf, Link, Place};
use crate::map::{Map, Owner};
use crate::net::Socket;

/// Most elements of a map that are gone through beyond what it holds.
const NAME_MAX: usize = 511;

/// All objects, and after them none, with which the program is told of the end.
pub(super) fn of(link: &Link, kernel: &SimKernel) -> Result<Vec<Item>, Errno> {
    let prog = link.prog();
    let target = prog.target.as_ref();
    let name = target.map_or("", |target| target.name.strip_prefix("bpf_iter_").unwrap_or_default());
    let Place::Iter { of } = &link.place else { return Err(Errno::EINVAL) };
    let words = |words: &[u64]| Item::Words(words.to_vec());
    let mut items = match name {
        "task" => tasks(kernel, of).into_iter().map(|(_, _, task)| words(&[task])).collect(),
        "task_vma" => mappings(kernel, of),
        "task_file" => files(kernel, of),
        "bpf_map" => kernel.0.swept().maps.iter().map(Item::Map).collect(),
        "bpf_map_elem" | "sockmap" | "bpf_sk_storage_map" => {
            let IterOf::Map(map) = of else { return Err(Errno::EBADF) };
            let mut items = match name {
                "bpf_map_elem" => elements(map),
                "sockmap" => sockets_of(kernel, map),
                _ => values_of_sockets(kernel, map),
            };
            // There, too, the program is told of which map.
            items.push(Item::End(map.clone()));
            return Ok(items);
        }
        "bpf_prog" => programs(kernel)?,
        "bpf_link" => links(kernel)?,
        "ksym" => symbols(kernel)?,
        "cgroup" => match of {
            IterOf::Cgroup { ids } => {
                ids.iter().filter_map(|id| kernel.cgroup_address(*id)).map(|group| words(&[group])).collect()
            }
            _ => return Err(Errno::EINVAL),
        },
        "tcp" => sockets(kernel, |socket| socket.protocol == 6 && socket.kind == 1, &[]),
        "udp" => sockets(kernel, |socket| socket.protocol == 17 && socket.kind == 2, &[0]),
        "unix" => sockets(kernel, |socket| socket.family == 1, &[]),
        // There are none.
        "netlink" | "ipv6_route" | "kmem_cache" | "dmabuf" => Vec::new(),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let arguments = match name {
        "task_vma" => 2,
        "task_file" | "udp" => 3,
        "tcp" | "unix" => 2,
        _ => 1,
    };
    items.push(Item::Words(vec![0; arguments]));
    Ok(items)
}

/// The tasks that are gone through: process, thread and the address of its structure.
fn tasks(kernel: &SimKernel, of: &IterOf) -> Vec<(u32, u32, u64)> {
    let ids: Vec<(u32, u32)> = {
        let world = kernel.0.world();
        let all = world.tasks.all().filter(|task| task.pid() != 0).map(|task| (task.tgid(), task.pid()));
        let wanted = |(tgid, pid): &(u32, u32)| match of {
            IterOf::Thread(thread) => pid == thread,
            IterOf::Process(process) => tgid == process,
            _ => true,
        };
        all.filter(wanted).collect()
    };
    ids.into_iter().filter_map(|(tgid, pid)| Some((tgid, pid, kernel.task_address(pid)?))).collect()
}

/// The mappings of processes.
fn mappings(kernel: &SimKernel, of: &IterOf) -> Vec<Item> {
    let processes = tasks(kernel, of).into_iter().filter(|(tgid, pid, _)| tgid == pid);
    let mut items = Vec::new();
    for (tgid, _, task) in processes {
        let mappings = kernel.mappings(tgid);
        items.extend(mappings.iter().map(|mapping| Item::Words(vec![task, kernel.vma(mapping)])));
    }
    items
}

/// The open files of processes; threads share them.
fn files(kernel: &SimKernel, of: &IterOf) -> Vec<Item> {
    let mut items = Vec::new();
    for (_, pid, task) in tasks(kernel, of).into_iter().filter(|(tgid, pid, _)| tgid == pid) {
        let open = kernel.open_files(pid);
        items.extend(open.into_iter().map(|(fd, file)| Item::Words(vec![task, fd.into(), file])));
    }
    items
}

fn elements(map: &Arc<Map>) -> Vec<Item> {
    let mut items = Vec::new();
    let mut key = None::<Vec<u8>>;
    let mut next = vec![0; map.shape.key_size as usize];
    while map.next_key(Access::ALL, key.as_deref(), &mut next).is_ok() {
        items.push(Item::Element(map.clone(), next.clone()));
        key = Some(next.clone());
        if items.len() > map.shape.max_entries as usize {
            break;
        }
    }
    items
}

/// The keys of a map of sockets, with the sockets of the simulated network: those of the process have no structures here.
fn sockets_of(kernel: &SimKernel, map: &Arc<Map>) -> Vec<Item> {
    let keys = elements(map).into_iter().filter_map(|item| match item {
        Item::Element(_, key) => Some(key),
        _ => None,
    });
    let socket =
        |key: &[u8]| map.simulated_socket(key).and_then(|cookie| kernel.sock_address(cookie)).unwrap_or(0);
    keys.map(|key| Item::Socket(map.clone(), key.clone(), socket(&key))).collect()
}

/// The values that sockets have in a map.
fn values_of_sockets(kernel: &SimKernel, map: &Arc<Map>) -> Vec<Item> {
    let of = |owner: Owner| match owner {
        Owner::Simulated(cookie) => {
            Item::OfSocket(map.clone(), owner, kernel.sock_address(cookie).unwrap_or(0))
        }
        _ => Item::OfSocket(map.clone(), owner, 0),
    };
    map.owners().into_iter().map(of).collect()
}

fn programs(kernel: &SimKernel) -> Result<Vec<Item>, Errno> {
    let progs: Vec<_> = kernel.0.swept().progs.iter().collect();
    let mut items = Vec::new();
    for prog in progs {
        let object = kernel.memory().object("bpf_prog").map_err(|_| Errno::ENOENT)?;
        // Which of these there are depends on the kernel's types.
        let _ = object.set("type", prog.prog_type.0);
        let _ = object.set("len", prog.insns().len());
        let _ = object.set("expected_attach_type", prog.expected_attach_type.0);
        let _ = object.set("tag", &prog.tag());
        let _ = object.set("aux.id", prog.id);
        let _ = object.set("aux.name", prog.name());
        if let Some(target) = &prog.target {
            let _ = object.set("aux.attach_btf_id", target.type_id);
            let _ = object.set("aux.attach_func_name", target.name.as_str());
        }
        items.push(Item::Words(vec![object.address()]));
    }
    Ok(items)
}

fn links(kernel: &SimKernel) -> Result<Vec<Item>, Errno> {
    let links: Vec<_> = kernel.0.swept().links.iter().collect();
    let mut items = Vec::new();
    for link in links {
        let object = kernel.memory().object("bpf_link").map_err(|_| Errno::ENOENT)?;
        let _ = object.set("id", link.id); // it has it
        items.push(Item::Words(vec![object.address()]));
    }
    Ok(items)
}

/// The symbols of the kernel as `struct kallsym_iter`, in the order of `/proc/kallsyms`.
fn symbols(kernel: &SimKernel) -> Result<Vec<Item>, Errno> {
    let paths = ["value", "type", "name", "module_name", "show_value"];
    let layout = Layout::new(&kernel.0, "kallsym_iter", paths).ok_or(Errno::ENOENT)?;
    let text = String::from_utf8_lossy(&kernel.0.config().symbols).into_owned();
    let mut items = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(value), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(value) = u64::from_str_radix(value, 16) else { continue };
        let kind = kind.bytes().next().unwrap_or_default();
        let mut bytes = layout.object([("value", value), ("type", kind.into()), ("show_value", 1)]);
        let name = name.as_bytes();
        layout.set_bytes(&mut bytes, "name", name.get(..NAME_MAX).unwrap_or(name));
        let module = fields.next().map(|module| module.trim_matches(['[', ']'])).unwrap_or_default();
        layout.set_bytes(&mut bytes, "module_name", module.as_bytes());
        items.push(Item::Bytes("struct kallsym_iter", bytes));
    }
    Ok(items)
}

/// Sockets with their users and more words that are the same for all; those that listen come first, as in the kernel.
fn sockets(kernel: &SimKernel, fits: impl Fn(&Socket) -> bool, more: &[u64]) -> Vec<Item> {
    let mut found: Vec<(bool, u64, u32)> = {
        let world = kernel.0.world();
        let all = world.net.sockets().filter(|(_, socket)| fits(socket));
        all.map(|(cookie, socket)| (socket.state != crate::net::LISTEN, cookie, socket.uid)).collect()
    };
    found.sort_unstable();
    let item = |(_, cookie, uid): (bool, u64, u32)| {
        let words = [&[kernel.sock_address(cookie)?, u64::from(uid)], more].concat();
        Some(Item::Words(words))
    };
    found.into_iter().filter_map(item).collect()
}
