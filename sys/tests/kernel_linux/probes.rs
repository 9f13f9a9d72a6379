use skep_sys::abi::{Errno, MapType, ProgType};
use skep_sys::wrap::FaultInjection;
use skep_sys::{Feature, Kernel, Probe};

use crate::support::kernel;

/// Features with a name of their own, with the kernel that has them as `(major, minor)`.
const FEATURES: &[(Feature, (u32, u32))] = &[
    (Feature::ProgName, (4, 15)),
    (Feature::GlobalData, (5, 2)),
    (Feature::Btf, (4, 18)),
    (Feature::BtfFunc, (5, 0)),
    (Feature::BtfGlobalFunc, (5, 6)),
    (Feature::BtfDatasec, (5, 2)),
    (Feature::BtfFloat, (5, 13)),
    (Feature::BtfDeclTag, (5, 16)),
    (Feature::BtfTypeTag, (5, 17)),
    (Feature::BtfEnum64, (6, 0)),
    (Feature::BtfQmarkDatasec, (6, 9)),
    (Feature::ArrayMmap, (5, 5)),
    (Feature::ExpectedAttachType, (4, 17)),
    (Feature::ProbeReadKernel, (5, 5)),
    (Feature::ProgBindMap, (5, 10)),
    (Feature::ModuleBtf, (5, 11)),
    (Feature::PerfLink, (5, 15)),
    (Feature::MemcgAccount, (5, 11)),
    (Feature::BpfCookie, (5, 15)),
    (Feature::ArgCtxTag, (6, 8)),
];

/// Kernels of distributions take features back, never out; and a configuration can be without.
fn expect(kernel: &Kernel, feature: Feature, since: (u32, u32)) {
    let code = kernel.version_code().unwrap();
    let version = (code >> 16, code >> 8 & 0xff);
    let probe = kernel.has(feature);
    println!("{feature:?}: {probe}");
    if version >= since {
        assert_eq!(probe, Probe::Supported, "{feature:?} on {version:?}");
    } else {
        assert_ne!(probe, Probe::Supported, "{feature:?} on {version:?}");
    }
}

#[test]
fn features_are_those_of_the_version() {
    let Some(kernel) = kernel("features_are_those_of_the_version") else { return };
    for &(feature, since) in FEATURES {
        expect(&kernel, feature, since);
    }
    for feature in [Feature::BtfLayout, Feature::LdImm64FullRangeOff, Feature::UprobeMultiLink] {
        let probe = kernel.has(feature);
        println!("{feature:?}: {probe}");
        assert!(!matches!(probe, Probe::Unknown(_)), "{feature:?}: {probe}");
    }
}

#[test]
fn kinds_are_those_of_the_version() {
    let Some(kernel) = kernel("kinds_are_those_of_the_version") else { return };
    let maps = [
        (MapType::HASH, (3, 19)),
        (MapType::LPM_TRIE, (4, 11)),
        (MapType::ARRAY_OF_MAPS, (4, 12)),
        (MapType::QUEUE, (4, 20)),
        (MapType::SK_STORAGE, (5, 2)),
        (MapType::STRUCT_OPS, (5, 6)),
        (MapType::RINGBUF, (5, 8)),
        (MapType::TASK_STORAGE, (5, 11)),
        (MapType::BLOOM_FILTER, (5, 16)),
        (MapType::USER_RINGBUF, (6, 1)),
        (MapType::CGRP_STORAGE, (6, 2)),
        (MapType::ARENA, (6, 9)),
        (MapType(9999), (9999, 0)),
    ];
    for (map_type, since) in maps {
        expect(&kernel, Feature::MapType(map_type), since);
    }
    let programs = [
        (ProgType::SOCKET_FILTER, (3, 19)),
        (ProgType::XDP, (4, 8)),
        (ProgType::RAW_TRACEPOINT, (4, 17)),
        (ProgType::STRUCT_OPS, (5, 6)),
        (ProgType::SK_LOOKUP, (5, 9)),
        (ProgType::SYSCALL, (5, 14)),
        (ProgType(9999), (9999, 0)),
    ];
    for (prog_type, since) in programs {
        expect(&kernel, Feature::ProgType(prog_type), since);
    }
    for &map_type in MapType::ALL {
        println!("{map_type}: {}", kernel.has(Feature::MapType(map_type)));
    }
    for &prog_type in ProgType::ALL {
        println!("{prog_type}: {}", kernel.has(Feature::ProgType(prog_type)));
    }
}

#[test]
fn helpers_are_those_of_the_kind() {
    let Some(kernel) = kernel("helpers_are_those_of_the_kind") else { return };
    const MAP_LOOKUP_ELEM: u32 = 1;
    const XDP_ADJUST_HEAD: u32 = 44;
    let has = |prog_type, helper| kernel.has(Feature::Helper(prog_type, helper));
    assert_eq!(has(ProgType::XDP, MAP_LOOKUP_ELEM), Probe::Supported);
    assert_eq!(has(ProgType::XDP, XDP_ADJUST_HEAD), Probe::Supported);
    assert_eq!(has(ProgType::SOCKET_FILTER, XDP_ADJUST_HEAD), Probe::Unsupported);
    assert_eq!(has(ProgType::XDP, 9999), Probe::Unsupported);
    assert!(matches!(has(ProgType::LSM, MAP_LOOKUP_ELEM), Probe::Unknown(_)));
}

#[test]
fn a_right_taken_away_is_not_a_feature_less() {
    let Some(free) = kernel("a_right_taken_away_is_not_a_feature_less") else { return };
    for command in ["map_create", "prog_load", "btf_load"] {
        let (backend, faults) = FaultInjection::around(Kernel::linux().backend_arc());
        let kernel = Kernel::new(backend);
        faults.fail_every(command, Errno::EPERM);
        for &(feature, _) in FEATURES {
            if kernel.has(feature) == Probe::Unsupported {
                assert_eq!(free.has(feature), Probe::Unsupported, "{feature:?} without {command}");
            }
        }
    }
}
