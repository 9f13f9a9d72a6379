//! Iterators on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod iter_conformance;
mod support;

use skep::Kernel;

#[test]
fn iterators_go_through_tasks() {
    let rows = match iter_conformance::tasks(&Kernel::linux()) {
        Ok(rows) => rows,
        Err(error) => {
            support::denied("iterators_go_through_tasks", error);
            return;
        }
    };
    let own = std::process::id();
    assert!(rows.iter().any(|(_, process, _)| *process == own), "{own} is among {rows:?}");
}

#[test]
fn iterators_end_sockets() {
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    let kernel = Kernel::linux();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let _server = listener.accept().unwrap();
    let own = client.local_addr().unwrap().port();
    let ended = match iter_conformance::end_sockets(&kernel, "end_tcp", own) {
        Ok(ended) => ended,
        Err(error) => {
            support::denied("iterators_end_sockets", error);
            return;
        }
    };
    assert_eq!(ended, (1, 0));
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    // What was ended is no socket of the port any more; the one that listens is.
    assert_eq!(iter_conformance::end_sockets(&kernel, "end_tcp", own).unwrap().0, 0);
    assert_eq!(iter_conformance::end_sockets(&kernel, "end_tcp", address.port()).unwrap().1, 0);
    assert!(TcpStream::connect(address).is_err());

    let first = UdpSocket::bind("127.0.0.1:0").unwrap();
    first.connect("127.0.0.1:9").unwrap();
    let port = first.local_addr().unwrap().port();
    assert_eq!(iter_conformance::end_sockets(&kernel, "end_udp", port).unwrap(), (1, 0));
    assert_eq!(first.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert!(first.peer_addr().is_err());
}
