//! Maps of devices and CPUs.

use skep::map::{CpuMap, CpuQueue, DevMap, DevMapHash, Device, MapErrorKind};
use skep::sys::Kernel;
use skep::sys::abi::{AttachType, Errno, MapType, UpdateFlags};

use super::descriptors::{id, try_map, xdp};
use super::{ANY, assert_error};

/// The loopback device, which is the first one everywhere.
const LO: u32 = 1;

fn device(ifindex: u32) -> Option<Device> {
    Some(Device { ifindex, program: None })
}

pub(super) fn dev_map(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::DEVMAP, 4, 4, 4) else { return };
    let devices: DevMap = map.typed().unwrap();
    assert_eq!((devices.len(), devices.is_empty()), (4, false));
    assert_eq!(devices.get(0).unwrap(), None);
    devices.set(2, LO, ANY).unwrap();
    devices.set(3, LO, UpdateFlags::EXIST).unwrap();
    assert_eq!(devices.get(2).unwrap(), device(LO));
    assert_eq!(devices.get(77).unwrap(), None);
    let all: Vec<_> = devices.iter().map(|slot| slot.unwrap()).collect();
    assert_eq!(
        all.iter().map(|(index, device)| (*index, device.ifindex)).collect::<Vec<_>>(),
        [(2, LO), (3, LO)]
    );

    let error = devices.set(1, 99_999, ANY).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Invalid, Some(Errno::EINVAL)));
    assert!(error.to_string().contains("there is no such device"), "{error}");
    assert_error(devices.set(4, LO, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(devices.set(1, LO, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    let program = xdp(kernel, AttachType::XDP_DEVMAP);
    assert_error(devices.set_with_program(0, LO, &program, ANY), MapErrorKind::Length, None);

    devices.remove(2).unwrap();
    devices.remove(2).unwrap();
    assert_error(devices.remove(4), MapErrorKind::Invalid, Some(Errno::EINVAL));
    devices.set(3, 0, ANY).unwrap();
    assert_eq!(devices.iter().count(), 0);
}

pub(super) fn dev_map_programs(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::DEVMAP, 4, 8, 4) else { return };
    let devices: DevMap = map.typed().unwrap();
    let program = xdp(kernel, AttachType::XDP_DEVMAP);
    devices.set_with_program(0, LO, &program, ANY).unwrap();
    assert_eq!(devices.get(0).unwrap(), Some(Device { ifindex: LO, program: id(&program) }));
    devices.set(0, LO, ANY).unwrap();
    assert_eq!(devices.get(0).unwrap(), device(LO));
    let other = xdp(kernel, AttachType::XDP);
    assert_error(devices.set_with_program(0, LO, &other, ANY), MapErrorKind::Invalid, Some(Errno::EINVAL));
    let stranger = xdp(&skep::sim::kernel(), AttachType::XDP_DEVMAP);
    assert!(devices.set_with_program(0, LO, &stranger, ANY).unwrap_err().errno().is_none());
}

pub(super) fn dev_map_hash(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::DEVMAP_HASH, 4, 8, 2) else { return };
    let devices: DevMapHash = map.typed().unwrap();
    assert_eq!(devices.get(7).unwrap(), None);
    devices.insert(u32::MAX, LO, UpdateFlags::NOEXIST).unwrap();
    let program = xdp(kernel, AttachType::XDP_DEVMAP);
    devices.insert_with_program(7, LO, &program, ANY).unwrap();
    assert_eq!(devices.get(u32::MAX).unwrap(), device(LO));
    assert_eq!(devices.get(7).unwrap(), Some(Device { ifindex: LO, program: id(&program) }));
    assert_error(devices.insert(8, LO, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(devices.insert(7, LO, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_error(devices.insert(7, 0, ANY), MapErrorKind::Invalid, Some(Errno::EINVAL));
    let mut keys: Vec<u32> = devices.keys().map(|key| key.unwrap()).collect();
    keys.sort();
    assert_eq!(keys, [7, u32::MAX]);
    assert_eq!(devices.iter().filter(|element| element.is_ok()).count(), 2);
    assert!(devices.remove(7).unwrap());
    assert!(!devices.remove(7).unwrap());
}

pub(super) fn cpu_map(kernel: &Kernel) {
    let count = kernel.possible_cpus().unwrap();
    let Some(map) = try_map(kernel, MapType::CPUMAP, 4, 8, count + 1) else { return };
    let cpus: CpuMap = map.typed().unwrap();
    assert_eq!((cpus.len(), cpus.get(0).unwrap()), (count + 1, None));
    cpus.set(0, 192, ANY).unwrap();
    let queue = Some(CpuQueue { packets: 192, program: None });
    assert_eq!(cpus.get(0).unwrap(), queue);
    let program = xdp(kernel, AttachType::XDP_CPUMAP);
    cpus.set_with_program(0, 16384, &program, ANY).unwrap();
    let queue = CpuQueue { packets: 16384, program: id(&program) };
    assert_eq!(cpus.iter().map(|slot| slot.unwrap()).collect::<Vec<_>>(), [(0, queue)]);

    let error = cpus.set(count, 1, ANY).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENODEV));
    assert!(error.to_string().ends_with("there is no such CPU"), "{error}");
    assert_eq!(cpus.set(0, 16385, ANY).unwrap_err().errno(), Some(Errno::EOVERFLOW));
    assert_error(cpus.set(count + 1, 1, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(cpus.set(0, 1, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    let other = xdp(kernel, AttachType::XDP);
    let error = cpus.set_with_program(0, 1, &other, ANY).unwrap_err();
    assert!(matches!(error.errno(), Some(Errno::ENOMEM | Errno::EINVAL)), "{error}");

    cpus.remove(0).unwrap();
    cpus.remove(0).unwrap();
    assert_error(cpus.remove(count + 1), MapErrorKind::Invalid, Some(Errno::EINVAL));
    cpus.set(0, 1, ANY).unwrap();
    cpus.set(0, 0, ANY).unwrap();
    assert_eq!(cpus.iter().count(), 0);
}
