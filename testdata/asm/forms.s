# Every form of instruction that LLVM 19 knows, with the edges of its numbers, one a line and written as
# `llvm-objdump --mcpu=v4` writes it. Distances lead nowhere. ./build makes forms.o and forms.eb.o from it.

# arithmetic
r1 += r2
r10 += 0x7fffffff
r0 += -0x80000000
r9 += -0x1
r1 -= r2
r10 -= 0x7fffffff
r0 -= -0x80000000
r9 -= -0x1
r1 *= r2
r10 *= 0x7fffffff
r0 *= -0x80000000
r9 *= -0x1
r1 /= r2
r10 /= 0x7fffffff
r0 /= -0x80000000
r9 /= -0x1
r1 |= r2
r10 |= 0x7fffffff
r0 |= -0x80000000
r9 |= -0x1
r1 &= r2
r10 &= 0x7fffffff
r0 &= -0x80000000
r9 &= -0x1
r1 <<= r2
r10 <<= 0x1f
r0 <<= 0x0
r1 >>= r2
r10 >>= 0x1f
r0 >>= 0x0
r1 %= r2
r10 %= 0x7fffffff
r0 %= -0x80000000
r9 %= -0x1
r1 ^= r2
r10 ^= 0x7fffffff
r0 ^= -0x80000000
r9 ^= -0x1
r1 s>>= r2
r10 s>>= 0x1f
r0 s>>= 0x0
r1 s/= r2
r10 s/= 0x7fffffff
r0 s/= -0x80000000
r9 s/= -0x1
r1 s%= r2
r10 s%= 0x7fffffff
r0 s%= -0x80000000
r9 s%= -0x1
r1 = r2
r10 = 0x7fffffff
r0 = -0x80000000
r9 = -0x1
r3 = -r3
w1 += w2
w10 += 0x7fffffff
w0 += -0x80000000
w9 += -0x1
w1 -= w2
w10 -= 0x7fffffff
w0 -= -0x80000000
w9 -= -0x1
w1 *= w2
w10 *= 0x7fffffff
w0 *= -0x80000000
w9 *= -0x1
w1 /= w2
w10 /= 0x7fffffff
w0 /= -0x80000000
w9 /= -0x1
w1 |= w2
w10 |= 0x7fffffff
w0 |= -0x80000000
w9 |= -0x1
w1 &= w2
w10 &= 0x7fffffff
w0 &= -0x80000000
w9 &= -0x1
w1 <<= w2
w10 <<= 0x1f
w0 <<= 0x0
w1 >>= w2
w10 >>= 0x1f
w0 >>= 0x0
w1 %= w2
w10 %= 0x7fffffff
w0 %= -0x80000000
w9 %= -0x1
w1 ^= w2
w10 ^= 0x7fffffff
w0 ^= -0x80000000
w9 ^= -0x1
w1 s>>= w2
w10 s>>= 0x1f
w0 s>>= 0x0
w1 s/= w2
w10 s/= 0x7fffffff
w0 s/= -0x80000000
w9 s/= -0x1
w1 s%= w2
w10 s%= 0x7fffffff
w0 s%= -0x80000000
w9 s%= -0x1
w1 = w2
w10 = 0x7fffffff
w0 = -0x80000000
w9 = -0x1
w3 = -w3

# sign-extending moves
r1 = (s8)r2
r1 = (s16)r2
r1 = (s32)r2
w1 = (s8)w2
w1 = (s16)w2

# byte swaps
r4 = le16 r4
r4 = le32 r4
r4 = le64 r4
r4 = be16 r4
r4 = be32 r4
r4 = be64 r4
r4 = bswap16 r4
r4 = bswap32 r4
r4 = bswap64 r4

# address spaces
r1 = addr_space_cast(r2, 0x0, 0x1)
r1 = addr_space_cast(r2, 0x1, 0x0)
r10 = addr_space_cast(r9, 0xffff, 0xfffe)

