//! Maps whose values have special fields: which kinds take them, and what user space sees of them.

use std::os::fd::AsFd;

use skep_asm::Endian;
use skep_btf::{BtfBuilder, BtfError, IntEncoding, Kind, Linkage, SectionVar, TypeId};
use skep_sys::abi::{Errno, MapFlags, MapType, UpdateFlags};
use skep_sys::request::{MapBtf, MapCreate, MapMemory};
use skep_sys::{Kernel, MapFd};

/// Structures that a kernel has which knows all the fields that are tried.
pub(crate) const KNOWN: [&str; 9] = [
    "bpf_spin_lock",
    "bpf_res_spin_lock",
    "bpf_timer",
    "bpf_wq",
    "bpf_task_work",
    "bpf_list_head",
    "bpf_rb_root",
    "bpf_refcount",
    "bpf_rb_node",
];

type Build = fn(&mut Types) -> Result<TypeId, BtfError>;

/// What is built upon.
struct Types {
    builder: BtfBuilder,
    int: TypeId,
    long: TypeId,
}

impl Types {
    fn opaque(&mut self, name: &str, size: u32) -> Result<TypeId, BtfError> {
        let id = self.builder.add_struct(name, size)?;
        let (member, count) = if size == 4 { (self.int, 0) } else { (self.long, size / 8) };
        self.builder.add_member("a", member, 0, 0)?;
        for at in 1..count {
            self.builder.add_member(["b", "c", "d"][at as usize - 1], self.long, at * 64, 0)?;
        }
        Ok(id)
    }

    /// A structure of 64 bytes with members at so many bytes.
    fn value(&mut self, members: &[(TypeId, u32)]) -> Result<TypeId, BtfError> {
        let id = self.builder.add_struct("value", 64)?;
        for (place, (ty, offset)) in members.iter().enumerate() {
            self.builder.add_member(format!("m{place}"), *ty, offset * 8, 0)?;
        }
        Ok(id)
    }

    fn pointer(&mut self, tag: &str, to: TypeId) -> Result<TypeId, BtfError> {
        let tagged = self.builder.add_type_tag(tag, to, false)?;
        self.builder.add_ptr(tagged)
    }
}

/// A value with one structure at 8.
macro_rules! one {
    ($name:literal, $size:literal) => {
        |t| {
            let field = t.opaque($name, $size)?;
            let int = t.int;
            t.value(&[(int, 0), (field, 8)])
        }
    };
}

/// A value with a pointer to a structure, with a tag.
macro_rules! pointer {
    ($tag:literal) => {
        |t| {
            let to = t.opaque("task_struct", 8)?;
            let pointer = t.pointer($tag, to)?;
            t.value(&[(pointer, 8)])
        }
    };
}

/// A value with a lock or without, and a list or tree.
fn graph(t: &mut Types, lock: bool, head: &str, node: (&str, u32), tag: &str) -> Result<TypeId, BtfError> {
    let node = t.opaque(node.0, node.1)?;
    t.builder.add_struct("held", 48)?;
    t.builder.add_member("number", t.long, 0, 0)?;
    t.builder.add_member("n", node, 64, 0)?;
    let spin = t.opaque("bpf_spin_lock", 4)?;
    let head = t.opaque(head, 16)?;
    let members = [(if lock { spin } else { t.int }, 0), (head, 16)];
    let value = t.value(&members)?;
    t.builder.add_decl_tag(tag, value, Some(1), false)?;
    Ok(value)
}

