//! Types of a map's BTF against Rust types.

use std::os::fd::AsFd;

use skep::btf::{BtfBuilder, IntEncoding, TypeId};
use skep::map::{Array, HashMap, Map, MapError, MapErrorKind, MapPart, PerCpuArray, PlainData};
use skep::sys::abi::{Errno, MapType, OpenFlags};
use skep::sys::request::{MapBtf, MapCreate};
use skep::sys::{Feature, Kernel};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
struct Counts {
    packets: u64,
    last_cpu: i32,
    padding: [u8; 4],
}

/// As many bytes, otherwise laid out.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData, Debug)]
#[repr(C)]
struct Swapped {
    last_cpu: i32,
    padding: u32,
    packets: u64,
}

/// A map with keys `u32` and values `struct counts`; none where the kernel takes no BTF.
fn described(kernel: &Kernel, map_type: MapType) -> Option<Map> {
    let mut types = BtfBuilder::new();
    let u32 = types.add_int("unsigned int", 4, IntEncoding::NONE).unwrap();
    let i32 = types.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let u64 = types.add_int("unsigned long long", 8, IntEncoding::NONE).unwrap();
    let counts = types.add_struct("counts", 16).unwrap();
    types.add_member("packets", u64, 0, 0).unwrap();
    types.add_member("last_cpu", i32, 64, 0).unwrap();
    if kernel.has(Feature::Btf).is_unsupported() {
        println!("skip: views_compare_layouts: this kernel takes no BTF");
        return None;
    }
    let btf = kernel.btf_load(types.finish().unwrap().bytes(), None).unwrap();
    let mut request = MapCreate::new(map_type, 4, 16, 4);
    request.name = "under_test";
    request.btf = Some(MapBtf { btf: btf.as_fd(), key_type: u32.0, value_type: counts.0 });
    Some(Map::create(kernel, &request).unwrap())
}

pub(super) fn compared(kernel: &Kernel) {
    for map_type in [MapType::HASH, MapType::ARRAY, MapType::PERCPU_ARRAY] {
        let Some(map) = described(kernel, map_type) else { return };
        let id = map.id().unwrap();
        let by_id = match Map::by_id(kernel, id, OpenFlags::empty()) {
            Ok(map) => map,
            Err(error) if error.errno() == Some(Errno::EPERM) => {
                println!("skip: views_compare_layouts: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        for map in [map, by_id] {
            let types = map.types().expect("the map has BTF");
            assert_eq!((types.key, types.value), (Some(TypeId(1)), Some(TypeId(4))));
            let refused = match map_type {
                MapType::HASH => {
                    map.typed::<HashMap<u32, Counts>>().unwrap();
                    map.typed::<HashMap<[u8; 4], [u8; 16]>>().unwrap();
                    refused(map.typed::<HashMap<i32, Counts>>().unwrap_err(), MapPart::Key, 0);
                    map.typed::<HashMap<u32, Swapped>>().unwrap_err()
                }
                MapType::ARRAY => {
                    map.typed::<Array<Counts>>().unwrap();
                    refused(map.typed::<Array<u64>>().unwrap_err(), MapPart::Value, 0);
                    map.typed::<Array<Swapped>>().unwrap_err()
                }
                _ => {
                    map.typed::<PerCpuArray<Counts>>().unwrap();
                    map.typed::<PerCpuArray<Swapped>>().unwrap_err()
                }
            };
            let table = "\
values of map `under_test` are not laid out as `Swapped`: at offset 0, `unsigned long long packets` is longer than \
`last_cpu: i32`
    offset  size  struct counts               size  Swapped
  >      0     8  unsigned long long packets     4  last_cpu: i32
         4                                       4  padding: u32
         8     4  int last_cpu                   8  packets: u64";
            assert_eq!(refused.to_string(), table);
        }
    }
}

#[track_caller]
fn refused(error: MapError, part: MapPart, at: usize) {
    assert_eq!(error.kind(), MapErrorKind::Mismatch, "{error}");
    match error {
        MapError::WrongLayout { part: there, mismatch, .. } => {
            assert_eq!((there, mismatch.offset), (part, at))
        }
        error => panic!("{error}"),
    }
}
