//! A simulated kernel without a feature is found to be without it, and only it.

use skep_sim::{Features, SimKernel};
use skep_sys::abi::{MapType, ProgType};
use skep_sys::{Feature, Kernel, Probe};

/// What a kernel can be without, and what probes then find missing.
const CASES: &[(Features, &[Feature])] = &[
    (Features::NAMES, &[Feature::ProgName]),
    (
        Features::BTF,
        &[
            Feature::Btf,
            Feature::BtfFunc,
            Feature::BtfGlobalFunc,
            Feature::BtfDatasec,
            Feature::BtfFloat,
            Feature::BtfDeclTag,
            Feature::BtfTypeTag,
            Feature::BtfEnum64,
            Feature::BtfQmarkDatasec,
            Feature::ModuleBtf,
            Feature::ArgCtxTag,
            Feature::MapType(MapType::TASK_STORAGE),
        ],
    ),
    (Features::BTF_FUNC, &[Feature::BtfFunc, Feature::BtfGlobalFunc, Feature::ArgCtxTag]),
    (Features::BTF_FUNC_GLOBAL, &[Feature::BtfGlobalFunc, Feature::ArgCtxTag]),
    (
        Features::BTF_DATASEC,
        &[Feature::BtfDatasec, Feature::BtfQmarkDatasec, Feature::BtfDeclTag, Feature::ArgCtxTag],
    ),
    (Features::BTF_QMARK_DATASEC, &[Feature::BtfQmarkDatasec]),
    (Features::BTF_FLOAT, &[Feature::BtfFloat]),
    (Features::BTF_DECL_TAG, &[Feature::BtfDeclTag, Feature::ArgCtxTag]),
    (Features::BTF_TYPE_TAG, &[Feature::BtfTypeTag]),
    (Features::BTF_ENUM64, &[Feature::BtfEnum64]),
    (Features::GLOBAL_DATA, &[Feature::GlobalData]),
    (Features::ARRAY_MMAP, &[Feature::ArrayMmap, Feature::MapType(MapType::ARENA)]),
    (Features::PROG_BIND_MAP, &[Feature::ProgBindMap]),
    (
        Features::EXPECTED_ATTACH_TYPE,
        &[Feature::ExpectedAttachType, Feature::UprobeMultiLink, Feature::ProgType(ProgType::SK_LOOKUP)],
    ),
    (Features::MODULE_BTF, &[Feature::ModuleBtf]),
    (Features::PERF_LINK, &[Feature::PerfLink]),
    (Features::LINKS, &[Feature::PerfLink, Feature::UprobeMultiLink]),
    (Features::UPROBE_MULTI, &[Feature::UprobeMultiLink]),
    (Features::ARG_CTX_TAG, &[Feature::ArgCtxTag]),
    (Features::MEMCG_ACCOUNT, &[Feature::MemcgAccount]),
    (Features::MAP_BATCH, &[Feature::MapBatch]),
];

/// Everything that is asked.
const ASKED: &[Feature] = &[
    Feature::ProgName,
    Feature::MapBatch,
    Feature::GlobalData,
    Feature::Btf,
    Feature::BtfFunc,
    Feature::BtfGlobalFunc,
    Feature::BtfDatasec,
    Feature::BtfFloat,
    Feature::BtfDeclTag,
    Feature::BtfTypeTag,
    Feature::BtfEnum64,
    Feature::BtfQmarkDatasec,
    Feature::ArrayMmap,
    Feature::ExpectedAttachType,
    Feature::ProbeReadKernel,
    Feature::ProgBindMap,
    Feature::ModuleBtf,
    Feature::PerfLink,
    Feature::MemcgAccount,
    Feature::BpfCookie,
    Feature::ArgCtxTag,
    Feature::UprobeMultiLink,
    Feature::MapType(MapType::HASH),
    Feature::MapType(MapType::RINGBUF),
    Feature::MapType(MapType::ARENA),
    Feature::MapType(MapType::HASH_OF_MAPS),
    Feature::MapType(MapType::TASK_STORAGE),
    Feature::ProgType(ProgType::XDP),
    Feature::ProgType(ProgType::SYSCALL),
    Feature::ProgType(ProgType::SK_LOOKUP),
];

fn missing(kernel: &Kernel) -> Vec<Feature> {
    let missing = |feature: &&Feature| match kernel.has(**feature) {
        Probe::Supported => false,
        Probe::Unsupported => true,
        Probe::Unknown(reason) => panic!("{feature:?}: {reason}"),
    };
    ASKED.iter().filter(missing).copied().collect()
}

#[test]
fn a_new_kernel_has_everything() {
    let kernel = skep_sim::kernel();
    assert_eq!(missing(&kernel), []);
    assert_eq!(kernel.has(Feature::BtfLayout), Probe::Unsupported);
}

#[test]
fn each_feature_can_be_missing() {
    for (without, expected) in CASES {
        let sim = SimKernel::builder().without(*without).build().unwrap();
        let mut found = missing(&Kernel::new(sim.clone()));
        let mut expected = expected.to_vec();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "without {without:?}");
        assert_eq!(sim.live(), Default::default(), "probes of {without:?} leave something");
    }
}

#[test]
fn helpers_can_be_missing() {
    let probe_read_kernel = 113;
    let sim = SimKernel::builder().without_helper(probe_read_kernel).build().unwrap();
    assert_eq!(missing(&Kernel::new(sim)), [Feature::ProbeReadKernel]);
}

#[test]
fn layouts_can_be_had() {
    let features = Features::default() | Features::BTF_LAYOUT;
    let sim = SimKernel::builder().features(features).build().unwrap();
    assert_eq!(Kernel::new(sim).has(Feature::BtfLayout), Probe::Supported);
}
