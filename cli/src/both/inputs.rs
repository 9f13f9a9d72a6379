//! What programs are run on: packets of many kinds, and contexts.

use skep::program::RunInput;
use skep::sys::abi::ProgType;

/// Inputs for programs of a type, each with a name.
pub(super) fn of(prog_type: ProgType) -> Vec<(String, RunInput<'static>)> {
    match prog_type {
        ProgType::RAW_TRACEPOINT => {
            let each = [[0_u64; 4], [1, 2, 3, 4], [0x10, 59, 0, 1]];
            each.iter().map(|args| (format!("args {args:?}"), RunInput::args(args))).collect()
        }
        ProgType::SYSCALL => {
            let each = [vec![0_u8; 64], (0..=255).collect()];
            each.iter()
                .map(|ctx| (format!("ctx of {}", ctx.len()), RunInput::new().context(&**ctx)))
                .collect()
        }
        _ => {
            // Packets live as long as the process, which runs one object.
            let all = packets().into_iter();
            all.map(|(name, bytes)| (name, RunInput::packet(Box::leak(bytes.into_boxed_slice())))).collect()
        }
    }
}

const DST: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const SRC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// Packets as they come by: of each family and protocol, tagged, fragmented, tunnelled, cut, and noise.
pub(super) fn packets() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, packet: Vec<u8>| all.push((name.to_owned(), packet));
    let http = b"GET /index.html HTTP/1.1\r\nHost: example.org\r\n\r\n";
    let dns = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";
    let v4 = |from: [u8; 4], to: [u8; 4], protocol, payload: &[u8]| {
        ethernet(0x0800, &ipv4(from, to, protocol, 0x4000, payload))
    };
    let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    add("tcp syn 80", v4(a, b, 6, &tcp(40000, 80, 0x02, &[])));
    add("tcp syn 443", v4([192, 168, 1, 7], [93, 184, 216, 34], 6, &tcp(51000, 443, 0x02, &[])));
    add("tcp ack 22", v4(b, a, 6, &tcp(22, 40001, 0x10, b"SSH-2.0-OpenSSH_9.6\r\n")));
    add("tcp rst", v4(b, a, 6, &tcp(80, 40000, 0x04, &[])));
    add("tcp fin ack", v4(a, b, 6, &tcp(40000, 80, 0x11, &[])));
    add("http", v4(a, b, 6, &tcp(40000, 80, 0x18, http)));
    add("udp dns", v4(a, [8, 8, 8, 8], 17, &udp(33333, 53, dns)));
    add("udp dns answer", v4([8, 8, 8, 8], a, 17, &udp(53, 33333, dns)));
    add("udp 12345", v4(a, b, 17, &udp(5000, 12345, b"hello, world")));
    add("udp broadcast", v4(a, [255, 255, 255, 255], 17, &udp(68, 67, &[0; 240])));
    add("udp loopback", v4([127, 0, 0, 1], [127, 0, 0, 1], 17, &udp(1, 2, b"x")));
    add("icmp echo", v4(a, b, 1, &icmp(8, 0, b"abcdefghijklmnop")));
    add("icmp unreachable", v4(b, a, 1, &icmp(3, 4, &ipv4(a, b, 6, 0x4000, &tcp(1, 2, 2, &[])))));
    add("fragment", ethernet(0x0800, &ipv4(a, b, 17, 0x2000, &udp(1, 2, &[7; 64]))));
    add("last fragment", ethernet(0x0800, &ipv4(a, b, 17, 0x0010, &[9; 32])));
    add("options", ethernet(0x0800, &with_options(a, b)));
    add("multicast", v4(a, [224, 0, 0, 251], 17, &udp(5353, 5353, dns)));
    add("ipip", v4(a, b, 4, &ipv4([172, 16, 0, 1], [172, 16, 0, 2], 6, 0x4000, &tcp(1000, 80, 2, &[]))));
    add("gre", v4(a, b, 47, &[&[0, 0, 8, 0][..], &ipv4(b, a, 17, 0, &udp(1, 2, b"in"))].concat()));
    let inner = ethernet(0x0800, &ipv4(b, a, 1, 0, &icmp(0, 0, b"inner")));
    add("vxlan", v4(a, b, 17, &udp(50000, 4789, &[&[8, 0, 0, 0, 0, 0, 42, 0][..], &inner].concat())));
    add("sctp", v4(a, b, 132, &[0; 24]));
    add("large", v4(a, b, 6, &tcp(40000, 80, 0x18, &[b'x'; 1400])));
    let six = |next, payload: &[u8]| ethernet(0x86dd, &ipv6(next, payload));
    add("tcp6 syn", six(6, &tcp(40000, 80, 0x02, &[])));
    add("tcp6 data", six(6, &tcp(40000, 443, 0x18, http)));
    add("udp6", six(17, &udp(5000, 53, dns)));
    add("icmp6 echo", six(58, &icmp(128, 0, b"ping six")));
    add("icmp6 neighbour", six(58, &icmp(135, 0, &[0xfe; 20])));
    add("hop by hop", six(0, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(1, 2, b"hbh")].concat()));
    add("fragment6", six(44, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &udp(1, 2, b"frag")].concat()));
    add("arp", ethernet(0x0806, &arp()));
    let tagged = [&[0, 42, 0x08, 0][..], &ipv4(a, b, 6, 0x4000, &tcp(40000, 80, 2, &[]))].concat();
    add("vlan", ethernet(0x8100, &tagged));
    add("two vlans", ethernet(0x88a8, &[&[0, 7, 0x81, 0][..], &tagged].concat()));
    add(
        "mpls",
        ethernet(
            0x8847,
            &[0, 0, 0x11, 0xff, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
        ),
    );
    add("unknown protocol", ethernet(0x1234, &[0x5a; 50]));
    add("zeros", vec![0; 64]);
    add("ones", vec![0xff; 64]);
    let whole = v4(a, b, 6, &tcp(40000, 80, 0x18, http));
    for len in [14, 20, 34, 40, 54, 60] {
        add(&format!("cut at {len}"), whole.get(..len).unwrap_or(&whole).to_vec());
    }
    let mut state = 0x1234_5678_9abc_def0_u64;
    for len in [33, 64, 100, 333] {
        let mut noise = Vec::with_capacity(len);
        while noise.len() < len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise.push((state >> 56) as u8);
        }
        add(&format!("noise of {len}"), noise.clone());
        noise.splice(0..14, ethernet(0x0800, &[]));
        add(&format!("IPv4 noise of {len}"), noise);
    }
    all
}

