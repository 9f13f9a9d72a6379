#!/bin/busybox sh
# PID 1 of the guest. Prepares the usual mounts, loads /.vm/modules in order, runs /.vm/run and reports:
# its output goes to the second serial port. The first one is the kernel's console, where the exit status goes as a
# message of the kernel: it writes there without interrupts, so that it arrives whatever state the guest is in.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
/bin/busybox --install -s /bin

say() {
    echo "<2>skep-vm: $*" >/dev/kmsg
}
try() {
    "$@" || say "failed: $*"
}

mount -t devtmpfs dev /dev 2>/dev/null # some kernels have mounted it already
stty -F /dev/ttyS1 raw -echo
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

# stty sets the mode only after all that was written has left the port.
stty -F /dev/ttyS1 raw
say "status $status"
poweroff -f
