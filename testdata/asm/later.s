# Instructions newer than LLVM 19, one a line and written as LLVM 22 writes them. ./build makes later.o and later.eb.o
# from it with the assembler inside rustc.

# load-acquire and store-release
w1 = load_acquire((u8 *)(r2 - 0x8000))
w10 = load_acquire((u8 *)(r9 + 0x7fff))
store_release((u8 *)(r10 - 0x8), w1)
store_release((u8 *)(r1 + 0x0), w10)
w1 = load_acquire((u16 *)(r2 - 0x8000))
w10 = load_acquire((u16 *)(r9 + 0x7fff))
store_release((u16 *)(r10 - 0x8), w1)
store_release((u16 *)(r1 + 0x0), w10)
w1 = load_acquire((u32 *)(r2 - 0x8000))
w10 = load_acquire((u32 *)(r9 + 0x7fff))
store_release((u32 *)(r10 - 0x8), w1)
store_release((u32 *)(r1 + 0x0), w10)
r1 = load_acquire((u64 *)(r2 - 0x8000))
r10 = load_acquire((u64 *)(r9 + 0x7fff))
store_release((u64 *)(r10 - 0x8), r1)
store_release((u64 *)(r1 + 0x0), r10)

# indirect jump
gotox r1
gotox r10
