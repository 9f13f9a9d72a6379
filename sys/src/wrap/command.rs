//! The names of calls.

use std::fmt;

/// A call of a [`Backend`](crate::Backend), by the name of its method.
///
/// What takes the name of a call takes these constants; a misspelt one is found by the compiler.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Command(&'static str);

macro_rules! commands {
    ($($name:ident = $method:literal;)*) => {
        impl Command {
            $(
                #[doc = concat!("[`Backend::", $method, "`](crate::Backend::", $method, ").")]
                pub const $name: Command = Command($method);
            )*

            /// Every call that there is.
            pub const ALL: &'static [Command] = &[$(Command::$name),*];
        }
    };
}

commands! {
    MAP_CREATE = "map_create";
    MAP_LOOKUP = "map_lookup";
    MAP_UPDATE = "map_update";
    MAP_UPDATE_FD = "map_update_fd";
    MAP_DELETE = "map_delete";
    MAP_NEXT_KEY = "map_next_key";
    MAP_LOOKUP_AND_DELETE = "map_lookup_and_delete";
    MAP_LOOKUP_BATCH = "map_lookup_batch";
    MAP_LOOKUP_AND_DELETE_BATCH = "map_lookup_and_delete_batch";
    MAP_UPDATE_BATCH = "map_update_batch";
    MAP_DELETE_BATCH = "map_delete_batch";
    MAP_MMAP = "map_mmap";
    MAP_RING = "map_ring";
    MAP_FREEZE = "map_freeze";
    PROG_LOAD = "prog_load";
    PROG_TEST_RUN = "prog_test_run";
    PROG_FAULT = "prog_fault";
    PROG_BIND_MAP = "prog_bind_map";
    PROG_DUMP = "prog_dump";
    PROG_STREAM_READ = "prog_stream_read";
    ENABLE_STATS = "enable_stats";
    MEMLOCK = "memlock";
    BTF_LOAD = "btf_load";
    TOKEN_CREATE = "token_create";
    MAP_INFO = "map_info";
    MAP_USAGE = "map_usage";
    PROG_INFO = "prog_info";
    BTF_INFO = "btf_info";
    BTF_BYTES = "btf_bytes";
    LINK_INFO = "link_info";
    NEXT_ID = "next_id";
    OPEN_BY_ID = "open_by_id";
    PIN = "pin";
    OPEN_PINNED = "open_pinned";
    UNPIN = "unpin";
    CREATE_PIN_DIR = "create_pin_dir";
    REMOVE_PIN_DIR = "remove_pin_dir";
    RENAME_PIN = "rename_pin";
    SYMLINK_PIN = "symlink_pin";
    READ_PIN_LINK = "read_pin_link";
    PIN_DIR_ENTRIES = "pin_dir_entries";
    PIN_ATTRIBUTES = "pin_attributes";
    SET_PIN_MODE = "set_pin_mode";
    SET_PIN_OWNER = "set_pin_owner";
    LOCK_PIN_DIR = "lock_pin_dir";
    MOUNT_BPFFS = "mount_bpffs";
    IS_BPFFS = "is_bpffs";
    LINK_CREATE = "link_create";
    PROG_ATTACH = "prog_attach";
    PROG_DETACH = "prog_detach";
    PROG_QUERY = "prog_query";
    LINK_UPDATE = "link_update";
    LINK_DETACH = "link_detach";
    ITER_CREATE = "iter_create";
    ITER_READ = "iter_read";
    RAW_TRACEPOINT_OPEN = "raw_tracepoint_open";
    PERF_EVENT_OPEN = "perf_event_open";
    PERF_EVENT_CONTROL = "perf_event_control";
    PERF_EVENT_READ = "perf_event_read";
    PERF_EVENT_MMAP = "perf_event_mmap";
    PERF_EVENT_SEEN = "perf_event_seen";
    KERNEL_BTF = "kernel_btf";
    PAGE_SIZE = "page_size";
    POSSIBLE_CPUS = "possible_cpus";
    ONLINE_CPUS = "online_cpus";
    RELEASE = "release";
    VERSION_CODE = "version_code";
    CONFIG = "config";
    SYMBOLS = "symbols";
    PROCESS_MAPS = "process_maps";
    PROCESS_FILE = "process_file";
    HAS_SYSCALL_WRAPPER = "has_syscall_wrapper";
    IFINDEX = "ifindex";
    PERMISSIONS = "permissions";
    RAISE_MEMLOCK = "raise_memlock";
}

impl Command {
    /// The name of the method.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The call with such a name.
    pub fn from_name(name: &str) -> Option<Command> {
        Command::ALL.iter().copied().find(|command| command.0 == name)
    }
}

impl AsRef<str> for Command {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
