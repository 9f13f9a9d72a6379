//! The structs of sockets in the kernel's memory.

use std::net::IpAddr;

use super::socket::{AF_INET6, Socket, SocketId};
use crate::image::{ImageError, KernelObject};
use crate::kernel::SimKernel;

const TCP: u32 = 6;
const UDP: u32 = 17;

/// The types that a socket's struct may have, the larger one first, and the paths from there to what is of TCP and to
/// `struct sock`.
fn types_of(socket: &Socket) -> &'static [(&'static str, &'static str, &'static str)] {
    const TCP4: (&str, &str, &str) = ("tcp_sock", "", "inet_conn.icsk_inet.sk.");
    const TCP6: (&str, &str, &str) = ("tcp6_sock", "tcp.", "tcp.inet_conn.icsk_inet.sk.");
    const UDP4: (&str, &str, &str) = ("udp_sock", "", "inet.sk.");
    const UDP6: (&str, &str, &str) = ("udp6_sock", "", "udp.inet.sk.");
    const ANY: (&str, &str, &str) = ("sock", "", "");

    match (socket.protocol, socket.family) {
        (TCP, AF_INET6) => &[TCP6, TCP4, ANY],
        (TCP, _) => &[TCP4, ANY],
        (UDP, AF_INET6) => &[UDP6, UDP4, ANY],
        (UDP, _) => &[UDP4, ANY],
        _ => &[ANY],
    }
}

impl SimKernel {
    /// The struct of a socket, as programs find it with `bpf_skc_to_tcp_sock` and its like: a `tcp_sock`, `tcp6_sock`,
    /// `udp_sock`, `udp6_sock` or `sock`. What a [`Socket`] knows is in it; the rest is for a test to set.
    ///
    /// ```
    /// # let btf = std::fs::read("../testdata/btf/6.18.btf")?;
    /// # let sim = skep_sim::SimKernel::builder().btf(btf).build()?;
    /// let socket = sim.add_socket(skep_sim::Socket::tcp("10.0.0.1:80".parse()?).listening());
    /// let object = sim.socket_object(socket)?;
    /// assert_eq!(object.get("inet_conn.icsk_inet.sk.__sk_common.skc_num")?, 80);
    /// object.set("copied_seq", 7)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ImageError::NoBtf`], [`ImageError::NoType`], and [`ImageError::NoSuch`] when there is no such socket.
    pub fn socket_object(&self, socket: SocketId) -> Result<KernelObject, ImageError> {
        let missing = || ImageError::NoSuch { what: format!("socket {socket}") };
        let known = self.socket(socket).ok_or_else(missing)?;
        let (btf, ty) = self.0.type_named(self.type_of(&known).0)?;
        let address = self.socket_struct(socket.0).ok_or(ImageError::NoBtf)?;
        Ok(KernelObject::new(self, &btf, address, ty))
    }

    /// The first of the types of a socket's struct that the kernel's BTF has.
    fn type_of(&self, socket: &Socket) -> (&'static str, &'static str, &'static str) {
        let types = types_of(socket);
        let known = types.iter().find(|(name, ..)| self.0.type_named(name).is_ok());
        known.or(types.last()).copied().unwrap_or_default()
    }

    /// The address of a socket's struct, which is made at first. Without BTF nothing but zero is there.
    pub(crate) fn socket_struct(&self, cookie: u64) -> Option<u64> {
        let (socket, known) = {
            let world = self.0.world();
            (world.net.socket(cookie).cloned()?, world.net.stream(cookie).and_then(|stream| stream.object))
        };
        let (name, tcp, sk) = self.type_of(&socket);
        let made = known.is_none();
        let address = known.unwrap_or_else(|| {
            let object = self.memory().object(name);
            object.as_ref().map_or_else(|_| self.memory().put(&[0; 4096]), KernelObject::address)
        });
        if made {
            self.0.world().net.stream_mut(cookie).object = Some(address);
        }
        if let Ok((btf, ty)) = self.0.type_named(name) {
            fill(&KernelObject::new(self, &btf, address, ty), &socket, cookie, (tcp, sk));
        }
        Some(address)
    }
}

/// Sets the fields that the kernel has; which ones these are depends on its version.
fn fill(object: &KernelObject, socket: &Socket, cookie: u64, (prefix, path): (&str, &str)) {
    let sk = |field: &str| format!("{path}{field}");
    let common = |field: &str| sk(&format!("__sk_common.{field}"));
    let numbers = [
        (common("skc_family"), u64::from(socket.family)),
        (common("skc_state"), socket.state.into()),
        (common("skc_num"), socket.local.port().into()),
        (common("skc_dport"), socket.remote_port().to_be().into()),
        (common("skc_bound_dev_if"), socket.bound_dev_if.into()),
        (common("skc_reuseport"), socket.reuse_port.into()),
        (common("skc_cookie"), cookie),
        (sk("sk_type"), socket.kind.into()),
        (sk("sk_protocol"), socket.protocol.into()),
        (sk("sk_mark"), socket.mark.into()),
        (sk("sk_priority"), socket.priority.into()),
        (sk("sk_uid"), socket.uid.into()),
    ];
    for (path, value) in numbers {
        let _ = object.set(&path, value);
    }
    let ends = [
        (socket.remote_ip(), "skc_daddr", "skc_v6_daddr"),
        (socket.local.ip(), "skc_rcv_saddr", "skc_v6_rcv_saddr"),
    ];
    for (address, four, six) in ends {
        let _ = match address {
            IpAddr::V4(address) => object.set(&common(four), u32::from_ne_bytes(address.octets())),
            IpAddr::V6(address) => object.set(&common(six), &address.octets()[..]),
        };
    }
    if socket.protocol != TCP {
        return;
    }
    let t = &socket.tcp;
    let words = [
        ("snd_cwnd", t.snd_cwnd),
        ("srtt_us", t.srtt_us),
        ("rtt_min.s[0].v", t.rtt_min),
        ("snd_ssthresh", t.snd_ssthresh),
        ("rcv_nxt", t.rcv_nxt),
        ("snd_nxt", t.snd_nxt),
        ("snd_una", t.snd_una),
        ("mss_cache", t.mss_cache),
        ("ecn_flags", t.ecn_flags),
        ("rate_delivered", t.rate_delivered),
        ("rate_interval_us", t.rate_interval_us),
        ("packets_out", t.packets_out),
        ("retrans_out", t.retrans_out),
        ("total_retrans", t.total_retrans),
        ("segs_in", t.segs_in),
        ("data_segs_in", t.data_segs_in),
        ("segs_out", t.segs_out),
        ("data_segs_out", t.data_segs_out),
        ("lost_out", t.lost_out),
        ("sacked_out", t.sacked_out),
        ("dsack_dups", t.dsack_dups),
        ("delivered", t.delivered),
        ("delivered_ce", t.delivered_ce),
        ("inet_conn.icsk_retransmits", t.icsk_retransmits),
        ("bpf_sock_ops_cb_flags", socket.callback_flags),
    ];
    for (field, value) in words {
        let _ = object.set(&format!("{prefix}{field}"), value);
    }
    for (field, value) in [("bytes_received", t.bytes_received), ("bytes_acked", t.bytes_acked)] {
        let _ = object.set(&format!("{prefix}{field}"), value);
    }
}
