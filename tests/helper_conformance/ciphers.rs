use std::path::Path;

use skep::sys::abi::Errno;
use skep::sys::request::TestRun;
use skep::{Loader, Object, Spec};

use super::{World, has_functions};

const EINVAL: i32 = -Errno::EINVAL.0;

/// What a cipher is made of: `struct bpf_crypto_params`, and the length that the program says it has.
#[derive(Clone, Copy)]
struct Params<'a> {
    kind: &'a str,
    algorithm: &'a str,
    key: &'a [u8],
    key_len: u32,
    auth_len: u32,
    reserved: u8,
    len: u32,
}

impl<'a> Params<'a> {
    fn new(algorithm: &'a str, key: &'a [u8]) -> Params<'a> {
        let key_len = u32::try_from(key.len()).unwrap();
        Params { kind: "skcipher", algorithm, key, key_len, auth_len: 0, reserved: 0, len: 408 }
    }

    fn bytes(&self) -> [u8; 408] {
        let mut bytes = [0; 408];
        bytes[..self.kind.len()].copy_from_slice(self.kind.as_bytes());
        bytes[15] = self.reserved;
        bytes[16..16 + self.algorithm.len()].copy_from_slice(self.algorithm.as_bytes());
        bytes[144..144 + self.key.len()].copy_from_slice(self.key);
        bytes[400..404].copy_from_slice(&self.key_len.to_ne_bytes());
        bytes[404..].copy_from_slice(&self.auth_len.to_ne_bytes());
        bytes
    }
}

/// Makes a cipher. Answers what the program returned, and what the kernel says of it.
fn make(object: &Object, params: Params<'_>) -> (u32, i32) {
    object.set_global("params", &params.bytes()).unwrap();
    object.set_global("params_len", &params.len).unwrap();
    let run = object.program("make").unwrap().test_run(&mut TestRun::default()).unwrap();
    (run.retval, object.global("made").unwrap())
}

/// Runs a program on a text. Answers what the function did, and the result and the state after it.
fn crypt(object: &Object, program: &str, text: &[u8], room: u32, iv: &[u8]) -> (i32, Vec<u8>, Vec<u8>) {
    let mut bytes = [0; 64];
    bytes[..text.len()].copy_from_slice(text);
    object.set_global("text", &bytes).unwrap();
    object.set_global("text_len", &u32::try_from(text.len()).unwrap()).unwrap();
    object.set_global("result", &[0u8; 64]).unwrap();
    object.set_global("result_len", &room).unwrap();
    let mut state = [0; 32];
    state[..iv.len()].copy_from_slice(iv);
    object.set_global("iv", &state).unwrap();
    object.set_global("iv_len", &u32::try_from(iv.len()).unwrap()).unwrap();
    let mut run = TestRun::default();
    run.data_in = &[0; 64];
    assert_eq!(object.program(program).unwrap().test_run(&mut run).unwrap().retval, 0);
    let result = object.global_bytes("result").unwrap()[..text.len()].to_vec();
    let state = object.global_bytes("iv").unwrap()[..iv.len()].to_vec();
    (object.global("answered").unwrap(), result, state)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(super) fn ciphers(world: &World<'_>) {
    let names = ["bpf_crypto_ctx_create", "bpf_crypto_ctx_acquire", "bpf_crypto_encrypt"];
    if !has_functions(world, "ciphers", &names) {
        return;
    }
    let spec = Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/crypto.o")).unwrap();
    let object = Loader::new(world.kernel).load(&spec).unwrap_or_else(|error| {
        panic!("{error:?}: {}", error.verifier_log().unwrap_or("no log"));
    });
    // The examples of NIST SP 800-38A: two blocks for each length of keys.
    let keys = [
        "2b7e151628aed2a6abf7158809cf4f3c",
        "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    ];
    let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    let ecb = [
        "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf",
        "bd334f1d6e45f25ff712a214571fa5cc974104846d0ad3ad7734ecb3ecee4eef",
        "f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870",
    ];
    let cbc = [
        "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2",
        "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a",
        "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d",
    ];
    let iv = hex("000102030405060708090a0b0c0d0e0f");
    for ((key, ecb), cbc) in keys.iter().map(|key| hex(key)).zip(ecb.map(hex)).zip(cbc.map(hex)) {
        assert_eq!(make(&object, Params::new("ecb(aes)", &key)), (0, 0));
        assert_eq!(crypt(&object, "seal", &plain, 32, &[]), (0, ecb.clone(), vec![]));
        assert_eq!(crypt(&object, "open", &ecb, 64, &[]), (0, plain.clone(), vec![]));
        assert_eq!(make(&object, Params::new("cbc(aes)", &key)), (0, 0));
        // The state is that of what would follow.
        let last = cbc[16..].to_vec();
        assert_eq!(crypt(&object, "seal", &plain, 32, &iv), (0, cbc.clone(), last.clone()));
        assert_eq!(crypt(&object, "open", &cbc, 32, &iv), (0, plain.clone(), last));
    }
    assert_eq!(object.global::<u32>("acquired").unwrap(), 6);

    // Texts of no length and no whole blocks, results without room, states of another length.
    assert_eq!(crypt(&object, "seal", &[], 16, &iv).0, EINVAL);
    assert_eq!(crypt(&object, "seal", &plain, 0, &iv).0, EINVAL);
    assert_eq!(crypt(&object, "seal", &plain, 31, &iv).0, EINVAL);
    assert_eq!(crypt(&object, "seal", &plain, 32, &[]).0, EINVAL);
    assert_eq!(crypt(&object, "seal", &plain, 32, &[0; 17]).0, EINVAL);
    assert_eq!(crypt(&object, "seal", &plain[..20], 32, &iv).0, EINVAL);

    let key = hex(keys[0]);
    let good = Params::new("cbc(aes)", &key);
    for (params, errno) in [
        (Params { len: 400, ..good }, Errno::EINVAL),
        (Params { reserved: 1, ..good }, Errno::EINVAL),
        (Params { kind: "shash", ..good }, Errno::ENOENT),
        (Params { algorithm: "cbc(skep)", ..good }, Errno::EOPNOTSUPP),
        (Params { auth_len: 4, ..good }, Errno::EOPNOTSUPP),
        (Params { key_len: 0, ..good }, Errno::EINVAL),
        (Params { key_len: 257, ..good }, Errno::EINVAL),
        (Params { key_len: 15, ..good }, Errno::EINVAL),
    ] {
        let what = (params.kind, params.algorithm, params.key_len, params.len);
        assert_eq!(make(&object, params), (2, -errno.0), "{what:?}");
    }
}
