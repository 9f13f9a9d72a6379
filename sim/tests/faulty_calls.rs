//! Calls of a simulated kernel that fail because a test says so, and the record of calls.

use skep_sim::SimKernel;
use skep_sys::abi::{Errno, MapType};
use skep_sys::request::MapCreate;
use skep_sys::wrap::Command;
use skep_sys::{Kernel, MapFd};

fn array(kernel: &Kernel, values: u32) -> Result<MapFd, Errno> {
    kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 8, values))
}

#[test]
fn chosen_calls_fail_from_the_start_and_later() {
    let sim = SimKernel::builder()
        .fail(Command::MAP_CREATE, 2, Errno::EMFILE)
        .fail(Command::MAP_UPDATE, 1, Errno::E2BIG)
        .build()
        .unwrap();
    let kernel = Kernel::new(sim.clone());
    let map = array(&kernel, 1).unwrap();
    assert_eq!(array(&kernel, 1).unwrap_err(), Errno::EMFILE);
    array(&kernel, 1).unwrap();
    let update = || map.update(&[0; 4], &[0; 8], Default::default());
    assert_eq!(update().unwrap_err().errno(), Some(Errno::E2BIG));
    update().unwrap();

    let faults = sim.faults_of_calls();
    assert_eq!((faults.calls_of(Command::MAP_CREATE), faults.fired()), (3, 2));
    faults.fail_every(Command::MAP_CREATE, Errno::EPERM);
    // Every handle is of the same kernel.
    assert_eq!(array(&Kernel::new(sim.clone()), 1).unwrap_err(), Errno::EPERM);
    faults.disarm();
    array(&kernel, 1).unwrap();
    // A failed call has left nothing.
    drop(map);
    assert_eq!(sim.live().maps, 0);
}

#[test]
fn memory_runs_out_and_is_given_back() {
    const PAGE: usize = 4096;

    let sim = SimKernel::builder().memory_limit(4 * PAGE).build().unwrap();
    let kernel = Kernel::new(sim);
    let large = array(&kernel, 512 + 256).unwrap(); // 16 bytes each, so 3 pages
    let small = array(&kernel, 1).unwrap();
    assert_eq!(array(&kernel, 1).unwrap_err(), Errno::ENOMEM);
    drop(large);
    array(&kernel, 512).unwrap();
    drop(small);
}

#[test]
fn calls_are_written_down_with_what_they_answer() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let before = array(&kernel, 1).unwrap();
    let calls = sim.log_calls();
    let mut request = MapCreate::new(MapType::HASH, 4, 2, 8);
    request.name = "table";
    let map = kernel.map_create(&request).unwrap();
    map.update(&[1; 4], &[7, 8], Default::default()).unwrap();
    let mut value = [0; 2];
    map.lookup(&[1; 4], &mut value, Default::default()).unwrap();
    let mut next = [0; 4];
    map.next_key(None, &mut next).unwrap();
    map.delete(&[2; 4]).unwrap_err();
    before.lookup(&[0; 4], &mut [0; 8], Default::default()).unwrap();
    let expected = "\
map_create hash \"table\" key=4 value=2 max=8 flags=0x0 = fd1
map_update fd1 key=01010101 value=0708 flags=0x0 = ok
map_lookup fd1 key=01010101 value=[2] flags=0x0 = 0708
map_next_key fd1 key=first next=[4] = 01010101
map_delete fd1 key=02020202 = ENOENT
map_lookup fd2 key=00000000 value=[8] flags=0x0 = 0000000000000000
";
    assert_eq!(calls.text(), expected);
}
