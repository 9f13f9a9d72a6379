//! What programs of control groups are told of: sockets and connections.

use skep::sim::{Socket, SocketCall, TcpEvent};

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
}
