//! Which helpers are simulated.

use super::builtin;

/// The helpers that programs use most: in how many of 348 sources of real projects each is called, most often first.
#[rustfmt::skip]
const MOST_USED: [(i32, &str); 80] = [
    (1, "map_lookup_elem"),
    (2, "map_update_elem"),
    (113, "probe_read_kernel"),
    (14, "get_current_pid_tgid"),
    (3, "map_delete_elem"),
    (5, "ktime_get_ns"),
    (16, "get_current_comm"),
    (25, "perf_event_output"),
    (6, "trace_printk"),
    (35, "get_current_task"),
    (112, "probe_read_user"),
    (115, "probe_read_kernel_str"),
    (8, "get_smp_processor_id"),
    (125, "ktime_get_boot_ns"),
    (132, "ringbuf_submit"),
    (131, "ringbuf_reserve"),
    (12, "tail_call"),
    (4, "probe_read"),
    (114, "probe_read_user_str"),
    (37, "current_task_under_cgroup"),
    (27, "get_stackid"),
    (15, "get_current_uid_gid"),
    (45, "probe_read_str"),
    (127, "seq_write"),
    (26, "skb_load_bytes"),
    (51, "redirect_map"),
    (67, "get_stack"),
    (80, "get_current_cgroup_id"),
    (23, "redirect"),
    (28, "csum_diff"),
    (158, "get_current_task_btf"),
    (130, "ringbuf_output"),
    (69, "fib_lookup"),
    (7, "get_prandom_u32"),
    (120, "get_ns_current_pid_tgid"),
    (164, "for_each_map_elem"),
    (174, "get_attach_cookie"),
    (189, "xdp_load_bytes"),
    (44, "xdp_adjust_head"),
    (87, "map_push_elem"),
    (65, "xdp_adjust_tail"),
    (46, "get_socket_cookie"),
    (126, "seq_printf"),
    (137, "skc_to_tcp_sock"),
    (59, "sock_ops_cb_flags_set"),
    (177, "trace_vprintk"),
    (190, "xdp_store_bytes"),
    (94, "spin_unlock"),
    (93, "spin_lock"),
    (181, "loop"),
    (88, "map_pop_elem"),
    (107, "sk_storage_get"),
    (58, "override_return"),
    (109, "send_signal"),
    (161, "ima_inode_hash"),
    (193, "ima_file_hash"),
    (36, "probe_write_user"),
    (148, "copy_from_user"),
    (133, "ringbuf_discard"),
    (180, "find_vma"),
    (173, "get_func_ip"),
    (153, "per_cpu_ptr"),
    (154, "this_cpu_ptr"),
    (144, "reserve_hdr_opt"),
    (143, "store_hdr_opt"),
    (86, "sk_release"),
    (124, "sk_assign"),
    (99, "skc_lookup_tcp"),
    (203, "dynptr_data"),
    (209, "user_ringbuf_drain"),
    (160, "ktime_get_coarse_ns"),
    (54, "xdp_adjust_meta"),
    (152, "redirect_neigh"),
    (31, "skb_change_proto"),
    (11, "l4_csum_replace"),
    (208, "ktime_get_tai_ns"),
    (34, "get_hash_recalc"),
    (206, "tcp_raw_check_syncookie_ipv4"),
    (207, "tcp_raw_check_syncookie_ipv6"),
    (205, "tcp_raw_gen_syncookie_ipv6"),
];

/// Helpers for programs that are not simulated yet: those of TCP's options.
const PENDING: &[i32] = &[59, 137, 143, 144];

#[test]
fn the_eighty_most_used_helpers_are_simulated() {
    let tail_call = 12; // which the interpreter does itself
    for (number, name) in MOST_USED {
        assert_eq!(skep_sys::abi::helper_name(number), Some(format!("bpf_{name}").as_str()));
        let simulated = builtin(number).is_some() || number == tail_call || PENDING.contains(&number);
        assert!(simulated, "{name} is not simulated");
    }
}
