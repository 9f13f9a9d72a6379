//! Helper functions: which kinds of programs may call them.

use skep_asm::{Insn, KernelNames};
use skep_sys::abi::{ProgType, helper_name};

/// What is known of a helper function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helper {
    /// Whether only programs with a compatible license may call it.
    pub(super) gpl_only: bool,
    kinds: u64,
}

impl Helper {
    /// The helper with this number.
    pub(super) fn get(number: i32) -> Option<Helper> {
        let &(gpl_only, kinds) = HELPERS.get(usize::try_from(number).ok()?)?;
        Some(Helper { gpl_only, kinds })
    }

    /// Whether programs of a kind may call it.
    pub(super) fn is_for(&self, kind: ProgType) -> bool {
        1_u64.checked_shl(kind.0).is_some_and(|bit| self.kinds & bit != 0)
    }
}

/// How the kernel writes a helper function in its log.
pub(super) fn call_name(number: i32) -> String {
    format!("{}#{number}", helper_name(number).unwrap_or("unknown"))
}

/// The names of helper functions, for instructions as the log writes them.
#[derive(Debug)]
pub(crate) struct Helpers;

impl KernelNames for Helpers {
    fn call(&self, insn: &Insn) -> Option<String> {
        insn.is_helper_call().then(|| call_name(insn.imm))
    }
}