const VALUES: &[(&str, Build)] = &[
    ("spin_lock", one!("bpf_spin_lock", 4)),
    ("res_spin_lock", one!("bpf_res_spin_lock", 4)),
    ("timer", one!("bpf_timer", 16)),
    ("wq", one!("bpf_wq", 16)),
    ("task_work", one!("bpf_task_work", 8)),
    ("refcount", one!("bpf_refcount", 4)),
    ("timer of a wrong size", one!("bpf_timer", 8)),
    ("list_node", one!("bpf_list_node", 24)),
    ("rb_node", one!("bpf_rb_node", 32)),
    ("kptr_untrusted", pointer!("kptr_untrusted")),
    ("uptr", |t| {
        let to = t.opaque("of_the_process", 8)?;
        let pointer = t.pointer("uptr", to)?;
        t.value(&[(pointer, 8)])
    }),
    ("unknown tag", pointer!("user")),
    ("list without lock", |t| graph(t, false, "bpf_list_head", ("bpf_list_node", 24), "contains:held:n")),
    ("list", |t| graph(t, true, "bpf_list_head", ("bpf_list_node", 24), "contains:held:n")),
    ("list of nothing", |t| graph(t, true, "bpf_list_head", ("bpf_list_node", 24), "contains:other:n")),
    ("list of a tree's nodes", |t| graph(t, true, "bpf_list_head", ("bpf_rb_node", 32), "contains:held:n")),
    ("tree", |t| graph(t, true, "bpf_rb_root", ("bpf_rb_node", 32), "contains:held:n")),
    ("two spin_locks", |t| {
        let lock = t.opaque("bpf_spin_lock", 4)?;
        t.value(&[(lock, 0), (lock, 8)])
    }),
    ("both locks", |t| {
        let lock = t.opaque("bpf_spin_lock", 4)?;
        let other = t.opaque("bpf_res_spin_lock", 4)?;
        t.value(&[(lock, 0), (other, 8)])
    }),
    ("two refcounts", |t| {
        let count = t.opaque("bpf_refcount", 4)?;
        t.value(&[(count, 0), (count, 8)])
    }),
    ("spin_lock and timer", |t| {
        let lock = t.opaque("bpf_spin_lock", 4)?;
        let timer = t.opaque("bpf_timer", 16)?;
        t.value(&[(lock, 0), (timer, 8)])
    }),
    ("const spin_lock", |t| {
        let lock = t.opaque("bpf_spin_lock", 4)?;
        let lock = t.builder.add_modifier(Kind::CONST, lock)?;
        t.value(&[(lock, 0)])
    }),
    ("typedef of a timer", |t| {
        let timer = t.opaque("bpf_timer", 16)?;
        let timer = t.builder.add_typedef("timer", timer)?;
        t.value(&[(timer, 0)])
    }),
    ("nested timer", |t| {
        let timer = t.opaque("bpf_timer", 16)?;
        let inner = t.builder.add_struct("inner", 24)?;
        t.builder.add_member("timer", timer, 64, 0)?;
        t.value(&[(inner, 8)])
    }),
    ("array of two spin_locks", |t| {
        let lock = t.opaque("bpf_spin_lock", 4)?;
        let locks = t.builder.add_array(lock, t.int, 2)?;
        t.value(&[(locks, 8)])
    }),
    ("array of three pointers", |t| {
        let to = t.opaque("task_struct", 8)?;
        let pointer = t.pointer("kptr_untrusted", to)?;
        let pointers = t.builder.add_array(pointer, t.int, 3)?;
        t.value(&[(pointers, 8)])
    }),
    ("array of two structures with pointers", |t| {
        let to = t.opaque("task_struct", 8)?;
        let pointer = t.pointer("kptr_untrusted", to)?;
        let inner = t.builder.add_struct("inner", 16)?;
        t.builder.add_member("pointer", pointer, 64, 0)?;
        let array = t.builder.add_array(inner, t.int, 2)?;
        t.value(&[(array, 0)])
    }),
    ("twelve pointers", |t| {
        let to = t.opaque("task_struct", 8)?;
        let pointer = t.pointer("kptr_untrusted", to)?;
        let pointers = t.builder.add_array(pointer, t.int, 6)?;
        let both = t.builder.add_union("value", 64)?;
        t.builder.add_member("a", pointers, 0, 0)?;
        t.builder.add_member("b", pointers, 0, 0)?;
        Ok(both)
    }),
    ("timer that is not aligned", |t| {
        let timer = t.opaque("bpf_timer", 16)?;
        t.value(&[(timer, 4)])
    }),
    ("data section with a lock", |t| {
        let lock = t.opaque("bpf_spin_lock", 4)?;
        let var = t.builder.add_var("lock", Linkage::STATIC, lock)?;
        let other = t.builder.add_var("number", Linkage::STATIC, t.long)?;
        let section = t.builder.add_datasec(".bss.A", 64)?;
        t.builder.add_section_var(SectionVar { type_id: var, offset: 4, size: 4 })?;
        t.builder.add_section_var(SectionVar { type_id: other, offset: 56, size: 8 })?;
        Ok(section)
    }),
];

