//! What releases of Linux can do, so that a kernel of any of them can be simulated.

use skep_sys::abi::{AttachType, MapType, ProgType};

use crate::features::Features;

/// A release: its first two numbers.
type Release = (u32, u32);

/// Since when there is each feature.
const FEATURES: &[(Features, Release)] = &[
    (Features::NAMES, (4, 15)),
    (Features::EXPECTED_ATTACH_TYPE, (4, 17)),
    (Features::BTF, (4, 18)),
    (Features::BTF_FUNC, (5, 0)),
    (Features::BTF_DATASEC, (5, 2)),
    (Features::GLOBAL_DATA, (5, 2)),
    (Features::MAP_FREEZE, (5, 2)),
    (Features::ARRAY_MMAP, (5, 5)),
    (Features::KERNEL_BTF, (5, 5)),
    (Features::BTF_FUNC_GLOBAL, (5, 6)),
    (Features::MAP_BATCH, (5, 6)),
    (Features::LINKS, (5, 7)),
    (Features::STATS, (5, 8)),
    (Features::CAPABILITIES, (5, 8)),
    (Features::PROG_BIND_MAP, (5, 10)),
    (Features::MODULE_BTF, (5, 11)),
    (Features::MEMCG_ACCOUNT, (5, 11)),
    (Features::LONG_KEYS, (5, 11)),
    (Features::BTF_FLOAT, (5, 13)),
    (Features::LPM_BATCH, (5, 13)),
    (Features::HASH_TAKE, (5, 14)),
    (Features::COOKIE, (5, 15)),
    (Features::PERF_LINK, (5, 15)),
    (Features::BTF_DECL_TAG, (5, 16)),
    (Features::BTF_TYPE_TAG, (5, 17)),
    (Features::MAP_IN_MAP_BATCH, (5, 19)),
    (Features::UNPRIVILEGED_CALLS, (5, 19)),
    (Features::BTF_ENUM64, (6, 0)),
    (Features::BTF_QMARK_DATASEC, (6, 5)),
    (Features::FREEZE_NEEDS_WRITE, (6, 5)),
    (Features::ARG_CTX_TAG, (6, 8)),
    (Features::TOKEN, (6, 9)),
    (Features::UPROBE_MULTI, (6, 10)),
    (Features::SOCKMAP_LINK, (6, 10)),
    // 6.12 got it in its stable releases.
    (Features::CGROUP_ORDER, (6, 12)),
    (Features::CSUM_DIFF_FOLDS, (6, 13)),
    (Features::PROG_STREAMS, (6, 17)),
    (Features::SHA256_TAG, (6, 18)),
    (Features::STACK_TRACE_TAKE, (6, 18)),
    (Features::INSN_ARRAY, (6, 19)),
    (Features::RING_OVERWRITE, (6, 19)),
    (Features::CPU_FLAGS, (7, 0)),
    (Features::BTF_LAYOUT, (7, 1)),
];

/// The last helper function of releases that added some, by its number.
const HELPERS: &[(i32, Release)] = &[
    (83, (4, 19)),
    (90, (4, 20)),
    (92, (5, 0)),
    (98, (5, 1)),
    (108, (5, 2)),
    (109, (5, 3)),
    (110, (5, 4)),
    (115, (5, 5)),
    (118, (5, 6)),
    (124, (5, 7)),
    (135, (5, 8)),
    (141, (5, 9)),
    (155, (5, 10)),
    (162, (5, 11)),
    (163, (5, 12)),
    (165, (5, 13)),
    (168, (5, 14)),
    (175, (5, 15)),
    (179, (5, 16)),
    (185, (5, 17)),
    (193, (5, 18)),
    (203, (5, 19)),
    (207, (6, 0)),
    (209, (6, 1)),
    (211, (6, 2)),
];

/// The last attach type of releases that added some.
const ATTACH_TYPES: &[(AttachType, Release)] = &[
    (AttachType::CGROUP_UDP6_RECVMSG, (5, 2)),
    (AttachType::CGROUP_SETSOCKOPT, (5, 3)),
    (AttachType::TRACE_FEXIT, (5, 5)),
    (AttachType::LSM_MAC, (5, 7)),
    (AttachType::XDP_DEVMAP, (5, 8)),
    (AttachType::XDP, (5, 9)),
    (AttachType::SK_SKB_VERDICT, (5, 13)),
    (AttachType::SK_REUSEPORT_SELECT_OR_MIGRATE, (5, 14)),
    (AttachType::PERF_EVENT, (5, 15)),
    (AttachType::TRACE_KPROBE_MULTI, (5, 18)),
    (AttachType::LSM_CGROUP, (6, 0)),
    (AttachType::NETFILTER, (6, 4)),
    (AttachType::TRACE_UPROBE_MULTI, (6, 6)),
    (AttachType::NETKIT_PEER, (6, 7)),
    (AttachType::TRACE_KPROBE_SESSION, (6, 10)),
    (AttachType::TRACE_UPROBE_SESSION, (6, 13)),
];

