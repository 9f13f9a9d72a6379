//! Functions and helpers that take an object for one of another type of the kernel.

use skep_btf::TypeId;
use skep_sys::abi::ProgType;

use super::HelperFn;
use crate::image::KernelObject;
use crate::packet::{kernel_context, perf_context, shared_info};
use crate::vm::{Region, Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[(162, sock_from_file)];

pub(super) const KFUNCS: &[(&str, HelperFn)] =
    &[("bpf_rdonly_cast", rdonly_cast), ("bpf_cast_to_kern_ctx", cast_to_kern_ctx)];

/// `S_IFMT` and `S_IFSOCK`.
const FILE_TYPE: i128 = 0o170_000;
const SOCKET_FILE: i128 = 0o140_000;

/// The kernel's structure of a socket that a program has as `struct bpf_sock`; other addresses as they are.
fn kernel_socket(vm: &Vm, address: u64) -> u64 {
    let cookie = vm.socket_at(address);
    cookie.and_then(|cookie| vm.kernel.socket_struct(cookie)).unwrap_or(address)
}

/// `bpf_sock_from_file(file)`: the socket of a file that is one.
fn sock_from_file(vm: &mut Vm, [file, ..]: [u64; 5]) -> Result<u64, Trap> {
    let Ok((btf, ty)) = vm.kernel.0.type_named("file") else { return Ok(0) };
    let file = KernelObject::new(&vm.kernel, &btf, file, ty);
    if file.get("f_inode.i_mode").is_ok_and(|mode| mode & FILE_TYPE == SOCKET_FILE) {
        return Ok(file.get("private_data").ok().and_then(|data| u64::try_from(data).ok()).unwrap_or(0));
    }
    Ok(0)
}

/// `bpf_cast_to_kern_ctx(ctx)`: the context as the kernel has it.
fn cast_to_kern_ctx(vm: &mut Vm, [context, ..]: [u64; 5]) -> Result<u64, Trap> {
    if vm.prog().prog_type == ProgType::PERF_EVENT {
        return perf_context(vm, context);
    }
    kernel_context(vm, context)
}

/// `bpf_rdonly_cast(pointer, type)`: the pointer as one to a type of the kernel. What programs see as something simpler is the
/// kernel's own structure from there on.
fn rdonly_cast(vm: &mut Vm, [pointer, id, ..]: [u64; 5]) -> Result<u64, Trap> {
    if matches!(vm.memory.region(pointer), Some(Region::Context)) {
        return kernel_context(vm, pointer);
    }
    let name = {
        let btf = vm.kernel.0.vmlinux();
        btf.and_then(|btf| Some(btf.btf.ty(TypeId(id as u32)).ok()?.name().into_owned()))
    };
    if name.as_deref() == Some("skb_shared_info")
        && let Some(info) = shared_info(vm, pointer)?
    {
        return Ok(info);
    }
    Ok(kernel_socket(vm, pointer))
}
