//! Helpers that make more of a pointer to a socket: what kind of socket it is, with all its fields.

use crate::helper::HelperFn;
use crate::image::KernelObject;
use crate::vm::{Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (136, |vm, [sk, ..]| cast(vm, sk, |kind| kind.is_full() && kind.protocol == TCP && kind.family == INET6)),
    (137, |vm, [sk, ..]| cast(vm, sk, |kind| kind.is_full() && kind.protocol == TCP)),
    (138, |vm, [sk, ..]| cast(vm, sk, |kind| kind.state == TIME_WAIT)),
    (139, |vm, [sk, ..]| cast(vm, sk, |kind| kind.state == NEW_SYN_RECV)),
    (140, |vm, [sk, ..]| {
        cast(vm, sk, |kind| {
            kind.is_full() && kind.protocol == UDP && kind.kind == DGRAM && kind.family == INET6
        })
    }),
    (178, |vm, [sk, ..]| cast(vm, sk, |kind| kind.is_full() && kind.family == UNIX)),
    // No connection here is a part of one of several ways.
    (196, |vm, [sk, ..]| cast(vm, sk, |_| false)),
];

const TCP: u32 = 6;
const UDP: u32 = 17;
const DGRAM: u32 = 2;
const UNIX: u32 = 1;
const INET6: u32 = 10;
/// States of what is no whole socket.
const TIME_WAIT: u32 = 6;
const NEW_SYN_RECV: u32 = 12;

/// What tells kinds of sockets apart.
struct Kind {
    family: u32,
    kind: u32,
    protocol: u32,
    state: u32,
}

impl Kind {
    fn is_full(&self) -> bool {
        self.state != TIME_WAIT && self.state != NEW_SYN_RECV
    }
}

/// The struct of the socket if it is of a kind, or null.
fn cast(vm: &mut Vm, sk: u64, is: impl FnOnce(&Kind) -> bool) -> Result<u64, Trap> {
    if sk == 0 {
        return Ok(0);
    }
    if let Some(cookie) = vm.socket_at(sk) {
        let kind = vm.kernel.0.world().net.socket(cookie).map(|socket| Kind {
            family: socket.family,
            kind: socket.kind,
            protocol: socket.protocol,
            state: socket.state,
        });
        if !kind.is_some_and(|kind| is(&kind)) {
            return Ok(0);
        }
        return Ok(vm.kernel.socket_struct(cookie).unwrap_or(0));
    }
    // One that a test made in the kernel's memory: its fields tell.
    let Ok((btf, ty)) = vm.kernel.0.type_named("sock") else { return Ok(0) };
    let object = KernelObject::new(&vm.kernel, &btf, sk, ty);
    let field = |path: &str| object.get(path).ok().and_then(|value| u32::try_from(value).ok());
    let kind = Kind {
        family: field("__sk_common.skc_family").unwrap_or(0),
        kind: field("sk_type").unwrap_or(0),
        protocol: field("sk_protocol").unwrap_or(0),
        state: field("__sk_common.skc_state").unwrap_or(0),
    };
    Ok(if is(&kind) { sk } else { 0 })
}
