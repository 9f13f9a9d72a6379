//! The simulated kernel against what Linux 6.18 was seen to do.

use std::os::fd::AsFd;

use skep_sim::SimKernel;
use skep_sys::abi::{MapFlags, MapType};
use skep_sys::request::{MapBtf, MapCreate};
use skep_sys::{BtfFd, Kernel, MapFd};

const CREATE: &str = include_str!("../../testdata/golden/map_create_6.18.txt");

/// BTF with nothing but a 32-bit `int`.
const INT: &[u8] = &[
    0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1,
    4, 0, 0, 0, 32, 0, 0, 1, 0, b'i', b'n', b't', 0,
];

const AXES: [&str; 4] = ["key", "val", "max", "flag"];

struct World {
    kernel: Kernel,
    int: BtfFd,
    inner: MapFd,
}

impl World {
    fn create(&self, map_type: MapType, [key, value, max, flags]: [u32; 4]) -> &'static str {
        let mut request = MapCreate::new(map_type, key, value, max);
        request.flags = MapFlags::from_bits_retain(flags);
        request.inner_map = Some(self.inner.as_fd());
        if matches!(
            map_type,
            MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE
        ) {
            request.btf = Some(MapBtf { btf: self.int.as_fd(), key_type: 1, value_type: 1 });
        }
        self.kernel.map_create(&request).map_or_else(|e| e.name().unwrap(), |_| "ok")
    }
}

fn flag_bits(name: &str) -> u32 {
    match name.strip_prefix("bit") {
        Some(bit) => 1 << bit.parse::<u32>().unwrap(),
        None if name == "PATH_FD" => 1 << 14,
        None => MapFlags::from_name(name).unwrap_or_else(|| panic!("flag {name}")).bits(),
    }
}

#[test]
fn creation_of_maps() {
    let kernel = Kernel::new(SimKernel::new());
    let int = kernel.btf_load(INT, None).unwrap();
    let inner = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)).unwrap();
    let world = World { kernel, int, inner };

    let mut axes = std::collections::HashMap::new();
    let mut base = [0; 4];
    let mut cells = 0;
    let mut wrong = Vec::new();
    for line in CREATE.lines() {
        if let Some(axis) = line.strip_prefix("# axis ") {
            let (name, values) = axis.split_once(':').unwrap();
            axes.insert(name, values.split_whitespace().collect::<Vec<_>>());
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(kind), Some(axis)) = (words.next(), words.next()) else { continue };
        if kind == "#" {
            continue;
        }
        let map_type =
            kind.parse().map(MapType).unwrap_or_else(|_| MapType::from_name(kind).expect("a map type"));
        if axis == "base" {
            let numbers: Vec<&str> = words.collect();
            let [key, value, max, flags, result] = numbers[..] else { panic!("{line}") };
            let flags = u32::from_str_radix(&flags[2..], 16).unwrap();
            base = [key.parse().unwrap(), value.parse().unwrap(), max.parse().unwrap(), flags];
            if world.create(map_type, base) != result {
                wrong.push(format!("{line}: {}", world.create(map_type, base)));
            }
            continue;
        }
        let expected: std::collections::HashMap<&str, &str> =
            words.map(|word| word.split_once('=').unwrap()).collect();
        let place = AXES.iter().position(|a| *a == axis).unwrap();
        for value in &axes[axis] {
            let mut shape = base;
            if axis == "flag" {
                shape[3] ^= flag_bits(value);
            } else {
                shape[place] = value.parse().unwrap();
            }
            let expected = expected.get(value).copied().unwrap_or("EINVAL");
            let found = world.create(map_type, shape);
            if found != expected {
                wrong.push(format!("{kind} {axis} {value}: {found}, and Linux {expected}"));
            }
            cells += 1;
        }
    }
    assert!(cells > 3000, "{cells}");
    assert_eq!(wrong, Vec::<String>::new());
}
