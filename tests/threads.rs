//! What can go to another thread, and be used by several: everything that is public and lives with an object.

#![allow(missing_docs)]

use skep::map::{
    Arena, Array, ArrayOfMaps, AttachedCgroupStorage, Batch, Batches, BloomFilter, ByteBatches, ByteEntries,
    CgroupArray, CgroupStorage, CpuMap, DevMap, DevMapHash, HashMap, HashOfMaps, InodeStorage,
    InstructionArray, Keys, LpmTrie, Map, MapError, MapLabel, MappedArray, PerCpuArray,
    PerCpuAttachedCgroupStorage, PerCpuBatches, PerCpuHashMap, PerCpuRef, PerCpuValues, PerfEventArray,
    ProgramArray, Queue, ReuseportArray, SkStorage, SockHash, SockMap, Stack, StackTraces, StructOpsMap,
    TaskStorage, XskMap, memory, traits,
};
use skep::{link, load, perf, pinned, program, ring};

fn both<T: Send + Sync>() {}

/// It compiles, or it does not.
#[test]
fn everything_is_send_and_sync() {
    both::<skep::Kernel>();
    both::<skep::Spec>();
    both::<skep::btf::Btf>();
    both::<skep::reloc::Plan>();
    both::<skep::Error>();
    both::<skep::Object>();
    both::<skep::Loader>();
    both::<load::ObjectPins>();
    both::<load::Migration>();
    both::<load::GlobalView<u64>>();
    both::<load::LoadReport>();
    both::<link::Link>();

    both::<Map>();
    both::<MapError>();
    both::<MapLabel>();
    both::<HashMap<u32, u64>>();
    both::<PerCpuHashMap<u32, u64>>();
    both::<Array<u64>>();
    both::<PerCpuArray<u64>>();
    both::<MappedArray<u64>>();
    both::<LpmTrie<skep::map::Ipv4Prefix, u64>>();
    both::<Queue<u64>>();
    both::<Stack<u64>>();
    both::<BloomFilter<u64>>();
    both::<PerfEventArray>();
    both::<DevMap>();
    both::<DevMapHash>();
    both::<CpuMap>();
    both::<XskMap>();
    both::<SockMap>();
    both::<SockHash<u32>>();
    both::<ReuseportArray>();
    both::<CgroupArray>();
    both::<SkStorage<u64>>();
    both::<TaskStorage<u64>>();
    both::<InodeStorage<u64>>();
    both::<CgroupStorage<u64>>();
    both::<AttachedCgroupStorage<u64, u64>>();
    both::<PerCpuAttachedCgroupStorage<u64, u64>>();
    both::<ProgramArray>();
    both::<ArrayOfMaps>();
    both::<HashOfMaps<u32>>();
    both::<InstructionArray>();
    both::<StackTraces>();
    both::<Arena>();
    both::<StructOpsMap>();

    both::<Keys<'_, u32>>();
    both::<Batches<'_, u32, u64>>();
    both::<Batch<'_, u32, u64>>();
    both::<PerCpuBatches<'_, u32, u64>>();
    both::<PerCpuValues<u64>>();
    both::<PerCpuRef<'_, u64>>();
    both::<ByteBatches<'_>>();
    both::<ByteEntries<'_>>();

    both::<memory::HashMap<u32, u64>>();
    both::<memory::PerCpuHashMap<u32, u64>>();
    both::<memory::Array<u64>>();
    both::<memory::PerCpuArray<u64>>();
    both::<memory::Queue<u64>>();
    both::<memory::Stack<u64>>();
    both::<memory::BloomFilter<u64>>();
    both::<memory::Events>();
    both::<memory::EventSender>();
    both::<traits::EventFault>();

    both::<ring::RingBuffer>();
    both::<ring::TypedRingBuffer<u64>>();
    both::<ring::Record<'_>>();
    both::<ring::TypedRecord<'_, u64>>();
    both::<ring::RingPoller>();
    both::<ring::UserRingBuffer>();
    both::<ring::RingSample<'_>>();
    both::<ring::RingError>();
    both::<perf::PerfBuffer>();
    both::<perf::PerfCpu>();
    both::<perf::PerfCounters>();
    both::<perf::PerfRecord<'_>>();
    both::<perf::PerfError>();

    both::<program::Program>();
    both::<program::ProgramBuilder>();
    both::<program::RunInput<'_>>();
    both::<program::StreamReader<'_>>();
    both::<program::Xlated>();
    both::<program::Jited>();
    both::<pinned::PinnedSet>();
    both::<pinned::Upgrade>();
    both::<pinned::Staged>();
    both::<pinned::Switched>();
    both::<skep::handover::Handles>();
    both::<skep::query::Query<Map>>();
}