/// By number: whether it is for GPL programs only, and a bit for each kind of program that may call it.
///
/// Seen on Linux 6.18 by loading a call of each from each kind. The kinds that could not be tried there (LIRC,
/// tracing, struct_ops, extensions, LSM) may call all, and `override_return` and `probe_write_user`, which that kernel
/// was built without, are for the kinds that have them elsewhere.
#[rustfmt::skip]
const HELPERS: &[(bool, u64)] = &[
    (false, 0x0), // unspec
    (false, 0x1fffffffe), // map_lookup_elem
    (false, 0x1fffffffe), // map_update_elem
    (false, 0x1fffffffe), // map_delete_elem
    (true, 0xbd1200a4), // probe_read
    (false, 0x1fffffffe), // ktime_get_ns
    (true, 0x1fffffffe), // trace_printk
    (false, 0x1fffffffe), // get_prandom_u32
    (false, 0x1fffffffe), // get_smp_processor_id
    (false, 0x3c105018), // skb_store_bytes
    (false, 0x3c101018), // l3_csum_replace
    (false, 0x3c101018), // l4_csum_replace
    (false, 0x1fffffffe), // tail_call
    (false, 0x3c101018), // clone_redirect
    (false, 0x1fffffffe), // get_current_pid_tgid
    (false, 0x1fffffffe), // get_current_uid_gid
    (false, 0x1fffffffe), // get_current_comm
    (false, 0x1fffffffe), // get_cgroup_classid
    (false, 0x3c100018), // skb_vlan_push
    (false, 0x3c100018), // skb_vlan_pop
    (false, 0x3c101018), // skb_get_tunnel_key
    (false, 0x3c101018), // skb_set_tunnel_key
    (true, 0x1fffffffe), // perf_event_read
    (false, 0x3c101058), // redirect
    (false, 0x3c181c18), // get_route_realm
    (true, 0xff9ffffe), // perf_event_output
    (false, 0x3c785d1a), // skb_load_bytes
    (true, 0xbd1200a4), // get_stackid
    (false, 0x3c181c58), // csum_diff
    (false, 0x3c101018), // skb_get_tunnel_opt
    (false, 0x3c101018), // skb_set_tunnel_opt
    (false, 0x3c100018), // skb_change_proto
    (false, 0x3c100018), // skb_change_type
    (false, 0x3c181c18), // skb_under_cgroup
    (false, 0x3c181c18), // get_hash_recalc
    (true, 0x1fffffffe), // get_current_task
    (true, 0x3d1200a4), // probe_write_user
    (false, 0x1fffffffe), // current_task_under_cgroup
    (false, 0x3c105018), // skb_change_tail
    (false, 0x3c185c18), // skb_pull_data
    (false, 0x3c101018), // csum_update
    (false, 0x3c101018), // set_hash_invalid
    (false, 0x1fffffffe), // get_numa_node_id
    (false, 0x3c105018), // skb_change_head
    (false, 0x3c100040), // xdp_adjust_head
    (true, 0xbd1200a4), // probe_read_str
    (false, 0xbc34631a), // get_socket_cookie
    (false, 0x3c10411a), // get_socket_uid
    (false, 0x3c100018), // set_hash
    (false, 0x3c142000), // setsockopt
    (false, 0x3c104018), // skb_adjust_room
    (false, 0x3c100040), // redirect_map
    (false, 0x3c104000), // sk_redirect_map
    (false, 0x3c102000), // sock_map_update
    (false, 0x3c100040), // xdp_adjust_meta
    (true, 0x1fffffffe), // perf_event_read_value
    (true, 0x3c100080), // perf_prog_read_value
    (false, 0x3c142000), // getsockopt
    (true, 0x3c100004), // override_return
    (false, 0x3c102000), // sock_ops_cb_flags_set
    (false, 0x3c110000), // msg_redirect_map
    (false, 0x3c110000), // msg_apply_bytes
    (false, 0x3c110000), // msg_cork_bytes
    (false, 0x3c110000), // msg_pull_data
    (false, 0x3c140000), // bind
    (false, 0x3c100040), // xdp_adjust_tail
    (false, 0x3c100018), // skb_get_xfrm_state
    (true, 0xbd1200a4), // get_stack
    (false, 0x3c30011a), // skb_load_bytes_relative
    (true, 0x3c100058), // fib_lookup
    (false, 0x3c102000), // sock_hash_update
    (false, 0x3c110000), // msg_redirect_hash
    (false, 0x3c104000), // sk_redirect_hash
    (false, 0x3c101400), // lwt_push_encap
    (false, 0x3c180000), // lwt_seg6_store_bytes
    (false, 0x3c180000), // lwt_seg6_adjust_srh
    (false, 0x3c180000), // lwt_seg6_action
    (false, 0x3c100000), // rc_repeat
    (false, 0x3c100000), // rc_keydown
    (false, 0x3c100118), // skb_cgroup_id
    (false, 0x1fffffffe), // get_current_cgroup_id
    (false, 0x3e94a300), // get_local_storage
    (false, 0x3c300000), // sk_select_reuseport
    (false, 0x3c100118), // skb_ancestor_cgroup_id
    (false, 0x3c144158), // sk_lookup_tcp
    (false, 0x3c144158), // sk_lookup_udp
    (false, 0x7c144158), // sk_release
    (false, 0x1fffffffe), // map_push_elem
    (false, 0x1fffffffe), // map_pop_elem
    (false, 0x1fffffffe), // map_peek_elem
    (false, 0x3c110000), // msg_push_data
    (false, 0x3c110000), // msg_pop_data
    (false, 0x3c100000), // rc_pointer_rel
    (false, 0x1fffffffe), // spin_lock
    (false, 0x1fffffffe), // spin_unlock
    (false, 0x3c100118), // sk_fullsock
    (false, 0x3e102118), // tcp_sock
    (false, 0x3c100118), // skb_ecn_set_ce
    (false, 0x3c100118), // get_listener_sock
    (false, 0x3c144158), // skc_lookup_tcp
    (true, 0x3c100058), // tcp_check_syncookie
    (false, 0x3c900000), // sysctl_get_name
    (false, 0x3c900000), // sysctl_get_current_value
    (false, 0x3c900000), // sysctl_get_new_value
    (false, 0x3c900000), // sysctl_set_new_value
    (false, 0x1fffffffe), // strtol
    (false, 0x1fffffffe), // strtoul
    (false, 0xbe152318), // sk_storage_get
    (false, 0xbe152118), // sk_storage_delete
    (false, 0x1fffffffe), // send_signal
    (true, 0x3c100058), // tcp_gen_syncookie
    (true, 0xbc100000), // skb_output
    (true, 0x1fffffffe), // probe_read_user
    (true, 0x1fffffffe), // probe_read_kernel
    (true, 0x1fffffffe), // probe_read_user_str
    (true, 0x1fffffffe), // probe_read_kernel_str
    (false, 0x3c100000), // tcp_send_ack
    (false, 0x1fffffffe), // send_signal_thread
    (false, 0x1fffffffe), // jiffies64
    (true, 0x3c100080), // read_branch_records
    (false, 0x1fffffffe), // get_ns_current_pid_tgid
    (true, 0xbc100000), // xdp_output
    (false, 0x3e15231a), // get_netns_cookie
    (false, 0x1fffffffe), // get_current_ancestor_cgroup_id
    (false, 0x7c100018), // sk_assign
    (false, 0x1fffffffe), // ktime_get_boot_ns
    (false, 0x3c100000), // seq_printf
    (false, 0x3c100000), // seq_write
    (false, 0x3c100100), // sk_cgroup_id
    (false, 0x3c100100), // sk_ancestor_cgroup_id
    (false, 0x1fffffffe), // ringbuf_output
    (false, 0x1fffffffe), // ringbuf_reserve
    (false, 0x1fffffffe), // ringbuf_submit
    (false, 0x1fffffffe), // ringbuf_discard
    (false, 0x1fffffffe), // ringbuf_query
    (false, 0x3c101018), // csum_level
    (false, 0xfc5d7d5a), // skc_to_tcp6_sock
    (false, 0xfc5d7d5a), // skc_to_tcp_sock
    (false, 0xfc5d7d5a), // skc_to_tcp_timewait_sock
    (false, 0xfc5d7d5a), // skc_to_tcp_request_sock
    (false, 0xfc5d7d5a), // skc_to_udp6_sock
    (false, 0x1fffffffe), // get_task_stack
    (false, 0x3c102000), // load_hdr_opt
    (false, 0x3c102000), // store_hdr_opt
    (false, 0x3c102000), // reserve_hdr_opt
    (false, 0x3c100000), // inode_storage_get
    (false, 0x3c100000), // inode_storage_delete
    (false, 0xbc100000), // d_path
    (false, 0x1fffffffe), // copy_from_user
    (false, 0x1fffffffe), // snprintf_btf
    (false, 0x3c100000), // seq_printf_btf
    (false, 0x3c100018), // skb_cgroup_classid
    (false, 0x3c100018), // redirect_neigh
    (false, 0x1fffffffe), // per_cpu_ptr
    (false, 0x1fffffffe), // this_cpu_ptr
    (false, 0x3c100018), // redirect_peer
    (false, 0x1fffffffe), // task_storage_get
    (false, 0x1fffffffe), // task_storage_delete
    (true, 0x1fffffffe), // get_current_task_btf
    (false, 0x3c100000), // bprm_opts_set
    (false, 0x7cfd7f5a), // ktime_get_coarse_ns
    (false, 0x3c100000), // ima_inode_hash
    (false, 0xbc100000), // sock_from_file
    (true, 0x3c100058), // check_mtu
    (false, 0x1fffffffe), // for_each_map_elem
    (true, 0x1fffffffe), // snprintf
    (false, 0xbc100000), // sys_bpf
    (false, 0xbc100000), // btf_find_by_name_kind
    (false, 0xbc100000), // sys_close
    (true, 0x1fffffffe), // timer_init
    (true, 0x1fffffffe), // timer_set_callback
    (true, 0x1fffffffe), // timer_start
    (true, 0x1fffffffe), // timer_cancel
    (true, 0xbd1200a4), // get_func_ip
    (false, 0x3d1200a4), // get_attach_cookie
    (true, 0x1fffffffe), // task_pt_regs
    (true, 0x1fffffffe), // get_branch_snapshot
    (true, 0x1fffffffe), // trace_vprintk
    (false, 0xfc5d7d5a), // skc_to_unix_sock
    (false, 0xbc100000), // kallsyms_lookup_name
    (false, 0x1fffffffe), // find_vma
    (false, 0x1fffffffe), // loop
    (false, 0x1fffffffe), // strncmp
    (false, 0x3c100000), // get_func_arg
    (false, 0x3c100000), // get_func_ret
    (false, 0x3c100000), // get_func_arg_cnt
    (false, 0x3e948200), // get_retval
    (false, 0x3e948200), // set_retval
    (false, 0xbc100040), // xdp_get_buff_len
    (false, 0x3c100040), // xdp_load_bytes
    (false, 0x3c100040), // xdp_store_bytes
    (true, 0x1fffffffe), // copy_from_user_task
    (false, 0x3c100018), // skb_set_tstamp
    (false, 0x3c100000), // ima_file_hash
    (false, 0x1fffffffe), // kptr_xchg
    (false, 0x1fffffffe), // map_lookup_percpu_elem
    (false, 0xfc5d7d5a), // skc_to_mptcp_sock
    (false, 0x1fffffffe), // dynptr_from_mem
    (false, 0x1fffffffe), // ringbuf_reserve_dynptr
    (false, 0x1fffffffe), // ringbuf_submit_dynptr
    (false, 0x1fffffffe), // ringbuf_discard_dynptr
    (false, 0x1fffffffe), // dynptr_read
    (false, 0x1fffffffe), // dynptr_write
    (false, 0x1fffffffe), // dynptr_data
    (true, 0x3c100058), // tcp_raw_gen_syncookie_ipv4
    (true, 0x3c100058), // tcp_raw_gen_syncookie_ipv6
    (true, 0x3c100058), // tcp_raw_check_syncookie_ipv4
    (true, 0x3c100058), // tcp_raw_check_syncookie_ipv6
    (false, 0x1fffffffe), // ktime_get_tai_ns
    (false, 0x1fffffffe), // user_ringbuf_drain
    (false, 0x1fffffffe), // cgrp_storage_get
    (false, 0x1fffffffe), // cgrp_storage_delete
];
