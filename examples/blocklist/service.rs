//! Who is blocked, and for how long. It names what it needs of its maps and of nothing else, so it runs on those of a
//! kernel, on maps in memory, and on mocks.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context, Result};
use skep::map::traits::{EventSource, MapDrain, MapRead, MapTable};
use skep::map::{Ipv4Prefix, MapErrorKind, PerCpuValues, PlainData};
use skep::sys::abi::UpdateFlags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct config` of `blocklist.bpf.c`.
#[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
pub(crate) struct Config {
    pub(crate) packets_per_round: u32,
    pub(crate) rounds_blocked: u32,
    pub(crate) report_one_in: u32,
}

/// `struct count` of `blocklist.bpf.c`.
#[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// `struct dropped` of `blocklist.bpf.c`.
#[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
pub(crate) struct Dropped {
    pub(crate) source: [u8; 4],
    pub(crate) length: u32,
}

/// The service, over what it needs: a configuration to read, counts to take, networks to block, and reports of drops.
pub(crate) struct Blocklist<C, S, B, D> {
    config: C,
    seen: S,
    blocked: B,
    drops: D,
    round: u64,
    spared: Vec<Ipv4Prefix>,
}

/// What was done in a round.
#[derive(Default, PartialEq, Debug)]
pub(crate) struct Round {
    /// Who was blocked, with what they sent.
    pub(crate) blocked: Vec<(Ipv4Addr, u64)>,
    /// Who would have been blocked, if there were room.
    pub(crate) no_room: Vec<Ipv4Addr>,
    /// Who is blocked no longer.
    pub(crate) released: Vec<Ipv4Addr>,
}

impl<C, S, B, D> Blocklist<C, S, B, D>
where
    C: MapRead<u32, Config>,
    S: MapDrain<[u8; 4], PerCpuValues<Count>>,
    B: MapTable<Ipv4Prefix, u64>,
    D: EventSource,
{
    pub(crate) fn new(config: C, seen: S, blocked: B, drops: D) -> Self {
        Blocklist { config, seen, blocked, drops, round: 0, spared: Vec::new() }
    }

    /// Never blocks who is in one of these networks.
    pub(crate) fn spare(mut self, networks: impl IntoIterator<Item = Ipv4Prefix>) -> Self {
        self.spared.extend(networks);
        self
    }

    /// Ends a round: releases those whose time is over, and blocks those who sent too much in it.
    pub(crate) fn end_round(&mut self) -> Result<Round> {
        let config = self.config.get(&0)?.context("the configuration has no element")?;
        let mut round = Round { released: self.release()?, ..Round::default() };
        for (source, packets) in self.take_counts()? {
            let spared = self.spared.iter().any(|network| network.contains(source));
            if spared || packets <= u64::from(config.packets_per_round) {
                continue;
            }
            let until = self.round + u64::from(config.rounds_blocked);
            match self.blocked.insert(&source.into(), &until, UpdateFlags::empty()) {
                Ok(()) => round.blocked.push((source, packets)),
                // The others are still to be blocked; this one will be seen again.
                Err(error) if error.kind() == MapErrorKind::Full => round.no_room.push(source),
                Err(error) => return Err(error).with_context(|| format!("block {source}")),
            }
        }
        self.round += 1;
        Ok(round)
    }

    fn release(&self) -> Result<Vec<Ipv4Addr>> {
        let mut released = Vec::new();
        for (network, until) in self.blocked.to_vec()? {
            if until <= self.round && self.blocked.remove(&network)? {
                released.push(network.address());
            }
        }
        Ok(released)
    }

    /// The packets of each source since the last round, the busiest first.
    fn take_counts(&self) -> Result<Vec<(Ipv4Addr, u64)>> {
        let mut counts = Vec::new();
        self.seen.drain_all(&mut |source, per_cpu| {
            counts.push((source.into(), per_cpu.iter().map(|count| count.packets).sum()));
        })?;
        counts.sort_by_key(|&(source, packets)| (std::cmp::Reverse(packets), source));
        Ok(counts)
    }

    /// Waits for reports until `timeout` is over or some came, and answers how many bytes were dropped of whom.
    pub(crate) fn wait_for_drops(&mut self, timeout: Duration) -> Result<BTreeMap<Ipv4Addr, u64>> {
        let mut dropped = BTreeMap::new();
        self.drops.poll_events_as(Some(timeout), |drop: Dropped| {
            *dropped.entry(drop.source.into()).or_default() += u64::from(drop.length);
            ControlFlow::Continue(())
        })?;
        Ok(dropped)
    }
}