const KINDS: [(&str, MapType, [u32; 2], MapFlags); 12] = [
    ("hash", MapType::HASH, [4, 2], MapFlags::empty()),
    ("hash(NO_PREALLOC)", MapType::HASH, [4, 2], MapFlags::NO_PREALLOC),
    ("hash(RDONLY_PROG)", MapType::HASH, [4, 2], MapFlags::RDONLY_PROG),
    ("lru_hash", MapType::LRU_HASH, [4, 2], MapFlags::empty()),
    ("percpu_hash", MapType::PERCPU_HASH, [4, 2], MapFlags::empty()),
    ("lru_percpu_hash", MapType::LRU_PERCPU_HASH, [4, 2], MapFlags::empty()),
    ("array", MapType::ARRAY, [4, 1], MapFlags::empty()),
    ("array(MMAPABLE)", MapType::ARRAY, [4, 1], MapFlags::MMAPABLE),
    ("percpu_array", MapType::PERCPU_ARRAY, [4, 1], MapFlags::empty()),
    ("lpm_trie", MapType::LPM_TRIE, [8, 2], MapFlags::NO_PREALLOC),
    ("task_storage", MapType::TASK_STORAGE, [4, 0], MapFlags::NO_PREALLOC),
    ("sk_storage", MapType::SK_STORAGE, [4, 0], MapFlags::NO_PREALLOC),
];

fn result<E: Into<Option<Errno>>>(result: Result<String, E>) -> String {
    result.unwrap_or_else(|error| match error.into() {
        Some(errno) => errno.name().map_or_else(|| errno.0.to_string(), str::to_owned),
        None => "error".to_owned(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that is tried, a line each.
pub(crate) fn all(kernel: &Kernel) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, build) in VALUES {
        let mut builder = BtfBuilder::new();
        let int = builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
        let long = builder.add_int("long", 8, IntEncoding::SIGNED).unwrap();
        let mut types = Types { builder, int, long };
        let value = build(&mut types).unwrap();
        // The key of a trie is a structure.
        let pair = types.builder.add_struct("pair", 8).unwrap();
        types.builder.add_member("bits", int, 0, 0).unwrap();
        types.builder.add_member("address", int, 32, 0).unwrap();
        let section = name.starts_with("data section");
        let btf = match kernel.btf_load(&types.builder.encode(Endian::NATIVE, false), None) {
            Ok(btf) => btf,
            Err(errno) => {
                lines.push(format!("{name} | types | {}", result(Err(errno))));
                continue;
            }
        };
        for (kind_name, kind, [key, max], flags) in KINDS {
            let mut request = MapCreate::new(kind, key, 64, max);
            request.flags = flags;
            let key_type = match kind {
                MapType::LPM_TRIE => pair,
                MapType::ARRAY | MapType::PERCPU_ARRAY if section => TypeId(0),
                _ => int,
            };
            request.btf = Some(MapBtf { btf: btf.as_fd(), key_type: key_type.0, value_type: value.0 });
            let map = kernel.map_create(&request);
            let tried = match &map {
                Ok(map) if max > 0 => use_map(kernel, map, name.starts_with("list")),
                Ok(_) => "ok".to_owned(),
                Err(errno) => result(Err(*errno)),
            };
            lines.push(format!("{name} | {kind_name} | {tried}"));
        }
    }
    lines
}

/// `list` tells that bytes of the value read back as addresses of the kernel.
fn use_map(kernel: &Kernel, map: &MapFd, list: bool) -> String {
    let key = vec![0; map.key_len()];
    let len = map.value_len();
    let mut found = Vec::new();
    // As many as one CPU has, of any number.
    let mut look = |flags| {
        let mut value = vec![0xee; len];
        let looked = map.lookup(&key, &mut value, UpdateFlags::from_bits_retain(flags));
        if list {
            value[16..32].fill(0);
        }
        let text = looked.map(|()| hex(&value[..64])).map_err(|error| error.errno());
        found.push(result(text));
    };
    look(0);
    let bytes: Vec<u8> = (0..len).map(|at| if at % 64 < 0xe0 { 0xff } else { 0 }).collect();
    let write = |flags| {
        let done = map.update(&key, &bytes, UpdateFlags::from_bits_retain(flags));
        result(done.map(|()| "ok".to_owned()).map_err(|error| error.errno()))
    };
    let written = [write(0), write(2), write(4), write(6)];
    look(0);
    look(4);
    found.extend(written);
    found.push(result(map.freeze().map(|()| "ok".to_owned()).map_err(|error| error.errno())));
    let memory = MapMemory::new(0, 64);
    found.push(result(kernel.backend().map_mmap(map.as_fd(), memory).map(|_| "ok".to_owned())));
    found.join(" ")
}
