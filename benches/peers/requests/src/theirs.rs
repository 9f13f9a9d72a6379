//! libbpf, asked to open and load.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::{size_of, zeroed};
use std::ptr::{NonNull, null, null_mut};
use std::sync::{Mutex, PoisonError};

use libbpf_sys as sys;

use crate::page::{Page, Part, Parts};
use crate::tap;

/// What libbpf warned of since this was last taken.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

unsafe extern "C" {
    // The C library's; its argument list is the one that libbpf hands to a print callback.
    fn vsnprintf(buf: *mut c_char, len: usize, fmt: *const c_char, args: *mut sys::__va_list_tag) -> c_int;
}

unsafe extern "C" fn keep_warning(
    level: sys::libbpf_print_level,
    fmt: *const c_char,
    args: *mut sys::__va_list_tag,
) -> c_int {
    if level != sys::LIBBPF_WARN {
        return 0;
    }
    let mut buf = vec![0u8; 4096];
    // SAFETY: `buf` has the length that is passed; `fmt` and `args` are libbpf's and live during this call.
    unsafe { vsnprintf(buf.as_mut_ptr().cast(), buf.len(), fmt, args) };
    if let Ok(text) = CStr::from_bytes_until_nul(&buf) {
        let text = text.to_string_lossy().trim().trim_start_matches("libbpf: ").to_owned();
        WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
    0
}

/// Makes libbpf hand its warnings to this process instead of printing them.
pub(crate) fn collect_warnings() {
    // SAFETY: the callback is a plain function that lives forever.
    unsafe { sys::libbpf_set_print(Some(keep_warning)) };
}

/// The error of the call just made: the first warning that is not by the way, or the number.
fn failed(errno: i32) -> String {
    const BY_THE_WAY: [&str; 5] = [
        "BTF loading error",
        "Retrying without BTF",
        "skipping all of .BTF.ext",
        "BTF LOAD LOG",
        "into kernel:",
    ];
    let warnings = std::mem::take(&mut *WARNINGS.lock().unwrap_or_else(PoisonError::into_inner));
    let warned = warnings.into_iter().find(|text| !BY_THE_WAY.iter().any(|known| text.contains(known)));
    let text = warned.unwrap_or_else(|| format!("errno {errno}"));
    text.lines().next().unwrap_or_default().to_owned()
}

fn string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and libbpf's strings end with a NUL and live as long as their object.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// An open object.
pub(crate) struct Object(NonNull<sys::bpf_object>);

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the pointer came from opening it and is closed once.
        unsafe { sys::bpf_object__close(self.0.as_ptr()) };
    }
}

impl Object {
    fn of(opened: *mut sys::bpf_object) -> Result<Object, String> {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        NonNull::new(opened).map(Object).ok_or_else(|| failed(errno))
    }

    pub(crate) fn open(path: &str) -> Result<Object, String> {
        let path = CString::new(path).map_err(|error| error.to_string())?;
        // SAFETY: a NUL-terminated path; null options mean the defaults.
        Object::of(unsafe { sys::bpf_object__open_file(path.as_ptr(), null()) })
    }

    /// Opens an object that is in memory, which libbpf keeps no reference to.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Object, String> {
        let name = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: plain data for which zero is valid.
        let mut options: sys::bpf_object_open_opts = unsafe { zeroed() };
        options.sz = size_of::<sys::bpf_object_open_opts>() as _;
        options.object_name = name.as_ptr();
        // SAFETY: the bytes and the options are there during the call.
        Object::of(unsafe {
            sys::bpf_object__open_mem(bytes.as_ptr().cast(), bytes.len() as _, &raw const options)
        })
    }

    fn maps(&self) -> Vec<*mut sys::bpf_map> {
        let mut all = Vec::new();
        let mut map = null_mut();
        loop {
            // SAFETY: the object is open; `map` is null or one of its maps.
            map = unsafe { sys::bpf_object__next_map(self.0.as_ptr(), map) };
            if map.is_null() {
                return all;
            }
            all.push(map);
        }
    }

    fn programs(&self) -> Vec<*mut sys::bpf_program> {
        let mut all = Vec::new();
        let mut program = null_mut();
        loop {
            // SAFETY: the object is open; `program` is null or one of its programs.
            program = unsafe { sys::bpf_object__next_program(self.0.as_ptr(), program) };
            if program.is_null() {
                return all;
            }
            all.push(program);
        }
    }

    pub(crate) fn program_names(&self) -> Vec<String> {
        self.programs()
            .into_iter()
            // SAFETY: a program of this open object.
            .map(|program| string(unsafe { sys::bpf_program__name(program) }))
            .collect()
    }

    /// Sets what is pinned aside and answers where it would be.
    fn take_pins(&self) -> Vec<Option<String>> {
        let take = |map: *mut sys::bpf_map| {
            // SAFETY: a map of this open object; a null path means "do not pin".
            unsafe {
                let path = sys::bpf_map__pin_path(map);
                let path = (!path.is_null()).then(|| string(path));
                sys::bpf_map__set_pin_path(map, null());
                path
            }
        };
        self.maps().into_iter().map(take).collect()
    }

    fn load(&self) -> Result<(), String> {
        WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // SAFETY: the object is open and not loaded yet.
        let error = unsafe { sys::bpf_object__load(self.0.as_ptr()) };
        if error < 0 { Err(failed(-error)) } else { Ok(()) }
    }

    /// Loads one program, or all of them, whatever the file says of loading them.
    pub(crate) fn load_all(&self, only: Option<usize>) -> Result<Page, String> {
        let pins = self.take_pins();
        for (at, program) in self.programs().into_iter().enumerate() {
            // SAFETY: a program of this open, not yet loaded self.
            unsafe { sys::bpf_program__set_autoload(program, only.is_none_or(|only| only == at)) };
        }
        self.load()?;
        let maps = self.maps().into_iter().zip(pins).map(|(map, pin)| {
            // SAFETY: a map of this open self.
            let (mut name, internal, fd) = unsafe {
                (string(sys::bpf_map__name(map)), sys::bpf_map__is_internal(map), sys::bpf_map__fd(map))
            };
            // Before its dot is the object's name, which the kernel's name for it has too.
            if let (true, Some(dot)) = (internal, name.find('.')) {
                name.drain(..dot);
            }
            Part { name, section: String::new(), pin, id: tap::map_id(fd), tag: None }
        });
        let programs = self.programs().into_iter().map(|program| {
            // SAFETY: a program of this open self.
            let (name, section, fd) = unsafe {
                (
                    string(sys::bpf_program__name(program)),
                    string(sys::bpf_program__section_name(program)),
                    sys::bpf_program__fd(program),
                )
            };
            Part { name, section, pin: None, id: tap::program_id(fd), tag: tap::tag(fd) }
        });
        let parts = Parts { maps: maps.collect(), programs: programs.collect() };
        Ok(Page::new(&tap::take(), &parts))
    }
}

/// Names of the programs of a file.
pub(crate) fn programs(path: &str) -> Result<Vec<String>, String> {
    Ok(Object::open(path)?.program_names())
}

/// Loads one program, or all of them, whatever the file says of loading them.
pub(crate) fn load(path: &str, only: Option<usize>) -> Result<Page, String> {
    Object::open(path)?.load_all(only)
}
