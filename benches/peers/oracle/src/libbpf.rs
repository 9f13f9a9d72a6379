//! The few calls of libbpf that are needed, behind safe functions.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::{size_of, zeroed};
use std::ptr::{NonNull, null};
use std::sync::Mutex;
use std::time::Instant;

use libbpf_sys as sys;

use crate::report::{Program, Step};

/// What libbpf warned of since this was last taken.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

unsafe extern "C" {
    // The C library's; its argument list is the one that libbpf hands to a print callback.
    fn vsnprintf(buf: *mut c_char, len: usize, fmt: *const c_char, args: *mut sys::__va_list_tag) -> c_int;
}

/// Room for one message: a warning with a verifier log in it is as long as that log.
const MESSAGE_LEN: usize = 16 << 20;

unsafe extern "C" fn keep_warning(
    level: sys::libbpf_print_level,
    fmt: *const c_char,
    args: *mut sys::__va_list_tag,
) -> c_int {
    if level != sys::LIBBPF_WARN {
        return 0;
    }
    let mut buf = vec![0u8; MESSAGE_LEN];
    // SAFETY: `buf` has the length that is passed; `fmt` and `args` are libbpf's and live during this call.
    unsafe { vsnprintf(buf.as_mut_ptr().cast(), buf.len(), fmt, args) };
    if let (Ok(text), Ok(mut kept)) = (CStr::from_bytes_until_nul(&buf), WARNINGS.lock()) {
        kept.push(text.to_string_lossy().into_owned());
    }
    0
}

/// Makes libbpf hand its warnings to this process instead of printing them.
pub(crate) fn collect_warnings() {
    // SAFETY: the callback is a plain function that lives forever.
    unsafe { sys::libbpf_set_print(Some(keep_warning)) };
}

/// libbpf's version, without its leading `v`.
pub(crate) fn version() -> String {
    // SAFETY: libbpf returns a static string.
    let text = unsafe { CStr::from_ptr(sys::libbpf_version_string()) };
    text.to_string_lossy().trim_start_matches('v').to_owned()
}

/// The warnings of the call just made, as one line: the first that explains the failure, then the verifier's last word.
fn take_error() -> Option<String> {
    const BEGIN: &str = "-- BEGIN PROG LOAD LOG --";
    let warnings = std::mem::take(&mut *WARNINGS.lock().ok()?);
    let by_the_way = |w: &str| {
        [
            "BTF loading error",
            "Retrying without BTF",
            "skipping all of .BTF.ext",
            "BEGIN BTF LOAD LOG",
            "into kernel:",
        ]
        .iter()
        .any(|known| w.contains(known))
    };
    let warned = warnings
        .iter()
        .find(|w| !w.contains(BEGIN) && !by_the_way(w))
        .map(|w| w.trim().trim_start_matches("libbpf: ").to_owned());
    let verifier = warnings.iter().find_map(|w| {
        let log = w.split_once(BEGIN)?.1.split("-- END PROG LOAD LOG").next()?;
        let said = |line: &&str| {
            !line.is_empty()
                && !["processed ", "verification time", "stack depth", "insns "]
                    .iter()
                    .any(|s| line.starts_with(s))
        };
        log.lines().rfind(said).map(str::to_owned)
    });
    match (warned, verifier) {
        (Some(warned), Some(verifier)) => Some(format!("{warned}: {verifier}")),
        (warned, verifier) => warned.or(verifier),
    }
}

fn failed(us: u64, errno: i32) -> Step {
    Step { ok: false, us, errno: Some(errno), error: take_error().or_else(|| Some("no message".to_owned())) }
}

fn string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and libbpf's strings end with a NUL and live as long as their object.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// An open object.
pub(crate) struct Object(NonNull<sys::bpf_object>);

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `bpf_object__open_file` and is closed once.
        unsafe { sys::bpf_object__close(self.0.as_ptr()) };
    }
}

