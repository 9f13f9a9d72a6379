//! Helpers and kernel functions of the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)] // a skipped test says so

mod helper_conformance;
mod helper_rows;

use std::time::Duration;

use skep::sys::Kernel;
use skep::sys::abi::MapType;
use skep::sys::request::MapCreate;

type Wait = Box<dyn Fn(Duration)>;

/// The running kernel, if this process may use it.
fn kernel(test: &str) -> Option<(Kernel, Wait)> {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)) {
        Ok(_) => Some((kernel, Box::new(std::thread::sleep))),
        Err(errno) => {
            println!("skip: {test}: this process may not create a map: {errno}");
            assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none(), "{test} was skipped");
            None
        }
    }
}

/// On another kernel than the one that was recorded, differences are drift and no failure.
#[test]
fn recorded_rows_hold() {
    let Some((kernel, _)) = kernel("recorded_rows_hold") else { return };
    let played = helper_rows::play(&kernel);
    for program in &played.skipped {
        println!("skip: recorded_rows_hold: {program}");
    }
    println!(
        "{} of {} rows differ on this kernel:\n{}",
        played.differ.len(),
        played.rows,
        played.differ.join("\n")
    );
    let is_recorded = kernel.version_code().unwrap() >> 8 == 6 << 8 | 18;
    assert!(!is_recorded || played.differ.is_empty() && played.skipped.is_empty(), "{played:?}");
}

helper_conformance::tests! {
    kernel:
    maps arrays queues bloom_filters per_cpu inner_maps every_element tail_calls loops numbers bits locks rings full_rings ring_queries ring_dynptrs sent_samples events counters dynptrs dynptr_functions dynptrs_of_packets events_with_packets formats format_errors format_space printing streams integers comparisons string_functions clocks times_of_day storage_of_tasks storage_of_sockets timers timer_errors work_queues kept_objects graphs cpu_sets nested_objects cookies connections translated_connections connection_errors
}
