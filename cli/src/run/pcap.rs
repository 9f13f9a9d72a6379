//! Packet captures: pcap and pcapng files, as tcpdump and Wireshark write them.

use anyhow::{Context, Result, bail, ensure};

/// Longest packet that is taken.
const PACKET_MAX: usize = 1 << 18;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;

/// Kinds of captures that people come with, for the error.
const LINKS: &[(u32, &str)] = &[
    (0, "BSD loopback"),
    (101, "IP packets"),
    (105, "802.11"),
    (108, "OpenBSD loopback"),
    (113, "Linux cooked capture, as of the device `any`"),
    (127, "802.11 with radiotap"),
    (228, "IPv4 packets"),
    (229, "IPv6 packets"),
    (276, "Linux cooked capture, as of the device `any`"),
];

/// Refuses packets without Ethernet headers.
fn check_ethernet(link: u32) -> Result<()> {
    let name = LINKS.iter().find(|(number, _)| *number == link);
    let name = name.map_or(String::new(), |(_, name)| format!(" ({name})"));
    ensure!(
        link == ETHERNET,
        "its packets have link type {link}{name}, and programs want Ethernet ({ETHERNET}): capture on an Ethernet device"
    );
    Ok(())
}

/// The packets of a capture, in order. Only Ethernet captures are taken.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    match bytes.first_chunk().map(|magic| u32::from_le_bytes(*magic)) {
        Some(0x0a0d_0d0a) => read_ng(bytes),
        Some(0xa1b2_c3d4 | 0xa1b2_3c4d) => read_classic(bytes, false),
        Some(0xd4c3_b2a1 | 0x4d3c_b2a1) => read_classic(bytes, true),
        _ if bytes.is_empty() => bail!("it is empty"),
        _ => bail!("it is neither pcap nor pcapng: --data takes the bytes of one packet"),
    }
}

/// A number of 4 bytes.
fn word(bytes: &[u8], at: usize, big: bool) -> Result<u32> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let word = word.with_context(|| cut(bytes.len()))?;
    Ok(if big { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) })
}

fn cut(len: usize) -> String {
    format!("it ends in the middle, after {len} bytes: it was cut short")
}

/// The bytes of the next packet.
fn packet(bytes: &[u8], at: usize, len: u32, before: usize) -> Result<Vec<u8>> {
    let (len, number) = (len as usize, before + 1);
    ensure!(len <= PACKET_MAX, "packet {number} would have {len} bytes, and {PACKET_MAX} at most are taken");
    let end = at.saturating_add(len);
    let bytes = bytes.get(at..end);
    Ok(bytes.with_context(|| format!("it ends in the middle of packet {number}: it was cut short"))?.to_vec())
}

fn read_classic(bytes: &[u8], big: bool) -> Result<Vec<Vec<u8>>> {
    check_ethernet(word(bytes, 20, big)? & 0x0fff_ffff)?;
    let mut packets = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let len = word(bytes, at + 8, big)?;
        packets.push(packet(bytes, at + 16, len, packets.len())?);
        at += 16 + len as usize; // it was there
    }
    Ok(packets)
}

fn read_ng(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let (mut packets, mut links, mut snaps) = (Vec::new(), Vec::new(), Vec::new());
    let (mut at, mut big) = (0, false);
    while at < bytes.len() {
        // The type of a section header reads the same in both orders, and its order comes behind its length.
        if word(bytes, at, false)? == 0x0a0d_0d0a {
            big = word(bytes, at + 8, false)? != 0x1a2b_3c4d;
            links.clear();
            snaps.clear();
        }
        let len = word(bytes, at + 4, big)? as usize;
        ensure!(len >= 12 && len.is_multiple_of(4), "a block of {len} bytes");
        let block = bytes.get(at..at.saturating_add(len)).with_context(|| cut(bytes.len()))?;
        match word(block, 0, big)? {
            // Interface description: its link type has two bytes.
            1 => {
                let pair = word(block, 8, big)?;
                links.push(if big { pair >> 16 } else { pair & 0xffff });
                snaps.push(word(block, 12, big)?);
            }
            // Simple packet, of the first interface.
            3 => {
                let snap = snaps.first().copied().filter(|&snap| snap != 0).unwrap_or(u32::MAX);
                check_link(links.first())?;
                packets.push(packet(block, 12, word(block, 8, big)?.min(snap), packets.len())?);
            }
            // Enhanced packet.
            6 => {
                check_link(links.get(word(block, 8, big)? as usize))?;
                packets.push(packet(block, 28, word(block, 20, big)?, packets.len())?);
            }
            _ => {}
        }
        at += len; // the block was there
    }
    Ok(packets)
}

fn check_link(link: Option<&u32>) -> Result<()> {
    check_ethernet(*link.context("a packet of an interface that is not described")?)
}

/// A capture of Ethernet packets, a microsecond apart, in the order of bytes of little-endian machines.
pub(super) fn write(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, PACKET_MAX as u32, ETHERNET] {
        bytes.extend(u32::to_le_bytes(word));
    }
    for (number, packet) in (0_u32..).zip(packets) {
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        for word in [number / 1_000_000, number % 1_000_000, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(packet);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let packets = vec![vec![1, 2, 3], Vec::new(), vec![9; 70]];
        let bytes = write(&packets);
        assert_eq!(read(&bytes).expect("it is well-formed"), packets);
        for end in 25..bytes.len() {
            // Some lengths end between packets.
            if let Ok(fewer) = read(&bytes[..end]) {
                assert!(packets.starts_with(&fewer));
            }
        }
        assert!(read(b"something else").is_err());
    }

    #[test]
    fn blocks_of_both_orders() {
        for big in [false, true] {
            let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
            let pair = |a: u16, b: u16| {
                if big { [a.to_be_bytes(), b.to_be_bytes()] } else { [a.to_le_bytes(), b.to_le_bytes()] }
                    .concat()
            };
            let block = |kind: u32, body: &[u8]| {
                let len = word(12 + body.len() as u32);
                [&word(kind)[..], &len, body, &len].concat()
            };
            let section = block(0x0a0d_0d0a, &[&word(0x1a2b_3c4d)[..], &pair(1, 0), &[0xff; 8]].concat());
            let interface = block(1, &[&pair(1, 0)[..], &word(0)].concat());
            let enhanced = block(6, &[&[0; 12][..], &word(3), &word(3), &[7, 8, 9, 0]].concat());
            let simple = block(3, &[&word(2)[..], &[5, 6, 0, 0]].concat());
            let unknown = block(5, &[1, 2, 3, 4]);
            let bytes = [section.clone(), interface.clone(), enhanced, unknown, simple].concat();
            assert_eq!(read(&bytes).expect("it is well-formed"), [vec![7, 8, 9], vec![5, 6]]);
            let orphan = [section, block(6, &[0; 20])].concat();
            assert!(read(&orphan).is_err());
        }
    }
}