# 64-bit immediates
r1 = 0x0 ll
r2 = 0x7fffffffffffffff ll
r3 = -0x8000000000000000 ll
r4 = -0x1 ll
r5 = 0xffffffff ll
r6 = 0x100000000 ll
ld_pseudo r1, 0x1, 0xf0000001
ld_pseudo r2, 0x2, 0xf0000002
ld_pseudo r3, 0x3, 0xf0000003
ld_pseudo r4, 0x4, 0xf0000004
ld_pseudo r5, 0x5, 0xf0000005
ld_pseudo r6, 0x6, 0xf0000006

# packet loads
r0 = *(u8 *)skb[0x8]
r0 = *(u8 *)skb[-0x80000000]
r0 = *(u8 *)skb[r1]
r0 = *(u16 *)skb[0x10]
r0 = *(u16 *)skb[-0x80000000]
r0 = *(u16 *)skb[r2]
r0 = *(u32 *)skb[0x20]
r0 = *(u32 *)skb[-0x80000000]
r0 = *(u32 *)skb[r4]

# loads and stores
w1 = *(u8 *)(r2 + 0x0)
w10 = *(u8 *)(r9 - 0x8000)
w3 = *(u8 *)(r10 + 0x7fff)
r1 = *(s8 *)(r2 + 0x7fff)
r10 = *(s8 *)(r9 - 0x1)
*(u8 *)(r10 - 0x8) = w1
*(u8 *)(r1 + 0x7fff) = w10
*(u8 *)(r10 - 0x8000) = 0x7fffffff
*(u8 *)(r0 + 0x0) = -0x80000000
w1 = *(u16 *)(r2 + 0x0)
w10 = *(u16 *)(r9 - 0x8000)
w3 = *(u16 *)(r10 + 0x7fff)
r1 = *(s16 *)(r2 + 0x7fff)
r10 = *(s16 *)(r9 - 0x1)
*(u16 *)(r10 - 0x8) = w1
*(u16 *)(r1 + 0x7fff) = w10
*(u16 *)(r10 - 0x8000) = 0x7fffffff
*(u16 *)(r0 + 0x0) = -0x80000000
w1 = *(u32 *)(r2 + 0x0)
w10 = *(u32 *)(r9 - 0x8000)
w3 = *(u32 *)(r10 + 0x7fff)
r1 = *(s32 *)(r2 + 0x7fff)
r10 = *(s32 *)(r9 - 0x1)
*(u32 *)(r10 - 0x8) = w1
*(u32 *)(r1 + 0x7fff) = w10
*(u32 *)(r10 - 0x8000) = 0x7fffffff
*(u32 *)(r0 + 0x0) = -0x80000000
r1 = *(u64 *)(r2 + 0x0)
r10 = *(u64 *)(r9 - 0x8000)
r3 = *(u64 *)(r10 + 0x7fff)
*(u64 *)(r10 - 0x8) = r1
*(u64 *)(r1 + 0x7fff) = r10
*(u64 *)(r10 - 0x8000) = 0x7fffffff
*(u64 *)(r0 + 0x0) = -0x80000000

# atomics
lock *(u32 *)(r1 + 0x8) += w2
lock *(u32 *)(r1 + 0x8) |= w2
lock *(u32 *)(r1 + 0x8) &= w2
lock *(u32 *)(r1 + 0x8) ^= w2
lock *(u32 *)(r10 - 0x8000) += w9
w2 = atomic_fetch_add((u32 *)(r1 - 0x8), w2)
w2 = atomic_fetch_or((u32 *)(r1 - 0x8), w2)
w2 = atomic_fetch_and((u32 *)(r1 - 0x8), w2)
w2 = atomic_fetch_xor((u32 *)(r1 - 0x8), w2)
w9 = xchg32_32(r10 - 0x10, w9)
w0 = cmpxchg32_32(r10 + 0x10, w0, w7)
lock *(u64 *)(r1 + 0x8) += r2
lock *(u64 *)(r1 + 0x8) |= r2
lock *(u64 *)(r1 + 0x8) &= r2
lock *(u64 *)(r1 + 0x8) ^= r2
lock *(u64 *)(r10 - 0x8000) += r9
r2 = atomic_fetch_add((u64 *)(r1 - 0x8), r2)
r2 = atomic_fetch_or((u64 *)(r1 - 0x8), r2)
r2 = atomic_fetch_and((u64 *)(r1 - 0x8), r2)
r2 = atomic_fetch_xor((u64 *)(r1 - 0x8), r2)
r9 = xchg_64(r10 - 0x10, r9)
r0 = cmpxchg_64(r10 + 0x10, r0, r7)

