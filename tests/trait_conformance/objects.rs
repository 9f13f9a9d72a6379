//! Maps of devices, CPUs, sockets, maps and programs, and values that belong to sockets, behind the same traits.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use skep::asm::{Assembler, Reg};
use skep::btf::{BtfBuilder, IntEncoding};
use skep::map::traits::{MapIter, MapRead, MapRemove, MapWrite};
use skep::map::{
    ArrayOfMaps, CpuMap, DevMap, DevMapHash, Device, HashOfMaps, Map, MapErrorKind, ProgramArray, SkStorage,
    SockMap,
};
use skep::sys::abi::{Errno, MapFlags, MapId, MapType, ProgType, UpdateFlags};
use skep::sys::request::{MapBtf, MapCreate, ProgLoad};
use skep::sys::{Feature, LoadedProgram};

use super::{ANY, KernelMaps, assert_error};

/// The loopback device, which is the first one everywhere.
const LO: u32 = 1;

/// None, which is said, where the kernel has no such maps.
pub(super) fn created(request: &MapCreate<'_>, maps: &KernelMaps) -> Option<Map> {
    if maps.0.has(Feature::MapType(request.map_type)).is_unsupported() {
        println!("skip: {}: this kernel has none", request.map_type);
        return None;
    }
    Some(Map::create(&maps.0, request).unwrap())
}

fn request(map_type: MapType, value: u32) -> MapCreate<'static> {
    let mut request = MapCreate::new(map_type, 4, value, 2);
    request.name = "under_test";
    request
}

