//! `union bpf_attr`, one structure per command, and the info structures.
//!
//! Each ends with the last field that is used here. A kernel that knows less accepts the zeros behind what it knows
//! and answers `E2BIG` to anything else, which then is the truth: it does not know that field.
//! Source: `include/uapi/linux/bpf.h`.

use std::mem::offset_of;

/// A structure that bpf(2) takes: plain integers without padding that is not a field.
pub(super) trait Attr: Copy {}

macro_rules! layout {
    ($ty:ident, $size:literal, $($field:ident @ $offset:literal),* $(,)?) => {
        impl Attr for $ty {}
        const _: () = assert!(size_of::<$ty>() == $size);
        $(const _: () = assert!(offset_of!($ty, $field) == $offset);)*
    };
}

/// Numbers of the commands (`enum bpf_cmd`).
pub(super) mod cmd {
    pub(crate) const MAP_CREATE: u32 = 0;
    pub(crate) const MAP_LOOKUP_ELEM: u32 = 1;
    pub(crate) const MAP_UPDATE_ELEM: u32 = 2;
    pub(crate) const MAP_DELETE_ELEM: u32 = 3;
    pub(crate) const MAP_GET_NEXT_KEY: u32 = 4;
    pub(crate) const PROG_LOAD: u32 = 5;
    pub(crate) const OBJ_PIN: u32 = 6;
    pub(crate) const OBJ_GET: u32 = 7;
    pub(crate) const PROG_ATTACH: u32 = 8;
    pub(crate) const PROG_DETACH: u32 = 9;
    pub(crate) const PROG_TEST_RUN: u32 = 10;
    pub(crate) const PROG_GET_NEXT_ID: u32 = 11;
    pub(crate) const MAP_GET_NEXT_ID: u32 = 12;
    pub(crate) const PROG_GET_FD_BY_ID: u32 = 13;
    pub(crate) const MAP_GET_FD_BY_ID: u32 = 14;
    pub(crate) const OBJ_GET_INFO_BY_FD: u32 = 15;
    pub(crate) const PROG_QUERY: u32 = 16;
    pub(crate) const RAW_TRACEPOINT_OPEN: u32 = 17;
    pub(crate) const BTF_LOAD: u32 = 18;
    pub(crate) const BTF_GET_FD_BY_ID: u32 = 19;
    pub(crate) const MAP_LOOKUP_AND_DELETE_ELEM: u32 = 21;
    pub(crate) const MAP_FREEZE: u32 = 22;
    pub(crate) const BTF_GET_NEXT_ID: u32 = 23;
    pub(crate) const MAP_LOOKUP_BATCH: u32 = 24;
    pub(crate) const MAP_LOOKUP_AND_DELETE_BATCH: u32 = 25;
    pub(crate) const MAP_UPDATE_BATCH: u32 = 26;
    pub(crate) const MAP_DELETE_BATCH: u32 = 27;
    pub(crate) const LINK_CREATE: u32 = 28;
    pub(crate) const LINK_UPDATE: u32 = 29;
    pub(crate) const LINK_GET_FD_BY_ID: u32 = 30;
    pub(crate) const LINK_GET_NEXT_ID: u32 = 31;
    pub(crate) const ENABLE_STATS: u32 = 32;
    pub(crate) const ITER_CREATE: u32 = 33;
    pub(crate) const LINK_DETACH: u32 = 34;
    pub(crate) const PROG_BIND_MAP: u32 = 35;
    pub(crate) const TOKEN_CREATE: u32 = 36;
    pub(crate) const PROG_STREAM_READ_BY_FD: u32 = 37;
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct MapCreateAttr {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
    pub(super) inner_map_fd: u32,
    pub(super) numa_node: u32,
    pub(super) map_name: [u8; 16],
    pub(super) map_ifindex: u32,
    pub(super) btf_fd: u32,
    pub(super) btf_key_type_id: u32,
    pub(super) btf_value_type_id: u32,
    pub(super) btf_vmlinux_value_type_id: u32,
    pub(super) map_extra: u64,
    pub(super) value_type_btf_obj_fd: u32,
    pub(super) map_token_fd: u32,
}
layout!(
    MapCreateAttr, 80, inner_map_fd @ 20, map_name @ 28, map_ifindex @ 44, btf_fd @ 48, map_extra @ 64,
    value_type_btf_obj_fd @ 72, map_token_fd @ 76,
);

/// The `BPF_MAP_*_ELEM` commands, `BPF_MAP_GET_NEXT_KEY` (whose output is `value`) and `BPF_MAP_FREEZE`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ElemAttr {
    pub(super) map_fd: u32,
    pub(super) pad: u32,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) flags: u64,
}
layout!(ElemAttr, 32, key @ 8, value @ 16, flags @ 24);

