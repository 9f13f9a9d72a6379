//! Programs on packets: of `xdp-tools`, and the load balancer of the kernel's tests.

use std::net::Ipv4Addr;

use skep::map::{Array, PerCpuValues};
use skep::program::RunInput;
use skep::sim::{Dropper, Fate, Receive, Route};
use skep::sys::abi::UpdateFlags;

use super::{Result, perf_buffer, samples, tool, word};

const XDP: &str = "usr/lib/x86_64-linux-gnu/bpf";

/// A packet of TCP from 10.0.0.1 over IPv4.
fn tcp(to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut packet = vec![0; 54];
    packet[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    packet[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
    packet[24..26].copy_from_slice(&[0, 0]);
    packet[26..30].copy_from_slice(&[10, 0, 0, 1]);
    packet[30..34].copy_from_slice(&to.octets());
    packet[34..38].copy_from_slice(&[&40_000_u16.to_be_bytes()[..], &port.to_be_bytes()].concat());
    packet[46] = 0x50;
    packet
}

/// `xdp-filter port 80 -m dst -p tcp`, and `xdp-filter ip 10.9.9.9`: what is in its maps is dropped and counted.
#[test]
fn xdp_filter_drops_what_is_in_its_maps() -> Result {
    let path = format!("{XDP}/xdpfilt_alw_all.o");
    let Some(tool) = tool("xdp_filter", "libxdp1-sid", &path) else { return Ok(()) };
    let object = tool.load()?;
    let _link = object.program("xdpfilt_alw_all")?.attach_xdp("eth0")?;
    let web = || Receive::new("eth0", tcp(Ipv4Addr::new(10, 0, 0, 2), 80));
    assert!(!tool.sim.fire(web())?.is_dropped());

    // Flags: 2 the destination, 4 TCP; the counter is above them.
    let cpus = tool.kernel.possible_cpus()?;
    let ports = object.map("filter_ports")?;
    let key = u32::from(80_u16.to_be()).to_ne_bytes();
    let value: Vec<u8> = (0..cpus).flat_map(|_| 6_u64.to_ne_bytes()).collect();
    ports.update(&key, &value, UpdateFlags::empty())?;
    let passage = tool.sim.fire(web())?;
    assert_eq!(passage.fate, Fate::Dropped { ifindex: 2, by: Dropper::Xdp });
    assert!(!tool.sim.fire(Receive::new("eth0", tcp(Ipv4Addr::new(10, 0, 0, 2), 81)))?.is_dropped());
    let counted = ports.lookup(&key)?.ok_or("the port")?;
    assert_eq!(u64::from(word(&counted, 0)), 6 + (1 << 6));

    let addresses = object.map("filter_ipv4")?;
    addresses.update(&[10, 9, 9, 9], &value, UpdateFlags::empty())?;
    assert!(tool.sim.fire(Receive::new("eth0", tcp(Ipv4Addr::new(10, 9, 9, 9), 5)))?.is_dropped());

    // struct xdp_stats: packets and bytes, by action.
    let stats: skep::map::PerCpuArray<[u64; 2]> = object.map("xdp_stats_map")?.typed()?;
    let total = |action| -> Result<u64> {
        let found: PerCpuValues<[u64; 2]> = stats.get(action)?.ok_or("an action")?;
        Ok(found.iter().map(|[packets, _]| packets).sum())
    };
    assert_eq!((total(1)?, total(2)?), (2, 2));
    Ok(())
}

/// Each packet goes to the capture, with what is known of it in front.
#[test]
fn xdpdump_captures_packets() -> Result {
    let Some(mut tool) = tool("xdpdump", "libxdp1-sid", &format!("{XDP}/xdpdump_xdp.o")) else {
        return Ok(());
    };
    // struct trace_configuration: capture_if_ifindex, capture_snaplen, capture_prog_index
    tool.spec.set_global("trace_cfg", &[2_u32, 40, 0])?;
    let object = tool.load()?;
    let _link = object.program("xdpdump")?.attach_xdp("eth0")?;
    let mut capture = perf_buffer(&object, "xdpdump_perf_map")?;
    let packet = tcp(Ipv4Addr::new(10, 0, 0, 2), 443);
    assert!(!tool.sim.fire(Receive::new("eth0", packet.clone()).queue(0))?.is_dropped());
    let records = samples(&mut capture)?;
    assert_eq!(records.len(), 1);
    let at = records[0].windows(40).position(|window| window == &packet[..40]).ok_or("the packet")?;
    // struct pkt_trace_metadata: prog_index, ifindex, rx_queue, pkt_len, cap_len, flags, …
    assert!((0..at / 4).any(|word_at| word(&records[0], word_at * 4) == 2), "the interface");
    assert!(!records[0][at..].windows(54).any(|window| window == packet), "it is cut at 40 bytes");
    Ok(())
}

/// Packets go out where the routes say, with new addresses of the link and one hop less.
#[test]
fn xdp_forward_follows_routes() -> Result {
    let Some(mut tool) = tool("xdp_forward", "xdp-tools-sid", "usr/sbin/xdp-forward@26c80") else {
        return Ok(());
    };
    let object = tool.load_some(&["xdp_fwd_fib_full"])?;
    for ifindex in [2, 3] {
        tool.sim.change_interface(ifindex, |interface| *interface = interface.clone().forwarding(true))?;
    }
    tool.sim.change_interface(3, |interface| *interface = interface.clone().mac([2, 0, 0, 0, 1, 1]))?;
    tool.sim.add_route(Route::new(Ipv4Addr::new(10, 2, 0, 0), 16, 3));
    let neighbour = Ipv4Addr::new(10, 2, 0, 9);
    tool.sim.add_neighbour(3, neighbour, [2, 0, 0, 0, 9, 9]);
    // The tool puts in the devices that it may send to.
    let ports = object.map("xdp_tx_ports")?;
    ports.update(&3_u32.to_ne_bytes(), &3_u32.to_ne_bytes(), UpdateFlags::empty())?;
    let _link = object.program("xdp_fwd_fib_full")?.attach_xdp("eth0")?;

    let passage = tool.sim.fire(Receive::new("eth0", tcp(neighbour, 80)))?;
    assert_eq!(passage.fate, Fate::Transmitted { ifindex: 3 });
    assert_eq!(passage.packet[..12], [2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 1, 1]);
    assert_eq!(passage.packet[22], 63);
    // Where no route leads, the stack decides.
    let elsewhere = tool.sim.fire(Receive::new("eth0", tcp(Ipv4Addr::new(172, 16, 0, 1), 80)))?;
    assert_eq!(elsewhere.fate, Fate::Delivered { ifindex: 2, socket: None });
    Ok(())
}

/// A balancer of layer 4 chooses a server by the hash of the flow, and counts. The kernel's own test of it expects the same.
#[test]
fn l4lb_chooses_a_server() -> Result {
    let Some(tool) = tool("l4lb", "selftests-6.12", "test_l4lb.o") else { return Ok(()) };
    let object = tool.load()?;
    // struct vip: address, port, family, protocol. struct vip_meta: flags, vip_num.
    let mut vip = [0; 24];
    vip[20] = 6;
    object.map("vip_map")?.update(&vip, &[0_u32, 5].map(u32::to_ne_bytes).concat(), UpdateFlags::empty())?;
    let rings: Array<u32> = object.map("ch_rings")?.typed()?;
    rings.set(11, &3, UpdateFlags::empty())?;
    let mut real = [0; 20];
    real[..4].copy_from_slice(&0x1234_u32.to_ne_bytes());
    object.map("reals")?.update(&3_u32.to_ne_bytes(), &real, UpdateFlags::empty())?;

    let mut packet = vec![0; 54];
    packet[12..14].copy_from_slice(&[8, 0]);
    packet[14] = 0x45;
    packet[16..18].copy_from_slice(&123_u16.to_be_bytes());
    packet[23] = 6;
    packet[46] = 0x50;
    packet[52..54].copy_from_slice(&123_u16.to_be_bytes());
    let output = object.program("balancer_ingress")?.run(&RunInput::packet(&packet).repeat(100))?;
    assert_eq!((output.retval, output.data.len()), (7, 54));
    assert_eq!(output.data[..4], 0x1234_u32.to_ne_bytes());
    let stats: skep::map::PerCpuArray<[u64; 2]> = object.map("stats")?.typed()?;
    let found = stats.get(5)?.ok_or("the service")?;
    let total = found.iter().fold([0, 0], |sum, [bytes, packets]| [sum[0] + bytes, sum[1] + packets]);
    assert_eq!(total, [12_300, 100]);
    Ok(())
}
