//! Perf buffers and counters on the running kernel. Needs root, or the capabilities for BPF and perf events.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod perf_conformance;

use perf_conformance::running::world;

perf_conformance::tests! { world: per_cpu sizes wrap_around panics lost one_by_one raw a_source_of_events ordered what_programs_get wakeup_events watermark timeouts in_an_event_loop asked awaited among_threads a_thread_per_cpu overwritable overwritable_sizes pause two_buffers chosen_cpus refused counters }
