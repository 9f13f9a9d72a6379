//! `struct bpf_sock` as the context of programs that see sockets come and go.

use std::any::Any;

use skep_sys::abi::AttachType;

use crate::kernel::SimKernel;
use crate::vm::{Context, Memory};
use crate::words::widen_any;

/// A socket that is made, bound or closed.
#[derive(Clone, Debug)]
pub(crate) struct SockContext {
    pub(crate) cookie: u64,
    pub(crate) attach_type: AttachType,
    pub(crate) kernel: SimKernel,
}

impl SockContext {
    /// Whether a hook shows a field, by its offset (`__sock_filter_check_attach_type`).
    fn is_visible(&self, at: u32) -> bool {
        use AttachType as A;

        let life = matches!(self.attach_type, A::CGROUP_INET_SOCK_CREATE | A::CGROUP_INET_SOCK_RELEASE);
        let (four, six) = (A::CGROUP_INET4_POST_BIND, A::CGROUP_INET6_POST_BIND);
        match at {
            0..4 | 16..24 => life,
            24..28 => self.attach_type == four,
            28..44 => self.attach_type == six,
            44..48 => self.attach_type == four || self.attach_type == six,
            _ => true,
        }
    }
}

impl Context for SockContext {
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        let at = offset as usize;
        if len == 8 || !offset.is_multiple_of(len) || !self.is_visible(offset) {
            return None;
        }
        let bytes = self.kernel.0.world().net.socket(self.cookie)?.bytes();
        bytes.get(at..at + len as usize).map(widen_any)
    }

    fn store(&mut self, _: &mut Memory, offset: u32, len: u32, value: u64) -> Option<()> {
        if len != 4 || !self.is_visible(offset) {
            return None;
        }
        let mut world = self.kernel.0.world();
        let socket = world.net.socket_mut(self.cookie)?;
        let field = match offset {
            0 => &mut socket.bound_dev_if,
            16 => &mut socket.mark,
            20 => &mut socket.priority,
            _ => return None,
        };
        *field = value as u32;
        Some(())
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