/// The `BPF_MAP_*_BATCH` commands.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct BatchAttr {
    pub(super) in_batch: u64,
    pub(super) out_batch: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    /// Written by the kernel.
    pub(super) count: u32,
    pub(super) map_fd: u32,
    pub(super) elem_flags: u64,
    pub(super) flags: u64,
}
layout!(BatchAttr, 56, out_batch @ 8, keys @ 16, values @ 24, count @ 32, map_fd @ 36, elem_flags @ 40, flags @ 48);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct MapFreezeAttr {
    pub(super) map_fd: u32,
}
layout!(MapFreezeAttr, 4, map_fd @ 0);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ProgLoadAttr {
    pub(super) prog_type: u32,
    pub(super) insn_cnt: u32,
    pub(super) insns: u64,
    pub(super) license: u64,
    pub(super) log_level: u32,
    pub(super) log_size: u32,
    pub(super) log_buf: u64,
    pub(super) kern_version: u32,
    pub(super) prog_flags: u32,
    pub(super) prog_name: [u8; 16],
    pub(super) prog_ifindex: u32,
    pub(super) expected_attach_type: u32,
    pub(super) prog_btf_fd: u32,
    pub(super) func_info_rec_size: u32,
    pub(super) func_info: u64,
    pub(super) func_info_cnt: u32,
    pub(super) line_info_rec_size: u32,
    pub(super) line_info: u64,
    pub(super) line_info_cnt: u32,
    pub(super) attach_btf_id: u32,
    /// Or `attach_btf_obj_fd`.
    pub(super) attach_prog_fd: u32,
    pub(super) core_relo_cnt: u32,
    pub(super) fd_array: u64,
    pub(super) core_relos: u64,
    pub(super) core_relo_rec_size: u32,
    /// Written by the kernel since Linux 6.4.
    pub(super) log_true_size: u32,
    pub(super) prog_token_fd: u32,
    pub(super) fd_array_cnt: u32,
}
layout!(
    ProgLoadAttr, 152, insns @ 8, license @ 16, log_buf @ 32, prog_name @ 48, prog_btf_fd @ 72, func_info @ 80,
    line_info @ 96, attach_btf_id @ 108, attach_prog_fd @ 112, fd_array @ 120, log_true_size @ 140,
    prog_token_fd @ 144,
);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct TestRunAttr {
    pub(super) prog_fd: u32,
    pub(super) retval: u32,
    pub(super) data_size_in: u32,
    pub(super) data_size_out: u32,
    pub(super) data_in: u64,
    pub(super) data_out: u64,
    pub(super) repeat: u32,
    pub(super) duration: u32,
    pub(super) ctx_size_in: u32,
    pub(super) ctx_size_out: u32,
    pub(super) ctx_in: u64,
    pub(super) ctx_out: u64,
    pub(super) flags: u32,
    pub(super) cpu: u32,
    pub(super) batch_size: u32,
    pub(super) pad: u32,
}
layout!(TestRunAttr, 80, data_in @ 16, repeat @ 32, ctx_in @ 48, flags @ 64, batch_size @ 72);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct BindMapAttr {
    pub(super) prog_fd: u32,
    pub(super) map_fd: u32,
    pub(super) flags: u32,
}
layout!(BindMapAttr, 12, map_fd @ 4);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct StreamReadAttr {
    pub(super) stream_buf: u64,
    pub(super) stream_buf_len: u32,
    pub(super) stream_id: u32,
    pub(super) prog_fd: u32,
    pub(super) pad: u32,
}
layout!(StreamReadAttr, 24, stream_buf_len @ 8, stream_id @ 12, prog_fd @ 16);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct EnableStatsAttr {
    pub(super) stats_type: u32,
}
layout!(EnableStatsAttr, 4, stats_type @ 0);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct BtfLoadAttr {
    pub(super) btf: u64,
    pub(super) btf_log_buf: u64,
    pub(super) btf_size: u32,
    pub(super) btf_log_size: u32,
    pub(super) btf_log_level: u32,
    /// Written by the kernel since Linux 6.4.
    pub(super) btf_log_true_size: u32,
    pub(super) btf_flags: u32,
    pub(super) btf_token_fd: u32,
}
layout!(BtfLoadAttr, 40, btf_log_buf @ 8, btf_size @ 16, btf_log_true_size @ 28, btf_token_fd @ 36);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct TokenCreateAttr {
    pub(super) flags: u32,
    pub(super) bpffs_fd: u32,
}
layout!(TokenCreateAttr, 8, bpffs_fd @ 4);

