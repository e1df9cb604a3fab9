#!/bin/busybox sh
# The first half of the machine's start, in the initramfs: puts the root together, then becomes guest.sh within it. It uses switch_root, not
# chroot, because a process in a chroot may not make user namespaces. A failure ends pid 1, thus the kernel panics and the machine ends; the
# console has the message.
set -e
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /lower /upper /newroot /keep
mount -t proc proc /proc
mount -t sysfs sys /sys

while read -r module; do
    insmod "/modules/$module"
done < /modules/order

# The host's files practically don't change meanwhile, thus the most aggressive cache is fine.
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose,access=any root /lower
mount -t tmpfs -o mode=0755 upper /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work root /newroot
umount -l /lower /upper

# Directories of the caller that the mounts below would hide are moved on top of them.
count=0
while read -r dir; do
    count=$((count + 1))
    mkdir "/keep/$count"
    mount --bind "/newroot$dir" "/keep/$count"
done < /job/keep
mount -t tmpfs -o mode=1777,nosuid,nodev tmp /newroot/tmp
mount -t tmpfs -o mode=0755,nosuid,nodev run /newroot/run
count=0
while read -r dir; do
    count=$((count + 1))
    mkdir -p "/newroot$dir"
    mount --move "/keep/$count" "/newroot$dir"
done < /job/keep

mount -t devtmpfs -o mode=0755,nosuid dev /newroot/dev
mkdir /newroot/dev/pts /newroot/dev/shm
mount -t devpts -o mode=0620,gid=5,nosuid,noexec devpts /newroot/dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm /newroot/dev/shm
ln -s /proc/self/fd /newroot/dev/fd
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${number%:*}" "/newroot/dev/${number#*:}"
done
umount /proc /sys
mount -t proc -o nosuid,nodev,noexec proc /newroot/proc
mount -t sysfs -o nosuid,nodev,noexec sys /newroot/sys
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /newroot/sys/fs/cgroup

ip link set lo up
hostname v2
mkdir /newroot/run/v2 /newroot/run/lock
cp /bin/busybox /job/guest.sh /job/command /newroot/run/v2/
exec switch_root /newroot /run/v2/busybox sh /run/v2/guest.sh
