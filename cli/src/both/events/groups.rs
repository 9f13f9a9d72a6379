//! What programs of control groups are told of: sockets, connections, options, settings, devices.

use skep::sim::{
    DeviceAccess, OptionCall, Socket, SocketCall, SocketCreate, SocketId, SocketRelease, Sysctl, TcpEvent,
};

use super::{Place, Results, collect};

/// Addresses of the two families: of a client, and of a server.
const PAIRS: [(&str, &str); 2] = [("10.0.0.1:0", "10.0.0.9:80"), ("[fd00::1]:0", "[fd00::9]:443")];

/// As many programs as were asked came to their end.
fn ended(count: usize) -> Results {
    vec![Ok(()); count]
}

impl Place<'_> {
    /// Calls on sockets.
    pub(super) fn sockets(&self) -> Result<Results, String> {
        let _link = self.on_cgroup()?;
        let mut results = Results::new();
        for (local, remote) in PAIRS {
            let (Ok(local), Ok(remote)) = (local.parse(), remote.parse()) else { continue };
            for socket in [Socket::tcp(local), Socket::udp(local)] {
                let socket = self.sim.add_socket(socket);
                let calls = [
                    SocketCall::bind(socket, remote),
                    SocketCall::connect(socket, remote),
                    SocketCall::send(socket, remote),
                    SocketCall::receive(socket, remote),
                    SocketCall::peer_name(socket, remote),
                    SocketCall::socket_name(socket, remote),
                ];
                for call in calls {
                    let outcome = self.sim.fire(call);
                    collect(outcome.map(|outcome| ended(outcome.verdicts.len())), &mut results)?;
                }
                self.sim.remove_socket(socket);
            }
        }
        Ok(results)
    }

    /// Sockets that are made, bound and closed.
    pub(super) fn lives(&self) -> Result<Results, String> {
        let _link = self.on_cgroup()?;
        let mut results = Results::new();
        for (local, _) in PAIRS {
            let Ok(local) = local.parse() else { continue };
            for socket in [Socket::tcp(local), Socket::udp(local)] {
                let mut made = None;
                let outcome = self.sim.fire(SocketCreate::new(socket));
                let outcome = outcome.map(|outcome| {
                    made = outcome.result.ok();
                    ended(outcome.verdicts.len())
                });
                collect(outcome, &mut results)?;
                let Some(socket) = made else { continue };
                let bound = self.sim.fire(SocketCall::bind(socket, local));
                collect(bound.map(|outcome| ended(outcome.verdicts.len())), &mut results)?;
                let closed = self.sim.fire(SocketRelease::new(socket));
                collect(closed.map(|outcome| ended(outcome.verdicts.len())), &mut results)?;
            }
        }
        Ok(results)
    }

    /// A connection from its beginning to its end, with both sides here.
    pub(super) fn connections(&self) -> Result<Results, String> {
        let _link = self.on_cgroup()?;
        let mut results = Results::new();
        for (local, remote) in PAIRS {
            let (Ok(local), Ok(remote)) = (local.parse(), remote.parse()) else { continue };
            let server = self.sim.add_socket(Socket::tcp(remote));
            let client = self.sim.add_socket(Socket::tcp(local));
            let mut tell = |event: TcpEvent| {
                let outcome = self.sim.fire(event);
                collect(outcome.map(|outcome| ended(outcome.runs.len())), &mut results)
            };
            tell(TcpEvent::listen(server))?;
            let outcome = self.sim.fire(SocketCall::connect(client, remote));
            let told = outcome.map(|outcome| outcome.tcp.len()).map(ended);
            collect(told, &mut results)?;
            let mut tell = |event: TcpEvent| {
                let outcome = self.sim.fire(event);
                collect(outcome.map(|outcome| ended(outcome.runs.len())), &mut results)
            };
            for event in
                [TcpEvent::round_trip(client, 250), TcpEvent::retransmit(client), TcpEvent::timeout(client)]
            {
                tell(event)?;
            }
            tell(TcpEvent::close(client))?;
            tell(TcpEvent::close(server))?;
            for socket in [client, server] {
                self.sim.remove_socket(socket);
            }
        }
        Ok(results)
    }

    /// Options of sockets, of several levels.
    pub(super) fn options(&self) -> Result<Results, String> {
        /// Of `SOL_SOCKET` the mark, of IP the type of service, of TCP the congestion control, and one that is nobody's.
        const OPTIONS: [(i32, i32, &[u8]); 4] =
            [(1, 36, &[7, 0, 0, 0]), (0, 1, &[16, 0, 0, 0]), (6, 13, b"cubic\0"), (0xdead, 1, &[1])];

        let _link = self.on_cgroup()?;
        let mut results = Results::new();
        let Ok(local) = "10.0.0.1:80".parse() else { return Ok(results) };
        let socket: SocketId = self.sim.add_socket(Socket::tcp(local));
        for (level, name, value) in OPTIONS {
            let calls = [OptionCall::set(socket, level, name, value), OptionCall::get(socket, level, name)];
            for call in calls {
                let outcome = self.sim.fire(call);
                collect(outcome.map(|outcome| ended(outcome.verdicts.len())), &mut results)?;
            }
        }
        self.sim.remove_socket(socket);
        Ok(results)
    }

    /// Settings that are read and written.
    pub(super) fn settings(&self) -> Result<Results, String> {
        let _link = self.on_cgroup()?;
        let mut results = Results::new();
        for (name, value) in
            [("net/ipv4/ip_forward", "0"), ("net/ipv4/tcp_mem", "100 200 300"), ("kernel/hostname", "h")]
        {
            self.sim.set_sysctl(name, value);
            for access in [Sysctl::read(name), Sysctl::write(name, "1"), Sysctl::write(name, "600 600 600")] {
                let outcome = self.sim.fire(access);
                collect(outcome.map(|outcome| ended(outcome.verdicts.len())), &mut results)?;
            }
        }
        Ok(results)
    }

    /// Devices that are opened and made.
    pub(super) fn devices(&self) -> Result<Results, String> {
        let _link = self.on_cgroup()?;
        let mut results = Results::new();
        for access in [
            DeviceAccess::character(1, 3).read().write(),
            DeviceAccess::character(1, 5).make(),
            DeviceAccess::block(8, 0).read(),
        ] {
            let outcome = self.sim.fire(access);
            collect(outcome.map(|outcome| ended(outcome.verdicts.len())), &mut results)?;
        }
        Ok(results)
    }
}