fn ethernet(protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&DST[..], &SRC, &protocol.to_be_bytes(), payload].concat()
}

fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut header = vec![0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, protocol, 0, 0];
    header.splice(2..4, len.to_be_bytes());
    header.splice(6..8, fragment.to_be_bytes());
    header.extend(from.iter().chain(&to));
    let sum = checksum(&header);
    header.splice(10..12, sum.to_be_bytes());
    [&header[..], payload].concat()
}

fn with_options(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut packet = ipv4(from, to, 17, 0, &[]);
    packet.splice(0..1, [0x46]);
    packet.extend([0x94, 4, 0, 0]);
    packet.extend(udp(7, 8, b"options"));
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    packet.splice(4..6, (payload.len() as u16).to_be_bytes());
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(payload);
    packet
}

fn tcp(from: u16, to: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0x12, 0x34, 0, 0]);
    segment.extend(payload);
    segment
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let header = [from.to_be_bytes(), to.to_be_bytes(), len.to_be_bytes(), [0x56, 0x78]].concat();
    [&header[..], payload].concat()
}

fn icmp(kind: u8, code: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 1, 0, 2];
    message.extend(payload);
    let sum = checksum(&message);
    message.splice(2..4, sum.to_be_bytes());
    message
}

fn arp() -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, 1][..], &SRC, &[10, 0, 0, 2], &[0; 6], &[10, 0, 0, 1], &[0; 18]].concat()
}

/// The checksum of the internet.
fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let sum: u32 = pairs.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded + (folded >> 16)) as u16)
}
