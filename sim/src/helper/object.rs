//! Objects that programs allocate: with references, in fields of values, in lists and in trees.
//!
//! An object lies in the kernel's memory and outlives the run. Which of them a run has to give back is noted in
//! [`Held`](super::Held), as for records of rings.

use skep_btf::TypeId;
use skep_sys::abi::Errno;

use super::memory::{read_u64, write_u64};
use super::{HelperFn, negative, refuse};
use crate::map::{FieldKind, Fields};
use crate::vm::{Region, Trap, Vm, What, offset};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[(194, exchange)];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_obj_new_impl", new),
    ("bpf_obj_drop_impl", drop_object),
    ("bpf_percpu_obj_new_impl", new_per_cpu),
    ("bpf_percpu_obj_drop_impl", drop_object),
    ("bpf_refcount_acquire_impl", acquire),
    ("bpf_list_push_front_impl", |vm, [head, node, ..]| push(vm, head, node, true)),
    ("bpf_list_push_back_impl", |vm, [head, node, ..]| push(vm, head, node, false)),
    ("bpf_list_pop_front", |vm, [head, ..]| pop(vm, head, true)),
    ("bpf_list_pop_back", |vm, [head, ..]| pop(vm, head, false)),
    ("bpf_list_front", |vm, [head, ..]| end(vm, head, true)),
    ("bpf_list_back", |vm, [head, ..]| end(vm, head, false)),
    ("bpf_rbtree_add_impl", add),
    ("bpf_rbtree_remove", remove),
    ("bpf_rbtree_first", |vm, [root, ..]| end(vm, root, true)),
    ("bpf_rbtree_root", root),
    ("bpf_rbtree_left", |vm, [root, node, ..]| child(vm, root, node, false)),
    ("bpf_rbtree_right", |vm, [root, node, ..]| child(vm, root, node, true)),
];

const WHAT: &str = "an object that it allocated";
const RELEASE: &str = "bpf_obj_drop, or put it into a map, a list or a tree";

/// Gives the program an object, which it has to give back.
pub(super) fn own(vm: &mut Vm, start: u64) {
    vm.acquire(start, WHAT, RELEASE, Some(|vm, start| vm.kernel.0.world().objects.let_go(start)));
}

/// The start of the object that an address lies in.
fn start(vm: &Vm, address: u64) -> Result<u64, Trap> {
    let start = vm.kernel.0.world().objects.start(address);
    start.ok_or_else(|| refuse(format!("{address:#x} is not in an object that a program allocated")))
}

/// Takes an object from the program, which had to have a reference to it.
fn disown(vm: &mut Vm, start: u64) -> Result<(), Trap> {
    if vm.release(start) {
        return Ok(());
    }
    Err(refuse(format!("the program has no reference to the object at {start:#x} that it could give away")))
}

/// The size of a type of the program's BTF, and its fields.
fn structure(vm: &Vm, type_id: u64) -> Result<(usize, Fields), Trap> {
    let found = vm.prog().btf().and_then(|btf| {
        let id = TypeId(type_id as u32);
        let size = btf.btf.ty(id).ok()?.size();
        Some((size as usize, Fields::find(&btf.btf, id, size)))
    });
    found
        .filter(|(size, _)| *size > 0)
        .ok_or_else(|| refuse(format!("{type_id} is no type of the program's BTF that an object could have")))
}

/// `bpf_obj_new_impl(type, meta)`: an object of a type of the program's BTF, or null.
fn new(vm: &mut Vm, [type_id, ..]: [u64; 5]) -> Result<u64, Trap> {
    let (size, fields) = structure(vm, type_id)?;
    let fill = vm.kernel.0.config().stack_fill;
    let made = vm.kernel.0.world().objects.allocate_structure(size, fill, fields);
    Ok(made.inspect(|start| own(vm, *start)).unwrap_or(0))
}

/// `bpf_percpu_obj_new_impl(type, meta)`: one for each CPU, or null.
fn new_per_cpu(vm: &mut Vm, [type_id, ..]: [u64; 5]) -> Result<u64, Trap> {
    let (size, _) = structure(vm, type_id)?;
    let (fill, cpus) = (vm.kernel.0.config().stack_fill, vm.kernel.0.config().cpus);
    let made = vm.kernel.0.world().objects.allocate_per_cpu(size, fill, cpus);
    Ok(made.inspect(|start| own(vm, *start)).unwrap_or(0))
}

/// `bpf_obj_drop_impl(object, meta)`.
fn drop_object(vm: &mut Vm, [object, ..]: [u64; 5]) -> Result<u64, Trap> {
    let start = start(vm, object)?;
    disown(vm, start)?;
    vm.kernel.0.world().objects.let_go(start);
    Ok(0)
}

/// `bpf_refcount_acquire_impl(object, meta)`: another reference to the object.
fn acquire(vm: &mut Vm, [object, ..]: [u64; 5]) -> Result<u64, Trap> {
    let start = start(vm, object)?;
    if !vm.kernel.0.world().objects.hold(start) {
        return Ok(0);
    }
    own(vm, start);
    Ok(object)
}

