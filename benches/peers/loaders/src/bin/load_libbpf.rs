//! Loads one object with libbpf, says what it took, and exits.

use std::ffi::CString;
use std::ptr;

use loaders::meter;

fn main() -> anyhow::Result<()> {
    let path = CString::new(std::env::args().nth(1).unwrap_or_default())?;
    let start = meter::now();
    // SAFETY: the path is a C string that outlives the call; no options are given.
    let object = unsafe { libbpf_sys::bpf_object__open_file(path.as_ptr(), ptr::null()) };
    anyhow::ensure!(!object.is_null(), "open: {}", std::io::Error::last_os_error());
    // SAFETY: the object was opened above.
    let error = unsafe { libbpf_sys::bpf_object__load(object) };
    anyhow::ensure!(error == 0, "load: {error}");
    let span = start.elapsed();
    meter::report(span);
    Ok(())
}
