//! Reading a kernel's configuration, and what it says of the kernel's version.

use std::io::{self, BufRead, Read};

/// Longest configuration that is read, unpacked.
const CONFIG_MAX: u64 = 16 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The text of a configuration, which may be compressed by gzip as `/proc/config.gz` is.
pub(crate) fn read(mut source: impl BufRead) -> io::Result<String> {
    let packed = source.fill_buf()?.starts_with(&GZIP_MAGIC);
    let mut bytes = Vec::new();
    if packed {
        flate2::bufread::MultiGzDecoder::new(source).take(CONFIG_MAX).read_to_end(&mut bytes)?;
    } else {
        source.take(CONFIG_MAX).read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The version that a configuration says it is for, as in `# Linux/x86 6.12.107 Kernel Configuration`.
pub(super) fn version_of(text: &str) -> Option<u32> {
    let named = |line: &str| {
        let words = line.strip_prefix("# Linux/")?.strip_suffix(" Kernel Configuration")?;
        version_code(words.split_whitespace().nth(1)?)
    };
    text.lines().take(8).find_map(named)
}

/// `KERNEL_VERSION(a, b, c)` of a text such as `6.12.107` or `5.10.0-32-amd64`. The last number stops at 255, as in
/// the kernel.
pub(super) fn version_code(text: &str) -> Option<u32> {
    let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = numbers.split('.');
    let mut next = || parts.next().filter(|part| !part.is_empty()).map(|part| part.parse::<u32>().ok());
    let (major, minor, patch) = (next()??, next()??, next().unwrap_or(Some(0))?);
    (major <= 0xffff && minor <= 0xff).then(|| major << 16 | minor << 8 | patch.min(255))
}