/// `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ObjAttr {
    pub(super) pathname: u64,
    pub(super) bpf_fd: u32,
    pub(super) file_flags: u32,
}
layout!(ObjAttr, 16, bpf_fd @ 8);

/// `BPF_*_GET_NEXT_ID` and `BPF_*_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct IdAttr {
    pub(super) id: u32,
    pub(super) next_id: u32,
    pub(super) open_flags: u32,
    pub(super) fd_by_id_token_fd: u32,
}
layout!(IdAttr, 16, next_id @ 4, fd_by_id_token_fd @ 12);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct InfoAttr {
    pub(super) bpf_fd: u32,
    pub(super) info_len: u32,
    pub(super) info: u64,
}
layout!(InfoAttr, 16, info @ 8);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RawTracepointAttr {
    pub(super) name: u64,
    pub(super) prog_fd: u32,
    pub(super) pad: u32,
    pub(super) cookie: u64,
}
layout!(RawTracepointAttr, 24, prog_fd @ 8, cookie @ 16);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct LinkCreateAttr {
    pub(super) prog_fd: u32,
    /// Descriptor or interface index.
    pub(super) target: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    /// What it holds depends on the attach type.
    pub(super) options: [u64; 2],
}
layout!(LinkCreateAttr, 32, target @ 4, options @ 16);

/// `LinkCreateAttr` of places in programs and libraries.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct UprobesAttr {
    pub(super) prog_fd: u32,
    pub(super) target: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    pub(super) path: u64,
    pub(super) offsets: u64,
    pub(super) ref_ctr_offsets: u64,
    pub(super) cookies: u64,
    pub(super) cnt: u32,
    pub(super) multi_flags: u32,
    pub(super) pid: u32,
    pub(super) pad: u32,
}
layout!(UprobesAttr, 64, path @ 16, offsets @ 24, ref_ctr_offsets @ 32, cookies @ 40, cnt @ 48, multi_flags @ 52, pid @ 56);

/// `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ProgAttachAttr {
    /// Descriptor or interface index.
    pub(super) target: u32,
    pub(super) prog_fd: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    pub(super) replace_prog_fd: u32,
    /// Descriptor or id.
    pub(super) relative: u32,
    pub(super) expected_revision: u64,
}
layout!(ProgAttachAttr, 32, attach_type @ 8, replace_prog_fd @ 16, expected_revision @ 24);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ProgQueryAttr {
    /// Descriptor or interface index.
    pub(super) target: u32,
    pub(super) attach_type: u32,
    pub(super) query_flags: u32,
    /// Written by the kernel.
    pub(super) attach_flags: u32,
    pub(super) prog_ids: u64,
    /// Written by the kernel.
    pub(super) count: u32,
    pub(super) pad: u32,
    pub(super) prog_attach_flags: u64,
    pub(super) link_ids: u64,
    pub(super) link_attach_flags: u64,
    /// Written by the kernel since Linux 6.6.
    pub(super) revision: u64,
}
layout!(ProgQueryAttr, 64, prog_ids @ 16, count @ 24, prog_attach_flags @ 32, link_ids @ 40, revision @ 56);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct LinkUpdateAttr {
    pub(super) link_fd: u32,
    pub(super) new_prog_fd: u32,
    pub(super) flags: u32,
    pub(super) old_prog_fd: u32,
}
layout!(LinkUpdateAttr, 16, old_prog_fd @ 12);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct LinkDetachAttr {
    pub(super) link_fd: u32,
}
layout!(LinkDetachAttr, 4, link_fd @ 0);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct IterCreateAttr {
    pub(super) link_fd: u32,
    pub(super) flags: u32,
}
layout!(IterCreateAttr, 8, flags @ 4);

