//! Ciphers (`kernel/bpf/crypto.c`).
//!
//! A cipher is an object that lies where those do that programs allocate, so that it is counted and kept in maps as they are. Its
//! beginning is that of `struct bpf_crypto_ctx`; the key is behind that.

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use skep_sys::abi::Errno;

use super::dynptr::{self, Dynptr};
use super::{HelperFn, negative, refuse};
use crate::vm::{Trap, Vm};

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_crypto_ctx_create", create),
    ("bpf_crypto_ctx_acquire", acquire),
    ("bpf_crypto_ctx_release", release),
    ("bpf_crypto_encrypt", |vm, args| crypt(vm, args, Way::Encrypt)),
    ("bpf_crypto_decrypt", |vm, args| crypt(vm, args, Way::Decrypt)),
];

const WHAT: &str = "a cipher";
const RELEASE: &str = "bpf_crypto_ctx_release, or put it into a map";

/// `sizeof(struct bpf_crypto_params)`, and where its members are.
const PARAMS: usize = 408;
const RESERVED: std::ops::Range<usize> = 14..16;
const ALGORITHM: usize = 16;
const KEY: usize = 144;
const KEY_MAX: usize = 256;
const KEY_LEN: usize = 400;
const AUTH_LEN: usize = 404;

/// Where things are in the object of a cipher: the length of its state, as in `struct bpf_crypto_ctx`, then what nobody else knows.
const STATE_LEN: usize = 16;
const MARK: usize = 96;
const MODE: usize = 104;
const SECRET_LEN: usize = 105;
const SECRET: usize = 112;
const OBJECT: usize = SECRET + 32;
/// What is at [`MARK`], so that no other object is taken for a cipher.
const IS_CIPHER: u64 = 0x7265_6870_6963_2121;

/// Bytes of a block of AES.
const BLOCK: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Encrypt,
    Decrypt,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Ecb,
    Cbc,
}

/// A cipher with its key.
enum Aes {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

impl Aes {
    fn new(key: &[u8]) -> Option<Aes> {
        match key.len() {
            16 => Aes128::new_from_slice(key).ok().map(Aes::Aes128),
            24 => Aes192::new_from_slice(key).ok().map(Aes::Aes192),
            32 => Aes256::new_from_slice(key).ok().map(Aes::Aes256),
            _ => None,
        }
    }

    fn block(&self, bytes: [u8; BLOCK], way: Way) -> [u8; BLOCK] {
        let mut block = bytes.into();
        match (self, way) {
            (Aes::Aes128(aes), Way::Encrypt) => aes.encrypt_block(&mut block),
            (Aes::Aes128(aes), Way::Decrypt) => aes.decrypt_block(&mut block),
            (Aes::Aes192(aes), Way::Encrypt) => aes.encrypt_block(&mut block),
            (Aes::Aes192(aes), Way::Decrypt) => aes.decrypt_block(&mut block),
            (Aes::Aes256(aes), Way::Encrypt) => aes.encrypt_block(&mut block),
            (Aes::Aes256(aes), Way::Decrypt) => aes.decrypt_block(&mut block),
        }
        block.into()
    }

    /// The whole blocks of a text. `state` becomes that of what follows.
    fn text(&self, text: &[u8], mode: Mode, way: Way, state: &mut [u8; BLOCK]) -> Vec<u8> {
        let (blocks, _) = text.as_chunks::<BLOCK>();
        let mut result = Vec::with_capacity(text.len());
        for block in blocks {
            let done = match (mode, way) {
                (Mode::Ecb, _) => self.block(*block, way),
                (Mode::Cbc, Way::Encrypt) => {
                    *state = self.block(xor(block, state), way);
                    *state
                }
                (Mode::Cbc, Way::Decrypt) => {
                    let done = xor(&self.block(*block, way), state);
                    *state = *block;
                    done
                }
            };
            result.extend_from_slice(&done);
        }
        result
    }
}

fn xor(a: &[u8; BLOCK], b: &[u8; BLOCK]) -> [u8; BLOCK] {
    let mut both = *a;
    both.iter_mut().zip(b).for_each(|(to, byte)| *to ^= byte);
    both
}

/// The text up to its NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn word(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |word| u32::from_ne_bytes(*word) as usize)
}

/// `bpf_crypto_ctx_create(params, params__sz, err)`: a cipher, or null with the reason in `err`.
fn create(vm: &mut Vm, [params, len, err, ..]: [u64; 5]) -> Result<u64, Trap> {
    let len = len as u32 as usize;
    let made = if params == 0 || len != PARAMS {
        Err(Errno::EINVAL)
    } else {
        object(&vm.memory.bytes(params, len)?)
    };
    let made = made.and_then(|bytes| {
        let mut world = vm.kernel.0.world();
        let start = world.objects.allocate(OBJECT).ok_or(Errno::ENOMEM)?;
        world.objects.write(start, &bytes).ok_or(Errno::ENOMEM)?;
        Ok(start)
    });
    let errno = made.as_ref().err().map_or(0, |errno| -errno.0);
    vm.memory.write(err, &errno.to_ne_bytes())?;
    Ok(made.inspect(|start| own(vm, *start)).unwrap_or(0))
}

