use std::net::{Ipv4Addr, Ipv6Addr};

use skep::map::{Ipv4Prefix, Ipv6Prefix, LpmTrie, Map, MapError, MapErrorKind, Prefix};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapFlags, MapType, UpdateFlags};
use skep::sys::request::MapCreate;

use super::{ANY, assert_error};

fn trie(kernel: &Kernel, key: u32, entries: u32) -> Map {
    let mut request = MapCreate::new(MapType::LPM_TRIE, key, 4, entries);
    request.name = "under_test";
    request.flags = MapFlags::NO_PREALLOC;
    Map::create(kernel, &request).unwrap()
}

fn net(text: &str) -> Ipv4Prefix {
    text.parse().unwrap()
}

pub(super) fn longest(kernel: &Kernel) {
    let map = trie(kernel, 8, 5);
    let trie: LpmTrie<Ipv4Prefix, u32> = map.typed().unwrap();
    let find = |address: [u8; 4]| trie.longest_match(&Ipv4Addr::from(address).into()).unwrap();
    assert_eq!(find([10, 1, 2, 3]), None);
    assert_eq!(trie.iter().count(), 0);

    trie.insert(&net("10.0.0.0/8"), &8, UpdateFlags::NOEXIST).unwrap();
    trie.insert(&net("10.1.0.0/16"), &16, ANY).unwrap();
    trie.insert(&net("10.1.2.0/24"), &24, ANY).unwrap();
    assert_eq!(find([10, 1, 2, 3]), Some(24));
    assert_eq!(find([10, 1, 3, 3]), Some(16));
    assert_eq!(find([10, 2, 2, 3]), Some(8));
    assert_eq!(find([11, 1, 2, 3]), None);
    // A prefix longer than what is looked up is no match.
    assert_eq!(trie.longest_match(&net("10.1.0.0/17")).unwrap(), Some(16));
    assert_eq!(trie.longest_match(&net("10.0.0.0/7")).unwrap(), None);
    trie.insert(&net("0.0.0.0/0"), &0, ANY).unwrap();
    assert_eq!(find([11, 1, 2, 3]), Some(0));
    assert_eq!(trie.longest_match(&net("0.0.0.0/0")).unwrap(), Some(0));

    // Only the prefix counts, exactly.
    assert_eq!(trie.get_exact(&net("10.1.0.0/16")).unwrap(), Some(16));
    assert_eq!(trie.get_exact(&Prefix::new(16, [10, 1, 77, 7]).unwrap()).unwrap(), Some(16));
    assert_eq!(trie.get_exact(&net("10.1.0.0/17")).unwrap(), None);
    assert_eq!(trie.get_exact(&net("10.0.0.0/16")).unwrap(), None);
    assert_eq!(trie.get_exact(&net("0.0.0.0/0")).unwrap(), Some(0));

    // Kernels before 6.13 take the flags and look at none.
    let missing = trie.insert(&net("10.0.0.0/9"), &9, UpdateFlags::EXIST);
    if missing.is_ok() {
        println!("skip: flags of a trie: this kernel does not look at them");
        assert!(trie.remove(&net("10.0.0.0/9")).unwrap());
    } else {
        assert_error(missing, MapErrorKind::NotFound, Some(Errno::ENOENT));
        let exists = trie.insert(&net("10.0.0.0/8"), &9, UpdateFlags::NOEXIST);
        assert_error(exists, MapErrorKind::Exists, Some(Errno::EEXIST));
    }
    trie.insert(&net("10.0.0.0/8"), &9, UpdateFlags::EXIST).unwrap();
    assert_eq!(find([10, 2, 2, 3]), Some(9));

    trie.insert(&net("192.168.0.0/16"), &1, ANY).unwrap();
    let full = trie.insert(&net("172.16.0.0/12"), &1, ANY).unwrap_err();
    assert_eq!((full.kind(), full.errno()), (MapErrorKind::Full, Some(Errno::ENOSPC)));
    assert_eq!(full.to_string(), "cannot update an element of map `under_test`: it is full");

    // What is within another comes before it.
    let keys: Vec<String> = trie.keys().map(|key| key.unwrap().to_string()).collect();
    let place = |key: &str| keys.iter().position(|there| there == key).expect("it is among them");
    assert_eq!(keys.len(), 5);
    assert!(place("10.1.2.0/24") < place("10.1.0.0/16") && place("10.1.0.0/16") < place("10.0.0.0/8"));
    assert_eq!(place("0.0.0.0/0"), 4);
    let all: Result<Vec<(Ipv4Prefix, u32)>, MapError> = (&trie).into_iter().collect();
    let mut values: Vec<u32> = all.unwrap().iter().map(|(_, value)| *value).collect();
    values.sort_unstable();
    assert_eq!(values, [0, 1, 9, 16, 24]);

    assert!(trie.remove(&net("10.1.0.0/16")).unwrap());
    assert!(!trie.remove(&net("10.1.0.0/16")).unwrap());
    assert_eq!(find([10, 1, 3, 3]), Some(9));
    assert_eq!(find([10, 1, 2, 3]), Some(24));
}

pub(super) fn keys_of_any_shape(kernel: &Kernel) {
    let map = trie(kernel, 20, 4);
    let v6: LpmTrie<Ipv6Prefix, u32> = map.typed().unwrap();
    v6.insert(&"2001:db8::/32".parse().unwrap(), &1, ANY).unwrap();
    v6.insert(&"2001:db8::1/128".parse().unwrap(), &2, ANY).unwrap();
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    assert_eq!(v6.longest_match(&address("2001:db8::2").into()).unwrap(), Some(1));
    assert_eq!(v6.longest_match(&address("2001:db8::1").into()).unwrap(), Some(2));
    assert_eq!(v6.longest_match(&address("2001:db9::1").into()).unwrap(), None);

    // Any data, with a length that is no whole number of bytes.
    let three: LpmTrie<Prefix<[u8; 3]>, u32> = trie(kernel, 7, 4).typed().unwrap();
    three.insert(&Prefix::new(13, [1, 0b1010_1000, 0]).unwrap(), &13, ANY).unwrap();
    assert_eq!(three.longest_match(&Prefix::full([1, 0b1010_1111, 9])).unwrap(), Some(13));
    assert_eq!(three.longest_match(&Prefix::full([1, 0b1010_0111, 9])).unwrap(), None);

    // A struct that begins with the length is a key; one with too large a length is refused.
    let plain: LpmTrie<[u32; 2], u32> = trie(kernel, 8, 4).typed().unwrap();
    assert_error(plain.insert(&[33, 0], &1, ANY), MapErrorKind::Invalid, Some(Errno::EINVAL));
    assert_error(plain.remove(&[33, 0]), MapErrorKind::Invalid, Some(Errno::EINVAL));
    assert_eq!(plain.longest_match(&[33, 0]).unwrap(), None);
    assert!(trie(kernel, 8, 4).typed::<LpmTrie<Ipv6Prefix, u32>>().is_err());
}