impl Object {
    /// Opens a file and unsets every pin path. The step says how that went.
    pub(crate) fn open(path: &str) -> (Option<Object>, Step) {
        let _ = take_error();
        let Ok(c_path) = CString::new(path) else {
            return (None, Step { error: Some("path holds a NUL byte".to_owned()), ..Step::default() });
        };
        let start = Instant::now();
        // SAFETY: a NUL-terminated path; null options mean the defaults.
        let object = unsafe { sys::bpf_object__open_file(c_path.as_ptr(), null()) };
        let us = elapsed(start);
        let Some(object) = NonNull::new(object).map(Object) else {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return (None, failed(us, errno));
        };
        let mut map = std::ptr::null_mut();
        loop {
            // SAFETY: the object is open; `map` is null or one of its maps.
            map = unsafe { sys::bpf_object__next_map(object.0.as_ptr(), map) };
            if map.is_null() {
                break;
            }
            // SAFETY: `map` is a map of the open object; a null path means "do not pin".
            unsafe { sys::bpf_map__set_pin_path(map, null()) };
        }
        (Some(object), Step { ok: true, us, ..Step::default() })
    }

    fn handles(&self) -> Vec<NonNull<sys::bpf_program>> {
        let mut all = Vec::new();
        let mut program = std::ptr::null_mut();
        loop {
            // SAFETY: the object is open; `program` is null or one of its programs.
            program = unsafe { sys::bpf_object__next_program(self.0.as_ptr(), program) };
            match NonNull::new(program) {
                Some(handle) => all.push(handle),
                None => return all,
            }
        }
    }

    /// What the file says of each program.
    pub(crate) fn programs(&self) -> Vec<Program> {
        let describe = |handle: &NonNull<sys::bpf_program>| {
            let p = handle.as_ptr();
            // SAFETY: `p` is a program of this open object.
            unsafe {
                Program {
                    name: string(sys::bpf_program__name(p)),
                    section: string(sys::bpf_program__section_name(p)),
                    kind: string(sys::libbpf_bpf_prog_type_str(sys::bpf_program__type(p))),
                    autoload: sys::bpf_program__autoload(p),
                    instructions: sys::bpf_program__insn_cnt(p),
                    ..Program::default()
                }
            }
        };
        self.handles().iter().map(describe).collect()
    }

    /// Loads what the autoload flags select.
    pub(crate) fn load(&self) -> Step {
        let start = Instant::now();
        // SAFETY: the object is open and not loaded yet.
        let err = unsafe { sys::bpf_object__load(self.0.as_ptr()) };
        let us = elapsed(start);
        if err < 0 { failed(us, -err) } else { Step { ok: true, us, ..Step::default() } }
    }

    /// Loads one program and nothing else, and completes its row.
    pub(crate) fn load_alone(&self, index: usize, row: &mut Program) {
        let handles = self.handles();
        for (i, handle) in handles.iter().enumerate() {
            // SAFETY: a program of this open, not yet loaded object.
            unsafe { sys::bpf_program__set_autoload(handle.as_ptr(), i == index) };
        }
        let step = self.load();
        (row.ok, row.us, row.errno, row.error) = (step.ok, step.us, step.errno, step.error);
        let Some(handle) = handles.get(index).filter(|_| row.ok) else { return };
        // SAFETY: a program of this open, loaded object.
        let fd = unsafe { sys::bpf_program__fd(handle.as_ptr()) };
        if fd < 0 {
            row.ok = false;
            row.error = Some("left out".to_owned());
            return;
        }
        // SAFETY: as above. It counts sub-programs now, as the kernel was given them.
        row.instructions = unsafe { sys::bpf_program__insn_cnt(handle.as_ptr()) };
        // SAFETY: the structure is plain data for which zero is valid.
        let mut info: sys::bpf_prog_info = unsafe { zeroed() };
        let mut len = u32::try_from(size_of::<sys::bpf_prog_info>()).unwrap_or(0);
        // SAFETY: `info` has `len` bytes and `fd` is open.
        if unsafe { sys::bpf_prog_get_info_by_fd(fd, &raw mut info, &raw mut len) } == 0 {
            row.verified_instructions = Some(info.verified_insns);
            row.tag = Some(info.tag.iter().map(|b| format!("{b:02x}")).collect());
        }
    }
}