/// `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RawMapInfo {
    pub(super) map_type: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
    pub(super) name: [u8; 16],
    pub(super) ifindex: u32,
    pub(super) btf_vmlinux_value_type_id: u32,
    pub(super) netns_dev: u64,
    pub(super) netns_ino: u64,
    pub(super) btf_id: u32,
    pub(super) btf_key_type_id: u32,
    pub(super) btf_value_type_id: u32,
    pub(super) btf_vmlinux_id: u32,
    pub(super) map_extra: u64,
}
layout!(RawMapInfo, 88, name @ 24, ifindex @ 40, netns_dev @ 48, btf_id @ 64, map_extra @ 80);

/// `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RawProgInfo {
    pub(super) prog_type: u32,
    pub(super) id: u32,
    pub(super) tag: [u8; 8],
    pub(super) jited_prog_len: u32,
    pub(super) xlated_prog_len: u32,
    pub(super) jited_prog_insns: u64,
    pub(super) xlated_prog_insns: u64,
    pub(super) load_time: u64,
    pub(super) created_by_uid: u32,
    pub(super) nr_map_ids: u32,
    pub(super) map_ids: u64,
    pub(super) name: [u8; 16],
    pub(super) ifindex: u32,
    pub(super) gpl_compatible: u32,
    pub(super) netns_dev: u64,
    pub(super) netns_ino: u64,
    pub(super) nr_jited_ksyms: u32,
    pub(super) nr_jited_func_lens: u32,
    pub(super) jited_ksyms: u64,
    pub(super) jited_func_lens: u64,
    pub(super) btf_id: u32,
    pub(super) func_info_rec_size: u32,
    pub(super) func_info: u64,
    pub(super) nr_func_info: u32,
    pub(super) nr_line_info: u32,
    pub(super) line_info: u64,
    pub(super) jited_line_info: u64,
    pub(super) nr_jited_line_info: u32,
    pub(super) line_info_rec_size: u32,
    pub(super) jited_line_info_rec_size: u32,
    pub(super) nr_prog_tags: u32,
    pub(super) prog_tags: u64,
    pub(super) run_time_ns: u64,
    pub(super) run_cnt: u64,
    pub(super) recursion_misses: u64,
    pub(super) verified_insns: u32,
    pub(super) attach_btf_obj_id: u32,
    pub(super) attach_btf_id: u32,
    pub(super) pad: u32,
}
layout!(
    RawProgInfo, 232, tag @ 8, load_time @ 40, map_ids @ 56, name @ 64, gpl_compatible @ 84, btf_id @ 128,
    nr_func_info @ 144, line_info @ 152, prog_tags @ 184, run_time_ns @ 192, verified_insns @ 216, attach_btf_id @ 224,
);

/// `struct bpf_btf_info` as of Linux 5.8.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RawBtfInfoShort {
    pub(super) btf: u64,
    pub(super) btf_size: u32,
    pub(super) id: u32,
}
layout!(RawBtfInfoShort, 16, btf_size @ 8, id @ 12);

/// `struct bpf_btf_info` since Linux 5.11.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RawBtfInfo {
    pub(super) btf: u64,
    pub(super) btf_size: u32,
    pub(super) id: u32,
    pub(super) name: u64,
    pub(super) name_len: u32,
    pub(super) kernel_btf: u32,
}
layout!(RawBtfInfo, 32, btf_size @ 8, id @ 12, name @ 16, kernel_btf @ 28);

/// `struct bpf_link_info`; `place` is a union by link type.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RawLinkInfo {
    pub(super) link_type: u32,
    pub(super) id: u32,
    pub(super) prog_id: u32,
    pub(super) pad: u32,
    pub(super) place: [u32; 4],
}
layout!(RawLinkInfo, 32, prog_id @ 8, place @ 16);