/// The object of the cipher that a program describes.
fn object(params: &[u8]) -> Result<[u8; OBJECT], Errno> {
    if params.get(RESERVED).is_some_and(|bytes| bytes != [0; 2]) {
        return Err(Errno::EINVAL);
    }
    if text(params.get(..RESERVED.start).unwrap_or_default()) != b"skcipher" {
        return Err(Errno::ENOENT);
    }
    let mode = match text(params.get(ALGORITHM..KEY).unwrap_or_default()) {
        b"ecb(aes)" => Mode::Ecb,
        b"cbc(aes)" => Mode::Cbc,
        // Known, and none of those that programs may have.
        b"ctr(aes)" => return Err(Errno::EINVAL),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if word(params, AUTH_LEN) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let key = match word(params, KEY_LEN) {
        len @ 1..=KEY_MAX => params.get(KEY..KEY + len).unwrap_or_default(),
        _ => return Err(Errno::EINVAL),
    };
    Aes::new(key).ok_or(Errno::EINVAL)?;
    let mut bytes = [0; OBJECT];
    let mut put = |at: usize, from: &[u8]| {
        if let Some(to) = bytes.get_mut(at..at + from.len()) {
            to.copy_from_slice(from);
        }
    };
    let state: u32 = if mode == Mode::Cbc { BLOCK as u32 } else { 0 };
    put(STATE_LEN, &state.to_ne_bytes());
    put(MARK, &IS_CIPHER.to_ne_bytes());
    put(MODE, &[mode as u8, key.len() as u8]); // of 16, 24 or 32 bytes
    put(SECRET, key);
    Ok(bytes)
}

fn own(vm: &mut Vm, start: u64) {
    vm.acquire(start, WHAT, RELEASE, Some(|vm, start| vm.kernel.0.world().objects.let_go(start)));
}

/// The mode and the key of the cipher at an address.
fn cipher(vm: &Vm, address: u64) -> Result<(Mode, Aes), Trap> {
    let mut bytes = [0; OBJECT];
    let found = vm.kernel.0.world().objects.read(address, &mut bytes);
    let is_one = found.is_some() && bytes.get(MARK..MODE) == Some(&IS_CIPHER.to_ne_bytes());
    let mode = if bytes.get(MODE) == Some(&(Mode::Cbc as u8)) { Mode::Cbc } else { Mode::Ecb };
    let len = bytes.get(SECRET_LEN).map_or(0, |len| usize::from(*len));
    let key = bytes.get(SECRET..SECRET + len).unwrap_or_default();
    match Aes::new(key) {
        Some(aes) if is_one => Ok((mode, aes)),
        _ => Err(refuse(format!("{address:#x} is no cipher that bpf_crypto_ctx_create made"))),
    }
}

/// `bpf_crypto_ctx_acquire(ctx)`: another reference to the cipher.
fn acquire(vm: &mut Vm, [address, ..]: [u64; 5]) -> Result<u64, Trap> {
    cipher(vm, address)?;
    if !vm.kernel.0.world().objects.hold(address) {
        return Ok(0);
    }
    own(vm, address);
    Ok(address)
}

/// `bpf_crypto_ctx_release(ctx)`.
fn release(vm: &mut Vm, [address, ..]: [u64; 5]) -> Result<u64, Trap> {
    cipher(vm, address)?;
    if !vm.release(address) {
        return Err(refuse(format!("the program has no reference to the cipher at {address:#x}")));
    }
    vm.kernel.0.world().objects.let_go(address);
    Ok(0)
}

/// `bpf_crypto_encrypt(ctx, src, dst, siv)` and `bpf_crypto_decrypt`.
fn crypt(vm: &mut Vm, [context, from, to, state, _]: [u64; 5], way: Way) -> Result<u64, Trap> {
    let (mode, aes) = cipher(vm, context)?;
    let (from, to) = (dynptr::read(vm, from)?, dynptr::read(vm, to)?);
    let state = if state == 0 { Dynptr::NULL } else { dynptr::read(vm, state)? };
    let state_len = if mode == Mode::Cbc { BLOCK as u32 } else { 0 };
    let refused =
        to.read_only || from.size == 0 || to.size == 0 || from.size > to.size || state.size != state_len;
    if refused {
        return Ok(negative(Errno::EINVAL));
    }
    let places = [(&from, false), (&to, true), (&state, true)];
    let mut addresses = [0; 3];
    for (address, (dynptr, writes)) in addresses.iter_mut().zip(places) {
        if dynptr.size != 0 {
            *address = dynptr::slice_of(vm, dynptr, 0, 0, dynptr.size.into(), writes)?;
            if *address == 0 {
                return Ok(negative(Errno::EINVAL));
            }
        }
    }
    let [from_at, to_at, state_at] = addresses;
    let text = vm.memory.bytes(from_at, from.size as usize)?;
    vm.spend(text.len() as u64); // a length in memory
    let mut chained = [0; BLOCK];
    if state_at != 0 {
        vm.memory.read(state_at, &mut chained)?;
    }
    let result = aes.text(&text, mode, way, &mut chained);
    vm.memory.write(to_at, &result)?;
    if state_at != 0 {
        vm.memory.write(state_at, &chained)?;
    }
    // What is no whole block is left.
    Ok(if result.len() < text.len() { negative(Errno::EINVAL) } else { 0 })
}
