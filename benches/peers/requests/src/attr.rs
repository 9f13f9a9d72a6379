//! `union bpf_attr` as a caller passed it, read by offset.

use std::ffi::{CStr, c_char};

/// Longest attribute that is looked at. What a caller did not pass counts as zero.
const LEN: usize = 256;
/// Most bytes that are copied from one address of a caller.
const MOST: usize = 64 << 20;

/// A copy of an attribute. Addresses in it are the caller's, valid during its call.
pub(crate) struct Attr([u8; LEN]);

impl Attr {
    /// # Safety
    /// `address` points to `len` readable bytes.
    pub(crate) unsafe fn read(address: usize, len: usize) -> Attr {
        let mut bytes = [0; LEN];
        let len = len.min(LEN);
        // SAFETY: the caller's promise; `bytes` has room for `len`.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), len) };
        Attr(bytes)
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(std::array::from_fn(|n| self.0[at + n]))
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(std::array::from_fn(|n| self.0[at + n]))
    }

    pub(crate) fn fd(&self, at: usize) -> i32 {
        self.u32(at).cast_signed()
    }

    /// A name of 16 bytes.
    pub(crate) fn name(&self, at: usize) -> String {
        let bytes = &self.0[at..at + 16];
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// The bytes that the address at `at` points to.
    ///
    /// # Safety
    /// There are `len` of them, or the address is null.
    pub(crate) unsafe fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        let address = self.u64(at) as usize as *const u8;
        if address.is_null() || len == 0 {
            return Vec::new();
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(address, len.min(MOST)) }.to_vec()
    }

    /// The string that the address at `at` points to.
    ///
    /// # Safety
    /// It ends with a NUL, or the address is null.
    pub(crate) unsafe fn string(&self, at: usize) -> String {
        let address = self.u64(at) as usize as *const c_char;
        if address.is_null() {
            return String::new();
        }
        // SAFETY: the caller's promise.
        unsafe { CStr::from_ptr(address) }.to_string_lossy().into_owned()
    }
}