/// `bpf_kptr_xchg(field, new)`: what the field of a value pointed to before.
fn exchange(vm: &mut Vm, [field, new, ..]: [u64; 5]) -> Result<u64, Trap> {
    let is_pointer = match vm.memory.region(field) {
        Some(Region::Shared(shared)) => match &shared.what {
            What::Value(map) => map.fields().iter().any(|known| {
                known.offset == offset(field) && matches!(known.kind, FieldKind::Kptr | FieldKind::KptrPerCpu)
            }),
            _ => false,
        },
        // A field of another object.
        _ => vm.kernel.0.world().objects.has(field, 8),
    };
    if !is_pointer {
        return Err(refuse(format!("{field:#x} is not a field for a kernel pointer (__kptr) of a value")));
    }
    if new != 0 {
        disown(vm, new)?;
    }
    let old = read_u64(vm, field)?;
    write_u64(vm, field, new)?;
    if old != 0 {
        own(vm, old);
    }
    Ok(old)
}

/// The mark of the list or tree at an address, which is made where there is none. A lock has to be held.
fn graph(vm: &mut Vm, address: u64) -> Result<u64, Trap> {
    if !vm.held.has_lock() {
        return Err(refuse("a list or tree is used without its bpf_spin_lock; take that first"));
    }
    match read_u64(vm, address)? {
        0 => {
            let mark = vm.kernel.0.world().objects.new_graph();
            write_u64(vm, address, mark)?;
            Ok(mark)
        }
        mark => Ok(mark),
    }
}

/// Counts the work of going through the nodes of a tree, which lies in a row here.
fn spend_search(vm: &mut Vm, mark: u64) {
    let nodes = vm.kernel.0.world().objects.node_count(mark);
    vm.spend(nodes as u64 / 4); // they are in memory
}

/// Takes a node from the program to put it somewhere. `EINVAL` for one that is somewhere, whose reference is dropped.
fn take_node(vm: &mut Vm, node: u64) -> Result<Result<(), Errno>, Trap> {
    let start = start(vm, node)?;
    disown(vm, start)?;
    let mut world = vm.kernel.0.world();
    if world.objects.graph_of(node).is_some() {
        world.objects.let_go(start);
        return Ok(Err(Errno::EINVAL));
    }
    Ok(Ok(()))
}

fn push(vm: &mut Vm, head: u64, node: u64, front: bool) -> Result<u64, Trap> {
    let mark = graph(vm, head)?;
    if let Err(errno) = take_node(vm, node)? {
        return Ok(negative(errno));
    }
    vm.kernel.0.world().objects.insert(mark, if front { 0 } else { usize::MAX }, node);
    Ok(0)
}

/// The first or last node, or null. It stays where it is.
fn end(vm: &mut Vm, head: u64, front: bool) -> Result<u64, Trap> {
    let mark = graph(vm, head)?;
    let world = vm.kernel.0.world();
    let mut nodes = world.objects.nodes(mark);
    Ok(if front { nodes.next() } else { nodes.next_back() }.unwrap_or(0))
}

fn pop(vm: &mut Vm, head: u64, front: bool) -> Result<u64, Trap> {
    let node = end(vm, head, front)?;
    if node == 0 {
        return Ok(0);
    }
    let mark = graph(vm, head)?;
    vm.kernel.0.world().objects.remove(mark, node);
    let start = start(vm, node)?;
    own(vm, start);
    Ok(node)
}

/// `bpf_rbtree_add_impl(root, node, less, meta, offset)`: behind all that are not greater.
fn add(vm: &mut Vm, [root, node, less, ..]: [u64; 5]) -> Result<u64, Trap> {
    let mark = graph(vm, root)?;
    if let Err(errno) = take_node(vm, node)? {
        return Ok(negative(errno));
    }
    spend_search(vm, mark);
    let nodes: Vec<u64> = vm.kernel.0.world().objects.nodes(mark).collect();
    let (mut low, mut high) = (0, nodes.len());
    while low < high {
        let middle = low.midpoint(high);
        let other = nodes.get(middle).copied().unwrap_or(0);
        // A bool is a byte.
        if vm.call(less, [node, other, 0, 0, 0])? & 0xff != 0 {
            high = middle;
        } else {
            low = middle + 1; // below the high one
        }
    }
    vm.kernel.0.world().objects.insert(mark, low, node);
    Ok(0)
}

/// `bpf_rbtree_remove(root, node)`: the node, which is the program's now, or null.
fn remove(vm: &mut Vm, [root, node, ..]: [u64; 5]) -> Result<u64, Trap> {
    let mark = graph(vm, root)?;
    spend_search(vm, mark);
    if !vm.kernel.0.world().objects.remove(mark, node) {
        return Ok(0);
    }
    let start = start(vm, node)?;
    own(vm, start);
    Ok(node)
}

/// `bpf_rbtree_root(root)`: the node there, or null. It stays where it is.
fn root(vm: &mut Vm, [root, ..]: [u64; 5]) -> Result<u64, Trap> {
    let mark = graph(vm, root)?;
    Ok(vm.kernel.0.world().objects.root(mark).unwrap_or(0))
}

/// `bpf_rbtree_left(root, node)` and `right`: the node below another one, or null.
fn child(vm: &mut Vm, root: u64, node: u64, right: bool) -> Result<u64, Trap> {
    let mark = graph(vm, root)?;
    spend_search(vm, mark);
    Ok(vm.kernel.0.world().objects.child(mark, node, right).unwrap_or(0))
}