/// The last of a table that a release has.
fn last<T: Copy>(table: &[(T, Release)], release: Release) -> Option<T> {
    table.iter().rev().find(|(_, since)| *since <= release).map(|(last, _)| *last)
}

/// What a release has of all that kernels learnt.
pub(crate) fn features(release: Release) -> Features {
    let had = FEATURES.iter().filter(|(_, since)| *since <= release);
    had.fold(Features::empty(), |features, (feature, _)| features | *feature)
}

/// The number of the last helper function; 81 before the oldest in the table.
pub(crate) fn last_helper(release: Release) -> i32 {
    last(HELPERS, release).unwrap_or(81)
}

/// The last kind of map; that of 4.18 for older ones.
pub(crate) fn last_map_type(release: Release) -> MapType {
    let had = |kind: &&MapType| kind.since().is_some_and(|since| since <= release);
    MapType::ALL.iter().rev().find(had).copied().unwrap_or_default().max(MapType::SOCKHASH)
}

/// The last kind of program; that of 4.18 for older ones.
pub(crate) fn last_prog_type(release: Release) -> ProgType {
    let had = |kind: &&ProgType| kind.since().is_some_and(|since| since <= release);
    ProgType::ALL.iter().rev().find(had).copied().unwrap_or_default().max(ProgType::LIRC_MODE2)
}

/// The last attach type.
pub(crate) fn last_attach_type(release: Release) -> AttachType {
    let newest = ATTACH_TYPES.last().map_or((0, 0), |(_, since)| *since);
    // Those that came since are not looked at.
    if release > newest {
        return AttachType(u32::MAX);
    }
    last(ATTACH_TYPES, release).unwrap_or(AttachType::LIRC_MODE2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bitflags::Flags;
    use skep_sys::abi::{Errno, UpdateFlags};
    use skep_sys::request::{MapCreate, ProgLoad};
    use skep_sys::{Backend, Kernel};

    use super::*;
    use crate::SimKernel;

    #[test]
    fn tables_are_whole_and_ascend() {
        assert_eq!(features((99, 0)), Features::all());
        assert_eq!(features((6, 18)), Features::default());
        // Each is a bit of its own: what one kernel lacks, another may have.
        let bits: Vec<u64> = Features::FLAGS.iter().map(|flag| flag.value().bits()).collect();
        assert!(bits.iter().all(|bits| bits.is_power_of_two()));
        assert_eq!(bits.iter().collect::<BTreeSet<_>>().len(), bits.len());
        assert!(FEATURES.is_sorted_by_key(|(_, since)| since));
        assert!(HELPERS.is_sorted() && HELPERS.is_sorted_by_key(|(_, since)| since));
        // A kernel that has a kind has those of lower numbers.
        assert!(MapType::ALL.iter().filter_map(|kind| kind.since()).is_sorted());
        assert!(ProgType::ALL.iter().filter_map(|kind| kind.since()).is_sorted());
        assert!(ATTACH_TYPES.is_sorted_by_key(|(kind, since)| (kind.0, *since)));
    }

    /// What the types of these kernels say.
    #[test]
    fn ends_of_kernels_that_were_looked_at() {
        let ends = |release| (last_helper(release), last_map_type(release), last_prog_type(release));
        assert_eq!(ends((5, 10)), (155, MapType::INODE_STORAGE, ProgType::SK_LOOKUP));
        assert_eq!(ends((6, 1)), (209, MapType::USER_RINGBUF, ProgType::SYSCALL));
        assert_eq!(ends((6, 12)), (211, MapType::ARENA, ProgType::NETFILTER));
        assert_eq!(ends((6, 18)), (211, MapType::ARENA, ProgType::NETFILTER));
    }

    #[test]
    fn an_old_kernel_refuses_what_came_later() {
        let sim = SimKernel::builder().linux(5, 4).build().unwrap();
        let kernel = Kernel::new(sim.clone());
        assert_eq!(kernel.version_code(), Ok(5 << 16 | 4 << 8));
        let create =
            |kind, key, value, entries| kernel.map_create(&MapCreate::new(kind, key, value, entries));
        assert_eq!(create(MapType::RINGBUF, 0, 0, 4096).err(), Some(Errno::EINVAL));
        let map = create(MapType::HASH, 4, 4, 1).unwrap();
        assert_eq!(map.update(&[0; 4], &[1; 4], UpdateFlags::empty()), Ok(()));
        let load = |kind, helper| {
            let mut asm = skep_asm::Assembler::new();
            asm.call_helper(helper).mov64_imm(skep_asm::Reg::R0, 0).exit();
            sim.prog_load(&ProgLoad::new(kind, &asm.finish().unwrap(), "GPL"), None).map(drop)
        };
        assert_eq!(load(ProgType::SOCKET_FILTER, 5), Ok(()), "ktime_get_ns");
        assert_eq!(load(ProgType::SOCKET_FILTER, 125), Err(Errno::EINVAL), "ktime_get_boot_ns");
        assert_eq!(load(ProgType::SK_LOOKUP, 5), Err(Errno::EINVAL));
    }
}