# jumps
goto +0x0
goto -0x1
goto +0x7fff
goto -0x8000
gotol +0x0
gotol -0x1
gotol +0x7fff
gotol -0x8000
may_goto +0x3
may_goto -0x2
if r1 == r10 goto +0x1
if r10 == -0x80000000 goto -0x8000
if r0 == 0x7fffffff goto +0x7fff
if r1 != r10 goto +0x1
if r10 != -0x80000000 goto -0x8000
if r0 != 0x7fffffff goto +0x7fff
if r1 > r10 goto +0x1
if r10 > -0x80000000 goto -0x8000
if r0 > 0x7fffffff goto +0x7fff
if r1 >= r10 goto +0x1
if r10 >= -0x80000000 goto -0x8000
if r0 >= 0x7fffffff goto +0x7fff
if r1 < r10 goto +0x1
if r10 < -0x80000000 goto -0x8000
if r0 < 0x7fffffff goto +0x7fff
if r1 <= r10 goto +0x1
if r10 <= -0x80000000 goto -0x8000
if r0 <= 0x7fffffff goto +0x7fff
if r1 s> r10 goto +0x1
if r10 s> -0x80000000 goto -0x8000
if r0 s> 0x7fffffff goto +0x7fff
if r1 s>= r10 goto +0x1
if r10 s>= -0x80000000 goto -0x8000
if r0 s>= 0x7fffffff goto +0x7fff
if r1 s< r10 goto +0x1
if r10 s< -0x80000000 goto -0x8000
if r0 s< 0x7fffffff goto +0x7fff
if r1 s<= r10 goto +0x1
if r10 s<= -0x80000000 goto -0x8000
if r0 s<= 0x7fffffff goto +0x7fff
if r1 & r10 goto +0x1
if r10 & -0x80000000 goto -0x8000
if r0 & 0x7fffffff goto +0x7fff
if w1 == w10 goto +0x1
if w10 == -0x80000000 goto -0x8000
if w0 == 0x7fffffff goto +0x7fff
if w1 != w10 goto +0x1
if w10 != -0x80000000 goto -0x8000
if w0 != 0x7fffffff goto +0x7fff
if w1 > w10 goto +0x1
if w10 > -0x80000000 goto -0x8000
if w0 > 0x7fffffff goto +0x7fff
if w1 >= w10 goto +0x1
if w10 >= -0x80000000 goto -0x8000
if w0 >= 0x7fffffff goto +0x7fff
if w1 < w10 goto +0x1
if w10 < -0x80000000 goto -0x8000
if w0 < 0x7fffffff goto +0x7fff
if w1 <= w10 goto +0x1
if w10 <= -0x80000000 goto -0x8000
if w0 <= 0x7fffffff goto +0x7fff
if w1 s> w10 goto +0x1
if w10 s> -0x80000000 goto -0x8000
if w0 s> 0x7fffffff goto +0x7fff
if w1 s>= w10 goto +0x1
if w10 s>= -0x80000000 goto -0x8000
if w0 s>= 0x7fffffff goto +0x7fff
if w1 s< w10 goto +0x1
if w10 s< -0x80000000 goto -0x8000
if w0 s< 0x7fffffff goto +0x7fff
if w1 s<= w10 goto +0x1
if w10 s<= -0x80000000 goto -0x8000
if w0 s<= 0x7fffffff goto +0x7fff
if w1 & w10 goto +0x1
if w10 & -0x80000000 goto -0x8000
if w0 & 0x7fffffff goto +0x7fff

# calls
call 0x1
call 0x7fffffff
call -0x1
callx r1
callx r10
exit