pub(crate) fn devices(maps: &KernelMaps) {
    fn body(map: &(impl MapRead<u32, Device> + MapWrite<u32, u32> + MapRemove<u32> + MapIter<u32, Device>)) {
        let lo = Device { ifindex: LO, program: None };
        assert_eq!(map.get(&1).unwrap(), None);
        map.insert(&1, &LO, ANY).unwrap();
        assert_eq!(map.get(&1).unwrap(), Some(lo));
        assert_eq!(map.to_vec().unwrap(), [(1, lo)]);
        assert_error(map.insert(&1, &LO, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
        assert_error(map.insert(&0, &99_999, ANY), MapErrorKind::Invalid, Some(Errno::EINVAL));
        assert!(map.remove(&1).unwrap());
        assert!(!map.remove(&1).unwrap());
    }

    if let Some(map) = created(&request(MapType::DEVMAP, 4), maps) {
        body(&map.typed::<DevMap>().unwrap());
    }
    if let Some(map) = created(&request(MapType::DEVMAP_HASH, 4), maps) {
        body(&map.typed::<DevMapHash>().unwrap());
    }
}

pub(crate) fn cpus(maps: &KernelMaps) {
    let Some(map) = created(&request(MapType::CPUMAP, 4), maps) else { return };
    let map: CpuMap = map.typed().unwrap();
    let (read, write): (&dyn MapRead<u32, _>, &dyn MapWrite<u32, u32>) = (&map, &map);
    write.insert(&0, &192, ANY).unwrap();
    assert_eq!(read.get(&0).unwrap().map(|queue| queue.packets), Some(192));
    assert_eq!(map.to_vec().unwrap().len(), 1);
    let remove: &dyn MapRemove<u32> = &map;
    assert!(remove.remove(&0).unwrap());
    assert!(!remove.remove(&0).unwrap());
}

pub(crate) fn sockets(maps: &KernelMaps) {
    let Some(map) = created(&request(MapType::SOCKMAP, 8), maps) else { return };
    let map: SockMap = map.typed().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // A socket is written, and its cookie is read.
    let write: &dyn MapWrite<u32, TcpStream> = &map;
    write.insert(&1, &client, UpdateFlags::NOEXIST).unwrap();
    let cookie = rustix::net::sockopt::socket_cookie(&client).unwrap();
    assert_eq!(MapRead::get(&map, &1).unwrap(), Some(cookie));
    assert_eq!(map.to_vec().unwrap(), [(1, cookie)]);
    assert!(MapRemove::remove(&map, &1).unwrap());
    assert_eq!(map.to_vec().unwrap(), []);
}

/// Local storage of a 32-bit integer.
pub(super) fn storage(maps: &KernelMaps, map_type: MapType) -> Option<Map> {
    let mut types = BtfBuilder::new();
    let int = types.add_int("int", 4, IntEncoding::SIGNED).unwrap().0;
    let types = maps.0.btf_load(types.finish().unwrap().bytes(), None).unwrap();
    let mut request = request(map_type, 4);
    request.max_entries = 0;
    request.flags = MapFlags::NO_PREALLOC;
    request.btf = Some(MapBtf { btf: types.as_fd(), key_type: int, value_type: int });
    created(&request, maps)
}

pub(crate) fn storage_of_sockets(maps: &KernelMaps) {
    let Some(map) = storage(maps, MapType::SK_STORAGE) else { return };
    let map: SkStorage<i32> = map.typed().unwrap();

    fn body(map: &(impl MapRead<UdpSocket, i32> + MapWrite<UdpSocket, i32> + MapRemove<UdpSocket>)) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(map.get(&socket).unwrap(), None);
        map.insert(&socket, &7, UpdateFlags::NOEXIST).unwrap();
        assert!(map.contains(&socket).unwrap());
        assert_eq!(map.get(&socket).unwrap(), Some(7));
        assert!(map.remove(&socket).unwrap());
        assert!(!map.remove(&socket).unwrap());
    }
    body(&map);
}

pub(crate) fn maps_of_maps(maps: &KernelMaps) {
    fn body(
        map: &(impl MapRead<u32, MapId> + MapWrite<u32, Map> + MapRemove<u32> + MapIter<u32, MapId>),
        inner: &Map,
    ) {
        let id = inner.id().unwrap();
        assert_eq!(map.get(&1).unwrap(), None);
        map.insert(&1, inner, ANY).unwrap();
        assert_eq!(map.get(&1).unwrap(), Some(id));
        assert_eq!(map.to_vec().unwrap(), [(1, id)]);
        assert_error(map.insert(&0, inner, UpdateFlags::LOCK), MapErrorKind::Invalid, Some(Errno::EINVAL));
        assert!(map.remove(&1).unwrap());
        assert_eq!(map.to_vec().unwrap(), []);
    }

    let inner = Map::create(&maps.0, &request(MapType::ARRAY, 4)).unwrap();
    let mut outer = request(MapType::ARRAY_OF_MAPS, 4);
    outer.inner_map = Some(inner.as_fd());
    body(&Map::create(&maps.0, &outer).unwrap().typed::<ArrayOfMaps>().unwrap(), &inner);
    outer.map_type = MapType::HASH_OF_MAPS;
    body(&Map::create(&maps.0, &outer).unwrap().typed::<HashOfMaps<u32>>().unwrap(), &inner);
}

pub(crate) fn programs(maps: &KernelMaps) {
    let mut code = Assembler::new();
    code.mov64_imm(Reg::R0, 0).exit();
    let code = code.finish().unwrap();
    let program = maps.0.prog_load(&ProgLoad::new(ProgType::SOCKET_FILTER, &code, "GPL"), None).unwrap();
    let id = program.info().unwrap().id;
    let map: ProgramArray = Map::create(&maps.0, &request(MapType::PROG_ARRAY, 4)).unwrap().typed().unwrap();
    let write: &dyn MapWrite<u32, LoadedProgram> = &map;
    write.insert(&1, &program, ANY).unwrap();
    assert_error(
        write.insert(&0, &program, UpdateFlags::NOEXIST),
        MapErrorKind::Invalid,
        Some(Errno::EINVAL),
    );
    assert_eq!(MapRead::get(&map, &1).unwrap(), Some(id));
    assert_eq!(map.to_vec().unwrap(), [(1, id)]);
    assert!(MapRemove::remove(&map, &1).unwrap());
    assert!(!MapRemove::remove(&map, &1).unwrap());
}
