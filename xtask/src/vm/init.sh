#!/bin/busybox sh
# PID 1 of the guest. Prepares the usual mounts, loads /.vm/modules in order, runs /.vm/run and reports:
# kernel messages go to the first serial port, its output to the second, its exit status to the third.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
/bin/busybox --install -s /bin

try() {
    "$@" || echo "vm: failed: $*" >/dev/ttyS1
}

mount -t devtmpfs dev /dev 2>/dev/null # some kernels have mounted it already
for port in /dev/ttyS1 /dev/ttyS2; do
    stty -F $port raw -echo
done
ln -s /proc/self/fd /dev/fd
mkdir -p /dev/pts /dev/shm
try mount -t proc proc /proc
try mount -t sysfs sysfs /sys
try mount -t tracefs tracefs /sys/kernel/tracing
try mount -t debugfs debugfs /sys/kernel/debug
try mount -t securityfs securityfs /sys/kernel/security
try mount -t bpf bpf /sys/fs/bpf
try mount -t cgroup2 cgroup2 /sys/fs/cgroup
try mount -t devpts devpts /dev/pts
try mount -t tmpfs tmpfs /dev/shm
try ip link set lo up
ulimit -l unlimited
for module in /.vm/modules/*.ko; do
    [ ! -e "$module" ] || try insmod "$module"
done

setsid sh /.vm/run </dev/null >/dev/ttyS1 2>&1
status=$?

# A warning of the kernel is worth seeing even when every test passed.
dmesg | grep -E 'WARNING: |BUG: |Oops: |INFO: rcu|blocked for more than' >/dev/ttyS0
echo "$status" >/dev/ttyS2
# stty sets the mode only after all that was written has left the port.
for port in /dev/ttyS0 /dev/ttyS1 /dev/ttyS2; do
    stty -F $port raw
done
poweroff -f
